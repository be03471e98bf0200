//! Conversions for Cluster, Node and Clock, the public services.
//!
//! The arm of `Entry.content` that was written is kept; a message with neither arm is an empty text, because that is
//! how a proto3 client sends one. A record's checksum is made here, where its value enters.

use bytes::Bytes;

use super::version::NotAVersion;
use crate::api;
use crate::api::entry::Content as Arm;
use crate::auth::GrantError;
use crate::limits::VALUE_BYTES_MAX;
use crate::types::{
    Checksum, Clock, Content, KEY_BYTES_MAX, Key, KeyError, NodeId, NodeIdError, Record, Stamp, Table, TableNameError,
    Value,
};

/// Why a message is not valid: the field, its fault, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A required field is missing.
    #[error("{field} is missing: give {accepted}")]
    Missing {
        /// The field's path in the message.
        field: &'static str,
        /// What is accepted.
        accepted: &'static str,
    },
    /// A key that is not valid.
    #[error("{field}: {source}")]
    Key {
        /// The field's path in the message.
        field: &'static str,
        /// The fault, and what is accepted.
        source: KeyError,
    },
    /// A table's name that is not valid.
    #[error("{field}: {source}")]
    Table {
        /// The field's path in the message.
        field: &'static str,
        /// The fault, and what is accepted.
        source: TableNameError,
    },
    /// The id of a token that is not valid.
    #[error("{field}: it is no id of a token: 1 to 16 small letters and digits are accepted")]
    TokenId {
        /// The field's path in the message.
        field: &'static str,
    },
    /// A right that is not valid.
    #[error("{field}: {source}")]
    Grant {
        /// The field's path in the message.
        field: &'static str,
        /// The fault, and what is accepted.
        source: GrantError,
    },
    /// A greatest value beyond that of all values.
    #[error(
        "settings.value_bytes_max: {given} is given: 1 to {VALUE_BYTES_MAX} are accepted; leave it out for the greatest"
    )]
    TableValueBytes {
        /// The number that was given.
        given: u64,
    },
    /// One of several keys that is not valid.
    #[error("keys[{index}]: {source}")]
    OneKey {
        /// Its place among the keys, from 0.
        index: usize,
        /// The fault, and what is accepted.
        source: KeyError,
    },
    /// A batch of no keys, or of more than [`BATCH_KEYS_MAX`].
    #[error("keys: {count} keys are given: 1 to {BATCH_KEYS_MAX} are accepted")]
    KeyCount {
        /// The number of keys.
        count: usize,
    },
    /// A batch of no writes, or of more than [`BATCH_KEYS_MAX`].
    #[error("entries: {count} entries are given: 1 to {BATCH_KEYS_MAX} are accepted")]
    EntryCount {
        /// The number of entries.
        count: usize,
    },
    /// A batch of writes whose values are too large together.
    #[error("entries: their values have {bytes} bytes together: at most {VALUE_BYTES_MAX} are accepted")]
    BatchTooLarge {
        /// The size of all values.
        bytes: usize,
    },
    /// Two writes of one key in a batch: they would have no order.
    #[error("entries[{index}]: its key is that of entries[{earlier}] too, in the same table: give each key once")]
    KeyTwice {
        /// The place of the second, from 0.
        index: usize,
        /// The place of the first.
        earlier: usize,
    },
    /// An entry of a batch that is not valid.
    #[error("entries[{index}].{source}")]
    OneEntry {
        /// Its place among the entries, from 0.
        index: usize,
        /// The fault, and what is accepted.
        source: Box<WireError>,
    },
    /// A value beyond [`VALUE_BYTES_MAX`].
    #[error("{field}: the value has {bytes} bytes: at most {VALUE_BYTES_MAX} are accepted")]
    ValueTooLarge {
        /// The field's path in the message.
        field: &'static str,
        /// The size of the value.
        bytes: usize,
    },
    /// A stamp whose writer is not a node id.
    #[error("{field}: {source}")]
    Writer {
        /// The field's path in the message.
        field: &'static str,
        /// The fault, and what is accepted.
        source: NodeIdError,
    },
    /// A deletion that has a value.
    #[error("{field}: a tombstone has no value: leave out value and binary, or set tombstone to false")]
    TombstoneWithValue {
        /// The field's path in the message.
        field: &'static str,
    },
    /// A version that is none of this cluster.
    #[error("{field}: {source}")]
    Version {
        /// The field's path in the message.
        field: &'static str,
        /// The fault, and what is accepted.
        source: NotAVersion,
    },
    /// A time to live out of bounds.
    #[error("{field}: {given} are given: 1 ms to 3,650 days are accepted; leave it out for values that never expire")]
    Ttl {
        /// The field's path in the message.
        field: &'static str,
        /// The time that was given.
        given: String,
    },
    /// A request id of another length.
    #[error("request_id: {bytes} bytes are given: 16 random bytes are accepted")]
    RequestId {
        /// The length that was given.
        bytes: usize,
    },
    /// A field that means nothing without another one.
    #[error("{field} is given without {needed}: give both, or neither")]
    Needs {
        /// The field's path in the message.
        field: &'static str,
        /// The field that is missing.
        needed: &'static str,
    },
    /// A consistency that is not known.
    #[error("consistency: {given} is given: LINEARIZABLE (0) and ONE (1) are accepted")]
    Consistency {
        /// The number that was given.
        given: i32,
    },
    /// A condition that is false.
    #[error("{field} is false: give true, or another condition, or leave the condition out")]
    False {
        /// The field's path in the message.
        field: &'static str,
    },
    /// A prefix that is longer than any key.
    #[error("prefix: {bytes} bytes are given: at most {KEY_BYTES_MAX} bytes are accepted")]
    Prefix {
        /// The length that was given.
        bytes: usize,
    },
    /// A cursor that no watch of the same keys gave.
    #[error(
        "cursor: it is no cursor of this watch: give that of the last message of a watch of the same key or prefix in \
         this cluster, or none"
    )]
    Cursor,
    /// Two fields of which only one may be given.
    #[error("{first} and {second} are both given: give one of the two")]
    Both {
        /// The field's path in the message.
        first: &'static str,
        /// The path of the other field.
        second: &'static str,
    },
}

