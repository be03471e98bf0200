//! Conditional writes: schedules in which other systems, or a rule left out, would count a write twice, lose one, or tell
//! its client something that is not true.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::time::Duration;

use crate::cluster::{Cluster, DEADLINE, N1, N2, N3, N4, Sent, Unsynced};
use quorate::limits::HEDGE_AFTER_MAX;
use quorate::protocol::{Answer, Failure, Message, Reply, Request};
use quorate::types::{Change, Clock, Condition, NodeIndex, RECENT_MAX, Record, Stamp, Version};

const ALL: [NodeIndex; 3] = [N1, N2, N3];
/// Longer than the time after which an operation asks again.
const A_RESEND: Duration = Duration::from_secs(1);

fn plain(stamp: &Stamp) -> Version {
    Version::new(stamp.clone(), None)
}

fn add(delta: i64, since: Option<Version>) -> Change {
    Change::Add { delta, since, ttl: None, keeps_ttl: false }
}

/// Lets a conditional write of `at` prepare its ballot with `with`, and takes its requests to accept out of the network.
/// Only its own replica has accepted.
fn prepare_with(cluster: &mut Cluster, at: NodeIndex, with: NodeIndex) -> Vec<Sent> {
    cluster.deliver(|sent| {
        sent.from == at && sent.to == with && sent.prepares() || sent.from == with && sent.to == at && sent.promises()
    });
    cluster.take(|sent| sent.from == at && sent.prepares());
    cluster.take(|sent| sent.from == at && sent.accepts().is_some())
}

fn arrive_at(cluster: &mut Cluster, messages: Vec<Sent>, to: NodeIndex) -> Vec<Sent> {
    let (now, later) = messages.into_iter().partition(|sent| sent.to == to);
    let now: Vec<Sent> = now;
    for sent in now {
        cluster.arrives(sent);
    }
    later
}

fn applied(cluster: &Cluster, operation: usize) -> bool {
    matches!(cluster.reply_to(operation), Some(Reply::Set(_)))
}

fn condition_failed(cluster: &Cluster, operation: usize) -> bool {
    matches!(cluster.failure_of(operation), Some(Failure::ConditionFailed { .. }))
}

fn outcome_unknown(cluster: &Cluster, operation: usize) -> bool {
    matches!(cluster.failure_of(operation), Some(Failure::OutcomeUnknown(_) | Failure::OutcomeForgotten))
}

/// Reads through `at` with the help of these nodes alone. Where the record is to be settled, others are asked first, in vain.
fn read_among(cluster: &mut Cluster, at: NodeIndex, among: &[NodeIndex]) -> Option<u64> {
    let read = cluster.read(at);
    for _ in 0..10 {
        cluster.run(among);
        cluster.pass(HEDGE_AFTER_MAX, &[at]);
    }
    cluster.seen_by(read)
}

/// Lets everything happen that still can, and time pass, until nothing is left to answer.
fn come_to_rest(cluster: &mut Cluster) {
    for _ in 0..20 {
        cluster.run(&ALL);
        cluster.pass(A_RESEND / 4, &ALL);
    }
    cluster.run(&ALL);
}

/// `TiKV`: a compare-and-swap is atomic beside others of its kind alone. A plain put of the same key takes no latch, so that
/// clients must not mix the two (<https://github.com/tikv/tikv/issues/10594>).
///
/// Here a plain write ends between the two rounds of a conditional one, and is read. The conditional write keeps the stamp
/// of its base. So it comes right after its base and before the plain write, whose value stays.
#[test]
fn blind_write_beside_a_conditional_one_is_not_lost_tikv_10594() {
    let mut cluster = Cluster::bootstrapped(3);
    let base = plain(&cluster.write_among(N2, &ALL, 1));
    // The ballots of node 1 are above the stamps of the others.
    cluster.crash(N1, Unsynced::Lost);
    cluster.start(N1);
    cluster.run(&ALL);
    let blind = cluster.write(N3, 9);
    cluster.take(|sent| sent.to == N1);
    cluster.deliver(|sent| sent.stores().is_none());
    let copies = cluster.take(|sent| sent.stores().is_some());
    assert_eq!(copies.len(), 2, "it has its stamp");

    let conditional = cluster.write_if(N1, Condition::Version(base.clone()), 2, 7);
    let accepts = prepare_with(&mut cluster, N1, N2);
    assert_eq!(accepts.len(), 2, "it has seen its base alone");
    for copy in copies {
        cluster.arrives(copy);
    }
    cluster.run(&ALL);
    let blind = plain(&cluster.stamp_of(blind));
    assert_eq!(cluster.read_among(N2, &[N2, N3]), Some(9));

    for accept in accepts {
        cluster.arrives(accept);
    }
    cluster.run(&ALL);
    let conditional = cluster.version_of(conditional);
    assert!(base < conditional && conditional < blind, "{base} {conditional} {blind}");
    for node in ALL {
        assert_eq!((cluster.value_on_disk(node), cluster.read_among(node, &ALL)), (Some(9), Some(9)));
    }
    let late = cluster.write_if(N2, Condition::Version(conditional), 3, 8);
    cluster.run(&ALL);
    assert_eq!(cluster.failure_of(late), Some(&Failure::ConditionFailed { version: blind, has_value: true }));
    cluster.assert_linearizable();
}

