//! `quorate repair`: show which nodes hold the same records, and how many keys are to be repaired.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value as Json, json};

use super::output::{print, print_json};
use super::{CliError, Exit, Global};
use crate::api;
use crate::service::cluster_report::{HEALTH_TIME_MAX, ask_all};

/// Show which nodes hold the same records, and how many keys are to be repaired
///
/// Nodes compare their records in the background, and bring each other what one of them lacks. For each pair of nodes that
/// hold a part of the data in common, this shows whether they were found equal, and when. Ends with code 3 if a pair was not
/// found equal since its nodes have started.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate repair
  quorate repair --json | jq '.pairs[] | select(.behind > 0)'")]
pub(super) struct Repair {}

impl Repair {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let info = global.client()?.cluster_info().await?;
        let answers = ask_all(&info, &global.addresses()?, global.timeout.min(HEALTH_TIME_MAX)).await;
        let healths = answers.into_values().filter_map(Result::ok);
        let healths: BTreeMap<String, api::HealthResponse> =
            healths.map(|health| (health.node_id.clone(), health)).collect();
        let ids: Vec<String> = info.storage_nodes.iter().map(|node| node.id.clone()).collect();
        let report = Report::new(&ids, &healths);
        if global.json {
            print_json(&report.as_json())?;
        } else {
            print(report.as_text().as_bytes())?;
        }
        Ok(if report.pairs.iter().all(|pair| pair.equal_seconds.is_some()) { Exit::Done } else { Exit::NotDone })
    }
}

/// How the pairs of nodes compare, as the nodes that answer say it.
#[derive(Debug)]
struct Report {
    pairs: Vec<Pair>,
}

#[derive(Debug, PartialEq)]
struct Pair {
    nodes: [String; 2],
    state: &'static str,
    behind: u64,
    /// Absent where the two were not found equal.
    equal_seconds: Option<i64>,
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
            let repair = healths.get(id).and_then(|health| health.repair);
            repair.is_some_and(|repair| repair.share_counted < 1.0)
        };
        let mut pairs = Vec::new();
        for (place, first) in ids.iter().enumerate() {
            for second in &ids[place + 1..] {
                // The first of the two begins the comparisons, and knows more of them.
                let Some((is_linked, pair)) = seen_by(first, second).or_else(|| seen_by(second, first)) else {
                    continue;
                };
                let equal_seconds = pair.equal_since.map(|since| since.seconds);
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
        Self { pairs }
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
        text + &self.verdict() + "\n"
    }

    fn verdict(&self) -> String {
        let (behind, open): (u64, usize) = (
            self.pairs.iter().map(|pair| pair.behind).sum(),
            self.pairs.iter().filter(|pair| pair.state != "equal").count(),
        );
        match (self.pairs.len(), open, behind) {
            (0, ..) => {
                "no two nodes compare their records: repair is off (repair_keys_per_second: 0), or the cluster has \
                        one node"
                    .to_owned()
            }
            (_, 0, 0) => "all nodes hold the same".to_owned(),
            (_, 1, behind) => format!("1 pair of nodes was not found equal at last; {behind} keys wait"),
            (_, open, behind) => format!("{open} pairs of nodes were not found equal at last; {behind} keys wait"),
        }
    }

    fn as_json(&self) -> Json {
        let pair = |Pair { nodes, state, behind, equal_seconds }: &Pair| json!({ "nodes": nodes, "state": state, "behind": behind, "equal_seconds": equal_seconds });
        json!({ "pairs": self.pairs.iter().map(pair).collect::<Vec<_>>() })
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
    fn pairs_are_shown_as_the_first_node_that_answers_says() {
        use api::PeerState::{PeerLinked, PeerUnreachable};
        let ids = ["1", "2", "3"].map(str::to_owned);
        let of = |healths: Vec<api::HealthResponse>| {
            let healths = healths.into_iter().map(|health| (health.node_id.clone(), health)).collect();
            Report::new(&ids, &healths)
        };
        let one = health("1", 1.0, &[("2", PeerLinked, 0, Some(3)), ("3", PeerLinked, 0, Some(4))]);
        let two = health("2", 1.0, &[("1", PeerLinked, 7, None), ("3", PeerLinked, 0, Some(9))]);
        let all = of(vec![one.clone(), two.clone()]);
        assert_eq!(
            all.as_text(),
            " PAIR  STATE  BEHIND  EQUAL\n 1, 2  equal  0       3s ago\n 1, 3  equal  0       4s ago\n \
             2, 3  equal  0       9s ago\nall nodes hold the same\n"
        );
        let one = health("1", 1.0, &[("2", PeerLinked, 12, Some(3)), ("3", PeerUnreachable, 0, None)]);
        let states: Vec<_> = of(vec![one.clone(), two.clone()]).pairs.into_iter().map(|pair| pair.state).collect();
        assert_eq!(states, ["comparing", "not linked", "equal"]);
        let text = of(vec![one, two]).as_text();
        assert!(text.ends_with("2 pairs of nodes were not found equal at last; 12 keys wait\n"), "{text}");
        let counting = of(vec![health("3", 0.5, &[("1", PeerLinked, 0, None)])]);
        assert_eq!(counting.as_json()["pairs"][0]["state"], "counting");
        assert_eq!(counting.pairs[0].nodes, ["1".to_owned(), "3".to_owned()]);
        assert!(of(Vec::new()).as_text().contains("repair is off"));
    }
}
