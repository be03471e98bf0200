//! What a node knows of itself and its peers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::protocol::io::Time;
use crate::protocol::message::HelloRefusal;
use crate::types::{ClusterId, ClusterParameters, Incarnation, NodeId, NodeIndex, StoreId};

use super::peer::Peer;

/// Whether this node may serve. In the order of what is reported where several hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Readiness {
    /// Its peers refuse the node as a whole.
    Refused(HelloRefusal),
    /// It waits to become a member.
    Waiting,
    /// It was a member, and is none any more.
    Removed,
    /// The epoch of this incarnation is not durable yet.
    Starting,
    /// Some node has not recorded this one yet.
    Bootstrapping,
    /// It was told to end.
    Draining,
    Ready,
}

/// This node's identity, and how it stands to its peers.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most combinations occur")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    pub(super) me: NodeIndex,
    pub(super) id: NodeId,
    /// What the cluster file says.
    pub(super) parameters: ClusterParameters,
    /// Where others reach this node.
    pub(super) address: Option<Arc<str>>,
    pub(super) store_id: StoreId,
    pub(super) incarnation: Incarnation,
    pub(super) earlier_incarnations: Arc<[Incarnation]>,
    /// The epoch of this incarnation is durable.
    pub(super) started: bool,
    /// Every other node has recorded this one: durable.
    pub(super) bootstrapped: bool,
    pub(super) draining: bool,
    /// Known once the first members have met.
    pub(super) cluster: Option<ClusterId>,
    /// The number of the configuration that this node has adopted.
    pub(super) number: u64,
    /// Whether this node is a member.
    pub(super) is_member: bool,
    /// All other nodes that are known, the members among them.
    pub(super) peers: BTreeMap<NodeIndex, Peer>,
    /// Derived from the fields above.
    pub(super) readiness: Readiness,
    /// Derived from the peers: the time of the next hello.
    pub(super) next_hello: Option<Time>,
}
