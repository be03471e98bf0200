//! cluster.yml: what all nodes have in common, and where each is reached.

use std::collections::BTreeMap;

use super::address::{REMOTE_ACCEPTED, RemoteAddress};
use super::error::{ConfigError, Problem};
use super::fields::Mapping;
use super::{File, yaml};
use crate::limits::{NODES_MAX, REPLICA_COUNT_MAX};
use crate::types::{ClusterParameters, NodeId, NodeIndex};

/// A cluster's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// What must be the same on every node.
    pub parameters: ClusterParameters,
    /// Where each node is reached, in the order of the members. Each is there once; they may differ from node to node
    /// of one cluster, where there are proxies in between.
    pub addresses: Vec<RemoteAddress>,
}

impl ClusterConfig {
    /// Reads a cluster.yml.
    ///
    /// # Errors
    /// For the first thing that is not accepted.
    pub fn parse(file: File<'_>) -> Result<Self, ConfigError> {
        let root = yaml::parse(file.name, file.text, "cluster")?;
        let mapping = Mapping::top(file.name, &root, "cluster", "node")?;
        mapping.refuse_unknown(&["seed", "replica_count", "nodes"])?;
        let seed = {
            let accepted = format!("a whole number from 0 to {}", u32::MAX);
            let given = mapping.required("seed", &accepted)?;
            let number = given.whole_number(0, u64::from(u32::MAX), accepted.as_str())?;
            u32::try_from(number).map_err(|_| given.refused(accepted))?
        };
        let nodes = nodes(&mapping)?;
        let replica_count = replica_count(&mapping, nodes.len())?;
        let (node_ids, addresses) = nodes.into_iter().unzip();
        Ok(Self { parameters: ClusterParameters { seed, replica_count, node_ids }, addresses })
    }

    /// Where `member` is reached.
    #[must_use]
    pub fn address(&self, member: NodeIndex) -> &RemoteAddress {
        &self.addresses[member.index()]
    }
}

fn nodes(cluster: &Mapping<'_>) -> Result<BTreeMap<NodeId, RemoteAddress>, ConfigError> {
    const ACCEPTED: &str = "a mapping of node ids, each as ID: { remote_address: HOST:PORT }";
    let Some(entry) = cluster.entry("nodes") else {
        return Err(cluster.missing("nodes", ACCEPTED, None));
    };
    let mapping = cluster.below(entry, ACCEPTED)?;
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
        node.refuse_unknown(&["remote_address"])?;
        let given = node.required("remote_address", REMOTE_ACCEPTED)?;
        let address = RemoteAddress::parse(&given.text).ok_or_else(|| given.refused(REMOTE_ACCEPTED))?;
        if let Some(owner) = owners.insert(address.clone(), id.clone()) {
            let owner = format!("node {owner}");
            return Err(given.error(Problem::AddressTaken { address: given.text.clone(), owner }));
        }
        nodes.insert(id, address);
    }
    Ok(nodes)
}

fn replica_count(cluster: &Mapping<'_>, nodes: usize) -> Result<usize, ConfigError> {
    let max = nodes.min(REPLICA_COUNT_MAX);
    let why = if nodes <= REPLICA_COUNT_MAX { "the number of nodes" } else { "the most that one slot can have" };
    let accepted = format!("a whole number from 1 to {max}, {why}");
    let given = cluster.required("replica_count", &accepted)?;
    let number = given.whole_number(1, max as u64, accepted.as_str())?;
    usize::try_from(number).map_err(|_| given.refused(accepted))
}
