//! The store of real nodes: one RocksDB with a column family each for metadata, records, the index of keys and large values.
//!
//! Contract: that of [`Store`]. A batch is one write to RocksDB's log over all column families, with one fsync, so a stamp
//! never becomes durable without its record. Metadata (epochs, incarnations, peers) is fsynced in either durability mode.
//!
//! A record is one entry, found by one lookup, unless its value is large. A large value lives in blob files, in a column
//! family of its own, with a copy of the stamp. Writes and most reads only compare stamps, and listing keys needs no
//! values: none of them reads a blob. A record that is read from either family is whole. When a small value or a tombstone
//! replaces a large value, the same write deletes the blob.
//!
//! The index has an entry for each key that has a record, in the order of the keys' bytes; records lie in the order of
//! slots. The write of a key's first record adds its entry. Overwrites and deletions do not touch the index.
//!
//! A failed write: RocksDB writes and syncs its log before the memtable, so reads do not show the batch. Nobody knows
//! whether it is on disk. The store refuses further writes until [`Store::reopen`] has run recovery. Recovery reads the
//! log, writes its batches into new tables, and fsyncs the tables and then a new manifest. This holds because
//! `avoid_flush_during_recovery`, `optimize_manifest_for_recovery` and `reuse_manifest_on_open` are off; they must stay
//! off. So everything that is shown after an open has been fsynced by this process, even if it was only in the system's
//! page cache before.
//!
//! Damage: recovery cuts off a torn last record of the log, which was never acknowledged. Any other damage is refused, in
//! part by `log_check`, because RocksDB takes some damage for a torn end.
//!
//! Caveat: a last record of full length with a wrong checksum is refused too, because it may be damage to an acknowledged
//! write. The same holds for a record of several blocks if a loss of power kept a later block and lost an earlier one.

mod emptied;
mod errors;
mod lookup;
mod meta;
mod options;
mod probe;
mod sample;
mod scrub;

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::SystemTime;

use rocksdb::statistics::{Histogram, Ticker};
use rocksdb::{ColumnFamily, DB, ErrorKind, FlushOptions, Options, ReadOptions, WriteBatch, properties};

pub use options::RocksOptions;

use self::errors::{LookupError, damaged, damaged_entry, failure};
use self::lookup::{find_digest, find_record};
use self::meta::read_meta;
use self::options::{BLOBS, EXPIRY, Families, KEYS, META, RECORDS, database_options, write_options};
use self::probe::{folder_bytes, stores_aside};
use super::codec::{self, DecodeError, FORMAT, FORMAT_WITH_CONFIGURATION, MetaEntry};
use super::page::{ListPage, PageBudget};
use super::record_cache::RecordCache;
use super::{
    Cursor, DiskRoom, KeysPage, PageBounds, ReadOutcome, ReadTier, ScrubPlace, Store, StoreError, StoreStatistics,
};
use crate::types::{
    Batch, Digest, Durability, Expiry, Key, KeyRange, Meta, ReadKind, Removed, RunningTime, ScannedKeys, Slot,
    SlotRange, SlotRecord, SlotsPage, StoreId, TableId,
};

/// How much opening a database writes beside the contents of its write buffers, at most: a manifest, the first blocks of a
/// log, the ends of tables.
const OPEN_BYTES_MAX: usize = 2 << 20;
/// What a write of an entry of the index takes beside the key, at most.
const INDEX_ENTRY_BYTES: usize = 16;
/// After so many records were forgotten, the write buffers are written into tables: one MB of them, at most twice in a second.
const FORGOTTEN_UNTIL_FLUSH: usize = 10_000;
/// So many keys of a list are looked up together.
const LIST_LOOKUPS: usize = 256;

