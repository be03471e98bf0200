//! RocksDB's settings: what operators may choose, and the options of the database and of its column families.

use std::path::Path;

use rand::RngExt as _;
use rocksdb::statistics::StatsLevel;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, LogLevel, LruCacheOptions,
    Options, WriteOptions,
};

use crate::limits::{BLOCK_CACHE_BYTES_DEFAULT, RECORD_CACHE_BYTES_DEFAULT, WRITE_BUFFER_BYTES_DEFAULT};
use crate::storage::StoreError;
use crate::storage::log_check::check_logs;
use crate::types::Durability;

use super::errors::failure_of_open;
use super::probe::takes_direct_writes;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// RocksDB requires a column family of this name. It stays empty.
pub(super) const DEFAULT: &str = "default";
/// The column family of the metadata.
pub(super) const META: &str = "meta";
/// The column family of the records.
pub(super) const RECORDS: &str = "records";
/// The column family of the index of keys: the bytes of each key that has a record, and no value.
pub(super) const KEYS: &str = "keys";
/// The column family of the large values.
pub(super) const BLOBS: &str = "blobs";

/// The column family of the index of expiries: it has the records alone that have a time to live.
pub(super) const EXPIRY: &str = "expiry";

/// How a [`RocksStore`](super::RocksStore) keeps its data, and which resources it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// When a write of records counts as durable.
    pub durability: Durability,
    /// Memory for cached blocks, blobs, indexes and filters, in bytes.
    pub block_cache_bytes: usize,
    /// Memory for the write buffers of all column families together, in bytes. RocksDB begins to flush when they are full,
    /// and exceeds the bound by the writes that arrive meanwhile. The records may use half of it in one buffer, the blobs
    /// and the index of keys an eighth each. Each buffer is up to a quarter smaller, at random, for the reason given at `log_bytes_max`.
    pub write_buffer_bytes: usize,
    /// Memory for records that were written or read last, in bytes.
    pub record_cache_bytes: usize,
    /// The most table and blob files that are kept open.
    pub open_files_max: u16,
    /// The length at which the log is cut by a flush, in bytes, or up to a quarter less: replicas should not all flush in
    /// the same second. It bounds how long a start takes to read the log: about a second for 256 MiB.
    pub log_bytes_max: u64,
    /// The number of threads that flush and compact.
    pub background_jobs_max: u8,
}

impl Default for RocksOptions {
    /// Buffers and caches take memory as they fill: the process of a fresh idle node takes about 20 MiB.
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

/// So many entries of a table in a row are looked at for deletions.
const DELETIONS_WINDOW: usize = 1_024;

/// The options of the column families, and the block cache that they share.
pub(super) struct Families {
    pub(super) block_cache: Cache,
    meta: Options,
    records: Options,
    keys: Options,
    blobs: Options,
}

impl Families {
    pub(super) fn new(settings: &RocksOptions) -> Self {
        let mut cache_options = LruCacheOptions::default();
        cache_options.set_capacity(settings.block_cache_bytes);
        // Few shards: an entry larger than a shard is never cached, and filters must be. Two or four cores do not contend
        // for four locks.
        cache_options.set_num_shard_bits(2);
        let block_cache = Cache::new_lru_cache_opts(&cache_options);

        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&block_cache);
        // 10 bits a key, one filter a table: one in a hundred lookups of a key that is not in a table searches the table.
        tables.set_bloom_filter(10.0, false);
        // Indexes and filters count against the cache's bound, instead of growing with the data beside it. They leave the
        // cache last, because without them every lookup waits for the disk.
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_cache_index_and_filter_blocks_with_high_priority(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);

        let mut meta = Options::default();
        meta.set_block_based_table_factory(&tables);
        // A quarter of the bound each. The bound over all families, below, usually cuts a buffer off earlier.
        meta.set_write_buffer_size((settings.write_buffer_bytes / 4).max(64 * KIB));
        meta.set_max_write_buffer_number(4);
        // Each family takes memory in blocks of this size.
        meta.set_arena_block_size(256 * KIB);
        // A filter over each write buffer too: most keys are not in a given buffer, and need not be searched for there.
        meta.set_memtable_prefix_bloom_ratio(0.02);
        meta.set_memtable_whole_key_filtering(true);

