//! Quorate: a leaderless key-value store in which every key is linearizable.
pub mod api;
#[cfg(feature = "server")]
pub mod cli;
pub mod client;
#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod data_folder;
#[cfg(feature = "server")]
pub mod gateway;
pub mod limits;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod node;
#[cfg(feature = "server")]
pub mod placement;
#[cfg(feature = "server")]
pub mod protocol;
#[cfg(feature = "server")]
pub mod quorum;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod storage;
#[cfg(feature = "server")]
pub mod transport;
pub mod types;
pub mod wire;

pub use client::{Client, ClientError};
