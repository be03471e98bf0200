//! Repair: finds the keys that replicas differ about, and brings each to what a read of it answers (anti-entropy, as in
//! Dynamo: `DeCandia` et al., SOSP 2007).
//!
//! Of two nodes that hold a slot in common, the one with the smaller name begins from time to time. It compares sums of its
//! records with the peer's: of all of them, then of the parts that differ, down to leaves, and then keys. Each key that
//! differs is read linearizably, with both nodes among those that are counted, and the answer is stored where less is held
//! ([`Mend`]). So repair has no rule of its own, and cannot do what a read could not.
//!
//! Repair is a background operation: it is paced in keys and bytes a second, pauses while the node is overloaded, and ends a
//! comparison whose peer is silent. A comparison that was cut off loses nothing, because the next one finds what still
//! differs. A node takes part in one comparison at a time, its own or a peer's, so that two nodes do not repair the same keys
//! of a third one. It gives up its own for a peer's while it has heard no answer.
//!
//! | file | holds |
//! |---|---|
//! | `leaves` | the sums over this node's records |
//! | `session` | one comparison with a peer |
//! | `slot_table` | the sums of each slot |

mod leaves;
mod session;
mod slot_table;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::limits::{
    REPAIR_ANSWER_MAX, REPAIR_BACKLOG_BYTES_MAX, REPAIR_KEY_DEADLINE, REPAIR_KEYS_WAITING_MAX, REPAIR_LISTED_KEYS_MAX,
    REPAIR_LISTINGS_MAX, REPAIR_PAIRS_AT_ONCE, REPAIR_READS_MAX, REPAIR_SERVED_FOR, REPAIR_SERVED_READS_MAX,
    REPAIR_UNPACED_COMPARISONS_MAX,
};
use crate::mutants::must;
use crate::types::{Digest, Incarnation, Key, NodeIndex, Removed, Slot, SlotRecord, SlotsPage};

pub use leaves::{Leaves, RecordCounts};

use super::context::{Caller, NodeCtx, Origin, Task};
use super::coordinator::ops::Mend;
use super::coordinator::{Coordinator, CoordinatorCtx};
use super::io::{Failure, ProtocolEvent, ReadId, Reply, Time};
use super::layout::Layout;
use super::message::{Answer, Message, OperationId, Request};
use super::pace::Pace;
use super::repair_settings::{RepairOrder, RepairSettings};
use super::retention::TombstoneReport;
use super::sums::{Marks, RecordsOf, RepairAnswer, RepairRequest, half_of};

use session::{Asked, Listing, Session};

/// The repair of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Repair {
    /// Without settings it does nothing, and compares with nobody.
    settings: Option<RepairSettings>,
    leaves: Leaves,
    pairs: BTreeMap<NodeIndex, Pair>,
    /// The peers that are compared without a pace until nothing differs, and how often at most.
    unpaced: BTreeMap<NodeIndex, u8>,
    /// Whether the disk has too little room for copies.
    disk_is_short: bool,
    session: Option<Session>,
    /// Nothing further of the comparison begins before, because the node was overloaded.
    pauses_until: Time,
    pace: Pace,
    last_task: u64,
    /// The keys under repair, those of comparisons that have ended among them.
    keys_read: usize,
    serving: Option<Serving>,
    served_reads: BTreeMap<ReadId, ServedRead>,
    repaired: u64,
}

/// What this node knows of itself and a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Pair {
    /// When this node compares with the peer next. Absent where the peer begins, or cannot be reached.
    due_at: Option<Time>,
    /// When the two could reach each other last after they could not.
    met_at: Option<Time>,
    /// When they were found equal since.
    equal_at: Option<Time>,
    /// How many keys were found to differ, and are not known to be repaired.
    behind: u64,
}

/// The comparison of a peer that this node answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Serving {
    peer: NodeIndex,
    incarnation: Incarnation,
    until: Time,
}

/// Records that are read for a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ServedRead {
    to: Origin,
    of: RecordsOf,
}

/// The state of repair, for people and metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RepairReport {
    /// Whether repair is on.
    pub is_on: bool,
    /// The records of this node, as far as they are counted.
    pub counts: RecordCounts,
    /// The share of the slots that are counted since the start, from 0 to 1.
    pub share_counted: f64,
    /// How many keys this node has repaired since its start.
    pub repaired: u64,
    /// The peers that hold a slot with this node.
    pub pairs: Vec<PairReport>,
    /// The deletions that are to be forgotten.
    pub tombstones: TombstoneReport,
}

