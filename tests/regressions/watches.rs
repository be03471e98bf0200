//! Watches: schedules in which a watch could miss a write, or be told what did not happen.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::time::Duration;

use crate::cluster::{Cluster, N1, N2, N3, Sent, Unsynced};
use quorate::limits::WATCH_HISTORY_CHANGES_MAX;
use quorate::protocol::changes::Filter;
use quorate::protocol::news::{Cursor, WatchEvent, WatchId};
use quorate::types::{Clock, NodeId, NodeIndex, Stamp};

/// No replica of the keys.
pub const N4: NodeIndex = NodeIndex(3);
pub const ALL: [NodeIndex; 4] = [N1, N2, N3, N4];
/// Longer than a watch waits for nodes beyond a majority, and shorter than a read may take.
pub const A_WHILE: Duration = Duration::from_millis(600);
/// Longer than a key waits to be announced by a majority.
pub const A_MOMENT: Duration = Duration::from_millis(10);

fn key(cluster: &Cluster) -> Filter {
    Filter::Key(cluster.key.clone())
}

/// A watch of the key at node 4 that nodes 1 and 2 cover, and node 3 does not.
fn watched_by_two(cluster: &mut Cluster) -> WatchId {
    let watch = cluster.watch(N4, key(cluster), Cursor::default());
    let to_n3 = |sent: &Sent| sent.is_for_watches() && sent.to == N3;
    cluster.take(to_n3);
    cluster.run(&[N1, N2, N4]);
    assert_eq!(cluster.count_news(watch, &WatchEvent::Ready), 0, "node 3 may still come");
    cluster.pass(A_WHILE, &[N4]);
    cluster.take(to_n3);
    assert_eq!(cluster.count_news(watch, &WatchEvent::Ready), 1, "a majority covers it");
    watch
}

/// A watch of the key at node 4 that all replicas cover.
fn watched_by_all(cluster: &mut Cluster) -> WatchId {
    let watch = cluster.watch(N4, key(cluster), Cursor::default());
    cluster.run(&ALL);
    assert_eq!(cluster.count_news(watch, &WatchEvent::Ready), 1);
    watch
}

/// A write that has its stamp, and whose record is on its way to all replicas.
pub fn stamped(cluster: &mut Cluster, value: u64, clocks_of: &[NodeIndex]) -> usize {
    let write = cluster.write(N4, value);
    let is_of_clocks = |sent: &Sent| {
        let (from, to) = (sent.from, sent.to);
        sent.belongs_to_a_clock_round() && clocks_of.contains(if from == N4 { &to } else { &from })
    };
    cluster.deliver(is_of_clocks);
    assert_eq!(cluster.stores_of(value).len(), 3, "the record is on its way");
    write
}

pub fn stores(to: NodeIndex) -> impl Fn(&Sent) -> bool {
    move |sent| sent.stores().is_some() && sent.to == to
}

/// Each write is told once, in order, to whoever watches, and to nobody after that.
#[test]
fn changes_are_told_once_and_in_order_through_any_node() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watches: Vec<WatchId> = ALL.iter().map(|node| cluster.watch(*node, key(&cluster), Cursor::default())).collect();
    let all = cluster.watch_all(N4);
    let of_other = cluster.watch(N4, Filter::Key(cluster.other_key.clone()), Cursor::default());
    cluster.run(&ALL);
    for value in 1..=3 {
        cluster.write(N1, value);
        cluster.run(&ALL);
    }
    cluster.delete(N2);
    cluster.run(&ALL);
    let expected = [Some(1), Some(2), Some(3), None];
    for watch in watches.iter().chain([&all]) {
        assert_eq!(cluster.news(*watch).first().map(|news| &news.event), Some(&WatchEvent::Ready));
        assert_eq!(cluster.told(*watch), expected);
    }
    assert_eq!(cluster.told(of_other), [], "it is about another key");
    cluster.pass(Duration::from_secs(11), &ALL);
    cluster.run(&ALL);
    assert_eq!(cluster.count_news(all, &WatchEvent::Heartbeat), 1);
    assert_eq!(cluster.told(all), expected);
}

