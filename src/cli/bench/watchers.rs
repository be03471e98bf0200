//! The watchers of a run, and what they are told.
//!
//! Contract: each worker that writes for the watchers has a key of its own, and writes it again once every watcher was told,
//! or its time is over. So a watcher that is told of that key is told of the last write, or of an earlier one that was given
//! up. The time to an event begins with the acknowledgement of its write; an event that comes before it counts as zero.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::keys::Keys;
use crate::api;
use crate::api::cluster_client::ClusterClient;
use crate::api::watch_request::Keys as Watched;
use crate::api::watch_response::Event;
use crate::resolve::NodeChannel;

/// How long all watchers together may take to begin.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(30);
/// The pause before a watch that broke off goes on at another node.
const PAUSE: Duration = Duration::from_millis(100);

/// The events that the watchers were told, by worker.
#[derive(Debug)]
pub(super) struct Watchers {
    count: usize,
    slots: Box<[Slot]>,
    broken: AtomicU64,
}

/// The last write of one worker.
#[derive(Debug, Default)]
struct Slot {
    write: Mutex<Write>,
    all_told: Notify,
}

#[derive(Debug, Default)]
struct Write {
    /// Its version, and when it was acknowledged.
    acknowledged: Option<(String, Instant)>,
    /// The events that watchers were told before that.
    early: Vec<(usize, String)>,
    /// The watchers that were told of it.
    told: Vec<bool>,
    /// How long after the acknowledgement that was, for each of them.
    waited: Vec<Duration>,
}

impl Watchers {
    /// So many watchers, for the keys of so many workers.
    pub(super) fn new(count: usize, workers: usize) -> Self {
        Self { count, slots: (0..workers).map(|_| Slot::default()).collect(), broken: AtomicU64::new(0) }
    }

    /// How often a watch broke off, and had to go on at another node.
    pub(super) fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// Starts all watchers, spread over `clients`. Returns once each of them is told what is written from then on. They end
    /// when what is returned is dropped.
    ///
    /// # Errors
    /// When a watch is refused, or they do not begin in time.
    pub(super) async fn start(
        self: &Arc<Self>,
        keys: &Keys,
        table: &str,
        clients: &[ClusterClient<NodeChannel>],
        shutdown: &CancellationToken,
    ) -> Result<JoinSet<()>, String> {
        let mut readers = JoinSet::new();
        let (ready, mut begun) = mpsc::channel(self.count);
        for number in 0..self.count {
            let reader = Reader {
                watchers: Arc::clone(self),
                number,
                keys: keys.clone(),
                table: table.to_owned(),
                clients: clients.to_vec(),
                cursor: Bytes::new(),
                ready: Some(ready.clone()),
            };
            readers.spawn(reader.run());
        }
        drop(ready);
        let all_begun = async {
            for _ in 0..self.count {
                begun.recv().await.expect("a watcher says how it begins")?;
            }
            Ok(())
        };
        tokio::select! {
            all_begun = tokio::time::timeout(BEGIN_TIME_MAX, all_begun) => match all_begun {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => return Err(problem),
                Err(_) => return Err(format!("they have not begun within {} s", BEGIN_TIME_MAX.as_secs())),
            },
            () = shutdown.cancelled() => {}
        }
        Ok(readers)
    }

    /// Worker `number` begins a write.
    pub(super) fn begin(&self, number: usize) {
        *lock(&self.slots[number].write) = Write { told: vec![false; self.count], ..Write::default() };
    }

    /// The write of worker `number` is acknowledged. Waits until every watcher was told of it, `timeout` at most. Returns how
    /// long each of them took.
    ///
    /// # Errors
    /// When some were not told in time.
    pub(super) async fn all_told(
        &self,
        number: usize,
        version: String,
        timeout: Duration,
    ) -> Result<Vec<Duration>, Status> {
        let slot = &self.slots[number];
        let is_told = lock(&slot.write).acknowledge(version, Instant::now());
        if !is_told && tokio::time::timeout(timeout, slot.all_told.notified()).await.is_err() {
            let told = lock(&slot.write).waited.len();
            return Err(Status::deadline_exceeded(format!("{told} of {} watchers were told in time", self.count)));
        }
        Ok(std::mem::take(&mut lock(&slot.write).waited))
    }

