//! What tests do with configurations.

use std::sync::Arc;
use std::time::Duration;

use quorate::protocol::members::{MembersAnswer, MembersRequest};
use quorate::protocol::placement::Placement;
use quorate::protocol::rate::Rate;
use quorate::protocol::{
    Answer, Command, Input, MembersChange, Message, Request, RequestId, WishedMember, WishedMembers,
};
use quorate::types::{
    Checksum, ClusterParameters, Configuration, Content, Key, Lookup, Member, MemberList, NodeId, NodeIndex, ReadKind,
    Record, Site, TableId, Value,
};

use super::{Cluster, Host, OPERATORS_FROM, Sent};

/// Where each node says that it is reached.
pub const ADDRESS: &str = "h:1";

/// Some members, and how many of them hold each slot.
type List<'a> = (&'a [NodeIndex], usize);

impl Sent {
    /// The question about members that it asks.
    fn asks_members(&self) -> Option<&MembersRequest> {
        match &self.message {
            Message::Request { request: Request::Members(request), .. } => Some(request),
            _ => None,
        }
    }

    /// The answer about members that it gives.
    fn tells_of_members(&self) -> Option<&MembersAnswer> {
        match &self.message {
            Message::Answer { answer: Answer::Members(answer), .. } => Some(answer),
            _ => None,
        }
    }

    /// Whether it is part of a vote on a configuration.
    pub fn votes(&self) -> bool {
        matches!(self.asks_members(), Some(MembersRequest::Prepare { .. } | MembersRequest::Accept { .. }))
            || matches!(
                self.tells_of_members(),
                Some(MembersAnswer::Promised { .. } | MembersAnswer::Accepted | MembersAnswer::Preempted { .. })
            )
    }

    /// Whether it asks for records to take over.
    pub fn lists_to_take_over(&self) -> bool {
        matches!(self.asks_members(), Some(MembersRequest::Records { .. }))
    }

    /// Whether it asks for what a node must know that takes slots over, or for records, or answers one of these.
    pub fn is_for_taking_over(&self) -> bool {
        self.lists_to_take_over()
            || matches!(self.asks_members(), Some(MembersRequest::Floors { .. }))
            || matches!(self.tells_of_members(), Some(MembersAnswer::Floors { .. } | MembersAnswer::Records(_)))
    }

    /// The dropped tables that it names to a node that takes slots over.
    pub fn dropped_tables_told(&self) -> Option<usize> {
        match self.tells_of_members() {
            Some(MembersAnswer::Floors { dropped, .. }) => Some(dropped.len()),
            _ => None,
        }
    }

    /// Whether it asks for a digest of what a replica holds, and not for the record.
    pub fn asks_for_digest(&self) -> bool {
        matches!(self.message, Message::Request { request: Request::Get { read_kind: ReadKind::Digest, .. }, .. })
    }

    /// Whether it asks for the record of a replica, after it was told what the replicas hold.
    pub fn asks_for_content(&self) -> bool {
        let asks =
            matches!(self.message, Message::Request { request: Request::Get { read_kind: ReadKind::Data, .. }, .. });
        asks && self.asked_in_round() > Some(0)
    }

    /// The bytes of the value that it carries.
    pub fn value_bytes(&self) -> usize {
        let record = match &self.message {
            Message::Request { request: Request::Store { record, .. } | Request::Accept { record, .. }, .. } => record,
            Message::Answer { answer: Answer::Lookup { held, .. } | Answer::Promised { held, .. }, .. } => match held {
                Lookup::Record(record) => record,
                Lookup::Digest(_) | Lookup::Absent => return 0,
            },
            _ => return 0,
        };
        record.content.value_bytes()
    }

    /// Whether it asks something of a replica for an operation on one key.
    pub fn is_of_operation(&self) -> bool {
        matches!(
            self.message,
            Message::Request {
                request: Request::Get { .. } | Request::Prepare { .. } | Request::Store { .. } | Request::Accept { .. },
                ..
            }
        )
    }
}

