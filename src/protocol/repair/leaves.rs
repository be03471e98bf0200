//! The leaves of one node: sums over the records that its store holds.
//!
//! Leaves are in memory alone. After a start they are counted in pages of the store, in the order of slots and then of keys.
//! From then on each record that becomes durable changes its leaf: the record that it replaced is subtracted, and it is added.
//!
//! Invariant: the leaves are the sums over the counted records that the replica knows to be durable. A page shows the store at
//! some moment between its question and its answer. So the changes that became durable meanwhile take precedence over the
//! page, and so does what the replica knows of keys whose records are on their way to the disk. A page that has all of its
//! slots replaces their leaves: a leaf that was wrong does not stay so.
//!
//! Records of dropped tables count until the store has removed them. A page that was read beside a removal counts nothing.

use std::collections::BTreeMap;

use crate::limits::{
    REPAIR_COUNT_AGAIN, REPAIR_COUNT_ENTRIES, REPAIR_COUNT_EVERY, REPAIR_COUNT_SHARE, REPAIR_TOUCHED_MAX,
};
use crate::mutants::must;
use crate::protocol::context::NodeCtx;
use crate::protocol::io::{Effect, ReadId, Time};
use crate::protocol::layout::Layout;
use crate::protocol::replica::Replica;
use crate::protocol::sums::{LEAF_BITS, PARTS, Part, Sum, mark_of};
use crate::types::{Digest, Key, NodeIndex, Removed, Slot, SlotRange, SlotRecord, SlotsPage};

pub use super::slot_table::RecordCounts;
use super::slot_table::{SlotLeaves, SlotTable};

/// The last of all slots.
const LAST: Slot = Slot(u16::MAX);

/// A place between two records, in the order of slots and then of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Place {
    /// All slots below this one lie before it.
    slot: usize,
    /// The keys of that slot up to this one do too.
    key: Option<Key>,
}

impl Place {
    /// Whether a record lies before it.
    fn is_after(&self, slot: Slot, key: &Key) -> bool {
        let slot = usize::from(slot.0);
        slot < self.slot || slot == self.slot && self.key.as_ref().is_some_and(|last| key <= last)
    }
}

/// The leaves of all slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leaves {
    /// Those with records.
    slots: SlotTable,
    counts: RecordCounts,
    /// All records before this place are counted.
    counted_to: Place,
    reads: BTreeMap<ReadId, Reading>,
    last_read: u64,
    /// The page that is being counted, and when that began.
    counting: Option<(ReadId, Time)>,
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
    range: SlotRange,
    /// The records of it that became durable since; `None` for one that was removed.
    touched: BTreeMap<Key, Option<Digest>>,
    /// Whether the page may show what is not so any more.
    is_stale: bool,
}

impl Reading {
    /// The place up to which a page shows all records.
    fn end(&self, page: &SlotsPage) -> Place {
        match page.records.last().filter(|_| page.has_more) {
            Some(last) => Place { slot: last.slot.0.into(), key: Some(last.key.clone()) },
            None => Place { slot: usize::from(self.range.last.0) + 1, key: None },
        }
    }
}

impl Leaves {
    /// Those of a node that starts now.
    #[must_use]
    pub fn start(now: Time) -> Self {
        Self { count_at: Some(now), ..Self::default() }
    }

    /// Whether all records are counted.
    #[must_use]
    pub fn are_complete(&self) -> bool {
        self.counted_to.slot == Slot::COUNT
    }

    /// The share of the slots that are counted, from 0 to 1.
    #[must_use]
    pub fn share_counted(&self) -> f64 {
        f64::from(u32::try_from(self.counted_to.slot).unwrap_or(u32::MAX)) / f64::from(1 << 16)
    }

    /// How many records they stand for.
    #[must_use]
    pub fn counts(&self) -> RecordCounts {
        self.counts
    }

