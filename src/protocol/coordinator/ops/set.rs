//! A write or delete: a clock round, then a store round.
//!
//! Invariants: the stamp is drawn above the clocks of a majority, each read after the write was invoked, so that every
//! write that ended before this one began has a smaller stamp. Once drawn, the stamp never changes: the write is only ever
//! resent under it. A write that has no stamp was sent to no replica and certainly did not happen.
//!
//! Source: the two-round write of Lynch and Shvartsman (FTCS 1997). Fewer rounds are impossible for several writers of a
//! crash-tolerant register (arXiv 2001.07855).

use crate::mutants::rule;
use crate::protocol::io::{Failure, QuorumReport, Reply};
use crate::protocol::message::{Answer, Request, StoreOrigin};
use crate::protocol::quorum::Tally;
use crate::types::{Age, Checksum, Content, Key, NodeIndex, Record, Stamp, Ttl, Version};

use super::operation::{Heard, Operation, Round, Step};

/// A write that is in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Set {
    content: Content,
    ttl: Option<Ttl>,
    checksum: Checksum,
    /// Drawn when the clock round is complete.
    stamp: Option<Stamp>,
}

impl Set {
    /// A write of `content`. `checksum` covers it and `ttl`.
    #[must_use]
    pub fn new(content: Content, ttl: Option<Ttl>, checksum: Checksum) -> Self {
        Self { content, ttl, checksum, stamp: None }
    }

    fn record(&self) -> Option<Record> {
        let (content, ttl, checksum) = (self.content.clone(), self.ttl, self.checksum);
        self.stamp.clone().map(|stamp| Record { ttl, ..Record::plain(stamp, content, checksum) })
    }

    /// A deletion that does not ask what it deletes: wrong for a value that expires.
    #[cfg(feature = "mutants")]
    pub(in crate::protocol) fn deleting(key: &Key) -> Self {
        Self::new(Content::Tombstone, None, Checksum::of_write(key, &Content::Tombstone, None))
    }

    /// Another stamp for the same write: wrong, because it gives one write two places in the order.
    #[cfg(feature = "mutants")]
    pub(in crate::protocol) fn restamp(&mut self, clock: crate::types::Clock) {
        if let Some(stamp) = &mut self.stamp {
            stamp.clock = clock;
        }
    }
}

impl Operation for Set {
    fn start(&mut self) -> Step {
        Step::NeedStamp
    }

    fn request(&self, key: &Key, _: bool) -> Request {
        let record = self.record().expect("a write is sent with its stamp");
        Request::Store { key: key.clone(), record, age: Age::NONE, origin: StoreOrigin::Writer }
    }

    fn on_stamp(&mut self, stamp: Stamp) -> Step {
        assert!(self.stamp.is_none(), "a write is stamped once: a second stamp would give it two places in the order");
        self.stamp = Some(stamp);
        Step::Ask(Round::to_all())
    }

    fn on_answer(&mut self, _: NodeIndex, answer: Answer) -> Heard {
        if answer == Answer::Stored { Heard::Counts } else { Heard::Nothing }
    }

    fn on_enough(&mut self, _: &Tally) -> Step {
        let stamp = self.stamp.clone().expect("a stored write has its stamp");
        Step::Done(Reply::Set(Version::new(stamp, None)))
    }

    fn on_reconfigured(&mut self, _: &Tally) -> Step {
        #[cfg(feature = "mutants")]
        if crate::mutants::is_on(crate::mutants::Mutant::NewStampOnChange) {
            self.stamp = None;
        }
        // The same stamp, if it was drawn: a clock round that has ended stays good.
        if self.stamp.is_some() { Step::Ask(Round::to_all()) } else { Step::NeedStamp }
    }

    fn hint(&self) -> Option<(Record, Age)> {
        Some((self.record()?, Age::NONE))
    }

    fn may_have_written(&self) -> bool {
        self.stamp.is_some()
    }

    fn failure(&self, report: QuorumReport) -> Failure {
        if rule!(UnknownSaidNotApplied, self.stamp.is_none()) {
            Failure::NotApplied(report)
        } else {
            Failure::OutcomeUnknown(report)
        }
    }
}
