//! The operations that a node coordinates: shared clock rounds, stamps, rounds of questions, alarms, and how they end.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{EpochNeeded, PEER_JUMP};
use crate::limits::{RESEND_AFTER, RESEND_AFTER_MAX};
use crate::protocol::handshake::PeerView;
use crate::protocol::message::{OperationId, Refusal, Request};
use crate::protocol::mutants::{self, Mutant};
use crate::protocol::read;
use crate::protocol::replica::Target;
use crate::protocol::straggler::Copy;
use crate::protocol::write::{self, STORE_ROUND, Write};
use crate::protocol::{Effect, Failure, Note, QuorumReport, Reply, Said, Time};
use crate::quorum::{Standing, Tally};
use crate::types::{Clock, Key, Member, Record, Slot, Stamp, Want};

use super::{Kind, Node, Operation};

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
        let alarm = now.after(RESEND_AFTER).min(deadline);
        self.alarms.insert((alarm, id));
        self.operations.insert(id, Operation { deadline, alarm, asks: 1, refusals: BTreeMap::new(), kind });
        id
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
    pub(super) fn begin_clock_round(&mut self, effects: &mut Vec<Effect>) {
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

    pub(super) fn join_older_round(&mut self, id: OperationId) {
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
    pub(super) fn own_clock(&self) -> Result<Clock, Refusal> {
        if self.journal.has_failed() { Err(Refusal::StoreFailed) } else { Ok(self.clock.now()) }
    }

    pub(super) fn clock_answered(&mut self, from: Member, round: OperationId, clock: Clock, effects: &mut Vec<Effect>) {
        if self.clock.check_jump(clock, PEER_JUMP).is_err() {
            effects.push(Effect::Note(Note::ClockJump { seen: clock }));
            self.clock_refused(from, round, Refusal::ClockJump, effects);
            return;
        }
        if mutants::is_on(Mutant::ClockOfEarlierRoundCounts) {
            return self.clock_of_any_round(from, clock, effects);
        }
        self.for_each_of_round(round, effects, |write| write.clock_is(from, clock));
    }

    /// What must never be done.
    fn clock_of_any_round(&mut self, from: Member, clock: Clock, effects: &mut Vec<Effect>) {
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
        from: Member,
        round: OperationId,
        refusal: Refusal,
        effects: &mut Vec<Effect>,
    ) {
        for id in self.clock_rounds.get(&round).into_iter().flatten() {
            if let Some(operation) = self.operations.get_mut(id) {
                operation.refusals.insert(from, refusal);
            }
        }
        if refusal.is_for_good() {
            self.for_each_of_round(round, effects, |write| write.refused_by(from));
        }
    }

    pub(super) fn for_each_of_round(
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

    pub(super) fn write_step(&mut self, id: OperationId, step: write::Step, effects: &mut Vec<Effect>) {
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

    pub(super) fn read_step(&mut self, id: OperationId, step: read::Step, effects: &mut Vec<Effect>) {
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
    pub(super) fn ask_what_is_held(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
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
    pub(super) fn ask_to_store(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
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

    pub(super) fn ask_again(&mut self, id: OperationId, effects: &mut Vec<Effect>) {
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

    pub(super) fn keep_for_stragglers(&mut self, id: OperationId, write: &Write, effects: &mut Vec<Effect>) {
        let Some(record) = write.record() else { return };
        for peer in write.tally.uncounted().filter(|peer| *peer != self.me) {
            let copy = Copy { round: STORE_ROUND, key: write.key.clone(), record: record.clone() };
            let copies = self.stragglers.keep(peer, id, copy);
            if copies > 0 {
                effects.push(Effect::Note(Note::StragglersDropped { peer, copies }));
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
            if let Some(writes) = self.clock_rounds.get_mut(round) {
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
        let said = |member: Member| {
            if tally.has_counted(member) {
                return Said::Answered;
            }
            let view = self.handshake.view(member);
            // What it said in passing, before the two stopped talking, is not why it is not counted on.
            let still_counts = |refusal: &Refusal| refusal.is_for_good() || !matches!(view, PeerView::Refused(_));
            if let Some(refusal) = operation.refusals.get(&member).copied().filter(still_counts) {
                return Said::Refused(refusal);
            }
            match view {
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
            let wait = (RESEND_AFTER * 2_u32.pow(operation.asks.min(8))).min(RESEND_AFTER_MAX);
            operation.asks += 1;
            operation.alarm = now.after(wait).min(operation.deadline);
            self.alarms.insert((operation.alarm, id));
            self.ask_again(id, effects);
        }
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
