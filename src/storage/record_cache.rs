//! The records written or read last, so that comparing with one, or reading it, costs a look into memory instead of a
//! search in RocksDB.
//!
//! Contract: what is found here is what RocksDB would show, so that no load shows less than one before it did. RocksDB
//! shows the records of a persist some time before that returns: while it runs, nothing is found here of its keys, and
//! one that asks for digests sees as much as one that asks for records. They are put here once it has succeeded. A load may
//! have found what a persist has replaced meanwhile, so that it puts nothing here unless no persist ran beside it. A
//! store that is reopened forgets everything: a batch that failed may be on disk after all.
//!
//! Bounded in bytes. What stays is decided by how often and how lately it was of use (S3-FIFO, Yang et al., SOSP 2023).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::limits::CACHED_VALUE_BYTES_MAX;
use crate::mutants::{self, Mutant};
use crate::types::{Content, Key, Lookup, ReadKind, Record, Value};

/// Records at hand, by their places ([`super::codec::entry_key`]); of large ones the digest alone.
pub(super) struct RecordCache {
    cache: Cache<Box<[u8]>, Lookup, Weight>,
    /// Rises when a persist begins and when it has ended: odd while one runs.
    persists: AtomicU64,
    /// Lookup while something is put here or taken away, so that what a persist does to its keys comes last. No load ever
    /// waits for it: a persist may have many records to copy.
    putting: Mutex<()>,
}

/// When a load began, as far as persists go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CacheVersion(u64);

#[derive(Clone)]
struct Weight;

impl Weighter<Box<[u8]>, Lookup> for Weight {
    fn weight(&self, place: &Box<[u8]>, held: &Lookup) -> u64 {
        // The stamp, its writer's id, and a place in the cache.
        const OVERHEAD: usize = 200;
        let value_bytes = match held {
            Lookup::Record(record) => record.content.value_bytes(),
            Lookup::Digest(_) | Lookup::Absent => 0,
        };
        (OVERHEAD + place.len() + value_bytes) as u64
    }
}

impl RecordCache {
    /// Room for so many bytes of records.
    pub(super) fn new(bytes_max: usize) -> Self {
        const RECORD_BYTES_ABOUT: usize = 1_024;
        let cache = Cache::with_weighter(bytes_max / RECORD_BYTES_ABOUT, bytes_max as u64, Weight);
        Self { cache, persists: AtomicU64::new(0), putting: Mutex::new(()) }
    }

    /// What is held of `key` at this place, if as much of it as is wanted is at hand, and whole.
    pub(super) fn get(&self, place: &[u8], key: &Key, read_kind: ReadKind) -> Option<Lookup> {
        let held = self.cache.get(place)?;
        match (read_kind, held) {
            (ReadKind::Digest, held) => held.digest().map(Lookup::Digest),
            // A load verifies what it gives out: memory can be damaged as a disk can.
            (ReadKind::Data, Lookup::Record(record)) => record.is_intact(key).then_some(Lookup::Record(record)),
            (ReadKind::Data, Lookup::Digest(_) | Lookup::Absent) => None,
        }
    }

    /// To be asked before a load, for [`RecordCache::put_loaded`].
    pub(super) fn moment(&self) -> CacheVersion {
        CacheVersion(self.persists.load(Ordering::SeqCst))
    }

    /// A load that began at `since` has found this at this place.
    pub(super) fn put_loaded(&self, since: CacheVersion, place: Vec<u8>, held: &Lookup) {
        let held = match held {
            Lookup::Record(record) if is_too_large(record) => Lookup::Digest(record.digest()),
            Lookup::Record(_) | Lookup::Digest(_) => held.clone(),
            Lookup::Absent => return,
        };
        let Ok(_alone) = self.putting.try_lock() else { return };
        let none_ran = since.0.is_multiple_of(2) && self.moment() == since;
        if none_ran || mutants::is_on(Mutant::ReadIsCachedBesidePersist) {
            self.cache.insert(place.into(), held);
        }
    }

    /// A persist of these places begins.
    pub(super) fn persist_begins<'a>(&self, places: impl Iterator<Item = &'a [u8]>) {
        let _alone = self.putting.lock().unwrap_or_else(PoisonError::into_inner);
        self.persists.fetch_add(1, Ordering::SeqCst);
        for place in places {
            self.cache.remove(place);
        }
    }

    /// The persist has ended, and these records are now held at these places; none where it failed.
    pub(super) fn persist_ends<'a>(&self, records: impl Iterator<Item = (Vec<u8>, &'a Record)>) {
        let _alone = self.putting.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, record) in records {
            self.cache.insert(place.into(), copy(record));
        }
        self.persists.fetch_add(1, Ordering::SeqCst);
    }

    /// Forgets all of them. No persist may run.
    pub(super) fn clear(&self) {
        let _alone = self.putting.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever loads now may have looked at the store before it was opened anew.
        self.persists.fetch_add(2, Ordering::SeqCst);
        self.cache.clear();
    }
}

fn is_too_large(record: &Record) -> bool {
    record.content.value_bytes() > CACHED_VALUE_BYTES_MAX
}

