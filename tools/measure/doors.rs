//! The doors of a node beside each other: rates of reads and writes through each, and what idle connections cost.
//!
//! Contract: every door is measured in one run, on the same three nodes and keys, several times in turn. All have as many
//! requests in flight. Each request of HTTP/1.1, lines and the Redis protocol in flight has a connection of its own; those of
//! gRPC and h2c share one to each node.
//!
//! Caveat: the load comes from this process, on the same machine. So the nodes' processor time for each operation says more
//! than the rates.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use hdrhistogram::Histogram;
use hyper_util::rt::{TokioExecutor, TokioIo};
use quorate::api::cluster_client::ClusterClient;
use quorate::api::{Entry, GetRequest, SetRequest, entry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::Channel;

use crate::leave;
use crate::report::machine::{cpu_used, describe};
use crate::testkit::cluster::{Cluster, Plan as ClusterPlan, TestNode};
use crate::testkit::http::{HttpClient, HttpVersion};
use crate::testkit::lines::LineClient;
use crate::testkit::process::memory_bytes;
use crate::testkit::redis::{RedisAnswer, RedisClient};

const VALUE_BYTES: usize = 1 << 10;
/// All connections come from one address.
const NODE_LINES: &str = "  connections_per_address_max: 16384\n";
const KEYS: usize = 10_000;
/// How often all doors are measured in turn.
const ROUNDS: usize = 2;
/// Requests a second by others, beside idle connections.
const OTHERS_PER_SECOND: u32 = 200;
/// How many connections are opened at the same time.
const OPENED_AT_ONCE: usize = 100;

/// Measure gRPC, HTTP/1.1, h2c, lines and the Redis protocol in one run, and what idle connections cost
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// How many seconds each measurement takes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// How many requests are in flight
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// How many idle connections one node has: a quarter for each of HTTP, lines, the Redis protocol and gRPC
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
}

