//! The HTTP side of a node for monitoring: `/metrics` for Prometheus, `/livez` and `/readyz` for probes, a status page for people.
//!
//! Contract: no request here changes anything, and no answer waits longer than [`ANSWER_TIME_MAX`] for the node's loop.
//! The metrics that the node does not give in that time are left out; the others are given.

mod format;
mod page;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{self, HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service as _;
use tracing::debug;

use crate::auth::Needs;
use crate::limits::CLOSE_TIME_MAX;
use crate::metrics::{PREFIX, PeerLabels};
use crate::protocol::PeerView;
use crate::runtime::{NodeHandle, Status};
use crate::service::Service;
use crate::service::authorization::Caller;
use crate::service::health::{Assessor, tolerates_text, unready_text};
use crate::service::listener::{Connection, Listener};
use crate::service::patient::Patient;
use crate::service::request_metrics::Door;
use crate::shares::{Accounts, PoolReport};
use crate::storage::StoreStatistics;
use crate::tls::{self, NodeTls};
use crate::wire::failure::FailureReason;

use format::Format;
use page::Page;

/// How long a node's loop may take to answer before it counts as stuck.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// How long the head of a request may take to arrive. A connection may be idle as long between two requests.
const HEAD_TIME_MAX: Duration = Duration::from_mins(2);
/// The largest head.
const HEAD_BYTES_MAX: usize = 16 << 10;

const INDEX: &str = "Quorate: one node's administration\n\
    /         in a browser: the status page\n\
    /metrics  for Prometheus\n\
    /livez    200 while the node's process answers, else 503: restart it\n\
    /readyz   200 while the node takes requests, else 503 and why not\n";

/// Every path, and what its caller needs. Probes have no token: they are told whether, and not why.
const PATHS: [(&str, Needs); 7] = [
    ("/", Needs::Observer),
    ("/metrics", Needs::Observer),
    ("/livez", Needs::Nothing),
    ("/readyz", Needs::Nothing),
    ("/page.css", Needs::Observer),
    ("/page.js", Needs::Observer),
    ("/events", Needs::Observer),
];

/// Serves the state of the node of `service` on `listener` until `shutdown` is cancelled.
pub async fn serve(listener: TcpListener, service: Arc<Service>, shutdown: CancellationToken) {
    let page = Page::start(&service, shutdown.clone());
    let listener = Listener::for_monitoring(listener, service.node());
    let router = router(service, page);
    listener.attend(shutdown.clone(), |connection| attend(router.clone(), connection, shutdown.clone())).await;
}

/// Answers the requests of one connection.
async fn attend(router: Router, connection: Connection, shutdown: CancellationToken) {
    let peer = Peer(connection.caller().clone());
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        router.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        // A client that has sent all it wants still reads its answers.
        .half_close(true);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(Patient::new(connection)), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(CLOSE_TIME_MAX, served).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection of the monitoring port ended");
    }
}

fn router(service: Arc<Service>, page: Arc<Page>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(async || (StatusCode::NOT_FOUND, INDEX))
        .with_state(Arc::new(Assessor::new(service.node().clone())))
        .merge(page::router(page))
        .layer(middleware::from_fn_with_state(service, admit))
}

/// The other end of a connection.
#[derive(Clone, Debug)]
struct Peer(tls::Caller);

/// Whether the caller of a request may know why a node is not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MaySeeWhy(bool);

/// Lets a request through if its caller has what the path needs. Other paths are for those who are known.
async fn admit(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let (name, needs) = PATHS.iter().find(|(known, _)| *known == path).copied().unwrap_or(("unknown", Needs::Identity));
    let connection = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.0.clone());
    let caller = Caller::of_request(Door::Monitoring, &connection.unwrap_or_default(), request.headers());
    let service = service.for_caller(caller);
    if let Err(error) = service.enter_at(name, needs) {
        let text = format!("{}\n", error.message);
        return match error.failure.reason {
            FailureReason::Unauthenticated => {
                let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"quorate\"")];
                (StatusCode::UNAUTHORIZED, challenge, text).into_response()
            }
            FailureReason::PermissionDenied => (StatusCode::FORBIDDEN, text).into_response(),
            _ => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
        };
    }
    let may_see_why = needs != Needs::Nothing || service.has(Needs::Observer);
    request.extensions_mut().insert(MaySeeWhy(may_see_why));
    request.extensions_mut().insert(service);
    next.run(request).await
}

