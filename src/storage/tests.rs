//! The contract of every store, and helpers for the tests of this module.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::memory::MemoryStore;
use super::rocks::{RocksOptions, RocksStore};
use super::*;
use crate::types::{
    Checksum, Clock, Content, Incarnation, Lookup, Meta, NodeId, PeerRecord, Record, Removed, SlotRange, SlotRecord,
    SlotsPage, Stamp, StoreId, Ttl, Value,
};

pub(super) const STORE_ID: StoreId = StoreId(0xfeed);

pub(super) fn key(text: &str) -> Key {
    Key::new(text.to_owned()).expect("tests use valid keys")
}

pub(super) fn record(key: &Key, counter: u64, content: Content) -> Record {
    let stamp = Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("n1").expect("a node id") };
    let checksum = Checksum::of_write(key, &content, None);
    Record::plain(stamp, content, checksum)
}

pub(super) fn text(key: &Key, counter: u64, value: &str) -> Record {
    record(key, counter, Content::Value(Value::Text(value.to_owned().into())))
}

pub(super) fn batch_of(slot: u16, records: impl IntoIterator<Item = (Key, Record)>) -> Batch {
    let records: BTreeMap<_, _> = records.into_iter().map(|(key, record)| (key, (Slot(slot), record))).collect();
    let new_keys = records.keys().cloned().collect();
    Batch { records, new_keys, ..Batch::default() }
}

pub(super) fn read(store: &dyn Store, slot: u16, key: &Key, read_kind: ReadKind) -> Lookup {
    match store.read(Slot(slot), key, read_kind, ReadTier::Disk).expect("the store can be read") {
        ReadOutcome::Done(found) => found.lookup,
        ReadOutcome::TooLarge { .. } => panic!("a read without a bound refused a large value"),
        ReadOutcome::WouldBlock => panic!("a read that may wait for the disk did not"),
    }
}

pub(super) fn every_store(test: impl Fn(&dyn Store)) {
    test(&MemoryStore::new(STORE_ID));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("store");
    test(&RocksStore::create(&path, &RocksOptions::default(), STORE_ID).expect("a fresh store"));
}

#[test]
fn persisted_records_are_found_by_slot_and_key() {
    every_store(|store| {
        let (a, b, large) = (key("a"), key("b"), key("large"));
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
        let records = [
            (a.clone(), text(&a, 1, "one")),
            (b.clone(), record(&b, 2, Content::Tombstone)),
            (large.clone(), record(&large, 3, Content::Value(Value::Binary(bytes.into())))),
        ];
        store.persist(&batch_of(7, records.clone())).expect("persisted");
        for (key, record) in records {
            assert_eq!(read(store, 7, &key, ReadKind::Data), Lookup::Record(record.clone()));
            assert_eq!(read(store, 7, &key, ReadKind::Digest), Lookup::Digest(record.digest()));
            assert_eq!(read(store, 8, &key, ReadKind::Data), Lookup::Absent);
        }
        let newer = text(&a, 9, "two");
        store.persist(&batch_of(7, [(a.clone(), newer.clone())])).expect("persisted");
        assert_eq!(read(store, 7, &a, ReadKind::Data), Lookup::Record(newer));
    });
}

