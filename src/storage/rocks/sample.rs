//! How many keys a store has, and how large they and their values are together, by a sample of its records.
//!
//! RocksDB knows the size of its tables and buffers. Those have overwritten versions, which nobody copies. Its own estimate of keys
//! counts such versions too, and begins at zero with each open.

use rocksdb::{DB, ReadOptions};

use super::family;
use super::options::RECORDS;
use crate::storage::codec;
use crate::types::Slot;

/// A store of fewer records is counted whole. Of a larger one about so many are looked at, which errs by two percent.
const SAMPLED: usize = 4_096;
/// At how many places, unless a slot has so many records that fewer places have as many.
const PLACES: usize = 64;
/// At so many places at least.
const PLACES_MIN: usize = 4;

/// What a store has, about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// The number of keys, deleted ones included.
    pub(super) keys: u64,
    /// Bytes of keys and values. Deletions have a key alone.
    pub(super) bytes: u64,
}

/// What the store has, about.
pub(super) fn sizes(database: &DB) -> Sizes {
    let first = Sum::of(database, 0, Slot::COUNT, SAMPLED);
    if first.is_whole {
        return Sizes { keys: first.records as u64, bytes: first.bytes };
    }
    // At each place so many slots that they have a share of the sample. Their number does not depend on what is there.
    let records_of_slot = (first.records / first.slots.max(1)).max(1);
    let places = (SAMPLED / records_of_slot).clamp(PLACES_MIN, PLACES);
    let slots = (first.slots * SAMPLED / places / first.records.max(1)).clamp(1, Slot::COUNT / places);
    let (mut keys, mut bytes, mut looked_at) = (0, 0, 0);
    for place in 0..places {
        let sum = Sum::of(database, place * (Slot::COUNT / places), slots, usize::MAX);
        keys += sum.records as u64;
        bytes += sum.bytes;
        looked_at += slots as u64;
    }
    let of_all = |sum: u64| sum.saturating_mul(Slot::COUNT as u64) / looked_at.max(1);
    Sizes { keys: of_all(keys), bytes: of_all(bytes) }
}

/// The records of some slots.
#[derive(Debug)]
struct Sum {
    records: usize,
    bytes: u64,
    /// How many slots were looked at.
    slots: usize,
    /// Whether these are all records of the slots.
    is_whole: bool,
}

impl Sum {
    /// Those of `count` slots from `first`, and `records_max` at most.
    fn of(database: &DB, first: usize, count: usize, records_max: usize) -> Self {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let slot = |number: usize| u16::try_from(number).ok().map(Slot);
        if let Some(following) = slot(first + count) {
            options.set_iterate_upper_bound(codec::entry_key(following, &[]));
        }
        let mut sum = Self { records: 0, bytes: 0, slots: count, is_whole: true };
        let mut entries = database.raw_iterator_cf_opt(family(database, RECORDS), options);
        entries.seek(codec::entry_key(slot(first).unwrap_or_default(), &[]));
        while let Some((entry_key, value)) = entries.item() {
            if sum.records >= records_max {
                let reached = codec::slot_of_entry(entry_key).unwrap_or_default();
                (sum.slots, sum.is_whole) = (usize::from(reached.0).saturating_sub(first).max(1), false);
                break;
            }
            let value_bytes = codec::stored_value_bytes(value).ok().flatten().unwrap_or(0);
            sum.records += 1;
            sum.bytes += (entry_key.len() - size_of::<u16>() + value_bytes) as u64;
            entries.next();
        }
        sum
    }
}
