//! A cluster of real protocol nodes that does only what a test tells it to: nothing is delivered, lost, made durable or
//! woken by itself, so that the very schedule that broke another system can be played step by step.
//!
//! Every operation is written down with its place in the play, and [`Cluster::assert_linearizable`] gives the whole to
//! the checker that the simulation uses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use quorate::protocol::news::{WatchId, WatchNews};
use quorate::protocol::placement::Placement;
use quorate::protocol::turn::{MemoryRead, Output, Turn};
use quorate::protocol::{
    Answer, Command, Failure, Input, ListPage, ListedKeys, Message, Node, ProtocolEvent, ReadId, RepairSettings, Reply,
    Request, RequestId, Setup, Time, message::OperationId,
};
use quorate::types::{
    Batch, Checksum, ClusterParameters, Content, Expiry, Found, Incarnation, Key, KeyRange, Lookup, Meta, NodeId,
    NodeIndex, ReadKind, Record, RunningTime, SlotsPage, Stamp, StoreId, TableId, Ttl, Value,
};

use crate::testkit::checker::{Action, Ending, Operation, STEPS_MAX, Verdict, check, describe, shorten};
use crate::testkit::index::first_keys;

mod at_random;
mod changes;
mod disk;
mod members;
mod repairs;
mod tombstones;

pub const N1: NodeIndex = NodeIndex(0);
pub const N2: NodeIndex = NodeIndex(1);
pub const N3: NodeIndex = NodeIndex(2);
pub const N4: NodeIndex = NodeIndex(3);
pub const N5: NodeIndex = NodeIndex(4);

/// How long each operation is given, where the test does not say.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Operators' requests are numbered from here: they are no part of the history.
const OPERATORS_FROM: usize = 1_000_000;

/// One message that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub from: NodeIndex,
    pub to: NodeIndex,
    pub message: Message,
    from_incarnation: Incarnation,
    to_incarnation: Option<Incarnation>,
}

impl Sent {
    /// The record that it asks to store.
    pub fn stores(&self) -> Option<&Record> {
        match &self.message {
            Message::Request { request: Request::Store { record, .. }, .. } => Some(record),
            _ => None,
        }
    }

    /// The record that it asks to accept.
    pub fn accepts(&self) -> Option<&Record> {
        match &self.message {
            Message::Request { request: Request::Accept { record, .. }, .. } => Some(record),
            _ => None,
        }
    }

    pub fn prepares(&self) -> bool {
        matches!(self.message, Message::Request { request: Request::Prepare { .. }, .. })
    }

    pub fn promises(&self) -> bool {
        matches!(self.message, Message::Answer { answer: Answer::Promised { .. }, .. })
    }

    /// Whether it is about changes, for watches.
    pub fn is_for_watches(&self) -> bool {
        matches!(
            self.message,
            Message::Request { request: Request::Follow { .. } | Request::Unfollow, .. }
                | Message::Answer { answer: Answer::Changes { .. } | Answer::ChangesLost, .. }
        )
    }

    /// The same, but for those of node 3, which some tests leave out.
    pub fn is_for_watches_of_followed(&self) -> bool {
        self.is_for_watches() && self.from != N3 && self.to != N3
    }

    /// Whether it asks for keys, for a list, or names them.
    pub fn is_for_lists(&self) -> bool {
        matches!(
            self.message,
            Message::Request { request: Request::Scan { .. }, .. } | Message::Answer { answer: Answer::Scanned(_), .. }
        )
    }

    /// Whether it acknowledges a store.
    pub fn is_acknowledgement(&self) -> bool {
        matches!(self.message, Message::Answer { answer: Answer::Stored, .. })
    }

    /// Whether it tells `to` what a replica holds.
    pub fn is_record_for(&self, to: NodeIndex) -> bool {
        self.to == to && matches!(self.message, Message::Answer { answer: Answer::Lookup { .. }, .. })
    }

    /// The operation that it belongs to.
    pub fn operation(&self) -> Option<OperationId> {
        match &self.message {
            Message::Request { operation, .. } | Message::Answer { operation, .. } => Some(*operation),
            _ => None,
        }
    }

    /// Whether it asks what a replica holds, and for nothing else.
    pub fn asks_to_read(&self) -> bool {
        matches!(self.message, Message::Request { request: Request::Get { .. }, .. })
    }

    pub fn is_answer(&self) -> bool {
        matches!(self.message, Message::Answer { .. })
    }

