//! Fills one cluster of real processes, and shows how it behaves as it fills.
//!
//! Writers keep a fixed number of requests in flight and write each key once; beside them, a few reads a second of keys
//! drawn evenly from all that were acknowledged. Afterwards readers alone. Every read is checked: a key that was
//! acknowledged and is gone, or another value than was written, fails the whole run.
//!
//! A read beside the load counts from the moment it was due, so that a cluster that stands still is seen to. The load
//! itself waits for answers, and slows down with the cluster: its latencies are those of a system at its limit. The
//! clients share the processors with the nodes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::statvfs::statvfs;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::entry::Content;
use quorate::api::{Entry, GetRequest, SetRequest};
use quorate::wire::failure::Failure;
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::cluster::{self, Cluster, TestNode};
use crate::leave;
use crate::nodes::NodeSample;
use crate::summary;
use crate::support::{key_text, value};
use crate::tally::{Failures, Latencies, Recorder};

/// Each key's length: see [`key_text`].
const KEY_BYTES: u64 = 16;
/// How long one request may take.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How long a writer waits before it sends again what failed.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// So many reads beside the load may wait; more are not sent, and counted as failures.
const READS_WAITING_MAX: usize = 1_024;
/// The load ends before the disk is full: others live on it.
const ROOM_BYTES_MIN: u64 = 4 << 30;
pub const MIB: f64 = (1 << 20) as f64;
pub const GIB: f64 = (1 << 30) as f64;

/// Fill one cluster of three nodes, and read from it
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// Load for so many minutes at most
    #[arg(long, default_value_t = 20.0)]
    pub minutes: f64,
    /// Load until all nodes together take so many GiB of disk, at most
    #[arg(long, default_value_t = 40.0)]
    pub gib: f64,
    /// Load so many keys at most
    #[arg(long, default_value_t = 100_000_000)]
    pub keys: u64,
    /// The size of each value
    #[arg(long, default_value_t = 100)]
    pub value_bytes: usize,
    /// Writes in flight
    #[arg(long, default_value_t = 512)]
    pub writers: u64,
    /// Reads a second beside the load
    #[arg(long, default_value_t = 50.0)]
    pub reads_per_second: f64,
    /// How long to read afterwards
    #[arg(long, default_value_t = 60.0)]
    pub read_seconds: f64,
    /// Reads in flight afterwards
    #[arg(long, default_value_t = 64)]
    pub readers: usize,
    /// Seconds between two looks
    #[arg(long, default_value_t = 5.0)]
    pub look_seconds: f64,
    /// Each node's block cache (block_cache_bytes in node.yml): small, so that the data soon is larger
    #[arg(long, default_value_t = 64 << 20)]
    pub block_cache_bytes: u64,
}

impl Plan {
    /// What clients gave the cluster to keep, with so many keys.
    pub fn stored_bytes(&self, keys: u64) -> u64 {
        keys * (KEY_BYTES + self.value_bytes as u64)
    }

    fn json(&self) -> Json {
        json!({
            "minutes": self.minutes,
            "gib": self.gib,
            "keys": self.keys,
            "key_bytes": KEY_BYTES,
            "value_bytes": self.value_bytes,
            "writers": self.writers,
            "reads_per_second": self.reads_per_second,
            "read_seconds": self.read_seconds,
            "readers": self.readers,
            "look_seconds": self.look_seconds,
            "block_cache_bytes": self.block_cache_bytes,
            "nodes": 3,
            "replica_count": 3,
            "durability": "fsync",
            "processors": std::thread::available_parallelism().ok().map(usize::from),
        })
    }
}

/// What the clients are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Writers, and a few reads beside them.
    Load,
    /// Readers alone.
    Read,
}

/// One look at everything.
#[derive(Debug)]
pub struct Sample {
    /// Since the load began.
    pub seconds: f64,
    /// What the clients did.
    pub phase: Phase,
    /// Acknowledged so far.
    pub keys: u64,
    /// How long it is since the last look.
    pub span: f64,
    /// Writes since then.
    pub writes: Latencies,
    /// Reads since then.
    pub reads: Latencies,
    /// How the nodes are.
    pub nodes: Vec<NodeSample>,
    /// Failed requests so far.
    pub failures: u64,
}

impl Sample {
    /// How many of `latencies` there were in a second.
    pub fn rate(&self, latencies: &Latencies) -> f64 {
        latencies.count() as f64 / self.span
    }

    /// What all nodes take of the disk.
    pub fn disk_bytes(&self) -> u64 {
        self.nodes.iter().map(|node| node.disk_bytes).sum()
    }

