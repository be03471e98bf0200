//! The contract between the protocol and a store: what is written, how durably, and what a read asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::{
    Clock, Configuration, Digest, Expiry, Incarnation, Key, NodeId, PeerRecord, Record, RunningTime, Slot, TableId,
    TakenOver, Vote,
};

/// Changes that become durable together, in one atomic write with one fsync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Batch {
    /// The node's new epoch, when it rises.
    pub epoch: Option<u64>,
    /// The incarnation that begins, at a start.
    pub incarnation: Option<Incarnation>,
    /// Peers to record, new ones and changed ones.
    pub peers: BTreeMap<NodeId, PeerRecord>,
    /// Set once every other node has recorded this node's store id.
    pub bootstrapped: bool,
    /// New records by key. Each replaces the record that the store holds.
    pub records: BTreeMap<Key, (Slot, Record)>,
    /// The keys in it of which the store holds no record yet: the index of keys gains them.
    pub new_keys: BTreeSet<Key>,
    /// When this node first kept the versions of those records that have a time to live.
    pub kept_at: BTreeMap<Key, RunningTime>,
    /// Entries of the index of expiries whose versions are replaced. They are removed before those of `records` are added.
    pub expiries_removed: BTreeSet<Expiry>,
    /// The node's count of the time that it ran, from time to time.
    pub running: Option<RunningTime>,
    /// Tables that were dropped.
    pub dropped: BTreeSet<TableId>,
    /// The clock up to which the node takes in no new writes, when it rises.
    pub fence: Option<Clock>,
    /// The slots that are sealed, and up to which clock.
    pub seals: BTreeMap<Slot, Clock>,
    /// Deletions that the node forgets, with their slots. They are removed, and their entries of the index of keys, before the
    /// records and `new_keys` of the batch are added.
    pub forgotten: BTreeMap<Key, (Slot, Digest)>,
    /// The configuration that the node adopts.
    pub configuration: Option<Arc<Configuration>>,
    /// Its part in a vote on a configuration.
    pub vote: Option<Vote>,
    /// How far it has taken over the slots that it gains.
    pub taken_over: Option<TakenOver>,
    /// Slots that the node gains, as ranges of first and last ones: what it holds of them, with their seals, is removed before
    /// all else in the batch is added.
    pub emptied: Vec<(Slot, Slot)>,
}

impl Batch {
    /// Whether the batch changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.has_metadata()
            && self.records.is_empty()
            && self.new_keys.is_empty()
            && self.expiries_removed.is_empty()
            && self.forgotten.is_empty()
            && self.running.is_none()
    }

    /// The entries that the index of expiries gains.
    pub fn expiries(&self) -> impl Iterator<Item = Expiry> + '_ {
        self.kept_at.iter().filter_map(|(key, kept_at)| {
            let (slot, record) = self.records.get(key)?;
            let at = kept_at.expiry(record.ttl?);
            Some(Expiry { at, slot: *slot, key: key.clone(), version: record.version() })
        })
    }

    /// Whether the batch changes metadata: the epoch, incarnations, peers, dropped tables, the fence, seals, or what belongs to
    /// changes of members. Metadata is fsynced in every durability mode: peers rely on it, so it must outlive even a crash that may lose records.
    #[must_use]
    pub fn has_metadata(&self) -> bool {
        self.epoch.is_some()
            || self.incarnation.is_some()
            || self.bootstrapped
            || !self.peers.is_empty()
            || !self.dropped.is_empty()
            || self.fence.is_some()
            || !self.seals.is_empty()
            || self.configuration.is_some()
            || self.vote.is_some()
            || self.taken_over.is_some()
            || !self.emptied.is_empty()
    }
}

/// The records of a dropped table that a store has removed at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Removed {
    /// How many records.
    pub records: usize,
    /// Whether the table may have further records.
    pub has_more: bool,
    /// The records that could be read.
    pub digests: Vec<SlotRecord>,
}

