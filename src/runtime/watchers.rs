//! The clients that watch, and what waits for them.
//!
//! Contract: an event goes into the queue of each watch that it is for, and nobody waits. A watch whose queue is full has a
//! client that reads too slowly. It is closed, after which the client still gets what is in the queue. Where too many bytes
//! wait, the watch with the most is closed, and what waits for it is dropped: a client that reads nothing would keep them for
//! ever, and the watches of others would be closed in its place. In both cases the last cursor that the client got is the
//! place to go on.
//!
//! Bounds: [`WATCH_EVENTS_WAITING_MAX`] events for each watch, and [`WATCH_BYTES_WAITING_MAX`] bytes of values for all.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::limits::{WATCH_BYTES_WAITING_MAX, WATCH_EVENTS_WAITING_MAX};
use crate::metrics::Metrics;
use crate::protocol::Unready;
use crate::protocol::news::{WatchEvent, WatchId, WatchNews};
use crate::protocol::watch::Watches;
use crate::types::{Content, Value};

use super::event::Event;

/// Why a watch has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEnded {
    /// The node takes no requests, or no longer.
    Unready(Unready),
    /// Its table was dropped.
    TableDropped,
    /// The client reads too slowly.
    TooSlow,
    /// The node has ended.
    Ended,
}

/// The events of one watch, for its client. To drop it ends the watch.
pub struct WatchStream {
    id: WatchId,
    queue: Arc<Queue>,
    event_loop: mpsc::Sender<Event>,
}

/// What a watch's two ends share.
pub struct Queue {
    waiting: Mutex<Waiting>,
    /// An event has come, or the watch has ended.
    changed: Notify,
    /// The bytes of values that wait for all watches of the node.
    bytes_of_all: Arc<AtomicUsize>,
}

/// The events that wait for a client.
#[derive(Default)]
struct Waiting {
    events: VecDeque<Arc<WatchNews>>,
    /// The bytes of values among them.
    bytes: usize,
    /// Why no more events come.
    ended: Option<WatchEnded>,
}

/// The result of a push.
enum Pushed {
    Waits,
    /// As many events wait as may.
    Full,
    /// The client is gone.
    Closed,
}

/// A watch, at the end of the event loop. To drop it ends the stream after what waits.
pub struct Watcher {
    queue: Arc<Queue>,
    /// Whether its client wants values.
    values: bool,
}

/// The watches of all clients of a node.
pub(super) struct Watchers {
    running: HashMap<WatchId, Watcher>,
    /// Those that have ended, for the protocol.
    ended: Vec<WatchId>,
    metrics: Arc<Metrics>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, news: &Arc<WatchNews>, bytes: usize) -> Pushed {
        let mut waiting = self.waiting();
        if waiting.ended.is_some() {
            return Pushed::Closed;
        }
        if waiting.events.len() == WATCH_EVENTS_WAITING_MAX {
            return Pushed::Full;
        }
        waiting.events.push_back(Arc::clone(news));
        waiting.bytes += bytes;
        self.bytes_of_all.fetch_add(bytes, Ordering::Relaxed);
        drop(waiting);
        self.changed.notify_one();
        Pushed::Waits
    }

    fn pop(&self) -> Option<Result<Arc<WatchNews>, WatchEnded>> {
        let mut waiting = self.waiting();
        let Some(news) = waiting.events.pop_front() else { return waiting.ended.clone().map(Err) };
        let bytes = value_bytes(&news);
        waiting.bytes -= bytes;
        self.bytes_of_all.fetch_sub(bytes, Ordering::Relaxed);
        Some(Ok(news))
    }

    /// No more events come. The first reason counts.
    fn end(&self, why: WatchEnded) {
        self.waiting().ended.get_or_insert(why);
        self.changed.notify_one();
    }

    /// Drops what waits.
    fn clear(&self) {
        let mut waiting = self.waiting();
        self.bytes_of_all.fetch_sub(std::mem::take(&mut waiting.bytes), Ordering::Relaxed);
        let events = std::mem::take(&mut waiting.events);
        drop(waiting);
        drop(events);
    }
}

/// Both ends of a new watch. `bytes_of_all` counts the values that wait for any watch of the node.
pub(super) fn watch(
    id: WatchId,
    values: bool,
    bytes_of_all: Arc<AtomicUsize>,
    event_loop: mpsc::Sender<Event>,
) -> (Watcher, WatchStream) {
    let queue = Arc::new(Queue { waiting: Mutex::default(), changed: Notify::new(), bytes_of_all });
    (Watcher { queue: Arc::clone(&queue), values }, WatchStream { id, queue, event_loop })
}

impl WatchStream {
    /// The client has taken the page of what is there that came last: the next one may be gathered.
    pub async fn page_taken(&self) {
        // Where the node has ended, the next event says so.
        let _ = self.event_loop.send(Event::WatchPageTaken(self.id)).await;
    }

