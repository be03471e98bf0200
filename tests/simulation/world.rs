//! The simulated world: nodes that run the real protocol, the shell around each of them, and what is under way.
//!
//! Everything that happens is an event at a time, drawn from one seed; events of one time happen in the order in which
//! they were planned. A shell handles the inputs that have arrived in turns, as the server's does, and carries effects
//! out one by one, so that a crash can fall between any two.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use quorate::protocol::placement::Placement;
use quorate::protocol::{Input, ListedKeys, Message, Node, ReadId, Reply, Time};
use quorate::types::{
    Expiry, Incarnation, Key, KeyRange, NodeIndex, ReadKind, RunningTime, SlotRange, StoreId, TableId, Version,
};

use crate::clients::Clients;
use crate::counters::Counters;
use crate::disk::Disk;
use crate::links::Links;
use crate::members::Changes;
use crate::plan::{Plan, Span};
use crate::tables::Tables;
use crate::testkit::random::Random;
use crate::trace::Trace;
use crate::watch::Watch;
use crate::watchers::Watchers;

/// What is wrong with a run.
#[derive(Clone, Debug)]
pub struct Defect {
    pub at: u64,
    pub found_by: FoundBy,
    pub what: String,
}

/// What shows that a run is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// A history that no order explains.
    History,
    /// What must hold at every moment does not.
    Watch,
    /// What must succeed does not.
    Progress,
    /// The protocol's own assertion.
    Assertion,
}

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// A message arrives.
    Arrives {
        from: NodeIndex,
        from_incarnation: Incarnation,
        to: NodeIndex,
        to_incarnation: Option<Incarnation>,
        message: Message,
        sent_at: u64,
    },
    /// A shell gets an input, if it is still the run that it is meant for.
    Input {
        host: NodeIndex,
        run: u64,
        input: Input,
    },
    /// A shell handles what has arrived.
    Turn {
        host: NodeIndex,
        run: u64,
    },
    /// A shell was asked to wake its node.
    Wake {
        host: NodeIndex,
        run: u64,
    },
    /// A disk is read.
    Read {
        host: NodeIndex,
        run: u64,
        read: ReadId,
        key: Key,
        kind: ReadKind,
    },
    Scan {
        host: NodeIndex,
        run: u64,
        read: ReadId,
        range: KeyRange,
        keys_max: usize,
    },
    /// Records of a dropped table are removed.
    Clean {
        host: NodeIndex,
        run: u64,
        table: TableId,
        entries_max: usize,
    },
    /// The first records of some slots are read.
    ReadSlots {
        host: NodeIndex,
        run: u64,
        read: ReadId,
        range: SlotRange,
        entries_max: usize,
    },
    /// The index of expiries is read.
    ReadExpiries {
        host: NodeIndex,
        run: u64,
        from: RunningTime,
        after: Option<Expiry>,
        entries_max: usize,
    },
    /// A disk is done with the batch in flight.
    Persisted {
        host: NodeIndex,
        run: u64,
    },
    /// A store is opened again.
    Reopen {
        host: NodeIndex,
        run: u64,
    },
    /// A request reaches a node.
    Request {
        index: usize,
        deadline: u64,
    },
    /// An answer reaches a client; without one its connection broke.
    Reply {
        index: usize,
        reply: Option<Reply>,
    },
    /// A client gives up.
    GiveUp {
        index: usize,
    },
    /// A client may begin.
    Begin {
        client: usize,
    },
    /// A dead node starts.
    Start {
        host: NodeIndex,
    },
    /// A link is told to be up or down.
    Tell {
        host: NodeIndex,
        peer: NodeIndex,
        up: bool,
    },
    /// A watcher goes on.
    Watch {
        watcher: usize,
    },
    /// The operator gives an order, or a member loses its disk.
    Change,
    /// The operator looks, once all faults have stopped.
    Operate,
    /// The next fault.
    Fault,
    /// A cut heals; how often it is to come back, and after how long.
    Heal {
        pairs: Vec<(NodeIndex, NodeIndex)>,
        again: u32,
    },
    /// It comes back.
    Cut {
        pairs: Vec<(NodeIndex, NodeIndex)>,
        again: u32,
    },
    /// All faults stop.
    Calm,
    /// It is looked whether the live replicas hold the same.
    LooksLevel,
    /// Everything must work by now.
    AllWell,
    /// A minority dies for good, while operations go on.
    MinorityDies {
        victims: Vec<NodeIndex>,
    },
}

