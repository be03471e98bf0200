//! Keys that expire: what a time to live must never do, played step by step.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::time::Duration;

use crate::cluster::{Cluster, N1, N2, N3, Unsynced};
use quorate::protocol::{Failure, Reply};
use quorate::types::{Change, Content, NodeIndex};

const ALL: [NodeIndex; 3] = [N1, N2, N3];
const TTL: Duration = Duration::from_secs(10);
/// The first moment at which a value is certainly past its time: counts of running time are rounded down.
const PAST_TTL: Duration = Duration::from_millis(10_001);
const SECOND: Duration = Duration::from_secs(1);

/// Lets the nodes live for so long, second by second: they look for what expires, and act.
fn live(cluster: &mut Cluster, span: Duration, nodes: &[NodeIndex]) {
    for _ in 0..span.as_secs() {
        cluster.pass(SECOND, nodes);
        cluster.run(nodes);
    }
}

/// Reads while the third node is cut off: its silence is noticed after some time.
fn read_among_two(cluster: &mut Cluster, at: NodeIndex, nodes: &[NodeIndex]) -> Option<u64> {
    let read = cluster.read(at);
    cluster.run(nodes);
    cluster.pass(SECOND / 2, &[at]);
    cluster.run(nodes);
    cluster.seen_by(read)
}

fn is_deleted(cluster: &Cluster, node: NodeIndex) -> bool {
    cluster.on_disk(node).is_some_and(|record| record.content == Content::Tombstone)
}

#[test]
fn key_expires_for_everybody_at_one_moment_and_not_before() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_for(N1, 1, TTL);
    cluster.run(&ALL);
    cluster.stamp_of(write);
    live(&mut cluster, TTL.checked_sub(SECOND).unwrap(), &ALL);
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(1), "its time has not passed");
        let left = cluster.ttl_left_to_last_read();
        assert!(left > Duration::ZERO && left <= SECOND, "{left:?} is left");
    }
    live(&mut cluster, 3 * SECOND, &ALL);
    assert!(ALL.into_iter().all(|node| is_deleted(&cluster, node)), "a sweep deleted it everywhere");
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), None);
    }
    cluster.assert_linearizable();
}

/// Redis, until 3.2: replicas answered values whose time had passed, because the primary alone deletes. Two reads of two
/// nodes disagreed for as long as the primary took (<https://github.com/redis/redis/issues/1768>).
///
/// Here the replica that has kept the value longest says that its time has passed, and the others do not. The read deletes
/// the value at a majority before it answers that there is none.
#[test]
fn read_that_finds_a_key_expired_makes_it_so_for_the_next_one_redis_1768() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_for(N1, 1, TTL);
    cluster.run_clock_rounds();
    // The others get it later, so that they have kept it for a shorter time.
    cluster.pass(SECOND * 4, &[]);
    cluster.run(&ALL);
    cluster.stamp_of(write);
    cluster.pass(SECOND * 7, &[]);
    assert_eq!(read_among_two(&mut cluster, N1, &[N1, N2]), None, "node 1 has kept it for eleven seconds");
    assert_eq!(read_among_two(&mut cluster, N3, &[N2, N3]), None, "nodes 2 and 3 have kept it for seven");
    cluster.assert_linearizable();
}

/// Bitcask, until 1.7: a read deleted an expired entry without a condition, although the entry could have been renewed since
/// it was read (<https://github.com/basho/bitcask/pull/192>).
///
/// Here the deletion names the version that it deletes.
#[test]
fn expiry_deletes_no_renewal_bitcask_191() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_for(N1, 1, TTL);
    cluster.run(&ALL);
    cluster.stamp_of(write);
    cluster.pass(TTL + SECOND, &[]);
    // Nodes 2 and 3 hold the renewal. Node 1 does not, and deletes what it holds.
    let renewal = cluster.write_for(N2, 2, 4 * TTL);
    cluster.run(&[N2, N3]);
    cluster.stamp_of(renewal);
    cluster.take(|sent| sent.to == N1 && sent.stores().is_some());
    assert_eq!(cluster.value_on_disk(N1), Some(1));
    // Each replica leaves the deletion to those with a place before it.
    live(&mut cluster, 14 * SECOND, &ALL);
    assert_eq!(cluster.value_on_disk(N1), Some(2), "node 1, whose deletion failed, has read what it lacked");
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(2), "the renewal stands");
    }
    cluster.assert_linearizable();
}

