//! Inputs, effects and replies: everything that goes into a node and comes out of it.

use std::sync::Arc;

use crate::types::{
    AgedRecord, Batch, ChangeRequest, Checksum, Clock, Content, Expiry, Found, Incarnation, Key, KeyRange, Meta,
    NodeId, NodeIndex, ReadKind, Removed, RunningTime, ScannedKeys, Slot, SlotRange, SlotsPage, Stamp, Table, TableId,
    TableName, TableRecord, TableSettings, Ttl, Version,
};

use super::changes::Filter;
use super::members::messages::WishedMembers;
use super::members::refusal::MembersRefusal;
use super::message::{HelloRefusal, Message, OperationId, Refusal};
use super::news::{Cursor, ListFirst, WatchId, WatchNews};
use super::pages::{ListPage, ListedKeys};
use super::rate::Rate;
use super::repair_settings::RepairOrder;

/// A reading of the shell's monotonic clock, in microseconds since any fixed moment. It decides when the node asks again and
/// when it gives up, never what is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The time `span` later; the latest possible time where that is out of range.
    #[must_use]
    pub fn after(self, span: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long this time is after `earlier`; zero where it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The shell's name for a request of a client or an operator. The reply bears the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The bit that marks a request whose course the shell wants to see.
    const TRACED: u64 = 1 << 63;

    /// The same name, with the mark.
    #[must_use]
    pub fn traced(self) -> Self {
        Self(self.0 | Self::TRACED)
    }

    /// Whether the shell wants to see the request's course: [`ProtocolEvent::Traced`].
    #[must_use]
    pub fn is_traced(self) -> bool {
        self.0 & Self::TRACED != 0
    }

    /// Its number without the mark.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0 & !Self::TRACED
    }
}

/// The protocol's name for a read from the store. Its answer bears the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// A request of a client or an operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Reads a key, linearizably.
    Get {
        /// The key to read.
        key: Key,
    },
    /// Reads a key from one replica. The record may be old, and may be a conditional write whose outcome is open.
    GetOne {
        /// The key to read.
        key: Key,
        /// A replica without a record of at least this version does not do: the read is linearizable then.
        at_least: Option<Version>,
    },
    /// Writes or deletes a key, linearizably.
    Set {
        /// The key to write.
        key: Key,
        /// The value, or a tombstone to delete it.
        content: Content,
        /// The time to live of the value.
        ttl: Option<Ttl>,
        /// The checksum of key, content and time to live, computed where they entered the cluster.
        checksum: Checksum,
    },
    /// Writes a key depending on the record that is there, linearizably.
    Change {
        /// The key to write.
        key: Key,
        /// The conditional write.
        request: ChangeRequest,
    },
    /// Reads the keys of a range that have a value, each linearizably.
    List(ListPage),
    /// An operation on a created table.
    InTable(Box<InTable>),
    /// Creates a table.
    CreateTable {
        /// Its name.
        name: TableName,
        /// Its settings.
        settings: TableSettings,
    },
    /// Drops a table: its keys are gone for everybody.
    DropTable {
        /// Its name.
        name: TableName,
    },
    /// Looks a name up.
    OpenTable {
        /// The name.
        name: TableName,
    },
    /// Reads the record that this node's replica holds, for an operator. Not linearizable.
    NodeGet {
        /// The key to read.
        key: Key,
    },
    /// Stores a record on this node's replica alone, for an operator. Not linearizable.
    NodeSet {
        /// The key to write.
        key: Key,
        /// The value, or a tombstone to delete it.
        content: Content,
        /// The checksum of key and content.
        checksum: Checksum,
        /// The record's stamp. Without one, this node draws it from its clock.
        stamp: Option<Stamp>,
    },
    /// Reads this node's clock.
    ClockGet,
    /// Raises this node's clock, for an operator.
    ClockRaise {
        /// The least clock afterwards.
        to: Clock,
    },
}

/// An operation on a created table, which is looked up first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InTable {
    /// The table's name.
    pub table: TableName,
    /// The operation. Its keys are those that its client knows; versions bear their table's id.
    pub command: Command,
}

