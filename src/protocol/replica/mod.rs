//! One node's records: compare-and-store, and reads of durable records.
//!
//! Invariants: a record is only ever replaced by one with a greater tag. A store is acknowledged once the batch is durable
//! that holds its record, or the record that superseded it. Reads go to the store, which shows only durable records, so that
//! no answer reveals a record that a crash can still take back.
//!
//! For conditional writes a replica is an acceptor of Paxos. Its promises are in memory alone: it refuses every ballot of an
//! epoch before its own incarnation's, and it promised none in an epoch that was not durable. So a restart forgets no
//! promise that counts.
//!
//! A version with a time to live has an age: how long this node has kept it, on its own count of the time that it ran. The
//! count belongs to the version. A record that brings the version with a greater age sets the count back.
//!
//! Deletions up to the seal of their slot are nothing: `seals` says what keeps older records out then.
//!
//! A key has state here only while one of its records is on its way to the disk, or while a store waits for a read of the
//! durable record.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::limits::{LISTED_KEYS_MAX, REPLICA_BACKLOG_BYTES_MAX, REPLICA_READS_MAX, REPLICA_SCANS_MAX};
use crate::mutants::{must, rule};
use crate::types::{
    Age, AgedRecord, Ballot, Clock, Digest, Expiry, Found, Key, KeyRange, Lookup, Meta, ReadKind, Record, RunningTime,
    ScannedKeys, Slot, Stamp, TableId,
};

use super::clock::PEER_JUMP;
use super::context::{AnswerWhen, Delivery, NodeCtx, Origin, PendingAck, Requester};
use super::group_commit::{AckAfter, GroupCommit};
use super::io::{Effect, Failure, ProtocolEvent, ReadId, Reply};
use super::message::{Answer, Refusal, Request, StoreOrigin};

mod fences;
mod promises;
mod seals;
mod state;

use promises::Promises;
use seals::{Seals, is_below, judged};
use state::{Dropped, Incoming, KeyState, ReadFor, Stored, Waiting, is_jump};

pub use state::{Offer, Replica};

impl Replica {
    /// The replica of an incarnation that begins with `epoch`, on a folder that remembers `meta`.
    #[must_use]
    pub fn start(epoch: u64, meta: &Meta) -> Self {
        let dropped = &meta.dropped;
        let promises = Promises::start(epoch);
        Self {
            promises,
            keys: BTreeMap::new(),
            reads: BTreeMap::new(),
            scans: BTreeMap::new(),
            read_next: 0,
            waiting_bytes: 0,
            dropped: Dropped { known: dropped.clone(), durable: dropped.clone() },
            seals: Seals::start(meta),
        }
    }

    /// Whether this node has heard that `table` was dropped.
    #[must_use]
    pub fn is_dropped(&self, table: TableId) -> bool {
        table.is_created() && self.dropped.known.contains(&table)
    }

