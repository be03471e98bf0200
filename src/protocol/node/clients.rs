//! What clients and operators ask of a node.

use std::borrow::Cow;

use crate::limits::{OPERATOR_COUNTER_RAISE_MAX, OPERATOR_EPOCH_RAISE_MAX};
use crate::mutants::{self, Mutant};
use crate::protocol::clock::{EpochNeeded, JumpBounds};
use crate::protocol::coordinator::ops::get::Read;
use crate::protocol::coordinator::ops::set::Write;
use crate::protocol::group_commit::Waits;
use crate::protocol::message::OperationId;
use crate::protocol::replica::Target;
use crate::protocol::{Command, Effect, Failure, Reply, RequestId, Time};
use crate::types::{Clock, Key, NodeIndex, ReadKind, Record, Slot, Stamp};

use super::{Due, Kind, Node, Whom};

/// What an operator may raise the clock by at once.
const OPERATOR_JUMP: JumpBounds =
    JumpBounds { epochs_max: OPERATOR_EPOCH_RAISE_MAX, counts_max: OPERATOR_COUNTER_RAISE_MAX };

impl Node {
    pub(super) fn request(
        &mut self,
        now: Time,
        id: RequestId,
        deadline: Time,
        command: Command,
        effects: &mut Vec<Effect>,
    ) {
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
                self.ask_a_majority(now, operation, effects);
                self.fail_if_impossible(operation, effects);
            }
            Command::Set { key, content, checksum } => {
                let slot = self.placement.slot(&key);
                let write = Write::new(id, slot, &self.voters(slot), key, content, checksum);
                let operation = self.begin(now, deadline, Kind::Write(write));
                if mutants::is_on(Mutant::NoClockRound) {
                    return self.draw_stamp(operation, Clock::default(), effects);
                }
                if mutants::is_on(Mutant::OlderClockRound) {
                    self.join_older_round(operation);
                }
                self.awaiting_round.push((operation, Whom::Majority));
                self.fail_if_impossible(operation, effects);
            }
            Command::NodeGet { key } => match self.own_slot(&key) {
                Ok(slot) => {
                    let target = Target::Operator(self.begin_local(id, deadline));
                    self.replica.get(slot, key, ReadKind::Data, target, effects);
                }
                Err(failure) => effects.push(Effect::Reply { id, reply: Reply::Failed(failure) }),
            },
            Command::NodeSet { key, content, checksum, stamp } => {
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
    pub(super) fn voters(&self, slot: Slot) -> Cow<'_, [NodeIndex]> {
        let mut voters = Cow::Borrowed(self.placement.replicas(slot));
        if mutants::is_on(Mutant::StandInsCount) {
            let at_hand = |member: &NodeIndex| *member == self.me || self.handshake.talking_to(*member).is_some();
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

    pub(super) fn own_slot(&self, key: &Key) -> Result<Slot, Failure> {
        let slot = self.placement.slot(key);
        if mutants::is_on(Mutant::StandInsCount) || self.placement.holds(self.me, slot) {
            return Ok(slot);
        }
        let replicas = self.placement.replicas(slot).iter().map(|member| self.id(*member)).collect();
        Err(Failure::NotReplica { slot, replicas })
    }

    pub(super) fn operator_stamp(&mut self, given: Option<Stamp>) -> Result<Stamp, Failure> {
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

    pub(super) fn raise_clock(&mut self, id: RequestId, deadline: Time, to: Clock, effects: &mut Vec<Effect>) {
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
    pub(super) fn begin_local(&mut self, request: RequestId, deadline: Time) -> OperationId {
        let id = self.next_operation();
        self.alarms.insert((deadline, id));
        self.local.insert(id, (request, deadline));
        id
    }

    pub(super) fn end_local(&mut self, id: OperationId, reply: Reply, effects: &mut Vec<Effect>) {
        if let Some((request, deadline)) = self.local.remove(&id) {
            self.alarms.remove(&(deadline, id));
            effects.push(Effect::Reply { id: request, reply });
        }
    }
}
