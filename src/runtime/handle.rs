//! What the gateway holds of a node: a cheap handle to ask it with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::limits::{REQUEST_OVERHEAD_BYTES, SCAN_ENTRIES_MAX};
use crate::metrics::Metrics;
use crate::peer::Acceptor;
use crate::protocol::placement::Placement;
use crate::protocol::{Command, PeerView, Reply, Unready};
use crate::storage::{Cursor, KeysPage, PageBounds, Store, StoreError, StoreStatistics};
use crate::types::{Clock, Incarnation, NodeId, NodeIndex};

use super::event::{ClientRequest, Event};

/// A handle to a running node. Clones ask the same node.
#[derive(Clone)]
pub struct NodeHandle {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) me: NodeIndex,
    pub(super) placement: Arc<Placement>,
    pub(super) addresses: Vec<String>,
    pub(super) operator_writes: bool,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) admission: Admission,
    pub(super) incarnation: Incarnation,
    pub(super) links_end: CancellationToken,
    pub(super) started_at: Instant,
}

/// Bounds what client requests hold at once.
pub(super) struct Admission {
    requests: Arc<Semaphore>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    requests_max: usize,
}

/// A request's share of the bounds, given back when it is dropped: when the request has ended, not when its client
/// hangs up, since a write goes on.
pub(super) struct Permit {
    _request: tokio::sync::OwnedSemaphorePermit,
    bytes: usize,
    held: Arc<AtomicUsize>,
}

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The node works on as many requests as it may. Nothing was done.
    #[error(
        "the node works on {requests_max} requests already: send fewer at once, spread them over the nodes, or raise \
         node.requests_in_flight_max"
    )]
    TooManyRequests {
        /// The bound.
        requests_max: usize,
    },
    /// The requests that the node works on hold as many bytes as they may. Nothing was done.
    #[error(
        "requests in flight hold {bytes_max} bytes already: send fewer at once, spread them over the nodes, or raise \
         node.request_bytes_in_flight_max"
    )]
    TooManyBytes {
        /// The bound.
        bytes_max: usize,
    },
    /// The node has ended. Nothing was done.
    #[error("the node has ended: ask another one")]
    Ended,
    /// The node ended while it worked on the request. A write may have happened, or may yet: others may have its copies.
    #[error("the node ended before the request did")]
    Abandoned,
}

/// How a node is at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Why it takes no requests, where it does not.
    pub unready: Option<Unready>,
    /// Whether its disk takes no writes.
    pub store_failed: bool,
    /// Its clock.
    pub clock: Clock,
    /// Client requests that are under way.
    pub requests: usize,
    /// All members but this one, in order.
    pub peers: Vec<PeerStatus>,
}

impl Status {
    /// Whether messages pass between the node and every other member.
    #[must_use]
    pub fn all_talk(&self) -> bool {
        self.peers.iter().all(|peer| peer.view == PeerView::Talking)
    }
}

/// How a node sees a peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Which.
    pub member: NodeIndex,
    /// Its id.
    pub id: NodeId,
    /// How it stands.
    pub view: PeerView,
    /// How long ago it was last heard from; `None` where never in this run.
    pub last_seen: Option<Duration>,
    /// What waits to be sent to it, in bytes.
    pub queued_bytes: usize,
}

impl NodeHandle {
    /// Runs `command` and answers what became of it, at `deadline` at the latest. It goes on if the caller does not
    /// wait.
    ///
    /// # Errors
    /// When it was not begun, or the node ended meanwhile.
    pub async fn run(&self, command: Command, deadline: Instant) -> Result<Reply, Rejected> {
        let permit = self.inner.admission.admit(&command)?;
        let (reply, replied) = oneshot::channel();
        let request = ClientRequest { command, deadline, reply, permit };
        self.inner.events.send(Event::Request(request)).await.map_err(|_| Rejected::Ended)?;
        replied.await.map_err(|_| Rejected::Abandoned)
    }

    /// How the node is now.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn status(&self) -> Result<Status, Rejected> {
        let (reply, replied) = oneshot::channel();
        self.inner.events.send(Event::Status(reply)).await.map_err(|_| Rejected::Ended)?;
        replied.await.map_err(|_| Rejected::Ended)
    }

    /// A part of this replica's keys that have a value; see [`Store::keys`].
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn keys(&self, after: Option<Cursor>, prefix: String, keys_max: usize) -> Result<KeysPage, StoreError> {
        let store = Arc::clone(&self.inner.store);
        let bounds = PageBounds { keys_max, bytes_max: crate::limits::PAGE_BYTES_MAX, looked_at_max: SCAN_ENTRIES_MAX };
        let scan = tokio::task::spawn_blocking(move || store.keys(after.as_ref(), &prefix, bounds));
        scan.await.unwrap_or_else(|error| Err(StoreError::Failed { message: error.to_string() }))
    }

    /// What the store says of itself. It asks the file system; not for every request.
    ///
    /// # Errors
    /// When the node ends meanwhile.
    pub async fn store_statistics(&self) -> Result<StoreStatistics, Rejected> {
        let store = Arc::clone(&self.inner.store);
        tokio::task::spawn_blocking(move || store.statistics()).await.map_err(|_| Rejected::Ended)
    }

    /// What [`crate::peer::peer_service`] needs to accept links for this node.
    #[must_use]
    pub fn link_acceptor(&self) -> Acceptor<Event> {
        Acceptor {
            incarnation: self.inner.incarnation,
            events: self.inner.events.clone(),
            ended: self.inner.links_end.clone(),
            metrics: Arc::clone(&self.inner.metrics),
            parameters: self.placement().parameters().clone(),
        }
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        self.inner.placement.parameters().id(self.inner.me)
    }

    /// This node.
    #[must_use]
    pub fn member(&self) -> NodeIndex {
        self.inner.me
    }

    /// Who holds what.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.inner.placement
    }

    /// Where `member` is reached, as this node's cluster file says.
    #[must_use]
    pub fn address(&self, member: NodeIndex) -> &str {
        &self.inner.addresses[member.index()]
    }

    /// Whether Node/Set and Clock/Set are allowed.
    #[must_use]
    pub fn operator_writes(&self) -> bool {
        self.inner.operator_writes
    }

    /// How long the node has run.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.inner.started_at.elapsed()
    }

    /// What the node counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }
}

impl Admission {
    pub(super) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests_max)),
            bytes: Arc::new(AtomicUsize::new(0)),
            bytes_max,
            requests_max,
        }
    }

    fn admit(&self, command: &Command) -> Result<Permit, Rejected> {
        let request = Arc::clone(&self.requests)
            .try_acquire_owned()
            .map_err(|_| Rejected::TooManyRequests { requests_max: self.requests_max })?;
        let bytes = bytes_of(command);
        let grow = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.bytes_max);
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow)
            .map_err(|_| Rejected::TooManyBytes { bytes_max: self.bytes_max })?;
        Ok(Permit { _request: request, bytes, held: Arc::clone(&self.bytes) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn bytes_of(command: &Command) -> usize {
    let (key, value_bytes) = match command {
        Command::Get { key } | Command::NodeGet { key } => (Some(key), 0),
        Command::Set { key, content, .. } | Command::NodeSet { key, content, .. } => (Some(key), content.value_bytes()),
        Command::ClockGet | Command::ClockRaise { .. } => (None, 0),
    };
    REQUEST_OVERHEAD_BYTES + key.map_or(0, |key| key.as_bytes().len()) + value_bytes
}
