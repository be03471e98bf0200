//! The public client: reads, writes and deletes on a cluster, through whichever of its nodes answers.
//!
//! Contract: an operation ends at its deadline at the latest. A write is sent again only while it is certain that it did
//! not happen: it never left this process (`permit`), or a node answered that it was not applied. As soon as one may
//! have happened and no node says that it did, the answer is [`ClientError::OutcomeUnknown`], and it is up to the caller
//! to look. A read harms nobody: one that is slow at one node is asked of the next as well, and the first answer counts.
//!
//! Any node answers for all keys, so the client takes them in turn. A node that failed, or let an operation wait, is set
//! aside until it answers a question about its health; one that was not heard from for a second is asked that question
//! before a write is entrusted to it, because a paused node takes a request as readily as a live one.
//!
//! Caveat: dropping the future of a write leaves the outcome unknown.
//!
//! ```no_run
//! # async fn example() -> Result<(), quorate::ClientError> {
//! let client = quorate::Client::new(["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"])?;
//! client.set("greeting", "hello").await?;
//! let found = client.get("greeting").await?.expect("it was just written");
//! assert_eq!(&found.value.bytes()[..], b"hello");
//! client.delete("greeting").await?;
//! assert!(client.get("greeting").await?.is_none());
//! # Ok(())
//! # }
//! ```

mod error;
mod node;
mod permit;
#[cfg(all(test, feature = "server"))]
mod tests;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Status};

pub use error::{ClientError, InputProblem, NodeFailure};
#[cfg(feature = "server")]
pub(crate) use node::endpoint;
use node::{Node, SendFailure, by, within};

use crate::api;
use crate::limits::{DEADLINE_DEFAULT, DEADLINE_MAX, VALUE_BYTES_MAX};
use crate::types::{Key, Stamp, Value};
use crate::wire::failure::{Failure, FailureReason};

/// The shortest deadline: below it a request would expire before it is sent.
const DEADLINE_MIN: Duration = Duration::from_millis(1);
/// How often a node that was set aside is asked whether it is back.
const REVIVAL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a client waits once every node has failed; doubled each time,
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// up to this.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// After this part of its deadline without an answer, an operation looks elsewhere,
const IMPATIENCE_PART: u32 = 10;
/// but not sooner than this: a node under load may need as long for its disk,
const IMPATIENCE_MIN: Duration = Duration::from_millis(5);
/// and not later than this.
const IMPATIENCE_MAX: Duration = Duration::from_secs(1);

/// A client of one cluster. Cheap to clone; clones share connections.
///
/// Operations must run in a tokio runtime, the same one for all of a client's incarnation.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    deadline: Duration,
}

#[derive(Debug)]
struct Shared {
    nodes: Vec<Arc<Node>>,
    /// Counts operations, so that nodes take turns. Starts anywhere, so that many short-lived clients spread too.
    turn: AtomicUsize,
    /// One task for each node set aside: it ends when the node answers, and with the client.
    revivals: Mutex<JoinSet<()>>,
}

/// What a key held when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value, in the form in which it was written: text or binary.
    pub value: Value,
    /// The place of its write in the order of all writes. Greater stamps are later writes.
    pub stamp: Stamp,
}

/// Sets up a [`Client`].
///
/// ```
/// use std::time::Duration;
///
/// # fn example() -> Result<(), quorate::ClientError> {
/// let client = quorate::Client::builder()
///     .address("127.0.0.1:8001")
///     .address("http://node-2.example:8001")
///     .deadline(Duration::from_secs(2))
///     .build()?;
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    addresses: Vec<String>,
    deadline: Duration,
}

impl Builder {
    /// Adds a node, as `host:port` or `http://host:port`. Name several: the client goes on without those that are down.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// How long an operation may take, all attempts together: 1 ms to [`DEADLINE_MAX`], beyond which it is taken as
    /// that, because nodes do not honour more. [`DEADLINE_DEFAULT`] where it is not given.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The client. Nothing is connected yet: a node that is down now does no harm.
    ///
    /// # Errors
    /// [`ClientError::InvalidInput`] when there is no address, or one does not parse.
    pub fn build(self) -> Result<Client, ClientError> {
        if self.addresses.is_empty() {
            return Err(InputProblem::NoAddress.into());
        }
        let nodes = self.addresses.iter().map(|address| Node::new(address).map(Arc::new)).collect::<Result<_, _>>()?;
        let shared = Shared { nodes, turn: AtomicUsize::new(usize::from(random())), revivals: Mutex::default() };
        Ok(Client { shared: Arc::new(shared), deadline: self.deadline.clamp(DEADLINE_MIN, DEADLINE_MAX) })
    }
}

