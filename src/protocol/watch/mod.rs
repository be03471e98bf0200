//! Watches: clients are told of the changes of a key or a prefix, through any node.
//!
//! Contract: from `ready` on, a watch is told the record of each write that is called, or a later record of its key.
//! Changes of one key are told in the order in which they happened. Several writes may be told as the last of them, and nothing
//! is promised across keys. Where that can no longer be kept, it is told `reset` and begins anew.
//!
//! A replica tells its changes ([`feed`]). A coordinator takes those of all nodes that hold a matching slot ([`streams`]).
//! A node covers a watch from its subscription on, while its numbers go on in one incarnation. `ready` needs a majority of
//! each slot's replicas among those that cover: every write that is acknowledged later is announced by one of them. An
//! announced record may still be lost, so that it is not told: its key is read first, with the replicas that announced it
//! ([`reads`]).
//!
//! A watch may be told first what is there ([`list`]): what follows keeps that up to date, and misses no write.
//!
//! Caveat: a version may be told twice where a watch goes on with a cursor, where another one is opened while the key is read,
//! or where too many keys change to remember.

mod feed;
mod filter;
mod hub;
mod list;
mod pages;
mod reading;
mod reads;
mod streams;
#[cfg(test)]
mod tests;
mod untold;

pub use hub::{WatchCtx, Watches};
