//! Which nodes hold a majority of the replicas of every slot.

use std::collections::BTreeSet;

use crate::mutants::rule;
use crate::protocol::placement::Placement;
use crate::protocol::quorum::Tally;
use crate::types::{NodeIndex, Slot};

/// Remembers nodes that are enough: the same nodes answer most pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::protocol) struct Coverage {
    enough: BTreeSet<NodeIndex>,
}

impl Coverage {
    /// Whether `nodes` hold a majority of the replicas of every slot.
    pub(super) fn holds(&mut self, nodes: &BTreeSet<NodeIndex>, placement: &Placement) -> bool {
        if !self.enough.is_empty() && self.enough.is_subset(nodes) {
            return true;
        }
        let holds = rule!(ListWithoutMajorityOfASlot, Self::lacking(nodes, placement).is_none());
        if holds {
            self.enough.clone_from(nodes);
        }
        holds
    }

    /// A slot of which `nodes` hold no majority.
    pub(in crate::protocol) fn lacking(nodes: &BTreeSet<NodeIndex>, placement: &Placement) -> Option<Slot> {
        let lacks = |slot: &&Slot| {
            let tally = Tally::single(placement.replicas(**slot));
            let answered = tally.members().iter().filter(|member| nodes.contains(member)).copied();
            !tally.is_quorum(tally.set_of(answered))
        };
        placement.distinct_slots().iter().find(lacks).copied()
    }
}
