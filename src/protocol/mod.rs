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
//! | `message` | what nodes say to each other |
//! | `handshake` | who may talk to whom: store ids, lives, forming |
//! | `journal` | what must become durable, and what is owed once it is |
//! | `replica` | one node's records: compare-and-store, and reads of what is durable |
//! | `write`, `read` | one coordinator's operation each |
//! | `hedge` | whom to ask first, and when to ask the others |
//! | `straggler` | copies for those who had not acknowledged when the client was answered |
//! | `node` | all of it put together |
//! | `mutants` | rules to be broken by tests |

// No clock, random number, thread, lock or channel: clippy.toml has the list, with reasons.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod clock;
pub mod coordinator;
pub mod group_commit;
pub mod hints;
pub mod io;
pub mod membership;
pub mod message;
pub mod node;
pub mod placement;
pub mod quorum;
pub mod replica;
pub mod turn;

pub use io::{
    Command, Effect, Failure, Input, ProtocolEvent, QuorumReport, ReadId, ReplicaStatus, Reply, RequestId, Time,
    Unready,
};
pub use membership::PeerView;
pub use message::{Answer, Hello, HelloRefusal, Message, OperationId, Refusal, Request};
pub use node::{Node, Setup};
