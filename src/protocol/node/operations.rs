//! The operations that a node coordinates: shared clock rounds, stamps, rounds of questions, alarms, and how they end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::limits::RESEND_AFTER_MAX;
use crate::mutants::{self, Mutant};
use crate::protocol::clock::{EpochNeeded, PEER_JUMP};
use crate::protocol::coordinator::ops::get;
use crate::protocol::coordinator::ops::set::{self, STORE_ROUND, Write};
use crate::protocol::hints::Copy;
use crate::protocol::membership::PeerView;
use crate::protocol::message::{OperationId, Refusal, Request};
use crate::protocol::quorum::{Standing, Tally};
use crate::protocol::replica::Target;
use crate::protocol::{Effect, Failure, ProtocolEvent, QuorumReport, ReplicaStatus, Reply, Time};
use crate::types::{Clock, Key, NodeIndex, ReadKind, Record, Slot, Stamp};

use super::{ClockRound, Kind, Node, Operation, Whom};

/// How many operations in a row turn to the same peers first.
const FIRST_ASKED_FOR: u64 = 64;

impl Node {
    pub(super) fn begin(&mut self, now: Time, deadline: Time, mut kind: Kind) -> OperationId {
        let id = self.next_operation();
        let tally = kind.tally_mut();
        let replicas = tally.replicas().to_vec();
        for replica in replicas {
            if matches!(self.handshake.view(replica), PeerView::Refused(_)) && replica != self.me {
                kind.tally_mut().refuse(replica);
            }
        }
        let alarm = now.after(self.promptness.resend_after()).min(deadline);
        self.alarms.insert((alarm, id));
        let operation = Operation { began: now, deadline, alarm, asks: 1, refusals: BTreeMap::new(), kind };
        self.operations.insert(id, operation);
        id
    }

    /// Chooses whom the first round of an operation asks: a majority of those that can be asked, of whom this node is
    /// one where it holds the slot. Where others are left over, they are asked when the alarm rings.
    fn choose_majority(&mut self, now: Time, id: OperationId) -> Vec<NodeIndex> {
        let Some(operation) = self.operations.get_mut(&id) else { return Vec::new() };
        let tally = operation.kind.tally();
        // All operations of one turn of the loop, and of some more, turn to the same peers, so that their questions share
        // messages; over time each peer has its turn.
        let rotation = usize::try_from(id.0 / FIRST_ASKED_FOR).unwrap_or(0) % tally.replicas().len();
        let place = |peer: &NodeIndex| {
            let position = tally.replicas().iter().position(|replica| replica == peer).unwrap_or(0);
            (position + rotation) % tally.replicas().len()
        };
        let can_be_asked = |peer: &NodeIndex| *peer == self.me || self.handshake.talking_to(*peer).is_some();
        let mut candidates: Vec<NodeIndex> = tally.missing().filter(can_be_asked).collect();
        candidates.sort_by_key(|peer| (*peer != self.me, self.promptness.is_late(*peer, now), place(peer)));
        let needed = tally.needed();
        if candidates.len() > needed {
            candidates.truncate(needed);
            self.alarms.remove(&(operation.alarm, id));
            let patience = self.promptness.patience(candidates.iter().copied());
            // The others need some of the time that the client gives, too.
            operation.alarm = now.after(patience.min(operation.deadline.since(now) / 2));
            operation.asks = 0;
            self.alarms.insert((operation.alarm, id));
        }
        candidates
    }

    /// Begins a read: asks no more than a majority.
    pub(super) fn ask_a_majority(&mut self, now: Time, id: OperationId, effects: &mut Vec<Effect>) {
        let chosen = self.choose_majority(now, id);
        self.ask_these(id, chosen, effects);
    }

    /// Nobody waits for replicas that are known from the start to refuse for good.
    pub(super) fn fail_if_impossible(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
        let operation = self.operations.get(&id);
        if operation.is_some_and(|operation| operation.kind.tally().standing() == Standing::Impossible) {
            self.fail(id, effects);
        }
    }

    pub(super) fn next_operation(&mut self) -> OperationId {
        self.operation_next += 1;
        OperationId(self.operation_next)
    }

