//! Whom a coordinator asks first, and how long it waits before it asks the others too.
//!
//! A majority answers a clock round or a read; asking more costs messages and buys nothing while all are well. So a
//! majority is asked first, this node's own replica before any other, and the rest once somebody is later than peers
//! usually are: a hedged request (Dean and Barroso, "The Tail at Scale", CACM 2013). Who was late or refused is not
//! among the first for a while.
//!
//! Nothing here decides what is true: whoever is asked, any majority's answers count, and nobody else's.

use std::time::Duration;

use crate::limits::{HEDGE_AFTER_MAX, HEDGE_AFTER_MIN, LATE_FOR, RESEND_AFTER, RESEND_AFTER_MAX};
use crate::types::NodeIndex;

use crate::protocol::Time;

/// How promptly each member answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promptness {
    peers: Box<[Peer]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    /// To a question: it does not wait for a disk that writes.
    answer: Usual,
    /// To a write as a whole, whose last answer waits for an fsync.
    write: Usual,
    late_until: Time,
}

/// How long something usually takes, in microseconds, smoothed as TCP does for its retransmissions (RFC 6298).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Usual {
    mean: u64,
    deviation: u64,
}

impl Usual {
    fn took(&mut self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(1 << 32);
        // An eighth of the way to what was seen now, and a quarter for the deviation: integers, so that runs replay.
        self.deviation = (3 * self.deviation + time.abs_diff(self.mean)).div_ceil(4);
        self.mean = (7 * self.mean + time).div_ceil(8);
    }

    fn at_most(&self) -> u64 {
        self.mean + 4 * self.deviation
    }
}

impl Promptness {
    /// Of so many members nothing is known yet.
    #[must_use]
    pub fn new(members: usize) -> Self {
        Self { peers: vec![Peer::default(); members].into() }
    }

    /// `peer` answered a question in time, after so long.
    pub fn answered(&mut self, peer: NodeIndex, took: Duration) {
        self.peers[peer.index()].answer.took(took);
    }

    /// `peer` has stored a write that began so long ago.
    pub fn stored(&mut self, peer: NodeIndex, took: Duration) {
        self.peers[peer.index()].write.took(took);
    }

    /// `peer` has not answered in time, or has refused.
    pub fn was_late(&mut self, peer: NodeIndex, now: Time) {
        self.peers[peer.index()].late_until = now.after(LATE_FOR);
    }

    /// Whether `peer` was late lately.
    #[must_use]
    pub fn is_late(&self, peer: NodeIndex, now: Time) -> bool {
        self.peers[peer.index()].late_until > now
    }

    /// How long to wait for these before others are asked too.
    pub fn patience(&self, asked: impl Iterator<Item = NodeIndex>) -> Duration {
        let longest = asked.map(|peer| self.peers[peer.index()].answer.at_most()).max();
        Duration::from_micros(longest.unwrap_or_default()).clamp(HEDGE_AFTER_MIN, HEDGE_AFTER_MAX)
    }

    /// How long to wait before the same is asked again of the same peers. A link is a reliable stream, so that this helps
    /// only where a peer has dropped it; where all are merely slow, it would make them slower.
    #[must_use]
    pub fn resend_after(&self) -> Duration {
        let longest = self.peers.iter().map(|peer| peer.answer.at_most().max(peer.write.at_most())).max();
        Duration::from_micros(longest.unwrap_or_default()).clamp(RESEND_AFTER, RESEND_AFTER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeIndex = NodeIndex(1);

    #[test]
    fn patience_follows_what_a_peer_usually_takes() {
        let mut promptness = Promptness::new(3);
        assert_eq!(promptness.patience([PEER].into_iter()), HEDGE_AFTER_MIN, "nothing is known of it");
        for _ in 0..100 {
            promptness.answered(PEER, Duration::from_millis(8));
        }
        let steady = promptness.patience([PEER].into_iter());
        assert!((Duration::from_millis(8)..Duration::from_millis(9)).contains(&steady), "{steady:?}");
        assert_eq!(promptness.resend_after(), RESEND_AFTER);
        for _ in 0..100 {
            promptness.stored(PEER, Duration::from_millis(600));
        }
        assert!(promptness.resend_after() > Duration::from_millis(599), "writes take long here");
        assert_eq!(promptness.patience([PEER].into_iter()), steady, "and questions do not");
        promptness.answered(PEER, Duration::from_millis(16));
        assert!(promptness.patience([PEER].into_iter()) > Duration::from_millis(15), "one surprise makes it wary");
        promptness.answered(PEER, Duration::from_secs(1_000_000));
        assert_eq!(promptness.patience([PEER].into_iter()), HEDGE_AFTER_MAX);
        for _ in 0..200 {
            promptness.answered(PEER, Duration::ZERO);
        }
        assert_eq!(promptness.patience([PEER].into_iter()), HEDGE_AFTER_MIN);
    }

    #[test]
    fn who_was_late_is_so_for_a_while() {
        let mut promptness = Promptness::new(3);
        promptness.was_late(PEER, Time(5));
        assert!(promptness.is_late(PEER, Time(6)));
        assert!(!promptness.is_late(NodeIndex(2), Time(6)));
        assert!(!promptness.is_late(PEER, Time(5).after(LATE_FOR)));
    }
}
