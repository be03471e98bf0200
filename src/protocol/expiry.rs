//! Deletes the values of this node's replica whose time to live has passed.
//!
//! A deletion is an ordinary conditional write that names the version, so that it takes effect for everybody at one moment,
//! and never deletes a newer record. The replica that has the first place of those that can be reached does it. The others
//! leave it some seconds for each place before theirs, and longer while it is seen to delete other values.
//!
//! A sweep reads the store's index of expiries page by page, in the order in which the versions expire. A page is deleted
//! before the next one is read, a few values at a time: many values that expire at once are a long sweep, and no burst. While
//! clients wait for the node it deletes fewer at a time.
//!
//! The node counts the time that it runs, and no other time takes part. The count is persisted from time to time; what a
//! restart forgets of it delays expiries. A node that never kept a value with a time to live has no timers here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::{
    EXPIRIES_BESIDE_CLIENTS_MAX, EXPIRIES_IN_FLIGHT_MAX, EXPIRIES_OUTDATED_MAX, EXPIRY_PAGE_ENTRIES_MAX,
    EXPIRY_PLACE_WAITS, EXPIRY_PLACE_WAITS_WHILE_BUSY, EXPIRY_QUIET_FOR, EXPIRY_SWEEP_EVERY, RUNNING_PERSISTED_EVERY,
};
use crate::types::{Batch, Content, Expiry, Meta, NodeIndex, RunningTime, TableId};

use super::context::{NodeCtx, PendingAck};
use super::group_commit::GroupCommit;
use super::io::{Effect, Failure, ProtocolEvent, Reply, Time};

/// The expiries of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expiries {
    started_at: Time,
    /// The count of the time that this node ran, at its start.
    running_at_start: RunningTime,
    /// Whether any count was ever given to the disk.
    is_counted: bool,
    /// When the count is persisted next. Absent while the index is empty.
    persist_at: Option<Time>,
    wants_persist: bool,
    /// No entry of the index expires before. Absent where the index is empty, but for what the present sweep has seen.
    first: Option<RunningTime>,
    /// When the next sweep begins.
    sweep_at: Option<Time>,
    sweep: Option<Sweep>,
    /// Values to delete now, or to read.
    queue: VecDeque<Queued>,
    in_flight: BTreeMap<u64, Expiry>,
    last_task: u64,
    /// When a client waited for this node last.
    clients_waited_at: Option<Time>,
    /// When each replica was last seen to have deleted a value whose time to live had passed, on this node's count.
    seen_busy: BTreeMap<NodeIndex, RunningTime>,
    /// Versions that were replaced elsewhere, as their deletions have shown: this node lacks the newer record.
    outdated: BTreeSet<Expiry>,
}

/// One pass over the index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sweep {
    from: RunningTime,
    after: Option<Expiry>,
    is_reading: bool,
    /// The earliest entry that may still be there after this sweep.
    left: Option<RunningTime>,
    /// When one of those may be deleted.
    next: Option<RunningTime>,
    /// Versions that the sweep before this one found to be replaced.
    outdated: BTreeSet<Expiry>,
}

/// A value whose turn has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Queued {
    expiry: Expiry,
    /// Whether another version had replaced it elsewhere when it was to be deleted.
    is_outdated: bool,
}

/// What the coordinator is to do for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Delete exactly this version.
    Delete(u64, Expiry),
    /// Read the key, so that this node gets the record that it lacks.
    Read(u64, Expiry),
}

impl Expiries {
    /// Those of a node that starts now with this data folder.
    #[must_use]
    pub fn start(now: Time, meta: &Meta) -> Self {
        let has_any = meta.running.is_some();
        Self {
            started_at: now,
            running_at_start: meta.running.unwrap_or(RunningTime::START),
            is_counted: has_any,
            persist_at: has_any.then(|| now.after(RUNNING_PERSISTED_EVERY)),
            wants_persist: false,
            first: has_any.then_some(RunningTime(0)),
            sweep_at: has_any.then(|| now.after(EXPIRY_SWEEP_EVERY)),
            sweep: None,
            queue: VecDeque::new(),
            in_flight: BTreeMap::new(),
            last_task: 0,
            clients_waited_at: None,
            seen_busy: BTreeMap::new(),
            outdated: BTreeSet::new(),
        }
    }

    /// The count of the time that this node ran.
    #[must_use]
    pub fn running(&self, now: Time) -> RunningTime {
        self.running_at_start.after(now.since(self.started_at))
    }

