//! A cluster that took over the keys of another one began above its clocks: docs/backup.md, "Restore it".

use std::sync::Arc;

use quorate::protocol::io::{Effect, Input, Time};
use quorate::protocol::placement::Placement;
use quorate::protocol::{Message, Node, Setup};
use quorate::types::{
    Batch, ClusterId, ClusterParameters, Configuration, Incarnation, Member, MemberList, Meta, NodeId, NodeIndex, Site,
    StoreId,
};

const FLOOR: u64 = 4_711;
const STORE: StoreId = StoreId(2);

/// Node 2, on a folder that remembers `meta`. Its cluster file names no floor.
fn node(meta: Meta) -> Node {
    let node_ids = ["1", "2"].map(|id| NodeId::new(id).unwrap()).to_vec();
    let placement = Placement::new(ClusterParameters::plain(0, 1, node_ids));
    Node::start(Setup {
        me: NodeIndex(1),
        placement: Arc::new(placement),
        addresses: vec!["a:1".into(), "b:1".into()],
        joins: true,
        meta,
        nonce: 7,
        started_at: Time(0),
        repair: None,
    })
}

/// Gives the node an input, and takes the batch that it persists then.
fn batch_after(node: &mut Node, input: Option<Input>) -> Option<Arc<Batch>> {
    let mut effects = Vec::new();
    if let Some(input) = input {
        node.handle(Time(1), input, &mut effects);
    }
    node.flush(Time(1), &mut effects);
    effects.into_iter().find_map(|effect| match effect {
        Effect::Persist(batch) => Some(batch),
        _ => None,
    })
}

/// Nodes 1 and 2, which joins, in a cluster that began above [`FLOOR`].
fn joint() -> Arc<Configuration> {
    let member = |id: &str, store_id, since| Member {
        id: NodeId::new(id).unwrap(),
        store_id,
        since,
        address: format!("{id}:1").into(),
        site: Site::default(),
    };
    let old = MemberList { replica_count: 1, members: vec![member("1", StoreId(1), 0)] };
    let new = MemberList { replica_count: 1, members: vec![member("1", StoreId(1), 0), member("2", STORE, 1)] };
    let configuration =
        Configuration { number: 1, cluster: ClusterId(1), seed: 0, epoch_floor: FLOOR, old, new: Some(new) };
    configuration.into()
}

/// A member that comes later may have a cluster file without the floor, or an empty folder and small clocks. Once slots are
/// its own alone, it would give versions of the earlier cluster again.
#[test]
fn node_that_joins_begins_above_the_floor() {
    let mut node = node(Meta::fresh(STORE));
    let first = batch_after(&mut node, None).expect("it makes its epoch durable");
    assert_eq!(first.epoch, Some(1), "it does not know of the floor yet");
    assert_eq!(batch_after(&mut node, Some(Input::Persisted { durable: true })), None);

    let told = Input::Peer {
        from: NodeIndex(0),
        from_incarnation: Incarnation { epoch: FLOOR + 9, nonce: 1 },
        to_incarnation: None,
        message: Message::Configuration(joint()),
    };
    let adopted = batch_after(&mut node, Some(told)).expect("it adopts the configuration");
    assert!(adopted.configuration.is_some());
    let epoch = adopted.epoch.expect("the floor is durable as soon as it is a member");
    assert!(epoch > FLOOR, "{epoch}");
    assert!(node.clock().epoch < epoch, "nothing of it is shown before");
    batch_after(&mut node, Some(Input::Persisted { durable: true }));
    assert!(node.clock().epoch > FLOOR, "{:?}", node.clock());

    // A folder from before the floor was known to it begins above the floor all the same.
    let meta = Meta { epoch: 1, configuration: Some(joint()), bootstrapped: true, ..Meta::fresh(STORE) };
    let mut restarted = self::node(meta);
    let begun = batch_after(&mut restarted, None).expect("it makes its epoch durable");
    assert!(begun.epoch > Some(FLOOR), "{begun:?}");
}

#[cfg(feature = "mutants")]
#[test]
fn broken_floors_are_found() {
    super::mutants::each_is_found(super::mutants::tests![JoinsBelowFloor: node_that_joins_begins_above_the_floor,]);
}
