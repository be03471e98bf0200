//! The store of real nodes: one RocksDB with a column family each for promises, records and large values.
//!
//! Contract: that of [`Store`]. A batch is one write to RocksDB's log over all families, with one fsync, so that a
//! stamp never lands without its record. What bears promises (epochs, peers) is fsynced in either durability mode.
//!
//! A record is one entry, found by one search, unless its value is large: then the value, with another copy of the stamp,
//! lives in a family of its own, in blob files. Comparing, which every write and most reads do at every replica, and
//! listing keys never touch a blob; and a record read from either family is whole. What a large value leaves behind when
//! a small one or a tombstone replaces it is deleted in the same write.
//!
//! A failed write: RocksDB writes and syncs its log before the memtable, so that what failed is not shown. Whether it
//! is on disk nobody knows. Nothing more is written until [`Store::reopen`] has run recovery, which reads the log,
//! writes what it found into new tables, fsyncs these and then a new manifest (`avoid_flush_during_recovery`,
//! `optimize_manifest_for_recovery` and `reuse_manifest_on_open` are off, and must stay off). So whatever is shown
//! after an open is on disk under an fsync of this incarnation, even if it was but a page in the system's cache before.
//!
//! Damage: a torn last record of the log is cut off, as it was never acknowledged; anything else is refused, in part by
//! `log_check`, as RocksDB takes some of it for a torn end.
//!
//! Caveat: a last record that is there at full length and fails its checksum is refused like any other damage: nothing
//! tells it from damage to what was acknowledged. So is one of several blocks of which a loss of power kept a later one and
//! not an earlier one.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};

use rand::RngExt as _;
use rocksdb::statistics::{Histogram, StatsLevel, Ticker};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, ErrorKind,
    FlushOptions, IteratorMode, LogLevel, LruCacheOptions, Options, ReadOptions, WriteBatch, WriteOptions, properties,
};

use super::codec::{self, DecodeError, Entry, FORMAT, MetaEntry};
use super::log_check::check_logs;
use super::page::PageBudget;
use super::record_cache::RecordCache;
use super::{Cursor, KeysPage, PageBounds, ReadOutcome, ReadTier, Store, StoreError, StoreStatistics};
use crate::limits::{BLOCK_CACHE_BYTES_DEFAULT, RECORD_CACHE_BYTES_DEFAULT, WRITE_BUFFER_BYTES_DEFAULT};
use crate::types::{Batch, Durability, Key, Lookup, Meta, ReadKind, Slot, StoreId};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// RocksDB insists on a family of this name. Nothing is kept in it.
const DEFAULT: &str = "default";
const META: &str = "meta";
const RECORDS: &str = "records";
const LARGE: &str = "large";

/// What opening a store writes beside what was in its buffers, at most: a manifest, a log's first blocks, table ends.
const ROOM_TO_OPEN_BYTES: usize = 2 * MIB;

/// How a [`RocksStore`] keeps its data, and what it may use for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// When a write of records counts as kept.
    pub durability: Durability,
    /// Cached blocks, blobs, indexes and filters, in bytes of memory.
    pub block_cache_bytes: usize,
    /// Write buffers of all families together, in bytes of memory. RocksDB begins to flush when they are used up, and
    /// goes over it by what arrives while it flushes. One family may use half of it, the large values an eighth for each
    /// buffer, or up to a quarter less, for the same reason as with the log.
    pub write_buffer_bytes: usize,
    /// Records written or read last, in bytes of memory.
    pub record_cache_bytes: usize,
    /// At most so many table and blob files are kept open.
    pub open_files_max: u16,
    /// The log is cut by flushing when it gets this long, or up to a quarter earlier: replicas should not all do it in
    /// the same second. It bounds how long a start reads it: a second for 256 MiB or so.
    pub log_bytes_max: u64,
    /// Threads that flush and compact.
    pub background_jobs_max: u8,
}

