//! How fast a node repairs: so many keys and so many bytes a second.

use std::time::Duration;

use crate::limits::REPAIR_BURST;
use crate::protocol::io::Time;

use super::settings::RepairSettings;

/// When the next step of repair may begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pace {
    /// The keys that began so far are paid for then, at the rate of the settings. Bytes have their own such time.
    keys_until: Time,
    bytes_until: Time,
}

impl Pace {
    /// Whether a step may begin.
    pub(super) fn allows(&self, now: Time) -> bool {
        self.free_at() <= now
    }

    /// When a step may begin. Steps begin in bursts, so that the timer rings less often.
    pub(super) fn free_at(&self) -> Time {
        let until = self.keys_until.max(self.bytes_until);
        Time(until.0.saturating_sub(Time(0).after(REPAIR_BURST).0))
    }

    /// A key is repaired.
    pub(super) fn key(&mut self, settings: &RepairSettings, now: Time) {
        self.keys_until = now.max(self.keys_until).after(time_of(1, settings.keys_per_second));
    }

    /// So many bytes are sent for it.
    pub(super) fn bytes(&mut self, bytes: usize, settings: &RepairSettings, now: Time) {
        self.bytes_until = now.max(self.bytes_until).after(time_of(bytes, settings.bytes_per_second));
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

    #[test]
    fn keys_and_bytes_each_have_their_rate() {
        let settings = RepairSettings { keys_per_second: 100, bytes_per_second: 10_000, ..RepairSettings::default() };
        let begun = |bytes| {
            let (mut pace, mut begun) = (Pace::default(), 0);
            for now in (0..10_000_000).step_by(1_000).map(Time) {
                while pace.allows(now) {
                    pace.key(&settings, now);
                    pace.bytes(bytes, &settings, now);
                    begun += 1;
                }
            }
            begun
        };
        assert!((1_000..1_010).contains(&begun(0)), "{} keys in ten seconds", begun(0));
        assert!((100..110).contains(&begun(1_000)), "{} keys of 1,000 bytes in ten seconds", begun(1_000));
    }
}