/// A client that gets no reply sends its request again. Without memory of the first try, the second one fails because of
/// the first: the client is told that it lost, although it won.
///
/// Here the record names the requests that made it, so that any node can answer the second try. Once eight others came after
/// the first try, the record has forgotten it, and the client is told that nobody knows.
#[test]
fn condition_does_not_fail_because_of_an_earlier_try() {
    let mut cluster = Cluster::bootstrapped(3);
    let base = plain(&cluster.write_among(N1, &ALL, 1));
    let change = cluster.writes_if(Condition::Version(base), 2);
    let first = cluster.change(N1, change.clone(), 7, false);
    cluster.run(&[N1, N2]);
    let mut version = cluster.version_of(first);
    for later in 0..RECENT_MAX {
        let again = cluster.change(ALL[later % 3], change.clone(), 7, true);
        come_to_rest(&mut cluster);
        assert_eq!(cluster.reply_to(again), cluster.reply_to(first), "after {later} others");
        let name = u8::try_from(10 + later).unwrap();
        let other = cluster.write_if(ALL[later % 3], Condition::Version(version), 10 + later as u64, name);
        come_to_rest(&mut cluster);
        version = cluster.version_of(other);
    }
    let again = cluster.change(N2, change, 7, true);
    come_to_rest(&mut cluster);
    assert!(outcome_unknown(&cluster, again), "{:?}", cluster.reply_to(again));
    assert_eq!(cluster.read_among(N3, &ALL), Some(17));
}

/// Counters of Cassandra and `ScyllaDB` count an addition again when it is sent again after a timeout
/// (<https://docs.scylladb.com/manual/stable/features/counters.html>).
///
/// Here an addition that names a version counts once, to whichever node it is sent again.
#[test]
fn counter_counts_a_resend_once() {
    let mut cluster = Cluster::bootstrapped(3);
    let since = Some(Version::absent());
    let first = cluster.change(N1, add(5, since.clone()), 7, false);
    cluster.run(&[N1, N2]);
    assert_eq!(cluster.sum_of(first), 5);
    for node in ALL {
        let again = cluster.change(node, add(5, since.clone()), 7, true);
        come_to_rest(&mut cluster);
        assert_eq!(cluster.reply_to(again), cluster.reply_to(first));
    }
    let other = cluster.change(N3, add(1, since.clone()), 8, false);
    come_to_rest(&mut cluster);
    assert_eq!(cluster.sum_of(other), 6);
    // A plain write takes the counter's history with it: whether an addition came before it is known no more.
    cluster.write_among(N2, &ALL, 100);
    let again = cluster.change(N1, add(5, since), 7, true);
    come_to_rest(&mut cluster);
    assert!(outcome_unknown(&cluster, again), "{:?}", cluster.reply_to(again));
    assert_eq!(cluster.read_among(N3, &ALL), Some(100));
}

/// An addition was seen, and overwritten by a plain write, before its coordinator learned that it had taken effect. The
/// coordinator must not add to the new value: the addition would count twice.
#[test]
fn addition_that_was_overwritten_is_not_run_again() {
    let mut cluster = Cluster::bootstrapped(3);
    let addition = cluster.change(N1, add(5, None), 7, false);
    let accepts = prepare_with(&mut cluster, N1, N2);
    arrive_at(&mut cluster, accepts, N2);
    assert_eq!(cluster.take(|sent| sent.is_answer() && sent.to == N1).len(), 1, "it is chosen, and nobody knows");
    assert_eq!(read_among(&mut cluster, N3, &[N2, N3]), Some(5));
    cluster.take(|sent| sent.from == N1 || sent.to == N1);
    cluster.write_among(N3, &[N2, N3], 10);
    come_to_rest(&mut cluster);
    assert!(outcome_unknown(&cluster, addition), "{:?}", cluster.reply_to(addition));
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(10));
    }
    cluster.assert_linearizable();
}

/// One replica has told a version that no majority holds. Written over an addition, it would hide it, and that would count again.
#[test]
fn addition_is_not_built_below_the_version_that_it_names() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    let write = cluster.write(N3, 10);
    cluster.run_clock_rounds();
    let stores = cluster.take(|sent| sent.stores().is_some());
    let since = stores[0].stores().map(Record::version);
    let early = cluster.change(N1, add(5, since.clone()), 7, false);
    cluster.run(&[N1, N2]);
    assert!(condition_failed(&cluster, early), "{:?}", cluster.reply_to(early));
    for sent in stores {
        cluster.arrives(sent);
    }
    come_to_rest(&mut cluster);
    assert_eq!(cluster.stamp_of(write), since.clone().unwrap().stamp);
    let late = cluster.change(N1, add(5, since), 8, false);
    come_to_rest(&mut cluster);
    assert_eq!(cluster.sum_of(late), 15);
    cluster.assert_linearizable();
}

