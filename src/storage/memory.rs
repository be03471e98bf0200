//! A store in memory: for tests and temporary clusters.
//!
//! Contract: that of [`Store`], where durable means until the process ends. After a restart the node has no records, no
//! metadata and another store id, so that its peers refuse it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::page::{ListPage, PageBudget};
use super::{Cursor, KeysPage, PageBounds, ReadOutcome, ReadTier, Store, StoreError, StoreStatistics};
use crate::types::{
    Batch, Content, Expiry, Found, Key, KeyRange, Lookup, Meta, ReadKind, Record, Removed, RunningTime, ScannedKeys,
    Slot, SlotRange, SlotRecord, SlotsPage, StoreId, TableId,
};

/// Records and metadata in memory.
#[derive(Debug)]
pub struct MemoryStore {
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    meta: Meta,
    records: BTreeMap<(Slot, Key), Record>,
    /// The index: each key that has a record.
    keys: BTreeSet<Key>,
    /// Since when the node keeps the versions of those records that have a time to live.
    kept_at: BTreeMap<Key, RunningTime>,
    expiries: BTreeSet<Expiry>,
}

impl MemoryStore {
    /// An empty store with this store id. Each start of a node takes a new random id, because the store keeps nothing.
    #[must_use]
    pub fn new(store_id: StoreId) -> Self {
        let state = State {
            meta: Meta::fresh(store_id),
            records: BTreeMap::new(),
            keys: BTreeSet::new(),
            kept_at: BTreeMap::new(),
            expiries: BTreeSet::new(),
        };
        Self { state: RwLock::new(state) }
    }

