//! Conversions of the messages between nodes.
//!
//! Contract: the checksum of every record is verified on arrival. Damage by a network card or by another node's disk reaches
//! neither this node's store nor a client.

use bytes::Bytes;

use crate::api;
use crate::protocol::{Answer, Message, OperationId, Request, StoreOrigin};
use crate::types::{
    Age, Applied, Checksum, Clock, Content, Digest, IdempotencyToken, Incarnation, Key, KeyRange, Lookup, NodeId,
    Proposal, RECENT_MAX, ReadKind, Record, ScannedKeys, Stamp, TableId, Ttl, Value, Version,
};

use super::refusals::{decode_hello_refusal, decode_refusal, encode_refusal, refused_hello};
use super::{changes, members, repair};

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
        let introduction = |body| Self { operation: 0, round: 0, number: 0, body: Some(body) };
        match message {
            Message::Hello(hello) => introduction(Body::Hello(hello.into())),
            Message::Welcome(hello) => introduction(Body::Welcome(hello.into())),
            Message::HelloRefused { incarnation, refusal } => {
                introduction(Body::HelloRefused(refused_hello(incarnation, refusal)))
            }
            Message::Configuration(configuration) => {
                introduction(Body::Configuration(members::encode_configuration(&configuration)))
            }
            Message::ConfigurationWanted => introduction(Body::ConfigurationWanted(api::PeerConfigurationWanted {})),
            Message::Request { operation, round, number, request } => {
                let body = match request {
                    Request::Clock => Body::ClockRequest(api::PeerClockRequest { taken: None }),
                    Request::TakeClock { clock } => {
                        Body::ClockRequest(api::PeerClockRequest { taken: Some(repair::encode_clock(clock)) })
                    }
                    Request::Get { key, read_kind } => {
                        Body::Get(api::PeerGet { key: key.into_bytes(), digest_only: read_kind == ReadKind::Digest })
                    }
                    Request::Store { key, record, age, origin } => {
                        let repair = origin == StoreOrigin::Repair;
                        Body::Store(api::PeerStore { repair, ..encode_store(key, record, age) })
                    }
                    Request::Prepare { key, ballot, read_kind } => Body::Prepare(api::PeerPrepare {
                        key: key.into_bytes(),
                        ballot: Some(ballot.into()),
                        digest_only: read_kind == ReadKind::Digest,
                    }),
                    Request::Accept { key, record, age } => Body::Accept(encode_store(key, record, age)),
                    Request::Scan { range, keys_max } => Body::Scan(encode_scan(range, keys_max)),
                    Request::Drop { tables } => {
                        Body::Drop(api::PeerDrop { tables: tables.into_iter().map(|table| table.0).collect() })
                    }
                    Request::Follow { filter, next } => Body::Follow(changes::encode_follow(filter, next)),
                    Request::Unfollow => Body::Unfollow(api::PeerUnfollow {}),
                    Request::Repair(request) => Body::Repair(repair::encode_request(request)),
                    Request::Members(request) => Body::Members(members::encode_request(request)),
                    Request::Fence { slot, fence } => Body::Fence(repair::encode_slot_clock(slot, fence, None)),
                    Request::OldRecords { slot, until, after } => {
                        Body::OldRecords(repair::encode_slot_clock(slot, until, after))
                    }
                    Request::Seal { slot, seal } => Body::Seal(repair::encode_slot_clock(slot, seal, None)),
                };
                Self { operation: operation.0, round, number, body: Some(body) }
            }
            Message::Answer { operation, round, number, answer } => {
                let body = match answer {
                    Answer::Clock(clock) => Body::Clock(repair::encode_clock(clock)),
                    Answer::Lookup { key, held, age, seal } => Body::Lookup(encode_held(key, held, age, seal)),
                    Answer::Stored => Body::Stored(api::PeerStored {}),
                    Answer::Promised { key, held, age, seal } => Body::Promised(encode_held(key, held, age, seal)),
                    Answer::Preempted { floor: Clock { epoch, counter }, seal } => {
                        Body::Preempted(api::PeerPreempted { epoch, counter, seal: seal.map(repair::encode_clock) })
                    }
                    Answer::Sealed => Body::Sealed(api::PeerSealed {}),
                    Answer::Fenced { sum } => Body::Fenced(repair::encode_fenced(sum)),
                    Answer::OldRecords(marks) => Body::Marks(repair::encode_marks(marks)),
                    Answer::Scanned(scanned) => Body::Scanned(encode_scanned(scanned)),
                    Answer::Changes { from, to, changes } => Body::Changes(changes::encode(from, to, changes)),
                    Answer::ChangesLost => Body::Changes(api::PeerChanges { lost: true, ..Default::default() }),
                    Answer::Repair(answer) => Body::Compared(repair::encode_answer(answer)),
                    Answer::Members(answer) => Body::MembersAnswer(members::encode_answer(answer)),
                    Answer::Refused(refusal) => {
                        Body::Refused(api::PeerRefused { reason: encode_refusal(refusal).into() })
                    }
                };
                Self { operation: operation.0, round, number, body: Some(body) }
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
            Body::Store(store) | Body::Accept(store) => store.content.as_mut(),
            Body::Lookup(lookup) | Body::Promised(lookup) => lookup.content.as_mut(),
            _ => None,
        };
        match content?.content.as_mut()? {
            Content::Text(value) | Content::Binary(value) => Some(value),
            Content::Tombstone(_) => None,
        }
    }
}