impl Command {
    /// The same command in `table`.
    #[must_use]
    pub fn in_table(self, table: &Table) -> Self {
        match table {
            Table::Default => self,
            Table::Named(name) => Self::InTable(Box::new(InTable { table: name.clone(), command: self })),
        }
    }

    /// The key of the command; commands about the clock have none.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Get { key }
            | Self::GetOne { key, .. }
            | Self::Set { key, .. }
            | Self::Change { key, .. }
            | Self::NodeGet { key }
            | Self::NodeSet { key, .. } => Some(key),
            Self::InTable(in_table) => in_table.command.key(),
            Self::List(_)
            | Self::CreateTable { .. }
            | Self::DropTable { .. }
            | Self::OpenTable { .. }
            | Self::ClockGet
            | Self::ClockRaise { .. } => None,
        }
    }

    /// The size of its key and its value, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let value_bytes = match self {
            Self::Set { content, .. } | Self::NodeSet { content, .. } => content.value_bytes(),
            Self::Change { request, .. } => request.change.value_bytes(),
            Self::Get { .. }
            | Self::GetOne { .. }
            | Self::NodeGet { .. }
            | Self::CreateTable { .. }
            | Self::DropTable { .. }
            | Self::OpenTable { .. }
            | Self::ClockGet
            | Self::ClockRaise { .. } => 0,
            Self::List(page) => page.size(),
            Self::InTable(in_table) => return in_table.command.size(),
        };
        self.key().map_or(0, |key| key.as_bytes().len()) + value_bytes
    }
}

/// An event that a node takes: a request, a message, the answer to an effect, or the time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A client or an operator sends a request.
    Request {
        /// The name that the reply bears.
        id: RequestId,
        /// When the reply is due at the latest.
        deadline: Time,
        /// The request.
        command: Command,
    },
    /// A message of a peer has arrived.
    Peer {
        /// The sender.
        from: NodeIndex,
        /// The sender's incarnation.
        from_incarnation: Incarnation,
        /// The incarnation of this node that the message is for; absent in a hello.
        to_incarnation: Option<Incarnation>,
        /// The message.
        message: Message,
    },
    /// The link to a peer is up: messages may arrive there.
    Linked(NodeIndex),
    /// The link to a peer is down.
    Unlinked(NodeIndex),
    /// The answer to [`Effect::Read`]; `None` where the store could not read it.
    ReadDone {
        /// The read.
        read: ReadId,
        /// What the store holds.
        lookup: Option<Found>,
    },
    /// The answer to [`Effect::Scan`]; `None` where the store could not read its index.
    ScanDone {
        /// The scan.
        read: ReadId,
        /// The keys.
        scanned: Option<ScannedKeys>,
    },
    /// The answer to [`Effect::ReadSlots`]; `None` where the store could not read them.
    SlotsRead {
        /// The read.
        read: ReadId,
        /// The records.
        page: Option<SlotsPage>,
    },
    /// The answer to [`Effect::ReadExpiries`]; `None` where the store could not read them.
    ExpiriesRead(Option<Vec<Expiry>>),
    /// The answer to [`Effect::Clean`]; `None` where the store could not remove any.
    Cleaned(Option<Removed>),
    /// The answer to [`Effect::Measure`]; `None` where the store could not be read.
    Measured(Option<u64>),
    /// The answer to [`Effect::Persist`].
    Persisted {
        /// Whether the batch is durable. After a failure it may be durable all the same.
        durable: bool,
    },
    /// The store was reopened after a failure and is intact; this is what it remembers beside its records.
    StoreReopened(Meta),
    /// A client watches a key or a prefix.
    Watch {
        /// The name that its news bear. No other watch of this incarnation has it.
        id: WatchId,
        /// The keys.
        filter: Filter,
        /// Where an earlier watch of the same keys ended; empty in a new one.
        cursor: Cursor,
        /// Whether it is told first what is there.
        list: ListFirst,
    },
    /// The client of a watch has taken the page of what is there, and wants the next one.
    WatchPageTaken(WatchId),
    /// A client watches no longer.
    Unwatch(WatchId),
    /// The time that [`super::Node::next_wake`] named has come.
    Wake,
    /// The disk has less free space than its reserve, or has more again: the node takes copies from others only with room.
    DiskRoom {
        /// Whether it has less.
        is_short: bool,
    },
    /// An operator wants something of the node's repair.
    Repair(RepairOrder),
    /// Slots are taken over at this rate from now on.
    PaceTakeover(Rate),
    /// An operator changes members.
    ChangeMembers {
        /// The name that the reply bears.
        id: RequestId,
        /// When the reply is due at the latest.
        deadline: Time,
        /// The change.
        change: MembersChange,
    },
    /// The node is to end: it takes no new requests.
    Drain,
}

