//! Named regressions: failures of other systems, each played step by step against the real protocol.
//!
//! Each test names the system and the description of its failure. It drives whole nodes through the same schedule, asserts
//! that the schedule really happened, and then asserts the property that failed there. The systems named have repaired
//! these failures, or document them: the list shows mistakes that are easy to make, and blames nobody.

mod cluster;
mod conditional;
mod epoch_floor;
mod expiry;
mod hedging;
mod list;
mod members;
mod members_reads;
mod members_takeover;
mod members_votes;
#[cfg(feature = "mutants")]
mod mutants;
mod repair;
mod rounds;
mod tables;
mod tables_at_random;
mod tombstones;
mod watch_lists;
mod watches;

#[path = "../testkit/mod.rs"]
mod testkit;

use std::time::Duration;

use cluster::{Cluster, DEADLINE, N1, N2, N3, Sent, Unsynced};
use quorate::protocol::{Failure, PeerView};
use quorate::types::{Content, NodeIndex};

const ALL: [NodeIndex; 3] = [N1, N2, N3];

/// Cassandra, 2013: of two writes with one timestamp, the greater value won in each column. Timestamps had a resolution of
/// milliseconds, and one row of 250 was corrupted (<https://aphyr.com/posts/294-jepsen-cassandra>).
///
/// Here two nodes draw the same clock value, and the replicas get the two records in different orders. The writer is part
/// of the stamp, so that every replica puts the two records in the same order and keeps one of them whole.
#[test]
fn timestamp_tie_does_not_diverge_cassandra_2013() {
    let mut cluster = Cluster::bootstrapped(3);
    // If the value decided, the first would win.
    let (first, second) = (cluster.write(N1, 9), cluster.write(N2, 1));
    cluster.run_clock_rounds();
    assert_eq!((cluster.value_on_disk(N1), cluster.value_on_disk(N2)), (Some(9), Some(1)), "each has its own first");
    cluster.deliver(|sent| sent.from == N1 && sent.to == N3);
    assert_eq!(cluster.value_on_disk(N3), Some(9), "node 3 gets them in the other order than node 2");
    cluster.run(&ALL);

    let (first, second) = (cluster.stamp_of(first), cluster.stamp_of(second));
    assert_eq!(first.clock, second.clock, "the two drew one clock value");
    assert!(first < second, "and the writer decides");
    for node in ALL {
        let record = cluster.on_disk(node).expect("all have one");
        assert_eq!((&record.stamp, cluster.value_on_disk(node)), (&second, Some(1)), "node {node:?}");
        assert_eq!(cluster.read_among(node, &ALL), Some(1));
    }
    cluster.assert_linearizable();
}

/// Riak, 2013: last-write-wins dropped 30 to 70 % of writes although each was acknowledged, even at R=W=PR=PW=ALL and
/// behind a perfect lock: a later write with a smaller timestamp loses to an earlier one
/// (<https://aphyr.com/posts/285-call-me-maybe-riak>).
///
/// Here the clock of the node that writes last is far behind. The node asks a majority for their clocks before it draws a
/// stamp, so that the stamp is above every write that has ended.
#[test]
fn acknowledged_write_is_not_lost_to_an_older_one_riak_2013() {
    let mut cluster = Cluster::bootstrapped(3);
    let mut before = cluster.write_among(N1, &[N1, N2], 1);
    for value in 2..10 {
        before = cluster.write_among(N1, &[N1, N2], value);
    }
    assert!(cluster.node(N3).clock() < before.clock, "the clock of the node that writes next is behind");

    let last = cluster.write_among(N3, &[N2, N3], 10);
    assert!(last > before, "{last} is above {before}");
    // All messages for node 3 from the time when it was cut off arrive now.
    cluster.run(&ALL);
    assert!(cluster.stores_of(9).iter().any(|sent| sent.to == N3), "older records came after the newer one");
    for node in ALL {
        assert_eq!(cluster.value_on_disk(node), Some(10), "node {node:?}");
        assert_eq!(cluster.read_among(node, &ALL), Some(10));
    }
    cluster.assert_linearizable();
}