impl Default for RocksOptions {
    /// Buffers and caches are taken as they fill: the process of a fresh node that idles takes about 20 MiB of memory.
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            block_cache_bytes: BLOCK_CACHE_BYTES_DEFAULT,
            write_buffer_bytes: WRITE_BUFFER_BYTES_DEFAULT,
            record_cache_bytes: RECORD_CACHE_BYTES_DEFAULT,
            open_files_max: 512,
            log_bytes_max: 128 * MIB as u64,
            background_jobs_max: 2,
        }
    }
}

/// Records and promises in a RocksDB.
///
/// The folder is locked while it is open. Dropping it fsyncs what was written without.
pub struct RocksStore {
    path: PathBuf,
    durability: Durability,
    store_id: StoreId,
    /// Kept because the statistics live in them, over every reopening.
    options: Options,
    families: Families,
    from_memory: ReadOptions,
    from_disk: ReadOptions,
    /// `None` while it is being reopened, and after that failed.
    database: RwLock<Option<DB>>,
    recent: RecordCache,
    /// The greatest epoch that was found or written: it never falls.
    epoch: AtomicU64,
    /// An earlier write failed.
    suspended: AtomicBool,
    /// One reopening at a time: two at once would keep each other out by RocksDB's lock file.
    reopening: Mutex<()>,
}

impl RocksStore {
    /// Creates a store that holds nothing but its store id, durably.
    ///
    /// # Errors
    /// When there is one already, or the disk fails.
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
    /// When there is none, another process has it open, it is damaged or of a format that is not known, or the disk
    /// fails.
    pub fn open(path: &Path, settings: &RocksOptions) -> Result<Self, StoreError> {
        let families = Families::new(settings);
        let options = database_options(path, settings);
        let database = families.open(&options, path)?;
        let meta = read_meta(&database)?;
        Ok(Self::new(path, settings, (meta.store_id, meta.epoch), options, families, database))
    }

