//! What a data folder says of itself: whose it is, which cluster's, under which random store id.
//!
//! | in the folder | what it is |
//! |---|---|
//! | `lock` | locked while a process uses the folder |
//! | `folder.yml` | this module's account of the folder, for people to read and for [`open`] to check |
//! | `store/` | the RocksDB |
//! | `store.new/` | a store that is not finished yet |
//!
//! Contract: [`open`] gives a store only where the folder belongs to this node of this cluster and is whole. Placement
//! and majorities follow from the cluster's parameters, so that a folder started under others would hold promises that
//! it no longer keeps. A folder that lost its store is refused as well: under its old store id it would forget what it
//! acknowledged, and nobody would know.
//!
//! The order of a first start: `folder.yml` with `state: creating`, the store in `store.new/` with the store id in it,
//! its renaming to `store/`, `folder.yml` with `state: ready`; each durable before the next. So at a crash between any
//! two, `folder.yml` still says that nothing was ever acknowledged from here and the next start goes on where this one
//! stopped, while a store without `folder.yml`, or the other way round once it is ready, is never the work of a crash.
//! Only `store.new/` is ever deleted.
//!
//! Caveat: a whole copy of a folder is not told from the original here. Peers do that, by the epochs that they recorded.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::storage::rocks::{RocksOptions, RocksStore};
use crate::storage::{Store, StoreError};
use crate::types::{ClusterParameters, NodeId, StoreId};

/// The layout of the folder that this program writes and reads.
pub const FOLDER_FORMAT: u64 = 1;

const LOCK: &str = "lock";
const ACCOUNT: &str = "folder.yml";
const ACCOUNT_NEW: &str = "folder.yml.new";
const STORE: &str = "store";
const STORE_NEW: &str = "store.new";

/// A data folder that this process holds. Keep it as long as its store: dropping it lets another process in.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    store_id: StoreId,
    _lock: File,
}

/// Why a data folder cannot be used. Nothing in one that was ready has been changed.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// The file system refused.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process holds the folder.
    #[error(
        "data folder {path} is in use by another process: end that one, or give this node a folder of its own \
         in node.data_dir"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It belongs to another node.
    #[error(
        "data folder {path} belongs to node {folder} and this is node {configured}: correct node.id or \
         node.data_dir in its node file"
    )]
    NodeIdDiffers {
        /// The folder.
        path: PathBuf,
        /// The node id in the folder.
        folder: NodeId,
        /// The node id of the configuration.
        configured: NodeId,
    },
    /// It was created under another seed.
    #[error(
        "data folder {path} was created with cluster seed {folder} and the configuration says {configured}: put \
         the seed back; every key's place follows from it"
    )]
    SeedDiffers {
        /// The folder.
        path: PathBuf,
        /// The seed in the folder.
        folder: u32,
        /// The seed of the configuration.
        configured: u32,
    },
    /// It was created under another number of replicas.
    #[error(
        "data folder {path} was created with replica_count {folder} and the configuration says {configured}: \
         put it back; majorities follow from it"
    )]
    ReplicaCountDiffers {
        /// The folder.
        path: PathBuf,
        /// The number in the folder.
        folder: usize,
        /// The number of the configuration.
        configured: usize,
    },
    /// It was created in another set of nodes.
    #[error(
        "data folder {path} was created in a cluster of nodes {} and the configuration names {}: put the nodes \
         back; placement and majorities follow from them",
        names(folder),
        names(configured)
    )]
    NodeIdsDiffer {
        /// The folder.
        path: PathBuf,
        /// The node ids in the folder, ascending.
        folder: Vec<NodeId>,
        /// The node ids of the configuration, ascending.
        configured: Vec<NodeId>,
    },
    /// A newer program wrote it.
    #[error(
        "{path} has format {found} and this program reads format {FOLDER_FORMAT}: start it with the newer \
         Quorate that wrote it"
    )]
    FormatUnknown {
        /// The folder's `folder.yml`.
        path: PathBuf,
        /// The format it has.
        found: u64,
    },
    /// `folder.yml` is not what was written.
    #[error(
        "{path} is damaged: {reason}. If this folder cannot be restored whole, this node has lost its data and \
         cannot return under its name"
    )]
    Damaged {
        /// The folder's `folder.yml`.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `folder.yml` is there and the store is not.
    #[error(
        "{path} is missing while the data folder's folder.yml is there: the node has lost its data and may have \
         forgotten what it acknowledged; bring the store back if it was moved, for it cannot rejoin without"
    )]
    StoreMissing {
        /// Where the store should be.
        path: PathBuf,
    },
    /// The store is there and `folder.yml` is not.
    #[error(
        "{path} is missing while the data folder has a store: nothing says whose it is; bring the file back, or \
         give this node an empty folder if the store is another's"
    )]
    AccountMissing {
        /// Where `folder.yml` should be.
        path: PathBuf,
    },
    /// `folder.yml` and the store are not of one folder.
    #[error(
        "data folder {path} has store_id {folder} and the store in it {store}: one of the two was exchanged; \
         put together what belongs together"
    )]
    IdentityDiffers {
        /// The folder.
        path: PathBuf,
        /// The store id in `folder.yml`.
        folder: StoreId,
        /// The store id in the store.
        store: StoreId,
    },
    /// `folder.yml` says that the folder was never used, and the store in it was.
    #[error(
        "{path} says that the folder was never started, and its store has seen epoch {epoch}: the file is of an \
         earlier time than the store; bring back the one that belongs to it"
    )]
    NotFresh {
        /// The folder's `folder.yml`.
        path: PathBuf,
        /// The store's epoch.
        epoch: u64,
    },
    /// The store does not open.
    #[error("the store in {path} does not open: {error}")]
    Store {
        /// Where the store is.
        path: PathBuf,
        /// Why.
        error: StoreError,
    },
}

