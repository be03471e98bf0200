//! The counts of a running workload.
//!
//! Contract: recording is cheap and never blocks for long, because totals are split among a few locks and each second of the
//! run has a lock of its own. A closed loop counts an operation that ends in the measured time, so that the rate is that of
//! the answers. An open loop counts an operation that is due in it, so that none is left out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tonic::{Code, Status};

use super::mix::Kind;
use crate::wire::failure::{Failure, FailureReason};

/// The significant digits of latencies: three, an error of a thousandth.
const DIGITS: u8 = 3;
/// The same for each second of a run. There are many of them, so that two digits must do.
const DIGITS_OF_SECOND: u8 = 2;
/// The most locks for totals. More than the threads that record at once would only take memory.
const SHARDS_MAX: usize = 8;

/// How an operation ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The request was answered.
    Done {
        /// For a get: whether the key had a value. For a cas: whether the condition held.
        found: bool,
        /// The size of the value that was written or read.
        bytes: usize,
    },
    /// The write was acknowledged, and every watcher was told of it.
    Told {
        /// How long after the acknowledgement, for each watcher.
        waited: Vec<Duration>,
        /// The size of the value that was written.
        bytes: usize,
    },
    Failed(Status),
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FailureKind {
    pub(super) kind: Kind,
    /// The name of the gRPC code.
    pub(super) code: &'static str,
    /// The reason of Quorate. `None` if the answer was not Quorate's.
    pub(super) reason: Option<&'static str>,
}

impl FailureKind {
    fn of(kind: Kind, status: &Status) -> Self {
        let reason = Failure::from_status(status).map(|failure| failure.reason.as_str());
        Self { kind, code: crate::wire::failure::code_name(status.code()), reason }
    }

    /// Whether an overloaded node refused the request before it did anything.
    pub(super) fn is_refused_at_once(&self) -> bool {
        let untouched = [FailureReason::NotApplied, FailureReason::NotReady].map(FailureReason::as_str);
        self.code == crate::wire::failure::code_name(Code::ResourceExhausted)
            && self.reason.is_some_and(|reason| untouched.contains(&reason))
    }
}

/// The failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) count: u64,
    /// The text of the first one.
    pub(super) example: String,
}

/// The answered operations of one kind.
#[derive(Clone, Debug)]
pub(super) struct OfKind {
    /// In microseconds.
    pub(super) latencies: Histogram<u64>,
    pub(super) found: u64,
    pub(super) bytes: u64,
}

/// The counts of a run.
#[derive(Clone, Debug)]
pub(super) struct Totals {
    /// In the order of [`Kind::ALL`].
    pub(super) kinds: [OfKind; Kind::ALL.len()],
    /// From the acknowledgement of a write until a watcher was told of it, in microseconds.
    pub(super) event_latencies: Histogram<u64>,
    pub(super) failures: BTreeMap<FailureKind, Failures>,
    /// The latencies of failures, in microseconds.
    pub(super) failed_latencies: Histogram<u64>,
    /// Requests of an open loop that were sent late.
    pub(super) late: u64,
}

impl Totals {
    pub(super) fn new() -> Self {
        let kinds = Kind::ALL.map(|_| OfKind { latencies: histogram(DIGITS), found: 0, bytes: 0 });
        Self {
            kinds,
            event_latencies: histogram(DIGITS),
            failures: BTreeMap::new(),
            failed_latencies: histogram(DIGITS),
            late: 0,
        }
    }

    pub(super) fn of(&self, kind: Kind) -> &OfKind {
        &self.kinds[kind as usize]
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in std::iter::zip(&mut self.kinds, &other.kinds) {
            add(&mut mine.latencies, &theirs.latencies);
            mine.found += theirs.found;
            mine.bytes += theirs.bytes;
        }
        add(&mut self.event_latencies, &other.event_latencies);
        add(&mut self.failed_latencies, &other.failed_latencies);
        self.late += other.late;
        for (kind, theirs) in &other.failures {
            let mine = self.failures.entry(*kind).or_insert_with(|| Failures { count: 0, ..theirs.clone() });
            mine.count += theirs.count;
        }
    }

