//! The parameters of the placement, as a node tells them.

use crate::api;
use crate::limits::{NODES_MAX, REPLICA_COUNT_MAX};
use crate::types::{ClusterParameters, NodeId, NodeIdError, Site, SiteError, Weight};

/// A node of a list, as messages have it.
#[derive(Clone, Copy, Debug)]
pub struct ListedNode<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its weight in hundredths; 0 stands for a weight of 1.
    pub weight_hundredths: u32,
    /// Its zone; empty if it has none.
    pub zone: &'a str,
}

impl<'a> From<&'a api::StorageNode> for ListedNode<'a> {
    fn from(node: &'a api::StorageNode) -> Self {
        let api::StorageNode { id, weight_hundredths, zone, .. } = node;
        Self { id, weight_hundredths: *weight_hundredths, zone }
    }
}

/// Why no cluster has the parameters that a node tells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParametersError {
    /// A text is no id of a node.
    #[error(transparent)]
    NodeId(#[from] NodeIdError),
    /// Two nodes have one id.
    #[error("node {id} is listed twice")]
    Twice {
        /// The id.
        id: NodeId,
    },
    /// There are more nodes than a cluster can have.
    #[error("{nodes} nodes; at most {NODES_MAX} are possible")]
    Nodes {
        /// How many there are.
        nodes: usize,
    },
    /// There are more replicas than nodes, none, or more than a cluster can have.
    #[error("{replica_count} replicas on {nodes} nodes")]
    Replicas {
        /// How many replicas there are of each key.
        replica_count: i64,
        /// How many nodes there are.
        nodes: usize,
    },
    /// A weight or a zone is not accepted.
    #[error(transparent)]
    Site(#[from] SiteError),
}

/// What the placement of `nodes` follows from, with the seed and the epoch floor of `info`. The nodes may be in any order. All is
/// checked, because it came over the network.
///
/// # Errors
/// When no cluster has these parameters.
pub fn parameters<'a>(
    info: &api::ClusterInfoResponse,
    replica_count: i64,
    nodes: impl Iterator<Item = ListedNode<'a>>,
) -> Result<ClusterParameters, ParametersError> {
    let mut nodes: Vec<ListedNode<'_>> = nodes.collect();
    nodes.sort_unstable_by_key(|node| node.id);
    let node_ids = nodes.iter().map(|node| NodeId::new(node.id)).collect::<Result<Vec<_>, _>>()?;
    if let Some((twice, _)) = std::iter::zip(&node_ids, &node_ids[1.min(node_ids.len())..]).find(|(a, b)| a == b) {
        return Err(ParametersError::Twice { id: twice.clone() });
    }
    if node_ids.len() > NODES_MAX {
        return Err(ParametersError::Nodes { nodes: node_ids.len() });
    }
    let replicas = usize::try_from(replica_count).ok();
    let replicas = replicas.filter(|count| (1..=node_ids.len().min(REPLICA_COUNT_MAX)).contains(count));
    let Some(replicas) = replicas else {
        return Err(ParametersError::Replicas { replica_count, nodes: node_ids.len() });
    };
    let weight = |node: &ListedNode<'_>| match node.weight_hundredths {
        0 => Weight::ONE.hundredths(),
        given => given,
    };
    let weights: Vec<u32> = nodes.iter().map(weight).collect();
    let zones: Vec<&str> = nodes.iter().map(|node| node.zone).collect();
    let zones = if zones.iter().all(|zone| zone.is_empty()) { Vec::new() } else { zones };
    let sites = Site::listed(node_ids.len(), &weights, &zones)?;
    let (seed, epoch_floor) = (info.seed, info.epoch_floor);
    Ok(ClusterParameters { seed, replica_count: replicas, epoch_floor, node_ids, sites })
}
