//! An upgrade by rolling restart, with two builds: `QUORATE_OLDER_PROGRAM` names the older one. Without it there is nothing to upgrade
//! from, and the test says so.

#![cfg(all(feature = "server", unix))]

mod testkit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate::Client;
use testkit::cluster::{Cluster, Plan, TestNode};
use tokio::task::JoinHandle;

/// The variable that names an older build.
const OLDER_PROGRAM: &str = "QUORATE_OLDER_PROGRAM";
/// How long the load goes on between two restarts.
const LOAD_TIME: Duration = Duration::from_secs(2);
/// How a node says that another one is of another version.
const OTHER_VERSION: &str = "upgrade the older one";

/// Nodes whose versions do not understand each other refuse each other. Of the replicas of each slot a majority is on one side all the
/// same, but while the middle one restarts, and a client that knows all nodes sends again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_upgraded_one_at_a_time_and_no_request_fails() {
    let Some(older) = std::env::var_os(OLDER_PROGRAM) else {
        println!("SKIPPED: {OLDER_PROGRAM} names no older build");
        return;
    };
    let mut cluster = Cluster::prepare(&Plan::default());
    for node in &mut cluster.nodes {
        // In the place of the program that it is given.
        node.wrapper = ["sh", "-c", "shift; exec \"$OLDER\" \"$@\"", "sh"].map(Into::into).into();
        node.environment.push(("OLDER".into(), older.clone()));
        node.start();
    }
    for node in &mut cluster.nodes {
        node.wait_linked().await;
    }
    let client = Client::new(cluster.addresses()).expect("the addresses are well formed");
    let ends = Arc::<AtomicBool>::default();
    let load: JoinHandle<u64> = {
        let (client, ends) = (client.clone(), Arc::clone(&ends));
        tokio::spawn(async move {
            for turn in 1_u64.. {
                let value = turn.to_string();
                client.set("k", value.as_str()).await.expect("each write succeeds");
                let found = client.get("k").await.expect("each read succeeds").expect("it was written");
                assert_eq!(found.value.bytes(), value.as_bytes());
                if ends.load(Ordering::Relaxed) {
                    return turn;
                }
            }
            unreachable!("it has no end")
        })
    };
    for index in 0..cluster.nodes.len() {
        tokio::time::sleep(LOAD_TIME).await;
        let node = &mut cluster.nodes[index];
        node.terminate().await;
        (node.wrapper, node.environment) = (Vec::new(), Vec::new());
        node.start();
        node.wait_health("up", |_| true).await;
    }
    for node in &mut cluster.nodes {
        node.wait_linked().await;
    }
    tokio::time::sleep(LOAD_TIME).await;
    ends.store(true, Ordering::Relaxed);
    let turns = load.await.expect("no request failed");
    let refused = |node: &TestNode| node.log_text().contains(OTHER_VERSION);
    let levels = if cluster.nodes.iter().any(refused) { "two versions of the protocol" } else { "the same protocol" };
    println!("upgraded three nodes with {levels}: {} requests, 0 failed", 2 * turns);
    let found = client.get("k").await.expect("it serves").expect("it was written");
    assert_eq!(found.value.bytes(), turns.to_string().as_bytes());
}
