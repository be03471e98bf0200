//! The gRPC side of a node: Cluster, Node and Clock for clients and operators, Peer for other nodes, health checks and
//! reflection for tools.
//!
//! Contract: each request is answered a little before its deadline, with a status that says what became of it. What a
//! client sends is bounded before it is read whole, and what it is sent until it has read it. A request's failure is one
//! line in the log, whoever found it. A write that the node has begun goes on when its client hangs up: what is dropped
//! with the connection is who waits for it, not the write.

mod answer;
mod clock;
mod cluster;
mod deadline;
mod health;
mod node;
mod observe;
mod transit;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};
use tracing::error;

use crate::api;
use crate::api::clock_server::ClockServer;
use crate::api::cluster_server::ClusterServer;
use crate::api::node_server::NodeServer;
use crate::limits::{
    CLOSE_TIME_MAX, CONNECTION_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX,
};
use crate::peer;
use crate::runtime::{NodeHandle, RequestError, Status as NodeStatus};
use crate::service::health::Assessor;
use crate::types::{Key, Record};
use crate::wire::failure::FailureReason;

use answer::{Purpose, Subject, refused};
use clock::ClockService;
use cluster::ClusterService;
use deadline::Deadline;
use node::NodeService;
use observe::{Observatory, Observed, observed};
use transit::{Counted, Share, Transit};

/// A connection that has said nothing for so long is asked whether it still is; one whose client is gone without a word
/// would hold its buffers for good.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(20);
/// How long it may take to answer that.
const KEEPALIVE_TIME_MAX: Duration = Duration::from_secs(10);

/// Values up to this size are not counted while they are sent: as many of them as a node works on by default are 16 MiB,
/// and most answers are smaller.
const UNCOUNTED_VALUE_BYTES: usize = 16 << 10;

/// Serves `node` to clients, operators and peers on `listener` until `shutdown` is cancelled. Then it takes no more
/// connections, tells those that are open, answers what is under way, and returns once all are closed, or after
/// [`CLOSE_TIME_MAX`].
///
/// Drain the node first: requests that arrive while it drains are refused as not applied, so that clients turn to
/// another node.
///
/// # Errors
/// When the transport fails as a whole; the failure of one connection is its own.
pub async fn serve(
    listener: TcpListener,
    node: NodeHandle,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (reporter, health_server) = tonic_health::server::health_reporter();
    health::report(&reporter, false).await;
    let front = Front::new(&node, vec![route(health_server)]);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = server().serve_with_incoming_shutdown(front, incoming, shutdown.clone().cancelled_owned());
    let closed_by_force = async {
        shutdown.cancelled().await;
        tokio::time::sleep(CLOSE_TIME_MAX).await;
    };
    let following = async {
        health::follow(reporter, node).await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        served = serving => served,
        () = closed_by_force => Ok(()),
        never = following => match never {},
    }
}

/// The transport as a node serves it. Also for a server that is compared with a node.
pub(crate) fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_AFTER))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIME_MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
}

/// Asks the node on behalf of a service.
#[derive(Clone)]
struct Asker {
    node: NodeHandle,
    transit: Arc<Transit>,
}

impl Asker {
    fn node(&self) -> &NodeHandle {
        &self.node
    }

    /// Waits for an operation of the node, which is about `key` if it is about one.
    async fn ask<T>(
        &self,
        purpose: Purpose,
        key: Option<&Key>,
        operation: impl Future<Output = Result<T, RequestError>>,
        deadline: Deadline,
    ) -> Result<T, Status> {
        let subject = Subject { purpose, key, placement: self.node.placement() };
        match tokio::time::timeout_at(deadline.give_up_at.into(), operation).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(RequestError::Failed(failure))) => Err(subject.failed(failure)),
            Ok(Err(RequestError::Rejected(rejected))) => Err(subject.rejected(&rejected)),
            Err(_) => Err(subject.unanswered("the node did not answer in time")),
        }
    }

    /// How the node is.
    async fn status(&self, deadline: Deadline) -> Result<NodeStatus, Status> {
        match tokio::time::timeout_at(deadline.give_up_at.into(), self.node.status()).await {
            Ok(status) => status.map_err(|rejected| self.about_node().rejected(&rejected)),
            Err(_) => Err(self.about_node().unanswered("the node did not answer in time")),
        }
    }

    /// The subject of questions about the node.
    fn about_node(&self) -> Subject<'_> {
        Subject { purpose: Purpose::Read, key: None, placement: self.node.placement() }
    }

    /// Lets a record out to a client: checks that it is what was written, and that there is room for it on its way. The
    /// share goes with the response.
    fn release(&self, key: &Key, record: &Record) -> Result<Option<Share>, Status> {
        let subject = Subject { purpose: Purpose::Read, key: Some(key), placement: self.node.placement() };
        if !record.is_intact(key) {
            error!(%key, stamp = %record.stamp, "a record's checksum does not match its content; it was not given out");
            return Err(subject.damaged(record));
        }
        let bytes = record.content.value_bytes();
        if bytes <= UNCOUNTED_VALUE_BYTES {
            return Ok(None);
        }
        let mut share = self.transit.share();
        if share.grow(bytes) { Ok(Some(share)) } else { Err(subject.no_room()) }
    }

    /// Whether an operator may write to one replica.
    fn operator_writes_allowed(&self) -> Result<(), Status> {
        if self.node.operator_writes() {
            return Ok(());
        }
        let message = "this node's configuration does not allow Node/Set and Clock/Set, which write past the quorum: to \
                       allow them, set node.operator_writes: true in node.yml and restart the node (for ordinary writes \
                       use Cluster/Set)";
        Err(refused(FailureReason::OperatorWritesOff, message))
    }
}

