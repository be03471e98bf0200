use std::fs;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use rocksdb::Options;

use super::super::tests::{STORE_ID, batch_of, key, read, record, text};
use super::options::BLOBS;
use super::probe::takes_direct_writes;
use super::*;
use crate::storage::watched::Watched;
use crate::types::{Content, Found, Lookup, Record, Value};

struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("store");
        Self { _folder: folder, path }
    }

    fn create(&self) -> RocksStore {
        RocksStore::create(&self.path, &RocksOptions::default(), STORE_ID).expect("a fresh store")
    }

    fn open(&self) -> Result<RocksStore, StoreError> {
        RocksStore::open(&self.path, &RocksOptions::default())
    }

    /// A copy of the folder as a crash would leave it.
    fn crashed(&self) -> Self {
        let copy = Self::new();
        fs::create_dir(&copy.path).expect("a folder");
        for file in fs::read_dir(&self.path).expect("the store's folder") {
            let file = file.expect("a file");
            fs::copy(file.path(), copy.path.join(file.file_name())).expect("a copy");
        }
        copy
    }

    /// The log file that holds data.
    fn log(&self) -> PathBuf {
        let files = fs::read_dir(&self.path).expect("the store's folder").map(|file| file.expect("a file").path());
        files
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .max_by_key(|path| fs::metadata(path).expect("a file").len())
            .expect("a log")
    }
}

fn large_record(key: &Key, counter: u64, bytes: usize) -> Record {
    let bytes: Vec<u8> = (0..bytes).map(|index| u8::try_from(index * 31 % 251).expect("a byte")).collect();
    record(key, counter, Content::Value(Value::Binary(bytes.into())))
}

#[test]
fn everything_is_kept_over_a_crash_and_over_closing() {
    let (a, large) = (key("a"), key("large"));
    let records = [(a.clone(), text(&a, 1, "one")), (large.clone(), large_record(&large, 2, 50_000))];
    for is_flushed in [false, true] {
        let first = Fixture::new();
        let store = first.create();
        store.persist(&Batch { epoch: Some(3), ..batch_of(9, records.clone()) }).expect("persisted");
        if is_flushed {
            store.flush().expect("flushed");
        }
        let crashed = first.crashed();
        drop(store);
        for fixture in [first, crashed] {
            let store = fixture.open().expect("opened again");
            assert_eq!(store.store_id(), STORE_ID);
            assert_eq!(store.meta().expect("metadata").epoch, 3);
            for (key, record) in &records {
                assert_eq!(read(&store, 9, key, ReadKind::Data), Lookup::Record(record.clone()));
                assert_eq!(read(&store, 9, key, ReadKind::Digest), Lookup::Digest(record.digest()));
            }
        }
    }
}

#[test]
fn second_open_is_refused_as_in_use() {
    let fixture = Fixture::new();
    let _store = fixture.create();
    let second = fixture.open().err();
    assert!(matches!(second, Some(StoreError::InUse { .. })), "{second:?}");
}

#[test]
fn folder_without_store_is_not_opened_as_an_empty_one() {
    let fixture = Fixture::new();
    let refused = fixture.open().err();
    assert!(matches!(refused, Some(StoreError::Damaged { .. })), "{refused:?}");
}

#[test]
fn store_is_not_created_over_another() {
    let fixture = Fixture::new();
    drop(fixture.create());
    assert!(RocksStore::create(&fixture.path, &RocksOptions::default(), StoreId(1)).is_err());
    assert_eq!(fixture.open().expect("the first store").store_id(), STORE_ID);
}

#[test]
fn read_from_memory_would_block_until_the_blocks_are_cached() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let (small, large) = (key("small"), key("large"));
    let records = [(small.clone(), text(&small, 1, "one")), (large.clone(), large_record(&large, 2, 50_000))];
    store.persist(&batch_of(9, records.clone())).expect("persisted");
    let ask = |store: &RocksStore, key: &Key, read_kind| {
        store.read(Slot(9), key, read_kind, ReadTier::Memory).expect("an answer")
    };
    for (key, _) in &records {
        assert!(
            matches!(ask(&store, key, ReadKind::Data), ReadOutcome::Done(Found { lookup: Lookup::Record(_), .. })),
            "it is in the write buffer"
        );
    }
    store.flush().expect("flushed");
    drop(store);
    let store = fixture.open().expect("opened again");
    for (key, record) in &records {
        for read_kind in [ReadKind::Digest, ReadKind::Data] {
            let first = ask(&store, key, read_kind);
            // Reading one key's digest caches the whole block: the other digests, but not the large value.
            let is_cached =
                (key, read_kind) != (&records[0].0, ReadKind::Digest) && (key, read_kind) != (&large, ReadKind::Data);
            assert!(is_cached || matches!(first, ReadOutcome::WouldBlock), "{first:?}");
            let from_disk = read(&store, 9, key, read_kind);
            assert_eq!(from_disk.digest(), Some(record.digest()));
            assert!(matches!(ask(&store, key, read_kind), ReadOutcome::Done(again) if again.lookup == from_disk));
        }
    }
}

