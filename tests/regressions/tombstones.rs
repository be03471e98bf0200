//! Deletions that are forgotten: nothing that was deleted may come back, and nothing that is there may go.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::time::Duration;

use crate::ALL;
use crate::cluster::{Cluster, N1, N2, N3, N4, N5, Sent, Unsynced};
use crate::repair::while_away;
use quorate::protocol::{
    Failure, Message, RepairOrder, RepairSettings, Reply, Request, StoreOrigin, TombstoneSettings,
};
use quorate::types::{Age, Change, Clock, Condition, Content, NodeIndex, ReadKind, Record, Stamp, Version};

/// Nodes 4 and 5 are coordinators that are no replicas of the key.
pub const FIVE: [NodeIndex; 5] = [N1, N2, N3, N4, N5];

/// Long enough for a deletion to be forgotten.
pub const LONG: Duration = Duration::from_secs(40);

/// Five nodes, of which the first three are replicas of the key.
pub fn five() -> Cluster {
    let mut cluster = Cluster::with_replicas(5, 3);
    cluster.deadline = Duration::from_mins(2);
    cluster
}

/// A write or delete has its stamp, and what it is to store is held up.
fn hold_stores(cluster: &mut Cluster, at: NodeIndex) -> (Vec<Sent>, Clock) {
    cluster.run_clock_rounds();
    let stores = cluster.take(|sent| sent.from == at && sent.stores().is_some());
    let clock = stores[0].stores().expect("it is a store").stamp.clock;
    (stores, clock)
}

/// Node 5 has a clock above all that was drawn so far, without anybody of the replicas having it.
fn node_5_goes_ahead(cluster: &mut Cluster) {
    for value in 100..105 {
        cluster.write_other(N5, value);
        cluster.run(&FIVE);
    }
}

fn arrive(cluster: &mut Cluster, held: Vec<Sent>) {
    for sent in held {
        cluster.arrives(sent);
    }
}

/// Gives a coordinator the time to try again.
pub fn wait_for(cluster: &mut Cluster, at: NodeIndex, among: &[NodeIndex]) {
    for _ in 0..300 {
        cluster.run(among);
        cluster.pass(Duration::from_millis(100), &[at]);
    }
}

/// Repair was off when the nodes started, and with it the rounds for deletions.
#[test]
fn deletions_go_once_repair_is_turned_on() {
    let mut cluster = Cluster::with_replicas(3, 3);
    cluster.write_among(N1, &ALL, 1);
    cluster.delete(N1);
    cluster.run(&ALL);
    cluster.live(LONG);
    assert!(!is_gone(&cluster), "nobody forgets");
    let kept_for = Duration::from_secs(10);
    let tombstones = Some(TombstoneSettings { kept_for, of_slot_max: 1_000 });
    let settings = RepairSettings { tombstones, ..RepairSettings::default() };
    cluster.order_repair(&RepairOrder::Configure(Some(settings)));
    cluster.live(LONG);
    assert!(is_gone(&cluster), "all have the deletion");
    assert_eq!(cluster.read_among(N2, &ALL), None);
    cluster.assert_linearizable();
}

pub fn is_gone(cluster: &Cluster) -> bool {
    ALL.into_iter().all(|node| cluster.on_disk(node).is_none())
}

/// A conditional write is prepared, then the key is deleted, and the deletion is forgotten. The record that arrives then is above
/// the fence by its ballot. It is below the deletion by its stamp.
#[test]
fn conditional_write_that_is_accepted_late_brings_nothing_back() {
    let mut cluster = five();
    let base = Version::new(cluster.write_among(N4, &FIVE, 1), None);
    let delete = cluster.delete(N4);
    let (stores, until) = hold_stores(&mut cluster, N4);
    node_5_goes_ahead(&mut cluster);
    let change = cluster.write_if(N5, Condition::Version(base), 2, 7);
    cluster.deliver(|sent| sent.prepares() || sent.promises());
    let accepts = cluster.take(|sent| sent.accepts().is_some());
    let ballot = accepts[0].accepts().expect("it is to be accepted").proposal.as_ref().unwrap().ballot.clone();
    assert!(ballot.clock > until, "its ballot is above the deletion");
    arrive(&mut cluster, stores);
    cluster.run(&FIVE);
    cluster.stamp_of(delete);
    cluster.round(N4, until);
    assert!(is_gone(&cluster), "the deletion is forgotten");
    assert_eq!(cluster.read_among(N4, &FIVE), None);

    arrive(&mut cluster, accepts);
    wait_for(&mut cluster, N5, &FIVE);
    assert_eq!(cluster.read_among(N4, &FIVE), None, "it was deleted");
    assert_eq!(cluster.failure_of(change), Some(&Failure::OutcomeForgotten));
    cluster.assert_linearizable();
}

