//! What a run has shown, for a person and for a script.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

use super::load::{Measured, Pace};
use super::mix::{Kind, Mix};
use super::tally::OfKind;
use super::values::ValueBytes;

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// `cluster` or `noop`.
    pub(super) target: &'static str,
    pub(super) addresses: Vec<String>,
    pub(super) pace: Pace,
    pub(super) in_flight: usize,
    pub(super) duration: Duration,
    pub(super) warm_up: Duration,
    pub(super) mix: Mix,
    pub(super) value_bytes: ValueBytes,
    pub(super) keys: u64,
    pub(super) key_prefix: String,
    pub(super) zipf_exponent: Option<f64>,
    pub(super) connections: usize,
    pub(super) timeout: Duration,
    pub(super) seed: u64,
}

/// What came out of it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) settings: Settings,
    /// How many keys were written before, and how long that took.
    pub(super) filled: Option<(u64, Duration)>,
    pub(super) measured: Measured,
    /// The user has ended it early.
    pub(super) interrupted: bool,
    /// CPU time of the generator while it measured.
    pub(super) generator_cpu: Duration,
    /// And of the no-op server.
    pub(super) target_cpu: Option<Duration>,
}

impl Report {
    /// Operations that were answered.
    pub(super) fn operations(&self) -> u64 {
        Kind::ALL.into_iter().map(|kind| self.of(kind).latencies.len()).sum()
    }

    /// Operations that failed.
    pub(super) fn failed(&self) -> u64 {
        self.measured.totals.failures.values().map(|failures| failures.count).sum()
    }

    /// What went wrong most often.
    pub(super) fn commonest_failure(&self) -> Option<String> {
        let (kind, failures) = self.measured.totals.failures.iter().max_by_key(|(_, failures)| failures.count)?;
        Some(format!("{} {}: {}", kind.code, kind.reason.unwrap_or("without a reason"), failures.example))
    }

    fn of(&self, kind: Kind) -> &OfKind {
        self.measured.totals.of(kind)
    }