#[test]
fn reopening_keeps_everything_and_may_be_repeated() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let a = key("a");
    for counter in 1..4 {
        store.persist(&batch_of(1, [(a.clone(), text(&a, counter, "v"))])).expect("persisted");
        store.reopen().expect("reopened");
        assert_eq!(read(&store, 1, &a, ReadKind::Data), Lookup::Record(text(&a, counter, "v")));
    }
    assert!(store.statistics().log_syncs >= 6, "statistics continue over a reopening");
}

#[test]
fn reopening_without_space_leaves_the_store_readable() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let a = key("a");
    let batch = batch_of(1, [(a.clone(), text(&a, 1, "v"))]);
    store.persist(&batch).expect("persisted");
    let aside = fixture.path.with_extension("aside");
    fs::rename(&fixture.path, &aside).expect("moved away");
    assert!(store.reopen().is_err());
    assert_eq!(store.persist(&batch), Err(StoreError::Suspended));
    let measured = || store.measure(a.table(), &|_| Some(Slot(1)));
    assert_eq!(measured(), Err(StoreError::Suspended), "a long read would keep the next reopening waiting");
    assert_eq!(read(&store, 1, &a, ReadKind::Data), Lookup::Record(text(&a, 1, "v")));
    fs::rename(&aside, &fixture.path).expect("moved back");
    store.reopen().expect("reopened");
    store.persist(&batch).expect("persisted");
    assert_eq!(measured(), Ok(2));
}

#[test]
fn store_of_an_earlier_format_is_named_as_such() {
    let fixture = Fixture::new();
    drop(fixture.create());
    let names = DB::list_cf(&Options::default(), &fixture.path).expect("its families");
    let mut database = DB::open_cf(&Options::default(), &fixture.path, &names).expect("it is a RocksDB");
    // A column family of format 1.
    database.create_cf("stamps", &Options::default()).expect("created");
    drop(database);
    let Err(StoreError::Damaged { message }) = fixture.open() else { panic!("it was opened") };
    assert!(message.contains("another format than 6") && message.contains("the Quorate that wrote it"), "{message}");
}

#[test]
fn missing_folder_is_probed_through_its_parent() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let expected = takes_direct_writes(folder.path());
    assert_eq!(takes_direct_writes(&folder.path().join("not/there/yet")), expected);
    assert_eq!(fs::read_dir(folder.path()).expect("the folder exists").count(), 0, "the probe leaves nothing behind");
}

/// File systems in memory need not take direct writes.
#[cfg(target_os = "linux")]
#[test]
fn buffers_are_flushed_on_a_file_system_in_memory() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        println!("SKIPPED: there is no file system in memory at /dev/shm");
        return;
    };
    let path = folder.path().join("store");
    let a = key("a");
    let records = [text(&a, 1, "one"), large_record(&a, 2, 50_000)];
    let store = RocksStore::create(&path, &RocksOptions::default(), STORE_ID).expect("a fresh store");
    for record in &records {
        store.persist(&batch_of(1, [(a.clone(), record.clone())])).expect("persisted");
        store.flush().expect("flushed");
    }
    drop(store);
    let store = RocksStore::open(&path, &RocksOptions::default()).expect("opened again");
    assert_eq!(read(&store, 1, &a, ReadKind::Data), Lookup::Record(records[1].clone()));
}

/// The entry of `key` in slot 1 in the `blobs` family.
fn blob(store: &RocksStore, key: &Key) -> Option<Vec<u8>> {
    let guard = store.database();
    let database = guard.as_ref().expect("it is open");
    database.get_cf(family(database, BLOBS), codec::entry_key(Slot(1), key.as_bytes())).expect("it can be read")
}

