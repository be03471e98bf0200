//! One coordinator's read: asks a majority, and answers only what a majority holds.
//!
//! Invariants: a record is returned only once a majority is known to hold exactly it, or it was stored at a majority
//! first (the write-back: without it a later read could miss what this one returned). Where stamps alone were asked
//! for, the value returned is the one that came with the very stamp settled on.
//!
//! Source: Attiya, Bar-Noy and Dolev, "Sharing memory robustly in message-passing systems" (JACM 1995).

use std::collections::BTreeMap;

use crate::protocol::quorum::{Standing, Tally};
use crate::types::{Digest, Key, Lookup, NodeIndex, Record, Slot};

use crate::mutants::{self, Mutant};
use crate::protocol::RequestId;

/// A read that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    /// Who asked for it.
    pub request: RequestId,
    /// The key.
    pub key: Key,
    /// The key's slot.
    pub slot: Slot,
    /// Who has answered the present round.
    pub tally: Tally,
    /// Rises with each phase, so that late answers to an earlier one count for nothing.
    pub round: u32,
    /// What each replica was seen to hold.
    seen: BTreeMap<NodeIndex, Option<Digest>>,
    /// The greatest record whose content arrived.
    in_hand: Option<Record>,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Asks what the replicas hold; of all but one of them for the digest alone.
    Ask,
    /// Asks anew, and everyone for the whole record: those who could serve the content were not to be had.
    AskWhole,
    /// Has settled on a digest and needs the content that goes with it, from one that holds it.
    Fetch,
    /// Stores what it settled on at a majority.
    WriteBack { record: Record },
}

/// What a read does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for more answers.
    Wait,
    /// Ask those that are missing for the whole record, in the round that begins now.
    Fetch,
    /// Store [`Read::writing_back`] at those that are missing, in the round that begins now.
    WriteBack,
    /// It is done.
    Done(Option<Record>),
    /// No majority can answer any more.
    Failed,
}

impl Read {
    /// A read of a slot with these replicas.
    #[must_use]
    pub fn new(request: RequestId, slot: Slot, replicas: &[NodeIndex], key: Key) -> Self {
        let tally = Tally::new(replicas);
        Self { request, key, slot, tally, round: 0, seen: BTreeMap::new(), in_hand: None, phase: Phase::Ask }
    }

    /// The record that is being written back.
    #[must_use]
    pub fn writing_back(&self) -> Option<&Record> {
        match &self.phase {
            Phase::WriteBack { record } => Some(record),
            Phase::Ask | Phase::AskWhole | Phase::Fetch => None,
        }
    }

    /// Whether it needs a whole record from those that it asks.
    #[must_use]
    pub fn asks_for_all_of_it(&self) -> bool {
        matches!(self.phase, Phase::AskWhole | Phase::Fetch)
    }

    /// Whether a record has arrived with its content.
    #[must_use]
    pub fn has_one_in_hand(&self) -> bool {
        self.in_hand.is_some() && self.phase == Phase::Ask
    }

    /// It is about to ask again, because too few answered in time. The few who were seen to hold the greatest record may
    /// have died since: a read that insisted on their content would stall although a majority is well. What was seen of
    /// them binds nobody, because nothing was answered yet.
    pub fn asks_again(&mut self) {
        if self.phase == Phase::Fetch && !mutants::is_on(Mutant::InsistsOnHolder) {
            self.start_over();
        }
    }

    /// `member` holds this, in answer to the present round.
    pub fn held_by(&mut self, member: NodeIndex, held: Lookup) -> Step {
        if self.writing_back().is_some() || !self.tally.replicas().contains(&member) {
            return Step::Wait;
        }
        // A store that shows a digest and then not its record is damaged. Asking it again and again would lead nowhere.
        if self.asks_for_all_of_it() && matches!(held, Lookup::Digest(_))
            || self.phase == Phase::Fetch && held.digest() < self.seen.get(&member).cloned().flatten()
        {
            return self.refused_by(member);
        }
        // A repeated request may be answered twice, and the older answer arrive last.
        let seen = self.seen.entry(member).or_default();
        *seen = held.digest().max(seen.take());
        if let Lookup::Record(record) = held
            && self.in_hand.as_ref().is_none_or(|in_hand| in_hand.digest() < record.digest())
        {
            self.in_hand = Some(record);
        }
        self.tally.count(member);
        self.advance()
    }

    /// `member` has what is written back, or a greater record, durably; in answer to the present round.
    pub fn stored_by(&mut self, member: NodeIndex) -> Step {
        if self.writing_back().is_some() {
            self.tally.count(member);
        }
        self.advance()
    }

    /// `member` refuses for good.
    pub fn refused_by(&mut self, member: NodeIndex) -> Step {
        self.tally.refuse(member);
        self.advance()
    }

    /// `member` was refused and is not any longer. While the content is fetched, who was not seen to hold it stays out:
    /// it cannot serve it.
    pub fn counts_on(&mut self, member: NodeIndex) {
        if self.phase != Phase::Fetch {
            self.tally.reconsider(member);
        }
    }

