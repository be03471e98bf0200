//! Watches that are told first what is there: schedules in which list and watch together could miss a write.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::time::Duration;

use crate::cluster::{Cluster, N1, N2, N3, Sent};
use crate::watches::{A_MOMENT, A_WHILE, ALL, N4, stamped, stores, told_elsewhere};
use quorate::protocol::changes::Filter;
use quorate::protocol::news::{Cursor, ListFirst, WatchEvent, WatchId};
use quorate::types::NodeIndex;

/// Longer than a page may take.
const A_PAGE: Duration = Duration::from_secs(6);

fn list_all(cluster: &mut Cluster, at: NodeIndex) -> WatchId {
    cluster.watch_listing(at, Filter::Prefix("".into()), Cursor::default(), ListFirst::Values)
}

fn count_ready(cluster: &Cluster, watch: WatchId) -> usize {
    cluster.count_news(watch, &WatchEvent::Ready)
}

/// The values of the key that a watch was told. A record that is stored once more after the list may be told twice.
fn told(cluster: &Cluster, watch: WatchId) -> Vec<Option<u64>> {
    let mut told = cluster.told(watch);
    told.dedup();
    told
}

/// Whether it is about the changes of a node that the watch does not follow.
fn is_of_unfollowed(sent: &Sent) -> bool {
    sent.is_for_watches() && [sent.from, sent.to].contains(&N3)
}

/// A watch at node 4 that nodes 1, 2 and 4 cover, and node 3 does not, of a write that only node 1 has, from before it was
/// followed. The write's other records are taken out of the network: the first is that for node 3.
fn watched_after_one_has_stored(cluster: &mut Cluster, value: u64, filter: Filter) -> (WatchId, usize, Sent) {
    let write = stamped(cluster, value, &[N1, N2, N3]);
    cluster.deliver(stores(N1));
    let late = cluster.take(stores(N3)).remove(0);
    cluster.take(stores(N2));
    let watch = cluster.watch_listing(N4, filter, Cursor::default(), ListFirst::Values);
    cluster.take(is_of_unfollowed);
    cluster.deliver(Sent::is_for_watches_of_followed);
    cluster.pass(A_WHILE, &[N4]);
    cluster.take(|sent| is_of_unfollowed(sent) || sent.stores().is_some());
    assert_eq!(count_ready(cluster, watch), 0, "the list is not told yet");
    (watch, write, late)
}

/// Node 3, which the watch does not follow, stores the write: now two replicas of three have acknowledged it.
fn acknowledge(cluster: &mut Cluster, write: usize, late: Sent) {
    cluster.arrives(late);
    cluster.deliver(|sent| sent.is_acknowledgement() && sent.to == N4);
    cluster.stamp_of(write);
    cluster.deliver(|sent| !is_of_unfollowed(sent));
    cluster.pass(A_MOMENT, &[N4]);
    cluster.deliver(|sent| !is_of_unfollowed(sent));
}

/// Node 1 stores a write before it is followed, and its acknowledgement is under way. A list that nodes 2 and 3 answer does not
/// have it. Node 3, which is not followed, stores it later. So it is acknowledged, and nobody tells of it.
///
/// Here the list counts node 1, because that covers the watch.
#[test]
fn write_from_before_the_watch_is_in_its_list() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let (watch, write, late) = watched_after_one_has_stored(&mut cluster, 1, Filter::Prefix("".into()));
    cluster.deliver(|sent| sent.is_for_lists() && ![sent.from, sent.to].contains(&N1));
    let is_scan_of_n1 = |sent: &Sent| sent.is_for_lists() && [sent.from, sent.to].contains(&N1);
    cluster.deliver(|sent| !is_of_unfollowed(sent) && !is_scan_of_n1(sent));
    let is_early = count_ready(&cluster, watch) > 0;
    cluster.deliver(|sent| !is_of_unfollowed(sent));
    acknowledge(&mut cluster, write, late);
    assert_eq!(told(&cluster, watch), [Some(1)]);
    assert!(!is_early, "it waits for node 1");
    assert_eq!(count_ready(&cluster, watch), 1);
    cluster.assert_linearizable();
}

