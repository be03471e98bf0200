//! The leaves of one node: sums over the records that its store holds.
//!
//! Leaves are in memory alone. After a start they are counted slot by slot, from pages of the store. From then on each
//! record that becomes durable changes its leaf: what it replaced is subtracted, and it is added.
//!
//! Invariant: the leaf of a counted slot is the sum over the records that the replica knows to be durable. A page shows the
//! store at some moment between its question and its answer. So the changes that became durable meanwhile take precedence
//! over the page, and so does what the replica knows of keys whose records are on their way to the disk. Every page of whole
//! slots replaces the leaves of these slots: a leaf that was wrong does not stay so.
//!
//! Records of dropped tables count until the store has removed them. A page that was read beside a removal replaces nothing.

use std::collections::BTreeMap;

use crate::limits::{REPAIR_COUNT_AGAIN, REPAIR_COUNT_ENTRIES, REPAIR_COUNT_EVERY, REPAIR_TOUCHED_MAX};
use crate::mutants::must;
use crate::protocol::context::NodeCtx;
use crate::protocol::io::{Effect, ReadId, Time};
use crate::protocol::placement::Placement;
use crate::protocol::replica::Replica;
use crate::protocol::sums::{LEAF_BITS, PARTS, Part, Sum, mark_of};
use crate::types::{Digest, Key, Removed, Slot, SlotRecord, SlotsPage};

/// The last of all slots.
const LAST: Slot = Slot(u16::MAX);

/// A sum over records, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leaf {
    low: u64,
    high: u64,
    records: u32,
    tombstones: u32,
}

impl Leaf {
    fn sum(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    #[allow(clippy::cast_possible_truncation, reason = "the two halves of a sum")]
    fn set(&mut self, sum: u128) {
        (self.low, self.high) = (sum as u64, (sum >> 64) as u64);
    }

    fn add(&mut self, mark: u128, is_value: bool) {
        self.set(self.sum().wrapping_add(mark));
        self.records = self.records.wrapping_add(1);
        self.tombstones = self.tombstones.wrapping_add(u32::from(!is_value));
    }

    fn subtract(&mut self, mark: u128, is_value: bool) {
        self.set(self.sum().wrapping_sub(mark));
        self.records = self.records.wrapping_sub(1);
        self.tombstones = self.tombstones.wrapping_sub(u32::from(!is_value));
    }
}

/// The leaves of a slot, and the sum of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct SlotLeaves {
    total: Leaf,
    leaves: Box<[Leaf; PARTS]>,
}

/// How many records a node holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RecordCounts {
    /// All of them.
    pub records: u64,
    /// Those that are deletions.
    pub tombstones: u64,
}

/// The leaves of all slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leaves {
    /// Those with records.
    slots: BTreeMap<Slot, SlotLeaves>,
    /// All slots below this one are counted.
    counted_to: usize,
    reads: BTreeMap<ReadId, Reading>,
    last_read: u64,
    /// The page that is being counted.
    counting: Option<ReadId>,
    /// When the next page is to be counted.
    count_at: Option<Time>,
    /// Whether the store is removing records of a dropped table.
    is_cleaning: bool,
    /// Whether the store has failed, so that nobody knows what it holds.
    is_suspended: bool,
}

/// Slots that are being read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reading {
    first: Slot,
    last: Slot,
    /// The records that became durable since.
    touched: BTreeMap<Key, Digest>,
    /// Whether the page may show what is not so any more.
    is_stale: bool,
}

impl Leaves {
    /// Those of a node that starts now.
    #[must_use]
    pub fn start(now: Time) -> Self {
        Self { count_at: Some(now), ..Self::default() }
    }

    /// Whether all slots are counted.
    #[must_use]
    pub fn are_complete(&self) -> bool {
        self.counted_to == Slot::COUNT
    }

    /// The share of the slots that are counted, from 0 to 1.
    #[must_use]
    pub fn share_counted(&self) -> f64 {
        f64::from(u32::try_from(self.counted_to).unwrap_or(u32::MAX)) / f64::from(1 << 16)
    }

