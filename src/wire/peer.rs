//! Conversions of the messages between nodes.
//!
//! Contract: the checksum of every record is verified on arrival. Damage by a network card or by another node's disk reaches
//! neither this node's store nor a client.

use bytes::Bytes;

use crate::api;
use crate::protocol::{Answer, Hello, HelloRefusal, Message, OperationId, Refusal, Request};
use crate::types::{
    Checksum, Clock, ClusterParameters, Content, Digest, Incarnation, Key, Lookup, NodeId, ReadKind, Record, Stamp,
    StoreId, Value,
};

/// The reason why a peer's message does not decode. The message is dropped, and its sender repeats the request or gives up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerWireError {
    /// A field is missing, or its value is not known to this version.
    #[error("{field} is missing or not known")]
    Missing {
        /// The path of the field in api.proto.
        field: &'static str,
    },
    /// The value of a field is not valid.
    #[error("{field}: {problem}")]
    Invalid {
        /// The path of the field in api.proto.
        field: &'static str,
        /// The reason, with the accepted values.
        problem: String,
    },
    /// The checksum of a record does not match its key and content.
    #[error(
        "the record of key {key:?} with stamp {stamp} was damaged on its way: check the network and the peer's disk"
    )]
    Damaged {
        /// The key as it arrived.
        key: Key,
        /// The record's stamp as it arrived.
        stamp: Stamp,
    },
}

pub(super) fn missing(field: &'static str) -> PeerWireError {
    PeerWireError::Missing { field }
}

pub(super) fn invalid(field: &'static str, problem: &dyn ToString) -> PeerWireError {
    PeerWireError::Invalid { field, problem: problem.to_string() }
}

impl From<Incarnation> for api::PeerIncarnation {
    fn from(incarnation: Incarnation) -> Self {
        Self { epoch: incarnation.epoch, nonce: incarnation.nonce }
    }
}

impl From<api::PeerIncarnation> for Incarnation {
    fn from(incarnation: api::PeerIncarnation) -> Self {
        Self { epoch: incarnation.epoch, nonce: incarnation.nonce }
    }
}

impl From<Message> for api::PeerMessage {
    fn from(message: Message) -> Self {
        use api::peer_message::Body;
        let introduction = |body| Self { operation: 0, round: 0, body: Some(body) };
        match message {
            Message::Hello(hello) => introduction(Body::Hello(hello.into())),
            Message::Welcome(hello) => introduction(Body::Welcome(hello.into())),
            Message::HelloRefused { incarnation, refusal } => {
                introduction(Body::HelloRefused(refused_hello(incarnation, refusal)))
            }
            Message::Request { operation, round, request } => {
                let body = match request {
                    Request::Clock => Body::ClockRequest(api::PeerClockRequest {}),
                    Request::Get { key, read_kind } => {
                        Body::Get(api::PeerGet { key: key.into_bytes(), digest_only: read_kind == ReadKind::Digest })
                    }
                    Request::Store { key, record } => Body::Store(api::PeerStore {
                        key: key.into_bytes(),
                        stamp: Some(record.stamp.into()),
                        checksum: record.checksum.0,
                        content: Some(record.content.into()),
                    }),
                };
                Self { operation: operation.0, round, body: Some(body) }
            }
            Message::Answer { operation, round, answer } => {
                let body = match answer {
                    Answer::Clock(Clock { epoch, counter }) => Body::Clock(api::PeerClock { epoch, counter }),
                    Answer::Lookup { key, held } => Body::Lookup(encode_lookup(key, held)),
                    Answer::Stored => Body::Stored(api::PeerStored {}),
                    Answer::Refused(refusal) => {
                        Body::Refused(api::PeerRefused { reason: encode_refusal(refusal).into() })
                    }
                };
                Self { operation: operation.0, round, body: Some(body) }
            }
        }
    }
}

impl api::PeerMessage {
    /// The value that the message carries. Chunks carry it on its own.
    pub(super) fn value_mut(&mut self) -> Option<&mut Bytes> {
        use api::peer_content::Content;
        use api::peer_message::Body;
        let content = match self.body.as_mut()? {
            Body::Store(store) => store.content.as_mut(),
            Body::Lookup(lookup) => lookup.content.as_mut(),
            _ => None,
        };
        match content?.content.as_mut()? {
            Content::Text(value) | Content::Binary(value) => Some(value),
            Content::Tombstone(_) => None,
        }
    }
}

