//! Conversions between the messages of api/api.proto and the types of the program.
//!
//! Contract: a decoder's result is valid, so that no caller checks it again, and no input makes a decoder panic. An error
//! names the field, its fault and what is accepted, because it goes back to the author of the message.

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