    /// Begins one clock round for all writes that wait for one. Its requests leave after each of these writes was
    /// invoked, which is what makes its answers count for all of them.
    pub(super) fn begin_clock_round(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut writes = std::mem::take(&mut self.awaiting_round);
        // One that asked again may have had its answers since, and be storing by now.
        writes.retain(|(id, _)| {
            let operation = self.operations.get(id);
            operation.is_some_and(|operation| matches!(&operation.kind, Kind::Write(write) if write.awaits_clocks()))
        });
        // Of two wishes for one write the last is the greater.
        writes.sort_unstable_by_key(|(id, whom)| (*id, Reverse(*whom)));
        writes.dedup_by_key(|(id, _)| *id);
        if writes.is_empty() {
            return;
        }
        let round = self.next_operation();
        effects.push(Effect::ProtocolEvent(ProtocolEvent::ClockRound { writes: writes.len() }));
        let mut asked = BTreeSet::new();
        for (id, whom) in &writes {
            let Some(Operation { kind, .. }) = self.operations.get(id) else { continue };
            let chosen = match whom {
                _ if kind.tally().is_unasked() => self.choose_majority(now, *id),
                Whom::Majority | Whom::Others => not_asked(kind.tally()),
                Whom::All => to_ask_again(kind.tally()),
            };
            if let Some(Operation { kind: Kind::Write(write), .. }) = self.operations.get_mut(id) {
                write.joins(round);
                for replica in chosen {
                    write.tally.ask(replica);
                    asked.insert(replica);
                }
            }
        }
        let writes = writes.into_iter().map(|(id, _)| id).collect();
        let me_asked = asked.remove(&self.me);
        for peer in asked {
            self.send_request(peer, round, 0, Request::Clock, effects);
        }
        self.clock_rounds.insert(round, ClockRound { began: now, writes });
        if me_asked {
            match self.own_clock() {
                Ok(clock) => self.clock_answered(now, self.me, round, clock, effects),
                Err(refusal) => self.clock_refused(self.me, round, refusal, effects),
            }
        }
    }

    pub(super) fn join_older_round(&mut self, id: OperationId) {
        if let Some(mut round) = self.clock_rounds.last_entry()
            && let Some(Operation { kind: Kind::Write(write), .. }) = self.operations.get_mut(&id)
        {
            write.joins(*round.key());
            round.get_mut().writes.push(id);
        }
    }

    /// This node's clock, for a request that has arrived. A disk that takes no writes will refuse the record too:
    /// refused here, the write is known not to have happened; refused there, it is not.
    pub(super) fn own_clock(&self) -> Result<Clock, Refusal> {
        if self.journal.has_failed() { Err(Refusal::StoreFailed) } else { Ok(self.clock.now()) }
    }

    pub(super) fn clock_answered(
        &mut self,
        now: Time,
        from: NodeIndex,
        round: OperationId,
        clock: Clock,
        effects: &mut Vec<Effect>,
    ) {
        if self.clock.check_jump(clock, PEER_JUMP).is_err() {
            effects.push(Effect::ProtocolEvent(ProtocolEvent::ClockJump { seen: clock }));
            self.clock_refused(from, round, Refusal::ClockJump, effects);
            return;
        }
        if from != self.me
            && let Some(ClockRound { began, .. }) = self.clock_rounds.get(&round)
        {
            self.promptness.answered(from, now.since(*began));
        }
        if mutants::is_on(Mutant::ClockOfEarlierRoundCounts) {
            return self.clock_of_any_round(from, clock, effects);
        }
        self.for_each_of_round(round, effects, |write| write.clock_is(from, clock));
    }

    /// What must never be done.
    fn clock_of_any_round(&mut self, from: NodeIndex, clock: Clock, effects: &mut Vec<Effect>) {
        let under_way: Vec<OperationId> = self.operations.keys().copied().collect();
        for id in under_way {
            if let Some(Operation { kind: Kind::Write(write), .. }) = self.operations.get_mut(&id)
                && write.awaits_clocks()
            {
                let step = write.clock_is(from, clock);
                self.write_step(id, step, effects);
            }
        }
    }