impl TryFrom<api::GetRequest> for (Table, Key) {
    type Error = WireError;

    fn try_from(request: api::GetRequest) -> Result<Self, WireError> {
        Ok((table("table", &request.table)?, key("key", request.key)?))
    }
}

/// The table that a request is about: `default` where it names none.
pub(super) fn table(field: &'static str, text: &str) -> Result<Table, WireError> {
    Table::parse(text).map_err(|source| WireError::Table { field, source })
}

/// The most keys of one batch. A thousand reads take one turn of the loop and fill one message to each peer.
pub const BATCH_KEYS_MAX: usize = 1_000;

impl TryFrom<api::BatchGetRequest> for (Table, Vec<Key>) {
    type Error = WireError;

    fn try_from(request: api::BatchGetRequest) -> Result<Self, WireError> {
        let count = request.keys.len();
        if !(1..=BATCH_KEYS_MAX).contains(&count) {
            return Err(WireError::KeyCount { count });
        }
        let table = table("table", &request.table)?;
        let keys = request.keys.into_iter().enumerate();
        let key = |(index, text)| Key::new(text).map_err(|source| WireError::OneKey { index, source });
        Ok((table, keys.map(key).collect::<Result<_, _>>()?))
    }
}

/// The request of a Node/Set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeSet {
    /// Store this record, if its stamp is greater than the stamp held.
    Record(Key, Record),
    /// Stamp this value and store it.
    Entry(Key, Value),
}

impl TryFrom<api::NodeSetRequest> for NodeSet {
    type Error = WireError;

