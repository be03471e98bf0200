//! Group commit: one batch is written at a time, and everything that arrives meanwhile shares the next one and its fsync.
//!
//! Invariants: an acknowledgement is given only once the batch that it waits for is durable. When a batch fails, nobody who
//! waits for it or for the next one is acknowledged, and nothing more is added until the store was reopened: after a
//! failed fsync nobody knows what is on disk (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).
//!
//! A batch is bounded by its node, which drops the requests of peers while too much waits for a slow disk.

use std::sync::Arc;

use crate::mutants::{must, rule};
use crate::types::{
    Batch, Clock, Configuration, Digest, Expiry, Incarnation, Key, NodeId, PeerRecord, Record, RunningTime, Slot,
    TableId, TakenOver, Vote,
};

/// Gathers batches. `A` is an acknowledgement that waits for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupCommit<A> {
    in_flight: Option<InFlight<A>>,
    next: Batch,
    /// The size of the next batch in bytes, about. A record that was replaced still counts.
    next_bytes: usize,
    next_acks: Vec<A>,
    failed: bool,
}

/// The batch that is being written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct InFlight<A> {
    batch: Arc<Batch>,
    acks: Vec<A>,
}

/// The batch that an acknowledgement waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckAfter {
    /// The one that is being written.
    InFlight,
    /// The one after it.
    Next,
}

impl<A> Default for GroupCommit<A> {
    fn default() -> Self {
        Self { in_flight: None, next: Batch::default(), next_bytes: 0, next_acks: Vec::new(), failed: false }
    }
}

impl<A> GroupCommit<A> {
    /// Whether a batch failed and the store was not reopened since. Nothing may be added then.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The size of the next batch in bytes, about.
    #[must_use]
    pub fn next_bytes(&self) -> usize {
        self.next_bytes
    }

    /// The digest of `key` in the batch that is being written.
    #[must_use]
    pub fn in_flight(&self, key: &Key) -> Option<Digest> {
        self.in_flight.as_ref()?.batch.records.get(key).map(|(_, record)| record.digest())
    }

    /// The digest of `key` in the next batch.
    #[must_use]
    pub fn next(&self, key: &Key) -> Option<Digest> {
        self.next.records.get(key).map(|(_, record)| record.digest())
    }

    /// Whether the next batch has a record of `key`.
    #[must_use]
    pub fn is_in_next(&self, key: &Key) -> bool {
        self.next.records.contains_key(key)
    }

    /// Adds a record to the next batch. It replaces one of the same key there, which the caller has found to be smaller:
    /// those who wait for the smaller record then wait for the one that superseded it.
    /// `is_first`: neither the store nor a batch has a record of the key, so that the index of keys gains the key.
    pub fn add_record(&mut self, slot: Slot, key: Key, record: Record, is_first: bool) {
        self.check();
        self.next_bytes += record.bytes(&key);
        if is_first {
            self.next.new_keys.insert(key.clone());
        }
        self.next.records.insert(key, (slot, record));
    }

    /// Since when this node keeps the version of `key` in the batch that is being written.
    #[must_use]
    pub fn in_flight_kept_at(&self, key: &Key) -> Option<RunningTime> {
        self.in_flight.as_ref()?.batch.kept_at.get(key).copied()
    }

    /// Since when this node keeps the version of `key` in the next batch.
    #[must_use]
    pub fn next_kept_at(&self, key: &Key) -> Option<RunningTime> {
        self.next.kept_at.get(key).copied()
    }

    /// Says since when this node keeps the version of the record of `key` in the next batch, and which entry of the index
    /// of expiries the record replaces.
    pub fn add_expiry(&mut self, key: &Key, kept_at: Option<RunningTime>, replaced: Option<Expiry>) {
        self.check();
        match kept_at {
            Some(kept_at) => self.next.kept_at.insert(key.clone(), kept_at),
            None => self.next.kept_at.remove(key),
        };
        self.next.expiries_removed.extend(replaced);
    }

