//! A node: membership, a coordinator of its clients' operations and a replica of its slots, around one clock and one group
//! commit.
//!
//! This file only puts the parts together: it decides which part an input is for, and brings the answers of one part to the
//! next. An answer of the node's own replica takes the same way as a peer's, without a message.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::limits::{EXPIRY_DEADLINE, WAITING_HEARD_MAX};
use crate::mutants::{must, rule};
use crate::types::{Clock, ClusterId, Incarnation, Meta, NodeIndex, Record, Slot, TableId};

use super::clock::QuorumClock;
use super::context::{Caller, Delivery, Greeting, NodeCtx, Origin, PendingAck, Requester, Task};
use super::coordinator::ops::GetWith;
use super::coordinator::{Coordinator, Inspect};
use super::expiry::{Expiries, Work};
use super::group_commit::GroupCommit;
use super::io::{Command, Effect, Failure, Input, ProtocolEvent, Reply, RequestId, Time, Unready};
use super::layout::{KnownNode, Layout};
use super::listing::Listing;
use super::members::{Members, MembersReport};
use super::membership::{Membership, PeerChange, PeerView};
use super::message::{Answer, Hello, Message, OperationId, Refusal, Request};
use super::operators::{self, Operators};
use super::parts::Parts;
use super::placement::Placement;
use super::rate::Rate;
use super::repair::{Repair, RepairReport};
use super::repair_settings::{RepairOrder, RepairSettings};
use super::replica::Replica;
use super::tables::{self, Tables};
use super::tombstones::Tombstones;
use super::watch::Watches;

/// What a node is, given once at its start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This node.
    pub me: NodeIndex,
    /// The replicas of each slot, by the cluster file.
    pub placement: Arc<Placement>,
    /// Where each node of the cluster file is reached, `host:port`, in the order of their ids. Without them members cannot
    /// change.
    pub addresses: Vec<Arc<str>>,
    /// Whether the folder is fresh and the node waits to become a member.
    pub joins: bool,
    /// What its data folder remembers.
    pub meta: Meta,
    /// Random, drawn for this incarnation.
    pub nonce: u64,
    /// When this incarnation begins.
    pub started_at: Time,
    /// How it repairs; without it, it does not.
    pub repair: Option<RepairSettings>,
}

/// One node's whole protocol state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    me: NodeIndex,
    layout: Arc<Layout>,
    clock: QuorumClock,
    group_commit: GroupCommit<PendingAck>,
    membership: Membership,
    coordinator: Coordinator,
    listing: Listing,
    replica: Replica,
    operators: Operators,
    watches: Watches,
    expiries: Expiries,
    tables: Tables,
    repair: Repair,
    tombstones: Tombstones,
    members: Members,
    /// Answers of the replica that are still to be delivered; empty between two inputs.
    deliveries: VecDeque<Delivery>,
}

