//! Clients that ask a replica of each key, against real nodes: what they save, and that they follow the members.
//!
//! What is saved is counted in messages between nodes, which depend on no clock.

#![cfg(all(feature = "server", unix))]

mod testkit;

use std::process::Output;
use std::time::Duration;

use quorate::Client;
use quorate::client::Builder;
use serde_json::Value as Json;
use testkit::cluster::{Cluster, Plan, TestNode, poll};
use testkit::growing::Growing;
use testkit::process::command;

/// The longest time of one test. Beyond it something hangs.
const TEST_TIME_MAX: Duration = Duration::from_mins(2);
/// The longest wait for a client to look at its cluster: it does so every 10 s.
const LOOK_TIME_MAX: Duration = Duration::from_secs(30);
/// The operations whose messages are counted.
const OPERATIONS: u32 = 600;
/// With three replicas on five nodes an operation at any node costs 7.6 messages for a write and 2.8 for a read. At a replica it
/// costs 6 and 2. Nodes also say to each other that they are well, which adds to both.
const PART_MAX: f64 = 0.9;

async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(TEST_TIME_MAX, test).await.expect("the test ends in time");
}

/// Nodes that keep nothing on disk cannot be started again.
async fn five_nodes(memory: bool) -> Cluster {
    Cluster::start_as(&Plan { ids: vec!["1", "2", "3", "4", "5"], memory, ..Plan::default() }).await
}

fn builder(nodes: &[TestNode]) -> Builder {
    nodes.iter().map(TestNode::address).fold(Client::builder().deadline(Duration::from_secs(20)), Builder::address)
}

/// The messages that the nodes have sent each other.
async fn messages(nodes: &[TestNode]) -> f64 {
    let mut all = 0.0;
    for node in nodes {
        all += node.metric("quorate_link_messages_total").await.expect("it shows metrics");
    }
    all
}

/// The messages of `operations`.
async fn messages_of(nodes: &[TestNode], operations: impl Future<Output = ()>) -> f64 {
    let before = messages(nodes).await;
    operations.await;
    messages(nodes).await - before
}

/// The requests of clients for keys that each node has answered.
async fn requests(nodes: &[TestNode]) -> Vec<f64> {
    let mut all = Vec::new();
    for node in nodes {
        let page = node.metrics_page(Duration::from_secs(10)).await.expect("it shows metrics");
        let counters = page.lines().filter_map(|line| line.strip_prefix("quorate_requests_total{method=\"Cluster/"));
        let of_keys = counters.filter(|line| line.starts_with("Get\"") || line.starts_with("Set\""));
        all.push(of_keys.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum());
    }
    all
}

