//! Deletions that give their space back: real processes, where nobody does anything for it.
//!
//! ```text
//! QUORATE_FORGETTING_KEYS=1000000 cargo test --release --test forgetting -- --nocapture
//! ```
//!
//! writes and deletes as many keys, and prints the bytes on disk.

#![cfg(feature = "server")]

mod testkit;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quorate::Client;
use quorate::client::Write;
use testkit::cluster::{Cluster, Plan, poll};

/// The longest time of the whole test. Beyond it something hangs.
const TEST_TIME_MAX: Duration = Duration::from_mins(15);
const KEYS: usize = 20_000;

fn key(number: usize) -> String {
    format!("key-{number}")
}

/// How many keys the test is about.
fn keys() -> usize {
    std::env::var("QUORATE_FORGETTING_KEYS").map_or(KEYS, |keys| keys.parse().expect("a number of keys"))
}

/// The bytes on the disks of all nodes.
async fn print_disks(cluster: &Cluster, began: Instant, when: &str) {
    let mut bytes = Vec::new();
    for node in &cluster.nodes {
        let [disk] = node.metrics(["quorate_store_disk_bytes"]).await.expect("metrics");
        bytes.push(format!("{:.1}", disk / 1e6));
    }
    println!("{:>6.1} s: {} MB on disk {when}", began.elapsed().as_secs_f64(), bytes.join(", "));
}

/// Writes or deletes all keys, and returns the versions that were made.
async fn write(client: &Client, value: Option<&str>) -> BTreeSet<String> {
    let mut versions = BTreeSet::new();
    let keys: Vec<String> = (0..keys()).map(key).collect();
    for some in keys.chunks(500) {
        let writes = some.iter().map(|key| match value {
            Some(value) => Write::from(client.set(key, value)),
            None => Write::from(client.delete(key)),
        });
        for outcome in client.batch_write(writes).await.expect("a majority is there") {
            versions.insert(format!("{:?}", outcome.expect("a majority is there")));
        }
    }
    versions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_keys_give_their_space_back() {
    tokio::time::timeout(TEST_TIME_MAX, forget()).await.expect("it ends in time");
}

async fn forget() {
    let plan = Plan { node_lines: "  tombstones_kept_for_seconds: 10\n", ..Plan::default() };
    let cluster = Cluster::start_as(&plan).await;
    let client = cluster.client().with_deadline(Duration::from_secs(20));
    let value = "v".repeat(1_000);
    let (began, keys) = (Instant::now(), keys());
    print_disks(&cluster, began, "before").await;
    let written = write(&client, Some(&value)).await;
    print_disks(&cluster, began, "after the writes").await;
    let deleted = write(&client, None).await;
    assert!(written.is_disjoint(&deleted));
    print_disks(&cluster, began, "after the deletions").await;
    poll("the deletions to be forgotten", TEST_TIME_MAX, async || {
        for node in &cluster.nodes {
            let [records, share] = node.metrics(["quorate_repair_records", "quorate_repair_share_counted"]).await?;
            if records > 0.5 || share < 1.0 {
                return Err(format!("{records} records are left, {share} are counted"));
            }
        }
        Ok(())
    })
    .await;
    print_disks(&cluster, began, "once they are forgotten").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    print_disks(&cluster, began, "a little later").await;
    for node in &cluster.nodes {
        let [forgotten, waiting] = node
            .metrics(["quorate_tombstones_forgotten_total", "quorate_tombstone_slots_waiting"])
            .await
            .expect("metrics");
        assert!((forgotten - keys as f64).abs() < 0.5, "{forgotten} were forgotten");
        assert!(waiting < 0.5, "{waiting} slots wait");
    }

    for number in (0..keys).step_by(997) {
        let read = client.get(key(number)).await.expect("a majority is there");
        assert!(read.is_none(), "{} is gone", key(number));
    }
    let again = write(&client, Some("again")).await;
    assert!(again.is_disjoint(&written) && again.is_disjoint(&deleted), "no version is given twice");
    assert!(client.get(key(7)).await.expect("a majority is there").is_some());
}