/// Records and metadata in a RocksDB.
///
/// The folder is locked while the store is open. Dropping the store fsyncs the writes that were not fsynced yet.
pub struct RocksStore {
    path: PathBuf,
    durability: Durability,
    store_id: StoreId,
    /// Kept because they hold the statistics, which must outlive every reopening.
    options: Options,
    families: Families,
    from_memory: ReadOptions,
    from_disk: ReadOptions,
    /// `None` during a reopening, and after a failed one.
    database: RwLock<Option<DB>>,
    /// Whether there may be a large value: there was one at the open, or one was written since.
    has_blobs: AtomicBool,
    cache: RecordCache,
    /// The greatest epoch that was read or written. It never falls.
    epoch: AtomicU64,
    /// Whether an earlier write failed.
    suspended: AtomicBool,
    /// The last entry of the index that was removed of a dropped table which has more: the next piece begins there, and
    /// does not step over what RocksDB keeps of the removed ones.
    cleaned_to: Mutex<Option<Vec<u8>>>,
    /// How many records were forgotten since the write buffers were written into tables last because of that.
    forgotten: AtomicUsize,
    /// Held while the store is reopened: RocksDB's lock file would refuse a second reopening at the same time.
    reopening: Mutex<()>,
}

impl RocksStore {
    /// Creates a store that holds only its store id, durably.
    ///
    /// # Errors
    /// When there is a store already, or the disk fails.
    pub fn create(path: &Path, settings: &RocksOptions, store_id: StoreId) -> Result<Self, StoreError> {
        let families = Families::new(settings);
        let mut options = database_options(path, settings);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_error_if_exists(true);
        let database = families.open(&options, path)?;
        let mut batch = WriteBatch::default();
        for entry in [MetaEntry::Format(FORMAT), MetaEntry::StoreId(store_id)] {
            let (name, value) = entry.encode();
            batch.put_cf(family(&database, META), name, value);
        }
        database.write_opt(batch, &write_options(true)).map_err(|error| failure(&error))?;
        // A later reopening must not take an empty folder for a store.
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        options.set_error_if_exists(false);
        Ok(Self::new(path, settings, (store_id, 0), options, families, database))
    }

    /// Opens a store that [`RocksStore::create`] made.
    ///
    /// # Errors
    /// When there is no store, another process has it open, it is damaged or of another format, or the disk fails.
    pub fn open(path: &Path, settings: &RocksOptions) -> Result<Self, StoreError> {
        let families = Families::new(settings);
        let options = database_options(path, settings);
        let database = families.open(&options, path)?;
        let meta = read_meta(&database)?;
        Ok(Self::new(path, settings, (meta.store_id, meta.epoch), options, families, database))
    }

    /// The identity of the data folder that the store belongs to.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// Refuses when the disk has no space for what a reopening writes: recovery turns the log into tables and begins a new
    /// log.
    fn check_space(&self, database: &DB) -> Result<(), StoreError> {
        let in_buffers = sum_over_families(database, properties::CUR_SIZE_ALL_MEM_TABLES.as_c_str());
        let needed = usize::try_from(in_buffers).unwrap_or(usize::MAX).saturating_add(OPEN_BYTES_MAX);
        probe::reserve(&self.path, needed).map_err(|error| StoreError::NoSpace {
            message: format!("reopening the store in {} needs {needed} bytes: {error}", self.path.display()),
        })
    }

    fn new(
        path: &Path,
        settings: &RocksOptions,
        (store_id, epoch): (StoreId, u64),
        options: Options,
        families: Families,
        database: DB,
    ) -> Self {
        let mut from_memory = ReadOptions::default();
        from_memory.set_read_tier(rocksdb::ReadTier::BlockCache);
        // An open has written all that the log held into tables.
        let has_blobs = database
            .property_int_value_cf(family(&database, BLOBS), properties::LIVE_SST_FILES_SIZE.as_c_str())
            .map_or(true, |bytes| bytes.is_none_or(|bytes| bytes > 0));
        Self {
            path: path.to_path_buf(),
            durability: settings.durability,
            store_id,
            options,
            families,
            from_memory,
            from_disk: ReadOptions::default(),
            database: RwLock::new(Some(database)),
            has_blobs: AtomicBool::new(has_blobs),
            cache: RecordCache::new(settings.record_cache_bytes),
            epoch: AtomicU64::new(epoch),
            suspended: AtomicBool::new(false),
            cleaned_to: Mutex::new(None),
            forgotten: AtomicUsize::new(0),
            reopening: Mutex::new(()),
        }
    }

