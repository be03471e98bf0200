//! The HTTP side of a node: keys and values for curl, browsers and every client that speaks HTTP/1.1 or HTTP/2 (h2c).
//!
//! Contract: docs/http.md. [`routes`] has the paths; a handler reads its request, calls [`Service`], and prints the result.
//! Nothing is decided here that holds for every gateway: admission, deadlines, budgets and metrics are the service's.
//!
//! Bounds: a head is read within [`HEAD_TIME_MAX`] and has [`HEAD_BYTES_MAX`] at most, a body has those of [`body`], and a
//! client that does not read is left after half a minute.

mod batch;
mod body;
mod cluster;
mod conditions;
mod list;
mod members;
mod openapi;
mod origins;
mod problem;
mod query;
mod reply;
mod routes;
mod tables;
mod value;
mod watch;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::service::Service;
use crate::service::authorization::Caller;
use crate::service::buffer_budget::head_bytes;
use crate::service::deadline::Deadline;
use crate::service::error::no_room_to_read;
use crate::service::listener::{Connection, Listener};
use crate::service::patient::Patient;
use crate::service::request_metrics::Door;
use crate::tls;
use crate::traces;
use crate::types::Table;
use crate::wire::method;

use super::connections;
use body::Upload;
use list::{Place, accepts, is_json};
use origins::Origins;
use problem::Problem;
use query::Query;
use reply::{Answered, Outgoing, Reply};
use routes::{Operation, Resource, Route};

/// How long the head of a request may take to arrive. A connection may be idle as long between two requests.
const HEAD_TIME_MAX: Duration = Duration::from_mins(2);
/// The largest request line, and the largest headers, names and values.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The largest head that is read, so that one beyond [`HEAD_BYTES_MAX`] is refused in words.
const HEAD_READ_BYTES_MAX: usize = 64 << 10;

/// How a node serves HTTP.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// The names that requests may name in `Host`, in lower case: `http_hosts`.
    pub hosts: Vec<String>,
    /// The origins whose pages may call, in lower case: `http_cors_origins`.
    pub cors_origins: Vec<String>,
}

/// Serves the node of `service` on `listener` until `shutdown` is cancelled. Then it takes no more connections, answers the
/// requests under way, and returns once all connections are closed, or after [`crate::limits::CLOSE_TIME_MAX`].
pub async fn serve(listener: TcpListener, service: Arc<Service>, options: HttpOptions, shutdown: CancellationToken) {
    let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let origins = Origins { is_loopback, hosts: options.hosts, listed: options.cors_origins };
    let listener = Listener::for_http(listener, service.node());
    let shared = Arc::new(Shared { origins, report: tokio::sync::Mutex::default() });
    let gateway = Arc::new(Gateway { service, shared });
    let ends = shutdown.clone();
    listener.attend(ends, |connection| Arc::clone(&gateway).attend(connection, shutdown.clone())).await;
}

/// The state that answers requests of one caller.
struct Gateway {
    service: Arc<Service>,
    shared: Arc<Shared>,
}

/// The state that all requests share.
struct Shared {
    origins: Origins,
    /// The latest report on the cluster, and when it was made.
    report: tokio::sync::Mutex<Option<(Instant, serde_json::Value)>>,
}

/// A request whose path, method and parameters are known.
struct Call {
    head: Parts,
    query: Query,
    began: Instant,
}

impl Call {
    /// When the request must be answered.
    fn deadline(&self) -> Result<Deadline, Problem> {
        Ok(Deadline::new(self.query.span("timeout")?, self.began))
    }
}