    pub fn is_hello(&self) -> bool {
        matches!(self.message, Message::Hello(_))
    }

    /// The round of its operation that it belongs to.
    pub fn asked_in_round(&self) -> Option<u32> {
        match &self.message {
            Message::Request { round, .. } | Message::Answer { round, .. } => Some(*round),
            _ => None,
        }
    }

    pub fn belongs_to_a_clock_round(&self) -> bool {
        matches!(
            self.message,
            Message::Request { request: Request::Clock, .. } | Message::Answer { answer: Answer::Clock(_), .. }
        )
    }
}

/// What becomes of a batch that was not durable yet when its node died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    Lost,
    Kept,
}

struct Host {
    node: Option<Node>,
    meta: Meta,
    records: BTreeMap<Key, Record>,
    index: BTreeSet<Key>,
    /// The most keys in one of its answers for a list.
    scan_keys_max: usize,
    kept_at: BTreeMap<Key, RunningTime>,
    expiries: BTreeSet<Expiry>,
    /// Batches wait for [`Cluster::let_disk_go`].
    disk_is_held: bool,
    is_readable: bool,
    at_disk: Option<Arc<Batch>>,
}

pub struct Cluster {
    placement: Arc<Placement>,
    pub key: Key,
    /// Another one with the same replicas. The history is about the first key alone.
    pub other_key: Key,
    watches: BTreeMap<WatchId, Vec<WatchNews>>,
    now: Time,
    hosts: Vec<Host>,
    /// What was sent and neither delivered nor lost, in the order of sending.
    network: Vec<Sent>,
    /// Every record that anybody ever asked anybody to store.
    stores: Vec<Sent>,
    notes: Vec<(NodeIndex, ProtocolEvent)>,
    /// The history; a request's number is its index.
    operations: Vec<Operation>,
    replies: BTreeMap<usize, Reply>,
    /// Counts what clients do: the time of the history.
    tick: u64,
    runs: u64,
    /// How long each operation is given.
    pub deadline: Duration,
    /// Operations ask a majority until time passes, as they do in earnest; else all are asked from the beginning.
    pub majority_is_asked_first: bool,
    /// An operator gives stamps by hand, so that two records may have one.
    stamps_are_given: bool,
    /// Messages may be damaged, so that they show clocks that no node has.
    pub messages_are_damaged: bool,
    repair: Option<RepairSettings>,
    /// What reads of slots have shown, while it waits for [`Cluster::let_slots_go`].
    held_slots: Option<Vec<(NodeIndex, ReadId, SlotsPage)>>,
    /// Keys that a node cannot list any more, because its store is damaged.
    pub damaged: BTreeSet<(NodeIndex, Key)>,
}

impl Cluster {
    /// Nodes 1 to `count`, each a replica of everything, that have all met.
    pub fn bootstrapped(count: u16) -> Self {
        Self::with_replicas(count, usize::from(count))
    }

    /// Nodes 1 to `count` that have all met. The first `replica_count` of them are the replicas of the key.
    pub fn with_replicas(count: u16, replica_count: usize) -> Self {
        Self::with(count, replica_count, None)
    }

    /// Nodes that repair so, or not at all.
    pub fn with(count: u16, replica_count: usize, repair: Option<RepairSettings>) -> Self {
        let node_ids = (1..=count).map(|n| NodeId::new(&n.to_string()).unwrap()).collect();
        let parameters = ClusterParameters::plain(0, replica_count, node_ids);
        let placement = Placement::new(parameters);
        let is_placed =
            |key: &Key| placement.replicas(placement.slot(key)).iter().all(|replica| replica.index() < replica_count);
        let names = std::iter::once("k".to_owned()).chain((0..).map(|n| format!("k{n}")));
        let mut keys = names.map(|name| Key::new(name).unwrap()).filter(is_placed);
        let (key, other_key) = (keys.next().unwrap(), keys.next().unwrap());
        let host = |n: u16| Host {
            node: None,
            meta: Meta::fresh(StoreId(u128::from(n) + 1)),
            records: BTreeMap::new(),
            index: BTreeSet::new(),
            scan_keys_max: usize::MAX,
            kept_at: BTreeMap::new(),
            expiries: BTreeSet::new(),
            disk_is_held: false,
            is_readable: true,
            at_disk: None,
        };
        let mut cluster = Self {
            hosts: (0..count).map(host).collect(),
            placement: Arc::new(placement),
            key,
            other_key,
            watches: BTreeMap::new(),
            now: Time(1_000_000),
            network: Vec::new(),
            stores: Vec::new(),
            notes: Vec::new(),
            operations: Vec::new(),
            replies: BTreeMap::new(),
            tick: 0,
            runs: 0,
            deadline: DEADLINE,
            majority_is_asked_first: false,
            stamps_are_given: false,
            messages_are_damaged: false,
            repair,
            held_slots: None,
            damaged: BTreeSet::new(),
        };
        let all = cluster.members();
        for member in &all {
            cluster.start(*member);
        }
        cluster.run(&all);
        for member in all {
            assert_eq!(cluster.node(member).unready(), None, "all have met");
        }
        cluster
    }