    /// The digests of `keys`, where they have records.
    fn digests(
        &self,
        database: &DB,
        keys: &[Key],
        slot_of: &dyn Fn(&Key) -> Slot,
    ) -> Result<Vec<Option<Digest>>, StoreError> {
        let mut digests = vec![None; keys.len()];
        let mut rest = Vec::with_capacity(keys.len());
        for (place, key) in keys.iter().enumerate() {
            let entry_key = codec::entry_key(slot_of(key), key.as_bytes());
            match self.cache.get(&entry_key, key, ReadKind::Digest) {
                Some(found) => digests[place] = found.lookup.digest(),
                None => rest.push((entry_key, place)),
            }
        }
        // In their order on disk, so that keys of one block share a read.
        rest.sort_unstable();
        let mut options = ReadOptions::default();
        // The records of neighbouring keys lie far apart: their blocks would evict those that are read often.
        options.fill_cache(false);
        let records = family(database, RECORDS);
        let entry_keys = rest.iter().map(|(entry_key, _)| entry_key);
        let found = database.batched_multi_get_cf_opt(records, entry_keys, true, &options);
        for ((entry_key, place), found) in rest.iter().zip(found) {
            let Some(found) = found.map_err(|error| failure(&error))? else { continue };
            let digest = codec::decode_digest(&found).map_err(|error| damaged_entry(entry_key, &error))?;
            digests[*place] = Some(digest);
        }
        Ok(digests)
    }

    /// Records were forgotten. Their space comes back when RocksDB merges tables. It has no reason to where little else is written,
    /// so that it is given one from time to time. It may fail: the next one does as well.
    fn give_space_back(&self, database: &DB, forgotten: usize) {
        if self.forgotten.fetch_add(forgotten, Ordering::Relaxed) + forgotten < FORGOTTEN_UNTIL_FLUSH {
            return;
        }
        self.forgotten.store(0, Ordering::Relaxed);
        let families = [META, RECORDS, KEYS, BLOBS, EXPIRY].map(|name| family(database, name));
        let mut options = FlushOptions::default();
        options.set_wait(false);
        if let Err(error) = database.flush_cfs_opt(&families, &options) {
            tracing::debug!(%error, "could not begin to give the space of deleted keys back");
        }
    }

    // A panic under one of these locks leaves no half-changed state behind, so a poisoned lock can be used as it is.
    fn database(&self) -> RwLockReadGuard<'_, Option<DB>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, database: Option<DB>) -> Option<DB> {
        std::mem::replace(&mut *self.database.write().unwrap_or_else(PoisonError::into_inner), database)
    }
}

impl Store for RocksStore {
    fn meta(&self) -> Result<Meta, StoreError> {
        read_meta(self.database().as_ref().ok_or(StoreError::Closed)?)
    }

    fn read_up_to(
        &self,
        slot: Slot,
        key: &Key,
        read_kind: ReadKind,
        tier: ReadTier,
        value_bytes_max: usize,
    ) -> Result<ReadOutcome, StoreError> {
        let (guard, options) = match tier {
            ReadTier::Disk => (self.database(), &self.from_disk),
            // The lock may be held for long: a reopening takes it after the reads that are under way.
            ReadTier::Memory => match self.database.try_read() {
                Ok(guard) => (guard, &self.from_memory),
                Err(TryLockError::WouldBlock) => return Ok(ReadOutcome::WouldBlock),
                Err(TryLockError::Poisoned(poisoned)) => (poisoned.into_inner(), &self.from_memory),
            },
        };
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let entry_key = codec::entry_key(slot, key.as_bytes());
        if let Some(found) = self.cache.get(&entry_key, key, read_kind) {
            return Ok(ReadOutcome::Done(found));
        }
        let version = self.cache.version();
        let found = match read_kind {
            ReadKind::Digest => find_digest(database, &entry_key, options),
            ReadKind::Data => find_record(database, key, &entry_key, options, value_bytes_max),
        };
        let found = match found {
            Ok(found) => found,
            Err(LookupError::WouldBlock) => return Ok(ReadOutcome::WouldBlock),
            Err(LookupError::TooLarge(value_bytes)) => return Ok(ReadOutcome::TooLarge { value_bytes }),
            Err(LookupError::Damaged(family, error)) => {
                return Err(damaged(family, &format!("key {key:?} of slot {slot}"), &error));
            }
            Err(LookupError::Failed(error)) => return Err(failure(&error)),
        };
        self.cache.insert_read(version, entry_key, &found);
        Ok(ReadOutcome::Done(found))
    }

