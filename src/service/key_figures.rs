//! Which operations on one key were the slowest of the last hour, and, where the operator wants it, which keys requests name most often.
//!
//! Contract: bounded memory, whatever keys clients name, and no lock for an operation that is neither slow nor sampled. Unless keys
//! may be shown, a key is known by a number that tells it from others in this process, and tells nobody which key it is.
//!
//! Source: the counters of keys are those of "Space-Saving", Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and
//! top-k elements in data streams", 2005. A key that has more than its share of the samples has a counter for certain.
//!
//! Caveat: batches and lists are not among them, because they name many keys.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::types::{Key, Slot, Table};

/// How many slow operations are kept.
pub(crate) const SLOWEST: usize = 10;
/// How long they are kept.
const KEPT_FOR: Duration = Duration::from_hours(1);
/// One of so many operations is sampled.
const SAMPLE_ONE_OF: u32 = 16;
/// How many keys have a counter. A key with more than one of so many samples has one.
const COUNTERS: usize = 128;
/// How many of them are shown.
pub(crate) const HOTTEST: usize = 10;
/// How often the counters are halved, so that they tell of the last minutes.
const HALVE_EVERY: Duration = Duration::from_mins(1);
/// The longest part of a key that is shown, in characters.
const SHOWN_CHARACTERS: usize = 64;

/// An operation that was slow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slow {
    pub(crate) ended: Instant,
    pub(crate) took: Duration,
    /// As the table of methods names it.
    pub(crate) method: &'static str,
    /// Absent for a key of a table with a name.
    pub(crate) slot: Option<Slot>,
    /// The key and its table, or the number that stands for them.
    pub(crate) key: String,
    /// Whether it gave a result.
    pub(crate) is_done: bool,
}

/// A key that requests name often.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hot {
    pub(crate) key: String,
    /// Its part of the operations that were sampled lately, 0 to 1.
    pub(crate) share: f64,
}

/// What is known of operations on single keys.
#[derive(Debug, Default)]
pub(crate) struct KeyFigures {
    /// The time of the fastest operation that is kept, in microseconds, once there are enough.
    floor_micros: AtomicU64,
    slowest: Mutex<Vec<Slow>>,
    shows_keys: AtomicBool,
    counters: Mutex<Counters>,
    /// Its seed is of this process alone.
    numbers: RandomState,
}

/// The counters of keys.
#[derive(Debug, Default)]
struct Counters {
    list: Vec<Counter>,
    sampled: u64,
    halved: Option<Instant>,
}

#[derive(Debug)]
struct Counter {
    number: u64,
    key: String,
    count: u64,
}

impl KeyFigures {
    /// From now on keys are shown and counted, or neither.
    pub(crate) fn show_keys(&self, shows: bool) {
        self.shows_keys.store(shows, Ordering::Relaxed);
    }

    /// Whether keys are shown and counted.
    pub(crate) fn shows_keys(&self) -> bool {
        self.shows_keys.load(Ordering::Relaxed)
    }

    /// Takes note of an operation that has ended now. `slot_of` is asked only where it is slow.
    pub(crate) fn note(
        &self,
        method: &'static str,
        table: &Table,
        key: &Key,
        took: Duration,
        is_done: bool,
        slot_of: impl FnOnce() -> Slot,
    ) {
        let shows_keys = self.shows_keys();
        if shows_keys && rand::rng().random_range(0..SAMPLE_ONE_OF) == 0 {
            self.sample(table, key, Instant::now());
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if micros <= self.floor_micros.load(Ordering::Relaxed) {
            return;
        }
        let slot = (*table == Table::Default).then(slot_of);
        let key = if shows_keys { shown(table, key) } else { format!("#{:08x}", self.number(table, key) >> 32) };
        let mut slowest = lock(&self.slowest);
        slowest.push(Slow { ended: Instant::now(), took, method, slot, key, is_done });
        slowest.sort_by_key(|slow| std::cmp::Reverse(slow.took));
        slowest.truncate(SLOWEST);
        self.set_floor(&slowest);
    }

    /// The slowest operations of the last hour, the slowest first.
    pub(crate) fn slowest(&self, now: Instant) -> Vec<Slow> {
        self.forget_old(now);
        lock(&self.slowest).clone()
    }

    /// Forgets what ended more than an hour ago.
    pub(crate) fn forget_old(&self, now: Instant) {
        let mut slowest = lock(&self.slowest);
        slowest.retain(|slow| now.saturating_duration_since(slow.ended) < KEPT_FOR);
        self.set_floor(&slowest);
    }

    fn set_floor(&self, slowest: &[Slow]) {
        let floor = slowest.get(SLOWEST - 1).map_or(0, |slow| u64::try_from(slow.took.as_micros()).unwrap_or(u64::MAX));
        self.floor_micros.store(floor, Ordering::Relaxed);
    }

    /// The keys that operations of the last minutes name most often, the most frequent first.
    pub(crate) fn hottest(&self, now: Instant) -> Vec<Hot> {
        let mut counters = lock(&self.counters);
        counters.halve_in_time(now);
        let sampled = counters.sampled.max(1);
        let mut list: Vec<&Counter> = counters.list.iter().collect();
        list.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.key.cmp(&other.key)));
        #[allow(clippy::cast_precision_loss, reason = "a share is shown with few digits")]
        let hot = |counter: &&Counter| Hot { key: counter.key.clone(), share: counter.count as f64 / sampled as f64 };
        list.iter().take(HOTTEST).map(hot).collect()
    }

    fn sample(&self, table: &Table, key: &Key, now: Instant) {
        let number = self.number(table, key);
        let mut counters = lock(&self.counters);
        counters.halve_in_time(now);
        counters.sampled += 1;
        let list = &mut counters.list;
        if let Some(counter) = list.iter_mut().find(|counter| counter.number == number) {
            counter.count += 1;
        } else if list.len() < COUNTERS {
            list.push(Counter { number, key: shown(table, key), count: 1 });
        } else if let Some(least) = list.iter_mut().min_by_key(|counter| counter.count) {
            // The new key may have been counted there before it lost its counter: its count is at most this.
            *least = Counter { number, key: shown(table, key), count: least.count + 1 };
        }
    }

    /// A number for a key, which is another one in each process.
    fn number(&self, table: &Table, key: &Key) -> u64 {
        let table = match table {
            Table::Default => None,
            Table::Named(name) => Some(name.as_str()),
        };
        self.numbers.hash_one((table, key.user_bytes()))
    }
}

