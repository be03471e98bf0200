//! What peers say, what they are answered, and what their answers mean to the operations under way.

use crate::limits::{REPLICA_BACKLOG_BYTES_MAX, REPLICA_READS_MAX};
use crate::mutants::{self, Mutant};
use crate::protocol::group_commit::Waits;
use crate::protocol::hints::Copy;
use crate::protocol::membership::{PeerView, Verdict};
use crate::protocol::message::{Answer, Hello, Message, OperationId, Refusal, Request};
use crate::protocol::replica::{Outcome, Target};
use crate::protocol::{Effect, ProtocolEvent, Time, Unready};
use crate::types::{Incarnation, Key, Lookup, NodeIndex};

use super::{Due, Introduction, Kind, Node, Operation};

impl Node {
    pub(super) fn peer(
        &mut self,
        now: Time,
        from: NodeIndex,
        from_incarnation: Incarnation,
        to_incarnation: Option<Incarnation>,
        message: Message,
        effects: &mut Vec<Effect>,
    ) {
        if !self.started || from == self.me {
            return;
        }
        match message {
            Message::Hello(hello) => self.introduced(from, &hello, Introduction::Hello, effects),
            Message::Welcome(hello) if to_incarnation == Some(self.incarnation()) => {
                self.introduced(from, &hello, Introduction::Welcome, effects);
            }
            Message::HelloRefused { incarnation, refusal } => {
                if self.handshake.refused(from, incarnation, refusal) {
                    effects.push(Effect::ProtocolEvent(ProtocolEvent::RefusedByPeer { peer: from, refusal }));
                    self.counts_on_no_more(from, effects);
                }
            }
            Message::Request { operation, round, request }
                if self.handshake.counts(from, from_incarnation, to_incarnation) =>
            {
                let target = Target::Peer { member: from, incarnation: from_incarnation, operation, round };
                self.serve(target, request, effects);
            }
            Message::Answer { operation, round, answer }
                if self.handshake.counts(from, from_incarnation, to_incarnation) =>
            {
                self.answered(now, from, operation, round, answer, effects);
            }
            // From or for another incarnation: it counts for nothing.
            Message::Welcome(_) | Message::Request { .. } | Message::Answer { .. } => {}
        }
    }

    pub(super) fn introduced(
        &mut self,
        from: NodeIndex,
        hello: &Hello,
        introduced_by: Introduction,
        effects: &mut Vec<Effect>,
    ) {
        let verdict = self.handshake.judge(from, hello);
        self.counts_on_again(from);
        match verdict {
            Verdict::Refuse(refusal) => {
                effects.push(Effect::ProtocolEvent(ProtocolEvent::PeerRefused { peer: from, refusal }));
                let message = Message::HelloRefused { incarnation: hello.incarnation, refusal };
                effects.push(Effect::Send { to: from, to_incarnation: Some(hello.incarnation), message });
                self.counts_on_no_more(from, effects);
            }
            Verdict::Known => self.acquainted(from, hello.incarnation, introduced_by, effects),
            // A store that fails cannot record anybody; the peer introduces itself again.
            Verdict::Record(_) if self.journal.has_failed() => self.handshake.recording_failed(),
            Verdict::Record(peer_record) => {
                self.journal.add_peer(self.id(from), peer_record);
                let due = Due::Recorded { peer: from, peer_record, introduced_by };
                self.journal.owe(due, Waits::ForTheNext);
            }
        }
    }

    /// Operations under way do not wait for `peer` any longer, if it and this node refuse to talk.
    pub(super) fn counts_on_no_more(&mut self, peer: NodeIndex, effects: &mut Vec<Effect>) {
        if !matches!(self.handshake.view(peer), PeerView::Refused(_)) {
            return;
        }
        let under_way: Vec<OperationId> = self.operations.keys().copied().collect();
        for id in under_way {
            self.hurry(peer, id);
            self.refused_for_good(peer, id, effects);
        }
    }

    /// Operations under way count on `peer` again, if it and this node refuse each other no longer: a late hello of an
    /// earlier run may be refused while the present one is being met. What it refused itself stays refused.
    pub(super) fn counts_on_again(&mut self, peer: NodeIndex) {
        if matches!(self.handshake.view(peer), PeerView::Refused(_)) {
            return;
        }
        for operation in self.operations.values_mut() {
            if operation.refusals.get(&peer).is_some_and(|refusal| refusal.is_for_good()) {
                continue;
            }
            match &mut operation.kind {
                Kind::Write(write) => write.tally.reconsider(peer),
                Kind::Read(read) => read.counts_on(peer),
            }
        }
    }

    /// `peer` is durably recorded here in its run `incarnation`.
    pub(super) fn acquainted(
        &mut self,
        peer: NodeIndex,
        incarnation: Incarnation,
        introduced_by: Introduction,
        effects: &mut Vec<Effect>,
    ) {
        match introduced_by {
            Introduction::Hello => {
                let message = Message::Welcome(self.handshake.hello_to(peer));
                effects.push(Effect::Send { to: peer, to_incarnation: Some(incarnation), message });
            }
            Introduction::Welcome => self.handshake.welcomed(peer, incarnation),
        }
        self.counts_on_again(peer);
        if self.handshake.talking_to(peer) != Some(incarnation) {
            return;
        }
        if introduced_by == Introduction::Welcome {
            effects.push(Effect::ProtocolEvent(ProtocolEvent::PeerMet(peer)));
            self.catch_up(peer, effects);
        }
        self.form_if_met();
    }

