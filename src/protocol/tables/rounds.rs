//! Drops on their way: each is durable at a majority of the replicas of every slot before its table's name is free.

use std::collections::BTreeSet;

use crate::limits::RESEND_AFTER_MAX;
use crate::mutants::rule;
use crate::protocol::io::{QuorumReport, ReplicaStatus, Time};
use crate::protocol::listing::Coverage;
use crate::protocol::message::{OperationId, Request};
use crate::types::{NodeIndex, Slot, TableId};

use super::state::{Round, Tables, TablesCtx, Timer};

impl Tables {
    /// Sends a drop to all nodes, for `job`.
    pub(super) fn begin_round(&mut self, table: TableId, job: u64, deadline: Time, ctx: &mut TablesCtx<'_>) {
        let id = ctx.coordinator.next_id();
        self.rounds.insert(id, Round { table, job: Some(job), deadline, times: 0, answered: BTreeSet::new() });
        self.set_round_timer(id, ctx);
        self.ask_round(id, ctx);
    }

    fn ask_round(&mut self, id: OperationId, ctx: &mut TablesCtx<'_>) {
        let Some(round) = self.rounds.get(&id) else { return };
        let table = round.table;
        let missing = ctx.shared.node.layout.members().iter().copied();
        let missing: Vec<NodeIndex> = missing.filter(|member| !round.answered.contains(member)).collect();
        for member in missing {
            if let Some(incarnation) = ctx.shared.reaches(member) {
                ctx.shared.ask(member, incarnation, id, 0, Request::Drop { tables: vec![table] });
            }
        }
    }

    fn set_round_timer(&mut self, id: OperationId, ctx: &TablesCtx<'_>) {
        let Some(round) = self.rounds.get(&id) else { return };
        let delay = ctx.coordinator.latency.resend_delay() * 2_u32.pow(round.times.min(8));
        let alarm = ctx.now().after(delay.min(RESEND_AFTER_MAX)).min(round.deadline);
        self.timers.insert((alarm, Timer::Round(id)));
    }

    /// The drop is durable on `from`.
    pub(super) fn round_counts(&mut self, from: NodeIndex, id: OperationId, ctx: &mut TablesCtx<'_>) {
        let Some(round) = self.rounds.get_mut(&id) else { return };
        round.answered.insert(from);
        let layout = ctx.shared.node.layout;
        let holds = rule!(DropAtOne, Coverage::lacking(&round.answered, layout).is_none());
        #[cfg(feature = "mutants")]
        let holds = holds
            || crate::mutants::is_on(crate::mutants::Mutant::DropOfOneSlot) && holds_first_slot(&round.answered, ctx);
        let job = if holds { round.job.take() } else { None };
        let is_over = layout.members().iter().all(|member| round.answered.contains(member));
        if is_over {
            self.rounds.remove(&id);
            self.timers.retain(|(_, timer)| *timer != Timer::Round(id));
        }
        if let Some(job) = job {
            self.round_done(job, ctx);
        }
    }

    /// Sends a drop again, or gives up.
    pub(super) fn round_is_late(&mut self, id: OperationId, ctx: &mut TablesCtx<'_>) {
        let Some(round) = self.rounds.get_mut(&id) else { return };
        if round.deadline <= ctx.now() {
            let Some(Round { job: Some(job), answered, .. }) = self.rounds.remove(&id) else { return };
            let layout = ctx.shared.node.layout;
            let slot = Coverage::lacking(&answered, layout).unwrap_or_default();
            let report = report(slot, &answered, ctx);
            return self.round_failed(job, report, ctx);
        }
        round.times += 1;
        self.set_round_timer(id, ctx);
        self.ask_round(id, ctx);
    }

    /// A configuration is adopted: drops must be durable at majorities under it.
    pub fn reconfigure(&mut self, ctx: &mut TablesCtx<'_>) {
        let ids: Vec<OperationId> = self.rounds.keys().copied().collect();
        for id in ids {
            if let Some(round) = self.rounds.get_mut(&id) {
                round.answered.clear();
            }
            self.ask_round(id, ctx);
        }
    }

    /// `peer` can be reached again: it is sent the drops on their way, and those that it may have missed.
    pub fn catch_up(&mut self, peer: NodeIndex, ctx: &mut TablesCtx<'_>) {
        let Some(incarnation) = ctx.shared.reaches(peer) else { return };
        let ids: Vec<OperationId> = self.rounds.keys().copied().collect();
        for id in ids {
            self.ask_round(id, ctx);
        }
        let known: Vec<TableId> = ctx.shared.replica.dropped().collect();
        for tables in known.chunks(crate::limits::DROPS_IN_MESSAGE_MAX) {
            let id = ctx.coordinator.next_id();
            ctx.shared.ask(peer, incarnation, id, 0, Request::Drop { tables: tables.to_vec() });
        }
    }
}

/// A majority of one slot's replicas passes for one of each: wrong.
#[cfg(feature = "mutants")]
fn holds_first_slot(nodes: &BTreeSet<NodeIndex>, ctx: &TablesCtx<'_>) -> bool {
    let layout = ctx.shared.node.layout;
    let Some(slot) = layout.distinct_slots().first() else { return false };
    let tally = layout.tally(*slot);
    tally.is_quorum(tally.set_of(tally.members().iter().filter(|member| nodes.contains(member)).copied()))
}

/// A report of the replicas of `slot`, where those of `answered` have answered.
pub(super) fn report(slot: Slot, answered: &BTreeSet<NodeIndex>, ctx: &TablesCtx<'_>) -> QuorumReport {
    let node = &ctx.shared.node;
    let replicas = node.layout.replicas(slot);
    let status = |member: &NodeIndex| {
        if answered.contains(member) {
            ReplicaStatus::Answered
        } else if ctx.shared.reaches(*member).is_some() {
            ReplicaStatus::Nothing
        } else {
            ReplicaStatus::Unreachable
        }
    };
    let tally = node.layout.tally(slot);
    QuorumReport {
        slot,
        needed: tally.answers_min(),
        replicas: replicas.iter().map(|member| (node.id(*member), status(member))).collect(),
        lists: tally.both_lists().map(|lists| lists.map(|list| node.ids(&list))),
    }
}