    // A poisoned lock can be used as it is: nothing panics while part of a batch is applied.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn meta(&self) -> Result<Meta, StoreError> {
        Ok(self.read().meta.clone())
    }

    fn read_up_to(
        &self,
        slot: Slot,
        key: &Key,
        read_kind: ReadKind,
        _tier: ReadTier,
        _value_bytes_max: usize,
    ) -> Result<ReadOutcome, StoreError> {
        let state = self.read();
        let Some(record) = state.records.get(&(slot, key.clone())) else {
            return Ok(ReadOutcome::Done(Lookup::Absent.into()));
        };
        let kept_at = state.kept_at.get(key).copied();
        let lookup = match read_kind {
            ReadKind::Digest => Lookup::Digest(record.digest()),
            ReadKind::Data if record.is_intact(key) => Lookup::Record(record.clone()),
            ReadKind::Data => {
                let message = format!("the record of key {key:?} at {} fails its checksum", record.stamp);
                return Err(StoreError::Damaged { message });
            }
        };
        Ok(ReadOutcome::Done(Found { lookup, kept_at }))
    }

    fn persist(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut state = self.write();
        if let Some(epoch) = batch.epoch {
            assert!(epoch >= state.meta.epoch, "a durable epoch falls from {} to {epoch}", state.meta.epoch);
            state.meta.epoch = epoch;
        }
        if let Some(incarnation) = batch.incarnation
            && state.meta.incarnations.last() != Some(&incarnation)
        {
            state.meta.incarnations.push(incarnation);
        }
        state.meta.bootstrapped |= batch.bootstrapped;
        for (id, peer) in &batch.peers {
            state.meta.peers.insert(id.clone(), *peer);
        }
        state.meta.running = batch.running.or(state.meta.running);
        state.meta.dropped.extend(&batch.dropped);
        state.meta.fence = batch.fence.or(state.meta.fence);
        for (first, last) in &batch.emptied {
            state.records.retain(|(slot, _), _| !(first..=last).contains(&slot));
            state.meta.seals.retain(|slot, _| !(first..=last).contains(&slot));
        }
        state.meta.seals.extend(&batch.seals);
        state.meta.configuration = batch.configuration.clone().or(state.meta.configuration.take());
        state.meta.vote = batch.vote.clone().or(state.meta.vote.take());
        state.meta.taken_over = batch.taken_over.clone().or(state.meta.taken_over.take());
        for (key, (slot, _)) in &batch.forgotten {
            state.records.remove(&(*slot, key.clone()));
            state.keys.remove(key);
        }
        for (key, (slot, record)) in &batch.records {
            state.records.insert((*slot, key.clone()), record.clone());
            match batch.kept_at.get(key) {
                Some(kept_at) => state.kept_at.insert(key.clone(), *kept_at),
                None => state.kept_at.remove(key),
            };
        }
        state.keys.extend(batch.new_keys.iter().cloned());
        for expiry in &batch.expiries_removed {
            state.expiries.remove(expiry);
        }
        state.expiries.extend(batch.expiries());
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn keys(&self, after: Option<&Cursor>, prefix: &str, bounds: PageBounds) -> Result<KeysPage, StoreError> {
        let state = self.read();
        let start = after.map_or(Bound::Unbounded, |cursor| Bound::Excluded((cursor.slot, cursor.key.clone())));
        let mut budget = PageBudget::new(bounds);
        let mut page = KeysPage { keys: Vec::new(), next: None };
        let mut last = None;
        for (position, record) in state.records.range((start, Bound::Unbounded)) {
            let (_, key) = position;
            let listed = record.content != Content::Tombstone && Key::begins_with(key.as_bytes(), prefix.as_bytes());
            if !budget.look() || (listed && !budget.take(key.as_bytes().len())) {
                page.next = last.map(|(slot, key): &(Slot, Key)| Cursor { slot: *slot, key: key.clone() });
                break;
            }
            if listed {
                page.keys.push(key.clone());
            }
            last = Some(position);
        }
        Ok(page)
    }

    fn list(
        &self,
        range: &KeyRange,
        slot_of: &dyn Fn(&Key) -> Slot,
        bounds: PageBounds,
    ) -> Result<ScannedKeys, StoreError> {
        let state = self.read();
        // The prefix itself may be a key. No key of a table has no name: the first one of a table has one byte at least.
        let first =
            Key::from_stored(range.prefix.clone()).or_else(|_| Key::from_stored([&range.prefix[..], &[0]].concat()));
        let first = first.ok();
        let start = match (&range.after, first) {
            (Some(after), first) if first.as_ref().is_none_or(|first| after >= first) => Bound::Excluded(after.clone()),
            (_, Some(first)) => Bound::Included(first),
            (_, None) => Bound::Unbounded,
        };
        let mut page = ListPage::new(bounds);
        let keys = state.keys.range((start, Bound::Unbounded));
        for key in keys.take_while(|key| Key::begins_with(key.as_bytes(), &range.prefix)) {
            let record = state.records.get(&(slot_of(key), key.clone()));
            if !page.look_at(key.clone(), record.map(Record::digest)) {
                return Ok(page.cut_off());
            }
        }
        Ok(page.whole())
    }

    fn slots(&self, range: &SlotRange, entries_max: usize) -> Result<SlotsPage, StoreError> {
        let state = self.read();
        // No key is below it.
        let least = || Key::new("\0").expect("this is a key");
        let from = (range.first, range.after.clone().unwrap_or_else(least));
        let mut records = state.records.range(from..).filter(|((slot, key), _)| range.contains(*slot, key));
        let page = records.by_ref().take(entries_max.max(1));
        let record = |((slot, key), record): (&(Slot, Key), &Record)| SlotRecord {
            slot: *slot,
            key: key.clone(),
            digest: record.digest(),
        };
        let page: Vec<SlotRecord> = page.map(record).collect();
        let intact = page.len();
        Ok(SlotsPage { records: page, has_more: records.next().is_some(), damaged: 0, intact })
    }

    fn expiries(
        &self,
        from: RunningTime,
        after: Option<&Expiry>,
        entries_max: usize,
    ) -> Result<Vec<Expiry>, StoreError> {
        let state = self.read();
        let is_wanted = |entry: &&Expiry| entry.at >= from && after.is_none_or(|after| *entry > after);
        Ok(state.expiries.iter().filter(is_wanted).take(entries_max).cloned().collect())
    }

    fn measure(&self, table: TableId, slot_of: &dyn Fn(&Key) -> Option<Slot>) -> Result<u64, StoreError> {
        let state = self.read();
        let keys = state.keys.iter().filter(|key| key.table() == table);
        let records = keys.filter_map(|key| Some((key, state.records.get(&(slot_of(key)?, key.clone()))?)));
        let values = records.filter(|(_, record)| record.is_value());
        Ok(values.map(|(key, record)| (key.user_bytes().len() + record.content.value_bytes()) as u64).sum())
    }

    fn clean(&self, table: TableId, entries_max: usize, slot_of: &dyn Fn(&Key) -> Slot) -> Result<Removed, StoreError> {
        let mut state = self.write();
        let keys: Vec<Key> = state.keys.iter().filter(|key| key.table() == table).take(entries_max).cloned().collect();
        let mut digests = Vec::new();
        for key in &keys {
            let slot = slot_of(key);
            state.keys.remove(key);
            let record = state.records.remove(&(slot, key.clone()));
            digests.extend(record.map(|record| SlotRecord { slot, key: key.clone(), digest: record.digest() }));
            state.kept_at.remove(key);
        }
        state.expiries.retain(|expiry| !keys.contains(&expiry.key));
        Ok(Removed { records: keys.len(), has_more: keys.len() == entries_max, digests })
    }

    fn statistics(&self) -> StoreStatistics {
        let state = self.read();
        let bytes_of =
            |((_, key), record): (&(Slot, Key), &Record)| key.as_bytes().len() + record.content.value_bytes();
        StoreStatistics {
            keys_estimate: state.records.len() as u64,
            data_bytes: state.records.iter().map(bytes_of).sum::<usize>() as u64,
            ..StoreStatistics::default()
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
