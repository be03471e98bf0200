//! The records that were written or read last, so that comparing with a record, or reading it, needs no lookup in RocksDB.
//!
//! Contract: the cache shows what RocksDB would show, so that no read shows an older record than the read before it.
//! RocksDB may show a batch before its write returns. While a batch is being written, the cache shows none of its keys: every
//! read of them goes to RocksDB, so a digest read and a full read see the same record. After the write has succeeded, the
//! cache holds its records. A read fills the cache only if no write overlapped, because the write may have replaced the
//! record that the read found. Reopening the store clears the cache: a failed batch may be on disk after all.
//!
//! The keys of a write stand in a list meanwhile, and their entries stay: to take them out and put them in again would cost
//! as much as the comparison of stamps.
//!
//! The cache is bounded in bytes. It keeps the entries that were used often and recently (S3-FIFO, Yang et al., SOSP 2023).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use xxhash_rust::xxh3::xxh3_64;

use crate::limits::CACHED_VALUE_BYTES_MAX;
use crate::mutants::rule;
use crate::types::{Content, Found, Key, Lookup, ReadKind, Record, RunningTime, Value};

/// Records by their entry keys ([`super::codec::entry_key`]); of large records the digest alone.
pub(super) struct RecordCache {
    cache: Cache<Box<[u8]>, Found, Weight>,
    /// Rises when a write begins and when it ends: odd while a write runs.
    version: AtomicU64,
    /// The hashes of the entry keys that a write is about to change, ascending. Another key of the same hash is read from
    /// RocksDB as well.
    being_written: RwLock<Vec<u64>>,
    /// Held while entries are inserted or removed, so that a write's changes come last. Reads only try it and never wait: a
    /// write may have many records to copy.
    insert_lock: Mutex<()>,
}

/// A count of the writes that began or ended before a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CacheVersion(u64);

#[derive(Clone)]
struct Weight;

impl Weighter<Box<[u8]>, Found> for Weight {
    fn weight(&self, entry_key: &Box<[u8]>, found: &Found) -> u64 {
        // The stamp, its writer's id, and the cache's own entry.
        const OVERHEAD: usize = 200;
        let value_bytes = match &found.lookup {
            Lookup::Record(record) => record.content.value_bytes(),
            Lookup::Digest(_) | Lookup::Absent => 0,
        };
        (OVERHEAD + entry_key.len() + value_bytes) as u64
    }
}

impl RecordCache {
    /// An empty cache of at most `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        /// The library sizes its tables for this many bytes in each entry.
        const RECORD_BYTES_TYPICAL: usize = 1_024;
        let cache = Cache::with_weighter(bytes_max / RECORD_BYTES_TYPICAL, bytes_max as u64, Weight);
        Self { cache, version: AtomicU64::new(0), being_written: RwLock::default(), insert_lock: Mutex::new(()) }
    }

    /// The answer to a read of `key`; `None` when the cache does not hold as much as `read_kind` asks for, or the record is
    /// damaged.
    pub(super) fn get(&self, entry_key: &[u8], key: &Key, read_kind: ReadKind) -> Option<Found> {
        if rule!(CacheShowsWhatIsReplaced, self.is_being_written(entry_key), not false) {
            return None;
        }
        let Found { lookup, kept_at } = self.cache.get(entry_key)?;
        let lookup = match (read_kind, lookup) {
            (ReadKind::Digest, found) => found.digest().map(Lookup::Digest),
            // Every read verifies the checksum: memory can be damaged as a disk can.
            (ReadKind::Data, Lookup::Record(record)) => record.is_intact(key).then_some(Lookup::Record(record)),
            (ReadKind::Data, Lookup::Digest(_) | Lookup::Absent) => None,
        };
        lookup.map(|lookup| Found { lookup, kept_at })
    }

    /// The present version, to be taken before RocksDB is read, for [`RecordCache::insert_read`].
    pub(super) fn version(&self) -> CacheVersion {
        CacheVersion(self.version.load(Ordering::SeqCst))
    }

    /// Inserts the result of a read that began at version `since`, if no write overlapped with the read.
    pub(super) fn insert_read(&self, since: CacheVersion, entry_key: Vec<u8>, found: &Found) {
        let lookup = match &found.lookup {
            Lookup::Record(record) if is_too_large(record) => Lookup::Digest(record.digest()),
            Lookup::Record(_) | Lookup::Digest(_) => found.lookup.clone(),
            Lookup::Absent => return,
        };
        let Ok(_alone) = self.insert_lock.try_lock() else { return };
        let none_ran = since.0.is_multiple_of(2) && self.version() == since;
        if rule!(ReadIsCachedBesidePersist, none_ran) {
            self.cache.insert(entry_key.into(), Found { lookup, kept_at: found.kept_at });
        }
    }

    /// Hides the entries that a write is about to change. Call it before the write.
    pub(super) fn begin_write<'a>(&self, entry_keys: impl Iterator<Item = &'a [u8]>) {
        let mut hashes: Vec<u64> = entry_keys.map(xxh3_64).collect();
        hashes.sort_unstable();
        let _alone = self.insert_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.version.fetch_add(1, Ordering::SeqCst);
        *self.being_written.write().unwrap_or_else(PoisonError::into_inner) = hashes;
    }

    /// Inserts the records of a write that has ended, and removes the entries of the records that it has removed. Nobody
    /// knows what a failed write has changed: the entries of all its keys go.
    pub(super) fn end_write<'a>(
        &self,
        is_written: bool,
        records: impl Iterator<Item = (Vec<u8>, &'a Record, Option<RunningTime>)>,
        removed: impl Iterator<Item = &'a [u8]>,
    ) {
        let _alone = self.insert_lock.lock().unwrap_or_else(PoisonError::into_inner);
        for (entry_key, record, kept_at) in records {
            if is_written {
                self.cache.insert(entry_key.into(), Found { lookup: copy(record), kept_at });
            } else {
                self.cache.remove(&*entry_key);
            }
        }
        for entry_key in removed {
            self.cache.remove(entry_key);
        }
        self.being_written.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    fn is_being_written(&self, entry_key: &[u8]) -> bool {
        let hashes = self.being_written.read().unwrap_or_else(PoisonError::into_inner);
        !hashes.is_empty() && hashes.binary_search(&xxh3_64(entry_key)).is_ok()
    }

    /// Removes these entries, whose records were removed. A write of other records may run meanwhile.
    pub(super) fn forget<'a>(&self, entry_keys: impl Iterator<Item = &'a [u8]>) {
        let _alone = self.insert_lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Reads that are under way may have found the records. Whether a write runs is as it was.
        self.version.fetch_add(2, Ordering::SeqCst);
        for entry_key in entry_keys {
            self.cache.remove(entry_key);
        }
    }

    /// Removes all entries. No write may run meanwhile.
    pub(super) fn clear(&self) {
        let _alone = self.insert_lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Reads that are under way may have read the database before it was reopened.
        self.version.fetch_add(2, Ordering::SeqCst);
        self.cache.clear();
    }
}

