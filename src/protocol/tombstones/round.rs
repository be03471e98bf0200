//! One round for one slot: all replicas take in no new writes up to a clock, come to hold the same of everything up to there, and
//! are told so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::{TOMBSTONE_ASK_AGAIN, TOMBSTONE_KEYS_MAX, TOMBSTONE_PASSES_MAX, TOMBSTONE_STEP_MAX};
use crate::mutants::rule;
use crate::protocol::io::Time;
use crate::protocol::message::{OperationId, Request};
#[cfg(feature = "mutants")]
use crate::protocol::quorum::majority;
use crate::protocol::sums::{Marks, Sum};
use crate::types::{Clock, Incarnation, Key, NodeIndex, Slot};

/// A round.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Round {
    pub(super) id: OperationId,
    pub(super) slot: Slot,
    /// The clock up to which the slot is sealed.
    pub(super) until: Clock,
    /// All replicas of the slot, this node among them.
    pub(super) replicas: Vec<(NodeIndex, Incarnation)>,
    /// The number of the question. Answers to earlier ones do not count.
    pub(super) number: u32,
    pub(super) step: Step,
    /// How often keys were brought level.
    passes: u32,
    /// When the step has taken too long.
    pub(super) ends_at: Time,
    /// When those are asked again that have not answered.
    pub(super) again_at: Time,
}

/// What a round waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The fence at all replicas, and the sums of their records.
    Fence(BTreeMap<NodeIndex, Option<Sum>>),
    /// The old records of all replicas, after a key.
    List {
        after: Option<Key>,
        pages: BTreeMap<NodeIndex, Marks>,
        /// The keys before it that not all hold alike.
        differing: BTreeSet<Key>,
    },
    /// That all replicas hold the same of these keys.
    Level { keys: VecDeque<Key>, in_flight: BTreeSet<u64> },
    /// The seal at all replicas that can be reached.
    Seal(BTreeSet<NodeIndex>),
}

/// What a round does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits.
    Wait,
    /// It asks all replicas.
    Ask,
    /// It brings keys level.
    Level,
    /// It ends. Whether it has sealed the slot.
    End(bool),
}

impl Round {
    pub(super) fn new(
        id: OperationId,
        slot: Slot,
        until: Clock,
        replicas: Vec<(NodeIndex, Incarnation)>,
        now: Time,
    ) -> Self {
        let step = Step::Fence(BTreeMap::new());
        let mut round = Self { id, slot, until, replicas, number: 0, step, passes: 0, ends_at: now, again_at: now };
        round.begins(now);
        round
    }

    /// A step begins.
    fn begins(&mut self, now: Time) {
        self.number += 1;
        self.ends_at = now.after(TOMBSTONE_STEP_MAX);
        self.again_at = now.after(TOMBSTONE_ASK_AGAIN);
    }

    /// What all replicas are asked in this step.
    pub(super) fn request(&self) -> Option<Request> {
        let (slot, clock) = (self.slot, self.until);
        match &self.step {
            Step::Fence(_) => Some(Request::Fence { slot, fence: clock }),
            Step::List { after, .. } => Some(Request::OldRecords { slot, until: clock, after: after.clone() }),
            Step::Level { .. } => None,
            Step::Seal(_) => Some(Request::Seal { slot, seal: clock }),
        }
    }

    /// The replicas that have not answered in this step.
    pub(super) fn missing(&self) -> Vec<(NodeIndex, Incarnation)> {
        let has_answered = |member: &NodeIndex| match &self.step {
            Step::Fence(sums) => sums.contains_key(member),
            Step::List { pages, .. } => pages.contains_key(member),
            Step::Level { .. } => true,
            Step::Seal(sealed) => sealed.contains(member),
        };
        self.replicas.iter().filter(|(member, _)| !has_answered(member)).copied().collect()
    }

    /// Whether so many replicas are all of them.
    fn are_all(&self, count: usize) -> bool {
        count == self.replicas.len()
    }

