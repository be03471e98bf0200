//! The reads of keys that were announced: one of a key at a time, for all watches of the node.
//!
//! Contract: a read counts the answers of the replicas that announced the key. The others may not have the record yet, and
//! it may come to be acknowledged through one that is not followed. A read's answer is told to all watches of the key. So
//! what a node tells of a key comes from reads that follow each other, and is in the order in which it happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::limits::{WATCH_KEYS_WAITING_MAX, WATCH_READS_MAX};
use crate::mutants::rule;
use crate::protocol::context::{Caller, Task};
use crate::protocol::coordinator::ops::GetWith;
use crate::protocol::io::{Failure, QuorumReport, ReplicaStatus, Reply};
use crate::protocol::layout::Layout;
use crate::types::{Key, NodeIndex, Record, Version};

use super::hub::{WatchCtx, Watches, is_news};
use super::reads::{Announced, Announcement, Announcements, Asked};
use super::streams::GroupId;

/// How long a key that one replica has announced waits for a majority to announce it. A read before that would find the
/// replicas in disagreement, and would store the record itself.
const MAJORITY_MAX: Duration = Duration::from_millis(5);
/// How long a read may take. A replica that announced a key and does not answer by then covers no watch any more.
const READ_MAX: Duration = Duration::from_secs(3);
/// The pause after a read that failed.
const READ_AGAIN: Duration = Duration::from_millis(100);

