//! The messages between nodes.

use std::fmt;
use std::sync::Arc;

use crate::types::{
    Age, Ballot, Clock, ClusterParameters, Incarnation, Key, KeyRange, Lookup, NodeId, NodeIndex, ReadKind, Record,
    ScannedKeys, Slot, StoreId, TableId,
};

use super::changes::{Change, Filter};
use super::sums::{Marks, RepairAnswer, RepairRequest, Sum};

/// The version of the messages between nodes. Raised when an older node would misunderstand a newer one.
pub const PROTOCOL_VERSION: u32 = 6;

/// The id of an operation or clock round, unique within one incarnation of its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

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
    /// A coordinator asks a replica.
    Request {
        /// Repeated in the answer.
        operation: OperationId,
        /// Repeated in the answer: an answer to an earlier round does not count in a later one.
        round: u32,
        /// The question.
        request: Request,
    },
    /// A replica answers.
    Answer {
        /// The operation of the request.
        operation: OperationId,
        /// The round of the request.
        round: u32,
        /// The answer.
        answer: Answer,
    },
}

/// How a node introduces itself to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol: u32,
    /// The sender's cluster. Nodes talk only where all of it is equal.
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
}

/// The rule that a hello breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HelloRefusal {
    /// The sender speaks another version of the protocol.
    Protocol,
    /// The sender's cluster file has another seed, `replica_count`, `epoch_floor` or set of ids.
    Cluster,
    /// It was meant for another node.
    WrongNode,
    /// The sender's id is recorded with another store id.
    StoreId,
    /// An incarnation of the sender's data folder is recorded that the folder does not remember.
    Incarnation,
}

impl fmt::Display for HelloRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => {
                "the two run versions of Quorate that do not understand each other: upgrade the older one"
            }
            Self::Cluster => {
                "their cluster files differ in seed, replica_count, epoch_floor or node ids: give all nodes the same \
                 cluster file"
            }
            Self::WrongNode => "the address led to another node: correct its remote_address in the cluster file",
            Self::StoreId => {
                "its id is known by another data folder, so this one may lack writes that it acknowledged: \
                 restore the original folder (replacing a node is not in this version)"
            }
            Self::Incarnation => {
                "its data folder does not remember an incarnation that is recorded, so it is an older copy or in use twice: \
                 restore the latest folder, and run it once"
            }
        })
    }
}

/// A coordinator's question to a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// The replica's clock, read after this request has arrived.
    Clock,
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
    /// The replica did not do it.
    Refused(Refusal),
}

impl Hello {
    /// The node of the cluster that sent this hello. A stranger is refused before it has any state here.
    ///
    /// # Errors
    /// The refusal that a stranger is sent.
    pub fn sender_in(&self, parameters: &ClusterParameters) -> Result<NodeIndex, HelloRefusal> {
        match parameters.member(&self.node_id) {
            Some(sender) => Ok(sender),
            None if self.protocol != PROTOCOL_VERSION => Err(HelloRefusal::Protocol),
            None => Err(HelloRefusal::Cluster),
        }
    }
}

impl Message {
    /// The hello, where this is one.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        match self {
            Self::Hello(hello) => Some(hello),
            Self::Welcome(_) | Self::HelloRefused { .. } | Self::Request { .. } | Self::Answer { .. } => None,
        }
    }

    /// The key of the message; introductions and clocks have none.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Request { request, .. } => request.key(),
            Self::Answer { answer, .. } => answer.key(),
            Self::Hello(_) | Self::Welcome(_) | Self::HelloRefused { .. } => None,
        }
    }

    /// The record in the message.
    #[must_use]
    pub fn payload(&self) -> Option<&Record> {
        match self {
            Self::Request { request, .. } => request.payload(),
            Self::Answer { answer, .. } => answer.payload(),
            Self::Hello(_) | Self::Welcome(_) | Self::HelloRefused { .. } => None,
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
            Self::HelloRefused { .. } | Self::Request { .. } | Self::Answer { .. } => 0,
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
    /// The key of the question; a question for the clock has none.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Get { key, .. } | Self::Store { key, .. } | Self::Prepare { key, .. } | Self::Accept { key, .. } => {
                Some(key)
            }
            Self::Clock
            | Self::Scan { .. }
            | Self::Drop { .. }
            | Self::Follow { .. }
            | Self::Unfollow
            | Self::Fence { .. }
            | Self::OldRecords { .. }
            | Self::Seal { .. }
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
            | Self::Scan { .. }
            | Self::Drop { .. }
            | Self::Follow { .. }
            | Self::Unfollow
            | Self::Fence { .. }
            | Self::OldRecords { .. }
            | Self::Seal { .. }
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
            | Self::Sealed
            | Self::Fenced { .. }
            | Self::OldRecords(_)
            | Self::Refused(_) => None,
        }
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
}

impl Refusal {
    /// Whether the replica will refuse for as long as one operation takes, so that asking it again is pointless.
    #[must_use]
    pub fn is_permanent(self) -> bool {
        self != Self::NotBootstrapped
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
            Self::NoRoom => "sent a value, and earlier ones that wait for their clients leave no room for it",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stranger_of_another_version_is_told_to_upgrade() {
        let ids = ["1", "2"].map(|id| NodeId::new(id).unwrap());
        let parameters = ClusterParameters { seed: 0, replica_count: 2, epoch_floor: 0, node_ids: ids.to_vec() };
        let hello = |id: &str, protocol| Hello {
            protocol,
            parameters: parameters.clone(),
            node_id: NodeId::new(id).unwrap(),
            to_node_id: ids[0].clone(),
            store_id: StoreId(1),
            incarnation: Incarnation { epoch: 1, nonce: 1 },
            earlier_incarnations: [].into(),
        };
        assert_eq!(hello("2", PROTOCOL_VERSION).sender_in(&parameters), Ok(NodeIndex(1)));
        assert_eq!(hello("3", PROTOCOL_VERSION).sender_in(&parameters), Err(HelloRefusal::Cluster));
        let older = hello("3", PROTOCOL_VERSION - 1).sender_in(&parameters).unwrap_err();
        assert!(older.to_string().contains("upgrade the older one"), "{older}");
        // Members are judged with all that is known of them.
        assert_eq!(hello("2", PROTOCOL_VERSION - 1).sender_in(&parameters), Ok(NodeIndex(1)));
    }
}
