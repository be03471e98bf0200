//! A load whose history is judged: several clients read and write a few keys, and the checker says whether all that they were
//! told can have happened in one order.
//!
//! Contract: the keys are fresh, below a prefix of their own, and are removed at the end. Their values expire by themselves
//! should this process not live that long. All clients are stopped before the verdict, and a last reader reads every key: so a
//! write that was acknowledged and lost is found.
//!
//! Keys are in use for one round. Short histories are judged fast, and only few of their operations have an unknown outcome.

mod client;
mod judge;
mod report;
mod round;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{CliError, Global};
use crate::client::{Builder, Client, ClientError};
use crate::wire::version::VersionText;
use client::Worker;
pub(super) use judge::Wrong;
pub(super) use report::{Settings, as_json, as_text, quantile};
use round::{Part, Rounds};

/// How long a round lasts.
const ROUND_TIME: Duration = Duration::from_secs(2);
/// Values expire so long after the latest end of the load.
const TTL_AFTER_END: Duration = Duration::from_hours(1);
/// Three significant digits: an error of a thousandth.
const DIGITS: u8 = 3;

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    /// Get, Set, CompareAndSet and Delete.
    All,
    /// The same, where each write names the version that it replaces. The client sends such a write again until its outcome is
    /// known, because it takes effect once at most.
    Conditional,
}

/// The plan of a load.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) clients: usize,
    /// The keys of one round. With few keys clients meet often, and that is what can go wrong.
    pub(super) keys: usize,
    pub(super) mix: Mix,
    /// The longest time that it runs.
    pub(super) time_max: Duration,
    /// The pause of a client after each operation.
    pub(super) think: Duration,
}

/// The kind of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Get,
    Set,
    CompareAndSet,
    Delete,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Get, Self::Set, Self::CompareAndSet, Self::Delete];

    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::CompareAndSet => "compare_and_set",
            Self::Delete => "delete",
        }
    }
}

/// How an operation ended, for counts.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Done,
    /// The condition did not hold, so that nothing was written.
    ConditionFailed,
    /// A read was not answered, or a write certainly did not happen.
    Failed(String),
    /// A write may have happened.
    Unknown(String),
}

/// The counts of one kind.
#[derive(Clone, Debug)]
pub(super) struct OfKind {
    pub(super) done: u64,
    pub(super) condition_failed: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    /// Of answered operations, in microseconds.
    pub(super) latencies: Histogram<u64>,
}

/// What was counted since somebody looked last.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) answered: u64,
    /// Of answered operations, in microseconds.
    pub(super) latencies: Histogram<u64>,
}

/// What was counted so far.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) kinds: BTreeMap<Kind, OfKind>,
    /// The number of failures and unknown outcomes by their kind and their text. The flag is set for an unknown outcome.
    pub(super) failures: BTreeMap<(Kind, bool, String), u64>,
    window: Window,
}

impl Window {
    fn new() -> Self {
        Self { answered: 0, latencies: histogram() }
    }
}

impl Counts {
    fn new() -> Self {
        let of_kind = || OfKind { done: 0, condition_failed: 0, failed: 0, unknown: 0, latencies: histogram() };
        let kinds = Kind::ALL.into_iter().map(|kind| (kind, of_kind())).collect();
        Self { kinds, failures: BTreeMap::new(), window: Window::new() }
    }

    fn count(&mut self, kind: Kind, took: Duration, ended: &Ended) {
        let of_kind = self.kinds.get_mut(&kind).expect("all kinds are there");
        let failure = match ended {
            Ended::Done => {
                of_kind.done += 1;
                None
            }
            Ended::ConditionFailed => {
                of_kind.condition_failed += 1;
                None
            }
            Ended::Failed(why) => {
                of_kind.failed += 1;
                Some((kind, false, why.clone()))
            }
            Ended::Unknown(why) => {
                of_kind.unknown += 1;
                Some((kind, true, why.clone()))
            }
        };
        if let Some(failure) = failure {
            *self.failures.entry(failure).or_default() += 1;
            return;
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // A histogram that grows takes every latency.
        let _ = of_kind.latencies.record(micros);
        let _ = self.window.latencies.record(micros);
        self.window.answered += 1;
    }

    pub(super) fn answered(&self) -> u64 {
        self.kinds.values().map(|of_kind| of_kind.done + of_kind.condition_failed).sum()
    }

    pub(super) fn failed(&self) -> u64 {
        self.kinds.values().map(|of_kind| of_kind.failed).sum()
    }

    pub(super) fn unknown(&self) -> u64 {
        self.kinds.values().map(|of_kind| of_kind.unknown).sum()
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("the number of digits is one that histograms have")
}

/// What all parts of a load share.
#[derive(Debug)]
struct Shared {
    /// The first part of all keys.
    prefix: String,
    /// The origin of all times.
    origin: Instant,
    /// The number of the last operation.
    numbers: AtomicUsize,
    versions: VersionText,
    ttl: Duration,
    plan: Plan,
    counts: Mutex<Counts>,
    /// Cancelled when the clients are to end.
    over: CancellationToken,
}

impl Shared {
    /// Now, in microseconds.
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).expect("a run is shorter than five hundred thousand years")
    }

