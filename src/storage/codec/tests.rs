use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::limits::EPOCH_FLOOR_MAX;
use crate::types::{
    Applied, ClusterId, IdempotencyToken, Member, MemberList, Proposal, RECENT_MAX, Site, Version, VoteBallot,
};

fn some_node_id() -> impl Strategy<Value = NodeId> {
    "[!-+\\--~]{1,64}".prop_map(|id| NodeId::new(&id).expect("the pattern gives node ids"))
}

fn some_key() -> impl Strategy<Value = Key> {
    "\\PC{1,40}".prop_map(|text| Key::new(text).expect("the pattern gives keys"))
}

fn some_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Tombstone),
        "\\PC{0,64}".prop_map(|text| Content::Value(Value::Text(text.into()))),
        vec(any::<u8>(), 0..300).prop_map(|bytes| Content::Value(Value::Binary(bytes.into()))),
    ]
}

fn some_clock() -> impl Strategy<Value = Clock> {
    (any::<u64>(), any::<u64>()).prop_map(|(epoch, counter)| Clock { epoch, counter })
}

fn some_stamp() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), any::<u64>(), some_node_id())
        .prop_map(|(epoch, counter, writer)| Stamp { clock: Clock { epoch, counter }, writer })
}

/// A version of a record with `stamp`, or of an earlier one.
fn some_version(stamp: Stamp) -> impl Strategy<Value = Version> {
    let stamp = prop_oneof![Just(stamp), some_stamp(), Just(Stamp::none())];
    (stamp, prop::option::of(some_stamp())).prop_map(|(stamp, ballot)| Version::new(stamp, ballot))
}

fn some_proposal(stamp: &Stamp) -> impl Strategy<Value = Proposal> + use<> {
    let applied = (any::<[u8; 16]>(), some_version(stamp.clone()), any::<Option<i64>>())
        .prop_map(|(token, version, sum)| Applied { token: IdempotencyToken(token), version, sum });
    let versions = (some_version(stamp.clone()), some_version(stamp.clone()));
    (some_stamp(), versions, vec(applied, 0..=RECENT_MAX))
        .prop_map(|(ballot, (version, recent_floor), recent)| Proposal { ballot, version, recent, recent_floor })
}

fn some_record() -> impl Strategy<Value = (Key, Record)> {
    let of_absence = some_clock().prop_map(Stamp::of_absence);
    let stamp = prop_oneof![4 => some_stamp(), 1 => Just(Stamp::none()), 1 => of_absence];
    let proposed = stamp.prop_flat_map(|stamp| {
        let proposal = some_proposal(&stamp).prop_map(Some);
        let proposal = if stamp.is_none() { proposal.boxed() } else { prop_oneof![Just(None), proposal].boxed() };
        (Just(stamp), proposal)
    });
    (some_key(), some_content(), proposed, any::<Option<u32>>()).prop_map(
        |(key, content, (stamp, proposal), millis)| {
            let ttl =
                millis.and_then(|millis| Ttl::from_millis(millis.into())).filter(|_| content != Content::Tombstone);
            let checksum = Checksum::of(&key, &content).and_ttl(ttl).and_proposal(proposal.as_ref());
            (key, Record { stamp, proposal: proposal.map(Into::into), ttl, content, checksum })
        },
    )
}

fn some_list() -> impl Strategy<Value = MemberList> {
    let member = (any::<u128>(), any::<u64>(), "[a-z0-9.:]{1,30}", 0..=1_000_000_u32, "[a-z]{1,64}");
    let members = prop::collection::btree_map(some_node_id(), member, 1..5);
    (members, any::<prop::sample::Index>(), any::<(bool, bool)>()).prop_map(
        |(members, place, (have_weights, have_zones))| {
            let member =
                |(id, (name, since, address, weight, zone)): (NodeId, (u128, u64, String, u32, String))| Member {
                    id,
                    store_id: StoreId(name),
                    since,
                    address: address.into(),
                    site: Site::of_fields(if have_weights { weight } else { 0 }, if have_zones { &zone } else { "" })
                        .expect("a weight and a zone"),
                };
            let members: Vec<Member> = members.into_iter().map(member).collect();
            MemberList { replica_count: 1 + place.index(members.len()), members }
        },
    )
}