    fn try_from(request: api::NodeSetRequest) -> Result<Self, WireError> {
        match (request.clocked_entry, request.entry) {
            (Some(_), Some(_)) => Err(WireError::Both { first: "clocked_entry", second: "entry" }),
            (Some(clocked), None) => clocked.try_into().map(|(key, record)| Self::Record(key, record)),
            (None, Some(entry)) => entry.try_into().map(|(key, value)| Self::Entry(key, value)),
            (None, None) => Err(WireError::Missing { field: "entry", accepted: "entry or clocked_entry" }),
        }
    }
}

impl TryFrom<api::Entry> for (Key, Value) {
    type Error = WireError;

    fn try_from(entry: api::Entry) -> Result<Self, WireError> {
        let key = key("entry.key", entry.key)?;
        let (field, value) = match entry.content {
            None => ("entry.value", Value::Text(Bytes::new())),
            Some(Arm::Value(text)) => ("entry.value", Value::Text(text.into())),
            Some(Arm::Binary(bytes)) => ("entry.binary", Value::Binary(bytes)),
        };
        let bytes = value.bytes().len();
        if bytes > VALUE_BYTES_MAX {
            return Err(WireError::ValueTooLarge { field, bytes });
        }
        Ok((key, value))
    }
}

impl From<(Key, Value)> for api::Entry {
    /// A text that is not UTF-8 leaves through the binary arm, because protobuf's strings are UTF-8.
    fn from((key, value): (Key, Value)) -> Self {
        let arm = match value {
            Value::Binary(bytes) => Arm::Binary(bytes),
            Value::Text(bytes) => match String::from_utf8(bytes.into()) {
                Ok(text) => Arm::Value(text),
                Err(error) => Arm::Binary(error.into_bytes().into()),
            },
        };
        Self { key: key.as_str().to_owned(), content: Some(arm) }
    }
}

impl TryFrom<api::ClockValue> for Stamp {
    type Error = WireError;

    fn try_from(value: api::ClockValue) -> Result<Self, WireError> {
        let writer =
            NodeId::of_writer(&value.node).map_err(|source| WireError::Writer { field: "clock.node", source })?;
        Ok(Self { clock: Clock { epoch: value.epoch, counter: value.clock }, writer })
    }
}

impl From<Stamp> for api::ClockValue {
    fn from(stamp: Stamp) -> Self {
        Self { epoch: stamp.clock.epoch, clock: stamp.clock.counter, node: stamp.writer.as_str().to_owned() }
    }
}

impl From<api::ClockValue> for Clock {
    /// The clock alone, for Clock/Set, which ignores the node.
    fn from(value: api::ClockValue) -> Self {
        Self { epoch: value.epoch, counter: value.clock }
    }
}

impl TryFrom<api::ClockedEntry> for (Key, Record) {
    type Error = WireError;

    fn try_from(clocked: api::ClockedEntry) -> Result<Self, WireError> {
        let entry = clocked
            .entry
            .ok_or(WireError::Missing { field: "clocked_entry.entry", accepted: "the key, and the value if any" })?;
        let stamp: Stamp = clocked
            .clock
            .ok_or(WireError::Missing { field: "clocked_entry.clock", accepted: "epoch, clock and node" })?
            .try_into()?;
        let (key, content) = if clocked.tombstone {
            if entry.content.is_some() {
                return Err(WireError::TombstoneWithValue { field: "clocked_entry.entry" });
            }
            (key("clocked_entry.entry.key", entry.key)?, Content::Tombstone)
        } else {
            let (key, value) = entry.try_into()?;
            (key, Content::Value(value))
        };
        let checksum = Checksum::of(&key, &content);
        Ok((key, Record::plain(stamp, content, checksum)))
    }
}

impl From<(Key, Record)> for api::ClockedEntry {
    fn from((key, record): (Key, Record)) -> Self {
        let (entry, tombstone) = match record.content {
            Content::Value(value) => ((key, value).into(), false),
            Content::Tombstone => (api::Entry { key: key.as_str().to_owned(), content: None }, true),
        };
        Self { entry: Some(entry), clock: Some(record.stamp.into()), tombstone }
    }
}