    /// The tables that were dropped.
    pub fn dropped(&self) -> impl Iterator<Item = TableId> + '_ {
        self.dropped.known.iter().copied()
    }

    /// The tables above `after` of which it is durable that they were dropped, in the order of their ids.
    pub fn dropped_durably(&self, after: TableId) -> impl Iterator<Item = TableId> + '_ {
        self.dropped.durable.range((Bound::Excluded(after), Bound::Unbounded)).copied()
    }

    /// A configuration is adopted, under which this node gains the slots that `is_gained` names: it holds nothing of them. What
    /// was asked about them is asked again.
    pub fn reconfigure(&mut self, is_gained: impl Fn(Slot) -> bool, layout: &super::layout::Layout) {
        let waiting_bytes = &mut self.waiting_bytes;
        self.keys.retain(|key, state| {
            let slot = layout.slot(key);
            let stays = !is_gained(slot);
            if let (false, KeyState::Reading(waiting)) = (stays, &*state) {
                *waiting_bytes -= waiting.iter().map(|waiting| waiting.bytes(key)).sum::<usize>();
            }
            stays
        });
        self.reads.retain(|_, read| !is_gained(read.slot()));
        // Those who asked ask again.
        self.scans.clear();
        self.seals.by_slot.retain(|slot, _| !is_gained(*slot));
    }

    /// Somebody tells that `table` was dropped.
    pub fn hears_of_drop(&mut self, table: TableId, ctx: &mut NodeCtx<'_>) {
        if table.is_created() && self.dropped.known.insert(table) && !ctx.group_commit.has_failed() {
            must!(DropIsVolatile, ctx.group_commit.add_dropped([table]));
        }
    }

    /// Tables were dropped: it answers once that is durable.
    fn on_drop(&mut self, tables: Vec<TableId>, from: Origin, ctx: &mut NodeCtx<'_>) {
        if ctx.group_commit.has_failed() {
            return ctx.refuse(Requester::Coordinator(from), Refusal::StoreFailed);
        }
        let created = tables.into_iter().filter(|table| table.is_created());
        let (durable, new): (Vec<TableId>, _) = created.partition(|table| self.dropped.durable.contains(table));
        let is_durable = new.is_empty() && !durable.is_empty();
        self.dropped.known.extend(new.iter().copied());
        if rule!(DropIsVolatile, is_durable) {
            return ctx.answer(from, Answer::Stored);
        }
        ctx.group_commit.add_dropped(new);
        let acknowledgement = PendingAck::Stored(Delivery::Answer(from, Answer::Stored));
        ctx.group_commit.ack_after(AckAfter::Next, acknowledgement);
    }

    /// The store was reopened. Drops that were heard while it could not be written are made durable now.
    pub fn on_store_reopened(&mut self, meta: &Meta, ctx: &mut NodeCtx<'_>) {
        self.restore_seals(meta);
        let Dropped { known, durable } = &self.dropped;
        if known.len() > durable.len() {
            ctx.group_commit.add_dropped(known.difference(durable).copied());
        }
    }

    /// These drops are durable.
    pub fn drops_are_durable(&mut self, tables: &BTreeSet<TableId>) {
        self.dropped.known.extend(tables);
        self.dropped.durable.extend(tables);
    }

    /// Whether so much waits for the disk that requests of peers are dropped, as a network would drop them. Peers ask
    /// again or go on without this replica, and reads repair it. Requests for the clock are dropped as well, so that a
    /// write is certainly not applied where a majority is overloaded.
    #[must_use]
    pub fn is_overloaded(&self, group_commit_bytes: usize) -> bool {
        self.reads.len() >= REPLICA_READS_MAX || group_commit_bytes + self.waiting_bytes >= REPLICA_BACKLOG_BYTES_MAX
    }

    /// Answers a request of a coordinator on this node or on a peer.
    pub fn on_request(&mut self, from: Origin, request: Request, ctx: &mut NodeCtx<'_>) {
        let requester = Requester::Coordinator(from);
        if self.is_dropped(request.table()) {
            return ctx.refuse(requester, Refusal::Dropped);
        }
        match request {
            Request::Drop { tables } => self.on_drop(tables, from, ctx),
            // A node whose disk takes no writes would refuse the record too. Refused here, the write is known not to have
            // happened; refused there, it is not.
            Request::Clock | Request::TakeClock { .. } if ctx.group_commit.has_failed() => {
                ctx.refuse(requester, Refusal::StoreFailed);
            }
            request @ (Request::Clock | Request::TakeClock { .. }) => {
                if let Request::TakeClock { clock } = request
                    && !is_jump(clock, ctx)
                {
                    fences::take_clock(clock, ctx);
                }
                let now = ctx.clock.now();
                ctx.answer(from, Answer::Clock(now));
            }
            Request::Get { key, read_kind } => self.get(key, read_kind, requester, ctx),
            Request::Store { key, record, age, origin } => {
                self.store(key, record, age, Offer::Store(origin), requester, ctx);
            }
            Request::Prepare { key, ballot, read_kind } => self.prepare(key, ballot, read_kind, from, ctx),
            Request::Accept { key, record, age } => self.accept(key, record, age, from, ctx),
            Request::Scan { range, keys_max } => self.scan(range, keys_max, from, ctx),
            Request::Follow { .. } | Request::Unfollow => unreachable!("the node gives these to its watches"),
            Request::Repair(_) => unreachable!("the node gives these to its repair"),
            Request::Members(_) => unreachable!("the node gives these to its members"),
            Request::Fence { slot, fence } => self.on_fence(slot, fence, from, ctx),
            Request::Seal { slot, seal } => self.on_seal(slot, seal, from, ctx),
            Request::OldRecords { .. } => unreachable!("the node gives these to its rounds"),
        }
    }

    /// Reads the first keys of `range` from the index. The store is read after the request has arrived: a request that is
    /// repeated while it is under way is the same request.
    fn scan(&mut self, range: KeyRange, keys_max: usize, from: Origin, ctx: &mut NodeCtx<'_>) {
        if self.scans.values().any(|origin| *origin == from) {
            return;
        }
        if self.scans.len() >= REPLICA_SCANS_MAX {
            return ctx.report(ProtocolEvent::Overloaded);
        }
        let read = self.next_read();
        self.scans.insert(read, from);
        ctx.effects.push(Effect::Scan { read, range, keys_max: keys_max.min(LISTED_KEYS_MAX) });
    }

    /// The store has answered a scan; `None` where it could not.
    pub fn on_scan_done(&mut self, read: ReadId, scanned: Option<ScannedKeys>, ctx: &mut NodeCtx<'_>) {
        let Some(origin) = self.scans.remove(&read) else { return };
        let Some(mut scanned) = scanned else {
            return ctx.refuse(Requester::Coordinator(origin), Refusal::ReadFailed);
        };
        // What is left of slots that this node does not hold any more may be older than what others have.
        scanned.keys.retain(|(key, _)| held_slot(key, ctx).is_some());
        for (_, digest) in &scanned.keys {
            observe_shown(digest, ctx);
        }
        scanned
            .keys
            .retain(|(key, digest)| digest.is_value || !digest.is_sealed_away(self.seal_by_which_judged(key, ctx)));
        // A deletion that only this replica has would hide the key from this list, and not from the next read.
        #[cfg(feature = "mutants")]
        scanned.keys.retain(|(_, digest)| rule!(ListOmitsTombstones, true, not digest.is_value));
        ctx.answer(origin, Answer::Scanned(scanned));
    }

    /// Promises to accept nothing of `key` below `ballot`, unless that or more was promised already. The answer shows the
    /// durable record.
    fn prepare(&mut self, key: Key, ballot: Ballot, read_kind: ReadKind, from: Origin, ctx: &mut NodeCtx<'_>) {
        let requester = Requester::Coordinator(from);
        let Some(slot) = held_slot(&key, ctx) else { return ctx.refuse(requester, Refusal::NotReplica) };
        if ctx.group_commit.has_failed() {
            return ctx.refuse(requester, Refusal::StoreFailed);
        }
        if is_jump(ballot.clock, ctx) {
            return ctx.refuse(requester, Refusal::ClockJump);
        }
        let hash = ctx.layout.hash(&key);
        let floor = self.promises.floor(hash);
        if ballot <= floor || rule!(FenceLetsBallotsPass, self.seals.fences(ballot.clock), not false) {
            let answer = nack(slot, hash, &self.promises, &self.seals);
            return ctx.answer(from, answer);
        }
        let epoch = ballot.clock.epoch;
        if rule!(PromiseBeforeEpoch, !ctx.clock.is_durable(epoch), not false) {
            ctx.group_commit.add_epoch(epoch);
            let request = Request::Prepare { key, ballot, read_kind };
            return ctx.group_commit.ack_after(AckAfter::Next, PendingAck::Judged(from, request));
        }
        if rule!(PromiseOvertakesBatch, true, not false)
            && let Some(KeyState::Reading(waiting)) = self.keys.get_mut(&key)
        {
            let waits = Waiting::Prepare(from, Request::Prepare { key: key.clone(), ballot, read_kind });
            self.waiting_bytes += waits.bytes(&key);
            return waiting.push(waits);
        }
        if ctx.clock.is_durable(epoch) {
            ctx.clock.observe(ballot.clock);
        }
        self.promises.raise(hash, ballot);
        // A record that is on its way to the disk may be acknowledged yet, so that the promise must show it. The promise
        // itself holds from now on: else it would never be given while plain writes follow each other.
        let on_its_way = if ctx.group_commit.is_in_next(&key) {
            Some(AckAfter::Next)
        } else {
            ctx.group_commit.in_flight(&key).map(|_| AckAfter::InFlight)
        };
        match rule!(PromiseOvertakesBatch, on_its_way, not None) {
            Some(batch) => ctx.group_commit.ack_after(batch, PendingAck::Promised { to: from, key, read_kind }),
            None => self.show_promised(from, slot, key, read_kind, ctx),
        }
    }

    /// Answers with a promise that was given, and the durable record.
    fn show_promised(&mut self, to: Origin, slot: Slot, key: Key, read_kind: ReadKind, ctx: &mut NodeCtx<'_>) {
        let seal = self.seal(slot);
        let read = self.read(ReadFor::Prepare { slot, key: key.clone(), origin: to, seal, kind: read_kind });
        ctx.effects.push(Effect::Read { read, slot, key, kind: read_kind });
    }

    /// The records are durable that a promise had to wait for.
    pub fn on_promise_shown(&mut self, to: Origin, key: Key, read_kind: ReadKind, ctx: &mut NodeCtx<'_>) {
        let slot = ctx.layout.slot(&key);
        self.show_promised(to, slot, key, read_kind, ctx);
    }

    /// Stores the record of a conditional write, unless a greater ballot was promised.
    fn accept(&mut self, key: Key, record: Record, age: Age, from: Origin, ctx: &mut NodeCtx<'_>) {
        let hash = ctx.layout.hash(&key);
        // A ballot that no honest node draws must not become the floor of others: the store below refuses it.
        if let Some(proposal) = &record.proposal
            && ctx.clock.check_jump(record.tag().clock(), PEER_JUMP).is_ok()
        {
            if rule!(AcceptUnchecked, proposal.ballot < self.promises.floor(hash), not false) {
                let answer = nack(ctx.layout.slot(&key), hash, &self.promises, &self.seals);
                return ctx.answer(from, answer);
            }
            self.promises.raise(hash, proposal.ballot.clone());
        }
        self.store(key, record, age, Offer::Accept, Requester::Coordinator(from), ctx);
    }

    /// Reads the durable record of `key`.
    pub fn get(&mut self, key: Key, read_kind: ReadKind, requester: Requester, ctx: &mut NodeCtx<'_>) {
        let Some(slot) = held_slot(&key, ctx) else { return ctx.refuse(requester, Refusal::NotReplica) };
        #[cfg(feature = "mutants")]
        if let Some(held) = read_before_durable(&key, requester, ctx) {
            return answer_get(slot, key, held.into(), None, requester, ctx);
        }
        let seal = self.seal(slot);
        let read = self.read(ReadFor::Get { slot, key: key.clone(), requester, seal, kind: read_kind });
        ctx.effects.push(Effect::Read { read, slot, key, kind: read_kind });
    }

    /// Stores `record`, whose version is so old, if it is greater than the record held. Answers once it, or the record that
    /// superseded it, is durable.
    pub fn store(
        &mut self,
        key: Key,
        record: Record,
        age: Age,
        offer: Offer,
        requester: Requester,
        ctx: &mut NodeCtx<'_>,
    ) {
        let Some(slot) = held_slot(&key, ctx) else { return ctx.refuse(requester, Refusal::NotReplica) };
        if ctx.group_commit.has_failed() {
            return ctx.refuse(requester, Refusal::StoreFailed);
        }
        if is_jump(record.tag().clock(), ctx) {
            return ctx.refuse(requester, Refusal::ClockJump);
        }
        let kept_at = record.ttl.map(|_| ctx.running.before(age));
        let incoming = Incoming { record, kept_at, offer };
        match self.keys.get_mut(&key) {
            Some(KeyState::Reading(waiting)) => {
                self.waiting_bytes += incoming.record.bytes(&key);
                waiting.push(Waiting::Store(incoming, requester));
            }
            Some(KeyState::Known { durable, .. }) => {
                let rules = (&mut self.promises, &self.seals);
                compare_and_store(slot, key, durable.as_ref(), incoming, requester, rules, ctx);
            }
            None => {
                self.waiting_bytes += incoming.record.bytes(&key);
                self.keys.insert(key.clone(), KeyState::Reading(vec![Waiting::Store(incoming, requester)]));
                let read = self.read(ReadFor::Store { slot, key: key.clone() });
                ctx.effects.push(Effect::Read { read, slot, key, kind: ReadKind::Digest });
            }
        }
    }

    /// The store has answered a read; `None` where it could not.
    ///
    /// The store may show a record before the node learns that its batch is durable. After a failure it may show a record
    /// of the failed batch. The clock must not be below any record that is answered: the next write could otherwise draw a
    /// smaller stamp than a record that was read, and be lost. The record's epoch became durable with it, or before it.
    pub fn on_read_done(&mut self, read: ReadId, held: Option<Found>, ctx: &mut NodeCtx<'_>) {
        if let Some(digest) = held.as_ref().and_then(|held| held.lookup.digest()) {
            observe_shown(&digest, ctx);
        }
        match self.reads.remove(&read) {
            // What the store shows and the seal go together. A record that was read before a seal may be below a deletion that
            // was forgotten since.
            Some(ReadFor::Get { slot, key, requester, seal, kind }) if seal != self.seal(slot) => {
                self.get(key, kind, requester, ctx);
            }
            Some(ReadFor::Prepare { slot, key, origin, seal, kind }) if seal != self.seal(slot) => {
                self.show_promised(origin, slot, key, kind, ctx);
            }
            Some(ReadFor::Get { slot, key, requester, seal, .. }) => match held {
                Some(held) => answer_get(slot, key, held, seal, requester, ctx),
                None => ctx.refuse(requester, Refusal::ReadFailed),
            },
            Some(ReadFor::Prepare { slot, key, origin, seal, .. }) => match held {
                Some(held) => {
                    let age = age_of(&held, ctx);
                    let held = without_sealed(held.lookup, judged(seal, slot, ctx));
                    ctx.answer(origin, Answer::Promised { key, held, age, seal });
                }
                None => ctx.refuse(Requester::Coordinator(origin), Refusal::ReadFailed),
            },
            Some(ReadFor::Store { slot, key }) => self.compare_waiting(slot, key, held, ctx),
            None => {}
        }
    }

    /// Decides about the stores that waited for a read of the durable record.
    fn compare_waiting(&mut self, slot: Slot, key: Key, held: Option<Found>, ctx: &mut NodeCtx<'_>) {
        let Some(KeyState::Reading(waiting)) = self.keys.remove(&key) else {
            unreachable!("a key is in this state until its read is answered");
        };
        self.waiting_bytes -= waiting.iter().map(|waiting| waiting.bytes(&key)).sum::<usize>();
        let refusal = match &held {
            None => Some(Refusal::ReadFailed),
            // Nothing of the table is taken in after the drop, so that its records can be removed.
            Some(_) if self.is_dropped(key.table()) => Some(Refusal::Dropped),
            Some(_) if ctx.group_commit.has_failed() => Some(Refusal::StoreFailed),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            return waiting.into_iter().for_each(|waiting| match waiting {
                Waiting::Store(_, requester) => ctx.refuse(requester, refusal),
                Waiting::Prepare(from, _) => ctx.refuse(Requester::Coordinator(from), refusal),
                Waiting::Forget => {}
            });
        }
        let durable = held.and_then(|Found { lookup, kept_at }| Some(Stored { digest: lookup.digest()?, kept_at }));
        let mut prepares = Vec::new();
        for waiting in waiting {
            match waiting {
                Waiting::Store(incoming, requester) => {
                    let rules = (&mut self.promises, &self.seals);
                    compare_and_store(slot, key.clone(), durable.as_ref(), incoming, requester, rules, ctx);
                }
                Waiting::Prepare(from, request) => prepares.push((from, request)),
                Waiting::Forget => {
                    if let Some(Stored { digest, .. }) = &durable
                        && digest.is_sealed_away(judged(self.seals.of(slot), slot, ctx))
                    {
                        ctx.group_commit.add_forgotten(slot, key.clone(), digest.clone());
                    }
                }
            }
        }
        if ctx.group_commit.is_in_next(&key) || ctx.group_commit.is_forgotten_in_next(&key) {
            self.keys.insert(key, KeyState::Known { slot, durable });
        }
        for (from, request) in prepares {
            self.on_request(from, request, ctx);
        }
    }

    /// `record` of `key` became durable, and this node keeps its version since `kept_at`. Returns the digest of the record
    /// that it replaces.
    pub fn on_durable<A>(
        &mut self,
        key: &Key,
        record: &Record,
        kept_at: Option<RunningTime>,
        group_commit: &GroupCommit<A>,
    ) -> Option<Digest> {
        let before = if !group_commit.is_in_next(key) {
            match self.keys.remove(key) {
                Some(KeyState::Known { durable, .. }) => durable,
                Some(KeyState::Reading(_)) | None => None,
            }
        } else if let Some(KeyState::Known { durable, .. }) = self.keys.get_mut(key) {
            durable.replace(Stored { digest: record.digest(), kept_at })
        } else {
            None
        };
        before.map(|before| before.digest)
    }

    /// The keys with records on their way to the disk, and the digests of the records that are durable there.
    pub fn known(&self) -> impl Iterator<Item = (Slot, &Key, Option<&Digest>)> {
        self.keys.iter().filter_map(|(key, state)| match state {
            KeyState::Known { slot, durable } => Some((*slot, key, durable.as_ref().map(|durable| &durable.digest))),
            KeyState::Reading(_) => None,
        })
    }

    /// A batch failed: the durable records of its keys are unknown again. Stores that wait for a read are refused when it
    /// is answered.
    pub fn on_batch_failed(&mut self) {
        self.keys.retain(|_, state| matches!(state, KeyState::Reading(_)));
    }

    fn seal_by_which_judged(&self, key: &Key, ctx: &NodeCtx<'_>) -> Option<Clock> {
        let slot = ctx.layout.slot(key);
        judged(self.seal(slot), slot, ctx)
    }

    fn read(&mut self, read_for: ReadFor) -> ReadId {
        let read = self.next_read();
        self.reads.insert(read, read_for);
        read
    }

    fn next_read(&mut self) -> ReadId {
        let read = ReadId(self.read_next);
        self.read_next += 1;
        read
    }
}

