//! Fills one cluster of real processes, and shows how it behaves as it fills.
//!
//! Writers keep a fixed number of requests in flight and write each key once. Beside them, a few reads a second draw
//! evenly from all acknowledged keys. Afterwards readers run alone. Every read is checked: an acknowledged key that is
//! gone, or a wrong value, fails the whole run.
//!
//! The latency of a read beside the writers counts from the moment when it was due, so that a stall of the cluster
//! shows. Writers wait for answers and slow down with the cluster: their latencies are those of a system at its limit.
//!
//! Caveat: the clients share the processors with the nodes.

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

/// The deadline of one request.
const TIME_MAX: Duration = Duration::from_secs(10);
/// The pause of a client after a failed request.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// The most reads beside the writers that may be in flight. Further ones are not sent, and count as failures.
const READS_WAITING_MAX: usize = 1_024;
/// Writing ends while so much of the disk is free: other programs need it.
const FREE_BYTES_MIN: u64 = 4 << 30;

pub fn run(plan: &Plan, output: &Path) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let run = runtime.block_on(measure(plan));
    let lines: Vec<String> = run.samples.iter().map(|sample| sample.json(plan).to_string()).collect();
    leave(&output.join("fill.jsonl"), &(lines.join("\n") + "\n"));
    let rows = summary::rows(plan, &run);
    println!("{}", summary::table(&rows));
    let rows = rows.into_iter().map(|(name, value)| (name, Json::from(value))).collect::<serde_json::Map<_, _>>();
    let json = json!({
        "plan": plan.json(),
        "ended_by": run.ended_by.as_str(),
        "writes": run.writes.json(),
        "reads_beside_the_writers": run.reads_beside.json(),
        "reads_afterwards": run.reads_after.json(),
        "failures": run.failures,
        "wrong": run.wrong,
        "summary": rows,
    });
    leave(&output.join("fill.json"), &format!("{json:#}\n"));
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
    let mut watch = Watch { plan, cluster: &cluster, clients: &clients, began, sampled: began, samples: Vec::new() };
    let mut writers: JoinSet<()> = (0..plan.writers).map(|writer| Arc::clone(&clients).write_share(writer)).collect();
    let mut beside = JoinSet::new();
    beside.spawn(Arc::clone(&clients).read_at_times());
    let fill_time = Duration::from_secs_f64(plan.minutes * 60.0);
    let ended_by = watch.sample_for(Phase::Fill, fill_time, &mut writers).await;
    clients.stop.store(true, Ordering::Relaxed);
    writers.join_all().await;
    beside.join_all().await;

    if ended_by != End::Interrupted {
        clients.stop.store(false, Ordering::Relaxed);
        let mut readers: JoinSet<()> = (0..plan.readers).map(|_| Arc::clone(&clients).read_on()).collect();
        watch.sample_for(Phase::Read, Duration::from_secs_f64(plan.read_seconds), &mut readers).await;
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

/// Samples clients and nodes at fixed times.
struct Watch<'a> {
    plan: &'a Plan,
    cluster: &'a Cluster,
    clients: &'a Clients,
    began: Instant,
    sampled: Instant,
    samples: Vec<Sample>,
}

