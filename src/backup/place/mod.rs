//! Where a backup lies: in a folder, or in a bucket of an object store.
//!
//! Contract: a file is there whole or not at all, and durable once its writer has finished. The list of what is done grows by
//! one line at a time, each durable. The manifest is written last, and once: of two backups under one name one ends with an error.

pub(super) mod bucket;
mod errors;
mod folder;
mod settings;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

pub use bucket::Bucket;

use super::error::BackupError;
use super::file::KeyFile;
use super::manifest::Manifest;

pub(super) const MANIFEST: &str = "manifest.json";

/// The bytes that are read or written at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// Where a backup lies.
#[derive(Clone, Debug)]
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A part of a bucket.
    Bucket(Bucket),
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self::Folder(path)
    }
}

impl From<&PathBuf> for Place {
    fn from(path: &PathBuf) -> Self {
        Self::Folder(path.clone())
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::Folder(path.to_path_buf())
    }
}

impl From<Bucket> for Place {
    fn from(bucket: Bucket) -> Self {
        Self::Bucket(bucket)
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Self {
        place.clone()
    }
}

impl Place {
    /// The place of this name: `s3://BUCKET/PREFIX`, which is reached as the environment says, or a folder.
    ///
    /// # Errors
    /// When the name is that of another kind of store, or the environment does not say how to reach a bucket.
    pub fn parse(name: &OsStr) -> Result<Self, BackupError> {
        let text = name.to_string_lossy();
        let refused = |problem: &str| {
            Err(BackupError::Bucket { path: name.into(), problem: problem.to_owned(), may_pass: false })
        };
        match text.split_once("://") {
            Some(("s3", _)) => Bucket::from_environment(&text).map(Self::Bucket),
            Some(_) => refused("of object stores only buckets of S3 are taken: give s3://BUCKET/PREFIX, or a folder"),
            None if text.starts_with("s3:") => refused("give s3://BUCKET/PREFIX, or ./ before the name of a folder"),
            None => Ok(Self::Folder(name.into())),
        }
    }

