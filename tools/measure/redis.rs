//! The Redis protocol under redis-benchmark, beside gRPC under `quorate bench`, and beside redis-server.
//!
//! Contract: all setups are measured in one run, several times in turn, on the same three nodes and keys, every one of which has
//! a value. redis-server is alone, keeps its log on the same disk, and answers a write once the log was synced.
//!
//! Caveat: the load comes from the same machine. So the nodes' processor time for each operation says more than the rates.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::leave;
use crate::report::machine::{cpu_used, describe};
use crate::testkit::cluster::{Cluster, Plan as ClusterPlan, TestNode};
use crate::testkit::ports::free_port;
use crate::testkit::process::{Process, command};

const VALUE_BYTES: usize = 1 << 10;
const KEYS: usize = 10_000;
/// How often all setups are measured in turn.
const ROUNDS: usize = 2;
const OPERATIONS: [&str; 2] = ["get", "set"];
/// How many requests tell how many fit into the time of a measurement.
const TRIED: u64 = 20_000;

/// Measure redis-benchmark on a node and on redis-server, beside gRPC
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// How many seconds each measurement takes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// How many connections redis-benchmark has, and how many requests of gRPC are in flight
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

/// A way to ask a server.
enum Setup {
    /// `quorate bench` at these addresses.
    Grpc(Vec<String>),
    /// redis-benchmark at each of these ports, with so many commands of a connection under way.
    Redis { ports: Vec<u16>, pipeline: u64 },
}

/// One measurement.
pub struct Seen {
    pub per_second: f64,
    /// The processor time of the servers for one operation.
    pub cpu: Duration,
}

/// What redis-benchmark does.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: usize,
    /// The name of its test.
    pub operation: &'static str,
    /// How many commands of a connection are under way.
    pub pipeline: u64,
    pub value_bytes: usize,
}

/// Measures everything, and writes redis.md into `output`.
pub fn run(plan: &Plan, output: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let cluster = runtime
        .expect("a runtime can be made")
        .block_on(Cluster::start_as(&ClusterPlan { doors: true, ..ClusterPlan::default() }));
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.redis_port).collect();
    let mut text = String::from("# The Redis protocol beside gRPC\n\n");
    for (name, value) in describe() {
        let _ = writeln!(text, "- {name}: {value}");
    }
    let redis_port = free_port();
    let redis_server = start(redis_port, cluster.dir());
    let nodes: Vec<u32> = cluster.nodes.iter().map(TestNode::process_id).collect();
    let of_redis = |ports: &[u16], pipeline| Setup::Redis { ports: ports.to_vec(), pipeline };
    let setups = [
        ("gRPC, one node asked", Setup::Grpc(cluster.addresses()[..1].to_vec()), &nodes),
        ("gRPC, all nodes asked", Setup::Grpc(cluster.addresses()), &nodes),
        ("Redis, one node asked", of_redis(&ports[..1], 1), &nodes),
        ("Redis, all nodes asked", of_redis(&ports, 1), &nodes),
        ("Redis, one node asked, `-P 16`", of_redis(&ports[..1], 16), &nodes),
        ("Redis, all nodes asked, `-P 16`", of_redis(&ports, 16), &nodes),
        ("redis-server, `appendfsync always`", of_redis(&[redis_port], 1), &vec![redis_server.id()]),
        ("the same, `-P 16`", of_redis(&[redis_port], 16), &vec![redis_server.id()]),
    ];
    for setup in [&setups[1], &setups[4], &setups[6]] {
        setup.1.fill(plan);
    }
    let mut seen: Vec<[Vec<Seen>; 2]> = setups.iter().map(|_| Default::default()).collect();
    for _ in 0..ROUNDS {
        for ((_, setup, processes), seen) in setups.iter().zip(&mut seen) {
            for (operation, seen) in OPERATIONS.iter().zip(seen) {
                seen.push(setup.measure(plan, operation, processes));
            }
        }
    }
    let _ = write!(
        text,
        "\nValues of 1 KiB, {KEYS} keys, {} connections or requests in flight, three nodes, {ROUNDS} runs of about {} s in turn:\n\n\
         | | GET/s | beside gRPC | CPU µs of the servers | SET/s | beside gRPC | CPU µs of the servers |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
        plan.connections, plan.seconds
    );
    let mean = |runs: &[Seen]| runs.iter().map(|seen| seen.per_second).sum::<f64>() / runs.len() as f64;
    for ((name, setup, _), runs) in setups.iter().zip(&seen) {
        let _ = write!(text, "| {name} |");
        for (operation, runs) in runs.iter().enumerate() {
            let each = |figure: &dyn Fn(&Seen) -> String| runs.iter().map(figure).collect::<Vec<_>>().join(", ");
            let beside = mean(runs) / mean(&seen[usize::from(!setup.asks_one())][operation]);
            let rates = each(&|seen| format!("{:.0}", seen.per_second));
            let cpu = each(&|seen| format!("{:.0}", seen.cpu.as_secs_f64() * 1e6));
            let _ = write!(text, " {rates} | {beside:.1} | {cpu} |");
        }
        text.push('\n');
    }
    println!("{text}");
    leave(&output.join("redis.md"), &text);
    ExitCode::SUCCESS
}

