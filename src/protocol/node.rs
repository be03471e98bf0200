//! A node: coordinator of its clients' operations and replica of its slots, with one clock, one journal and one
//! handshake with each peer.
//!
//! Here is only how the parts are put together: which part an input is for, and what one part's answer means to the
//! next. An answer of the own replica takes the same way as a peer's, without a message.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock::{EpochNeeded, JumpBounds, PEER_JUMP, QuorumClock};
use crate::limits::{
    OPERATOR_COUNTER_RAISE_MAX, OPERATOR_EPOCH_RAISE_MAX, REPLICA_BACKLOG_BYTES_MAX, REPLICA_LOADS_MAX, RESEND_AFTER,
    RESEND_AFTER_MAX,
};
use crate::placement::Placement;
use crate::quorum::{Standing, Tally};
use crate::types::{Acquaintance, Clock, Held, Identity, Key, Life, Member, Meta, NodeId, Record, Slot, Stamp, Want};

use super::handshake::{Handshake, Known, PeerView, Verdict};
use super::journal::{Journal, Settled, Waits};
use super::message::{Answer, Hello, Message, OperationId, Refusal, Request};
use super::mutants::{self, Mutant};
use super::read::{self, Read};
use super::replica::{Outcome, Owed, Replica, Surroundings, Target};
use super::straggler::{Copy, Stragglers};
use super::write::{self, STORE_ROUND, Write};
use super::{Command, Effect, Failure, Input, Note, QuorumReport, Reply, RequestId, Said, Time, Unready};

/// What an operator may raise the clock by at once.
const OPERATOR_JUMP: JumpBounds =
    JumpBounds { epochs_max: OPERATOR_EPOCH_RAISE_MAX, counts_max: OPERATOR_COUNTER_RAISE_MAX };

/// Who a node is, given once at its start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This node.
    pub me: Member,
    /// Who holds what.
    pub placement: Arc<Placement>,
    /// What its folder remembers.
    pub meta: Meta,
    /// Random, drawn for this run.
    pub nonce: u64,
}

/// One node's whole protocol state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    me: Member,
    placement: Arc<Placement>,
    identity: Identity,
    /// The epoch of this run is durable.
    started: bool,
    draining: bool,
    clock: QuorumClock,
    journal: Journal<Due>,
    handshake: Handshake,
    replica: Replica,
    operations: BTreeMap<OperationId, Operation>,
    /// Operators' requests that wait for the own replica, and until when.
    local: BTreeMap<OperationId, (RequestId, Time)>,
    operation_next: u64,
    /// Writes that wait for the next clock round to begin.
    awaiting_round: Vec<OperationId>,
    /// Clock rounds that are under way, and the writes that take part.
    clock_rounds: BTreeMap<OperationId, Vec<OperationId>>,
    /// Writes that wait until an epoch is durable.
    awaiting_epoch: Vec<OperationId>,
    alarms: BTreeSet<(Time, OperationId)>,
    stragglers: Stragglers,
    /// Answers of the own replica that are still to be passed on.
    answers: Vec<(Target, Outcome)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Operation {
    deadline: Time,
    /// When to ask again, and how long to wait the time after.
    alarm: Time,
    asks: u32,
    /// The last refusal of each replica that has refused.
    refusals: BTreeMap<Member, Refusal>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Write(Write),
    Read(Read),
}

