//! How a node is asked from outside: gRPC for clients, peers and operators, and HTTP for whoever watches it.
//!
//! Contract: decode, ask the node's handle, encode. Nothing here decides what is true; it decides how long a request may
//! take, how much it may hold in memory on its way in and out, and in which words it is answered.

pub mod grpc;
