//! Conversions of the message by which a node introduces itself.

use bytes::Bytes;

use super::members::{address, cluster, encode_cluster, store_id};
use super::peer::{PeerWireError, invalid, missing, node_id};
use crate::api;
use crate::protocol::Hello;
use crate::types::{ClusterParameters, Site};

impl From<Hello> for api::PeerHello {
    fn from(hello: Hello) -> Self {
        let Hello { protocol, parameters, node_id, to_node_id, store_id, incarnation, .. } = hello;
        Self {
            protocol,
            node_id: node_id.to_string(),
            to_node_id: to_node_id.to_string(),
            store_id: Bytes::copy_from_slice(&store_id.0.to_be_bytes()),
            incarnation: Some(incarnation.into()),
            cluster: hello.cluster.map(encode_cluster).unwrap_or_default(),
            number: hello.number,
            joins: hello.joins.map(|address| address.to_string()).unwrap_or_default(),
            earlier_incarnations: hello.earlier_incarnations.iter().map(|incarnation| (*incarnation).into()).collect(),
            seed: parameters.seed,
            replica_count: u32::try_from(parameters.replica_count).expect("REPLICA_COUNT_MAX keeps it within a u32"),
            node_ids: parameters.node_ids.iter().map(ToString::to_string).collect(),
            weights: parameters.weights_listed(),
            zones: parameters.zones_listed().into_iter().map(str::to_owned).collect(),
            epoch_floor: parameters.epoch_floor,
        }
    }
}

impl TryFrom<api::PeerHello> for Hello {
    type Error = PeerWireError;

    fn try_from(hello: api::PeerHello) -> Result<Self, PeerWireError> {
        let cluster = if hello.cluster.is_empty() { None } else { Some(cluster("hello.cluster", &hello.cluster)?) };
        Ok(Self {
            protocol: hello.protocol,
            parameters: parameters_in(&hello)?,
            node_id: node_id("hello.node_id", &hello.node_id)?,
            to_node_id: node_id("hello.to_node_id", &hello.to_node_id)?,
            store_id: store_id("hello.store_id", &hello.store_id)?,
            cluster,
            number: hello.number,
            joins: if hello.joins.is_empty() { None } else { Some(address("hello.joins", &hello.joins)?) },
            incarnation: hello.incarnation.ok_or(missing("hello.incarnation"))?.into(),
            earlier_incarnations: hello.earlier_incarnations.into_iter().map(Into::into).collect(),
        })
    }
}

fn parameters_in(hello: &api::PeerHello) -> Result<ClusterParameters, PeerWireError> {
    let node_ids: Result<Vec<_>, _> = hello.node_ids.iter().map(|id| node_id("hello.node_ids", id)).collect();
    let sites = Site::listed(hello.node_ids.len(), &hello.weights, &hello.zones);
    Ok(ClusterParameters {
        seed: hello.seed,
        replica_count: usize::try_from(hello.replica_count).unwrap_or(usize::MAX),
        epoch_floor: hello.epoch_floor,
        node_ids: node_ids?,
        sites: sites.map_err(|error| invalid("hello.weights or hello.zones", &error))?,
    })
}
