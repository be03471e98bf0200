//! The summary of a run that filled a cluster: a table and pictures.

use std::path::Path;

use comfy_table::{Table, presets};

use super::nodes::{NodeSample, Reported};
use super::run::{GIB, MIB, Phase, Plan, Run, Sample};
use super::tally::Latencies;
use crate::draw;
use crate::picture::{Axis, Panel, Series};

/// Names and values of the table: writes, reads, then what the nodes used.
pub fn rows(plan: &Plan, run: &Run) -> Vec<(String, String)> {
    let fill: Vec<&Sample> = of_phase(run, Phase::Fill).collect();
    let read: Vec<&Sample> = of_phase(run, Phase::Read).collect();
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    let (Some(first), Some(last)) = (fill.first(), fill.last()) else { return rows };
    row("filling ended because", run.ended_by.as_str().to_owned());
    row("keys written", format!("{} in {:.0} s", last.keys, last.seconds));
    row("write rate, whole run", per_second(last.keys as f64 / last.seconds));
    let tenth = (fill.len() / 10).max(1);
    row("write rate, first tenth", per_second(rate_of(&fill[..tenth])));
    row("write rate, last tenth", per_second(rate_of(&fill[fill.len() - tenth..])));
    let slowest = fill.iter().map(|sample| sample.rate(&sample.writes)).fold(f64::MAX, f64::min);
    row(&format!("write rate, slowest {:.0} s", first.span), per_second(slowest));
    row(&format!("writes, {} in flight", plan.writers), latencies(&run.writes));
    row(&format!("reads beside, {} a second", plan.reads_per_second), latencies(&run.reads_beside));
    let reads = read.iter().map(|sample| sample.reads.count()).sum::<u64>() as f64;
    let span: f64 = read.iter().map(|sample| sample.span).sum();
    row(&format!("reads after, {} in flight", plan.readers), latencies(&run.reads_after));
    if span > 0.0 {
        row("read rate after", per_second(reads / span));
    }
    if let Some((from_disk, all)) = store_reads_between(last, read.last().unwrap_or(last)) {
        let part = 100.0 * from_disk / all.max(1.0);
        row("reads of stores that waited for the disk, afterwards", format!("{part:.1} % of {all:.0}"));
    }
    let stored = plan.stored_bytes(last.keys);
    row("keys and values", format!("{}, on each of three nodes", size(stored as f64)));
    for node in &last.nodes {
        let (disk, part) = (size(node.disk_bytes as f64), node.disk_bytes as f64 / stored.max(1) as f64);
        row(&format!("disk of node {} after filling", node.id), format!("{disk}, {part:.2} per stored byte"));
    }
    let most = |of: fn(&NodeSample) -> Option<f64>| {
        run.samples.iter().flat_map(|sample| &sample.nodes).filter_map(of).fold(0.0, f64::max)
    };
    row("most resident memory of a node", size(most(|node| Some(node.resident_bytes? as f64))));
    let pending = most(|node| Some(node.reported?.compaction_pending_bytes));
    row("most that one node had to compact", size(pending));
    let stalled = most(|node| Some(node.reported?.stalled_seconds));
    row("longest that a store made writers wait, in all", format!("{stalled:.1} s"));
    if run.failures.is_empty() {
        row("failures", "none".to_owned());
    }
    for (kind, count) in &run.failures {
        row(&format!("failures: {kind}"), count.to_string());
    }
    row("acknowledged writes that a read did not find", run.wrong.to_string());
    rows
}

/// The table, for a terminal.
pub fn table(rows: &[(String, String)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([name, value]);
    }
    table
}