/// A value that is no number fails an addition, but not for good: the value may become a number. A node that has the first
/// try of the request may then still add.
#[test]
fn addition_that_is_sent_again_does_not_fail_on_a_value_that_may_change() {
    let mut cluster = Cluster::bootstrapped(3);
    let since = Some(Version::absent());
    let first = cluster.change(N1, add(5, since.clone()), 7, false);
    let held = cluster.take(|sent| sent.from == N1);
    assert!(!held.is_empty(), "node 1 hears of nobody");
    let huge = cluster.change(N2, add(i64::MAX, since.clone()), 8, false);
    cluster.run(&[N2, N3]);
    assert_eq!(cluster.sum_of(huge), i64::MAX);
    let again = cluster.change(N3, add(5, since.clone()), 7, true);
    cluster.run(&[N2, N3]);
    assert!(outcome_unknown(&cluster, again), "{:?}", cluster.reply_to(again));
    let back = cluster.change(N2, add(-7, since), 9, false);
    cluster.run(&[N2, N3]);
    come_to_rest(&mut cluster);
    assert!(cluster.sum_of(back) < cluster.sum_of(first), "the first try has added after all");
}

/// An acceptor that promises a ballot while it still writes a record of a smaller one must show that record: it will
/// acknowledge the record.
#[test]
fn promise_shows_a_record_on_its_way_to_the_disk() {
    let mut cluster = Cluster::bootstrapped(3);
    let first = cluster.write_if(N1, Condition::Absent, 1, 7);
    let accepts = prepare_with(&mut cluster, N1, N2);
    cluster.hold_disk(N2);
    arrive_at(&mut cluster, accepts, N2);
    assert!(cluster.waits_at_disk(N2) && cluster.reply_to(first).is_none());

    let second = cluster.write_if(N3, Condition::Absent, 2, 8);
    cluster.run(&[N2, N3]);
    assert_eq!(cluster.reply_to(second), None);
    cluster.let_disk_go(N2);
    cluster.run(&[N1, N2]);
    assert!(applied(&cluster, first), "a majority has accepted it");
    come_to_rest(&mut cluster);
    assert!(condition_failed(&cluster, second), "{:?}", cluster.reply_to(second));
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(1));
    }
    cluster.assert_linearizable();
}

/// A promise waits for the records that were on their way before it, and not for those that follow.
#[test]
fn stream_of_plain_writes_does_not_keep_a_conditional_one_waiting() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    cluster.hold_disk(N2);
    cluster.write(N1, 2);
    cluster.run(&[N1, N2]);
    let conditional = cluster.write_if(N3, Condition::Present, 100, 7);
    cluster.deliver(|sent| sent.to == N2 && sent.prepares());
    for value in 3..8 {
        cluster.write(N1, value);
        cluster.run(&[N1, N2]);
        cluster.flush_disk(N2);
        assert!(cluster.waits_at_disk(N2), "the next write is at the disk");
    }
    assert_eq!(cluster.count(Sent::promises), 1, "the promise was not kept waiting");
    cluster.let_disk_go(N2);
    come_to_rest(&mut cluster);
    assert!(applied(&cluster, conditional), "{:?}", cluster.reply_to(conditional));
    cluster.assert_linearizable();
}

/// An acceptor keeps its promise: otherwise it would acknowledge a record that a greater ballot has not seen.
#[test]
fn acceptor_keeps_its_promise() {
    let mut cluster = Cluster::bootstrapped(3);
    let first = cluster.write_if(N1, Condition::Absent, 1, 7);
    let accepts = prepare_with(&mut cluster, N1, N2);
    let second = cluster.write_if(N3, Condition::Absent, 2, 8);
    cluster.run(&[N2, N3]);
    assert!(applied(&cluster, second), "it has seen nothing");
    arrive_at(&mut cluster, accepts, N2);
    come_to_rest(&mut cluster);
    assert!(condition_failed(&cluster, first), "{:?}", cluster.reply_to(first));
    cluster.assert_linearizable();
}

