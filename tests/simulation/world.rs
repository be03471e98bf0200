//! The simulated world: nodes that run the real protocol, the shell around each of them, and what is under way.
//!
//! Everything that happens is an event at a time, drawn from one seed; events of one time happen in the order in which
//! they were planned. A shell handles the inputs that have arrived in turns, as the server's does, and carries effects
//! out one by one, so that a crash can fall between any two.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use quorate::placement::Placement;
use quorate::protocol::{Effect, Input, LoadId, Message, Node, Note, Reply, RequestId, Setup, Time};
use quorate::types::{Batch, Identity, Key, Life, Member, Want};

use crate::clients::{Clients, Done, command, understand};
use crate::counters::Counters;
use crate::disk::{Disk, Health};
use crate::links::Links;
use crate::plan::{Plan, Span};
use crate::random::Random;
use crate::support::checker::{Action, Ending};
use crate::trace::{Sent, Trace};
use crate::watch::{Speaker, Watch};

/// How long the world gets to recover once all faults have stopped: the slowest of protocol's repetitions, some times.
const RECOVERY: u64 = 12_000_000;
/// What an operation may take when nothing, or only a dead minority, is in its way.
const PROMPT: u64 = 5_000_000;
/// How many operations each client does then.
const PROMPT_OPERATIONS: usize = 3;

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
    /// Stamps that do not rise with real time.
    Order,
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
    Arrives { from: Member, from_life: Life, to: Member, to_life: Option<Life>, message: Message, sent_at: u64 },
    /// A shell gets an input, if it is still the run that it is meant for.
    Input { host: Member, run: u64, input: Input },
    /// A shell handles what has arrived.
    Turn { host: Member, run: u64 },
    /// A shell was asked to wake its node.
    Wake { host: Member, run: u64 },
    /// A store reads.
    Load { host: Member, run: u64, load: LoadId, key: Key, want: Want },
    /// A disk is done with the batch in flight.
    Persisted { host: Member, run: u64 },
    /// A store is opened again.
    Reopen { host: Member, run: u64 },
    /// A request reaches a node.
    Request { index: usize, deadline: u64 },
    /// An answer reaches a client; without one its connection broke.
    Reply { index: usize, reply: Option<Reply> },
    /// A client gives up.
    GiveUp { index: usize },
    /// A client may begin.
    Begin { client: usize },
    /// A dead node starts.
    Start { host: Member },
    /// A link is told to be up or down.
    Tell { host: Member, peer: Member, up: bool },
    /// The next fault.
    Fault,
    /// A cut heals; how often it is to come back, and after how long.
    Heal { pairs: Vec<(Member, Member)>, again: u32 },
    /// It comes back.
    Cut { pairs: Vec<(Member, Member)>, again: u32 },
    /// All faults stop.
    Calm,
    /// Everything must work by now.
    AllWell,
    /// A minority dies for good, while operations go on.
    MinorityDies { victims: Vec<Member> },
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
    Over,
}

/// One node's machine.
pub struct Host {
    /// The process, while it runs.
    pub node: Option<Node>,
    /// Counts processes.
    pub run: u64,
    pub inbox: Vec<Input>,
    turn_planned: bool,
    wake_planned: Option<u64>,
    pub paused_until: u64,
    /// The process dies after so many effects of its next turn.
    pub dies_after: Option<usize>,
    pub disk: Disk,
    /// It came back without what it had acknowledged.
    pub is_forgetful: bool,
    /// Requests that it has taken and not answered, and whether their record was sent or stored.
    taken: BTreeMap<usize, bool>,
}

/// One run.
pub struct World {
    pub plan: Plan,
    pub random: Random,
    pub now: u64,
    pub phase: Phase,
    order: u64,
    queue: BinaryHeap<Planned>,
    placement: Arc<Placement>,
    pub keys: Vec<Key>,
    pub hosts: Vec<Host>,
    pub links: Links,
    pub clients: Clients,
    watch: Watch,
    /// Without it, only histories and progress are judged.
    pub is_watched: bool,
    pub counters: Counters,
    pub trace: Trace,
    pub defect: Option<Defect>,
    /// Nodes that clients may ask.
    asked: Vec<Member>,
    effects: Vec<Effect>,
}

