//! Copies for peers that had not acknowledged a write when its client was answered.
//!
//! They were sent their copy with everyone else; it is kept here until they acknowledge, and sent again when the link to
//! them comes back. Bounded in bytes for each peer: the oldest copies are dropped, and reads repair them. Nothing here
//! counts towards any quorum.

use std::collections::BTreeMap;

use crate::limits::STRAGGLER_BYTES_MAX;
use crate::types::{Key, NodeIndex, Record};

use super::message::OperationId;

/// The copies that peers still owe an acknowledgement for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stragglers {
    peers: BTreeMap<NodeIndex, Copies>,
}

/// One peer's copies; operations are numbered in the order in which they began, so that the first is the oldest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Copies {
    bytes: usize,
    by_operation: BTreeMap<OperationId, Copy>,
}

/// What a peer has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Copy {
    /// The round that it was sent in.
    pub round: u32,
    /// The key.
    pub key: Key,
    /// The record.
    pub record: Record,
}

impl Copy {
    fn bytes(&self) -> usize {
        self.record.bytes(&self.key)
    }
}

impl Stragglers {
    /// Keeps a copy for `peer`; says how many older ones had to go.
    pub fn keep(&mut self, peer: NodeIndex, operation: OperationId, copy: Copy) -> usize {
        let copies = self.peers.entry(peer).or_default();
        copies.bytes += copy.bytes();
        copies.by_operation.insert(operation, copy);
        let mut dropped = 0;
        while copies.bytes > STRAGGLER_BYTES_MAX
            && let Some((_, oldest)) = copies.by_operation.pop_first()
        {
            copies.bytes -= oldest.bytes();
            dropped += 1;
        }
        dropped
    }

    /// `peer` has acknowledged, or refused, the copy of `operation`.
    pub fn settled(&mut self, peer: NodeIndex, operation: OperationId) {
        if let Some(copies) = self.peers.get_mut(&peer)
            && let Some(copy) = copies.by_operation.remove(&operation)
        {
            copies.bytes -= copy.bytes();
        }
    }

    /// What `peer` has not acknowledged, oldest first.
    pub fn of(&self, peer: NodeIndex) -> impl Iterator<Item = (OperationId, &Copy)> {
        self.peers.get(&peer).into_iter().flat_map(|copies| copies.by_operation.iter().map(|(id, copy)| (*id, copy)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Checksum, Clock, Content, NodeId, Stamp, Value};

    fn copy(key: &str, value_bytes: usize) -> Copy {
        let key = Key::new(key.to_owned()).unwrap();
        let content = Content::Value(Value::Binary(Bytes::from(vec![0; value_bytes])));
        let stamp = Stamp { clock: Clock::default(), writer: NodeId::new("1").unwrap() };
        let record = Record { stamp, checksum: Checksum::of(&key, &content), content };
        Copy { round: 1, key, record }
    }

    fn kept(stragglers: &Stragglers) -> Vec<u64> {
        stragglers.of(NodeIndex(1)).map(|(operation, _)| operation.0).collect()
    }

    #[test]
    fn acknowledged_copy_is_let_go() {
        let mut stragglers = Stragglers::default();
        for n in 0..3 {
            assert_eq!(stragglers.keep(NodeIndex(1), OperationId(n), copy("k", 10)), 0);
        }
        stragglers.settled(NodeIndex(2), OperationId(0));
        stragglers.settled(NodeIndex(1), OperationId(1));
        assert_eq!(kept(&stragglers), [0, 2]);
    }

    #[test]
    fn oldest_copies_make_room_for_new_ones() {
        let mut stragglers = Stragglers::default();
        let third = STRAGGLER_BYTES_MAX / 3;
        let dropped: usize = (0..5).map(|n| stragglers.keep(NodeIndex(1), OperationId(n), copy("k", third))).sum();
        assert_eq!((dropped, kept(&stragglers)), (3, vec![3, 4]));
        assert_eq!(stragglers.keep(NodeIndex(1), OperationId(5), copy("k", 4 * third)), 3, "too large even alone");
        assert!(kept(&stragglers).is_empty());
    }
}
