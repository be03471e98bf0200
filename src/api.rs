//! What api/api.proto says, as Rust: generated at build time, documented in that file.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("api");

/// The compiled api.proto with its comments, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.descriptors.bin"));
