//! Clients that watch all keys: they go on elsewhere when their node ends, or by themselves, with their last cursor. What they
//! are told is judged at once, and once all faults have stopped: no write may be missing.
//!
//! Some are told first what is there. What they know of each key when they are ready is a read of the key, which joins its
//! history. So is what they know in the end.

use std::collections::BTreeMap;

use quorate::protocol::changes::Filter;
use quorate::protocol::news::{Cursor, ListFirst, WatchEvent, WatchId, WatchNews};
use quorate::protocol::quorum::majority;
use quorate::protocol::{Input, Listed};
use quorate::types::{Key, Lookup, NodeIndex, ReadKind, Record, Version};

use crate::clients::value_of;
use crate::testkit::random::Random;
use crate::testkit::requests::Outcome;
use crate::testkit::watching::Told;
use crate::world::{Event, Phase, World};

/// Of so many seeds, one has watchers.
const SEEDS: u64 = 4;
/// How long a watcher waits before it goes on elsewhere, in microseconds.
const STAYS: (u64, u64) = (20_000, 3_000_000);
/// Everything that ended so long ago must have been told, once nothing is in the way.
const TOLD_WITHIN: u64 = 5_000_000;
/// How long a watcher takes for a page, in microseconds.
const TAKES: (u64, u64) = (0, 30_000);

/// All watchers, with chances of their own, so that other runs are what they were.
pub struct Watchers {
    all: Vec<Watcher>,
    random: Random,
    watches: u64,
}

#[derive(Default)]
struct Watcher {
    /// Where it watches: the node, its process and the watch.
    at: Option<(NodeIndex, u64, WatchId)>,
    cursor: Cursor,
    told: Told,
    /// Whether it is told what is there.
    list: ListFirst,
    /// When that began, in the time of histories.
    list_began: u64,
    /// The keys that it knows to be there; values only where it was told them.
    known: BTreeMap<Key, (Option<u64>, Version)>,
    /// Its next move; an earlier plan is void.
    move_at: u64,
}

impl Watchers {
    pub fn new(seed: u64) -> Self {
        let count = if seed % SEEDS == 2 { 2 } else { 0 };
        let list = if seed % (2 * SEEDS) == 2 { ListFirst::Values } else { ListFirst::Keys };
        let lists = [ListFirst::No, list];
        let all = lists.into_iter().take(count).map(|list| Watcher { list, ..Watcher::default() }).collect();
        Self { all, random: Random::new(!seed), watches: 0 }
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        !self.all.is_empty()
    }
}

impl World {
    pub fn begin_watchers(&mut self) {
        for watcher in 0..self.watchers.all.len() {
            self.move_in(300_000, watcher);
        }
    }

    /// A watcher goes on, at any node.
    pub fn watch(&mut self, watcher: usize) {
        if !matches!(self.phase, Phase::Faults | Phase::Recovery) || self.watchers.all[watcher].move_at != self.now {
            return;
        }
        self.leave(watcher);
        let host = *self.watchers.random.pick(&self.asked);
        let run = self.hosts[host.index()].run;
        if self.hosts[host.index()].node.is_some() {
            self.watchers.watches += 1;
            let id = WatchId(self.watchers.watches);
            self.watchers.all[watcher].at = Some((host, run, id));
            let cursor = self.watchers.all[watcher].cursor.clone();
            self.counters.count(if cursor.0.is_empty() { "a watch began" } else { "a watch went on with a cursor" });
            let list = self.watchers.all[watcher].list;
            if cursor.0.is_empty() {
                self.begins_list(watcher);
            }
            self.input(host, run, Input::Watch { id, filter: Filter::Prefix("".into()), cursor, list });
        }
        let stays = self.watchers.random.between(STAYS.0, STAYS.1);
        // Once all is well, it stays where it is.
        if self.phase == Phase::Faults || self.watchers.all[watcher].at.is_none() {
            self.move_in(stays, watcher);
        }
    }

    fn move_in(&mut self, wait: u64, watcher: usize) {
        self.watchers.all[watcher].move_at = self.now + wait;
        self.plan_in(wait, Event::Watch { watcher });
    }

    fn leave(&mut self, watcher: usize) {
        if let Some((host, run, id)) = self.watchers.all[watcher].at.take() {
            self.input(host, run, Input::Unwatch(id));
        }
    }

    /// The process that some watchers watched through has ended.
    pub fn watchers_lose(&mut self, host: NodeIndex) {
        for watcher in 0..self.watchers.all.len() {
            if self.watchers.all[watcher].at.as_ref().is_some_and(|(at, ..)| *at == host) {
                self.watchers.all[watcher].at = None;
                self.move_in(50_000, watcher);
            }
        }
    }

