//! A running node: the event loop that owns the protocol's state, and the threads and links that wait for it.
//!
//! | file | holds |
//! |---|---|
//! | `event_loop` | the owner of a node's state: takes events, applies effects |
//! | `fair_queue` | whose request begins next, where several clients have many |
//! | `commit_thread` | the thread that makes batches durable, and the reopening of a store |
//! | `disk_room` | the free space of the disk, and whether it is enough for copies of other nodes' records |
//! | `reads` | reads of the store, from memory and from the disk |
//! | `links` | the links that the node opens, as the members change |
//! | `mending` | what becomes of a damaged store, for those who ask |
//! | `members` | the layout, the members and their changes, for those who ask |
//! | `replies` | the ways back for replies |
//! | `scrub` | the thread that reads the store to verify it |
//! | `scans` | scans of the store's index of keys, for lists |
//! | `telemetry` | the protocol's events as metrics and log lines |
//! | `traced` | the course of traced requests, as spans |
//! | `watchers` | the clients that watch, and what waits for them |
//! | `event` | all that reaches the event loop |
//! | `handle` | the way to ask a node |

mod commit_thread;
mod disk_room;
mod event;
mod event_loop;
mod fair_queue;
mod handle;
mod links;
mod members;
mod mending;
mod reads;
mod replies;
mod scans;
mod scrub;
mod telemetry;
mod traced;
mod watchers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::limits::{DRAIN_TIME_MAX, EVENTS_WAITING_MAX};
use crate::metrics::Metrics;
use crate::peer::HttpAddresses;
use crate::protocol::placement::Placement;
use crate::protocol::rate::Rate;
use crate::protocol::{self, RepairSettings, Setup};
use crate::shares::{Accounts, Amounts};
use crate::storage::{Store, StoreError};
use crate::tls::Trust;
use crate::traces::{TraceSettings, Tracer};
use crate::types::{NodeId, NodeIndex};

use commit_thread::CommitThread;
pub use event::Event;
use event_loop::{EventLoop, Parts};
use handle::Inner;
pub use handle::{NodeHandle, PeerStatus, PlainRequest, Rejected, RequestError, Status, Write, WriteResult};
use links::Links;
pub use members::PublishedLayout;
use mending::Mending;
pub use replies::{NumberedResult, Replies};
use scrub::Scrubber;
pub use scrub::{ScrubReport, ScrubSettings};
pub use watchers::{WatchEnded, WatchStream};

/// The parts and bounds that a node is started with.
pub struct Options {
    /// This node.
    pub me: NodeIndex,
    /// The cluster's parameters by its file, and which nodes hold which slot.
    pub placement: Arc<Placement>,
    /// The address of each node of the file, `host:port`, in the order of their ids.
    pub addresses: Vec<String>,
    /// Whether the node waits to be added to a cluster that exists, unless it was added already.
    pub joins: bool,
    /// Where this node serves HTTP, `host:port`, for others; `None` if it does not.
    pub http_address: Option<String>,
    /// The store of its records.
    pub store: Arc<dyn Store>,
    /// Whether Node/Set and Clock/Set are allowed.
    pub operator_writes: bool,
    /// How it repairs; without it, it does not.
    pub repair: Option<RepairSettings>,
    /// How fast it takes slots over.
    pub takeover: Rate,
    /// Below so much free space on its disk it takes no copies from other nodes; `None` for a reserve that follows from the
    /// size of the disk.
    pub disk_reserve_bytes: Option<usize>,
    /// How it reads its store to verify it.
    pub scrub: ScrubSettings,
    /// Whether it may replace itself when its store is damaged.
    pub replaces_damaged: bool,
    /// How it believes its peers, and they it.
    pub trust: Arc<Trust>,
    /// How much of everything clients may have. Large values that reads have loaded may hold as many bytes as requests in
    /// flight may, and so may those that peers have sent in answers.
    pub amounts: Amounts,
    /// Where spans go, and which requests are traced; `None` for none.
    pub traces: Option<TraceSettings>,
}

/// The most operations of the node itself that it works on at once.
const OWN_REQUESTS_MAX: usize = 16;
/// The most bytes of their keys and values.
const OWN_REQUEST_BYTES_MAX: usize = 8 << 20;

/// A running node, for the owner that ends it. Its [`NodeHandle`] asks it.
pub struct RunningNode {
    handle: NodeHandle,
    links: TaskTracker,
    links_end: CancellationToken,
    event_loop: JoinHandle<()>,
    event_loop_end: CancellationToken,
    commit_thread: std::thread::JoinHandle<()>,
    scrub_thread: std::thread::JoinHandle<()>,
}

