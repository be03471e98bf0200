use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

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

prop_compose! {
    fn some_record()(
        key in some_key(),
        content in some_content(),
        epoch in any::<u64>(),
        counter in any::<u64>(),
        writer in some_node_id(),
    ) -> (Key, Record) {
        let checksum = Checksum::of(&key, &content);
        let stamp = Stamp { clock: Clock { epoch, counter }, writer };
        (key, Record { stamp, content, checksum })
    }
}

fn some_meta_entry() -> impl Strategy<Value = MetaEntry> {
    prop_oneof![
        any::<u32>().prop_map(MetaEntry::Format),
        any::<u128>().prop_map(|name| MetaEntry::StoreId(StoreId(name))),
        any::<u64>().prop_map(MetaEntry::Epoch),
        (any::<u64>(), any::<u64>()).prop_map(|(epoch, nonce)| MetaEntry::Incarnation(Incarnation { epoch, nonce })),
        Just(MetaEntry::Bootstrapped),
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
    fn encoded_record_decodes_to_itself((key, record) in some_record()) {
        let mut bytes = Vec::new();
        encode_record(&record, &mut bytes);
        let head = Head { digest: record.digest(), is_value: record.content != Content::Tombstone };
        prop_assert_eq!(decode_record(&key, &bytes), Ok(record.clone()));
        prop_assert_eq!(decode_entry(&key, &bytes), Ok(Entry::Whole(record.clone())));
        prop_assert_eq!(decode_head(&bytes), Ok(head.clone()));
        if head.is_value {
            bytes.clear();
            encode_separated(&record, &mut bytes);
            prop_assert_eq!(decode_entry(&key, &bytes), Ok(Entry::Separated {
                digest: record.digest(),
                value_bytes: record.content.value_bytes(),
            }));
            prop_assert_eq!(decode_record(&key, &bytes), Err(DecodeError::Flags { found: bytes[1] }));
            prop_assert_eq!(decode_head(&bytes), Ok(head));
            bytes.push(0);
            prop_assert_eq!(decode_entry(&key, &bytes), Err(DecodeError::Trailing { bytes: 1 }));
        }
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
        for known in [false, true] {
            // Bytes with a valid beginning get further into the decoders.
            if known && bytes.len() > 18 {
                bytes[0] = RECORD_VERSION;
                bytes[1] %= 8;
                bytes[18] %= 80;
            }
            let _ = decode_head(&bytes);
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
        encode_record(&record, &mut bytes);
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
    let record = Record { stamp: Stamp { clock, writer: NodeId::new("n1").expect("a node id") }, content, checksum };
    let mut bytes = Vec::new();
    encode_record(&record, &mut bytes);
    let mut expected = vec![2, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2, b'n', b'1'];
    expected.extend_from_slice(&checksum.0.to_be_bytes());
    expected.push(b'v');
    assert_eq!(bytes, expected);
    bytes.clear();
    encode_separated(&record, &mut bytes);
    expected.pop();
    expected[1] = 7;
    expected.extend_from_slice(&[0, 0, 0, 1]);
    assert_eq!(bytes, expected);
}

#[test]
fn newer_version_is_named_as_such() {
    let key = Key::new("k").expect("a key");
    let bytes = [RECORD_VERSION + 1; 60];
    let expected = DecodeError::Version { found: RECORD_VERSION + 1, known: RECORD_VERSION };
    assert_eq!(decode_record(&key, &bytes), Err(expected.clone()));
    assert_eq!(decode_head(&bytes), Err(expected.clone()));
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
    encode_record(&Record { stamp, content, checksum }, &mut bytes);
    // Text or a separate value without a value, and a flag of a later program.
    for found in [2, 4, 6, 8, 9, 0x81] {
        bytes[1] = found;
        let expected = DecodeError::Flags { found };
        assert_eq!(decode_head(&bytes), Err(expected.clone()));
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
    encode_record(&Record { stamp, content, checksum }, &mut bytes);
    let other = Key::new("other").expect("a key");
    assert!(matches!(decode_record(&other, &bytes), Err(DecodeError::Checksum { .. })));
}
