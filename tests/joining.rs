//! Members that change while the cluster serves: nodes wait, join, leave, move to other addresses, and come back.
//!
//! Node 1 runs in the process of the test, which asks it for changes. The others are `quorate serve` processes, which are
//! killed. Clients write all the time.

#![cfg(all(feature = "server", unix))]

mod testkit;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate::api::{self, Health};
use quorate::config::{Config, File};
use quorate::protocol::{MembersChange, MembersRefusal, MembersReport, WishedMember, WishedMembers};
use quorate::runtime::{NodeHandle, RequestError};
use quorate::server::{Ended, Server, ServerError, Storage};
use quorate::types::{NodeId, Site};
use quorate::wire::failure::{Failure, FailureReason};
use quorate::{Client, protocol};
use testkit::cluster::{Cluster, NodeFiles, Plan, START_TIME_MAX, TestNode, cluster_yml, node_yml, poll, write};
use testkit::ports;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a change of members may take: far longer than it does.
const CHANGE_TIME_MAX: Duration = Duration::from_mins(1);
/// The keys that are written before a change, and are there after it.
const KEYS: usize = 300;

/// A node in the process of the test.
struct Own {
    handle: NodeHandle,
    shutdown: CancellationToken,
    running: JoinHandle<Result<Ended, ServerError>>,
}

impl Own {
    async fn start(files: &NodeFiles) -> Self {
        let read = |path: &Path| fs::read_to_string(path).expect("the file can be read");
        let (node, cluster) = (read(&files.node_file), read(&files.cluster_file));
        let (node, cluster) =
            (File { name: &files.node_file, text: &node }, File { name: &files.cluster_file, text: &cluster });
        let config = Config::parse(node, cluster, []).expect("the files are well formed");
        let server = Server::start(&config, Storage::Rocks).await.expect("it starts");
        let (handle, shutdown) = (server.handle().clone(), CancellationToken::new());
        let running = tokio::spawn(server.run(shutdown.clone()));
        Self { handle, shutdown, running }
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.running.await.expect("it does not panic").expect("it ends in order");
    }

    async fn report(&self) -> MembersReport {
        self.handle.members().await.expect("it runs")
    }

    async fn change(&self, change: MembersChange) -> Result<u64, RequestError> {
        self.handle.change_members(change, Instant::now() + Duration::from_secs(10)).await
    }

    /// Changes members, and waits until the change has ended with all of them.
    async fn change_to(&self, replica_count: usize, nodes: &[&TestNode]) {
        let member = |node: &&TestNode| WishedMember {
            id: NodeId::new(&node.id).expect("it is well formed"),
            address: node.address().into(),
            store_id: None,
            site: Site::default(),
        };
        self.make(WishedMembers { replica_count, members: nodes.iter().map(member).collect() }).await;
    }

    /// The same.
    async fn make(&self, wished: WishedMembers) {
        let before = self.report().await.number;
        let replica_count = wished.replica_count;
        let wished_ids: Vec<NodeId> = wished.members.iter().map(|member| member.id.clone()).collect();
        let began = Instant::now();
        let number = self
            .change(MembersChange::Change { expected: Some(before), wished, is_forced: false })
            .await
            .expect("it is granted");
        assert_eq!(number, before + 1);
        let report = poll("the change to end", CHANGE_TIME_MAX, async || {
            let report = self.report().await;
            if report.number > number && !report.is_joint { Ok(report) } else { Err(format!("{report:?}")) }
        })
        .await;
        let ids: Vec<NodeId> = report.members.iter().map(|member| member.id.clone()).collect();
        assert_eq!(ids, wished_ids);
        assert_eq!((report.replica_count, report.new_replica_count), (replica_count, None));
        println!("members {ids:?} with replica_count {replica_count} after {:?}", began.elapsed());
    }

    /// Waits until it reaches all members.
    async fn reaches_all(&self) {
        poll("node 1 to reach all members", START_TIME_MAX, async || {
            let report = self.report().await;
            let is_well = report.members.iter().all(|member| member.is_reached);
            if is_well { Ok(()) } else { Err(format!("{report:?}")) }
        })
        .await;
    }
}

/// Three nodes, of which the first runs here.
async fn start(plan: &Plan) -> (Cluster, Own) {
    let mut cluster = Cluster::prepare(plan);
    let own = Own::start(&cluster.nodes[0].files).await;
    for node in &mut cluster.nodes[1..] {
        node.start();
    }
    for node in &mut cluster.nodes[1..] {
        node.wait_linked().await;
    }
    own.reaches_all().await;
    (cluster, own)
}

