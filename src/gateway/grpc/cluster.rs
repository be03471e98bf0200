//! `api.Cluster`: what applications use.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::api;
use crate::service::Service;
use crate::types::{Content, Key, Value};

use super::status::rejected;
use super::{deadline_of, duration, with_guard};

pub(super) struct ClusterService(pub(super) Arc<Service>);

#[tonic::async_trait]
impl api::cluster_server::Cluster for ClusterService {
    async fn info(
        &self,
        request: Request<api::ClusterInfoRequest>,
    ) -> Result<Response<api::ClusterInfoResponse>, Status> {
        let view = self.0.cluster(deadline_of(&request)).await?;
        let storage_nodes = view.members.into_iter().map(|member| api::StorageNode {
            id: member.id.as_str().to_owned(),
            address: member.address,
            state: api::PeerState::from(member.state).into(),
            slots: member.slots,
            last_seen: member.last_seen.map(duration),
            detail: member.detail,
        });
        Ok(Response::new(api::ClusterInfoResponse {
            uptime: Some(duration(view.uptime)),
            replication_level: i64::try_from(view.replica_count).unwrap_or(i64::MAX),
            storage_nodes: storage_nodes.collect(),
            seed: view.seed,
            node_id: view.node.as_str().to_owned(),
        }))
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::GetResponse>, Status> {
        let deadline = deadline_of(&request);
        let key = Key::try_from(request.into_inner()).map_err(rejected)?;
        let Some(answer) = self.0.get(&key, deadline).await? else {
            return Ok(Response::new(api::GetResponse { entry: None, clock: None }));
        };
        let entry = match answer.record.content {
            Content::Value(value) => Some((key, value).into()),
            Content::Tombstone => None,
        };
        let message = api::GetResponse { entry, clock: Some(answer.record.stamp.into()) };
        Ok(with_guard(message, answer.guard))
    }

    async fn set(&self, request: Request<api::SetRequest>) -> Result<Response<api::SetResponse>, Status> {
        let deadline = deadline_of(&request);
        let (key, value) = <(Key, Value)>::try_from(request.into_inner()).map_err(rejected)?;
        let stamp = self.0.set(key, Content::Value(value), deadline).await?;
        Ok(Response::new(api::SetResponse { clock: Some(stamp.into()) }))
    }

    async fn delete(&self, request: Request<api::DeleteRequest>) -> Result<Response<api::DeleteResponse>, Status> {
        let deadline = deadline_of(&request);
        let key = Key::try_from(request.into_inner()).map_err(rejected)?;
        let stamp = self.0.set(key, Content::Tombstone, deadline).await?;
        Ok(Response::new(api::DeleteResponse { clock: Some(stamp.into()) }))
    }
}