/// What an operator wants of the members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MembersChange {
    /// Other members.
    Change {
        /// The number of the configuration that the operator has seen; without it, whichever there is.
        expected: Option<u64>,
        /// The members.
        wished: WishedMembers,
        /// Whether it is made although slots would have no majority of members that can be reached.
        is_forced: bool,
    },
    /// To take the change back that is under way.
    TakeBack {
        /// The number of the configuration that the operator has seen; without it, whichever there is.
        expected: Option<u64>,
    },
}

/// A task for the shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Makes a batch durable; the answer is [`Input::Persisted`]. There is one batch at a time.
    Persist(Arc<Batch>),
    /// Reads the durable record of a key; the answer is [`Input::ReadDone`].
    Read {
        /// The name that the answer bears.
        read: ReadId,
        /// The key's slot.
        slot: Slot,
        /// The key to read.
        key: Key,
        /// Whether the digest is enough.
        kind: ReadKind,
    },
    /// Reads the first keys of a range from the store's index; the answer is [`Input::ScanDone`]. It always waits for the
    /// disk.
    Scan {
        /// The name that the answer bears.
        read: ReadId,
        /// The range.
        range: KeyRange,
        /// The most keys to read.
        keys_max: usize,
    },
    /// Reads the first records of some slots, without their contents; the answer is [`Input::SlotsRead`]. It always waits for
    /// the disk.
    ReadSlots {
        /// The name that the answer bears.
        read: ReadId,
        /// The slots.
        range: SlotRange,
        /// The most records to read.
        entries_max: usize,
    },
    /// Reads the first entries of the index of expiries; the answer is [`Input::ExpiriesRead`]. There is one such read at a
    /// time.
    ReadExpiries {
        /// No entry is read that expires before.
        from: RunningTime,
        /// Only entries after this one are read.
        after: Option<Expiry>,
        /// The most entries that are read.
        entries_max: usize,
    },
    /// Counts the bytes of keys and values that the store has of a table; the answer is [`Input::Measured`]. There is one
    /// such task at a time.
    Measure {
        /// The table.
        table: TableId,
    },
    /// Removes records of a dropped table from the store, and all that belongs to them; the answer is [`Input::Cleaned`].
    /// There is one such task at a time. It need not be durable.
    Clean {
        /// The table.
        table: TableId,
        /// The most records to remove.
        entries_max: usize,
    },
    /// Sends a message to a peer. It may be lost, repeated or late.
    Send {
        /// The receiver.
        to: NodeIndex,
        /// The incarnation of the receiver that the message is for; absent in a hello.
        to_incarnation: Option<Incarnation>,
        /// The message.
        message: Message,
    },
    /// Answers a client or an operator.
    Reply {
        /// The request.
        id: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Tells watches of an event.
    Watch {
        /// The watches.
        to: Vec<WatchId>,
        /// The event.
        news: WatchNews,
    },
    /// Reports an event for the log and the metrics.
    ProtocolEvent(ProtocolEvent),
}

