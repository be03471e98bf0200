//! Backups of real clusters: under writes and kills, interrupted, damaged, and restored into new clusters.
//!
//! With the feature `mutants`, a test breaks the rules of backups and expects the others to find it.

#![cfg(all(feature = "server", unix))]
#![cfg_attr(feature = "mutants", allow(clippy::large_futures, reason = "a test of its own"))]

mod bucket;
#[path = "../testkit/mod.rs"]
mod testkit;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate::backup::{BackupError, Create, Manifest, Restore};
use quorate::client::{Listed, Write};
use quorate::types::Value;
use quorate::{Client, ClientError};
use serde_json::Value as Json;
use testkit::cluster::{Cluster, Plan, TestNode};
use testkit::growing::Growing;
use testkit::process;

/// A cluster whose records only reads bring level.
fn without_repair() -> Plan {
    Plan { node_lines: "  repair_keys_per_second: 0\n", ..Plan::default() }
}

/// A new cluster for the keys of another one.
async fn successor(floor: u64) -> Cluster {
    let cluster = Cluster::prepare(&Plan::default());
    let file = &cluster.nodes[0].files.cluster_file;
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, text.replace("  replica_count:", &format!("  epoch_floor: {floor}\n  replica_count:"))).unwrap();
    let mut cluster = cluster;
    cluster.start_all();
    cluster.wait_all_linked().await;
    cluster
}

/// A cluster in memory with so many keys of 100 bytes.
async fn filled(keys: usize) -> Cluster {
    let cluster = Cluster::start_as(&Plan { memory: true, ..Plan::default() }).await;
    let client = cluster.client();
    for at in 0..keys {
        client.set(format!("k{at:03}"), "x".repeat(100)).await.unwrap();
    }
    cluster
}

