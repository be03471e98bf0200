//! Changes of members: what a node does at the moment in which it adopts a configuration.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::sync::Arc;

use quorate::protocol::{Answer, Message, Refusal, Request, StoreOrigin, Unready};
use quorate::types::{Age, ReadKind, Record};

use crate::cluster::{Cluster, N1, N2, N3, N4, Sent, Unsynced};

/// Nodes 1 to 4, of which 1 to 3 are the replicas of the key. Where node 1 leaves, node 4 gains it.
fn four() -> Cluster {
    Cluster::with_replicas(4, 3)
}

/// The record that a write of `value` stores.
fn record_of(cluster: &mut Cluster, value: u64) -> Record {
    cluster.write(N1, value);
    cluster.run_clock_rounds();
    let stores = cluster.take(|sent| sent.stores().is_some());
    stores[0].stores().expect("it is a store").clone()
}

fn store(cluster: &Cluster, record: Record) -> Request {
    Request::Store { key: cluster.key.clone(), record, age: Age::NONE, origin: StoreOrigin::Writer }
}

/// The answers to questions that no operation asks.
fn answers(cluster: &mut Cluster) -> Vec<Sent> {
    cluster.take(Sent::is_answer)
}

#[test]
fn request_of_an_earlier_configuration_is_refused() {
    let mut cluster = four();
    cluster.write_among(N1, &cluster.members(), 1);
    let joint = cluster.leaves(N1, 1);
    cluster.tells(N1, N2, &joint);
    assert_eq!(cluster.node(N2).layout().number(), 1);
    let request = Request::Get { key: cluster.key.clone(), read_kind: ReadKind::Digest };
    cluster.asks(N1, N2, request);
    let answers = answers(&mut cluster);
    let [Sent { message: Message::Answer { answer, .. }, .. }] = &answers[..] else {
        panic!("one answer: {answers:?}")
    };
    assert_eq!(*answer, Answer::Refused(Refusal::Outdated), "it may have been answered by replicas that count no more");
}

/// A store waits for the batch in which its node adopts a configuration. Its acknowledgement leaves afterwards.
#[test]
fn answer_bears_the_number_that_its_sender_has_adopted() {
    let mut cluster = four();
    let (first, second) = (record_of(&mut cluster, 1), record_of(&mut cluster, 2));
    let joint = cluster.leaves(N1, 1);
    cluster.hold_disk(N2);
    let request = store(&cluster, first);
    cluster.asks(N1, N2, request);
    // Both go into the batch after the one that is on its way.
    let request = store(&cluster, second);
    cluster.asks(N1, N2, request);
    cluster.tells(N1, N2, &joint);
    cluster.flush_disk(N2);
    answers(&mut cluster);
    assert_eq!(cluster.node(N2).layout().number(), 0);
    cluster.flush_disk(N2);
    assert_eq!(cluster.node(N2).layout().number(), 1);
    let answers = answers(&mut cluster);
    let acknowledged = answers.iter().find_map(|sent| match &sent.message {
        Message::Answer { answer: Answer::Stored, number, .. } => Some(*number),
        _ => None,
    });
    assert_eq!(acknowledged, Some(1), "it does not count for who asked under number 0: {answers:?}");
}

/// Node 4 loses power before it is durable there that all have met. The others go on, and remove it.
#[test]
fn node_that_was_removed_before_it_knew_that_all_had_met_says_that_it_was_removed() {
    let mut cluster = four();
    cluster.crash(N4, Unsynced::Lost);
    cluster.forgets_that_all_have_met(N4);
    let others = [N1, N2, N3];
    let joint = cluster.leaves(N4, 1);
    cluster.adopt(&others, &joint);
    let stable = cluster.configuration(2, (&others, 3), None);
    cluster.adopt(&others, &stable);
    // Nobody names it in what it is told from now on.
    cluster.take(|sent| sent.to == N4);
    cluster.start(N4);
    cluster.run(&cluster.members());
    assert_eq!(cluster.node(N4).unready(), Some(Unready::Removed));
    // It still knows after another start, whoever it can reach then.
    cluster.crash(N4, Unsynced::Kept);
    cluster.start(N4);
    assert_eq!(cluster.node(N4).unready(), Some(Unready::Removed));
}

