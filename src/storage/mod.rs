//! Stores of records and metadata: a trait, RocksDB for real nodes ([`rocks`]), and memory for tests and temporary
//! clusters ([`memory`]). [`codec`] defines the bytes on disk, and [`folder`] the data folder around the store.
//!
//! Contract: [`Store::persist`] is atomic, and durable in the chosen mode when it returns `Ok`. A read sees every batch
//! whose write returned before the read began, and never part of a batch. It sees a failed batch only if
//! [`Store::reopen`] found that batch on disk and made it durable. After a failed write all further writes fail until
//! `reopen` succeeds: after a failed fsync nobody knows what is on disk.

pub mod codec;
pub mod folder;
mod log_check;
pub mod memory;
mod page;
mod record_cache;
pub mod rocks;
pub mod watched;

use std::time::SystemTime;

use crate::types::{
    Batch, Expiry, Found, Key, KeyRange, Meta, ReadKind, Removed, RunningTime, ScannedKeys, Slot, SlotRange, SlotsPage,
    TableId,
};

/// How the names of stores begin that were set aside because they are damaged.
const STORE_ASIDE: &str = "store.damaged-";

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadTier {
    /// The read answers from memory, or says that it would have to wait: for threads that serve other keys meanwhile.
    Memory,
    /// The read waits for the disk.
    Disk,
}

/// The outcome of a read.
#[derive(Debug)]
pub enum ReadOutcome {
    /// The answer.
    Done(Found),
    /// The answer is not in memory. Read again with [`ReadTier::Disk`], from a thread that may wait.
    WouldBlock,
    /// The value is larger than the caller allowed, and was not loaded.
    TooLarge {
        /// The length of the value.
        value_bytes: usize,
    },
}

/// Why a call to a store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full, or a file reached a limit on its size.
    #[error("no space left for the store: {message}")]
    NoSpace {
        /// RocksDB's own words.
        message: String,
    },
    /// Data on disk or in memory is not what was written.
    #[error("damaged: {message}")]
    Damaged {
        /// The damaged entry or file, and what is wrong with it.
        message: String,
    },
    /// Another process has the store open.
    #[error("the store is in use by another process: {message}")]
    InUse {
        /// RocksDB's own words.
        message: String,
    },
    /// Any other failure of the store or the disk.
    #[error("the store failed: {message}")]
    Failed {
        /// RocksDB's own words.
        message: String,
    },
    /// An earlier write failed, and the store has not been reopened yet.
    #[error("the store accepts no writes because an earlier write failed")]
    Suspended,
    /// The store is being reopened, or a reopening failed.
    #[error("the store is closed until it can be reopened, because an earlier write failed")]
    Closed,
}

/// Where a scan of keys continues: after this key of this slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The slot of the last key that was scanned.
    pub slot: Slot,
    /// The last key that was scanned. It need not exist any more.
    pub key: Key,
}

/// One page of a scan of keys.
#[derive(Debug, PartialEq, Eq)]
pub struct KeysPage {
    /// Keys with a value (no tombstones), in the order of slots, then of keys.
    pub keys: Vec<Key>,
    /// Where the next page begins; `None` after the last page.
    pub next: Option<Cursor>,
}

/// Bounds of one page of a scan of keys.
#[derive(Clone, Copy, Debug)]
pub struct PageBounds {
    /// The most keys in the page.
    pub keys_max: usize,
    /// The most bytes of keys in the page, and of their digests in a list. A single longer key still makes a page.
    pub bytes_max: usize,
    /// The most entries that are scanned, so that a scan for a rare prefix yields in time.
    pub looked_at_max: usize,
}

/// How far a scrub has read a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubPlace {
    /// The family of entries that it reads.
    family: usize,
    /// The last entry of it that was read.
    after: Option<Vec<u8>>,
    /// How often in a row it could read nothing from here, because files came and went.
    tries: u8,
}

/// Numbers about a store, for status and metrics. Some are estimates, because exact numbers would cost a scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreStatistics {
    /// The estimated number of keys, tombstones included.
    pub keys_estimate: u64,
    /// Bytes on disk: tables, blob files and log.
    pub disk_bytes: u64,
    /// About the bytes of keys and values, those included that wait to be written to tables.
    pub data_bytes: u64,
    /// The room on the disk. Absent in memory, and where the system does not say.
    pub disk_room: Option<DiskRoom>,
    /// Bytes of tables and blob files in use, without the log.
    pub live_bytes: u64,
    /// Estimated bytes that compaction still has to rewrite.
    pub compaction_pending_bytes: u64,
    /// Bytes of write buffers in memory.
    pub write_buffer_bytes: u64,
    /// Bytes of cached blocks in memory.
    pub block_cache_bytes: u64,
    /// 1 while the store stops writes, because flushes or compactions lag or the store is closed; else 0.
    pub write_stopped: u64,
    /// How many damaged stores were set aside beside it.
    pub stores_aside: u64,
    /// How often the store met damage since the process started. [`watched::Watched`] counts it.
    pub damage_met: u64,
    /// How long the store stalled writers since the process started, in microseconds.
    pub stall_micros: u64,
    /// How many times the log was synced since the process started.
    pub log_syncs: u64,
    /// The median time of a log sync, in microseconds.
    pub log_sync_micros_p50: f64,
    /// The 99th percentile of the time of a log sync, in microseconds.
    pub log_sync_micros_p99: f64,
}

/// The room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// Free for this process.
    pub free: u64,
    /// The size of the file system.
    pub size: u64,
}

