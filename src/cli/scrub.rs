//! `quorate repair --scrub`: make all nodes read their stores, and show what they found.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use serde_json::{Value as Json, json};

use super::output::{print, print_json};
use super::repair::{REFRESH, spinner};
use super::status::bytes_text;
use super::{CliError, Exit, Global};
use crate::api;
use crate::client::ClientError;
use crate::service::cluster_report::{HEALTH_TIME_MAX, ask_all, reason, scrub_all};

/// A node that has not answered for so long is not waited for.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// Orders a scrub at all nodes, and waits until each has ended or does not answer.
pub(super) async fn run(info: &api::ClusterInfoResponse, global: &Global) -> Result<Exit, CliError> {
    let (dialer, given) = (global.dialer()?, global.addresses()?);
    let time_max = global.timeout.min(HEALTH_TIME_MAX);
    let ordered = scrub_all(info, &given, &|_| dialer.clone(), time_max).await;
    // A node may have started while it was asked.
    let began = Instant::now();
    let mut nodes: BTreeMap<String, Node> =
        ordered.into_iter().map(|(address, number)| (address, Node::new(number.map_err(not_ordered)))).collect();
    let progress = spinner();
    while nodes.values().any(|node| !node.result.is_final()) {
        tokio::time::sleep(REFRESH).await;
        // A node that has run since the order was answered says at least so much.
        let asked_at = began.elapsed();
        let answers = ask_all(info, &given, &|_| dialer.clone(), time_max).await;
        for (address, answer) in answers {
            if let Some(node) = nodes.get_mut(&address) {
                node.hear(answer, asked_at);
            }
        }
        progress.set_message(progress_text(&nodes));
    }
    progress.finish_and_clear();
    let report = Report::new(info, nodes);
    if global.json {
        print_json(&report.as_json())?;
    } else {
        print(report.as_text().as_bytes())?;
    }
    Ok(if report.is_intact() {
        Exit::Done
    } else if report.nodes.values().all(|node| matches!(node.result, Outcome::Refused(_))) {
        Exit::BadInput
    } else {
        Exit::NotDone
    })
}

/// The end of a scrub that was not begun.
fn not_ordered(error: ClientError) -> Outcome {
    match error {
        ClientError::Refused { node } => Outcome::Refused(node.message),
        error => Outcome::Silent(reason(&error)),
    }
}

/// One node that scrubs.
#[derive(Clone, Debug, PartialEq)]
struct Node {
    /// Its id, once it is known.
    id: String,
    /// The number of its scrub.
    number: u64,
    result: Outcome,
    bytes: u64,
    of_bytes: u64,
    /// When it answered last, since the order.
    heard: Duration,
}

/// How the scrub of a node has ended, or not.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Reads,
    Intact,
    Damaged,
    /// Its disk could not be read.
    Failed,
    /// It has started anew meanwhile.
    Restarted,
    /// It does not do it for this caller, for this reason.
    Refused(String),
    /// It does not answer, for this reason.
    Silent(String),
}

impl Outcome {
    fn is_final(&self) -> bool {
        *self != Self::Reads
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Intact => "intact",
            Self::Damaged => "damaged",
            Self::Failed => "not read",
            Self::Restarted => "started anew",
            Self::Refused(_) => "refused",
            Self::Silent(_) => "no answer",
        }
    }
}

impl Node {
    fn new(number: Result<u64, Outcome>) -> Self {
        let result = number.as_ref().map_or_else(Outcome::clone, |_| Outcome::Reads);
        let number = number.unwrap_or_default();
        Self { id: String::new(), number, result, bytes: 0, of_bytes: 0, heard: Duration::ZERO }
    }

    /// Its answer to the question for health, so long after the order.
    fn hear(&mut self, answer: Result<api::HealthResponse, String>, now: Duration) {
        let health = match answer {
            Ok(health) => health,
            Err(reason) if !self.result.is_final() && now.saturating_sub(self.heard) > SILENT_MAX => {
                self.result = Outcome::Silent(reason);
                return;
            }
            Err(_) => return,
        };
        self.heard = now;
        self.id = health.node_id;
        if self.result.is_final() {
            return;
        }
        let scrub = health.scrub.unwrap_or_default();
        let uptime = health.uptime.and_then(|uptime| Duration::try_from(uptime).ok()).unwrap_or(now);
        if uptime < now {
            self.result = Outcome::Restarted;
            return;
        }
        (self.bytes, self.of_bytes) = (scrub.bytes, health.data_bytes);
        if health.damaged {
            self.result = Outcome::Damaged;
        } else if scrub.passes >= self.number {
            self.result = if scrub.clean_since.is_some() { Outcome::Intact } else { Outcome::Failed };
        }
    }
}

fn progress_text(nodes: &BTreeMap<String, Node>) -> String {
    let reading = nodes.values().filter(|node| node.result == Outcome::Reads);
    let shown =
        |node: &Node| format!("node {} {} of about {}", node.id, bytes_text(node.bytes), bytes_text(node.of_bytes));
    reading.map(shown).collect::<Vec<_>>().join(", ")
}

/// What all nodes found.
#[derive(Debug)]
struct Report {
    /// By their ids.
    nodes: BTreeMap<String, Node>,
}

impl Report {
    /// A node may have been asked at two addresses.
    fn new(info: &api::ClusterInfoResponse, asked: BTreeMap<String, Node>) -> Self {
        let id_of = |address: &str| info.storage_nodes.iter().find(|node| node.address == address);
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        for (address, node) in asked {
            let id = match (&*node.id, id_of(&address)) {
                ("", Some(listed)) => listed.id.clone(),
                // Nobody knows who that would be.
                ("", None) => continue,
                (id, _) => id.to_owned(),
            };
            if nodes.get(&id).is_none_or(|known| matches!(known.result, Outcome::Silent(_))) {
                nodes.insert(id, node);
            }
        }
        Self { nodes }
    }

