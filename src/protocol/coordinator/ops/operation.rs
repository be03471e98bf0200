//! What an operation may want of the engine, and what the engine tells it.

use std::collections::BTreeSet;

use crate::protocol::io::{Failure, ProtocolEvent, QuorumReport, Reply};
use crate::protocol::message::{Answer, Request};
use crate::protocol::quorum::{MemberSet, Tally};
use crate::types::{Age, AgedRecord, Clock, Digest, Key, NodeIndex, Record, Stamp};

/// What an operation wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// More answers to the present round.
    Wait,
    /// A stamp above the clocks of a quorum, each read after this operation began: [`Operation::on_stamp`] gets it.
    NeedStamp,
    /// A ballot above this node's clock and this one: [`Operation::on_stamp`] gets it.
    NeedBallot(Clock),
    /// To pause after so many tries, and for a moment after none: another coordinator is changing the key.
    /// [`Operation::on_resumed`] ends the pause.
    Pause(u32),
    /// To go on as another operation for the same client.
    Become(Next),
    /// To delete this record, because its time to live has passed, and then to read again. The record is at a majority: it is
    /// the answer where the deletion cannot be done in time.
    Expire(Box<AgedRecord>),
    /// The answers of replicas to a new round of [`Operation::request`].
    Ask(Round),
    /// That a quorum has this seal of the slot. [`Operation::on_sealed`] goes on then.
    Seal(Clock),
    /// To answer its client.
    Done(Reply),
    /// To end: no quorum can answer any more.
    Failed,
}

/// The operation that another one goes on as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A linearizable read.
    Get,
    /// The settling of the greatest record of the key.
    Settle,
    /// The same, with the promises of these replicas among those that count.
    SettleWith(BTreeSet<NodeIndex>),
    /// The settling of the greatest record. One below the seal of its slot is settled above it, so that replicas with the seal take
    /// it.
    Lift,
}

/// The greatest record of a key that a majority held, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settled(pub Option<Digest>);

/// A round of questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The replicas that are asked at first.
    pub fanout: Fanout,
    /// How many answers complete the round.
    pub enough: Enough,
    /// The replicas whose answer is known already.
    pub counted: MemberSet,
    /// The replicas that cannot help in this round.
    pub unwanted: MemberSet,
    /// What the shell is told of it.
    pub event: Option<ProtocolEvent>,
}

impl Fanout {
    /// Whether some replicas are asked first, and the others when those are late.
    #[must_use]
    pub fn is_hedged(self) -> bool {
        matches!(self, Self::Nearest | Self::Holder | Self::Majority | Self::MajorityInOrder | Self::Lacking(_))
    }
}

impl Round {
    /// A round that asks all replicas and needs the answers of a quorum.
    #[must_use]
    pub fn to_all() -> Self {
        let none = MemberSet::default();
        Self { fanout: Fanout::All, enough: Enough::Quorum, counted: none, unwanted: none, event: None }
    }

    /// A round that asks for a content that `holders` were seen to hold. One answer is enough, and nobody else can give it.
    #[must_use]
    pub fn for_content(holders: MemberSet, tally: &Tally) -> Self {
        let unwanted = tally.set_without(holders);
        Self { fanout: Fanout::Holder, enough: Enough::One, unwanted, ..Self::to_all() }
    }

    /// A round that brings a record to a quorum, where `holders` hold it and `lacking` were seen to hold less.
    #[must_use]
    pub fn to_lacking(holders: MemberSet, lacking: MemberSet) -> Self {
        Self { fanout: Fanout::Lacking(lacking), counted: holders, ..Self::to_all() }
    }
}

/// The replicas that a round, or a clock round for a write, asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fanout {
    /// One replica: this node if it is one. The others are asked when it is late or refuses.
    Nearest,
    /// One replica, for a content that may be large. The others that hold it are asked when it is late or refuses.
    Holder,
    /// The nearest majority: nobody was asked yet. The remaining replicas are asked when one of it is late or refuses.
    Majority,
    /// A majority as well, in the order of placement: coordinators that change one key meet first at the same replica.
    MajorityInOrder,
    /// These replicas, which lack a record, and as few others as make a quorum with those that count already. The others may hold
    /// it: they are sent it when one of the first is late or refuses.
    Lacking(MemberSet),
    /// The replicas that were not asked yet.
    Remaining,
    /// All that have not answered.
    All,
}

/// How many answers complete a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enough {
    /// Those of a quorum.
    Quorum,
    /// One.
    One,
}

/// What an answer means to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It counts towards the round.
    Counts,
    /// It is no answer to what this round asks.
    Nothing,
    /// The replica cannot answer this round.
    Refuses,
}

/// An operation on one key: a script of rounds.
pub trait Operation {
    /// The first step.
    fn start(&mut self) -> Step;

    /// The request of the present round. Only the replica that leads a round need be asked for data: it is this node, or
    /// the first that can be reached. Where [`Operation::lacks_content_here`], another one comes before this node.
    fn request(&self, key: &Key, leads: bool) -> Request;

    /// Whether this node most likely lacks what the operation reads.
    fn lacks_content_here(&self) -> bool {
        false
    }

    /// The stamp that [`Step::NeedStamp`] asked for.
    fn on_stamp(&mut self, stamp: Stamp) -> Step;

    /// `from` answers the present round. Refusals do not come here.
    fn on_answer(&mut self, from: NodeIndex, answer: Answer) -> Heard;

    /// Enough replicas have answered the present round, as `tally` shows.
    fn on_enough(&mut self, tally: &Tally) -> Step;

    /// So many replicas have refused that the present round cannot be completed.
    fn on_impossible(&mut self) -> Step {
        Step::Failed
    }

    /// The present round is late. Replicas that have not answered are asked again, unless another step is wanted.
    fn on_late(&mut self) -> Step {
        Step::Wait
    }

    /// Other replicas make a quorum from now on, as `tally` shows: no answer so far counts. The operation begins its round anew, or
    /// an earlier one.
    fn on_reconfigured(&mut self, _tally: &Tally) -> Step {
        self.start()
    }

    /// Other replicas make a quorum from now on, as `tally` shows, while nobody is asked: it has not begun, waits or pauses. It
    /// forgets those that are no replicas any more.
    fn forget_others(&mut self, _tally: &Tally) {}

    /// A quorum has the seal that [`Step::Seal`] asked for.
    fn on_sealed(&mut self) -> Step {
        Step::Wait
    }

    /// Whether another coordinator has most likely won the present round, so that the next step is better than to wait.
    fn is_most_likely_lost(&self) -> bool {
        false
    }

    /// The pause that [`Step::Pause`] asked for is over.
    fn on_resumed(&mut self) -> Step {
        Step::Wait
    }

    /// Whether a node runs one such operation of a key at a time, while the others wait.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// The record that replicas lack which had not answered when the operation was done, and the age of its version.
    fn hint(&self) -> Option<(Record, Age)> {
        None
    }

    /// Once it is done: what a majority has held since it last began to ask; `None` if it does not know.
    fn settled(&self) -> Option<Settled> {
        None
    }

    /// The answer of an operation that has not begun yet, if its condition fails on this record. `None` if it has to run.
    fn fails_on(&self, _settled: &Settled) -> Option<Reply> {
        None
    }

    /// Told before it begins: the record that the operation before it in the queue of its key has settled.
    fn expect(&mut self, _settled: &Settled) {}

    /// Whether a replica may have taken in what this operation is to write, now or in an earlier try.
    fn may_have_written(&self) -> bool {
        false
    }

    /// Why the operation failed, for its client.
    fn failure(&self, report: QuorumReport) -> Failure;
}
