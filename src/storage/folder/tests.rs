use std::sync::Arc;

use super::*;
use crate::storage::StoreError;
use crate::types::{Batch, ClusterId, Configuration, Member, MemberList, Site, Weight, Zone};

struct Fixture {
    temporary: tempfile::TempDir,
    node_id: NodeId,
    parameters: ClusterParameters,
}

impl Fixture {
    fn new() -> Self {
        let ids = ["\"quoted\"", "n#1:{", "n2"].map(id);
        Self {
            temporary: tempfile::tempdir().expect("a temporary folder"),
            node_id: ids[1].clone(),
            parameters: ClusterParameters::plain(7, 3, ids.to_vec()),
        }
    }

    fn path(&self) -> PathBuf {
        self.temporary.path().join("above/data")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn open(&self) -> Result<(DataFolder, RocksStore), DataFolderError> {
        self.open_as(&self.node_id, &self.parameters, false)
    }

    fn open_as(
        &self,
        node_id: &NodeId,
        parameters: &ClusterParameters,
        joins: bool,
    ) -> Result<(DataFolder, RocksStore), DataFolderError> {
        let addresses: Vec<String> = parameters.node_ids.iter().map(|id| format!("{}:1", id.as_str())).collect();
        let cluster = FileSays { parameters, addresses: &addresses, joins };
        open(&self.path(), node_id, cluster, &RocksOptions::default())
    }

    /// Makes a batch durable in the folder's store.
    fn persist(&self, batch: &Batch) {
        self.open().expect("the folder opens").1.persist(batch).expect("persisted");
    }

    fn store_id(&self) -> StoreId {
        self.open().expect("the folder opens").0.store_id()
    }

    fn refusal(&self) -> DataFolderError {
        let error = self.open().map(|(folder, _)| folder).expect_err("the folder is refused");
        assert!(error.to_string().contains(&self.path().display().to_string()), "the message has no path: {error}");
        error
    }

    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.file(DESCRIPTOR)).expect("folder.yml");
        assert!(text.contains(from), "{from:?} is not in {text}");
        fs::write(self.file(DESCRIPTOR), text.replacen(from, to, 1)).expect("folder.yml");
    }
}

fn id(text: &str) -> NodeId {
    NodeId::new(text).expect("a node id")
}

#[test]
fn fresh_folder_gets_a_store_id_and_keeps_it() {
    let fixture = Fixture::new();
    let first = fixture.store_id();
    assert_eq!(fixture.store_id(), first);
    assert_ne!(Fixture::new().store_id(), first);
    assert!(!fixture.file(STORE_NEW).exists() && !fixture.file(DESCRIPTOR_NEW).exists());
}

#[test]
fn second_opening_at_once_is_refused() {
    let fixture = Fixture::new();
    let first = fixture.open().expect("the folder opens");
    assert!(matches!(fixture.refusal(), DataFolderError::InUse { .. }));
    drop(first);
    fixture.open().expect("it opens again");
}

#[test]
fn other_parameters_are_refused_with_both_values_before_the_bootstrap() {
    let fixture = Fixture::new();
    fixture.store_id();
    let refused = |change: &dyn Fn(&mut Fixture)| {
        let mut other = Fixture { temporary: tempfile::tempdir().expect("a folder"), ..Fixture::new() };
        change(&mut other);
        let result = fixture.open_as(&other.node_id, &other.parameters, false);
        result.map(|(folder, _)| folder).expect_err("the folder is refused")
    };
    let error = refused(&|other| other.node_id = id("n2"));
    assert!(matches!(error, DataFolderError::NodeIdDiffers { .. }), "{error}");
    assert!(error.to_string().contains("n#1:{") && error.to_string().contains("n2"), "{error}");

    let error = refused(&|other| other.parameters.seed = 8);
    assert!(matches!(error, DataFolderError::SeedDiffers { folder: 7, configured: 8, .. }), "{error}");

    let error = refused(&|other| other.parameters.replica_count = 1);
    assert!(matches!(error, DataFolderError::ReplicaCountDiffers { folder: 3, configured: 1, .. }), "{error}");

    let error = refused(&|other| other.parameters.epoch_floor = 9);
    assert!(matches!(error, DataFolderError::EpochFloorDiffers { folder: 0, configured: 9, .. }), "{error}");

    let error = refused(&|other| {
        other.parameters.node_ids.push(id("n3"));
        other.parameters.sites.push(Site::default());
    });
    assert!(matches!(error, DataFolderError::NodeIdsDiffer { .. }), "{error}");
    assert!(error.to_string().contains("\"quoted\",n#1:{,n2,n3"), "{error}");

    let error = refused(&|other| other.parameters.sites[2].weight = Weight::parse("2.5").unwrap());
    assert!(matches!(error, DataFolderError::SiteDiffers { .. }), "{error}");
    let part = "weight 1 and no zone for node n2 and the configuration says weight 2.5 and no zone: restore";
    assert!(error.to_string().contains(part), "{error}");
    fixture.open().expect("the refusals changed nothing");
}

