//! The task that owns a node's state: it takes events, lets the protocol handle them, and applies the effects.
//!
//! Contract: a turn handles all events that wait, and then persists, sends and replies, in this order. The loop never waits
//! for a disk, a peer or a client: batches go to the commit thread, reads from the disk to threads of their own, and
//! messages to outboxes that drop rather than grow.
//!
//! Bounds: admission bounds client requests ([`super::NodeHandle`]). The channel of events is bounded, so that links wait
//! for the loop, and with them the peers that fill them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::metrics::{Metrics, PeerLabels};
use crate::peer::{LinkEvent, Outbox, Sent};
use crate::protocol::{self, Effect, Input, Message, Reply, RequestId, Time};
use crate::storage::Store;
use crate::types::{Incarnation, NodeId, NodeIndex};

use super::commit_thread::{self, CommitThread};
use super::event::{ClientRequest, Event};
use super::handle::{PeerStatus, Permit, Status};
use super::reads::{FromMemory, Reads, StoreRead};
use super::telemetry::Telemetry;

/// How many events one turn takes at most: enough to share a clock round and a batch, few enough that the first event
/// does not wait long for the last.
const EVENTS_PER_TURN: usize = 1_024;
/// How many incarnations of one peer are answered at once: the present one, the one before it, whose link may end late,
/// and two that somebody falsely claims.
const ANSWERED_INCARNATIONS_MAX: usize = 4;

/// The loop and all that it owns.
pub(super) struct EventLoop {
    node: protocol::Node,
    started_at: Instant,
    store: Arc<dyn Store>,
    reads: Reads,
    commit_thread: CommitThread,
    metrics: Arc<Metrics>,
    telemetry: Telemetry,
    events: mpsc::Sender<Event>,
    /// Client requests that are under way; a request's id is its index.
    in_flight: Slab<InFlight>,
    peers: Vec<Peer>,
    effects: Vec<Effect>,
}

/// The parts that an [`EventLoop`] is started with.
pub(super) struct Parts {
    pub(super) node: protocol::Node,
    pub(super) started_at: Instant,
    pub(super) store: Arc<dyn Store>,
    pub(super) commit_thread: CommitThread,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: mpsc::Sender<Event>,
    /// The outbox of the link that this node opens to each member, in the order of members; this node's own is not read.
    pub(super) outboxes: Vec<Arc<Outbox>>,
}

/// A client request that is under way.
struct InFlight {
    reply: oneshot::Sender<Reply>,
    _permit: Permit,
}

/// A member's links.
struct Peer {
    id: NodeId,
    /// The link that this node opened. It carries requests, and answers to the incarnation that was met on it.
    requests: Arc<Outbox>,
    /// The links that were opened in the peer's name, by incarnation. A false claim of another incarnation takes no
    /// answers away from the true one.
    answers: VecDeque<(Incarnation, Arc<Outbox>)>,
    last_seen: Option<Instant>,
}

impl Peer {
    /// Answers for `incarnation` go to `outbox` from now on.
    fn accepted(&mut self, incarnation: Incarnation, outbox: Arc<Outbox>) {
        self.answers.retain(|(other, earlier)| {
            let stays = *other != incarnation;
            if !stays {
                earlier.close();
            }
            stays
        });
        self.answers.push_back((incarnation, outbox));
        if self.answers.len() > ANSWERED_INCARNATIONS_MAX
            && let Some((_, oldest)) = self.answers.pop_front()
        {
            oldest.close();
        }
    }
}