    /// The random name of the data folder that the store belongs to.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// Whether there is room for what opening it writes: recovery turns the log into tables, and begins a new log. Tried
    /// by writing as much, because limits on a file's size and quotas do not show in the file system's free space. Not
    /// fsynced: the system reserves the space when it takes the bytes.
    fn check_space(&self, database: &DB) -> Result<(), StoreError> {
        let in_buffers = sum_over_families(database, properties::CUR_SIZE_ALL_MEM_TABLES.as_c_str());
        let needed = usize::try_from(in_buffers).unwrap_or(usize::MAX).saturating_add(ROOM_TO_OPEN_BYTES);
        let probe = self.path.join("space.probe");
        let fill = || -> std::io::Result<()> {
            let mut file = File::create(&probe)?;
            let chunk = vec![0; MIB];
            let mut left = needed;
            while left > 0 {
                let part = left.min(chunk.len());
                file.write_all(&chunk[..part])?;
                left -= part;
            }
            Ok(())
        };
        let filled = fill();
        // Where it cannot even be removed, opening will say what is wrong.
        let _ = std::fs::remove_file(&probe);
        filled.map_err(|error| StoreError::NoSpace {
            message: format!("{needed} bytes are needed in {} to open it anew: {error}", self.path.display()),
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
        Self {
            path: path.to_path_buf(),
            durability: settings.durability,
            store_id,
            options,
            families,
            from_memory,
            from_disk: ReadOptions::default(),
            database: RwLock::new(Some(database)),
            recent: RecordCache::new(settings.record_cache_bytes),
            epoch: AtomicU64::new(epoch),
            suspended: AtomicBool::new(false),
            reopening: Mutex::new(()),
        }
    }

    // Nothing that panics while it holds one of the locks leaves what they guard in a state of its own: a poisoned one
    // is as good as any.
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

    fn read(&self, slot: Slot, key: &Key, read_kind: ReadKind, tier: ReadTier) -> Result<ReadOutcome, StoreError> {
        let (guard, options) = match tier {
            ReadTier::Disk => (self.database(), &self.from_disk),
            // A reopening waits here for the loads that are under way.
            ReadTier::Memory => match self.database.try_read() {
                Ok(guard) => (guard, &self.from_memory),
                Err(TryLockError::WouldBlock) => return Ok(ReadOutcome::WouldBlock),
                Err(TryLockError::Poisoned(poisoned)) => (poisoned.into_inner(), &self.from_memory),
            },
        };
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let place = codec::entry_key(slot, key.as_bytes());
        if let Some(held) = self.recent.get(&place, key, read_kind) {
            return Ok(ReadOutcome::Done(held));
        }
        let moment = self.recent.moment();
        let found = match read_kind {
            ReadKind::Digest => find_mark(database, &place, options),
            ReadKind::Data => find_record(database, key, &place, options),
        };
        let held = match found {
            Ok(held) => held,
            Err(LookupError::WouldBlock) => return Ok(ReadOutcome::WouldBlock),
            Err(LookupError::Damaged(family, error)) => {
                return Err(damaged(family, &format!("key {key:?} of slot {slot}"), &error));
            }
            Err(LookupError::Failed(error)) => return Err(failure(&error)),
        };
        self.recent.put_loaded(moment, place, &held);
        Ok(ReadOutcome::Done(held))
    }

    fn persist(&self, batch: &Batch) -> Result<(), StoreError> {
        let guard = self.database();
        if self.suspended.load(Ordering::SeqCst) {
            return Err(StoreError::Suspended);
        }
        // Only a reopening closes it, and suspends it first.
        let database = guard.as_ref().ok_or(StoreError::Suspended)?;
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(epoch) = batch.epoch {
            let before = self.epoch.fetch_max(epoch, Ordering::SeqCst);
            assert!(epoch >= before, "a durable epoch falls from {before} to {epoch}");
        }
        let promises = [
            batch.epoch.map(MetaEntry::Epoch),
            batch.incarnation.map(MetaEntry::Incarnation),
            batch.formed.then_some(MetaEntry::Formed),
        ];
        let peers = batch.peers.iter().map(|(id, known)| MetaEntry::Peer(id.clone(), *known));
        // As large as it gets: each time that it grows, all of it is copied.
        let mut writes =
            WriteBatch::with_capacity_bytes(batch.records.iter().map(|(key, (_, record))| record.bytes(key)).sum());
        for entry in promises.into_iter().flatten().chain(peers) {
            let (name, value) = entry.encode();
            writes.put_cf(family(database, META), name, value);
        }
        let (records, large) = (family(database, RECORDS), family(database, LARGE));
        let (mut whole, mut apart) = (Vec::new(), Vec::new());
        let mut held = Vec::with_capacity(batch.records.len());
        for (key, (slot, record)) in &batch.records {
            let place = codec::entry_key(*slot, key.as_bytes());
            whole.clear();
            codec::encode_record(record, &mut whole);
            if codec::is_large(record) {
                apart.clear();
                codec::encode_apart(record, &mut apart);
                writes.put_cf(records, &place, &apart);
                writes.put_cf(large, &place, &whole);
            } else {
                writes.put_cf(records, &place, &whole);
                // Answered by filters in memory, and by nothing at all where no value was ever large.
                if database.key_may_exist_cf_opt(large, &place, &self.from_memory) {
                    writes.delete_cf(large, &place);
                }
            }
            held.push((place, record));
        }
        let sync = self.durability == Durability::Fsync || batch.has_metadata();
        self.recent.persist_begins(held.iter().map(|(place, _)| place.as_slice()));
        let written = database.write_opt(writes, &write_options(sync)).map_err(|error| {
            self.suspended.store(true, Ordering::SeqCst);
            failure(&error)
        });
        self.recent.persist_ends(held.into_iter().filter(|_| written.is_ok()));
        written
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let _alone = self.reopening.lock().unwrap_or_else(PoisonError::into_inner);
        self.suspended.store(true, Ordering::SeqCst);
        // While it cannot be opened anew it stays open as it is, for loads.
        if let Some(database) = self.database().as_ref() {
            self.check_space(database)?;
        }
        // Loads that come while it is closed fail at once instead of waiting: their callers have other replicas to ask.
        drop(self.replace(None));
        let database = self.families.open(&self.options, &self.path)?;
        let store_id = read_meta(&database)?.store_id;
        if store_id != self.store_id {
            let message = format!(
                "{} has store_id {store_id} and had {} before: it was exchanged while it was closed; restart the node",
                self.path.display(),
                self.store_id
            );
            return Err(StoreError::Damaged { message });
        }
        // Recovery may find nothing to write. This shows that the log takes a write and an fsync again.
        let (name, value) = MetaEntry::Format(FORMAT).encode();
        database
            .put_cf_opt(family(&database, META), name, value, &write_options(true))
            .map_err(|error| failure(&error))?;
        self.recent.clear();
        self.replace(Some(database));
        self.suspended.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn keys(&self, after: Option<&Cursor>, prefix: &str, bounds: PageBounds) -> Result<KeysPage, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let prefix = prefix.as_bytes();
        let mut options = ReadOptions::default();
        // A scan reads each block once, and would push out of the cache what is read often.
        options.fill_cache(false);
        let mut entries = database.raw_iterator_cf_opt(family(database, RECORDS), options);
        entries.seek(match after {
            // The least key above the cursor's.
            Some(cursor) => [&codec::entry_key(cursor.slot, cursor.key.as_bytes())[..], &[0]].concat(),
            None => codec::entry_key(Slot(0), prefix),
        });

        let mut budget = PageBudget::new(bounds);
        let mut page = KeysPage { keys: Vec::new(), next: None };
        let mut last = Vec::new();
        while let Some((place, value)) = entries.item() {
            let (slot, bytes) = codec::split_entry_key(place).map_err(|error| damaged_place(place, &error))?;
            let matches = bytes.starts_with(prefix);
            let listed = matches && codec::decode_head(value).map_err(|error| damaged_place(place, &error))?.is_value;
            if !budget.look() || (listed && !budget.take(bytes.len())) {
                let (slot, bytes) = codec::split_entry_key(&last).map_err(|error| damaged_place(&last, &error))?;
                page.next = Some(Cursor { slot, key: key_of(bytes)? });
                return Ok(page);
            }
            if listed {
                page.keys.push(key_of(bytes)?);
            }
            last.clear();
            last.extend_from_slice(place);
            if matches {
                entries.next();
            } else if bytes < prefix {
                entries.seek(codec::entry_key(slot, prefix));
            } else if let Some(following) = slot.0.checked_add(1) {
                // Keys are ordered by slot first: this slot has no more of the prefix, the next may.
                entries.seek(codec::entry_key(Slot(following), prefix));
            } else {
                return Ok(page);
            }
        }
        entries.status().map_err(|error| failure(&error))?;
        Ok(page)
    }

    fn statistics(&self) -> StoreStatistics {
        let sync = self.options.get_histogram_data(Histogram::WalFileSyncMicros);
        let mut statistics = StoreStatistics {
            disk_bytes: folder_bytes(&self.path),
            block_cache_bytes: self.families.cache.get_usage() as u64,
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
        statistics.keys_estimate = number(RECORDS, properties::ESTIMATE_NUM_KEYS.as_c_str());
        statistics.live_bytes = live_tables + number(LARGE, c"rocksdb.live-blob-file-size");
        statistics.compaction_pending_bytes = sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES.as_c_str());
        statistics.write_buffer_bytes = sum(properties::SIZE_ALL_MEM_TABLES.as_c_str());
        statistics.write_stopped = number(RECORDS, properties::IS_WRITE_STOPPED.as_c_str());
        statistics
    }

    fn flush(&self) -> Result<(), StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let families = [META, RECORDS, LARGE].map(|name| family(database, name));
        database.flush_cfs_opt(&families, &FlushOptions::default()).map_err(|error| failure(&error))
    }
}

/// A number that RocksDB knows of a family; one that it does not know is 0.
fn number(database: &DB, name: &str, property: &CStr) -> u64 {
    database.property_int_value_cf(family(database, name), property).ok().flatten().unwrap_or(0)
}

fn sum_over_families(database: &DB, property: &CStr) -> u64 {
    [META, RECORDS, LARGE].iter().map(|name| number(database, name, property)).sum()
}

impl Drop for RocksStore {
    /// With [`Durability::Os`] the log may hold writes that were never fsynced: an orderly end does that.
    fn drop(&mut self) {
        if let Some(database) = self.replace(None)
            && let Err(error) = database.flush_wal(true)
        {
            tracing::warn!(path = %self.path.display(), %error, "could not sync the store's log while closing it");
        }
    }
}

/// The column families' options and the cache that they share.
struct Families {
    cache: Cache,
    small: Options,
    records: Options,
    large: Options,
}

impl Families {
    fn new(settings: &RocksOptions) -> Self {
        let mut cache_options = LruCacheOptions::default();
        cache_options.set_capacity(settings.block_cache_bytes);
        // Few shards: what is larger than a shard is never cached, and that must not be the filters. Two or four cores
        // do not crowd four locks.
        cache_options.set_num_shard_bits(2);
        let cache = Cache::new_lru_cache_opts(&cache_options);

        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&cache);
        // 10 bits a key, one filter a table: one in a hundred reads of a key that is not in a table looks for it there.
        tables.set_bloom_filter(10.0, false);
        // Indexes and filters count against the cache's bound, instead of growing with the data beside it; they are the
        // last to leave it, because without them every read waits for the disk.
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_cache_index_and_filter_blocks_with_high_priority(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);

