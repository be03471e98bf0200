//! What a change of members would move, and how many failures are tolerated meanwhile.
//!
//! A node copies the slots that it gains, and no others. Slots have about the same number of keys, because keys are hashed.
//! So the bytes follow from the slots, and from the data that the nodes have now.

use std::collections::BTreeMap;

use crate::api;
use crate::protocol::placement::Placement;
use crate::types::{NodeIndex, Slot};

use super::lists::{Listed, MemberList};
use super::{Size, count};

/// What a change would do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan(pub(super) api::MembersPlanResponse);

impl Plan {
    pub(super) fn new(
        number: u64,
        (old, before): (&MemberList, &Placement),
        (new, after): (&MemberList, &Placement),
        sizes: &BTreeMap<String, Size>,
    ) -> Self {
        let (spare_before, spare_after) = (old.spare_in(before), new.spare_in(after));
        let (bytes_of_slot, bytes_known) = bytes_of_slot(old, before, sizes);
        let moves = slots_moved(old, new, before, after).into_iter().map(|((from, to), slots)| {
            let bytes = u128::from(slots) * u128::from(bytes_of_slot.bytes) / u128::from(bytes_of_slot.slots.max(1));
            api::MemberMove { from, to, slots, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) }
        });
        Self(api::MembersPlanResponse {
            number,
            differences: differences(old, new),
            moves: moves.collect(),
            failures_tolerated: count(spare_before.tolerated),
            // Each quorum is one of either list.
            failures_tolerated_meanwhile: count(spare_before.tolerated.min(spare_after.tolerated)),
            failures_tolerated_after: count(spare_after.tolerated),
            replica_count: count(old.replica_count),
            new_replica_count: count(new.replica_count),
            slots_without_majority: count(spare_before.slots_lost.max(spare_after.slots_lost)),
            bytes_known,
        })
    }
}

/// Bytes, and the number of copies of slots that they are of.
struct BytesOfSlots {
    bytes: u64,
    slots: u64,
}

/// The data of those members whose size is known; and whether that is all of them.
fn bytes_of_slot(old: &MemberList, before: &Placement, sizes: &BTreeMap<String, Size>) -> (BytesOfSlots, bool) {
    let mut sum = BytesOfSlots { bytes: 0, slots: 0 };
    let mut are_all_known = true;
    for (member, slots) in std::iter::zip(&old.members, before.slots_held()) {
        match sizes.get(&member.address).filter(|size| size.node == member.id.as_str()) {
            Some(size) => {
                sum.bytes += size.data_bytes;
                sum.slots += u64::from(*slots);
            }
            None => are_all_known = false,
        }
    }
    (sum, are_all_known)
}

/// How many slots each member gains, and from whom it copies them, by their ids.
fn slots_moved(
    old: &MemberList,
    new: &MemberList,
    before: &Placement,
    after: &Placement,
) -> BTreeMap<(String, String), u32> {
    let mut moved: BTreeMap<(NodeIndex, NodeIndex), u32> = BTreeMap::new();
    for slot in (0..=u16::MAX).map(Slot) {
        let holders = before.replicas(slot);
        // All are asked, and the first that can be reached answers first, as a rule.
        let source = holders.iter().find(|holder| old.members[holder.index()].is_reached).unwrap_or(&holders[0]);
        for gaining in after.replicas(slot) {
            let member = &new.members[gaining.index()];
            let holds = |holder: &NodeIndex| is_same(&old.members[holder.index()], member);
            if !holders.iter().any(holds) {
                *moved.entry((*source, *gaining)).or_default() += 1;
            }
        }
    }
    let name = |member: &Listed| member.id.as_str().to_owned();
    let named = |((from, to), slots): ((NodeIndex, NodeIndex), u32)| {
        ((name(&old.members[from.index()]), name(&new.members[to.index()])), slots)
    };
    moved.into_iter().map(named).collect()
}

