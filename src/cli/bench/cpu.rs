//! The CPU time of this process.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

/// The user and system time of all threads since the process began. Zero if the system does not report it.
pub(super) fn used() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| {
            Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or_default())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_only_grows() {
        let before = used();
        let mut sum = 0_u64;
        while used() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(used() > before);
    }
}
