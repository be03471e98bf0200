//! The bytes on disk: keys and values of the column families, encoded and decoded by pure functions.
//!
//! Contract: what is encoded decodes to the same; any other bytes decode to an error or to what they say, never to a
//! panic. Every value begins with a version, so that a later program can add fields and an earlier one refuses them
//! instead of misreading them. Numbers are big-endian, so that keys sort as numbers do.
//!
//! | family | key | value |
//! |---|---|---|
//! | `meta` | a name, `incarnation/` and an epoch for runs, `peer/` and a node id for peers | version, fields, XXH3 of name and fields |
//! | `records` | slot (2), the key's bytes | version, kind, epoch (8), counter (8), writer length (1), writer, checksum (8), then the value's bytes unless it is large |
//! | `large` | as in `records` | as in `records`, with the value's bytes |
//!
//! Caveat: a record's checksum covers its key and content. Its stamp is guarded by the checksums that RocksDB keeps of
//! its blocks and of its log.

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::types::{
    Checksum, Clock, Content, Digest, Incarnation, Key, KeyError, NodeId, NodeIdError, PeerRecord, Record, Slot, Stamp,
    StoreId, Value,
};

/// The layout of the column families as a whole, kept under `format` in `meta`. It rises when an earlier program could
/// not make sense of a store any more.
pub const FORMAT: u32 = 2;

/// The layout of one digest or record.
pub const RECORD_VERSION: u8 = 1;

/// The layout of one entry of `meta`.
pub const META_VERSION: u8 = 1;

/// From so many bytes on a value is large: it is kept apart from its digest, so that whoever compares stamps or lists keys
/// does not read it. A smaller one would cost more in being kept twice than in being read along.
pub const LARGE_VALUE_BYTES_MIN: usize = 4 << 10;

/// How many bytes an encoded digest has beside its writer's id.
const MARK_BYTES: usize = 1 + 1 + 8 + 8 + 1 + 8;

const KIND_TOMBSTONE: u8 = 0;
const KIND_TEXT: u8 = 1;
const KIND_BINARY: u8 = 2;
const KIND_TEXT_APART: u8 = 3;
const KIND_BINARY_APART: u8 = 4;

const META_FORMAT: &[u8] = b"format";
const META_IDENTITY: &[u8] = b"store_id";
const META_EPOCH: &[u8] = b"epoch";
const META_FORMED: &[u8] = b"formed";
const META_LIFE: &[u8] = b"incarnation/";
const META_PEER: &[u8] = b"peer/";

/// Why some bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends too early.
    #[error("it ends within its {field}: {missing} more bytes were expected")]
    Truncated {
        /// Which field is cut.
        field: &'static str,
        /// How many bytes are missing.
        missing: usize,
    },
    /// Bytes are left over.
    #[error("{bytes} bytes follow its end")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A layout that this program does not know.
    #[error(
        "it has version {found} and this program reads version {known}: it is damaged, or a newer Quorate wrote it"
    )]
    Version {
        /// The version that was found.
        found: u8,
        /// The one version that is known.
        known: u8,
    },
    /// Neither a tombstone, nor text, nor binary, nor one of these whose value is kept apart where that may be.
    #[error("its kind {found} is not known here: tombstones have 0, text 1 or 3, binary 2 or 4")]
    Kind {
        /// The kind that was found.
        found: u8,
    },
    /// A tombstone that carries bytes.
    #[error("it is a tombstone and has a value of {bytes} bytes")]
    TombstoneWithValue {
        /// How many bytes it carries.
        bytes: usize,
    },
    /// A value that is kept apart is nowhere.
    #[error("its value, which is kept apart, is missing or an earlier one")]
    ValueMissing,
    /// The writer is not a node id.
    #[error("its node id is not valid: {0}")]
    NodeId(#[from] NodeIdError),
    /// A node id that is not even text.
    #[error("its node id is not text")]
    NodeIdNotText,
    /// The key is not a key.
    #[error("its key is not valid: {0}")]
    Key(#[from] KeyError),
    /// The content is not what was written.
    #[error("its checksum is {found:016x} and should be {expected:016x}")]
    Checksum {
        /// Computed from what was read.
        found: u64,
        /// Stored beside it.
        expected: u64,
    },
}

/// The beginning of what the `records` family holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The record's digest.
    pub digest: Digest,
    /// Whether the record is a value; `false` for a tombstone.
    pub is_value: bool,
}

/// What the `records` family holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// All of it.
    Whole(Record),
    /// Its digest: the value is large, and the `large` family has all of it.
    Apart(Digest),
}

/// One entry of the `meta` family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaEntry {
    /// The layout of the whole store.
    Format(u32),
    /// The data folder's random name.
    StoreId(StoreId),
    /// The greatest durable epoch.
    Epoch(u64),
    /// A run that began.
    Incarnation(Incarnation),
    /// Every other member has recorded this node.
    Formed,
    /// What is known of a peer.
    Peer(NodeId, PeerRecord),
}

