//! What the page shows now: all nodes as they answer, and this node in detail.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::rounded;
use crate::api;
use crate::config::RemoteAddress;
use crate::protocol::Unready;
use crate::service::Service;
use crate::service::cluster_report::{HEALTH_TIME_MAX, Report, ask_all, rows};
use crate::service::deadline::Deadline;
use crate::types::NodeId;

/// How long this node may take to say what it knows.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// The state of the cluster and of this node. An error where this node does not answer.
pub(super) async fn state(service: &Service) -> Result<Json, String> {
    let deadline = Deadline::new(Some(ANSWER_TIME_MAX), Instant::now());
    let stuck = || "this node's loop does not answer: restart the process".to_owned();
    let health = service.health(deadline).await.map_err(|_| stuck())?;
    let status = tokio::time::timeout(ANSWER_TIME_MAX, service.node().status()).await;
    let status = status.map_err(|_| stuck())?.map_err(|ended| ended.to_string())?;
    let info = api::ClusterInfoResponse::from(service.cluster_seen(deadline).await.map_err(|_| stuck())?);
    // A node that is away may take all of the time.
    let members = service.members_seen(deadline).await.ok();
    let layout = service.node().layout();
    let answers = ask_all(&info, &[], &|id| service.dialer_of(id), HEALTH_TIME_MAX).await;
    let report = Report::new(layout.old(), layout.new_placement(), members, rows(&info, &answers));

    let mut json = report.as_json();
    for node in json["nodes"].as_array_mut().into_iter().flatten() {
        let own = info.storage_nodes.iter().find(|member| node["id"] == member.id.as_str());
        if let Some(member) = own {
            node["slots"] = member.slots.into();
            let seen = member.last_seen.as_ref().map(|seen| seen.seconds);
            node["last_seen_seconds"] = json!(seen);
        }
        node["is_this"] = json!(node["id"] == info.node_id.as_str());
        let queued = status.peers.iter().find(|peer| node["id"] == peer.id.as_str()).map(|peer| peer.queued_bytes);
        node["queued_bytes"] = json!(queued);
    }
    let away: Vec<&str> = report.rows.iter().filter(|row| !row.serves()).map(|row| row.id.as_str()).collect();
    // A node that is no member knows nothing of the cluster but its own state.
    let word = if let Some(word) = status.unready.as_ref().and_then(no_member) {
        word
    } else if report.slots_lost > 0 {
        "unavailable"
    } else if !away.is_empty() || report.rows.iter().any(|row| row.state() == "degraded") {
        "degraded"
    } else {
        "healthy"
    };
    json["state"] = json!(word);
    json["verdict"] = json!(report.verdict());
    json["command"] = json!(command(&report, health.repair.is_on));

    let statistics = &health.statistics;
    let milliseconds = |micros: f64| rounded(micros / 1e3);
    json["node"] = json!({
        "id": health.node.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": health.uptime.as_secs(),
        "detail": health.detail,
        "operations_in_flight": status.requests,
        "disk_bytes": statistics.disk_bytes,
        "disk_free_bytes": statistics.disk_free_bytes,
        "keys_estimate": statistics.keys_estimate,
        "sync_p50_ms": milliseconds(statistics.log_sync_micros_p50),
        "sync_p99_ms": milliseconds(statistics.log_sync_micros_p99),
        "syncs": statistics.log_syncs,
        "stalled_seconds": rounded(statistics.stall_micros as f64 / 1e6),
        "write_buffer_bytes": statistics.write_buffer_bytes,
        "block_cache_bytes": statistics.block_cache_bytes,
        "compaction_pending_bytes": statistics.compaction_pending_bytes,
    });
    let repair = &health.repair;
    let name = |index: usize| health.nodes.get(index).map_or("", NodeId::as_str);
    json["repair"] = json!({
        "is_on": repair.is_on,
        "share_counted": repair.share_counted,
        "records": repair.counts.records,
        "tombstones": repair.counts.tombstones,
        "repaired": repair.repaired,
        "forgotten": repair.tombstones.counters.forgotten,
        "waits_for": repair.tombstones.missing.keys().map(|member| name(member.index())).collect::<Vec<_>>(),
        "pairs": repair
            .pairs
            .iter()
            .map(|pair| json!({
                "peer": name(pair.peer.index()),
                "is_comparing": pair.is_comparing,
                "behind": pair.behind,
                "equal_seconds": pair.equal_since.map(|since| since.as_secs()),
            }))
            .collect::<Vec<_>>(),
    });
    Ok(json)
}

/// The state of a node that is no member.
fn no_member(unready: &Unready) -> Option<&'static str> {
    match unready {
        Unready::Waiting => Some("waiting"),
        Unready::Removed => Some("removed"),
        _ => None,
    }
}

/// The command that mends, or that says more; nothing where all is well.
fn command(report: &Report, repairs: bool) -> Option<String> {
    report.members.as_ref()?;
    if let Some(away) = report.rows.iter().find(|row| row.state() == "no answer") {
        let address = RemoteAddress::parse(&away.address)?;
        return Some(if address.is_loopback() {
            "quorate serve node.yml cluster.yml".to_owned()
        } else {
            format!("ssh {} systemctl start quorate", address.host())
        });
    }
    let refused = report.rows.iter().find(|row| matches!(row.state(), "refused" | "degraded" | "starting"));
    if let Some(row) = refused {
        return Some(format!("quorate --address {} status", row.address));
    }
    let is_away = report.rows.iter().any(|row| !row.serves());
    if is_away && repairs {
        return Some("quorate repair".to_owned());
    }
    // How far the change is, and who waits to be added.
    (report.change.is_some() || !report.waiting().is_empty()).then(|| "quorate members".to_owned())
}
