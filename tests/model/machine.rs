//! One node's machine: the real [`Node`], its disk, and the shell between the two, as one step at a time.
//!
//! A step is a function of the machine and of what happens to it, and of nothing else. It is therefore computed once
//! and looked up ever after: the many states of a whole cluster are combinations of few states of its nodes.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quorate::placement::Placement;
use quorate::protocol::{
    Answer, Command, Effect, Failure, HelloRefusal, Input, LoadId, Message, Node, Note, OperationId, Reply, Request,
    RequestId, Setup, Time, Unready,
};
use quorate::types::{Batch, Checksum, Clock, Content, Held, Identity, Key, Life, Member, Meta, Record, Stamp, Want};

use crate::giving_up::{Coordinator, may_give_up};
use crate::marks::{self, Marks};
use crate::shared::Shared;

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
    pub from: Member,
    pub from_life: Life,
    pub to: Member,
    pub to_life: Option<Life>,
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
    Loaded,
    /// The next alarm rings.
    Wakes,
    Linked(Member),
    /// The process dies and starts again; the batch at the disk, if there is one, became durable or did not.
    Restarts {
        kept: bool,
    },
    /// It dies, and starts again with an empty folder.
    LosesItsDisk,
    /// It dies, and starts again with the copy of its folder that was taken before its present life.
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
    pub named: BTreeSet<(Stamp, Checksum)>,
    pub marks: Marks,
    pub defect: Option<Defect>,
}

/// All that a node has when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Folder {
    pub meta: Meta,
    pub record: Option<Record>,
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
    pub loads: VecDeque<(LoadId, Want)>,
    lives: u64,
    /// The folder as it was when the present life began.
    pub copy: Option<Arc<Folder>>,
    /// It came back without what it had acknowledged.
    pub is_forgetful: bool,
    /// The greatest clock that it has acknowledged or shown, over all of its lives.
    acknowledged: Clock,
    /// Stores that it was asked for in this life and has not answered.
    asked: Vec<(Member, Life, OperationId, u32, Stamp)>,
}

/// How machines are modelled.
#[derive(Clone, Debug)]
pub struct Shell {
    pub placement: Arc<Placement>,
    /// Reads of the store are steps of their own; else each is answered at once.
    pub loads_wait: bool,
    /// Copies of folders are kept.
    pub copies: bool,
}

impl Machine {
    /// A machine with an empty folder, at its first start.
    pub fn fresh(me: Member, shell: &Shell) -> Shared<Self> {
        let folder = Folder { meta: Meta::fresh(Identity(u128::from(me.0) + 1)), record: None };
        let setup = Setup { me, placement: Arc::clone(&shell.placement), meta: folder.meta.clone(), nonce: 1 };
        let machine = Self {
            node: Node::start(setup),
            folder,
            at_disk: None,
            landed: false,
            hidden: None,
            loads: VecDeque::new(),
            lives: 1,
            copy: None,
            is_forgetful: false,
            acknowledged: Clock::default(),
            asked: Vec::new(),
        };
        let mut turn = Turn::new(machine, shell);
        turn.flush(NOW);
        turn.done().machine
    }

    /// Whether the epoch of its present life is not durable yet.
    pub fn is_starting(&self) -> bool {
        self.node.unready() == Some(Unready::Starting)
    }

    pub fn step(&self, event: &Event, shell: &Shell) -> Outcome {
        let step = || {
            let mut turn = Turn::new(self.clone(), shell);
            turn.happens(event);
            turn.done()
        };
        // An assertion that fails is a defect like any other, and has a trace that leads to it.
        catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            let mut turn = Turn::new(self.clone(), shell);
            turn.is_wrong(Defect::Panic(what.to_owned()));
            turn.done()
        })
    }
}

/// One step in the making.
struct Turn<'a> {
    machine: Machine,
    shell: &'a Shell,
    sent: Vec<Shared<Envelope>>,
    replies: Vec<(RequestId, Reply)>,
    named: BTreeSet<(Stamp, Checksum)>,
    marks: Marks,
    defect: Option<Defect>,
}

impl<'a> Turn<'a> {
    fn new(machine: Machine, shell: &'a Shell) -> Self {
        let (sent, replies) = (Vec::new(), Vec::new());
        Self { machine, shell, sent, replies, named: BTreeSet::new(), marks: 0, defect: None }
    }

