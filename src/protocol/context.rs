//! The context in which the parts of a node work: the clock, the group commit and the outgoing effects are common to all,
//! everything else belongs to one part.

use std::collections::VecDeque;

use crate::types::{Clock, Incarnation, Key, NodeId, NodeIndex, PeerRecord, ReadKind, RunningTime, Slot, Version};

use super::clock::QuorumClock;
use super::group_commit::{AckAfter, GroupCommit};
use super::io::{Effect, Failure, ProtocolEvent, Reply, RequestId, Time};
use super::layout::Layout;
use super::message::{Answer, Message, OperationId, Refusal, Request};

/// What each part of a node may use of the rest.
#[derive(Debug)]
pub struct NodeCtx<'a> {
    /// The time of this input.
    pub now: Time,
    /// This node's count of the time that it ran.
    pub running: RunningTime,
    /// This node.
    pub me: NodeIndex,
    /// The replicas of each slot.
    pub layout: &'a Layout,
    /// The node's clock.
    pub clock: &'a mut QuorumClock,
    /// The batches for the disk.
    pub group_commit: &'a mut GroupCommit<PendingAck>,
    /// The effects of this input.
    pub effects: &'a mut Vec<Effect>,
    /// The answers of this node's replica, which the node delivers before the input ends.
    pub deliveries: &'a mut VecDeque<Delivery>,
}

/// The coordinator's question that an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The node that coordinates the operation: this one or a peer.
    pub node: NodeIndex,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The operation, or clock round.
    pub operation: OperationId,
    /// The operation's round.
    pub round: u32,
    /// The number of the configuration under which the round began.
    pub number: u64,
}

/// The sender of a request to this node's replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requester {
    /// A coordinator, on this node or on a peer.
    Coordinator(Origin),
    /// An operator, who asks this replica alone.
    Operator(RequestId),
}

/// The one who asked for an operation, and gets its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// A client, by its request.
    Client(RequestId),
    /// A part of this node.
    Task(Task),
}

/// The work of a part of this node that an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// A key of a page of a list is read.
    List {
        /// The page.
        page: OperationId,
        /// The key's place in it.
        place: usize,
    },
    /// A read of a key that was announced to watches, by its number.
    Watch(u64),
    /// A page of what is there, for a watch, by its number.
    WatchPage(u64),
    /// Deletes a value whose time to live has passed.
    Expire(u64),
    /// An operation on a created table, or on its name; with the request that it does, if that is traced.
    Table(u64, Option<RequestId>),
    /// Brings a key to a replica that lacks it.
    Repair(u64),
    /// Brings a key to all of its replicas, before tombstones are forgotten.
    Level(u64),
    /// Brings a key to this node, which gains its slot.
    TakeOver(u64),
}

impl Caller {
    /// The traced request that it stands for.
    #[must_use]
    pub fn traced(self) -> Option<RequestId> {
        match self {
            Self::Client(request) | Self::Task(Task::Table(_, Some(request))) => {
                Some(request).filter(|it| it.is_traced())
            }
            Self::Task(_) => None,
        }
    }
}

/// An answer of this node's replica, on its way to the requester. A coordinator on this node gets the same answer as one on
/// a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// To a coordinator.
    Answer(Origin, Answer),
    /// To an operator.
    Reply(RequestId, Reply),
    /// To the part of this node that an operation was for.
    Task(Task, Reply),
    /// To a coordinator: the fence is durable, and all of the slot that was taken in before.
    Fenced(Origin, Slot),
    /// To those who follow the replica's changes: the store of a record was acknowledged because `key` has a greater one,
    /// whose version this is.
    Beaten(Key, Version),
}

/// An acknowledgement that waits until a batch is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PendingAck {
    /// A record was stored, or a greater one was.
    Stored(Delivery),
    /// A record of a conditional write was beaten: the clock is not below its ballot before that is acknowledged.
    Observed(Clock),
    /// The request waits for its epoch to be durable, and is judged then.
    Judged(Origin, Request),
    /// A promise was given, and records of its key were on their way to the disk: it is answered once they are durable.
    Promised {
        /// The coordinator that asked for it.
        to: Origin,
        /// The key.
        key: Key,
        /// Whether the digest is enough.
        read_kind: ReadKind,
    },
    /// A peer is recorded: its hello is answered, or its welcome counts.
    PeerRecorded {
        /// The peer.
        peer: NodeIndex,
        /// Its store id and incarnation.
        peer_record: PeerRecord,
        /// The message that introduced it.
        greeting: Greeting,
    },
    /// What must be known before gained slots are served is durable.
    FloorsKept {
        /// The configuration.
        number: u64,
    },
    /// It is durable that all gained slots are there.
    TakenOver {
        /// The configuration.
        number: u64,
    },
    /// An operator raises the clock to an epoch.
    ClockRaised {
        /// The operator's request.
        request: RequestId,
        /// The clock to raise to.
        to: Clock,
    },
}

