//! The scrub of a store: everything on the disk is read, and each checksum is verified.
//!
//! Contract: it reads by a second, read-only handle of RocksDB, with a small cache of its own and past the system's page cache where
//! the disk allows it. So it sees the disk, and evicts nothing that requests read. It verifies RocksDB's checksum of each block
//! and each large value, and then that each entry is one that this program can have written, with the checksum of each record.
//!
//! Bounds: a handle sees the files of its opening, and keeps those that were deleted since on the disk. So a new one is opened
//! after [`HANDLE_BYTES`], or [`HANDLE_TIME`]. It holds a cache of [`CACHE_BYTES`], and in memory what the log has: little, because the store is
//! flushed before.
//!
//! Caveat: the log is not read: each start checks it. Filters of tables are not read either, nor what lies below a removed range of
//! entries.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBRecoveryMode, ErrorKind, LogLevel, Options, ReadOptions,
};

use super::errors::{damaged, failure, failure_of_open};
use super::family;
use super::options::{BLOBS, DEFAULT, EXPIRY, KEYS, META, RECORDS};
use super::probe::takes_direct_writes;
use crate::storage::codec::{self, DecodeError, MetaEntry};
use crate::storage::{ScrubPlace, StoreError};
use crate::types::Key;

/// The families in the order in which they are read.
const FAMILIES: [&str; 5] = [META, RECORDS, KEYS, EXPIRY, BLOBS];
/// After so many bytes the caller is asked whether it goes on.
const STEP_BYTES: usize = 1 << 20;
/// After so many bytes another handle is opened. To open one takes some milliseconds.
const HANDLE_BYTES: usize = 256 << 20;
/// And after so long, where the pace is slow: each handle keeps deleted files on the disk.
const HANDLE_TIME: Duration = Duration::from_mins(5);
/// So much is read ahead: past the page cache each block would else be a read of its own.
const READ_AHEAD_BYTES: usize = 256 << 10;
/// For indexes of tables alone.
const CACHE_BYTES: usize = 8 << 20;
/// So many files are open at most.
const OPEN_FILES_MAX: i32 = 64;
/// So often in a row files may be deleted while they are opened, or the disk may fail to read one place. Then a file is missing, or
/// the place is damaged.
const TRIES_MAX: u8 = 20;
/// So often a wrong checksum is read again, past the caches: what the disk has stays wrong, and a bit that flipped on its way does not.
const REREADS: u8 = 2;
/// The time between two such tries.
const TRY_AFTER: Duration = Duration::from_millis(100);
/// The same where the disk cannot read a place: a disk that is reset takes some seconds.
const UNREADABLE_AFTER: Duration = Duration::from_millis(500);
/// The file whose time is that of the last scrub. It is empty.
const SCRUBBED: &str = "scrubbed";
/// A file that is written where the disk cannot read a place.
const PROBE: &str = "scrub.probe";

