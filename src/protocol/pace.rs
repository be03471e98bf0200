//! When a node that repairs, or takes slots over, may go on at its rate.

use std::time::Duration;

use crate::limits::{REPAIR_AHEAD, REPAIR_BURST, REPAIR_IN_FLIGHT_MAX, REPAIR_VALUE_BYTES_GUESSED};
use crate::protocol::io::Time;
use crate::protocol::rate::Rate;

/// When the next step may begin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pace {
    /// The keys that began so far are paid for then, at the rate. Bytes have their own such time.
    keys_until: Time,
    bytes_until: Time,
    /// Whether it is so far ahead of its rate that it waits until all that began is paid for.
    is_ahead: bool,
    /// The size of the values that were copied last: nobody knows the size of the next one.
    value_bytes: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            keys_until: Time::default(),
            bytes_until: Time::default(),
            is_ahead: false,
            value_bytes: REPAIR_VALUE_BYTES_GUESSED,
        }
    }
}

impl Pace {
    /// How many keys may be under way at the same time: of large values few, because their bytes are only known afterwards.
    pub(super) fn keys_max(&self, rate: Rate) -> usize {
        let one = time_of(self.value_bytes, rate.bytes_per_second).as_micros().max(1);
        usize::try_from(REPAIR_AHEAD.as_micros() / one).unwrap_or(usize::MAX).clamp(1, REPAIR_IN_FLIGHT_MAX)
    }

    /// A key was copied whose value has so many bytes.
    pub(super) fn copied(&mut self, value_bytes: usize, rate: Rate, now: Time) {
        // A mean in which the last eight or so count.
        self.value_bytes = (self.value_bytes * 7 + value_bytes) / 8;
        self.bytes(value_bytes, rate, now);
    }

    /// Whether a step may begin. Steps begin in bursts with pauses between them: those of a burst share messages and syncs, which
    /// cost more than the steps.
    pub(super) fn allows(&mut self, now: Time) -> bool {
        self.is_ahead = self.free_at() > now;
        !self.is_ahead
    }

    /// When a step may begin.
    pub(super) fn free_at(&self) -> Time {
        let until = self.keys_until.max(self.bytes_until);
        let ahead = if self.is_ahead { Duration::ZERO } else { REPAIR_BURST };
        Time(until.0.saturating_sub(Time(0).after(ahead).0))
    }

    /// A key begins.
    pub(super) fn key(&mut self, rate: Rate, now: Time) {
        self.keys_until = now.max(self.keys_until).after(time_of(1, rate.keys_per_second));
    }

    /// So many bytes are sent for it.
    pub(super) fn bytes(&mut self, bytes: usize, rate: Rate, now: Time) {
        self.bytes_until = now.max(self.bytes_until).after(time_of(bytes, rate.bytes_per_second));
    }
}

/// How long so many take at a rate.
fn time_of(count: usize, per_second: usize) -> Duration {
    let micros = (count as u64).saturating_mul(1_000_000) / (per_second as u64).max(1);
    Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::repair_settings::RepairSettings;

    #[test]
    fn large_values_are_copied_few_at_a_time() {
        let (rate, mut pace) = (RepairSettings::default().rate(), Pace::default());
        assert_eq!(pace.keys_max(rate), 2, "nobody knows yet how large they are");
        (0..100).for_each(|_| pace.copied(100, rate, Time(0)));
        assert_eq!(pace.keys_max(rate), REPAIR_IN_FLIGHT_MAX);
        (0..20).for_each(|_| pace.copied(60 << 20, rate, Time(0)));
        assert_eq!(pace.keys_max(rate), 1);
    }

    #[test]
    fn steps_begin_in_bursts() {
        let (rate, mut pace) = (Rate { keys_per_second: 1_000, bytes_per_second: 1 << 20 }, Pace::default());
        let mut bursts = Vec::new();
        for now in (0..1_000_000).step_by(1_000).map(Time) {
            let mut begun = 0;
            while pace.allows(now) {
                pace.key(rate, now);
                begun += 1;
            }
            bursts.extend((begun > 0).then_some(begun));
        }
        assert!((1_000..=1_021).contains(&bursts.iter().sum::<i32>()), "{bursts:?}");
        assert!(bursts.iter().all(|begun| (20..=21).contains(begun)), "{bursts:?}");
    }

    #[test]
    fn keys_and_bytes_each_have_their_rate() {
        let rate = Rate { keys_per_second: 100, bytes_per_second: 10_000 };
        let begun = |bytes| {
            let (mut pace, mut begun) = (Pace::default(), 0);
            for now in (0..10_000_000).step_by(1_000).map(Time) {
                while pace.allows(now) {
                    pace.key(rate, now);
                    pace.bytes(bytes, rate, now);
                    begun += 1;
                }
            }
            begun
        };
        assert!((1_000..1_010).contains(&begun(0)), "{} keys in ten seconds", begun(0));
        assert!((100..110).contains(&begun(1_000)), "{} keys of 1,000 bytes in ten seconds", begun(1_000));
    }
}