/// The two messages that introduce a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Greeting {
    /// The peer wants to be recorded.
    Hello,
    /// The peer has recorded this node.
    Welcome,
}

/// When a replica's answer may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerWhen {
    /// At once: it reveals only what is durable.
    Now,
    /// Once this batch is durable.
    Durable(AckAfter),
}

impl NodeCtx<'_> {
    /// The same context, for a shorter time.
    pub fn reborrow(&mut self) -> NodeCtx<'_> {
        NodeCtx {
            now: self.now,
            running: self.running,
            me: self.me,
            layout: self.layout,
            clock: self.clock,
            group_commit: self.group_commit,
            effects: self.effects,
            deliveries: self.deliveries,
        }
    }

    /// The id of `member`.
    #[must_use]
    pub fn id(&self, member: NodeIndex) -> NodeId {
        self.layout.id(member).clone()
    }

    /// The ids of some members.
    #[must_use]
    pub fn ids(&self, members: &[NodeIndex]) -> Vec<NodeId> {
        members.iter().map(|member| self.id(*member)).collect()
    }

    /// This node's id.
    #[must_use]
    pub fn id_of_me(&self) -> &NodeId {
        self.layout.id(self.me)
    }

    /// The name under which this node writes.
    #[must_use]
    pub fn writer(&self) -> NodeId {
        self.layout.writer(self.me).clone()
    }

    /// Sends `message` to the incarnation `to_incarnation` of `to`, or to any in a hello.
    pub fn send(&mut self, to: NodeIndex, to_incarnation: Option<Incarnation>, message: Message) {
        self.effects.push(Effect::Send { to, to_incarnation, message });
    }

    /// Answers the client or operator that sent `request`.
    pub fn reply(&mut self, id: RequestId, reply: Reply) {
        self.effects.push(Effect::Reply { id, reply });
    }

    /// Gives the reply of an operation to the one who asked for it.
    pub fn finish(&mut self, caller: Caller, reply: Reply) {
        match caller {
            Caller::Client(request) => self.reply(request, reply),
            Caller::Task(task) => self.deliveries.push_back(Delivery::Task(task, reply)),
        }
    }

    /// Reports `event` to the shell.
    pub fn report(&mut self, event: ProtocolEvent) {
        self.effects.push(Effect::ProtocolEvent(event));
    }

    /// Marks `operation`, which is done for a traced request, and reports it.
    pub fn trace(&mut self, request: RequestId, operation: OperationId) -> OperationId {
        let operation = operation.traced();
        self.report(ProtocolEvent::Traced { request, operation });
        operation
    }

    /// Reports that this node's replica has answered this node's coordinator, if the operation is traced.
    pub fn report_traced_answer(&mut self, operation: OperationId, round: u32, answer: &Answer) {
        if operation.is_traced() {
            let refusal = if let Answer::Refused(refusal) = answer { Some(*refusal) } else { None };
            self.report(ProtocolEvent::AnsweredHere { operation, round, refusal });
        }
    }

    /// Delivers an answer to a coordinator.
    pub fn answer(&mut self, to: Origin, answer: Answer) {
        self.deliveries.push_back(Delivery::Answer(to, answer));
    }

    /// Refuses a request to this node's replica.
    pub fn refuse(&mut self, to: Requester, refusal: Refusal) {
        self.deliveries.push_back(match to {
            Requester::Coordinator(origin) => Delivery::Answer(origin, Answer::Refused(refusal)),
            Requester::Operator(request) => Delivery::Reply(request, Reply::Failed(refusal.into())),
        });
    }

    /// Acknowledges a store: an operator gets `reply`, a coordinator learns that the record, or a greater one, is durable.
    pub fn acknowledge(&mut self, to: Requester, when: AnswerWhen, reply: impl FnOnce() -> Reply) {
        let delivery = match to {
            Requester::Coordinator(origin) => Delivery::Answer(origin, Answer::Stored),
            Requester::Operator(request) => Delivery::Reply(request, reply()),
        };
        match when {
            AnswerWhen::Now => self.deliveries.push_back(delivery),
            AnswerWhen::Durable(after) => self.group_commit.ack_after(after, PendingAck::Stored(delivery)),
        }
    }
}

impl Delivery {
    /// The batch that it waited for has failed: it becomes a refusal.
    pub fn store_failed(&mut self) {
        match self {
            Self::Answer(_, answer) => *answer = Answer::Refused(Refusal::StoreFailed),
            Self::Reply(_, reply) | Self::Task(_, reply) => *reply = Reply::Failed(Failure::StoreFailed),
            Self::Fenced(origin, _) => *self = Self::Answer(*origin, Answer::Refused(Refusal::StoreFailed)),
            Self::Beaten(..) => {}
        }
    }
}

/// An operator's view of a refusal by this node's replica.
impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::StampConflict => Self::StampConflict,
            _ => Self::StoreFailed,
        }
    }
}