/// What is owed once a batch is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Due {
    Replica(Owed),
    /// This peer is recorded. Its hello is answered; its welcome counts.
    Recorded {
        peer: Member,
        acquaintance: Acquaintance,
        introduced_by: Introduction,
    },
    ClockRaised {
        operation: OperationId,
        to: Clock,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Introduction {
    Hello,
    Welcome,
}

impl From<Owed> for Due {
    fn from(owed: Owed) -> Self {
        Self::Replica(owed)
    }
}

impl Node {
    /// A new run of a node. It says nothing and serves nobody before the epoch of this run is durable, which
    /// [`Node::flush`] asks for.
    ///
    /// # Panics
    /// When the epochs are used up, which takes 2^64 starts.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let Setup { me, placement, meta, nonce } = setup;
        let life = Life { epoch: meta.epoch.checked_add(1).expect("epochs do not run out"), nonce };
        let parameters = placement.parameters().clone();
        let mut journal = Journal::default();
        journal.add_life(life);
        let known = Known { lives: &meta.lives, formed: meta.formed, peers: &meta.peers };
        Self {
            me,
            identity: meta.identity,
            handshake: Handshake::new(me, parameters, meta.identity, life, &known),
            placement,
            started: mutants::is_on(Mutant::ServesBeforeStarted),
            draining: false,
            clock: QuorumClock::start(life.epoch),
            journal,
            replica: Replica::default(),
            operations: BTreeMap::new(),
            local: BTreeMap::new(),
            operation_next: 0,
            awaiting_round: Vec::new(),
            clock_rounds: BTreeMap::new(),
            awaiting_epoch: Vec::new(),
            alarms: BTreeSet::new(),
            stragglers: Stragglers::default(),
            answers: Vec::new(),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Request { id, deadline, command } => self.request(now, id, deadline, command, effects),
            Input::Peer { from, from_life, to_life, message } => {
                self.peer(from, from_life, to_life, message, effects);
            }
            Input::Linked(peer) => self.handshake.linked(peer, true, now),
            Input::Unlinked(peer) => self.handshake.linked(peer, false, now),
            Input::Loaded { load, held } => {
                let (replica, mut around) = self.replica_and_surroundings(effects);
                replica.loaded(load, held, &mut around);
            }
            Input::Persisted { durable } => self.persisted(durable, effects),
            Input::StoreReopened(meta) => self.store_reopened(&meta, effects),
            Input::Wake => self.wake(now, effects),
            Input::Drain => self.draining = true,
        }
        self.pass_answers_on(effects);
    }

    /// Begins what all inputs handled so far may share: one clock round for all writes that wait for one, and one batch
    /// for everything that waits for the disk.
    pub fn flush(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.begin_clock_round(effects);
        self.pass_answers_on(effects);
        if self.started {
            for (to, message) in self.handshake.hellos(now) {
                effects.push(Effect::Send { to, to_life: None, message });
            }
        }
        if let Some(batch) = self.journal.begin() {
            effects.push(Effect::Persist(batch));
        }
    }

    /// When [`Input::Wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let alarm = self.alarms.first().map(|(time, _)| *time);
        let hello = self.handshake.next_hello().filter(|_| self.started);
        alarm.into_iter().chain(hello).min()
    }

    /// Why it takes no requests, where it does not.
    #[must_use]
    pub fn unready(&self) -> Option<Unready> {
        if let Some((by, refusal)) = self.handshake.refused_as_a_whole() {
            return Some(Unready::Refused { by: by.into_iter().map(|peer| self.id(peer)).collect(), refusal });
        }
        if !self.started {
            return Some(Unready::Starting);
        }
        if !self.handshake.is_formed() {
            return Some(Unready::Forming { missing: self.handshake.not_met().map(|peer| self.id(peer)).collect() });
        }
        self.draining.then_some(Unready::Draining)
    }

    /// How `peer` stands to this node.
    #[must_use]
    pub fn peer_view(&self, peer: Member) -> PeerView {
        self.handshake.view(peer)
    }

    /// Whether the store has failed and was not reopened since.
    #[must_use]
    pub fn store_has_failed(&self) -> bool {
        self.journal.has_failed()
    }

    /// The clock now.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock.now()
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> Member {
        self.me
    }

    /// Who holds what.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Whether no operation is under way, nor anything that one left behind.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.operations.is_empty() && self.clock_rounds.is_empty()
    }

    /// This run.
    #[must_use]
    pub fn life(&self) -> Life {
        self.handshake.life()
    }

    // Clients.

    fn request(&mut self, now: Time, id: RequestId, deadline: Time, command: Command, effects: &mut Vec<Effect>) {
        if let Some(unready) = self.unready() {
            let failed = Reply::Failed(Failure::Unready(unready));
            effects.push(Effect::Reply { id, reply: failed });
            return;
        }
        match command {
            Command::Get { key } => {
                let slot = self.placement.slot(&key);
                let read = Read::new(id, slot, &self.voters(slot), key);
                let operation = self.begin(now, deadline, Kind::Read(read));
                self.ask_what_is_held(operation, effects);
                self.fail_if_impossible(operation, effects);
            }
            Command::Put { key, content, checksum } => {
                let slot = self.placement.slot(&key);
                let write = Write::new(id, slot, &self.voters(slot), key, content, checksum);
                let operation = self.begin(now, deadline, Kind::Write(write));
                if mutants::is_on(Mutant::NoClockRound) {
                    return self.draw_stamp(operation, Clock::default(), effects);
                }
                if mutants::is_on(Mutant::OlderClockRound) {
                    self.join_older_round(operation);
                }
                self.awaiting_round.push(operation);
                self.fail_if_impossible(operation, effects);
            }
            Command::NodeGet { key } => match self.own_slot(&key) {
                Ok(slot) => {
                    let target = Target::Operator(self.begin_local(id, deadline));
                    self.replica.get(slot, key, Want::Record, target, effects);
                }
                Err(failure) => effects.push(Effect::Reply { id, reply: Reply::Failed(failure) }),
            },
            Command::NodePut { key, content, checksum, stamp } => {
                let record = |stamp| Record { stamp, content, checksum };
                match self.own_slot(&key).and_then(|slot| Ok((slot, record(self.operator_stamp(stamp)?)))) {
                    Ok((slot, record)) => {
                        let target = Target::Operator(self.begin_local(id, deadline));
                        self.own_store(slot, key, record, target, effects);
                    }
                    Err(failure) => effects.push(Effect::Reply { id, reply: Reply::Failed(failure) }),
                }
            }
            Command::ClockGet => effects.push(Effect::Reply { id, reply: Reply::Clock(self.clock.now()) }),
            Command::ClockRaise { to } => self.raise_clock(id, deadline, to, effects),
        }
    }

    /// Whose answers count.
    fn voters(&self, slot: Slot) -> Cow<'_, [Member]> {
        let mut voters = Cow::Borrowed(self.placement.replicas(slot));
        if mutants::is_on(Mutant::StandInsCount) {
            let at_hand = |member: &Member| *member == self.me || self.handshake.talking_to(*member).is_some();
            let mut others = self.placement.parameters().members().filter(at_hand);
            for place in 0..voters.len() {
                if !at_hand(&voters[place])
                    && let Some(other) = others.find(|other| !voters.contains(other))
                {
                    voters.to_mut()[place] = other;
                }
            }
        }
        voters
    }

    fn own_slot(&self, key: &Key) -> Result<Slot, Failure> {
        let slot = self.placement.slot(key);
        if mutants::is_on(Mutant::StandInsCount) || self.placement.holds(self.me, slot) {
            return Ok(slot);
        }
        let replicas = self.placement.replicas(slot).iter().map(|member| self.id(*member)).collect();
        Err(Failure::NotReplica { slot, replicas })
    }

    fn operator_stamp(&mut self, given: Option<Stamp>) -> Result<Stamp, Failure> {
        match given {
            Some(stamp) => match self.clock.check_jump(stamp.clock, OPERATOR_JUMP) {
                Ok(()) => Ok(stamp),
                Err(jump) => Err(Failure::RaiseTooFar { given: jump.seen, now: jump.now }),
            },
            None => match self.clock.issue(Clock::default()) {
                Ok(clock) => Ok(Stamp { clock, writer: self.id(self.me) }),
                Err(EpochNeeded(epoch)) => {
                    // Only at the very end of an epoch's counter; the next try finds the new epoch durable.
                    if !self.journal.has_failed() {
                        self.journal.add_epoch(epoch);
                    }
                    Err(Failure::StoreFailed)
                }
            },
        }
    }

    fn raise_clock(&mut self, id: RequestId, deadline: Time, to: Clock, effects: &mut Vec<Effect>) {
        let mut reply = |reply| effects.push(Effect::Reply { id, reply });
        if let Err(jump) = self.clock.check_jump(to, OPERATOR_JUMP) {
            reply(Reply::Failed(Failure::RaiseTooFar { given: jump.seen, now: jump.now }));
        } else if self.clock.is_durable(to.epoch) {
            self.clock.observe(to);
            reply(Reply::Clock(self.clock.now()));
        } else if self.journal.has_failed() {
            reply(Reply::Failed(Failure::StoreFailed));
        } else {
            self.journal.add_epoch(to.epoch);
            let operation = self.begin_local(id, deadline);
            self.journal.owe(Due::ClockRaised { operation, to }, Waits::ForTheNext);
        }
    }

    /// An operator's request begins to wait for the own replica: until `deadline`, because a disk may hang.
    fn begin_local(&mut self, request: RequestId, deadline: Time) -> OperationId {
        let id = self.next_operation();
        self.alarms.insert((deadline, id));
        self.local.insert(id, (request, deadline));
        id
    }

    fn end_local(&mut self, id: OperationId, reply: Reply, effects: &mut Vec<Effect>) {
        if let Some((request, deadline)) = self.local.remove(&id) {
            self.alarms.remove(&(deadline, id));
            effects.push(Effect::Reply { id: request, reply });
        }
    }

    // Operations.

    fn begin(&mut self, now: Time, deadline: Time, mut kind: Kind) -> OperationId {
        let id = self.next_operation();
        let tally = kind.tally_mut();
        let replicas = tally.replicas().to_vec();
        for replica in replicas {
            if matches!(self.handshake.view(replica), PeerView::Refused(_)) && replica != self.me {
                kind.tally_mut().refuse(replica);
            }
        }
        let alarm = now.after(RESEND_AFTER).min(deadline);
        self.alarms.insert((alarm, id));
        self.operations.insert(id, Operation { deadline, alarm, asks: 1, refusals: BTreeMap::new(), kind });
        id
    }

    /// Nobody waits for replicas that are known from the start to refuse for good.
    fn fail_if_impossible(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
        let operation = self.operations.get(&id);
        if operation.is_some_and(|operation| operation.kind.tally().standing() == Standing::Impossible) {
            self.fail(id, effects);
        }
    }

    fn next_operation(&mut self) -> OperationId {
        self.operation_next += 1;
        OperationId(self.operation_next)
    }

    /// Begins one clock round for all writes that wait for one. Its requests leave after each of these writes was
    /// invoked, which is what makes its answers count for all of them.
    fn begin_clock_round(&mut self, effects: &mut Vec<Effect>) {
        let mut writes = std::mem::take(&mut self.awaiting_round);
        // One that asked again may have had its answers since, and be storing by now.
        writes.retain(|id| {
            let operation = self.operations.get(id);
            operation.is_some_and(|operation| matches!(&operation.kind, Kind::Write(write) if write.awaits_clocks()))
        });
        writes.sort_unstable();
        writes.dedup();
        if writes.is_empty() {
            return;
        }
        let round = self.next_operation();
        effects.push(Effect::Note(Note::ClockRound { writes: writes.len() }));
        let mut asked = BTreeSet::new();
        for id in &writes {
            if let Some(Operation { kind: Kind::Write(write), .. }) = self.operations.get_mut(id) {
                write.joins(round);
                asked.extend(write.tally.missing());
            }
        }
        let me_asked = asked.remove(&self.me);
        for peer in asked {
            self.send_request(peer, round, 0, Request::Clock, effects);
        }
        self.clock_rounds.insert(round, writes);
        if me_asked {
            match self.own_clock() {
                Ok(clock) => self.clock_answered(self.me, round, clock, effects),
                Err(refusal) => self.clock_refused(self.me, round, refusal, effects),
            }
        }
    }

    fn join_older_round(&mut self, id: OperationId) {
        if let Some((round, writes)) =
            self.clock_rounds.last_key_value().map(|(round, writes)| (*round, writes.clone()))
            && let Some(Operation { kind: Kind::Write(write), .. }) = self.operations.get_mut(&id)
        {
            write.joins(round);
            self.clock_rounds.insert(round, writes.into_iter().chain([id]).collect());
        }
    }

    /// This node's clock, for a request that has arrived. A disk that takes no writes will refuse the record too:
    /// refused here, the write is known not to have happened; refused there, it is not.
    fn own_clock(&self) -> Result<Clock, Refusal> {
        if self.journal.has_failed() { Err(Refusal::StoreFailed) } else { Ok(self.clock.now()) }
    }

    fn clock_answered(&mut self, from: Member, round: OperationId, clock: Clock, effects: &mut Vec<Effect>) {
        if self.clock.check_jump(clock, PEER_JUMP).is_err() {
            effects.push(Effect::Note(Note::ClockJump { seen: clock }));
            self.clock_refused(from, round, Refusal::ClockJump, effects);
            return;
        }
        self.for_each_of_round(round, effects, |write| write.clock_is(from, clock));
    }

    fn clock_refused(&mut self, from: Member, round: OperationId, refusal: Refusal, effects: &mut Vec<Effect>) {
        for id in self.clock_rounds.get(&round).into_iter().flatten() {
            if let Some(operation) = self.operations.get_mut(id) {
                operation.refusals.insert(from, refusal);
            }
        }
        if refusal.is_for_good() {
            self.for_each_of_round(round, effects, |write| write.refused_by(from));
        }
    }

    fn for_each_of_round(
        &mut self,
        round: OperationId,
        effects: &mut Vec<Effect>,
        answer: impl Fn(&mut Write) -> write::Step,
    ) {
        let Some(writes) = self.clock_rounds.remove(&round) else { return };
        let mut waiting = Vec::with_capacity(writes.len());
        for id in writes {
            let Some(Operation { kind: Kind::Write(write), .. }) = self.operations.get_mut(&id) else { continue };
            if !write.clock_rounds().contains(&round) {
                continue;
            }
            match answer(write) {
                write::Step::Wait => waiting.push(id),
                step => self.write_step(id, step, effects),
            }
        }
        if !waiting.is_empty() {
            self.clock_rounds.insert(round, waiting);
        }
    }

    fn write_step(&mut self, id: OperationId, step: write::Step, effects: &mut Vec<Effect>) {
        match step {
            write::Step::Wait => {}
            write::Step::Draw(floor) => self.draw_stamp(id, floor, effects),
            write::Step::Done(stamp) => {
                let Some(Operation { kind: Kind::Write(write), .. }) = self.end(id) else { return };
                effects.push(Effect::Reply { id: write.request, reply: Reply::Written(stamp) });
                self.keep_for_stragglers(id, &write, effects);
            }
            write::Step::Failed => self.fail(id, effects),
        }
    }

    fn draw_stamp(&mut self, id: OperationId, floor: Clock, effects: &mut Vec<Effect>) {
        let Some(Operation { kind: Kind::Write(write), .. }) = self.operations.get_mut(&id) else { return };
        let rounds = write.clock_rounds().to_vec();
        if mutants::is_on(Mutant::EpochUsedBeforeDurable) {
            self.clock.epoch_is_durable(floor.epoch);
        }
        let issued = if mutants::is_on(Mutant::SecondIssuer) {
            self.clock.clone().issue(floor)
        } else {
            self.clock.issue(floor)
        };
        match issued {
            Ok(clock) => {
                let writer = if mutants::is_on(Mutant::StampWithoutWriter) { Member(0) } else { self.me };
                let writer = self.placement.parameters().id(writer).clone();
                write.drawn(Stamp { clock, writer });
                self.leave_clock_rounds(id, &rounds);
                self.ask_to_store(id, effects);
            }
            Err(EpochNeeded(epoch)) => {
                write.awaits_epoch(floor);
                self.leave_clock_rounds(id, &rounds);
                if self.journal.has_failed() {
                    // It has no stamp and never gets one: certainly not applied.
                    self.fail(id, effects);
                } else {
                    self.awaiting_epoch.push(id);
                    self.journal.add_epoch(epoch);
                }
            }
        }
    }

    fn read_step(&mut self, id: OperationId, step: read::Step, effects: &mut Vec<Effect>) {
        match step {
            read::Step::Wait => {}
            read::Step::Fetch => self.ask_what_is_held(id, effects),
            read::Step::WriteBack => {
                effects.push(Effect::Note(Note::ReadWroteBack));
                self.ask_to_store(id, effects);
            }
            read::Step::Done(record) => {
                let Some(Operation { kind: Kind::Read(read), .. }) = self.end(id) else { return };
                effects.push(Effect::Reply { id: read.request, reply: Reply::Record(record) });
            }
            read::Step::Failed => self.fail(id, effects),
        }
    }

    /// Asks the replicas that have not answered what they hold: one of them for the record, the others for its mark.
    fn ask_what_is_held(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
        let Some(Operation { kind: Kind::Read(read), .. }) = self.operations.get(&id) else { return };
        let (slot, key, round) = (read.slot, read.key.clone(), read.round);
        let missing: Vec<Member> = read.tally.missing().collect();
        let all_whole = read.asks_for_all_of_it();
        let one_whole = if missing.contains(&self.me) {
            Some(self.me)
        } else {
            missing.iter().copied().find(|peer| self.handshake.talking_to(*peer).is_some())
        };
        for member in missing {
            let want = if all_whole || Some(member) == one_whole { Want::Record } else { Want::Mark };
            let key = key.clone();
            if member == self.me {
                self.replica.get(slot, key, want, Target::Own { operation: id, round }, effects);
            } else {
                self.send_request(member, id, round, Request::Get { key, want }, effects);
            }
        }
    }

    /// Sends the record of a write, or what a read writes back, to the replicas that have not acknowledged it.
    fn ask_to_store(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
        let Some(operation) = self.operations.get(&id) else { return };
        let Some((slot, key, record, round)) = operation.kind.storing() else { return };
        let (key, record) = (key.clone(), record.clone());
        let missing: Vec<Member> = operation.kind.tally().missing().collect();
        for member in missing {
            let (key, record) = (key.clone(), record.clone());
            if member == self.me {
                self.own_store(slot, key, record, Target::Own { operation: id, round }, effects);
            } else {
                self.send_request(member, id, round, Request::Store { key, record }, effects);
            }
        }
    }

    fn ask_again(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        effects.push(Effect::Note(Note::Resent));
        if mutants::is_on(Mutant::NewStampOnResend)
            && let Kind::Write(write) = &mut operation.kind
            && let Some(record) = write.record()
            && let Ok(clock) = self.clock.issue(Clock::default())
        {
            write.restamp(Stamp { clock, writer: record.stamp.writer.clone() });
        }
        match &mut operation.kind {
            kind if kind.storing().is_some() => self.ask_to_store(id, effects),
            Kind::Read(read) => {
                read.asks_again();
                self.ask_what_is_held(id, effects);
            }
            Kind::Write(write) if write.clock_rounds().is_empty() => {}
            Kind::Write(_) => self.awaiting_round.push(id),
        }
    }

    fn keep_for_stragglers(&mut self, id: OperationId, write: &Write, effects: &mut Vec<Effect>) {
        let Some(record) = write.record() else { return };
        for peer in write.tally.uncounted().filter(|peer| *peer != self.me) {
            let copy = Copy { round: STORE_ROUND, key: write.key.clone(), record: record.clone() };
            let copies = self.stragglers.keep(peer, id, copy);
            if copies > 0 {
                effects.push(Effect::Note(Note::StragglersDropped { peer, copies }));
            }
        }
    }

    fn end(&mut self, id: OperationId) -> Option<Operation> {
        let operation = self.operations.remove(&id)?;
        self.alarms.remove(&(operation.alarm, id));
        if let Kind::Write(write) = &operation.kind {
            self.leave_clock_rounds(id, write.clock_rounds());
        }
        Some(operation)
    }

    /// A round that no write waits for any more is forgotten: its answers may never come.
    fn leave_clock_rounds(&mut self, id: OperationId, rounds: &[OperationId]) {
        for round in rounds {
            if let Some(writes) = self.clock_rounds.get_mut(round) {
                writes.retain(|write| *write != id);
                if writes.is_empty() {
                    self.clock_rounds.remove(round);
                }
            }
        }
    }

    fn fail(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
        let Some(operation) = self.end(id) else { return };
        let report = self.report(&operation);
        let (request, failure) = match &operation.kind {
            Kind::Read(read) => (read.request, Failure::NoQuorum(report)),
            Kind::Write(write) if write.record().is_some() && !mutants::is_on(Mutant::UnknownSaidNotApplied) => {
                (write.request, Failure::OutcomeUnknown(report))
            }
            Kind::Write(write) => (write.request, Failure::NotApplied(report)),
        };
        effects.push(Effect::Reply { id: request, reply: Reply::Failed(failure) });
    }

    fn report(&self, operation: &Operation) -> QuorumReport {
        let tally = operation.kind.tally();
        let said = |member: Member| {
            if tally.has_counted(member) {
                return Said::Answered;
            }
            if let Some(refusal) = operation.refusals.get(&member) {
                return Said::Refused(*refusal);
            }
            match self.handshake.view(member) {
                _ if member == self.me && self.journal.has_failed() => Said::Refused(Refusal::StoreFailed),
                _ if member == self.me => Said::Nothing,
                PeerView::Talking => Said::Nothing,
                PeerView::Unreachable => Said::Unreachable,
                PeerView::Refused(refusal) => Said::NotTalking(refusal),
            }
        };
        let replicas = tally.replicas().iter().map(|member| (self.id(*member), said(*member))).collect();
        QuorumReport { slot: operation.kind.slot(), needed: tally.needed(), replicas }
    }

    fn wake(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some((time, id)) = self.alarms.first().copied()
            && time <= now
        {
            self.alarms.pop_first();
            let Some(operation) = self.operations.get_mut(&id) else {
                self.end_local(id, Reply::Failed(Failure::StoreFailed), effects);
                continue;
            };
            if operation.deadline <= now {
                self.fail(id, effects);
                continue;
            }
            let wait = (RESEND_AFTER * 2_u32.pow(operation.asks.min(8))).min(RESEND_AFTER_MAX);
            operation.asks += 1;
            operation.alarm = now.after(wait).min(operation.deadline);
            self.alarms.insert((operation.alarm, id));
            self.ask_again(id, effects);
        }
    }

    // Peers.

    fn peer(
        &mut self,
        from: Member,
        from_life: Life,
        to_life: Option<Life>,
        message: Message,
        effects: &mut Vec<Effect>,
    ) {
        if !self.started || from == self.me {
            return;
        }
        match message {
            Message::Hello(hello) => self.introduced(from, &hello, Introduction::Hello, effects),
            Message::Welcome(hello) if to_life == Some(self.life()) => {
                self.introduced(from, &hello, Introduction::Welcome, effects);
            }
            Message::HelloRefused { life, refusal } => {
                if self.handshake.refused(from, life, refusal) {
                    effects.push(Effect::Note(Note::RefusedByPeer { peer: from, refusal }));
                    self.counts_on_no_more(from, effects);
                }
            }
            Message::Request { operation, round, request } if self.handshake.counts(from, from_life, to_life) => {
                let target = Target::Peer { member: from, life: from_life, operation, round };
                self.serve(target, request, effects);
            }
            Message::Answer { operation, round, answer } if self.handshake.counts(from, from_life, to_life) => {
                self.answered(from, operation, round, answer, effects);
            }
            // From or for another life: it counts for nothing.
            Message::Welcome(_) | Message::Request { .. } | Message::Answer { .. } => {}
        }
    }

    fn introduced(&mut self, from: Member, hello: &Hello, introduced_by: Introduction, effects: &mut Vec<Effect>) {
        match self.handshake.judge(from, hello) {
            Verdict::Refuse(refusal) => {
                effects.push(Effect::Note(Note::PeerRefused { peer: from, refusal }));
                let message = Message::HelloRefused { life: hello.life, refusal };
                effects.push(Effect::Send { to: from, to_life: Some(hello.life), message });
                self.counts_on_no_more(from, effects);
            }
            Verdict::Known => self.acquainted(from, hello.life, introduced_by, effects),
            // A store that fails cannot record anybody; the peer introduces itself again.
            Verdict::Record(_) if self.journal.has_failed() => self.handshake.recording_failed(),
            Verdict::Record(acquaintance) => {
                self.journal.add_peer(self.id(from), acquaintance);
                let due = Due::Recorded { peer: from, acquaintance, introduced_by };
                self.journal.owe(due, Waits::ForTheNext);
            }
        }
    }

    /// Operations under way do not wait for `peer` any longer, if it and this node refuse to talk.
    fn counts_on_no_more(&mut self, peer: Member, effects: &mut Vec<Effect>) {
        if !matches!(self.handshake.view(peer), PeerView::Refused(_)) {
            return;
        }
        let under_way: Vec<OperationId> = self.operations.keys().copied().collect();
        for id in under_way {
            self.refused_for_good(peer, id, effects);
        }
    }

    /// `peer` is durably recorded here in its run `life`.
    fn acquainted(&mut self, peer: Member, life: Life, introduced_by: Introduction, effects: &mut Vec<Effect>) {
        match introduced_by {
            Introduction::Hello => {
                let message = Message::Welcome(self.handshake.hello_to(peer));
                effects.push(Effect::Send { to: peer, to_life: Some(life), message });
            }
            Introduction::Welcome => self.handshake.welcomed(peer, life),
        }
        if self.handshake.talking_to(peer) != Some(life) {
            return;
        }
        if introduced_by == Introduction::Welcome {
            effects.push(Effect::Note(Note::PeerMet(peer)));
            self.catch_up(peer, effects);
        }
        self.form_if_met();
    }

    /// Sends `peer`, which can be reached again, what it has missed.
    fn catch_up(&mut self, peer: Member, effects: &mut Vec<Effect>) {
        let copies: Vec<_> = self.stragglers.of(peer).map(|(id, copy)| (id, copy.clone())).collect();
        for (id, Copy { round, key, record }) in copies {
            self.send_request(peer, id, round, Request::Store { key, record }, effects);
        }
        let waiting: Vec<OperationId> = self
            .operations
            .iter()
            .filter(|(_, operation)| operation.kind.tally().missing().any(|missing| missing == peer))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.ask_again(id, effects);
        }
    }

    /// Why this node's replica answers nobody, where it does not.
    fn replica_refusal(&self) -> Option<Refusal> {
        match self.unready()? {
            Unready::Refused { .. } => Some(Refusal::Identity),
            Unready::Starting | Unready::Forming { .. } => Some(Refusal::NotFormed),
            // It still serves its peers, so that what is in flight elsewhere ends well.
            Unready::Draining => None,
        }
    }

    fn serve(&mut self, target: Target, request: Request, effects: &mut Vec<Effect>) {
        if let Some(refusal) = self.replica_refusal() {
            self.answers.push((target, Outcome::Refused(refusal)));
            return;
        }
        if self.is_swamped() {
            effects.push(Effect::Note(Note::Swamped));
            return;
        }
        match request {
            Request::Clock => self.serve_clock(target, effects),
            Request::Get { key, want } => match self.own_slot(&key) {
                Ok(_) if mutants::is_on(Mutant::ReadsWhatIsNotDurable) && self.journal.on_its_way(&key).is_some() => {
                    let held = self.journal.on_its_way(&key).map_or(Held::Nothing, Held::Record);
                    self.answers.push((target, Outcome::Held(key, held)));
                }
                Ok(slot) => self.replica.get(slot, key, want, target, effects),
                Err(_) => self.answers.push((target, Outcome::Refused(Refusal::NotReplica))),
            },
            Request::Store { key, record } => match self.own_slot(&key) {
                Ok(slot) => self.own_store(slot, key, record, target, effects),
                Err(_) => self.answers.push((target, Outcome::Refused(Refusal::NotReplica))),
            },
        }
    }

    /// Whether so much waits for the disk that what peers ask is dropped, as a network would: they ask again, or go on
    /// without this replica, and reads repair it. A clock is not given either, so that their writes are known not to have
    /// happened where a majority is swamped.
    fn is_swamped(&self) -> bool {
        self.replica.loads() >= REPLICA_LOADS_MAX
            || self.journal.gathering_bytes() + self.replica.waiting_bytes() >= REPLICA_BACKLOG_BYTES_MAX
    }

    fn serve_clock(&mut self, target: Target, effects: &mut Vec<Effect>) {
        let Target::Peer { member, life, operation, round } = target else { return };
        let answer = self.own_clock().map_or_else(Answer::Refused, Answer::Clock);
        let message = Message::Answer { operation, round, answer };
        effects.push(Effect::Send { to: member, to_life: Some(life), message });
    }

    fn answered(&mut self, from: Member, id: OperationId, round: u32, answer: Answer, effects: &mut Vec<Effect>) {
        match answer {
            Answer::Clock(clock) => self.clock_answered(from, id, clock, effects),
            Answer::Held { key, held } => self.held(from, id, round, &key, held, effects),
            Answer::Stored => self.stored(from, id, round, effects),
            Answer::Refused(refusal) if self.clock_rounds.contains_key(&id) => {
                self.clock_refused(from, id, refusal, effects);
            }
            Answer::Refused(refusal) => self.refused(from, id, round, refusal, effects),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "an answer is matched by all of them")]
    fn held(&mut self, from: Member, id: OperationId, round: u32, key: &Key, held: Held, effects: &mut Vec<Effect>) {
        if let Some(Operation { kind: Kind::Read(read), .. }) = self.operations.get_mut(&id)
            && read.round == round
            && read.key == *key
        {
            let step = read.held_by(from, held);
            self.read_step(id, step, effects);
        }
    }

    fn stored(&mut self, from: Member, id: OperationId, round: u32, effects: &mut Vec<Effect>) {
        match self.operations.get_mut(&id).filter(|operation| operation.kind.round() == round).map(|o| &mut o.kind) {
            Some(Kind::Write(write)) => {
                let step = write.stored_by(from);
                self.write_step(id, step, effects);
            }
            Some(Kind::Read(read)) => {
                let step = read.stored_by(from);
                self.read_step(id, step, effects);
            }
            None => self.stragglers.settled(from, id),
        }
    }

    fn refused(&mut self, from: Member, id: OperationId, round: u32, refusal: Refusal, effects: &mut Vec<Effect>) {
        let Some(operation) = self.operations.get_mut(&id) else {
            self.stragglers.settled(from, id);
            return;
        };
        if operation.kind.round() != round {
            return;
        }
        operation.refusals.insert(from, refusal);
        if mutants::is_on(Mutant::RefusalCountsAsNothing)
            && let Kind::Read(read) = &mut operation.kind
        {
            let step = read.held_by(from, Held::Nothing);
            return self.read_step(id, step, effects);
        }
        if !refusal.is_for_good() {
            return;
        }
        self.refused_for_good(from, id, effects);
    }

    fn refused_for_good(&mut self, from: Member, id: OperationId, effects: &mut Vec<Effect>) {
        match self.operations.get_mut(&id).map(|operation| &mut operation.kind) {
            Some(Kind::Write(write)) => {
                let step = write.refused_by(from);
                self.write_step(id, step, effects);
            }
            Some(Kind::Read(read)) => {
                let step = read.refused_by(from);
                self.read_step(id, step, effects);
            }
            None => {}
        }
    }

    // The disk.

    fn persisted(&mut self, durable: bool, effects: &mut Vec<Effect>) {
        match self.journal.settle(durable) {
            None => {}
            Some(Settled::Durable(batch, due)) => {
                if let Some(epoch) = batch.epoch {
                    self.clock.epoch_is_durable(epoch);
                    self.started = true;
                }
                if batch.formed {
                    self.handshake.formed();
                    effects.push(Effect::Note(Note::Formed));
                }
                for (key, (_, record)) in &batch.records {
                    if !mutants::is_on(Mutant::ClockBelowRecords) {
                        self.clock.observe(record.stamp.clock);
                    }
                    self.replica.became_durable(key, record.mark(), &self.journal);
                }
                for due in due {
                    self.pay(due, effects);
                }
                self.epoch_is_durable(effects);
                self.form_if_met();
            }
            Some(Settled::Failed(due)) if mutants::is_on(Mutant::AcknowledgedAfterFailure) => {
                for due in due {
                    self.pay(due, effects);
                }
            }
            Some(Settled::Failed(due)) => {
                if mutants::is_on(Mutant::FailureIsForgotten) {
                    self.journal.reopened();
                }
                self.replica.batch_failed();
                self.handshake.recording_failed();
                for due in &due {
                    self.refuse_to_pay(due, effects);
                }
                for id in std::mem::take(&mut self.awaiting_epoch) {
                    self.fail(id, effects);
                }
            }
        }
    }

    fn pay(&mut self, due: Due, effects: &mut Vec<Effect>) {
        match due {
            Due::Replica(Owed { target, outcome }) => self.answers.push((target, outcome)),
            Due::Recorded { peer, acquaintance, introduced_by } => {
                self.handshake.recorded(peer, acquaintance);
                self.acquainted(peer, acquaintance.life, introduced_by, effects);
            }
            Due::ClockRaised { operation, to } => {
                self.clock.observe(to);
                self.end_local(operation, Reply::Clock(self.clock.now()), effects);
            }
        }
    }

    fn refuse_to_pay(&mut self, due: &Due, effects: &mut Vec<Effect>) {
        match due {
            Due::Replica(Owed { target, .. }) => {
                self.answers.push((*target, Outcome::Refused(Refusal::StoreFailed)));
            }
            // The peer introduces itself again.
            Due::Recorded { .. } => {}
            Due::ClockRaised { operation, .. } => {
                self.end_local(*operation, Reply::Failed(Failure::StoreFailed), effects);
            }
        }
    }

    /// Writes that waited for an epoch draw their stamps.
    fn epoch_is_durable(&mut self, effects: &mut Vec<Effect>) {
        for id in std::mem::take(&mut self.awaiting_epoch) {
            if let Some(Operation { kind: Kind::Write(write), .. }) = self.operations.get(&id)
                && let write::Step::Draw(floor) = write.step()
            {
                self.draw_stamp(id, floor, effects);
            }
        }
    }

    /// A cluster forms once this node and every other one have recorded each other; one alone has nobody to meet.
    fn form_if_met(&mut self) {
        if self.started && self.handshake.may_form() && !self.journal.has_failed() {
            self.journal.add_formed();
        }
    }

    fn store_reopened(&mut self, meta: &Meta, effects: &mut Vec<Effect>) {
        self.journal.reopened();
        // What failed may have become durable after all, which is as good as if it had not failed. A peer that is
        // recorded must not be recorded again in an earlier run, and who has formed need not meet everyone again.
        self.clock.epoch_is_durable(meta.epoch);
        self.handshake.store_reopened(meta.formed, &meta.peers);
        if !self.started {
            self.journal.add_life(self.life());
        }
        self.epoch_is_durable(effects);
        self.form_if_met();
    }

    // The own replica.

    fn own_store(&mut self, slot: Slot, key: Key, record: Record, target: Target, effects: &mut Vec<Effect>) {
        let (replica, mut around) = self.replica_and_surroundings(effects);
        replica.store(slot, key, record, target, &mut around);
    }

    fn replica_and_surroundings<'a>(
        &'a mut self,
        effects: &'a mut Vec<Effect>,
    ) -> (&'a mut Replica, Surroundings<'a, Due>) {
        let Self { replica, clock, journal, answers, .. } = self;
        (replica, Surroundings { clock, journal, effects, answers })
    }

    fn pass_answers_on(&mut self, effects: &mut Vec<Effect>) {
        while !self.answers.is_empty() {
            for (target, outcome) in std::mem::take(&mut self.answers) {
                self.pass_on(target, outcome, effects);
            }
        }
    }

    fn pass_on(&mut self, target: Target, outcome: Outcome, effects: &mut Vec<Effect>) {
        match target {
            Target::Peer { member, life, operation, round } => {
                let message = Message::Answer { operation, round, answer: outcome.into() };
                effects.push(Effect::Send { to: member, to_life: Some(life), message });
            }
            Target::Own { operation, round } => {
                self.answered(self.me, operation, round, outcome.into(), effects);
            }
            Target::Operator(id) => {
                let reply = match outcome {
                    Outcome::Held(_, Held::Record(record)) => Reply::Record(Some(record)),
                    Outcome::Held(_, Held::Nothing | Held::Mark(_)) => Reply::Record(None),
                    Outcome::Stored(stamp) => Reply::Written(stamp),
                    Outcome::Superseded { held } => Reply::Failed(Failure::NotGreater { held }),
                    Outcome::Refused(Refusal::StampConflict) => Reply::Failed(Failure::StampConflict),
                    Outcome::Refused(_) => Reply::Failed(Failure::StoreFailed),
                };
                self.end_local(id, reply, effects);
            }
        }
    }

    fn send_request(
        &self,
        to: Member,
        operation: OperationId,
        round: u32,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        // Those that cannot be reached now are asked when they can: see catch_up.
        if let Some(life) = self.handshake.talking_to(to) {
            let message = Message::Request { operation, round, request };
            effects.push(Effect::Send { to, to_life: Some(life), message });
        }
    }

    fn id(&self, member: Member) -> NodeId {
        self.placement.parameters().id(member).clone()
    }
}

impl Kind {
    fn tally(&self) -> &Tally {
        match self {
            Self::Write(write) => &write.tally,
            Self::Read(read) => &read.tally,
        }
    }

    fn tally_mut(&mut self) -> &mut Tally {
        match self {
            Self::Write(write) => &mut write.tally,
            Self::Read(read) => &mut read.tally,
        }
    }

    fn slot(&self) -> Slot {
        match self {
            Self::Write(write) => write.slot,
            Self::Read(read) => read.slot,
        }
    }

    /// The round whose answers count now.
    fn round(&self) -> u32 {
        match self {
            Self::Write(_) => STORE_ROUND,
            Self::Read(read) => read.round,
        }
    }

    /// What is being stored, and in which round.
    fn storing(&self) -> Option<(Slot, &Key, &Record, u32)> {
        match self {
            Self::Write(write) => write.record().map(|record| (write.slot, &write.key, record, STORE_ROUND)),
            Self::Read(read) => read.writing_back().map(|record| (read.slot, &read.key, record, read.round)),
        }
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Held(key, held) => Self::Held { key, held },
            Outcome::Stored(_) | Outcome::Superseded { .. } => Self::Stored,
            Outcome::Refused(refusal) => Self::Refused(refusal),
        }
    }
}
