//! `quorate repair`: show which nodes hold the same records, and how many keys are to be repaired.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};

use super::output::{print, print_json};
use super::status::bytes_text;
use super::{CliError, Exit, Global};
use crate::api;
use crate::client::ClientError;
use crate::service::cluster_report::{HEALTH_TIME_MAX, ask_all, order_all};

/// The time between two looks at how far the nodes are.
pub(super) const REFRESH: Duration = Duration::from_millis(200);

/// Show which nodes hold the same records, and how many keys are to be repaired
///
/// Nodes compare their records in the background, and bring each other what one of them lacks. For each pair of nodes that
/// hold a part of the data in common, this shows whether they were found equal, and when. Ends with code 3 if a node does not
/// answer, if a pair was not found equal since its nodes could reach each other, if keys wait to be repaired, or if the store of
/// a node is damaged.
///
/// While a node is away, the others remember what was deleted. The command names the nodes that deletions wait for.
///
/// With --now, all nodes compare at once and repair what differs as fast as they can. The command shows how far they are, and
/// ends when all nodes hold the same. Ctrl-C ends the command, and not the repair. The time limit (--timeout) is for each
/// question to the nodes.
///
/// With --scrub, each node reads all that its store has on disk instead, and verifies it, as fast as scrub_bytes_per_second of its
/// node.yml allows. The command ends once all have: with code 3 where one is damaged, could not be read or did not answer.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate repair
  quorate repair --now
  quorate repair --scrub
  quorate repair --json | jq '.pairs[] | select(.behind > 0)'")]
pub(super) struct Repair {
    /// Compare all nodes at once, as fast as they can, and wait until they hold the same
    #[arg(long)]
    now: bool,
    /// Make each node read and verify all of its store, and wait until all have
    #[arg(long, conflicts_with = "now")]
    scrub: bool,
}

impl Repair {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let info = global.client()?.cluster_info().await?;
        if self.scrub {
            return super::scrub::run(&info, global).await;
        }
        let report = if self.now { repair_now(&info, global).await? } else { Report::ask(&info, global).await? };
        if global.json {
            print_json(&report.as_json())?;
        } else {
            print(report.as_text().as_bytes())?;
        }
        Ok(if report.is_level() && report.damaged.is_empty() { Exit::Done } else { Exit::NotDone })
    }
}

/// Orders a comparison of all nodes, and waits until they hold the same. Returns early where a node does not answer.
async fn repair_now(info: &api::ClusterInfoResponse, global: &Global) -> Result<Report, CliError> {
    let dialer = global.dialer()?;
    let mut ordered =
        order_all(info, &global.addresses()?, &|_| dialer.clone(), global.timeout.min(HEALTH_TIME_MAX)).await;
    let is_refused = |ordered: &Result<bool, ClientError>| matches!(ordered, Err(ClientError::Refused { .. }));
    let refused = ordered.iter().find(|(_, ordered)| is_refused(ordered)).map(|(address, _)| address.clone());
    if let Some(Err(refusal)) = refused.and_then(|address| ordered.remove(&address)) {
        return Err(refusal.into());
    }
    // A node that does not answer is named in the report.
    if let Some((address, _)) = ordered.iter().find(|(_, ordered)| matches!(ordered, Ok(false))) {
        let why = "repair is off there: set repair_keys_per_second above 0 in its node.yml, and send it SIGHUP";
        return Err(CliError::not_done(format!("{address}: {why}")));
    }
    let progress = spinner();
    loop {
        tokio::time::sleep(REFRESH).await;
        let report = Report::ask(info, global).await?;
        progress.set_message(report.verdict());
        if report.is_level() || !report.silent.is_empty() {
            progress.finish_and_clear();
            return Ok(report);
        }
    }
}

/// Shows on a terminal how far the nodes are, and nothing elsewhere.
pub(super) fn spinner() -> ProgressBar {
    let progress = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    progress.enable_steady_tick(REFRESH);
    progress
}

