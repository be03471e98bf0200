//! The coordinator: operations on behalf of clients.

pub mod latency;
pub mod ops;