/// What a node knows of itself and a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairReport {
    /// The peer.
    pub peer: NodeIndex,
    /// Whether the two are being compared.
    pub is_comparing: bool,
    /// How many keys were found to differ, and are not known to be repaired. The peer counts them where it began.
    pub behind: u64,
    /// How long ago the two were found equal, since they can reach each other.
    pub equal_since: Option<Duration>,
    /// How long they were not found equal: since then, or since they can reach each other.
    pub unequal_for: Option<Duration>,
}

/// What the repair uses of its node.
#[derive(Debug)]
pub struct RepairCtx<'a> {
    /// Runs the reads of single keys.
    pub coordinator: &'a mut Coordinator,
    /// What the coordinator uses.
    pub shared: CoordinatorCtx<'a>,
    /// Whether records of dropped tables are being removed: nodes that are not equally far differ.
    pub is_cleaning: bool,
}

impl RepairCtx<'_> {
    fn now(&self) -> Time {
        self.shared.node.now
    }

    fn is_overloaded(&self) -> bool {
        let bytes = self.shared.node.group_commit.next_bytes();
        bytes >= REPAIR_BACKLOG_BYTES_MAX || self.shared.replica.is_overloaded(bytes)
    }

    /// Whether this node begins the comparisons with `peer`.
    fn begins(&self, peer: NodeIndex) -> bool {
        let node = &self.shared.node;
        node.layout.writer(node.me) < node.layout.writer(peer)
    }

    fn is_shared(&self, slot: Slot, peer: NodeIndex) -> bool {
        let layout = self.shared.node.layout;
        layout.holds(peer, slot) && layout.holds(self.shared.node.me, slot)
    }
}

impl Repair {
    /// The repair of a node that starts.
    #[must_use]
    pub fn start(settings: Option<RepairSettings>, me: NodeIndex, layout: &Layout, now: Time) -> Self {
        if settings.is_none() {
            return Self::default();
        }
        let shares = |peer: &NodeIndex| {
            let both = |slot: &&Slot| layout.holds(me, **slot) && layout.holds(*peer, **slot);
            *peer != me && layout.distinct_slots().iter().any(|slot| both(&slot))
        };
        let pairs = layout.members().iter().copied().filter(shares).map(|peer| (peer, Pair::default())).collect();
        Self { settings, leaves: Leaves::start(now), pairs, ..Self::default() }
    }

    /// The disk has too little room for copies, or has enough again.
    pub fn disk_is_short(&mut self, is_short: bool) {
        self.disk_is_short = is_short;
    }

    /// An operator wants something of it.
    pub fn on_order(&mut self, order: RepairOrder, ctx: &mut RepairCtx<'_>) {
        match order {
            RepairOrder::Configure(settings) => self.configure(settings, ctx),
            RepairOrder::PassNow => {
                let now = ctx.now();
                for (peer, pair) in self.pairs.iter_mut().filter(|(peer, _)| ctx.begins(**peer)) {
                    if ctx.shared.reaches(*peer).is_some() {
                        self.unpaced.insert(*peer, REPAIR_UNPACED_COMPARISONS_MAX);
                        pair.due_at = Some(now);
                    }
                }
                self.pace = Pace::default();
            }
        }
    }

    /// A configuration is adopted: comparisons under another one end, and others are peers. `is_emptied`: the node has lost records
    /// that were counted.
    pub fn reconfigure(&mut self, is_emptied: bool, ctx: &mut RepairCtx<'_>) {
        self.session = None;
        self.serving = None;
        self.served_reads.clear();
        self.unpaced.clear();
        if self.settings.is_none() {
            return;
        }
        let (me, layout, now) = (ctx.shared.node.me, ctx.shared.node.layout, ctx.now());
        self.pairs = Self::start(self.settings.clone(), me, layout, now).pairs;
        if is_emptied && !ctx.shared.node.group_commit.has_failed() {
            self.leaves.store_reopened(now);
        }
        let peers: Vec<NodeIndex> = self.pairs.keys().copied().collect();
        for peer in peers.into_iter().filter(|peer| ctx.shared.reaches(*peer).is_some()) {
            self.catch_up(peer, ctx);
        }
    }