/// A node's records and metadata. Any threads may call any method at the same time, except that `persist` is called by one
/// thread at a time.
pub trait Store: Send + Sync + 'static {
    /// The metadata beside the records. Waits for the disk.
    ///
    /// # Errors
    /// When the metadata cannot be read or decoded.
    fn meta(&self) -> Result<Meta, StoreError>;

    /// Reads the record of `key`, or its digest.
    ///
    /// # Errors
    /// When the disk fails, or the data is damaged: a full read verifies the record's checksum.
    fn read(&self, slot: Slot, key: &Key, read_kind: ReadKind, tier: ReadTier) -> Result<ReadOutcome, StoreError> {
        self.read_up_to(slot, key, read_kind, tier, usize::MAX)
    }

    /// As [`Store::read`], but loads no value of more than `value_bytes_max` bytes. A store that holds its values in memory
    /// shares them, and need not heed the bound.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn read_up_to(
        &self,
        slot: Slot,
        key: &Key,
        read_kind: ReadKind,
        tier: ReadTier,
        value_bytes_max: usize,
    ) -> Result<ReadOutcome, StoreError>;

    /// Makes the whole of `batch` durable, or nothing of it. Waits for the disk.
    ///
    /// # Errors
    /// When the batch may not be durable. Every later call then fails with [`StoreError::Suspended`], until
    /// [`Store::reopen`] succeeds.
    fn persist(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Closes the store and opens it again, after a failed write. Everything that it then shows is durable. Waits for the
    /// disk; reads may fail meanwhile.
    ///
    /// # Errors
    /// When the store still cannot be written, or is damaged. It is safe to call this again.
    fn reopen(&self) -> Result<(), StoreError>;

    /// One page of the keys that begin with `prefix` and have a value, after `after`. Waits for the disk.
    ///
    /// # Errors
    /// When the disk fails.
    fn keys(&self, after: Option<&Cursor>, prefix: &str, bounds: PageBounds) -> Result<KeysPage, StoreError>;

    /// The first keys of `range` that have a record, with their digests, in the order of the keys' bytes. `slot_of` gives the
    /// slot of a key. Waits for the disk.
    ///
    /// It shows every batch whose write returned before the call: a key of such a batch is never left out.
    ///
    /// # Errors
    /// When the disk fails, or the data is damaged.
    fn list(
        &self,
        range: &KeyRange,
        slot_of: &dyn Fn(&Key) -> Slot,
        bounds: PageBounds,
    ) -> Result<ScannedKeys, StoreError>;

    /// The first `entries_max` records of `range`. Waits for the disk.
    ///
    /// It shows every batch whose write returned before the call. Damaged entries are left out and counted: others can be
    /// compared and repaired.
    ///
    /// # Errors
    /// When the disk fails.
    fn slots(&self, range: &SlotRange, entries_max: usize) -> Result<SlotsPage, StoreError>;

    /// The first `entries_max` entries of the index of expiries that expire at `from` or later, after the entry `after`, in
    /// their order. Waits for the disk.
    ///
    /// # Errors
    /// When the disk fails, or an entry is damaged.
    fn expiries(
        &self,
        from: RunningTime,
        after: Option<&Expiry>,
        entries_max: usize,
    ) -> Result<Vec<Expiry>, StoreError>;

    /// How many bytes of keys and values a table has in the slots that `slot_of` tells; it tells none for a key that does not
    /// count. It reads each entry of the table, and may take long. Waits for the disk.
    ///
    /// # Errors
    /// When the disk fails, or the data is damaged.
    fn measure(&self, table: TableId, slot_of: &dyn Fn(&Key) -> Option<Slot>) -> Result<u64, StoreError>;

    /// Removes records of a dropped table, at most `entries_max` of them, with all that belongs to them. Nobody reads or
    /// writes the table any more. The removal need not be durable. Waits for the disk.
    ///
    /// # Errors
    /// When the disk fails, or the data is damaged.
    fn clean(&self, table: TableId, entries_max: usize, slot_of: &dyn Fn(&Key) -> Slot) -> Result<Removed, StoreError>;

    /// Numbers about the store. Waits for the disk.
    fn statistics(&self) -> StoreStatistics;

    /// The room on the disk. Absent in memory, and where the system does not say. Waits for the disk.
    fn room(&self) -> Option<DiskRoom> {
        None
    }

    /// What was found damaged first since the process started. Does not wait for the disk.
    fn damage(&self) -> Option<String> {
        None
    }

    /// Reads what is on the disk from `place` on, and verifies each byte and each checksum. It reads past the caches of the store,
    /// so that it sees the disk. It calls `goes_on` with the bytes of keys and values that it has read since the last call, and
    /// ends early where that returns `false`. Returns the place from which the next call reads on; `None` once everything was
    /// read, which [`Store::scrubbed_at`] then remembers. A store in memory has nothing to read. Waits for the disk.
    ///
    /// # Errors
    /// When the disk fails, or at the first damage that it meets.
    fn scrub(&self, place: ScrubPlace, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<Option<ScrubPlace>, StoreError> {
        let _ = (place, goes_on);
        Ok(None)
    }

    /// When a scrub has read everything last, or when the store was first asked this. `None` for a store in memory, and where the
    /// disk does not say.
    fn scrubbed_at(&self) -> Option<SystemTime> {
        None
    }

    /// Remembers over a restart that everything is to be read again: the answer to [`Store::scrubbed_at`] is the beginning of
    /// [`SystemTime`]'s epoch until a scrub has read all of it.
    fn forget_scrub(&self) {}

    /// Writes into tables what is only in the log, so that the next start is quick. Durability does not depend on it.
    ///
    /// # Errors
    /// When the disk fails.
    fn flush(&self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod members_tests;
#[cfg(test)]
mod tests;