/// The key of `key` in the `records` and `large` families: a slot is one contiguous range, to be scanned and dropped
/// whole.
#[must_use]
pub fn entry_key(slot: Slot, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + key.len());
    bytes.extend_from_slice(&slot.0.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// Takes an [`entry_key`] apart. The key's bytes are not looked at.
///
/// # Errors
/// When there is not even a slot.
pub fn split_entry_key(bytes: &[u8]) -> Result<(Slot, &[u8]), DecodeError> {
    let mut input = Input(bytes);
    let slot = Slot(u16::from_be_bytes(input.take("slot")?));
    Ok((slot, input.0))
}

/// Whether `record`'s value is kept apart from its digest.
#[must_use]
pub fn is_large(record: &Record) -> bool {
    record.content.value_bytes() >= LARGE_VALUE_BYTES_MIN
}

/// Appends `record` with its value: what the `large` family holds, and the `records` family of one that is not large.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    out.reserve(MARK_BYTES + record.stamp.writer.as_str().len() + record.content.value_bytes());
    match &record.content {
        Content::Tombstone => encode_head(KIND_TOMBSTONE, record, out),
        Content::Value(Value::Text(_)) => encode_head(KIND_TEXT, record, out),
        Content::Value(Value::Binary(_)) => encode_head(KIND_BINARY, record, out),
    }
    if let Content::Value(value) = &record.content {
        out.extend_from_slice(value.bytes());
    }
}

/// Appends what the `records` family holds of a `record` that is large.
///
/// # Panics
/// When it is a tombstone, which has nothing to be kept apart.
pub fn encode_apart(record: &Record, out: &mut Vec<u8>) {
    let kind = match &record.content {
        Content::Tombstone => unreachable!("a tombstone has no value to keep apart"),
        Content::Value(Value::Text(_)) => KIND_TEXT_APART,
        Content::Value(Value::Binary(_)) => KIND_BINARY_APART,
    };
    encode_head(kind, record, out);
}

fn encode_head(kind: u8, record: &Record, out: &mut Vec<u8>) {
    let writer = record.stamp.writer.as_str().as_bytes();
    let writer_bytes = u8::try_from(writer.len()).expect("NODE_ID_BYTES_MAX keeps a node id's length within a byte");
    out.push(RECORD_VERSION);
    out.push(kind);
    out.extend_from_slice(&record.stamp.clock.epoch.to_be_bytes());
    out.extend_from_slice(&record.stamp.clock.counter.to_be_bytes());
    out.push(writer_bytes);
    out.extend_from_slice(writer);
    out.extend_from_slice(&record.checksum.0.to_be_bytes());
}

/// Reads the beginning of what the `records` or the `large` family holds of a key. A value that follows is not looked
/// at.
///
/// # Errors
/// When it is anything else.
pub fn decode_head(bytes: &[u8]) -> Result<Head, DecodeError> {
    let (kind, digest) = head(&mut Input(bytes))?;
    Ok(Head { digest, is_value: kind != KIND_TOMBSTONE })
}

/// Reads what the `records` family holds of `key`, and verifies a content that is there. The value is copied once.
///
/// # Errors
/// When it is anything else, or fails the check.
pub fn decode_entry(key: &Key, bytes: &[u8]) -> Result<Entry, DecodeError> {
    let mut input = Input(bytes);
    let (kind, digest) = head(&mut input)?;
    if kind == KIND_TEXT_APART || kind == KIND_BINARY_APART {
        input.end()?;
        return Ok(Entry::Apart(digest));
    }
    whole(key, kind, digest, &input).map(Entry::Whole)
}

/// Reads what [`encode_record`] wrote for `key`, and verifies that the content is still what was written under it. The
/// value is copied once.
///
/// # Errors
/// When it is anything else, or fails the check.
pub fn decode_record(key: &Key, bytes: &[u8]) -> Result<Record, DecodeError> {
    let mut input = Input(bytes);
    let (kind, digest) = head(&mut input)?;
    whole(key, kind, digest, &input)
}

/// A record whose value is what is left to be read.
fn whole(key: &Key, kind: u8, digest: Digest, input: &Input<'_>) -> Result<Record, DecodeError> {
    let content = match kind {
        KIND_TOMBSTONE if input.0.is_empty() => Content::Tombstone,
        KIND_TOMBSTONE => return Err(DecodeError::TombstoneWithValue { bytes: input.0.len() }),
        KIND_TEXT => Content::Value(Value::Text(Bytes::copy_from_slice(input.0))),
        KIND_BINARY => Content::Value(Value::Binary(Bytes::copy_from_slice(input.0))),
        _ => return Err(DecodeError::Kind { found: kind }),
    };
    // This also stands for a look at whether text is UTF-8: it was when the checksum was made.
    let found = Checksum::of(key, &content);
    if found != digest.checksum {
        return Err(DecodeError::Checksum { found: found.0, expected: digest.checksum.0 });
    }
    Ok(Record { stamp: digest.stamp, content, checksum: digest.checksum })
}

