//! The time that the store on RocksDB takes: batches made durable, and reads from memory.
//!
//! Caveat: the folder is a temporary one (TMPDIR). On a file system in memory fsync costs nothing.

#[path = "../tests/testkit/mod.rs"]
mod testkit;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use quorate::protocol::placement::Placement;
use quorate::storage::rocks::{RocksOptions, RocksStore};
use quorate::storage::{ReadOutcome, ReadTier, Store as _};
use quorate::types::{Batch, Durability, Key, Lookup, ReadKind, Record, Slot, StoreId};
use tempfile::TempDir;
use testkit::data::{key, parameters, record};

/// How many records one batch holds.
const RECORDS: [u64; 3] = [1, 16, 64];
/// The sizes of values: below and above the least size of a blob.
const BYTES: [usize; 2] = [1 << 10, 10 << 10];
/// How many keys are written and read in turn. With values of 1 KiB they take a fraction of the block cache.
const KEYS: u64 = 10_000;
/// A batch of the largest kind is 640 KiB: a longer measurement would only fill the disk.
const MEASUREMENT: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(500);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let placement = Placement::new(parameters(3, 3, 0));
    let entries = |numbers: std::ops::Range<u64>| -> Vec<(Key, Slot)> {
        let keys = numbers.map(key);
        keys.map(|key| (key.clone(), placement.slot(&key))).collect()
    };
    let (written, never_seen) = (entries(0..KEYS), entries(KEYS..2 * KEYS));
    persists(&mut criterion, &written);
    reads(&mut criterion, &written, &never_seen);
    criterion.final_summary();
}

/// An empty store, and its folder, which is removed on drop.
fn store(durability: Durability) -> (RocksStore, TempDir) {
    let folder = TempDir::with_prefix("quorate-bench-").expect("a temporary folder can be made");
    let options = RocksOptions { durability, ..RocksOptions::default() };
    let store = RocksStore::create(&folder.path().join("store"), &options, StoreId(1)).expect("the disk has room");
    (store, folder)
}

fn batch(entries: &[(Key, Slot)], records: &[Record]) -> Batch {
    let records = std::iter::zip(entries, records).map(|((key, slot), record)| (key.clone(), (*slot, record.clone())));
    Batch { records: records.collect(), ..Batch::default() }
}

fn persists(criterion: &mut Criterion, entries: &[(Key, Slot)]) {
    for durability in [Durability::Fsync, Durability::Os] {
        let mut group = criterion.benchmark_group(format!("storage/persist with {durability}"));
        group.measurement_time(MEASUREMENT).warm_up_time(WARM_UP);
        for bytes in BYTES {
            let values: Vec<Record> = (0..KEYS).map(|number| record(number, bytes, number)).collect();
            for count in RECORDS {
                let (store, _folder) = store(durability);
                let count_of_batch = usize::try_from(count).expect("64 bits");
                let batches: Vec<Batch> = std::iter::zip(entries.chunks(count_of_batch), values.chunks(count_of_batch))
                    .map(|(entries, records)| batch(entries, records))
                    .collect();
                let mut next = batches.iter().cycle();
                group.throughput(Throughput::Elements(count));
                group.bench_function(BenchmarkId::new(format!("{count} records"), format!("{bytes} B")), |bencher| {
                    bencher
                        .iter(|| store.persist(next.next().expect("a cycle has no end")).expect("the disk has room"));
                });
            }
        }
        group.finish();
    }
}

fn reads(criterion: &mut Criterion, written: &[(Key, Slot)], never_seen: &[(Key, Slot)]) {
    let (store, _folder) = store(Durability::Os);
    let values: Vec<Record> = (0..KEYS).map(|number| record(number, BYTES[0], number)).collect();
    store.persist(&batch(written, &values)).expect("the disk has room");

    let mut group = criterion.benchmark_group("storage/read");
    group.measurement_time(MEASUREMENT).warm_up_time(WARM_UP);
    for tier in ["write buffer", "block cache"] {
        if tier == "block cache" {
            store.flush().expect("the disk has room");
            for (key, slot) in written.iter().chain(never_seen) {
                for read_kind in [ReadKind::Digest, ReadKind::Data] {
                    store.read(*slot, key, read_kind, ReadTier::Disk).expect("it was just written");
                }
            }
        }
        for (what, entries, read_kind) in [
            ("digest", written, ReadKind::Digest),
            ("record", written, ReadKind::Data),
            ("key never seen", never_seen, ReadKind::Digest),
        ] {
            let mut next = entries.iter().cycle();
            group.bench_function(BenchmarkId::new(what, tier), |bencher| {
                bencher.iter(|| {
                    let (key, slot) = next.next().expect("a cycle has no end");
                    let outcome = store.read(*slot, key, read_kind, ReadTier::Memory).expect("it was just written");
                    let ReadOutcome::Done(found) = outcome else { panic!("{key} is not in memory") };
                    assert_eq!(found.lookup == Lookup::Absent, what == "key never seen", "{key}");
                    found
                });
            });
        }
    }
    group.finish();
}
