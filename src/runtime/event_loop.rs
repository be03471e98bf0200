//! The task that owns a node's state: it takes events, lets the protocol handle them, and applies the effects.
//!
//! Contract: a turn handles all events that wait, and then persists, sends and replies, in this order. The loop never waits
//! for a disk, a peer or a client: batches go to the commit thread, reads from the disk to threads of their own, and
//! messages to outboxes that drop rather than grow.
//!
//! Nodes have indexes, which the protocol gives out ([`protocol::Node::introduce`]). The loop asks it for that of each node that
//! says hello, and follows the layout: with the tables that have one entry for each node, and with the links that it opens.
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
use crate::peer::{AcceptedLink, HttpAddresses, LinkEvent, Outbox, Sender, Sent};
use crate::protocol::quorum::majority;
use crate::protocol::turn::{Link, Output, Turn};
use crate::protocol::{self, Input, Layout, MembersReport, Message, ProtocolEvent, RequestId, Time};
use crate::storage::Store;
use crate::traces::Tracer;
use crate::types::{Incarnation, NodeId, NodeIndex};

use super::commit_thread::{self, CommitThread};
use super::event::{ClientRequest, Event, MembersRequest, Permit};
use super::fair_queue::{FairQueue, WINDOW};
use super::handle::{PeerStatus, Status};
use super::links::Links;
use super::members::PublishedLayout;
use super::reads::{Reads, StoreRead};
use super::replies::ReplyTo;
use super::scans::Scans;
use super::telemetry::Telemetry;
use super::traced::TracedRequests;
use super::watchers::Watchers;

/// How many events one turn takes at most: enough to share a clock round and a batch, few enough that the first event
/// does not wait long for the last.
const EVENTS_PER_TURN: usize = 1_024;
/// How often a turn yields at most before it begins. More yields than these share nothing further.
const YIELDS_MAX: usize = 8;
/// Nor does a turn yield once so much time has passed since the first yield: on a busy machine each one may take long.
const YIELD_TIME_MAX: Duration = Duration::from_millis(1);
/// How many incarnations of one peer are answered at once: the present one, the one before it, whose link may end late,
/// and two that somebody falsely claims.
const ANSWERED_INCARNATIONS_MAX: usize = 4;

/// The loop and all that it owns.
pub(super) struct EventLoop {
    node: protocol::Node,
    started_at: Instant,
    store: Arc<dyn Store>,
    reads: Reads,
    scans: Scans,
    commit_thread: CommitThread,
    metrics: Arc<Metrics>,
    telemetry: Telemetry,
    traced: TracedRequests,
    events: mpsc::Sender<Event>,
    /// Client requests that are under way; a request's id is its index.
    in_flight: Slab<InFlight>,
    /// Those that wait until their clients have fewer under way.
    waiting: FairQueue<ClientRequest>,
    peers: Vec<Peer>,
    links: Links,
    /// Whether links are to be looked at: the layout has changed, or who answers.
    links_are_due: bool,
    http_addresses: Arc<HttpAddresses>,
    /// The layout that the tables and the links follow, as others see it.
    layout: Arc<Layout>,
    published: Arc<PublishedLayout>,
    watchers: Watchers,
    /// Callers that wait for the node's status after this turn.
    status_waiters: Vec<oneshot::Sender<Status>>,
    /// The same for the members.
    members_waiters: Vec<oneshot::Sender<MembersReport>>,
    /// Whether the disk has too little room for copies.
    disk_is_short: bool,
    /// Between turns: what the last one has left to the next, and requests that have waited and begin in it.
    inputs: Vec<(Time, Input)>,
}

/// The parts that an [`EventLoop`] is started with.
pub(super) struct Parts {
    pub(super) node: protocol::Node,
    pub(super) started_at: Instant,
    pub(super) store: Arc<dyn Store>,
    /// How many bytes large values may hold that reads have loaded, and as many those that peers have sent.
    pub(super) value_bytes_max: usize,
    pub(super) commit_thread: CommitThread,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: mpsc::Sender<Event>,
    /// The links that this node opens; none is open yet.
    pub(super) links: Links,
    pub(super) http_addresses: Arc<HttpAddresses>,
    pub(super) published: Arc<PublishedLayout>,
    pub(super) tracer: Option<Arc<Tracer>>,
}

/// A client request that is under way.
struct InFlight {
    reply: ReplyTo,
    permit: Permit,
    /// The window in which it began: see [`FairQueue::begin`].
    began: u64,
}

