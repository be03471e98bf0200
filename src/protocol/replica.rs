//! One node's records: compare-and-store, and reads of what is durable.
//!
//! Invariants: a record is only ever replaced by one of a greater stamp; an acknowledgement is owed for the batch that
//! makes the record, or the one that beat it, durable; a read is a load from the store, which shows only what is durable,
//! so that no answer reveals what a crash can still take back.
//!
//! A key takes part here only while something of it is on its way: a load of what is durable, or a record that is.

use std::collections::BTreeMap;

use crate::protocol::clock::{PEER_JUMP, QuorumClock};
use crate::types::{Digest, Incarnation, Key, Lookup, NodeIndex, ReadKind, Record, Slot, Stamp};

use super::group_commit::{Journal, Waits};
use super::message::{OperationId, Refusal};
use super::{Effect, ProtocolEvent, ReadId};
use crate::mutants::{self, Mutant};

/// Who waits for a replica's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A coordinator on another node.
    Peer {
        /// Which.
        member: NodeIndex,
        /// Its run.
        incarnation: Incarnation,
        /// Its operation.
        operation: OperationId,
        /// The round of it.
        round: u32,
    },
    /// The coordinator on this node.
    Own {
        /// Its operation.
        operation: OperationId,
        /// The round of it.
        round: u32,
    },
    /// An operator's request to this replica alone.
    Operator(OperationId),
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// To a read.
    Lookup(Key, Lookup),
    /// The record is durable.
    Stored(Stamp),
    /// A record that is at least as great was held before; it is durable.
    Superseded {
        /// Its stamp.
        held: Stamp,
    },
    /// Not done.
    Refused(Refusal),
}

/// What is owed once a batch is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owed {
    /// To whom.
    pub target: Target,
    /// What.
    pub outcome: Outcome,
}

/// One node's replica of the slots that it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replica {
    keys: BTreeMap<Key, KeyState>,
    loads: BTreeMap<ReadId, ReadFor>,
    read_next: u64,
    /// What stores that wait for a load hold.
    waiting_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum KeyState {
    /// What is durable is being loaded; these stores wait for it, in the order in which they came.
    Loading(Vec<(Record, Target)>),
    /// What is durable is known, and a greater record is on its way.
    Known { slot: Slot, durable: Option<Digest> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ReadFor {
    /// To compare stores with.
    Store { slot: Slot, key: Key },
    /// To answer a read.
    Read { key: Key, target: Target },
}

/// What a replica works with, of its node.
pub struct Surroundings<'a, O> {
    /// The node's clock.
    pub clock: &'a mut QuorumClock,
    /// The node's journal.
    pub journal: &'a mut Journal<O>,
    /// Where effects go.
    pub effects: &'a mut Vec<Effect>,
    /// Where answers go that need not wait.
    pub answers: &'a mut Vec<(Target, Outcome)>,
}

impl Replica {
    /// How many loads are under way.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.loads.len()
    }

    /// What stores that wait for a load hold, in bytes, about.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Reads what is durable.
    pub fn get(&mut self, slot: Slot, key: Key, read_kind: ReadKind, target: Target, effects: &mut Vec<Effect>) {
        let load = self.load(ReadFor::Read { key: key.clone(), target });
        effects.push(Effect::Read { read: load, slot, key, kind: read_kind });
    }

    /// Keeps `record` if it is greater than what is held, and answers once it, or what beat it, is durable.
    pub fn store<O: From<Owed>>(
        &mut self,
        slot: Slot,
        key: Key,
        record: Record,
        target: Target,
        around: &mut Surroundings<'_, O>,
    ) {
        if around.journal.has_failed() {
            around.answers.push((target, Outcome::Refused(Refusal::StoreFailed)));
            return;
        }
        if around.clock.check_jump(record.stamp.clock, PEER_JUMP).is_err() {
            around.effects.push(Effect::ProtocolEvent(ProtocolEvent::ClockJump { seen: record.stamp.clock }));
            around.answers.push((target, Outcome::Refused(Refusal::ClockJump)));
            return;
        }
        match self.keys.get_mut(&key) {
            Some(KeyState::Loading(waiting)) => {
                self.waiting_bytes += record.bytes(&key);
                waiting.push((record, target));
            }
            Some(KeyState::Known { durable, .. }) => {
                let durable = durable.clone();
                compare_and_store(slot, key, durable.as_ref(), record, target, around);
            }
            None => {
                self.waiting_bytes += record.bytes(&key);
                self.keys.insert(key.clone(), KeyState::Loading(vec![(record, target)]));
                let load = self.load(ReadFor::Store { slot, key: key.clone() });
                around.effects.push(Effect::Read { read: load, slot, key, kind: ReadKind::Digest });
            }
        }
    }

    /// A load is answered; `None` where the store could not read.
    ///
    /// A store may show a record before its node is told that the batch is durable, and after a failure it may show one
    /// that was thought lost. Whatever is answered from it, the clock must not be below it: else the next write could
    /// draw a smaller stamp than one that was read, and be lost. Its epoch went to disk with it, or before.
    pub fn loaded<O: From<Owed>>(&mut self, load: ReadId, held: Option<Lookup>, around: &mut Surroundings<'_, O>) {
        if let Some(digest) = held.as_ref().and_then(Lookup::digest)
            && !mutants::is_on(Mutant::ClockBelowReads)
        {
            around.clock.epoch_is_durable(digest.stamp.clock.epoch);
            around.clock.observe(digest.stamp.clock);
        }
        match self.loads.remove(&load) {
            Some(ReadFor::Read { key, target }) => {
                let outcome = held.map_or(Outcome::Refused(Refusal::ReadFailed), |held| Outcome::Lookup(key, held));
                around.answers.push((target, outcome));
            }
            Some(ReadFor::Store { slot, key }) => {
                let Some(KeyState::Loading(waiting)) = self.keys.remove(&key) else {
                    unreachable!("a key stays in loading until its load is answered");
                };
                self.waiting_bytes -= waiting.iter().map(|(record, _)| record.bytes(&key)).sum::<usize>();
                let refusal = match &held {
                    None => Some(Refusal::ReadFailed),
                    Some(_) if around.journal.has_failed() => Some(Refusal::StoreFailed),
                    Some(_) => None,
                };
                if let Some(refusal) = refusal {
                    around.answers.extend(waiting.into_iter().map(|(_, target)| (target, Outcome::Refused(refusal))));
                    return;
                }
                let durable = held.and_then(|held| held.digest());
                for (record, target) in waiting {
                    compare_and_store(slot, key.clone(), durable.as_ref(), record, target, around);
                }
                if around.journal.gathering(&key).is_some() {
                    self.keys.insert(key, KeyState::Known { slot, durable });
                }
            }
            None => {}
        }
    }

    /// The record of `key` with this digest became durable.
    pub fn became_durable<O>(&mut self, key: &Key, digest: Digest, journal: &Journal<O>) {
        if journal.gathering(key).is_none() {
            self.keys.remove(key);
        } else if let Some(KeyState::Known { durable, .. }) = self.keys.get_mut(key) {
            *durable = Some(digest);
        }
    }

    /// A batch failed: what is durable of the keys in it is unknown again. Stores that wait for a load are refused when
    /// it is answered.
    pub fn batch_failed(&mut self) {
        self.keys.retain(|_, state| matches!(state, KeyState::Loading(_)));
    }

    fn load(&mut self, what_for: ReadFor) -> ReadId {
        let load = ReadId(self.read_next);
        self.read_next += 1;
        self.loads.insert(load, what_for);
        load
    }
}

