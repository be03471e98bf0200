//! Versions as clients see them: opaque text, safe in URLs, headers and shells.
//!
//! The text is base64url without padding of: one byte that says which parts follow (1 a stamp, 2 a ballot, 4 a table), the
//! parts, and two bytes that check them. A stamp or ballot is epoch and counter as varints, the length of the node id, and
//! the id; the stamp of an absence has none. The table's id, a varint, stands in versions of keys of created tables: a version of an absence would else come
//! back in a table that was dropped and created again. The check is seeded with the cluster's seed, so that it most likely
//! finds a typing error, or a version of a cluster with another seed. Clusters of one seed cannot be told apart.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::encoding::{decode_varint, encode_varint};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::types::{Clock, NodeId, Stamp, TableId, Version};

/// The version has a stamp.
const STAMP: u8 = 1;
/// The version has a ballot.
const BALLOT: u8 = 1 << 1;
/// The version is of a key of a created table.
const TABLE: u8 = 1 << 2;
/// Enough for a version with short node ids, so that the buffer does not grow.
const USUAL_BYTES: usize = 64;
/// The length of the check.
const CHECK_BYTES: usize = 2;

/// Writes and reads the versions of one cluster.
#[derive(Clone, Copy, Debug)]
pub struct VersionText {
    seed: u64,
}

/// The text is no version of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no version of this cluster: give one that an answer of this cluster contained, as it was")]
pub struct NotAVersion;

impl VersionText {
    /// The versions of the cluster with this seed.
    #[must_use]
    pub fn of_cluster(seed: u32) -> Self {
        Self { seed: seed.into() }
    }

    /// The text of a version.
    #[must_use]
    pub fn encode(self, version: &Version) -> String {
        let stamp = Some(&version.stamp).filter(|stamp| **stamp != Stamp::none());
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        let table = Some(version.table).filter(|table| *table != TableId::DEFAULT);
        bytes.push(
            stamp.map_or(0, |_| STAMP) | version.ballot.as_ref().map_or(0, |_| BALLOT) | table.map_or(0, |_| TABLE),
        );
        for Stamp { clock, writer } in stamp.into_iter().chain(&version.ballot) {
            encode_varint(clock.epoch, &mut bytes);
            encode_varint(clock.counter, &mut bytes);
            let writer = writer.as_str().as_bytes();
            bytes.push(u8::try_from(writer.len()).expect("NODE_ID_BYTES_MAX keeps it within a byte"));
            bytes.extend_from_slice(writer);
        }
        if let Some(table) = table {
            encode_varint(table.0.into(), &mut bytes);
        }
        let check = self.check(&bytes);
        bytes.extend_from_slice(&check);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The version that a text stands for.
    ///
    /// # Errors
    /// When no answer of this cluster contained it.
    pub fn decode(self, text: &str) -> Result<Version, NotAVersion> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAVersion)?;
        let (mut parts, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(NotAVersion)?;
        if self.check(parts) != *check {
            return Err(NotAVersion);
        }
        let (which, rest) = parts.split_first().ok_or(NotAVersion)?;
        parts = rest;
        if which & !(STAMP | BALLOT | TABLE) != 0 {
            return Err(NotAVersion);
        }
        let stamp = if which & STAMP == 0 { Stamp::none() } else { stamp(&mut parts, true)? };
        let ballot = if which & BALLOT == 0 { None } else { Some(self::stamp(&mut parts, false)?) };
        let table = if which & TABLE == 0 { TableId::DEFAULT } else { table(&mut parts)? };
        if parts.is_empty() { Ok(Version { stamp, ballot, table }) } else { Err(NotAVersion) }
    }

    fn check(self, bytes: &[u8]) -> [u8; CHECK_BYTES] {
        let [first, second, ..] = xxh3_64_with_seed(bytes, self.seed).to_be_bytes();
        [first, second]
    }
}

fn table(bytes: &mut &[u8]) -> Result<TableId, NotAVersion> {
    let id = decode_varint(bytes).ok().and_then(|id| u32::try_from(id).ok()).map(TableId);
    id.filter(|id| *id != TableId::DEFAULT).ok_or(NotAVersion)
}

