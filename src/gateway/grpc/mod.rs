//! The gRPC side of a node: Cluster, Tables, Tokens, Node, Members and Clock for clients and operators, Peer for other nodes, and health
//! checks and reflection for tools.
//!
//! Contract: a handler parses a message, calls [`Service`], and prints the result. Each request is answered a little
//! before its deadline, with a status that says what became of it. Request bodies count against the buffer budget while
//! they arrive, and response bodies until the client has read them.

mod body;
mod clock;
mod cluster;
mod health;
mod inflate;
mod members;
mod node;
mod refusal;
mod status;
mod tables;
mod timeout;
mod tokens;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::{BoxFuture, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::api;
use crate::api::clock_server::ClockServer;
use crate::api::cluster_server::ClusterServer;
use crate::api::members_server::MembersServer;
use crate::api::node_server::NodeServer;
use crate::api::tables_server::TablesServer;
use crate::api::tokens_server::TokensServer;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, METADATA_READ_BYTES_MAX, RESETS_PER_CONNECTION_MAX, SERVER_KEEP_ALIVE,
    STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX, TOOLS_MESSAGE_BYTES_MAX,
};
use crate::peer;
use crate::service::Service;
use crate::service::authorization;
use crate::service::buffer_budget::{BudgetGuard, head_bytes};
use crate::service::deadline::Deadline;
use crate::service::error::no_room_to_read;
use crate::service::listener::{Connection, Listener};
use crate::service::request_metrics::Door;
use crate::shares::Account;
use crate::tls::Caller;
use crate::traces;
use crate::wire::method::{Access, Method};

use super::connections;
use body::{Counted, Observed, observed};
use clock::ClockService;
use cluster::ClusterService;
use inflate::Inflated;
use members::MembersService;
use node::NodeService;
use tables::TablesService;
use timeout::timeout;
use tokens::TokensService;

/// Serves the node of `service` to clients, operators and peers on `listener` until `shutdown` is cancelled. Then it takes no more
/// connections, tells the open ones, answers the requests under way, and returns once all connections are closed, or after
/// [`crate::limits::CLOSE_TIME_MAX`].
///
/// Drain the node first: requests that arrive while it drains are refused as not applied, so that clients turn to
/// another node.
pub async fn serve(listener: TcpListener, service: Arc<Service>, shutdown: CancellationToken) {
    let node = service.node().clone();
    let (reporter, health_server) = tonic_health::server::health_reporter();
    health::report(&reporter, false).await;
    let health_server = health_server.max_decoding_message_size(TOOLS_MESSAGE_BYTES_MAX);
    let frontend = Frontend::new(service, vec![route(health_server)]);
    let listener = Listener::for_clients(listener, &node);
    let attend = |connection| attend(frontend.clone(), connection, shutdown.clone());
    let serving = listener.attend(shutdown.clone(), attend);
    let following = async {
        health::follow(reporter, node).await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        () = serving => {}
        never = following => match never {},
    }
}

/// Answers the requests of one connection.
async fn attend(frontend: Frontend, connection: Connection, shutdown: CancellationToken) {
    let builder = connections::builder(&connection, METADATA_READ_BYTES_MAX).http2_only();
    let (caller, streams) = (connection.caller().clone(), connection.streams().clone());
    let account = Arc::clone(connection.account());
    let of_connection = frontend.service.for_connection(Door::Grpc, &caller);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller.clone());
        if let Some(service) = &of_connection {
            request.extensions_mut().insert(Arc::clone(service));
        }
        let (answered, streams) = (frontend.answer(request, &account), streams.clone());
        async move {
            let response = answered.await;
            if refusal::is_overload(response.headers()) {
                streams.refuse();
            }
            Ok::<_, Infallible>(response)
        }
    });
    connections::serve(builder, TokioIo::new(connection), service, shutdown).await;
}

/// The transport of a node. The no-op server of the benchmark has the same.
pub(crate) fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(SERVER_KEEP_ALIVE.interval))
        .http2_keepalive_timeout(Some(SERVER_KEEP_ALIVE.timeout))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_PER_CONNECTION_MAX))
        .http2_max_header_list_size(METADATA_READ_BYTES_MAX)
}

/// The deadline that [`Frontend`] has given a request.
fn deadline_of<T>(request: &Request<T>) -> Deadline {
    request.extensions().get().copied().unwrap_or_else(|| Deadline::new(None, Instant::now()))
}

/// The operations for whoever sent a request, as [`Frontend`] has bound them. Without that they are those of nobody.
fn service_of<T>(request: &Request<T>, of_nobody: &Arc<Service>) -> Arc<Service> {
    request.extensions().get().map_or_else(|| Arc::clone(of_nobody), Arc::clone)
}

/// A response that holds its part of the buffer budget until its last byte has left.
fn with_guard<T>(message: T, guard: Option<BudgetGuard>) -> Response<T> {
    let mut response = Response::new(message);
    if let Some(guard) = guard {
        response.extensions_mut().insert(body::guard_of_answer(guard));
    }
    response
}

/// A service that requests are routed to.
trait Route: Send + Sync {
    fn answer(&self, request: http::Request<Body>) -> BoxFuture<http::Response<Body>, Infallible>;
}

impl<S> Route for S
where
    S: tonic::codegen::Service<
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

/// A service for clients: with the limits of the public API, and for requests that may be compressed.
macro_rules! public {
    ($service:expr) => {
        route(api::sized!($service).accept_compressed(CompressionEncoding::Gzip))
    };
}

