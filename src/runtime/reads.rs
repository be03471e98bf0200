//! Reads of the store: from memory within a turn, from the disk on threads that may wait.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{debug, error};

use crate::metrics::Metrics;
use crate::protocol::ReadId;
use crate::protocol::turn::MemoryRead;
use crate::storage::{ReadOutcome, ReadTier, Store, StoreError};
use crate::types::{Key, Lookup, ReadKind, Slot};

use super::event::Event;

/// How many reads that wait for the disk share a thread. To start a thread costs as much as to read from the system's
/// page cache; the last read of a thread waits for the others.
const READS_PER_THREAD: usize = 4;

/// A read that the protocol asked for.
pub(super) struct StoreRead {
    pub(super) read: ReadId,
    pub(super) slot: Slot,
    pub(super) key: Key,
    pub(super) kind: ReadKind,
}

/// The store as the event loop reads it.
pub(super) struct Reads {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    events: mpsc::Sender<Event>,
}

impl Reads {
    pub(super) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>, events: mpsc::Sender<Event>) -> Self {
        Self { store, metrics, events }
    }

    /// Reads without waiting.
    pub(super) fn from_memory(&self, slot: Slot, key: &Key, kind: ReadKind) -> MemoryRead {
        match self.store.read(slot, key, kind, ReadTier::Memory) {
            Ok(ReadOutcome::Done(lookup)) => {
                self.metrics.store_reads_from_memory.inc();
                MemoryRead::Done(lookup)
            }
            Ok(ReadOutcome::WouldBlock) => MemoryRead::WouldBlock,
            Err(error) => {
                log_failed_read(&error, key);
                MemoryRead::Failed
            }
        }
    }

    /// Reads on threads that may wait for the disk. The event loop is told with [`Event::ReadsDone`].
    pub(super) fn from_disk(&self, mut reads: Vec<StoreRead>) {
        self.metrics.store_reads_from_disk.inc_by(reads.len() as u64);
        while !reads.is_empty() {
            let part = reads.split_off(reads.len().saturating_sub(READS_PER_THREAD));
            let (store, events) = (Arc::clone(&self.store), self.events.clone());
            tokio::task::spawn_blocking(move || {
                let done = part.into_iter().map(|read| (read.read, read_from_disk(&*store, &read))).collect();
                // It fails only if the event loop has ended.
                let _ = events.blocking_send(Event::ReadsDone(done));
            });
        }
    }
}

fn read_from_disk(store: &dyn Store, read: &StoreRead) -> Option<Lookup> {
    match store.read(read.slot, &read.key, read.kind, ReadTier::Disk) {
        Ok(ReadOutcome::Done(lookup)) => Some(lookup),
        Ok(ReadOutcome::WouldBlock) => None,
        Err(error) => {
            log_failed_read(&error, &read.key);
            None
        }
    }
}

/// A store that is closed was logged when it failed.
fn log_failed_read(error: &StoreError, key: &Key) {
    match error {
        StoreError::Closed | StoreError::Suspended => debug!(%error, %key, "could not read a record"),
        _ => error!(%error, %key, "could not read a record"),
    }
}