/// Draws rates, costs and latencies over time.
pub fn draw_all(plan: &Plan, run: &Run, output: &Path) {
    let end = run.samples.last().map_or(0.0, minutes);
    let panel = |title: String, unit: &str, series| Panel {
        title,
        x: Axis::up_to("minutes", end),
        y: Axis::linear(unit),
        series,
    };
    let rate = of_phase(run, Phase::Fill).map(|sample| (minutes(sample), sample.rate(&sample.writes)));
    let title =
        format!("Write rate: values of {} bytes under keys of 16, {} writes in flight", plan.value_bytes, plan.writers);
    let pending = each_node(run, |node| Some(node.reported?.compaction_pending_bytes / GIB));
    let stored = run.samples.iter().map(|sample| (minutes(sample), plan.stored_bytes(sample.keys) as f64 / GIB));
    let mut disk = each_node(run, |node| Some(node.disk_bytes as f64 / GIB));
    disk.push(Series::new("keys and values", stored));
    let resident = each_node(run, |node| Some(node.resident_bytes? as f64 / MIB));
    let panels = [
        panel(title, "keys a second", vec![Series::new("acknowledged writes", rate)]),
        panel("What compaction still has to rewrite".to_owned(), "GiB", pending),
        panel("Disk".to_owned(), "GiB", disk),
        panel("Resident memory".to_owned(), "MiB", resident),
    ];
    draw(&output.join("fill.svg"), &panels);

    let percentile = |phase, part: f64, of: fn(&Sample) -> &Latencies| {
        of_phase(run, phase).filter_map(move |sample| Some((minutes(sample), of(sample).ms(part)?)))
    };
    let panel = |title: &str, part| Panel {
        title: title.to_owned(),
        x: Axis::up_to("minutes", end),
        y: Axis::log("ms", Vec::new()),
        series: vec![
            Series::new("writes", percentile(Phase::Fill, part, |sample| &sample.writes)),
            Series::new("reads beside the writers", percentile(Phase::Fill, part, |sample| &sample.reads)),
            Series::new("reads alone, afterwards", percentile(Phase::Read, part, |sample| &sample.reads)),
        ],
    };
    draw(&output.join("latency.svg"), &[panel("Latency, 99th percentile", 0.99), panel("Latency, median", 0.5)]);
}

fn of_phase(run: &Run, phase: Phase) -> impl Iterator<Item = &Sample> {
    run.samples.iter().filter(move |sample| sample.phase == phase)
}

fn minutes(sample: &Sample) -> f64 {
    sample.seconds / 60.0
}

/// One line for each node.
fn each_node(run: &Run, of: impl Fn(&NodeSample) -> Option<f64>) -> Vec<Series> {
    let ids = run.samples.first().map(|sample| sample.nodes.iter().map(|node| node.id.clone())).into_iter().flatten();
    ids.enumerate()
        .map(|(index, id)| {
            let points = run.samples.iter().filter_map(|sample| Some((minutes(sample), of(&sample.nodes[index])?)));
            Series::new(format!("node {id}"), points)
        })
        .collect()
}

/// Reads of all stores between two samples: those from disk, and all.
fn store_reads_between(before: &Sample, after: &Sample) -> Option<(f64, f64)> {
    let sum = |sample: &Sample| {
        let reported = sample.nodes.iter().map(|node| node.reported).collect::<Option<Vec<Reported>>>()?;
        let from_disk: f64 = reported.iter().map(|reported| reported.loads_from_disk).sum();
        Some((from_disk, from_disk + reported.iter().map(|reported| reported.loads_from_memory).sum::<f64>()))
    };
    let (before, after) = (sum(before)?, sum(after)?);
    Some((after.0 - before.0, after.1 - before.1))
}

fn rate_of(samples: &[&Sample]) -> f64 {
    let writes = samples.iter().map(|sample| sample.writes.count()).sum::<u64>() as f64;
    writes / samples.iter().map(|sample| sample.span).sum::<f64>()
}

fn size(bytes: f64) -> String {
    if bytes < GIB { format!("{:.1} MiB", bytes / MIB) } else { format!("{:.2} GiB", bytes / GIB) }
}

fn per_second(rate: f64) -> String {
    format!("{rate:.0} a second")
}

fn latencies(latencies: &Latencies) -> String {
    let shown = |part| latencies.ms(part).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    format!(
        "p50 {}, p99 {}, p99.9 {}, longest {} ms ({})",
        shown(0.5),
        shown(0.99),
        shown(0.999),
        shown(1.0),
        latencies.count()
    )
}
