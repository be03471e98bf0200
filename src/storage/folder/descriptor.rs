//! The descriptor `folder.yml`: its fields, and the text on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value as Json, json};

use super::{DESCRIPTOR, DESCRIPTOR_NEW, DataFolderError, FOLDER_FORMAT, io_error, sync_folder};
use crate::limits::EPOCH_FLOOR_MAX;
use crate::types::{ClusterParameters, NodeId, NodeIndex, Site, StoreId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The first start has not ended, or was interrupted: nothing was acknowledged from this folder.
    Creating,
    /// The store is complete.
    Ready,
    /// The store is damaged, and the node has given it up for good: the next start sets it aside.
    Damaged,
}

/// The content of `folder.yml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) state: State,
    pub(super) node_id: NodeId,
    pub(super) store_id: StoreId,
    /// The store in whose place this one comes. Set until the members have given the node its place again.
    pub(super) replaces: Option<StoreId>,
    pub(super) parameters: ClusterParameters,
}

impl Descriptor {
    /// Refuses the folder at `path` unless it belongs to node `node_id` of a cluster with the seed of `parameters`.
    pub(super) fn check(
        &self,
        path: &Path,
        node_id: &NodeId,
        parameters: &ClusterParameters,
    ) -> Result<(), DataFolderError> {
        let path = path.to_path_buf();
        if self.node_id != *node_id {
            return Err(DataFolderError::NodeIdDiffers {
                path,
                folder: self.node_id.clone(),
                configured: node_id.clone(),
            });
        }
        if self.parameters.seed != parameters.seed {
            return Err(DataFolderError::SeedDiffers {
                path,
                folder: self.parameters.seed,
                configured: parameters.seed,
            });
        }
        Ok(())
    }

    /// The refusal of the folder at `path` for other `parameters`, which differ in more than the seed.
    pub(super) fn differs(&self, path: &Path, parameters: &ClusterParameters) -> DataFolderError {
        let path = path.to_path_buf();
        if self.parameters.epoch_floor != parameters.epoch_floor {
            let (folder, configured) = (self.parameters.epoch_floor, parameters.epoch_floor);
            return DataFolderError::EpochFloorDiffers { path, folder, configured };
        }
        if self.parameters.node_ids != parameters.node_ids {
            let (folder, configured) = (self.parameters.node_ids.clone(), parameters.node_ids.clone());
            return DataFolderError::NodeIdsDiffer { path, folder, configured };
        }
        let differs = |member: &NodeIndex| self.parameters.site(*member) != parameters.site(*member);
        if let Some(member) = parameters.members().find(differs) {
            return DataFolderError::SiteDiffers {
                path,
                node: parameters.id(member).clone(),
                folder: self.parameters.site(member).clone(),
                configured: parameters.site(member).clone(),
            };
        }
        let (folder, configured) = (self.parameters.replica_count, parameters.replica_count);
        DataFolderError::ReplicaCountDiffers { path, folder, configured }
    }

    /// Weights and zones are there where nodes have other ones than the default, so that a program that knows none of both
    /// opens no folder that has some.
    ///
    /// Each value is JSON, which is also YAML. Node ids may hold characters that are special in YAML, and JSON has one
    /// strict way to quote them.
    fn to_text(&self) -> String {
        let state = match self.state {
            State::Creating => "creating",
            State::Ready => "ready",
            State::Damaged => "damaged",
        };
        let node_ids: Vec<&str> = self.parameters.node_ids.iter().map(NodeId::as_str).collect();
        let mut fields = vec![
            ("format", json!(FOLDER_FORMAT)),
            ("state", json!(state)),
            ("node_id", json!(self.node_id.as_str())),
            ("store_id", json!(self.store_id.to_string())),
            ("seed", json!(self.parameters.seed)),
            ("replica_count", json!(self.parameters.replica_count)),
            ("node_ids", json!(node_ids)),
        ];
        if self.parameters.epoch_floor > 0 {
            fields.push(("epoch_floor", json!(self.parameters.epoch_floor)));
        }
        if let Some(replaces) = self.replaces {
            fields.push(("replaces", json!(replaces.to_string())));
        }
        let sites =
            [("weights", json!(self.parameters.weights_listed())), ("zones", json!(self.parameters.zones_listed()))];
        fields.extend(sites.into_iter().filter(|(_, list)| list.as_array().is_some_and(|list| !list.is_empty())));
        let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        "# The node and the cluster that this data folder belongs to. Quorate wrote this file and checks it at each start.\n".to_owned()
            + &lines.concat()
    }

    /// Replaces the file in `folder` atomically and durably.
    pub(super) fn write(&self, folder: &Path) -> Result<(), DataFolderError> {
        let (new, done) = (folder.join(DESCRIPTOR_NEW), folder.join(DESCRIPTOR));
        let mut file = File::create(&new).map_err(|error| io_error("create", &new, error))?;
        file.write_all(self.to_text().as_bytes()).map_err(|error| io_error("write", &new, error))?;
        file.sync_all().map_err(|error| io_error("sync", &new, error))?;
        fs::rename(&new, &done).map_err(|error| io_error("rename", &new, error))?;
        sync_folder(folder)
    }
}

