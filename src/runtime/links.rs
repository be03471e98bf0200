//! The links that a node opens: to all members, as the layout has them, and to where its cluster file says that nodes are.
//!
//! Contract: a link leads to one node, and follows its address. Where the node is no member, or too few members answer, the
//! addresses of the cluster file are tried too: its own knowledge of the members may be old.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::peer::{Addresses, HttpAddresses, Link, Outbox};
use crate::protocol::Layout;
use crate::tls::Trust;
use crate::types::{Incarnation, NodeId, NodeIndex};

use super::event::Event;

/// The links that this node opens.
pub(super) struct Links {
    pub(super) me: NodeIndex,
    pub(super) incarnation: Incarnation,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) http_addresses: Arc<HttpAddresses>,
    pub(super) trust: Arc<Trust>,
    pub(super) tracker: TaskTracker,
    pub(super) end: CancellationToken,
    /// The nodes of the cluster file, and where it says that they are.
    pub(super) of_file: BTreeMap<NodeId, Arc<str>>,
    pub(super) open: BTreeMap<NodeIndex, OpenLink>,
    /// The number of the last link.
    pub(super) last: u64,
}

/// A link that is open.
pub(super) struct OpenLink {
    pub(super) number: u64,
    pub(super) outbox: Arc<Outbox>,
    tried: Vec<Arc<str>>,
    addresses: Arc<Addresses>,
    end: CancellationToken,
}

impl Links {
    /// Opens and closes links, so that there is one to each node that is to have one. `waiting` are the nodes that wait to become
    /// members, and where they are: once they are members, clients wait for the link. `searches`: the nodes of the cluster file
    /// are tried too that are no members. Returns the nodes whose link was closed; some of them have another one now.
    ///
    /// # Panics
    /// When it is called outside a runtime of tokio.
    pub(super) fn follow(
        &mut self,
        layout: &Layout,
        waiting: &BTreeMap<NodeIndex, Arc<str>>,
        searches: bool,
    ) -> Vec<NodeIndex> {
        let wanted = self.wanted(layout, waiting, searches);
        let mut closed = Vec::new();
        self.open.retain(|node, link| {
            let stays = wanted.get(node).is_some_and(|addresses| addresses.first() == link.tried.first());
            if !stays {
                link.end.cancel();
                closed.push(*node);
            }
            stays
        });
        for (node, addresses) in wanted {
            match self.open.get_mut(&node) {
                Some(link) if link.tried != addresses => {
                    link.addresses.replace(addresses.clone());
                    link.tried = addresses;
                }
                Some(_) => {}
                None => self.open_to(node, layout.id(node).clone(), addresses),
            }
        }
        closed
    }

    /// The addresses of each node that is to have a link.
    fn wanted(
        &self,
        layout: &Layout,
        waiting: &BTreeMap<NodeIndex, Arc<str>>,
        searches: bool,
    ) -> BTreeMap<NodeIndex, Vec<Arc<str>>> {
        let own = [self.of_file.get(layout.id(self.me)), layout.nodes()[self.me.index()].address.as_ref()];
        let is_member_id = |id: &NodeId| layout.member(id).is_some();
        // A node that lost its disk takes its own place: at the address of the member that goes is the one that comes. Two links
        // from here to one process would end each other.
        let owner = |address: &Arc<str>| {
            let is_there = |node: &&NodeIndex| layout.nodes()[node.index()].address.as_ref() == Some(address);
            layout.newest().members().iter().find(is_there).or_else(|| layout.members().iter().find(is_there)).copied()
        };
        let addresses_of = |node: NodeIndex| {
            let known = &layout.nodes()[node.index()];
            let by_layout = known.address.as_ref().filter(|_| layout.is_member(node));
            let is_ids_tried = searches && !is_member_id(&known.id);
            let by_file = self.of_file.get(&known.id).filter(|_| by_layout.is_some() || is_ids_tried);
            let as_waiting = waiting.get(&node).filter(|_| !layout.is_member(node));
            let mut addresses: Vec<Arc<str>> =
                by_layout.into_iter().chain(as_waiting).chain(by_file).cloned().collect();
            addresses.dedup();
            addresses
                .retain(|address| !own.contains(&Some(address)) && owner(address).is_none_or(|owner| owner == node));
            addresses
        };
        let nodes = (0..layout.nodes().len()).filter_map(|index| u16::try_from(index).ok().map(NodeIndex));
        let others = nodes.filter(|node| *node != self.me);
        let mut wanted: BTreeMap<NodeIndex, Vec<Arc<str>>> = BTreeMap::new();
        let mut ids_tried: Vec<&NodeId> = Vec::new();
        for node in others {
            let (addresses, id) = (addresses_of(node), layout.id(node));
            // Several nodes that are no members may have one id. The file has one address for it, and one link leads there.
            if addresses.is_empty() || !layout.is_member(node) && ids_tried.contains(&id) {
                continue;
            }
            ids_tried.push(id);
            wanted.insert(node, addresses);
        }
        wanted
    }

    fn open_to(&mut self, peer: NodeIndex, id: NodeId, tried: Vec<Arc<str>>) {
        self.last += 1;
        let outbox = Outbox::new(self.incarnation, Arc::clone(&self.metrics));
        let (addresses, end) = (Addresses::new(tried.clone()), self.end.child_token());
        let dialer = self.trust.dialer(&id);
        let link = Link {
            peer,
            id,
            addresses: Arc::clone(&addresses),
            number: self.last,
            outbox: Arc::clone(&outbox),
            events: self.events.clone(),
            http_addresses: Arc::clone(&self.http_addresses),
            dialer,
        };
        self.tracker.spawn(link.run(end.clone()));
        self.open.insert(peer, OpenLink { number: self.last, outbox, tried, addresses, end });
    }
}
