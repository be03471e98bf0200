//! Waiting before the next attempt, with jitter: clients that failed together must not come back together.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use tokio::time::Instant;

/// The first wait, once every node has failed. Each further wait is twice as long, up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// The waits of one operation.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(BACKOFF_MIN)
    }

    /// Waits before the next attempt. Returns false, at once, when the wait would end after `deadline`.
    pub(super) async fn wait(&mut self, deadline: Instant) -> bool {
        let wake_at = Instant::now() + jittered(self.0);
        self.0 = (2 * self.0).min(BACKOFF_MAX);
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

/// A random number from the standard library's only source of randomness. It is good enough to spread load, and saves
/// the client library a dependency.
pub(super) fn random() -> u16 {
    let [low, high, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    u16::from_le_bytes([low, high])
}
