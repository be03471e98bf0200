//! The clock round: one query of the replicas' clocks for all operations that wait for a stamp.
//!
//! Invariant: the requests of a round leave after each of its operations was invoked. So each clock that answers was read
//! after that, and counts for all of them.

use std::cmp::Reverse;

use crate::protocol::clock::PEER_JUMP;
use crate::protocol::io::ProtocolEvent;
use crate::protocol::message::{OperationId, Refusal, Request};
use crate::protocol::quorum::Standing;
use crate::types::{Clock, NodeIndex};

use super::clock_rounds::ClockRound;
use super::context::CoordinatorCtx;
use super::engine::Coordinator;
use super::in_flight::{InFlight, Stage};
use super::ops::Fanout;

impl Coordinator {
    /// Begins one clock round for all operations that wait for one.
    pub fn begin_clock_round(&mut self, ctx: &mut CoordinatorCtx<'_>) {
        let mut waiting = std::mem::take(&mut self.clock_rounds.waiting);
        // An operation that asked again may have had its answers since, and wait for none.
        waiting.retain(|(id, _)| self.operations.get(id).is_some_and(|operation| operation.awaits_clocks()));
        // Of two wishes of one operation the greater counts.
        waiting.sort_unstable_by_key(|(id, fanout)| (*id, Reverse(*fanout)));
        waiting.dedup_by_key(|(id, _)| *id);
        if waiting.is_empty() {
            self.clock_rounds.waiting = waiting;
            return;
        }
        let mut round = self.next_id();
        for (id, _) in waiting.iter().filter(|(id, _)| id.is_traced()) {
            if let Some(request) = self.operations.get(id).and_then(|operation| operation.caller.traced()) {
                round = ctx.node.trace(request, round);
            }
        }
        ctx.node.report(ProtocolEvent::ClockRound { writes: waiting.len() });
        let mut asked = Vec::new();
        for (id, fanout) in &waiting {
            self.join(*id, *fanout, round, &mut asked, ctx);
        }
        let operations = waiting.iter().map(|(id, _)| *id).collect();
        self.clock_rounds.in_flight.insert(round, ClockRound { began: ctx.node.now, operations });
        waiting.clear();
        self.clock_rounds.waiting = waiting;
        asked.sort_unstable();
        asked.dedup();
        for member in asked {
            if let Some(incarnation) = ctx.reaches(member) {
                ctx.ask(member, incarnation, round, 0, Request::Clock);
            }
        }
    }

    /// `id` takes part in `round`; adds the replicas to ask for it to `asked`.
    fn join(
        &mut self,
        id: OperationId,
        fanout: Fanout,
        round: OperationId,
        asked: &mut Vec<NodeIndex>,
        ctx: &CoordinatorCtx<'_>,
    ) {
        let is_unasked = self.operations.get(&id).is_some_and(|operation| operation.tally.is_unasked());
        let first = if is_unasked { self.choose_first(id, Fanout::Majority, ctx) } else { Vec::new() };
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let from = asked.len();
        match fanout {
            _ if is_unasked => asked.extend(first),
            Fanout::All => asked.extend(operation.asked_again()),
            _ => asked.extend(operation.not_asked()),
        }
        for member in &asked[from..] {
            operation.tally.ask(*member);
        }
        if let Stage::Clock { rounds, .. } = &mut operation.stage {
            rounds.push(round);
        }
    }

    /// `from` shows its clock in `round`.
    pub(super) fn on_clock(&mut self, from: NodeIndex, round: OperationId, clock: Clock, ctx: &mut CoordinatorCtx<'_>) {
        if ctx.node.clock.check_jump(clock, PEER_JUMP).is_err() {
            ctx.node.report(ProtocolEvent::ClockJump { seen: clock });
            return self.on_clock_refused(from, round, Refusal::ClockJump, ctx);
        }
        if from != ctx.node.me
            && let Some(ClockRound { began, .. }) = self.clock_rounds.in_flight.get(&round)
        {
            self.latency.answered(from, ctx.node.now.since(*began));
        }
        #[cfg(feature = "mutants")]
        if self.counts_clock_of_any_round(from, clock, ctx) {
            return;
        }
        self.for_each_of_round(round, ctx, |operation| operation.on_clock(from, clock));
    }

    /// `from` does not show its clock in `round`.
    pub(super) fn on_clock_refused(
        &mut self,
        from: NodeIndex,
        round: OperationId,
        refusal: Refusal,
        ctx: &mut CoordinatorCtx<'_>,
    ) {
        let operations = self.clock_rounds.in_flight.get(&round).map(|round| round.operations.clone());
        for id in operations.unwrap_or_default() {
            if let Some(operation) = self.operations.get_mut(&id) {
                operation.note_refusal(from, refusal);
            }
            self.hedge_now(id, from);
        }
        if refusal.is_permanent() {
            self.for_each_of_round(round, ctx, |operation| operation.tally.refuse(from));
        }
    }

    /// Tells each operation of `round` about an answer. Operations that still wait for clocks stay in the round.
    fn for_each_of_round(&mut self, round: OperationId, ctx: &mut CoordinatorCtx<'_>, tell: impl Fn(&mut InFlight)) {
        let Some(ClockRound { began, mut operations }) = self.clock_rounds.in_flight.remove(&round) else { return };
        let mut waiting = 0;
        for i in 0..operations.len() {
            let id = operations[i];
            let Some(operation) = self.operations.get_mut(&id).filter(|operation| operation.is_in_clock_round(round))
            else {
                continue;
            };
            tell(operation);
            if operation.tally.standing() == Standing::Pending {
                operations[waiting] = id;
                waiting += 1;
            } else {
                self.advance(id, ctx);
            }
        }
        operations.truncate(waiting);
        if !operations.is_empty() {
            self.clock_rounds.in_flight.insert(round, ClockRound { began, operations });
        }
    }
}