/// A protocol, with its clients of each node.
enum Door {
    Grpc(Vec<ClusterClient<Channel>>),
    Http(&'static str, Vec<HttpClient>),
    Lines(Vec<LineClient>),
    Redis(Vec<RedisClient>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Read,
    /// A write that tells nothing of the value before.
    Write,
    /// PUT, which tells whether there was a value.
    Replace,
}

/// Answers in some time.
struct Seen {
    latencies: Histogram<u64>,
    failed: u64,
    elapsed: Duration,
    /// The nodes' CPU time.
    cpu: Duration,
}

/// Measures everything, and writes doors.md into `output`.
pub fn run(plan: &Plan, output: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let text = runtime.expect("a runtime can be made").block_on(measure(plan));
    println!("{text}");
    leave(&output.join("doors.md"), &text);
    ExitCode::SUCCESS
}

async fn measure(plan: &Plan) -> String {
    let mut text = String::from("# Doors\n\n");
    for (name, value) in describe() {
        let _ = writeln!(text, "- {name}: {value}");
    }
    let cluster =
        Cluster::start_as(&ClusterPlan { doors: true, node_lines: NODE_LINES, ..ClusterPlan::default() }).await;
    rates(plan, &cluster, &mut text).await;
    idle(plan, &cluster, &mut text).await;
    text
}

impl Door {
    fn all(cluster: &Cluster) -> Vec<Self> {
        let nodes = &cluster.nodes;
        let http = |version| nodes.iter().map(|node| HttpClient::new(&node.http_address(), version)).collect();
        vec![
            Self::Grpc(nodes.iter().map(TestNode::cluster_client).collect()),
            Self::Http("HTTP/1.1", http(HttpVersion::One)),
            Self::Http("h2c", http(HttpVersion::Two)),
            Self::Lines(nodes.iter().map(|node| LineClient::new(&node.line_address())).collect()),
            Self::Redis(nodes.iter().map(|node| RedisClient::new(&node.redis_address())).collect()),
        ]
    }

    fn name(&self, operation: Operation) -> String {
        let (door, words) = match self {
            Self::Grpc(_) => ("gRPC", ["Get", "Set", "Set"]),
            Self::Http(name, _) => (*name, ["GET", "POST", "PUT"]),
            Self::Lines(_) => ("lines", ["GET", "PUT", "PUT"]),
            Self::Redis(_) => ("Redis", ["GET", "SET", "SET"]),
        };
        format!("{door} {}", words[operation as usize])
    }

    fn operations(&self) -> &'static [Operation] {
        match self {
            Self::Http(..) => &[Operation::Read, Operation::Write, Operation::Replace],
            Self::Grpc(_) | Self::Lines(_) | Self::Redis(_) => &[Operation::Read, Operation::Write],
        }
    }

    /// One request. Whether it was answered as it should be.
    async fn ask(&self, node: usize, operation: Operation, key: &str, value: &Bytes) -> bool {
        match (self, operation) {
            (Self::Grpc(nodes), Operation::Read) => {
                let answer = nodes[node].clone().get(GetRequest { key: key.to_owned(), ..Default::default() }).await;
                answer.is_ok_and(|answer| answer.into_inner().entry.is_some())
            }
            (Self::Grpc(nodes), _) => {
                let content = Some(entry::Content::Binary(value.clone()));
                let entry = Some(Entry { key: key.to_owned(), content });
                nodes[node].clone().set(SetRequest { entry, ..Default::default() }).await.is_ok()
            }
            (Self::Http(_, nodes), operation) => {
                let (method, body) = match operation {
                    Operation::Read => ("GET", Bytes::new()),
                    Operation::Write => ("POST", value.clone()),
                    Operation::Replace => ("PUT", value.clone()),
                };
                let answer = nodes[node].send(method, &format!("/{key}"), &[], body).await;
                answer.is_ok_and(|answer| (200..300).contains(&answer.status))
            }
            (Self::Lines(nodes), Operation::Read) => {
                let answer = nodes[node].send(&format!("GET default {key}")).await;
                answer.is_ok_and(|answer| answer.len() == VALUE_BYTES)
            }
            (Self::Lines(nodes), _) => {
                let value = std::str::from_utf8(value).expect("it is text");
                nodes[node].send(&format!("PUT default {key} {value}")).await.is_ok_and(|answer| answer == "ok")
            }
            (Self::Redis(nodes), Operation::Read) => {
                let answer = nodes[node].send(&[b"GET", key.as_bytes()]).await;
                answer
                    .is_ok_and(|answer| matches!(answer, RedisAnswer::Value(Some(value)) if value.len() == VALUE_BYTES))
            }
            (Self::Redis(nodes), _) => {
                let answer = nodes[node].send(&[b"SET", key.as_bytes(), value]).await;
                answer.is_ok_and(|answer| answer == RedisAnswer::Word("OK".to_owned()))
            }
        }
    }
}

/// Asks each door for a while, with each operation.
pub async fn exercise(cluster: &Cluster, seconds: u64) {
    rates(&Plan { seconds, in_flight: 64, idle: 0 }, cluster, &mut String::new()).await;
}

/// The `number`-th key.
fn key(number: usize) -> String {
    format!("door-{}", number % KEYS)
}

fn value() -> Bytes {
    Bytes::from(vec![b'v'; VALUE_BYTES])
}

async fn rates(plan: &Plan, cluster: &Cluster, text: &mut String) {
    let (doors, value) = (Door::all(cluster), value());
    let write = |number: usize| {
        let (door, value) = (&doors[0], &value);
        async move { assert!(door.ask(number % 3, Operation::Write, &key(number), value).await, "all keys are there") }
    };
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(plan.in_flight) {
        futures_util::future::join_all(chunk.iter().map(|number| write(*number))).await;
    }
    let mut seen: Vec<(String, Vec<Seen>)> = Vec::new();
    for _ in 0..ROUNDS {
        for door in &doors {
            for operation in door.operations() {
                let name = door.name(*operation);
                let run = load(plan, cluster, door, *operation, &value).await;
                match seen.iter_mut().find(|(of, _)| *of == name) {
                    Some((_, runs)) => runs.push(run),
                    None => seen.push((name, vec![run])),
                }
            }
        }
    }
    let _ = write!(
        text,
        "\n{} in flight, values of 1 KiB, {KEYS} keys, three nodes, {ROUNDS} runs of {} s in turn:\n\n\
         | | answered/s | p50 | p99 | CPU µs of the nodes | failed |\n| --- | --- | --- | --- | --- | --- |\n",
        plan.in_flight, plan.seconds
    );
    for (name, runs) in seen {
        let each = |figure: &dyn Fn(&Seen) -> String| runs.iter().map(figure).collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} |",
            each(&|seen| format!("{:.0}", seen.latencies.len() as f64 / seen.elapsed.as_secs_f64())),
            each(&|seen| millis(&seen.latencies, 0.5)),
            each(&|seen| millis(&seen.latencies, 0.99)),
            each(&|seen| format!("{:.0}", seen.cpu.as_secs_f64() * 1e6 / seen.latencies.len().max(1) as f64)),
            each(&|seen| seen.failed.to_string()),
        );
    }
}

