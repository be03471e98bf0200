//! Created tables: what comes back, gets lost or is done twice where a table is dropped while others use it.
//!
//! These are the schedules of the rules in docs/protocol.md, "Tables". Node 3 is the one that misses things: it remembers a
//! name whose table is gone.

use std::time::Duration;

use quorate::protocol::changes::Filter;
use quorate::protocol::news::{Cursor, WatchEvent};
use quorate::protocol::{Command, Failure, ListPage, Message, Reply, Request};
use quorate::types::{
    Change, ChangeRequest, Checksum, Condition, Content, IdempotencyToken, Key, KeyRange, NodeIndex, Table, TableId,
    TableName, TableSettings, Ttl, Value, Version,
};

use crate::ALL;
use crate::cluster::{Cluster, N1, N2, N3, N4, N5, Sent, Unsynced};

const KEY: &str = "k";

fn name() -> TableName {
    TableName::new("t").unwrap()
}

fn content(value: u64) -> Content {
    Content::Value(Value::Text(value.to_string().into()))
}

fn is_drop(sent: &Sent) -> bool {
    matches!(sent.message, Message::Request { request: Request::Drop { .. }, .. })
}

impl Cluster {
    fn in_table(&mut self, at: NodeIndex, command: Command) -> usize {
        self.ask(at, command.in_table(&Table::Named(name())))
    }

    fn create(&mut self, at: NodeIndex) -> usize {
        self.create_with(at, TableSettings::default())
    }

    fn create_with(&mut self, at: NodeIndex, settings: TableSettings) -> usize {
        self.ask(at, Command::CreateTable { name: name(), settings })
    }

    fn drop_table(&mut self, at: NodeIndex) -> usize {
        self.ask(at, Command::DropTable { name: name() })
    }

    fn set_in(&mut self, at: NodeIndex, value: u64) -> usize {
        let (key, content) = (Key::new(KEY).unwrap(), content(value));
        let checksum = Checksum::of(&key, &content);
        self.in_table(at, Command::Set { key, content, ttl: None, checksum })
    }

    fn set_in_if(&mut self, at: NodeIndex, version: Version, value: u64, is_resend: bool) -> usize {
        let (key, content) = (Key::new(KEY).unwrap(), content(value));
        let checksum = Checksum::of(&key, &content);
        let change = Change::Write { condition: Condition::Version(version), content, ttl: None, checksum };
        let request = ChangeRequest { change, token: IdempotencyToken([7; 16]), is_resend };
        self.in_table(at, Command::Change { key, request })
    }

    fn get_in(&mut self, at: NodeIndex) -> usize {
        self.in_table(at, Command::Get { key: Key::new(KEY).unwrap() })
    }

    fn list_in(&mut self, at: NodeIndex) -> usize {
        let page = ListPage { range: KeyRange::default(), keys_max: 10, values: true };
        self.in_table(at, Command::List(page))
    }

    /// The id of a table that was created, and whether this request created it.
    #[track_caller]
    fn created(&self, create: usize) -> (TableId, bool) {
        match self.reply_to(create) {
            Some(Reply::Table { table, is_new }) => (table.id, *is_new),
            other => panic!("it is not created: {other:?}"),
        }
    }

    #[track_caller]
    fn version_seen(&self, get: usize) -> Version {
        match self.reply_to(get) {
            Some(Reply::Record(record)) => {
                record.as_ref().map_or_else(Version::absent, quorate::types::AgedRecord::version)
            }
            other => panic!("it is not read: {other:?}"),
        }
    }

    /// Runs among these nodes until operations that met each other, or asked one that is silent, have gone on.
    fn settle(&mut self, among: &[NodeIndex]) {
        self.settle_with(among, |sent| among.contains(&sent.from) && among.contains(&sent.to));
    }

    /// The same with the messages of this kind alone. These nodes notice that time passes.
    fn settle_with(&mut self, who_wakes: &[NodeIndex], is_meant: impl Fn(&Sent) -> bool) {
        for _ in 0..8 {
            self.deliver(&is_meant);
            self.pass(Duration::from_millis(60), who_wakes);
        }
        self.deliver(is_meant);
    }