    /// The next event, or why there are no more.
    ///
    /// # Errors
    /// [`WatchEnded`], after the last event.
    pub async fn next(&mut self) -> Result<Arc<WatchNews>, WatchEnded> {
        loop {
            if let Some(next) = self.queue.pop() {
                return next;
            }
            self.queue.changed.notified().await;
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.queue.end(WatchEnded::Ended);
        self.queue.clear();
        // Where the loop's queue is full, the loop notices with the next event for the watch, a heartbeat at the latest.
        let _ = self.event_loop.try_send(Event::Unwatch(self.id));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.queue.end(WatchEnded::Ended);
    }
}

impl Watchers {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { running: HashMap::new(), ended: Vec::new(), metrics }
    }

    pub(super) fn add(&mut self, id: WatchId, watcher: Watcher) {
        self.running.insert(id, watcher);
        self.count();
    }

    /// The client of a watch is gone. Returns whether the protocol does not know yet.
    pub(super) fn remove(&mut self, id: WatchId) -> bool {
        let was_there = self.running.remove(&id).is_some();
        self.count();
        was_there
    }

    /// Takes the watches that have ended since the last call.
    pub(super) fn take_ended(&mut self) -> Vec<WatchId> {
        std::mem::take(&mut self.ended)
    }

    /// Tells `to` of an event. Watches end where the node is `unready`.
    pub(super) fn tell(&mut self, to: Vec<WatchId>, news: WatchNews, unready: impl FnOnce() -> Option<Unready>) {
        match &news.event {
            WatchEvent::Reset => {
                self.metrics.watch_resets.inc_by(to.len() as u64);
            }
            WatchEvent::Ended => {
                let ended = unready().map_or(WatchEnded::Ended, WatchEnded::Unready);
                for id in to {
                    if let Some(watcher) = self.running.remove(&id) {
                        watcher.queue.end(ended.clone());
                    }
                }
                return self.count();
            }
            WatchEvent::TableDropped => {
                for id in to {
                    if let Some(watcher) = self.running.remove(&id) {
                        watcher.queue.end(WatchEnded::TableDropped);
                    }
                }
                return self.count();
            }
            WatchEvent::Ready | WatchEvent::Listed(_) | WatchEvent::Changed { .. } | WatchEvent::Heartbeat => {}
        }
        self.metrics.watch_events.inc_by(to.len() as u64);
        let (bare, news) = (without_value(&news).map(Arc::new), Arc::new(news));
        let bytes = value_bytes(&news);
        for id in to {
            let Some(watcher) = self.running.get(&id) else { continue };
            let (news, bytes) = match &bare {
                Some(bare) if !watcher.values => (bare, 0),
                _ => (&news, bytes),
            };
            match watcher.queue.push(news, bytes) {
                Pushed::Waits => self.make_room(id),
                Pushed::Full => self.end_slow(id),
                Pushed::Closed => {
                    self.running.remove(&id);
                    self.ended.push(id);
                    self.count();
                }
            }
        }
    }

    /// Ends the watch for which the most bytes wait, where too many wait for all, and drops them. The one that got the last
    /// event is ended only where others wait as well: a single value always fits.
    fn make_room(&mut self, last: WatchId) {
        let Some(watcher) = self.running.get(&last) else { return };
        if watcher.queue.bytes_of_all.load(Ordering::Relaxed) <= WATCH_BYTES_WAITING_MAX {
            return;
        }
        let most = self.running.iter().map(|(id, watcher)| (watcher.queue.waiting().bytes, *id)).max();
        if let Some((bytes, id)) = most
            && bytes > 0
        {
            if let Some(watcher) = self.running.get(&id) {
                watcher.queue.end(WatchEnded::TooSlow);
                watcher.queue.clear();
            }
            self.end_slow(id);
        }
    }

    fn end_slow(&mut self, id: WatchId) {
        if let Some(watcher) = self.running.remove(&id) {
            watcher.queue.end(WatchEnded::TooSlow);
            self.metrics.watches_too_slow.inc();
            self.ended.push(id);
        }
        self.count();
    }

    /// Counts the keys that watches wait for.
    pub(super) fn count_waiting(&self, watches: &Watches) {
        if !self.running.is_empty() {
            self.metrics.watch_changes_waiting.set(i64::try_from(watches.waiting()).unwrap_or(i64::MAX));
        }
    }

    fn count(&self) {
        if self.running.is_empty() {
            self.metrics.watch_changes_waiting.set(0);
        }
        self.metrics.watches.set(i64::try_from(self.running.len()).unwrap_or(i64::MAX));
    }
}

fn value_bytes(news: &WatchNews) -> usize {
    match &news.event {
        WatchEvent::Changed { record: Some(record), .. } => record.content.value_bytes(),
        WatchEvent::Listed(keys) => keys.iter().map(|(key, listed)| listed.bytes(key)).sum(),
        _ => 0,
    }
}