struct Planned {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    /// The earliest is the greatest, for the heap.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// What the run is about now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Faults,
    Recovery,
    AllWell,
    MinorityDead,
    /// Nobody asks for anything; the live replicas come to hold the same until then.
    BecomesLevel {
        until: u64,
    },
    Over,
}

/// One node's machine.
#[allow(clippy::struct_excessive_bools, reason = "each is something of its own that has happened")]
pub struct Host {
    /// The process, while it runs.
    pub node: Option<Node>,
    /// Counts processes.
    pub run: u64,
    pub inbox: Vec<Input>,
    pub turn_planned: bool,
    pub wake_planned: Option<u64>,
    pub paused_until: u64,
    /// The process dies after so many effects of its next turn.
    pub dies_after: Option<usize>,
    /// Whether its store had failed at some moment of its present turn.
    pub store_had_failed: bool,
    pub disk: Disk,
    /// It came back without what it had acknowledged.
    pub is_forgetful: bool,
    /// It was started to wait until it is a member.
    pub joins: bool,
    /// The indexes that it has of those that said hello to it.
    pub senders: BTreeMap<Incarnation, NodeIndex>,
    /// Requests that it has taken and not answered, and whether their record was sent or stored.
    pub taken: BTreeMap<usize, bool>,
}

/// One run.
pub struct World {
    pub plan: Plan,
    pub random: Random,
    pub now: u64,
    pub phase: Phase,
    order: u64,
    queue: BinaryHeap<Planned>,
    pub placement: Arc<Placement>,
    pub keys: Vec<Key>,
    pub hosts: Vec<Host>,
    pub links: Links,
    pub changes: Changes,
    pub clients: Clients,
    pub tables: Tables,
    /// The page that a client is being answered with, and its operation.
    pub page: Option<(usize, ListedKeys)>,
    pub watch: Watch,
    pub watchers: Watchers,
    /// Without it, only histories and progress are judged.
    pub is_watched: bool,
    pub counters: Counters,
    pub trace: Trace,
    pub defect: Option<Defect>,
    /// Nodes that clients may ask.
    pub asked: Vec<NodeIndex>,
}

impl World {
    pub fn new(plan: Plan, placement: Arc<Placement>, trace: Trace) -> Self {
        let mut random = Random::new(plan.seed);
        let hosts = (0..plan.nodes + plan.joiners)
            .map(|host| Host {
                node: None,
                run: 0,
                inbox: Vec::new(),
                turn_planned: false,
                wake_planned: None,
                paused_until: 0,
                dies_after: None,
                store_had_failed: false,
                disk: Disk::empty(random_identity(&mut random)),
                is_forgetful: false,
                joins: host >= plan.nodes,
                senders: BTreeMap::new(),
                taken: BTreeMap::new(),
            })
            .collect();
        let mut world = Self {
            random,
            now: 0,
            phase: Phase::Faults,
            order: 0,
            queue: BinaryHeap::new(),
            keys: (0..plan.keys).map(|n| Key::new(format!("key-{n}")).expect("this is a key")).collect(),
            hosts,
            links: Links::new(plan.nodes + plan.joiners),
            changes: Changes::of(plan.joiners > 0),
            page: None,
            clients: Clients::new(plan.clients),
            tables: Tables::new(&plan),
            watch: Watch::new(Arc::clone(&placement), plan.joiners),
            watchers: Watchers::new(plan.seed),
            is_watched: true,
            counters: Counters::default(),
            trace,
            defect: None,
            asked: (0..plan.nodes + plan.joiners).map(host_index).collect(),
            placement,
            plan,
        };
        world.begin();
        world
    }

