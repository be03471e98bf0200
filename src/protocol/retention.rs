//! How long deletions are remembered, and what people are told of it: the words that repair and tombstones share.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits::{TOMBSTONES_KEPT_FOR_DEFAULT, TOMBSTONES_OF_SLOT_MAX};
use crate::types::{NodeIndex, Slot};

/// When a node forgets deletions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TombstoneSettings {
    /// A slot that has had a deletion for so long is to forget it.
    pub kept_for: Duration,
    /// So is a slot with more deletions.
    pub of_slot_max: u64,
}

impl TombstoneSettings {
    /// Deletions younger than this are kept, so that no write that is still on its way is refused.
    #[must_use]
    pub fn margin(&self) -> Duration {
        self.kept_for / 10
    }
}

impl Default for TombstoneSettings {
    fn default() -> Self {
        Self { kept_for: TOMBSTONES_KEPT_FOR_DEFAULT, of_slot_max: TOMBSTONES_OF_SLOT_MAX }
    }
}

/// What has been done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TombstoneCounters {
    /// Tombstones that were removed from the store.
    pub forgotten: u64,
    /// Rounds of this node that sealed their slot.
    pub sealed: u64,
    /// Rounds of this node that were cut off.
    pub cut_off: u64,
}

/// The state of tombstones, for people and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TombstoneReport {
    /// What has been done since the start.
    pub counters: TombstoneCounters,
    /// How many slots have tombstones.
    pub slots: usize,
    /// Of those, the slots whose tombstones cannot be forgotten now, by the replica that is missing: how many, and one of them. The
    /// first of the other replicas counts a slot, so that the counts of all nodes can be added.
    pub missing: BTreeMap<NodeIndex, (usize, Slot)>,
    /// How long a slot has had tombstones at the most, since its last round.
    pub longest: Option<Duration>,
}
