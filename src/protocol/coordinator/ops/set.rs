//! One coordinator's write or delete: a clock round, then a store round.
//!
//! Invariants: the stamp is drawn above the clocks of a majority, each read after the write was invoked, so that every
//! write that ended before this one began is below it. Once drawn, the stamp never changes: the write is only ever
//! resent under it. A write that has no stamp was sent to nobody and certainly did not happen.
//!
//! Source: the two-round write of Lynch and Shvartsman (FTCS 1997); fewer rounds are impossible for several writers of
//! a crash-tolerant register (arXiv 2001.07855).

use crate::protocol::quorum::{Standing, Tally};
use crate::types::{Checksum, Clock, Content, Key, NodeIndex, Record, Slot, Stamp};

use crate::protocol::RequestId;
use crate::protocol::message::OperationId;

/// The round in which records are stored; the clock round is shared and has a number of its own.
pub const STORE_ROUND: u32 = 1;

/// A write that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Who asked for it.
    pub request: RequestId,
    /// The key.
    pub key: Key,
    /// The key's slot.
    pub slot: Slot,
    /// Who has answered the present round.
    pub tally: Tally,
    content: Content,
    checksum: Checksum,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Waits for the clocks of a majority; `floor` is the greatest so far.
    Clock { floor: Clock, rounds: Vec<OperationId> },
    /// Waits until an epoch is durable here, to draw above `floor`.
    Epoch { floor: Clock },
    /// Waits until a majority has stored the record.
    Store { record: Record },
}

/// What a write does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for more answers.
    Wait,
    /// Draw a stamp above this.
    Draw(Clock),
    /// It is done.
    Done(Stamp),
    /// No majority can answer any more.
    Failed,
}

impl Write {
    /// A write that was just invoked, of a slot with these replicas.
    #[must_use]
    pub fn new(
        request: RequestId,
        slot: Slot,
        replicas: &[NodeIndex],
        key: Key,
        content: Content,
        checksum: Checksum,
    ) -> Self {
        let phase = Phase::Clock { floor: Clock::default(), rounds: Vec::new() };
        Self { request, key, slot, tally: Tally::new(replicas), content, checksum, phase }
    }

    /// It takes part in a clock round that begins now.
    pub fn joins(&mut self, round: OperationId) {
        if let Phase::Clock { rounds, .. } = &mut self.phase {
            rounds.push(round);
        }
    }

    /// Whether it waits for clocks, of rounds that began or of one that is to begin.
    #[must_use]
    pub fn awaits_clocks(&self) -> bool {
        matches!(self.phase, Phase::Clock { .. })
    }

    /// The clock rounds that it waits for.
    #[must_use]
    pub fn clock_rounds(&self) -> &[OperationId] {
        match &self.phase {
            Phase::Clock { rounds, .. } => rounds,
            Phase::Epoch { .. } | Phase::Store { .. } => &[],
        }
    }

    /// The clock of `member`, read after this write was invoked.
    pub fn clock_is(&mut self, member: NodeIndex, clock: Clock) -> Step {
        let Phase::Clock { floor, .. } = &mut self.phase else { return Step::Wait };
        if self.tally.replicas().contains(&member) {
            *floor = clock.max(*floor);
            self.tally.count(member);
        }
        self.step()
    }

    /// The stamp cannot be drawn before an epoch is durable; then [`Write::step`] says again to draw.
    pub fn awaits_epoch(&mut self, floor: Clock) {
        self.phase = Phase::Epoch { floor };
    }

    /// The stamp is drawn, once and for all; this is the record to store.
    ///
    /// # Panics
    /// When it has one already: a second stamp would give one write two places in the order.
    pub fn drawn(&mut self, stamp: Stamp) -> Record {
        assert!(self.record().is_none(), "a write is stamped once");
        let record = Record { stamp, content: self.content.clone(), checksum: self.checksum };
        self.phase = Phase::Store { record: record.clone() };
        self.tally.restart();
        record
    }

    /// What must never be done.
    pub(in crate::protocol) fn restamp(&mut self, stamp: Stamp) {
        self.phase = Phase::Store { record: Record { stamp, content: self.content.clone(), checksum: self.checksum } };
    }

    /// The record, once it has its stamp.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        match &self.phase {
            Phase::Store { record } => Some(record),
            Phase::Clock { .. } | Phase::Epoch { .. } => None,
        }
    }

    /// `member` has the record, or a greater one, durably.
    pub fn stored_by(&mut self, member: NodeIndex) -> Step {
        if self.record().is_some() {
            self.tally.count(member);
        }
        self.step()
    }

    /// `member` refuses for good.
    pub fn refused_by(&mut self, member: NodeIndex) -> Step {
        self.tally.refuse(member);
        self.step()
    }

    /// What it does next, as things stand.
    #[must_use]
    pub fn step(&self) -> Step {
        match (&self.phase, self.tally.standing()) {
            (Phase::Epoch { floor }, _) | (Phase::Clock { floor, .. }, Standing::Reached) => Step::Draw(*floor),
            (Phase::Store { record }, Standing::Reached) => Step::Done(record.stamp.clone()),
            (_, Standing::Impossible) => Step::Failed,
            (_, Standing::Pending) => Step::Wait,
        }
    }
}
