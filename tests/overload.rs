//! A node goes on while an output that nobody needs stands still, and while its answers weigh more than its memory may.

#![cfg(feature = "server")]

mod testkit;

use std::time::Duration;

use quorate::api::cluster_client::ClusterClient;
use quorate::api::{Entry, GetRequest, SetRequest, entry};
use testkit::cluster::{Cluster, Plan};
use testkit::process::memory_bytes;
use tonic::{Code, Request};

/// A pipe takes 64 KiB; a node that logs everything writes more than a kilobyte for each request.
const REQUESTS: usize = 300;
const VALUES: usize = 6;
const VALUE_BYTES: usize = 60 << 20;
const READS: usize = 256;
/// See "Bounds" in docs/architecture.md: 512 MiB for values that reads load, with RocksDB's copies of them; 512 MiB for
/// encoded answers; and caches, buffers, and memory that the allocator has not given back yet.
const MEMORY_BYTES_MAX: u64 = 2 << 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_works_and_ends_while_nobody_reads_its_log() {
    let mut cluster = Cluster::prepare(&one_node());
    let node = &mut cluster.nodes[0];
    // The reader of the pipe sleeps.
    node.wrapper = ["bash", "-c", "exec \"$@\" 2> >(exec sleep 60)", "bash"].map(Into::into).into();
    node.environment.push(("RUST_LOG".to_owned(), "trace".into()));
    cluster.start_all();
    let node = &mut cluster.nodes[0];
    node.wait_online().await;
    let mut client = node.cluster_client();
    for number in 0..REQUESTS {
        let mut request = Request::new(GetRequest { key: format!("key-{number}"), ..Default::default() });
        request.set_timeout(Duration::from_secs(5));
        let answer = tokio::time::timeout(Duration::from_secs(10), client.get(request)).await;
        answer.unwrap_or_else(|_| panic!("request {number} has no answer")).expect("the node answers");
    }
    node.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_bounded_while_many_read_large_values() {
    let mut cluster = Cluster::prepare(&one_node());
    cluster.start_all();
    let node = &mut cluster.nodes[0];
    node.wait_online().await;
    let mut client = node.cluster_client().max_encoding_message_size(usize::MAX);
    for number in 0..VALUES {
        let value = vec![u8::try_from(number).expect("there are few"); VALUE_BYTES];
        client.set(set_request(number, value)).await.expect("the value is written");
    }
    let read_one = |number| tokio::spawn(read(node.cluster_client(), number % VALUES));
    let reads: Vec<_> = (0..READS).map(read_one).collect();
    let mut answered = 0;
    for ended in reads {
        answered += usize::from(ended.await.expect("no panic"));
    }
    let peak = memory_bytes(node.process_id(), "VmHWM").expect("this system tells the memory of a process");
    println!("{answered} of {READS} reads were answered; {} MiB were in use at most", peak >> 20);
    assert!(answered > 0, "some reads are answered");
    assert!(peak < MEMORY_BYTES_MAX, "{} MiB were in use", peak >> 20);
    // The budget is given back.
    assert!(read(node.cluster_client(), 0).await);
    node.terminate().await;
}

/// Whether the node answered with a value. The client refuses it at its first bytes, because it has no memory for all of
/// them.
async fn read(client: ClusterClient<tonic::transport::Channel>, number: usize) -> bool {
    let mut request = Request::new(GetRequest { key: format!("key-{number}"), ..Default::default() });
    request.set_timeout(Duration::from_secs(20));
    let status = client.max_decoding_message_size(1 << 10).get(request).await.expect_err("the value is too large");
    status.code() == Code::OutOfRange
}

fn set_request(number: usize, value: Vec<u8>) -> Request<SetRequest> {
    let entry = Entry { key: format!("key-{number}"), content: Some(entry::Content::Binary(value.into())) };
    let mut request = Request::new(SetRequest { entry: Some(entry), ..Default::default() });
    request.set_timeout(Duration::from_secs(50));
    request
}

fn one_node() -> Plan {
    Plan { ids: vec!["1"], replica_count: 1, ..Plan::default() }
}
