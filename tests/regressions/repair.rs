//! Repair: what it must bring about, and what other systems' repairs brought back or spread.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::time::Duration;

use crate::ALL;
use crate::cluster::{Cluster, N1, N2, N3, Sent, Unsynced};
use quorate::protocol::sums::RepairAnswer;
use quorate::protocol::{Answer, Failure, Message, RepairOrder, RepairSettings, Request};
use quorate::types::{Condition, Content, NodeIndex, Version};

/// Long enough for some comparisons.
const A_WHILE: Duration = Duration::from_secs(40);

fn is_of_repair(sent: &Sent) -> bool {
    matches!(sent.message, Message::Request { request: Request::Repair(_), .. })
}

fn is_not_now(sent: &Sent) -> bool {
    matches!(sent.message, Message::Answer { answer: Answer::Repair(RepairAnswer::NotNow), .. })
}

/// `away` misses what happens, and the others lose their hints for it. Then it comes back.
pub fn while_away(cluster: &mut Cluster, away: NodeIndex, what_happens: impl Fn(&mut Cluster, [NodeIndex; 2])) {
    let others: Vec<NodeIndex> = ALL.into_iter().filter(|node| *node != away).collect();
    cluster.crash(away, Unsynced::Kept);
    cluster.take(|sent| sent.from == away || sent.to == away);
    what_happens(cluster, [others[0], others[1]]);
    for other in &others {
        cluster.crash(*other, Unsynced::Kept);
        cluster.start(*other);
        cluster.run(&others);
    }
    cluster.start(away);
}

#[test]
fn node_that_was_away_is_level_again_without_a_read() {
    for away in ALL {
        let mut cluster = Cluster::repairing();
        cluster.fill(&["a", "b", "c", "d"]);
        cluster.write_among(N1, &ALL, 1);
        while_away(&mut cluster, away, |cluster, others| {
            cluster.write_among(others[1], &others, 2);
        });
        assert_eq!(cluster.value_on_disk(away), Some(1), "it was away");
        let reads = cluster.count(Sent::asks_to_read);
        cluster.live(A_WHILE);
        assert_eq!(cluster.value_on_disk(away), Some(2), "node {away:?} is level");
        assert_eq!(reads, 0, "nobody has read before");
        let repaired: usize = ALL.into_iter().map(|node| cluster.repaired_by(node)).sum();
        assert_eq!(repaired, 1, "the one key that differed was repaired once");
        assert!(ALL.into_iter().all(|node| cluster.leaves_are_true(node)));
        cluster.assert_linearizable();
    }
}

/// Node 3 is silent, and nobody notices. Node 1 asks it, and node 2 a second later, over and over. Each time node 1 turns to
/// node 2, that one waits for node 3.
#[test]
fn silent_node_does_not_keep_the_others_apart() {
    let mut cluster = Cluster::repairing();
    cluster.write_among(N1, &ALL, 1);
    while_away(&mut cluster, N2, |cluster, others| {
        cluster.write_among(others[1], &others, 2);
    });
    let step = Duration::from_millis(5);
    let both = [N1, N2];
    for _ in 0..200 {
        cluster.run(&[N1, N3]);
        cluster.pass(step, &both);
    }
    cluster.run(&ALL);
    assert_eq!(cluster.value_on_disk(N2), Some(1), "it was away");
    let mut refusals = 0;
    for _ in 0..12_000 {
        // A message takes a step.
        let sent = cluster.take(|_| true);
        cluster.pass(step, &both);
        for sent in sent.into_iter().filter(|sent| both.contains(&sent.from) && both.contains(&sent.to)) {
            refusals += usize::from(is_not_now(&sent));
            cluster.arrives(sent);
        }
    }
    assert_eq!(
        cluster.value_on_disk(N2),
        Some(2),
        "a minute has passed, and node 2 has said {refusals} times: not now"
    );
    cluster.assert_linearizable();
}

/// "All nodes hold the same" was said of a node that had just come back, because it was true before it went away.
#[test]
fn nodes_that_meet_again_are_not_told_to_be_equal_before_they_are_compared() {
    let mut cluster = Cluster::repairing();
    cluster.write_among(N1, &ALL, 1);
    cluster.live(A_WHILE);
    assert!(cluster.is_told_equal(N1, N3), "they were compared");
    cluster.crash(N3, Unsynced::Kept);
    cluster.take(|sent| sent.from == N3 || sent.to == N3);
    cluster.write_among(N1, &[N1, N2], 2);
    cluster.start(N3);
    cluster.run(&ALL);
    assert!(!cluster.is_told_equal(N1, N3) && !cluster.is_told_equal(N3, N1), "node 3 has missed a write");
    cluster.live(A_WHILE);
    assert!(cluster.is_told_equal(N1, N3), "they were compared again");
    assert_eq!(cluster.value_on_disk(N3), Some(2));
}

