//! Requests that are no part of the history, and messages by their place on the way: for schedules that are drawn.

use quorate::protocol::{Command, Input, RequestId};
use quorate::types::{NodeIndex, TableId};

use super::{Cluster, OPERATORS_FROM};

impl Cluster {
    /// Begins a command that is no part of the history.
    pub fn ask(&mut self, at: NodeIndex, command: Command) -> usize {
        self.tick += 1;
        let id = OPERATORS_FROM + OPERATORS_FROM + usize::try_from(self.tick).unwrap();
        let deadline = self.now.after(self.deadline);
        self.input(at, Some(Input::Request { id: RequestId(id as u64), deadline, command }));
        id
    }

    /// How many keys of a table a node's disk has.
    pub fn keys_of(&self, host: NodeIndex, table: TableId) -> usize {
        self.hosts[host.index()].index.iter().filter(|key| key.table() == table).count()
    }

    /// How many messages are on the way.
    pub fn in_flight(&self) -> usize {
        self.network.len()
    }

    /// The message at this place of the network arrives. At a node that is down, it is lost.
    pub fn deliver_nth(&mut self, place: usize) {
        let sent = self.network.remove(place);
        self.arrives(sent);
    }

    /// The message at this place of the network is lost.
    pub fn lose_nth(&mut self, place: usize) {
        self.network.remove(place);
    }

    /// The message at this place of the network will arrive twice.
    pub fn repeat_nth(&mut self, place: usize) {
        self.network.push(self.network[place].clone());
    }

    /// Whether a node runs.
    pub fn is_up(&self, host: NodeIndex) -> bool {
        self.hosts[host.index()].node.is_some()
    }
}
