//! The bytes on disk: keys and values of the column families, encoded and decoded by pure functions.
//!
//! Contract: encoded data decodes to the same data. Arbitrary bytes decode to an error or to valid data, and never cause a
//! panic. Every value begins with a version: a later program can add fields, and an earlier one refuses them instead of
//! misreading them. Numbers are big-endian, so that keys sort as numbers do.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `meta` | a name; `incarnation/` and an epoch; `peer/` and the name under which a node writes; `dropped/` and the id of a table (4); `seal/` and a slot (2) | version, fields, XXH3 of name and fields |
//! | `records` | slot (2), the key's bytes | version, flags, kept since (8), stamp, checksum (8), time to live (8), proposal, then the value's bytes, or the length (4) of a large value |
//! | `blobs` | as in `records` | as in `records`, with the value's bytes |
//! | `expiry` | when it expires (8), slot (2), the key's bytes | version, the version that expires |
//!
//! The flags of a record are 1 for a value (a tombstone does not have it), 2 for text, 4 for a value that is in `blobs`, 8
//! for a time to live in milliseconds, 16 for a proposal. An unknown flag is refused. A record has the fields alone that its
//! flags name: a plain record that never expires costs nothing for the others. The `proposal` file describes a proposal. A
//! record with a time to live says since when the node has kept its version, on the node's own count ([`RunningTime`]).
//!
//! A stamp is epoch (8), counter (8), writer length (1), writer. The stamp of an absence has no writer.
//!
//! Caveat: a record's checksum covers its key and content. The checksums that RocksDB keeps of its blocks and its log guard
//! the stamp and the ballot.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::types::{
    Checksum, Clock, Configuration, Content, Digest, Expiry, Incarnation, Key, KeyError, NodeId, NodeIdError,
    PeerRecord, Record, RunningTime, SiteError, Slot, Stamp, StoreId, TableId, TakenOver, Ttl, Value, Vote,
};

mod members;
mod proposal;

/// The layout of the column families as a whole, kept under `format` in `meta`. It rises when earlier programs could no
/// longer read a store.
pub const FORMAT: u32 = 6;

/// The same once the node has adopted a configuration: an earlier program would take the cluster file for the list of members.
pub const FORMAT_WITH_CONFIGURATION: u32 = 7;

/// The layout of one digest or record.
pub const RECORD_VERSION: u8 = 3;

/// The layout of one entry of `expiry`.
pub const EXPIRY_VERSION: u8 = 1;

/// The layout of one entry of `meta`.
pub const META_VERSION: u8 = 1;

/// The same with a weight and a zone for each member. An entry without any keeps the earlier layout, which every program reads
/// that knows configurations. An entry with some has this one, which an earlier program refuses: it would look for replicas
/// on other nodes.
pub const META_VERSION_WITH_SITES: u8 = 2;

/// The least size of a large value, in bytes. A large value is stored separately from its digest, so that comparing stamps
/// and listing keys do not read it. For smaller values a second entry would cost more than reading them along.
pub const LARGE_VALUE_BYTES_MIN: usize = 4 << 10;

/// The length of the encoded digest of a plain record without its writer's id, in bytes.
const DIGEST_BYTES: usize = 1 + 1 + 8 + 8 + 1 + 8;

/// The record has a value; without this flag it is a tombstone.
const FLAG_VALUE: u8 = 1;
/// The value was written as text.
const FLAG_TEXT: u8 = 1 << 1;
/// The value is in the `blobs` family.
const FLAG_SEPARATED: u8 = 1 << 2;
/// The value has a time to live.
const FLAG_TTL: u8 = 1 << 3;
/// The record is that of a conditional write.
const FLAG_PROPOSAL: u8 = 1 << 4;
/// The flags of a value alone.
const FLAGS_OF_VALUES: u8 = FLAG_TEXT | FLAG_SEPARATED | FLAG_TTL;

const META_FORMAT: &[u8] = b"format";
const META_STORE_ID: &[u8] = b"store_id";
const META_EPOCH: &[u8] = b"epoch";
const META_BOOTSTRAPPED: &[u8] = b"bootstrapped";
const META_RUNNING: &[u8] = b"running";
const META_INCARNATION: &[u8] = b"incarnation/";
const META_PEER: &[u8] = b"peer/";
const META_DROPPED: &[u8] = b"dropped/";
const META_FENCE: &[u8] = b"fence";
const META_SEAL: &[u8] = b"seal/";
const META_CONFIGURATION: &[u8] = b"configuration";
const META_VOTE: &[u8] = b"vote";
const META_TAKEN_OVER: &[u8] = b"taken_over";

