//! One coordinator's read: asks a majority, and answers only what a majority holds.
//!
//! Invariants: a record is returned only once a majority is known to hold exactly it, or it was stored at a majority
//! first (the write-back: without it a later read could miss what this one returned). Where stamps alone were asked
//! for, the value returned is the one that came with the very stamp settled on.
//!
//! Source: Attiya, Bar-Noy and Dolev, "Sharing memory robustly in message-passing systems" (JACM 1995).

use std::collections::BTreeMap;

use crate::quorum::{Standing, Tally};
use crate::types::{Held, Key, Mark, Member, Record, Slot};

use super::RequestId;

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
    seen: BTreeMap<Member, Option<Mark>>,
    /// The greatest record whose content arrived.
    in_hand: Option<Record>,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Asks what the replicas hold.
    Ask,
    /// Has settled on a mark and needs the content that goes with it, from one that holds it.
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
    pub fn new(request: RequestId, slot: Slot, replicas: &[Member], key: Key) -> Self {
        let tally = Tally::new(replicas);
        Self { request, key, slot, tally, round: 0, seen: BTreeMap::new(), in_hand: None, phase: Phase::Ask }
    }

    /// The record that is being written back.
    #[must_use]
    pub fn writing_back(&self) -> Option<&Record> {
        match &self.phase {
            Phase::WriteBack { record } => Some(record),
            Phase::Ask | Phase::Fetch => None,
        }
    }

    /// Whether it needs a whole record from those that it asks again.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.phase == Phase::Fetch
    }

    /// `member` holds this, in answer to the present round.
    pub fn held_by(&mut self, member: Member, held: Held) -> Step {
        if self.writing_back().is_some() || !self.tally.replicas().contains(&member) {
            return Step::Wait;
        }
        self.seen.insert(member, held.mark());
        if let Held::Record(record) = held
            && self.in_hand.as_ref().is_none_or(|in_hand| in_hand.stamp < record.stamp)
        {
            self.in_hand = Some(record);
        }
        self.tally.count(member);
        self.advance()
    }

    /// `member` has what is written back, or a greater record, durably; in answer to the present round.
    pub fn stored_by(&mut self, member: Member) -> Step {
        if self.writing_back().is_some() {
            self.tally.count(member);
        }
        self.advance()
    }

    /// `member` refuses for good.
    pub fn refused_by(&mut self, member: Member) -> Step {
        self.tally.refuse(member);
        self.advance()
    }

    fn advance(&mut self) -> Step {
        match (&self.phase, self.tally.standing()) {
            (Phase::WriteBack { record }, Standing::Reached) => Step::Done(Some(record.clone())),
            (Phase::Ask, Standing::Reached) => self.settle(),
            // One answer is enough here: what it holds is in hand, or a greater record is.
            (Phase::Fetch, _) if self.tally.has_counted_any() => self.settle(),
            (Phase::Fetch, _) if self.tally.missing().next().is_none() => Step::Failed,
            (Phase::Fetch, _) | (_, Standing::Pending) => Step::Wait,
            (_, Standing::Impossible) => Step::Failed,
        }
    }

    /// A majority has been seen: settles on the greatest record seen.
    fn settle(&mut self) -> Step {
        let Some(greatest) = self.seen.values().flatten().max().cloned() else { return Step::Done(None) };
        let agreeing = holders(&self.seen, |mark| *mark == greatest);
        let Some(record) = self.in_hand.clone().filter(|record| record.mark() == greatest) else {
            self.begin(Phase::Fetch);
            // Those who were not seen to hold it cannot serve it.
            let others: Vec<Member> = self.tally.replicas().iter().filter(|m| !agreeing.contains(m)).copied().collect();
            others.into_iter().for_each(|other| self.tally.refuse(other));
            return Step::Fetch;
        };
        if agreeing.len() >= self.tally.needed() {
            return Step::Done(Some(record));
        }
        self.begin(Phase::WriteBack { record });
        // Durable there, or beaten by what is.
        for holder in holders(&self.seen, |mark| *mark >= greatest) {
            self.tally.count(holder);
        }
        Step::WriteBack
    }

    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.round += 1;
        self.tally = Tally::new(self.tally.replicas());
    }
}

fn holders(seen: &BTreeMap<Member, Option<Mark>>, is_it: impl Fn(&Mark) -> bool) -> Vec<Member> {
    seen.iter().filter(|(_, mark)| mark.as_ref().is_some_and(&is_it)).map(|(member, _)| *member).collect()
}
