//! Membership: which nodes may talk to each other, and whether this node may serve.
//!
//! Invariants: a peer's messages count only after its store id and incarnation were durably recorded here, and this node's
//! messages count there only after that peer recorded this node. A known node id under another store id is refused, and so
//! is a data folder that does not remember the incarnation recorded here: it may have forgotten what it acknowledged. A
//! fresh node is part of no quorum until every other node has recorded it, so that no node can be replaced unnoticed. A node
//! that comes later is a member by a configuration, which names its store id.
//!
//! Whether this node is ready, and when the next hello is due, are derived from the state of all peers. Both are cached and
//! computed anew only when a hello, a link or a batch changes that state, so that no request scans all peers.

mod change;
mod peer;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::limits::INCARNATIONS_NAMED_MAX;
use crate::mutants::rule;
use crate::types::{ClusterParameters, Incarnation, Meta, NodeIndex, PeerRecord};

use self::peer::{Peer, hello_backoff};
pub use self::peer::{PeerView, WaitingNode};
pub use self::state::Membership;
use self::state::Readiness;
use super::context::{Greeting, NodeCtx, PendingAck};
use super::group_commit::AckAfter;
use super::io::{ProtocolEvent, Time, Unready};
use super::message::{Hello, HelloRefusal, Message, PROTOCOL_VERSION, Refusal};
use super::quorum::majority;

/// What a greeting, or its record on disk, changes for the operations in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// Nothing.
    None,
    /// The peer and this node refuse to talk: operations must not wait for it.
    Excluded,
    /// The two do not refuse each other (any longer): the peer may answer.
    Admitted,
    /// The two have recorded each other now: the peer lacks what it missed.
    Met,
}

/// Which rule of membership a hello breaks, or what it says that is new.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The peer breaks a rule.
    Refuse(HelloRefusal),
    /// The peer's store id and incarnation are to be recorded durably.
    Record(PeerRecord),
    /// Both are durably recorded already.
    Known,
}

impl Membership {
    /// A new incarnation of the node whose data folder remembers `meta`, in a cluster of these nodes. It has talked to no peer
    /// yet. `waits`: its folder is fresh, and the node is to become a member of a cluster that exists.
    #[must_use]
    pub fn new(
        me: NodeIndex,
        parameters: ClusterParameters,
        incarnation: Incarnation,
        meta: &Meta,
        address: Option<Arc<str>>,
        waits: bool,
    ) -> Self {
        let named = meta.incarnations.len().saturating_sub(INCARNATIONS_NAMED_MAX);
        let peer = |member: NodeIndex| {
            let id = parameters.id(member).clone();
            // Under a configuration its members have their records; see `Membership::reconfigure`.
            let recorded = meta.peers.get(&id).copied().filter(|_| meta.configuration.is_none());
            (member, Peer::new(id, recorded, !waits))
        };
        let peers = parameters.members().filter(|member| *member != me).map(peer).collect();
        let mut membership = Self {
            me,
            id: parameters.id(me).clone(),
            parameters,
            address,
            store_id: meta.store_id,
            incarnation,
            earlier_incarnations: meta.incarnations[named..].into(),
            started: rule!(ServesBeforeStarted, false),
            bootstrapped: meta.bootstrapped,
            draining: false,
            cluster: None,
            number: 0,
            is_member: !waits,
            peers,
            readiness: Readiness::Starting,
            next_hello: None,
        };
        membership.refresh();
        membership
    }

    /// This incarnation.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whether the epoch of this incarnation is durable. Before that, the node neither speaks nor listens.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// The epoch of this incarnation is durable.
    pub fn on_started(&mut self) {
        self.started = true;
        self.refresh();
    }

    /// The node is to end.
    pub fn drain(&mut self) {
        self.draining = true;
        self.refresh();
    }

