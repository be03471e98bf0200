//! The time to encode and decode digests, records and messages. Decoding verifies the checksum, as it does in a node.

#[path = "../tests/testkit/mod.rs"]
mod testkit;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use prost::Message as _;
use quorate::api;
use quorate::protocol::{Message, OperationId, Request, StoreOrigin};
use quorate::storage::codec::{decode_digest, decode_record, encode_record, encode_separated};
use quorate::types::Age;
use testkit::data::{VALUE_BYTES, key, record};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    digests(&mut criterion);
    records(&mut criterion);
    messages(&mut criterion);
    criterion.final_summary();
}

/// The head of a large record, which is stored apart from its value, and the digest that a comparison reads.
fn digests(criterion: &mut Criterion) {
    let record = record(1, VALUE_BYTES[0], 1);
    let mut encoded = Vec::new();
    encode_separated(&record, None, &mut encoded);
    let mut group = criterion.benchmark_group("codec/digest");
    group.bench_function("encode", |bencher| {
        let mut out = Vec::new();
        bencher.iter(|| {
            out.clear();
            encode_separated(black_box(&record), None, &mut out);
        });
    });
    group.bench_function("decode", |bencher| bencher.iter(|| decode_digest(black_box(&encoded))));
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/record");
    let key = key(1);
    for bytes in VALUE_BYTES {
        let record = record(1, bytes, 1);
        let mut encoded = Vec::new();
        encode_record(&record, None, &mut encoded);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("encode", bytes), |bencher| {
            let mut out = Vec::new();
            bencher.iter(|| {
                out.clear();
                encode_record(black_box(&record), None, &mut out);
            });
        });
        group.bench_function(BenchmarkId::new("decode", bytes), |bencher| {
            bencher.iter(|| decode_record(&key, black_box(&encoded)));
        });
    }
    group.finish();
}

/// Messages that carry a record: the largest ones between nodes.
fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/peer message");
    for bytes in VALUE_BYTES {
        let request =
            Request::Store { key: key(1), record: record(1, bytes, 1), age: Age::NONE, origin: StoreOrigin::Writer };
        let message = Message::Request { operation: OperationId(1), round: 1, number: 0, request };
        let encoded = api::PeerMessage::from(message.clone()).encode_to_vec();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("encode", bytes), |bencher| {
            let mut out = Vec::new();
            bencher.iter(|| {
                out.clear();
                // A clone shares the bytes of the value, as the messages to several replicas do.
                let message = api::PeerMessage::from(black_box(&message).clone());
                message.encode(&mut out).expect("a vector grows");
            });
        });
        let encoded = bytes::Bytes::from(encoded);
        group.bench_function(BenchmarkId::new("decode", bytes), |bencher| {
            bencher.iter(|| {
                let message = api::PeerMessage::decode(black_box(&encoded).clone()).expect("it was just encoded");
                Message::try_from(message)
            });
        });
    }
    group.finish();
}
