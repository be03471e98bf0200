//! The result of a run, for people and for scripts.

mod json;
mod text;

#[cfg(test)]
mod tests;

use std::time::Duration;

use hdrhistogram::Histogram;

use super::mix::{Kind, Mix};
use super::tally::OfKind;
use super::values::ValueBytes;
use super::workload::{Measured, Pace};

/// The quantiles of latencies that are reported.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// The settings of a run.
#[derive(Clone, Debug)]
pub(in crate::cli::bench) struct Settings {
    /// `cluster` or `noop`.
    pub(in crate::cli::bench) target: &'static str,
    pub(in crate::cli::bench) addresses: Vec<String>,
    pub(in crate::cli::bench) pace: Pace,
    pub(in crate::cli::bench) in_flight: usize,
    pub(in crate::cli::bench) duration: Duration,
    pub(in crate::cli::bench) warm_up: Duration,
    pub(in crate::cli::bench) mix: Mix,
    pub(in crate::cli::bench) value_bytes: ValueBytes,
    pub(in crate::cli::bench) keys: u64,
    pub(in crate::cli::bench) key_prefix: String,
    pub(in crate::cli::bench) table: String,
    pub(in crate::cli::bench) zipf_exponent: Option<f64>,
    /// The keys that a list asks for.
    pub(in crate::cli::bench) list_keys: u32,
    pub(in crate::cli::bench) list_values: bool,
    pub(in crate::cli::bench) watchers: usize,
    pub(in crate::cli::bench) connections: usize,
    /// Whether requests go to the replicas of their keys.
    pub(in crate::cli::bench) route: bool,
    pub(in crate::cli::bench) timeout: Duration,
    pub(in crate::cli::bench) seed: u64,
}

/// The result of a run.
#[derive(Debug)]
pub(in crate::cli::bench) struct Report {
    pub(in crate::cli::bench) settings: Settings,
    /// The number of keys written before the run, and the time that took.
    pub(in crate::cli::bench) preloaded: Option<(u64, Duration)>,
    pub(in crate::cli::bench) measured: Measured,
    /// How often a watch broke off, and had to go on at another node.
    pub(in crate::cli::bench) broken_watches: u64,
    /// Whether the user ended the run early.
    pub(in crate::cli::bench) interrupted: bool,
    /// The CPU time of the generator in the measured time.
    pub(in crate::cli::bench) generator_cpu: Duration,
    /// The same of the no-op server, where that is the target.
    pub(in crate::cli::bench) target_cpu: Option<Duration>,
}

impl Report {
    /// The number of operations that were answered.
    pub(in crate::cli::bench) fn operations(&self) -> u64 {
        Kind::ALL.into_iter().map(|kind| self.of(kind).latencies.len()).sum()
    }

    /// The number of operations that failed.
    pub(in crate::cli::bench) fn failed(&self) -> u64 {
        self.measured.totals.failures.values().map(|failures| failures.count).sum()
    }

    /// The most frequent failure.
    /// Whether the nodes refuse whoever asks, and nothing else has failed.
    pub(in crate::cli::bench) fn is_refused(&self) -> bool {
        let mut kinds = self.measured.totals.failures.keys().peekable();
        kinds.peek().is_some() && kinds.all(|kind| matches!(kind.reason, Some("PERMISSION_DENIED" | "UNAUTHENTICATED")))
    }

    /// The kind of failure that was met most often, with an example.
    pub(in crate::cli::bench) fn commonest_failure(&self) -> Option<String> {
        let (kind, failures) = self.measured.totals.failures.iter().max_by_key(|(_, failures)| failures.count)?;
        Some(format!("{} {}: {}", kind.code, kind.reason.unwrap_or("without a reason"), failures.example))
    }

    fn of(&self, kind: Kind) -> &OfKind {
        self.measured.totals.of(kind)
    }

    fn all_latencies(&self) -> Histogram<u64> {
        let mut all = self.of(Kind::Get).latencies.clone();
        for kind in Kind::ALL.into_iter().skip(1) {
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
}