impl World {
    pub fn new(plan: Plan, placement: Arc<Placement>, trace: Trace) -> Self {
        let mut random = Random::new(plan.seed);
        let hosts = (0..plan.nodes)
            .map(|_| Host {
                node: None,
                run: 0,
                inbox: Vec::new(),
                turn_planned: false,
                wake_planned: None,
                paused_until: 0,
                dies_after: None,
                disk: Disk::empty(random_identity(&mut random)),
                is_forgetful: false,
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
            links: Links::new(plan.nodes),
            clients: Clients::new(plan.clients),
            watch: Watch::new(Arc::clone(&placement)),
            is_watched: true,
            counters: Counters::default(),
            trace,
            defect: None,
            asked: placement.parameters().members().collect(),
            effects: Vec::new(),
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

    pub fn members(&self) -> Vec<Member> {
        self.placement.parameters().members().collect()
    }

    pub fn host(&mut self, host: Member) -> &mut Host {
        &mut self.hosts[host.index()]
    }

    pub fn within(&mut self, span: Span) -> u64 {
        self.random.between(span.0, span.1)
    }

    pub fn plan_in(&mut self, wait: u64, event: Event) {
        self.plan_at(self.now + wait, event);
    }

    fn plan_at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Planned { at, order: self.order, event });
    }

    fn is_wrong(&mut self, what: String) {
        if self.is_watched {
            self.defect.get_or_insert(Defect { at: self.now, found_by: FoundBy::Watch, what });
        }
    }

    fn is_stuck(&mut self, what: String) {
        self.defect.get_or_insert(Defect { at: self.now, found_by: FoundBy::Progress, what });
    }

    fn check(&mut self, result: Result<(), String>) {
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
        self.plan_at(self.plan.calm_at, Event::Calm);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives { from, from_life, to, to_life, message, sent_at } => {
                self.arrives(from, from_life, to, to_life, message, sent_at);
            }
            Event::Input { host, run, input } => self.input(host, run, input),
            Event::Turn { host, run } => self.turn(host, run),
            Event::Wake { host, run } => {
                if self.hosts[host.index()].run == run {
                    self.host(host).wake_planned = None;
                    self.plan_turn(host);
                }
            }
            Event::Load { host, run, load, key, want } => {
                let Host { run: present, disk, .. } = &self.hosts[host.index()];
                if *present == run {
                    let held = (disk.unreadable_until <= self.now).then(|| disk.load(&key, want));
                    if held.is_none() {
                        self.counters.count("a load failed");
                    }
                    let wait = if self.random.permille(800) { 0 } else { self.within(self.plan.load) };
                    self.plan_in(wait, Event::Input { host, run, input: Input::Loaded { load, held } });
                }
            }
            Event::Persisted { host, run } => self.persisted(host, run),
            Event::Reopen { host, run } => self.reopen(host, run),
            Event::Request { index, deadline } => self.request(index, deadline),
            Event::Reply { index, reply } => self.reply(index, reply),
            Event::GiveUp { index } => self.give_up(index),
            Event::Begin { client } => self.begin_operation(client),
            Event::Start { host } => self.start(host),
            Event::Tell { host, peer, up } => {
                let run = self.hosts[host.index()].run;
                let input = if up { Input::Linked(peer) } else { Input::Unlinked(peer) };
                self.input(host, run, input);
            }
            Event::Fault => self.next_fault(),
            Event::Heal { pairs, again } => self.heal(pairs, again),
            Event::Cut { pairs, again } => self.cut(pairs, again),
            Event::Calm => self.calm(),
            Event::AllWell => self.all_well(),
            Event::MinorityDies { victims } => {
                for victim in victims {
                    self.crash(victim, false);
                }
            }
        }
    }

    // Processes.

    fn start(&mut self, host: Member) {
        let nonce = self.random.next();
        let placement = Arc::clone(&self.placement);
        let machine = &mut self.hosts[host.index()];
        if machine.node.is_some() {
            return;
        }
        let meta = machine.disk.folder.meta.clone();
        machine.node = Some(Node::start(Setup { me: host, placement, meta, nonce }));
        self.counters.count("starts");
        self.plan_turn(host);
        let noticed = self.phase != Phase::Faults || !self.random.permille(self.plan.unnoticed_permille);
        if !noticed {
            self.counters.count("a restarted node was not noticed");
        }
        for peer in self.members() {
            if peer != host {
                self.relink_if(host, peer, true);
                self.relink_if(peer, host, noticed);
            }
        }
    }

