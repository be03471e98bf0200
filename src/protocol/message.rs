//! The messages between nodes.

use std::fmt;
use std::sync::Arc;

use crate::types::{
    Age, Ballot, Clock, ClusterId, ClusterParameters, Configuration, Incarnation, Key, KeyRange, Lookup, NodeId,
    ReadKind, Record, ScannedKeys, Slot, StoreId, TableId,
};

use super::changes::{Change, Filter};
use super::members::messages::{MembersAnswer, MembersRequest, configuration_bytes};
use super::sums::{Marks, RepairAnswer, RepairRequest, Sum};

/// The version of the messages between nodes. Raised when an older node would misunderstand a newer one.
pub const PROTOCOL_VERSION: u32 = 8;

/// The id of an operation or clock round, unique within one incarnation of its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

impl OperationId {
    /// The bit that marks what is done for a traced request. Replicas repeat it, and it changes nothing that they do.
    const TRACED: u64 = 1 << 63;

    /// The same id, with the mark.
    #[must_use]
    pub fn traced(self) -> Self {
        Self(self.0 | Self::TRACED)
    }

    /// Whether it has the mark.
    #[must_use]
    pub fn is_traced(self) -> bool {
        self.0 & Self::TRACED != 0
    }

    /// The same id, without the mark: in the order in which operations began.
    #[must_use]
    pub fn unmarked(self) -> Self {
        Self(self.0 & !Self::TRACED)
    }
}

/// One message between two nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Introduces the sender.
    Hello(Hello),
    /// Introduces the sender, and says that it has durably recorded the receiver.
    Welcome(Hello),
    /// The sender refuses one incarnation of the receiver.
    HelloRefused {
        /// That incarnation.
        incarnation: Incarnation,
        /// The rule that the receiver's hello breaks.
        refusal: HelloRefusal,
    },
    /// A configuration that was chosen, for a node that may not know it.
    Configuration(Arc<Configuration>),
    /// The sender has met a number above that of its own configuration, and wants the newest one.
    ConfigurationWanted,
    /// A coordinator asks a replica.
    Request {
        /// Repeated in the answer.
        operation: OperationId,
        /// Repeated in the answer: an answer to an earlier round does not count in a later one.
        round: u32,
        /// The number of the configuration under which the round began.
        number: u64,
        /// The question.
        request: Request,
    },
    /// A replica answers.
    Answer {
        /// The operation of the request.
        operation: OperationId,
        /// The round of the request.
        round: u32,
        /// The number of the configuration that the replica has adopted by the time it answers. The answer counts in a round
        /// under that number alone.
        number: u64,
        /// The answer.
        answer: Answer,
    },
}

/// How a node introduces itself to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol: u32,
    /// The sender's cluster file. Before the first members have met, nodes talk only where all of it is equal.
    pub parameters: ClusterParameters,
    /// The sender's id.
    pub node_id: NodeId,
    /// The id of the node that the sender means to reach.
    pub to_node_id: NodeId,
    /// The store id of the sender's data folder.
    pub store_id: StoreId,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The latest incarnations before it on the sender's data folder, ascending.
    pub earlier_incarnations: Arc<[Incarnation]>,
    /// The sender's cluster, once its first members have met.
    pub cluster: Option<ClusterId>,
    /// The number of the sender's configuration.
    pub number: u64,
    /// Where others reach the sender, `host:port`, if it is no member and waits to become one.
    pub joins: Option<Arc<str>>,
}

/// The rule that a hello breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HelloRefusal {
    /// The sender speaks another version of the protocol.
    Protocol,
    /// The sender's cluster file has another seed, `replica_count`, `epoch_floor` or set of ids, or gives a node another weight or
    /// zone.
    Cluster,
    /// It was meant for another node.
    WrongNode,
    /// The sender's id is recorded with another store id.
    StoreId,
    /// An incarnation of the sender's data folder is recorded that the folder does not remember.
    Incarnation,
    /// The sender is no member. That is not for good: it may become one.
    NotMember,
}

