//! What reaches a node's loop.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::peer::LinkEvent;
use crate::protocol::{Command, ReadId, Reply};
use crate::types::{Lookup, Meta};

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
    /// A link to a peer has gone up or down, or has brought messages.
    Link(LinkEvent),
    /// Loads that waited for the disk are answered.
    ReadsDone(Vec<(ReadId, Option<Lookup>)>),
    /// The batch at the disk is settled.
    Persisted(bool),
    /// The store was reopened after a failure.
    Reopened(Meta),
    /// The node is to end.
    Drain,
}

impl From<LinkEvent> for Event {
    fn from(event: LinkEvent) -> Self {
        Self::Link(event)
    }
}