impl Client {
    /// A client of the cluster that has nodes at these addresses, with the default deadline.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(addresses: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, ClientError> {
        addresses.into_iter().fold(Self::builder(), Builder::address).build()
    }

    /// Sets up a client with more choice than [`Client::new`].
    pub fn builder() -> Builder {
        Builder { addresses: Vec::new(), deadline: DEADLINE_DEFAULT }
    }

    /// The same client with another deadline, bounded as in [`Builder::deadline`]; costs nothing.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// let found = client.with_deadline(Duration::from_millis(200)).get("greeting").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline: deadline.clamp(DEADLINE_MIN, DEADLINE_MAX) }
    }

    /// Reads the latest value of `key`; `None` where it has none.
    ///
    /// # Errors
    /// [`ClientError::InvalidInput`], [`ClientError::Unavailable`] or [`ClientError::Refused`].
    pub async fn get(&self, key: impl AsRef<str>) -> Result<Option<Versioned>, ClientError> {
        let key = key_of(key.as_ref())?;
        let operation = Operation::begin(self);
        self.read(operation, move |node, deadline| {
            let key = key.clone();
            async move {
                let request = by(api::GetRequest { key: key.as_str().to_owned() }, deadline);
                let answer = within(deadline, async { node.cluster().get(request).await }).await;
                versioned(&key, answer.map_err(|status| judge_read(&node, &status))?.into_inner())
                    .map_err(|problem| Verdict::Elsewhere(NodeFailure::new(&node.address, problem)))
            }
        })
        .await
    }

    /// Writes `value` under `key`. It is on the disks of a majority of the key's replicas when this returns the stamp
    /// that it was given.
    ///
    /// `&str` and `String` are written as text; bytes, and [`Value::Binary`], as binary.
    ///
    /// # Errors
    /// [`ClientError::InvalidInput`], [`ClientError::NotApplied`], [`ClientError::OutcomeUnknown`] or
    /// [`ClientError::Refused`].
    ///
    /// ```no_run
    /// use quorate::ClientError;
    ///
    /// # async fn example(client: quorate::Client) -> Result<(), ClientError> {
    /// match client.set("k", vec![0, 1, 2]).await {
    ///     Ok(stamp) => println!("written as {stamp}"),
    ///     Err(ClientError::OutcomeUnknown { node }) => println!("read k to find out: {node}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set(&self, key: impl AsRef<str>, value: impl Into<Value>) -> Result<Stamp, ClientError> {
        let key = key_of(key.as_ref())?;
        let value = value.into();
        let bytes = value.bytes().len();
        if bytes > VALUE_BYTES_MAX {
            return Err(InputProblem::ValueTooLarge { bytes }.into());
        }
        let request = api::SetRequest { entry: Some((key, value).into()) };
        let (node, answer): (_, api::SetResponse) = self.write("/api.Cluster/Set", request).await?;
        stamp_of_write(&node, answer.clock)
    }

    /// Removes the value of `key`, if it has one. A majority of the key's replicas has that on disk when this returns
    /// the stamp that it was given.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn delete(&self, key: impl AsRef<str>) -> Result<Stamp, ClientError> {
        let request = api::DeleteRequest { key: key_of(key.as_ref())?.as_str().to_owned() };
        let (node, answer): (_, api::DeleteResponse) = self.write("/api.Cluster/Delete", request).await?;
        stamp_of_write(&node, answer.clock)
    }

    /// The cluster as the first node that answers sees it.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] or [`ClientError::Refused`].
    pub async fn cluster_info(&self) -> Result<api::ClusterInfoResponse, ClientError> {
        self.read(Operation::begin(self), |node, deadline| async move {
            let request = by(api::ClusterInfoRequest {}, deadline);
            let answer = within(deadline, async { node.cluster().info(request).await }).await;
            Ok(answer.map_err(|status| judge_read(&node, &status))?.into_inner())
        })
        .await
    }

    /// The health of the first node that answers; of a client with one address, of that node.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] or [`ClientError::Refused`].
    pub async fn health(&self) -> Result<api::HealthResponse, ClientError> {
        self.read(Operation::begin(self), |node, deadline| async move {
            node.health(deadline).await.map_err(|status| judge_read(&node, &status))
        })
        .await
    }

    /// Reads until a node answers or the deadline is there.
    async fn read<T, F>(&self, operation: Operation, ask: impl Fn(Arc<Node>, Instant) -> F) -> Result<T, ClientError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Verdict>> + Send + 'static,
    {
        let mut backoff = Backoff::new();
        loop {
            match self.race(self.nodes_in_turn(), operation, &ask).await {
                Ok((_, answer)) => return Ok(answer),
                Err(Verdict::Final(error)) => return Err(error),
                Err(Verdict::Elsewhere(last)) => {
                    if !backoff.wait(operation.deadline).await {
                        return Err(ClientError::Unavailable { last, tried_for: operation.began.elapsed() });
                    }
                }
            }
        }
    }

    /// Writes until a node answers, the outcome is unknown, or the deadline is there.
    async fn write<M, A>(&self, path: &'static str, message: M) -> Result<(Arc<Node>, A), ClientError>
    where
        M: prost::Message + Clone + Unpin + 'static,
        A: prost::Message + Default + 'static,
    {
        let operation = Operation::begin(self);
        let mut backoff = Backoff::new();
        loop {
            let mut last = None;
            for _ in &self.shared.nodes {
                let node = match self.live_node(operation).await {
                    Ok(node) => node,
                    Err(Verdict::Final(error)) => return Err(error),
                    Err(Verdict::Elsewhere(failure)) => {
                        last = Some(failure);
                        break;
                    }
                };
                match self.send(operation, &node, path, message.clone()).await {
                    Ok(answer) => return Ok((node, answer)),
                    Err(Verdict::Final(error)) => return Err(error),
                    Err(Verdict::Elsewhere(failure)) => last = Some(failure),
                }
                if Instant::now() >= operation.deadline {
                    break;
                }
            }
            if !backoff.wait(operation.deadline).await {
                let last = last.expect("a client has at least one node, and it failed");
                return Err(ClientError::NotApplied { last, tried_for: operation.began.elapsed() });
            }
        }
    }

    /// Sends a write to `node`, once. `Elsewhere` only where it certainly did not happen.
    async fn send<M, A>(
        &self,
        operation: Operation,
        node: &Arc<Node>,
        path: &'static str,
        message: M,
    ) -> Result<A, Verdict>
    where
        M: prost::Message + Unpin + 'static,
        A: prost::Message + Default + 'static,
    {
        let sending = node.send_once(path, message, operation.deadline);
        tokio::pin!(sending);
        let sent = tokio::select! {
            sent = &mut sending => sent,
            () = tokio::time::sleep(operation.impatience) => {
                // This write can only wait for its answer now. The next ones need not wait behind it.
                self.set_aside(node);
                sending.await
            }
        };
        match sent {
            Ok(answer) => {
                node.heard();
                Ok(answer)
            }
            Err(failure) => {
                let verdict = judge_write(node, &failure);
                if !matches!(verdict, Verdict::Final(ClientError::Refused { .. })) {
                    self.set_aside(node);
                }
                Err(verdict)
            }
        }
    }

    /// A node to entrust a write to: one that answered lately, or else the first that says it is well.
    async fn live_node(&self, operation: Operation) -> Result<Arc<Node>, Verdict> {
        let nodes = self.nodes_in_turn();
        if nodes[0].answered_recently() {
            return Ok(Arc::clone(&nodes[0]));
        }
        // With one node there is nothing to fall back to, so it may take its time.
        let patience = if self.shared.nodes.len() == 1 { self.deadline } else { 3 * operation.impatience };
        let unwell = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&unwell);
        let found = self
            .race(nodes, operation, move |node, deadline| {
                let unwell = Arc::clone(&unwell);
                async move {
                    let deadline = deadline.min(Instant::now() + patience);
                    let health = node.health(deadline).await.map_err(|status| judge_read(&node, &status))?;
                    let problem = match health.status() {
                        api::Health::Online | api::Health::Default => return Ok(()),
                        api::Health::Degraded => {
                            unwell.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(Arc::clone(&node));
                            "it is degraded"
                        }
                        api::Health::Starting => "it starts, or waits for the other nodes",
                        api::Health::Draining => "it is about to end",
                        api::Health::Refused => "its peers refuse it",
                    };
                    let message = format!("{problem}: {}", health.detail);
                    Err(Verdict::Elsewhere(NodeFailure::new(&node.address, message.trim_end_matches(": "))))
                }
            })
            .await;
        match found {
            Ok((node, ())) => Ok(node),
            // Better than none: a node whose own disk is full still coordinates writes to the others.
            Err(verdict) => seen.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(verdict),
        }
    }

    /// Asks one of `nodes` after the other, the next whenever one fails or lets us wait, until one answers or all have
    /// failed. Only for what harms nobody when it is asked twice.
    async fn race<T, F>(
        &self,
        nodes: Vec<Arc<Node>>,
        operation: Operation,
        ask: impl Fn(Arc<Node>, Instant) -> F,
    ) -> Result<(Arc<Node>, T), Verdict>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Verdict>> + Send + 'static,
    {
        let mut waiting = nodes.into_iter();
        let mut running = JoinSet::new();
        let mut asked: Option<Arc<Node>> = None;
        let mut last = None;
        loop {
            let next = waiting.next();
            if let Some(node) = &next {
                let asking = ask(Arc::clone(node), operation.deadline);
                let node = Arc::clone(node);
                asked = Some(Arc::clone(&node));
                running.spawn(async move { (node, asking.await) });
            } else if running.is_empty() {
                let failure = last.expect("a client has at least one node, and all were asked");
                return Err(Verdict::Elsewhere(failure));
            }
            let ended = tokio::select! {
                ended = running.join_next() => ended,
                () = tokio::time::sleep(operation.impatience), if next.is_some() => {
                    if let Some(node) = &asked {
                        self.set_aside(node);
                    }
                    continue;
                }
            };
            match ended {
                Some(Ok((node, Ok(answer)))) => {
                    node.heard();
                    return Ok((node, answer));
                }
                Some(Ok((_, Err(Verdict::Final(error))))) => return Err(Verdict::Final(error)),
                Some(Ok((node, Err(Verdict::Elsewhere(failure))))) => {
                    self.set_aside(&node);
                    last = Some(failure);
                }
                // The task was cancelled or panicked: our own defect, or a runtime that ends.
                Some(Err(error)) => last = Some(NodeFailure::new("client", error.to_string())),
                None => {}
            }
        }
    }

    /// All nodes: those set aside last, else in turn.
    fn nodes_in_turn(&self) -> Vec<Arc<Node>> {
        let mut nodes = self.shared.nodes.clone();
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed) % nodes.len();
        nodes.rotate_left(turn);
        nodes.sort_by_key(|node| node.is_aside());
        nodes
    }

    /// Lets other operations prefer other nodes, until this one says that it is well.
    fn set_aside(&self, node: &Arc<Node>) {
        if !node.set_aside() {
            return;
        }
        let node = Arc::clone(node);
        let mut revivals = self.shared.revivals.lock().unwrap_or_else(PoisonError::into_inner);
        while revivals.try_join_next().is_some() {}
        revivals.spawn(async move {
            loop {
                tokio::time::sleep(jittered(REVIVAL_INTERVAL)).await;
                if !node.is_aside() {
                    return;
                }
                let health = node.health(Instant::now() + REVIVAL_INTERVAL).await;
                if health.is_ok_and(|health| health.serves) {
                    node.heard();
                    return;
                }
            }
        });
    }
}