/// The answer to a request of a client or an operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// The record of a key, or none if it was never written; for `Get`, `GetOne` and `NodeGet`.
    Record(Option<AgedRecord>),
    /// The record of a key, which a replica lacked and has now; for repair, and where slots are taken over.
    Spread(AgedRecord),
    /// A write is done, and its record has this version; for `Set`, `Change` and `NodeSet`.
    Set(Version),
    /// An addition is done; for `Change`.
    Added {
        /// The sum.
        sum: i64,
        /// The version of the record with the sum.
        version: Version,
    },
    /// A page of keys; for `List`.
    Listed(ListedKeys),
    /// A table is there; for `CreateTable` and `OpenTable`.
    Table {
        /// The record of its name.
        table: TableRecord,
        /// Whether this request created it.
        is_new: bool,
    },
    /// A table is gone; for `DropTable`.
    Dropped,
    /// Members change, or do not any longer; for [`Input::ChangeMembers`].
    Members {
        /// The number of the configuration that was chosen.
        number: u64,
    },
    /// This node's clock; for `ClockGet` and `ClockRaise`.
    Clock(Clock),
    /// The request failed.
    Failed(Failure),
}

impl Reply {
    /// The record that was read, where there is one.
    #[must_use]
    pub fn record(&self) -> Option<&AgedRecord> {
        match self {
            Self::Record(record) => record.as_ref(),
            Self::Spread(record) => Some(record),
            _ => None,
        }
    }
}

/// Why a request failed, sorted by what its sender does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// This node takes no requests now. Nothing was done: ask another node.
    Unready(Unready),
    /// A write certainly did not happen.
    NotApplied(QuorumReport),
    /// A write may have happened, or may happen yet.
    OutcomeUnknown(QuorumReport),
    /// A conditional write may have happened: the key's history does not tell. Others may have followed.
    OutcomeForgotten,
    /// Too few replicas answered a read.
    NoQuorum(QuorumReport),
    /// The condition of a conditional write does not hold, and the write never takes effect.
    ConditionFailed {
        /// The key's present version.
        version: Version,
        /// Whether the key has a value.
        has_value: bool,
    },
    /// An addition found a value that is no number, or the sum is out of 64 bits.
    NotANumber {
        /// The key's present version.
        version: Version,
    },
    /// This node is no replica of the key.
    NotReplica {
        /// The key's slot.
        slot: Slot,
        /// The slot's replicas.
        replicas: Vec<NodeId>,
    },
    /// The record held has this stamp, which is not below the one given.
    NotGreater {
        /// The stamp of the record held.
        held: Stamp,
    },
    /// The clock or stamp given is further ahead than an operator may raise the clock at once.
    RaiseTooFar {
        /// The clock, or the stamp's clock, that was given.
        given: Clock,
        /// This node's clock.
        now: Clock,
    },
    /// The record held has the stamp given and another content.
    StampConflict,
    /// This node's disk takes no writes, or could not be read.
    StoreFailed,
    /// There is no table of this name. Nothing was done.
    NoTable,
    /// The table is being dropped. Nothing was done.
    TableDropping,
    /// The table was dropped while the operation was under way, which was sent to no replica as a write.
    TableDropped,
    /// The table was dropped while the write was under way: it may have happened before. Nobody can read it any more.
    DroppedMeanwhile,
    /// The value is larger than the settings of the table allow. Nothing was done.
    ValueTooLarge {
        /// The size of the value.
        bytes: u64,
        /// The greatest size.
        bytes_max: u64,
    },
    /// The table holds as many bytes as its settings allow. Nothing was done.
    QuotaReached {
        /// The quota.
        quota_bytes: u64,
    },
    /// No more tables can be created in this cluster.
    TooManyTables,
    /// A change of members was not made.
    Members(MembersRefusal),
}

/// Why a node takes no requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Unready {
    /// Its epoch is not durable yet.
    Starting,
    /// Some nodes have not recorded it yet.
    Bootstrapping {
        /// Those nodes.
        missing: Vec<NodeId>,
    },
    /// Its peers refuse it as a whole.
    Refused {
        /// The peers that do.
        by: Vec<NodeId>,
        /// The rule that it breaks.
        refusal: HelloRefusal,
    },
    /// It was told to end.
    Draining,
    /// It waits to become a member.
    Waiting,
    /// It was a member, and is none any more.
    Removed,
}

