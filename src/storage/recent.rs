//! The marks of the records written last, so that comparing with one costs a look into memory instead of a search in
//! RocksDB.
//!
//! Contract: a mark is found here only if it is that of the record which the store holds, or held when the last persist
//! returned. Only a persist that succeeded adds one; a load never does, because what it found may have been replaced
//! meanwhile. A store that is reopened forgets them all: a batch that failed may be on disk after all.
//!
//! Bounded in bytes; which marks are kept is a matter of how often and how lately they were of use (S3-FIFO, Yang et
//! al., SOSP 2023).

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::types::{Key, Mark};

/// Marks at hand, by key.
pub(super) struct RecentMarks(Cache<Box<[u8]>, Mark, Bytes>);

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<[u8]>, Mark> for Bytes {
    fn weight(&self, key: &Box<[u8]>, _: &Mark) -> u64 {
        // The mark, its writer's id, and a place in the cache.
        const OVERHEAD: usize = 144;
        (OVERHEAD + key.len()) as u64
    }
}

impl RecentMarks {
    /// Room for marks of so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        const MARK_BYTES_ABOUT: usize = 160;
        Self(Cache::with_weighter(bytes_max / MARK_BYTES_ABOUT, bytes_max as u64, Bytes))
    }

    /// The mark of `key`, if it is at hand.
    pub(super) fn get(&self, key: &Key) -> Option<Mark> {
        self.0.get(key.as_bytes())
    }

    /// The record of `key` that is now held has this mark.
    pub(super) fn put(&self, key: &Key, mark: Mark) {
        // A copy: the key shares a buffer with the message that it came in.
        self.0.insert(key.as_bytes().into(), mark);
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}