    pub fn members(&self) -> Vec<NodeIndex> {
        self.placement.parameters().members().collect()
    }

    pub fn node(&self, member: NodeIndex) -> &Node {
        self.hosts[member.index()].node.as_ref().expect("this node runs")
    }

    // Clients.

    /// Begins a write of `value`; nothing but what the node does by itself happens yet.
    pub fn write(&mut self, at: NodeIndex, value: u64) -> usize {
        let content = Content::Value(Value::Text(value.to_string().into()));
        let checksum = Checksum::of(&self.key, &content);
        self.begin(at, Action::Write { value }, Command::Set { key: self.key.clone(), content, ttl: None, checksum })
    }

    /// Begins a write of `value` to the other key.
    pub fn write_other(&mut self, at: NodeIndex, value: u64) -> usize {
        let key = std::mem::replace(&mut self.key, self.other_key.clone());
        let write = self.write(at, value);
        self.key = key;
        write
    }

    /// Begins a write of a `value` that expires.
    pub fn write_for(&mut self, at: NodeIndex, value: u64, ttl: Duration) -> usize {
        let content = Content::Value(Value::Text(value.to_string().into()));
        let ttl = Ttl::from_millis(u64::try_from(ttl.as_millis()).unwrap());
        let checksum = Checksum::of(&self.key, &content).and_ttl(ttl);
        let command = Command::Set { key: self.key.clone(), content, ttl, checksum };
        let write = self.begin(at, Action::Write { value }, command);
        // Its expiry is a delete that may take effect at any time, or never.
        let client = u32::try_from(self.operations.len()).unwrap();
        let (invoked, ending) = (self.tick, Ending::Unknown);
        self.operations.push(Operation { client, invoked, action: Action::Delete, ending, version: None });
        write
    }

    pub fn delete(&mut self, at: NodeIndex) -> usize {
        let checksum = Checksum::of(&self.key, &Content::Tombstone);
        let command = Command::Set { key: self.key.clone(), content: Content::Tombstone, ttl: None, checksum };
        self.begin(at, Action::Delete, command)
    }

    pub fn read(&mut self, at: NodeIndex) -> usize {
        self.begin(at, Action::Read { saw: None }, Command::Get { key: self.key.clone() })
    }

    /// Writes other keys, which are no part of the history, on all nodes.
    pub fn fill(&mut self, names: &[&str]) {
        let all = self.members();
        for name in names {
            let key = Key::new((*name).to_owned()).unwrap();
            let content = Content::Value(Value::Text("0".into()));
            let checksum = Checksum::of(&key, &content);
            let id = RequestId((OPERATORS_FROM + self.replies.len()) as u64);
            let deadline = self.now.after(DEADLINE);
            let command = Command::Set { key, content, ttl: None, checksum };
            self.input(N1, Some(Input::Request { id, deadline, command }));
            self.run(&all);
        }
    }

    /// From now on this node has so many keys at most in an answer for a list.
    pub fn scan_at_most(&mut self, host: NodeIndex, keys: usize) {
        self.hosts[host.index()].scan_keys_max = keys;
    }

    /// Whether each record of this node's disk has an entry in the index.
    pub fn index_is_whole(&self, host: NodeIndex) -> bool {
        let Host { records, index, .. } = &self.hosts[host.index()];
        records.keys().all(|key| index.contains(key))
    }

    /// Lists a page of all keys: a read of the key.
    pub fn list(&mut self, at: NodeIndex, keys_max: usize) -> usize {
        let page = ListPage { range: KeyRange::default(), keys_max, values: true };
        self.begin(at, Action::Read { saw: None }, Command::List(page))
    }

