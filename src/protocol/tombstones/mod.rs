//! Deletions that go: when no older record of a key can come back, a replica forgets that the key was deleted.
//!
//! A deletion is a record, a tombstone, because a replica that missed it could otherwise bring the deleted value back. Tombstones
//! of a slot are forgotten in rounds, by one of its replicas. All replicas take in no new write up to a clock (the fence). Then
//! they come to hold the same of everything up to there, and then they are told so (the seal). From then on a tombstone up to
//! the seal is nothing, and nothing below the seal is kept: see [`crate::protocol::replica`]. All replicas must answer. One
//! that is away delays the round, and space is the price.
//!
//! A node runs one round at a time. It uses its counts of records ([`super::repair::Leaves`]), so that it does nothing where
//! repair is off. Of the replicas of a slot the first in the order of placement runs the round that the node can reach.
//!
//! | file | holds |
//! |---|---|
//! | `clocks` | the clocks that may be fences |
//! | `round` | one round for one slot |
//! | `forgetting` | the removal of forgotten deletions from the store |

mod clocks;
mod forgetting;
mod round;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::{
    REPAIR_BACKLOG_BYTES_MAX, REPAIR_IN_FLIGHT_MAX, REPAIR_KEY_DEADLINE, REPAIR_LISTED_KEYS_MAX, TOMBSTONE_LISTS_MAX,
    TOMBSTONE_LOOKS, TOMBSTONE_SLOTS_AT_ONCE,
};
use crate::mutants::rule;
use crate::types::{Batch, Clock, Incarnation, NodeIndex, Slot, SlotRange, SlotRecord, SlotsPage};

use super::context::{Caller, Origin, Requester, Task};
use super::coordinator::ops::Mend;
use super::coordinator::{Coordinator, CoordinatorCtx};
use super::io::{Effect, Failure, ProtocolEvent, ReadId, Reply, Time};
use super::message::{Answer, OperationId, Refusal, Request};
use super::repair::Leaves;
use super::retention::{TombstoneCounters, TombstoneReport, TombstoneSettings};
use super::sums::{Marks, half_of};

use clocks::Clocks;
use forgetting::Forgetting;
use round::{Next, Round, Step};

/// The reads of this part have numbers from here, apart from those of repair.
const READS_FROM: u64 = 1 << 63;

/// The tombstones of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tombstones {
    /// Without settings it runs no rounds, and forgets only what others have sealed.
    settings: Option<TombstoneSettings>,
    clocks: Clocks,
    /// When the counts of all slots are looked at next.
    look_at: Time,
    /// The slots that have tombstones.
    waiting: BTreeMap<Slot, Waiting>,
    /// Those of them whose round is due.
    due: VecDeque<Slot>,
    round: Option<Round>,
    last_task: u64,
    forgetting: Forgetting,
    served: BTreeMap<ReadId, Served>,
    last_read: u64,
    counters: TombstoneCounters,
}

/// A slot that has tombstones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    /// Since when they are known, or since its last round.
    since: Time,
    /// Its next round begins later.
    not_before: Time,
    /// The replica that the last try had to do without.
    for_whom: Option<NodeIndex>,
    /// Whether this node is the first of the other replicas, and counts the slot.
    counts: bool,
}

/// Old records that are read for a round.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Served {
    to: Origin,
    slot: Slot,
    until: Clock,
}

/// What it uses of its node.
#[derive(Debug)]
pub struct TombstonesCtx<'a> {
    /// Runs the reads of single keys.
    pub coordinator: &'a mut Coordinator,
    /// Counts the records of this node.
    pub leaves: &'a Leaves,
    /// What the coordinator uses.
    pub shared: CoordinatorCtx<'a>,
}

impl TombstonesCtx<'_> {
    fn now(&self) -> Time {
        self.shared.node.now
    }

    fn is_overloaded(&self) -> bool {
        let bytes = self.shared.node.group_commit.next_bytes();
        bytes >= REPAIR_BACKLOG_BYTES_MAX || self.shared.replica.is_overloaded(bytes)
    }

    /// Whether rounds may run at all. While members change, the replicas of a slot differ between the two lists: then they
    /// may not.
    fn may_run(&self) -> bool {
        self.leaves.are_complete()
            && rule!(DropsWhileJoint, !self.shared.node.layout.is_joint())
            && self.shared.membership.unready().is_none()
            && !self.shared.node.group_commit.has_failed()
            && !self.is_overloaded()
    }
}

