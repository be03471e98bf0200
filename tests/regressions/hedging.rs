//! Hedging: a majority is asked first, and the remaining replicas once one of it is late or refuses.

use std::time::Duration;

use crate::cluster::{Cluster, N1, N2, N3, N4, N5, Sent, Unsynced};
use quorate::limits::{HEDGE_AFTER_MAX, HEDGE_AFTER_MIN, HEDGE_CONTENT_AFTER_MIN, RESEND_AFTER, SLOW_FOR};
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

/// Five replicas, of which node 1 has missed the value 2. It reads, and has been told by two others that they hold the value. What it
/// asks for the content is on the way.
fn content_is_wanted() -> (Cluster, usize, [NodeIndex; 2]) {
    let (all, others) = ([N1, N2, N3, N4, N5], [N2, N3, N4, N5]);
    let mut cluster = Cluster::bootstrapped(5);
    cluster.write_among(N1, &all, 1);
    cluster.write_among(N2, &others, 2);
    cluster.take(|_| true);
    cluster.majority_is_asked_first = true;
    cluster.pass(SLOW_FOR, &all);
    cluster.take(|_| true);
    assert_eq!(cluster.value_on_disk(N1), Some(1));
    let read = cluster.read(N1);
    let asked: Vec<NodeIndex> = others.into_iter().filter(|peer| cluster.count(|sent| sent.to == *peer) > 0).collect();
    cluster.deliver(|sent| sent.asks_for_digest() || sent.is_record_for(N1));
    let contents = cluster.take(Sent::asks_for_content);
    let [content] = &contents[..] else { panic!("one of {asked:?} is asked for it") };
    let first = content.to;
    let [other] = asked.into_iter().filter(|peer| *peer != first).collect::<Vec<_>>()[..] else {
        panic!("two others and its own replica are a majority")
    };
    cluster.arrives(content.clone());
    (cluster, read, [first, other])
}

#[test]
fn content_is_asked_of_one_holder_and_brought_to_those_that_lack_it() {
    let (mut cluster, read, _) = content_is_wanted();
    cluster.run(&[N1, N2, N3, N4, N5]);
    assert_eq!(cluster.seen_by(read), Some(2));
    assert_eq!(cluster.value_on_disk(N1), Some(2), "it makes the majority");
    assert!(cluster.stores_of(2).iter().all(|sent| sent.from != N1), "nobody else is sent it");
    cluster.assert_linearizable();
}

#[test]
fn silent_holder_of_a_content_is_waited_for_shortly() {
    let (mut cluster, read, [silent, other]) = content_is_wanted();
    let began = cluster.now();
    cluster.take(|sent| sent.from == silent);
    cluster.pass(HEDGE_CONTENT_AFTER_MIN / 2, &[N1]);
    assert_eq!(cluster.count(Sent::asks_for_content), 0, "it may be about to answer");
    cluster.pass(HEDGE_CONTENT_AFTER_MIN, &[N1]);
    assert_eq!(cluster.count(|sent| sent.asks_for_content() && sent.to == other), 1);
    cluster.run(&[N1, other]);
    assert_eq!(cluster.seen_by(read), Some(2));
    assert!(cluster.now().since(began) < HEDGE_AFTER_MAX, "no longer than other rounds wait");
    cluster.assert_linearizable();
}

#[test]
fn holder_that_started_anew_is_not_waited_for() {
    let (mut cluster, read, [first, other]) = content_is_wanted();
    cluster.take(|sent| sent.from == first);
    cluster.crash(first, Unsynced::Kept);
    cluster.start(first);
    cluster.run(&[N1, N2, N3, N4, N5]);
    cluster.pass(HEDGE_CONTENT_AFTER_MIN, &[N1]);
    cluster.run(&[N1, other]);
    assert_eq!(cluster.seen_by(read), Some(2));
    cluster.assert_linearizable();
}