/// The store shows the record of this digest: the clock is not below it from now on.
fn observe_shown(digest: &Digest, ctx: &mut NodeCtx<'_>) {
    let shown = digest.tag().clock();
    must!(ClockBelowReads, ctx.clock.epoch_is_durable(shown.epoch));
    must!(ClockBelowReads, ctx.clock.observe(shown));
}

/// The slot of `key`, if this node holds it.
fn held_slot(key: &Key, ctx: &NodeCtx<'_>) -> Option<Slot> {
    let slot = ctx.layout.slot(key);
    rule!(StandInsCount, ctx.layout.holds(ctx.me, slot)).then_some(slot)
}

fn answer_get(slot: Slot, key: Key, held: Found, seal: Option<Clock>, requester: Requester, ctx: &mut NodeCtx<'_>) {
    let age = age_of(&held, ctx);
    let judged = judged(seal, slot, ctx);
    ctx.deliveries.push_back(match (requester, without_sealed(held.lookup, judged)) {
        (Requester::Coordinator(origin), held) => Delivery::Answer(origin, Answer::Lookup { key, held, age, seal }),
        (Requester::Operator(request), Lookup::Record(record)) => {
            Delivery::Reply(request, Reply::Record(Some(AgedRecord::new(record, age))))
        }
        (Requester::Operator(request), _) => Delivery::Reply(request, Reply::Record(None)),
    });
}

