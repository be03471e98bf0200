//! What the runs did: counts by name, and the list of what must have happened at least sometimes.

use std::collections::BTreeMap;

/// Each must have happened in the fixed set of seeds: a simulation that reaches none of it shows nothing.
pub const SOMETIMES: [&str; 99] = [
    "a batch failed and was on disk all the same",
    "a batch failed and was not on disk",
    "a batch in flight was lost in a crash",
    "a batch in flight survived a crash",
    "a client went on without an answer",
    "a clock round served several writes",
    "a coordinator died between clock and store",
    "a coordinator died with a store on its way",
    "a delete was seen",
    "a late peer was passed over",
    "a message was late by more than a resend",
    "a message was lost",
    "a message was repeated",
    "a message to or from a dead run arrived",
    "a node was paused with messages in hand",
    "a message was lost with the link that it was an answer on",
    "a further key of a page",
    "a page was cut off",
    "a watch knows what is there",
    "a watch was told a page of what is there",
    "a watch was told of a change before it was told all that is there",
    "a page was listed",
    "a read asked others too",
    "a read of memory failed",
    "a read of the disk failed",
    "a read was answered by memory",
    "a read ended with the answer of one asked later",
    "a read fetched the content in a further round",
    "a read returned what was never acknowledged",
    "a read wrote back",
    "a record became durable before its node knew",
    "a record carried an epoch",
    "a request was asked again",
    "a restarted node was not noticed",
    "a store was superseded",
    "a hint was sent",
    "a key was repaired",
    "replicas became level without a read",
    "replicas were not level yet",
    "two nodes were found equal",
    "a slot was sealed",
    "a round for deletions was cut off",
    "a deletion was forgotten",
    "a write asked others too",
    "a write failed for certain",
    "a write of unknown outcome",
    "an store_id was refused",
    "an older incarnation was refused",
    "an operation was given up early",
    "nodes had weights or zones",
    "operations with a minority dead",
    "a ballot was preempted",
    "a chosen record was stored",
    "a client was answered after it had given up",
    "a condition failed",
    "a condition failed for a request that was sent again",
    "a condition held",
    "a condition on a list failed",
    "a condition on a list held",
    "a plain record was stored before it was built on",
    "a read of one replica had a version to reach",
    "a read of one replica had none",
    "a record was settled for a read",
    "a record was settled under a new ballot",
    "a request that was sent again was answered",
    "a request that was sent again was found in the history",
    "an addition found no number",
    "an addition was made",
    "an outcome stayed unknown because the base of an attempt was forgotten",
    "an outcome stayed unknown because the history was too short",
    "an outcome stayed unknown because the request could only ask",
    "a restart forgot since when a version is kept",
    "a sweep deleted a value",
    "all values were gone whose time had passed",
    "an expiry was proposed",
    "an expiry was seen",
    "the cluster bootstrapped under faults",
    "a table was created",
    "a table was dropped",
    "a table was looked up",
    "a table was there when it was to be created",
    "a name stood for no table",
    "a creation or drop of unknown outcome",
    "a drop was acknowledged",
    "a replica refused a dropped table",
    "a table was being dropped",
    "a write was cut off by a drop",
    "an addition kept the time to live",
    "an operation found no table",
    "records of a dropped table were removed",
    "the space of dropped tables was given back",
    "a member lost its disk",
    "a node adopted a joint configuration",
    "a node adopted a new list",
    "a node adopted other weights or zones",
    "a node took the place of one that lost its disk",
    "an operator gave an order",
    "an order was carried out",
    "an order was refused",
];

/// Counts by name, in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    pub fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    pub fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            self.add(name, *count);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }
}