    fn configure(&mut self, settings: Option<RepairSettings>, ctx: &mut RepairCtx<'_>) {
        let (was_on, is_on) = (self.settings.is_some(), settings.is_some());
        if was_on && !is_on {
            self.end(false, ctx);
            self.pairs.clear();
            self.unpaced.clear();
            self.leaves.store_failed();
        }
        if !was_on && is_on {
            let (me, layout, now) = (ctx.shared.node.me, ctx.shared.node.layout, ctx.now());
            self.pairs = Self::start(settings.clone(), me, layout, now).pairs;
            if !ctx.shared.node.group_commit.has_failed() {
                self.leaves.store_reopened(now);
            }
        }
        self.settings = settings;
        self.pace = Pace::default();
        if !was_on {
            let peers: Vec<NodeIndex> = self.pairs.keys().copied().collect();
            for peer in peers.into_iter().filter(|peer| ctx.shared.reaches(*peer).is_some()) {
                self.catch_up(peer, ctx);
            }
        }
    }

    /// The settings for what is compared now.
    fn settings(&self) -> Option<RepairSettings> {
        let settings = self.settings.clone()?;
        let is_unpaced = self.session.as_ref().is_some_and(|session| self.unpaced.contains_key(&session.peer));
        Some(if is_unpaced { settings.unpaced() } else { settings })
    }

    /// The sums over this node's records, for tests.
    #[must_use]
    pub fn leaves(&self) -> &Leaves {
        &self.leaves
    }

