//! Quorate: a leaderless key-value store in which every key is linearizable.
#[cfg(feature = "server")]
pub mod config;
pub mod limits;
#[cfg(feature = "server")]
pub mod storage;
pub mod types;