impl TryFrom<api::PeerMessage> for Message {
    type Error = PeerWireError;

    fn try_from(message: api::PeerMessage) -> Result<Self, PeerWireError> {
        use api::peer_message::Body;
        let (operation, round, number) = (OperationId(message.operation), message.round, message.number);
        let request = |request| Ok(Self::Request { operation, round, number, request });
        let answer = |answer| Ok(Self::Answer { operation, round, number, answer });
        match message.body.ok_or(missing("body"))? {
            Body::Hello(hello) => Ok(Self::Hello(hello.try_into()?)),
            Body::Welcome(hello) => Ok(Self::Welcome(hello.try_into()?)),
            Body::HelloRefused(refused) => {
                let refusal = decode_hello_refusal(refused.reason()).ok_or(missing("hello_refused.reason"))?;
                let incarnation = refused.incarnation.ok_or(missing("hello_refused.incarnation"))?.into();
                Ok(Self::HelloRefused { incarnation, refusal })
            }
            Body::Configuration(configuration) => {
                Ok(Self::Configuration(members::decode_configuration(&configuration)?))
            }
            Body::ConfigurationWanted(api::PeerConfigurationWanted {}) => Ok(Self::ConfigurationWanted),
            Body::Members(asked) => request(Request::Members(members::decode_request(asked)?)),
            Body::MembersAnswer(told) => answer(Answer::Members(members::decode_answer(told)?)),
            Body::ClockRequest(api::PeerClockRequest { taken: None }) => request(Request::Clock),
            Body::ClockRequest(api::PeerClockRequest { taken: Some(clock) }) => {
                request(Request::TakeClock { clock: repair::decode_clock(clock) })
            }
            Body::Get(get) => {
                let read_kind = if get.digest_only { ReadKind::Digest } else { ReadKind::Data };
                request(Request::Get { key: key("get.key", get.key)?, read_kind })
            }
            Body::Store(store) => {
                let origin = if store.repair { StoreOrigin::Repair } else { StoreOrigin::Writer };
                let (key, record, age) = decode_store(store)?;
                request(Request::Store { key, record, age, origin })
            }
            Body::Prepare(prepare) => {
                let read_kind = if prepare.digest_only { ReadKind::Digest } else { ReadKind::Data };
                let ballot = stamp(&prepare.ballot.ok_or(missing("prepare.ballot"))?)?;
                request(Request::Prepare { key: key("prepare.key", prepare.key)?, ballot, read_kind })
            }
            Body::Accept(accept) => {
                let (key, record, age) = decode_store(accept)?;
                if record.proposal.is_none() {
                    return Err(missing("accept.proposal"));
                }
                request(Request::Accept { key, record, age })
            }
            Body::Clock(clock) => answer(Answer::Clock(repair::decode_clock(clock))),
            Body::Lookup(lookup) => {
                let seal = lookup.seal.map(repair::decode_clock);
                let (key, held, age) = decode_lookup(lookup)?;
                answer(Answer::Lookup { key, held, age, seal })
            }
            Body::Stored(api::PeerStored {}) => answer(Answer::Stored),
            Body::Promised(promised) => {
                let seal = promised.seal.map(repair::decode_clock);
                let (key, held, age) = decode_lookup(promised)?;
                answer(Answer::Promised { key, held, age, seal })
            }
            Body::Preempted(api::PeerPreempted { epoch, counter, seal }) => {
                answer(Answer::Preempted { floor: Clock { epoch, counter }, seal: seal.map(repair::decode_clock) })
            }
            Body::Sealed(api::PeerSealed {}) => answer(Answer::Sealed),
            Body::Fence(fence) => {
                let (slot, fence, _) = repair::decode_slot_clock("fence", fence)?;
                request(Request::Fence { slot, fence })
            }
            Body::Fenced(fenced) => answer(Answer::Fenced { sum: repair::decode_fenced(&fenced)? }),
            Body::OldRecords(old) => {
                let (slot, until, after) = repair::decode_slot_clock("old_records", old)?;
                request(Request::OldRecords { slot, until, after })
            }
            Body::Marks(marks) => answer(Answer::OldRecords(repair::decode_marks(marks)?)),
            Body::Seal(seal) => {
                let (slot, seal, _) = repair::decode_slot_clock("seal", seal)?;
                request(Request::Seal { slot, seal })
            }
            Body::Scan(scan) => request(decode_scan(scan)?),
            Body::Scanned(scanned) => answer(Answer::Scanned(decode_scanned(scanned)?)),
            Body::Drop(api::PeerDrop { tables }) => {
                let tables: Vec<TableId> = tables.into_iter().map(TableId).collect();
                match tables.iter().find(|table| !table.is_created()) {
                    Some(table) => Err(invalid("drop.tables", &format!("table {table} cannot be dropped"))),
                    None => request(Request::Drop { tables }),
                }
            }
            Body::Follow(follow) => request(changes::decode_follow(follow)?),
            Body::Unfollow(api::PeerUnfollow {}) => request(Request::Unfollow),
            Body::Changes(changes) => answer(changes::decode(changes)?),
            Body::Repair(request_of_repair) => request(Request::Repair(repair::decode_request(request_of_repair)?)),
            Body::Compared(compared) => answer(Answer::Repair(repair::decode_answer(compared)?)),
            Body::Refused(refused) => {
                answer(Answer::Refused(decode_refusal(refused.reason()).ok_or(missing("refused.reason"))?))
            }
        }
    }
}