    /// Adds the node's count of the time that it ran.
    pub fn add_running(&mut self, running: RunningTime) {
        self.check();
        self.next.running = Some(running);
    }

    /// Whether the next batch has a record with a time to live.
    #[must_use]
    pub fn expires_any(&self) -> bool {
        !self.next.kept_at.is_empty()
    }

    /// Adds an epoch to the next batch. A durable epoch never falls: a greater one may be in flight, and batches are
    /// written in order, so that a smaller epoch in the next batch would replace it. After a restart, the node would begin
    /// an epoch in which it has already issued stamps.
    pub fn add_epoch(&mut self, epoch: u64) {
        self.check();
        let of_batch = self.in_flight.as_ref().and_then(|in_flight| in_flight.batch.epoch);
        let in_flight = rule!(EpochMayFall, of_batch, not None);
        self.next.epoch = self.next.epoch.max(in_flight).max(Some(epoch));
    }

    /// Adds the incarnation that begins, and its epoch.
    pub fn add_incarnation(&mut self, incarnation: Incarnation) {
        self.add_epoch(incarnation.epoch);
        self.next.incarnation = Some(incarnation);
    }

    /// Adds the store id and incarnation of a peer.
    pub fn add_peer(&mut self, peer: NodeId, peer_record: PeerRecord) {
        self.check();
        self.next.peers.insert(peer, peer_record);
    }

    /// Adds tables that were dropped.
    pub fn add_dropped(&mut self, tables: impl IntoIterator<Item = TableId>) {
        self.check();
        self.next.dropped.extend(tables);
    }

    /// Adds the configuration that the node adopts, and slots that it gains, as ranges: what it holds of them goes.
    pub fn add_configuration(&mut self, configuration: Arc<Configuration>, emptied: Vec<(Slot, Slot)>) {
        self.check();
        self.next.configuration = Some(configuration);
        self.add_emptied(emptied);
    }

    /// Adds slots that are emptied, as ranges that ascend.
    pub fn add_emptied(&mut self, emptied: Vec<(Slot, Slot)>) {
        self.check();
        self.next.emptied = merged(std::mem::take(&mut self.next.emptied), emptied);
        self.empty();
    }

    /// Adds what this node has promised and accepted in a vote.
    pub fn add_vote(&mut self, vote: Vote) {
        self.check();
        self.next.vote = Some(vote);
    }

    /// Adds how far this node has taken over the slots that it gains.
    pub fn add_taken_over(&mut self, taken_over: TakenOver) {
        self.check();
        self.next.taken_over = Some(taken_over);
    }

    /// Takes out what the next batch has of the slots that `is_gained` names. Those who wait for it are answered under a newer
    /// configuration, where the answer counts for nothing.
    pub fn remove(&mut self, is_gained: impl Fn(Slot) -> bool) {
        let next = &mut self.next;
        let removed: Vec<Key> =
            next.records.iter().filter(|(_, (slot, _))| is_gained(*slot)).map(|(key, _)| key.clone()).collect();
        for key in removed {
            next.records.remove(&key);
            next.new_keys.remove(&key);
            next.kept_at.remove(&key);
        }
        next.forgotten.retain(|_, (slot, _)| !is_gained(*slot));
        next.seals.retain(|slot, _| !is_gained(*slot));
    }

    /// Takes out what the next batch has of the slots that it empties.
    fn empty(&mut self) {
        let emptied = std::mem::take(&mut self.next.emptied);
        if !emptied.is_empty() {
            self.remove(|slot| is_within(slot, &emptied));
        }
        self.next.emptied = emptied;
    }

    /// Adds a clock up to which the node takes in no new writes. Like an epoch it never falls.
    pub fn add_fence(&mut self, fence: Clock) {
        self.check();
        let in_flight = self.in_flight.as_ref().and_then(|in_flight| in_flight.batch.fence);
        self.next.fence = self.next.fence.max(in_flight).max(Some(fence));
    }