fn some_configuration() -> impl Strategy<Value = Arc<Configuration>> {
    let epoch_floor = prop_oneof![Just(0), 0..=EPOCH_FLOOR_MAX];
    (any::<u64>(), any::<u128>(), any::<u32>(), epoch_floor, some_list(), prop::option::of(some_list())).prop_map(
        |(number, cluster, seed, epoch_floor, old, new)| {
            Configuration { number, cluster: ClusterId(cluster), seed, epoch_floor, old, new }.into()
        },
    )
}

/// The name of a member that came first or later, or of none.
fn some_writer() -> impl Strategy<Value = NodeId> {
    prop_oneof![
        Just(NodeId::none()),
        (some_node_id(), prop_oneof![Just(0), any::<u64>()]).prop_map(|(id, number)| id.writer_since(number)),
    ]
}

fn some_vote() -> impl Strategy<Value = Vote> {
    let ballot = || {
        (any::<u64>(), some_writer(), any::<u64>()).prop_map(|(count, proposer, epoch)| VoteBallot {
            count,
            proposer,
            epoch,
        })
    };
    (any::<u64>(), ballot(), prop::option::of((ballot(), some_configuration())))
        .prop_map(|(number, promised, accepted)| Vote { number, promised, accepted })
}

fn some_meta_entry() -> impl Strategy<Value = MetaEntry> {
    prop_oneof![
        any::<u32>().prop_map(MetaEntry::Format),
        any::<u128>().prop_map(|name| MetaEntry::StoreId(StoreId(name))),
        any::<u64>().prop_map(MetaEntry::Epoch),
        (any::<u64>(), any::<u64>()).prop_map(|(epoch, nonce)| MetaEntry::Incarnation(Incarnation { epoch, nonce })),
        Just(MetaEntry::Bootstrapped),
        any::<u64>().prop_map(|count| MetaEntry::Running(RunningTime(count))),
        some_configuration().prop_map(MetaEntry::Configuration),
        some_vote().prop_map(MetaEntry::Vote),
        (any::<u64>(), prop::option::of((any::<u16>(), some_key())), any::<bool>()).prop_map(
            |(number, up_to, is_complete)| {
                let up_to = up_to.map(|(slot, key)| (Slot(slot), key));
                MetaEntry::TakenOver(TakenOver { number, up_to, is_complete })
            }
        ),
        some_clock().prop_map(MetaEntry::Fence),
        (any::<u16>(), some_clock()).prop_map(|(slot, clock)| MetaEntry::Seal(Slot(slot), clock)),
        (some_node_id(), any::<u128>(), any::<u64>(), any::<u64>()).prop_map(|(id, name, epoch, nonce)| {
            MetaEntry::Peer(id, PeerRecord { store_id: StoreId(name), incarnation: Incarnation { epoch, nonce } })
        }),
    ]
}