/// Why some bytes cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("it ends within its {field}: {missing} more bytes were expected")]
    Truncated {
        /// The field that is incomplete.
        field: &'static str,
        /// The number of missing bytes.
        missing: usize,
    },
    /// Bytes follow the last field.
    #[error("{bytes} bytes follow its end")]
    Trailing {
        /// The number of such bytes.
        bytes: usize,
    },
    /// The layout is not known to this program.
    #[error(
        "it has version {found} and this program reads version {known}: it is damaged, or a newer Quorate wrote it"
    )]
    Version {
        /// The version in the bytes.
        found: u8,
        /// The version that this program reads.
        known: u8,
    },
    /// The flags are not a valid combination in this place.
    #[error("its flags {found:#04x} are not valid here")]
    Flags {
        /// The flags in the bytes.
        found: u8,
    },
    /// A tombstone has a value.
    #[error("it is a tombstone and has a value of {bytes} bytes")]
    TombstoneWithValue {
        /// The length of that value.
        bytes: usize,
    },
    /// The digest says that the value is in the `blobs` family, and it is not there.
    #[error("its value, which is stored separately, is missing or is an earlier one")]
    ValueMissing,
    /// A time to live is out of its bounds.
    #[error("its time to live of {millis} ms is out of bounds")]
    Ttl {
        /// The time in the bytes.
        millis: u64,
    },
    /// A number has no meaning here.
    #[error("its {field} is {found}, which has no meaning")]
    Unknown {
        /// The field.
        field: &'static str,
        /// The number in the bytes.
        found: u8,
    },
    /// A list of members breaks a rule.
    #[error("its list of members is not valid")]
    NotAList,
    /// A member has a weight or a zone that is none.
    #[error("it has {0}")]
    Site(#[from] SiteError),
    /// A node id is text that is not accepted as an id.
    #[error("its node id is not valid: {0}")]
    NodeId(#[from] NodeIdError),
    /// A node id is not UTF-8.
    #[error("its node id is not text")]
    NodeIdNotText,
    /// The key is empty, too long, or not UTF-8.
    #[error("its key is not valid: {0}")]
    Key(#[from] KeyError),
    /// The checksum of the bytes is not the stored one.
    #[error("its checksum is {found:016x} and should be {expected:016x}")]
    Checksum {
        /// The checksum of the bytes that were read.
        found: u64,
        /// The checksum that is stored beside them.
        expected: u64,
    },
}

/// A key's entry in the `records` family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The whole record.
    Whole(Record),
    /// A record with a large value. The `blobs` family has the whole record.
    Separated {
        /// The record's digest.
        digest: Digest,
        /// The length of its value in bytes. No checksum covers it: it decides about memory, not about the answer.
        value_bytes: usize,
    },
}

/// One entry of the `meta` family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaEntry {
    /// The layout of the whole store: [`FORMAT`].
    Format(u32),
    /// The data folder's identity.
    StoreId(StoreId),
    /// The greatest durable epoch of the node.
    Epoch(u64),
    /// An incarnation that began on this folder.
    Incarnation(Incarnation),
    /// Every other node has recorded this node's store id.
    Bootstrapped,
    /// The record of one peer.
    Peer(NodeId, PeerRecord),
    /// The node's count of the time that it ran.
    Running(RunningTime),
    /// A table that was dropped.
    Dropped(TableId),
    /// The clock up to which the node takes in no new writes.
    Fence(Clock),
    /// A slot that is sealed up to a clock.
    Seal(Slot, Clock),
    /// The configuration that the node has adopted.
    Configuration(Arc<Configuration>),
    /// Its part in the last vote on a configuration.
    Vote(Vote),
    /// How far it has taken over the slots that it gains.
    TakenOver(TakenOver),
}

/// The names of the seals of the slots from `first` to `last`: from the first one, and up to the second one.
#[must_use]
pub fn seal_names(first: Slot, last: Slot) -> (Vec<u8>, Vec<u8>) {
    ([META_SEAL, &first.0.to_be_bytes()].concat(), [META_SEAL, &last.0.to_be_bytes(), &[0]].concat())
}

