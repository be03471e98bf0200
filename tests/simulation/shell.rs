//! The shell around each node: starts and deaths, turns, and what is done with effects.

use quorate::protocol::turn::{MemoryRead, Output, Turn};
use quorate::protocol::{
    Effect, Failure, HelloRefusal, Input, Message, Node, ProtocolEvent, Reply, Request, RequestId, Setup, Time,
};
use quorate::types::{Condition, Key, NodeId, NodeIndex};

use crate::clients::Done;
use crate::disk::Folder;
use crate::testkit::giving_up::{self, Coordinator};
use crate::testkit::requests::Ask;
use crate::world::{Event, Host, Phase, World, index_of};

impl World {
    pub fn start(&mut self, host: NodeIndex) {
        let nonce = self.random.next();
        let (placement, me, addresses) = self.file_of(host);
        let started_at = self.time_of(host, self.now);
        let machine = &mut self.hosts[host.index()];
        if machine.node.is_some() {
            return;
        }
        let Folder { meta, kept_at, .. } = &machine.disk.folder;
        if kept_at.values().any(|kept_at| Some(*kept_at) > meta.running) {
            self.counters.count("a restart forgot since when a version is kept");
        }
        let repair = self.plan.repair.clone();
        let (joins, meta) = (machine.joins, meta.clone());
        let node = Node::start(Setup { me, placement, addresses, joins, meta, nonce, started_at, repair });
        let incarnation = node.incarnation();
        machine.node = Some(node);
        self.may_take_its_place(host);
        self.runs_as(host, incarnation);
        self.counters.count("starts");
        self.plan_turn(host);
        let noticed = self.phase != Phase::Faults || !self.random.permille(self.plan.unnoticed_permille);
        if !noticed {
            self.counters.count("a restarted node was not noticed");
        }
        for peer in self.members() {
            if peer != host {
                self.relink_if(host, peer, true);
                self.relink_if(peer, host, noticed);
            }
        }
    }

    /// A process dies. Its folder stays, and what was on its way to it, or not.
    pub fn crash(&mut self, host: NodeIndex, comes_back: bool) {
        let machine = &mut self.hosts[host.index()];
        let Some(_) = machine.node.take() else { return };
        machine.run += 1;
        machine.inbox.clear();
        machine.turn_planned = false;
        machine.wake_planned = None;
        machine.paused_until = 0;
        machine.dies_after = None;
        machine.senders.clear();
        machine.disk.broken = false;
        self.links.forget(host);
        self.watchers_lose(host);
        let machine = &mut self.hosts[host.index()];
        let taken = std::mem::take(&mut machine.taken);
        let in_flight = machine.disk.in_flight.take();
        let hidden = machine.disk.hidden.take();
        if let Some(batch) = in_flight {
            if self.random.permille(500) {
                self.counters.count("a batch in flight survived a crash");
                self.apply(host, &batch);
            } else {
                self.counters.count("a batch in flight was lost in a crash");
            }
        }
        if let Some(batch) = hidden {
            self.apply(host, &batch);
        }
        for (index, was_stored) in taken {
            if self.clients.operations[index].ask.is_read() {
                continue;
            }
            self.counters.count(if was_stored {
                "a coordinator died with a store on its way"
            } else {
                "a coordinator died between clock and store"
            });
            if self.random.permille(500) {
                let wait = self.within(self.plan.latency);
                self.plan_in(wait, Event::Reply { index, reply: None });
            }
        }
        for peer in self.members() {
            if peer != host && self.links.is_linked(peer, host) && !self.random.permille(self.plan.unnoticed_permille) {
                let wait = self.within((0, 50_000));
                self.tell(peer, host, false, wait);
            }
        }
        if comes_back {
            let wait = *self.random.pick(&[1_000, 20_000, 300_000, 1_500_000]);
            let wait = self.within((wait / 2, wait));
            self.plan_in(wait, Event::Start { host });
        }
    }

