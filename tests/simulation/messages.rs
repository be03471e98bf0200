//! Messages between nodes, and what transports are told of their links.

use quorate::protocol::turn::Link;
use quorate::protocol::{Input, Message, Node, Request};
use quorate::types::{Incarnation, NodeIndex};

use crate::trace::Sent;
use crate::watch::Speaker;
use crate::world::{Event, Host, Phase, World};

impl World {
    pub fn send(
        &mut self,
        from: NodeIndex,
        to: NodeIndex,
        link: Link,
        to_incarnation: Option<Incarnation>,
        message: Message,
    ) {
        let Host { node: Some(node), disk, is_forgetful, .. } = &self.hosts[from.index()] else { return };
        let from_incarnation = node.incarnation();
        let speaker = Speaker { me: from, node, disk, is_forgetful: *is_forgetful, now: self.now };
        let result = self.watch.says(&speaker, to, to_incarnation, &message, &mut self.counters);
        self.check(result);
        self.check_expiries();
        if let Message::Request { request: Request::Store { record, .. } | Request::Accept { record, .. }, .. } =
            &message
        {
            self.is_stored(from, record);
        }
        self.counters.count("messages");
        let has_link = self.has_link(from, to, link);
        if !has_link && matches!(link, Link::Accepted(_)) {
            self.counters.count("a message was lost with the link that it was an answer on");
        }
        // Who misses a drop goes on with an old name.
        let is_drop = matches!(message, Message::Request { request: Request::Drop { .. }, .. });
        let loss = self.plan.loss_permille
            + if self.links.loss_until > self.now { 300 } else { 0 }
            + if is_drop { self.plan.drops_lost_permille } else { 0 };
        if !has_link
            || !self.links.passes(from, to)
            || self.random.permille(if self.phase == Phase::Faults { loss } else { 0 })
        {
            self.counters.count("a message was lost");
            self.trace.sent(&Sent { from, to, at: self.now, arrives: None, message: &message });
            return;
        }
        let wait = self.latency(from);
        self.trace.sent(&Sent { from, to, at: self.now, arrives: Some(self.now + wait), message: &message });
        if self.phase == Phase::Faults && self.random.permille(self.plan.repeat_permille) {
            self.counters.count("a message was repeated");
            let wait = self.latency(from);
            let message = message.clone();
            self.plan_in(
                wait,
                Event::Arrives { from, from_incarnation, to, to_incarnation, message, sent_at: self.now },
            );
        }
        self.plan_in(wait, Event::Arrives { from, from_incarnation, to, to_incarnation, message, sent_at: self.now });
    }

    /// Whether the link that a message leaves on is open. An accepted link is open while the peer's end of it is.
    fn has_link(&self, from: NodeIndex, to: NodeIndex, link: Link) -> bool {
        match link {
            Link::Opened => self.links.is_linked(from, to),
            Link::Accepted(incarnation) => {
                let opener = self.hosts[to.index()].node.as_ref().map(Node::incarnation);
                opener == Some(incarnation) && self.links.is_linked(to, from)
            }
        }
    }

    pub fn latency(&mut self, from: NodeIndex) -> u64 {
        let in_faults = self.phase == Phase::Faults;
        let slow = self.links.slow_until[from.index()] > self.now;
        let late = in_faults && (slow || self.random.permille(self.plan.late_permille));
        let most = if slow { 400_000 } else { self.plan.late };
        let wait = if late { self.within((0, most)) } else { self.within(self.plan.latency) };
        if wait > 250_000 {
            self.counters.count("a message was late by more than a resend");
        }
        wait
    }

    pub fn arrives(
        &mut self,
        from: NodeIndex,
        from_incarnation: Incarnation,
        to: NodeIndex,
        to_incarnation: Option<Incarnation>,
        message: Message,
        sent_at: u64,
    ) {
        if self.links.lost_since(from, to, sent_at) {
            self.counters.count("a message was lost");
            return;
        }
        let incarnation = |host: NodeIndex| self.hosts[host.index()].node.as_ref().map(Node::incarnation);
        if incarnation(from) != Some(from_incarnation)
            || to_incarnation.is_some_and(|to_incarnation| incarnation(to) != Some(to_incarnation))
        {
            self.counters.count("a message to or from a dead run arrived");
        }
        let run = self.hosts[to.index()].run;
        if let Some(from) = self.index_at(to, from, from_incarnation, &message) {
            self.input(to, run, Input::Peer { from, from_incarnation, to_incarnation, message });
        }
    }

    /// Links what lives and can hear each other, and breaks it before where it `broke`.
    pub fn relink_if(&mut self, host: NodeIndex, peer: NodeIndex, broke: bool) {
        let runs = |host: NodeIndex| self.hosts[host.index()].node.is_some();
        if runs(host) && runs(peer) && self.links.passes(host, peer) && (broke || !self.links.is_linked(host, peer)) {
            self.relink(host, peer);
        }
    }

    /// The transport of `host` is told that its link to `peer` broke, and that it is back.
    pub fn relink(&mut self, host: NodeIndex, peer: NodeIndex) {
        let wait = self.within((0, 2_000));
        if self.links.is_linked(host, peer) {
            self.tell(host, peer, false, wait);
        }
        let wait = wait + self.within((0, 5_000));
        self.tell(host, peer, true, wait);
    }

    pub fn tell(&mut self, host: NodeIndex, peer: NodeIndex, up: bool, wait: u64) {
        let at = self.links.tell(host, peer, up, self.now + wait);
        self.plan_at(at, Event::Tell { host, peer, up });
    }
}