/// The same with a copy of the record for a replica that had not accepted it.
#[test]
fn late_copy_of_a_chosen_record_brings_nothing_back() {
    let mut cluster = five();
    let base = Version::new(cluster.write_among(N4, &FIVE, 1), None);
    cluster.delete(N4);
    let (stores, until) = hold_stores(&mut cluster, N4);
    node_5_goes_ahead(&mut cluster);
    let change = cluster.write_if(N5, Condition::Version(base), 2, 7);
    cluster.deliver(|sent| sent.prepares() || sent.promises());
    let copy = cluster.take(|sent| sent.accepts().is_some() && sent.to == N3);
    let copy: Record = copy[0].accepts().expect("it is to be accepted").clone();
    cluster.run(&FIVE);
    cluster.version_of(change);
    arrive(&mut cluster, stores);
    cluster.run(&FIVE);
    cluster.round(N4, until);
    assert!(is_gone(&cluster), "the deletion is forgotten");
    assert_eq!(cluster.read_among(N4, &FIVE), None);

    let (key, age, origin) = (cluster.key.clone(), Age::NONE, StoreOrigin::Repair);
    cluster.asks(N5, N3, Request::Store { key, record: copy, age, origin });
    let read = cluster.read(N4);
    wait_for(&mut cluster, N4, &[N2, N3, N4]);
    assert_eq!(cluster.seen_by(read), None, "it was deleted");
    cluster.assert_linearizable();
}

/// A seal has reached one replica. A read tells the version of the absence there, and an addition counts from it. Others push
/// the addition out of the key's history. Sent again, it must not be made again.
#[test]
fn addition_since_an_absence_is_made_once() {
    let mut cluster = five();
    cluster.write_among(N4, &FIVE, 1);
    let delete = cluster.delete(N4);
    cluster.run(&FIVE);
    let first = cluster.stamp_of(delete).clock;
    cluster.round(N4, first);
    let second = Clock { counter: first.counter + 2, ..first };
    cluster.fence(N4, second);
    cluster.run(&FIVE);
    cluster.seal(N4, N1, second);
    let read = cluster.read(N4);
    wait_for(&mut cluster, N4, &[N1, N2, N4]);
    let Some(Reply::Record(Some(absence))) = cluster.reply_to(read) else { panic!("an absence has a version here") };
    let since = absence.version();
    assert_eq!(since.stamp, Stamp::of_absence(second));

    let add = |since| Change::Add { delta: 1, since, ttl: None, keeps_ttl: false };
    let among = [N2, N3, N4];
    cluster.change(N4, add(Some(since.clone())), 1, false);
    wait_for(&mut cluster, N4, &among);
    for name in 2..12 {
        let other = cluster.change(N4, add(None), name, false);
        wait_for(&mut cluster, N4, &among);
        assert_eq!(cluster.sum_of(other), i64::from(name));
    }
    let again = cluster.change(N4, add(Some(since)), 1, true);
    wait_for(&mut cluster, N4, &among);
    assert_eq!(cluster.failure_of(again), Some(&Failure::OutcomeForgotten), "nobody knows what became of it");
    assert_eq!(cluster.read_among(N4, &FIVE), Some(11));
}

/// A read was answered by a replica before it had the deletion, and by another one after that had forgotten it.
#[test]
fn read_that_spans_a_round_brings_nothing_back() {
    // A read asks one replica for the record, and the others for its digest. Its number decides which.
    let played = ALL.into_iter().filter(|stale| spans_a_round(*stale)).count();
    assert!(played > 0, "a replica is asked for the record");
}

