//! How fast peers answer: whom to ask first, when to ask the others too, and when to ask again.
//!
//! A majority answers a clock round or a read. Asking more replicas costs messages and gains nothing while all are well. So
//! a majority is asked first, with this node's own replica before any other, and the rest once one of them is later than
//! it usually is: a hedged request (Dean and Barroso, "The Tail at Scale", CACM 2013). A peer that was late or refused is
//! asked after the others for a while.
//!
//! Nothing here decides what is true: the answers of any quorum count, whoever was asked.

use std::time::Duration;

use crate::limits::{
    HEDGE_AFTER_MAX, HEDGE_AFTER_MIN, HEDGE_CONTENT_AFTER_MIN, RESEND_AFTER, RESEND_AFTER_MAX, SLOW_FOR,
};
use crate::protocol::io::Time;
use crate::types::NodeIndex;

/// [`RESEND_AFTER`] in microseconds: nothing depends on usual times below it.
const RESEND_MIN: u64 = 1_000_000 * RESEND_AFTER.as_secs() + RESEND_AFTER.subsec_micros() as u64;

/// How fast each node answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LatencyTracker {
    peers: Box<[PeerLatency]>,
    /// Derived from all peers: the longest usual time of any in microseconds, but at least [`RESEND_MIN`].
    longest: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct PeerLatency {
    /// The time to an answer that waits for no fsync.
    answer: RttEstimator,
    /// The time from a write's beginning to the answer that its record is durable.
    write: RttEstimator,
    slow_until: Time,
}

/// How long something usually takes, in microseconds, smoothed as TCP does for its retransmissions (RFC 6298).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct RttEstimator {
    mean: u64,
    deviation: u64,
}

impl RttEstimator {
    fn observe(&mut self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(1 << 32);
        // An eighth of the way to the new time, and a quarter for the deviation: integers, so that runs can be replayed.
        self.deviation = (3 * self.deviation + time.abs_diff(self.mean)).div_ceil(4);
        self.mean = (7 * self.mean + time).div_ceil(8);
    }

    /// The time that is seldom exceeded.
    fn usual_max(&self) -> u64 {
        self.mean + 4 * self.deviation
    }
}

impl PeerLatency {
    fn usual_max(&self) -> u64 {
        self.answer.usual_max().max(self.write.usual_max())
    }
}