impl Gateway {
    /// Answers the requests of one connection.
    async fn attend(self: Arc<Self>, connection: Connection, shutdown: CancellationToken) {
        let mut builder = connections::builder(&connection, u32::try_from(HEAD_READ_BYTES_MAX).unwrap_or(u32::MAX));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_READ_BYTES_MAX)
            // A client that has sent all it wants still reads its answers.
            .half_close(true);
        let (caller, streams) = (connection.caller().clone(), connection.streams().clone());
        let of_connection = self.service.for_connection(Door::Http, &caller).map(|service| self.with(service));
        let service = service_fn(move |request| {
            let gateway = of_connection.clone().unwrap_or_else(|| self.for_caller(&caller, &request));
            let streams = streams.clone();
            async move {
                let response = gateway.answer(request).await;
                if response.status() == StatusCode::TOO_MANY_REQUESTS {
                    streams.refuse();
                }
                Answered::Ok(response)
            }
        });
        connections::serve(builder, TokioIo::new(Patient::new(connection)), service, shutdown).await;
    }

    /// The same gateway, for whoever sends `request` over this connection.
    fn for_caller(&self, connection: &tls::Caller, request: &Request<Incoming>) -> Arc<Self> {
        let service = self.service.for_caller(Caller::of_request(Door::Http, connection, request.headers()));
        self.with(service)
    }

    fn with(&self, service: Arc<Service>) -> Arc<Self> {
        Arc::new(Self { service, shared: Arc::clone(&self.shared) })
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Outgoing> {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let found = self.find(&head);
        let counted_as = match &found {
            Ok(Found { operation: Some(operation), .. }) => method::Method::find(operation.counted_as),
            _ => None,
        };
        let observation = self.service.observe_with(Door::Http, counted_as, began, &head.headers);
        let headers = head.headers.clone();
        let mut is_short = false;
        let open = self.service.buffers().open_request(head_bytes(&head.uri, &headers));
        // Whoever is not known learns neither what is wrong with a request nor which paths there are.
        let is_preflight = matches!(&found, Ok(Found { operation: None, .. }));
        let found = match self.service.enter(counted_as) {
            Err(error) if !is_preflight => Err(error.into()),
            _ if open.is_none() => Err(no_room_to_read().into()),
            _ => found,
        };
        let replied = match found {
            Ok(Found { resource, route, operation: None, .. }) => {
                drop(resource);
                Ok(Reply::new(StatusCode::NO_CONTENT).with(header::ALLOW, HeaderValue::from_static(route.allow)))
            }
            Ok(Found { resource, query, .. }) => {
                is_short = matches!(resource, Resource::Short(_));
                let has_body = matches!(head.method, Method::PUT | Method::POST);
                let upload = Upload { body: has_body.then_some(body), guard: self.service.buffers().guard() };
                let call = Call { head, query, began };
                let running = pin!(self.run(resource, call, upload));
                traces::within(observation.trace(), running).await
            }
            Err(problem) => Err(problem),
        };
        let reply = replied.unwrap_or_else(|problem| {
            // At short paths these two have no body: a script prints the value alone, or nothing.
            let is_bare = is_short && matches!(problem.kind, "missing-key" | "condition-failed");
            if is_bare && !accepts(&headers, is_json) { problem.into_bare_reply() } else { problem.into_reply() }
        });
        let mut response = reply.into_response(observation, is_head, open);
        let answer = response.headers_mut();
        answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.shared.origins.allow(&headers, answer);
        response
    }

    /// The resource and operation that a request asks for, once it is known that it may.
    fn find(&self, head: &Parts) -> Result<Found, Problem> {
        let line = head.uri.path().len() + head.uri.query().map_or(0, str::len);
        if line > HEAD_BYTES_MAX {
            let detail = format!(
                "nothing was done: the path and the query have {line} bytes: at most {HEAD_BYTES_MAX} are accepted"
            );
            return Err(Problem::new(StatusCode::URI_TOO_LONG, "long-path", detail));
        }
        let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let bytes: usize = head.headers.iter().map(size).sum();
        if bytes > HEAD_BYTES_MAX {
            let detail =
                format!("nothing was done: the headers have {bytes} bytes: at most {HEAD_BYTES_MAX} are accepted");
            return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "long-headers", detail));
        }
        self.shared.origins.check(head)?;
        let (resource, route) = Resource::find(head.uri.path())?;
        if head.method == Method::OPTIONS {
            return Ok(Found { resource, route, operation: None, query: Query::parse(None, &[])? });
        }
        let is_allowed = route.allow.split(", ").any(|allowed| allowed == head.method.as_str());
        let asked = if head.method == Method::HEAD { "GET" } else { head.method.as_str() };
        let operation = route.operations.iter().find(|operation| operation.method == asked);
        let Some(operation) = operation.filter(|_| is_allowed) else {
            return Err(Problem::wrong_method(route.allow));
        };
        let query = Query::parse(head.uri.query(), operation.parameters)?;
        Ok(Found { resource, route, operation: Some(operation), query })
    }

    async fn run(self: &Arc<Self>, resource: Resource, call: Call, upload: Upload) -> Result<Reply, Problem> {
        let method = call.head.method.clone();
        match resource {
            Resource::Key(table, key) => match method {
                Method::GET | Method::HEAD => self.read(&table, &key, &call).await,
                Method::PUT => self.write(table, key, call, upload, false).await,
                Method::DELETE => self.delete(table, key, &call).await,
                _ => {
                    drop(upload);
                    self.add(&table, key, &call).await
                }
            },
            Resource::Short(key) => {
                let table = Table::Default;
                match method {
                    Method::GET | Method::HEAD => self.read(&table, &key, &call).await,
                    Method::DELETE => self.delete(table, key, &call).await,
                    _ => self.write(table, key, call, upload, method == Method::POST).await,
                }
            }
            Resource::AllKeys => self.list(Place::Root, &Table::Default, &call).await,
            Resource::Keys(table) => self.list(Place::Table, &table, &call).await,
            Resource::Tables => self.tables(&call).await,
            Resource::Table(name) => match method {
                Method::PUT => self.create_table(name, &call, upload).await,
                Method::DELETE => self.drop_table(name, &call).await,
                _ => self.table(&name, &call).await,
            },
            Resource::Watch(table) => self.watch(&table, &call).await,
            Resource::Placement(table, key) => self.placement(&table, &key, &call).await,
            Resource::Batch => self.batch(&call, upload).await,
            Resource::Status => self.status(&call).await,
            Resource::OpenApi => Ok(Reply::of("application/json", openapi::text())),
            Resource::Health => self.health(&call).await,
            Resource::Discovery => self.discovery(&call).await,
            Resource::DiscoveryPlain => self.discovery_plain(&call).await,
            Resource::ClusterStatus => self.cluster_status(&call).await,
            Resource::ReplicasOf(key) => self.replicas_of(&key, &call).await,
            Resource::Members => match method {
                Method::PUT => self.change_members(&call, upload).await,
                _ => self.members(&call).await,
            },
            Resource::MembersPlan => self.plan_members(&call, upload).await,
            Resource::MembersAbort => self.abort_change(&call).await,
            Resource::RemovedNode => self.remove_node(&call).await,
        }
    }
}

/// The resource and operation of a request.
struct Found {
    resource: Resource,
    route: &'static Route,
    /// `None` for OPTIONS.
    operation: Option<&'static Operation>,
    query: Query,
}
