//! A cluster, its clients and its network, as one state, and every step that can follow it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use quorate::protocol::placement::Placement;
use quorate::protocol::{Command, Message, Reply, Request, RequestId};
use quorate::types::{Checksum, ClusterParameters, NodeId, NodeIndex, TableSettings, Version};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};
use stateright::{Model, Property};

use crate::machine::{Defect, Envelope, Event, Machine, Outcome, Shell, Tag, key};
use crate::milestones::{self, Milestones};
use crate::register::{self, Ending, Operation, Register};
use crate::shared::Shared;

mod change;
mod names;
mod seals;

pub use change::{Change, When};
use names::{is_about_name, is_answer_without_key, names_a_name, table};

/// How many nodes there are, each a replica of the one key. Where members change there is one more.
pub const NODES: usize = 3;

/// The name of the requests that are answered before a model begins.
const BEFORE: RequestId = RequestId(u64::MAX >> 1);

/// A client, and after each operation that was left open, a new one in its place.
type Thread = (usize, u8);

/// What may go wrong, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// How often each node may restart.
    pub restarts: [u8; NODES],
    /// How many restarts there may be of all of them together.
    pub restarts_of_all: u8,
    /// How often a message may arrive and stay on its way.
    pub repeats: u8,
    /// How often an operation may ask again. That it asks others too, once, costs nothing.
    pub alarms: u8,
    /// How often a client may leave an operation open and go on.
    pub partings: u8,
    /// How often a batch may fail.
    pub failures: u8,
    /// How many folders may be lost or put back from a copy.
    pub losses: u8,
    /// How many rounds for deletions there are.
    pub seals: u8,
}

/// What of the shell is a step of its own. All of it is in the server; what is not a step happens at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grain {
    /// Reads of the store.
    pub loads: bool,
    /// A batch becoming durable, before its node is told.
    pub landing: bool,
    /// Each message of the handshake from or to this node.
    pub handshake_of: Option<NodeIndex>,
}

/// One model.
pub struct World {
    pub name: &'static str,
    /// What each client does, one after the other, and through which node.
    pub clients: Vec<Vec<(usize, Operation)>>,
    pub faults: Faults,
    pub grain: Grain,
    /// The cluster has not met yet when the model begins.
    pub unmet: bool,
    /// The key is in a created table, whose name all nodes remember when the model begins.
    pub in_table: bool,
    /// How members change.
    pub change: Option<Change>,
    /// What must be reached.
    pub sometimes: Milestones,
    /// The rule that is broken.
    #[cfg(feature = "mutants")]
    pub mutant: Option<quorate::mutants::Mutant>,
    shell: Shell,
    steps: Mutex<HashMap<(u64, Event), Arc<Outcome>>>,
}

/// A state of all of it.
#[derive(Clone, Debug)]
pub struct State {
    pub machines: Vec<Shared<Machine>>,
    /// What is on its way, in the order of hashes, so that the order of sending tells no states apart.
    pub network: Vec<Shared<Envelope>>,
    clients: Vec<Client>,
    pub history: Shared<History>,
    /// What each stamp, and each ballot of a stamp, names that was ever sent or given to a disk.
    named: Shared<BTreeMap<Tag, Checksum>>,
    left: Faults,
    seal: seals::Seal,
    /// What takes no time; nothing between two steps.
    at_once: change::AtOnce,
    pub defect: Option<Defect>,
    /// What the step did that led here first.
    pub milestones: Milestones,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    next: usize,
    waits: bool,
    open: u8,
    /// The version that it was told last, and its value, where it will name that version.
    told: Option<(Version, Option<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct History {
    tester: LinearizabilityTester<Thread, Register>,
    linearizable: bool,
}

/// A step.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// A client begins its next operation.
    Begins(usize),
    /// A client leaves its operation open.
    Parts(usize),
    Arrives(Shared<Envelope>),
    /// A message arrives and stays on its way.
    ArrivesAndStays(Shared<Envelope>),
    Happens(NodeIndex, Event),
    /// A round for deletions: the fence at all, and then all hold the same.
    Round,
    /// A node is told the seal of that round.
    Seals(NodeIndex),
    /// A change of members begins, by one of the pairs of the model.
    Changes(usize),
    /// A node is told the configuration of this number.
    Tells(NodeIndex, u64),
    /// A member ends the change of members.
    Ends(NodeIndex),
}

impl World {
    pub fn new(name: &'static str, clients: Vec<Vec<(usize, Operation)>>) -> Self {
        let node_ids = ["1", "2", "3"].map(|id| NodeId::new(id).expect("this is an id")).to_vec();
        let placement = Arc::new(Placement::new(ClusterParameters::plain(0, NODES, node_ids)));
        Self {
            name,
            clients,
            faults: Faults::default(),
            grain: Grain::default(),
            unmet: false,
            in_table: false,
            change: None,
            sometimes: 0,
            #[cfg(feature = "mutants")]
            mutant: None,
            shell: Shell { placement, addresses: Vec::new(), loads_wait: false, copies: false },
            steps: Mutex::default(),
        }
    }

