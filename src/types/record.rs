//! What is stored under a key: values, tombstones, and their place in the order, and their checksum.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::version::{Applied, Ballot, Proposal, Tag, Version};
use super::{Clock, Key, Stamp, TableId};

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

/// How long a value is kept after it was written, in milliseconds: 1 ms to [`Ttl::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(NonZeroU64);

impl Ttl {
    /// Ten years of 365 days.
    pub const MAX: Duration = Duration::from_hours(10 * 365 * 24);

    /// The time to live of so many milliseconds; `None` where that is out of bounds.
    #[must_use]
    pub fn from_millis(millis: u64) -> Option<Self> {
        NonZeroU64::new(millis).filter(|millis| u128::from(millis.get()) <= Self::MAX.as_millis()).map(Self)
    }

    /// In milliseconds.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0.get()
    }
}

/// A checksum of a key and a record: computed where a value enters the cluster, verified where the value leaves it.
///
/// XXH3 of 64 bits: it detects accidents, not attacks. It does not cover the stamp and the ballot, which are drawn later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(pub u64);

impl Checksum {
    /// Computes the checksum of `content` under the name of `key` in its table.
    #[must_use]
    pub fn of(key: &Key, content: &Content) -> Self {
        let (arm, bytes): (u8, &[u8]) = match content {
            Content::Tombstone => (0, &[]),
            Content::Value(Value::Text(bytes)) => (1, bytes),
            Content::Value(Value::Binary(bytes)) => (2, bytes),
        };
        // The key's sum seeds the value's, so that a value under a wrong key is detected too.
        let key_sum = xxh3_64_with_seed(key.user_bytes(), u64::from(arm));
        Self(xxh3_64_with_seed(bytes, key_sum))
    }

    /// The checksum that covers a time to live as well.
    #[must_use]
    pub fn and_ttl(self, ttl: Option<Ttl>) -> Self {
        ttl.map_or(self, |ttl| Self(xxh3_64_with_seed(&ttl.as_millis().to_be_bytes(), self.0)))
    }

    /// The checksum of `content` and its time to live under `key`.
    #[must_use]
    pub fn of_write(key: &Key, content: &Content, ttl: Option<Ttl>) -> Self {
        Self::of(key, content).and_ttl(ttl).and_table(key.table())
    }

    /// The checksum that covers the key's table as well. A name of a table is resolved after a value has entered the cluster.
    #[must_use]
    pub fn and_table(self, table: TableId) -> Self {
        if table == TableId::DEFAULT { self } else { Self(xxh3_64_with_seed(&table.0.to_be_bytes(), self.0)) }
    }

    /// The checksum that covers a proposal as well, but for its ballot.
    #[must_use]
    pub fn and_proposal(self, proposal: Option<&Proposal>) -> Self {
        proposal.map_or(self, |proposal| Self(xxh3_64_with_seed(&proposal.checksum_bytes(), self.0)))
    }
}

/// A replica's copy of a key. A key that was never written has no record, which orders below every record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// The position of the record's plain write in the order of all plain writes.
    pub stamp: Stamp,
    /// What a conditional write has beyond a plain one.
    pub proposal: Option<Arc<Proposal>>,
    /// The time to live of the value. A value without one never expires.
    pub ttl: Option<Ttl>,
    /// The value or the tombstone.
    pub content: Content,
    /// The checksum of the key, the content, the time to live and the proposal.
    pub checksum: Checksum,
}

impl Record {
    /// The record of a plain write that never expires.
    #[must_use]
    pub fn plain(stamp: Stamp, content: Content, checksum: Checksum) -> Self {
        Self { stamp, proposal: None, ttl: None, content, checksum }
    }

    /// An absence in a slot that is sealed up to `seal`, as a deletion that nobody made. No replica holds it.
    #[must_use]
    pub fn absence(key: &Key, seal: Clock) -> Self {
        let content = Content::Tombstone;
        let checksum = Checksum::of_write(key, &content, None);
        Self::plain(Stamp::of_absence(seal), content, checksum)
    }

