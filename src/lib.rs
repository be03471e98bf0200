//! Quorate: a leaderless key-value store in which every key is linearizable.
#[cfg(feature = "server")]
pub mod data_folder;
pub mod limits;
#[cfg(feature = "server")]
pub mod storage;
pub mod types;