    /// Why this node takes no requests of clients, where it does not.
    #[must_use]
    pub fn unready(&self) -> Option<Unready> {
        let ids_of = |wanted: &dyn Fn(&Peer) -> bool| {
            let peers = self.peers.iter().filter(|(_, peer)| wanted(peer));
            peers.map(|(_, peer)| peer.id.clone()).collect()
        };
        Some(match self.readiness {
            Readiness::Ready => return None,
            Readiness::Starting => Unready::Starting,
            Readiness::Draining => Unready::Draining,
            Readiness::Waiting => Unready::Waiting,
            Readiness::Removed => Unready::Removed,
            Readiness::Refused(refusal) => {
                Unready::Refused { by: ids_of(&|peer| peer.refused_there == Some(refusal)), refusal }
            }
            Readiness::Bootstrapping => {
                Unready::Bootstrapping { missing: ids_of(&|peer| peer.is_member && peer.welcomed_by.is_none()) }
            }
        })
    }

    /// Why this node's replica answers nobody, where it does not. A node that drains still serves its peers, so that their
    /// operations in flight end well.
    #[must_use]
    pub fn replica_refusal(&self) -> Option<Refusal> {
        match self.readiness {
            Readiness::Refused(_) => Some(Refusal::RefusedByPeers),
            Readiness::Starting | Readiness::Bootstrapping | Readiness::Waiting | Readiness::Removed => {
                Some(Refusal::NotBootstrapped)
            }
            Readiness::Draining | Readiness::Ready => None,
        }
    }

    /// How `peer` stands to this node.
    #[must_use]
    pub fn view(&self, peer: NodeIndex) -> PeerView {
        self.peers.get(&peer).map_or(PeerView::Unreachable, Peer::view)
    }

    /// The incarnation of `peer` that requests are sent to: it has recorded this node, and is recorded here.
    #[must_use]
    pub fn talking_to(&self, peer: NodeIndex) -> Option<Incarnation> {
        self.peers.get(&peer).filter(|peer| peer.is_talking()).and_then(|peer| peer.welcomed_by)
    }

    /// Whether a message from incarnation `from_incarnation` of `from` for incarnation `to_incarnation` of this node counts:
    /// both must be the ones known, so that messages from or for an earlier incarnation do not count.
    #[must_use]
    pub fn counts(&self, from: NodeIndex, from_incarnation: Incarnation, to_incarnation: Option<Incarnation>) -> bool {
        let recorded = || self.peers.get(&from).and_then(|peer| peer.recorded);
        let are_known = to_incarnation == Some(self.incarnation)
            && recorded().is_some_and(|recorded| recorded.incarnation == from_incarnation);
        rule!(EarlierIncarnationsCount, are_known, not to_incarnation.is_some())
    }

