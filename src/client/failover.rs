//! The nodes of one cluster, and the rules by which an operation moves from one of them to the next.
//!
//! Contract: a read goes to one node after the other. A node that fails, or has not answered after the hedge delay, is
//! avoided, and the next one is asked too. The first answer counts. A write is sent to one node at a time, and to the
//! next only while it certainly did not happen (see `verdict` and `permit`). A write that takes effect once at most, however
//! often it is sent, moves on as a read does.
//!
//! A paused node accepts a request as readily as a live one. Therefore a write, a list and a watch go without a question
//! only to a node that answered during the last second. Any other node is first asked for its health.
//!
//! Nodes take turns. Those that hold the key come first, if the client knows them (`routing`), and avoided ones last.
//!
//! Source: Dean and Barroso, "The Tail at Scale" (2013), on hedged requests.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use super::backoff::{Backoff, jittered, random};
use super::error::{ClientError, NodeFailure};
use super::follow::{follow, joined};
use super::node::Node;
use super::routing::Router;
use super::verdict::{Verdict, judge_read, judge_write};
use crate::api;
use crate::tls::Dialer;
use crate::types::Slot;
use crate::wire::failure::{Failure, FailureReason};

/// How often an avoided node is asked for its health.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The hedge delay is this part of the operation's deadline,
const HEDGE_DELAY_PART: u32 = 10;
/// but at least this: a loaded node may need as long for its disk,
const HEDGE_DELAY_MIN: Duration = Duration::from_millis(5);
/// and at most this.
const HEDGE_DELAY_MAX: Duration = Duration::from_secs(1);
/// Before a write, a node's health is waited for this many hedge delays.
const HEALTH_HEDGE_DELAYS: u32 = 3;

/// The nodes of a client. Clones of the client share it.
#[derive(Debug)]
pub(super) struct NodePool {
    /// The nodes that it was given.
    given: Box<[Arc<Node>]>,
    /// The nodes that are asked: those, and others that it has learned of.
    nodes: RwLock<Arc<[Arc<Node>]>>,
    /// How it connects to the nodes that it learns of.
    pub(super) dialer: Dialer,
    /// For a client that looks at its cluster from time to time.
    following: Option<Following>,
    /// Whether it asks members that it was not given.
    follows: bool,
    /// Which nodes hold which keys, for a client that routes.
    router: Option<Router>,
    /// Counts operations, so that nodes take turns. It starts at a random number, so that many short-lived clients spread
    /// over the nodes too.
    pub(super) turn: AtomicUsize,
    /// One task for each avoided node. It ends when the node answers, and with the client.
    probes: Mutex<JoinSet<()>>,
}

/// How a client looks at its cluster.
#[derive(Debug)]
struct Following {
    pool: Weak<NodePool>,
    has_begun: AtomicBool,
    /// A node has failed.
    wake: Arc<Notify>,
}

/// The times of one operation.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    began: Instant,
    deadline: Instant,
    /// How long a node may take before the next one is asked too.
    hedge_delay: Duration,
    /// The slot of its key, whose holders are asked first; `None` where it is not known, and for an operation on no key.
    slot: Option<Slot>,
}

impl Operation {
    /// An operation that begins now and may take `time_max`, all attempts together.
    pub(super) fn begin(time_max: Duration) -> Self {
        let began = Instant::now();
        let hedge_delay = (time_max / HEDGE_DELAY_PART).clamp(HEDGE_DELAY_MIN, HEDGE_DELAY_MAX);
        Self { began, deadline: began + time_max, hedge_delay, slot: None }
    }

