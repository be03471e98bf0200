//! Rules of membership, two nodes at a time.

use std::collections::BTreeMap;

use super::*;
use crate::protocol::context::PendingAck;
use crate::protocol::group_commit::GroupCommit;
use crate::protocol::layout::Layout;
use crate::protocol::placement::Placement;
use crate::types::{ClusterId, Configuration, Member, MemberList, NodeId, Site, StoreId};

fn parameters() -> ClusterParameters {
    let node_ids = ["1", "2", "3"].map(|id| NodeId::new(id).unwrap()).to_vec();
    ClusterParameters::plain(0, 3, node_ids)
}

fn node(me: u16, store_id: u128, epoch: u64) -> Membership {
    let incarnation = Incarnation { epoch, nonce: u64::try_from(store_id).unwrap() };
    let mut node =
        Membership::new(NodeIndex(me), parameters(), incarnation, &Meta::fresh(StoreId(store_id)), None, false);
    node.on_started();
    node
}

/// Begins the next incarnation on the data folder of `node`.
fn restart(node: &mut Membership, epoch: u64, nonce: u64) {
    node.earlier_incarnations = node.earlier_incarnations.iter().copied().chain([node.incarnation]).collect();
    node.incarnation = Incarnation { epoch, nonce };
}

/// Lets `here` record the incarnation of `there`.
fn meet(here: &mut Membership, there: &Membership) {
    let from = there.me;
    let Verdict::Record(peer_record) = here.judge(from, &there.hello_to(here.me)) else {
        panic!("a new incarnation is recorded")
    };
    here.recorded(from, peer_record);
}

#[test]
fn known_id_under_another_store_id_is_refused() {
    let mut one = node(0, 10, 1);
    meet(&mut one, &node(1, 20, 1));
    let hello = node(1, 21, 9).hello_to(NodeIndex(0));
    assert_eq!(one.judge(NodeIndex(1), &hello), Verdict::Refuse(HelloRefusal::StoreId));
    assert_eq!(one.view(NodeIndex(1)), PeerView::Refused(HelloRefusal::StoreId));
}

#[test]
fn only_a_later_incarnation_of_a_known_folder_is_accepted() {
    let mut one = node(0, 10, 1);
    let mut two = node(1, 20, 5);
    meet(&mut one, &two);
    assert_eq!(one.judge(NodeIndex(1), &two.hello_to(NodeIndex(0))), Verdict::Known, "the same incarnation again");
    let refused = Verdict::Refuse(HelloRefusal::Incarnation);
    let mut twin = two.clone();
    twin.incarnation.nonce += 1;
    assert_eq!(one.judge(NodeIndex(1), &twin.hello_to(NodeIndex(0))), refused);
    let mut older = node(1, 20, 3);
    restart(&mut older, 4, 1);
    assert_eq!(one.judge(NodeIndex(1), &older.hello_to(NodeIndex(0))), refused);
    restart(&mut older, 5, 2);
    restart(&mut older, 6, 3);
    assert_eq!(one.judge(NodeIndex(1), &older.hello_to(NodeIndex(0))), refused, "however often it starts");
    restart(&mut two, 6, 4);
    restart(&mut two, 9, 5);
    assert!(
        matches!(one.judge(NodeIndex(1), &two.hello_to(NodeIndex(0))), Verdict::Record(_)),
        "one incarnation was missed"
    );
}

#[test]
fn nodes_of_other_clusters_are_refused() {
    let mut one = node(0, 10, 1);
    let hello = node(1, 20, 1).hello_to(NodeIndex(0));
    let other_seed = Hello { parameters: ClusterParameters { seed: 1, ..parameters() }, ..hello.clone() };
    assert_eq!(one.judge(NodeIndex(1), &other_seed), Verdict::Refuse(HelloRefusal::Cluster));
    let other_floor = Hello { parameters: ClusterParameters { epoch_floor: 1, ..parameters() }, ..hello.clone() };
    assert_eq!(one.judge(NodeIndex(1), &other_floor), Verdict::Refuse(HelloRefusal::Cluster));
    for protocol in [PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1] {
        let other_version = Hello { protocol, ..hello.clone() };
        assert_eq!(one.judge(NodeIndex(1), &other_version), Verdict::Refuse(HelloRefusal::Protocol));
    }
    let misled = Hello { to_node_id: NodeId::new("3").unwrap(), ..hello };
    assert_eq!(one.judge(NodeIndex(1), &misled), Verdict::Refuse(HelloRefusal::WrongNode));
}

