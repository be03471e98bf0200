//! Late answers: in each test an answer to an earlier round arrives, and must not count.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::time::Duration;

use crate::cluster::{Cluster, N1, N2, N3, Sent, Unsynced};
use quorate::limits::HEDGE_AFTER_MAX;
use quorate::protocol::{Failure, PeerView, Reply};
use quorate::types::{Clock, NodeIndex, Stamp, Version};

const ALL: [NodeIndex; 3] = [N1, N2, N3];
/// Longer than the time after which an operation asks again.
const A_RESEND: Duration = Duration::from_secs(1);

/// A clock that was read before a write began may be below another write that ended since. A stamp drawn above that clock
/// could be too small, and the write could be lost although it is acknowledged.
#[test]
fn clock_of_an_earlier_round_counts_for_no_later_write() {
    let mut cluster = Cluster::bootstrapped(3);
    let first = cluster.write(N1, 1);
    cluster.deliver(|sent| sent.to == N3);
    let late = cluster.take(|sent| sent.from == N3 && sent.is_answer());
    assert_eq!(late.len(), 1, "the clock of node 3 at this moment");
    cluster.run(&[N1, N2]);
    cluster.stamp_of(first);
    let second = cluster.write_among(N2, &[N2, N3], 2);

    let third = cluster.write(N1, 3);
    assert!(cluster.node(N1).clock() < second.clock, "its own clock knows nothing of the second write");
    for answer in late {
        cluster.arrives(answer);
    }
    assert!(cluster.stores_of(3).is_empty(), "two clocks are a majority, and one of them is too old");

    cluster.run(&ALL);
    assert!(cluster.stamp_of(third) > second);
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), Some(3));
    }
    cluster.assert_linearizable();
}

/// A read that asks anew wants records, and takes a digest without a record for damage. A late digest that was asked for in
/// its first round is no damage.
#[test]
fn late_digests_of_an_earlier_round_end_no_read() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    cluster.write_among(N1, &[N1, N3], 2);
    cluster.take(|sent| sent.stores().is_some());
    let read = cluster.read(N2);
    let asked = cluster.take(|sent| sent.from == N2);
    assert_eq!(asked.len(), 2, "two peers are asked for their digests");
    for request in asked.iter().chain(asked.iter().filter(|sent| sent.to == N1)) {
        cluster.arrives(request.clone());
    }
    let mut digests = cluster.take(Sent::is_answer);
    assert_eq!(digests.len(), 3, "one of them is asked twice");
    let first = digests.remove(digests.iter().position(|sent| sent.from == N1).expect("it answered"));
    cluster.arrives(first);
    assert_eq!(cluster.take(|sent| sent.to == N1).len(), 1, "the content is asked for, in vain");
    cluster.pass(A_RESEND, &[N2]);
    assert_eq!(cluster.count(|sent| sent.from == N2), 2, "everyone is asked anew");
    for digest in digests {
        cluster.arrives(digest);
    }
    assert_eq!(cluster.reply_to(read), None, "all three replicas are well");

    cluster.run(&ALL);
    assert_eq!(cluster.seen_by(read), Some(2));
    cluster.assert_linearizable();
}

/// A late refusal of an earlier round, by a disk that can be read again, and a present refusal by another disk do not make
/// the read fail: at each moment a majority is well.
#[test]
fn late_refusal_of_an_earlier_round_ends_no_read() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    let unfinished = cluster.write(N1, 2);
    cluster.run_clock_rounds();
    assert_eq!(cluster.take(|sent| sent.stores().is_some()).len(), 2, "one node alone has the second write");

    let read = cluster.read(N2);
    cluster.set_readable(N3, false);
    cluster.deliver(|sent| sent.to == N3);
    cluster.set_readable(N3, true);
    let late = cluster.take(|sent| sent.from == N3 && sent.is_answer());
    assert_eq!(late.len(), 1, "its disk could not be read for a moment");
    cluster.deliver(|sent| sent.to == N1 || sent.from == N1 && sent.is_answer() && sent.asked_in_round() == Some(0));
    assert_eq!(cluster.take(|sent| sent.is_answer() && sent.to == N2).len(), 1, "the content is lost on its way");
    cluster.pass(A_RESEND, &[N2]);

    cluster.set_readable(N1, false);
    cluster.deliver(|sent| sent.to == N1 || sent.from == N1 && sent.is_answer());
    for answer in late {
        cluster.arrives(answer);
    }
    assert_eq!((cluster.reply_to(read), cluster.reply_to(unfinished)), (None, None), "two replicas are well");
    cluster.run(&[N2, N3]);
    assert_eq!(cluster.seen_by(read), Some(1));
    cluster.assert_linearizable();
}

