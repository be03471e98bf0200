//! Majorities of a slot's replicas, and the tally of who has answered.
//!
//! Contract: only members of the slot's replica set count, each once; "none" is an answer, an error is not. Whoever
//! waits for a majority asks a [`Tally`] and never compares numbers itself.

use crate::limits::REPLICA_COUNT_MAX;
use crate::mutants::{self, Mutant};
use crate::types::NodeIndex;

/// The number of replicas that any two of their majorities have one in common.
#[must_use]
pub fn majority(replica_count: usize) -> usize {
    replica_count / 2 + 1
}

/// How a tally stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Too few have answered, and enough still may.
    Pending,
    /// A majority has answered.
    Reached,
    /// So many have refused for good that no majority can answer.
    Impossible,
}

/// Who of a slot's replicas has answered, and who never will.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tally {
    replicas: Box<[NodeIndex]>,
    /// Bit i: the i-th replica has answered.
    counted: u64,
    /// Bit i: the i-th replica has refused for good.
    refused: u64,
    /// Bit i: the i-th replica was asked in this round.
    asked: u64,
}

impl Tally {
    /// A tally of `replicas`, of whom nobody has answered.
    ///
    /// # Panics
    /// When there are none of them or more than [`REPLICA_COUNT_MAX`].
    #[must_use]
    pub fn new(replicas: &[NodeIndex]) -> Self {
        assert!((1..=REPLICA_COUNT_MAX).contains(&replicas.len()), "a slot has 1 to {REPLICA_COUNT_MAX} replicas");
        Self { replicas: replicas.into(), counted: 0, refused: 0, asked: 0 }
    }

    /// Whose answers count.
    #[must_use]
    pub fn replicas(&self) -> &[NodeIndex] {
        &self.replicas
    }

    /// How many answers make a majority.
    #[must_use]
    pub fn needed(&self) -> usize {
        majority(self.replicas.len())
    }

    /// Counts the answer of `member`; of a stranger or for a second time it counts for nothing.
    pub fn count(&mut self, member: NodeIndex) {
        if let Some(bit) = self.bit(member) {
            self.counted |= bit;
            self.refused &= !bit;
        }
    }

    /// Notes that `member` will not answer, unless it has.
    pub fn refuse(&mut self, member: NodeIndex) {
        if let Some(bit) = self.bit(member) {
            self.refused |= bit & !self.counted;
        }
    }

    /// Notes that `member` may answer after all.
    pub fn reconsider(&mut self, member: NodeIndex) {
        if let Some(bit) = self.bit(member) {
            self.refused &= !bit;
        }
    }

    /// Forgets who has answered, for the next round; who has refused for good still has.
    pub fn restart(&mut self) {
        self.counted = 0;
        self.asked = 0;
    }

    /// Notes that `member` is asked.
    pub fn ask(&mut self, member: NodeIndex) {
        self.asked |= self.bit(member).unwrap_or_default();
    }

    /// Whether `member` was asked in this round.
    #[must_use]
    pub fn is_asked(&self, member: NodeIndex) -> bool {
        self.bit(member).is_some_and(|bit| self.asked & bit != 0)
    }

    /// Whether nobody was asked in this round.
    #[must_use]
    pub fn is_unasked(&self) -> bool {
        self.asked == 0
    }

    /// Whether the answer of `member` was counted.
    #[must_use]
    pub fn has_counted(&self, member: NodeIndex) -> bool {
        self.bit(member).is_some_and(|bit| self.counted & bit != 0)
    }

    /// Whether anybody's answer was counted.
    #[must_use]
    pub fn has_counted_any(&self) -> bool {
        self.counted != 0
    }

    /// The replicas that have neither answered nor refused for good.
    pub fn missing(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.select(!(self.counted | self.refused))
    }

    /// The replicas whose answer was not counted, refused or not.
    pub fn uncounted(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.select(!self.counted)
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let among_asked = mutants::is_on(Mutant::MajorityOfAsked) && !self.is_unasked();
        let needed = if among_asked { majority(self.asked.count_ones() as usize) } else { self.needed() };
        if self.counted.count_ones() as usize >= needed {
            Standing::Reached
        } else if self.replicas.len() - (self.refused.count_ones() as usize) < self.needed() {
            Standing::Impossible
        } else {
            Standing::Pending
        }
    }

    fn select(&self, bits: u64) -> impl Iterator<Item = NodeIndex> + '_ {
        self.replicas.iter().enumerate().filter(move |(i, _)| bits & (1 << i) != 0).map(|(_, member)| *member)
    }

    fn bit(&self, member: NodeIndex) -> Option<u64> {
        self.replicas.iter().position(|replica| *replica == member).map(|i| 1 << i)
    }
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
        let mut tally = Tally::new(&REPLICAS);
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
        let mut tally = Tally::new(&REPLICAS);
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
        let mut tally = Tally::new(&REPLICAS);
        tally.refuse(NodeIndex(4));
        tally.refuse(NodeIndex(0));
        tally.reconsider(NodeIndex(4));
        assert_eq!(tally.standing(), Standing::Pending);
        assert_eq!(tally.missing().collect::<Vec<_>>(), [NodeIndex(4), NodeIndex(2)]);
    }

    #[test]
    fn next_round_counts_anew_but_remembers_refusals() {
        let mut tally = Tally::new(&REPLICAS);
        tally.count(NodeIndex(4));
        tally.refuse(NodeIndex(0));
        tally.restart();
        assert_eq!(tally.missing().collect::<Vec<_>>(), [NodeIndex(4), NodeIndex(2)]);
    }

    #[test]
    fn nobody_is_asked_when_a_round_begins() {
        let mut tally = Tally::new(&REPLICAS);
        tally.ask(NodeIndex(4));
        tally.ask(NodeIndex(9));
        assert!(tally.is_asked(NodeIndex(4)));
        assert!(!tally.is_asked(NodeIndex(2)) && !tally.is_asked(NodeIndex(9)));
        tally.restart();
        assert!(tally.is_unasked());
    }
}
