//! A read of one replica: fast, and with no claim about the others.
//!
//! The record is durable at that replica. It may be old, and may be a conditional write whose outcome is open. A client that
//! names a version it has seen gets a record of at least that version, or a linearizable read. So it reads its own writes,
//! and never goes backwards.

use crate::mutants::rule;
use crate::protocol::io::{Failure, QuorumReport, Reply};
use crate::protocol::message::{Answer, Request};
use crate::protocol::quorum::Tally;
use crate::types::{AgedRecord, Digest, Key, Lookup, NodeIndex, ReadKind, Stamp, Version};

use super::operation::{Enough, Fanout, Heard, Next, Operation, Round, Step};

/// A read of one replica that is in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GetOne {
    accepted: Accepted,
    record: Option<AgedRecord>,
}

/// The record that one replica is enough for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Accepted {
    /// Any.
    Any,
    /// Any of at least this version.
    AtLeast(Version),
    /// The record of this digest, which a majority was found to have.
    Exactly(Digest),
}

impl GetOne {
    /// A read of a record whose version is not below `at_least`.
    #[must_use]
    pub fn new(at_least: Option<Version>) -> Self {
        let accepted = at_least.map_or(Accepted::Any, Accepted::AtLeast);
        Self { accepted, record: None }
    }

    /// A read of the record of `digest`, which a majority was found to have. A replica with another record does not do: the
    /// read is linearizable then.
    #[must_use]
    pub fn exactly(digest: Digest) -> Self {
        Self { accepted: Accepted::Exactly(digest), record: None }
    }

    /// An absence satisfies no version: its version is not ordered among those of records.
    fn is_accepted(&self) -> bool {
        let record = self.record.as_ref();
        match &self.accepted {
            Accepted::Any => true,
            Accepted::AtLeast(least) => record.is_some_and(|record| record.version() >= *least),
            Accepted::Exactly(digest) => record.is_some_and(|record| record.digest() == *digest),
        }
    }
}

impl Operation for GetOne {
    fn start(&mut self) -> Step {
        Step::Ask(Round { fanout: Fanout::Nearest, enough: Enough::One, ..Round::to_all() })
    }

    fn request(&self, key: &Key, _: bool) -> Request {
        Request::Get { key: key.clone(), read_kind: ReadKind::Data }
    }

    fn on_stamp(&mut self, _: Stamp) -> Step {
        unreachable!("a read draws no stamp")
    }

    fn on_answer(&mut self, _: NodeIndex, answer: Answer) -> Heard {
        match answer {
            Answer::Lookup { held: Lookup::Record(record), age, .. } => {
                self.record = Some(AgedRecord::new(record, age));
            }
            Answer::Lookup { held: Lookup::Absent, .. } => self.record = None,
            Answer::Lookup { held: Lookup::Digest(_), .. } => return Heard::Refuses,
            _ => return Heard::Nothing,
        }
        Heard::Counts
    }

    fn on_enough(&mut self, _: &Tally) -> Step {
        if rule!(OneReadIsCalledCurrent, self.is_accepted()) {
            Step::Done(Reply::Record(self.record.take()))
        } else {
            Step::Become(Next::Get)
        }
    }

    fn failure(&self, report: QuorumReport) -> Failure {
        Failure::NoQuorum(report)
    }
}