/// What a replica with this seal of its slot holds: a deletion that it may forget is nothing.
fn without_sealed(held: Lookup, seal: Option<Clock>) -> Lookup {
    let is_sealed_away = seal.is_some() && held.digest().is_some_and(|digest| digest.is_sealed_away(seal));
    if is_sealed_away { Lookup::Absent } else { held }
}

/// The refusal of a ballot, or of a record below the seal.
fn nack(slot: Slot, hash: u64, promises: &Promises, seals: &Seals) -> Answer {
    let floor = promises.floor(hash).clock.max(seals.shown_fence());
    Answer::Preempted { floor, seal: seals.of(slot) }
}

/// How long this node has kept the version that its store holds. A count that a restart has forgotten gives no age: the
/// version is then deleted later, and never too early.
fn age_of(held: &Found, ctx: &NodeCtx<'_>) -> Age {
    held.kept_at.map_or(
        Age::NONE,
        |kept_at| rule!(AgeUnclamped, kept_at.age_at(ctx.running), not Age(ctx.running.0.wrapping_sub(kept_at.0))),
    )
}

/// Decides about one record, given the digests of the durable record, of the record in flight and of the one in the next
/// batch: three digests that rise in this order.
fn compare_and_store(
    slot: Slot,
    key: Key,
    durable: Option<&Stored>,
    incoming: Incoming,
    requester: Requester,
    (promises, seals): (&mut Promises, &Seals),
    ctx: &mut NodeCtx<'_>,
) {
    let Incoming { record, kept_at, offer } = incoming;
    let (digest, seal) = (record.digest(), judged(seals.of(slot), slot, ctx));
    let (in_flight, next) = (ctx.group_commit.in_flight(&key), ctx.group_commit.next(&key));
    let held = [
        (durable.map(|durable| &durable.digest), AnswerWhen::Now),
        (in_flight.as_ref(), AnswerWhen::Durable(AckAfter::InFlight)),
        (next.as_ref(), AnswerWhen::Durable(AckAfter::Next)),
    ];
    let held = || held.iter().filter_map(|(held, when)| held.map(|held| (held, *when)));
    let held = || held().filter(|(held, _)| !held.is_sealed_away(seal));

    if !rule!(SameStampIsMerged, held().all(|(held, _)| !held.conflicts_with(&digest))) {
        ctx.report(ProtocolEvent::StampConflict { key, stamp: digest.stamp });
        return ctx.refuse(requester, Refusal::StampConflict);
    }
    // The first record that is at least as great: once it is durable, this record is superseded permanently. Only the stamp
    // of that record is told, because a later one may still be lost.
    let greater = held().find(|(held, _)| held.tag() >= digest.tag());
    let clock = digest.tag().clock();
    let is_fenced = seals.fences(clock);
    if is_fenced && let Some(refusal) = refusal_by_fence(&digest, greater.map(|(greater, _)| greater), offer) {
        return keep_out(refusal, slot, &key, requester, (promises, seals), ctx);
    }
    if let Some((greater, when)) = rule!(SmallerStampOverwrites, greater, not None) {
        // A greater record that is on its way to the disk is told once it is durable.
        if when == AnswerWhen::Now && greater.tag() > digest.tag() {
            must!(BeatenIsNotTold, ctx.deliveries.push_back(Delivery::Beaten(key.clone(), greater.version())));
        }
        let when = if digest.proposal.is_some() { observe_beaten(clock, when, ctx) } else { when };
        let reply = || Reply::Failed(Failure::NotGreater { held: greater.stamp.clone() });
        return ctx.acknowledge(requester, when, reply);
    }
    // A deletion that was forgotten may have stood above the record.
    if is_below(&digest, seal) {
        if digest.is_sealed_away(seal) && offer != Offer::Accept {
            return ctx.acknowledge(requester, AnswerWhen::Now, || Reply::Set(digest.version()));
        }
        let kept_out = if offer == Offer::Accept { KeptOut::Nack } else { KeptOut::Sealed };
        let applies = match offer {
            Offer::Accept => rule!(AcceptBelowSeal, true, not false),
            Offer::Store(_) => rule!(RepairIgnoresSeal, true, not false),
        };
        if applies {
            return keep_out(kept_out, slot, &key, requester, (promises, seals), ctx);
        }
    }
    if let Some(proposal) = &digest.proposal {
        must!(StorePromisesNothing, promises.raise(ctx.layout.hash(&key), proposal.ballot.clone()));
    }
    if !ctx.clock.is_durable(clock.epoch) {
        ctx.group_commit.add_epoch(clock.epoch);
    }
    let expires = [durable.map(|durable| &durable.digest), in_flight.as_ref(), next.as_ref(), Some(&digest)];
    if expires.into_iter().flatten().any(|digest| digest.ttl.is_some()) {
        note_expiry(slot, &key, durable, &digest, kept_at, ctx);
    }
    let is_first = held().next().is_none();
    ctx.group_commit.add_record(slot, key, record, is_first);
    // A record with a greater stamp and a smaller ballot may replace this one in the same batch.
    let next = AnswerWhen::Durable(AckAfter::Next);
    let next = if digest.proposal.is_some() { observe_beaten(clock, next, ctx) } else { next };
    let when = rule!(AcknowledgedBeforeDurable, next, not AnswerWhen::Now);
    ctx.acknowledge(requester, when, || Reply::Set(digest.version()));
}

