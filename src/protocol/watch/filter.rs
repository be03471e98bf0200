//! The watches that are about a key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::protocol::changes::Filter;
use crate::types::Key;

/// Finds those of many filters that match a key: by one look-up for each length of a prefix that occurs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FilterIndex<T> {
    keys: BTreeMap<Key, BTreeSet<T>>,
    prefixes: BTreeMap<Bytes, BTreeSet<T>>,
    /// How many prefixes have each length.
    lengths: BTreeMap<usize, usize>,
}

impl<T> Default for FilterIndex<T> {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), prefixes: BTreeMap::new(), lengths: BTreeMap::new() }
    }
}

impl<T: Copy + Ord> FilterIndex<T> {
    pub(super) fn insert(&mut self, filter: &Filter, owner: T) {
        match filter {
            Filter::Key(key) => {
                self.keys.entry(key.clone()).or_default().insert(owner);
            }
            Filter::Prefix(prefix) => {
                let owners = self.prefixes.entry(prefix.clone()).or_default();
                if owners.is_empty() {
                    *self.lengths.entry(prefix.len()).or_default() += 1;
                }
                owners.insert(owner);
            }
        }
    }

    pub(super) fn remove(&mut self, filter: &Filter, owner: T) {
        match filter {
            Filter::Key(key) => {
                let Some(owners) = self.keys.get_mut(key) else { return };
                owners.remove(&owner);
                if owners.is_empty() {
                    self.keys.remove(key);
                }
            }
            Filter::Prefix(prefix) => {
                let Some(owners) = self.prefixes.get_mut(prefix) else { return };
                owners.remove(&owner);
                if owners.is_empty() {
                    self.prefixes.remove(prefix);
                    let count = self.lengths.entry(prefix.len()).or_default();
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.lengths.remove(&prefix.len());
                    }
                }
            }
        }
    }

    /// The owners of the filters that match `key`.
    pub(super) fn matching(&self, key: &Key) -> Vec<T> {
        let bytes = key.as_bytes();
        let mut owners: Vec<T> = self.keys.get(key).into_iter().flatten().copied().collect();
        let is_prefix = |length: &&usize| Key::begins_with(bytes, &bytes[..**length]);
        for length in self.lengths.keys().take_while(|length| **length <= bytes.len()).filter(is_prefix) {
            owners.extend(self.prefixes.get(&bytes[..*length]).into_iter().flatten());
        }
        owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TableId;

    fn prefix(text: &'static str) -> Filter {
        Filter::Prefix(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn key_is_found_by_itself_and_by_each_prefix_until_they_are_removed() {
        let key = |text: &'static str| Key::new(text).unwrap();
        let filters = [prefix(""), prefix("user:"), prefix("user:4"), Filter::Key(key("user:42")), prefix("user:")];
        let mut index = FilterIndex::default();
        filters.iter().zip(0..).for_each(|(filter, owner)| index.insert(filter, owner));
        let matching = |index: &FilterIndex<i32>, text| {
            let mut owners = index.matching(&key(text));
            owners.sort_unstable();
            owners
        };
        assert_eq!(matching(&index, "user:42"), [0, 1, 2, 3, 4]);
        assert_eq!(matching(&index, "user:5"), [0, 1, 4]);
        assert_eq!(matching(&index, "u"), [0]);
        assert!(filters[1].matches(&key("user:5")) && !filters[3].matches(&key("user:5")));
        let in_table = Key::in_table(TableId(16), b"user:42").unwrap();
        assert_eq!(index.matching(&in_table), [0; 0], "no prefix is about the default table alone");
        assert!(!filters[0].matches(&in_table) && filters[2].clone().moved_to(TableId(16)).matches(&in_table));
        filters.iter().zip(0..).for_each(|(filter, owner)| index.remove(filter, owner));
        assert_eq!(index, FilterIndex::default());
    }
}