/// The program as a user of `cluster` calls it.
fn quorate(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = process::command();
    command.env("QUORATE_ADDRESS", cluster.addresses().join(",")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn all(client: &Client) -> BTreeMap<String, Listed> {
    let listed = client.list("").values().collect().await.expect("the cluster serves");
    listed.into_iter().map(|listed| (listed.key.clone(), listed)).collect()
}

/// What a backup holds of a table: its lines, by key.
fn saved(folder: &Path, manifest: &Manifest, table: &str) -> BTreeMap<String, Json> {
    let files = manifest.files.iter().filter(|file| file.table == table);
    let texts = files.map(|file| fs::read_to_string(folder.join(&file.name)).unwrap());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let lines = lines.map(|line| serde_json::from_str::<Json>(&line).unwrap());
    lines.map(|line| (line["key"].as_str().unwrap().to_owned(), line)).collect()
}

/// The keys that nobody writes while a backup is made.
const QUIET_KEYS: usize = 5_000;

fn quiet_value(at: usize) -> Vec<u8> {
    vec![u8::try_from(at % 251).unwrap(), 255]
}

/// How many write at the same time, so that some get through at each moment.
const WRITERS: u64 = 16;

/// Writers, each with keys of its own, whose values are numbers that rise.
struct Writers {
    stop: Arc<AtomicBool>,
    /// The number that each key was acknowledged to have, at least.
    acknowledged: Arc<Mutex<BTreeMap<String, u64>>>,
    /// The number that each key was asked to have, at most.
    called: Arc<Mutex<BTreeMap<String, u64>>>,
    failed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn start(cluster: &Cluster, keys: u64) -> Self {
        let mut writers = Self {
            stop: Arc::default(),
            acknowledged: Arc::default(),
            called: Arc::default(),
            failed: Arc::default(),
            tasks: Vec::new(),
        };
        for writer in 0..WRITERS {
            let client = cluster.client().with_deadline(Duration::from_secs(10));
            let (stop, acknowledged) = (Arc::clone(&writers.stop), Arc::clone(&writers.acknowledged));
            let (called, failed) = (Arc::clone(&writers.called), Arc::clone(&writers.failed));
            writers.tasks.push(tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    // Each key is written by one writer alone.
                    let key = format!(
                        "{:04}-hot",
                        ((number * 7_919 % (keys / WRITERS)) * WRITERS + writer) * (QUIET_KEYS as u64 / keys)
                    );
                    called.lock().unwrap().insert(key.clone(), number);
                    match client.set(&key, number.to_string()).await {
                        Ok(_) => {
                            acknowledged.lock().unwrap().insert(key, number);
                        }
                        // It may be read or not: the next value of the key tells.
                        Err(ClientError::OutcomeUnknown { .. }) => {}
                        Err(error) => {
                            println!("{key} was not written: {error}");
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }));
        }
        writers
    }

    /// The numbers that were acknowledged until now.
    fn so_far(&self) -> BTreeMap<String, u64> {
        self.acknowledged.lock().unwrap().clone()
    }

    async fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_under_writes_and_kills_has_each_key_as_it_was_at_one_moment() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    // Keys that nobody touches meanwhile, on many pages of a list, and keys that were deleted before.
    for first in (0..QUIET_KEYS).step_by(500) {
        let set = |at: usize| Write::from(client.set(format!("{at:04}-quiet"), quiet_value(at)));
        let outcomes = client.batch_write((first..first + 500).map(set).collect::<Vec<_>>()).await.unwrap();
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
    for at in 0..50 {
        client.set(format!("gone-{at:04}"), "v").await.unwrap();
        client.delete(format!("gone-{at:04}")).await.unwrap();
    }
    client.tables().create("sessions").default_ttl(Duration::from_hours(1)).quota_bytes(1 << 30).await.unwrap();
    let sessions = client.table("sessions");
    for at in 0..40 {
        let set = sessions.set(format!("s{at}"), format!("{at}"));
        if at % 2 == 0 {
            set.await.unwrap()
        } else {
            set.ttl(Duration::from_mins(15)).await.unwrap()
        };
    }
    let mut writers = Writers::start(&cluster, 400);
    tokio::time::sleep(Duration::from_millis(500)).await;

    let folder = cluster.dir().join("backup");
    let before = writers.so_far();
    let create = Create::new(cluster.client(), &folder).file_bytes_max(40_000).bytes_per_second(Some(120_000));
    let backup = tokio::spawn(create.run(|_| {}));
    let mut kills = 0;
    while !backup.is_finished() {
        let victim = kills % 3;
        cluster.nodes[victim].kill();
        tokio::time::sleep(Duration::from_millis(150)).await;
        cluster.nodes[victim].start();
        cluster.wait_all_linked().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        kills += 1;
    }
    let manifest = backup.await.unwrap().expect("a backup needs a majority alone");
    let after = writers.called.lock().unwrap().clone();
    writers.end().await;
    let failed = writers.failed.load(Ordering::Relaxed);
    println!("{kills} kills; {} keys in {} files; {failed} writes failed", manifest.size().keys, manifest.files.len());
    assert!(kills >= 2 && manifest.files.len() > 4, "{kills} kills, {} files", manifest.files.len());
    assert_eq!(failed, 0, "clients see no error of a backup");

    let keys = saved(&folder, &manifest, "default");
    for at in 0..QUIET_KEYS {
        let value = &keys[&format!("{at:04}-quiet")];
        assert_eq!(decoded(value["binary"].as_str().unwrap()), quiet_value(at), "{value}");
    }
    assert!(keys.keys().all(|key| !key.starts_with("gone-")), "deleted keys are in the backup");
    let hot = keys.iter().filter(|(key, _)| key.ends_with("-hot"));
    let hot: BTreeMap<&String, u64> =
        hot.map(|(key, line)| (key, line["value"].as_str().unwrap().parse().unwrap())).collect();
    let is_newer = |(key, found): &(&&String, &u64)| before.get(**key).is_none_or(|least| *found > least);
    for (key, least) in &before {
        let found = hot.get(key).unwrap_or_else(|| panic!("{key} was written before, and is missing"));
        assert!(found >= least, "{key} is {found}, and was {least} before the backup began");
    }
    for (key, found) in &hot {
        assert!(*found <= after[*key], "{key} is {found}, which nobody wrote by the end");
    }
    assert!(hot.iter().any(|entry| is_newer(&entry)), "the writers wrote nothing meanwhile: this shows nothing");

    restores_the_same(&folder, &manifest, &keys).await;
}

/// Restores into a new cluster, and compares it key by key.
async fn restores_the_same(folder: &Path, manifest: &Manifest, keys: &BTreeMap<String, Json>) {
    let cluster = successor(manifest.epoch_floor()).await;
    let restored = Restore::new(cluster.client(), folder).run(|_| {}).await.unwrap();
    assert_eq!(restored.progress.keys, manifest.size().keys);
    let found = all(&cluster.client()).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), keys.keys().collect::<Vec<_>>());
    for (key, listed) in &found {
        let line = &keys[key];
        match listed.value.as_ref().unwrap() {
            Value::Text(text) => assert_eq!(line["value"].as_str().unwrap().as_bytes(), &text[..], "{key}"),
            Value::Binary(bytes) => assert_eq!(decoded(line["binary"].as_str().unwrap()), &bytes[..], "{key}"),
        }
        assert_ne!(line["version"].as_str().unwrap(), listed.version, "{key}: a version comes back");
        assert_eq!(listed.ttl, None);
    }
    let table = cluster.client().tables().get("sessions").await.unwrap().expect("the table is there");
    assert_eq!((table.default_ttl, table.quota_bytes), (Some(Duration::from_hours(1)), Some(1 << 30)));
    let lines = saved(folder, manifest, "sessions");
    let sessions = all(&cluster.client().table("sessions")).await;
    assert_eq!(sessions.len(), 40);
    for (key, listed) in &sessions {
        let left = Duration::from_millis(lines[key]["ttl_ms"].as_u64().unwrap());
        let ttl = listed.ttl.expect("it expires");
        assert!(ttl <= left && ttl + Duration::from_mins(1) > left, "{key}: {ttl:?} of {left:?}");
    }
    // A condition that a client of the old cluster has remembered fails.
    let (key, line) = keys.iter().next().unwrap();
    let set = cluster.client().set(key, "x").if_version(line["version"].as_str().unwrap()).await;
    assert!(matches!(set, Err(ClientError::ConditionFailed { .. })), "{set:?}");
}

fn decoded(text: &str) -> Vec<u8> {
    STANDARD.decode(text).expect("it is base64")
}

/// A cluster of which node 3 lacks the latest values, and a folder for a backup.
async fn stale_node_3() -> (Cluster, PathBuf) {
    let mut cluster = Cluster::start_as(&without_repair()).await;
    for at in 0..20 {
        cluster.client().set(format!("k{at}"), "old").await.unwrap();
    }
    cluster.nodes[2].kill();
    for at in 0..20 {
        cluster.client().set(format!("k{at}"), "new").await.unwrap();
    }
    // What they keep for node 3 is lost with them.
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    cluster.start_all();
    cluster.wait_all_linked().await;
    let folder = cluster.dir().join("backup");
    (cluster, folder)
}

/// The backup asks the nodes that `through` gives it.
async fn stale_replica_does_not_decide_what_is_saved(through: fn(&Cluster) -> Client) {
    let (cluster, folder) = stale_node_3().await;
    let manifest = Create::new(through(&cluster), &folder).run(|_| {}).await.unwrap();
    let lines = saved(&folder, &manifest, "default");
    let values: BTreeSet<&str> = lines.values().map(|line| line["value"].as_str().unwrap()).collect();
    assert_eq!((lines.len(), values), (20, BTreeSet::from(["new"])), "an acknowledged write is missing");
}

#[tokio::test]
async fn backup_through_a_stale_node_has_each_acknowledged_write() {
    stale_replica_does_not_decide_what_is_saved(|cluster| cluster.nodes[2].client()).await;
    stale_replica_does_not_decide_what_is_saved(Cluster::client).await;
}

/// The clock of a node in this process, of a cluster with an `epoch_floor`.
async fn new_cluster_begins_above_its_floor() {
    let folder = tempfile::tempdir().unwrap();
    let port = testkit::ports::free_port();
    let node =
        format!("node:\n  id: \"1\"\n  local_address: 127.0.0.1:{port}\n  data_dir: \"{}\"\n", folder.path().display());
    let cluster = format!(
        "cluster:\n  seed: 1\n  replica_count: 1\n  epoch_floor: 4711\n  nodes: {{ 1: {{ remote_address: \"127.0.0.1:{port}\" }} }}\n"
    );
    let file = |name, text| quorate::config::File { name: Path::new(name), text };
    let config = quorate::config::Config::parse(file("n.yml", &node), file("c.yml", &cluster), []).unwrap();
    let server = quorate::server::Server::start(&config, quorate::server::Storage::Memory).await.unwrap();
    let status = server.handle().status().await.unwrap();
    assert!(status.clock.epoch > 4_711, "the clock is {:?}", status.clock);
}

#[tokio::test]
async fn cluster_with_an_epoch_floor_begins_above_it() {
    new_cluster_begins_above_its_floor().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_saves_shows_verifies_and_restores() {
    let cluster = Cluster::start_as(&Plan { memory: true, ..Plan::default() }).await;
    let client = cluster.client();
    for at in 0..30 {
        client.set(format!("user:{at}"), "v").await.unwrap();
        client.set(format!("other:{at}"), "v").await.unwrap();
    }
    client.tables().create("carts").await.unwrap();
    let folder = cluster.dir().join("b");
    let name = folder.to_str().unwrap();
    let created = quorate(&cluster, &["backup", "create", name, "--prefix", "user:", "--json"]);
    assert!(created.status.success(), "{}", said(&created));
    let summary: Json = serde_json::from_slice(&created.stdout).unwrap();
    assert_eq!((&summary["keys"], &summary["prefix"]), (&Json::from(30), &Json::from("user:")), "{summary}");
    let inspected = quorate(&cluster, &["backup", "inspect", name, "--json"]);
    assert_eq!(serde_json::from_slice::<Json>(&inspected.stdout).unwrap(), summary);
    let floor = summary["epoch_floor"].as_u64().unwrap();
    let text = String::from_utf8(quorate(&cluster, &["backup", "inspect", name]).stdout).unwrap();
    assert!(text.contains("table default: 30 keys") && text.ends_with(&format!("epoch_floor: {floor}\n")), "{text}");
    let verified = quorate(&cluster, &["backup", "verify", name]);
    assert!(verified.status.success(), "{}", said(&verified));

    for (arguments, part) in [
        (&["backup", "create", name][..], "holds a whole backup"),
        (&["backup", "create", cluster.dir().to_str().unwrap()], "not empty"),
        (&["backup", "inspect", cluster.dir().to_str().unwrap()], "holds no backup"),
        (&["backup", "create", "gs://bucket/x"], "only buckets of S3 are taken"),
        (&["backup", "create", "/dev/full"], "/dev/full"),
        (&["backup", "verify", "/dev/full"], "/dev/full"),
        (&["backup", "restore", name], "epoch_floor is 0"),
        (&["backup", "restore", name, "--from-file", "9", "--force"], "none has the number 9"),
    ] {
        let refused = quorate(&cluster, arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", said(&refused));
        assert!(said(&refused).contains(part), "{arguments:?}: {}", said(&refused));
        assert!(!said(&refused).contains("--resume"), "nothing has begun: {}", said(&refused));
    }
    let forced = quorate(&cluster, &["backup", "restore", name, "--force", "--json"]);
    assert!(forced.status.success(), "{}", said(&forced));

    let successor = successor(floor).await;
    let restored = quorate(&successor, &["backup", "restore", name]);
    assert!(restored.status.success() && said(&restored).contains("30 keys"), "{}", said(&restored));
    assert_eq!(all(&successor.client()).await.len(), 30);
    let again = quorate(&successor, &["backup", "restore", name]);
    assert_eq!(again.status.code(), Some(2));
    assert!(said(&again).contains("has keys already, \"user:0\" first"), "{}", said(&again));

    // Its values would expire.
    let other = self::successor(floor).await;
    other.client().tables().create("carts").default_ttl(Duration::from_secs(4)).await.unwrap();
    let refused = quorate(&other, &["backup", "restore", name, "--force"]);
    assert_eq!(refused.status.code(), Some(5), "{}", said(&refused));
    assert!(said(&refused).contains("\"carts\" is there with other settings"), "{}", said(&refused));
    assert!(all(&other.client()).await.is_empty(), "nothing was written");

    // Damage is found, and nothing of the file is written.
    // The first file is that of the table without keys.
    let file = folder.join("keys-000002.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    for (damaged, part) in [
        (text.replacen("\"v\"", "\"w\"", 1), "its checksum"),
        (text[..text.len() - 3].to_owned(), "bytes, and the manifest says"),
    ] {
        fs::write(&file, damaged).unwrap();
        for command in ["verify", "restore"] {
            let found =
                quorate(&successor, &["backup", command, name, "--json"][..if command == "verify" { 4 } else { 3 }]);
            if command == "verify" {
                assert_eq!(found.status.code(), Some(2));
                assert!(said(&found).contains(part), "{}", said(&found));
            }
        }
        let forced = quorate(&successor, &["backup", "restore", name, "--force"]);
        assert_eq!(forced.status.code(), Some(2), "{}", said(&forced));
        assert!(said(&forced).contains(part) && said(&forced).contains("--from-file 2"), "{}", said(&forced));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_that_was_killed_goes_on_where_it_ended() {
    let cluster = filled(200).await;
    let client = cluster.client();
    client.tables().create("later").await.unwrap();
    client.table("later").set("k", "v").await.unwrap();
    let folder = cluster.dir().join("backup");
    let begun = || Create::new(cluster.client(), &folder).file_bytes_max(2_000);
    // Dropped in the middle of a file, as a process that is killed leaves it.
    let cut =
        tokio::time::timeout(Duration::from_millis(1_500), begun().bytes_per_second(Some(5_000)).run(|_| {})).await;
    assert!(cut.is_err(), "it was to be interrupted");
    let before = fs::read_dir(&folder).unwrap().count();
    let error = begun().run(|_| {}).await.unwrap_err();
    assert!(matches!(error, BackupError::Unfinished { .. }), "{error}");
    let error = begun().prefix("k").resume(true).run(|_| {}).await.unwrap_err();
    assert!(matches!(error, BackupError::OtherBackup { .. }), "{error}");
    let inspected = quorate(&cluster, &["backup", "inspect", folder.to_str().unwrap()]);
    assert_eq!(inspected.status.code(), Some(2));
    assert!(inspected.stdout.starts_with(b"unfinished: "), "{inspected:?}");
    // A line that was torn off counts for nothing.
    let list = folder.join("unfinished.jsonl");
    let text = fs::read_to_string(&list).unwrap();
    let files_before = text.lines().count() - 1;
    fs::write(&list, text + "{\"name\":\"keys-0").unwrap();

    // A table that was dropped and created again is another one.
    client.tables().drop("later").await.unwrap();
    client.tables().create("later").await.unwrap();
    client.table("later").set("k", "of another table").await.unwrap();
    let manifest = begun().resume(true).run(|_| {}).await.unwrap();
    assert!(before > 2 && files_before > 1 && manifest.files.len() > files_before, "{before}: {files_before}");
    assert_eq!(saved(&folder, &manifest, "default").len(), 200);
    assert_eq!((manifest.dropped.as_slice(), manifest.size().keys), (&["later".to_owned()][..], 200));
    quorate::backup::verify(&folder, |_| {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_that_is_told_to_end_says_how_it_goes_on() {
    let cluster = filled(50).await;
    let (folder, log) = (cluster.dir().join("backup"), cluster.dir().join("backup.log"));
    let mut command = process::command();
    command.env("QUORATE_ADDRESS", cluster.addresses().join(","));
    command.args(["backup", "create", folder.to_str().unwrap(), "--bytes-per-second", "100"]);
    let mut creating = process::Process::spawn(&mut command, &log);
    process::poll("the backup to begin", Duration::from_secs(20), async || {
        if folder.join("unfinished.jsonl").exists() { Ok(()) } else { Err(process::read(&log)) }
    })
    .await;
    creating.signal(nix::sys::signal::Signal::SIGINT);
    let ended = creating.end_within(Duration::from_secs(20)).await.expect("it ends");
    let said = process::read(&log);
    assert_eq!(ended.code(), Some(3), "{said}");
    assert!(said.contains("--resume goes on where it ended"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_goes_on_while_members_change_and_after_all_were_replaced() {
    let mut growing = Growing::start().await;
    let client = growing.cluster.client();
    for first in (0..QUIET_KEYS).step_by(500) {
        let set = |at: usize| Write::from(client.set(format!("{at:04}-quiet"), quiet_value(at)));
        client.batch_write((first..first + 500).map(set).collect::<Vec<_>>()).await.unwrap();
    }
    let mut writers = Writers::start(&growing.cluster, 400);
    let six = growing.file("six.yml", 3, &["1", "2", "3", "4", "5", "6"]);
    for id in ["4", "5", "6"] {
        growing.join(id, &six).await;
    }
    let (whole, cut) = (growing.cluster.dir().join("whole"), growing.cluster.dir().join("cut"));
    let before = writers.so_far();
    // One goes on all the time, and one is interrupted before the members change.
    let create = |folder: &Path, client: Client| Create::new(client, folder).file_bytes_max(20_000);
    let going_on = tokio::spawn(create(&whole, client.clone()).bytes_per_second(Some(14_000)).run(|_| {}));
    let begun = create(&cut, client.clone()).bytes_per_second(Some(30_000)).run(|_| {});
    assert!(tokio::time::timeout(Duration::from_secs(2), begun).await.is_err(), "it was to be interrupted");
    let applied = growing.run(&["members", "apply", six.to_str().unwrap(), "--yes"]).await;
    assert_eq!(applied.exit, Some(0), "{applied:?}");
    let rest = growing.file("rest.yml", 3, &["4", "5", "6"]);
    let applied = growing.run(&["members", "apply", rest.to_str().unwrap(), "--yes"]).await;
    assert_eq!(applied.exit, Some(0), "{applied:?}");
    assert!(!going_on.is_finished(), "the members were to change meanwhile");
    let manifest = going_on.await.unwrap().expect("members change without a failed request");
    writers.end().await;
    assert_eq!(writers.failed.load(Ordering::Relaxed), 0);
    for node in &mut growing.cluster.nodes[..3] {
        node.terminate().await;
    }
    let addresses: Vec<String> = growing.cluster.nodes[3..].iter().map(TestNode::address).collect();
    let client = Client::new(addresses).unwrap();
    let resumed = create(&cut, client.clone()).resume(true).run(|_| {}).await.expect("it is the same cluster");
    assert_eq!(resumed.beginning.node_ids, ["1", "2", "3"], "it began with these");
    let of_file =
        |name: &String| -> u64 { name.trim_start_matches("keys-").trim_end_matches(".jsonl").parse().unwrap() };
    assert!(resumed.files.iter().map(|file| of_file(&file.name)).max() > Some(3), "{:?}", resumed.files);
    for (folder, manifest) in [(&whole, &manifest), (&cut, &resumed)] {
        let keys = saved(folder, manifest, "default");
        for at in 0..QUIET_KEYS {
            let value = &keys[&format!("{at:04}-quiet")];
            assert_eq!(decoded(value["binary"].as_str().unwrap()), quiet_value(at), "{value}");
        }
        for (key, least) in &before {
            let line = keys.get(key).unwrap_or_else(|| panic!("{key} was written before, and is missing"));
            let found: u64 = line["value"].as_str().unwrap().parse().unwrap();
            assert!(found >= *least, "{key} is {found}, and was {least} before the backup began");
        }
    }

    // Another cluster whose nodes have the same names is another one.
    let other = Cluster::start_as(&Plan { memory: true, ..Plan::default() }).await;
    let folder = other.dir().join("backup");
    fs::create_dir(&folder).unwrap();
    let first = serde_json::json!({
        "format": 1, "prefix": "", "began_at": 0, "tables": [],
        "cluster": { "id": manifest.beginning.cluster, "seed": 0, "replica_count": 3, "node_ids": ["1", "2", "3"], "epoch_floor": 0 },
    });
    fs::write(folder.join("unfinished.jsonl"), format!("{first}\n")).unwrap();
    let error = Create::new(other.client(), &folder).resume(true).run(|_| {}).await.unwrap_err();
    assert!(matches!(error, BackupError::OtherBackup { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_with_an_epoch_floor_keeps_it_when_its_members_change() {
    const FLOOR: u64 = 70_000;
    let mut growing = Growing::of(successor(FLOOR).await);
    let exported = growing.run(&["members", "export"]).await;
    assert!(exported.text.contains(&format!("  epoch_floor: {FLOOR}\n")), "{exported:?}");
    // The file of the node that comes names no floor.
    let without = growing.file("without.yml", 3, &["1", "2", "3", "4"]);
    growing.join("4", &without).await;
    let refused = growing.run(&["members", "apply", without.to_str().unwrap(), "--yes"]).await;
    assert_eq!(refused.exit, Some(2), "{refused:?}");
    assert!(refused.error.contains(&format!("epoch_floor is 0, and that of the cluster is {FLOOR}")), "{refused:?}");
    let with = growing.cluster.dir().join("with.yml");
    let text = fs::read_to_string(&without).unwrap();
    fs::write(&with, text.replace("  replica_count:", &format!("  epoch_floor: {FLOOR}\n  replica_count:"))).unwrap();
    let applied = growing.run(&["members", "apply", with.to_str().unwrap(), "--yes"]).await;
    assert_eq!(applied.exit, Some(0), "{applied:?}");

    let epoch = growing.cluster.nodes[3].health().await.unwrap().clock.unwrap().epoch;
    assert!(epoch > FLOOR, "node 4 begins with {epoch}");
    let info = growing.cluster.nodes[3].client().cluster_info().await.unwrap();
    assert_eq!(info.epoch_floor, FLOOR, "a restore asks for it");
    growing.cluster.nodes[3].kill();
    growing.cluster.nodes[3].start();
    growing.cluster.nodes[3].wait_linked().await;
    let restarted = growing.cluster.nodes[3].health().await.unwrap().clock.unwrap().epoch;
    assert!(restarted > epoch, "{restarted} after {epoch}");
    growing.cluster.nodes[3].wait_log(&["epoch_floor is 0 instead of 70000"]).await;
}

/// On one thread, for which the rule is broken. Other nodes are processes of their own.
#[cfg(feature = "mutants")]
fn run_alone(mutant: quorate::mutants::Mutant) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if mutant == quorate::mutants::Mutant::BackupFromOneReplica {
            // A list through node 3 alone brings it what it lacks.
            stale_replica_does_not_decide_what_is_saved(Cluster::client).await;
        } else {
            new_cluster_begins_above_its_floor().await;
        }
    });
}

#[cfg(feature = "mutants")]
#[test]
fn broken_rules_of_backups_are_found() {
    use quorate::mutants::{Mutant, turn_on};
    const RUNS_MAX: usize = 30;
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for (mutant, test) in
        [(Mutant::BackupFromOneReplica, run_alone as fn(Mutant)), (Mutant::RestoreBelowOldClock, run_alone)]
    {
        turn_on(Some(mutant));
        // So does a list through another node, unless a majority has answered before node 3.
        let run = (1..=RUNS_MAX).find(|_| std::panic::catch_unwind(|| test(mutant)).is_err());
        turn_on(None);
        println!("| {mutant:?} | {} |", run.map_or("missed".to_owned(), |run| format!("found in run {run}")));
        if run.is_none() {
            missed.push(mutant);
        }
    }
    assert!(missed.is_empty(), "nothing found {missed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clock_of_a_key_that_is_gone_counts() {
    let cluster = Cluster::start_as(&Plan { memory: true, ..Plan::default() }).await;
    let client = cluster.client();
    client.set("k", "v").await.unwrap();
    client.delete("k").await.unwrap();
    let epoch = cluster.nodes[0].health().await.unwrap().clock.unwrap().epoch;
    let manifest = Create::new(client, cluster.dir().join("b")).run(|_| {}).await.unwrap();
    assert_eq!(manifest.size().keys, 0);
    assert!(epoch > 0 && manifest.greatest_clock.epoch >= epoch, "{:?}", manifest.greatest_clock);
}