/// Passes every request on to its service. Before that it gives the request a deadline, counts its bytes, and begins to
/// observe it. A request counts until its answer has left.
#[derive(Clone)]
struct Frontend {
    routes: Arc<[Named]>,
    service: Arc<Service>,
}

impl Frontend {
    fn new(service: Arc<Service>, more: Vec<Named>) -> Self {
        let mut routes = vec![
            public!(ClusterServer::new(ClusterService(Arc::clone(&service)))),
            public!(TablesServer::new(TablesService(Arc::clone(&service)))),
            route(peer::peer_service(service.node().link_acceptor())),
            public!(TokensServer::new(TokensService(Arc::clone(&service)))),
            public!(NodeServer::new(NodeService(Arc::clone(&service)))),
            public!(MembersServer::new(MembersService(Arc::clone(&service)))),
            public!(ClockServer::new(ClockService(Arc::clone(&service)))),
        ];
        routes.extend(more);
        let reflected = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(api::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // ErrorInfo and its kin, so that grpcurl shows the details of a refusal.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let compiled_in = "the descriptors were made by this build";
        let reflection = reflected().build_v1().expect(compiled_in);
        routes.push(route(reflection.max_decoding_message_size(TOOLS_MESSAGE_BYTES_MAX)));
        let reflection = reflected().build_v1alpha().expect(compiled_in);
        routes.push(route(reflection.max_decoding_message_size(TOOLS_MESSAGE_BYTES_MAX)));
        Self { routes: routes.into(), service }
    }

    fn route(&self, request: http::Request<Body>) -> BoxFuture<http::Response<Body>, Infallible> {
        if let Some(route) = self.find(request.uri().path()) {
            return route.answer(request);
        }
        let message = format!(
            "there is no service at {}: api.Cluster, api.Tables, api.Tokens, api.Node, api.Members and api.Clock are served (reflection lists them)",
            request.uri().path()
        );
        Box::pin(async { Ok(Status::unimplemented(message).into_http()) })
    }

    fn find(&self, path: &str) -> Option<&dyn Route> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        self.routes.iter().find(|(name, _)| *name == service).map(|(_, route)| &**route)
    }
}

/// An answer that comes.
type Answered = Pin<Box<dyn Future<Output = http::Response<Observed>> + Send>>;

impl Frontend {
    /// Answers a request. `account`: what the address of its connection holds.
    fn answer(&self, mut request: http::Request<Body>, account: &Arc<Account>) -> Answered {
        let now = Instant::now();
        let path = request.uri().path();
        let head_bytes = head_bytes(request.uri(), request.headers());
        if path.starts_with("/api.Peer/") {
            request.extensions_mut().insert(Arc::clone(account));
            let answered = self.route(request);
            return Box::pin(async move { observed(infallible(answered.await), None, None) });
        }
        if path.starts_with("/grpc.") {
            return self.answer_tool(request, account);
        }
        let method = Method::find(path);
        let observation = self.service.observe_with(Door::Grpc, method, now, request.headers());
        // An unknown method may have been meant to write.
        let access = method.map_or(Access::Write, Method::access);
        if let Some(status) = refusal::of_metadata(request.headers(), access) {
            return Box::pin(async { observed(status.into_http(), Some(observation), None) });
        }
        let service = request.extensions().get::<Arc<Service>>().cloned().unwrap_or_else(|| {
            let connection = request.extensions().get::<Caller>().cloned().unwrap_or_default();
            self.service.for_caller(authorization::Caller::of_request(Door::Grpc, &connection, request.headers()))
        });
        if let Err(error) = service.enter(method) {
            return Box::pin(async { observed(Status::from(error).into_http(), Some(observation), None) });
        }
        let Some(open) = service.buffers().open_request(head_bytes) else {
            return Box::pin(async { observed(Status::from(no_room_to_read()).into_http(), Some(observation), None) });
        };
        let deadline = Deadline::new(timeout(request.headers()), now);
        request.extensions_mut().insert(deadline);
        let guard = service.buffers().guard();
        request.extensions_mut().insert(service);
        let is_compressed = inflate::is_compressed(request.headers_mut());
        let answered = self.route(request.map(|body| {
            let counted = Counted::new(body, guard);
            if is_compressed { Body::new(Inflated::new(counted)) } else { Body::new(counted) }
        }));
        let trace = observation.trace();
        let answering = async move {
            let response = refusal::explained(infallible(answered.await), access);
            observed(response, Some(observation), Some(open))
        };
        if trace.is_none() { Box::pin(answering) } else { Box::pin(traces::within(trace, answering)) }
    }
}

impl Frontend {
    /// Answers a call that is no request to Quorate: reflection or a health check. Requests, however many, leave room for it.
    fn answer_tool(&self, request: http::Request<Body>, account: &Arc<Account>) -> Answered {
        let refused = refusal::of_metadata(request.headers(), Access::Read);
        let open = BudgetGuard::of_tool(account).ok_or_else(|| {
            Status::resource_exhausted(
                "too many calls of reflection and health checks are open, here or of this client: end some",
            )
        });
        match refused.map_or(open, Err) {
            Err(status) => Box::pin(async { observed(status.into_http(), None, None) }),
            Ok(open) => {
                let answered = self.route(request);
                Box::pin(async move { observed(infallible(answered.await), None, Some(open)) })
            }
        }
    }
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