/// When an operation began, when it must end, and when it grows impatient with a node.
#[derive(Clone, Copy)]
struct Operation {
    began: Instant,
    deadline: Instant,
    impatience: Duration,
}

impl Operation {
    fn begin(client: &Client) -> Self {
        let began = Instant::now();
        Self {
            began,
            deadline: began + client.deadline,
            impatience: (client.deadline / IMPATIENCE_PART).clamp(IMPATIENCE_MIN, IMPATIENCE_MAX),
        }
    }
}

/// What to do after a failure.
enum Verdict {
    /// It may be tried at another node.
    Elsewhere(NodeFailure),
    /// It must not be tried again.
    Final(ClientError),
}

fn judge_read(node: &Node, status: &Status) -> Verdict {
    let failure = NodeFailure::from_status(&node.address, status);
    if is_refusal(status) {
        return Verdict::Final(ClientError::Refused { node: failure });
    }
    Verdict::Elsewhere(failure)
}

fn judge_write(node: &Node, failure: &SendFailure) -> Verdict {
    let said = NodeFailure::from_status(&node.address, &failure.status);
    let untouched = |said: &Failure| matches!(said.reason, FailureReason::NotApplied | FailureReason::NotReady);
    if failure.unsent || said.failure.as_deref().is_some_and(untouched) {
        return Verdict::Elsewhere(said);
    }
    if is_refusal(&failure.status) {
        return Verdict::Final(ClientError::Refused { node: said });
    }
    Verdict::Final(ClientError::OutcomeUnknown { node: said })
}

