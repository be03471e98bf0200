//! The events that one watch was told, and those that it must have been told.

use std::collections::BTreeMap;

use quorate::types::{Key, Version};

/// The account of one watch, over all the nodes through which it went on.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Writes that are called after this time must be told.
    since: Option<u64>,
    last: BTreeMap<Key, Version>,
    /// Whether it is told first what is there.
    with_list: bool,
}

impl Told {
    /// The account of a watch that is told first what is there.
    pub fn with_list() -> Self {
        Self { with_list: true, ..Self::default() }
    }

    /// The watch was told `ready`, at this time of the history.
    pub fn is_ready(&mut self, now: u64) {
        self.since.get_or_insert(now);
    }

    /// The watch may have missed something.
    pub fn is_reset(&mut self) {
        self.since = None;
    }

    /// The watch was told that `key` has this version.
    ///
    /// # Errors
    /// Versions of a key never fall, whatever came in between.
    pub fn change(&mut self, key: &Key, version: &Version) -> Result<(), String> {
        match self.last.insert(key.clone(), version.clone()) {
            Some(last) if last > *version => Err(format!("a watch was told {version} of {key} after {last}")),
            _ => Ok(()),
        }
    }

    /// Since when everything that is called must be told, if the watch is ready.
    pub fn since(&self) -> Option<u64> {
        self.since
    }

    /// The last version that was told of the key.
    pub fn last(&self, key: &Key) -> Option<&Version> {
        self.last.get(key)
    }

    /// Whether the watch ought to have been told of this version of the key, which is that of its present value, however old it
    /// is.
    pub fn misses_what_is_there(&self, key: &Key, version: &Version) -> bool {
        self.with_list && self.last(key).is_none_or(|last| last < version)
    }

    /// Whether the watch ought to have been told of a write that was called at this time and made this version.
    pub fn misses(&self, key: &Key, version: &Version, called: u64) -> bool {
        self.since.is_some_and(|since| called > since) && self.last(key).is_none_or(|last| last < version)
    }
}