/// The ids of the replicas of a key, as the command line names them.
fn located(nodes: &[TestNode], key: &str, table: &str) -> Vec<String> {
    let addresses: Vec<String> = nodes.iter().map(TestNode::address).collect();
    let output =
        command().args(["locate", key, "--table", table, "--json", "--address", &addresses.join(",")]).output();
    let located: Json = serde_json::from_slice(&output.expect("the program runs").stdout).expect("it prints JSON");
    let mut ids: Vec<String> =
        located[0]["replicas"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// Waits until the reads of a key go to its replicas alone, and to each of them.
async fn wait_routed(client: &Client, nodes: &[TestNode], key: &str, table: &str) {
    let replicas = located(nodes, key, table);
    poll("reads to go to the replicas", LOOK_TIME_MAX, async || {
        let before = requests(nodes).await;
        for _ in 0..30 {
            client.get(key).await.map_err(|error| error.to_string())?;
        }
        let after = requests(nodes).await;
        let asked: Vec<&str> = (0..nodes.len())
            .filter(|index| after[*index] > before[*index])
            .map(|index| nodes[index].id.as_str())
            .collect();
        if asked == replicas {
            Ok(())
        } else {
            Err(format!("nodes {asked:?} are asked, the replicas are {replicas:?}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_at_a_replica_take_fewer_messages() {
    in_time(async {
        let cluster = five_nodes(true).await;
        let nodes = &cluster.nodes;
        let (plain, routed) = (builder(nodes).build().unwrap(), builder(nodes).routing(true).build().unwrap());
        plain.tables().create("carts").await.unwrap();
        for table in ["default", "carts"] {
            let (plain, routed) = (plain.table(table), routed.table(table));
            wait_routed(&routed, nodes, "k", table).await;
            let write = async |client: &Client| {
                for number in 0..OPERATIONS {
                    client.set(format!("key-{}", number % 100), "value").await.expect("all nodes are well");
                }
            };
            let read = async |client: &Client| {
                for number in 0..OPERATIONS {
                    client.get(format!("key-{}", number % 100)).await.expect("all nodes are well");
                }
            };
            let of_plain = messages_of(nodes, write(&plain)).await;
            let of_routed = messages_of(nodes, write(&routed)).await;
            println!("{table}: {OPERATIONS} writes: {of_plain} messages, {of_routed} with routing");
            assert!(of_routed < PART_MAX * of_plain, "{of_routed} of {of_plain}");
            let of_plain = messages_of(nodes, read(&plain)).await;
            let of_routed = messages_of(nodes, read(&routed)).await;
            println!("{table}: {OPERATIONS} reads: {of_plain} messages, {of_routed} with routing");
            assert!(of_routed < PART_MAX * of_plain, "{of_routed} of {of_plain}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_go_on_while_replicas_are_killed_in_turn() {
    in_time(async {
        let mut cluster = five_nodes(false).await;
        let client = builder(&cluster.nodes).routing(true).build().unwrap();
        wait_routed(&client, &cluster.nodes, "k", "default").await;
        for id in located(&cluster.nodes, "k", "default") {
            let index = cluster.nodes.iter().position(|node| node.id == id).unwrap();
            cluster.nodes[index].kill();
            for number in 0..50 {
                client.set("k", number.to_string()).await.expect("nothing was under way when the node was killed");
                let found = client.get("k").await.expect("two replicas are there").expect("it was written");
                assert_eq!(found.value.bytes(), number.to_string().as_bytes());
            }
            cluster.nodes[index].start();
            cluster.wait_all_linked().await;
        }
        wait_routed(&client, &cluster.nodes, "k", "default").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_of_members_is_followed() {
    in_time(async {
        let mut growing = Growing::start().await;
        let client = builder(&growing.cluster.nodes).routing(true).build().unwrap();
        client.set("k", "v").await.unwrap();
        let ids = ["1", "2", "3", "4", "5", "6"];
        let six = growing.file("six.yml", 3, &ids);
        for id in &ids[3..] {
            growing.join(id, &six).await;
        }
        let applied = growing.run(&["members", "apply", six.to_str().unwrap(), "--yes"]).await;
        assert_eq!(applied.exit, Some(0), "{applied:?}");
        // A key that has moved to new nodes, which the client was not given.
        let nodes = &growing.cluster.nodes;
        let moved = |key: &String| located(nodes, key, "default").iter().filter(|id| id.as_str() > "3").count() > 1;
        let key = (0..100).map(|number| format!("k{number}")).find(moved).expect("some key has moved");
        wait_routed(&client, nodes, &key, "default").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bench_sends_to_replicas_with_route() {
    in_time(async {
        let cluster = five_nodes(true).await;
        let nodes = &cluster.nodes;
        let addresses = cluster.addresses().join(",");
        cluster.client().tables().create("load").await.unwrap();
        let bench = async |more: &[&str]| -> (f64, Json) {
            let mut bench = command();
            bench.args(["bench", "--address", &addresses, "--json", "--keys", "100", "--value-bytes", "100"]);
            bench.args(["--rate", "300", "--warm-up", "0s", "--duration", "2s", "--table", "load"]).args(more);
            let before = messages(nodes).await;
            let ran = tokio::task::spawn_blocking(move || bench.output().expect("the program runs"));
            let Output { status, stdout, stderr } = ran.await.expect("no panic");
            let of_run = messages(nodes).await - before;
            assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
            let report: Json = serde_json::from_slice(&stdout).expect("it prints JSON");
            assert_eq!(report["failed"]["count"], 0, "{report:#}");
            (of_run / report["operations"].as_f64().unwrap(), report)
        };
        for mix in ["set=1", "get=1", "cas=1,add=1"] {
            let (plain, report) = bench(&["--mix", mix]).await;
            assert_eq!(report["settings"]["route"], false, "{report:#}");
            let (routed, report) = bench(&["--mix", mix, "--route"]).await;
            assert_eq!(report["settings"]["route"], true, "{report:#}");
            println!("{mix}: {plain:.2} messages for each operation, {routed:.2} with --route");
            assert!(routed < PART_MAX * plain, "{mix}: {routed} of {plain}");
        }
    })
    .await;
}
