//! Node/Info lists the keys of a large replica in pages, in bounded memory, and Cluster/List gives pages of it in the order of
//! keys, wherever they begin.
//!
//! The library writes the keys into a data folder, and a real node is then started on it. There are 200,000 keys, or as many
//! as are written in QUORATE_PAGES_SECONDS seconds.

#![cfg(feature = "server")]

mod testkit;

use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message as _;
use quorate::api::{InfoRequest, ListRequest};
use quorate::protocol::placement::Placement;
use quorate::storage::Store as _;
use quorate::storage::folder::{self, FileSays};
use quorate::storage::rocks::RocksOptions;
use quorate::types::{
    Batch, Checksum, Clock, ClusterParameters, Content, Durability, Key, NodeId, Record, Slot, Stamp, Value,
};
use testkit::cluster::{Cluster, Plan, TestNode};
use testkit::process;

const KEYS_DEFAULT: u64 = 200_000;
const KEYS_PER_BATCH: u64 = 20_000;
/// gRPC's default limit. A client that sets no limit must be able to read each page.
const PAGE_BYTES_LIMIT: usize = 4 << 20;
/// The most memory by which the node may grow while it lists: some pages, and the blocks of the tables that it reads. It
/// must not depend on the number of keys.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_keys_are_listed_once_in_order_and_in_bounded_memory() {
    let seconds = std::env::var("QUORATE_PAGES_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    let limit = seconds.map(Duration::from_secs);
    let mut cluster = Cluster::prepare(&Plan { ids: vec!["1"], replica_count: 1, ..Plan::default() });
    let node_id = NodeId::new("1").expect("it is well formed");
    let parameters = ClusterParameters { seed: 0, replica_count: 1, epoch_floor: 0, node_ids: vec![node_id.clone()] };
    let placement = Placement::new(parameters.clone());

    let began = Instant::now();
    let folder = cluster.nodes[0].files.data_dir.clone();
    let (written, expected) = fill(&folder, &node_id, &placement, limit);
    println!("{written} keys written in {:.1?}", began.elapsed());

    let node = &mut cluster.nodes[0];
    node.start();
    node.wait_online().await;
    let before = memory(node, "VmRSS");
    let began = Instant::now();
    let listed = list(node, &placement).await;
    let seconds = began.elapsed().as_secs_f64();
    let (after, most) = (memory(node, "VmRSS"), memory(node, "VmHWM"));
    println!(
        "{} keys in {} pages, the largest of {} bytes, in {seconds:.2} s ({:.0} keys a second); memory before {:.1} MiB, \
         after {:.1} MiB, at most {:.1} MiB",
        listed.keys,
        listed.pages,
        listed.page_bytes_max,
        listed.keys as f64 / seconds,
        mib(before),
        mib(after),
        mib(most)
    );
    assert_eq!((listed.keys, listed.sum), (written, expected), "each key once");
    assert!(listed.page_bytes_max < PAGE_BYTES_LIMIT, "a page of {} bytes", listed.page_bytes_max);
    // Without /proc there is nothing to compare.
    assert!(most <= before + GROWTH_BYTES_MAX, "memory grew from {before} to {most} bytes");

    list_pages(node, written).await;
    let mut few = node.node_client().info(InfoRequest { prefix: String::new(), limit: 10 }).await.unwrap().into_inner();
    assert_eq!(few.message().await.unwrap().unwrap().keys.len(), 10);
    assert!(few.message().await.unwrap().is_none(), "a limit ends the stream");
    let one = key_of(7);
    let request = InfoRequest { prefix: one.as_str().to_owned(), limit: 0 };
    let mut found = node.node_client().info(request).await.unwrap().into_inner();
    assert_eq!(found.message().await.unwrap().unwrap().keys, [one.as_str()]);
}