#[test]
fn large_value_leaves_nothing_behind_when_it_is_replaced() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let a = key("a");
    let is_flushed = [false, true];
    for (counter, flush) in (1..).step_by(3).zip(is_flushed) {
        let small = [text(&a, counter + 1, "small"), record(&a, counter + 1, Content::Tombstone)];
        for small in small {
            let large = large_record(&a, counter, codec::LARGE_VALUE_BYTES_MIN);
            store.persist(&batch_of(1, [(a.clone(), large.clone())])).expect("persisted");
            if flush {
                store.flush().expect("flushed");
            }
            assert!(blob(&store, &a).is_some());
            assert_eq!(read(&store, 1, &a, ReadKind::Data), Lookup::Record(large));
            store.persist(&batch_of(1, [(a.clone(), small.clone())])).expect("persisted");
            assert_eq!(read(&store, 1, &a, ReadKind::Data), Lookup::Record(small.clone()));
            assert_eq!(blob(&store, &a), None);
            let reopened = fixture.crashed().open().expect("opened");
            assert_eq!(read(&reopened, 1, &a, ReadKind::Data), Lookup::Record(small));
            assert_eq!(blob(&reopened, &a), None);
        }
    }
}

/// A store that is opened knows that it has large values, whether they are in tables or in the log alone.
#[test]
fn large_value_is_removed_by_a_store_that_was_opened_since() {
    for flush in [false, true] {
        let fixture = Fixture::new();
        let a = key("a");
        let store = fixture.create();
        let large = large_record(&a, 1, codec::LARGE_VALUE_BYTES_MIN);
        store.persist(&batch_of(1, [(a.clone(), large)])).expect("persisted");
        if flush {
            store.flush().expect("flushed");
        }
        let crashed = fixture.crashed();
        let opened = crashed.open().expect("opened");
        assert!(blob(&opened, &a).is_some());
        opened.persist(&batch_of(1, [(a.clone(), text(&a, 2, "small"))])).expect("persisted");
        assert_eq!(blob(&opened, &a), None);
    }
}

#[test]
fn damaged_entry_is_left_out_of_its_slot_alone() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let names = ["a", "b", "c"].map(key);
    store.persist(&batch_of(1, names.iter().map(|name| (name.clone(), text(name, 1, "value"))))).expect("persisted");
    {
        let guard = store.database();
        let database = guard.as_ref().expect("it is open");
        let entry_key = codec::entry_key(Slot(1), names[1].as_bytes());
        database.put_cf(family(database, RECORDS), entry_key, b"no record").expect("written");
    }
    let range = SlotRange { first: Slot(0), after: None, last: Slot(u16::MAX) };
    let page = store.slots(&range, 2).expect("the others can be read");
    let found: Vec<_> = page.records.iter().map(|record| record.key.clone()).collect();
    assert_eq!((found, page.damaged, page.has_more), (vec![key("a"), key("c")], 1, false));
    assert_eq!(page.intact, 1, "the damage comes after the first one");
    let after = |name: &str| SlotRange { first: Slot(1), after: Some(key(name)), last: Slot(u16::MAX) };
    let page = store.slots(&after("a"), 2).expect("the others can be read");
    assert_eq!((page.records.len(), page.damaged, page.intact), (1, 1, 0));
    let page = store.slots(&after("b"), 2).expect("they can be read");
    assert_eq!((page.records.len(), page.damaged, page.intact), (1, 0, 1), "it does not meet what is before it");
}

#[test]
fn missing_blob_is_an_error_and_not_an_absent_record() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let a = key("a");
    let (earlier, large) = (large_record(&a, 1, 5_000), large_record(&a, 2, 5_000));
    store.persist(&batch_of(1, [(a.clone(), large.clone())])).expect("persisted");
    let entry_key = codec::entry_key(Slot(1), a.as_bytes());
    let mut bytes = Vec::new();
    codec::encode_record(&earlier, None, &mut bytes);
    let put_blob = |bytes: Option<&[u8]>| {
        let guard = store.database();
        let database = guard.as_ref().expect("it is open");
        match bytes {
            Some(bytes) => database.put_cf(family(database, BLOBS), &entry_key, bytes),
            None => database.delete_cf(family(database, BLOBS), &entry_key),
        }
        .expect("written");
    };
    for left in [Some(&bytes[..]), None] {
        put_blob(left);
        store.cache.clear();
        let found = store.read(Slot(1), &a, ReadKind::Data, ReadTier::Disk);
        let Err(StoreError::Damaged { message }) = found else { panic!("{found:?}") };
        assert!(
            message.contains("\"a\" of slot 1 in blobs: its value, which is stored separately, is missing"),
            "{message}"
        );
    }
    assert_eq!(read(&store, 1, &a, ReadKind::Digest), Lookup::Digest(large.digest()), "the digest is still there");
}