    fn persist(&self, batch: &Batch) -> Result<(), StoreError> {
        let guard = self.database();
        if self.suspended.load(Ordering::SeqCst) {
            return Err(StoreError::Suspended);
        }
        // Only a reopening closes the database, and it suspends the store first.
        let database = guard.as_ref().ok_or(StoreError::Suspended)?;
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(epoch) = batch.epoch {
            let before = self.epoch.fetch_max(epoch, Ordering::SeqCst);
            assert!(epoch >= before, "a durable epoch falls from {before} to {epoch}");
        }
        let metadata = [
            batch.epoch.map(MetaEntry::Epoch),
            batch.incarnation.map(MetaEntry::Incarnation),
            batch.bootstrapped.then_some(MetaEntry::Bootstrapped),
            batch.running.map(MetaEntry::Running),
            batch.fence.map(MetaEntry::Fence),
            batch.configuration.as_ref().map(|_| MetaEntry::Format(FORMAT_WITH_CONFIGURATION)),
            batch.configuration.clone().map(MetaEntry::Configuration),
            batch.vote.clone().map(MetaEntry::Vote),
            batch.taken_over.clone().map(MetaEntry::TakenOver),
        ];
        let peers = batch.peers.iter().map(|(id, peer)| MetaEntry::Peer(id.clone(), *peer));
        // With its full capacity from the start: each growth would copy everything.
        let record_bytes: usize = batch.records.iter().map(|(key, (_, record))| record.bytes(key)).sum();
        let index_bytes: usize = batch.new_keys.iter().map(|key| INDEX_ENTRY_BYTES + key.as_bytes().len()).sum();
        let mut writes = WriteBatch::with_capacity_bytes(record_bytes + index_bytes);
        let emptied = emptied::add(database, &batch.emptied, self.has_blobs.load(Ordering::Relaxed), &mut writes)?;
        let dropped = batch.dropped.iter().map(|table| MetaEntry::Dropped(*table));
        let seals = batch.seals.iter().map(|(slot, seal)| MetaEntry::Seal(*slot, *seal));
        for entry in metadata.into_iter().flatten().chain(peers).chain(dropped).chain(seals) {
            let (name, value) = entry.encode();
            writes.put_cf(family(database, META), name, value);
        }
        let (records, blobs) = (family(database, RECORDS), family(database, BLOBS));
        // A deletion has no blob and never expires.
        let mut forgotten = Vec::with_capacity(batch.forgotten.len());
        for (key, (slot, _)) in &batch.forgotten {
            let entry_key = codec::entry_key(*slot, key.as_bytes());
            writes.delete_cf(records, &entry_key);
            writes.delete_cf(family(database, KEYS), key.as_bytes());
            forgotten.push(entry_key);
        }
        let (mut whole, mut separated) = (Vec::new(), Vec::new());
        let mut written = Vec::with_capacity(batch.records.len());
        for (key, (slot, record)) in &batch.records {
            let entry_key = codec::entry_key(*slot, key.as_bytes());
            let kept_at = if record.ttl.is_some() { batch.kept_at.get(key).copied() } else { None };
            whole.clear();
            codec::encode_record(record, kept_at, &mut whole);
            if codec::is_large(record) {
                separated.clear();
                codec::encode_separated(record, kept_at, &mut separated);
                writes.put_cf(records, &entry_key, &separated);
                writes.put_cf(blobs, &entry_key, &whole);
                self.has_blobs.store(true, Ordering::Relaxed);
            } else {
                writes.put_cf(records, &entry_key, &whole);
                // Filters in memory answer this.
                if self.has_blobs.load(Ordering::Relaxed)
                    && database.key_may_exist_cf_opt(blobs, &entry_key, &self.from_memory)
                {
                    writes.delete_cf(blobs, &entry_key);
                }
            }
            written.push((entry_key, record, kept_at));
        }
        for expiry in &batch.expiries_removed {
            writes.delete_cf(family(database, EXPIRY), codec::encode_expiry(expiry).0);
        }
        for expiry in batch.expiries() {
            let (name, value) = codec::encode_expiry(&expiry);
            writes.put_cf(family(database, EXPIRY), name, value);
        }
        let index = family(database, KEYS);
        for key in &batch.new_keys {
            writes.put_cf(index, key.as_bytes(), []);
        }
        let sync = self.durability == Durability::Fsync || batch.has_metadata();
        let changed = written.iter().map(|(entry_key, ..)| entry_key).chain(&forgotten).chain(&emptied.entries);
        self.cache.begin_write(changed.map(Vec::as_slice));
        if emptied.has_ranges {
            self.cache.clear();
        }
        let result = database.write_opt(writes, &write_options(sync)).map_err(|error| {
            self.suspended.store(true, Ordering::SeqCst);
            failure(&error)
        });
        let removed = forgotten.iter().chain(&emptied.entries).map(Vec::as_slice);
        self.cache.end_write(result.is_ok(), written.into_iter(), removed);
        if result.is_ok() && !batch.forgotten.is_empty() {
            self.give_space_back(database, batch.forgotten.len());
        }
        result
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let _alone = self.reopening.lock().unwrap_or_else(PoisonError::into_inner);
        self.suspended.store(true, Ordering::SeqCst);
        // If the database cannot be reopened, it stays open for reads.
        if let Some(database) = self.database().as_ref() {
            self.check_space(database)?;
        }
        // Reads fail at once while the database is closed, instead of waiting: their callers can ask other replicas.
        drop(self.replace(None));
        // Removed records may be there again: their removal was not durable.
        *self.cleaned_to.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let database = self.families.open(&self.options, &self.path)?;
        let Meta { store_id, configuration, .. } = read_meta(&database)?;
        if store_id != self.store_id {
            let message = format!(
                "{} has store_id {store_id} and had {} before: it was exchanged while it was closed; restart the node",
                self.path.display(),
                self.store_id
            );
            return Err(StoreError::Damaged { message });
        }
        // Recovery may find nothing to write. This write shows that the log accepts a write and an fsync again.
        let format = configuration.map_or(FORMAT, |_| FORMAT_WITH_CONFIGURATION);
        let (name, value) = MetaEntry::Format(format).encode();
        database
            .put_cf_opt(family(&database, META), name, value, &write_options(true))
            .map_err(|error| failure(&error))?;
        self.cache.clear();
        self.replace(Some(database));
        self.suspended.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn keys(&self, after: Option<&Cursor>, prefix: &str, bounds: PageBounds) -> Result<KeysPage, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let prefix = prefix.as_bytes();
        let mut options = ReadOptions::default();
        // A scan reads each block once, and would evict blocks that are read often.
        options.fill_cache(false);
        let mut entries = database.raw_iterator_cf_opt(family(database, RECORDS), options);
        entries.seek(match after {
            // The least entry key above the cursor's.
            Some(cursor) => [&codec::entry_key(cursor.slot, cursor.key.as_bytes())[..], &[0]].concat(),
            None => codec::entry_key(Slot(0), prefix),
        });

        let mut budget = PageBudget::new(bounds);
        let mut page = KeysPage { keys: Vec::new(), next: None };
        let mut last = Vec::new();
        while let Some((entry_key, value)) = entries.item() {
            let (slot, bytes) = codec::split_entry_key(entry_key).map_err(|error| damaged_entry(entry_key, &error))?;
            let matches = Key::begins_with(bytes, prefix);
            let listed =
                matches && codec::decode_digest(value).map_err(|error| damaged_entry(entry_key, &error))?.is_value;
            if !budget.look() || (listed && !budget.take(bytes.len())) {
                let (slot, bytes) = codec::split_entry_key(&last).map_err(|error| damaged_entry(&last, &error))?;
                page.next = Some(Cursor { slot, key: decode_key(bytes)? });
                return Ok(page);
            }
            if listed {
                page.keys.push(decode_key(bytes)?);
            }
            last.clear();
            last.extend_from_slice(entry_key);
            if matches {
                entries.next();
            } else if bytes < prefix {
                entries.seek(codec::entry_key(slot, prefix));
            } else if let Some(following) = slot.0.checked_add(1) {
                // Entries are ordered by slot first. This slot has no more keys with the prefix; the next one may.
                entries.seek(codec::entry_key(Slot(following), prefix));
            } else {
                return Ok(page);
            }
        }
        entries.status().map_err(|error| failure(&error))?;
        Ok(page)
    }