/// The same for a watch of one key, whose list is a read.
#[test]
fn write_from_before_the_watch_of_its_key_is_told() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let key = Filter::Key(cluster.key.clone());
    let (watch, write, late) = watched_after_one_has_stored(&mut cluster, 1, key);
    cluster.deliver(|sent| !is_of_unfollowed(sent) && ![sent.from, sent.to].contains(&N1));
    cluster.deliver(|sent| !is_of_unfollowed(sent));
    acknowledge(&mut cluster, write, late);
    assert_eq!(told(&cluster, watch), [Some(1)]);
    assert_eq!(count_ready(&cluster, watch), 1);
}

/// All answer the list. Two replicas agree on the old value, and the third, which covers the watch, names the new one. A list
/// that took what the majority agrees on would be linearizable, and the watch would never be told of the write.
#[test]
fn write_that_a_covering_node_names_is_read_although_others_agree() {
    let mut cluster = Cluster::with_replicas(4, 3);
    cluster.write(N1, 1);
    cluster.run(&ALL);
    let (watch, write, late) = watched_after_one_has_stored(&mut cluster, 2, Filter::Prefix("".into()));
    cluster.deliver(|sent| !is_of_unfollowed(sent));
    acknowledge(&mut cluster, write, late);
    assert_eq!(told(&cluster, watch), [Some(2)]);
    assert_eq!(count_ready(&cluster, watch), 1);
    cluster.assert_linearizable();
}

/// A key is written, announced and read while a page is gathered that is older.
#[test]
fn change_beside_a_page_is_told_after_it() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = list_all(&mut cluster, N4);
    cluster.deliver(|sent| sent.is_for_watches() || (sent.is_for_lists() && sent.from == N4));
    let page = cluster.take(Sent::is_for_lists);
    assert_eq!(page.len(), 3, "the answers of the page are under way");
    cluster.write(N1, 1);
    cluster.run(&ALL);
    cluster.pass(A_MOMENT, &[N4]);
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch), [], "the page comes first");
    for answer in page {
        cluster.arrives(answer);
    }
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch), [Some(1)]);
    assert_eq!(count_ready(&cluster, watch), 1);
    cluster.write(N2, 2);
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch), [Some(1), Some(2)]);
}

/// The same, and the client goes on elsewhere with the cursor that it is ready with, before the key was read once more.
#[test]
fn change_beside_a_page_is_told_elsewhere() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let watch = list_all(&mut cluster, N4);
    cluster.deliver(|sent| sent.is_for_watches() || (sent.is_for_lists() && sent.from == N4));
    let page = cluster.take(Sent::is_for_lists);
    cluster.write(N1, 1);
    cluster.run(&ALL);
    cluster.pass(A_MOMENT, &[N4]);
    cluster.run(&ALL);
    for answer in page {
        cluster.arrives(answer);
    }
    assert!(cluster.take(Sent::asks_to_read).len() >= 2, "the key is read once more");
    let news = cluster.news(watch).last().expect("it is ready").clone();
    assert_eq!((&news.event, cluster.told(watch)), (&WatchEvent::Ready, vec![]));
    told_elsewhere(&mut cluster, news.cursor);
}

/// The pages come one at a time, when the client has taken the one before. A key that was told is told of its changes, and
/// one that was not told yet comes with its page.
#[test]
fn pages_come_as_they_are_taken() {
    let mut cluster = Cluster::with_replicas(4, 3);
    cluster.fill(&["a", "b"]);
    cluster.write(N2, 1);
    cluster.run(&ALL);
    for node in ALL {
        cluster.scan_at_most(node, 1);
    }
    let watch = list_all(&mut cluster, N4);
    cluster.run(&ALL);
    assert_eq!(cluster.pages(watch), [["a"]], "the client has not taken it");
    cluster.write(N1, 2);
    cluster.fill(&["a"]);
    cluster.run(&ALL);
    let changes = |cluster: &Cluster| {
        let is_change = |event: &WatchEvent| matches!(event, WatchEvent::Changed { .. });
        cluster.news(watch).iter().filter(|news| is_change(&news.event)).count()
    };
    assert_eq!((changes(&cluster), cluster.told(watch)), (1, vec![]), "of what it knows");
    for _ in 0..4 {
        assert_eq!(count_ready(&cluster, watch), 0);
        cluster.page_taken(N4, watch);
        cluster.page_taken(N4, watch);
        cluster.run(&ALL);
        let told_so_far = cluster.news(watch).iter().filter(|news| news.cursor != Cursor::default()).count();
        assert!(told_so_far == 0 || count_ready(&cluster, watch) == 1, "no cursor before the watch is ready");
        if count_ready(&cluster, watch) == 1 {
            break;
        }
    }
    assert_eq!(cluster.pages(watch), [["a"], ["b"], [cluster.key.as_str()]]);
    assert_eq!((cluster.told(watch), count_ready(&cluster, watch)), (vec![Some(2)], 1));
    cluster.delete(N3);
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch), [Some(2), None]);
}

