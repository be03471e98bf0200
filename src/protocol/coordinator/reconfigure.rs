//! Operations in flight when this node adopts a configuration.
//!
//! No answer to a round counts in another configuration, so that each operation begins its round anew, under the new quorums. A
//! write keeps the stamp that it has drawn: a second one would give it two places in the order. A clock round that has ended stays
//! good. A conditional write draws a new ballot.

use crate::protocol::membership::PeerView;
use crate::protocol::message::OperationId;
use crate::types::NodeIndex;

use super::context::CoordinatorCtx;
use super::engine::Coordinator;
use super::in_flight::{Pace, Stage};
use super::ops::Fanout;

impl Coordinator {
    /// A configuration is adopted: all operations go on under it.
    pub fn reconfigure(&mut self, ctx: &mut CoordinatorCtx<'_>) {
        let (layout, me) = (ctx.node.layout, ctx.node.me);
        self.latency.know(layout.nodes().len());
        let gains = |peer: NodeIndex| layout.distinct_slots().iter().any(|slot| layout.gains(peer, *slot));
        self.hints.retain(|peer| layout.is_member(peer) && !gains(peer));
        let in_flight: Vec<OperationId> = self.operations.keys().copied().collect();
        for id in in_flight {
            let Some(operation) = self.operations.get_mut(&id) else { continue };
            #[cfg(feature = "mutants")]
            if crate::mutants::is_on(crate::mutants::Mutant::ReadKeepsItsRound)
                && matches!(operation.operation, super::ops::OperationState::Get(_))
            {
                continue;
            }
            operation.tally = layout.tally(operation.slot);
            for replica in layout.replicas(operation.slot) {
                if *replica != me && matches!(ctx.membership.view(*replica), PeerView::Refused(_)) {
                    operation.tally.refuse(*replica);
                }
            }
            operation.refusals.clear();
            if let Stage::Clock { rounds, .. } = &mut operation.stage {
                self.clock_rounds.leave(id, &std::mem::take(rounds));
            }
            match &operation.stage {
                Stage::Start | Stage::Queued | Stage::Pause | Stage::Epoch { .. } => {
                    operation.operation.forget_others(&operation.tally);
                    continue;
                }
                Stage::Clock { .. } => self.clock_rounds.wait(id, Fanout::Majority),
                Stage::Ask { .. } | Stage::Seal(_) => {
                    operation.pace = Pace::Resend { times: 1 };
                    let alarm = ctx.node.now.after(self.latency.resend_delay()).min(operation.deadline);
                    operation.set_alarm(id, alarm, &mut self.timers);
                    let step = operation.operation.on_reconfigured(&operation.tally);
                    self.perform(id, step, ctx);
                }
            }
            self.advance(id, ctx);
        }
    }
}