    /// A process dies. Its folder stays, and what was on its way to it, or not.
    pub fn crash(&mut self, host: Member, comes_back: bool) {
        let machine = &mut self.hosts[host.index()];
        let Some(_) = machine.node.take() else { return };
        machine.run += 1;
        machine.inbox.clear();
        machine.turn_planned = false;
        machine.wake_planned = None;
        machine.paused_until = 0;
        machine.dies_after = None;
        machine.disk.broken = false;
        self.links.forget(host);
        let machine = &mut self.hosts[host.index()];
        let taken = std::mem::take(&mut machine.taken);
        let in_flight = machine.disk.in_flight.take();
        let hidden = machine.disk.hidden.take();
        if let Some(batch) = in_flight {
            if self.random.permille(500) {
                self.counters.count("a batch in flight survived a crash");
                self.apply(host, &batch);
            } else {
                self.counters.count("a batch in flight was lost in a crash");
            }
        }
        if let Some(batch) = hidden {
            self.apply(host, &batch);
        }
        for (index, was_stored) in taken {
            if matches!(self.clients.operations[index].operation.action, Action::Read { .. }) {
                continue;
            }
            self.counters.count(if was_stored {
                "a coordinator died with a store on its way"
            } else {
                "a coordinator died between clock and store"
            });
            if self.random.permille(500) {
                let wait = self.within(self.plan.latency);
                self.plan_in(wait, Event::Reply { index, reply: None });
            }
        }
        for peer in self.members() {
            if peer != host && self.links.is_linked(peer, host) && !self.random.permille(self.plan.unnoticed_permille) {
                let wait = self.within((0, 50_000));
                self.tell(peer, host, false, wait);
            }
        }
        if comes_back {
            let wait = *self.random.pick(&[1_000, 20_000, 300_000, 1_500_000]);
            let wait = self.within((wait / 2, wait));
            self.plan_in(wait, Event::Start { host });
        }
    }

    fn plan_turn(&mut self, host: Member) {
        let Host { node, run, turn_planned, paused_until, .. } = &mut self.hosts[host.index()];
        if node.is_none() || *turn_planned {
            return;
        }
        *turn_planned = true;
        let (run, paused_until) = (*run, *paused_until);
        let wait = if self.random.permille(700) { 0 } else { self.within((1, 200)) };
        self.plan_at((self.now + wait).max(paused_until), Event::Turn { host, run });
    }

    fn input(&mut self, host: Member, run: u64, input: Input) {
        let machine = &mut self.hosts[host.index()];
        if machine.node.is_some() && machine.run == run {
            machine.inbox.push(input);
            if machine.paused_until > self.now {
                self.counters.count("a node was paused with messages in hand");
            }
            self.plan_turn(host);
        }
    }

    fn turn(&mut self, host: Member, run: u64) {
        let now = Time(self.now);
        let machine = &mut self.hosts[host.index()];
        if machine.run != run {
            return;
        }
        if machine.paused_until > self.now {
            let until = machine.paused_until;
            self.plan_at(until, Event::Turn { host, run });
            return;
        }
        machine.turn_planned = false;
        let Some(node) = machine.node.as_mut() else { return };
        let mut effects = std::mem::take(&mut self.effects);
        let mut inbox = std::mem::take(&mut machine.inbox);
        for input in inbox.drain(..) {
            node.handle(now, input, &mut effects);
        }
        if node.next_wake().is_some_and(|at| at <= now) {
            node.handle(now, Input::Wake, &mut effects);
        }
        node.flush(now, &mut effects);
        machine.inbox = inbox;
        let dies_after = machine.dies_after.take();

        // The protocol promises to need no order among effects for safety; what a crash cuts off shows whether it does.
        let mut carried_out = 0;
        for effect in effects.drain(..) {
            if dies_after == Some(carried_out) || self.defect.is_some() {
                break;
            }
            carried_out += usize::from(!matches!(effect, Effect::Note(_)));
            self.carry_out(host, run, effect);
        }
        self.effects = effects;
        if dies_after.is_some() {
            self.counters.count("crashes within a turn");
            self.crash(host, true);
            return;
        }
        self.plan_wake(host, run);
    }

