//! What every store keeps of configurations, and of slots that are gained.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rocks::{RocksOptions, RocksStore};
use super::tests::{STORE_ID, batch_of, every_store, key, read, record, text};
use super::*;
use crate::types::{
    Clock, ClusterId, Configuration, Content, Lookup, Member, MemberList, NodeId, Site, StoreId, TakenOver, Value,
    Vote, VoteBallot,
};

fn list(ids: &[&str]) -> MemberList {
    let member = |id: &&str| Member {
        id: NodeId::new(id).expect("a node id"),
        store_id: StoreId(7),
        since: 3,
        address: format!("host-{id}:8001").into(),
        site: Site::of_fields(150, "rack-1").expect("a weight and a zone"),
    };
    MemberList { replica_count: 1, members: ids.iter().map(member).collect() }
}

fn configuration(number: u64) -> Arc<Configuration> {
    let (old, new) = (list(&["1", "2"]), list(&["2", "3"]));
    Arc::new(Configuration { number, cluster: ClusterId(1 << 100), seed: 9, epoch_floor: 3, old, new: Some(new) })
}

fn ballot(count: u64) -> VoteBallot {
    VoteBallot { count, proposer: NodeId::new("1").expect("a node id"), epoch: 4 }
}

#[test]
fn gained_slots_are_emptied_before_the_records_of_the_batch() {
    every_store(|store| {
        let bytes = vec![3_u8; 100_000];
        let slots = [5_u16, 6, 7, 8, 65_535];
        let keys: Vec<Key> = slots.iter().map(|slot| key(&format!("of-{slot}"))).collect();
        for (slot, key) in slots.iter().zip(&keys) {
            let large = record(key, 1, Content::Value(Value::Binary(bytes.clone().into())));
            let small = Key::new(format!("small-{slot}")).expect("a key");
            let records = [(key.clone(), large), (small.clone(), text(&small, 1, "v"))];
            let clock = Clock { epoch: 1, counter: u64::from(*slot) };
            let seals = BTreeMap::from([(Slot(*slot), clock)]);
            store.persist(&Batch { seals, ..batch_of(*slot, records) }).expect("persisted");
            // It is in the cache, too.
            assert_ne!(read(store, *slot, key, ReadKind::Data), Lookup::Absent);
        }
        let newer = text(&keys[1], 9, "newer");
        let emptied = vec![(Slot(6), Slot(7)), (Slot(9), Slot(99)), (Slot(65_535), Slot(65_535))];
        let seal = Clock { epoch: 2, counter: 0 };
        let seals = BTreeMap::from([(Slot(7), seal)]);
        let batch = batch_of(6, [(keys[1].clone(), newer.clone())]);
        store.persist(&Batch { seals, emptied, ..batch }).expect("persisted");
        for is_reopened in [false, true] {
            for (slot, key) in slots.iter().zip(&keys) {
                let found = read(store, *slot, key, ReadKind::Data);
                let small = read(store, *slot, &Key::new(format!("small-{slot}")).expect("a key"), ReadKind::Digest);
                match slot {
                    5 | 8 => assert!(found != Lookup::Absent && small != Lookup::Absent, "{slot} {is_reopened}"),
                    6 => assert_eq!((found, small), (Lookup::Record(newer.clone()), Lookup::Absent), "{is_reopened}"),
                    _ => assert_eq!((found, small), (Lookup::Absent, Lookup::Absent), "{slot} {is_reopened}"),
                }
            }
            let seals: Vec<(u16, Clock)> =
                store.meta().expect("metadata").seals.iter().map(|(s, c)| (s.0, *c)).collect();
            let of = |counter| Clock { epoch: 1, counter };
            assert_eq!(seals, [(5, of(5)), (7, seal), (8, of(8))], "{is_reopened}");
            store.reopen().expect("reopened");
        }
    });
}

#[test]
fn slots_of_many_records_and_of_few_are_emptied_and_those_between_stay() {
    every_store(|store| {
        let name = |slot: u16, number: usize| Key::new(format!("{slot}-{number}")).expect("a key");
        let counts = [(3_u16, 2), (4, 40), (5, 1), (6, 40), (8, 3), (9, 17), (300, 5)];
        for (slot, count) in counts {
            let records = (0..count).map(|number| (name(slot, number), text(&name(slot, number), 1, "v")));
            store.persist(&batch_of(slot, records)).expect("persisted");
            // It is in the cache, too.
            assert_ne!(read(store, slot, &name(slot, 0), ReadKind::Data), Lookup::Absent);
        }
        let emptied = vec![(Slot(0), Slot(3)), (Slot(6), Slot(7)), (Slot(9), Slot(200)), (Slot(400), Slot(65_535))];
        store.persist(&Batch { emptied, ..Batch::default() }).expect("persisted");
        for is_reopened in [false, true] {
            for (slot, count) in counts {
                for number in 0..count {
                    let is_there = read(store, slot, &name(slot, number), ReadKind::Data) != Lookup::Absent;
                    assert_eq!(is_there, matches!(slot, 4 | 5 | 8 | 300), "{slot} {number} {is_reopened}");
                }
            }
            store.reopen().expect("reopened");
        }
    });
}