#[test]
fn metadata_is_kept_and_a_batch_changes_only_its_own_part() {
    every_store(|store| {
        assert_eq!(store.meta(), Ok(Meta::fresh(STORE_ID)));
        let peer = NodeId::new("peer:1").expect("a node id");
        let record = PeerRecord { store_id: StoreId(5), incarnation: Incarnation { epoch: 3, nonce: 8 } };
        let peers = BTreeMap::from([(peer.clone(), record)]);
        let incarnations = vec![Incarnation { epoch: 3, nonce: 9 }, Incarnation { epoch: 4, nonce: 1 }];
        for incarnation in &incarnations {
            let (epoch, incarnation) = (Some(incarnation.epoch), Some(*incarnation));
            store.persist(&Batch { epoch, incarnation, ..Batch::default() }).expect("persisted");
        }
        store.persist(&Batch { peers: peers.clone(), ..Batch::default() }).expect("persisted");
        store.persist(&Batch { bootstrapped: true, ..Batch::default() }).expect("persisted");
        store.persist(&batch_of(0, [])).expect("an empty batch changes nothing");
        let running = Some(RunningTime(70_000));
        store.persist(&Batch { running, ..Batch::default() }).expect("persisted");
        let dropped = BTreeSet::from([TableId(16), TableId(300)]);
        store.persist(&Batch { dropped: dropped.clone(), ..Batch::default() }).expect("persisted");
        let clock = |counter| Clock { epoch: 4, counter };
        store.persist(&Batch { fence: Some(clock(7)), ..Batch::default() }).expect("persisted");
        for (slot, seal) in [(1, 5), (65_535, 6), (1, 7)] {
            let seals = BTreeMap::from([(Slot(slot), clock(seal))]);
            store.persist(&Batch { seals, ..Batch::default() }).expect("persisted");
        }
        let expected = Meta {
            store_id: STORE_ID,
            epoch: 4,
            incarnations,
            bootstrapped: true,
            peers,
            running,
            dropped,
            fence: Some(clock(7)),
            seals: BTreeMap::from([(Slot(1), clock(7)), (Slot(65_535), clock(6))]),
            configuration: None,
            vote: None,
            taken_over: None,
        };
        assert_eq!(store.meta(), Ok(expected.clone()));
        store.reopen().expect("reopened");
        assert_eq!(store.meta(), Ok(expected));
    });
}

#[test]
fn deletion_is_forgotten_with_its_entry_of_the_index() {
    every_store(|store| {
        let (a, b) = (key("a"), key("b"));
        let deleted = [&a, &b].map(|key| (key.clone(), record(key, 1, Content::Tombstone)));
        let new_keys = BTreeSet::from([a.clone(), b.clone()]);
        store.persist(&Batch { new_keys, ..batch_of(7, deleted.clone()) }).expect("persisted");
        let forgotten = deleted.iter().map(|(key, record)| (key.clone(), (Slot(7), record.digest()))).collect();
        // The same batch has a new record of one of them.
        let new_keys = BTreeSet::from([b.clone()]);
        let newer = text(&b, 9, "new");
        store.persist(&Batch { new_keys, forgotten, ..batch_of(7, [(b.clone(), newer.clone())]) }).expect("persisted");
        for is_reopened in [false, true] {
            assert_eq!(read(store, 7, &a, ReadKind::Digest), Lookup::Absent, "{is_reopened}");
            assert_eq!(read(store, 7, &b, ReadKind::Data), Lookup::Record(newer.clone()), "{is_reopened}");
            let bounds = PageBounds { keys_max: 9, bytes_max: 999, looked_at_max: 9 };
            let listed = store.list(&KeyRange::default(), &|_| Slot(7), bounds).expect("a list");
            assert_eq!(listed.keys, [(b.clone(), newer.digest())], "{is_reopened}");
            store.reopen().expect("reopened");
        }
    });
}

#[test]
fn versions_that_expire_are_found_in_their_order_until_they_are_replaced() {
    every_store(|store| {
        let expiring = |name: &str, counter, kept_at| {
            let key = key(name);
            let ttl = Ttl::from_millis(1_000);
            let mut record = text(&key, counter, "v");
            record.ttl = ttl;
            record.checksum = Checksum::of(&key, &record.content).and_ttl(ttl);
            (key, record, RunningTime(kept_at))
        };
        let expiring_batch = |records: Vec<(Key, Record, RunningTime)>| Batch {
            kept_at: records.iter().map(|(key, _, kept_at)| (key.clone(), *kept_at)).collect(),
            ..batch_of(3, records.into_iter().map(|(key, record, _)| (key, record)))
        };
        let all = vec![expiring("b", 1, 5_000), expiring("a", 2, 5_000), expiring("c", 3, 4_000)];
        let entry = |(key, record, kept_at): &(Key, Record, RunningTime)| Expiry {
            at: RunningTime(kept_at.0 + 1_001),
            slot: Slot(3),
            key: key.clone(),
            version: record.version(),
        };
        let (b, a, c) = (entry(&all[0]), entry(&all[1]), entry(&all[2]));
        store.persist(&expiring_batch(all.clone())).expect("persisted");
        let never = key("never");
        store.persist(&batch_of(3, [(never.clone(), text(&never, 9, "v"))])).expect("persisted");
        let page = |from, after: Option<&Expiry>, max| store.expiries(RunningTime(from), after, max).expect("a page");
        assert_eq!(page(0, None, 10), [c.clone(), a.clone(), b.clone()]);
        assert_eq!(page(5_002, None, 1), std::slice::from_ref(&a));
        assert_eq!(page(0, Some(&a), 10), std::slice::from_ref(&b));
        for read_kind in [ReadKind::Digest, ReadKind::Data] {
            let ReadOutcome::Done(found) =
                store.read(Slot(3), &all[0].0, read_kind, ReadTier::Disk).expect("the store can be read")
            else {
                panic!("a read that may wait for the disk answers")
            };
            assert_eq!(found.kept_at, Some(RunningTime(5_000)));
        }
        let renewed = expiring("c", 4, 9_000);
        let batch = Batch { expiries_removed: [c].into(), ..expiring_batch(vec![renewed.clone()]) };
        store.persist(&batch).expect("persisted");
        assert_eq!(page(0, None, 10), [a, b, entry(&renewed)]);
    });
}