    fn plan_wake(&mut self, host: Member, run: u64) {
        let machine = &mut self.hosts[host.index()];
        let Some(Time(at)) = machine.node.as_ref().and_then(Node::next_wake) else { return };
        if machine.wake_planned.is_none_or(|planned| at < planned) {
            machine.wake_planned = Some(at);
            self.plan_at(at.max(self.now + 1), Event::Wake { host, run });
        }
    }

    fn carry_out(&mut self, host: Member, run: u64, effect: Effect) {
        match effect {
            Effect::Persist(batch) => self.persist(host, run, batch),
            Effect::Load { load, key, want, .. } => {
                let wait = self.within(self.plan.load);
                self.plan_in(wait, Event::Load { host, run, load, key, want });
            }
            Effect::Send { to, to_life, message } => self.send(host, to, to_life, message),
            Effect::Reply { id: RequestId(index), reply } => {
                let index = index as usize;
                self.host(host).taken.remove(&index);
                if let Reply::Written(stamp) = &reply {
                    let result = self.watch.told(stamp);
                    self.check(result);
                }
                if self.hosts[host.index()].is_forgetful && matches!(reply, Reply::Written(_) | Reply::Record(_)) {
                    self.is_wrong(format!("{host:?} has forgotten what it acknowledged, and answered a client"));
                }
                let wait = self.within((50, 300));
                self.plan_in(wait, Event::Reply { index, reply: Some(reply) });
            }
            Effect::Note(note) => self.note(host, &note),
        }
    }

    fn note(&mut self, host: Member, note: &Note) {
        use quorate::protocol::HelloRefusal;
        match note {
            Note::ReadWroteBack => self.counters.count("a read wrote back"),
            Note::ClockRound { writes: 2.. } => self.counters.count("a clock round served several writes"),
            Note::Resent => self.counters.count("a request was asked again"),
            Note::RefusedByPeer { refusal: HelloRefusal::Identity, .. } => {
                self.counters.count("an identity was refused");
            }
            Note::RefusedByPeer { refusal: HelloRefusal::Life, .. } => {
                self.counters.count("an older life was refused");
                if !self.hosts[host.index()].is_forgetful {
                    self.is_wrong(format!("{host:?} was refused, although it has forgotten nothing"));
                }
            }
            Note::StampConflict { key, stamp } => {
                self.is_wrong(format!("{host:?} met two records of {stamp} of {key}"));
            }
            Note::ClockJump { seen } => self.is_wrong(format!("{host:?} found {seen} too far ahead")),
            Note::Formed if self.phase == Phase::Faults && self.counters.get("faults") > 0 => {
                self.counters.count("the cluster formed under faults");
            }
            _ => {}
        }
    }

    // Disks.

    fn persist(&mut self, host: Member, run: u64, batch: Arc<Batch>) {
        let result = self.watch.persists(&batch, &mut self.counters);
        self.check(result);
        for (_, record) in batch.records.values() {
            self.is_stored(host, record);
        }
        self.counters.count("batches");
        let slow = self.hosts[host.index()].disk.slow_until > self.now;
        let wait = self.within(self.plan.disk) * if slow { 50 } else { 1 };
        let disk = &mut self.host(host).disk;
        if disk.in_flight.replace(batch).is_some() || disk.broken {
            self.is_wrong(format!("{host:?} gave its disk a batch that it cannot take now"));
        }
        self.plan_in(wait, Event::Persisted { host, run });
    }

    fn persisted(&mut self, host: Member, run: u64) {
        let now = self.now;
        let machine = &mut self.hosts[host.index()];
        if machine.run != run {
            return;
        }
        let Some(batch) = machine.disk.in_flight.take() else { return };
        let fails = match machine.disk.health {
            Health::Well => false,
            Health::FailsOnce => true,
            Health::FailsUntil(until) => now < until,
        };
        if !fails {
            self.apply(host, &batch);
            let wait = self.within(self.plan.disk_answer);
            if wait > 0 && !batch.records.is_empty() {
                self.counters.count("a record became durable before its node knew");
            }
            self.plan_in(wait, Event::Input { host, run, input: Input::Persisted { durable: true } });
            return;
        }
        if machine.disk.health == Health::FailsOnce {
            machine.disk.health = Health::Well;
        }
        machine.disk.broken = true;
        match self.random.below(3) {
            0 => self.counters.count("a batch failed and was not on disk"),
            1 => {
                self.counters.count("a batch failed and was on disk all the same");
                self.host(host).disk.hidden = Some(batch);
            }
            _ => {
                self.counters.count("a batch failed and was on disk all the same");
                self.apply(host, &batch);
            }
        }
        let wait = self.within(self.plan.disk_answer);
        self.plan_in(wait, Event::Input { host, run, input: Input::Persisted { durable: false } });
        let reopen = wait + self.within((1_000, 500_000));
        self.plan_in(reopen, Event::Reopen { host, run });
    }

