//! RocksDB's errors as [`StoreError`]s.

use rocksdb::ErrorKind;

use crate::storage::StoreError;
use crate::storage::codec::{DecodeError, FORMAT};

use super::options::RECORDS;

/// Why a lookup did not find out what the store holds.
pub(super) enum LookupError {
    /// The answer is not in memory, and the lookup must not wait for the disk.
    WouldBlock,
    /// The value has this many bytes, more than the caller allowed.
    TooLarge(usize),
    /// The entry in this column family is damaged.
    Damaged(&'static str, DecodeError),
    /// The disk failed.
    Failed(rocksdb::Error),
}

impl From<rocksdb::Error> for LookupError {
    fn from(error: rocksdb::Error) -> Self {
        // RocksDB's answer to a read from memory alone whose data is not in memory.
        if error.kind() == ErrorKind::Incomplete { Self::WouldBlock } else { Self::Failed(error) }
    }
}

/// The error for an entry of the records' family under this encoded key.
pub(super) fn damaged_entry(entry_key: &[u8], error: &DecodeError) -> StoreError {
    damaged(RECORDS, &format!("the entry of {:?}", String::from_utf8_lossy(entry_key)), error)
}

/// The error for an entry of any column family; `entry` names it.
pub(super) fn damaged(family: &str, entry: &str, error: &DecodeError) -> StoreError {
    StoreError::Damaged { message: format!("{entry} in {family}: {error}") }
}

/// Sorts a failed call by what the operator has to do. RocksDB's bindings keep only an error's kind and text.
pub(super) fn failure(error: &rocksdb::Error) -> StoreError {
    let message = error.to_string();
    if message.contains("Too many open files") {
        let advice = "raise ulimit -n, or LimitNOFILE= of the systemd unit; the disk is not at fault";
        return StoreError::Failed { message: format!("{message} ({advice})") };
    }
    let is_full = ["No space left on device", "File too large", "Disk quota exceeded"];
    match error.kind() {
        ErrorKind::Corruption => StoreError::Damaged { message },
        ErrorKind::IOError if is_full.iter().any(|text| message.contains(text)) => StoreError::NoSpace { message },
        _ => StoreError::Failed { message },
    }
}

/// As [`failure`], for the errors that only opening a database gives.
pub(super) fn failure_of_open(error: &rocksdb::Error) -> StoreError {
    let message = error.to_string();
    // The lock of another process, and of this process.
    let is_locked = ["While lock file", "lock hold by current process"];
    // A folder without RocksDB's root file, or without a column family: data is gone.
    let is_gone = ["does not exist (create_if_missing is false)", "Column family not found"];
    // RocksDB refuses a column family that this program does not name before the program can read the format.
    let is_other = "Column families not opened";
    match error.kind() {
        ErrorKind::InvalidArgument if message.contains(is_other) => StoreError::Damaged {
            message: format!(
                "the store has another format than {FORMAT}, which this program reads: start the Quorate that wrote \
                 it ({message})"
            ),
        },
        ErrorKind::IOError if is_locked.iter().any(|text| message.contains(text)) => StoreError::InUse { message },
        ErrorKind::InvalidArgument if is_gone.iter().any(|text| message.contains(text)) => {
            StoreError::Damaged { message }
        }
        _ => failure(error),
    }
}