impl fmt::Display for HelloRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => {
                "the two run versions of Quorate that do not understand each other: upgrade the older one"
            }
            Self::Cluster => {
                "their cluster files differ in seed, replica_count, epoch_floor, node ids, weights or zones: give all nodes the same \
                 cluster file; start a node with --join that is to be added to a running cluster"
            }
            Self::WrongNode => "the address led to another node: correct its remote_address in the cluster file",
            Self::StoreId => {
                "its id is known by another data folder, so this one may lack writes that it acknowledged: \
                 restore the original folder, or start it with --join and run `quorate members replace`"
            }
            Self::Incarnation => {
                "its data folder does not remember an incarnation that is recorded, so it is an older copy or in use twice: \
                 restore the latest folder, and run it once"
            }
            Self::NotMember => {
                "it is no member of the cluster: start it with --join, and add it with `quorate members apply`"
            }
        })
    }
}

/// A coordinator's question to a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// The replica's clock, read after this request has arrived.
    Clock,
    /// The same of a node that takes over a clock, where its own is smaller. Where the epoch has to be made durable first, the
    /// answer does not wait for that.
    TakeClock {
        /// The clock.
        clock: Clock,
    },
    /// The durable record of a key.
    Get {
        /// The key to read.
        key: Key,
        /// Whether the digest is enough.
        read_kind: ReadKind,
    },
    /// Stores a record, unless the replica holds a greater one. The record of a conditional write is known to be chosen.
    Store {
        /// The record's key.
        key: Key,
        /// The record to store.
        record: Record,
        /// How long the sender has had the record's version.
        age: Age,
        /// Who stores it.
        origin: StoreOrigin,
    },
    /// Asks for the durable record of a key, and for the promise to accept nothing below a ballot (Paxos, phase 1).
    Prepare {
        /// The key to change.
        key: Key,
        /// The ballot.
        ballot: Ballot,
        /// Whether the digest is enough.
        read_kind: ReadKind,
    },
    /// Stores the record of a conditional write, unless a greater ballot was promised (Paxos, phase 2).
    Accept {
        /// The record's key.
        key: Key,
        /// The record to store.
        record: Record,
        /// How long the sender has had the record's version.
        age: Age,
    },
    /// The first keys of a range that the replica has a record of, read after this request has arrived.
    Scan {
        /// The range.
        range: KeyRange,
        /// The most keys in the answer.
        keys_max: usize,
    },
    /// Tells of tables that were dropped. It is answered with [`Answer::Stored`] once that is durable.
    Drop {
        /// The tables.
        tables: Vec<TableId>,
    },
    /// Asks for the changes of the replica, for watches.
    Follow {
        /// The keys that are asked for.
        filter: Filter,
        /// The number of the first change that is wanted; without one, the changes from now on.
        next: Option<u64>,
    },
    /// The changes are no longer wanted.
    Unfollow,
    /// Compares records, to find those that one of the two nodes lacks.
    Repair(RepairRequest),
    /// Changes members.
    Members(MembersRequest),
    /// Asks the replica to take in no new writes up to a clock any more. It is answered with [`Answer::Fenced`] once that is
    /// durable, and all that the replica had taken in of the slot.
    Fence {
        /// The slot.
        slot: Slot,
        /// The clock.
        fence: Clock,
    },
    /// The records of a slot up to a clock, without those that its seal lets a replica forget.
    OldRecords {
        /// The slot.
        slot: Slot,
        /// The clock.
        until: Clock,
        /// Only keys above this one.
        after: Option<Key>,
    },
    /// All replicas of the slot held the same of everything up to a clock: deletions up to there are forgotten. It is answered
    /// with [`Answer::Stored`] once that is durable.
    Seal {
        /// The slot.
        slot: Slot,
        /// The clock.
        seal: Clock,
    },
}

/// Who stores a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreOrigin {
    /// The writer that drew its stamp.
    Writer,
    /// Somebody who brings a record to replicas that lack it: another replica has it durably.
    Repair,
}

