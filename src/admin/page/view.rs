//! What the page shows now: all nodes as they answer, and this node in detail.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::{rounded, unix_millis};
use crate::api;
use crate::config::RemoteAddress;
use crate::protocol::placement::Placement;
use crate::protocol::{PeerView, Unready};
use crate::service::Service;
use crate::service::cluster_report::{HEALTH_TIME_MAX, Report, ask_timed, rows};
use crate::service::deadline::Deadline;
use crate::service::key_figures::{Hot, KeyFigures, Slow};
use crate::service::members::text::Moving;
use crate::types::NodeId;

/// How long this node may take to say what it knows.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// The rate of a change of members is that of so many looks: a minute.
const LOOKS_KEPT: usize = 30;

/// How far a change of members was when somebody looked, and the number of its configuration.
#[derive(Debug, Default)]
pub(super) struct Looks(VecDeque<(Instant, u64, Moving)>);

impl Looks {
    /// Slots and bytes that moved in a second lately, under the configuration of this number.
    fn rate(&mut self, at: Instant, number: u64, now: Moving) -> (f64, f64) {
        self.0.retain(|(_, known, _)| *known == number);
        if self.0.len() == LOOKS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back((at, number, now));
        let (first_at, _, first) = self.0[0];
        now.rate_since(first, at - first_at)
    }
}

/// The state of the cluster and of this node. An error where this node does not answer.
pub(super) async fn state(service: &Service, looks: &mut Looks) -> Result<Json, String> {
    let deadline = Deadline::new(Some(ANSWER_TIME_MAX), Instant::now());
    let stuck = || "this node's loop does not answer: restart the process".to_owned();
    let health = service.health(deadline).await.map_err(|_| stuck())?;
    let status = tokio::time::timeout(ANSWER_TIME_MAX, service.node().status()).await;
    let status = status.map_err(|_| stuck())?.map_err(|ended| ended.to_string())?;
    let info = api::ClusterInfoResponse::from(service.cluster_seen(deadline).await.map_err(|_| stuck())?);
    // A node that is away may take all of the time.
    let members = service.members_seen(deadline).await.ok();
    let layout = service.node().layout();
    let answers = ask_timed(&info, &[], &|id| service.dialer_of(id), HEALTH_TIME_MAX).await;
    let report = Report::new(layout.old(), layout.new_placement(), members, rows(&info, &answers));

    let mut json = report.as_json();
    for node in json["nodes"].as_array_mut().into_iter().flatten() {
        let own = info.storage_nodes.iter().find(|member| node["id"] == member.id.as_str());
        if let Some(member) = own {
            node["slots"] = member.slots.into();
            if let Some(new) = layout.new_placement() {
                node["slots_before"] = json!(slots_of(layout.old(), &member.id));
                node["slots_after"] = json!(slots_of(new, &member.id));
            }
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
    let (purpose, command) = command(&report, health.repair.is_on).unzip();
    (json["purpose"], json["command"]) = (json!(purpose), json!(command));
    add_progress(&mut json["change"], &report, looks);

    let statistics = &health.statistics;
    let milliseconds = |micros: f64| rounded(micros / 1e3);
    json["node"] = json!({
        "id": health.node.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": health.uptime.as_secs(),
        "detail": health.detail,
        "operations_in_flight": status.requests,
        "disk_bytes": statistics.disk_bytes,
        "disk_free_bytes": statistics.disk_room.map(|room| room.free),
        "disk_total_bytes": statistics.disk_room.map(|room| room.size),
        "keys_estimate": statistics.keys_estimate,
        "sync_p50_ms": milliseconds(statistics.log_sync_micros_p50),
        "sync_p99_ms": milliseconds(statistics.log_sync_micros_p99),
        "syncs": statistics.log_syncs,
        "stalled_seconds": rounded(statistics.stall_micros as f64 / 1e6),
        "write_buffer_bytes": statistics.write_buffer_bytes,
        "block_cache_bytes": statistics.block_cache_bytes,
        "compaction_pending_bytes": statistics.compaction_pending_bytes,
    });
    (json["slowest"], json["hottest"]) = of_keys(service.key_figures(), Instant::now());
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
                "is_linked": status.peers.iter().any(|peer| peer.member == pair.peer && peer.view == PeerView::Talking),
                "equal_seconds": pair.equal_since.map(|since| since.as_secs()),
            }))
            .collect::<Vec<_>>(),
    });
    Ok(json)
}

/// Adds how fast a change of members goes, how long it still takes, and for whom it waits.
fn add_progress(json: &mut Json, report: &Report, looks: &mut Looks) {
    let (Some(change), Some(members)) = (&report.change, &report.members) else { return };
    let moving = change.moving;
    let rate = looks.rate(Instant::now(), members.number, moving);
    let left = moving.time_left(rate).map(|left| left.as_secs());
    let busy = members.members.iter().filter(|member| member.in_new);
    let busy = busy.filter(|member| !member.progress.unwrap_or_default().complete).map(|member| &member.id);
    json["bytes_per_second"] = rounded(rate.1);
    json["seconds_left"] = json!(left);
    json["bytes_about"] = json!(moving.bytes_about());
    json["busy"] = json!(busy.collect::<Vec<_>>());
}

