//! The keys of a workload, and how often each is drawn.

use clap::ValueEnum;
use rand::{Rng, RngExt as _};
use rand_distr::Zipf;

/// The most keys: ten digits in a name, and as many as a machine can hold.
pub(super) const KEYS_MAX: u64 = 10_000_000_000;

/// The digits in the name of a watched key: there are as many as requests in flight, a million at most.
const WATCHED_DIGITS: usize = 7;

/// How keys are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Distribution {
    /// Each key as often as any other
    Uniform,
    /// The key of rank r in proportion to 1 / r^EXPONENT: few keys get most requests
    Zipf,
}

/// A set of keys, numbered from 0, and their distribution. Under Zipf the number is the rank less one.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    count: u64,
    digits: usize,
    zipf: Option<Zipf<f64>>,
}

impl Keys {
    /// `zipf_exponent` is `None` for a uniform distribution.
    pub(super) fn new(prefix: String, count: u64, zipf_exponent: Option<f64>) -> Self {
        assert!((1..=KEYS_MAX).contains(&count), "the command line has checked the number of keys");
        let zipf = zipf_exponent
            .map(|exponent| Zipf::new(count as f64, exponent).expect("the command line has checked the exponent"));
        Self { prefix, count, digits: (count - 1).to_string().len(), zipf }
    }

    /// The number of keys.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What every key begins with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of this number. All keys have the same length, so that none is cheaper than another.
    pub(super) fn name(&self, number: u64) -> String {
        format!("{}{number:0digits$}", self.prefix, digits = self.digits)
    }

    /// The key of the counter of this number: a number and a value of random bytes cannot share a key.
    pub(super) fn counter_name(&self, number: u64) -> String {
        self.name(number) + "-count"
    }

    /// The beginning of the keys that are watched.
    pub(super) fn watched_prefix(&self) -> String {
        format!("{}watched-", self.prefix)
    }

    /// The key that this worker writes for the watchers.
    pub(super) fn watched_name(&self, worker: usize) -> String {
        format!("{}{worker:0WATCHED_DIGITS$}", self.watched_prefix())
    }

    /// The worker that writes this key for the watchers.
    pub(super) fn watched_number(&self, key: &str) -> Option<usize> {
        key.strip_prefix(&self.watched_prefix())?.parse().ok()
    }

    /// The length of the longest key.
    pub(super) fn longest(&self) -> usize {
        self.counter_name(self.count - 1).len().max(self.watched_name(0).len())
    }

    /// Draws the number of a key.
    pub(super) fn draw(&self, random: &mut impl Rng) -> u64 {
        match &self.zipf {
            None => random.random_range(0..self.count),
            Some(zipf) => {
                // Ranks are whole numbers from 1. Rounding must not exceed the set.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let rank = random.sample(zipf) as u64;
                rank.clamp(1, self.count) - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    const DRAWS: u32 = 200_000;

    fn drawn(keys: &Keys) -> BTreeMap<u64, u32> {
        let mut random = SmallRng::seed_from_u64(7);
        let mut drawn = BTreeMap::new();
        for _ in 0..DRAWS {
            *drawn.entry(keys.draw(&mut random)).or_default() += 1;
        }
        drawn
    }

    #[test]
    fn names_are_of_one_length() {
        let keys = Keys::new("bench-".into(), 1_000, None);
        assert_eq!((keys.name(0), keys.name(999)), ("bench-000".into(), "bench-999".into()));
        assert_eq!(Keys::new(String::new(), 1, None).name(0), "0");
        assert_eq!((keys.watched_name(63), keys.longest()), ("bench-watched-0000063".into(), 21));
        assert_eq!((keys.watched_number("bench-watched-0000063"), keys.watched_number("bench-063")), (Some(63), None));
    }

    #[test]
    fn uniform_draws_every_key_about_as_often() {
        let drawn = drawn(&Keys::new(String::new(), 100, None));
        assert_eq!(drawn.len(), 100);
        // 2,000 times each; five standard deviations are 223.
        assert!(drawn.values().all(|times| times.abs_diff(DRAWS / 100) < 223), "{drawn:?}");
    }

    #[test]
    fn zipf_draws_keys_by_the_power_of_their_rank() {
        for exponent in [0.5, 0.99, 1.0, 1.5] {
            let count = 1_000_u32;
            let drawn = drawn(&Keys::new(String::new(), count.into(), Some(exponent)));
            let weight = |rank: u32| f64::from(rank).powf(-exponent);
            let total: f64 = (1..=count).map(weight).sum();
            for rank in [1_u32, 2, 3, 10, 100] {
                let expected = f64::from(DRAWS) * weight(rank) / total;
                let seen = f64::from(drawn.get(&u64::from(rank - 1)).copied().unwrap_or(0));
                assert!((seen - expected).abs() < 5.0 * expected.sqrt(), "{exponent} {rank}: {seen} not {expected}");
            }
            assert!(drawn.keys().all(|number| *number < count.into()));
        }
    }

    #[test]
    fn single_key_is_always_drawn() {
        let mut random = SmallRng::seed_from_u64(1);
        for exponent in [None, Some(0.0), Some(1.0), Some(10.0)] {
            assert_eq!(Keys::new(String::new(), 1, exponent).draw(&mut random), 0);
        }
    }
}
