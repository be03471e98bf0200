//! A node that was away is level again by itself: real processes, without a read and without an operator.

#![cfg(feature = "server")]

mod testkit;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quorate::Client;
use quorate::api::{self, GetRequest};
use quorate::client::Write;
use testkit::cluster::{Cluster, TestNode, poll};

/// The longest time of the whole test. Beyond it something hangs.
const TEST_TIME_MAX: Duration = Duration::from_mins(1);
const OVERWRITTEN: usize = 400;
const DELETED: usize = 200;
const KEPT: usize = 100;

/// The value that each key must have in the end; `None` where it was deleted.
type Expected = BTreeMap<String, Option<String>>;

fn key(number: usize) -> String {
    format!("key-{number}")
}

async fn write(client: &Client, keys: impl Iterator<Item = usize>, value: Option<&str>, expected: &mut Expected) {
    let keys: Vec<String> = keys.map(key).collect();
    for some in keys.chunks(200) {
        let writes = some.iter().map(|key| match value {
            Some(value) => Write::from(client.set(key, value)),
            None => Write::from(client.delete(key)),
        });
        for outcome in client.batch_write(writes).await.expect("a majority is there") {
            outcome.expect("a majority is there");
        }
    }
    expected.extend(keys.into_iter().map(|key| (key, value.map(str::to_owned))));
}

/// What a node's own replica holds; it asks no other.
async fn held(node: &TestNode, expected: &Expected) -> Expected {
    let mut client = node.node_client();
    let mut held = Expected::new();
    for key in expected.keys() {
        let request = GetRequest { key: key.clone(), ..GetRequest::default() };
        let entry = client.get(request).await.expect("the node answers").into_inner().clocked_entry;
        let content = entry.and_then(|entry| entry.entry).and_then(|entry| entry.content);
        let value = content.map(|content| match content {
            api::entry::Content::Value(text) => text,
            api::entry::Content::Binary(_) => panic!("texts were written"),
        });
        held.insert(key.clone(), value);
    }
    held
}

/// Waits until the node was found equal with all others.
async fn wait_level(node: &TestNode) -> Duration {
    let began = Instant::now();
    poll("the node to be level", TEST_TIME_MAX, async || {
        let health = node.health().await.map_err(|status| status.to_string())?;
        let is_equal = |peer: &api::PeerHealth| peer.repair.is_some_and(|pair| pair.equal_since.is_some());
        if health.peers.iter().filter(|peer| is_equal(peer)).count() == 2 { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_was_away_is_level_again_by_itself() {
    tokio::time::timeout(TEST_TIME_MAX, come_back()).await.expect("it ends in time");
}

async fn come_back() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().with_deadline(Duration::from_secs(10));
    let mut expected = Expected::new();
    let all = OVERWRITTEN + DELETED + KEPT;
    write(&client, 0..all, Some("old"), &mut expected).await;

    cluster.nodes[2].terminate().await;
    write(&client, 0..OVERWRITTEN, Some("new"), &mut expected).await;
    write(&client, OVERWRITTEN..OVERWRITTEN + DELETED, None, &mut expected).await;
    write(&client, all..all + 50, Some("first"), &mut expected).await;
    // The hints for node 3 are in the memory of the nodes that have coordinated the writes.
    for other in 0..2 {
        cluster.nodes[other].terminate().await;
        cluster.nodes[other].start();
        cluster.nodes[other].wait_online().await;
    }
    cluster.nodes[2].start();
    cluster.wait_all_linked().await;
    let took = wait_level(&cluster.nodes[2]).await;
    println!("level after {took:?}");

    assert_eq!(held(&cluster.nodes[2], &expected).await, expected, "node 3 holds all of it, and nothing else");
    let mut repaired = 0.0;
    for node in &cluster.nodes {
        let [keys, write_backs] =
            node.metrics(["quorate_repaired_total", "quorate_read_write_backs_total"]).await.expect("metrics");
        assert!(write_backs <= keys, "no read has written back");
        repaired += keys;
        let [records, tombstones] =
            node.metrics(["quorate_repair_records", "quorate_repair_tombstones"]).await.expect("metrics");
        assert!((records - (all + 50) as f64).abs() < 0.5, "{records} records");
        assert!((tombstones - DELETED as f64).abs() < 0.5, "{tombstones} tombstones");
    }
    let missed = (OVERWRITTEN + DELETED + 50) as f64;
    assert!(repaired >= missed && repaired < missed * 1.5, "{repaired} keys were repaired, of {missed} that it missed");
}
