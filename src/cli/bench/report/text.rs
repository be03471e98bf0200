//! A report as text for a person.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;

use super::{QUANTILES, Report, Settings};
use crate::cli::bench::mix::Kind;
use crate::cli::bench::workload::{Measured, Pace};
use crate::types::DEFAULT_TABLE;

impl Report {
    /// The report for a person.
    pub(in crate::cli::bench) fn as_text(&self) -> String {
        let mut text = self.settings.as_text();
        let written = &mut text;
        // Writing to a string does not fail.
        let mut line = |line: String| written.push_str(&(line + "\n"));
        if let Some((keys, took)) = self.preloaded {
            line(format!("{keys} keys written before the run, in {:.1} s", took.as_secs_f64()));
        }
        let early = if self.interrupted { ", ended early" } else { "" };
        line(format!("measured for {:.1} s{early}\n", self.measured.length.as_secs_f64()));
        line(self.table());
        line(String::new());
        let gets = self.of(Kind::Get);
        let count = gets.latencies.len();
        if count > 0 {
            line(format!("{} of {count} gets found a value", gets.found));
        }
        let cas = self.of(Kind::Cas);
        let count = cas.latencies.len();
        if count > 0 {
            line(format!("{} of {count} cas found the key unchanged, and wrote it", cas.found));
        }
        if self.settings.mix.weight(Kind::Watch) > 0 {
            line(
                "event: from a write's acknowledgement until one watcher was told; 0 if it was told before that".into(),
            );
        }
        if self.broken_watches > 0 {
            line(format!("{} times a watch broke off and had to go on at another node", self.broken_watches));
        }
        line(format!("{:.1} MiB/s of values", self.mib_per_second()));
        self.add_failures(&mut line);
        let cores = |used: Duration| self.per_second(1) * used.as_secs_f64();
        let server = self.target_cpu.map_or_else(String::new, |used| {
            format!(", the server {:.2} s ({:.2} cores)", used.as_secs_f64(), cores(used))
        });
        let used = self.generator_cpu;
        line(format!("CPU: the generator {:.2} s ({:.2} cores){server}", used.as_secs_f64(), cores(used)));
        text
    }

    fn add_failures(&self, line: &mut impl FnMut(String)) {
        let Measured { totals, unfinished, missed, .. } = &self.measured;
        line(format!("{} failed", self.failed()));
        for (kind, failures) in &totals.failures {
            let (name, reason) = (kind.kind.name(), kind.reason.unwrap_or("no reason"));
            line(format!("  {} {name}: {} ({reason}): {}", failures.count, kind.code, failures.example));
        }
        if *unfinished > 0 {
            line(format!("{unfinished} still in flight at the end, counted neither as done nor as failed"));
        }
        if totals.late > 0 {
            line(format!(
                "{} sent more than 1 ms after they were due; their latency counts from when they were due",
                totals.late
            ));
        }
        if *missed > 0 {
            line(format!(
                "{missed} due and never sent, because {} were in flight: the true latencies are greater than those \
                 above (choose a smaller --rate or a greater --in-flight)",
                self.settings.in_flight
            ));
        }
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "COUNT", "PER SECOND", "MEAN µs", "P50", "P90", "P99", "P99.9", "MAX"]);
        let mut add = |name: &str, latencies: &Histogram<u64>| {
            let mut cells = vec![name.to_owned(), latencies.len().to_string()];
            cells.push(format!("{:.0}", self.per_second(latencies.len())));
            cells.push(format!("{:.0}", latencies.mean()));
            cells.extend(QUANTILES.iter().map(|(_, quantile)| latencies.value_at_quantile(*quantile).to_string()));
            cells.push(latencies.max().to_string());
            table.add_row(cells);
        };
        let shown: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| self.settings.mix.weight(*kind) > 0).collect();
        for kind in &shown {
            add(kind.name(), &self.of(*kind).latencies);
        }
        if shown.len() > 1 {
            add("all", &self.all_latencies());
        }
        if shown.contains(&Kind::Watch) {
            add("event", &self.measured.totals.event_latencies);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.trim_fmt()
    }
}

impl Settings {
    fn as_text(&self) -> String {
        let mut text = match self.pace {
            Pace::Closed => format!("{} in flight", self.in_flight),
            Pace::Open { rate } => format!("{rate} due a second, at most {} in flight", self.in_flight),
        };
        let drawn = self.zipf_exponent.map_or("uniform".to_owned(), |exponent| format!("zipf {exponent}"));
        let Self { mix, value_bytes, keys, connections, .. } = self;
        let of_table = if self.table == DEFAULT_TABLE { String::new() } else { format!(" of table {}", self.table) };
        let _ = writeln!(text, "; {mix}; values of {value_bytes} bytes; {keys} keys{of_table}, {drawn}");
        if mix.weight(Kind::List) > 0 {
            let with = if self.list_values { " with values" } else { "" };
            let _ = writeln!(text, "lists of {} keys{with}", self.list_keys);
        }
        if mix.weight(Kind::Watch) > 0 {
            let _ = writeln!(text, "{} watcher{}", self.watchers, plural(self.watchers));
        }
        let target = match self.target {
            "noop" => "a no-op server".to_owned(),
            _ => self.addresses.join(","),
        };
        let (s, each) = (plural(*connections), if self.addresses.len() > 1 { " each" } else { "" });
        let route = if self.route { "; requests go to replicas of their keys" } else { "" };
        let _ = writeln!(text, "{connections} connection{s}{each} to {target}{route}");
        text
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
