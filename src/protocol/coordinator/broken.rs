//! Wrong code for mutants, which no build without the feature `mutants` has.

use std::borrow::Cow;

use crate::mutants::{Mutant, is_on};
use crate::protocol::message::OperationId;
use crate::types::{Clock, NodeIndex};

use super::context::CoordinatorCtx;
use super::engine::Coordinator;
use super::in_flight::{InFlight, Stage};
use super::ops::{Heard, OperationState};

impl CoordinatorCtx<'_> {
    /// The replicas whose answers count: nodes at hand stand in for replicas that cannot be reached.
    pub(super) fn voters<'a>(&self, replicas: &'a [NodeIndex]) -> Cow<'a, [NodeIndex]> {
        let mut voters = Cow::Borrowed(replicas);
        if is_on(Mutant::StandInsCount) {
            let at_hand = |member: &NodeIndex| self.reaches(*member).is_some();
            let mut others = self.node.layout.members().iter().copied().filter(at_hand);
            for i in 0..voters.len() {
                if !at_hand(&voters[i])
                    && let Some(other) = others.find(|other| !voters.contains(other))
                {
                    voters.to_mut()[i] = other;
                }
            }
        }
        voters
    }

    /// The epoch of `floor` passes for durable.
    pub(super) fn use_epoch_before_durable(&mut self, floor: Clock) {
        if is_on(Mutant::EpochUsedBeforeDurable) {
            self.node.clock.epoch_is_durable(floor.epoch);
        }
    }
}

impl Coordinator {
    /// An operation takes part in a clock round that began before it.
    pub(super) fn join_older_clock_round(&mut self, id: OperationId) {
        if is_on(Mutant::OlderClockRound)
            && let Some(InFlight { stage: Stage::Clock { rounds, .. }, .. }) =
                self.operations.get_mut(&id).map(Box::as_mut)
            && let Some(round) = self.clock_rounds.join_latest(id)
        {
            rounds.push(round);
        }
    }

    /// A clock of whichever round counts for all operations.
    pub(super) fn counts_clock_of_any_round(
        &mut self,
        from: NodeIndex,
        clock: Clock,
        ctx: &mut CoordinatorCtx<'_>,
    ) -> bool {
        if !is_on(Mutant::ClockOfEarlierRoundCounts) {
            return false;
        }
        let in_flight: Vec<OperationId> = self.operations.keys().copied().collect();
        for id in in_flight {
            if let Some(operation) = self.operations.get_mut(&id).filter(|operation| operation.awaits_clocks()) {
                operation.on_clock(from, clock);
                self.advance(id, ctx);
            }
        }
        true
    }

    /// A refusal passes for "nothing is held".
    pub(super) fn takes_refusal_for_nothing(
        &mut self,
        from: NodeIndex,
        id: OperationId,
        ctx: &mut CoordinatorCtx<'_>,
    ) -> bool {
        let operation = self.operations.get_mut(&id).map(Box::as_mut);
        let Some(InFlight { operation: OperationState::Get(get), tally, .. }) = operation else { return false };
        if !is_on(Mutant::RefusalCountsAsNothing) {
            return false;
        }
        match get.take_refusal_for_nothing(from) {
            Heard::Counts => tally.count(from),
            Heard::Refuses => tally.refuse(from),
            Heard::Nothing => {}
        }
        self.advance(id, ctx);
        true
    }
}

impl InFlight {
    /// A write is resent under a new stamp.
    pub(super) fn restamp(&mut self, ctx: &mut CoordinatorCtx<'_>) {
        if is_on(Mutant::NewStampOnResend)
            && let OperationState::Set(set) = &mut self.operation
            && matches!(self.stage, Stage::Ask { .. })
            && let Ok(clock) = ctx.node.clock.issue(Clock::default())
        {
            set.restamp(clock);
        }
    }
}