    pub(super) fn clock_refused(
        &mut self,
        from: NodeIndex,
        round: OperationId,
        refusal: Refusal,
        effects: &mut Vec<Effect>,
    ) {
        let writes = self.clock_rounds.get(&round).map(|round| round.writes.clone()).unwrap_or_default();
        for id in writes {
            if let Some(operation) = self.operations.get_mut(&id) {
                operation.note_refusal(from, refusal);
            }
            self.hurry(from, id);
        }
        if refusal.is_for_good() {
            self.for_each_of_round(round, effects, |write| write.refused_by(from));
        }
    }

    pub(super) fn for_each_of_round(
        &mut self,
        round: OperationId,
        effects: &mut Vec<Effect>,
        answer: impl Fn(&mut Write) -> set::Step,
    ) {
        let Some(ClockRound { began, writes }) = self.clock_rounds.remove(&round) else { return };
        let mut waiting = Vec::with_capacity(writes.len());
        for id in writes {
            let Some(Operation { kind: Kind::Write(write), .. }) = self.operations.get_mut(&id) else { continue };
            if !write.clock_rounds().contains(&round) {
                continue;
            }
            match answer(write) {
                set::Step::Wait => waiting.push(id),
                step => self.write_step(id, step, effects),
            }
        }
        if !waiting.is_empty() {
            self.clock_rounds.insert(round, ClockRound { began, writes: waiting });
        }
    }

    pub(super) fn write_step(&mut self, id: OperationId, step: set::Step, effects: &mut Vec<Effect>) {
        match step {
            set::Step::Wait => {}
            set::Step::Draw(floor) => self.draw_stamp(id, floor, effects),
            set::Step::Done(stamp) => {
                let Some(Operation { kind: Kind::Write(write), .. }) = self.end(id) else { return };
                effects.push(Effect::Reply { id: write.request, reply: Reply::Set(stamp) });
                self.keep_for_stragglers(id, &write, effects);
            }
            set::Step::Failed => self.fail(id, effects),
        }
    }

    pub(super) fn draw_stamp(&mut self, id: OperationId, floor: Clock, effects: &mut Vec<Effect>) {
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
                let writer = if mutants::is_on(Mutant::StampWithoutWriter) { NodeIndex(0) } else { self.me };
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

    pub(super) fn read_step(&mut self, id: OperationId, step: get::Step, effects: &mut Vec<Effect>) {
        match step {
            get::Step::Wait => {}
            get::Step::Fetch => self.ask_what_is_held(id, effects),
            get::Step::WriteBack => {
                effects.push(Effect::ProtocolEvent(ProtocolEvent::ReadWroteBack));
                self.ask_to_store(id, effects);
            }
            get::Step::Done(record) => {
                let Some(Operation { kind: Kind::Read(read), .. }) = self.end(id) else { return };
                effects.push(Effect::Reply { id: read.request, reply: Reply::Record(record) });
            }
            get::Step::Failed => self.fail(id, effects),
        }
    }

    /// Asks replicas that have not answered what they hold.
    pub(super) fn ask_what_is_held(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
        let Some(Operation { kind, .. }) = self.operations.get(&id) else { return };
        self.ask_these(id, to_ask_again(kind.tally()), effects);
    }

    /// Asks `members` what they hold: one of them for the record, unless it has arrived, the others for its digest.
    fn ask_these(&mut self, id: OperationId, members: Vec<NodeIndex>, effects: &mut Vec<Effect>) {
        let Some(Operation { kind: Kind::Read(read), .. }) = self.operations.get_mut(&id) else { return };
        let (slot, key, round) = (read.slot, read.key.clone(), read.round);
        let all_whole = read.asks_for_all_of_it();
        let one_whole = if members.contains(&self.me) {
            Some(self.me)
        } else {
            members.iter().copied().find(|peer| self.handshake.talking_to(*peer).is_some())
        };
        let one_whole = one_whole.filter(|_| !read.has_one_in_hand());
        for member in &members {
            read.tally.ask(*member);
        }
        for member in members {
            let read_kind = if all_whole || Some(member) == one_whole { ReadKind::Data } else { ReadKind::Digest };
            let key = key.clone();
            if member == self.me {
                self.replica.get(slot, key, read_kind, Target::Own { operation: id, round }, effects);
            } else {
                self.send_request(member, id, round, Request::Get { key, read_kind }, effects);
            }
        }
    }

    /// Sends the record of a write, or what a read writes back, to the replicas that have not acknowledged it.
    pub(super) fn ask_to_store(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
        let Some(operation) = self.operations.get(&id) else { return };
        let Some((slot, key, record, round)) = operation.kind.storing() else { return };
        let (key, record) = (key.clone(), record.clone());
        let missing: Vec<NodeIndex> = operation.kind.tally().missing().collect();
        for member in missing {
            let (key, record) = (key.clone(), record.clone());
            if member == self.me {
                self.own_store(slot, key, record, Target::Own { operation: id, round }, effects);
            } else {
                self.send_request(member, id, round, Request::Store { key, record }, effects);
            }
        }
    }

    pub(super) fn ask_again(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        effects.push(Effect::ProtocolEvent(ProtocolEvent::Resent));
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
            Kind::Write(_) => self.awaiting_round.push((id, Whom::All)),
        }
    }