    /// How many reads are under way.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.len()
    }

    /// When [`Leaves::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.count_at.filter(|_| self.counting.is_none())
    }

    /// Counts the next page, if it is time.
    pub fn on_wake(&mut self, is_overloaded: bool, ctx: &mut NodeCtx<'_>) {
        if self.next_wake().is_none_or(|at| at > ctx.now) {
            return;
        }
        if is_overloaded {
            self.count_at = Some(ctx.now.after(REPAIR_COUNT_AGAIN));
            return;
        }
        self.count_at = None;
        let first = Slot(u16::try_from(self.counted_to.slot).expect("not all slots are counted"));
        let range = SlotRange { first, after: self.counted_to.key.clone(), last: LAST };
        self.counting = Some((self.read(range, REPAIR_COUNT_ENTRIES, ctx), ctx.now));
    }

    /// Reads the first records of a range.
    pub fn read(&mut self, range: SlotRange, entries_max: usize, ctx: &mut NodeCtx<'_>) -> ReadId {
        self.last_read += 1;
        let read = ReadId(self.last_read);
        let is_stale = self.is_cleaning || self.is_suspended;
        self.reads.insert(read, Reading { range: range.clone(), touched: BTreeMap::new(), is_stale });
        ctx.effects.push(Effect::ReadSlots { read, range, entries_max });
        read
    }

    /// A range was read; `None` where it could not be.
    pub fn on_page(&mut self, read: ReadId, page: Option<&SlotsPage>, replica: &Replica, ctx: &NodeCtx<'_>) {
        let Some(reading) = self.reads.remove(&read) else { return };
        let counting = self.counting.take_if(|(counting, _)| *counting == read);
        let page = page.filter(|_| !reading.is_stale);
        match (counting, page) {
            (Some(_), None) if !self.is_suspended => self.count_at = Some(ctx.now.after(REPAIR_COUNT_AGAIN)),
            (Some((_, began)), Some(page)) => {
                self.add_page(&reading, page, replica, ctx);
                self.counted_to = reading.end(page);
                // A page of large records, or of a busy disk, takes longer.
                let pause = (ctx.now.since(began) * REPAIR_COUNT_SHARE).max(REPAIR_COUNT_EVERY);
                self.count_at = (!self.are_complete()).then(|| ctx.now.after(pause));
            }
            (None, Some(page)) if reading.range.after.is_none() && !page.has_more => {
                let Reading { range: SlotRange { first, last, .. }, .. } = reading;
                let replaced: Vec<Slot> = self.slots.range(first, last).map(|(slot, _)| slot).collect();
                let counted = |slot: &Slot| usize::from(slot.0) < self.counted_to.slot;
                if counted(&last) {
                    for slot in replaced {
                        if let Some(leaves) = self.slots.remove(slot) {
                            self.counts.subtract(leaves.counts);
                        }
                    }
                    self.add_page(&reading, page, replica, ctx);
                }
            }
            _ => {}
        }
    }

    /// Adds the records of a page, none of which is counted. What is left of slots that this node does not hold any more goes.
    fn add_page(&mut self, reading: &Reading, page: &SlotsPage, replica: &Replica, ctx: &NodeCtx<'_>) {
        let end = reading.end(page);
        let is_within = |slot: Slot, key: &Key| reading.range.contains(slot, key) && end.is_after(slot, key);
        // Later ones take precedence: what the replica knows is what became durable last.
        let mut known: BTreeMap<&Key, Option<&Digest>> = BTreeMap::new();
        known.extend(reading.touched.iter().map(|(key, digest)| (key, digest.as_ref())));
        let on_its_way = replica.known().filter(|(slot, key, _)| is_within(*slot, key));
        known.extend(on_its_way.map(|(_, key, durable)| (key, durable)));
        let shown = page.records.iter().filter(|record| !known.contains_key(&record.key));
        let shown = shown.map(|SlotRecord { key, digest, .. }| (key, digest));
        for (key, digest) in shown.chain(known.iter().filter_map(|(key, digest)| Some((*key, (*digest)?)))) {
            let hash = ctx.layout.hash(key);
            let slot = slot_of(hash);
            if is_within(slot, key) && ctx.layout.holds(ctx.me, slot) {
                self.add(hash, key, digest);
            }
        }
    }

    /// A record became durable in the place of another one.
    pub fn changed(&mut self, key: &Key, before: Option<&Digest>, after: &Digest, layout: &Layout) {
        let hash = layout.hash(key);
        let slot = slot_of(hash);
        self.touch(slot, key, Some(after));
        if self.counted_to.is_after(slot, key) {
            if let Some(before) = before {
                must!(LeafKeepsReplaced, self.subtract(hash, key, before));
            }
            self.add(hash, key, after);
        }
    }

    /// A tombstone was removed.
    pub fn forgotten(&mut self, key: &Key, digest: &Digest, layout: &Layout) {
        let hash = layout.hash(key);
        let slot = slot_of(hash);
        self.touch(slot, key, None);
        if self.counted_to.is_after(slot, key) {
            self.subtract(hash, key, digest);
        }
    }

    /// What is there of `key` changes while pages are read.
    fn touch(&mut self, slot: Slot, key: &Key, after: Option<&Digest>) {
        for reading in self.reads.values_mut().filter(|reading| reading.range.contains(slot, key)) {
            if reading.touched.len() >= REPAIR_TOUCHED_MAX {
                reading.is_stale = true;
            } else if !reading.is_stale {
                must!(ChangeBesideCountIsLost, reading.touched.insert(key.clone(), after.cloned()));
            }
        }
    }

    /// The sum over the records of a slot; `None` where they are not counted, or are being removed.
    #[must_use]
    pub fn sum_of(&self, slot: Slot) -> Option<Sum> {
        let is_known = self.are_complete() && !self.is_cleaning && !self.is_suspended;
        is_known.then(|| Sum(self.slots.get(slot).map_or(0, |leaves| leaves.total)))
    }

    /// How many tombstones a slot has.
    #[must_use]
    pub fn tombstones_of(&self, slot: Slot) -> u64 {
        self.slots.get(slot).map_or(0, |leaves| leaves.counts.tombstones)
    }

    /// The slots that have tombstones, and how many.
    pub fn tombstones(&self) -> impl Iterator<Item = (Slot, u64)> {
        let counts = self.slots.iter().map(|(slot, leaves)| (slot, leaves.counts.tombstones));
        counts.filter(|(_, tombstones)| *tombstones > 0)
    }

    /// The store begins to remove records of a dropped table.
    pub fn cleaning_begins(&mut self) {
        self.is_cleaning = true;
        self.reads.values_mut().for_each(|reading| reading.is_stale = true);
    }

    /// The store has removed records of a dropped table; `None` where it could not.
    pub fn cleaned(&mut self, removed: Option<&Removed>, ctx: &NodeCtx<'_>) {
        self.is_cleaning = false;
        for SlotRecord { slot, key, digest } in removed.iter().flat_map(|removed| &removed.digests) {
            if self.counted_to.is_after(*slot, key) && ctx.layout.holds(ctx.me, *slot) {
                must!(CleaningKeepsLeaf, self.subtract(ctx.layout.hash(key), key, digest));
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
        self.counts = RecordCounts::default();
        (self.counted_to, self.counting, self.count_at) = (Place::default(), None, None);
        self.reads.values_mut().for_each(|reading| reading.is_stale = true);
    }

    /// The sums of the parts of `part`, over the slots that `is_shared` allows.
    #[must_use]
    pub fn sums(&self, part: Part, is_shared: impl Fn(Slot) -> bool) -> [Sum; PARTS] {
        if let Some(slot) = part.slot() {
            let leaves = self.slots.get(slot).filter(|_| is_shared(slot));
            return leaves.map_or([Sum::default(); PARTS], |leaves| leaves.leaves.map(Sum));
        }
        let mut sums = [Sum::default(); PARTS];
        let (first, last) = part.slots();
        self.slots.range(first, last).filter(|(slot, _)| is_shared(*slot)).for_each(|(slot, leaves)| {
            let sum = &mut sums[part.place_of(slot)].0;
            *sum = sum.wrapping_add(leaves.total);
        });
        sums
    }

    /// Whether they are the sums over those of these records that `me` is to hold, for tests.
    #[must_use]
    pub fn are_of<'a>(&self, records: impl Iterator<Item = (&'a Key, Digest)>, me: NodeIndex, layout: &Layout) -> bool {
        let mut expected = Self::default();
        for (key, digest) in records.filter(|(key, _)| layout.holds(me, layout.slot(key))) {
            expected.add(layout.hash(key), key, &digest);
        }
        let empty = SlotLeaves::default();
        let has_records = self.slots.iter().filter(|(_, leaves)| **leaves != empty);
        self.are_complete() && self.counts == expected.counts && has_records.eq(expected.slots.iter())
    }

    fn add(&mut self, hash: u64, key: &Key, digest: &Digest) {
        let mark = mark_of(key, digest);
        let slot = self.slots.of(slot_of(hash));
        let leaf = &mut slot.leaves[leaf_of(hash)];
        (slot.total, *leaf) = (slot.total.wrapping_add(mark), leaf.wrapping_add(mark));
        slot.counts.add(digest);
        self.counts.add(digest);
    }

    fn subtract(&mut self, hash: u64, key: &Key, digest: &Digest) {
        let mark = mark_of(key, digest);
        let slot = self.slots.of(slot_of(hash));
        let leaf = &mut slot.leaves[leaf_of(hash)];
        (slot.total, *leaf) = (slot.total.wrapping_sub(mark), leaf.wrapping_sub(mark));
        slot.counts.subtract(RecordCounts::of(digest));
        self.counts.subtract(RecordCounts::of(digest));
    }
}

/// The slot of a key with this hash.
pub(super) fn slot_of(hash: u64) -> Slot {
    Slot(u16::try_from(hash >> 48).expect("16 bits are left of 64"))
}

/// The leaf, within its slot, of a key with this hash.
fn leaf_of(hash: u64) -> usize {
    usize::try_from(hash >> (u64::BITS - LEAF_BITS)).unwrap_or(0) & (PARTS - 1)
}