impl Watches {
    /// `node` has announced a record of `key` to a group.
    pub(super) fn announced(
        &mut self,
        id: GroupId,
        node: NodeIndex,
        number: u64,
        key: &Key,
        version: &Version,
        ctx: &mut WatchCtx<'_>,
    ) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if !is_news(group.last.get(key), version) {
            return;
        }
        if rule!(WatchTellsUnread, false, not true) {
            self.tell(id, key, version, (None, u64::MAX), ctx);
            return;
        }
        let Some(stream) = group.streams.get_mut(&node) else { return };
        let (now, key) = (ctx.now(), key.detached());
        let announced = self.reads.keys.entry(key.clone()).or_insert_with(|| Announced {
            wants: BTreeMap::new(),
            due: now,
            asked: None,
            again: false,
        });
        let is_first = announced.wants.is_empty();
        if let Some(want) = announced.wants.get_mut(&(id, node)) {
            want.version = version.clone();
        } else {
            stream.pending.insert(number);
            announced.wants.insert((id, node), Announcement { number, version: version.clone() });
        }
        let is_by_majority = announced.is_by_majority(&key, ctx.layout());
        if is_by_majority || is_first {
            self.reads.schedule(&key, if is_by_majority { now } else { now.after(MAJORITY_MAX) });
        }
    }

    /// Drops what these streams have announced.
    pub(super) fn forget_announced(&mut self, is_meant: impl Fn(GroupId, NodeIndex) -> bool) {
        let merged = self.reads.forget(is_meant);
        self.counted_with_earlier(merged);
    }

    fn counted_with_earlier(&mut self, merged: Vec<((GroupId, NodeIndex), u64)>) {
        for ((group, node), number) in merged {
            if let Some(stream) = self.stream(group, node) {
                stream.pending.remove(&number);
            }
        }
    }

    /// Begins the reads that are due.
    pub(super) fn start_reads(&mut self, ctx: &mut WatchCtx<'_>) {
        let now = ctx.now();
        while self.reads.tasks.len() < WATCH_READS_MAX
            && let Some((due, key)) = self.reads.due.first().cloned()
            && due <= now
        {
            self.reads.due.pop_first();
            let Some(announced) = self.reads.keys.get_mut(&key) else { continue };
            let again = std::mem::take(&mut announced.again);
            let mut wants = std::mem::take(&mut announced.wants);
            // Another read is under way only where a rule is broken.
            wants.extend(announced.asked.take().map(|asked| asked.wants).unwrap_or_default());
            // One that is no replica of the key any more is not asked: the others tell what counts now.
            let replicas = ctx.layout().replicas(ctx.layout().slot(&key));
            let tellers = wants.keys().map(|(_, node)| *node).filter(|node| replicas.contains(node));
            let tellers: BTreeSet<NodeIndex> = tellers.collect();
            self.reads.last_task += 1;
            let task = self.reads.last_task;
            announced.asked = Some(Asked { task, wants, again });
            self.reads.tasks.insert(task, key.clone());
            let read = GetWith::new(rule!(WatchReadsAnyMajority, tellers, not BTreeSet::new()));
            ctx.coordinator.start(
                Caller::Task(Task::Watch(task)),
                now.after(READ_MAX),
                key,
                read.into(),
                &mut ctx.shared,
            );
        }
    }

    /// A read has ended.
    pub fn on_read(&mut self, task: u64, reply: Reply, ctx: &mut WatchCtx<'_>) {
        let Some(key) = self.reads.tasks.remove(&task) else { return };
        let Some(announced) = self.reads.keys.get_mut(&key) else { return };
        match reply {
            Reply::Record(record) => {
                let is_present = announced.asked.as_ref().is_some_and(|asked| asked.task == task);
                let asked = if is_present { announced.asked.take() } else { None };
                self.told(&key, asked.map(|asked| asked.wants).unwrap_or_default(), (record.as_deref(), task), ctx);
            }
            Reply::Failed(failure) => {
                let Some(asked) = announced.asked.take_if(|asked| asked.task == task) else { return };
                announced.again |= asked.again;
                self.read_again(&key, asked.wants, &failure, ctx);
            }
            other => unreachable!("a read is answered with a record, not {other:?}"),
        }
        if self.is_full && self.reads.waiting() <= WATCH_KEYS_WAITING_MAX / 2 {
            self.is_full = false;
            let held = |(group, node): &(GroupId, NodeIndex), watches: &mut Self| {
                watches.stream(*group, *node).is_some_and(|stream| stream.holds_back())
            };
            let streams: Vec<(GroupId, NodeIndex)> = self.streams.values().copied().collect();
            for stream in streams {
                if held(&stream, self) {
                    self.ask(stream.0, stream.1, ctx);
                }
            }
        }
        self.start_reads(ctx);
    }

    /// `key` was read: what was asked for is told with the answer, and so is what was announced of the same version.
    fn told(&mut self, key: &Key, asked: Announcements, read: (Option<&Record>, u64), ctx: &mut WatchCtx<'_>) {
        let (record, task) = read;
        let version = record.map_or_else(Version::absent, Record::version);
        for group in self.index.matching(key) {
            self.hold_cursors(group, key, &version, task);
        }
        let mut done: Vec<((GroupId, NodeIndex), u64)> =
            asked.into_iter().map(|(stream, want)| (stream, want.number)).collect();
        if let Some(announced) = self.reads.keys.get_mut(key) {
            let same = announced.wants.extract_if(.., |_, want| want.version == version);
            done.extend(same.map(|(stream, want)| (stream, want.number)));
            if announced.wants.is_empty() && announced.asked.is_none() {
                self.reads.due.remove(&(announced.due, key.clone()));
                self.reads.keys.remove(key);
            } else if !announced.wants.is_empty() {
                let now = ctx.now();
                let at = if announced.is_by_majority(key, ctx.layout()) { now } else { now.after(MAJORITY_MAX) };
                self.reads.schedule(key, at);
            }
        }
        for ((group, node), number) in done {
            if let Some(stream) = self.stream(group, node) {
                stream.pending.remove(&number);
            }
        }
        let mut are_younger = false;
        for group in self.index.matching(key) {
            are_younger |= self.tell(group, key, &version, read, ctx);
        }
        if are_younger {
            self.read_once_more(key, ctx);
        }
    }

    /// Reads `key` although nobody has announced it. A read that is under way does not count.
    pub(super) fn read_once_more(&mut self, key: &Key, ctx: &WatchCtx<'_>) {
        let now = ctx.now();
        let announced = Announced { wants: BTreeMap::new(), due: now, asked: None, again: true };
        self.reads.keys.entry(key.clone()).or_insert(announced).again = true;
        self.reads.schedule(key, now);
    }

    /// A read has failed: the replicas that announced the key and did not answer cover nothing any more.
    fn read_again(&mut self, key: &Key, asked: Announcements, failure: &Failure, ctx: &mut WatchCtx<'_>) {
        if self.index.matching(key).is_empty() {
            // Its watches have ended meanwhile. Where this node was removed, the read would fail for ever.
            return self.reads.forget_key(key);
        }
        let silent = silent(failure, ctx.layout());
        let broken: Vec<(GroupId, NodeIndex)> =
            asked.keys().filter(|(_, node)| silent.contains(node)).copied().collect();
        if let Some(announced) = self.reads.keys.get_mut(key) {
            let merged = announced.put_back(asked);
            self.reads.schedule(key, ctx.now().after(READ_AGAIN));
            self.counted_with_earlier(merged);
        }
        for (group, node) in broken {
            self.break_stream(group, node, ctx);
        }
    }
}

/// The replicas that did not answer an operation that failed.
pub(super) fn silent(failure: &Failure, layout: &Layout) -> BTreeSet<NodeIndex> {
    let Failure::NoQuorum(QuorumReport { replicas, .. }) = failure else { return BTreeSet::new() };
    let silent = replicas.iter().filter(|(_, said)| *said != ReplicaStatus::Answered);
    silent.filter_map(|(id, _)| layout.member(id)).collect()
}
