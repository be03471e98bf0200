//! Named regressions: failures that others had, each played step by step against the real protocol.
//!
//! Each test names the system and where its failure is described, drives whole nodes through the schedule that it
//! takes, asserts that the schedule really happened, and then what must hold all the same. The systems named have
//! repaired what is told of here, or document it: it is a list of what is easy to get wrong, not of who is to blame.

mod cluster;
mod hedging;
mod rounds;

#[path = "../testkit/mod.rs"]
mod testkit;

use std::time::Duration;

use cluster::{Cluster, DEADLINE, N1, N2, N3, Sent, Unsynced};
use quorate::protocol::{Failure, PeerView};
use quorate::types::{Content, NodeIndex};

const ALL: [NodeIndex; 3] = [N1, N2, N3];

/// Cassandra, 2013: two writes of one timestamp are decided column by column, for the greater value. Timestamps turned
/// out to tick in milliseconds, and one row of 250 was corrupted (<https://aphyr.com/posts/294-jepsen-cassandra>).
///
/// Here two nodes draw the same clock value and the replicas get the two records in different orders. The node that
/// drew it is part of the stamp, so that every replica puts the two in the same order, and keeps one of them whole.
#[test]
fn timestamp_tie_does_not_diverge_cassandra_2013() {
    let mut cluster = Cluster::formed(3);
    // By value, the first would win.
    let (first, second) = (cluster.write(N1, 9), cluster.write(N2, 1));
    cluster.run_clock_rounds();
    assert_eq!((cluster.value_on_disk(N1), cluster.value_on_disk(N2)), (Some(9), Some(1)), "each has its own first");
    cluster.deliver(|sent| sent.from == N1 && sent.to == N3);
    assert_eq!(cluster.value_on_disk(N3), Some(9), "the third has them in the order that the second has not");
    cluster.run(&ALL);

    let (first, second) = (cluster.stamp_of(first), cluster.stamp_of(second));
    assert_eq!(first.clock, second.clock, "the two drew one clock value");
    assert!(first < second, "and yet one is above the other");
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
/// Here the clock of the node that writes last is far behind. It asks a majority before it draws a stamp, so that the
/// stamp is above everything that ended before.
#[test]
fn acknowledged_write_is_not_lost_to_an_older_one_riak_2013() {
    let mut cluster = Cluster::formed(3);
    let mut before = cluster.write_among(N1, &[N1, N2], 1);
    for value in 2..10 {
        before = cluster.write_among(N1, &[N1, N2], value);
    }
    assert!(cluster.node(N3).clock() < before.clock, "the clock of the node that writes next is behind");

    let last = cluster.write_among(N3, &[N2, N3], 10);
    assert!(last > before, "{last} is above {before}");
    // All that was meant for the third node while it was cut off arrives now.
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
/// acknowledged. No time is part of any decision: the records bear the stamps that they had, and lose to greater ones.
#[test]
fn long_pause_takes_no_commit_back_aerospike_3_99() {
    let mut cluster = Cluster::formed(3);
    // Its client waits for longer than the pause: else its first turn after the pause would end the write.
    cluster.deadline = Duration::from_hours(2);
    let paused = cluster.write(N1, 1);
    cluster.deadline = DEADLINE;
    cluster.run_clock_rounds();
    cluster.write_among(N2, &[N2, N3], 2);
    let committed = cluster.write_among(N3, &[N2, N3], 3);
    cluster.pass(Duration::from_hours(1), &[N2, N3]);
    assert_eq!(cluster.reply_to(paused), None, "it wakes in the middle of its write");
    assert_eq!(cluster.value_on_disk(N1), Some(1), "and knows of nothing else");

    cluster.deliver(|sent| sent.from == N1);
    assert_eq!(
        cluster.stores_of(1).iter().filter(|sent| sent.from == N1).count(),
        2,
        "its records came after the commit"
    );
    assert_eq!(cluster.read_among(N2, &[N2, N3]), Some(3), "and took nothing's place");
    cluster.run(&ALL);
    assert!(cluster.stamp_of(paused) < committed);
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(3));
    }
    // What it writes next is above what it slept through.
    assert!(cluster.write_among(N1, &[N1, N2], 4) > committed);
    assert_eq!(cluster.read_among(N3, &[N2, N3]), Some(4));
    cluster.assert_linearizable();
}