#[test]
fn number_and_size_of_keys_are_known_about_and_overwritten_versions_do_not_count() {
    every_store(|store| {
        let (mut expected, mut keys) = (0, 0);
        for (count, percent) in [(300, 0), (6_000, 5)] {
            keys += count as u64;
            for version in 1..=2 {
                let record = |number: usize| {
                    // Spread over all slots, as hashed keys are.
                    let slot = Slot(u16::try_from(number * 65_536 / count).expect("it is a slot"));
                    let key = Key::new(format!("key-{count}-{number:06}")).expect("a key");
                    let record = text(&key, version, &"v".repeat(20 + number % 60));
                    (key, (slot, record))
                };
                let records: BTreeMap<_, _> = (0..count).map(record).collect();
                if version == 1 {
                    let bytes = |(key, (_, record)): (&Key, &(Slot, crate::types::Record))| {
                        key.as_bytes().len() + record.content.value_bytes()
                    };
                    expected += records.iter().map(bytes).sum::<usize>() as u64;
                }
                store.persist(&Batch { records, ..Batch::default() }).expect("persisted");
            }
            // A restart forgets nothing of either.
            for is_reopened in [false, true] {
                let found = store.statistics();
                let is_near = |found: u64, expected: u64| found.abs_diff(expected) * 100 <= expected * percent;
                assert!(is_near(found.data_bytes, expected), "{is_reopened}: {found:?} for {expected}");
                assert!(is_near(found.keys_estimate, keys), "{is_reopened}: {found:?} for {keys}");
                store.reopen().expect("reopened");
            }
        }
    });
}

#[test]
fn configuration_vote_and_takeover_are_kept_until_others_take_their_place() {
    every_store(|store| {
        let up_to = Some((Slot(700), key("last")));
        let begun = TakenOver { number: 1, up_to, is_complete: false };
        let complete = TakenOver { number: 1, up_to: None, is_complete: true };
        let promised = Vote { number: 2, promised: ballot(1), accepted: None };
        let accepted = Vote { number: 2, promised: ballot(3), accepted: Some((ballot(2), configuration(2))) };
        let parts = [
            Batch { configuration: Some(configuration(1)), ..Batch::default() },
            Batch { vote: Some(promised.clone()), ..Batch::default() },
            Batch { taken_over: Some(begun.clone()), ..Batch::default() },
            Batch { bootstrapped: true, ..Batch::default() },
        ];
        for part in parts {
            assert!(!part.is_empty());
            store.persist(&part).expect("persisted");
        }
        for is_reopened in [false, true] {
            let meta = store.meta().expect("metadata");
            assert_eq!(meta.configuration, Some(configuration(1)), "{is_reopened}");
            assert_eq!(
                (&meta.vote, &meta.taken_over),
                (&Some(promised.clone()), &Some(begun.clone())),
                "{is_reopened}"
            );
            store.reopen().expect("reopened");
        }
        let (configuration, vote, taken_over) = (Some(configuration(2)), Some(accepted), Some(complete));
        let whole = Batch { configuration, vote, taken_over, ..Batch::default() };
        store.persist(&whole).expect("persisted");
        let meta = store.meta().expect("metadata");
        assert_eq!(
            (meta.configuration, meta.vote, meta.taken_over),
            (whole.configuration, whole.vote, whole.taken_over)
        );
    });
}

#[test]
fn store_has_the_later_format_from_its_first_configuration_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("store");
    let format = || {
        let options = rocksdb::Options::default();
        let families = rocksdb::DB::list_cf(&options, &path).expect("its families");
        let database = rocksdb::DB::open_cf_for_read_only(&options, &path, families, false).expect("it is a RocksDB");
        let meta = database.cf_handle("meta").expect("it has metadata");
        let value = database.get_cf(meta, "format").expect("it can be read").expect("it has a format");
        u32::from_be_bytes(value[1..5].try_into().expect("four bytes"))
    };
    let store = RocksStore::create(&path, &RocksOptions::default(), STORE_ID).expect("a fresh store");
    store.persist(&Batch { epoch: Some(1), ..Batch::default() }).expect("persisted");
    drop(store);
    assert_eq!(format(), codec::FORMAT);
    let store = RocksStore::open(&path, &RocksOptions::default()).expect("it opens");
    store.persist(&Batch { configuration: Some(configuration(1)), ..Batch::default() }).expect("persisted");
    store.reopen().expect("reopened");
    drop(store);
    assert_eq!(format(), codec::FORMAT_WITH_CONFIGURATION);
    let store = RocksStore::open(&path, &RocksOptions::default()).expect("it opens");
    assert_eq!(store.meta().expect("metadata").configuration, Some(configuration(1)));
}
