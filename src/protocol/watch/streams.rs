//! The changes of all nodes that hold a matching slot, for the watches of one filter.
//!
//! Contract: a stream asks its node for the changes from a position on, again and again, and takes each change once. It
//! breaks where the position no longer fits: the node restarted, its history did not reach, or it has been silent for long.
//! A stream that broke begins anew, and covers only watches that are opened after that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::mutants::rule;
use crate::protocol::changes::Filter;
use crate::protocol::io::Time;
use crate::protocol::message::OperationId;
use crate::protocol::news::{Cursor, Position, WatchId};
use crate::types::{Incarnation, Key, NodeIndex, Version};

/// A stream asks again after so long, to learn how far nothing matched, and because a message may be lost.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(5);
/// A stream that has not begun, or whose node is silent, asks again after so long.
const BEGIN_AGAIN: Duration = Duration::from_millis(500);
/// A node that cannot be asked for so long, or does not answer, covers nothing any more. It may be dead for good, and a change
/// that it acknowledged with another node would be waited for in vain.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// The name of a group of watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(pub(super) u64);

/// The watches of one filter that are told the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) filter: Filter,
    pub(super) members: BTreeSet<WatchId>,
    pub(super) streams: BTreeMap<NodeIndex, Stream>,
    /// The version that was told last of each key, as far as remembered.
    pub(super) last: BTreeMap<Key, Version>,
    /// Whether new watches of the filter join it.
    pub(super) is_shared: bool,
}

/// The changes of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    /// Names it between the two nodes.
    pub(super) operation: OperationId,
    /// Counts what it has asked.
    pub(super) round: u32,
    /// Answers to earlier rounds are from before it broke.
    first_round: u32,
    /// The incarnation whose changes it takes.
    pub(super) incarnation: Option<Incarnation>,
    /// The number of the next change.
    pub(super) number: Option<u64>,
    /// Whether its node has answered since it began.
    pub(super) is_live: bool,
    /// The changes that were announced, and whose keys are still to be read.
    pub(super) pending: BTreeSet<u64>,
    /// When it asked last, and whether that is not answered yet.
    asked_at: Time,
    is_asking: bool,
    /// Since when its node cannot be asked, or has not answered although it was asked again.
    silent_since: Option<Time>,
}

/// What a stream is to do about the incarnation of its node that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// To ask.
    Ask,
    /// To wait until the node can be asked.
    Wait,
    /// To begin anew: the incarnation of its changes has ended.
    Break,
}

impl Stream {
    /// A stream that goes on from `position`, or begins.
    pub(super) fn new(operation: OperationId, position: Option<Position>) -> Self {
        Self {
            operation,
            round: 0,
            first_round: 0,
            incarnation: position.map(|position| position.incarnation),
            number: position.map(|position| position.number),
            is_live: false,
            pending: BTreeSet::new(),
            asked_at: Time::default(),
            is_asking: false,
            silent_since: None,
        }
    }

    /// It begins anew.
    pub(super) fn restart(&mut self) {
        let round = self.round + 1;
        *self = Self { round, first_round: round, ..Self::new(self.operation, None) };
    }

    /// How far everything was told.
    pub(super) fn told_to(&self) -> Option<Position> {
        let number = self.number?;
        let told_to = self.pending.first().copied().unwrap_or(number);
        Some(Position { incarnation: self.incarnation?, number: rule!(CursorAheadOfTold, told_to, not number) })
    }

    /// Judges the incarnation of its node that can be reached, where one can.
    pub(super) fn reach(&mut self, reached: Option<Incarnation>, now: Time) -> Reached {
        let is_reached = match (reached, self.incarnation) {
            (Some(reached), None) => {
                self.incarnation = Some(reached);
                true
            }
            (Some(reached), Some(known)) if reached == known => true,
            // A cursor may know of a later incarnation than this node does.
            (Some(reached), Some(known)) if reached.epoch >= known.epoch => return Reached::Break,
            _ => false,
        };
        // The first question waits for a change. One that is asked again is answered at once.
        if !is_reached || self.is_asking {
            self.silent_since.get_or_insert(now);
        }
        let is_over = self.silent_since.is_some_and(|since| now >= since.after(SILENT_MAX));
        match is_reached {
            _ if is_over && self.number.is_some() => Reached::Break,
            true => Reached::Ask,
            false => Reached::Wait,
        }
    }

    /// Its node has answered, whichever question.
    pub(super) fn heard(&mut self) {
        self.silent_since = None;
    }

    /// It asks now. Returns the round.
    pub(super) fn ask(&mut self, now: Time) -> u32 {
        self.round += 1;
        (self.asked_at, self.is_asking) = (now, true);
        self.round
    }

    /// Whether an answer to `round` counts.
    pub(super) fn counts(&self, round: u32) -> bool {
        round > self.first_round && round <= self.round
    }

    /// Its last question was answered.
    pub(super) fn answered(&mut self) {
        self.is_asking = false;
    }

    /// Whether it is to ask again, because it has waited long for an answer or has held back.
    pub(super) fn is_late(&self, now: Time) -> bool {
        let wait = if self.is_live && self.silent_since.is_none() { ASK_AGAIN } else { BEGIN_AGAIN };
        self.round == self.first_round || now >= self.asked_at.after(wait)
    }

    /// Whether it has an answer and has not asked for more.
    pub(super) fn holds_back(&self) -> bool {
        !self.is_asking
    }
}

impl Group {
    /// The nodes whose changes it takes.
    pub(super) fn live(&self) -> BTreeSet<NodeIndex> {
        self.streams.iter().filter(|(_, stream)| stream.is_live).map(|(node, _)| *node).collect()
    }

    /// How far a watch that these nodes cover was told everything.
    pub(super) fn cursor(&self, covers: &BTreeSet<NodeIndex>) -> Cursor {
        let position = |node: &NodeIndex| Some((*node, self.streams.get(node)?.told_to()?));
        Cursor(covers.iter().filter_map(position).collect())
    }
}
