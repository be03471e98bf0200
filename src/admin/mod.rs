//! The HTTP side of a node, for whoever watches it: `/metrics` for Prometheus, `/livez` and `/readyz` for probes.
//!
//! Contract: nothing here changes anything, and no answer waits longer than [`ANSWER_TIME_MAX`] for the node. What the
//! node cannot be asked for in that time is left out of the metrics; the rest is given.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::PeerLabels;
use crate::protocol::PeerView;
use crate::runtime::{NodeHandle, Status};
use crate::service::health::{Assessor, unready_text};
use crate::storage::StoreStatistics;

/// How long a node's loop may take to say how it is before it counts as stuck.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// The text format of OpenMetrics, which Prometheus asks for and reads.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "Quorate: one node's administration\n\
    /metrics  for Prometheus\n\
    /livez    200 while the node's process answers, else 503: restart it\n\
    /readyz   200 while the node takes requests, else 503 and why not\n";

/// Serves `node` to whoever watches it on `listener` until `shutdown` is cancelled.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, node: NodeHandle, shutdown: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router(node)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router(node: NodeHandle) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(async || (StatusCode::NOT_FOUND, INDEX))
        .with_state(Arc::new(Assessor::new(node)))
}

type Watched = State<Arc<Assessor>>;

async fn livez(State(assessor): Watched) -> Response {
    match status(&assessor).await {
        Ok(_) => (StatusCode::OK, "alive\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

/// A node is ready while it takes requests. One that has lost its peers or its disk still does: turning clients away
/// from it would help none of them, for the other nodes see the same, or answer reads no better.
async fn readyz(State(assessor): Watched) -> Response {
    let status = match status(&assessor).await {
        Ok(status) => status,
        Err(why) => return (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    };
    if let Some(unready) = &status.unready {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", unready_text(unready))).into_response();
    }
    let detail = assessor.assess(&status).detail;
    let text = if detail.is_empty() { "ready\n".to_owned() } else { format!("ready, but: {detail}\n") };
    (StatusCode::OK, text).into_response()
}

async fn metrics(State(assessor): Watched) -> Response {
    let status = status(&assessor).await.ok();
    let statistics = assessor.statistics_soon().await;
    let registry = snapshot(assessor.node(), status.as_ref(), statistics.as_ref());
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
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

/// Everything there is to know now: what the node counts, and what it and its store can be asked for.
fn snapshot(node: &NodeHandle, status: Option<&Status>, statistics: Option<&StoreStatistics>) -> Registry {
    let mut registry = Registry::default();
    node.metrics().register(&mut registry);
    let quorate = registry.sub_registry_with_prefix("quorate");
    let labels = vec![("version", env!("CARGO_PKG_VERSION")), ("node", node.id().as_str())];
    let labels: Vec<(String, String)> = labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    quorate.register("build", "What runs", Info::new(labels));
    let uptime = ConstGauge::new(node.uptime().as_secs_f64());
    quorate.register_with_unit("uptime", "How long the node has run", Unit::Seconds, uptime);
    if let Some(status) = status {
        add_status(quorate, status);
    }
    if let Some(statistics) = statistics {
        add_statistics(quorate.sub_registry_with_prefix("store"), statistics);
    }
    registry
}

fn add_status(registry: &mut Registry, status: &Status) {
    let flag = |set: bool| ConstGauge::new(u64::from(set));
    registry.register("ready", "1 while the node takes requests", flag(status.unready.is_none()));
    registry.register("store_failed", "1 while the disk takes no writes", flag(status.store_failed));
    registry.register("clock_epoch", "The epoch of the quorum clock", ConstGauge::new(status.clock.epoch));
    registry.register("clock_counter", "The counter of the quorum clock", ConstGauge::new(status.clock.counter));
    let help = "Client requests that the node works on";
    registry.register("requests_begun", help, ConstGauge::new(status.requests));

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
    registry.register("peer_refused", "1 while one of the two refuses the other for good", refused);
    registry.register_with_unit("peer_queue", "What waits to be sent to a peer", Unit::Bytes, queued);
    let help = "How long ago a peer was last heard from; absent where never";
    registry.register_with_unit("peer_last_seen", help, Unit::Seconds, last_seen);
}

fn add_statistics(registry: &mut Registry, statistics: &StoreStatistics) {
    let StoreStatistics {
        keys_estimate,
        disk_bytes,
        live_bytes,
        compaction_pending_bytes,
        write_buffer_bytes,
        block_cache_bytes,
        write_stopped,
        stall_micros,
        log_syncs,
        log_sync_micros_p50,
        log_sync_micros_p99,
    } = *statistics;
    registry.register("keys", "About how many keys are held, tombstones included", ConstGauge::new(keys_estimate));
    for (name, help, bytes) in [
        ("disk", "What the data takes on disk: tables, blob files and log", disk_bytes),
        ("live", "Tables and blob files, without the log", live_bytes),
        ("compaction_pending", "What compaction still has to rewrite", compaction_pending_bytes),
        ("write_buffers", "Write buffers in memory", write_buffer_bytes),
        ("block_cache", "Cached blocks in memory", block_cache_bytes),
    ] {
        registry.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(bytes));
    }
    let help = "1 while the store stops writes because flushes or compactions lag";
    registry.register("write_stopped", help, ConstGauge::new(write_stopped));
    let stalled = ConstCounter::new(Duration::from_micros(stall_micros).as_secs_f64());
    registry.register_with_unit("stalled", "How long the store made writers wait", Unit::Seconds, stalled);
    registry.register("log_syncs", "How many times the log was synced", ConstCounter::new(log_syncs));
    for (name, help, micros) in [
        ("log_sync_p50", "The median time of a log sync since start", log_sync_micros_p50),
        ("log_sync_p99", "The 99th percentile of the time of a log sync since start", log_sync_micros_p99),
    ] {
        registry.register_with_unit(name, help, Unit::Seconds, ConstGauge::new(micros / 1e6));
    }
}
