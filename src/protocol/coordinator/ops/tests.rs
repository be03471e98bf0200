//! Operations that count the answers of certain replicas, where these are replicas no more.

use std::collections::BTreeSet;

use super::{Cas, GetWith, Heard, Mend, OperationState, Step};
use crate::protocol::io::Reply;
use crate::protocol::message::Answer;
use crate::protocol::quorum::Tally;
use crate::types::{Age, Clock, Key, Lookup, NodeId, NodeIndex, Stamp};

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
