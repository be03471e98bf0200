//! The folder of a backup: whole, unfinished, or neither.
//!
//! `unfinished.jsonl` lists what is done while a backup is under way: a line about the backup, then one for each file that is
//! whole. Each line is durable before the next file begins. A last line without its end counts for nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::error::BackupError;
use super::file::KeyFile;
use super::manifest::{Beginning, Manifest};
use super::{Progress, manifest};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const UNFINISHED: &str = "unfinished.jsonl";

/// What a folder holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A whole backup.
    Whole(Box<Manifest>),
    /// A backup that was interrupted, or is under way, and how far it is.
    Unfinished(Progress),
}

/// Looks into a folder.
///
/// # Errors
/// When it holds no backup, or one that is damaged.
pub fn find(folder: &Path) -> Result<Found, BackupError> {
    if let Some(manifest) = read_manifest(folder)? {
        return Ok(Found::Whole(Box::new(manifest)));
    }
    match read_unfinished(folder)? {
        Some((_, files)) => Ok(Found::Unfinished(progress_of(&files))),
        None => Err(BackupError::NoBackup { path: folder.to_path_buf() }),
    }
}

/// Whether a folder has the beginning of a backup, with which `create --resume` goes on.
#[must_use]
pub fn is_unfinished(folder: &Path) -> bool {
    folder.join(UNFINISHED).exists()
}

/// The manifest of a whole backup.
pub(super) fn whole(folder: &Path) -> Result<Manifest, BackupError> {
    match find(folder)? {
        Found::Whole(manifest) => Ok(*manifest),
        Found::Unfinished(_) => Err(BackupError::Unfinished { path: folder.to_path_buf() }),
    }
}

/// Reads each file of a whole backup: its checksum, its keys and their order.
///
/// # Errors
/// With the first file that is not as it was written.
pub fn verify(folder: &Path, mut on_progress: impl FnMut(Progress)) -> Result<Manifest, BackupError> {
    let manifest = whole(folder)?;
    let mut progress = Progress::default();
    for file in &manifest.files {
        file.verify(folder, &manifest.beginning.prefix)?;
        progress.keys += file.keys;
        progress.bytes += file.bytes;
        progress.files += 1;
        on_progress(progress);
    }
    Ok(manifest)
}

/// Makes the folder of a backup, durably. Its owner alone reads it: it has each key and value.
pub(super) fn make(folder: &Path) -> Result<(), BackupError> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = match folder.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => Path::new("/"),
    };
    make(above)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(BackupError::io("make the folder", folder)(error))
        }
        _ => sync(above),
    }
}

/// Options that open a file of a backup for its owner alone, and make it where it is missing.
pub(super) fn private() -> OpenOptions {
    let mut options = File::options();
    options.create(true).mode(0o600);
    options
}

pub(super) fn progress_of<'a>(files: impl IntoIterator<Item = &'a KeyFile>) -> Progress {
    let add = |sum: Progress, file: &KeyFile| Progress {
        keys: sum.keys + file.keys,
        bytes: sum.bytes + file.bytes,
        files: sum.files + 1,
    };
    files.into_iter().fold(Progress::default(), add)
}

fn read_manifest(folder: &Path) -> Result<Option<Manifest>, BackupError> {
    let path = folder.join(MANIFEST);
    match fs::read(&path) {
        Ok(bytes) => manifest::parse(&path, &bytes).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BackupError::Io { action: "read it", path, error }),
    }
}

/// The backup that was interrupted, and its files that are whole.
pub(super) fn read_unfinished(folder: &Path) -> Result<Option<(Beginning, Vec<KeyFile>)>, BackupError> {
    let path = folder.join(UNFINISHED);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BackupError::Io { action: "read it", path, error }),
    };
    // What comes behind the last line's end was not finished.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut lines = (1..).zip(whole.lines());
    let Some((_, first)) = lines.next() else { return Ok(None) };
    let json = |line: &str| serde_json::from_str::<Json>(line).ok();
    let beginning = json(first).as_ref().and_then(Beginning::from_json);
    let beginning = beginning.ok_or_else(|| BackupError::damaged(&path, "line 1 says of no backup how it began"))?;
    let mut files = Vec::new();
    for (number, line) in lines {
        let file = json(line).as_ref().and_then(KeyFile::from_json);
        files.push(file.ok_or_else(|| BackupError::damaged(&path, format!("line {number} names no file")))?);
    }
    Ok(Some((beginning, files)))
}

/// The list of what is done, open to be appended to. It is locked.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    /// Opens the list, which may be there or not, and cuts off what comes behind its last whole line.
    pub(super) fn open(folder: &Path) -> Result<Self, BackupError> {
        let path = folder.join(UNFINISHED);
        let opened = private().append(true).read(true).open(&path);
        let file = opened.map_err(BackupError::io("open it", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(BackupError::InUse { path: folder.to_path_buf() }),
            Err(fs::TryLockError::Error(error)) => return Err(BackupError::Io { action: "lock it", path, error }),
        }
        let text = fs::read(&path).map_err(BackupError::io("read it", &path))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        file.set_len(whole as u64).map_err(BackupError::io("cut it off", &path))?;
        Ok(Self { path, file })
    }

    /// Appends a line, durably.
    pub(super) fn append(&mut self, json: &Json) -> Result<(), BackupError> {
        let line = format!("{json}\n");
        self.file.write_all(line.as_bytes()).map_err(BackupError::io("write it", &self.path))?;
        self.file.sync_all().map_err(BackupError::io("sync it", &self.path))
    }

    /// Writes the manifest, durably, and removes the list.
    pub(super) fn finish(self, folder: &Path, manifest: &Manifest) -> Result<(), BackupError> {
        let (new, done) = (folder.join(format!("{MANIFEST}.new")), folder.join(MANIFEST));
        let mut file = private().write(true).truncate(true).open(&new).map_err(BackupError::io("create it", &new))?;
        file.write_all(manifest.to_text().as_bytes()).map_err(BackupError::io("write it", &new))?;
        file.sync_all().map_err(BackupError::io("sync it", &new))?;
        fs::rename(&new, &done).map_err(BackupError::io("rename it", &new))?;
        sync(folder)?;
        fs::remove_file(&self.path).map_err(BackupError::io("remove it", &self.path))?;
        sync(folder)
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync(folder: &Path) -> Result<(), BackupError> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(BackupError::io("sync it", folder))
}