/// Decides about one record, given what is durable, at the disk and gathering: three digests that rise in this order.
fn compare_and_store<O: From<Owed>>(
    slot: Slot,
    key: Key,
    durable: Option<&Digest>,
    record: Record,
    target: Target,
    around: &mut Surroundings<'_, O>,
) {
    let digest = record.digest();
    let at_disk = around.journal.at_disk(&key);
    let gathering = around.journal.gathering(&key);
    let held = [durable, at_disk.as_ref(), gathering.as_ref()];

    if held.iter().flatten().any(|held| held.stamp == digest.stamp && held.checksum != digest.checksum)
        && !mutants::is_on(Mutant::SameStampIsMerged)
    {
        around.effects.push(Effect::ProtocolEvent(ProtocolEvent::StampConflict { key, stamp: digest.stamp }));
        around.answers.push((target, Outcome::Refused(Refusal::StampConflict)));
        return;
    }
    // The first that is at least as great: once it is durable, this record is beaten for good. Only its stamp is told,
    // because a later one may still be lost.
    let beaten_by = held.iter().position(|held| held.is_some_and(|held| held.stamp >= digest.stamp));
    if let Some(place) = beaten_by
        && !mutants::is_on(Mutant::SmallerStampOverwrites)
    {
        let outcome = Outcome::Superseded { held: held[place].expect("this place was found").stamp.clone() };
        match place {
            0 => around.answers.push((target, outcome)),
            1 => around.journal.owe(Owed { target, outcome }.into(), Waits::ForTheDisk),
            _ => around.journal.owe(Owed { target, outcome }.into(), Waits::ForTheNext),
        }
        return;
    }
    let epoch = digest.stamp.clock.epoch;
    if !around.clock.is_durable(epoch) {
        around.journal.add_epoch(epoch);
    }
    around.journal.add_record(slot, key, record);
    let owed = Owed { target, outcome: Outcome::Stored(digest.stamp) };
    if mutants::is_on(Mutant::AcknowledgedBeforeDurable) {
        around.answers.push((owed.target, owed.outcome));
        return;
    }
    around.journal.owe(owed.into(), Waits::ForTheNext);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Checksum, Clock, Content, NodeId};

    #[test]
    fn record_that_a_load_shows_raises_the_clock() {
        let key = Key::new("k").unwrap();
        let stamp = Stamp { clock: Clock { epoch: 7, counter: 3 }, writer: NodeId::new("2").unwrap() };
        let digest = Digest { stamp, checksum: Checksum::of(&key, &Content::Tombstone) };
        let mut clock = QuorumClock::start(5);
        let mut journal: Journal<Owed> = Journal::default();
        let (mut effects, mut answers) = (Vec::new(), Vec::new());
        let mut replica = Replica::default();
        replica.get(Slot(0), key, ReadKind::Digest, Target::Operator(OperationId(1)), &mut effects);
        let mut around =
            Surroundings { clock: &mut clock, journal: &mut journal, effects: &mut effects, answers: &mut answers };
        replica.loaded(ReadId(0), Some(Lookup::Digest(digest)), &mut around);
        assert_eq!(clock.now(), Clock { epoch: 7, counter: 3 });
    }
}
