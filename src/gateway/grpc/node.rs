//! `api.Node`: one node and its own replica, for operators and tools.

use std::sync::Arc;

use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::api;
use crate::limits::SCANS_MAX;
use crate::runtime::NodeHandle;
use crate::service::health::{Assessor, peer_state};
use crate::storage::{Cursor, StoreStatistics};
use crate::types::{Content, KEY_BYTES_MAX, Key, Stamp};
use crate::wire::{NodeSet, WireError};

use super::answer::{Purpose, invalid, scan_failed};
use super::{Asker, deadline_of, duration};

/// The most keys of one page. Each costs up to three bytes of framing beside its own: 65,536 of them are 192 KiB, which
/// with the 3 MiB of keys that a page holds at most stay under 4 MiB.
const PAGE_KEYS_MAX: usize = 65_536;

pub(super) struct NodeService {
    asker: Asker,
    assessor: Arc<Assessor>,
    scans: Arc<Semaphore>,
}

impl NodeService {
    pub(super) fn new(asker: Asker, assessor: Arc<Assessor>) -> Self {
        Self { asker, assessor, scans: Arc::new(Semaphore::new(SCANS_MAX)) }
    }
}

#[tonic::async_trait]
impl api::node_server::Node for NodeService {
    async fn health(&self, request: Request<api::HealthRequest>) -> Result<Response<api::HealthResponse>, Status> {
        let node = self.asker.node();
        let status = self.asker.status(deadline_of(&request)).await?;
        let mut assessment = self.assessor.assess(&status);
        let statistics = self.assessor.statistics_soon().await.unwrap_or_else(|| {
            assessment.worsen("its store has not answered: how many keys it has and what they take is not known");
            StoreStatistics::default()
        });
        let peers = status.peers.iter().map(|peer| {
            let (state, detail) = peer_state(node, peer);
            api::PeerHealth { node_id: peer.id.as_str().to_owned(), state: state.into(), detail }
        });
        Ok(Response::new(api::HealthResponse {
            node_id: node.id().as_str().to_owned(),
            status: assessment.health.into(),
            uptime: Some(duration(node.uptime())),
            detail: assessment.detail,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: Some(Stamp { clock: status.clock, writer: node.id().clone() }.into()),
            keys_estimate: statistics.keys_estimate,
            disk_bytes: statistics.disk_bytes,
            peers: peers.collect(),
            serves: status.unready.is_none() && !status.store_failed,
        }))
    }

    async fn info(&self, request: Request<api::InfoRequest>) -> Result<Response<BoxStream<api::InfoResponse>>, Status> {
        let api::InfoRequest { prefix, limit } = request.into_inner();
        // No key is longer, so that no key begins with it; it would be scanned for in vain, key by key.
        if prefix.len() > KEY_BYTES_MAX {
            let source = crate::types::KeyError::TooLong { bytes: prefix.len() };
            return Err(invalid(&WireError::Key { field: "prefix", source }));
        }
        let Ok(permit) = Arc::clone(&self.scans).try_acquire_owned() else {
            return Err(Status::resource_exhausted(format!(
                "this node lists its keys to {SCANS_MAX} clients already: ask again later"
            )));
        };
        let left = if limit == 0 { u64::MAX } else { limit };
        let node = self.asker.node().clone();
        let scan = Scan { node, prefix, left, after: None, pages: 0, ended: false, _permit: permit };
        // The next page is read when the one before has gone to the transport: one client holds one page or two, however
        // many keys there are, and one that hangs up ends the scan.
        Ok(Response::new(Box::pin(stream::unfold(scan, Scan::next))))
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::NodeGetResponse>, Status> {
        let deadline = deadline_of(&request);
        let key = Key::try_from(request.into_inner()).map_err(|error| invalid(&error))?;
        let operation = self.asker.node().node_get(key.clone(), deadline.answer_at);
        let Some(record) = self.asker.ask(Purpose::Read, Some(&key), operation, deadline).await? else {
            return Ok(Response::new(api::NodeGetResponse { clocked_entry: None }));
        };
        let share = self.asker.release(&key, &record)?;
        let mut response = Response::new(api::NodeGetResponse { clocked_entry: Some((key, record).into()) });
        if let Some(share) = share {
            response.extensions_mut().insert(Arc::new(share));
        }
        Ok(response)
    }

    async fn set(&self, request: Request<api::NodeSetRequest>) -> Result<Response<api::SetResponse>, Status> {
        self.asker.operator_writes_allowed()?;
        let deadline = deadline_of(&request);
        let (key, content, stamp) = match NodeSet::try_from(request.into_inner()).map_err(|error| invalid(&error))? {
            NodeSet::Record(key, record) => (key, record.content, Some(record.stamp)),
            NodeSet::Entry(key, value) => (key, Content::Value(value), None),
        };
        let operation = self.asker.node().node_set(key.clone(), content, stamp, deadline.answer_at);
        let stamp = self.asker.ask(Purpose::Write, Some(&key), operation, deadline).await?;
        Ok(Response::new(api::SetResponse { clock: Some(stamp.into()) }))
    }
}

/// A walk over the keys of a replica, a page at a time.
struct Scan {
    node: NodeHandle,
    prefix: String,
    /// How many keys are still wanted.
    left: u64,
    after: Option<Cursor>,
    pages: usize,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Scan {
    async fn next(mut self) -> Option<(Result<api::InfoResponse, Status>, Self)> {
        while !self.ended {
            let keys_max = usize::try_from(self.left).unwrap_or(usize::MAX).min(PAGE_KEYS_MAX);
            let page = match self.node.keys(self.after.take(), self.prefix.clone(), keys_max).await {
                Ok(page) => page,
                Err(error) => {
                    self.ended = true;
                    return Some((Err(scan_failed(&error)), self));
                }
            };
            self.left = self.left.saturating_sub(page.keys.len() as u64);
            self.ended = page.next.is_none() || self.left == 0;
            self.after = page.next;
            // A step that found nothing is no page; only where there is nothing at all is that said in one.
            if !page.keys.is_empty() || (self.ended && self.pages == 0) {
                self.pages += 1;
                let response = api::InfoResponse {
                    node_id: self.node.id().as_str().to_owned(),
                    uptime: Some(duration(self.node.uptime())),
                    keys: page.keys.iter().map(|key| key.as_str().to_owned()).collect(),
                };
                return Some((Ok(response), self));
            }
        }
        None
    }
}