/// Plays it where the read asks `stale` for the record, and says whether it does.
fn spans_a_round(stale: NodeIndex) -> bool {
    let mut cluster = five();
    cluster.write_among(N4, &FIVE, 1);
    let delete = cluster.delete(N4);
    let (stores, until) = hold_stores(&mut cluster, N4);
    let (late, stores) = stores.into_iter().partition(|sent| sent.to == stale);
    arrive(&mut cluster, stores);
    cluster.run(&FIVE);
    cluster.stamp_of(delete);
    let read = cluster.read(N5);
    let (asked_stale, mut asked_sealed): (Vec<Sent>, Vec<Sent>) =
        cluster.take(Sent::asks_to_read).into_iter().partition(|sent| sent.to == stale);
    let asks_for_record = |sent: &Sent| {
        matches!(&sent.message, Message::Request { request: Request::Get { read_kind: ReadKind::Data, .. }, .. })
    };
    if !asked_stale.first().is_some_and(asks_for_record) {
        return false;
    }
    // What a third one is asked is lost.
    asked_sealed.truncate(1);
    let sealed = asked_sealed[0].to;
    let third = ALL.into_iter().find(|node| ![stale, sealed].contains(node)).unwrap();
    arrive(&mut cluster, asked_stale);
    arrive(&mut cluster, late);
    cluster.fence(N4, until);
    cluster.seal(N4, sealed, until);
    assert!(cluster.on_disk(sealed).is_none() && cluster.on_disk(stale).is_some());
    arrive(&mut cluster, asked_sealed);
    cluster.deliver(|sent| sent.is_record_for(N5));
    wait_for(&mut cluster, N5, &[stale, third, N5]);
    wait_for(&mut cluster, N5, &FIVE);
    assert_eq!(cluster.seen_by(read), None, "it was deleted before the read began");
    cluster.assert_linearizable();
    true
}

/// Writes that are held up while a round begins are taken in nowhere any more: what the round has looked at stays so.
#[test]
fn fence_keeps_out_what_was_stamped_before() {
    let mut cluster = five();
    let write = cluster.write(N4, 1);
    let (writes, _) = hold_stores(&mut cluster, N4);
    let delete = cluster.delete(N5);
    let (deletes, until) = hold_stores(&mut cluster, N5);
    cluster.fence(N4, until);
    cluster.run(&FIVE);
    arrive(&mut cluster, writes);
    arrive(&mut cluster, deletes);
    cluster.run(&FIVE);
    assert!(is_gone(&cluster), "nothing was taken in");
    for operation in [write, delete] {
        assert!(matches!(cluster.failure_of(operation), Some(Failure::OutcomeUnknown(_))), "it was sent to replicas");
    }
    assert_eq!(cluster.read_among(N4, &FIVE), None);
    cluster.assert_linearizable();
}

#[test]
fn fence_outlives_a_restart() {
    let mut cluster = five();
    cluster.write(N4, 1);
    let (_, until) = hold_stores(&mut cluster, N4);
    cluster.fence(N5, until);
    cluster.run(&FIVE);
    for node in ALL {
        cluster.crash(node, Unsynced::Kept);
        cluster.take(|sent| sent.from == node || sent.to == node);
        cluster.start(node);
    }
    // Its coordinator meets them again, and sends what it has.
    cluster.run(&FIVE);
    wait_for(&mut cluster, N4, &FIVE);
    assert!(is_gone(&cluster), "nothing was taken in");
}

#[test]
fn fence_waits_for_what_was_taken_in() {
    let mut cluster = five();
    cluster.hold_disk(N3);
    cluster.write(N4, 1);
    cluster.run_clock_rounds();
    cluster.run(&[N3, N4]);
    let until = cluster.node(N4).clock();
    assert!(cluster.waits_at_disk(N3));
    cluster.fence(N5, until);
    assert_eq!(cluster.count(|sent| sent.from == N3 && sent.is_fenced()), 0, "its record is on its way to the disk");
    cluster.flush_disk(N3);
    assert_eq!(cluster.count(|sent| sent.from == N3 && sent.is_fenced()), 0, "and so is the fence");
    cluster.let_disk_go(N3);
    assert_eq!(cluster.count(|sent| sent.from == N3 && sent.is_fenced()), 1);
}