impl Counters {
    fn halve_in_time(&mut self, now: Instant) {
        let halved = *self.halved.get_or_insert(now);
        let times = now.saturating_duration_since(halved).as_secs() / HALVE_EVERY.as_secs();
        if times == 0 {
            return;
        }
        self.halved = Some(now);
        let shift = u32::try_from(times).unwrap_or(u32::MAX).min(u64::BITS - 1);
        for counter in &mut self.list {
            counter.count >>= shift;
        }
        self.list.retain(|counter| counter.count > 0);
        self.sampled >>= shift;
    }
}

/// A key for people, shortened, with its table unless that is the default one.
fn shown(table: &Table, key: &Key) -> String {
    let mut characters = key.as_str().chars();
    let mut text: String = characters.by_ref().take(SHOWN_CHARACTERS).collect();
    if characters.next().is_some() {
        text.push('…');
    }
    match table {
        Table::Default => text,
        Table::Named(name) => format!("{}: {text}", name.as_str()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text.to_owned()).unwrap()
    }

    fn note(figures: &KeyFigures, name: &str, millis: u64) {
        figures.note("Cluster/Set", &Table::Default, &key(name), Duration::from_millis(millis), true, || Slot(7));
    }

    #[test]
    fn slowest_are_kept_for_an_hour_and_no_more_than_so_many() {
        let figures = KeyFigures::default();
        for millis in 1..=100 {
            note(&figures, "k", millis);
        }
        figures.note("Cluster/Get", &Table::Default, &key("k"), Duration::from_millis(3), true, || {
            unreachable!("it is fast")
        });
        let now = Instant::now();
        let slowest = figures.slowest(now);
        let took: Vec<u128> = slowest.iter().map(|slow| slow.took.as_millis()).collect();
        assert_eq!(took, (91..=100).rev().collect::<Vec<u128>>());
        assert_eq!((slowest[0].method, slowest[0].slot, slowest[0].is_done), ("Cluster/Set", Some(Slot(7)), true));
        assert_eq!(figures.slowest(now + KEPT_FOR), []);
        note(&figures, "k", 1);
        assert_eq!(figures.slowest(now).len(), 1, "what is over leaves room for what is less slow");
    }

    #[test]
    fn key_is_told_apart_and_not_told_unless_keys_may_be_shown() {
        let figures = KeyFigures::default();
        for name in ["secret-1", "secret-1", "secret-2"] {
            note(&figures, name, 5);
        }
        let slowest = figures.slowest(Instant::now());
        let keys: Vec<&str> = slowest.iter().map(|slow| &*slow.key).collect();
        assert!(keys.iter().all(|key| key.starts_with('#') && key.len() == 9), "{keys:?}");
        assert_eq!((keys[0], keys[0] == keys[2]), (keys[1], false));
        assert_eq!(figures.hottest(Instant::now()), [], "nothing is counted");
        figures.show_keys(true);
        note(&figures, &"ä".repeat(200), 9);
        let shown = &figures.slowest(Instant::now())[0].key;
        assert_eq!(*shown, format!("{}…", "ä".repeat(SHOWN_CHARACTERS)));
    }

    #[test]
    fn frequent_key_is_found_among_many_and_is_forgotten_once_it_is_not() {
        let figures = KeyFigures::default();
        let now = Instant::now();
        for round in 0..20_000 {
            figures.sample(&Table::Default, &key(&format!("rare-{round}")), now);
            if round % 4 == 0 {
                figures.sample(&Table::Default, &key("hot"), now);
            }
        }
        let hottest = figures.hottest(now);
        assert_eq!((hottest.len(), &*hottest[0].key), (HOTTEST, "hot"));
        assert!((0.2..0.22).contains(&hottest[0].share), "{hottest:?}");
        assert!(hottest[1].share < 0.02, "{hottest:?}");
        assert!(lock(&figures.counters).list.len() <= COUNTERS);
        assert_eq!(figures.hottest(now + HALVE_EVERY * 40), [], "it is long ago");
    }
}
