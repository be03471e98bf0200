//! Bytes of a node's files change while it is down: nothing wrong is ever answered, and the node replaces itself where the others
//! have all that is needed. Real processes.

#![cfg(all(feature = "server", unix))]

mod testkit;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use quorate::Client;
use quorate::api::Health;
use serde_json::Value as Json;
use testkit::cluster::{Cluster, Plan, poll, write};
use testkit::growing::Growing;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The longest time of one test. Beyond it something hangs.
const TEST_TIME_MAX: Duration = Duration::from_mins(2);
/// How long a node may take to replace itself, with what a busy machine adds.
const REPLACED_TIME_MAX: Duration = Duration::from_mins(1);
/// Small values: a megabyte of them.
const SMALL: usize = 2_000;
/// Large values, which lie in files of their own.
const LARGE: usize = 40;

fn small(key: usize) -> (String, String) {
    (format!("small-{key}"), format!("{key:08}").repeat(64))
}

fn large(key: usize) -> (String, String) {
    (format!("large-{key}"), format!("{key:08}").repeat(10_000))
}

async fn keep(client: &Client, all: impl Iterator<Item = (String, String)>) {
    for (key, value) in all {
        client.set(key, value).await.expect("a majority is there");
    }
}

async fn are_kept(client: &Client, all: impl Iterator<Item = (String, String)>) {
    for (key, value) in all {
        let found = client.get(&key).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        let found = found.unwrap_or_else(|| panic!("{key} is lost"));
        assert!(found.value.bytes() == value.as_bytes(), "{key} has another value");
    }
}

/// Reads and writes that go on until they are told to end.
struct Beside {
    ends: watch::Sender<bool>,
    tasks: Vec<JoinHandle<usize>>,
}

