//! The seals that the replicas of a key tell an operation, and the absence that follows from them.

use std::collections::BTreeMap;

use crate::protocol::quorum::Tally;
use crate::types::{Clock, Digest, Key, NodeIndex, Record};

/// The seals that were told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ToldSeals {
    /// Those of the present round, by those who told one.
    by: BTreeMap<NodeIndex, Clock>,
    /// The greatest of the whole operation.
    greatest: Option<Clock>,
    key: Option<Key>,
}

impl ToldSeals {
    /// A new round begins.
    pub(super) fn begin_round(&mut self) {
        self.by.clear();
    }

    /// A replica tells the seal of its slot.
    pub(super) fn hear(&mut self, from: NodeIndex, key: &Key, seal: Option<Clock>) {
        let Some(seal) = seal else { return };
        let told = self.by.entry(from).or_insert(seal);
        *told = seal.max(*told);
        self.key.get_or_insert_with(|| key.clone());
        self.hear_of(Some(seal));
    }

    /// A replica tells the seal of its slot, and does not answer the round.
    pub(super) fn hear_of(&mut self, seal: Option<Clock>) {
        self.greatest = self.greatest.max(seal);
    }

    /// The greatest seal.
    pub(super) fn greatest(&self) -> Option<Clock> {
        self.greatest
    }

    /// Whether all of these have told the greatest seal in the present round.
    pub(super) fn are_told_by<'a>(&self, mut members: impl Iterator<Item = &'a NodeIndex>) -> bool {
        let greatest = self.greatest();
        members.all(|member| self.by.get(member).copied() >= greatest)
    }

    /// Whether a replica with a seal has forgotten a deletion above this record: it holds less, although all replicas held
    /// everything up to the seal.
    /// One that takes the slot over may hold less for another reason.
    pub(super) fn some_forgot(
        &self,
        digest: &Digest,
        seen: &BTreeMap<NodeIndex, Option<Digest>>,
        tally: &Tally,
    ) -> bool {
        let has_less = |member: &NodeIndex| seen.get(member).is_some_and(|seen| seen.as_ref() < Some(digest));
        let may_have_forgotten = |member: &NodeIndex| !tally.is_gaining(*member);
        let mut told = self.by.iter().filter(|(member, _)| may_have_forgotten(member));
        told.any(|(member, seal)| digest.tag().clock() <= *seal && has_less(member))
    }

    /// The absence of the key, as a deletion that nobody made; `None` where no seal was told.
    pub(super) fn absence(&self) -> Option<Record> {
        Some(Record::absence(self.key.as_ref()?, self.greatest?))
    }
}
