//! The quorum clock: the one issuer of a node's stamps.
//!
//! Contract: a clock neither shows nor issues an epoch that is not durable. A caller that needs a greater epoch gets
//! [`EpochNeeded`], makes the epoch durable, and then calls [`QuorumClock::epoch_is_durable`]. Every start begins a new durable
//! epoch, so that stamps stay unique although the counter is only in memory.
//!
//! Source: the timestamps of Lynch and Shvartsman (FTCS 1997) with the epoch in place of durable counters.

use crate::limits::{COUNTER_JUMP_MAX, COUNTER_MAX, EPOCH_JUMP_MAX};
use crate::mutants::must;
use crate::types::Clock;

/// A node's clock: at least as great as every stamp that the node has issued or acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuorumClock {
    epoch_durable: u64,
    now: Clock,
}

/// A stamp needs an epoch that is not durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochNeeded(pub u64);

/// A clock that no honest peer can show: it is so far ahead that following it would use up the clock's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("clock {seen} is further ahead of {now} than any honest node's can be")]
pub struct ClockJump {
    /// The clock that was seen.
    pub seen: Clock,
    /// This node's clock.
    pub now: Clock,
}

/// How far a clock may jump ahead of this node's.
#[derive(Clone, Copy, Debug)]
pub struct JumpBounds {
    /// The most epochs.
    pub epochs_max: u64,
    /// The most counts within one epoch.
    pub counts_max: u64,
}

/// How far the clock of an honest peer may be ahead.
pub const PEER_JUMP: JumpBounds = JumpBounds { epochs_max: EPOCH_JUMP_MAX, counts_max: COUNTER_JUMP_MAX };

impl QuorumClock {
    /// The clock of an incarnation that begins with `epoch`. The caller shows nothing of it before that epoch is durable.
    #[must_use]
    pub fn start(epoch: u64) -> Self {
        Self { epoch_durable: epoch, now: Clock { epoch, counter: 0 } }
    }

    /// The clock now. As an answer it must be read after the request arrived.
    #[must_use]
    pub fn now(&self) -> Clock {
        self.now
    }

    /// Whether `epoch` is durable, so that it may be shown.
    #[must_use]
    pub fn is_durable(&self, epoch: u64) -> bool {
        epoch <= self.epoch_durable
    }

    /// Checks that `seen` is ahead by no more than `bounds`: if a node followed a damaged or hostile clock to the end of the
    /// range, no stamp would be left for any node.
    ///
    /// # Errors
    /// When `seen` is too far ahead.
    pub fn check_jump(&self, seen: Clock, bounds: JumpBounds) -> Result<(), ClockJump> {
        let counter_from = if seen.epoch == self.now.epoch { self.now.counter } else { 0 };
        let too_far = seen.epoch.saturating_sub(self.now.epoch) > bounds.epochs_max
            || seen.counter.saturating_sub(counter_from) > bounds.counts_max
            || seen.counter > COUNTER_MAX;
        // A clock that is not ahead raises nothing, wherever it came from.
        if seen > self.now && too_far { Err(ClockJump { seen, now: self.now }) } else { Ok(()) }
    }

    /// `epoch` is durable.
    pub fn epoch_is_durable(&mut self, epoch: u64) {
        self.epoch_durable = self.epoch_durable.max(epoch);
    }

    /// Raises the clock to at least `seen`.
    ///
    /// # Panics
    /// When the epoch of `seen` is not durable here: a later incarnation could issue the same stamp again.
    pub fn observe(&mut self, seen: Clock) {
        assert!(self.is_durable(seen.epoch), "epoch {} is observed before it is durable", seen.epoch);
        self.now = self.now.max(seen);
    }

    /// Draws the next clock value, above `floor` and everything seen or issued.
    ///
    /// # Errors
    /// When that value's epoch must become durable first. The caller draws again afterwards.
    pub fn issue(&mut self, floor: Clock) -> Result<Clock, EpochNeeded> {
        let below = self.now.max(floor);
        let next = if below.counter >= COUNTER_MAX {
            Clock { epoch: below.epoch + 1, counter: 1 }
        } else {
            Clock { epoch: below.epoch, counter: below.counter + 1 }
        };
        if !self.is_durable(next.epoch) {
            return Err(EpochNeeded(next.epoch));
        }
        must!(SecondIssuer, self.now = next);
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(epoch: u64, counter: u64) -> Clock {
        Clock { epoch, counter }
    }

    #[test]
    fn issued_values_rise_above_floor_and_everything_seen() {
        let mut here = QuorumClock::start(3);
        assert_eq!(here.issue(clock(0, 0)), Ok(clock(3, 1)));
        assert_eq!(here.issue(clock(3, 40)), Ok(clock(3, 41)));
        here.observe(clock(3, 99));
        assert_eq!(here.issue(clock(1, 500)), Ok(clock(3, 100)));
        assert_eq!(here.now(), clock(3, 100));
    }

    #[test]
    fn greater_epoch_is_not_issued_before_it_is_durable() {
        let mut here = QuorumClock::start(3);
        assert_eq!(here.issue(clock(7, 2)), Err(EpochNeeded(7)));
        assert_eq!(here.now(), clock(3, 0), "a refused draw leaves no trace");
        here.epoch_is_durable(7);
        assert_eq!(here.issue(clock(7, 2)), Ok(clock(7, 3)));
    }

    #[test]
    fn counter_at_its_end_carries_into_the_next_epoch() {
        let mut here = QuorumClock::start(1);
        here.observe(clock(1, COUNTER_MAX));
        assert_eq!(here.issue(clock(0, 0)), Err(EpochNeeded(2)));
        here.epoch_is_durable(2);
        assert_eq!(here.issue(clock(0, 0)), Ok(clock(2, 1)));
    }

    #[test]
    fn jump_that_no_honest_peer_makes_is_refused() {
        let here = QuorumClock::start(10);
        assert!(here.check_jump(clock(10, COUNTER_JUMP_MAX), PEER_JUMP).is_ok());
        assert!(here.check_jump(clock(10, COUNTER_JUMP_MAX + 1), PEER_JUMP).is_err());
        assert!(here.check_jump(clock(10 + EPOCH_JUMP_MAX, 0), PEER_JUMP).is_ok());
        assert!(here.check_jump(clock(11 + EPOCH_JUMP_MAX, 0), PEER_JUMP).is_err());
        assert!(here.check_jump(clock(u64::MAX, u64::MAX), PEER_JUMP).is_err());
        assert!(here.check_jump(clock(9, u64::MAX), PEER_JUMP).is_ok(), "a clock that is behind raises nothing");
    }

    #[test]
    #[should_panic(expected = "before it is durable")]
    fn observing_an_epoch_that_is_not_durable_is_a_bug() {
        QuorumClock::start(1).observe(clock(2, 0));
    }
}