/// Whether a status says that the request was looked at and turned down before anything was done. Only codes that no
/// broken connection and no proxy make up.
fn is_refusal(status: &Status) -> bool {
    use FailureReason::{ClockRaiseTooFar, InvalidArgument, NotReplica, OperatorWritesOff, StampNotGreater};
    match Failure::from_status(status) {
        // Named one by one: a reason that is added later is not taken for a refusal unseen.
        Some(failure) => matches!(
            failure.reason,
            InvalidArgument | NotReplica | StampNotGreater | OperatorWritesOff | ClockRaiseTooFar
        ),
        None => matches!(
            status.code(),
            Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::Unimplemented
                | Code::PermissionDenied
                | Code::Unauthenticated
        ),
    }
}

fn versioned(key: &Key, answer: api::GetResponse) -> Result<Option<Versioned>, String> {
    let Some(entry) = answer.entry else { return Ok(None) };
    let (found, value) = <(Key, Value)>::try_from(entry).map_err(|error| format!("bad answer: {error}"))?;
    if found != *key {
        return Err(format!("bad answer: asked for key {key:?}, got {found:?}"));
    }
    let clock = answer.clock.ok_or("bad answer: a value without its stamp")?;
    let stamp = clock.try_into().map_err(|error| format!("bad answer: {error}"))?;
    Ok(Some(Versioned { value, stamp }))
}

