//! Quorate beside others: etcd, a server that does nothing, and redis-server.
//!
//! Contract: all are measured in one run, several times in turn, on the same machine and disk, with the same values and keys. Quorate
//! and etcd are three processes each, sync a write at two of three before it is answered, and answer linearizable reads. One
//! generator asks them all, over one connection to each process: `quorate bench`. redis-server is alone and not replicated, and
//! syncs its log before it answers. redis-benchmark asks it, so that it is a baseline and no comparison.
//!
//! Caveat: generator and servers share the machine. So the servers' processor time for each operation says more than the rates.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;

use crate::leave;
use crate::redis;
use crate::report::generator::{Pace, Target, Workload};
use crate::report::machine::{cpu_used, describe};
use crate::testkit::cluster::{Cluster, Plan as ClusterPlan, TestNode};
use crate::testkit::ports::free_port;
use crate::testkit::process::Process;

const KIB: usize = 1 << 10;
const KEYS: u64 = 10_000;
const MEMBERS: usize = 3;
/// How long the members of etcd may take to elect a leader.
const START_TIME_MAX: Duration = Duration::from_secs(30);
const WARM_UP: Duration = Duration::from_millis(500);

/// Measure etcd, a server that does nothing and redis-server beside Quorate
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// How many seconds each measurement takes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// How often all are measured in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// A kind of load.
struct Load {
    what: &'static str,
    mix: &'static str,
    in_flight: u32,
    value_bytes: usize,
    /// The test of redis-benchmark that is like it, if one is.
    of_redis: Option<&'static str>,
}

const LOADS: [Load; 6] = [
    Load { what: "Set 1 KiB, 64 in flight", mix: "set=1", in_flight: 64, value_bytes: KIB, of_redis: Some("set") },
    Load { what: "Get 1 KiB, 64 in flight", mix: "get=1", in_flight: 64, value_bytes: KIB, of_redis: Some("get") },
    Load { what: "Set 1 KiB, 256 in flight", mix: "set=1", in_flight: 256, value_bytes: KIB, of_redis: Some("set") },
    Load { what: "Halves, 256 in flight", mix: "get=1,set=1", in_flight: 256, value_bytes: KIB, of_redis: None },
    Load {
        what: "Set 10 KiB, 64 in flight",
        mix: "set=1",
        in_flight: 64,
        value_bytes: 10 * KIB,
        of_redis: Some("set"),
    },
    Load { what: "Set 1 KiB, one in flight", mix: "set=1", in_flight: 1, value_bytes: KIB, of_redis: Some("set") },
];

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Seen {
    per_second: f64,
    /// Of the servers, for one operation, in microseconds; none of the server that does nothing.
    cpu_us: f64,
}

/// The servers, while they run.
struct Servers {
    cluster: Cluster,
    etcd: Vec<Process>,
    etcd_addresses: String,
    redis: Process,
    redis_port: u16,
}

const NAMES: [&str; 4] = ["no-op", "Quorate", "etcd", "redis-server"];

/// Measures everything, and writes peers.md into `output`.
pub fn run(plan: &Plan, output: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let cluster = runtime.expect("a runtime can be made").block_on(Cluster::start_as(&ClusterPlan::default()));
    let servers = Servers::start(cluster);
    let mut seen: Vec<[Vec<Seen>; 4]> = LOADS.iter().map(|_| Default::default()).collect();
    for load in &LOADS {
        servers.fill(load);
    }
    for round in 1..=plan.rounds {
        println!("round {round} of {}", plan.rounds);
        for (load, seen) in LOADS.iter().zip(&mut seen) {
            // The servers take turns in being first.
            let first = round as usize % NAMES.len();
            for server in (first..NAMES.len()).chain(0..first) {
                seen[server].extend(servers.measure(server, load, Duration::from_secs(plan.seconds)));
            }
        }
    }
    let text = page(plan, &etcd_version(), &seen);
    println!("{text}");
    leave(&output.join("peers.md"), &text);
    ExitCode::SUCCESS
}

impl Servers {
    fn start(cluster: Cluster) -> Self {
        let ports: Vec<(u16, u16)> = (0..MEMBERS).map(|_| (free_port(), free_port())).collect();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let members: Vec<String> =
            ports.iter().enumerate().map(|(member, (_, peers))| format!("e{member}={}", url(*peers))).collect();
        let etcd = ports.iter().enumerate().map(|(member, (clients, peers))| {
            let mut etcd = Command::new("etcd");
            etcd.args([
                "--name",
                &format!("e{member}"),
                "--log-level",
                "error",
                "--initial-cluster",
                &members.join(","),
            ]);
            etcd.args(["--listen-client-urls", &url(*clients), "--advertise-client-urls", &url(*clients)]);
            etcd.args(["--listen-peer-urls", &url(*peers), "--initial-advertise-peer-urls", &url(*peers)]);
            etcd.arg("--data-dir").arg(cluster.dir().join(format!("etcd-{member}")));
            Process::spawn(&mut etcd, &cluster.dir().join("etcd.log"))
        });
        let etcd = etcd.collect();
        let addresses: Vec<String> = ports.iter().map(|(clients, _)| format!("127.0.0.1:{clients}")).collect();
        let redis_port = free_port();
        let redis = redis::start(redis_port, cluster.dir());
        let servers = Self { cluster, etcd, etcd_addresses: addresses.join(","), redis, redis_port };
        let (began, try_it) = (Instant::now(), LOADS[0].workload());
        let listens = |port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        while !ports.iter().all(|(clients, _)| listens(*clients)) && began.elapsed() < START_TIME_MAX {
            sleep(Duration::from_millis(50));
        }
        let is_served = || try_it.run(Target::Etcd(&servers.etcd_addresses), Duration::ZERO, WARM_UP).failed() == 0;
        while !is_served() {
            assert!(began.elapsed() < START_TIME_MAX, "etcd answers nobody: {}", servers.log_of_etcd());
            sleep(Duration::from_millis(500));
        }
        servers
    }