impl Node {
    /// A new incarnation of a node. It neither speaks nor serves before the epoch of this incarnation is durable, which
    /// [`Node::flush`] asks for.
    ///
    /// # Panics
    /// When the epochs are used up, which takes 2^64 starts.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let Setup { me, placement, addresses, joins, meta, nonce, started_at, repair } = setup;
        let parameters = placement.parameters().clone();
        let waits = joins && !meta.bootstrapped;
        // The cluster file is not asked any more once members have changed, and one that waits takes the floor of its cluster.
        let of_file = if waits { 0 } else { parameters.epoch_floor };
        let floor = meta.configuration.as_ref().map_or(of_file, |configuration| configuration.epoch_floor);
        let epoch = meta.epoch.max(rule!(RestoreBelowOldClock, floor, not 0));
        let incarnation = Incarnation { epoch: epoch.checked_add(1).expect("epochs do not run out"), nonce };
        let address = addresses.get(me.index()).cloned();
        let mut membership = Membership::new(me, parameters, incarnation, &meta, address, waits);
        let mut layout = Layout::begin(placement, &addresses);
        if let Some(configuration) = &meta.configuration {
            layout = membership.layout_under(configuration, &layout);
            membership.reconfigure(&layout, Some(&meta));
        }
        let mut group_commit = GroupCommit::default();
        group_commit.add_incarnation(incarnation);
        Self {
            me,
            clock: QuorumClock::start(incarnation.epoch),
            group_commit,
            coordinator: Coordinator::new(layout.nodes().len()),
            listing: Listing::default(),
            membership,
            members: Members::start(&meta, &layout, me, started_at),
            replica: Replica::start(incarnation.epoch, &meta),
            tables: Tables::start(started_at, &meta.dropped),
            operators: Operators::default(),
            watches: Watches::default(),
            expiries: Expiries::start(started_at, &meta),
            tombstones: Tombstones::start(repair.as_ref().and_then(|repair| repair.tombstones.clone()), started_at),
            repair: Repair::start(repair, me, &layout, started_at),
            deliveries: VecDeque::new(),
            layout: Arc::new(layout),
        }
    }

    /// Slots are taken over at this rate from now on.
    pub fn pace_takeover(&mut self, rate: Rate) {
        self.members.pace(rate);
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        // Everything after the batch of a configuration happens under it.
        let is_reopened = matches!(input, Input::StoreReopened(_));
        let before = match &input {
            Input::Persisted { durable: true } => self.switch_layout(),
            Input::StoreReopened(meta) => self.switch_to_durable(meta),
            _ => None,
        };
        let mut parts = self.parts(now, effects);
        match input {
            Input::Request { id, deadline, command } => parts.on_command(id, deadline, command),
            Input::Peer { from, from_incarnation, to_incarnation, message } => {
                if parts.membership.is_started() && from != parts.ctx.me {
                    parts.on_message(from, from_incarnation, to_incarnation, message);
                }
            }
            Input::Linked(peer) => parts.membership.on_link(peer, true, now),
            Input::Unlinked(peer) => parts.membership.on_link(peer, false, now),
            Input::ReadDone { read, lookup } => parts.replica.on_read_done(read, lookup, &mut parts.ctx),
            Input::ScanDone { read, scanned } => parts.replica.on_scan_done(read, scanned, &mut parts.ctx),
            Input::ExpiriesRead(page) => {
                let Parts { expiries, membership, replica, ctx, .. } = &mut parts;
                let is_dropped = |table| replica.is_dropped(table);
                expiries.on_page(page, |peer| membership.talking_to(peer).is_some(), is_dropped, ctx);
                parts.expire();
            }
            Input::SlotsRead { read, page } => {
                let mut is_done = false;
                parts.members(|members, ctx| is_done = members.on_slots_read(read, page.as_ref(), ctx));
                if is_done {
                    return parts.deliver();
                }
                parts.tombstones(|tombstones, ctx| is_done = tombstones.on_slots_read(read, page.as_ref(), ctx));
                if !is_done {
                    parts.repair(|repair, ctx| repair.on_slots_read(read, page, ctx));
                }
            }
            Input::Measured(bytes) => parts.tables.measured(bytes, now, parts.ctx.me, parts.ctx.layout),
            Input::Cleaned(removed) => {
                parts.repair.cleaned(removed.as_ref(), &parts.ctx);
                parts.tables.cleaned(removed.as_ref(), now);
            }
            Input::Persisted { durable: true } => parts.on_durable(),
            Input::Persisted { durable: false } => parts.on_batch_failed(),
            Input::StoreReopened(meta) => parts.on_store_reopened(&meta),
            Input::Wake => {
                parts.coordinate(Coordinator::on_wake);
                parts.list(Listing::on_wake);
                parts.operators.on_wake(&mut parts.ctx);
                parts.expiries.on_wake(parts.membership.unready().is_none(), &mut parts.ctx);
                parts.watch(Watches::on_wake);
                parts.tables(Tables::on_wake);
                if parts.tables.is_removing() {
                    parts.repair.cleaning_begins();
                }
                parts.repair(Repair::on_wake);
                parts.tombstones(Tombstones::on_wake);
                parts.members(Members::on_wake);
            }
            Input::Watch { id, filter, cursor, list } => parts.on_watch(id, &filter, &cursor, list),
            Input::WatchPageTaken(id) => parts.watch(|watches, ctx| watches.page_taken(id, ctx)),
            Input::Unwatch(id) => parts.watch(|watches, ctx| watches.close(id, ctx)),
            Input::DiskRoom { is_short } => parts.repair.disk_is_short(is_short),
            Input::Repair(order) => {
                if let RepairOrder::Configure(settings) = &order {
                    parts.tombstones.configure(settings.as_ref().and_then(|repair| repair.tombstones.clone()), now);
                }
                parts.repair(|repair, ctx| repair.on_order(order, ctx));
            }
            Input::PaceTakeover(rate) => parts.members.pace(rate),
            Input::ChangeMembers { id, deadline, change } => {
                parts.members(|members, ctx| members.on_order(id, deadline, change, ctx));
            }
            Input::Drain => {
                parts.membership.drain();
                parts.end_watches();
            }
        }
        if let Some(before) = before {
            parts.reconfigured(&before);
        } else if is_reopened {
            // What was chosen while the store took no writes.
            parts.adopt_newest();
        }
        parts.deliver();
    }

    /// Begins what all inputs handled so far may share: one clock round for all writes that wait for one, and one batch for
    /// everything that waits for the disk.
    pub fn flush(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut parts = self.parts(now, effects);
        parts.watch(Watches::flush);
        parts.coordinate(Coordinator::begin_clock_round);
        parts.deliver();
        parts.membership.send_hellos(&mut parts.ctx);
        self.expiries.count(now, &mut self.group_commit);
        if let Some(batch) = self.group_commit.begin() {
            effects.push(Effect::Persist(batch));
        }
    }

    /// When [`Input::Wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let wakes = [
            self.coordinator.next_wake(),
            self.listing.next_wake(),
            self.watches.next_wake(),
            self.operators.next_wake(),
            self.membership.next_hello(),
            self.expiries.next_wake(),
            self.tables.next_wake(),
            self.repair.next_wake(),
            self.tombstones.next_wake(),
            self.members.next_wake(&self.layout),
        ];
        wakes.into_iter().flatten().min()
    }

    /// Why it takes no requests, where it does not.
    #[must_use]
    pub fn unready(&self) -> Option<Unready> {
        self.membership.unready()
    }

    /// How `peer` stands to this node.
    #[must_use]
    pub fn peer_view(&self, peer: NodeIndex) -> PeerView {
        self.membership.view(peer)
    }

    /// The incarnation of `peer` that requests are sent to, where they are.
    #[must_use]
    pub fn talking_to(&self, peer: NodeIndex) -> Option<Incarnation> {
        self.membership.talking_to(peer)
    }

    /// Whether the store has failed and was not reopened since.
    #[must_use]
    pub fn store_has_failed(&self) -> bool {
        self.group_commit.has_failed()
    }

    /// The clock now.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock.now()
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> NodeIndex {
        self.me
    }

    /// The members and the replicas of each slot.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The members, as this node sees them.
    #[must_use]
    pub fn members_report(&self, now: Time) -> MembersReport {
        self.members.report(self.me, &self.layout, &self.membership, now)
    }

    /// Its part in changes of members, for tests.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The nodes that wait to become members of its cluster, and where they are.
    #[must_use]
    pub fn waiting_at(&self, now: Time) -> BTreeMap<NodeIndex, Arc<str>> {
        if !self.membership.is_member() {
            return BTreeMap::new();
        }
        let since = Time(now.0.saturating_sub(Time(0).after(WAITING_HEARD_MAX).0));
        self.membership.waiting(since).map(|waiting| (waiting.node, waiting.address)).collect()
    }

    /// Who it may talk to.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The index of the node that says `hello`. One that is not known gets an index. Messages from it bear that.
    pub fn introduce(&mut self, hello: &Hello, now: Time) -> NodeIndex {
        // Members of a configuration that is on its way to the disk have their indexes already.
        if let Some(adopting) = self.members.adopting_layout() {
            for (index, node) in adopting.nodes().iter().enumerate().skip(self.layout.nodes().len()) {
                let index = NodeIndex(u16::try_from(index).expect("a node hears of few nodes in its life"));
                Arc::make_mut(&mut self.layout).know(index, KnownNode::of_id(node.id.clone()));
            }
        }
        self.membership.introduce(hello, now, &mut self.layout)
    }

    /// The layout of the configuration in the batch that is durable now, if there is one, takes the place of the present one,
    /// which is returned.
    fn switch_layout(&mut self) -> Option<Arc<Layout>> {
        let number = self.group_commit.configuration_in_flight()?;
        let mut layout = self.members.adopted(number)?;
        // Nodes may have been met meanwhile.
        let known = layout.nodes().len();
        let met: Vec<_> = self.layout.nodes().iter().skip(known).cloned().enumerate().collect();
        for (place, node) in met {
            let index = NodeIndex(u16::try_from(known + place).expect("a node hears of few nodes in its life"));
            Arc::make_mut(&mut layout).know(index, node);
        }
        Some(std::mem::replace(&mut self.layout, layout))
    }

    /// The store was reopened. The batch of a configuration may have become durable, although it was reported as failed: that is
    /// the present one then. The slots that it takes from this node are empty.
    fn switch_to_durable(&mut self, meta: &Meta) -> Option<Arc<Layout>> {
        let configuration = meta.configuration.as_ref().filter(|durable| durable.number > self.layout.number())?;
        let layout = Arc::new(self.membership.layout_under(configuration, &self.layout));
        Some(std::mem::replace(&mut self.layout, layout))
    }

    /// The present layout, for a part of the shell that keeps it.
    #[must_use]
    pub fn shared_layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The cluster, once its first members have met.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.membership.cluster()
    }

    /// Layouts under configurations that may follow are known ahead, and not computed when they do.
    pub fn knows_ahead(&mut self, layouts: &[Layout]) {
        self.layout = Arc::new(Layout::clone(&self.layout).knowing(layouts));
    }

    /// This incarnation.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.membership.incarnation()
    }

    /// Its watches, for metrics and tests.
    #[must_use]
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Its tables, for tests.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Its repair.
    #[must_use]
    pub fn repair(&self) -> &Repair {
        &self.repair
    }

    /// The state of its repair, and of its tombstones.
    #[must_use]
    pub fn repair_report(&self, now: Time) -> RepairReport {
        RepairReport { tombstones: self.tombstones.report(now), ..self.repair.report(now) }
    }

    /// Its tombstones.
    #[must_use]
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// The seal of a slot, for tests.
    #[must_use]
    pub fn seal(&self, slot: Slot) -> Option<Clock> {
        self.replica.seal(slot)
    }

    /// What tests may see of its operations.
    #[must_use]
    pub fn inspect(&self) -> Inspect<'_> {
        self.coordinator.inspect()
    }

    fn parts<'a>(&'a mut self, now: Time, effects: &'a mut Vec<Effect>) -> Parts<'a> {
        let running = self.expiries.running(now);
        let Self { me, layout, clock, group_commit, deliveries, .. } = self;
        let ctx = NodeCtx { now, running, me: *me, layout, clock, group_commit, effects, deliveries };
        let Self { membership, coordinator, listing, replica, operators, watches, .. } = self;
        let Self { expiries, tables, repair, tombstones, members, .. } = self;
        Parts {
            membership,
            coordinator,
            listing,
            replica,
            operators,
            watches,
            expiries,
            tables,
            repair,
            tombstones,
            members,
            ctx,
        }
    }
}

