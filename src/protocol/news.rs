//! What a watch is told, and the cursor to go on with.

use std::collections::BTreeMap;

use crate::types::{Incarnation, Key, NodeIndex, Record, Version};

/// The shell's name for a watch. It is given once in an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

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
    /// missed nothing since then.
    Ready,
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
    /// Nothing new; the cursor has moved on.
    Heartbeat,
    /// The watch has ended, because the node takes no requests. It can go on elsewhere with the cursor.
    Ended,
}
