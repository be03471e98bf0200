//! One node's records: compare-and-store, and reads of what is durable.
//!
//! Invariants: a record is only ever replaced by one of a greater stamp; an acknowledgement is owed for the batch that
//! makes the record, or the one that beat it, durable; a read is a load from the store, which shows only what is durable,
//! so that no answer reveals what a crash can still take back.
//!
//! A key takes part here only while something of it is on its way: a load of what is durable, or a record that is.

use std::collections::BTreeMap;

use crate::clock::{PEER_JUMP, QuorumClock};
use crate::types::{Held, Key, Life, Mark, Member, Record, Slot, Stamp, Want};

use super::journal::{Journal, Waits};
use super::message::{OperationId, Refusal};
use super::mutants::{self, Mutant};
use super::{Effect, LoadId, Note};

/// Who waits for a replica's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A coordinator on another node.
    Peer {
        /// Which.
        member: Member,
        /// Its run.
        life: Life,
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
    Held(Key, Held),
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
    loads: BTreeMap<LoadId, LoadFor>,
    load_next: u64,
    /// What stores that wait for a load hold.
    waiting_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum KeyState {
    /// What is durable is being loaded; these stores wait for it, in the order in which they came.
    Loading(Vec<(Record, Target)>),
    /// What is durable is known, and a greater record is on its way.
    Known { slot: Slot, durable: Option<Mark> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LoadFor {
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
    pub fn get(&mut self, slot: Slot, key: Key, want: Want, target: Target, effects: &mut Vec<Effect>) {
        let load = self.load(LoadFor::Read { key: key.clone(), target });
        effects.push(Effect::Load { load, slot, key, want });
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
            around.effects.push(Effect::Note(Note::ClockJump { seen: record.stamp.clock }));
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
                let load = self.load(LoadFor::Store { slot, key: key.clone() });
                around.effects.push(Effect::Load { load, slot, key, want: Want::Mark });
            }
        }
    }

    /// A load is answered; `None` where the store could not read.
    ///
    /// A store may show a record before its node is told that the batch is durable, and after a failure it may show one
    /// that was thought lost. Whatever is answered from it, the clock must not be below it: else the next write could
    /// draw a smaller stamp than one that was read, and be lost. Its epoch went to disk with it, or before.
    pub fn loaded<O: From<Owed>>(&mut self, load: LoadId, held: Option<Held>, around: &mut Surroundings<'_, O>) {
        if let Some(mark) = held.as_ref().and_then(Held::mark)
            && !mutants::is_on(Mutant::ClockBelowLoads)
        {
            around.clock.epoch_is_durable(mark.stamp.clock.epoch);
            around.clock.observe(mark.stamp.clock);
        }
        match self.loads.remove(&load) {
            Some(LoadFor::Read { key, target }) => {
                let outcome = held.map_or(Outcome::Refused(Refusal::ReadFailed), |held| Outcome::Held(key, held));
                around.answers.push((target, outcome));
            }
            Some(LoadFor::Store { slot, key }) => {
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
                let durable = held.and_then(|held| held.mark());
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

    /// The record of `key` with this mark became durable.
    pub fn became_durable<O>(&mut self, key: &Key, mark: Mark, journal: &Journal<O>) {
        if journal.gathering(key).is_none() {
            self.keys.remove(key);
        } else if let Some(KeyState::Known { durable, .. }) = self.keys.get_mut(key) {
            *durable = Some(mark);
        }
    }

    /// A batch failed: what is durable of the keys in it is unknown again. Stores that wait for a load are refused when
    /// it is answered.
    pub fn batch_failed(&mut self) {
        self.keys.retain(|_, state| matches!(state, KeyState::Loading(_)));
    }

    fn load(&mut self, what_for: LoadFor) -> LoadId {
        let load = LoadId(self.load_next);
        self.load_next += 1;
        self.loads.insert(load, what_for);
        load
    }
}

/// Decides about one record, given what is durable, at the disk and gathering: three marks that rise in this order.
fn compare_and_store<O: From<Owed>>(
    slot: Slot,
    key: Key,
    durable: Option<&Mark>,
    record: Record,
    target: Target,
    around: &mut Surroundings<'_, O>,
) {
    let mark = record.mark();
    let at_disk = around.journal.at_disk(&key);
    let gathering = around.journal.gathering(&key);
    let held = [durable, at_disk.as_ref(), gathering.as_ref()];

    if held.iter().flatten().any(|held| held.stamp == mark.stamp && held.checksum != mark.checksum)
        && !mutants::is_on(Mutant::SameStampIsMerged)
    {
        around.effects.push(Effect::Note(Note::StampConflict { key, stamp: mark.stamp }));
        around.answers.push((target, Outcome::Refused(Refusal::StampConflict)));
        return;
    }
    // The first that is at least as great: once it is durable, this record is beaten for good. Only its stamp is told,
    // because a later one may still be lost.
    let beaten_by = held.iter().position(|held| held.is_some_and(|held| held.stamp >= mark.stamp));
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
    let epoch = mark.stamp.clock.epoch;
    if !around.clock.is_durable(epoch) {
        around.journal.add_epoch(epoch);
    }
    around.journal.add_record(slot, key, record);
    let owed = Owed { target, outcome: Outcome::Stored(mark.stamp) };
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
        let mark = Mark { stamp, checksum: Checksum::of(&key, &Content::Tombstone) };
        let mut clock = QuorumClock::start(5);
        let mut journal: Journal<Owed> = Journal::default();
        let (mut effects, mut answers) = (Vec::new(), Vec::new());
        let mut replica = Replica::default();
        replica.get(Slot(0), key, Want::Mark, Target::Operator(OperationId(1)), &mut effects);
        let mut around =
            Surroundings { clock: &mut clock, journal: &mut journal, effects: &mut effects, answers: &mut answers };
        replica.loaded(LoadId(0), Some(Held::Mark(mark)), &mut around);
        assert_eq!(clock.now(), Clock { epoch: 7, counter: 3 });
    }
}