    fn list(
        &self,
        range: &KeyRange,
        slot_of: &dyn Fn(&Key) -> Slot,
        bounds: PageBounds,
    ) -> Result<ScannedKeys, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        // The walk shows the store as it is now. The records are looked up later, so that each entry finds its record.
        let mut index = database.raw_iterator_cf(family(database, KEYS));
        match &range.after {
            // The least key above it.
            Some(after) if after.as_bytes() >= &range.prefix[..] => index.seek([after.as_bytes(), &[0]].concat()),
            _ => index.seek(&range.prefix),
        }
        let mut page = ListPage::new(bounds);
        loop {
            let mut keys = Vec::with_capacity(LIST_LOOKUPS.min(bounds.keys_max));
            while keys.len() < LIST_LOOKUPS.min(bounds.keys_max.max(1))
                && let Some(bytes) = index.key()
                && Key::begins_with(bytes, &range.prefix)
            {
                keys.push(decode_key(bytes)?);
                index.next();
            }
            index.status().map_err(|error| failure(&error))?;
            if keys.is_empty() {
                return Ok(page.whole());
            }
            if page.is_full() {
                return Ok(page.cut_off());
            }
            let digests = self.digests(database, &keys, slot_of)?;
            for (key, digest) in keys.into_iter().zip(digests) {
                if !page.look_at(key, digest) {
                    return Ok(page.cut_off());
                }
            }
        }
    }

    fn slots(&self, range: &SlotRange, entries_max: usize) -> Result<SlotsPage, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let mut options = ReadOptions::default();
        // Each block is read once, and would evict blocks that are read often.
        options.fill_cache(false);
        if let Some(following) = range.last.0.checked_add(1) {
            options.set_iterate_upper_bound(codec::entry_key(Slot(following), &[]));
        }
        let mut entries = database.raw_iterator_cf_opt(family(database, RECORDS), options);
        let from = codec::entry_key(range.first, range.after.as_ref().map_or(&[][..], Key::as_bytes));
        entries.seek(&from);
        let mut page = SlotsPage::default();
        let mut last_slot = range.first;
        loop {
            while let Some((entry_key, value)) = entries.item() {
                if page.records.len() >= entries_max.max(1) {
                    page.has_more = true;
                    return Ok(page);
                }
                if range.after.is_none() || *entry_key != from {
                    match slot_record(entry_key, value) {
                        Ok(record) => {
                            page.records.push(record);
                            page.intact += usize::from(page.damaged == 0);
                        }
                        Err(_) => page.damaged += 1,
                    }
                    last_slot = codec::split_entry_key(entry_key).map_or(last_slot, |(slot, _)| slot);
                }
                entries.next();
            }
            match entries.status() {
                Ok(()) => return Ok(page),
                Err(error) if error.kind() == ErrorKind::Corruption => page.damaged += 1,
                Err(error) => return Err(failure(&error)),
            }
            // Nobody knows where a damaged block ends. The next slot may lie beyond it.
            let Some(following) = last_slot.0.checked_add(1).filter(|following| *following <= range.last.0) else {
                return Ok(page);
            };
            last_slot = Slot(following);
            entries.seek(codec::entry_key(last_slot, &[]));
        }
    }

    fn expiries(
        &self,
        from: RunningTime,
        after: Option<&Expiry>,
        entries_max: usize,
    ) -> Result<Vec<Expiry>, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let mut options = ReadOptions::default();
        // Entries are read once and then deleted.
        options.fill_cache(false);
        let mut entries = database.raw_iterator_cf_opt(family(database, EXPIRY), options);
        entries.seek(match after {
            // The least name above that entry's.
            Some(after) => [&codec::encode_expiry(after).0[..], &[0]].concat(),
            None => from.0.to_be_bytes().to_vec(),
        });
        let mut found = Vec::new();
        while found.len() < entries_max
            && let Some((name, value)) = entries.item()
        {
            let entry = codec::decode_expiry(name, value);
            found.push(entry.map_err(|error| damaged(EXPIRY, &format!("entry {name:02x?}"), &error))?);
            entries.next();
        }
        entries.status().map_err(|error| failure(&error))?;
        Ok(found)
    }

    fn measure(&self, table: TableId, slot_of: &dyn Fn(&Key) -> Option<Slot>) -> Result<u64, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let prefix = Key::prefix_in(table, &[]);
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut entries = database.raw_iterator_cf_opt(family(database, KEYS), options);
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut bytes = 0;
        entries.seek(&prefix);
        while let Some(stored) = entries.key()
            && stored.starts_with(&prefix)
        {
            // A reopening waits for this, and reads wait for the reopening.
            if self.suspended.load(Ordering::SeqCst) {
                return Err(StoreError::Suspended);
            }
            let key = decode_key(stored)?;
            let entry_key = slot_of(&key).map(|slot| codec::entry_key(slot, stored));
            entries.next();
            let Some(entry_key) = entry_key else { continue };
            let found = database.get_pinned_cf_opt(family(database, RECORDS), &entry_key, &options);
            if let Some(found) = found.map_err(|error| failure(&error))? {
                let value = codec::stored_value_bytes(&found).map_err(|error| damaged_entry(&entry_key, &error))?;
                bytes += value.map_or(0, |value| (key.user_bytes().len() + value) as u64);
            }
        }
        entries.status().map_err(|error| failure(&error))?;
        Ok(bytes)
    }

    fn clean(&self, table: TableId, entries_max: usize, slot_of: &dyn Fn(&Key) -> Slot) -> Result<Removed, StoreError> {
        let guard = self.database();
        if self.suspended.load(Ordering::SeqCst) {
            return Err(StoreError::Suspended);
        }
        let database = guard.as_ref().ok_or(StoreError::Suspended)?;
        let prefix = Key::prefix_in(table, &[]);
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let index = family(database, KEYS);
        let mut entries = database.raw_iterator_cf_opt(index, options);
        let mut cleaned_to = self.cleaned_to.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = cleaned_to.take().filter(|last| last.starts_with(&prefix));
        entries.seek(last.as_deref().unwrap_or(&prefix));
        let mut removal = WriteBatch::default();
        let mut removed: Vec<Vec<u8>> = Vec::new();
        let mut digests = Vec::new();
        while removed.len() < entries_max
            && let Some(bytes) = entries.key()
            && bytes.starts_with(&prefix)
        {
            let key = decode_key(bytes)?;
            let slot = slot_of(&key);
            let entry_key = codec::entry_key(slot, bytes);
            // The entry of the index of expiries, where the record has one.
            if let Some(found) = database
                .get_pinned_cf_opt(family(database, RECORDS), &entry_key, &self.from_disk)
                .map_err(|error| failure(&error))?
            {
                // A damaged record goes too: its entry there leads to nothing.
                if let Ok(digest) = codec::decode_digest(&found) {
                    if let (Some(ttl), Ok(Some(kept_at))) = (digest.ttl, codec::decode_kept_at(&found)) {
                        let (at, version) = (kept_at.expiry(ttl), digest.version());
                        let expiry = Expiry { at, slot, key: key.clone(), version };
                        removal.delete_cf(family(database, EXPIRY), codec::encode_expiry(&expiry).0);
                    }
                    digests.push(SlotRecord { slot, key: key.clone(), digest });
                }
            }
            removal.delete_cf(family(database, RECORDS), &entry_key);
            removal.delete_cf(family(database, BLOBS), &entry_key);
            removal.delete_cf(index, bytes);
            removed.push(entry_key);
            last = Some(bytes.to_vec());
            entries.next();
        }
        entries.status().map_err(|error| failure(&error))?;
        if !removed.is_empty() {
            database.write_opt(removal, &write_options(false)).map_err(|error| failure(&error))?;
            self.cache.forget(removed.iter().map(Vec::as_slice));
        }
        let has_more = removed.len() == entries_max;
        *cleaned_to = last.filter(|_| has_more);
        Ok(Removed { records: removed.len(), has_more, digests })
    }

    fn room(&self) -> Option<DiskRoom> {
        let disk = nix::sys::statvfs::statvfs(&self.path).ok()?;
        let bytes = |blocks| disk.fragment_size() * blocks;
        Some(DiskRoom { free: bytes(disk.blocks_available()), size: bytes(disk.blocks()) })
    }

    fn statistics(&self) -> StoreStatistics {
        let sync = self.options.get_histogram_data(Histogram::WalFileSyncMicros);
        let mut statistics = StoreStatistics {
            disk_bytes: folder_bytes(&self.path),
            stores_aside: stores_aside(&self.path),
            disk_room: self.room(),
            block_cache_bytes: self.families.block_cache.get_usage() as u64,
            stall_micros: self.options.get_ticker_count(Ticker::StallMicros),
            log_syncs: self.options.get_ticker_count(Ticker::WalFileSynced),
            log_sync_micros_p50: sync.median(),
            log_sync_micros_p99: sync.p99(),
            ..StoreStatistics::default()
        };
        let guard = self.database();
        let Some(database) = guard.as_ref() else {
            statistics.write_stopped = 1;
            return statistics;
        };
        let number = |name, property| number(database, name, property);
        let sum = |property| sum_over_families(database, property);
        let live_tables: u64 = sum(properties::LIVE_SST_FILES_SIZE.as_c_str());
        statistics.live_bytes = live_tables + number(BLOBS, c"rocksdb.live-blob-file-size");
        let sizes = sample::sizes(database);
        (statistics.keys_estimate, statistics.data_bytes) = (sizes.keys, sizes.bytes);
        statistics.compaction_pending_bytes = sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES.as_c_str());
        statistics.write_buffer_bytes = sum(properties::SIZE_ALL_MEM_TABLES.as_c_str());
        statistics.write_stopped = number(RECORDS, properties::IS_WRITE_STOPPED.as_c_str());
        statistics
    }

    fn scrub(&self, place: ScrubPlace, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<Option<ScrubPlace>, StoreError> {
        // What is in memory alone gets to the disk, and the log of the second handle is short. Where it cannot, the rest is read.
        let _ = self.flush();
        scrub::read_on(&self.path, place, goes_on)
    }

    fn scrubbed_at(&self) -> Option<SystemTime> {
        scrub::scrubbed_at(&self.path)
    }

    fn forget_scrub(&self) {
        scrub::forget(&self.path);
    }

    fn flush(&self) -> Result<(), StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let families = [META, RECORDS, KEYS, BLOBS, EXPIRY].map(|name| family(database, name));
        database.flush_cfs_opt(&families, &FlushOptions::default()).map_err(|error| failure(&error))
    }
}

