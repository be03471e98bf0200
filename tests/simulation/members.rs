//! Members that change under faults: nodes that wait, join, leave, and lose their disks.
//!
//! Each node has its own indexes of the others. Here a host's index is its machine's, and messages are translated where they
//! leave and where they arrive, as the server's shell does by links.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate::protocol::placement::Placement;
use quorate::protocol::{
    Input, Layout, MembersChange, Message, Node, Reply, RequestId, Time, Unready, WishedMember, WishedMembers,
};
use quorate::types::{ClusterParameters, Configuration, Incarnation, Member, NodeId, NodeIndex, Site, Slot, StoreId};

use crate::disk::Disk;
use crate::sites::{self, Sites};
use crate::world::{Event, Phase, World, random_identity};

/// The members of all seeds from here on change, up to the first one with weights and zones. From there on, two of four
/// change members, those included that nobody has seen.
pub const FIRST_SEED: u64 = 2_000_000;
/// Operators' requests are numbered from here: they are no part of histories.
const ORDERS_FROM: u64 = 1 << 60;
/// How long an operator waits for an answer.
const ORDER_TIME: Duration = Duration::from_secs(4);
/// How often the operator looks once all faults have stopped.
const OPERATOR_EVERY: u64 = 1_000_000;
/// How long the world gets to recover where members change.
pub const RECOVERY: u64 = 60_000_000;

/// Whether the members of a seed's cluster change.
pub fn change(seed: u64) -> bool {
    seed >= FIRST_SEED && (seed < sites::FIRST_SEED || seed % 4 >= 2)
}

/// What is kept of changes.
#[derive(Default)]
pub struct Changes {
    pub is_on: bool,
    /// The machine of each process that ever ran.
    machines: BTreeMap<Incarnation, NodeIndex>,
    /// The orders given so far, and to whom.
    orders: u64,
}

impl Changes {
    pub fn of(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }
}

pub fn id_of(host: NodeIndex) -> NodeId {
    NodeId::new(&(host.0 + 1).to_string()).expect("a number is an id")
}

fn address_of(host: NodeIndex) -> Arc<str> {
    format!("h:{}", host.0).into()
}

fn host_at(address: &str) -> Option<NodeIndex> {
    address.strip_prefix("h:")?.parse().ok().map(NodeIndex)
}

impl World {
    /// The cluster file of a machine, and the machine's index there: those that come later list themselves.
    pub fn file_of(&self, host: NodeIndex) -> (Arc<Placement>, NodeIndex, Vec<Arc<str>>) {
        let first = self.placement.parameters();
        if !self.changes.is_on {
            return (Arc::clone(&self.placement), host, Vec::new());
        }
        let mut hosts: Vec<NodeIndex> = first.members().collect();
        if host.index() >= hosts.len() {
            hosts.push(host);
        }
        let me = hosts.iter().position(|other| *other == host).expect("a file lists its own node");
        let node_ids = hosts.iter().map(|host| id_of(*host)).collect();
        let sites = hosts.iter().map(|host| Sites::of(self.plan.seed).of_host(host.index())).collect();
        let placement = Placement::new(ClusterParameters { node_ids, sites, ..*first });
        let addresses = hosts.iter().map(|host| address_of(*host)).collect();
        (Arc::new(placement), NodeIndex(u16::try_from(me).expect("there are few")), addresses)
    }

    pub fn runs_as(&mut self, host: NodeIndex, incarnation: Incarnation) {
        if self.changes.is_on {
            self.changes.machines.insert(incarnation, host);
        }
    }

    /// The machine that a message of `from` goes to.
    pub fn machine_of(&self, from: NodeIndex, to: NodeIndex, to_incarnation: Option<Incarnation>) -> Option<NodeIndex> {
        if !self.changes.is_on {
            return Some(to);
        }
        if let Some(incarnation) = to_incarnation {
            return self.changes.machines.get(&incarnation).copied();
        }
        let node = self.hosts[from.index()].node.as_ref()?;
        host_at(node.layout().nodes()[to.index()].address.as_ref()?)
    }