/// The page for browsers, and a text for others.
async fn index(headers: HeaderMap) -> Response {
    if page::is_asked_for(&headers) { page::html() } else { ([(header::VARY, "accept")], INDEX).into_response() }
}

type Watched = State<Arc<Assessor>>;

async fn livez(State(assessor): Watched) -> Response {
    match status(&assessor).await {
        Ok(_) => (StatusCode::OK, "alive\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

/// A node is ready while it takes requests, even if it has lost its peers or its disk. To turn clients away from it would
/// help none of them: the other nodes see the same, or answer reads no better.
async fn readyz(State(assessor): Watched, Extension(MaySeeWhy(may_see_why)): Extension<MaySeeWhy>) -> Response {
    let status = match status(&assessor).await {
        Ok(status) => status,
        Err(why) => return (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    };
    if status.unready.is_some() && !may_see_why {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response();
    }
    if !may_see_why {
        return (StatusCode::OK, "ready\n").into_response();
    }
    if let Some(unready) = &status.unready {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", unready_text(unready))).into_response();
    }
    let detail = assessor.assess(&status).detail;
    let mut text = if detail.is_empty() { "ready".to_owned() } else { format!("ready, but: {detail}") };
    if let Some(tolerated) = assessor.failures_tolerated(&status) {
        text = format!("{text}; {}", tolerates_text(tolerated));
    }
    (StatusCode::OK, text + "\n").into_response()
}

async fn metrics(State(assessor): Watched, headers: HeaderMap) -> Response {
    let status = status(&assessor).await.ok();
    let statistics = assessor.statistics_soon().await;
    let tolerated = status.as_ref().and_then(|status| assessor.failures_tolerated(status));
    let registry = snapshot(assessor.node(), status.as_ref(), statistics.as_ref(), tolerated);
    let format = Format::of(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default());
    match format.encode(&registry) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics could not be encoded: {error}\n")).into_response()
        }
    }
}

async fn status(assessor: &Assessor) -> Result<Status, String> {
    match tokio::time::timeout(ANSWER_TIME_MAX, assessor.node().status()).await {
        Ok(status) => status.map_err(|ended| format!("{ended}\n")),
        Err(_) => Err(format!("the node's loop has not answered within {} s\n", ANSWER_TIME_MAX.as_secs())),
    }
}

/// All metrics: those that the node counts, and those that it and its store are asked for now.
fn snapshot(
    node: &NodeHandle,
    status: Option<&Status>,
    statistics: Option<&StoreStatistics>,
    tolerated: Option<usize>,
) -> Registry {
    let mut registry = Registry::default();
    node.metrics().register(&mut registry);
    let quorate = registry.sub_registry_with_prefix(PREFIX);
    let labels = vec![("version", env!("CARGO_PKG_VERSION")), ("node", node.id().as_str())];
    let labels: Vec<(String, String)> = labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    quorate.register("build", "The version of the program, and the id of the node", Info::new(labels));
    let uptime = ConstGauge::new(node.uptime().as_secs_f64());
    quorate.register_with_unit("uptime", "Time since the node started", Unit::Seconds, uptime);
    if let Some(tls) = &node.trust().tls {
        add_tls(quorate, tls);
    }
    add_shares(quorate, node.accounts());
    if let Some(status) = status {
        add_status(quorate, status);
    }
    if let Some(tolerated) = tolerated {
        let help = "How many more nodes may fail, whichever they are, before some key cannot be read or written, by this node's links";
        quorate.register("failures_tolerated", help, ConstGauge::new(tolerated as u64));
    }
    if let Some(statistics) = statistics {
        add_statistics(quorate.sub_registry_with_prefix("store"), statistics);
    }
    registry
}

fn add_tls(registry: &mut Registry, tls: &NodeTls) {
    let help = "When this node's certificate ends, in seconds since 1970";
    registry.register("tls_certificate_end_time_seconds", help, ConstGauge::new(tls.facts().not_after as f64));
    let help = "When the first of the CAs that this node believes ends, in seconds since 1970";
    registry.register("tls_ca_end_time_seconds", help, ConstGauge::new(tls.authorities_end() as f64));
    let help = "1 while the files of TLS on disk cannot be used, and the node goes on with those before";
    registry.register("tls_files_refused", help, ConstGauge::new(u64::from(tls.problem().is_some())));
    registry.register("tls_reloads", "Times that the files of TLS were read again", ConstCounter::new(tls.reloads()));
    let help = "Handshakes of connections to this node that failed";
    registry.register("tls_handshakes_failed", help, ConstCounter::new(tls.handshakes_failed()));
}

/// The labels of what is shared, and of why somebody got no more of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShareLabels {
    what: &'static str,
    why: &'static str,
}

/// The label of what is shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SharedLabels {
    what: &'static str,
}