impl Cluster {
    /// The configuration of this number: of these members, who change to `new` if there is one.
    pub fn configuration(&self, number: u64, old: List<'_>, new: Option<List<'_>>) -> Arc<Configuration> {
        let parameters = self.placement.parameters();
        let member = |node: &NodeIndex| Member {
            id: parameters.id(*node).clone(),
            store_id: self.hosts[node.index()].meta.store_id,
            since: 0,
            address: ADDRESS.into(),
            site: Site::default(),
        };
        let list = |(members, replica_count): List<'_>| MemberList {
            replica_count,
            members: members.iter().map(member).collect(),
        };
        let mut running = self.hosts.iter().filter_map(|host| host.node.as_ref());
        let cluster = running.find_map(|node| node.membership().cluster()).expect("all have met");
        let (seed, epoch_floor) = (parameters.seed, parameters.epoch_floor);
        Arc::new(Configuration { number, cluster, seed, epoch_floor, old: list(old), new: new.map(list) })
    }

    /// The joint configuration of this number under which `gone` leaves.
    pub fn leaves(&self, gone: NodeIndex, number: u64) -> Arc<Configuration> {
        let replica_count = self.placement.parameters().replica_count;
        let all = self.members();
        let stay: Vec<NodeIndex> = all.iter().copied().filter(|node| *node != gone).collect();
        self.configuration(number, (&all, replica_count), Some((&stay, replica_count)))
    }

    /// All of these are told a configuration that was chosen.
    pub fn adopt(&mut self, nodes: &[NodeIndex], configuration: &Arc<Configuration>) {
        for node in nodes {
            let mut others = self.members().into_iter().filter(|other| other != node && self.is_up(*other));
            let other = others.next().expect("another node runs");
            self.tells(other, *node, configuration);
            assert_eq!(self.number(*node), configuration.number, "node {node:?} has adopted it");
        }
    }

    /// The number of the configuration that a node has adopted.
    pub fn number(&self, node: NodeIndex) -> u64 {
        self.node(node).layout().number()
    }

    /// Whether a node has all that it takes over.
    pub fn has_taken_over(&self, node: NodeIndex) -> bool {
        self.node(node).members().own_progress().is_complete
    }

    /// An operator wants these members.
    pub fn change_members(&mut self, at: NodeIndex, (members, replica_count): List<'_>) -> usize {
        let parameters = self.placement.parameters();
        let member = |node: &NodeIndex| WishedMember {
            id: parameters.id(*node).clone(),
            address: ADDRESS.into(),
            store_id: None,
            site: Site::default(),
        };
        let wished = WishedMembers { replica_count, members: members.iter().map(member).collect() };
        self.tick += 1;
        let id = OPERATORS_FROM + OPERATORS_FROM + usize::try_from(self.tick).unwrap();
        let deadline = self.now.after(self.deadline);
        let change = MembersChange::Change { expected: None, wished, is_forced: true };
        self.input(at, Some(Input::ChangeMembers { id: RequestId(id as u64), deadline, change }));
        id
    }

    /// From now on the key is one of nodes 1, 2 and 3 that has the replicas `wanted` once these are the members.
    pub fn take_key_that_goes_to(&mut self, wanted: &[NodeIndex], (members, replica_count): List<'_>) {
        let parameters = self.placement.parameters();
        let node_ids: Vec<NodeId> = members.iter().map(|node| parameters.id(*node).clone()).collect();
        let after = Placement::new(ClusterParameters::plain(parameters.seed, replica_count, node_ids));
        let goes_there = |key: &Key| {
            let slot = self.placement.slot(key);
            let replicas: Vec<NodeIndex> = after.replicas(slot).iter().map(|place| members[place.index()]).collect();
            self.placement.replicas(slot).iter().all(|replica| replica.index() < 3)
                && wanted.iter().all(|node| replicas.contains(node))
        };
        let mut names = (0..).map(|n| Key::new(format!("moves{n}")).unwrap());
        let found = names.find(goes_there).unwrap();
        self.key = found;
    }

    /// So many tables were dropped long ago, as the folder of a node that does not run remembers.
    pub fn were_dropped_long_ago(&mut self, host: NodeIndex, count: u32) {
        let host = &mut self.hosts[host.index()];
        assert!(host.node.is_none(), "its folder is in use");
        host.meta.dropped.extend((1..=i64::from(count)).filter_map(TableId::of_creation));
    }

    /// The batch was lost that made it durable at a node that all have met.
    pub fn forgets_that_all_have_met(&mut self, host: NodeIndex) {
        let host = &mut self.hosts[host.index()];
        assert!(host.node.is_none(), "its folder is in use");
        host.meta.bootstrapped = false;
    }

    /// How many dropped tables the folder of a node remembers.
    pub fn dropped_tables(&self, host: NodeIndex) -> usize {
        self.hosts[host.index()].meta.dropped.len()
    }

    /// Lets everything happen among these nodes for so long.
    pub fn live_among(&mut self, span: Duration, among: &[NodeIndex]) {
        self.live_without(span, among, |_| false);
    }

    /// Both keys have values of so many bytes. They are no part of the history.
    pub fn fill_large(&mut self, at: NodeIndex, bytes: usize) {
        for key in [self.key.clone(), self.other_key.clone()] {
            let content = Content::Value(Value::Text("v".repeat(bytes).into()));
            let checksum = Checksum::of(&key, &content);
            self.tick += 1;
            let id = RequestId(3 * OPERATORS_FROM as u64 + self.tick);
            let (deadline, all) = (self.now.after(self.deadline), self.members());
            self.input(
                at,
                Some(Input::Request { id, deadline, command: Command::Set { key, content, ttl: None, checksum } }),
            );
            self.run(&all);
        }
    }

    /// The bytes of the key's value on a disk.
    pub fn value_bytes_on_disk(&self, host: NodeIndex) -> usize {
        self.on_disk(host).map_or(0, |record| record.content.value_bytes())
    }

    pub fn pace_takeover(&mut self, host: NodeIndex, rate: Rate) {
        self.input(host, Some(Input::PaceTakeover(rate)));
    }

    /// A node tells another one a configuration that was chosen.
    pub fn tells(&mut self, from: NodeIndex, to: NodeIndex, configuration: &Arc<Configuration>) {
        let (from_incarnation, to_incarnation) = (self.node(from).incarnation(), Some(self.node(to).incarnation()));
        let message = Message::Configuration(Arc::clone(configuration));
        self.arrives(Sent { from, to, message, from_incarnation, to_incarnation });
    }

    /// The batch that waits at this disk fails, and is not durable. The store takes writes again.
    pub fn fail_held_batch(&mut self, host: NodeIndex) {
        let meta = {
            let host = &mut self.hosts[host.index()];
            host.at_disk.take().expect("a batch waits");
            host.disk_is_held = false;
            host.meta.clone()
        };
        self.input(host, Some(Input::Persisted { durable: false }));
        self.input(host, Some(Input::StoreReopened(meta)));
    }

    /// A record of the key is on the disk of a node from an earlier time.
    pub fn leaves_on_disk(&mut self, host: NodeIndex, record: &Record) {
        let key = self.key.clone();
        let host = &mut self.hosts[host.index()];
        host.index.insert(key.clone());
        host.records.insert(key, record.clone());
    }

    /// A batch has emptied slots of a node.
    pub(super) fn empty(&mut self, host: NodeIndex, batch: &quorate::types::Batch) {
        let placement = Arc::clone(&self.placement);
        let is_emptied = |key: &Key| {
            let slot = placement.slot(key);
            batch.emptied.iter().any(|(first, last)| (*first..=*last).contains(&slot))
        };
        let Host { records, index, meta, .. } = &mut self.hosts[host.index()];
        records.retain(|key, _| !is_emptied(key));
        index.retain(|key| !is_emptied(key));
        meta.seals.retain(|slot, _| !batch.emptied.iter().any(|(first, last)| (*first..=*last).contains(slot)));
    }
}
