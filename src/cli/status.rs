//! `quorate status`: how each node is, and how much more the cluster bears.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use super::locate::parameters;
use super::output::{print, print_json};
use super::{CliError, Exit, Global};
use crate::api;
use crate::client::Client;
use crate::protocol::placement::Placement;
use crate::protocol::quorum::majority;
use crate::types::{Clock, Slot};

/// A node that is well answers in a millisecond; a person who asks how a sick cluster is should not wait for long.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(1);

/// Show how each node is, and how many more failures the cluster bears
///
/// Asks one node which others there are, and then every node how it is, at the address by which the nodes reach each
/// other. Ends with code 3 if some keys can be neither read nor written now.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate status
  quorate --address n1:8001,n2:8001 status
  quorate status --json | jq .failures_tolerated")]
pub(super) struct Status {}

impl Status {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let info = global.client()?.cluster_info().await?;
        let placement = Placement::new(parameters(&info)?);
        let report = Report::new(&placement, rows(&info, global.timeout.min(HEALTH_TIME_MAX)).await);
        if global.json {
            print_json(&report.as_json())?;
        } else {
            print(report.as_text().as_bytes())?;
        }
        Ok(if report.slots_lost == 0 { Exit::Done } else { Exit::NotDone })
    }
}

/// One node: what the cluster says of it, and what it says itself.
struct Row {
    id: String,
    address: String,
    health: Result<api::HealthResponse, String>,
}

impl Row {
    /// Whether it can be counted on for its slots. A node that is degraded because others are away can.
    fn serves(&self) -> bool {
        self.health.as_ref().is_ok_and(|health| health.serves)
    }

    fn state(&self) -> &'static str {
        match self.health.as_ref().map(api::HealthResponse::status) {
            Err(_) => "no answer",
            Ok(api::Health::Default) => "unknown",
            Ok(api::Health::Online) => "online",
            Ok(api::Health::Starting) => "starting",
            Ok(api::Health::Degraded) => "degraded",
            Ok(api::Health::Draining) => "draining",
            Ok(api::Health::Refused) => "refused",
        }
    }

    fn detail(&self) -> &str {
        self.health.as_ref().map_or_else(String::as_str, |health| &health.detail)
    }
}

async fn rows(info: &api::ClusterInfoResponse, patience: Duration) -> Vec<Row> {
    let mut asking = JoinSet::new();
    for node in &info.storage_nodes {
        let api::StorageNode { id, address, .. } = node.clone();
        asking.spawn(async move {
            let client = Client::builder().address(&address).deadline(patience).build();
            let health = match client {
                Ok(client) => client.health().await,
                Err(error) => Err(error),
            };
            let health = match health {
                Ok(health) if health.node_id != id => Err(format!("node {:?} answers there", health.node_id)),
                other => other.map_err(|error| error.to_string()),
            };
            Row { id, address, health }
        });
    }
    let mut rows = asking.join_all().await;
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    rows
}

/// What `status` shows.
struct Report {
    rows: Vec<Row>,
    replica_count: usize,
    /// How many more nodes may fail, whichever they are, before some key can be neither read nor written.
    failures_tolerated: usize,
    /// How many slots have no majority of their replicas online.
    slots_lost: usize,
}

impl Report {
    fn new(placement: &Placement, rows: Vec<Row>) -> Self {
        let parameters = placement.parameters();
        let online: Vec<bool> =
            parameters.node_ids.iter().map(|id| rows.iter().any(|row| row.id == id.as_str() && row.serves())).collect();
        let needed = majority(parameters.replica_count);
        let mut online_least = parameters.replica_count;
        let mut slots_lost = 0;
        for slot in 0..=u16::MAX {
            let replicas = placement.replicas(Slot(slot));
            let count = replicas.iter().filter(|member| online[member.index()]).count();
            online_least = online_least.min(count);
            slots_lost += usize::from(count < needed);
        }
        let failures_tolerated = online_least.saturating_sub(needed);
        Self { rows, replica_count: parameters.replica_count, failures_tolerated, slots_lost }
    }

