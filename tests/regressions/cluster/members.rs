//! What tests do with configurations.

use std::sync::Arc;

use quorate::protocol::{Input, Message};
use quorate::types::{Configuration, Key, Member, MemberList, NodeIndex, Record, Site};

use super::{Cluster, Host, Sent};

impl Cluster {
    /// The joint configuration of this number under which `gone` leaves.
    pub fn leaves(&self, gone: NodeIndex, number: u64) -> Arc<Configuration> {
        let parameters = self.placement.parameters();
        let member = |node: &NodeIndex| Member {
            id: parameters.id(*node).clone(),
            store_id: self.hosts[node.index()].meta.store_id,
            since: 0,
            address: "h:1".into(),
            site: Site::default(),
        };
        let all = self.members();
        let list = |of: &[NodeIndex]| MemberList {
            replica_count: parameters.replica_count,
            members: of.iter().map(member).collect(),
        };
        let stay: Vec<NodeIndex> = all.iter().copied().filter(|node| *node != gone).collect();
        let cluster = self.node(gone).membership().cluster().expect("all have met");
        let seed = parameters.seed;
        Arc::new(Configuration { number, cluster, seed, old: list(&all), new: Some(list(&stay)) })
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
        let Host { records, index, .. } = &mut self.hosts[host.index()];
        records.retain(|key, _| !is_emptied(key));
        index.retain(|key| !is_emptied(key));
    }
}
