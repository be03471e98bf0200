//! Configurations on their way: told, adopted, and compared with the number that each message bears.
//!
//! Invariants: a configuration is durable before anything is said under it, and the slots that the node gains are empty by then. A
//! request is served, and an answer counts, under the configuration of its number alone.

use std::sync::Arc;

use crate::mutants::rule;
use crate::types::{Clock, Configuration, Incarnation, NodeIndex, Slot};

use super::context::{Origin, Requester};
use super::io::ProtocolEvent;
use super::layout::Layout;
use super::message::{Answer, Message, Refusal, Request};
use super::parts::Parts;

impl Parts<'_> {
    /// A configuration that was chosen is told.
    pub(super) fn on_configuration(&mut self, configuration: &Arc<Configuration>) {
        let is_of_cluster = match self.membership.cluster() {
            Some(cluster) => cluster == configuration.cluster,
            // A node that waits takes the first one that names it. A first member may have been removed before it knew that all
            // had met.
            None => {
                configuration.has(self.ctx.id_of_me(), self.membership.store_id())
                    || self.membership.first_members() == Some(configuration.cluster)
            }
        };
        if is_of_cluster && configuration.is_valid() {
            self.members.learn(configuration);
            self.adopt_newest();
        }
    }

    /// Adopts the newest configuration that this node knows, if it is newer than the present one: it becomes durable, and is the
    /// present one then. One at a time: the slots that a node loses or gains follow from the one before it.
    pub(super) fn adopt_newest(&mut self) {
        if self.ctx.group_commit.has_failed() || !self.membership.is_started() {
            return;
        }
        let Some(configuration) = self.members.to_adopt(self.ctx.layout.number()).map(Arc::clone) else { return };
        let layout = self.membership.layout_under(&configuration, self.ctx.layout);
        let me = self.ctx.me;
        let is_gained = |slot| layout.gains(me, slot) && is_emptied(me, slot, self.ctx.layout, &layout);
        // What it holds of slots that it loses goes later. A node that missed a configuration may hold old records of a slot which
        // it gains, also where it held all slots under the last one that it knows.
        let emptied = rule!(GainedSlotsKeepData, ranges(is_gained), not Vec::new());
        self.membership.record_new(&layout, self.ctx.group_commit);
        if layout.is_member(self.ctx.me) {
            self.ctx.group_commit.add_bootstrapped();
        }
        // In the same batch, so that this clock is there as soon as the node is a member.
        let first = above(rule!(JoinsBelowFloor, configuration.epoch_floor, not 0));
        if !self.ctx.clock.is_durable(first.epoch) {
            self.ctx.group_commit.add_epoch(first.epoch);
        }
        self.ctx.group_commit.add_configuration(configuration, emptied);
        self.members.adopt(Arc::new(layout));
    }

    /// The layout of a configuration is the present one from now on; `before` was it until now.
    pub(super) fn reconfigured(&mut self, before: &Layout) {
        let (me, layout) = (self.ctx.me, self.ctx.layout);
        let is_emptied = |slot| is_emptied(me, slot, before, layout);
        self.membership.reconfigure(layout, None);
        let floor = rule!(JoinsBelowFloor, layout.parameters().epoch_floor, not 0);
        self.ctx.clock.observe(above(floor));
        self.ctx.group_commit.remove(is_emptied);
        self.replica.reconfigure(is_emptied, layout);
        // All slots: a node may have missed the configuration between the two, so that neither names each pair of replicas.
        let any = (0..=u16::MAX).map(Slot).any(is_emptied);
        let (number, is_joint) = (layout.number(), layout.is_joint());
        self.ctx.report(ProtocolEvent::Reconfigured { number, is_joint });
        self.reconfigure_parts(any);
        self.serve_held();
        self.adopt_newest();
    }

    /// `peer` wants the newest configuration.
    pub(super) fn tell_configuration(&mut self, peer: NodeIndex, incarnation: Incarnation) {
        if let Some(configuration) = self.ctx.layout.configuration() {
            let message = Message::Configuration(Arc::clone(configuration));
            self.ctx.send(peer, Some(incarnation), message);
        }
    }

    fn want_configuration(&mut self, peer: NodeIndex, incarnation: Incarnation) {
        if self.members.wants_configuration(self.ctx.now) {
            self.ctx.send(peer, Some(incarnation), Message::ConfigurationWanted);
        }
    }

    /// Serves a peer's request, if it was made under this node's configuration and this node knows what it must. One of a newer
    /// configuration waits until this node has adopted that.
    pub(super) fn serve_under(&mut self, from: Origin, request: Request) {
        let number = self.ctx.layout.number();
        if request.is_numbered() && from.number > number {
            self.want_configuration(from.node, from.incarnation);
            return self.members.hold(from, request);
        }
        if request.is_numbered() && rule!(OldNumberIsServed, from.number < number, not false) {
            self.ctx.refuse(Requester::Coordinator(from), Refusal::Outdated);
            return self.tell_configuration(from.node, from.incarnation);
        }
        let slot = request.slot().or_else(|| request.key().map(|key| self.ctx.layout.slot(key)));
        let knows = || self.members.knows_floors();
        if slot.is_some_and(|slot| self.ctx.layout.gains(self.ctx.me, slot) && !knows()) {
            return self.members.hold(from, request);
        }
        self.serve(from, request);
    }

    /// The requests that waited are judged anew.
    pub(super) fn serve_held(&mut self) {
        for (from, request) in self.members.take_held() {
            if from.number >= self.ctx.layout.number() {
                self.serve_under(from, request);
            }
        }
    }

    /// Whether an answer that bears `number` counts. Changes for a watch do under each: they only say what is durable.
    pub(super) fn answer_counts(
        &mut self,
        from: NodeIndex,
        incarnation: Incarnation,
        number: u64,
        answer: &Answer,
    ) -> bool {
        let present = self.ctx.layout.number();
        if number > present {
            self.want_configuration(from, incarnation);
        }
        number == present || answer.counts_under_each()
    }
}

/// The least clock of a cluster whose clocks began above the epoch `floor`.
fn above(floor: u64) -> Clock {
    Clock { epoch: floor + 1, counter: 0 }
}

/// Whether what `me` holds of `slot` goes when the layout `after` takes the place of `before`: `me` gains the slot, and has at most
/// what it took in as an earlier replica; or it is no replica any more, and no other list may need it.
fn is_emptied(me: NodeIndex, slot: Slot, before: &Layout, after: &Layout) -> bool {
    let is_gained = after.gains(me, slot);
    let is_again = rule!(EmptiedOnlyOnce, true, not !before.gains(me, slot));
    let is_lost = || !after.is_joint() && after.is_member(me) && !after.holds(me, slot) && before.holds(me, slot);
    is_gained && is_again || is_lost()
}

/// The slots of which `is_meant` is true, as ranges of first and last ones.
fn ranges(is_meant: impl Fn(Slot) -> bool) -> Vec<(Slot, Slot)> {
    let mut ranges: Vec<(Slot, Slot)> = Vec::new();
    for slot in (0..=u16::MAX).map(Slot).filter(|slot| is_meant(*slot)) {
        match ranges.last_mut() {
            Some((_, last)) if u32::from(last.0) + 1 == u32::from(slot.0) => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}