    fn as_text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["ID", "ADDRESS", "STATE", "UPTIME", "VERSION", "KEYS", "DISK", "CLOCK"]);
        for row in &self.rows {
            let mut cells = vec![row.id.clone(), row.address.clone(), row.state().to_owned()];
            match &row.health {
                Err(_) => cells.extend(["-", "-", "-", "-", "-"].map(str::to_owned)),
                Ok(health) => cells.extend([
                    health.uptime.as_ref().map_or_else(|| "-".to_owned(), |uptime| uptime_text(uptime.seconds)),
                    health.version.clone(),
                    format!("~{}", health.keys_estimate),
                    bytes_text(health.disk_bytes),
                    health.clock.clone().map_or_else(|| "-".to_owned(), |clock| Clock::from(clock).to_string()),
                ]),
            }
            table.add_row(cells);
        }
        let mut text = String::new();
        for line in table.lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        for row in self.rows.iter().filter(|row| !row.detail().is_empty()) {
            let _ = writeln!(text, "node {}: {}", row.id, row.detail());
        }
        text + &self.verdict() + "\n"
    }

    fn verdict(&self) -> String {
        let away: Vec<&str> = self.rows.iter().filter(|row| !row.serves()).map(|row| row.id.as_str()).collect();
        let away = away.join(", ");
        if self.slots_lost > 0 {
            return format!(
                "{} of {} slots lack a majority of their {} replicas: their keys can be neither read nor written until \
                 more of these nodes are online: {away}",
                self.slots_lost,
                Slot::COUNT,
                self.replica_count
            );
        }
        match self.failures_tolerated {
            0 if away.is_empty() => format!(
                "tolerates no failure: with {} a slot, all replicas it needs are in use; a larger replica_count bears \
                 more",
                if self.replica_count == 1 {
                    "1 replica".to_owned()
                } else {
                    format!("{} replicas", self.replica_count)
                }
            ),
            0 => format!("tolerates no more failures: bring these nodes back: {away}"),
            1 => "tolerates 1 more failure".to_owned(),
            more => format!("tolerates {more} more failures"),
        }
    }

    fn as_json(&self) -> Json {
        let nodes: Vec<Json> = self
            .rows
            .iter()
            .map(|row| {
                let mut json = json!({
                    "id": row.id, "address": row.address, "state": row.state(), "detail": row.detail(),
                });
                if let Ok(health) = &row.health {
                    let clock = health.clock.clone().map(Clock::from).unwrap_or_default();
                    json["uptime_seconds"] = json!(health.uptime.as_ref().map(|uptime| uptime.seconds));
                    json["version"] = json!(health.version);
                    json["keys_estimate"] = json!(health.keys_estimate);
                    json["disk_bytes"] = json!(health.disk_bytes);
                    json["clock"] = json!({ "epoch": clock.epoch, "clock": clock.counter });
                }
                json
            })
            .collect();
        json!({
            "nodes": nodes,
            "replica_count": self.replica_count,
            "failures_tolerated": self.failures_tolerated,
            "slots_without_majority": self.slots_lost,
        })
    }
}

