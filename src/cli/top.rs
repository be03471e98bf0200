//! `quorate top`: what the nodes do now, again and again.
//!
//! Rates are differences between two answers of a node about its health. So top costs a node what `status` costs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value as Json, json};

use super::again::show_again;
use super::status::{ask, bytes_text, uptime_text};
use super::{CliError, Exit, Global};
use crate::api;
use crate::service::cluster_report::{Report, Row, View};

/// Show what the nodes do now, again and again
///
/// Asks each node for its health, as `quorate status` does. Shows what has changed in each second since the last answer: requests
/// of clients that the node has answered, keys, bytes on disk, and the node's clock. A clock rises with the writes of the whole
/// cluster, by one for those that meet at once. BEHIND is how many keys wait to be repaired, and LINKS how many of the other nodes
/// are linked.
///
/// Ctrl-C ends it, with code 3 if some keys could be neither read nor written when it looked last.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate top
  quorate top --every 5s
  quorate top --json --count 2 | jq '.nodes[].rates'")]
pub(super) struct Top {
    /// The pause between two looks
    #[arg(long, value_name = "DURATION", value_parser = super::duration, default_value = "1s")]
    every: Duration,
    /// End after so many looks; without it, Ctrl-C ends it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// What a node has counted.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counted {
    at: Instant,
    uptime: i64,
    requests: u64,
    keys: u64,
    disk_bytes: u64,
    /// Epoch and counter.
    clock: (u64, u64),
}

/// How fast something changes, for each second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    requests: f64,
    keys: f64,
    disk_bytes: f64,
    /// Absent where the node has restarted, or its clock is in another epoch.
    clock: Option<f64>,
}

impl Top {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let mut before = BTreeMap::new();
        show_again(self.every, self.count, global, async || {
            let report = ask(global).await?;
            let now = counted(&report, Instant::now());
            let rates = rates(&before, &now);
            let text = if global.json { format!("{}\n", as_json(&report, &rates)) } else { as_text(&report, &rates) };
            before = now;
            Ok((text, if report.slots_lost > 0 { Exit::NotDone } else { Exit::Done }))
        })
        .await
    }
}

/// What each node that answered has counted.
fn counted(report: &Report, at: Instant) -> BTreeMap<String, Counted> {
    let of_node = |row: &Row| {
        let View::Answer(health) = &row.view else { return None };
        let clock = health.clock.as_ref().map_or((0, 0), |clock| (clock.epoch, clock.clock));
        let uptime = health.uptime.as_ref().map_or(0, |uptime| uptime.seconds);
        let api::HealthResponse { requests, keys_estimate: keys, disk_bytes, .. } = **health;
        let counted = Counted { at, uptime, requests, keys, disk_bytes, clock };
        Some((row.id.clone(), counted))
    };
    report.rows.iter().filter_map(of_node).collect()
}

fn rates(before: &BTreeMap<String, Counted>, now: &BTreeMap<String, Counted>) -> BTreeMap<String, Rates> {
    let of_node = |(id, now): (&String, &Counted)| {
        let before = before.get(id)?;
        let seconds = (now.at - before.at).as_secs_f64();
        // Another run of the process begins with other numbers.
        (seconds > 0.0 && now.uptime >= before.uptime).then_some(())?;
        let per_second = |before: u64, now: u64| (now as f64 - before as f64) / seconds;
        let clock = (now.clock.0 == before.clock.0).then(|| per_second(before.clock.1, now.clock.1));
        let rates = Rates {
            requests: per_second(before.requests, now.requests),
            keys: per_second(before.keys, now.keys),
            disk_bytes: per_second(before.disk_bytes, now.disk_bytes),
            clock,
        };
        Some((id.clone(), rates))
    };
    now.iter().filter_map(of_node).collect()
}

/// How many keys wait to be repaired with any peer.
fn behind(health: &api::HealthResponse) -> u64 {
    health.peers.iter().filter_map(|peer| peer.repair.as_ref()).map(|repair| repair.behind).sum()
}

/// How many of the others are linked, and how many there are.
fn links(health: &api::HealthResponse) -> (usize, usize) {
    let linked = health.peers.iter().filter(|peer| peer.state() == api::PeerState::PeerLinked).count();
    (linked, health.peers.len())
}

fn as_text(report: &Report, rates: &BTreeMap<String, Rates>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "STATE", "UP", "REQ/S", "KEYS", "KEYS/S", "DISK", "DISK/S", "CLOCK/S", "BEHIND", "LINKS"]);
    for row in &report.rows {
        let mut cells = vec![row.id.clone(), report.state_of(row)];
        match &row.view {
            View::Unreachable(_) => cells.extend(vec!["-".to_owned(); 9]),
            View::Answer(health) => {
                let rates = rates.get(&row.id);
                let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), rate_text);
                let (linked, all) = links(health);
                cells.extend([
                    health.uptime.as_ref().map_or_else(|| "-".to_owned(), |uptime| uptime_text(uptime.seconds)),
                    rates.map_or_else(|| "-".to_owned(), |rates| format!("{:.0}", rates.requests)),
                    format!("~{}", health.keys_estimate),
                    rate(rates.map(|rates| rates.keys)),
                    bytes_text(health.disk_bytes),
                    rates.map_or_else(|| "-".to_owned(), |rates| signed_bytes(rates.disk_bytes)),
                    rate(rates.and_then(|rates| rates.clock)),
                    behind(health).to_string(),
                    format!("{linked}/{all}"),
                ]);
            }
        }
        table.add_row(cells);
    }
    let mut text = String::new();
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text + &report.rest_as_text()
}

