//! The slots that this node takes over while members change.
//!
//! First it learns from a majority of the old replicas what they take in no more, the fence and the dropped tables: until then
//! it answers nothing about the slots that it gains. Then it lists their records, page by page, and reads each key
//! linearizably, under the quorums of both lists, with itself among those that get the answer ([`Mend`]). So it copies nothing
//! that is not settled. Writes that go on meanwhile reach it as a replica of the new list.
//!
//! The place up to which everything is there is durable from time to time, so that a restart goes on from it.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{
    REPAIR_BACKLOG_BYTES_MAX, REPAIR_KEY_DEADLINE, TAKEOVER_AGAIN, TAKEOVER_BUSY_KEYS_MAX, TAKEOVER_KEYS_IN_FLIGHT_MAX,
};
use crate::mutants::rule;
use crate::protocol::context::{Caller, PendingAck, Task};
use crate::protocol::coordinator::ops::Mend;
use crate::protocol::group_commit::AckAfter;
use crate::protocol::io::{Failure, ProtocolEvent, Reply};
use crate::protocol::message::OperationId;
use crate::types::{AgedRecord, Clock, Key, NodeIndex, Slot, TableId, TakenOver};

use super::messages::{MembersAnswer, MembersRequest, Progress};
use super::state::{Members, MembersCtx};
use super::takeover::{Step, Takeover, ToldFloors};

impl Members {
    /// Takes the next steps that may be taken now.
    pub(super) fn take_over(&mut self, ctx: &mut MembersCtx<'_>) {
        let now = ctx.now();
        let takeover = &mut self.takeover;
        if takeover.is_complete() || takeover.again_at > now || !ctx.shared.membership.is_started() {
            return;
        }
        takeover.again_at = now.after(TAKEOVER_AGAIN);
        let id = *takeover.id.get_or_insert_with(|| ctx.coordinator.next_id());
        let round = takeover.round;
        let old = ctx.shared.node.layout.old().members().iter().copied();
        let questions: Vec<(NodeIndex, MembersRequest)> = match &takeover.step {
            Step::Floors(told) => old.filter_map(|node| Some((node, floors_to_ask_for(told.get(&node))?))).collect(),
            Step::List(pages) => {
                let after = &takeover.up_to;
                let missing = old.filter(|node| !pages.contains_key(node));
                missing.map(|node| (node, MembersRequest::Records { after: after.clone() })).collect()
            }
            Step::Copy { .. } => return self.copy(ctx),
            Step::KeepFloors | Step::KeepEnd | Step::Complete => return,
        };
        for (node, request) in questions {
            self.ask_old(node, id, round, request, ctx);
        }
    }

    /// Asks an old replica.
    fn ask_old(
        &mut self,
        node: NodeIndex,
        id: OperationId,
        round: u32,
        request: MembersRequest,
        ctx: &mut MembersCtx<'_>,
    ) {
        if node == ctx.me() {
            let from = ctx.own_origin(id, round);
            self.on_request(from, request, ctx);
        } else {
            ctx.send(node, id, round, request);
        }
    }

    /// An old replica answers.
    pub(super) fn on_taken_over_answer(
        &mut self,
        from: NodeIndex,
        round: u32,
        answer: MembersAnswer,
        ctx: &mut MembersCtx<'_>,
    ) {
        let takeover = &mut self.takeover;
        if takeover.round != round || !ctx.shared.node.layout.old().members().contains(&from) {
            return;
        }
        match (answer, &mut takeover.step) {
            (MembersAnswer::Floors { fence, dropped, has_more }, Step::Floors(told)) => {
                let of_node = told.entry(from).or_default();
                let before = of_node.up_to;
                of_node.hear(fence, dropped.last().copied(), has_more);
                let next = floors_to_ask_for(Some(of_node)).filter(|_| of_node.up_to > before);
                let whole = told.iter().filter(|(_, told)| told.is_whole).map(|(node, _)| *node).collect();
                let (is_enough, id) = (takeover.are_enough(&whole, ctx.shared.node.layout), takeover.id);
                // They become durable no later than what follows from the floors.
                if rule!(ShrinkWithoutDrops, true, not false) {
                    for table in dropped {
                        ctx.shared.replica.hears_of_drop(table, &mut ctx.shared.node);
                    }
                }
                if is_enough {
                    self.keep_floors(ctx);
                } else if let (Some(id), Some(next)) = (id, next) {
                    self.ask_old(from, id, round, next, ctx);
                }
            }
            (MembersAnswer::Records(page), Step::List(pages)) => {
                self.pace.bytes(page.bytes(), self.rate, ctx.shared.node.now);
                pages.insert(from, page);
                let answered = pages.keys().copied().collect();
                if takeover.are_enough(&answered, ctx.shared.node.layout) {
                    self.take_page(ctx);
                }
            }
            _ => {}
        }
    }