fn uptime_text(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// `bytes` in the unit that leaves one to four digits before the point.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = UNITS.len().min(1 + bytes.checked_ilog(1_024).unwrap_or(0) as usize) - 1;
    if unit == 0 {
        return format!("{bytes} B");
    }
    let scale = 1_u64 << (10 * unit);
    let tenths = u128::from(bytes) * 10 / u128::from(scale);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterParameters, NodeId};

    fn placement(nodes: usize, replica_count: usize) -> Placement {
        let node_ids = (1..=nodes).map(|id| NodeId::new(&id.to_string()).unwrap()).collect();
        Placement::new(ClusterParameters { seed: 0, replica_count, node_ids })
    }

    fn row(id: usize, status: Option<api::Health>) -> Row {
        let health = match status {
            None => Err("connection refused".to_owned()),
            Some(status) => Ok(api::HealthResponse {
                node_id: id.to_string(),
                status: status.into(),
                uptime: Some(prost_types::Duration { seconds: 3_700, nanos: 0 }),
                version: "0.1.0".into(),
                clock: Some(api::ClockValue { epoch: 2, clock: 40, node: id.to_string() }),
                keys_estimate: 12,
                disk_bytes: 1_536,
                serves: status == api::Health::Online,
                ..Default::default()
            }),
        };
        Row { id: id.to_string(), address: format!("127.0.0.1:{}", 8_000 + id), health }
    }

    /// A report on `nodes` nodes of which the first `away` do not answer.
    fn report(nodes: usize, replica_count: usize, away: usize) -> Report {
        let status = |id: usize| (id > away).then_some(api::Health::Online);
        Report::new(&placement(nodes, replica_count), (1..=nodes).map(|id| row(id, status(id))).collect())
    }

    #[test]
    fn failures_tolerated_is_that_of_the_worst_slot() {
        for (nodes, replica_count, away, tolerated, any_lost) in [
            (3, 3, 0, 1, false),
            (3, 3, 1, 0, false),
            (3, 3, 2, 0, true),
            (5, 5, 1, 1, false),
            (9, 3, 0, 1, false),
            (9, 3, 1, 0, false),
            // Two of nine away: some slot has both among its three.
            (9, 3, 2, 0, true),
            (1, 1, 0, 0, false),
        ] {
            let report = report(nodes, replica_count, away);
            let shown = (report.failures_tolerated, report.slots_lost > 0);
            assert_eq!(shown, (tolerated, any_lost), "{nodes} nodes, {replica_count} replicas, {away} away");
        }
        assert_eq!(report(3, 3, 3).slots_lost, Slot::COUNT);
    }

    #[test]
    fn verdict_says_what_to_do() {
        assert_eq!(report(3, 3, 0).verdict(), "tolerates 1 more failure");
        assert_eq!(report(5, 5, 0).verdict(), "tolerates 2 more failures");
        assert_eq!(report(3, 3, 1).verdict(), "tolerates no more failures: bring these nodes back: 1");
        assert!(report(3, 3, 2).verdict().starts_with("65536 of 65536 slots lack a majority of their 3 replicas"));
        assert!(report(3, 3, 2).verdict().ends_with("online: 1, 2"));
        assert!(report(1, 1, 0).verdict().contains("larger replica_count"));
    }

    #[test]
    fn degraded_node_is_not_counted_on() {
        let rows = vec![row(1, Some(api::Health::Degraded)), row(2, Some(api::Health::Online))];
        let report = Report::new(&placement(2, 1), rows);
        assert!(report.slots_lost > 0 && report.slots_lost < Slot::COUNT);
    }

    #[test]
    fn table_shows_each_node_and_why_one_is_away() {
        let text = report(3, 3, 1).as_text();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["ID", "ADDRESS", "STATE", "UPTIME", "VERSION", "KEYS", "DISK", "CLOCK"]);
        assert_eq!(lines[1], ["1", "127.0.0.1:8001", "no", "answer", "-", "-", "-", "-", "-"]);
        assert_eq!(lines[2], ["2", "127.0.0.1:8002", "online", "1h1m", "0.1.0", "~12", "1.5", "KiB", "2.40"]);
        assert_eq!(lines[4].join(" "), "node 1: connection refused");
        assert_eq!(lines.len(), 6, "{text}");
    }

    #[test]
    fn json_bears_numbers() {
        let json = report(3, 3, 1).as_json();
        assert_eq!(json["nodes"][0]["state"], "no answer");
        assert_eq!(json["nodes"][1]["disk_bytes"], 1_536);
        assert_eq!(json["nodes"][1]["clock"]["clock"], 40);
        assert_eq!((&json["failures_tolerated"], &json["slots_without_majority"]), (&json!(0), &json!(0)));
    }

    #[test]
    fn sizes_and_times_are_short() {
        for (bytes, text) in
            [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (u64::MAX, "16777215.9 TiB"), (60 << 20, "60.0 MiB")]
        {
            assert_eq!(bytes_text(bytes), text);
        }
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m1s"), (3_600, "1h0m"), (90_000, "1d1h")] {
            assert_eq!(uptime_text(seconds), text);
        }
    }
}
