//! The due times of the requests of an open loop.
//!
//! Contract: request n is due n / rate seconds after the beginning, whether earlier requests were answered or not. Its latency
//! counts from then, so that a server cannot hide a stall by holding back the generator (coordinated omission). Requests for
//! which no worker was free are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// A request that is sent this long after it was due counts as late. Timers and threads need less.
pub(super) const LATE_AFTER: Duration = Duration::from_millis(1);
/// The shortest sleep of the releasing thread. At high rates several requests are due after one sleep.
const LOOK_AFTER_MIN: Duration = Duration::from_micros(100);
/// The longest sleep of the releasing thread, so that it ends soon after the run.
const LOOK_AFTER_MAX: Duration = Duration::from_millis(100);
/// How long the last requests may wait for a free worker.
const LAST_CHANCE: Duration = Duration::from_millis(10);

/// The due times of one run.
#[derive(Debug)]
pub(super) struct Schedule {
    begin: Instant,
    rate: f64,
    /// The number of requests due before the end.
    count: u64,
    taken: AtomicU64,
    due: Semaphore,
}

impl Schedule {
    /// `rate` requests a second from `begin` on for `length`. A thread of its own releases them, because the runtime's timers
    /// have a resolution of a millisecond.
    pub(super) fn start(begin: Instant, rate: f64, length: Duration) -> Arc<Self> {
        let schedule = Arc::new(Self::new(begin, rate, length));
        let releasing = Arc::clone(&schedule);
        thread::spawn(move || releasing.release());
        schedule
    }

    fn new(begin: Instant, rate: f64, length: Duration) -> Self {
        let count = due_within(rate, length);
        Self { begin, rate, count, taken: AtomicU64::new(0), due: Semaphore::new(0) }
    }

    /// Waits until the next request is due, and returns its due time. `None` after the last one.
    pub(super) async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        Some(self.begin + due_at(self.rate, self.taken.fetch_add(1, Ordering::Relaxed)))
    }

    /// Ends the schedule: no further request is handed out.
    pub(super) fn end(&self) {
        self.due.close();
    }

    /// The number of requests that were due between `from` and `until`, both since the beginning, and were never sent.
    pub(super) fn missed(&self, from: Duration, until: Duration) -> u64 {
        let (first, end) = (due_within(self.rate, from), due_within(self.rate, until).min(self.count));
        end.saturating_sub(self.taken.load(Ordering::Relaxed).max(first))
    }

    fn release(&self) {
        let mut released = 0;
        while released < self.count && !self.due.is_closed() {
            let due = due_by(self.rate, self.begin.elapsed()).min(self.count);
            if due > released {
                self.due.add_permits(usize::try_from(due - released).unwrap_or(Semaphore::MAX_PERMITS));
                released = due;
            }
            let next = (self.begin + due_at(self.rate, released)).saturating_duration_since(Instant::now());
            thread::sleep(next.clamp(LOOK_AFTER_MIN, LOOK_AFTER_MAX));
        }
        thread::sleep(LAST_CHANCE);
        self.end();
    }
}

/// The due time of request `number`, counted from 0.
fn due_at(rate: f64, number: u64) -> Duration {
    Duration::from_secs_f64(number as f64 / rate)
}

/// The number of requests due at `elapsed` or before.
fn due_by(rate: f64, elapsed: Duration) -> u64 {
    whole(elapsed.as_secs_f64() * rate) + 1
}

/// The number of requests due before `length`.
fn due_within(rate: f64, length: Duration) -> u64 {
    whole((length.as_secs_f64() * rate).ceil())
}

/// The command line bounds rate and duration so that their product is far from the limits of either type.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn requests_are_due_at_even_distances() {
        assert_eq!(due_at(4.0, 0), Duration::ZERO);
        assert_eq!(due_at(4.0, 1), Duration::from_millis(250));
        assert_eq!(due_at(4.0, 40), 10 * SECOND);
        // No rounding adds up: after an hour at a rate that no binary fraction has.
        let hour = due_at(30_000.3, 108_001_080);
        assert!(hour.abs_diff(3_600 * SECOND) < Duration::from_micros(1), "{hour:?}");
    }

    #[test]
    fn first_request_is_due_at_once() {
        assert_eq!(due_by(4.0, Duration::ZERO), 1);
        assert_eq!(due_by(4.0, Duration::from_millis(249)), 1);
        assert_eq!(due_by(4.0, Duration::from_millis(250)), 2);
        assert_eq!((due_within(4.0, SECOND), due_within(4.0, Duration::ZERO)), (4, 0));
        assert_eq!(due_within(4.0, Duration::from_millis(1_001)), 5);
    }

    #[tokio::test]
    async fn each_due_time_is_given_out_once_in_order() {
        let begin = Instant::now();
        let schedule = Schedule::start(begin, 10_000.0, Duration::from_millis(20));
        let mut given = Vec::new();
        while let Some(due) = schedule.next().await {
            assert!(Instant::now() >= due);
            given.push(due - begin);
        }
        let expected: Vec<Duration> = (0..200).map(|number| due_at(10_000.0, number)).collect();
        assert_eq!(given, expected);
        assert_eq!(schedule.missed(Duration::ZERO, SECOND), 0);
    }

    #[tokio::test]
    async fn requests_that_are_not_taken_are_missed() {
        let schedule = Schedule::new(Instant::now(), 10.0, SECOND);
        schedule.due.add_permits(10);
        for _ in 0..3 {
            schedule.next().await.unwrap();
        }
        schedule.end();
        assert_eq!(schedule.next().await, None);
        assert_eq!(schedule.missed(Duration::ZERO, SECOND), 7);
        assert_eq!(schedule.missed(Duration::from_millis(500), SECOND), 5);
        assert_eq!(schedule.missed(Duration::ZERO, Duration::from_millis(500)), 2);
    }
}
