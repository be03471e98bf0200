//! Why a data folder is refused, as one line that says what to do.

use std::io;
use std::path::PathBuf;

use super::FOLDER_FORMAT;
use crate::storage::StoreError;
use crate::types::{NodeId, Site, StoreId};

/// Why a data folder cannot be used. The refusal has changed nothing in a ready folder.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// The file system refused an operation.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// Another process has locked the folder.
    #[error(
        "data folder {path} is in use by another process: end that process, or set node.data_dir to another folder"
    )]
    InUse {
        /// The data folder.
        path: PathBuf,
    },
    /// The folder belongs to another node.
    #[error(
        "data folder {path} belongs to node {folder} and this is node {configured}: correct node.id or node.data_dir \
         in this node's configuration"
    )]
    NodeIdDiffers {
        /// The data folder.
        path: PathBuf,
        /// The node id in the folder's descriptor.
        folder: NodeId,
        /// The node id in the configuration.
        configured: NodeId,
    },
    /// The cluster file does not list the node, and the folder knows of no members with it.
    #[error(
        "data folder {path}: neither it nor the cluster file knows of a member {configured}: correct the cluster file"
    )]
    NotListed {
        /// The data folder.
        path: PathBuf,
        /// The node id in the configuration.
        configured: NodeId,
    },
    /// The folder was created with another seed.
    #[error(
        "data folder {path} was created with cluster.seed {folder} and the configuration says {configured}: restore \
         the seed; it decides on which nodes every key is"
    )]
    SeedDiffers {
        /// The data folder.
        path: PathBuf,
        /// The seed in the folder's descriptor.
        folder: u32,
        /// The seed in the configuration.
        configured: u32,
    },
    /// The folder was created with another number of replicas.
    #[error(
        "data folder {path} was created with cluster.replica_count {folder} and the configuration says {configured}: \
         restore the number until the cluster is bootstrapped; it decides which majorities overlap"
    )]
    ReplicaCountDiffers {
        /// The data folder.
        path: PathBuf,
        /// The number in the folder's descriptor.
        folder: usize,
        /// The number in the configuration.
        configured: usize,
    },
    /// The folder was created with another floor of epochs.
    #[error(
        "data folder {path} was created with cluster.epoch_floor {folder} and the configuration says {configured}: \
         restore the number; it is for a cluster that has not started yet"
    )]
    EpochFloorDiffers {
        /// The data folder.
        path: PathBuf,
        /// The number in the folder's descriptor.
        folder: u64,
        /// The number in the configuration.
        configured: u64,
    },
    /// The folder was created in a cluster of other nodes.
    #[error(
        "data folder {path} was created in a cluster of nodes {} and the configuration names {}: restore \
         cluster.nodes until the cluster is bootstrapped; they decide placement and majorities",
        names(folder),
        names(configured)
    )]
    NodeIdsDiffer {
        /// The data folder.
        path: PathBuf,
        /// The node ids in the folder's descriptor, ascending.
        folder: Vec<NodeId>,
        /// The node ids in the configuration, ascending.
        configured: Vec<NodeId>,
    },
    /// The folder was created in a cluster that gave a node another weight or zone.
    #[error(
        "data folder {path} was created with {} for node {node} and the configuration says {}: restore weight and zone in \
         cluster.nodes.{node}; they decide on which nodes every key is",
        shown(folder),
        shown(configured)
    )]
    SiteDiffers {
        /// The data folder.
        path: PathBuf,
        /// The node.
        node: NodeId,
        /// Its weight and zone in the folder's descriptor.
        folder: Site,
        /// Its weight and zone in the configuration.
        configured: Site,
    },
    /// An older program wrote the folder.
    #[error(
        "{path} has format {found}, which this program no longer reads (it reads format {FOLDER_FORMAT}): start the \
         older Quorate that wrote it, or start the whole cluster anew with empty data folders"
    )]
    FormatOlder {
        /// The folder's `folder.yml`.
        path: PathBuf,
        /// The folder's format.
        found: u64,
    },
    /// A newer program wrote the folder.
    #[error(
        "{path} has format {found} and this program reads format {FOLDER_FORMAT}: start the newer Quorate that wrote it"
    )]
    FormatNewer {
        /// The folder's `folder.yml`.
        path: PathBuf,
        /// The folder's format.
        found: u64,
    },
    /// `folder.yml` is not as it was written.
    #[error(
        "{path} is damaged: {reason}. Restore the file. Without it the node has lost its data and cannot return under \
         its id"
    )]
    Damaged {
        /// The folder's `folder.yml`.
        path: PathBuf,
        /// The damage.
        reason: String,
    },
    /// The store is missing, and `folder.yml` says that it was complete.
    #[error(
        "{path} is missing, but the data folder has a folder.yml: the node has lost its data, acknowledged writes \
         among them. Restore the store if it was moved. Without it the node cannot return under its id"
    )]
    StoreMissing {
        /// The path where the store should be.
        path: PathBuf,
    },
    /// `folder.yml` is missing, and there is a store.
    #[error(
        "{path} is missing, but the data folder has a store: nothing says to which node it belongs. Restore the \
         file, or set node.data_dir to an empty folder if the store is another node's"
    )]
    DescriptorMissing {
        /// The path where `folder.yml` should be.
        path: PathBuf,
    },
    /// `folder.yml` and the store come from different folders.
    #[error(
        "data folder {path} has store_id {folder} in folder.yml and {store} in its store: one of the two was \
         exchanged. Restore the one that belongs here"
    )]
    StoreIdDiffers {
        /// The data folder.
        path: PathBuf,
        /// The store id in `folder.yml`.
        folder: StoreId,
        /// The store id in the store.
        store: StoreId,
    },
    /// `folder.yml` says that the folder was never used, and its store was.
    #[error(
        "{path} says that the folder was never used, but its store has epoch {epoch}: the file is older than the \
         store. Restore the file that belongs to the store"
    )]
    NotFresh {
        /// The folder's `folder.yml`.
        path: PathBuf,
        /// The store's epoch.
        epoch: u64,
    },
    /// The store cannot be opened.
    #[error("the store in {path} cannot be opened: {error}")]
    Store {
        /// The store's path.
        path: PathBuf,
        /// The store's reason.
        error: StoreError,
    },
}

/// A weight, and a zone where there is one.
fn shown(site: &Site) -> String {
    match &site.zone {
        Some(zone) => format!("weight {} and zone {zone}", site.weight),
        None => format!("weight {} and no zone", site.weight),
    }
}

/// Node ids, joined by commas.
fn names(ids: &[NodeId]) -> String {
    ids.iter().map(NodeId::as_str).collect::<Vec<_>>().join(",")
}