    /// Sends `peer`, which can be reached again, what it has missed.
    pub(super) fn catch_up(&mut self, peer: NodeIndex, effects: &mut Vec<Effect>) {
        let copies: Vec<_> = self.stragglers.of(peer).map(|(id, copy)| (id, copy.clone())).collect();
        for (id, Copy { round, key, record }) in copies {
            self.send_request(peer, id, round, Request::Store { key, record }, effects);
        }
        let waiting: Vec<OperationId> =
            self.operations.iter().filter(|(_, operation)| operation.waits_for(peer)).map(|(id, _)| *id).collect();
        for id in waiting {
            self.ask_again(id, effects);
        }
    }

    /// Why this node's replica answers nobody, where it does not.
    pub(super) fn replica_refusal(&self) -> Option<Refusal> {
        match self.unready()? {
            Unready::Refused { .. } => Some(Refusal::RefusedByPeers),
            Unready::Starting | Unready::Forming { .. } => Some(Refusal::NotFormed),
            // It still serves its peers, so that what is in flight elsewhere ends well.
            Unready::Draining => None,
        }
    }

    pub(super) fn serve(&mut self, target: Target, request: Request, effects: &mut Vec<Effect>) {
        if let Some(refusal) = self.replica_refusal() {
            self.answers.push((target, Outcome::Refused(refusal)));
            return;
        }
        if self.is_swamped() {
            effects.push(Effect::ProtocolEvent(ProtocolEvent::Swamped));
            return;
        }
        match request {
            Request::Clock => self.serve_clock(target, effects),
            Request::Get { key, read_kind } => match self.own_slot(&key) {
                Ok(_) if mutants::is_on(Mutant::ReadsWhatIsNotDurable) && self.journal.on_its_way(&key).is_some() => {
                    let held = self.journal.on_its_way(&key).map_or(Lookup::Absent, Lookup::Record);
                    self.answers.push((target, Outcome::Lookup(key, held)));
                }
                Ok(slot) => self.replica.get(slot, key, read_kind, target, effects),
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
    pub(super) fn is_swamped(&self) -> bool {
        self.replica.loads() >= REPLICA_READS_MAX
            || self.journal.gathering_bytes() + self.replica.waiting_bytes() >= REPLICA_BACKLOG_BYTES_MAX
    }

    pub(super) fn serve_clock(&mut self, target: Target, effects: &mut Vec<Effect>) {
        let Target::Peer { member, incarnation, operation, round } = target else { return };
        let answer = self.own_clock().map_or_else(Answer::Refused, Answer::Clock);
        let message = Message::Answer { operation, round, answer };
        effects.push(Effect::Send { to: member, to_incarnation: Some(incarnation), message });
    }

    pub(super) fn answered(
        &mut self,
        now: Time,
        from: NodeIndex,
        id: OperationId,
        round: u32,
        answer: Answer,
        effects: &mut Vec<Effect>,
    ) {
        match answer {
            Answer::Clock(clock) => self.clock_answered(now, from, id, clock, effects),
            Answer::Lookup { key, held } => self.held(now, from, id, round, &key, held, effects),
            Answer::Stored => self.stored(now, from, id, round, effects),
            Answer::Refused(refusal) => {
                self.promptness.was_late(from, now);
                if self.clock_rounds.contains_key(&id) {
                    self.clock_refused(from, id, refusal, effects);
                } else {
                    self.refused(from, id, round, refusal, effects);
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "an answer is matched by all of them")]
    pub(super) fn held(
        &mut self,
        now: Time,
        from: NodeIndex,
        id: OperationId,
        round: u32,
        key: &Key,
        held: Lookup,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(Operation { kind: Kind::Read(read), began, .. }) = self.operations.get_mut(&id)
            && counts_in(read.round, round)
            && read.key == *key
        {
            if round == 0 && from != self.me {
                self.promptness.answered(from, now.since(*began));
            }
            let step = read.held_by(from, held);
            self.read_step(id, step, effects);
        }
    }

    pub(super) fn stored(
        &mut self,
        now: Time,
        from: NodeIndex,
        id: OperationId,
        round: u32,
        effects: &mut Vec<Effect>,
    ) {
        if from != self.me
            && let Some(operation) = self.operations.get(&id)
        {
            self.promptness.stored(from, now.since(operation.began));
        }
        match self
            .operations
            .get_mut(&id)
            .filter(|operation| counts_in(operation.kind.round(), round))
            .map(|o| &mut o.kind)
        {
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

    pub(super) fn refused(
        &mut self,
        from: NodeIndex,
        id: OperationId,
        round: u32,
        refusal: Refusal,
        effects: &mut Vec<Effect>,
    ) {
        let Some(operation) = self.operations.get_mut(&id) else {
            self.stragglers.settled(from, id);
            return;
        };
        if !counts_in(operation.kind.round(), round) {
            return;
        }
        operation.note_refusal(from, refusal);
        self.hurry(from, id);
        if mutants::is_on(Mutant::RefusalCountsAsNothing)
            && let Some(Operation { kind: Kind::Read(read), .. }) = self.operations.get_mut(&id)
        {
            let step = read.held_by(from, Lookup::Absent);
            return self.read_step(id, step, effects);
        }
        if !refusal.is_for_good() {
            return;
        }
        self.refused_for_good(from, id, effects);
    }

    pub(super) fn refused_for_good(&mut self, from: NodeIndex, id: OperationId, effects: &mut Vec<Effect>) {
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
}

/// Whether an answer to what was asked in one round counts in the present one.
fn counts_in(present: u32, asked_in: u32) -> bool {
    present == asked_in || mutants::is_on(Mutant::AnswerOfEarlierRoundCounts)
}
