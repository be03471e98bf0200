//! What a watch was not told although a read has answered: the keys that are read for it once more.
//!
//! Contract: until such a key is told, the cursor of the watch stays before what was announced of it. A client that goes on
//! elsewhere meanwhile is told there.

use std::collections::BTreeSet;

use crate::protocol::news::Cursor;
use crate::types::Key;

/// The keys that are to be read once more for a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Untold {
    keys: BTreeSet<Key>,
    /// How far the watch was told everything before they changed.
    told_to: Cursor,
}

impl Untold {
    /// `key` is to be read once more for a watch that was told everything up to `told_to`.
    pub(super) fn add(&mut self, key: Key, told_to: Cursor) {
        self.told_to = if self.keys.is_empty() { told_to } else { self.bound(told_to) };
        self.keys.insert(key);
    }

    /// The watch was told of `key`.
    pub(super) fn is_told(&mut self, key: &Key) {
        self.keys.remove(key);
        if self.keys.is_empty() {
            self.told_to = Cursor::default();
        }
    }

    /// How far the watch was told everything, where `cursor` says so without these keys.
    pub(super) fn bound(&self, mut cursor: Cursor) -> Cursor {
        for (node, position) in &mut cursor.0 {
            if let Some(told_to) =
                self.told_to.0.get(node).filter(|told_to| told_to.incarnation == position.incarnation)
            {
                position.number = position.number.min(told_to.number);
            }
        }
        cursor
    }

    /// What tells watches apart that are covered alike.
    pub(super) fn told_to(&self) -> &Cursor {
        &self.told_to
    }
}
