//! What a client is told of an operation that failed: each replica's last word.

use crate::protocol::io::{QuorumReport, ReplicaStatus};
use crate::protocol::membership::PeerView;
use crate::protocol::message::Refusal;
use crate::types::NodeIndex;

use super::context::CoordinatorCtx;
use super::in_flight::InFlight;

impl InFlight {
    /// Who has answered, and what the others said.
    pub(super) fn report(&self, ctx: &CoordinatorCtx<'_>) -> QuorumReport {
        let replicas = self.tally.members().iter().map(|member| (ctx.node.id(*member), self.status_of(*member, ctx)));
        let lists = self.tally.both_lists().map(|lists| lists.map(|list| ctx.node.ids(&list)));
        QuorumReport { slot: self.slot, needed: self.tally.answers_min(), replicas: replicas.collect(), lists }
    }

    fn status_of(&self, member: NodeIndex, ctx: &CoordinatorCtx<'_>) -> ReplicaStatus {
        if self.tally.has_counted(member) {
            return ReplicaStatus::Answered;
        }
        let view = ctx.membership.view(member);
        // A transient refusal from before the two stopped talking is not why the replica is not counted on.
        let still_counts = |refusal: &Refusal| refusal.is_permanent() || !matches!(view, PeerView::Refused(_));
        if let Some(refusal) = self.refusals.get(&member).copied().filter(still_counts) {
            return ReplicaStatus::Refused(refusal);
        }
        match view {
            _ if member == ctx.node.me && ctx.node.group_commit.has_failed() => {
                ReplicaStatus::Refused(Refusal::StoreFailed)
            }
            _ if member == ctx.node.me => ReplicaStatus::Nothing,
            PeerView::Talking => ReplicaStatus::Nothing,
            PeerView::Unreachable => ReplicaStatus::Unreachable,
            PeerView::Refused(refusal) => ReplicaStatus::NotTalking(refusal),
        }
    }
}