/// Reads on from `place`, as [`crate::storage::Store::scrub`] says.
pub(super) fn read_on(
    path: &Path,
    place: ScrubPlace,
    goes_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<ScrubPlace>, StoreError> {
    let ScrubPlace { family: first, mut after, mut tries } = place;
    // The files that a manifest names may be gone by the time that they are opened.
    let again = |family, after, tries: u8, pause, error: StoreError| {
        if tries >= TRIES_MAX {
            return Err(error);
        }
        std::thread::sleep(pause);
        Ok(Some(ScrubPlace { family, after, tries: tries + 1 }))
    };
    let database = match open(path) {
        Ok(database) => database,
        Err(error) if is_unreadable(error.as_ref()) => {
            return again(first, after, tries, UNREADABLE_AFTER, unreadable(path, "the store", &error));
        }
        Err(error) => return again(first, after, tries, TRY_AFTER, failure_of_open(&error)),
    };
    let (opened_at, mut of_step, mut of_handle) = (Instant::now(), 0, 0);
    for (index, name) in FAMILIES.iter().enumerate().skip(first) {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(READ_AHEAD_BYTES);
        let mut entries = database.raw_iterator_cf_opt(family(&database, name), options);
        match &after {
            // The least name above it.
            Some(after) => entries.seek([after, &[0][..]].concat()),
            None => entries.seek_to_first(),
        }
        while let Some((entry, value)) = entries.item() {
            if let Err(error) = verify(name, entry, value) {
                let error = damaged(name, &format!("the entry of {:?}", String::from_utf8_lossy(entry)), &error);
                return if tries < REREADS { again(index, after, tries, TRY_AFTER, error) } else { Err(error) };
            }
            tries = 0;
            of_step += entry.len() + value.len();
            let last = after.get_or_insert_default();
            last.clear();
            last.extend_from_slice(entry);
            if of_step >= STEP_BYTES {
                of_handle += of_step;
                let may_go_on = goes_on(std::mem::take(&mut of_step) as u64);
                if !may_go_on || of_handle >= HANDLE_BYTES || opened_at.elapsed() >= HANDLE_TIME {
                    return Ok(Some(ScrubPlace { family: index, after, tries }));
                }
            }
            entries.next();
        }
        match entries.status() {
            Ok(()) => after = None,
            Err(error) if is_gone(&error) => {
                let gone = StoreError::Damaged { message: format!("a file of {name} is missing: {error}") };
                return again(index, after, tries, TRY_AFTER, gone);
            }
            Err(error) if is_unreadable(error.as_ref()) => {
                return again(index, after, tries, UNREADABLE_AFTER, unreadable(path, name, &error));
            }
            Err(error) if error.kind() == ErrorKind::Corruption && tries < REREADS => {
                return again(index, after, tries, TRY_AFTER, failure(&error));
            }
            Err(error) => return Err(failure(&error)),
        }
    }
    goes_on(of_step as u64);
    note(path, SystemTime::now());
    Ok(None)
}

/// The next start is to read all of it again.
pub(super) fn forget(path: &Path) {
    note(path, SystemTime::UNIX_EPOCH);
}

fn note(path: &Path, time: SystemTime) {
    let noted = File::create(path.join(SCRUBBED)).and_then(|file| file.set_modified(time));
    if let Err(error) = noted {
        tracing::debug!(path = %path.display(), %error, "could not note when the store was read");
    }
}

/// When a scrub has read all of it. A store that does not say so is taken for one that was read now: it is fresh, or an earlier
/// program wrote it.
pub(super) fn scrubbed_at(path: &Path) -> Option<SystemTime> {
    let file = path.join(SCRUBBED);
    if let Ok(noted) = fs::metadata(&file) {
        return noted.modified().ok();
    }
    File::create(file).and_then(|file| file.metadata()?.modified()).ok()
}

/// A read-only handle of the store as it is on disk now.
fn open(path: &Path) -> Result<DB, rocksdb::Error> {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    tables.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&tables);
    options.set_paranoid_checks(true);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_use_direct_reads(takes_direct_writes(path));
    // The store appends to its log meanwhile.
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    // As the store does. While the store flushes, its manifest names logs. A handle that does not track them removes their names,
    // and a read-only one of RocksDB 11 then reads a null pointer.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_log_level(LogLevel::Fatal);
    let families = [DEFAULT, META, RECORDS, KEYS, EXPIRY, BLOBS];
    let families = families.map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
    DB::open_cf_descriptors_read_only(&options, path, families, false)
}

/// Whether a file was not there.
fn is_gone(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::IOError && error.to_string().contains("No such file or directory")
}

/// Whether the disk could not read a place: a bad sector.
fn is_unreadable(message: &str) -> bool {
    message.starts_with("IO error") && message.contains("Input/output error")
}

/// What the disk cannot read, however often it is asked, is lost as much as what has another checksum. Nothing is lost where the
/// whole disk is away.
fn unreadable(path: &Path, what: &str, error: &rocksdb::Error) -> StoreError {
    let message = format!("the disk cannot read a part of {what}: {error}");
    if is_away(path) { StoreError::Failed { message } } else { StoreError::Damaged { message } }
}

/// Whether the disk takes no writes either: then it fails as a whole, and not in one place.
fn is_away(path: &Path) -> bool {
    let probe = path.join(PROBE);
    let written = File::create(&probe).and_then(|mut file| {
        file.write_all(b"q")?;
        file.sync_all()
    });
    let _ = fs::remove_file(&probe);
    matches!(written, Err(error) if error.kind() != io::ErrorKind::StorageFull)
}

/// Verifies an entry of the family of this name.
fn verify(name: &str, entry: &[u8], value: &[u8]) -> Result<(), DecodeError> {
    let record = || -> Result<Key, DecodeError> {
        let (_, key) = codec::split_entry_key(entry)?;
        Ok(Key::from_stored(key.to_vec())?)
    };
    match name {
        META => MetaEntry::decode(entry, value).map(|_| ()),
        RECORDS => codec::decode_entry(&record()?, value).map(|_| ()),
        BLOBS => codec::decode_record(&record()?, value).map(|_| ()),
        EXPIRY => codec::decode_expiry(entry, value).map(|_| ()),
        _ => Ok(Key::from_stored(entry.to_vec()).map(|_| ())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_that_is_away_is_told_from_a_bad_sector() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_away(folder.path()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the probe is gone");
        assert!(is_away(&folder.path().join("unmounted")));
    }

    #[test]
    fn bad_sector_is_told_from_other_failures() {
        let of =
            |error: &str| is_unreadable(&format!("IO error: While pread offset 4096 len 4096: /d/000012.sst: {error}"));
        assert!(of("Input/output error"));
        assert!(!of("No such file or directory") && !of("Too many open files") && !of("Cannot allocate memory"));
        assert!(!is_unreadable("Corruption: block checksum mismatch: stored = 1, computed = 2 in /d/000012.sst"));
    }
}
