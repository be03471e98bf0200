//! A node goes on while an output that nobody needs stands still, while its answers weigh more than its memory may, and while
//! clients of HTTP and lines are slow, silent or flooding.

#![cfg(feature = "server")]

mod testkit;

use std::time::{Duration, Instant};

use bytes::Bytes;

use quorate::api::cluster_client::ClusterClient;
use quorate::api::{Entry, GetRequest, SetRequest, entry};
use testkit::cluster::{Cluster, Plan};
use testkit::http::{HttpClient, HttpVersion};
use testkit::process::memory_bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
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

/// Reads of values of which two fit at the same time into the least budget.
const READS_OF_THREE: usize = 24;
const VALUE_OF_THREE_BYTES: usize = 24 << 20;

/// Reads of large values wait in line for their bytes, or are refused at once. Answers of peers for which there is no room are
/// not asked for again and again meanwhile: that would leave no time for any of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_that_many_read_through_one_of_three_nodes_are_answered_in_turn() {
    let mut cluster = Cluster::prepare(&Plan::default());
    for node in &mut cluster.nodes {
        node.environment.push(("QUORATE_NODE_REQUEST_BYTES_IN_FLIGHT_MAX".to_owned(), "67108864".into()));
    }
    cluster.start_all();
    cluster.wait_all_linked().await;
    let mut client = cluster.nodes[0].cluster_client().max_encoding_message_size(usize::MAX);
    for number in 0..VALUES {
        let value = vec![u8::try_from(number).expect("there are few"); VALUE_OF_THREE_BYTES];
        client.set(set_request(number, value)).await.expect("the value is written");
    }
    let node = &mut cluster.nodes[0];
    let read_one = |number| tokio::spawn(read_whole(node.cluster_client(), number % VALUES));
    let reads: Vec<_> = (0..READS_OF_THREE).map(read_one).collect();
    let mut answered = 0;
    for ended in reads {
        answered += usize::from(ended.await.expect("no panic"));
    }
    println!("{answered} of {READS_OF_THREE} reads were answered");
    assert_eq!(answered, READS_OF_THREE, "the log of node 1: {}", cluster.nodes[0].log_text());
}