/// The slot of a seal by its name; `None` for the name of anything else.
#[must_use]
pub fn slot_of_seal(name: &[u8]) -> Option<Slot> {
    name.strip_prefix(META_SEAL)?.first_chunk().map(|bytes| Slot(u16::from_be_bytes(*bytes)))
}

/// The slot of an [`entry_key`].
#[must_use]
pub fn slot_of_entry(entry_key: &[u8]) -> Option<Slot> {
    entry_key.first_chunk().map(|bytes| Slot(u16::from_be_bytes(*bytes)))
}

/// The key of `key`'s entry in the `records` and `blobs` families. The entries of one slot are one contiguous range.
#[must_use]
pub fn entry_key(slot: Slot, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + key.len());
    bytes.extend_from_slice(&slot.0.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// Splits an [`entry_key`] into slot and key. The key's bytes are not validated.
///
/// # Errors
/// When the bytes are too short for a slot.
pub fn split_entry_key(bytes: &[u8]) -> Result<(Slot, &[u8]), DecodeError> {
    let mut input = Input(bytes);
    let slot = Slot(u16::from_be_bytes(input.take("slot")?));
    Ok((slot, input.0))
}

/// Whether `record`'s value is stored separately from its digest.
#[must_use]
pub fn is_large(record: &Record) -> bool {
    record.content.value_bytes() >= LARGE_VALUE_BYTES_MIN
}

/// Appends `record` with its value: the entry of the `blobs` family, or of the `records` family if the value is not large.
/// `kept_at` is the count at which the node first kept its version; it is stored with a time to live alone.
pub fn encode_record(record: &Record, kept_at: Option<RunningTime>, out: &mut Vec<u8>) {
    out.reserve(DIGEST_BYTES + record.stamp.writer.as_str().len() + record.content.value_bytes());
    encode_head(flags(record), record, kept_at, out);
    if let Content::Value(value) = &record.content {
        out.extend_from_slice(value.bytes());
    }
}

/// Appends the digest of a `record` whose value is large, and the value's length: its entry in the `records` family.
///
/// # Panics
/// When `record` is a tombstone, which has no value to store separately.
pub fn encode_separated(record: &Record, kept_at: Option<RunningTime>, out: &mut Vec<u8>) {
    assert_ne!(record.content, Content::Tombstone, "a tombstone has no value to store separately");
    encode_head(flags(record) | FLAG_SEPARATED, record, kept_at, out);
    let value_bytes =
        u32::try_from(record.content.value_bytes()).expect("VALUE_BYTES_MAX keeps a length within 4 bytes");
    out.extend_from_slice(&value_bytes.to_be_bytes());
}

/// The flags of a record that is stored whole.
fn flags(record: &Record) -> u8 {
    let content = match record.content {
        Content::Tombstone => 0,
        Content::Value(Value::Text(_)) => FLAG_VALUE | FLAG_TEXT,
        Content::Value(Value::Binary(_)) => FLAG_VALUE,
    };
    let ttl = if record.ttl.is_some() { FLAG_TTL } else { 0 };
    let proposal = if record.proposal.is_some() { FLAG_PROPOSAL } else { 0 };
    content | ttl | proposal
}

fn encode_head(flags: u8, record: &Record, kept_at: Option<RunningTime>, out: &mut Vec<u8>) {
    out.push(RECORD_VERSION);
    out.push(flags);
    if record.ttl.is_some() {
        // A version whose age nobody knows is new: to delete it late does no harm.
        out.extend_from_slice(&kept_at.map_or(u64::MAX, |RunningTime(count)| count).to_be_bytes());
    }
    encode_stamp(&record.stamp, out);
    out.extend_from_slice(&record.checksum.0.to_be_bytes());
    if let Some(ttl) = record.ttl {
        out.extend_from_slice(&ttl.as_millis().to_be_bytes());
    }
    if let Some(of_record) = &record.proposal {
        proposal::encode(of_record, &record.stamp, out);
    }
}

fn encode_stamp(stamp: &Stamp, out: &mut Vec<u8>) {
    let writer = stamp.writer.as_str().as_bytes();
    let writer_bytes = u8::try_from(writer.len()).expect("NODE_ID_BYTES_MAX keeps a node id's length within a byte");
    out.extend_from_slice(&stamp.clock.epoch.to_be_bytes());
    out.extend_from_slice(&stamp.clock.counter.to_be_bytes());
    out.push(writer_bytes);
    out.extend_from_slice(writer);
}

/// Reads the digest at the beginning of an entry of the `records` or the `blobs` family. The value is not read.
///
/// # Errors
/// When the bytes are not such an entry.
pub fn decode_digest(bytes: &[u8]) -> Result<Digest, DecodeError> {
    Ok(head(&mut Input(bytes))?.1)
}

/// Reads how long the value of an entry of the `records` family is; `None` for a tombstone.
///
/// # Errors
/// When the bytes are not such an entry.
pub fn stored_value_bytes(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    let mut input = Input(bytes);
    let (flags, digest) = head(&mut input)?;
    if !digest.is_value {
        return Ok(None);
    }
    if flags & FLAG_SEPARATED == 0 {
        return Ok(Some(input.0.len()));
    }
    let length = u32::from_be_bytes(input.take("length of the value")?);
    Ok(Some(usize::try_from(length).unwrap_or(usize::MAX)))
}

/// Reads since when the node has kept the version of an entry of the `records` or the `blobs` family; `None` where the
/// record has no time to live.
///
/// # Errors
/// When the bytes end too early.
pub fn decode_kept_at(bytes: &[u8]) -> Result<Option<RunningTime>, DecodeError> {
    let mut input = Input(bytes);
    input.take_u8("version")?;
    if input.take_u8("flags")? & FLAG_TTL == 0 {
        return Ok(None);
    }
    Ok(Some(RunningTime(input.take_u64("count")?)))
}

/// The key and the value of an entry of the `expiry` family. Entries are ordered by the time at which they expire.
#[must_use]
pub fn encode_expiry(expiry: &Expiry) -> (Vec<u8>, Vec<u8>) {
    let Expiry { at, slot, key, version } = expiry;
    let name = [&at.0.to_be_bytes()[..], &entry_key(*slot, key.as_bytes())].concat();
    let mut value = vec![EXPIRY_VERSION];
    proposal::encode_version(version, &Stamp::none(), &mut value);
    (name, value)
}

/// Reads an entry of the `expiry` family.
///
/// # Errors
/// When the bytes are not such an entry.
pub fn decode_expiry(name: &[u8], value: &[u8]) -> Result<Expiry, DecodeError> {
    let mut input = Input(name);
    let at = RunningTime(input.take_u64("time")?);
    let (slot, key) = split_entry_key(input.0)?;
    let key = Key::from_stored(key.to_vec())?;
    let mut input = Input(value);
    let found = input.take_u8("version")?;
    if found != EXPIRY_VERSION {
        return Err(DecodeError::Version { found, known: EXPIRY_VERSION });
    }
    let version = proposal::decode_version(&mut input, &Stamp::none())?;
    input.end()?;
    Ok(Expiry { at, slot, key, version })
}

/// Reads `key`'s entry of the `records` family, and verifies the checksum of a whole record. The value is copied once.
///
/// # Errors
/// When the bytes are not such an entry, or the checksum is wrong.
pub fn decode_entry(key: &Key, bytes: &[u8]) -> Result<Entry, DecodeError> {
    let mut input = Input(bytes);
    let (flags, digest) = head(&mut input)?;
    if flags & FLAG_SEPARATED != 0 {
        let value_bytes = u32::from_be_bytes(input.take("value length")?) as usize;
        input.end()?;
        return Ok(Entry::Separated { digest, value_bytes });
    }
    whole(key, flags, digest, &input).map(Entry::Whole)
}

/// Reads the record that [`encode_record`] wrote for `key`, and verifies its checksum. The value is copied once.
///
/// # Errors
/// When the bytes are not such a record, or the checksum is wrong.
pub fn decode_record(key: &Key, bytes: &[u8]) -> Result<Record, DecodeError> {
    let mut input = Input(bytes);
    let (flags, digest) = head(&mut input)?;
    whole(key, flags, digest, &input)
}

/// The record of `digest` whose value is the rest of `input`.
fn whole(key: &Key, flags: u8, digest: Digest, input: &Input<'_>) -> Result<Record, DecodeError> {
    const BINARY: u8 = FLAG_VALUE;
    const TEXT: u8 = FLAG_VALUE | FLAG_TEXT;
    let content = match flags & !(FLAG_TTL | FLAG_PROPOSAL) {
        0 if input.0.is_empty() => Content::Tombstone,
        0 => return Err(DecodeError::TombstoneWithValue { bytes: input.0.len() }),
        TEXT => Content::Value(Value::Text(Bytes::copy_from_slice(input.0))),
        BINARY => Content::Value(Value::Binary(Bytes::copy_from_slice(input.0))),
        _ => return Err(DecodeError::Flags { found: flags }),
    };
    // The checksum was computed from valid UTF-8, so it also shows that a text is still UTF-8.
    let found = Checksum::of_write(key, &content, digest.ttl).and_proposal(digest.proposal.as_deref());
    if found != digest.checksum {
        return Err(DecodeError::Checksum { found: found.0, expected: digest.checksum.0 });
    }
    let Digest { stamp, proposal, checksum, ttl, .. } = digest;
    Ok(Record { stamp, proposal, ttl, content, checksum })
}

impl MetaEntry {
    /// The entry's key and value in the `meta` family.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let (name, fields) = match self {
            Self::Format(format) => (META_FORMAT.to_vec(), format.to_be_bytes().to_vec()),
            Self::StoreId(store_id) => (META_STORE_ID.to_vec(), store_id.0.to_be_bytes().to_vec()),
            Self::Epoch(epoch) => (META_EPOCH.to_vec(), epoch.to_be_bytes().to_vec()),
            // Big-endian epochs: RocksDB gives incarnations in ascending order.
            Self::Incarnation(incarnation) => (
                [META_INCARNATION, &incarnation.epoch.to_be_bytes()].concat(),
                incarnation.nonce.to_be_bytes().to_vec(),
            ),
            Self::Bootstrapped => (META_BOOTSTRAPPED.to_vec(), Vec::new()),
            Self::Peer(id, known) => {
                let mut fields = known.store_id.0.to_be_bytes().to_vec();
                fields.extend_from_slice(&known.incarnation.epoch.to_be_bytes());
                fields.extend_from_slice(&known.incarnation.nonce.to_be_bytes());
                ([META_PEER, id.as_str().as_bytes()].concat(), fields)
            }
            Self::Running(RunningTime(count)) => (META_RUNNING.to_vec(), count.to_be_bytes().to_vec()),
            Self::Dropped(table) => ([META_DROPPED, &table.0.to_be_bytes()].concat(), Vec::new()),
            Self::Fence(clock) => (META_FENCE.to_vec(), encode_clock(*clock)),
            Self::Seal(slot, clock) => ([META_SEAL, &slot.0.to_be_bytes()].concat(), encode_clock(*clock)),
            Self::Configuration(configuration) => {
                let mut fields = Vec::new();
                members::encode_configuration(configuration, &mut fields);
                (META_CONFIGURATION.to_vec(), fields)
            }
            Self::Vote(vote) => {
                let mut fields = Vec::new();
                members::encode_vote(vote, &mut fields);
                (META_VOTE.to_vec(), fields)
            }
            Self::TakenOver(taken_over) => {
                let mut fields = Vec::new();
                members::encode_taken_over(taken_over, &mut fields);
                (META_TAKEN_OVER.to_vec(), fields)
            }
        };
        let mut value = Vec::with_capacity(1 + fields.len() + 8);
        value.push(if self.has_sites() { META_VERSION_WITH_SITES } else { META_VERSION });
        value.extend_from_slice(&fields);
        value.extend_from_slice(&meta_checksum(&name, &fields).to_be_bytes());
        (name, value)
    }

    /// Whether a member in it has a weight or a zone.
    fn has_sites(&self) -> bool {
        match self {
            Self::Configuration(configuration) => members::has_sites(configuration),
            Self::Vote(vote) => vote.accepted.as_ref().is_some_and(|(_, accepted)| members::has_sites(accepted)),
            _ => false,
        }
    }

    /// Reads an entry of the `meta` family; `None` for an unknown name. It is safe to ignore such an entry: a program whose
    /// entries others must not miss raises [`FORMAT`].
    ///
    /// # Errors
    /// When a known name has a value that [`MetaEntry::encode`] does not give.
    pub fn decode(name: &[u8], value: &[u8]) -> Result<Option<Self>, DecodeError> {
        let entry = match name {
            META_FORMAT => {
                let mut fields = meta_fields(name, value)?;
                let format = u32::from_be_bytes(fields.take("format")?);
                fields.end()?;
                Self::Format(format)
            }
            META_STORE_ID => {
                let mut fields = meta_fields(name, value)?;
                let store_id = StoreId(u128::from_be_bytes(fields.take("store_id")?));
                fields.end()?;
                Self::StoreId(store_id)
            }
            META_EPOCH => {
                let mut fields = meta_fields(name, value)?;
                let epoch = fields.take_u64("epoch")?;
                fields.end()?;
                Self::Epoch(epoch)
            }
            META_BOOTSTRAPPED => {
                meta_fields(name, value)?.end()?;
                Self::Bootstrapped
            }
            META_RUNNING => {
                let mut fields = meta_fields(name, value)?;
                let count = fields.take_u64("count")?;
                fields.end()?;
                Self::Running(RunningTime(count))
            }
            META_FENCE => Self::Fence(decode_clock(name, value)?),
            META_CONFIGURATION => {
                let (mut fields, have_sites) = meta_fields_with_sites(name, value)?;
                let configuration = members::configuration(&mut fields, have_sites)?;
                fields.end()?;
                Self::Configuration(configuration)
            }
            META_VOTE => {
                let (mut fields, have_sites) = meta_fields_with_sites(name, value)?;
                let vote = members::vote(&mut fields, have_sites)?;
                fields.end()?;
                Self::Vote(vote)
            }
            META_TAKEN_OVER => {
                let mut fields = meta_fields(name, value)?;
                let taken_over = members::taken_over(&mut fields)?;
                fields.end()?;
                Self::TakenOver(taken_over)
            }
            _ if name.starts_with(META_SEAL) => {
                let mut rest = Input(&name[META_SEAL.len()..]);
                let slot = Slot(u16::from_be_bytes(rest.take("slot")?));
                rest.end()?;
                Self::Seal(slot, decode_clock(name, value)?)
            }
            _ if name.starts_with(META_DROPPED) => {
                let mut rest = Input(&name[META_DROPPED.len()..]);
                let table = TableId(u32::from_be_bytes(rest.take("table")?));
                rest.end()?;
                meta_fields(name, value)?.end()?;
                Self::Dropped(table)
            }
            _ if name.starts_with(META_INCARNATION) => {
                let mut rest = Input(&name[META_INCARNATION.len()..]);
                let epoch = rest.take_u64("epoch")?;
                rest.end()?;
                let mut fields = meta_fields(name, value)?;
                let nonce = fields.take_u64("nonce")?;
                fields.end()?;
                Self::Incarnation(Incarnation { epoch, nonce })
            }
            _ => {
                let Some(id) = name.strip_prefix(META_PEER) else {
                    return Ok(None);
                };
                let id = writer(id)?;
                let mut fields = meta_fields(name, value)?;
                let store_id = StoreId(u128::from_be_bytes(fields.take("store_id")?));
                let incarnation = Incarnation { epoch: fields.take_u64("epoch")?, nonce: fields.take_u64("nonce")? };
                fields.end()?;
                Self::Peer(id, PeerRecord { store_id, incarnation })
            }
        };
        Ok(Some(entry))
    }
}