fn is_too_large(record: &Record) -> bool {
    record.content.value_bytes() > CACHED_VALUE_BYTES_MAX
}

/// The cache's own copy of a written record: the value shares its buffer with the whole message that it arrived in.
fn copy(record: &Record) -> Lookup {
    if is_too_large(record) {
        return Lookup::Digest(record.digest());
    }
    let content = match &record.content {
        Content::Value(Value::Text(bytes)) => Content::Value(Value::Text(Bytes::copy_from_slice(bytes))),
        Content::Value(Value::Binary(bytes)) => Content::Value(Value::Binary(Bytes::copy_from_slice(bytes))),
        Content::Tombstone => Content::Tombstone,
    };
    let Record { stamp, proposal, ttl, checksum, .. } = record;
    Lookup::Record(Record { stamp: stamp.clone(), proposal: proposal.clone(), ttl: *ttl, content, checksum: *checksum })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Checksum, Clock, NodeId, Stamp};

    fn key() -> Key {
        Key::new("k").unwrap()
    }

    fn entry_key() -> Vec<u8> {
        b"..k".to_vec()
    }

    fn get(cache: &RecordCache, read_kind: ReadKind) -> Option<Lookup> {
        cache.get(&entry_key(), &key(), read_kind).map(|found| found.lookup)
    }

    fn record(counter: u64, value_bytes: usize) -> Record {
        let stamp = Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("1").unwrap() };
        let content = Content::Value(Value::Binary(Bytes::from(vec![7; value_bytes])));
        let checksum = Checksum::of(&key(), &content);
        Record::plain(stamp, content, checksum)
    }

    fn write(cache: &RecordCache, record: &Record) {
        cache.begin_write([&*entry_key()].into_iter());
        cache.end_write(true, [(entry_key(), record, None)].into_iter(), std::iter::empty());
    }

    /// A write of the key fails.
    fn fail(cache: &RecordCache) {
        cache.end_write(false, [(entry_key(), &record(9, 10), None)].into_iter(), std::iter::empty());
    }

    fn read(cache: &RecordCache, record: &Record) {
        cache.insert_read(cache.version(), entry_key(), &Lookup::Record(record.clone()).into());
    }

    #[test]
    fn last_written_record_is_found_whole_and_as_digest() {
        let cache = RecordCache::new(1 << 20);
        assert_eq!(get(&cache, ReadKind::Digest), None);
        for counter in [1, 2] {
            write(&cache, &record(counter, 10));
            assert_eq!(get(&cache, ReadKind::Data), Some(Lookup::Record(record(counter, 10))));
            assert_eq!(get(&cache, ReadKind::Digest), Some(Lookup::Digest(record(counter, 10).digest())));
        }
        cache.clear();
        assert_eq!(get(&cache, ReadKind::Digest), None);
    }

    #[test]
    fn read_result_is_found_to_the_extent_it_was_read() {
        let cache = RecordCache::new(1 << 20);
        cache.insert_read(cache.version(), entry_key(), &Lookup::Absent.into());
        assert_eq!(get(&cache, ReadKind::Digest), None);
        cache.insert_read(cache.version(), entry_key(), &Lookup::Digest(record(1, 10).digest()).into());
        assert_eq!(get(&cache, ReadKind::Digest), Some(Lookup::Digest(record(1, 10).digest())));
        assert_eq!(get(&cache, ReadKind::Data), None);
        read(&cache, &record(1, 10));
        assert_eq!(get(&cache, ReadKind::Data), Some(Lookup::Record(record(1, 10))));
    }

    #[test]
    fn large_record_is_cached_as_digest_alone() {
        let large = record(3, CACHED_VALUE_BYTES_MAX + 1);
        for keep in [write, read] {
            let cache = RecordCache::new(1 << 20);
            keep(&cache, &large);
            assert_eq!(get(&cache, ReadKind::Digest), Some(Lookup::Digest(large.digest())));
            assert_eq!(get(&cache, ReadKind::Data), None);
        }
    }

    #[test]
    fn damaged_record_is_not_found() {
        let cache = RecordCache::new(1 << 20);
        let mut damaged = record(1, 10);
        damaged.checksum.0 ^= 1;
        read(&cache, &damaged);
        assert_eq!(get(&cache, ReadKind::Data), None);
    }

    /// RocksDB may already show the new record to a full read; a digest read must not show an older one.
    #[test]
    fn record_that_is_being_replaced_is_not_found() {
        let cache = RecordCache::new(1 << 20);
        for value_bytes in [10, CACHED_VALUE_BYTES_MAX + 1] {
            read(&cache, &record(1, value_bytes));
            cache.begin_write([&*entry_key()].into_iter());
            for read_kind in [ReadKind::Digest, ReadKind::Data] {
                assert_eq!(get(&cache, read_kind), None);
            }
            // The write fails: RocksDB may hold the old record or the new one.
            fail(&cache);
            assert_eq!(get(&cache, ReadKind::Digest), None);
        }
    }

    #[test]
    fn record_is_found_again_once_its_write_has_ended() {
        let cache = RecordCache::new(1 << 20);
        read(&cache, &record(1, 10));
        let other = b"..other".to_vec();
        cache.begin_write([&*other].into_iter());
        assert_eq!(get(&cache, ReadKind::Digest), Some(Lookup::Digest(record(1, 10).digest())), "of another key");
        cache.end_write(true, [(other, &record(2, 10), None)].into_iter(), std::iter::empty());
        cache.begin_write([&*entry_key()].into_iter());
        cache.end_write(true, [(entry_key(), &record(3, 10), None)].into_iter(), std::iter::empty());
        assert_eq!(get(&cache, ReadKind::Data), Some(Lookup::Record(record(3, 10))));
        cache.begin_write([&*entry_key()].into_iter());
        cache.end_write(true, std::iter::empty(), [&*entry_key()].into_iter());
        assert_eq!(get(&cache, ReadKind::Digest), None, "its record was removed");
    }

    /// A read finds record 1, a write replaces it by record 2, and then the read inserts its result.
    fn late_result_of_a_read() -> Option<Lookup> {
        let cache = RecordCache::new(1 << 20);
        let before = cache.version();
        write(&cache, &record(2, 10));
        cache.insert_read(before, entry_key(), &Lookup::Record(record(1, 10)).into());
        get(&cache, ReadKind::Digest)
    }

    #[test]
    fn read_that_overlaps_a_write_is_not_cached() {
        assert_eq!(late_result_of_a_read(), Some(Lookup::Digest(record(2, 10).digest())));
        let cache = RecordCache::new(1 << 20);
        cache.begin_write([&*entry_key()].into_iter());
        let during = cache.version();
        let found = Found::from(Lookup::Record(record(1, 10)));
        cache.insert_read(during, entry_key(), &found);
        assert_eq!(get(&cache, ReadKind::Data), None, "the write may still replace it");
        fail(&cache);
        cache.insert_read(during, entry_key(), &found);
        assert_eq!(get(&cache, ReadKind::Data), None, "the read may have run during the write");
        cache.insert_read(cache.version(), entry_key(), &found);
        assert_eq!(get(&cache, ReadKind::Data), Some(found.lookup));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn caching_what_is_replaced_shows_it_beside_its_write() {
        crate::mutants::turn_on(Some(crate::mutants::Mutant::CacheShowsWhatIsReplaced));
        let cache = RecordCache::new(1 << 20);
        read(&cache, &record(1, 10));
        cache.begin_write([&*entry_key()].into_iter());
        let found = get(&cache, ReadKind::Digest);
        crate::mutants::turn_on(None);
        assert_eq!(found, Some(Lookup::Digest(record(1, 10).digest())), "a test above would notice this");
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn caching_a_read_that_overlaps_a_write_brings_a_replaced_record_back() {
        crate::mutants::turn_on(Some(crate::mutants::Mutant::ReadIsCachedBesidePersist));
        let found = late_result_of_a_read();
        crate::mutants::turn_on(None);
        assert_eq!(found, Some(Lookup::Digest(record(1, 10).digest())), "the test above would notice this");
    }
}
