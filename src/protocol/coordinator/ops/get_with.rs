//! A linearizable read that counts the answers of certain replicas, whoever else answers.
//!
//! A watch reads so what a replica has announced. A majority without that replica may not have the record yet, and another
//! majority may come to hold it later.

use std::collections::BTreeSet;

use crate::protocol::io::{Failure, QuorumReport};
use crate::protocol::message::{Answer, Request};
use crate::protocol::quorum::Tally;
use crate::types::{Key, NodeIndex, Stamp};

use super::get::Get;
use super::operation::{Fanout, Heard, Next, Operation, Round, Step};

/// Such a read in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GetWith {
    get: Get,
    /// The replicas whose answers must be among those that count.
    tellers: BTreeSet<NodeIndex>,
}

impl GetWith {
    /// A read that counts the answers of `tellers`.
    #[must_use]
    pub fn new(tellers: BTreeSet<NodeIndex>) -> Self {
        Self { get: Get::default(), tellers }
    }

    /// The read.
    pub(super) fn read(&self) -> &Get {
        &self.get
    }

    /// The settling of the record, if it comes to that, counts their promises.
    fn settle_with_them(&self, step: Step) -> Step {
        match step {
            Step::Become(Next::Settle) => Step::Become(Next::SettleWith(self.tellers.clone())),
            step => step,
        }
    }
}

impl Operation for GetWith {
    /// All are asked: those that must answer, and enough others at hand.
    fn start(&mut self) -> Step {
        match self.get.start() {
            Step::Ask(round) => Step::Ask(Round { fanout: Fanout::All, ..round }),
            step => step,
        }
    }

    fn request(&self, key: &Key, leads: bool) -> Request {
        self.get.request(key, leads)
    }

    fn on_stamp(&mut self, stamp: Stamp) -> Step {
        self.get.on_stamp(stamp)
    }

    fn on_answer(&mut self, from: NodeIndex, answer: Answer) -> Heard {
        self.get.on_answer(from, answer)
    }

    fn on_enough(&mut self, tally: &Tally) -> Step {
        if !self.tellers.iter().all(|teller| self.get.has_seen(*teller)) {
            return Step::Wait;
        }
        let step = self.get.on_enough(tally);
        self.settle_with_them(step)
    }

    fn on_impossible(&mut self) -> Step {
        self.get.on_impossible()
    }

    /// Those that are no replicas any more are not asked.
    fn on_reconfigured(&mut self, tally: &Tally) -> Step {
        self.forget_others(tally);
        *self = Self::new(std::mem::take(&mut self.tellers));
        self.start()
    }

    fn forget_others(&mut self, tally: &Tally) {
        self.tellers.retain(|teller| tally.members().contains(teller));
    }

    fn on_resumed(&mut self) -> Step {
        self.start()
    }

    fn on_sealed(&mut self) -> Step {
        self.get.on_sealed()
    }

    fn on_late(&mut self) -> Step {
        self.get.on_late()
    }

    fn failure(&self, report: QuorumReport) -> Failure {
        self.get.failure(report)
    }
}