        let mut small = Options::default();
        small.set_block_based_table_factory(&tables);
        // A quarter of the bound each: the bound over all of them, below, is what mostly cuts a buffer off.
        small.set_write_buffer_size((settings.write_buffer_bytes / 4).max(64 * KIB));
        small.set_max_write_buffer_number(4);
        // Memory is taken in blocks of this size, by each family.
        small.set_arena_block_size(256 * KIB);
        // A filter over each buffer in memory too: a key that is not in it, as most are not, is not searched for there.
        small.set_memtable_prefix_bloom_ratio(0.02);
        small.set_memtable_whole_key_filtering(true);

        let mut records = small.clone();
        records.set_write_buffer_size(uneven(settings.write_buffer_bytes / 2));
        // Filters stay well below a shard of the cache: 32 MiB of values of 100 bytes are about 250,000, with 300 KiB of
        // filter.
        records.set_target_file_size_base(32 * MIB as u64);
        // A buffer is written out as it is, because it is soon rewritten, and requests want the processors meanwhile. LZ4
        // costs little; zstd where data comes to rest and is seldom rewritten.
        records.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Lz4]);
        records.set_bottommost_compression_type(DBCompressionType::Zstd);

        // Tables that hold little wait for more of their kind before they are merged with all that is below them; those of
        // full buffers do not, as their size counts too.
        records.set_level_zero_file_num_compaction_trigger(16);
        records.set_level_zero_slowdown_writes_trigger(32);
        records.set_level_zero_stop_writes_trigger(48);

        let mut large = records.clone();
        // Less than for records: blobs are not merged with others, so that small buffers cost little, and the logs that
        // are deleted with them are as small. Deleting a long one holds up the fsyncs of that moment where the file system
        // tells the disk of what is free again (ext4's `discard`: a millisecond for each MiB).
        large.set_write_buffer_size(uneven(settings.write_buffer_bytes / 8));
        large.set_max_write_buffer_number(8);
        // All values of this family are in blob files: merging tables does not rewrite them.
        large.set_enable_blob_files(true);
        large.set_min_blob_size(0);
        large.set_blob_file_size(64 * MIB as u64);
        large.set_blob_compression_type(DBCompressionType::Lz4);
        // Without a cache blobs could never be answered from memory, however often they are read.
        large.set_blob_cache(&cache);
        // A compaction moves what is still of use out of the oldest files and drops them, garbage or not: a twentieth of
        // all, so that it moves about as much as was written since the one before. It comes no later than when half of
        // what those files hold is garbage. Of fewer than 20 files a twentieth is none: these may be garbage and stay.
        large.set_enable_blob_gc(true);
        large.set_blob_gc_age_cutoff(0.05);
        large.set_blob_gc_force_threshold(0.5);
        Self { cache, small, records, large }
    }

    fn open(&self, options: &Options, path: &Path) -> Result<DB, StoreError> {
        let families = [(DEFAULT, &self.small), (META, &self.small), (RECORDS, &self.records), (LARGE, &self.large)];
        let families = families.map(|(name, options)| ColumnFamilyDescriptor::new(name, options.clone()));
        check_logs(path)?;
        DB::open_cf_descriptors(options, path, families).map_err(|error| failure_of_open(&error))
    }
}