/// Aerospike 3.99.0.3, 2018: a process paused, or a clock off, by more than 27 seconds could lose committed updates
/// (<https://jepsen.io/analyses/aerospike-3-99-0-3>).
///
/// Here a coordinator pauses for an hour between its two rounds, and its records arrive after later writes were
/// acknowledged. No decision depends on time: the records keep their stamps, and lose to greater ones.
#[test]
fn long_pause_takes_no_commit_back_aerospike_3_99() {
    let mut cluster = Cluster::bootstrapped(3);
    // The client waits for longer than the pause. Otherwise the first turn after the pause would end the write.
    cluster.deadline = Duration::from_hours(2);
    let paused = cluster.write(N1, 1);
    cluster.deadline = DEADLINE;
    cluster.run_clock_rounds();
    cluster.write_among(N2, &[N2, N3], 2);
    let committed = cluster.write_among(N3, &[N2, N3], 3);
    cluster.pass(Duration::from_hours(1), &[N2, N3]);
    assert_eq!(cluster.reply_to(paused), None, "node 1 wakes in the middle of its write");
    assert_eq!(cluster.value_on_disk(N1), Some(1), "and knows of no other write");

    cluster.deliver(|sent| sent.from == N1);
    assert_eq!(
        cluster.stores_of(1).iter().filter(|sent| sent.from == N1).count(),
        2,
        "its records came after the commit"
    );
    assert_eq!(cluster.read_among(N2, &[N2, N3]), Some(3), "and replaced nothing");
    cluster.run(&ALL);
    assert!(cluster.stamp_of(paused) < committed);
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(3));
    }
    // Its next write is above the writes that it missed.
    assert!(cluster.write_among(N1, &[N1, N2], 4) > committed);
    assert_eq!(cluster.read_among(N3, &[N2, N3]), Some(4));
    cluster.assert_linearizable();
}

/// Aerospike 3.99.0.3, 2018: a client could be told that its write did not succeed when in fact it had
/// (<https://jepsen.io/analyses/aerospike-3-99-0-3>).
///
/// Here a node says "not applied" only of a write that has no stamp and was sent to no replica. Late answers to it do not
/// count.
#[test]
fn write_that_failed_never_shows_aerospike_3_99() {
    let mut cluster = Cluster::bootstrapped(3);
    let failed = cluster.write(N1, 1);
    cluster.pass(DEADLINE, &[N1]);
    assert!(matches!(cluster.failure_of(failed), Some(Failure::NotApplied(_))), "{:?}", cluster.reply_to(failed));

    // Its clock requests were in flight all the time, and are answered now.
    let answered = |sent: &Sent| sent.is_answer() && sent.to == N1;
    cluster.deliver(|sent| !answered(sent));
    let answers = cluster.take(answered);
    assert_eq!(answers.len(), 2, "a majority answers too late");
    for answer in answers {
        cluster.arrives(answer);
    }
    cluster.run(&ALL);
    assert!(cluster.stores_of(1).is_empty(), "no replica was ever asked to store it");
    for node in ALL {
        assert_eq!(cluster.on_disk(node), None);
        assert_eq!(cluster.read_among(node, &ALL), None);
    }
    cluster.assert_linearizable();
}

