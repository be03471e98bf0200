//! Keys, and the slots that they fall into.

use std::fmt;

use bytes::Bytes;

/// The longest key, in bytes. RocksDB holds keys whole in its indexes and filters, so long ones cost memory on every node.
pub const KEY_BYTES_MAX: usize = 4 << 10;

/// A key: 1 to [`KEY_BYTES_MAX`] bytes of UTF-8. Keys are ordered by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

/// Why some bytes are not a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key has no bytes.
    #[error("the key is empty: give it 1 to {KEY_BYTES_MAX} bytes of UTF-8")]
    Empty,
    /// The key has more than [`KEY_BYTES_MAX`] bytes.
    #[error("the key has {bytes} bytes: at most {KEY_BYTES_MAX} are accepted")]
    TooLong {
        /// The key's length in bytes.
        bytes: usize,
    },
    /// The bytes are not UTF-8.
    #[error("the key is not valid UTF-8 (from byte {valid_up_to} on)")]
    NotUtf8 {
        /// The number of leading bytes that are valid UTF-8.
        valid_up_to: usize,
    },
}

impl Key {
    /// Checks `bytes` and takes them as a key, without copying a `Bytes` or `Vec`.
    ///
    /// # Errors
    /// When the bytes are empty, more than [`KEY_BYTES_MAX`], or not UTF-8.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(KeyError::Empty);
        }
        if bytes.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong { bytes: bytes.len() });
        }
        if let Err(error) = std::str::from_utf8(&bytes) {
            return Err(KeyError::NotUtf8 { valid_up_to: error.valid_up_to() });
        }
        Ok(Self(bytes))
    }

    /// The key as bytes: what is hashed, compared and stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text: the same bytes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a key was checked to be UTF-8 when it was made")
    }

    /// The same key in memory of its own. A key that came in a message keeps the whole message alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The key's bytes without a copy: they share the key's buffer.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// One of the [`Slot::COUNT`] parts of the key space, by number. Replicas belong to slots, not to single keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The number of slots in every cluster: 65,536.
    pub const COUNT: usize = 1 << 16;
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