    /// The index that the node at `at` has of the sender of a message.
    pub fn index_at(
        &mut self,
        at: NodeIndex,
        from: NodeIndex,
        from_incarnation: Incarnation,
        message: &Message,
    ) -> Option<NodeIndex> {
        if !self.changes.is_on {
            return Some(from);
        }
        let now = self.time_of(at, self.now);
        let machine = &mut self.hosts[at.index()];
        let node = machine.node.as_mut()?;
        if let Message::Hello(hello) | Message::Welcome(hello) = message {
            let index = node.introduce(hello, now);
            machine.senders.insert(from_incarnation, index);
            return Some(index);
        }
        machine.senders.get(&from_incarnation).copied().or_else(|| indexes_of(node, from).last().copied())
    }

    /// The transport of `host` is told that its links to `peer` are up or down.
    pub fn linked(&mut self, host: NodeIndex, peer: NodeIndex, up: bool) {
        let run = self.hosts[host.index()].run;
        let indexes = match &self.hosts[host.index()].node {
            Some(node) if self.changes.is_on => indexes_of(node, peer),
            _ => vec![peer],
        };
        for index in indexes {
            let input = if up { Input::Linked(index) } else { Input::Unlinked(index) };
            self.input(host, run, input);
        }
    }

    /// A node whose disk was lost is another member in the same place once a configuration lists its new folder. One that died as soon
    /// as that was durable is so from its next start on.
    pub fn may_take_its_place(&mut self, host: NodeIndex) {
        let machine = &mut self.hosts[host.index()];
        let store_id = machine.disk.folder.meta.store_id;
        let configuration = machine.node.as_ref().and_then(|node| node.layout().configuration());
        if machine.is_forgetful && configuration.is_some_and(|configuration| configuration.has(&id_of(host), store_id))
        {
            machine.is_forgetful = false;
            self.counters.count("a node took the place of one that lost its disk");
        }
    }

    /// A node has adopted a configuration.
    pub fn reconfigured(&mut self, host: NodeIndex, is_joint: bool) {
        self.counters.count(if is_joint {
            "a node adopted a joint configuration"
        } else {
            "a node adopted a new list"
        });
        let configuration = self.hosts[host.index()].node.as_ref().and_then(|node| node.layout().configuration());
        if configuration.is_some_and(|configuration| changes_sites(configuration)) {
            self.counters.count("a node adopted other weights or zones");
        }
        self.may_take_its_place(host);
        self.watch.may_be_emptied(host);
        for peer in self.members() {
            if peer != host {
                self.relink_if(host, peer, true);
            }
        }
    }

    // Orders.

    /// What an operator does next, now and then.
    pub fn next_change(&mut self) {
        if self.phase != Phase::Faults {
            return;
        }
        self.order_a_change();
        let wait = self.within(self.plan.change_every);
        self.plan_in(wait, Event::Change);
    }

    /// A member that serves.
    fn any_member(&mut self) -> Option<NodeIndex> {
        let mut members = self.members();
        self.random.shuffle(&mut members);
        members.into_iter().find(|host| {
            let node = self.hosts[host.index()].node.as_ref();
            node.is_some_and(|node| node.unready().is_none())
        })
    }

    fn order_a_change(&mut self) {
        if self.random.permille(200) && self.wipe() {
            return;
        }
        let Some(asked) = self.any_member() else { return };
        let now = self.time_of(asked, self.now);
        let Some(node) = &self.hosts[asked.index()].node else { return };
        let layout = node.layout().clone();
        if layout.is_joint() {
            if self.random.permille(250) {
                self.order(asked, MembersChange::TakeBack { expected: None });
            }
            return;
        }
        let waiting = waiting_at(node, now);
        let present: Vec<NodeIndex> = layout.members().to_vec();
        let mut wished: Vec<WishedMember> = present.iter().map(|index| wish(node, *index)).collect();
        let mut replica_count = layout.parameters().replica_count;
        let changes = if self.plan.seed < sites::FIRST_SEED { 5 } else { 8 };
        for _ in 0..self.random.count(1, 2) {
            match self.random.below(changes) {
                0 | 1 => {
                    if let Some((id, address, store_id)) =
                        (!waiting.is_empty()).then(|| self.random.pick(&waiting).clone())
                    {
                        wished.retain(|member| member.id != id);
                        let site =
                            if changes == 5 { Site::default() } else { sites::of_new(&mut self.random, &wished) };
                        wished.push(WishedMember { id, address, store_id: Some(store_id), site });
                    }
                }
                2 | 3 if wished.len() > 2 => {
                    let gone = self.random.below(wished.len());
                    wished.remove(gone);
                }
                5 | 6 => sites::weigh(&mut self.random, &mut wished),
                7 => sites::spread(&mut self.random, &mut wished),
                _ => replica_count = self.random.count(2, 5),
            }
        }
        replica_count = replica_count.min(wished.len());
        let wished = WishedMembers { replica_count, members: wished };
        self.order(asked, MembersChange::Change { expected: None, wished, is_forced: false });
    }