    /// When [`Expiries::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let sweep_at = self.sweep_at.filter(|_| self.is_idle());
        [sweep_at, self.persist_at].into_iter().flatten().min()
    }

    fn is_idle(&self) -> bool {
        self.sweep.is_none() && self.queue.is_empty() && self.in_flight.is_empty()
    }

    /// A timer may have fired: begins a sweep if one is due.
    pub fn on_wake(&mut self, is_ready: bool, ctx: &mut NodeCtx<'_>) {
        if self.persist_at.is_some_and(|at| at <= ctx.now) {
            let has_any = self.first.is_some() || !self.is_idle();
            self.persist_at = has_any.then(|| ctx.now.after(RUNNING_PERSISTED_EVERY));
            self.wants_persist = true;
        }
        if !self.is_idle() || self.sweep_at.is_none_or(|at| at > ctx.now) {
            return;
        }
        if !is_ready {
            self.sweep_at = Some(ctx.now.after(EXPIRY_SWEEP_EVERY));
            return;
        }
        self.sweep_at = None;
        let Some(from) = self.first.take() else { return };
        let outdated = std::mem::take(&mut self.outdated);
        self.sweep = Some(Sweep { from, after: None, is_reading: false, left: None, next: None, outdated });
        self.read_page(ctx);
    }

    fn read_page(&mut self, ctx: &mut NodeCtx<'_>) {
        if let Some(Sweep { from, after, is_reading, .. }) = &mut self.sweep {
            *is_reading = true;
            let (from, after) = (*from, after.clone());
            ctx.effects.push(Effect::ReadExpiries { from, after, entries_max: EXPIRY_PAGE_ENTRIES_MAX });
        }
    }

    /// A page of the index; `None` where it could not be read. `reaches` says which peers can be reached, and `is_dropped`
    /// which tables were dropped: their space is given back without deletions.
    pub fn on_page(
        &mut self,
        page: Option<Vec<Expiry>>,
        reaches: impl Fn(NodeIndex) -> bool,
        is_dropped: impl Fn(TableId) -> bool,
        ctx: &NodeCtx<'_>,
    ) {
        let Some(sweep) = self.sweep.as_mut().filter(|sweep| sweep.is_reading) else { return };
        sweep.is_reading = false;
        let Some(page) = page else {
            let from = sweep.from;
            sweep.left = Some(sweep.left.unwrap_or(from).min(from));
            return self.end_sweep(ctx);
        };
        let mut is_over = page.len() < EXPIRY_PAGE_ENTRIES_MAX;
        for entry in page {
            // Entries of slots that the node has lost are left over.
            if is_dropped(entry.key.table()) || !ctx.layout.holds(ctx.me, entry.slot) {
                sweep.after = Some(entry);
                continue;
            }
            let replicas = ctx.layout.replicas(entry.slot);
            let before = replicas.iter().take_while(|replica| **replica != ctx.me).filter(|replica| reaches(**replica));
            let is_busy = |replica: &NodeIndex| {
                self.seen_busy.get(replica).is_some_and(|at| at.after(EXPIRY_PLACE_WAITS) > ctx.running)
            };
            let waits =
                before.map(|replica| if is_busy(replica) { EXPIRY_PLACE_WAITS_WHILE_BUSY } else { EXPIRY_PLACE_WAITS });
            let turn = entry.at.after(waits.sum());
            sweep.left = Some(sweep.left.map_or(entry.at, |left| left.min(entry.at)));
            let is_future = entry.at > ctx.running;
            // A replica that is busy now may soon be no more.
            let next = turn.clamp(ctx.running, ctx.running.after(EXPIRY_PLACE_WAITS).max(entry.at));
            sweep.next = Some(sweep.next.map_or(next, |earliest| earliest.min(next)));
            if is_future {
                is_over = true;
                break;
            }
            sweep.after = Some(entry.clone());
            if turn <= ctx.running {
                let is_outdated = sweep.outdated.remove(&entry);
                self.queue.push_back(Queued { expiry: entry, is_outdated });
            }
        }
        if is_over {
            self.end_sweep(ctx);
        }
    }

    fn end_sweep(&mut self, ctx: &NodeCtx<'_>) {
        let Some(Sweep { left, next, .. }) = self.sweep.take() else { return };
        self.first = [self.first, left].into_iter().flatten().min();
        let next = next.or(left).map(|next| self.time_of(next));
        let sweep_at = [self.sweep_at, next].into_iter().flatten().min();
        self.sweep_at = sweep_at.map(|at| at.max(ctx.now.after(EXPIRY_SWEEP_EVERY)));
    }

    /// What may begin now. Reads the next page once the last one is worked off.
    pub fn begin_work(&mut self, clients_wait: bool, ctx: &mut NodeCtx<'_>) -> Vec<Work> {
        if clients_wait {
            self.clients_waited_at = Some(ctx.now);
        }
        let is_quiet = self.clients_waited_at.is_none_or(|at| at.after(EXPIRY_QUIET_FOR) <= ctx.now);
        let in_flight_max = if is_quiet { EXPIRIES_IN_FLIGHT_MAX } else { EXPIRIES_BESIDE_CLIENTS_MAX };
        let mut work = Vec::new();
        while self.in_flight.len() < in_flight_max
            && let Some(Queued { expiry, is_outdated }) = self.queue.pop_front()
        {
            self.last_task += 1;
            self.in_flight.insert(self.last_task, expiry.clone());
            work.push(if is_outdated {
                Work::Read(self.last_task, expiry)
            } else {
                Work::Delete(self.last_task, expiry)
            });
        }
        if self.queue.is_empty() && self.sweep.as_ref().is_some_and(|sweep| !sweep.is_reading) {
            self.read_page(ctx);
        }
        work
    }

    /// The work for a value has ended.
    pub fn on_reply(&mut self, task: u64, reply: &Reply, ctx: &mut NodeCtx<'_>) {
        let Some(expiry) = self.in_flight.remove(&task) else { return };
        match reply {
            Reply::Set(_) => ctx.report(ProtocolEvent::Expired),
            Reply::Failed(Failure::ConditionFailed { .. }) if self.outdated.len() < EXPIRIES_OUTDATED_MAX => {
                self.outdated.insert(expiry);
            }
            // The next sweep finds the value again, if it is still there.
            _ => {}
        }
    }

    /// Adds the count of the time that this node ran to a batch that needs it: to the first one with a time to live, and
    /// from time to time.
    pub fn count(&mut self, now: Time, group_commit: &mut GroupCommit<PendingAck>) {
        let is_first = !self.is_counted && group_commit.expires_any();
        if (self.wants_persist || is_first) && !group_commit.has_failed() {
            group_commit.add_running(self.running(now));
            self.is_counted = true;
            self.wants_persist = false;
        }
    }

    /// A batch is durable.
    pub fn on_durable(&mut self, batch: &Batch, ctx: &NodeCtx<'_>) {
        let now = ctx.now;
        for expiry in batch.expiries_removed.iter().filter(|expiry| expiry.at <= ctx.running) {
            let replaced_by = batch.records.get(&expiry.key).map(|(_, record)| record);
            if let Some(record) = replaced_by.filter(|record| record.content == Content::Tombstone)
                && let Some(proposal) = &record.proposal
                && let Some(by) = ctx.layout.writer_of(&proposal.ballot.writer)
            {
                self.seen_busy.insert(by, ctx.running);
            }
        }
        let Some(first) = batch.expiries().map(|expiry| expiry.at).min() else { return };
        self.first = Some(self.first.map_or(first, |earlier| earlier.min(first)));
        let at = self.time_of(first).max(now);
        self.sweep_at = Some(self.sweep_at.map_or(at, |earlier| earlier.min(at)));
        self.persist_at.get_or_insert(now.after(RUNNING_PERSISTED_EVERY));
    }

    /// A batch failed, and the store was reopened: it may have more entries than were known.
    pub fn on_store_reopened(&mut self, meta: &Meta, now: Time) {
        self.is_counted = meta.running.is_some();
        if self.is_counted {
            self.first = Some(RunningTime(0));
            self.sweep_at = Some(now.after(EXPIRY_SWEEP_EVERY));
            self.persist_at.get_or_insert(now.after(RUNNING_PERSISTED_EVERY));
        }
    }

    /// The time at which the count is `running`.
    fn time_of(&self, running: RunningTime) -> Time {
        self.started_at.after(self.running_at_start.until(running))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::clock::QuorumClock;
    use crate::protocol::layout::Layout;
    use crate::protocol::placement::Placement;
    use crate::types::{ClusterParameters, Key, NodeId, Stamp, StoreId, Version};

    #[test]
    fn values_of_a_dropped_table_are_not_deleted_one_by_one() {
        let node_ids = vec![NodeId::new("1").unwrap()];
        let layout = Layout::begin(
            Placement::new(ClusterParameters { seed: 0, replica_count: 1, epoch_floor: 0, node_ids }).into(),
            &[],
        );
        let expiry = |table| {
            let key = Key::in_table(TableId(table), b"k").unwrap();
            let (slot, version) = (layout.slot(&key), Version::new(Stamp::none(), None));
            Expiry { at: RunningTime(1), slot, key, version }
        };
        let meta = Meta { running: Some(RunningTime::START), ..Meta::fresh(StoreId(1)) };
        let mut expiries = Expiries::start(Time(0), &meta);
        let now = Time(0).after(EXPIRY_SWEEP_EVERY);
        let mut ctx = NodeCtx {
            now,
            running: expiries.running(now),
            me: NodeIndex(0),
            layout: &layout,
            clock: &mut QuorumClock::start(1),
            group_commit: &mut GroupCommit::default(),
            effects: &mut Vec::new(),
            deliveries: &mut VecDeque::new(),
        };
        expiries.on_wake(true, &mut ctx);
        let (dropped, other) = (expiry(16), expiry(17));
        expiries.on_page(Some(vec![dropped, other.clone()]), |_| true, |table| table == TableId(16), &ctx);
        assert_eq!(expiries.begin_work(false, &mut ctx), [Work::Delete(1, other)]);
    }
}
