//! How one peer stands to this node.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::{RESEND_AFTER, RESEND_AFTER_MAX};
use crate::mutants::{must, rule};
use crate::protocol::io::Time;
use crate::protocol::message::HelloRefusal;
use crate::types::{Incarnation, NodeId, NodeIndex, PeerRecord, StoreId};

/// How a peer stands to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerView {
    /// Each has recorded the other; messages count.
    Talking,
    /// The link is down, or the two have not recorded each other yet.
    Unreachable,
    /// One of the two refuses the other.
    Refused(HelloRefusal),
}

/// A node that waits to become a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WaitingNode {
    /// Its index.
    pub node: NodeIndex,
    /// Its id.
    pub id: NodeId,
    /// The identity of its data folder.
    pub store_id: StoreId,
    /// Where it says that others reach it.
    pub address: Arc<str>,
    /// When it was heard last.
    pub heard_at: Time,
}

/// The state of a peer, as far as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) id: NodeId,
    /// The name under which it writes.
    pub(super) writer: NodeId,
    /// The store id that a configuration names, or that this peer without membership has shown.
    pub(super) store_id: Option<StoreId>,
    /// Whether it is a member.
    pub(super) is_member: bool,
    /// The incarnation whose hello was heard last.
    pub(super) heard: Option<Incarnation>,
    /// When it was heard last, where it is no member.
    pub(super) heard_at: Time,
    /// Where others reach it, if it waits to become a member.
    pub(super) joins: Option<Arc<str>>,
    linked: bool,
    /// Its store id and incarnation, as durably recorded here.
    pub(super) recorded: Option<PeerRecord>,
    /// A record that is on its way to the disk.
    pub(super) recording: Option<PeerRecord>,
    /// The incarnation of the peer that has recorded this incarnation of this node.
    pub(super) welcomed_by: Option<Incarnation>,
    /// Why this node refuses the peer.
    pub(super) refused_here: Option<HelloRefusal>,
    /// Why the peer refuses this node.
    pub(super) refused_there: Option<HelloRefusal>,
    /// When the next hello is due.
    pub(super) hello_at: Option<Time>,
    pub(super) hellos_unanswered: u32,
}

impl Peer {
    /// A peer that was not heard in this incarnation yet.
    pub(super) fn new(id: NodeId, recorded: Option<PeerRecord>, is_member: bool) -> Self {
        Self {
            writer: id.clone(),
            id,
            store_id: None,
            is_member,
            heard: None,
            heard_at: Time::default(),
            joins: None,
            linked: false,
            recorded,
            recording: None,
            welcomed_by: None,
            refused_here: None,
            refused_there: None,
            hello_at: None,
            hellos_unanswered: 0,
        }
    }

    /// The data folder that it is known by.
    pub(super) fn known_store(&self) -> Option<StoreId> {
        self.store_id.or_else(|| self.recording.or(self.recorded).map(|record| record.store_id))
    }

    /// Whether each has recorded the other.
    pub(super) fn is_talking(&self) -> bool {
        self.welcomed_by.is_some() && self.welcomed_by == self.recorded.map(|recorded| recorded.incarnation)
    }

    pub(super) fn view(&self) -> PeerView {
        // A node that is no member yet, or does not know that it is one, may talk at any moment.
        let for_good = |refusal: &HelloRefusal| *refusal != HelloRefusal::NotMember;
        match self.refused_here.filter(for_good).or(self.refused_there.filter(for_good)) {
            // A hello that is refused while the peer is talking comes from another process under its name.
            Some(refusal) if rule!(LateHelloCounts, !self.is_talking()) => PeerView::Refused(refusal),
            _ if self.is_talking() => PeerView::Talking,
            _ => PeerView::Unreachable,
        }
    }

    /// It is a member now: what the two have refused each other before says nothing. A hello is due.
    pub(super) fn admit(&mut self) {
        let not_a_member = Some(HelloRefusal::NotMember);
        if self.refused_here == not_a_member || self.refused_there == not_a_member {
            (self.refused_here, self.refused_there) = (None, None);
        }
        if self.linked && !self.is_talking() {
            (self.hello_at, self.hellos_unanswered) = (Some(Time::default()), 0);
        }
    }

    /// This node is no member any more: it says hello as a node that waits, because members know it by its hellos alone. It still
    /// talks to them, so that its operations in flight end well.
    pub(super) fn wait_again(&mut self) {
        if self.linked {
            (self.hello_at, self.hellos_unanswered) = (Some(Time::default()), 0);
        }
    }

    pub(super) fn on_link(&mut self, up: bool, now: Time) {
        self.linked = up;
        self.welcomed_by = None;
        // One that still waits to become a member says hello again.
        if !up && !self.is_member {
            self.joins = None;
        }
        self.hello_at = up.then_some(now);
        self.hellos_unanswered = 0;
    }

    /// The peer has recorded this node, and is recorded here.
    pub(super) fn on_welcome(&mut self, incarnation: Incarnation) {
        self.welcomed_by = Some(incarnation);
        self.refused_there = None;
        if self.is_talking() {
            // Another incarnation may have been refused while this one was being recorded.
            self.refused_here = None;
            self.hello_at = None;
            self.hellos_unanswered = 0;
        }
    }

    /// It has introduced itself, so that it may listen now. It may have refused the hello before, while it was no member.
    pub(super) fn on_heard(&mut self, now: Time) {
        if self.linked && !self.is_talking() && self.hellos_unanswered > 0 {
            (self.hello_at, self.hellos_unanswered) = (Some(now), 0);
        }
    }

    /// The record of the peer is durable. Where the peer restarted behind a link that was not seen to break, its new
    /// incarnation does not know this node yet: another hello is due at once.
    pub(super) fn on_recorded(&mut self, recorded: Option<PeerRecord>) {
        self.recorded = recorded;
        if self.linked && !self.is_talking() && self.hello_at.is_none() {
            must!(QuietRestartIsMissed, self.hello_at = Some(Time::default()));
            must!(QuietRestartIsMissed, self.hellos_unanswered = 0);
        }
    }
}

/// How long to wait for an answer to a hello after so many that had none.
pub(super) fn hello_backoff(unanswered: u32) -> Duration {
    (RESEND_AFTER * 2_u32.pow(unanswered.min(8))).min(RESEND_AFTER_MAX)
}