    /// The table is there, its key has the value 1, and node 3 remembers its name.
    fn with_table(nodes: u16, replicas: usize) -> (Self, TableId) {
        let mut cluster = Self::with_replicas(nodes, replicas);
        let all = cluster.members();
        let create = cluster.create(N1);
        cluster.run(&all);
        let set = cluster.set_in(N1, 1);
        cluster.run(&all);
        assert!(matches!(cluster.reply_to(set), Some(Reply::Set(_))), "{:?}", cluster.reply_to(set));
        let get = cluster.get_in(N3);
        cluster.run(&all);
        assert_eq!(cluster.seen_by(get), Some(1));
        let (id, is_new) = cluster.created(create);
        assert!(is_new);
        (cluster, id)
    }

    /// Drops the table without node 3.
    fn drop_without_n3(&mut self) {
        let drop = self.drop_table(N1);
        self.run(&[N1, N2]);
        self.take(|sent| sent.to == N3 || sent.from == N3);
        assert_eq!(self.reply_to(drop), Some(&Reply::Dropped));
    }
}

/// Fewer nodes are to hold each slot. A majority of them has not heard that the table was dropped, and one of these remembers its
/// name. The table is empty, so that no record of it tells them.
#[test]
fn table_stays_dropped_where_fewer_nodes_hold_each_slot() {
    let mut cluster = Cluster::with_replicas(5, 5);
    let all = cluster.members();
    let create = cluster.create(N1);
    cluster.run(&all);
    let (id, _) = cluster.created(create);
    let get = cluster.get_in(N4);
    cluster.run(&all);
    assert_eq!(cluster.seen_by(get), None);
    let drop = cluster.drop_table(N1);
    cluster.run(&ALL);
    assert_eq!(cluster.reply_to(drop), Some(&Reply::Dropped));
    cluster.take(|_| true);
    assert!(ALL.into_iter().all(|node| cluster.keeps_drop(node, id)));

    let rest = [N3, N4, N5];
    let joint = cluster.configuration(1, (&all, 5), Some((&rest, 3)));
    cluster.adopt(&all, &joint);
    // Node 1 goes on telling those that it has not heard of the drop.
    cluster.live_without(Duration::from_millis(1_500), &all, is_drop);
    assert!(rest.into_iter().all(|node| cluster.has_taken_over(node)));
    let end = cluster.configuration(2, (&rest, 3), None);
    cluster.adopt(&rest, &end);
    cluster.take(|_| true);
    let set = cluster.set_in(N4, 5);
    cluster.settle(&[N4, N5]);
    assert!(matches!(cluster.reply_to(set), Some(Reply::Failed(_))), "it was dropped: {:?}", cluster.reply_to(set));
    assert!([N4, N5].into_iter().all(|node| cluster.keeps_drop(node, id)));
}

#[test]
fn table_is_empty_when_it_is_created_again() {
    let (mut cluster, first) = Cluster::with_table(3, 3);
    let again = cluster.create(N2);
    cluster.run(&ALL);
    assert_eq!(cluster.created(again), (first, false), "it is there");
    let plain = cluster.read(N1);
    let drop = cluster.drop_table(N2);
    cluster.run(&ALL);
    assert_eq!(cluster.reply_to(drop), Some(&Reply::Dropped));
    assert_eq!(cluster.seen_by(plain), None, "the default table has no such key");
    for at in ALL {
        let (get, set, drop, list) =
            (cluster.get_in(at), cluster.set_in(at, 2), cluster.drop_table(at), cluster.list_in(at));
        cluster.run(&ALL);
        for request in [get, set, drop, list] {
            assert_eq!(cluster.failure_of(request), Some(&Failure::NoTable), "at {at:?}");
        }
    }
    let create = cluster.create(N3);
    cluster.run(&ALL);
    let (second, is_new) = cluster.created(create);
    assert!(is_new && second > first, "an id is given once");
    let (get, list) = (cluster.get_in(N1), cluster.list_in(N2));
    cluster.run(&ALL);
    assert_eq!(cluster.seen_by(get), None);
    assert!(matches!(cluster.reply_to(list), Some(Reply::Listed(page)) if page.keys.is_empty()));
    for at in ALL {
        assert!(cluster.node(at).tables().is_idle(), "at {at:?}");
    }
}

