use futures_util::{FutureExt as _, StreamExt as _};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::limits::{
    ADDRESS_BYTES_MAX, INCARNATIONS_NAMED_MAX, LINK_CHUNK_BYTES, LINK_CHUNKS_IN_FLIGHT_MIN, LINK_MESSAGE_BYTES_MAX,
    LINK_QUEUE_BYTES_MAX, NODES_MAX, REPLICA_COUNT_MAX, VALUE_BYTES_MAX,
};
use crate::protocol::{Answer, Hello, OperationId, Request, StoreOrigin};
use crate::types::{
    Age, Checksum, Clock, ClusterId, ClusterParameters, Content, KEY_BYTES_MAX, Key, Lookup, NODE_ID_BYTES_MAX, NodeId,
    ReadKind, Record, Site, Stamp, StoreId, Value, ZONE_BYTES_MAX,
};
use crate::wire::chunks::Reassembler;

const ME: Incarnation = Incarnation { epoch: 1, nonce: 1 };
const PEER: Incarnation = Incarnation { epoch: 1, nonce: 2 };

fn store(operation: u64, bytes: usize) -> Message {
    let (key, content) = (Key::new("k").unwrap(), Content::Value(Value::Binary(vec![7; bytes].into())));
    let stamp = Stamp { clock: Clock { epoch: 1, counter: operation }, writer: NodeId::new("1").unwrap() };
    let checksum = Checksum::of(&key, &content);
    let record = Record::plain(stamp, content, checksum);
    Message::Request {
        operation: OperationId(operation),
        round: 1,
        number: 0,
        request: Request::Store { key, record, age: Age::NONE, origin: StoreOrigin::Writer },
    }
}

/// The next batch, if one waits.
fn next(stream: &mut OutboxStream) -> Option<api::PeerBatch> {
    stream.next().now_or_never().map(|batch| batch.expect("it is open"))
}

/// The messages that a batch completes for its receiver, which acknowledges the chunk.
fn completed(outbox: &Outbox, reassembler: &mut Reassembler, batch: api::PeerBatch) -> Vec<Message> {
    outbox.chunks_taken(u32::from(batch.chunk.is_some()));
    let batch = Batch::decode(batch, |error| panic!("{error}")).expect("it names its sender");
    let large = batch.chunk.and_then(|chunk| reassembler.take(chunk).expect("it is the next one"));
    batch.messages.into_iter().chain(large).collect()
}

#[test]
fn small_messages_overtake_a_large_value() {
    let outbox = Outbox::new(ME, Arc::default());
    let (mut stream, mut reassembler) = (outbox.open(), Reassembler::default());
    let large = store(0, 20 * LINK_CHUNK_BYTES);
    assert_eq!(outbox.send(Some(PEER), large.clone()), Sent::Queued);
    for operation in 1..20 {
        let small = store(operation, 10);
        outbox.send(Some(PEER), small.clone());
        let batch = next(&mut stream).expect("one waits");
        assert_eq!(completed(&outbox, &mut reassembler, batch), [small], "it waits for one chunk at most");
    }
    assert_eq!(completed(&outbox, &mut reassembler, next(&mut stream).expect("the last chunk")), [large]);
    assert_eq!(next(&mut stream), None);
    assert_eq!(outbox.queued_bytes(), 0);
}

#[test]
fn chunks_in_flight_are_few() {
    let outbox = Outbox::new(ME, Arc::default());
    let mut stream = outbox.open();
    outbox.send(Some(PEER), store(1, (LINK_CHUNKS_IN_FLIGHT_MIN + 1) * LINK_CHUNK_BYTES));
    let chunks = |stream: &mut OutboxStream| std::iter::from_fn(|| next(stream)).count();
    assert_eq!(chunks(&mut stream), LINK_CHUNKS_IN_FLIGHT_MIN);
    outbox.send(Some(PEER), store(2, 10));
    let batch = next(&mut stream).expect("a small message does not wait");
    assert_eq!((batch.messages.len(), batch.chunk), (1, None));
    outbox.chunks_taken(1);
    assert_eq!(chunks(&mut stream), 1);
}