/// Which replicas answered an operation that failed, and what the others said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuorumReport {
    /// The key's slot.
    pub slot: Slot,
    /// The fewest answers that make a quorum.
    pub needed: usize,
    /// Each replica and its last word.
    pub replicas: Vec<(NodeId, ReplicaStatus)>,
    /// While the slot moves, the replicas before and those after. A majority of either has to answer.
    pub lists: Option<[Vec<NodeId>; 2]>,
}

/// The last word of a replica about an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaStatus {
    /// It has answered.
    Answered,
    /// It has refused.
    Refused(Refusal),
    /// It is linked and has not answered.
    Nothing,
    /// It is not linked.
    Unreachable,
    /// It and this node refuse to talk.
    NotTalking(HelloRefusal),
}

/// An event for the log and the metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolEvent {
    /// A read found no majority that holds one record, and writes the greatest back.
    ReadWroteBack,
    /// A clock round began.
    ClockRound {
        /// How many writes share it.
        writes: usize,
    },
    /// An operation asks the remaining replicas, because one of those asked first was late or refused.
    Hedged {
        /// Whether it is a write.
        write: bool,
    },
    /// An operation asks those replicas again that have not answered.
    Resent,
    /// A peer's request was dropped, because too much waits for this node's disk.
    Overloaded,
    /// An operation or a clock round began for a traced request. Its id has the mark too, in each message to replicas.
    Traced {
        /// The request.
        request: RequestId,
        /// The operation or clock round.
        operation: OperationId,
    },
    /// A traced operation asks the replica of this node. Peers are asked by messages.
    AskedHere {
        /// The operation or clock round.
        operation: OperationId,
        /// Its round.
        round: u32,
        /// What it asks.
        question: &'static str,
    },
    /// The replica of this node has answered a traced operation, or has refused to.
    AnsweredHere {
        /// The operation or clock round.
        operation: OperationId,
        /// Its round.
        round: u32,
        /// Why it has refused; `None` where it has not.
        refusal: Option<Refusal>,
    },
    /// This node and a peer have recorded each other.
    PeerMet(NodeIndex),
    /// This node refuses a peer.
    PeerRefused {
        /// The peer.
        peer: NodeIndex,
        /// The rule that the peer breaks.
        refusal: HelloRefusal,
    },
    /// A peer refuses this node.
    RefusedByPeer {
        /// The peer.
        peer: NodeIndex,
        /// The rule that this node breaks.
        refusal: HelloRefusal,
    },
    /// Every other node has recorded this one, and this is durable.
    Bootstrapped,
    /// A configuration is adopted: other nodes are members, or reached elsewhere.
    Reconfigured {
        /// Its number.
        number: u64,
        /// Whether members change.
        is_joint: bool,
    },
    /// The node has taken over all slots that it gains.
    TakenOver {
        /// How many slots.
        slots: u32,
        /// How many keys of them it has looked at, since its start.
        keys: u64,
        /// The bytes of keys and values that it got from others.
        bytes: u64,
    },
    /// Two records of one stamp differ: a defect of the program or of a disk.
    StampConflict {
        /// The key of both.
        key: Key,
        /// The stamp of both.
        stamp: Stamp,
    },
    /// The clock or stamp of a peer is further ahead than that of any honest node.
    ClockJump {
        /// The peer's clock, or the clock of its stamp.
        seen: Clock,
    },
    /// A value was deleted because its time to live had passed.
    Expired,
    /// A round of this node for the tombstones of a slot has ended.
    TombstoneRound {
        /// The slot.
        slot: Slot,
        /// Whether it was sealed.
        is_sealed: bool,
    },
    /// A key was repaired: two replicas differed, and both hold what a read of it answers.
    Repaired {
        /// The size of its value.
        bytes: usize,
    },
    /// This node and a peer have compared their records.
    Compared {
        /// The peer.
        peer: NodeIndex,
        /// How many keys differed.
        keys: u64,
        /// The size of its questions and answers, in bytes.
        bytes: usize,
    },
    /// Hints for a peer were dropped for lack of room. Repair brings what the peer lacks.
    HintsDropped {
        /// The peer.
        peer: NodeIndex,
        /// How many hints.
        hints: usize,
    },
}
