//! The look-up of one record, in the family of records and in that of large values.

use rocksdb::{DB, ReadOptions};

use super::errors::LookupError;
use super::family;
use super::options::{BLOBS, RECORDS};
use crate::storage::codec::{self, DecodeError, Entry};
use crate::types::{Found, Key, Lookup, Record};

/// The digest of a record.
pub(super) fn find_digest(database: &DB, entry_key: &[u8], options: &ReadOptions) -> Result<Found, LookupError> {
    let Some(found) = database.get_pinned_cf_opt(family(database, RECORDS), entry_key, options)? else {
        return Ok(Lookup::Absent.into());
    };
    let damaged = |error| LookupError::Damaged(RECORDS, error);
    let lookup = codec::decode_digest(&found).map(Lookup::Digest).map_err(damaged)?;
    Ok(Found { lookup, kept_at: codec::decode_kept_at(&found).map_err(damaged)? })
}

/// A record, with its value where that is not larger than allowed.
pub(super) fn find_record(
    database: &DB,
    key: &Key,
    entry_key: &[u8],
    options: &ReadOptions,
    value_bytes_max: usize,
) -> Result<Found, LookupError> {
    let mut before = None;
    loop {
        let Some(found) = database.get_pinned_cf_opt(family(database, RECORDS), entry_key, options)? else {
            return Ok(Lookup::Absent.into());
        };
        let entry = codec::decode_entry(key, &found).map_err(|error| LookupError::Damaged(RECORDS, error))?;
        let digest = match entry {
            Entry::Whole(record) => return found_record(record, &found, RECORDS),
            Entry::Separated { value_bytes, .. } if value_bytes > value_bytes_max => {
                return Err(LookupError::TooLarge(value_bytes));
            }
            Entry::Separated { digest, .. } => digest,
        };
        if let Some(found) = database.get_pinned_cf_opt(family(database, BLOBS), entry_key, options)? {
            let record = codec::decode_record(key, &found).map_err(|error| LookupError::Damaged(BLOBS, error))?;
            // A greater record may have replaced it between the two lookups. It is as good an answer.
            if record.tag() >= digest.tag() {
                let value_bytes = record.content.value_bytes();
                if value_bytes > value_bytes_max {
                    return Err(LookupError::TooLarge(value_bytes));
                }
                return found_record(record, &found, BLOBS);
            }
        }
        // A small record replaced the large one between the two lookups, unless the digest is still the same.
        if before.as_ref() == Some(&digest) {
            return Err(LookupError::Damaged(BLOBS, DecodeError::ValueMissing));
        }
        before = Some(digest);
    }
}

fn found_record(record: Record, entry: &[u8], family: &'static str) -> Result<Found, LookupError> {
    let kept_at = codec::decode_kept_at(entry).map_err(|error| LookupError::Damaged(family, error))?;
    Ok(Found { lookup: Lookup::Record(record), kept_at })
}