    #[must_use]
    pub fn with(mut self, faults: Faults) -> Self {
        self.shell.copies = faults.losses > 0;
        self.faults = faults;
        self
    }

    #[must_use]
    pub fn grained(mut self, grain: Grain) -> Self {
        self.shell.loads_wait = grain.loads;
        self.grain = grain;
        self
    }

    #[must_use]
    pub fn reaching(mut self, sometimes: Milestones) -> Self {
        self.sometimes = sometimes;
        self
    }

    /// A model of how the cluster comes to be.
    #[must_use]
    pub fn unmet(mut self) -> Self {
        self.unmet = true;
        self
    }

    /// A model of a created table.
    #[must_use]
    pub fn in_table(mut self) -> Self {
        self.in_table = true;
        self
    }

    fn members(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..self.shell.placement.members().len()).map(member)
    }

    fn others(&self, me: NodeIndex) -> impl Iterator<Item = NodeIndex> + use<> {
        self.members().filter(move |member| *member != me)
    }

    fn step(&self, machine: &Shared<Machine>, event: Event) -> Arc<Outcome> {
        let at = (machine.number(), event);
        let mut steps = self.steps.lock().expect("no step panics");
        if let Some(outcome) = steps.get(&at) {
            return Arc::clone(outcome);
        }
        #[cfg(feature = "mutants")]
        quorate::mutants::turn_on(self.mutant);
        let outcome = Arc::new(machine.step(&at.1, &self.shell));
        steps.insert(at, Arc::clone(&outcome));
        outcome
    }

    /// Something happens to a machine, and with it what follows at once.
    fn happens(&self, state: &mut State, member: NodeIndex, event: Event) {
        let mut at_once = VecDeque::from([(member, event)]);
        while let Some((member, event)) = at_once.pop_front().or_else(|| self.durable_at_once(state)) {
            let is_about_name = self.in_table && is_about_name(&state.machines[member.index()], &event);
            let place = &mut state.machines[member.index()];
            let outcome = self.step(place, event);
            let has_started = place.is_starting() && !outcome.machine.is_starting();
            *place = outcome.machine.clone();
            state.milestones |= outcome.milestones;
            state.defect = state.defect.take().or_else(|| outcome.defect.clone());
            state.name(&outcome);
            for (id, reply) in &outcome.replies {
                self.replied(state, *id, reply);
            }
            if has_started {
                // The peers' links to it come up; its own did when it started.
                at_once.extend(self.others(member).map(|peer| (peer, Event::Linked(member))));
            }
            for envelope in &outcome.sent {
                let is_step = self.grain.handshake_of.is_some_and(|of| of == envelope.from || of == envelope.to);
                let answers_about_name = is_about_name && is_answer_without_key(&envelope.message);
                let is_of_name = self.in_table && (names_a_name(&envelope.message) || answers_about_name);
                if self.change.is_some() && change::is_lost(&envelope.message, state.at_once) {
                    continue;
                }
                let takes_no_time = self.change.is_some() && change::takes_no_time(envelope, state.at_once);
                if is_handshake(&envelope.message) && !is_step || is_of_name || takes_no_time {
                    at_once.push_back((envelope.to, Event::Arrives(envelope.clone())));
                } else {
                    state.send(envelope.clone());
                }
            }
        }
    }

