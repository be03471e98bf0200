//! The data folder: a store, and a descriptor of the node, the cluster and the store id that it belongs to.
//!
//! | name in the folder | content |
//! |---|---|
//! | `lock` | locked while a process uses the folder |
//! | `folder.yml` | the descriptor, for people to read and for [`open`] to check |
//! | `addresses` | where the nodes of the cluster were reached, for a start whose cluster file lacks one |
//! | `store/` | the RocksDB |
//! | `store.new/` | a store that is not complete yet |
//! | `store.damaged-ID/` | a damaged store that was set aside, by the first digits of its store id |
//!
//! Contract: [`open`] gives a store only if the folder belongs to this node of this cluster and is complete. Placement and
//! majorities follow from the cluster's parameters: under other parameters the folder's records would no longer be where
//! reads look for them. So until the members change, a node goes on with the parameters that its folder remembers, whatever
//! its cluster file says, once its cluster is bootstrapped. Before that, other parameters are refused. After the first change
//! of members, the store has what is to be known, and the cluster file only says where nodes may be found. It need not even list
//! this node.
//!
//! A folder without its store is refused too: under its old store id the node would forget
//! acknowledged writes, and nobody would notice.
//!
//! A first start writes `folder.yml` with `state: creating`, creates the store in `store.new/` with the store id in it,
//! renames it to `store/`, and writes `folder.yml` with `state: ready`. Each step is durable before the next. After a crash
//! between two steps `folder.yml` still says that nothing was ever acknowledged from this folder, and the next start
//! continues. A store without `folder.yml`, or a ready `folder.yml` without a store, is never the result of a crash. Only
//! `store.new/` is ever deleted.
//!
//! A node whose store is damaged gives it up for good ([`DataFolder::give_up_store`]): `folder.yml` then says `state: damaged`. The
//! next start renames `store/` and writes `folder.yml` anew, with another store id, `state: creating` and `replaces: ` the id of
//! the store before. It is then a fresh folder of a node that waits for its place, until [`DataFolder::settle`]. A crash between two
//! of these steps leaves the state before or after it. The node deletes no store that was set aside.
//!
//! Caveat: this module cannot tell a complete copy of a folder from the original. Peers can, by the incarnations that they
//! recorded.

mod addresses;
mod descriptor;
mod error;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

pub use error::DataFolderError;

use self::descriptor::{Descriptor, State};
use crate::storage::rocks::{RocksOptions, RocksStore};
use crate::storage::{STORE_ASIDE, Store as _};
use crate::types::{ClusterParameters, Configuration, Meta, NodeId, StoreId};

/// The format of the folder that this program writes and reads. It rises with every change of the bytes on disk that
/// earlier programs cannot read: of the descriptor, or of [`crate::storage::codec`].
pub const FOLDER_FORMAT: u64 = 2;

const LOCK: &str = "lock";
const DESCRIPTOR: &str = "folder.yml";
const DESCRIPTOR_NEW: &str = "folder.yml.new";
const ADDRESSES: &str = "addresses";
const ADDRESSES_NEW: &str = "addresses.new";
const STORE: &str = "store";
const STORE_NEW: &str = "store.new";

/// A data folder that this process has locked. Keep it as long as its store: dropping it lets another process in.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    store_id: StoreId,
    replaces: Option<StoreId>,
    parameters: ClusterParameters,
    addresses: Vec<String>,
    _lock: File,
}

impl DataFolder {
    /// The folder's path, as it was given to [`open`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The parameters that the node starts with: those that the folder remembers until the members change.
    #[must_use]
    pub fn parameters(&self) -> &ClusterParameters {
        &self.parameters
    }

    /// Where each of its nodes is reached, in the order of their ids.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The folder's random identity.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// The store in whose place this one comes, if the node has not got its place again yet. It then waits to be given it.
    #[must_use]
    pub fn replaces(&self) -> Option<StoreId> {
        self.replaces
    }

    /// Gives up the damaged store for good, durably: each later opening sets it aside, and begins with a fresh one. `parameters`
    /// are those of the cluster now, and `addresses` say where its nodes are reached.
    ///
    /// A mark that can be read counts although the disk failed afterwards: the next start would find it. So does a descriptor that
    /// cannot be read once the mark may have been written.
    ///
    /// # Errors
    /// When the disk fails, and the store is not given up.
    pub fn give_up_store(
        &self,
        parameters: &ClusterParameters,
        addresses: &BTreeMap<NodeId, String>,
    ) -> Result<(), DataFolderError> {
        addresses::write(&self.path, addresses)?;
        let mut descriptor = self.descriptor()?;
        (descriptor.state, descriptor.parameters) = (State::Damaged, parameters.clone());
        let Err(error) = descriptor.write(&self.path) else { return Ok(()) };
        match descriptor::read(&self.path.join(DESCRIPTOR)) {
            Ok(Some(descriptor)) if descriptor.state != State::Damaged => Err(error),
            _ => {
                tracing::warn!(%error, "the disk failed while the store was given up, and it counts as given up");
                Ok(())
            }
        }
    }