#[test]
fn repair_that_is_turned_on_later_finds_what_differs() {
    let mut cluster = Cluster::with_replicas(3, 3);
    cluster.write_among(N1, &ALL, 1);
    while_away(&mut cluster, N3, |cluster, others| {
        cluster.write_among(others[1], &others, 2);
    });
    cluster.live(A_WHILE);
    assert_eq!(cluster.value_on_disk(N3), Some(1), "nobody repairs");
    cluster.order_repair(&RepairOrder::Configure(Some(RepairSettings::default())));
    cluster.live(A_WHILE);
    assert_eq!(cluster.value_on_disk(N3), Some(2));
    assert!(ALL.into_iter().all(|node| cluster.leaves_are_true(node)));

    // Off, what is counted would not be true for long.
    cluster.order_repair(&RepairOrder::Configure(None));
    cluster.write_among(N1, &ALL, 3);
    cluster.order_repair(&RepairOrder::Configure(Some(RepairSettings::default())));
    cluster.live(A_WHILE);
    assert!(ALL.into_iter().all(|node| cluster.leaves_are_true(node)));
    cluster.assert_linearizable();
}

#[test]
fn pass_that_is_ordered_does_not_wait_for_its_pace() {
    let slow = RepairSettings { keys_per_second: 1, every: Duration::from_mins(10), ..RepairSettings::default() };
    let mut cluster = Cluster::with(3, 3, Some(slow));
    let names: Vec<String> = (0..200).map(|number| format!("key-{number}")).collect();
    while_away(&mut cluster, N3, |cluster, _| {
        cluster.fill(&names.iter().map(String::as_str).collect::<Vec<_>>());
    });
    cluster.live(Duration::from_secs(5));
    let repaired = |cluster: &Cluster| ALL.into_iter().map(|node| cluster.repaired_by(node)).sum::<usize>();
    assert!(repaired(&cluster) < 20, "one key a second");
    cluster.order_repair(&RepairOrder::PassNow);
    cluster.live(Duration::from_secs(5));
    // The other writes had asked node 3 for its clock, and were not made.
    assert!(repaired(&cluster) >= names.len() / 2, "{} of 200", repaired(&cluster));
}

/// Riak: deleted keys came back when a node that had missed the deletion returned, and its copy passed for a new one
/// (<https://docs.riak.com/riak/kv/latest/using/reference/object-deletion/>).
#[test]
fn deleted_key_is_not_brought_back_by_repair_riak() {
    for away in ALL {
        let mut cluster = Cluster::repairing();
        cluster.write_among(N1, &ALL, 1);
        while_away(&mut cluster, away, |cluster, others| {
            cluster.delete(others[0]);
            cluster.run(&others);
        });
        assert_eq!(cluster.value_on_disk(away), Some(1), "it has missed the deletion");
        cluster.live(A_WHILE);
        for node in ALL {
            let record = cluster.on_disk(node).expect("all keep the deletion");
            assert_eq!(record.content, Content::Tombstone, "node {node:?}");
            assert_eq!(cluster.read_among(node, &ALL), None);
        }
        cluster.assert_linearizable();
    }
}

/// The same with a value whose time to live has passed meanwhile. The node that was away counts its own running time, and
/// would keep the value for longer than the others.
#[test]
fn expired_key_is_not_brought_back_by_repair() {
    const TTL: Duration = Duration::from_secs(10);
    for away in ALL {
        let mut cluster = Cluster::repairing();
        let write = cluster.write_for(N1, 1, TTL);
        cluster.run(&ALL);
        cluster.stamp_of(write);
        while_away(&mut cluster, away, |cluster, _| cluster.live(4 * TTL));
        assert_eq!(cluster.value_on_disk(away), Some(1), "it has missed the deletion");
        cluster.live(A_WHILE);
        for node in ALL {
            let record = cluster.on_disk(node).expect("all keep the deletion");
            assert_eq!(record.content, Content::Tombstone, "node {node:?}");
        }
        cluster.assert_linearizable();
    }
}

