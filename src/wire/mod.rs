//! The only place that knows both the messages of api/api.proto and our own types.
//!
//! Contract: what comes out of a decoder is valid, and downstream nobody checks it again; no input makes one panic. An
//! error names the field, what is wrong with it and what is accepted, because it is sent back to whoever wrote it.

#[cfg(feature = "server")]
pub mod batch;
#[cfg(feature = "server")]
pub mod chunks;
pub mod failure;
#[cfg(feature = "server")]
pub mod method;
#[cfg(feature = "server")]
pub mod peer;
mod public;

pub use public::{BATCH_KEYS_MAX, NodeSet, WireError};
