//! Changes of members: what a node has to bring here before it may be a replica.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::time::Duration;

use quorate::limits::DROPS_IN_MESSAGE_MAX;
use quorate::protocol::rate::Rate;
use quorate::protocol::{Failure, Message, RepairSettings, Request, TombstoneSettings};
use quorate::types::{Change, Condition, Record, Version};

use crate::cluster::{Cluster, N1, N2, N3, N4, N5, Sent, Unsynced};
use crate::tombstones::{FIVE, LONG, five, is_gone, wait_for};

/// Long enough for a change that nobody delays.
const CHANGE: Duration = Duration::from_secs(14);
/// Long enough for a node to take over what it is told of, and too short for a member to end the change.
const A_WHILE: Duration = Duration::from_millis(1_500);

/// Five nodes of which nodes 1 and 2 leave: the key goes from nodes 1, 2 and 3 to nodes 3, 4 and 5.
fn two_leave(cluster: &mut Cluster) {
    let joint = cluster.configuration(1, (&FIVE, 3), Some((&[N3, N4, N5], 3)));
    cluster.adopt(&FIVE, &joint);
}

/// A value is at nodes 1 and 2, and node 4 takes the place of node 1. Node 4 first hears node 3 alone.
#[test]
fn slot_is_taken_over_from_a_majority() {
    let mut cluster = Cluster::with_replicas(4, 3);
    cluster.write_among(N1, &[N1, N2], 1);
    cluster.take(|sent| sent.stores().is_some());
    let (joint, stay) = (cluster.leaves(N1, 1), [N2, N3, N4]);
    cluster.adopt(&stay, &joint);
    let of_node_2 = |sent: &Sent| sent.is_for_taking_over() && (sent.from == N2 || sent.to == N2);
    cluster.live_without(CHANGE, &stay, of_node_2);
    cluster.live_among(CHANGE, &stay);
    assert_eq!(cluster.number(N4), 2, "the change has ended");
    assert_eq!(cluster.read_among(N3, &[N3, N4]), Some(1), "the value was acknowledged");
    cluster.assert_linearizable();
}

/// Of three replicas two are damaged, at different keys of one page. Each tells what comes before its damage, and what comes after.
#[test]
fn two_damaged_replicas_keep_no_node_from_taking_over() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let (all, key, beside) = (cluster.members(), cluster.key.clone(), cluster.key_beside());
    cluster.write_among(N1, &all, 1);
    cluster.delete_beside(N1, beside.clone());
    cluster.run(&all);
    cluster.damaged.extend([(N1, key.clone()), (N2, beside)]);
    let joint = cluster.leaves(N3, 1);
    cluster.adopt(&all, &joint);
    cluster.live_among(CHANGE, &all);
    assert_eq!(cluster.number(N4), 2, "the change has ended");
    assert_eq!(cluster.value_on_disk(N4), Some(1));

    // What both cannot list may be what nobody else has.
    let mut cluster = Cluster::with_replicas(4, 3);
    cluster.write_among(N1, &all, 1);
    cluster.damaged.extend([(N1, key.clone()), (N2, key)]);
    let joint = cluster.leaves(N3, 1);
    cluster.adopt(&all, &joint);
    cluster.live_among(CHANGE, &all);
    assert!(cluster.number(N4) == 1 && !cluster.has_taken_over(N4), "a majority has not told of the key");
}

