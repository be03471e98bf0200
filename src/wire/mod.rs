//! Conversions between the messages of api/api.proto and the types of this crate.
//!
//! Only this module knows how keys, values, records, stamps, versions, failures and the messages between nodes are encoded. client,
//! gateway and cli also use generated requests and responses. peer passes a batch on as a whole.
//!
//! Contract: a decoded value is valid, so that no caller checks it again. No input makes a decoder panic. An error names the
//! field, the problem and the accepted values, because the sender reads it.

#[cfg(feature = "server")]
pub mod batch;
#[cfg(feature = "server")]
pub mod call;
#[cfg(feature = "server")]
mod changes;
#[cfg(feature = "server")]
pub mod chunks;
pub mod cluster;
pub mod codec;
pub mod failure;
#[cfg(feature = "server")]
mod hello;
#[cfg(feature = "server")]
mod members;
#[cfg(feature = "server")]
pub mod method;
#[cfg(feature = "server")]
pub mod peer;
mod public;
#[cfg(feature = "server")]
mod refusals;
#[cfg(feature = "server")]
mod repair;
#[cfg(feature = "server")]
pub mod tables;
#[cfg(feature = "server")]
pub mod tokens;
pub mod version;
#[cfg(feature = "server")]
pub mod watch;

pub use public::{BATCH_KEYS_MAX, NodeSet, WireError};
