//! Conditional writes: what a client asks for, and what follows from the record that is there.

use bytes::Bytes;

use super::{Checksum, Content, Digest, IdempotencyToken, Ttl, Value, Version};

/// What must be true of a key for a write to take effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The key's record has this version, which may be that of an absence.
    Version(Version),
    /// The key has no value.
    Absent,
    /// The key has a value.
    Present,
    /// The key has a value, of one of these versions.
    Among(Vec<Version>),
    /// The key has a value of none of these versions; or no value, unless one is needed.
    NotAmong {
        /// The versions.
        versions: Vec<Version>,
        /// Whether the key must have a value.
        needs_value: bool,
    },
}

impl Condition {
    /// Whether the condition holds where `current` is the key's record.
    #[must_use]
    pub fn holds(&self, current: Option<&Digest>) -> bool {
        let has_value = current.is_some_and(|digest| digest.is_value);
        match self {
            Self::Version(version) => *version == current.map_or_else(Version::absent, Digest::version),
            Self::Absent => !has_value,
            Self::Present => has_value,
            Self::Among(versions) => has_value && current.is_some_and(|digest| versions.contains(&digest.version())),
            Self::NotAmong { versions, .. } if has_value => {
                !current.is_some_and(|digest| versions.contains(&digest.version()))
            }
            Self::NotAmong { needs_value, .. } => !needs_value,
        }
    }
}

/// A write whose effect depends on the record that is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Writes or deletes where a condition holds.
    Write {
        /// The condition.
        condition: Condition,
        /// The value, or a tombstone to delete it.
        content: Content,
        /// The time to live of the value.
        ttl: Option<Ttl>,
        /// The checksum of key, content and time to live, computed where they entered the cluster.
        checksum: Checksum,
    },
    /// Adds to a number in decimal. An absent key counts as 0.
    Add {
        /// The number to add.
        delta: i64,
        /// A version that the client has seen. The addition fails where it cannot be known any more whether it took
        /// effect since then.
        since: Option<Version>,
        /// The time to live of the sum.
        ttl: Option<Ttl>,
        /// Whether the sum keeps what is left of the time to live of the number instead, where there is a number.
        keeps_ttl: bool,
    },
}

/// A conditional write and the client's name for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChangeRequest {
    /// The write.
    pub change: Change,
    /// The client's name for it.
    pub token: IdempotencyToken,
    /// Whether the client may have sent it before.
    pub is_resend: bool,
}

impl Change {
    /// The version that the client has seen, above which all conditional writes must be remembered to run this one.
    #[must_use]
    pub fn since(&self) -> Option<&Version> {
        match self {
            Self::Write { condition: Condition::Version(version), .. } => Some(version),
            Self::Write { .. } => None,
            Self::Add { since, .. } => since.as_ref(),
        }
    }

    /// Whether the content of the present record decides about the effect.
    #[must_use]
    pub fn needs_content(&self) -> bool {
        matches!(self, Self::Add { .. })
    }

    /// The length of the value to write, in bytes.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        match self {
            Self::Write { content, .. } => content.value_bytes(),
            Self::Add { .. } => 0,
        }
    }
}

/// The number in `content`, as Redis keeps it: decimal digits without leading zeros, and a minus sign before a negative
/// one. An absence is 0. `None` where the content is no such number, or is out of 64 bits.
#[must_use]
pub fn number_in(content: Option<&Content>) -> Option<i64> {
    let Some(Content::Value(value)) = content else { return Some(0) };
    let text = std::str::from_utf8(value.bytes()).ok()?;
    let number: i64 = text.parse().ok()?;
    // What `parse` accepts beyond it: a plus sign, leading zeros and minus zero.
    (number.to_string() == text).then_some(number)
}

/// The content that keeps `number`.
#[must_use]
pub fn content_of(number: i64) -> Content {
    Content::Value(Value::Text(Bytes::from(number.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Clock, NodeId, Stamp};

    fn digest(counter: u64, is_value: bool) -> Digest {
        let stamp = Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("1").unwrap() };
        Digest { stamp, proposal: None, checksum: Checksum(0), ttl: None, is_value }
    }

    #[test]
    fn conditions_judge_the_present_record() {
        let (value, tombstone) = (digest(1, true), digest(2, false));
        let not_among = |digests: &[&Digest], needs_value| {
            let versions = digests.iter().map(|digest| digest.version()).collect();
            Condition::NotAmong { versions, needs_value }
        };
        for (condition, absent, of_value, of_tombstone) in [
            (Condition::Absent, true, false, true),
            (Condition::Present, false, true, false),
            (Condition::Version(Version::absent()), true, false, false),
            (Condition::Version(value.version()), false, true, false),
            (Condition::Version(tombstone.version()), false, false, true),
            (Condition::Among(vec![tombstone.version(), value.version()]), false, true, false),
            (Condition::Among(vec![tombstone.version(), Version::absent()]), false, false, false),
            (Condition::Among(Vec::new()), false, false, false),
            (not_among(&[&tombstone], false), true, true, true),
            (not_among(&[&tombstone, &value], false), true, false, true),
            (not_among(&[&tombstone], true), false, true, false),
            (not_among(&[&value], true), false, false, false),
        ] {
            let holds = [None, Some(&value), Some(&tombstone)].map(|current| condition.holds(current));
            assert_eq!(holds, [absent, of_value, of_tombstone], "{condition:?}");
        }
    }

    #[test]
    fn numbers_are_read_as_redis_keeps_them() {
        let number = |text: &str| number_in(Some(&Content::Value(Value::Text(text.to_owned().into()))));
        assert_eq!((number_in(None), number_in(Some(&Content::Tombstone))), (Some(0), Some(0)));
        assert_eq!((number("0"), number("-17"), number("42")), (Some(0), Some(-17), Some(42)));
        assert_eq!((number("9223372036854775807"), number("-9223372036854775808")), (Some(i64::MAX), Some(i64::MIN)));
        for other in ["", "-", "+1", "01", "-0", " 1", "1 ", "1.0", "one", "9223372036854775808"] {
            assert_eq!(number(other), None, "{other:?}");
        }
        assert_eq!(number_in(Some(&content_of(-5))), Some(-5));
    }
}