    /// The link to `peer` is up or down.
    pub fn on_link(&mut self, peer: NodeIndex, up: bool, now: Time) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.on_link(up, now);
        }
        self.refresh();
    }

    /// `from` introduces itself.
    pub fn on_hello(
        &mut self,
        from: NodeIndex,
        hello: &Hello,
        greeting: Greeting,
        ctx: &mut NodeCtx<'_>,
    ) -> PeerChange {
        match self.judge(from, hello) {
            Verdict::Refuse(refusal) => {
                // A node that waits refuses the members, too, and they have nothing to mend.
                if self.is_member || refusal != HelloRefusal::NotMember {
                    ctx.report(ProtocolEvent::PeerRefused { peer: from, refusal });
                }
                let message = Message::HelloRefused { incarnation: hello.incarnation, refusal };
                ctx.send(from, Some(hello.incarnation), message);
                self.tell_configurations(from, hello, ctx);
                match self.view(from) {
                    PeerView::Refused(_) => PeerChange::Excluded,
                    PeerView::Talking | PeerView::Unreachable => PeerChange::Admitted,
                }
            }
            Verdict::Known => {
                self.tell_configurations(from, hello, ctx);
                self.on_known(from, hello.incarnation, greeting, ctx)
            }
            // A store that has failed cannot record a peer. The peer introduces itself again.
            Verdict::Record(_) if ctx.group_commit.has_failed() => {
                self.on_batch_failed();
                self.admitted(from)
            }
            Verdict::Record(peer_record) => {
                self.tell_configurations(from, hello, ctx);
                ctx.group_commit.add_peer(ctx.layout.writer(from).clone(), peer_record);
                let ack = PendingAck::PeerRecorded { peer: from, peer_record, greeting };
                ctx.group_commit.ack_after(AckAfter::Next, ack);
                self.admitted(from)
            }
        }
    }

    /// `from` refuses incarnation `incarnation` of this node.
    pub fn on_hello_refused(
        &mut self,
        from: NodeIndex,
        incarnation: Incarnation,
        refusal: HelloRefusal,
        ctx: &mut NodeCtx<'_>,
    ) -> PeerChange {
        if !self.refused(from, incarnation, refusal) {
            return PeerChange::None;
        }
        // What a node that is no member says of membership is nothing to mend.
        if refusal != HelloRefusal::NotMember || self.peers.get(&from).is_some_and(|peer| peer.is_member) {
            ctx.report(ProtocolEvent::RefusedByPeer { peer: from, refusal });
        }
        match self.view(from) {
            PeerView::Refused(_) => PeerChange::Excluded,
            PeerView::Talking | PeerView::Unreachable => PeerChange::None,
        }
    }

    /// The record of `peer` is durable.
    pub fn on_recorded(
        &mut self,
        peer: NodeIndex,
        peer_record: PeerRecord,
        greeting: Greeting,
        ctx: &mut NodeCtx<'_>,
    ) -> PeerChange {
        self.recorded(peer, peer_record);
        self.on_known(peer, peer_record.incarnation, greeting, ctx)
    }

    /// A batch failed: the peer records in it may not be durable. Hellos are sent again.
    pub fn on_batch_failed(&mut self) {
        for peer in self.peers.values_mut() {
            peer.recording = None;
        }
    }

    /// The store was reopened after a failure, and this is what it remembers. A peer that is recorded must not be recorded
    /// again in an earlier incarnation, and a bootstrapped node need not meet everyone again.
    pub fn on_store_reopened(&mut self, meta: &Meta) {
        self.bootstrapped |= meta.bootstrapped;
        for peer in self.peers.values_mut().filter(|peer| peer.is_member) {
            peer.on_recorded(meta.peers.get(&peer.writer).copied());
        }
        self.refresh();
    }

    /// It is durable that every other node has recorded this one.
    pub fn on_bootstrapped(&mut self) {
        self.bootstrapped = true;
        self.refresh();
    }

    /// Records that the cluster is bootstrapped, once this node and every other one have recorded each other. A node that is
    /// alone has none to meet.
    pub fn bootstrap_if_met(&self, ctx: &mut NodeCtx<'_>) {
        if self.started && self.number == 0 && self.is_member && self.may_bootstrap() && !ctx.group_commit.has_failed()
        {
            ctx.group_commit.add_bootstrapped();
        }
    }

    /// When the next hello is due.
    #[must_use]
    pub fn next_hello(&self) -> Option<Time> {
        self.next_hello.filter(|_| self.started)
    }

    /// Sends the hellos that are due.
    pub fn send_hellos(&mut self, ctx: &mut NodeCtx<'_>) {
        if self.next_hello().is_none_or(|due| due > ctx.now) {
            return;
        }
        for member in self.take_due_hellos(ctx.now) {
            ctx.send(member, None, Message::Hello(self.hello_to(member)));
        }
    }

    fn take_due_hellos(&mut self, now: Time) -> Vec<NodeIndex> {
        let mut due = Vec::new();
        for (member, peer) in &mut self.peers {
            if peer.hello_at.is_some_and(|at| at <= now) {
                peer.hello_at = Some(now.after(hello_backoff(peer.hellos_unanswered)));
                peer.hellos_unanswered = peer.hellos_unanswered.saturating_add(1);
                due.push(*member);
            }
        }
        self.refresh();
        due
    }

    /// How this node introduces itself to `peer`.
    fn hello_to(&self, peer: NodeIndex) -> Hello {
        Hello {
            protocol: PROTOCOL_VERSION,
            parameters: self.parameters.clone(),
            node_id: self.id.clone(),
            to_node_id: self.peers.get(&peer).map_or_else(|| self.id.clone(), |peer| peer.id.clone()),
            store_id: self.store_id,
            incarnation: self.incarnation,
            earlier_incarnations: Arc::clone(&self.earlier_incarnations),
            cluster: self.cluster,
            number: self.number,
            joins: self.address.clone().filter(|_| !self.is_member),
        }
    }

    /// Judges how `from` introduces itself.
    fn judge(&mut self, from: NodeIndex, hello: &Hello) -> Verdict {
        let verdict = self.check(from, hello);
        if let Some(peer) = self.peers.get_mut(&from) {
            match &verdict {
                // A late hello of an earlier incarnation, or of another data folder, says nothing about the incarnation
                // that this node talks to.
                Verdict::Refuse(refusal) if rule!(LateHelloCounts, !peer.is_talking()) => {
                    peer.refused_here = Some(*refusal);
                }
                Verdict::Refuse(_) => {}
                Verdict::Record(peer_record) => {
                    peer.recording = Some(*peer_record);
                    peer.refused_here = None;
                }
                Verdict::Known => peer.refused_here = None,
            }
            self.refresh();
        }
        verdict
    }

    fn check(&self, from: NodeIndex, hello: &Hello) -> Verdict {
        let Some(peer) = self.peers.get(&from) else { return Verdict::Refuse(HelloRefusal::WrongNode) };
        if hello.protocol != PROTOCOL_VERSION {
            return Verdict::Refuse(HelloRefusal::Protocol);
        }
        let is_other_cluster = match (self.cluster, hello.cluster) {
            (Some(here), Some(there)) => here != there,
            // A node that waits belongs to none.
            _ if !self.is_member || hello.joins.is_some() => false,
            _ => hello.parameters != self.parameters,
        };
        if is_other_cluster {
            // Whatever its file says: a node that no list has comes into a running cluster by joining alone.
            let is_stranger = self.cluster.is_some() && hello.cluster.is_none() && !peer.is_member;
            return Verdict::Refuse(if is_stranger { HelloRefusal::NotMember } else { HelloRefusal::Cluster });
        }
        if hello.to_node_id != self.id || hello.node_id != peer.id {
            return Verdict::Refuse(HelloRefusal::WrongNode);
        }
        if !peer.is_member || !self.is_member {
            return Verdict::Refuse(HelloRefusal::NotMember);
        }
        if peer.store_id.is_some_and(|known| !rule!(AnyStoreIsAccepted, known == hello.store_id)) {
            return Verdict::Refuse(HelloRefusal::StoreId);
        }
        let seen = PeerRecord { store_id: hello.store_id, incarnation: hello.incarnation };
        let Some(known) = peer.recording.or(peer.recorded) else { return Verdict::Record(seen) };
        if !rule!(AnyStoreIsAccepted, seen.store_id == known.store_id) {
            return Verdict::Refuse(HelloRefusal::StoreId);
        }
        if seen.incarnation == known.incarnation {
            return if peer.recorded == Some(known) { Verdict::Known } else { Verdict::Record(seen) };
        }
        // A greater epoch alone shows nothing: an older copy of the folder gets there by starting often enough.
        let is_remembered = hello.earlier_incarnations.contains(&known.incarnation);
        let is_later = rule!(
            GreaterEpochIsAccepted,
            is_remembered,
            not is_remembered || seen.incarnation.epoch > known.incarnation.epoch
        );
        if rule!(AnyStoreIsAccepted, rule!(AnyIncarnationIsAccepted, is_later)) {
            Verdict::Record(seen)
        } else {
            Verdict::Refuse(HelloRefusal::Incarnation)
        }
    }

    /// `peer` is durably recorded here in its incarnation `incarnation`.
    fn on_known(
        &mut self,
        peer: NodeIndex,
        incarnation: Incarnation,
        greeting: Greeting,
        ctx: &mut NodeCtx<'_>,
    ) -> PeerChange {
        match greeting {
            Greeting::Hello => {
                ctx.send(peer, Some(incarnation), Message::Welcome(self.hello_to(peer)));
                // Before the first change all are members from the beginning.
                if let Some(peer) = self.peers.get_mut(&peer).filter(|_| self.number > 0) {
                    peer.on_heard(ctx.now);
                    self.refresh();
                }
            }
            Greeting::Welcome => self.welcomed(peer, incarnation),
        }
        if self.talking_to(peer) != Some(incarnation) {
            return self.admitted(peer);
        }
        self.bootstrap_if_met(ctx);
        if greeting == Greeting::Welcome {
            ctx.report(ProtocolEvent::PeerMet(peer));
            return PeerChange::Met;
        }
        PeerChange::Admitted
    }

    fn admitted(&self, peer: NodeIndex) -> PeerChange {
        match self.view(peer) {
            PeerView::Refused(_) => PeerChange::None,
            PeerView::Talking | PeerView::Unreachable => PeerChange::Admitted,
        }
    }

    fn recorded(&mut self, peer: NodeIndex, peer_record: PeerRecord) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            if peer.recording == Some(peer_record) {
                peer.recording = None;
            }
            peer.on_recorded(Some(peer_record));
        }
        self.refresh();
    }

    /// `peer`, in its incarnation `incarnation`, has recorded this incarnation of this node, and is recorded here.
    fn welcomed(&mut self, peer: NodeIndex, incarnation: Incarnation) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.on_welcome(incarnation);
        }
        self.refresh();
    }

    /// `peer` refuses incarnation `incarnation` of this node. Returns whether that is this incarnation, so that it counts.
    fn refused(&mut self, peer: NodeIndex, incarnation: Incarnation, refusal: HelloRefusal) -> bool {
        // A node that is no member yet may become one: that it was none once, which is told late, says nothing.
        let is_late = refusal == HelloRefusal::NotMember && self.talking_to(peer).is_some();
        let counts = incarnation == self.incarnation && !is_late;
        if counts && let Some(peer) = self.peers.get_mut(&peer) {
            peer.refused_there = Some(refusal);
            peer.welcomed_by = None;
            self.refresh();
        }
        counts
    }

    /// Whether every peer and this node have recorded each other, and that is not recorded yet.
    fn may_bootstrap(&self) -> bool {
        let members = || self.peers.values().filter(|peer| peer.is_member);
        let all = members().all(Peer::is_talking);
        !self.bootstrapped && rule!(BootstrapsEarly, all, not all || members().any(Peer::is_talking))
    }

    /// Computes the cached fields anew. Called wherever one of the fields changes that they are derived from.
    fn refresh(&mut self) {
        self.next_hello = self.peers.values().filter_map(|peer| peer.hello_at).min();
        if self.cluster.is_none() && self.bootstrapped {
            self.cluster = self.first_members();
        }
        self.readiness = match self.refused_as_a_whole() {
            _ if !self.is_member && self.cluster.is_none() => Readiness::Waiting,
            _ if !self.is_member => Readiness::Removed,
            Some(refusal) => Readiness::Refused(refusal),
            None if !self.started => Readiness::Starting,
            None if !self.bootstrapped => Readiness::Bootstrapping,
            None if self.draining => Readiness::Draining,
            None => Readiness::Ready,
        };
    }

    /// Why this node as a whole may not serve: one peer has recorded a later incarnation of it, and a peer cannot be wrong
    /// about that; or its peers are a cluster that it is no member of; or its store id is not the one that its peers know.
    /// One peer is enough where this node is fresh. Else a majority is needed, because a single peer may be the one that
    /// lost its disk.
    fn refused_as_a_whole(&self) -> Option<HelloRefusal> {
        let members = || self.peers.values().filter(|peer| peer.is_member);
        let count = |refusal| members().filter(|peer| peer.refused_there == Some(refusal)).count();
        if count(HelloRefusal::Incarnation) > 0 {
            return Some(HelloRefusal::Incarnation);
        }
        // A cluster that is there already does not know this fresh node, which was not started to join it.
        if !self.bootstrapped && count(HelloRefusal::NotMember) > 0 {
            return Some(HelloRefusal::NotMember);
        }
        let needed = if self.bootstrapped { majority(members().count().max(1)) } else { 1 };
        (count(HelloRefusal::StoreId) >= needed).then_some(HelloRefusal::StoreId)
    }
}
