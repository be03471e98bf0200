//! `quorate dev --chaos`: a cluster of processes that are killed and paused while a load runs, and the checker's verdict.
//!
//! Contract: a node is taken down only while the cluster tolerates one more failure. All nodes are brought back before the end,
//! so that the last reads see what was written.

mod nodes;
mod screen;

use std::time::{Duration, Instant};

use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

use super::judged::{Load, Mix, Plan, Settings, as_json, as_text, quantile};
use super::locate::lists;
use super::output::print_json;
use super::security::Security;
use super::serve::StorageKind;
use super::{AddressOrigin, CliError, Exit, Global};
use crate::client::Client;
use crate::config::Config;
use crate::protocol::placement::Placement;
use crate::service::cluster_report::{Away, Report, View, ask_timed, rows};
use crate::types::DEFAULT_TABLE;
use nodes::{Node, State, end_all};
use screen::{Figures, Keys, Screen};

const CLIENTS: usize = 8;
/// A node that is asked again remembers eight conditional writes of a key. With so many keys there are rarely more while a
/// client waits for a paused node, and so the outcome is known.
const KEYS: usize = 48;
/// The pause of a client after each operation. The nodes share this machine with it.
const THINK: Duration = Duration::from_millis(2);
/// How long all is well before something is done to a node.
const CALM_TIME: Duration = Duration::from_secs(2);
/// How long a node stays down.
const DOWN_TIME: Duration = Duration::from_secs(3);
/// How long nodes may take until they serve.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// The interval between two looks at the cluster.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// The interval between two lines, where there is no terminal.
const LINE_AFTER: Duration = Duration::from_secs(1);
/// How long the health of a node is waited for.
const HEALTH_TIME_MAX: Duration = Duration::from_millis(400);
/// A load without an end is bounded, because the time to live of its values is.
const TIME_MAX: Duration = Duration::from_hours(24);

/// What is told at the beginning.
const AT_TERMINAL: &str = "Nodes are killed and paused in turn while clients read and write. Keys: k kill a node, p pause one, \
                           r bring it back, a do so by itself again, q quit.";
const ELSEWHERE: &str = "Nodes are killed and paused in turn while clients read and write. Ctrl-C ends it.";

/// The figures that the verdict is told with.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    kills: u64,
    pauses: u64,
}

/// How the cluster is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    nodes_up: usize,
    /// `None` while no node tells.
    failures_tolerated: Option<usize>,
}

/// A cluster under chaos.
struct Chaos {
    screen: Screen,
    began: Instant,
    nodes: Vec<Node>,
    client: Client,
    /// How it is, and was when all nodes were up.
    look: Look,
    at_best: Look,
    done: Done,
    /// Whether nodes are taken down without a key.
    by_itself: bool,
    /// When something is done next.
    next: Instant,
}

/// Runs the cluster of `configs`, whose files and data are in `folder`, until `shutdown`, for `seconds` at most.
pub(super) async fn run(
    global: &Global,
    configs: &[Config],
    storage: StorageKind,
    folder: &std::path::Path,
    seconds: Option<u64>,
    shutdown: &CancellationToken,
) -> Result<Exit, CliError> {
    let screen = Screen::new(global.json);
    let mut nodes = Node::all(configs, storage, folder)?;
    for node in &mut nodes {
        node.start()?;
    }
    let address: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    // The nodes of this cluster speak plain text, whatever another one does.
    let security = Security::default();
    let global = Global { address, address_origin: AddressOrigin::Option, security, ..global.clone() };
    let began = Instant::now();
    let mut chaos = Chaos {
        screen,
        began,
        nodes,
        client: global.client()?,
        look: Look::default(),
        at_best: Look::default(),
        done: Done::default(),
        by_itself: true,
        next: began,
    };
    let outcome = chaos.run_to_the_end(&global, seconds.map(Duration::from_secs), shutdown).await;
    end_all(&mut chaos.nodes).await;
    outcome
}