/// etcd, 2024: watches that fell behind lost events to compaction, and were not told so
/// (<https://github.com/etcd-io/etcd/issues/17529>).
///
/// Here a watch goes on with a cursor that the histories of two replicas no longer reach back to. It is told `reset`.
#[test]
fn watch_that_fell_behind_is_told_so_etcd_17529() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = watched_by_all(&mut cluster);
    cluster.write(N4, 1);
    cluster.run(&ALL);
    let cursor = cluster.news(watch).last().unwrap().cursor.clone();
    cluster.unwatch(N4, watch);
    cluster.run(&ALL);
    let changes = u64::try_from(WATCH_HISTORY_CHANGES_MAX).unwrap();
    for node in [N1, N2] {
        for n in 0..=changes {
            let stamp = Stamp { clock: Clock { epoch: 1, counter: 1_000 + n }, writer: NodeId::new("1").unwrap() };
            cluster.store_on(node, n, &stamp);
        }
        let told = cluster.watch(N4, key(&cluster), cursor.clone());
        cluster.run(&ALL);
        assert_eq!(cluster.count_news(told, &WatchEvent::Reset), usize::from(node == N2), "{node:?}");
    }
}

/// A replica announces a record before a majority has it. The two others show the old record, and one of them that the watch
/// does not follow takes the record later. The read of the key counts the replica that announced it.
#[test]
fn record_that_was_announced_early_is_told() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = watched_by_two(&mut cluster);
    let write = stamped(&mut cluster, 1, &[N1, N2, N3]);
    cluster.deliver(stores(N1));
    cluster.deliver(Sent::is_for_watches_of_followed);
    cluster.pass(A_MOMENT, &[N4]);
    // The key is read; the answers of the two others come first.
    cluster.deliver(|sent| !sent.is_for_watches() && sent.stores().is_none() && (sent.to != N1 && sent.from != N1));
    assert_eq!(cluster.told(watch), [], "nothing has happened yet");
    cluster.deliver(stores(N3));
    cluster.deliver(|sent| sent.to == N4 && !sent.is_for_watches() && sent.from != N1);
    cluster.take(stores(N2));
    cluster.deliver(|sent| !(sent.is_for_watches() && [sent.from, sent.to].contains(&N3)));
    cluster.pass(A_MOMENT, &[N4]);
    cluster.deliver(|sent| !(sent.is_for_watches() && [sent.from, sent.to].contains(&N3)));
    cluster.stamp_of(write);
    assert_eq!(cluster.told(watch), [Some(1)]);
}

/// A record that lies at one replica alone may never be read. A watch is told of it only once a read has settled it.
#[test]
fn what_one_replica_announced_is_told_only_after_a_read() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = watched_by_two(&mut cluster);
    stamped(&mut cluster, 1, &[N1, N2, N3]);
    cluster.deliver(stores(N1));
    cluster.take(|sent| sent.stores().is_some());
    cluster.deliver(Sent::is_for_watches_of_followed);
    cluster.pass(A_MOMENT, &[N4]);
    assert_eq!(cluster.told(watch), [], "the read is under way");
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch), [Some(1)]);
    assert!(cluster.wrote_back(N4), "the read has brought it to a majority");
    assert_eq!(cluster.read_among(N2, &[N2, N3]), Some(1), "and everybody reads it");
}

/// A replica holds a greater record from before the watch, and acknowledges a write because of it. Nobody else that the
/// watch follows has the write.
#[test]
fn write_that_a_greater_record_beat_is_told_as_that_record() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let stamp = Stamp { clock: Clock { epoch: 1, counter: 1_000 }, writer: NodeId::new("1").unwrap() };
    cluster.store_on(N1, 9, &stamp);
    assert_eq!(cluster.value_on_disk(N1), Some(9));
    let watch = watched_by_two(&mut cluster);
    let write = stamped(&mut cluster, 1, &[N2, N3]);
    cluster.take(stores(N2));
    let is_followed = |sent: &Sent| !(sent.is_for_watches() && [sent.from, sent.to].contains(&N3));
    cluster.deliver(|sent| is_followed(sent) && (stores(N1)(sent) || stores(N3)(sent) || sent.to == N4));
    assert!(cluster.stamp_of(write) < stamp, "it is acknowledged");
    cluster.deliver(is_followed);
    cluster.pass(A_MOMENT, &[N4]);
    cluster.deliver(is_followed);
    assert_eq!(cluster.told(watch), [Some(9)], "a later record of its key");
}