/// A repair that copies what it finds spreads a record that was never chosen: Cassandra's repair of a key under lightweight
/// transactions could (<https://issues.apache.org/jira/browse/CASSANDRA-12126> is of this kind).
///
/// Here node 1 has accepted a conditional write whose coordinator died. Node 2 is about to make another one on the same base.
/// Spread as it is, the first would be read, and then replaced by the second, which has not seen it.
#[test]
fn repair_spreads_nothing_that_was_never_chosen() {
    let mut cluster = Cluster::repairing();
    cluster.deadline = Duration::from_mins(2);
    let base = Version::new(cluster.write_among(N2, &ALL, 1), None);
    let first = cluster.write_if(N1, Condition::Version(base.clone()), 2, 7);
    cluster.deliver(|sent| {
        sent.from == N1 && sent.to == N2 && sent.prepares() || sent.from == N2 && sent.to == N1 && sent.promises()
    });
    assert_eq!(cluster.value_on_disk(N1), Some(2), "node 1 alone has accepted it");
    cluster.crash(N1, Unsynced::Kept);
    cluster.take(|sent| sent.from == N1 || sent.to == N1);
    assert_eq!(cluster.reply_to(first), None);
    let second = cluster.write_if(N2, Condition::Version(base), 3, 8);
    cluster.deliver(|sent| {
        sent.from == N2 && sent.to == N3 && sent.prepares() || sent.from == N3 && sent.to == N2 && sent.promises()
    });
    let accepts = cluster.take(|sent| sent.accepts().is_some());
    assert!(accepts.iter().any(|sent| sent.to == N3), "its ballot is prepared");

    // Nodes 1 and 3 find that they differ, and hear nothing of node 2.
    cluster.start(N1);
    for _ in 0..4_000 {
        cluster.run(&[N1, N3]);
        cluster.pass(Duration::from_millis(10), &[N1, N3]);
    }
    assert!(cluster.repaired_by(N1) > 0, "they were repaired");
    assert_eq!(cluster.read_among(N3, &[N1, N3]), Some(2), "it was settled, and is the base of what follows");
    for accept in accepts {
        cluster.arrives(accept);
    }
    cluster.live(A_WHILE);
    for node in ALL {
        assert_eq!(cluster.value_on_disk(node), cluster.read_among(node, &ALL), "node {node:?}");
    }
    let failure = cluster.failure_of(second);
    assert!(matches!(failure, Some(Failure::ConditionFailed { .. })), "its base is gone: {failure:?}");
    cluster.assert_linearizable();
}

#[test]
fn nodes_that_are_equal_say_little() {
    let mut cluster = Cluster::repairing();
    cluster.fill(&["a", "b", "c", "d"]);
    cluster.live(A_WHILE);
    cluster.take(|_| true);
    let (mut questions, mut bytes) = (0, 0);
    for _ in 0..1_000 {
        cluster.pass(Duration::from_millis(100), &ALL);
        for sent in cluster.take(|_| true) {
            questions += usize::from(is_of_repair(&sent));
            bytes += sent.message.encoded_bytes();
            cluster.arrives(sent);
        }
    }
    assert!((30..=70).contains(&questions), "three pairs ask and end, each ten seconds: {questions} in 100 seconds");
    assert!(bytes < 30 * 1_200, "{bytes} bytes in 30 comparisons");
}

#[test]
fn change_while_slots_are_counted_is_counted() {
    let mut cluster = Cluster::repairing();
    cluster.write_among(N1, &ALL, 1);
    cluster.crash(N1, Unsynced::Kept);
    cluster.hold_slots();
    cluster.start(N1);
    cluster.run(&ALL);
    assert!(cluster.waits_for_slots(N1), "it counts what it has");
    cluster.write_among(N2, &ALL, 2);
    // A record of another key is on its way to the disk when the page arrives.
    cluster.hold_disk(N1);
    cluster.write_other(N3, 3);
    cluster.run(&ALL);
    assert!(cluster.waits_at_disk(N1));
    cluster.let_slots_go();
    assert!(cluster.leaves_are_true(N1), "the page shows neither");
    cluster.let_disk_go(N1);
    assert!(cluster.leaves_are_true(N1));
}

#[test]
fn leaf_is_the_sum_over_what_is_there() {
    let mut cluster = Cluster::repairing();
    cluster.live(Duration::from_secs(1));
    for value in 1..5 {
        cluster.write_among(N2, &ALL, value);
        assert!(ALL.into_iter().all(|node| cluster.leaves_are_true(node)), "after write {value}");
    }
    cluster.delete(N1);
    cluster.run(&ALL);
    assert!(ALL.into_iter().all(|node| cluster.leaves_are_true(node)), "after the deletion");
    let counts = cluster.node(N1).repair().report(cluster.now()).counts;
    assert_eq!((counts.records, counts.tombstones), (1, 1));
}

#[test]
fn batch_that_failed_and_is_on_the_disk_is_counted() {
    let mut cluster = Cluster::repairing();
    cluster.live(Duration::from_secs(1));
    cluster.write_among(N2, &ALL, 1);
    cluster.fail_batch_that_is_on_disk(N1);
    assert!(cluster.leaves_are_true(N1), "it has counted anew");
}

#[cfg(feature = "mutants")]
#[test]
fn every_broken_rule_of_repair_is_found() {
    crate::mutants::each_is_found(crate::mutants::tests![
        ChangeBesideCountIsLost: change_while_slots_are_counted_is_counted,
        LeafKeepsReplaced: leaf_is_the_sum_over_what_is_there,
        LeavesOutliveFailure: batch_that_failed_and_is_on_the_disk_is_counted,
        RepairSkipsReplica: node_that_was_away_is_level_again_without_a_read,
        RepairSpreadsUnchosen: repair_spreads_nothing_that_was_never_chosen,
    ]);
}