/// Reads the flags and the digest.
fn head(input: &mut Input<'_>) -> Result<(u8, Digest), DecodeError> {
    let version = input.take_u8("version")?;
    if version != RECORD_VERSION {
        return Err(DecodeError::Version { found: version, known: RECORD_VERSION });
    }
    let flags = input.take_u8("flags")?;
    let is_value = flags & FLAG_VALUE != 0;
    let is_known = flags & !(FLAG_VALUE | FLAGS_OF_VALUES | FLAG_PROPOSAL) == 0;
    if !is_known || (!is_value && flags & FLAGS_OF_VALUES != 0) {
        return Err(DecodeError::Flags { found: flags });
    }
    if flags & FLAG_TTL != 0 {
        input.take_u64("count")?;
    }
    let is_conditional = flags & FLAG_PROPOSAL != 0;
    let stamp = stamp(input, is_conditional)?;
    let checksum = Checksum(input.take_u64("checksum")?);
    let ttl = if flags & FLAG_TTL == 0 {
        None
    } else {
        let millis = input.take_u64("time to live")?;
        Some(Ttl::from_millis(millis).ok_or(DecodeError::Ttl { millis })?)
    };
    let proposal = if is_conditional { Some(proposal::decode(input, &stamp)?.into()) } else { None };
    Ok((flags, Digest { stamp, proposal, checksum, ttl, is_value }))
}