    /// Somebody who was asked will not answer: if others were not asked yet, their alarm rings at once.
    pub(super) fn hurry(&mut self, refused_by: NodeIndex, id: OperationId) {
        if let Some(operation) = self.operations.get_mut(&id)
            && operation.asks_a_majority()
            && operation.kind.tally().is_asked(refused_by)
        {
            self.alarms.remove(&(operation.alarm, id));
            operation.alarm = operation.began;
            self.alarms.insert((operation.alarm, id));
        }
    }

    /// A majority was asked, and some of it refused or has not answered in the time that it usually takes: asks the
    /// others too.
    fn ask_the_others(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
        let Some(operation) = self.operations.get(&id) else { return };
        let others = not_asked(operation.kind.tally());
        if others.is_empty() || mutants::is_on(Mutant::NobodyElseIsAsked) {
            return;
        }
        let write = matches!(operation.kind, Kind::Write(_));
        effects.push(Effect::ProtocolEvent(ProtocolEvent::Hedged { write }));
        if write {
            self.awaiting_round.push((id, Whom::Others));
        } else {
            self.ask_these(id, others, effects);
        }
    }

    pub(super) fn keep_for_stragglers(&mut self, id: OperationId, write: &Write, effects: &mut Vec<Effect>) {
        let Some(record) = write.record() else { return };
        for peer in write.tally.uncounted().filter(|peer| *peer != self.me) {
            let copy = Copy { round: STORE_ROUND, key: write.key.clone(), record: record.clone() };
            let copies = self.stragglers.keep(peer, id, copy);
            if copies > 0 {
                effects.push(Effect::ProtocolEvent(ProtocolEvent::StragglersDropped { peer, copies }));
            }
        }
    }

    pub(super) fn end(&mut self, id: OperationId) -> Option<Operation> {
        let operation = self.operations.remove(&id)?;
        self.alarms.remove(&(operation.alarm, id));
        if let Kind::Write(write) = &operation.kind {
            self.leave_clock_rounds(id, write.clock_rounds());
        }
        Some(operation)
    }

    /// A round that no write waits for any more is forgotten: its answers may never come.
    pub(super) fn leave_clock_rounds(&mut self, id: OperationId, rounds: &[OperationId]) {
        for round in rounds {
            if let Some(ClockRound { writes, .. }) = self.clock_rounds.get_mut(round) {
                writes.retain(|write| *write != id);
                if writes.is_empty() {
                    self.clock_rounds.remove(round);
                }
            }
        }
    }

