//! Lists of keys, page by page, in the order of the keys' bytes.
//!
//! Contract: each key of a page is read linearizably, at some moment between the page's request and its reply: those that it
//! names, and those that it does not name. A page is no snapshot: two of its keys may be read at different moments. A key
//! that has a value all the time is listed, and a key that has none all the time is not.
//!
//! How: placement is by hash, so that each node has some keys of any range. A page asks every node for the next keys of its
//! index, tombstones included, each with its digest. It waits until a majority of each slot's replicas has answered. The
//! page ends at the smallest last key that one of them looked at. Up to there, a key that nobody named is absent at a
//! majority. A key of which a majority of its replicas named the same digest has that record. Every other key is read by
//! an operation of its own. This is the read of one key ([`super::coordinator::ops::get`]) with its first round shared.
//!
//! Values: an answer has digests alone. Where values are wanted, the nearest replica is asked for the record of exactly the
//! digest that was agreed. On a replica of the key this costs no message.
//!
//! A page may be bound to certain nodes, as the list of a watch is: their answers are among those that count. A record that
//! one of them named, and that is greater than what a majority agrees on, is read with them.
//!
//! All nodes are asked at once, because all are needed but a minority of each slot's replicas. Nodes that cannot be reached
//! are not waited for. Where some keys are not agreed, the page waits a little for the remaining answers, because one more
//! answer is cheaper than many reads.
//!
//! | file | holds |
//! |---|---|
//! | `coverage` | which nodes hold a majority of each slot |
//! | `page` | a page: the answers, and what they say of each key |
//! | `reading` | the reads of single keys that a page still needs |

mod coverage;
mod page;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::limits::RESEND_AFTER_MAX;
use crate::types::{Key, NodeIndex, Slot};

use super::context::{Caller, Task};
use super::coordinator::ops::{Get, GetOne, GetWith, OperationState};
use super::coordinator::{Coordinator, CoordinatorCtx};
use super::io::{Failure, ProtocolEvent, QuorumReport, ReplicaStatus, Reply, Time};
use super::membership::PeerView;
use super::message::{Answer, OperationId, Refusal, Request};
use super::pages::ListPage;

pub(super) use coverage::Coverage;
use page::{Page, Stage};
use reading::{Progress, ReadOf};

/// How long a page that is complete waits for further answers at least, where its keys are not agreed.
const SETTLING_DELAY_MIN: Duration = Duration::from_millis(5);

/// The pages of lists that this node gathers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Listing {
    pages: BTreeMap<OperationId, Page>,
    /// One for each page: when to ask again or to give up.
    timers: BTreeSet<(Time, OperationId)>,
    coverage: Coverage,
}

/// What the lists use of their node.
#[derive(Debug)]
pub struct ListingCtx<'a, 'b> {
    /// Runs the reads of single keys.
    pub coordinator: &'a mut Coordinator,
    /// What the coordinator uses.
    pub node: &'a mut CoordinatorCtx<'b>,
}

impl Listing {
    /// Begins a page. Its caller gets the reply at `deadline` at the latest. The answers of the nodes in `required` must be
    /// among those that the page counts, and it has nothing older than what they name.
    pub fn start(
        &mut self,
        caller: Caller,
        deadline: Time,
        asked_for: ListPage,
        required: BTreeSet<NodeIndex>,
        ctx: &mut ListingCtx<'_, '_>,
    ) {
        let id = ctx.coordinator.next_id();
        let alarm = ctx.node.node.now.after(ctx.coordinator.latency.resend_delay()).min(deadline);
        self.timers.insert((alarm, id));
        self.pages.insert(id, Page::new(caller, deadline, alarm, asked_for, required));
        self.ask_missing(id, ctx);
        self.fail_if_impossible(id, ctx);
    }

    /// Whether `id` is a page.
    #[must_use]
    pub fn owns(&self, id: OperationId) -> bool {
        self.pages.contains_key(&id)
    }

    /// A replica, of this node or a peer, answers a page.
    pub fn on_answer(
        &mut self,
        from: NodeIndex,
        id: OperationId,
        round: u32,
        answer: Answer,
        ctx: &mut ListingCtx<'_, '_>,
    ) {
        let Some(page) = self.pages.get_mut(&id).filter(|page| page.round == round) else { return };
        match answer {
            Answer::Scanned(scanned) => {
                if !page.take(from, scanned) {
                    return;
                }
                self.decide(id, false, ctx);
            }
            Answer::Refused(Refusal::Dropped) => {
                let table = page.asked_for.range.table();
                ctx.node.replica.hears_of_drop(table, &mut ctx.node.node);
                self.finish(id, Reply::Failed(Failure::TableDropped), ctx);
            }
            Answer::Refused(refusal) => {
                page.refusals.insert(from, refusal);
                self.fail_if_impossible(id, ctx);
            }
            _ => {}
        }
    }

    /// The read of a key of a page has ended.
    pub fn on_read(&mut self, id: OperationId, place: usize, reply: Reply, ctx: &mut ListingCtx<'_, '_>) {
        if let Some(Page { stage: Stage::Read(reading), .. }) = self.pages.get_mut(&id) {
            reading.on_read(place, reply);
            self.read_on(id, ctx);
        }
    }

