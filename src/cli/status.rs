//! `quorate status`: show the state of each node, and how many more failures the cluster tolerates.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};

use super::again::show_again;
use super::locate::lists;
use super::members::text::rest_text;
use super::output::{print, say};
use super::{CliError, Exit, Global};
use crate::client::ClientError;
use crate::protocol::placement::Placement;
pub(super) use crate::service::cluster_report::bytes_text;
use crate::service::cluster_report::{HEALTH_TIME_MAX, Report, Row, View, ask_timed, disk_room, rows};
use crate::types::{Clock, Weight};
use crate::wire::failure::FailureReason;

/// Show the state of each node, and how many more failures the cluster tolerates
///
/// Asks one node for the list of nodes, and then each node for its health: at the addresses given here, and at the
/// addresses by which the nodes reach each other. A node that is not reachable from here is shown as the other nodes see
/// it. Ends with code 3 if some keys can be neither read nor written now.
///
/// With --require-tolerance N it ends with code 6 if fewer than N more failures are tolerated: for monitors and scripts.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate status
  quorate --address n1:8001,n2:8001 status
  quorate status --watch                      again every two seconds, until Ctrl-C
  quorate status --require-tolerance 1        code 6 if no node may fail now
  quorate status --json | jq .failures_tolerated")]
pub(super) struct Status {
    /// End with code 6 if fewer failures than this are tolerated
    #[arg(long, value_name = "N")]
    require_tolerance: Option<usize>,
    /// Show it again and again, until Ctrl-C: every two seconds, or as often as this says
    #[arg(long, value_name = "DURATION", value_parser = super::duration, num_args = 0..=1, default_missing_value = "2s", require_equals = true)]
    watch: Option<Duration>,
}

impl Status {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let Some(every) = self.watch else {
            let report = ask(global).await?;
            print(shown(&report, global).as_bytes())?;
            if let (Exit::NotGoodEnough, Some(required)) = (self.exit(&report), self.require_tolerance) {
                say(&format!("fewer failures are tolerated than --require-tolerance {required} asks for"));
            }
            return Ok(self.exit(&report));
        };
        show_again(every, None, global, async || {
            let report = ask(global).await?;
            Ok((shown(&report, global), self.exit(&report)))
        })
        .await
    }

    fn exit(&self, report: &Report) -> Exit {
        if report.slots_lost > 0 {
            Exit::NotDone
        } else if self.require_tolerance.is_some_and(|required| report.failures_tolerated < required) {
            Exit::NotGoodEnough
        } else {
            Exit::Done
        }
    }
}

const NO_MEMBERS: &str = "the nodes above may be none of the cluster any more";

/// Asks all nodes.
pub(super) async fn ask(global: &Global) -> Result<Report, CliError> {
    let client = global.client()?;
    let info = client.cluster_info().await?;
    // A node that waits to become a member knows of no others, and a cluster of such nodes has none.
    let (members, problem) = match client.members().await {
        Ok(members) => (Some(members), None),
        Err(ClientError::Refused { node })
            if node.failure.as_ref().is_some_and(|failure| failure.reason == FailureReason::PermissionDenied) =>
        {
            (None, Some(format!("whether members change is for observers to know: {}", node.message)))
        }
        Err(ClientError::Unavailable { last, .. }) => (None, Some(format!("{NO_MEMBERS}: {last}"))),
        Err(error) => (None, Some(format!("{NO_MEMBERS}: {error}"))),
    };
    let lists = lists(&info, members.as_ref())?;
    let (old, new) = (Placement::new(lists.old), lists.new.map(Placement::new));
    let dialer = global.dialer()?;
    let time_max = global.timeout.min(HEALTH_TIME_MAX);
    let answers = ask_timed(&info, &global.addresses()?, &|_| dialer.clone(), time_max).await;
    Ok(Report::new(&old, new.as_ref(), members, rows(&info, &answers)).with_problem(problem))
}

fn shown(report: &Report, global: &Global) -> String {
    if global.json { format!("{}\n", report.as_json()) } else { report.as_text() }
}