/// A whole number with its sign. A fall of less than a half is no `-0`.
fn rate_text(rate: f64) -> String {
    format!("{:+.0}", rate.round() + 0.0)
}

fn signed_bytes(bytes: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is shown with few digits")]
    let size = bytes_text(bytes.abs() as u64);
    if bytes < 0.0 { format!("-{size}") } else { format!("+{size}") }
}

fn as_json(report: &Report, rates: &BTreeMap<String, Rates>) -> Json {
    let rounded = |rate: f64| (rate * 10.0).round() / 10.0;
    let mut json = report.as_json();
    for (row, node) in report.rows.iter().zip(json["nodes"].as_array_mut().into_iter().flatten()) {
        let View::Answer(health) = &row.view else { continue };
        let (linked, all) = links(health);
        node["behind_keys"] = json!(behind(health));
        node["links"] = json!({ "linked": linked, "all": all });
        node["rates"] = rates.get(&row.id).map_or(Json::Null, |rates| {
            json!({
                "requests_per_second": rounded(rates.requests),
                "keys_per_second": rounded(rates.keys),
                "disk_bytes_per_second": rounded(rates.disk_bytes),
                "clock_per_second": rates.clock.map(rounded),
            })
        });
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::placement::Placement;
    use crate::service::cluster_report::Away;
    use crate::types::{ClusterParameters, NodeId};

    fn report(clock: (u64, u64), keys: u64, disk_bytes: u64) -> Report {
        let node_ids = ["1", "2"].map(|id| NodeId::new(id).unwrap()).to_vec();
        let placement = Placement::new(ClusterParameters::plain(0, 2, node_ids));
        let peer = |state: api::PeerState, behind| api::PeerHealth {
            node_id: "2".into(),
            state: state.into(),
            repair: Some(api::PairHealth { behind, ..Default::default() }),
            ..Default::default()
        };
        let health = api::HealthResponse {
            node_id: "1".into(),
            status: api::Health::Online.into(),
            uptime: Some(prost_types::Duration { seconds: 70, nanos: 0 }),
            clock: Some(api::ClockValue { epoch: clock.0, clock: clock.1, node: "1".into() }),
            keys_estimate: keys,
            requests: keys * 100,
            disk_bytes,
            peers: vec![peer(api::PeerState::PeerUnreachable, 7)],
            serves: true,
            ..Default::default()
        };
        let away = View::Unreachable(Away { reason: "h:2 refuses connections from here".into(), ..Away::default() });
        let row = |id: &str, view| Row { id: id.into(), address: format!("h:{id}"), view, took: None };
        Report::new(&placement, None, None, vec![row("1", View::Answer(Box::new(health))), row("2", away)])
    }

    #[test]
    fn rates_are_what_has_changed_in_each_second() {
        let began = Instant::now();
        let before = counted(&report((4, 100), 10, 4_096), began);
        let later = report((4, 600), 5, 1 << 20);
        let now = counted(&later, began + Duration::from_secs(5));
        let found = rates(&before, &now);
        let expected =
            Rates { requests: -100.0, keys: -1.0, disk_bytes: f64::from((1 << 20) - 4_096) / 5.0, clock: Some(100.0) };
        assert_eq!(found, BTreeMap::from([("1".to_owned(), expected)]), "node 2 has not answered");
        let text = as_text(&later, &found);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "ID STATE UP REQ/S KEYS KEYS/S DISK DISK/S CLOCK/S BEHIND LINKS");
        assert_eq!(lines[1], "1 online 1m10s -100 ~5 -1 1.0 MiB +204.0 KiB +100 7 0/1");
        assert_eq!(lines[2], "2 no answer - - - - - - - - -");
        let json = as_json(&later, &found);
        assert_eq!(
            (&json["nodes"][0]["rates"]["clock_per_second"], &json["nodes"][0]["behind_keys"]),
            (&json!(100.0), &json!(7))
        );
        assert_eq!(json["nodes"][1]["rates"], Json::Null);
    }

    #[test]
    fn restarted_node_has_no_rate_of_its_clock() {
        let began = Instant::now();
        let before = counted(&report((4, 100), 10, 0), began);
        let now = counted(&report((5, 0), 10, 0), began + Duration::from_secs(1));
        assert_eq!(rates(&before, &now)["1"].clock, None);
        let mut earlier = before.clone();
        earlier.get_mut("1").unwrap().uptime = 9_000;
        assert!(rates(&earlier, &now).is_empty(), "it runs shorter than before");
        assert!(rates(&BTreeMap::new(), &now).is_empty(), "there is nothing to compare with at first");
        assert_eq!([-0.4, 0.0, 7.6].map(rate_text), ["+0", "+0", "+8"]);
    }
}
