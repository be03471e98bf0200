//! How fast a node repairs and how often it compares, and what operators may order.

use std::time::Duration;

use crate::limits::{
    REPAIR_BYTES_PER_SECOND_DEFAULT, REPAIR_CONFIRM_AFTER, REPAIR_EVERY, REPAIR_KEYS_PER_SECOND_DEFAULT,
    REPAIR_UNPACED_BYTES_PER_SECOND,
};

use crate::protocol::rate::Rate;
use crate::protocol::retention::TombstoneSettings;

/// How a node repairs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepairSettings {
    /// The most keys that it repairs in a second.
    pub keys_per_second: usize,
    /// The most bytes of comparisons and records in a second, about.
    pub bytes_per_second: usize,
    /// The time between two comparisons with one peer that found nothing.
    pub every: Duration,
    /// How long a few leaves that differ must do so before their keys are compared.
    pub confirm_after: Duration,
    /// When deletions are forgotten; without it, they are kept.
    pub tombstones: Option<TombstoneSettings>,
}

/// What an operator wants of a node's repair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RepairOrder {
    /// Other settings; `None` turns repair off.
    Configure(Option<RepairSettings>),
    /// Comparisons with each peer at once, as fast as the node can, until nothing differs.
    PassNow,
}

impl RepairSettings {
    /// The most that it copies in a second.
    #[must_use]
    pub fn rate(&self) -> Rate {
        Rate { keys_per_second: self.keys_per_second, bytes_per_second: self.bytes_per_second }
    }

    /// The same without a pace, but for the memory that values take.
    #[must_use]
    pub(super) fn unpaced(self) -> Self {
        Self { keys_per_second: usize::MAX, bytes_per_second: REPAIR_UNPACED_BYTES_PER_SECOND, ..self }
    }
}

impl Default for RepairSettings {
    fn default() -> Self {
        Self {
            keys_per_second: REPAIR_KEYS_PER_SECOND_DEFAULT,
            bytes_per_second: REPAIR_BYTES_PER_SECOND_DEFAULT,
            every: REPAIR_EVERY,
            confirm_after: REPAIR_CONFIRM_AFTER,
            tombstones: Some(TombstoneSettings::default()),
        }
    }
}