    /// A batch at a disk that becomes durable at once: one that is about the name of the table alone, or one without a record where
    /// members change.
    fn durable_at_once(&self, state: &State) -> Option<(NodeIndex, Event)> {
        let mut all = self.members().filter(|_| state.defect.is_none());
        let member = all.find(|member| {
            let machine = &state.machines[member.index()];
            let is_copying = state.at_once == change::AtOnce::Copying;
            let may = || machine.at_disk.as_ref().is_some_and(|batch| is_copying || batch.records.is_empty());
            self.in_table && is_about_name(machine, &Event::Persisted) || self.change.is_some() && may()
        });
        member.map(|member| (member, Event::Persisted))
    }

    /// A process dies and starts again; its links come up, and its clients' connections break.
    fn restarts(&self, state: &mut State, member: NodeIndex, event: Event) {
        for client in 0..self.clients.len() {
            if state.clients[client].waits && self.clients[client][state.clients[client].next].0 == member.index() {
                if let Some(content) = self.clients[client][state.clients[client].next].1.content() {
                    let checksum = Checksum::of(&key(), &content);
                    let stamped = state.named.values().any(|named| *named == checksum);
                    let stored = state
                        .machines
                        .iter()
                        .any(|machine| machine.folder.records.values().any(|record| record.checksum == checksum));
                    if !stamped {
                        state.milestones |= milestones::RESTARTED_IN_CLOCK_ROUND;
                    } else if !stored {
                        state.milestones |= milestones::RESTARTED_BEFORE_STORE;
                    }
                }
                state.clients[client].goes_on();
            }
        }
        self.happens(state, member, event);
        for peer in self.others(member) {
            self.happens(state, member, Event::Linked(peer));
        }
    }

    fn replied(&self, state: &mut State, id: RequestId, reply: &Reply) {
        if id == BEFORE {
            return;
        }
        let (client, number) = named_by(id);
        let Client { next, waits, open, .. } = state.clients[client];
        if !waits || number != next {
            return;
        }
        let Some(ending) = Ending::of(reply) else {
            state.milestones |= milestones::OUTCOME_UNKNOWN;
            state.clients[client].goes_on();
            return;
        };
        if self.clients[client][next..].iter().any(|(_, operation)| matches!(operation, Operation::Replace { .. }))
            && let Some(told) = register::told(reply, self.clients[client][next].1)
        {
            state.clients[client].told = Some(told);
        }
        if let Ending::Value(Some(value)) = ending
            && self
                .clients
                .iter()
                .zip(&state.clients)
                .any(|(operations, writer)| writer.waits && operations[writer.next].1.value() == Some(value))
        {
            state.milestones |= milestones::READ_UNFINISHED;
        }
        let mut tester = state.history.tester.clone();
        tester.on_return((client, open), ending).expect("one operation at a time returns");
        let linearizable = tester.is_consistent();
        state.history = Shared::new(History { tester, linearizable });
        state.clients[client].next += 1;
        state.clients[client].waits = false;
        if self.is_over(state) {
            state.milestones |= milestones::ALL_DONE;
        }
    }

    fn begins(&self, state: &mut State, client: usize) {
        let Client { next, waits, open, told } = &mut state.clients[client];
        *waits = true;
        let (node, mut operation) = self.clients[client][*next];
        if let Operation::Replace { seen, .. } = &mut operation {
            *seen = told.as_ref().and_then(|(_, value)| *value);
        }
        let mut tester = state.history.tester.clone();
        tester.on_invoke((client, *open), operation).expect("a thread has one operation at a time");
        let linearizable = state.history.linearizable;
        state.history = Shared::new(History { tester, linearizable });
        let id = RequestId((client * 100 + *next) as u64);
        let name = u8::try_from(id.0 % 251).expect("it is below 251");
        let command = operation.command(key(), name, told.as_ref().map(|(version, _)| version));
        let command = if self.in_table && operation != Operation::Drop { command.in_table(&table()) } else { command };
        self.happens(state, member(node), Event::Request { id, command });
    }