/// Two conditional writes create the key. Node 1 alone has accepted the first, and node 2 alone the second, under a greater ballot.
/// Node 4 takes the place of node 3, and hears node 1. As it found the record, the record may not be kept: nodes 1 and 4 would
/// agree on what was never chosen, and the next read finds the greater ballot.
#[test]
fn takeover_copies_nothing_that_was_never_chosen() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let all = cluster.members();
    cluster.deadline = Duration::from_mins(2);
    cluster.write_if(N1, Condition::Absent, 2, 7);
    cluster.deliver(|sent| {
        sent.from == N1 && sent.to == N2 && sent.prepares() || sent.from == N2 && sent.to == N1 && sent.promises()
    });
    assert_eq!(cluster.value_on_disk(N1), Some(2), "node 1 alone has accepted it");
    let ballot = |record: &Record| record.proposal.as_ref().map(|proposal| proposal.ballot.clone());
    let first = ballot(cluster.on_disk(N1).unwrap());
    cluster.crash(N1, Unsynced::Kept);
    cluster.take(|sent| sent.from == N1 || sent.to == N1);
    // Node 4 draws greater ballots from now on.
    let beside = cluster.key_beside();
    for _ in 0..5 {
        cluster.delete_beside(N4, beside.clone());
        cluster.live_among(A_WHILE, &[N2, N3, N4]);
    }
    cluster.write_if(N4, Condition::Absent, 3, 8);
    cluster.deliver(|sent| sent.prepares() && sent.to != N1 || sent.promises() && sent.to == N4);
    cluster.deliver(|sent| sent.accepts().is_some() && sent.to == N2);
    assert_eq!([N2, N3].map(|node| cluster.value_on_disk(node)), [Some(3), None], "node 2 alone has accepted it");
    assert!(ballot(cluster.on_disk(N2).unwrap()) > first);
    cluster.crash(N4, Unsynced::Kept);
    cluster.take(|_| true);
    cluster.start(N1);
    cluster.start(N4);
    // Node 2 is away.
    let among = [N1, N3, N4];
    cluster.run(&among);

    let joint = cluster.leaves(N3, 1);
    cluster.adopt(&all, &joint);
    // Node 4 asks node 3 for the record, and node 1 for a digest. It asks node 1 again: for the record.
    let key = cluster.key.clone();
    let is_lost =
        |sent: &Sent| sent.from == N4 && sent.to == N1 && sent.asks_for_digest() && sent.message.key() == Some(&key);
    cluster.live_without(CHANGE, &among, is_lost);
    assert!(cluster.has_taken_over(N4), "node 4 has the slot");
    assert_eq!(cluster.value_on_disk(N4), Some(2));
    cluster.relink(N2, N4);
    cluster.relink(N4, N2);
    cluster.live_among(CHANGE, &all);
    assert_eq!(cluster.number(N4), 2, "the change has ended");

    let read = cluster.read(N1);
    wait_for(&mut cluster, N1, &[N1, N4]);
    assert_eq!(cluster.seen_by(read), Some(2));
    let read = cluster.read(N2);
    wait_for(&mut cluster, N2, &[N1, N2]);
    assert_eq!(cluster.seen_by(read), Some(2), "one of the two has created the key");
    cluster.assert_linearizable();
}

/// A key was created, deleted and forgotten. Nodes that know the seal of its slot know that something may have been there.
#[test]
fn request_is_not_made_again_by_nodes_that_were_not_there() {
    let mut cluster = five();
    let add = || Change::Add { delta: 1, since: Some(Version::absent()), ttl: None, keeps_ttl: false };
    let first = cluster.change(N4, add(), 7, false);
    wait_for(&mut cluster, N4, &FIVE);
    assert_eq!(cluster.sum_of(first), 1);
    cluster.delete(N4);
    cluster.run(&FIVE);
    let until = cluster.node(N4).clock();
    cluster.round(N4, until);
    assert!(is_gone(&cluster), "the deletion is forgotten");

    two_leave(&mut cluster);
    cluster.live_among(CHANGE, &FIVE);
    assert_eq!(cluster.number(N4), 2, "the change has ended");
    let again = cluster.change(N4, add(), 7, true);
    wait_for(&mut cluster, N4, &[N4, N5]);
    assert_eq!(cluster.failure_of(again), Some(&Failure::OutcomeForgotten), "it was made before");
}