fn add_shares(registry: &mut Registry, accounts: &Accounts) {
    let refused = Family::<ShareLabels, Counter>::default();
    let (used, max) = (Family::<SharedLabels, Gauge>::default(), Family::<SharedLabels, Gauge>::default());
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    for PoolReport { kind, max: all, used: held, refused_as_used_up, refused_beyond_share } in accounts.report() {
        let what = kind.name();
        for (why, count) in [("used_up", refused_as_used_up), ("share", refused_beyond_share)] {
            refused.get_or_create(&ShareLabels { what, why }).inc_by(count);
        }
        used.get_or_create(&SharedLabels { what }).set(number(held));
        max.get_or_create(&SharedLabels { what }).set(number(all));
    }
    let too_fast = ShareLabels { what: "requests", why: "rate" };
    refused.get_or_create(&too_fast).inc_by(accounts.refused_as_too_fast());
    let held_up = ShareLabels { what: "frames", why: "rate" };
    refused.get_or_create(&held_up).inc_by(accounts.connections_held_up());
    let help = "Times that somebody got no more of what is shared: it was used up, or one client had its share, or was too fast";
    registry.register("limit_refusals", help, refused);
    registry.register("limit_used", "How much of what is shared is held", used);
    registry.register("limit_max", "How much there is of what is shared", max);
}

fn add_status(registry: &mut Registry, status: &Status) {
    let flag = |set: bool| ConstGauge::new(u64::from(set));
    registry.register("ready", "1 while the node takes requests", flag(status.unready.is_none()));
    registry.register("store_failed", "1 while the disk takes no writes", flag(status.store_failed));
    registry.register("clock_epoch", "The epoch of this node's clock", ConstGauge::new(status.clock.epoch));
    registry.register("clock_value", "The counter of this node's clock", ConstGauge::new(status.clock.counter));
    let help = "Operations of clients that the node works on";
    registry.register("operations_in_flight", help, ConstGauge::new(status.requests));

    let repair = &status.repair;
    if repair.is_on {
        let help = "Records that repair has counted, tombstones included";
        registry.register("repair_records", help, ConstGauge::new(repair.counts.records));
        let help = "Tombstones among the records that repair has counted";
        registry.register("repair_tombstones", help, ConstGauge::new(repair.counts.tombstones));
        let tombstones = &repair.tombstones;
        let help = "Slots with tombstones that are to be forgotten";
        registry.register("tombstone_slots", help, ConstGauge::new(tombstones.slots as u64));
        let waiting: usize = tombstones.missing.values().map(|(slots, _)| slots).sum();
        let help = "Slots whose tombstones cannot be forgotten because a replica is away";
        registry.register("tombstone_slots_waiting", help, ConstGauge::new(waiting as u64));
        let help = "Tombstones that this node has forgotten since its start";
        registry.register("tombstones_forgotten", help, ConstCounter::new(tombstones.counters.forgotten));
        let help = "The share of the slots that repair has counted since the start, 0 to 1";
        registry.register("repair_share_counted", help, ConstGauge::new(repair.share_counted));
        let behind: u64 = repair.pairs.iter().map(|pair| pair.behind).sum();
        let help = "Keys that were found to differ from a peer's, and wait to be repaired by this node";
        registry.register("repair_behind_keys", help, ConstGauge::new(behind));
        let equal = Family::<PeerLabels, Gauge<f64, AtomicU64>>::default();
        for pair in &repair.pairs {
            let id = status.peers.iter().find(|peer| peer.member == pair.peer).map(|peer| peer.id.to_string());
            if let (Some(peer), Some(since)) = (id, pair.unequal_for) {
                equal.get_or_create(&PeerLabels { peer }).set(since.as_secs_f64());
            }
        }
        let help = "Time since a comparison with a peer found no difference, or since it can be reached if none did";
        registry.register_with_unit("repair_equal_age", help, Unit::Seconds, equal);
    }

    let linked = Family::<PeerLabels, Gauge<u64, AtomicU64>>::default();
    let refused = Family::<PeerLabels, Gauge<u64, AtomicU64>>::default();
    let queued = Family::<PeerLabels, Gauge<u64, AtomicU64>>::default();
    let last_seen = Family::<PeerLabels, Gauge<f64, AtomicU64>>::default();
    for peer in &status.peers {
        let labels = PeerLabels { peer: peer.id.to_string() };
        linked.get_or_create(&labels).set(u64::from(peer.view == PeerView::Talking));
        refused.get_or_create(&labels).set(u64::from(matches!(peer.view, PeerView::Refused(_))));
        queued.get_or_create(&labels).set(peer.queued_bytes as u64);
        if let Some(seen) = peer.last_seen {
            last_seen.get_or_create(&labels).set(seen.as_secs_f64());
        }
    }
    registry.register("peer_linked", "1 while each of the two has recorded the other", linked);
    registry.register("peer_refused", "1 while one of the two refuses the other until an operator acts", refused);
    registry.register_with_unit("peer_queue", "Messages that wait to be sent to a peer", Unit::Bytes, queued);
    let help = "Time since the last message of a peer; absent if there was none";
    registry.register_with_unit("peer_last_seen", help, Unit::Seconds, last_seen);
}