/// Another node's links.
struct Peer {
    id: NodeId,
    /// The number of the link that this node opened, and its outbox.
    opened: Option<(u64, Arc<Outbox>)>,
    /// The links that were opened in the peer's name, by incarnation. A false claim of another incarnation takes no
    /// answers away from the true one.
    accepted: VecDeque<(Incarnation, Arc<Outbox>)>,
    last_seen: Option<Instant>,
}

impl Peer {
    fn of_id(id: NodeId) -> Self {
        Self { id, opened: None, accepted: VecDeque::new(), last_seen: None }
    }

    /// Answers for `incarnation` go to `outbox` from now on.
    fn accept(&mut self, incarnation: Incarnation, outbox: Arc<Outbox>) {
        if self.accepted.iter().any(|(_, known)| Arc::ptr_eq(known, &outbox)) {
            return;
        }
        self.accepted.retain(|(other, earlier)| {
            let stays = *other != incarnation;
            if !stays {
                earlier.close();
            }
            stays
        });
        self.accepted.push_back((incarnation, outbox));
        if self.accepted.len() > ANSWERED_INCARNATIONS_MAX
            && let Some((_, oldest)) = self.accepted.pop_front()
        {
            oldest.close();
        }
    }
}

impl EventLoop {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { node, started_at, store, value_bytes_max, commit_thread, metrics, events, .. } = parts;
        let Parts { links, http_addresses, published, tracer, .. } = parts;
        let traced = TracedRequests::new(tracer, node.layout().id(node.me()).clone());
        let layout = Arc::clone(node.shared_layout());
        let watchers = Watchers::new(Arc::clone(&metrics));
        let telemetry = Telemetry::new(Arc::clone(&metrics));
        let scans = Scans::new(Arc::clone(&store), Arc::clone(node.shared_layout()), events.clone());
        let reads = Reads::new(Arc::clone(&store), Arc::clone(&metrics), events.clone(), value_bytes_max);
        let mut new = Self {
            node,
            started_at,
            store,
            reads,
            scans,
            commit_thread,
            metrics,
            telemetry,
            traced,
            events,
            in_flight: Slab::new(),
            waiting: FairQueue::new(started_at),
            peers: Vec::new(),
            links,
            links_are_due: true,
            http_addresses,
            layout,
            published,
            watchers,
            disk_is_short: false,
            status_waiters: Vec::new(),
            members_waiters: Vec::new(),
            inputs: Vec::new(),
        };
        new.know_nodes();
        new
    }

    /// Takes turns until `end`, or until nobody can send an event any more.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>, end: CancellationToken) {
        let mut batch = Vec::with_capacity(EVENTS_PER_TURN);
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        let mut sleeps_until: Option<Time> = None;
        // Whether the last gathering found events. Where a node has one request at a time, it never does.
        let mut shared = true;
        self.turn(&mut batch);
        loop {
            // The timer is only set to an earlier time. To let it ring too early costs less than to set it every turn.
            if let Some(wake) = self.next_wake()
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
                    if received > 1 || shared {
                        shared = gather(&mut events, &mut batch).await;
                    }
                }
                () = &mut sleep, if sleeps_until.is_some() => sleeps_until = None,
            }
            self.turn(&mut batch);
            while !end.is_cancelled() && self.begin_waiting() {
                // They share their turn with what has come meanwhile.
                gather(&mut events, &mut batch).await;
                self.turn(&mut batch);
            }
        }
    }

    /// When the loop must take a turn, even if nothing happens.
    fn next_wake(&self) -> Option<Time> {
        let protocol = self.node.next_wake();
        if self.waiting.len() == 0 {
            return protocol;
        }
        let window = time_at(self.started_at, Instant::now() + WINDOW);
        Some(protocol.map_or(window, |wake| wake.min(window)))
    }

    /// Handles the events that wait, then persists, sends and replies.
    fn turn(&mut self, batch: &mut Vec<Event>) {
        let mut inputs = std::mem::take(&mut self.inputs);
        for event in batch.drain(..) {
            self.on_event(event, &mut inputs);
        }
        let ended = self.watchers.take_ended();
        if !ended.is_empty() {
            let now = time_at(self.started_at, Instant::now());
            inputs.extend(ended.into_iter().map(|id| (now, Input::Unwatch(id))));
        }
        let mut turn = Turn::new(&mut self.node);
        for (time, input) in inputs.drain(..) {
            turn.input(time, input);
        }
        self.inputs = inputs;
        let outputs = turn
            .end(time_at(self.started_at, Instant::now()), |slot, key, kind| self.reads.read_memory(slot, key, kind));
        self.publish_layout();
        let mut from_disk = Vec::new();
        for output in outputs {
            self.apply(output, &mut from_disk);
        }
        self.reads.read_disk(from_disk);
        self.follow_members();
        for reply in std::mem::take(&mut self.status_waiters) {
            // A caller that no longer waits needs no answer.
            let _ = reply.send(self.status());
        }
        for reply in std::mem::take(&mut self.members_waiters) {
            let _ = reply.send(self.node.members_report(time_at(self.started_at, Instant::now())));
        }
        self.watchers.count_waiting(self.node.watches());
        self.telemetry.log_not_ready(|| self.node.unready());
    }

    /// Begins requests that have waited, in the next turn of the loop. Returns whether there are any.
    fn begin_waiting(&mut self) -> bool {
        if self.waiting.len() == 0 {
            return false;
        }
        let arrived = Instant::now();
        let now = time_at(self.started_at, arrived);
        let mut begins = false;
        while let Some(request) = self.waiting.next(arrived) {
            let input = self.begin(request, arrived);
            self.inputs.push((now, input));
            begins = true;
        }
        begins
    }

    fn begin(&mut self, request: ClientRequest, arrived: Instant) -> Input {
        let ClientRequest { command, deadline, reply, permit, trace } = request;
        let began = self.waiting.begin(permit.account(), arrived);
        let id = RequestId(self.in_flight.insert(InFlight { reply, permit, began }) as u64);
        let id = trace.map_or(id, |trace| self.traced.begin(id, trace, &command));
        Input::Request { id, deadline: time_at(self.started_at, deadline), command }
    }

    /// Takes one event, and adds the inputs that it means.
    fn on_event(&mut self, event: Event, inputs: &mut Vec<(Time, Input)>) {
        let arrived = Instant::now();
        let now = time_at(self.started_at, arrived);
        match event {
            Event::Request(request) => {
                let (account, deadline) = (Arc::clone(request.permit.account()), request.deadline);
                if let Some(request) = self.waiting.enter(&account, request, deadline, arrived) {
                    inputs.push((now, self.begin(request, arrived)));
                }
            }
            Event::Status(reply) => self.status_waiters.push(reply),
            Event::Members(reply) => self.members_waiters.push(reply),
            Event::ChangeMembers(MembersRequest { change, deadline, reply, permit }) => {
                let began = self.waiting.begin(permit.account(), arrived);
                let id = RequestId(self.in_flight.insert(InFlight { reply, permit, began }) as u64);
                let deadline = time_at(self.started_at, deadline);
                inputs.push((now, Input::ChangeMembers { id, deadline, change }));
            }
            Event::Link(event) => self.on_link_event(now, event, inputs),
            Event::ReadsDone(reads) => {
                inputs.extend(reads.into_iter().map(|(read, lookup)| (now, Input::ReadDone { read, lookup })));
            }
            Event::ScanDone(read, scanned) => inputs.push((now, Input::ScanDone { read, scanned })),
            Event::ExpiriesRead(page) => inputs.push((now, Input::ExpiriesRead(page))),
            Event::Measured(bytes) => inputs.push((now, Input::Measured(bytes))),
            Event::SlotsRead(read, page) => inputs.push((now, Input::SlotsRead { read, page })),
            Event::Cleaned(removed) => inputs.push((now, Input::Cleaned(removed))),
            Event::Persisted(durable) => {
                inputs.push((now, Input::Persisted { durable }));
                if !durable {
                    commit_thread::reopen(Arc::clone(&self.store), self.events.clone());
                }
            }
            Event::Reopened(meta) => {
                info!("the disk takes writes again");
                inputs.push((now, Input::StoreReopened(meta)));
            }
            Event::Watch { id, filter, cursor, list, watcher } => {
                self.watchers.add(id, watcher);
                inputs.push((now, Input::Watch { id, filter, cursor, list }));
            }
            Event::WatchPageTaken(id) => inputs.push((now, Input::WatchPageTaken(id))),
            Event::Unwatch(id) => {
                if self.watchers.remove(id) {
                    inputs.push((now, Input::Unwatch(id)));
                }
            }
            Event::DiskRoom { is_short } => {
                self.disk_is_short = is_short;
                inputs.push((now, Input::DiskRoom { is_short }));
            }
            Event::Repair(order) => inputs.push((now, Input::Repair(order))),
            Event::PaceTakeover(rate) => inputs.push((now, Input::PaceTakeover(rate))),
            Event::Drain => {
                info!("draining: new requests are refused, those in flight are finished");
                for request in self.waiting.take_all() {
                    inputs.push((now, self.begin(request, arrived)));
                }
                inputs.push((now, Input::Drain));
            }
        }
    }

    fn on_link_event(&mut self, now: Time, event: LinkEvent, inputs: &mut Vec<(Time, Input)>) {
        match event {
            LinkEvent::Up { peer, link } if self.is_open(peer, link) => inputs.push((now, Input::Linked(peer))),
            LinkEvent::Down { peer, link } if self.is_open(peer, link) => {
                self.links_are_due = true;
                inputs.push((now, Input::Unlinked(peer)));
            }
            // An earlier link: its end was told already.
            LinkEvent::Up { .. } | LinkEvent::Down { .. } => {}
            LinkEvent::Received { from: sender, from_incarnation, to_incarnation, messages, traces, permit } => {
                for note in traces {
                    let from = match &sender {
                        Sender::Opened(peer) => Some(*peer),
                        Sender::Accepted(link) => link.peer(),
                    };
                    if let Some(from) = from {
                        self.traced.told(from, note);
                    }
                }
                for mut message in messages {
                    let from = match &sender {
                        Sender::Opened(peer) => Some(*peer),
                        Sender::Accepted(link) => self.sender_of(now, link, &message),
                    };
                    let Some(from) = from else { continue };
                    if let Some(peer) = self.peers.get_mut(from.index()) {
                        peer.last_seen = Some(Instant::now());
                    }
                    self.traced.received(from, &message);
                    self.reads.count_received(&mut message);
                    inputs.push((now, Input::Peer { from, from_incarnation, to_incarnation, message }));
                }
                drop(permit);
            }
        }
    }

    /// Whether it is this link that is open to `peer`.
    fn is_open(&self, peer: NodeIndex, link: u64) -> bool {
        let opened = self.peers.get(peer.index()).and_then(|peer| peer.opened.as_ref());
        opened.is_some_and(|(number, _)| *number == link)
    }

    /// The node that a message of an accepted link comes from. Each hello is asked anew: the node may have become a member since
    /// the last one, and has another index then.
    fn sender_of(&mut self, now: Time, link: &AcceptedLink, message: &Message) -> Option<NodeIndex> {
        let Some(hello) = message.hello() else { return link.peer() };
        if hello.node_id != link.id {
            return None;
        }
        let peer = self.node.introduce(hello, now);
        self.know_nodes();
        self.links_are_due |= hello.joins.is_some() && !self.links.open.contains_key(&peer);
        if link.peer() != Some(peer) {
            link.is_of(peer);
            self.http_addresses.keep(peer, link.http_address.clone());
        }
        self.peers[peer.index()].accept(link.incarnation, Arc::clone(&link.outbox));
        Some(peer)
    }

    /// Gives each node of the layout its entry in the tables. An index may be that of another node by now.
    fn know_nodes(&mut self) {
        let nodes = self.node.layout().nodes();
        for (index, node) in nodes.iter().enumerate() {
            match self.peers.get_mut(index) {
                Some(peer) if peer.id == node.id => {}
                Some(peer) => *peer = Peer::of_id(node.id.clone()),
                None => self.peers.push(Peer::of_id(node.id.clone())),
            }
        }
        self.telemetry.know(nodes);
    }

    /// Publishes a layout that has changed.
    fn publish_layout(&mut self) {
        if !Arc::ptr_eq(&self.layout, self.node.shared_layout()) {
            self.know_nodes();
            self.layout = Arc::clone(self.node.shared_layout());
            self.published.put(Arc::clone(&self.layout));
            self.links_are_due = true;
        }
    }

    /// Opens and closes links where the layout has changed, or who answers.
    fn follow_members(&mut self) {
        if !std::mem::take(&mut self.links_are_due) {
            return;
        }
        let now = time_at(self.started_at, Instant::now());
        let waiting = self.node.waiting_at(now);
        for closed in self.links.follow(&self.layout, &waiting, self.searches()) {
            self.peers[closed.index()].opened = None;
            self.inputs.push((now, Input::Unlinked(closed)));
        }
        for (node, link) in &self.links.open {
            self.peers[node.index()].opened = Some((link.number, Arc::clone(&link.outbox)));
        }
    }

    /// Whether this node must find out who the members are: it is none, or too few of them answer.
    fn searches(&self) -> bool {
        let members = self.layout.old().members();
        let answers = |member: &&NodeIndex| **member == self.node.me() || self.node.talking_to(**member).is_some();
        !self.node.membership().is_member() || members.iter().filter(answers).count() < majority(members.len())
    }

    /// Applies one output. Reads are collected, so that several share a thread.
    fn apply(&mut self, output: Output, from_disk: &mut Vec<StoreRead>) {
        match output {
            Output::Persist(batch) => self.commit_thread.persist(batch),
            Output::Read { read, slot, key, kind } => from_disk.push(StoreRead { read, slot, key, kind }),
            Output::Scan { read, range, keys_max } => self.scans.begin(read, range, keys_max),
            Output::ReadExpiries { from, after, entries_max } => self.reads.read_expiries(from, after, entries_max),
            Output::Measure { table } => {
                self.scans.measure(table, self.node.me(), Arc::clone(self.node.shared_layout()));
            }
            Output::ReadSlots { read, range, entries_max } => self.scans.read_slots(read, range, entries_max),
            Output::Clean { table, entries_max } => self.scans.clean(table, entries_max),
            Output::Send { to, link, to_incarnation, message } => self.send(to, link, to_incarnation, message),
            Output::Event(event) => {
                self.links_are_due |= matches!(event, ProtocolEvent::PeerMet(_));
                self.traced.on_event(&event, self.node.me());
                self.telemetry.record(event);
            }
            Output::Watch { to, news } => self.watchers.tell(to, news, || self.node.unready()),
            Output::Reply { id, reply } => {
                if id.is_traced() {
                    self.traced.end(id, &reply);
                }
                let id = usize::try_from(id.number()).expect("ids are indexes of the slab");
                let InFlight { reply: waits, permit, began } = self.in_flight.remove(id);
                permit.account().end(began);
                waits.send(reply);
            }
        }
    }

    fn send(&mut self, to: NodeIndex, link: Link, to_incarnation: Option<Incarnation>, message: Message) {
        let Some(peer) = self.peers.get(to.index()) else { return };
        let outbox = match link {
            Link::Opened => peer.opened.as_ref().map(|(_, outbox)| outbox),
            Link::Accepted(incarnation) => {
                peer.accepted.iter().find(|(other, _)| *other == incarnation).map(|(_, outbox)| outbox)
            }
        };
        let note = self.traced.sent(to, &peer.id, &message);
        let sent = outbox.map_or(Sent::Closed, |outbox| {
            if let Some(note) = note {
                outbox.trace(note);
            }
            outbox.send(to_incarnation, message)
        });
        if sent == Sent::Full {
            self.metrics.link_messages_dropped.get_or_create(&PeerLabels { peer: peer.id.to_string() }).inc();
        }
    }

    fn status(&self) -> Status {
        let others = self.layout.members().iter().copied().filter(|member| *member != self.node.me());
        let peers = others.map(|member| {
            let peer = &self.peers[member.index()];
            let answers: usize = peer.accepted.iter().map(|(_, outbox)| outbox.queued_bytes()).sum();
            PeerStatus {
                member,
                id: peer.id.clone(),
                view: self.node.peer_view(member),
                last_seen: peer.last_seen.map(|seen| seen.elapsed()),
                queued_bytes: peer.opened.as_ref().map_or(0, |(_, outbox)| outbox.queued_bytes()) + answers,
            }
        });
        Status {
            unready: self.node.unready(),
            cluster: self.node.cluster(),
            store_failed: self.node.store_has_failed(),
            store_damage: self.store.damage(),
            disk_is_short: self.disk_is_short,
            clock: self.node.clock(),
            requests: self.in_flight.len() + self.waiting.len(),
            peers: peers.collect(),
            repair: self.node.repair_report(time_at(self.started_at, Instant::now())),
        }
    }
}

/// Adds the events to `batch` that other ready tasks are about to send, so that they share the turn's clock round, messages
/// and batch: it yields for as long as that brings events. Returns whether it brought any.
async fn gather(events: &mut mpsc::Receiver<Event>, batch: &mut Vec<Event>) -> bool {
    let (received, began) = (batch.len(), Instant::now());
    for _ in 0..YIELDS_MAX {
        let before = batch.len();
        tokio::task::yield_now().await;
        while batch.len() < EVENTS_PER_TURN
            && let Ok(event) = events.try_recv()
        {
            batch.push(event);
        }
        if batch.len() == before || began.elapsed() >= YIELD_TIME_MAX {
            break;
        }
    }
    batch.len() > received
}

/// The protocol's time at `instant`: since the node's start.
fn time_at(started_at: Instant, instant: Instant) -> Time {
    Time::default().after(instant.saturating_duration_since(started_at))
}
