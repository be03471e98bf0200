//! The protocol: what a node does, as pure state machines.
//!
//! Contract: an input goes in, effects come out as data. Nothing here waits, locks, reads a clock or draws a random
//! number; time and randomness come with the inputs, and all maps are ordered, so that a run can be replayed and a state
//! compared. The server, the simulator and the model checker run this very code.
//!
//! The owner of a node ([`crate::runtime`]) takes turns ([`turn::Turn`]): all inputs that wait go in, and outputs come out in
//! the order in which they are to be applied: persist, then send, then reply.
//!
//! | file | holds |
//! |---|---|
//! | `changes`, `news` | what replicas tell of their changes, and what watches are told |
//! | `message` | what nodes say to each other |
//! | `io` | inputs, effects and replies: what a node says to its shell |
//! | `clock` | the quorum clock, which issues stamps |
//! | `placement` | the replicas of each slot, by one list of members |
//! | `layout` | the members and the replicas of each slot, also while members change |
//! | `members` | changes of members: votes on configurations, and the taking over of slots |
//! | `quorum` | majorities, of one replica set or of two, and the tally of answers |
//! | `group_commit` | one batch at the disk, and the acknowledgements that wait for it |
//! | `hints` | records for peers that had not acknowledged a write when its client was answered |
//! | `context` | what the parts of a node see of each other |
//! | `membership` | which nodes may talk to each other: store ids, incarnations, bootstrap |
//! | `replica` | one node's records: compare-and-store, and reads of durable records |
//! | `coordinator` | the operations of clients: rounds, clock rounds, an operation in each file of `ops` |
//! | `expiry` | deletes values whose time to live has passed |
//! | `listing` | lists of keys: pages that ask every node |
//! | `rate`, `pace` | how fast a node repairs, and takes slots over |
//! | `pages` | pages of lists: what is asked for, and what is in one |
//! | `operators` | operators' requests to one replica or clock |
//! | `retention` | how long deletions are remembered |
//! | `repair`, `repair_settings`, `sums` | finds what replicas lack, by comparing sums of their records, and brings it to them |
//! | `tables` | created tables: their names, drops, and operations on them |
//! | `tombstones` | forgets deletions, once no older record of their keys can come back |
//! | `watch` | watches of clients, and the changes that a replica tells |
//! | `node` | all of it put together |
//! | `reconfigure` | a configuration is told, adopted, and bears on each message |
//! | `parts` | the parts of a node, and what each is lent of the others |
//! | `turn` | one turn of a node's event loop, which every driver calls |

// No clock, random number, thread, lock or channel: clippy.toml has the list, with reasons.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod changes;
pub mod clock;
pub mod context;
pub mod coordinator;
pub mod expiry;
pub mod group_commit;
pub mod hints;
pub mod io;
pub mod layout;
pub mod listing;
pub mod members;
pub mod membership;
pub mod message;
pub mod news;
pub mod node;
pub mod operators;
mod pace;
pub mod pages;
mod parts;
pub mod placement;
pub mod quorum;
pub mod rate;
mod reconfigure;
pub mod repair;
mod repair_settings;
pub mod replica;
pub mod retention;
pub mod sums;
pub mod tables;
pub mod tombstones;
pub mod turn;
pub mod watch;

pub use io::{
    Command, Effect, Failure, InTable, Input, MembersChange, ProtocolEvent, QuorumReport, ReadId, ReplicaStatus, Reply,
    RequestId, Time, Unready,
};
pub use layout::Layout;
pub use members::{MemberStatus, MembersRefusal, MembersReport, WishedMember, WishedMembers};
pub use membership::{PeerView, WaitingNode};
pub use message::{Answer, Hello, HelloRefusal, Message, OperationId, Refusal, Request, StoreOrigin};
pub use node::{Node, Setup};
pub use pages::{ListPage, Listed, ListedKeys};
pub use repair::RepairReport;
pub use repair_settings::{RepairOrder, RepairSettings};
pub use retention::{TombstoneReport, TombstoneSettings};