/// A node that missed a drop still knows the name. It reaches a majority, and one of that refuses.
#[test]
fn node_that_remembers_a_dropped_table_does_no_harm() {
    let (mut cluster, _) = Cluster::with_table(3, 3);
    cluster.drop_without_n3();
    let (get, set) = (cluster.get_in(N3), cluster.set_in(N3, 2));
    cluster.settle_with(&[N3], |_| true);
    assert_eq!(cluster.failure_of(get), Some(&Failure::NoTable));
    assert_eq!(cluster.failure_of(set), Some(&Failure::DroppedMeanwhile), "its own replica has taken the record in");
    let list = cluster.list_in(N3);
    cluster.settle(&ALL);
    assert_eq!(cluster.failure_of(list), Some(&Failure::NoTable));
}

/// The same, and the nodes that know of the drop lose power after it was answered.
#[test]
fn drop_outlives_a_loss_of_power() {
    let (mut cluster, _) = Cluster::with_table(3, 3);
    cluster.drop_without_n3();
    for at in [N1, N2] {
        cluster.crash(at, Unsynced::Lost);
    }
    for at in [N1, N2] {
        cluster.start(at);
    }
    cluster.run(&ALL);
    let get = cluster.get_in(N3);
    cluster.settle_with(&[N3], |_| true);
    assert_eq!(cluster.failure_of(get), Some(&Failure::NoTable));
}

/// A drop that one node knows of is not answered: two others may know nothing of it.
#[test]
fn drop_is_answered_once_a_majority_knows_of_it() {
    let (mut cluster, _) = Cluster::with_table(3, 3);
    let drop = cluster.drop_table(N1);
    cluster.deliver(|sent| !is_drop(sent));
    assert_eq!(cluster.reply_to(drop), None);
    let get = cluster.get_in(N3);
    cluster.deliver(|sent| !is_drop(sent) && sent.from != N1 && sent.to != N1);
    cluster.deliver(|sent| is_drop(sent) && sent.to == N2);
    cluster.deliver(|sent| !is_drop(sent));
    assert_eq!(cluster.reply_to(drop), Some(&Reply::Dropped));
    assert!(cluster.reply_to(get).is_some(), "it was called before");
}

/// Five nodes, of which three hold each slot: two that hold a majority of one slot do not hold one of every slot.
#[test]
fn drop_is_answered_once_a_majority_of_every_slot_knows_of_it() {
    let (mut cluster, _) = Cluster::with_table(5, 3);
    let all = cluster.members();
    let placement = cluster.node(N1).shared_layout().clone();
    let of_first = placement.replicas(placement.distinct_slots()[0]).to_vec();
    let drop = cluster.drop_table(of_first[0]);
    cluster.deliver(|sent| !is_drop(sent) || sent.to == of_first[1]);
    assert_eq!(cluster.reply_to(drop), None, "two of five know of it");
    cluster.run(&all);
    assert_eq!(cluster.reply_to(drop), Some(&Reply::Dropped));
}

/// A replica that knows of a drop says nothing of the key: two others may still serve it.
#[test]
fn refusal_does_not_mean_that_there_is_no_table() {
    let (mut cluster, _) = Cluster::with_table(3, 3);
    let drop = cluster.drop_table(N1);
    cluster.deliver(|sent| !is_drop(sent));
    assert_eq!(cluster.reply_to(drop), None, "node 1 alone knows of it");
    let get = cluster.get_in(N3);
    cluster.settle_with(&[N3], |sent| !is_drop(sent) && sent.from != N2 && sent.to != N2);
    assert_eq!(cluster.failure_of(get), Some(&Failure::TableDropping), "nothing is claimed");
}