fn stamp_of_write(node: &Node, clock: Option<api::ClockValue>) -> Result<Stamp, ClientError> {
    let problem = match clock.map(Stamp::try_from) {
        Some(Ok(stamp)) => return Ok(stamp),
        Some(Err(error)) => format!("bad answer: {error}"),
        None => "bad answer: OK without a stamp".to_owned(),
    };
    Err(ClientError::OutcomeUnknown { node: NodeFailure::new(&node.address, problem) })
}

fn key_of(key: &str) -> Result<Key, ClientError> {
    Key::new(key.to_owned()).map_err(|problem| InputProblem::Key(problem).into())
}

/// Waits longer each time, with jitter, so that clients that failed together do not come back together.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(BACKOFF_MIN)
    }

    /// False once there is no time left to try again.
    async fn wait(&mut self, deadline: Instant) -> bool {
        let wake_at = Instant::now() + jittered(self.0);
        self.0 = (2 * self.0).min(BACKOFF_MAX);
        if wake_at >= deadline {
            return false;
        }
        tokio::time::sleep_until(wake_at).await;
        true
    }
}

/// Half to all of `duration`.
fn jittered(duration: Duration) -> Duration {
    duration / 2 + duration.mul_f32(f32::from(random()) / f32::from(u16::MAX) / 2.0)
}

/// The standard library's only source of randomness; good enough to spread load, and one dependency less.
fn random() -> u16 {
    let [low, high, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    u16::from_le_bytes([low, high])
}

impl From<InputProblem> for ClientError {
    fn from(problem: InputProblem) -> Self {
        Self::InvalidInput { problem }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}