    /// `host` tells its watches of an event.
    pub fn tells(&mut self, host: NodeIndex, run: u64, to: &[WatchId], news: &WatchNews) {
        for id in to {
            let is_meant = |watcher: &Watcher| watcher.at == Some((host, run, *id));
            let Some(watcher) = self.watchers.all.iter().position(is_meant) else { continue };
            self.watchers.all[watcher].cursor = news.cursor.clone();
            match &news.event {
                WatchEvent::Ready => {
                    let tick = self.clients.tick();
                    self.watchers.all[watcher].told.is_ready(tick);
                    if news.cursor == Cursor::default() {
                        self.is_wrong(format!("a watch is ready without a cursor: {news:?}"));
                    }
                    let began = self.watchers.all[watcher].list_began;
                    self.knows_what_is_there(watcher, host, began);
                }
                WatchEvent::Listed(page) => {
                    self.is_told_page(watcher, page);
                    let wait = self.watchers.random.between(TAKES.0, TAKES.1);
                    let input = Input::WatchPageTaken(*id);
                    self.plan_in(wait, Event::Input { host, run, input });
                }
                WatchEvent::Reset => {
                    self.counters.count("a watch was reset");
                    self.watchers.all[watcher].told.is_reset();
                    self.begins_list(watcher);
                }
                WatchEvent::Heartbeat => {}
                WatchEvent::Changed { key, version, record } => {
                    self.is_told(watcher, key, version);
                    if self.watchers.all[watcher].list != ListFirst::No && news.cursor == Cursor::default() {
                        self.counters.count("a watch was told of a change before it was told all that is there");
                    }
                    let value = record.as_ref().filter(|record| record.is_value());
                    let value = value.map(|record| (value_in(record), version.clone()));
                    let known = &mut self.watchers.all[watcher].known;
                    match value {
                        Some(value) => known.insert(key.clone(), value),
                        None => known.remove(key),
                    };
                }
                WatchEvent::TableDropped => unreachable!("nobody watches a created table"),
                WatchEvent::Ended => {
                    self.watchers.all[watcher].at = None;
                    self.move_in(50_000, watcher);
                }
            }
        }
    }

    /// The events that a watcher was told so far no longer count.
    fn begins_list(&mut self, watcher: usize) {
        let tick = self.clients.next_tick(self.now);
        let watcher = &mut self.watchers.all[watcher];
        watcher.list_began = tick;
        watcher.known.clear();
    }

    fn is_told_page(&mut self, watcher: usize, page: &[(Key, Listed)]) {
        self.counters.count("a watch was told a page of what is there");
        for (key, listed) in page {
            let (value, version) = match &listed.found {
                Lookup::Record(record) => (value_in(record), record.version()),
                Lookup::Digest(digest) => (None, digest.version()),
                Lookup::Absent => return self.is_wrong(format!("a watch is told {key}, which is not there")),
            };
            self.is_told(watcher, key, &version);
            self.watchers.all[watcher].known.insert(key.clone(), (value, version));
        }
    }

    /// A watcher's knowledge of each key is a read that began at `invoked`, and ends now.
    fn knows_what_is_there(&mut self, watcher: usize, host: NodeIndex, invoked: u64) {
        if self.watchers.all[watcher].list == ListFirst::No {
            return;
        }
        self.counters.count("a watch knows what is there");
        for (place, key) in self.keys.iter().enumerate() {
            let known = self.watchers.all[watcher].known.get(key).cloned();
            self.clients.knows((watcher, host), place, invoked, Outcome::Listed(known), self.now);
        }
    }

    fn is_told(&mut self, watcher: usize, key: &Key, version: &Version) {
        self.counters.count("a watch was told of a change");
        if let Err(what) = self.watchers.all[watcher].told.change(key, version) {
            self.is_wrong(what);
        }
        let replicas = self.placement.replicas(self.placement.slot(key)).to_vec();
        let holds = |replica: &&NodeIndex| {
            let held = self.hosts[replica.index()].disk.read(key, ReadKind::Digest).lookup.digest();
            held.is_some_and(|held| held.version() >= *version)
        };
        // Who makes a majority changes with the members: histories show whether it was one.
        let has_forgotten =
            self.changes.is_on || replicas.iter().any(|replica| self.hosts[replica.index()].is_forgetful);
        if !has_forgotten && replicas.iter().filter(holds).count() < majority(replicas.len()) {
            self.is_wrong(format!("a watch was told {version} of {key}, which no majority holds"));
        }
    }

    /// All is well: everything was told.
    pub fn watchers_know_all(&mut self) {
        for watcher in 0..self.watchers.all.len() {
            let Watcher { told, at, .. } = &self.watchers.all[watcher];
            if told.since().is_none() {
                self.is_stuck(format!("watcher {watcher} at {at:?} is not ready once all faults have stopped"));
                return;
            }
            let missed = self.clients.operations.iter().find(|done| {
                let (Outcome::Wrote(version) | Outcome::Added { version, .. }) = &done.outcome else { return false };
                // A request that was sent again may have taken effect in its first attempt.
                let called = self.clients.operations[done.first].invoked;
                let is_over = done.ended_at.is_some_and(|at| at + TOLD_WITHIN <= self.now);
                is_over && told.misses(&self.keys[done.key], version, called)
            });
            if let Some(missed) = missed {
                let told = told.last(&self.keys[missed.key]);
                self.is_wrong(format!("watcher {watcher} was told {told:?} and never of {missed:?}"));
                return;
            }
            self.counters.count("a watch was told everything");
            if let Some((host, ..)) = *at {
                let invoked = self.clients.tick_at(self.now.saturating_sub(TOLD_WITHIN));
                self.knows_what_is_there(watcher, host, invoked);
            }
        }
        for watcher in 0..self.watchers.all.len() {
            self.leave(watcher);
        }
    }
}

fn value_in(record: &Record) -> Option<u64> {
    value_of(&record.content).ok().flatten()
}