impl Report {
    pub(super) fn as_text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // Most clusters have neither weights nor zones, and a line has room for little more than the rest.
        let has_weights = self.sites.iter().any(|site| site.weight != Weight::ONE);
        let has_zones = self.sites.iter().any(|site| site.zone.is_some());
        let mut header =
            vec!["ID", "ADDRESS", "STATE", "UPTIME", "VERSION", "KEYS", "DISK", "DISK FREE", "CLOCK", "ANSWER"];
        header.extend(has_weights.then_some("WEIGHT"));
        header.extend(has_zones.then_some("ZONE"));
        table.set_header(header);
        for (row, site) in self.rows.iter().zip(&self.sites) {
            let mut cells = vec![row.id.clone(), row.address.clone(), self.state_of(row)];
            match &row.view {
                View::Unreachable(_) => cells.extend(vec!["-".to_owned(); 7]),
                View::Answer(health) => cells.extend([
                    health.uptime.as_ref().map_or_else(|| "-".to_owned(), |uptime| uptime_text(uptime.seconds)),
                    health.version.clone(),
                    format!("~{}", health.keys_estimate),
                    bytes_text(health.disk_bytes),
                    disk_room(health).map_or_else(|| "-".to_owned(), room_text),
                    health.clock.clone().map_or_else(|| "-".to_owned(), |clock| Clock::from(clock).to_string()),
                    row.took.map_or_else(|| "-".to_owned(), answer_text),
                ]),
            }
            cells.extend(has_weights.then(|| site.weight.to_string()));
            cells.extend(has_zones.then(|| site.zone.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)));
            table.add_row(cells);
        }
        let mut text = String::new();
        for line in table.lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        for (row, detail) in self.rows.iter().map(|row| (row, row.detail())) {
            if !detail.is_empty() {
                let _ = writeln!(text, "node {}: {detail}", row.id);
            }
        }
        text + &self.rest_as_text()
    }

    /// The state of a node, and what it is to a change of members.
    pub(super) fn state_of(&self, row: &Row) -> String {
        // That of a member that stays goes without saying.
        match self.role(&row.id).filter(|role| *role != "member") {
            Some(role) => format!("{}, {role}", row.state()),
            None => row.state().to_owned(),
        }
    }

    /// The nodes that wait, a change of members, and the verdict.
    pub(super) fn rest_as_text(&self) -> String {
        let mut text = String::new();
        for node in self.waiting() {
            let _ = writeln!(text, "node {} at {} waits to be added: quorate members apply", node.id, node.address);
        }
        if let (Some(change), Some(members)) = (&self.change, &self.members) {
            let after = change.failures_tolerated;
            let _ = writeln!(
                text,
                "members change (configuration {}): {}; afterwards {after} more {} tolerated",
                members.number,
                rest_text(change.moving, None),
                if after == 1 { "failure is" } else { "failures are" }
            );
        }
        if let Some(problem) = &self.problem {
            let _ = writeln!(text, "{problem}");
        }
        for warning in self.warnings() {
            let _ = writeln!(text, "warning: {warning}");
        }
        text + &self.verdict() + "\n"
    }
}

/// Bytes that are free on a disk, and the share of it that they are.
fn room_text((free, total): (u64, u64)) -> String {
    let percent = u128::from(free) * 100 / u128::from(total.max(1));
    format!("{} ({percent} %)", bytes_text(free))
}