/// While the record says that the table is being dropped, nobody is told that there is none.
#[test]
fn table_that_is_being_dropped_is_not_missing() {
    let (mut cluster, _) = Cluster::with_table(3, 3);
    let drop = cluster.drop_table(N1);
    cluster.deliver(|sent| !is_drop(sent));
    cluster.take(is_drop);
    let (get, set) = (cluster.get_in(N2), cluster.set_in(N2, 2));
    // Node 2 knows the name not: it never used it.
    cluster.deliver(|sent| !is_drop(sent));
    for request in [get, set] {
        assert_eq!(cluster.failure_of(request), Some(&Failure::TableDropping));
    }
    assert_eq!(cluster.reply_to(drop), None);
    // The node that found it goes on with it.
    cluster.crash(N1, Unsynced::Lost);
    cluster.settle(&[N2, N3]);
    let get = cluster.get_in(N2);
    cluster.settle(&[N2, N3]);
    assert_eq!(cluster.failure_of(get), Some(&Failure::NoTable), "node 2 has ended the drop");
}

/// A new table waits for the end of the drop before it: a node that remembers the old one would write into that.
#[test]
fn table_is_created_after_the_drop_of_its_name() {
    let (mut cluster, first) = Cluster::with_table(3, 3);
    let drop = cluster.drop_table(N1);
    cluster.deliver(|sent| !is_drop(sent));
    let held = cluster.take(is_drop);
    let create = cluster.create(N2);
    cluster.deliver(|sent| !is_drop(sent));
    assert_eq!((cluster.reply_to(drop), cluster.reply_to(create)), (None, None));
    for sent in held {
        cluster.arrives(sent);
    }
    cluster.settle(&ALL);
    assert_eq!(cluster.reply_to(drop), Some(&Reply::Dropped));
    let (second, is_new) = cluster.created(create);
    assert!(is_new && second != first);
}

/// Two clients drop a table. The slower one comes to its last step when a new table of the name is there.
#[test]
fn late_end_of_a_drop_leaves_a_new_table_alone() {
    let (mut cluster, _) = Cluster::with_table(3, 3);
    let slow = cluster.drop_table(N1);
    cluster.deliver(|sent| !is_drop(sent));
    let held = cluster.take(is_drop);
    let fast = cluster.drop_table(N2);
    cluster.run(&[N2, N3]);
    cluster.run(&ALL);
    assert_eq!((cluster.reply_to(slow), cluster.reply_to(fast)), (None, Some(&Reply::Dropped)));
    let create = cluster.create(N2);
    cluster.run(&ALL);
    let set = cluster.set_in(N2, 2);
    cluster.run(&ALL);
    assert!(cluster.created(create).1 && matches!(cluster.reply_to(set), Some(Reply::Set(_))));
    for sent in held {
        cluster.arrives(sent);
    }
    cluster.run(&ALL);
    assert_eq!(cluster.reply_to(slow), Some(&Reply::Dropped), "the table that it was to drop is gone");
    let get = cluster.get_in(N3);
    cluster.run(&ALL);
    assert_eq!(cluster.seen_by(get), Some(2));
}

/// A conditional write that names an absence is sent again after its table was dropped and created anew: the new table has
/// the same absence.
#[test]
fn version_of_an_absence_does_not_come_back_with_a_new_table() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.create(N1);
    cluster.run(&ALL);
    let get = cluster.get_in(N1);
    cluster.run(&ALL);
    let absent = cluster.version_seen(get);
    let first = cluster.set_in_if(N1, absent.clone(), 1, false);
    cluster.run(&ALL);
    assert!(matches!(cluster.reply_to(first), Some(Reply::Set(version)) if version.table == absent.table));
    cluster.drop_table(N2);
    cluster.run(&ALL);
    cluster.create(N2);
    cluster.run(&ALL);
    let again = cluster.set_in_if(N3, absent.clone(), 1, true);
    cluster.run(&ALL);
    assert!(matches!(cluster.failure_of(again), Some(Failure::OutcomeForgotten)), "{:?}", cluster.reply_to(again));
    let get = cluster.get_in(N2);
    cluster.run(&ALL);
    assert_eq!(cluster.seen_by(get), None, "it is applied once");
    let other = cluster.set_in_if(N3, absent, 3, false);
    cluster.run(&ALL);
    let Some(Failure::ConditionFailed { version, has_value: false }) = cluster.failure_of(other) else {
        panic!("it is of another table: {:?}", cluster.reply_to(other));
    };
    assert_eq!(*version, cluster.version_seen(get), "the present version is of the present table");
}

