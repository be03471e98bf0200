//! The words that every other module speaks: keys, slots, nodes, clocks, stamps, records.
//!
//! Contract: a value of one of these types is valid by construction; nobody downstream checks it again. Everything is
//! ordered and hashable, so that a protocol state can be compared, hashed and replayed. Cloning is cheap: bytes and ids
//! are shared, never copied.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::limits::{KEY_BYTES_MAX, NODE_ID_BYTES_MAX};

/// A key: 1 to [`KEY_BYTES_MAX`] bytes of UTF-8. Ordered by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

/// Why some bytes are not a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No bytes at all.
    #[error("the key is empty: give it 1 to {KEY_BYTES_MAX} bytes of UTF-8")]
    Empty,
    /// More than [`KEY_BYTES_MAX`] bytes.
    #[error("the key has {bytes} bytes: at most {KEY_BYTES_MAX} are accepted")]
    TooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("the key is not valid UTF-8 (from byte {valid_up_to} on)")]
    NotUtf8 {
        /// How many of its leading bytes are valid.
        valid_up_to: usize,
    },
}

impl Key {
    /// Takes `bytes` as a key.
    ///
    /// # Errors
    /// When they are empty, too many, or not UTF-8.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(KeyError::Empty);
        }
        if bytes.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong { bytes: bytes.len() });
        }
        if let Err(error) = std::str::from_utf8(&bytes) {
            return Err(KeyError::NotUtf8 { valid_up_to: error.valid_up_to() });
        }
        Ok(Self(bytes))
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a key was checked to be UTF-8 when it was made")
    }

    /// The key's bytes, shared.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// One of the [`Slot::COUNT`] parts of the key space. A slot, not a key, is what has replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// How many slots there are.
    pub const COUNT: usize = 1 << 16;
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node's name: 1 to [`NODE_ID_BYTES_MAX`] printable ASCII characters without spaces or commas. Ordered by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

/// Why a text is not a [`NodeId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdError {
    /// No characters at all.
    #[error("a node id is empty: give it 1 to {NODE_ID_BYTES_MAX} characters")]
    Empty,
    /// More than [`NODE_ID_BYTES_MAX`] characters.
    #[error("node id {id:?} has {} characters: at most {NODE_ID_BYTES_MAX} are accepted", id.len())]
    TooLong {
        /// The text.
        id: String,
    },
    /// A character other than printable ASCII, or a space or comma.
    #[error("node id {id:?} holds {character:?}: printable ASCII without spaces and commas is accepted")]
    Character {
        /// The text.
        id: String,
        /// The first character that is not accepted.
        character: char,
    },
}

impl NodeId {
    /// Takes `id` as a node's name.
    ///
    /// # Errors
    /// When it is empty, too long, or holds a character that tables and logs could not show unambiguously.
    pub fn new(id: &str) -> Result<Self, NodeIdError> {
        if id.is_empty() {
            return Err(NodeIdError::Empty);
        }
        if let Some(character) = id.chars().find(|c| !c.is_ascii_graphic() || *c == ',') {
            return Err(NodeIdError::Character { id: id.to_owned(), character });
        }
        if id.len() > NODE_ID_BYTES_MAX {
            return Err(NodeIdError::TooLong { id: id.to_owned() });
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node's place in its cluster: the index of its id among all ids in ascending order.
///
/// Peers are named by it inside one process, where it is a cheap copy; on the wire and on disk a node is its [`NodeId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u16);

impl NodeIndex {
    /// The index itself.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A reading of a quorum clock, ordered by epoch, then counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clock {
    /// Durable: raised at every start, and to that of any peer that is ahead.
    pub epoch: u64,
    /// Volatile: counts the stamps within an epoch.
    pub counter: u64,
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

/// A record's place in the one order of all writes: unique, because a node never issues one clock value twice and its
/// id is the last part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The clock value that the writer drew.
    pub clock: Clock,
    /// The node that drew it. Without it two coordinators that draw the same value would give two writes one place.
    pub writer: NodeId,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.clock, self.writer)
    }
}

/// A value, and which arm of the API's `Entry` it was written through: what was written as text is read as text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// UTF-8 text.
    Text(Bytes),
    /// Any bytes.
    Binary(Bytes),
}

impl Value {
    /// The value's bytes, whichever arm they came through.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (arm, bytes) = match self {
            Self::Text(bytes) => ("Text", bytes),
            Self::Binary(bytes) => ("Binary", bytes),
        };
        let shown = &bytes[..bytes.len().min(32)];
        write!(f, "{arm}({} bytes: {:?})", bytes.len(), String::from_utf8_lossy(shown))
    }
}

/// What a write leaves under a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A value.
    Value(Value),
    /// The mark of a deletion. It is kept, because without it a replica that missed the deletion would bring the
    /// deleted value back.
    Tombstone,
}

impl Content {
    /// How many bytes the value has; a tombstone has none.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        match self {
            Self::Value(value) => value.bytes().len(),
            Self::Tombstone => 0,
        }
    }
}

/// A checksum of a key and its content: made where the value enters the cluster, verified where it leaves.
///
/// XXH3, 64 bits: it finds accidents, not attacks. It does not cover the stamp, which is not known yet where it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(pub u64);

impl Checksum {
    /// The checksum of `content` under `key`.
    #[must_use]
    pub fn of(key: &Key, content: &Content) -> Self {
        let (arm, bytes): (u8, &[u8]) = match content {
            Content::Tombstone => (0, &[]),
            Content::Value(Value::Text(bytes)) => (1, bytes),
            Content::Value(Value::Binary(bytes)) => (2, bytes),
        };
        // The value's sum is seeded with the key's, so that a value under a wrong key is found too.
        let key_sum = xxhash_rust::xxh3::xxh3_64_with_seed(key.as_bytes(), u64::from(arm));
        Self(xxhash_rust::xxh3::xxh3_64_with_seed(bytes, key_sum))
    }
}

