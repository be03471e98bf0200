//! Changes of members: reads and lists that are under way while members change.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::time::Duration;

use crate::cluster::{Cluster, N1, N2, N3, N4, N5, Sent};
use crate::tombstones::{FIVE, five};

/// Long enough for a change that nobody delays.
const CHANGE: Duration = Duration::from_secs(14);
/// Long enough for what nobody delays, and too short for a member to end a change.
const A_WHILE: Duration = Duration::from_millis(1_500);

/// A read is under way while a node leaves, and comes again. Node 1 has missed a write, and says so before. Node 2 had the write,
/// left, and holds nothing when it comes again. The two would make a majority of those that the read asked.
#[test]
fn read_begins_anew_when_members_change() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let (all, without_2) = (cluster.members(), [N1, N3, N4]);
    cluster.write_among(N2, &[N2, N3], 1);
    cluster.take(|_| true);
    cluster.deadline = Duration::from_mins(10);
    let read = cluster.read(N1);
    let asked = cluster.take(|sent| sent.from == N1 && sent.asks_to_read());
    let operation = asked.first().expect("it asks others").operation();
    let of_read =
        |sent: &Sent| sent.operation() == operation && if sent.is_answer() { sent.to == N1 } else { sent.from == N1 };

    let joint = cluster.leaves(N2, 1);
    cluster.adopt(&all, &joint);
    cluster.live_without(CHANGE, &all, of_read);
    assert_eq!(cluster.number(N1), 2, "node 2 has left");
    let again = cluster.configuration(3, (&without_2, 3), Some((&all, 3)));
    cluster.adopt(&all, &again);
    let is_lost = |sent: &Sent| of_read(sent) || sent.lists_to_take_over();
    cluster.live_without(A_WHILE, &all, is_lost);
    assert!(cluster.node(N2).members().knows_floors(), "node 2 answers about the slot");
    assert_eq!(cluster.on_disk(N2), None, "and has nothing of it yet");
    // The read hears node 2, and then the others.
    cluster.live_without(CHANGE, &[N1, N2], Sent::lists_to_take_over);
    cluster.live_without(CHANGE, &all, Sent::lists_to_take_over);
    assert_eq!(cluster.seen_by(read), Some(1), "it was acknowledged before the read began");
    cluster.assert_linearizable();
}

/// ScyllaDB: reads went back to an older value while the topology changed (<https://github.com/scylladb/scylladb/issues/20458>).
///
/// Here one old replica has a write. A read during the change finds it, and stores it at a majority of both lists before it
/// answers. Otherwise those that stay could answer the value before it, once the change has ended.
#[test]
fn reads_do_not_go_back_while_members_change_scylladb_20458() {
    for copies_are_lost in [true, false] {
        let mut cluster = Cluster::with_replicas(4, 3);
        let (all, stay) = (cluster.members(), [N2, N3, N4]);
        let joint = cluster.leaves(N1, 1);
        cluster.adopt(&all, &joint);
        cluster.live_among(A_WHILE, &all);
        assert!(cluster.has_taken_over(N4) && cluster.number(N1) == 1, "the end of the change is near");
        cluster.write_among(N2, &all, 1);
        cluster.write(N1, 2);
        cluster.run_clock_rounds();
        cluster.take(|sent| sent.stores().is_some());
        assert_eq!(cluster.value_on_disk(N1), Some(2), "node 1 alone has it");
        let read = cluster.read(N1);
        cluster.deliver(|sent| sent.asks_to_read() || sent.is_record_for(N1));
        if copies_are_lost {
            cluster.take(|sent| sent.stores().is_some() && sent.to != N2);
        }
        cluster.run(&all);
        let saw = cluster.reply_to(read).map(|_| cluster.seen_by(read));
        assert!(saw.is_none_or(|saw| saw == Some(2)));
        assert!(saw.is_some() || copies_are_lost, "a majority of both lists has it");
        cluster.take(|sent| sent.from == N1 || sent.to == N1);
        cluster.live_among(CHANGE, &stay);
        assert_eq!(cluster.number(N3), 2, "the change has ended");
        let later = cluster.read_among(N3, &[N3, N4]);
        assert!(saw.is_none() || later == Some(2), "a later read goes back");
        cluster.assert_linearizable();
    }
}

/// Two nodes gain a slot. They answer pages of lists, and hold nothing of the slot yet.
#[test]
fn list_counts_those_that_have_the_slot() {
    let mut cluster = five();
    cluster.write_among(N1, &FIVE, 1);
    let joint = cluster.configuration(1, (&FIVE, 3), Some((&[N3, N4, N5], 3)));
    cluster.adopt(&FIVE, &joint);
    cluster.live_without(A_WHILE, &FIVE, Sent::lists_to_take_over);
    assert!(
        [N4, N5].into_iter().all(|node| cluster.node(node).members().knows_floors() && cluster.on_disk(node).is_none())
    );
    let list = cluster.list(N4, 10);
    let among_new = |sent: &Sent| [N4, N5].contains(&sent.from) && [N4, N5].contains(&sent.to);
    cluster.deliver(|sent| sent.is_for_lists() && among_new(sent));
    cluster.live_without(A_WHILE, &FIVE, Sent::lists_to_take_over);
    assert_eq!(cluster.seen_by(list), Some(1), "it was acknowledged");
    cluster.assert_linearizable();
}

#[cfg(feature = "mutants")]
#[test]
fn every_broken_rule_of_reads_is_found() {
    use crate::mutants::{each_is_found, tests};
    each_is_found(tests![
        ReadKeepsItsRound: read_begins_anew_when_members_change,
        NoJointQuorum: reads_do_not_go_back_while_members_change_scylladb_20458,
        ListAnswersForFresh: list_counts_those_that_have_the_slot,
    ]);
}