    /// Runs to the end, or to the first defect.
    pub fn run(&mut self) {
        while self.defect.is_none()
            && self.phase != Phase::Over
            && let Some(Planned { at, event, .. }) = self.queue.pop()
        {
            self.now = at;
            self.trace.event(at, &event);
            self.happens(event);
        }
        self.counters.add("microseconds of simulated time", self.now);
    }

    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// All machines, members or not.
    pub fn members(&self) -> Vec<NodeIndex> {
        (0..self.hosts.len()).map(host_index).collect()
    }

    /// A key and a version that a client was told of it, as they are inside of the cluster.
    pub fn stored(&self, key: usize, version: &Version) -> (Key, Version) {
        (self.keys[key].clone().moved_to(version.table), version.clone().in_table(TableId::DEFAULT))
    }

    pub fn host(&mut self, host: NodeIndex) -> &mut Host {
        &mut self.hosts[host.index()]
    }

    /// The reading of the clock of `host` at a moment of the true time.
    pub fn time_of(&self, host: NodeIndex, at: u64) -> Time {
        Time(at * self.plan.rates[host.index()] / 1_000)
    }

    /// The first moment of the true time at which the clock of `host` says `time`.
    pub fn true_time_of(&self, host: NodeIndex, time: Time) -> u64 {
        (time.0 * 1_000).div_ceil(self.plan.rates[host.index()])
    }

    pub fn within(&mut self, span: Span) -> u64 {
        self.random.between(span.0, span.1)
    }

    pub fn plan_in(&mut self, wait: u64, event: Event) {
        self.plan_at(self.now + wait, event);
    }