/// Starts a redis-server that syncs its log, which it keeps in `dir`, before it answers a write.
pub fn start(port: u16, dir: &Path) -> Process {
    let mut server = Command::new("redis-server");
    server.args(["--port", &port.to_string(), "--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    Process::spawn(server.arg("--dir").arg(dir), &dir.join("redis-server.log"))
}

impl Setup {
    fn asks_one(&self) -> bool {
        match self {
            Self::Grpc(addresses) => addresses.len() == 1,
            Self::Redis { ports, .. } => ports.len() == 1,
        }
    }

    /// Gives each of its keys a value.
    fn fill(&self, plan: &Plan) {
        match self {
            Self::Grpc(addresses) => drop(bench(addresses, plan.connections, "set", 1, true)),
            Self::Redis { ports, .. } => {
                let load =
                    Load { connections: plan.connections, operation: "set", pipeline: 16, value_bytes: VALUE_BYTES };
                load.fill(ports[0], KEYS as u64);
            }
        }
    }

    fn measure(&self, plan: &Plan, operation: &'static str, processes: &[u32]) -> Seen {
        let cpu = || used(processes);
        match self {
            Self::Grpc(addresses) => {
                // The generator's warm-up is a second.
                let before = cpu();
                let per_second = bench(addresses, plan.connections, operation, plan.seconds, false);
                let operations = per_second * (plan.seconds + 1) as f64;
                Seen { per_second, cpu: cpu().saturating_sub(before).div_f64(operations.max(1.0)) }
            }
            Self::Redis { ports, pipeline } => {
                let (connections, pipeline) = (plan.connections, *pipeline);
                let load = Load { connections, operation, pipeline, value_bytes: VALUE_BYTES };
                load.measure(ports, processes, Duration::from_secs(plan.seconds))
            }
        }
    }
}

fn used(processes: &[u32]) -> Duration {
    processes.iter().map(|process| cpu_used(*process)).sum()
}

impl Load {
    /// Gives each of `keys` keys a value. They are drawn: this draws each of them about twelve times.
    pub fn fill(self, port: u16, keys: u64) {
        drop(self.benchmark(port, self.connections, 12 * keys).wait());
    }

    /// Measures for about `duration`.
    pub fn measure(self, ports: &[u16], processes: &[u32], duration: Duration) -> Seen {
        let (began, least) = (Instant::now(), TRIED.min(400 * self.connections as u64 * self.pipeline));
        let (_, tried) = self.together(ports, least);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let requests = tried * micros(duration) / micros(began.elapsed());
        let before = used(processes);
        let (per_second, done) = self.together(ports, requests.max(least));
        Seen { per_second, cpu: used(processes).saturating_sub(before).div_f64(done as f64) }
    }

    /// The requests a second of one redis-benchmark for each port at the same time, and how many requests were answered.
    fn together(self, ports: &[u16], requests: u64) -> (f64, u64) {
        let of_each = (requests / ports.len() as u64).max(1);
        let connections = self.connections.div_ceil(ports.len());
        let began = Instant::now();
        let running: Vec<_> = ports.iter().map(|port| self.benchmark(*port, connections, of_each)).collect();
        for process in running {
            let output = process.wait_with_output().expect("redis-benchmark runs");
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && !printed.contains("rror"), "redis-benchmark: {printed}");
        }
        let done = of_each * ports.len() as u64;
        (done as f64 / began.elapsed().as_secs_f64(), done)
    }

    fn benchmark(self, port: u16, connections: usize, requests: u64) -> std::process::Child {
        let Self { operation, pipeline, value_bytes, .. } = self;
        Command::new("redis-benchmark")
            .args(["-p", &port.to_string(), "-c", &connections.to_string(), "-d", &value_bytes.to_string(), "-q"])
            .args(["-r", &KEYS.to_string(), "-t", operation, "-P", &pipeline.to_string(), "-n", &requests.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-benchmark is installed: `make clients` does it")
    }
}

/// The operations a second of `quorate bench`.
fn bench(addresses: &[String], in_flight: usize, operation: &str, seconds: u64, load: bool) -> f64 {
    let mut bench = command();
    bench.args(["--address", &addresses.join(","), "bench", "--json", "--warm-up", "1s"]);
    bench.args(["--mix", &format!("{operation}=1"), "--in-flight", &in_flight.to_string()]);
    bench.args(["--duration", &format!("{seconds}s"), "--keys", &KEYS.to_string()]);
    bench.args(["--value-bytes", &VALUE_BYTES.to_string()]);
    if load {
        bench.arg("--load");
    }
    let output = bench.output().expect("the program runs");
    assert!(output.status.success(), "quorate bench: {}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    report["operations_per_second"].as_f64().expect("it prints a rate")
}
