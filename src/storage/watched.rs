//! A store that remembers that it met damage, so that somebody is told.
//!
//! Contract: that of the store within it; nothing is changed. What is damaged stays damaged: a store that met damage says so until the
//! process ends. The next start then reads all of it again.
//!
//! Caveat: damage is met where something reads it. A node reads all its records after each start, to count them for repair, and a
//! scrub reads all that there is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::{
    Cursor, DiskRoom, KeysPage, PageBounds, ReadOutcome, ReadTier, ScrubPlace, Store, StoreError, StoreStatistics,
};
use crate::types::{
    Batch, Expiry, Key, KeyRange, Meta, ReadKind, Removed, RunningTime, ScannedKeys, Slot, SlotRange, SlotsPage,
    TableId,
};

/// A store, and what it met.
#[derive(Debug)]
pub struct Watched<S> {
    store: S,
    /// What was damaged first.
    first: Mutex<Option<String>>,
    /// How often it met damage.
    times: AtomicU64,
    /// Whether the disk remembers that damage was met.
    is_noted: AtomicBool,
}

impl<S: Store> Watched<S> {
    /// Watches `store`, which has met no damage yet.
    pub fn new(store: S) -> Self {
        Self { store, first: Mutex::new(None), times: AtomicU64::new(0), is_noted: AtomicBool::new(false) }
    }

    fn note(&self, times: u64, what: impl FnOnce() -> String) {
        self.times.fetch_add(times, Ordering::Relaxed);
        // A panic under this lock leaves no half-changed state behind.
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(what());
        }
    }

    /// The same result.
    fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Damaged { message }) = &result {
            self.note(1, || message.clone());
        }
        result
    }
}

impl<S: Store> Store for Watched<S> {
    fn meta(&self) -> Result<Meta, StoreError> {
        self.noted(self.store.meta())
    }

    fn read_up_to(
        &self,
        slot: Slot,
        key: &Key,
        read_kind: ReadKind,
        tier: ReadTier,
        value_bytes_max: usize,
    ) -> Result<ReadOutcome, StoreError> {
        self.noted(self.store.read_up_to(slot, key, read_kind, tier, value_bytes_max))
    }

    fn persist(&self, batch: &Batch) -> Result<(), StoreError> {
        self.noted(self.store.persist(batch))
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.noted(self.store.reopen())
    }

    fn keys(&self, after: Option<&Cursor>, prefix: &str, bounds: PageBounds) -> Result<KeysPage, StoreError> {
        self.noted(self.store.keys(after, prefix, bounds))
    }

    fn list(
        &self,
        range: &KeyRange,
        slot_of: &dyn Fn(&Key) -> Slot,
        bounds: PageBounds,
    ) -> Result<ScannedKeys, StoreError> {
        self.noted(self.store.list(range, slot_of, bounds))
    }

    fn slots(&self, range: &SlotRange, entries_max: usize) -> Result<SlotsPage, StoreError> {
        let page = self.noted(self.store.slots(range, entries_max))?;
        if page.damaged > 0 {
            self.note(page.damaged as u64, || format!("records of slots {} to {}", range.first, range.last));
        }
        Ok(page)
    }

    fn expiries(
        &self,
        from: RunningTime,
        after: Option<&Expiry>,
        entries_max: usize,
    ) -> Result<Vec<Expiry>, StoreError> {
        self.noted(self.store.expiries(from, after, entries_max))
    }

    fn measure(&self, table: TableId, slot_of: &dyn Fn(&Key) -> Option<Slot>) -> Result<u64, StoreError> {
        self.noted(self.store.measure(table, slot_of))
    }

    fn clean(&self, table: TableId, entries_max: usize, slot_of: &dyn Fn(&Key) -> Slot) -> Result<Removed, StoreError> {
        self.noted(self.store.clean(table, entries_max, slot_of))
    }

    fn statistics(&self) -> StoreStatistics {
        StoreStatistics { damage_met: self.times.load(Ordering::Relaxed), ..self.store.statistics() }
    }

    fn room(&self) -> Option<DiskRoom> {
        self.store.room()
    }

    fn damage(&self) -> Option<String> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn scrub(&self, place: ScrubPlace, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<Option<ScrubPlace>, StoreError> {
        let next = self.noted(self.store.scrub(place, goes_on))?;
        if next.is_none() && self.damage().is_some() {
            // A read has met damage that is not on the disk any more, or that a scrub does not see.
            self.store.forget_scrub();
        }
        Ok(next)
    }

    fn scrubbed_at(&self) -> Option<SystemTime> {
        // Here, and not where damage is met: a read from memory must not wait for a disk that fails.
        if self.damage().is_some() && !self.is_noted.swap(true, Ordering::Relaxed) {
            self.store.forget_scrub();
        }
        self.store.scrubbed_at()
    }

    fn forget_scrub(&self) {
        self.store.forget_scrub();
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.noted(self.store.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStore;
    use crate::types::{Checksum, Clock, Content, NodeId, Record, Stamp, StoreId, Value};

    #[test]
    fn damage_that_a_read_meets_is_remembered() {
        let store = Watched::new(MemoryStore::new(StoreId(1)));
        let (a, b) = (Key::new("a").unwrap(), Key::new("b").unwrap());
        let mut batch = Batch { epoch: Some(1), ..Batch::default() };
        for (counter, key) in [(1, &a), (2, &b)] {
            let content = Content::Value(Value::Text("value".into()));
            let stamp = Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("1").unwrap() };
            let mut checksum = Checksum::of(key, &content);
            if *key == b {
                checksum.0 ^= 1;
            }
            batch.records.insert(key.clone(), (Slot(1), Record::plain(stamp, content, checksum)));
        }
        store.persist(&batch).unwrap();
        store.read(Slot(1), &a, ReadKind::Data, ReadTier::Disk).unwrap();
        assert_eq!((store.damage(), store.statistics().damage_met), (None, 0));
        for times in 1..3 {
            let read = store.read(Slot(1), &b, ReadKind::Data, ReadTier::Disk);
            let Err(StoreError::Damaged { message }) = read else { panic!("{read:?}") };
            assert_eq!((store.damage(), store.statistics().damage_met), (Some(message), times));
        }
        store.read(Slot(1), &a, ReadKind::Data, ReadTier::Disk).unwrap();
        assert!(store.damage().is_some(), "it stays damaged");
        assert!(!store.is_noted.load(Ordering::Relaxed), "a read does not wait for the disk to note that");
        store.scrubbed_at();
        assert!(store.is_noted.load(Ordering::Relaxed), "the thread that scrubs notes it");
    }
}
