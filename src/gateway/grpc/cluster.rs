//! `api.Cluster`, for applications.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::api;
use crate::service::Service;
use crate::service::batch_get::KeyResult;
use crate::types::{Content, Key, Record, Value};

use super::status::{code, rejected};
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
        let (entry, clock) = entry_and_clock(key, answer.record);
        let message = api::GetResponse { entry, clock };
        Ok(with_guard(message, answer.guard))
    }

    async fn batch_get(
        &self,
        request: Request<api::BatchGetRequest>,
    ) -> Result<Response<api::BatchGetResponse>, Status> {
        let deadline = deadline_of(&request);
        let keys = Vec::<Key>::try_from(request.into_inner()).map_err(rejected)?;
        let answer = self.0.batch_get(keys, deadline).await?;
        let results = answer.results.into_iter().map(batch_result).collect();
        Ok(with_guard(api::BatchGetResponse { results }, Some(answer.guard)))
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

/// The most bytes of an error's message, well under what a result may take beside its key and value.
const ERROR_MESSAGE_BYTES_MAX: usize = 512;

fn batch_result((key, result): (Key, KeyResult)) -> api::BatchGetResult {
    let name = key.as_str().to_owned();
    match result {
        Ok(None) => api::BatchGetResult { key: name, ..Default::default() },
        Ok(Some(record)) => {
            let (entry, clock) = entry_and_clock(key, record);
            api::BatchGetResult { key: name, entry, clock, error: None }
        }
        Err(error) => {
            let message = &error.message[..error.message.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX)];
            let error = api::BatchGetError {
                code: code(&error).into(),
                reason: error.failure.reason.as_str().to_owned(),
                message: message.to_owned(),
            };
            api::BatchGetResult { key: name, error: Some(error), ..Default::default() }
        }
    }
}

/// A deleted key has a clock and no entry.
fn entry_and_clock(key: Key, record: Record) -> (Option<api::Entry>, Option<api::ClockValue>) {
    let entry = match record.content {
        Content::Value(value) => Some((key, value).into()),
        Content::Tombstone => None,
    };
    (entry, Some(record.stamp.into()))
}