impl Watch<'_> {
    /// Samples for `time`, or until another bound ends the phase.
    async fn sample_for(&mut self, phase: Phase, time: Duration, workers: &mut JoinSet<()>) -> End {
        let phase_began = Instant::now();
        self.sampled = phase_began;
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            let left = time.saturating_sub(phase_began.elapsed());
            let mut have_ended = false;
            tokio::select! {
                () = tokio::time::sleep(left.min(Duration::from_secs_f64(self.plan.sample_seconds))) => {}
                result = &mut interrupted => {
                    result.expect("signals can be waited for");
                    return End::Interrupted;
                }
                () = all_ended(workers) => have_ended = true,
            }
            let sample = self.sample(phase).await;
            println!("{}", sample.line());
            let disk_bytes = sample.disk_bytes() as f64;
            self.samples.push(sample);
            if have_ended {
                return End::Keys;
            }
            if phase_began.elapsed() >= time {
                return End::Time;
            }
            if phase == Phase::Fill && disk_bytes >= self.plan.gib * GIB {
                return End::Disk;
            }
            if phase == Phase::Fill && free_bytes(self.cluster.dir()) < FREE_BYTES_MIN {
                return End::FullDisk;
            }
        }
    }

    async fn sample(&mut self, phase: Phase) -> Sample {
        let span = self.sampled.elapsed();
        self.sampled += span;
        let reads = if phase == Phase::Fill { &self.clients.reads_beside } else { &self.clients.reads_after };
        let (writes, reads) = (self.clients.writes.take_recent(), reads.take_recent());
        let keys = self.clients.acknowledged();
        // A node under load may answer late.
        let mut nodes = Vec::new();
        for node in &self.cluster.nodes {
            let (sample, problem) = NodeSample::take(node).await;
            if problem.is_some() {
                self.clients.failures.count(format_args!("metrics of node {}: no answer", node.id));
            }
            nodes.push(sample);
        }
        Sample {
            seconds: (self.sampled - self.began).as_secs_f64(),
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

/// Waits until every worker has ended by itself.
async fn all_ended(workers: &mut JoinSet<()>) {
    while let Some(ended) = workers.join_next().await {
        ended.expect("a client does not panic");
    }
}

fn free_bytes(folder: &Path) -> u64 {
    let disk = statvfs(folder).expect("the folder is there");
    disk.blocks_available() as u64 * disk.fragment_size() as u64
}

/// All clients: tasks of this process.
struct Clients {
    plan: Plan,
    nodes: Vec<ClusterClient<Channel>>,
    /// How many keys each writer has written. Writer `w` of `n` writes the keys `w`, `w + n`, `w + 2n` and so on.
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

    /// A client of the node that request `number` goes to.
    fn node(&self, number: u64) -> ClusterClient<Channel> {
        self.nodes[usize::try_from(number % self.nodes.len() as u64).expect("it is below their number")].clone()
    }

    /// One writer: sends each key of its share until the write is acknowledged.
    async fn write_share(self: Arc<Self>, writer: u64) {
        let written = &self.written[usize::try_from(writer).expect("it is below their number")];
        let mut number = writer;
        while number < self.plan.keys && !self.is_stopped() {
            let content = Some(Content::Binary(value(number, self.plan.value_bytes).into()));
            let request = SetRequest { entry: Some(Entry { key: key_text(number), content }), ..Default::default() };
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

    /// Reads at a fixed rate (an open loop): each is sent when it is due, however long earlier ones take.
    async fn read_at_times(self: Arc<Self>) {
        let permits = Arc::new(Semaphore::new(READS_WAITING_MAX));
        let mut reads = JoinSet::new();
        let mut times = tokio::time::interval(Duration::from_secs_f64(1.0 / self.plan.reads_per_second));
        while !self.is_stopped() {
            let due_at = times.tick().await.into_std();
            while reads.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                self.failures.count(format_args!("Get not sent: {READS_WAITING_MAX} wait already"));
                continue;
            };
            let clients = Arc::clone(&self);
            reads.spawn(async move {
                if let Some(number) = clients.draw()
                    && clients.read(number).await
                {
                    clients.reads_beside.record(due_at.elapsed());
                }
                drop(permit);
            });
        }
        reads.join_all().await;
    }

    /// One reader (a closed loop): sends the next read when the last one has ended.
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

    /// The number of an acknowledged key, drawn evenly.
    fn draw(&self) -> Option<u64> {
        let written = |writer: u64| {
            let writer = usize::try_from(writer).expect("it is below their number");
            self.written[writer].load(Ordering::Relaxed)
        };
        // Writers progress alike, so that few draws below the greatest count fall outside of a smaller one.
        let most = (0..self.plan.writers).map(written).max().filter(|most| *most > 0)?;
        loop {
            let (writer, index) = (rand::random_range(0..self.plan.writers), rand::random_range(0..most));
            if index < written(writer) {
                return Some(writer + index * self.plan.writers);
            }
        }
    }

    /// Reads a key and checks the value. Returns false where the read failed.
    async fn read(&self, number: u64) -> bool {
        let request = GetRequest { key: key_text(number), ..Default::default() };
        // Any node, so that most reads go to another node than the write did.
        let found = match self.node(rand::random()).get(within_time(request)).await {
            Ok(answer) => answer.into_inner().entry.and_then(|entry| entry.content),
            Err(status) => {
                self.failures.count(kind("Get", &status));
                return false;
            }
        };
        if found != Some(Content::Binary(value(number, self.plan.value_bytes).into())) {
            let fault =
                if found.is_none() { "an acknowledged key has no value" } else { "another value than was written" };
            self.failures.count(format_args!("Get: {fault}"));
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

/// The kind of a failure: method, gRPC code and Quorate's reason.
fn kind(method: &str, status: &Status) -> String {
    let reason = Failure::from_status(status).map_or("no reason", |failure| failure.reason.as_str());
    format!("{method}: {:?} ({reason})", status.code())
}
