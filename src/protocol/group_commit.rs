//! What must become durable, and what is owed to whom once it is.
//!
//! Invariants: one batch is at the disk at a time, and everything that arrives meanwhile gathers for the next, so that
//! all who wait share one fsync. What is owed for a batch is paid only when that batch is durable. When one fails,
//! nobody who waits for it or for the next is acknowledged, and nothing more is taken until the store was reopened:
//! after a failed fsync nobody knows what is on disk (Rebello et al., "Can Applications Recover from fsync Failures?",
//! ATC 2020).
//!
//! A batch is bounded by its node, which takes nothing from peers while too much gathers behind a slow disk.

use std::sync::Arc;

use crate::mutants::{self, Mutant};
use crate::types::{Batch, Digest, Incarnation, Key, NodeId, PeerRecord, Record, Slot};

/// Gathers batches; `O` is what may be owed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Journal<O> {
    at_disk: Option<AtDisk<O>>,
    gathering: Batch,
    /// What gathers, in bytes, about; a record that was replaced still counts.
    gathering_bytes: usize,
    owed: Vec<O>,
    failed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct AtDisk<O> {
    batch: Arc<Batch>,
    owed: Vec<O>,
}

/// Which batch something waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// The one at the disk.
    ForTheDisk,
    /// The one that gathers.
    ForTheNext,
}

/// What became of the batch at the disk.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled<O> {
    /// It is durable, and so much is owed for it.
    Durable(Arc<Batch>, Vec<O>),
    /// It may not be; nothing of this may be paid, for it or for the batch that gathered behind it.
    Failed(Vec<O>),
}

impl<O> Default for Journal<O> {
    fn default() -> Self {
        Self { at_disk: None, gathering: Batch::default(), gathering_bytes: 0, owed: Vec::new(), failed: false }
    }
}

impl<O> Journal<O> {
    /// Whether a batch failed and the store was not reopened since. Nothing may be added then.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// What gathers while a batch is at the disk, in bytes, about.
    #[must_use]
    pub fn gathering_bytes(&self) -> usize {
        self.gathering_bytes
    }

    /// The digest of `key` in the batch at the disk.
    #[must_use]
    pub fn at_disk(&self, key: &Key) -> Option<Digest> {
        self.at_disk.as_ref()?.batch.records.get(key).map(|(_, record)| record.digest())
    }

    /// The digest of `key` in the batch that gathers.
    #[must_use]
    pub fn gathering(&self, key: &Key) -> Option<Digest> {
        self.gathering.records.get(key).map(|(_, record)| record.digest())
    }

    /// The record of `key` that is not durable yet.
    pub(super) fn on_its_way(&self, key: &Key) -> Option<Record> {
        let at_disk = self.at_disk.as_ref().and_then(|at_disk| at_disk.batch.records.get(key));
        self.gathering.records.get(key).or(at_disk).map(|(_, record)| record.clone())
    }

    /// Adds a record; it replaces one of the same key that gathers, which the caller has found to be smaller. Whoever
    /// waits for that one waits for this one: the record that beat it.
    pub fn add_record(&mut self, slot: Slot, key: Key, record: Record) {
        self.check();
        self.gathering_bytes += record.bytes(&key);
        self.gathering.records.insert(key, (slot, record));
    }

    /// Adds an epoch. What becomes durable never falls: a greater one may be at the disk already, and batches are
    /// written in order, so that without it a later batch would put a smaller epoch in its place. A restart would then
    /// begin an epoch in which stamps were issued and acknowledged.
    pub fn add_epoch(&mut self, epoch: u64) {
        self.check();
        let at_disk = self.at_disk.as_ref().and_then(|at_disk| at_disk.batch.epoch);
        let at_disk = at_disk.filter(|_| !mutants::is_on(Mutant::EpochMayFall));
        self.gathering.epoch = self.gathering.epoch.max(at_disk).max(Some(epoch));
    }

    /// Adds the run that begins, and its epoch.
    pub fn add_incarnation(&mut self, incarnation: Incarnation) {
        self.add_epoch(incarnation.epoch);
        self.gathering.incarnation = Some(incarnation);
    }

    /// Adds what is known of a peer.
    pub fn add_peer(&mut self, peer: NodeId, peer_record: PeerRecord) {
        self.check();
        self.gathering.peers.insert(peer, peer_record);
    }

    /// Adds that every other member has recorded this node.
    pub fn add_formed(&mut self) {
        self.check();
        self.gathering.formed = true;
    }

    /// Owes `what` for a batch.
    pub fn owe(&mut self, what: O, waits: Waits) {
        match waits {
            Waits::ForTheDisk => {
                self.at_disk.as_mut().expect("only a batch at the disk is waited for").owed.push(what);
            }
            Waits::ForTheNext => {
                self.gathering_bytes += size_of::<O>();
                self.owed.push(what);
            }
        }
    }

    /// Hands out the batch that gathered, if the disk is free and there is one.
    pub fn begin(&mut self) -> Option<Arc<Batch>> {
        if self.failed || self.at_disk.is_some() || self.gathering.is_empty() {
            return None;
        }
        let batch = Arc::new(std::mem::take(&mut self.gathering));
        self.gathering_bytes = 0;
        self.at_disk = Some(AtDisk { batch: Arc::clone(&batch), owed: std::mem::take(&mut self.owed) });
        Some(batch)
    }

    /// The batch at the disk is durable, or may not be. `None` where there is none: an answer from before a failure.
    pub fn settle(&mut self, durable: bool) -> Option<Settled<O>> {
        let AtDisk { batch, mut owed } = self.at_disk.take()?;
        if durable {
            return Some(Settled::Durable(batch, owed));
        }
        self.failed = true;
        self.gathering = Batch::default();
        self.gathering_bytes = 0;
        owed.append(&mut self.owed);
        Some(Settled::Failed(owed))
    }

    /// The store was reopened.
    pub fn reopened(&mut self) {
        self.failed = false;
    }

    fn check(&self) {
        assert!(!self.failed, "nothing is added to a journal that has failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_during_a_persist_waits_for_the_next() {
        let mut journal = Journal::default();
        journal.add_epoch(4);
        journal.owe("first", Waits::ForTheNext);
        assert_eq!(journal.begin().unwrap().epoch, Some(4));
        journal.add_epoch(6);
        journal.add_epoch(5);
        journal.owe("second", Waits::ForTheNext);
        journal.owe("first too", Waits::ForTheDisk);
        assert_eq!(journal.begin(), None, "the disk is busy");
        let Some(Settled::Durable(_, owed)) = journal.settle(true) else { panic!("the batch is durable") };
        assert_eq!(owed, ["first", "first too"]);
        assert_eq!(journal.begin().unwrap().epoch, Some(6));
    }

    #[test]
    fn epoch_does_not_fall_behind_the_batch_at_the_disk() {
        let mut journal = Journal::<()>::default();
        journal.add_epoch(10);
        journal.begin();
        journal.add_epoch(8);
        journal.settle(true);
        assert_eq!(journal.begin().unwrap().epoch, Some(10));
    }

    #[test]
    fn failed_batch_pays_nobody_and_stops_the_journal() {
        let mut journal = Journal::default();
        journal.add_epoch(1);
        journal.owe("first", Waits::ForTheNext);
        journal.begin();
        journal.add_epoch(2);
        journal.owe("second", Waits::ForTheNext);
        assert_eq!(journal.settle(false), Some(Settled::Failed(vec!["first", "second"])));
        assert!(journal.has_failed());
        assert_eq!(journal.begin(), None);
        journal.reopened();
        assert_eq!(journal.begin(), None, "what gathered before the failure is gone");
    }
}
