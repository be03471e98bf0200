//! What keeps records: a trait, RocksDB behind it for real nodes ([`rocks`]) and memory for tests and throw-away
//! clusters ([`memory`]). The bytes on disk are in [`codec`].
//!
//! Contract: [`Store::persist`] is atomic and, once it returned `Ok`, durable as far as the durability mode goes; a load
//! sees all persists that returned before it began and never half of one, nor anything of one that failed until
//! [`Store::reopen`] has made what it found durable. After one failed persist every further one fails until then:
//! a failed fsync leaves nobody knowing what is on disk.

pub mod codec;
pub mod folder;
mod log_check;
pub mod memory;
mod page;
mod record_cache;
pub mod rocks;

use crate::types::{Batch, Key, Lookup, Meta, ReadKind, Slot};

/// Whether a load may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadTier {
    /// Answer from memory or say that it would wait: for callers that serve other keys meanwhile.
    Memory,
    /// Wait for the disk.
    Disk,
}

/// The answer to a load.
#[derive(Debug)]
pub enum ReadOutcome {
    /// What is held.
    Done(Lookup),
    /// Not in memory; ask again with [`ReadTier::Disk`] from a thread that may.
    WouldBlock,
}

/// Why a store could not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full, or a limit on a file's size was met.
    #[error("no space left for the store: {message}")]
    NoSpace {
        /// What the store said.
        message: String,
    },
    /// What was read is not what was written.
    #[error("damaged: {message}")]
    Damaged {
        /// What is damaged.
        message: String,
    },
    /// Another process has the store open.
    #[error("the store is in use by another process: {message}")]
    InUse {
        /// What the store said.
        message: String,
    },
    /// Any other failure of the store or the disk.
    #[error("the store failed: {message}")]
    Failed {
        /// What the store said.
        message: String,
    },
    /// An earlier write failed, and the store was not reopened since.
    #[error("the store takes no writes since an earlier one failed")]
    Suspended,
    /// It is being reopened, or that failed.
    #[error("the store is closed since an earlier write failed, until it could be reopened")]
    Closed,
}

/// Where a scan of keys goes on: after this key of this slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The slot of the last key looked at.
    pub slot: Slot,
    /// The last key looked at.
    pub key: Key,
}

/// A part of a scan of keys.
#[derive(Debug, PartialEq, Eq)]
pub struct KeysPage {
    /// Keys that have a value (no tombstones), by slot, then by key.
    pub keys: Vec<Key>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Bounds of one step of a scan of keys.
#[derive(Clone, Copy, Debug)]
pub struct PageBounds {
    /// At most so many keys are returned.
    pub keys_max: usize,
    /// At most so many bytes of keys are returned; a page holds one key at least where there is one.
    pub bytes_max: usize,
    /// At most so many entries are looked at, so that a scan for a rare prefix comes up for air.
    pub looked_at_max: usize,
}

/// What a store says of itself, for status and metrics. Numbers of bytes and entries; estimates where exact ones would
/// cost a scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreStatistics {
    /// About how many keys are held, tombstones included.
    pub keys_estimate: u64,
    /// What the data takes on disk: tables, blob files and log.
    pub disk_bytes: u64,
    /// Tables and blob files, without the log.
    pub live_bytes: u64,
    /// What compaction still has to rewrite.
    pub compaction_pending_bytes: u64,
    /// Write buffers in memory.
    pub write_buffer_bytes: u64,
    /// Cached blocks in memory.
    pub block_cache_bytes: u64,
    /// 1 where writes are stopped by the store because flushes or compactions lag.
    pub write_stopped: u64,
    /// How long writers were stalled by the store since start, in microseconds.
    pub stall_micros: u64,
    /// How many times the log was synced since start.
    pub log_syncs: u64,
    /// The median time of a log sync, in microseconds.
    pub log_sync_micros_p50: f64,
    /// The 99th percentile of the time of a log sync, in microseconds.
    pub log_sync_micros_p99: f64,
}

/// What keeps a node's records and promises. All calls may be made from any thread at once; `persist` is called by one
/// at a time.
pub trait Store: Send + Sync + 'static {
    /// What the folder remembers beside its records.
    ///
    /// # Errors
    /// When it cannot be read or decoded.
    fn meta(&self) -> Result<Meta, StoreError>;

    /// What is held of `key`.
    ///
    /// # Errors
    /// When the disk fails, or what it gives is damaged (a record's checksum is verified here).
    fn read(&self, slot: Slot, key: &Key, read_kind: ReadKind, tier: ReadTier) -> Result<ReadOutcome, StoreError>;

    /// Makes `batch` durable, whole or not at all. Waits for the disk.
    ///
    /// # Errors
    /// When it may not have become durable; every later call then fails with [`StoreError::Suspended`] until
    /// [`Store::reopen`].
    fn persist(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Closes what failed and opens it anew; what is then found is made durable before it is shown. Waits for the disk.
    ///
    /// # Errors
    /// When it still cannot be written or is damaged. It may be called again; loads may fail meanwhile.
    fn reopen(&self) -> Result<(), StoreError>;

    /// Keys that begin with `prefix` and have a value, from `after` on. Waits for the disk.
    ///
    /// # Errors
    /// When the disk fails.
    fn keys(&self, after: Option<&Cursor>, prefix: &str, bounds: PageBounds) -> Result<KeysPage, StoreError>;

    /// Numbers about itself.
    fn statistics(&self) -> StoreStatistics;

    /// Writes out what is only in the log, so that the next start is quick. Losing it loses nothing.
    ///
    /// # Errors
    /// When the disk fails.
    fn flush(&self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests;
