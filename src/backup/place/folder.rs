//! A backup in a folder.
//!
//! `unfinished.jsonl` lists what is done while a backup is under way: a line about the backup, then one for each file that is
//! whole. Each line is durable before the next file begins. A last line without its end counts for nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::super::error::BackupError;
use super::super::file::KeyFile;
use super::super::manifest::Manifest;
use super::{BLOCK_BYTES, MANIFEST};

pub(super) const UNFINISHED: &str = "unfinished.jsonl";

/// What the end of a name says while the file is being written.
const NEW: &str = ".new";

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
fn private() -> OpenOptions {
    let mut options = File::options();
    options.create(true).mode(0o600);
    options
}

/// A small file as a whole; `None` without one.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, BackupError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BackupError::Io { action: "read it", path: path.to_path_buf(), error }),
    }
}

/// The whole lines of the list of what is done.
pub(super) fn lines(folder: &Path) -> Result<Option<Vec<String>>, BackupError> {
    let path = folder.join(UNFINISHED);
    let Some(bytes) = read(&path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| BackupError::damaged(&path, "it is no text"))?;
    // What comes behind the last line's end was not finished.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
    Ok((!lines.is_empty()).then_some(lines))
}

/// Whether a folder has anything that a backup does not begin with.
pub(super) fn has_files(folder: &Path) -> Result<bool, BackupError> {
    for entry in fs::read_dir(folder).map_err(BackupError::io("list it", folder))? {
        let name = entry.map_err(BackupError::io("list it", folder))?.file_name();
        // A process that was interrupted at once has left the first; the second is part of a file system.
        if name != UNFINISHED && name != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes files of keys that are no part of the backup: of tables that were dropped, or never ended.
pub(super) fn remove_all_but(path: &Path, files: &[KeyFile]) -> Result<(), BackupError> {
    for entry in fs::read_dir(path).map_err(BackupError::io("list it", path))? {
        let entry = entry.map_err(BackupError::io("list it", path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("keys-") && files.iter().all(|file| file.name != name) {
            fs::remove_file(entry.path()).map_err(BackupError::io("remove it", &entry.path()))?;
        }
    }
    Ok(())
}

/// A file that is being written, under a name of its own until it is whole.
pub(in crate::backup) struct FileWriter {
    folder: PathBuf,
    name: String,
    new_path: PathBuf,
    file: BufWriter<File>,
}

impl FileWriter {
    pub(super) fn begin(folder: &Path, name: &str) -> Result<Self, BackupError> {
        let new_path = folder.join(format!("{name}{NEW}"));
        let file =
            private().write(true).truncate(true).open(&new_path).map_err(BackupError::io("create it", &new_path))?;
        let file = BufWriter::with_capacity(BLOCK_BYTES, file);
        Ok(Self { folder: folder.to_path_buf(), name: name.to_owned(), new_path, file })
    }

    pub(super) fn write(&mut self, part: &[u8]) -> Result<(), BackupError> {
        self.file.write_all(part).map_err(BackupError::io("write it", &self.new_path))
    }

    /// Makes the file durable, and gives it its name.
    pub(super) fn finish(self) -> Result<(), BackupError> {
        let Self { folder, name, new_path, file } = self;
        let file = file.into_inner().map_err(|error| BackupError::io("write it", &new_path)(error.into_error()))?;
        file.sync_all().map_err(BackupError::io("sync it", &new_path))?;
        fs::rename(&new_path, folder.join(name)).map_err(BackupError::io("rename it", &new_path))?;
        sync(&folder)
    }
}

/// The list of what is done, open to be appended to. It is locked.
#[derive(Debug)]
pub(in crate::backup) struct Unfinished {
    path: PathBuf,
    file: File,
    is_new: bool,
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
        Ok(Self { path, file, is_new: whole == 0 })
    }

    /// Appends a line, durably, and the file's name with the first one.
    pub(super) fn append(&mut self, json: &Json) -> Result<(), BackupError> {
        let line = format!("{json}\n");
        self.file.write_all(line.as_bytes()).map_err(BackupError::io("write it", &self.path))?;
        self.file.sync_all().map_err(BackupError::io("sync it", &self.path))?;
        match self.path.parent() {
            Some(folder) if self.is_new => {
                self.is_new = false;
                sync(folder)
            }
            _ => Ok(()),
        }
    }

    /// Writes the manifest, durably, and removes the list.
    pub(super) fn finish(self, folder: &Path, manifest: &Manifest) -> Result<(), BackupError> {
        let (new, done) = (folder.join(format!("{MANIFEST}{NEW}")), folder.join(MANIFEST));
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
fn sync(folder: &Path) -> Result<(), BackupError> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(BackupError::io("sync it", folder))
}
