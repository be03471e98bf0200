//! Watches, as streams that go on at another node where one fails.
//!
//! Contract: of every write that is called after [`WatchEvent::Ready`], the stream tells that value or a later one of its
//! key. Changes of one key come in the order in which they happened. A change may be told twice, with the same
//! version, where the watch goes on at another node. After [`WatchEvent::Reset`] changes may have been missed, and the
//! stream begins anew.
//!
//! With [`Watch::with_list`] the stream first tells what is there, a [`WatchEvent::Set`] for each key, and then that it is
//! ready. A copy of the keys that is kept so misses no write. After a reset what is there is told again.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;

use super::backoff::Backoff;
use super::conversions::value_of;
use super::error::{ClientError, NodeFailure};
use super::failover::{NodePool, Operation};
use super::node::{Node, within};
use super::verdict::{Verdict, judge_read};
use super::{Client, Task};
use crate::api;
use crate::api::watch_request::Keys;
use crate::api::watch_response::Event as Arm;
use crate::types::Value;

/// How long a watch may be silent: nodes send something every 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// How many events wait for a reader. A reader that is slower makes the node wait, which closes watches that are too slow.
const WAITING_MAX: usize = 256;

/// A watch that has not begun yet.
#[derive(Clone, Debug)]
#[must_use = "a watch begins once it is a stream"]
pub struct Watch {
    client: Client,
    keys: Keys,
    cursor: Bytes,
    values: bool,
    with_list: bool,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// Every write that is called from now on is told. With [`Watch::with_list`] all that is there was told, too, and nothing
    /// is missed. Without, a write that was called before and is acknowledged later may not be told.
    Ready,
    /// A key has a new value.
    Set {
        /// The key.
        key: String,
        /// The version of the value.
        version: String,
        /// The value, if the watch was asked for values.
        value: Option<Value>,
        /// The time to live; `None` for a value that never expires.
        ttl: Option<Duration>,
    },
    /// A key has no value any more.
    Deleted {
        /// The key.
        key: String,
        /// The version of the absence.
        version: String,
    },
    /// Changes may have been missed: forget what was told, until [`WatchEvent::Ready`] comes again. With
    /// [`Watch::with_list`], what is there is told again before that.
    Reset,
}

/// The events of a watch, one after the other.
///
/// It is a [`Stream`]; [`Watching::next`] needs no further crate.
#[derive(Debug)]
pub struct Watching {
    events: mpsc::Receiver<Result<(WatchEvent, Bytes), ClientError>>,
    cursor: Bytes,
    _task: Task,
}

impl Watch {
    pub(super) fn new(client: Client, keys: Keys) -> Self {
        Self { client, keys, cursor: Bytes::new(), values: false, with_list: false }
    }

    /// Goes on where an earlier watch of the same keys was: [`Watching::cursor`].
    pub fn cursor(mut self, cursor: impl Into<Bytes>) -> Self {
        self.cursor = cursor.into();
        self
    }

    /// Asks for the values too.
    pub fn values(mut self) -> Self {
        self.values = true;
        self
    }

    /// Asks for what is there first: a [`WatchEvent::Set`] for each key that has a value, and [`WatchEvent::Ready`] after the
    /// last. A key that was told already may be told of its changes before that. With a cursor that reaches back the watch
    /// goes on, and what is there is not told again.
    pub fn with_list(mut self) -> Self {
        self.with_list = true;
        self
    }

    /// Begins the watch. It needs a tokio runtime.
    #[must_use = "a watch that nobody reads is closed"]
    pub fn stream(self) -> Watching {
        let (sender, events) = mpsc::channel(WAITING_MAX);
        let cursor = self.cursor.clone();
        let reader = Reader {
            pool: Arc::clone(&self.client.pool),
            deadline: self.client.deadline,
            watch: self,
            sender,
            is_ready: false,
            has_told: false,
        };
        Watching { events, cursor, _task: Task::spawn(reader.run()) }
    }
}

impl Watching {
    /// The next event. An error is the end; a new watch with the cursor goes on there.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, ClientError>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Where a later watch of the same keys goes on, after the event that was told last. Empty: there is nothing to go on
    /// with.
    #[must_use]
    pub fn cursor(&self) -> &Bytes {
        &self.cursor
    }
}

impl Stream for Watching {
    type Item = Result<WatchEvent, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(context).map(|event| {
            Some(event?.map(|(event, cursor)| {
                self.cursor = cursor;
                event
            }))
        })
    }
}