/// A value that was written shares its buffer with the whole message that it came in.
fn copy(record: &Record) -> Lookup {
    if is_too_large(record) {
        return Lookup::Digest(record.digest());
    }
    let content = match &record.content {
        Content::Value(Value::Text(bytes)) => Content::Value(Value::Text(Bytes::copy_from_slice(bytes))),
        Content::Value(Value::Binary(bytes)) => Content::Value(Value::Binary(Bytes::copy_from_slice(bytes))),
        Content::Tombstone => Content::Tombstone,
    };
    Lookup::Record(Record { stamp: record.stamp.clone(), content, checksum: record.checksum })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Checksum, Clock, NodeId, Stamp};

    fn key() -> Key {
        Key::new("k").unwrap()
    }

    fn place() -> Vec<u8> {
        b"..k".to_vec()
    }

    fn get(recent: &RecordCache, read_kind: ReadKind) -> Option<Lookup> {
        recent.get(&place(), &key(), read_kind)
    }

    fn record(counter: u64, value_bytes: usize) -> Record {
        let stamp = Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("1").unwrap() };
        let content = Content::Value(Value::Binary(Bytes::from(vec![7; value_bytes])));
        Record { stamp, checksum: Checksum::of(&key(), &content), content }
    }

    fn persist(recent: &RecordCache, record: &Record) {
        recent.persist_begins([&*place()].into_iter());
        recent.persist_ends([(place(), record)].into_iter());
    }

    fn load(recent: &RecordCache, record: &Record) {
        recent.put_loaded(recent.moment(), place(), &Lookup::Record(record.clone()));
    }

    #[test]
    fn what_was_persisted_last_is_found_whole_and_by_its_mark() {
        let recent = RecordCache::new(1 << 20);
        assert_eq!(get(&recent, ReadKind::Digest), None);
        for counter in [1, 2] {
            persist(&recent, &record(counter, 10));
            assert_eq!(get(&recent, ReadKind::Data), Some(Lookup::Record(record(counter, 10))));
            assert_eq!(get(&recent, ReadKind::Digest), Some(Lookup::Digest(record(counter, 10).digest())));
        }
        recent.clear();
        assert_eq!(get(&recent, ReadKind::Digest), None);
    }

    #[test]
    fn what_was_loaded_is_found_as_far_as_it_was() {
        let recent = RecordCache::new(1 << 20);
        recent.put_loaded(recent.moment(), place(), &Lookup::Absent);
        assert_eq!(get(&recent, ReadKind::Digest), None);
        recent.put_loaded(recent.moment(), place(), &Lookup::Digest(record(1, 10).digest()));
        assert_eq!(get(&recent, ReadKind::Digest), Some(Lookup::Digest(record(1, 10).digest())));
        assert_eq!(get(&recent, ReadKind::Data), None);
        load(&recent, &record(1, 10));
        assert_eq!(get(&recent, ReadKind::Data), Some(Lookup::Record(record(1, 10))));
    }

    #[test]
    fn large_record_is_known_by_its_mark_alone() {
        let large = record(3, CACHED_VALUE_BYTES_MAX + 1);
        for keep in [persist, load] {
            let recent = RecordCache::new(1 << 20);
            keep(&recent, &large);
            assert_eq!(get(&recent, ReadKind::Digest), Some(Lookup::Digest(large.digest())));
            assert_eq!(get(&recent, ReadKind::Data), None);
        }
    }

    #[test]
    fn damaged_record_is_not_given_out() {
        let recent = RecordCache::new(1 << 20);
        let mut damaged = record(1, 10);
        damaged.checksum.0 ^= 1;
        load(&recent, &damaged);
        assert_eq!(get(&recent, ReadKind::Data), None);
    }

    /// RocksDB may show the new one to a load of the whole record already: one of the digest alone must not show less.
    #[test]
    fn record_that_is_being_replaced_is_not_found() {
        let recent = RecordCache::new(1 << 20);
        for value_bytes in [10, CACHED_VALUE_BYTES_MAX + 1] {
            load(&recent, &record(1, value_bytes));
            recent.persist_begins([&*place()].into_iter());
            for read_kind in [ReadKind::Digest, ReadKind::Data] {
                assert_eq!(get(&recent, read_kind), None);
            }
            // It fails: what is held may be either.
            recent.persist_ends(std::iter::empty());
            assert_eq!(get(&recent, ReadKind::Digest), None);
        }
    }

    /// A load finds record 1, a persist replaces it by record 2, and only then is the load's word put here.
    fn late_word_of_a_load() -> Option<Lookup> {
        let recent = RecordCache::new(1 << 20);
        let before = recent.moment();
        persist(&recent, &record(2, 10));
        recent.put_loaded(before, place(), &Lookup::Record(record(1, 10)));
        get(&recent, ReadKind::Digest)
    }

    #[test]
    fn load_beside_a_persist_is_not_remembered() {
        assert_eq!(late_word_of_a_load(), Some(Lookup::Digest(record(2, 10).digest())));
        let recent = RecordCache::new(1 << 20);
        recent.persist_begins([&*place()].into_iter());
        let during = recent.moment();
        let loaded = Lookup::Record(record(1, 10));
        recent.put_loaded(during, place(), &loaded);
        assert_eq!(get(&recent, ReadKind::Data), None, "the persist may replace it yet");
        recent.persist_ends(std::iter::empty());
        recent.put_loaded(during, place(), &loaded);
        assert_eq!(get(&recent, ReadKind::Data), None, "the load may have looked while it was replaced");
        recent.put_loaded(recent.moment(), place(), &loaded);
        assert_eq!(get(&recent, ReadKind::Data), Some(loaded));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn remembering_a_load_beside_a_persist_brings_a_replaced_record_back() {
        mutants::turn_on(Some(Mutant::ReadIsCachedBesidePersist));
        let found = late_word_of_a_load();
        mutants::turn_on(None);
        assert_eq!(found, Some(Lookup::Digest(record(1, 10).digest())), "which is what the test above would notice");
    }
}