/// A value is below the seal of its slot. Nodes that take the slot over know the seal, and not yet the value: it must reach them,
/// or a read could not bring it to a majority.
#[test]
fn read_ends_while_nodes_take_a_sealed_slot_over() {
    let mut cluster = five();
    cluster.write_among(N4, &FIVE, 1);
    let until = cluster.node(N4).clock();
    cluster.round(N4, until);
    assert_eq!(cluster.value_on_disk(N3), Some(1), "a value stays");
    two_leave(&mut cluster);
    // They copy nothing yet.
    let is_lost = |sent: &Sent| (sent.from == N4 || sent.from == N5) && sent.is_of_operation();
    cluster.live_without(A_WHILE, &FIVE, is_lost);
    assert_eq!([N4, N5].map(|node| cluster.seal_of(node)), [Some(until); 2], "they were told the seal");
    assert_eq!([N4, N5].map(|node| cluster.value_on_disk(node)), [None; 2]);
    let read = cluster.read(N3);
    cluster.live_without(A_WHILE, &FIVE, is_lost);
    assert_eq!(cluster.seen_by(read), Some(1));
    cluster.assert_linearizable();
}

/// Fewer nodes are to hold each slot. A majority of them has missed a write.
#[test]
fn fewer_replicas_have_what_all_had() {
    let mut cluster = Cluster::with_replicas(5, 5);
    cluster.write_among(N1, &[N1, N2, N3], 1);
    cluster.take(|sent| sent.stores().is_some());
    let joint = cluster.configuration(1, (&FIVE, 5), Some((&[N3, N4, N5], 3)));
    cluster.adopt(&FIVE, &joint);
    cluster.live_among(CHANGE, &FIVE);
    assert_eq!(cluster.number(N4), 2, "the change has ended");
    assert_eq!(cluster.read_among(N4, &[N4, N5]), Some(1), "the value was acknowledged");
    cluster.assert_linearizable();
}

/// While members change, the replicas that hold the same may not be those that are to hold it.
#[test]
fn deletions_are_remembered_while_members_change() {
    let tombstones = Some(TombstoneSettings { kept_for: Duration::from_secs(10), of_slot_max: 1_000 });
    let every = Duration::from_hours(1);
    let settings = RepairSettings { every, tombstones, ..RepairSettings::default() };
    let mut cluster = Cluster::with(4, 3, Some(settings));
    let (all, holders) = (cluster.members(), [N1, N2, N3]);
    cluster.delete(N1);
    cluster.run(&all);
    let joint = cluster.leaves(N1, 1);
    cluster.adopt(&all, &joint);
    // Node 4 knows the floors, and is not told of records.
    cluster.live_without(2 * LONG, &all, Sent::lists_to_take_over);
    assert_eq!(cluster.number(N1), 1, "members change");
    assert!(holders.into_iter().all(|node| cluster.seal_of(node).is_none()), "no slot is sealed");
    assert!(holders.into_iter().all(|node| cluster.on_disk(node).is_some()));
    cluster.live(2 * LONG);
    assert_eq!(cluster.number(N2), 2, "the change has ended");
    let stay = [N2, N3, N4];
    assert!(
        stay.into_iter().all(|node| cluster.on_disk(node).is_none()),
        "it is forgotten by those that hold the slot"
    );
    assert_eq!(cluster.read_among(N4, &stay), None);
    cluster.assert_linearizable();
}

/// A cluster remembers more dropped tables than one message may name.
#[test]
fn dropped_tables_are_told_in_bounded_messages() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let all = cluster.members();
    let count = 2 * DROPS_IN_MESSAGE_MAX + 1;
    for node in [N1, N2, N3] {
        cluster.crash(node, Unsynced::Kept);
        cluster.take(|_| true);
        cluster.were_dropped_long_ago(node, u32::try_from(count).unwrap());
    }
    for node in [N1, N2, N3] {
        cluster.start(node);
    }
    // Nodes that meet tell each other the drops, too.
    let is_drop = |sent: &Sent| matches!(sent.message, Message::Request { request: Request::Drop { .. }, .. });
    cluster.live_without(A_WHILE, &all, is_drop);
    assert_eq!(cluster.dropped_tables(N4), 0);
    let joint = cluster.leaves(N1, 1);
    cluster.adopt(&all, &joint);
    let most = std::cell::Cell::new(0);
    let look = |sent: &Sent| {
        most.set(most.get().max(sent.dropped_tables_told().unwrap_or(0)));
        false
    };
    cluster.live_without(A_WHILE, &all, look);
    assert_eq!(most.get(), DROPS_IN_MESSAGE_MAX, "in one message");
    assert_eq!(cluster.dropped_tables(N4), count);
    assert!(cluster.has_taken_over(N4));
}