    fn order(&mut self, asked: NodeIndex, change: MembersChange) {
        self.changes.orders += 1;
        let id = RequestId(ORDERS_FROM + self.changes.orders);
        let deadline = self.time_of(asked, self.now).after(ORDER_TIME);
        let run = self.hosts[asked.index()].run;
        self.counters.count("an operator gave an order");
        self.input(asked, run, Input::ChangeMembers { id, deadline, change });
    }

    /// Whether a reply is an operator's.
    pub fn is_of_operator(&mut self, RequestId(id): RequestId, reply: &Reply) -> bool {
        if id < ORDERS_FROM {
            return false;
        }
        self.counters.count(match reply {
            Reply::Members { .. } => "an order was carried out",
            _ => "an order was refused",
        });
        true
    }

    /// A member loses its disk, and waits to take its own place. One at a time: two could be a majority.
    ///
    /// A node that replaces itself because its store is damaged is such a member, and needs no event of its own: to the protocol its
    /// disk is lost, at a better moment than these. Disks that cannot be read for a while stand for the damage before that.
    fn wipe(&mut self) -> bool {
        let members = self.members();
        let host = *self.random.pick(&members);
        let is_whole =
            self.hosts.iter().all(|host| !host.is_forgetful && host.disk.folder.meta.bootstrapped || host.joins);
        let layouts = self.hosts.iter().filter_map(|host| Some(host.node.as_ref()?.layout()));
        let least =
            layouts.flat_map(|layout| [layout.old(), layout.newest()].map(|of| of.parameters().replica_count)).min();
        let is_member = self.hosts[host.index()].node.as_ref().is_some_and(|node| node.membership().is_member());
        // One that has taken the place of another one is lost again where that change is taken back.
        let is_lost = |store_id| self.host_of_store(store_id).is_none();
        let configurations = self.hosts.iter().filter_map(|host| host.disk.folder.meta.configuration.as_ref());
        let any_lost = self.hosts.iter().any(|host| host.is_forgetful)
            || configurations.flat_map(|configuration| configuration.members()).any(|member| is_lost(member.store_id));
        if !is_whole || any_lost || !is_member || least.is_none_or(|least| least < 3) {
            return false;
        }
        self.crash(host, true);
        let store_id = random_identity(&mut self.random);
        let machine = self.host(host);
        machine.disk = Disk::empty(store_id);
        (machine.is_forgetful, machine.joins) = (true, true);
        self.watch.forget(host);
        self.counters.count("a member lost its disk");
        true
    }

    // The end.

    /// All faults have stopped: the operator ends what can never end by itself, and replaces what is lost.
    pub fn operate(&mut self) {
        if !self.changes.is_on || self.phase != Phase::Recovery {
            return;
        }
        self.plan_in(OPERATOR_EVERY, Event::Operate);
        let Some(asked) = self.any_member() else { return };
        let now = self.time_of(asked, self.now);
        let Some(node) = &self.hosts[asked.index()].node else { return };
        let layout = node.layout();
        let is_lost = |index: &NodeIndex| {
            let store_id = node.membership().store_of(*index);
            store_id.is_some_and(|store_id| self.host_of_store(store_id).is_none())
        };
        if layout.is_joint() {
            if layout.newest().members().iter().any(is_lost) {
                self.order(asked, MembersChange::TakeBack { expected: None });
            }
            return;
        }
        if !layout.members().iter().any(is_lost) {
            return;
        }
        let waiting = waiting_at(node, now);
        let instead = |index: &NodeIndex| {
            let id = layout.id(*index);
            let found = waiting.iter().find(|(other, ..)| is_lost(index) && other == id);
            found.map_or_else(
                || wish(node, *index),
                |(id, address, store_id)| WishedMember {
                    id: id.clone(),
                    address: Arc::clone(address),
                    store_id: Some(*store_id),
                    site: layout.site(*index),
                },
            )
        };
        let members = layout.members().iter().map(instead).collect();
        let wished = WishedMembers { replica_count: layout.parameters().replica_count, members };
        self.order(asked, MembersChange::Change { expected: None, wished, is_forced: false });
    }

