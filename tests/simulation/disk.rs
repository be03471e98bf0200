//! A simulated disk: what is durable, what is on its way, and what an older copy of it holds.
//!
//! A batch is atomic, as RocksDB's are: a torn tail is dropped at start, so that it is on the disk whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate::protocol::placement::Placement;
use quorate::types::{
    Batch, ClusterParameters, Expiry, Found, Key, KeyRange, Lookup, Meta, NodeIndex, ReadKind, Record, Removed,
    RunningTime, ScannedKeys, SlotRange, SlotsPage, StoreId, TableId,
};

use crate::testkit::index::{first_keys, slot_record, slots_page};

/// All that a node has when it starts.
#[derive(Clone, Debug)]
pub struct Folder {
    pub meta: Meta,
    pub records: BTreeMap<Key, Record>,
    /// The index: each key that has a record.
    pub index: BTreeSet<Key>,
    /// Since when the node keeps the versions of those records that have a time to live.
    pub kept_at: BTreeMap<Key, RunningTime>,
    pub expiries: BTreeSet<Expiry>,
}

impl Folder {
    pub fn empty(store_id: StoreId) -> Self {
        Self {
            meta: Meta::fresh(store_id),
            records: BTreeMap::new(),
            index: BTreeSet::new(),
            kept_at: BTreeMap::new(),
            expiries: BTreeSet::new(),
        }
    }
}

/// How the disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Well,
    /// The next batch fails.
    FailsOnce,
    /// Every batch fails until this time.
    FailsUntil(u64),
}

/// One node's disk.
#[derive(Debug)]
pub struct Disk {
    pub folder: Folder,
    pub in_flight: Option<Arc<Batch>>,
    /// A batch that failed and is on the disk all the same, to be seen once the store is reopened.
    pub hidden: Option<Arc<Batch>>,
    /// A batch failed, and the store was not reopened since.
    pub broken: bool,
    pub health: Health,
    pub slow_until: u64,
    pub unreadable_until: u64,
    /// Taken while the node was dead.
    pub copy: Option<Folder>,
}

impl Disk {
    pub fn empty(store_id: StoreId) -> Self {
        Self {
            folder: Folder::empty(store_id),
            in_flight: None,
            hidden: None,
            broken: false,
            health: Health::Well,
            slow_until: 0,
            unreadable_until: 0,
            copy: None,
        }
    }

    /// Makes a batch durable.
    pub fn apply(&mut self, batch: &Batch, placement: &Placement) -> Result<(), String> {
        self.adopts(batch, placement)?;
        let meta = &mut self.folder.meta;
        if let Some(epoch) = batch.epoch {
            if epoch < meta.epoch {
                return Err(format!("the durable epoch falls from {} to {epoch}", meta.epoch));
            }
            meta.epoch = epoch;
        }
        meta.incarnations.extend(batch.incarnation.filter(|incarnation| meta.incarnations.last() != Some(incarnation)));
        for (peer, peer_record) in &batch.peers {
            if let Some(known) = meta.peers.insert(peer.clone(), *peer_record)
                && (known.store_id != peer_record.store_id || known.incarnation.epoch > peer_record.incarnation.epoch)
            {
                return Err(format!("what is known of peer {peer} went from {known:?} back to {peer_record:?}"));
            }
        }
        meta.bootstrapped |= batch.bootstrapped;
        if let Some(key) = batch.records.keys().find(|key| meta.dropped.contains(&key.table())) {
            return Err(format!("a record of {key} comes after the drop of its table {}", key.table()));
        }
        meta.dropped.extend(&batch.dropped);
        if batch.fence.is_some() && batch.fence < meta.fence {
            return Err(format!("the fence falls from {:?} to {:?}", meta.fence, batch.fence));
        }
        meta.fence = batch.fence.or(meta.fence);
        for (slot, seal) in &batch.seals {
            if meta.seals.insert(*slot, *seal).is_some_and(|before| before > *seal) {
                return Err(format!("the seal of slot {slot} falls to {seal}"));
            }
        }
        for (key, (slot, digest)) in &batch.forgotten {
            let record = self.folder.records.remove(key).map(|record| record.digest());
            if record.as_ref() != Some(digest) || !digest.is_sealed_away(meta.seals.get(slot).copied()) {
                return Err(format!(
                    "{record:?} of {key} was forgotten, in a slot with seal {:?}",
                    meta.seals.get(slot)
                ));
            }
            self.folder.index.remove(key);
        }
        for (key, (_, record)) in &batch.records {
            if record.tag().clock().epoch > meta.epoch {
                return Err(format!("{} of {key} is durable before its epoch", record.stamp));
            }
            if let Some(old) = self.folder.records.insert(key.clone(), record.clone())
                && (old.tag() > record.tag() || old.digest().conflicts_with(&record.digest()))
            {
                return Err(format!("{} of {key} was replaced by {}", old.stamp, record.stamp));
            }
        }
        self.folder.index.extend(batch.new_keys.iter().cloned());
        if let Some(key) = batch.records.keys().find(|key| !self.folder.index.contains(key)) {
            return Err(format!("{key} has a record and no entry in the index"));
        }
        let Folder { meta, records, kept_at, expiries, .. } = &mut self.folder;
        meta.running = batch.running.or(meta.running);
        kept_at.retain(|key, _| !batch.records.contains_key(key));
        kept_at.extend(batch.kept_at.iter().map(|(key, count)| (key.clone(), *count)));
        for expiry in &batch.expiries_removed {
            if !expiries.remove(expiry) {
                return Err(format!("{expiry:?} was removed from the index, where it was not"));
            }
        }
        expiries.extend(batch.expiries());
        // The index is that of the records, entry for entry.
        for key in batch.records.keys() {
            let record = &records[key];
            let expected = record.ttl.map(|ttl| (kept_at[key].expiry(ttl), record.version()));
            let found: Vec<_> = expiries.iter().filter(|expiry| expiry.key == *key).collect();
            if found.len() > 1 || found.first().map(|expiry| (expiry.at, expiry.version.clone())) != expected {
                return Err(format!("the index has {found:?} of {key}, whose record is {record:?}"));
            }
        }
        Ok(())
    }

