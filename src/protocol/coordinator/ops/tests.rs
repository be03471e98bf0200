//! Operations that count the answers of certain replicas, where these are replicas no more.

use std::collections::BTreeSet;

use super::{Cas, GetWith, Heard, Mend, OperationState, Round, Step};
use crate::protocol::io::{Failure, Reply};
use crate::protocol::message::Answer;
use crate::protocol::quorum::Tally;
use crate::types::{
    Age, Change, ChangeRequest, Checksum, Clock, Condition, Content, Digest, IdempotencyToken, Key, Lookup, NodeId,
    NodeIndex, Record, Stamp, Version,
};

const LEFT: NodeIndex = NodeIndex(0);

/// The replicas once node 0 has left.
fn rest() -> Tally {
    Tally::single(&[1, 2, 3].map(NodeIndex))
}

/// All of the rest answer: what the operation does then.
fn answered(operation: &mut OperationState, answer: impl Fn(Key) -> Answer) -> Step {
    let mut tally = rest();
    for node in [1, 2, 3].map(NodeIndex) {
        assert_eq!(operation.on_answer(node, answer(Key::new("k").unwrap())), Heard::Counts);
        tally.count(node);
    }
    operation.on_enough(&tally)
}

fn absent(key: Key) -> Answer {
    Answer::Lookup { key, held: Lookup::Absent, age: Age::NONE, seal: None }
}

fn promised(key: Key) -> Answer {
    Answer::Promised { key, held: Lookup::Absent, age: Age::NONE, seal: None }
}

fn ballot(counter: u64) -> Stamp {
    Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("4").unwrap() }
}

#[test]
fn read_that_pauses_waits_for_nobody_who_has_left() {
    let tellers = || BTreeSet::from([LEFT, NodeIndex(1)]);
    for mut read in [OperationState::from(GetWith::new(tellers())), Mend::new(tellers()).into()] {
        read.start();
        read.forget_others(&rest());
        read.on_resumed();
        assert_eq!(answered(&mut read, absent), Step::Done(Reply::Record(None)));
    }
}

#[test]
fn settling_waits_for_nobody_who_has_left() {
    for pauses in [true, false] {
        let mut settling = OperationState::from(Cas::settling(BTreeSet::from([LEFT])));
        assert!(matches!(settling.start(), Step::NeedBallot(_)));
        settling.on_stamp(ballot(1));
        if pauses {
            settling.forget_others(&rest());
            settling.on_resumed();
        } else {
            settling.on_reconfigured(&rest());
        }
        settling.on_stamp(ballot(2));
        assert_eq!(answered(&mut settling, promised), Step::Done(Reply::Record(None)));
    }
}

/// A deletion under a condition, which may have been sent before: what all replicas promise decides it.
fn decided(is_resend: bool, promised: impl Fn(Key) -> Answer) -> Step {
    let key = || Key::new("k").unwrap();
    let version = Version { stamp: ballot(1), ballot: Some(ballot(2)), ..Version::absent() };
    let checksum = Checksum::of(&key(), &Content::Tombstone);
    let condition = Condition::Version(version);
    let change = Change::Write { condition, content: Content::Tombstone, ttl: None, checksum };
    let request = ChangeRequest { change, token: IdempotencyToken([7; 16]), is_resend };
    let mut write = OperationState::from(Cas::new(key(), request));
    assert!(matches!(write.start(), Step::NeedBallot(_)));
    write.on_stamp(ballot(9));
    answered(&mut write, promised)
}

/// The content of the base may be large: one of those that hold it is asked first.
#[test]
fn addition_asks_one_holder_for_its_base() {
    let key = || Key::new("k").unwrap();
    let base = Record::plain(ballot(1), Content::Tombstone, Checksum::of(&key(), &Content::Tombstone)).digest();
    let change = Change::Add { delta: 1, since: None, ttl: None, keeps_ttl: false };
    let request = ChangeRequest { change, token: IdempotencyToken([7; 16]), is_resend: false };
    let mut add = OperationState::from(Cas::new(key(), request));
    add.start();
    add.on_stamp(ballot(9));
    let told = |key| Answer::Promised { key, held: Lookup::Digest(base.clone()), age: Age::NONE, seal: None };
    let tally = rest();
    let all = tally.set_of([1, 2, 3].map(NodeIndex));
    assert_eq!(answered(&mut add, told), Step::Ask(Round::for_content(all, &tally)));
}

/// Another node may have left the first try at a minority, with a base that was never settled.
#[test]
fn resend_is_not_called_failed_before_its_first_try_is_buried() {
    assert!(matches!(decided(false, promised), Step::Done(Reply::Failed(Failure::ConditionFailed { .. }))));
    assert_eq!(decided(true, promised), Step::Done(Reply::Failed(Failure::OutcomeForgotten)));

    let key = Key::new("k").unwrap();
    let plain = Record::plain(ballot(1), Content::Tombstone, Checksum::of(&key, &Content::Tombstone));
    let held: Digest = plain.digest();
    let told = |key| Answer::Promised { key, held: Lookup::Digest(held.clone()), age: Age::NONE, seal: None };
    assert!(matches!(decided(false, told), Step::Done(Reply::Failed(Failure::ConditionFailed { .. }))));
    let step = decided(true, told);
    assert!(matches!(step, Step::Ask(_)), "what is there is settled first: {step:?}");
}