/// Whether two entries are one data folder.
fn is_same(one: &Listed, other: &Listed) -> bool {
    one.id == other.id && one.store_id == other.store_id
}

/// The members that come, leave or change, in the order of their ids.
fn differences(old: &MemberList, new: &MemberList) -> Vec<api::MemberDifference> {
    let mut ids = old.ids();
    ids.append(&mut new.ids());
    let difference = |id| {
        let (before, after) = (old.of_id(id), new.of_id(id));
        let (fate, member) = match (before, after) {
            (None, Some(member)) => (api::MemberFate::FateAdded, member),
            (Some(member), None) => (api::MemberFate::FateRemoved, member),
            (Some(before), Some(member)) if !is_same(before, member) => (api::MemberFate::FateReplaced, member),
            (Some(before), Some(member)) if before.address != member.address => (api::MemberFate::FateMoved, member),
            (Some(before), Some(member)) if before.site != member.site => (api::MemberFate::FateWeighed, member),
            _ => return None,
        };
        let (weight_hundredths, zone) = member.site.to_fields();
        let old = before.unwrap_or(member).site.to_fields();
        Some(api::MemberDifference {
            id: id.as_str().to_owned(),
            fate: fate.into(),
            address: member.address.clone(),
            reached: member.is_reached,
            weight_hundredths,
            zone,
            old_weight_hundredths: old.0,
            old_zone: old.1,
        })
    };
    ids.into_iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::super::lists::Placements;
    use super::*;
    use crate::types::{NodeId, Site, StoreId};

    fn list(replica_count: usize, members: &[(&str, u128)]) -> MemberList {
        let listed = |(id, store_id): &(&str, u128)| Listed {
            id: NodeId::new(id).unwrap(),
            store_id: Some(StoreId(*store_id)),
            address: format!("h{id}:1"),
            is_reached: true,
            site: Site::default(),
        };
        MemberList { replica_count, members: members.iter().map(listed).collect() }
    }

    fn sizes(ids: &[&str], data_bytes: u64) -> BTreeMap<String, Size> {
        let size = |id: &&str| (format!("h{id}:1"), Size { node: (*id).to_owned(), disk_bytes: 0, data_bytes });
        ids.iter().map(size).collect()
    }

    fn planned(
        number: u64,
        old: &MemberList,
        new: &MemberList,
        sizes: &BTreeMap<String, Size>,
    ) -> api::MembersPlanResponse {
        let known = Placements::default();
        Plan::new(number, (old, &old.placement(0, &known)), (new, &new.placement(0, &known)), sizes).0
    }

    fn plan(old: &MemberList, new: &MemberList) -> api::MembersPlanResponse {
        planned(7, old, new, &sizes(&["1", "2", "3"], 65_536))
    }

    #[test]
    fn fourth_node_takes_a_quarter_of_the_copies_and_nothing_else_moves() {
        let old = list(3, &[("1", 1), ("2", 2), ("3", 3)]);
        let plan = plan(&old, &list(3, &[("1", 1), ("2", 2), ("3", 3), ("4", 4)]));
        assert!(plan.moves.iter().all(|moved| moved.to == "4"), "{:?}", plan.moves);
        let slots: u32 = plan.moves.iter().map(|moved| moved.slots).sum();
        let share = f64::from(slots) / f64::from(3 * 65_536);
        assert!((0.24..0.26).contains(&share), "{share}");
        let bytes: u64 = plan.moves.iter().map(|moved| moved.bytes).sum();
        assert!(bytes.abs_diff(u64::from(slots)) < 4, "one byte a slot: {bytes} for {slots}");
        assert_eq!(plan.differences.len(), 1);
        assert_eq!((plan.differences[0].fate(), &*plan.differences[0].id), (api::MemberFate::FateAdded, "4"));
        let tolerated = (plan.failures_tolerated, plan.failures_tolerated_meanwhile, plan.failures_tolerated_after);
        assert_eq!((tolerated, plan.number, plan.bytes_known), ((1, 1, 1), 7, true));
    }

    #[test]
    fn weight_alone_moves_the_share_that_it_adds_and_nothing_else() {
        let old = list(1, &[("1", 1), ("2", 2), ("3", 3)]);
        let mut new = old.clone();
        new.members[1].site = Site::of_fields(200, "").unwrap();
        let heavier = plan(&old, &new);
        assert!(heavier.moves.iter().all(|moved| moved.to == "2" && moved.from != "2"), "{:?}", heavier.moves);
        // From 1 of 3 to 2 of 4.
        let slots: u32 = heavier.moves.iter().map(|moved| moved.slots).sum();
        let share = f64::from(slots) / 65_536.0;
        assert!((0.16..0.173).contains(&share), "{share}");
        let [difference] = &heavier.differences[..] else { panic!("{:?}", heavier.differences) };
        assert_eq!((difference.fate(), &*difference.id), (api::MemberFate::FateWeighed, "2"));
        assert_eq!((difference.old_weight_hundredths, difference.weight_hundredths), (0, 200));
        let back = plan(&new, &old);
        assert_eq!(back.moves.iter().map(|moved| moved.slots).sum::<u32>(), slots, "the same slots move back");
        assert!(back.moves.iter().all(|moved| moved.from == "2"), "{:?}", back.moves);
    }

    #[test]
    fn zones_alone_move_slots_until_no_two_replicas_share_one() {
        let old = list(2, &[("1", 1), ("2", 2), ("3", 3)]);
        let mut new = old.clone();
        for (member, zone) in new.members.iter_mut().zip(["a", "b", "b"]) {
            member.site = Site::of_fields(0, zone).unwrap();
        }
        let plan = plan(&old, &new);
        // The only node of its zone then holds all slots, and before it held 2 of 3.
        assert!(plan.moves.iter().all(|moved| moved.to == "1"), "{:?}", plan.moves);
        assert_eq!(new.placement(0, &Placements::default()).slots_held()[0], 65_536);
        let slots: u32 = plan.moves.iter().map(|moved| moved.slots).sum();
        assert_eq!(slots, 65_536 - old.placement(0, &Placements::default()).slots_held()[0]);
        assert_eq!(plan.differences.len(), 3);
    }

    #[test]
    fn lost_disk_is_copied_whole_from_the_others_and_is_not_counted_on() {
        let mut old = list(3, &[("1", 1), ("2", 2), ("3", 3)]);
        old.members[1].is_reached = false;
        let plan = plan(&old, &list(3, &[("1", 1), ("2", 9), ("3", 3)]));
        let to: Vec<&str> = plan.moves.iter().map(|moved| moved.to.as_str()).collect();
        let from: Vec<&str> = plan.moves.iter().map(|moved| moved.from.as_str()).collect();
        assert_eq!((from, to), (vec!["1", "3"], vec!["2", "2"]));
        assert_eq!(plan.moves.iter().map(|moved| moved.slots).sum::<u32>(), 65_536);
        assert_eq!(plan.differences[0].fate(), api::MemberFate::FateReplaced);
        assert_eq!((plan.failures_tolerated, plan.failures_tolerated_meanwhile), (0, 0));
        assert_eq!((plan.failures_tolerated_after, plan.slots_without_majority), (1, 0));
    }

    #[test]
    fn size_that_is_not_known_is_said_and_estimated_from_the_others() {
        let old = list(1, &[("1", 1), ("2", 2), ("3", 3)]);
        let new = list(1, &[("1", 1), ("2", 2)]);
        let plan = planned(0, &old, &new, &sizes(&["1", "2"], 1 << 20));
        assert!(!plan.bytes_known);
        assert!(plan.moves.iter().all(|moved| moved.from == "3" && moved.bytes > 0), "{:?}", plan.moves);
    }
}
