//! Why a backup, or a restore, ended early.

use std::io;
use std::path::{Path, PathBuf};

use crate::client::ClientError;

/// Why a backup or a restore ended early, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder cannot be used.
    #[error("{path}: cannot {action}: {error}")]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// A bucket cannot be used.
    #[error("{path}: {problem}")]
    Bucket {
        /// The bucket, or the object.
        path: PathBuf,
        /// What is wrong, and what mends it.
        problem: String,
        /// Whether the same command may succeed later.
        may_pass: bool,
    },
    /// The place for a new backup holds something else.
    #[error("{path} is not empty, and holds no backup: give a new name")]
    NotEmpty {
        /// The folder, or the bucket with its prefix.
        path: PathBuf,
    },
    /// The place for a new backup holds a whole one.
    #[error("{path} holds a whole backup: give a new name")]
    Complete {
        /// The folder, or the bucket with its prefix.
        path: PathBuf,
    },
    /// The place holds a backup that was interrupted.
    #[error("{path} holds a backup that is not finished: `backup create --resume` goes on with it")]
    Unfinished {
        /// The folder, or the bucket with its prefix.
        path: PathBuf,
    },
    /// The place holds no backup.
    #[error("{path} holds no backup: a whole one has a file manifest.json")]
    NoBackup {
        /// The folder, or the bucket with its prefix.
        path: PathBuf,
    },
    /// Another process writes the backup.
    #[error("{path} is in use by another `backup create`: wait for its end")]
    InUse {
        /// The folder, or the bucket with its prefix.
        path: PathBuf,
    },
    /// The backup that was interrupted is not the one that was asked for.
    #[error("{path} holds the beginning of another backup ({difference}): give a new name")]
    OtherBackup {
        /// The folder, or the bucket with its prefix.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// A file is not as it was written.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A newer program wrote the backup.
    #[error(
        "{path} has format {found}, and this program reads format {known}: use the Quorate that wrote it, or a newer one"
    )]
    Format {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The format of this program.
        known: u64,
    },
    /// The cluster could give versions again that the old one gave.
    #[error(
        "the cluster's epoch_floor is {floor}, and the backup has clocks of epoch {epoch}: its versions could be given twice. \
         Start a new cluster with epoch_floor: {needed} in cluster.yml, or give --force to write into this one"
    )]
    EpochFloor {
        /// The cluster's.
        floor: u64,
        /// The epoch of the greatest clock of the backup.
        epoch: u64,
        /// What it should be.
        needed: u64,
    },
    /// The cluster has keys already.
    #[error(
        "table {table:?} of the cluster has keys already, {key:?} first: restore into a new cluster, or give --force to write \
         over keys of the same names"
    )]
    HasKeys {
        /// The table.
        table: String,
        /// A key.
        key: String,
    },
    /// A table of the backup is there with other settings.
    #[error("table {table:?} is there with other settings than the backup has: drop it, or restore into a new cluster")]
    OtherSettings {
        /// The table.
        table: String,
    },
    /// The backup has no file of this number.
    #[error("the backup has files 1 to {files}, and none has the number {number}")]
    NoSuchFile {
        /// The number that was given.
        number: usize,
        /// How many there are.
        files: usize,
    },
    /// The answer of a node makes no sense.
    #[error("a node gave a bad answer: {problem}")]
    BadAnswer {
        /// What is wrong.
        problem: String,
    },
    /// Too few nodes told their clocks: a version of the backup could be given twice.
    #[error(
        "{told} of {nodes} nodes told their clocks, and some slots have no majority of replicas among them: bring nodes back, and \
         go on with `backup create --resume`"
    )]
    TooFewClocks {
        /// How many nodes did.
        told: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// The cluster did not answer, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A restore ended early; the files before one are done.
    #[error("{error}\nthe files before number {number} are restored: --from-file {number} goes on there")]
    Interrupted {
        /// The file that is not done.
        number: usize,
        /// Why it ended.
        error: Box<BackupError>,
    },
}

impl BackupError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Io { action, path, error }
    }

    pub(super) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), problem: problem.into() }
    }
}
