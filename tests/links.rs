//! Links between nodes where something is wrong: a silent name server, strangers, and peers of another version.

#![cfg(all(feature = "server", target_os = "linux"))]

mod testkit;

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use futures_util::StreamExt as _;
use quorate::api;
use quorate::api::peer_client::PeerClient;
use quorate::protocol::message::PROTOCOL_VERSION;
use testkit::cluster::{Cluster, Plan, TestNode, poll, write};
use testkit::names::{SILENT, name_server};
use testkit::process;

/// The peers of the node.
const PEERS: usize = 19;
/// Several attempts to reach each peer.
const ATTEMPTS_TIME: Duration = Duration::from_secs(8);
/// The threads that a node may start meanwhile. Each attempt started one for each peer once.
const THREADS_STARTED_MAX: usize = 4;
const METRICS_TIME_MAX: Duration = Duration::from_millis(500);
/// The longest wait for an answer on a link, before another link is tried.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_a_silent_name_server_keeps_few_threads_answers_and_ends_in_time() {
    let mut cluster = Cluster::prepare(&alone());
    let Some(variable) = name_server(cluster.dir()) else { return };
    let node = &mut cluster.nodes[0];
    write(&node.files.cluster_file, &cluster_file(node));
    node.environment.push(variable);
    node.start();
    poll("the node to look names up", Duration::from_secs(10), async || {
        let names = thread_names(node);
        if names.iter().any(|name| name == "look-up") { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let before = thread_names(node).len();
    tokio::time::sleep(ATTEMPTS_TIME).await;
    let after = thread_names(node);
    assert!(after.len() <= before + THREADS_STARTED_MAX, "{before} threads became {}: {after:?}", after.len());

    let page = node.metrics_page(METRICS_TIME_MAX).await.expect("look-ups hold up no metrics");
    assert!(page.contains("quorate_"), "{page}");

    let took = node.terminate().await;
    println!("{} threads after {ATTEMPTS_TIME:?}; ended in {took:?}", after.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable_peer_is_warned_of_once_with_the_name_that_is_not_found() {
    let mut cluster = Cluster::prepare(&alone());
    let Some(variable) = name_server(cluster.dir()) else { return };
    let node = &mut cluster.nodes[0];
    write(&node.files.cluster_file, &cluster_file(node));
    node.environment.push(variable);
    node.start();
    node.wait_log(&["cannot reach a peer", &format!("cannot look up n2{SILENT}")]).await;
    // Several attempts.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let log = process::read(&node.log);
    let of_peer_2 =
        log.lines().filter(|line| line.contains("cannot reach a peer") && line.contains(&format!("n2{SILENT}")));
    assert_eq!(of_peer_2.count(), 1, "{log}");
    node.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_of_an_older_version_is_refused_with_a_clear_line() {
    let mut cluster = Cluster::prepare(&Plan { memory: true, ..Plan::default() });
    cluster.nodes[0].start();
    cluster.nodes[0].wait_log(&["listening"]).await;
    let refused = refusal(&cluster.nodes[0], hello("2", 2)).await;
    assert_eq!(refused.reason(), api::PeerHelloRefusal::HelloRefusalProtocol);
    assert!(refused.detail.contains("upgrade the older one"), "{refused:?}");
    cluster.nodes[0].wait_log(&["this node refuses the peer", "upgrade the older one"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_of_strangers_are_refused_with_few_lines() {
    const LINKS: usize = 50;
    let mut cluster = Cluster::prepare(&Plan { memory: true, ..Plan::default() });
    cluster.nodes[0].start();
    let node = &cluster.nodes[0];
    node.wait_log(&["listening"]).await;

    let refused = refusal(node, hello("stranger", PROTOCOL_VERSION)).await;
    assert_eq!(refused.reason(), api::PeerHelloRefusal::HelloRefusalNotMember);
    let silent = api::PeerBatch { messages: vec![api::PeerMessage::default()], ..batch() };
    for _ in 0..LINKS {
        let closed = tokio::time::timeout(ANSWER_TIME_MAX, answer(node, silent.clone())).await;
        assert_eq!(closed, Ok(None), "a link without a hello is closed");
        let _ = tokio::time::timeout(Duration::from_millis(1), answer(node, hello("stranger", PROTOCOL_VERSION))).await;
    }
    node.wait_log(&["no member", "does not begin with a hello"]).await;
    let log = process::read(&node.log);
    for line in ["no member", "does not begin with a hello"] {
        // One in each interval of ten seconds.
        let lines = log.lines().filter(|text| text.contains(line)).count();
        assert!(lines <= 3, "{lines} lines about {LINKS} links: {log}");
    }
}

/// The refusal that the node sends to a link that begins with `first`. A node drops messages until its start is durable, so
/// that the hello is repeated, as a peer repeats it.
async fn refusal(node: &TestNode, first: api::PeerBatch) -> api::PeerHelloRefused {
    poll("the node to refuse a hello", REFUSAL_TIME_MAX, async || {
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, answer(node, first.clone())).await;
        let batch = answer.map_err(|_| "no answer to a hello".to_owned())?.expect("the link stays open");
        match batch.messages.into_iter().next().and_then(|message| message.body) {
            Some(api::peer_message::Body::HelloRefused(refused)) => Ok(refused),
            other => panic!("{other:?}"),
        }
    })
    .await
}

/// The first batch that the node sends on a link that begins with `first`.
async fn answer(node: &TestNode, first: api::PeerBatch) -> Option<api::PeerBatch> {
    let mut peer = PeerClient::new(node.channel());
    let batches = futures_util::stream::iter([first]).chain(futures_util::stream::pending());
    let link = peer.link(batches).await.expect("the node takes links");
    link.into_inner().message().await.expect("the node ends links well")
}

/// The hello of the node `id` to node 1, in a version of the protocol.
fn hello(id: &str, protocol: u32) -> api::PeerBatch {
    let hello = api::PeerHello {
        protocol,
        node_id: id.to_owned(),
        to_node_id: "1".to_owned(),
        store_id: vec![7; 16].into(),
        incarnation: batch().from,
        seed: 0,
        replica_count: 3,
        epoch_floor: 0,
        node_ids: ["1", "2", "3"].map(str::to_owned).to_vec(),
        ..api::PeerHello::default()
    };
    let body = Some(api::peer_message::Body::Hello(hello));
    api::PeerBatch { messages: vec![api::PeerMessage { body, ..api::PeerMessage::default() }], ..batch() }
}

fn batch() -> api::PeerBatch {
    api::PeerBatch { from: Some(api::PeerIncarnation { epoch: 1, nonce: 1 }), ..api::PeerBatch::default() }
}

/// One node, whose cluster file may name hosts beyond this machine.
fn alone() -> Plan {
    Plan { ids: vec!["1"], replica_count: 1, memory: true, node_lines: "  insecure: true\n", ..Plan::default() }
}

/// The cluster of `node` and its peers, which have names.
fn cluster_file(node: &TestNode) -> String {
    let mut text = format!(
        "cluster:\n  seed: 0\n  replica_count: 3\n  nodes:\n    \"1\": {{ remote_address: \"{}\" }}\n",
        node.address()
    );
    for id in 2..PEERS + 2 {
        writeln!(text, "    \"{id}\": {{ remote_address: \"n{id}{SILENT}:8000\" }}").expect("a string takes text");
    }
    text
}

/// The names of the threads of a node.
fn thread_names(node: &TestNode) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", node.process_id())).expect("the node runs");
    // A thread may end meanwhile.
    let name = |thread: fs::DirEntry| Some(fs::read_to_string(thread.path().join("comm")).ok()?.trim().to_owned());
    threads.filter_map(|thread| name(thread.expect("the node runs"))).collect()
}