impl Tombstones {
    /// The tombstones of a node that starts.
    #[must_use]
    pub fn start(settings: Option<TombstoneSettings>, now: Time) -> Self {
        Self { settings, look_at: now, ..Self::default() }
    }

    /// An operator gives other settings, or none. A round under way ends without effect.
    pub fn configure(&mut self, settings: Option<TombstoneSettings>, now: Time) {
        if settings == self.settings {
            return;
        }
        self.round = None;
        self.due.clear();
        self.waiting.clear();
        (self.settings, self.look_at) = (settings, now);
    }

    /// A configuration is adopted: a round under another one ends without effect.
    pub fn reconfigure(&mut self, ctx: &TombstonesCtx<'_>) {
        self.round = None;
        self.due.clear();
        self.waiting.clear();
        self.served.clear();
        self.forgetting = Forgetting::default();
        self.clocks = Clocks::default();
        self.look_at = ctx.now();
    }

    /// Whether a round is under way, or tombstones are being removed.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.round.is_some() || !self.forgetting.is_idle()
    }

    /// What has been done since the start.
    #[must_use]
    pub fn counters(&self) -> TombstoneCounters {
        self.counters
    }

    /// Its state.
    #[must_use]
    pub fn report(&self, now: Time) -> TombstoneReport {
        let mut missing: BTreeMap<NodeIndex, (usize, Slot)> = BTreeMap::new();
        for (slot, waiting) in &self.waiting {
            if let Some(whom) = waiting.for_whom.filter(|_| waiting.counts) {
                missing.entry(whom).or_insert((0, *slot)).0 += 1;
            }
        }
        let longest = self.waiting.values().map(|waiting| now.since(waiting.since)).max();
        TombstoneReport { counters: self.counters, slots: self.waiting.len(), missing, longest }
    }

    // Time.

    /// When [`Tombstones::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let rounds = self.settings.as_ref().map(|_| match &self.round {
            Some(round) => round.again_at.min(round.ends_at),
            None if self.due.is_empty() => self.look_at,
            None => Time::default(),
        });
        [rounds, self.forgetting.next_wake()].into_iter().flatten().min()
    }

    /// A timer may have fired.
    pub fn on_wake(&mut self, ctx: &mut TombstonesCtx<'_>) {
        // While members change, nothing is forgotten.
        let is_overloaded = ctx.is_overloaded() || ctx.shared.node.layout.is_joint();
        let last_read = &mut self.last_read;
        self.forgetting.on_wake(|| next_read(last_read), is_overloaded, &mut ctx.shared);
        let Some(settings) = self.settings.clone() else { return };
        self.look(&settings, ctx);
        self.go_on(ctx);
        self.begin_next(&settings, ctx);
    }

    /// Looks at the counts of all slots, from time to time.
    fn look(&mut self, settings: &TombstoneSettings, ctx: &mut TombstonesCtx<'_>) {
        let now = ctx.now();
        if self.look_at > now {
            return;
        }
        let every = settings.margin() / TOMBSTONE_LOOKS;
        self.look_at = now.after(every);
        self.tell_clock(settings, ctx);
        if !ctx.leaves.are_complete() || !self.due.is_empty() {
            return;
        }
        let (mut has_tombstones, mut of_others) = (BTreeSet::new(), Vec::new());
        let (layout, me) = (ctx.shared.node.layout, ctx.shared.node.me);
        // What a node still has of a slot that it holds no more is nobody's.
        for (slot, tombstones) in ctx.leaves.tombstones().filter(|(slot, _)| layout.holds(me, *slot)) {
            has_tombstones.insert(slot);
            if ctx.shared.replica.seal(slot).is_some() {
                self.forgetting.has_seal(slot);
            }
            let new = Waiting { since: now, not_before: now, for_whom: None, counts: false };
            let waiting = self.waiting.entry(slot).or_insert(new);
            waiting.counts = first_reached(slot, waiting.for_whom, ctx) == Some(me);
            let has_waited = now.since(waiting.since);
            let is_due = has_waited >= settings.kept_for || tombstones > settings.of_slot_max;
            let is_mine = first_reached(slot, None, ctx) == Some(me);
            if is_due && waiting.not_before <= now && !self.forgetting.is_to_come(slot) {
                if is_mine {
                    self.due.push_back(slot);
                } else if has_waited >= settings.kept_for * 2 {
                    of_others.push(slot);
                }
            }
        }
        // After its own ones: meanwhile the others come to theirs, which may only be late.
        self.due.extend(of_others);
        self.waiting.retain(|slot, _| has_tombstones.contains(slot));
    }

    /// Tells the other members the clock of this node, once that may be shown.
    fn tell_clock(&mut self, settings: &TombstoneSettings, ctx: &mut TombstonesCtx<'_>) {
        if ctx.shared.membership.unready().is_some() {
            return;
        }
        let (now, id) = (ctx.now(), ctx.coordinator.next_id());
        let (layout, me, clock) = (ctx.shared.node.layout, ctx.shared.node.me, ctx.shared.node.clock.now());
        self.clocks.look(id, (me, clock), settings.margin(), layout, now);
        for member in layout.members().iter().copied().filter(|member| *member != me) {
            if let Some(incarnation) = ctx.shared.reaches(member) {
                ctx.shared.ask(member, incarnation, id, 0, Request::TakeClock { clock });
            }
        }
    }

    // The round of this node.

    /// Begins the next round that is due.
    fn begin_next(&mut self, settings: &TombstoneSettings, ctx: &mut TombstonesCtx<'_>) {
        let now = ctx.now();
        if self.round.is_some() || self.due.is_empty() {
            return;
        }
        if !ctx.may_run() {
            // They are looked at anew.
            self.due.clear();
            return;
        }
        for _ in 0..TOMBSTONE_SLOTS_AT_ONCE {
            let Some(slot) = self.due.pop_front() else { return };
            if self.forgetting.is_to_come(slot) {
                // Another node has sealed it meanwhile.
                continue;
            }
            let (until, tombstones) = (self.clocks.old(settings.margin(), now), ctx.leaves.tombstones_of(slot));
            let Some(waiting) = self.waiting.get_mut(&slot) else { continue };
            waiting.not_before = now.after(settings.margin());
            let Some(until) = until else {
                waiting.for_whom = reached(slot, ctx).err();
                continue;
            };
            if ctx.shared.replica.seal(slot) >= Some(until) {
                continue;
            }
            let replicas = match reached(slot, ctx) {
                Ok(replicas) if tombstones > 0 => replicas,
                Ok(_) => continue,
                Err(missing) => {
                    waiting.for_whom = Some(missing);
                    continue;
                }
            };
            let id = ctx.coordinator.next_id();
            self.round = Some(Round::new(id, slot, until, replicas, now));
            return self.ask(ctx);
        }
    }

    /// The round goes on, where time has passed.
    fn go_on(&mut self, ctx: &mut TombstonesCtx<'_>) {
        let now = ctx.now();
        let Some(round) = &mut self.round else { return };
        let is_gone =
            |(member, incarnation): &&(NodeIndex, Incarnation)| ctx.shared.reaches(*member) != Some(*incarnation);
        if let Some((gone, _)) = round.replicas.iter().find(is_gone) {
            let gone = *gone;
            return self.cut_off(Some(gone), ctx);
        }
        if round.ends_at <= now || ctx.shared.node.group_commit.has_failed() {
            let silent = round.missing().first().map(|(member, _)| *member);
            return self.cut_off(silent, ctx);
        }
        if round.again_at <= now {
            round.again_at = now.after(crate::limits::TOMBSTONE_ASK_AGAIN);
            self.ask(ctx);
        }
    }

    /// Asks those that have not answered in this step.
    fn ask(&mut self, ctx: &mut TombstonesCtx<'_>) {
        let Some(round) = &self.round else { return };
        let Some(request) = round.request() else { return };
        let (id, number, me) = (round.id, round.number, ctx.shared.node.me);
        for (member, incarnation) in round.missing() {
            match &request {
                Request::OldRecords { .. } if member == me => {
                    let configuration = ctx.shared.node.layout.number();
                    let from = Origin { node: me, incarnation, operation: id, round: number, number: configuration };
                    self.on_request(from, request.clone(), ctx);
                }
                request => ctx.shared.ask(member, incarnation, id, number, request.clone()),
            }
        }
    }

    fn next(&mut self, next: Next, ctx: &mut TombstonesCtx<'_>) {
        match next {
            Next::Wait => {}
            Next::Ask => self.ask(ctx),
            Next::Level => self.level(ctx),
            Next::End(true) => self.end(true, None, ctx),
            Next::End(false) => self.end(false, None, ctx),
        }
    }

    /// Brings the next keys level.
    fn level(&mut self, ctx: &mut TombstonesCtx<'_>) {
        let deadline = ctx.now().after(REPAIR_KEY_DEADLINE);
        while let Some(round) = &mut self.round
            && let replicas = round.replicas.iter().map(|(member, _)| *member).collect::<BTreeSet<_>>()
            && let Step::Level { keys, in_flight } = &mut round.step
            && in_flight.len() < REPAIR_IN_FLIGHT_MAX
            && let Some(key) = keys.pop_front()
        {
            self.last_task += 1;
            in_flight.insert(self.last_task);
            let caller = Caller::Task(Task::Level(self.last_task));
            ctx.coordinator.start(caller, deadline, key, Mend::new(replicas).into(), &mut ctx.shared);
        }
    }

    /// A key is level, or could not be brought level.
    pub fn on_reply(&mut self, task: u64, reply: &Reply, ctx: &mut TombstonesCtx<'_>) {
        let now = ctx.now();
        let Some(round) = &mut self.round else { return };
        let is_level = match reply {
            // The records of a dropped table are removed, whatever they are.
            Reply::Failed(Failure::TableDropped | Failure::DroppedMeanwhile) => true,
            reply => matches!(reply, Reply::Record(_) | Reply::Spread(_)),
        };
        let next = round.on_level(task, is_level, now);
        self.next(next, ctx);
    }

    /// Whether `id` is the round under way, or the last question for clocks.
    #[must_use]
    pub fn owns(&self, id: OperationId) -> bool {
        self.clocks.owns(id) || self.round.as_ref().is_some_and(|round| round.id == id)
    }

    /// A replica answers.
    pub fn on_answer(&mut self, from: NodeIndex, number: u32, answer: Answer, ctx: &mut TombstonesCtx<'_>) {
        let now = ctx.now();
        if let Answer::Clock(clock) = answer {
            return self.clocks.heard(from, clock);
        }
        // Those of rounds have numbers above 0.
        let Some(round) = self.round.as_mut().filter(|round| round.number == number) else { return };
        if !round.replicas.iter().any(|(member, _)| *member == from) {
            return;
        }
        let next = match answer {
            Answer::Fenced { sum } => round.on_fenced(from, sum, now),
            Answer::OldRecords(marks) => round.on_listed(from, marks, now),
            Answer::Stored => round.on_sealed(from),
            Answer::Refused(_) => return self.cut_off(Some(from), ctx),
            _ => Next::Wait,
        };
        self.next(next, ctx);
    }

    fn cut_off(&mut self, for_whom: Option<NodeIndex>, ctx: &mut TombstonesCtx<'_>) {
        let is_sealed = self.round.as_ref().is_some_and(Round::cut_off);
        self.end(is_sealed, for_whom.filter(|_| !is_sealed), ctx);
    }

    /// The round ends.
    fn end(&mut self, is_sealed: bool, for_whom: Option<NodeIndex>, ctx: &mut TombstonesCtx<'_>) {
        let (Some(round), Some(settings)) = (self.round.take(), self.settings.clone()) else { return };
        let now = ctx.now();
        if let Some(waiting) = self.waiting.get_mut(&round.slot) {
            waiting.for_whom = for_whom;
            if is_sealed {
                waiting.since = now;
            }
        }
        if is_sealed {
            self.counters.sealed += 1;
        } else {
            self.counters.cut_off += 1;
        }
        ctx.shared.node.report(ProtocolEvent::TombstoneRound { slot: round.slot, is_sealed });
        self.begin_next(&settings, ctx);
    }

    // The rounds of others, and what follows from them.

    /// A round asks for the old records of this node.
    pub fn on_request(&mut self, from: Origin, request: Request, ctx: &mut TombstonesCtx<'_>) {
        let Request::OldRecords { slot, until, after } = request else { return };
        if !ctx.shared.node.layout.holds(ctx.shared.node.me, slot) {
            return ctx.shared.node.refuse(Requester::Coordinator(from), Refusal::NotReplica);
        }
        let is_repeated = self.served.values().any(|served| served.to == from);
        if is_repeated || self.served.len() >= TOMBSTONE_LISTS_MAX {
            return;
        }
        let read = next_read(&mut self.last_read);
        self.served.insert(read, Served { to: from, slot, until });
        let range = SlotRange { first: slot, after, last: slot };
        ctx.shared.node.effects.push(Effect::ReadSlots { read, range, entries_max: REPAIR_LISTED_KEYS_MAX });
    }

    /// Records of a slot were read. Says whether they were read for this part.
    pub fn on_slots_read(&mut self, read: ReadId, page: Option<&SlotsPage>, ctx: &mut TombstonesCtx<'_>) -> bool {
        if read.0 < READS_FROM {
            return false;
        }
        if self.forgetting.on_page(read, page, &mut ctx.shared) {
            return true;
        }
        let Some(Served { to, slot, until }) = self.served.remove(&read) else { return true };
        // What cannot be read may be older than what others hold.
        let Some(page) = page.filter(|page| page.damaged == 0) else {
            ctx.shared.node.refuse(Requester::Coordinator(to), Refusal::ReadFailed);
            return true;
        };
        let (replica, seal) = (&*ctx.shared.replica, ctx.shared.replica.seal(slot));
        let is_meant = |record: &&SlotRecord| {
            let SlotRecord { key, digest, .. } = record;
            digest.tag().clock() <= until && !digest.is_sealed_away(seal) && !replica.is_dropped(key.table())
        };
        let records = page.records.iter().filter(is_meant);
        let records = records.map(|record| (record.key.clone(), half_of(&record.key, &record.digest))).collect();
        let looked_to = page.records.last().filter(|_| page.has_more).map(|record| record.key.clone());
        let marks = Marks { records, looked_to }.cut_off();
        ctx.shared.node.answer(to, Answer::OldRecords(marks));
        true
    }

    /// A batch is durable: slots were sealed, or tombstones removed.
    pub fn on_durable(&mut self, batch: &Batch, now: Time) {
        for slot in batch.seals.keys() {
            self.forgetting.sealed(*slot);
            if let Some(waiting) = self.waiting.get_mut(slot) {
                // Whoever has run the round.
                (waiting.since, waiting.for_whom) = (now, None);
            }
        }
        self.counters.forgotten += batch.forgotten.len() as u64;
    }

    /// The store was reopened: what was to be removed may be there still.
    pub fn store_reopened(&mut self) {
        self.forgetting = Forgetting::default();
    }
}

fn next_read(last_read: &mut u64) -> ReadId {
    *last_read += 1;
    ReadId(READS_FROM + *last_read)
}

/// The first replica of a slot but `but`, in the order of placement, that this node can reach.
fn first_reached(slot: Slot, but: Option<NodeIndex>, ctx: &TombstonesCtx<'_>) -> Option<NodeIndex> {
    let mut replicas = ctx.shared.node.layout.replicas(slot).iter().copied().filter(|member| Some(*member) != but);
    replicas.find(|member| ctx.shared.reaches(*member).is_some())
}

/// All replicas of a slot, or one that cannot be reached.
fn reached(slot: Slot, ctx: &TombstonesCtx<'_>) -> Result<Vec<(NodeIndex, Incarnation)>, NodeIndex> {
    let replicas = ctx.shared.node.layout.replicas(slot);
    replicas.iter().map(|member| Ok((*member, ctx.shared.reaches(*member).ok_or(*member)?))).collect()
}