    fn done(self) -> Outcome {
        let Self { machine, sent, replies, named, marks, defect, .. } = self;
        Outcome { machine: Shared::new(machine), sent, replies, named, marks, defect }
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
                self.marks |= if *all_the_same { marks::FAILED_AND_KEPT } else { marks::FAILED_AND_LOST };
                self.input(NOW, Input::Persisted { durable: false });
            }
            Event::Reopened => {
                self.hidden_shows();
                self.input(NOW, Input::StoreReopened(self.machine.folder.meta.clone()));
            }
            Event::Loaded => {
                if let Some((load, want)) = self.machine.loads.pop_front() {
                    let held = Some(self.load(want));
                    self.input(NOW, Input::Loaded { load, held });
                }
            }
            Event::Wakes => {
                if let Some(time) = self.machine.node.next_wake() {
                    self.input(time, Input::Wake);
                }
            }
            Event::Linked(peer) => self.input(NOW, Input::Linked(*peer)),
            Event::Restarts { kept } => {
                if self.machine.at_disk.as_ref().is_some_and(|batch| !batch.records.is_empty()) {
                    self.marks |= if *kept { marks::RESTARTED_AND_KEPT } else { marks::RESTARTED_AND_LOST };
                }
                if *kept {
                    self.lands();
                }
                self.hidden_shows();
                let folder = self.machine.folder.clone();
                self.starts(folder);
            }
            Event::LosesItsDisk => {
                let identity = Identity(self.machine.folder.meta.identity.0 + 100);
                self.machine.is_forgetful = true;
                self.starts(Folder { meta: Meta::fresh(identity), record: None });
            }
            Event::ReturnsToTheCopy => {
                if let Some(copy) = self.machine.copy.take() {
                    self.machine.is_forgetful = true;
                    self.starts(Folder::clone(&copy));
                }
            }
        }
    }

    /// A new life on `folder`; all that was in memory is gone.
    fn starts(&mut self, folder: Folder) {
        let machine = &mut self.machine;
        let (me, placement) = (machine.node.me(), Arc::clone(&self.shell.placement));
        machine.copy = self.shell.copies.then(|| Arc::new(folder.clone()));
        machine.lives += 1;
        machine.node = Node::start(Setup { me, placement, meta: folder.meta.clone(), nonce: machine.lives });
        machine.folder = folder;
        machine.at_disk = None;
        machine.landed = false;
        machine.hidden = None;
        machine.loads.clear();
        machine.asked.clear();
        self.flush(NOW);
    }

    fn arrives(&mut self, envelope: &Envelope) {
        let Envelope { from, from_life, to_life, message, .. } = envelope;
        if let Message::Request { operation, round, request: Request::Store { record, .. } } = message {
            self.machine.asked.push((*from, *from_life, *operation, *round, record.stamp.clone()));
            self.machine.asked.sort();
        }
        let (before, sent) = (self.machine.node.clone(), self.sent.len());
        let input = Input::Peer { from: *from, from_life: *from_life, to_life: *to_life, message: message.clone() };
        self.input(NOW, input);
        let counted = self.machine.node != before || self.sent.len() > sent;
        if !counted && let Message::Request { operation, round, request: Request::Store { .. } } = message {
            self.answers_store(*from, Some(*from_life), *operation, *round);
        }
    }

    fn input(&mut self, now: Time, input: Input) {
        let mut effects = Vec::new();
        self.machine.node.handle(now, input, &mut effects);
        self.machine.node.flush(now, &mut effects);
        self.carry_out(now, effects);
    }

    fn flush(&mut self, now: Time) {
        let mut effects = Vec::new();
        self.machine.node.flush(now, &mut effects);
        self.carry_out(now, effects);
    }

    fn carry_out(&mut self, now: Time, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist(batch) => self.persists(batch),
                Effect::Load { load, want, .. } if self.shell.loads_wait => self.machine.loads.push_back((load, want)),
                Effect::Load { load, want, .. } => {
                    let held = Some(self.load(want));
                    self.input(now, Input::Loaded { load, held });
                }
                Effect::Send { to, to_life, message } => {
                    self.says(to, to_life, &message);
                    let (from, from_life) = (self.machine.node.me(), self.machine.node.life());
                    self.sent.push(Shared::new(Envelope { from, from_life, to, to_life, message }));
                }
                Effect::Reply { id, reply } => {
                    if self.machine.is_forgetful && !matches!(reply, Reply::Failed(_)) {
                        self.is_wrong(Defect::Silence(format!("a client was told {reply:?}")));
                    }
                    if let Reply::Failed(failure) = &reply {
                        self.gives_up(failure);
                    }
                    if matches!(&reply, Reply::Record(Some(record)) if record.content == Content::Tombstone) {
                        self.marks |= marks::READ_TOMBSTONE;
                    }
                    self.replies.push((id, reply));
                }
                Effect::Note(note) => self.marks |= mark_of(&note),
            }
        }
    }

    /// No operation here ever ends for lack of time.
    fn gives_up(&mut self, failure: &Failure) {
        let node = &self.machine.node;
        let id = node.placement().parameters().id(node.me());
        let coordinator = Coordinator { id, store_has_failed: node.store_has_failed() };
        if let Err(what) = may_give_up(&coordinator, failure, |_| true) {
            self.is_wrong(Defect::GivingUp(what));
        }
    }

    fn load(&mut self, want: Want) -> Held {
        if self.machine.landed {
            self.marks |= marks::LOADED_EARLY;
        }
        match (&self.machine.folder.record, want) {
            (None, _) => Held::Nothing,
            (Some(record), Want::Mark) => Held::Mark(record.mark()),
            (Some(record), Want::Record) => Held::Record(record.clone()),
        }
    }

    // The disk. A batch is atomic: a torn tail is dropped at start, so that it is there whole or not at all.

    fn persists(&mut self, batch: Arc<Batch>) {
        if batch.epoch.is_some() && !batch.records.is_empty() {
            self.marks |= marks::EPOCH_WITH_RECORD;
        }
        self.named.extend(batch.records.values().map(|(_, record)| (record.stamp.clone(), record.checksum)));
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
        let Folder { meta, record: held } = &mut self.machine.folder;
        meta.epoch = meta.epoch.max(batch.epoch.unwrap_or_default());
        meta.lives.extend(batch.life.filter(|life| meta.lives.last() != Some(life)));
        meta.formed |= batch.formed;
        let mut defect = None;
        for (peer, acquaintance) in &batch.peers {
            if let Some(known) = meta.peers.insert(peer.clone(), *acquaintance)
                && (known.identity != acquaintance.identity || known.life.epoch > acquaintance.life.epoch)
            {
                defect = Some(format!("what is known of {peer} went from {known:?} back to {acquaintance:?}"));
            }
        }
        for (_, record) in batch.records.values() {
            if record.stamp.clock.epoch > meta.epoch {
                defect = Some(format!("{} is durable before its epoch", record.stamp));
            }
            if let Some(old) = held.replace(record.clone()) {
                if old.stamp > record.stamp {
                    defect = Some(format!("{} was replaced by {}", old.stamp, record.stamp));
                }
                self.marks |= marks::OVERWROTE;
            }
        }
        if let Some(defect) = defect {
            self.is_wrong(Defect::Durable(defect));
        }
    }

    // What must hold of all that a node says.

    fn says(&mut self, to: Member, to_life: Option<Life>, message: &Message) {
        let epoch_durable = self.machine.folder.meta.epoch;
        match message {
            Message::Answer { answer, .. } if self.machine.is_forgetful && !matches!(answer, Answer::Refused(_)) => {
                self.is_wrong(Defect::Silence(format!("a peer was told {answer:?}")));
            }
            Message::Request { operation: _, round: _, request: Request::Store { record, .. } } => {
                self.named.insert((record.stamp.clone(), record.checksum));
                let me = self.machine.node.placement().parameters().id(self.machine.node.me());
                if record.stamp.writer == *me && record.stamp.clock.epoch > epoch_durable {
                    self.is_wrong(Defect::Durable(format!("{} was sent before its epoch was durable", record.stamp)));
                }
            }
            Message::Request { round, request: Request::Get { want: Want::Record, .. }, .. } if *round > 0 => {
                self.marks |= marks::FETCHED;
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
            Message::Answer { answer: Answer::Held { held, .. }, .. } => {
                if let Some(mark) = held.mark() {
                    self.acknowledges(&mark.stamp);
                }
            }
            Message::Answer { operation, round, answer: Answer::Stored } => {
                match self.answers_store(to, to_life, *operation, *round) {
                    Some(stamp) => {
                        if self.machine.folder.record.as_ref().is_some_and(|record| record.stamp > stamp) {
                            self.marks |= marks::BEATEN;
                        }
                        self.acknowledges(&stamp);
                    }
                    None => self.is_wrong(Defect::Durable(format!("nobody asked for {message:?}"))),
                }
            }
            Message::Answer { operation, round, answer: Answer::Refused(_) } => {
                self.answers_store(to, to_life, *operation, *round);
            }
            Message::Hello(_) | Message::Welcome(_) | Message::HelloRefused { .. } | Message::Request { .. } => {}
        }
    }

    fn answers_store(&mut self, to: Member, life: Option<Life>, operation: OperationId, round: u32) -> Option<Stamp> {
        let asked = &mut self.machine.asked;
        let place = asked.iter().position(|(member, its_life, its_operation, its_round, _)| {
            (*member, Some(*its_life), *its_operation, *its_round) == (to, life, operation, round)
        })?;
        Some(asked.remove(place).4)
    }

    /// Acknowledged or shown to a peer: it must be durable, and the clock not below it.
    fn acknowledges(&mut self, stamp: &Stamp) {
        let durable = self.machine.folder.record.as_ref().map(|record| &record.stamp);
        if durable.is_none_or(|durable| durable < stamp) {
            let what = format!("{stamp} was answered while {durable:?} was durable");
            self.is_wrong(Defect::Durable(what));
        }
        let clock = self.machine.node.clock();
        if clock < stamp.clock {
            self.is_wrong(Defect::Clock(format!("{stamp} was answered while the clock was {clock}")));
        }
        self.machine.acknowledged = self.machine.acknowledged.max(stamp.clock);
    }
}

fn mark_of(note: &Note) -> Marks {
    match note {
        Note::ReadWroteBack => marks::WROTE_BACK,
        Note::Resent => marks::RESENT,
        Note::Hedged { .. } => marks::HEDGED,
        Note::Formed => marks::FORMED,
        Note::RefusedByPeer { refusal: HelloRefusal::Identity, .. } => marks::REFUSED_IDENTITY,
        Note::RefusedByPeer { refusal: HelloRefusal::Life, .. } => marks::REFUSED_LIFE,
        _ => 0,
    }
}
