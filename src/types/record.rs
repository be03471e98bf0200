//! What is stored under a key: values, tombstones, and the stamp and checksum beside them.

use std::fmt;

use bytes::Bytes;

use super::{Key, Stamp};

/// A value, and whether the client wrote it as text or as binary: a value is read through the same arm of the API's
/// `Entry` that it was written through.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// UTF-8 text. The checksum guards the encoding: nobody checks it again.
    Text(Bytes),
    /// Arbitrary bytes.
    Binary(Bytes),
}

impl Value {
    /// The value's bytes, of text and binary alike.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (arm, bytes) = match self {
            Self::Text(bytes) => ("Text", bytes),
            Self::Binary(bytes) => ("Binary", bytes),
        };
        let shown = &bytes[..bytes.len().min(32)];
        write!(f, "{arm}({} bytes: {:?})", bytes.len(), String::from_utf8_lossy(shown))
    }
}

/// The content of a record: a value, or a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A value that a Set wrote.
    Value(Value),
    /// A deletion. Replicas keep it: without it a replica that missed the deletion would bring the deleted value back.
    Tombstone,
}

impl Content {
    /// The value's length in bytes; 0 for a tombstone.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        match self {
            Self::Value(value) => value.bytes().len(),
            Self::Tombstone => 0,
        }
    }
}

/// A checksum of a key and its content: computed where a value enters the cluster, verified where the value leaves it.
///
/// XXH3 of 64 bits: it detects accidents, not attacks. It does not cover the stamp, which is drawn later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(pub u64);

impl Checksum {
    /// Computes the checksum of `content` under `key`.
    #[must_use]
    pub fn of(key: &Key, content: &Content) -> Self {
        let (arm, bytes): (u8, &[u8]) = match content {
            Content::Tombstone => (0, &[]),
            Content::Value(Value::Text(bytes)) => (1, bytes),
            Content::Value(Value::Binary(bytes)) => (2, bytes),
        };
        // The key's sum seeds the value's, so that a value under a wrong key is detected too.
        let key_sum = xxhash_rust::xxh3::xxh3_64_with_seed(key.as_bytes(), u64::from(arm));
        Self(xxhash_rust::xxh3::xxh3_64_with_seed(bytes, key_sum))
    }
}

/// A replica's copy of a key: content, stamp and checksum. A key that was never written has no record, which orders below
/// every record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// The record's position in the order of all writes.
    pub stamp: Stamp,
    /// The value or the tombstone.
    pub content: Content,
    /// The checksum of the key and the content.
    pub checksum: Checksum,
}

impl Record {
    /// About how many bytes of memory the record takes under `key`.
    #[must_use]
    pub fn bytes(&self, key: &Key) -> usize {
        // The stamp, the checksum and a map's entry.
        const OVERHEAD: usize = 200;
        OVERHEAD + key.as_bytes().len() + self.content.value_bytes()
    }

    /// The record without its content.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest { stamp: self.stamp.clone(), checksum: self.checksum }
    }

    /// Whether the content still matches the checksum that was computed when it was written under `key`.
    #[must_use]
    pub fn is_intact(&self, key: &Key) -> bool {
        Checksum::of(key, &self.content) == self.checksum
    }
}

/// A record without its content: enough to compare two records.
///
/// Digests are ordered by stamp. Two digests with the same stamp and different checksums are a defect of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    /// The stamp of the record that the digest stands for.
    pub stamp: Stamp,
    /// The checksum of the record's key and content.
    pub checksum: Checksum,
}