/// A record in its slot, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotRecord {
    /// The slot of the key.
    pub slot: Slot,
    /// The key.
    pub key: Key,
    /// The record's digest.
    pub digest: Digest,
}

/// The records of slots that follow each other, in the order of slots and then of keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotRange {
    /// The first slot.
    pub first: Slot,
    /// Of the first slot only keys above this one.
    pub after: Option<Key>,
    /// The last slot.
    pub last: Slot,
}

impl SlotRange {
    /// Whether `key` of `slot` is in it.
    #[must_use]
    pub fn contains(&self, slot: Slot, key: &Key) -> bool {
        let is_after = || slot != self.first || self.after.as_ref().is_none_or(|after| key > after);
        (self.first..=self.last).contains(&slot) && is_after()
    }
}

/// The first records of a range of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotsPage {
    /// Every record up to the last one here, tombstones included, in the order of slots and then of keys.
    pub records: Vec<SlotRecord>,
    /// Whether more may follow after the last one.
    pub has_more: bool,
    /// How many entries or blocks of them are damaged, and were left out.
    pub damaged: usize,
    /// How many of the records come before the first damage; all, where nothing is damaged.
    pub intact: usize,
}

/// When a replica may acknowledge a record. Metadata (epochs, incarnations, peers, dropped tables, fence and seals) is fsynced
/// in either mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// After the fsync: the record outlives a crash of the process or of the system, and a loss of power.
    #[default]
    Fsync,
    /// After the write to the operating system: the record outlives a crash of the process alone. **A loss of power or a
    /// crash of the system can take acknowledged writes back.** If it hits a majority of a key's replicas at once, those
    /// writes are lost.
    Os,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
        })
    }
}

/// How much of a record a read asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadKind {
    /// The stamp and the checksum: enough to compare records.
    Digest,
    /// The whole record, with its content.
    Data,
}

/// Some of the keys, in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// All of them are above this key. It need not exist.
    pub after: Option<Key>,
    /// All of them begin with this, as they are stored. Without a prefix they are those of the default table.
    pub prefix: Bytes,
}

impl KeyRange {
    /// The table of all of them.
    #[must_use]
    pub fn table(&self) -> TableId {
        Key::table_of_prefix(&self.prefix)
    }

    /// The keys that have the same names in `table`.
    #[must_use]
    pub fn moved_to(self, table: TableId) -> Self {
        if table == TableId::DEFAULT {
            return self;
        }
        let after = self.after.map(|after| after.moved_to(table));
        Self { after, prefix: Key::prefix_in(table, &self.prefix) }
    }

    /// Whether `key` is one of them.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        Key::begins_with(key.as_bytes(), &self.prefix) && self.after.as_ref().is_none_or(|after| after < key)
    }
}

/// The first keys of a [`KeyRange`] in the index of one store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScannedKeys {
    /// Each key with its digest, tombstones included, in the order of the keys.
    pub keys: Vec<(Key, Digest)>,
    /// The last key that was looked at. `None` where the whole range was.
    pub looked_to: Option<Key>,
}

/// A store's answer to a read of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// The store holds no record of the key, not even a tombstone.
    Absent,
    /// The digest, as [`ReadKind::Digest`] asked for.
    Digest(Digest),
    /// The whole record, as [`ReadKind::Data`] asked for.
    Record(Record),
}

/// What a store found of a key, and since when it keeps that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// What it found.
    pub lookup: Lookup,
    /// When this node first kept the version, where that has a time to live.
    pub kept_at: Option<RunningTime>,
}

impl From<Lookup> for Found {
    fn from(lookup: Lookup) -> Self {
        Self { lookup, kept_at: None }
    }
}

impl Lookup {
    /// The digest of the record that was found; `None` when there is none.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Absent => None,
            Self::Digest(digest) => Some(digest.clone()),
            Self::Record(record) => Some(record.digest()),
        }
    }
}
