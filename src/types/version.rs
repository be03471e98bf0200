//! The order of a key's records: tags and versions.
//!
//! A plain write is ordered by its stamp. A conditional write keeps the stamp of the record that it was computed from and
//! adds a ballot, so that it stands above that record and below every newer plain write. Among the ballots of one stamp the
//! replicas run Paxos (Lamport, "The Part-Time Parliament", TOCS 1998). Rystsov's `CASPaxos` (2018) does so for each key.

use std::fmt;
use std::sync::Arc;

use super::{Clock, NodeId, Stamp, TableId};

/// How many of the latest conditional writes a record remembers.
pub const RECENT_MAX: usize = 8;

/// A Paxos proposal number, drawn like a stamp from its node's one issuer.
pub type Ballot = Stamp;

/// The position of a record in the order of all records of its key: by stamp, then by ballot. No ballot is below all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag<'a> {
    /// The stamp of the plain write that the record is, or was computed from.
    pub stamp: &'a Stamp,
    /// The ballot of a conditional write.
    pub ballot: Option<&'a Ballot>,
}

impl Tag<'_> {
    /// The greater of the clocks in the tag. The clock of a node that has acknowledged the record is not below it.
    #[must_use]
    pub fn clock(self) -> Clock {
        self.ballot.map_or(self.stamp.clock, |ballot| self.stamp.clock.max(ballot.clock))
    }
}

/// The tag under which a content was first proposed. Later rounds may give the record a new tag, and never a new version.
///
/// Versions of the records of a key rise, and none comes back. The version of an absence is equal to another or it is not: a
/// seal of the slot gives an absence a new one. Clients compare versions together with the table's id, which never comes back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The stamp of the plain write that the record is, or was computed from.
    pub stamp: Stamp,
    /// The ballot of a conditional write.
    pub ballot: Option<Ballot>,
    /// The table of the key, in versions that clients see and name. Inside of the cluster a version goes with its key, and
    /// this is [`TableId::DEFAULT`].
    pub table: TableId,
}

impl Version {
    /// The version of a record, inside of the cluster.
    #[must_use]
    pub fn new(stamp: Stamp, ballot: Option<Ballot>) -> Self {
        Self { stamp, ballot, table: TableId::DEFAULT }
    }

    /// The version of a key that was never written: below that of every record.
    #[must_use]
    pub fn absent() -> Self {
        Self::new(Stamp::none(), None)
    }

    /// The version of an absence in a slot that is sealed up to `seal`; of one that was never sealed without it.
    #[must_use]
    pub fn of_absence(seal: Option<Clock>) -> Self {
        seal.map_or_else(Self::absent, |seal| Self::new(Stamp::of_absence(seal), None))
    }

    /// The version as the clients of `table` see it.
    #[must_use]
    pub fn in_table(self, table: TableId) -> Self {
        Self { table, ..self }
    }

    /// The version as a tag.
    #[must_use]
    pub fn tag(&self) -> Tag<'_> {
        Tag { stamp: &self.stamp, ballot: self.ballot.as_ref() }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ballot {
            None => write!(f, "{}", self.stamp),
            Some(ballot) => write!(f, "{}+{ballot}", self.stamp),
        }
    }
}

/// A client's name for one of its requests: random, and the same wherever the request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyToken(pub [u8; 16]);

/// A conditional write that took effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Applied {
    /// The client's name for it.
    pub token: IdempotencyToken,
    /// The version that it made.
    pub version: Version,
    /// The value that an addition left.
    pub sum: Option<i64>,
}

/// What a record that a conditional write made has beyond a plain one.
///
/// Proposals are ordered by ballot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposal {
    /// The ballot of the record's tag.
    pub ballot: Ballot,
    /// The tag under which the content was first proposed.
    pub version: Version,
    /// The last [`RECENT_MAX`] conditional writes since the plain record that they began on, oldest first. A request that
    /// is sent again is found here, as in RIFL (Lee et al., SOSP 2015).
    pub recent: Vec<Applied>,
    /// The version of the newest conditional write that `recent` has no more room for. Where there is none, that of the
    /// plain record that they began on.
    pub recent_floor: Version,
}