/// A read looks into two families one after the other, while a write changes both at once.
#[test]
fn reads_beside_writes_never_go_back() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let a = key("a");
    let sizes = [10, codec::LARGE_VALUE_BYTES_MIN, 10, 10, 6_000, 6_000];
    store.persist(&batch_of(1, [(a.clone(), large_record(&a, 1, 6_000))])).expect("persisted");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for (counter, bytes) in (2..600).zip(sizes.into_iter().cycle()) {
                let record = large_record(&a, counter, bytes);
                store.persist(&batch_of(1, [(a.clone(), record)])).expect("persisted");
            }
        });
        let mut last = 0;
        for read_kind in [ReadKind::Data, ReadKind::Digest].into_iter().cycle() {
            let ended = writer.is_finished();
            let digest = read(&store, 1, &a, read_kind).digest().expect("the record exists from the start");
            let counter = digest.stamp.clock.counter;
            assert!(counter >= last, "{counter} after {last}");
            last = counter;
            if ended {
                break;
            }
        }
    });
}

/// A failed batch may or may not be on disk, so the cache may differ from the disk.
#[test]
fn reopening_shows_the_disk_and_not_the_cache() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let a = key("a");
    let on_disk = text(&a, 1, "v");
    store.persist(&batch_of(1, [(a.clone(), on_disk.clone())])).expect("persisted");
    let entry_key = codec::entry_key(Slot(1), a.as_bytes());
    store.cache.end_write(true, [(entry_key, &text(&a, 2, "w"), None)].into_iter(), std::iter::empty());
    store.reopen().expect("reopened");
    for read_kind in [ReadKind::Digest, ReadKind::Data] {
        let expected = if read_kind == ReadKind::Digest {
            Lookup::Digest(on_disk.digest())
        } else {
            Lookup::Record(on_disk.clone())
        };
        assert_eq!(read(&store, 1, &a, read_kind), expected);
    }
}

#[test]
fn failed_reopening_leaves_the_store_closed_until_one_succeeds() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let a = key("a");
    let batch = batch_of(1, [(a.clone(), text(&a, 1, "v"))]);
    store.persist(&batch).expect("persisted");
    let current = fixture.path.join("CURRENT");
    let before = fs::read(&current).expect("RocksDB names its manifest there");
    fs::write(&current, "damaged").expect("written");
    assert!(store.reopen().is_err());
    assert_eq!(store.persist(&batch), Err(StoreError::Suspended));
    for tier in [ReadTier::Memory, ReadTier::Disk] {
        assert_eq!(store.read(Slot(1), &a, ReadKind::Digest, tier).err(), Some(StoreError::Closed));
    }
    assert_eq!(store.meta(), Err(StoreError::Closed));
    fs::write(&current, before).expect("put back");
    store.reopen().expect("reopened");
    store.persist(&batch).expect("persisted");
    assert_eq!(read(&store, 1, &a, ReadKind::Data), Lookup::Record(text(&a, 1, "v")));
}

#[test]
fn statistics_count_the_written_data() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let large = key("large");
    store.persist(&batch_of(1, [(large.clone(), large_record(&large, 1, 1_000_000))])).expect("persisted");
    let before = store.statistics();
    assert!(before.write_buffer_bytes >= 1_000_000, "{before:?}");
    assert!(before.log_syncs >= 2 && before.log_sync_micros_p99 > 0.0, "{before:?}");
    store.flush().expect("flushed");
    let after = store.statistics();
    assert!(after.live_bytes > 0 && after.disk_bytes >= after.live_bytes, "{after:?}");
    assert_eq!((after.keys_estimate, after.write_stopped), (1, 0), "{after:?}");
}

/// Damage that a test does to a file's bytes.
type Damage = Box<dyn Fn(&mut [u8])>;

