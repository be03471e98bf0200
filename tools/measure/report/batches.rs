//! Loads of BatchWrite, which `quorate bench` does not make.
//!
//! Contract: tasks of this process keep one batch in flight each. A task has a connection of its own, and tasks take the
//! nodes in turn. An entry counts as written where its own result is a success.
//!
//! Caveat: this process is the generator here, on one thread. Its CPU time is shown as that of `quorate bench` is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate::api::batch_write_entry::Write;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::entry::Content;
use quorate::api::{BatchWriteEntry, BatchWriteRequest, Entry, SetRequest};
use quorate::wire::failure::Failure;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::cluster::Cluster;
use super::machine::cpu_used;
use crate::testkit::cluster::percentiles_ms;
use crate::testkit::data::{key_text, value};

/// How many batches are in flight: one of each task.
pub const IN_FLIGHT: usize = 16;
/// The entries of a batch.
pub const ENTRIES: u64 = 100;
/// The size of each value.
pub const VALUE_BYTES: usize = 100;

/// The deadline of a batch.
const TIME_MAX: Duration = Duration::from_secs(10);
/// The pause of a task after a batch with a failure.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// How long a batch may fail that must be written.
const FAILURES_TIME_MAX: Duration = Duration::from_mins(1);

/// The answers of a run.
#[derive(Debug, Default)]
pub struct Seen {
    /// How many entries were written.
    pub entries: u64,
    /// How many entries failed.
    pub failed: u64,
    /// The time from the first batch to the last answer.
    pub elapsed: Duration,
    /// CPU time of this process meanwhile.
    pub generator_cpu: Duration,
    /// The latency of each batch that was answered.
    latencies: Vec<Duration>,
    /// Failed entries, by reason.
    failures: BTreeMap<String, u64>,
}

impl Seen {
    /// Written entries a second.
    pub fn per_second(&self) -> f64 {
        self.entries as f64 / self.elapsed.as_secs_f64()
    }

    /// The 50th and the 99th percentile of the batches' latencies, in milliseconds; 0 without answers.
    pub fn percentiles_ms(&mut self) -> (f64, f64) {
        if self.latencies.is_empty() { (0.0, 0.0) } else { percentiles_ms(&mut self.latencies) }
    }

    /// Failures by reason, in words; empty without failures.
    pub fn failures(&self) -> String {
        let reasons = self.failures.iter().map(|(reason, count)| format!("{count} {reason}"));
        reasons.collect::<Vec<_>>().join(", ")
    }

    fn fail(&mut self, entries: u64, reason: String) {
        self.failed += entries;
        *self.failures.entry(reason).or_default() += entries;
    }

    /// Adds what another task has seen.
    fn merge(&mut self, other: Self) {
        self.entries += other.entries;
        self.failed += other.failed;
        self.latencies.extend(other.latencies);
        for (reason, count) in other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
    }
}

/// Sends batches for `duration`. Each has neighbours among the numbers below `keys`. Its first one is drawn evenly.
pub async fn run(cluster: &Cluster, keys: u64, duration: Duration) -> Seen {
    let (began, cpu_before) = (Instant::now(), cpu_used(std::process::id()));
    let end = began + duration;
    let tasks: JoinSet<Seen> = (0..IN_FLIGHT).map(|task| send_until(end, cluster.client_of(task), keys)).collect();
    let mut all = Seen::default();
    for seen in tasks.join_all().await {
        all.merge(seen);
    }
    let generator_cpu = cpu_used(std::process::id()).saturating_sub(cpu_before);
    Seen { elapsed: began.elapsed(), generator_cpu, ..all }
}

async fn send_until(end: Instant, mut client: ClusterClient<Channel>, keys: u64) -> Seen {
    let mut seen = Seen::default();
    while Instant::now() < end {
        if !send(&mut client, rand::random_range(0..keys), keys, &mut seen).await {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
    seen
}

/// Writes each of the keys below `keys`. Returns how long that took.
///
/// # Panics
/// When a batch still fails after [`FAILURES_TIME_MAX`].
pub async fn write_all(cluster: &Cluster, keys: u64) -> Duration {
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let share = |task| write_share(cluster.client_of(task), Arc::clone(&next), keys);
    let tasks: JoinSet<()> = (0..IN_FLIGHT).map(share).collect();
    tasks.join_all().await;
    began.elapsed()
}

async fn write_share(mut client: ClusterClient<Channel>, next: Arc<AtomicU64>, keys: u64) {
    loop {
        let first = next.fetch_add(ENTRIES, Ordering::Relaxed);
        if first >= keys {
            return;
        }
        let (began, mut seen) = (Instant::now(), Seen::default());
        while !send(&mut client, first, keys, &mut seen).await {
            assert!(began.elapsed() < FAILURES_TIME_MAX, "keys cannot be written: {}", seen.failures());
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

/// Sends one batch, from the key `first` on, and from 0 after the last one. Returns whether all entries are written.
async fn send(client: &mut ClusterClient<Channel>, first: u64, keys: u64, seen: &mut Seen) -> bool {
    let entries: Vec<BatchWriteEntry> = (first..first + ENTRIES).map(|number| set_of(number % keys)).collect();
    let mut request = Request::new(BatchWriteRequest { entries, ..Default::default() });
    request.set_timeout(TIME_MAX);
    let (began, failed_before) = (Instant::now(), seen.failed);
    match client.batch_write(request).await {
        Ok(answer) => {
            seen.latencies.push(began.elapsed());
            let results = answer.into_inner().results;
            assert_eq!(results.len() as u64, ENTRIES, "each entry has a result");
            for result in results {
                match result.error {
                    None => seen.entries += 1,
                    Some(error) => seen.fail(1, format!("{:?} {}", Code::from(error.code), error.reason)),
                }
            }
        }
        Err(status) => seen.fail(ENTRIES, reason_of(&status)),
    }
    seen.failed == failed_before
}

fn set_of(number: u64) -> BatchWriteEntry {
    let entry = Some(Entry { key: key_text(number), content: Some(content(number)) });
    BatchWriteEntry { write: Some(Write::Set(SetRequest { entry, ..Default::default() })) }
}

/// The content that every load gives the key of this number.
pub fn content(number: u64) -> Content {
    Content::Binary(value(number, VALUE_BYTES).into())
}

fn reason_of(status: &Status) -> String {
    let reason = Failure::from_status(status).map_or("no reason", |failure| failure.reason.as_str());
    format!("{:?} {reason}", status.code())
}