    fn json(&self, plan: &Plan) -> Json {
        let stored_bytes = plan.stored_bytes(self.keys);
        json!({
            "seconds": self.seconds,
            "phase": if self.phase == Phase::Load { "load" } else { "read" },
            "keys": self.keys,
            "writes_per_second": self.rate(&self.writes),
            "writes": self.writes.json(),
            "reads_per_second": self.rate(&self.reads),
            "reads": self.reads.json(),
            "failures": self.failures,
            "nodes": self.nodes.iter().map(|node| node.json(stored_bytes)).collect::<Vec<_>>(),
        })
    }

    fn line(&self) -> String {
        let ms = |latencies: &Latencies| match (latencies.ms(0.5), latencies.ms(0.99)) {
            (Some(p50), Some(p99)) => format!("p50 {p50:.1} p99 {p99:.1} ms"),
            _ => "none".to_owned(),
        };
        let pending: f64 =
            self.nodes.iter().filter_map(|node| node.told).map(|told| told.compaction_pending_bytes).sum();
        let resident = self.nodes.iter().filter_map(|node| node.resident_bytes).max();
        format!(
            "{:5.0} s  {:9} keys  {:6.0} writes/s {}  {:5.0} reads/s {}  disk {:.2} GiB, {:.2} to compact  \
             memory up to {:.0} MiB  failures {}",
            self.seconds,
            self.keys,
            self.rate(&self.writes),
            ms(&self.writes),
            self.rate(&self.reads),
            ms(&self.reads),
            self.disk_bytes() as f64 / GIB,
            pending / GIB,
            resident.unwrap_or(0) as f64 / MIB,
            self.failures,
        )
    }
}

/// What ended a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has taken as long as it may.
    Time,
    /// All keys are written.
    Keys,
    /// The nodes take as much of the disk as they may.
    Disk,
    /// Others need what is left of the disk.
    Room,
    /// Ctrl-C. The nodes have heard it too, and end.
    Interrupted,
}

impl End {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "the time is over",
            Self::Keys => "all keys are written",
            Self::Disk => "the nodes take as much of the disk as they may",
            Self::Room => "the disk is almost full",
            Self::Interrupted => "it was interrupted",
        }
    }
}

/// Everything that was seen.
#[derive(Debug)]
pub struct Run {
    /// In the order of time.
    pub samples: Vec<Sample>,
    /// Why the load ended.
    pub ended_by: End,
    /// Each write of the load.
    pub writes: Latencies,
    /// Each read beside it.
    pub reads_beside: Latencies,
    /// Each read afterwards.
    pub reads_after: Latencies,
    /// What failed, by kind.
    pub failures: BTreeMap<String, u64>,
    /// Acknowledged keys that were gone or had another value.
    pub wrong: u64,
}

pub fn run(plan: &Plan, output: &Path) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let run = runtime.block_on(measure(plan));
    let lines: Vec<String> = run.samples.iter().map(|sample| sample.json(plan).to_string()).collect();
    leave(&output.join("load.jsonl"), &(lines.join("\n") + "\n"));
    let rows = summary::rows(plan, &run);
    println!("{}", summary::table(&rows));
    let rows = rows.into_iter().map(|(name, value)| (name, Json::from(value))).collect::<serde_json::Map<_, _>>();
    let json = json!({
        "plan": plan.json(),
        "ended_by": run.ended_by.as_str(),
        "writes": run.writes.json(),
        "reads_beside_the_load": run.reads_beside.json(),
        "reads_after_the_load": run.reads_after.json(),
        "failures": run.failures,
        "wrong": run.wrong,
        "summary": rows,
    });
    leave(&output.join("load.json"), &format!("{json:#}\n"));
    summary::draw_all(plan, &run, output);
    if run.wrong > 0 {
        eprintln!("{} reads did not find what was acknowledged: see the failures above", run.wrong);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn measure(plan: &Plan) -> Run {
    let mut cluster = Cluster::prepare(&cluster::Plan::default());
    for node in &mut cluster.nodes {
        let block_cache_bytes = plan.block_cache_bytes.to_string();
        node.environment.push(("QUORATE_NODE_BLOCK_CACHE_BYTES".to_owned(), block_cache_bytes.into()));
    }
    cluster.start_all();
    cluster.wait_all_linked().await;
    println!("three nodes with their data in {}; Ctrl-C ends it early", cluster.dir().display());

    let clients = Arc::new(Clients::new(plan, &cluster.nodes));
    let began = Instant::now();
    let mut watch = Watch { plan, cluster: &cluster, clients: &clients, began, looked: began, samples: Vec::new() };
    let mut writers: JoinSet<()> = (0..plan.writers).map(|writer| Arc::clone(&clients).write_share(writer)).collect();
    let mut beside = JoinSet::new();
    beside.spawn(Arc::clone(&clients).read_at_times());
    let load_time = Duration::from_secs_f64(plan.minutes * 60.0);
    let ended_by = watch.look_on(Phase::Load, load_time, &mut writers).await;
    clients.stop.store(true, Ordering::Relaxed);
    writers.join_all().await;
    beside.join_all().await;

    if ended_by != End::Interrupted {
        clients.stop.store(false, Ordering::Relaxed);
        let mut readers: JoinSet<()> = (0..plan.readers).map(|_| Arc::clone(&clients).read_on()).collect();
        watch.look_on(Phase::Read, Duration::from_secs_f64(plan.read_seconds), &mut readers).await;
        clients.stop.store(true, Ordering::Relaxed);
        readers.join_all().await;
    }
    let samples = watch.samples;
    Run {
        samples,
        ended_by,
        writes: clients.writes.all(),
        reads_beside: clients.reads_beside.all(),
        reads_after: clients.reads_after.all(),
        failures: clients.failures.all(),
        wrong: clients.wrong.load(Ordering::Relaxed),
    }
}

/// Looks at everything, again and again.
struct Watch<'a> {
    plan: &'a Plan,
    cluster: &'a Cluster,
    clients: &'a Clients,
    began: Instant,
    looked: Instant,
    samples: Vec<Sample>,
}