fn encode_store(key: Key, record: Record, age: Age) -> api::PeerStore {
    let Record { stamp, proposal, ttl, content, checksum } = record;
    api::PeerStore {
        key: key.into_bytes(),
        stamp: encode_stamp(stamp),
        checksum: checksum.0,
        content: Some(content.into()),
        proposal: proposal.map(|proposal| Box::new(encode_proposal(&proposal))),
        ttl_ms: encode_ttl(ttl),
        age_ms: age.0,
        repair: false,
    }
}

fn decode_store(store: api::PeerStore) -> Result<(Key, Record, Age), PeerWireError> {
    let key = key("store.key", store.key)?;
    let proposal = store.proposal.map(|proposal| decode_proposal(*proposal)).transpose()?;
    let stamp = stamp_under(proposal.as_ref(), store.stamp.as_ref())?.ok_or(missing("store.stamp"))?;
    let content = decode_content(store.content.ok_or(missing("store.content"))?)?;
    let (ttl, checksum) = (decode_ttl(store.ttl_ms)?, Checksum(store.checksum));
    let record = Record { stamp, proposal: proposal.map(Into::into), ttl, content, checksum };
    checked(&key, record).map(|record| (key, record, Age(store.age_ms)))
}

fn encode_lookup(key: Key, lookup: Lookup, age: Age) -> api::PeerLookup {
    let key = key.into_bytes();
    match lookup {
        Lookup::Absent => api::PeerLookup { key, ..api::PeerLookup::default() },
        Lookup::Digest(Digest { stamp, proposal, checksum, ttl, is_value }) => api::PeerLookup {
            stamp: encode_stamp(stamp),
            checksum: checksum.0,
            content: None,
            key,
            proposal: proposal.map(|proposal| Box::new(encode_proposal(&proposal))),
            ttl_ms: encode_ttl(ttl),
            is_value,
            age_ms: age.0,
            seal: None,
        },
        Lookup::Record(Record { stamp, proposal, ttl, content, checksum }) => api::PeerLookup {
            stamp: encode_stamp(stamp),
            checksum: checksum.0,
            content: Some(content.into()),
            key,
            proposal: proposal.map(|proposal| Box::new(encode_proposal(&proposal))),
            ttl_ms: encode_ttl(ttl),
            is_value: false,
            age_ms: age.0,
            seal: None,
        },
    }
}