    /// No client waits or will ask again: nothing that still happens can be seen.
    fn is_over(&self, state: &State) -> bool {
        let mut clients = self.clients.iter().zip(&state.clients);
        !self.clients.is_empty() && clients.all(|(operations, client)| !client.waits && client.next == operations.len())
    }

    /// Forgets messages that need not arrive any more, because nothing can follow from them that does not follow when they
    /// are lost. Each is one that its receiver ignores for good, or one that leads to such a one alone:
    ///
    /// - A request or an answer that its receiver ignores now: its operation, its round or a incarnation at one of its ends is
    ///   over, and none of them comes back.
    /// - An answer to a node that has no operation under way. It could at most release a hint, which may be lost
    ///   if it is sent again, or exclude a peer that refuses, as a late peer is excluded too.
    /// - A request to prepare or accept, or a drop, that changes nothing, and whose answer would be ignored now. Promises, records,
    ///   clocks and drops never fall while a process runs, so that it would change nothing later. One that would raise a promise stays,
    ///   whoever waits for the answer.
    /// - A question whose answer would be ignored now. Being asked for the clock changes nothing; being asked for the
    ///   record neither, unless the store may show one that its node does not know to be durable.
    fn forget_what_is_dead(&self, state: &mut State) {
        let State { network, machines, .. } = state;
        let reads_change_nothing = !self.grain.landing && self.faults.failures == 0;
        let outcome =
            |envelope: &Shared<Envelope>| self.step(&machines[envelope.to.index()], Event::Arrives(envelope.clone()));
        let is_ignored = |envelope: &Shared<Envelope>| {
            let Outcome { machine, sent, defect, .. } = &*outcome(envelope);
            *machine == machines[envelope.to.index()] && sent.is_empty() && defect.is_none()
        };
        let is_answered_in_vain = |envelope: &Shared<Envelope>| {
            let Outcome { sent, defect, .. } = &*outcome(envelope);
            defect.is_none() && !sent.is_empty() && sent.iter().all(&is_ignored)
        };
        network.retain(|envelope| {
            let receiver = &machines[envelope.to.index()].node;
            match &envelope.message {
                Message::Request { request: Request::Clock, .. } => {
                    !(is_ignored(envelope) || is_answered_in_vain(envelope))
                }
                Message::Request { request: Request::Get { .. }, .. } => {
                    !(is_ignored(envelope) || reads_change_nothing && is_answered_in_vain(envelope))
                }
                Message::Request {
                    request:
                        Request::Store { .. }
                        | Request::Scan { .. }
                        | Request::Follow { .. }
                        | Request::Unfollow
                        | Request::OldRecords { .. }
                        | Request::Members(_)
                        | Request::Repair(_),
                    ..
                } => !is_ignored(envelope),
                Message::Configuration(_) | Message::ConfigurationWanted => true,
                Message::Request {
                    request:
                        Request::Prepare { .. }
                        | Request::Accept { .. }
                        | Request::Drop { .. }
                        | Request::Fence { .. }
                        | Request::Seal { .. }
                        | Request::TakeClock { .. },
                    ..
                } => {
                    let changes_nothing = outcome(envelope).machine == machines[envelope.to.index()];
                    !(is_ignored(envelope) || changes_nothing && is_answered_in_vain(envelope))
                }
                #[cfg(feature = "mutants")]
                Message::Answer { answer, .. } if crate::mutants::may_still_count(self.mutant, answer) => true,
                Message::Answer { .. } => {
                    let is_idle = receiver.inspect().is_idle() && receiver.tables().is_idle();
                    !is_idle && !is_ignored(envelope)
                }
                Message::Hello(_) => true,
                Message::Welcome(_) => envelope.to_incarnation == Some(receiver.incarnation()),
                Message::HelloRefused { incarnation, .. } => *incarnation == receiver.incarnation(),
            }
        });
    }