/// The other half of the same: a write that may show later.
///
/// Here only the coordinator has the record at the deadline. The client is told that the outcome is unknown. The first read
/// does not see the write; the second does, and so does every later one.
#[test]
fn write_that_may_show_later_is_never_called_failed_aerospike_3_99() {
    let mut cluster = Cluster::bootstrapped(3);
    let unknown = cluster.write(N1, 1);
    cluster.run_clock_rounds();
    assert_eq!(cluster.take(|sent| sent.stores().is_some()).len(), 2, "both copies are lost");
    cluster.pass(DEADLINE, &[N1]);
    assert!(matches!(cluster.failure_of(unknown), Some(Failure::OutcomeUnknown(_))), "{:?}", cluster.reply_to(unknown));

    assert_eq!(cluster.read_among(N2, &[N2, N3]), None, "neither replica of this majority has it");
    assert_eq!(cluster.read_among(N3, &[N1, N3]), Some(1), "one replica of this majority has it");
    assert!(cluster.wrote_back(N3));
    assert_eq!(cluster.read_among(N2, &[N2, N3]), Some(1), "every later read sees it");
    cluster.assert_linearizable();
}

/// etcd, 2014: a node that believed itself the leader answered reads from its own state. A leader that was cut off could
/// answer with a value that had been overwritten elsewhere (<https://github.com/etcd-io/etcd/issues/741>,
/// <https://aphyr.com/posts/316-jepsen-etcd-and-consul>).
///
/// Here a node that is cut off has a durable record, and does not answer with it: no read ends without a majority.
#[test]
fn isolated_node_serves_no_stale_read_etcd_2014() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    cluster.write_among(N2, &[N2, N3], 2);
    assert_eq!(cluster.value_on_disk(N1), Some(1), "the node that is cut off holds the old value");
    assert_eq!(cluster.node(N1).peer_view(N2), PeerView::Talking, "and has not noticed that it is cut off");

    let read = cluster.read(N1);
    for _ in 0..4 {
        cluster.pass(DEADLINE / 5, &[N1]);
        assert_eq!(cluster.reply_to(read), None);
    }
    cluster.pass(DEADLINE / 5, &[N1]);
    assert!(matches!(cluster.failure_of(read), Some(Failure::NoQuorum(_))), "{:?}", cluster.reply_to(read));

    assert_eq!(cluster.read_among(N1, &[N1, N3]), Some(2), "once it reaches a peer, it answers the latest value");
    cluster.assert_linearizable();
}

/// etcd, 2025: reads were stale after a process was paused. A request for a read index was sent again under its old id, so
/// that late answers to the first try could confirm an outdated index
/// (<https://github.com/etcd-io/etcd/issues/20418>, repaired by <https://github.com/etcd-io/etcd/pull/21399>).
///
/// Here a majority's answers to an earlier read arrive during a later read, and a write ended between the two reads. Answers
/// are matched by operation and round, so that the late answers do not count.
#[test]
fn read_after_a_pause_is_not_stale_etcd_20418() {
    old_answers_count_for_nothing(false);
}

/// The same across a restart, after which the later read has the same number as the earlier one: answers are matched by
/// incarnation too.
#[test]
fn read_after_a_restart_is_not_stale_etcd_20418() {
    old_answers_count_for_nothing(true);
}

fn old_answers_count_for_nothing(restart: bool) {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N2, &ALL, 1);
    let earlier = cluster.read(N1);
    cluster.deliver(|sent| !sent.is_answer());
    let old_answers = cluster.take(Sent::is_answer);
    assert_eq!(old_answers.len(), 2, "both peers answered");
    let earlier_number = old_answers[0].operation();
    cluster.arrives(old_answers[0].clone());
    assert_eq!(cluster.seen_by(earlier), Some(1));

    cluster.write_among(N2, &[N2, N3], 2);
    cluster.take(|sent| sent.stores().is_some());
    if restart {
        cluster.crash(N1, Unsynced::Lost);
        cluster.start(N1);
        // All messages but those that would bring it the write.
        cluster.deliver(|sent| sent.stores().is_none());
        cluster.take(|sent| sent.stores().is_some());
    }
    let later = cluster.read(N1);
    let requests = cluster.take(|sent| sent.from == N1 && sent.operation().is_some());
    assert_eq!(requests.len(), 2, "both peers are asked again");
    assert_eq!(requests[0].operation() == earlier_number, restart, "a new incarnation counts its operations anew");
    assert_eq!(cluster.value_on_disk(N1), Some(1), "with the old answers, a majority would hold the old value");
    for answer in old_answers {
        cluster.arrives(answer);
    }
    assert_eq!(cluster.reply_to(later), None, "it still waits for answers to its own requests");

    for request in requests {
        cluster.arrives(request);
    }
    cluster.run(&ALL);
    assert_eq!(cluster.seen_by(later), Some(2));
    cluster.assert_linearizable();
}

