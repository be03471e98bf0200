//! cluster.yml: the configuration that all nodes of a cluster have in common.

use std::collections::BTreeMap;

use super::address::RemoteAddress;
use super::error::{ConfigError, Problem};
use super::fields::{Mapping, names};
use super::keys::{self, CLUSTER_KEYS, CLUSTER_NODE_KEYS, Kind};
use super::{File, yaml};
use crate::limits::NODES_MAX;
use crate::types::{ClusterParameters, NodeId, NodeIndex};

/// A cluster's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
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
        let seed = seed(&mapping)?;
        let nodes = nodes(&mapping)?;
        let replica_count = replica_count(&mapping, nodes.len())?;
        let epoch_floor = epoch_floor(&mapping)?;
        let (node_ids, addresses) = nodes.into_iter().unzip();
        Ok(Self { parameters: ClusterParameters { seed, replica_count, epoch_floor, node_ids }, addresses })
    }

    /// The address of `member`.
    #[must_use]
    pub fn address(&self, member: NodeIndex) -> &RemoteAddress {
        &self.addresses[member.index()]
    }
}

fn seed(cluster: &Mapping<'_>) -> Result<u32, ConfigError> {
    let Kind::Count { min, max } = keys::SEED.kind else { unreachable!("it is a number") };
    let accepted = keys::SEED.kind.accepted();
    let given = cluster.required(keys::SEED.name, &accepted)?;
    let number: usize = given.whole_number(min, max, accepted.clone())?;
    u32::try_from(number).map_err(|_| given.refused(accepted))
}

fn nodes(cluster: &Mapping<'_>) -> Result<BTreeMap<NodeId, RemoteAddress>, ConfigError> {
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
        nodes.insert(id, address);
    }
    Ok(nodes)
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