    /// A number that no other operation has.
    fn fresh_number(&self) -> usize {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The round of this moment.
    fn round(&self) -> usize {
        usize::try_from(self.origin.elapsed().as_millis() / ROUND_TIME.as_millis()).expect("a run has few rounds")
    }

    fn key(&self, round: usize, place: usize) -> String {
        format!("{}{round}/{place}", self.prefix)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // No count can panic half-way.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load that runs.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    rounds: JoinHandle<Result<judge::Judged, tokio::task::JoinError>>,
}

/// What a load found.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) counts: Counts,
    /// How long the clients worked.
    pub(super) took: Duration,
    pub(super) judged: judge::Judged,
}

impl Load {
    /// Starts the clients. They go on until the load is told to end.
    pub(super) async fn start(global: &Global, table: &str, plan: Plan) -> Result<Self, CliError> {
        let of_table = |client: Client| client.table(table);
        let reader = of_table(client_of(global)?);
        let info = reader.cluster_info().await?;
        let shared = Arc::new(Shared {
            prefix: format!("quorate-check-{:016x}/", rand::random::<u64>()),
            origin: Instant::now(),
            numbers: AtomicUsize::new(0),
            versions: VersionText::of_cluster(info.seed),
            ttl: plan.time_max + TTL_AFTER_END,
            counts: Mutex::new(Counts::new()),
            over: CancellationToken::new(),
            plan,
        });
        // What is wrong with the table or the rights is told now, and not as the failure of each operation.
        check_first(&shared, &reader).await?;
        let (parts, arrived) = mpsc::unbounded_channel::<Part>();
        let mut clients = JoinSet::new();
        for number in 0..shared.plan.clients {
            let client = of_table(client_of(global)?);
            clients.spawn(Worker::new(number, client, Arc::clone(&shared), parts.clone()).run());
        }
        let rounds = tokio::spawn(Rounds::new(Arc::clone(&shared), reader).run(arrived));
        Ok(Self { shared, clients, rounds })
    }

    /// The sums so far, and what was counted since the last call.
    pub(super) fn look(&self) -> (Counts, Window) {
        let mut counts = self.shared.counts();
        let window = std::mem::replace(&mut counts.window, Window::new());
        (counts.clone(), window)
    }

    /// Stops the clients. [`Load::outcome`] waits for them.
    pub(super) fn stop(&self) {
        self.shared.over.cancel();
    }

    /// Ends the load, judges what is left to be judged, and removes the keys.
    pub(super) async fn outcome(mut self) -> Result<Outcome, CliError> {
        self.stop();
        while self.clients.join_next().await.is_some() {}
        let took = self.shared.origin.elapsed();
        let broken = |error: tokio::task::JoinError| CliError::not_done(format!("the judgement ended early: {error}"));
        let judged = self.rounds.await.map_err(broken)?.map_err(broken)?;
        let counts = self.shared.counts().clone();
        Ok(Outcome { counts, took, judged })
    }
}

/// A client with connections of its own.
fn client_of(global: &Global) -> Result<Client, CliError> {
    let builder = global.addresses()?.into_iter().fold(Client::builder(), Builder::address);
    Ok(builder.dialer(global.dialer()?).deadline(global.timeout).build()?)
}

/// Writes and deletes one key of the load.
async fn check_first(shared: &Shared, client: &Client) -> Result<(), ClientError> {
    let key = format!("{}first", shared.prefix);
    match client.set(&key, "0").ttl(shared.ttl).await {
        Ok(_) | Err(ClientError::OutcomeUnknown { .. }) => {}
        Err(error) => return Err(error),
    }
    match client.delete(&key).await {
        Ok(_) | Err(ClientError::OutcomeUnknown { .. } | ClientError::NotApplied { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
