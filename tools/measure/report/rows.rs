//! The rows of the report: figures with a goal.

use std::time::{Duration, Instant};

use quorate::api::cluster_client::ClusterClient;
use quorate::api::{Entry, SetRequest, entry};
use tempfile::TempDir;
use tonic::transport::Channel;

use super::Effort;
use super::baseline::{Compared, measured};
use super::batches::{self, ENTRIES, IN_FLIGHT, VALUE_BYTES};
use super::cluster::{Cluster, Usage};
use super::cold;
use super::generator::{Pace, Run, Workload};
use super::metrics;
use super::page::{Cost, Goal, Report, Row};
use crate::testkit::ports::is_free;
use crate::testkit::process::{Process, command};

const KIB: usize = 1 << 10;

/// The pause between a cluster's start and the measurement of idle nodes.
const REST: Duration = Duration::from_secs(2);
/// How long `quorate dev` may take before it counts as failed.
const DEV_TIME_MAX: Duration = Duration::from_secs(30);
/// The pause between two tries meanwhile.
const DEV_LOOK_AFTER: Duration = Duration::from_millis(5);

/// The goal of a row, against the no-op server.
enum Judged {
    /// At least this part of the no-op server's throughput.
    Throughput(f64),
    /// At most so many times the no-op server's median latency.
    Median(f64),
}

/// Measures every row.
pub async fn measure(effort: &Effort, report: &mut Report) {
    let cluster = Cluster::start(3).await;
    idle(&cluster, effort, report).await;
    compared(&cluster, effort, report).await;
    drop(cluster);
    batch_write(effort, report).await;
    cold::measure(effort, report).await;
    five_nodes(effort, report).await;
    dev(report).await;
}

/// CPU time and memory of three idle nodes without data.
async fn idle(cluster: &Cluster, effort: &Effort, report: &mut Report) {
    tokio::time::sleep(REST).await;
    let (began, before) = (Instant::now(), cluster.cpu_of_each());
    tokio::time::sleep(effort.idle).await;
    let elapsed = began.elapsed().as_secs_f64();
    let used = std::iter::zip(cluster.cpu_of_each(), before).map(|(now, before)| now.saturating_sub(before));
    let percent = used.map(|used| used.as_secs_f64() / elapsed * 100.0).fold(0.0, f64::max);
    report.add_row(Row {
        what: format!("idle node, three of them, the busiest, over {elapsed:.0} s"),
        figure: format!("{percent:.2} % of a core"),
        noop: String::new(),
        ratio: String::new(),
        goal: Goal::at_most("0.3 %", 0.3, percent),
    });
    let mib = cluster.resident_bytes_of_each().into_iter().max().unwrap_or_default() as f64 / f64::from(1 << 20);
    report.add_row(Row {
        what: "idle node before data, the largest".into(),
        figure: format!("{mib:.1} MiB resident"),
        noop: String::new(),
        ratio: String::new(),
        goal: Goal::at_most("60 MiB", 60.0, mib),
    });
}

/// The rows that are compared with the no-op server.
async fn compared(cluster: &Cluster, effort: &Effort, report: &mut Report) {
    let workload = |mix, kib: usize, in_flight| Workload {
        mix,
        value_bytes: kib * KIB,
        pace: Pace::InFlight(in_flight),
        keys: effort.keys,
    };
    let rows = [
        ("Set 1 KiB, 64 in flight", workload("set=1", 1, 64), Judged::Throughput(0.30), Some(("Set", 95.0))),
        (
            "Get 1 KiB, 64 in flight, every key there",
            workload("get=1", 1, 64),
            Judged::Throughput(0.60),
            Some(("Get", 50.0)),
        ),
        ("Set 10 KiB, 64 in flight", workload("set=1", 10, 64), Judged::Throughput(0.16), None),
        (
            "Get and Set 1 KiB by halves, 256 in flight",
            workload("get=50,set=50", 1, 256),
            Judged::Throughput(0.38),
            None,
        ),
        (
            "Get, then Set if the version is the same, 1 KiB, 64 in flight",
            workload("cas=1", 1, 64),
            Judged::Throughput(0.20),
            None,
        ),
        ("Add, 64 in flight", workload("add=1", 1, 64), Judged::Throughput(0.25), None),
        ("List of 100 keys, 16 in flight", workload("list=1", 1, 16), Judged::Throughput(0.10), None),
        ("Set 1 KiB, one in flight, median latency", workload("set=1", 1, 1), Judged::Median(6.0), None),
    ];
    for (what, workload, judged, cpu) in rows {
        if workload.mix.contains("get") || workload.mix.contains("list") {
            workload.write_all_keys(&cluster.addresses());
        }
        let seen = Compared::measure(cluster, &workload, effort.row, effort).await;
        let spent = cost(what.into(), &seen.run, &seen.usage);
        let cpu_us = spent.cpu_us;
        report.add_cost(spent);
        report.add_row(row(what, &seen, &judged));
        if let Some((operation, at_most)) = cpu {
            report.add_row(cpu_row(operation, cpu_us, at_most));
        }
    }
}

