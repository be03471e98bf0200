//! Scans of the store's index of keys: for lists, for the sizes of tables, and for the removal of dropped tables. They wait
//! for the disk, and so run on threads of their own.
//!
//! Bound: [`SCANS_RUNNING_MAX`] scans for lists run at the same time, in the order in which they came. The replica bounds how
//! many wait. A measure may take minutes, and so takes no place from lists: at most one runs, and beside it one removal.
//! Repair bounds itself how many reads of slots it has under way.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, error};

use crate::limits::{SCANNED_BYTES_MAX, SCANNED_ENTRIES_MAX, SCANS_RUNNING_MAX};
use crate::log_limit::LogLimit;
use crate::protocol::Layout;
use crate::protocol::ReadId;
use crate::storage::{PageBounds, Store, StoreError};
use crate::types::{Key, KeyRange, NodeIndex, Removed, ScannedKeys, SlotRange, SlotsPage, TableId};

use super::event::Event;
use super::telemetry::LINE_EVERY;

/// The store as lists read it.
pub(super) struct Scans {
    store: Arc<dyn Store>,
    layout: Arc<Layout>,
    events: mpsc::Sender<Event>,
    places: Arc<Semaphore>,
    /// Reads of slots that failed or met damage.
    slots_unread: Arc<LogLimit>,
}

impl Scans {
    pub(super) fn new(store: Arc<dyn Store>, layout: Arc<Layout>, events: mpsc::Sender<Event>) -> Self {
        let places = Arc::new(Semaphore::new(SCANS_RUNNING_MAX));
        Self { store, layout, events, places, slots_unread: Arc::new(LogLimit::new(1, LINE_EVERY)) }
    }

    /// Begins a scan. The event loop is told with [`Event::ScanDone`].
    ///
    /// # Panics
    /// When it is called outside a runtime of tokio.
    pub(super) fn begin(&self, read: ReadId, range: KeyRange, keys_max: usize) {
        let (store, layout) = (Arc::clone(&self.store), Arc::clone(&self.layout));
        let (events, places) = (self.events.clone(), Arc::clone(&self.places));
        tokio::spawn(async move {
            let Ok(_place) = places.acquire().await else { return };
            let scan = move || scan(&*store, &layout, &range, keys_max);
            let scanned = tokio::task::spawn_blocking(scan).await.ok().flatten();
            // It fails only if the event loop has ended.
            let _ = events.send(Event::ScanDone(read, scanned)).await;
        });
    }

    /// Reads the first records of some slots. The event loop is told with [`Event::SlotsRead`].
    ///
    /// # Panics
    /// As [`Self::begin`].
    pub(super) fn read_slots(&self, read: ReadId, range: SlotRange, entries_max: usize) {
        let (store, events, unread) = (Arc::clone(&self.store), self.events.clone(), Arc::clone(&self.slots_unread));
        tokio::spawn(async move {
            let scan = move || slots(&*store, &range, entries_max, &unread);
            let page = tokio::task::spawn_blocking(scan).await.ok().flatten();
            // It fails only if the event loop has ended.
            let _ = events.send(Event::SlotsRead(read, page)).await;
        });
    }

    /// Counts the bytes that `me` holds of a table under `layout`, one table at a time. What it still has of slots that it lost
    /// does not count. The event loop is told with [`Event::Measured`].
    ///
    /// # Panics
    /// As [`Self::begin`].
    pub(super) fn measure(&self, table: TableId, me: NodeIndex, layout: Arc<Layout>) {
        let (store, events) = (Arc::clone(&self.store), self.events.clone());
        tokio::spawn(async move {
            let slot_of = move |key: &Key| Some(layout.slot(key)).filter(|slot| layout.holds(me, *slot));
            let measure = move || store.measure(table, &slot_of);
            let measured = tokio::task::spawn_blocking(measure).await;
            if let Ok(Err(error)) = &measured {
                debug!(%error, "could not measure a table");
            }
            // It fails only if the event loop has ended.
            let _ = events.send(Event::Measured(measured.ok().and_then(Result::ok))).await;
        });
    }