    pub fn plan_at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Planned { at, order: self.order, event });
    }

    pub fn is_wrong(&mut self, what: String) {
        if self.is_watched {
            self.defect.get_or_insert(Defect { at: self.now, found_by: FoundBy::Watch, what });
        }
    }

    pub fn is_stuck(&mut self, what: String) {
        self.defect.get_or_insert(Defect { at: self.now, found_by: FoundBy::Progress, what });
    }

    pub fn check(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.is_wrong(what);
        }
    }

    fn begin(&mut self) {
        for host in self.members() {
            let wait = self.within((0, 20_000));
            self.plan_in(wait, Event::Start { host });
        }
        for client in 0..self.plan.clients {
            let wait = self.within((0, 200_000));
            self.plan_in(wait, Event::Begin { client });
        }
        if !self.plan.faults.is_empty() {
            let wait = self.within(self.plan.fault_every);
            self.plan_in(wait, Event::Fault);
        }
        if self.changes.is_on {
            let wait = self.within(self.plan.change_every);
            self.plan_in(wait, Event::Change);
        }
        self.begin_watchers();
        self.plan_at(self.plan.calm_at, Event::Calm);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives { from, from_incarnation, to, to_incarnation, message, sent_at } => {
                self.arrives(from, from_incarnation, to, to_incarnation, message, sent_at);
            }
            Event::Input { host, run, input } => self.input(host, run, input),
            Event::Turn { host, run } => self.turn(host, run),
            Event::Wake { host, run } => {
                if self.hosts[host.index()].run == run {
                    self.host(host).wake_planned = None;
                    self.plan_turn(host);
                }
            }
            Event::Read { host, run, read, key, kind } => {
                let Host { run: present, disk, .. } = &self.hosts[host.index()];
                if *present == run {
                    let lookup = (disk.unreadable_until <= self.now).then(|| disk.read(&key, kind));
                    if lookup.is_none() {
                        self.counters.count("a read of the disk failed");
                    }
                    let wait = if self.random.permille(800) { 0 } else { self.within(self.plan.read) };
                    self.plan_in(wait, Event::Input { host, run, input: Input::ReadDone { read, lookup } });
                }
            }
            Event::Scan { host, run, read, range, keys_max } => {
                let Host { run: present, disk, .. } = &self.hosts[host.index()];
                if *present == run {
                    let is_readable = disk.unreadable_until <= self.now;
                    // A store may always answer with less.
                    let keys_max = keys_max.min(*self.random.pick(&[1, 2, usize::MAX]));
                    let scanned = is_readable.then(|| self.hosts[host.index()].disk.scan(&range, keys_max));
                    let wait = if self.random.permille(800) { 0 } else { self.within(self.plan.read) };
                    self.plan_in(wait, Event::Input { host, run, input: Input::ScanDone { read, scanned } });
                }
            }
            Event::Clean { host, run, table, entries_max } => {
                if self.hosts[host.index()].run == run {
                    let entries_max = entries_max.min(*self.random.pick(&[1, 2, usize::MAX]));
                    let placement = Arc::clone(&self.placement);
                    let disk = &mut self.hosts[host.index()].disk;
                    let is_readable = disk.unreadable_until <= self.now;
                    let removed = is_readable.then(|| disk.clean(&placement, table, entries_max));
                    if !disk.folder.meta.dropped.contains(&table) {
                        self.is_wrong(format!("{host:?} removes table {table}, whose drop is not durable"));
                    }
                    if removed.as_ref().is_some_and(|removed| removed.records > 0) {
                        self.counters.count("records of a dropped table were removed");
                    }
                    self.input(host, run, Input::Cleaned(removed));
                }
            }
            Event::ReadSlots { host, run, read, range, entries_max } => {
                let Host { run: present, disk, .. } = &self.hosts[host.index()];
                if *present == run {
                    let is_readable = disk.unreadable_until <= self.now;
                    // A store may always end a page earlier.
                    let entries_max = entries_max.min(*self.random.pick(&[1, 2, usize::MAX]));
                    let disk = &self.hosts[host.index()].disk;
                    let page = is_readable.then(|| disk.slots(&self.placement, &range, entries_max));
                    let wait = if self.random.permille(800) { 0 } else { self.within(self.plan.read) };
                    self.plan_in(wait, Event::Input { host, run, input: Input::SlotsRead { read, page } });
                }
            }
            Event::ReadExpiries { host, run, from, after, entries_max } => {
                let Host { run: present, disk, .. } = &self.hosts[host.index()];
                if *present == run {
                    let is_readable = disk.unreadable_until <= self.now;
                    let page = is_readable.then(|| disk.expiries(from, after.as_ref(), entries_max));
                    self.input(host, run, Input::ExpiriesRead(page));
                }
            }
            Event::Persisted { host, run } => self.persisted(host, run),
            Event::Reopen { host, run } => self.reopen(host, run),
            Event::Request { index, deadline } => self.request(index, deadline),
            Event::Reply { index, reply } => self.reply(index, reply.as_ref()),
            Event::GiveUp { index } => self.give_up(index),
            Event::Begin { client } => self.begin_operation(client),
            Event::Start { host } => self.start(host),
            Event::Tell { host, peer, up } => {
                self.linked(host, peer, up);
            }
            Event::Watch { watcher } => self.watch(watcher),
            Event::Change => self.next_change(),
            Event::Operate => self.operate(),
            Event::Fault => self.next_fault(),
            Event::Heal { pairs, again } => self.heal(pairs, again),
            Event::Cut { pairs, again } => self.cut(pairs, again),
            Event::Calm => self.calm(),
            Event::LooksLevel => self.looks_level(),
            Event::AllWell => self.all_well(),
            Event::MinorityDies { victims } => {
                for victim in victims {
                    self.crash(victim, false);
                }
            }
        }
    }
}

fn host_index(host: usize) -> NodeIndex {
    NodeIndex(u16::try_from(host).expect("there are few machines"))
}

/// The operation that a request or a value is named after.
pub fn index_of(name: u64) -> usize {
    usize::try_from(name).expect("there are few operations")
}

/// A fresh folder's random name.
pub fn random_identity(random: &mut Random) -> StoreId {
    StoreId(u128::from(random.next()) << 64 | u128::from(random.next()))
}

/// A span of simulated time, for people.
pub fn seconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64()
}
