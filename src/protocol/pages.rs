//! Pages of lists: what is asked for, and what is in one.

use crate::types::{Age, Key, KeyRange, Lookup};

/// A question for one page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListPage {
    /// The keys to list.
    pub range: KeyRange,
    /// The most keys in the page. It may have fewer, although more follow.
    pub keys_max: usize,
    /// Whether the values are wanted.
    pub values: bool,
}

impl ListPage {
    /// The size of its range, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.range.prefix.len() + self.range.after.as_ref().map_or(0, |after| after.as_bytes().len())
    }
}

/// The value of a key in a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listed {
    /// Its digest, or its record where values are wanted.
    pub found: Lookup,
    /// The greatest age of its version that a replica told. Only versions with a time to live have an age.
    pub age: Age,
}

impl Listed {
    /// The size of the entry of `key` in memory, about.
    #[must_use]
    pub fn bytes(&self, key: &Key) -> usize {
        let value = match &self.found {
            Lookup::Record(record) => record.content.value_bytes(),
            Lookup::Digest(_) | Lookup::Absent => 0,
        };
        size_of::<(Key, Self)>() + key.as_bytes().len() + value
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListedKeys {
    /// The keys that have a value, in order.
    pub keys: Vec<(Key, Listed)>,
    /// The page has each key of its range up to this one, which need not exist. `None` where it has the whole range.
    pub looked_to: Option<Key>,
}
