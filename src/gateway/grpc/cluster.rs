//! `api.Cluster`, for applications.

use std::sync::Arc;

use futures_util::stream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::api;
use crate::runtime::WriteResult;
use crate::service::Service;
use crate::service::batch_get::KeyResult;
use crate::service::batch_write::WriteOutcome;
use crate::service::cluster_report::duration;
use crate::service::deadline::Deadline;
use crate::service::list::{List, ListedEntry};
use crate::service::watch::Watch;
use crate::types::{AgedRecord, Content, IdempotencyToken, Key, Stamp, Table, Version};
use crate::wire::call::{Decoder, GetCall, Write};
use crate::wire::watch::watched_table;

use super::status::rejected;
use super::{deadline_of, service_of, with_guard};

pub(super) struct ClusterService(pub(super) Arc<Service>);

#[tonic::async_trait]
impl api::cluster_server::Cluster for ClusterService {
    async fn info(
        &self,
        request: Request<api::ClusterInfoRequest>,
    ) -> Result<Response<api::ClusterInfoResponse>, Status> {
        let service = service_of(&request, &self.0);
        Ok(Response::new(service.cluster(deadline_of(&request)).await?.into()))
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::GetResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let (table, GetCall { key, from_one }) = self.decoder().get(request.into_inner()).map_err(rejected)?;
        let answer = match from_one {
            None => service.get(&table, &key, deadline).await?,
            Some(at_least) => service.get_one(&table, &key, at_least, deadline).await?,
        };
        let (record, guard) = answer.map_or((None, None), |answer| (Some(answer.record), answer.guard));
        let Found { entry, clock, version, ttl } = self.found(key, record);
        Ok(with_guard(api::GetResponse { entry, clock, version, ttl }, guard))
    }

    async fn batch_get(
        &self,
        request: Request<api::BatchGetRequest>,
    ) -> Result<Response<api::BatchGetResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let (table, keys) = <(Table, Vec<Key>)>::try_from(request.into_inner()).map_err(rejected)?;
        let answer = service.batch_get(&table, keys, deadline).await?;
        let results = answer.results.into_iter().map(|result| self.batch_result(result)).collect();
        Ok(with_guard(api::BatchGetResponse { results }, Some(answer.guard)))
    }

    async fn list(&self, request: Request<api::ListRequest>) -> Result<Response<BoxStream<api::ListResponse>>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let (table, call) = self.decoder().list(request.into_inner()).map_err(rejected)?;
        let list = service.list(table, call, deadline)?;
        Ok(Response::new(Box::pin(stream::unfold(list, next_page))))
    }

    async fn set(&self, request: Request<api::SetRequest>) -> Result<Response<api::SetResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let (table, write) = self.decoder().set(request.into_inner()).map_err(rejected)?;
        let version = self.write(&service, &table, write, deadline).await?;
        let text = self.0.versions().encode(&version);
        Ok(Response::new(api::SetResponse { clock: clock(version.stamp), version: text }))
    }

    async fn delete(&self, request: Request<api::DeleteRequest>) -> Result<Response<api::DeleteResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let (table, write) = self.decoder().delete(request.into_inner()).map_err(rejected)?;
        let version = self.write(&service, &table, write, deadline).await?;
        let text = self.0.versions().encode(&version);
        Ok(Response::new(api::DeleteResponse { clock: clock(version.stamp), version: text }))
    }

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<BoxStream<api::WatchResponse>>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let request = request.into_inner();
        let table = watched_table(&request).map_err(rejected)?;
        let id = service.table_open(&table, deadline).await?;
        let call = self.0.watch_codec().request(id, request).map_err(rejected)?;
        let watch = service.watch(&table, call).await?;
        Ok(Response::new(Box::pin(stream::unfold(Some(watch), next_event))))
    }

    async fn batch_write(
        &self,
        request: Request<api::BatchWriteRequest>,
    ) -> Result<Response<api::BatchWriteResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let writes = self.decoder().batch_write(request.into_inner()).map_err(rejected)?;
        let outcomes = service.batch_write(writes, deadline).await?;
        let results = outcomes.into_iter().map(|outcome| self.write_result(outcome)).collect();
        Ok(Response::new(api::BatchWriteResponse { results }))
    }

    async fn add(&self, request: Request<api::AddRequest>) -> Result<Response<api::AddResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let (table, key, change) = self.decoder().addition(request.into_inner()).map_err(rejected)?;
        let WriteResult { version, sum } = service.change(&table, key, change, deadline).await?;
        let value = sum.ok_or_else(|| Status::internal("an addition has no sum"))?;
        Ok(Response::new(api::AddResponse { value, version: self.0.versions().encode(&version) }))
    }
}