/// Somewhat less than `bytes`, at random. Replicas take the same load: with buffers and logs of the same size they would
/// write them out and delete them in the same second, and a quorum would have to wait for that. As it is, one does while
/// the others answer.
fn uneven(bytes: usize) -> usize {
    rand::rng().random_range(bytes / 4 * 3..=bytes).max(64 * KIB)
}

fn database_options(path: &Path, settings: &RocksOptions) -> Options {
    let mut options = Options::default();

    // Damage is met with an error, never passed over.
    options.set_paranoid_checks(true);
    // A torn end of the log is what a crash leaves of a write that was never acknowledged. Damage before it is refused:
    // RocksDB's default would silently drop all that follows it, acknowledged or not.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // A finished log that is missing or shorter than it was synced is damage too.
    options.set_track_and_verify_wals_in_manifest(true);
    // Reusing log files would spare fdatasync the journal's write of the new length, but an old record after the end of
    // the new ones looks like damage: RocksDB turns it off in the recovery mode above. ReplicaStatus here so that nobody tries.
    options.set_recycle_log_file_num(0);

    // Memory. All families share one bound on write buffers.
    options.set_db_write_buffer_size(settings.write_buffer_bytes);
    options.set_max_open_files(i32::from(settings.open_files_max));

    // Disk. All families are written out together: one that is seldom written would otherwise keep every log since, and
    // these would then be deleted all at once.
    options.set_atomic_flush(true);
    options.set_max_total_wal_size(uneven(usize::try_from(settings.log_bytes_max).unwrap_or(usize::MAX)) as u64);
    // Tables and blobs go to the disk past the system's cache: filling that costs processor time that requests want, and
    // pushes out what they read; what a merge reads back soon, it reads once. In small pieces, because an fsync of the log
    // waits for those that are under way.
    options.set_use_direct_io_for_flush_and_compaction(takes_direct_writes(path));
    options.set_writable_file_max_buffer_size(128 * KIB as u64);
    // Where there is no such way past the cache, tables reach the disk as they are written, and so does the log where it
    // is not fsynced: not all at once at the end, where an fsync of the log would wait behind them.
    options.set_bytes_per_sync(MIB as u64);
    options.set_wal_bytes_per_sync(MIB as u64);

    // The manifest is written anew beyond this size, and read at each start.
    options.set_max_manifest_file_size(16 * MIB);

    // Processors: they belong to the requests.
    options.set_max_background_jobs(i32::from(settings.background_jobs_max));
    options.set_max_file_opening_threads(2);
    // Each write is waited for by a batch of requests, and comes from one thread: nothing is gained by writing
    // memtables at once.
    options.set_allow_concurrent_memtable_write(false);
    // Who only reads does not pay for deleting files.
    options.set_avoid_unnecessary_blocking_io(true);
    // Opening does not read every table for statistics that steer compaction.
    options.set_skip_stats_update_on_db_open(true);

    // Times of log syncs and counts of stalls, without those that take a clock reading inside a lock.
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptDetailedTimers);
    // No history of them in memory.
    options.set_stats_persist_period_sec(0);

    // RocksDB's own account, `LOG` in its folder: 4 files of 4 MiB.
    options.set_log_level(LogLevel::Info);
    options.set_max_log_file_size(4 * MIB);
    options.set_keep_log_file_num(4);
    options
}