    /// Removes records of a dropped table, of one table at a time. The event loop is told with [`Event::Cleaned`].
    ///
    /// # Panics
    /// As [`Self::begin`].
    pub(super) fn clean(&self, table: TableId, entries_max: usize) {
        let (store, layout) = (Arc::clone(&self.store), Arc::clone(&self.layout));
        let events = self.events.clone();
        tokio::spawn(async move {
            let clean = move || clean(&*store, &layout, table, entries_max);
            let removed = tokio::task::spawn_blocking(clean).await.ok().flatten();
            // It fails only if the event loop has ended.
            let _ = events.send(Event::Cleaned(removed)).await;
        });
    }
}

fn clean(store: &dyn Store, layout: &Layout, table: TableId, entries_max: usize) -> Option<Removed> {
    match store.clean(table, entries_max, &|key| layout.slot(key)) {
        Ok(removed) => Some(removed),
        Err(error @ (StoreError::Closed | StoreError::Suspended)) => {
            debug!(%error, "could not remove records of a dropped table");
            None
        }
        Err(error) => {
            error!(%error, "could not remove records of a dropped table; other tables go first, and it is tried again");
            None
        }
    }
}

fn slots(store: &dyn Store, range: &SlotRange, entries_max: usize, unread: &LogLimit) -> Option<SlotsPage> {
    match store.slots(range, entries_max) {
        Ok(page) => {
            if page.damaged > 0
                && let Some(left_out) = unread.pass(Instant::now())
            {
                let (first, last) = (range.first, range.last);
                error!(%first, %last, damaged = page.damaged, left_out, "records of these slots are damaged; repair leaves them out");
            }
            Some(page)
        }
        Err(error @ (StoreError::Closed | StoreError::Suspended)) => {
            debug!(%error, "could not read the records of a slot");
            None
        }
        Err(error) => {
            if let Some(left_out) = unread.pass(Instant::now()) {
                error!(%error, left_out, "could not read the records of a slot for repair; it is tried again");
            }
            None
        }
    }
}

fn scan(store: &dyn Store, layout: &Layout, range: &KeyRange, keys_max: usize) -> Option<ScannedKeys> {
    let bounds = PageBounds { keys_max, bytes_max: SCANNED_BYTES_MAX, looked_at_max: SCANNED_ENTRIES_MAX };
    match store.list(range, &|key| layout.slot(key), bounds) {
        Ok(scanned) => Some(scanned),
        // A store that is closed was logged when it failed.
        Err(error @ (StoreError::Closed | StoreError::Suspended)) => {
            debug!(%error, "could not list keys");
            None
        }
        Err(error) => {
            error!(%error, "could not list keys");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::placement::Placement;
    use crate::storage::memory::MemoryStore;
    use crate::types::{Batch, Checksum, Clock, ClusterParameters, Content, NodeId, Record, Stamp, StoreId, Value};

    #[tokio::test]
    async fn slots_that_a_node_does_not_hold_do_not_count() {
        let ids = ["1", "2"].map(|id| NodeId::new(id).unwrap()).to_vec();
        let layout =
            Arc::new(Layout::begin(Arc::new(Placement::new(ClusterParameters::plain(0, 1, ids.clone()))), &[]));
        let key = Key::new("a").unwrap();
        let (slot, content) = (layout.slot(&key), Content::Value(Value::Text("value".into())));
        let stamp = Stamp { clock: Clock { epoch: 1, counter: 1 }, writer: ids[0].clone() };
        let record = Record::plain(stamp, content.clone(), Checksum::of(&key, &content));
        let store = MemoryStore::new(StoreId(1));
        let mut batch = Batch { epoch: Some(1), ..Batch::default() };
        batch.records.insert(key.clone(), (slot, record));
        batch.new_keys.extend([key.clone()]);
        store.persist(&batch).unwrap();
        let (events, mut told) = mpsc::channel(2);
        let scans = Scans::new(Arc::new(store), Arc::clone(&layout), events);
        for me in [NodeIndex(0), NodeIndex(1)] {
            scans.measure(key.table(), me, Arc::clone(&layout));
            let Some(Event::Measured(bytes)) = told.recv().await else { panic!("it is told") };
            assert_eq!(bytes, Some(if layout.holds(me, slot) { 6 } else { 0 }));
        }
    }
}
