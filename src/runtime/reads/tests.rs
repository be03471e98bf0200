use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::protocol::OperationId;
use crate::storage::{Cursor, KeysPage, PageBounds, StoreStatistics};
use crate::types::{
    Age, Batch, Checksum, Clock, KeyRange, Meta, NodeId, Removed, ScannedKeys, SlotRange, SlotsPage, Stamp, TableId,
};

const MIB: usize = 1 << 20;
const BUDGET: usize = 8 * MIB;

/// A store of one value for each key, whose size is the number in the key. It counts the bytes that its values hold.
#[derive(Default)]
struct CountingStore {
    held: Arc<AtomicUsize>,
    peak: AtomicUsize,
    loads: AtomicUsize,
}

/// A value in memory.
struct Tracked {
    value: Vec<u8>,
    held: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.held.fetch_sub(self.value.len(), Ordering::SeqCst);
    }
}

impl Store for CountingStore {
    fn read_up_to(
        &self,
        _: Slot,
        key: &Key,
        _: ReadKind,
        tier: ReadTier,
        value_bytes_max: usize,
    ) -> Result<ReadOutcome, StoreError> {
        let text = std::str::from_utf8(key.as_bytes()).unwrap();
        let value_bytes: usize = text.rsplit('-').next().unwrap().parse().unwrap();
        if tier == ReadTier::Memory {
            return Ok(ReadOutcome::WouldBlock);
        }
        if value_bytes > value_bytes_max {
            return Ok(ReadOutcome::TooLarge { value_bytes });
        }
        self.loads.fetch_add(1, Ordering::SeqCst);
        let held = self.held.fetch_add(value_bytes, Ordering::SeqCst) + value_bytes;
        self.peak.fetch_max(held, Ordering::SeqCst);
        let value = Bytes::from_owner(Tracked { value: vec![7; value_bytes], held: Arc::clone(&self.held) });
        Ok(ReadOutcome::Done(Lookup::Record(record(key, value)).into()))
    }

    fn meta(&self) -> Result<Meta, StoreError> {
        unreachable!("reads alone are tested")
    }

    fn persist(&self, _: &Batch) -> Result<(), StoreError> {
        unreachable!("reads alone are tested")
    }

    fn reopen(&self) -> Result<(), StoreError> {
        unreachable!("reads alone are tested")
    }

    fn keys(&self, _: Option<&Cursor>, _: &str, _: PageBounds) -> Result<KeysPage, StoreError> {
        unreachable!("reads alone are tested")
    }

    fn measure(&self, _: TableId, _: &dyn Fn(&Key) -> Option<Slot>) -> Result<u64, StoreError> {
        unreachable!("reads alone are tested")
    }

    fn slots(&self, _: &SlotRange, _: usize) -> Result<SlotsPage, StoreError> {
        unreachable!("reads alone are tested")
    }

    fn clean(&self, _: TableId, _: usize, _: &dyn Fn(&Key) -> Slot) -> Result<Removed, StoreError> {
        unreachable!("reads alone are tested")
    }

    fn list(&self, _: &KeyRange, _: &dyn Fn(&Key) -> Slot, _: PageBounds) -> Result<ScannedKeys, StoreError> {
        unreachable!("reads alone are tested")
    }

    fn expiries(&self, _: RunningTime, _: Option<&Expiry>, _: usize) -> Result<Vec<Expiry>, StoreError> {
        unreachable!("reads alone are tested")
    }

    fn statistics(&self) -> StoreStatistics {
        unreachable!("reads alone are tested")
    }

    fn flush(&self) -> Result<(), StoreError> {
        unreachable!("reads alone are tested")
    }
}

fn record(key: &Key, value: Bytes) -> Record {
    let content = Content::Value(Value::Binary(value));
    let stamp = Stamp { clock: Clock { epoch: 1, counter: 1 }, writer: NodeId::new("1").unwrap() };
    let checksum = Checksum::of(key, &content);
    Record::plain(stamp, content, checksum)
}

struct Setting {
    store: Arc<CountingStore>,
    reads: Reads,
    events: mpsc::Receiver<Event>,
}

impl Setting {
    fn waiting_up_to(wait_max: Duration) -> Self {
        let store = Arc::new(CountingStore::default());
        let (sender, events) = mpsc::channel(4_096);
        let shared: Arc<dyn Store> = Arc::<CountingStore>::clone(&store);
        let reads = Reads::waiting_up_to(wait_max, shared, Arc::default(), sender, BUDGET);
        Self { store, reads, events }
    }

    fn ask(&self, read: u64, name: &str, value_bytes: usize) {
        let key = Key::new(format!("{name}-{value_bytes}")).unwrap();
        self.reads.read_disk(vec![StoreRead { read: ReadId(read), slot: Slot(0), key, kind: ReadKind::Data }]);
    }

    async fn answers(&mut self) -> Vec<(ReadId, Option<Lookup>)> {
        match self.events.recv().await {
            Some(Event::ReadsDone(answers)) => {
                answers.into_iter().map(|(read, found)| (read, found.map(|found| found.lookup))).collect()
            }
            _ => unreachable!("reads tell of nothing else"),
        }
    }