/// Whether the file system that `path` is on, or is going to be, takes writes past the system's cache. Some do not, and
/// RocksDB would only find out when a buffer is to be written.
#[cfg(target_os = "linux")]
fn takes_direct_writes(path: &Path) -> bool {
    use nix::fcntl::OFlag;
    use std::os::unix::fs::OpenOptionsExt as _;

    /// Aligned as any disk wants it.
    #[repr(align(4096))]
    struct Block([u8; 4096]);

    let Some(folder) = path.ancestors().find(|folder| folder.is_dir()) else { return false };
    // A file without a name: nothing is left behind, whatever happens.
    let flags = (OFlag::O_TMPFILE | OFlag::O_DIRECT).bits();
    let file = std::fs::OpenOptions::new().write(true).custom_flags(flags).open(folder);
    let taken = file.and_then(|mut file| file.write_all(&Block([0; 4096]).0));
    if let Err(error) = &taken {
        tracing::debug!(folder = %folder.display(), %error, "the file system takes no direct writes");
    }
    taken.is_ok()
}

#[cfg(not(target_os = "linux"))]
fn takes_direct_writes(_: &Path) -> bool {
    false
}

fn write_options(sync: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options
}

fn family<'a>(database: &'a DB, name: &str) -> &'a ColumnFamily {
    database.cf_handle(name).expect("every family was opened with the database")
}

