//! Links to peers: each node opens one gRPC stream to each other node.
//!
//! Contract: delivery is best effort. While a link is up, each message arrives once and in the order of sending, except that
//! small messages overtake large values. A link that breaks loses the messages under way. An outbox that is full drops new
//! ones. The protocol expects all of this. Sending never blocks.
//!
//! A node sends its requests and its answers to a peer on the link that it opened itself, and receives on the link that the
//! peer opened. Before two nodes have met, a link also carries the answer to its opener: a welcome or a refusal.
//!
//! Batching needs no timer. When a stream can write, it asks its [`Outbox`] for one batch and gets everything that waits. An
//! idle link adds no delay, and a busy link fills its batches.
//!
//! This module knows no node: it reports [`LinkEvent`]s to the channel that its user hands in.

mod accept;
mod http_addresses;
mod inbox;
mod link;
mod outbox;
mod send_window;

use std::error::Error;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::protocol::Message;
use crate::types::{Incarnation, NodeIndex};
use crate::wire::batch::TraceNote;

pub use accept::{AcceptedLink, Acceptor, PeerService, peer_service};
pub use http_addresses::HttpAddresses;
pub use link::{Addresses, Link};
pub use outbox::{Outbox, OutboxStream, Sent};

/// What happens on the links of a node. A link reports to a `Sender<E>` where `E: From<LinkEvent>`.
#[derive(Debug)]
pub enum LinkEvent {
    /// This node's link to the peer is up.
    Up {
        /// The peer.
        peer: NodeIndex,
        /// The number of the link.
        link: u64,
    },
    /// This node's link to the peer is down. Messages that were under way may be lost.
    Down {
        /// The peer.
        peer: NodeIndex,
        /// The number of the link.
        link: u64,
    },
    /// A peer has sent messages.
    Received {
        /// The link that brought them.
        from: Sender,
        /// The peer's incarnation.
        from_incarnation: Incarnation,
        /// The incarnation of this node that the peer means; absent in a hello.
        to_incarnation: Option<Incarnation>,
        /// Decoded and verified, in the order of sending.
        messages: Vec<Message>,
        /// The spans of those that are traced, and of such that are still to come.
        traces: Vec<TraceNote>,
        /// The link's share of the messages that may wait for this node. To be dropped once they are handled.
        permit: OwnedSemaphorePermit,
    },
}

/// The end of a link that messages come from.
#[derive(Clone, Debug)]
pub enum Sender {
    /// The peer that this node has opened a link to.
    Opened(NodeIndex),
    /// A link that a peer has opened. Its first messages have a hello, which says who that is.
    Accepted(Arc<AcceptedLink>),
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
