//! The removal of whole slots.

use rocksdb::{DB, WriteBatch};

use super::errors::failure;
use super::family;
use super::options::{BLOBS, META, RECORDS};
use crate::storage::{StoreError, codec};
use crate::types::Slot;

/// Removes what the store has of these slots. Those of which it has nothing cost a look-up alone. Their entries of the
/// indexes of keys and of expiries stay, and name nothing.
pub(super) fn add(database: &DB, slots: &[(Slot, Slot)], writes: &mut WriteBatch) -> Result<(), StoreError> {
    if slots.is_empty() {
        return Ok(());
    }
    let end = |last: Slot| match last.0.checked_add(1) {
        Some(following) => codec::entry_key(Slot(following), &[]),
        None => vec![u8::MAX; 3],
    };
    let mut entries = database.raw_iterator_cf(family(database, RECORDS));
    for (first, last) in slots {
        let (from, to) = (codec::entry_key(*first, &[]), end(*last));
        entries.seek(&from);
        if entries.key().is_some_and(|key| key < &to[..]) {
            writes.delete_range_cf(family(database, RECORDS), &from, &to);
            writes.delete_range_cf(family(database, BLOBS), &from, &to);
        }
        entries.status().map_err(|error| failure(&error))?;
        let (from, to) = codec::seal_names(*first, *last);
        writes.delete_range_cf(family(database, META), from, to);
    }
    Ok(())
}