    /// A majority of the old replicas has told its floors: they are made durable here.
    fn keep_floors(&mut self, ctx: &mut MembersCtx<'_>) {
        if ctx.shared.node.group_commit.has_failed() {
            return;
        }
        let now = ctx.now();
        let Step::Floors(told) = &self.takeover.step else { return };
        let fence = told.values().filter_map(|told| told.fence).max();
        if let Some(fence) = fence {
            ctx.shared.replica.take_fence(fence, &mut ctx.shared.node);
        }
        let number = ctx.layout().number();
        let up_to = self.takeover.up_to.clone();
        ctx.shared.node.group_commit.add_taken_over(TakenOver { number, up_to, is_complete: false });
        ctx.shared.node.group_commit.ack_after(AckAfter::Next, PendingAck::FloorsKept { number });
        self.takeover.begin_step(Step::KeepFloors, now);
    }

    /// The floors of the configuration `number` are durable: gained slots are served from now on.
    pub fn floors_are_kept(&mut self, number: u64, ctx: &mut MembersCtx<'_>) {
        if ctx.layout().number() == number && self.takeover.step == Step::KeepFloors {
            self.takeover.knows_floors = true;
            self.takeover.begin_step(Step::List(BTreeMap::new()), ctx.now());
            self.take_over(ctx);
        }
    }

    /// A page is whole: its seals are kept, and its keys are brought here.
    fn take_page(&mut self, ctx: &mut MembersCtx<'_>) {
        let (now, me) = (ctx.now(), ctx.me());
        if ctx.shared.node.group_commit.has_failed() {
            return;
        }
        let Step::List(pages) = &mut self.takeover.step else { return };
        let pages = std::mem::take(pages);
        let mut seals: BTreeMap<Slot, Clock> = BTreeMap::new();
        for (slot, seal) in pages.values().flat_map(|page| &page.seals) {
            let greatest = seals.entry(*slot).or_insert(*seal);
            *greatest = (*greatest).max(*seal);
        }
        if rule!(SealNotHandedOver, true, not false) {
            for (slot, seal) in seals {
                ctx.shared.replica.hears_of_seal(slot, seal, &mut ctx.shared.node);
            }
        }
        let (keys, page_end) = Takeover::keys_of(pages, me, ctx.shared.node.layout);
        self.takeover.begin_step(Step::Copy { keys, in_flight: BTreeMap::new(), page_end }, now);
        self.copy(ctx);
    }

