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

    /// Whether `nodes` hold a majority of the replicas of every slot; while members change, of both lists.
    pub(super) fn holds(&mut self, nodes: &BTreeSet<NodeIndex>, layout: &Layout) -> bool {
        if !self.enough.is_empty() && self.enough.is_subset(nodes) {
            return true;
        }
        let holds = rule!(ListWithoutMajorityOfASlot, Self::lacking_for_page(nodes, layout).is_none());
        if holds {
            self.enough.clone_from(nodes);
        }
        holds
    }

    /// A slot of which `nodes` hold no majority; while members change, of either list.
    pub(in crate::protocol) fn lacking(nodes: &BTreeSet<NodeIndex>, layout: &Layout) -> Option<Slot> {
        Self::without_quorum(nodes, layout, |slot| layout.tally(slot))
    }

    /// The same for a page. While members change, nodes of the new list may have taken over nothing yet, and nodes of the old
    /// list may have adopted the end of the change on disk, and have lost what they do not hold any more. One of the two lists
    /// has everything.
    pub(super) fn lacking_for_page(nodes: &BTreeSet<NodeIndex>, layout: &Layout) -> Option<Slot> {
        if rule!(ListAnswersForFresh, true, not false) {
            Self::lacking(nodes, layout)
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