impl Chaos {
    async fn run_to_the_end(
        &mut self,
        global: &Global,
        time_max: Option<Duration>,
        shutdown: &CancellationToken,
    ) -> Result<Exit, CliError> {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(Exit::Done),
            ready = self.wait_until_whole() => ready?,
        }
        self.at_best = self.look;
        let addresses = global.address.join(",");
        self.screen.text(&format!("{} nodes: export QUORATE_ADDRESS={addresses}", self.nodes.len()))?;
        self.screen.text(if self.screen == Screen::Terminal { AT_TERMINAL } else { ELSEWHERE })?;
        let mut keys = Keys::new(self.screen);
        let plan = Plan {
            clients: CLIENTS,
            keys: KEYS,
            mix: Mix::Conditional,
            time_max: time_max.unwrap_or(TIME_MAX),
            think: THINK,
        };
        let load = Load::start(global, DEFAULT_TABLE, plan).await?;
        (self.began, self.next) = (Instant::now(), Instant::now() + CALM_TIME);
        let end = self.began + time_max.unwrap_or(TIME_MAX);
        let worked = self.work(&load, &mut keys, end, shutdown).await;
        load.stop();
        drop(keys);
        // The last reads need the nodes.
        for node in &mut self.nodes {
            node.bring_back()?;
        }
        worked?;
        self.wait_until_whole().await?;
        let interrupted = shutdown.is_cancelled();
        let outcome = load.outcome().await?;
        let settings = Settings { clients: CLIENTS, interrupted };
        let Done { kills, pauses } = self.done;
        if self.screen == Screen::Json {
            let mut json = as_json(&outcome, &settings);
            (json["event"], json["kills"], json["pauses"]) = ("verdict".into(), kills.into(), pauses.into());
            print_json(&json)?;
        } else {
            let failed = outcome.counts.failed();
            let text = as_text(&outcome, &settings);
            let count = |count: u64, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
            let sum = format!(
                "{}, {}, {}\n",
                count(kills, "kill"),
                count(pauses, "pause"),
                count(failed, "failed operation")
            );
            self.screen.text(&format!("{sum}{}", text.trim_end()))?;
        }
        Ok(if outcome.judged.is_linearizable() { Exit::Done } else { Exit::NotGoodEnough })
    }

    /// Takes nodes down and brings them back until `end`.
    async fn work(
        &mut self,
        load: &Load,
        keys: &mut Keys,
        end: Instant,
        shutdown: &CancellationToken,
    ) -> Result<(), CliError> {
        let mut shown = self.began;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(end.into()) => return Ok(()),
                key = keys.next() => {
                    if key == b'q' {
                        return Ok(());
                    }
                    self.pressed(key)?;
                    continue;
                }
                () = tokio::time::sleep(LOOK_AFTER) => {}
            }
            for node in &mut self.nodes {
                node.check()?;
            }
            self.look = self.look_at_cluster().await;
            if self.by_itself {
                self.act()?;
            }
            if self.screen == Screen::Terminal || shown.elapsed() >= LINE_AFTER {
                let span = shown.elapsed();
                shown = Instant::now();
                self.show(load, span)?;
            }
        }
    }

    fn show(&self, load: &Load, span: Duration) -> Result<(), CliError> {
        let (counts, window) = load.look();
        let figures = Figures {
            at: self.began.elapsed(),
            operations_per_second: window.answered as f64 / span.as_secs_f64().max(0.001),
            p99: quantile(&window.latencies, 0.99),
            failed: counts.failed(),
            unknown: counts.unknown(),
            nodes_up: self.look.nodes_up,
            nodes: self.nodes.len(),
            failures_tolerated: self.look.failures_tolerated,
        };
        self.screen.figures(&figures).map_err(|error| unwritten(&error))
    }

    /// What is to be done next, by itself.
    fn act(&mut self) -> Result<(), CliError> {
        let now = Instant::now();
        if self.nodes.iter().any(|node| node.state != State::Up) {
            if now >= self.next {
                self.bring_all_back()?;
            }
        } else if self.look != self.at_best {
            // A node that came back is on its way. Calm begins when all is well again.
            self.next = now + CALM_TIME;
        } else if now >= self.next {
            let kills = self.done.kills <= self.done.pauses;
            self.take_down(kills)?;
        }
        Ok(())
    }

    /// What a key is for.
    fn pressed(&mut self, key: u8) -> Result<(), CliError> {
        match key.to_ascii_lowercase() {
            b'k' | b'p' => {
                self.by_itself = false;
                self.take_down(key.eq_ignore_ascii_case(&b'k'))
            }
            b'r' => {
                self.by_itself = false;
                self.bring_all_back()
            }
            b'a' => {
                self.by_itself = true;
                self.next = Instant::now();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Kills or pauses one of the nodes, if the cluster tolerates that.
    fn take_down(&mut self, kills: bool) -> Result<(), CliError> {
        if self.look.failures_tolerated.is_none_or(|count| count == 0) {
            let text = "no more failures are tolerated now: wait, or bring a node back (r)";
            return self.event("refused", None, text);
        }
        let up: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].state == State::Up).collect();
        let Some(at) = up.get(rand::rng().random_range(0..up.len().max(1))).copied() else { return Ok(()) };
        let node = &mut self.nodes[at];
        let id = node.id.clone();
        if kills {
            node.kill();
            self.done.kills += 1;
        } else {
            node.pause();
            self.done.pauses += 1;
        }
        // One at a time, until the cluster has been looked at again.
        self.look.failures_tolerated = self.look.failures_tolerated.map(|count| count - 1);
        self.next = Instant::now() + DOWN_TIME;
        let (event, text) = if kills { ("kill", "killed (SIGKILL)") } else { ("pause", "paused (SIGSTOP)") };
        self.event(event, Some(&id), &format!("node {id} is {text}"))
    }

    fn bring_all_back(&mut self) -> Result<(), CliError> {
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            let (event, text) = match node.state {
                State::Up => continue,
                State::Killed => ("restart", "started again"),
                State::Paused => ("resume", "resumed (SIGCONT)"),
            };
            let id = node.id.clone();
            node.bring_back()?;
            self.event(event, Some(&id), &format!("node {id} is {text}"))?;
        }
        self.next = Instant::now() + CALM_TIME;
        Ok(())
    }

    fn event(&self, event: &str, node: Option<&str>, text: &str) -> Result<(), CliError> {
        self.screen.event(self.began.elapsed(), event, node, text).map_err(|error| unwritten(&error))
    }

    /// Waits until all nodes serve and are linked, so that as many failures are tolerated as can be.
    async fn wait_until_whole(&mut self) -> Result<(), CliError> {
        let began = Instant::now();
        loop {
            for node in &mut self.nodes {
                node.check()?;
            }
            self.look = self.look_at_cluster().await;
            let is_at_best = self.at_best == Look::default() || self.look == self.at_best;
            if self.look.nodes_up == self.nodes.len() && self.look.failures_tolerated.is_some() && is_at_best {
                return Ok(());
            }
            if began.elapsed() > START_TIME_MAX {
                return Err(CliError::not_done(format!(
                    "{} of {} nodes serve after {} s; `quorate status` says what the others wait for",
                    self.look.nodes_up,
                    self.nodes.len(),
                    START_TIME_MAX.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks all nodes. A node that was killed or paused is down, whatever its peers believe yet.
    async fn look_at_cluster(&self) -> Look {
        let client = self.client.with_deadline(HEALTH_TIME_MAX);
        let Ok(info) = client.cluster_info().await else { return Look::default() };
        let Ok(lists) = lists(&info, None) else { return Look::default() };
        let given: Vec<&str> = self.nodes.iter().map(|node| node.address.as_str()).collect();
        let answers = ask_timed(&info, &given, &|_| client.dialer(), HEALTH_TIME_MAX).await;
        let mut rows = rows(&info, &answers);
        for row in &mut rows {
            let is_down = self.nodes.iter().any(|node| node.id == row.id && node.state != State::Up);
            if is_down || !matches!(row.view, View::Answer(_)) {
                row.view = View::Unreachable(Away::default());
            }
        }
        let report = Report::new(&Placement::new(lists.old), None, None, rows);
        let nodes_up = report.rows.iter().filter(|row| row.serves()).count();
        Look { nodes_up, failures_tolerated: (report.slots_lost == 0).then_some(report.failures_tolerated) }
    }
}

fn unwritten(error: &std::io::Error) -> CliError {
    CliError::not_done(format!("stdout cannot be written: {error}"))
}
