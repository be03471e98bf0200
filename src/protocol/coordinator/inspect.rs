//! What tests may see of a coordinator, and the product does not need.

use crate::protocol::io::Time;
use crate::types::NodeIndex;

use super::engine::Coordinator;
use super::in_flight::Pace;

/// A view of a coordinator for tests and simulations.
#[derive(Clone, Copy, Debug)]
pub struct Inspect<'a>(&'a Coordinator);

impl Coordinator {
    /// What tests may see of it.
    #[must_use]
    pub fn inspect(&self) -> Inspect<'_> {
        Inspect(self)
    }
}

impl Inspect<'_> {
    /// Whether no operation is in flight, nor anything that one left behind.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.operations.is_empty() && !self.0.clock_rounds.any_in_flight()
    }

    /// What is in flight, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{:?} {:?}", self.0.operations, self.0.clock_rounds)
    }

    /// Whether the next timer is that of an operation that has asked a majority first: it asks the others where that still
    /// helps, and does not ask again yet. Or it is that of a read that looks again, once more at most.
    #[must_use]
    pub fn next_timer_hedges(&self) -> bool {
        let next = self.0.timers.first().and_then(|(_, id)| self.0.operations.get(id));
        next.is_some_and(|operation| {
            operation.pace.is_hedging() || operation.pace == Pace::Pause && !operation.operation.is_exclusive()
        })
    }

    /// Whether others are asked before `peer`, because it was late or refused a short while ago.
    #[must_use]
    pub fn is_slow(&self, peer: NodeIndex, now: Time) -> bool {
        self.0.latency.is_slow(peer, now)
    }
}
