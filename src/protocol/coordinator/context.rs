//! What the coordinator uses of its node.

use crate::protocol::context::{NodeCtx, Origin};
use crate::protocol::io::ProtocolEvent;
use crate::protocol::membership::Membership;
use crate::protocol::message::{Message, OperationId, Request};
use crate::protocol::replica::Replica;
use crate::types::{Incarnation, NodeIndex};

/// What the coordinator uses of its node: the peers, and the own replica, which it asks like a peer.
#[derive(Debug)]
pub struct CoordinatorCtx<'a> {
    /// What is common to all parts of the node.
    pub node: NodeCtx<'a>,
    /// Which peers can be asked.
    pub membership: &'a Membership,
    /// This node's replica.
    pub replica: &'a mut Replica,
    /// Whether the node knows what it must before it serves slots that it gains.
    pub knows_floors: bool,
}

impl CoordinatorCtx<'_> {
    /// Whether this node's replica serves `slot`.
    fn serves(&self, slot: crate::types::Slot) -> bool {
        self.knows_floors || !self.node.layout.gains(self.node.me, slot)
    }

    /// The incarnation of `member` to send requests to, if it can be reached. This node always can.
    pub(in crate::protocol) fn reaches(&self, member: NodeIndex) -> Option<Incarnation> {
        if member == self.node.me { Some(self.membership.incarnation()) } else { self.membership.talking_to(member) }
    }

    /// Asks incarnation `incarnation` of `to`: over its link, or directly where it is this node.
    pub(in crate::protocol) fn ask(
        &mut self,
        to: NodeIndex,
        incarnation: Incarnation,
        operation: OperationId,
        round: u32,
        request: Request,
    ) {
        if to == self.node.me {
            if operation.is_traced() {
                let question = request.name();
                self.node.report(ProtocolEvent::AskedHere { operation, round, question });
            }
            let from = Origin { node: to, incarnation, operation, round, number: self.node.layout.number() };
            // A slot that this node gains is asked of it once the node knows what it must: the question is repeated.
            let slot = request.slot().or_else(|| request.key().map(|key| self.node.layout.slot(key)));
            if slot.is_none_or(|slot| self.serves(slot)) {
                self.replica.on_request(from, request, &mut self.node);
            }
        } else {
            let number = self.node.layout.number();
            self.node.send(to, Some(incarnation), Message::Request { operation, round, number, request });
        }
    }
}