    /// The same operation, where it is known that its key lies in `slot`.
    pub(super) fn on(self, slot: Option<Slot>) -> Self {
        Self { slot, ..self }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl NodePool {
    /// A pool of at least one node. `follows`: it learns of further ones, and connects to them by `dialer`. `routes`: it asks the
    /// nodes first that hold a key.
    pub(super) fn new(given: Vec<Arc<Node>>, dialer: Dialer, follows: bool, routes: bool) -> Arc<Self> {
        Arc::new_cyclic(|pool| {
            let following =
                || Following { pool: Weak::clone(pool), has_begun: AtomicBool::new(false), wake: Arc::default() };
            Self {
                nodes: RwLock::new(joined(&given, Vec::new())),
                given: given.into(),
                dialer,
                following: (follows || routes).then(following),
                follows,
                router: routes.then(Router::default),
                turn: AtomicUsize::new(usize::from(random())),
                probes: Mutex::default(),
            }
        })
    }

    /// The nodes that it was given.
    pub(super) fn given(&self) -> &[Arc<Node>] {
        &self.given
    }

    /// The nodes that are asked.
    pub(super) fn nodes(&self) -> Arc<[Arc<Node>]> {
        Arc::clone(&self.nodes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these are asked beside those that were given.
    pub(super) fn follow_to(&self, learned: Vec<Arc<Node>>) {
        let nodes = joined(&self.given, learned);
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// Whether it asks members that it was not given.
    pub(super) fn follows(&self) -> bool {
        self.follows
    }

    /// Which nodes hold which keys, for a client that routes.
    pub(super) fn router(&self) -> Option<&Router> {
        self.router.as_ref()
    }

    /// Begins to look at the cluster, with the first operation.
    fn begin_to_follow(&self) {
        let Some(Following { has_begun, wake, .. }) = &self.following else { return };
        if has_begun.load(Ordering::Relaxed) || has_begun.swap(true, Ordering::Relaxed) {
            return;
        }
        let (wake, at_once) = (Arc::clone(wake), self.router.is_some());
        self.spawn_with(|pool| follow(pool, wake, at_once));
    }

    /// Runs `work` until it ends, or the client does. Only for a client that looks at its cluster.
    pub(super) fn spawn_with<F>(&self, work: impl FnOnce(Weak<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(Following { pool, .. }) = &self.following else { return };
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        while probes.try_join_next().is_some() {}
        probes.spawn(work(Weak::clone(pool)));
    }

    /// Reads until a node answers or the deadline has passed.
    pub(super) async fn read<T, F>(
        &self,
        operation: Operation,
        ask: impl Fn(Arc<Node>, Instant) -> F,
    ) -> Result<T, ClientError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Verdict>> + Send + 'static,
    {
        let mut backoff = Backoff::new();
        loop {
            match self.race(self.nodes_in_turn(operation.slot), operation, &ask).await {
                Ok((_, answer)) => return Ok(answer),
                Err(Verdict::Final(error)) => return Err(error),
                Err(Verdict::TryNext(last)) => {
                    if !backoff.wait(operation.deadline).await {
                        return Err(ClientError::Unavailable { last, tried_for: operation.began.elapsed() });
                    }
                }
            }
        }
    }

    /// Writes until a node answers, the outcome is unknown, or the deadline has passed. Returns the node that answered.
    pub(super) async fn write<M, A>(
        &self,
        operation: Operation,
        path: &'static str,
        message: M,
    ) -> Result<(Arc<Node>, A), ClientError>
    where
        M: prost::Message + Clone + Unpin + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut backoff = Backoff::new();
        loop {
            let mut last = None;
            for _ in self.nodes().iter() {
                let node = match self.live_node(operation).await {
                    Ok(node) => node,
                    Err(Verdict::Final(error)) => return Err(error),
                    Err(Verdict::TryNext(failure)) => {
                        last = Some(failure);
                        break;
                    }
                };
                match self.send(operation, &node, path, message.clone()).await {
                    Ok(answer) => return Ok((node, answer)),
                    Err(Verdict::Final(error)) => return Err(error),
                    Err(Verdict::TryNext(failure)) => last = Some(failure),
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

    /// Writes until a node says what became of it, or the deadline has passed. Only for a write that takes effect once at
    /// most, however often it is sent. `message` makes it, and is told whether an earlier try may have arrived.
    pub(super) async fn write_until_known<M, A>(
        self: &Arc<Self>,
        operation: Operation,
        path: &'static str,
        message: impl Fn(bool) -> M,
    ) -> Result<(Arc<Node>, A), ClientError>
    where
        M: prost::Message + Unpin + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut backoff = Backoff::new();
        let mut tries = JoinSet::new();
        // The tries that may have taken effect: those under way, and those whose end says nothing.
        let mut open = 0_usize;
        let mut failed = 0_usize;
        let mut last = None;
        let mut unknown = None;
        let mut declined = None;
        let mut is_ending = false;
        loop {
            // A further try goes out when the one before has failed or the hedge delay has passed.
            if tries.len() < self.nodes().len() && !is_ending {
                match self.live_node(operation).await {
                    Ok(node) => {
                        let (pool, is_resend) = (Arc::clone(self), open > 0);
                        let message = message(is_resend);
                        open += 1;
                        tries.spawn(async move {
                            let sent = pool.send(operation, &node, path, message).await;
                            (node, is_resend, sent)
                        });
                    }
                    Err(Verdict::Final(error)) if open == 0 => return Err(error),
                    Err(Verdict::Final(ClientError::Refused { node }) | Verdict::TryNext(node)) => {
                        failed = self.nodes().len();
                        last = Some(node);
                    }
                    Err(Verdict::Final(_)) => {}
                }
            }
            let ended = tokio::select! {
                ended = tries.join_next(), if !tries.is_empty() => ended,
                () = tokio::time::sleep(operation.hedge_delay), if !tries.is_empty() => continue,
                else => None,
            };
            match ended {
                Some(Ok((node, _, Ok(answer)))) => return Ok((node, answer)),
                Some(Ok((_, is_resend, Err(Verdict::Final(ClientError::OutcomeUnknown { node }))))) => {
                    // A node that looked for an earlier try and cannot know more: nor can another one.
                    let looked = |said: &Failure| said.reason == FailureReason::OutcomeUnknown;
                    let is_final = node.code == Code::DeadlineExceeded && node.failure.as_deref().is_some_and(looked);
                    if is_resend && is_final {
                        return Err(ClientError::OutcomeUnknown { node });
                    }
                    failed += 1;
                    unknown = Some(node);
                }
                // The answer to a resend speaks of all tries, and that to a first try of this one alone.
                Some(Ok((
                    _,
                    false,
                    Err(Verdict::Final(error @ (ClientError::ConditionFailed { .. } | ClientError::NotANumber { .. }))),
                ))) if open > 1 => {
                    open -= 1;
                    failed += 1;
                    declined = Some(error);
                }
                // A node that refuses one try says nothing of the others.
                Some(Ok((
                    _,
                    _,
                    Err(Verdict::TryNext(failure) | Verdict::Final(ClientError::Refused { node: failure })),
                ))) if open > 1 => {
                    open -= 1;
                    failed += 1;
                    last = Some(failure);
                }
                Some(Ok((_, _, Err(Verdict::Final(error))))) => return Err(error),
                Some(Ok((_, _, Err(Verdict::TryNext(failure))))) => {
                    open -= 1;
                    failed += 1;
                    last = Some(failure);
                }
                // The task panicked, which is our own defect, or the runtime is ending.
                Some(Err(error)) => unknown = Some(NodeFailure::new("client", error.to_string())),
                None => {}
            }
            is_ending |= Instant::now() >= operation.deadline;
            if !is_ending && failed >= self.nodes().len() {
                failed = 0;
                is_ending = !backoff.wait(operation.deadline).await;
            }
            if is_ending && tries.is_empty() {
                return Err(if let (0, Some(error)) = (open, declined) {
                    error
                } else if open == 0 {
                    let last = last.expect("a client has at least one node, and it failed");
                    ClientError::NotApplied { last, tried_for: operation.began.elapsed() }
                } else {
                    let node = unknown.or(last).expect("a try that may have taken effect has failed");
                    ClientError::OutcomeUnknown { node }
                });
            }
        }
    }

    /// Sends a write to `node`, once. The verdict is `TryNext` only if the write certainly did not happen.
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
            () = tokio::time::sleep(operation.hedge_delay) => {
                // This write can now only wait for its answer. Later writes need not wait behind it.
                self.avoid(node);
                sending.await
            }
        };
        match sent {
            Ok(answer) => {
                node.record_answer();
                Ok(answer)
            }
            Err(failure) => {
                let verdict = judge_write(node, &failure);
                match verdict {
                    // The node answered. That it refuses is the write's own fault.
                    Verdict::Final(ClientError::ConditionFailed { .. } | ClientError::NotANumber { .. }) => {
                        node.record_answer();
                    }
                    Verdict::Final(ClientError::Refused { .. }) => {}
                    _ => {
                        self.avoid(node);
                    }
                }
                Err(verdict)
            }
        }
    }

    /// The node for a write or a stream: the next in turn if it answered recently, else the first whose health is good.
    pub(super) async fn live_node(&self, operation: Operation) -> Result<Arc<Node>, Verdict> {
        let nodes = self.nodes_in_turn(operation.slot);
        if nodes[0].answered_recently() {
            return Ok(Arc::clone(&nodes[0]));
        }
        // A single node has no substitute, so its health may take until the deadline.
        let health_deadline = if nodes.len() == 1 {
            operation.deadline
        } else {
            operation.deadline.min(Instant::now() + HEALTH_HEDGE_DELAYS * operation.hedge_delay)
        };
        let degraded = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&degraded);
        let found = self
            .race(nodes, operation, move |node, _| {
                let degraded = Arc::clone(&degraded);
                async move {
                    let health = node.health(health_deadline).await.map_err(|status| judge_read(&node, &status))?;
                    let problem = match health.status() {
                        api::Health::Online | api::Health::Default => return Ok(()),
                        api::Health::Degraded => {
                            degraded.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(Arc::clone(&node));
                            "the node is degraded"
                        }
                        api::Health::Starting => "the node is starting, or waits for the other nodes",
                        api::Health::Draining => "the node is ending",
                        api::Health::Refused => "the node is refused by its peers",
                    };
                    // The node's own words say it better, where it has some.
                    let message = if health.detail.is_empty() { problem.to_owned() } else { health.detail };
                    Err(Verdict::TryNext(NodeFailure::new(&node.address, message)))
                }
            })
            .await;
        match found {
            Ok((node, ())) => Ok(node),
            // A degraded node is better than none: with a full disk of its own it still coordinates writes to others.
            Err(verdict) => seen.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(verdict),
        }
    }

    /// Asks `nodes` in their order until one answers or all have failed. The next node is asked when the one before fails
    /// or the hedge delay has passed. Only for requests without an effect: several nodes may execute them.
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
        let mut last: Option<NodeFailure> = None;
        let mut all_of_caller = true;
        loop {
            let next = waiting.next();
            if let Some(node) = &next {
                let asking = ask(Arc::clone(node), operation.deadline);
                let node = Arc::clone(node);
                asked = Some(Arc::clone(&node));
                running.spawn(async move { (node, asking.await) });
            } else if running.is_empty() {
                let node = last.expect("a client has at least one node, and all were asked");
                let is_of_caller = all_of_caller && node.is_of_caller();
                return Err(if is_of_caller {
                    Verdict::Final(ClientError::Refused { node })
                } else {
                    Verdict::TryNext(node)
                });
            }
            let ended = tokio::select! {
                ended = running.join_next() => ended,
                () = tokio::time::sleep(operation.hedge_delay), if next.is_some() => {
                    if let Some(node) = &asked {
                        self.avoid(node);
                    }
                    continue;
                }
            };
            match ended {
                Some(Ok((node, Ok(answer)))) => {
                    node.record_answer();
                    return Ok((node, answer));
                }
                Some(Ok((_, Err(Verdict::Final(error))))) => return Err(Verdict::Final(error)),
                Some(Ok((node, Err(Verdict::TryNext(failure))))) => {
                    self.avoid(&node);
                    all_of_caller &= failure.is_of_caller();
                    // What the caller can mend comes before the failure of another node.
                    last = last.filter(NodeFailure::is_of_caller).or(Some(failure));
                }
                // The task panicked, which is our own defect, or the runtime is ending.
                Some(Err(error)) => {
                    all_of_caller = false;
                    last = Some(NodeFailure::new("client", error.to_string()));
                }
                None => {}
            }
        }
    }

    /// All nodes: those that hold the slot in turn, then the others in turn. Avoided ones come last.
    fn nodes_in_turn(&self, slot: Option<Slot>) -> Vec<Arc<Node>> {
        self.begin_to_follow();
        let mut nodes = self.nodes().to_vec();
        let holders = match (slot, &self.router) {
            (Some(slot), Some(router)) => router.put_holders_first(slot, &mut nodes),
            _ => 0,
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (holders, others) = nodes.split_at_mut(holders);
        for part in [holders, others].into_iter().filter(|part| !part.is_empty()) {
            part.rotate_left(turn % part.len());
        }
        nodes.sort_by_key(|node| node.is_avoided());
        nodes
    }

    /// Makes other operations prefer other nodes, until `node` says that it serves.
    pub(super) fn avoid(&self, node: &Arc<Node>) {
        if !node.avoid() {
            return;
        }
        if let Some(Following { wake, .. }) = &self.following {
            wake.notify_one();
        }
        let node = Arc::clone(node);
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        while probes.try_join_next().is_some() {}
        probes.spawn(async move {
            loop {
                tokio::time::sleep(jittered(PROBE_INTERVAL)).await;
                if !node.is_avoided() {
                    return;
                }
                let health = node.health(Instant::now() + PROBE_INTERVAL).await;
                if health.is_ok_and(|health| health.serves) {
                    node.record_answer();
                    return;
                }
            }
        });
    }
}