    fn reopen(&mut self, host: Member, run: u64) {
        if self.hosts[host.index()].run != run {
            return;
        }
        if let Some(batch) = self.host(host).disk.hidden.take() {
            self.apply(host, &batch);
        }
        let disk = &mut self.host(host).disk;
        disk.broken = false;
        let input = Input::StoreReopened(disk.folder.meta.clone());
        self.input(host, run, input);
    }

    fn apply(&mut self, host: Member, batch: &Batch) {
        let result = self.hosts[host.index()].disk.apply(batch);
        self.check(result.map_err(|what| format!("{host:?}: {what}")));
    }

    /// A record that a client wrote through `host` leaves the hands of its coordinator.
    fn is_stored(&mut self, host: Member, record: &quorate::types::Record) {
        if record.stamp.writer != *self.placement.parameters().id(host) {
            return;
        }
        if let Ok(Some(value)) = crate::clients::value_of(&record.content)
            && let Some(is_stored) = self.host(host).taken.get_mut(&(value as usize))
        {
            *is_stored = true;
        }
    }

    // Messages.

    fn send(&mut self, from: Member, to: Member, to_life: Option<Life>, message: Message) {
        let Host { node: Some(node), disk, is_forgetful, .. } = &self.hosts[from.index()] else { return };
        let from_life = node.life();
        let speaker = Speaker { me: from, node, disk, is_forgetful: *is_forgetful };
        let result = self.watch.says(&speaker, to, to_life, &message, &mut self.counters);
        self.check(result);
        if let Message::Request { request: quorate::protocol::Request::Store { record, .. }, .. } = &message {
            self.is_stored(from, record);
        }
        self.counters.count("messages");
        let loss = self.plan.loss_permille + if self.links.loss_until > self.now { 300 } else { 0 };
        if !self.links.passes(from, to) || self.random.permille(if self.phase == Phase::Faults { loss } else { 0 }) {
            self.counters.count("a message was lost");
            self.trace.sent(Sent { from, to, at: self.now, arrives: None, message: &message });
            return;
        }
        let wait = self.latency(from);
        self.trace.sent(Sent { from, to, at: self.now, arrives: Some(self.now + wait), message: &message });
        if self.phase == Phase::Faults && self.random.permille(self.plan.repeat_permille) {
            self.counters.count("a message was repeated");
            let wait = self.latency(from);
            let message = message.clone();
            self.plan_in(wait, Event::Arrives { from, from_life, to, to_life, message, sent_at: self.now });
        }
        self.plan_in(wait, Event::Arrives { from, from_life, to, to_life, message, sent_at: self.now });
    }

    fn latency(&mut self, from: Member) -> u64 {
        let in_faults = self.phase == Phase::Faults;
        let slow = self.links.slow_until[from.index()] > self.now;
        let late = in_faults && (slow || self.random.permille(self.plan.late_permille));
        let most = if slow { 400_000 } else { self.plan.late };
        let wait = if late { self.within((0, most)) } else { self.within(self.plan.latency) };
        if wait > 250_000 {
            self.counters.count("a message was late by more than a resend");
        }
        wait
    }

    fn arrives(
        &mut self,
        from: Member,
        from_life: Life,
        to: Member,
        to_life: Option<Life>,
        message: Message,
        sent_at: u64,
    ) {
        if self.links.lost_since(from, to, sent_at) {
            self.counters.count("a message was lost");
            return;
        }
        let life = |host: Member| self.hosts[host.index()].node.as_ref().map(Node::life);
        if life(from) != Some(from_life) || to_life.is_some_and(|to_life| life(to) != Some(to_life)) {
            self.counters.count("a message to or from a dead run arrived");
        }
        let run = self.hosts[to.index()].run;
        self.input(to, run, Input::Peer { from, from_life, to_life, message });
    }

