//! What a backup says of itself.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use xxhash_rust::xxh3::xxh3_128;

use super::Progress;
use super::error::BackupError;
use super::file::{KeyFile, clock_as_json, clock_from_json};
use super::found::progress_of;
use super::line::ttl_json;
use crate::client::TableInfo;
use crate::types::Clock;

/// The format that this program writes and reads.
const FORMAT: u64 = 1;

/// How many epochs a new cluster begins above the greatest clock of the backup. Each start of a node, and little else, takes an
/// epoch: the old cluster may go on after the backup, and its nodes start so often, before its clocks reach the new one's.
const EPOCHS_ABOVE: u64 = 1_000;

/// What is known when a backup begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The cluster's identity, which stays when its members change.
    pub cluster: String,
    /// The cluster's seed.
    pub seed: u32,
    /// The cluster's `replica_count`.
    pub replica_count: u64,
    /// The ids of the cluster's nodes.
    pub node_ids: Vec<String>,
    /// The cluster's `epoch_floor`.
    pub epoch_floor: u64,
    /// The keys begin with this.
    pub prefix: String,
    /// The tables that were there.
    pub tables: Vec<SavedTable>,
    /// The time, in seconds since 1970 began, for people.
    pub began_at: u64,
}

/// A table and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedTable {
    /// Its name.
    pub name: String,
    /// Its id in the cluster that was saved.
    pub id: u32,
    /// The time to live of values that are written without one.
    pub default_ttl: Option<Duration>,
    /// The greatest value in bytes.
    pub value_bytes_max: Option<u64>,
    /// About how many bytes all keys and values may have together.
    pub quota_bytes: Option<u64>,
}

/// A whole backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What was known when it began.
    pub beginning: Beginning,
    /// The version of the program that wrote it.
    pub written_by: String,
    /// The time of its end, in seconds since 1970 began, for people.
    pub ended_at: u64,
    /// The greatest clock of the cluster that it has seen, in versions and of nodes.
    pub greatest_clock: Clock,
    /// The tables that were dropped while it was under way, and are not in it.
    pub dropped: Vec<String>,
    /// Its files, in order.
    pub files: Vec<KeyFile>,
}

impl Manifest {
    /// The `epoch_floor` for a cluster that is to take it over.
    #[must_use]
    pub fn epoch_floor(&self) -> u64 {
        self.greatest_clock.epoch.saturating_add(EPOCHS_ABOVE)
    }

    /// The keys, bytes and files that it holds.
    #[must_use]
    pub fn size(&self) -> Progress {
        progress_of(&self.files)
    }

    /// The tables that it holds.
    pub fn tables(&self) -> impl Iterator<Item = &SavedTable> {
        self.beginning.tables.iter().filter(|table| !self.dropped.contains(&table.name))
    }

    /// What it says of itself, without the list of its files.
    #[must_use]
    pub fn summary(&self) -> Json {
        let mut json = self.beginning.as_json();
        let Progress { keys, bytes, files } = self.size();
        json["tables"] = self
            .tables()
            .map(|table| {
                let mut json = table.as_json();
                let Progress { keys, bytes, .. } =
                    progress_of(self.files.iter().filter(|file| file.table == table.name));
                json["keys"] = keys.into();
                json["bytes"] = bytes.into();
                json
            })
            .collect();
        json["written_by"] = json!(self.written_by);
        json["ended_at"] = json!(self.ended_at);
        json["greatest_clock"] = clock_as_json(self.greatest_clock);
        json["epoch_floor"] = json!(self.epoch_floor());
        json["dropped_tables"] = json!(self.dropped);
        json["keys"] = keys.into();
        json["bytes"] = bytes.into();
        json["files"] = files.into();
        json
    }

    pub(super) fn to_text(&self) -> String {
        let mut json = self.beginning.as_json();
        json["written_by"] = json!(self.written_by);
        json["ended_at"] = json!(self.ended_at);
        json["greatest_clock"] = clock_as_json(self.greatest_clock);
        json["epoch_floor"] = json!(self.epoch_floor());
        json["dropped_tables"] = json!(self.dropped);
        json["files"] = self.files.iter().map(KeyFile::as_json).collect();
        json["xxh3"] = json!(checksum(&json));
        format!("{json:#}\n")
    }
}

/// The checksum of a manifest that does not have one yet: over its JSON without spaces, whose names are in order.
fn checksum(json: &Json) -> String {
    format!("{:032x}", xxh3_128(json.to_string().as_bytes()))
}

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, BackupError> {
    let damaged = |problem: &str| BackupError::damaged(path, problem);
    let mut json: Json = serde_json::from_slice(bytes).map_err(|error| damaged(&format!("it is no JSON: {error}")))?;
    // The format comes first: this program does not know the other fields of another format.
    match json["format"].as_u64() {
        Some(FORMAT) => {}
        Some(found) => return Err(BackupError::Format { path: path.to_path_buf(), found, known: FORMAT }),
        None => return Err(damaged("it is no manifest of a backup")),
    }
    let expected = json.as_object_mut().and_then(|fields| fields.remove("xxh3"));
    if expected != Some(json!(checksum(&json))) {
        return Err(damaged("its checksum is another one"));
    }
    let read = || {
        let files = json["files"].as_array()?.iter().map(KeyFile::from_json).collect::<Option<Vec<_>>>()?;
        let names = json["dropped_tables"].as_array()?.iter();
        Some(Manifest {
            beginning: Beginning::from_json(&json)?,
            written_by: json["written_by"].as_str()?.to_owned(),
            ended_at: json["ended_at"].as_u64()?,
            greatest_clock: clock_from_json(&json["greatest_clock"])?,
            dropped: names.map(|name| Some(name.as_str()?.to_owned())).collect::<Option<_>>()?,
            files,
        })
    };
    read().ok_or_else(|| damaged("a field is missing"))
}