pub(super) fn key(field: &'static str, text: String) -> Result<Key, WireError> {
    Key::new(text).map_err(|source| WireError::Key { field, source })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::types::KEY_BYTES_MAX;

    fn entry(key: &str, content: Option<Arm>) -> api::Entry {
        api::Entry { key: key.into(), content }
    }

    fn stamp() -> api::ClockValue {
        api::ClockValue { epoch: 3, clock: 7, node: "1".into() }
    }

    #[test]
    fn neither_arm_is_an_empty_text() {
        let (_, value) = <(Key, Value)>::try_from(entry("k", None)).unwrap();
        assert_eq!(value, Value::Text(Bytes::new()));
    }

    #[test]
    fn value_at_the_limit_passes_and_one_byte_more_is_refused() {
        let largest = Bytes::from(vec![0; VALUE_BYTES_MAX]);
        assert!(<(Key, Value)>::try_from(entry("k", Some(Arm::Binary(largest)))).is_ok());
        let larger = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
        let error = <(Key, Value)>::try_from(entry("k", Some(Arm::Binary(larger)))).unwrap_err();
        assert_eq!(error, WireError::ValueTooLarge { field: "entry.binary", bytes: VALUE_BYTES_MAX + 1 });
    }

    #[test]
    fn each_bad_message_says_which_field_and_what_is_accepted() {
        let set = |entry: api::Entry| <(Key, Value)>::try_from(entry).unwrap_err().to_string();
        let clocked = |entry, clock, tombstone| {
            <(Key, Record)>::try_from(api::ClockedEntry { entry, clock, tombstone }).unwrap_err().to_string()
        };
        let nowhere = api::ClockValue { node: "a,b".into(), ..stamp() };
        let a = entry("a", Some(Arm::Value("v".into())));
        for (message, parts) in [
            (set(entry("", None)), ["entry.key", "1 to 4096 bytes"]),
            (set(entry(&"k".repeat(KEY_BYTES_MAX + 1), None)), ["entry.key", "at most 4096"]),
            (clocked(None, Some(stamp()), false), ["clocked_entry.entry", "give the key"]),
            (clocked(Some(a.clone()), None, false), ["clocked_entry.clock", "epoch, clock and node"]),
            (clocked(Some(a.clone()), Some(nowhere), false), ["clock.node", "printable ASCII"]),
            (clocked(Some(a.clone()), Some(stamp()), true), ["clocked_entry.entry", "leave out value"]),
        ] {
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
        let both = api::NodeSetRequest {
            clocked_entry: Some(api::ClockedEntry { entry: Some(a.clone()), clock: Some(stamp()), tombstone: false }),
            entry: Some(a),
        };
        assert_eq!(NodeSet::try_from(both).unwrap_err(), WireError::Both { first: "clocked_entry", second: "entry" });
        let neither = api::NodeSetRequest { clocked_entry: None, entry: None };
        assert!(matches!(NodeSet::try_from(neither), Err(WireError::Missing { field: "entry", .. })));
    }

    #[test]
    fn text_that_is_not_utf8_leaves_through_the_binary_arm() {
        let wrong = Value::Text(Bytes::from_static(b"\xff\xfe"));
        let entry = api::Entry::from((Key::new("k").unwrap(), wrong));
        assert_eq!(entry.content, Some(Arm::Binary(Bytes::from_static(b"\xff\xfe"))));
    }

    fn any_arm() -> impl Strategy<Value = Option<Arm>> {
        let bytes = prop::collection::vec(any::<u8>(), 0..64).prop_map(|bytes| Arm::Binary(bytes.into()));
        prop::option::of(prop_oneof![".{0,32}".prop_map(Arm::Value), bytes])
    }

    fn any_entry() -> impl Strategy<Value = api::Entry> {
        (".{0,40}", any_arm()).prop_map(|(key, content)| api::Entry { key, content })
    }

    fn any_clock_value() -> impl Strategy<Value = api::ClockValue> {
        (any::<u64>(), any::<u64>(), ".{0,8}").prop_map(|(epoch, clock, node)| api::ClockValue { epoch, clock, node })
    }

    fn any_clocked_entry() -> impl Strategy<Value = api::ClockedEntry> {
        (prop::option::of(any_entry()), prop::option::of(any_clock_value()), any::<bool>())
            .prop_map(|(entry, clock, tombstone)| api::ClockedEntry { entry, clock, tombstone })
    }

    fn any_key() -> impl Strategy<Value = Key> {
        ".{1,40}".prop_map(|text| Key::new(text).unwrap())
    }

    fn any_record() -> impl Strategy<Value = (Key, Record)> {
        let content = prop_oneof![
            Just(Content::Tombstone),
            ".{0,40}".prop_map(|text| Content::Value(Value::Text(text.into()))),
            prop::collection::vec(any::<u8>(), 0..64).prop_map(|bytes| Content::Value(Value::Binary(bytes.into()))),
        ];
        (any_key(), content, any::<u64>(), any::<u64>(), "[!-+\\--~]{1,64}").prop_map(
            |(key, content, epoch, counter, node)| {
                let stamp = Stamp { clock: Clock { epoch, counter }, writer: NodeId::new(&node).unwrap() };
                let checksum = Checksum::of(&key, &content);
                (key, Record::plain(stamp, content, checksum))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn random_entry_decodes_or_errs(entry in any_entry()) {
            if let Ok((key, value)) = <(Key, Value)>::try_from(entry.clone()) {
                prop_assert_eq!(key.as_str(), &entry.key);
                let expected = entry.content.unwrap_or(Arm::Value(String::new()));
                prop_assert_eq!(api::Entry::from((key, value)).content, Some(expected));
            }
        }

        #[test]
        fn random_clock_value_decodes_or_errs(value in any_clock_value()) {
            if let Ok(stamp) = Stamp::try_from(value.clone()) {
                prop_assert_eq!(api::ClockValue::from(stamp), value);
            }
        }

        #[test]
        fn random_clocked_entry_decodes_or_errs(clocked in any_clocked_entry()) {
            if let Ok((key, record)) = <(Key, Record)>::try_from(clocked) {
                prop_assert!(record.is_intact(&key));
            }
        }

        #[test]
        fn random_node_set_decodes_or_errs(
            clocked_entry in prop::option::of(any_clocked_entry()),
            entry in prop::option::of(any_entry()),
        ) {
            let _ = NodeSet::try_from(api::NodeSetRequest { clocked_entry, entry });
        }

        #[test]
        fn random_bytes_decode_or_err(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(message) = api::GetRequest::decode(&bytes[..]) {
                let _ = <(Table, Key)>::try_from(message);
            }
            if let Ok(message) = api::ClockedEntry::decode(&bytes[..]) {
                let _ = <(Key, Record)>::try_from(message);
            }
            if let Ok(message) = api::NodeSetRequest::decode(&bytes[..]) {
                let _ = NodeSet::try_from(message);
            }
            if let Ok(message) = api::ClockValue::decode(&bytes[..]) {
                let _ = Stamp::try_from(message);
            }
        }

        #[test]
        fn damaged_message_decodes_or_errs(
            (key, record) in any_record(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = api::ClockedEntry::from((key, record)).encode_to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(message) = api::ClockedEntry::decode(&bytes[..]) {
                let _ = <(Key, Record)>::try_from(message);
            }
        }

        #[test]
        fn record_survives_the_wire((key, record) in any_record()) {
            let bytes = api::ClockedEntry::from((key.clone(), record.clone())).encode_to_vec();
            let back = api::ClockedEntry::decode(&bytes[..]).unwrap();
            prop_assert_eq!(<(Key, Record)>::try_from(back).unwrap(), (key, record));
        }
    }
}
