//! The changes of a replica, which watches are told of, and the keys that a watch is about.

use bytes::Bytes;

use crate::types::{Key, TableId, Version};

/// The keys that a watch is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    /// One key.
    Key(Key),
    /// All keys that begin with these bytes, as they are stored: with none, all keys of the default table.
    Prefix(Bytes),
}

impl Filter {
    /// Whether it is about `key`.
    #[must_use]
    pub fn matches(&self, key: &Key) -> bool {
        match self {
            Self::Key(one) => one == key,
            Self::Prefix(prefix) => Key::begins_with(key.as_bytes(), prefix),
        }
    }

    /// The table of its keys.
    #[must_use]
    pub fn table(&self) -> TableId {
        Key::table_of_prefix(self.as_bytes())
    }

    /// The filter of the same names in `table`.
    #[must_use]
    pub fn moved_to(self, table: TableId) -> Self {
        match self {
            Self::Key(key) => Self::Key(key.moved_to(table)),
            Self::Prefix(prefix) if table == TableId::DEFAULT => Self::Prefix(prefix),
            Self::Prefix(prefix) => Self::Prefix(Key::prefix_in(table, &prefix)),
        }
    }

    /// The key, or the prefix.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Key(key) => key.as_bytes(),
            Self::Prefix(prefix) => prefix,
        }
    }

    /// The same in memory of its own, which does not keep a whole message alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        match self {
            Self::Key(key) => Self::Key(key.detached()),
            Self::Prefix(prefix) => Self::Prefix(Bytes::copy_from_slice(prefix)),
        }
    }
}

/// A record that became durable on one replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// Its place among the changes of the replica's incarnation.
    pub number: u64,
    /// The record's key.
    pub key: Key,
    /// The record's version.
    pub version: Version,
}

impl Change {
    /// Its size in memory and between nodes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // Two stamps with their node ids, the number, and an entry of a collection.
        const OVERHEAD: usize = 200;
        OVERHEAD + self.key.as_bytes().len()
    }
}
