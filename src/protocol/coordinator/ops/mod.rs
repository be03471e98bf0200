//! The operations of clients, a file for each. An operation says what it wants next; the engine asks, waits, hedges, resends
//! and gives up for all of them alike.
//!
//! To add one: a file here that implements [`Operation`], a line in `state`, and a line for its command in
//! [`crate::protocol::node`].
//!
//! | file | holds |
//! |---|---|
//! | `operation` | what an operation may want, and what it is told |
//! | `state` | the state of any operation |
//! | `ages` | how long replicas have kept what they hold |
//! | `seals` | which deletions replicas may have forgotten |
//! | `get`, `get_one`, `get_with`, `mend`, `set`, `cas` | one operation each |

mod ages;
pub mod cas;
pub mod get;
pub mod get_one;
pub mod get_with;
pub mod mend;
pub mod operation;
mod seals;
pub mod set;
pub mod state;
#[cfg(test)]
mod tests;

pub use cas::Cas;
pub use get::Get;
pub use get_one::GetOne;
pub use get_with::GetWith;
pub use mend::Mend;
pub use operation::{Enough, Fanout, Heard, Operation, Round, Settled, Step};
pub use set::Set;
pub use state::OperationState;