    /// An operator stores `value` on this replica alone, under a stamp of his own: no part of the history.
    pub fn store_on(&mut self, at: NodeIndex, value: u64, stamp: &Stamp) -> usize {
        self.stamps_are_given = true;
        let id = OPERATORS_FROM + self.replies.len();
        let content = Content::Value(Value::Text(value.to_string().into()));
        let (key, checksum) = (self.key.clone(), Checksum::of(&self.key, &content));
        let command = Command::NodeSet { key, content, checksum, stamp: Some(stamp.clone()) };
        let deadline = self.now.after(DEADLINE);
        self.input(at, Some(Input::Request { id: RequestId(id as u64), deadline, command }));
        id
    }

    /// Writes `value`, with the help of these nodes alone.
    pub fn write_among(&mut self, at: NodeIndex, among: &[NodeIndex], value: u64) -> Stamp {
        let write = self.write(at, value);
        self.run(among);
        self.stamp_of(write)
    }

    /// Reads, with the help of these nodes alone.
    pub fn read_among(&mut self, at: NodeIndex, among: &[NodeIndex]) -> Option<u64> {
        let read = self.read(at);
        self.run(among);
        self.seen_by(read)
    }

    pub fn reply_to(&self, operation: usize) -> Option<&Reply> {
        self.replies.get(&operation)
    }

    pub fn failure_of(&self, operation: usize) -> Option<&Failure> {
        match self.replies.get(&operation) {
            Some(Reply::Failed(failure)) => Some(failure),
            _ => None,
        }
    }

    #[track_caller]
    pub fn stamp_of(&self, write: usize) -> Stamp {
        match self.replies.get(&write) {
            Some(Reply::Set(version)) => version.stamp.clone(),
            other => panic!("the write is not acknowledged: {other:?}"),
        }
    }

    #[track_caller]
    pub fn seen_by(&self, read: usize) -> Option<u64> {
        match self.replies.get(&read) {
            Some(Reply::Record(record)) => record.as_ref().and_then(|record| value_of(&record.content)),
            Some(Reply::Listed(page)) if reaches(page, &self.key) => listed_value(page, &self.key),
            other => panic!("the read is not answered: {other:?}"),
        }
    }

    /// What was left of the time to live, as the last read was told that is answered.
    #[track_caller]
    pub fn ttl_left_to_last_read(&self) -> Duration {
        let read = self.replies.values().rev().find_map(|reply| match reply {
            Reply::Record(record) => record.as_ref(),
            _ => None,
        });
        read.and_then(quorate::types::AgedRecord::ttl_left).expect("it read a value that expires")
    }

    /// Everything that clients did and saw so far has an order that explains it.
    #[track_caller]
    pub fn assert_linearizable(&self) {
        let verdict = check(&self.operations, STEPS_MAX);
        let short = || shorten(&self.operations, STEPS_MAX).iter().map(describe).collect::<Vec<_>>();
        assert_eq!(verdict, Verdict::Linearizable, "{:#?}", short());
    }

    // What became of it.

    /// What is durable on a node's disk.
    pub fn on_disk(&self, host: NodeIndex) -> Option<&Record> {
        self.hosts[host.index()].records.get(&self.key)
    }

    pub fn value_on_disk(&self, host: NodeIndex) -> Option<u64> {
        self.on_disk(host).and_then(|record| value_of(&record.content))
    }

    /// Whether a drop of this table is durable on a node's disk.
    pub fn keeps_drop(&self, host: NodeIndex, table: TableId) -> bool {
        self.hosts[host.index()].meta.dropped.contains(&table)
    }

    /// Every message that ever asked to store this value.
    pub fn stores_of(&self, value: u64) -> Vec<&Sent> {
        let stores_it = |sent: &&Sent| sent.stores().is_some_and(|record| value_of(&record.content) == Some(value));
        self.stores.iter().filter(stores_it).collect()
    }

    pub fn wrote_back(&self, host: NodeIndex) -> bool {
        self.notes.contains(&(host, ProtocolEvent::ReadWroteBack))
    }

    pub fn met_a_stamp_conflict(&self, host: NodeIndex) -> bool {
        self.notes.iter().any(|(at, note)| *at == host && matches!(note, ProtocolEvent::StampConflict { .. }))
    }

    // The network.

