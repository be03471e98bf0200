//! The identity of a data folder, of a process on it, and the metadata that a folder keeps beside its records.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::{Clock, Configuration, NodeId, RunningTime, Slot, TableId, TakenOver, Vote};

/// The random identity of a data folder, written at its first start.
///
/// A node that returns under another store id has lost its disk, and with it everything that it acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u128);

impl StoreId {
    /// The id that 32 hexadecimal digits say.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex { u128::from_str_radix(text, 16).ok().map(Self) } else { None }
    }
}

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

/// One run of a node's process on its data folder, from start to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// The durable epoch at the start: greater than that of every earlier incarnation on the folder.
    pub epoch: u64,
    /// A random number. It separates two incarnations of the same epoch, which only copies of one folder can have.
    pub nonce: u64,
}

/// A node's durable record of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerRecord {
    /// The identity of the peer's data folder.
    pub store_id: StoreId,
    /// The latest incarnation that this node has seen on that folder.
    pub incarnation: Incarnation,
}

/// A data folder's metadata: everything that it keeps beside the records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meta {
    /// The folder's random identity.
    pub store_id: StoreId,
    /// The greatest durable epoch; 0 in a fresh folder.
    pub epoch: u64,
    /// The incarnations on this folder, ascending. They prove to a peer that this is the folder it knows, and not an older
    /// copy of it.
    pub incarnations: Vec<Incarnation>,
    /// Whether every other node has recorded this store id. A cluster is bootstrapped once.
    pub bootstrapped: bool,
    /// The peers that this node has recorded, by the names under which they write.
    pub peers: BTreeMap<NodeId, PeerRecord>,
    /// The node's count of the time that it ran, as it was persisted last. Absent until the first value with a time to live.
    pub running: Option<RunningTime>,
    /// The tables that were dropped. It refuses all operations on them for good.
    pub dropped: BTreeSet<TableId>,
    /// The clock up to which the node takes in no new writes; `None` before the first fence.
    pub fence: Option<Clock>,
    /// The slots that were sealed: all replicas of such a slot once held the same of everything up to that clock.
    pub seals: BTreeMap<Slot, Clock>,
    /// The configuration that the node has adopted; `None` before the first change of members.
    pub configuration: Option<Arc<Configuration>>,
    /// Its part in the last vote on a configuration.
    pub vote: Option<Vote>,
    /// How far it has taken over the slots that it gains, or had to.
    pub taken_over: Option<TakenOver>,
}

impl Meta {
    /// The metadata of a fresh folder: its identity alone.
    #[must_use]
    pub fn fresh(store_id: StoreId) -> Self {
        Self {
            store_id,
            epoch: 0,
            incarnations: Vec::new(),
            bootstrapped: false,
            peers: BTreeMap::new(),
            running: None,
            dropped: BTreeSet::new(),
            fence: None,
            seals: BTreeMap::new(),
            configuration: None,
            vote: None,
            taken_over: None,
        }
    }
}
