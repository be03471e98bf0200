//! Whom a coordinator asks first, and how long it waits before it asks the others too.
//!
//! A majority answers a clock round or a read; asking more costs messages and buys nothing while all are well. So a
//! majority is asked first, this node's own replica before any other, and the rest once somebody is later than peers
//! usually are: a hedged request (Dean and Barroso, "The Tail at Scale", CACM 2013). Who was late or refused is not
//! among the first for a while.
//!
//! Nothing here decides what is true: whoever is asked, any majority's answers count, and nobody else's.

use std::time::Duration;

use crate::limits::{HEDGE_AFTER_MAX, HEDGE_AFTER_MIN, LATE_FOR};
use crate::types::Member;

use super::Time;

/// How promptly each member answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promptness {
    peers: Box<[Peer]>,
}

/// Times in microseconds, smoothed as TCP does for its retransmissions (RFC 6298).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    usual: u64,
    deviation: u64,
    late_until: Time,
}

impl Promptness {
    /// Of so many members nothing is known yet.
    #[must_use]
    pub fn new(members: usize) -> Self {
        Self { peers: vec![Peer::default(); members].into() }
    }

    /// `peer` answered in time, after so long.
    pub fn answered(&mut self, peer: Member, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(1 << 32);
        let peer = &mut self.peers[peer.index()];
        // An eighth of the way to what was seen now, and a quarter for the deviation: integers, so that runs replay.
        peer.deviation = (3 * peer.deviation + took.abs_diff(peer.usual)).div_ceil(4);
        peer.usual = (7 * peer.usual + took).div_ceil(8);
    }

    /// `peer` has not answered in time, or has refused.
    pub fn was_late(&mut self, peer: Member, now: Time) {
        self.peers[peer.index()].late_until = now.after(LATE_FOR);
    }

    /// Whether `peer` was late lately.
    #[must_use]
    pub fn is_late(&self, peer: Member, now: Time) -> bool {
        self.peers[peer.index()].late_until > now
    }

    /// How long to wait for these before others are asked too.
    pub fn patience(&self, asked: impl Iterator<Item = Member>) -> Duration {
        let longest = asked.map(|peer| &self.peers[peer.index()]).map(|peer| peer.usual + 4 * peer.deviation).max();
        Duration::from_micros(longest.unwrap_or_default()).clamp(HEDGE_AFTER_MIN, HEDGE_AFTER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Member = Member(1);

    #[test]
    fn patience_follows_what_a_peer_usually_takes() {
        let mut promptness = Promptness::new(3);
        assert_eq!(promptness.patience([PEER].into_iter()), HEDGE_AFTER_MIN, "nothing is known of it");
        for _ in 0..100 {
            promptness.answered(PEER, Duration::from_millis(8));
        }
        let steady = promptness.patience([PEER].into_iter());
        assert!((Duration::from_millis(8)..Duration::from_millis(9)).contains(&steady), "{steady:?}");
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
        assert!(!promptness.is_late(Member(2), Time(6)));
        assert!(!promptness.is_late(PEER, Time(5).after(LATE_FOR)));
    }
}
