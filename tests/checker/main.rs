//! Tests of the linearizability checker that other tests judge histories by: `testkit::checker`.

#![cfg(feature = "server")]

mod histories;
mod mistakes;
mod porcupine;
mod tables;
#[path = "../testkit/mod.rs"]
mod testkit;