/// An acceptor forgets its promises when it restarts, and refuses all ballots that it could have promised.
#[test]
fn acceptor_that_restarts_breaks_no_promise() {
    let mut cluster = Cluster::bootstrapped(3);
    let first = cluster.write_if(N1, Condition::Absent, 1, 7);
    let accepts = prepare_with(&mut cluster, N1, N2);
    let second = cluster.write_if(N3, Condition::Absent, 2, 8);
    let more = prepare_with(&mut cluster, N3, N2);
    assert_eq!((accepts.len(), more.len()), (2, 2), "both have prepared, and have seen nothing");
    cluster.crash(N2, Unsynced::Lost);
    cluster.start(N2);
    cluster.run(&[N1, N2]);
    cluster.run(&[N2, N3]);
    come_to_rest(&mut cluster);
    let both = [first, second];
    assert_eq!(both.iter().filter(|write| applied(&cluster, **write)).count(), 1);
    assert_eq!(both.iter().filter(|write| condition_failed(&cluster, **write)).count(), 1);
    cluster.assert_linearizable();
}

/// A promise in an epoch that is not durable would be forgotten, and the restarted acceptor would not refuse its ballots.
#[test]
fn promise_is_given_in_a_durable_epoch_alone() {
    let mut cluster = Cluster::bootstrapped(3);
    for (node, restarts) in [(N1, 4), (N3, 2)] {
        for _ in 0..restarts {
            cluster.crash(node, Unsynced::Lost);
            cluster.start(node);
            cluster.run(&ALL);
        }
    }
    assert_eq!(ALL.map(|node| cluster.node(node).clock().epoch), [5, 1, 3]);
    let first = cluster.write_if(N1, Condition::Absent, 1, 7);
    let accepts = prepare_with(&mut cluster, N1, N2);
    assert_eq!(accepts.len(), 2, "node 2 has promised a ballot of epoch 5");
    cluster.crash(N2, Unsynced::Lost);
    cluster.start(N2);
    cluster.deliver(|sent| sent.accepts().is_none() && !sent.prepares());
    let accepts = cluster.take(|sent| sent.accepts().is_some());
    let second = cluster.write_if(N3, Condition::Absent, 2, 8);
    cluster.run(&[N2, N3]);
    arrive_at(&mut cluster, accepts, N2);
    come_to_rest(&mut cluster);
    let both = [first, second];
    assert_eq!(both.iter().filter(|write| applied(&cluster, **write)).count(), 1);
    assert_eq!(both.iter().filter(|write| condition_failed(&cluster, **write)).count(), 1);
    cluster.assert_linearizable();
}

/// A record that a minority has accepted may never be chosen. A read that stored it as it is would answer a value that a
/// greater ballot, prepared before, overwrites without having seen it.
#[test]
fn read_settles_a_record_that_a_minority_accepted() {
    let mut cluster = Cluster::bootstrapped(3);
    let first = cluster.write_if(N1, Condition::Absent, 1, 7);
    prepare_with(&mut cluster, N1, N2);
    let second = cluster.write_if(N2, Condition::Absent, 2, 8);
    let accepts = prepare_with(&mut cluster, N2, N3);
    assert_eq!((cluster.value_on_disk(N1), cluster.on_disk(N3)), (Some(1), None), "one replica has the first");

    let read = cluster.read(N3);
    for _ in 0..3 {
        cluster.deliver(|sent| [sent.from, sent.to] == [N3, N1] || [sent.from, sent.to] == [N1, N3]);
        cluster.pass(HEDGE_AFTER_MAX, &[N3]);
    }
    assert_eq!(cluster.seen_by(read), Some(1));
    arrive_at(&mut cluster, accepts, N3);
    come_to_rest(&mut cluster);
    assert!(condition_failed(&cluster, second), "{:?}", cluster.reply_to(second));
    assert!(applied(&cluster, first), "{:?}", cluster.reply_to(first));
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(1));
    }
    cluster.assert_linearizable();
}

/// A read that set out to settle a conditional write meets a plain one that a minority holds. The plain write must be at a
/// majority before it is answered.
#[test]
fn settling_stores_a_plain_record_at_a_majority() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_if(N1, Condition::Absent, 1, 7);
    prepare_with(&mut cluster, N1, N2);
    let read = cluster.read(N2);
    let between_them =
        |sent: &Sent| [sent.from, sent.to] == [N2, N1] && !sent.prepares() || [sent.from, sent.to] == [N1, N2];
    cluster.deliver(between_them);
    cluster.pass(HEDGE_AFTER_MAX, &[N2]);
    cluster.deliver(between_them);
    assert_eq!(cluster.count(Sent::prepares), 1, "the record is to be settled");
    let prepares = cluster.take(Sent::prepares);
    let unfinished = cluster.write(N1, 9);
    cluster.take(|sent| sent.to == N3);
    cluster.deliver(|sent| sent.stores().is_none());
    assert_eq!(cluster.take(|sent| sent.stores().is_some()).len(), 2, "one replica has the plain write");
    arrive_at(&mut cluster, prepares, N1);
    cluster.run(&[N1, N2]);
    assert_eq!(cluster.seen_by(read), Some(9));
    assert_eq!(cluster.read_among(N3, &[N2, N3]), Some(9));
    assert_ne!(cluster.reply_to(unfinished), Some(&Reply::Record(None)));
    cluster.assert_linearizable();
}

