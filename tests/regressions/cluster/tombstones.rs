//! What tests do with deletions that are forgotten.

use std::time::Duration;

use quorate::protocol::message::OperationId;
use quorate::protocol::{Answer, Command, Input, Message, RepairSettings, Request, RequestId, TombstoneSettings};
use quorate::types::{Checksum, Clock, Content, Key, NodeIndex};

use super::{Cluster, DEADLINE, N1, N2, N3, OPERATORS_FROM, Sent};

/// How long deletions are remembered.
pub const KEPT_FOR: Duration = Duration::from_secs(10);

impl Sent {
    /// Whether it asks to take in no new writes.
    pub fn fences(&self) -> bool {
        matches!(self.message, Message::Request { request: Request::Fence { .. }, .. })
    }

    /// Whether it says that no new writes are taken in.
    pub fn is_fenced(&self) -> bool {
        matches!(self.message, Message::Answer { answer: Answer::Fenced { .. }, .. })
    }

    /// Whether it tells a clock that is to be taken over.
    pub fn tells_clock(&self) -> bool {
        matches!(self.message, Message::Request { request: Request::TakeClock { .. }, .. })
    }

    /// Whether it asks for old records.
    pub fn lists_old_records(&self) -> bool {
        matches!(self.message, Message::Request { request: Request::OldRecords { .. }, .. })
    }
}

impl Cluster {
    /// Three replicas of everything that have all met, and forget deletions. They compare records for nothing else.
    pub fn forgetting() -> Self {
        let tombstones = Some(TombstoneSettings { kept_for: KEPT_FOR, of_slot_max: 1_000 });
        let every = Duration::from_hours(1);
        Self::with(3, 3, Some(RepairSettings { every, tombstones, ..RepairSettings::default() }))
    }

    /// The same, and they compare records as they do in earnest.
    pub fn forgetting_and_repairing() -> Self {
        let tombstones = Some(TombstoneSettings { kept_for: KEPT_FOR, of_slot_max: 1_000 });
        Self::with(3, 3, Some(RepairSettings { tombstones, ..RepairSettings::default() }))
    }

    /// A question that no operation asks: whoever answers is not listened to.
    pub fn asks(&mut self, from: NodeIndex, to: NodeIndex, request: Request) {
        let (from_incarnation, to_incarnation) = (self.node(from).incarnation(), Some(self.node(to).incarnation()));
        let message = Message::Request { operation: OperationId(u64::MAX), round: 1, number: 0, request };
        self.arrives(Sent { from, to, message, from_incarnation, to_incarnation });
    }

    /// The replicas of the key take in no new writes up to this clock.
    pub fn fence(&mut self, from: NodeIndex, fence: Clock) {
        for node in [N1, N2, N3] {
            self.fence_at(from, node, fence);
        }
    }

    /// One of them does.
    pub fn fence_at(&mut self, from: NodeIndex, replica: NodeIndex, fence: Clock) {
        let slot = self.placement.slot(&self.key);
        self.asks(from, replica, Request::Fence { slot, fence });
    }

    /// This replica of the key is told the seal, and forgets what it may.
    pub fn seal(&mut self, from: NodeIndex, to: NodeIndex, seal: Clock) {
        let slot = self.placement.slot(&self.key);
        self.asks(from, to, Request::Seal { slot, seal });
        self.pass(Duration::from_millis(10), &[to]);
        self.pass(Duration::from_millis(10), &[to]);
    }

    /// A whole round for the slot of the key, where its replicas hold the same.
    pub fn round(&mut self, from: NodeIndex, until: Clock) {
        self.fence(from, until);
        for node in [N1, N2, N3] {
            self.seal(from, node, until);
        }
    }

    /// The seal of the key's slot on this node.
    pub fn seal_of(&self, host: NodeIndex) -> Option<Clock> {
        self.node(host).seal(self.placement.slot(&self.key))
    }

    /// Another key of the same slot. It is no part of the history.
    pub fn key_beside(&self) -> Key {
        let mut names = (0..).map(|n| Key::new(format!("beside{n}")).unwrap());
        let slot = self.placement.slot(&self.key);
        names.find(|key| self.placement.slot(key) == slot).unwrap()
    }

    /// Deletes a key that is no part of the history.
    pub fn delete_beside(&mut self, at: NodeIndex, key: Key) {
        let id = RequestId((OPERATORS_FROM + self.replies.len()) as u64);
        let (content, checksum) = (Content::Tombstone, Checksum::of(&key, &Content::Tombstone));
        let command = Command::Set { key, content, ttl: None, checksum };
        let deadline = self.now.after(DEADLINE);
        self.input(at, Some(Input::Request { id, deadline, command }));
    }

    /// Whether the index of this node's disk has the key.
    pub fn is_in_index(&self, host: NodeIndex) -> bool {
        self.hosts[host.index()].index.contains(&self.key)
    }

    /// The nodes that deletions wait for, as this node says.
    pub fn deletions_wait_for(&self, host: NodeIndex) -> Vec<NodeIndex> {
        self.node(host).tombstones().report(self.now).missing.into_keys().collect()
    }

    /// Time passes, and what is on the way among these nodes arrives, but for what is lost.
    pub fn live_without(&mut self, span: Duration, among: &[NodeIndex], is_lost: impl Fn(&Sent) -> bool) {
        let until = self.now.after(span);
        while self.now < until {
            while self.count(|sent| among.contains(&sent.from) && among.contains(&sent.to)) > 0 {
                self.take(&is_lost);
                let next = |sent: &Sent| among.contains(&sent.from) && among.contains(&sent.to);
                let Some(place) = self.network.iter().position(next) else { break };
                let sent = self.network.remove(place);
                self.arrives(sent);
            }
            self.pass(Duration::from_millis(10), among);
        }
    }
}
