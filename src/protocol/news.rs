//! What a watch is told, and the cursor to go on with.

use std::collections::BTreeMap;

use super::pages::Listed;
use crate::types::{Incarnation, Key, NodeIndex, Record, Version};

/// The shell's name for a watch. It is given once in an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// Whether a watch is told first what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListFirst {
    /// Changes alone.
    #[default]
    No,
    /// The keys that have a value, and their versions.
    Keys,
    /// The same, with the values.
    Values,
}

/// A place in the changes of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The incarnation that numbered them.
    pub incarnation: Incarnation,
    /// The number of the next change.
    pub number: u64,
}

/// How far a watch was told everything, on each node that covers it. A watch goes on with it through any node. An empty
/// cursor is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub BTreeMap<NodeIndex, Position>);

/// What a watch is told, and how far it was told everything by then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchNews {
    /// The cursor to go on with after this event.
    pub cursor: Cursor,
    /// The event.
    pub event: WatchEvent,
}

/// What a watch is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WatchEvent {
    /// Each write that is called from now on is told, or a later one of its key. A watch that goes on with a cursor has
    /// missed nothing since then. To one that was told first what is there, every write is told that is not in that, however
    /// long ago it was called.
    Ready,
    /// A page of what is there: keys that have a value, in their order. The next page follows once the client has taken this
    /// one. Each key is told of its changes from here on.
    Listed(Vec<(Key, Listed)>),
    /// A key has a new record.
    Changed {
        /// The key.
        key: Key,
        /// The version of its record.
        version: Version,
        /// The record; a tombstone, or none, where the key has no value.
        record: Option<Record>,
    },
    /// Writes may be missing. The watch begins anew: what was told so far is no longer complete.
    Reset,
    /// The watch has ended, because its table was dropped.
    TableDropped,
    /// Nothing new; the cursor has moved on.
    Heartbeat,
    /// The watch has ended, because the node takes no requests. It can go on elsewhere with the cursor.
    Ended,
}
