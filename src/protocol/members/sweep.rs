//! What a node still holds of slots that are not its own any more.
//!
//! Nobody reads or writes it, so that it need not go at once. A node loses thousands of slots in one moment, and clients wait
//! for its disk then. So it goes bit by bit, once a configuration is stable. A node that gains a slot which was not emptied yet
//! empties it in the batch with which it adopts the configuration.

use crate::limits::SWEEP_EVERY;
use crate::mutants::rule;
use crate::protocol::io::Time;
use crate::protocol::layout::Layout;
use crate::types::{Meta, NodeIndex, Slot};

/// How far slots of others are emptied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sweep {
    /// The slots below this one are done; absent where nothing is to be done, or may be.
    pub(super) next: Option<Slot>,
    pub(super) at: Time,
}

impl Sweep {
    /// After a start. A node under its first members has never held a slot that it does not hold now.
    pub(super) fn start(meta: &Meta, layout: &Layout, me: NodeIndex, now: Time) -> Self {
        match meta.configuration {
            None => Self { next: None, at: now },
            Some(_) => Self::begin(layout, me, now),
        }
    }

    /// Under a layout that is new, or after a store has failed.
    pub(super) fn begin(layout: &Layout, me: NodeIndex, now: Time) -> Self {
        let holds_all = layout.distinct_slots().iter().all(|slot| layout.holds(me, *slot));
        // A node that was removed keeps what it has: its operator deletes it.
        let may_go = !layout.is_joint() && layout.is_member(me) && !holds_all;
        let next = rule!(GainedSlotsKeepData, may_go.then_some(Slot(0)), not None);
        Self { next, at: now.after(SWEEP_EVERY) }
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        self.next.map(|_| self.at)
    }

    /// A batch failed: what it was to empty may be there.
    pub(super) fn on_batch_failed(&mut self) {
        self.next = None;
    }
}
