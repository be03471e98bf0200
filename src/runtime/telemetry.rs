//! The protocol's events as metrics and log lines, and a reminder in the log while the node takes no requests.
//!
//! Lines that a peer, a client or a disk can repeat are bounded: see [`LineLimit`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::metrics::Metrics;
use crate::protocol::{HelloRefusal, ProtocolEvent, Unready};
use crate::types::{NodeId, NodeIndex};

/// The time between two reminders that the node takes no requests.
const NOT_READY_EVERY: Duration = Duration::from_secs(10);
/// The time between two log lines of one kind.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Turns events into counts and log lines.
pub(super) struct Telemetry {
    metrics: Arc<Metrics>,
    peers: Vec<PeerLog>,
    stamp_conflicts: LineLimit,
    clock_jumps: LineLimit,
    not_ready_at: Instant,
}

struct PeerLog {
    id: NodeId,
    /// The refusal that the log named last, by side: of the peer by this node, of this node by the peer. Both sides
    /// repeat their hellos, and with them the refusals.
    refusals: [Option<HelloRefusal>; 2],
}

/// Lets one line of a kind pass in [`LINE_EVERY`], and counts the lines that it holds back.
#[derive(Debug, Default)]
pub(super) struct LineLimit {
    passed_at: Option<Instant>,
    held_back: u64,
}

impl LineLimit {
    /// Whether a line may be written at `now`; if so, how many lines of its kind were held back since the last one.
    pub(super) fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.passed_at.is_some_and(|passed| now.saturating_duration_since(passed) < LINE_EVERY) {
            self.held_back += 1;
            return None;
        }
        self.passed_at = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

impl Telemetry {
    /// For a node whose cluster has these members, in their order.
    pub(super) fn new(metrics: Arc<Metrics>, ids: impl Iterator<Item = NodeId>) -> Self {
        Self {
            metrics,
            peers: ids.map(|id| PeerLog { id, refusals: [None; 2] }).collect(),
            stamp_conflicts: LineLimit::default(),
            clock_jumps: LineLimit::default(),
            not_ready_at: Instant::now() + NOT_READY_EVERY,
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
            ProtocolEvent::Bootstrapped => info!("the cluster has formed: every member has met every other"),
            ProtocolEvent::StampConflict { key, stamp } => {
                metrics.stamp_conflicts.inc();
                if let Some(held_back) = self.stamp_conflicts.pass(Instant::now()) {
                    error!(%key, %stamp, held_back, "two records of one stamp differ; the second was refused");
                }
            }
            ProtocolEvent::ClockJump { seen } => {
                metrics.clock_jumps.inc();
                if let Some(held_back) = self.clock_jumps.pass(Instant::now()) {
                    let what = "refused a clock that is further ahead than any honest node's can be";
                    error!(%seen, held_back, "{what}");
                }
            }
            ProtocolEvent::HintsDropped { peer, hints } => {
                metrics.hints_dropped.inc_by(hints as u64);
                debug!(peer = %self.peers[peer.index()].id, hints, "dropped hints for a slow peer; reads repair them");
            }
        }
    }

    /// Logs each refusal once for each side and reason.
    fn log_refusal(&mut self, peer: NodeIndex, side: usize, refusal: HelloRefusal, what: &str) {
        let peer = &mut self.peers[peer.index()];
        if peer.refusals[side].replace(refusal) != Some(refusal) {
            error!(peer = %peer.id, "{what}: {refusal}");
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
                warn!(?missing, "taking no requests: a cluster forms when all its members have met once");
            }
            Some(Unready::Refused { by, refusal }) => error!(?by, "taking no requests: {refusal}"),
            Some(Unready::Starting) => warn!("taking no requests: this incarnation's epoch is not on disk yet"),
            Some(Unready::Draining) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_that_repeats_passes_once_and_says_how_many_were_held_back() {
        let (mut limit, now) = (LineLimit::default(), Instant::now());
        assert_eq!(limit.pass(now), Some(0));
        assert_eq!(limit.pass(now), None);
        assert_eq!(limit.pass(now + LINE_EVERY / 2), None);
        assert_eq!(limit.pass(now + LINE_EVERY), Some(2));
        assert_eq!(limit.pass(now + LINE_EVERY), None);
        assert_eq!(limit.pass(now + 3 * LINE_EVERY), Some(1));
    }
}