/// The keys of all pages.
fn walk(store: &dyn Store, prefix: &str, bounds: PageBounds) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.keys(after.as_ref(), prefix, bounds).expect("a page");
        assert!(page.keys.len() <= bounds.keys_max);
        let bytes: usize = page.keys.iter().map(|key| key.as_bytes().len()).sum();
        assert!(bytes <= bounds.bytes_max || page.keys.len() == 1);
        all.extend(page.keys.iter().map(|key| key.as_str().to_owned()));
        match page.next {
            None => return all,
            next => {
                assert_ne!(next, after, "each page must advance");
                after = next;
            }
        }
    }
}

#[test]
fn key_pages_walk_all_values_once_and_skip_tombstones() {
    every_store(|store| {
        let mut expected = Vec::new();
        for slot in [0, 1, 500, u16::MAX] {
            let mut batch = Batch::default();
            for index in 0..40 {
                let key = key(&format!("{}/{slot}/{index:02}", ["apple", "pear"][index % 2]));
                let is_deleted = index % 5 == 0;
                let content = if is_deleted { Content::Tombstone } else { Content::Value(Value::Text("v".into())) };
                batch.records.insert(key.clone(), (Slot(slot), record(&key, 1, content)));
            }
            let listed = batch.records.iter().filter(|(_, (_, record))| record.content != Content::Tombstone);
            expected.extend(listed.map(|(key, _)| key.as_str().to_owned()));
            store.persist(&batch).expect("persisted");
        }
        let every_bounds = [
            (1, 1, 1),
            (3, 1_000, 1_000),
            (1_000, 20, 1_000),
            (1_000, 1_000_000, 7),
            (usize::MAX, usize::MAX, usize::MAX),
        ];
        for (keys_max, bytes_max, looked_at_max) in every_bounds {
            let bounds = PageBounds { keys_max, bytes_max, looked_at_max };
            assert_eq!(walk(store, "", bounds), expected, "{bounds:?}");
            for prefix in ["apple/", "pear/5", "pear/65535/39", "banana", "zebra"] {
                let matching: Vec<_> = expected.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
                assert_eq!(walk(store, prefix, bounds), matching, "{prefix} {bounds:?}");
            }
        }
    });
}

#[test]
fn cursor_at_a_missing_key_continues_after_it() {
    every_store(|store| {
        let (a, c) = (key("a"), key("c"));
        store.persist(&batch_of(1, [(a.clone(), text(&a, 1, "")), (c.clone(), text(&c, 1, ""))])).expect("persisted");
        let bounds = PageBounds { keys_max: 9, bytes_max: 99, looked_at_max: 99 };
        let after = Cursor { slot: Slot(1), key: key("b") };
        let page = store.keys(Some(&after), "", bounds).expect("a page");
        assert_eq!(page, KeysPage { keys: vec![c], next: None });
    });
}

/// The keys of all pages of a list, tombstones marked.
fn list_all(store: &dyn Store, slot_of: &dyn Fn(&Key) -> Slot, prefix: &str, bounds: PageBounds) -> Vec<String> {
    let mut range = KeyRange { after: None, prefix: prefix.to_owned().into() };
    let mut all = Vec::new();
    loop {
        let page = store.list(&range, slot_of, bounds).expect("a page");
        assert!(page.keys.len() <= bounds.keys_max);
        all.extend(page.keys.iter().map(|(key, digest)| format!("{key}{}", if digest.is_value { "" } else { " -" })));
        let Some(looked_to) = page.looked_to else { return all };
        assert!(range.contains(&looked_to), "each page must advance: {looked_to:?}");
        range.after = Some(looked_to);
    }
}