/// What a replica keeps under a key. A key that was never written has none, which orders below all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Its place in the order of all writes.
    pub stamp: Stamp,
    /// The value, or the mark of a deletion.
    pub content: Content,
    /// Of the key and the content.
    pub checksum: Checksum,
}

impl Record {
    /// What it takes in memory under `key`, in bytes, about.
    #[must_use]
    pub fn bytes(&self, key: &Key) -> usize {
        // The stamp, the checksum and a place in a map.
        const OVERHEAD: usize = 200;
        OVERHEAD + key.as_bytes().len() + self.content.value_bytes()
    }

    /// A record's digest: all of it but the content.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest { stamp: self.stamp.clone(), checksum: self.checksum }
    }

    /// Whether the content is still what was written under `key`.
    #[must_use]
    pub fn is_intact(&self, key: &Key) -> bool {
        Checksum::of(key, &self.content) == self.checksum
    }
}

/// A record without its content: enough to compare two of them.
///
/// Ordered by stamp. Two digests of one stamp and different checksums are a defect, never a matter of order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    /// The record's stamp.
    pub stamp: Stamp,
    /// The record's checksum.
    pub checksum: Checksum,
}

/// What all nodes of a cluster must have in common, because placement and majorities follow from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterParameters {
    /// The seed of every placement hash.
    pub seed: u32,
    /// How many nodes hold each slot: 1 to the number of nodes.
    pub replica_count: usize,
    /// All nodes' ids, ascending, each once.
    pub node_ids: Vec<NodeId>,
}

impl ClusterParameters {
    /// The index of `id` among the cluster's nodes.
    #[must_use]
    pub fn member(&self, id: &NodeId) -> Option<NodeIndex> {
        let index = self.node_ids.binary_search(id).ok()?;
        Some(NodeIndex(u16::try_from(index).expect("NODES_MAX keeps every index within a u16")))
    }

    /// The id of `member`.
    #[must_use]
    pub fn id(&self, member: NodeIndex) -> &NodeId {
        &self.node_ids[member.index()]
    }

    /// All members, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..u16::try_from(self.node_ids.len()).expect("NODES_MAX keeps every index within a u16")).map(NodeIndex)
    }
}

/// The random name of a data folder, written at its first start. A node id that comes back under another store id has
/// lost its disk, and with it what it promised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u128);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One run of a node's process on one data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// The durable epoch that this run began with: greater than that of every earlier run on the folder.
    pub epoch: u64,
    /// Random: tells two runs of one epoch apart, which only copies of one folder can have.
    pub nonce: u64,
}

/// What a node durably knows of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerRecord {
    /// The peer's data folder.
    pub store_id: StoreId,
    /// The latest run that was seen on it.
    pub incarnation: Incarnation,
}

/// What a folder remembers beside its records, as it is found at start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meta {
    /// The folder's random name.
    pub store_id: StoreId,
    /// The greatest epoch that was made durable; 0 in a fresh folder.
    pub epoch: u64,
    /// The runs begun on this folder, ascending: what shows to a peer that this is the folder it has met before, and no
    /// older copy of it.
    pub incarnations: Vec<Incarnation>,
    /// Whether every other member has recorded this store id: a cluster forms once.
    pub formed: bool,
    /// The peers met so far.
    pub peers: std::collections::BTreeMap<NodeId, PeerRecord>,
}

impl Meta {
    /// What a fresh folder of this name knows: nothing.
    #[must_use]
    pub fn fresh(store_id: StoreId) -> Self {
        Self { store_id, epoch: 0, incarnations: Vec::new(), formed: false, peers: std::collections::BTreeMap::new() }
    }
}

/// What must become durable together, in one atomic write with one fsync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Batch {
    /// The node's epoch, where it rises.
    pub epoch: Option<u64>,
    /// The run that begins.
    pub incarnation: Option<Incarnation>,
    /// Peers met, or met anew.
    pub peers: std::collections::BTreeMap<NodeId, PeerRecord>,
    /// Every other member has recorded this node.
    pub formed: bool,
    /// Records, each key once; each replaces what is held.
    pub records: std::collections::BTreeMap<Key, (Slot, Record)>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.bears_promises() && self.records.is_empty()
    }

    /// Whether it holds what is fsynced in every durability mode: an epoch or knowledge of peers. What was said to a
    /// peer on the strength of either must not be forgotten even where records may be.
    #[must_use]
    pub fn bears_promises(&self) -> bool {
        self.epoch.is_some() || self.incarnation.is_some() || self.formed || !self.peers.is_empty()
    }
}

/// When a record counts as kept, so that it may be acknowledged. Epochs and what is known of peers are fsynced in either
/// mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Once it is fsynced: it outlives crashes of the process, of the system, and a loss of power.
    #[default]
    Fsync,
    /// Once the operating system has it: it outlives crashes of the process alone. **A loss of power or a crash of the
    /// system takes acknowledged writes back**, and where it meets a majority of a key's replicas at once, they are lost.
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

/// How much of a record is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadKind {
    /// The stamp and the checksum: enough to compare.
    Digest,
    /// The whole record.
    Data,
}

/// What a replica holds of a key, as far as it was wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// Neither a value nor a tombstone.
    Absent,
    /// The digest alone, as was wanted.
    Digest(Digest),
    /// The record.
    Record(Record),
}

impl Lookup {
    /// The digest of what is held.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Absent => None,
            Self::Digest(digest) => Some(digest.clone()),
            Self::Record(record) => Some(record.digest()),
        }
    }
}