    pub fn plan_turn(&mut self, host: NodeIndex) {
        let Host { node, run, turn_planned, paused_until, .. } = &mut self.hosts[host.index()];
        if node.is_none() || *turn_planned {
            return;
        }
        *turn_planned = true;
        let (run, paused_until) = (*run, *paused_until);
        let wait = if self.random.permille(700) { 0 } else { self.within((1, 200)) };
        self.plan_at((self.now + wait).max(paused_until), Event::Turn { host, run });
    }

    pub fn input(&mut self, host: NodeIndex, run: u64, input: Input) {
        let machine = &mut self.hosts[host.index()];
        if machine.node.is_some() && machine.run == run {
            machine.inbox.push(input);
            if machine.paused_until > self.now {
                self.counters.count("a node was paused with messages in hand");
            }
            self.plan_turn(host);
        }
    }

    pub fn turn(&mut self, host: NodeIndex, run: u64) {
        let now = self.time_of(host, self.now);
        let machine = &mut self.hosts[host.index()];
        if machine.run != run {
            return;
        }
        if machine.paused_until > self.now {
            let until = machine.paused_until;
            self.plan_at(until, Event::Turn { host, run });
            return;
        }
        machine.turn_planned = false;
        let Some(incarnation) = machine.node.as_ref().map(Node::incarnation) else { return };
        let Host { node: Some(node), inbox, disk, dies_after, store_had_failed, .. } = machine else { return };
        let dies_after = dies_after.take();
        *store_had_failed = node.store_has_failed();
        let mut inbox = std::mem::take(inbox);
        let mut turn = Turn::new(node);
        for input in inbox.drain(..) {
            let is_request = matches!(input, Input::Request { .. });
            let answers_late = self.watch.answers_late_question(host, incarnation, &input);
            let (node, what_follows) = turn.input(now, input);
            *store_had_failed |= node.store_has_failed();
            if answers_late && what_follows.iter().any(|effect| matches!(effect, Effect::Reply { .. })) {
                self.counters.count("a read ended with the answer of one asked later");
            }
            if is_request && passes_over_one(node, now, what_follows) {
                self.counters.count("a late peer was passed over");
            }
        }
        let is_unreadable = disk.unreadable_until > self.now;
        let mut outputs = turn.end(now, |_, key, kind| {
            // A store that is closed says so at once.
            if is_unreadable && self.random.permille(500) {
                self.counters.count("a read of memory failed");
                MemoryRead::Failed
            } else if self.random.permille(self.plan.memory_permille) {
                self.counters.count("a read was answered by memory");
                MemoryRead::Done(disk.read(key, kind))
            } else {
                MemoryRead::WouldBlock
            }
        });
        self.hosts[host.index()].inbox = inbox;

        // The protocol promises to need no order among outputs for safety. A crash shows whether it does: what it leaves
        // undone is drawn.
        if dies_after.is_some() {
            self.random.shuffle(&mut outputs);
        }
        let mut applied = 0;
        for output in outputs {
            if dies_after == Some(applied) || self.defect.is_some() {
                break;
            }
            applied += usize::from(!matches!(output, Output::Event(_)));
            self.apply_output(host, run, output);
        }
        if dies_after.is_some() {
            self.counters.count("crashes within a turn");
            self.crash(host, true);
            return;
        }
        self.plan_wake(host, run);
    }

    pub fn plan_wake(&mut self, host: NodeIndex, run: u64) {
        let Some(time) = self.hosts[host.index()].node.as_ref().and_then(Node::next_wake) else { return };
        let at = self.true_time_of(host, time);
        let machine = &mut self.hosts[host.index()];
        if machine.wake_planned.is_none_or(|planned| at < planned) {
            machine.wake_planned = Some(at);
            self.plan_at(at.max(self.now + 1), Event::Wake { host, run });
        }
    }

