//! Nodes, and what all nodes of a cluster have in common.

use std::fmt;
use std::sync::Arc;

/// The longest node id, in characters.
pub const NODE_ID_BYTES_MAX: usize = 64;

/// A node's name: 1 to [`NODE_ID_BYTES_MAX`] printable ASCII characters without spaces or commas. Ids are ordered by their
/// bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

/// Why a text is not a [`NodeId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdError {
    /// The text is empty.
    #[error("a node id is empty: give it 1 to {NODE_ID_BYTES_MAX} characters")]
    Empty,
    /// The text has more than [`NODE_ID_BYTES_MAX`] characters.
    #[error("node id {id:?} has {} characters: at most {NODE_ID_BYTES_MAX} are accepted", id.len())]
    TooLong {
        /// The text as it was given.
        id: String,
    },
    /// The text holds a space, a comma, or a character that is not printable ASCII.
    #[error("node id {id:?} holds {character:?}: printable ASCII without spaces and commas is accepted")]
    Character {
        /// The text as it was given.
        id: String,
        /// The first such character.
        character: char,
    },
}

impl NodeId {
    /// Checks `id` and takes it as a node's name.
    ///
    /// # Errors
    /// When `id` is empty, too long, or holds a character that tables and logs could not show unambiguously.
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

    /// The name under which the node writes that came with the configuration of this number: its id where that is the first,
    /// and else the id, a comma and the number. An id has no comma.
    #[must_use]
    pub fn writer_since(&self, number: u64) -> Self {
        if number == 0 { self.clone() } else { Self(format!("{},{number}", self.0).into()) }
    }

    /// Checks `name` and takes it as the name under which a node writes.
    ///
    /// # Errors
    /// When no node writes under it.
    pub fn of_writer(name: &str) -> Result<Self, NodeIdError> {
        let Some((id, number)) = name.split_once(',') else { return Self::new(name) };
        let no_name = || NodeIdError::Character { id: name.to_owned(), character: ',' };
        let number: u64 = number.parse().map_err(|_| no_name())?;
        let writer = Self::new(id)?.writer_since(number);
        if writer.as_str() == name { Ok(writer) } else { Err(no_name()) }
    }

    /// The id of no node: below all others. It stands in stamps that no node drew.
    #[must_use]
    pub fn none() -> Self {
        Self("".into())
    }

    /// The id as it stands in cluster.yml, logs and tables.
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

/// A node's number in its cluster: the index of its id among all ids in ascending order.
///
/// It names peers inside one process only, where copying it is cheap. On the wire and on disk a node has its [`NodeId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u16);

impl NodeIndex {
    /// The number as an index into arrays that hold one element for each node.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The settings that must be the same on all nodes of a cluster, because placement and majorities follow from them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterParameters {
    /// The seed of every placement hash. Another seed places every key elsewhere.
    pub seed: u32,
    /// The number of nodes that hold each slot: 1 to the number of nodes.
    pub replica_count: usize,
    /// Each node's first epoch is above it. A new cluster that takes over the keys of another one begins above all clocks of
    /// that one, so that no version is given twice.
    pub epoch_floor: u64,
    /// The ids of all nodes, ascending and distinct.
    pub node_ids: Vec<NodeId>,
}

impl ClusterParameters {
    /// The index of the node with this id; `None` when the cluster has no such node.
    #[must_use]
    pub fn member(&self, id: &NodeId) -> Option<NodeIndex> {
        let index = self.node_ids.binary_search(id).ok()?;
        Some(NodeIndex(u16::try_from(index).expect("NODES_MAX keeps every index within a u16")))
    }

    /// The id of the node with this index.
    ///
    /// # Panics
    /// When the cluster has no such index.
    #[must_use]
    pub fn id(&self, member: NodeIndex) -> &NodeId {
        &self.node_ids[member.index()]
    }

    /// The indexes of all nodes, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..u16::try_from(self.node_ids.len()).expect("NODES_MAX keeps every index within a u16")).map(NodeIndex)
    }
}
