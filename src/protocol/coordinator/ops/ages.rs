//! How long the replicas that answer an operation have kept what they hold, and what follows for a read.

use std::collections::BTreeMap;

use crate::mutants::rule;
use crate::protocol::io::Reply;
use crate::types::{Age, AgedRecord, Lookup, Record, Ttl, Version};

use super::operation::Step;

/// The greatest age told of each version. Versions without a time to live have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ages(BTreeMap<Version, Age>);

impl Ages {
    /// A replica holds this, and has kept it for so long.
    pub(super) fn hear(&mut self, held: &Lookup, age: Age) {
        if age > Age::NONE
            && let Some(digest) = held.digest()
        {
            let greatest = self.0.entry(digest.version()).or_default();
            *greatest = age.max(*greatest);
        }
    }

    /// The age of the record's version.
    pub(super) fn of(&self, record: &Record) -> Age {
        if self.0.is_empty() { Age::NONE } else { self.0.get(&record.version()).copied().unwrap_or_default() }
    }

    /// The rest of the record's time to live, for another record that takes its place.
    pub(super) fn ttl_left(&self, record: &Record) -> Option<Ttl> {
        let left = self.of(record).left_of(record.ttl?);
        Ttl::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether the record's time to live has passed.
    pub(super) fn is_past(&self, record: &Record) -> bool {
        record.ttl.is_some_and(|ttl| self.of(record).is_past(ttl))
    }

    /// The record with its age.
    pub(super) fn aged(&self, record: Record) -> AgedRecord {
        let age = self.of(&record);
        AgedRecord::new(record, age)
    }

    /// A read deletes what it found before it has settled that: wrong, because the record is its answer where that fails.
    #[cfg(feature = "mutants")]
    pub(super) fn expire_unsettled(&self, found: Option<&Record>) -> Option<Step> {
        let record = self.aged(found?.clone());
        let is_broken = crate::mutants::is_on(crate::mutants::Mutant::DueUnsettled);
        (is_broken && is_past(&record)).then(|| Step::Expire(Box::new(record)))
    }
}

/// A read has settled on this record: it ends, unless the record's time to live has passed.
pub(super) fn read_ends(record: AgedRecord) -> Step {
    if !is_past(&record) {
        return Step::Done(Reply::Record(Some(record)));
    }
    rule!(DueIsAbsent, Step::Expire(Box::new(record)), not Step::Done(Reply::Record(None)))
}

/// Whether the record's time to live has passed.
fn is_past(record: &AgedRecord) -> bool {
    record.ttl.is_some_and(|ttl| record.age.is_past(ttl))
}
