//! Why a change of members is not made.

use std::fmt;

use crate::limits::WAITING_HEARD_MAX;
use crate::types::{NodeId, Slot};

/// Why a change of members is not made. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MembersRefusal {
    /// The list has no member, an id twice, or too many of them.
    NotAList(String),
    /// `replica_count` is not 1 to the number of members.
    ReplicaCount {
        /// The count that was wished for.
        replica_count: usize,
        /// The number of members.
        members: usize,
    },
    /// Some members have a zone, and others have none.
    SomeZones,
    /// The configuration is another one than the one that the operator has seen.
    OtherConfiguration {
        /// The number of the present one.
        number: u64,
    },
    /// A change is under way.
    UnderWay {
        /// The number of its configuration.
        number: u64,
    },
    /// No change is under way that could be taken back.
    NotUnderWay,
    /// The list is the present one.
    NoChange,
    /// No node with this id waits to join.
    NotWaiting(NodeId),
    /// Several nodes with this id wait to join.
    SeveralWait(NodeId),
    /// Some slots would have no majority of members that can be reached.
    NoMajority {
        /// How many slots.
        count: usize,
        /// The first of them.
        slots: Vec<Slot>,
        /// Their replicas that cannot be reached, of either list.
        unreachable: Vec<NodeId>,
    },
    /// Another change was made at the same time.
    OtherChange {
        /// The number of its configuration.
        number: u64,
    },
    /// Too few members have voted in time. The change may be made yet.
    NoMajorityVoted,
    /// The node that was asked is no member.
    NotAMember,
}

impl fmt::Display for MembersRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAList(problem) => write!(f, "the list of members is not valid: {problem}"),
            Self::ReplicaCount { replica_count, members } => write!(
                f,
                "replica_count is {replica_count}, and the list has {members} members: 1 to {members} is accepted"
            ),
            Self::SomeZones => {
                f.write_str("some members have a zone, and others have none: give all members a zone, or none")
            }
            Self::OtherConfiguration { number } => write!(
                f,
                "the configuration is number {number} by now: look at the members again, and then make the change"
            ),
            Self::UnderWay { number } => write!(
                f,
                "members are changing already (configuration {number}): wait for the end, or take it back with \
                 `quorate members abort`"
            ),
            Self::NotUnderWay => f.write_str("no change of members is under way"),
            Self::NoChange => f.write_str("the members are these already"),
            Self::NotWaiting(id) => write!(
                f,
                "no node {id} waits to join: start it with `quorate serve --join`, with the file that lists it"
            ),
            Self::SeveralWait(id) => {
                let forgotten = WAITING_HEARD_MAX.as_secs();
                write!(
                    f,
                    "several nodes {id} wait to join: end all but one, or name the identity; one whose machine is gone is forgotten \
                     after {forgotten} s"
                )
            }
            Self::NoMajority { count, slots, unreachable } => {
                let nodes: Vec<&str> = unreachable.iter().map(NodeId::as_str).collect();
                let named: Vec<String> = slots.iter().map(Slot::to_string).collect();
                let more = if *count > slots.len() { ", ..." } else { "" };
                write!(
                    f,
                    "{count} slots ({}{more}) would have no majority of members that can be reached: bring back {}; or \
                     force the change, and the keys of these slots wait until they are back",
                    named.join(", "),
                    nodes.join(", ")
                )
            }
            Self::OtherChange { number } => write!(
                f,
                "another change was made at the same time (configuration {number}): look at the members, and decide anew"
            ),
            Self::NoMajorityVoted => f.write_str(
                "too few members have voted in time; the change may be made yet: look at the members after a while",
            ),
            Self::NotAMember => f.write_str("the node is no member: ask one that is"),
        }
    }
}