/// A write that was sent to replicas of a dropped table may have been read there. In the new table it would happen twice.
#[test]
fn write_does_not_go_on_in_a_new_table() {
    let (mut cluster, _) = Cluster::with_table(3, 3);
    cluster.drop_without_n3();
    let create = cluster.create(N1);
    cluster.settle(&[N1, N2]);
    cluster.take(|sent| sent.to == N3);
    assert!(cluster.created(create).1);
    let set = cluster.set_in(N3, 9);
    cluster.settle_with(&[N3], |_| true);
    assert_eq!(cluster.failure_of(set), Some(&Failure::DroppedMeanwhile));
    let get = cluster.get_in(N3);
    cluster.settle(&ALL);
    assert_eq!(cluster.seen_by(get), None);
    let set = cluster.set_in(N3, 3);
    cluster.settle(&ALL);
    assert!(matches!(cluster.reply_to(set), Some(Reply::Set(_))), "it has read the name anew");
}

/// A read that waits for the record of a name began before the table was created: it does not say that there is none to
/// those that came after it was.
#[test]
fn absence_of_a_table_is_read_after_the_call() {
    let mut cluster = Cluster::bootstrapped(3);
    let early = cluster.get_in(N3);
    // Its replicas answer that there is no record, and the answers are late.
    cluster.deliver(|sent| sent.from == N3 && sent.asks_to_read());
    let late = cluster.take(|sent| sent.to == N3);
    let create = cluster.create(N1);
    cluster.settle(&[N1, N2]);
    assert!(cluster.created(create).1);
    let after = cluster.get_in(N3);
    for sent in late {
        cluster.arrives(sent);
    }
    cluster.settle(&ALL);
    assert_eq!(cluster.failure_of(early), Some(&Failure::NoTable));
    assert_eq!(cluster.seen_by(after), None, "it is there, and empty");
}

#[test]
fn settings_hold_for_each_write() {
    let mut cluster = Cluster::bootstrapped(3);
    let settings = TableSettings { default_ttl: Ttl::from_millis(60_000), value_bytes_max: Some(2), quota_bytes: None };
    cluster.create_with(N1, settings);
    cluster.run(&ALL);
    let (large, small) = (cluster.set_in(N2, 1_000), cluster.set_in(N2, 10));
    cluster.run(&ALL);
    assert_eq!(cluster.failure_of(large), Some(&Failure::ValueTooLarge { bytes: 4, bytes_max: 2 }));
    assert!(matches!(cluster.reply_to(small), Some(Reply::Set(_))));
    let get = cluster.get_in(N3);
    cluster.run(&ALL);
    assert_eq!(cluster.seen_by(get), Some(10));
    assert!(cluster.ttl_left_to_last_read() > Duration::from_secs(50));
}

/// A request is sent again that may have taken effect under other settings: that it is too large now says nothing of that.
#[test]
fn settings_refuse_no_request_that_may_have_taken_effect() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.create_with(N1, TableSettings { value_bytes_max: Some(2), ..TableSettings::default() });
    cluster.run(&ALL);
    let first = cluster.set_in_if(N2, Version::absent(), 1_000, false);
    let again = cluster.set_in_if(N2, Version::absent(), 1_000, true);
    cluster.run(&ALL);
    assert_eq!(cluster.failure_of(first), Some(&Failure::ValueTooLarge { bytes: 4, bytes_max: 2 }));
    assert_eq!(cluster.failure_of(again), Some(&Failure::OutcomeForgotten));
}