fn read_meta(database: &DB) -> Result<Meta, StoreError> {
    let (mut format, mut meta) = (None, None);
    let mut entries = Vec::new();
    for entry in database.iterator_cf(family(database, META), IteratorMode::Start) {
        let (name, value) = entry.map_err(|error| failure(&error))?;
        let entry = MetaEntry::decode(&name, &value)
            .map_err(|error| damaged(META, &format!("entry {:?}", String::from_utf8_lossy(&name)), &error))?;
        match entry {
            Some(MetaEntry::Format(found)) => format = Some(found),
            Some(MetaEntry::StoreId(store_id)) => meta = Some(Meta::fresh(store_id)),
            Some(entry) => entries.push(entry),
            None => {}
        }
    }
    let missing = |what| StoreError::Damaged { message: format!("the store says nothing of its {what}") };
    let format = format.ok_or_else(|| missing("format"))?;
    if format != FORMAT {
        let message = format!(
            "the store has format {format} and this program reads format {FORMAT}: start it with the Quorate that \
             wrote it"
        );
        return Err(StoreError::Damaged { message });
    }
    let mut meta = meta.ok_or_else(|| missing("store_id"))?;
    for entry in entries {
        match entry {
            MetaEntry::Epoch(epoch) => meta.epoch = epoch,
            MetaEntry::Incarnation(incarnation) => meta.incarnations.push(incarnation),
            MetaEntry::Formed => meta.formed = true,
            MetaEntry::Peer(id, known) => {
                meta.peers.insert(id, known);
            }
            MetaEntry::Format(_) | MetaEntry::StoreId(_) => {}
        }
    }
    Ok(meta)
}