/// Two replicas of three acknowledge a write, and both restart before they have told of it. Each is followed anew at once.
#[test]
fn watch_is_reset_where_a_majority_forgot_what_it_announced() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = watched_by_all(&mut cluster);
    let write = stamped(&mut cluster, 1, &[N1, N2, N3]);
    cluster.take(stores(N1));
    for node in [N2, N3] {
        cluster.deliver(stores(node));
        cluster.deliver(|sent| sent.from == node && !sent.is_for_watches());
        // Its changes are lost with it.
        cluster.take(Sent::is_for_watches);
        cluster.crash(node, Unsynced::Lost);
        cluster.start(node);
        cluster.run(&ALL);
    }
    cluster.stamp_of(write);
    cluster.pass(A_WHILE, &ALL);
    cluster.run(&ALL);
    let is_told = cluster.told(watch) == [Some(1)];
    assert!(is_told || cluster.count_news(watch, &WatchEvent::Reset) == 1, "{:?}", cluster.news(watch));
    assert_eq!(cluster.count_news(watch, &WatchEvent::Ready), 2, "it has begun anew");
    cluster.write(N1, 2);
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch).last(), Some(&Some(2)));
}

/// Nodes 1 and 2 cover a watch, and node 3 does not. Node 2 may have acknowledged, with node 3, what it never told.
#[test]
fn watch_is_reset_where_a_node_that_covers_it_is_silent() {
    for is_gone in [false, true] {
        let mut cluster = Cluster::with_replicas(4, 3);
        let watch = watched_by_two(&mut cluster);
        if is_gone {
            cluster.crash(N2, Unsynced::Lost);
            cluster.relink(N4, N2);
        }
        let passes = |cluster: &mut Cluster, span: Duration| {
            let until = cluster.now().after(span);
            while cluster.now() < until {
                cluster.run(&[N1, N4]);
                cluster.take(|sent| [sent.from, sent.to].iter().any(|node| [N2, N3].contains(node)));
                cluster.pass(A_MOMENT, &[N1, N4]);
            }
            cluster.count_news(watch, &WatchEvent::Reset)
        };
        assert_eq!(passes(&mut cluster, Duration::from_millis(9_800)), 0, "it may be there again soon");
        // A node that can be asked is asked each five seconds, and silent once it was asked again.
        let late = Duration::from_millis(if is_gone { 1_000 } else { 6_000 });
        assert_eq!(passes(&mut cluster, late), 1, "gone: {is_gone}, {:?}", cluster.news(watch));
        cluster.run(&[N1, N3, N4]);
        cluster.pass(A_WHILE, &[N1, N3, N4]);
        cluster.run(&[N1, N3, N4]);
        cluster.pass(A_WHILE, &[N1, N3, N4]);
        cluster.run(&[N1, N3, N4]);
        assert_eq!(
            cluster.count_news(watch, &WatchEvent::Ready),
            2,
            "nodes 1 and 3 cover it: {:?}",
            cluster.news(watch)
        );
    }
}

/// A client goes on with the cursor at node 1, and is told there of the write that it was not told of before.
pub fn told_elsewhere(cluster: &mut Cluster, cursor: Cursor) -> WatchId {
    let next = cluster.watch(N1, Filter::Prefix("".into()), cursor);
    cluster.run(&ALL);
    cluster.pass(A_MOMENT, &ALL);
    cluster.run(&ALL);
    assert_eq!(cluster.count_news(next, &WatchEvent::Reset), 0);
    assert_eq!(cluster.told(next), [Some(1)]);
    next
}