impl Parts<'_> {
    /// A client or an operator asks.
    fn on_command(&mut self, id: RequestId, deadline: Time, command: Command) {
        if let Some(unready) = self.membership.unready() {
            return self.ctx.reply(id, Reply::Failed(Failure::Unready(unready)));
        }
        match command {
            Command::Get { .. } | Command::Set { .. } | Command::List(_) => self.begin(id, deadline, command),
            Command::GetOne { key, at_least } => {
                self.begin(id, deadline, tables::moving::get_one_in(TableId::DEFAULT, key, at_least));
            }
            Command::Change { key, request } => {
                let request = tables::moving::request_in(TableId::DEFAULT, &key, request);
                self.begin(id, deadline, Command::Change { key, request });
            }
            Command::InTable(_)
            | Command::CreateTable { .. }
            | Command::DropTable { .. }
            | Command::OpenTable { .. } => self.tables(|tables, ctx| tables.on_command(id, deadline, command, ctx)),
            Command::NodeGet { key } => self.operators.get(id, deadline, key, self.replica, &mut self.ctx),
            Command::NodeSet { key, content, checksum, stamp } => {
                match operators::stamp_for(&key, stamp, &mut self.ctx) {
                    Ok(stamp) => {
                        let record = Record::plain(stamp, content, checksum);
                        self.operators.set(id, deadline, key, record, self.replica, &mut self.ctx);
                    }
                    Err(failure) => self.ctx.reply(id, Reply::Failed(failure)),
                }
            }
            Command::ClockGet => self.ctx.reply(id, Reply::Clock(self.ctx.clock.now())),
            Command::ClockRaise { to } => self.operators.raise_clock(id, deadline, to, &mut self.ctx),
        }
    }

    /// Begins an operation of a client.
    fn begin(&mut self, id: RequestId, deadline: Time, command: Command) {
        self.tables(|_, ctx| tables::begin(Caller::Client(id), deadline, command, ctx));
    }

    /// Begins the deletions that may begin now.
    fn expire(&mut self) {
        let deadline = self.ctx.now.after(EXPIRY_DEADLINE);
        let clients_wait = self.coordinator.serves_clients();
        for work in self.expiries.begin_work(clients_wait, &mut self.ctx) {
            self.coordinate(|coordinator, ctx| match work {
                Work::Delete(task, expiry) => {
                    coordinator.expire(Caller::Task(Task::Expire(task)), deadline, expiry.key, &expiry.version, ctx);
                }
                Work::Read(task, expiry) => {
                    // Other replicas that agree would do for any other read.
                    let read = GetWith::new(BTreeSet::from([ctx.node.me])).into();
                    coordinator.start(Caller::Task(Task::Expire(task)), deadline, expiry.key, read, ctx);
                }
            });
        }
    }

    /// A peer says something. Requests and answers from or for another incarnation do not count.
    fn on_message(
        &mut self,
        from: NodeIndex,
        from_incarnation: Incarnation,
        to_incarnation: Option<Incarnation>,
        message: Message,
    ) {
        let Self { membership, ctx, .. } = self;
        match message {
            Message::Hello(hello) => {
                let change = membership.on_hello(from, &hello, Greeting::Hello, ctx);
                self.on_peer_change(from, change);
            }
            Message::Welcome(hello) => {
                if to_incarnation == Some(membership.incarnation()) {
                    let change = membership.on_hello(from, &hello, Greeting::Welcome, ctx);
                    self.on_peer_change(from, change);
                }
            }
            Message::HelloRefused { incarnation, refusal } => {
                let change = membership.on_hello_refused(from, incarnation, refusal, ctx);
                self.on_peer_change(from, change);
            }
            Message::Configuration(configuration) => self.on_configuration(&configuration),
            Message::ConfigurationWanted => self.tell_configuration(from, from_incarnation),
            Message::Request { operation, round, number, request } => {
                if membership.counts(from, from_incarnation, to_incarnation) {
                    let origin = Origin { node: from, incarnation: from_incarnation, operation, round, number };
                    self.serve_under(origin, request);
                }
            }
            Message::Answer { operation, round, number, answer } => {
                if membership.counts(from, from_incarnation, to_incarnation)
                    && self.answer_counts(from, from_incarnation, number, &answer)
                {
                    self.answered(from, operation, round, answer);
                }
            }
        }
    }

    /// Serves a peer's request, unless this node may not or cannot.
    pub(super) fn serve(&mut self, from: Origin, request: Request) {
        if let Some(refusal) = self.membership.replica_refusal() {
            self.ctx.refuse(Requester::Coordinator(from), refusal);
        } else if self.replica.is_overloaded(self.ctx.group_commit.next_bytes()) {
            self.ctx.report(ProtocolEvent::Overloaded);
        } else {
            match request {
                Request::Follow { filter, .. } if self.replica.is_dropped(filter.table()) => {
                    self.ctx.refuse(Requester::Coordinator(from), Refusal::Dropped);
                }
                Request::Follow { filter, next } => {
                    self.watch(|watches, ctx| watches.follow(from, &filter, next, ctx));
                }
                Request::Unfollow => self.watches.unfollow(from),
                Request::Members(request) => self.members(|members, ctx| members.on_request(from, request, ctx)),
                Request::Repair(request) => self.repair(|repair, ctx| repair.on_request(from, request, ctx)),
                request @ Request::OldRecords { .. } => {
                    self.tombstones(|tombstones, ctx| tombstones.on_request(from, request, ctx));
                }
                request => self.replica.on_request(from, request, &mut self.ctx),
            }
        }
    }

    /// A replica, of this node or a peer, answers.
    fn answered(&mut self, from: NodeIndex, operation: OperationId, round: u32, answer: Answer) {
        match answer {
            answer if self.tables.owns(operation) => {
                self.tables(|tables, ctx| tables.on_answer(from, operation, &answer, ctx));
            }
            answer if self.listing.owns(operation) => {
                self.list(|listing, ctx| listing.on_answer(from, operation, round, answer, ctx));
            }
            answer if self.repair.owns(operation) => {
                self.repair(|repair, ctx| repair.on_answer(from, round, answer, ctx));
            }
            answer if self.members.owns(operation) => {
                self.members(|members, ctx| members.on_answer(from, operation, round, answer, ctx));
            }
            answer if self.tombstones.owns(operation) => {
                self.tombstones(|tombstones, ctx| tombstones.on_answer(from, round, answer, ctx));
            }
            Answer::Refused(Refusal::Dropped) if self.watches.table_of(operation).is_some() => {
                let Some(table) = self.watches.table_of(operation) else { return };
                self.replica.hears_of_drop(table, &mut self.ctx);
                self.watch(|watches, ctx| watches.end_table(table, ctx));
            }
            Answer::Changes { .. } | Answer::ChangesLost => {
                self.watch(|watches, ctx| watches.on_answer(from, operation, round, answer, ctx));
            }
            answer => self.coordinate(|coordinator, ctx| coordinator.on_answer(from, operation, round, answer, ctx)),
        }
    }

    fn on_peer_change(&mut self, peer: NodeIndex, change: PeerChange) {
        match change {
            PeerChange::None => {}
            PeerChange::Excluded => {
                self.coordinate(|coordinator, ctx| coordinator.exclude(peer, ctx));
                self.list(Listing::exclude);
            }
            PeerChange::Admitted => self.coordinator.readmit(peer),
            PeerChange::Met => {
                self.coordinate(|coordinator, ctx| {
                    coordinator.readmit(peer);
                    coordinator.catch_up(peer, ctx);
                });
                self.list(|listing, ctx| listing.catch_up(peer, ctx));
                self.watch(|watches, ctx| watches.on_peer(peer, ctx));
                self.tables(|tables, ctx| tables.catch_up(peer, ctx));
                self.repair(|repair, ctx| repair.catch_up(peer, ctx));
                self.members(Members::catch_up);
            }
        }
        // Peers may have refused this node as a whole.
        if change == PeerChange::Excluded {
            self.end_watches();
        }
    }

    /// The batch that was in flight is durable.
    fn on_durable(&mut self) {
        let Some((batch, acks)) = self.ctx.group_commit.complete() else { return };
        if let Some(epoch) = batch.epoch {
            self.ctx.clock.epoch_is_durable(epoch);
            self.membership.on_started();
        }
        if batch.bootstrapped && batch.configuration.is_none() {
            self.membership.on_bootstrapped();
            self.ctx.report(ProtocolEvent::Bootstrapped);
        }
        for (key, (_, digest)) in &batch.forgotten {
            let is_followed = batch.records.contains_key(key);
            self.replica.on_forgotten(key, is_followed, self.ctx.group_commit.is_in_next(key));
            self.repair.forgotten(key, digest, self.ctx.layout);
        }
        for (key, (_, record)) in &batch.records {
            must!(ClockBelowRecords, self.ctx.clock.observe(record.tag().clock()));
            let kept_at = batch.kept_at.get(key).copied();
            let before = self.replica.on_durable(key, record, kept_at, self.ctx.group_commit);
            self.repair.changed(key, before.as_ref(), || record.digest(), self.ctx.layout);
            self.watches.changed(key, || record.version(), self.ctx.now);
        }
        self.expiries.on_durable(&batch, &self.ctx);
        self.replica.seals_are_durable(&batch);
        self.tombstones.on_durable(&batch, self.ctx.now);
        if !batch.dropped.is_empty() {
            self.replica.drops_are_durable(&batch.dropped);
            self.tables.dropped(&batch.dropped, self.ctx.now);
            for table in &batch.dropped {
                self.watch(|watches, ctx| watches.end_table(*table, ctx));
            }
        }
        for ack in acks {
            match ack {
                PendingAck::Stored(delivery) => self.ctx.deliveries.push_back(delivery),
                PendingAck::Observed(clock) => self.ctx.clock.observe(clock),
                PendingAck::Judged(from, request) if from.number == self.ctx.layout.number() => {
                    self.replica.on_request(from, request, &mut self.ctx);
                }
                // It is asked again under another configuration.
                PendingAck::Judged(..) => {}
                PendingAck::FloorsKept { number } => {
                    self.members(|members, ctx| members.floors_are_kept(number, ctx));
                    self.serve_held();
                }
                PendingAck::TakenOver { number } => {
                    self.members(|members, ctx| members.is_taken_over(number, ctx));
                }
                PendingAck::Promised { to, key, read_kind } => {
                    self.replica.on_promise_shown(to, key, read_kind, &mut self.ctx);
                }
                PendingAck::PeerRecorded { peer, peer_record, greeting } => {
                    let change = self.membership.on_recorded(peer, peer_record, greeting, &mut self.ctx);
                    self.on_peer_change(peer, change);
                }
                PendingAck::ClockRaised { request, to } => {
                    self.ctx.clock.observe(to);
                    let now = self.ctx.clock.now();
                    self.operators.reply(request, Reply::Clock(now), &mut self.ctx);
                }
            }
        }
        self.coordinate(Coordinator::on_epoch_durable);
        self.membership.bootstrap_if_met(&mut self.ctx);
    }

    /// The batch that was in flight may or may not be durable: nobody who waits for it is acknowledged.
    fn on_batch_failed(&mut self) {
        let Some(acks) = self.ctx.group_commit.abort() else { return };
        self.replica.on_batch_failed();
        self.repair.store_failed();
        self.watches.changes_unknown();
        self.membership.on_batch_failed();
        self.members.on_batch_failed();
        for ack in acks {
            match ack {
                PendingAck::Stored(mut delivery) => {
                    must!(AcknowledgedAfterFailure, delivery.store_failed());
                    self.ctx.deliveries.push_back(delivery);
                }
                PendingAck::Observed(_) => {}
                PendingAck::Judged(from, _) | PendingAck::Promised { to: from, .. } => {
                    self.ctx.refuse(Requester::Coordinator(from), Refusal::StoreFailed);
                }
                // The peer introduces itself again.
                PendingAck::PeerRecorded { .. } => {}
                // See above.
                PendingAck::FloorsKept { .. } | PendingAck::TakenOver { .. } => {}
                PendingAck::ClockRaised { request, .. } => {
                    self.operators.reply(request, Reply::Failed(Failure::StoreFailed), &mut self.ctx);
                }
            }
        }
        self.coordinate(Coordinator::on_batch_failed);
    }

    /// The store was reopened. Failed batches may have become durable after all, which is as good as if they had not failed.
    fn on_store_reopened(&mut self, meta: &Meta) {
        self.ctx.group_commit.reopened();
        self.watches.changes_unknown();
        self.ctx.clock.epoch_is_durable(meta.epoch);
        self.membership.on_store_reopened(meta);
        self.replica.on_store_reopened(meta, &mut self.ctx);
        self.members.on_store_reopened(meta, self.ctx.layout, self.ctx.me, self.ctx.now);
        self.tombstones.store_reopened();
        self.expiries.on_store_reopened(meta, self.ctx.now);
        self.repair.store_reopened(self.ctx.now);
        if !self.membership.is_started() {
            self.ctx.group_commit.add_incarnation(self.membership.incarnation());
        }
        self.coordinate(Coordinator::on_epoch_durable);
        self.membership.bootstrap_if_met(&mut self.ctx);
    }

    /// Delivers the answers of this node's replica, and those that follow from them.
    fn deliver(&mut self) {
        while let Some(delivery) = self.ctx.deliveries.pop_front() {
            match delivery {
                Delivery::Answer(Origin { node, operation, round, number, .. }, answer) if node == self.ctx.me => {
                    self.ctx.report_traced_answer(operation, round, &answer);
                    if number == self.ctx.layout.number() || answer.counts_under_each() {
                        self.answered(node, operation, round, answer);
                    }
                }
                Delivery::Answer(origin, answer) => {
                    let Origin { node, incarnation, operation, round, .. } = origin;
                    // An answer that was owed to a batch may leave after the node has adopted another configuration.
                    let number = rule!(AnswerBearsTheNumberAsked, self.ctx.layout.number(), not origin.number);
                    self.ctx.send(node, Some(incarnation), Message::Answer { operation, round, number, answer });
                }
                Delivery::Reply(request, reply) => self.operators.reply(request, reply, &mut self.ctx),
                Delivery::Task(Task::List { page, place }, reply) => {
                    self.list(|listing, ctx| listing.on_read(page, place, reply, ctx));
                }
                Delivery::Task(Task::Expire(task), reply) => {
                    self.expiries.on_reply(task, &reply, &mut self.ctx);
                    self.expire();
                }
                Delivery::Task(Task::Table(task, _), reply) => {
                    self.tables(|tables, ctx| tables.on_reply(task, reply, ctx));
                }
                Delivery::Task(Task::Repair(task), reply) => {
                    self.repair(|repair, ctx| repair.on_reply(task, &reply, ctx));
                }
                Delivery::Task(Task::Level(task), reply) => {
                    self.tombstones(|tombstones, ctx| tombstones.on_reply(task, &reply, ctx));
                }
                Delivery::Fenced(to, slot) => {
                    // The sum is that of this moment: it has all that the fence waited for.
                    let sum = self.repair.leaves().sum_of(slot);
                    self.ctx.answer(to, Answer::Fenced { sum });
                }
                Delivery::Task(Task::TakeOver(task), reply) => {
                    self.members(|members, ctx| members.on_copied(task, &reply, ctx));
                }
                Delivery::Task(Task::Watch(task), reply) => {
                    self.watch(|watches, ctx| watches.on_read(task, reply, ctx));
                }
                Delivery::Task(Task::WatchPage(page), reply) => {
                    self.watch(|watches, ctx| watches.on_page(page, reply, ctx));
                }
                Delivery::Beaten(key, version) => self.watches.changed(&key, || version, self.ctx.now),
            }
        }
    }
}
