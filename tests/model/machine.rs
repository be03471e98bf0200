//! One node's machine: the real [`Node`], its disk, and the shell between the two, as one step at a time.
//!
//! A step is a function of the machine and of what happens to it, and of nothing else. It is therefore computed once
//! and looked up ever after: the many states of a whole cluster are combinations of few states of its nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quorate::protocol::placement::Placement;
use quorate::protocol::turn::{Link, MemoryRead, Output, Turn};
use quorate::protocol::{
    Answer, Command, Failure, HelloRefusal, Input, Message, Node, OperationId, ProtocolEvent, ReadId, Refusal, Reply,
    Request, RequestId, Setup, Time, Unready,
};
use quorate::types::{
    Ballot, Batch, Checksum, Clock, Content, Digest, Incarnation, Key, Lookup, Meta, NodeIndex, ReadKind, Record, Slot,
    Stamp, StoreId, TableId,
};

use crate::milestones::{self, Milestones};
use crate::shared::Shared;
use crate::testkit::giving_up::{Coordinator, may_give_up};
use crate::testkit::index::slots_page;

/// The position of a record in the order of all records: its stamp, and the ballot of a conditional write.
pub type Tag = (Stamp, Option<Ballot>);

/// Time stands still, apart from alarms that are made to ring.
const NOW: Time = Time(0);
/// No operation ends for lack of time; that a client goes away is a step of its own.
const DEADLINE: Time = Time(u64::MAX);

/// The one key.
pub fn key() -> Key {
    Key::new("k").expect("this is a key")
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    pub from: NodeIndex,
    pub from_incarnation: Incarnation,
    pub to: NodeIndex,
    pub to_incarnation: Option<Incarnation>,
    pub message: Message,
}

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Arrives(Shared<Envelope>),
    Request {
        id: RequestId,
        command: Command,
    },
    /// The batch at the disk is durable, and the node is told so.
    Persisted,
    /// The batch at the disk is durable and can be read; the node is not told yet.
    Lands,
    /// The batch at the disk fails; it is on the disk all the same, or it is not.
    Fails {
        all_the_same: bool,
    },
    /// The store is opened again after a failure.
    Reopened,
    /// The first read of the store that waits is answered.
    ReadsDone,
    /// The next alarm rings.
    Wakes,
    /// The next alarm of a change of members rings.
    MembersWake,
    Linked(NodeIndex),
    /// The process dies and starts again; the batch at the disk, if there is one, became durable or did not.
    Restarts {
        kept: bool,
    },
    /// It dies, and starts again with an empty folder.
    LosesItsDisk,
    /// It dies, and starts again with the copy of its folder that was taken before its present incarnation.
    ReturnsToTheCopy,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// One stamp names two records.
    Stamp(String),
    /// A clock is below what its node acknowledged.
    Clock(String),
    /// Something was said that is not durable, or a greater record was replaced.
    Durable(String),
    /// A node that forgot what it acknowledged takes part.
    Silence(String),
    /// An answer leaves on a link that does not lead to the incarnation that asked.
    Link(String),
    /// An operation is given up early, and too few replicas have refused for good.
    GivingUp(String),
    /// The node itself found that something is wrong with it.
    Panic(String),
}

/// What a step changes.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub machine: Shared<Machine>,
    pub sent: Vec<Shared<Envelope>>,
    pub replies: Vec<(RequestId, Reply)>,
    /// Records that were sent or given to the disk.
    pub named: BTreeSet<(Tag, Checksum)>,
    pub milestones: Milestones,
    pub defect: Option<Defect>,
}

/// All that a node has when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Folder {
    pub meta: Meta,
    /// That of the one key; with a table, those of its name and of the counter of creations too.
    pub records: BTreeMap<Key, Record>,
}

impl Folder {
    fn empty(store_id: StoreId) -> Self {
        Self { meta: Meta::fresh(store_id), records: BTreeMap::new() }
    }