    fn hear(&self, watcher: usize, number: usize, version: String) {
        let Some(slot) = self.slots.get(number) else { return };
        let now = Instant::now();
        if lock(&slot.write).hear(watcher, version, now) {
            slot.all_told.notify_one();
        }
    }
}

impl Write {
    /// Whether every watcher was told already.
    fn acknowledge(&mut self, version: String, now: Instant) -> bool {
        self.acknowledged = Some((version, now));
        let early = std::mem::take(&mut self.early);
        let mut are_all_told = false;
        for (watcher, version) in early {
            are_all_told |= self.hear(watcher, version, now);
        }
        are_all_told
    }

    /// Whether it was the last watcher that had to be told.
    fn hear(&mut self, watcher: usize, version: String, now: Instant) -> bool {
        let Some((acknowledged, since)) = &self.acknowledged else {
            self.early.push((watcher, version));
            return false;
        };
        // A watch that goes on at another node may tell a version twice.
        if *acknowledged != version || self.told.get(watcher) != Some(&false) {
            return false;
        }
        self.told[watcher] = true;
        self.waited.push(now.saturating_duration_since(*since));
        self.waited.len() == self.told.len()
    }
}

/// One watcher.
struct Reader {
    watchers: Arc<Watchers>,
    number: usize,
    keys: Keys,
    table: String,
    clients: Vec<ClusterClient<NodeChannel>>,
    cursor: Bytes,
    /// Told once how the watch begins.
    ready: Option<mpsc::Sender<Result<(), String>>>,
}

impl Reader {
    async fn run(mut self) {
        let mut turn = self.number;
        loop {
            let status = self.read(turn).await;
            if let Some(ready) = self.ready.take() {
                let _ = ready.send(Err(format!("{:?}: {}", status.code(), status.message()))).await;
                return;
            }
            self.watchers.broken.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
            turn += 1;
        }
    }

    /// Reads from one node, until it fails.
    async fn read(&mut self, turn: usize) -> Status {
        let client = turn % self.clients.len();
        let keys = Some(Watched::Prefix(self.keys.watched_prefix()));
        let request =
            api::WatchRequest { keys, table: self.table.clone(), cursor: self.cursor.clone(), ..Default::default() };
        let mut events = match self.clients[client].watch(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return status,
        };
        loop {
            let response = match events.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Status::new(Code::Unavailable, "the watch has ended"),
                Err(status) => return status,
            };
            self.cursor = response.cursor;
            match response.event {
                Some(Event::Put(put)) => {
                    if let Some(number) = self.keys.watched_number(&put.key) {
                        self.watchers.hear(self.number, number, put.version);
                    }
                }
                Some(Event::Ready(_)) => {
                    if let Some(ready) = self.ready.take() {
                        let _ = ready.send(Ok(())).await;
                    }
                }
                Some(Event::Deleted(_) | Event::Reset(_) | Event::Heartbeat(_)) | None => {}
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn write_ends_when_every_watcher_was_told_of_its_version() {
        let watchers = Arc::new(Watchers::new(2, 1));
        watchers.begin(0);
        watchers.hear(0, 0, "earlier".into());
        watchers.hear(0, 0, "v".into());
        let told = {
            let watchers = Arc::clone(&watchers);
            tokio::spawn(async move { watchers.all_told(0, "v".into(), Duration::from_mins(1)).await })
        };
        while lock(&watchers.slots[0].write).acknowledged.is_none() {
            tokio::task::yield_now().await;
        }
        watchers.hear(0, 0, "v".into());
        watchers.hear(1, 0, "earlier".into());
        assert!(!told.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
        watchers.hear(1, 0, "v".into());
        let waited = told.await.unwrap().unwrap();
        assert_eq!((waited.len(), waited[0]), (2, Duration::ZERO), "one came before the acknowledgement");
        assert!(waited[1] >= Duration::from_millis(5));

        watchers.begin(0);
        for watcher in [0, 1] {
            watchers.hear(watcher, 0, "w".into());
        }
        let waited = watchers.all_told(0, "w".into(), Duration::from_mins(1)).await.unwrap();
        assert_eq!(waited, [Duration::ZERO; 2]);
        watchers.begin(0);
        watchers.hear(1, 0, "x".into());
        let late = watchers.all_told(0, "x".into(), Duration::from_millis(10)).await.unwrap_err();
        assert_eq!((late.code(), late.message()), (Code::DeadlineExceeded, "1 of 2 watchers were told in time"));
    }
}
