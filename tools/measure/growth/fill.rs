//! Fills one cluster of real processes, and shows how it behaves as it fills.
//!
//! Writers keep a fixed number of requests in flight and write each key once; beside them, a few reads a second of keys
//! drawn evenly from all that were acknowledged. Afterwards readers alone. Every read is checked: a key that was
//! acknowledged and is gone, or another value than was written, fails the whole run.
//!
//! A read beside the load counts from the moment it was due, so that a cluster that stands still is seen to. The load
//! itself waits for answers, and slows down with the cluster: its latencies are those of a system at its limit. The
//! clients share the processors with the nodes.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

use super::nodes::NodeSample;
use super::run::{End, GIB, Phase, Plan, Run, Sample};
use super::summary;
use super::tally::{Failures, Recorder};
use crate::leave;
use crate::testkit::cluster::{self, Cluster, TestNode};
use crate::testkit::data::{key_text, value};

/// How long one request may take.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How long a writer waits before it sends again what failed.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// So many reads beside the load may wait; more are not sent, and counted as failures.
const READS_WAITING_MAX: usize = 1_024;
/// The load ends before the disk is full: others live on it.
const ROOM_BYTES_MIN: u64 = 4 << 30;

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