/// A quota refuses writes once the table holds so much, and accepts them again when keys were deleted. It is approximate: each
/// node measures from time to time.
#[test]
fn quota_refuses_writes_until_there_is_room() {
    let mut cluster = Cluster::bootstrapped(3);
    cluster.create_with(N1, TableSettings { quota_bytes: Some(10), ..TableSettings::default() });
    cluster.run(&ALL);
    let set = |cluster: &mut Cluster, name: &'static str, value| {
        let (key, content) = (Key::new(name).unwrap(), value);
        let checksum = Checksum::of(&key, &content);
        let set = cluster.in_table(N2, Command::Set { key, content, ttl: None, checksum });
        cluster.run(&ALL);
        set
    };
    let first = set(&mut cluster, "a", content(1_234));
    let second = set(&mut cluster, "b", content(1_234));
    cluster.pass(Duration::from_secs(3), &ALL);
    let full = set(&mut cluster, "c", content(1));
    for request in [first, second] {
        assert!(matches!(cluster.reply_to(request), Some(Reply::Set(_))));
    }
    assert_eq!(cluster.failure_of(full), Some(&Failure::QuotaReached { quota_bytes: 10 }));
    let delete = set(&mut cluster, "a", Content::Tombstone);
    assert!(matches!(cluster.reply_to(delete), Some(Reply::Set(_))), "a deletion always has room");
    cluster.pass(Duration::from_secs(3), &ALL);
    // This write lets the node measure, and may still be refused.
    set(&mut cluster, "c", content(1));
    let again = set(&mut cluster, "c", content(1));
    assert!(matches!(cluster.reply_to(again), Some(Reply::Set(_))), "{:?}", cluster.reply_to(again));
}

#[test]
fn watch_of_a_dropped_table_ends() {
    let (mut cluster, id) = Cluster::with_table(3, 3);
    let filter = Filter::Prefix(Key::prefix_in(id, b""));
    let (watch, others) = (cluster.watch(N3, filter.clone(), Cursor::default()), cluster.watch_all(N3));
    cluster.run(&ALL);
    cluster.settle(&ALL);
    cluster.set_in(N1, 2);
    cluster.settle(&ALL);
    let changes = |cluster: &Cluster, watch| {
        cluster.news(watch).iter().filter(|news| matches!(news.event, WatchEvent::Changed { .. })).count()
    };
    assert_eq!(changes(&cluster, watch), 1);
    assert_eq!(changes(&cluster, others), 0, "the default table is another one");
    cluster.drop_table(N1);
    cluster.run(&ALL);
    assert_eq!(cluster.count_news(watch, &WatchEvent::TableDropped), 1);
    assert_eq!(cluster.count_news(others, &WatchEvent::TableDropped), 0);
    let late = cluster.watch(N3, filter, Cursor::default());
    assert_eq!(cluster.count_news(late, &WatchEvent::TableDropped), 1, "the node knows of it");
}

/// Node 3 missed the drop, and the node that was to tell it has crashed. A watch there is about the table of the name that is
/// there now.
#[test]
fn watch_at_a_node_that_missed_a_drop_is_of_the_new_table() {
    let (mut cluster, first) = Cluster::with_table(3, 3);
    cluster.drop_without_n3();
    cluster.crash(N1, Unsynced::Lost);
    let create = cluster.create(N2);
    cluster.settle(&[N2, N3]);
    let (second, is_new) = cluster.created(create);
    assert!(is_new && second != first);
    let open = cluster.ask(N3, Command::OpenTable { name: name() });
    assert_eq!(cluster.reply_to(open), None, "it does not rely on what it remembers");
    cluster.settle(&[N2, N3]);
    assert_eq!(cluster.created(open), (second, false));
}

/// A watch of the dropped table itself learns of the drop from the nodes that know of it.
#[test]
fn watch_at_a_node_that_missed_a_drop_ends() {
    let (mut cluster, first) = Cluster::with_table(3, 3);
    let filter = Filter::Prefix(Key::prefix_in(first, b""));
    cluster.drop_without_n3();
    let watch = cluster.watch(N3, filter.clone(), Cursor::default());
    assert_eq!(cluster.count_news(watch, &WatchEvent::TableDropped), 0, "the node does not know of it");
    cluster.settle(&ALL);
    assert_eq!(cluster.count_news(watch, &WatchEvent::TableDropped), 1);
    assert_eq!(cluster.count_news(watch, &WatchEvent::Ready), 0, "it would be silent for ever");
}

