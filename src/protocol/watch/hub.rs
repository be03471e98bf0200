//! The watches of a node: which nodes cover them, and what they are told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::limits::{WATCH_KEYS_REMEMBERED_BYTES_MAX, WATCH_KEYS_REMEMBERED_MAX, WATCH_KEYS_WAITING_MAX};
use crate::mutants::{must, rule};
use crate::types::{Incarnation, Key, NodeIndex, Record, TableId, Version};

use crate::protocol::changes::{Change, Filter};
use crate::protocol::context::Origin;
use crate::protocol::coordinator::{Coordinator, CoordinatorCtx};
use crate::protocol::io::{Effect, Time};
use crate::protocol::layout::Layout;
use crate::protocol::listing::Listing;
use crate::protocol::message::{Answer, Message, OperationId, Request};
use crate::protocol::news::{Cursor, ListFirst, WatchEvent, WatchId, WatchNews};

use super::feed::Feed;
use super::filter::FilterIndex;
use super::pages::{List, Pages};
use super::reads::Reads;
use super::streams::{Group, GroupId, Reached, Stream};
use super::untold::Untold;

/// How often streams and watches that wait for time to pass are looked at.
const TICK: Duration = Duration::from_millis(250);
/// The time between two heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// How long a watch that a majority covers waits for the other nodes that can be reached. A node that comes later never
/// covers it.
const OTHERS_MAX: Duration = Duration::from_millis(500);

/// One node's watches, and the changes of its own replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watches {
    feed: Feed,
    pub(super) clients: BTreeMap<WatchId, Watch>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// The last name given to a group.
    last_group: u64,
    /// The groups that are about a key.
    pub(super) index: FilterIndex<GroupId>,
    /// The group that a new watch of a filter joins.
    shared: BTreeMap<Filter, GroupId>,
    pub(super) streams: BTreeMap<OperationId, (GroupId, NodeIndex)>,
    pub(super) reads: Reads,
    pub(super) pages: Pages,
    /// Whether streams hold back because too many keys wait to be read.
    pub(super) is_full: bool,
    /// The keys whose last version is remembered, the oldest first.
    remembered: VecDeque<(GroupId, Key)>,
    remembered_bytes: usize,
    /// Whether these nodes hold a majority of the replicas of each slot.
    majorities: BTreeMap<BTreeSet<NodeIndex>, bool>,
    tick_at: Time,
    heartbeat_at: Time,
}

/// The watch of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watch {
    pub(super) group: GroupId,
    /// The nodes whose changes it was told since it began, or since its cursor.
    pub(super) covers: BTreeSet<NodeIndex>,
    pub(super) stage: Stage,
    /// The last read that began before it was opened here, or was told a page. Its answer may be older than what
    /// the client was told elsewhere.
    pub(super) opened_after: u64,
    /// How far it was told what is there, where it is told that.
    pub(super) list: Option<List>,
    /// The keys that are read for it once more.
    pub(super) untold: Untold,
}

/// What watches of one group have in common that get the same cursor: what covers them, their stages, and how far their
/// cursors are held back.
type Alike<'a> = (&'a BTreeSet<NodeIndex>, Stage, &'a Cursor);

impl Watch {
    /// How far it was told everything.
    fn cursor(&self, group: &Group) -> Cursor {
        self.untold.bound(self.stage.cursor(group, &self.covers))
    }

    /// Whether `key` is to come with a page.
    fn is_yet_to_list(&self, key: &Key) -> bool {
        self.stage == Stage::Listing && self.list.as_ref().is_some_and(|list| !list.has_told(key))
    }

    fn alike(&self) -> Alike<'_> {
        (&self.covers, self.stage, self.untold.told_to())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stage {
    /// It waits for nodes to cover it, since this time.
    Opening(Time),
    /// It goes on with a cursor, and waits for nodes whose histories reach back.
    Resuming,
    /// A majority covers it, and it is told what is there. It is the only watch of its group.
    Listing,
    /// A majority covers it.
    Ready,
}

impl Stage {
    /// The cursor of a watch of `group` that these nodes cover; none where it was not told everything.
    fn cursor(self, group: &Group, covers: &BTreeSet<NodeIndex>) -> Cursor {
        match self {
            Self::Opening(_) | Self::Listing => Cursor::default(),
            Self::Resuming | Self::Ready => group.cursor(covers),
        }
    }
}

/// What the watches use of their node.
#[derive(Debug)]
pub struct WatchCtx<'a> {
    /// Reads the keys that were announced.
    pub coordinator: &'a mut Coordinator,
    /// Reads what is there.
    pub listing: &'a mut Listing,
    /// What the coordinator uses.
    pub shared: CoordinatorCtx<'a>,
}

