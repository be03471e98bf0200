//! Changes of members while the cluster serves: joint consensus, with Paxos for each step.
//!
//! A change is two steps: to a joint configuration, in which each quorum is one of the old members and one of the new ones, and
//! from there to the new list, or back to the old one. Each step is chosen by a majority of the old list, so that two operators,
//! a change beside its taking back, and a proposer that died halfway all end in one chain of configurations.
//!
//! While the configuration is joint, each node takes over the slots that it gains: what a majority of the old replicas has, and
//! what no replica takes in any more. The change ends once all have. A node that dies meanwhile delays the end; to take the change
//! back is always safe, because each joint quorum has one of the old list.
//!
//! Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (ATC 2014), section 6; Lamport,
//! "The Part-Time Parliament" (TOCS 1998).
//!
//! | file | holds |
//! |---|---|
//! | `messages` | what nodes say to each other |
//! | `refusal` | why a change is not made |
//! | `state` | the state of one node, and what it uses of the others |
//! | `request` | an operator's request, and whether it can be granted |
//! | `vote`, `proposal` | the vote on the successor of a configuration |
//! | `drive` | what brings a change to its end |
//! | `copying`, `takeover` | the slots that this node takes over |
//! | `serving` | the records that others take over |
//! | `sweep`, `sweeping` | what is left of slots that this node does not hold any more |

mod copying;
mod drive;
pub mod messages;
mod proposal;
pub mod refusal;
mod request;
mod serving;
mod state;
mod sweep;
mod sweeping;
mod takeover;
#[cfg(test)]
mod tests;
mod vote;

pub use messages::{MembersAnswer, MembersRequest, Progress, TakeoverPage, WishedMember, WishedMembers};
pub use refusal::MembersRefusal;
pub use state::{MemberStatus, Members, MembersCtx, MembersReport};