/// Reads the descriptor at `path`; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Descriptor>, DataFolderError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path, error)),
    };
    match parse(&bytes) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(Unreadable::Format(found)) if found < FOLDER_FORMAT => {
            Err(DataFolderError::FormatOlder { path: path.to_path_buf(), found })
        }
        Err(Unreadable::Format(found)) => Err(DataFolderError::FormatNewer { path: path.to_path_buf(), found }),
        Err(Unreadable::Damaged(reason)) => Err(DataFolderError::Damaged { path: path.to_path_buf(), reason }),
    }
}

/// Why a descriptor's text cannot be read.
#[derive(Debug, PartialEq, Eq)]
enum Unreadable {
    /// It has this format, which is not [`FOLDER_FORMAT`].
    Format(u64),
    /// It is damaged, for this reason.
    Damaged(String),
}

impl From<String> for Unreadable {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

fn parse(bytes: &[u8]) -> Result<Descriptor, Unreadable> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not text: {error}"))?;
    let mut fields = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let (name, value) =
            line.split_once(": ").ok_or_else(|| format!("line {number} is not a name, a colon and a value"))?;
        let value: Json = serde_json::from_str(value)
            .map_err(|error| format!("the value of `{name}` in line {number} does not parse: {error}"))?;
        if fields.insert(name, value).is_some() {
            return Err(format!("`{name}` is given twice, again in line {number}").into());
        }
    }
    // The format comes first: this program does not know the other fields of another format.
    let format = take(&mut fields, "format", Json::as_u64)?;
    if format == 0 {
        return Err(String::from("`format` is 0, and the first format was 1").into());
    }
    if format != FOLDER_FORMAT {
        return Err(Unreadable::Format(format));
    }
    let state = match take_text(&mut fields, "state")?.as_str() {
        "creating" => State::Creating,
        "ready" => State::Ready,
        "damaged" => State::Damaged,
        other => {
            return Err(format!("`state` is {other:?} and should be \"creating\", \"ready\" or \"damaged\"").into());
        }
    };
    let node_id = node_id("node_id", &take_text(&mut fields, "node_id")?)?;
    let store_id = self::store_id("store_id", &take_text(&mut fields, "store_id")?)?;
    let replaces = if fields.contains_key("replaces") {
        Some(self::store_id("replaces", &take_text(&mut fields, "replaces")?)?)
    } else {
        None
    };
    let seed = take(&mut fields, "seed", |value| u32::try_from(value.as_u64()?).ok())?;
    let replica_count = take(&mut fields, "replica_count", |value| usize::try_from(value.as_u64()?).ok())?;
    let texts = take(&mut fields, "node_ids", list_of_texts)?;
    let node_ids = texts.iter().map(|id| self::node_id("node_ids", id)).collect::<Result<Vec<_>, _>>()?;
    let weights = take_or_none(&mut fields, "weights", |value| {
        value.as_array()?.iter().map(|weight| u32::try_from(weight.as_u64()?).ok()).collect()
    })?;
    let zones = take_or_none(&mut fields, "zones", list_of_texts)?;
    let sites =
        Site::listed(node_ids.len(), &weights, &zones).map_err(|error| format!("in `weights` or `zones`: {error}"))?;
    // Most clusters have none, and their folders do not name it.
    let floor = |value: &Json| value.as_u64().filter(|floor| *floor <= EPOCH_FLOOR_MAX);
    let epoch_floor = if fields.contains_key("epoch_floor") { take(&mut fields, "epoch_floor", floor)? } else { 0 };
    if let Some(name) = fields.keys().next() {
        return Err(format!("`{name}` is not known in format {format}").into());
    }
    let parameters = ClusterParameters { seed, replica_count, epoch_floor, node_ids, sites };
    Ok(Descriptor { state, node_id, store_id, replaces, parameters })
}

fn take<T>(
    fields: &mut BTreeMap<&str, Json>,
    name: &str,
    read: impl FnOnce(&Json) -> Option<T>,
) -> Result<T, Unreadable> {
    let value = fields.remove(name).ok_or_else(|| format!("`{name}` is missing"))?;
    read(&value).ok_or_else(|| format!("`{name}` cannot be {value}").into())
}

/// A list that is empty where it is missing.
fn take_or_none<T>(
    fields: &mut BTreeMap<&str, Json>,
    name: &str,
    read: impl FnOnce(&Json) -> Option<Vec<T>>,
) -> Result<Vec<T>, Unreadable> {
    if fields.contains_key(name) { take(fields, name, read) } else { Ok(Vec::new()) }
}

fn list_of_texts(value: &Json) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| Some(text.as_str()?.to_owned())).collect()
}

fn take_text(fields: &mut BTreeMap<&str, Json>, name: &str) -> Result<String, Unreadable> {
    take(fields, name, |value| value.as_str().map(str::to_owned))
}

fn node_id(field: &str, text: &str) -> Result<NodeId, Unreadable> {
    NodeId::new(text).map_err(|error| format!("in `{field}`: {error}").into())
}

fn store_id(field: &str, text: &str) -> Result<StoreId, Unreadable> {
    // The parser alone would accept a sign and any number of digits.
    let is_whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16)
        .ok()
        .filter(|_| is_whole)
        .map(StoreId)
        .ok_or_else(|| format!("`{field}` is {text:?} and should be 32 hexadecimal digits").into())
}
