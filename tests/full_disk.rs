//! A node with a full disk acknowledges no write, says so, and takes writes again by itself once there is space.
//!
//! The disk is filled in two ways. `prlimit` limits the size of a process's files, which any user may do; the node's log is
//! then full as well. A small file system is filled where this process may mount one.

#![cfg(feature = "server")]

mod testkit;

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use quorate::api::{self, Health, PeerState};
use testkit::cluster::{Cluster, Plan, TestNode};
use tonic::{Request, Status};

const KEYS: usize = 50;
/// So large that a few writes need new pages of the disk.
const VALUE_BYTES: usize = 4_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_may_not_write_files_recovers_once_it_may() {
    if !runs("prlimit", &["--version"]) || !runs("bash", &["--version"]) {
        println!("SKIPPED: prlimit and bash are needed to limit a process");
        return;
    }
    let mut cluster = Cluster::prepare(&plan());
    // Beyond the limit the system sends SIGXFSZ, which ends a process that does not ignore it; a full disk sends nothing.
    cluster.nodes[2].wrapper = ["bash", "-c", "trap '' XFSZ; exec \"$@\"", "bash"].map(Into::into).into();
    cluster.start_all();
    cluster.wait_all_linked().await;
    let id = cluster.nodes[2].process_id();
    fill_and_free(&mut cluster, Fault::Limit(id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_on_a_full_file_system_recovers_once_there_is_space() {
    let mut cluster = Cluster::prepare(&plan());
    let folder = cluster.nodes[2].files.data_dir.clone();
    let Some(mount) = Mount::new(&folder) else {
        println!("SKIPPED: this user cannot mount a small file system");
        return;
    };
    // A folder inside the mount, so that the filler is not in the node's folder.
    cluster.nodes[2].environment.push(("QUORATE_NODE_DATA_DIR".to_owned(), folder.join("data").into()));
    cluster.start_all();
    cluster.wait_all_linked().await;
    fill_and_free(&mut cluster, Fault::filler(folder.join("filler"))).await;
    assert!(cluster.nodes[2].log_text().contains("the disk takes no writes"), "the log says so");
    drop(cluster);
    drop(mount);
}

fn plan() -> Plan {
    Plan { operator_writes: true, ..Plan::default() }
}

async fn fill_and_free(cluster: &mut Cluster, mut fault: Fault) {
    for number in 0..KEYS {
        set(&cluster.nodes[0], &format!("before-{number}")).await.expect("all are online");
    }
    fault.begin();
    for number in 0..KEYS {
        set(&cluster.nodes[0], &format!("during-{number}")).await.expect("two of three have room");
    }
    let health = cluster.nodes[2].wait_health("degraded", |health| health.status() == Health::Degraded).await;
    println!("node 3: {:?}: {}", health.status(), health.detail);
    assert!(health.detail.contains("its disk takes no writes"), "{}", health.detail);
    assert!(health.detail.contains("free space"), "it says what to do: {}", health.detail);

    for number in 0..KEYS {
        let key = format!("before-{number}");
        assert!(get(&cluster.nodes[2], &key).await.expect("the full node goes on serving reads"), "{key}");
        let key = format!("during-{number}");
        assert!(get(&cluster.nodes[2], &key).await.expect("the full node goes on serving reads"), "{key}");
    }
    let through = set(&cluster.nodes[2], "through").await;
    println!("a write that the full node coordinates: {through:?}");
    through.expect("the others' disks are a majority");
    let own = api::NodeSetRequest { entry: Some(entry("own")), ..Default::default() };
    let status =
        cluster.nodes[2].node_client().set(own).await.expect_err("it acknowledges nothing that it cannot store");
    println!("Node/Set on the full node: {:?}: {}", status.code(), status.message());
    let own =
        cluster.nodes[2].node_client().get(api::GetRequest { key: "before-0".to_owned(), ..Default::default() }).await;
    println!("Node/Get on the full node: {:?}", own.map(|found| found.into_inner().clocked_entry.is_some()));

    // Only node 2 can store anything now, so no write may be acknowledged.
    cluster.nodes[0].kill();
    let mut keys: Vec<String> =
        ["before", "during"].iter().flat_map(|when| (0..KEYS).map(move |number| format!("{when}-{number}"))).collect();
    for node in &cluster.nodes[1..] {
        let key = format!("one-disk-{}", node.id);
        let result = set_within(node, &key, Duration::from_secs(1)).await;
        println!("a write with one disk left, through node {}: {result:?}", node.id);
        match result {
            Err(_) => {}
            // Reopening a store may free some space, and a write may take it before the filler does.
            Ok(()) if matches!(fault, Fault::Filler { .. }) => keys.push(key),
            Ok(()) => panic!("one disk is no majority"),
        }
    }
    cluster.nodes[0].start();
    cluster.nodes[0].wait_online().await;
    set(&cluster.nodes[0], "last").await.expect("two of three have room again");
    keys.push("last".to_owned());

    fault.end();
    cluster.nodes[2].wait_online().await;
    cluster.wait_all_linked().await;
    println!("node 3 is online again, by itself");
    // Now node 3 is needed for each majority.
    cluster.nodes[0].kill();
    wait_unlinked(&mut cluster.nodes[1], "1").await;
    for number in 0..KEYS {
        let key = format!("after-{number}");
        set(&cluster.nodes[2], &key).await.expect("node 3 takes writes again");
        keys.push(key);
    }
    assert_all_there(&cluster.nodes[1..], &keys).await;

    // The writes that node 3 has acknowledged since then survive its process.
    cluster.nodes[2].kill();
    cluster.nodes[2].start();
    cluster.nodes[0].start();
    cluster.wait_all_linked().await;
    assert_all_there(&cluster.nodes, &keys).await;
    println!("{} keys from before, during and after: all there through every node", keys.len());
}

async fn assert_all_there(nodes: &[TestNode], keys: &[String]) {
    for node in nodes {
        for key in keys {
            let found = get(node, key).await.unwrap_or_else(|status| panic!("{key}, node {}: {status}", node.id));
            assert!(found, "{key} is lost, read through node {}", node.id);
        }
    }
}

async fn wait_unlinked(node: &mut TestNode, peer: &str) {
    node.wait_health("without its link", |health| {
        health.peers.iter().any(|it| it.node_id == peer && it.state() == PeerState::PeerUnreachable)
    })
    .await;
}

async fn set(node: &TestNode, key: &str) -> Result<(), Status> {
    set_within(node, key, Duration::from_secs(5)).await
}

async fn set_within(node: &TestNode, key: &str, deadline: Duration) -> Result<(), Status> {
    let mut request = Request::new(api::SetRequest { entry: Some(entry(key)), ..Default::default() });
    request.set_timeout(deadline);
    node.cluster_client().set(request).await.map(drop)
}

/// Whether `key` has its value.
async fn get(node: &TestNode, key: &str) -> Result<bool, Status> {
    let found =
        node.cluster_client().get(api::GetRequest { key: key.to_owned(), ..Default::default() }).await?.into_inner();
    Ok(found.entry == Some(entry(key)))
}

fn entry(key: &str) -> api::Entry {
    // The value does not compress. Otherwise a full disk would have space for much longer.
    let mut seed = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
    let mut next = || {
        seed = xxhash_rust::xxh3::xxh3_64(&seed.to_le_bytes());
        seed.to_le_bytes()
    };
    let bytes: Vec<u8> = std::iter::repeat_with(&mut next).flatten().take(VALUE_BYTES).collect();
    api::Entry { key: key.to_owned(), content: Some(api::entry::Content::Binary(bytes.into())) }
}

/// How the disk of a node is filled.
enum Fault {
    /// The process of this id may not write to files.
    Limit(u32),
    /// A file takes all the space that is left, and all that is freed.
    Filler { path: PathBuf, end: Arc<AtomicBool>, filling: Option<JoinHandle<()>> },
}

impl Fault {
    fn filler(path: PathBuf) -> Self {
        Self::Filler { path, end: Arc::default(), filling: None }
    }

    fn begin(&mut self) {
        match self {
            Self::Limit(id) => limit_file_size(*id, "0:unlimited"),
            Self::Filler { path, end, filling } => {
                let mut file = File::create(path).expect("a file can be made");
                fill(&mut file);
                let end = Arc::clone(end);
                *filling = Some(std::thread::spawn(move || {
                    while !end.load(Ordering::Relaxed) {
                        fill(&mut file);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }));
            }
        }
    }

    fn end(&mut self) {
        match self {
            Self::Limit(id) => limit_file_size(*id, "unlimited:unlimited"),
            Self::Filler { path, end, filling } => {
                end.store(true, Ordering::Relaxed);
                filling.take().expect("it has begun").join().expect("filling does not panic");
                fs::remove_file(path).expect("the filler can be removed");
            }
        }
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        if let Self::Filler { end, .. } = self {
            end.store(true, Ordering::Relaxed);
        }
    }
}

fn limit_file_size(id: u32, limits: &str) {
    let arguments = ["--pid", &id.to_string(), &format!("--fsize={limits}")];
    assert!(runs("prlimit", &arguments), "prlimit {arguments:?} failed");
}

fn fill(file: &mut File) {
    let page = [0; 4096];
    loop {
        match file.write_all(&page) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("the file system does not fill: {error}"),
        }
    }
}

/// A small file system, until it is dropped.
struct Mount {
    at: PathBuf,
}

impl Mount {
    fn new(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("a folder can be made");
        let path = at.display().to_string();
        let mounted = runs("mount", &["-t", "tmpfs", "-o", "size=48m", "quorate-test", &path]);
        mounted.then(|| Self { at: at.to_path_buf() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Unmount lazily, because a failed test still has a process there for a moment.
        if !runs("umount", &["-l", &self.at.display().to_string()]) {
            eprintln!("could not unmount {}", self.at.display());
        }
    }
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
