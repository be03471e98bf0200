//! What test programs and measurements share, written once.
//!
//! A program in `tests/` has it as `mod testkit;`. A program in a folder of its own names this file by `#[path]`;
//! tests/tidy allows that attribute for nothing else.
//!
//! | file | holds |
//! |---|---|
//! | `checker` | the library's linearizability checker, and what shortens a history that it refuses |
//! | `cluster` | real nodes as processes, with their files |
//! | `data` | keys, values and records that are the same in every run |
//! | `giving_up` | when an operation may fail before its deadline |
//! | `growing` | a cluster whose members change |
//! | `http`, `lines`, `redis` | clients of a node's other doors, whose connections stay open |
//! | `index` | the index of keys of a simulated disk |
//! | `names` | name servers: one that does not answer, and one whose answers change |
//! | `ports`, `process` | free ports; one process, and what it says |
//! | `porcupine` | a second checker, which shares no code with ours |
//! | `proxy` | a network between nodes that can be cut, delayed and throttled |
//! | `random` | random numbers from a seed |
//! | `requests` | the library's account of what clients ask and are told, in the checker's terms |
//! | `streams` | connections that stay open, for `lines` and `redis` |
//! | `tables` | what clients are told of created tables, in the checker's terms |
//! | `tls` | how a client speaks TLS, and connections with or without it |
//! | `tools` | programs of others that tests run |
//! | `transcript` | what a client and a node say over the Redis protocol, as text |
//! | `watching` | what a watch was told, and must have been told |

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each program has it as a module of its own, and uses a part of it"
)]
#![allow(clippy::enum_variant_names, reason = "the checker's verdicts are the words of its literature")]
#![allow(clippy::cast_possible_truncation, reason = "random numbers are cut to what their callers ask for")]

pub mod cluster;
pub mod data;
pub mod giving_up;
pub mod growing;
pub mod http;
pub mod index;
pub mod lines;
pub mod names;
pub mod porcupine;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod random;
pub mod redis;
pub mod streams;
pub mod tables;
pub mod tls;
pub mod tools;
pub mod transcript;
pub mod watching;

pub use quorate::checker::{self, requests};