impl ClusterService {
    fn decoder(&self) -> Decoder {
        Decoder { versions: self.0.versions(), fresh_token: || IdempotencyToken(rand::random()) }
    }

    async fn write(
        &self,
        service: &Service,
        table: &Table,
        write: Write,
        deadline: Deadline,
    ) -> Result<Version, Status> {
        Ok(match write {
            Write::Plain { key, content, ttl } => service.set(table, key, content, ttl, deadline).await?,
            Write::Conditional(key, change) => service.change(table, key, change, deadline).await?.version,
        })
    }

    /// What a client is told of a key. A deleted key has a version and no entry.
    fn found(&self, key: Key, record: Option<AgedRecord>) -> Found {
        let version = record.as_ref().map_or_else(Version::absent, AgedRecord::version);
        let version = self.0.versions().encode(&version);
        let Some(record) = record else { return Found { entry: None, clock: None, version, ttl: None } };
        let (ttl, record) = (record.ttl_left().map(duration), record.record);
        let entry = match record.content {
            Content::Value(value) => Some((key, value).into()),
            Content::Tombstone => None,
        };
        Found { entry, clock: clock(record.stamp), version, ttl }
    }

    fn write_result(&self, (key, outcome): (Key, WriteOutcome)) -> api::BatchWriteResult {
        let key = key.as_str().to_owned();
        match outcome {
            Ok(written) => {
                let version = self.0.versions().encode(&written.version);
                api::BatchWriteResult { key, clock: clock(written.version.stamp), version, error: None }
            }
            Err(error) => {
                let code = error.code().into();
                let reason = error.failure.reason.as_str().to_owned();
                let message = shortened(&error.message).to_owned();
                let current = error.failure.current;
                let (version, has_value) = current.map(|now| (now.version, now.has_value)).unwrap_or_default();
                let error = api::BatchWriteError { code, reason, message, version, has_value };
                api::BatchWriteResult { key, error: Some(error), ..Default::default() }
            }
        }
    }

    fn batch_result(&self, (key, result): (Key, KeyResult)) -> api::BatchGetResult {
        let name = key.as_str().to_owned();
        match result {
            Ok(record) => {
                let Found { entry, clock, version, ttl } = self.found(key, record);
                api::BatchGetResult { key: name, entry, clock, error: None, version, ttl }
            }
            Err(error) => {
                let message = shortened(&error.message);
                let error = api::BatchGetError {
                    code: error.code().into(),
                    reason: error.failure.reason.as_str().to_owned(),
                    message: message.to_owned(),
                };
                api::BatchGetResult { key: name, error: Some(error), ..Default::default() }
            }
        }
    }
}

async fn next_page(mut list: List) -> Option<(Result<api::ListResponse, Status>, List)> {
    let page = list.next_page().await?;
    let versions = list.service().versions();
    let entry = |ListedEntry { key, version, ttl, value }: ListedEntry| api::ListedEntry {
        key: key.as_str().to_owned(),
        version: versions.encode(&version),
        ttl: ttl.map(duration),
        entry: value.map(|value| (key, value).into()),
    };
    let page = page.map(|page| api::ListResponse {
        entries: page.entries.into_iter().map(entry).collect(),
        next: page.next.map(|next| next.as_str().to_owned()),
    });
    Some((page.map_err(Status::from), list))
}

/// The next event of a watch, or the error that ends it.
async fn next_event(watch: Option<Watch>) -> Option<(Result<api::WatchResponse, Status>, Option<Watch>)> {
    let mut watch = watch?;
    Some(match watch.next().await {
        Ok(event) => (Ok(event), Some(watch)),
        Err(error) => (Err(error.into()), None),
    })
}

/// The answer to a read of a key.
struct Found {
    entry: Option<api::Entry>,
    clock: Option<api::ClockValue>,
    version: String,
    ttl: Option<prost_types::Duration>,
}

/// A stamp; absent where no write without a condition drew it.
pub(super) fn clock(stamp: Stamp) -> Option<api::ClockValue> {
    (!stamp.is_none()).then(|| stamp.into())
}

/// An error's message, or the beginning of a long one.
fn shortened(message: &str) -> &str {
    &message[..message.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX)]
}

/// The most bytes of an error's message, well under what a result may take beside its key and value.
const ERROR_MESSAGE_BYTES_MAX: usize = 512;