    /// `peer` and this node refuse to talk.
    pub fn exclude(&mut self, ctx: &mut ListingCtx<'_, '_>) {
        for id in self.scanning() {
            self.fail_if_impossible(id, ctx);
        }
    }

    /// A configuration is adopted: answers to what was asked under the one before it count no longer. A node may give them once it
    /// has adopted this one, so that the number that they bear does not tell.
    pub fn reconfigure(&mut self, ctx: &mut ListingCtx<'_, '_>) {
        self.coverage.forget();
        for id in self.scanning() {
            if let Some(page) = self.pages.get_mut(&id) {
                page.answers.clear();
                page.refusals.clear();
                page.awaits_more = false;
                page.round += 1;
            }
            self.ask_missing(id, ctx);
            self.fail_if_impossible(id, ctx);
        }
    }

    /// `peer` can be reached again.
    pub fn catch_up(&mut self, peer: NodeIndex, ctx: &mut ListingCtx<'_, '_>) {
        for id in self.scanning() {
            if let Some(page) = self.pages.get_mut(&id) {
                page.refusals.remove(&peer);
            }
            self.ask(id, peer, ctx);
        }
    }

    /// When [`Listing::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// Asks again, or gives up, for every page whose timer has fired.
    pub fn on_wake(&mut self, ctx: &mut ListingCtx<'_, '_>) {
        let now = ctx.node.node.now;
        while let Some((time, id)) = self.timers.first().copied()
            && time <= now
        {
            self.timers.pop_first();
            let Some(page) = self.pages.get_mut(&id) else { continue };
            if page.deadline <= now {
                self.give_up(id, None, ctx);
                continue;
            }
            page.times += 1;
            let delay = ctx.coordinator.latency.resend_delay() * 2_u32.pow(page.times.min(8));
            page.alarm = now.after(delay.min(RESEND_AFTER_MAX)).min(page.deadline);
            self.timers.insert((page.alarm, id));
            if page.awaits_more {
                self.decide(id, true, ctx);
            } else {
                ctx.node.node.report(ProtocolEvent::Resent);
                self.ask_missing(id, ctx);
            }
        }
    }

    fn scanning(&self) -> Vec<OperationId> {
        let scanning = self.pages.iter().filter(|(_, page)| matches!(page.stage, Stage::Scan));
        scanning.map(|(id, _)| *id).collect()
    }

    fn ask_missing(&mut self, id: OperationId, ctx: &mut ListingCtx<'_, '_>) {
        for member in ctx.node.node.layout.members().iter().copied() {
            self.ask(id, member, ctx);
        }
    }

    fn ask(&mut self, id: OperationId, member: NodeIndex, ctx: &mut ListingCtx<'_, '_>) {
        if let Some(page) = self.pages.get(&id)
            && matches!(page.stage, Stage::Scan)
            && page.may_answer(member)
            && let Some(incarnation) = ctx.node.reaches(member)
        {
            let keys_max = page.scan_keys_max(ctx.node.node.layout.parameters());
            let request = Request::Scan { range: page.asked_for.range.clone(), keys_max };
            ctx.node.ask(member, incarnation, id, page.round, request);
        }
    }

    /// Goes on once enough nodes have answered. `is_time_up`: more answers are not waited for.
    fn decide(&mut self, id: OperationId, is_time_up: bool, ctx: &mut ListingCtx<'_, '_>) {
        let Some(page) = self.pages.get_mut(&id) else { return };
        let layout = ctx.node.node.layout;
        if !matches!(page.stage, Stage::Scan) || !page.has_required() {
            return;
        }
        if !self.coverage.holds(&page.answered(), layout) {
            return;
        }
        let reading = page.merge(layout);
        let missing = layout.members().iter().copied().filter(|member| page.may_answer(*member));
        let awaited: Vec<NodeIndex> = missing.filter(|member| ctx.node.reaches(*member).is_some()).collect();
        if reading.unsettled() > 0 && !awaited.is_empty() && !is_time_up {
            if !page.awaits_more {
                page.awaits_more = true;
                let delay = ctx.coordinator.latency.hedge_delay(awaited.into_iter()).max(SETTLING_DELAY_MIN);
                let alarm = ctx.node.node.now.after(delay).min(page.deadline);
                self.set_alarm(id, alarm);
            }
            return;
        }
        page.stage = Stage::Read(reading);
        let deadline = page.deadline;
        self.set_alarm(id, deadline);
        self.read_on(id, ctx);
    }

