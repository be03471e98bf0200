//! The protocol-neutral service between gateways and the node.

pub(crate) mod health;
