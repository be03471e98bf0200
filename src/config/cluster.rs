//! cluster.yml: the configuration that all nodes of a cluster have in common.

use std::collections::BTreeMap;

use super::address::RemoteAddress;
use super::error::{ConfigError, Problem};
use super::fields::{Mapping, names};
use super::keys::{self, CLUSTER_KEYS, CLUSTER_NAME_BYTES_MAX, CLUSTER_NODE_KEYS, Fallback, Kind};
use super::{File, yaml};
use crate::limits::NODES_MAX;
use crate::types::{ClusterParameters, NodeId, NodeIndex, Site, Weight, Zone};

/// A cluster's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The name of the cluster in certificates.
    pub name: String,
    /// The settings that must be the same on every node.
    pub parameters: ClusterParameters,
    /// Each node's address, in the order of the node ids, without duplicates. Two nodes of one cluster may have files with
    /// different addresses, for example behind proxies.
    pub addresses: Vec<RemoteAddress>,
}

impl ClusterConfig {
    /// Reads a cluster.yml.
    ///
    /// # Errors
    /// With the first value that is not accepted.
    pub fn parse(file: File<'_>) -> Result<Self, ConfigError> {
        let root = yaml::parse(file.name, file.text, "cluster")?;
        let mapping = Mapping::top(file.name, &root, "cluster", "node")?;
        mapping.refuse_unknown(&names(&CLUSTER_KEYS))?;
        let name = name(&mapping)?;
        let seed = seed(&mapping)?;
        let nodes = nodes(&mapping)?;
        let replica_count = replica_count(&mapping, nodes.len())?;
        let epoch_floor = epoch_floor(&mapping)?;
        let (node_ids, places): (_, Vec<_>) = nodes.into_iter().unzip();
        let (addresses, sites) = places.into_iter().unzip();
        let parameters = ClusterParameters { seed, replica_count, epoch_floor, node_ids, sites };
        Ok(Self { name, parameters, addresses })
    }

    /// The first address that other machines may reach: it is not on loopback.
    #[must_use]
    pub fn address_beyond_loopback(&self) -> Option<&RemoteAddress> {
        self.addresses.iter().find(|address| !address.is_loopback())
    }

    /// The address of `member`.
    #[must_use]
    pub fn address(&self, member: NodeIndex) -> &RemoteAddress {
        &self.addresses[member.index()]
    }
}

/// The name that a cluster has if none is given.
pub(super) fn default_name() -> String {
    let Fallback::Text(name) = keys::NAME.default else { unreachable!("it has a default") };
    name.to_owned()
}

/// Whether `text` may be the name of a cluster.
#[must_use]
pub fn is_cluster_name(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    is_plain && (1..=CLUSTER_NAME_BYTES_MAX).contains(&text.len())
}

fn name(cluster: &Mapping<'_>) -> Result<String, ConfigError> {
    let Some(entry) = cluster.entry(keys::NAME.name) else { return Ok(default_name()) };
    let accepted = keys::NAME.kind.accepted();
    let given = cluster.given(entry, &accepted)?;
    if is_cluster_name(&given.text) { Ok(given.text) } else { Err(given.refused(accepted)) }
}

fn seed(cluster: &Mapping<'_>) -> Result<u32, ConfigError> {
    let Kind::Count { min, max } = keys::SEED.kind else { unreachable!("it is a number") };
    let accepted = keys::SEED.kind.accepted();
    let given = cluster.required(keys::SEED.name, &accepted)?;
    let number: usize = given.whole_number(min, max, accepted.clone())?;
    u32::try_from(number).map_err(|_| given.refused(accepted))
}

