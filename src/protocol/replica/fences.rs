//! The fence and the seals of one replica: what keeps out old records once deletions above them are forgotten.
//!
//! Invariants: once a fence is acknowledged, no first store and no ballot up to it is taken in, after a restart neither. A
//! seal is told and acted upon only once it is durable. What is above the seal of a slot by its stamp, or held already, is all
//! that a replica keeps in the slot: a forgotten deletion stood above everything else.
//!
//! A fence acts as soon as it is heard, because a greater one only refuses more. All that was taken in before lies in the
//! batch in flight or in the next one, so that it is durable when the fence is.

use crate::mutants::{must, rule};
use crate::protocol::context::{Delivery, NodeCtx, Origin, PendingAck, Requester};
use crate::protocol::group_commit::AckAfter;
use crate::protocol::io::Effect;
use crate::protocol::message::{Answer, Refusal};
use crate::types::{Batch, Clock, Key, Meta, ReadKind, Slot};

use super::state::{KeyState, ReadFor, Replica, Waiting, is_jump};

impl Replica {
    /// The seal of `slot`, once it is durable.
    #[must_use]
    pub fn seal(&self, slot: Slot) -> Option<Clock> {
        self.seals.of(slot)
    }

    /// The seals of the slots from `first` to `last`.
    pub fn seals_between(&self, first: Slot, last: Slot) -> impl Iterator<Item = (Slot, Clock)> + '_ {
        self.seals.by_slot.range(first..=last).map(|(slot, seal)| (*slot, *seal))
    }

    /// The clock up to which it takes in no new writes, once that is durable.
    #[must_use]
    pub fn durable_fence(&self) -> Option<Clock> {
        self.seals.durable_fence
    }

    /// Takes in no first store and no ballot up to `fence` any more, because other replicas do not. The next batch makes that
    /// durable.
    pub fn take_fence(&mut self, fence: Clock, ctx: &mut NodeCtx<'_>) {
        if self.seals.durable_fence < Some(fence) && !is_jump(fence, ctx) {
            self.raise_fence(fence, ctx);
        }
    }

    /// Takes in no first store and no ballot up to `fence` any more. Answers once that is durable, and all of the slot that was
    /// taken in before.
    pub(super) fn on_fence(&mut self, slot: Slot, fence: Clock, from: Origin, ctx: &mut NodeCtx<'_>) {
        if let Some(refusal) = refusal_of(slot, fence, ctx) {
            return ctx.refuse(Requester::Coordinator(from), refusal);
        }
        let is_durable = self.seals.durable_fence >= Some(fence);
        if !is_durable {
            self.raise_fence(fence, ctx);
        }
        let on_its_way = if rule!(FenceIsVolatile, !is_durable, not false) || ctx.group_commit.is_slot_in_next(slot) {
            Some(AckAfter::Next)
        } else {
            ctx.group_commit.is_slot_in_flight(slot).then_some(AckAfter::InFlight)
        };
        let answer = Delivery::Fenced(from, slot);
        match rule!(FenceOvertakesBatch, on_its_way, not None) {
            Some(after) => ctx.group_commit.ack_after(after, PendingAck::Stored(answer)),
            None => ctx.deliveries.push_back(answer),
        }
    }

    fn raise_fence(&mut self, fence: Clock, ctx: &mut NodeCtx<'_>) {
        self.seals.raise(fence);
        // That of a seal may be smaller than the one that is durable, which never falls.
        if self.seals.durable_fence < Some(fence) {
            must!(FenceIsVolatile, ctx.group_commit.add_fence(fence));
        }
        take_clock(fence, ctx);
    }

    /// All replicas of `slot` held the same of everything up to `seal`.
    pub(super) fn on_seal(&mut self, slot: Slot, seal: Clock, from: Origin, ctx: &mut NodeCtx<'_>) {
        if let Some(refusal) = refusal_of(slot, seal, ctx) {
            return ctx.refuse(Requester::Coordinator(from), refusal);
        }
        if self.seal(slot) >= Some(seal) {
            return ctx.answer(from, Answer::Stored);
        }
        self.hears_of_seal(slot, seal, ctx);
        let answer = Delivery::Answer(from, Answer::Stored);
        ctx.group_commit.ack_after(AckAfter::Next, PendingAck::Stored(answer));
    }

    /// A peer tells a seal that it has.
    pub fn hears_of_seal(&mut self, slot: Slot, seal: Clock, ctx: &mut NodeCtx<'_>) {
        if self.seal(slot) >= Some(seal) || refusal_of(slot, seal, ctx).is_some() {
            return;
        }
        self.raise_fence(seal, ctx);
        ctx.group_commit.add_seal(slot, seal);
    }

    /// The fence and the seals of a batch are durable.
    pub fn seals_are_durable(&mut self, batch: &Batch) {
        self.seals.durable_fence = self.seals.durable_fence.max(batch.fence);
        self.seals.by_slot.extend(&batch.seals);
    }

    /// The store was reopened, and remembers this.
    pub(super) fn restore_seals(&mut self, meta: &Meta) {
        self.seals.fence = self.seals.fence.max(meta.fence);
        self.seals.durable_fence = self.seals.durable_fence.max(meta.fence);
        self.seals.by_slot.extend(&meta.seals);
    }

    // Deletions that may be forgotten.

    /// Forgets the record of `key`, if it is a deletion that the seal of `slot` allows to forget: that is decided once the record
    /// is read. Returns `false`, and does nothing, for a key whose record is on its way to the disk or being read, and while
    /// the store has failed.
    pub fn forget(&mut self, slot: Slot, key: Key, ctx: &mut NodeCtx<'_>) -> bool {
        if self.keys.contains_key(&key) || ctx.group_commit.has_failed() {
            return false;
        }
        let waiting = Waiting::Forget;
        self.waiting_bytes += waiting.bytes(&key);
        self.keys.insert(key.clone(), KeyState::Reading(vec![waiting]));
        let read = self.read(ReadFor::Store { slot, key: key.clone() });
        ctx.effects.push(Effect::Read { read, slot, key, kind: ReadKind::Digest });
        true
    }

    /// The record of `key` is gone. `is_followed`: the same batch has a new record of it.
    pub fn on_forgotten(&mut self, key: &Key, is_followed: bool, is_in_next: bool) {
        if is_followed || is_in_next {
            if let Some(KeyState::Known { durable, .. }) = self.keys.get_mut(key) {
                *durable = None;
            }
        } else {
            self.keys.remove(key);
        }
    }
}

/// The clock of this node comes to be at least this one, once its epoch is durable.
pub(super) fn take_clock(clock: Clock, ctx: &mut NodeCtx<'_>) {
    if ctx.clock.is_durable(clock.epoch) {
        ctx.clock.observe(clock);
    } else {
        ctx.group_commit.add_epoch(clock.epoch);
        ctx.group_commit.ack_after(AckAfter::Next, PendingAck::Observed(clock));
    }
}

/// Why the replica does not take a fence or a seal.
fn refusal_of(slot: Slot, clock: Clock, ctx: &mut NodeCtx<'_>) -> Option<Refusal> {
    if !ctx.layout.holds(ctx.me, slot) {
        Some(Refusal::NotReplica)
    } else if ctx.group_commit.has_failed() {
        Some(Refusal::StoreFailed)
    } else {
        is_jump(clock, ctx).then_some(Refusal::ClockJump)
    }
}
