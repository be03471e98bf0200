//! The fence and the seals of one replica.

use std::collections::BTreeMap;

use crate::mutants::rule;
use crate::protocol::context::NodeCtx;
use crate::types::{Clock, Digest, Meta, Slot};

/// The fence and the seals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Seals {
    /// The greatest fence that was heard.
    pub(super) fence: Option<Clock>,
    /// The greatest fence that is durable.
    pub(super) durable_fence: Option<Clock>,
    /// Those that are durable.
    pub(super) by_slot: BTreeMap<Slot, Clock>,
}

impl Seals {
    /// Those that a data folder remembers.
    pub(super) fn start(meta: &Meta) -> Self {
        Self { fence: meta.fence, durable_fence: meta.fence, by_slot: meta.seals.clone() }
    }

    /// The seal of a slot.
    pub(super) fn of(&self, slot: Slot) -> Option<Clock> {
        // Most clusters delete little: the look-up is for those that have sealed something.
        if self.by_slot.is_empty() { None } else { self.by_slot.get(&slot).copied() }
    }

    /// Whether no first store and no ballot of this clock is taken in.
    pub(super) fn fences(&self, clock: Clock) -> bool {
        self.fence.is_some_and(|fence| clock <= fence)
    }

    /// The fence, where its epoch may be shown.
    pub(super) fn shown_fence(&self) -> Clock {
        self.durable_fence.unwrap_or_default()
    }

    pub(super) fn raise(&mut self, fence: Clock) {
        self.fence = self.fence.max(Some(fence));
    }
}

/// The seal by which this node judges what it holds of `slot`, of which this is the seal. While it takes the slot over, it holds
/// too little to judge anything.
pub(super) fn judged(seal: Option<Clock>, slot: Slot, ctx: &NodeCtx<'_>) -> Option<Clock> {
    seal.filter(|_| rule!(SealsWhileTakingOver, !ctx.layout.gains(ctx.me, slot), not true))
}

/// Whether a replica with this seal of its slot has forgotten a deletion that may be above the record.
pub(super) fn is_below(digest: &Digest, seal: Option<Clock>) -> bool {
    rule!(SealJudgesHigh, digest.is_below(seal), not seal.is_some_and(|seal| digest.tag().clock() <= seal))
}
