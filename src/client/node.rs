//! One node as the client sees it: its connection, and whether it answered lately.
//!
//! The connection is made on first use and made anew whenever it breaks. `Standing` is a hint for choosing among
//! nodes, never a reason to refuse an operation: where all nodes are set aside, all are tried.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::error::InputProblem;
use super::permit::Permit;
use crate::api;
use crate::api::cluster_client::ClusterClient;
use crate::api::node_client::NodeClient;
use crate::limits::{CONNECTION_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES};

/// How long a connection may take to be made: a few round trips around the world.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// A connection that is silent for so long is asked for a sign of incarnation,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// and closed if there is none for so long.
const KEEPALIVE_TIME_MAX: Duration = Duration::from_secs(2);
/// How long an answer counts as recent. A write goes without a question to a node that answered this recently.
const RECENTLY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: String,
    endpoint: Endpoint,
    channel: OnceLock<Channel>,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    heard_at: Option<Instant>,
    aside: bool,
}

/// How sending a write came out, where it did not come out well.
#[derive(Debug)]
pub(super) struct SendFailure {
    pub(super) status: Status,
    /// The message certainly never left.
    pub(super) unsent: bool,
}

impl Node {
    pub(super) fn new(address: &str) -> Result<Self, InputProblem> {
        let endpoint = endpoint(address)?;
        Ok(Self {
            address: address.to_owned(),
            endpoint,
            channel: OnceLock::new(),
            standing: Mutex::new(Standing::default()),
        })
    }

    /// Only ever called within the runtime: making a channel spawns its worker there.
    fn channel(&self) -> Channel {
        self.channel.get_or_init(|| self.endpoint.connect_lazy()).clone()
    }

    pub(super) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Its health, by `deadline`.
    pub(super) async fn health(&self, deadline: Instant) -> Result<api::HealthResponse, Status> {
        let call = async { NodeClient::new(self.channel()).health(by(api::HealthRequest {}, deadline)).await };
        Ok(within(deadline, call).await?.into_inner())
    }

    /// Sends `message` once, and says of a failure whether it certainly never left.
    pub(super) async fn send_once<M, A>(
        &self,
        path: &'static str,
        message: M,
        deadline: Instant,
    ) -> Result<A, SendFailure>
    where
        M: prost::Message + Unpin + 'static,
        A: prost::Message + Default + 'static,
    {
        let (permit, message) = Permit::guard(message);
        let mut grpc = Grpc::new(self.channel())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let call = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let codec = ProstCodec::<M, A>::default();
            // A unary call is on the wire a stream of one message; only as a stream can it be guarded.
            grpc.client_streaming(by(message, deadline), PathAndQuery::from_static(path), codec).await
        };
        match within(deadline, call).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(SendFailure { status, unsent: permit.revoke() }),
        }
    }

    /// It answered.
    pub(super) fn heard(&self) {
        *self.standing() = Standing { heard_at: Some(Instant::now()), aside: false };
    }

    /// It failed, or has not answered for a while. True where that is news.
    pub(super) fn set_aside(&self) -> bool {
        let before = std::mem::replace(&mut *self.standing(), Standing { heard_at: None, aside: true });
        !before.aside
    }

    pub(super) fn is_aside(&self) -> bool {
        self.standing().aside
    }

    pub(super) fn answered_recently(&self) -> bool {
        let standing = self.standing();
        !standing.aside && standing.heard_at.is_some_and(|at| at.elapsed() < RECENTLY)
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        // Each change is one assignment, so that a panic elsewhere cannot leave it half done.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the node at `address`, a host and a port, is connected to.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, InputProblem> {
    let problem = |problem| InputProblem::Address { address: address.to_owned(), problem };
    let authority = match address.split_once("://") {
        None => address,
        Some(("http", authority)) => authority.trim_end_matches('/'),
        Some(_) => return Err(problem("only http is spoken, without encryption")),
    };
    let uri: Uri = format!("http://{authority}/").parse().map_err(|_| problem("it does not parse"))?;
    if uri.path() != "/" || uri.query().is_some() {
        return Err(problem("a path is not accepted"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(problem("the host is missing"));
    }
    if uri.port_u16().is_none() {
        return Err(problem("the port is missing"));
    }
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT_TIME_MAX)
        .tcp_nodelay(true)
        // At HTTP/2's default of 64 KiB a large value would cost a round trip for each.
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIME_MAX)
        .keep_alive_while_idle(true);
    Ok(endpoint)
}

/// A request that tells the node how long it may take.
pub(super) fn by<M>(message: M, deadline: Instant) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    request
}

/// `call`, or a status once the deadline has passed.
pub(super) async fn within<T>(deadline: Instant, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout_at(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(Status::deadline_exceeded("no answer before the deadline")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_host_and_port_with_or_without_scheme() {
        for address in ["127.0.0.1:8001", "http://127.0.0.1:8001", "http://n1.example:80/", "[::1]:8001", "n1:8001"] {
            assert!(Node::new(address).is_ok(), "{address}");
        }
    }

    #[test]
    fn bad_address_says_what_is_wrong() {
        for (address, part) in [
            ("", "does not parse"),
            ("127.0.0.1", "port is missing"),
            (":8001", "host is missing"),
            ("a b:1", "does not parse"),
            ("127.0.0.1:99999", "port is missing"),
            ("https://127.0.0.1:8001", "without encryption"),
            ("127.0.0.1:8001/x", "path"),
        ] {
            let message = Node::new(address).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("host:port is accepted"), "{address}: {message}");
        }
    }
}