/// How a record is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeptOut {
    /// Its writer drew its stamp too long ago.
    Fenced,
    /// It is below the seal of its slot.
    Sealed,
    /// It is not accepted.
    Nack,
}

/// Whether a record up to the fence is kept out. `greater` is the record held that is at least as great.
fn refusal_by_fence(digest: &Digest, greater: Option<&Digest>, offer: Offer) -> Option<KeptOut> {
    match offer {
        Offer::Accept => rule!(FenceLetsBallotsPass, Some(KeptOut::Nack), not None),
        Offer::Store(StoreOrigin::Repair) => rule!(FenceStopsRepair, None, not Some(KeptOut::Sealed)),
        Offer::Store(StoreOrigin::Writer) => {
            // No write stamped a base that stands on an absence: it was not computed from this record, which nobody may ever
            // have seen.
            let is_beaten = greater.is_some_and(|greater| {
                rule!(FencedCountsAsBeaten, greater.tag() == digest.tag() || !greater.stamp.is_none())
            });
            rule!(NoFence, (!is_beaten).then_some(KeptOut::Fenced), not None)
        }
    }
}

/// Refuses a record.
fn keep_out(
    kept_out: KeptOut,
    slot: Slot,
    key: &Key,
    requester: Requester,
    (promises, seals): (&mut Promises, &Seals),
    ctx: &mut NodeCtx<'_>,
) {
    let Requester::Coordinator(origin) = requester else {
        let Requester::Operator(request) = requester else { return };
        let held = Stamp::of_absence(seals.of(slot).unwrap_or_default().max(seals.shown_fence()));
        return ctx.deliveries.push_back(Delivery::Reply(request, Reply::Failed(Failure::NotGreater { held })));
    };
    match kept_out {
        KeptOut::Fenced => ctx.refuse(requester, Refusal::Fenced),
        KeptOut::Sealed => ctx.answer(origin, Answer::Sealed),
        KeptOut::Nack => {
            let answer = nack(slot, ctx.layout.hash(key), promises, seals);
            ctx.answer(origin, answer);
        }
    }
}