    /// How many messages of this kind are on the way.
    pub fn count(&self, is_meant: impl Fn(&Sent) -> bool) -> usize {
        self.network.iter().filter(|sent| is_meant(sent)).count()
    }

    /// The link of `host` to `peer` breaks and comes back: it introduces itself anew.
    pub fn relink(&mut self, host: NodeIndex, peer: NodeIndex) {
        self.input(host, Some(Input::Unlinked(peer)));
        self.input(host, Some(Input::Linked(peer)));
    }

    /// Delivers what is on the way among these nodes, and what follows from it, until nothing is left. Nodes that are
    /// not named might as well be cut off or paused.
    pub fn run(&mut self, among: &[NodeIndex]) {
        self.deliver(|sent| among.contains(&sent.from) && among.contains(&sent.to));
    }

    /// Finishes clock rounds, and leaves what follows on the way.
    pub fn run_clock_rounds(&mut self) {
        self.deliver(Sent::belongs_to_a_clock_round);
    }

    /// Delivers all messages of this kind, in the order of sending, and those that they lead to.
    pub fn deliver(&mut self, is_meant: impl Fn(&Sent) -> bool) {
        let next = |cluster: &Self| {
            cluster.network.iter().position(|sent| cluster.hosts[sent.to.index()].node.is_some() && is_meant(sent))
        };
        while let Some(place) = next(self) {
            let sent = self.network.remove(place);
            self.arrives(sent);
        }
    }

    /// Takes messages out of the network: they are lost, unless they [`Cluster::arrives`] later.
    pub fn take(&mut self, is_meant: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        self.network.extract_if(.., |sent| is_meant(sent)).collect()
    }

    /// A message arrives, late or once more.
    pub fn arrives(&mut self, sent: Sent) {
        let Sent { from, to, message, from_incarnation, to_incarnation } = sent;
        self.input(to, Some(Input::Peer { from, from_incarnation, to_incarnation, message }));
    }

    // Time.

    pub fn now(&self) -> Time {
        self.now
    }

    /// Time passes, and these nodes notice it.
    pub fn pass(&mut self, span: Duration, who_wakes: &[NodeIndex]) {
        self.now = self.now.after(span);
        for host in who_wakes {
            if self.node(*host).next_wake().is_some_and(|at| at <= self.now) {
                self.input(*host, Some(Input::Wake));
            }
        }
    }

    // Disks and processes.

    /// From now on batches wait at this disk.
    pub fn hold_disk(&mut self, host: NodeIndex) {
        self.hosts[host.index()].disk_is_held = true;
    }

    /// Makes everything durable that waits at this disk, and what follows.
    pub fn let_disk_go(&mut self, host: NodeIndex) {
        self.hosts[host.index()].disk_is_held = false;
        if let Some(batch) = self.hosts[host.index()].at_disk.take() {
            self.empty(host, &batch);
            self.hosts[host.index()].apply(&batch);
            self.input(host, Some(Input::Persisted { durable: true }));
        }
    }

    /// The batch that waits at this disk becomes durable, and the next one waits.
    pub fn flush_disk(&mut self, host: NodeIndex) {
        let batch = self.hosts[host.index()].at_disk.take().expect("a batch waits");
        self.empty(host, &batch);
        self.hosts[host.index()].apply(&batch);
        self.input(host, Some(Input::Persisted { durable: true }));
    }

    /// From now on this disk can be read, or cannot.
    pub fn set_readable(&mut self, host: NodeIndex, is_readable: bool) {
        self.hosts[host.index()].is_readable = is_readable;
    }

    pub fn waits_at_disk(&self, host: NodeIndex) -> bool {
        self.hosts[host.index()].at_disk.is_some()
    }

    /// A node takes its own write to the disk, which fails and is reopened.
    pub fn fail_batch(&mut self, host: NodeIndex) {
        self.hold_disk(host);
        self.write(host, 0);
        self.run_clock_rounds();
        assert!(self.waits_at_disk(host), "its record is on its way to the disk");
        self.hosts[host.index()].disk_is_held = false;
        self.hosts[host.index()].at_disk = None;
        self.input(host, Some(Input::Persisted { durable: false }));
        let meta = self.hosts[host.index()].meta.clone();
        self.input(host, Some(Input::StoreReopened(meta)));
    }

    /// A node is to end.
    pub fn drain(&mut self, host: NodeIndex) {
        self.input(host, Some(Input::Drain));
    }