/// Nobody tells the configuration again: the others may be away, or may not know it.
#[test]
fn configuration_whose_batch_failed_is_adopted_once_the_store_takes_writes() {
    let mut cluster = four();
    let joint = cluster.leaves(N1, 1);
    cluster.hold_disk(N2);
    cluster.tells(N1, N2, &joint);
    assert!(cluster.waits_at_disk(N2));
    cluster.fail_held_batch(N2);
    assert_eq!(cluster.node(N2).layout().number(), 1);
}

/// What a node has of a slot from an earlier time may be old, and a deletion of it may be forgotten. Node 4 gains the slot, and
/// loses it when the change is taken back. It gains the slot again before it has emptied it.
#[test]
fn slot_that_a_node_gains_is_empty_first() {
    let mut cluster = four();
    let (record, all) = (record_of(&mut cluster, 1), cluster.members());
    let joint = cluster.leaves(N1, 1);
    cluster.tells(N1, N4, &joint);
    cluster.leaves_on_disk(N4, &record);
    let taken_back = cluster.configuration(2, (&all, 3), None);
    cluster.tells(N1, N4, &taken_back);
    assert_eq!(cluster.on_disk(N4), Some(&record), "it need not go at once");
    let again = cluster.leaves(N1, 3);
    cluster.tells(N1, N4, &again);
    assert_eq!(cluster.node(N4).layout().number(), 3);
    assert_eq!(cluster.on_disk(N4), None);
}

/// A node gains a slot twice, and has not heard of the configuration between the two.
#[test]
fn slot_that_a_node_gains_again_is_empty_again() {
    let mut cluster = four();
    let record = record_of(&mut cluster, 1);
    let joint = cluster.leaves(N1, 1);
    cluster.tells(N1, N4, &joint);
    cluster.leaves_on_disk(N4, &record);
    // The change was taken back, which was number 2.
    let again = cluster.leaves(N1, 3);
    cluster.tells(N1, N4, &again);
    assert_eq!(cluster.node(N4).layout().number(), 3);
    assert_eq!(cluster.on_disk(N4), None);
}

/// A write is on its way while its coordinator gains the slot. Until the coordinator knows the floors of the slot it cannot know
/// whether all replicas have sealed the write away.
#[test]
fn coordinator_that_gains_the_slot_stores_nothing_before_it_knows_the_floors() {
    let mut cluster = four();
    cluster.write(N4, 7);
    cluster.run_clock_rounds();
    let stores = cluster.take(|sent| sent.stores().is_some());
    assert!(!stores.is_empty(), "the write has its stamp");
    let joint = cluster.leaves(N1, 1);
    cluster.tells(N1, N4, &joint);
    assert_eq!(cluster.node(N4).layout().number(), 1);
    assert_eq!(cluster.on_disk(N4), None);

    let all = cluster.members();
    for node in [N1, N2, crate::cluster::N3] {
        let joint = Arc::clone(&joint);
        cluster.tells(N4, node, &joint);
    }
    cluster.run(&all);
    assert_eq!(cluster.value_on_disk(N4), Some(7), "the write goes on");
    cluster.assert_linearizable();
}

#[cfg(feature = "mutants")]
#[test]
fn every_broken_rule_of_adoption_is_found() {
    use crate::mutants::{each_is_found, tests};
    each_is_found(tests![
        OldNumberIsServed: request_of_an_earlier_configuration_is_refused,
        AnswerBearsTheNumberAsked: answer_bears_the_number_that_its_sender_has_adopted,
        GainedSlotsKeepData: slot_that_a_node_gains_is_empty_first,
        EmptiedOnlyOnce: slot_that_a_node_gains_again_is_empty_again,
        NoFloors: coordinator_that_gains_the_slot_stores_nothing_before_it_knows_the_floors,
    ]);
}