fn refused_hello(incarnation: Incarnation, refusal: HelloRefusal) -> api::PeerHelloRefused {
    let reason = match refusal {
        HelloRefusal::Protocol => api::PeerHelloRefusal::HelloRefusalProtocol,
        HelloRefusal::Cluster => api::PeerHelloRefusal::HelloRefusalCluster,
        HelloRefusal::WrongNode => api::PeerHelloRefusal::HelloRefusalWrongNode,
        HelloRefusal::StoreId => api::PeerHelloRefusal::HelloRefusalStoreId,
        HelloRefusal::Incarnation => api::PeerHelloRefusal::HelloRefusalIncarnation,
    };
    api::PeerHelloRefused { incarnation: Some(incarnation.into()), reason: reason.into(), detail: refusal.to_string() }
}

impl TryFrom<api::PeerMessage> for Message {
    type Error = PeerWireError;

    fn try_from(message: api::PeerMessage) -> Result<Self, PeerWireError> {
        use api::peer_message::Body;
        let (operation, round) = (OperationId(message.operation), message.round);
        let request = |request| Ok(Self::Request { operation, round, request });
        let answer = |answer| Ok(Self::Answer { operation, round, answer });
        match message.body.ok_or(missing("body"))? {
            Body::Hello(hello) => Ok(Self::Hello(hello.try_into()?)),
            Body::Welcome(hello) => Ok(Self::Welcome(hello.try_into()?)),
            Body::HelloRefused(refused) => {
                let refusal = decode_hello_refusal(refused.reason()).ok_or(missing("hello_refused.reason"))?;
                let incarnation = refused.incarnation.ok_or(missing("hello_refused.incarnation"))?.into();
                Ok(Self::HelloRefused { incarnation, refusal })
            }
            Body::ClockRequest(api::PeerClockRequest {}) => request(Request::Clock),
            Body::Get(get) => {
                let read_kind = if get.digest_only { ReadKind::Digest } else { ReadKind::Data };
                request(Request::Get { key: key("get.key", get.key)?, read_kind })
            }
            Body::Store(store) => {
                let key = key("store.key", store.key)?;
                let stamp = stamp(&store.stamp.ok_or(missing("store.stamp"))?)?;
                let record = record(&key, stamp, store.checksum, store.content.ok_or(missing("store.content"))?)?;
                request(Request::Store { key, record })
            }
            Body::Clock(api::PeerClock { epoch, counter }) => answer(Answer::Clock(Clock { epoch, counter })),
            Body::Lookup(lookup) => {
                let (key, held) = decode_lookup(lookup)?;
                answer(Answer::Lookup { key, held })
            }
            Body::Stored(api::PeerStored {}) => answer(Answer::Stored),
            Body::Refused(refused) => {
                answer(Answer::Refused(decode_refusal(refused.reason()).ok_or(missing("refused.reason"))?))
            }
        }
    }
}

