//! Quorums of a slot's replicas, and the tally of the replicas that have answered.
//!
//! Contract: only members of the replica set count, each once. "Nothing is held" is an answer; an error is not. Code that
//! waits for a quorum asks a [`Tally`] and never compares numbers itself.
//!
//! A quorum is a rule and not a number, so that operations need not change when a slot's replicas do: see [`Quorum::Joint`]
//! (joint consensus: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", ATC 2014).

use crate::limits::REPLICA_COUNT_MAX;
use crate::mutants::rule;
use crate::types::NodeIndex;

/// The number of replicas that any two of their majorities have one in common.
#[must_use]
pub fn majority(replica_count: usize) -> usize {
    replica_count / 2 + 1
}

/// Some of the members of a [`Tally`]: bit i stands for its i-th member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberSet(u128);

impl MemberSet {
    /// How many members are in the set.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether no member is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members that are in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The members that are in either set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members of this set that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Which members make a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quorum {
    /// A majority of one replica set.
    Single(MemberSet),
    /// A majority of the old replica set and a majority of the new one, while a slot moves from one to the other. A member
    /// of both sets counts in both.
    Joint(MemberSet, MemberSet),
}

impl Quorum {
    /// Whether `members` hold a quorum.
    #[must_use]
    pub fn is_reached_by(self, members: MemberSet) -> bool {
        match self {
            Self::Single(set) => has_majority(set, members),
            Self::Joint(old, new) => has_majority(old, members) && has_majority(new, members),
        }
    }

    /// Whether `member` brings `members` nearer to a quorum.
    fn wants(self, members: MemberSet, member: MemberSet) -> bool {
        let wants = |set: MemberSet| !set.and(member).is_empty() && !has_majority(set, members);
        match self {
            Self::Single(set) => wants(set),
            Self::Joint(old, new) => wants(old) || wants(new),
        }
    }

    /// The fewest answers that can make a quorum.
    fn answers_min(self) -> usize {
        match self {
            Self::Single(set) => majority(set.len()),
            Self::Joint(old, new) => majority(old.len()).max(majority(new.len())),
        }
    }

    /// The rule that a majority of those asked is enough: wrong.
    #[cfg(feature = "mutants")]
    fn among(self, asked: MemberSet) -> Self {
        if asked.is_empty() { self } else { Self::Single(asked) }
    }
}

fn has_majority(set: MemberSet, members: MemberSet) -> bool {
    set.and(members).len() >= majority(set.len())
}

/// How a tally stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Too few have answered, and enough still may.
    Pending,
    /// A quorum has answered.
    Reached,
    /// So many have permanently refused that no quorum can answer.
    Impossible,
}

/// Which replicas of a slot have answered a round, and which never will.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tally {
    members: Box<[NodeIndex]>,
    quorum: Quorum,
    counted: MemberSet,
    /// Has permanently refused, or is not wanted.
    refused: MemberSet,
    /// Was asked in this round, where a quorum is asked first.
    asked: MemberSet,
}

impl Tally {
    /// A tally of one replica set. Nobody has answered.
    ///
    /// # Panics
    /// When it has no members or more than [`REPLICA_COUNT_MAX`].
    #[must_use]
    pub fn single(replicas: &[NodeIndex]) -> Self {
        check_size(replicas);
        Self::with(replicas.into(), |tally| Quorum::Single(tally.set_of(replicas.iter().copied())))
    }

    /// A tally of an old and a new replica set. Nobody has answered.
    ///
    /// # Panics
    /// When one of them has no members or more than [`REPLICA_COUNT_MAX`].
    #[must_use]
    pub fn joint(old: &[NodeIndex], new: &[NodeIndex]) -> Self {
        check_size(old);
        check_size(new);
        let members = old.iter().chain(new.iter().filter(|member| !old.contains(member))).copied().collect();
        Self::with(members, |tally| Quorum::Joint(tally.set_of(old.iter().copied()), tally.set_of(new.iter().copied())))
    }