    /// How many records they stand for.
    #[must_use]
    pub fn counts(&self) -> RecordCounts {
        let mut counts = RecordCounts::default();
        for slot in self.slots.values() {
            counts.records += u64::from(slot.total.records);
            counts.tombstones += u64::from(slot.total.tombstones);
        }
        counts
    }

    /// When [`Leaves::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.count_at.filter(|_| self.counting.is_none())
    }

    /// Counts the next page, if it is time.
    pub fn on_wake(&mut self, ctx: &mut NodeCtx<'_>) {
        if self.next_wake().is_some_and(|at| at <= ctx.now) {
            self.count_at = None;
            let first = Slot(u16::try_from(self.counted_to).expect("not all slots are counted"));
            self.counting = Some(self.read(first, LAST, REPAIR_COUNT_ENTRIES, ctx));
        }
    }

    /// Reads the records of these slots.
    pub fn read(&mut self, first: Slot, last: Slot, entries_max: usize, ctx: &mut NodeCtx<'_>) -> ReadId {
        self.last_read += 1;
        let read = ReadId(self.last_read);
        let is_stale = self.is_cleaning || self.is_suspended;
        self.reads.insert(read, Reading { first, last, touched: BTreeMap::new(), is_stale });
        ctx.effects.push(Effect::ReadSlots { read, first, last, entries_max });
        read
    }

    /// The records of some slots were read; `None` where they could not be.
    pub fn on_page(&mut self, read: ReadId, page: Option<&SlotsPage>, replica: &Replica, ctx: &NodeCtx<'_>) {
        let Some(reading) = self.reads.remove(&read) else { return };
        let is_counted = self.counting == Some(read);
        if is_counted {
            self.counting = None;
        }
        let page = page.filter(|_| !reading.is_stale);
        let Some(page) = page else {
            if is_counted && !self.is_suspended {
                self.count_at = Some(ctx.now.after(REPAIR_COUNT_AGAIN));
            }
            return;
        };
        self.replace(&reading, page, replica, ctx.placement);
        if is_counted {
            self.counted_to = page.next.map_or(Slot::COUNT, |next| usize::from(next.0));
            self.count_at = page.next.map(|_| ctx.now.after(REPAIR_COUNT_EVERY));
        }
    }

    /// Replaces the leaves of the slots of a page.
    fn replace(&mut self, reading: &Reading, page: &SlotsPage, replica: &Replica, placement: &Placement) {
        let Reading { first, last, touched, .. } = reading;
        let end = page.next.map_or(usize::from(last.0) + 1, |next| usize::from(next.0));
        let is_within = |slot: Slot| slot >= *first && usize::from(slot.0) < end;
        // Later ones take precedence: what the replica knows is what became durable last.
        let mut known: BTreeMap<&Key, Option<&Digest>> = BTreeMap::new();
        known.extend(touched.iter().map(|(key, digest)| (key, Some(digest))));
        known.extend(replica.known().filter(|(slot, ..)| is_within(*slot)).map(|(_, key, durable)| (key, durable)));
        let shown = page.records.iter().filter(|record| !known.contains_key(&record.key));
        let shown = shown.map(|SlotRecord { key, digest, .. }| (key, digest));
        let known_now = known.iter().filter_map(|(key, digest)| Some((*key, (*digest)?)));
        let mut found: BTreeMap<Slot, SlotLeaves> = BTreeMap::new();
        for (key, digest) in shown.chain(known_now) {
            let hash = placement.hash(key);
            if is_within(slot_of(hash)) {
                found.entry(slot_of(hash)).or_default().add(hash, key, digest);
            }
        }
        let replaced: Vec<Slot> = self.slots.range(*first..=*last).map(|(slot, _)| *slot).collect();
        for slot in replaced.into_iter().filter(|slot| is_within(*slot)) {
            self.slots.remove(&slot);
        }
        self.slots.append(&mut found);
    }

    /// A record became durable in the place of another one.
    pub fn changed(&mut self, key: &Key, before: Option<&Digest>, after: &Digest, placement: &Placement) {
        let hash = placement.hash(key);
        let slot = slot_of(hash);
        for reading in self.reads.values_mut().filter(|reading| (reading.first..=reading.last).contains(&slot)) {
            if reading.touched.len() >= REPAIR_TOUCHED_MAX {
                reading.is_stale = true;
            } else if !reading.is_stale {
                must!(ChangeBesideCountIsLost, reading.touched.insert(key.clone(), after.clone()));
            }
        }
        if usize::from(slot.0) < self.counted_to {
            let leaves = self.slots.entry(slot).or_default();
            if let Some(before) = before {
                must!(LeafKeepsReplaced, leaves.subtract(hash, key, before));
            }
            leaves.add(hash, key, after);
        }
    }

    /// The store begins to remove records of a dropped table.
    pub fn cleaning_begins(&mut self) {
        self.is_cleaning = true;
        self.reads.values_mut().for_each(|reading| reading.is_stale = true);
    }

    /// The store has removed records of a dropped table; `None` where it could not.
    pub fn cleaned(&mut self, removed: Option<&Removed>, placement: &Placement) {
        self.is_cleaning = false;
        for SlotRecord { slot, key, digest } in removed.iter().flat_map(|removed| &removed.digests) {
            if usize::from(slot.0) < self.counted_to
                && let Some(leaves) = self.slots.get_mut(slot)
            {
                must!(CleaningKeepsLeaf, leaves.subtract(placement.hash(key), key, digest));
            }
        }
    }

    /// A batch failed: nobody knows what the store holds, until it was reopened.
    pub fn store_failed(&mut self) {
        self.forget();
        self.is_suspended = true;
    }

    /// The store was reopened.
    pub fn store_reopened(&mut self, now: Time) {
        self.is_suspended = false;
        self.forget();
        self.count_at = Some(now);
    }

    fn forget(&mut self) {
        self.slots.clear();
        (self.counted_to, self.counting, self.count_at) = (0, None, None);
        self.reads.values_mut().for_each(|reading| reading.is_stale = true);
    }

    /// The sums of the parts of `part`, over the slots that `is_shared` allows.
    #[must_use]
    pub fn sums(&self, part: Part, is_shared: impl Fn(Slot) -> bool) -> [Sum; PARTS] {
        let mut sums = [Sum::default(); PARTS];
        let (first, last) = part.slots();
        for (slot, leaves) in self.slots.range(first..=last).filter(|(slot, _)| is_shared(**slot)) {
            if part.slot().is_some() {
                return leaves.leaves.map(|leaf| Sum(leaf.sum()));
            }
            let sum = &mut sums[part.place_of(*slot)].0;
            *sum = sum.wrapping_add(leaves.total.sum());
        }
        sums
    }

    /// Whether they are the sums over these records, for tests.
    #[must_use]
    pub fn are_of<'a>(&self, records: impl Iterator<Item = (&'a Key, Digest)>, placement: &Placement) -> bool {
        let mut expected: BTreeMap<Slot, SlotLeaves> = BTreeMap::new();
        for (key, digest) in records {
            let hash = placement.hash(key);
            expected.entry(slot_of(hash)).or_default().add(hash, key, &digest);
        }
        let empty = SlotLeaves::default();
        self.are_complete() && self.slots.iter().filter(|(_, leaves)| **leaves != empty).eq(expected.iter())
    }
}

impl SlotLeaves {
    fn add(&mut self, hash: u64, key: &Key, digest: &Digest) {
        let mark = mark_of(key, digest);
        self.total.add(mark, digest.is_value);
        self.leaves[leaf_of(hash)].add(mark, digest.is_value);
    }

    fn subtract(&mut self, hash: u64, key: &Key, digest: &Digest) {
        let mark = mark_of(key, digest);
        self.total.subtract(mark, digest.is_value);
        self.leaves[leaf_of(hash)].subtract(mark, digest.is_value);
    }
}

/// The slot of a key with this hash.
pub(super) fn slot_of(hash: u64) -> Slot {
    Slot(u16::try_from(hash >> 48).expect("16 bits are left of 64"))
}

/// The leaf, within its slot, of a key with this hash.
pub(super) fn leaf_of(hash: u64) -> usize {
    usize::try_from(hash >> (u64::BITS - LEAF_BITS)).unwrap_or(0) & (PARTS - 1)
}