fn encode_held(key: Key, held: Lookup, age: Age, seal: Option<Clock>) -> api::PeerLookup {
    api::PeerLookup { seal: seal.map(repair::encode_clock), ..encode_lookup(key, held, age) }
}

fn decode_lookup(lookup: api::PeerLookup) -> Result<(Key, Lookup, Age), PeerWireError> {
    let key = key("lookup.key", lookup.key)?;
    let proposal = lookup.proposal.map(|proposal| decode_proposal(*proposal)).transpose()?;
    let stamp = stamp_under(proposal.as_ref(), lookup.stamp.as_ref())?;
    let (proposal, ttl, checksum) = (proposal.map(Into::into), decode_ttl(lookup.ttl_ms)?, Checksum(lookup.checksum));
    let decoded = match (stamp, lookup.content) {
        (None, None) => Lookup::Absent,
        (None, Some(_)) => return Err(missing("lookup.stamp")),
        (Some(stamp), None) => Lookup::Digest(Digest { stamp, proposal, checksum, ttl, is_value: lookup.is_value }),
        (Some(stamp), Some(content)) => {
            let content = decode_content(content)?;
            Lookup::Record(checked(&key, Record { stamp, proposal, ttl, content, checksum })?)
        }
    };
    // An absence has no age, whatever a damaged message says.
    let age = if decoded == Lookup::Absent { Age::NONE } else { Age(lookup.age_ms) };
    Ok((key, decoded, age))
}

fn encode_scan(range: KeyRange, keys_max: usize) -> api::PeerScan {
    let KeyRange { after, prefix } = range;
    let keys_max = u32::try_from(keys_max).unwrap_or(u32::MAX);
    api::PeerScan { after: after.map(Key::into_bytes).unwrap_or_default(), prefix, keys_max }
}

fn decode_scan(scan: api::PeerScan) -> Result<Request, PeerWireError> {
    let range = KeyRange { after: some_key("scan.after", scan.after)?, prefix: scan.prefix };
    let keys_max = usize::try_from(scan.keys_max).unwrap_or(usize::MAX);
    Ok(Request::Scan { range, keys_max })
}

fn encode_scanned(scanned: ScannedKeys) -> api::PeerScanned {
    let keys = scanned.keys.into_iter().map(|(key, digest)| encode_lookup(key, Lookup::Digest(digest), Age::NONE));
    let looked_to = scanned.looked_to.map(Key::into_bytes).unwrap_or_default();
    api::PeerScanned { keys: keys.collect(), looked_to }
}

fn decode_scanned(scanned: api::PeerScanned) -> Result<ScannedKeys, PeerWireError> {
    let mut keys = Vec::with_capacity(scanned.keys.len());
    for lookup in scanned.keys {
        match decode_lookup(lookup)? {
            (key, Lookup::Digest(digest), _) => keys.push((key, digest)),
            (_, Lookup::Absent | Lookup::Record(_), _) => return Err(missing("scanned.keys.stamp")),
        }
    }
    Ok(ScannedKeys { keys, looked_to: some_key("scanned.looked_to", scanned.looked_to)? })
}

/// A key, or nothing where the field is empty.
pub(super) fn some_key(field: &'static str, bytes: Bytes) -> Result<Option<Key>, PeerWireError> {
    if bytes.is_empty() { Ok(None) } else { key(field, bytes).map(Some) }
}

fn encode_stamp(stamp: Stamp) -> Option<api::ClockValue> {
    (stamp != Stamp::none()).then(|| stamp.into())
}

/// The stamp of a record, which may be that of an absence. The least one is not sent.
fn stamp_under(proposal: Option<&Proposal>, value: Option<&api::ClockValue>) -> Result<Option<Stamp>, PeerWireError> {
    match (value, proposal) {
        (Some(value), Some(_)) => base_stamp(value).map(Some),
        (Some(value), None) => stamp(value).map(Some),
        (None, Some(_)) => Ok(Some(Stamp::none())),
        (None, None) => Ok(None),
    }
}

fn encode_ttl(ttl: Option<Ttl>) -> u64 {
    ttl.map_or(0, Ttl::as_millis)
}