/// A numeric property of one column family; 0 when RocksDB does not know it.
fn number(database: &DB, name: &str, property: &CStr) -> u64 {
    database.property_int_value_cf(family(database, name), property).ok().flatten().unwrap_or(0)
}

fn sum_over_families(database: &DB, property: &CStr) -> u64 {
    [META, RECORDS, KEYS, BLOBS, EXPIRY].iter().map(|name| number(database, name, property)).sum()
}

impl Drop for RocksStore {
    /// With [`Durability::Os`] the log may hold writes that were never fsynced. An orderly end fsyncs them.
    fn drop(&mut self) {
        if let Some(database) = self.replace(None)
            && let Err(error) = database.flush_wal(true)
        {
            tracing::warn!(path = %self.path.display(), %error, "could not sync the store's log while closing it");
        }
    }
}

fn family<'a>(database: &'a DB, name: &str) -> &'a ColumnFamily {
    database.cf_handle(name).expect("every column family was opened with the database")
}

/// An entry of the records.
fn slot_record(entry_key: &[u8], value: &[u8]) -> Result<SlotRecord, StoreError> {
    let damaged = |error: DecodeError| damaged_entry(entry_key, &error);
    let (slot, bytes) = codec::split_entry_key(entry_key).map_err(damaged)?;
    Ok(SlotRecord { slot, key: decode_key(bytes)?, digest: codec::decode_digest(value).map_err(damaged)? })
}

fn decode_key(bytes: &[u8]) -> Result<Key, StoreError> {
    Key::from_stored(bytes.to_vec()).map_err(|error| damaged_entry(bytes, &error.into()))
}

#[cfg(test)]
mod tests;
