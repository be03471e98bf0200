//! The slots that this node takes over while members change.
//!
//! First it learns from a majority of the old replicas what they take in no more, the fence and the dropped tables: until then
//! it answers nothing about the slots that it gains. Then it lists their records, page by page, and reads each key
//! linearizably, under the quorums of both lists, with itself among those that get the answer ([`Mend`]). So it copies nothing
//! that is not settled. Writes that go on meanwhile reach it as a replica of the new list.
//!
//! The place up to which everything is there is durable from time to time, so that a restart goes on from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::{
    REPAIR_BACKLOG_BYTES_MAX, REPAIR_KEY_DEADLINE, TAKEOVER_AGAIN, TAKEOVER_BUSY_KEYS_MAX, TAKEOVER_KEYS_IN_FLIGHT_MAX,
};
use crate::mutants::rule;
use crate::protocol::context::{Caller, PendingAck, Task};
use crate::protocol::coordinator::ops::Mend;
use crate::protocol::group_commit::AckAfter;
use crate::protocol::io::{Failure, Reply, Time};
use crate::protocol::layout::Layout;
use crate::protocol::message::OperationId;
use crate::protocol::quorum::Tally;
use crate::types::{Clock, Key, NodeIndex, Slot, TableId, TakenOver};

use super::messages::{MembersAnswer, MembersRequest, Progress, TakeoverPage};
use super::serving::takes_over;
use super::state::{Members, MembersCtx};

/// What a node takes over under one configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Takeover {
    /// The questions of this part; drawn with the first one.
    id: Option<OperationId>,
    /// The number of the question. Answers to earlier ones do not count.
    round: u32,
    step: Step,
    /// Everything up to here is there.
    up_to: Option<(Slot, Key)>,
    /// The slots that it takes over, ascending.
    slots: Vec<Slot>,
    /// One of each group of slots that have the same old replicas.
    groups: Vec<Slot>,
    /// Whether the floors are durable.
    knows_floors: bool,
    last_task: u64,
    keys: u64,
    bytes: u64,
    /// When questions are asked again, or keys are tried again.
    again_at: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Asks for the floors.
    Floors(BTreeMap<NodeIndex, (Option<Clock>, Vec<TableId>)>),
    /// The floors are on their way to the disk.
    KeepFloors,
    /// Asks for a page of records.
    List(BTreeMap<NodeIndex, TakeoverPage>),
    /// Brings the keys of a page here.
    Copy {
        keys: VecDeque<Key>,
        in_flight: BTreeMap<u64, Key>,
        /// The end of the page; absent in the last one.
        page_end: Option<(Slot, Key)>,
    },
    /// That everything is there is on its way to the disk.
    KeepEnd,
    /// Everything is there, or nothing had to be.
    Complete,
}

impl Takeover {
    /// What `me` has to take over under a layout. `kept` says how far it was before a restart.
    pub(super) fn begin(layout: &Layout, me: NodeIndex, kept: Option<&TakenOver>, now: Time) -> Self {
        let slots: Vec<Slot> = if layout.is_joint() {
            let is_taken =
                |slot: &Slot| rule!(ShrinkWithoutCopy, takes_over(me, *slot, layout), not layout.gains(me, *slot));
            (0..=u16::MAX).map(Slot).filter(is_taken).collect()
        } else {
            Vec::new()
        };
        let mut seen = BTreeSet::new();
        let is_new = |slot: &Slot| seen.insert(layout.old().replicas(*slot).to_vec());
        let groups = slots.iter().copied().filter(is_new).collect();
        let is_complete = slots.is_empty() || kept.is_some_and(|kept| kept.is_complete);
        let step = if is_complete { Step::Complete } else { Step::Floors(BTreeMap::new()) };
        Self {
            id: None,
            round: 0,
            step,
            up_to: kept.and_then(|kept| kept.up_to.clone()),
            slots,
            groups,
            knows_floors: is_complete || rule!(NoFloors, false, not true),
            last_task: 0,
            keys: 0,
            bytes: 0,
            again_at: now,
        }
    }

    pub(super) fn owns(&self, id: OperationId) -> bool {
        self.id == Some(id)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.step == Step::Complete
    }

    pub(super) fn knows_floors(&self) -> bool {
        self.knows_floors
    }

    pub(super) fn progress(&self) -> Progress {
        let is_complete = self.is_complete();
        let slots = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let done = match &self.up_to {
            _ if is_complete => self.slots.len(),
            None => 0,
            Some((slot, _)) => self.slots.partition_point(|other| other < slot),
        };
        let slots_done = u32::try_from(done).unwrap_or(u32::MAX);
        Progress { is_complete, slots, slots_done, keys: self.keys, bytes: self.bytes }
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        match &self.step {
            Step::Complete => None,
            _ => Some(self.again_at),
        }
    }

