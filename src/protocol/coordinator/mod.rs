//! The coordinator: the operations of this node's clients, from request to reply.
//!
//! | file | holds |
//! |---|---|
//! | `context` | what the coordinator uses of its node |
//! | `engine` | rounds: which replicas are asked, hedging, resending, deadlines, tallies; knows no operation |
//! | `in_flight` | the state of one operation, whichever it is |
//! | `clock_round` | one query of clocks for all writes that wait for a stamp |
//! | `clock_rounds` | the clock rounds in flight, and who waits for the next one |
//! | `latency` | how fast peers answer |
//! | `reconfigure` | operations in flight when members change |
//! | `report` | what a client is told of an operation that failed |
//! | `ops` | the operations, a file for each |
//! | `inspect` | what tests may see |
//! | `broken` | wrong code for mutants |

#[cfg(feature = "mutants")]
mod broken;
mod clock_round;
mod clock_rounds;
pub mod context;
pub mod engine;
mod exclusive;
mod in_flight;
pub mod inspect;
pub mod latency;
pub mod ops;
mod reconfigure;
mod report;

pub use context::CoordinatorCtx;
pub use engine::Coordinator;
pub use inspect::Inspect;
