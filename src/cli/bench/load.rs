//! The load itself: workers that send one request at a time each, over connections that they share.
//!
//! Contract: never more requests are under way than there are workers. In a closed loop each worker sends the next
//! request when it has its answer; in an open loop when the next one is due. At the end of a closed loop what is under
//! way is given up and counted as unfinished; at the end of an open loop it is waited for, up to its deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::keys::Keys;
use super::mix::{Kind, Mix};
use super::progress::Progress;
use super::schedule::{LATE_AFTER, Schedule};
use super::tally::{Outcome, Second, Tally, Totals};
use super::values::Values;
use crate::api;
use crate::api::cluster_client::ClusterClient;
use crate::api::entry::Content;

/// How many keys are written at once before the load.
const FILL_IN_FLIGHT: usize = 256;
/// How often the write of one of them is tried.
const FILL_TRIES: u32 = 10;
/// How long it waits before it is tried again; doubled each time.
const FILL_RETRY_AFTER: Duration = Duration::from_millis(20);
/// How long an answer may take beyond its deadline before the generator stops to wait for it.
const GRACE: Duration = Duration::from_millis(500);

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// As answers come.
    Closed,
    /// So many a second, whatever comes.
    Open { rate: f64 },
}

/// What is sent, how and where to.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) clients: Vec<ClusterClient<Channel>>,
    pub(super) keys: Keys,
    pub(super) values: Values,
    pub(super) mix: Mix,
    pub(super) pace: Pace,
    pub(super) in_flight: usize,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    pub(super) timeout: Duration,
    pub(super) pause_after_failure: Duration,
    pub(super) seed: u64,
}

/// What came out of it.
#[derive(Debug)]
pub(super) struct Measured {
    /// How long was measured: less than asked for where the user has ended it.
    pub(super) length: Duration,
    pub(super) totals: Totals,
    pub(super) seconds: Vec<Second>,
    /// Requests without an answer at the end.
    pub(super) unfinished: u64,
    /// Requests of an open loop that were due and never sent.
    pub(super) missed: u64,
}

/// Called at the beginning of the measured time and at its end.
pub(super) trait Observer {
    fn begins(&mut self);
    fn ends(&mut self);
}

impl Load {
    /// Writes every key once. How many of them were written when `shutdown` was cancelled, or all.
    ///
    /// # Errors
    /// With the key and what the nodes said, when one cannot be written.
    pub(super) async fn fill(
        self: &Arc<Self>,
        progress: &Progress,
        shutdown: &CancellationToken,
    ) -> Result<u64, String> {
        let count = self.keys.count();
        let next = Arc::new(AtomicU64::new(0));
        let written = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..FILL_IN_FLIGHT.min(usize::try_from(count).unwrap_or(FILL_IN_FLIGHT)) {
            let (load, next, written) = (Arc::clone(self), Arc::clone(&next), Arc::clone(&written));
            workers.spawn(async move {
                let mut sender = Sender::new(&load, worker);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok(());
                    }
                    sender.write_surely(number).await?;
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
                () = progress.tick() => progress.filled(written.load(Ordering::Relaxed), count),
            }
        }
        Ok(written.load(Ordering::Relaxed))
    }

