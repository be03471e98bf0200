//! Reads of the store: from memory within a turn, from the disk on threads that may wait.
//!
//! Large values, of more than [`UNCOUNTED_VALUE_BYTES_MAX`], count against a budget while they are in memory. A read of one
//! waits until its bytes fit, and loads the value only then. The value itself gives the bytes back, once its last clone is
//! dropped: when the response or the message to a peer has left. Small reads pass those that wait.
//!
//! Reads of one key that wait share one load, which begins after all of them. A coordinator asks again while it still waits
//! for an answer, so that a wait that nobody renews for [`WAIT_MAX`] ends without a load.
//!
//! Large values in the answers of peers count against a budget of the same size. An answer that does not fit becomes a
//! refusal: to ask again and again for values that are then dropped would leave no time for those that fit. The read goes on
//! with this node's own record, which waits in line, or ends at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{debug, error, warn};

use crate::limits::{RESEND_AFTER_MAX, UNCOUNTED_VALUE_BYTES_MAX};
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::protocol::turn::MemoryRead;
use crate::protocol::{Answer, Message, ReadId, Refusal};
use crate::storage::{ReadOutcome, ReadTier, Store, StoreError};
use crate::types::{Content, Expiry, Found, Key, Lookup, ReadKind, Record, RunningTime, Slot, Value};

use super::event::Event;
use super::telemetry::LINE_EVERY;

/// How many reads that wait for the disk share a thread. To start a thread costs as much as to read from the system's
/// page cache; the last read of a thread waits for the others.
const READS_PER_THREAD: usize = 4;
/// How long a read waits for its bytes unless it is asked for again. A coordinator asks again at least every
/// [`RESEND_AFTER_MAX`]; the rest is for the way.
const WAIT_MAX: Duration = RESEND_AFTER_MAX.saturating_add(Duration::from_millis(500));
/// Budgets count in this unit: a semaphore hands out at most `u32::MAX` permits at once.
const BUDGET_UNIT_BYTES: usize = 1 << 10;

/// A read that the protocol asked for.
#[derive(Clone, Debug)]
pub(super) struct StoreRead {
    pub(super) read: ReadId,
    pub(super) slot: Slot,
    pub(super) key: Key,
    pub(super) kind: ReadKind,
}

/// The store as the event loop reads it.
pub(super) struct Reads {
    disk: Arc<Disk>,
    received: Budget,
    received_refused: LogLimit,
}

/// The parts that threads and tasks share.
struct Disk {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    events: mpsc::Sender<Event>,
    tasks: Handle,
    loaded: Budget,
    waiting: Mutex<BTreeMap<(Slot, Key), Waiting>>,
    /// [`WAIT_MAX`], but in tests.
    wait_max: Duration,
    failed_reads: LogLimit,
}

/// Reads of one large value that wait for its bytes.
struct Waiting {
    reads: Vec<ReadId>,
    asked_at: Instant,
}

/// Bytes that large values may hold.
#[derive(Clone)]
struct Budget {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// A value, and its part of a budget.
struct Counted {
    value: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

impl Budget {
    fn new(bytes_max: usize) -> Self {
        let units_max = u32::try_from(bytes_max / BUDGET_UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { units: Arc::new(Semaphore::new(units_max as usize)), units_max }
    }

    /// The units of a value. A value above the whole budget takes all of it: it is then alone in memory.
    fn units_of(&self, value_bytes: usize) -> u32 {
        u32::try_from(value_bytes.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units_max)
    }

    /// The part of a value of so many bytes, once it fits. Parts are given out in the order of the calls.
    async fn part(&self, value_bytes: usize) -> OwnedSemaphorePermit {
        let units = self.units_of(value_bytes);
        Arc::clone(&self.units).acquire_many_owned(units).await.expect("budgets are never closed")
    }

    /// The part of a value of so many bytes, if it fits now.
    fn try_part(&self, value_bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.units).try_acquire_many_owned(self.units_of(value_bytes)).ok()
    }
}

impl Reads {
    /// Large values that are loaded may hold `value_bytes_max` bytes, and as many those that peers send.
    ///
    /// # Panics
    /// When it is called outside a runtime of tokio.
    pub(super) fn new(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        events: mpsc::Sender<Event>,
        value_bytes_max: usize,
    ) -> Self {
        Self::waiting_up_to(WAIT_MAX, store, metrics, events, value_bytes_max)
    }

