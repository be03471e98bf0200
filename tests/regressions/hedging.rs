//! Hedging: a majority is asked first, and the remaining replicas once one of it is late or refuses.

use std::time::Duration;

use crate::cluster::{Cluster, N1, N2, N3, Sent, Unsynced};
use quorate::limits::{HEDGE_AFTER_MIN, RESEND_AFTER, SLOW_FOR};
use quorate::protocol::message::{Answer, Refusal};
use quorate::protocol::{Message, Reply};
use quorate::types::{Condition, NodeIndex};

const ALL: [NodeIndex; 3] = [N1, N2, N3];

fn bootstrapped() -> Cluster {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    cluster.majority_is_asked_first = true;
    // No peer counts as slow any longer.
    cluster.pass(SLOW_FOR, &ALL);
    cluster
}

fn is_question(sent: &Sent) -> bool {
    sent.from == N1 && !sent.is_answer() && !sent.is_hello() && sent.stores().is_none()
}

/// The peers that node 1 has asked. The requests are lost.
fn asked(cluster: &mut Cluster) -> Vec<NodeIndex> {
    cluster.take(is_question).into_iter().map(|sent| sent.to).collect()
}

/// The peer that node 1 asks first, and the other one.
fn first_and_other(cluster: &mut Cluster) -> (NodeIndex, NodeIndex) {
    let to: Vec<NodeIndex> = cluster.take(is_question).iter().map(|sent| sent.to).collect();
    let [first] = to[..] else { panic!("one peer and its own replica are a majority: {to:?}") };
    (first, if first == N2 { N3 } else { N2 })
}

#[test]
fn silent_peer_is_avoided_after_one_short_wait() {
    for write in [false, true] {
        let mut cluster = bootstrapped();
        let invoke = |cluster: &mut Cluster| if write { cluster.write(N1, 2) } else { cluster.read(N1) };
        let began = cluster.now();
        let operation = invoke(&mut cluster);
        let (silent, other) = first_and_other(&mut cluster);
        cluster.pass(HEDGE_AFTER_MIN / 2, &[N1]);
        assert_eq!(cluster.count(is_question), 0, "the peer may be about to answer");
        cluster.pass(HEDGE_AFTER_MIN, &[N1]);
        cluster.take(|sent| sent.to == silent);
        cluster.run(&[N1, other]);
        assert!(cluster.reply_to(operation).is_some(), "a majority of the replicas is well");
        assert!(cluster.now().since(began) < RESEND_AFTER, "long before a request is resent");

        assert!(
            cluster.node(N1).inspect().is_slow(silent, cluster.now())
                && !cluster.node(N1).inspect().is_slow(other, cluster.now())
        );
        let next = invoke(&mut cluster);
        assert_eq!(cluster.count(|sent| is_question(sent) && sent.to == other), 1, "the other one is asked first");
        cluster.run(&[N1, other]);
        assert!(cluster.reply_to(next).is_some(), "and nothing waits for the silent one");

        cluster.pass(SLOW_FOR, &[N1]);
        invoke(&mut cluster);
        assert_eq!(asked(&mut cluster), [silent], "the peer is asked first again");
    }
}

#[test]
fn refusal_is_no_reason_to_wait() {
    let mut cluster = bootstrapped();
    let began = cluster.now();
    cluster.read(N1);
    let (refusing, other) = first_and_other(&mut cluster);
    cluster.set_readable(refusing, false);
    let read = cluster.read(N1);
    cluster.run(&[N1, refusing]);
    assert_eq!(cluster.reply_to(read), None, "one replica has refused");
    cluster.pass(Duration::ZERO, &[N1]);
    cluster.run(&[N1, other]);
    assert_eq!((cluster.seen_by(read), cluster.now()), (Some(1), began), "the other is asked at once");

    assert!(cluster.node(N1).inspect().is_slow(refusing, cluster.now()));
    cluster.read(N1);
    assert_eq!(asked(&mut cluster), [other]);
}

/// Node 1 has no room for the record in an answer: the refusal takes the place of the answer.
fn arrives_without_room(cluster: &mut Cluster, mut sent: Sent) {
    let Message::Answer { answer, .. } = &mut sent.message else { panic!("it is an answer: {sent:?}") };
    *answer = Answer::Refused(Refusal::NoRoom);
    cluster.arrives(sent);
}