/// Why a record was not found.
enum LookupError {
    /// It is not in memory.
    WouldBlock,
    /// What this family holds of it is damaged.
    Damaged(&'static str, DecodeError),
    /// The disk failed.
    Failed(rocksdb::Error),
}

impl From<rocksdb::Error> for LookupError {
    fn from(error: rocksdb::Error) -> Self {
        // What is asked of memory alone and is not there.
        if error.kind() == ErrorKind::Incomplete { Self::WouldBlock } else { Self::Failed(error) }
    }
}

fn find_mark(database: &DB, place: &[u8], options: &ReadOptions) -> Result<Lookup, LookupError> {
    let Some(found) = database.get_pinned_cf_opt(family(database, RECORDS), place, options)? else {
        return Ok(Lookup::Absent);
    };
    codec::decode_head(&found)
        .map(|head| Lookup::Digest(head.digest))
        .map_err(|error| LookupError::Damaged(RECORDS, error))
}

fn find_record(database: &DB, key: &Key, place: &[u8], options: &ReadOptions) -> Result<Lookup, LookupError> {
    let mut before = None;
    loop {
        let Some(found) = database.get_pinned_cf_opt(family(database, RECORDS), place, options)? else {
            return Ok(Lookup::Absent);
        };
        let entry = codec::decode_entry(key, &found).map_err(|error| LookupError::Damaged(RECORDS, error))?;
        let digest = match entry {
            Entry::Whole(record) => return Ok(Lookup::Record(record)),
            Entry::Apart(digest) => digest,
        };
        if let Some(found) = database.get_pinned_cf_opt(family(database, LARGE), place, options)? {
            let record = codec::decode_record(key, &found).map_err(|error| LookupError::Damaged(LARGE, error))?;
            // A greater one has replaced it meanwhile, and is as good.
            if record.stamp >= digest.stamp {
                return Ok(Lookup::Record(record));
            }
        }
        // A small one has replaced it since it was looked at here, unless nothing has changed.
        if before.as_ref() == Some(&digest) {
            return Err(LookupError::Damaged(LARGE, DecodeError::ValueMissing));
        }
        before = Some(digest);
    }
}

fn key_of(bytes: &[u8]) -> Result<Key, StoreError> {
    Key::new(bytes.to_vec()).map_err(|error| damaged_place(bytes, &error.into()))
}

fn damaged_place(place: &[u8], error: &DecodeError) -> StoreError {
    damaged(RECORDS, &format!("the entry at {:?}", String::from_utf8_lossy(place)), error)
}

fn damaged(family: &str, entry: &str, error: &DecodeError) -> StoreError {
    StoreError::Damaged { message: format!("{entry} in {family}: {error}") }
}

/// The size of a folder's files. One that comes or goes meanwhile is not worth an error.
fn folder_bytes(path: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(path) else {
        return 0;
    };
    files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

/// RocksDB's bindings keep of an error its text alone.
fn failure(error: &rocksdb::Error) -> StoreError {
    let message = error.to_string();
    let is_full = ["No space left on device", "File too large", "Disk quota exceeded"];
    match error.kind() {
        ErrorKind::Corruption => StoreError::Damaged { message },
        ErrorKind::IOError if is_full.iter().any(|text| message.contains(text)) => StoreError::NoSpace { message },
        _ => StoreError::Failed { message },
    }
}

fn failure_of_open(error: &rocksdb::Error) -> StoreError {
    let message = error.to_string();
    // Another process's lock, and one of this process.
    let is_locked = ["While lock file", "lock hold by current process"];
    // A folder without RocksDB's root file, or one where a family is missing: what was there is gone.
    let is_gone = ["does not exist (create_if_missing is false)", "Column family not found"];
    // A family that this program does not have: RocksDB looks before the format can be read.
    let is_other = "Column families not opened";
    match error.kind() {
        ErrorKind::InvalidArgument if message.contains(is_other) => StoreError::Damaged {
            message: format!(
                "the store has another format than {FORMAT}, which this program reads: start it with the Quorate that \
                 wrote it ({message})"
            ),
        },
        ErrorKind::IOError if is_locked.iter().any(|text| message.contains(text)) => StoreError::InUse { message },
        ErrorKind::InvalidArgument if is_gone.iter().any(|text| message.contains(text)) => {
            StoreError::Damaged { message }
        }
        _ => failure(error),
    }
}

#[cfg(test)]
mod tests;