    fn waiting_up_to(
        wait_max: Duration,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        events: mpsc::Sender<Event>,
        value_bytes_max: usize,
    ) -> Self {
        let budget = || Budget::new(value_bytes_max);
        let (tasks, waiting) = (Handle::current(), Mutex::default());
        let failed_reads = LogLimit::new(3, LINE_EVERY);
        let disk = Disk { store, metrics, events, tasks, loaded: budget(), waiting, wait_max, failed_reads };
        Self { disk: Arc::new(disk), received: budget(), received_refused: LogLimit::new(1, LINE_EVERY) }
    }

    /// Reads without waiting. Large values are read from the disk, where they count.
    pub(super) fn read_memory(&self, slot: Slot, key: &Key, kind: ReadKind) -> MemoryRead {
        let Disk { store, metrics, .. } = &*self.disk;
        match store.read_up_to(slot, key, kind, ReadTier::Memory, UNCOUNTED_VALUE_BYTES_MAX) {
            Ok(ReadOutcome::Done(lookup)) => {
                metrics.store_reads_from_memory.inc();
                MemoryRead::Done(lookup)
            }
            Ok(ReadOutcome::WouldBlock | ReadOutcome::TooLarge { .. }) => MemoryRead::WouldBlock,
            Err(error) => {
                self.disk.log_failed_read(&error, key);
                MemoryRead::Failed
            }
        }
    }

    /// Reads on threads that may wait for the disk. The event loop is told with [`Event::ReadsDone`].
    pub(super) fn read_disk(&self, mut reads: Vec<StoreRead>) {
        self.disk.metrics.store_reads_from_disk.inc_by(reads.len() as u64);
        while !reads.is_empty() {
            let part = reads.split_off(reads.len().saturating_sub(READS_PER_THREAD));
            let disk = Arc::clone(&self.disk);
            tokio::task::spawn_blocking(move || disk.read_all(part));
        }
    }

    /// Reads a page of the index of expiries on a thread that may wait for the disk. The event loop is told with
    /// [`Event::ExpiriesRead`].
    pub(super) fn read_expiries(&self, from: RunningTime, after: Option<Expiry>, entries_max: usize) {
        let disk = Arc::clone(&self.disk);
        tokio::task::spawn_blocking(move || {
            let page = disk.store.expiries(from, after.as_ref(), entries_max);
            if let Err(error) = &page {
                match error {
                    StoreError::Closed | StoreError::Suspended => debug!(%error, "could not read what expires"),
                    _ => error!(%error, "could not read what expires; values stay until that can be read"),
                }
            }
            // It fails only if the event loop has ended.
            let _ = disk.events.blocking_send(Event::ExpiriesRead(page.ok()));
        });
    }

    /// Counts the value in a peer's answer. Where it does not fit, the answer becomes [`Refusal::NoRoom`].
    pub(super) fn count_received(&mut self, message: &mut Message) {
        let Message::Answer { answer, .. } = message else { return };
        let Answer::Lookup { held: Lookup::Record(record), .. } = answer else { return };
        let value_bytes = record.content.value_bytes();
        if value_bytes <= UNCOUNTED_VALUE_BYTES_MAX {
            return;
        }
        if let Some(permit) = self.received.try_part(value_bytes) {
            return counted(record, permit);
        }
        if let Some(left_out) = self.received_refused.pass(Instant::now()) {
            warn!(value_bytes, left_out, "no room for a large value from a peer: earlier ones still wait for clients");
        }
        *answer = Answer::Refused(Refusal::NoRoom);
    }
}

impl Disk {
    /// Reads on the present thread. Reads of large values wait elsewhere.
    fn read_all(self: &Arc<Self>, reads: Vec<StoreRead>) {
        let mut done = Vec::with_capacity(reads.len());
        for read in reads {
            match self.read_up_to(&read, UNCOUNTED_VALUE_BYTES_MAX) {
                Ok(lookup) => done.push((read.read, lookup)),
                Err(TooLarge { value_bytes }) => self.wait(read.slot, read.key, vec![read.read], value_bytes),
            }
        }
        self.done(done);
    }

    fn read_up_to(&self, read: &StoreRead, value_bytes_max: usize) -> Result<Option<Found>, TooLarge> {
        match self.store.read_up_to(read.slot, &read.key, read.kind, ReadTier::Disk, value_bytes_max) {
            Ok(ReadOutcome::Done(lookup)) => Ok(Some(lookup)),
            Ok(ReadOutcome::TooLarge { value_bytes }) => Err(TooLarge { value_bytes }),
            Ok(ReadOutcome::WouldBlock) => Ok(None),
            Err(error) => {
                self.log_failed_read(&error, &read.key);
                Ok(None)
            }
        }
    }