/// A failed condition shows a version. It must be that of a record that stays: the client acts on it.
#[test]
fn condition_fails_on_a_settled_record_alone() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_if(N1, Condition::Absent, 1, 7);
    prepare_with(&mut cluster, N1, N2);
    let second = cluster.write_if(N3, Condition::Absent, 2, 8);
    cluster.deliver(|sent| [sent.from, sent.to] == [N3, N1] || [sent.from, sent.to] == [N1, N3]);
    assert!(condition_failed(&cluster, second), "{:?}", cluster.reply_to(second));
    assert_eq!(read_among(&mut cluster, N2, &[N2, N3]), Some(1), "the record that it failed on");
    cluster.assert_linearizable();
}

/// Settling gives a record a new ballot, and never a new version: its writer is told the first one, and goes on from it.
#[test]
fn version_survives_settling() {
    let mut cluster = Cluster::bootstrapped(3);
    let first = cluster.write_if(N1, Condition::Absent, 1, 7);
    let accepts = prepare_with(&mut cluster, N1, N2);
    let proposed = accepts[0].accepts().expect("a record").version();
    assert_eq!(read_among(&mut cluster, N3, &[N1, N3]), Some(1));
    let read = cluster.read(N2);
    come_to_rest(&mut cluster);
    let Some(Reply::Record(Some(record))) = cluster.reply_to(read) else { panic!("the record is read") };
    assert_eq!(record.version(), proposed);
    come_to_rest(&mut cluster);
    assert_eq!(cluster.version_of(first), proposed);
    let next = cluster.write_if(N2, Condition::Version(proposed), 2, 8);
    come_to_rest(&mut cluster);
    assert!(applied(&cluster, next), "{:?}", cluster.reply_to(next));
    cluster.assert_linearizable();
}

/// A replica that gets a chosen record promises nothing below its ballot any more, as if it had promised that itself.
/// Without it, a replica of a changed set of replicas could help a smaller ballot to a majority.
#[test]
fn chosen_record_raises_the_promise() {
    let mut cluster = Cluster::bootstrapped(3);
    let smaller = cluster.write_if(N1, Condition::Absent, 1, 7);
    let prepares = cluster.take(Sent::prepares);
    let chosen = cluster.write_if(N2, Condition::Absent, 2, 8);
    cluster.take(|sent| sent.to == N3);
    cluster.run(&[N1, N2]);
    assert!(applied(&cluster, chosen));
    cluster.take(|sent| sent.accepts().is_some());
    cluster.relink(N2, N3);
    cluster.run(&[N2, N3]);
    assert_eq!(cluster.value_on_disk(N3), Some(2), "node 3 never saw the ballot, and has the record");
    arrive_at(&mut cluster, prepares, N3);
    assert_eq!(cluster.count(Sent::promises), 0, "a promise below the record that it holds");
    come_to_rest(&mut cluster);
    assert!(condition_failed(&cluster, smaller), "{:?}", cluster.reply_to(smaller));
    cluster.assert_linearizable();
}

/// A promise that had to wait for the disk may show a record that was accepted under a greater ballot meanwhile. A record
/// built on that would have a smaller version than its base.
#[test]
fn base_is_not_above_the_ballot() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    cluster.hold_disk(N2);
    for value in [2, 3] {
        cluster.write(N1, value);
        cluster.run(&[N1, N2]);
    }
    let smaller = cluster.change(N1, add(10, None), 7, false);
    cluster.deliver(|sent| sent.to == N2 && sent.prepares());
    cluster.take(Sent::prepares);
    cluster.run(&[N1, N3]);
    let greater = cluster.change(N3, add(20, None), 8, false);
    cluster.run(&[N1, N3]);
    let accepts = cluster.take(|sent| sent.from == N3 && sent.accepts().is_some());
    arrive_at(&mut cluster, accepts, N2);
    cluster.let_disk_go(N2);
    come_to_rest(&mut cluster);
    let (smaller, greater) = (cluster.sum_of(smaller), cluster.sum_of(greater));
    assert_eq!(smaller.max(greater), 33, "{smaller} {greater}");
    let record = cluster.on_disk(N1).expect("all have it");
    let versions: Vec<_> = record.digest().history().0.into_iter().map(|applied| applied.version).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    cluster.assert_linearizable();
}

/// One replica is dead, and one has promised a greater ballot to a coordinator that died. The write goes on with the two
/// that are well.
#[test]
fn dead_replica_does_not_hold_up_a_write_that_was_preempted() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_if(N1, Condition::Absent, 1, 7);
    let accepts = prepare_with(&mut cluster, N1, N2);
    cluster.write_if(N2, Condition::Absent, 2, 8);
    cluster.take(|sent| sent.from == N2);
    arrive_at(&mut cluster, accepts, N2);
    let began = cluster.now();
    while cluster.reply_to(write).is_none() && cluster.now().since(began) < DEADLINE {
        cluster.take(|sent| sent.to == N3 || sent.from == N2 && sent.prepares());
        cluster.run(&[N1, N2]);
        cluster.pass(Duration::from_millis(10), &[N1]);
    }
    assert!(applied(&cluster, write), "{:?}", cluster.reply_to(write));
    assert!(cluster.now().since(began) < A_RESEND, "{:?}", cluster.now().since(began));
}

