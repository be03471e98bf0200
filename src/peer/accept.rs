//! Links that peers open to this node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use crate::api;
use crate::api::peer_server::{Peer, PeerServer};
use crate::limits::LINK_MESSAGE_BYTES_MAX;
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::protocol::Message;
use crate::types::{ClusterParameters, Incarnation, NodeId, NodeIndex};
use crate::wire::batch::Batch;

use super::http_addresses::HttpAddresses;
use super::inbox::Inbox;
use super::{LinkEvent, Outbox, chain};

/// The longest time from the opening of a link to its hello. A silent link would be held for good.
const HELLO_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a refused link stays open, so that the refusal arrives before the stream ends.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// The lines about links without a hello, and about hellos of strangers: one in each interval, since anybody who reaches this
/// node's port can repeat them.
static NO_HELLO_LINES: LogLimit = LogLimit::new(1, Duration::from_secs(10));
static STRANGER_LINES: LogLimit = LogLimit::new(1, Duration::from_secs(10));

/// What links need to know of the node that accepts them.
#[derive(Debug)]
pub struct Acceptor<E> {
    /// The incarnation of the node.
    pub incarnation: Incarnation,
    /// Takes the links' events.
    pub events: mpsc::Sender<E>,
    /// Ends all links.
    pub ended: CancellationToken,
    /// Counts the batches and messages that are sent.
    pub metrics: Arc<Metrics>,
    /// The cluster whose members may open a link.
    pub parameters: ClusterParameters,
    /// Keeps the addresses that peers tell.
    pub http_addresses: Arc<HttpAddresses>,
}

// Derived, it would ask for `E: Clone`, which a sender does not need.
impl<E> Clone for Acceptor<E> {
    fn clone(&self) -> Self {
        Self {
            incarnation: self.incarnation,
            events: self.events.clone(),
            ended: self.ended.clone(),
            metrics: Arc::clone(&self.metrics),
            parameters: self.parameters.clone(),
            http_addresses: Arc::clone(&self.http_addresses),
        }
    }
}

/// The gRPC service that accepts links.
#[must_use]
pub fn peer_service<E: From<LinkEvent> + Send + 'static>(acceptor: Acceptor<E>) -> PeerServer<PeerService<E>> {
    api::sized!(PeerServer::new(PeerService { acceptor }), LINK_MESSAGE_BYTES_MAX)
}

/// Accepts links for one node.
#[derive(Debug)]
pub struct PeerService<E> {
    acceptor: Acceptor<E>,
}

#[tonic::async_trait]
impl<E: From<LinkEvent> + Send + 'static> Peer for PeerService<E> {
    async fn link(
        &self,
        request: Request<Streaming<api::PeerBatch>>,
    ) -> Result<Response<BoxStream<api::PeerBatch>>, Status> {
        let Acceptor { incarnation, events, ended, metrics, parameters, http_addresses } = self.acceptor.clone();
        let http_address = HttpAddresses::told(request.metadata());
        let outbox = Outbox::new(incarnation, metrics);
        let answers = outbox.open();
        let link = AcceptedLink {
            requests: request.into_inner(),
            outbox: Arc::clone(&outbox),
            events,
            parameters,
            http_address,
            http_addresses,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = link.run() => {}
                () = ended.cancelled() => {}
            }
            outbox.close();
        });
        Ok(Response::new(Box::pin(answers.map(Ok))))
    }
}

/// A link that a peer opened.
struct AcceptedLink<E> {
    requests: Streaming<api::PeerBatch>,
    outbox: Arc<Outbox>,
    events: mpsc::Sender<E>,
    parameters: ClusterParameters,
    /// The address that the peer has told.
    http_address: Option<String>,
    http_addresses: Arc<HttpAddresses>,
}

impl<E: From<LinkEvent>> AcceptedLink<E> {
    async fn run(mut self) {
        let first = match tokio::time::timeout(HELLO_TIME_MAX, self.requests.message()).await {
            Ok(Ok(Some(batch))) => batch,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(status)) => {
                debug!(%status, "a link ended before its hello");
                return;
            }
        };
        let Some((first, peer, id)) = self.introduce(first).await else { return };
        self.http_addresses.keep(peer, self.http_address.take());
        let accepted = LinkEvent::Accepted { peer, incarnation: first.from, outbox: Arc::clone(&self.outbox) };
        if self.events.send(accepted.into()).await.is_err() {
            return;
        }
        let mut inbox = Inbox::new(peer, id, self.events, self.outbox);
        if !inbox.deliver(first).await {
            return;
        }
        loop {
            let batch = match self.requests.message().await {
                Ok(Some(batch)) => batch,
                Ok(None) => return,
                Err(status) => {
                    debug!(peer = %inbox.id, status = %chain(&status), "a link that a peer opened ended");
                    return;
                }
            };
            if !inbox.deliver_encoded(batch).await {
                return;
            }
        }
    }

    /// The link's first batch, and the member that its hello names. The protocol decides which refusal a stranger gets; it
    /// is sent here, because the protocol keeps no state for strangers.
    async fn introduce(&self, first: api::PeerBatch) -> Option<(Batch, NodeIndex, NodeId)> {
        let mut problem = None;
        let first = Batch::decode(first, |error| problem = Some(error));
        let hello = first.as_ref().ok().and_then(|batch| batch.messages.iter().find_map(Message::hello));
        let (Ok(batch), Some(hello)) = (&first, hello) else {
            let problem = first.err().or(problem).map(|error| error.to_string()).unwrap_or_default();
            if let Some(left_out) = NO_HELLO_LINES.pass(Instant::now()) {
                warn!(problem, left_out, "refused a link that does not begin with a hello");
            }
            return None;
        };
        match self.parameters.member(&hello.node_id) {
            Some(peer) => {
                let id = hello.node_id.clone();
                Some((first.ok()?, peer, id))
            }
            None => {
                let refusal = crate::protocol::HelloRefusal::Cluster;
                if let Some(left_out) = STRANGER_LINES.pass(Instant::now()) {
                    warn!(peer = %hello.node_id, left_out, "refused a node that is no member: {refusal}");
                }
                let incarnation = batch.from;
                self.outbox.send(Some(incarnation), Message::HelloRefused { incarnation, refusal });
                tokio::time::sleep(REFUSAL_TIME).await;
                None
            }
        }
    }
}
