//! Links to peers: one gRPC stream each way, on which whatever waits goes into one message.
//!
//! Contract: best effort. What is sent on a link arrives once while the link holds, in the order in which it was sent, except
//! that large values are overtaken; when it breaks, or when too much waits, messages are lost. The protocol expects all of
//! that. Nobody who sends ever waits.
//!
//! Each node opens a link to each other node, and says on it all that it has to say to that node: its requests and its
//! answers, in one message where both wait. What the peer says comes on the link that the peer opened. A link answers its
//! opener only until the two have met: with a welcome, or a refusal.
//!
//! Batching needs no timer: a stream asks its [`Outbox`] for the next message when it can write one, and takes
//! everything that waits by then. An idle link adds no delay, and a busy one packs its messages fuller.

mod inbox;
mod outbox;
mod send_window;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use rand::RngExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use crate::api;
use crate::api::peer_client::PeerClient;
use crate::api::peer_server::{Peer, PeerServer};
use crate::limits::LINK_MESSAGE_BYTES_MAX;
use crate::protocol::{HelloRefusal, Message};
use crate::runtime::{Event, NodeHandle};
use crate::types::{ClusterParameters, Incarnation, NodeId, NodeIndex};

use inbox::Inbox;
pub use outbox::{Outbox, OutboxStream, Sent};

/// How long connecting to a peer may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// How long one who opened a link may take to say who it is.
const INTRODUCTION_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a node waits before it tries a peer again: doubled each time between these two.
const RECONNECT_AFTER: Duration = Duration::from_millis(50);
const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(1);
/// A link that has said nothing for so long is asked whether it still is; one that does not answer is opened anew. It
/// finds cuts that TCP does not report, and must outlast a busy machine's hiccups.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(2);
const KEEPALIVE_TIME_MAX: Duration = Duration::from_secs(4);
/// Flow-control windows of a link: what may be on its way unread. Each of gRPC's default windows of 64 KiB would cost a
/// round trip, and busy links send megabytes of small values. Pieces of large ones have a bound of their own.
const WINDOW_BYTES: u32 = 8 << 20;

/// A link that this node opens.
pub struct Link {
    /// To whom.
    pub peer: NodeIndex,
    /// Its id, for the log.
    pub id: NodeId,
    /// Where it is reached: host and port.
    pub address: String,
    /// What is to be sent.
    pub outbox: Arc<Outbox>,
    /// Where what comes back goes.
    pub events: mpsc::Sender<Event>,
}

impl Link {
    /// Keeps the link up, over any number of failures, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.keep_up() => {}
            () = shutdown.cancelled() => {}
        }
        self.outbox.close();
    }

    async fn keep_up(&self) {
        let mut wait = RECONNECT_AFTER;
        let mut said_unreachable = false;
        loop {
            match self.connect().await {
                Ok(answers) => {
                    info!(peer = %self.id, address = %self.address, "linked");
                    (wait, said_unreachable) = (RECONNECT_AFTER, false);
                    if self.events.send(Event::Linked(self.peer)).await.is_err() {
                        return;
                    }
                    let ended = self.receive(answers).await;
                    self.outbox.close();
                    info!(peer = %self.id, address = %self.address, reason = %ended, "link lost");
                    if self.events.send(Event::Unlinked(self.peer)).await.is_err() {
                        return;
                    }
                }
                // Once for each time that it goes away, and not while the nodes of a cluster start one after the other.
                Err(error) if !said_unreachable && wait >= RECONNECT_AFTER_MAX => {
                    said_unreachable = true;
                    warn!(peer = %self.id, address = %self.address, %error, "cannot reach peer; trying on");
                }
                Err(error) => debug!(peer = %self.id, %error, "cannot reach peer"),
            }
            // Nobody reads it any more: what is sent now is lost, and asked for again once the link is up.
            self.outbox.close();
            // Jitter, so that nodes that lost each other do not all come back in the same instant.
            let jittered = wait.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::time::sleep(jittered).await;
            wait = (wait * 2).min(RECONNECT_AFTER_MAX);
        }
    }

    async fn connect(&self) -> Result<Streaming<api::PeerBatch>, String> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))
            .map_err(|error| format!("{} is not an address: {error}", self.address))?
            .connect_timeout(CONNECT_TIME_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_AFTER)
            .keep_alive_timeout(KEEPALIVE_TIME_MAX)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES);
        let open = async {
            let channel: Channel = endpoint.connect().await.map_err(|error| chain(&error))?;
            let mut client = PeerClient::new(channel)
                .max_decoding_message_size(LINK_MESSAGE_BYTES_MAX)
                .max_encoding_message_size(LINK_MESSAGE_BYTES_MAX);
            let answers = client.link(self.outbox.open()).await.map_err(|status| chain(&status))?;
            Ok(answers.into_inner())
        };
        // A process that is stopped still has its connections accepted by the kernel.
        match tokio::time::timeout(2 * CONNECT_TIME_MAX, open).await {
            Ok(opened) => opened,
            Err(_) => Err(format!("no answer within {} s", 2 * CONNECT_TIME_MAX.as_secs())),
        }
    }

    async fn receive(&self, mut answers: Streaming<api::PeerBatch>) -> String {
        let mut inbox = Inbox::new(self.peer, self.id.clone(), self.events.clone(), Arc::clone(&self.outbox));
        loop {
            match answers.message().await {
                Ok(Some(batch)) => {
                    if !inbox.deliver(batch).await {
                        return "this node has ended".to_owned();
                    }
                }
                Ok(None) => return "closed by the peer".to_owned(),
                Err(status) => return chain(&status),
            }
        }
    }
}

