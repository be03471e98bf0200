//! `api.Cluster`: what applications use.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::api;
use crate::service::health::peer_state;
use crate::types::{Content, Key, Value};

use super::answer::{Purpose, invalid};
use super::{Asker, deadline_of, duration};

pub(super) struct ClusterService {
    asker: Asker,
    /// How many slots each member holds. It follows from the configuration.
    slots_held: Vec<u32>,
}

impl ClusterService {
    pub(super) fn new(asker: Asker) -> Self {
        let slots_held = asker.node().placement().slots_held();
        Self { asker, slots_held }
    }

    async fn put<T>(&self, request: &Request<T>, key: Key, content: Content) -> Result<api::ClockValue, Status> {
        let deadline = deadline_of(request);
        let operation = self.asker.node().set(key.clone(), content, deadline.answer_at);
        self.asker.ask(Purpose::Write, Some(&key), operation, deadline).await.map(Into::into)
    }
}

#[tonic::async_trait]
impl api::cluster_server::Cluster for ClusterService {
    async fn info(
        &self,
        request: Request<api::ClusterInfoRequest>,
    ) -> Result<Response<api::ClusterInfoResponse>, Status> {
        let status = self.asker.status(deadline_of(&request)).await?;
        let node = self.asker.node();
        let parameters = node.placement().parameters();
        let storage_nodes = parameters.members().map(|member| {
            let peer = status.peers.iter().find(|peer| peer.member == member);
            let (state, detail) =
                peer.map_or_else(|| (api::PeerState::PeerSelf, String::new()), |peer| peer_state(node, peer));
            let last_seen = match peer {
                Some(peer) => peer.last_seen,
                None => Some(std::time::Duration::ZERO),
            };
            api::StorageNode {
                id: parameters.id(member).as_str().to_owned(),
                address: node.address(member).to_owned(),
                state: state.into(),
                slots: self.slots_held[member.index()],
                last_seen: last_seen.map(duration),
                detail,
            }
        });
        Ok(Response::new(api::ClusterInfoResponse {
            uptime: Some(duration(node.uptime())),
            replication_level: i64::try_from(parameters.replica_count).unwrap_or(i64::MAX),
            storage_nodes: storage_nodes.collect(),
            seed: parameters.seed,
            node_id: node.id().as_str().to_owned(),
        }))
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::GetResponse>, Status> {
        let deadline = deadline_of(&request);
        let key = Key::try_from(request.into_inner()).map_err(|error| invalid(&error))?;
        let operation = self.asker.node().get(key.clone(), deadline.answer_at);
        let Some(record) = self.asker.ask(Purpose::Read, Some(&key), operation, deadline).await? else {
            return Ok(Response::new(api::GetResponse { entry: None, clock: None }));
        };
        let share = self.asker.release(&key, &record)?;
        let entry = match record.content {
            Content::Value(value) => Some((key, value).into()),
            Content::Tombstone => None,
        };
        let mut response = Response::new(api::GetResponse { entry, clock: Some(record.stamp.into()) });
        if let Some(share) = share {
            response.extensions_mut().insert(Arc::new(share));
        }
        Ok(response)
    }

    async fn set(&self, mut request: Request<api::SetRequest>) -> Result<Response<api::SetResponse>, Status> {
        let message = std::mem::take(request.get_mut());
        let (key, value) = <(Key, Value)>::try_from(message).map_err(|error| invalid(&error))?;
        let clock = self.put(&request, key, Content::Value(value)).await?;
        Ok(Response::new(api::SetResponse { clock: Some(clock) }))
    }

    async fn delete(&self, mut request: Request<api::DeleteRequest>) -> Result<Response<api::DeleteResponse>, Status> {
        let key = Key::try_from(std::mem::take(request.get_mut())).map_err(|error| invalid(&error))?;
        let clock = self.put(&request, key, Content::Tombstone).await?;
        Ok(Response::new(api::DeleteResponse { clock: Some(clock) }))
    }
}