/// Reads a stamp. The stamp that no node drew is accepted in a conditional write alone: it may build on an absence.
fn stamp(input: &mut Input<'_>, may_be_none: bool) -> Result<Stamp, DecodeError> {
    let clock = Clock { epoch: input.take_u64("epoch")?, counter: input.take_u64("counter")? };
    let writer_bytes = usize::from(input.take_u8("writer's length")?);
    let writer = input.take_slice(writer_bytes, "writer")?;
    let writer = if writer.is_empty() && may_be_none { NodeId::none() } else { self::writer(writer)? };
    Ok(Stamp { clock, writer })
}

fn encode_clock(clock: Clock) -> Vec<u8> {
    [clock.epoch.to_be_bytes(), clock.counter.to_be_bytes()].concat()
}

/// The clock that is the value of an entry of `meta`.
fn decode_clock(name: &[u8], value: &[u8]) -> Result<Clock, DecodeError> {
    let mut fields = meta_fields(name, value)?;
    let clock = Clock { epoch: fields.take_u64("epoch")?, counter: fields.take_u64("counter")? };
    fields.end()?;
    Ok(clock)
}

/// The name under which a node writes.
fn writer(bytes: &[u8]) -> Result<NodeId, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NodeIdNotText)?;
    Ok(NodeId::of_writer(text)?)
}