impl Watch<'_> {
    /// Looks on for `time`, or until something else ends the phase.
    async fn look_on(&mut self, phase: Phase, time: Duration, workers: &mut JoinSet<()>) -> End {
        let phase_began = Instant::now();
        self.looked = phase_began;
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            let left = time.saturating_sub(phase_began.elapsed());
            let mut have_ended = false;
            tokio::select! {
                () = tokio::time::sleep(left.min(Duration::from_secs_f64(self.plan.look_seconds))) => {}
                result = &mut interrupted => {
                    result.expect("signals can be waited for");
                    return End::Interrupted;
                }
                () = all_ended(workers) => have_ended = true,
            }
            let sample = self.look(phase).await;
            println!("{}", sample.line());
            let disk_bytes = sample.disk_bytes() as f64;
            self.samples.push(sample);
            if have_ended {
                return End::Keys;
            }
            if phase_began.elapsed() >= time {
                return End::Time;
            }
            if phase == Phase::Load && disk_bytes >= self.plan.gib * GIB {
                return End::Disk;
            }
            if phase == Phase::Load && room_bytes(self.cluster.dir()) < ROOM_BYTES_MIN {
                return End::Room;
            }
        }
    }

    async fn look(&mut self, phase: Phase) -> Sample {
        let span = self.looked.elapsed();
        self.looked += span;
        let reads = if phase == Phase::Load { &self.clients.reads_beside } else { &self.clients.reads_after };
        let (writes, reads) = (self.clients.writes.look(), reads.look());
        let keys = self.clients.acknowledged();
        // They may take a while to answer.
        let mut nodes = Vec::new();
        for node in &self.cluster.nodes {
            let (sample, problem) = NodeSample::look(node).await;
            if problem.is_some() {
                self.clients.failures.count(format_args!("metrics of node {}: no answer", node.id));
            }
            nodes.push(sample);
        }
        Sample {
            seconds: (self.looked - self.began).as_secs_f64(),
            phase,
            keys,
            span: span.as_secs_f64(),
            writes,
            reads,
            nodes,
            failures: self.clients.failures.all().values().sum(),
        }
    }
}

/// Waits until every one of `workers` has ended by itself.
async fn all_ended(workers: &mut JoinSet<()>) {
    while let Some(ended) = workers.join_next().await {
        ended.expect("a client does not panic");
    }
}

fn room_bytes(folder: &Path) -> u64 {
    let room = statvfs(folder).expect("the folder is there");
    room.blocks_available() as u64 * room.fragment_size() as u64
}

/// All clients, in one process.
struct Clients {
    plan: Plan,
    nodes: Vec<ClusterClient<Channel>>,
    /// How many keys each writer has written: its first is of the number that it has itself, and from one to the next
    /// it is as many as there are writers.
    written: Vec<AtomicU64>,
    stop: AtomicBool,
    writes: Recorder,
    reads_beside: Recorder,
    reads_after: Recorder,
    failures: Failures,
    wrong: AtomicU64,
}