impl LatencyTracker {
    /// A tracker of so many nodes, of which nothing is known yet.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { peers: vec![PeerLatency::default(); nodes].into(), longest: RESEND_MIN }
    }

    /// So many nodes are known by now.
    pub fn know(&mut self, nodes: usize) {
        let mut peers = self.peers.to_vec();
        peers.resize(nodes.max(peers.len()), PeerLatency::default());
        self.peers = peers.into();
    }

    /// `peer` answered a request that waits for no fsync after `took`.
    pub fn answered(&mut self, peer: NodeIndex, took: Duration) {
        self.update(peer, |latency| latency.answer.observe(took));
    }

    /// `peer` has stored the record of a write that began `took` ago.
    pub fn stored(&mut self, peer: NodeIndex, took: Duration) {
        self.update(peer, |latency| latency.write.observe(took));
    }

    /// `peer` has not answered in its usual time, or has refused.
    pub fn mark_slow(&mut self, peer: NodeIndex, now: Time) {
        self.peers[peer.index()].slow_until = now.after(SLOW_FOR);
    }

    /// Whether `peer` was late or refused a short while ago.
    #[must_use]
    pub fn is_slow(&self, peer: NodeIndex, now: Time) -> bool {
        self.peers[peer.index()].slow_until > now
    }

    /// How long to wait for `asked` before the others are asked too.
    pub fn hedge_delay(&self, asked: impl Iterator<Item = NodeIndex>) -> Duration {
        let longest = asked.map(|peer| self.peers[peer.index()].answer.usual_max()).max();
        Duration::from_micros(longest.unwrap_or_default()).clamp(HEDGE_AFTER_MIN, HEDGE_AFTER_MAX)
    }

    /// The same where `asked` are asked for a content, which takes longer than a digest.
    pub fn content_delay(&self, asked: impl Iterator<Item = NodeIndex>) -> Duration {
        self.hedge_delay(asked).max(HEDGE_CONTENT_AFTER_MIN)
    }

    /// The same where `asked` are to keep a record. Nobody knows how long this node itself takes for that, or a peer that has kept
    /// none yet: the longest time.
    pub fn store_delay(&self, asked: impl Iterator<Item = NodeIndex>) -> Duration {
        let usual = |peer: NodeIndex| match self.peers[peer.index()].write.usual_max() {
            0 => HEDGE_AFTER_MAX,
            usual => Duration::from_micros(usual),
        };
        asked.map(usual).max().unwrap_or_default().clamp(HEDGE_AFTER_MIN, HEDGE_AFTER_MAX)
    }

    /// How long to wait before the same is asked again of the same peers. A link is a reliable stream, so that asking again
    /// helps only where a peer has dropped a request; where all are merely slow, it would make them slower.
    #[must_use]
    pub fn resend_delay(&self) -> Duration {
        Duration::from_micros(self.longest).clamp(RESEND_AFTER, RESEND_AFTER_MAX)
    }

    /// Only where the slowest peer has become faster, and matters, all others are compared.
    fn update(&mut self, peer: NodeIndex, observe: impl FnOnce(&mut PeerLatency)) {
        let latency = &mut self.peers[peer.index()];
        let before = latency.usual_max();
        observe(latency);
        let after = latency.usual_max();
        if after >= self.longest {
            self.longest = after;
        } else if before == self.longest && before > RESEND_MIN {
            self.longest = self.peers.iter().map(PeerLatency::usual_max).fold(RESEND_MIN, u64::max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeIndex = NodeIndex(1);

    #[test]
    fn hedge_delay_follows_the_usual_time_of_a_peer() {
        let mut latency = LatencyTracker::new(3);
        assert_eq!(latency.hedge_delay([PEER].into_iter()), HEDGE_AFTER_MIN, "nothing is known of it");
        for _ in 0..100 {
            latency.answered(PEER, Duration::from_millis(8));
        }
        let steady = latency.hedge_delay([PEER].into_iter());
        assert!((Duration::from_millis(8)..Duration::from_millis(9)).contains(&steady), "{steady:?}");
        assert_eq!(latency.resend_delay(), RESEND_AFTER);
        for _ in 0..100 {
            latency.stored(PEER, Duration::from_millis(600));
        }
        assert!(latency.resend_delay() > Duration::from_millis(599), "writes take long here");
        assert_eq!(latency.hedge_delay([PEER].into_iter()), steady, "and reads do not");
        latency.answered(PEER, Duration::from_millis(16));
        assert!(latency.hedge_delay([PEER].into_iter()) > Duration::from_millis(15), "one late answer is remembered");
        latency.answered(PEER, Duration::from_secs(1_000_000));
        assert_eq!(latency.hedge_delay([PEER].into_iter()), HEDGE_AFTER_MAX);
        for _ in 0..200 {
            latency.answered(PEER, Duration::ZERO);
        }
        assert_eq!(latency.hedge_delay([PEER].into_iter()), HEDGE_AFTER_MIN);
    }

    #[test]
    fn contents_and_records_on_their_way_to_a_disk_are_waited_for_longer() {
        let mut latency = LatencyTracker::new(3);
        assert_eq!(latency.content_delay([PEER].into_iter()), HEDGE_CONTENT_AFTER_MIN);
        assert_eq!(latency.store_delay([PEER].into_iter()), HEDGE_AFTER_MAX, "nothing is known of its disk");
        for _ in 0..100 {
            latency.answered(PEER, Duration::from_millis(40));
            latency.stored(PEER, Duration::from_millis(8));
        }
        let within = |millis: u64| Duration::from_millis(millis)..Duration::from_millis(millis + 1);
        assert!(within(40).contains(&latency.content_delay([PEER].into_iter())));
        assert!(within(8).contains(&latency.store_delay([PEER].into_iter())));
        assert_eq!(latency.store_delay([PEER, NodeIndex(2)].into_iter()), HEDGE_AFTER_MAX);
    }

    #[test]
    fn resend_delay_is_that_of_the_slowest_peer_at_any_time() {
        let mut latency = LatencyTracker::new(3);
        for n in 0..500_u64 {
            let peer = NodeIndex(u16::try_from(n % 3).unwrap());
            let took = Duration::from_millis(n * 7_919 % (1_500 - n));
            if n % 2 == 0 {
                latency.answered(peer, took);
            } else {
                latency.stored(peer, took);
            }
            assert_eq!(latency.longest, latency.peers.iter().map(PeerLatency::usual_max).fold(RESEND_MIN, u64::max));
        }
    }

    #[test]
    fn peer_that_was_slow_is_avoided_for_a_while() {
        let mut latency = LatencyTracker::new(3);
        latency.mark_slow(PEER, Time(5));
        assert!(latency.is_slow(PEER, Time(6)));
        assert!(!latency.is_slow(NodeIndex(2), Time(6)));
        assert!(!latency.is_slow(PEER, Time(5).after(SLOW_FOR)));
    }
}