fn row(what: &str, seen: &Compared, judged: &Judged) -> Row {
    let Compared { before, run, after, .. } = seen;
    let (figure, noop, ratio, goal) = match judged {
        Judged::Throughput(at_least) => {
            let rate = |run: &Run| format!("{:.0}", run.per_second());
            let ratio = seen.throughput_ratio();
            (
                format!("{}/s, p50 {}, p99 {}", rate(run), millis(run, "p50"), millis(run, "p99")),
                format!("{:.0}/s (before {}, after {})", seen.noop(Run::per_second), rate(before), rate(after)),
                ratio,
                Goal::at_least(&format!("{at_least:.2}"), *at_least, ratio),
            )
        }
        Judged::Median(at_most) => {
            let median = |run: &Run| run.latency_us("p50");
            let ratio = seen.median_ratio();
            (
                format!("{:.0} µs (p99 {})", median(run), millis(run, "p99")),
                format!("{:.0} µs (before {:.0}, after {:.0})", seen.noop(median), median(before), median(after)),
                ratio,
                Goal::at_most(&format!("{at_most:.0} times"), *at_most, ratio),
            )
        }
    };
    let failures = if run.failed() > 0 { format!("; failed: {}", run.failures()) } else { String::new() };
    Row { what: what.into(), figure: figure + &failures, noop, ratio: format!("{ratio:.2}"), goal }
}

/// The CPU time that all nodes together take for an operation.
fn cpu_row(operation: &str, cpu_us: f64, at_most: f64) -> Row {
    Row {
        what: format!("nodes' CPU per {operation} 1 KiB, 64 in flight"),
        figure: format!("{cpu_us:.1} µs"),
        noop: String::new(),
        ratio: String::new(),
        goal: Goal::at_most(&format!("{at_most:.0} µs"), at_most, cpu_us),
    }
}

fn millis(run: &Run, which: &str) -> String {
    format!("{:.1} ms", run.latency_us(which) / 1e3)
}

/// The cost of an operation.
pub fn cost(what: String, run: &Run, usage: &Usage) -> Cost {
    cost_of(what, run.operations(), run.attempts(), run.generator_cpu(), usage)
}

/// The cost of an operation where `count` of them reached the nodes, and `operations` of these were answered.
fn cost_of(what: String, operations: u64, count: u64, generator_cpu: Duration, usage: &Usage) -> Cost {
    Cost {
        what,
        operations,
        cpu_us: usage.cpu_us_per(count),
        generator_cpu_us: generator_cpu.as_secs_f64() * 1e6 / operations as f64,
        messages: usage.counter_per(metrics::MESSAGES, count),
        link_batches: usage.counter_per(metrics::LINK_BATCHES, count),
        fsyncs: usage.counter_per(metrics::LOG_SYNCS, count),
        records_per_batch: usage.counter(metrics::STORE_BATCH_RECORDS) / usage.counter(metrics::STORE_BATCHES),
        writes_per_clock_round: usage.counter(metrics::CLOCK_ROUND_WRITES) / usage.counter(metrics::CLOCK_ROUNDS),
    }
}