    /// The node has its place again, durably.
    ///
    /// # Errors
    /// When the disk fails. The next start then finds that the node has its place.
    pub fn settle(&self) -> Result<(), DataFolderError> {
        Descriptor { replaces: None, ..self.descriptor()? }.write(&self.path)
    }

    fn descriptor(&self) -> Result<Descriptor, DataFolderError> {
        let path = self.path.join(DESCRIPTOR);
        descriptor::read(&path)?.ok_or(DataFolderError::DescriptorMissing { path })
    }
}

/// The cluster, as the file of a node says it is.
#[derive(Clone, Copy, Debug)]
pub struct FileSays<'a> {
    /// Its parameters.
    pub parameters: &'a ClusterParameters,
    /// Where each of its nodes is reached, in the order of their ids.
    pub addresses: &'a [String],
    /// Whether the node waits to be added to a cluster that exists, unless it is a member already.
    pub joins: bool,
}

/// Opens the data folder at `path` for node `node_id` of a cluster, and the store in it. Creates both when there is nothing yet.
/// Waits for the disk.
///
/// Drop the store before the folder.
///
/// # Errors
/// When the folder belongs to another node or cluster, is in use, is damaged or incomplete, has another format, or the
/// disk fails.
pub fn open(
    path: &Path,
    node_id: &NodeId,
    cluster: FileSays<'_>,
    settings: &RocksOptions,
) -> Result<(DataFolder, RocksStore), DataFolderError> {
    let descriptor_path = path.join(DESCRIPTOR);
    if cluster.parameters.member(node_id).is_none() && !exists(&descriptor_path)? {
        return Err(DataFolderError::NotListed { path: path.to_path_buf(), configured: node_id.clone() });
    }
    create_folder(path)?;
    let lock = lock(path)?;
    let store_path = path.join(STORE);
    let mut has_store = exists(&store_path)?;

    let mut descriptor = match descriptor::read(&descriptor_path)? {
        Some(descriptor) => descriptor,
        None if has_store => return Err(DataFolderError::DescriptorMissing { path: descriptor_path }),
        None => {
            let descriptor = Descriptor {
                state: State::Creating,
                node_id: node_id.clone(),
                store_id: StoreId(rand::random()),
                replaces: None,
                parameters: cluster.parameters.clone(),
            };
            descriptor.write(path)?;
            descriptor
        }
    };
    descriptor.check(path, node_id, cluster.parameters)?;
    if descriptor.state == State::Damaged {
        set_aside(path, &mut descriptor, has_store)?;
        has_store = false;
    }
    tell_of_stores_aside(path);

    let store = match descriptor.state {
        State::Ready if !has_store => return Err(DataFolderError::StoreMissing { path: store_path }),
        State::Ready => open_store(path, descriptor.store_id, settings)?,
        State::Creating | State::Damaged => {
            if !has_store {
                create_store(path, descriptor.store_id, settings)?;
            }
            let store = open_store(path, descriptor.store_id, settings)?;
            let meta = store.meta().map_err(|error| DataFolderError::Store { path: store_path, error })?;
            if meta.epoch > 0 {
                return Err(DataFolderError::NotFresh { path: descriptor_path, epoch: meta.epoch });
            }
            descriptor.state = State::Ready;
            descriptor.write(path)?;
            store
        }
    };
    let meta = store.meta().map_err(|error| DataFolderError::Store { path: path.join(STORE), error })?;
    let (parameters, addresses) = agree(path, &mut descriptor, &meta, cluster)?;
    let Descriptor { store_id, replaces, .. } = descriptor;
    Ok((DataFolder { path: path.to_path_buf(), store_id, replaces, parameters, addresses, _lock: lock }, store))
}

/// Renames a damaged store that was given up, and makes the folder that of a node with a fresh one.
fn set_aside(path: &Path, descriptor: &mut Descriptor, has_store: bool) -> Result<(), DataFolderError> {
    if has_store {
        let (store, id) = (path.join(STORE), descriptor.store_id.to_string());
        fs::rename(&store, path.join(format!("{STORE_ASIDE}{}", &id[..8])))
            .map_err(|error| io_error("rename", &store, error))?;
        sync_folder(path)?;
    }
    descriptor.replaces = Some(descriptor.store_id);
    descriptor.store_id = StoreId(rand::random());
    descriptor.state = State::Creating;
    descriptor.write(path)
}