/// How many clients there are of each wrong kind.
const WRONG_CLIENTS: usize = 60;
/// The reads and writes of others beside them.
const OTHERS: usize = 300;
/// The most by which the wrong clients may make a node grow: buffers of their connections, and values of a MiB on their way.
const GROWTH_BYTES_MAX: u64 = 400 << 20;
/// How long others may wait at most, on a machine that compiles meanwhile.
const OTHERS_TIME_MAX: Duration = Duration::from_secs(2);
/// A connection must be closed this long after its time is over.
const SLACK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_silent_and_flooding_clients_are_bounded_and_others_do_not_notice() {
    let mut cluster = Cluster::start_as(&Plan { doors: true, ..one_node() }).await;
    let node = &mut cluster.nodes[0];
    let (http, lines) = (node.http_address(), node.line_address());
    let client = HttpClient::new(&http, HttpVersion::One);
    let written = client.send("PUT", "/large", &[], Bytes::from(vec![b'v'; 1 << 20])).await.expect("it is written");
    assert_eq!(written.status, 201);
    let alone = others(&client).await;
    let memory = |process| memory_bytes(process, "VmRSS").expect("this system tells the memory of a process");
    let before = memory(node.process_id());

    let mut silent = Vec::new();
    let mut unread = Vec::new();
    let mut slow_bodies = Vec::new();
    let began = Instant::now();
    for _ in 0..WRONG_CLIENTS {
        silent.push(sending(&http, b"").await);
        silent.push(sending(&http, b"GET /half-a-l").await);
        // Its body has begun, and pauses.
        slow_bodies.push(
            sending(&http, b"PUT /slow HTTP/1.1\r\nhost: localhost\r\ncontent-length: 62914560\r\n\r\nslow").await,
        );
        // Nobody reads these answers.
        unread.push(sending(&http, "GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(50).as_bytes()).await);
        unread.push(sending(&lines, "GET default large\n".repeat(50).as_bytes()).await);
        // Neither is more of these sent.
        unread.push(sending(&lines, b"PUT default unfinished ").await);
        unread.push(sending(&http, b"GET /slow-head HTTP/1.1\r\nhost: localhost\r\nx: ").await);
    }
    // These send without an end: lines that are too long, and heads.
    let mut endless = Vec::new();
    for address in [&http, &lines] {
        for _ in 0..WRONG_CLIENTS / 4 {
            let mut stream = TcpStream::connect(address).await.expect("the node listens");
            endless.push(tokio::spawn(async move {
                let mut sent = 0_usize;
                while stream.write_all(&[b'x'; 4_096]).await.is_ok() {
                    sent += 4_096;
                }
                sent
            }));
        }
    }
    let beside = others(&client).await;
    let grown = memory(node.process_id()).saturating_sub(before);
    println!(
        "{OTHERS} writes and reads: the slowest {alone:.1?} alone, {beside:.1?} beside {} clients; {} MiB more memory",
        silent.len() + unread.len() + slow_bodies.len() + endless.len(),
        grown >> 20
    );
    assert!(beside < OTHERS_TIME_MAX, "others waited for {beside:?}");
    assert!(grown < GROWTH_BYTES_MAX, "the node has grown by {} MiB", grown >> 20);

    for sent in endless {
        let sent = tokio::time::timeout(SLACK, sent).await.expect("an endless line is cut off").expect("no panic");
        // Bytes in the sockets' buffers were sent too.
        assert!(sent < 32 << 20, "{sent} bytes were taken");
    }
    for mut stream in silent {
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5) + SLACK, stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "a silent client is closed; {:?}", String::from_utf8_lossy(&answer));
    }
    for mut stream in slow_bodies {
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(10) + SLACK, stream.read_exact(&mut answer)).await;
        read.expect("a slow body is refused").expect("the answer is read");
        assert_eq!(&answer, b"HTTP/1.1 408", "{:?} after its beginning", began.elapsed());
    }
    // A client that does not read is left after half a minute.
    drop(unread);
    assert!(others(&client).await < OTHERS_TIME_MAX);
    node.terminate().await;
}

/// A connection on which this was sent, or as much of it as the node takes while nobody reads.
async fn sending(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    let sent = tokio::time::timeout(Duration::from_millis(500), stream.write_all(bytes)).await;
    assert!(!matches!(sent, Ok(Err(_))), "{sent:?}");
    stream
}

/// The longest of some writes and reads by a client that does nothing wrong.
async fn others(client: &HttpClient) -> Duration {
    let mut longest = Duration::ZERO;
    for number in 0..OTHERS / 2 {
        let path = format!("/other-{}", number % 10);
        let value = Bytes::from(number.to_string());
        for (method, body) in [("POST", value.clone()), ("GET", Bytes::new())] {
            let began = Instant::now();
            let answer = client.send(method, &path, &[], body).await.expect("others are answered");
            assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
            assert!(method == "POST" || answer.body == value);
            longest = longest.max(began.elapsed());
        }
    }
    longest
}

/// Whether the node answered with a value. The client refuses it at its first bytes, because it has no memory for all of
/// them.
async fn read(client: ClusterClient<tonic::transport::Channel>, number: usize) -> bool {
    let mut request = Request::new(GetRequest { key: format!("key-{number}"), ..Default::default() });
    request.set_timeout(Duration::from_secs(20));
    let status = client.max_decoding_message_size(1 << 10).get(request).await.expect_err("the value is too large");
    status.code() == Code::OutOfRange
}

/// Reads a value, and takes all of it. A node that has no room for it says so at once, and is asked again.
async fn read_whole(client: ClusterClient<tonic::transport::Channel>, number: usize) -> bool {
    let mut client = client.max_decoding_message_size(usize::MAX);
    let is_refused = |status: &tonic::Status| matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
    let began = Instant::now();
    loop {
        let mut request = Request::new(GetRequest { key: format!("key-{number}"), ..Default::default() });
        request.set_timeout(Duration::from_secs(30));
        match client.get(request).await {
            Ok(_) => return true,
            Err(status) if is_refused(&status) && began.elapsed() < Duration::from_secs(30) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(_) => return false,
        }
    }
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
