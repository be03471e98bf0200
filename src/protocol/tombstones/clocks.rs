//! The clocks that may be fences.
//!
//! Contract: each write that began in the last margin is stamped above the clock that [`Clocks::old`] gives, whichever its slot.
//! So no replica refuses its record because of that fence.
//!
//! How: a write is stamped above the clocks of a majority of its slot's replicas. A fence is one clock for all slots of a node,
//! and other nodes hear of it with seals. So a clock may be a fence once each majority of each slot has had a node with it, or
//! above it, for a margin. A clock that this node alone had would not do: after a restart it is above all others. From
//! time to time a node tells all members its clock. They take it over, and answer with theirs. Writes alone would not bring
//! it to nodes that are idle.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::limits::TOMBSTONE_LOOKS;
use crate::mutants::rule;
use crate::protocol::io::Time;
use crate::protocol::layout::Layout;
use crate::protocol::message::OperationId;
use crate::types::{Clock, NodeIndex};

/// How many looks are remembered: those of four margins.
const LOOKS_MAX: usize = 4 * TOMBSTONE_LOOKS as usize;

/// The clocks that this node had, and who has reached them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Clocks {
    /// The oldest first.
    looks: VecDeque<Look>,
    /// The last question.
    question: Option<OperationId>,
}

/// A clock that this node had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Look {
    clock: Clock,
    /// The nodes that had reached it when they told their clocks.
    reached: BTreeSet<NodeIndex>,
    /// Since when it is known that each majority of each slot has such a node.
    since: Option<Time>,
}

impl Look {
    /// Whether each majority of each slot has a node that has reached it.
    fn is_reached_by_majorities(&self, layout: &Layout) -> bool {
        let has_majority_below = |slot| {
            let tally = layout.tally(slot);
            let below = tally.members().iter().copied().filter(|member| !self.reached.contains(member));
            tally.is_quorum(tally.set_of(below))
        };
        layout.members().iter().all(|member| self.reached.contains(member))
            || !layout.distinct_slots().iter().any(|slot| has_majority_below(*slot))
    }

    fn is_old(&self, margin: Duration, now: Time) -> bool {
        self.since.is_some_and(|since| since.after(margin) <= now)
    }
}

impl Clocks {
    /// The node `me` has this clock, and tells it to all others with this question.
    pub(super) fn look(
        &mut self,
        question: OperationId,
        (me, clock): (NodeIndex, Clock),
        margin: Duration,
        layout: &Layout,
        now: Time,
    ) {
        let is_reached = |look: &Look| rule!(FenceIsOwnClock, look.is_reached_by_majorities(layout), not true);
        // Who has reached a clock has reached those before it.
        let last = self.looks.iter().rposition(|look| look.since.is_some() || is_reached(look));
        for look in self.looks.iter_mut().take(last.map_or(0, |last| last + 1)) {
            look.since.get_or_insert(now);
        }
        while self.looks.get(1).is_some_and(|next| next.is_old(margin, now)) {
            self.looks.pop_front();
        }
        if self.looks.back().is_none_or(|last| last.clock < clock) {
            self.looks.push_back(Look { clock, reached: BTreeSet::from([me]), since: None });
        }
        if self.looks.len() > LOOKS_MAX {
            // The first one may be in use.
            self.looks.remove(1);
        }
        self.question = Some(question);
    }

    /// Whether `id` is the last question.
    pub(super) fn owns(&self, id: OperationId) -> bool {
        self.question == Some(id)
    }

    /// The clock of `member` is this, or greater by now.
    pub(super) fn heard(&mut self, member: NodeIndex, clock: Clock) {
        for look in self.looks.iter_mut().filter(|look| look.clock <= clock) {
            look.reached.insert(member);
        }
    }

    /// The greatest clock that may be a fence, as of the last look.
    pub(super) fn old(&self, margin: Duration, now: Time) -> Option<Clock> {
        self.looks.front().filter(|look| look.is_old(margin, now)).map(|look| look.clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::placement::Placement;
    use crate::types::{ClusterParameters, NodeId};

    const MARGIN: Duration = Duration::from_secs(6);

    fn clock(counter: u64) -> Clock {
        Clock { epoch: 1, counter }
    }

    fn nodes(nodes: std::ops::Range<u16>) -> impl Iterator<Item = NodeIndex> {
        nodes.map(NodeIndex)
    }

    /// Node 0 of five, of which each slot has three, looks each second. It has the clock of the second, and the nodes that can be
    /// reached take it over.
    fn looks(clocks: &mut Clocks, layout: &Layout, seconds: std::ops::Range<u64>, reached: impl Fn(u64, u16) -> bool) {
        for second in seconds {
            let question = OperationId(second);
            clocks.look(question, (NodeIndex(0), clock(second)), MARGIN, layout, Time(second * 1_000_000));
            assert!(clocks.owns(question));
            for member in nodes(1..5).filter(|member| reached(second, member.0)) {
                clocks.heard(member, clock(second));
            }
        }
    }

    fn five() -> Layout {
        let node_ids = (1..=5).map(|n| NodeId::new(&n.to_string()).unwrap()).collect();
        Layout::begin(Placement::new(ClusterParameters::plain(0, 3, node_ids)).into(), &[])
    }

    #[test]
    fn clock_that_each_majority_had_for_a_margin_may_be_a_fence() {
        let layout = five();
        // Two nodes may be away: some slot has them both.
        for (away, may_be) in [(0, true), (1, true), (2, false)] {
            let mut clocks = Clocks::default();
            let is_reached = |_: u64, member: u16| member > away;
            looks(&mut clocks, &layout, 1..8, is_reached);
            assert_eq!(clocks.old(MARGIN, Time(7_999_999)), None, "nobody has it for a margin");
            looks(&mut clocks, &layout, 8..30, is_reached);
            // That of second 22 is known in second 23 to be reached.
            assert_eq!(clocks.old(MARGIN, Time(29_000_000)), may_be.then_some(clock(22)), "{away} are away");
        }
    }

    #[test]
    fn nodes_that_were_away_for_long_take_over_the_last_clock() {
        let layout = five();
        let mut clocks = Clocks::default();
        let is_reached = |second: u64, member: u16| !(20..1_000).contains(&second) || member > 2;
        looks(&mut clocks, &layout, 1..1_000, is_reached);
        assert_eq!(clocks.old(MARGIN, Time(999_000_000)), Some(clock(19)));
        assert!(clocks.looks.len() <= LOOKS_MAX);
        looks(&mut clocks, &layout, 1_000..1_008, is_reached);
        assert_eq!(clocks.old(MARGIN, Time(1_007_000_000)), Some(clock(1_000)));
    }

    #[test]
    fn clock_of_an_idle_node_is_remembered_once() {
        let layout = five();
        let mut clocks = Clocks::default();
        for second in 1..50 {
            clocks.look(OperationId(second), (NodeIndex(0), clock(7)), MARGIN, &layout, Time(second * 1_000_000));
            nodes(1..5).for_each(|member| clocks.heard(member, clock(7)));
        }
        assert_eq!((clocks.looks.len(), clocks.old(MARGIN, Time(49_000_000))), (1, Some(clock(7))));
    }
}