        let mut records = meta.clone();
        records.set_write_buffer_size(jittered(settings.write_buffer_bytes / 2));
        // Filters stay well below a shard of the cache: 32 MiB of values of 100 bytes are about 250,000 keys, with 300 KiB
        // of filter.
        records.set_target_file_size_base(32 * MIB as u64);
        // Flushed tables are not compressed: they are soon rewritten, and requests need the processors meanwhile. LZ4 is
        // cheap; zstd is for the level where data rests and is seldom rewritten.
        records.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Lz4]);
        records.set_bottommost_compression_type(DBCompressionType::Zstd);

        // Small tables wait for more of their kind before they are merged with all that is below them. Tables of full
        // buffers do not wait, because RocksDB counts their size too.
        records.set_level_zero_file_num_compaction_trigger(16);
        records.set_level_zero_slowdown_writes_trigger(32);
        records.set_level_zero_stop_writes_trigger(48);

        // A table that consists of deletions is merged soon, so that what they delete goes from the disk: at least half of some
        // entries in a row.
        records.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW, DELETIONS_WINDOW / 2, 0.5);

        // The index is only ever walked: filters would take memory for nothing.
        let mut walked = BlockBasedOptions::default();
        walked.set_block_cache(&block_cache);
        walked.set_cache_index_and_filter_blocks(true);
        walked.set_cache_index_and_filter_blocks_with_high_priority(true);
        let mut keys = records.clone();
        keys.set_block_based_table_factory(&walked);
        keys.set_memtable_prefix_bloom_ratio(0.0);
        keys.set_memtable_whole_key_filtering(false);
        keys.set_write_buffer_size(jittered(settings.write_buffer_bytes / 8));

        let mut blobs = records.clone();
        // Smaller than for records: blobs are not merged with others, so small buffers cost little, and the logs that are
        // deleted with them are as small. Deleting a long log delays concurrent fsyncs where the file system discards
        // freed blocks at once (ext4's `discard`: a millisecond for each MiB).
        blobs.set_write_buffer_size(jittered(settings.write_buffer_bytes / 8));
        blobs.set_max_write_buffer_number(8);
        // All values of this family are in blob files: merging tables does not rewrite them.
        blobs.set_enable_blob_files(true);
        blobs.set_min_blob_size(0);
        blobs.set_blob_file_size(64 * MIB as u64);
        blobs.set_blob_compression_type(DBCompressionType::Lz4);
        // Without a cache every read of a blob would go to the disk.
        blobs.set_blob_cache(&block_cache);
        // A compaction moves live blobs out of the oldest twentieth of the files, and drops those files whether or not they
        // hold garbage. So it moves about as much as was written since the last one. It runs at the latest when half of
        // those files is garbage. Of fewer than 20 files a twentieth is none: they stay even if they are garbage.
        blobs.set_enable_blob_gc(true);
        blobs.set_blob_gc_age_cutoff(0.05);
        blobs.set_blob_gc_force_threshold(0.5);
        Self { block_cache, meta, records, keys, blobs }
    }

    /// Opens the database in `path`, after a check of its logs.
    pub(super) fn open(&self, options: &Options, path: &Path) -> Result<DB, StoreError> {
        let families = [
            (DEFAULT, &self.meta),
            (META, &self.meta),
            (RECORDS, &self.records),
            (KEYS, &self.keys),
            (BLOBS, &self.blobs),
            (EXPIRY, &self.meta),
        ];
        let families = families.map(|(name, options)| ColumnFamilyDescriptor::new(name, options.clone()));
        check_logs(path)?;
        DB::open_cf_descriptors(options, path, families).map_err(|error| failure_of_open(&error))
    }
}

/// `bytes`, or up to a quarter less, at random. All replicas take the same writes: with buffers and logs of equal size they
/// would flush and delete them in the same second, and every quorum would wait. With random sizes one replica flushes
/// while the others answer.
fn jittered(bytes: usize) -> usize {
    rand::rng().random_range(bytes / 4 * 3..=bytes).max(64 * KIB)
}

pub(super) fn database_options(path: &Path, settings: &RocksOptions) -> Options {
    let mut options = Options::default();

    // Damage gives an error and is never skipped.
    options.set_paranoid_checks(true);
    // A torn end of the log is a write that a crash interrupted, and that was never acknowledged. Damage before it is
    // refused: RocksDB's default would silently drop everything after it, acknowledged or not.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // A finished log that is missing, or shorter than when it was synced, is damage too.
    options.set_track_and_verify_wals_in_manifest(true);
    // Reusing log files would spare fdatasync one write of the file system's journal, for the new length. But old records
    // after the end of the new ones would look like damage, so RocksDB ignores it in the recovery mode above.
    options.set_recycle_log_file_num(0);

    // Memory. All families share one bound on write buffers.
    options.set_db_write_buffer_size(settings.write_buffer_bytes);
    options.set_max_open_files(i32::from(settings.open_files_max));

    // Disk. All families are flushed together: a family that is seldom written would otherwise keep every log since its
    // last flush, and all of them would then be deleted at once.
    options.set_atomic_flush(true);
    options.set_max_total_wal_size(jittered(usize::try_from(settings.log_bytes_max).unwrap_or(usize::MAX)) as u64);
    // Tables and blobs bypass the system's page cache: filling it costs processor time and evicts what requests read.
    // They are written in small parts, because an fsync of the log waits for the parts that are under way.
    options.set_use_direct_io_for_flush_and_compaction(takes_direct_writes(path));
    options.set_writable_file_max_buffer_size(128 * KIB as u64);
    // Without direct writes, tables reach the disk as they are written, and so does the log if it is not fsynced. Otherwise
    // all of it would be written at the end, and an fsync of the log would wait behind it.
    options.set_bytes_per_sync(MIB as u64);
    options.set_wal_bytes_per_sync(MIB as u64);

    // Beyond this size RocksDB writes a new manifest. Each start reads the manifest.
    options.set_max_manifest_file_size(16 * MIB);

    // Processors are for requests.
    options.set_max_background_jobs(i32::from(settings.background_jobs_max));
    options.set_max_file_opening_threads(2);
    // All writes come from one thread: RocksDB's concurrent memtable writes would gain nothing.
    options.set_allow_concurrent_memtable_write(false);
    // Reads do not wait for the deletion of files.
    options.set_avoid_unnecessary_blocking_io(true);
    // Opening does not read every table for statistics that steer compaction.
    options.set_skip_stats_update_on_db_open(true);

    // Times of log syncs and counts of stalls, without the statistics that read a clock inside a lock.
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptDetailedTimers);
    // RocksDB keeps no history of them in memory.
    options.set_stats_persist_period_sec(0);

    // RocksDB's own log of events, `LOG` in its folder: 4 files of 4 MiB.
    options.set_log_level(LogLevel::Info);
    options.set_max_log_file_size(4 * MIB);
    options.set_keep_log_file_num(4);
    options
}

pub(super) fn write_options(sync: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options
}
