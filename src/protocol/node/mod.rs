//! A node: coordinator of its clients' operations and replica of its slots, with one clock, one journal and one
//! handshake with each peer.
//!
//! Here is only how the parts are put together: which part an input is for, and what one part's answer means to the
//! next. An answer of the own replica takes the same way as a peer's, without a message.
//!
//! | file | holds |
//! |---|---|
//! | `clients` | what clients and operators ask |
//! | `operations` | the operations under way: clock rounds, stamps, questions, alarms, endings |
//! | `peers` | what peers say and are answered |
//! | `disk` | what follows when a batch is durable, or may not be |

mod clients;
mod disk;
mod operations;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::protocol::clock::QuorumClock;
use crate::protocol::placement::Placement;
use crate::types::{Clock, Incarnation, Key, Lookup, Meta, NodeId, NodeIndex, PeerRecord, Record, Slot, StoreId};

use crate::mutants::{self, Mutant};
use crate::protocol::coordinator::latency::Promptness;
use crate::protocol::coordinator::ops::get::Read;
use crate::protocol::coordinator::ops::set::Write;
use crate::protocol::group_commit::Journal;
use crate::protocol::hints::Stragglers;
use crate::protocol::membership::{Handshake, Known, PeerView};
use crate::protocol::message::{Answer, Message, OperationId, Refusal, Request};
use crate::protocol::replica::{Outcome, Owed, Replica, Surroundings, Target};
use crate::protocol::{Effect, Failure, Input, Reply, RequestId, Time, Unready};

/// Who a node is, given once at its start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This node.
    pub me: NodeIndex,
    /// Who holds what.
    pub placement: Arc<Placement>,
    /// What its folder remembers.
    pub meta: Meta,
    /// Random, drawn for this run.
    pub nonce: u64,
}

/// One node's whole protocol state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    me: NodeIndex,
    placement: Arc<Placement>,
    store_id: StoreId,
    /// The epoch of this run is durable.
    started: bool,
    draining: bool,
    clock: QuorumClock,
    journal: Journal<Due>,
    handshake: Handshake,
    replica: Replica,
    operations: BTreeMap<OperationId, Operation>,
    /// Operators' requests that wait for the own replica, and until when.
    local: BTreeMap<OperationId, (RequestId, Time)>,
    operation_next: u64,
    /// Writes that wait for the next clock round to begin, and whom it is to ask for them.
    awaiting_round: Vec<(OperationId, Whom)>,
    /// Clock rounds that are under way.
    clock_rounds: BTreeMap<OperationId, ClockRound>,
    /// Writes that wait until an epoch is durable.
    awaiting_epoch: Vec<OperationId>,
    alarms: BTreeSet<(Time, OperationId)>,
    promptness: Promptness,
    stragglers: Stragglers,
    /// Answers of the own replica that are still to be passed on.
    answers: Vec<(Target, Outcome)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Operation {
    began: Time,
    deadline: Time,
    /// When to ask others, or to ask again.
    alarm: Time,
    /// How many times everyone was asked: not once while a majority was, and may do.
    asks: u32,
    /// The last refusal of each replica that has refused, or one for good.
    refusals: BTreeMap<NodeIndex, Refusal>,
    kind: Kind,
}

/// Whom a clock round asks for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Whom {
    /// A majority, because nobody was asked yet.
    Majority,
    /// Those who were not asked yet.
    Others,
    /// All who have not answered.
    All,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClockRound {
    began: Time,
    /// The writes that take part.
    writes: Vec<OperationId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Write(Write),
    Read(Read),
}