/// Three nodes write under one condition at once, and every ballot meets the others. Their pauses grow and differ, so that
/// one gets ahead, and all end.
#[test]
fn duelling_coordinators_end() {
    let mut cluster = Cluster::bootstrapped(3);
    let mut duels = Vec::new();
    for round in 0_u8..5 {
        let writes = [N1, N2, N3].map(|node| {
            let name = 10 * round + u8::try_from(node.0).unwrap();
            cluster.write_if(node, Condition::Absent, u64::from(name), name)
        });
        let reads = [N1, N2, N3].map(|node| cluster.read(node));
        let began = cluster.now();
        while writes.iter().chain(&reads).any(|operation| cluster.reply_to(*operation).is_none()) {
            // Everybody prepares before anybody is accepted.
            cluster.deliver(Sent::prepares);
            cluster.deliver(Sent::is_answer);
            cluster.deliver(|sent| sent.accepts().is_none());
            cluster.run(&ALL);
            cluster.pass(Duration::from_millis(1), &ALL);
            assert!(cluster.now().since(began) < DEADLINE, "they do not end");
        }
        duels.push(cluster.now().since(began));
        assert_eq!(writes.iter().filter(|write| applied(&cluster, **write)).count(), 1);
        assert_eq!(writes.iter().filter(|write| condition_failed(&cluster, **write)).count(), 2);
        let delete = cluster.delete(N2);
        come_to_rest(&mut cluster);
        assert!(cluster.reply_to(delete).is_some());
    }
    assert!(duels.iter().all(|duel| *duel < A_RESEND), "{duels:?}");
    cluster.assert_linearizable();
}

/// Others go on while an addition pauses, and its node, which is no replica, does not hear of their ballots. So the first
/// ballot after the pause is too small, however quiet the key is by then. The addition does not pause again for that: in a
/// longer pause others would go on even further.
#[test]
fn addition_does_not_pause_again_because_its_ballot_has_become_too_small() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let all = cluster.members();
    let mut others = 0;
    let mut others_add = |cluster: &mut Cluster| {
        for _ in 0..2 {
            others += 1;
            let other = cluster.change(N1, add(1, None), 100 + others, false);
            cluster.run(&ALL);
            assert_eq!(cluster.sum_of(other), i64::from(others), "nobody is in its way");
        }
    };
    others_add(&mut cluster);
    let addition = cluster.change(N4, add(1_000, None), 7, false);
    cluster.run(&all);
    // It has not heard of the first ballots, and draws another one at once. That one meets others, so that it pauses.
    cluster.pass(Duration::from_millis(1), &[N4]);
    assert!(cluster.count(|sent| sent.from == N4 && sent.prepares()) > 0, "its second ballot is on its way");
    others_add(&mut cluster);
    cluster.run(&all);
    let paused_at = cluster.now();
    while cluster.reply_to(addition).is_none() && cluster.now().since(paused_at) < A_RESEND {
        // They have ended when it draws a ballot.
        others_add(&mut cluster);
        for span in [HEDGE_AFTER_MAX / 2, Duration::from_millis(1)] {
            cluster.pass(span, &[N4]);
            cluster.run(&all);
        }
    }
    assert!(cluster.reply_to(addition).is_some(), "it has not ended {:?} after", cluster.now().since(paused_at));
    assert!(cluster.sum_of(addition) > 1_000);
    cluster.assert_linearizable();
}

/// A damaged message shows a ballot that no node can have drawn. It must not become the floor of later ballots: following
/// it would use up the clocks of all nodes.
#[test]
fn damaged_ballot_raises_no_floor() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.messages_are_damaged = true;
    let far = Clock { epoch: u64::MAX, counter: 0 };
    let first = cluster.write_if(N1, Condition::Absent, 1, 7);
    let mut accept = prepare_with(&mut cluster, N1, N2).pop().expect("it goes to both");
    if let Message::Request { request: Request::Accept { record, .. }, .. } = &mut accept.message {
        let ballot = Stamp { clock: far, ..record.proposal.as_ref().expect("it has one").ballot.clone() };
        *record = record.settled_under(record.stamp.clone(), ballot);
    }
    cluster.arrives(accept);
    come_to_rest(&mut cluster);
    assert!(applied(&cluster, first), "{:?}", cluster.reply_to(first));

    let second = cluster.write_if(N3, Condition::Present, 2, 8);
    cluster.deliver(|sent| sent.to == N2 && sent.prepares());
    let mut answers = cluster.take(|sent| sent.from == N2 && sent.is_answer());
    let Some(Sent { message: Message::Answer { answer, .. }, .. }) = answers.last_mut() else {
        panic!("node 2 has answered")
    };
    *answer = Answer::Preempted { floor: far, seal: None };
    for answer in answers {
        cluster.arrives(answer);
    }
    come_to_rest(&mut cluster);
    assert!(applied(&cluster, second), "{:?}", cluster.reply_to(second));
    for node in ALL {
        assert_eq!((cluster.node(node).clock().epoch, cluster.read_among(node, &ALL)), (1, Some(2)));
    }
}