    fn with(members: Box<[NodeIndex]>, quorum: impl Fn(&Self) -> Quorum) -> Self {
        let none = MemberSet::default();
        let mut tally = Self { members, quorum: Quorum::Single(none), counted: none, refused: none, asked: none };
        tally.quorum = quorum(&tally);
        tally
    }

    /// The replicas whose answers count.
    #[must_use]
    pub fn members(&self) -> &[NodeIndex] {
        &self.members
    }

    /// Those of `nodes` that are members.
    #[must_use]
    pub fn set_of(&self, nodes: impl IntoIterator<Item = NodeIndex>) -> MemberSet {
        nodes.into_iter().fold(MemberSet::default(), |set, node| set.or(self.bit(node)))
    }

    /// The members that are not in `members`.
    #[must_use]
    pub fn set_without(&self, members: MemberSet) -> MemberSet {
        self.all().without(members)
    }

    /// Whether `member` is in the new replica set alone.
    #[must_use]
    pub fn is_gaining(&self, member: NodeIndex) -> bool {
        match self.quorum {
            Quorum::Single(_) => false,
            Quorum::Joint(old, new) => !new.without(old).and(self.bit(member)).is_empty(),
        }
    }

    /// Whether `members` hold a quorum.
    #[must_use]
    pub fn is_quorum(&self, members: MemberSet) -> bool {
        self.quorum.is_reached_by(members)
    }

    /// The fewest answers that can make a quorum.
    #[must_use]
    pub fn answers_min(&self) -> usize {
        self.quorum.answers_min()
    }

    /// While a slot moves, the members of the old and of the new replica set.
    #[must_use]
    pub fn both_lists(&self) -> Option<[Vec<NodeIndex>; 2]> {
        let Quorum::Joint(old, new) = self.quorum else { return None };
        let list = |set: MemberSet| -> Vec<NodeIndex> {
            self.members.iter().copied().filter(|node| !set.and(self.bit(*node)).is_empty()).collect()
        };
        Some([old, new].map(list))
    }

    /// Shortens `nodes` to the first of them that make a quorum, where they do. Says whether any were left out.
    pub fn keep_quorum(&self, nodes: &mut Vec<NodeIndex>) -> bool {
        let (mut kept, count) = (MemberSet::default(), nodes.len());
        nodes.retain(|node| {
            let node = self.bit(*node);
            let wanted = self.quorum.wants(kept, node);
            if wanted {
                kept = kept.or(node);
            }
            wanted
        });
        nodes.len() < count
    }

    /// Shortens `nodes` to those in `wanted`, and to the first others that make a quorum with them and with those that count already.
    /// Says whether any were left out.
    pub fn keep_wanted(&self, wanted: MemberSet, nodes: &mut Vec<NodeIndex>) -> bool {
        let count = nodes.len();
        let mut kept = self.counted.or(self.set_of(nodes.iter().copied()).and(wanted));
        nodes.retain(|node| {
            let node = self.bit(*node);
            let is_kept = !node.and(wanted).is_empty() || self.quorum.wants(kept, node);
            if is_kept {
                kept = kept.or(node);
            }
            is_kept
        });
        nodes.len() < count
    }

    /// Whether `member` is in `set`.
    #[must_use]
    pub fn is_in(&self, member: NodeIndex, set: MemberSet) -> bool {
        !self.bit(member).and(set).is_empty()
    }

    /// Counts the answer of `member`. The answer of another node, and a second answer, count for nothing.
    pub fn count(&mut self, member: NodeIndex) {
        let bit = self.bit(member);
        self.counted = self.counted.or(bit);
        self.refused = self.refused.without(bit);
    }

    /// Notes that `member` will not answer, unless it has.
    pub fn refuse(&mut self, member: NodeIndex) {
        self.refused = self.refused.or(self.bit(member).without(self.counted));
    }

    /// Notes that `member` may answer after all.
    pub fn reconsider(&mut self, member: NodeIndex) {
        self.refused = self.refused.without(self.bit(member));
    }

