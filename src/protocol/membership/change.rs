//! Members that change, and nodes that are none: who is known under which index, and who waits to become a member.

use std::sync::Arc;

use crate::limits::STRANGERS_MAX;
use crate::protocol::context::{NodeCtx, PendingAck};
use crate::protocol::group_commit::GroupCommit;
use crate::protocol::io::Time;
use crate::protocol::layout::{KnownNode, Layout};
use crate::protocol::message::{Hello, Message};
use crate::types::{ClusterId, Configuration, Incarnation, Member, Meta, NodeId, NodeIndex, PeerRecord, StoreId};

use super::peer::{Peer, WaitingNode};
use super::state::Membership;

impl Membership {
    /// Whether this node is a member.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.is_member
    }

    /// The cluster, once its first members have met.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// The identity of this node's data folder.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// The identity of the data folder of `node`, as far as it is known.
    #[must_use]
    pub fn store_of(&self, node: NodeIndex) -> Option<StoreId> {
        if node == self.me { Some(self.store_id) } else { self.peers.get(&node)?.known_store() }
    }

    /// The incarnation of `node` that configurations are told to: the one that this node talks to, or was heard last.
    #[must_use]
    pub fn heard_from(&self, node: NodeIndex) -> Option<Incarnation> {
        self.talking_to(node).or_else(|| self.peers.get(&node)?.heard)
    }

    /// The nodes that wait to become members, and were heard since `since`.
    pub fn waiting(&self, since: Time) -> impl Iterator<Item = WaitingNode> + '_ {
        self.peers.iter().filter(move |(_, peer)| !peer.is_member && peer.heard_at >= since).filter_map(
            |(node, peer)| {
                let (id, store_id, address) = (peer.id.clone(), peer.store_id?, peer.joins.clone()?);
                Some(WaitingNode { node: *node, id, store_id, address, heard_at: peer.heard_at })
            },
        )
    }

    /// The node of this id with this data folder, where it is known.
    #[must_use]
    pub fn index_of(&self, id: &NodeId, store_id: StoreId) -> Option<NodeIndex> {
        if *id == self.id && store_id == self.store_id {
            return Some(self.me);
        }
        let is = |(_, peer): &(&NodeIndex, &Peer)| peer.id == *id && peer.known_store() == Some(store_id);
        self.peers.iter().find(is).map(|(node, _)| *node)
    }

    /// The index of the node that says this hello. One that is not known gets an index, perhaps that of another one that is no
    /// member and was not heard for longest.
    pub fn introduce(&mut self, hello: &Hello, now: Time, layout: &mut Arc<Layout>) -> NodeIndex {
        let known = self.index_of(&hello.node_id, hello.store_id).or_else(|| {
            // A member that nobody has met yet, or one that has lost its folder.
            let is_it = |peer: &Peer| {
                let may_be = peer.known_store().is_none() || hello.joins.is_none();
                peer.id == hello.node_id && peer.is_member && may_be
            };
            let found = || self.peers.iter().find(|(_, peer)| is_it(peer)).map(|(node, _)| *node);
            // A node that waits knows of the others what its file says.
            let of_file = || self.peers.iter().find(|(_, peer)| peer.id == hello.node_id && peer.store_id.is_none());
            found().or_else(|| of_file().map(|(node, _)| *node).filter(|_| !self.is_member))
        });
        let node = known.unwrap_or_else(|| {
            let strangers = self.peers.iter().filter(|(_, peer)| !peer.is_member && peer.store_id.is_some());
            let oldest = strangers.clone().min_by_key(|(_, peer)| peer.heard_at).map(|(node, _)| *node);
            let node = if strangers.count() < STRANGERS_MAX { None } else { oldest };
            let node = node.unwrap_or_else(|| next_index(layout.nodes().len()));
            Arc::make_mut(layout).know(node, KnownNode::of_id(hello.node_id.clone()));
            self.peers.insert(node, Peer::new(hello.node_id.clone(), None, false));
            node
        });
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard = Some(hello.incarnation);
        }
        if let Some(peer) = self.peers.get_mut(&node).filter(|peer| !peer.is_member) {
            peer.store_id = Some(hello.store_id);
            peer.heard_at = now;
            peer.joins.clone_from(&hello.joins);
        }
        node
    }

    /// Tells a peer of a newer configuration, or asks it for one.
    pub(super) fn tell_configurations(&self, peer: NodeIndex, hello: &Hello, ctx: &mut NodeCtx<'_>) {
        let is_same = self.cluster.is_none() || hello.cluster.is_none() || self.cluster == hello.cluster;
        if !is_same {
            return;
        }
        if hello.number > self.number {
            ctx.send(peer, Some(hello.incarnation), Message::ConfigurationWanted);
        } else if hello.number < self.number
            && let Some(configuration) = ctx.layout.configuration()
        {
            ctx.send(peer, Some(hello.incarnation), Message::Configuration(Arc::clone(configuration)));
        }
    }

    /// The layout under `configuration`, which this node is about to adopt: every member has its index.
    #[must_use]
    pub fn layout_under(&self, configuration: &Arc<Configuration>, layout: &Layout) -> Layout {
        let mut nodes = layout.nodes().to_vec();
        let mut indexes = Vec::new();
        for member in configuration.members() {
            let node = self.index_for(member, &indexes).unwrap_or_else(|| next_index(nodes.len()));
            let (id, writer, address) = (member.id.clone(), member.writer(), Some(Arc::clone(&member.address)));
            let known = KnownNode { id, writer, address };
            if node.index() == nodes.len() {
                nodes.push(known);
            } else {
                nodes[node.index()] = known;
            }
            indexes.push((member.clone(), node));
        }
        let index_of = |wanted: &Member| {
            let found = indexes.iter().find(|(member, _)| member.is(wanted));
            found.map(|(_, node)| *node).expect("each member of a configuration has an index")
        };
        layout.under(Arc::clone(configuration), nodes, index_of)
    }

    /// The index of a member, where the node is known. `taken` are the indexes of other members.
    fn index_for(&self, member: &Member, taken: &[(Member, NodeIndex)]) -> Option<NodeIndex> {
        self.index_of(&member.id, member.store_id).or_else(|| {
            let is_free = |node: &NodeIndex| !taken.iter().any(|(_, other)| other == node);
            let is_it = |peer: &Peer| peer.id == member.id && peer.known_store().is_none();
            self.peers.iter().find(|(node, peer)| is_it(peer) && is_free(node)).map(|(node, _)| *node)
        })
    }

    /// Adds to the batch that adopts the configuration of `layout` the records of those that become members and were heard
    /// already. Then the two can talk after one message each way. Clients wait for them meanwhile.
    pub fn record_new(&mut self, layout: &Layout, group_commit: &mut GroupCommit<PendingAck>) {
        let Some(configuration) = layout.configuration() else { return };
        for (node, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.is_member && peer.recorded.is_none()) {
            let is_it = |member: &&Member| member.id == peer.id && Some(member.store_id) == peer.store_id;
            if let Some(member) = configuration.members().find(is_it)
                && let Some(incarnation) = peer.heard
                && layout.is_member(*node)
            {
                let record = PeerRecord { store_id: member.store_id, incarnation };
                group_commit.add_peer(member.writer(), record);
                // Peers are recorded by the names under which they write.
                (peer.writer, peer.recording) = (member.writer(), Some(record));
            }
        }
    }

    /// The configuration of `layout` is adopted. `recorded` are the peers that this node has recorded earlier, by the names under
    /// which they write.
    pub fn reconfigure(&mut self, layout: &Layout, meta: Option<&Meta>) {
        let Some(configuration) = layout.configuration() else { return };
        self.number = configuration.number;
        self.cluster = Some(configuration.cluster);
        self.is_member = configuration.has(&self.id, self.store_id);
        self.bootstrapped |= self.is_member;
        // Their records became durable with the configuration.
        let is_new = |peer: &Peer| !peer.is_member && peer.recording.is_some();
        for peer in self.peers.values_mut().filter(|peer| is_new(peer)) {
            peer.recorded = peer.recording.take();
        }
        for peer in self.peers.values_mut() {
            peer.is_member = false;
        }
        for node in layout.members().iter().copied().filter(|node| *node != self.me) {
            let Some(member) = configuration.members().find(|member| member.writer() == *layout.writer(node)) else {
                continue;
            };
            let peer = self.peers.entry(node).or_insert_with(|| Peer::new(member.id.clone(), None, true));
            // Peers are recorded by the names under which they write. One that was removed and comes again has another name.
            let recorded = peer.recorded.filter(|_| peer.writer == member.writer());
            let known = recorded.or_else(|| meta.and_then(|meta| meta.peers.get(&member.writer()).copied()));
            peer.recorded = known.filter(|record| record.store_id == member.store_id);
            peer.writer = member.writer();
            peer.store_id = Some(member.store_id);
            (peer.is_member, peer.joins) = (true, None);
            peer.admit();
            if !self.is_member {
                peer.wait_again();
            }
        }
        self.refresh();
    }

    /// The id of the cluster that the members of this node's file have begun, once the folders of all are known.
    pub(in crate::protocol) fn first_members(&self) -> Option<ClusterId> {
        let store_of = |member: NodeIndex| self.store_of(member);
        let store_ids: Option<Vec<StoreId>> = self.parameters.members().map(store_of).collect();
        Some(ClusterId::of(&self.parameters, store_ids?)).filter(|_| self.number == 0 && self.is_member)
    }
}

fn next_index(known: usize) -> NodeIndex {
    NodeIndex(u16::try_from(known).expect("a node hears of few nodes in its life"))
}
