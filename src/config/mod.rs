//! YAML text and environment → a validated [`Config`].
//!
//! Contract: it reads no file and no environment; texts, their files' names and the environment's pairs are passed in.
//! What it returns is valid and is not checked again downstream: ids are unique and ordered, replica counts possible,
//! addresses well formed and distinct, the node one of its cluster. What it refuses it refuses with one line that says
//! where (file, line and keys, or the variable), what was found and what is accepted. Nothing is guessed: an unknown
//! key, a key given twice or a value that some readers would take for another is an error.
//!
//! Caveat: one error at a time, the first that is found.

mod address;
mod cluster;
mod dev;
mod error;
mod fields;
mod node;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

pub use address::{LocalAddress, RemoteAddress};
pub use cluster::ClusterConfig;
pub use dev::{DevPlan, DevPlanError, dev};
pub use error::{ConfigError, Place, Problem};
pub use node::{NodeConfig, VARIABLE_PREFIX};

use crate::types::{ClusterParameters, NodeId, NodeIndex};

/// A file that someone else has read.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Its name, for errors; relative paths in it are relative to the folder of this name.
    pub name: &'a Path,
    /// Its content.
    pub text: &'a str,
}

/// All that a node is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What it alone is told.
    pub node: NodeConfig,
    /// What all nodes of its cluster are told. The node is one of them.
    pub cluster: ClusterConfig,
}

impl Config {
    /// Reads a node.yml with the environment above it (see [`NodeConfig::parse`]), and the cluster.yml of its cluster.
    ///
    /// # Errors
    /// For the first thing that is not accepted, and when the node is not in the cluster.
    pub fn parse(
        node: File<'_>,
        cluster: File<'_>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let (node, id_place) = node::parse_with_place(node, environment)?;
        let cluster_name = cluster.name;
        let cluster = ClusterConfig::parse(cluster)?;
        require_member(&node.id, &id_place, cluster_name, &cluster.parameters)?;
        Ok(Self { node, cluster })
    }

    /// The node's place in its cluster.
    ///
    /// # Panics
    /// When the two were put together by hand and the node is not in the cluster.
    #[must_use]
    pub fn member(&self) -> NodeIndex {
        self.cluster.parameters.member(&self.node.id).expect("a node that was parsed is one of its cluster")
    }
}

/// What `quorate config check` found in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The file's name.
    pub file: PathBuf,
    /// What it holds, or what is wrong with it.
    pub outcome: Result<Checked, ConfigError>,
}

/// What a file holds that is in order. `Display` is a few words about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// A node.yml.
    Node {
        /// The node's id.
        id: NodeId,
    },
    /// A cluster.yml.
    Cluster {
        /// How many nodes it has.
        nodes: usize,
        /// How many of them hold each slot.
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

/// Checks each file alone, as node.yml or cluster.yml by its top-level key and without an environment; then each node
/// against the clusters that are given too, and the ids of the nodes against each other. One report per file, in the
/// order given.
#[must_use]
pub fn check(files: &[File<'_>]) -> Vec<FileReport> {
    let read: Vec<Result<Read, ConfigError>> = files.iter().map(|file| read(*file)).collect();
    let clusters: Vec<(&Path, &ClusterParameters)> = std::iter::zip(files, &read)
        .filter_map(|(file, read)| match read {
            Ok(Read::Cluster(cluster)) => Some((file.name, &cluster.parameters)),
            _ => None,
        })
        .collect();
    let mut owners: BTreeMap<&NodeId, &Path> = BTreeMap::new();
    let mut reports = Vec::new();
    for (file, read) in std::iter::zip(files, &read) {
        let outcome = match read {
            Err(error) => Err(error.clone()),
            Ok(Read::Cluster(cluster)) => Ok(Checked::Cluster {
                nodes: cluster.parameters.node_ids.len(),
                replica_count: cluster.parameters.replica_count,
            }),
            Ok(Read::Node(node, id_place)) => {
                let taken = match owners.insert(&node.id, file.name) {
                    Some(other) if other != file.name => {
                        let problem = Problem::IdTaken { id: node.id.clone(), other: other.to_owned() };
                        Err(ConfigError { place: id_place.clone(), problem })
                    }
                    _ => Ok(()),
                };
                let in_all = |()| {
                    clusters.iter().try_for_each(|(name, cluster)| require_member(&node.id, id_place, name, cluster))
                };
                taken.and_then(in_all).map(|()| Checked::Node { id: node.id.clone() })
            }
        };
        reports.push(FileReport { file: file.name.to_owned(), outcome });
    }
    reports
}

enum Read {
    Node(NodeConfig, Place),
    Cluster(ClusterConfig),
}

fn read(file: File<'_>) -> Result<Read, ConfigError> {
    let root = yaml::parse(file.name, file.text, "node or cluster")?;
    let is = |key| matches!(&root.value, yaml::Value::Mapping(entries) if entries.iter().any(|entry| entry.key == key));
    if is("node") {
        let (node, id_place) = node::parse_with_place(file, std::iter::empty())?;
        return Ok(Read::Node(node, id_place));
    }
    if is("cluster") {
        return ClusterConfig::parse(file).map(Read::Cluster);
    }
    let top = fields::Mapping::root(file.name, &root, "one mapping with the key node or cluster")?;
    top.refuse_unknown(&["node", "cluster"])?;
    Err(top.missing("node", "the key node or the key cluster", None))
}

fn require_member(
    id: &NodeId,
    id_place: &Place,
    cluster_name: &Path,
    cluster: &ClusterParameters,
) -> Result<(), ConfigError> {
    if cluster.member(id).is_some() {
        return Ok(());
    }
    let accepted = cluster.node_ids.clone();
    let problem = Problem::NotInCluster { id: id.clone(), cluster: cluster_name.to_owned(), accepted };
    Err(ConfigError { place: id_place.clone(), problem })
}
