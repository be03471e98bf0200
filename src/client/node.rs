//! One node as the client sees it: its connection, and whether it answered recently.
//!
//! The connection is made on first use, and again whenever it breaks. `Responsiveness` is only a hint for choosing among
//! nodes: if all nodes are avoided, all of them are tried.

use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Endpoint, Uri};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::error::InputProblem;
use super::permit::Permit;
use crate::api;
use crate::api::cluster_client::ClusterClient;
use crate::api::members_client::MembersClient;
use crate::api::node_client::NodeClient;
use crate::api::tables_client::TablesClient;
use crate::api::tokens_client::TokensClient;
use crate::limits::{
    CLIENT_CONNECTION_WINDOW_BYTES, CLIENT_KEEP_ALIVE, CLIENT_STREAM_WINDOW_BYTES, RESETS_PER_CONNECTION_MAX,
};
use crate::resolve::{self, NodeChannel};
use crate::tls::Dialer;

/// How long making a connection may take, the look-up of the name included: a few round trips around the world.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// How long an answer counts as recent. A write goes without a health check to a node that answered recently.
const RECENT_TIME_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: String,
    endpoint: Endpoint,
    dialer: Dialer,
    channel: OnceLock<NodeChannel>,
    responsiveness: Mutex<Responsiveness>,
    /// The id that it told last.
    id: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Responsiveness {
    answered_at: Option<Instant>,
    is_avoided: bool,
}

/// Why a write was not acknowledged.
#[derive(Debug)]
pub(super) struct SendFailure {
    pub(super) status: Status,
    /// Whether the message certainly never left this process.
    pub(super) unsent: bool,
}

impl Node {
    pub(super) fn new(address: &str, dialer: Dialer) -> Result<Self, InputProblem> {
        let endpoint = endpoint(address, &dialer)?;
        Ok(Self {
            address: address.to_owned(),
            endpoint,
            dialer,
            channel: OnceLock::new(),
            responsiveness: Mutex::new(Responsiveness::default()),
            id: Mutex::new(None),
        })
    }

    /// Must be called within the runtime: making a channel spawns its worker there.
    fn channel(&self) -> NodeChannel {
        let connect = || resolve::connect_lazily(self.endpoint.clone(), self.dialer.clone(), CONNECT_TIME_MAX);
        self.channel.get_or_init(connect).clone()
    }

    pub(super) fn cluster(&self) -> ClusterClient<NodeChannel> {
        api::sized!(ClusterClient::new(self.channel()))
    }

    pub(super) fn tables(&self) -> TablesClient<NodeChannel> {
        api::sized!(TablesClient::new(self.channel()))
    }

    pub(super) fn tokens(&self) -> TokensClient<NodeChannel> {
        api::sized!(TokensClient::new(self.channel()))
    }

    pub(super) fn members(&self) -> MembersClient<NodeChannel> {
        api::sized!(MembersClient::new(self.channel()))
    }

    /// Asks for the node's health.
    pub(super) async fn health(&self, deadline: Instant) -> Result<api::HealthResponse, Status> {
        let call = async { NodeClient::new(self.channel()).health(by(api::HealthRequest {}, deadline)).await };
        let health = within(deadline, call).await?.into_inner();
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = Some(health.node_id.clone());
        Ok(health)
    }

    /// The id that the node told last; `None` if it was never asked for its health.
    pub(super) fn id(&self) -> Option<String> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the id that the node told last is one of these.
    pub(super) fn has_id_of(&self, ids: &[&str]) -> bool {
        let id = self.id.lock().unwrap_or_else(PoisonError::into_inner);
        id.as_deref().is_some_and(|id| ids.contains(&id))
    }

    /// Orders a comparison of the node's records with its peers', or a scrub.
    pub(super) async fn repair(
        &self,
        request: api::RepairRequest,
        deadline: Instant,
    ) -> Result<api::RepairResponse, Status> {
        let call = async { NodeClient::new(self.channel()).repair(by(request, deadline)).await };
        Ok(within(deadline, call).await?.into_inner())
    }