    pub(super) fn record(&mut self, kind: Kind, took: Duration, outcome: Outcome) {
        let micros = micros(took);
        match outcome {
            Outcome::Done { found, bytes } => {
                let of_kind = &mut self.kinds[kind as usize];
                record(&mut of_kind.latencies, micros);
                of_kind.found += u64::from(found);
                of_kind.bytes += bytes as u64;
            }
            Outcome::Told { waited, bytes } => {
                self.record(kind, took, Outcome::Done { found: false, bytes });
                for waited in waited {
                    record(&mut self.event_latencies, self::micros(waited));
                }
            }
            Outcome::Failed(status) => {
                record(&mut self.failed_latencies, micros);
                let failures = self.failures.entry(FailureKind::of(kind, &status));
                failures.or_insert_with(|| Failures { count: 0, example: text_of(&status) }).count += 1;
            }
        }
    }
}

/// One second of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Second {
    pub(super) operations: u64,
    pub(super) p99_us: u64,
}

/// The counts that all workers share.
#[derive(Debug)]
pub(super) struct Tally {
    from: Instant,
    until: Instant,
    counts_by_due_time: bool,
    shards: Box<[Mutex<Totals>]>,
    seconds: Box<[Mutex<Histogram<u32>>]>,
    answered: AtomicU64,
}

impl Tally {
    /// Counts operations of the time from `from` to `until`.
    pub(super) fn new(from: Instant, until: Instant, counts_by_due_time: bool) -> Self {
        let shards = std::thread::available_parallelism().map_or(1, usize::from).min(SHARDS_MAX);
        let seconds = usize::try_from((until - from).as_millis().div_ceil(1_000)).expect("at most an hour is measured");
        Self {
            from,
            until,
            counts_by_due_time,
            shards: (0..shards).map(|_| Mutex::new(Totals::new())).collect(),
            seconds: (0..seconds).map(|_| Mutex::new(histogram(DIGITS_OF_SECOND))).collect(),
            answered: AtomicU64::new(0),
        }
    }

    /// The number of operations answered so far, the warm-up included.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Counts an operation that ends now. `began` is the time when it was sent, or was due.
    pub(super) fn record(&self, worker: usize, kind: Kind, began: Instant, outcome: Outcome) {
        let ended = Instant::now();
        let took = ended - began;
        let is_done = !matches!(outcome, Outcome::Failed(_));
        if is_done {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        let decisive = if self.counts_by_due_time { began } else { ended };
        if !self.is_measured(decisive) {
            return;
        }
        if is_done && let Some(second) = self.second(decisive) {
            record(&mut lock(second), micros(took));
        }
        lock(&self.shards[worker % self.shards.len()]).record(kind, took, outcome);
    }

    /// Counts a request that was due at `due` and is sent only now.
    pub(super) fn record_late(&self, worker: usize, due: Instant) {
        if self.is_measured(due) {
            lock(&self.shards[worker % self.shards.len()]).late += 1;
        }
    }

    /// The sum of all counts.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::new();
        for shard in &self.shards {
            totals.add(&lock(shard));
        }
        totals
    }

    /// The seconds of the run, up to `until`.
    pub(super) fn seconds(&self, until: Instant) -> Vec<Second> {
        let measured = until.saturating_duration_since(self.from).as_millis().div_ceil(1_000);
        self.seconds
            .iter()
            .take(usize::try_from(measured).unwrap_or(usize::MAX))
            .map(|second| {
                let second = lock(second);
                Second { operations: second.len(), p99_us: second.value_at_quantile(0.99) }
            })
            .collect()
    }

    fn is_measured(&self, moment: Instant) -> bool {
        (self.from..self.until).contains(&moment)
    }

    fn second(&self, moment: Instant) -> Option<&Mutex<Histogram<u32>>> {
        self.seconds.get(usize::try_from((moment - self.from).as_secs()).ok()?)
    }
}

