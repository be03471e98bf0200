//! Hints: records for peers that had not acknowledged a write when its client was answered (hinted handoff, as in Dynamo).
//!
//! Each such peer was sent the record with the others. The record is kept here until the peer acknowledges it, and is sent
//! again when the peer can be reached again: a part at a time, because a peer that gets more than it can look up drops the rest, and
//! again what it dropped. Bounded in bytes for each peer: the oldest hints are dropped, and repair makes up for the loss. A hint
//! never counts towards a quorum.

use std::collections::BTreeMap;

use crate::limits::{HINT_BYTES_MAX, HINTS_AGAIN, HINTS_AT_ONCE, HINTS_EVERY};
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
    /// Those that are still to be sent since the peer can be reached again.
    sending: Option<Sending>,
}

/// The hints of a peer that can be reached again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sending {
    /// The next one to be sent.
    next: OperationId,
    /// The last one that was kept before the peer could be reached.
    last: OperationId,
    /// When the next part is sent.
    at: Time,
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

    /// `peer` can be reached again: what it is sent first, oldest first.
    pub fn linked(&mut self, peer: NodeIndex, now: Time) -> Vec<(OperationId, Hint)> {
        let Some(hints) = self.peers.get_mut(&peer) else { return Vec::new() };
        let ends = [hints.by_operation.first_key_value(), hints.by_operation.last_key_value()];
        let [Some((first, _)), Some((last, _))] = ends else { return Vec::new() };
        hints.sending = Some(Sending { next: *first, last: *last, at: now });
        hints.part(now)
    }

    /// `peer` cannot be reached any more.
    pub fn unlinked(&mut self, peer: NodeIndex) {
        if let Some(hints) = self.peers.get_mut(&peer) {
            hints.sending = None;
        }
    }

    /// When [`HintQueue::due`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.peers.values().filter_map(|hints| hints.sending.map(|sending| sending.at)).min()
    }

    /// What is sent now, oldest first.
    pub fn due(&mut self, now: Time) -> Vec<(NodeIndex, Vec<(OperationId, Hint)>)> {
        let is_due = |hints: &PeerHints| hints.sending.is_some_and(|sending| sending.at <= now);
        let due = self.peers.iter_mut().filter(|(_, hints)| is_due(hints));
        due.map(|(peer, hints)| (*peer, hints.part(now))).collect()
    }
}

impl PeerHints {
    /// The next part. After the last one those that have no answer yet follow again, where there are many. Few are seldom dropped,
    /// and repair makes up for those.
    fn part(&mut self, now: Time) -> Vec<(OperationId, Hint)> {
        let Some(Sending { next, last, .. }) = self.sending.take() else { return Vec::new() };
        let mut left = self.by_operation.range(next..=last);
        let part: Vec<_> = left.by_ref().take(HINTS_AT_ONCE).map(|(id, hint)| (*id, hint.clone())).collect();
        let first = self.by_operation.range(..=last).next();
        self.sending = match (left.next(), first) {
            (Some((next, _)), _) => Some(Sending { next: *next, last, at: now.after(HINTS_EVERY) }),
            (None, Some((first, _))) if *first < next => {
                Some(Sending { next: *first, last, at: now.after(HINTS_AGAIN) })
            }
            _ => None,
        };
        part
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
        hints.peers[&NodeIndex(1)].by_operation.keys().map(|operation| operation.0).collect()
    }

    #[test]
    fn hints_are_sent_in_parts_and_again_until_they_are_answered() {
        let mut hints = HintQueue::default();
        let peer = NodeIndex(1);
        let count = 2 * HINTS_AT_ONCE as u64 + 10;
        for n in 0..count {
            hints.add(peer, OperationId(n), hint("k", 10));
        }
        let (mut now, mut sent) = (Time(0), vec![hints.linked(peer, Time(0))]);
        hints.add(peer, OperationId(count), hint("k", 10));
        while sent.len() < 3 {
            now = hints.next_wake().expect("more follow");
            sent.extend(hints.due(now).into_iter().map(|(_, part)| part));
        }
        assert_eq!(now, Time(0).after(HINTS_EVERY * 2));
        let ids: Vec<u64> = sent.iter().flatten().map(|(id, _)| id.0).collect();
        assert_eq!(ids, (0..count).collect::<Vec<u64>>(), "the one that was kept since is none of these");

        (1..count).for_each(|n| hints.answered(peer, OperationId(n), 1));
        now = hints.next_wake().expect("one was not answered");
        assert_eq!(now, Time(0).after(HINTS_EVERY * 2 + HINTS_AGAIN));
        let again = hints.due(now);
        assert_eq!(again.iter().flat_map(|(_, part)| part).map(|(id, _)| id.0).collect::<Vec<u64>>(), [0]);
        assert_eq!(hints.next_wake(), None);
    }

    #[test]
    fn few_hints_are_sent_once() {
        let mut hints = HintQueue::default();
        let peer = NodeIndex(1);
        hints.add(peer, OperationId(7), hint("k", 10));
        assert_eq!(hints.linked(peer, Time(0)).len(), 1);
        assert_eq!(hints.next_wake(), None);
        (0..HINTS_AT_ONCE as u64).for_each(|n| assert_eq!(hints.add(peer, OperationId(10 + n), hint("k", 10)), 0));
        assert_eq!(hints.linked(peer, Time(0)).len(), HINTS_AT_ONCE);
        assert!(hints.next_wake().is_some());
        hints.unlinked(peer);
        assert_eq!(hints.next_wake(), None);
        assert!(hints.linked(NodeIndex(2), Time(0)).is_empty());
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