fn millis(latencies: &Histogram<u64>, quantile: f64) -> String {
    format!("{:.1} ms", latencies.value_at_quantile(quantile) as f64 / 1e3)
}

fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are valid")
}

/// As many requests as can be answered, after a warm-up of a tenth of the time.
async fn load(plan: &Plan, cluster: &Cluster, door: &Door, operation: Operation, value: &Bytes) -> Seen {
    let lasts = Duration::from_secs(plan.seconds);
    drive(plan.in_flight, lasts / 10, door, operation, value).await;
    let cpu = || -> Duration { cluster.nodes.iter().map(|node| cpu_used(node.process_id())).sum() };
    let (began, before) = (Instant::now(), cpu());
    let (latencies, failed) = drive(plan.in_flight, lasts, door, operation, value).await;
    Seen { latencies, failed, elapsed: began.elapsed(), cpu: cpu().saturating_sub(before) }
}

async fn drive(
    in_flight: usize,
    lasts: Duration,
    door: &Door,
    operation: Operation,
    value: &Bytes,
) -> (Histogram<u64>, u64) {
    let ends = Instant::now() + lasts;
    let worker = |worker: usize| async move {
        let (mut latencies, mut failed, mut number) = (latencies(), 0, worker * 7_919);
        while Instant::now() < ends {
            number += 1;
            let began = Instant::now();
            if door.ask(worker % 3, operation, &key(number), value).await {
                latencies.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
            } else {
                failed += 1;
            }
        }
        (latencies, failed)
    };
    let (mut all, mut failures) = (latencies(), 0);
    for (of_worker, failed) in futures_util::future::join_all((0..in_flight).map(worker)).await {
        all.add(of_worker).expect("they have the same bounds");
        failures += failed;
    }
    (all, failures)
}