    /// Begins the reads of keys that may begin, and ends the page once nothing is left to read.
    fn read_on(&mut self, id: OperationId, ctx: &mut ListingCtx<'_, '_>) {
        let Some(Page { stage: Stage::Read(reading), deadline, .. }) = self.pages.get_mut(&id) else { return };
        match reading.progress() {
            Progress::Done(listed) => return self.finish(id, Reply::Listed(listed), ctx),
            Progress::Failed(failure) => return self.finish(id, Reply::Failed(failure), ctx),
            Progress::Waits => {}
        }
        let deadline = *deadline;
        let reads: Vec<(usize, Key, ReadOf)> = std::iter::from_fn(|| reading.next_read()).collect();
        for (place, key, read) in reads {
            let operation: OperationState = match read {
                ReadOf::Latest(tellers) if tellers.is_empty() => Get::default().into(),
                ReadOf::Latest(tellers) => GetWith::new(tellers).into(),
                ReadOf::Exactly(digest) => GetOne::exactly(digest).into(),
            };
            let caller = Caller::Task(Task::List { page: id, place });
            ctx.coordinator.start(caller, deadline, key, operation, ctx.node);
        }
    }

    /// Fails a page that cannot be completed, because nodes have refused for good.
    fn fail_if_impossible(&mut self, id: OperationId, ctx: &mut ListingCtx<'_, '_>) {
        let Some(page) = self.pages.get(&id) else { return };
        let (me, membership) = (ctx.node.node.me, ctx.node.membership);
        let refuses = |member: &NodeIndex| {
            let is_refused = *member != me && matches!(membership.view(*member), PeerView::Refused(_));
            !page.answers.contains_key(member) && (is_refused || !page.may_answer(*member))
        };
        let members = ctx.node.node.layout.members().iter().copied();
        let possible: BTreeSet<NodeIndex> = members.filter(|member| !refuses(member)).collect();
        let lacking = Coverage::lacking_for_page(&possible, ctx.node.node.layout);
        let is_impossible = lacking.is_some() || !page.required.is_subset(&possible);
        if matches!(page.stage, Stage::Scan) && is_impossible {
            self.give_up(id, lacking, ctx);
        }
    }

    /// Ends a page that is late, or cannot be completed. The keys before the first that is not read are a page too.
    /// `lacking` is a slot whose replicas have refused, where that is the cause.
    fn give_up(&mut self, id: OperationId, lacking: Option<Slot>, ctx: &mut ListingCtx<'_, '_>) {
        let Some(page) = self.pages.get_mut(&id) else { return };
        let so_far = match &mut page.stage {
            Stage::Read(reading) => reading.so_far(),
            Stage::Scan => None,
        };
        let reply = match so_far {
            Some(listed) => Reply::Listed(listed),
            None => Reply::Failed(Failure::NoQuorum(report(page, lacking, ctx))),
        };
        self.finish(id, reply, ctx);
    }

    fn finish(&mut self, id: OperationId, reply: Reply, ctx: &mut ListingCtx<'_, '_>) {
        if let Some(page) = self.pages.remove(&id) {
            self.timers.remove(&(page.alarm, id));
            ctx.node.node.finish(page.caller, reply);
        }
    }

    fn set_alarm(&mut self, id: OperationId, alarm: Time) {
        if let Some(page) = self.pages.get_mut(&id) {
            self.timers.remove(&(page.alarm, id));
            page.alarm = alarm;
            self.timers.insert((alarm, id));
        }
    }
}

/// Who has answered of the replicas of one slot that lacks a majority.
fn report(page: &Page, lacking: Option<Slot>, ctx: &ListingCtx<'_, '_>) -> QuorumReport {
    let node = &ctx.node.node;
    let answered = page.answered();
    let waits_for = page.required.difference(&answered).next();
    let of_required = waits_for.and_then(|member| {
        node.layout.distinct_slots().iter().find(|slot| node.layout.holds(*member, **slot)).copied()
    });
    let lacking = lacking.or_else(|| Coverage::lacking_for_page(&answered, node.layout)).or(of_required);
    let slot = lacking.or_else(|| node.layout.distinct_slots().first().copied()).unwrap_or_default();
    let replicas = node.layout.replicas(slot);
    let status = |member: NodeIndex| {
        if answered.contains(&member) {
            return ReplicaStatus::Answered;
        }
        let view = ctx.node.membership.view(member);
        // A transient refusal from before the two stopped talking is not why the node is not counted on.
        let still_counts = |refusal: &Refusal| refusal.is_permanent() || !matches!(view, PeerView::Refused(_));
        if let Some(refusal) = page.refusals.get(&member).copied().filter(still_counts) {
            return ReplicaStatus::Refused(refusal);
        }
        match view {
            _ if member == node.me && node.group_commit.has_failed() => ReplicaStatus::Refused(Refusal::StoreFailed),
            _ if member == node.me => ReplicaStatus::Nothing,
            PeerView::Talking => ReplicaStatus::Nothing,
            PeerView::Unreachable => ReplicaStatus::Unreachable,
            PeerView::Refused(refusal) => ReplicaStatus::NotTalking(refusal),
        }
    };
    let tally = node.layout.tally(slot);
    QuorumReport {
        slot,
        needed: tally.answers_min(),
        replicas: replicas.iter().map(|member| (node.id(*member), status(*member))).collect(),
        lists: tally.both_lists().map(|lists| lists.map(|list| node.ids(&list))),
    }
}