    /// A cluster whose nodes have met, found by letting everything happen in the order in which it was sent.
    fn meet(&self, state: &mut State) {
        for member in self.members() {
            for peer in self.others(member) {
                self.happens(state, member, Event::Linked(peer));
            }
        }
        if self.unmet {
            return;
        }
        self.settle(state);
        let bootstrapped = state.machines.iter().all(|machine| machine.node.unready().is_none());
        assert!(bootstrapped || state.defect.is_some(), "the cluster has bootstrapped");
        self.prepare_change(state);
        if self.in_table {
            let create = Command::CreateTable { name: register::table_name(), settings: TableSettings::default() };
            let read = Operation::Read.command(key(), 0, None).in_table(&table());
            for (n, command) in [(0, create), (1, read.clone()), (2, read)] {
                self.happens(state, member(n), Event::Request { id: BEFORE, command });
                self.settle(state);
            }
        }
    }

    /// Lets everything happen that is on its way.
    fn settle(&self, state: &mut State) {
        while state.defect.is_none() {
            if let Some(member) = self.members().find(|member| state.machines[member.index()].at_disk.is_some()) {
                self.happens(state, member, Event::Persisted);
            } else if let Some(envelope) = state.network.pop() {
                self.happens(state, envelope.to, Event::Arrives(envelope));
            } else {
                break;
            }
        }
    }

    /// Whether an older copy of a node's folder is known to be older by all of its peers. Where one of them missed the
    /// present incarnation, nobody can tell the copy from the folder: that is not promised.
    fn copy_is_known_to_be_older(&self, state: &State, member: NodeIndex) -> bool {
        let machine = &state.machines[member.index()];
        let parameters = self.shell.placement.parameters();
        machine.copy.as_ref().is_some_and(|copy| {
            self.others(member).all(|peer| {
                let known = state.machines[peer.index()].folder.meta.peers.get(parameters.id(member));
                known.is_some_and(|known| !copy.meta.incarnations.contains(&known.incarnation))
            })
        })
    }