/// Ten records, each fsynced on its own.
fn ten_records(store: &RocksStore) -> Vec<(Key, Record)> {
    let records = (0..10).map(|index| {
        let key = key(&format!("key-{index}"));
        let record = large_record(&key, index, 1_000);
        store.persist(&batch_of(1, [(key.clone(), record.clone())])).expect("persisted");
        (key, record)
    });
    records.collect()
}

#[test]
fn damage_in_the_middle_of_the_log_is_refused() {
    let fixture = Fixture::new();
    let store = fixture.create();
    ten_records(&store);
    let whole = fs::read(fixture.log()).expect("the log");
    let mut headers = Vec::new();
    let mut at = 0;
    while at < whole.len() {
        headers.push(at);
        at += 7 + usize::from(u16::from_le_bytes([whole[at + 4], whole[at + 5]]));
    }
    let middle = headers[headers.len() - 5];
    let flip = |at: usize, bits: u8| Box::new(move |bytes: &mut [u8]| bytes[at] ^= bits);
    let damages: [Damage; 5] = [
        // The checksum; the length, which then exceeds the log as that of a torn record does; the type, as in a recycled
        // log; the payload; a page of zeros.
        flip(middle, 1),
        flip(middle + 5, 0x40),
        flip(middle + 6, 4),
        flip(middle + 100, 1),
        Box::new(move |bytes| bytes[middle..].iter_mut().take(4_096).for_each(|byte| *byte = 0)),
    ];
    for (index, damage) in damages.iter().enumerate() {
        let crashed = fixture.crashed();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(crashed.log(), bytes).expect("the log");
        let refused = crashed.open().err();
        assert!(matches!(refused, Some(StoreError::Damaged { .. })), "damage {index}: {refused:?}");
    }
}

#[test]
fn damage_in_the_middle_of_the_manifest_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.create());
    let files = fs::read_dir(&fixture.path).expect("the store's folder").map(|file| file.expect("a file").path());
    let manifest = files.filter(|path| path.to_string_lossy().contains("MANIFEST-")).max().expect("a manifest");
    let mut bytes = fs::read(&manifest).expect("the manifest");
    // The high byte of the first record's length.
    bytes[5] ^= 0x40;
    fs::write(&manifest, bytes).expect("the manifest");
    let refused = fixture.open().err();
    assert!(matches!(refused, Some(StoreError::Damaged { .. })), "{refused:?}");
}

#[test]
fn torn_end_of_the_log_is_cut_off() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let records = ten_records(&store);
    let crashed = fixture.crashed();
    let log = crashed.log();
    let bytes = fs::read(&log).expect("the log");
    fs::write(&log, &bytes[..bytes.len() - 500]).expect("the log");
    let store = crashed.open().expect("opened without the torn record");
    for (key, record) in &records[..9] {
        assert_eq!(read(&store, 1, key, ReadKind::Data), Lookup::Record(record.clone()));
    }
    // The stamp lies before the tear, but a batch is kept whole or not at all.
    for read_kind in [ReadKind::Digest, ReadKind::Data] {
        assert_eq!(read(&store, 1, &records[9].0, read_kind), Lookup::Absent);
    }
}

#[test]
fn damaged_value_is_detected_by_the_read() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let a = key("a");
    let mut wrong = text(&a, 1, "one");
    wrong.checksum.0 ^= 1;
    store.persist(&batch_of(1, [(a.clone(), wrong.clone())])).expect("persisted");
    assert_eq!(read(&store, 1, &a, ReadKind::Digest), Lookup::Digest(wrong.digest()));
    let answer = store.read(Slot(1), &a, ReadKind::Data, ReadTier::Disk);
    let Err(StoreError::Damaged { message }) = answer else { panic!("{answer:?}") };
    assert!(message.contains("key \"a\" of slot 1"), "{message}");
}

/// An environment variable that is set in the process whose files may not grow.
const CHILD: &str = "QUORATE_TEST_STORE_AT_FILE_LIMIT";

/// The limit holds for the whole process, so the test runs in a process of its own.
#[test]
fn store_at_a_file_limit_refuses_writes_until_reopened() {
    in_a_process_of_its_own("store_at_a_file_limit_refuses_writes_until_reopened", store_at_a_file_limit);
}