/// The deadline that the front has given a request.
fn deadline_of<T>(request: &Request<T>) -> Deadline {
    request.extensions().get().copied().unwrap_or_else(|| Deadline::of(&http::HeaderMap::new(), Instant::now()))
}

/// A span of time as the wire has it.
fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(span).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

/// A service that requests are routed to.
trait Route: Send + Sync {
    fn answer(&self, request: http::Request<Body>) -> BoxFuture<http::Response<Body>, Infallible>;
}

impl<S> Route for S
where
    S: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future = BoxFuture<http::Response<Body>, Infallible>,
        > + Clone
        + Send
        + Sync,
{
    fn answer(&self, request: http::Request<Body>) -> BoxFuture<http::Response<Body>, Infallible> {
        // Generated services are always ready, and clones share what they hold.
        self.clone().call(request)
    }
}

type Named = (&'static str, Box<dyn Route>);

fn route<S: Route + NamedService + 'static>(service: S) -> Named {
    (S::NAME, Box::new(service))
}

/// What every request passes first: it is given its deadline, its bytes are counted, and its end is observed.
#[derive(Clone)]
struct Front {
    routes: Arc<[Named]>,
    observatory: Arc<Observatory>,
    transit: Arc<Transit>,
}

impl Front {
    fn new(node: &NodeHandle, more: Vec<Named>) -> Self {
        let transit = Arc::new(Transit::default());
        let asker = Asker { node: node.clone(), transit: Arc::clone(&transit) };
        let assessor = Arc::new(Assessor::new(node.clone()));
        let cluster = ClusterServer::new(ClusterService::new(asker.clone()));
        let node_server = NodeServer::new(NodeService::new(asker.clone(), assessor));
        let clock = ClockServer::new(ClockService::new(asker));
        // Each service has its own limits; gRPC's default is 4 MiB.
        let mut routes = vec![
            route(cluster.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)),
            route(peer::peer_service(node.link_acceptor())),
            route(
                node_server.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX),
            ),
            route(clock.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)),
        ];
        routes.extend(more);
        let reflected = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(api::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let compiled_in = "the descriptors were made by this build";
        routes.push(route(reflected().build_v1().expect(compiled_in)));
        routes.push(route(reflected().build_v1alpha().expect(compiled_in)));
        Self { routes: routes.into(), observatory: Observatory::new(node.clone()), transit }
    }

    fn find(&self, path: &str) -> Option<&dyn Route> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        self.routes.iter().find(|(name, _)| *name == service).map(|(_, route)| &**route)
    }
}

impl Service<http::Request<Body>> for Front {
    type Response = http::Response<Observed>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let now = Instant::now();
        let observation = observe::method(request.uri().path()).map(|method| self.observatory.begin(method, now));
        if observation.is_some() {
            let deadline = Deadline::of(request.headers(), now);
            request.extensions_mut().insert(deadline);
            let share = self.transit.share();
            request = request.map(|body| Body::new(Counted::new(body, share)));
        }
        let answered = if let Some(route) = self.find(request.uri().path()) {
            route.answer(request)
        } else {
            let message = format!(
                "there is no service at {}: api.Cluster, api.Node and api.Clock are served (reflection lists them)",
                request.uri().path()
            );
            Box::pin(async { Ok(Status::unimplemented(message).into_http()) })
        };
        Box::pin(async move { answered.await.map(|response| observed(response, observation)) })
    }
}
