//! Quorate: a leaderless key-value store in which every key is linearizable.
pub mod api;
pub mod limits;
#[cfg(feature = "server")]
pub mod storage;
pub mod types;