#[test]
fn weights_and_zones_are_remembered() {
    let mut fixture = Fixture::new();
    fixture.parameters.sites = Site::listed(3, &[100, 50, 200], &["a", "a", "b"]).unwrap();
    fixture.store_id();
    let text = fs::read_to_string(fixture.file(DESCRIPTOR)).expect("folder.yml");
    assert!(text.contains("weights: [100,50,200]\nzones: [\"a\",\"a\",\"b\"]\n"), "{text}");
    fixture.open().expect("the folder opens again");

    fixture.parameters.sites[0].zone = Zone::new("b");
    let error = fixture.refusal();
    let part = "weight 1 and zone a for node \"quoted\" and the configuration says weight 1 and zone b";
    assert!(error.to_string().contains(part), "{error}");
    fixture.parameters.sites = vec![Site::default(); 3];
    assert!(matches!(fixture.refusal(), DataFolderError::SiteDiffers { .. }));

    for (from, to, part) in [
        ("weights: [100,50,200]", "weights: [100,50]", "2 weights for 3 nodes"),
        ("weights: [100,50]", "weights: [100,50,0]", "0 hundredths"),
        ("weights: [100,50,0]", "weights: \"100\"", "`weights` cannot be"),
    ] {
        fixture.edit(from, to);
        let error = fixture.refusal();
        assert!(matches!(error, DataFolderError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn folder_of_equal_nodes_says_nothing_of_weights_and_zones() {
    let fixture = Fixture::new();
    fixture.store_id();
    let text = fs::read_to_string(fixture.file(DESCRIPTOR)).expect("folder.yml");
    assert!(!text.contains("weights") && !text.contains("zones"), "{text}");
}

#[test]
fn bootstrapped_folder_goes_on_with_what_it_remembers() {
    let fixture = Fixture::new();
    fixture.persist(&Batch { bootstrapped: true, ..Batch::default() });
    let mut other = ClusterParameters::plain(fixture.parameters.seed, 1, vec![id("n#1:{"), id("n2"), id("n3")]);
    other.sites[1].weight = Weight::parse("2").unwrap();
    for _ in 0..2 {
        let (folder, _store) = fixture.open_as(&fixture.node_id, &other, false).expect("it goes on");
        assert_eq!(*folder.parameters(), fixture.parameters);
        assert_eq!(folder.addresses(), ["\"quoted\":1", "n#1:{:1", "n2:1"], "one of them is remembered");
    }
    other.seed = 8;
    let error = fixture.open_as(&fixture.node_id, &other, false).map(|(folder, _)| folder).expect_err("another seed");
    assert!(matches!(error, DataFolderError::SeedDiffers { .. }), "{error}");
    other.seed = 7;
    fs::remove_file(fixture.file(ADDRESSES)).expect("the addresses are removed");
    let error =
        fixture.open_as(&fixture.node_id, &other, false).map(|(folder, _)| folder).expect_err("not to be found");
    assert!(matches!(error, DataFolderError::NodeIdsDiffer { .. }), "{error}");
}

#[test]
fn folder_under_a_configuration_takes_the_file_for_addresses_alone() {
    let fixture = Fixture::new();
    let site = Site::default();
    let member =
        |text: &str| Member { id: id(text), store_id: StoreId(1), since: 0, address: "h:1".into(), site: site.clone() };
    let old = MemberList { replica_count: 1, members: vec![member("n#1:{")] };
    let configuration = Configuration { number: 2, cluster: ClusterId(1), seed: 7, epoch_floor: 0, old, new: None };
    fixture.persist(&Batch { configuration: Some(Arc::new(configuration)), ..Batch::default() });
    let other = ClusterParameters::plain(fixture.parameters.seed, 1, vec![id("n#1:{"), id("n3")]);
    let (folder, _store) = fixture.open_as(&fixture.node_id, &other, false).expect("it opens");
    assert_eq!((folder.parameters(), folder.addresses().len()), (&other, 2));
}

#[test]
fn node_that_its_file_does_not_list_starts_where_its_folder_knows_that_it_is_a_member() {
    let fixture = Fixture::new();
    let other = ClusterParameters::plain(7, 1, vec![id("n3")]);
    let refused = |fixture: &Fixture| {
        let opened = fixture.open_as(&fixture.node_id, &other, false).map(|(folder, _)| folder);
        let error = opened.expect_err("nothing says that it is a member");
        assert!(matches!(error, DataFolderError::NotListed { .. }), "{error}");
    };
    refused(&fixture);
    assert!(!fixture.path().exists(), "no folder is made for it");
    let store_id = fixture.store_id();
    refused(&fixture);
    let member = |text: &str, store_id| Member {
        id: id(text),
        store_id,
        since: 0,
        address: format!("at-{text}:1").into(),
        site: Site::default(),
    };
    let configuration = |members| {
        let old = MemberList { replica_count: 1, members };
        Arc::new(Configuration { number: 2, cluster: ClusterId(1), seed: 7, epoch_floor: 0, old, new: None })
    };
    let with_it = configuration(vec![member("n#1:{", store_id), member("n4", StoreId(1))]);
    fixture.persist(&Batch { configuration: Some(with_it), bootstrapped: true, ..Batch::default() });
    let (folder, store) = fixture.open_as(&fixture.node_id, &other, false).expect("it is a member");
    assert_eq!(folder.parameters().node_ids, [id("n#1:{"), id("n4")]);
    assert_eq!(folder.addresses(), ["at-n#1:{:1", "at-n4:1"]);
    drop((store, folder));
    let without_it = configuration(vec![member("n4", StoreId(1))]);
    fixture.persist(&Batch { configuration: Some(without_it), ..Batch::default() });
    refused(&fixture);
}

#[test]
fn folder_of_a_node_that_waits_follows_its_file() {
    let fixture = Fixture::new();
    let mut other = fixture.parameters.clone();
    other.node_ids.push(id("n3"));
    other.sites.push(Site::default());
    let store_id = fixture.open_as(&fixture.node_id, &fixture.parameters, true).expect("it is new").0.store_id();
    for parameters in [&other, &fixture.parameters, &other] {
        let (folder, _store) = fixture.open_as(&fixture.node_id, parameters, true).expect("it waits");
        assert_eq!((folder.parameters(), folder.store_id()), (parameters, store_id));
    }
    fixture.open_as(&fixture.node_id, &other, false).expect("the last file is remembered");
}

#[test]
fn newer_format_is_refused_as_such() {
    let fixture = Fixture::new();
    fixture.store_id();
    fixture.edit("format: 2", "format: 3\nsomething: \"new\"");
    let error = fixture.refusal();
    assert!(matches!(error, DataFolderError::FormatNewer { found: 3, .. }), "{error}");
    assert!(error.to_string().ends_with("start the newer Quorate that wrote it"), "{error}");
}

#[test]
fn older_format_is_refused_as_such_and_left_unchanged() {
    let fixture = Fixture::new();
    fixture.store_id();
    fixture.edit("format: 2", "format: 1");
    let before = fs::read(fixture.file(DESCRIPTOR)).expect("folder.yml");
    let error = fixture.refusal();
    assert!(matches!(error, DataFolderError::FormatOlder { found: 1, .. }), "{error}");
    let path = fixture.file(DESCRIPTOR);
    let expected = format!(
        "{} has format 1, which this program no longer reads (it reads format 2): start the older Quorate that wrote \
         it, or start the whole cluster anew with empty data folders",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(fs::read(path).expect("folder.yml"), before);
}

#[test]
fn damaged_descriptor_is_refused_with_the_reason() {
    let fixture = Fixture::new();
    fixture.store_id();
    let whole = fs::read_to_string(fixture.file(DESCRIPTOR)).expect("folder.yml");
    let changes = [
        ("format: 2", "format: 0", "`format`"),
        ("state: \"ready\"", "state: \"sleepy\"", "sleepy"),
        ("seed: 7\n", "", "`seed` is missing"),
        ("seed: 7", "seed: -7", "`seed` cannot be -7"),
        ("seed: 7", "seed: 7\nseed: 7", "twice"),
        ("seed: 7", "seed 7", "line 6"),
        ("seed: 7", "speed: 7\nseed: 7", "`speed`"),
        ("store_id: \"", "store_id: \"+", "hexadecimal"),
        ("[\"", "[\" ", "node id"),
        ("]", "", "does not parse"),
    ];
    for (from, to, reason) in changes {
        fixture.edit(from, to);
        let error = fixture.refusal();
        assert!(matches!(error, DataFolderError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{reason} is not in: {error}");
        fs::write(fixture.file(DESCRIPTOR), &whole).expect("folder.yml");
    }
    fs::write(fixture.file(DESCRIPTOR), [0xff, 0xfe]).expect("folder.yml");
    assert!(matches!(fixture.refusal(), DataFolderError::Damaged { .. }));
    fs::write(fixture.file(DESCRIPTOR), "").expect("folder.yml");
    assert!(matches!(fixture.refusal(), DataFolderError::Damaged { .. }));
}

#[test]
fn incomplete_folder_is_refused() {
    let fixture = Fixture::new();
    fixture.store_id();
    let aside = fixture.file("aside");
    fs::rename(fixture.file(STORE), &aside).expect("the store is moved away");
    assert!(matches!(fixture.refusal(), DataFolderError::StoreMissing { .. }));
    fs::create_dir(fixture.file(STORE)).expect("an empty store");
    assert!(matches!(fixture.refusal(), DataFolderError::Store { error: StoreError::Damaged { .. }, .. }));
    fs::remove_dir_all(fixture.file(STORE)).expect("the rest of a store");
    fs::rename(&aside, fixture.file(STORE)).expect("the store is back");
    fs::rename(fixture.file(DESCRIPTOR), &aside).expect("folder.yml is moved away");
    assert!(matches!(fixture.refusal(), DataFolderError::DescriptorMissing { .. }));
    fs::rename(&aside, fixture.file(DESCRIPTOR)).expect("folder.yml is back");
    fixture.open().expect("the folder is whole again");
}

#[test]
fn store_of_another_folder_is_refused() {
    let (one, other) = (Fixture::new(), Fixture::new());
    one.store_id();
    other.store_id();
    fs::remove_dir_all(one.file(STORE)).expect("a store is removed");
    fs::rename(other.file(STORE), one.file(STORE)).expect("a store is moved");
    assert!(matches!(one.refusal(), DataFolderError::StoreIdDiffers { .. }));
}

/// Every state that a crash can leave during a first start.
#[test]
fn crash_at_any_point_of_the_first_start_is_recovered_from() {
    let fixture = Fixture::new();
    let store_id = fixture.store_id();
    let unfinish = || fixture.edit("\"ready\"", "\"creating\"");

    // After the store was renamed.
    unfinish();
    assert_eq!(fixture.store_id(), store_id);
    // While the store was made.
    unfinish();
    fs::rename(fixture.file(STORE), fixture.file(STORE_NEW)).expect("as before the renaming");
    fs::remove_file(fixture.file(STORE_NEW).join("CURRENT")).expect("half a store");
    assert_eq!(fixture.store_id(), store_id);
    // Before the store was begun.
    unfinish();
    fs::remove_dir_all(fixture.file(STORE)).expect("as before the store");
    assert_eq!(fixture.store_id(), store_id);
    // Before folder.yml was renamed.
    fs::rename(fixture.file(DESCRIPTOR), fixture.file(DESCRIPTOR_NEW)).expect("as before the renaming");
    fs::remove_dir_all(fixture.file(STORE)).expect("as before the store");
    assert_ne!(fixture.store_id(), store_id);
}

#[test]
fn descriptor_older_than_its_store_is_refused() {
    let fixture = Fixture::new();
    let (folder, store) = fixture.open().expect("the folder opens");
    store.persist(&Batch { epoch: Some(1), ..Batch::default() }).expect("persisted");
    drop((store, folder));
    fixture.edit("\"ready\"", "\"creating\"");
    assert!(matches!(fixture.refusal(), DataFolderError::NotFresh { epoch: 1, .. }));
}

#[test]
fn damaged_store_that_was_given_up_is_set_aside_and_the_folder_waits_for_its_place() {
    let fixture = Fixture::new();
    let (folder, store) = fixture.open().expect("the folder opens");
    store.persist(&Batch { epoch: Some(4), bootstrapped: true, ..Batch::default() }).expect("persisted");
    let old = folder.store_id();
    assert_eq!(folder.replaces(), None);
    // The members as they are by now: the file of the node is older.
    let members = ClusterParameters::plain(7, 3, ["n#1:{", "n2", "n9"].map(id).to_vec());
    let addresses = members.node_ids.iter().map(|id| (id.clone(), format!("{id}.now:2"))).collect();
    folder.give_up_store(&members, &addresses).expect("it is durable");
    drop((store, folder));

    for opening in 0..2 {
        let (folder, store) = fixture.open().expect("the folder opens");
        assert_eq!(folder.replaces(), Some(old), "opening {opening}");
        assert_ne!(folder.store_id(), old);
        assert_eq!(store.meta().expect("metadata"), Meta::fresh(folder.store_id()));
        assert_eq!(folder.parameters(), &members);
        assert_eq!(folder.addresses(), ["n#1:{:1", "n2.now:2", "n9.now:2"], "the file says where this node is");
    }
    let aside = fixture.file(&format!("store.damaged-{}", &old.to_string()[..8]));
    assert!(aside.join("CURRENT").exists(), "the damaged store is kept");

    // It has its place by a configuration.
    let member = |id: &NodeId| Member {
        id: id.clone(),
        store_id: StoreId(1),
        since: 2,
        address: "h:1".into(),
        site: Site::default(),
    };
    let old = MemberList { replica_count: 3, members: members.node_ids.iter().map(member).collect() };
    let configuration = Configuration { number: 2, cluster: ClusterId(1), seed: 7, epoch_floor: 0, old, new: None };
    let (folder, store) = fixture.open().expect("the folder opens");
    store.persist(&Batch { configuration: Some(Arc::new(configuration)), ..Batch::default() }).expect("persisted");
    folder.settle().expect("it is durable");
    drop((store, folder));
    assert_eq!(fixture.open().expect("the folder opens").0.replaces(), None);
}

#[test]
fn store_that_was_given_up_is_never_served_again_whenever_the_node_dies() {
    let fixture = Fixture::new();
    let (folder, store) = fixture.open().expect("the folder opens");
    let old = folder.store_id();
    folder.give_up_store(&fixture.parameters, &BTreeMap::new()).expect("it is durable");
    drop((store, folder));
    // The node dies after it has renamed the store.
    fs::rename(fixture.file(STORE), fixture.file("store.damaged-elsewhere")).expect("renamed");
    let (folder, _store) = fixture.open().expect("the folder opens");
    assert_eq!(folder.replaces(), Some(old));
    assert_ne!(folder.store_id(), old);
    // An earlier program does not know these words, and refuses the folder.
    let text = fs::read_to_string(fixture.file(DESCRIPTOR)).expect("folder.yml");
    assert!(text.contains(&format!("replaces: \"{old}\"\n")), "{text}");
}

#[test]
fn store_is_given_up_where_the_mark_can_be_read_although_the_disk_failed() {
    let fixture = Fixture::new();
    let (folder, _store) = fixture.open().expect("the folder opens");
    let give_up = || folder.give_up_store(&fixture.parameters, &BTreeMap::new());
    // A new descriptor cannot be written.
    let obstacle = fixture.file(DESCRIPTOR_NEW);
    fs::create_dir(&obstacle).expect("a folder");
    assert!(matches!(give_up(), Err(DataFolderError::Io { .. })));
    let text = fs::read_to_string(fixture.file(DESCRIPTOR)).expect("folder.yml");
    assert!(text.contains("state: \"ready\""), "nothing is marked: {text}");
    fs::remove_dir(&obstacle).expect("removed");
    give_up().expect("it is durable");
    // Its mark is there.
    fs::create_dir(&obstacle).expect("a folder");
    give_up().expect("the mark counts");
    // Where it cannot be read before anything is written, nothing was given up.
    fs::write(fixture.file(DESCRIPTOR), "\0").expect("written");
    assert!(give_up().is_err());
}