impl EventLoop {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { node, started_at, store, commit_thread, metrics, events, outboxes } = parts;
        let parameters = node.placement().parameters();
        let ids = || parameters.members().map(|member| parameters.id(member).clone());
        let peer = |(id, requests)| Peer { id, requests, answers: VecDeque::new(), last_seen: None };
        let peers = ids().zip(outboxes).map(peer).collect();
        let telemetry = Telemetry::new(Arc::clone(&metrics), ids());
        let reads = Reads::new(Arc::clone(&store), Arc::clone(&metrics), events.clone());
        Self {
            node,
            started_at,
            store,
            reads,
            commit_thread,
            metrics,
            telemetry,
            events,
            in_flight: Slab::new(),
            peers,
            effects: Vec::new(),
        }
    }

    /// Takes turns until `end`, or until nobody can send an event any more.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>, end: CancellationToken) {
        let mut batch = Vec::with_capacity(EVENTS_PER_TURN);
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        let mut sleeps_until: Option<Time> = None;
        self.turn(&mut batch);
        loop {
            // The timer is only set to an earlier time. To let it ring too early costs less than to set it every turn.
            if let Some(wake) = self.node.next_wake()
                && sleeps_until.is_none_or(|time| wake < time)
            {
                sleep.as_mut().reset((self.started_at + Duration::from_micros(wake.0)).into());
                sleeps_until = Some(wake);
            }
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                received = events.recv_many(&mut batch, EVENTS_PER_TURN) => {
                    if received == 0 {
                        return;
                    }
                    // Yield once, so that other ready tasks can enqueue their events and share this turn's clock round,
                    // message and batch. Where no other task is ready, this costs next to nothing.
                    tokio::task::yield_now().await;
                    while batch.len() < EVENTS_PER_TURN
                        && let Ok(event) = events.try_recv()
                    {
                        batch.push(event);
                    }
                }
                () = &mut sleep, if sleeps_until.is_some() => sleeps_until = None,
            }
            self.turn(&mut batch);
        }
    }

    /// Handles the events that wait, then persists, sends and replies.
    fn turn(&mut self, batch: &mut Vec<Event>) {
        for event in batch.drain(..) {
            self.on_event(event);
        }
        let now = self.now();
        if self.node.next_wake().is_some_and(|wake| wake <= now) {
            self.input(Input::Wake);
        }
        self.read();
        self.node.flush(now, &mut self.effects);
        // A flush may begin reads too: the own replica compares before it stores.
        while self.read() {
            self.node.flush(now, &mut self.effects);
        }
        self.apply();
        self.telemetry.log_not_ready(|| self.node.unready());
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

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Request(ClientRequest { command, deadline, reply, permit }) => {
                let id = self.in_flight.insert(InFlight { reply, _permit: permit });
                let deadline = self.time(deadline);
                self.input(Input::Request { id: RequestId(id as u64), deadline, command });
            }
            Event::Status(reply) => {
                // A caller that no longer waits needs no answer.
                let _ = reply.send(self.status());
            }
            Event::Link(event) => self.on_link_event(event),
            Event::ReadsDone(reads) => {
                for (read, lookup) in reads {
                    self.input(Input::ReadDone { read, lookup });
                }
            }
            Event::Persisted(durable) => {
                self.input(Input::Persisted { durable });
                if !durable {
                    commit_thread::reopen(Arc::clone(&self.store), self.events.clone());
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
            LinkEvent::Accepted { peer, incarnation, outbox } => self.peers[peer.index()].accepted(incarnation, outbox),
            LinkEvent::Received { from, from_incarnation, to_incarnation, messages, permit } => {
                self.peers[from.index()].last_seen = Some(Instant::now());
                for message in messages {
                    self.input(Input::Peer { from, from_incarnation, to_incarnation, message });
                }
                drop(permit);
            }
        }
    }

    /// Answers all reads that memory can answer, and sends the others to the disk. Says whether there were any.
    fn read(&mut self) -> bool {
        let mut any = false;
        let mut from_disk = Vec::new();
        let mut from = 0;
        while from < self.effects.len() {
            if !matches!(self.effects[from], Effect::Read { .. }) {
                from += 1;
                continue;
            }
            let Effect::Read { read, slot, key, kind } = self.effects.swap_remove(from) else {
                unreachable!("the effect was looked at")
            };
            any = true;
            match self.reads.from_memory(StoreRead { read, slot, key, kind }) {
                FromMemory::Done(lookup) => self.input(Input::ReadDone { read, lookup: Some(lookup) }),
                FromMemory::Failed => self.input(Input::ReadDone { read, lookup: None }),
                FromMemory::WouldBlock(read) => from_disk.push(read),
            }
        }
        self.reads.from_disk(from_disk);
        any
    }

    /// Persists, then sends, then replies.
    fn apply(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in &effects {
            if let Effect::Persist(batch) = effect {
                self.commit_thread.persist(Arc::clone(batch));
            }
        }
        let mut replies = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, to_incarnation, message } => self.send(to, to_incarnation, message),
                Effect::Reply { id, reply } => replies.push((id, reply)),
                Effect::ProtocolEvent(event) => self.telemetry.record(event),
                Effect::Persist(_) => {}
                Effect::Read { .. } => unreachable!("reads are answered before anything is applied"),
            }
        }
        for (id, reply) in replies {
            let id = usize::try_from(id.0).expect("ids are indexes of the slab");
            // A client that no longer waits needs no answer.
            let _ = self.in_flight.remove(id).reply.send(reply);
        }
        self.effects = effects;
    }

    fn send(&mut self, to: NodeIndex, to_incarnation: Option<Incarnation>, message: Message) {
        let peer = &self.peers[to.index()];
        let outbox = match &message {
            Message::Hello(_) | Message::Request { .. } => Some(&peer.requests),
            // On the link that this node opened, answers share a batch with its own requests. An incarnation that this
            // node has not met there is answered on the link that it opened itself.
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
            requests: self.in_flight.len(),
            peers: peers.collect(),
        }
    }
}