/// Very many writes wait for one of the same key, and then no replica can be asked any more. They end one after the other.
#[test]
fn long_queue_ends_when_the_peers_refuse() {
    let mut cluster = Cluster::bootstrapped(3);
    for peer in [N2, N3] {
        cluster.relink(peer, N1);
    }
    let late = cluster.take(Sent::is_hello);
    assert_eq!(late.len(), 2);
    for peer in [N2, N3] {
        cluster.crash(peer, Unsynced::Lost);
        cluster.start(peer);
    }
    // Their new incarnations are recorded by node 1, and have not said yet that they have recorded it.
    cluster.deliver(|sent| sent.is_hello() && sent.to == N1);
    let waiting: Vec<usize> = (0..5_000).map(|_| cluster.write_if(N1, Condition::Absent, 1, 7)).collect();
    for hello in late {
        cluster.arrives(hello);
    }
    for write in waiting {
        assert!(matches!(cluster.failure_of(write), Some(Failure::NotApplied(_))), "{:?}", cluster.reply_to(write));
    }
}

/// Beside nobody else a conditional write takes two rounds, and one fsync at each replica.
#[test]
fn quiet_conditional_write_takes_two_rounds_and_one_fsync() {
    let mut cluster = Cluster::bootstrapped(3);
    for node in ALL {
        cluster.hold_disk(node);
    }
    let write = cluster.write_if(N2, Condition::Absent, 1, 7);
    let asked = cluster.count(Sent::prepares);
    assert_eq!(cluster.count(|_| true), asked);
    cluster.deliver(Sent::prepares);
    assert_eq!(cluster.count(Sent::promises), asked, "a promise waits for no disk");
    cluster.deliver(Sent::promises);
    assert_eq!((cluster.count(|sent| sent.accepts().is_some()), cluster.count(|_| true)), (2, 2));
    cluster.run(&ALL);
    for node in ALL {
        assert!(cluster.waits_at_disk(node));
        cluster.flush_disk(node);
        assert!(!cluster.waits_at_disk(node), "nothing follows the one batch");
        cluster.run(&ALL);
    }
    assert!(applied(&cluster, write), "{:?}", cluster.reply_to(write));
    assert_eq!(cluster.count(|_| true), 0);
}

/// The second write waits for the first, and then finds by a look that its condition has failed. Writes that were called before
/// the look end with it.
#[test]
fn writes_that_waited_fail_on_what_was_just_settled() {
    let mut cluster = Cluster::bootstrapped(3);
    let before = cluster.node(N1).clock().counter;
    let writes: Vec<usize> =
        (1..=8_u8).map(|name| cluster.write_if(N1, Condition::Absent, name.into(), name)).collect();
    come_to_rest(&mut cluster);
    assert!(applied(&cluster, writes[0]));
    let version = cluster.version_of(writes[0]);
    for write in &writes[1..] {
        let failure = Failure::ConditionFailed { version: version.clone(), has_value: true };
        assert_eq!(cluster.failure_of(*write), Some(&failure));
    }
    assert_eq!(cluster.node(N1).clock().counter, before + 1, "one ballot was drawn");
    cluster.assert_linearizable();
}

/// A write that is called after the ballot of the one that it waits for may have to see more than that one.
#[test]
fn write_that_was_called_late_sees_what_ended_before_it() {
    let mut cluster = Cluster::bootstrapped(3);
    let first = cluster.write_if(N1, Condition::Absent, 1, 7);
    let accepts = prepare_with(&mut cluster, N1, N2);
    let blind = plain(&cluster.write_among(N3, &[N2, N3], 9));
    let late = cluster.write_if(N1, Condition::Absent, 2, 8);
    for accept in accepts {
        cluster.arrives(accept);
    }
    come_to_rest(&mut cluster);
    assert!(applied(&cluster, first), "it comes before the plain write");
    let failure = Failure::ConditionFailed { version: blind, has_value: true };
    assert_eq!(cluster.failure_of(late), Some(&failure));
    cluster.assert_linearizable();
}

