//! How figures change with requests in flight, rate, size of values and number of nodes.

use std::time::Duration;

use super::Effort;
use super::baseline::measured;
use super::cluster::Cluster;
use super::generator::{Pace, Run, Target, Workload};
use super::metrics;
use super::page::{Report, Table};
use super::rows::cost;
use crate::picture::{Axis, Panel, Series};

pub(super) const KIB: usize = 1 << 10;

/// Writes and reads: the name, and the argument of `--mix`.
const KINDS: [(&str, &str); 2] = [("Set", "set=1"), ("Get", "get=1")];
/// Requests in flight in the sweeps of another quantity.
const IN_FLIGHT: u32 = 64;
/// The warm-up of each point: its connections are new.
pub(super) const WARM_UP: Duration = Duration::from_millis(500);
/// The longest warm-up, with many requests in flight.
const SETTLE_MAX: Duration = Duration::from_secs(6);
/// The most bytes of values that the sweep of sizes writes beforehand.
const SIZE_SWEEP_BYTES: u64 = 64 << 20;
/// A network on which a large value takes noticeable time: 100 Mbit/s.
const SLOW_BYTES_PER_SECOND: u32 = 12_500_000;
/// The part of its peak that throughput is to keep past saturation.
const GOODPUT_PART: f64 = 0.9;

/// More and more requests in flight: where is the peak, and how much of it remains past that?
pub async fn in_flight(effort: &Effort, report: &mut Report) {
    let cluster = Cluster::start(3).await;
    let all: &[u32] = if effort.quick { &[1, 64, 16_384] } else { &[1, 4, 16, 64, 256, 1_024, 4_096, 16_384] };
    let mut table = Table::new(
        "In flight",
        "Values of 1 KiB, three nodes. Nodes refuse at once what exceeds their admission limits. The no-op server gets \
         the same workload: its loss with more requests in flight is that of the generator and of gRPC.",
        &[
            "",
            "in flight",
            "answered/s",
            "no-op server/s",
            "p50 ms",
            "p99 ms",
            "refused at once/s",
            "failed otherwise",
            "resident MiB, largest node",
        ],
    );
    let mut lines = Vec::new();
    for (name, mix) in KINDS {
        let workload =
            |in_flight| Workload { mix, value_bytes: KIB, pace: Pace::InFlight(in_flight), keys: effort.sweep_keys };
        workload(IN_FLIGHT).write_all_keys(&cluster.addresses());
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut noop_points = Vec::new();
        for in_flight in all {
            // All requests are sent at once at the beginning. They must be answered before the measurement begins.
            let best = points.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
            let settled = Duration::from_secs_f64(2.0 * f64::from(*in_flight) / best);
            let warm_up = settled.clamp(WARM_UP, SETTLE_MAX);
            let run = workload(*in_flight).run(Target::Cluster(&cluster.addresses()), warm_up, effort.point);
            let noop = workload(*in_flight).run(Target::Noop(cluster.connections()), WARM_UP, effort.point);
            let refused = run.refused_at_once();
            let otherwise = run.failed() - refused;
            let said = if otherwise > 0 { format!("{otherwise}: {}", run.failures()) } else { "0".into() };
            let resident = cluster.resident_bytes_of_each().into_iter().max().unwrap_or_default();
            table.add([
                name.into(),
                in_flight.to_string(),
                format!("{:.0}", run.per_second()),
                format!("{:.0}", noop.per_second()),
                millis(&run, "p50"),
                millis(&run, "p99"),
                format!("{:.0}", refused as f64 / run.number("/seconds")),
                said,
                format!("{:.0}", resident as f64 / f64::from(1 << 20)),
            ]);
            points.push((f64::from(*in_flight), run.per_second()));
            noop_points.push(noop.per_second());
        }
        table.say(&past_saturation(name, &points, &noop_points));
        report.set_peak(name, points.iter().map(|(_, rate)| *rate).fold(0.0, f64::max));
        lines.push(Series::new(name, points));
    }
    report.add_table(table);
    let ticks = all.iter().map(|in_flight| f64::from(*in_flight)).collect();
    let panel = Panel {
        title: "Throughput against requests in flight (1 KiB, three nodes)".into(),
        x: Axis::log("requests in flight", ticks),
        y: Axis::linear("answered operations a second"),
        series: lines,
    };
    report.add_picture("throughput-in-flight", vec![panel]);
}