/// A connection that was used once, or greeted, and is silent now.
enum Silent {
    Stream(#[expect(dead_code, reason = "it is open as long as it is held")] TcpStream),
    Http2(#[expect(dead_code, reason = "as above")] hyper::client::conn::http2::SendRequest<axum::body::Body>),
}

async fn idle(plan: &Plan, cluster: &Cluster, text: &mut String) {
    let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, hard) = nix::sys::resource::getrlimit(limit).expect("a process knows its limits");
    let _ = nix::sys::resource::setrlimit(limit, hard, hard);
    let node = &cluster.nodes[0];
    let memory = || memory_bytes(node.process_id(), "VmRSS").expect("Linux says it of each process");
    let lasts = Duration::from_secs(2 * plan.seconds);
    others(cluster, lasts / 4).await;
    let (alone, cpu_alone) = with_cpu(cluster, lasts).await;
    let before = memory();
    let mut open = Vec::new();
    let quarter = plan.idle / 4;
    let mut left: Vec<usize> = (0..plan.idle).collect();
    let began = Instant::now();
    while !left.is_empty() {
        let batch = left.split_off(left.len().saturating_sub(OPENED_AT_ONCE));
        let opened = batch.into_iter().map(|number| async move {
            if number < quarter {
                used(&node.http_address(), "GET /door-1 HTTP/1.1\r\nhost: localhost\r\n\r\n", "HTTP/1.1 200").await
            } else if number < 2 * quarter {
                used(&node.line_address(), "GET default door-1\n", "vvvv").await
            } else if number < 3 * quarter {
                used(&node.redis_address(), "GET door-1\r\n", "$1024").await
            } else {
                greeted(&node.address()).await
            }
        });
        open.extend(futures_util::future::join_all(opened).await);
    }
    let (took, refused) = (began.elapsed(), open.iter().filter(|opened| opened.is_none()).count());
    // Memory that opening them took is given back first.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = memory();
    let (beside, cpu_beside) = with_cpu(cluster, lasts).await;
    let held = plan.idle - refused;
    let _ = write!(
        text,
        "\n{held} idle connections to one node ({quarter} each of HTTP/1.1, lines, Redis and gRPC; {refused} refused; opened in \
         {:.1} s). Others, {OTHERS_PER_SECOND} Gets and Sets a second by the same node over gRPC:\n\n\
         | | resident MiB of the node | p50 | p99 | CPU of the node |\n| --- | --- | --- | --- | --- |\n",
        took.as_secs_f64()
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for (what, bytes, latencies, cpu) in
        [("alone", before, alone, cpu_alone), ("beside them", after, beside, cpu_beside)]
    {
        let percent = cpu.as_secs_f64() / lasts.as_secs_f64() * 100.0;
        let (p50, p99) = (millis(&latencies, 0.5), millis(&latencies, 0.99));
        let _ = writeln!(text, "| {what} | {:.0} | {p50} | {p99} | {percent:.0} % of a core |", mib(bytes));
    }
    let each = (after.saturating_sub(before)) as f64 / held.max(1) as f64 / 1_024.0;
    let _ = writeln!(text, "\nThat is {each:.1} KiB a connection.");
    drop(open);
}

async fn with_cpu(cluster: &Cluster, lasts: Duration) -> (Histogram<u64>, Duration) {
    let before = cpu_used(cluster.nodes[0].process_id());
    let seen = others(cluster, lasts).await;
    (seen, cpu_used(cluster.nodes[0].process_id()).saturating_sub(before))
}

/// Reads and writes in turn, at a fixed rate whatever their answers.
async fn others(cluster: &Cluster, lasts: Duration) -> Histogram<u64> {
    let door = Door::Grpc(vec![cluster.nodes[0].cluster_client()]);
    let (door, value) = (&door, &value());
    let count = u32::try_from(lasts.as_millis()).unwrap_or(u32::MAX) * OTHERS_PER_SECOND / 1_000;
    let began = Instant::now();
    let requests = (0..count).map(|number| async move {
        let due = began + number * Duration::from_secs(1) / OTHERS_PER_SECOND;
        tokio::time::sleep_until(due.into()).await;
        let operation = if number % 2 == 0 { Operation::Write } else { Operation::Read };
        assert!(door.ask(0, operation, &key(number as usize), value).await, "others are answered");
        u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX)
    });
    let mut all = latencies();
    for micros in futures_util::future::join_all(requests).await {
        all.saturating_record(micros);
    }
    all
}

/// A connection on which one request was answered.
async fn used(address: &str, request: &str, answer: &str) -> Option<Silent> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut beginning = vec![0; 4_096];
    let count = stream.read(&mut beginning).await.ok()?;
    beginning[..count].starts_with(answer.as_bytes()).then_some(Silent::Stream(stream))
}

/// A connection of HTTP/2 without a request.
async fn greeted(address: &str) -> Option<Silent> {
    let stream = TcpStream::connect(address).await.ok()?;
    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = made.ok()?;
    tokio::spawn(connection);
    Some(Silent::Http2(sender))
}
