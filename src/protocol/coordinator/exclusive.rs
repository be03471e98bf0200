//! The queues of exclusive operations: of those on one key, a node runs one at a time.
//!
//! Two conditional writes of one node would only preempt each other. The others wait, each until its own deadline at most.
//! Reads that settle a record and writes take turns, each kind in order of arrival, so that neither starves the other.
//!
//! Bounded by the requests that a node admits: each operation is in one queue at most.

use std::collections::{BTreeMap, VecDeque};

use crate::mutants::rule;
use crate::protocol::message::OperationId;
use crate::types::Key;

/// The queues of all keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ExclusiveQueues {
    keys: BTreeMap<Key, KeyQueue>,
}

/// The operations of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct KeyQueue {
    running: OperationId,
    is_read_running: bool,
    reads: VecDeque<OperationId>,
    writes: VecDeque<OperationId>,
    /// So many of the writes waited already when the running operation last began to ask.
    asked_for: usize,
}

impl ExclusiveQueues {
    /// Whether the operation may run now. Otherwise it waits in the queue of its key.
    pub(super) fn join(&mut self, key: &Key, id: OperationId, is_read: bool) -> bool {
        match self.keys.get_mut(key) {
            None => {
                let (reads, writes) = (VecDeque::new(), VecDeque::new());
                self.keys.insert(
                    key.clone(),
                    KeyQueue { running: id, is_read_running: is_read, reads, writes, asked_for: 0 },
                );
                true
            }
            Some(queue) if queue.running == id => true,
            Some(queue) => {
                if is_read { &mut queue.reads } else { &mut queue.writes }.push_back(id);
                false
            }
        }
    }

    /// The operation draws a ballot, or looks what is there: what it learns is true of a moment after now.
    pub(super) fn begins_to_ask(&mut self, id: OperationId, key: &Key) {
        if let Some(queue) = self.keys.get_mut(key).filter(|queue| queue.running == id) {
            queue.asked_for = queue.writes.len();
        }
    }

    /// The writes that waited already when operation `id`, which runs, last began to ask.
    pub(super) fn asked_for(&self, key: &Key, id: OperationId) -> Vec<OperationId> {
        let Some(queue) = self.keys.get(key).filter(|queue| queue.running == id) else { return Vec::new() };
        let waited = rule!(LatecomersAreJudged, queue.asked_for, not queue.writes.len());
        queue.writes.iter().take(waited).copied().collect()
    }

    /// How many reads wait for an operation on `key` to end.
    pub(super) fn reads_waiting(&self, key: &Key) -> usize {
        self.keys.get(key).map_or(0, |queue| queue.reads.len())
    }

    /// An operation on `key` has ended, whether it ran or waited. Returns the one that runs next, where it made room.
    pub(super) fn leave(&mut self, key: &Key, id: OperationId) -> Option<OperationId> {
        let queue = self.keys.get_mut(key)?;
        if queue.running != id {
            queue.reads.retain(|waiting| *waiting != id);
            if let Some(place) = queue.writes.iter().position(|waiting| *waiting == id) {
                queue.writes.remove(place);
                queue.asked_for -= usize::from(place < queue.asked_for);
            }
            return None;
        }
        let is_write_next = queue.is_read_running && !queue.writes.is_empty() || queue.reads.is_empty();
        let next = if is_write_next { queue.writes.pop_front() } else { queue.reads.pop_front() };
        match next {
            None => {
                self.keys.remove(key);
            }
            Some(next) => {
                (queue.running, queue.is_read_running) = (next, !is_write_next);
                queue.asked_for = 0;
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("k").unwrap()
    }

    #[test]
    fn reads_and_writes_take_turns_in_order_of_arrival() {
        let mut queues = ExclusiveQueues::default();
        let waits: Vec<bool> = [false, false, false, true, true, true]
            .into_iter()
            .zip(1..)
            .map(|(is_read, n)| !queues.join(&key(), OperationId(n), is_read))
            .collect();
        assert_eq!(waits, [false, true, true, true, true, true]);
        let mut order = vec![1];
        while let Some(next) = queues.leave(&key(), OperationId(order[order.len() - 1])) {
            assert!(queues.join(&key(), next, false), "it runs");
            order.push(next.0);
        }
        assert_eq!(order, [1, 4, 2, 5, 3, 6]);
        assert_eq!(queues, ExclusiveQueues::default(), "nothing is left of the key");
    }

    #[test]
    fn operation_that_ends_while_it_waits_leaves_no_trace() {
        let mut queues = ExclusiveQueues::default();
        for (n, is_read) in [(1, false), (2, false), (3, true)] {
            queues.join(&key(), OperationId(n), is_read);
        }
        for n in [2, 3, 7] {
            assert_eq!(queues.leave(&key(), OperationId(n)), None);
        }
        assert_eq!(queues.leave(&key(), OperationId(1)), None);
        assert_eq!(queues, ExclusiveQueues::default());
    }
}