#[test]
fn list_walks_all_records_once_in_the_order_of_keys() {
    every_store(|store| {
        // Neighbouring keys lie in slots far apart.
        let slot_of = |key: &Key| Slot(u16::from(*key.as_bytes().last().expect("a byte")) * 251);
        let mut expected = Vec::new();
        for index in 0..600 {
            let key = key(&format!("{}/{index:03}", ["apple", "pear"][index % 2]));
            let is_deleted = index % 5 == 0;
            let content = if is_deleted { Content::Tombstone } else { Content::Value(Value::Text("v".into())) };
            store.persist(&batch_of(slot_of(&key).0, [(key.clone(), record(&key, 1, content))])).expect("persisted");
            expected.push(format!("{key}{}", if is_deleted { " -" } else { "" }));
        }
        // An entry of the index without a record names nothing.
        let gone = Batch { new_keys: [key("banana"), key("apple/000/")].into(), ..Batch::default() };
        store.persist(&gone).expect("persisted");
        expected.sort_unstable();
        for (keys_max, bytes_max, looked_at_max) in
            [(1, 1, 1), (7, 1_000, 1_000), (600, 900, 77), (1_000, 1 << 20, 1_000)]
        {
            let bounds = PageBounds { keys_max, bytes_max, looked_at_max };
            assert_eq!(list_all(store, &slot_of, "", bounds), expected, "{bounds:?}");
            for prefix in ["apple/", "pear/5", "banana", "zebra", "apple/010"] {
                let matching: Vec<_> = expected.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
                assert_eq!(list_all(store, &slot_of, prefix, bounds), matching, "{prefix} {bounds:?}");
            }
        }
        let bounds = PageBounds { keys_max: 1, bytes_max: 1_000, looked_at_max: 10 };
        for (after, next) in [("pear/5", "pear/501 v"), ("aaa", "apple/000"), ("apple/598", "pear/001")] {
            let range = KeyRange { after: Some(key(after)), prefix: Vec::new().into() };
            let page = store.list(&range, &slot_of, bounds).expect("a page");
            assert_eq!(page.keys[0].0.as_str(), next.trim_end_matches(" v"));
        }
        let range = KeyRange { after: Some(key("pear/599")), prefix: "pear".to_owned().into() };
        assert_eq!(store.list(&range, &slot_of, bounds), Ok(ScannedKeys::default()));
    });
}

#[test]
fn damaged_content_in_memory_is_found() {
    let store = MemoryStore::new(STORE_ID);
    let a = key("a");
    let mut record = text(&a, 1, "one");
    record.checksum.0 ^= 1;
    store.persist(&batch_of(1, [(a.clone(), record)])).expect("persisted");
    let answer = store.read(Slot(1), &a, ReadKind::Data, ReadTier::Disk);
    assert!(matches!(answer, Err(StoreError::Damaged { .. })), "{answer:?}");
}

