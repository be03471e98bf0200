//! Backups: the keys of all tables in files, and back into a new cluster.
//!
//! Contract: each record of a backup is what a read of its key would have answered at one moment between the beginning and the
//! end. Each write that ended before the beginning is in it, or a later one of the same key. It is no moment of the whole
//! cluster. The manifest is written last, so that a folder with one holds a whole backup.
//!
//! A backup asks nodes as any client does, because no node's folder may come back into use. It may be interrupted at any
//! instant: it goes on behind the last file that is whole.

mod create;
mod error;
mod file;
mod folder;
pub(crate) mod line;
mod manifest;
mod restore;

pub use create::Create;
pub use error::BackupError;
pub use file::KeyFile;
pub use folder::{Found, find, is_unfinished, verify};
pub use manifest::{Beginning, Manifest, SavedTable};
pub use restore::{Restore, Restored};

/// How far a backup or a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The keys that were saved or written.
    pub keys: u64,
    /// The bytes of their lines in a backup; of their values in a restore.
    pub bytes: u64,
    /// The files that are done.
    pub files: u64,
}