fn nodes(cluster: &Mapping<'_>) -> Result<BTreeMap<NodeId, (RemoteAddress, Site)>, ConfigError> {
    let accepted = keys::NODES.kind.accepted();
    let Some(entry) = cluster.entry(keys::NODES.name) else {
        return Err(cluster.missing(keys::NODES.name, &accepted, None));
    };
    let mapping = cluster.below(entry, &accepted)?;
    let error = |problem| ConfigError { place: mapping.place(Some(mapping.line), None), problem };
    if mapping.entries.is_empty() {
        return Err(error(Problem::NoNodes));
    }
    if mapping.entries.len() > NODES_MAX {
        return Err(error(Problem::TooManyNodes { nodes: mapping.entries.len() }));
    }
    let mut nodes = BTreeMap::new();
    let mut owners: BTreeMap<RemoteAddress, NodeId> = BTreeMap::new();
    for entry in mapping.entries {
        let place = mapping.place(Some(entry.line), Some(&entry.key));
        let id = NodeId::new(&entry.key).map_err(|error| ConfigError { place, problem: Problem::NodeId(error) })?;
        let node = mapping.below(entry, "{ remote_address: HOST:PORT }")?;
        node.refuse_unknown(&names(&CLUSTER_NODE_KEYS))?;
        let accepted = keys::REMOTE_ADDRESS.kind.accepted();
        let given = node.required(keys::REMOTE_ADDRESS.name, &accepted)?;
        let address = RemoteAddress::parse(&given.text).ok_or_else(|| given.refused(accepted))?;
        if let Some(owner) = owners.insert(address.clone(), id.clone()) {
            let owner = format!("node {owner}");
            return Err(given.error(Problem::AddressTaken { address: given.text.clone(), owner }));
        }
        let site = Site { weight: weight(&node)?, zone: zone(&node)? };
        nodes.insert(id, (address, site));
    }
    refuse_some_zones(&mapping)?;
    Ok(nodes)
}

/// A node without a zone among nodes with zones is more likely forgotten than meant.
fn refuse_some_zones(nodes: &Mapping<'_>) -> Result<(), ConfigError> {
    let mut other = None;
    let mut without = None;
    for entry in nodes.entries {
        let node = nodes.below(entry, "a mapping")?;
        if node.entry(keys::ZONE.name).is_some() {
            other = other.or(Some(&entry.key));
        } else {
            without = without.or(Some(node));
        }
    }
    let (Some(other), Some(node)) = (other, without) else { return Ok(()) };
    let place = node.place(Some(node.line), Some(keys::ZONE.name));
    Err(ConfigError { place, problem: Problem::ZoneMissing { other: other.clone() } })
}

fn weight(node: &Mapping<'_>) -> Result<Weight, ConfigError> {
    let Some(entry) = node.entry(keys::WEIGHT.name) else { return Ok(Weight::ONE) };
    let accepted = keys::WEIGHT.kind.accepted();
    let given = node.given(entry, &accepted)?;
    Weight::parse(&given.text).ok_or_else(|| given.refused(accepted))
}

fn zone(node: &Mapping<'_>) -> Result<Option<Zone>, ConfigError> {
    let Some(entry) = node.entry(keys::ZONE.name) else { return Ok(None) };
    let accepted = keys::ZONE.kind.accepted();
    let given = node.given(entry, &accepted)?;
    Zone::new(&given.text).map(Some).ok_or_else(|| given.refused(accepted))
}

fn replica_count(cluster: &Mapping<'_>, nodes: usize) -> Result<usize, ConfigError> {
    let Kind::Count { min, max } = keys::REPLICA_COUNT.kind else { unreachable!("it is a number") };
    let why = if nodes <= max { "the number of nodes" } else { "the most that one slot can have" };
    let max = nodes.min(max);
    let accepted = format!("a whole number from {min} to {max}, {why}");
    let given = cluster.required(keys::REPLICA_COUNT.name, &accepted)?;
    given.whole_number(min, max, accepted)
}

fn epoch_floor(cluster: &Mapping<'_>) -> Result<u64, ConfigError> {
    let Kind::Count { min, max } = keys::EPOCH_FLOOR.kind else { unreachable!("it is a number") };
    let Some(entry) = cluster.entry(keys::EPOCH_FLOOR.name) else { return Ok(0) };
    let accepted = keys::EPOCH_FLOOR.kind.accepted();
    Ok(cluster.given(entry, &accepted)?.whole_number(min, max, accepted.clone())? as u64)
}