impl Report {
    /// Asks all nodes.
    pub(super) async fn ask(info: &api::ClusterInfoResponse, global: &Global) -> Result<Self, CliError> {
        let dialer = global.dialer()?;
        let answers =
            ask_all(info, &global.addresses()?, &|_| dialer.clone(), global.timeout.min(HEALTH_TIME_MAX)).await;
        let healths = answers.into_values().filter_map(Result::ok);
        let healths: BTreeMap<String, api::HealthResponse> =
            healths.map(|health| (health.node_id.clone(), health)).collect();
        let ids: Vec<String> = info.storage_nodes.iter().map(|node| node.id.clone()).collect();
        Ok(Self::new(&ids, &healths))
    }
}

/// How the pairs of nodes compare, as the nodes that answer say it.
#[derive(Debug)]
pub(super) struct Report {
    pairs: Vec<Pair>,
    /// The nodes that have not answered.
    silent: Vec<String>,
    nodes: usize,
    /// The nodes that deletions wait for.
    waits: BTreeMap<String, Wait>,
    /// The nodes that read their stores to verify them, with the bytes that they have read, and about have.
    scrubs: BTreeMap<String, (u64, u64)>,
    /// The nodes whose stores are damaged.
    damaged: Vec<String>,
}

/// Deletions that cannot be forgotten while a node is away.
#[derive(Debug, PartialEq)]
struct Wait {
    slots: u64,
    /// One of them.
    slot: u32,
}

#[derive(Debug, PartialEq)]
struct Pair {
    nodes: [String; 2],
    state: &'static str,
    behind: u64,
    /// Absent where the two were not found equal.
    equal_seconds: Option<i64>,
}

impl Pair {
    /// Whether the two hold the same, as far as it is known.
    fn is_level(&self) -> bool {
        matches!(self.state, "equal" | "comparing") && self.equal_seconds.is_some() && self.behind == 0
    }
}

impl Report {
    /// The report on the nodes with these ids, in the cluster's order, of which some have answered.
    fn new(ids: &[String], healths: &BTreeMap<String, api::HealthResponse>) -> Self {
        let mut ids = ids.to_vec();
        ids.sort();
        let seen_by = |one: &str, other: &str| {
            let peer = healths.get(one)?.peers.iter().find(|peer| peer.node_id == other)?;
            Some((peer.state() == api::PeerState::PeerLinked, peer.repair?))
        };
        let counts = |id: &str| {
            let repair = healths.get(id).and_then(|health| health.repair.as_ref());
            repair.is_some_and(|repair| repair.share_counted < 1.0)
        };
        let mut pairs = Vec::new();
        for (place, first) in ids.iter().enumerate() {
            for second in &ids[place + 1..] {
                let seen = [seen_by(first, second), seen_by(second, first)];
                // The first of the two begins the comparisons, and knows more of them.
                let Some((_, pair)) = seen.into_iter().flatten().next() else { continue };
                let is_linked = seen.iter().flatten().all(|(is_linked, _)| *is_linked);
                // Both know it: after a break, one of the two may not have noticed yet that they must be compared again.
                let equal = seen.iter().flatten().map(|(_, pair)| Some(pair.equal_since?.seconds));
                let equal_seconds = equal.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
                let state = match (is_linked, pair.comparing) {
                    (false, _) => "not linked",
                    _ if counts(first) || counts(second) => "counting",
                    (true, true) => "comparing",
                    (true, false) if pair.behind > 0 => "behind",
                    (true, false) if equal_seconds.is_some() => "equal",
                    (true, false) => "waiting",
                };
                pairs.push(Pair { nodes: [first.clone(), second.clone()], state, behind: pair.behind, equal_seconds });
            }
        }
        let silent: Vec<String> = ids.iter().filter(|id| !healths.contains_key(*id)).cloned().collect();
        let mut waits: BTreeMap<String, Wait> = BTreeMap::new();
        let named = healths.values().filter_map(|health| health.repair.as_ref());
        for wait in named.flat_map(|repair| &repair.tombstones_wait_for) {
            let slot = wait.slot;
            waits.entry(wait.node_id.clone()).or_insert(Wait { slots: 0, slot }).slots += wait.slots;
        }
        let scrubs = healths.iter().filter_map(|(id, health)| {
            let scrub = health.scrub.filter(|scrub| scrub.running)?;
            Some((id.clone(), (scrub.bytes, health.data_bytes)))
        });
        let damaged = healths.iter().filter(|(_, health)| health.damaged).map(|(id, _)| id.clone());
        Self { pairs, silent, nodes: ids.len(), waits, scrubs: scrubs.collect(), damaged: damaged.collect() }
    }