    /// Whether it compares or repairs now.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.session.is_some()
    }

    /// Its state.
    #[must_use]
    pub fn report(&self, now: Time) -> RepairReport {
        let pair = |(peer, pair): (&NodeIndex, &Pair)| {
            let session = self.session.as_ref().filter(|session| session.peer == *peer);
            let served = self.serving.as_ref().filter(|serving| serving.peer == *peer && serving.until > now);
            let under_way = session.map(session::Session::behind);
            PairReport {
                peer: *peer,
                is_comparing: session.is_some() || served.is_some(),
                behind: under_way.map_or(pair.behind, |behind| behind.max(pair.behind)),
                equal_since: pair.equal_at.map(|at| now.since(at)),
                unequal_for: pair.equal_at.or(pair.met_at).map(|at| now.since(at)),
            }
        };
        RepairReport {
            is_on: self.settings.is_some(),
            counts: self.leaves.counts(),
            share_counted: self.leaves.share_counted(),
            repaired: self.repaired,
            pairs: self.pairs.iter().map(pair).collect(),
            tombstones: TombstoneReport::default(),
        }
    }

    // The own store.

    /// A batch is durable, and these records were durable before those of it: each change is told in turn.
    pub fn changed(&mut self, key: &Key, before: Option<&Digest>, after: impl FnOnce() -> Digest, layout: &Layout) {
        if self.settings.is_some() {
            self.leaves.changed(key, before, &after(), layout);
        }
    }

    /// The tombstone of `key` was removed.
    pub fn forgotten(&mut self, key: &Key, digest: &Digest, layout: &Layout) {
        if self.settings.is_some() {
            must!(ForgottenStaysInLeaf, self.leaves.forgotten(key, digest, layout));
        }
    }

    /// The store begins to remove records of a dropped table.
    pub fn cleaning_begins(&mut self) {
        self.leaves.cleaning_begins();
    }

    /// The store has removed records of a dropped table.
    pub fn cleaned(&mut self, removed: Option<&Removed>, ctx: &NodeCtx<'_>) {
        self.leaves.cleaned(removed, ctx);
    }

    /// A batch failed.
    pub fn store_failed(&mut self) {
        if self.settings.is_some() {
            must!(LeavesOutliveFailure, self.leaves.store_failed());
        }
    }

    /// The store was reopened.
    pub fn store_reopened(&mut self, now: Time) {
        if self.settings.is_some() {
            must!(LeavesOutliveFailure, self.leaves.store_reopened(now));
        }
    }

    /// The records of some slots were read.
    pub fn on_slots_read(&mut self, read: ReadId, page: Option<SlotsPage>, ctx: &mut RepairCtx<'_>) {
        self.leaves.on_page(read, page.as_ref(), ctx.shared.replica, &ctx.shared.node);
        if let Some(ServedRead { to, of }) = self.served_reads.remove(&read) {
            let marks = page.map(|page| listed(page, &of, to.node, ctx).cut_off());
            return answer(to, marks.map_or(RepairAnswer::NotNow, RepairAnswer::Records), ctx);
        }
        let Some(session) = &mut self.session else { return };
        let peer = session.peer;
        let Some((round, listing)) = session.listings.iter_mut().find(|(_, listing)| listing.read == read) else {
            return;
        };
        let round = *round;
        match page {
            Some(page) => listing.mine = Some(listed(page, &listing.of, peer, ctx)),
            None => return self.end(false, ctx),
        }
        self.compare_keys(round, ctx);
    }

    // Time.

    /// When [`Repair::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let next = match &self.session {
            Some(session) => {
                let paced = self.pauses_until.max(self.pace.free_at());
                let at_once = (self.may_repair(session) || self.may_list(session)).then_some(Time::default());
                let begins_at = [at_once, session.asks_at()].into_iter().flatten().min().map(|at| at.max(paced));
                [session.late_at(), begins_at].into_iter().flatten().min()
            }
            None => self.pairs.values().filter_map(|pair| pair.due_at).min(),
        };
        [next, self.leaves.next_wake()].into_iter().flatten().min()
    }

    /// A timer may have fired.
    pub fn on_wake(&mut self, ctx: &mut RepairCtx<'_>) {
        if self.settings.is_none() {
            return;
        }
        let is_overloaded = ctx.is_overloaded();
        self.leaves.on_wake(is_overloaded, &mut ctx.shared.node);
        self.go_on(ctx);
    }

    /// `peer` can be reached again. What it has missed meanwhile is not known.
    pub fn catch_up(&mut self, peer: NodeIndex, ctx: &RepairCtx<'_>) {
        let Some(again) = self.settings.as_ref().map(again_after) else { return };
        let now = ctx.now();
        if let Some(pair) = self.pairs.get_mut(&peer) {
            (pair.met_at, pair.equal_at) = (Some(now), None);
            if ctx.begins(peer) {
                pair.due_at = Some(now.after(again));
            }
        }
    }

    // The comparison that this node has begun.

    /// Takes all steps that may be taken now.
    fn go_on(&mut self, ctx: &mut RepairCtx<'_>) {
        let Some(settings) = self.settings() else { return };
        let now = ctx.now();
        let Some(session) = &mut self.session else { return self.begin_if_due(&settings, ctx) };
        let is_reached = ctx.shared.reaches(session.peer) == Some(session.incarnation);
        if !is_reached || !self.may_compare(ctx) {
            return self.end(false, ctx);
        }
        let Some(session) = &mut self.session else { return };
        if session.late_at().is_some_and(|at| at <= now) {
            return self.end(false, ctx);
        }
        if ctx.is_overloaded() {
            self.pauses_until = now.after(again_after(&settings));
        }
        if self.pauses_until <= now {
            self.begin_repairs(&settings, ctx);
            self.begin_listings(&settings, ctx);
            self.ask_for_sums(&settings, ctx);
        }
        if self.session.as_ref().is_some_and(Session::is_done) {
            self.end(true, ctx);
        }
    }

    /// Whether this node's leaves may be compared with a peer's.
    fn may_compare(&self, ctx: &RepairCtx<'_>) -> bool {
        self.leaves.are_complete()
            && !ctx.is_cleaning
            && !self.disk_is_short
            && !ctx.shared.node.group_commit.has_failed()
            && ctx.shared.membership.unready().is_none()
            && !ctx.shared.node.layout.is_joint()
    }

    /// Whether a key of this comparison may be repaired now, but for the pace.
    fn may_repair(&self, session: &Session) -> bool {
        let keys_max = self.settings().map_or(0, |settings| self.pace.keys_max(settings.rate()));
        !session.keys.is_empty() && self.keys_read < keys_max
    }

    /// Whether keys may be listed now, but for the pace.
    fn may_list(&self, session: &Session) -> bool {
        session.has_listing()
            && session.listings.len() < REPAIR_LISTINGS_MAX
            && session.keys.len() < REPAIR_KEYS_WAITING_MAX
            && self.leaves.reads() < REPAIR_READS_MAX
    }

    fn begin_if_due(&mut self, settings: &RepairSettings, ctx: &mut RepairCtx<'_>) {
        let now = ctx.now();
        let due = self.pairs.iter().filter_map(|(peer, pair)| Some((pair.due_at?, *peer))).min();
        let Some((_, peer)) = due.filter(|(at, _)| *at <= now) else { return };
        let may_begin = self.may_compare(ctx) && !ctx.is_overloaded() && self.served(ctx).is_none();
        let Some(pair) = self.pairs.get_mut(&peer) else { return };
        // A peer that cannot be reached is compared once it can be: see `catch_up`.
        let Some(incarnation) = ctx.shared.reaches(peer) else {
            self.unpaced.remove(&peer);
            return pair.due_at = None;
        };
        pair.due_at = Some(now.after(again_after(settings)));
        if may_begin {
            let id = ctx.coordinator.next_id();
            self.session = Some(Session::new(peer, incarnation, id));
            self.go_on(ctx);
        }
    }

    fn begin_repairs(&mut self, settings: &RepairSettings, ctx: &mut RepairCtx<'_>) {
        let now = ctx.now();
        while self.session.as_ref().is_some_and(|session| self.may_repair(session))
            && self.pace.allows(now)
            && let Some(session) = &mut self.session
            && let Some(key) = session.keys.pop_front()
        {
            self.pace.key(settings.rate(), now);
            self.last_task += 1;
            self.keys_read += 1;
            session.in_flight.insert(self.last_task);
            let caller = Caller::Task(Task::Repair(self.last_task));
            let repair = Mend::new(BTreeSet::from([ctx.shared.node.me, session.peer])).into();
            ctx.coordinator.start(caller, now.after(REPAIR_KEY_DEADLINE), key, repair, &mut ctx.shared);
        }
    }

    fn begin_listings(&mut self, settings: &RepairSettings, ctx: &mut RepairCtx<'_>) {
        let now = ctx.now();
        while self.session.as_ref().is_some_and(|session| self.may_list(session))
            && self.pace.allows(now)
            && let Some(of) = self.session.as_mut().and_then(Session::next_listing)
            && let Some(round) = self.ask(RepairRequest::Records(of.clone()), settings, ctx)
        {
            let range = of.range(|key| ctx.shared.node.layout.slot(key));
            let read = self.leaves.read(range, REPAIR_LISTED_KEYS_MAX, &mut ctx.shared.node);
            let listing = Listing { of, read, mine: None, theirs: None, until: now.after(REPAIR_ANSWER_MAX) };
            if let Some(session) = &mut self.session {
                session.listings.insert(round, listing);
            }
        }
    }

    fn compare_keys(&mut self, round: u32, ctx: &mut RepairCtx<'_>) {
        if let Some(session) = &mut self.session {
            session.compare(round, |key| ctx.shared.node.layout.slot(key));
        }
        self.go_on(ctx);
    }

    fn ask_for_sums(&mut self, settings: &RepairSettings, ctx: &mut RepairCtx<'_>) {
        let now = ctx.now();
        // A step may only decide what follows.
        for _ in 0..3 {
            let Some(session) = self.session.as_mut().filter(|_| self.pace.allows(now)) else { return };
            let parts = session.parts_to_ask(now, now.after(settings.confirm_after));
            if parts.is_empty() {
                continue;
            }
            let round = session.round + 1;
            session.asked = Some(Asked { round, parts: parts.clone(), until: now.after(REPAIR_ANSWER_MAX) });
            self.ask(RepairRequest::Sums(parts), settings, ctx);
        }
        self.begin_listings(settings, ctx);
    }

    /// Asks the peer, and returns the number of the question.
    fn ask(&mut self, request: RepairRequest, settings: &RepairSettings, ctx: &mut RepairCtx<'_>) -> Option<u32> {
        let session = self.session.as_mut()?;
        session.round += 1;
        let (operation, round) = (session.id, session.round);
        let (number, request) = (ctx.shared.node.layout.number(), Request::Repair(request));
        let message = Message::Request { operation, round, number, request };
        session.bytes += message.encoded_bytes();
        self.pace.bytes(message.encoded_bytes(), settings.rate(), ctx.shared.node.now);
        ctx.shared.node.send(session.peer, Some(session.incarnation), message);
        Some(round)
    }

    /// Whether `id` is the comparison under way.
    #[must_use]
    pub fn owns(&self, id: OperationId) -> bool {
        self.session.as_ref().is_some_and(|session| session.id == id)
    }

    /// The peer answers.
    pub fn on_answer(&mut self, from: NodeIndex, round: u32, answer: Answer, ctx: &mut RepairCtx<'_>) {
        let Some(settings) = self.settings() else { return };
        let Some(session) = self.session.as_mut().filter(|session| session.peer == from) else { return };
        let Answer::Repair(answer) = answer else { return self.end(false, ctx) };
        session.bytes += answer.bytes();
        self.pace.bytes(answer.bytes(), settings.rate(), ctx.shared.node.now);
        match answer {
            RepairAnswer::Sums(sums) if session.asked.as_ref().is_some_and(|asked| asked.round == round) => {
                let (leaves, shared) = (&self.leaves, &*ctx);
                if session.on_sums(&sums, |part| leaves.sums(part, |slot| shared.is_shared(slot, from))) {
                    self.go_on(ctx);
                } else {
                    self.end(false, ctx);
                }
            }
            RepairAnswer::Sums(_) => {}
            RepairAnswer::Records(mut marks) => {
                let Some(listing) = session.listings.get_mut(&round) else { return };
                let (layout, replica) = (ctx.shared.node.layout, &*ctx.shared.replica);
                if !marks.answers(&listing.of, |key| layout.hash(key)) {
                    return self.end(false, ctx);
                }
                // The peer may not have heard of a drop yet.
                marks.records.retain(|(key, _)| !replica.is_dropped(key.table()));
                listing.theirs = Some(marks);
                self.compare_keys(round, ctx);
            }
            RepairAnswer::NotNow => self.end(false, ctx),
        }
    }

    /// A repair of a key has ended.
    pub fn on_reply(&mut self, task: u64, reply: &Reply, ctx: &mut RepairCtx<'_>) {
        self.keys_read -= 1;
        let Some(settings) = self.settings() else { return };
        let is_of_session = self.session.as_mut().is_some_and(|session| session.in_flight.remove(&task));
        match reply {
            Reply::Record(_) | Reply::Spread(_) => {
                self.repaired += 1;
                let bytes = reply.record().map_or(0, |record| record.content.value_bytes());
                ctx.shared.node.report(ProtocolEvent::Repaired { bytes });
                self.pace.copied(bytes, settings.rate(), ctx.shared.node.now);
            }
            // Its records are removed.
            Reply::Failed(Failure::TableDropped | Failure::DroppedMeanwhile) => {}
            _ => {
                if let Some(session) = self.session.as_mut().filter(|_| is_of_session) {
                    session.failed += 1;
                }
            }
        }
        // Another comparison may have waited for this one's place.
        if self.session.is_some() {
            self.go_on(ctx);
        }
    }

    /// Ends the comparison. `is_whole`: everything was compared.
    fn end(&mut self, is_whole: bool, ctx: &mut RepairCtx<'_>) {
        let (Some(session), Some(settings)) = (self.session.take(), self.settings.clone()) else { return };
        let is_equal = is_whole && session.differed == 0;
        let now = ctx.now();
        let pairs_begun = self.pairs.keys().filter(|peer| ctx.begins(**peer)).count();
        let Some(pair) = self.pairs.get_mut(&session.peer) else { return };
        pair.behind = if is_whole { session.failed } else { pair.behind.max(session.behind()) };
        if is_equal {
            pair.equal_at = Some(now);
        }
        let turns = u32::try_from(pairs_begun.div_ceil(REPAIR_PAIRS_AT_ONCE)).unwrap_or(u32::MAX);
        let left = self.unpaced.get(&session.peer).map(|left| left - u8::from(is_whole)).filter(|_| !is_equal);
        let wait = match left {
            Some(1..) => settings.confirm_after,
            _ if is_equal => settings.every.saturating_mul(turns),
            _ => again_after(&settings),
        };
        match left {
            Some(left @ 1..) => _ = self.unpaced.insert(session.peer, left),
            _ => _ = self.unpaced.remove(&session.peer),
        }
        pair.due_at = Some(now.after(wait));
        if is_whole {
            let Session { peer, differed: keys, bytes, .. } = session;
            ctx.shared.node.report(ProtocolEvent::Compared { peer, keys, bytes });
        }
        let request = Request::Repair(RepairRequest::End { is_equal });
        let (round, number) = (session.round + 1, ctx.shared.node.layout.number());
        let message = Message::Request { operation: session.id, round, number, request };
        ctx.shared.node.send(session.peer, Some(session.incarnation), message);
    }

    // The comparisons that peers have begun.

    /// The comparison that this node answers now.
    fn served(&self, ctx: &RepairCtx<'_>) -> Option<&Serving> {
        let is_there = |serving: &&Serving| ctx.shared.reaches(serving.peer) == Some(serving.incarnation);
        self.serving.as_ref().filter(|serving| serving.until > ctx.now()).filter(is_there)
    }

    /// A peer compares its records with this node's.
    pub fn on_request(&mut self, from: Origin, request: RepairRequest, ctx: &mut RepairCtx<'_>) {
        let now = ctx.now();
        let is_of = |serving: &Serving| serving.peer == from.node && serving.incarnation == from.incarnation;
        // A peer that is silent must not keep this node from those that are not. Else two nodes that each wait for a third
        // one might never compare with each other.
        let is_end = matches!(request, RepairRequest::End { .. });
        if !is_end && self.session.as_ref().is_some_and(Session::is_unanswered) {
            self.end(false, ctx);
        }
        let is_other = self.session.is_some() || self.served(ctx).is_some_and(|serving| !is_of(serving));
        if let RepairRequest::End { is_equal } = request {
            self.serving = self.serving.take().filter(|serving| !is_of(serving));
            if let Some(pair) = self.pairs.get_mut(&from.node).filter(|_| is_equal) {
                pair.equal_at = Some(now);
            }
            return;
        }
        let is_listing = matches!(request, RepairRequest::Records(_));
        if self.settings.is_none() || is_other || !self.may_compare(ctx) || is_listing && ctx.is_overloaded() {
            return answer(from, RepairAnswer::NotNow, ctx);
        }
        let until = now.after(REPAIR_SERVED_FOR);
        self.serving = Some(Serving { peer: from.node, incarnation: from.incarnation, until });
        match request {
            RepairRequest::Sums(parts) => {
                let sums = |part| self.leaves.sums(part, |slot| ctx.is_shared(slot, from.node));
                let sums = parts.into_iter().flat_map(sums).collect();
                answer(from, RepairAnswer::Sums(sums), ctx);
            }
            RepairRequest::Records(of) if self.served_reads.len() < REPAIR_SERVED_READS_MAX => {
                let range = of.range(|key| ctx.shared.node.layout.slot(key));
                let read = self.leaves.read(range, REPAIR_LISTED_KEYS_MAX, &mut ctx.shared.node);
                self.served_reads.insert(read, ServedRead { to: from, of });
            }
            RepairRequest::Records(_) => answer(from, RepairAnswer::NotNow, ctx),
            RepairRequest::End { .. } => {}
        }
    }
}

