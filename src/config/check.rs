//! `quorate config check`: several files, each alone and against each other.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Place, Problem};
use super::node::{self, NodeConfig, Places};
use super::{ClusterConfig, File, LocalAddress, RemoteAddress, fields, with_member, yaml};
use crate::types::NodeId;

/// The result of `quorate config check` for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The file's name.
    pub file: PathBuf,
    /// The kind of the file, or its first error.
    pub outcome: Result<Checked, ConfigError>,
    /// Values that are accepted and are probably mistakes.
    pub remarks: Vec<Remark>,
}

/// A value that is accepted and is probably a mistake.
///
/// `Display` is one line: place and remark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    /// The node does not listen where its cluster's file says.
    #[error(
        "{place}: remark: node {id} listens on {local}, but {} says that others reach it at {remote}: correct one of the two, \
         unless a proxy or an address translation is in between",
        cluster.display()
    )]
    Address {
        /// The place of the node's `local_address`.
        place: Place,
        /// The node's id.
        id: NodeId,
        /// The address on which the node listens.
        local: LocalAddress,
        /// The cluster's file.
        cluster: PathBuf,
        /// The node's address in that file.
        remote: RemoteAddress,
    },
    /// The node does not serve HTTP where it tells others.
    #[error(
        "{place}: remark: node {id} serves HTTP on {local}, but tells others to reach it at {remote}: correct one of the two, \
         unless a proxy or an address translation is in between"
    )]
    HttpAddress {
        /// The place of the node's `remote_http_address`.
        place: Place,
        /// The node's id.
        id: NodeId,
        /// The address on which the node serves HTTP.
        local: LocalAddress,
        /// The address that it tells.
        remote: RemoteAddress,
    },
    /// The node serves no HTTP, and has an address to tell others.
    #[error(
        "{place}: remark: node {id} serves no HTTP, so that nobody is told {remote}: give local_http_address, or leave \
         remote_http_address out"
    )]
    NoHttp {
        /// The place of the node's `remote_http_address`.
        place: Place,
        /// The node's id.
        id: NodeId,
        /// The address that it would tell.
        remote: RemoteAddress,
    },
}

/// The kind of an accepted file. `Display` is a few words about its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// A node.yml.
    Node {
        /// The node's id.
        id: NodeId,
    },
    /// A cluster.yml.
    Cluster {
        /// The number of nodes.
        nodes: usize,
        /// The number of nodes that hold each slot.
        replica_count: usize,
    },
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { id } => write!(f, "node {id}"),
            Self::Cluster { nodes, replica_count } => {
                write!(f, "cluster of {nodes} {}", if *nodes == 1 { "node" } else { "nodes" })?;
                write!(f, ", {replica_count} {}", if *replica_count == 1 { "replica" } else { "replicas" })
            }
        }
    }
}

/// Checks each file alone, as node.yml or cluster.yml by its top-level key. The variables of `environment` override keys of each
/// node.yml. Then it checks each node against the given clusters, and the nodes' ids against each other. There is one report
/// for each file, in the given order.
#[must_use]
pub fn check(files: &[File<'_>], environment: &[(OsString, OsString)]) -> Vec<FileReport> {
    let read: Vec<Result<Read, ConfigError>> = files.iter().map(|file| read(*file, environment)).collect();
    let clusters: Vec<(&Path, &ClusterConfig)> = std::iter::zip(files, &read)
        .filter_map(|(file, read)| match read {
            Ok(Read::Cluster(cluster)) => Some((file.name, cluster)),
            _ => None,
        })
        .collect();
    let mut owners: BTreeMap<&NodeId, &Path> = BTreeMap::new();
    let mut reports = Vec::new();
    for (file, read) in std::iter::zip(files, &read) {
        let mut remarks = Vec::new();
        let outcome = match read {
            Err(error) => Err(error.clone()),
            Ok(Read::Cluster(cluster)) => Ok(Checked::Cluster {
                nodes: cluster.parameters.node_ids.len(),
                replica_count: cluster.parameters.replica_count,
            }),
            Ok(Read::Node(read)) => {
                let (node, places) = &**read;
                let taken = match owners.insert(&node.id, file.name) {
                    Some(other) if other != file.name => {
                        let problem = Problem::IdTaken { id: node.id.clone(), other: other.to_owned() };
                        Err(ConfigError { place: places.id.clone(), problem })
                    }
                    _ => Ok(()),
                };
                remarks.extend(clusters.iter().filter_map(|(name, cluster)| remark(node, places, name, cluster)));
                remarks.extend(remark_on_http(node, places));
                let in_all = |()| {
                    clusters
                        .iter()
                        .try_for_each(|(name, cluster)| with_member(&node.id, &places.id, name, cluster).map(drop))
                };
                let is_protected = || match places.exposed.clone() {
                    Some((place, problem)) => Err(ConfigError { place, problem }),
                    None => clusters
                        .iter()
                        .try_for_each(|(name, cluster)| super::require_protection(node, places, name, cluster)),
                };
                let checked = taken.and_then(in_all).and_then(|()| is_protected());
                checked.map(|()| Checked::Node { id: node.id.clone() })
            }
        };
        reports.push(FileReport { file: file.name.to_owned(), outcome, remarks });
    }
    reports
}

/// The remark that `node` does not listen where the file `name` of its cluster says; `None` when it may.
fn remark(node: &NodeConfig, places: &Places, name: &Path, cluster: &ClusterConfig) -> Option<Remark> {
    let cluster = cluster.with_node(&node.id)?;
    let remote = cluster.address(cluster.parameters.member(&node.id)?);
    (!node.local_address.may_be(remote)).then(|| Remark::Address {
        place: places.local_address.clone(),
        id: node.id.clone(),
        local: node.local_address,
        cluster: name.to_owned(),
        remote: remote.clone(),
    })
}

/// The remark that nobody reaches `node` over HTTP where it tells others; `None` when somebody may.
fn remark_on_http(node: &NodeConfig, places: &Places) -> Option<Remark> {
    let (place, remote) = (places.remote_http_address.clone()?, node.remote_http_address.clone()?);
    let id = node.id.clone();
    match node.local_http_address {
        None => Some(Remark::NoHttp { place, id, remote }),
        Some(local) if local.may_be(&remote) => None,
        Some(local) => Some(Remark::HttpAddress { place, id, local, remote }),
    }
}

enum Read {
    Node(Box<(NodeConfig, Places)>),
    Cluster(ClusterConfig),
}

fn read(file: File<'_>, environment: &[(OsString, OsString)]) -> Result<Read, ConfigError> {
    let root = yaml::parse(file.name, file.text, "node or cluster")?;
    let is = |key| matches!(&root.value, yaml::Value::Mapping(entries) if entries.iter().any(|entry| entry.key == key));
    if is("node") {
        let (node, places) = node::parse_with_places(file, environment.iter().cloned())?;
        return Ok(Read::Node(Box::new((node, places))));
    }
    if is("cluster") {
        return ClusterConfig::parse(file).map(Read::Cluster);
    }
    let top = fields::Mapping::root(file.name, &root, "one mapping with the key node or cluster")?;
    top.refuse_unknown(&["node", "cluster"])?;
    Err(top.missing("node", "the key node or the key cluster", None))
}