/// Aerospike 3.99.0.3, 2018: a client could be told that its write did not succeed when in fact it had
/// (<https://jepsen.io/analyses/aerospike-3-99-0-3>).
///
/// Here "not applied" is said only of a write without a stamp, which no replica was ever sent; whatever comes late to
/// it counts for nothing.
#[test]
fn write_that_failed_never_shows_aerospike_3_99() {
    let mut cluster = Cluster::formed(3);
    let failed = cluster.write(N1, 1);
    cluster.pass(DEADLINE, &[N1]);
    assert!(matches!(cluster.failure_of(failed), Some(Failure::NotApplied(_))), "{:?}", cluster.reply_to(failed));

    // Its clock requests were under way all the time, and are answered now.
    let answered = |sent: &Sent| sent.is_answer() && sent.to == N1;
    cluster.deliver(|sent| !answered(sent));
    let answers = cluster.take(answered);
    assert_eq!(answers.len(), 2, "a majority answers too late");
    for answer in answers {
        cluster.arrives(answer);
    }
    cluster.run(&ALL);
    assert!(cluster.stores_of(1).is_empty(), "nobody was ever asked to store it");
    for node in ALL {
        assert_eq!(cluster.on_disk(node), None);
        assert_eq!(cluster.read_among(node, &ALL), None);
    }
    cluster.assert_linearizable();
}

/// The other half of the same: a write that may show later.
///
/// Here only its coordinator has the record when its time is up. The client is told that the outcome is unknown; nobody
/// sees the write, then somebody does, and from then on everybody.
#[test]
fn write_that_may_show_later_is_never_called_failed_aerospike_3_99() {
    let mut cluster = Cluster::formed(3);
    let unknown = cluster.write(N1, 1);
    cluster.run_clock_rounds();
    assert_eq!(cluster.take(|sent| sent.stores().is_some()).len(), 2, "both copies are lost");
    cluster.pass(DEADLINE, &[N1]);
    assert!(matches!(cluster.failure_of(unknown), Some(Failure::OutcomeUnknown(_))), "{:?}", cluster.reply_to(unknown));

    assert_eq!(cluster.read_among(N2, &[N2, N3]), None, "a majority does not have it");
    assert_eq!(cluster.read_among(N3, &[N1, N3]), Some(1), "another has one that does");
    assert!(cluster.wrote_back(N3));
    assert_eq!(cluster.read_among(N2, &[N2, N3]), Some(1), "what was seen once stays seen");
    cluster.assert_linearizable();
}

/// etcd, 2014: a node that believed itself the leader answered reads from its own state, so that one that was cut off
/// could answer with what had been overwritten elsewhere (<https://github.com/etcd-io/etcd/issues/741>,
/// <https://aphyr.com/posts/316-jepsen-etcd-and-consul>).
///
/// Here the node that is cut off has a durable record, and does not answer with it: no read ends without a majority.
#[test]
fn isolated_node_serves_no_stale_read_etcd_2014() {
    let mut cluster = Cluster::formed(3);
    cluster.write_among(N1, &ALL, 1);
    cluster.write_among(N2, &[N2, N3], 2);
    assert_eq!(cluster.value_on_disk(N1), Some(1), "the node that is cut off holds what was overwritten");
    assert_eq!(cluster.node(N1).peer_view(N2), PeerView::Talking, "and has not noticed that it is cut off");

    let read = cluster.read(N1);
    for _ in 0..4 {
        cluster.pass(DEADLINE / 5, &[N1]);
        assert_eq!(cluster.reply_to(read), None);
    }
    cluster.pass(DEADLINE / 5, &[N1]);
    assert!(matches!(cluster.failure_of(read), Some(Failure::NoQuorum(_))), "{:?}", cluster.reply_to(read));

    assert_eq!(cluster.read_among(N1, &[N1, N3]), Some(2), "once it reaches anybody it answers what is true");
    cluster.assert_linearizable();
}

/// etcd, 2025: reads were stale after a process was paused: a request for a read index was sent again under its old id,
/// so that answers left over from its first try could confirm an outdated one
/// (<https://github.com/etcd-io/etcd/issues/20418>, repaired by <https://github.com/etcd-io/etcd/pull/21399>).
///
/// Here a majority's answers to an earlier read arrive in the middle of a later one, which a write lies before. Answers
/// are matched by operation and round, so that these count for nothing.
#[test]
fn read_after_a_pause_is_not_stale_etcd_20418() {
    old_answers_count_for_nothing(false);
}

/// The same across a restart, where the later read has the very number of the earlier one: answers are matched by the
/// incarnation of the process too.
#[test]
fn read_after_a_restart_is_not_stale_etcd_20418() {
    old_answers_count_for_nothing(true);
}

fn old_answers_count_for_nothing(restart: bool) {
    let mut cluster = Cluster::formed(3);
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
        // All but what would tell it of the write.
        cluster.deliver(|sent| sent.stores().is_none());
        cluster.take(|sent| sent.stores().is_some());
    }
    let later = cluster.read(N1);
    let requests = cluster.take(|sent| sent.from == N1 && sent.operation().is_some());
    assert_eq!(requests.len(), 2, "both peers are asked again");
    assert_eq!(requests[0].operation() == earlier_number, restart, "a new incarnation counts its operations anew");
    assert_eq!(cluster.value_on_disk(N1), Some(1), "with these answers it would be a majority for the old value");
    for answer in old_answers {
        cluster.arrives(answer);
    }
    assert_eq!(cluster.reply_to(later), None, "it still waits for answers of its own");

    for request in requests {
        cluster.arrives(request);
    }
    cluster.run(&ALL);
    assert_eq!(cluster.seen_by(later), Some(2));
    cluster.assert_linearizable();
}