/// What the fence keeps out is not called beaten by a record that was computed from an absence: it would have happened before
/// that, and nobody can have seen it.
#[test]
fn write_that_is_kept_out_is_not_called_done() {
    let mut cluster = five();
    let write = cluster.write(N4, 1);
    let (stores, until) = hold_stores(&mut cluster, N4);
    cluster.round(N4, until);
    assert_eq!(cluster.read_among(N5, &FIVE), None);
    let change = cluster.write_if(N5, Condition::Absent, 2, 7);
    wait_for(&mut cluster, N5, &FIVE);
    assert_eq!(cluster.version_of(change).stamp, Stamp::of_absence(until), "it is computed from the absence");
    arrive(&mut cluster, stores);
    cluster.run(&FIVE);
    assert!(matches!(cluster.failure_of(write), Some(Failure::OutcomeUnknown(_))), "{:?}", cluster.reply_to(write));
    assert_eq!(cluster.read_among(N5, &FIVE), Some(2));
    cluster.assert_linearizable();
}

#[test]
fn fence_lets_repair_pass() {
    let mut cluster = five();
    cluster.write(N4, 1);
    let (stores, until) = hold_stores(&mut cluster, N4);
    arrive(&mut cluster, stores.into_iter().filter(|sent| sent.to == N3).collect());
    cluster.crash(N4, Unsynced::Kept);
    cluster.take(|sent| sent.from == N4 || sent.to == N4);
    cluster.fence(N5, until);
    let read = cluster.read(N5);
    wait_for(&mut cluster, N5, &[N2, N3, N5]);
    assert_eq!(cluster.seen_by(read), Some(1), "a read that finds it brings it to a majority");
    cluster.assert_linearizable();
}

#[test]
fn fence_keeps_out_the_ballots_before_it() {
    let mut cluster = five();
    let base = Version::new(cluster.write_among(N4, &FIVE, 1), None);
    cluster.write_if(N5, Condition::Version(base), 2, 7);
    cluster.deliver(|sent| sent.prepares() || sent.promises());
    let accepts = cluster.take(|sent| sent.accepts().is_some());
    let until = cluster.node(N5).clock();
    cluster.fence(N4, until);
    arrive(&mut cluster, accepts);
    assert!(ALL.into_iter().all(|node| cluster.value_on_disk(node) == Some(1)), "its ballot is not above the fence");
    wait_for(&mut cluster, N5, &FIVE);
    assert_eq!(cluster.read_among(N4, &FIVE), Some(2), "a greater one is");
    cluster.assert_linearizable();
}

/// Values and absences below the seal of their slot can be changed: what is computed stands above the seal.
#[test]
fn conditional_writes_go_on_in_a_sealed_slot() {
    for deletes in [false, true] {
        let mut cluster = five();
        cluster.write_among(N4, &FIVE, 1);
        if deletes {
            cluster.delete(N4);
            cluster.run(&FIVE);
        }
        let until = cluster.node(N4).clock();
        cluster.round(N4, until);
        assert_eq!(is_gone(&cluster), deletes, "a value stays");
        let add = Change::Add { delta: 5, since: None, ttl: None, keeps_ttl: false };
        let add = cluster.change(N5, add, 7, false);
        wait_for(&mut cluster, N5, &FIVE);
        assert_eq!(cluster.sum_of(add), if deletes { 5 } else { 6 });
        let version = cluster.version_of(add);
        assert_eq!(version.stamp, Stamp::of_absence(until));
        let change = cluster.write_if(N4, Condition::Version(version), 9, 8);
        wait_for(&mut cluster, N4, &FIVE);
        cluster.version_of(change);
        assert_eq!(cluster.read_among(N5, &FIVE), Some(9));
        cluster.assert_linearizable();
    }
}

/// A seal has reached one replica, and a conditional write is told it. It must not stand above the seal before a majority has it:
/// others may still build below, and their records would be beaten although they were chosen.
#[test]
fn seal_is_at_a_majority_before_anything_stands_on_it() {
    let mut cluster = five();
    cluster.write_among(N4, &FIVE, 1);
    cluster.delete(N4);
    cluster.run(&FIVE);
    let until = cluster.node(N4).clock();
    cluster.fence(N5, until);
    cluster.run(&FIVE);
    cluster.seal(N5, N1, until);
    cluster.write_if(N4, Condition::Absent, 2, 7);
    cluster.deliver(|sent| sent.prepares() && sent.to != N3 || sent.promises() && sent.to == N4);
    cluster.deliver(|sent| sent.accepts().is_some() && sent.to == N1);
    cluster.take(|sent| sent.from == N4 || sent.to == N4);
    let second = cluster.write_if(N5, Condition::Absent, 3, 8);
    wait_for(&mut cluster, N5, &[N2, N3, N5]);
    cluster.version_of(second);
    let read = cluster.read(N5);
    wait_for(&mut cluster, N5, &[N1, N2, N5]);
    assert_eq!(cluster.seen_by(read), Some(3), "it was acknowledged");
    cluster.assert_linearizable();
}