impl Beside {
    /// Reads all small keys through each node, again and again. A node that `may_fail` may answer with an error, and never with
    /// another value. Writes and reads others through all nodes.
    fn start(cluster: &Cluster, may_fail: &str) -> Self {
        let ends = watch::Sender::new(false);
        let mut tasks = Vec::new();
        for node in &cluster.nodes {
            let (client, ended) = (node.client().with_deadline(Duration::from_secs(20)), ends.subscribe());
            let (id, may_fail) = (node.id.clone(), node.id == may_fail);
            tasks.push(tokio::spawn(async move {
                let mut reads = 0;
                for key in (0..SMALL).cycle() {
                    if *ended.borrow() {
                        return reads;
                    }
                    let (key, value) = small(key);
                    match client.get(&key).await {
                        Ok(found) => {
                            let found = found.unwrap_or_else(|| panic!("{key} is lost through node {id}"));
                            assert!(found.value.bytes() == value.as_bytes(), "{key} through node {id}");
                            reads += 1;
                        }
                        Err(_) if may_fail => tokio::time::sleep(Duration::from_millis(20)).await,
                        Err(error) => panic!("{key} through node {id}: {error}"),
                    }
                }
                unreachable!("it goes round")
            }));
        }
        let (client, ended) = (cluster.client().with_deadline(Duration::from_secs(20)), ends.subscribe());
        tasks.push(tokio::spawn(async move {
            let mut writes = 0;
            while !*ended.borrow() {
                let (key, value) = (format!("beside-{}", writes % 50), writes.to_string());
                client.set(&key, value.as_str()).await.expect("no write fails");
                let found = client.get(&key).await.expect("no read fails").expect("it was just written");
                assert_eq!(found.value.bytes(), value.as_bytes());
                writes += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            writes
        }));
        Self { ends, tasks }
    }

    async fn end(self) {
        self.ends.send_replace(true);
        for task in self.tasks {
            let count = task.await.expect("nothing wrong was answered");
            assert!(count > 0);
            println!("{count} requests");
        }
    }
}

/// The largest file of this kind in a data folder.
fn largest_file(folder: &Path, extension: &str) -> PathBuf {
    let files = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of_kind = files(&folder.join("store")).filter(|path| path.extension().is_some_and(|found| found == extension));
    of_kind.max_by_key(|file| file.metadata().unwrap().len()).expect("there is one")
}

/// Flips a bit at this part of the file.
fn flip(file: &Path, part: f64) {
    let mut bytes = std::fs::read(file).unwrap();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the file")]
    let place = (bytes.len() as f64 * part) as usize;
    bytes[place] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

fn stores_aside(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("store.damaged-")).count()
}

fn identity(members: &Json, id: &str) -> Json {
    let all = members["members"].as_array().unwrap();
    all.iter().find(|member| member["id"] == id).unwrap_or_else(|| panic!("{members}"))["identity"].clone()
}

/// Waits until the node of this id has its place under another identity, and nothing changes any more.
async fn wait_replaced(growing: &mut Growing, place: usize, before: &Json) {
    let id = growing.cluster.nodes[place].id.clone();
    poll("the node to replace itself", REPLACED_TIME_MAX, async || {
        let members = growing.members().await;
        let is_other = members["members"].is_array() && identity(&members, &id) != identity(before, &id);
        if is_other && members["changing"] == false { Ok(()) } else { Err(members.to_string()) }
    })
    .await;
    let node = &mut growing.cluster.nodes[place];
    node.wait_log(&["the node has its place again"]).await;
    let well = node.wait_health("well", |health| health.status() == Health::Online && health.detail.is_empty()).await;
    assert!(!well.damaged, "{well:?}");
    assert_eq!(stores_aside(&node.files.data_dir), 1);
    assert!(node.metric("quorate_store_damaged_aside").await.unwrap() > 0.0);
}

async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(TEST_TIME_MAX, test).await.expect("the test ends in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_a_flipped_byte_in_a_table_answers_nothing_wrong_and_replaces_itself() {
    in_time(async {
        let plan = Plan { node_lines: "  replace_damaged: false\n", ..Plan::default() };
        let mut growing = Growing::of(Cluster::start_as(&plan).await);
        keep(&growing.cluster.client(), (0..SMALL).map(small)).await;
        // An orderly end writes what is in memory into tables.
        growing.cluster.nodes[1].terminate().await;
        flip(&largest_file(&growing.cluster.nodes[1].files.data_dir, "sst"), 0.5);
        growing.cluster.nodes[1].start();
        let beside = Beside::start(&growing.cluster, "2");

        let scrubbed = growing.run(&["repair", "--scrub"]).await;
        assert_eq!(scrubbed.exit, Some(3), "{scrubbed:?}");
        for part in ["\n 1     intact", "\n 2     damaged", "\n 3     intact", "node 2: the store is damaged"] {
            assert!(scrubbed.text.contains(part), "{scrubbed:?}");
        }
        let node = &mut growing.cluster.nodes[1];
        let damaged = node.wait_health("told what to do", |health| health.detail.contains("replace_damaged")).await;
        assert!(damaged.damaged && damaged.status() == Health::Degraded, "{damaged:?}");
        assert!(damaged.detail.contains("is damaged") && damaged.detail.contains("members replace"), "{damaged:?}");
        assert!(node.metric("quorate_store_damage_met_total").await.unwrap() > 0.0);
        let shown = growing.run(&["repair"]).await;
        assert!(shown.exit == Some(3) && shown.text.contains("node 2 is damaged"), "{shown:?}");

        let before = growing.members().await;
        let node = &mut growing.cluster.nodes[1];
        let text = std::fs::read_to_string(&node.files.node_file).unwrap();
        write(&node.files.node_file, &text.replace("replace_damaged: false", "replace_damaged: true"));
        node.process().signal(Signal::SIGHUP);
        wait_replaced(&mut growing, 1, &before).await;
        beside.end().await;
        for node in &growing.cluster.nodes {
            are_kept(&node.client(), (0..SMALL).map(small)).await;
        }
        let scrubbed = growing.run(&["repair", "--scrub", "--json"]).await;
        assert_eq!((scrubbed.exit, &scrubbed.json()["intact"]), (Some(0), &true.into()), "{scrubbed:?}");
        // It is an ordinary member: a restart needs nothing else.
        growing.cluster.nodes[1].terminate().await;
        growing.cluster.nodes[1].start();
        growing.cluster.nodes[1].wait_linked().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_byte_of_a_large_value_is_found_and_the_replacing_goes_on_over_a_kill() {
    in_time(async {
        let mut growing = Growing::start().await;
        let client = growing.cluster.client();
        keep(&client, (0..LARGE).map(large)).await;
        growing.cluster.nodes[2].terminate().await;
        flip(&largest_file(&growing.cluster.nodes[2].files.data_dir, "blob"), 0.3);
        growing.cluster.nodes[2].start();
        growing.cluster.nodes[2].wait_linked().await;
        let before = growing.members().await;

        let scrubbed = growing.run(&["repair", "--scrub"]).await;
        assert_eq!(scrubbed.exit, Some(3), "{scrubbed:?}");
        assert!(scrubbed.text.contains("\n 3     damaged"), "{scrubbed:?}");
        growing.cluster.nodes[2].wait_log(&["the node asks the members for its place"]).await;
        growing.cluster.nodes[2].kill();
        growing.cluster.nodes[2].start();
        wait_replaced(&mut growing, 2, &before).await;
        for node in &growing.cluster.nodes {
            are_kept(&node.client().with_deadline(Duration::from_secs(20)), (0..LARGE).map(large)).await;
        }
    })
    .await;
}

/// Of three replicas, two are damaged: neither may give up what the other one lacks. Nodes of other ids take both places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_damaged_nodes_of_three_wait_until_others_take_their_places() {
    in_time(async {
        let mut growing = Growing::start().await;
        let client = growing.cluster.client();
        keep(&client, (0..SMALL).map(small)).await;
        // Both parts are in one page of a thousand keys: each node tells what comes before its own damage, and what comes after.
        for (place, part) in [(0, 0.6), (1, 0.8)] {
            growing.cluster.nodes[place].terminate().await;
            flip(&largest_file(&growing.cluster.nodes[place].files.data_dir, "sst"), part);
        }
        growing.cluster.start_all();
        for (place, other) in [(0, "node 2 is damaged too"), (1, "node 1 is damaged too")] {
            growing.cluster.nodes[place].wait_health("told", |health| health.detail.contains(other)).await;
        }
        are_kept(&client.with_deadline(Duration::from_secs(20)), (0..SMALL).map(small)).await;

        // Each member learns of them, because they try all addresses of their file.
        let all = growing.file("all.yml", 3, &["1", "2", "3", "4", "5"]);
        growing.join("4", &all).await;
        growing.join("5", &all).await;
        for place in 0..3 {
            let address = growing.cluster.nodes[place].address();
            poll("each member to know both", TEST_TIME_MAX, async || {
                let members = growing.run(&["--address", &address, "members", "--json"]).await.json();
                if members["waiting"].as_array().is_some_and(|waiting| waiting.len() == 2) {
                    Ok(())
                } else {
                    Err(members.to_string())
                }
            })
            .await;
        }
        let others = growing.file("others.yml", 3, &["3", "4", "5"]);
        let applied = growing.run(&["members", "apply", others.to_str().unwrap(), "--yes"]).await;
        assert_eq!(applied.exit, Some(0), "{applied:?}");
        for place in [0, 1] {
            assert_eq!(stores_aside(&growing.cluster.nodes[place].files.data_dir), 0);
            growing.cluster.nodes[place].kill();
        }
        for place in 2..5 {
            let client = growing.cluster.nodes[place].client().with_deadline(Duration::from_secs(20));
            are_kept(&client, (0..SMALL).map(small)).await;
        }
    })
    .await;
}