    /// Whether all nodes are known to hold the same.
    fn is_level(&self) -> bool {
        let is_alone = self.nodes == 1;
        self.silent.is_empty() && (is_alone || !self.pairs.is_empty()) && self.pairs.iter().all(Pair::is_level)
    }

    fn as_text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["PAIR", "STATE", "BEHIND", "EQUAL"]);
        for Pair { nodes, state, behind, equal_seconds } in &self.pairs {
            let equal = equal_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds}s ago"));
            table.add_row([nodes.join(", "), (*state).to_owned(), behind.to_string(), equal]);
        }
        let mut text = String::new();
        for line in table.lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        for (node, Wait { slots, slot }) in &self.waits {
            let _ = match slots {
                1 => writeln!(text, "deletions of slot {slot} wait for node {node}"),
                _ => writeln!(text, "deletions of {slots} slots wait for node {node}: slot {slot} is one of them"),
            };
        }
        for (node, (bytes, of_bytes)) in &self.scrubs {
            let (bytes, of_bytes) = (bytes_text(*bytes), bytes_text(*of_bytes));
            let _ = writeln!(text, "node {node} reads its store to verify it: {bytes} of about {of_bytes}");
        }
        for node in &self.damaged {
            let _ = writeln!(text, "node {node} is damaged: `quorate status` says what becomes of it");
        }
        text + &self.verdict() + "\n"
    }

    fn verdict(&self) -> String {
        let behind: u64 = self.pairs.iter().map(|pair| pair.behind).sum();
        let open = self.pairs.iter().filter(|pair| !pair.is_level()).count();
        let pairs = match (self.pairs.len(), open) {
            (0, _) if self.nodes == 1 => "the cluster has one node".to_owned(),
            (0, _) => {
                "no node says that it compares its records: repair_keys_per_second: 0 turns repair off".to_owned()
            }
            (_, 0) => "all nodes hold the same".to_owned(),
            (_, 1) => format!("1 pair of nodes is not known to hold the same; {behind} keys wait"),
            (_, open) => format!("{open} pairs of nodes are not known to hold the same; {behind} keys wait"),
        };
        match &self.silent[..] {
            [] => pairs,
            silent => format!("no answer from {}; of the others: {pairs}", silent.join(", ")),
        }
    }

    pub(super) fn as_json(&self) -> Json {
        let pair = |pair: &Pair| {
            let Pair { nodes, state, behind, equal_seconds } = pair;
            json!({ "nodes": nodes, "state": state, "behind": behind, "equal_seconds": equal_seconds })
        };
        let wait =
            |(node, Wait { slots, slot }): (&String, &Wait)| json!({ "node": node, "slots": slots, "slot": slot });
        let scrub = |(node, (bytes, of_bytes)): (&String, &(u64, u64))| json!({ "node": node, "bytes": bytes, "of_about_bytes": of_bytes });
        json!({
            "level": self.is_level(),
            "silent": self.silent,
            "pairs": self.pairs.iter().map(pair).collect::<Vec<_>>(),
            "scrubs": self.scrubs.iter().map(scrub).collect::<Vec<_>>(),
            "damaged": self.damaged,
            "tombstones_wait_for": self.waits.iter().map(wait).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(id: &str, share_counted: f64, peers: &[(&str, api::PeerState, u64, Option<i64>)]) -> api::HealthResponse {
        let peer = |(peer, state, behind, equal): &(&str, api::PeerState, u64, Option<i64>)| api::PeerHealth {
            node_id: (*peer).to_owned(),
            state: (*state).into(),
            repair: Some(api::PairHealth {
                comparing: *behind > 0,
                behind: *behind,
                equal_since: equal.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            }),
            ..Default::default()
        };
        api::HealthResponse {
            node_id: id.to_owned(),
            repair: Some(api::RepairHealth { share_counted, ..Default::default() }),
            peers: peers.iter().map(peer).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn pairs_are_equal_where_both_nodes_say_so() {
        use api::PeerState::{PeerLinked, PeerUnreachable};
        let ids = ["1", "2", "3"].map(str::to_owned);
        let of = |healths: Vec<api::HealthResponse>| {
            let healths = healths.into_iter().map(|health| (health.node_id.clone(), health)).collect();
            Report::new(&ids, &healths)
        };
        let one = health("1", 1.0, &[("2", PeerLinked, 0, Some(3)), ("3", PeerLinked, 0, Some(4))]);
        let two = health("2", 1.0, &[("1", PeerLinked, 7, Some(2)), ("3", PeerLinked, 0, Some(8))]);
        let three = health("3", 1.0, &[("1", PeerLinked, 0, Some(4)), ("2", PeerLinked, 0, Some(9))]);
        let all = of(vec![one.clone(), two.clone(), three.clone()]);
        let three_met_again = health("3", 1.0, &[("1", PeerLinked, 0, None), ("2", PeerLinked, 0, Some(9))]);
        let met_again = of(vec![one.clone(), two.clone(), three_met_again]);
        assert!(!met_again.is_level(), "node 1 has not noticed yet that node 3 was away");
        assert_eq!(met_again.pairs[1].state, "waiting");
        assert_eq!(
            all.as_text(),
            " PAIR  STATE  BEHIND  EQUAL\n 1, 2  equal  0       3s ago\n 1, 3  equal  0       4s ago\n \
             2, 3  equal  0       9s ago\nall nodes hold the same\n"
        );
        assert!(all.is_level());
        let two_of_three = of(vec![one.clone(), two.clone()]);
        assert!(!two_of_three.is_level(), "nobody knows what the third holds");
        assert!(two_of_three.as_text().ends_with("no answer from 3; of the others: all nodes hold the same\n"));
        let mut one = health("1", 1.0, &[("2", PeerLinked, 12, Some(3)), ("3", PeerUnreachable, 0, None)]);
        let wait = |slots, slot| api::TombstonesWait { node_id: "3".to_owned(), slots, slot };
        one.repair.as_mut().unwrap().tombstones_wait_for = vec![wait(5, 17)];
        let behind = of(vec![one.clone(), two.clone(), three]);
        let states: Vec<_> = behind.pairs.iter().map(|pair| pair.state).collect();
        assert_eq!(states, ["comparing", "not linked", "equal"]);
        let text = behind.as_text();
        assert!(text.contains("deletions of 5 slots wait for node 3: slot 17 is one of them\n"), "{text}");
        assert!(text.ends_with("2 pairs of nodes are not known to hold the same; 12 keys wait\n"), "{text}");
        assert!(!behind.is_level());
        let mut scrubs = health("2", 1.0, &[]);
        scrubs.scrub = Some(api::ScrubHealth { running: true, bytes: 1 << 20, ..Default::default() });
        (scrubs.data_bytes, scrubs.damaged) = (3 << 20, true);
        let text = of(vec![scrubs]).as_text();
        assert!(text.contains("node 2 reads its store to verify it: 1.0 MiB of about 3.0 MiB\n"), "{text}");
        assert!(text.contains("node 2 is damaged: `quorate status` says"), "{text}");
        let counting = of(vec![health("3", 0.5, &[("1", PeerLinked, 0, None)])]);
        assert_eq!(counting.as_json()["pairs"][0]["state"], "counting");
        assert_eq!(counting.pairs[0].nodes, ["1".to_owned(), "3".to_owned()]);
        let off = |ids: &[String]| {
            let healths = ids.iter().map(|id| (id.clone(), api::HealthResponse::default())).collect();
            Report::new(ids, &healths)
        };
        assert!(off(&ids).as_text().contains("turns repair off") && !off(&ids).is_level());
        assert!(off(&ids[..1]).is_level(), "one node has nobody to differ from");
    }
}