/// A replica's answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The replica's clock.
    Clock(Clock),
    /// The durable record of a key, or its digest.
    Lookup {
        /// The key that was asked for.
        key: Key,
        /// What the replica holds.
        held: Lookup,
        /// How long the replica has had the record's version.
        age: Age,
        /// The seal of the slot; `None` where it was never sealed.
        seal: Option<Clock>,
    },
    /// The record, or a greater one, is durable.
    Stored,
    /// The replica accepts nothing below the ballot any more. This is the durable record of the key, or its digest.
    Promised {
        /// The key that was asked for.
        key: Key,
        /// What the replica holds.
        held: Lookup,
        /// How long the replica has had the record's version.
        age: Age,
        /// The seal of the slot; `None` where it was never sealed.
        seal: Option<Clock>,
    },
    /// The replica has promised a greater ballot, or the record to accept is below the seal of its slot.
    Preempted {
        /// The clock that the ballot must be above.
        floor: Clock,
        /// The seal of the slot; `None` where it was never sealed.
        seal: Option<Clock>,
    },
    /// The record is below the seal of its slot, and was not stored: the replica may have forgotten a greater deletion.
    Sealed,
    /// The fence is durable, and all that the replica had taken in of the slot.
    Fenced {
        /// The sum of the records of the slot; `None` where the replica has not counted them.
        sum: Option<Sum>,
    },
    /// The first records that [`Request::OldRecords`] asked for.
    OldRecords(Marks),
    /// The first keys of the range that was asked for, with the digests of their durable records.
    Scanned(ScannedKeys),
    /// The changes of the replica that match, of those from one number on and below another.
    Changes {
        /// The number of the first.
        from: u64,
        /// The number after the last.
        to: u64,
        /// Those that match, in their order.
        changes: Vec<Change>,
    },
    /// The history of the replica does not reach back to the change that is wanted.
    ChangesLost,
    /// What the two nodes compare.
    Repair(RepairAnswer),
    /// The answer to a question about members.
    Members(MembersAnswer),
    /// The replica did not do it.
    Refused(Refusal),
}

impl Message {
    /// The hello, where this is one.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        match self {
            Self::Hello(hello) => Some(hello),
            _ => None,
        }
    }

    /// The key of the message; introductions and clocks have none.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Request { request, .. } => request.key(),
            Self::Answer { answer, .. } => answer.key(),
            _ => None,
        }
    }

    /// The record in the message.
    #[must_use]
    pub fn payload(&self) -> Option<&Record> {
        match self {
            Self::Request { request, .. } => request.payload(),
            Self::Answer { answer, .. } => answer.payload(),
            _ => None,
        }
    }

    /// The size of its value, in bytes.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.payload().map_or(0, |record| record.content.value_bytes())
    }

    /// Its size between nodes in bytes, about: its value, its key, ids, stamps and framing.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        /// Ids, stamps and framing.
        const OVERHEAD: usize = 100;
        /// One incarnation in a hello.
        const INCARNATION: usize = 22;
        /// The framing of one node id in a hello.
        const ID_FRAMING: usize = 2;
        let introduction = match self {
            Self::Hello(hello) | Self::Welcome(hello) => {
                let ids = hello.parameters.node_ids.iter().map(|id| id.as_str().len() + ID_FRAMING);
                ids.sum::<usize>() + hello.earlier_incarnations.len() * INCARNATION
            }
            Self::Configuration(configuration) => configuration_bytes(configuration),
            _ => 0,
        };
        let history = self.payload().and_then(|record| record.proposal.as_ref());
        let history = history.map_or(0, |proposal| proposal.encoded_bytes());
        let listed = match self {
            Self::Request { request: Request::Scan { range, .. }, .. } => {
                range.prefix.len() + range.after.as_ref().map_or(0, |after| after.as_bytes().len())
            }
            Self::Answer { answer: Answer::Scanned(scanned), .. } => {
                let keys = scanned.keys.iter();
                keys.map(|(key, digest)| key.as_bytes().len() + digest.encoded_bytes()).sum::<usize>()
            }
            _ => 0,
        };
        let changes = match self {
            Self::Answer { answer: Answer::Changes { changes, .. }, .. } => changes.iter().map(Change::bytes).sum(),
            Self::Request { request: Request::Follow { filter, .. }, .. } => filter.as_bytes().len(),
            _ => 0,
        };
        let compared = match self {
            Self::Request { request: Request::Repair(request), .. } => request.bytes(),
            Self::Answer { answer: Answer::Repair(answer), .. } => answer.bytes(),
            Self::Request { request: Request::Members(request), .. } => request.bytes(),
            Self::Answer { answer: Answer::Members(answer), .. } => answer.bytes(),
            Self::Answer { answer: Answer::OldRecords(marks), .. } => marks.bytes(),
            Self::Request { request: Request::OldRecords { after: Some(after), .. }, .. } => after.as_bytes().len(),
            _ => 0,
        };
        let drops = match self {
            Self::Request { request: Request::Drop { tables }, .. } => tables.len() * 5,
            _ => 0,
        };
        OVERHEAD
            + drops
            + compared
            + introduction
            + listed
            + changes
            + self.key().map_or(0, |key| key.as_bytes().len())
            + history
            + self.value_bytes()
    }
}