    fn done(&self, done: Vec<(ReadId, Option<Found>)>) {
        if !done.is_empty() {
            // It fails only if the event loop has ended.
            let _ = self.events.blocking_send(Event::ReadsDone(done));
        }
    }

    /// Logs a read that failed, a few times in each interval. A store that is closed was logged when it failed.
    fn log_failed_read(&self, error: &StoreError, key: &Key) {
        if matches!(error, StoreError::Closed | StoreError::Suspended) {
            debug!(%error, %key, "could not read a record");
        } else if let Some(left_out) = self.failed_reads.pass(Instant::now()) {
            error!(%error, %key, left_out, "could not read a record");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<(Slot, Key), Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets reads of a large value wait for its bytes, together with those of the same key that wait already.
    fn wait(self: &Arc<Self>, slot: Slot, key: Key, reads: Vec<ReadId>, value_bytes: usize) {
        let asked_at = Instant::now();
        let mut waiting = self.waiting();
        if let Some(others) = waiting.get_mut(&(slot, key.clone())) {
            others.reads.extend(reads);
            others.asked_at = asked_at;
            return;
        }
        waiting.insert((slot, key.clone()), Waiting { reads, asked_at });
        drop(waiting);
        let disk = Arc::clone(self);
        self.tasks.spawn(async move {
            let permit = disk.part_while_wanted(slot, &key, value_bytes).await;
            // From here on, reads of this key wait for a load of their own: this one may show less than they must see.
            let reads = disk.waiting().remove(&(slot, key.clone())).map_or_else(Vec::new, |waiting| waiting.reads);
            if let Some(permit) = permit {
                disk.tasks.clone().spawn_blocking(move || disk.load(slot, key, reads, value_bytes, permit));
            } else {
                let unread = reads.into_iter().map(|read| (read, None)).collect();
                // It fails only if the event loop has ended.
                let _ = disk.events.send(Event::ReadsDone(unread)).await;
            }
        });
    }

    /// The part of the budget for a value, or nothing once nobody has asked for it for [`WAIT_MAX`].
    async fn part_while_wanted(&self, slot: Slot, key: &Key, value_bytes: usize) -> Option<OwnedSemaphorePermit> {
        let part = self.loaded.part(value_bytes);
        tokio::pin!(part);
        loop {
            let asked_at = self.waiting().get(&(slot, key.clone()))?.asked_at;
            let give_up_at = asked_at + self.wait_max;
            if give_up_at <= Instant::now() {
                return None;
            }
            if let Ok(permit) = tokio::time::timeout_at(give_up_at.into(), &mut part).await {
                return Some(permit);
            }
        }
    }

    /// Loads a large value on the present thread, and answers all of `reads` with it.
    fn load(
        self: Arc<Self>,
        slot: Slot,
        key: Key,
        reads: Vec<ReadId>,
        value_bytes: usize,
        permit: OwnedSemaphorePermit,
    ) {
        let Some(first) = reads.first() else { return };
        let read = StoreRead { read: *first, slot, key, kind: ReadKind::Data };
        let is_alone = self.loaded.units_of(value_bytes) == self.loaded.units_max;
        let value_bytes_max = if is_alone { usize::MAX } else { value_bytes };
        match self.read_up_to(&read, value_bytes_max) {
            Ok(mut lookup) => {
                if let Some(Found { lookup: Lookup::Record(record), .. }) = &mut lookup {
                    counted(record, permit);
                }
                let done = reads.into_iter().map(|read| (read, lookup.clone())).collect();
                // The answers alone hold the value from here on: its bytes are given back with the last of them.
                drop(lookup);
                self.done(done);
            }
            // A larger value has replaced it meanwhile.
            Err(TooLarge { value_bytes }) => {
                drop(permit);
                self.wait(read.slot, read.key, reads, value_bytes);
            }
        }
    }
}

/// The value is larger than the caller allowed, and was not loaded.
struct TooLarge {
    value_bytes: usize,
}

/// Gives the record's value its part of a budget, until its last clone is dropped.
fn counted(record: &mut Record, permit: OwnedSemaphorePermit) {
    match &mut record.content {
        Content::Value(Value::Text(bytes) | Value::Binary(bytes)) => {
            let value = std::mem::take(bytes);
            *bytes = Bytes::from_owner(Counted { value, _permit: permit });
        }
        Content::Tombstone => {}
    }
}

#[cfg(test)]
mod tests;