    /// `from` is fenced.
    pub(super) fn on_fenced(&mut self, from: NodeIndex, sum: Option<Sum>, now: Time) -> Next {
        let Step::Fence(sums) = &mut self.step else { return Next::Wait };
        sums.insert(from, sum);
        let count = sums.len();
        let sum = sum.filter(|_| sums.values().all(|other| *other == sum));
        let is_fenced = rule!(FenceAtMajority, self.are_all(count), not count >= majority(self.replicas.len()));
        if !is_fenced {
            return Next::Wait;
        }
        // Equal sums are equal records, each taken after its node's fence.
        if rule!(RecordsAreNotBroughtLevel, sum.is_some() && self.are_all(count)) {
            return self.seal(now);
        }
        self.list(None, BTreeSet::new(), now)
    }

    /// `from` has listed its old records.
    pub(super) fn on_listed(&mut self, from: NodeIndex, marks: Marks, now: Time) -> Next {
        let Step::List { pages, .. } = &mut self.step else { return Next::Wait };
        pages.insert(from, marks);
        let count = pages.len();
        if rule!(PullFromMajority, !self.are_all(count), not count < majority(self.replicas.len())) {
            return Next::Wait;
        }
        let Step::List { pages, differing, .. } = &mut self.step else { return Next::Wait };
        let (pages, mut differing) = (std::mem::take(pages), std::mem::take(differing));
        let end = pages.values().filter_map(|marks| marks.looked_to.clone()).min();
        let mut held: BTreeMap<Key, Vec<u64>> = BTreeMap::new();
        for (key, mark) in pages.into_values().flat_map(|marks| marks.records) {
            if end.as_ref().is_none_or(|end| key <= *end) {
                held.entry(key).or_default().push(mark);
            }
        }
        let are_equal = |marks: &[u64]| marks.len() == count && marks.iter().all(|mark| *mark == marks[0]);
        differing.extend(held.into_iter().filter(|(_, marks)| !are_equal(marks)).map(|(key, _)| key));
        match end {
            Some(end) if differing.len() < TOMBSTONE_KEYS_MAX => self.list(Some(end), differing, now),
            _ if differing.is_empty() => self.seal(now),
            _ => self.level(differing, now),
        }
    }

    fn list(&mut self, after: Option<Key>, differing: BTreeSet<Key>, now: Time) -> Next {
        self.step = Step::List { after, pages: BTreeMap::new(), differing };
        self.begins(now);
        Next::Ask
    }

    fn level(&mut self, differing: BTreeSet<Key>, now: Time) -> Next {
        self.passes += 1;
        if self.passes > TOMBSTONE_PASSES_MAX {
            return Next::End(false);
        }
        self.step = Step::Level { keys: differing.into_iter().collect(), in_flight: BTreeSet::new() };
        self.begins(now);
        Next::Level
    }

    /// A key is level, or could not be brought level.
    pub(super) fn on_level(&mut self, task: u64, is_level: bool, now: Time) -> Next {
        let Step::Level { keys, in_flight } = &mut self.step else { return Next::Wait };
        if !in_flight.remove(&task) {
            return Next::Wait;
        }
        if !is_level {
            return Next::End(false);
        }
        self.ends_at = now.after(TOMBSTONE_STEP_MAX);
        if !keys.is_empty() {
            return Next::Level;
        }
        // The next list shows whether that was enough: a key may have been settled at a majority only.
        if in_flight.is_empty() { self.list(None, BTreeSet::new(), now) } else { Next::Wait }
    }

    fn seal(&mut self, now: Time) -> Next {
        self.step = Step::Seal(BTreeSet::new());
        self.begins(now);
        Next::Ask
    }

    /// `from` has the seal.
    pub(super) fn on_sealed(&mut self, from: NodeIndex) -> Next {
        let Step::Seal(sealed) = &mut self.step else { return Next::Wait };
        sealed.insert(from);
        let count = sealed.len();
        if self.are_all(count) { Next::End(true) } else { Next::Wait }
    }

    /// The step has taken too long, or a replica cannot be reached. Those that have no seal yet learn of it later: by repair, or
    /// by the next round.
    pub(super) fn cut_off(&self) -> bool {
        matches!(&self.step, Step::Seal(sealed) if !sealed.is_empty())
    }
}
