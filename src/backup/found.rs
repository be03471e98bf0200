//! What lies under the name of a backup: a whole one, one that is not finished, or neither.

use serde_json::Value as Json;

use super::error::BackupError;
use super::file::KeyFile;
use super::manifest::{Beginning, Manifest};
use super::place::{MANIFEST, Place};
use super::{Progress, manifest};

/// What a place holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A whole backup.
    Whole(Box<Manifest>),
    /// A backup that was interrupted, or is under way, and how far it is.
    Unfinished(Progress),
}

/// Looks into a place.
///
/// # Errors
/// When it holds no backup, or one that is damaged, or cannot be read.
pub async fn find(place: impl Into<Place>) -> Result<Found, BackupError> {
    let place = place.into();
    if let Some(bytes) = place.manifest().await? {
        return manifest::parse(&place.path_of(MANIFEST), &bytes).map(|manifest| Found::Whole(Box::new(manifest)));
    }
    match read_unfinished(&place).await? {
        Some((_, files)) => Ok(Found::Unfinished(progress_of(&files))),
        None => Err(BackupError::NoBackup { path: place.path() }),
    }
}

/// The manifest of a whole backup.
pub(super) async fn whole(place: &Place) -> Result<Manifest, BackupError> {
    match find(place).await? {
        Found::Whole(manifest) => Ok(*manifest),
        Found::Unfinished(_) => Err(BackupError::Unfinished { path: place.path() }),
    }
}

/// Reads each file of a whole backup: its checksum, its keys and their order.
///
/// # Errors
/// With the first file that is not as it was written.
pub async fn verify(place: impl Into<Place>, mut on_progress: impl FnMut(Progress)) -> Result<Manifest, BackupError> {
    let place = place.into();
    let manifest = whole(&place).await?;
    let mut progress = Progress::default();
    for file in &manifest.files {
        file.verify(&place, &manifest.beginning.prefix).await?;
        progress.keys += file.keys;
        progress.bytes += file.bytes;
        progress.files += 1;
        on_progress(progress);
    }
    Ok(manifest)
}

pub(super) fn progress_of<'a>(files: impl IntoIterator<Item = &'a KeyFile>) -> Progress {
    let add = |sum: Progress, file: &KeyFile| Progress {
        keys: sum.keys + file.keys,
        bytes: sum.bytes + file.bytes,
        files: sum.files + 1,
    };
    files.into_iter().fold(Progress::default(), add)
}

/// The backup that was interrupted, and its files that are whole.
pub(super) async fn read_unfinished(place: &Place) -> Result<Option<(Beginning, Vec<KeyFile>)>, BackupError> {
    let Some(lines) = place.lines().await? else { return Ok(None) };
    let path = place.path_of_list();
    let mut lines = (1..).zip(&lines);
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