/// A node hears of a drop, and its disk fails before it has that durably.
#[test]
fn drop_that_was_heard_is_durable_once_the_store_is_reopened() {
    let (mut cluster, first) = Cluster::with_table(3, 3);
    cluster.drop_without_n3();
    cluster.hold_disk(N3);
    let get = cluster.get_in(N3);
    cluster.settle_with(&[N3], |_| true);
    assert_eq!(cluster.failure_of(get), Some(&Failure::NoTable));
    assert!(cluster.waits_at_disk(N3));
    assert!(!cluster.keeps_drop(N3, first));
    cluster.fail_batch(N3);
    assert!(cluster.keeps_drop(N3, first), "the next batch has it");
}

#[test]
fn space_of_a_dropped_table_is_given_back() {
    let (mut cluster, id) = Cluster::with_table(3, 3);
    cluster.write_among(N1, &ALL, 5);
    cluster.drop_table(N1);
    cluster.run(&ALL);
    assert!(ALL.iter().any(|at| cluster.keys_of(*at, id) > 0), "it is dropped before its space is given back");
    cluster.pass(Duration::from_secs(1), &ALL);
    for at in ALL {
        assert_eq!(cluster.keys_of(at, id), 0, "at {at:?}");
        assert_eq!(cluster.value_on_disk(at), Some(5), "the default table is as it was");
    }
    // A record on its way to a disk that was slow comes after the drop, and is not kept.
    cluster.crash(N2, Unsynced::Lost);
    cluster.start(N2);
    cluster.run(&ALL);
    cluster.pass(Duration::from_secs(1), &ALL);
    assert_eq!(cluster.keys_of(N2, id), 0);
}

/// A table is dropped while node 3 is away. Nodes that have removed it and one that has not differ, and nobody repairs that.
#[test]
fn dropped_table_leaves_no_difference_to_repair() {
    let mut cluster = Cluster::repairing();
    cluster.fill(&["a", "b"]);
    let create = cluster.create(N1);
    cluster.run(&ALL);
    let (id, _) = cluster.created(create);
    cluster.set_in(N1, 1);
    cluster.run(&ALL);
    cluster.live(Duration::from_secs(1));
    cluster.crash(N3, Unsynced::Kept);
    let drop = cluster.drop_table(N1);
    cluster.live(Duration::from_secs(5));
    assert_eq!(cluster.reply_to(drop), Some(&Reply::Dropped));
    assert_eq!((cluster.keys_of(N1, id), cluster.keys_of(N3, id)), (0, 1), "node 3 has missed it");
    assert!(cluster.leaves_are_true(N1), "what was removed counts no more");
    cluster.start(N3);
    cluster.live(Duration::from_secs(40));
    for node in ALL {
        assert_eq!((cluster.keys_of(node, id), cluster.leaves_are_true(node)), (0, true), "node {node:?}");
        let report = cluster.node(node).repair().report(cluster.now());
        assert!(report.pairs.iter().all(|pair| pair.equal_since.is_some_and(|since| since < Duration::from_secs(20))));
    }
    cluster.assert_linearizable();
}

/// Each of these tests finds the mutant that it is for.
#[cfg(feature = "mutants")]
#[test]
fn each_fails_where_its_rule_is_broken() {
    use crate::mutants::{each_is_found, tests};

    each_is_found(tests![
        DropAtOne: drop_is_answered_once_a_majority_knows_of_it,
        DropOfOneSlot: drop_is_answered_once_a_majority_of_every_slot_knows_of_it,
        DropIsVolatile: drop_outlives_a_loss_of_power,
        DeletesAnyRecord: late_end_of_a_drop_leaves_a_new_table_alone,
        RefusedIsMissing: refusal_does_not_mean_that_there_is_no_table,
        DroppingIsMissing: table_that_is_being_dropped_is_not_missing,
        CreatedWhileDropping: table_is_created_after_the_drop_of_its_name,
        VersionWithoutId: version_of_an_absence_does_not_come_back_with_a_new_table,
        RetriedUnderNewId: write_does_not_go_on_in_a_new_table,
        CleaningKeepsLeaf: dropped_table_leaves_no_difference_to_repair,
        ShrinkWithoutDrops: table_stays_dropped_where_fewer_nodes_hold_each_slot,
    ]);
}
