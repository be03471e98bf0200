//! The clock rounds in flight, and the operations that wait for the next one.

use std::collections::BTreeMap;

use crate::protocol::io::Time;
use crate::protocol::message::OperationId;

use super::ops::Fanout;

/// Clock rounds in flight, and the operations that wait for the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ClockRounds {
    /// Operations that wait for the next round, and the replicas it is to ask for them.
    pub(super) waiting: Vec<(OperationId, Fanout)>,
    pub(super) in_flight: BTreeMap<OperationId, ClockRound>,
}

/// A query of the replicas' clocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClockRound {
    pub(super) began: Time,
    /// The operations that take part.
    pub(super) operations: Vec<OperationId>,
}

impl ClockRounds {
    /// `operation` takes part in the next round, which asks `fanout` for it.
    pub(super) fn wait(&mut self, operation: OperationId, fanout: Fanout) {
        self.waiting.push((operation, fanout));
    }

    /// Whether `id` is that of a round in flight.
    pub(super) fn is_in_flight(&self, id: OperationId) -> bool {
        self.in_flight.contains_key(&id)
    }

    pub(super) fn any_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// `operation` waits for none of `rounds` any longer. A round that nobody waits for is forgotten, because its answers
    /// may never come.
    pub(super) fn leave(&mut self, operation: OperationId, rounds: &[OperationId]) {
        for round in rounds {
            if let Some(ClockRound { operations, .. }) = self.in_flight.get_mut(round) {
                operations.retain(|waiting| *waiting != operation);
                if operations.is_empty() {
                    self.in_flight.remove(round);
                }
            }
        }
    }

    /// Lets `operation` take part in the latest round that has begun already: wrong, because its clocks are too old.
    #[cfg(feature = "mutants")]
    pub(super) fn join_latest(&mut self, operation: OperationId) -> Option<OperationId> {
        let mut round = self.in_flight.last_entry()?;
        round.get_mut().operations.push(operation);
        Some(*round.key())
    }
}
