//! The removal of whole slots.

use rocksdb::{DB, DBRawIterator, WriteBatch};

use super::errors::failure;
use super::family;
use super::options::{BLOBS, META, RECORDS};
use crate::storage::{StoreError, codec};
use crate::types::Slot;

/// A range with more records than these is removed as a range. Ranges that were removed slow reads down until they are
/// compacted, so few records go one by one.
const ONE_BY_ONE_MAX: usize = 16;

/// What was removed of the family of records.
#[derive(Debug, Default)]
pub(super) struct Emptied {
    /// The entries that were removed one by one.
    pub(super) entries: Vec<Vec<u8>>,
    /// Whether whole ranges were removed, too.
    pub(super) has_ranges: bool,
}

/// Removes what the store has of these slots, which ascend. Those of which it has nothing cost nothing: the store is asked for
/// what follows them. Entries of the indexes of keys and of expiries stay, and name nothing.
pub(super) fn add(
    database: &DB,
    slots: &[(Slot, Slot)],
    has_blobs: bool,
    writes: &mut WriteBatch,
) -> Result<Emptied, StoreError> {
    let mut emptied = Emptied::default();
    let Some(((first, _), (_, last))) = slots.first().zip(slots.last()) else { return Ok(emptied) };
    let (records, blobs, meta) = (family(database, RECORDS), family(database, BLOBS), family(database, META));
    let mut entries = database.raw_iterator_cf(records);
    in_ranges(
        &mut entries,
        slots,
        |slot| codec::entry_key(slot, &[]),
        codec::slot_of_entry,
        |entries, range| {
            let end = end_of(range.1);
            let (from, is_in) = (codec::entry_key(range.0, &[]), |key: &&[u8]| *key < &end[..]);
            let mut keys: Vec<Vec<u8>> = Vec::new();
            while let Some(key) = entries.key().filter(is_in)
                && keys.len() <= ONE_BY_ONE_MAX
            {
                keys.push(key.to_vec());
                entries.next();
            }
            if keys.len() > ONE_BY_ONE_MAX {
                writes.delete_range_cf(records, &from, &end);
                writes.delete_range_cf(blobs, &from, &end);
                emptied.has_ranges = true;
                return entries.seek(&end);
            }
            for key in keys {
                writes.delete_cf(records, &key);
                if has_blobs {
                    writes.delete_cf(blobs, &key);
                }
                emptied.entries.push(key);
            }
        },
    )?;
    let (from, to) = codec::seal_names(*first, *last);
    let mut options = rocksdb::ReadOptions::default();
    options.set_iterate_upper_bound(to);
    let mut seals = database.raw_iterator_cf_opt(meta, options);
    seals.seek(from);
    let begin = |slot| codec::seal_names(slot, slot).0;
    in_ranges(&mut seals, slots, begin, codec::slot_of_seal, |seals, range| {
        while let Some(name) = seals.key().filter(|name| codec::slot_of_seal(name).is_some_and(|slot| slot <= range.1))
        {
            writes.delete_cf(meta, name);
            seals.next();
        }
    })?;
    Ok(emptied)
}

/// Calls `remove` at the first entry of each range that has any. It leaves the iterator behind the range.
fn in_ranges<'a>(
    entries: &mut DBRawIterator<'a>,
    slots: &[(Slot, Slot)],
    begin_of: impl Fn(Slot) -> Vec<u8>,
    slot_of: impl Fn(&[u8]) -> Option<Slot>,
    mut remove: impl FnMut(&mut DBRawIterator<'a>, (Slot, Slot)),
) -> Result<(), StoreError> {
    let mut left = slots;
    while let Some((first, _)) = left.first() {
        entries.seek(begin_of(*first));
        // Ranges before the entry that follows have none.
        while let Some(slot) = entries.key().and_then(&slot_of) {
            left = &left[left.partition_point(|(_, last)| *last < slot)..];
            let Some(range) = left.first().filter(|(first, _)| *first <= slot) else { break };
            remove(entries, *range);
            left = &left[1..];
        }
        entries.status().map_err(|error| failure(&error))?;
        if entries.key().and_then(&slot_of).is_none() {
            break;
        }
    }
    Ok(())
}

/// The least entry key beyond a slot.
fn end_of(last: Slot) -> Vec<u8> {
    match last.0.checked_add(1) {
        Some(following) => codec::entry_key(Slot(following), &[]),
        None => vec![u8::MAX; 3],
    }
}
