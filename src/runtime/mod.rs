//! The shell around the protocol: one loop that owns a node's state, and the threads and links that do its waiting.
//!
//! Contract: the loop handles all events that wait, lets the protocol begin what they share, and then persists, sends
//! and replies, in this order. It never waits for a disk, a peer or a client: a batch goes to a thread of its own, a load
//! that memory cannot answer to another, messages to outboxes that drop rather than grow.
//!
//! Bounds: client requests by [`NodeHandle::run`]'s admission, events by a channel that makes links wait, and with them
//! the peers that fill them.

mod event;
mod handle;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::limits::{DRAIN_TIME_MAX, EVENTS_WAITING_MAX};
use crate::metrics::{Metrics, PeerLabels};
use crate::peer::{Link, LinkEvent, Outbox, Sent};
use crate::protocol::placement::Placement;
use crate::protocol::{
    self, Effect, HelloRefusal, Input, Message, ProtocolEvent, ReadId, Reply, RequestId, Setup, Time, Unready,
};
use crate::storage::{ReadOutcome, ReadTier, Store, StoreError};
use crate::types::{Batch, Incarnation, Key, NodeId, NodeIndex, ReadKind, Slot};

pub use event::Event;
use event::Pending;
use handle::{Admission, Inner, Permit};
pub use handle::{NodeHandle, PeerStatus, Rejected, Status};

/// How many events one turn of the loop takes at most: enough to share a round and a batch, few enough that the first
/// is not kept waiting for the last.
const EVENTS_PER_TURN: usize = 1_024;
/// How many loads that wait for the disk share a thread: starting one costs as much as a load from the system's cache
/// of the disk, and the last of them waits for the others.
const LOADS_PER_THREAD: usize = 4;
/// How many runs of one peer are answered at once: the present one, the one before it, whose link may end late, and two
/// that only claim to be.
const ANSWERED_RUNS_MAX: usize = 4;
/// How often a store that failed is tried again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// How often a node that takes no requests says so in its log.
const REMIND_AFTER: Duration = Duration::from_secs(10);

/// What a node is made of.
pub struct Options {
    /// Which member of the cluster it is.
    pub me: NodeIndex,
    /// Who holds what.
    pub placement: Arc<Placement>,
    /// Where each member is reached, in the order of members: host and port.
    pub addresses: Vec<String>,
    /// What keeps its records.
    pub store: Arc<dyn Store>,
    /// Whether Node/Set and Clock/Set are allowed.
    pub operator_writes: bool,
    /// How many client requests it works on at once.
    pub requests_in_flight_max: usize,
    /// How many bytes these may hold.
    pub request_bytes_in_flight_max: usize,
}

/// A node that runs. Its handle asks it; this ends it.
pub struct RunningNode {
    handle: NodeHandle,
    links: TaskTracker,
    links_end: CancellationToken,
    turns: JoinHandle<()>,
    turns_end: CancellationToken,
    persister: std::thread::JoinHandle<()>,
}

/// Starts a node: its loop, and its links to all other members.
///
/// # Errors
/// When the store cannot say what it remembers.
pub fn start(options: Options) -> Result<RunningNode, StoreError> {
    let Options { me, placement, addresses, store, operator_writes, .. } = options;
    let meta = store.meta()?;
    let node = protocol::Node::start(Setup { me, placement: Arc::clone(&placement), meta, nonce: rand::random() });
    let incarnation = node.incarnation();
    let metrics = Arc::new(Metrics::default());
    let (events, events_received) = mpsc::channel(EVENTS_WAITING_MAX);
    let links_end = CancellationToken::new();
    let turns_end = CancellationToken::new();
    let handle = NodeHandle {
        inner: Arc::new(Inner {
            me,
            incarnation,
            placement,
            addresses,
            operator_writes,
            store: Arc::clone(&store),
            metrics: Arc::clone(&metrics),
            events: events.clone(),
            admission: Admission::new(options.requests_in_flight_max, options.request_bytes_in_flight_max),
            links_end: links_end.clone(),
            started_at: Instant::now(),
        }),
    };

    let links = TaskTracker::new();
    let parameters = handle.placement().parameters();
    let mut peers = Vec::new();
    for member in parameters.members() {
        let id = parameters.id(member).clone();
        let outbox = Outbox::new(incarnation, Arc::clone(&metrics));
        if member != me {
            let address = handle.address(member).to_owned();
            let link =
                Link { peer: member, id: id.clone(), address, outbox: Arc::clone(&outbox), events: events.clone() };
            links.spawn(link.run(links_end.clone()));
        }
        peers.push(Peer { id, requests: outbox, answers: VecDeque::new(), last_seen: None, refusals_said: [None; 2] });
    }
    links.close();

    let (persister, persister_thread) = spawn_persister(Arc::clone(&store), Arc::clone(&metrics), events.clone());
    let turns = Turns {
        node,
        started_at: handle.inner.started_at,
        persister,
        store,
        metrics,
        events,
        requests: Slab::new(),
        peers,
        effects: Vec::new(),
        remind_at: Instant::now() + REMIND_AFTER,
    };
    let turns = tokio::spawn(turns.run(events_received, turns_end.clone()));
    Ok(RunningNode { handle, links, links_end, turns, turns_end, persister: persister_thread })
}