impl MetaEntry {
    /// The entry's key and value in the `meta` family.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let (name, fields) = match self {
            Self::Format(format) => (META_FORMAT.to_vec(), format.to_be_bytes().to_vec()),
            Self::StoreId(store_id) => (META_IDENTITY.to_vec(), store_id.0.to_be_bytes().to_vec()),
            Self::Epoch(epoch) => (META_EPOCH.to_vec(), epoch.to_be_bytes().to_vec()),
            // Big-endian: in the order of keys they ascend.
            Self::Incarnation(incarnation) => {
                ([META_LIFE, &incarnation.epoch.to_be_bytes()].concat(), incarnation.nonce.to_be_bytes().to_vec())
            }
            Self::Formed => (META_FORMED.to_vec(), Vec::new()),
            Self::Peer(id, known) => {
                let mut fields = known.store_id.0.to_be_bytes().to_vec();
                fields.extend_from_slice(&known.incarnation.epoch.to_be_bytes());
                fields.extend_from_slice(&known.incarnation.nonce.to_be_bytes());
                ([META_PEER, id.as_str().as_bytes()].concat(), fields)
            }
        };
        let mut value = Vec::with_capacity(1 + fields.len() + 8);
        value.push(META_VERSION);
        value.extend_from_slice(&fields);
        value.extend_from_slice(&meta_checksum(&name, &fields).to_be_bytes());
        (name, value)
    }

    /// Reads an entry of the `meta` family; `None` for a name that is not known. Such a one can be passed over: a
    /// program that writes what others must not miss raises [`FORMAT`].
    ///
    /// # Errors
    /// When a known name has any other value than [`MetaEntry::encode`] gives it.
    pub fn decode(name: &[u8], value: &[u8]) -> Result<Option<Self>, DecodeError> {
        let entry = match name {
            META_FORMAT => {
                let mut fields = meta_fields(name, value)?;
                let format = u32::from_be_bytes(fields.take("format")?);
                fields.end()?;
                Self::Format(format)
            }
            META_IDENTITY => {
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
            META_FORMED => {
                meta_fields(name, value)?.end()?;
                Self::Formed
            }
            _ if name.starts_with(META_LIFE) => {
                let mut place = Input(&name[META_LIFE.len()..]);
                let epoch = place.take_u64("epoch")?;
                place.end()?;
                let mut fields = meta_fields(name, value)?;
                let nonce = fields.take_u64("nonce")?;
                fields.end()?;
                Self::Incarnation(Incarnation { epoch, nonce })
            }
            _ => {
                let Some(id) = name.strip_prefix(META_PEER) else {
                    return Ok(None);
                };
                let id = node_id(id)?;
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

/// The kind and the digest.
fn head(input: &mut Input<'_>) -> Result<(u8, Digest), DecodeError> {
    let version = input.take_u8("version")?;
    if version != RECORD_VERSION {
        return Err(DecodeError::Version { found: version, known: RECORD_VERSION });
    }
    let kind = input.take_u8("kind")?;
    if kind > KIND_BINARY_APART {
        return Err(DecodeError::Kind { found: kind });
    }
    let clock = Clock { epoch: input.take_u64("epoch")?, counter: input.take_u64("counter")? };
    let writer_bytes = usize::from(input.take_u8("writer's length")?);
    let writer = node_id(input.take_slice(writer_bytes, "writer")?)?;
    let checksum = Checksum(input.take_u64("checksum")?);
    Ok((kind, Digest { stamp: Stamp { clock, writer }, checksum }))
}

fn node_id(bytes: &[u8]) -> Result<NodeId, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NodeIdNotText)?;
    Ok(NodeId::new(text)?)
}

/// The fields of an entry of `meta`, once its version and checksum were looked at.
fn meta_fields<'a>(name: &[u8], value: &'a [u8]) -> Result<Input<'a>, DecodeError> {
    let mut input = Input(value);
    let version = input.take_u8("version")?;
    if version != META_VERSION {
        return Err(DecodeError::Version { found: version, known: META_VERSION });
    }
    let Some((fields, sum)) = input.0.split_last_chunk::<8>() else {
        return Err(DecodeError::Truncated { field: "checksum", missing: 8 - input.0.len() });
    };
    let (found, expected) = (meta_checksum(name, fields), u64::from_be_bytes(*sum));
    if found != expected {
        return Err(DecodeError::Checksum { found, expected });
    }
    Ok(Input(fields))
}

/// Seeded with the name's sum, so that a value under another entry's name is found too.
fn meta_checksum(name: &[u8], fields: &[u8]) -> u64 {
    xxh3_64_with_seed(fields, xxh3_64(name))
}

/// Bytes that are still to be read.
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
#[path = "codec_tests.rs"]
mod tests;