    /// Brings keys of the page here, a few at a time, and ends the page once all are.
    fn copy(&mut self, ctx: &mut MembersCtx<'_>) {
        let now = ctx.now();
        let backlog = ctx.shared.node.group_commit.next_bytes();
        let is_overloaded = backlog >= REPAIR_BACKLOG_BYTES_MAX || ctx.shared.replica.is_overloaded(backlog);
        // Clients go first.
        let at_once =
            if ctx.coordinator.serves_clients() { TAKEOVER_BUSY_KEYS_MAX } else { TAKEOVER_KEYS_IN_FLIGHT_MAX };
        let at_once = at_once.min(self.pace.keys_max(self.rate));
        while let Step::Copy { keys, in_flight, .. } = &mut self.takeover.step
            && !is_overloaded
            && in_flight.len() < at_once
            && self.pace.allows(now)
            && let Some(key) = keys.pop_front()
        {
            self.pace.key(self.rate, now);
            self.takeover.last_task += 1;
            let task = self.takeover.last_task;
            in_flight.insert(task, key.clone());
            let caller = Caller::Task(Task::TakeOver(task));
            let mend = Mend::new(BTreeSet::from([ctx.me()])).into();
            ctx.coordinator.start(caller, now.after(REPAIR_KEY_DEADLINE), key, mend, &mut ctx.shared);
        }
        let Step::Copy { keys, in_flight, page_end } = &self.takeover.step else { return };
        let again_at = now.after(TAKEOVER_AGAIN);
        let waits_for_pace = !keys.is_empty() && in_flight.len() < at_once && !is_overloaded;
        self.takeover.again_at = if waits_for_pace { self.pace.free_at().min(again_at) } else { again_at };
        if !keys.is_empty() || !in_flight.is_empty() || ctx.shared.node.group_commit.has_failed() {
            return;
        }
        let number = ctx.layout().number();
        if let Some(up_to) = page_end.clone() {
            self.takeover.up_to = Some(up_to.clone());
            let taken_over = TakenOver { number, up_to: Some(up_to), is_complete: false };
            ctx.shared.node.group_commit.add_taken_over(taken_over);
            self.takeover.begin_step(Step::List(BTreeMap::new()), now);
            return self.take_over(ctx);
        }
        ctx.shared.node.group_commit.add_taken_over(TakenOver { number, up_to: None, is_complete: true });
        ctx.shared.node.group_commit.ack_after(AckAfter::Next, PendingAck::TakenOver { number });
        self.takeover.begin_step(Step::KeepEnd, now);
    }

    /// A key is here, or could not be brought here now.
    pub fn on_copied(&mut self, task: u64, reply: &Reply, ctx: &mut MembersCtx<'_>) {
        let Step::Copy { keys, in_flight, .. } = &mut self.takeover.step else { return };
        let Some(key) = in_flight.remove(&task) else { return };
        match reply {
            Reply::Record(record) => {
                // A client has written it meanwhile, or another node that gains the slot has brought it here.
                self.takeover.keys += 1;
                self.takeover.bytes += record.as_ref().map_or(0, |record| bytes_of(&key, record)) as u64;
            }
            Reply::Spread(record) => {
                let bytes = bytes_of(&key, record);
                self.takeover.keys += 1;
                self.takeover.bytes += bytes as u64;
                self.pace.copied(bytes, self.rate, ctx.now());
            }
            // The records of a dropped table are removed, whatever they are.
            Reply::Failed(Failure::TableDropped | Failure::DroppedMeanwhile) => {}
            // It is tried again a little later.
            _ => return keys.push_back(key),
        }
        self.copy(ctx);
    }

    /// It is durable that everything is here under the configuration `number`.
    pub fn is_taken_over(&mut self, number: u64, ctx: &mut MembersCtx<'_>) {
        if ctx.layout().number() == number && self.takeover.step == Step::KeepEnd {
            self.takeover.begin_step(Step::Complete, ctx.now());
            let Progress { slots, keys, bytes, .. } = self.takeover.progress();
            ctx.shared.node.report(ProtocolEvent::TakenOver { slots, keys, bytes });
        }
    }
}

/// The bytes of a record that is copied.
fn bytes_of(key: &Key, record: &AgedRecord) -> usize {
    key.as_bytes().len() + record.content.value_bytes()
}

/// What an old replica that has told so much of its floors is asked for next.
fn floors_to_ask_for(told: Option<&ToldFloors>) -> Option<MembersRequest> {
    match told {
        Some(told) if told.is_whole => None,
        told => Some(MembersRequest::Floors { after: told.map_or(TableId::DEFAULT, |told| told.up_to) }),
    }
}
