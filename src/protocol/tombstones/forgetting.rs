//! Deletions that the seal of their slot allows to forget are removed from the store, slot by slot, in ordinary batches.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::limits::{TOMBSTONE_FORGET_AGAIN, TOMBSTONE_FORGET_EACH, TOMBSTONE_FORGET_ENTRIES};
use crate::protocol::coordinator::CoordinatorCtx;
use crate::protocol::io::{Effect, ReadId, Time};
use crate::types::{Key, Slot, SlotRange, SlotsPage};

/// The slots that are looked through for such deletions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Forgetting {
    slots: BTreeSet<Slot>,
    /// Those that were looked through since they were sealed, or since the start.
    looked_through: BTreeSet<Slot>,
    /// The page that is being read.
    reading: Option<(ReadId, SlotRange)>,
    /// Where the next page of the first slot begins.
    after: Option<Key>,
    /// Whether a key of the first slot could not be decided about, because its record was on its way to the disk.
    is_left_over: bool,
    /// When the next page may be read.
    next_at: Time,
}

impl Forgetting {
    /// The slot was sealed.
    pub(super) fn sealed(&mut self, slot: Slot) {
        self.looked_through.insert(slot);
        self.slots.insert(slot);
        // What was read before may be forgotten now.
        self.is_left_over |= self.slots.first() == Some(&slot);
    }

    /// The slot has deletions, and a seal. It may have been sealed before this node started.
    pub(super) fn has_seal(&mut self, slot: Slot) {
        if self.looked_through.insert(slot) {
            self.slots.insert(slot);
        }
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        (self.reading.is_none() && !self.slots.is_empty()).then_some(self.next_at)
    }

    /// Reads the next page.
    pub(super) fn on_wake(&mut self, read: impl FnOnce() -> ReadId, is_overloaded: bool, ctx: &mut CoordinatorCtx<'_>) {
        let now = ctx.node.now;
        if self.next_wake().is_none_or(|at| at > now) {
            return;
        }
        if is_overloaded {
            self.next_at = now.after(TOMBSTONE_FORGET_AGAIN);
            return;
        }
        let Some(slot) = self.slots.first().copied() else { return };
        let range = SlotRange { first: slot, after: self.after.take(), last: slot };
        let read = read();
        self.reading = Some((read, range.clone()));
        ctx.node.effects.push(Effect::ReadSlots { read, range, entries_max: TOMBSTONE_FORGET_ENTRIES });
    }

    /// A page was read; `None` where it could not be. Returns `false` where it is none of these.
    pub(super) fn on_page(&mut self, read: ReadId, page: Option<&SlotsPage>, ctx: &mut CoordinatorCtx<'_>) -> bool {
        let Some((_, range)) = self.reading.take_if(|(reading, _)| *reading == read) else { return false };
        let (now, slot) = (ctx.node.now, range.first);
        let Some(page) = page else {
            self.next_at = now.after(TOMBSTONE_FORGET_AGAIN);
            return true;
        };
        let seal = ctx.replica.seal(slot);
        let mut forgotten = 0;
        for record in page.records.iter().filter(|record| record.digest.is_sealed_away(seal)) {
            let is_decided = ctx.replica.forget(slot, record.key.clone(), &mut ctx.node);
            self.is_left_over |= !is_decided;
            forgotten += u32::from(is_decided);
        }
        self.next_at = now.after((TOMBSTONE_FORGET_EACH * forgotten).max(Duration::from_millis(1)));
        let last = page.records.last().filter(|_| page.has_more);
        if let Some(last) = last {
            self.after = Some(last.key.clone());
        } else if std::mem::take(&mut self.is_left_over) {
            self.next_at = now.after(TOMBSTONE_FORGET_AGAIN);
        } else {
            self.slots.remove(&slot);
        }
        true
    }

    /// Whether nothing is left to look through.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }
}
