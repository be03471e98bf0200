//! The keys of a page in their order, and the reads that some of them still need.
//!
//! Invariants: at most [`LIST_READS_MAX`] keys are read at the same time. The values of a page hold [`PAGE_BYTES_MAX`] bytes,
//! or are one value. A large value that arrives before its turn is dropped and read again at its turn, alone: otherwise
//! values that wait for their turn could hold all the memory that the next one needs.

use std::collections::BTreeSet;

use crate::limits::{LIST_READS_MAX, LISTED_KEYS_MAX, PAGE_BYTES_MAX, UNCOUNTED_VALUE_BYTES_MAX};
use crate::mutants::rule;
use crate::protocol::io::{Failure, Reply};
use crate::protocol::pages::{Listed, ListedKeys};
use crate::types::{Age, Digest, Key, Lookup, NodeIndex};

/// The most bytes that a gateway adds to a key and its value: a version with two long node ids, and framing.
const LISTED_OVERHEAD_BYTES: usize = 320;

/// The keys of a page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reading {
    keys: Vec<(Key, KeyState)>,
    /// The page has each key of its range up to this one.
    looked_to: Option<Key>,
    /// So many keys are in the page already, or are known to have no value.
    done: usize,
    running: usize,
    running_max: usize,
    values: bool,
    keys_left: usize,
    bytes_left: usize,
    listed: Vec<(Key, Listed)>,
}

/// The state of a key of a page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeyState {
    /// It is to be read.
    Wanted(ReadOf),
    /// It is being read.
    Running(ReadOf),
    /// It is read. It has no value where nothing was found.
    Found(Option<Listed>),
    /// It could not be read.
    Failed(Failure),
}

/// A read of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReadOf {
    /// Of its latest record: the answers did not agree. These replicas named the key, and are counted in the read.
    Latest(BTreeSet<NodeIndex>),
    /// Of the record with this digest, which a majority has.
    Exactly(Digest),
}

/// How a page stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Some keys are still to be read.
    Waits,
    /// The page.
    Done(ListedKeys),
    /// Its first key could not be read.
    Failed(Failure),
}

impl KeyState {
    pub(super) fn absent() -> Self {
        Self::Found(None)
    }

    pub(super) fn listed(digest: Digest, age: Age) -> Self {
        let found = Lookup::Digest(rule!(ListShowsTag, digest, not by_tag(digest)));
        Self::Found(Some(Listed { found, age }))
    }
}

/// The record under its tag, which later rounds may give it anew: wrong.
#[cfg(feature = "mutants")]
fn by_tag(mut digest: Digest) -> Digest {
    if let Some(proposal) = digest.proposal.as_mut().map(std::sync::Arc::make_mut) {
        proposal.version.ballot = Some(proposal.ballot.clone());
    }
    digest
}

impl Reading {
    pub(super) fn new(keys: Vec<(Key, KeyState)>, looked_to: Option<Key>, keys_max: usize, values: bool) -> Self {
        Self {
            keys,
            looked_to,
            done: 0,
            running: 0,
            running_max: LIST_READS_MAX,
            values,
            keys_left: keys_max.clamp(1, LISTED_KEYS_MAX),
            bytes_left: PAGE_BYTES_MAX,
            listed: Vec::new(),
        }
    }

    /// How many keys are not agreed.
    pub(super) fn unsettled(&self) -> usize {
        self.keys.iter().filter(|(_, state)| matches!(state, KeyState::Wanted(ReadOf::Latest(_)))).count()
    }

    /// The next read to begin.
    pub(super) fn next_read(&mut self) -> Option<(usize, Key, ReadOf)> {
        if self.running >= self.running_max {
            return None;
        }
        // No further ahead than twice as many keys as are read at once: the page may end before.
        let ahead = self.keys.iter_mut().enumerate().skip(self.done).take(2 * LIST_READS_MAX);
        let mut wanted = ahead.filter_map(|(place, (key, state))| match state {
            KeyState::Wanted(read) => {
                let read = read.clone();
                *state = KeyState::Running(read.clone());
                Some((place, key.clone(), read))
            }
            _ => None,
        });
        let next = wanted.next();
        self.running += usize::from(next.is_some());
        next
    }

    /// The read of the key at `place` has ended.
    pub(super) fn on_read(&mut self, place: usize, reply: Reply) {
        let is_next = place == self.done;
        let Some((_, state)) = self.keys.get_mut(place) else { return };
        let KeyState::Running(read) = state else { return };
        self.running -= 1;
        *state = match reply {
            Reply::Record(Some(record)) if record.is_value() && !self.values => {
                KeyState::listed(record.digest(), record.age)
            }
            Reply::Record(Some(record)) if record.is_value() => {
                if !is_next && record.content.value_bytes() > UNCOUNTED_VALUE_BYTES_MAX {
                    self.running_max = 1;
                    KeyState::Wanted(read.clone())
                } else {
                    let age = record.age;
                    KeyState::Found(Some(Listed { found: Lookup::Record(record.record), age }))
                }
            }
            Reply::Record(_) => KeyState::absent(),
            Reply::Failed(failure) => KeyState::Failed(failure),
            other => unreachable!("a read is answered with a record, not {other:?}"),
        };
    }

    /// Takes the keys whose turn has come into the page.
    pub(super) fn progress(&mut self) -> Progress {
        while let Some((key, state)) = self.keys.get_mut(self.done) {
            let bytes = match state {
                KeyState::Wanted(_) | KeyState::Running(_) => return Progress::Waits,
                KeyState::Failed(failure) => {
                    let failure = failure.clone();
                    return self.so_far().map_or(Progress::Failed(failure), Progress::Done);
                }
                KeyState::Found(None) => {
                    self.done += 1;
                    continue;
                }
                // A gateway names the key again beside its value.
                KeyState::Found(Some(Listed { found: Lookup::Record(record), .. })) => {
                    LISTED_OVERHEAD_BYTES + 2 * key.as_bytes().len() + record.content.value_bytes()
                }
                KeyState::Found(Some(_)) => LISTED_OVERHEAD_BYTES + key.as_bytes().len(),
            };
            let is_full = self.keys_left == 0 || (bytes > self.bytes_left && !self.listed.is_empty());
            if is_full && let Some(listed) = self.so_far() {
                return Progress::Done(listed);
            }
            let (key, state) = &mut self.keys[self.done];
            if let KeyState::Found(found) = state {
                self.listed.extend(found.take().map(|found| (key.clone(), found)));
            }
            self.keys_left = self.keys_left.saturating_sub(1);
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
            self.done += 1;
        }
        Progress::Done(ListedKeys { keys: std::mem::take(&mut self.listed), looked_to: self.looked_to.take() })
    }

    /// The page up to the first key that is not read; nothing where that is the first of all.
    pub(super) fn so_far(&mut self) -> Option<ListedKeys> {
        let (last, _) = self.keys.get(self.done.checked_sub(1)?)?;
        let looked_to = Some(last.clone());
        Some(ListedKeys { keys: std::mem::take(&mut self.listed), looked_to })
    }
}
