//! The index of keys of a simulated disk, and the order of its slots.

use std::collections::{BTreeMap, BTreeSet};

use quorate::protocol::placement::Placement;
use quorate::types::{Key, KeyRange, Record, ScannedKeys, SlotRange, SlotRecord, SlotsPage};

/// The first `keys_max` keys of `range` in the index, with the digests of their records.
pub fn first_keys(
    index: &BTreeSet<Key>,
    records: &BTreeMap<Key, Record>,
    range: &KeyRange,
    keys_max: usize,
) -> ScannedKeys {
    let mut named = index.iter().filter(|key| range.contains(key));
    let mut scanned = ScannedKeys::default();
    for key in named.by_ref().take(keys_max) {
        scanned.keys.extend(records.get(key).map(|record| (key.clone(), record.digest())));
        scanned.looked_to = Some(key.clone());
    }
    if named.next().is_none() {
        scanned.looked_to = None;
    }
    scanned
}

/// The first records of `range`.
pub fn slots_page<'a>(
    records: impl Iterator<Item = (&'a Key, &'a Record)>,
    placement: &Placement,
    range: &SlotRange,
    entries_max: usize,
) -> SlotsPage {
    let records = records.map(|(key, record)| slot_record(placement, key, record));
    let mut records: Vec<SlotRecord> = records.filter(|record| range.contains(record.slot, &record.key)).collect();
    records.sort_by(|one, other| (one.slot, &one.key).cmp(&(other.slot, &other.key)));
    let has_more = records.len() > entries_max;
    records.truncate(entries_max);
    let intact = records.len();
    SlotsPage { records, has_more, damaged: 0, intact }
}

/// A record in its slot.
pub fn slot_record(placement: &Placement, key: &Key, record: &Record) -> SlotRecord {
    SlotRecord { slot: placement.slot(key), key: key.clone(), digest: record.digest() }
}