    /// Removes what a batch empties, and keeps what it says of members.
    fn adopts(&mut self, batch: &Batch, placement: &Placement) -> Result<(), String> {
        let Folder { meta, records, kept_at, expiries, .. } = &mut self.folder;
        let is_emptied = |slot| batch.emptied.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        if !batch.emptied.is_empty() {
            let goes = |key: &Key| is_emptied(placement.slot(key));
            records.retain(|key, _| !goes(key));
            kept_at.retain(|key, _| !goes(key));
            expiries.retain(|expiry| !goes(&expiry.key));
            meta.seals.retain(|slot, _| !is_emptied(*slot));
            if let Some((key, _)) = batch.records.iter().find(|(_, (slot, _))| is_emptied(*slot)) {
                return Err(format!("a batch empties the slot of {key}, and has a record of it"));
            }
        }
        if let Some(configuration) = &batch.configuration {
            if meta.configuration.as_ref().is_some_and(|before| before.number > configuration.number) {
                return Err(format!("configuration {} comes after a greater one", configuration.number));
            }
            meta.configuration = Some(Arc::clone(configuration));
        }
        meta.vote = batch.vote.clone().or(meta.vote.take());
        meta.taken_over = batch.taken_over.clone().or(meta.taken_over.take());
        Ok(())
    }

    /// The first keys of `range`, as a list reads them.
    pub fn scan(&self, range: &KeyRange, keys_max: usize) -> ScannedKeys {
        first_keys(&self.folder.index, &self.folder.records, range, keys_max)
    }

    /// A page of the index of expiries.
    pub fn expiries(&self, from: RunningTime, after: Option<&Expiry>, entries_max: usize) -> Vec<Expiry> {
        let is_wanted = |entry: &&Expiry| entry.at >= from && after.is_none_or(|after| *entry > after);
        self.folder.expiries.iter().filter(is_wanted).take(entries_max).cloned().collect()
    }

    /// Removes records of a dropped table.
    pub fn clean(&mut self, placement: &Placement, table: TableId, entries_max: usize) -> Removed {
        let Folder { records, index, kept_at, expiries, .. } = &mut self.folder;
        let keys: BTreeSet<Key> = index.iter().filter(|key| key.table() == table).take(entries_max).cloned().collect();
        let digests = keys.iter().filter_map(|key| Some(slot_record(placement, key, records.get(key)?))).collect();
        index.retain(|key| !keys.contains(key));
        records.retain(|key, _| !keys.contains(key));
        kept_at.retain(|key, _| !keys.contains(key));
        expiries.retain(|expiry| !keys.contains(&expiry.key));
        Removed { records: keys.len(), has_more: keys.len() == entries_max, digests }
    }

    /// The first records of some slots, as they are counted and compared.
    pub fn slots(&self, placement: &Placement, range: &SlotRange, entries_max: usize) -> SlotsPage {
        slots_page(self.folder.records.iter(), placement, range, entries_max)
    }

    /// The durable record of `key`.
    pub fn read(&self, key: &Key, kind: ReadKind) -> Found {
        let lookup = match (self.folder.records.get(key), kind) {
            (None, _) => Lookup::Absent,
            (Some(record), ReadKind::Digest) => Lookup::Digest(record.digest()),
            (Some(record), ReadKind::Data) => Lookup::Record(record.clone()),
        };
        Found { lookup, kept_at: self.folder.kept_at.get(key).copied() }
    }

    /// Whether this folder has recorded a run of `peer` that began with `epoch` or later.
    pub fn knows_of(&self, parameters: &ClusterParameters, peer: NodeIndex, epoch: u64) -> bool {
        self.folder.meta.peers.get(parameters.id(peer)).is_some_and(|known| known.incarnation.epoch >= epoch)
    }
}