impl DataFolder {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its random name.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }
}

/// Opens the data folder at `path` for node `node_id` of the cluster of `parameters`, and the store in it; makes both
/// where there is nothing yet. Waits for the disk.
///
/// Drop the store before the folder.
///
/// # Errors
/// When the folder is another node's or cluster's, is in use, is damaged, lost a part, or the disk fails.
pub fn open(
    path: &Path,
    node_id: &NodeId,
    parameters: &ClusterParameters,
    settings: &RocksOptions,
) -> Result<(DataFolder, RocksStore), DataFolderError> {
    create_folder(path)?;
    let lock = lock(path)?;
    let account_path = path.join(ACCOUNT);
    let store_path = path.join(STORE);
    let has_store = exists(&store_path)?;

    let mut account = match read_account(&account_path)? {
        Some(account) => account,
        None if has_store => return Err(DataFolderError::AccountMissing { path: account_path }),
        None => {
            let account = Account {
                state: State::Creating,
                node_id: node_id.clone(),
                store_id: StoreId(rand::random()),
                parameters: parameters.clone(),
            };
            account.write(path)?;
            account
        }
    };
    account.check(path, node_id, parameters)?;

    let store = match account.state {
        State::Ready if !has_store => return Err(DataFolderError::StoreMissing { path: store_path }),
        State::Ready => open_store(path, account.store_id, settings)?,
        State::Creating => {
            if !has_store {
                create_store(path, account.store_id, settings)?;
            }
            let store = open_store(path, account.store_id, settings)?;
            let meta = store.meta().map_err(|error| DataFolderError::Store { path: store_path, error })?;
            if meta.epoch > 0 {
                return Err(DataFolderError::NotFresh { path: account_path, epoch: meta.epoch });
            }
            account.state = State::Ready;
            account.write(path)?;
            store
        }
    };
    Ok((DataFolder { path: path.to_path_buf(), store_id: account.store_id, _lock: lock }, store))
}

