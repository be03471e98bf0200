//! Deletions that the seal of their slot allows to forget are removed from the store, slot by slot, in ordinary batches.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::limits::{TOMBSTONE_FORGET_AGAIN, TOMBSTONE_FORGET_EACH, TOMBSTONE_FORGET_ENTRIES, TOMBSTONE_FORGET_SLOTS};
use crate::protocol::coordinator::CoordinatorCtx;
use crate::protocol::io::{Effect, ReadId, Time};
use crate::types::{Key, Slot, SlotRange, SlotsPage};

/// The slots that are looked through for such deletions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Forgetting {
    slots: BTreeSet<Slot>,
    /// Those that are looked through once more after all others: a key of them could not be decided about, because its record was on
    /// its way to the disk, or they were sealed while they were read.
    again: BTreeSet<Slot>,
    /// Those that were looked through since they were sealed, or since the start.
    looked_through: BTreeSet<Slot>,
    /// The page that is being read.
    reading: Option<(ReadId, SlotRange)>,
    /// Where the next page begins: in this slot, after this key.
    after: Option<(Slot, Key)>,
    /// When the next page may be read.
    next_at: Time,
}

impl Forgetting {
    /// The slot was sealed.
    pub(super) fn sealed(&mut self, slot: Slot) {
        self.looked_through.insert(slot);
        let is_read = self.reading.as_ref().is_some_and(|(_, range)| (range.first..=range.last).contains(&slot));
        if is_read || self.after.as_ref().is_some_and(|(amid, _)| *amid == slot) {
            // What was read before may be forgotten now.
            self.again.insert(slot);
        } else {
            self.slots.insert(slot);
        }
    }

    /// The slot has deletions, and a seal. It may have been sealed before this node started.
    pub(super) fn has_seal(&mut self, slot: Slot) {
        if self.looked_through.insert(slot) {
            self.slots.insert(slot);
        }
    }

    /// Whether the slot is still to be looked through, so that its deletions are no reason to seal it again.
    pub(super) fn is_to_come(&self, slot: Slot) -> bool {
        self.slots.contains(&slot) || self.again.contains(&slot)
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        (self.reading.is_none() && !self.is_idle()).then_some(self.next_at)
    }

    /// Reads the next page: of neighbouring slots, because each may have few records.
    pub(super) fn on_wake(&mut self, read: impl FnOnce() -> ReadId, is_overloaded: bool, ctx: &mut CoordinatorCtx<'_>) {
        let now = ctx.node.now;
        if self.next_wake().is_none_or(|at| at > now) {
            return;
        }
        if is_overloaded {
            self.next_at = now.after(TOMBSTONE_FORGET_AGAIN);
            return;
        }
        let Some(range) = self.next_range() else { return };
        let read = read();
        self.reading = Some((read, range.clone()));
        ctx.node.effects.push(Effect::ReadSlots { read, range, entries_max: TOMBSTONE_FORGET_ENTRIES });
    }

    /// What is read next.
    fn next_range(&mut self) -> Option<SlotRange> {
        if self.slots.is_empty() {
            self.slots = std::mem::take(&mut self.again);
        }
        let first = self.slots.first().copied()?;
        let run = self.slots.iter().zip(first.0..=u16::MAX).take(TOMBSTONE_FORGET_SLOTS);
        let last = run.take_while(|(slot, number)| slot.0 == *number).last().map_or(first, |(slot, _)| *slot);
        let after = self.after.take().filter(|(slot, _)| *slot == first).map(|(_, key)| key);
        Some(SlotRange { first, after, last })
    }

    /// The slots of this range were looked through, or those up to the place `next`.
    fn looked_through_to(&mut self, range: &SlotRange, next: Option<(Slot, Key)>) {
        let is_in = |slot| (range.first..=range.last).contains(&slot);
        self.slots.retain(|slot| !is_in(*slot) || next.as_ref().is_some_and(|(next, _)| slot >= next));
        self.after = next;
    }

    /// A page was read; `None` where it could not be. Returns `false` where it is none of these.
    pub(super) fn on_page(&mut self, read: ReadId, page: Option<&SlotsPage>, ctx: &mut CoordinatorCtx<'_>) -> bool {
        let Some((_, range)) = self.reading.take_if(|(reading, _)| *reading == read) else { return false };
        let now = ctx.node.now;
        let Some(page) = page else {
            self.after = range.after.map(|key| (range.first, key));
            self.next_at = now.after(TOMBSTONE_FORGET_AGAIN);
            return true;
        };
        let mut forgotten = 0;
        for record in &page.records {
            if record.digest.is_sealed_away(ctx.replica.seal(record.slot)) {
                if ctx.replica.forget(record.slot, record.key.clone(), &mut ctx.node) {
                    forgotten += 1;
                } else {
                    self.again.insert(record.slot);
                }
            }
        }
        self.next_at = now.after((TOMBSTONE_FORGET_EACH * forgotten).max(Duration::from_millis(1)));
        let next = page.records.last().filter(|_| page.has_more);
        self.looked_through_to(&range, next.map(|record| (record.slot, record.key.clone())));
        if self.slots.is_empty() && !self.again.is_empty() {
            self.next_at = now.after(TOMBSTONE_FORGET_AGAIN);
        }
        true
    }

    /// Whether nothing is left to look through.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.again.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("k".to_owned()).unwrap()
    }

    /// Reads the next page, which has `of_range` and goes on at `next`.
    fn reads(forgetting: &mut Forgetting, of_range: (u16, Option<Key>, u16), next: Option<u16>) {
        let range = forgetting.next_range().expect("there is more");
        let (first, after, last) = of_range;
        assert_eq!(range, SlotRange { first: Slot(first), after, last: Slot(last) });
        forgetting.looked_through_to(&range, next.map(|slot| (Slot(slot), key())));
    }

    #[test]
    fn neighbouring_slots_are_looked_through_together() {
        let mut forgetting = Forgetting::default();
        for slot in [3, 4, 5, 9, u16::MAX] {
            forgetting.sealed(Slot(slot));
        }
        reads(&mut forgetting, (3, None, 5), Some(4));
        assert!(!forgetting.is_to_come(Slot(3)) && forgetting.is_to_come(Slot(4)));
        reads(&mut forgetting, (4, Some(key()), 5), None);
        reads(&mut forgetting, (9, None, 9), None);
        reads(&mut forgetting, (u16::MAX, None, u16::MAX), None);
        assert!(forgetting.is_idle());

        for slot in 0..2_000 {
            forgetting.sealed(Slot(slot));
        }
        let mut pages = 0;
        while let Some(range) = forgetting.next_range() {
            forgetting.looked_through_to(&range, None);
            pages += 1;
        }
        assert_eq!(pages, 2_000_usize.div_ceil(TOMBSTONE_FORGET_SLOTS));
    }

    #[test]
    fn slot_that_is_sealed_while_others_are_read_is_looked_through_too() {
        let mut forgetting = Forgetting::default();
        for slot in [3, 4] {
            forgetting.sealed(Slot(slot));
        }
        let range = forgetting.next_range().unwrap();
        forgetting.reading = Some((ReadId(1), range.clone()));
        for slot in [2, 4, 5] {
            forgetting.sealed(Slot(slot));
        }
        forgetting.reading = None;
        forgetting.looked_through_to(&range, None);
        assert!([2, 4, 5].into_iter().all(|slot| forgetting.is_to_come(Slot(slot))));
        reads(&mut forgetting, (2, None, 2), None);
        reads(&mut forgetting, (5, None, 5), None);
        reads(&mut forgetting, (4, None, 4), None);
        assert!(forgetting.is_idle());
    }
}