/// Damage as disks and memory cause it: one byte is changed, or the end is lost.
fn damage(mut bytes: Vec<u8>, at: prop::sample::Index, bits: u8, cut: bool) -> Vec<u8> {
    let at = at.index(bytes.len());
    if cut {
        bytes.truncate(at);
    } else {
        bytes[at] ^= bits;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn encoded_record_decodes_to_itself((key, record) in some_record(), kept_at in any::<u64>()) {
        let mut bytes = Vec::new();
        let kept_at = record.ttl.map(|_| RunningTime(kept_at));
        encode_record(&record, kept_at, &mut bytes);
        prop_assert_eq!(decode_kept_at(&bytes), Ok(kept_at));
        let digest = record.digest();
        prop_assert_eq!(decode_record(&key, &bytes), Ok(record.clone()));
        prop_assert_eq!(decode_entry(&key, &bytes), Ok(Entry::Whole(record.clone())));
        prop_assert_eq!(decode_digest(&bytes), Ok(digest.clone()));
        if digest.is_value {
            bytes.clear();
            encode_separated(&record, kept_at, &mut bytes);
            prop_assert_eq!(decode_entry(&key, &bytes), Ok(Entry::Separated {
                digest: record.digest(),
                value_bytes: record.content.value_bytes(),
            }));
            prop_assert_eq!(decode_record(&key, &bytes), Err(DecodeError::Flags { found: bytes[1] }));
            prop_assert_eq!(decode_digest(&bytes), Ok(digest));
            bytes.push(0);
            prop_assert_eq!(decode_entry(&key, &bytes), Err(DecodeError::Trailing { bytes: 1 }));
        }
    }

    #[test]
    fn encoded_expiry_decodes_to_itself(
        at in any::<u64>(), slot in any::<u16>(), key in some_key(), version in some_version(Stamp::none())
    ) {
        let expiry = Expiry { at: RunningTime(at), slot: Slot(slot), key, version };
        let (name, value) = encode_expiry(&expiry);
        prop_assert_eq!(decode_expiry(&name, &value), Ok(expiry));
    }

    #[test]
    fn encoded_meta_entry_decodes_to_itself(entry in some_meta_entry()) {
        let (name, value) = entry.encode();
        prop_assert_eq!(MetaEntry::decode(&name, &value), Ok(Some(entry)));
    }

    #[test]
    fn entry_key_splits_into_its_parts(slot in any::<u16>(), key in some_key()) {
        let bytes = entry_key(Slot(slot), key.as_bytes());
        prop_assert_eq!(split_entry_key(&bytes), Ok((Slot(slot), key.as_bytes())));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        name in vec(any::<u8>(), 0..80), mut bytes in vec(any::<u8>(), 0..400), key in some_key()
    ) {
        let _ = split_entry_key(&bytes);
        let _ = decode_expiry(&name, &bytes);
        let _ = decode_kept_at(&bytes);
        for known in [false, true] {
            // Bytes with a valid beginning get further into the decoders.
            if known && bytes.len() > 18 {
                bytes[0] = RECORD_VERSION;
                bytes[1] %= 32;
                bytes[18] %= 80;
            }
            let _ = decode_digest(&bytes);
            let _ = decode_entry(&key, &bytes);
            let _ = decode_record(&key, &bytes);
            for name in [&name[..], META_FORMAT, META_STORE_ID, META_EPOCH, META_BOOTSTRAPPED, b"peer/", b"peer/n1"] {
                let _ = MetaEntry::decode(name, &bytes);
            }
        }
    }

    #[test]
    fn damaged_record_never_gives_other_content(
        (key, record) in some_record(), at in any::<prop::sample::Index>(), bits in 1_u8.., cut in any::<bool>()
    ) {
        let mut bytes = Vec::new();
        encode_record(&record, None, &mut bytes);
        let bytes = damage(bytes, at, bits, cut);
        for read in [decode_record(&key, &bytes), decode_entry(&key, &bytes).map(|entry| match entry {
            Entry::Whole(record) => record,
            // The reader goes on to the other family, whose record is verified.
            Entry::Separated { .. } => record.clone(),
        })].into_iter().flatten() {
            prop_assert_eq!(read.content, record.content.clone());
        }
    }

    #[test]
    fn damaged_meta_entry_is_refused(
        entry in some_meta_entry(), at in any::<prop::sample::Index>(), bits in 1_u8.., cut in any::<bool>()
    ) {
        let (name, value) = entry.encode();
        prop_assert!(MetaEntry::decode(&name, &damage(value, at, bits, cut)).is_err());
    }
}

#[test]
fn record_bytes_are_as_documented() {
    let key = Key::new("k").expect("a key");
    let content = Content::Value(Value::Text("v".into()));
    let checksum = Checksum::of(&key, &content);
    let clock = Clock { epoch: 1, counter: 2 };
    let record = Record::plain(Stamp { clock, writer: NodeId::new("n1").expect("a node id") }, content, checksum);
    let mut bytes = Vec::new();
    encode_record(&record, None, &mut bytes);
    let mut expected = vec![3, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2, b'n', b'1'];
    expected.extend_from_slice(&checksum.0.to_be_bytes());
    expected.push(b'v');
    assert_eq!(bytes, expected);
    bytes.clear();
    encode_separated(&record, None, &mut bytes);
    expected.pop();
    expected[1] = 7;
    expected.extend_from_slice(&[0, 0, 0, 1]);
    assert_eq!(bytes, expected);
}

/// A program that knows no weights and zones wrote the first, reads it, and refuses the second.
#[test]
fn configuration_has_further_fields_where_a_member_has_a_weight_or_a_zone() {
    let member = |weight, zone: &str| Member {
        id: NodeId::new("a").expect("a node id"),
        store_id: StoreId(4),
        since: 5,
        address: "h:1".into(),
        site: Site::of_fields(weight, zone).expect("a weight and a zone"),
    };
    let configuration = |member| {
        let old = MemberList { replica_count: 1, members: vec![member] };
        Arc::new(Configuration { number: 1, cluster: ClusterId(2), seed: 3, epoch_floor: 0, old, new: None })
    };
    let before = [
        &1_u64.to_be_bytes()[..],
        &2_u128.to_be_bytes(),
        &3_u32.to_be_bytes(),
        &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, b'a'],
        &4_u128.to_be_bytes(),
        &5_u64.to_be_bytes(),
        &[0, 0, 0, 3],
        b"h:1",
    ]
    .concat();
    let ballot = VoteBallot { count: 6, proposer: NodeId::none(), epoch: 7 };
    let ballot_bytes = [&6_u64.to_be_bytes()[..], &[0; 4], &7_u64.to_be_bytes()].concat();
    let more = [&250_u32.to_be_bytes()[..], &[0, 0, 0, 2], b"z1"].concat();
    for (version, member, site) in
        [(1, member(0, ""), &[][..]), (1, member(100, ""), &[]), (2, member(250, "z1"), &more)]
    {
        let configuration = configuration(member);
        let bytes = [&before, site, &[0]].concat();
        let accepted = Some((ballot.clone(), Arc::clone(&configuration)));
        let vote = Vote { number: 8, promised: ballot.clone(), accepted };
        let vote_bytes = [&8_u64.to_be_bytes()[..], &ballot_bytes, &[1], &ballot_bytes, &bytes].concat();
        for (entry, name, fields) in [
            (MetaEntry::Configuration(configuration), META_CONFIGURATION, bytes),
            (MetaEntry::Vote(vote), META_VOTE, vote_bytes),
        ] {
            let value = [&[version], &fields[..], &meta_checksum(name, &fields).to_be_bytes()].concat();
            assert_eq!(entry.encode(), (name.to_vec(), value.clone()));
            assert_eq!(MetaEntry::decode(name, &value), Ok(Some(entry)));
        }
    }
    let later = [META_VERSION_WITH_SITES + 1; 60];
    let expected = DecodeError::Version { found: META_VERSION_WITH_SITES + 1, known: META_VERSION_WITH_SITES };
    assert_eq!(MetaEntry::decode(META_VOTE, &later), Err(expected));
}