/// The text of a failure and its causes in one line.
fn text_of(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn histogram<T: hdrhistogram::Counter>(digits: u8) -> Histogram<T> {
    Histogram::new(digits).expect("the number of digits is one that histograms have")
}

/// Unlike `saturating_record`, this lets the histogram grow.
fn record<T: hdrhistogram::Counter>(histogram: &mut Histogram<T>, micros: u64) {
    histogram.record(micros).expect("a histogram that grows takes every latency");
}

fn add(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    sum.add(part).expect("a histogram that grows takes every other");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No count can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn done() -> Outcome {
        Outcome::Done { found: true, bytes: 10 }
    }

    /// A tally of the two seconds that began `ago`.
    fn tally(ago: Duration, counts_by_due_time: bool) -> (Tally, Instant) {
        let from = Instant::now().checked_sub(ago).expect("the machine has run for some seconds");
        (Tally::new(from, from + 2 * SECOND, counts_by_due_time), from)
    }

    #[test]
    fn closed_loop_counts_operations_that_end_in_the_window() {
        let (tally, from) = tally(Duration::from_millis(500), false);
        tally.record(0, Kind::Get, from.checked_sub(SECOND).unwrap(), done());
        assert_eq!(tally.totals().of(Kind::Get).latencies.len(), 1);
        let (tally, from) = self::tally(3 * SECOND, false);
        tally.record(0, Kind::Get, from + SECOND, done());
        assert!(tally.totals().of(Kind::Get).latencies.is_empty());
        assert_eq!(tally.answered(), 1);
    }

    #[test]
    fn open_loop_counts_operations_that_are_due_in_the_window() {
        let (tally, from) = tally(3 * SECOND, true);
        tally.record(0, Kind::Set, from.checked_sub(SECOND).unwrap(), done());
        tally.record(1, Kind::Set, from + SECOND, done());
        tally.record(2, Kind::Set, from + 2 * SECOND, done());
        tally.record_late(0, from + SECOND);
        tally.record_late(1, from + 2 * SECOND);
        let totals = tally.totals();
        assert_eq!((totals.of(Kind::Set).latencies.len(), totals.late), (1, 1));
        // It ended two seconds after it was due, and is seen in the second in which it was due.
        assert!(totals.of(Kind::Set).latencies.min() >= 1_999_000);
        let seconds = tally.seconds(from + 2 * SECOND);
        assert_eq!(seconds.iter().map(|second| second.operations).collect::<Vec<_>>(), [0, 1]);
        assert!(seconds[1].p99_us >= 1_980_000, "{seconds:?}");
    }

    #[test]
    fn seconds_end_with_the_measured_time() {
        let (tally, from) = tally(SECOND, false);
        assert_eq!(tally.seconds(from + 5 * SECOND).len(), 2);
        assert_eq!(tally.seconds(from + Duration::from_millis(300)).len(), 1);
        assert_eq!(tally.seconds(from).len(), 0);
    }

    #[test]
    fn long_latencies_are_not_cut() {
        let mut totals = Totals::new();
        for took in [1, 60, 7_200] {
            totals.record(Kind::Get, took * SECOND, done());
        }
        let latencies = &totals.of(Kind::Get).latencies;
        assert_eq!(latencies.len(), 3);
        assert!(latencies.equivalent(latencies.max(), 7_200_000_000));
        assert!(latencies.equivalent(latencies.value_at_quantile(0.5), 60_000_000));
    }

    #[test]
    fn failures_are_counted_by_kind_and_those_refused_at_once_are_known() {
        let refused = Failure::new(FailureReason::NotApplied).to_status(Code::ResourceExhausted, "full");
        let no_quorum = Failure::new(FailureReason::NoQuorum).to_status(Code::Unavailable, "too few");
        let mut one = Totals::new();
        one.record(Kind::Set, SECOND, Outcome::Failed(refused.clone()));
        one.record(Kind::Get, SECOND, Outcome::Failed(Status::unavailable("connection refused")));
        let mut other = Totals::new();
        other.record(Kind::Set, SECOND, Outcome::Failed(refused));
        other.record(Kind::Get, SECOND, Outcome::Failed(no_quorum));
        one.add(&other);
        let seen: Vec<_> = one
            .failures
            .iter()
            .map(|(kind, failures)| {
                (
                    kind.kind,
                    kind.code,
                    kind.reason,
                    failures.count,
                    failures.example.as_str(),
                    kind.is_refused_at_once(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (Kind::Get, "UNAVAILABLE", None, 1, "connection refused", false),
                (Kind::Get, "UNAVAILABLE", Some("NO_QUORUM"), 1, "too few", false),
                (Kind::Set, "RESOURCE_EXHAUSTED", Some("NOT_APPLIED"), 2, "full", true),
            ]
        );
        assert_eq!(one.failed_latencies.len(), 4);
        assert!(one.of(Kind::Set).latencies.is_empty());
    }
}