/// Adds to the next batch since when the version of `digest` is kept, and which entry of the index of expiries goes. The
/// count belongs to the version: a new tag of it does not begin the count anew, and a new version does.
fn note_expiry(
    slot: Slot,
    key: &Key,
    durable: Option<&Stored>,
    digest: &Digest,
    kept_at: Option<RunningTime>,
    ctx: &mut NodeCtx<'_>,
) {
    let stored = |digest: Option<Digest>, kept_at| digest.map(|digest| Stored { digest, kept_at });
    let in_flight = stored(ctx.group_commit.in_flight(key), ctx.group_commit.in_flight_kept_at(key));
    let next = stored(ctx.group_commit.next(key), ctx.group_commit.next_kept_at(key));
    let is_of_version = |held: &&Stored| rule!(AgeByKey, held.digest.version() == digest.version());
    let held = [durable, in_flight.as_ref(), next.as_ref()];
    let earlier = held.into_iter().flatten().filter(is_of_version).filter_map(|held| held.kept_at).min();
    let kept_at = kept_at.map(|kept_at| earlier.map_or(kept_at, |earlier| earlier.min(kept_at)));
    // The batch in flight is durable before the next one: its entry is the one that the index then has.
    let replaced = in_flight.as_ref().or(durable).and_then(|stored| {
        let at = stored.kept_at?.expiry(stored.digest.ttl?);
        Some(Expiry { at, slot, key: key.clone(), version: stored.digest.version() })
    });
    ctx.group_commit.add_expiry(key, kept_at, replaced);
}