/// An operator gives one stamp to two values on two replicas, which no node would do. A value that was read stays: a replica
/// that has one of the values does not count for the other.
#[test]
fn records_of_one_stamp_are_never_merged() {
    let mut cluster = Cluster::bootstrapped(3);
    let before = cluster.write_among(N1, &ALL, 1);
    let clock = Clock { counter: before.clock.counter + 1, ..before.clock };
    let stamp = Stamp { clock, ..before };
    for (node, value) in [(N1, 5), (N2, 7)] {
        let store = cluster.store_on(node, value, &stamp);
        assert_eq!(cluster.reply_to(store), Some(&Reply::Set(Version::new(stamp.clone(), None))));
    }
    let again = cluster.store_on(N1, 7, &stamp);
    assert_eq!(cluster.failure_of(again), Some(&Failure::StampConflict));
    assert_eq!((cluster.value_on_disk(N1), cluster.value_on_disk(N2)), (Some(5), Some(7)));

    let read = cluster.read(N2);
    cluster.run(&[N1, N2]);
    assert!(cluster.reply_to(read).is_none(), "no majority holds either value, and neither replaces the other");
    assert!(cluster.met_a_stamp_conflict(N1) || cluster.met_a_stamp_conflict(N2), "it is reported");
    // The third replica is sent the record once the refusal is noticed.
    cluster.pass(HEDGE_AFTER_MAX, &[N2]);
    cluster.run(&ALL);
    let seen = cluster.seen_by(read);
    assert_eq!(ALL.iter().filter(|node| cluster.value_on_disk(**node) == seen).count(), 2, "{seen:?}");
    for node in ALL {
        let read = cluster.read(node);
        cluster.run(&ALL);
        cluster.pass(HEDGE_AFTER_MAX, &[node]);
        cluster.run(&ALL);
        assert_eq!(cluster.seen_by(read), seen);
    }
}

/// A late hello of a peer's earlier incarnation arrives while the present one is being recorded, so that the peer is refused.
/// Once the two nodes talk, operations in flight wait for the peer again.
#[test]
fn peer_that_was_refused_while_it_restarted_is_readmitted() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    cluster.relink(N2, N1);
    let late = cluster.take(Sent::is_hello).pop().expect("it introduces itself again");
    cluster.crash(N2, Unsynced::Lost);
    cluster.start(N2);
    // Its new incarnation is recorded here, and has not said yet that it has recorded this node.
    cluster.deliver(|sent| sent.is_hello() && sent.from == N2 && sent.to == N1);
    let read = cluster.read(N1);
    cluster.arrives(late);
    assert!(matches!(cluster.node(N1).peer_view(N2), PeerView::Refused(_)));
    cluster.run(&[N1, N2]);
    assert_eq!(cluster.node(N1).peer_view(N2), PeerView::Talking);
    assert_eq!(cluster.seen_by(read), Some(1), "two of three replicas are well");
}

/// Each of these tests finds the mutant that it is for.
#[cfg(feature = "mutants")]
#[test]
fn each_fails_where_its_rule_is_broken() {
    use crate::mutants::{each_is_found, tests};

    each_is_found(tests![
        ClockOfEarlierRoundCounts: clock_of_an_earlier_round_counts_for_no_later_write,
        AnswerOfEarlierRoundCounts: late_digests_of_an_earlier_round_end_no_read,
        AnswerOfEarlierRoundCounts: late_refusal_of_an_earlier_round_ends_no_read,
        SameStampIsMerged: records_of_one_stamp_are_never_merged,
    ]);
}