    /// Sends `message` once. A failure says whether the message certainly never left this process.
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
        let mut grpc = api::sized!(Grpc::new(self.channel()));
        let call = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let codec = ProstCodec::<M, A>::default();
            // On the wire a unary call is a stream of one message. Only a stream can be guarded by a permit.
            grpc.client_streaming(by(message, deadline), PathAndQuery::from_static(path), codec).await
        };
        match within(deadline, call).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(SendFailure { status, unsent: permit.revoke() }),
        }
    }

    /// Records that the node answered: it is avoided no longer.
    pub(super) fn record_answer(&self) {
        *self.responsiveness() = Responsiveness { answered_at: Some(Instant::now()), is_avoided: false };
    }

    /// Records that the node failed, or has not answered for a while. Returns whether it was not avoided before.
    pub(super) fn avoid(&self) -> bool {
        let now = Responsiveness { answered_at: None, is_avoided: true };
        !std::mem::replace(&mut *self.responsiveness(), now).is_avoided
    }

    pub(super) fn is_avoided(&self) -> bool {
        self.responsiveness().is_avoided
    }

    pub(super) fn answered_recently(&self) -> bool {
        let state = self.responsiveness();
        !state.is_avoided && state.answered_at.is_some_and(|at| at.elapsed() < RECENT_TIME_MAX)
    }

    fn responsiveness(&self) -> std::sync::MutexGuard<'_, Responsiveness> {
        // Each change is one assignment, so a panic elsewhere cannot leave it half done.
        self.responsiveness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How to connect to the node at `address`, a host and a port, as securely as `dialer` says.
pub(crate) fn endpoint(address: &str, dialer: &Dialer) -> Result<Endpoint, InputProblem> {
    let problem = |problem| InputProblem::Address { address: address.to_owned(), problem };
    let authority = match address.split_once("://") {
        None => address,
        Some((scheme, authority)) if scheme == dialer.scheme() => authority.trim_end_matches('/'),
        Some(("https", _)) => return Err(problem("https needs the CA of the cluster: give it (--ca FILE)")),
        Some(("http", _)) => {
            return Err(problem("http has no encryption, and a CA is given: write https, or no scheme"));
        }
        Some(_) => return Err(problem("only http and https are supported")),
    };
    let uri: Uri = format!("{}://{authority}/", dialer.scheme()).parse().map_err(|_| problem("it does not parse"))?;
    if uri.path() != "/" || uri.query().is_some() {
        return Err(problem("a path is not accepted"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(problem("the host is missing"));
    }
    if uri.port_u16().is_none() {
        return Err(problem("the port is missing"));
    }
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    if dialer.authorization().is_some() && !dialer.is_secure() && !is_here {
        return Err(problem(
            "a token is not sent to another machine without TLS: give the CA of the cluster (--ca FILE)",
        ));
    }
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT_TIME_MAX)
        .tcp_nodelay(true)
        // With HTTP/2's default window a large value would cost a round trip for every 64 KiB.
        .initial_stream_window_size(CLIENT_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CLIENT_CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(CLIENT_KEEP_ALIVE.interval)
        .keep_alive_timeout(CLIENT_KEEP_ALIVE.timeout)
        .keep_alive_while_idle(true)
        // A read that was given up is remembered, so that its late answer is not taken for an error of the connection.
        .http2_max_concurrent_reset_streams(RESETS_PER_CONNECTION_MAX)
        .http2_max_local_error_reset_streams(None);
    Ok(endpoint)
}

/// A request that carries the time left until `deadline` to the node.
pub(super) fn by<M>(message: M, deadline: Instant) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    request
}

/// The result of `call`, or DEADLINE_EXCEEDED once the deadline has passed.
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
            assert!(Node::new(address, Dialer::default()).is_ok(), "{address}");
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
            ("https://127.0.0.1:8001", "--ca"),
            ("ftp://127.0.0.1:8001", "only http"),
            ("127.0.0.1:8001/x", "path"),
        ] {
            let message = Node::new(address, Dialer::default()).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("host:port is accepted"), "{address}: {message}");
        }
    }
}