/// Runs `body` in a process that runs the test of this name alone.
fn in_a_process_of_its_own(name: &str, body: fn()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let name = format!("storage::rocks::tests::{name}");
    let child = Command::new(std::env::current_exe().expect("this test's program"))
        .args(["--exact", &name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("the child ran");
    let output = [child.stdout, child.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");
}

/// RocksDB's threads inherit the blocked signal. A write at the limit then gives an error instead of ending the process.
fn block_signal_of_the_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().expect("a signal can be blocked");
}

fn store_at_a_file_limit() {
    block_signal_of_the_limit();
    let fixture = Fixture::new();
    let store = fixture.create();
    let (a, b) = (key("a"), key("b"));
    let kept = batch_of(1, [(a.clone(), text(&a, 1, "one"))]);
    store.persist(&kept).expect("persisted");

    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("the limit");
    setrlimit(Resource::RLIMIT_FSIZE, 256 * 1024, hard).expect("a limit");
    let too_large = batch_of(1, [(b.clone(), large_record(&b, 2, 1_000_000))]);
    let failed = store.persist(&too_large);
    assert!(matches!(failed, Err(StoreError::NoSpace { .. })), "{failed:?}");
    assert_eq!(store.persist(&kept), Err(StoreError::Suspended));
    assert_eq!(read(&store, 1, &b, ReadKind::Data), Lookup::Absent);
    assert_eq!(read(&store, 1, &a, ReadKind::Data), Lookup::Record(text(&a, 1, "one")));

    // Without space the store is not closed for a reopening, so it still serves reads.
    assert!(matches!(store.reopen(), Err(StoreError::NoSpace { .. })));
    assert_eq!(read(&store, 1, &a, ReadKind::Data), Lookup::Record(text(&a, 1, "one")));

    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).expect("the limit is lifted");
    assert_eq!(store.persist(&kept), Err(StoreError::Suspended));
    store.reopen().expect("reopened");
    assert_eq!(read(&store, 1, &b, ReadKind::Digest), Lookup::Absent);
    store.persist(&too_large).expect("persisted");
    assert_eq!(read(&store, 1, &b, ReadKind::Data), Lookup::Record(large_record(&b, 2, 1_000_000)));
}

#[test]
fn emptied_slot_leaves_no_large_value_behind() {
    let fixture = Fixture::new();
    let store = fixture.create();
    for count in [1, 40] {
        let keys: Vec<Key> = (0..count).map(|number| key(&format!("{count}-{number}"))).collect();
        let records = keys.iter().map(|key| (key.clone(), large_record(key, 1, codec::LARGE_VALUE_BYTES_MIN)));
        store.persist(&batch_of(1, records)).expect("persisted");
        assert!(keys.iter().all(|key| blob(&store, key).is_some()));
        store.persist(&Batch { emptied: vec![(Slot(1), Slot(1))], ..Batch::default() }).expect("persisted");
        assert!(keys.iter().all(|key| blob(&store, key).is_none()), "of {count}");
    }
}
/// Reads all of it in pieces of a step. Returns the bytes that were read.
fn scrub(store: &impl Store) -> Result<u64, StoreError> {
    let (mut place, mut sum) = (ScrubPlace::default(), 0);
    loop {
        let piece = store.scrub(place, &mut |bytes| {
            sum += bytes;
            false
        });
        match piece? {
            Some(next) => place = next,
            None => return Ok(sum),
        }
    }
}

/// The largest file of this kind.
fn largest_file(fixture: &Fixture, extension: &str) -> PathBuf {
    let files = fs::read_dir(&fixture.path).expect("the store's folder").map(|file| file.expect("a file").path());
    let of_kind = files.filter(|path| path.extension().is_some_and(|found| found == extension));
    of_kind.max_by_key(|path| fs::metadata(path).expect("a file").len()).expect("there is one")
}

#[test]
fn scrub_finds_a_byte_that_was_flipped_although_the_store_still_answers_from_memory() {
    let fixture = Fixture::new();
    let store = fixture.create();
    let before = store.scrubbed_at().expect("the disk says it");
    let small: Vec<(Key, Record)> =
        (0..100).map(|n| key(&format!("s{n}"))).map(|key| (key.clone(), text(&key, 1, "small"))).collect();
    let large: Vec<(Key, Record)> =
        (0..40).map(|n| key(&format!("l{n}"))).map(|key| (key.clone(), large_record(&key, 2, 100_000))).collect();
    store.persist(&batch_of(1, small.iter().chain(&large).cloned())).expect("persisted");
    let whole = scrub(&store).expect("it is whole");
    assert!(whole > 40 * 100_000, "large values are read too: {whole}");
    assert!(store.scrubbed_at().expect("the disk says it") >= before);
    assert_eq!(scrub(&store), Ok(whole), "in pieces each entry is read once");

    for (extension, key, record) in [("sst", &small[50].0, &small[50].1), ("blob", &large[7].0, &large[7].1)] {
        let path = largest_file(&fixture, extension);
        let bytes = fs::read(&path).expect("the file");
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 3] ^= 1;
        fs::write(&path, flipped).expect("written");
        let found = scrub(&store);
        let Err(StoreError::Damaged { message }) = found else { panic!("{extension}: {found:?}") };
        println!("{message}");
        assert_eq!(read(&store, 1, key, ReadKind::Data), Lookup::Record(record.clone()), "it is cached");
        fs::write(&path, bytes).expect("written");
        assert_eq!(scrub(&store), Ok(whole));
    }
    let missing = largest_file(&fixture, "blob");
    fs::remove_file(missing).expect("removed");
    assert!(matches!(scrub(&store), Err(StoreError::Damaged { .. })), "a file is missing");
}