/// After a pause a write looks what is there. A record that a minority holds is no reason to fail: it may never be chosen.
#[test]
fn pause_ends_with_a_look_at_settled_records_alone() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_if(N1, Condition::Absent, 1, 7);
    cluster.take(|sent| sent.from == N1);
    cluster.write_if(N3, Condition::Absent, 2, 8);
    assert_eq!(prepare_with(&mut cluster, N3, N2).len(), 2, "node 3 alone holds it");
    for _ in 0..10 {
        cluster.pass(A_RESEND / 10, &[N1]);
        cluster.take(|sent| sent.to == N2 || sent.prepares());
        cluster.deliver(|sent| sent.asks_to_read() && sent.to == N3 || sent.is_answer() && sent.from == N3);
    }
    for _ in 0..10 {
        cluster.pass(A_RESEND / 10, &[N1]);
        cluster.run(&[N1, N2]);
    }
    assert!(applied(&cluster, write), "{:?}", cluster.reply_to(write));
    cluster.assert_linearizable();
}

/// A look asks for no promise. So the first try of a request may still take effect, and the second try must not call it
/// failed.
#[test]
fn request_that_is_sent_again_does_not_fail_in_a_look() {
    let mut cluster = Cluster::bootstrapped(3);
    let base = plain(&cluster.write_among(N2, &ALL, 1));
    let change = cluster.writes_if(Condition::Version(base), 2);
    let first = cluster.change(N1, change.clone(), 7, false);
    let accepts = prepare_with(&mut cluster, N1, N2);
    cluster.write_among(N3, &[N2, N3], 9);
    let again = cluster.change(N3, change, 7, true);
    cluster.take(Sent::prepares);
    for _ in 0..10 {
        cluster.pass(A_RESEND / 10, &[N3]);
        cluster.deliver(|sent| sent.asks_to_read() && sent.to == N2 || sent.is_answer() && sent.from == N2);
    }
    for accept in accepts {
        cluster.arrives(accept);
    }
    come_to_rest(&mut cluster);
    assert!(
        outcome_unknown(&cluster, again),
        "{:?}, and the first: {:?}",
        cluster.reply_to(again),
        cluster.reply_to(first)
    );
}

/// A read that finds a record on its way to a majority looks again, rather than to settle it: its ballot would preempt the
/// write's.
#[test]
fn read_does_not_preempt_a_write_on_its_way() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write_if(N1, Condition::Absent, 1, 7);
    let accepts = prepare_with(&mut cluster, N1, N2);
    let read = cluster.read(N1);
    cluster.run(&ALL);
    assert_eq!(cluster.reply_to(read), None, "node 1 alone holds the record");
    for accept in accepts {
        cluster.arrives(accept);
    }
    cluster.deliver(Sent::is_answer);
    assert!(applied(&cluster, write));
    cluster.pass(HEDGE_AFTER_MAX, &ALL);
    assert_eq!(cluster.count(Sent::prepares), 0, "the read asks for no promise");
    cluster.run(&ALL);
    assert_eq!(cluster.seen_by(read), Some(1));
    cluster.assert_linearizable();
}

/// Each of these tests finds the mutant that it is for.
#[cfg(feature = "mutants")]
#[test]
fn each_fails_where_its_rule_is_broken() {
    use crate::mutants::{each_is_found, tests};

    each_is_found(tests![
        ConditionalTakesFreshStamp: blind_write_beside_a_conditional_one_is_not_lost_tikv_10594,
        RecentIsIgnored: condition_does_not_fail_because_of_an_earlier_try,
        RecentFloorIgnored: condition_does_not_fail_because_of_an_earlier_try,
        ResendSaysFailed: condition_does_not_fail_because_of_an_earlier_try,
        RecentIsIgnored: counter_counts_a_resend_once,
        RecentFloorIgnored: counter_counts_a_resend_once,
        AddsBelowSince: addition_is_not_built_below_the_version_that_it_names,
        RunsAgainOnNewBase: addition_that_was_overwritten_is_not_run_again,
        ResendSaysFailed: addition_that_is_sent_again_does_not_fail_on_a_value_that_may_change,
        PromiseOvertakesBatch: promise_shows_a_record_on_its_way_to_the_disk,
        AcceptUnchecked: acceptor_keeps_its_promise,
        EpochFloorIsForgotten: acceptor_that_restarts_breaks_no_promise,
        PromiseBeforeEpoch: promise_is_given_in_a_durable_epoch_alone,
        StoresUnchosen: read_settles_a_record_that_a_minority_accepted,
        BaseNotSettled: settling_stores_a_plain_record_at_a_majority,
        FailsUnsettled: condition_fails_on_a_settled_record_alone,
        SettlingChangesVersion: version_survives_settling,
        StorePromisesNothing: chosen_record_raises_the_promise,
        BaseAboveBallot: base_is_not_above_the_ballot,
        LatecomersAreJudged: write_that_was_called_late_sees_what_ended_before_it,
        LookFailsUnsettled: pause_ends_with_a_look_at_settled_records_alone,
        LookFailsResend: request_that_is_sent_again_does_not_fail_in_a_look,
    ]);
}