/// The time of an answer.
fn answer_text(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

pub(super) fn uptime_text(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api;
    use crate::service::cluster_report::{Away, TimedAnswers};
    use crate::types::{ClusterParameters, NodeId, Site, Slot};

    fn placement(nodes: usize, replica_count: usize) -> Placement {
        let node_ids = (1..=nodes).map(|id| NodeId::new(&id.to_string()).unwrap()).collect();
        Placement::new(ClusterParameters::plain(0, replica_count, node_ids))
    }

    fn health(id: usize, status: api::Health) -> api::HealthResponse {
        api::HealthResponse {
            node_id: id.to_string(),
            status: status.into(),
            uptime: Some(prost_types::Duration { seconds: 3_700, nanos: 0 }),
            version: "0.1.0".into(),
            clock: Some(api::ClockValue { epoch: 2, clock: 40, node: id.to_string() }),
            keys_estimate: 12,
            disk_bytes: 1_536,
            disk_free_bytes: Some(30 << 30),
            disk_total_bytes: Some(100 << 30),
            serves: status == api::Health::Online,
            ..Default::default()
        }
    }

    fn row(id: usize, status: Option<api::Health>) -> Row {
        let view = match status {
            None => {
                View::Unreachable(Away { reason: "h:1 refuses connections from here".to_owned(), ..Away::default() })
            }
            Some(status) => View::Answer(Box::new(health(id, status))),
        };
        let took = status.map(|_| Duration::from_micros(1_260));
        Row { id: id.to_string(), address: format!("127.0.0.1:{}", 8_000 + id), view, took }
    }

    /// A report on `nodes` nodes of which the first `away` do not answer.
    fn report(nodes: usize, replica_count: usize, away: usize) -> Report {
        let status = |id: usize| (id > away).then_some(api::Health::Online);
        Report::new(&placement(nodes, replica_count), None, None, (1..=nodes).map(|id| row(id, status(id))).collect())
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
        assert_eq!(report(3, 3, 1).verdict(), "tolerates no more failures: bring node 1 back");
        assert!(report(3, 3, 2).verdict().starts_with("65536 of 65536 slots lack a majority of their 3 replicas"));
        assert!(report(3, 3, 2).verdict().ends_with("online: 1, 2"));
        assert!(report(1, 1, 0).verdict().contains("larger replica_count"));
    }

    #[test]
    fn status_says_why_the_members_are_not_known() {
        let json = report(3, 3, 0).as_json();
        for key in ["configuration", "waiting", "problem"] {
            assert!(json.as_object().unwrap().contains_key(key), "{key}");
        }
        let removed = report(3, 3, 0).with_problem(Some(format!("{NO_MEMBERS}: n4:8001: the node was removed")));
        let problem = "the nodes above may be none of the cluster any more: n4:8001: the node was removed";
        assert_eq!(removed.as_json()["problem"], problem);
        assert!(removed.as_text().contains(&format!("{problem}\n")));
        assert!(!report(3, 3, 0).as_text().contains("any more"));
    }

    #[test]
    fn tolerance_that_is_required_decides_the_exit_code() {
        for (away, required, exit) in [
            (0, None, Exit::Done),
            (0, Some(1), Exit::Done),
            (0, Some(2), Exit::NotGoodEnough),
            (1, None, Exit::Done),
            (1, Some(0), Exit::Done),
            (1, Some(1), Exit::NotGoodEnough),
            (2, Some(0), Exit::NotDone),
        ] {
            let status = Status { require_tolerance: required, watch: None };
            assert_eq!(status.exit(&report(3, 3, away)), exit, "{away} away, {required:?}");
        }
    }

    #[test]
    fn degraded_node_is_not_counted_on() {
        let rows = vec![row(1, Some(api::Health::Degraded)), row(2, Some(api::Health::Online))];
        let report = Report::new(&placement(2, 1), None, None, rows);
        assert!(report.slots_lost > 0 && report.slots_lost < Slot::COUNT);
    }

    #[test]
    fn table_shows_each_node_and_why_one_is_away() {
        let text = report(3, 3, 1).as_text();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let shown = |line: usize| lines[line].join(" ");
        assert_eq!(shown(0), "ID ADDRESS STATE UPTIME VERSION KEYS DISK DISK FREE CLOCK ANSWER");
        assert_eq!(shown(1), "1 127.0.0.1:8001 no answer - - - - - - -");
        assert_eq!(shown(2), "2 127.0.0.1:8002 online 1h1m 0.1.0 ~12 1.5 KiB 30.0 GiB (30 %) 2.40 1.3 ms");
        let expected = "node 1: h:1 refuses connections from here; no node that answers is linked to it";
        assert_eq!(lines[4].join(" "), expected);
        assert_eq!(lines.len(), 6, "{text}");
    }

    #[test]
    fn weights_and_zones_are_shown_where_there_are_some() {
        let rows = || (1..=3).map(|id| row(id, (id > 1).then_some(api::Health::Online))).collect();
        let cluster = |weights: &[u32], zones: &[&str]| {
            let plain = placement(3, 3).parameters().clone();
            let sites = Site::listed(3, weights, zones).unwrap();
            Report::new(&Placement::new(ClusterParameters { sites, ..plain }), None, None, rows())
        };
        let both = cluster(&[100, 250, 50], &["a", "b", "c"]);
        let text = both.as_text();
        let ends: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().rev().take(2).collect()).collect();
        assert_eq!(ends[..4], [["ZONE", "WEIGHT"], ["a", "1"], ["b", "2.5"], ["c", "0.5"]]);
        let zones = cluster(&[], &["a", "b", "c"]).as_text();
        assert!(zones.contains("ZONE") && !zones.contains("WEIGHT"), "{zones}");
        let json = both.as_json();
        assert_eq!((&json["nodes"][0]["weight"], &json["nodes"][0]["zone"]), (&json!(1), &json!("a")));
        assert_eq!(json["nodes"][1]["weight"], json!(2.5));
        assert_eq!(report(3, 3, 0).as_json()["nodes"][0]["zone"], json!(null));
    }

    /// The report on three nodes. Only node 1 can be reached, at an address that the nodes do not use. It is linked to the nodes
    /// in `linked`.
    fn seen_through_node_1(linked: &[usize]) -> Report {
        let state =
            |id| if linked.contains(&id) { api::PeerState::PeerLinked } else { api::PeerState::PeerUnreachable };
        let mut node_1 = health(1, api::Health::Online);
        node_1.peers = [2, 3]
            .map(|id: usize| api::PeerHealth {
                node_id: id.to_string(),
                state: state(id).into(),
                detail: if linked.contains(&id) { String::new() } else { "not reachable at an address".to_owned() },
                repair: None,
            })
            .into();
        let storage_nodes = (1..=3)
            .map(|id| api::StorageNode {
                id: id.to_string(),
                address: format!("quorate-{id}:8001"),
                ..Default::default()
            })
            .collect();
        let info = api::ClusterInfoResponse { node_id: "1".into(), storage_nodes, ..Default::default() };
        let mut answers: TimedAnswers =
            (1..=3).map(|id| (format!("quorate-{id}:8001"), Err("no such host".to_owned()))).collect();
        answers.insert("127.0.0.1:18001".to_owned(), Ok((node_1, Duration::from_millis(2))));
        Report::new(&placement(3, 3), None, None, rows(&info, &answers))
    }

    #[test]
    fn node_out_of_reach_is_counted_as_the_nodes_see_it() {
        let report = seen_through_node_1(&[2, 3]);
        assert_eq!((report.slots_lost, report.failures_tolerated), (0, 1));
        let text = report.as_text();
        assert!(
            text.contains("node 2: quorate-2:8001 is not reachable from here (no such host); node 1 is linked to it\n"),
            "{text}"
        );
        assert!(text.ends_with("tolerates 1 more failure\n"), "{text}");
        let json = report.as_json();
        assert_eq!(json["nodes"][0]["reachable_from_here"], true);
        assert_eq!(json["nodes"][1]["reachable_from_here"], false);
        assert_eq!((&json["nodes"][1]["state"], &json["nodes"][1]["linked_by"]), (&json!("linked"), &json!(["1"])));

        let report = seen_through_node_1(&[2]);
        assert_eq!((report.slots_lost, report.failures_tolerated), (0, 0));
        let text = report.as_text();
        assert!(text.contains("(no such host); node 1 does not reach it either, and keeps trying\n"), "{text}");
        assert!(text.ends_with("tolerates no more failures: bring node 3 back\n"), "{text}");
        assert_eq!(seen_through_node_1(&[]).slots_lost, Slot::COUNT);
    }

    #[test]
    fn node_that_is_away_is_told_of_once_and_by_its_address() {
        let peer = |state: api::PeerState, detail: &str| api::PeerHealth {
            node_id: "3".to_owned(),
            state: state.into(),
            detail: detail.to_owned(),
            repair: None,
        };
        let seen = |states: [(api::PeerState, &str); 2]| {
            let storage_nodes = (1..=3).map(|id| api::StorageNode {
                id: id.to_string(),
                address: format!("h:{id}"),
                ..Default::default()
            });
            let info = api::ClusterInfoResponse {
                node_id: "1".into(),
                storage_nodes: storage_nodes.collect(),
                ..Default::default()
            };
            let answer = |id: usize| {
                let (state, detail) = states[id - 1];
                let health =
                    api::HealthResponse { peers: vec![peer(state, detail)], ..health(id, api::Health::Online) };
                (format!("h:{id}"), Ok((health, Duration::from_millis(1))))
            };
            let refused = ("h:3".to_owned(), Err("Connection refused (os error 111)".to_owned()));
            rows(&info, &TimedAnswers::from([answer(1), answer(2), refused]))[2].detail()
        };
        let (away, linked) = (
            (api::PeerState::PeerUnreachable, "not reachable at h:3; this node keeps trying"),
            (api::PeerState::PeerLinked, ""),
        );
        assert_eq!(
            seen([away, away]),
            "h:3 refuses connections from here; nodes 1 and 2 do not reach it either, and keep trying"
        );
        assert_eq!(seen([away, linked]), "h:3 refuses connections from here; node 2 is linked to it");
        let refused = (api::PeerState::PeerRefused, "one of the two refuses the other: its folder is older");
        let expected = "h:3 refuses connections from here; no node that answers is linked to it: one of the two refuses the other: its folder is older";
        assert_eq!(seen([away, refused]), expected);
    }

    #[test]
    fn other_node_at_an_address_is_named() {
        let answer = (health(2, api::Health::Online), Duration::from_millis(2));
        let answers = TimedAnswers::from([("a:1".to_owned(), Ok(answer))]);
        let node =
            |id: &str, address: &str| api::StorageNode { id: id.into(), address: address.into(), ..Default::default() };
        let storage_nodes = vec![node("1", "a:1"), node("2", "a:2")];
        let info = api::ClusterInfoResponse { node_id: "2".into(), storage_nodes, ..Default::default() };
        let rows = rows(&info, &answers);
        assert_eq!(rows[0].state(), "no answer");
        assert!(rows[0].detail().contains("node \"2\" answers at a:1"), "{}", rows[0].detail());
        assert_eq!(rows[1].state(), "online");
    }

    #[test]
    fn json_bears_numbers() {
        let json = report(3, 3, 1).as_json();
        assert_eq!(json["nodes"][0]["state"], "no answer");
        assert_eq!(json["nodes"][1]["disk_bytes"], 1_536);
        assert_eq!(json["nodes"][1]["clock"]["clock"], 40);
        let room = (&json["nodes"][1]["disk_free_bytes"], &json["nodes"][1]["disk_total_bytes"]);
        assert_eq!(room, (&json!(30_u64 << 30), &json!(100_u64 << 30)));
        assert_eq!(json["nodes"][1]["answer_ms"], 1.26);
        assert_eq!((&json["failures_tolerated"], &json["slots_without_majority"]), (&json!(0), &json!(0)));
    }

    #[test]
    fn disk_with_too_little_room_is_warned_of_before_the_verdict() {
        assert_eq!(report(3, 3, 0).warnings(), Vec::<String>::new(), "30 % are enough");
        let mut low = report(3, 3, 1);
        for row in &mut low.rows {
            if let View::Answer(health) = &mut row.view {
                health.disk_free_bytes = Some((30 << 30) - 1);
            }
        }
        let text = low.as_text();
        let warning = "warning: less than 30 % of the disk is free at node 2 (29.9 GiB of 100.0 GiB), node 3 (29.9 GiB of 100.0 GiB): \
                       free space, or use a larger disk, because merging tables needs it\n";
        assert!(text.contains(warning), "{text}");
        assert!(text.ends_with("tolerates no more failures: bring node 1 back\n"), "{text}");
        assert_eq!(low.as_json()["warnings"].as_array().unwrap().len(), 1);
        assert!(text.contains(" 29.9 GiB (29 %) "), "{text}");
        let mut unknown = report(3, 3, 0);
        for row in &mut unknown.rows {
            let View::Answer(health) = &mut row.view else { unreachable!("all answer") };
            (health.disk_free_bytes, health.disk_total_bytes) = (None, None);
        }
        assert_eq!(unknown.warnings(), Vec::<String>::new(), "a node in memory says nothing");
    }

    #[test]
    fn certificates_that_end_soon_are_warned_of() {
        let mut soon = report(3, 3, 0);
        let ends = [2_000_000_000, crate::tls::date::now() + 86_400, 1_700_000_000];
        for (row, end) in soon.rows.iter_mut().zip(ends) {
            let View::Answer(health) = &mut row.view else { unreachable!("all answer") };
            health.certificate_ends_seconds = Some(end);
        }
        let [warning] = &soon.warnings()[..] else { panic!("{:?}", soon.warnings()) };
        assert!(warning.starts_with("the certificate ends soon at node 2 (20"), "{warning}");
        assert!(warning.contains("node 3 (2023-11-14 22:13:20 UTC): renew it, with `quorate ca issue node 3 --renew`"));
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