fn stamp(bytes: &mut &[u8], may_be_of_absence: bool) -> Result<Stamp, NotAVersion> {
    let epoch = decode_varint(bytes).map_err(|_| NotAVersion)?;
    let counter = decode_varint(bytes).map_err(|_| NotAVersion)?;
    let (length, rest) = bytes.split_first().ok_or(NotAVersion)?;
    let (writer, rest) = rest.split_at_checked(usize::from(*length)).ok_or(NotAVersion)?;
    *bytes = rest;
    let clock = Clock { epoch, counter };
    if may_be_of_absence && writer.is_empty() && clock != Clock::default() {
        return Ok(Stamp { clock, writer: NodeId::none() });
    }
    let writer = std::str::from_utf8(writer).ok().and_then(|id| NodeId::of_writer(id).ok()).ok_or(NotAVersion)?;
    Ok(Stamp { clock, writer })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated};

    fn some_stamp() -> impl Strategy<Value = Stamp> {
        (any::<u64>(), any::<u64>(), "[!-+\\--~]{1,64}").prop_map(|(epoch, counter, id)| Stamp {
            clock: Clock { epoch, counter },
            writer: NodeId::new(&id).unwrap(),
        })
    }

    fn some_version() -> impl Strategy<Value = Version> {
        let of_absence =
            (any::<u64>(), any::<u64>()).prop_map(|(epoch, counter)| Stamp::of_absence(Clock { epoch, counter }));
        let stamp = prop_oneof![2 => some_stamp(), 1 => of_absence];
        (prop::option::of(stamp), prop::option::of(some_stamp()), any::<u32>()).prop_map(|(stamp, ballot, table)| {
            Version::new(stamp.unwrap_or_else(Stamp::none), ballot).in_table(TableId(table))
        })
    }

    proptest! {
        #[test]
        fn version_comes_out_as_it_went_in(version in some_version(), seed: u32) {
            let texts = VersionText::of_cluster(seed);
            let text = texts.encode(&version);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(texts.decode(&text), Ok(version));
        }

        #[test]
        fn random_text_never_panics(text in ".{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let texts = VersionText::of_cluster(0);
            let _ = texts.decode(&text);
            let _ = texts.decode(&URL_SAFE_NO_PAD.encode(bytes));
        }
    }

    #[test]
    fn absence_has_a_version_too() {
        let text = VersionText::of_cluster(7).encode(&Version::absent());
        assert_eq!(text.len(), 4, "{text}");
        assert_eq!(VersionText::of_cluster(7).decode(&text), Ok(Version::absent()));
    }

    #[test]
    fn foreign_and_damaged_versions_are_refused() {
        let stamp = Stamp { clock: Clock { epoch: 3, counter: 7 }, writer: NodeId::new("1").unwrap() };
        let text = VersionText::of_cluster(7).encode(&Version::new(stamp, None));
        assert_eq!(VersionText::of_cluster(8).decode(&text), Err(NotAVersion));
        for other in ["", "A", &text[1..], &format!("{text}A"), &text.replace('A', "B"), "not/base64"] {
            assert_eq!(VersionText::of_cluster(7).decode(other), Err(NotAVersion), "{other:?}");
        }
    }

    #[test]
    fn fuzz_versions() {
        let texts = VersionText::of_cluster(0);
        let clock = Clock { epoch: 3, counter: 1_000_000 };
        let stamp = Stamp { clock, writer: NodeId::new("node-1").unwrap() };
        let (plain, conditional) = (Version::new(stamp.clone(), None), Version::new(stamp.clone(), Some(stamp)));
        let of_table = conditional.clone().in_table(TableId(9));
        let seeds = [Version::absent(), plain, conditional, of_table].map(|version| {
            let bytes = URL_SAFE_NO_PAD.decode(texts.encode(&version)).expect("it was just encoded");
            bytes[..bytes.len() - CHECK_BYTES].to_vec()
        });
        let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let parts = mutated(&seeds, bytes);
            // With a check that fits.
            let text = URL_SAFE_NO_PAD.encode([parts.clone(), texts.check(&parts).to_vec()].concat());
            if let Ok(version) = texts.decode(&text) {
                assert_eq!(texts.decode(&texts.encode(&version)), Ok(version));
            }
        });
    }
}