    /// Begins the next round: nobody has answered. Permanent refusals stay.
    pub fn restart(&mut self) {
        self.counted = MemberSet::default();
        self.asked = MemberSet::default();
    }

    /// Begins a round of another question: nobody has answered or refused.
    pub fn reset(&mut self) {
        self.restart();
        self.refused = MemberSet::default();
    }

    /// Counts `counted`, whose answer is known already, and wants none from `unwanted`.
    pub fn preset(&mut self, counted: MemberSet, unwanted: MemberSet) {
        self.counted = self.counted.or(counted);
        self.refused = self.refused.or(unwanted).without(self.counted);
    }

    /// Notes that `member` is asked.
    pub fn ask(&mut self, member: NodeIndex) {
        self.asked = self.asked.or(self.bit(member));
    }

    /// Notes that all missing members are asked.
    pub fn ask_missing(&mut self) {
        self.asked = self.asked.or(self.all().without(self.counted).without(self.refused));
    }

    /// Whether `member` was asked in this round.
    #[must_use]
    pub fn is_asked(&self, member: NodeIndex) -> bool {
        !self.asked.and(self.bit(member)).is_empty()
    }

    /// Whether nobody was asked in this round.
    #[must_use]
    pub fn is_unasked(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether the answer of `member` was counted.
    #[must_use]
    pub fn has_counted(&self, member: NodeIndex) -> bool {
        !self.counted.and(self.bit(member)).is_empty()
    }

    /// Whether any answer was counted.
    #[must_use]
    pub fn has_counted_any(&self) -> bool {
        !self.counted.is_empty()
    }

    /// Whether `member` has neither answered nor permanently refused.
    #[must_use]
    pub fn is_missing(&self, member: NodeIndex) -> bool {
        !self.bit(member).without(self.counted).without(self.refused).is_empty()
    }

    /// The replicas that have neither answered nor permanently refused.
    pub fn missing(&self) -> impl Iterator<Item = NodeIndex> + Clone + '_ {
        self.outside(self.counted.or(self.refused))
    }

    /// The replicas whose answer was not counted, refused or not.
    pub fn uncounted(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.outside(self.counted)
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let quorum = rule!(MajorityOfAsked, self.quorum, not self.quorum.among(self.asked));
        if quorum.is_reached_by(self.counted) {
            Standing::Reached
        } else if self.quorum.is_reached_by(MemberSet(!self.refused.0)) {
            Standing::Pending
        } else {
            Standing::Impossible
        }
    }

    fn all(&self) -> MemberSet {
        match self.quorum {
            Quorum::Single(all) => all,
            Quorum::Joint(old, new) => old.or(new),
        }
    }

    fn outside(&self, set: MemberSet) -> impl Iterator<Item = NodeIndex> + Clone + '_ {
        self.members.iter().enumerate().filter(move |(i, _)| set.0 & (1 << i) == 0).map(|(_, member)| *member)
    }

    /// The set of `node` alone; empty where it is no member.
    fn bit(&self, node: NodeIndex) -> MemberSet {
        self.members.iter().position(|member| *member == node).map_or(MemberSet::default(), |i| MemberSet(1 << i))
    }
}