/// etcd, 2022: a cluster of one member answered a write before its log was on disk, and a crash right afterwards could lose
/// the write (<https://github.com/etcd-io/etcd/issues/14370>).
///
/// Here a cluster of one node crashes with a write in flight to its disk, and again right after an acknowledgement. No
/// write is acknowledged or shown before its batch is durable.
#[test]
fn acknowledged_write_outlives_a_crash_etcd_14370() {
    let mut cluster = Cluster::bootstrapped(1);
    cluster.hold_disk(N1);
    let lost = cluster.write(N1, 1);
    assert!(cluster.waits_at_disk(N1), "its batch is being written");
    assert_eq!(cluster.reply_to(lost), None, "no acknowledgement before the batch is durable");
    assert_eq!(cluster.read_among(N1, &[]), None, "no read shows it either");
    cluster.crash(N1, Unsynced::Lost);
    cluster.start(N1);
    assert_eq!(cluster.read_among(N1, &[]), None);

    cluster.hold_disk(N1);
    let kept = cluster.write(N1, 2);
    assert_eq!(cluster.reply_to(kept), None);
    cluster.let_disk_go(N1);
    let kept = cluster.stamp_of(kept);
    cluster.crash(N1, Unsynced::Lost);
    cluster.start(N1);
    assert_eq!(cluster.read_among(N1, &[]), Some(2));

    // A batch that reached the disk although its node was never told so is read whole, and newer stamps are above it.
    cluster.hold_disk(N1);
    cluster.write(N1, 3);
    cluster.crash(N1, Unsynced::Kept);
    cluster.start(N1);
    assert_eq!(cluster.read_among(N1, &[]), Some(3));
    assert!(cluster.write_among(N1, &[], 4) > kept);
    assert_eq!(cluster.read_among(N1, &[]), Some(4));
    cluster.assert_linearizable();
}

/// NATS JetStream 2.12.1, 2025: writes were acknowledged at once and flushed every two minutes, so that a loss of power lost
/// acknowledged writes (<https://jepsen.io/analyses/nats-2.12.1>).
///
/// Here the disks of a majority are as slow, and the power fails before they have flushed. A replica that has not flushed
/// has not acknowledged, so that no majority has.
#[test]
fn lazy_disks_lose_nothing_acknowledged_nats_2_12_1() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.hold_disk(N2);
    cluster.hold_disk(N3);
    let write = cluster.write(N1, 1);
    cluster.run(&ALL);
    assert!(
        cluster.waits_at_disk(N2) && cluster.waits_at_disk(N3),
        "all replicas have it, two of them in memory alone"
    );
    assert_eq!(cluster.value_on_disk(N1), Some(1));
    assert_eq!(cluster.reply_to(write), None, "one flushed copy of three is no majority");

    for node in [N2, N3] {
        cluster.crash(node, Unsynced::Lost);
        cluster.start(node);
    }
    assert_eq!((cluster.on_disk(N2), cluster.on_disk(N3)), (None, None), "the power took both copies");
    cluster.deliver(|sent| sent.stores().is_none());
    assert_eq!(cluster.reply_to(write), None);

    // Both are greeted again and are sent the record again. One disk is still slow.
    cluster.hold_disk(N3);
    cluster.run(&ALL);
    cluster.stamp_of(write);
    assert_eq!((cluster.value_on_disk(N2), cluster.on_disk(N3)), (Some(1), None), "acknowledged by two disks");

    for node in ALL {
        cluster.crash(node, Unsynced::Lost);
    }
    for node in ALL {
        cluster.start(node);
    }
    cluster.run(&ALL);
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(1));
    }
    cluster.assert_linearizable();
}