    fn advance(&mut self) -> Step {
        match (&self.phase, self.tally.standing()) {
            (Phase::WriteBack { record }, Standing::Reached) => Step::Done(Some(record.clone())),
            (Phase::Ask | Phase::AskWhole, Standing::Reached) => self.settle(),
            // One answer is enough here: what it holds is in hand, or a greater record is.
            (Phase::Fetch, _) if self.tally.has_counted_any() => self.settle(),
            (Phase::Fetch, _) if self.tally.missing().next().is_none() => {
                self.start_over();
                Step::Fetch
            }
            (Phase::Fetch, _) | (_, Standing::Pending) => Step::Wait,
            (_, Standing::Impossible) => Step::Failed,
        }
    }

    /// A majority has been seen: settles on the greatest record seen.
    fn settle(&mut self) -> Step {
        let Some(greatest) = self.seen.values().flatten().max().cloned() else { return Step::Done(None) };
        let agreeing = holders(&self.seen, |digest| *digest == greatest);
        let is_of_it = |record: &Record| record.digest() == greatest || mutants::is_on(Mutant::ContentOfAnotherStamp);
        let Some(record) = self.in_hand.clone().filter(is_of_it) else {
            self.begin(Phase::Fetch);
            // Those who were not seen to hold it cannot serve it.
            let others: Vec<NodeIndex> =
                self.tally.replicas().iter().filter(|m| !agreeing.contains(m)).copied().collect();
            for other in others {
                self.tally.refuse(other);
            }
            return Step::Fetch;
        };
        if agreeing.len() >= self.tally.needed() || mutants::is_on(Mutant::NoWriteBack) {
            return Step::Done(Some(record));
        }
        self.begin(Phase::WriteBack { record });
        // Durable there, or beaten by what is.
        for holder in holders(&self.seen, |digest| *digest >= greatest) {
            self.tally.count(holder);
        }
        Step::WriteBack
    }

    fn start_over(&mut self) {
        self.begin(Phase::AskWhole);
        self.seen.clear();
        self.in_hand = None;
    }

    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.round += 1;
        self.tally = Tally::new(self.tally.replicas());
    }
}

fn holders(seen: &BTreeMap<NodeIndex, Option<Digest>>, is_it: impl Fn(&Digest) -> bool) -> Vec<NodeIndex> {
    seen.iter().filter(|(_, digest)| digest.as_ref().is_some_and(&is_it)).map(|(member, _)| *member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Checksum, Clock, Content, NodeId, Stamp};

    const REPLICAS: [NodeIndex; 3] = [NodeIndex(0), NodeIndex(1), NodeIndex(2)];

    fn key() -> Key {
        Key::new("k").unwrap()
    }

    fn record(counter: u64) -> Record {
        let stamp = Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("1").unwrap() };
        Record { stamp, content: Content::Tombstone, checksum: Checksum::of(&key(), &Content::Tombstone) }
    }

    fn whole(counter: u64) -> Lookup {
        Lookup::Record(record(counter))
    }

    fn digest(counter: u64) -> Lookup {
        Lookup::Digest(record(counter).digest())
    }

    /// Has seen record 1 whole, and of record 2 the digest alone, at member 1.
    fn fetching() -> Read {
        let mut read = Read::new(RequestId(1), Slot(0), &REPLICAS, key());
        assert_eq!(read.held_by(NodeIndex(0), whole(1)), Step::Wait);
        assert_eq!(read.held_by(NodeIndex(1), digest(2)), Step::Fetch);
        assert_eq!(read.tally.missing().collect::<Vec<_>>(), [NodeIndex(1)], "nobody else was seen to hold it");
        read
    }

    #[test]
    fn content_is_fetched_from_who_holds_it_and_written_back() {
        let mut read = fetching();
        assert_eq!(read.held_by(NodeIndex(1), whole(2)), Step::WriteBack);
        assert_eq!(read.stored_by(NodeIndex(2)), Step::Done(Some(record(2))));
    }

    #[test]
    fn read_goes_on_without_the_one_that_held_the_greatest_record() {
        for silent in [true, false] {
            let mut read = fetching();
            if silent {
                read.asks_again();
            } else {
                assert_eq!(read.refused_by(NodeIndex(1)), Step::Fetch, "all are asked instead");
            }
            assert!(read.asks_for_all_of_it());
            assert_eq!(read.tally.missing().count(), 3);
            assert_eq!(read.held_by(NodeIndex(0), whole(1)), Step::Wait);
            assert_eq!(read.held_by(NodeIndex(2), whole(1)), Step::Done(Some(record(1))));
        }
    }

    #[test]
    fn older_answer_that_arrives_last_takes_nothing_back() {
        let mut read = Read::new(RequestId(1), Slot(0), &REPLICAS, key());
        assert_eq!(read.held_by(NodeIndex(1), whole(2)), Step::Wait);
        assert_eq!(read.held_by(NodeIndex(1), digest(1)), Step::Wait);
        assert_eq!(read.held_by(NodeIndex(0), digest(1)), Step::WriteBack);
        assert_eq!(read.writing_back(), Some(&record(2)));
    }
}