/// Starts a node: its event loop, and its links to all other members.
///
/// # Errors
/// When the store cannot read its metadata.
pub fn start(options: Options) -> Result<RunningNode, StoreError> {
    let Options { me, placement, addresses, joins, http_address, store, operator_writes, repair, trust, .. } = options;
    let http_addresses = Arc::new(HttpAddresses::new(http_address));
    let meta = store.meta()?;
    let addresses: Vec<Arc<str>> = addresses.iter().map(|address| address.as_str().into()).collect();
    let ids = placement.parameters().node_ids.iter().cloned();
    let of_file: BTreeMap<NodeId, Arc<str>> = ids.zip(addresses.iter().cloned()).collect();
    let mut node = protocol::Node::start(Setup {
        me,
        placement,
        addresses,
        joins,
        meta,
        nonce: rand::random(),
        started_at: protocol::Time::default(),
        repair,
    });
    node.pace_takeover(options.takeover);
    let incarnation = node.incarnation();
    let metrics = Arc::new(Metrics::default());
    let traces =
        options.traces.map(|settings| Arc::new(Tracer::start(settings, node.layout().id(me), Arc::clone(&metrics))));
    let published = Arc::new(PublishedLayout::new(Arc::clone(node.shared_layout())));
    let (events, events_received) = mpsc::channel(EVENTS_WAITING_MAX);
    let links_end = CancellationToken::new();
    let event_loop_end = CancellationToken::new();
    let (scrubber, scrub_thread) = Scrubber::start(Arc::clone(&store), options.scrub, Arc::clone(&metrics));
    let accounts = Arc::new(Accounts::new(options.amounts));
    let own = Accounts::new(Amounts::of_requests(OWN_REQUESTS_MAX, OWN_REQUEST_BYTES_MAX));
    let handle = NodeHandle {
        account: Arc::clone(accounts.unbounded()),
        inner: Arc::new(Inner {
            me,
            incarnation,
            id: node.layout().id(me).clone(),
            layout: Arc::clone(&published),
            http_addresses: Arc::clone(&http_addresses),
            operator_writes,
            store: Arc::clone(&store),
            metrics: Arc::clone(&metrics),
            events: events.clone(),
            accounts,
            own_account: Arc::clone(own.unbounded()),
            links_end: links_end.clone(),
            started_at: Instant::now(),
            last_watch: AtomicU64::new(0),
            watch_bytes: Arc::default(),
            trust: Arc::clone(&trust),
            scrubber,
            mending: Mending::new(options.replaces_damaged),
            disk_reserve: watch::Sender::new(options.disk_reserve_bytes.map(|bytes| bytes as u64)),
            tracer: traces.clone(),
        }),
    };

    let tracker = TaskTracker::new();
    let links = Links {
        me,
        incarnation,
        metrics: Arc::clone(&metrics),
        events: events.clone(),
        http_addresses: Arc::clone(&http_addresses),
        trust,
        tracker: tracker.clone(),
        end: links_end.clone(),
        of_file,
        open: BTreeMap::new(),
        last: 0,
    };
    tracker.close();

    let started_at = handle.inner.started_at;
    tokio::spawn(disk_room::watch(Arc::clone(&store), handle.inner.disk_reserve.subscribe(), events.clone()));
    let (commit_thread, thread) = CommitThread::start(Arc::clone(&store), Arc::clone(&metrics), events.clone());
    let event_loop = EventLoop::new(Parts {
        node,
        started_at,
        store,
        value_bytes_max: options.amounts.request_bytes,
        commit_thread,
        metrics,
        events,
        links,
        http_addresses,
        published,
        tracer: traces,
    });
    let event_loop = tokio::spawn(event_loop.run(events_received, event_loop_end.clone()));
    let commit_thread = thread;
    Ok(RunningNode { handle, links: tracker, links_end, event_loop, event_loop_end, commit_thread, scrub_thread })
}

impl RunningNode {
    /// The handle to ask it with.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Refuses new requests, and waits until those in flight have ended, [`DRAIN_TIME_MAX`] at most. The requests that
    /// are then left are abandoned: their clients are told that the outcome is unknown.
    pub async fn drain(&self) {
        let drained = async {
            if self.handle.inner.events.send(Event::Drain).await.is_err() {
                return;
            }
            while self.handle.status().await.is_ok_and(|status| status.requests > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(DRAIN_TIME_MAX, drained).await.is_err() {
            warn!("requests are still in flight; ending without them (the outcome of writes among them is unknown)");
            self.event_loop_end.cancel();
        }
    }

    /// Closes all links: peers see that the node is gone. Its clients are still answered.
    pub async fn unlink(&self) {
        self.links_end.cancel();
        self.links.wait().await;
    }

    /// Ends the node. [`RunningNode::drain`] comes first.
    pub async fn stop(self) {
        self.unlink().await;
        self.event_loop_end.cancel();
        self.handle.inner.scrubber.end();
        if let Err(error) = self.event_loop.await {
            error!(%error, "the event loop did not end well");
        }
        if let Some(tracer) = self.handle.tracer() {
            tracer.close().await;
        }
        let (store, commit_thread) = (Arc::clone(&self.handle.inner.store), self.commit_thread);
        let scrub_thread = self.scrub_thread;
        let flush = move || {
            // A batch may still be at the disk. The loop has dropped its end of the thread, which ends after that batch.
            if commit_thread.join().is_err() {
                error!("the commit thread did not end well");
            }
            if scrub_thread.join().is_err() {
                error!("the scrub did not end well");
            }
            store.flush()
        };
        match tokio::task::spawn_blocking(flush).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "could not flush; the next start reads the log instead"),
            Err(error) => error!(%error, "flushing did not end well"),
        }
    }
}