#[test]
fn newer_version_is_named_as_such() {
    let key = Key::new("k").expect("a key");
    let bytes = [RECORD_VERSION + 1; 60];
    let expected = DecodeError::Version { found: RECORD_VERSION + 1, known: RECORD_VERSION };
    assert_eq!(decode_record(&key, &bytes), Err(expected.clone()));
    assert_eq!(decode_digest(&bytes), Err(expected.clone()));
    assert_eq!(decode_entry(&key, &bytes), Err(expected));
    let bytes = [META_VERSION + 1; 60];
    let expected = DecodeError::Version { found: META_VERSION + 1, known: META_VERSION };
    assert_eq!(MetaEntry::decode(META_EPOCH, &bytes), Err(expected));
}

#[test]
fn unknown_flags_are_refused() {
    let key = Key::new("k").expect("a key");
    let content = Content::Value(Value::Binary("v".into()));
    let checksum = Checksum::of(&key, &content);
    let stamp = Stamp { clock: Clock::default(), writer: NodeId::new("n1").expect("a node id") };
    let mut bytes = Vec::new();
    encode_record(&Record::plain(stamp, content, checksum), None, &mut bytes);
    // Text, a separate value or a time to live without a value, and flags of a later program.
    for found in [2, 4, 6, 8, 0x12, 0x20, 0x81] {
        bytes[1] = found;
        let expected = DecodeError::Flags { found };
        assert_eq!(decode_digest(&bytes), Err(expected.clone()));
        assert_eq!(decode_entry(&key, &bytes), Err(expected.clone()));
        assert_eq!(decode_record(&key, &bytes), Err(expected));
    }
}

#[test]
fn unknown_meta_name_is_passed_over() {
    assert_eq!(MetaEntry::decode(b"weather", b"fine"), Ok(None));
}

#[test]
fn record_under_another_key_is_refused() {
    let key = Key::new("k").expect("a key");
    let content = Content::Value(Value::Binary("v".into()));
    let checksum = Checksum::of(&key, &content);
    let stamp = Stamp { clock: Clock::default(), writer: NodeId::new("n1").expect("a node id") };
    let mut bytes = Vec::new();
    encode_record(&Record::plain(stamp, content, checksum), None, &mut bytes);
    let other = Key::new("other").expect("a key");
    assert!(matches!(decode_record(&other, &bytes), Err(DecodeError::Checksum { .. })));
}