    /// Links what lives and can hear each other, and breaks it before where it `broke`.
    pub fn relink_if(&mut self, host: Member, peer: Member, broke: bool) {
        let lives = |host: Member| self.hosts[host.index()].node.is_some();
        if lives(host) && lives(peer) && self.links.passes(host, peer) && (broke || !self.links.is_linked(host, peer)) {
            self.relink(host, peer);
        }
    }

    /// The transport of `host` is told that its link to `peer` broke, and that it is back.
    fn relink(&mut self, host: Member, peer: Member) {
        let wait = self.within((0, 2_000));
        if self.links.is_linked(host, peer) {
            self.tell(host, peer, false, wait);
        }
        let wait = wait + self.within((0, 5_000));
        self.tell(host, peer, true, wait);
    }

    pub fn tell(&mut self, host: Member, peer: Member, up: bool, wait: u64) {
        let at = self.links.tell(host, peer, up, self.now + wait);
        self.plan_at(at, Event::Tell { host, peer, up });
    }

    // Clients.

    fn begin_operation(&mut self, client: usize) {
        let goes_on = match self.phase {
            Phase::Faults => self.clients.operations.len() < self.plan.operations_max,
            Phase::AllWell | Phase::MinorityDead => self.clients.clients[client].quota > 0,
            Phase::Recovery | Phase::Over => false,
        };
        if !goes_on || self.clients.clients[client].waits_for.is_some() {
            return;
        }
        let key = self.random.below(self.plan.keys);
        let node = *self.random.pick(&self.asked);
        let value = self.clients.operations.len() as u64;
        let action = if self.random.permille(self.plan.read_permille) {
            Action::Read { saw: None }
        } else if self.random.permille(self.plan.delete_permille) {
            Action::Delete
        } else {
            Action::Write { value }
        };
        let index = self.clients.begin(client, key, node, action, self.now);
        let deadline = if self.phase == Phase::Faults {
            self.now + *self.random.pick(&[30_000, 300_000, 1_000_000, 3_000_000])
        } else {
            self.clients.clients[client].quota -= 1;
            self.clients.operations[index].must_succeed = true;
            self.now + PROMPT
        };
        self.counters.count("operations");
        let wait = self.within((50, 300));
        self.plan_in(wait, Event::Request { index, deadline });
        self.plan_at(deadline + 20_000, Event::GiveUp { index });
    }

    fn request(&mut self, index: usize, deadline: u64) {
        let Done { key, node, operation, .. } = &self.clients.operations[index];
        let (host, command) = (*node, command(self.keys[*key].clone(), operation.action));
        let Host { node, run, taken, .. } = &mut self.hosts[host.index()];
        if node.is_none() {
            // Nobody took the connection: it certainly did not happen.
            self.ends(index, Err(Ending::Failed));
            return;
        }
        taken.insert(index, false);
        let input = Input::Request { id: RequestId(index as u64), deadline: Time(deadline), command };
        let run = *run;
        self.input(host, run, input);
    }

    fn reply(&mut self, index: usize, reply: Option<Reply>) {
        if !self.clients.is_awaited(index) {
            return;
        }
        let result = match &reply {
            Some(reply) => understand(reply, self.clients.operations[index].operation.action),
            None => Ok(Err(Ending::Unknown)),
        };
        match result {
            Ok(result) => {
                if result.is_err() && self.clients.operations[index].must_succeed {
                    let done = &self.clients.operations[index];
                    self.is_stuck(format!("{:?}: {done:?} failed with {reply:?}", self.phase));
                }
                self.ends(index, result);
            }
            Err(what) => self.is_wrong(what),
        }
    }

    fn give_up(&mut self, index: usize) {
        if self.clients.is_awaited(index) {
            self.counters.count("a client went on without an answer");
            if self.clients.operations[index].must_succeed {
                let done = &self.clients.operations[index];
                self.is_stuck(format!("{:?}: {done:?} was not answered", self.phase));
            }
            self.ends(index, Err(Ending::Unknown));
        }
    }

