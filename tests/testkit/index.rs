//! The index of keys of a simulated disk.

use std::collections::{BTreeMap, BTreeSet};

use quorate::types::{Key, KeyRange, Record, ScannedKeys};

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
