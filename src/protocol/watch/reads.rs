//! The keys that were announced, and are to be read.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::WATCH_READS_MAX;
use crate::mutants::rule;
use crate::protocol::io::Time;
use crate::protocol::layout::Layout;
use crate::types::{Key, NodeIndex, Version};

use super::streams::GroupId;

/// The keys that were announced, and are to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reads {
    pub(super) keys: BTreeMap<Key, Announced>,
    /// The keys to read, by when.
    pub(super) due: BTreeSet<(Time, Key)>,
    /// The reads under way.
    pub(super) tasks: BTreeMap<u64, Key>,
    pub(super) last_task: u64,
}

/// A key that was announced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Announced {
    /// Announced since the present read began.
    pub(super) wants: Announcements,
    pub(super) due: Time,
    pub(super) asked: Option<Asked>,
    /// Whether it is read although nobody has announced it: a watch was opened, or told what is there, while it was read.
    pub(super) again: bool,
}

/// The present read of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) task: u64,
    pub(super) wants: Announcements,
    /// Whether it is read for more than the announcements.
    pub(super) again: bool,
}

/// Who announced a key, and to which group.
pub(super) type Announcements = BTreeMap<(GroupId, NodeIndex), Announcement>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Announcement {
    /// The first announcement that was not told.
    pub(super) number: u64,
    /// The version that was announced last.
    pub(super) version: Version,
}

impl Reads {
    /// How many keys wait to be read, or are being read.
    pub(super) fn waiting(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        if self.tasks.len() >= WATCH_READS_MAX { None } else { self.due.first().map(|(due, _)| *due) }
    }

    /// Drops what these streams have announced. A read that waits for one of them is left to itself. Returns the
    /// announcements of other streams that are now counted with an earlier one.
    pub(super) fn forget(&mut self, is_meant: impl Fn(GroupId, NodeIndex) -> bool) -> Vec<((GroupId, NodeIndex), u64)> {
        let Self { keys, due, tasks, .. } = self;
        let mut merged = Vec::new();
        keys.retain(|key, announced| {
            if let Some(asked) = &mut announced.asked {
                let before = asked.wants.len();
                asked.wants.retain(|(group, node), _| !is_meant(*group, *node));
                if asked.wants.len() < before {
                    tasks.remove(&asked.task);
                    let wants = std::mem::take(&mut asked.wants);
                    announced.again |= asked.again;
                    announced.asked = None;
                    merged.extend(announced.put_back(wants));
                    due.insert((announced.due, key.clone()));
                }
            }
            announced.wants.retain(|(group, node), _| !is_meant(*group, *node));
            let stays = !announced.wants.is_empty() || announced.asked.is_some() || announced.again;
            if announced.wants.is_empty() && !announced.again {
                due.remove(&(announced.due, key.clone()));
            }
            stays
        });
        merged
    }

    /// `key` is not to be read any more.
    pub(super) fn forget_key(&mut self, key: &Key) {
        if let Some(announced) = self.keys.remove(key) {
            self.due.remove(&(announced.due, key.clone()));
        }
    }

    /// `key` is to be read at `at` or before.
    pub(super) fn schedule(&mut self, key: &Key, at: Time) {
        let Some(announced) = self.keys.get_mut(key) else { return };
        if !rule!(WatchGoesBack, announced.asked.is_none()) {
            return;
        }
        if self.due.remove(&(announced.due, key.clone())) {
            announced.due = announced.due.min(at);
        } else {
            announced.due = at;
        }
        self.due.insert((announced.due, key.clone()));
    }
}

impl Announced {
    /// Whether a majority of the key's replicas has announced one version, so that a read will find it there.
    pub(super) fn is_by_majority(&self, key: &Key, layout: &Layout) -> bool {
        let tally = layout.tally(layout.slot(key));
        let is_of_majority = |version: &Version| {
            let same = self.wants.iter().filter(|(_, want)| want.version == *version);
            tally.is_quorum(tally.set_of(same.map(|((_, node), _)| *node)))
        };
        self.wants.values().next_back().is_some_and(|want| is_of_majority(&want.version))
            || self.wants.values().next().is_some_and(|want| is_of_majority(&want.version))
    }

    /// The keys that were asked for are still to be read. Returns the announcements that are counted with an earlier one.
    pub(super) fn put_back(&mut self, asked: Announcements) -> Vec<((GroupId, NodeIndex), u64)> {
        let mut merged = Vec::new();
        for (stream, want) in asked {
            match self.wants.get_mut(&stream) {
                Some(later) => {
                    merged.push((stream, later.number));
                    later.number = want.number;
                }
                None => {
                    self.wants.insert(stream, want);
                }
            }
        }
        merged
    }
}