    fn all_latencies(&self) -> Histogram<u64> {
        let mut all = self.of(Kind::Get).latencies.clone();
        for kind in [Kind::Set, Kind::Delete] {
            all.add(&self.of(kind).latencies).expect("a histogram that grows takes every other");
        }
        all
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.measured.length.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    fn mib_per_second(&self) -> f64 {
        self.per_second(Kind::ALL.into_iter().map(|kind| self.of(kind).bytes).sum()) / f64::from(1 << 20)
    }

    pub(super) fn as_json(&self) -> Json {
        let Self { settings, measured, .. } = self;
        let totals = &measured.totals;
        let rate = match settings.pace {
            Pace::Closed => None,
            Pace::Open { rate } => Some(rate),
        };
        let kinds: Vec<Json> = totals
            .failures
            .iter()
            .map(|(kind, failures)| {
                json!({
                    "operation": kind.kind.name(),
                    "code": kind.code,
                    "reason": kind.reason,
                    "refused_at_once": kind.is_refused_at_once(),
                    "count": failures.count,
                    "example": failures.example,
                })
            })
            .collect();
        let seconds: Vec<Json> = std::iter::zip(0.., &measured.seconds)
            .map(|(number, second): (u64, _)| {
                json!({ "second": number, "operations": second.operations, "p99_us": second.p99_us })
            })
            .collect();
        let mut json = json!({
            "settings": {
                "target": settings.target,
                "addresses": settings.addresses,
                "loop": if rate.is_some() { "open" } else { "closed" },
                "rate": rate,
                "in_flight": settings.in_flight,
                "duration_seconds": settings.duration.as_secs_f64(),
                "warm_up_seconds": settings.warm_up.as_secs_f64(),
                "mix": settings.mix.as_json(),
                "value_bytes": { "min": settings.value_bytes.min, "max": settings.value_bytes.max },
                "keys": settings.keys,
                "key_prefix": settings.key_prefix,
                "distribution": if settings.zipf_exponent.is_some() { "zipf" } else { "uniform" },
                "zipf_exponent": settings.zipf_exponent,
                "connections": settings.connections,
                "timeout_seconds": settings.timeout.as_secs_f64(),
                "seed": settings.seed,
            },
            "load": self.filled.map(|(keys, took)| json!({ "keys": keys, "seconds": took.as_secs_f64() })),
            "interrupted": self.interrupted,
            "seconds": measured.length.as_secs_f64(),
            "operations": self.operations(),
            "operations_per_second": self.per_second(self.operations()),
            "mib_per_second": self.mib_per_second(),
            "latency_us": latency_json(&self.all_latencies()),
            "failed": {
                "count": self.failed(),
                "kinds": kinds,
                "latency_us": latency_json(&totals.failed_latencies),
            },
            "unfinished": measured.unfinished,
            "late": totals.late,
            "missed": measured.missed,
            "cpu": {
                "generator_seconds": self.generator_cpu.as_secs_f64(),
                "target_seconds": self.target_cpu.map(|used| used.as_secs_f64()),
            },
            "each_second": seconds,
        });
        for kind in Kind::ALL {
            let of_kind = self.of(kind);
            let failed: u64 =
                totals.failures.iter().filter(|(of, _)| of.kind == kind).map(|(_, failures)| failures.count).sum();
            let count = of_kind.latencies.len();
            let mut shown = json!({
                "operations": count,
                "operations_per_second": self.per_second(count),
                "failed": failed,
                "latency_us": latency_json(&of_kind.latencies),
            });
            if kind == Kind::Get {
                shown["found"] = json!(of_kind.found);
                shown["not_found"] = json!(count - of_kind.found);
            }
            json[kind.name()] = shown;
        }
        json
    }

    pub(super) fn as_text(&self) -> String {
        let mut text = self.settings.as_text();
        let written = &mut text;
        // Writing to a string does not fail.
        let mut line = |line: String| written.push_str(&(line + "\n"));
        if let Some((keys, took)) = self.filled {
            line(format!("{keys} keys written before, in {:.1} s", took.as_secs_f64()));
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
            line(format!("{unfinished} still under way at the end, counted neither as done nor as failed"));
        }
        if totals.late > 0 {
            line(format!(
                "{} sent more than 1 ms after they were due; their latency counts from when they were due",
                totals.late
            ));
        }
        if *missed > 0 {
            line(format!(
                "{missed} due and never sent, because {} were under way: the true latencies are greater than those \
                 above (a smaller --rate, or a greater --in-flight)",
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
        let _ = writeln!(text, "; {mix}; values of {value_bytes} bytes; {keys} keys, {drawn}");
        let target = match self.target {
            "noop" => "a server that does nothing".to_owned(),
            _ => self.addresses.join(","),
        };
        let (s, each) = (plural(*connections), if self.addresses.len() > 1 { " each" } else { "" });
        let _ = writeln!(text, "{connections} connection{s}{each} to {target}");
        text
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// Latencies in microseconds; null where there are none.
fn latency_json(latencies: &Histogram<u64>) -> Json {
    if latencies.is_empty() {
        return Json::Null;
    }
    let mut json = json!({ "mean": latencies.mean(), "max": latencies.max() });
    for (name, quantile) in QUANTILES {
        json[name] = json!(latencies.value_at_quantile(quantile));
    }
    json
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;
    use crate::cli::bench::tally::{Outcome, Second, Totals};

    fn report(pace: Pace) -> Report {
        let mut totals = Totals::new();
        for millis in 1..=100 {
            let outcome = Outcome::Done { found: millis > 10, bytes: 1 << 20 };
            totals.record(Kind::Get, Duration::from_millis(millis), outcome);
        }
        for _ in 0..100 {
            totals.record(Kind::Set, Duration::from_millis(5), Outcome::Done { found: false, bytes: 0 });
        }
        totals.record(Kind::Set, Duration::from_millis(1), Outcome::Failed(Status::unavailable("gone")));
        totals.late = 3;
        let measured = Measured {
            length: Duration::from_secs(2),
            totals,
            seconds: vec![Second { operations: 150, p99_us: 90_000 }, Second { operations: 50, p99_us: 5_000 }],
            unfinished: 4,
            missed: 5,
        };
        let settings = Settings {
            target: "cluster",
            addresses: vec!["a:1".into(), "b:2".into()],
            pace,
            in_flight: 64,
            duration: Duration::from_secs(10),
            warm_up: Duration::ZERO,
            mix: "get=1,set=1".parse().unwrap(),
            value_bytes: "100..200".parse().unwrap(),
            keys: 1_000,
            key_prefix: "k".into(),
            zipf_exponent: Some(0.99),
            connections: 2,
            timeout: Duration::from_secs(5),
            seed: 7,
        };
        Report {
            settings,
            filled: Some((1_000, Duration::from_millis(1_500))),
            measured,
            interrupted: true,
            generator_cpu: Duration::from_secs(1),
            target_cpu: None,
        }
    }

    #[test]
    fn json_has_every_number() {
        let json = report(Pace::Open { rate: 100.0 }).as_json();
        let near = |pointer: &str, expected: f64| {
            let value =
                json.pointer(pointer).and_then(Json::as_f64).unwrap_or_else(|| panic!("no {pointer} in {json}"));
            assert!((value - expected).abs() <= expected / 500.0, "{pointer} is {value}, not {expected}");
        };
        for (pointer, expected) in [
            ("/settings/rate", 100.0),
            ("/settings/value_bytes/min", 100.0),
            ("/settings/mix/get", 1.0),
            ("/load/keys", 1_000.0),
            ("/load/seconds", 1.5),
            ("/seconds", 2.0),
            ("/operations", 200.0),
            ("/operations_per_second", 100.0),
            ("/mib_per_second", 50.0),
            ("/latency_us/p50", 5_000.0),
            ("/latency_us/max", 100_000.0),
            ("/get/operations", 100.0),
            ("/get/found", 90.0),
            ("/get/not_found", 10.0),
            ("/get/latency_us/mean", 50_500.0),
            ("/get/latency_us/p50", 50_000.0),
            ("/get/latency_us/p90", 90_000.0),
            ("/get/latency_us/p99", 99_000.0),
            ("/get/latency_us/p99_9", 100_000.0),
            ("/set/operations", 100.0),
            ("/set/failed", 1.0),
            ("/failed/count", 1.0),
            ("/failed/kinds/0/count", 1.0),
            ("/failed/latency_us/max", 1_000.0),
            ("/unfinished", 4.0),
            ("/late", 3.0),
            ("/missed", 5.0),
            ("/cpu/generator_seconds", 1.0),
            ("/each_second/1/operations", 50.0),
            ("/each_second/1/p99_us", 5_000.0),
        ] {
            near(pointer, expected);
        }
        assert_eq!(json["settings"]["loop"], "open");
        assert_eq!(json["settings"]["distribution"], "zipf");
        assert_eq!(json["failed"]["kinds"][0]["code"], "UNAVAILABLE");
        assert_eq!(json["failed"]["kinds"][0]["reason"], Json::Null);
        assert_eq!(json["delete"]["latency_us"], Json::Null);
        assert_eq!(json["cpu"]["target_seconds"], Json::Null);
        assert_eq!(json["interrupted"], true);
    }

    #[test]
    fn text_says_what_was_measured_and_what_was_not() {
        let text = report(Pace::Open { rate: 100.0 }).as_text();
        for part in [
            "100 due a second, at most 64 in flight; get=1,set=1; values of 100..200 bytes; 1000 keys, zipf 0.99",
            "2 connections each to a:1,b:2",
            "1000 keys written before, in 1.5 s",
            "measured for 2.0 s, ended early",
            "90 of 100 gets found a value",
            "50.0 MiB/s",
            "1 failed",
            "1 set: UNAVAILABLE (no reason): gone",
            "4 still under way",
            "3 sent more than 1 ms after they were due",
            "5 due and never sent",
            "the generator 1.00 s (0.50 cores)",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let row = |name: &str| rows.iter().find(|row| row.first() == Some(&name)).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(row("set")[1..3], ["100", "50"]);
        assert_eq!(row("all")[1..3], ["200", "100"]);
        assert!(!rows.iter().any(|row| row.first() == Some(&"delete")), "{text}");
    }

    #[test]
    fn run_without_an_answer_has_no_latencies() {
        let mut report = report(Pace::Closed);
        report.measured.totals = Totals::new();
        report.measured.length = Duration::ZERO;
        let json = report.as_json();
        assert_eq!(json["latency_us"], Json::Null);
        assert_eq!((&json["operations_per_second"], &json["settings"]["rate"]), (&json!(0.0), &Json::Null));
        assert_eq!(report.commonest_failure(), None);
        assert!(report.as_text().contains("64 in flight"));
    }

    #[test]
    fn commonest_failure_is_told_first() {
        let mut report = report(Pace::Closed);
        for _ in 0..2 {
            let status = Status::deadline_exceeded("too slow");
            report.measured.totals.record(Kind::Get, Duration::ZERO, Outcome::Failed(status));
        }
        assert_eq!(report.commonest_failure().unwrap(), "DEADLINE_EXCEEDED without a reason: too slow");
    }
}