/// A node loses a slot, and has not heard of the configuration that ended the change. So no configuration that it has adopted was
/// stable when the slot went.
#[test]
fn slot_that_a_node_has_lost_is_emptied_in_the_end() {
    let mut cluster = Cluster::with_replicas(5, 3);
    // Where two nodes hold each slot, node 1 does not hold that of the key.
    cluster.take_key_that_goes_to(&[N2, N3], (&FIVE, 2));
    cluster.write_among(N1, &FIVE, 1);
    let stay = [N2, N3, N4, N5];
    let joint = cluster.leaves(N1, 1);
    cluster.adopt(&FIVE, &joint);
    let again = cluster.configuration(3, (&stay, 3), Some((&FIVE, 2)));
    cluster.adopt(&[N1], &again);
    let end = cluster.configuration(4, (&FIVE, 2), None);
    cluster.adopt(&[N1], &end);
    assert_eq!(cluster.value_on_disk(N1), Some(1), "it need not go at once");
    cluster.live_among(Duration::from_secs(20), &[N1]);
    assert_eq!(cluster.on_disk(N1), None);
    assert!(!cluster.is_in_index(N1));
}

/// A node was away when a write was made, and refused the record when it came: the write is too old. To send the record again
/// as a copy would pass the fence.
#[test]
fn nobody_is_sent_again_what_it_has_fenced_off() {
    let mut cluster = five();
    cluster.write(N4, 1);
    cluster.run_clock_rounds();
    let until = cluster.node(N4).clock();
    let stores = cluster.take(|sent| sent.stores().is_some());
    cluster.fence_at(N5, N3, until);
    let (of_node_3, others): (Vec<Sent>, Vec<Sent>) = stores.into_iter().partition(|sent| sent.to == N3);
    for sent in of_node_3 {
        cluster.arrives(sent);
    }
    cluster.run(&FIVE);
    for sent in others {
        cluster.arrives(sent);
    }
    cluster.run(&FIVE);
    assert_eq!([N1, N2, N3].map(|node| cluster.value_on_disk(node)), [Some(1), Some(1), None]);
    cluster.relink(N4, N3);
    cluster.relink(N3, N4);
    cluster.run(&FIVE);
    assert_eq!(cluster.on_disk(N3), None, "repair brings what it lacks");
    assert_eq!(cluster.read_among(N5, &[N2, N3, N5]), Some(1));
    cluster.assert_linearizable();
}

#[cfg(feature = "mutants")]
#[test]
fn every_broken_rule_of_taking_over_is_found() {
    use crate::mutants::{each_is_found, tests};
    each_is_found(tests![
        CopyFromOne: slot_is_taken_over_from_a_majority,
        CopyRaw: takeover_copies_nothing_that_was_never_chosen,
        SealNotHandedOver: request_is_not_made_again_by_nodes_that_were_not_there,
        SealsWhileTakingOver: read_ends_while_nodes_take_a_sealed_slot_over,
        ShrinkWithoutCopy: fewer_replicas_have_what_all_had,
        DropsWhileJoint: deletions_are_remembered_while_members_change,
        GainedSlotsKeepData: slot_that_a_node_has_lost_is_emptied_in_the_end,
    ]);
}