#[test]
fn stranger_of_another_version_is_told_to_upgrade() {
    let mut one = node(0, 10, 1);
    let mut layout = Arc::new(Layout::begin(Placement::new(parameters()).into(), &[]));
    let hello = Hello { node_id: NodeId::new("9").unwrap(), ..node(1, 90, 1).hello_to(NodeIndex(0)) };
    let stranger = one.introduce(&hello, Time(1), &mut layout);
    assert_eq!(stranger, NodeIndex(3), "it has an index of its own");
    assert_eq!(one.judge(stranger, &hello), Verdict::Refuse(HelloRefusal::NotMember));
    let other_cluster = ClusterParameters { seed: 1, ..parameters() };
    let of_another_cluster = Hello { parameters: other_cluster, ..hello.clone() };
    assert_eq!(one.judge(stranger, &of_another_cluster), Verdict::Refuse(HelloRefusal::Cluster));
    // Its version comes first: what else it says may mean something else.
    let older = Hello { protocol: PROTOCOL_VERSION - 1, ..of_another_cluster };
    assert_eq!(one.judge(stranger, &older), Verdict::Refuse(HelloRefusal::Protocol));
    assert!(HelloRefusal::Protocol.to_string().contains("upgrade the older one"));
}

/// A change that named a node which has ended would wait for it.
#[test]
fn node_that_waited_and_ended_is_not_listed() {
    let mut one = node(0, 10, 1);
    let mut layout = Arc::new(Layout::begin(Placement::new(parameters()).into(), &[]));
    let id = NodeId::new("4").unwrap();
    let hello = Hello { node_id: id, joins: Some("h:4".into()), ..node(1, 40, 1).hello_to(NodeIndex(0)) };
    let stranger = one.introduce(&hello, Time(1), &mut layout);
    one.on_link(stranger, true, Time(2));
    let waiting = |one: &Membership| one.waiting(Time(0)).map(|waiting| waiting.store_id).collect::<Vec<_>>();
    assert_eq!(waiting(&one), [StoreId(40)]);
    one.on_link(stranger, false, Time(3));
    assert_eq!(waiting(&one), []);
    assert_eq!(one.introduce(&hello, Time(4), &mut layout), stranger);
    assert_eq!(waiting(&one), [StoreId(40)], "the link alone broke");
}

/// A node whose change was taken back, or that was removed, is known to the members by its hellos alone.
#[test]
fn node_that_is_no_member_any_more_says_hello_again() {
    let (mut one, two) = (node(0, 10, 1), node(1, 20, 1));
    one.on_link(NodeIndex(1), true, Time(5));
    meet(&mut one, &two);
    one.welcomed(NodeIndex(1), two.incarnation);
    assert_eq!(one.next_hello(), None, "they talk");
    let member = |n: u128| Member {
        id: NodeId::new(&n.to_string()).unwrap(),
        store_id: StoreId(10 * n),
        since: 0,
        address: "h:1".into(),
        site: Site::default(),
    };
    let old = MemberList { replica_count: 2, members: vec![member(2), member(3)] };
    let configuration = Configuration { number: 2, cluster: ClusterId(1), seed: 0, epoch_floor: 0, old, new: None };
    let layout = one.layout_under(&Arc::new(configuration), &Layout::begin(Placement::new(parameters()).into(), &[]));
    one.reconfigure(&layout, None);
    assert!(!one.is_member());
    assert!(one.next_hello().is_some(), "it waits");
}

#[test]
fn cluster_is_bootstrapped_once_everyone_has_met() {
    let (mut one, two, three) = (node(0, 10, 1), node(1, 20, 1), node(2, 30, 1));
    meet(&mut one, &two);
    one.welcomed(NodeIndex(1), two.incarnation);
    meet(&mut one, &three);
    assert!(!one.may_bootstrap(), "node 3 has not recorded node 1");
    assert_eq!(one.unready(), Some(Unready::Bootstrapping { missing: vec![NodeId::new("3").unwrap()] }));
    one.welcomed(NodeIndex(2), three.incarnation);
    assert!(one.may_bootstrap());
}

#[test]
fn peer_that_restarts_behind_a_link_that_holds_is_greeted_again() {
    let (mut one, mut two) = (node(0, 10, 1), node(1, 20, 1));
    one.on_link(NodeIndex(1), true, Time(5));
    meet(&mut one, &two);
    one.welcomed(NodeIndex(1), two.incarnation);
    assert_eq!(one.next_hello(), None, "they talk");
    restart(&mut two, 2, 7);
    meet(&mut one, &two);
    assert_eq!(one.take_due_hellos(Time(9)).len(), 1, "the new incarnation has yet to record this node");
    one.welcomed(NodeIndex(1), two.incarnation);
    assert_eq!((one.talking_to(NodeIndex(1)), one.next_hello()), (Some(two.incarnation), None));
}

#[test]
fn late_hello_of_an_earlier_incarnation_does_not_harm_the_present_one() {
    let (mut one, mut two) = (node(0, 10, 1), node(1, 20, 1));
    let late = two.hello_to(NodeIndex(0));
    restart(&mut two, 2, 7);
    meet(&mut one, &two);
    assert_eq!(one.judge(NodeIndex(1), &late), Verdict::Refuse(HelloRefusal::Incarnation));
    one.welcomed(NodeIndex(1), two.incarnation);
    assert_eq!(one.view(NodeIndex(1)), PeerView::Talking, "refused while it was being recorded");
    assert_eq!(one.judge(NodeIndex(1), &late), Verdict::Refuse(HelloRefusal::Incarnation));
    assert_eq!(one.view(NodeIndex(1)), PeerView::Talking, "refused while it was talking");
}