/// Whether throughput holds past saturation. `noop` is the throughput of the no-op server at the same points.
fn past_saturation(name: &str, points: &[(f64, f64)], noop: &[f64]) -> String {
    let rate = |point: &usize| points[*point].1;
    let most = (0..points.len()).max_by(|a, b| rate(a).total_cmp(&rate(b))).expect("a sweep has points");
    let least = (most..points.len()).min_by(|a, b| rate(a).total_cmp(&rate(b))).expect("the peak is one of them");
    let ((peak_at, peak), (worst_at, worst)) = (points[most], points[least]);
    let part = worst / peak;
    let verdict = if part >= GOODPUT_PART { "holds" } else { "does not hold" };
    format!(
        "{name}: the peak is {peak:.0}/s at {peak_at:.0} in flight; past it the least is {worst:.0}/s at {worst_at:.0}, \
         {:.0} % of the peak: goodput within 10 % of its peak **{verdict}**. Between these two points the no-op server keeps \
         {:.0} %.",
        part * 100.0,
        noop[least] / noop[most] * 100.0
    )
}

/// Requests at fixed times, up to the peak: how long do users wait?
pub async fn rate(effort: &Effort, report: &mut Report) {
    let cluster = Cluster::start(3).await;
    let parts: &[f64] = if effort.quick { &[0.2, 0.8] } else { &[0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0] };
    let mut table = Table::new(
        "Rate",
        "Open loop, values of 1 KiB, three nodes; rates are parts of the peak above. Latencies count from when a request \
         was due; a late request was sent more than 1 ms after that, because the generator had no CPU time or no free connection.",
        &[
            "",
            "due/s",
            "part of the peak",
            "answered/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "failed",
            "late",
            "never sent",
        ],
    );
    let mut panels = Vec::new();
    for (name, mix) in KINDS {
        let workload = |pace| Workload { mix, value_bytes: KIB, pace, keys: effort.sweep_keys };
        workload(Pace::InFlight(IN_FLIGHT)).write_all_keys(&cluster.addresses());
        let percentiles = [("p50", "p50"), ("p99", "p99"), ("p99.9", "p99_9")];
        let mut lines = percentiles.map(|(shown, _)| Series::new(shown, []));
        for part in parts {
            let rate = (report.peak(name) * part).round().max(1.0);
            let run = point(&cluster, &workload(Pace::Rate(rate)), effort);
            table.add([
                name.into(),
                format!("{rate:.0}"),
                format!("{part}"),
                format!("{:.0}", run.per_second()),
                millis(&run, "p50"),
                millis(&run, "p99"),
                millis(&run, "p99_9"),
                run.failed().to_string(),
                format!("{:.0}", run.number("/late")),
                run.missed().to_string(),
            ]);
            for (line, (_, which)) in std::iter::zip(&mut lines, percentiles) {
                line.points.push((rate, run.latency_us(which) / 1e3));
            }
        }
        panels.push(Panel {
            title: format!("{name}: latency against rate (1 KiB, three nodes)"),
            x: Axis::linear(&format!("{name} due a second")),
            y: Axis::log("milliseconds", Vec::new()),
            series: lines.into(),
        });
    }
    report.add_table(table);
    report.add_picture("latency-rate", panels);
}

/// Larger and larger values.
pub async fn value_size(effort: &Effort, report: &mut Report) {
    let cluster = Cluster::start(3).await;
    let sizes: &[usize] = if effort.quick {
        &[64, 16 * KIB, 1_024 * KIB]
    } else {
        &[64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1_024 * KIB]
    };
    let mut table = Table::new(
        "Size of values",
        "64 in flight, three nodes.",
        &["", "bytes", "answered/s", "MiB/s", "p50 ms", "p99 ms", "failed"],
    );
    let mut lines = KINDS.map(|(name, _)| Series::new(name, []));
    for size in sizes {
        let keys = (SIZE_SWEEP_BYTES / *size as u64).clamp(u64::from(IN_FLIGHT), effort.sweep_keys);
        for ((name, mix), line) in std::iter::zip(KINDS, &mut lines) {
            let workload = Workload { mix, value_bytes: *size, pace: Pace::InFlight(IN_FLIGHT), keys };
            if name == "Get" {
                workload.write_all_keys(&cluster.addresses());
            }
            let run = point(&cluster, &workload, effort);
            table.add([
                name.into(),
                size.to_string(),
                format!("{:.0}", run.per_second()),
                format!("{:.1}", run.number("/mib_per_second")),
                millis(&run, "p50"),
                millis(&run, "p99"),
                run.failures(),
            ]);
            line.points.push((*size as f64, run.per_second()));
        }
    }
    report.add_table(table);
    let panel = Panel {
        title: "Throughput against size of values (64 in flight, three nodes)".into(),
        x: Axis::log_bytes("size of a value", sizes.iter().map(|size| *size as f64).collect()),
        y: Axis::log("answered operations a second", Vec::new()),
        series: lines.into(),
    };
    report.add_picture("throughput-value-size", vec![panel]);
}

