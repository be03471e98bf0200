//! Numbers that describe what a run explored.

use std::collections::BTreeMap;

/// Numbers by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    sums: BTreeMap<&'static str, usize>,
    maxima: BTreeMap<&'static str, usize>,
}

impl Counters {
    /// Adds to a sum.
    pub(crate) fn add(&mut self, name: &'static str, count: usize) {
        *self.sums.entry(name).or_default() += count;
    }

    /// Raises a maximum.
    pub(crate) fn at_least(&mut self, name: &'static str, value: usize) {
        let maximum = self.maxima.entry(name).or_default();
        *maximum = value.max(*maximum);
    }

    /// A sum. 0 if nothing was added.
    pub(crate) fn get(&self, name: &str) -> usize {
        self.sums.get(name).copied().unwrap_or(0)
    }

    /// Adds another run's numbers.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (name, count) in &other.sums {
            self.add(name, *count);
        }
        for (name, value) in &other.maxima {
            self.at_least(name, *value);
        }
    }

    /// All numbers by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.sums.iter().chain(&self.maxima).map(|(name, value)| (*name, *value))
    }
}