    /// A process dies, or its machine loses power.
    pub fn crash(&mut self, member: NodeIndex, unsynced: Unsynced) {
        let host = &mut self.hosts[member.index()];
        host.node = None;
        if let Some(batch) = host.at_disk.take()
            && unsynced == Unsynced::Kept
        {
            host.apply(&batch);
        }
        host.disk_is_held = false;
    }

    /// A process starts on the folder that is there; its peers see its links break and come back.
    pub fn start(&mut self, member: NodeIndex) {
        self.runs += 1;
        let (placement, addresses) = (Arc::clone(&self.placement), vec![members::ADDRESS.into(); self.hosts.len()]);
        let host = &mut self.hosts[member.index()];
        assert!(host.node.is_none(), "a folder is in use once");
        host.node = Some(Node::start(Setup {
            me: member,
            placement,
            addresses,
            joins: false,
            meta: host.meta.clone(),
            nonce: self.runs,
            started_at: self.now,
            repair: self.repair.clone(),
        }));
        self.input(member, None);
        for peer in self.members() {
            if peer != member && self.hosts[peer.index()].node.is_some() {
                self.relink(peer, member);
                self.input(member, Some(Input::Linked(peer)));
            }
        }
    }

    fn begin(&mut self, at: NodeIndex, action: Action, command: Command) -> usize {
        self.tick += 1;
        let index = self.operations.len();
        let client = u32::try_from(index).unwrap();
        let (invoked, ending) = (self.tick, Ending::Unknown);
        self.operations.push(Operation { client, invoked, action, ending, version: None });
        let id = RequestId(u64::from(client));
        self.input(at, Some(Input::Request { id, deadline: self.now.after(self.deadline), command }));
        if !self.majority_is_asked_first {
            self.hedge(at);
        }
        index
    }

    /// Rings the alarm of an operation that has asked a majority, so that everybody is asked: whose answers arrive is up
    /// to the test.
    fn hedge(&mut self, at: NodeIndex) {
        if let Some(alarm) = self.node(at).next_wake()
            && self.node(at).inspect().next_timer_hedges()
        {
            self.now = self.now.max(alarm);
            self.input(at, Some(Input::Wake));
        }
    }

    fn ends(&mut self, RequestId(id): RequestId, reply: Reply) {
        let index = usize::try_from(id).unwrap();
        if index >= OPERATORS_FROM {
            assert!(self.replies.insert(index, reply).is_none(), "an operator is answered once");
            return;
        }
        self.tick += 1;
        let operation = &mut self.operations[index];
        operation.ending = match &reply {
            Reply::Set(_) | Reply::Added { .. } | Reply::Record(_) | Reply::Failed(Failure::ConditionFailed { .. }) => {
                Ending::Returned(self.tick)
            }
            Reply::Listed(page) if reaches(page, &self.key) => Ending::Returned(self.tick),
            // It says nothing of the key.
            Reply::Listed(_) => Ending::Failed,
            Reply::Failed(Failure::OutcomeUnknown(_) | Failure::OutcomeForgotten) => Ending::Unknown,
            Reply::Failed(_) => Ending::Failed,
            // Those of tables are looked at where they are made.
            Reply::Table { .. } | Reply::Dropped => Ending::Returned(self.tick),
            Reply::Clock(_) | Reply::Members { .. } | Reply::Spread(_) => unreachable!("no test asks for it"),
        };
        match (&mut operation.action, &reply) {
            (Action::Read { saw }, Reply::Record(record)) => {
                *saw = record.as_ref().and_then(|record| value_of(&record.content));
            }
            (Action::Add { sum, .. }, Reply::Added { sum: made, .. }) => *sum = u64::try_from(*made).ok(),
            (action, Reply::Failed(Failure::ConditionFailed { has_value, .. })) => {
                *action = Action::Look { has_value: *has_value };
            }
            _ => {}
        }
        if let (Action::Read { saw }, Reply::Listed(page)) = (&mut operation.action, &reply) {
            *saw = listed_value(page, &self.key);
        }
        assert!(self.replies.insert(index, reply).is_none(), "an operation is answered once");
    }