    fn ends(&mut self, index: usize, result: Result<(Option<u64>, Option<quorate::types::Stamp>), Ending>) {
        let is_read = matches!(self.clients.operations[index].operation.action, Action::Read { .. });
        match &result {
            Ok((None, Some(_))) if is_read => self.counters.count("a delete was seen"),
            Ok((_, Some(stamp))) if is_read && !self.watch.was_told(stamp) => {
                self.counters.count("a read returned what was never acknowledged");
            }
            Ok(_) => {}
            Err(_) if is_read => self.counters.count("a read failed"),
            Err(Ending::Unknown) => self.counters.count("a write of unknown outcome"),
            Err(_) => self.counters.count("a write failed for certain"),
        }
        if result.is_ok() {
            self.counters.count("operations that succeeded");
            if self.phase == Phase::MinorityDead {
                self.counters.count("operations with a minority dead");
            }
        }
        let failed = result.is_err();
        self.clients.end(index, &result, self.now);
        let client = self.clients.operations[index].operation.client as usize;
        // Who fails at once would otherwise spend the run's operations while nothing can succeed.
        let patience = if failed { self.within((1_000, 60_000)) } else { 0 };
        let wait = patience + self.within(self.plan.think);
        self.plan_in(wait, Event::Begin { client });
        self.next_phase_if_done();
    }

    // Phases.

    fn calm(&mut self) {
        self.phase = Phase::Recovery;
        self.links.heal_all();
        for host in self.members() {
            let machine = self.host(host);
            machine.dies_after = None;
            machine.paused_until = 0;
            machine.disk.health = Health::Well;
            machine.disk.slow_until = 0;
            machine.disk.unreadable_until = 0;
            if machine.node.is_none() {
                self.plan_in(0, Event::Start { host });
            } else {
                // A turn that was put off by a pause comes now.
                self.host(host).turn_planned = false;
                self.plan_turn(host);
            }
            for peer in self.members() {
                if peer != host {
                    self.relink_if(host, peer, false);
                }
            }
        }
        self.plan_in(RECOVERY, Event::AllWell);
    }

    fn all_well(&mut self) {
        for host in self.members() {
            let machine = &self.hosts[host.index()];
            let unready = machine
                .node
                .as_ref()
                .map_or_else(|| Some("dead".to_owned()), |node| node.unready().map(|unready| format!("{unready:?}")));
            if machine.node.as_ref().is_some_and(|node| !node.is_idle()) {
                self.is_stuck(format!("{host:?} is busy with operations that nobody waits for"));
                return;
            }
            match (machine.is_forgetful, unready) {
                (false, Some(unready)) => {
                    self.is_stuck(format!("{host:?} does not recover once all faults have stopped: {unready}"));
                }
                (true, None) => self.is_wrong(format!("{host:?} has forgotten what it acknowledged, and is ready")),
                _ => {}
            }
        }
        self.asked.retain(|host| !self.hosts[host.index()].is_forgetful);
        self.begin_phase(Phase::AllWell);
    }

    fn next_phase_if_done(&mut self) {
        let idle = self.clients.clients.iter().all(|client| client.waits_for.is_none() && client.quota == 0);
        match self.phase {
            Phase::AllWell if idle => {
                let lost = self.hosts.iter().filter(|host| host.is_forgetful).count();
                let mut victims = self.asked.clone();
                self.random.shuffle(&mut victims);
                victims.truncate(self.plan.losses_max - lost);
                if victims.is_empty() {
                    self.phase = Phase::Over;
                    return;
                }
                self.asked.retain(|host| !victims.contains(host));
                let wait = self.within((0, 20_000));
                self.plan_in(wait, Event::MinorityDies { victims });
                self.begin_phase(Phase::MinorityDead);
            }
            Phase::MinorityDead if idle => self.phase = Phase::Over,
            _ => {}
        }
    }

    fn begin_phase(&mut self, phase: Phase) {
        self.phase = phase;
        for client in 0..self.clients.clients.len() {
            self.clients.clients[client].quota = PROMPT_OPERATIONS;
            self.plan_in(0, Event::Begin { client });
        }
    }
}

/// A fresh folder's random name.
pub fn random_identity(random: &mut Random) -> Identity {
    Identity(u128::from(random.next()) << 64 | u128::from(random.next()))
}

/// A span of simulated time, for people.
pub fn seconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64()
}