/// Reminds of damaged stores, which nobody but the operator removes.
fn tell_of_stores_aside(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(STORE_ASIDE) {
            let folder = entry.path();
            tracing::warn!(folder = %folder.display(), "a damaged store was set aside: check the disk, then remove this folder");
        }
    }
}

/// The parameters that the node starts with, and where their nodes are reached: what the file says, or what the folder
/// remembers.
fn agree(
    path: &Path,
    descriptor: &mut Descriptor,
    meta: &Meta,
    cluster: FileSays<'_>,
) -> Result<(ClusterParameters, Vec<String>), DataFolderError> {
    let of_file = || (cluster.parameters.clone(), cluster.addresses.to_vec());
    let is_listed = cluster.parameters.member(&descriptor.node_id).is_some();
    let not_listed = || DataFolderError::NotListed { path: path.to_path_buf(), configured: descriptor.node_id.clone() };
    match &meta.configuration {
        Some(_) if is_listed => return Ok(of_file()),
        // What the file says of others helps to find nobody, because it is not about the cluster as it is.
        Some(configuration) => return of_members(descriptor, configuration).ok_or_else(not_listed),
        None => {}
    }
    if descriptor.replaces.is_some() {
        let found = replacing(path, descriptor, cluster)?;
        return if found.0.member(&descriptor.node_id).is_some() { Ok(found) } else { Err(not_listed()) };
    }
    if !is_listed && !meta.bootstrapped {
        return Err(not_listed());
    }
    let by_id = || std::iter::zip(cluster.parameters.node_ids.iter().cloned(), cluster.addresses.iter().cloned());
    if descriptor.parameters != *cluster.parameters {
        // A node that waits has promised nothing to anybody.
        let waits = cluster.joins && !meta.bootstrapped && meta.peers.is_empty();
        if waits {
            descriptor.parameters = cluster.parameters.clone();
            descriptor.write(path)?;
            return Ok(of_file());
        }
        if !meta.bootstrapped {
            return Err(descriptor.differs(path, cluster.parameters));
        }
        let mut known = addresses::read(path)?;
        known.extend(by_id());
        let ids = descriptor.parameters.node_ids.iter();
        let addresses: Option<Vec<String>> = ids.map(|id| known.get(id).cloned()).collect();
        let addresses = addresses.ok_or_else(|| descriptor.differs(path, cluster.parameters))?;
        return Ok((descriptor.parameters.clone(), addresses));
    }
    let told: BTreeMap<NodeId, String> = by_id().collect();
    if addresses::read(path)? != told {
        addresses::write(path, &told)?;
    }
    Ok(of_file())
}

/// The same by the members of a configuration. `None` where the node with this folder is none of them.
fn of_members(descriptor: &Descriptor, configuration: &Configuration) -> Option<(ClusterParameters, Vec<String>)> {
    let mut lists = configuration.new.iter().chain([&configuration.old]);
    let list = lists.find(|list| list.has(&descriptor.node_id, descriptor.store_id))?;
    let addresses = list.members.iter().map(|member| member.address.to_string()).collect();
    Some((configuration.parameters(list), addresses))
}

/// The same for a node that waits for its own place: the members as it knew them, because its file may be old. Where it is itself
/// says the file alone.
fn replacing(
    path: &Path,
    descriptor: &Descriptor,
    cluster: FileSays<'_>,
) -> Result<(ClusterParameters, Vec<String>), DataFolderError> {
    let mut known = addresses::read(path)?;
    for (id, address) in std::iter::zip(&cluster.parameters.node_ids, cluster.addresses) {
        if *id == descriptor.node_id || !known.contains_key(id) {
            known.insert(id.clone(), address.clone());
        }
    }
    let addresses: Option<Vec<String>> =
        descriptor.parameters.node_ids.iter().map(|id| known.get(id).cloned()).collect();
    Ok(match addresses {
        Some(addresses) => (descriptor.parameters.clone(), addresses),
        None => (cluster.parameters.clone(), cluster.addresses.to_vec()),
    })
}

fn create_store(path: &Path, store_id: StoreId, settings: &RocksOptions) -> Result<(), DataFolderError> {
    let (new, done) = (path.join(STORE_NEW), path.join(STORE));
    if exists(&new)? {
        fs::remove_dir_all(&new).map_err(|error| io_error("remove", &new, error))?;
    }
    // Closed before the rename: RocksDB keeps using the names that it was opened with.
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
        return Err(DataFolderError::StoreIdDiffers {
            path: path.to_path_buf(),
            folder: store_id,
            store: store.store_id(),
        });
    }
    Ok(store)
}

/// Creates a folder and its parents durably: a folder's name is stored in its parent, which is synced.
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
    // What is written here is for the node alone.
    match DirBuilder::new().mode(0o700).create(path) {
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

#[cfg(test)]
mod tests;