impl Request {
    /// The kind of question, in a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Clock | Self::TakeClock { .. } => "clock",
            Self::Get { .. } => "get",
            Self::Store { .. } => "store",
            Self::Prepare { .. } => "prepare",
            Self::Accept { .. } => "accept",
            Self::Scan { .. } => "scan",
            Self::Drop { .. } => "drop",
            Self::Follow { .. } => "follow",
            Self::Unfollow => "unfollow",
            Self::Repair(_) => "repair",
            Self::Members(_) => "members",
            Self::Fence { .. } => "fence",
            Self::OldRecords { .. } => "old_records",
            Self::Seal { .. } => "seal",
        }
    }

    /// Whether it is served under its own configuration alone. A watch goes on from one configuration to the next.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        !matches!(self, Self::Follow { .. } | Self::Unfollow)
    }

    /// The slot that the question names; those about a key name it by the key.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Fence { slot, .. } | Self::OldRecords { slot, .. } | Self::Seal { slot, .. } => Some(*slot),
            _ => None,
        }
    }

    /// The key of the question; a question for the clock has none.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Get { key, .. } | Self::Store { key, .. } | Self::Prepare { key, .. } | Self::Accept { key, .. } => {
                Some(key)
            }
            Self::Clock
            | Self::TakeClock { .. }
            | Self::Scan { .. }
            | Self::Drop { .. }
            | Self::Follow { .. }
            | Self::Unfollow
            | Self::Fence { .. }
            | Self::OldRecords { .. }
            | Self::Seal { .. }
            | Self::Members(_)
            | Self::Repair(_) => None,
        }
    }

    /// The table that the question is about; the default one where it is about none.
    #[must_use]
    pub fn table(&self) -> TableId {
        match self {
            Self::Scan { range, .. } => range.table(),
            request => request.key().map_or(TableId::DEFAULT, Key::table),
        }
    }

    /// The record to store.
    #[must_use]
    pub fn payload(&self) -> Option<&Record> {
        match self {
            Self::Store { record, .. } | Self::Accept { record, .. } => Some(record),
            Self::Get { .. }
            | Self::Prepare { .. }
            | Self::Clock
            | Self::TakeClock { .. }
            | Self::Scan { .. }
            | Self::Drop { .. }
            | Self::Follow { .. }
            | Self::Unfollow
            | Self::Fence { .. }
            | Self::OldRecords { .. }
            | Self::Seal { .. }
            | Self::Members(_)
            | Self::Repair(_) => None,
        }
    }
}