// Rounds as they happen by themselves.

#[test]
fn deletions_are_forgotten_by_all() {
    for at in ALL {
        let mut cluster = Cluster::forgetting();
        cluster.write_among(at, &ALL, 1);
        cluster.live(Duration::from_secs(1));
        cluster.delete(at);
        cluster.run(&ALL);
        assert!(ALL.into_iter().all(|node| cluster.on_disk(node).is_some()), "all have the deletion");
        cluster.live(LONG);
        assert!(is_gone(&cluster), "it is forgotten");
        for node in ALL {
            assert!(!cluster.is_in_index(node) && cluster.leaves_are_true(node), "node {node:?}");
            assert_eq!(cluster.read_among(node, &ALL), None);
        }
        let change = cluster.write_if(at, Condition::Absent, 2, 7);
        cluster.live(Duration::from_secs(1));
        cluster.version_of(change);
        assert_eq!(cluster.read_among(at, &ALL), Some(2));
        assert!(ALL.into_iter().all(|node| cluster.leaves_are_true(node) && cluster.index_is_whole(node)));
        cluster.assert_linearizable();
    }
}

/// The same with a value whose time to live has passed: its deletion is a conditional one.
#[test]
fn expiries_are_forgotten_by_all() {
    let mut cluster = Cluster::forgetting();
    cluster.write_for(N1, 1, Duration::from_secs(2));
    cluster.run(&ALL);
    cluster.live(LONG + LONG);
    assert!(is_gone(&cluster), "it is forgotten");
    assert_eq!(cluster.read_among(N2, &ALL), None);
    cluster.assert_linearizable();
}

/// ScyllaDB: a deletion was dropped before a replica had it that was away. The replica came back with the value, and repair
/// spread it (<https://github.com/scylladb/scylladb/issues/3560>).
///
/// Here no time that passes is enough. The deletion is kept until the replica has it.
#[test]
fn value_does_not_return_after_its_deletion_was_dropped_scylladb_3560() {
    for away in ALL {
        let mut cluster = Cluster::forgetting_and_repairing();
        cluster.write_among(N1, &ALL, 1);
        let others: Vec<NodeIndex> = ALL.into_iter().filter(|node| *node != away).collect();
        while_away(&mut cluster, away, |cluster, others| {
            cluster.delete(others[0]);
            cluster.run(&others);
            cluster.live(10 * LONG);
            let kept = others.into_iter().filter_map(|node| cluster.on_disk(node));
            assert!(kept.map(|record| record.content.clone()).eq([Content::Tombstone, Content::Tombstone]));
            let named = others.into_iter().filter(|node| cluster.deletions_wait_for(*node) == [away]);
            assert_eq!(named.count(), 1, "people are told once whom the deletion waits for");
        });
        assert_eq!(cluster.value_on_disk(away), Some(1), "it has missed the deletion");
        cluster.live(4 * LONG);
        assert!(is_gone(&cluster), "it is forgotten once all have it");
        for node in ALL {
            assert_eq!(cluster.read_among(node, &ALL), None);
            assert!(cluster.deletions_wait_for(node).is_empty(), "of {others:?}");
        }
        cluster.assert_linearizable();
    }
}

#[test]
fn round_needs_the_fence_of_all() {
    let mut cluster = Cluster::forgetting();
    cluster.delete(N1);
    cluster.run(&ALL);
    cluster.live_without(LONG, &ALL, |sent| sent.to == N3 && (sent.fences() || sent.is_fenced()));
    // Node 3 may run it itself, for all it knows: then it is fenced.
    let sealed = ALL.into_iter().filter(|node| cluster.seal_of(*node).is_some()).count();
    assert_eq!(sealed, 0, "node 3 was not fenced");
    cluster.live(LONG);
    assert!(is_gone(&cluster), "it is now");
}