/// A greater stamp may stand under a smaller ballot: the record that beats one of `clock` need not have raised the node's
/// clock so far. Returns when the beaten record may be acknowledged.
fn observe_beaten(clock: Clock, when: AnswerWhen, ctx: &mut NodeCtx<'_>) -> AnswerWhen {
    if ctx.clock.is_durable(clock.epoch) {
        ctx.clock.observe(clock);
        return when;
    }
    ctx.group_commit.add_epoch(clock.epoch);
    ctx.group_commit.ack_after(AckAfter::Next, PendingAck::Observed(clock));
    AnswerWhen::Durable(AckAfter::Next)
}

/// A record that is still on its way to the disk passes for durable: wrong.
#[cfg(feature = "mutants")]
fn read_before_durable(key: &Key, requester: Requester, ctx: &NodeCtx<'_>) -> Option<Lookup> {
    let is_peer = matches!(requester, Requester::Coordinator(origin) if origin.node != ctx.me);
    let is_broken = is_peer && crate::mutants::is_on(crate::mutants::Mutant::ReadsWhatIsNotDurable);
    ctx.group_commit.not_durable(key).filter(|_| is_broken).map(Lookup::Record)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::protocol::clock::QuorumClock;
    use crate::protocol::io::{RequestId, Time};
    use crate::protocol::layout::Layout;
    use crate::protocol::placement::Placement;
    use crate::types::{Checksum, Clock, ClusterParameters, Content, NodeId, NodeIndex, Stamp};

    #[test]
    fn record_that_a_read_shows_raises_the_clock() {
        let key = Key::new("k").unwrap();
        let stamp = Stamp { clock: Clock { epoch: 7, counter: 3 }, writer: NodeId::new("2").unwrap() };
        let digest = Record::plain(stamp, Content::Tombstone, Checksum::of(&key, &Content::Tombstone)).digest();
        let node_ids = vec![NodeId::new("1").unwrap()];
        let layout = Layout::begin(Placement::new(ClusterParameters::plain(0, 1, node_ids)).into(), &[]);
        let mut ctx = NodeCtx {
            now: Time(0),
            running: RunningTime::START,
            me: NodeIndex(0),
            layout: &layout,
            clock: &mut QuorumClock::start(5),
            group_commit: &mut GroupCommit::default(),
            effects: &mut Vec::new(),
            deliveries: &mut VecDeque::new(),
        };
        let mut replica = Replica::start(5, &Meta::fresh(crate::types::StoreId(1)));
        replica.get(key, ReadKind::Digest, Requester::Operator(RequestId(1)), &mut ctx);
        replica.on_read_done(ReadId(0), Some(Lookup::Digest(digest).into()), &mut ctx);
        assert_eq!(ctx.clock.now(), Clock { epoch: 7, counter: 3 });
    }
}