    /// Whether every peer has durably recorded the store id of a node.
    fn identity_is_known(&self, state: &State, member: NodeIndex) -> bool {
        let store_id = state.machines[member.index()].folder.meta.store_id;
        let id = self.shell.placement.parameters().id(member);
        self.others(member).all(|peer| {
            let known = state.machines[peer.index()].folder.meta.peers.get(id);
            known.is_some_and(|known| known.store_id == store_id)
        })
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let machines = self.members().map(|member| Machine::fresh(member, &self.shell)).collect();
        let tester = LinearizabilityTester::new(Register::default());
        let mut state = State {
            machines,
            network: Vec::new(),
            clients: vec![Client { next: 0, waits: false, open: 0, told: None }; self.clients.len()],
            history: Shared::new(History { tester, linearizable: true }),
            named: Shared::new(BTreeMap::new()),
            left: self.faults,
            seal: seals::Seal::default(),
            at_once: change::AtOnce::default(),
            defect: None,
            milestones: 0,
        };
        self.meet(&mut state);
        state.milestones = 0;
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.defect.is_some() || !state.history.linearizable || self.is_over(state) {
            return;
        }
        for (number, (client, operations)) in state.clients.iter().zip(&self.clients).enumerate() {
            if client.waits {
                if state.left.partings > 0 && client.next + 1 < operations.len() {
                    actions.push(Action::Parts(number));
                }
            } else if let Some((node, _)) = operations.get(client.next)
                && state.machines[*node].node.unready().is_none()
            {
                actions.push(Action::Begins(number));
            }
        }
        self.seal_actions(state, actions);
        self.change_actions(state, actions);
        for (n, envelope) in state.network.iter().enumerate() {
            // Of equal messages one is enough.
            if n == 0 || state.network[n - 1] != *envelope {
                actions.push(Action::Arrives(envelope.clone()));
                if state.left.repeats > 0 {
                    actions.push(Action::ArrivesAndStays(envelope.clone()));
                }
            }
        }
        for (member, machine) in self.members().zip(&state.machines) {
            let mut may = |event| actions.push(Action::Happens(member, event));
            if machine.at_disk.is_some() {
                may(Event::Persisted);
                if self.grain.landing && !machine.landed {
                    may(Event::Lands);
                }
                if state.left.failures > 0 && !machine.landed {
                    may(Event::Fails { all_the_same: false });
                    may(Event::Fails { all_the_same: true });
                }
            }
            if machine.node.store_has_failed() {
                may(Event::Reopened);
            }
            if !machine.loads.is_empty() {
                may(Event::ReadsDone);
            }
            if next_alarm_hedges(machine) || state.left.alarms > 0 && machine.node.next_wake().is_some() {
                may(Event::Wakes);
            }
            // Before the drop is called, a restart would make a node forget the name, and nothing else.
            let may_restart =
                !self.in_table || state.clients.first().is_some_and(|client| client.waits || client.next > 0);
            let restarts = state.left.restarts.get(member.index()).copied().unwrap_or(0);
            if may_restart && restarts > 0 && state.left.restarts_of_all > 0 {
                may(Event::Restarts { kept: false });
                if machine.at_disk.is_some() && !machine.landed {
                    may(Event::Restarts { kept: true });
                }
            }
            if state.left.losses > 0 {
                // What nobody knows yet has promised nothing, and may be replaced.
                if self.identity_is_known(state, member) {
                    may(Event::LosesItsDisk);
                }
                if self.copy_is_known_to_be_older(state, member) {
                    may(Event::ReturnsToTheCopy);
                }
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.milestones = 0;
        match action {
            Action::Begins(client) => self.begins(&mut next, client),
            Action::Parts(client) => {
                next.left.partings -= 1;
                next.milestones |= milestones::GAVE_UP;
                next.clients[client].goes_on();
            }
            Action::Arrives(envelope) => {
                let place = next.network.binary_search_by_key(&envelope.number(), Shared::number).ok()?;
                next.network.remove(place);
                self.arrives(&mut next, envelope);
            }
            Action::ArrivesAndStays(envelope) => {
                next.left.repeats -= 1;
                next.milestones |= milestones::REPEATED;
                self.arrives(&mut next, envelope);
            }
            Action::Round => self.round(&mut next),
            Action::Seals(member) => self.seals(&mut next, member),
            Action::Changes(pair) => {
                if !self.changes(&mut next, pair) {
                    return None;
                }
            }
            Action::Tells(member, number) => self.tells(&mut next, member, number),
            Action::Ends(member) => {
                if !self.ends(&mut next, member) {
                    return None;
                }
            }
            Action::Happens(member, event) => match event {
                Event::Restarts { .. } => {
                    next.left.restarts[member.index()] -= 1;
                    next.left.restarts_of_all -= 1;
                    self.restarts(&mut next, member, event);
                }
                Event::LosesItsDisk | Event::ReturnsToTheCopy => {
                    next.left.losses -= 1;
                    self.restarts(&mut next, member, event);
                }
                _ => {
                    match event {
                        Event::Fails { .. } => next.left.failures -= 1,
                        Event::Wakes if !next_alarm_hedges(&state.machines[member.index()]) => {
                            next.left.alarms -= 1;
                        }
                        _ => {}
                    }
                    self.happens(&mut next, member, event);
                }
            },
        }
        self.forget_what_is_dead(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("every history is linearizable", |_, state: &State| state.history.linearizable),
            Property::always("one stamp names one record", |_, state: &State| {
                !matches!(state.defect, Some(Defect::Stamp(_)))
            }),
            Property::always("no clock is below what its node acknowledged", |_, state: &State| {
                !matches!(state.defect, Some(Defect::Clock(_)))
            }),
            Property::always("what is said is durable", |_, state: &State| {
                !matches!(state.defect, Some(Defect::Durable(_)))
            }),
            Property::always("no assertion of the protocol fails", |_, state: &State| {
                !matches!(state.defect, Some(Defect::Panic(_)))
            }),
            Property::always("who forgot takes no part", |_, state: &State| {
                !matches!(state.defect, Some(Defect::Silence(_)))
            }),
            Property::always("answers leave on links that lead to who asked", |_, state: &State| {
                !matches!(state.defect, Some(Defect::Link(_)))
            }),
            Property::always("nobody gives up untold", |_, state: &State| {
                !matches!(state.defect, Some(Defect::GivingUp(_)))
            }),
        ];
        properties.extend(milestones::properties(self.sometimes));
        properties
    }
}

impl World {
    fn arrives(&self, state: &mut State, envelope: Shared<Envelope>) {
        let from_earlier_life = envelope.from_incarnation != state.machines[envelope.from.index()].node.incarnation();
        if from_earlier_life && !is_handshake(&envelope.message) {
            state.milestones |= milestones::EARLIER_INCARNATION;
        }
        self.happens(state, envelope.to, Event::Arrives(envelope));
    }
}

impl State {
    fn send(&mut self, envelope: Shared<Envelope>) {
        let place = self.network.partition_point(|other| other.number() < envelope.number());
        self.network.insert(place, envelope);
    }

    /// One stamp names one record.
    fn name(&mut self, outcome: &Outcome) {
        for (tag, checksum) in &outcome.named {
            match self.named.get(tag) {
                None => {
                    let mut named = BTreeMap::clone(&self.named);
                    named.insert(tag.clone(), *checksum);
                    self.named = Shared::new(named);
                }
                Some(known) if known == checksum => {}
                Some(_) => self.defect = Some(Defect::Stamp(format!("{tag:?} names two records"))),
            }
        }
    }
}

/// Milestones apart: they say how a state was reached, not what it is.
impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.machines.hash(hasher);
        self.network.hash(hasher);
        self.clients.hash(hasher);
        self.history.hash(hasher);
        self.named.hash(hasher);
        self.left.hash(hasher);
        self.seal.hash(hasher);
        self.defect.hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.machines == other.machines
            && self.network == other.network
            && self.clients == other.clients
            && self.history == other.history
            && self.named == other.named
            && self.left == other.left
            && self.seal == other.seal
            && self.defect == other.defect
    }
}