fn node_id(bytes: &[u8]) -> Result<NodeId, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NodeIdNotText)?;
    Ok(NodeId::new(text)?)
}

/// The fields of an entry of `meta`, after a check of its version and checksum.
fn meta_fields<'a>(name: &[u8], value: &'a [u8]) -> Result<Input<'a>, DecodeError> {
    let mut input = Input(value);
    let version = input.take_u8("version")?;
    if version != META_VERSION {
        return Err(DecodeError::Version { found: version, known: META_VERSION });
    }
    checked(name, &input)
}

/// The same of an entry that names members, and whether they have weights and zones.
fn meta_fields_with_sites<'a>(name: &[u8], value: &'a [u8]) -> Result<(Input<'a>, bool), DecodeError> {
    let mut input = Input(value);
    let version = input.take_u8("version")?;
    if !matches!(version, META_VERSION | META_VERSION_WITH_SITES) {
        return Err(DecodeError::Version { found: version, known: META_VERSION_WITH_SITES });
    }
    Ok((checked(name, &input)?, version == META_VERSION_WITH_SITES))
}

/// What stands before the checksum.
fn checked<'a>(name: &[u8], input: &Input<'a>) -> Result<Input<'a>, DecodeError> {
    let Some((fields, sum)) = input.0.split_last_chunk::<8>() else {
        return Err(DecodeError::Truncated { field: "checksum", missing: 8 - input.0.len() });
    };
    let (found, expected) = (meta_checksum(name, fields), u64::from_be_bytes(*sum));
    if found != expected {
        return Err(DecodeError::Checksum { found, expected });
    }
    Ok(Input(fields))
}

/// The name's sum seeds that of the fields, so that a value under another entry's name is detected too.
fn meta_checksum(name: &[u8], fields: &[u8]) -> u64 {
    xxh3_64_with_seed(fields, xxh3_64(name))
}

/// The bytes that are not read yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { field, missing: N - self.0.len() });
        };
        self.0 = rest;
        Ok(*taken)
    }

    fn take_u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.take::<1>(field).map(u8::from_be_bytes)
    }

    fn take_u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.take(field).map(u64::from_be_bytes)
    }

    fn take_slice(&mut self, bytes: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.0.split_at_checked(bytes) else {
            return Err(DecodeError::Truncated { field, missing: bytes - self.0.len() });
        };
        self.0 = rest;
        Ok(taken)
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { bytes: self.0.len() }) }
    }
}

#[cfg(test)]
mod tests;