impl From<Hello> for api::PeerHello {
    fn from(hello: Hello) -> Self {
        let Hello { protocol, parameters, node_id, to_node_id, store_id, incarnation, earlier_incarnations } = hello;
        Self {
            protocol,
            node_id: node_id.to_string(),
            to_node_id: to_node_id.to_string(),
            store_id: Bytes::copy_from_slice(&store_id.0.to_be_bytes()),
            incarnation: Some(incarnation.into()),
            earlier_incarnations: earlier_incarnations.iter().map(|incarnation| (*incarnation).into()).collect(),
            seed: parameters.seed,
            replica_count: u32::try_from(parameters.replica_count).expect("REPLICA_COUNT_MAX keeps it within a u32"),
            node_ids: parameters.node_ids.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<api::PeerHello> for Hello {
    type Error = PeerWireError;

    fn try_from(hello: api::PeerHello) -> Result<Self, PeerWireError> {
        let store_id: [u8; 16] =
            hello.store_id.as_ref().try_into().map_err(|_| invalid("hello.store_id", &"16 bytes are accepted"))?;
        let node_ids: Result<_, _> = hello.node_ids.iter().map(|id| node_id("hello.node_ids", id)).collect();
        Ok(Self {
            protocol: hello.protocol,
            parameters: ClusterParameters {
                seed: hello.seed,
                replica_count: usize::try_from(hello.replica_count).unwrap_or(usize::MAX),
                node_ids: node_ids?,
            },
            node_id: node_id("hello.node_id", &hello.node_id)?,
            to_node_id: node_id("hello.to_node_id", &hello.to_node_id)?,
            store_id: StoreId(u128::from_be_bytes(store_id)),
            incarnation: hello.incarnation.ok_or(missing("hello.incarnation"))?.into(),
            earlier_incarnations: hello.earlier_incarnations.into_iter().map(Into::into).collect(),
        })
    }
}

fn encode_lookup(key: Key, lookup: Lookup) -> api::PeerLookup {
    match lookup {
        Lookup::Absent => api::PeerLookup { key: key.into_bytes(), ..api::PeerLookup::default() },
        Lookup::Digest(Digest { stamp, checksum }) => {
            api::PeerLookup { stamp: Some(stamp.into()), checksum: checksum.0, content: None, key: key.into_bytes() }
        }
        Lookup::Record(Record { stamp, content, checksum }) => api::PeerLookup {
            stamp: Some(stamp.into()),
            checksum: checksum.0,
            content: Some(content.into()),
            key: key.into_bytes(),
        },
    }
}

fn decode_lookup(lookup: api::PeerLookup) -> Result<(Key, Lookup), PeerWireError> {
    let key = key("lookup.key", lookup.key)?;
    let decoded = match (lookup.stamp, lookup.content) {
        (None, None) => Lookup::Absent,
        (None, Some(_)) => return Err(missing("lookup.stamp")),
        (Some(value), None) => Lookup::Digest(Digest { stamp: stamp(&value)?, checksum: Checksum(lookup.checksum) }),
        (Some(value), Some(content)) => Lookup::Record(record(&key, stamp(&value)?, lookup.checksum, content)?),
    };
    Ok((key, decoded))
}

fn record(key: &Key, stamp: Stamp, checksum: u64, content: api::PeerContent) -> Result<Record, PeerWireError> {
    use api::peer_content::Content as Arm;
    let content = match content.content.ok_or(missing("content"))? {
        Arm::Text(bytes) => Content::Value(Value::Text(bytes)),
        Arm::Binary(bytes) => Content::Value(Value::Binary(bytes)),
        Arm::Tombstone(_) => Content::Tombstone,
    };
    let record = Record { stamp, content, checksum: Checksum(checksum) };
    if record.is_intact(key) {
        Ok(record)
    } else {
        Err(PeerWireError::Damaged { key: key.clone(), stamp: record.stamp })
    }
}

impl From<Content> for api::PeerContent {
    fn from(content: Content) -> Self {
        use api::peer_content::Content as Arm;
        let arm = match content {
            Content::Value(Value::Text(bytes)) => Arm::Text(bytes),
            Content::Value(Value::Binary(bytes)) => Arm::Binary(bytes),
            Content::Tombstone => Arm::Tombstone(true),
        };
        Self { content: Some(arm) }
    }
}

fn key(field: &'static str, bytes: Bytes) -> Result<Key, PeerWireError> {
    Key::new(bytes).map_err(|error| invalid(field, &error))
}

fn node_id(field: &'static str, id: &str) -> Result<NodeId, PeerWireError> {
    NodeId::new(id).map_err(|error| invalid(field, &error))
}

fn stamp(value: &api::ClockValue) -> Result<Stamp, PeerWireError> {
    let clock = Clock { epoch: value.epoch, counter: value.clock };
    Ok(Stamp { clock, writer: node_id("stamp.node", &value.node)? })
}

fn encode_refusal(refusal: Refusal) -> api::PeerRefusal {
    match refusal {
        Refusal::NotReplica => api::PeerRefusal::RefusalNotReplica,
        Refusal::NotBootstrapped => api::PeerRefusal::RefusalNotFormed,
        Refusal::StoreFailed => api::PeerRefusal::RefusalStoreFailed,
        Refusal::ReadFailed => api::PeerRefusal::RefusalReadFailed,
        Refusal::ClockJump => api::PeerRefusal::RefusalClockJump,
        Refusal::StampConflict => api::PeerRefusal::RefusalStampConflict,
        Refusal::RefusedByPeers => api::PeerRefusal::RefusalRefusedByPeers,
    }
}

fn decode_refusal(refusal: api::PeerRefusal) -> Option<Refusal> {
    Some(match refusal {
        api::PeerRefusal::RefusalUnknown => return None,
        api::PeerRefusal::RefusalNotReplica => Refusal::NotReplica,
        api::PeerRefusal::RefusalNotFormed => Refusal::NotBootstrapped,
        api::PeerRefusal::RefusalStoreFailed => Refusal::StoreFailed,
        api::PeerRefusal::RefusalReadFailed => Refusal::ReadFailed,
        api::PeerRefusal::RefusalClockJump => Refusal::ClockJump,
        api::PeerRefusal::RefusalStampConflict => Refusal::StampConflict,
        api::PeerRefusal::RefusalRefusedByPeers => Refusal::RefusedByPeers,
    })
}

fn decode_hello_refusal(refusal: api::PeerHelloRefusal) -> Option<HelloRefusal> {
    Some(match refusal {
        api::PeerHelloRefusal::HelloRefusalUnknown => return None,
        api::PeerHelloRefusal::HelloRefusalProtocol => HelloRefusal::Protocol,
        api::PeerHelloRefusal::HelloRefusalCluster => HelloRefusal::Cluster,
        api::PeerHelloRefusal::HelloRefusalWrongNode => HelloRefusal::WrongNode,
        api::PeerHelloRefusal::HelloRefusalStoreId => HelloRefusal::StoreId,
        api::PeerHelloRefusal::HelloRefusalIncarnation => HelloRefusal::Incarnation,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn any_key() -> impl Strategy<Value = Key> {
        "[a-z雪é ]{1,20}".prop_map(|text| Key::new(text).unwrap())
    }

    fn any_stamp() -> impl Strategy<Value = Stamp> {
        (any::<u64>(), any::<u64>(), "[a-z0-9-]{1,9}").prop_map(|(epoch, counter, writer)| Stamp {
            clock: Clock { epoch, counter },
            writer: NodeId::new(&writer).unwrap(),
        })
    }

    fn any_content() -> impl Strategy<Value = Content> {
        prop_oneof![
            Just(Content::Tombstone),
            ".{0,40}".prop_map(|text| Content::Value(Value::Text(text.into()))),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Content::Value(Value::Binary(bytes.into()))),
        ]
    }

    fn any_keyed_record() -> impl Strategy<Value = (Key, Record)> {
        (any_key(), any_stamp(), any_content()).prop_map(|(key, stamp, content)| {
            let checksum = Checksum::of(&key, &content);
            (key, Record { stamp, content, checksum })
        })
    }

    fn any_incarnation() -> impl Strategy<Value = Incarnation> {
        (any::<u64>(), any::<u64>()).prop_map(|(epoch, nonce)| Incarnation { epoch, nonce })
    }

    fn any_hello() -> impl Strategy<Value = Hello> {
        let earlier_incarnations = proptest::collection::vec(any_incarnation(), 0..3);
        (any::<u32>(), any::<u32>(), any::<u128>(), any_incarnation(), earlier_incarnations).prop_map(
            |(protocol, seed, store_id, incarnation, earlier_incarnations)| {
                let node_ids = ["1", "2", "3"].map(|id| NodeId::new(id).unwrap()).to_vec();
                let (node_id, to_node_id) = (node_ids[0].clone(), node_ids[1].clone());
                let parameters = ClusterParameters { seed, replica_count: 3, node_ids };
                Hello {
                    protocol,
                    parameters,
                    node_id,
                    to_node_id,
                    store_id: StoreId(store_id),
                    incarnation,
                    earlier_incarnations: earlier_incarnations.into(),
                }
            },
        )
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let refusals = [
            Refusal::NotReplica,
            Refusal::NotBootstrapped,
            Refusal::StoreFailed,
            Refusal::ReadFailed,
            Refusal::ClockJump,
            Refusal::StampConflict,
            Refusal::RefusedByPeers,
        ];
        let hello_refusals = [
            HelloRefusal::Protocol,
            HelloRefusal::Cluster,
            HelloRefusal::WrongNode,
            HelloRefusal::StoreId,
            HelloRefusal::Incarnation,
        ];
        let read_kinds = prop::sample::select(vec![ReadKind::Digest, ReadKind::Data]);
        let request = prop_oneof![
            Just(Request::Clock),
            (any_key(), read_kinds).prop_map(|(key, read_kind)| Request::Get { key, read_kind }),
            any_keyed_record().prop_map(|(key, record)| Request::Store { key, record }),
        ];
        let held = (any_keyed_record(), 0..3).prop_map(|((key, record), form)| {
            let held = match form {
                0 => Lookup::Absent,
                1 => Lookup::Digest(record.digest()),
                _ => Lookup::Record(record),
            };
            Answer::Lookup { key, held }
        });
        let answer = prop_oneof![
            (any::<u64>(), any::<u64>()).prop_map(|(epoch, counter)| Answer::Clock(Clock { epoch, counter })),
            held,
            Just(Answer::Stored),
            prop::sample::select(refusals.to_vec()).prop_map(Answer::Refused),
        ];
        prop_oneof![
            any_hello().prop_map(Message::Hello),
            any_hello().prop_map(Message::Welcome),
            (any_incarnation(), prop::sample::select(hello_refusals.to_vec()))
                .prop_map(|(incarnation, refusal)| Message::HelloRefused { incarnation, refusal }),
            (any::<u64>(), any::<u32>(), request).prop_map(|(operation, round, request)| Message::Request {
                operation: OperationId(operation),
                round,
                request
            }),
            (any::<u64>(), any::<u32>(), answer).prop_map(|(operation, round, answer)| Message::Answer {
                operation: OperationId(operation),
                round,
                answer
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn message_comes_out_as_it_went_in(message in any_message()) {
            let bytes = api::PeerMessage::from(message.clone()).encode_to_vec();
            let decoded = api::PeerMessage::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(Message::try_from(decoded), Ok(message));
        }

        #[test]
        fn damaged_message_is_refused_or_harmless(message in any_message(), index in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = api::PeerMessage::from(message).encode_to_vec();
            let index = index.index(bytes.len());
            bytes[index] ^= 1 << bit;
            if let Ok(decoded) = api::PeerMessage::decode(bytes.as_slice()) {
                let _ = Message::try_from(decoded);
            }
        }

        #[test]
        fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(decoded) = api::PeerMessage::decode(bytes.as_slice()) {
                let _ = Message::try_from(decoded);
            }
        }
    }

    #[test]
    fn record_that_was_damaged_on_its_way_is_refused() {
        let key = Key::new("k").unwrap();
        let content = Content::Value(Value::Text("value".into()));
        let stamp = Stamp { clock: Clock { epoch: 1, counter: 2 }, writer: NodeId::new("1").unwrap() };
        let record = Record { stamp: stamp.clone(), checksum: Checksum::of(&key, &content), content };
        let mut store = api::PeerStore {
            key: "k".into(),
            stamp: Some(stamp.clone().into()),
            checksum: record.checksum.0,
            content: Some(api::PeerContent { content: Some(api::peer_content::Content::Text("Value".into())) }),
        };
        let message =
            |store| api::PeerMessage { operation: 1, round: 1, body: Some(api::peer_message::Body::Store(store)) };
        assert_eq!(Message::try_from(message(store.clone())), Err(PeerWireError::Damaged { key: key.clone(), stamp }));
        store.content = Some(api::PeerContent { content: Some(api::peer_content::Content::Text("value".into())) });
        let request = Request::Store { key, record };
        let expected = Message::Request { operation: OperationId(1), round: 1, request };
        assert_eq!(Message::try_from(message(store)), Ok(expected));
    }
}