    /// Adds the seal of a slot. It never falls.
    pub fn add_seal(&mut self, slot: Slot, seal: Clock) {
        self.check();
        let in_flight = self.in_flight.as_ref().and_then(|in_flight| in_flight.batch.seals.get(&slot)).copied();
        let next = self.next.seals.entry(slot).or_insert(seal);
        *next = seal.max(*next).max(in_flight.unwrap_or_default());
    }

    /// Adds a deletion that the node forgets: the one that the store holds of `key`.
    pub fn add_forgotten(&mut self, slot: Slot, key: Key, digest: Digest) {
        self.check();
        self.next_bytes += key.as_bytes().len() + size_of::<Digest>();
        self.next.forgotten.insert(key, (slot, digest));
    }

    /// Whether the next batch forgets the deletion of `key`.
    #[must_use]
    pub fn is_forgotten_in_next(&self, key: &Key) -> bool {
        self.next.forgotten.contains_key(key)
    }

    /// Whether the next batch has a record of `slot`.
    #[must_use]
    pub fn is_slot_in_next(&self, slot: Slot) -> bool {
        self.next.records.values().any(|(of_record, _)| *of_record == slot)
    }

    /// Whether the batch that is being written has a record of `slot`.
    #[must_use]
    pub fn is_slot_in_flight(&self, slot: Slot) -> bool {
        let records = self.in_flight.iter().flat_map(|in_flight| in_flight.batch.records.values());
        records.map(|(of_record, _)| *of_record).any(|of_record| of_record == slot)
    }

    /// Adds that the cluster is bootstrapped: every other node has recorded this one.
    pub fn add_bootstrapped(&mut self) {
        self.check();
        self.next.bootstrapped = true;
    }

    /// Keeps `ack` until a batch is durable or has failed.
    ///
    /// # Panics
    /// When it is to wait for a batch in flight and there is none.
    pub fn ack_after(&mut self, after: AckAfter, ack: A) {
        match after {
            AckAfter::InFlight => self.in_flight.as_mut().expect("a batch is in flight").acks.push(ack),
            AckAfter::Next => {
                self.next_bytes += size_of::<A>();
                self.next_acks.push(ack);
            }
        }
    }

    /// The configuration in the batch that is being written.
    #[must_use]
    pub fn configuration_in_flight(&self) -> Option<u64> {
        self.in_flight.as_ref()?.batch.configuration.as_ref().map(|configuration| configuration.number)
    }

    /// Takes the next batch to write, unless one is in flight or there is nothing to write.
    pub fn begin(&mut self) -> Option<Arc<Batch>> {
        if self.failed || self.in_flight.is_some() || self.next.is_empty() {
            return None;
        }
        self.empty();
        let batch = std::mem::take(&mut self.next);
        #[cfg(feature = "mutants")]
        let batch = self.put_index_off(batch);
        let batch = Arc::new(batch);
        self.next_bytes = 0;
        self.in_flight = Some(InFlight { batch: Arc::clone(&batch), acks: std::mem::take(&mut self.next_acks) });
        Some(batch)
    }

    /// The batch in flight is durable: takes it, and the acknowledgements to give now. `None` where no batch is in flight:
    /// that is the answer to a batch from before a failure.
    pub fn complete(&mut self) -> Option<(Arc<Batch>, Vec<A>)> {
        self.in_flight.take().map(|InFlight { batch, acks }| (batch, acks))
    }

    /// The batch in flight failed: takes all acknowledgements, which must be refused, and drops the next batch too.
    /// `None` where no batch is in flight.
    pub fn abort(&mut self) -> Option<Vec<A>> {
        let InFlight { mut acks, .. } = self.in_flight.take()?;
        must!(FailureIsForgotten, self.failed = true);
        self.next = Batch::default();
        self.next_bytes = 0;
        acks.append(&mut self.next_acks);
        Some(acks)
    }