/// TiDB 2.1.7, 2019: the server retried transactions that met a conflict. It applied their writes again over the
/// conflicting ones, and updates were lost (<https://jepsen.io/blog/2019-06-12-tidb-2.1.7>).
///
/// Here a write is seen, then overwritten, and only then resent several times by its coordinator. A write is only ever
/// resent under its one stamp, so that it cannot replace a later write.
#[test]
fn server_that_retries_applies_once_tidb_2_1_7() {
    let mut cluster = Cluster::bootstrapped(3);
    let retried = cluster.write(N1, 1);
    cluster.run_clock_rounds();
    let lose_copies = |cluster: &mut Cluster| cluster.take(|sent| sent.stores().is_some()).len();
    assert_eq!(lose_copies(&mut cluster), 2);
    assert_eq!(cluster.read_among(N1, &[N1, N3]), Some(1), "it is applied");
    let newer = cluster.write_among(N2, &[N2, N3], 2);
    assert_eq!(cluster.read_among(N3, &[N2, N3]), Some(2), "and overwritten");

    // The newer write does not reach the node that retries, so that it knows of no conflict.
    let copies_before = cluster.stores_of(1).len();
    for _ in 0..3 {
        lose_copies(&mut cluster);
        cluster.pass(DEADLINE / 5, &[N1]);
    }
    assert!(cluster.stores_of(1).len() >= copies_before + 4, "the server did retry");
    assert_eq!((cluster.reply_to(retried), cluster.value_on_disk(N1)), (None, Some(1)));
    cluster.run(&ALL);

    let stamp = cluster.stamp_of(retried);
    assert!(stamp < newer);
    let stamps = cluster.stores_of(1).into_iter().filter_map(Sent::stores).map(|record| &record.stamp);
    assert!(stamps.clone().all(|resent| *resent == stamp), "{:?}", stamps.collect::<Vec<_>>());
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(2));
    }
    cluster.assert_linearizable();
}

/// Cassandra documents it: a tombstone is dropped after a grace period. A replica that missed the deletion and comes back
/// later brings the deleted value back
/// (<https://cassandra.apache.org/doc/latest/cassandra/managing/operating/compaction/tombstones.html>).
///
/// Here a replica misses the deletion and comes back a month later, after the other two have restarted. They have kept the
/// tombstone, and its stamp is above that of the value.
#[test]
fn deleted_value_does_not_return() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    let delete = cluster.delete(N1);
    cluster.run(&[N1, N2]);
    let delete = cluster.stamp_of(delete);
    cluster.take(|sent| sent.stores().is_some());
    cluster.pass(Duration::from_hours(31 * 24), &[N1, N2]);
    for node in [N1, N2] {
        cluster.crash(node, Unsynced::Lost);
        cluster.start(node);
    }
    cluster.run(&[N1, N2]);
    assert_eq!(cluster.read_among(N2, &[N1, N2]), None);

    assert_eq!(cluster.value_on_disk(N3), Some(1), "the replica that comes back still has the value");
    assert_eq!(cluster.read_among(N3, &[N1, N3]), None, "the other replica has the tombstone");
    assert!(cluster.wrote_back(N3), "and the tombstone replaces the value");
    for node in ALL {
        let record = cluster.on_disk(node).expect("a tombstone is kept");
        assert_eq!((&record.stamp, &record.content), (&delete, &Content::Tombstone), "node {node:?}");
        assert_eq!(cluster.read_among(node, &ALL), None);
    }
    cluster.assert_linearizable();
}