/// A key is written and deleted. Then `restarted` restarts, so that its epoch is above the clocks of the others, and what was on its
/// way is lost.
fn restarts_after_a_deletion(restarted: NodeIndex) -> Cluster {
    let mut cluster = Cluster::forgetting();
    cluster.write_among(restarted, &ALL, 1);
    cluster.delete(restarted);
    cluster.run(&ALL);
    cluster.crash(restarted, Unsynced::Kept);
    cluster.take(|sent| sent.from == restarted || sent.to == restarted);
    cluster.start(restarted);
    cluster
}

/// A node restarts, so that its epoch is above the clocks of the others, and what it tells them of its clock is lost. A round
/// for deletions begins while a write is on its way that they alone gave their clocks for. The write has begun a moment ago, so
/// that it must not fail.
#[test]
fn write_is_stamped_above_the_fence_of_a_restarted_node() {
    for restarted in ALL {
        let mut cluster = restarts_after_a_deletion(restarted);
        let is_lost = |sent: &Sent| sent.tells_clock() && sent.from == restarted;
        let until = cluster.now().after(LONG);
        while cluster.count(Sent::fences) == 0 {
            assert!(cluster.now() < until, "a round begins");
            cluster.deliver(|sent| !sent.fences() && !is_lost(sent));
            cluster.take(is_lost);
            if cluster.count(Sent::fences) == 0 {
                cluster.pass(Duration::from_millis(10), &ALL);
            }
        }
        let fences = cluster.take(Sent::fences);
        let others: Vec<NodeIndex> = ALL.into_iter().filter(|node| *node != restarted).collect();
        let write = cluster.write(others[0], 2);
        for _ in 0..2 {
            cluster.deliver(|sent| sent.belongs_to_a_clock_round() && sent.from != restarted && sent.to != restarted);
            // It may have asked the restarted one first.
            cluster.pass(Duration::from_millis(200), &[others[0]]);
        }
        let stores = cluster.take(|sent| sent.stores().is_some());
        assert!(!stores.is_empty(), "its record is on its way");
        arrive(&mut cluster, fences);
        arrive(&mut cluster, stores);
        cluster.live(Duration::from_secs(1));
        cluster.stamp_of(write);
        assert_eq!(cluster.read_among(restarted, &ALL), Some(2));
        cluster.assert_linearizable();
    }
}

#[test]
fn told_clock_is_taken_over() {
    let mut cluster = Cluster::forgetting();
    let Clock { epoch, counter } = cluster.write_among(N1, &ALL, 1).clock;
    let told = Clock { epoch, counter: counter + 500 };
    cluster.asks(N2, N1, Request::TakeClock { clock: told });
    let next = cluster.write_among(N1, &ALL, 2).clock;
    assert!(next > told && next.epoch == epoch, "{next}");
}

/// Following a clock that no honest node can have would use up the clocks.
#[test]
fn told_clock_that_no_node_can_have_is_not_taken_over() {
    let mut cluster = Cluster::forgetting();
    cluster.messages_are_damaged = true;
    let before = cluster.write_among(N1, &ALL, 1).clock;
    cluster.asks(N2, N1, Request::TakeClock { clock: Clock { epoch: u64::MAX, counter: 1 } });
    let after = cluster.write_among(N1, &ALL, 2).clock;
    assert!(after > before && after.epoch == before.epoch, "{after}");
}

/// Nobody writes any more, so that nothing but the rounds tells the others of the epoch.
#[test]
fn deletions_are_forgotten_after_a_restart() {
    for restarted in ALL {
        let mut cluster = restarts_after_a_deletion(restarted);
        cluster.live(LONG);
        assert!(is_gone(&cluster), "it is forgotten");
        cluster.assert_linearizable();
    }
}

/// Node 3 has missed the deletion.
fn node_3_missed_the_deletion(cluster: &mut Cluster) {
    cluster.write_among(N1, &ALL, 1);
    let delete = cluster.delete(N1);
    cluster.run_clock_rounds();
    cluster.take(|sent| sent.stores().is_some() && sent.to == N3);
    cluster.run(&ALL);
    cluster.stamp_of(delete);
    assert_eq!(cluster.value_on_disk(N3), Some(1));
}