    /// A batch failed: what waited for it begins anew.
    pub(super) fn on_batch_failed(&mut self) {
        match self.step {
            Step::KeepFloors => self.step = Step::Floors(BTreeMap::new()),
            Step::KeepEnd => {
                self.step = Step::Copy { keys: VecDeque::new(), in_flight: BTreeMap::new(), page_end: None };
            }
            _ => {}
        }
    }

    fn begin_step(&mut self, step: Step, now: Time) {
        self.step = step;
        self.round += 1;
        self.again_at = now;
    }

    /// Whether `answered` hold a majority of the old replicas of every slot that is taken over.
    fn are_enough(&self, answered: &BTreeSet<NodeIndex>, layout: &Layout) -> bool {
        let is_enough = |slot: &Slot| {
            let tally = Tally::single(layout.old().replicas(*slot));
            let set = tally.set_of(answered.iter().copied());
            rule!(CopyFromOne, tally.is_quorum(set), not !set.is_empty())
        };
        self.groups.iter().all(is_enough)
    }

    /// The keys of a page that this node may lack, with the end of the page.
    fn keys_of(
        &self,
        pages: BTreeMap<NodeIndex, TakeoverPage>,
        me: NodeIndex,
        layout: &Layout,
    ) -> (VecDeque<Key>, Option<(Slot, Key)>) {
        let end = pages.values().filter_map(|page| page.looked_to.clone()).min();
        let holders: Vec<NodeIndex> = pages.keys().copied().collect();
        let mut named: BTreeMap<(Slot, Key), BTreeMap<NodeIndex, u64>> = BTreeMap::new();
        for (node, page) in pages {
            for (slot, key, mark) in page.records {
                let place = (slot, key);
                if end.as_ref().is_none_or(|end| place <= *end) {
                    named.entry(place).or_default().insert(node, mark);
                }
            }
        }
        // A node that holds the slot already need not read what all hold alike.
        let is_known = |slot: Slot, marks: &BTreeMap<NodeIndex, u64>| {
            let mut of_slot = holders.iter().filter(|node| layout.old().holds(**node, slot));
            marks.get(&me).is_some_and(|mine| of_slot.all(|node| marks.get(node) == Some(mine)))
        };
        let lacking = named.into_iter().filter(|((slot, _), marks)| !is_known(*slot, marks));
        (lacking.map(|((_, key), _)| key).collect(), end)
    }
}

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
        let (answered, request): (BTreeSet<NodeIndex>, _) = match &takeover.step {
            Step::Floors(told) => (told.keys().copied().collect(), MembersRequest::Floors),
            Step::List(pages) => {
                (pages.keys().copied().collect(), MembersRequest::Records { after: takeover.up_to.clone() })
            }
            Step::Copy { .. } => return self.copy(ctx),
            Step::KeepFloors | Step::KeepEnd | Step::Complete => return,
        };
        let old: Vec<NodeIndex> = ctx.layout().old().members().to_vec();
        for node in old.into_iter().filter(|node| !answered.contains(node)) {
            if node == ctx.me() {
                let from = ctx.own_origin(id, round);
                self.on_request(from, request.clone(), ctx);
            } else {
                ctx.send(node, id, round, request.clone());
            }
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
            (MembersAnswer::Floors { fence, dropped }, Step::Floors(told)) => {
                told.insert(from, (fence, dropped));
                let answered = told.keys().copied().collect();
                if takeover.are_enough(&answered, ctx.shared.node.layout) {
                    self.keep_floors(ctx);
                }
            }
            (MembersAnswer::Records(page), Step::List(pages)) => {
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
        let fence = told.values().filter_map(|(fence, _)| *fence).max();
        let dropped: BTreeSet<TableId> = told.values().flat_map(|(_, dropped)| dropped.iter().copied()).collect();
        if let Some(fence) = fence {
            ctx.shared.replica.take_fence(fence, &mut ctx.shared.node);
        }
        if rule!(ShrinkWithoutDrops, true, not false) {
            for table in dropped {
                ctx.shared.replica.hears_of_drop(table, &mut ctx.shared.node);
            }
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
        let (keys, page_end) = self.takeover.keys_of(pages, me, ctx.shared.node.layout);
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
        self.takeover.again_at = now.after(TAKEOVER_AGAIN);
        while let Step::Copy { keys, in_flight, .. } = &mut self.takeover.step
            && !is_overloaded
            && in_flight.len() < at_once
            && let Some(key) = keys.pop_front()
        {
            self.takeover.last_task += 1;
            let task = self.takeover.last_task;
            in_flight.insert(task, key.clone());
            let caller = Caller::Task(Task::TakeOver(task));
            let mend = Mend::new(BTreeSet::from([ctx.me()])).into();
            ctx.coordinator.start(caller, now.after(REPAIR_KEY_DEADLINE), key, mend, &mut ctx.shared);
        }
        let Step::Copy { keys, in_flight, page_end } = &self.takeover.step else { return };
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
            Reply::Record(found) => {
                self.takeover.keys += 1;
                let value = found.as_ref().map_or(0, |record| record.content.value_bytes());
                self.takeover.bytes += (key.as_bytes().len() + value) as u64;
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
        }
    }
}
