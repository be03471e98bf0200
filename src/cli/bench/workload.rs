//! The workload: workers that each send one request at a time, over connections that they share.
//!
//! Contract: the requests in flight are never more than the workers. In a closed loop a worker sends its next request when
//! it has an answer, in an open loop when the next request is due. At the end of a closed loop the requests in flight are
//! given up and counted as unfinished. At the end of an open loop they are awaited, up to their deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::etcd::Etcd;
use super::keys::Keys;
use super::mix::Mix;
use super::progress::Progress;
use super::route::Route;
use super::schedule::{LATE_AFTER, Schedule};
use super::sender::Sender;
use super::tally::{Outcome, Second, Tally, Totals};
use super::values::Values;
use super::watchers::Watchers;
use crate::api::cluster_client::ClusterClient;
use crate::resolve::NodeChannel;

/// The writes in flight while keys are preloaded.
pub(super) const PRELOAD_IN_FLIGHT: usize = 256;
/// How long the generator waits for an answer beyond its deadline.
const GRACE: Duration = Duration::from_millis(500);

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// Closed loop: a request for each answer.
    Closed,
    /// Open loop: `rate` requests a second, whatever is answered.
    Open { rate: f64 },
}

/// The requests of a run, their pace and their targets.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) clients: Vec<ClusterClient<NodeChannel>>,
    /// The same connections, where etcd is at their other ends.
    pub(super) etcd: Vec<Etcd>,
    /// Which of them lead to the replicas of a key, where that is wanted.
    pub(super) route: Option<Route>,
    pub(super) keys: Keys,
    /// The table of the keys, as requests name it.
    pub(super) table: String,
    pub(super) values: Values,
    pub(super) mix: Mix,
    /// The keys that a list asks for.
    pub(super) list_keys: u32,
    pub(super) list_values: bool,
    pub(super) watchers: Arc<Watchers>,
    pub(super) pace: Pace,
    pub(super) in_flight: usize,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    pub(super) timeout: Duration,
    pub(super) pause_after_failure: Duration,
    pub(super) seed: u64,
}

/// The measurements of a run.
#[derive(Debug)]
pub(super) struct Measured {
    /// The measured time: shorter than asked for if the user ended the run.
    pub(super) length: Duration,
    pub(super) totals: Totals,
    pub(super) seconds: Vec<Second>,
    /// Requests in flight at the end.
    pub(super) unfinished: u64,
    /// Requests of an open loop that were due and were never sent.
    pub(super) missed: u64,
}

/// Told when the measured time begins and ends.
pub(super) trait Observer {
    fn begins(&mut self);
    fn ends(&mut self);
}

impl Workload {
    /// Writes every key once, until `shutdown`. Returns the number of keys written.
    ///
    /// # Errors
    /// When a key cannot be written: names the key and the last answer.
    pub(super) async fn preload(
        self: &Arc<Self>,
        progress: &Progress,
        shutdown: &CancellationToken,
    ) -> Result<u64, String> {
        let count = self.keys.count();
        let next = Arc::new(AtomicU64::new(0));
        let written = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..PRELOAD_IN_FLIGHT.min(usize::try_from(count).unwrap_or(PRELOAD_IN_FLIGHT)) {
            let (workload, next, written) = (Arc::clone(self), Arc::clone(&next), Arc::clone(&written));
            workers.spawn(async move {
                let mut sender = Sender::new(&workload, worker);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok(());
                    }
                    sender.write_with_retries(number).await?;
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        loop {
            tokio::select! {
                ended = workers.join_next() => match ended {
                    None => break,
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(problem))) => return Err(problem),
                    Some(Err(error)) => return Err(error.to_string()),
                },
                () = shutdown.cancelled() => break,
                () = progress.tick() => progress.preloaded(written.load(Ordering::Relaxed), count),
            }
        }
        Ok(written.load(Ordering::Relaxed))
    }

    /// Runs to the end, or until `shutdown`.
    pub(super) async fn run(
        self: &Arc<Self>,
        observer: &mut impl Observer,
        progress: &Progress,
        shutdown: &CancellationToken,
    ) -> Measured {
        let begin = Instant::now();
        let from = begin + self.warm_up;
        let until = from + self.duration;
        let schedule = match self.pace {
            Pace::Closed => None,
            Pace::Open { rate } => Some(Schedule::start(begin, rate, self.warm_up + self.duration)),
        };
        let tally = Arc::new(Tally::new(from, until, schedule.is_some()));
        let in_flight_now = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for number in 0..self.in_flight {
            let worker = Worker {
                workload: Arc::clone(self),
                number,
                tally: Arc::clone(&tally),
                schedule: schedule.clone(),
                in_flight_now: Arc::clone(&in_flight_now),
            };
            workers.spawn(worker.run());
        }

        let shown = |now: Instant| progress.running(tally.answered(), now - begin, self.warm_up + self.duration);
        wait_until(from, progress, shutdown, shown).await;
        observer.begins();
        wait_until(until, progress, shutdown, shown).await;
        observer.ends();
        let ended = Instant::now().min(until);

        if let Some(schedule) = &schedule {
            if shutdown.is_cancelled() {
                schedule.end();
            }
            let all_answered = async { while workers.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(self.timeout + GRACE, all_answered).await;
        }
        let unfinished = in_flight_now.load(Ordering::Relaxed);
        workers.shutdown().await;
        let since_begin = |moment: Instant| moment.saturating_duration_since(begin);
        Measured {
            length: ended.saturating_duration_since(from),
            totals: tally.totals(),
            seconds: tally.seconds(ended),
            unfinished,
            missed: schedule.map_or(0, |schedule| schedule.missed(since_begin(from), since_begin(ended))),
        }
    }
}

/// Waits until `moment` or `shutdown`, and shows the progress meanwhile.
async fn wait_until(moment: Instant, progress: &Progress, shutdown: &CancellationToken, show: impl Fn(Instant)) {
    let sleep = tokio::time::sleep_until(moment.into());
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            () = &mut sleep => return,
            () = shutdown.cancelled() => return,
            () = progress.tick() => show(Instant::now()),
        }
    }
}

/// Sends one request at a time.
struct Worker {
    workload: Arc<Workload>,
    number: usize,
    tally: Arc<Tally>,
    schedule: Option<Arc<Schedule>>,
    in_flight_now: Arc<AtomicU64>,
}

impl Worker {
    async fn run(self) {
        let mut sender = Sender::new(&self.workload, self.number);
        loop {
            let began = match &self.schedule {
                None => Instant::now(),
                Some(schedule) => {
                    let Some(due) = schedule.next().await else { return };
                    if due.elapsed() > LATE_AFTER {
                        self.tally.record_late(self.number, due);
                    }
                    due
                }
            };
            self.in_flight_now.fetch_add(1, Ordering::Relaxed);
            let (kind, outcome) = sender.send_drawn().await;
            self.in_flight_now.fetch_sub(1, Ordering::Relaxed);
            let failed = matches!(outcome, Outcome::Failed(_));
            self.tally.record(self.number, kind, began, outcome);
            if failed && self.schedule.is_none() && !self.workload.pause_after_failure.is_zero() {
                tokio::time::sleep(self.workload.pause_after_failure).await;
            }
        }
    }
}
