//! Quorate: a leaderless key-value store in which every key is linearizable.
#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic when nobody reads; see src/cli/output.rs")
)]

#[cfg(feature = "server")]
pub mod admin;
pub mod api;
pub mod auth;
#[cfg(feature = "server")]
pub mod backup;
#[cfg(feature = "server")]
pub mod checker;
#[cfg(feature = "server")]
pub mod cli;
pub mod client;
#[cfg(feature = "server")]
pub mod config;
#[cfg(all(test, feature = "server"))]
mod fuzz;
#[cfg(feature = "server")]
pub mod gateway;
pub mod limits;
#[cfg(feature = "server")]
pub mod log_limit;
#[cfg(feature = "server")]
pub mod metrics;
pub mod mutants;
#[cfg(feature = "server")]
pub mod peer;
#[cfg(feature = "server")]
pub mod protocol;
/// The part of the protocol that a client needs to ask a replica of a key.
#[cfg(not(feature = "server"))]
pub mod protocol {
    pub mod placement;
}
pub mod resolve;
#[cfg(feature = "server")]
pub mod runtime;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "server")]
pub mod shares;
#[cfg(feature = "server")]
pub mod storage;
pub mod tls;
#[cfg(feature = "server")]
pub mod traces;
pub mod types;
pub mod wire;

pub use client::{Client, ClientError};

/// The examples of the documents, compiled as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/api.md")]
    struct Api;
}