/// The same event, with an empty value in place of the value; `None` for an event without one. A page of what is there has
/// values only where its watch wants them.
fn without_value(news: &WatchNews) -> Option<WatchNews> {
    if !matches!(&news.event, WatchEvent::Changed { record: Some(record), .. } if record.is_value()) {
        return None;
    }
    let mut news = news.clone();
    if let WatchEvent::Changed { record: Some(record), .. } = &mut news.event {
        record.content = Content::Value(Value::Binary(Bytes::new()));
    }
    Some(news)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::news::Cursor;
    use crate::types::{Checksum, Clock, Key, NodeId, Record, Stamp, Version};

    fn heartbeat() -> WatchNews {
        WatchNews { cursor: Cursor::default(), event: WatchEvent::Heartbeat }
    }

    fn put(bytes: usize) -> WatchNews {
        let (key, content) = (Key::new("k").unwrap(), Content::Value(Value::Binary(vec![0; bytes].into())));
        let stamp = Stamp { clock: Clock { epoch: 1, counter: 1 }, writer: NodeId::new("1").unwrap() };
        let record = Record::plain(stamp, content.clone(), Checksum::of(&key, &content));
        let version: Version = record.version();
        WatchNews { cursor: Cursor::default(), event: WatchEvent::Changed { key, version, record: Some(record) } }
    }

    struct Fixture {
        watchers: Watchers,
        bytes: Arc<AtomicUsize>,
        event_loop: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    }

    fn fixture() -> Fixture {
        let watchers = Watchers::new(Arc::default());
        Fixture { watchers, bytes: Arc::default(), event_loop: mpsc::channel(8) }
    }

    impl Fixture {
        fn watch(&mut self, id: u64, values: bool) -> WatchStream {
            let id = WatchId(id);
            let (watcher, stream) = watch(id, values, Arc::clone(&self.bytes), self.event_loop.0.clone());
            self.watchers.add(id, watcher);
            stream
        }
    }

    #[tokio::test]
    async fn slow_watch_is_ended_after_what_waits_and_others_go_on() {
        let mut fixture = fixture();
        let (mut slow, mut quick) = (fixture.watch(1, false), fixture.watch(2, false));
        for _ in 0..=WATCH_EVENTS_WAITING_MAX {
            fixture.watchers.tell(vec![WatchId(1), WatchId(2)], heartbeat(), || None);
            assert_eq!(quick.next().await, Ok(Arc::new(heartbeat())));
        }
        assert_eq!(fixture.watchers.take_ended(), [WatchId(1)]);
        for _ in 0..WATCH_EVENTS_WAITING_MAX {
            assert_eq!(slow.next().await, Ok(Arc::new(heartbeat())));
        }
        assert_eq!(slow.next().await, Err(WatchEnded::TooSlow));
        assert_eq!(fixture.watchers.metrics.watches_too_slow.get(), 1);
        fixture.watchers.tell(vec![WatchId(2)], heartbeat(), || None);
        assert_eq!(quick.next().await, Ok(Arc::new(heartbeat())));
    }

    #[tokio::test]
    async fn watch_with_the_most_bytes_is_ended_where_too_many_wait() {
        let mut fixture = fixture();
        let (mut greedy, _modest, _bare) = (fixture.watch(1, true), fixture.watch(2, true), fixture.watch(3, false));
        let large = 64 << 20;
        for _ in 0..3 {
            fixture.watchers.tell(vec![WatchId(1), WatchId(3)], put(large), || None);
        }
        fixture.watchers.tell(vec![WatchId(2)], put(large), || None);
        assert_eq!(fixture.watchers.take_ended(), [], "as much as may wait");
        fixture.watchers.tell(vec![WatchId(2)], put(1), || None);
        assert_eq!(fixture.watchers.take_ended(), [WatchId(1)]);
        assert_eq!(fixture.bytes.load(Ordering::Relaxed), large + 1, "given back, although its client reads nothing");
        for _ in 0..2 {
            fixture.watchers.tell(vec![WatchId(2)], put(large), || None);
        }
        assert_eq!(fixture.watchers.take_ended(), [], "nobody is ended in its place");
        assert_eq!(greedy.next().await, Err(WatchEnded::TooSlow));
    }

    #[tokio::test]
    async fn client_that_leaves_gives_its_bytes_back_and_ends_the_watch() {
        let mut fixture = fixture();
        let stream = fixture.watch(1, true);
        fixture.watchers.tell(vec![WatchId(1)], put(1_000), || None);
        assert_eq!(fixture.bytes.load(Ordering::Relaxed), 1_000);
        drop(stream);
        assert_eq!(fixture.bytes.load(Ordering::Relaxed), 0);
        assert!(matches!(fixture.event_loop.1.try_recv(), Ok(Event::Unwatch(WatchId(1)))));
        assert!(fixture.watchers.remove(WatchId(1)), "the protocol is to be told");
        assert!(!fixture.watchers.remove(WatchId(1)));
    }

    #[tokio::test]
    async fn value_is_kept_only_for_those_who_want_it() {
        let mut fixture = fixture();
        let (mut with, mut without) = (fixture.watch(1, true), fixture.watch(2, false));
        fixture.watchers.tell(vec![WatchId(1), WatchId(2)], put(10), || None);
        assert_eq!(with.next().await, Ok(Arc::new(put(10))));
        assert_eq!(value_bytes(&without.next().await.unwrap()), 0);
    }
}