/// Its operator deletes what it has.
#[test]
fn node_that_was_removed_keeps_what_it_has() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let all = cluster.members();
    cluster.write_among(N1, &all, 1);
    let joint = cluster.leaves(N1, 1);
    cluster.adopt(&all, &joint);
    cluster.live_among(CHANGE, &all);
    assert_eq!(cluster.number(N1), 2, "it knows that it was removed");
    cluster.live_among(Duration::from_secs(20), &[N1]);
    assert_eq!(cluster.value_on_disk(N1), Some(1));
    cluster.crash(N1, Unsynced::Kept);
    cluster.take(|_| true);
    cluster.start(N1);
    cluster.live_among(Duration::from_secs(20), &[N1]);
    assert_eq!(cluster.value_on_disk(N1), Some(1), "after a start, too");
}

/// Node 1 has lost the slot of the key, and its disk fails while it empties slots.
#[test]
fn slots_are_emptied_although_the_store_failed_meanwhile() {
    let mut cluster = Cluster::with_replicas(5, 3);
    cluster.take_key_that_goes_to(&[N2, N3], (&FIVE, 2));
    cluster.write_among(N1, &FIVE, 1);
    let stay = [N2, N3, N4, N5];
    let joint = cluster.leaves(N1, 1);
    cluster.adopt(&FIVE, &joint);
    let again = cluster.configuration(3, (&stay, 3), Some((&FIVE, 2)));
    cluster.adopt(&[N1], &again);
    let end = cluster.configuration(4, (&FIVE, 2), None);
    cluster.adopt(&[N1], &end);
    cluster.hold_disk(N1);
    cluster.live_among(Duration::from_millis(300), &[N1]);
    assert!(cluster.waits_at_disk(N1), "the first slots are on their way");
    cluster.fail_held_batch(N1);
    cluster.live_among(Duration::from_secs(20), &[N1]);
    assert_eq!(cluster.on_disk(N1), None);
}

/// Node 4 takes the place of node 1. It hears any two of the old replicas, or all.
#[test]
fn each_value_is_sent_once_and_to_the_node_that_takes_its_slot_over() {
    const BYTES: usize = 10_000;
    for silent in [None, Some(N1), Some(N2), Some(N3)] {
        let mut cluster = Cluster::with_replicas(4, 3);
        let all = cluster.members();
        cluster.fill_large(N1, BYTES);
        let joint = cluster.leaves(N1, 1);
        cluster.adopt(&all, &joint);
        let carried = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let lost = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let watched = |sent: &Sent| {
            let is_lost = silent.is_some_and(|silent| sent.from == silent && sent.is_record_for(N4));
            if sent.value_bytes() > 0 {
                let values = if is_lost { &lost } else { &carried };
                values.borrow_mut().insert((sent.from, sent.to, sent.operation(), sent.asked_in_round()));
            }
            is_lost
        };
        cluster.live_without(CHANGE, &all, watched);
        assert_eq!(cluster.number(N4), 2, "the change has ended");
        let (carried, lost) = (carried.into_inner(), lost.into_inner());
        assert!(lost.len() <= 2, "the silent node is asked once for each value: {lost:?}");
        let is_at_once = carried.iter().all(|(.., round)| *round == Some(0));
        assert!(silent.is_some() || is_at_once, "the value comes with the first answers: {carried:?}");
        assert_eq!(carried.len(), 2, "there are two values: {carried:?}");
        assert!(carried.iter().all(|(_, to, ..)| *to == N4), "the others hold them: {carried:?}");
        assert_eq!(cluster.value_bytes_on_disk(N4), BYTES);
    }
}

#[test]
fn slots_are_taken_over_at_the_pace_of_bytes() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let all = cluster.members();
    cluster.fill_large(N1, 1 << 20);
    cluster.pace_takeover(N4, Rate { keys_per_second: 10_000, bytes_per_second: 100_000 });
    let joint = cluster.leaves(N1, 1);
    cluster.adopt(&all, &joint);
    cluster.live_among(A_WHILE, &all);
    assert!(!cluster.has_taken_over(N4), "the first value is paid for in ten seconds");
    cluster.pace_takeover(N4, Rate::TAKEOVER);
    cluster.live_among(A_WHILE, &all);
    assert!(cluster.has_taken_over(N4));
}