    /// The store was reopened after a failure.
    pub fn reopened(&mut self) {
        self.failed = false;
    }

    fn check(&self) {
        assert!(!self.failed, "nothing is added after a failure");
    }

    /// Writes the entries of the index with the batch after that of their records: wrong.
    #[cfg(feature = "mutants")]
    fn put_index_off(&mut self, mut batch: Batch) -> Batch {
        if crate::mutants::is_on(crate::mutants::Mutant::IndexInAnotherBatch) {
            let new_keys = std::mem::take(&mut batch.new_keys);
            (self.next.new_keys, batch.new_keys) =
                new_keys.into_iter().partition(|key| batch.records.contains_key(key));
        }
        batch
    }

    /// The record of `key` that is not durable yet: no read may show it.
    #[cfg(feature = "mutants")]
    pub(super) fn not_durable(&self, key: &Key) -> Option<Record> {
        let in_flight = self.in_flight.as_ref().and_then(|in_flight| in_flight.batch.records.get(key));
        self.next.records.get(key).or(in_flight).map(|(_, record)| record.clone())
    }
}

/// The slots that either has, as ranges that ascend.
fn merged(mut ranges: Vec<(Slot, Slot)>, others: Vec<(Slot, Slot)>) -> Vec<(Slot, Slot)> {
    if ranges.is_empty() {
        return others;
    }
    ranges.extend(others);
    ranges.sort_unstable();
    let mut merged: Vec<(Slot, Slot)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, before)) if first <= *before => *before = last.max(*before),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// Whether `slot` is in one of these ranges, which ascend.
fn is_within(slot: Slot, ranges: &[(Slot, Slot)]) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= slot);
    after > 0 && slot <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_during_a_write_wait_for_the_next_batch() {
        let mut commit = GroupCommit::default();
        commit.add_epoch(4);
        commit.ack_after(AckAfter::Next, "first");
        assert_eq!(commit.begin().unwrap().epoch, Some(4));
        commit.add_epoch(6);
        commit.add_epoch(5);
        commit.ack_after(AckAfter::Next, "second");
        commit.ack_after(AckAfter::InFlight, "first too");
        assert_eq!(commit.begin(), None, "a batch is in flight");
        let (_, acks) = commit.complete().unwrap();
        assert_eq!(acks, ["first", "first too"]);
        assert_eq!(commit.begin().unwrap().epoch, Some(6));
    }

    #[test]
    fn ranges_that_are_emptied_together_are_merged() {
        let slots = |ranges: &[(u16, u16)]| -> Vec<(Slot, Slot)> {
            ranges.iter().map(|(first, last)| (Slot(*first), Slot(*last))).collect()
        };
        assert_eq!(merged(slots(&[(3, 5), (9, 9)]), slots(&[(0, 0), (4, 8)])), slots(&[(0, 0), (3, 8), (9, 9)]));
        assert_eq!(merged(Vec::new(), slots(&[(7, 7)])), slots(&[(7, 7)]));
    }

    #[test]
    fn epoch_does_not_fall_behind_the_batch_in_flight() {
        let mut commit = GroupCommit::<()>::default();
        commit.add_epoch(10);
        commit.begin();
        commit.add_epoch(8);
        commit.complete();
        assert_eq!(commit.begin().unwrap().epoch, Some(10));
    }

    #[test]
    fn failed_batch_takes_the_next_one_with_it() {
        let mut commit = GroupCommit::default();
        commit.add_epoch(1);
        commit.ack_after(AckAfter::Next, "first");
        commit.begin();
        commit.add_epoch(2);
        commit.ack_after(AckAfter::Next, "second");
        assert_eq!(commit.abort(), Some(vec!["first", "second"]));
        assert!(commit.has_failed());
        assert_eq!((commit.begin(), commit.abort()), (None, None));
        commit.reopened();
        assert_eq!(commit.begin(), None, "the additions from before the failure are gone");
    }
}
