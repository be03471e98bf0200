//! A linearizable read that brings what it answers to the replicas that lack it, for repair.
//!
//! It has no rule of its own: a read settles what a majority holds, and stores nothing else. So it never spreads the record
//! of a conditional write that may not be chosen.

use std::collections::BTreeSet;

use crate::mutants::rule;
use crate::protocol::io::{Failure, QuorumReport, Reply};
use crate::protocol::message::{Answer, Request};
use crate::protocol::quorum::Tally;
use crate::types::{AgedRecord, Key, NodeIndex, Stamp};

use super::get_with::GetWith;
use super::operation::{Heard, Operation, Round, Step};

/// Such a read in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mend {
    get: GetWith,
    /// The replicas of which one lacks something: both are asked, and both have the record in the end.
    pair: BTreeSet<NodeIndex>,
    /// Those that have acknowledged the record.
    stored: BTreeSet<NodeIndex>,
    /// What the read has answered, while it is brought to those that lack it.
    spread: Option<Box<AgedRecord>>,
}

impl Mend {
    /// A repair of a key that two replicas differ about.
    #[must_use]
    pub fn new(pair: BTreeSet<NodeIndex>) -> Self {
        Self { get: GetWith::new(pair.clone()), pair, stored: BTreeSet::new(), spread: None }
    }

    /// Brings `record` to the replicas that were seen to hold less, unless the two hold it already. The others are left to the
    /// comparisons with them.
    fn spread(&mut self, record: AgedRecord, tally: &Tally) -> Step {
        let digest = record.digest();
        let members = tally.members();
        let holds =
            |member: &&NodeIndex| self.get.read().has_seen_at(**member, &digest) || self.stored.contains(member);
        let holders: Vec<NodeIndex> = members.iter().filter(holds).copied().collect();
        let unseen = members.iter().filter(|member| !self.get.read().has_seen(**member)).copied();
        let (holders, unseen) =
            (tally.set_of(holders), tally.set_of(unseen).without(tally.set_of(self.stored.clone())));
        let lacking = tally.set_without(holders.or(unseen));
        self.stored =
            members.iter().filter(|member| !tally.set_of([**member]).and(holders).is_empty()).copied().collect();
        if rule!(RepairSkipsReplica, lacking.is_empty() || self.pair.is_subset(&self.stored)) {
            return Step::Done(Reply::Record(Some(record)));
        }
        self.spread = Some(Box::new(record));
        Step::Ask(Round { counted: holders, unwanted: unseen, ..Round::to_all() })
    }
}

impl Operation for Mend {
    fn start(&mut self) -> Step {
        self.get.start()
    }

    fn request(&self, key: &Key, leads: bool) -> Request {
        match &self.spread {
            Some(aged) => Request::Store { key: key.clone(), record: aged.record.clone(), age: aged.age },
            None => self.get.request(key, leads),
        }
    }

    fn on_stamp(&mut self, stamp: Stamp) -> Step {
        self.get.on_stamp(stamp)
    }

    fn on_answer(&mut self, from: NodeIndex, answer: Answer) -> Heard {
        let is_stored = answer == Answer::Stored;
        let heard = match self.spread {
            Some(_) if is_stored => Heard::Counts,
            Some(_) => Heard::Nothing,
            None => self.get.on_answer(from, answer),
        };
        if is_stored && heard == Heard::Counts {
            self.stored.insert(from);
        }
        heard
    }

    fn on_enough(&mut self, tally: &Tally) -> Step {
        // It cannot end without both.
        let is_wanted = |member: &NodeIndex| match self.spread {
            Some(_) => !self.stored.contains(member),
            None => !self.get.read().has_seen(*member),
        };
        let is_refused = |member: &NodeIndex| !tally.is_missing(*member) && !tally.has_counted(*member);
        if self.pair.iter().any(|member| is_wanted(member) && is_refused(member)) {
            return Step::Failed;
        }
        if let Some(record) = &self.spread {
            let is_done = self.pair.is_subset(&self.stored);
            return if is_done { Step::Done(Reply::Record(Some((**record).clone()))) } else { Step::Wait };
        }
        #[cfg(feature = "mutants")]
        if let Some(unsettled) = self.unsettled() {
            return self.spread(unsettled, tally);
        }
        match self.get.on_enough(tally) {
            Step::Done(Reply::Record(Some(record))) => self.spread(record, tally),
            step => step,
        }
    }

    fn on_impossible(&mut self) -> Step {
        if self.spread.is_some() { Step::Failed } else { self.get.on_impossible() }
    }

    fn on_resumed(&mut self) -> Step {
        self.get.on_resumed()
    }

    fn on_late(&mut self) -> Step {
        if self.spread.is_some() { Step::Wait } else { self.get.on_late() }
    }

    fn failure(&self, report: QuorumReport) -> Failure {
        self.get.failure(report)
    }
}

#[cfg(feature = "mutants")]
impl Mend {
    /// The greatest record that arrived, whether or not it is settled: wrong.
    fn unsettled(&self) -> Option<AgedRecord> {
        let is_broken = crate::mutants::is_on(crate::mutants::Mutant::RepairSpreadsUnchosen);
        self.get.read().greatest_in_hand().filter(|_| is_broken).map(AgedRecord::from)
    }
}