#[test]
fn round_needs_the_records_of_all() {
    let mut cluster = Cluster::forgetting();
    node_3_missed_the_deletion(&mut cluster);
    let is_lost = |sent: &Sent| sent.lists_old_records() && (sent.to == N3 || sent.from == N3);
    cluster.live_without(LONG, &ALL, is_lost);
    assert!(ALL.into_iter().all(|node| cluster.seal_of(node).is_none()), "nobody knows what node 3 has");
    cluster.live(LONG);
    assert!(is_gone(&cluster), "it has it now");
    cluster.assert_linearizable();
}

#[test]
fn round_brings_the_deletion_to_all() {
    let mut cluster = Cluster::forgetting();
    node_3_missed_the_deletion(&mut cluster);
    cluster.live(LONG);
    assert!(is_gone(&cluster), "all had it, and have forgotten it");
    assert_eq!(cluster.read_among(N3, &[N2, N3]), None);
    cluster.assert_linearizable();
}

/// As repair, a round spreads nothing that may not be chosen: see `repair_spreads_nothing_that_was_never_chosen`. It settles the
/// record under a ballot of its own.
#[test]
fn round_spreads_nothing_that_was_never_chosen() {
    let mut cluster = Cluster::forgetting();
    let beside = cluster.key_beside();
    let base = Version::new(cluster.write_among(N2, &ALL, 1), None);
    cluster.delete_beside(N2, beside);
    cluster.run(&ALL);
    let first = cluster.write_if(N1, Condition::Version(base), 2, 7);
    cluster.deliver(|sent| {
        sent.from == N1 && sent.to == N2 && sent.prepares() || sent.from == N2 && sent.to == N1 && sent.promises()
    });
    assert_eq!(cluster.value_on_disk(N1), Some(2), "node 1 alone has accepted it");
    let tag = |record: &Record| record.proposal.as_ref().map(|proposal| proposal.ballot.clone());
    let unchosen = tag(cluster.on_disk(N1).unwrap());
    cluster.crash(N1, Unsynced::Kept);
    cluster.take(|sent| sent.from == N1 || sent.to == N1);
    assert_eq!(cluster.reply_to(first), None);
    cluster.start(N1);
    cluster.live(2 * LONG);
    assert!(ALL.into_iter().all(|node| cluster.seal_of(node).is_some()), "the slot is sealed");
    assert!(ALL.into_iter().all(|node| cluster.value_on_disk(node) == Some(2)), "all hold the same");
    let stored: Vec<_> = cluster.stores_of(2).iter().filter_map(|sent| sent.stores()).map(tag).collect();
    assert!(!stored.contains(&unchosen), "it was stored as it was found");
    cluster.assert_linearizable();
}

#[cfg(feature = "mutants")]
#[test]
fn every_broken_rule_of_forgetting_is_found() {
    crate::mutants::each_is_found(crate::mutants::tests![
        AcceptBelowSeal: conditional_write_that_is_accepted_late_brings_nothing_back,
        SealJudgesHigh: conditional_write_that_is_accepted_late_brings_nothing_back,
        RepairIgnoresSeal: late_copy_of_a_chosen_record_brings_nothing_back,
        AbsenceToldUnsealed: addition_since_an_absence_is_made_once,
        WritesBackBelowSeal: read_that_spans_a_round_brings_nothing_back,
        NoFence: fence_keeps_out_what_was_stamped_before,
        FenceIsVolatile: fence_outlives_a_restart,
        FenceOvertakesBatch: fence_waits_for_what_was_taken_in,
        FencedCountsAsBeaten: write_that_is_kept_out_is_not_called_done,
        FenceStopsRepair: fence_lets_repair_pass,
        FenceLetsBallotsPass: fence_keeps_out_the_ballots_before_it,
        SealNotSettled: seal_is_at_a_majority_before_anything_stands_on_it,
        NothingIsLifted: conditional_writes_go_on_in_a_sealed_slot,
        LiftsAbsenceOnly: conditional_writes_go_on_in_a_sealed_slot,
        ForgottenStaysInLeaf: deletions_are_forgotten_by_all,
        FenceIsOwnClock: write_is_stamped_above_the_fence_of_a_restarted_node,
        FenceAtMajority: round_needs_the_fence_of_all,
        PullFromMajority: round_needs_the_records_of_all,
        RecordsAreNotBroughtLevel: round_brings_the_deletion_to_all,
        SyncSpreadsUnchosen: round_spreads_nothing_that_was_never_chosen,
    ]);
}