    /// Whether it is an absence, and no record that a replica could hold.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        self.stamp.is_none() && self.proposal.is_none()
    }

    /// About how many bytes of memory the record takes under `key`.
    #[must_use]
    pub fn bytes(&self, key: &Key) -> usize {
        // The stamp, the checksum and a map's entry.
        const OVERHEAD: usize = 200;
        // An entry of a proposal's history, with its two stamps.
        const RECENT: usize = 112;
        let proposal = self.proposal.as_ref().map_or(0, |proposal| OVERHEAD + proposal.recent.len() * RECENT);
        OVERHEAD + proposal + key.as_bytes().len() + self.content.value_bytes()
    }

    /// The record without its content.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest {
            stamp: self.stamp.clone(),
            proposal: self.proposal.clone(),
            checksum: self.checksum,
            ttl: self.ttl,
            is_value: self.is_value(),
        }
    }

    /// The record's position in the order of all records of its key.
    #[must_use]
    pub fn tag(&self) -> Tag<'_> {
        Tag { stamp: &self.stamp, ballot: self.proposal.as_ref().map(|proposal| &proposal.ballot) }
    }

    /// The record's version.
    #[must_use]
    pub fn version(&self) -> Version {
        version(&self.stamp, self.proposal.as_deref())
    }

    /// Whether the record has a value; `false` for a tombstone.
    #[must_use]
    pub fn is_value(&self) -> bool {
        matches!(self.content, Content::Value(_))
    }

    /// The same record under `ballot`, so that a replica which holds the record under a smaller one takes it, and under the
    /// stamp of its own or a greater one. Its version stays.
    #[must_use]
    pub fn settled_under(&self, stamp: Stamp, ballot: Ballot) -> Self {
        let proposal = match &self.proposal {
            Some(proposal) => Proposal { ballot, ..(**proposal).clone() },
            None => Proposal { ballot, version: self.version(), recent: Vec::new(), recent_floor: self.version() },
        };
        // The checksum of a plain record does not cover a proposal yet.
        let uncovered = self.proposal.is_none().then_some(&proposal);
        let checksum = self.checksum.and_proposal(uncovered);
        Self { stamp, proposal: proposal.shared(), checksum, ..self.clone() }
    }

    /// Whether the record still matches the checksum that was computed when it was written under `key`.
    #[must_use]
    pub fn is_intact(&self, key: &Key) -> bool {
        let content = Checksum::of_write(key, &self.content, self.ttl);
        content.and_proposal(self.proposal.as_deref()) == self.checksum
    }
}

/// A record without its content: enough to compare two records, and to judge a condition.
///
/// Digests are ordered by tag. Two digests with the same tag that differ are a defect of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    /// The stamp of the record that the digest stands for.
    pub stamp: Stamp,
    /// What a conditional write has beyond a plain one.
    pub proposal: Option<Arc<Proposal>>,
    /// The checksum of the whole record.
    pub checksum: Checksum,
    /// The time to live of the value.
    pub ttl: Option<Ttl>,
    /// Whether the record has a value; `false` for a tombstone.
    pub is_value: bool,
}

impl Digest {
    /// The record's position in the order of all records of its key.
    #[must_use]
    pub fn tag(&self) -> Tag<'_> {
        Tag { stamp: &self.stamp, ballot: self.ballot() }
    }

    /// The record's version.
    #[must_use]
    pub fn version(&self) -> Version {
        version(&self.stamp, self.proposal.as_deref())
    }

    /// The ballot of a conditional write.
    #[must_use]
    pub fn ballot(&self) -> Option<&Ballot> {
        self.proposal.as_ref().map(|proposal| &proposal.ballot)
    }

    /// The latest conditional writes, and the version of the newest that was forgotten.
    #[must_use]
    pub fn history(&self) -> (Vec<Applied>, Version) {
        match &self.proposal {
            Some(proposal) => (proposal.recent.clone(), proposal.recent_floor.clone()),
            None => (Vec::new(), self.version()),
        }
    }

    /// Whether it is a deletion that a replica with this seal of its slot may forget.
    #[must_use]
    pub fn is_sealed_away(&self, seal: Option<Clock>) -> bool {
        !self.is_value && seal.is_some_and(|seal| self.tag().clock() <= seal)
    }

    /// Whether a replica with this seal of its slot has forgotten a deletion that may be above the record. The stamp decides,
    /// whatever the ballot: the deletion of a greater stamp stands above both.
    #[must_use]
    pub fn is_below(&self, seal: Option<Clock>) -> bool {
        seal.is_some_and(|seal| self.stamp < Stamp::of_absence(seal))
    }

    /// Its size between nodes in bytes, about.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        /// The stamp, the checksum and framing.
        const OVERHEAD: usize = 64;
        OVERHEAD + self.proposal.as_ref().map_or(0, |proposal| proposal.encoded_bytes())
    }

    /// Whether the two are of one tag and not the same.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.tag() == other.tag() && self != other
    }
}

fn version(stamp: &Stamp, proposal: Option<&Proposal>) -> Version {
    proposal.map_or_else(|| Version::new(stamp.clone(), None), |proposal| proposal.version.clone())
}