    fn loads(&self) -> usize {
        self.store.loads.load(Ordering::SeqCst)
    }
}

const FOR_EVER: Duration = Duration::from_hours(1);

#[tokio::test]
async fn large_values_that_1024_reads_load_stay_within_the_budget() {
    let mut setting = Setting::waiting_up_to(FOR_EVER);
    for read in 0..1_024 {
        setting.ask(read, &format!("key{read}"), MIB);
    }
    for _ in 0..1_024 {
        let answers = setting.answers().await;
        assert!(matches!(&answers[..], [(_, Some(Lookup::Record(_)))]), "all are answered, one after the other");
    }
    let peak = setting.store.peak.load(Ordering::SeqCst);
    assert!(peak <= BUDGET, "{peak} bytes were in memory");
    assert_eq!((setting.loads(), setting.store.held.load(Ordering::SeqCst)), (1_024, 0));
}

#[tokio::test]
async fn small_read_passes_large_ones_that_wait() {
    let mut setting = Setting::waiting_up_to(FOR_EVER);
    setting.ask(0, "all", BUDGET);
    let all_of_it = setting.answers().await;
    setting.ask(1, "large", MIB);
    setting.ask(2, "small", UNCOUNTED_VALUE_BYTES_MAX);
    assert_eq!(setting.answers().await[0].0, ReadId(2));
    assert_eq!(setting.loads(), 2, "the large one has loaded nothing");
    drop(all_of_it);
    assert_eq!(setting.answers().await[0].0, ReadId(1));
}

#[tokio::test]
async fn value_above_the_budget_is_loaded_alone() {
    let mut setting = Setting::waiting_up_to(FOR_EVER);
    setting.ask(0, "one", 2 * BUDGET);
    let one = setting.answers().await;
    setting.ask(1, "other", 2 * BUDGET);
    setting.ask(2, "small", 1);
    assert_eq!(setting.answers().await[0].0, ReadId(2));
    drop(one);
    assert_eq!(setting.answers().await[0].0, ReadId(1));
}

#[tokio::test]
async fn reads_of_one_key_that_wait_share_a_load() {
    let mut setting = Setting::waiting_up_to(FOR_EVER);
    setting.ask(0, "all", BUDGET);
    let all_of_it = setting.answers().await;
    for read in 1..=32 {
        setting.ask(read, "large", MIB);
    }
    let wait_all = || setting.reads.disk.waiting().values().map(|waiting| waiting.reads.len()).sum::<usize>() == 32;
    while !wait_all() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(all_of_it);
    let answers = setting.answers().await;
    assert_eq!((answers.len(), setting.loads()), (32, 2));
    let value = |answer: &(ReadId, Option<Lookup>)| matches!(&answer.1, Some(Lookup::Record(_)));
    assert!(answers.iter().all(value));
    setting.ask(33, "all", BUDGET);
    setting.ask(34, "small", 1);
    assert_eq!(setting.answers().await[0].0, ReadId(34), "the value holds its bytes while any clone of it is left");
    drop(answers);
    assert_eq!(setting.answers().await[0].0, ReadId(33));
}

#[tokio::test]
async fn read_that_nobody_asks_for_any_more_loads_nothing() {
    let mut setting = Setting::waiting_up_to(Duration::from_millis(20));
    setting.ask(0, "all", BUDGET);
    let all_of_it = setting.answers().await;
    setting.ask(1, "large", MIB);
    assert!(matches!(&setting.answers().await[..], [(ReadId(1), None)]));
    assert_eq!(setting.loads(), 1);
    drop(all_of_it);
    setting.ask(2, "large", MIB);
    assert!(matches!(&setting.answers().await[..], [(ReadId(2), Some(_))]));
}

#[tokio::test]
async fn answers_of_peers_beyond_the_budget_become_refusals() {
    let mut setting = Setting::waiting_up_to(FOR_EVER);
    let answer = |value_bytes: usize| {
        let key = Key::new("k").unwrap();
        let held = Lookup::Record(record(&key, vec![7; value_bytes].into()));
        Message::Answer {
            operation: OperationId(1),
            round: 1,
            number: 0,
            answer: Answer::Lookup { key, held, age: Age::NONE, seal: None },
        }
    };
    let mut received = |value_bytes| {
        let mut message = answer(value_bytes);
        setting.reads.count_received(&mut message);
        message
    };
    let mut fit: Vec<Message> = (0..8).map(|_| received(MIB)).collect();
    assert!(fit.iter().all(|message| *message == answer(MIB)), "a value that counts is the same value");
    let refused = Answer::Refused(Refusal::NoRoom);
    assert_eq!(received(MIB), Message::Answer { operation: OperationId(1), round: 1, number: 0, answer: refused });
    assert_eq!(received(UNCOUNTED_VALUE_BYTES_MAX), answer(UNCOUNTED_VALUE_BYTES_MAX), "small values always fit");
    fit.pop();
    assert_eq!(received(MIB), answer(MIB));
}