impl RunningNode {
    /// The handle to ask it with.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Refuses new requests, and waits until those in flight have ended, [`DRAIN_TIME_MAX`] at most; then those that are
    /// left are given up, and their clients are told that the outcome is unknown.
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
            self.turns_end.cancel();
        }
    }

    /// Closes all links: peers see it gone. Its clients are still answered.
    pub async fn unlink(&self) {
        self.links_end.cancel();
        self.links.wait().await;
    }

    /// Ends it. Drain it first.
    pub async fn stop(self) {
        self.unlink().await;
        self.turns_end.cancel();
        if let Err(error) = self.turns.await {
            error!(%error, "the node's loop did not end well");
        }
        let (store, persister) = (Arc::clone(&self.handle.inner.store), self.persister);
        let flush = move || {
            // A batch may still be at the disk. The loop has let go of the thread, so that it ends with it.
            if persister.join().is_err() {
                error!("the thread that writes did not end well");
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

/// That the store is closed was said when it failed.
fn report_failed_load(error: &StoreError, key: &Key) {
    match error {
        StoreError::Closed | StoreError::Suspended => debug!(%error, %key, "could not read a record"),
        _ => error!(%error, %key, "could not read a record"),
    }
}

/// A thread that makes one batch durable after the other: it waits for the disk so that the loop does not.
fn spawn_persister(
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    events: mpsc::Sender<Event>,
) -> (std::sync::mpsc::Sender<Arc<Batch>>, std::thread::JoinHandle<()>) {
    // The protocol has one batch at the disk at a time, so that this never holds more than one.
    let (sender, batches) = std::sync::mpsc::channel::<Arc<Batch>>();
    let persist = move || {
        for batch in batches {
            let began = Instant::now();
            let result = store.persist(&batch);
            match &result {
                Ok(()) => {
                    metrics.batch_seconds.observe(began.elapsed().as_secs_f64());
                    metrics.batches.inc();
                    metrics.batch_records.inc_by(batch.records.len() as u64);
                }
                Err(error) => {
                    metrics.batch_failures.inc();
                    error!(%error, "the disk takes no writes; nothing is acknowledged until it does");
                }
            }
            if events.blocking_send(Event::Persisted(result.is_ok())).is_err() {
                return;
            }
        }
    };
    let thread =
        std::thread::Builder::new().name("persist".to_owned()).spawn(persist).expect("a thread can be started");
    (sender, thread)
}

/// The loop and all that it owns.
struct Turns {
    node: protocol::Node,
    started_at: Instant,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    events: mpsc::Sender<Event>,
    persister: std::sync::mpsc::Sender<Arc<Batch>>,
    requests: Slab<Waiting>,
    peers: Vec<Peer>,
    effects: Vec<Effect>,
    remind_at: Instant,
}

/// Who waits for a reply.
struct Waiting {
    reply: oneshot::Sender<Reply>,
    _permit: Permit,
}

/// What the shell knows of a member.
struct Peer {
    id: NodeId,
    /// On the link that this node opened: its requests, and its answers to the run that it has met there.
    requests: Arc<Outbox>,
    /// On the links that were opened in the peer's name, by run: whoever claims another run of it takes no answers away.
    answers: VecDeque<(Incarnation, Arc<Outbox>)>,
    last_seen: Option<Instant>,
    /// The refusals that the log has named last, here and there: the peer is tried again and again.
    refusals_said: [Option<HelloRefusal>; 2],
}

impl Peer {
    /// Answers for the run `incarnation` go to `outbox` from now on.
    fn serves(&mut self, incarnation: Incarnation, outbox: Arc<Outbox>) {
        self.answers.retain(|(other, earlier)| {
            let stays = *other != incarnation;
            if !stays {
                earlier.close();
            }
            stays
        });
        self.answers.push_back((incarnation, outbox));
        if self.answers.len() > ANSWERED_RUNS_MAX
            && let Some((_, oldest)) = self.answers.pop_front()
        {
            oldest.close();
        }
    }
}

impl Turns {
    async fn run(mut self, mut events: mpsc::Receiver<Event>, end: CancellationToken) {
        let mut batch = Vec::with_capacity(EVENTS_PER_TURN);
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        let mut sleeps_until: Option<Time> = None;
        self.turn(&mut batch, false);
        loop {
            // The timer is only moved forward: one that rings too early costs less than one that is set every turn.
            if let Some(wake) = self.node.next_wake()
                && sleeps_until.is_none_or(|time| wake < time)
            {
                sleep.as_mut().reset((self.started_at + Duration::from_micros(wake.0)).into());
                sleeps_until = Some(wake);
            }
            let rang = tokio::select! {
                biased;
                () = end.cancelled() => return,
                received = events.recv_many(&mut batch, EVENTS_PER_TURN) => {
                    if received == 0 {
                        return;
                    }
                    // Whoever else has something to say now says it first, so that one turn, and with it one clock
                    // round, one message to each peer and one batch, serves them all. Where nobody has, this costs
                    // next to nothing.
                    tokio::task::yield_now().await;
                    while batch.len() < EVENTS_PER_TURN
                        && let Ok(event) = events.try_recv()
                    {
                        batch.push(event);
                    }
                    false
                }
                () = &mut sleep, if sleeps_until.is_some() => {
                    sleeps_until = None;
                    true
                }
            };
            self.turn(&mut batch, rang);
        }
    }

    /// Handles what waits, then persists, sends and replies.
    fn turn(&mut self, batch: &mut Vec<Event>, rang: bool) {
        for event in batch.drain(..) {
            self.take(event);
        }
        let now = self.now();
        // A timer that is due rings late where events never pause.
        if rang || self.node.next_wake().is_some_and(|wake| wake <= now) {
            self.input(Input::Wake);
        }
        self.load();
        self.node.flush(now, &mut self.effects);
        // What a flush began may load too: the own replica compares before it stores.
        while self.load() {
            self.node.flush(now, &mut self.effects);
        }
        self.carry_out();
        self.remind();
    }

    fn now(&self) -> Time {
        self.time(Instant::now())
    }

    fn time(&self, instant: Instant) -> Time {
        Time::default().after(instant.saturating_duration_since(self.started_at))
    }

    fn input(&mut self, input: Input) {
        self.node.handle(self.now(), input, &mut self.effects);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Request(Pending { command, deadline, reply, permit }) => {
                let id = self.requests.insert(Waiting { reply, _permit: permit });
                let deadline = self.time(deadline);
                self.input(Input::Request { id: RequestId(id as u64), deadline, command });
            }
            Event::Status(reply) => {
                // One who no longer waits needs no answer.
                let _ = reply.send(self.status());
            }
            Event::Link(event) => self.on_link_event(event),
            Event::ReadsDone(loads) => {
                for (load, held) in loads {
                    self.input(Input::ReadDone { read: load, lookup: held });
                }
            }
            Event::Persisted(durable) => {
                self.input(Input::Persisted { durable });
                if !durable {
                    self.reopen_store();
                }
            }
            Event::Reopened(meta) => {
                info!("the disk takes writes again");
                self.input(Input::StoreReopened(meta));
            }
            Event::Drain => {
                info!("draining: new requests are refused, those in flight are finished");
                self.input(Input::Drain);
            }
        }
    }

    fn on_link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up(peer) => self.input(Input::Linked(peer)),
            LinkEvent::Down(peer) => self.input(Input::Unlinked(peer)),
            LinkEvent::Accepted { peer, incarnation, outbox } => self.peers[peer.index()].serves(incarnation, outbox),
            LinkEvent::Received { from, from_incarnation, to_incarnation, messages, permit } => {
                self.peers[from.index()].last_seen = Some(Instant::now());
                for message in messages {
                    self.input(Input::Peer { from, from_incarnation, to_incarnation, message });
                }
                drop(permit);
            }
        }
    }

    /// Answers all loads that memory can answer, and sends the others to threads that may wait. Whether there were any.
    fn load(&mut self) -> bool {
        let mut any = false;
        let mut from_disk = Vec::new();
        let mut from = 0;
        while from < self.effects.len() {
            if !matches!(self.effects[from], Effect::Read { .. }) {
                from += 1;
                continue;
            }
            let Effect::Read { read: load, slot, key, kind: read_kind } = self.effects.swap_remove(from) else {
                unreachable!("it was looked at")
            };
            any = true;
            match self.store.read(slot, &key, read_kind, ReadTier::Memory) {
                Ok(ReadOutcome::Done(held)) => {
                    self.metrics.loads_from_memory.inc();
                    self.input(Input::ReadDone { read: load, lookup: Some(held) });
                }
                Ok(ReadOutcome::WouldBlock) => from_disk.push((load, slot, key, read_kind)),
                Err(error) => {
                    report_failed_load(&error, &key);
                    self.input(Input::ReadDone { read: load, lookup: None });
                }
            }
        }
        self.load_from_disk(from_disk);
        any
    }

    fn load_from_disk(&self, mut loads: Vec<(ReadId, Slot, Key, ReadKind)>) {
        self.metrics.loads_from_disk.inc_by(loads.len() as u64);
        while !loads.is_empty() {
            let part = loads.split_off(loads.len().saturating_sub(LOADS_PER_THREAD));
            let (store, events) = (Arc::clone(&self.store), self.events.clone());
            tokio::task::spawn_blocking(move || {
                let load = |(load, slot, key, read_kind): (ReadId, Slot, Key, ReadKind)| {
                    let held = match store.read(slot, &key, read_kind, ReadTier::Disk) {
                        Ok(ReadOutcome::Done(held)) => Some(held),
                        Ok(ReadOutcome::WouldBlock) => None,
                        Err(error) => {
                            report_failed_load(&error, &key);
                            None
                        }
                    };
                    (load, held)
                };
                let loaded = part.into_iter().map(load).collect();
                // It fails only where the node has ended.
                let _ = events.blocking_send(Event::ReadsDone(loaded));
            });
        }
    }

    fn reopen_store(&self) {
        let (store, events) = (Arc::clone(&self.store), self.events.clone());
        tokio::spawn(async move {
            let mut said = None;
            loop {
                tokio::time::sleep(REOPEN_AFTER).await;
                let store = Arc::clone(&store);
                let reopened = tokio::task::spawn_blocking(move || store.reopen().and_then(|()| store.meta())).await;
                match reopened {
                    Ok(Ok(meta)) => {
                        // It fails only where the node has ended.
                        let _ = events.send(Event::Reopened(meta)).await;
                        return;
                    }
                    Ok(Err(error)) if said.as_ref() != Some(&error) => {
                        warn!(%error, "the disk still takes no writes; trying on");
                        said = Some(error);
                    }
                    Ok(Err(_)) => {}
                    Err(error) => error!(%error, "reopening the store did not end well"),
                }
                if events.is_closed() {
                    return;
                }
            }
        });
    }

    /// Persist, then send, then reply.
    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in &effects {
            if let Effect::Persist(batch) = effect {
                // It fails only where the thread has panicked, and then nothing is ever acknowledged again.
                let _ = self.persister.send(Arc::clone(batch));
            }
        }
        let mut replies = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, to_incarnation, message } => self.send(to, to_incarnation, message),
                Effect::Reply { id, reply } => replies.push((id, reply)),
                Effect::ProtocolEvent(note) => self.note(note),
                Effect::Persist(_) => {}
                Effect::Read { .. } => unreachable!("loads are answered before anything is carried out"),
            }
        }
        for (id, reply) in replies {
            let id = usize::try_from(id.0).expect("ids are indexes of the slab");
            // A client that no longer waits needs no answer.
            let _ = self.requests.remove(id).reply.send(reply);
        }
        self.effects = effects;
    }

    fn send(&mut self, to: NodeIndex, to_incarnation: Option<Incarnation>, message: Message) {
        let peer = &self.peers[to.index()];
        let outbox = match &message {
            Message::Hello(_) | Message::Request { .. } => Some(&peer.requests),
            // On the link that this node opened they share a message with its own requests. A run that it has not met on
            // that link is answered on the link that it opened itself.
            Message::Answer { .. } if self.node.talking_to(to) == to_incarnation => Some(&peer.requests),
            Message::Welcome(_) | Message::HelloRefused { .. } | Message::Answer { .. } => peer
                .answers
                .iter()
                .find(|(incarnation, _)| Some(*incarnation) == to_incarnation)
                .map(|(_, outbox)| outbox),
        };
        let sent = outbox.map_or(Sent::Closed, |outbox| outbox.send(to_incarnation, message));
        if sent == Sent::Full {
            self.metrics.link_dropped.get_or_create(&PeerLabels { peer: peer.id.to_string() }).inc();
        }
    }

    fn status(&self) -> Status {
        let parameters = self.node.placement().parameters();
        let peers = parameters.members().filter(|member| *member != self.node.me()).map(|member| {
            let peer = &self.peers[member.index()];
            let answers: usize = peer.answers.iter().map(|(_, outbox)| outbox.queued_bytes()).sum();
            PeerStatus {
                member,
                id: peer.id.clone(),
                view: self.node.peer_view(member),
                last_seen: peer.last_seen.map(|seen| seen.elapsed()),
                queued_bytes: peer.requests.queued_bytes() + answers,
            }
        });
        Status {
            unready: self.node.unready(),
            store_failed: self.node.store_has_failed(),
            clock: self.node.clock(),
            requests: self.requests.len(),
            peers: peers.collect(),
        }
    }

    fn note(&mut self, note: ProtocolEvent) {
        let metrics = &self.metrics;
        match note {
            ProtocolEvent::ReadWroteBack => {
                metrics.read_write_backs.inc();
            }
            ProtocolEvent::ClockRound { writes } => {
                metrics.clock_rounds.inc();
                metrics.clock_round_writes.inc_by(writes as u64);
            }
            ProtocolEvent::Hedged { .. } => {
                metrics.hedges.inc();
            }
            ProtocolEvent::Resent => {
                metrics.resends.inc();
            }
            ProtocolEvent::Swamped => {
                metrics.swamped.inc();
            }
            ProtocolEvent::PeerMet(peer) => {
                let peer = &mut self.peers[peer.index()];
                peer.refusals_said = [None; 2];
                info!(peer = %peer.id, "each has recorded the other");
            }
            ProtocolEvent::PeerRefused { peer, refusal } => {
                self.say_refusal(peer, 0, refusal, "this node refuses the peer");
            }
            ProtocolEvent::RefusedByPeer { peer, refusal } => {
                self.say_refusal(peer, 1, refusal, "the peer refuses this node");
            }
            ProtocolEvent::Formed => info!("the cluster has formed: every member has met every other"),
            ProtocolEvent::StampConflict { key, stamp } => {
                metrics.stamp_conflicts.inc();
                error!(%key, %stamp, "two records of one stamp differ; the second was refused");
            }
            ProtocolEvent::ClockJump { seen } => {
                metrics.clock_jumps.inc();
                error!(%seen, "refused a clock that is further ahead than any honest node's can be");
            }
            ProtocolEvent::StragglersDropped { peer, copies } => {
                metrics.stragglers_dropped.inc_by(copies as u64);
                debug!(peer = %self.peers[peer.index()].id, copies, "dropped copies for a slow peer; reads repair them");
            }
        }
    }

    /// Once for each side and reason: hellos are repeated.
    fn say_refusal(&mut self, peer: NodeIndex, side: usize, refusal: HelloRefusal, what: &str) {
        let peer = &mut self.peers[peer.index()];
        if peer.refusals_said[side].replace(refusal) != Some(refusal) {
            error!(peer = %peer.id, "{what}: {refusal}");
        }
    }

    fn remind(&mut self) {
        if self.remind_at > Instant::now() {
            return;
        }
        self.remind_at = Instant::now() + REMIND_AFTER;
        match self.node.unready() {
            Some(Unready::Forming { missing }) => {
                warn!(?missing, "taking no requests: a cluster forms when all its members have met once");
            }
            Some(Unready::Refused { by, refusal }) => error!(?by, "taking no requests: {refusal}"),
            Some(Unready::Starting) => warn!("taking no requests: this run's epoch is not on disk yet"),
            Some(Unready::Draining) | None => {}
        }
    }
}
