//! How long a node has kept a version, on the node's own count of the time that it ran.
//!
//! No time of day takes part. A node counts the milliseconds in which it ran, over all its incarnations. The count
//! is compared with counts of the same node alone; to other nodes a node tells ages.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::{Key, Record, Slot, TableId, Ttl, Version};

/// A node's count of the time that it ran, in milliseconds. It stands still while the node is down. A restart may forget
/// its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunningTime(pub u64);

/// How long a node has kept a version, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age(pub u64);

impl RunningTime {
    /// The count of a fresh folder: ten years, so that every age which decides anything lies within the count.
    pub const START: Self = Self(10 * 365 * 24 * 3_600 * 1_000);

    /// The count after `span` more.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// The count before `age`.
    #[must_use]
    pub fn before(self, age: Age) -> Self {
        Self(self.0.saturating_sub(age.0))
    }

    /// The age of what was kept at this count; none where the count went back since.
    #[must_use]
    pub fn age_at(self, now: Self) -> Age {
        Age(now.0.saturating_sub(self.0))
    }

    /// The first count at which what was kept at this count has certainly lived for `ttl`: counts are rounded down, and the
    /// begun milliseconds of the two may differ.
    #[must_use]
    pub fn expiry(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add(ttl.as_millis()).saturating_add(1))
    }

    /// How long it is to `later`; nothing where that has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

impl Age {
    /// The age of a version that is new.
    pub const NONE: Self = Self(0);

    /// The age after `span` more.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// Whether a value with this time to live is to be deleted at this age. An age is the difference of two counts, so that
    /// it may be up to a millisecond too great.
    #[must_use]
    pub fn is_past(self, ttl: Ttl) -> bool {
        self.0 > ttl.as_millis()
    }

    /// What is left of `ttl`: a millisecond at least, because a value that is past it is there until it is deleted.
    #[must_use]
    pub fn left_of(self, ttl: Ttl) -> Duration {
        Duration::from_millis(ttl.as_millis().saturating_sub(self.0).max(1))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A record, and how long its version has been kept. Only versions with a time to live have an age.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgedRecord {
    /// The record.
    pub record: Record,
    /// The greatest age that a replica told.
    pub age: Age,
    /// The table of its key, as its client is told. Inside of the cluster this is [`TableId::DEFAULT`].
    pub table: TableId,
}

impl AgedRecord {
    /// The record, kept for so long.
    #[must_use]
    pub fn new(record: Record, age: Age) -> Self {
        Self { record, age, table: TableId::DEFAULT }
    }

    /// The record's version, as the clients of its table see it.
    #[must_use]
    pub fn version(&self) -> Version {
        self.record.version().in_table(self.table)
    }

    /// What is left of the time to live; `None` where the record never expires.
    #[must_use]
    pub fn ttl_left(&self) -> Option<Duration> {
        self.record.ttl.map(|ttl| self.age.left_of(ttl))
    }
}

impl From<Record> for AgedRecord {
    fn from(record: Record) -> Self {
        Self::new(record, Age::NONE)
    }
}

impl Deref for AgedRecord {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

/// An entry of a store's index of expiries: which version of a key is to be deleted, and when by the node's count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry {
    /// The count at which the time to live has passed.
    pub at: RunningTime,
    /// The slot of the key.
    pub slot: Slot,
    /// The key.
    pub key: Key,
    /// The version that expires.
    pub version: Version,
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, key, version, .. } = self;
        write!(f, "Expiry({key:?} {version} at {})", at.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_that_a_restart_set_back_gives_no_age() {
        let kept_at = RunningTime::START.after(Duration::from_secs(90));
        let after_restart = RunningTime::START.after(Duration::from_mins(1));
        assert_eq!(kept_at.age_at(after_restart), Age::NONE);
        assert_eq!(kept_at.age_at(kept_at.after(Duration::from_millis(7))), Age(7));
    }

    #[test]
    fn every_age_that_matters_lies_within_a_fresh_count() {
        let oldest = Age(u64::try_from(Ttl::MAX.as_millis()).unwrap());
        assert_eq!(RunningTime::START.before(oldest).age_at(RunningTime::START), oldest);
    }

    #[test]
    fn a_millisecond_is_left_until_the_value_is_deleted() {
        let ttl = Ttl::from_millis(1_000).unwrap();
        assert_eq!(Age(400).left_of(ttl), Duration::from_millis(600));
        assert_eq!(Age(5_000).left_of(ttl), Duration::from_millis(1));
        assert_eq!([1_000, 1_001].map(|age| Age(age).is_past(ttl)), [false, true]);
    }
}