/// etcd, 2022: a cluster of one member answered a write before its log was on disk, and a crash right after could lose
/// it (<https://github.com/etcd-io/etcd/issues/14370>).
///
/// Here a cluster of one dies with a write at its disk, and again right after an acknowledgement. Nothing is
/// acknowledged before its batch is durable, nor shown to anybody.
#[test]
fn acknowledged_write_outlives_a_crash_etcd_14370() {
    let mut cluster = Cluster::formed(1);
    cluster.hold_disk(N1);
    let lost = cluster.write(N1, 1);
    assert!(cluster.waits_at_disk(N1), "all that is left to do is to make it durable");
    assert_eq!(cluster.reply_to(lost), None, "and until then nothing is said");
    assert_eq!(cluster.read_among(N1, &[]), None, "nor shown");
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

    // A batch that made it to the disk although nobody was told so shows whole, and newer stamps are above it.
    cluster.hold_disk(N1);
    cluster.write(N1, 3);
    cluster.crash(N1, Unsynced::Kept);
    cluster.start(N1);
    assert_eq!(cluster.read_among(N1, &[]), Some(3));
    assert!(cluster.write_among(N1, &[], 4) > kept);
    assert_eq!(cluster.read_among(N1, &[]), Some(4));
    cluster.assert_linearizable();
}

/// NATS JetStream 2.12.1, 2025: writes were acknowledged at once and flushed every two minutes, so that a loss of power
/// lost acknowledged ones (<https://jepsen.io/analyses/nats-2.12.1>).
///
/// Here the disks of a majority are as lazy, and the power fails before they have flushed. A replica that has not
/// flushed has not acknowledged, so that no majority has.
#[test]
fn lazy_disks_lose_nothing_acknowledged_nats_2_12_1() {
    let mut cluster = Cluster::formed(3);
    cluster.hold_disk(N2);
    cluster.hold_disk(N3);
    let write = cluster.write(N1, 1);
    cluster.run(&ALL);
    assert!(cluster.waits_at_disk(N2) && cluster.waits_at_disk(N3), "all replicas have it, two in memory alone");
    assert_eq!(cluster.value_on_disk(N1), Some(1));
    assert_eq!(cluster.reply_to(write), None, "one flushed copy of three is no majority");

    for node in [N2, N3] {
        cluster.crash(node, Unsynced::Lost);
        cluster.start(node);
    }
    assert_eq!((cluster.on_disk(N2), cluster.on_disk(N3)), (None, None), "the power took both copies");
    cluster.deliver(|sent| sent.stores().is_none());
    assert_eq!(cluster.reply_to(write), None);

    // They have met again and are sent it anew; one disk is lazy still.
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

/// TiDB 2.1.7, 2019: transactions that met a conflict were retried by the server, which applied their writes again on
/// top of what they conflicted with, and lost updates (<https://jepsen.io/blog/2019-06-12-tidb-2.1.7>).
///
/// Here a write was seen, then overwritten, and only then resent again and again by its coordinator. A write has one
/// stamp and is only ever resent under it, so that it cannot be applied a second time above what came after it.
#[test]
fn server_that_retries_applies_once_tidb_2_1_7() {
    let mut cluster = Cluster::formed(3);
    let retried = cluster.write(N1, 1);
    cluster.run_clock_rounds();
    let lose_copies = |cluster: &mut Cluster| cluster.take(|sent| sent.stores().is_some()).len();
    assert_eq!(lose_copies(&mut cluster), 2);
    assert_eq!(cluster.read_among(N1, &[N1, N3]), Some(1), "it is applied");
    let newer = cluster.write_among(N2, &[N2, N3], 2);
    assert_eq!(cluster.read_among(N3, &[N2, N3]), Some(2), "and overwritten");

    // The copies of the newer write are lost on their way to the node that retries, so that it knows of no conflict.
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

/// Cassandra documents it: a tombstone is dropped after a grace period, and a replica that missed the deletion and
/// comes back later brings the deleted value back to all
/// (<https://cassandra.apache.org/doc/latest/cassandra/managing/operating/compaction/tombstones.html>).
///
/// Here a replica misses the deletion and comes back a month later, when nobody who took part in it still runs. The
/// tombstone is kept, and is above the value wherever the two meet.
#[test]
fn deleted_value_does_not_return() {
    let mut cluster = Cluster::formed(3);
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
    assert_eq!(cluster.read_among(N3, &[N1, N3]), None, "and meets one that has the tombstone");
    assert!(cluster.wrote_back(N3), "which takes the value's place");
    for node in ALL {
        let record = cluster.on_disk(node).expect("a tombstone is kept");
        assert_eq!((&record.stamp, &record.content), (&delete, &Content::Tombstone), "node {node:?}");
        assert_eq!(cluster.read_among(node, &ALL), None);
    }
    cluster.assert_linearizable();
}
