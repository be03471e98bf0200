//! A link that this node opens, and keeps open.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Request, Streaming};
use tracing::{debug, info, warn};

use crate::api;
use crate::api::peer_client::PeerClient;
use crate::limits::{LINK_KEEP_ALIVE, LINK_MESSAGE_BYTES_MAX};
use crate::log_limit::LogLimit;
use crate::resolve;
use crate::tls::Dialer;
use crate::types::{NodeId, NodeIndex};

use super::http_addresses::HttpAddresses;
use super::inbox::Inbox;
use super::{LinkEvent, Outbox, Sender, chain};

/// The longest time that connecting to a peer may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// The delay before the next attempt to connect: the first value, doubled after each failure up to the second.
const RECONNECT_AFTER: Duration = Duration::from_millis(50);
const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(1);
/// A link that was up for this long is steady: the delay begins anew.
const STEADY_AFTER: Duration = Duration::from_secs(5);
/// The flow-control window of a link: the bytes that may be under way unread. Each of gRPC's default windows of 64 KiB would
/// cost a round trip, and busy links send megabytes of small values. Chunks of large values have a window of their own.
const WINDOW_BYTES: u32 = 8 << 20;

/// How long a peer is tried before a warning says that it cannot be reached.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(10);
/// The most connections of one link that are logged in one interval. Lines about further ones are counted.
const LINES_MAX: u32 = 6;
const LINES_INTERVAL: Duration = Duration::from_mins(1);

/// The time since which a peer cannot be reached, and whether the log says so.
struct Outage {
    since: Instant,
    logged: bool,
}

/// Where a peer may be reached: the addresses are tried one after the other.
#[derive(Debug)]
pub struct Addresses(Mutex<Vec<Arc<str>>>);

impl Addresses {
    /// These addresses, of which there is at least one.
    #[must_use]
    pub fn new(addresses: Vec<Arc<str>>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(addresses)))
    }

    /// The next attempts try these.
    pub fn replace(&self, addresses: Vec<Arc<str>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// The address of the attempt of this number.
    fn of_attempt(&self, attempt: usize) -> Arc<str> {
        let addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(attempt % addresses.len().max(1)).cloned().unwrap_or_else(|| "".into())
    }
}

/// A link that this node opens.
#[derive(Debug)]
pub struct Link<E> {
    /// The peer at its other end.
    pub peer: NodeIndex,
    /// The peer's id, for the log.
    pub id: NodeId,
    /// The peer's host and port, and perhaps others where it may be.
    pub addresses: Arc<Addresses>,
    /// The number of the link: events of an earlier link to the same peer do not count.
    pub number: u64,
    /// Takes the messages to the peer.
    pub outbox: Arc<Outbox>,
    /// Takes the link's events.
    pub events: mpsc::Sender<E>,
    /// Has the address that this node tells.
    pub http_addresses: Arc<HttpAddresses>,
    /// Makes sure that it is this peer which answers there.
    pub dialer: Dialer,
}

impl<E: From<LinkEvent>> Link<E> {
    /// Keeps the link up, over any number of failures, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.keep_up() => {}
            () = shutdown.cancelled() => {}
        }
        self.outbox.close();
    }

    async fn keep_up(&self) {
        let up_lines = LogLimit::new(LINES_MAX, LINES_INTERVAL);
        let mut wait = RECONNECT_AFTER;
        let mut attempt = 0;
        let (peer, link) = (self.peer, self.number);
        let mut down = Outage { since: Instant::now(), logged: false };
        loop {
            let address = self.addresses.of_attempt(attempt);
            match self.connect(&address).await {
                Ok(answers) => {
                    // Both lines of one connection, or neither.
                    let left_out = up_lines.pass(Instant::now());
                    if let Some(left_out) = left_out {
                        info!(peer = %self.id, %address, left_out, "linked");
                    }
                    if self.events.send(LinkEvent::Up { peer, link }.into()).await.is_err() {
                        return;
                    }
                    let began = Instant::now();
                    let reason = self.receive(answers).await;
                    self.outbox.close();
                    if left_out.is_some() {
                        info!(peer = %self.id, %address, %reason, "link lost");
                    }
                    if self.events.send(LinkEvent::Down { peer, link }.into()).await.is_err() {
                        return;
                    }
                    down = Outage { since: Instant::now(), logged: false };
                    // A peer that accepts links and ends them at once is tried as rarely as one that cannot be reached.
                    if began.elapsed() >= STEADY_AFTER {
                        wait = RECONNECT_AFTER;
                    }
                }
                // One warning for each outage, and none while the nodes of a cluster start one after the other.
                Err(error) if !down.logged && down.since.elapsed() >= UNREACHABLE_AFTER => {
                    (down.logged, attempt) = (true, attempt + 1);
                    warn!(
                        peer = %self.id, %address, %error,
                        "cannot reach a peer for {} s; this node keeps trying", UNREACHABLE_AFTER.as_secs()
                    );
                }
                Err(error) => {
                    attempt += 1;
                    debug!(peer = %self.id, %address, %error, "cannot reach a peer");
                }
            }
            // No stream reads the outbox now. The protocol repeats what is dropped, once the link is up.
            self.outbox.close();
            // Jitter keeps nodes that lost each other from coming back in the same instant.
            let jittered = wait.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::time::sleep(jittered).await;
            wait = (wait * 2).min(RECONNECT_AFTER_MAX);
        }
    }

    async fn connect(&self, address: &str) -> Result<Streaming<api::PeerBatch>, String> {
        let endpoint = Endpoint::from_shared(format!("{}://{address}", self.dialer.scheme()))
            .map_err(|error| format!("{address} is not an address: {error}"))?
            .http2_keep_alive_interval(LINK_KEEP_ALIVE.interval)
            .keep_alive_timeout(LINK_KEEP_ALIVE.timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES);
        let open = async {
            let channel = resolve::connect(endpoint, self.dialer.clone(), CONNECT_TIME_MAX)
                .await
                .map_err(|error| chain(&error))?;
            let mut request = Request::new(self.outbox.open_with_hello());
            self.http_addresses.tell(request.metadata_mut());
            let mut client = api::sized!(PeerClient::new(channel), LINK_MESSAGE_BYTES_MAX);
            let answers = client.link(request).await.map_err(|status| chain(&status))?;
            Ok(answers.into_inner())
        };
        // The kernel still accepts connections for a process that is stopped.
        match tokio::time::timeout(2 * CONNECT_TIME_MAX, open).await {
            Ok(opened) => opened,
            Err(_) => Err(format!("no answer within {} s", 2 * CONNECT_TIME_MAX.as_secs())),
        }
    }

    async fn receive(&self, mut answers: Streaming<api::PeerBatch>) -> String {
        let mut inbox =
            Inbox::new(Sender::Opened(self.peer), self.id.clone(), self.events.clone(), Arc::clone(&self.outbox));
        loop {
            match answers.message().await {
                Ok(Some(batch)) => {
                    if !inbox.deliver_encoded(batch).await {
                        return "this node has ended".to_owned();
                    }
                }
                Ok(None) => return "closed by the peer".to_owned(),
                Err(status) => return chain(&status),
            }
        }
    }
}