/// The read of one key is held up while another key is told. The cursor that comes with the other key is used to go on.
#[test]
fn watch_that_goes_on_is_told_what_was_announced_and_not_told() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = cluster.watch_all(N4);
    cluster.run(&ALL);
    let write = stamped(&mut cluster, 1, &[N1, N2, N3]);
    cluster.take(stores(N3));
    cluster.deliver(|sent| sent.stores().is_some());
    cluster.deliver(Sent::is_for_watches);
    cluster.deliver(|sent| sent.to == N4 && sent.is_acknowledgement());
    cluster.stamp_of(write);
    let read = cluster.take(|sent| !sent.is_for_watches() && sent.from == N4);
    assert_eq!(read.len(), 3, "the key is being read");
    cluster.write_other(N1, 7);
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch), [], "the first is not told");
    let news = cluster.news(watch).last().expect("the second is told").clone();
    assert!(matches!(news.event, WatchEvent::Changed { .. }), "{news:?}");

    let next = told_elsewhere(&mut cluster, news.cursor);
    assert_eq!(cluster.count_news(next, &WatchEvent::Ready), 1);
}

/// A watch goes on at a node that reads the key already, for another watch. What that read answers may be older than what the
/// watch knows, so that the key is read for it once more. Before that read ends, the watch goes on elsewhere.
#[test]
fn watch_that_goes_on_is_told_what_was_to_be_read_once_more() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let other = cluster.watch_all(N4);
    cluster.run(&ALL);
    let cursor = cluster.news(other).last().expect("it is ready").cursor.clone();
    let write = stamped(&mut cluster, 1, &[N1, N2, N3]);
    cluster.deliver(|sent| sent.stores().is_some());
    cluster.deliver(|sent| sent.is_for_watches() || (sent.to == N4 && sent.is_acknowledgement()));
    cluster.stamp_of(write);
    let read = cluster.take(Sent::asks_to_read);
    assert!(read.len() >= 2, "the key is being read: {read:?}");
    let watch = cluster.watch(N4, Filter::Prefix("".into()), cursor);
    cluster.deliver(Sent::is_for_watches);
    assert_eq!(cluster.count_news(watch, &WatchEvent::Ready), 1, "it goes on");
    for request in read {
        cluster.arrives(request);
    }
    cluster.deliver(|sent| !sent.asks_to_read());
    assert_eq!((cluster.told(other), cluster.told(watch)), (vec![Some(1)], vec![]));
    assert!(cluster.take(Sent::asks_to_read).len() >= 2, "the key is read once more");
    cluster.write_other(N1, 7);
    cluster.run(&ALL);
    let news = cluster.news(watch).last().expect("it is told of the other key").clone();
    assert!(matches!(news.event, WatchEvent::Changed { .. }), "{news:?}");

    told_elsewhere(&mut cluster, news.cursor);

    // Where it stays, the cursor goes on once the key was told.
    cluster.pass(A_WHILE, &ALL);
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch), [Some(1)]);
    let late = cluster.news(watch).last().expect("it was told").cursor.clone();
    let late = cluster.watch(N1, Filter::Prefix("".into()), late);
    cluster.run(&ALL);
    assert_eq!((cluster.told(late), cluster.count_news(late, &WatchEvent::Ready)), (vec![], 1));
}

/// A node dies, and its client goes on through another one. Meanwhile the key was written.
#[test]
fn watch_that_goes_on_elsewhere_misses_nothing() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = cluster.watch(N1, key(&cluster), Cursor::default());
    cluster.run(&ALL);
    cluster.write(N4, 1);
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch), [Some(1)]);
    let cursor = cluster.news(watch).last().unwrap().cursor.clone();
    cluster.crash(N1, Unsynced::Lost);
    cluster.write(N4, 2);
    cluster.run(&ALL);
    let next = cluster.watch(N4, key(&cluster), cursor.clone());
    cluster.run(&ALL);
    cluster.pass(A_MOMENT, &[N4]);
    cluster.run(&[N2, N3, N4]);
    assert_eq!(cluster.told(next).last(), Some(&Some(2)), "{:?}", cluster.news(next));
    assert_eq!(cluster.count_news(next, &WatchEvent::Reset), 0);
    // Nodes 2 and 3 restart as well: nobody remembers what came after the cursor.
    for node in [N2, N3] {
        cluster.crash(node, Unsynced::Lost);
        cluster.start(node);
        cluster.run(&[N2, N3, N4]);
    }
    let late = cluster.watch(N4, key(&cluster), cursor);
    cluster.run(&[N2, N3, N4]);
    assert_eq!(cluster.count_news(late, &WatchEvent::Reset), 1, "{:?}", cluster.news(late));
}