fn create_store(path: &Path, store_id: StoreId, settings: &RocksOptions) -> Result<(), DataFolderError> {
    let (new, done) = (path.join(STORE_NEW), path.join(STORE));
    if exists(&new)? {
        fs::remove_dir_all(&new).map_err(|error| io_error("remove", &new, error))?;
    }
    // Closed before it is renamed: RocksDB goes on using the names it was opened under.
    drop(
        RocksStore::create(&new, settings, store_id)
            .map_err(|error| DataFolderError::Store { path: new.clone(), error })?,
    );
    fs::rename(&new, &done).map_err(|error| io_error("rename", &new, error))?;
    sync_folder(path)
}

fn open_store(path: &Path, store_id: StoreId, settings: &RocksOptions) -> Result<RocksStore, DataFolderError> {
    let store_path = path.join(STORE);
    let store =
        RocksStore::open(&store_path, settings).map_err(|error| DataFolderError::Store { path: store_path, error })?;
    if store.store_id() != store_id {
        return Err(DataFolderError::IdentityDiffers {
            path: path.to_path_buf(),
            folder: store_id,
            store: store.store_id(),
        });
    }
    Ok(store)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its first start is under way or was cut off: nothing was acknowledged from here.
    Creating,
    Ready,
}

/// What `folder.yml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    state: State,
    node_id: NodeId,
    store_id: StoreId,
    parameters: ClusterParameters,
}

impl Account {
    fn check(&self, path: &Path, node_id: &NodeId, parameters: &ClusterParameters) -> Result<(), DataFolderError> {
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
        if self.parameters.replica_count != parameters.replica_count {
            return Err(DataFolderError::ReplicaCountDiffers {
                path,
                folder: self.parameters.replica_count,
                configured: parameters.replica_count,
            });
        }
        if self.parameters.node_ids != parameters.node_ids {
            return Err(DataFolderError::NodeIdsDiffer {
                path,
                folder: self.parameters.node_ids.clone(),
                configured: parameters.node_ids.clone(),
            });
        }
        Ok(())
    }

    /// Each value is JSON, which is YAML as well: node ids may hold characters that mean something to YAML, and one
    /// strict way to quote them is enough.
    fn to_text(&self) -> String {
        let state = match self.state {
            State::Creating => "creating",
            State::Ready => "ready",
        };
        let node_ids: Vec<&str> = self.parameters.node_ids.iter().map(NodeId::as_str).collect();
        let fields = [
            ("format", json!(FOLDER_FORMAT)),
            ("state", json!(state)),
            ("node_id", json!(self.node_id.as_str())),
            ("store_id", json!(self.store_id.to_string())),
            ("seed", json!(self.parameters.seed)),
            ("replica_count", json!(self.parameters.replica_count)),
            ("node_ids", json!(node_ids)),
        ];
        let lines = fields.map(|(name, value)| format!("{name}: {value}\n"));
        "# Whose data this folder holds. Quorate wrote this file and checks it at every start.\n".to_owned()
            + &lines.concat()
    }

    /// Replaces the file, so that a crash leaves the old one or the new one.
    fn write(&self, folder: &Path) -> Result<(), DataFolderError> {
        let (new, done) = (folder.join(ACCOUNT_NEW), folder.join(ACCOUNT));
        let mut file = File::create(&new).map_err(|error| io_error("create", &new, error))?;
        file.write_all(self.to_text().as_bytes()).map_err(|error| io_error("write", &new, error))?;
        file.sync_all().map_err(|error| io_error("sync", &new, error))?;
        fs::rename(&new, &done).map_err(|error| io_error("rename", &new, error))?;
        sync_folder(folder)
    }
}