/// What is owed once a batch is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Due {
    Replica(Owed),
    /// This peer is recorded. Its hello is answered; its welcome counts.
    Recorded {
        peer: NodeIndex,
        peer_record: PeerRecord,
        introduced_by: Introduction,
    },
    ClockRaised {
        operation: OperationId,
        to: Clock,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Introduction {
    Hello,
    Welcome,
}

impl From<Owed> for Due {
    fn from(owed: Owed) -> Self {
        Self::Replica(owed)
    }
}

impl Node {
    /// A new run of a node. It says nothing and serves nobody before the epoch of this run is durable, which
    /// [`Node::flush`] asks for.
    ///
    /// # Panics
    /// When the epochs are used up, which takes 2^64 starts.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let Setup { me, placement, meta, nonce } = setup;
        let incarnation = Incarnation { epoch: meta.epoch.checked_add(1).expect("epochs do not run out"), nonce };
        let parameters = placement.parameters().clone();
        let mut journal = Journal::default();
        journal.add_incarnation(incarnation);
        let promptness = Promptness::new(parameters.node_ids.len());
        let known = Known { incarnations: &meta.incarnations, formed: meta.formed, peers: &meta.peers };
        Self {
            me,
            store_id: meta.store_id,
            handshake: Handshake::new(me, parameters, meta.store_id, incarnation, &known),
            placement,
            started: mutants::is_on(Mutant::ServesBeforeStarted),
            draining: false,
            clock: QuorumClock::start(incarnation.epoch),
            journal,
            replica: Replica::default(),
            operations: BTreeMap::new(),
            local: BTreeMap::new(),
            operation_next: 0,
            awaiting_round: Vec::new(),
            clock_rounds: BTreeMap::new(),
            awaiting_epoch: Vec::new(),
            alarms: BTreeSet::new(),
            promptness,
            stragglers: Stragglers::default(),
            answers: Vec::new(),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Request { id, deadline, command } => self.request(now, id, deadline, command, effects),
            Input::Peer { from, from_incarnation, to_incarnation, message } => {
                self.peer(now, from, from_incarnation, to_incarnation, message, effects);
            }
            Input::Linked(peer) => self.handshake.linked(peer, true, now),
            Input::Unlinked(peer) => self.handshake.linked(peer, false, now),
            Input::ReadDone { read: load, lookup: held } => {
                let (replica, mut around) = self.replica_and_surroundings(effects);
                replica.loaded(load, held, &mut around);
            }
            Input::Persisted { durable } => self.persisted(durable, effects),
            Input::StoreReopened(meta) => self.store_reopened(&meta, effects),
            Input::Wake => self.wake(now, effects),
            Input::Drain => self.draining = true,
        }
        self.pass_answers_on(now, effects);
    }

    /// Begins what all inputs handled so far may share: one clock round for all writes that wait for one, and one batch
    /// for everything that waits for the disk.
    pub fn flush(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.begin_clock_round(now, effects);
        self.pass_answers_on(now, effects);
        if self.started {
            for (to, message) in self.handshake.hellos(now) {
                effects.push(Effect::Send { to, to_incarnation: None, message });
            }
        }
        if let Some(batch) = self.journal.begin() {
            effects.push(Effect::Persist(batch));
        }
    }

    /// When [`Input::Wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        let alarm = self.alarms.first().map(|(time, _)| *time);
        let hello = self.handshake.next_hello().filter(|_| self.started);
        alarm.into_iter().chain(hello).min()
    }

    /// Why it takes no requests, where it does not.
    #[must_use]
    pub fn unready(&self) -> Option<Unready> {
        if let Some((by, refusal)) = self.handshake.refused_as_a_whole() {
            return Some(Unready::Refused { by: by.into_iter().map(|peer| self.id(peer)).collect(), refusal });
        }
        if !self.started {
            return Some(Unready::Starting);
        }
        if !self.handshake.is_formed() {
            return Some(Unready::Forming { missing: self.handshake.not_met().map(|peer| self.id(peer)).collect() });
        }
        self.draining.then_some(Unready::Draining)
    }

    /// How `peer` stands to this node.
    #[must_use]
    pub fn peer_view(&self, peer: NodeIndex) -> PeerView {
        self.handshake.view(peer)
    }

    /// The run of `peer` that requests are sent to, where they are.
    #[must_use]
    pub fn talking_to(&self, peer: NodeIndex) -> Option<Incarnation> {
        self.handshake.talking_to(peer)
    }

    /// Whether others are asked before `peer`, because it was late or refused lately.
    #[must_use]
    pub fn passes_over(&self, peer: NodeIndex, now: Time) -> bool {
        self.promptness.is_late(peer, now)
    }

    /// Whether the alarm that rings next is of an operation that has asked a majority first: it asks others where that is
    /// still of use, and does not ask again yet.
    #[must_use]
    pub fn may_ask_others_next(&self) -> bool {
        let next = self.alarms.first().and_then(|(_, id)| self.operations.get(id));
        next.is_some_and(|operation| operation.asks == 0)
    }

    /// Whether the store has failed and was not reopened since.
    #[must_use]
    pub fn store_has_failed(&self) -> bool {
        self.journal.has_failed()
    }

    /// The clock now.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock.now()
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> NodeIndex {
        self.me
    }

    /// Who holds what.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Whether no operation is under way, nor anything that one left behind.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.operations.is_empty() && self.clock_rounds.is_empty()
    }

    /// This run.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.handshake.incarnation()
    }

    // The own replica.

    fn own_store(&mut self, slot: Slot, key: Key, record: Record, target: Target, effects: &mut Vec<Effect>) {
        let (replica, mut around) = self.replica_and_surroundings(effects);
        replica.store(slot, key, record, target, &mut around);
    }

    fn replica_and_surroundings<'a>(
        &'a mut self,
        effects: &'a mut Vec<Effect>,
    ) -> (&'a mut Replica, Surroundings<'a, Due>) {
        let Self { replica, clock, journal, answers, .. } = self;
        (replica, Surroundings { clock, journal, effects, answers })
    }

    fn pass_answers_on(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while !self.answers.is_empty() {
            for (target, outcome) in std::mem::take(&mut self.answers) {
                self.pass_on(now, target, outcome, effects);
            }
        }
    }

    fn pass_on(&mut self, now: Time, target: Target, outcome: Outcome, effects: &mut Vec<Effect>) {
        match target {
            Target::Peer { member, incarnation, operation, round } => {
                let message = Message::Answer { operation, round, answer: outcome.into() };
                effects.push(Effect::Send { to: member, to_incarnation: Some(incarnation), message });
            }
            Target::Own { operation, round } => {
                self.answered(now, self.me, operation, round, outcome.into(), effects);
            }
            Target::Operator(id) => {
                let reply = match outcome {
                    Outcome::Lookup(_, Lookup::Record(record)) => Reply::Record(Some(record)),
                    Outcome::Lookup(_, Lookup::Absent | Lookup::Digest(_)) => Reply::Record(None),
                    Outcome::Stored(stamp) => Reply::Set(stamp),
                    Outcome::Superseded { held } => Reply::Failed(Failure::NotGreater { held }),
                    Outcome::Refused(Refusal::StampConflict) => Reply::Failed(Failure::StampConflict),
                    Outcome::Refused(_) => Reply::Failed(Failure::StoreFailed),
                };
                self.end_local(id, reply, effects);
            }
        }
    }

    fn send_request(
        &self,
        to: NodeIndex,
        operation: OperationId,
        round: u32,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        // Those that cannot be reached now are asked when they can: see catch_up.
        if let Some(incarnation) = self.handshake.talking_to(to) {
            let message = Message::Request { operation, round, request };
            effects.push(Effect::Send { to, to_incarnation: Some(incarnation), message });
        }
    }

    fn id(&self, member: NodeIndex) -> NodeId {
        self.placement.parameters().id(member).clone()
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Lookup(key, held) => Self::Lookup { key, held },
            Outcome::Stored(_) | Outcome::Superseded { .. } => Self::Stored,
            Outcome::Refused(refusal) => Self::Refused(refusal),
        }
    }
}