/// A minority of the replicas can be followed, however long it takes.
#[test]
fn watch_is_not_ready_without_a_majority() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = cluster.watch(N4, key(&cluster), Cursor::default());
    for _ in 0..4 {
        cluster.run(&[N1, N4]);
        cluster.take(|sent| sent.to != N1 && sent.to != N4);
        cluster.pass(A_WHILE, &[N4]);
    }
    assert_eq!(cluster.news(watch), []);
    cluster.run(&ALL);
    cluster.pass(A_WHILE, &[N4]);
    cluster.run(&ALL);
    assert_eq!(cluster.count_news(watch, &WatchEvent::Ready), 1);
}

/// The answers to a read of the key are late. A newer record is announced, and everything but these answers is quick.
#[test]
fn newer_record_is_not_told_before_an_older_one() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = watched_by_all(&mut cluster);
    cluster.write(N1, 1);
    cluster.deliver(|sent| !(sent.from == N4 || sent.is_record_for(N4)) || sent.is_for_watches());
    let requests = |sent: &Sent| sent.from == N4 && !sent.is_for_watches();
    cluster.deliver(requests);
    let late = cluster.take(|sent| sent.is_record_for(N4));
    assert!(late.len() >= 2, "{late:?}");
    cluster.write(N1, 2);
    cluster.run(&ALL);
    cluster.pass(A_MOMENT, &[N4]);
    cluster.run(&ALL);
    for sent in late {
        cluster.arrives(sent);
    }
    cluster.run(&ALL);
    cluster.pass(A_MOMENT, &[N4]);
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch), [Some(1), Some(2)]);
}

/// A batch fails, and is found on the disk when the store was reopened. The replica then acknowledges what it never announced.
#[test]
fn replica_whose_batch_failed_covers_no_watch_that_began_before() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = watched_by_all(&mut cluster);
    cluster.fail_batch(N1);
    cluster.run(&ALL);
    cluster.fail_batch(N2);
    cluster.run(&ALL);
    assert_eq!(cluster.count_news(watch, &WatchEvent::Reset), 1, "{:?}", cluster.news(watch));
}

/// A node that ends tells its watches, whose clients go on elsewhere.
#[test]
fn watches_end_where_their_node_drains() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = watched_by_all(&mut cluster);
    cluster.drain(N4);
    assert!(matches!(cluster.news(watch).last().unwrap().event, WatchEvent::Ended));
    let refused = cluster.watch(N4, key(&cluster), Cursor::default());
    assert!(matches!(cluster.news(refused)[0].event, WatchEvent::Ended), "it takes no new ones");
    assert!(cluster.node(N4).watches().is_idle());
    let cursor = cluster.news(watch).last().unwrap().cursor.clone();
    cluster.write(N1, 1);
    cluster.run(&ALL);
    let next = cluster.watch(N1, key(&cluster), cursor);
    cluster.run(&ALL);
    assert_eq!((cluster.told(next), cluster.count_news(next, &WatchEvent::Reset)), (vec![Some(1)], 0));
}

/// Each of these tests finds the mutant that it is for.
#[cfg(feature = "mutants")]
#[test]
fn each_watch_fails_where_its_rule_is_broken() {
    use crate::mutants::{each_is_found, tests};

    each_is_found(tests![
        WatchReadsAnyMajority: record_that_was_announced_early_is_told,
        WatchTellsUnread: what_one_replica_announced_is_told_only_after_a_read,
        BeatenIsNotTold: write_that_a_greater_record_beat_is_told_as_that_record,
        ResubscribedCounts: watch_is_reset_where_a_majority_forgot_what_it_announced,
        CursorAheadOfTold: watch_that_goes_on_is_told_what_was_announced_and_not_told,
        CursorAheadOfSecondRead: watch_that_goes_on_is_told_what_was_to_be_read_once_more,
        WatchWithoutMajority: watch_is_not_ready_without_a_majority,
        WatchGoesBack: newer_record_is_not_told_before_an_older_one,
    ]);
}
