//! How far watches were told what is there, and the pages that are gathered for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::WATCH_CHANGED_KEYS_MAX;
use crate::mutants::must;
use crate::protocol::news::{Cursor, ListFirst, WatchId};
use crate::protocol::pages::ListedKeys;
use crate::types::Key;

/// How far a watch was told what is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct List {
    pub(super) values: bool,
    /// Each key up to this one was told, and is told of its changes.
    pub(super) told_to: Option<Key>,
    pub(super) page: Page,
    /// How far the changes of the nodes that cover the watch had come when the page began.
    pub(super) began_at: Cursor,
    /// The keys beyond `told_to` that were read for changes since the page began: so many that the first are kept.
    pub(super) changed: BTreeSet<Key>,
    /// Whether some of them were dropped.
    pub(super) changed_is_cut: bool,
}

/// The next page of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Page {
    /// It waits its turn.
    Queued,
    /// It is gathered, under this number.
    Running(u64),
    /// It failed, and is gathered again with the next tick.
    Failed,
    /// The client has not taken the page before.
    Untaken,
}

/// The pages of all watches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pages {
    pub(super) running: BTreeMap<u64, WatchId>,
    /// The watches whose pages wait their turn.
    pub(super) queue: VecDeque<WatchId>,
    /// The number of the last one.
    pub(super) last: u64,
}

impl List {
    /// The list of a watch that begins; `None` where none is wanted.
    pub(super) fn of(wanted: ListFirst) -> Option<Self> {
        (wanted != ListFirst::No).then(|| Self {
            values: wanted == ListFirst::Values,
            told_to: None,
            page: Page::Failed,
            began_at: Cursor::default(),
            changed: BTreeSet::new(),
            changed_is_cut: false,
        })
    }

    /// It begins anew.
    pub(super) fn restart(&mut self) {
        let wanted = if self.values { ListFirst::Values } else { ListFirst::Keys };
        self.clone_from(&Self::of(wanted).expect("a list is wanted"));
    }

    /// Whether the watch was told of `key`, or that it has no value.
    pub(super) fn has_told(&self, key: &Key) -> bool {
        self.told_to.as_ref().is_some_and(|told_to| key <= told_to)
    }

    /// `key` was read for a change.
    pub(super) fn note_change(&mut self, key: &Key) {
        if self.has_told(key) || !matches!(self.page, Page::Running(_)) {
            return;
        }
        must!(ChangeBesidePageIsLost, self.changed.insert(key.clone()));
        if self.changed.len() > WATCH_CHANGED_KEYS_MAX {
            self.changed.pop_last();
            self.changed_is_cut = true;
        }
    }

    /// Cuts a page where it would go beyond the keys that are known to have changed.
    pub(super) fn cut(&self, page: &mut ListedKeys) {
        let Some(last) = self.changed.last().filter(|_| self.changed_is_cut) else { return };
        if page.looked_to.as_ref().is_none_or(|looked_to| looked_to > last) {
            page.keys.retain(|(key, _)| key <= last);
            page.looked_to = Some(last.clone());
        }
    }
}
