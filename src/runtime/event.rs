//! What reaches a node's loop.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::peer::Outbox;
use crate::protocol::{Command, Message, ReadId, Reply};
use crate::types::{Incarnation, Lookup, Meta, NodeIndex};

use super::handle::{Permit, Status};

/// A client's request and where its reply goes.
pub struct Pending {
    pub(super) command: Command,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Reply>,
    pub(super) permit: Permit,
}

/// What reaches a node's loop.
pub enum Event {
    /// A client asks.
    Request(Pending),
    /// Someone wants to know how the node is.
    Status(oneshot::Sender<Status>),
    /// Someone has opened a link as this peer, in this run; answers for that run go here.
    Served(NodeIndex, Incarnation, Arc<Outbox>),
    /// This node's link to a peer is up.
    Linked(NodeIndex),
    /// This node's link to a peer is down.
    Unlinked(NodeIndex),
    /// A peer says something.
    Peer {
        /// Who.
        from: NodeIndex,
        /// Its run.
        from_incarnation: Incarnation,
        /// The run of this node that it is meant for.
        to_incarnation: Option<Incarnation>,
        /// What it says.
        messages: Vec<Message>,
        /// The link's share of what may wait for the loop, given back once this is handled.
        _share: OwnedSemaphorePermit,
    },
    /// Loads that waited for the disk are answered.
    ReadsDone(Vec<(ReadId, Option<Lookup>)>),
    /// The batch at the disk is settled.
    Persisted(bool),
    /// The store was reopened after a failure.
    Reopened(Meta),
    /// The node is to end.
    Drain,
}
