//! Late answers: each test lets an answer arrive that was meant for an earlier round, and sees that it counts for nothing.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, where each must fail.

use std::time::Duration;

use crate::cluster::{Cluster, N1, N2, N3, Sent, Unsynced};
use quorate::protocol::{Failure, PeerView, Reply};
use quorate::types::{Clock, NodeIndex, Stamp};

const ALL: [NodeIndex; 3] = [N1, N2, N3];
/// Enough for an operation to ask again.
const A_RESEND: Duration = Duration::from_secs(1);

/// A clock that was read before the write began may be below a write that ended since: the stamp drawn above it would be
/// too small, and the write lost although it is acknowledged.
#[test]
fn clock_of_an_earlier_round_counts_for_no_later_write() {
    let mut cluster = Cluster::formed(3);
    let first = cluster.write(N1, 1);
    cluster.deliver(|sent| sent.to == N3);
    let late = cluster.take(|sent| sent.from == N3 && sent.is_answer());
    assert_eq!(late.len(), 1, "the third node's clock, as it is now");
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

/// A read that asks anew wants whole records, and holds it against a replica that shows a digest without one. Marks that
/// were asked for in its first round are no such thing.
#[test]
fn late_marks_of_an_earlier_round_end_no_read() {
    let mut cluster = Cluster::formed(3);
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

/// A refusal that was meant for an earlier round, of a disk that has been read since, does not add up with that of another
/// disk now: at each moment a majority is well.
#[test]
fn late_refusal_of_an_earlier_round_ends_no_read() {
    let mut cluster = Cluster::formed(3);
    cluster.write_among(N1, &ALL, 1);
    let unfinished = cluster.write(N1, 2);
    cluster.run_clock_rounds();
    assert_eq!(cluster.take(|sent| sent.stores().is_some()).len(), 2, "one node alone has the second write");

    let read = cluster.read(N2);
    cluster.set_readable(N3, false);
    cluster.deliver(|sent| sent.to == N3);
    cluster.set_readable(N3, true);
    let late = cluster.take(|sent| sent.from == N3 && sent.is_answer());
    assert_eq!(late.len(), 1, "it could not be read for a moment");
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

/// An operator gives one stamp to two values, each on a replica of its own, which no node would do. What was read once
/// stays: a replica that has the one value does not stand for the other.
#[test]
fn records_of_one_stamp_are_never_merged() {
    let mut cluster = Cluster::formed(3);
    let before = cluster.write_among(N1, &ALL, 1);
    let clock = Clock { counter: before.clock.counter + 1, ..before.clock };
    let stamp = Stamp { clock, ..before };
    for (node, value) in [(N1, 5), (N2, 7)] {
        let store = cluster.store_on(node, value, &stamp);
        assert_eq!(cluster.reply_to(store), Some(&Reply::Set(stamp.clone())));
    }
    let again = cluster.store_on(N1, 7, &stamp);
    assert_eq!(cluster.failure_of(again), Some(&Failure::StampConflict));
    assert_eq!((cluster.value_on_disk(N1), cluster.value_on_disk(N2)), (Some(5), Some(7)));

    let read = cluster.read(N2);
    cluster.run(&[N1, N2]);
    assert!(cluster.reply_to(read).is_none(), "neither is held by a majority, and neither takes the other's place");
    assert!(cluster.met_a_stamp_conflict(N1) || cluster.met_a_stamp_conflict(N2), "it is reported");
    cluster.run(&ALL);
    let seen = cluster.seen_by(read);
    assert_eq!(ALL.iter().filter(|node| cluster.value_on_disk(**node) == seen).count(), 2, "{seen:?}");
    for node in ALL {
        assert_eq!(cluster.read_among(node, &ALL), seen);
    }
}

/// A peer is refused while it restarts, because a late hello of its earlier run arrives at a bad moment. Once it is met,
/// operations that were under way count on it again.
#[test]
fn peer_that_was_refused_while_it_restarted_is_counted_on_again() {
    let mut cluster = Cluster::formed(3);
    cluster.write_among(N1, &ALL, 1);
    cluster.relink(N2, N1);
    let late = cluster.take(Sent::is_hello).pop().expect("it introduces itself anew");
    cluster.crash(N2, Unsynced::Lost);
    cluster.start(N2);
    // Its new run is recorded here, and has yet to say that it has recorded this one.
    cluster.deliver(|sent| sent.is_hello() && sent.from == N2 && sent.to == N1);
    let read = cluster.read(N1);
    cluster.arrives(late);
    assert!(matches!(cluster.node(N1).peer_view(N2), PeerView::Refused(_)));
    cluster.run(&[N1, N2]);
    assert_eq!(cluster.node(N1).peer_view(N2), PeerView::Talking);
    assert_eq!(cluster.seen_by(read), Some(1), "two of three replicas are well");
}

/// The test of these tests.
#[cfg(feature = "mutants")]
#[test]
fn each_fails_where_its_rule_is_broken() {
    use quorate::mutants::{Mutant, turn_on};

    let tests: [(Mutant, &str, fn()); 4] = [
        (
            Mutant::ClockOfEarlierRoundCounts,
            "clock_of_an_earlier_round_counts_for_no_later_write",
            clock_of_an_earlier_round_counts_for_no_later_write,
        ),
        (
            Mutant::AnswerOfEarlierRoundCounts,
            "late_marks_of_an_earlier_round_end_no_read",
            late_marks_of_an_earlier_round_end_no_read,
        ),
        (
            Mutant::AnswerOfEarlierRoundCounts,
            "late_refusal_of_an_earlier_round_ends_no_read",
            late_refusal_of_an_earlier_round_ends_no_read,
        ),
        (Mutant::SameStampIsMerged, "records_of_one_stamp_are_never_merged", records_of_one_stamp_are_never_merged),
    ];
    println!("| mutant | found by the test | as |");
    println!("|---|---|---|");
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for (mutant, name, test) in tests {
        turn_on(Some(mutant));
        let found = std::panic::catch_unwind(test);
        turn_on(None);
        match found {
            Ok(()) => missed.push((mutant, name)),
            Err(panic) => {
                let what = panic.downcast_ref::<String>().map(String::as_str);
                let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                println!("| {mutant:?} | {name} | {} |", what.lines().next().unwrap_or_default());
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "nothing found by {missed:?}");
}
