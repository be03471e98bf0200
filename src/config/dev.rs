//! Configurations of a temporary cluster on this machine (`quorate dev`), made in memory.

use std::path::PathBuf;

use super::Config;
use super::address::{LocalAddress, RemoteAddress};
use super::cluster::{self, ClusterConfig, Discovery};
use super::node::NodeConfig;
use crate::limits::{
    DEV_HTTP_PORT_DISTANCE, DEV_LINE_PORT_DISTANCE, DEV_METRICS_PORT_DISTANCE, DEV_NODES_MAX, DEV_REDIS_PORT_DISTANCE,
};
use crate::types::{ClusterParameters, Durability, NodeId};

/// The plan of a temporary cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevPlan {
    /// The number of nodes: 1 to [`DEV_NODES_MAX`].
    pub nodes: usize,
    /// The first node's port; the other nodes have the ports after it. Each node serves HTTP on the port
    /// [`DEV_HTTP_PORT_DISTANCE`] above its own, lines [`DEV_LINE_PORT_DISTANCE`] above it, the Redis protocol
    /// [`DEV_REDIS_PORT_DISTANCE`] above it, and metrics
    /// [`DEV_METRICS_PORT_DISTANCE`] above it.
    pub port: u16,
    /// The folder that holds one data folder for each node, named by the node's id.
    pub data_dir: PathBuf,
    /// When the nodes acknowledge a write.
    pub durability: Durability,
}

/// Why a plan is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DevPlanError {
    /// There are no nodes, or too many for one machine.
    #[error("{nodes} nodes are not accepted: give 1 to {DEV_NODES_MAX}")]
    Nodes {
        /// The number of nodes in the plan.
        nodes: usize,
    },
    /// Some of the ports would not exist.
    #[error(
        "port {port} is not accepted for {nodes} nodes: give 1 to {max}, since node N takes port {port} + N - 1 and \
             serves metrics {DEV_METRICS_PORT_DISTANCE} above it"
    )]
    Port {
        /// The first port in the plan.
        port: u16,
        /// The greatest first port for this number of nodes.
        max: u16,
        /// The number of nodes in the plan.
        nodes: usize,
    },
}

/// The configurations of a temporary cluster's nodes, in the order of their ports. The nodes have the ids 1 to N, loopback
/// addresses, up to three replicas of each key, and operator writes.
///
/// # Errors
/// When the plan has no nodes or too many, or some of their ports would not exist.
pub fn dev(plan: &DevPlan) -> Result<Vec<Config>, DevPlanError> {
    let nodes = plan.nodes;
    if !(1..=DEV_NODES_MAX).contains(&nodes) {
        return Err(DevPlanError::Nodes { nodes });
    }
    let count = u16::try_from(nodes).expect("DEV_NODES_MAX is a u16");
    let max = u16::MAX - DEV_METRICS_PORT_DISTANCE - (count - 1);
    if !(1..=max).contains(&plan.port) {
        return Err(DevPlanError::Port { port: plan.port, max, nodes });
    }
    let mut members: Vec<(NodeId, u16)> = (0..count)
        .map(|index| (NodeId::new(&(index + 1).to_string()).expect("a number is an id"), plan.port + index))
        .collect();
    let node_configs: Vec<NodeConfig> = members.iter().map(|(id, port)| node(plan, id, *port)).collect();
    // Node ids are ordered as texts: 10 comes before 2.
    members.sort();
    let addresses = members.iter().map(|(_, port)| RemoteAddress::loopback(*port)).collect();
    let node_ids = members.into_iter().map(|(id, _)| id).collect();
    let parameters = ClusterParameters::plain(0, nodes.min(3), node_ids);
    let cluster = ClusterConfig {
        name: cluster::default_name(),
        parameters,
        addresses,
        discovery: Discovery::File,
        unlisted: None,
    };
    Ok(node_configs.into_iter().map(|node| Config { node, cluster: cluster.clone(), unlisted: None }).collect())
}

fn node(plan: &DevPlan, id: &NodeId, port: u16) -> NodeConfig {
    NodeConfig {
        local_metrics_address: Some(LocalAddress::loopback(port + DEV_METRICS_PORT_DISTANCE)),
        local_http_address: Some(LocalAddress::loopback(port + DEV_HTTP_PORT_DISTANCE)),
        local_line_address: Some(LocalAddress::loopback(port + DEV_LINE_PORT_DISTANCE)),
        local_redis_address: Some(LocalAddress::loopback(port + DEV_REDIS_PORT_DISTANCE)),
        durability: plan.durability,
        operator_writes: true,
        // Its process has other nodes, and ends with them.
        replace_damaged: false,
        ..NodeConfig::local(id.clone(), LocalAddress::loopback(port), plan.data_dir.join(id.as_str()))
    }
}
