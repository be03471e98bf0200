//! Lists of keys: what other systems leave out, cut off or bring back, played against the pages of a list.
//!
//! A page with values is a read of the key for the checker: of its value, or of none where the page says that there is none.

use std::time::Duration;

use quorate::protocol::Reply;

use crate::ALL;
use crate::cluster::{Cluster, N1, N2, N3, Unsynced};
use quorate::types::NodeIndex;

/// Longer than a page that could end waits for more answers.
const DELAY: Duration = Duration::from_millis(150);

impl Cluster {
    /// Lists with the help of these nodes alone.
    fn list_among(&mut self, at: NodeIndex, among: &[NodeIndex]) -> usize {
        let list = self.list(at, 100);
        self.run(among);
        // The page waits for more answers, and then a read of a key asks others than were asked first.
        for _ in 0..2 {
            self.pass(DELAY, &[at]);
            self.run(among);
        }
        list
    }

    /// The last key of a page; `None` where it has all keys.
    #[track_caller]
    fn looked_to(&self, list: usize) -> Option<String> {
        match self.reply_to(list) {
            Some(Reply::Listed(page)) => page.looked_to.as_ref().map(ToString::to_string),
            other => panic!("the list is not answered: {other:?}"),
        }
    }
}

/// Elasticsearch and DynamoDB: an answer that was cut off by a bound of one shard was merged as if it were whole, and keys
/// beyond the cut were missing (DynamoDB documents `LastEvaluatedKey` for it).
///
/// Here node 1 has the key, and is cut off before it. Node 2 missed the write, and has looked at everything. The page ends
/// where node 1 was cut off: it says nothing of the key.
#[test]
fn list_is_not_cut_off_unnoticed() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.fill(&["a", "b", "c"]);
    cluster.write_among(N3, &[N1, N3], 1);
    cluster.scan_at_most(N1, 2);
    let list = cluster.list_among(N2, &[N1, N2]);
    assert_eq!(cluster.looked_to(list).as_deref(), Some("b"), "node 1 looked no further");
    cluster.assert_linearizable();

    cluster.scan_at_most(N1, usize::MAX);
    let list = cluster.list_among(N2, &[N1, N2]);
    assert_eq!(cluster.looked_to(list), None);
    assert_eq!(cluster.seen_by(list), Some(1));
    cluster.assert_linearizable();
}

/// Riak: keys came back after deletions, because one replica had the tombstone and another one the value
/// (<https://docs.riak.com/riak/kv/latest/using/reference/object-deletion/>).
///
/// Here one replica has the tombstone and another one the value, and the list asks a third that has neither. The replica
/// names its tombstone, so that the key is read and the deletion is settled before the list leaves the key out.
#[test]
fn deletion_that_one_replica_has_is_settled_by_a_list() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &[N1, N3], 1);
    let delete = cluster.delete(N1);
    cluster.run_clock_rounds();
    cluster.take(|sent| sent.stores().is_some());
    assert_eq!(cluster.value_on_disk(N1), None, "node 1 has the tombstone");
    assert!(cluster.reply_to(delete).is_none());
    assert!(cluster.on_disk(N2).is_none(), "node 2 has neither");
    let list = cluster.list_among(N2, &[N1, N2]);
    assert_eq!(cluster.seen_by(list), None, "the list leaves it out");
    assert_eq!(cluster.read_among(N2, &[N2, N3]), None, "and nobody brings it back");
    cluster.assert_linearizable();
}

/// Cassandra documents that a range read at quorum repairs rows that replicas do not agree about. A list that answered the
/// greatest record without that would show a value that a later read misses.
#[test]
fn value_that_one_replica_has_is_settled_by_a_list() {
    let mut cluster = Cluster::bootstrapped(3);
    let write = cluster.write(N1, 1);
    cluster.run_clock_rounds();
    cluster.take(|sent| sent.stores().is_some());
    assert!(cluster.reply_to(write).is_none(), "one replica has it");
    // Its coordinator would send it again.
    cluster.crash(N1, Unsynced::Lost);
    cluster.start(N1);
    cluster.run(&ALL);
    let list = cluster.list_among(N1, &[N1, N2]);
    assert_eq!(cluster.seen_by(list), Some(1));
    assert_eq!(cluster.read_among(N3, &[N2, N3]), Some(1));
    cluster.assert_linearizable();
}

#[cfg(feature = "mutants")]
#[test]
fn each_fails_where_its_rule_is_broken() {
    crate::mutants::each_is_found(crate::mutants::tests![
        ListBeyondShortestPage: list_is_not_cut_off_unnoticed,
        ListOmitsTombstones: deletion_that_one_replica_has_is_settled_by_a_list,
        ListTakesGreatest: value_that_one_replica_has_is_settled_by_a_list,
        ListWithoutMajorityOfASlot: list_waits_for_a_majority_of_each_slot,
        IndexInAnotherBatch: key_is_in_the_index_with_its_first_record,
    ]);
}

/// A node alone answers for no slot, whatever its index has.
#[test]
fn list_waits_for_a_majority_of_each_slot() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N2, &[N2, N3], 1);
    let list = cluster.list(N1, 100);
    assert!(cluster.reply_to(list).is_none(), "its own answer is not enough");
    cluster.run(&[N1, N3]);
    cluster.pass(DELAY, &[N1]);
    cluster.run(&[N1, N3]);
    assert_eq!(cluster.seen_by(list), Some(1));
    cluster.assert_linearizable();
}

/// A minority that cannot be reached, or whose disk cannot be read, is not waited for.
#[test]
fn list_does_not_wait_for_a_minority() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.write_among(N1, &ALL, 1);
    cluster.crash(N3, Unsynced::Lost);
    let list = cluster.list(N1, 100);
    cluster.run(&[N1, N2]);
    assert_eq!(cluster.seen_by(list), Some(1), "without a pause, because all who answered agree");
    cluster.start(N3);
    cluster.run(&ALL);
    cluster.set_readable(N2, false);
    let list = cluster.list(N1, 100);
    cluster.run(&ALL);
    assert_eq!(cluster.seen_by(list), Some(1));
    // A majority whose disks cannot be read fails it at once.
    cluster.set_readable(N3, false);
    let list = cluster.list(N1, 100);
    cluster.run(&ALL);
    assert!(cluster.failure_of(list).is_some(), "{:?}", cluster.reply_to(list));
    cluster.assert_linearizable();
}

/// A key enters the index in the batch of its first record: a crash leaves both or none.
#[test]
fn key_is_in_the_index_with_its_first_record() {
    for unsynced in [Unsynced::Lost, Unsynced::Kept] {
        let mut cluster = Cluster::bootstrapped(3);
        cluster.hold_disk(N1);
        cluster.write_among(N2, &ALL, 1);
        assert!(cluster.waits_at_disk(N1));
        cluster.crash(N1, unsynced);
        cluster.start(N1);
        cluster.run(&ALL);
        cluster.crash(N3, Unsynced::Lost);
        let list = cluster.list_among(N1, &[N1, N2]);
        assert_eq!(cluster.seen_by(list), Some(1));
        assert!(cluster.index_is_whole(N1));
        cluster.write_among(N1, &[N1, N2], 2);
        assert!(cluster.index_is_whole(N1));
        let list = cluster.list_among(N2, &[N1, N2]);
        assert_eq!(cluster.seen_by(list), Some(2));
        cluster.assert_linearizable();
    }
}