/// The time of a renewal is its own, and not the rest of what it replaced.
#[test]
fn renewal_lives_as_long_as_its_own_time() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_for(N1, 1, TTL);
    cluster.run(&ALL);
    cluster.stamp_of(write);
    cluster.pass(TTL.checked_sub(SECOND).unwrap(), &[]);
    let renewal = cluster.write_for(N1, 2, TTL);
    cluster.run(&ALL);
    cluster.stamp_of(renewal);
    live(&mut cluster, 5 * SECOND, &ALL);
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(2));
    }
    cluster.assert_linearizable();
}

/// Additions that keep the time to live go on after it has passed. The first of them finds nothing: else each would be a new
/// version, which the deletion of the version before it does not concern.
#[test]
fn additions_do_not_keep_a_counter_alive() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_for(N1, 5, TTL);
    cluster.run(&ALL);
    cluster.stamp_of(write);
    // Node 3 has the first place to delete it. The others leave the deletion to it for five seconds.
    cluster.crash(N3, Unsynced::Kept);
    let alive = [N1, N2];
    let mut sums = Vec::new();
    for name in 1..=5 {
        cluster.pass(4 * SECOND, &[]);
        let change = Change::Add { delta: 1, since: None, ttl: None, keeps_ttl: true };
        let add = cluster.change(N1, change, name, false);
        cluster.run(&alive);
        sums.push(cluster.sum_of(add));
    }
    assert_eq!(sums, [6, 7, 1, 2, 3], "ten seconds have passed before the third");
    assert!(alive.into_iter().all(|node| cluster.on_disk(node).is_some_and(|record| record.ttl.is_none())));
    cluster.assert_linearizable();
}

/// An addition that is not asked to keep the time to live makes a number without one.
#[test]
fn addition_that_keeps_no_time_to_live_makes_a_permanent_number() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_for(N1, 5, TTL);
    cluster.run(&ALL);
    cluster.stamp_of(write);
    let change = Change::Add { delta: 1, since: None, ttl: None, keeps_ttl: false };
    let add = cluster.change(N2, change, 1, false);
    cluster.run(&ALL);
    assert_eq!(cluster.sum_of(add), 6);
    live(&mut cluster, TTL + 8 * SECOND, &ALL);
    assert!(ALL.into_iter().all(|node| cluster.value_on_disk(node) == Some(6)));
    cluster.assert_linearizable();
}

/// Riak on Bitcask: each node expires values by its own time, and repair can bring them back from a node whose time is
/// behind (<https://github.com/basho/riak_repl/issues/328>).
///
/// Here a value expires by a deletion at a majority, which a replica that comes back late gets like any other.
#[test]
fn expired_key_does_not_come_back_riak_repl_328() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_for(N1, 1, TTL);
    cluster.run(&ALL);
    cluster.stamp_of(write);
    cluster.crash(N3, Unsynced::Kept);
    // The others do not notice that node 3 is dead, so that each leaves the deletion to those with a place before it.
    live(&mut cluster, TTL + 14 * SECOND, &[N1, N2]);
    assert!(is_deleted(&cluster, N1) && is_deleted(&cluster, N2));
    // Its count stood still: for node 3 the value has most of its time left.
    cluster.start(N3);
    assert_eq!(cluster.value_on_disk(N3), Some(1));
    cluster.run(&ALL);
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), None);
    }
    live(&mut cluster, TTL + 8 * SECOND, &ALL);
    assert!(ALL.into_iter().all(|node| is_deleted(&cluster, node)), "node 3 has it deleted too");
    cluster.assert_linearizable();
}