/// The gRPC service that peers open their links to.
#[must_use]
pub fn peer_service(node: NodeHandle) -> PeerServer<PeerService> {
    PeerServer::new(PeerService { node })
        .max_decoding_message_size(LINK_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(LINK_MESSAGE_BYTES_MAX)
}

/// Serves the links that peers open.
pub struct PeerService {
    node: NodeHandle,
}

#[tonic::async_trait]
impl Peer for PeerService {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<api::PeerBatch, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<api::PeerBatch>>) -> Result<Response<Self::LinkStream>, Status> {
        let (incarnation, events, ended) = self.node.link_ends();
        let outbox = Outbox::new(incarnation, self.node.shared_metrics());
        let answers = outbox.open();
        let parameters = self.node.placement().parameters().clone();
        let link = ServedLink { requests: request.into_inner(), outbox: Arc::clone(&outbox), events, parameters };
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
struct ServedLink {
    requests: Streaming<api::PeerBatch>,
    outbox: Arc<Outbox>,
    events: mpsc::Sender<Event>,
    parameters: ClusterParameters,
}

impl ServedLink {
    async fn run(mut self) {
        // One that opens a link and says nothing would hold it for good.
        let first = match tokio::time::timeout(INTRODUCTION_TIME_MAX, self.requests.message()).await {
            Ok(Ok(Some(batch))) => batch,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(status)) => {
                debug!(%status, "a link ended before its hello");
                return;
            }
        };
        let Some((peer, id)) = self.introduced(&first).await else { return };
        let Some(incarnation) = first.from.map(Incarnation::from) else { return };
        if self.events.send(Event::Served(peer, incarnation, Arc::clone(&self.outbox))).await.is_err() {
            return;
        }
        let mut inbox = Inbox::new(peer, id, self.events, self.outbox);
        let mut batch = first;
        loop {
            if !inbox.deliver(batch).await {
                return;
            }
            batch = match self.requests.message().await {
                Ok(Some(batch)) => batch,
                Ok(None) => return,
                Err(status) => {
                    debug!(peer = %inbox.id, status = %chain(&status), "a link that a peer opened ended");
                    return;
                }
            };
        }
    }

    /// Who opened the link. One who is no member is told so here: the protocol knows members alone.
    async fn introduced(&self, first: &api::PeerBatch) -> Option<(NodeIndex, NodeId)> {
        let hello = first.messages.iter().find_map(|message| match &message.body {
            Some(api::peer_message::Body::Hello(hello)) => Some(hello),
            _ => None,
        });
        let Some(hello) = hello else {
            warn!("refused a link that does not begin with a hello");
            return None;
        };
        let member = NodeId::new(&hello.node_id).ok().and_then(|id| Some((self.parameters.member(&id)?, id)));
        if member.is_none() {
            warn!(
                peer = ?hello.node_id,
                "refused a node that is not in this node's cluster file: give all nodes the same one"
            );
            let incarnation = first.from.map(Incarnation::from)?;
            self.outbox.send(Some(incarnation), Message::HelloRefused { incarnation, refusal: HelloRefusal::Cluster });
            // Ending the stream at once would take the refusal with it.
            tokio::time::sleep(CONNECT_TIME_MAX).await;
        }
        member
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