/// Batches of small entries, between two runs of single Sets of the same size. The generator of the batches is in this
/// process, on the one thread of its runtime.
async fn batch_write(effort: &Effort, report: &mut Report) {
    let cluster = Cluster::start(3).await;
    let singles = Workload { mix: "set=1", value_bytes: VALUE_BYTES, pace: Pace::InFlight(64), keys: effort.keys };
    let warm_up = effort.baseline.min(Duration::from_secs(2));
    let (before, _) = measured(&cluster, &singles, warm_up, effort.baseline).await;
    batches::run(&cluster, effort.keys, warm_up).await;
    let used = cluster.usage().await;
    let mut seen = batches::run(&cluster, effort.keys, effort.row).await;
    let usage = &cluster.usage().await - &used;
    let (after, usage_after) = measured(&cluster, &singles, warm_up, effort.baseline).await;
    report.add_cost(cost(format!("Set {VALUE_BYTES} bytes, 64 in flight"), &after, &usage_after));
    let what = format!("BatchWrite of {ENTRIES} entries of {VALUE_BYTES} bytes, {IN_FLIGHT} batches in flight");
    let count = seen.entries + seen.failed;
    report.add_cost(cost_of(format!("{what}: one entry"), seen.entries, count, seen.generator_cpu, &usage));
    let sets = before.per_second().midpoint(after.per_second());
    let times = seen.per_second() / sets;
    let (p50, p99) = seen.percentiles_ms();
    let failures = if seen.failed > 0 { format!("; failed: {}", seen.failures()) } else { String::new() };
    report.add_row(Row {
        what: format!("{what}, beside single Sets, 64 in flight"),
        figure: format!(
            "{:.0} entries/s, a batch p50 {p50:.1} ms, p99 {p99:.1} ms; {sets:.0} Set/s (before {:.0}, after {:.0}); \
             {times:.1} times{failures}",
            seen.per_second(),
            before.per_second(),
            after.per_second(),
        ),
        noop: String::new(),
        ratio: String::new(),
        goal: Goal::at_least("5 times", 5.0, times),
    });
}

/// Five nodes far below their limit: the latency that users see. The warm-up is long enough to fill caches and buffers.
async fn five_nodes(effort: &Effort, report: &mut Report) {
    let cluster = Cluster::start(5).await;
    let workload = Workload { mix: "set=1", value_bytes: 10 * KIB, pace: Pace::Rate(1_000.0), keys: effort.keys };
    let (run, usage) = measured(&cluster, &workload, 2 * effort.row, effort.long_row).await;
    let what = format!("five nodes, 1,000 Set/s of 10 KiB, open loop, {} s: p99", effort.long_row.as_secs());
    report.add_cost(cost("five nodes, 1,000 Set/s of 10 KiB, open loop".into(), &run, &usage));
    let p99 = run.latency_us("p99") / 1e3;
    let errors = run.failed() + run.missed();
    let said = if run.failed() > 0 { format!(" ({})", run.failures()) } else { String::new() };
    let unfit = if errors > 0 || run.operations() == 0 { f64::INFINITY } else { p99 };
    report.add_row(Row {
        what,
        figure: format!(
            "p99 {p99:.1} ms, p50 {}, p99.9 {}, max {}; {} answered, {} failed{said}, {} never sent",
            millis(&run, "p50"),
            millis(&run, "p99_9"),
            millis(&run, "max"),
            run.operations(),
            run.failed(),
            run.missed(),
        ),
        noop: String::new(),
        ratio: String::new(),
        goal: Goal::at_most("10 ms and no error", 10.0, unfit),
    });
}

/// `quorate dev`: the time from exec to the first answered Set.
async fn dev(report: &mut Report) {
    let folder = TempDir::with_prefix("quorate-bench-dev-").expect("a temporary folder can be made");
    let port = free_ports_for_dev();
    let mut dev = command();
    dev.args(["dev", "--nodes", "3", "--port", &port.to_string()]).arg("--data-dir").arg(folder.path().join("data"));
    let began = Instant::now();
    let process = Process::spawn(&mut dev, &folder.path().join("log"));
    while !set_is_answered(port).await && began.elapsed() < DEV_TIME_MAX {
        tokio::time::sleep(DEV_LOOK_AFTER).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    drop(process);
    report.add_row(Row {
        what: "quorate dev --nodes 3, from exec to the first answered Set".into(),
        figure: format!("{seconds:.2} s"),
        noop: String::new(),
        ratio: String::new(),
        goal: Goal::at_most("1 s", 1.0, seconds),
    });
}

async fn set_is_answered(port: u16) -> bool {
    let Ok(mut client) = ClusterClient::<Channel>::connect(format!("http://127.0.0.1:{port}")).await else {
        return false;
    };
    let entry = Entry { key: "first".into(), content: Some(entry::Content::Value("set".into())) };
    client.set(SetRequest { entry: Some(entry), ..Default::default() }).await.is_ok()
}

/// The first of three free ports in a row. The ports of metrics, a thousand above, are free too.
fn free_ports_for_dev() -> u16 {
    let candidates = (20_000..30_000).step_by(10);
    let fits = |port: &u16| (0..3).all(|more| is_free(port + more) && is_free(port + more + 1_000));
    candidates.into_iter().find(fits).expect("a machine has some free ports")
}