    /// One turn of a node, and those that its disk's prompt answers lead to; `None` is a turn without an input.
    fn input(&mut self, member: NodeIndex, input: Option<Input>) {
        let mut inbox = VecDeque::from([input]);
        while let Some(input) = inbox.pop_front() {
            let Host { node: Some(node), records, kept_at, is_readable, .. } = &mut self.hosts[member.index()] else {
                return;
            };
            let from_incarnation = node.incarnation();
            let mut turn = Turn::new(node);
            if let Some(input) = input {
                turn.input(self.now, input);
            }
            let outputs = turn.end(self.now, |_, key, kind| {
                let lookup = match (records.get(key), kind) {
                    (None, _) => Lookup::Absent,
                    (Some(record), ReadKind::Digest) => Lookup::Digest(record.digest()),
                    (Some(record), ReadKind::Data) => Lookup::Record(record.clone()),
                };
                let found = Found { lookup, kept_at: kept_at.get(key).copied() };
                if *is_readable { MemoryRead::Done(found) } else { MemoryRead::Failed }
            });
            for output in outputs {
                match output {
                    Output::Persist(batch) => {
                        let host = &mut self.hosts[member.index()];
                        if host.disk_is_held {
                            host.at_disk = Some(batch);
                        } else {
                            self.empty(member, &batch);
                            self.hosts[member.index()].apply(&batch);
                            inbox.push_back(Some(Input::Persisted { durable: true }));
                        }
                    }
                    Output::Read { .. } => unreachable!("memory answers every read"),
                    Output::Scan { read, range, keys_max } => {
                        let Host { index, records, is_readable, scan_keys_max, .. } = &self.hosts[member.index()];
                        let keys_max = keys_max.min(*scan_keys_max);
                        let scanned = is_readable.then(|| first_keys(index, records, &range, keys_max));
                        inbox.push_back(Some(Input::ScanDone { read, scanned }));
                    }
                    Output::Measure { table } => {
                        let bytes = self.hosts[member.index()].bytes_of(table);
                        inbox.push_back(Some(Input::Measured(Some(bytes))));
                    }
                    Output::Clean { table, .. } => {
                        let removed = self.hosts[member.index()].clean(table, &self.placement);
                        inbox.push_back(Some(Input::Cleaned(Some(removed))));
                    }
                    Output::ReadSlots { read, range, entries_max } => {
                        inbox.extend(self.slots_read(member, read, &range, entries_max).map(Some));
                    }
                    Output::ReadExpiries { from, after, entries_max } => {
                        let is_wanted = |entry: &&Expiry| entry.at >= from && Some(*entry) > after.as_ref();
                        let page = self.hosts[member.index()]
                            .expiries
                            .iter()
                            .filter(is_wanted)
                            .take(entries_max)
                            .cloned()
                            .collect();
                        inbox.push_back(Some(Input::ExpiriesRead(Some(page))));
                    }
                    Output::Send { to, to_incarnation, message, .. } => {
                        let sent = Sent { from: member, to, message, from_incarnation, to_incarnation };
                        if sent.stores().is_some() {
                            self.stores.push(sent.clone());
                        }
                        self.network.push(sent);
                    }
                    Output::Reply { id, reply } => self.ends(id, reply),
                    Output::Watch { to, news } => {
                        for id in to {
                            self.watches.get_mut(&id).expect("it was opened").push(news.clone());
                        }
                    }
                    Output::Event(noted) => {
                        let cannot_be = matches!(noted, ProtocolEvent::StampConflict { .. } if !self.stamps_are_given)
                            || matches!(noted, ProtocolEvent::ClockJump { .. } if !self.messages_are_damaged);
                        assert!(!cannot_be, "{member:?} met what cannot be: {noted:?}");
                        self.notes.push((member, noted));
                    }
                }
            }
        }
    }
}

/// Whether a page of all keys has `key`, or says that it has no value.
fn reaches(page: &ListedKeys, key: &Key) -> bool {
    page.looked_to.as_ref().is_none_or(|looked_to| looked_to >= key)
}

fn listed_value(page: &ListedKeys, key: &Key) -> Option<u64> {
    let (_, listed) = page.keys.iter().find(|(listed, _)| listed == key)?;
    match &listed.found {
        Lookup::Record(record) => value_of(&record.content),
        Lookup::Digest(_) | Lookup::Absent => panic!("values were asked for: {listed:?}"),
    }
}

fn value_of(content: &Content) -> Option<u64> {
    match content {
        Content::Tombstone => None,
        Content::Value(value) => Some(std::str::from_utf8(value.bytes()).unwrap().parse().unwrap()),
    }
}
