//! One operation in flight: its stage, its timer, and the replicas that have answered.

use std::collections::{BTreeMap, BTreeSet};

use crate::mutants::{must, rule};
use crate::protocol::context::Caller;
use crate::protocol::io::Time;
use crate::protocol::message::{OperationId, Refusal, Request};
use crate::protocol::quorum::Tally;
use crate::types::{AgedRecord, Clock, Key, NodeIndex, Slot};

use super::context::CoordinatorCtx;
use super::ops::{Enough, Fanout, OperationState};

/// An operation in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InFlight {
    pub(super) caller: Caller,
    pub(super) key: Key,
    pub(super) slot: Slot,
    pub(super) began: Time,
    pub(super) deadline: Time,
    /// When its timer fires.
    pub(super) alarm: Time,
    pub(super) pace: Pace,
    /// The last refusal of each replica that has refused, or a permanent one.
    pub(super) refusals: BTreeMap<NodeIndex, Refusal>,
    /// The number of the present stage. Answers to an earlier one do not count.
    pub(super) round: u32,
    pub(super) stage: Stage,
    pub(super) tally: Tally,
    pub(super) operation: OperationState,
    /// The answer of a read that deletes what it found: a record that it had settled before, for the case that it fails.
    pub(super) settled: Option<Box<AgedRecord>>,
}

/// What an operation's timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pace {
    /// A majority was asked. When the timer fires, its silent members are slow, and the others are asked too.
    Hedge,
    /// A majority was asked, and one of it has refused. The timer fires at once.
    HedgeNow,
    /// The operation pauses until the timer fires.
    Pause,
    /// All were asked, so many times. When the timer fires, those that have not answered are asked again.
    Resend { times: u32 },
}

impl Pace {
    pub(super) fn is_hedging(self) -> bool {
        matches!(self, Self::Hedge | Self::HedgeNow)
    }
}

/// What an operation waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Its first step.
    Start,
    /// That an exclusive operation on the same key ends, which began before it.
    Queued,
    /// The end of a pause.
    Pause,
    /// The clocks of a quorum.
    Clock {
        /// The greatest clock so far.
        floor: Clock,
        /// The clock rounds that it takes part in.
        rounds: Vec<OperationId>,
    },
    /// That an epoch is durable here, so that its stamp can be drawn above `floor`.
    Epoch { floor: Clock },
    /// The answers to a round of its own.
    Ask { fanout: Fanout, enough: Enough },
    /// That a quorum has a seal of its slot.
    Seal(Clock),
}

impl Stage {
    /// Whether a majority is asked first, and the others when it is late.
    pub(super) fn is_hedged(&self) -> bool {
        match self {
            Self::Clock { rounds, .. } => !rounds.is_empty(),
            Self::Ask { fanout, .. } => fanout.is_hedged(),
            Self::Start | Self::Queued | Self::Pause | Self::Epoch { .. } | Self::Seal(_) => false,
        }
    }
}

impl InFlight {
    /// Begins the next stage. The refusals of a clock round stay for the round after it; another question is asked of
    /// everyone anew.
    pub(super) fn begin(&mut self, stage: Stage) {
        match std::mem::replace(&mut self.stage, stage) {
            Stage::Start | Stage::Queued => return,
            Stage::Clock { .. } | Stage::Epoch { .. } | Stage::Pause => self.tally.restart(),
            Stage::Ask { .. } | Stage::Seal(_) => self.tally.reset(),
        }
        self.round += 1;
    }

    /// Whether it waits for clocks, of rounds in flight or of the next one.
    pub(super) fn awaits_clocks(&self) -> bool {
        matches!(self.stage, Stage::Clock { .. })
    }

    pub(super) fn is_in_clock_round(&self, round: OperationId) -> bool {
        matches!(&self.stage, Stage::Clock { rounds, .. } if rounds.contains(&round))
    }

    /// The clock of `member`, read after this operation was invoked.
    pub(super) fn on_clock(&mut self, member: NodeIndex, clock: Clock) {
        if let Stage::Clock { floor, .. } = &mut self.stage
            && self.tally.members().contains(&member)
        {
            *floor = clock.max(*floor);
            self.tally.count(member);
        }
    }

    /// Whether an answer to what was asked in `round` counts now.
    pub(super) fn counts(&self, round: u32) -> bool {
        rule!(AnswerOfEarlierRoundCounts, round == self.round)
    }

    /// Notes why `peer` refuses. A permanent refusal stays: answers to several clock rounds may arrive in any order.
    pub(super) fn note_refusal(&mut self, peer: NodeIndex, refusal: Refusal) {
        let noted = self.refusals.entry(peer).or_insert(refusal);
        if !noted.is_permanent() {
            *noted = refusal;
        }
    }

    /// Whether a majority alone was asked.
    pub(super) fn may_hedge(&self) -> bool {
        self.pace.is_hedging() && self.stage.is_hedged()
    }

    /// Whether what `peer` was asked is worth asking again, because it may be lost.
    pub(super) fn waits_for(&self, peer: NodeIndex) -> bool {
        let is_yet_to_be_asked = self.may_hedge() && !self.tally.is_asked(peer);
        self.tally.is_missing(peer) && !is_yet_to_be_asked
    }

    pub(super) fn not_asked(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.tally.missing().filter(|member| !self.tally.is_asked(*member))
    }

    /// The replicas to ask again where a majority was asked first: by now, all that have not answered.
    pub(super) fn asked_again(&mut self) -> impl Iterator<Item = NodeIndex> + Clone + '_ {
        must!(NobodyElseIsAsked, self.tally.ask_missing());
        self.tally.missing().filter(|member| self.tally.is_asked(*member))
    }

    /// Asks all that have not answered the present round.
    pub(super) fn ask_missing(&mut self, id: OperationId, ctx: &mut CoordinatorCtx<'_>) {
        if self.stage.is_hedged() {
            must!(NobodyElseIsAsked, self.tally.ask_missing());
            self.send(id, self.tally.missing().filter(|member| self.tally.is_asked(*member)), ctx);
        } else {
            self.send(id, self.tally.missing(), ctx);
        }
    }

    /// Sends the request of the present round to those of `members` that can be reached. The others are asked when they can
    /// be: see `Coordinator::catch_up`.
    pub(super) fn send(
        &self,
        id: OperationId,
        members: impl Iterator<Item = NodeIndex> + Clone,
        ctx: &mut CoordinatorCtx<'_>,
    ) {
        let me = ctx.node.me;
        let mut reached = members.clone().filter(|member| ctx.reaches(*member).is_some());
        let other = if self.operation.lacks_content_here() { reached.find(|member| *member != me) } else { None };
        let lead =
            if members.clone().any(|member| member == me) { other.or(Some(me)) } else { other.or(reached.next()) };
        for member in members {
            if let Some(incarnation) = ctx.reaches(member) {
                let request = match self.stage {
                    Stage::Seal(seal) => Request::Seal { slot: self.slot, seal },
                    _ => self.operation.request(&self.key, Some(member) == lead),
                };
                ctx.ask(member, incarnation, id, self.round, request);
            }
        }
    }

    pub(super) fn set_alarm(&mut self, id: OperationId, alarm: Time, timers: &mut BTreeSet<(Time, OperationId)>) {
        timers.remove(&(self.alarm, id));
        self.alarm = alarm;
        timers.insert((alarm, id));
    }
}