/// The slowest operations, and the keys that are named most often, which are nothing where keys may not be shown.
fn of_keys(figures: &KeyFigures, now: Instant) -> (Json, Json) {
    let slow = |slow: &Slow| {
        let ago = now.saturating_duration_since(slow.ended);
        json!({
            "at": unix_millis().saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
            "took_ms": rounded(slow.took.as_secs_f64() * 1e3),
            "method": slow.method,
            "slot": slow.slot.map(|slot| slot.0),
            "key": slow.key,
            "is_done": slow.is_done,
        })
    };
    let hot = |hot: &Hot| json!({ "key": hot.key, "share": rounded(hot.share) });
    let hottest = if figures.shows_keys() { figures.hottest(now).iter().map(hot).collect() } else { Json::Null };
    (figures.slowest(now).iter().map(slow).collect(), hottest)
}

/// The state of a node that is no member.
fn no_member(unready: &Unready) -> Option<&'static str> {
    match unready {
        Unready::Waiting => Some("waiting"),
        Unready::Removed => Some("removed"),
        _ => None,
    }
}

/// How many slots a node holds by one list of members.
fn slots_of(placement: &Placement, id: &str) -> u32 {
    let parameters = placement.parameters();
    let held = std::iter::zip(&parameters.node_ids, placement.slots_held());
    held.filter(|(listed, _)| listed.as_str() == id).map(|(_, slots)| *slots).sum()
}

/// What to do, and the command that does it; nothing where all is well.
fn command(report: &Report, repairs: bool) -> Option<(String, String)> {
    report.members.as_ref()?;
    if let Some(away) = report.rows.iter().find(|row| row.state() == "no answer") {
        let address = RemoteAddress::parse(&away.address)?;
        let purpose = format!("Start node {} at {}:", away.id, away.address);
        let command = if address.is_loopback() {
            "quorate serve NODE_FILE CLUSTER_FILE".to_owned()
        } else {
            format!("ssh {} systemctl start quorate", address.host())
        };
        return Some((purpose, command));
    }
    let refused = report.rows.iter().find(|row| matches!(row.state(), "refused" | "degraded" | "starting"));
    if let Some(row) = refused {
        let purpose = format!("See why node {} is {}:", row.id, row.state());
        return Some((purpose, format!("quorate --address {} status", row.address)));
    }
    let is_away = report.rows.iter().any(|row| !row.serves());
    if is_away && repairs {
        return Some(("See which replicas are behind:".to_owned(), "quorate repair".to_owned()));
    }
    let purpose = match (report.change.is_some(), report.waiting()) {
        (true, _) => "Watch the change of members:",
        (false, []) => return None,
        (false, _) => "See who waits to be added:",
    };
    Some((purpose.to_owned(), "quorate members".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ClusterParameters;

    #[test]
    fn rate_of_a_change_is_that_of_the_last_minute_of_it() {
        let began = Instant::now();
        let moving = |slots_done| Moving { slots: 1_000, slots_done, bytes: slots_done * 10, nodes: 1 };
        let mut looks = Looks::default();
        assert_eq!(looks.rate(began, 1, moving(900)), (0.0, 0.0), "one look has no rate");
        assert_eq!(looks.rate(began, 3, moving(0)), (0.0, 0.0), "another change begins anew");
        for seconds in 1..=40 {
            looks.rate(began + Duration::from_secs(seconds * 2), 3, moving(seconds * seconds / 4));
        }
        assert_eq!(looks.0.len(), LOOKS_KEPT);
        let (slots, bytes) = looks.rate(began + Duration::from_secs(82), 3, moving(458));
        assert!((slots * 10.0 - bytes).abs() < 1e-9 && slots > 5.5, "it is faster than at the beginning: {slots}");
        assert_eq!(moving(458).time_left((0.0, 0.0)), None);
        assert_eq!(moving(458).time_left((10.0, 50.0)), Some(Duration::from_secs(109)), "5,420 bytes are left");
        assert_eq!(moving(458).time_left((10.0, 0.0)), Some(Duration::from_secs(55)), "what is left is empty");
        assert_eq!(moving(0).time_left((0.0, 50.0)), None, "nobody knows how much there is");
    }

    #[test]
    fn slots_are_those_of_the_list() {
        let ids = ["1", "2", "3"].map(|id| NodeId::new(id).unwrap()).to_vec();
        let placement = Placement::new(ClusterParameters::plain(0, 3, ids));
        assert_eq!((slots_of(&placement, "2"), slots_of(&placement, "4")), (65_536, 0));
    }
}