/// Small values beside large ones, over a slow network: does the small one wait for the large one?
pub async fn beside_large(effort: &Effort, report: &mut Report) {
    let cluster = Cluster::start_over(3, SLOW_BYTES_PER_SECOND).await;
    let addresses = cluster.addresses();
    let mut table = Table::new(
        "Small values beside large ones",
        "Three nodes that reach each other at 100 Mbit/s at most; clients reach them without delay. 200 operations a second on \
         values of 100 bytes, alone and beside one Set of a large value a second. The latencies are those of the small values.",
        &["", "beside it", "p50 ms", "p90 ms", "p99 ms", "failed", "the large one, p50 ms", "failed"],
    );
    let duration = 2 * effort.point;
    for (name, mix) in KINDS {
        let small = Workload { mix, value_bytes: 100, pace: Pace::Rate(200.0), keys: 1_000 };
        small.write_all_keys(&addresses);
        for large_bytes in [0, 1 << 20, 4 << 20] {
            let large = Workload { mix: "set=1", value_bytes: large_bytes, pace: Pace::Rate(1.0), keys: 16 };
            let run = |workload: &Workload| workload.run(Target::Cluster(&addresses), 2 * WARM_UP, duration);
            let (seen, beside) = std::thread::scope(|scope| {
                let beside = (large_bytes > 0).then(|| scope.spawn(|| run(&large)));
                let seen = run(&small);
                (seen, beside.map(|thread| thread.join().expect("the generator reports")))
            });
            table.add([
                name.into(),
                beside.as_ref().map_or("nothing".into(), |_| format!("{} MiB", large_bytes >> 20)),
                millis(&seen, "p50"),
                millis(&seen, "p90"),
                millis(&seen, "p99"),
                seen.failures(),
                beside.as_ref().map_or(String::new(), |run| millis(run, "p50")),
                beside.as_ref().map_or(String::new(), Run::failures),
            ]);
        }
    }
    report.add_table(table);
}

/// More and more nodes, each key on three of them: does an operation cost the same?
pub async fn nodes(effort: &Effort, report: &mut Report) {
    let counts: &[usize] = if effort.quick { &[3, 5] } else { &[3, 5, 7, 9] };
    let mut table = Table::new(
        "Number of nodes",
        "Values of 1 KiB, 64 in flight, each key on three nodes; all nodes share this machine, so that more of them \
         raise the cost rather than the throughput.",
        &["", "nodes", "answered/s", "answered per core second of nodes", "node CPU µs/op", "messages/op", "fsyncs/op"],
    );
    let panel = |title: &str, y: &str| Panel {
        title: title.to_owned(),
        x: Axis::at("nodes", counts.iter().map(|count| *count as f64).collect()),
        y: Axis::linear(y),
        series: KINDS.map(|(name, _)| Series::new(name, [])).into(),
    };
    let mut cpu = panel("CPU time of all nodes per operation", "µs per operation");
    let mut messages = panel("Messages between nodes per operation", "messages per operation");
    for count in counts {
        let cluster = Cluster::start(*count).await;
        for (index, (name, mix)) in KINDS.into_iter().enumerate() {
            let workload = Workload { mix, value_bytes: KIB, pace: Pace::InFlight(IN_FLIGHT), keys: effort.sweep_keys };
            workload.write_all_keys(&cluster.addresses());
            let (run, usage) = measured(&cluster, &workload, 2 * WARM_UP, effort.point).await;
            let cost = cost(String::new(), &run, &usage);
            table.add([
                name.into(),
                count.to_string(),
                format!("{:.0}", run.per_second()),
                format!("{:.0}", run.attempts() as f64 / usage.cpu.as_secs_f64()),
                format!("{:.0}", cost.cpu_us),
                format!("{:.2}", usage.counter_per(metrics::MESSAGES, run.attempts())),
                format!("{:.3}", cost.fsyncs),
            ]);
            cpu.series[index].points.push((*count as f64, cost.cpu_us));
            messages.series[index].points.push((*count as f64, cost.messages));
        }
    }
    report.add_table(table);
    report.add_picture("cost-nodes", vec![cpu, messages]);
}

fn point(cluster: &Cluster, workload: &Workload, effort: &Effort) -> Run {
    workload.run(Target::Cluster(&cluster.addresses()), WARM_UP, effort.point)
}

pub(super) fn millis(run: &Run, which: &str) -> String {
    format!("{:.2}", run.latency_us(which) / 1e3)
}
