//! A file of a backup: the keys of one range of one table, in order, a line each.
//!
//! Invariant: a file under its own name is whole and durable. One that is being written is not seen under that name.

use std::io::{BufRead, Read as _};
use std::path::PathBuf;

use serde_json::{Value as Json, json};
use xxhash_rust::xxh3::Xxh3;

use super::error::BackupError;
use super::line::{LINE_BYTES_MAX, Line};
use super::place::{Place, Writer};
use crate::types::Clock;

/// A file, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// Its name in the folder or the bucket.
    pub name: String,
    /// The table of its keys.
    pub table: String,
    /// Its keys are above this one; `None` where it begins the table.
    pub after: Option<String>,
    /// Its last key; `None` where it holds none.
    pub last: Option<String>,
    /// Whether no key of the table follows.
    pub ends_table: bool,
    /// How many keys it has.
    pub keys: u64,
    /// Its size.
    pub bytes: u64,
    /// XXH3 of its bytes, 128 bits. It finds damage by accident, not by intent.
    pub checksum: u128,
    /// The greatest clock in the versions of its keys.
    pub greatest_clock: Clock,
}

impl KeyFile {
    pub(super) fn as_json(&self) -> Json {
        json!({
            "name": self.name,
            "table": self.table,
            "after": self.after,
            "last": self.last,
            "ends_table": self.ends_table,
            "keys": self.keys,
            "bytes": self.bytes,
            "xxh3": format!("{:032x}", self.checksum),
            "greatest_clock": clock_as_json(self.greatest_clock),
        })
    }

    pub(super) fn from_json(json: &Json) -> Option<Self> {
        let text = |name: &str| Some(json.get(name)?.as_str()?.to_owned());
        let name = text("name")?;
        // A name leads nowhere but into the place.
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        if !is_plain || name.starts_with('.') {
            return None;
        }
        Some(Self {
            name,
            table: text("table")?,
            after: text("after"),
            last: text("last"),
            ends_table: json["ends_table"].as_bool()?,
            keys: json["keys"].as_u64()?,
            bytes: json["bytes"].as_u64()?,
            checksum: u128::from_str_radix(json["xxh3"].as_str()?, 16).ok()?,
            greatest_clock: clock_from_json(&json["greatest_clock"])?,
        })
    }

    /// Reads the whole file, and checks it against what is said of it.
    pub(super) async fn verify(&self, place: &Place, prefix: &str) -> Result<(), BackupError> {
        let mut reader = KeyFileReader::open(self, place).await?;
        let mut last = self.after.clone();
        while let Some((line, _)) = reader.next()? {
            if last.as_ref().is_some_and(|last| *last >= line.key) {
                return Err(BackupError::damaged(
                    &reader.path,
                    format!("key {:?} is not above the one before", line.key),
                ));
            }
            if !line.key.starts_with(prefix) {
                return Err(BackupError::damaged(&reader.path, format!("key {:?} is not of the backup", line.key)));
            }
            last = Some(line.key);
        }
        if reader.keys != self.keys || self.keys > 0 && last != self.last {
            let problem = format!("it has {} keys, and the manifest says {}", reader.keys, self.keys);
            return Err(BackupError::damaged(&reader.path, problem));
        }
        Ok(())
    }
}

pub(super) fn clock_as_json(clock: Clock) -> Json {
    json!({ "epoch": clock.epoch, "clock": clock.counter })
}

pub(super) fn clock_from_json(json: &Json) -> Option<Clock> {
    Some(Clock { epoch: json["epoch"].as_u64()?, counter: json["clock"].as_u64()? })
}

/// A file that is being written.
pub(super) struct KeyFileWriter {
    writer: Writer,
    hash: Box<Xxh3>,
    pub(super) content: KeyFile,
}

impl KeyFileWriter {
    /// Begins the file with this number. One that was begun before is written anew.
    pub(super) fn begin(place: &Place, number: usize, table: &str, after: Option<String>) -> Result<Self, BackupError> {
        let name = place.file_name(number);
        let writer = place.begin(&name)?;
        let content = KeyFile {
            name,
            table: table.to_owned(),
            last: None,
            after,
            ends_table: false,
            keys: 0,
            bytes: 0,
            checksum: 0,
            greatest_clock: Clock::default(),
        };
        Ok(Self { writer, hash: Box::new(Xxh3::new()), content })
    }

    /// Appends a key. `line` is its text without the line's end.
    pub(super) async fn append(&mut self, key: String, clock: Clock, line: &str) -> Result<(), BackupError> {
        for part in [line.as_bytes(), b"\n"] {
            self.writer.write(part).await?;
            self.hash.update(part);
            self.content.bytes += part.len() as u64;
        }
        self.content.keys += 1;
        self.content.last = Some(key);
        self.content.greatest_clock = self.content.greatest_clock.max(clock);
        Ok(())
    }

    /// Makes the file durable, and gives it its name.
    pub(super) async fn finish(self, ends_table: bool) -> Result<KeyFile, BackupError> {
        let Self { writer, hash, content } = self;
        writer.finish().await?;
        Ok(KeyFile { ends_table, checksum: hash.digest128(), ..content })
    }

    /// Gives the file up.
    pub(super) async fn abandon(self) {
        self.writer.abandon().await;
    }
}

/// Reads the lines of a file, whose checksum was compared first.
pub(super) struct KeyFileReader {
    path: PathBuf,
    lines: Box<dyn BufRead + Send>,
    keys: u64,
}

impl KeyFileReader {
    pub(super) async fn open(content: &KeyFile, place: &Place) -> Result<Self, BackupError> {
        Ok(Self { path: place.path_of(&content.name), lines: place.open(content).await?, keys: 0 })
    }

    /// The next line and its bytes; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(Line, u64)>, BackupError> {
        let mut text = Vec::new();
        let mut limited = (&mut self.lines).take(LINE_BYTES_MAX);
        let bytes = limited.read_until(b'\n', &mut text).map_err(BackupError::io("read it", &self.path))?;
        if bytes == 0 {
            return Ok(None);
        }
        self.keys += 1;
        let damaged = |problem| BackupError::damaged(&self.path, format!("line {}: {problem}", self.keys));
        Line::parse(&text).map(|line| Some((line, bytes as u64))).map_err(damaged)
    }
}
