//! The coordinator: the operations of this node's clients, from request to reply.
//!
//! | file | holds |
//! |---|---|
//! | `engine` | rounds: which replicas are asked, hedging, resending, deadlines, tallies; knows no operation |
//! | `in_flight` | the state of one operation, whichever it is |
//! | `clock_round` | one query of clocks for all writes that wait for a stamp |
//! | `latency` | how fast peers answer |
//! | `report` | what a client is told of an operation that failed |
//! | `ops` | the operations, a file for each |
//! | `inspect` | what tests may see |
//! | `broken` | wrong code for mutants |

#[cfg(feature = "mutants")]
mod broken;
mod clock_round;
mod engine;
mod in_flight;
mod inspect;
pub mod latency;
pub mod ops;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Incarnation, NodeIndex};

use self::clock_round::ClockRounds;
use self::in_flight::InFlight;
pub use self::inspect::Inspect;
use self::latency::LatencyTracker;
use super::Time;
use super::context::{NodeCtx, Origin};
use super::hints::HintQueue;
use super::membership::Membership;
use super::message::{Message, OperationId, Request};
use super::replica::Replica;

/// All operations that this node coordinates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    operations: BTreeMap<OperationId, InFlight>,
    /// The last id given to an operation or clock round.
    last_id: u64,
    clock_rounds: ClockRounds,
    /// Operations that wait until an epoch is durable.
    awaiting_epoch: Vec<OperationId>,
    /// One for each operation: when to hedge, resend or give up.
    timers: BTreeSet<(Time, OperationId)>,
    latency: LatencyTracker,
    hints: HintQueue,
}

/// What the coordinator uses of its node: the peers, and the own replica, which it asks like a peer.
#[derive(Debug)]
pub struct CoordinatorCtx<'a> {
    /// What is common to all parts of the node.
    pub node: NodeCtx<'a>,
    /// Which peers can be asked.
    pub membership: &'a Membership,
    /// This node's replica.
    pub replica: &'a mut Replica,
}

impl CoordinatorCtx<'_> {
    /// The incarnation of `member` to send requests to, if it can be reached. This node always can.
    fn reaches(&self, member: NodeIndex) -> Option<Incarnation> {
        if member == self.node.me { Some(self.membership.incarnation()) } else { self.membership.talking_to(member) }
    }

    /// Asks incarnation `incarnation` of `to`: over its link, or directly where it is this node.
    fn ask(&mut self, to: NodeIndex, incarnation: Incarnation, operation: OperationId, round: u32, request: Request) {
        if to == self.node.me {
            let from = Origin { node: to, incarnation, operation, round };
            self.replica.on_request(from, request, &mut self.node);
        } else {
            self.node.send(to, Some(incarnation), Message::Request { operation, round, request });
        }
    }
}

impl Coordinator {
    /// A coordinator in a cluster of so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self {
            operations: BTreeMap::new(),
            last_id: 0,
            clock_rounds: ClockRounds::default(),
            awaiting_epoch: Vec::new(),
            timers: BTreeSet::new(),
            latency: LatencyTracker::new(nodes),
            hints: HintQueue::default(),
        }
    }

    /// What tests may see of it.
    #[must_use]
    pub fn inspect(&self) -> Inspect<'_> {
        Inspect(self)
    }
}