#[test]
fn damage_is_looked_for_again_after_a_restart() {
    let fixture = Fixture::new();
    let store = Watched::new(fixture.create());
    let a = key("a");
    store.persist(&batch_of(1, [(a.clone(), large_record(&a, 1, 100_000))])).expect("persisted");
    scrub(&store).expect("it is whole");
    assert!(store.scrubbed_at() > Some(SystemTime::UNIX_EPOCH));
    let path = largest_file(&fixture, "blob");
    let bytes = fs::read(&path).expect("the file");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 3] ^= 1;
    fs::write(&path, flipped).expect("written");
    assert!(scrub(&store).is_err() && store.damage().is_some());
    fs::write(&path, bytes).expect("written");
    scrub(&store).expect("what is on the disk is whole");
    assert!(store.damage().is_some(), "it stays damaged until the process ends");
    drop(store);

    let store = Watched::new(fixture.open().expect("opened"));
    assert_eq!((store.damage(), store.scrubbed_at()), (None, Some(SystemTime::UNIX_EPOCH)));
    scrub(&store).expect("it is whole");
    assert!(store.scrubbed_at() > Some(SystemTime::UNIX_EPOCH));
}

#[test]
fn scrub_beside_writes_flushes_and_merges_finds_nothing() {
    let fixture = Fixture::new();
    let store = fixture.create();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..60 {
                let records = (0..50)
                    .map(|n| key(&format!("k{n}")))
                    .map(|key| (key.clone(), large_record(&key, round, 3_000 + 40 * n_of(&key))));
                store.persist(&batch_of(1, records)).expect("persisted");
                store.flush().expect("flushed");
            }
        });
        while !writer.is_finished() {
            scrub(&store).expect("nothing is damaged");
        }
    });
}

/// The number in the name of a key.
fn n_of(key: &Key) -> usize {
    key.as_str()[1..].parse().expect("a number")
}

/// A flush that has failed leaves a manifest that names a log, as each flush does while it runs.
#[test]
fn scrub_reads_a_store_whose_manifest_names_a_log() {
    in_a_process_of_its_own("scrub_reads_a_store_whose_manifest_names_a_log", || {
        block_signal_of_the_limit();
        let fixture = Fixture::new();
        let store = fixture.create();
        let a = key("a");
        // Bytes that cannot be compressed.
        let mut state = 1_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .take(1_000_000)
        .collect();
        let kept = record(&a, 1, Content::Value(Value::Binary(bytes.into())));
        store.persist(&batch_of(1, [(a.clone(), kept.clone())])).expect("persisted");

        let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("the limit");
        setrlimit(Resource::RLIMIT_FSIZE, 256 * 1024, hard).expect("a limit");
        assert!(store.flush().is_err(), "the file of large values is too large");
        let read_bytes = scrub(&store).expect("nothing is damaged");
        assert!(read_bytes > 1_000_000, "the value is in the log: {read_bytes}");

        setrlimit(Resource::RLIMIT_FSIZE, soft, hard).expect("the limit is lifted");
        store.reopen().expect("reopened");
        assert_eq!(read(&store, 1, &a, ReadKind::Data), Lookup::Record(kept));
        scrub(&store).expect("nothing is damaged");
    });
}