fn answer(to: Origin, answer: RepairAnswer, ctx: &mut RepairCtx<'_>) {
    ctx.shared.node.answer(to, Answer::Repair(answer));
}

/// The pause after a comparison that found something or was cut off.
fn again_after(settings: &RepairSettings) -> Duration {
    settings.every / 5
}

/// The records of a page that are meant, without those of dropped tables: nobody repairs them.
fn listed(page: SlotsPage, of: &RecordsOf, peer: NodeIndex, ctx: &RepairCtx<'_>) -> Marks {
    let (layout, replica) = (ctx.shared.node.layout, &*ctx.shared.replica);
    let looked_to = page.records.last().filter(|_| page.has_more).map(|record| record.key.clone());
    let is_meant = |SlotRecord { slot, key, digest }: &SlotRecord| {
        // Tombstones that may be forgotten are nothing, whether they are removed or not.
        of.has(layout.hash(key))
            && ctx.is_shared(*slot, peer)
            && !replica.is_dropped(key.table())
            && !digest.is_sealed_away(replica.seal(*slot))
    };
    let records = page.records.into_iter().filter(is_meant);
    let records = records.map(|record| (half_of(&record.key, &record.digest), record.key));
    Marks { records: records.map(|(mark, key)| (key, mark)).collect(), looked_to }
}