    /// Runs the load to its end, or until `shutdown` is cancelled.
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
        let under_way = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for number in 0..self.in_flight {
            let worker = Worker {
                load: Arc::clone(self),
                number,
                tally: Arc::clone(&tally),
                schedule: schedule.clone(),
                under_way: Arc::clone(&under_way),
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
        let unfinished = under_way.load(Ordering::Relaxed);
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

/// Waits for `moment`, or for the user's patience to end, and shows how far it is meanwhile.
async fn wait_until(moment: Instant, progress: &Progress, shutdown: &CancellationToken, show: impl Fn(Instant)) {
    let there = tokio::time::sleep_until(moment.into());
    tokio::pin!(there);
    loop {
        tokio::select! {
            () = &mut there => return,
            () = shutdown.cancelled() => return,
            () = progress.tick() => show(Instant::now()),
        }
    }
}

/// One request at a time.
struct Worker {
    load: Arc<Load>,
    number: usize,
    tally: Arc<Tally>,
    schedule: Option<Arc<Schedule>>,
    under_way: Arc<AtomicU64>,
}

impl Worker {
    async fn run(self) {
        let mut sender = Sender::new(&self.load, self.number);
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
            self.under_way.fetch_add(1, Ordering::Relaxed);
            let (kind, outcome) = sender.send_drawn().await;
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            let failed = matches!(outcome, Outcome::Failed(_));
            self.tally.record(self.number, kind, began, outcome);
            if failed && self.schedule.is_none() && !self.load.pause_after_failure.is_zero() {
                tokio::time::sleep(self.load.pause_after_failure).await;
            }
        }
    }
}

/// Draws requests and sends them to one node after the other.
struct Sender {
    load: Arc<Load>,
    clients: Vec<ClusterClient<Channel>>,
    turn: usize,
    random: SmallRng,
    /// The header `grpc-timeout`, made once.
    deadline: MetadataValue<Ascii>,
}

impl Sender {
    fn new(load: &Arc<Load>, number: usize) -> Self {
        // Any odd factor will do: neighbours must not draw alike.
        let seed = load.seed.wrapping_add((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let deadline = format!("{}u", load.timeout.as_micros()).parse().expect("a number and a letter are ASCII");
        let clients = load.clients.clone();
        let random = SmallRng::seed_from_u64(seed);
        Self { load: Arc::clone(load), turn: number % clients.len(), clients, random, deadline }
    }

    async fn send_drawn(&mut self) -> (Kind, Outcome) {
        let kind = self.load.mix.pick(&mut self.random);
        let number = self.load.keys.draw(&mut self.random);
        (kind, self.send(kind, number).await.unwrap_or_else(Outcome::Failed))
    }

    async fn send(&mut self, kind: Kind, number: u64) -> Result<Outcome, Status> {
        let key = self.load.keys.name(number);
        self.turn = (self.turn + 1) % self.clients.len();
        match kind {
            Kind::Get => {
                let request = self.request(api::GetRequest { key });
                let answer = self.clients[self.turn].get(request).await?.into_inner();
                let found = answer.entry.is_some();
                let bytes = match answer.entry.and_then(|entry| entry.content) {
                    Some(Content::Binary(value)) => value.len(),
                    Some(Content::Value(text)) => text.len(),
                    None => 0,
                };
                Ok(Outcome::Done { found, bytes })
            }
            Kind::Set => {
                let value = self.load.values.draw(&mut self.random);
                let bytes = value.len();
                let entry = Some(api::Entry { key, content: Some(Content::Binary(value)) });
                let request = self.request(api::SetRequest { entry });
                self.clients[self.turn].set(request).await?;
                Ok(Outcome::Done { found: false, bytes })
            }
            Kind::Delete => {
                let request = self.request(api::DeleteRequest { key });
                self.clients[self.turn].delete(request).await?;
                Ok(Outcome::Done { found: false, bytes: 0 })
            }
        }
    }

    /// Writes a key, again and again if need be: it is the same to the load whether it was written once or twice.
    async fn write_surely(&mut self, number: u64) -> Result<(), String> {
        let mut retry_after = FILL_RETRY_AFTER;
        let mut tries = 1;
        loop {
            match self.send(Kind::Set, number).await {
                Ok(_) => return Ok(()),
                Err(status) if tries == FILL_TRIES => {
                    let name = self.load.keys.name(number);
                    return Err(format!("key {name} could not be written in {tries} tries: {}", status.message()));
                }
                Err(_) => {
                    tokio::time::sleep(retry_after).await;
                    retry_after *= 2;
                    tries += 1;
                }
            }
        }
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("grpc-timeout", self.deadline.clone());
        request
    }
}

/// Opens `connections` connections to each of `endpoints`, the addresses in turn. Those that cannot be made now are
/// made when they are used: a load may be put on a cluster of which a node is down.
///
/// # Errors
/// When not one can be made: with what the last one said.
pub(super) async fn connect(
    endpoints: &[tonic::transport::Endpoint],
    connections: usize,
    in_flight: usize,
) -> Result<Vec<ClusterClient<Channel>>, String> {
    let mut clients = Vec::with_capacity(connections * endpoints.len());
    let mut last_problem = None;
    let mut connected = false;
    for endpoint in std::iter::repeat_n(endpoints, connections).flatten() {
        // A request never waits for a place in the connection's queue: that would be a latency of the generator.
        let endpoint = endpoint.clone().buffer_size(in_flight.max(FILL_IN_FLIGHT));
        let channel = match endpoint.connect().await {
            Ok(channel) => {
                connected = true;
                channel
            }
            Err(error) => {
                last_problem =
                    Some(format!("{}: {}", endpoint.uri().authority().map_or("", |it| it.as_str()), whole(&error)));
                endpoint.connect_lazy()
            }
        };
        clients.push(crate::api::sized!(ClusterClient::new(channel)));
    }
    match last_problem {
        Some(problem) if !connected => Err(problem),
        _ => Ok(clients),
    }
}

/// An error and its causes, in one line.
fn whole(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
