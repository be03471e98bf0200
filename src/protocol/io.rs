//! Inputs, effects and replies: everything that goes into a node and comes out of it.

use std::sync::Arc;

use crate::types::{
    Batch, Checksum, Clock, Content, Incarnation, Key, Lookup, Meta, NodeId, NodeIndex, ReadKind, Record, Slot, Stamp,
};

use super::message::{HelloRefusal, Message, Refusal};

/// A reading of the shell's monotonic clock, in microseconds since any fixed moment. It decides when to ask again and
/// when to give up, never what is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// This time and `span` more.
    #[must_use]
    pub fn after(self, span: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long this time is after `earlier`; nothing where it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A client's request, named by the shell; its reply bears the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A load from the store, named by the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What a client or an operator asks a node to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Reads a key, linearizably.
    Get {
        /// The key.
        key: Key,
    },
    /// Writes or deletes a key, linearizably.
    Set {
        /// The key.
        key: Key,
        /// The value, or a tombstone.
        content: Content,
        /// Of both.
        checksum: Checksum,
    },
    /// Reads what this replica holds.
    NodeGet {
        /// The key.
        key: Key,
    },
    /// Stores on this replica alone.
    NodeSet {
        /// The key.
        key: Key,
        /// The value, or a tombstone.
        content: Content,
        /// Of both.
        checksum: Checksum,
        /// The stamp; without one this node draws it.
        stamp: Option<Stamp>,
    },
    /// Reads this node's clock.
    ClockGet,
    /// Raises this node's clock.
    ClockRaise {
        /// To at least this.
        to: Clock,
    },
}

impl Command {
    /// The key that it is about; a question about the clock has none.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Get { key } | Self::Set { key, .. } | Self::NodeGet { key } | Self::NodeSet { key, .. } => Some(key),
            Self::ClockGet | Self::ClockRaise { .. } => None,
        }
    }

    /// The bytes of its key and its value.
    #[must_use]
    pub fn size(&self) -> usize {
        let value_bytes = match self {
            Self::Set { content, .. } | Self::NodeSet { content, .. } => content.value_bytes(),
            Self::Get { .. } | Self::NodeGet { .. } | Self::ClockGet | Self::ClockRaise { .. } => 0,
        };
        self.key().map_or(0, |key| key.as_bytes().len()) + value_bytes
    }
}

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A client asks.
    Request {
        /// Names the reply.
        id: RequestId,
        /// When the client must have its answer.
        deadline: Time,
        /// What it asks for.
        command: Command,
    },
    /// A peer says something.
    Peer {
        /// Who.
        from: NodeIndex,
        /// Its run.
        from_incarnation: Incarnation,
        /// The run of this node that it is meant for; absent in a hello.
        to_incarnation: Option<Incarnation>,
        /// What it says.
        message: Message,
    },
    /// The link to a peer is up: what is sent may arrive.
    Linked(NodeIndex),
    /// The link to a peer is down.
    Unlinked(NodeIndex),
    /// The answer to [`Effect::Read`]; `None` where the store could not read it.
    ReadDone {
        /// Which load.
        read: ReadId,
        /// What is held.
        lookup: Option<Lookup>,
    },
    /// The answer to [`Effect::Persist`]: the batch is durable, or may not be.
    Persisted {
        /// Whether it is.
        durable: bool,
    },
    /// The store was reopened after a failure and found whole; it remembers this.
    StoreReopened(Meta),
    /// The time that [`super::Node::next_wake`] named has come.
    Wake,
    /// The node is to end: it takes no new requests.
    Drain,
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Make this durable, and answer with [`Input::Persisted`]. There is one at a time.
    Persist(Arc<Batch>),
    /// Read this, and answer with [`Input::ReadDone`].
    Read {
        /// Names the answer.
        read: ReadId,
        /// Where the key is.
        slot: Slot,
        /// The key.
        key: Key,
        /// How much of it.
        kind: ReadKind,
    },
    /// Send this. It may be lost, repeated or late.
    Send {
        /// To whom.
        to: NodeIndex,
        /// For which run of it; absent in a hello.
        to_incarnation: Option<Incarnation>,
        /// What.
        message: Message,
    },
    /// Answer a client.
    Reply {
        /// Whom.
        id: RequestId,
        /// With what.
        reply: Reply,
    },
    /// Something worth a log line or a count.
    ProtocolEvent(ProtocolEvent),
}