#[test]
fn incarnation_that_was_recorded_by_a_batch_that_failed_is_known_once_the_store_is_reopened() {
    let (mut one, mut two) = (node(0, 10, 1), node(1, 20, 5));
    meet(&mut one, &two);
    let late = two.hello_to(NodeIndex(0));
    restart(&mut two, 7, 7);
    let Verdict::Record(later) = one.judge(NodeIndex(1), &two.hello_to(NodeIndex(0))) else {
        panic!("a new incarnation")
    };
    one.on_batch_failed();
    let peers = BTreeMap::from([(NodeId::new("2").unwrap(), later)]);
    one.on_store_reopened(&Meta { peers, ..Meta::fresh(StoreId(10)) });
    assert_eq!(one.judge(NodeIndex(1), &late), Verdict::Refuse(HelloRefusal::Incarnation));
}

#[test]
fn messages_of_other_incarnations_do_not_count() {
    let (mut one, two) = (node(0, 10, 3), node(1, 20, 5));
    meet(&mut one, &two);
    let earlier = |incarnation: Incarnation| Incarnation { epoch: incarnation.epoch - 1, ..incarnation };
    assert!(one.counts(NodeIndex(1), two.incarnation, Some(one.incarnation)));
    assert!(!one.counts(NodeIndex(1), earlier(two.incarnation), Some(one.incarnation)));
    assert!(!one.counts(NodeIndex(1), two.incarnation, Some(earlier(one.incarnation))));
    assert!(!one.counts(NodeIndex(1), two.incarnation, None));
    assert!(!one.counts(NodeIndex(2), two.incarnation, Some(one.incarnation)), "a node never met");
}

#[test]
fn one_peer_that_knows_a_later_incarnation_stops_the_whole_node() {
    let mut one = node(0, 10, 3);
    one.on_bootstrapped();
    let earlier = Incarnation { epoch: 2, nonce: 10 };
    assert!(!one.refused(NodeIndex(1), earlier, HelloRefusal::Incarnation), "that was an earlier incarnation");
    assert_eq!(one.refused_as_a_whole(), None);
    assert!(one.refused(NodeIndex(1), one.incarnation, HelloRefusal::Incarnation));
    let by = vec![NodeId::new("2").unwrap()];
    assert_eq!(one.unready(), Some(Unready::Refused { by, refusal: HelloRefusal::Incarnation }));
    assert_eq!(one.replica_refusal(), Some(Refusal::RefusedByPeers));
}

#[test]
fn one_peer_that_knows_another_store_id_stops_a_fresh_node_but_not_a_bootstrapped_one() {
    let mut one = node(0, 10, 3);
    one.refused(NodeIndex(1), one.incarnation, HelloRefusal::StoreId);
    assert!(one.refused_as_a_whole().is_some());
    one.on_bootstrapped();
    assert!(one.refused_as_a_whole().is_none(), "that peer may be the one that lost its disk");
    one.refused(NodeIndex(2), one.incarnation, HelloRefusal::StoreId);
    assert!(one.refused_as_a_whole().is_some());
}

/// Clients wait while the two cannot talk.
#[test]
fn node_that_becomes_a_member_is_recorded_with_the_configuration() {
    let mut one = node(0, 10, 1);
    let mut layout = Arc::new(Layout::begin(Placement::new(parameters()).into(), &[]));
    let waits = node(1, 40, 1).hello_to(NodeIndex(0));
    let hello = Hello { node_id: NodeId::new("4").unwrap(), joins: Some("h:4".into()), ..waits };
    let four = one.introduce(&hello, Time(1), &mut layout);
    assert_eq!(one.judge(four, &hello), Verdict::Refuse(HelloRefusal::NotMember));
    let member = |n: &u128| Member {
        id: NodeId::new(&n.to_string()).unwrap(),
        store_id: StoreId(10 * n),
        since: u64::from(*n == 4),
        address: "h:1".into(),
        site: Site::default(),
    };
    let list = |ids: &[u128]| MemberList { replica_count: 3, members: ids.iter().map(member).collect() };
    let (old, new) = (list(&[1, 2, 3]), Some(list(&[1, 2, 3, 4])));
    let configuration = Configuration { number: 1, cluster: ClusterId(1), seed: 0, epoch_floor: 0, old, new };
    let after = one.layout_under(&Arc::new(configuration), &layout);
    let mut group_commit = GroupCommit::<PendingAck>::default();
    one.record_new(&after, &mut group_commit);
    let batch = group_commit.begin().expect("it goes with the configuration");
    assert!(batch.peers.values().all(|peer| peer.store_id == StoreId(40)) && batch.peers.len() == 1);
    one.reconfigure(&after, None);
    assert_eq!(one.judge(four, &hello), Verdict::Known, "it is not recorded again");
}