fn check_size(replicas: &[NodeIndex]) {
    assert!((1..=REPLICA_COUNT_MAX).contains(&replicas.len()), "a slot has 1 to {REPLICA_COUNT_MAX} replicas");
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICAS: [NodeIndex; 3] = [NodeIndex(4), NodeIndex(0), NodeIndex(2)];

    #[test]
    fn majorities_of_any_size_intersect() {
        for n in 1..=REPLICA_COUNT_MAX {
            assert!(2 * majority(n) > n);
            assert!(2 * (majority(n) - 1) <= n, "and none is larger than it must be");
        }
    }

    #[test]
    fn majority_of_distinct_replicas_reaches() {
        let mut tally = Tally::single(&REPLICAS);
        tally.count(NodeIndex(4));
        tally.count(NodeIndex(4));
        tally.count(NodeIndex(9));
        assert_eq!(tally.standing(), Standing::Pending, "one replica twice and a stranger are one answer");
        tally.count(NodeIndex(2));
        assert_eq!(tally.standing(), Standing::Reached);
        assert_eq!(tally.missing().collect::<Vec<_>>(), [NodeIndex(0)]);
    }

    #[test]
    fn majority_of_refusals_makes_it_impossible() {
        let mut tally = Tally::single(&REPLICAS);
        tally.refuse(NodeIndex(4));
        assert_eq!(tally.standing(), Standing::Pending);
        tally.refuse(NodeIndex(0));
        assert_eq!(tally.standing(), Standing::Impossible);
        tally.count(NodeIndex(0));
        assert_eq!(tally.standing(), Standing::Pending, "an answer outweighs an earlier refusal");
        tally.refuse(NodeIndex(0));
        tally.count(NodeIndex(2));
        assert_eq!(tally.standing(), Standing::Reached, "a later refusal takes no answer back");
    }

    #[test]
    fn member_that_may_answer_after_all_is_missing_again() {
        let mut tally = Tally::single(&REPLICAS);
        tally.refuse(NodeIndex(4));
        tally.refuse(NodeIndex(0));
        tally.reconsider(NodeIndex(4));
        assert_eq!(tally.standing(), Standing::Pending);
        assert_eq!(tally.missing().collect::<Vec<_>>(), [NodeIndex(4), NodeIndex(2)]);
    }

    #[test]
    fn next_round_counts_anew_but_remembers_refusals() {
        let mut tally = Tally::single(&REPLICAS);
        tally.count(NodeIndex(4));
        tally.refuse(NodeIndex(0));
        tally.restart();
        assert_eq!(tally.missing().collect::<Vec<_>>(), [NodeIndex(4), NodeIndex(2)]);
    }

    #[test]
    fn nobody_is_asked_when_a_round_begins() {
        let mut tally = Tally::single(&REPLICAS);
        tally.ask(NodeIndex(4));
        tally.ask(NodeIndex(9));
        assert!(tally.is_asked(NodeIndex(4)));
        assert!(!tally.is_asked(NodeIndex(2)) && !tally.is_asked(NodeIndex(9)));
        tally.restart();
        assert!(tally.is_unasked());
    }

    #[test]
    fn those_that_lack_a_record_get_it_and_no_more_than_a_quorum_besides() {
        let mut tally = Tally::single(&[0, 1, 2, 3, 4].map(NodeIndex));
        tally.count(NodeIndex(0));
        let lacking = tally.set_of([NodeIndex(3)]);
        let mut nodes = [1, 2, 3, 4].map(NodeIndex).to_vec();
        assert!(tally.keep_wanted(lacking, &mut nodes));
        assert_eq!(nodes, [1, 3].map(NodeIndex), "they are three with the one that counts already");
        let mut nodes = [3, 4].map(NodeIndex).to_vec();
        let lacking = tally.set_of([3, 4].map(NodeIndex));
        assert!(!tally.keep_wanted(lacking, &mut nodes), "all that lack it get it");
        let mut tally = joint();
        tally.count(NodeIndex(0));
        tally.count(NodeIndex(2));
        let mut nodes = [1, 3, 4].map(NodeIndex).to_vec();
        assert!(tally.keep_wanted(tally.set_of([NodeIndex(4)]), &mut nodes));
        assert_eq!(nodes, [NodeIndex(4)], "node 1 may hold it already");
    }

    /// Replicas 0, 1, 2 hand over to 2, 3, 4.
    fn joint() -> Tally {
        Tally::joint(&[NodeIndex(0), NodeIndex(1), NodeIndex(2)], &[NodeIndex(2), NodeIndex(3), NodeIndex(4)])
    }

    #[test]
    fn joint_quorum_takes_a_majority_of_both_sets() {
        let mut tally = joint();
        assert_eq!(tally.members(), [0, 1, 2, 3, 4].map(NodeIndex));
        tally.count(NodeIndex(0));
        tally.count(NodeIndex(1));
        assert_eq!(tally.standing(), Standing::Pending, "no majority of the new set");
        tally.count(NodeIndex(3));
        assert_eq!(tally.standing(), Standing::Pending, "one of the new set is too few");
        tally.count(NodeIndex(4));
        assert_eq!(tally.standing(), Standing::Reached);
    }

    #[test]
    fn member_of_both_sets_counts_in_both() {
        let mut tally = joint();
        for member in [2, 0, 4] {
            assert_eq!(tally.standing(), Standing::Pending);
            tally.count(NodeIndex(member));
        }
        assert_eq!(tally.standing(), Standing::Reached, "three answers make a majority of each");
        assert_eq!(tally.answers_min(), 2);
        assert_eq!(tally.both_lists(), Some([[0, 1, 2].map(NodeIndex).to_vec(), [2, 3, 4].map(NodeIndex).to_vec()]));
        assert_eq!(Tally::single(&REPLICAS).both_lists(), None);
    }

    #[test]
    fn joint_quorum_is_impossible_once_it_is_in_either_set() {
        for set in [[0, 1], [3, 4]] {
            let mut tally = joint();
            tally.refuse(NodeIndex(set[0]));
            assert_eq!(tally.standing(), Standing::Pending);
            tally.refuse(NodeIndex(set[1]));
            assert_eq!(tally.standing(), Standing::Impossible);
        }
        let mut tally = joint();
        tally.refuse(NodeIndex(0));
        tally.refuse(NodeIndex(4));
        assert_eq!(tally.standing(), Standing::Pending, "each set has lost one of three");
        tally.refuse(NodeIndex(2));
        assert_eq!(tally.standing(), Standing::Impossible, "a member of both is lost to both");
    }

    #[test]
    fn joint_quorums_meet_every_quorum_of_either_set() {
        let tally = joint();
        let sets = |bits: u8| tally.set_of((0..5).filter(|i| bits & (1 << i) != 0).map(NodeIndex));
        let (old, new) = (Tally::single(&[0, 1, 2].map(NodeIndex)), Tally::single(&[2, 3, 4].map(NodeIndex)));
        let has =
            |of: &Tally, bits: u8| of.is_quorum(of.set_of((0..5).filter(|i| bits & (1 << i) != 0).map(NodeIndex)));
        for bits in 0..32 {
            assert_eq!(tally.is_quorum(sets(bits)), has(&old, bits) && has(&new, bits));
            for others in 0..32_u8 {
                let single = has(&old, others) || has(&new, others);
                assert!(!tally.is_quorum(sets(bits)) || !single || bits & others != 0, "{bits:b} and {others:b}");
            }
        }
    }

    #[test]
    fn those_asked_first_are_no_more_than_a_quorum() {
        let mut nodes = [9, 2, 4, 0].map(NodeIndex).to_vec();
        assert!(Tally::single(&REPLICAS).keep_quorum(&mut nodes));
        assert_eq!(nodes, [2, 4].map(NodeIndex));
        assert!(!Tally::single(&REPLICAS).keep_quorum(&mut nodes), "all of them are needed");
        let mut nodes = [0, 1, 2, 3, 4].map(NodeIndex).to_vec();
        assert!(joint().keep_quorum(&mut nodes));
        assert_eq!(nodes, [0, 1, 2, 3].map(NodeIndex), "node 2 is still needed of the new set");
    }

    #[test]
    fn next_question_forgets_refusals() {
        let mut tally = Tally::single(&REPLICAS);
        tally.count(NodeIndex(4));
        tally.refuse(NodeIndex(0));
        tally.reset();
        assert_eq!(tally.missing().count(), 3);
        tally.preset(tally.set_of([NodeIndex(4)]), tally.set_of([NodeIndex(0)]));
        assert_eq!(tally.missing().collect::<Vec<_>>(), [NodeIndex(2)]);
    }
}
