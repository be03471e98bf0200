//! What nodes say to each other.

use std::fmt;
use std::sync::Arc;

use crate::types::{Clock, ClusterParameters, Incarnation, Key, Lookup, NodeId, NodeIndex, ReadKind, Record, StoreId};

/// The version of all that is said between nodes. Raised when an older node would misunderstand a newer one.
pub const PROTOCOL_VERSION: u32 = 3;

/// One operation or clock round of one run of a node: never used twice in that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// One message between two nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Introduces the sender.
    Hello(Hello),
    /// Introduces the sender, and says that it has durably recorded the receiver.
    Welcome(Hello),
    /// The sender refuses this run of the receiver.
    HelloRefused {
        /// The run.
        incarnation: Incarnation,
        /// Why.
        refusal: HelloRefusal,
    },
    /// Asks a replica.
    Request {
        /// Echoed in the answer.
        operation: OperationId,
        /// Echoed in the answer: an answer to an earlier round counts for nothing in a later one.
        round: u32,
        /// For what.
        request: Request,
    },
    /// A replica answers.
    Answer {
        /// Of the request.
        operation: OperationId,
        /// Of the request.
        round: u32,
        /// With what.
        answer: Answer,
    },
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol: u32,
    /// The sender's cluster.
    pub parameters: ClusterParameters,
    /// The sender.
    pub node_id: NodeId,
    /// Whom it means to reach.
    pub to_node_id: NodeId,
    /// The sender's data folder.
    pub store_id: StoreId,
    /// The sender's run.
    pub incarnation: Incarnation,
    /// The latest runs before it on the sender's data folder.
    pub earlier_incarnations: Arc<[Incarnation]>,
}

/// Which rule a hello breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HelloRefusal {
    /// It speaks another version of the protocol.
    Protocol,
    /// Its cluster file has another seed, `replica_count` or set of ids.
    Cluster,
    /// It was meant for another node.
    WrongNode,
    /// Its id is known by another data folder.
    StoreId,
    /// A run of its data folder is known that the folder does not remember.
    Incarnation,
}

impl fmt::Display for HelloRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => {
                "the two run versions of Quorate that do not understand each other: upgrade the older one"
            }
            Self::Cluster => {
                "their cluster files differ in seed, replica_count or node ids: give all nodes the same cluster file"
            }
            Self::WrongNode => "the address led to another node: correct its remote_address in the cluster file",
            Self::StoreId => {
                "its id is known by another data folder, so this one may have forgotten what it acknowledged: \
                 restore the original folder (replacing a node is not in this version)"
            }
            Self::Incarnation => {
                "a run of its data folder is known that the folder does not remember, so this is an older copy or it is \
                 in use twice: \
                 restore the latest folder, and run it once"
            }
        })
    }
}

/// What a coordinator asks of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// The clock, as it is after this request has arrived.
    Clock,
    /// What is held of a key, and durable.
    Get {
        /// The key.
        key: Key,
        /// How much of it.
        read_kind: ReadKind,
    },
    /// Keep this record unless a greater one is held.
    Store {
        /// The key.
        key: Key,
        /// The record.
        record: Record,
    },
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The clock.
    Clock(Clock),
    /// What is held, of this key.
    Lookup {
        /// The key that was asked for.
        key: Key,
        /// What is held.
        held: Lookup,
    },
    /// The record, or a greater one, is durable.
    Stored,
    /// Not done.
    Refused(Refusal),
}

impl Hello {
    /// The member of the cluster that sent this hello. A sender that is no member is refused before it has any state.
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
    /// The hello, if this is one.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        match self {
            Self::Hello(hello) => Some(hello),
            Self::Welcome(_) | Self::HelloRefused { .. } | Self::Request { .. } | Self::Answer { .. } => None,
        }
    }

    /// The key that it is about; introductions and clocks have none.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Request { request, .. } => request.key(),
            Self::Answer { answer, .. } => answer.key(),
            Self::Hello(_) | Self::Welcome(_) | Self::HelloRefused { .. } => None,
        }
    }

    /// The record that it carries.
    #[must_use]
    pub fn payload(&self) -> Option<&Record> {
        match self {
            Self::Request { request, .. } => request.payload(),
            Self::Answer { answer, .. } => answer.payload(),
            Self::Hello(_) | Self::Welcome(_) | Self::HelloRefused { .. } => None,
        }
    }

    /// The bytes of the value that it carries.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.payload().map_or(0, |record| record.content.value_bytes())
    }

    /// About how many bytes it has between nodes: its value, its key, ids, stamps and framing.
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
        OVERHEAD + introduction + self.key().map_or(0, |key| key.as_bytes().len()) + self.value_bytes()
    }
}

impl Request {
    /// The key that it is about; a question about the clock has none.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Get { key, .. } | Self::Store { key, .. } => Some(key),
            Self::Clock => None,
        }
    }

    /// The record that it carries.
    #[must_use]
    pub fn payload(&self) -> Option<&Record> {
        match self {
            Self::Store { record, .. } => Some(record),
            Self::Get { .. } | Self::Clock => None,
        }
    }
}

impl Answer {
    /// The key that it is about, where it names one.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Lookup { key, .. } => Some(key),
            Self::Clock(_) | Self::Stored | Self::Refused(_) => None,
        }
    }

    /// The record that it carries.
    #[must_use]
    pub fn payload(&self) -> Option<&Record> {
        match self {
            Self::Lookup { held: Lookup::Record(record), .. } => Some(record),
            Self::Lookup { .. } | Self::Clock(_) | Self::Stored | Self::Refused(_) => None,
        }
    }
}

/// Why a replica did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It does not hold the slot.
    NotReplica,
    /// It is starting, or has not met every other member yet.
    NotFormed,
    /// Its disk takes no writes.
    StoreFailed,
    /// It could not read the record, or what it read was damaged.
    ReadFailed,
    /// The stamp or clock is further ahead than any honest node's.
    ClockJump,
    /// It holds the stamp with another content.
    StampConflict,
    /// It is itself refused by its peers.
    RefusedByPeers,
}

impl Refusal {
    /// Whether asking again within one operation's time is pointless.
    #[must_use]
    pub fn is_for_good(self) -> bool {
        self != Self::NotFormed
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReplica => "does not hold the slot (do the cluster files agree?)",
            Self::NotFormed => "has not met every other member yet",
            Self::StoreFailed => "its disk takes no writes",
            Self::ReadFailed => "could not read its record",
            Self::ClockJump => "the clock is further ahead than any honest node's",
            Self::StampConflict => "holds the same stamp with another content",
            Self::RefusedByPeers => "is refused by its peers",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stranger_of_another_version_is_told_to_upgrade() {
        let ids = ["1", "2"].map(|id| NodeId::new(id).unwrap());
        let parameters = ClusterParameters { seed: 0, replica_count: 2, node_ids: ids.to_vec() };
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