    pub(super) fn fail(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
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

    pub(super) fn report(&self, operation: &Operation) -> QuorumReport {
        let tally = operation.kind.tally();
        let said = |member: NodeIndex| {
            if tally.has_counted(member) {
                return ReplicaStatus::Answered;
            }
            let view = self.handshake.view(member);
            // What it said in passing, before the two stopped talking, is not why it is not counted on.
            let still_counts = |refusal: &Refusal| refusal.is_for_good() || !matches!(view, PeerView::Refused(_));
            if let Some(refusal) = operation.refusals.get(&member).copied().filter(still_counts) {
                return ReplicaStatus::Refused(refusal);
            }
            match view {
                _ if member == self.me && self.journal.has_failed() => ReplicaStatus::Refused(Refusal::StoreFailed),
                _ if member == self.me => ReplicaStatus::Nothing,
                PeerView::Talking => ReplicaStatus::Nothing,
                PeerView::Unreachable => ReplicaStatus::Unreachable,
                PeerView::Refused(refusal) => ReplicaStatus::NotTalking(refusal),
            }
        };
        let replicas = tally.replicas().iter().map(|member| (self.id(*member), said(*member))).collect();
        QuorumReport { slot: operation.kind.slot(), needed: tally.needed(), replicas }
    }

    pub(super) fn wake(&mut self, now: Time, effects: &mut Vec<Effect>) {
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
            if operation.asks == 0 {
                let has_hurried = operation.alarm == operation.began;
                operation.asks = 1;
                operation.alarm = now.after(self.promptness.resend_after()).min(operation.deadline);
                self.alarms.insert((operation.alarm, id));
                // Later rounds ask all who can answer from their beginning.
                if operation.kind.is_in_first_round() {
                    let tally = operation.kind.tally();
                    let late = tally.missing().filter(|peer| tally.is_asked(*peer) && *peer != self.me && !has_hurried);
                    late.for_each(|peer| self.promptness.was_late(peer, now));
                    self.ask_the_others(id, effects);
                }
                continue;
            }
            let wait = (self.promptness.resend_after() * 2_u32.pow(operation.asks.min(8))).min(RESEND_AFTER_MAX);
            operation.asks += 1;
            operation.alarm = now.after(wait).min(operation.deadline);
            self.alarms.insert((operation.alarm, id));
            self.ask_again(id, effects);
        }
    }
}

impl Operation {
    /// Whether a majority alone was asked, and the others are not yet.
    fn asks_a_majority(&self) -> bool {
        self.asks == 0 && self.kind.is_in_first_round()
    }

    /// Notes why `peer` refuses. One for good stays: answers to several clock rounds may arrive in any order.
    pub(super) fn note_refusal(&mut self, peer: NodeIndex, refusal: Refusal) {
        let noted = self.refusals.entry(peer).or_insert(refusal);
        if !noted.is_for_good() {
            *noted = refusal;
        }
    }

    /// Whether what `peer` was asked is worth asking again, because it may be lost.
    pub(super) fn waits_for(&self, peer: NodeIndex) -> bool {
        let tally = self.kind.tally();
        let may_yet_be_asked = self.asks_a_majority() && !tally.is_asked(peer);
        tally.missing().any(|missing| missing == peer) && !may_yet_be_asked
    }
}

impl Kind {
    pub(super) fn tally(&self) -> &Tally {
        match self {
            Self::Write(write) => &write.tally,
            Self::Read(read) => &read.tally,
        }
    }

    pub(super) fn tally_mut(&mut self) -> &mut Tally {
        match self {
            Self::Write(write) => &mut write.tally,
            Self::Read(read) => &mut read.tally,
        }
    }

    /// Whether it waits for the answers of a majority to its first questions.
    fn is_in_first_round(&self) -> bool {
        match self {
            Self::Write(write) => !write.clock_rounds().is_empty(),
            Self::Read(read) => read.round == 0,
        }
    }

    pub(super) fn slot(&self) -> Slot {
        match self {
            Self::Write(write) => write.slot,
            Self::Read(read) => read.slot,
        }
    }

    /// The round whose answers count now.
    pub(super) fn round(&self) -> u32 {
        match self {
            Self::Write(_) => STORE_ROUND,
            Self::Read(read) => read.round,
        }
    }

    /// What is being stored, and in which round.
    pub(super) fn storing(&self) -> Option<(Slot, &Key, &Record, u32)> {
        match self {
            Self::Write(write) => write.record().map(|record| (write.slot, &write.key, record, STORE_ROUND)),
            Self::Read(read) => read.writing_back().map(|record| (read.slot, &read.key, record, read.round)),
        }
    }
}

fn not_asked(tally: &Tally) -> Vec<NodeIndex> {
    tally.missing().filter(|member| !tally.is_asked(*member)).collect()
}

fn to_ask_again(tally: &Tally) -> Vec<NodeIndex> {
    let only_the_first = mutants::is_on(Mutant::NobodyElseIsAsked) && !tally.is_unasked();
    tally.missing().filter(|member| !only_the_first || tally.is_asked(*member)).collect()
}