/// The list is told again after a reset, whether the watch was alone or shared its changes with others. A cursor that
/// reaches back needs no list.
#[test]
fn list_is_told_again_after_a_reset_and_not_after_a_cursor() {
    let mut cluster = Cluster::with_replicas(4, 3);
    cluster.write(N1, 1);
    cluster.run(&ALL);
    let other = cluster.watch_all(N4);
    cluster.run(&ALL);
    let watch = list_all(&mut cluster, N4);
    cluster.run(&ALL);
    assert_eq!(count_ready(&cluster, watch), 1);
    // It joins the others.
    cluster.pass(A_WHILE, &ALL);
    cluster.run(&ALL);
    cluster.write(N1, 2);
    cluster.run(&ALL);
    assert_eq!(cluster.told(watch).last(), Some(&Some(2)));
    let cursor = cluster.news(watch).last().unwrap().cursor.clone();
    let next = cluster.watch_listing(N1, Filter::Prefix("".into()), cursor.clone(), ListFirst::Values);
    cluster.run(&ALL);
    assert_eq!((cluster.pages(next).len(), count_ready(&cluster, next)), (0, 1), "it goes on");
    cluster.unwatch(N1, next);
    for node in [N1, N2] {
        cluster.fail_batch(node);
        cluster.run(&ALL);
    }
    cluster.pass(A_WHILE, &ALL);
    cluster.run(&ALL);
    for (watch, pages) in [(watch, 2), (other, 0)] {
        assert_eq!(cluster.count_news(watch, &WatchEvent::Reset), 1);
        assert_eq!((cluster.pages(watch).len(), count_ready(&cluster, watch)), (pages, 2));
    }
    let late = cluster.watch_listing(N3, Filter::Prefix("".into()), cursor, ListFirst::Values);
    cluster.run(&ALL);
    assert_eq!(cluster.count_news(late, &WatchEvent::Reset), 1, "it is lost");
    assert_eq!((cluster.pages(late).len(), count_ready(&cluster, late)), (1, 1));
    assert_eq!(cluster.told(late).last(), cluster.told(watch).last());
    let value = cluster.told(late).last().copied();
    cluster.write(N3, 3);
    cluster.run(&ALL);
    assert_ne!(value, Some(Some(3)));
    for watch in [watch, other, late] {
        assert_eq!(cluster.told(watch).last(), Some(&Some(3)));
    }
}

/// A node that covers the watch does not answer the list: it covers the watch no longer, and the list goes on without it.
#[test]
fn list_goes_on_without_a_node_that_does_not_answer() {
    let mut cluster = Cluster::with_replicas(4, 3);
    cluster.write(N1, 1);
    cluster.run(&ALL);
    let watch = list_all(&mut cluster, N4);
    cluster.deliver(|sent| !(sent.is_for_lists() && [sent.from, sent.to].contains(&N1)));
    assert_eq!(cluster.news(watch), [], "node 1 is waited for");
    for _ in 0..2 {
        cluster.pass(A_PAGE, &[N4]);
        cluster.take(|sent| sent.is_for_lists() && [sent.from, sent.to].contains(&N1));
        cluster.run(&ALL);
    }
    assert_eq!((cluster.told(watch), count_ready(&cluster, watch)), (vec![Some(1)], 1));
    let covers = &cluster.news(watch).last().unwrap().cursor.0;
    assert!(!covers.contains_key(&N1) && covers.contains_key(&N2), "{covers:?}");
}

/// Each of these tests finds the mutant that it is for.
#[cfg(feature = "mutants")]
#[test]
fn each_list_of_a_watch_fails_where_its_rule_is_broken() {
    use crate::mutants::{each_is_found, tests};

    each_is_found(tests![
        ListNotBoundToWatch: write_from_before_the_watch_is_in_its_list,
        ListNotBoundToWatch: write_from_before_the_watch_of_its_key_is_told,
        BoundListTakesMajority: write_that_a_covering_node_names_is_read_although_others_agree,
        ChangeBesidePageIsLost: change_beside_a_page_is_told_after_it,
        CursorAheadOfSecondRead: change_beside_a_page_is_told_elsewhere,
    ]);
}
