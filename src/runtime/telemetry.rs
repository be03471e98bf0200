//! The protocol's events as metrics and log lines, and a reminder in the log while the node takes no requests.
//!
//! Lines that a peer, a client or a disk can repeat are bounded: see [`LogLimit`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::log_limit::LogLimit;
use crate::metrics::{Metrics, PeerLabels};
use crate::protocol::layout::KnownNode;
use crate::protocol::{HelloRefusal, ProtocolEvent, Unready};
use crate::types::{NodeId, NodeIndex};

/// The time between two reminders that the node takes no requests.
const NOT_READY_EVERY: Duration = Duration::from_secs(10);
/// The time between two log lines of one kind.
pub(super) const LINE_EVERY: Duration = Duration::from_secs(10);

/// Turns events into counts and log lines.
pub(super) struct Telemetry {
    metrics: Arc<Metrics>,
    peers: Vec<PeerLog>,
    stamp_conflicts: LogLimit,
    clock_jumps: LogLimit,
    not_ready_at: Instant,
}

struct PeerLog {
    id: NodeId,
    /// The refusal that the log named last, by side: of the peer by this node, of this node by the peer. Both sides
    /// repeat their hellos, and with them the refusals.
    refusals: [Option<HelloRefusal>; 2],
}

impl Telemetry {
    /// For a node that knows no other yet.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            peers: Vec::new(),
            stamp_conflicts: LogLimit::new(1, LINE_EVERY),
            clock_jumps: LogLimit::new(1, LINE_EVERY),
            not_ready_at: Instant::now() + NOT_READY_EVERY,
        }
    }

    /// The nodes have these indexes. One may be that of another node by now.
    pub(super) fn know(&mut self, nodes: &[KnownNode]) {
        for (index, node) in nodes.iter().enumerate() {
            let log = || PeerLog { id: node.id.clone(), refusals: [None; 2] };
            match self.peers.get_mut(index) {
                Some(peer) if peer.id == node.id => {}
                Some(peer) => *peer = log(),
                None => self.peers.push(log()),
            }
        }
    }

    /// Counts and logs one event.
    pub(super) fn record(&mut self, event: ProtocolEvent) {
        let metrics = &self.metrics;
        match event {
            ProtocolEvent::ReadWroteBack => {
                metrics.read_write_backs.inc();
            }
            ProtocolEvent::ClockRound { writes } => {
                metrics.clock_rounds.inc();
                metrics.clock_round_writes.inc_by(writes as u64);
            }
            ProtocolEvent::Hedged { .. } => {
                metrics.hedges.inc();
            }
            ProtocolEvent::Resent => {
                metrics.resends.inc();
            }
            ProtocolEvent::Overloaded => {
                metrics.peer_requests_dropped.inc();
            }
            // These are spans of a trace.
            ProtocolEvent::Traced { .. } | ProtocolEvent::AskedHere { .. } | ProtocolEvent::AnsweredHere { .. } => {}
            ProtocolEvent::Reconfigured { number, is_joint: true } => info!(number, "members change"),
            ProtocolEvent::Reconfigured { number, is_joint: false } => info!(number, "the members are these now"),
            ProtocolEvent::TakenOver { slots, keys, bytes } => {
                info!(slots, keys, bytes, "took over the slots that this node gains");
            }
            ProtocolEvent::PeerMet(peer) => {
                let peer = &mut self.peers[peer.index()];
                peer.refusals = [None; 2];
                info!(peer = %peer.id, "each has recorded the other");
            }
            ProtocolEvent::PeerRefused { peer, refusal } => {
                self.log_refusal(peer, 0, refusal, "this node refuses the peer");
            }
            ProtocolEvent::RefusedByPeer { peer, refusal } => {
                self.log_refusal(peer, 1, refusal, "the peer refuses this node");
            }
            ProtocolEvent::Bootstrapped => info!("the cluster is bootstrapped: every member has met every other"),
            ProtocolEvent::StampConflict { key, stamp } => {
                metrics.stamp_conflicts.inc();
                if let Some(left_out) = self.stamp_conflicts.pass(Instant::now()) {
                    error!(%key, %stamp, left_out, "two records of one stamp differ; the second was refused");
                }
            }
            ProtocolEvent::ClockJump { seen } => {
                metrics.clock_jumps.inc();
                if let Some(left_out) = self.clock_jumps.pass(Instant::now()) {
                    let what = "refused a clock that is further ahead than any honest node's can be";
                    error!(%seen, left_out, "{what}");
                }
            }
            ProtocolEvent::Expired => {
                metrics.expired.inc();
            }
            ProtocolEvent::Repaired { bytes } => {
                metrics.repaired.inc();
                metrics.repaired_bytes.inc_by(bytes as u64);
            }
            ProtocolEvent::Compared { peer, keys, bytes } => {
                metrics.repair_bytes.inc_by(bytes as u64);
                metrics.comparisons.get_or_create(&PeerLabels { peer: self.peers[peer.index()].id.to_string() }).inc();
                if keys > 0 {
                    info!(peer = %self.peers[peer.index()].id, keys, "repaired keys that differed from the peer's");
                }
            }
            ProtocolEvent::TombstoneRound { slot, is_sealed } => {
                let rounds = if is_sealed { &metrics.tombstone_rounds } else { &metrics.tombstone_rounds_cut_off };
                rounds.inc();
                debug!(%slot, is_sealed, "a round for the deletions of a slot has ended");
            }
            ProtocolEvent::HintsDropped { peer, hints } => {
                metrics.hints_dropped.inc_by(hints as u64);
                debug!(peer = %self.peers[peer.index()].id, hints, "dropped hints for a slow peer; repair brings what it lacks");
            }
        }
    }

    /// Logs each refusal once for each side and reason.
    fn log_refusal(&mut self, peer: NodeIndex, side: usize, refusal: HelloRefusal, what: &str) {
        let peer = &mut self.peers[peer.index()];
        if peer.refusals[side].replace(refusal) != Some(refusal) {
            // So it is with each node that waits to join.
            if refusal == HelloRefusal::NotMember {
                info!(peer = %peer.id, "{what}: {refusal}");
            } else {
                error!(peer = %peer.id, "{what}: {refusal}");
            }
        }
    }

    /// Says from time to time why the node takes no requests.
    pub(super) fn log_not_ready(&mut self, unready: impl FnOnce() -> Option<Unready>) {
        let now = Instant::now();
        if self.not_ready_at > now {
            return;
        }
        self.not_ready_at = now + NOT_READY_EVERY;
        match unready() {
            Some(Unready::Bootstrapping { missing }) => {
                warn!(?missing, "taking no requests: a cluster is bootstrapped when all its members have met once");
            }
            Some(Unready::Refused { by, refusal }) => error!(?by, "taking no requests: {refusal}"),
            Some(Unready::Starting) => warn!("taking no requests: this incarnation's epoch is not on disk yet"),
            Some(Unready::Waiting) => info!("taking no requests: this node waits to be added to the cluster"),
            Some(Unready::Removed) => info!("taking no requests: this node was removed from the cluster"),
            Some(Unready::Draining) | None => {}
        }
    }
}
