//! Waiting before the next attempt, with jitter: clients that failed together must not come back together.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use tokio::time::Instant;

/// The first wait, once every node has failed. Each further wait is twice as long, up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// The first wait of a client that lost a key to another one: half of what a conditional write takes on a fast disk.
const CONTENDER_BACKOFF_MIN: Duration = Duration::from_millis(1);
/// The longest such wait.
const CONTENDER_BACKOFF_MAX: Duration = Duration::from_millis(64);

/// The waits of one operation.
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Between rounds in which every node failed.
    pub(super) fn new() -> Self {
        Self { next: BACKOFF_MIN, longest: BACKOFF_MAX }
    }

    /// Between tries that failed because another client succeeded.
    pub(super) fn between_contenders() -> Self {
        Self { next: CONTENDER_BACKOFF_MIN, longest: CONTENDER_BACKOFF_MAX }
    }

    /// Waits before the next attempt. Returns false, at once, when the wait would end after `deadline`.
    pub(super) async fn wait(&mut self, deadline: Instant) -> bool {
        let wake_at = Instant::now() + jittered(self.next);
        self.next = (2 * self.next).min(self.longest);
        if wake_at >= deadline {
            return false;
        }
        tokio::time::sleep_until(wake_at).await;
        true
    }
}

/// A random time between half of `duration` and all of it.
pub(super) fn jittered(duration: Duration) -> Duration {
    duration / 2 + duration.mul_f32(f32::from(random()) / f32::from(u16::MAX) / 2.0)
}

/// Random bytes, for the name of a request.
pub(super) fn random_bytes() -> [u8; 16] {
    // Each state has keys of its own, which the system's generator made for the first one of a thread.
    let state = RandomState::new();
    let (mut low, mut high) = (state.build_hasher(), state.build_hasher());
    low.write_u8(0);
    high.write_u8(1);
    (u128::from(high.finish()) << 64 | u128::from(low.finish())).to_le_bytes()
}

/// A random number from the standard library's only source of randomness. It is good enough to spread load, and saves
/// the client library a dependency.
pub(super) fn random() -> u16 {
    let [low, high, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    u16::from_le_bytes([low, high])
}
