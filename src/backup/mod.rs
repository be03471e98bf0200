//! Backups: the keys of all tables in files of a folder or a bucket, and back into a new cluster.
//!
//! Contract: each record of a backup is what a read of its key would have answered at one moment between the beginning and the
//! end. Each write that ended before the beginning is in it, or a later one of the same key. It is no moment of the whole
//! cluster. The manifest is written last, so that a place with one holds a whole backup.
//!
//! A backup asks nodes as any client does, because no node's folder may come back into use. It may be interrupted at any
//! instant: it goes on behind the last file that is whole.

mod create;
mod error;
mod file;
mod found;
pub(crate) mod line;
mod manifest;
mod place;
mod restore;

pub use create::Create;
pub use error::BackupError;
pub use file::KeyFile;
pub use found::{Found, find, verify};
pub use manifest::{Beginning, Manifest, SavedTable};
pub use place::{Bucket, Place};
pub use restore::{Restore, Restored};

/// How far a backup or a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The keys that were saved or written.
    pub keys: u64,
    /// The bytes of their lines.
    pub bytes: u64,
    /// The files that are done.
    pub files: u64,
}