    /// Its name, as people give it.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Folder(path) => path.clone(),
            Self::Bucket(bucket) => bucket.path(""),
        }
    }

    /// The name of a file of it.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(path) => path.join(name),
            Self::Bucket(bucket) => bucket.path(name),
        }
    }

    /// The name of the list of what is done, for errors.
    pub(super) fn path_of_list(&self) -> PathBuf {
        self.path_of(match self {
            Self::Folder(_) => folder::UNFINISHED,
            Self::Bucket(_) => bucket::UNFINISHED,
        })
    }

    /// Makes the folder, durably. A bucket is there, or is an error of what comes next.
    pub(super) fn prepare(&self) -> Result<(), BackupError> {
        match self {
            Self::Folder(path) => folder::make(path),
            Self::Bucket(_) => Ok(()),
        }
    }

    /// The manifest's text; `None` without one.
    pub(super) async fn manifest(&self) -> Result<Option<Vec<u8>>, BackupError> {
        match self {
            Self::Folder(path) => folder::read(&path.join(MANIFEST)),
            Self::Bucket(bucket) => bucket.read(MANIFEST).await,
        }
    }

    /// The lines about what is done, of a backup that is not finished; `None` without any.
    pub(super) async fn lines(&self) -> Result<Option<Vec<String>>, BackupError> {
        match self {
            Self::Folder(path) => folder::lines(path),
            Self::Bucket(bucket) => bucket.lines().await,
        }
    }

    /// Whether anything is there, besides the beginning of a list.
    pub(super) async fn has_files(&self) -> Result<bool, BackupError> {
        match self {
            Self::Folder(path) => folder::has_files(path),
            Self::Bucket(bucket) => bucket.has_files().await,
        }
    }

    /// Whether the beginning of a backup is there, with which `create --resume` goes on. `false` also if it cannot be told.
    pub async fn is_unfinished(&self) -> bool {
        match self {
            Self::Folder(path) => path.join(folder::UNFINISHED).exists(),
            Self::Bucket(bucket) => bucket.is_unfinished().await,
        }
    }

    /// The name of a file of keys. No two processes write the same object of a bucket.
    pub(super) fn file_name(&self, number: usize) -> String {
        match self {
            Self::Folder(_) => format!("keys-{number:06}.jsonl"),
            Self::Bucket(bucket) => format!("keys-{number:06}-{}.jsonl", bucket.run),
        }
    }

    /// Opens the list of what is done, which has so many lines.
    pub(super) fn open_list(&self, lines: usize) -> Result<List, BackupError> {
        match self {
            Self::Folder(path) => folder::Unfinished::open(path).map(List::File),
            Self::Bucket(bucket) => Ok(List::Objects { bucket: bucket.clone(), lines }),
        }
    }

    /// Begins a file. One that was begun before is written anew.
    pub(super) fn begin(&self, name: &str) -> Result<Writer, BackupError> {
        match self {
            Self::Folder(path) => folder::FileWriter::begin(path, name).map(Writer::File),
            Self::Bucket(bucket) => Ok(Writer::Object(bucket.begin(name))),
        }
    }

    /// Reads a file whose bytes are those that were written. The checksum is compared before the first line is given out.
    pub(super) async fn open(&self, content: &KeyFile) -> Result<Box<dyn BufRead + Send>, BackupError> {
        let path = self.path_of(&content.name);
        let (bytes, checksum, lines): (u64, _, Box<dyn BufRead + Send>) = match self {
            Self::Folder(_) => {
                let open = || File::open(&path).map_err(BackupError::io("open it", &path));
                let (mut file, mut hash, mut bytes) = (open()?, Xxh3::new(), 0_u64);
                let mut buffer = vec![0; BLOCK_BYTES];
                loop {
                    let read = file.read(&mut buffer).map_err(BackupError::io("read it", &path))?;
                    if read == 0 {
                        break;
                    }
                    hash.update(&buffer[..read]);
                    bytes += read as u64;
                }
                (bytes, hash.digest128(), Box::new(BufReader::with_capacity(BLOCK_BYTES, open()?)))
            }
            // It is in memory, so that nothing of a damaged file is written, and nothing is fetched twice.
            Self::Bucket(bucket) => match bucket.fetch(content).await? {
                Ok(bytes) => (bytes.len() as u64, xxh3_128(&bytes), Box::new(Cursor::new(bytes))),
                Err(bytes) => (bytes, 0, Box::new(Cursor::new([]))),
            },
        };
        if bytes != content.bytes {
            let problem = format!("it has {bytes} bytes, and the manifest says {}", content.bytes);
            return Err(BackupError::damaged(&path, problem));
        }
        if checksum != content.checksum {
            return Err(BackupError::damaged(&path, "its checksum is not the one of the manifest"));
        }
        Ok(lines)
    }

    /// Writes the manifest, durably, and removes the list and files that are no part of the backup.
    pub(super) async fn finish(&self, list: List, manifest: &Manifest) -> Result<(), BackupError> {
        match (self, list) {
            (Self::Folder(path), List::File(list)) => {
                folder::remove_all_but(path, &manifest.files)?;
                list.finish(path, manifest)
            }
            (Self::Bucket(bucket), _) => bucket.finish(manifest).await,
            (Self::Folder(_), List::Objects { .. }) => unreachable!("a folder has a list of its own"),
        }
    }
}

/// The list of what is done, open to be appended to.
#[derive(Debug)]
pub(super) enum List {
    /// A file, which is locked.
    File(folder::Unfinished),
    /// An object for each line.
    Objects { bucket: Bucket, lines: usize },
}

impl List {
    /// Appends a line, durably.
    pub(super) async fn append(&mut self, json: &Json) -> Result<(), BackupError> {
        match self {
            Self::File(file) => file.append(json),
            Self::Objects { bucket, lines } => {
                bucket.append(*lines, json).await?;
                *lines += 1;
                Ok(())
            }
        }
    }
}

/// A file that is being written.
pub(super) enum Writer {
    /// A file under another name.
    File(folder::FileWriter),
    /// An object, of which nothing is seen yet.
    Object(bucket::ObjectWriter),
}

impl Writer {
    pub(super) async fn write(&mut self, part: &[u8]) -> Result<(), BackupError> {
        match self {
            Self::File(file) => file.write(part),
            Self::Object(object) => object.write(part).await,
        }
    }

    /// Makes the file durable under its name.
    pub(super) async fn finish(self) -> Result<(), BackupError> {
        match self {
            Self::File(file) => file.finish(),
            Self::Object(object) => object.finish().await,
        }
    }

    /// Gives a file up that is not whole.
    pub(super) async fn abandon(self) {
        match self {
            // The next backup writes it anew.
            Self::File(_) => {}
            Self::Object(object) => object.abandon().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_bucket_with_one_slash_is_no_folder() {
        let refused = |name: &str| Place::parse(OsStr::new(name)).unwrap_err().to_string();
        assert!(refused("s3:/backups/monday").contains("give s3://BUCKET/PREFIX"));
        assert!(refused("gs://backups/monday").contains("only buckets of S3"));
        assert!(matches!(Place::parse(OsStr::new("./s3:/backups")), Ok(Place::Folder(_))));
    }
}