    fn read(&self, key: &Key, kind: ReadKind) -> Lookup {
        match (self.records.get(key), kind) {
            (None, _) => Lookup::Absent,
            (Some(record), ReadKind::Digest) => Lookup::Digest(record.digest()),
            (Some(record), ReadKind::Data) => Lookup::Record(record.clone()),
        }
    }
}

/// One node's whole machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    pub node: Node,
    pub folder: Folder,
    pub at_disk: Option<Arc<Batch>>,
    /// The batch at the disk has become durable, and the node does not know.
    pub landed: bool,
    /// A batch that failed and is on the disk all the same, to be seen once the store is reopened.
    hidden: Option<Arc<Batch>>,
    /// Reads of the store that wait.
    pub loads: VecDeque<(ReadId, Key, ReadKind)>,
    incarnations: u64,
    /// The folder as it was when the present incarnation began.
    pub copy: Option<Arc<Folder>>,
    /// It came back without what it had acknowledged.
    pub is_forgetful: bool,
    /// The greatest clock that it has acknowledged or shown, over all of its lives.
    acknowledged: Clock,
    /// What it was asked to keep in this incarnation, and has not answered.
    asked: Vec<(NodeIndex, Incarnation, OperationId, u32, Asked)>,
}

/// What a request asks to keep.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Asked {
    Record(Key, Tag),
    Drop(Vec<TableId>),
    Seal(Slot, Clock),
}

impl Asked {
    fn by(request: &Request) -> Option<Self> {
        match request {
            Request::Store { key, record, .. } | Request::Accept { key, record, .. } => {
                Some(Self::Record(key.clone(), tag(&record.digest())))
            }
            Request::Drop { tables } => Some(Self::Drop(tables.clone())),
            Request::Seal { slot, seal } => Some(Self::Seal(*slot, *seal)),
            _ => None,
        }
    }
}

/// How machines are modelled.
#[derive(Clone, Debug)]
pub struct Shell {
    pub placement: Arc<Placement>,
    /// Where each node is reached; needed where members change.
    pub addresses: Vec<Arc<str>>,
    /// Reads of the store are steps of their own; else each is answered at once.
    pub loads_wait: bool,
    /// Copies of folders are kept.
    pub copies: bool,
}

impl Machine {
    /// A machine with an empty folder, at its first start.
    pub fn fresh(me: NodeIndex, shell: &Shell) -> Shared<Self> {
        let folder = Folder::empty(StoreId(u128::from(me.0) + 1));
        let setup = Setup {
            me,
            placement: Arc::clone(&shell.placement),
            addresses: shell.addresses.clone(),
            joins: false,
            meta: folder.meta.clone(),
            nonce: 1,
            started_at: NOW,
            repair: None,
        };
        let machine = Self {
            node: Node::start(setup),
            folder,
            at_disk: None,
            landed: false,
            hidden: None,
            loads: VecDeque::new(),
            incarnations: 1,
            copy: None,
            is_forgetful: false,
            acknowledged: Clock::default(),
            asked: Vec::new(),
        };
        let mut step = Step::new(machine, shell);
        step.turn(NOW, None);
        step.done().machine
    }

    /// Whether the epoch of its present incarnation is not durable yet.
    pub fn is_starting(&self) -> bool {
        self.node.unready() == Some(Unready::Starting)
    }

    pub fn step(&self, event: &Event, shell: &Shell) -> Outcome {
        let step = || {
            let mut step = Step::new(self.clone(), shell);
            step.happens(event);
            step.done()
        };
        // An assertion that fails is a defect like any other, and has a trace that leads to it.
        catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            let mut step = Step::new(self.clone(), shell);
            step.is_wrong(Defect::Panic(what.to_owned()));
            step.done()
        })
    }
}

/// One step in the making.
struct Step<'a> {
    machine: Machine,
    shell: &'a Shell,
    sent: Vec<Shared<Envelope>>,
    replies: Vec<(RequestId, Reply)>,
    named: BTreeSet<(Tag, Checksum)>,
    milestones: Milestones,
    defect: Option<Defect>,
}