    fn apply_output(&mut self, host: NodeIndex, run: u64, output: Output) {
        match output {
            Output::Persist(batch) => self.persist(host, run, batch),
            Output::Read { read, key, kind, .. } => {
                let wait = self.within(self.plan.read);
                self.plan_in(wait, Event::Read { host, run, read, key, kind });
            }
            Output::Scan { read, range, keys_max } => {
                let wait = self.within(self.plan.read);
                self.plan_in(wait, Event::Scan { host, run, read, range, keys_max });
            }
            Output::Measure { .. } => unreachable!("no table has a quota"),
            Output::Clean { table, entries_max } => {
                let wait = self.within(self.plan.read);
                self.plan_in(wait, Event::Clean { host, run, table, entries_max });
            }
            Output::ReadSlots { read, range, entries_max } => {
                let wait = self.within(self.plan.read);
                self.plan_in(wait, Event::ReadSlots { host, run, read, range, entries_max });
            }
            Output::ReadExpiries { from, after, entries_max } => {
                let wait = self.within(self.plan.read);
                self.plan_in(wait, Event::ReadExpiries { host, run, from, after, entries_max });
            }
            Output::Send { to, link, to_incarnation, message } => {
                if let Some(to) = self.machine_of(host, to, to_incarnation) {
                    self.send(host, to, link, to_incarnation, message);
                }
            }
            Output::Reply { id, reply } if self.is_of_operator(id, &reply) => {}
            Output::Watch { to, news } => self.tells(host, run, &to, &news),
            Output::Reply { id: RequestId(index), reply } => {
                let index = index_of(index);
                self.host(host).taken.remove(&index);
                if let Reply::Set(version) | Reply::Added { version, .. } = &reply {
                    self.watch.told(version);
                    let Done { first, .. } = self.clients.operations[index];
                    let drawn_by = version.ballot.as_ref().map(|ballot| ballot.writer.clone());
                    if first != index && drawn_by != self.writer_of(host) {
                        self.counters.count("a request that was sent again was found in the history");
                    }
                }
                if let Reply::Failed(failure) = &reply {
                    self.gives_up(host, index, failure);
                }
                if let Reply::Record(Some(record)) = &reply {
                    self.is_not_older(index, record);
                }
                let may_be_old = matches!(self.clients.operations[index].ask, Ask::GetOne { .. });
                if self.hosts[host.index()].is_forgetful
                    && !may_be_old
                    && !matches!(
                        reply,
                        Reply::Failed(
                            Failure::Unready(_)
                                | Failure::NoQuorum(_)
                                | Failure::NotApplied(_)
                                | Failure::OutcomeUnknown(_)
                        )
                    )
                {
                    self.is_wrong(format!("{host:?} has forgotten what it acknowledged, and answered a client"));
                }
                let wait = self.within((50, 300));
                self.plan_in(wait, Event::Reply { index, reply: Some(reply) });
            }
            Output::Event(event) => self.note(host, &event),
        }
    }

    /// Nobody gives up before the deadline without having been told to.
    fn gives_up(&mut self, host: NodeIndex, index: usize, failure: &Failure) {
        let Done { began_at, deadline, ref ask, first, .. } = self.clients.operations[index];
        let Host { node: Some(node), store_had_failed, .. } = &self.hosts[host.index()] else { return };
        if ask.has_token() && *failure == Failure::OutcomeForgotten {
            let may_be_repeated = matches!(ask, Ask::Add { since: Some(_), .. })
                || matches!(ask, Ask::SetIf { condition: Condition::Version(_), .. });
            self.counters.count(match (may_be_repeated, first != index) {
                (true, _) => "an outcome stayed unknown because the history was too short",
                (false, true) => "an outcome stayed unknown because the request could only ask",
                (false, false) => "an outcome stayed unknown because the base of an attempt was forgotten",
            });
            return;
        }
        // Who is asked changes with the members.
        if self.now >= deadline || giving_up::report_of(failure).is_none() || self.changes.is_on {
            return;
        }
        let (parameters, incarnation) = (self.placement.parameters(), node.incarnation());
        let coordinator = Coordinator {
            id: parameters.id(host),
            // In the turn of a node that was paused, its store may be reopened after the operation has failed.
            store_has_failed: *store_had_failed,
            // A read may have to settle a record.
            draws_ballots: ask.has_token()
                || self.tables.any()
                || (ask.is_read() && (self.plan.conditional_permille > 0 || self.plan.ttl_permille > 0)),
        };
        let result = giving_up::may_give_up(&coordinator, failure, |replica| {
            parameters
                .member(replica)
                .is_some_and(|replica| self.watch.has_refused(replica, host, incarnation, began_at))
        });
        self.counters.count("an operation was given up early");
        self.check(result);
    }