#[test]
fn holders_that_are_all_silent_are_done_without() {
    let (mut cluster, read, silent) = content_is_wanted();
    cluster.take(|sent| silent.contains(&sent.from));
    let rest: Vec<NodeIndex> = [N1, N2, N3, N4, N5].into_iter().filter(|node| !silent.contains(node)).collect();
    let began = cluster.now();
    while cluster.reply_to(read).is_none() {
        cluster.pass(HEDGE_CONTENT_AFTER_MIN, &[N1]);
        cluster.run(&rest);
        assert!(cluster.now().since(began) < RESEND_AFTER + HEDGE_AFTER_MAX, "three of five replicas are well");
    }
    assert_eq!(cluster.seen_by(read), Some(2));
    cluster.assert_linearizable();
}

/// Node 1 and one peer are asked. The peer alone holds the value 2, and takes longer for a content than for a digest.
#[test]
fn sole_holder_of_a_content_is_given_its_time() {
    let mut tried = 0;
    for holder in [N2, N3] {
        let mut cluster = bootstrapped();
        cluster.write(holder, 2);
        cluster.run_clock_rounds();
        cluster.take(|_| true);
        assert_eq!([N1, holder].map(|node| cluster.value_on_disk(node)), [Some(1), Some(2)]);
        let read = cluster.read(N1);
        if cluster.count(|sent| sent.asks_for_digest() && sent.to == holder) == 0 {
            continue;
        }
        tried += 1;
        cluster.deliver(Sent::asks_for_digest);
        cluster.deliver(|sent| sent.to == N1 && sent.from == holder);
        let contents = cluster.take(Sent::asks_for_content);
        assert_eq!(contents.len(), 1, "nobody else holds it");
        cluster.pass(RESEND_AFTER / 2, &[N1]);
        assert!(!cluster.node(N1).inspect().is_slow(holder, cluster.now()), "the time of the digest has passed");
        cluster.arrives(contents[0].clone());
        cluster.run(&[N1, holder]);
        assert_eq!(cluster.seen_by(read), Some(2));
        cluster.assert_linearizable();
    }
    assert_eq!(tried, 1, "one peer is asked before the other");
}

/// The holder has a greater record by the time it is asked for the content.
#[test]
fn holder_that_has_a_newer_record_answers_with_that() {
    let (mut cluster, read, [first, _]) = content_is_wanted();
    let answer = cluster.take(|sent| sent.from == first && sent.to == N1);
    assert_eq!(answer.len(), 1, "its answer is lost");
    cluster.write_among(N2, &[N2, N3, N4, N5], 3);
    cluster.pass(HEDGE_CONTENT_AFTER_MIN, &[N1]);
    cluster.run(&[N1, N2, N3, N4, N5]);
    assert_eq!(cluster.seen_by(read), Some(3));
    cluster.assert_linearizable();
}

/// Node 2 alone holds the value 2, and node 1 has been told so by node 2. It lacks the value itself, and keeps it slowly.
#[test]
fn others_are_sent_a_record_when_those_that_lack_it_are_late() {
    let mut cluster = bootstrapped();
    cluster.write(N2, 2);
    cluster.run_clock_rounds();
    cluster.take(|_| true);
    assert_eq!(ALL.map(|node| cluster.value_on_disk(node)), [Some(1), Some(2), Some(1)]);
    cluster.majority_is_asked_first = false;
    let read = cluster.read(N1);
    cluster.hold_disk(N1);
    let is_for_node_3 = |sent: &Sent| sent.to == N3 && sent.stores().is_some();
    cluster.deliver(|sent| [sent.from, sent.to].iter().all(|node| [N1, N2].contains(node)));
    assert!(cluster.waits_at_disk(N1), "it keeps the record");
    assert_eq!(cluster.count(is_for_node_3), 0, "node 3 may hold it");
    cluster.pass(HEDGE_AFTER_MAX, &[N1]);
    assert_eq!(cluster.count(is_for_node_3), 1);
    cluster.run(&ALL);
    assert_eq!(cluster.seen_by(read), Some(2), "nodes 2 and 3 hold it");
    cluster.assert_linearizable();
}