/// Adds a node to those of the test. It has a wished file of its own, waits to join, and is not started.
fn add(cluster: &mut Cluster, id: &'static str, replica_count: usize) {
    let (port, metrics_port) = (ports::free_port(), ports::free_port());
    let dir = cluster.dir().to_owned();
    let files = NodeFiles {
        node_file: dir.join(format!("node-{id}.yml")),
        cluster_file: dir.join(format!("cluster-{id}.yml")),
        data_dir: dir.join("data").join(id),
    };
    write(&files.node_file, &node_yml(id, port, metrics_port, &files.data_dir, false));
    let mut node = TestNode::new(id, port, metrics_port, files, &dir);
    node.arguments = vec!["--join".into()];
    cluster.nodes.push(node);
    write(&cluster.nodes[cluster.nodes.len() - 1].files.cluster_file, &wish(cluster, replica_count));
}

/// A cluster file with all nodes of the test.
fn wish(cluster: &Cluster, replica_count: usize) -> String {
    let nodes: Vec<(&str, u16)> = cluster.nodes.iter().map(|node| (node.id.as_str(), node.port)).collect();
    cluster_yml(0, replica_count, &nodes)
}

/// Clients that write all the time, and read what they have written.
struct Load {
    ends: Arc<AtomicBool>,
    operations: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(addresses: &[String]) -> Self {
        let (ends, operations) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |number: usize| {
            let client = Client::new(addresses).expect("the addresses are well formed");
            let (ends, operations) = (Arc::clone(&ends), Arc::clone(&operations));
            tokio::spawn(async move {
                for turn in 0_u64.. {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let (key, value) = (format!("load-{number}-{}", turn % 50), turn.to_string());
                    client.set(&key, value.as_str()).await.expect("each write succeeds");
                    let found = client.get(&key).await.expect("each read succeeds").expect("it was written");
                    assert_eq!(found.value.bytes(), value.as_bytes(), "{key}");
                    operations.fetch_add(2, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..4).map(client).collect();
        Self { ends, operations, clients }
    }

    async fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("no request of a client failed");
        }
        println!("{} operations of clients, none failed", self.operations.load(Ordering::Relaxed));
    }
}

async fn fill(client: &Client) {
    for n in 0..KEYS {
        client.set(format!("key-{n}"), format!("value-{n}").as_str()).await.expect("the cluster serves");
    }
}

async fn check(client: &Client) {
    for n in 0..KEYS {
        let found = client.get(format!("key-{n}")).await.expect("the cluster serves").expect("it was written");
        assert_eq!(found.value.bytes(), format!("value-{n}").as_bytes());
    }
}

/// Waits until a node says that it serves nobody, for this reason.
async fn wait_unready(node: &mut TestNode, words: &str) {
    node.wait_health(words, |health| !health.serves && health.detail.contains(words)).await;
    let request = api::GetRequest { key: "key-1".to_owned(), ..Default::default() };
    let refused = node.cluster_client().get(request).await.expect_err("it serves nobody");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert_eq!(Failure::from_status(&refused).map(|failure| failure.reason), Some(FailureReason::NotReady));
    assert!(refused.message().contains(words), "{refused}");
    let request = api::SetRequest { entry: Some(entry("key-1")), ..Default::default() };
    let refused = node.cluster_client().set(request).await.expect_err("it serves nobody");
    assert_eq!(Failure::from_status(&refused).map(|failure| failure.reason), Some(FailureReason::NotApplied));
}

fn entry(key: &str) -> api::Entry {
    api::Entry { key: key.to_owned(), content: Some(api::entry::Content::Value("other".to_owned())) }
}

async fn wait_waiting(own: &Own, id: &str) -> protocol::WaitingNode {
    poll(&format!("node {id} to be listed as waiting"), START_TIME_MAX, async || {
        let report = own.report().await;
        let found = report.waiting.iter().find(|node| node.id.as_str() == id).cloned();
        found.ok_or_else(|| format!("{report:?}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_joins_and_another_leaves_while_clients_write() {
    let (mut cluster, own) = start(&Plan::default()).await;
    add(&mut cluster, "4", 3);
    fill(&cluster.nodes[1].client()).await;
    let load = Load::start(&cluster.addresses());

    cluster.nodes[3].start();
    let waiting = wait_waiting(&own, "4").await;
    assert_eq!(*waiting.address, *cluster.nodes[3].address());
    assert!(own.handle.time_since(waiting.heard_at) < Duration::from_secs(15));
    wait_unready(&mut cluster.nodes[3], "waits to be added").await;
    assert_eq!(cluster.nodes[3].health().await.unwrap().status(), Health::Starting);
    let absent = MembersChange::Change {
        expected: None,
        is_forced: false,
        wished: WishedMembers {
            replica_count: 1,
            members: vec![WishedMember {
                id: NodeId::new("9").expect("it is well formed"),
                address: "127.0.0.1:1".into(),
                store_id: None,
                site: Site::default(),
            }],
        },
    };
    let refused = own.change(absent).await.expect_err("nobody waits under this id");
    let expected = MembersRefusal::NotWaiting(NodeId::new("9").expect("it is well formed"));
    assert_eq!(refused, RequestError::Failed(protocol::Failure::Members(expected)));

    own.change_to(3, &cluster.nodes.iter().collect::<Vec<_>>()).await;
    cluster.nodes[3].wait_linked().await;
    let info = cluster.nodes[3].cluster_client().info(api::ClusterInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.storage_nodes.len(), 4);
    assert!(info.storage_nodes.iter().all(|node| node.slots > 0), "{info:?}");
    assert_eq!(own.report().await.waiting, []);

    let stays: Vec<&TestNode> = cluster.nodes.iter().filter(|node| node.id != "2").collect();
    own.change_to(3, &stays).await;
    wait_unready(&mut cluster.nodes[1], "was removed").await;
    load.end().await;

    // A killed node finds the members in its folder, and so does one whose file does not list them, or not even itself.
    cluster.nodes[3].files.cluster_file = cluster.nodes[0].files.cluster_file.clone();
    for place in [2, 3] {
        cluster.nodes[place].kill();
        cluster.nodes[place].start();
        cluster.nodes[place].wait_linked().await;
    }
    cluster.nodes[2].wait_log(&["node 2 is added, node 4 is removed", "quorate members apply"]).await;
    own.end().await;
    let own = Own::start(&cluster.nodes[0].files).await;
    own.reaches_all().await;
    assert_eq!(own.report().await.number, 4);
    for place in [0, 2, 3] {
        check(&cluster.nodes[place].client()).await;
    }

    // The removed node comes back with its old folder.
    cluster.nodes[1].kill();
    cluster.nodes[1].start();
    wait_unready(&mut cluster.nodes[1], "was removed").await;
    // It is waiting to be a member again.
    wait_waiting(&own, "2").await;
    own.change_to(3, &cluster.nodes.iter().collect::<Vec<_>>()).await;
    cluster.nodes[1].wait_linked().await;
    check(&cluster.nodes[1].client()).await;
    own.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_node_without_join_is_told_to_join_and_one_that_waits_is_not() {
    let (mut cluster, own) = start(&Plan::default()).await;
    add(&mut cluster, "4", 3);
    cluster.nodes[3].arguments.clear();
    cluster.nodes[3].start();
    let health = cluster.nodes[3].wait_health("refused", |health| health.status() == Health::Refused).await;
    assert!(health.detail.contains("no member of the cluster: start it with --join"), "{}", health.detail);
    cluster.nodes[3].wait_log(&["the peer refuses this node", "start it with --join"]).await;
    assert_eq!(own.report().await.waiting, []);
    cluster.nodes[3].kill();

    fs::remove_dir_all(&cluster.nodes[3].files.data_dir).expect("it has nothing to lose");
    for node in &cluster.nodes[1..] {
        node.clear_log();
    }
    cluster.nodes[3].arguments = vec!["--join".into()];
    cluster.nodes[3].start();
    wait_waiting(&own, "4").await;
    wait_unready(&mut cluster.nodes[3], "waits to be added").await;
    let error = cluster.nodes[3].client().set("k", "v").await.expect_err("it serves nobody").to_string();
    assert!(error.contains("the node waits to be added") && !error.contains("is starting"), "{error}");
    for (place, words) in [(1, "the peer refuses this node"), (3, "this node refuses the peer")] {
        let log = cluster.nodes[place].log_text();
        assert!(!log.contains(words), "there is nothing to mend: {log}");
    }
    own.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_was_away_during_the_change_finds_the_others() {
    let (mut cluster, own) = start(&Plan::default()).await;
    add(&mut cluster, "4", 3);
    fill(&cluster.nodes[1].client()).await;
    cluster.nodes[2].kill();
    cluster.nodes[3].start();
    wait_waiting(&own, "4").await;
    // Node 3 is removed while it is away: it knows nothing of node 4.
    let stays: Vec<&TestNode> = cluster.nodes.iter().filter(|node| node.id != "3").collect();
    own.change_to(3, &stays).await;
    cluster.nodes[2].start();
    wait_unready(&mut cluster.nodes[2], "was removed").await;
    check(&cluster.nodes[3].client()).await;
    own.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_moves_to_another_address() {
    let (mut cluster, own) = start(&Plan::default()).await;
    fill(&cluster.nodes[1].client()).await;
    let load = Load::start(&cluster.addresses()[..2]);
    cluster.nodes[2].terminate().await;
    let port = ports::free_port();
    let node = &mut cluster.nodes[2];
    node.port = port;
    write(&node.files.node_file, &node_yml("3", port, node.metrics_port, &node.files.data_dir, false));
    node.files.cluster_file = node.files.cluster_file.with_file_name("moved.yml");
    write(&cluster.nodes[2].files.cluster_file, &wish(&cluster, 3));
    cluster.nodes[2].start();
    own.change_to(3, &cluster.nodes.iter().collect::<Vec<_>>()).await;
    cluster.nodes[2].wait_linked().await;
    own.reaches_all().await;
    let info = cluster.nodes[1].cluster_client().info(api::ClusterInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.storage_nodes[2].address, cluster.nodes[2].address());
    load.end().await;

    // Its file still says where node 3 was, and its folder where it is.
    cluster.nodes[1].kill();
    cluster.nodes[1].start();
    cluster.nodes[1].wait_linked().await;
    let line = format!("instead of {}", cluster.nodes[2].address());
    cluster.nodes[1].wait_log(&["node 3 is reached at", &line]).await;
    check(&cluster.nodes[2].client()).await;
    own.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_whose_file_was_edited_serves_and_says_so() {
    let (mut cluster, own) = start(&Plan::default()).await;
    fill(&cluster.nodes[1].client()).await;
    let nodes: Vec<(String, u16)> = cluster.nodes.iter().map(|node| (node.id.clone(), node.port)).collect();
    let mut nodes: Vec<(&str, u16)> = nodes.iter().map(|(id, port)| (id.as_str(), *port)).collect();
    nodes[2] = ("4", ports::free_port());
    let node = &mut cluster.nodes[1];
    node.files.cluster_file = node.files.cluster_file.with_file_name("edited.yml");
    write(&node.files.cluster_file, &cluster_yml(0, 1, &nodes));
    node.kill();
    node.start();
    node.wait_linked().await;
    node.wait_log(&["node 4 is added, node 3 is removed, replica_count is 1 instead of 3", "quorate members apply"])
        .await;
    own.end().await;
    // Nodes 2 and 3 are a majority, and reach each other.
    check(&cluster.nodes[1].client()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_lost_its_disk_takes_its_own_place() {
    let (mut cluster, own) = start(&Plan::default()).await;
    fill(&cluster.nodes[1].client()).await;
    let load = Load::start(&cluster.addresses()[..2]);
    cluster.nodes[2].kill();
    fs::remove_dir_all(&cluster.nodes[2].files.data_dir).expect("the disk is lost");
    cluster.nodes[2].arguments = vec!["--join".into()];
    cluster.nodes[2].start();
    let waiting = wait_waiting(&own, "3").await;
    let member = |node: &TestNode| WishedMember {
        id: NodeId::new(&node.id).expect("it is well formed"),
        address: node.address().into(),
        store_id: (node.id == "3").then_some(waiting.store_id),
        site: Site::default(),
    };
    own.make(WishedMembers { replica_count: 3, members: cluster.nodes.iter().map(member).collect() }).await;
    cluster.nodes[2].wait_linked().await;
    load.end().await;
    // It holds what it has taken over: the other one of the majority is away.
    cluster.nodes[1].kill();
    check(&cluster.nodes[2].client()).await;
    cluster.nodes[2].kill();
    cluster.nodes[2].start();
    cluster.nodes[2].wait_online().await;
    check(&cluster.nodes[2].client()).await;
    own.end().await;
}