impl Beginning {
    pub(super) fn as_json(&self) -> Json {
        json!({
            "format": FORMAT,
            "cluster": {
                "id": self.cluster,
                "seed": self.seed,
                "replica_count": self.replica_count,
                "node_ids": self.node_ids,
                "epoch_floor": self.epoch_floor,
            },
            "prefix": self.prefix,
            "tables": self.tables.iter().map(SavedTable::as_json).collect::<Vec<_>>(),
            "began_at": self.began_at,
        })
    }

    pub(super) fn from_json(json: &Json) -> Option<Self> {
        let cluster = json.get("cluster")?;
        let ids = cluster["node_ids"].as_array()?.iter().map(|id| Some(id.as_str()?.to_owned()));
        (json["format"].as_u64()? == FORMAT).then_some(())?;
        Some(Self {
            cluster: cluster["id"].as_str()?.to_owned(),
            seed: u32::try_from(cluster["seed"].as_u64()?).ok()?,
            replica_count: cluster["replica_count"].as_u64()?,
            node_ids: ids.collect::<Option<_>>()?,
            epoch_floor: cluster["epoch_floor"].as_u64()?,
            prefix: json["prefix"].as_str()?.to_owned(),
            tables: json["tables"].as_array()?.iter().map(SavedTable::from_json).collect::<Option<_>>()?,
            began_at: json["began_at"].as_u64()?,
        })
    }
}

impl SavedTable {
    pub(super) fn of(table: &TableInfo) -> Self {
        let TableInfo { name, id, default_ttl, value_bytes_max, quota_bytes, .. } = table.clone();
        Self { name, id, default_ttl, value_bytes_max, quota_bytes }
    }

    fn as_json(&self) -> Json {
        let mut json = json!({ "table": self.name, "id": self.id });
        if let Some(ttl) = self.default_ttl {
            json["default_ttl_ms"] = ttl_json(ttl);
        }
        for (field, number) in [("value_bytes_max", self.value_bytes_max), ("quota_bytes", self.quota_bytes)] {
            if let Some(number) = number {
                json[field] = number.into();
            }
        }
        json
    }

    fn from_json(json: &Json) -> Option<Self> {
        Some(Self {
            name: json["table"].as_str()?.to_owned(),
            id: u32::try_from(json["id"].as_u64()?).ok()?,
            default_ttl: json["default_ttl_ms"].as_u64().map(Duration::from_millis),
            value_bytes_max: json["value_bytes_max"].as_u64(),
            quota_bytes: json["quota_bytes"].as_u64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let table = SavedTable {
            name: "größe".into(),
            id: 3,
            default_ttl: Some(Duration::from_secs(90)),
            value_bytes_max: None,
            quota_bytes: Some(1 << 40),
        };
        let file = KeyFile {
            name: "keys-000001.jsonl".into(),
            table: "größe".into(),
            after: None,
            last: Some("k\n".into()),
            ends_table: true,
            keys: 2,
            bytes: 90,
            checksum: u128::MAX - 7,
            greatest_clock: Clock { epoch: 4, counter: u64::MAX },
        };
        Manifest {
            beginning: Beginning {
                cluster: "3f".repeat(16),
                seed: u32::MAX,
                replica_count: 3,
                node_ids: vec!["1".into(), "\"2".into()],
                epoch_floor: 1,
                prefix: "k".into(),
                tables: vec![table],
                began_at: 1_700_000_000,
            },
            written_by: "0.1.0".into(),
            ended_at: 1_700_000_009,
            greatest_clock: Clock { epoch: 4, counter: u64::MAX },
            dropped: vec!["gone".into()],
            files: vec![file],
        }
    }

    #[test]
    fn manifest_is_read_as_it_was_written() {
        let text = manifest().to_text();
        assert_eq!(parse(Path::new("m"), text.as_bytes()).unwrap(), manifest());
        assert_eq!(manifest().epoch_floor(), 1_004);
    }

    #[test]
    fn manifest_that_was_changed_is_refused() {
        let text = manifest().to_text();
        for (from, to) in [("\"keys\": 2", "\"keys\": 3"), ("größe", "grösse"), ("keys-000001", "../../000001")] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let error = parse(Path::new("m"), changed.as_bytes()).unwrap_err();
            assert!(matches!(error, BackupError::Damaged { .. }), "{error}");
        }
        let newer = text.replacen("\"format\": 1", "\"format\": 2", 1);
        let error = parse(Path::new("m"), newer.as_bytes()).unwrap_err();
        assert!(matches!(error, BackupError::Format { found: 2, .. }), "{error}");
        assert!(parse(Path::new("m"), &text.as_bytes()[..text.len() / 2]).is_err());
    }

    #[test]
    fn file_outside_of_the_folder_is_no_file_of_a_backup() {
        let mut json = manifest().files[0].as_json();
        for name in ["../x", "/etc/x", "..", "a/b", ".x"] {
            json["name"] = json!(name);
            assert_eq!(KeyFile::from_json(&json), None, "{name}");
        }
    }
}