#[tokio::test]
async fn waiting_stream_is_woken_by_messages_and_acknowledgements() {
    let wakers: [fn(&Outbox); 3] = [
        |outbox| assert_eq!(outbox.send(Some(PEER), store(2, 10)), Sent::Queued),
        |outbox| outbox.chunks_taken(1),
        Outbox::acknowledge_chunk,
    ];
    for wake in wakers {
        let outbox = Outbox::new(ME, Arc::default());
        let mut stream = outbox.open();
        outbox.send(Some(PEER), store(1, (LINK_CHUNKS_IN_FLIGHT_MIN + 1) * LINK_CHUNK_BYTES));
        while next(&mut stream).is_some() {}
        let waiting = tokio::spawn(async move { stream.next().await });
        tokio::task::yield_now().await;
        wake(&outbox);
        assert!(waiting.await.expect("no panic").is_some());
    }
}

#[test]
fn backlog_of_large_values_leaves_room_for_small_messages() {
    let outbox = Outbox::new(ME, Arc::default());
    let _stream = outbox.open();
    let largest = store(0, VALUE_BYTES_MAX);
    let fit = (0..9).take_while(|_| outbox.send(Some(PEER), largest.clone()) == Sent::Queued).count();
    assert_eq!(fit, 2);
    assert_eq!(outbox.send(Some(PEER), store(1, LINK_CHUNK_BYTES)), Sent::Queued);
    assert!(outbox.queued_bytes() <= LINK_QUEUE_BYTES_MAX);
}

#[test]
fn no_batch_is_larger_than_a_link_takes() {
    let key = || Key::new("k".repeat(KEY_BYTES_MAX)).unwrap();
    let clock = Clock { epoch: u64::MAX, counter: u64::MAX };
    let digest = |_| {
        let stamp = Stamp { clock, writer: longest_id(0) };
        let digest = Record::plain(stamp, Content::Tombstone, Checksum(u64::MAX)).digest();
        let answer = Answer::Lookup {
            key: Key::new("k").unwrap(),
            held: Lookup::Digest(digest),
            age: Age(u64::MAX),
            seal: None,
        };
        Message::Answer { operation: OperationId(u64::MAX), round: u32::MAX, number: u64::MAX, answer }
    };
    let get = |_| {
        let request = Request::Get { key: key(), read_kind: ReadKind::Digest };
        Message::Request { operation: OperationId(u64::MAX), round: u32::MAX, number: u64::MAX, request }
    };
    let worst: [Vec<Message>; 4] = [
        (0..20_000).map(digest).collect(),
        (0..1_000).map(get).collect(),
        (0..3).map(|_| Message::Welcome(largest_hello())).chain((0..100).map(digest)).collect(),
        (0..100).map(|operation| store(operation, LINK_CHUNK_BYTES)).collect(),
    ];
    for messages in worst {
        let outbox = Outbox::new(ME, Arc::default());
        let mut stream = outbox.open();
        outbox.send(Some(PEER), store(1, 4 * LINK_CHUNK_BYTES));
        for message in messages {
            assert_eq!(outbox.send(Some(PEER), message), Sent::Queued);
        }
        while let Some(batch) = next(&mut stream) {
            let bytes = batch.encoded_len();
            assert!(bytes <= LINK_MESSAGE_BYTES_MAX, "{bytes} bytes in {} messages", batch.messages.len());
        }
    }
}

#[test]
fn taken_chunks_are_acknowledged_with_or_without_messages() {
    let outbox = Outbox::new(ME, Arc::default());
    let mut stream = outbox.open();
    outbox.acknowledge_chunk();
    outbox.acknowledge_chunk();
    let batch = next(&mut stream).expect("it is told at once");
    assert_eq!((batch.to, batch.chunks_taken), (None, 2));
    outbox.acknowledge_chunk();
    outbox.send(Some(PEER), store(1, 10));
    let batch = next(&mut stream).expect("it is told with what else is said");
    assert_eq!((batch.to.map(Incarnation::from), batch.messages.len(), batch.chunks_taken), (Some(PEER), 1, 1));
    assert_eq!(next(&mut stream), None);
}

#[test]
fn each_incarnation_of_a_peer_gets_its_own_batches() {
    let outbox = Outbox::new(ME, Arc::default());
    let (mut stream, mut reassembler) = (outbox.open(), Reassembler::default());
    let earlier = Incarnation { epoch: 1, nonce: 1 };
    let (large, small) = (store(1, 2 * LINK_CHUNK_BYTES), store(2, 10));
    outbox.send(Some(earlier), large.clone());
    outbox.send(Some(PEER), small.clone());
    let batch = next(&mut stream).expect("one waits");
    assert_eq!(batch.to.map(Incarnation::from), Some(PEER));
    assert_eq!(completed(&outbox, &mut reassembler, batch), [small]);
    for expected in [vec![], vec![large]] {
        let batch = next(&mut stream).expect("one waits");
        assert_eq!(batch.to.map(Incarnation::from), Some(earlier));
        assert_eq!(completed(&outbox, &mut reassembler, batch), expected);
    }
}