/// The answer to a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// The latest record of a key, or none; for `Get` and `NodeGet`.
    Record(Option<Record>),
    /// A write is done, under this stamp.
    Set(Stamp),
    /// The clock.
    Clock(Clock),
    /// It failed.
    Failed(Failure),
}

/// Why a request failed, sorted by what its sender does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The node takes no requests now; nothing was done. Ask another one.
    Unready(Unready),
    /// A write that certainly did not happen.
    NotApplied(QuorumReport),
    /// A write that may have happened, or may yet.
    OutcomeUnknown(QuorumReport),
    /// A read that too few replicas answered.
    NoQuorum(QuorumReport),
    /// This node is no replica of the key.
    NotReplica {
        /// The key's slot.
        slot: Slot,
        /// Who is.
        replicas: Vec<NodeId>,
    },
    /// The record held has this stamp, which is not below the one given.
    NotGreater {
        /// The stamp held.
        held: Stamp,
    },
    /// The clock or stamp given is further ahead than an operator may raise the clock at once.
    RaiseTooFar {
        /// What was given.
        given: Clock,
        /// The clock now.
        now: Clock,
    },
    /// The record held has the stamp given and another content.
    StampConflict,
    /// This node's disk takes no writes, or could not be read.
    StoreFailed,
}

/// Why a node takes no requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Unready {
    /// Its epoch is not durable yet.
    Starting,
    /// These members have not met it yet.
    Forming {
        /// Who is missing.
        missing: Vec<NodeId>,
    },
    /// Its peers refuse it.
    Refused {
        /// Which of them.
        by: Vec<NodeId>,
        /// Why.
        refusal: HelloRefusal,
    },
    /// It was told to end.
    Draining,
}

/// Who answered an operation that failed, and what the others said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuorumReport {
    /// The key's slot.
    pub slot: Slot,
    /// How many answers were needed.
    pub needed: usize,
    /// Each replica and the last it said.
    pub replicas: Vec<(NodeId, ReplicaStatus)>,
}

/// The last that a replica said about an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaStatus {
    /// What was asked.
    Answered,
    /// No, and why.
    Refused(Refusal),
    /// Nothing yet.
    Nothing,
    /// It is not linked.
    Unreachable,
    /// It and this node do not talk.
    NotTalking(HelloRefusal),
}

/// Something worth a log line or a count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolEvent {
    /// A read found no majority in agreement and wrote back.
    ReadWroteBack,
    /// A clock round began, for so many writes.
    ClockRound {
        /// How many.
        writes: usize,
    },
    /// An operation asked others too, because someone it asked first was late or refused.
    Hedged {
        /// Whether it is a write.
        write: bool,
    },
    /// A read or write asked again those that had not answered.
    Resent,
    /// What a peer asked was dropped: the disk has too much waiting.
    Swamped,
    /// This node and a peer have recorded each other.
    PeerMet(NodeIndex),
    /// This node refuses a peer.
    PeerRefused {
        /// The peer.
        peer: NodeIndex,
        /// Why.
        refusal: HelloRefusal,
    },
    /// A peer refuses this node.
    RefusedByPeer {
        /// The peer.
        peer: NodeIndex,
        /// Why.
        refusal: HelloRefusal,
    },
    /// Every other member has recorded this node.
    Formed,
    /// Two records of one stamp differ: a defect, of ours or of a disk.
    StampConflict {
        /// The key.
        key: Key,
        /// The stamp.
        stamp: Stamp,
    },
    /// A peer's clock or stamp is further ahead than an honest one's can be.
    ClockJump {
        /// What it showed.
        seen: Clock,
    },
    /// Copies for a peer that did not acknowledge were dropped for lack of room; reads repair them.
    StragglersDropped {
        /// For whom.
        peer: NodeIndex,
        /// How many.
        copies: usize,
    },
}
