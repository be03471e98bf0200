//! The protocols in which clients reach a node.
//!
//! Contract: a gateway parses a request, calls the service, and prints the result in its protocol's words. It decides
//! nothing: what holds for every request is in `service`.

mod connections;
pub mod grpc;
pub mod http;
pub mod lines;
pub mod redis;