    /// The name under which a node writes.
    pub fn writer_of(&self, host: NodeIndex) -> Option<NodeId> {
        let node = self.hosts[host.index()].node.as_ref()?;
        Some(node.layout().writer(node.me()).clone())
    }

    fn note(&mut self, host: NodeIndex, event: &ProtocolEvent) {
        match event {
            ProtocolEvent::Reconfigured { is_joint, .. } => self.reconfigured(host, *is_joint),
            ProtocolEvent::Expired => self.counters.count("a sweep deleted a value"),
            ProtocolEvent::TombstoneRound { is_sealed: true, .. } => self.counters.count("a slot was sealed"),
            ProtocolEvent::TombstoneRound { is_sealed: false, .. } => {
                self.counters.count("a round for deletions was cut off");
            }
            ProtocolEvent::Repaired { .. } => self.counters.count("a key was repaired"),
            ProtocolEvent::Compared { keys: 0, .. } => self.counters.count("two nodes were found equal"),
            ProtocolEvent::ReadWroteBack => self.counters.count("a read wrote back"),
            ProtocolEvent::ClockRound { writes: 2.. } => self.counters.count("a clock round served several writes"),
            ProtocolEvent::Hedged { write: true } => self.counters.count("a write asked others too"),
            ProtocolEvent::Hedged { write: false } => self.counters.count("a read asked others too"),
            ProtocolEvent::Resent => self.counters.count("a request was asked again"),
            ProtocolEvent::RefusedByPeer { refusal: HelloRefusal::StoreId, .. } => {
                self.counters.count("an store_id was refused");
            }
            ProtocolEvent::RefusedByPeer { refusal: HelloRefusal::Incarnation, .. } => {
                self.counters.count("an older incarnation was refused");
                if !self.hosts[host.index()].is_forgetful {
                    self.is_wrong(format!("{host:?} was refused, although it has forgotten nothing"));
                }
            }
            ProtocolEvent::StampConflict { key, stamp } => {
                self.is_wrong(format!("{host:?} met two records of {stamp} of {key}"));
            }
            ProtocolEvent::ClockJump { seen } => self.is_wrong(format!("{host:?} found {seen} too far ahead")),
            ProtocolEvent::Bootstrapped if self.phase == Phase::Faults && self.counters.get("faults") > 0 => {
                self.counters.count("the cluster bootstrapped under faults");
            }
            _ => {}
        }
    }
}

/// Whether a read has just asked peers other than one that it could have asked, had that not been late.
fn passes_over_one(node: &Node, now: Time, effects: &[Effect]) -> bool {
    let asked: Vec<(NodeIndex, &Key)> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { to, message: Message::Request { request: Request::Get { key, .. }, .. }, .. } => {
                Some((*to, key))
            }
            _ => None,
        })
        .collect();
    let Some((_, key)) = asked.first() else { return false };
    let replicas = node.layout().replicas(node.layout().slot(key));
    replicas.iter().any(|replica| {
        node.talking_to(*replica).is_some()
            && node.inspect().is_slow(*replica, now)
            && asked.iter().all(|(to, _)| to != replica && !node.inspect().is_slow(*to, now))
    })
}
