//! Taking slots over, where the store fails or members change again meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::messages::Progress;
use super::state::Members;
use super::takeover::Step;
use crate::protocol::io::Time;
use crate::protocol::layout::{KnownNode, Layout};
use crate::protocol::placement::Placement;
use crate::types::{
    ClusterId, Configuration, Key, Member, MemberList, Meta, NodeId, NodeIndex, Site, Slot, StoreId, TakenOver,
};

/// The node that comes.
const ME: NodeIndex = NodeIndex(3);

/// Node 4 joins nodes 1 to 3, and gains slots.
fn joint(number: u64) -> Layout {
    let member = |id: &&str| Member {
        id: NodeId::new(id).unwrap(),
        store_id: StoreId(1),
        since: 0,
        address: "h:1".into(),
        site: Site::default(),
    };
    let list = |ids: &[&str]| MemberList { replica_count: 3, members: ids.iter().map(member).collect() };
    let (old, new) = (list(&["1", "2", "3"]), Some(list(&["1", "2", "3", "4"])));
    let configuration = Configuration { number, cluster: ClusterId(1), seed: 0, epoch_floor: 0, old, new };
    let nodes = (1..=4).map(|id| KnownNode::of_id(NodeId::new(&id.to_string()).unwrap())).collect();
    let index_of = |member: &Member| NodeIndex(member.id.as_str().parse::<u16>().unwrap() - 1);
    let first = Placement::new(configuration.parameters(&configuration.old));
    Layout::begin(Arc::new(first), &[]).under(Arc::new(configuration), nodes, index_of)
}

fn place(slot: u16) -> (Slot, Key) {
    (Slot(slot), Key::new("a").unwrap())
}

fn copying(members: &mut Members, task: u64) {
    let key = Key::new("a").unwrap();
    let in_flight = BTreeMap::from([(task, key)]);
    members.takeover.last_task = task;
    members.takeover.step = Step::Copy { keys: VecDeque::new(), in_flight, page_end: None };
}

#[test]
fn failed_store_takes_slots_over_from_the_durable_place() {
    let layout = joint(1);
    let mut members = Members::start(&Meta::fresh(StoreId(4)), &layout, ME, Time(0));
    members.takeover.knows_floors = true;
    // Two pages were listed. The batch with the seals of the second one failed.
    members.takeover.up_to = Some(place(200));
    copying(&mut members, 7);
    members.on_batch_failed();
    let taken_over = TakenOver { number: 1, up_to: Some(place(100)), is_complete: false };
    let meta = Meta { taken_over: Some(taken_over), ..Meta::fresh(StoreId(4)) };
    members.on_store_reopened(&meta, &layout, ME, Time(9));
    assert_eq!(members.takeover.up_to, Some(place(100)));
    assert!(matches!(members.takeover.step, Step::Floors(_)), "{:?}", members.takeover.step);
    assert!(!members.knows_floors());

    // A batch that failed may have become durable all the same.
    let taken_over = TakenOver { number: 1, up_to: None, is_complete: true };
    let meta = Meta { taken_over: Some(taken_over), ..meta };
    members.on_store_reopened(&meta, &layout, ME, Time(9));
    assert!(members.own_progress().is_complete && members.knows_floors());
}

#[test]
fn place_of_an_earlier_configuration_is_not_gone_on_from() {
    let taken_over = TakenOver { number: 1, up_to: Some(place(100)), is_complete: true };
    let meta = Meta { taken_over: Some(taken_over), ..Meta::fresh(StoreId(4)) };
    let mut members = Members::start(&meta, &joint(3), ME, Time(0));
    assert!(!members.own_progress().is_complete && !members.knows_floors());
    assert_eq!(members.takeover.up_to, None);
    members.on_store_reopened(&meta, &joint(3), ME, Time(9));
    assert_eq!(members.takeover.up_to, None);
}

#[test]
fn task_of_an_earlier_configuration_is_not_taken_for_a_later_one() {
    let mut members = Members::start(&Meta::fresh(StoreId(4)), &joint(1), ME, Time(0));
    copying(&mut members, 7);
    members.takeover.begin_anew(&joint(3), ME, None, Time(9));
    assert_eq!(members.takeover.last_task, 7, "the next task is 8: the answer to task 7 belongs to no key");
    members.on_store_reopened(&Meta::fresh(StoreId(4)), &joint(3), ME, Time(9));
    assert_eq!(members.takeover.last_task, 7);
}

/// A batch that failed is told again by nobody, where nobody else knows what was chosen.
#[test]
fn chosen_configuration_is_kept_until_it_is_adopted() {
    let mut members = Members::start(&Meta::fresh(StoreId(4)), &joint(1), ME, Time(0));
    let configuration = |number| Arc::clone(joint(number).configuration().expect("it has one"));
    members.learn(&configuration(2));
    assert_eq!(members.to_adopt(1), Some(&configuration(2)));
    members.adopt(Arc::new(joint(2)));
    assert_eq!(members.to_adopt(1), None, "it is on its way to the disk");
    members.on_batch_failed();
    assert_eq!(members.to_adopt(1), Some(&configuration(2)));

    // One that is told meanwhile waits: the batch in flight empties slots for the one before it.
    members.adopt(Arc::new(joint(2)));
    members.learn(&configuration(3));
    members.learn(&configuration(2));
    assert_eq!(members.to_adopt(1), None);
    assert!(members.adopted(2).is_some_and(|layout| layout.number() == 2));
    assert_eq!(members.to_adopt(2), Some(&configuration(3)));
    assert_eq!(members.to_adopt(3), None);
}

/// A member that takes nothing over may be dead.
#[test]
fn end_of_a_change_waits_for_those_that_take_over() {
    let mut members = Members::start(&Meta::fresh(StoreId(1)), &joint(1), NodeIndex(0), Time(0));
    assert_eq!(members.takers, BTreeSet::from([ME]));
    assert!(!members.have_all_taken_over(&joint(1), NodeIndex(0)));
    let complete = Progress { is_complete: true, ..members.own_progress() };
    members.progress.insert(ME, complete);
    assert!(members.have_all_taken_over(&joint(1), NodeIndex(0)), "nodes 2 and 3 have said nothing");
}