/// A value whose time has passed is at one replica alone. A read that finds it and cannot delete it must not answer it,
/// because the next read, of the others, would miss it.
#[test]
fn read_answers_no_expired_value_that_a_minority_holds() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N2, &ALL, 1);
    cluster.write_for(N1, 2, TTL);
    cluster.run_clock_rounds();
    cluster.take(|sent| sent.stores().is_some());
    assert_eq!(cluster.value_on_disk(N1), Some(2), "it is on one disk alone");
    cluster.pass(PAST_TTL, &[]);

    let read = cluster.read(N1);
    cluster.deliver(|sent| sent.asks_to_read() || sent.is_answer());
    cluster.take(|_| true);
    for _ in 0..6 {
        cluster.pass(SECOND, &[N1]);
        cluster.take(|_| true);
    }
    assert!(
        matches!(cluster.reply_to(read), Some(Reply::Failed(Failure::NoQuorum(_)))),
        "{:?}",
        cluster.reply_to(read)
    );
    assert_eq!(cluster.read_among(N2, &[N2, N3]), Some(1));
    cluster.assert_linearizable();
}

/// A read that has settled an expired value, and cannot delete it in time, answers the value.
#[test]
fn read_answers_the_settled_value_where_it_cannot_be_deleted() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_for(N1, 1, TTL);
    cluster.run(&ALL);
    cluster.stamp_of(write);
    cluster.pass(PAST_TTL, &[]);
    let read = cluster.read(N1);
    cluster.deliver(|sent| sent.asks_to_read() || sent.is_answer());
    cluster.take(|_| true);
    assert_eq!(cluster.reply_to(read), None, "it waits for the deletion");
    for _ in 0..3 {
        cluster.pass(SECOND, &[N1]);
        cluster.take(|_| true);
    }
    assert_eq!(cluster.seen_by(read), Some(1), "well before its deadline");
    assert_eq!(cluster.ttl_left_to_last_read(), Duration::from_millis(1), "it is there until it is deleted");
    cluster.assert_linearizable();
}

/// A version that was kept at a count that a restart has forgotten has no age. Computed without a sign, its age would be enormous.
#[test]
fn restart_that_sets_the_count_back_ages_nothing() {
    let mut cluster = Cluster::bootstrapped(3);
    let first = cluster.write_for(N1, 1, TTL);
    cluster.run(&ALL);
    cluster.stamp_of(first);
    // The count was persisted with the first value. This one is kept half a minute later.
    cluster.pass(3 * TTL, &[]);
    let second = cluster.write_for(N1, 2, TTL);
    cluster.run(&ALL);
    cluster.stamp_of(second);
    for node in ALL {
        cluster.crash(node, Unsynced::Kept);
    }
    for node in ALL {
        cluster.start(node);
    }
    cluster.run(&ALL);
    live(&mut cluster, 3 * SECOND, &ALL);
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(2));
    }
    cluster.assert_linearizable();
}

#[cfg(feature = "mutants")]
#[test]
fn each_fails_where_its_rule_is_broken() {
    use crate::mutants::{each_is_found, tests};

    each_is_found(tests![
        DueIsAbsent: read_that_finds_a_key_expired_makes_it_so_for_the_next_one_redis_1768,
        ExpiryDeletesPlainly: expiry_deletes_no_renewal_bitcask_191,
        ExpiryOfAnotherVersion: expiry_deletes_no_renewal_bitcask_191,
        DueUnsettled: read_answers_no_expired_value_that_a_minority_holds,
        AgeUnclamped: restart_that_sets_the_count_back_ages_nothing,
        AgeByKey: renewal_lives_as_long_as_its_own_time,
        AdditionLosesTtl: additions_do_not_keep_a_counter_alive,
        AdditionRenewsTtl: additions_do_not_keep_a_counter_alive,
        AdditionToExpired: additions_do_not_keep_a_counter_alive,
        AdditionKeepsTtl: addition_that_keeps_no_time_to_live_makes_a_permanent_number,
    ]);
}