impl WatchCtx<'_> {
    pub(super) fn now(&self) -> Time {
        self.shared.node.now
    }

    fn me(&self) -> NodeIndex {
        self.shared.node.me
    }

    pub(super) fn layout(&self) -> &Layout {
        self.shared.node.layout
    }

    fn reaches(&self, node: NodeIndex) -> Option<Incarnation> {
        self.shared.reaches(node)
    }

    pub(super) fn emit(&mut self, to: Vec<WatchId>, cursor: Cursor, event: WatchEvent) {
        if !to.is_empty() {
            self.shared.node.effects.push(Effect::Watch { to, news: WatchNews { cursor, event } });
        }
    }
}

impl Watches {
    /// How many keys were announced and are still to be read.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.reads.waiting()
    }

    /// Whether there are no watches, and nothing that one left behind.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.clients.is_empty() && self.groups.is_empty() && self.streams.is_empty() && self.reads.waiting() == 0
    }

    // The own replica.

    /// `key` has a durable record on the own replica.
    pub fn changed(&mut self, key: &Key, version: impl FnOnce() -> Version, now: Time) {
        self.feed.changed(key, version, now);
    }

    /// A batch of the own replica failed, or the store was reopened: what became durable is not known.
    pub fn changes_unknown(&mut self) {
        self.feed.forget();
    }

    /// A coordinator asks for the changes of the own replica.
    pub fn follow(&mut self, from: Origin, filter: &Filter, next: Option<u64>, ctx: &mut WatchCtx<'_>) {
        if let Some(answer) = self.feed.on_request(from, filter, next, ctx.now()) {
            ctx.shared.node.answer(from, answer);
        }
    }

    /// A coordinator needs no more changes of the own replica.
    pub fn unfollow(&mut self, from: Origin) {
        self.feed.on_end(from);
    }

    // Clients.

    /// A client watches, from `cursor` on where it has one. Where it has none, or that is lost, it is told first what is there,
    /// as `list` says.
    pub fn open(&mut self, id: WatchId, filter: &Filter, cursor: &Cursor, list: ListFirst, ctx: &mut WatchCtx<'_>) {
        let now = ctx.now();
        if self.clients.is_empty() {
            (self.tick_at, self.heartbeat_at) = (now.after(TICK), now.after(HEARTBEAT_EVERY));
        }
        let filter = filter.detached();
        let (is_new, list) = (cursor.0.is_empty(), List::of(list));
        let is_shared = is_new && list.is_none();
        let joined = if is_shared { self.shared.get(&filter).copied() } else { None };
        let group = joined.unwrap_or_else(|| self.add_group(filter, cursor, is_shared, ctx));
        let opened_after = self.reads.last_task;
        let Some(joined) = self.groups.get_mut(&group) else { return };
        joined.members.insert(id);
        let watch = if is_new {
            let untold = Untold::default();
            Watch { group, covers: joined.live(), stage: Stage::Opening(now), opened_after, list, untold }
        } else {
            let covers = cursor.0.keys().filter(|node| joined.streams.contains_key(node)).copied().collect();
            Watch { group, covers, stage: Stage::Resuming, opened_after, list, untold: Untold::default() }
        };
        self.clients.insert(id, watch);
        self.ask_all_of(group, ctx);
        self.review(id, ctx);
    }

    /// Asks the nodes of a group that were not asked yet.
    fn ask_all_of(&mut self, id: GroupId, ctx: &mut WatchCtx<'_>) {
        let Some(group) = self.groups.get(&id) else { return };
        let nodes: Vec<NodeIndex> = group.streams.keys().copied().collect();
        for node in nodes {
            if self.stream(id, node).is_some_and(|stream| stream.round == 0) {
                self.ask(id, node, ctx);
            }
        }
    }

    /// A client watches no longer.
    pub fn close(&mut self, id: WatchId, ctx: &mut WatchCtx<'_>) {
        let Some(watch) = self.clients.remove(&id) else { return };
        if let Some(group) = self.groups.get_mut(&watch.group) {
            group.members.remove(&id);
            if group.members.is_empty() {
                self.remove_group(watch.group, ctx);
            }
        }
    }

    /// All watches end: this node takes no requests.
    pub fn end_all(&mut self, ctx: &mut WatchCtx<'_>) {
        let all: Vec<WatchId> = self.clients.keys().copied().collect();
        for id in all {
            let cursor = self.cursor(id);
            ctx.emit(vec![id], cursor, WatchEvent::Ended);
            self.close(id, ctx);
        }
    }

    /// The table that a stream is about; `None` where `operation` is no stream.
    #[must_use]
    pub fn table_of(&self, operation: OperationId) -> Option<TableId> {
        let (group, _) = self.streams.get(&operation)?;
        self.groups.get(group).map(|group| group.filter.table())
    }

    /// The watches of a dropped table end.
    pub fn end_table(&mut self, table: TableId, ctx: &mut WatchCtx<'_>) {
        let groups = self.groups.values().filter(|group| group.filter.table() == table);
        let members: Vec<WatchId> = groups.flat_map(|group| group.members.iter().copied()).collect();
        for id in members {
            ctx.emit(vec![id], Cursor::default(), WatchEvent::TableDropped);
            self.close(id, ctx);
        }
    }

    pub(super) fn cursor(&self, id: WatchId) -> Cursor {
        let Some(watch) = self.clients.get(&id) else { return Cursor::default() };
        let Some(group) = self.groups.get(&watch.group) else { return Cursor::default() };
        watch.cursor(group)
    }

    // Groups and their streams.

    fn add_group(&mut self, filter: Filter, cursor: &Cursor, is_shared: bool, ctx: &mut WatchCtx<'_>) -> GroupId {
        self.last_group += 1;
        let id = GroupId(self.last_group);
        let nodes = nodes_of(&filter, ctx);
        let mut streams = BTreeMap::new();
        for node in nodes {
            let operation = ctx.coordinator.next_id();
            self.streams.insert(operation, (id, node));
            streams.insert(node, Stream::new(operation, cursor.0.get(&node).copied()));
        }
        if is_shared {
            self.shared.insert(filter.clone(), id);
        }
        self.index.insert(&filter, id);
        let group = Group { filter, members: BTreeSet::new(), streams, last: BTreeMap::new(), is_shared };
        self.groups.insert(id, group);
        id
    }

    fn remove_group(&mut self, id: GroupId, ctx: &mut WatchCtx<'_>) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.index.remove(&group.filter, id);
        if group.is_shared {
            self.shared.remove(&group.filter);
        }
        self.forget_announced(|wanted, _| wanted == id);
        for (node, stream) in group.streams {
            self.streams.remove(&stream.operation);
            let Some(incarnation) = ctx.reaches(node) else { continue };
            let (operation, round) = (stream.operation, stream.round);
            if node == ctx.me() {
                let number = ctx.layout().number();
                self.feed.on_end(Origin { node, incarnation, operation, round, number });
            } else if stream.incarnation == Some(incarnation) {
                let number = ctx.layout().number();
                let message = Message::Request { operation, round, number, request: Request::Unfollow };
                ctx.shared.node.send(node, Some(incarnation), message);
            }
        }
    }

    pub(super) fn stream(&mut self, group: GroupId, node: NodeIndex) -> Option<&mut Stream> {
        self.groups.get_mut(&group)?.streams.get_mut(&node)
    }

    /// Asks `node` for its next changes.
    pub(super) fn ask(&mut self, id: GroupId, node: NodeIndex, ctx: &mut WatchCtx<'_>) {
        let (now, reached) = (ctx.now(), ctx.reaches(node));
        let Some(group) = self.groups.get_mut(&id) else { return };
        let filter = group.filter.clone();
        let Some(stream) = group.streams.get_mut(&node) else { return };
        match stream.reach(reached, now) {
            Reached::Wait => return,
            Reached::Break => return self.break_stream(id, node, ctx),
            Reached::Ask => {}
        }
        let (operation, round, next) = (stream.operation, stream.ask(now), stream.number);
        let Some(incarnation) = stream.incarnation else { return };
        if node == ctx.me() {
            let from = Origin { node, incarnation, operation, round, number: ctx.layout().number() };
            if let Some(answer) = self.feed.on_request(from, &filter, next, now) {
                self.on_answer(node, operation, round, answer, ctx);
            }
        } else {
            let (number, request) = (ctx.layout().number(), Request::Follow { filter, next });
            let message = Message::Request { operation, round, number, request };
            ctx.shared.node.send(node, Some(incarnation), message);
        }
    }

    /// A configuration is adopted: members that came are followed, and cover no watch that began before; those that went cover
    /// none any more.
    pub fn reconfigure(&mut self, ctx: &mut WatchCtx<'_>) {
        self.majorities.clear();
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in groups {
            let Some(group) = self.groups.get(&id) else { continue };
            let nodes = nodes_of(&group.filter, ctx);
            let gone: Vec<NodeIndex> = group.streams.keys().copied().filter(|node| !nodes.contains(node)).collect();
            let come: Vec<NodeIndex> = nodes.into_iter().filter(|node| !group.streams.contains_key(node)).collect();
            for node in gone {
                self.forget_stream(id, node);
            }
            for node in come {
                let operation = ctx.coordinator.next_id();
                self.streams.insert(operation, (id, node));
                if let Some(group) = self.groups.get_mut(&id) {
                    group.streams.insert(node, Stream::new(operation, None));
                }
                self.ask(id, node, ctx);
            }
        }
        let watches: Vec<WatchId> = self.clients.keys().copied().collect();
        for watch in watches {
            self.review(watch, ctx);
        }
    }

    /// `node` is no member any more, or no replica of what the group follows.
    fn forget_stream(&mut self, id: GroupId, node: NodeIndex) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if let Some(stream) = group.streams.remove(&node) {
            self.streams.remove(&stream.operation);
        }
        for member in group.members.clone() {
            if let Some(watch) = self.clients.get_mut(&member) {
                watch.covers.remove(&node);
            }
        }
        self.forget_announced(|group, of| (group, of) == (id, node));
    }

    /// The changes of `node` have a gap: it covers no watch any longer that began before. Its changes are followed anew.
    pub(super) fn break_stream(&mut self, id: GroupId, node: NodeIndex, ctx: &mut WatchCtx<'_>) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(stream) = group.streams.get_mut(&node) else { return };
        stream.restart();
        let members: Vec<WatchId> = group.members.iter().copied().collect();
        for member in &members {
            if let Some(watch) = self.clients.get_mut(member) {
                must!(ResubscribedCounts, watch.covers.remove(&node));
            }
        }
        self.forget_announced(|group, of| (group, of) == (id, node));
        for member in members {
            self.review(member, ctx);
        }
        self.ask(id, node, ctx);
    }

    /// `from` answers a stream.
    pub fn on_answer(
        &mut self,
        from: NodeIndex,
        operation: OperationId,
        round: u32,
        answer: Answer,
        ctx: &mut WatchCtx<'_>,
    ) {
        let Some((id, node)) = self.streams.get(&operation).copied() else { return };
        let Some(stream) = self.stream(id, node) else { return };
        if node != from || !stream.counts(round) {
            return;
        }
        stream.heard();
        let Answer::Changes { from: first, to, changes } = answer else { return self.break_stream(id, node, ctx) };
        let position = *stream.number.get_or_insert(to);
        // A repeated answer, or one that came too late.
        if first > position || to < position {
            return;
        }
        let (is_first, is_latest) = (!std::mem::replace(&mut stream.is_live, true), round == stream.round);
        stream.number = Some(to);
        if is_latest {
            stream.answered();
        }
        for Change { number, key, version } in changes {
            if number >= position {
                self.announced(id, node, number, &key, &version, ctx);
            }
        }
        if is_first {
            let members = self.groups.get(&id).map(|group| group.members.clone()).unwrap_or_default();
            for member in members {
                self.review(member, ctx);
            }
        }
        self.is_full |= self.reads.waiting() >= WATCH_KEYS_WAITING_MAX;
        if is_latest && !self.is_full {
            self.ask(id, node, ctx);
        }
    }

    // Watches.

    /// Looks at what covers a watch, and tells it what follows.
    fn review(&mut self, id: WatchId, ctx: &mut WatchCtx<'_>) {
        let Some(watch) = self.clients.get(&id) else { return };
        let (group, stage, covers) = (watch.group, watch.stage, watch.covers.clone());
        let Some(Group { filter, streams, .. }) = self.groups.get(&group) else { return };
        let filter = filter.clone();
        let live: BTreeSet<NodeIndex> =
            streams.iter().filter(|(_, stream)| stream.is_live).map(|(node, _)| *node).collect();
        let is_all = streams.iter().all(|(node, stream)| stream.is_live || ctx.reaches(*node).is_none());
        let (stage, covers) = match stage {
            Stage::Resuming | Stage::Listing | Stage::Ready if !self.is_majority(&filter, &covers, ctx) => {
                ctx.emit(vec![id], Cursor::default(), WatchEvent::Reset);
                if let Some(watch) = self.clients.get_mut(&id) {
                    watch.untold = Untold::default();
                }
                if self.begins_anew_apart(id, ctx) {
                    return;
                }
                (Stage::Opening(ctx.now()), live)
            }
            Stage::Opening(_) => (stage, live),
            Stage::Resuming | Stage::Listing | Stage::Ready => (stage, covers),
        };
        let is_ready = match stage {
            Stage::Opening(since) => {
                (is_all || ctx.now() >= since.after(OTHERS_MAX)) && self.is_majority(&filter, &covers, ctx)
            }
            Stage::Resuming => {
                let answered: BTreeSet<NodeIndex> = covers.intersection(&self.live(group)).copied().collect();
                self.is_majority(&filter, &answered, ctx)
            }
            Stage::Listing | Stage::Ready => false,
        };
        let Some(watch) = self.clients.get_mut(&id) else { return };
        watch.covers = covers;
        if is_ready && watch.list.is_some() && matches!(stage, Stage::Opening(_)) {
            self.begin_list(id);
            self.start_pages(ctx);
            return;
        }
        watch.stage = if is_ready { Stage::Ready } else { stage };
        if is_ready {
            let cursor = self.cursor(id);
            ctx.emit(vec![id], cursor, WatchEvent::Ready);
        }
    }

    /// A watch that is told what is there begins anew. It leaves a group that it shares, because others were told of other
    /// keys. Says whether it did.
    fn begins_anew_apart(&mut self, id: WatchId, ctx: &mut WatchCtx<'_>) -> bool {
        let now = ctx.now();
        let Some(watch) = self.clients.get_mut(&id) else { return false };
        let Some(list) = &mut watch.list else { return false };
        list.restart();
        let old = watch.group;
        let Some(Group { filter, is_shared: true, .. }) = self.groups.get(&old) else { return false };
        let filter = filter.clone();
        let group = self.add_group(filter, &Cursor::default(), false, ctx);
        if let Some(watch) = self.clients.get_mut(&id) {
            (watch.group, watch.covers, watch.stage) = (group, BTreeSet::new(), Stage::Opening(now));
        }
        if let Some(group) = self.groups.get_mut(&group) {
            group.members.insert(id);
        }
        if let Some(group) = self.groups.get_mut(&old) {
            group.members.remove(&id);
            if group.members.is_empty() {
                self.remove_group(old, ctx);
            }
        }
        self.ask_all_of(group, ctx);
        true
    }

    fn live(&self, group: GroupId) -> BTreeSet<NodeIndex> {
        self.groups.get(&group).map(Group::live).unwrap_or_default()
    }

    /// Whether `nodes` hold a majority of the replicas of each slot that `filter` is about.
    fn is_majority(&mut self, filter: &Filter, nodes: &BTreeSet<NodeIndex>, ctx: &WatchCtx<'_>) -> bool {
        /// How many sets of nodes are remembered.
        const SETS_MAX: usize = 256;
        let layout = ctx.layout();
        let holds = |slot| {
            let tally = layout.tally(slot);
            tally.is_quorum(tally.set_of(nodes.iter().copied()))
        };
        let is_majority = match filter {
            Filter::Key(key) => holds(layout.slot(key)),
            Filter::Prefix(_) => {
                if let Some(known) = self.majorities.get(nodes) {
                    *known
                } else {
                    let mut slots = layout.distinct_slots().iter();
                    let is_majority = slots.all(|slot| holds(*slot));
                    if self.majorities.len() >= SETS_MAX {
                        self.majorities.clear();
                    }
                    self.majorities.insert(nodes.clone(), is_majority);
                    is_majority
                }
            }
        };
        rule!(WatchWithoutMajority, is_majority)
    }

    /// Read `task` has answered that `key` has this version. The watches of `group` that were opened, or told a page, since it
    /// began are not told: the key is read for them once more. Until then their cursors stay where they are.
    pub(super) fn hold_cursors(&mut self, id: GroupId, key: &Key, version: &Version, task: u64) {
        let Some(group) = self.groups.get(&id).filter(|group| is_news(group.last.get(key), version)) else { return };
        for member in &group.members {
            let Some(watch) = self.clients.get_mut(member) else { continue };
            if watch.opened_after >= task && !watch.is_yet_to_list(key) {
                let told_to = group.cursor(&watch.covers);
                must!(CursorAheadOfSecondRead, watch.untold.add(key.clone(), told_to));
            }
        }
    }

    /// Tells the watches of `group` that `key` has this record, unless they were told. Read `task` has answered so; a watch that
    /// was opened since it began is not told. Says whether there are any such watches, for which the key is to be read again.
    pub(super) fn tell(
        &mut self,
        id: GroupId,
        key: &Key,
        version: &Version,
        (record, task): (Option<&Record>, u64),
        ctx: &mut WatchCtx<'_>,
    ) -> bool {
        let Some(group) = self.groups.get_mut(&id) else { return false };
        for member in &group.members {
            if let Some(watch) = self.clients.get_mut(member).filter(|watch| watch.opened_after < task) {
                watch.untold.is_told(key);
            }
        }
        if !is_news(group.last.get(key), version) {
            return false;
        }
        if let Some(watch) = group.members.first().filter(|_| !group.is_shared).and_then(|id| self.clients.get_mut(id))
            && watch.is_yet_to_list(key)
            && let Some(list) = &mut watch.list
        {
            list.note_change(key);
            return false;
        }
        // Most watches of a group are covered by the same nodes, and get the same cursor.
        let mut told: BTreeMap<Alike<'_>, Vec<WatchId>> = BTreeMap::new();
        let mut are_younger = false;
        for member in &group.members {
            match self.clients.get(member) {
                Some(watch) if watch.opened_after >= task => are_younger = true,
                Some(watch @ Watch { stage: Stage::Ready | Stage::Resuming | Stage::Listing, .. }) => {
                    told.entry(watch.alike()).or_default().push(*member);
                }
                _ => {}
            }
        }
        for to in told.into_values() {
            let Some(watch) = to.first().and_then(|first| self.clients.get(first)) else { continue };
            let event = WatchEvent::Changed { key: key.clone(), version: version.clone(), record: record.cloned() };
            let cursor = watch.cursor(group);
            ctx.emit(to, cursor, event);
        }
        // Watches that were told are told twice where others are to be told yet.
        if !are_younger {
            self.remember(id, key, version.clone());
        }
        are_younger
    }

    /// The watches of `group` were told of this version of `key` last.
    pub(super) fn remember(&mut self, id: GroupId, key: &Key, version: Version) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.last.insert(key.clone(), version).is_none() {
            self.remembered.push_back((id, key.clone()));
            self.remembered_bytes += key.as_bytes().len();
        }
        self.forget_oldest();
    }

    /// A version that is forgotten may be told twice.
    fn forget_oldest(&mut self) {
        while self.remembered.len() > WATCH_KEYS_REMEMBERED_MAX
            || self.remembered_bytes > WATCH_KEYS_REMEMBERED_BYTES_MAX
        {
            let Some((group, key)) = self.remembered.pop_front() else { return };
            self.remembered_bytes -= key.as_bytes().len();
            if let Some(group) = self.groups.get_mut(&group) {
                group.last.remove(&key);
            }
        }
    }

    // Time and turns.

    /// Gives the answers that this turn's changes make due, and reads what is to be read.
    pub fn flush(&mut self, ctx: &mut WatchCtx<'_>) {
        loop {
            let answers = self.feed.answers();
            if answers.is_empty() {
                break;
            }
            for (origin, answer) in answers {
                if origin.node == ctx.me() {
                    self.on_answer(origin.node, origin.operation, origin.round, answer, ctx);
                } else {
                    ctx.shared.node.answer(origin, answer);
                }
            }
        }
        self.start_reads(ctx);
    }

    /// `peer` may have become reachable, or has restarted.
    pub fn on_peer(&mut self, peer: NodeIndex, ctx: &mut WatchCtx<'_>) {
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        for group in groups {
            self.ask(group, peer, ctx);
        }
    }

    /// When [`Watches::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let tick = (!self.clients.is_empty()).then_some(self.tick_at);
        [tick, self.reads.next_due()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn on_wake(&mut self, ctx: &mut WatchCtx<'_>) {
        let now = ctx.now();
        if !self.clients.is_empty() && self.tick_at <= now {
            self.tick_at = now.after(TICK);
            self.tick(ctx);
        }
        self.start_reads(ctx);
    }

    fn tick(&mut self, ctx: &mut WatchCtx<'_>) {
        let now = ctx.now();
        let streams: Vec<(GroupId, NodeIndex)> = self.streams.values().copied().collect();
        for (group, node) in streams {
            let (is_full, is_reached) = (self.is_full, ctx.reaches(node).is_some());
            let is_due = |stream: &mut Stream| !is_reached || stream.is_late(now) && !(is_full && stream.holds_back());
            if self.stream(group, node).is_some_and(is_due) {
                self.ask(group, node, ctx);
            }
        }
        let waiting = self.clients.iter().filter(|(_, watch)| watch.stage != Stage::Ready);
        let waiting: Vec<WatchId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.review(id, ctx);
        }
        self.retry_pages(ctx);
        let apart = self.groups.iter().filter(|(_, group)| !group.is_shared);
        let apart: Vec<GroupId> = apart.map(|(id, _)| *id).collect();
        for group in apart {
            self.join_others(group, ctx);
        }
        if self.heartbeat_at <= now {
            self.heartbeat_at = now.after(HEARTBEAT_EVERY);
            for group in self.groups.values() {
                let mut told: BTreeMap<Alike<'_>, Vec<WatchId>> = BTreeMap::new();
                for member in &group.members {
                    if let Some(watch @ Watch { stage: Stage::Ready | Stage::Listing, .. }) = self.clients.get(member) {
                        told.entry(watch.alike()).or_default().push(*member);
                    }
                }
                for to in told.into_values() {
                    let Some(watch) = to.first().and_then(|first| self.clients.get(first)) else { continue };
                    let cursor = watch.cursor(group);
                    ctx.emit(to, cursor, WatchEvent::Heartbeat);
                }
            }
        }
    }

    /// A watch that went on with a cursor joins the others of its filter, once it was told all that they were. Before that,
    /// its changes are followed for it alone.
    fn join_others(&mut self, id: GroupId, ctx: &mut WatchCtx<'_>) {
        let Some(group) = self.groups.get(&id) else { return };
        let is_told = group.streams.values().all(|stream| stream.pending.is_empty());
        let Some(member) = group.members.first().copied().filter(|_| is_told) else { return };
        let Some(Watch { covers, stage: Stage::Ready, .. }) = self.clients.get(&member) else { return };
        let filter = group.filter.clone();
        let Some(shared) = self.shared.get(&filter).copied() else {
            self.shared.insert(filter, id);
            if let Some(group) = self.groups.get_mut(&id) {
                group.is_shared = true;
            }
            return;
        };
        let Some(others) = self.groups.get(&shared) else { return };
        let is_reached = |node: &NodeIndex| {
            let (Some(own), Some(other)) = (group.streams.get(node), others.streams.get(node)) else { return false };
            own.is_live && other.is_live && own.incarnation == other.incarnation && own.number >= other.number
        };
        if !covers.iter().all(is_reached) {
            return;
        }
        let Some(others) = self.groups.get_mut(&shared) else { return };
        others.members.insert(member);
        // The others may have been told of a record before it was announced, and would not be told again.
        others.last.clear();
        if let Some(watch) = self.clients.get_mut(&member) {
            watch.group = shared;
        }
        self.remove_group(id, ctx);
    }
}

/// Whether a record of `version` is to be told after that of `last`. Reads of a key follow each other, and versions of its
/// records rise while tombstones are kept: another version is a later one.
pub(super) fn is_news(last: Option<&Version>, version: &Version) -> bool {
    last != Some(version)
}

/// The nodes whose changes are followed for a filter.
fn nodes_of(filter: &Filter, ctx: &WatchCtx<'_>) -> Vec<NodeIndex> {
    match filter {
        Filter::Key(key) => ctx.layout().replicas(ctx.layout().slot(key)).to_vec(),
        Filter::Prefix(_) => ctx.layout().members().to_vec(),
    }
}