/// Writes keys into a new data folder, as the node itself would. Returns their number and the sum of their hashes.
fn fill(folder: &Path, node_id: &NodeId, placement: &Placement, limit: Option<Duration>) -> (u64, u64) {
    // Durability does not matter here, and fsync would make the test one of the disk.
    let settings = RocksOptions { durability: Durability::Os, ..RocksOptions::default() };
    let addresses: Vec<String> = (1..=placement.members().len()).map(|id| format!("127.0.0.1:{id}")).collect();
    let cluster = FileSays { parameters: placement.parameters(), addresses: &addresses, joins: false };
    let opened = folder::open(folder, node_id, cluster, &settings);
    let (data_folder, store) = opened.expect("a new folder can be made");
    let content = Content::Value(Value::Text("v".into()));
    let (mut count, mut sum) = (0, 0_u64);
    let began = Instant::now();
    while limit.map_or(count < KEYS_DEFAULT, |limit| began.elapsed() < limit) {
        let mut batch = Batch { epoch: (count == 0).then_some(1), ..Batch::default() };
        for number in count..count + KEYS_PER_BATCH {
            let key = key_of(number);
            let clock = Clock { epoch: 1, counter: number + 1 };
            let stamp = Stamp { clock, writer: node_id.clone() };
            let record = Record::plain(stamp, content.clone(), Checksum::of(&key, &content));
            sum = sum.wrapping_add(xxhash_rust::xxh3::xxh3_64(key.as_bytes()));
            batch.new_keys.insert(key.clone());
            batch.records.insert(key.clone(), (placement.slot(&key), record));
        }
        store.persist(&batch).expect("the disk has room");
        count += KEYS_PER_BATCH;
    }
    store.flush().expect("the disk has room");
    drop(store);
    drop(data_folder);
    (count, sum)
}

fn key_of(number: u64) -> Key {
    Key::new(format!("a/key/of/usual/length/{number:012}")).expect("it is well formed")
}

struct Listed {
    keys: u64,
    sum: u64,
    pages: u64,
    page_bytes_max: usize,
}

/// Reads all pages. The keys must ascend, by slot and then by key.
async fn list(node: &TestNode, placement: &Placement) -> Listed {
    let mut listed = Listed { keys: 0, sum: 0, pages: 0, page_bytes_max: 0 };
    let mut last: Option<(Slot, String)> = None;
    let mut pages = node.node_client().info(InfoRequest::default()).await.expect("the node is online").into_inner();
    while let Some(page) = pages.message().await.expect("the stream does not break") {
        listed.pages += 1;
        listed.page_bytes_max = listed.page_bytes_max.max(page.encoded_len());
        if listed.pages == 2 {
            // Pages must not pile up in the node while a client reads slowly.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        for text in page.keys {
            let key = Key::new(text.clone()).expect("it is well formed");
            let position = (placement.slot(&key), text);
            assert!(last.as_ref().is_none_or(|last| *last < position), "{last:?}, then {position:?}");
            listed.keys += 1;
            listed.sum = listed.sum.wrapping_add(xxhash_rust::xxh3::xxh3_64(key.as_bytes()));
            last = Some(position);
        }
    }
    listed
}

/// Reads pages of a thousand keys from places far apart, and says how long each takes.
async fn list_pages(node: &TestNode, written: u64) {
    const PAGES: u64 = 50;
    for values in [false, true] {
        let mut times = Vec::new();
        for page in 0..PAGES {
            let first = page * 7_919 * 104_729 % (written - 1_000);
            let start_after = key_of(first).as_str().to_owned();
            let request = ListRequest { start_after, limit: 1_000, values, ..ListRequest::default() };
            let began = Instant::now();
            let mut stream = node.cluster_client().list(request).await.expect("the node is online").into_inner();
            let mut keys = Vec::new();
            while let Some(page) = stream.message().await.expect("the stream does not break") {
                assert!(page.encoded_len() < PAGE_BYTES_LIMIT);
                keys.extend(page.entries.into_iter().map(|entry| entry.key));
            }
            times.push(began.elapsed());
            let expected = (first + 1..=first + 1_000).map(key_of);
            assert!(expected.eq(keys.iter().map(|key| Key::new(key.clone()).expect("it is well formed"))));
        }
        let first = times[0];
        times.sort_unstable();
        println!(
            "a page of 1,000 keys of {written} {}: first {first:.1?}, median {:.1?}, at most {:.1?}",
            if values { "with values" } else { "without values" },
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
}

/// A line of the system's account of the node's memory, in bytes; 0 where there is none.
fn memory(node: &TestNode, line: &str) -> u64 {
    process::memory_bytes(node.process_id(), line).unwrap_or_default()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