#[test]
fn answer_that_there_is_no_room_for_shows_no_slow_peer() {
    let mut cluster = bootstrapped();
    let began = cluster.now();
    let read = cluster.read(N1);
    let to: Vec<NodeIndex> = [N2, N3].into_iter().filter(|peer| cluster.count(|sent| sent.to == *peer) > 0).collect();
    let [first] = to[..] else { panic!("one peer and its own replica are a majority: {to:?}") };
    cluster.deliver(is_question);
    let answer = cluster.take(|sent| sent.is_record_for(N1)).pop().expect("the peer has answered");
    arrives_without_room(&mut cluster, answer);
    assert!(!cluster.node(N1).inspect().is_slow(first, cluster.now()), "it has answered at once");
    cluster.pass(Duration::ZERO, &[N1]);
    cluster.run(&ALL);
    assert_eq!((cluster.seen_by(read), cluster.now()), (Some(1), began), "the other is asked at once");
}

/// Node 3 has answered the first question of a write, and then misses the record. It is sent the record when it comes back.
#[test]
fn late_answer_that_there_is_no_room_for_leaves_the_hint() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    let write = cluster.write_if(N1, Condition::Present, 2, 7);
    cluster.deliver(|sent| sent.from == N1 && (sent.asks_to_read() || sent.prepares()));
    let late = cluster.take(|sent| sent.from == N3 && sent.is_answer()).pop().expect("node 3 has answered");
    cluster.run(&[N1, N2]);
    assert!(cluster.take(|sent| sent.to == N3).iter().any(|sent| sent.accepts().is_some()), "node 3 misses the record");
    assert!(matches!(cluster.reply_to(write), Some(Reply::Set(_))), "nodes 1 and 2 have it");

    arrives_without_room(&mut cluster, late);
    cluster.relink(N1, N3);
    cluster.run(&[N1, N3]);
    assert_eq!(cluster.value_on_disk(N3), Some(2));
}

#[test]
fn refusal_of_the_own_replica_is_no_reason_to_wait() {
    let mut cluster = bootstrapped();
    cluster.set_readable(N1, false);
    let began = cluster.now();
    let read = cluster.read(N1);
    cluster.pass(Duration::ZERO, &[N1]);
    cluster.run(&ALL);
    assert_eq!((cluster.seen_by(read), cluster.now()), (Some(1), began));
}

#[test]
fn peer_that_comes_back_is_asked_what_was_lost_and_no_more() {
    let mut cluster = bootstrapped();
    let read = cluster.read(N1);
    let (first, other) = first_and_other(&mut cluster);
    cluster.relink(N1, other);
    cluster.run(&[N1, other]);
    assert_eq!(cluster.reply_to(read), None, "a peer that was not asked yet is not asked again");
    cluster.crash(first, Unsynced::Lost);
    cluster.start(first);
    cluster.run(&[N1, first]);
    assert_eq!(cluster.seen_by(read), Some(1), "the request is sent again, because it died with the process");
}

#[test]
fn hedge_delay_leaves_time_for_the_others_to_answer() {
    let mut cluster = bootstrapped();
    for _ in 0..20 {
        cluster.read(N1);
        cluster.pass(Duration::from_millis(40), &[]);
        cluster.run(&ALL);
    }
    cluster.deadline = Duration::from_millis(30);
    let read = cluster.read(N1);
    let (_silent, other) = first_and_other(&mut cluster);
    cluster.pass(cluster.deadline / 2, &[N1]);
    cluster.run(&[N1, other]);
    assert_eq!(cluster.seen_by(read), Some(1), "its client would not wait as long as peers usually take");
}

#[test]
fn each_peer_is_asked_first_in_turn() {
    let mut cluster = bootstrapped();
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let read = cluster.read(N1);
        first.extend(cluster.take(is_question).iter().map(|sent| sent.to));
        assert_eq!(cluster.reply_to(read), None);
    }
    assert_eq!(first.into_iter().collect::<Vec<_>>(), [N2, N3]);
}