    fn host_of_store(&self, store_id: StoreId) -> Option<NodeIndex> {
        let found = self.hosts.iter().position(|host| host.disk.folder.meta.store_id == store_id)?;
        Some(NodeIndex(u16::try_from(found).expect("there are few")))
    }

    /// The newest layout that any node has.
    pub fn newest_layout(&self) -> Option<&Layout> {
        let layouts =
            self.hosts.iter().filter_map(|host| host.node.as_ref()).filter(|node| node.membership().is_member());
        layouts.map(Node::layout).max_by_key(|layout| layout.number())
    }

    /// The machines of the replicas of a slot.
    pub fn replicas_of(&self, slot: Slot) -> Vec<NodeIndex> {
        match self.newest_layout().filter(|_| self.changes.is_on) {
            None => self.placement.replicas(slot).to_vec(),
            Some(layout) => {
                let replicas = layout.replicas(slot).iter();
                replicas.filter_map(|index| host_at(layout.nodes()[index.index()].address.as_ref()?)).collect()
            }
        }
    }

    /// Whether the machine is a member in the end, once nothing changes any more.
    pub fn is_member_in_the_end(&mut self, host: NodeIndex) -> bool {
        if !self.changes.is_on {
            return true;
        }
        let Some(layout) = self.newest_layout() else { return false };
        let (number, is_joint) = (layout.number(), layout.is_joint());
        let machine = &self.hosts[host.index()];
        let Some(node) = &machine.node else { return false };
        let store_id = machine.disk.folder.meta.store_id;
        let is_member = match layout.configuration() {
            Some(configuration) => configuration.has(&id_of(host), store_id),
            None => host.index() < self.placement.parameters().node_ids.len(),
        };
        if is_joint {
            let report = format!("{:?}", node.members_report(self.time_of(host, self.now)));
            self.is_stuck(format!(
                "members still change once all faults have stopped: configuration {number}, {report}"
            ));
        } else if is_member && node.layout().number() != number {
            let own = node.layout().number();
            self.is_stuck(format!("{host:?} has configuration {own}, while others have {number}"));
        }
        is_member
    }

    /// The machines that serve in the end, and how many of them may die.
    pub fn serves_in_the_end(&mut self) {
        if !self.changes.is_on {
            return;
        }
        let members = self.members();
        let mut asked = Vec::new();
        for host in members {
            if self.is_member_in_the_end(host) {
                asked.push(host);
            }
        }
        self.asked = asked;
        let count = self.newest_layout().map_or(1, |layout| layout.parameters().replica_count);
        self.plan.losses_max = (count - 1) / 2;
    }
}

/// The indexes that a node has of the machine `peer`: one for each data folder that it had.
fn indexes_of(node: &Node, peer: NodeIndex) -> Vec<NodeIndex> {
    let nodes = node.layout().nodes().iter().enumerate();
    let is_it = |address: &Arc<str>| host_at(address) == Some(peer);
    let found = nodes.filter(|(_, known)| known.address.as_ref().is_some_and(is_it)).map(|(index, _)| index);
    let found = found.map(|index| NodeIndex(u16::try_from(index).expect("there are few")));
    found.filter(|index| *index != node.me()).collect()
}

/// Whether a joint configuration gives a member another weight or zone.
fn changes_sites(configuration: &Configuration) -> bool {
    let Some(new) = &configuration.new else { return false };
    let stays = |member: &Member| new.of_id(&member.id).is_some_and(|after| after.site != member.site);
    configuration.old.members.iter().any(stays)
}

fn wish(node: &Node, index: NodeIndex) -> WishedMember {
    let known = &node.layout().nodes()[index.index()];
    WishedMember {
        id: known.id.clone(),
        address: known.address.clone().expect("a member has an address"),
        store_id: node.membership().store_of(index),
        site: node.layout().site(index),
    }
}

fn waiting_at(node: &Node, now: Time) -> Vec<(NodeId, Arc<str>, StoreId)> {
    let waiting = node.members_report(now).waiting;
    waiting.into_iter().map(|node| (node.id, node.address, node.store_id)).collect()
}

/// Whether a node that is no member says so.
pub fn says_it_is_none(unready: Option<&Unready>) -> bool {
    matches!(unready, Some(Unready::Waiting | Unready::Removed))
}
