//! Hints: records for peers that had not acknowledged a write when its client was answered (hinted handoff, as in Dynamo).
//!
//! Each such peer was sent the record with the others. The record is kept here until the peer acknowledges it, and is sent
//! again when the peer can be reached again. Bounded in bytes for each peer: the oldest hints are dropped, and reads repair
//! the loss. A hint never counts towards a quorum.

use std::collections::BTreeMap;

use crate::limits::HINT_BYTES_MAX;
use crate::types::{Age, Key, NodeIndex, Record};

use super::io::Time;
use super::message::OperationId;

/// The hints for all peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HintQueue {
    peers: BTreeMap<NodeIndex, PeerHints>,
}

/// The hints for one peer. Operations are numbered in the order in which they began, so that the first is the oldest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct PeerHints {
    bytes: usize,
    by_operation: BTreeMap<OperationId, Hint>,
}

/// A record that a peer has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hint {
    /// The round in which the record was sent.
    pub round: u32,
    /// The record's key.
    pub key: Key,
    /// The record.
    pub record: Record,
    /// The age of its version when the hint was kept.
    pub age: Age,
    /// When the hint was kept. Only a record with a time to live says so.
    pub kept: Time,
}

impl Hint {
    /// The age of the record's version now.
    #[must_use]
    pub fn age_at(&self, now: Time) -> Age {
        if self.record.ttl.is_some() { self.age.after(now.since(self.kept)) } else { Age::NONE }
    }

    fn bytes(&self) -> usize {
        self.record.bytes(&self.key)
    }
}

impl HintQueue {
    /// Keeps a hint for `peer`. Returns how many older hints were dropped to make room.
    pub fn add(&mut self, peer: NodeIndex, operation: OperationId, hint: Hint) -> usize {
        let hints = self.peers.entry(peer).or_default();
        hints.bytes += hint.bytes();
        hints.by_operation.insert(operation, hint);
        let mut dropped = 0;
        while hints.bytes > HINT_BYTES_MAX
            && let Some((_, oldest)) = hints.by_operation.pop_first()
        {
            hints.bytes -= oldest.bytes();
            dropped += 1;
        }
        dropped
    }

    /// Forgets the hints for all peers but those that `stays` names.
    pub fn retain(&mut self, stays: impl Fn(NodeIndex) -> bool) {
        self.peers.retain(|peer, _| stays(*peer));
    }

    /// `peer` has acknowledged or refused the record that `operation` sent in `round`. The answers to its earlier rounds, which
    /// may come late, say nothing of the record that is kept.
    pub fn answered(&mut self, peer: NodeIndex, operation: OperationId, round: u32) {
        let Some(hints) = self.peers.get_mut(&peer) else { return };
        if hints.by_operation.get(&operation).is_some_and(|hint| hint.round == round)
            && let Some(hint) = hints.by_operation.remove(&operation)
        {
            hints.bytes -= hint.bytes();
        }
    }

    /// The hints for `peer`, oldest first.
    pub fn of(&self, peer: NodeIndex) -> impl Iterator<Item = (OperationId, &Hint)> {
        self.peers.get(&peer).into_iter().flat_map(|hints| hints.by_operation.iter().map(|(id, hint)| (*id, hint)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Checksum, Clock, Content, NodeId, Stamp, Value};

    fn hint(key: &str, value_bytes: usize) -> Hint {
        let key = Key::new(key.to_owned()).unwrap();
        let content = Content::Value(Value::Binary(Bytes::from(vec![0; value_bytes])));
        let stamp = Stamp { clock: Clock::default(), writer: NodeId::new("1").unwrap() };
        let checksum = Checksum::of(&key, &content);
        let record = Record::plain(stamp, content, checksum);
        Hint { round: 1, key, record, age: Age::NONE, kept: Time(0) }
    }

    fn kept(hints: &HintQueue) -> Vec<u64> {
        hints.of(NodeIndex(1)).map(|(operation, _)| operation.0).collect()
    }

    #[test]
    fn acknowledged_hint_is_removed() {
        let mut hints = HintQueue::default();
        for n in 0..3 {
            assert_eq!(hints.add(NodeIndex(1), OperationId(n), hint("k", 10)), 0);
        }
        hints.answered(NodeIndex(2), OperationId(0), 1);
        hints.answered(NodeIndex(1), OperationId(1), 1);
        assert_eq!(kept(&hints), [0, 2]);
    }

    #[test]
    fn answer_to_an_earlier_round_leaves_the_hint() {
        let mut hints = HintQueue::default();
        hints.add(NodeIndex(1), OperationId(7), hint("k", 10));
        hints.answered(NodeIndex(1), OperationId(7), 0);
        assert_eq!(kept(&hints), [7]);
        hints.answered(NodeIndex(1), OperationId(7), 1);
        assert!(kept(&hints).is_empty());
    }

    #[test]
    fn oldest_hints_make_room_for_new_ones() {
        let mut hints = HintQueue::default();
        let third = HINT_BYTES_MAX / 3;
        let dropped: usize = (0..5).map(|n| hints.add(NodeIndex(1), OperationId(n), hint("k", third))).sum();
        assert_eq!((dropped, kept(&hints)), (3, vec![3, 4]));
        assert_eq!(hints.add(NodeIndex(1), OperationId(5), hint("k", 4 * third)), 3, "too large even alone");
        assert!(kept(&hints).is_empty());
    }
}