impl Answer {
    /// The key of the answer, where it names one.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Lookup { key, .. } | Self::Promised { key, .. } => Some(key),
            Self::Clock(_)
            | Self::Stored
            | Self::Preempted { .. }
            | Self::Scanned(_)
            | Self::Changes { .. }
            | Self::ChangesLost
            | Self::Repair(_)
            | Self::Members(_)
            | Self::Sealed
            | Self::Fenced { .. }
            | Self::OldRecords(_)
            | Self::Refused(_) => None,
        }
    }

    /// Whether it counts under each configuration. Changes for a watch do: they only say what is durable.
    #[must_use]
    pub fn counts_under_each(&self) -> bool {
        matches!(self, Self::Changes { .. } | Self::ChangesLost)
    }

    /// The clock that the coordinator would draw its next ballot above, or seal a slot up to.
    #[must_use]
    pub fn clock_of_ballots(&self) -> Option<Clock> {
        match self {
            Self::Preempted { floor, seal } => Some(seal.map_or(*floor, |seal| seal.max(*floor))),
            Self::Promised { held, seal, .. } => (*seal).max(held.digest().map(|digest| digest.tag().clock())),
            Self::Lookup { seal, .. } => *seal,
            Self::Clock(_)
            | Self::Stored
            | Self::Scanned(_)
            | Self::Changes { .. }
            | Self::ChangesLost
            | Self::Repair(_)
            | Self::Members(_)
            | Self::Sealed
            | Self::Fenced { .. }
            | Self::OldRecords(_)
            | Self::Refused(_) => None,
        }
    }

    /// The record in the answer.
    #[must_use]
    pub fn payload(&self) -> Option<&Record> {
        match self {
            Self::Lookup { held: Lookup::Record(record), .. } | Self::Promised { held: Lookup::Record(record), .. } => {
                Some(record)
            }
            Self::Lookup { .. }
            | Self::Promised { .. }
            | Self::Clock(_)
            | Self::Stored
            | Self::Preempted { .. }
            | Self::Scanned(_)
            | Self::Changes { .. }
            | Self::ChangesLost
            | Self::Repair(_)
            | Self::Members(_)
            | Self::Sealed
            | Self::Fenced { .. }
            | Self::OldRecords(_)
            | Self::Refused(_) => None,
        }
    }
}

/// Why a replica refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It does not hold the slot.
    NotReplica,
    /// It is starting, or some node has not recorded it yet.
    NotBootstrapped,
    /// Its disk takes no writes until its store was reopened.
    StoreFailed,
    /// It could not read the record, or the record was damaged.
    ReadFailed,
    /// The stamp or clock is further ahead than that of any honest node.
    ClockJump,
    /// It holds the stamp with another content.
    StampConflict,
    /// Its peers refuse it.
    RefusedByPeers,
    /// The table of the key was dropped. That says nothing of the key.
    Dropped,
    /// It sent a value, and the one who asked has no room for it.
    NoRoom,
    /// It takes in no new write of so old a stamp, and has none of a greater one.
    Fenced,
    /// It has adopted a configuration of a greater number, and tells it.
    Outdated,
}

impl Refusal {
    /// Whether the replica will refuse for as long as one operation takes, so that asking it again is pointless.
    #[must_use]
    pub fn is_permanent(self) -> bool {
        !matches!(self, Self::NotBootstrapped | Self::Outdated)
    }

    /// Whether the node that asked makes the refusal by itself, in place of an answer that has come.
    #[must_use]
    pub fn is_of_asker(self) -> bool {
        self == Self::NoRoom
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReplica => "does not hold the slot (do the cluster files agree?)",
            Self::NotBootstrapped => "has not met every other node yet",
            Self::StoreFailed => "its disk takes no writes",
            Self::ReadFailed => "could not read its record",
            Self::ClockJump => "the clock is further ahead than any honest node's",
            Self::StampConflict => "holds another content under the same stamp",
            Self::RefusedByPeers => "is refused by its peers",
            Self::Dropped => "knows that the table was dropped",
            Self::Fenced => "takes in no write whose stamp was drawn so long ago",
            Self::Outdated => "has a newer list of members",
            Self::NoRoom => "sent a value, and earlier ones that wait for their clients leave no room for it",
        })
    }
}
