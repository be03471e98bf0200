//! How fast a node repairs, or takes slots over: so many keys and so many bytes a second.

use crate::limits::{TAKEOVER_BYTES_PER_SECOND_DEFAULT, TAKEOVER_KEYS_PER_SECOND_DEFAULT};

/// The most that is copied in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// The most keys.
    pub keys_per_second: usize,
    /// The most bytes, about.
    pub bytes_per_second: usize,
}

impl Rate {
    /// That of a node that takes slots over, unless it is configured.
    pub const TAKEOVER: Self =
        Self { keys_per_second: TAKEOVER_KEYS_PER_SECOND_DEFAULT, bytes_per_second: TAKEOVER_BYTES_PER_SECOND_DEFAULT };
}