impl Proposal {
    /// The bytes that a record's checksum covers: all but the ballot.
    #[must_use]
    pub(super) fn checksum_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        push_version(&self.version, &mut bytes);
        push_version(&self.recent_floor, &mut bytes);
        for Applied { token, version, sum } in &self.recent {
            bytes.extend_from_slice(&token.0);
            push_version(version, &mut bytes);
            bytes.push(u8::from(sum.is_some()));
            bytes.extend_from_slice(&sum.unwrap_or_default().to_be_bytes());
        }
        bytes
    }

    /// Its size between nodes in bytes, about.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        /// The ballot and the two versions.
        const OVERHEAD: usize = 200;
        /// One conditional write of the history.
        const APPLIED: usize = 120;
        OVERHEAD + self.recent.len() * APPLIED
    }

    /// The proposal of the content of `applied`, computed from `base`, under `ballot`.
    #[must_use]
    pub fn following(base: Option<&super::Digest>, ballot: Ballot, applied: Applied) -> Self {
        let (mut recent, mut recent_floor) = match base {
            None => (Vec::new(), Version::absent()),
            Some(base) => base.history(),
        };
        let version = applied.version.clone();
        recent.push(applied);
        while recent.len() > RECENT_MAX {
            recent_floor = recent.remove(0).version;
        }
        Self { ballot, version, recent, recent_floor }
    }

    /// As an option of a record.
    #[must_use]
    pub fn shared(self) -> Option<Arc<Self>> {
        Some(Arc::new(self))
    }
}

fn push_version(version: &Version, bytes: &mut Vec<u8>) {
    push_stamp(&version.stamp, bytes);
    bytes.push(u8::from(version.ballot.is_some()));
    if let Some(ballot) = &version.ballot {
        push_stamp(ballot, bytes);
    }
}

fn push_stamp(Stamp { clock, writer }: &Stamp, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&clock.epoch.to_be_bytes());
    bytes.extend_from_slice(&clock.counter.to_be_bytes());
    let writer = NodeId::as_str(writer).as_bytes();
    bytes.push(u8::try_from(writer.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(writer);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(counter: u64) -> Stamp {
        Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("1").unwrap() }
    }

    #[test]
    fn conditional_record_stands_above_its_base_and_below_newer_plain_writes() {
        let (base, newer, ballot) = (stamp(1), stamp(2), stamp(9));
        let conditional = Tag { stamp: &base, ballot: Some(&ballot) };
        assert!(Tag { stamp: &base, ballot: None } < conditional);
        assert!(conditional < Tag { stamp: &newer, ballot: None });
        assert_eq!(conditional.clock(), ballot.clock);
    }

    #[test]
    fn every_record_is_above_an_absence() {
        let absent = Version::absent();
        assert!(absent < Version::new(Stamp::none(), Some(stamp(1))));
        assert!(absent < Version::new(stamp(0), None));
    }

    #[test]
    fn history_forgets_the_oldest_and_says_how_far() {
        let mut base: Option<super::super::Digest> = None;
        for n in 1..=10 {
            let ballot = stamp(n);
            let version = Version::new(Stamp::none(), Some(ballot.clone()));
            let applied = Applied { token: IdempotencyToken([u8::try_from(n).unwrap(); 16]), version, sum: None };
            let proposal = Proposal::following(base.as_ref(), ballot, applied);
            base = Some(super::super::Digest {
                stamp: Stamp::none(),
                proposal: proposal.shared(),
                checksum: super::super::Checksum(0),
                ttl: None,
                is_value: true,
            });
        }
        let (recent, floor) = base.unwrap().history();
        let kept: Vec<u8> = recent.iter().map(|applied| applied.token.0[0]).collect();
        assert_eq!(kept, [3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(floor.ballot, Some(stamp(2)));
    }
}
