//! Links that peers open to this node.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
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
use crate::shares::{Account, Kind, Taken};
use crate::tls::{Caller, Trust};
use crate::types::{Incarnation, NodeId, NodeIndex};
use crate::wire::batch::Batch;

use super::http_addresses::HttpAddresses;
use super::inbox::Inbox;
use super::{LinkEvent, Outbox, Sender, chain};

/// The longest time from the opening of a link to its hello. A silent link would be held for good.
const HELLO_TIME_MAX: Duration = Duration::from_secs(5);

/// The lines about links without a hello: one in each interval, since anybody who reaches this node's port can repeat them.
static NO_HELLO_LINES: LogLimit = LogLimit::new(1, Duration::from_secs(10));
static CERTIFICATE_LINES: LogLimit = LogLimit::new(4, Duration::from_secs(10));

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
    /// Believes nodes by their certificates.
    pub trust: Arc<Trust>,
}

// Derived, it would ask for `E: Clone`, which a sender does not need.
impl<E> Clone for Acceptor<E> {
    fn clone(&self) -> Self {
        Self {
            incarnation: self.incarnation,
            events: self.events.clone(),
            ended: self.ended.clone(),
            metrics: Arc::clone(&self.metrics),
            trust: Arc::clone(&self.trust),
        }
    }
}

/// The gRPC service that accepts links.
#[must_use]
pub fn peer_service<E: From<LinkEvent> + Send + 'static>(acceptor: Acceptor<E>) -> PeerServer<PeerService<E>> {
    api::sized!(PeerServer::new(PeerService { acceptor }), LINK_MESSAGE_BYTES_MAX)
}

/// The refusal of a link whose certificate is not that of its node.
fn refuse_certificate(caller: Option<&Caller>, problem: &str) -> Status {
    let from = caller.and_then(|caller| caller.address).map_or_else(String::new, |address| address.to_string());
    if let Some(left_out) = CERTIFICATE_LINES.pass(Instant::now()) {
        warn!(from, left_out, "refused a link: {problem}");
    }
    Status::unauthenticated(format!("refused this link: {problem}"))
}

/// The refusal of a link while too many have not said who they are.
fn refuse_stranger(caller: Option<&Caller>) -> Status {
    let from = caller.and_then(|caller| caller.address).map_or_else(String::new, |address| address.to_string());
    if let Some(left_out) = NO_HELLO_LINES.pass(Instant::now()) {
        warn!(from, left_out, "refused a link: too many links wait for a hello, or too many from this address");
    }
    Status::resource_exhausted("too many links wait for a hello here: this node tries again")
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
        let Acceptor { incarnation, events, ended, metrics, trust } = self.acceptor.clone();
        let caller = request.extensions().get::<Caller>().cloned();
        if let Err(problem) = trust.check_peer(caller.as_ref()) {
            return Err(refuse_certificate(caller.as_ref(), &problem));
        }
        // A message of the largest size waits for its hello: not for each stream that anybody opens.
        let unknown = match request.extensions().get::<Arc<Account>>().map(|account| account.take(Kind::Hellos, 1)) {
            Some(Err(_)) => return Err(refuse_stranger(caller.as_ref())),
            Some(Ok(place)) => Some(place),
            None => None,
        };
        let http_address = HttpAddresses::told(request.metadata());
        let outbox = Outbox::new(incarnation, metrics);
        let answers = outbox.open();
        let (requests, taken, refusal) = (request.into_inner(), Arc::clone(&outbox), Arc::new(OnceLock::new()));
        let told = Arc::clone(&refusal);
        let link = Incoming { requests, outbox: taken, events, http_address, trust, caller, refusal: told, unknown };
        tokio::spawn(async move {
            tokio::select! {
                () = link.run() => {}
                () = ended.cancelled() => {}
            }
            outbox.close();
        });
        // The reason of a refusal ends the stream, so that the node which was refused can log it.
        let end = futures_util::stream::once(async move { refusal.get().cloned() });
        Ok(Response::new(Box::pin(answers.map(Ok).chain(end.filter_map(async |status| status.map(Err))))))
    }
}

/// A link that a peer has opened.
#[derive(Debug)]
pub struct AcceptedLink {
    /// The peer's id, as the first messages state it.
    pub id: NodeId,
    /// The peer's incarnation, as they state it.
    pub incarnation: Incarnation,
    /// Takes answers for that incarnation alone.
    pub outbox: Arc<Outbox>,
    /// The address for HTTP that the peer has told.
    pub http_address: Option<String>,
    /// The index that the node has given the peer; [`NO_INDEX`] before that.
    index: AtomicU32,
}

/// No node has this index.
const NO_INDEX: u32 = u32::MAX;

impl AcceptedLink {
    /// The index of the peer, once the node has given it one.
    #[must_use]
    pub fn peer(&self) -> Option<NodeIndex> {
        u16::try_from(self.index.load(Ordering::Relaxed)).ok().map(NodeIndex)
    }

    /// The node has given the peer this index.
    pub fn is_of(&self, peer: NodeIndex) {
        self.index.store(u32::from(peer.0), Ordering::Relaxed);
    }
}

/// A link that a peer opened, at its beginning.
struct Incoming<E> {
    requests: Streaming<api::PeerBatch>,
    outbox: Arc<Outbox>,
    events: mpsc::Sender<E>,
    /// The address that the peer has told.
    http_address: Option<String>,
    trust: Arc<Trust>,
    /// The other end of the connection.
    caller: Option<Caller>,
    /// Takes the reason of a refusal, which ends the link.
    refusal: Arc<OnceLock<Status>>,
    /// Its place among the links of nodes that have not said who they are.
    unknown: Option<Taken>,
}

impl<E: From<LinkEvent>> Incoming<E> {
    async fn run(self) {
        let Self { mut requests, outbox, events, http_address, trust, caller, refusal, unknown } = self;
        let first = match tokio::time::timeout(HELLO_TIME_MAX, requests.message()).await {
            Ok(Ok(Some(batch))) => batch,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(status)) => {
                debug!(%status, "a link ended before its hello");
                return;
            }
        };
        let Some((first, id)) = begin_with_hello(first) else { return };
        // Before anything else that the hello says: it counts only if it is the node's own, be it a member or not.
        if let Err(problem) = trust.check_id(caller.as_ref(), &id) {
            let _ = refusal.set(refuse_certificate(caller.as_ref(), &problem));
            return;
        }
        drop(unknown);
        let (incarnation, index) = (first.from, AtomicU32::new(NO_INDEX));
        let link = AcceptedLink { id: id.clone(), incarnation, outbox: Arc::clone(&outbox), http_address, index };
        let mut inbox = Inbox::new(Sender::Accepted(Arc::new(link)), id, events, outbox);
        if !inbox.deliver(first).await {
            return;
        }
        loop {
            let batch = match requests.message().await {
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
}

/// The link's first batch, and the id that its hello states. Whoever that is, the protocol decides what it is answered.
fn begin_with_hello(first: api::PeerBatch) -> Option<(Batch, NodeId)> {
    let mut problem = None;
    let first = Batch::decode(first, |error| problem = Some(error));
    let hello = first.as_ref().ok().and_then(|batch| batch.messages.iter().find_map(Message::hello));
    let (Ok(_), Some(hello)) = (&first, hello) else {
        let problem = first.err().or(problem).map(|error| error.to_string()).unwrap_or_default();
        if let Some(left_out) = NO_HELLO_LINES.pass(Instant::now()) {
            warn!(problem, left_out, "refused a link that does not begin with a hello");
        }
        return None;
    };
    let id = hello.node_id.clone();
    Some((first.ok()?, id))
}