#[test]
fn unsent_chunks_are_dropped_with_their_stream() {
    let outbox = Outbox::new(ME, Arc::default());
    let mut stream = outbox.open();
    outbox.send(Some(PEER), store(1, 3 * LINK_CHUNK_BYTES));
    assert!(next(&mut stream).is_some());
    let mut anew = outbox.open();
    assert!(stream.next().now_or_never().expect("it has ended").is_none());
    assert_eq!((next(&mut anew), outbox.queued_bytes()), (None, 0));
}

#[test]
fn link_that_this_node_opens_begins_with_a_hello() {
    let outbox = Outbox::new(ME, Arc::default());
    let mut stream = outbox.open_with_hello();
    assert_eq!(outbox.send(Some(PEER), store(1, 10)), Sent::Closed, "the node has not noticed that a link broke");
    outbox.acknowledge_chunk();
    assert_eq!(next(&mut stream), None);
    let hello = Message::Hello(largest_hello());
    assert_eq!(outbox.send(None, hello.clone()), Sent::Queued);
    assert_eq!(outbox.send(Some(PEER), store(2, 10)), Sent::Queued);
    let batch = next(&mut stream).expect("the hello waits");
    assert_eq!(batch.chunks_taken, 1);
    assert_eq!(completed(&outbox, &mut Reassembler::default(), batch), [hello]);
}

/// A hello with the most of everything.
fn largest_hello() -> Hello {
    let node_ids: Vec<NodeId> = (0..NODES_MAX).map(longest_id).collect();
    let zones: Vec<String> = (0..NODES_MAX).map(|number| format!("{number:0>ZONE_BYTES_MAX$}")).collect();
    let sites = Site::listed(NODES_MAX, &[1_000_000; NODES_MAX], &zones).unwrap();
    let incarnation = Incarnation { epoch: u64::MAX, nonce: u64::MAX };
    Hello {
        protocol: u32::MAX,
        node_id: node_ids[0].clone(),
        to_node_id: node_ids[1].clone(),
        parameters: ClusterParameters {
            seed: u32::MAX,
            replica_count: REPLICA_COUNT_MAX,
            epoch_floor: u64::MAX,
            node_ids,
            sites,
        },
        store_id: StoreId(u128::MAX),
        incarnation,
        earlier_incarnations: vec![incarnation; INCARNATIONS_NAMED_MAX].into(),
        cluster: Some(ClusterId(u128::MAX)),
        number: u64::MAX,
        joins: Some("a".repeat(ADDRESS_BYTES_MAX).into()),
    }
}

fn longest_id(number: usize) -> NodeId {
    NodeId::new(&format!("{number:0>NODE_ID_BYTES_MAX$}")).unwrap()
}

proptest! {
    #[test]
    fn all_messages_arrive_and_those_of_a_kind_in_order(
        // A size in sixteenths of a chunk, and how many batches are taken before the next message is sent.
        sent in prop::collection::vec((0..48_usize, 0..3), 0..30),
    ) {
        let outbox = Outbox::new(ME, Arc::default());
        let (mut stream, mut reassembler) = (outbox.open(), Reassembler::default());
        let (mut small, mut large, mut arrived) = (Vec::new(), Vec::new(), Vec::new());
        for (operation, (sixteenths, batches)) in (0..).zip(sent) {
            let bytes = sixteenths * LINK_CHUNK_BYTES / 16;
            let message = store(operation, bytes);
            outbox.send(Some(PEER), message.clone());
            if bytes > LINK_CHUNK_BYTES { large.push(message) } else { small.push(message) }
            for _ in 0..batches {
                arrived.extend(next(&mut stream).map(|batch| completed(&outbox, &mut reassembler, batch)));
            }
        }
        while let Some(batch) = next(&mut stream) {
            arrived.push(completed(&outbox, &mut reassembler, batch));
        }
        let (arrived_large, arrived_small): (Vec<_>, Vec<_>) =
            arrived.into_iter().flatten().partition(|message| message.value_bytes() > LINK_CHUNK_BYTES);
        prop_assert_eq!((arrived_small, arrived_large), (small, large));
        prop_assert_eq!(outbox.queued_bytes(), 0);
    }
}