impl<'a> Step<'a> {
    fn new(machine: Machine, shell: &'a Shell) -> Self {
        let (sent, replies) = (Vec::new(), Vec::new());
        Self { machine, shell, sent, replies, named: BTreeSet::new(), milestones: 0, defect: None }
    }

    fn done(self) -> Outcome {
        let Self { machine, sent, replies, named, milestones, defect, .. } = self;
        Outcome { machine: Shared::new(machine), sent, replies, named, milestones, defect }
    }

    fn is_wrong(&mut self, defect: Defect) {
        self.defect.get_or_insert(defect);
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Arrives(envelope) => self.arrives(envelope),
            Event::Request { id, command } => {
                self.input(NOW, Input::Request { id: *id, deadline: DEADLINE, command: command.clone() });
            }
            Event::Persisted => {
                self.lands();
                self.machine.at_disk = None;
                self.machine.landed = false;
                self.input(NOW, Input::Persisted { durable: true });
            }
            Event::Lands => {
                self.lands();
                self.machine.landed = true;
            }
            Event::Fails { all_the_same } => {
                let batch = self.machine.at_disk.take();
                self.machine.landed = false;
                self.machine.hidden = batch.filter(|_| *all_the_same);
                self.milestones |=
                    if *all_the_same { milestones::FAILED_AND_KEPT } else { milestones::FAILED_AND_LOST };
                self.input(NOW, Input::Persisted { durable: false });
            }
            Event::Reopened => {
                self.hidden_shows();
                self.input(NOW, Input::StoreReopened(self.machine.folder.meta.clone()));
            }
            Event::ReadsDone => {
                if let Some((read, key, kind)) = self.machine.loads.pop_front() {
                    if self.machine.landed {
                        self.milestones |= milestones::READ_EARLY;
                    }
                    let lookup = Some(self.machine.folder.read(&key, kind).into());
                    self.input(NOW, Input::ReadDone { read, lookup });
                }
            }
            Event::Wakes => {
                if let Some(time) = self.machine.node.next_wake() {
                    self.turn(time, None);
                }
            }
            Event::MembersWake => {
                let node = &self.machine.node;
                if let Some(time) = node.members().next_wake(node.layout()) {
                    self.turn(time, None);
                }
            }
            Event::Linked(peer) => self.input(NOW, Input::Linked(*peer)),
            Event::Restarts { kept } => {
                if self.machine.at_disk.as_ref().is_some_and(|batch| !batch.records.is_empty()) {
                    self.milestones |=
                        if *kept { milestones::RESTARTED_AND_KEPT } else { milestones::RESTARTED_AND_LOST };
                }
                if *kept {
                    self.lands();
                }
                self.hidden_shows();
                let folder = self.machine.folder.clone();
                self.starts(folder);
            }
            Event::LosesItsDisk => {
                let store_id = StoreId(self.machine.folder.meta.store_id.0 + 100);
                self.machine.is_forgetful = true;
                self.starts(Folder::empty(store_id));
            }
            Event::ReturnsToTheCopy => {
                if let Some(copy) = self.machine.copy.take() {
                    self.machine.is_forgetful = true;
                    self.starts(Folder::clone(&copy));
                }
            }
        }
    }

    /// A new incarnation on `folder`; all that was in memory is gone.
    fn starts(&mut self, folder: Folder) {
        let machine = &mut self.machine;
        let (me, placement) = (machine.node.me(), Arc::clone(&self.shell.placement));
        machine.copy = self.shell.copies.then(|| Arc::new(folder.clone()));
        machine.incarnations += 1;
        machine.node = Node::start(Setup {
            addresses: self.shell.addresses.clone(),
            joins: false,
            me,
            placement,
            meta: folder.meta.clone(),
            nonce: machine.incarnations,
            started_at: NOW,
            repair: None,
        });
        machine.folder = folder;
        machine.at_disk = None;
        machine.landed = false;
        machine.hidden = None;
        machine.loads.clear();
        machine.asked.clear();
        self.turn(NOW, None);
    }

    fn arrives(&mut self, envelope: &Envelope) {
        let Envelope { from, from_incarnation, to_incarnation, message, .. } = envelope;
        if let Message::Request { operation, round, request, .. } = message
            && let Some(asked) = Asked::by(request)
        {
            self.machine.asked.push((*from, *from_incarnation, *operation, *round, asked));
            self.machine.asked.sort();
        }
        let (before, sent) = (self.machine.node.clone(), self.sent.len());
        let input = Input::Peer {
            from: *from,
            from_incarnation: *from_incarnation,
            to_incarnation: *to_incarnation,
            message: message.clone(),
        };
        self.input(NOW, input);
        let counted = self.machine.node != before || self.sent.len() > sent;
        if !counted
            && let Message::Request { operation, round, request, .. } = message
            && Asked::by(request).is_some()
        {
            self.answers_store(*from, Some(*from_incarnation), *operation, *round);
        }
    }

    /// A turn with one input. The grain of the model is the finest that the server has: its turns may take many.
    fn input(&mut self, now: Time, input: Input) {
        self.turn(now, Some(input));
    }

    /// A turn, in which alarms that are due ring.
    fn turn(&mut self, now: Time, input: Option<Input>) {
        let Machine { node, folder, landed, .. } = &mut self.machine;
        let mut turn = Turn::new(node);
        if let Some(input) = input {
            turn.input(now, input);
        }
        let outputs = turn.end(now, |_, key, kind| {
            if self.shell.loads_wait {
                return MemoryRead::WouldBlock;
            }
            if *landed {
                self.milestones |= milestones::READ_EARLY;
            }
            MemoryRead::Done(folder.read(key, kind).into())
        });
        // They are read for deletions that may be forgotten, at once.
        let mut slots = Vec::new();
        for output in outputs {
            match output {
                Output::Persist(batch) => self.persists(batch),
                Output::Watch { .. } => unreachable!("nobody watches"),
                Output::Read { read, key, kind, .. } => self.machine.loads.push_back((read, key, kind)),
                Output::Scan { .. } => unreachable!("no model lists keys"),
                Output::Measure { .. } => unreachable!("no table has a quota"),
                Output::Clean { .. } => unreachable!("its alarm never rings: what is removed here is refused anyway"),
                Output::ReadSlots { read, range, entries_max } => slots.push((read, range, entries_max)),
                Output::ReadExpiries { .. } => unreachable!("no value here has a time to live"),
                Output::Send { to, link, to_incarnation, message } => {
                    self.leads_to(link, to, to_incarnation, &message);
                    self.says(to, to_incarnation, &message);
                    let (from, from_incarnation) = (self.machine.node.me(), self.machine.node.incarnation());
                    self.sent.push(Shared::new(Envelope { from, from_incarnation, to, to_incarnation, message }));
                }
                Output::Reply { id, reply } => {
                    if self.machine.is_forgetful && !matches!(reply, Reply::Failed(_)) {
                        self.is_wrong(Defect::Silence(format!("a client was told {reply:?}")));
                    }
                    if let Reply::Failed(failure) = &reply {
                        self.gives_up(failure);
                    }
                    self.milestones |= match reply {
                        Reply::Failed(Failure::ConditionFailed { .. }) => milestones::CONDITION_FAILED,
                        Reply::Failed(Failure::NoTable) => milestones::FOUND_NO_TABLE,
                        Reply::Failed(Failure::TableDropping) => milestones::FOUND_DROPPING,
                        Reply::Failed(Failure::DroppedMeanwhile) => milestones::CUT_OFF,
                        _ => 0,
                    };
                    if matches!(&reply, Reply::Record(Some(record)) if record.content == Content::Tombstone) {
                        self.milestones |= milestones::READ_TOMBSTONE;
                    }
                    self.replies.push((id, reply));
                }
                Output::Event(event) => self.milestones |= milestone_of(&event),
            }
        }
        for (read, range, entries_max) in slots {
            let records = self.machine.folder.records.iter();
            let page = Some(slots_page(records, &self.shell.placement, &range, entries_max));
            self.input(NOW, Input::SlotsRead { read, page });
        }
    }

    /// No operation here ever ends for lack of time.
    fn gives_up(&mut self, failure: &Failure) {
        let node = &self.machine.node;
        let id = node.layout().id(node.me());
        let coordinator = Coordinator { id, store_has_failed: node.store_has_failed(), draws_ballots: false };
        if let Err(what) = may_give_up(&coordinator, failure, |_| true) {
            self.is_wrong(Defect::GivingUp(what));
        }
    }

    // The disk. A batch is atomic: a torn tail is dropped at start, so that it is there whole or not at all.

    fn persists(&mut self, batch: Arc<Batch>) {
        if batch.epoch.is_some() && !batch.records.is_empty() {
            self.milestones |= milestones::EPOCH_WITH_RECORD;
        }
        self.named.extend(batch.records.values().map(|(_, record)| (tag(&record.digest()), record.checksum)));
        assert!(self.machine.at_disk.is_none(), "one batch is at the disk at a time");
        self.machine.at_disk = Some(batch);
    }

    fn lands(&mut self) {
        if !self.machine.landed
            && let Some(batch) = self.machine.at_disk.clone()
        {
            self.apply(&batch);
        }
    }

    fn hidden_shows(&mut self) {
        if let Some(batch) = self.machine.hidden.take() {
            self.apply(&batch);
        }
    }

    fn apply(&mut self, batch: &Batch) {
        let slot_of = |key: &Key| self.shell.placement.slot(key);
        let Folder { meta, records } = &mut self.machine.folder;
        if !batch.emptied.is_empty() {
            let is_emptied = |slot: Slot| batch.emptied.iter().any(|(first, last)| (*first..=*last).contains(&slot));
            records.retain(|key, _| !is_emptied(slot_of(key)));
            meta.seals.retain(|slot, _| !is_emptied(*slot));
            self.milestones |= milestones::EMPTIED;
        }
        meta.configuration = batch.configuration.clone().or(meta.configuration.take());
        meta.vote = batch.vote.clone().or(meta.vote.take());
        meta.taken_over = batch.taken_over.clone().or(meta.taken_over.take());
        meta.epoch = meta.epoch.max(batch.epoch.unwrap_or_default());
        meta.incarnations.extend(batch.incarnation.filter(|incarnation| meta.incarnations.last() != Some(incarnation)));
        meta.bootstrapped |= batch.bootstrapped;
        let mut defect = None;
        if let Some(key) = batch.records.keys().find(|key| meta.dropped.contains(&key.table())) {
            defect = Some(format!("a record of {key} comes after the drop of its table"));
        }
        meta.dropped.extend(&batch.dropped);
        meta.fence = batch.fence.or(meta.fence);
        meta.seals.extend(&batch.seals);
        for (key, (slot, digest)) in &batch.forgotten {
            self.milestones |= milestones::FORGOTTEN;
            let record = records.remove(key).map(|record| record.digest());
            if record.as_ref() != Some(digest) || !digest.is_sealed_away(meta.seals.get(slot).copied()) {
                defect = Some(format!("{record:?} was forgotten, in a slot with seals {:?}", meta.seals));
            }
        }
        for (peer, peer_record) in &batch.peers {
            if let Some(known) = meta.peers.insert(peer.clone(), *peer_record)
                && (known.store_id != peer_record.store_id || known.incarnation.epoch > peer_record.incarnation.epoch)
            {
                defect = Some(format!("what is known of {peer} went from {known:?} back to {peer_record:?}"));
            }
        }
        for (key, (_, record)) in &batch.records {
            if record.tag().clock().epoch > meta.epoch {
                defect = Some(format!("{} is durable before its epoch", record.version()));
            }
            if let Some(old) = records.insert(key.clone(), record.clone()) {
                if old.tag() > record.tag() {
                    defect = Some(format!("{:?} was replaced by {:?}", old.tag(), record.tag()));
                }
                self.milestones |= milestones::OVERWROTE;
            }
        }
        if let Some(defect) = defect {
            self.is_wrong(Defect::Durable(defect));
        }
    }

    // What must hold of all that a node says.

    /// An answer leaves on a link that leads to the incarnation that asked.
    fn leads_to(&mut self, link: Link, to: NodeIndex, to_incarnation: Option<Incarnation>, message: &Message) {
        let leads_to_it = match (link, message) {
            (Link::Accepted(incarnation), _) => to_incarnation == Some(incarnation),
            (Link::Opened, Message::Hello(_) | Message::Request { .. }) => true,
            (Link::Opened, Message::Answer { .. } | Message::Configuration(_) | Message::ConfigurationWanted) => {
                self.machine.node.talking_to(to) == to_incarnation
            }
            (Link::Opened, Message::Welcome(_) | Message::HelloRefused { .. }) => false,
        };
        if !leads_to_it {
            self.is_wrong(Defect::Link(format!("{message:?} for {to_incarnation:?} left on {link:?}")));
        }
    }

    fn says(&mut self, to: NodeIndex, to_incarnation: Option<Incarnation>, message: &Message) {
        let epoch_durable = self.machine.folder.meta.epoch;
        match message {
            Message::Answer { answer, .. } if self.machine.is_forgetful && !matches!(answer, Answer::Refused(_)) => {
                self.is_wrong(Defect::Silence(format!("a peer was told {answer:?}")));
            }
            Message::Request { request: Request::Store { record, .. } | Request::Accept { record, .. }, .. } => {
                self.named.insert((tag(&record.digest()), record.checksum));
                let me = self.machine.node.layout().writer(self.machine.node.me());
                let drawn = record.proposal.as_ref().map_or(&record.stamp, |proposal| &proposal.ballot);
                if drawn.writer == *me && drawn.clock.epoch > epoch_durable {
                    self.is_wrong(Defect::Durable(format!("{drawn} was sent before its epoch was durable")));
                }
                if record.proposal.as_ref().is_some_and(|it| it.version.ballot.as_ref() != Some(&it.ballot)) {
                    self.milestones |= milestones::SETTLED;
                }
            }
            Message::Request { round, request: Request::Get { read_kind: ReadKind::Data, .. }, .. } if *round > 0 => {
                self.milestones |= milestones::FETCHED;
            }
            Message::Answer { answer: Answer::Clock(clock), .. } => {
                if clock.epoch > epoch_durable {
                    self.is_wrong(Defect::Durable(format!(
                        "clock {clock} was shown, epoch {epoch_durable} is durable"
                    )));
                }
                if *clock < self.machine.acknowledged {
                    let acknowledged = self.machine.acknowledged;
                    self.is_wrong(Defect::Clock(format!("clock {clock} was shown after {acknowledged}")));
                }
                self.machine.acknowledged = self.machine.acknowledged.max(*clock);
            }
            Message::Answer {
                answer: Answer::Lookup { key, held, .. } | Answer::Promised { key, held, .. }, ..
            } => {
                if let Some(digest) = held.digest() {
                    self.acknowledges(key, &tag(&digest));
                }
            }
            Message::Answer { operation, round, answer: Answer::Stored, .. } => {
                match self.answers_store(to, to_incarnation, *operation, *round) {
                    Some(Asked::Record(key, stored)) => {
                        let held = self.machine.folder.records.get(&key);
                        if held.is_some_and(|record| tag(&record.digest()) > stored) {
                            self.milestones |= milestones::BEATEN;
                        }
                        self.acknowledges(&key, &stored);
                    }
                    Some(Asked::Drop(tables)) => {
                        let dropped = &self.machine.folder.meta.dropped;
                        if !tables.iter().all(|table| dropped.contains(table)) {
                            self.is_wrong(Defect::Durable(format!("a drop of {tables:?} was acknowledged")));
                        }
                    }
                    Some(Asked::Seal(slot, seal)) => {
                        let durable = self.machine.folder.meta.seals.get(&slot);
                        if durable.is_none_or(|durable| *durable < seal) {
                            self.is_wrong(Defect::Durable(format!("a seal {seal} was acknowledged")));
                        }
                    }
                    None => self.is_wrong(Defect::Durable(format!("nobody asked for {message:?}"))),
                }
            }
            Message::Answer { answer: Answer::Scanned(_), .. } => unreachable!("no model lists keys"),
            Message::Answer {
                operation,
                round,
                answer: answer @ (Answer::Refused(_) | Answer::Preempted { .. }),
                ..
            } => {
                self.milestones |= match answer {
                    Answer::Preempted { .. } => milestones::PREEMPTED,
                    Answer::Refused(Refusal::Dropped) => milestones::REFUSED_DROPPED,
                    Answer::Refused(Refusal::Outdated) => milestones::REFUSED_OUTDATED,
                    _ => 0,
                };
                self.answers_store(to, to_incarnation, *operation, *round);
            }
            Message::Hello(_)
            | Message::Welcome(_)
            | Message::HelloRefused { .. }
            | Message::Configuration(_)
            | Message::ConfigurationWanted
            | Message::Request { .. }
            | Message::Answer { answer: Answer::Members(_), .. }
            | Message::Answer { answer: Answer::Changes { .. } | Answer::ChangesLost | Answer::Repair(_), .. }
            | Message::Answer { answer: Answer::OldRecords(_) | Answer::Sealed, .. } => {}
            Message::Answer { answer: Answer::Fenced { .. }, .. } => {
                if self.machine.folder.meta.fence.is_none() {
                    self.is_wrong(Defect::Durable("a fence was acknowledged that is not durable".to_owned()));
                }
            }
        }
    }

    fn answers_store(
        &mut self,
        to: NodeIndex,
        incarnation: Option<Incarnation>,
        operation: OperationId,
        round: u32,
    ) -> Option<Asked> {
        let asked = &mut self.machine.asked;
        let place = asked.iter().position(|(member, its_life, its_operation, its_round, _)| {
            (*member, Some(*its_life), *its_operation, *its_round) == (to, incarnation, operation, round)
        })?;
        Some(asked.remove(place).4)
    }

    /// Acknowledged or shown to a peer: it must be durable, and the clock not below it.
    fn acknowledges(&mut self, key: &Key, shown: &Tag) {
        let durable = self.machine.folder.records.get(key).map(|record| tag(&record.digest()));
        let slot = self.shell.placement.slot(key);
        let seal = self.machine.folder.meta.seals.get(&slot);
        let may_be_forgotten = seal.is_some_and(|seal| shown.0 < Stamp::of_absence(*seal));
        if !may_be_forgotten && durable.as_ref().is_none_or(|durable| durable < shown) {
            let what = format!("{shown:?} was answered while {durable:?} was durable");
            self.is_wrong(Defect::Durable(what));
        }
        let (stamp, ballot) = shown;
        let greatest = ballot.as_ref().map_or(stamp.clock, |ballot| ballot.clock.max(stamp.clock));
        let clock = self.machine.node.clock();
        if clock < greatest {
            self.is_wrong(Defect::Clock(format!("{shown:?} was answered while the clock was {clock}")));
        }
        self.machine.acknowledged = self.machine.acknowledged.max(greatest);
    }
}

fn tag(digest: &Digest) -> Tag {
    (digest.stamp.clone(), digest.ballot().cloned())
}

fn milestone_of(event: &ProtocolEvent) -> Milestones {
    match event {
        ProtocolEvent::ReadWroteBack => milestones::WROTE_BACK,
        ProtocolEvent::Resent => milestones::RESENT,
        ProtocolEvent::Hedged { .. } => milestones::HEDGED,
        ProtocolEvent::Bootstrapped => milestones::BOOTSTRAPPED,
        ProtocolEvent::RefusedByPeer { refusal: HelloRefusal::StoreId, .. } => milestones::REFUSED_STORE_ID,
        ProtocolEvent::RefusedByPeer { refusal: HelloRefusal::Incarnation, .. } => milestones::REFUSED_INCARNATION,
        _ => 0,
    }
}