fn add_statistics(registry: &mut Registry, statistics: &StoreStatistics) {
    let StoreStatistics {
        keys_estimate,
        disk_bytes,
        data_bytes,
        disk_room,
        live_bytes,
        compaction_pending_bytes,
        write_buffer_bytes,
        block_cache_bytes,
        write_stopped,
        stores_aside,
        damage_met,
        stall_micros,
        log_syncs,
        log_sync_micros_p50,
        log_sync_micros_p99,
    } = *statistics;
    registry.register("keys", "Estimated number of keys, tombstones included", ConstGauge::new(keys_estimate));
    for (name, help, bytes) in [
        ("disk", "Size of the data on disk: tables, blob files and log", disk_bytes),
        ("data", "About the size of keys and values", data_bytes),
        ("live", "Size of tables and blob files, without the log", live_bytes),
        ("compaction_pending", "Data that compaction has yet to rewrite", compaction_pending_bytes),
        ("write_buffer", "Write buffers in memory", write_buffer_bytes),
        ("block_cache", "Cached blocks in memory", block_cache_bytes),
    ] {
        registry.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(bytes));
    }
    if let Some(room) = disk_room {
        registry.register_with_unit("disk_free", "Free space on the disk", Unit::Bytes, ConstGauge::new(room.free));
        registry.register_with_unit("disk_size", "Size of the disk", Unit::Bytes, ConstGauge::new(room.size));
    }
    let help = "1 while the store stops writes because flushes or compactions lag";
    registry.register("write_stopped", help, ConstGauge::new(write_stopped));
    let help = "How often damage was met in the store";
    let aside = "Damaged stores that were set aside in the data folder, until an operator removes them";
    registry.register("damaged_aside", aside, ConstGauge::new(stores_aside));
    registry.register("damage_met", help, ConstCounter::new(damage_met));
    let stalled = ConstCounter::new(Duration::from_micros(stall_micros).as_secs_f64());
    registry.register_with_unit("stalled", "Time that the store made writers wait", Unit::Seconds, stalled);
    registry.register("log_syncs", "Syncs of the log", ConstCounter::new(log_syncs));
    for (name, help, micros) in [
        ("log_sync_p50", "Median time of a log sync since start", log_sync_micros_p50),
        ("log_sync_p99", "99th percentile of the time of a log sync since start", log_sync_micros_p99),
    ] {
        registry.register_with_unit(name, help, Unit::Seconds, ConstGauge::new(micros / 1e6));
    }
}