/// Reads the events.
struct Reader {
    pool: Arc<NodePool>,
    deadline: Duration,
    watch: Watch,
    sender: mpsc::Sender<Result<(WatchEvent, Bytes), ClientError>>,
    /// Whether the reader knows that changes are told: it is told once, and again after a reset.
    is_ready: bool,
    /// Whether something was told that a new beginning would contradict.
    has_told: bool,
}

/// How a call ended.
enum End {
    /// Nobody wants more.
    Done,
    /// The node failed. Whether it said anything before.
    Failed(Verdict, bool),
}

impl Reader {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut heard_at = Instant::now();
        loop {
            let node = self.pool.live_node(Operation::begin(self.deadline)).await;
            let end = match &node {
                Ok(node) => self.read_from(node).await,
                Err(verdict) => End::Failed(verdict.clone(), false),
            };
            match end {
                End::Done => return,
                End::Failed(Verdict::Final(error), _) => {
                    let _ = self.sender.send(Err(error)).await;
                    return;
                }
                End::Failed(Verdict::TryNext(last), said_something) => {
                    if let Ok(node) = &node {
                        self.pool.avoid(node);
                    }
                    if said_something {
                        (backoff, heard_at) = (Backoff::new(), Instant::now());
                    }
                    if !backoff.wait(heard_at + self.deadline).await {
                        let tried_for = heard_at.elapsed();
                        let _ = self.sender.send(Err(ClientError::Unavailable { last, tried_for })).await;
                        return;
                    }
                }
            }
        }
    }

    /// Reads events from one node, until it fails.
    async fn read_from(&mut self, node: &Arc<Node>) -> End {
        // Without a cursor a node begins anew. Keys that were told before may have changed in between.
        if self.watch.cursor.is_empty() && self.has_told && self.tell(WatchEvent::Reset).await.is_err() {
            return End::Done;
        }
        let table = match self.watch.client.table_name() {
            Ok(table) => table,
            Err(error) => return End::Failed(Verdict::Final(error), false),
        };
        let request = api::WatchRequest {
            table,
            keys: Some(self.watch.keys.clone()),
            cursor: self.watch.cursor.clone(),
            values: self.watch.values,
            with_list: self.watch.with_list,
        };
        let mut said_something = false;
        let call = async { node.cluster().watch(request).await };
        let mut events = match within(Instant::now() + self.deadline, call).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return End::Failed(judge_read(node, &status), said_something),
        };
        loop {
            let response = match within(Instant::now() + SILENCE_MAX, events.message()).await {
                Ok(Some(response)) => response,
                Ok(None) => {
                    let failure = NodeFailure::new(&node.address, "the watch has ended");
                    return End::Failed(Verdict::TryNext(failure), said_something);
                }
                Err(status) => return End::Failed(judge_read(node, &status), said_something),
            };
            node.record_answer();
            said_something = true;
            let event = match event(response.event) {
                Ok(event) => event,
                Err(problem) => {
                    return End::Failed(Verdict::TryNext(NodeFailure::new(&node.address, problem)), said_something);
                }
            };
            self.watch.cursor = response.cursor;
            let told = match event {
                None => Ok(()),
                // A watch that went on at another node has missed nothing, so that this is no news.
                Some(WatchEvent::Ready) if self.is_ready => Ok(()),
                Some(event) => self.tell(event).await,
            };
            if told.is_err() {
                return End::Done;
            }
        }
    }

    /// Tells an event. Fails where nobody wants it.
    async fn tell(&mut self, event: WatchEvent) -> Result<(), ()> {
        match event {
            WatchEvent::Ready => (self.is_ready, self.has_told) = (true, true),
            WatchEvent::Reset => (self.is_ready, self.has_told) = (false, false),
            _ => self.has_told = true,
        }
        self.sender.send(Ok((event, self.watch.cursor.clone()))).await.map_err(|_| ())
    }
}

/// The event in a node's message; `None` if it only says that the node is there.
fn event(event: Option<Arm>) -> Result<Option<WatchEvent>, String> {
    Ok(match event {
        Some(Arm::Ready(_)) => Some(WatchEvent::Ready),
        Some(Arm::Put(api::WatchPut { key, version, entry, ttl })) => {
            let value = entry.map(|entry| value_of(&key, entry)).transpose()?;
            let ttl = ttl.map(Duration::try_from).transpose().map_err(|_| "bad answer: a negative time to live")?;
            Some(WatchEvent::Set { key, version, value, ttl })
        }
        Some(Arm::Deleted(api::WatchDeleted { key, version })) => Some(WatchEvent::Deleted { key, version }),
        Some(Arm::Reset(_)) => Some(WatchEvent::Reset),
        Some(Arm::Heartbeat(_)) | None => None,
    })
}
