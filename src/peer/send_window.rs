//! How many pieces of large values may be under way to a peer that has not said yet that it took them.
//!
//! Few where they queue, because what is small would wait behind them, and more where it is the way that is long: with few
//! of them a link of a long round trip would carry little. How long pieces take tells one from the other: as long as the
//! fastest one while nothing queues (Brakmo and Peterson, "TCP Vegas: End to End Congestion Avoidance on a Global
//! Internet", JSAC 1995).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{LINK_PIECES_UNDER_WAY_MAX, LINK_PIECES_UNDER_WAY_MIN};

/// The pieces under way on one stream, and how many there may be.
#[derive(Debug)]
pub(super) struct SendWindow {
    limit: usize,
    /// When each was sent, the oldest first.
    under_way: VecDeque<Instant>,
    /// The shortest time that one took.
    least: Duration,
}

impl Default for SendWindow {
    fn default() -> Self {
        Self { limit: LINK_PIECES_UNDER_WAY_MIN, under_way: VecDeque::new(), least: Duration::MAX }
    }
}

impl SendWindow {
    /// Whether one more may be sent.
    pub(super) fn is_left(&self) -> bool {
        self.under_way.len() < self.limit
    }

    /// One was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.under_way.push_back(now);
    }

    /// The peer has taken so many.
    pub(super) fn taken(&mut self, count: u32, now: Instant) {
        for _ in 0..count {
            let was_used_up = !self.is_left();
            let Some(sent) = self.under_way.pop_front() else { return };
            let took = now.saturating_duration_since(sent);
            self.least = self.least.min(took);
            if took > self.least.saturating_mul(3) / 2 {
                self.limit = (self.limit - 1).max(LINK_PIECES_UNDER_WAY_MIN);
            } else if was_used_up {
                // One that was not used up says nothing of more.
                self.limit = (self.limit + 1).min(LINK_PIECES_UNDER_WAY_MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: usize = LINK_PIECES_UNDER_WAY_MIN;

    /// Sends pieces for as long as `time` over a link that takes one each `each` and brings it after `way`; the credit
    /// at the end, and how many arrived.
    fn sent_over(way: Duration, each: Duration, time: Duration) -> (SendWindow, u32) {
        let (mut credit, began, mut arrived) = (SendWindow::default(), Instant::now(), 0);
        let (mut now, mut free_at) = (began, began);
        let mut arrivals = VecDeque::new();
        while now < began + time {
            while credit.is_left() {
                credit.sent(now);
                free_at = free_at.max(now) + each;
                arrivals.push_back(free_at + way);
            }
            now = arrivals.pop_front().expect("one is under way");
            credit.taken(1, now);
            arrived += 1;
        }
        (credit, arrived)
    }

    #[test]
    fn long_way_is_filled() {
        let (way, each) = (Duration::from_millis(50), Duration::from_millis(1));
        let (credit, arrived) = sent_over(way, each, Duration::from_secs(10));
        assert!(arrived > 8_000, "{arrived} of 10,000 that the link can carry");
        assert!(credit.limit <= LINK_PIECES_UNDER_WAY_MAX);
    }

    #[test]
    fn slow_link_is_not_queued_on() {
        let (way, each) = (Duration::from_micros(200), Duration::from_millis(10));
        let (credit, arrived) = sent_over(way, each, Duration::from_secs(10));
        assert_eq!(credit.limit, LEAST);
        assert!(arrived >= 999, "{arrived} of the 1,000 that the link can carry");
    }

    #[test]
    fn credit_that_is_not_used_does_not_grow() {
        let (mut credit, now) = (SendWindow::default(), Instant::now());
        for _ in 0..100 {
            credit.sent(now);
            credit.taken(1, now + Duration::from_millis(1));
        }
        assert_eq!(credit.limit, LEAST);
    }

    #[test]
    fn pieces_that_were_never_sent_are_not_counted() {
        let (mut credit, now) = (SendWindow::default(), Instant::now());
        credit.taken(u32::MAX, now);
        credit.sent(now);
        credit.taken(u32::MAX, now);
        assert_eq!((credit.limit, credit.under_way.len()), (LEAST, 0));
    }
}
