//! Counts of the clients: latencies since the last sample, latencies of the whole run, and failures by kind.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

/// Significant decimal digits: latencies are exact to a thousandth.
const DIGITS: u8 = 3;

/// A histogram of latencies, in microseconds.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("this many digits are supported"))
    }
}

impl Latencies {
    fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.record(micros).expect("it grows as it must");
    }

    fn add(&mut self, others: &Self) {
        self.0.add(&others.0).expect("it grows as it must");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The quantile `part` (0 to 1) in milliseconds, or none where nothing was recorded.
    pub fn ms(&self, part: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(part) as f64 / 1e3)
    }

    /// Count and quantiles for a file of results.
    pub fn json(&self) -> Json {
        json!({
            "count": self.count(),
            "p50_ms": self.ms(0.5),
            "p99_ms": self.ms(0.99),
            "p999_ms": self.ms(0.999),
            "max_ms": self.ms(1.0),
        })
    }
}

/// Latencies of one kind of request.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    recent: Latencies,
    /// Those before the last sample.
    earlier: Latencies,
}

impl Recorder {
    /// Adds the latency of one answered request.
    pub fn record(&self, latency: Duration) {
        lock(&self.0).recent.record(latency);
    }

    /// Takes those since the last sample.
    pub fn take_recent(&self) -> Latencies {
        let mut recorded = lock(&self.0);
        let recent = std::mem::take(&mut recorded.recent);
        recorded.earlier.add(&recent);
        recent
    }

    /// All so far.
    pub fn all(&self) -> Latencies {
        let recorded = lock(&self.0);
        let mut all = recorded.earlier.clone();
        all.add(&recorded.recent);
        all
    }
}

/// Failures, by kind.
#[derive(Debug, Default)]
pub struct Failures(Mutex<BTreeMap<String, u64>>);

impl Failures {
    /// Adds one failure of this kind.
    pub fn count(&self, kind: impl Display) {
        *lock(&self.0).entry(kind.to_string()).or_default() += 1;
    }

    /// All so far.
    pub fn all(&self) -> BTreeMap<String, u64> {
        lock(&self.0).clone()
    }
}

/// A poisoned lock is taken all the same: no holder leaves its data half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