fn decode_ttl(millis: u64) -> Result<Option<Ttl>, PeerWireError> {
    if millis == 0 {
        return Ok(None);
    }
    Ttl::from_millis(millis).map(Some).ok_or_else(|| invalid("ttl_ms", &"at most 10 years are accepted"))
}

fn encode_proposal(proposal: &Proposal) -> api::PeerProposal {
    let Proposal { ballot, version, recent, recent_floor } = proposal;
    let applied = |Applied { token, version, sum }: &Applied| api::PeerApplied {
        token: Bytes::copy_from_slice(&token.0),
        version: Some(encode_version(version)),
        sum: *sum,
    };
    api::PeerProposal {
        ballot: Some(ballot.clone().into()),
        version: Some(encode_version(version)),
        recent: recent.iter().map(applied).collect(),
        recent_floor: Some(encode_version(recent_floor)),
    }
}

fn decode_proposal(proposal: api::PeerProposal) -> Result<Proposal, PeerWireError> {
    let applied = |applied: api::PeerApplied| {
        let token = applied.token.as_ref().try_into();
        let token = IdempotencyToken(token.map_err(|_| invalid("recent.token", &"16 bytes are accepted"))?);
        Ok(Applied { token, version: decode_version(applied.version.as_ref())?, sum: applied.sum })
    };
    if proposal.recent.len() > RECENT_MAX {
        return Err(invalid("proposal.recent", &format!("at most {RECENT_MAX} are accepted")));
    }
    Ok(Proposal {
        ballot: stamp(&proposal.ballot.ok_or(missing("proposal.ballot"))?)?,
        version: decode_version(proposal.version.as_ref())?,
        recent: proposal.recent.into_iter().map(applied).collect::<Result<_, _>>()?,
        recent_floor: decode_version(proposal.recent_floor.as_ref())?,
    })
}

pub(super) fn encode_version(version: &Version) -> api::PeerVersion {
    let Version { stamp, ballot, .. } = version.clone();
    api::PeerVersion { stamp: encode_stamp(stamp), ballot: ballot.map(Into::into) }
}

pub(super) fn decode_version(version: Option<&api::PeerVersion>) -> Result<Version, PeerWireError> {
    let version = version.ok_or(missing("version"))?;
    let stamp_of_version = version.stamp.as_ref().map_or_else(|| Ok(Stamp::none()), base_stamp)?;
    Ok(Version::new(stamp_of_version, version.ballot.as_ref().map(stamp).transpose()?))
}

fn decode_content(content: api::PeerContent) -> Result<Content, PeerWireError> {
    use api::peer_content::Content as Arm;
    Ok(match content.content.ok_or(missing("content"))? {
        Arm::Text(bytes) => Content::Value(Value::Text(bytes)),
        Arm::Binary(bytes) => Content::Value(Value::Binary(bytes)),
        Arm::Tombstone(_) => Content::Tombstone,
    })
}

