//! The sums over the records of each slot, found by the slot's number.
//!
//! Each record that becomes durable changes the sums of its slot, so that finding them counts: two steps lead there, where a
//! map would search. A comparison adds up the totals of all slots, which lie side by side. The leaves of a slot have memory
//! once there are some.

use std::hash::{Hash, Hasher};

use crate::protocol::sums::PARTS;
use crate::types::{Digest, Slot};

/// The slots of one group have numbers that begin with the same bits.
const GROUP_BITS: u32 = 8;
const GROUP_SLOTS: usize = 1 << GROUP_BITS;
const GROUPS: usize = Slot::COUNT / GROUP_SLOTS;

/// How many records a node holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RecordCounts {
    /// All of them.
    pub records: u64,
    /// Those that are deletions.
    pub tombstones: u64,
}

impl RecordCounts {
    pub(super) fn add(&mut self, digest: &Digest) {
        self.records += 1;
        self.tombstones += u64::from(!digest.is_value);
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.records = self.records.saturating_sub(other.records);
        self.tombstones = self.tombstones.saturating_sub(other.tombstones);
    }

    pub(super) fn of(digest: &Digest) -> Self {
        let mut counts = Self::default();
        counts.add(digest);
        counts
    }
}

/// The sums over the records of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SlotLeaves {
    /// Over all of them.
    pub(super) total: u128,
    /// How many they are.
    pub(super) counts: RecordCounts,
    /// Over those of each leaf.
    pub(super) leaves: Box<[u128; PARTS]>,
}

impl Default for SlotLeaves {
    fn default() -> Self {
        Self { total: 0, counts: RecordCounts::default(), leaves: Box::new([0; PARTS]) }
    }
}

/// The sums of the slots that have records, or had some.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotTable {
    /// None before the first slot has sums.
    groups: Vec<Option<Box<Group>>>,
}

type Group = [Option<SlotLeaves>; GROUP_SLOTS];

impl SlotTable {
    /// The sums of `slot`, if it has any.
    pub(super) fn get(&self, slot: Slot) -> Option<&SlotLeaves> {
        let (group, place) = place_of(slot);
        self.groups.get(group)?.as_ref()?[place].as_ref()
    }

    /// The sums of `slot`, which are zero where it had none.
    pub(super) fn of(&mut self, slot: Slot) -> &mut SlotLeaves {
        if self.groups.is_empty() {
            self.groups.resize_with(GROUPS, || None);
        }
        let (group, place) = place_of(slot);
        let group = self.groups[group].get_or_insert_with(|| Box::new([const { None }; GROUP_SLOTS]));
        group[place].get_or_insert_default()
    }

    /// Takes out the sums of `slot`.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<SlotLeaves> {
        let (group, place) = place_of(slot);
        self.groups.get_mut(group)?.as_mut()?[place].take()
    }

    /// The sums of the slots from `first` to `last`, in their order.
    pub(super) fn range(&self, first: Slot, last: Slot) -> impl Iterator<Item = (Slot, &SlotLeaves)> {
        let ((first_group, from), (last_group, to)) = (place_of(first), place_of(last));
        let groups = self.groups.iter().enumerate().take(last_group + 1).skip(first_group);
        let groups = groups.filter_map(|(index, group)| Some((index, group.as_ref()?)));
        groups.flat_map(move |(index, group)| {
            let begin = if index == first_group { from } else { 0 };
            let end = if index == last_group { to + 1 } else { GROUP_SLOTS };
            let slots = group.iter().enumerate().take(end).skip(begin);
            slots.filter_map(move |(place, leaves)| Some((slot_at(index, place), leaves.as_ref()?)))
        })
    }

    /// The sums of all slots, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &SlotLeaves)> {
        self.range(Slot(0), Slot(u16::MAX))
    }

    /// Takes out all sums.
    pub(super) fn clear(&mut self) {
        self.groups.clear();
    }
}

impl PartialEq for SlotTable {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SlotTable {}

impl Hash for SlotTable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.iter().for_each(|entry| entry.hash(state));
    }
}

/// The group of `slot`, and its place there.
fn place_of(slot: Slot) -> (usize, usize) {
    let number = usize::from(slot.0);
    (number >> GROUP_BITS, number % GROUP_SLOTS)
}

fn slot_at(group: usize, place: usize) -> Slot {
    Slot(u16::try_from(group << GROUP_BITS | place).expect("a group and a place are those of a slot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_where_they_were_put() {
        let mut table = SlotTable::default();
        assert_eq!(table.remove(Slot(u16::MAX)), None);
        assert_eq!((table.get(Slot(0)), table.iter().count()), (None, 0));
        let slots = [0, 1, 255, 256, 257, 0x30F7, 0xFF00, u16::MAX].map(Slot);
        for slot in slots {
            table.of(slot).total = slot.0.into();
        }
        let found = slots.map(|slot| (slot, table.get(slot).expect("it was put there")));
        assert!(table.iter().eq(found));
        assert!(table.iter().all(|(slot, leaves)| leaves.total == u128::from(slot.0)));
        let within = |first, last| table.range(Slot(first), Slot(last)).map(|(slot, _)| slot.0).collect::<Vec<_>>();
        assert_eq!(within(1, 256), [1, 255, 256]);
        assert_eq!(within(256, 256), [256]);
        assert_eq!(within(258, 0x30F6), [0; 0]);
        assert_eq!(within(0xFF01, u16::MAX), [u16::MAX]);
    }

    #[test]
    fn tables_with_the_same_sums_are_equal() {
        let (mut one, mut other) = (SlotTable::default(), SlotTable::default());
        one.of(Slot(700)).total = 1;
        one.of(Slot(701)).total = 2;
        other.of(Slot(701)).total = 2;
        assert_ne!(one, other);
        assert_eq!(one.remove(Slot(700)).map(|leaves| leaves.total), Some(1));
        assert_eq!(one, other);
        one.of(Slot(9)).total = 1;
        assert_ne!(one, other);
        one.remove(Slot(9));
        assert_eq!(one, other, "a group without slots is none");
        one.clear();
        assert_eq!((one, SlotTable::default().iter().count()), (SlotTable::default(), 0));
    }
}
