//! Which nodes hold a majority of the replicas of every slot.

use std::collections::BTreeSet;

use crate::mutants::rule;
use crate::protocol::layout::Layout;
use crate::protocol::quorum::Tally;
use crate::types::{NodeIndex, Slot};

/// Remembers nodes that are enough: the same nodes answer most pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::protocol) struct Coverage {
    enough: BTreeSet<NodeIndex>,
}

impl Coverage {
    /// Other members make a majority from now on.
    pub(super) fn forget(&mut self) {
        self.enough.clear();
    }

    /// Whether `nodes` hold a majority of the replicas of every slot, of the old list while members change.
    pub(super) fn holds(&mut self, nodes: &BTreeSet<NodeIndex>, layout: &Layout) -> bool {
        if !self.enough.is_empty() && self.enough.is_subset(nodes) {
            return true;
        }
        let holds = rule!(ListWithoutMajorityOfASlot, Self::lacking_of_old(nodes, layout).is_none());
        if holds {
            self.enough.clone_from(nodes);
        }
        holds
    }

    /// A slot of which `nodes` hold no majority; while members change, of either list.
    pub(in crate::protocol) fn lacking(nodes: &BTreeSet<NodeIndex>, layout: &Layout) -> Option<Slot> {
        Self::without_quorum(nodes, layout, |slot| layout.tally(slot))
    }

    /// A slot of which `nodes` hold no majority by the old list, whose nodes have everything while members change. The others
    /// may have taken over nothing yet.
    pub(super) fn lacking_of_old(nodes: &BTreeSet<NodeIndex>, layout: &Layout) -> Option<Slot> {
        let old = |slot| Tally::single(layout.old().replicas(slot));
        if rule!(ListAnswersForFresh, true, not false) {
            Self::without_quorum(nodes, layout, old)
        } else {
            Self::without_quorum(nodes, layout, |slot| Tally::single(layout.newest().replicas(slot)))
        }
    }

    fn without_quorum(nodes: &BTreeSet<NodeIndex>, layout: &Layout, tally: impl Fn(Slot) -> Tally) -> Option<Slot> {
        let lacks = |slot: &&Slot| {
            let tally = tally(**slot);
            let answered = tally.members().iter().filter(|member| nodes.contains(member)).copied();
            !tally.is_quorum(tally.set_of(answered))
        };
        layout.distinct_slots().iter().find(lacks).copied()
    }
}