fn checked(key: &Key, record: Record) -> Result<Record, PeerWireError> {
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

pub(super) fn key(field: &'static str, bytes: Bytes) -> Result<Key, PeerWireError> {
    Key::from_stored(bytes).map_err(|error| invalid(field, &error))
}

pub(super) fn node_id(field: &'static str, id: &str) -> Result<NodeId, PeerWireError> {
    NodeId::new(id).map_err(|error| invalid(field, &error))
}

/// The name under which a node writes.
pub(super) fn writer(field: &'static str, name: &str) -> Result<NodeId, PeerWireError> {
    NodeId::of_writer(name).map_err(|error| invalid(field, &error))
}

fn base_stamp(value: &api::ClockValue) -> Result<Stamp, PeerWireError> {
    let clock = Clock { epoch: value.epoch, counter: value.clock };
    if value.node.is_empty() && clock != Clock::default() {
        return Ok(Stamp { clock, writer: NodeId::none() });
    }
    stamp(value)
}

fn stamp(value: &api::ClockValue) -> Result<Stamp, PeerWireError> {
    let clock = Clock { epoch: value.epoch, counter: value.clock };
    Ok(Stamp { clock, writer: writer("stamp.node", &value.node)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated};
    use crate::protocol::Hello;
    use crate::protocol::sums::{Marks, Part, RecordsOf, RepairAnswer, RepairRequest, Sum};
    use crate::protocol::{HelloRefusal, Refusal};
    use crate::types::{ClusterId, ClusterParameters, Site, Slot, StoreId};

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
            (key, Record::plain(stamp, content, checksum))
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
                let weights = [u32::from(protocol.is_multiple_of(2)) + 100, 100, 250];
                let sites =
                    Site::listed(3, &weights, if seed.is_multiple_of(2) { &[][..] } else { &["a", "b", "a"] }).unwrap();
                let epoch_floor = seed.into();
                let parameters = ClusterParameters { seed, replica_count: 3, epoch_floor, node_ids, sites };
                Hello {
                    protocol,
                    parameters,
                    node_id,
                    to_node_id,
                    store_id: StoreId(store_id),
                    incarnation,
                    earlier_incarnations: earlier_incarnations.into(),
                    cluster: Some(ClusterId(store_id)).filter(|_| seed % 2 == 0),
                    number: seed.into(),
                    joins: (seed % 3 == 0).then(|| "host:1".into()),
                }
            },
        )
    }

    fn any_clock() -> impl Strategy<Value = Clock> {
        (any::<u64>(), any::<u64>()).prop_map(|(epoch, counter)| Clock { epoch, counter })
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
            Refusal::Dropped,
            Refusal::NoRoom,
            Refusal::Fenced,
            Refusal::Outdated,
        ];
        let hello_refusals = [
            HelloRefusal::Protocol,
            HelloRefusal::Cluster,
            HelloRefusal::WrongNode,
            HelloRefusal::StoreId,
            HelloRefusal::Incarnation,
            HelloRefusal::NotMember,
        ];
        let read_kinds = prop::sample::select(vec![ReadKind::Digest, ReadKind::Data]);
        let request = prop_oneof![
            Just(Request::Clock),
            any_clock().prop_map(|clock| Request::TakeClock { clock }),
            (any_key(), read_kinds).prop_map(|(key, read_kind)| Request::Get { key, read_kind }),
            (any_keyed_record(), any::<u64>(), any::<bool>()).prop_map(|((key, record), age, is_repair)| {
                let origin = if is_repair { StoreOrigin::Repair } else { StoreOrigin::Writer };
                Request::Store { key, record, age: Age(age), origin }
            }),
            (any::<u16>(), any_clock(), prop::option::of(any_key()), 0..3).prop_map(|(slot, clock, after, form)| {
                let slot = Slot(slot);
                match form {
                    0 => Request::Fence { slot, fence: clock },
                    1 => Request::OldRecords { slot, until: clock, after },
                    _ => Request::Seal { slot, seal: clock },
                }
            }),
            (prop::option::of(any_key()), ".{0,9}", any::<u32>()).prop_map(|(after, prefix, keys_max)| Request::Scan {
                range: KeyRange { after, prefix: prefix.into() },
                keys_max: usize::try_from(keys_max).unwrap()
            }),
            (any::<u16>(), any::<u16>(), prop::option::of(any_key())).prop_map(|(slot, parts, after)| {
                Request::Repair(RepairRequest::Records(RecordsOf { part: Part::of_slot(Slot(slot)), parts, after }))
            }),
            prop::collection::vec(any::<u16>(), 0..3).prop_map(|slots| {
                let parts = slots.iter().map(|slot| Part::of_slot(Slot(*slot)));
                let parts = if slots.is_empty() { vec![Part::ALL] } else { parts.collect() };
                Request::Repair(RepairRequest::Sums(parts))
            }),
            any::<bool>().prop_map(|is_equal| Request::Repair(RepairRequest::End { is_equal })),
        ];
        let seal = prop::option::of(any_clock());
        let held = (any_keyed_record(), 0..3, 1..u64::MAX, seal).prop_map(|((key, record), form, age, seal)| {
            let held = match form {
                0 => Lookup::Absent,
                1 => Lookup::Digest(record.digest()),
                _ => Lookup::Record(record),
            };
            let age = if held == Lookup::Absent { Age::NONE } else { Age(age) };
            Answer::Lookup { key, held, age, seal }
        });
        let answer = prop_oneof![
            any_clock().prop_map(Answer::Clock),
            held,
            (any_clock(), prop::option::of(any_clock())).prop_map(|(floor, seal)| Answer::Preempted { floor, seal }),
            prop::option::of(any::<u128>()).prop_map(|sum| Answer::Fenced { sum: sum.map(Sum) }),
            (prop::collection::vec((any_key(), any::<u64>()), 0..3), prop::option::of(any_key()))
                .prop_map(|(records, looked_to)| Answer::OldRecords(Marks { records, looked_to })),
            Just(Answer::Sealed),
            Just(Answer::Stored),
            (prop::collection::vec(any_keyed_record(), 0..3), prop::option::of(any_key())).prop_map(
                |(records, looked_to)| {
                    let keys = records.into_iter().map(|(key, record)| (key, record.digest())).collect();
                    Answer::Scanned(ScannedKeys { keys, looked_to })
                }
            ),
            prop::sample::select(refusals.to_vec()).prop_map(Answer::Refused),
            prop::collection::vec(any::<u128>(), 0..3)
                .prop_map(|sums| Answer::Repair(RepairAnswer::Sums(sums.into_iter().map(Sum).collect()))),
            (prop::collection::vec((any_key(), any::<u64>()), 0..3), prop::option::of(any_key()))
                .prop_map(|(records, looked_to)| Answer::Repair(RepairAnswer::Records(Marks { records, looked_to }))),
            Just(Answer::Repair(RepairAnswer::NotNow)),
        ];
        prop_oneof![
            any_hello().prop_map(Message::Hello),
            any_hello().prop_map(Message::Welcome),
            (any_incarnation(), prop::sample::select(hello_refusals.to_vec()))
                .prop_map(|(incarnation, refusal)| Message::HelloRefused { incarnation, refusal }),
            (any::<u64>(), any::<(u32, u64)>(), request).prop_map(|(operation, (round, number), request)| {
                Message::Request { operation: OperationId(operation), round, number, request }
            }),
            (any::<u64>(), any::<(u32, u64)>(), answer).prop_map(|(operation, (round, number), answer)| {
                Message::Answer { operation: OperationId(operation), round, number, answer }
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
        let checksum = Checksum::of(&key, &content);
        let record = Record::plain(stamp.clone(), content, checksum);
        let mut store = api::PeerStore {
            key: "k".into(),
            stamp: Some(stamp.clone().into()),
            checksum: record.checksum.0,
            content: Some(api::PeerContent { content: Some(api::peer_content::Content::Text("Value".into())) }),
            ..Default::default()
        };
        let message = |store| api::PeerMessage {
            operation: 1,
            round: 1,
            number: 0,
            body: Some(api::peer_message::Body::Store(store)),
        };
        assert_eq!(Message::try_from(message(store.clone())), Err(PeerWireError::Damaged { key: key.clone(), stamp }));
        store.content = Some(api::PeerContent { content: Some(api::peer_content::Content::Text("value".into())) });
        let request = Request::Store { key, record, age: Age::NONE, origin: StoreOrigin::Writer };
        let expected = Message::Request { operation: OperationId(1), round: 1, number: 0, request };
        assert_eq!(Message::try_from(message(store)), Ok(expected));
    }

    #[test]
    fn absence_has_no_age() {
        let lookup = api::PeerLookup { key: "k".into(), age_ms: 7, ..Default::default() };
        let body = Some(api::peer_message::Body::Lookup(lookup));
        let (key, held, age) = (Key::new("k").unwrap(), Lookup::Absent, Age::NONE);
        let answer = Answer::Lookup { key, held, age, seal: None };
        let expected = Message::Answer { operation: OperationId(1), round: 1, number: 0, answer };
        assert_eq!(Message::try_from(api::PeerMessage { operation: 1, round: 1, number: 0, body }), Ok(expected));
    }

    #[test]
    fn fuzz_messages_of_peers() {
        use proptest::strategy::ValueTree as _;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut message = || any_message().new_tree(&mut runner).expect("there are messages").current();
        let messages: Vec<Vec<u8>> = (0..256).map(|_| api::PeerMessage::from(message()).encode_to_vec()).collect();
        let seeds: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let Ok(decoded) = api::PeerMessage::decode(mutated(&seeds, bytes).as_slice()) else { return };
            let Ok(message) = Message::try_from(decoded) else { return };
            let again = api::PeerMessage::from(message.clone()).encode_to_vec();
            let again = api::PeerMessage::decode(again.as_slice()).expect("it was just encoded");
            assert_eq!(Message::try_from(again), Ok(message), "a message that is taken is one that can be sent");
        });
    }
}