fn read_account(path: &Path) -> Result<Option<Account>, DataFolderError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path, error)),
    };
    match parse_account(&bytes) {
        Ok(account) => Ok(Some(account)),
        Err(Unreadable::Format(found)) => Err(DataFolderError::FormatUnknown { path: path.to_path_buf(), found }),
        Err(Unreadable::Damaged(reason)) => Err(DataFolderError::Damaged { path: path.to_path_buf(), reason }),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Unreadable {
    Format(u64),
    Damaged(String),
}

impl From<String> for Unreadable {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

fn parse_account(bytes: &[u8]) -> Result<Account, Unreadable> {
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
    // Before anything else: what a newer format has beside it is not for this program to judge.
    let format = take(&mut fields, "format", Json::as_u64)?;
    if format > FOLDER_FORMAT {
        return Err(Unreadable::Format(format));
    }
    if format == 0 {
        return Err(String::from("`format` is 0, and the first was 1").into());
    }
    let state = match take_text(&mut fields, "state")?.as_str() {
        "creating" => State::Creating,
        "ready" => State::Ready,
        other => return Err(format!("`state` is {other:?} and should be \"creating\" or \"ready\"").into()),
    };
    let node_id = node_id("node_id", &take_text(&mut fields, "node_id")?)?;
    let store_id = store_id(&take_text(&mut fields, "store_id")?)?;
    let seed = take(&mut fields, "seed", |value| u32::try_from(value.as_u64()?).ok())?;
    let replica_count = take(&mut fields, "replica_count", |value| usize::try_from(value.as_u64()?).ok())?;
    let texts = take(&mut fields, "node_ids", |value| {
        value.as_array()?.iter().map(|id| Some(id.as_str()?.to_owned())).collect::<Option<Vec<_>>>()
    })?;
    let node_ids = texts.iter().map(|id| self::node_id("node_ids", id)).collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = fields.keys().next() {
        return Err(format!("`{name}` is not known in format {format}").into());
    }
    Ok(Account { state, node_id, store_id, parameters: ClusterParameters { seed, replica_count, node_ids } })
}

fn take<T>(
    fields: &mut BTreeMap<&str, Json>,
    name: &str,
    read: impl FnOnce(&Json) -> Option<T>,
) -> Result<T, Unreadable> {
    let value = fields.remove(name).ok_or_else(|| format!("`{name}` is missing"))?;
    read(&value).ok_or_else(|| format!("`{name}` cannot be {value}").into())
}

fn take_text(fields: &mut BTreeMap<&str, Json>, name: &str) -> Result<String, Unreadable> {
    take(fields, name, |value| value.as_str().map(str::to_owned))
}

fn node_id(field: &str, text: &str) -> Result<NodeId, Unreadable> {
    NodeId::new(text).map_err(|error| format!("in `{field}`: {error}").into())
}

fn store_id(text: &str) -> Result<StoreId, Unreadable> {
    // The parser alone would take a sign and any number of digits.
    let is_whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16)
        .ok()
        .filter(|_| is_whole)
        .map(StoreId)
        .ok_or_else(|| format!("`store_id` is {text:?} and should be 32 hexadecimal digits").into())
}

/// Creates a folder and those above it, so that they outlive a loss of power: a folder's name is in the one above.
fn create_folder(path: &Path) -> Result<(), DataFolderError> {
    if exists(path)? {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => Path::new("/"),
    };
    create_folder(above)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error("create", path, error)),
        _ => sync_folder(above),
    }
}

fn lock(path: &Path) -> Result<File, DataFolderError> {
    let lock_path = path.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|error| io_error("open", &lock_path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataFolderError::InUse { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &lock_path, error)),
    }
}

fn sync_folder(path: &Path) -> Result<(), DataFolderError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| io_error("sync", path, error))
}

fn exists(path: &Path) -> Result<bool, DataFolderError> {
    path.try_exists().map_err(|error| io_error("look for", path, error))
}

fn io_error(action: &'static str, path: &Path, error: io::Error) -> DataFolderError {
    DataFolderError::Io { action, path: path.to_path_buf(), error }
}

fn names(ids: &[NodeId]) -> String {
    ids.iter().map(NodeId::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