    fn is_intact(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.values().all(|node| node.result == Outcome::Intact)
    }

    fn of(&self, result: &Outcome) -> Vec<&str> {
        let is_it = |node: &&Node| std::mem::discriminant(&node.result) == std::mem::discriminant(result);
        self.nodes.iter().filter(|(_, node)| is_it(node)).map(|(id, _)| id.as_str()).collect()
    }

    fn as_text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["NODE", "RESULT", "READ"]);
        for (id, Node { result, bytes, .. }) in &self.nodes {
            table.add_row([id.clone(), result.text().to_owned(), bytes_text(*bytes)]);
        }
        let mut text = String::new();
        for line in table.lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let mut say = |nodes: Vec<&str>, what: &str| {
            if !nodes.is_empty() {
                let word = if nodes.len() == 1 { "node" } else { "nodes" };
                let _ = writeln!(text, "{word} {}: {what}", nodes.join(", "));
            }
        };
        say(self.of(&Outcome::Damaged), "the store is damaged; `quorate status` says what becomes of it");
        say(self.of(&Outcome::Failed), "the disk could not be read; the log says why");
        say(self.of(&Outcome::Restarted), "the node started anew meanwhile; scrub again");
        for (id, node) in &self.nodes {
            if let Outcome::Silent(reason) | Outcome::Refused(reason) = &node.result {
                let _ = writeln!(text, "node {id}: {} ({reason})", node.result.text());
            }
        }
        if self.is_intact() {
            text.push_str("all nodes have read their stores, and nothing is damaged\n");
        }
        text
    }

    fn as_json(&self) -> Json {
        let node = |(id, Node { result, bytes, .. }): (&String, &Node)| json!({ "node": id, "result": result.text(), "bytes": bytes });
        json!({ "intact": self.is_intact(), "nodes": self.nodes.iter().map(node).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(id: &str, uptime: i64, passes: u64, damaged: bool, is_clean: bool) -> api::HealthResponse {
        let duration = |seconds| prost_types::Duration { seconds, nanos: 0 };
        api::HealthResponse {
            node_id: id.to_owned(),
            uptime: Some(duration(uptime)),
            damaged,
            scrub: Some(api::ScrubHealth {
                passes,
                bytes: 1 << 20,
                clean_since: is_clean.then(|| duration(0)),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn each_end_of_a_scrub_has_its_word() {
        let second = Duration::from_secs(1);
        let heard = |answers: Vec<Result<api::HealthResponse, String>>| {
            let mut node = Node::new(Ok(2));
            for (answer, now) in answers.into_iter().zip(1..) {
                node.hear(answer, second * now);
            }
            node.result
        };
        assert_eq!(heard(vec![Ok(health("1", 90, 1, false, true))]), Outcome::Reads, "that is the pass before");
        assert_eq!(heard(vec![Ok(health("1", 90, 2, false, true))]), Outcome::Intact);
        assert_eq!(heard(vec![Ok(health("1", 90, 2, false, false))]), Outcome::Failed);
        assert_eq!(heard(vec![Ok(health("1", 90, 1, true, false))]), Outcome::Damaged);
        // It replaces itself, and answers nobody meanwhile.
        let replaced =
            vec![Ok(health("1", 90, 2, true, false)), Err("no route".to_owned()), Ok(health("1", 0, 0, false, false))];
        assert_eq!(heard(replaced), Outcome::Damaged);
        assert_eq!(heard(vec![Ok(health("1", 0, 0, false, false))]), Outcome::Restarted);
        assert_eq!(heard(vec![Err("no route".to_owned())]), Outcome::Reads, "it is asked again");
        assert_eq!(heard(vec![Err("no route".to_owned()); 11]), Outcome::Silent("no route".to_owned()));
        assert_eq!(Node::new(Err(Outcome::Refused("no right".to_owned()))).result.text(), "refused");
    }

    #[test]
    fn report_names_what_is_damaged_and_counts_each_node_once() {
        let listed =
            |id: &str| api::StorageNode { id: id.to_owned(), address: format!("n{id}:1"), ..Default::default() };
        let info = api::ClusterInfoResponse { storage_nodes: ["1", "2", "3"].map(listed).into(), ..Default::default() };
        let ended = |id: &str, damaged| {
            let mut node = Node::new(Ok(1));
            node.hear(Ok(health(id, 90, 1, damaged, !damaged)), Duration::from_secs(1));
            node
        };
        let silent = Node::new(Err(Outcome::Silent("no route".to_owned())));
        let asked = |nodes: [(&str, Node); 4]| nodes.map(|(address, node)| (address.to_owned(), node)).into();
        let report = Report::new(
            &info,
            asked([
                ("localhost:1", ended("1", false)),
                ("n1:1", ended("1", false)),
                ("n2:1", ended("2", true)),
                ("n3:1", silent),
            ]),
        );
        assert_eq!(
            report.as_text(),
            " NODE  RESULT     READ\n 1     intact     1.0 MiB\n 2     damaged    1.0 MiB\n 3     no answer  0 B\n\
             node 2: the store is damaged; `quorate status` says what becomes of it\nnode 3: no answer (no route)\n"
        );
        assert!(!report.is_intact());
        assert_eq!(report.as_json()["nodes"][1], json!({ "node": "2", "result": "damaged", "bytes": 1 << 20 }));
        let all = ["n1:1", "n2:1", "n3:1"].map(|address| (address.to_owned(), ended(&address[1..2], false)));
        let all = Report::new(&info, all.into());
        assert!(all.is_intact() && all.as_text().ends_with("nothing is damaged\n"), "{}", all.as_text());
    }
}
