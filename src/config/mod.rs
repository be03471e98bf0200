//! From YAML texts and environment variables to a validated [`Config`].
//!
//! Contract: this module reads no files and no environment; callers pass texts, file names and variables. A [`Config`] is
//! valid, and no other module checks it again: ids are unique and ordered, replica counts are possible, addresses are well
//! formed and distinct, and the node belongs to its cluster. A refusal is one line: the place (file, line and keys, or the
//! variable), the value found, and the values accepted. Nothing is guessed: unknown keys, keys given twice, and values that
//! YAML readers understand differently are errors.
//!
//! Caveat: a refusal reports one error, the first that is found.

mod address;
mod check;
mod cluster;
mod contexts;
mod dev;
mod error;
mod fields;
mod keys;
mod node;
mod reference;
mod service_link;
#[cfg(test)]
mod tests;
mod yaml;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::Path;

pub use address::{LocalAddress, RemoteAddress};
pub use check::{Checked, FileReport, Remark, check};
pub use cluster::{ClusterConfig, Discovery, is_cluster_name};
pub use contexts::{Context, Contexts};
pub use dev::{DevPlan, DevPlanError, dev};
pub use error::{ConfigError, Place, Problem};
pub use keys::VARIABLE_PREFIX;
pub use node::{Fraction, NodeConfig, TlsPaths};
pub use reference::reference;

use crate::types::{NodeId, NodeIndex};
use node::Places;

/// The text of a file, which the caller has read.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// The file's name, for errors. Relative paths in the text are relative to this file's folder.
    pub name: &'a Path,
    /// The file's content.
    pub text: &'a str,
}

/// The configuration of a node and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The configuration of this node alone.
    pub node: NodeConfig,
    /// The configuration of its cluster.
    pub cluster: ClusterConfig,
    /// Why the node is none of that. It may start all the same where its data folder knows that it is a member.
    pub unlisted: Option<ConfigError>,
}

/// How a configuration that was read again differs from the one that a node runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The keys of node.yml whose new values take effect.
    pub reloaded: Vec<&'static str>,
    /// The keys of node.yml whose new values wait for a restart.
    pub others: Vec<&'static str>,
    /// Whether cluster.yml is another one, which takes effect at a restart.
    pub is_other_cluster: bool,
}

impl Config {
    /// Reads a node.yml, the variables that override it (see [`NodeConfig::parse`]), and the cluster.yml of its cluster.
    ///
    /// # Errors
    /// With the first value that is not accepted, and when the node is not in the cluster.
    pub fn parse(
        node: File<'_>,
        cluster: File<'_>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let config = Self::parse_unlisted(node, cluster, environment)?;
        config.unlisted.clone().map_or(Ok(config), Err)
    }

    /// The same also for a node that is not in the cluster, which [`Config::unlisted`] says then.
    ///
    /// # Errors
    /// With the first value that is not accepted.
    pub fn parse_unlisted(
        node: File<'_>,
        cluster: File<'_>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let (node, places) = node::parse_with_places(node, environment)?;
        let cluster_name = cluster.name;
        let cluster = ClusterConfig::parse(cluster)?;
        let (cluster, unlisted) = match with_member(&node.id, &places.id, cluster_name, &cluster) {
            Ok(with) => (with.into_owned(), None),
            Err(error) => (cluster, Some(error)),
        };
        if let Err(error) = require_protection(&node, &places, cluster_name, &cluster) {
            return Err(unlisted.unwrap_or(error));
        }
        Ok(Self { node, cluster, unlisted })
    }

    /// Takes over from `new` what changes without a restart, and says which keys have changed.
    pub fn reload(&mut self, new: &Self) -> Reloaded {
        let (mut reloaded, mut others) = (Vec::new(), Vec::new());
        for key in self.node.changed(&new.node) {
            let keys = if key.change == keys::Change::Reload { &mut reloaded } else { &mut others };
            keys.push(key.name);
        }
        self.node.reload(&new.node);
        Reloaded { reloaded, others, is_other_cluster: self.cluster != new.cluster }
    }

    /// The node's index in its cluster.
    ///
    /// # Panics
    /// When the node is not in the cluster, which [`Config::unlisted`] says.
    #[must_use]
    pub fn member(&self) -> NodeIndex {
        self.cluster.parameters.member(&self.node.id).expect("a node that was parsed is one of its cluster")
    }
}

/// Refuses a node that other machines reach, unless it has TLS or is told to go without.
fn require_protection(
    node: &NodeConfig,
    places: &Places,
    cluster_name: &Path,
    cluster: &ClusterConfig,
) -> Result<(), ConfigError> {
    if let Some((place, problem)) = places.exposed.clone() {
        return Err(ConfigError { place, problem });
    }
    match cluster.address_beyond_loopback() {
        Some(address) if !node.is_protected() => {
            let path = "cluster.nodes".to_owned();
            let place = Place::File { file: cluster_name.to_owned(), line: None, path };
            Err(ConfigError { place, problem: Problem::Exposed { address: address.to_string() } })
        }
        _ => Ok(()),
    }
}

/// The cluster with the node whose id was given at `id_place`. Refuses a node that it neither has nor can have.
fn with_member<'a>(
    id: &NodeId,
    id_place: &Place,
    cluster_name: &Path,
    cluster: &'a ClusterConfig,
) -> Result<Cow<'a, ClusterConfig>, ConfigError> {
    cluster.with_node(id).ok_or_else(|| {
        let (id, file) = (id.clone(), cluster_name.to_owned());
        let problem = match cluster.pattern() {
            Some(pattern) => Problem::NotOfPattern { id, cluster: file, stem: pattern.stem.to_owned() },
            None => Problem::NotInCluster { id, cluster: file, accepted: cluster.parameters.node_ids.clone() },
        };
        ConfigError { place: id_place.clone(), problem }
    })
}