impl Clients {
    fn new(plan: &Plan, nodes: &[TestNode]) -> Self {
        Self {
            plan: plan.clone(),
            nodes: nodes.iter().map(TestNode::cluster_client).collect(),
            written: (0..plan.writers).map(|_| AtomicU64::new(0)).collect(),
            stop: AtomicBool::new(false),
            writes: Recorder::default(),
            reads_beside: Recorder::default(),
            reads_after: Recorder::default(),
            failures: Failures::default(),
            wrong: AtomicU64::new(0),
        }
    }

    fn acknowledged(&self) -> u64 {
        self.written.iter().map(|written| written.load(Ordering::Relaxed)).sum()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The node that the request of this number is sent to.
    fn node(&self, number: u64) -> ClusterClient<Channel> {
        self.nodes[usize::try_from(number % self.nodes.len() as u64).expect("it is below their number")].clone()
    }

    /// One writer: writes its share of all keys, each until it is acknowledged.
    async fn write_share(self: Arc<Self>, writer: u64) {
        let written = &self.written[usize::try_from(writer).expect("it is below their number")];
        let mut number = writer;
        while number < self.plan.keys && !self.is_stopped() {
            let content = Some(Content::Binary(value(number, self.plan.value_bytes).into()));
            let request = SetRequest { entry: Some(Entry { key: key_text(number), content }) };
            let began = Instant::now();
            match self.node(number).set(within_time(request)).await {
                Ok(_) => {
                    self.writes.record(began.elapsed());
                    written.fetch_add(1, Ordering::Relaxed);
                    number += self.plan.writers;
                }
                Err(status) => {
                    self.failures.count(kind("Set", &status));
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// A few reads a second, sent when they are due whether or not the ones before have ended.
    async fn read_at_times(self: Arc<Self>) {
        let places = Arc::new(Semaphore::new(READS_WAITING_MAX));
        let mut reads = JoinSet::new();
        let mut times = tokio::time::interval(Duration::from_secs_f64(1.0 / self.plan.reads_per_second));
        while !self.is_stopped() {
            let due = times.tick().await.into_std();
            while reads.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.failures.count(format_args!("Get not sent: {READS_WAITING_MAX} wait already"));
                continue;
            };
            let clients = Arc::clone(&self);
            reads.spawn(async move {
                if let Some(number) = clients.draw()
                    && clients.read(number).await
                {
                    clients.reads_beside.record(due.elapsed());
                }
                drop(place);
            });
        }
        reads.join_all().await;
    }

    /// One reader: the next read when the last has ended.
    async fn read_on(self: Arc<Self>) {
        while !self.is_stopped() {
            let Some(number) = self.draw() else { return };
            let began = Instant::now();
            if self.read(number).await {
                self.reads_after.record(began.elapsed());
            } else {
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    /// The number of a key that was acknowledged; each is as likely as any other.
    fn draw(&self) -> Option<u64> {
        let written = |writer: u64| {
            let writer = usize::try_from(writer).expect("it is below their number");
            self.written[writer].load(Ordering::Relaxed)
        };
        // Writers progress alike: a number below the greatest of them is seldom drawn in vain.
        let most = (0..self.plan.writers).map(written).max().filter(|most| *most > 0)?;
        loop {
            let (writer, place) = (rand::random_range(0..self.plan.writers), rand::random_range(0..most));
            if place < written(writer) {
                return Some(writer + place * self.plan.writers);
            }
        }
    }

    /// Reads a key, and checks what it finds. False where it was not answered.
    async fn read(&self, number: u64) -> bool {
        let request = GetRequest { key: key_text(number) };
        // Another node than wrote it is asked as often as the same one.
        let found = match self.node(rand::random()).get(within_time(request)).await {
            Ok(answer) => answer.into_inner().entry.and_then(|entry| entry.content),
            Err(status) => {
                self.failures.count(kind("Get", &status));
                return false;
            }
        };
        if found != Some(Content::Binary(value(number, self.plan.value_bytes).into())) {
            let what =
                if found.is_none() { "an acknowledged key has no value" } else { "another value than was written" };
            self.failures.count(format_args!("Get: {what}"));
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

fn within_time<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(TIME_MAX);
    request
}

/// How failures are told apart: by method, gRPC code, and what Quorate says became of the request.
fn kind(method: &str, status: &Status) -> String {
    let reason = Failure::from_status(status).map_or("no reason", |failure| failure.reason.as_str());
    format!("{method}: {:?} ({reason})", status.code())
}
