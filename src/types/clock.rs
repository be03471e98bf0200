//! Logical time: the quorum clock and the stamps drawn from it.
//!
//! Source: Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System" (1978). Lynch and Shvartsman (1997)
//! call a stamp a tag.

use std::fmt;

use super::NodeId;

/// A value of the quorum clock, ordered by epoch, then by counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clock {
    /// The durable part. A node raises it at every start, and to the epoch of any peer that is ahead.
    pub epoch: u64,
    /// The volatile part. It counts the stamps of one epoch.
    pub counter: u64,
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

/// A logical timestamp: a record's position in the one order of all writes.
///
/// Stamps are unique: a node never issues the same clock value twice, and its id is part of the stamp.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The clock value that the coordinator drew for this write.
    pub clock: Clock,
    /// The coordinator that drew it. It separates two coordinators that drew the same clock value at once.
    pub writer: NodeId,
}

impl Stamp {
    /// Below every stamp that a node draws: conditional writes of a key that was never written build on it, where the slot is
    /// not sealed.
    #[must_use]
    pub fn none() -> Self {
        Self { clock: Clock::default(), writer: NodeId::none() }
    }

    /// The stamp of an absence in a slot that is sealed up to `seal`: above every stamp that is sealed, and below every later
    /// one, because no node has the empty id.
    #[must_use]
    pub fn of_absence(seal: Clock) -> Self {
        let clock = Clock { epoch: seal.epoch, counter: seal.counter.saturating_add(1) };
        Self { clock, writer: NodeId::none() }
    }

    /// Whether no plain write drew it: it is that of an absence.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.writer.as_str().is_empty()
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.clock, self.writer)
    }
}
