//! A flow-control window: how many chunks of large values may be sent ahead of the peer's acknowledgements.
//!
//! The window is small when chunks queue, because small messages would wait behind them. It grows on long links, which a small
//! window would leave idle. The delay of the chunks tells the two apart: while nothing queues, each takes as long as the
//! fastest one (Brakmo and Peterson, "TCP Vegas: End to End Congestion Avoidance on a Global Internet", JSAC 1995).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{LINK_CHUNKS_IN_FLIGHT_MAX, LINK_CHUNKS_IN_FLIGHT_MIN};

/// The chunks in flight on one stream, and their bound.
#[derive(Debug)]
pub(super) struct SendWindow {
    limit: usize,
    /// When each chunk in flight was sent, the oldest first.
    in_flight: VecDeque<Instant>,
    /// The shortest time from sending to acknowledgement.
    delay_min: Duration,
}

impl Default for SendWindow {
    fn default() -> Self {
        Self { limit: LINK_CHUNKS_IN_FLIGHT_MIN, in_flight: VecDeque::new(), delay_min: Duration::MAX }
    }
}

impl SendWindow {
    /// Whether one more chunk may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < self.limit
    }

    /// A chunk was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.in_flight.push_back(now);
    }

    /// The peer has acknowledged `count` chunks.
    pub(super) fn acknowledged(&mut self, count: u32, now: Instant) {
        for _ in 0..count {
            let was_full = !self.has_room();
            let Some(sent) = self.in_flight.pop_front() else { return };
            let delay = now.saturating_duration_since(sent);
            self.delay_min = self.delay_min.min(delay);
            if delay > self.delay_min.saturating_mul(3) / 2 {
                self.limit = (self.limit - 1).max(LINK_CHUNKS_IN_FLIGHT_MIN);
            } else if was_full {
                // A window that was not full does not show that a larger one is of use.
                self.limit = (self.limit + 1).min(LINK_CHUNKS_IN_FLIGHT_MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: usize = LINK_CHUNKS_IN_FLIGHT_MIN;

    /// Sends chunks for `time` over a link with a delay of `way` that carries one chunk in each `each`. Returns the window at
    /// the end and the number of chunks that arrived.
    fn sent_over(way: Duration, each: Duration, time: Duration) -> (SendWindow, u32) {
        let (mut window, began, mut arrived) = (SendWindow::default(), Instant::now(), 0);
        let (mut now, mut free_at) = (began, began);
        let mut arrivals = VecDeque::new();
        while now < began + time {
            while window.has_room() {
                window.sent(now);
                free_at = free_at.max(now) + each;
                arrivals.push_back(free_at + way);
            }
            now = arrivals.pop_front().expect("one is in flight");
            window.acknowledged(1, now);
            arrived += 1;
        }
        (window, arrived)
    }

    #[test]
    fn long_link_is_filled() {
        let (way, each) = (Duration::from_millis(50), Duration::from_millis(1));
        let (window, arrived) = sent_over(way, each, Duration::from_secs(10));
        assert!(arrived > 8_000, "{arrived} of 10,000 that the link can carry");
        assert!(window.limit <= LINK_CHUNKS_IN_FLIGHT_MAX);
    }

    #[test]
    fn slow_link_is_not_queued_on() {
        let (way, each) = (Duration::from_micros(200), Duration::from_millis(10));
        let (window, arrived) = sent_over(way, each, Duration::from_secs(10));
        assert_eq!(window.limit, LEAST);
        assert!(arrived >= 999, "{arrived} of the 1,000 that the link can carry");
    }

    #[test]
    fn window_that_is_not_filled_does_not_grow() {
        let (mut window, now) = (SendWindow::default(), Instant::now());
        for _ in 0..100 {
            window.sent(now);
            window.acknowledged(1, now + Duration::from_millis(1));
        }
        assert_eq!(window.limit, LEAST);
    }

    #[test]
    fn acknowledgements_of_unsent_chunks_do_not_count() {
        let (mut window, now) = (SendWindow::default(), Instant::now());
        window.acknowledged(u32::MAX, now);
        window.sent(now);
        window.acknowledged(u32::MAX, now);
        assert_eq!((window.limit, window.in_flight.len()), (LEAST, 0));
    }
}
