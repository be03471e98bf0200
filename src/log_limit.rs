//! A bound for log lines that a peer, a client or a disk can repeat.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a few lines of one kind pass in each interval, and counts the others.
#[derive(Debug)]
pub struct LogLimit {
    lines_max: u32,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    began: Option<Instant>,
    passed: u32,
    left_out: u64,
}

impl LogLimit {
    /// Lets `lines_max` lines pass in each `interval`.
    #[must_use]
    pub const fn new(lines_max: u32, interval: Duration) -> Self {
        Self { lines_max, interval, state: Mutex::new(State { began: None, passed: 0, left_out: 0 }) }
    }

    /// Whether one more line may be written at `now`: the number of lines left out since the last that was written, or
    /// `None` where this line is to be left out too.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        // No change to the state can panic half-way.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now.saturating_duration_since(began) >= self.interval) {
            (state.began, state.passed) = (Some(now), 0);
        }
        if state.passed == self.lines_max {
            state.left_out += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_line_is_counted_until_the_next_interval() {
        let (limit, began) = (LogLimit::new(2, Duration::from_secs(10)), Instant::now());
        let passed: Vec<_> = (0..100).filter_map(|_| limit.pass(began)).collect();
        assert_eq!(passed, [0, 0]);
        assert_eq!(limit.pass(began + Duration::from_secs(9)), None);
        assert_eq!(limit.pass(began + Duration::from_secs(10)), Some(99), "all that were left out");
        assert_eq!(limit.pass(began + Duration::from_secs(10)), Some(0));
    }
}