    fn log_of_etcd(&self) -> String {
        std::fs::read_to_string(self.cluster.dir().join("etcd.log")).unwrap_or_default()
    }

    /// Gives each key a value of the load's size.
    fn fill(&self, load: &Load) {
        let workload = load.workload();
        workload.write_all_keys(&self.cluster.addresses().join(","));
        workload.write_all_keys_of(Target::Etcd(&self.etcd_addresses));
        redis::Load { connections: 64, operation: "set", pipeline: 16, value_bytes: load.value_bytes }
            .fill(self.redis_port, KEYS);
    }

    /// Measures one of [`NAMES`]; nothing where it has no such load.
    fn measure(&self, server: usize, load: &Load, duration: Duration) -> Option<Seen> {
        let addresses = self.cluster.addresses().join(",");
        let (target, processes): (Target<'_>, Vec<u32>) = match NAMES[server] {
            "no-op" => (Target::Noop(MEMBERS), Vec::new()),
            "Quorate" => (Target::Cluster(&addresses), self.cluster.nodes.iter().map(TestNode::process_id).collect()),
            "etcd" => (Target::Etcd(&self.etcd_addresses), self.etcd.iter().map(Process::id).collect()),
            _ => {
                let (connections, value_bytes) = (load.in_flight as usize, load.value_bytes);
                let load = redis::Load { connections, operation: load.of_redis?, pipeline: 1, value_bytes };
                if load.operation == "get" {
                    // It has the same keys for values of all sizes.
                    redis::Load { operation: "set", pipeline: 16, ..load }.fill(self.redis_port, KEYS);
                }
                let seen = load.measure(&[self.redis_port], &[self.redis.id()], duration);
                return Some(Seen { per_second: seen.per_second, cpu_us: seen.cpu.as_secs_f64() * 1e6 });
            }
        };
        let workload = load.workload();
        workload.run(target, Duration::ZERO, WARM_UP);
        let cpu = || -> Duration { processes.iter().map(|process| cpu_used(*process)).sum() };
        let before = cpu();
        let run = workload.run(target, Duration::ZERO, duration);
        assert!(run.failed() == 0, "{}, {}: {}", NAMES[server], load.what, run.failures());
        let cpu_us = cpu().saturating_sub(before).as_secs_f64() * 1e6 / run.attempts().max(1) as f64;
        Some(Seen { per_second: run.per_second(), cpu_us })
    }
}

impl Load {
    fn workload(&self) -> Workload {
        let &Self { mix, value_bytes, in_flight, .. } = self;
        Workload { mix, value_bytes, pace: Pace::InFlight(in_flight), keys: KEYS }
    }
}

fn etcd_version() -> String {
    let printed = Command::new("etcd").arg("--version").output().expect("it runs");
    String::from_utf8_lossy(&printed.stdout).lines().next().unwrap_or_default().to_owned()
}

fn page(plan: &Plan, etcd: &str, seen: &[[Vec<Seen>; 4]]) -> String {
    let mut text = String::from("# Quorate beside others\n\n");
    for (name, value) in describe() {
        let _ = writeln!(text, "- {name}: {value}");
    }
    let _ = write!(
        text,
        "- {etcd}\n\n{KEYS} keys, three processes of Quorate and of etcd, {} runs of {} s in turn; medians:\n\n\
         | | no-op/s | Quorate/s | of no-op | etcd/s | Quorate to etcd | least, most | CPU µs of Quorate | of etcd | etcd to Quorate | \
         redis-server/s | its CPU µs |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        plan.rounds, plan.seconds
    );
    for (load, [noop, quorate, etcd, redis]) in LOADS.iter().zip(seen) {
        let rate = |runs: &[Seen]| median(runs.iter().map(|seen| seen.per_second));
        let cpu = |runs: &[Seen]| median(runs.iter().map(|seen| seen.cpu_us));
        // Those of one round were measured one after the other.
        let times = || std::iter::zip(quorate, etcd).map(|(one, other)| one.per_second / other.per_second);
        let (least, most) = (times().fold(f64::INFINITY, f64::min), times().fold(0.0, f64::max));
        let of_redis =
            if redis.is_empty() { "| |".to_owned() } else { format!("{:.0} | {:.0} |", rate(redis), cpu(redis)) };
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.2} | {:.0} | {:.1} | {least:.1}, {most:.1} | {:.0} | {:.0} | {:.1} | {of_redis}",
            load.what,
            rate(noop),
            rate(quorate),
            rate(quorate) / rate(noop),
            rate(etcd),
            median(times()),
            cpu(quorate),
            cpu(etcd),
            cpu(etcd) / cpu(quorate),
        );
    }
    text
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