impl Client {
    /// It leaves its operation open; its next one is another thread's.
    fn goes_on(&mut self) {
        self.next += 1;
        self.waits = false;
        self.open += 1;
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begins(client) => write!(f, "client {client} begins its next operation"),
            Self::Parts(client) => write!(f, "client {client} leaves its operation open"),
            Self::Arrives(envelope) => write!(f, "arrives: {envelope:?}"),
            Self::ArrivesAndStays(envelope) => write!(f, "arrives, and will again: {envelope:?}"),
            Self::Round => write!(f, "a round for deletions"),
            Self::Seals(member) => write!(f, "node {} is told the seal", member.0 + 1),
            Self::Changes(pair) => write!(f, "members change, by pair {pair}"),
            Self::Tells(member, number) => write!(f, "node {} is told configuration {number}", member.0 + 1),
            Self::Ends(member) => write!(f, "node {} ends the change", member.0 + 1),
            Self::Happens(member, event) => write!(f, "node {}: {event:?}", member.0 + 1),
        }
    }
}

fn member(index: usize) -> NodeIndex {
    NodeIndex(u16::try_from(index).expect("there are few nodes"))
}

fn is_handshake(message: &Message) -> bool {
    match message {
        Message::Hello(_) | Message::Welcome(_) | Message::HelloRefused { .. } => true,
        Message::Request { .. } | Message::Answer { .. } | Message::Configuration(_) | Message::ConfigurationWanted => {
            false
        }
    }
}

/// Whether the next alarm is that of an operation that has asked a majority, and no alarm of the tables or of a change of members
/// rings with it.
fn next_alarm_hedges(machine: &Machine) -> bool {
    let node = &machine.node;
    let mut of_others = [node.tables().next_wake(), node.members().next_wake(node.layout())].into_iter().flatten();
    node.inspect().next_timer_hedges() && of_others.all(|alarm| node.next_wake().is_some_and(|next| next < alarm))
}

fn named_by(id: RequestId) -> (usize, usize) {
    let id = usize::try_from(id.0).expect("ids are small");
    (id / 100, id % 100)
}