#[test]
fn dropped_table_is_removed_piece_by_piece_and_others_stay() {
    every_store(|store| {
        let in_table = |table: u32, name: &str| Key::in_table(TableId(table), name.as_bytes()).expect("a key");
        let ttl = Ttl::from_millis(1_000);
        let expiring = |key: Key| {
            let mut record = text(&key, 4, "v");
            record.ttl = ttl;
            record.checksum = Checksum::of_write(&key, &record.content, ttl);
            (key, record)
        };
        let large = |key: Key| {
            let record = record(&key, 5, Content::Value(Value::Binary(vec![7; 100_000].into())));
            (key, record)
        };
        let plain = |key: Key| {
            let record = text(&key, 6, "v");
            (key, record)
        };
        let dropped = [expiring(in_table(16, "a")), large(in_table(16, "b")), plain(in_table(16, "c"))];
        let others = [expiring(key("a")), large(key("b")), plain(in_table(17, "a"))];
        let records = dropped.iter().chain(&others).cloned();
        let kept_at = [in_table(16, "a"), key("a")].map(|key| (key, RunningTime(5_000)));
        store.persist(&Batch { kept_at: kept_at.into(), ..batch_of(3, records) }).expect("persisted");
        for (key, record) in &dropped {
            assert_eq!(read(store, 3, key, ReadKind::Data), Lookup::Record(record.clone()), "the cache has it");
        }
        let bounds = PageBounds { keys_max: 9, bytes_max: 999, looked_at_max: 99 };
        let list = |prefix| {
            let range = KeyRange { after: None, prefix };
            let page = store.list(&range, &|_| Slot(3), bounds).expect("a page");
            page.keys.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(list(Bytes::new()), ["a", "b"], "no prefix is that of the default table");
        assert_eq!(list(Key::prefix_in(TableId(16), b"")), ["a of table 16", "b of table 16", "c of table 16"]);
        assert_eq!(store.keys(None, "", bounds).expect("a page").keys, [key("a"), key("b")]);
        let bytes = |table| store.measure(TableId(table), &|_| Some(Slot(3))).expect("measured");
        assert_eq!([bytes(16), bytes(17), bytes(18)], [100_000 + 2 + 3, 2, 0]);
        assert_eq!(store.measure(TableId(16), &|_| None), Ok(0), "no slot, no bytes");
        let clean = |max| store.clean(TableId(16), max, &|_| Slot(3)).expect("removed");
        let mut removed = Vec::new();
        for (records, has_more) in [(2, true), (1, false), (0, false)] {
            let cleaned: Removed = clean(2);
            assert_eq!((cleaned.records, cleaned.has_more, cleaned.digests.len()), (records, has_more, records));
            removed.extend(cleaned.digests.into_iter().map(|SlotRecord { slot, key, digest }| (slot, key, digest)));
        }
        let expected: Vec<_> = dropped.iter().map(|(key, record)| (Slot(3), key.clone(), record.digest())).collect();
        assert_eq!(removed, expected, "each is told as it was");
        for (key, _) in &dropped {
            assert_eq!(read(store, 3, key, ReadKind::Data), Lookup::Absent);
        }
        for (key, record) in others {
            assert_eq!(read(store, 3, &key, ReadKind::Data), Lookup::Record(record));
        }
        assert_eq!(list(Key::prefix_in(TableId(16), b"")), [""; 0]);
        let expiries = store.expiries(RunningTime(0), None, 9).expect("a page");
        assert_eq!(expiries.into_iter().map(|expiry| expiry.key).collect::<Vec<_>>(), [key("a")]);
    });
}

#[test]
fn slots_are_read_in_pages_one_after_the_other() {
    every_store(|store| {
        let mut batch = Batch::default();
        let mut expected = Vec::new();
        for (slot, names) in [(0, "ab"), (7, "abc"), (8, "z"), (u16::MAX, "ab")] {
            for name in names.chars() {
                let key = key(&format!("{slot}{name}"));
                let record = if name == 'b' { record(&key, 1, Content::Tombstone) } else { text(&key, 1, "value") };
                expected.push(SlotRecord { slot: Slot(slot), key: key.clone(), digest: record.digest() });
                batch.new_keys.insert(key.clone());
                batch.records.insert(key, (Slot(slot), record));
            }
        }
        store.persist(&batch).expect("durable");
        let slots = |first, after: Option<&str>, last, max| {
            let range = SlotRange { first: Slot(first), after: after.map(key), last: Slot(last) };
            store.slots(&range, max).expect("a page")
        };
        let page = |range: std::ops::Range<usize>, has_more| SlotsPage {
            intact: range.len(),
            records: expected[range].to_vec(),
            has_more,
            damaged: 0,
        };
        assert_eq!(slots(0, None, u16::MAX, 100), page(0..8, false));
        assert_eq!(slots(0, None, u16::MAX, 1), page(0..1, true));
        assert_eq!(slots(0, Some("0a"), u16::MAX, 3), page(1..4, true));
        assert_eq!(slots(7, Some("7b"), 7, 9), page(4..5, false));
        assert_eq!(slots(7, Some("7bb"), u16::MAX, 2), page(4..6, true), "the key need not be there");
        assert_eq!(slots(7, None, 7, 3), page(2..5, false));
        assert_eq!((slots(1, None, 6, 9), slots(9, None, u16::MAX, 9)), (page(0..0, false), page(6..8, false)));
    });
}
