//! A node refuses bad configurations, taken ports, foreign data folders, peers of other clusters, peers that may have
//! forgotten writes, and bad messages. Each refusal says what happened, where, and what to do.

#![cfg(feature = "server")]

mod testkit;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message as _;
use quorate::api::{self, Health, HealthResponse, PeerState};
use quorate::limits::{MESSAGE_BYTES_MAX, VALUE_BYTES_MAX};
use quorate::protocol::placement::Placement;
use quorate::types::{ClusterParameters, KEY_BYTES_MAX, Key, NodeId, NodeIndex};
use quorate::wire::failure::{Failure, FailureReason};
use tempfile::TempDir;
use testkit::cluster::{Cluster, NodeFiles, Plan, START_TIME_MAX, TestNode, cluster_yml, copy_folder, write};
use testkit::ports;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

// ------------------------------------------------------------------------------------------------ configurations

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_configuration_is_refused_in_one_line_with_exit_code_2() {
    let node = |rest: &str| format!("node:\n  id: \"1\"\n  local_address: 127.0.0.1:1\n  data_dir: ./d\n{rest}");
    let cluster =
        |count: &str, nodes: &str| format!("cluster:\n  seed: 0\n  replica_count: {count}\n  nodes:\n{nodes}");
    let one = "    1: { remote_address: \"127.0.0.1:1\" }\n";
    let two = "    2: { remote_address: \"127.0.0.1:2\" }\n";
    let good_cluster = cluster("1", one);
    let rows = [
        ("unknown key", node("  colour: red\n"), good_cluster.clone(), vec!["node.yml", "node.colour", "5"]),
        ("missing key", "node:\n  id: \"1\"\n".to_owned(), good_cluster.clone(), vec!["node.yml", "local_address"]),
        ("key given twice", node("  id: \"2\"\n"), good_cluster.clone(), vec!["node.yml", "id", "5"]),
        ("durability", node("  durability: maybe\n"), good_cluster.clone(), vec!["node.durability", "fsync or os"]),
        (
            "address",
            node("  local_metrics_address: here\n"),
            good_cluster.clone(),
            vec!["local_metrics_address", "here"],
        ),
        (
            "more replicas than nodes",
            node(""),
            cluster("3", &[one, two].concat()),
            vec!["cluster.yml", "replica_count"],
        ),
        ("no replicas", node(""), cluster("0", one), vec!["cluster.yml", "replica_count"]),
        ("id twice", node(""), cluster("1", &[one, one].concat()), vec!["cluster.yml", "cluster.nodes.1"]),
        ("not a member", node(""), cluster("1", two), vec!["node.yml", "node.id", "cluster.yml"]),
        ("remote address", node(""), cluster("1", "    1: { remote_address: \":1\" }\n"), vec!["remote_address"]),
        ("not YAML", "node: [".to_owned(), good_cluster.clone(), vec!["node.yml"]),
        (
            "unexpanded variable",
            node("").replace("./d", "$HOME/d"),
            good_cluster.clone(),
            vec!["node.data_dir", "$HOME is not expanded"],
        ),
    ];
    let dir = TempDir::with_prefix("quorate-test-").expect("a temporary folder can be made");
    for (what, node_text, cluster_text, parts) in rows {
        let files = files_in(dir.path());
        write(&files.node_file, &node_text);
        write(&files.cluster_file, &cluster_text);
        let mut node = TestNode::new("1", 1, 2, files, dir.path());
        node.start();
        let status = node.refusal().await;
        let said = node.log_text();
        println!("{what}: {}", said.trim_end());
        assert_eq!(status.code(), Some(2), "{what}: {said}");
        assert_eq!(said.lines().count(), 1, "{what}: one line: {said}");
        assert_parts(what, &said, &parts);
        node.clear_log();
        assert!(!node.files.data_dir.exists(), "{what}: nothing was made");
    }

    let mut node = TestNode::new("1", 1, 2, files_in(&dir.path().join("nowhere")), dir.path());
    node.start();
    let status = node.refusal().await;
    assert_eq!(status.code(), Some(2), "{}", node.log_text());
    assert_parts("missing file", &node.log_text(), &["nowhere/node.yml"]);
}

fn files_in(dir: &Path) -> NodeFiles {
    NodeFiles { node_file: dir.join("node.yml"), cluster_file: dir.join("cluster.yml"), data_dir: dir.join("d") }
}

fn assert_parts(what: &str, said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{what}: no {part:?} in {said}");
    }
}

/// Kubernetes sets these in every container of a namespace that has a Service called quorate-node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_links_of_kubernetes_are_ignored_and_logged() {
    let mut cluster = Cluster::prepare(&Plan { ids: vec!["1"], replica_count: 1, ..Plan::default() });
    let node = &mut cluster.nodes[0];
    let links = [("QUORATE_NODE_SERVICE_HOST", "10.96.3.4"), ("QUORATE_NODE_PORT", "tcp://10.96.3.4:8001")];
    node.environment.extend(links.map(|(name, value)| (name.to_owned(), value.into())));
    node.start();
    node.wait_online().await;
    assert_parts("log", &node.log_text(), &["ignored", "QUORATE_NODE_SERVICE_HOST", "QUORATE_NODE_PORT"]);
    node.terminate().await;

    node.clear_log();
    node.environment.push(("QUORATE_NODE_DURABILTY".to_owned(), "os".into()));
    node.start();
    let status = node.refusal().await;
    assert_eq!(status.code(), Some(2), "{}", node.log_text());
    assert_parts("misspelt", &node.log_text(), &["QUORATE_NODE_DURABILTY", "did you mean QUORATE_NODE_DURABILITY?"]);
}

// ------------------------------------------------------------------------------------------------ ports and folders

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taken_port_is_said_by_name() {
    let mut cluster = Cluster::prepare(&Plan { ids: vec!["1"], replica_count: 1, ..Plan::default() });
    let node = &mut cluster.nodes[0];
    for (port, key) in [(node.port, "node.local_address"), (node.metrics_port, "node.local_metrics_address")] {
        let taken = TcpListener::bind(("127.0.0.1", port)).expect("the port was free");
        node.start();
        let status = node.refusal().await;
        assert!(status.code().is_some_and(|code| code != 0), "{status}: {}", node.log_text());
        assert_parts(key, &node.log_text(), &[key, &format!("127.0.0.1:{port}"), "another process listens there"]);
        assert!(!node.files.data_dir.exists(), "{key}: no folder for a node that cannot serve");
        node.clear_log();
        drop(taken);
    }
    node.start();
    node.wait_online().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folder_that_is_not_this_nodes_is_refused_and_left_alone() {
    let mut cluster = Cluster::prepare(&Plan::default());
    let dir = cluster.dir().to_owned();
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let node = &mut cluster.nodes[0];
    node.start();
    node.wait_health("started", |health| health.status() == Health::Starting).await;
    node.terminate().await;
    let folder = node.files.data_dir.clone();
    let folder_text = folder.display().to_string();
    let original = (node.files.cluster_file.clone(), node.environment.clone());

    let cluster_of = |seed, count, ids: &[&'static str]| {
        let nodes: Vec<(&str, u16)> = std::iter::zip(ids.iter().copied(), ports.iter().copied()).collect();
        cluster_yml(seed, count, &nodes)
    };
    let ids = ["1", "2", "3"];
    for (what, id, text, parts) in [
        ("another node", "2", cluster_of(0, 3, &ids), vec!["belongs to node 1", "this is node 2", "node.data_dir"]),
        ("another seed", "1", cluster_of(7, 3, &ids), vec!["seed 0", "says 7", "restore the seed"]),
        ("another replica_count", "1", cluster_of(0, 1, &ids), vec!["replica_count 3", "says 1", "restore the number"]),
        ("other ids", "1", cluster_of(0, 3, &["1", "2", "4"]), vec!["1,2,3", "1,2,4", "restore cluster.nodes"]),
    ] {
        node.files.cluster_file = dir.join("other.yml");
        write(&node.files.cluster_file, &text);
        node.environment.push(("QUORATE_NODE_ID".to_owned(), id.into()));
        assert_refuses_folder(node, what, &[parts, vec![&folder_text]].concat()).await;
        (node.files.cluster_file, node.environment) = original.clone();
    }

    let descriptor = folder.join("folder.yml");
    let descriptor_text = fs::read_to_string(&descriptor).expect("the folder has a descriptor");
    for (what, from, to, parts) in [
        ("lost store", folder.join("store"), dir.join("store.away"), vec!["store", "is missing", "has lost its data"]),
        (
            "lost folder.yml",
            descriptor.clone(),
            dir.join("descriptor.away"),
            vec!["folder.yml", "is missing", "Restore the file"],
        ),
    ] {
        fs::rename(&from, &to).expect("it can be moved");
        assert_refuses_folder(node, what, &[parts, vec![&folder_text]].concat()).await;
        fs::rename(&to, &from).expect("it can be moved");
    }
    for (what, text, parts) in [
        (
            "older format",
            descriptor_text.replace("format: 2", "format: 1"),
            vec!["format 1", "older", "empty data folders"],
        ),
        ("newer format", descriptor_text.replace("format: 2", "format: 99"), vec!["format 99", "newer"]),
        ("damaged descriptor", descriptor_text.replace("seed: 0", "seed: what"), vec!["folder.yml", "damaged"]),
        (
            "descriptor of another store",
            descriptor_text.lines().map(with_other_store_id).collect(),
            vec!["one of the two was exchanged"],
        ),
    ] {
        write(&descriptor, &text);
        assert_refuses_folder(node, what, &parts).await;
    }
    write(&descriptor, &descriptor_text);

    node.start();
    node.wait_health("started again", |health| health.status() == Health::Starting).await;
    println!("the folder, put together again, is taken");
}

fn with_other_store_id(line: &str) -> String {
    if line.starts_with("store_id: ") { format!("store_id: \"{:032x}\"\n", 1) } else { format!("{line}\n") }
}

async fn assert_refuses_folder(node: &mut TestNode, what: &str, parts: &[&str]) {
    node.clear_log();
    node.start();
    let status = node.refusal().await;
    let said = node.log_text();
    println!("{what}: {}", said.trim_end());
    assert!(status.code().is_some_and(|code| code != 0), "{what}: ended with {status}");
    assert_parts(what, &said, parts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folder_in_use_is_refused_to_a_second_process() {
    let mut cluster = Cluster::prepare(&Plan { ids: vec!["1"], replica_count: 1, ..Plan::default() });
    let first = &mut cluster.nodes[0];
    first.start();
    first.wait_online().await;
    let mut second = TestNode::new("1", ports::free_port(), 0, first.files.clone(), cluster.dir());
    second.log = cluster.dir().join("second.log");
    second.environment = vec![
        ("QUORATE_NODE_LOCAL_ADDRESS".to_owned(), second.address().into()),
        ("QUORATE_NODE_LOCAL_METRICS_ADDRESS".to_owned(), "".into()),
    ];
    let folder = second.files.data_dir.display().to_string();
    assert_refuses_folder(&mut second, "folder in use", &["in use by another process", &folder, "node.data_dir"]).await;
    cluster.nodes[0].client().set("k", "v").await.expect("the first goes on");
}

// ------------------------------------------------------------------------------------------------ peers

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_cluster_files_differ_refuse_each_other_and_both_say_so() {
    let nowhere = ports::free_port();
    for (what, seed, replica_count, added) in [
        ("seed", 7, 3, None),
        ("replica_count", 0, 1, None),
        ("ids", 0, 3, Some(("4", nowhere))),
        ("weight", 0, 3, None),
        ("zone", 0, 3, None),
    ] {
        let mut cluster = Cluster::prepare(&Plan::default());
        let addresses: Vec<(String, u16)> = cluster.nodes.iter().map(|node| (node.id.clone(), node.port)).collect();
        let mut addresses: Vec<(&str, u16)> = addresses.iter().map(|(id, port)| (id.as_str(), *port)).collect();
        addresses.extend(added);
        let other = cluster.dir().join("other.yml");
        let more = match what {
            "weight" => ", weight: 2 }",
            "zone" => ", zone: a }",
            _ => " }",
        };
        write(&other, &cluster_yml(seed, replica_count, &addresses).replace(" }", more));
        cluster.nodes[2].files.cluster_file = other;
        cluster.start_all();

        let advice = "give all nodes the same cluster file";
        for (here, there) in [(0, "3"), (1, "3"), (2, "1"), (2, "2")] {
            let node = &mut cluster.nodes[here];
            let health = node
                .wait_health("refusing, or refused", |health| peer_state(health, there) == PeerState::PeerRefused)
                .await;
            let peer = peer_of(&health, there);
            assert_parts(what, &peer.detail, &["cluster files differ", advice]);
            assert_eq!(health.status(), Health::Starting, "{what}: no cluster is bootstrapped: {health:?}");
            let differ = "cluster files differ in seed, replica_count, epoch_floor, node ids, weights or zones";
            node.wait_log(&[differ, advice]).await;
            println!("{what}: node {} of node {there}: {}", node.id, peer.detail);
        }
        let status = cluster.nodes[0]
            .cluster_client()
            .get(api::GetRequest { key: "k".to_owned(), ..Default::default() })
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_parts(what, status.message(), &["not bootstrapped", "3", "start them"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_comes_back_empty_is_refused_until_its_folder_is_restored() {
    let mut cluster = Cluster::start().await;
    cluster.client().set("before", "1").await.expect("all are online");
    let away = cluster.dir().join("away");
    cluster.nodes[2].kill();
    let folder = cluster.nodes[2].files.data_dir.clone();
    fs::rename(&folder, &away).expect("a folder can be moved");

    cluster.nodes[2].start();
    assert_node_3_is_refused(&mut cluster, "known by another data folder", "restore the original folder").await;

    cluster.nodes[2].kill();
    fs::remove_dir_all(&folder).expect("a folder can be removed");
    fs::rename(&away, &folder).expect("a folder can be moved");
    cluster.nodes[2].start();
    cluster.wait_all_linked().await;
    let read = cluster.nodes[2].client().get("during").await.expect("node 3 is back");
    assert!(read.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_comes_back_with_an_older_copy_is_refused_until_the_latest_is_restored() {
    let mut cluster = Cluster::start().await;
    cluster.client().set("before", "1").await.expect("all are online");
    cluster.nodes[2].terminate().await;
    let folder = cluster.nodes[2].files.data_dir.clone();
    let (older, latest) = (cluster.dir().join("older"), cluster.dir().join("latest"));
    copy_folder(&folder, &older);
    cluster.nodes[2].start();
    cluster.wait_all_linked().await;
    cluster.nodes[2].client().set("forgotten", "1").await.expect("all are online");
    cluster.nodes[2].terminate().await;
    fs::rename(&folder, &latest).expect("a folder can be moved");
    fs::rename(&older, &folder).expect("a folder can be moved");

    // Each start raises the copy's epoch, at last above the epoch that its peers have seen. It is still an older copy.
    for _ in 0..4 {
        cluster.nodes[2].clear_log();
        cluster.nodes[2].start();
        assert_node_3_is_refused(&mut cluster, "older copy", "restore the latest folder").await;
        cluster.nodes[2].terminate().await;
    }

    fs::remove_dir_all(&folder).expect("a folder can be removed");
    fs::rename(&latest, &folder).expect("a folder can be moved");
    cluster.nodes[2].start();
    cluster.wait_all_linked().await;
    let read = cluster.nodes[2].client().get("forgotten").await.expect("node 3 is back");
    assert!(read.is_some());
}

/// Both sides say so in health and log, with what to do, and the other nodes go on.
async fn assert_node_3_is_refused(cluster: &mut Cluster, why: &str, advice: &str) {
    let health = cluster.nodes[2].wait_health("refused", |health| health.status() == Health::Refused).await;
    println!("node 3, {:?}: {}", health.status(), health.detail);
    assert_parts("detail of node 3", &health.detail, &[why, advice]);
    cluster.nodes[2].wait_log(&["the peer refuses this node", why, advice]).await;
    for node in &mut cluster.nodes[..2] {
        let health =
            node.wait_health("refusing node 3", |health| peer_state(health, "3") == PeerState::PeerRefused).await;
        assert_eq!(health.status(), Health::Online, "two of three are a majority: {health:?}");
        assert_parts("detail of the peer", &peer_of(&health, "3").detail, &[why, advice]);
        node.wait_log(&["this node refuses the peer", why, advice]).await;
        let client = node.client();
        client.set("during", "1").await.expect("two of three go on");
        assert!(client.get("before").await.expect("two of three go on").is_some());
    }
    let began = Instant::now();
    let status = cluster.nodes[2]
        .cluster_client()
        .get(api::GetRequest { key: "before".to_owned(), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_parts("a request to node 3", status.message(), &["refused by", advice]);
    assert!(began.elapsed() < Duration::from_secs(2), "it is known at once: {:?}", began.elapsed());
}

fn peer_of<'a>(health: &'a HealthResponse, id: &str) -> &'a api::PeerHealth {
    health.peers.iter().find(|peer| peer.node_id == id).unwrap_or_else(|| panic!("no node {id} in {health:?}"))
}

fn peer_state(health: &HealthResponse, id: &str) -> PeerState {
    peer_of(health, id).state()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_serves_where_all_nodes_use_it_and_a_restart_is_a_lost_disk() {
    let mut cluster = Cluster::start_as(&Plan { memory: true, ..Plan::default() }).await;
    let client = cluster.client();
    client.set("before", "1").await.expect("all are online");
    for node in &cluster.nodes {
        assert!(node.client().get("before").await.expect("all are online").is_some());
        assert!(!node.files.data_dir.exists(), "memory makes no folder");
    }
    cluster.nodes[2].terminate().await;
    cluster.nodes[2].start();
    assert_node_3_is_refused(&mut cluster, "known by another data folder", "restore the original folder").await;
}

// ------------------------------------------------------------------------------------------------ messages

/// One request, and its refusal.
struct Row {
    what: &'static str,
    method: &'static str,
    message: Vec<u8>,
    code: Code,
    reason: Option<FailureReason>,
    parts: Vec<String>,
}

fn row<const N: usize>(
    what: &'static str,
    method: &'static str,
    message: &impl prost::Message,
    (code, reason): (Code, FailureReason),
    parts: [&str; N],
) -> Row {
    let parts = parts.map(str::to_owned).into();
    Row { what, method, message: message.encode_to_vec(), code, reason: Some(reason), parts }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_message_is_refused_with_what_is_accepted() {
    let plan = Plan { replica_count: 1, operator_writes: true, memory: true, ..Plan::default() };
    let mut cluster = Cluster::prepare(&plan);
    cluster.nodes[1].environment.push(("QUORATE_NODE_OPERATOR_WRITES".to_owned(), "false".into()));
    cluster.start_all();
    cluster.wait_all_linked().await;
    let (held, foreign) = keys_of_node_1();
    let set = api::NodeSetRequest { entry: Some(entry(&held, "1")), ..Default::default() };
    let stamp =
        cluster.nodes[0].node_client().set(set).await.expect("node 1 holds the key").into_inner().clock.unwrap();

    for row in rows(&held, &foreign, &stamp) {
        let status = call(&cluster.nodes[0], row.method, row.message).await;
        let status = status.expect_err(row.what);
        println!("{}: {:?}: {}", row.what, status.code(), status.message());
        assert_eq!(status.code(), row.code, "{}: {status:?}", row.what);
        assert_eq!(Failure::from_status(&status).map(|failure| failure.reason), row.reason, "{}: {status:?}", row.what);
        assert_parts(row.what, status.message(), &row.parts.iter().map(String::as_str).collect::<Vec<_>>());
    }

    for (method, message) in [
        ("Node/Set", api::NodeSetRequest { entry: Some(entry(&held, "2")), ..Default::default() }.encode_to_vec()),
        ("Clock/Set", api::ClockSetRequest { clock: Some(clock(1, 5, "1")) }.encode_to_vec()),
    ] {
        let status = call(&cluster.nodes[1], method, message).await.expect_err("node 2 allows no operator's writes");
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert_eq!(Failure::from_status(&status).unwrap().reason, FailureReason::OperatorWritesOff);
        assert_parts(method, status.message(), &["operator_writes"]);
    }
    // After all this, the node serves as before.
    let held_now = cluster.nodes[0].client().get(held.as_str()).await.expect("node 1 serves").expect("it was set");
    assert_eq!(&held_now.value.bytes()[..], b"1", "nothing that was refused was done");
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn rows(held: &str, foreign: &str, stamp: &api::ClockValue) -> Vec<Row> {
    let invalid = (Code::InvalidArgument, FailureReason::InvalidArgument);
    let not_replica = (Code::FailedPrecondition, FailureReason::NotReplica);
    let too_far = (Code::FailedPrecondition, FailureReason::ClockRaiseTooFar);
    let not_greater = (Code::FailedPrecondition, FailureReason::StampNotGreater);
    let held_stamp = format!("{}.{}@{}", stamp.epoch, stamp.clock, stamp.node);
    let get = |key: &str| api::GetRequest { key: key.to_owned(), ..Default::default() };
    let long = "x".repeat(KEY_BYTES_MAX + 1);
    let clocked = |entry: Option<api::Entry>, clock: Option<api::ClockValue>, tombstone| api::NodeSetRequest {
        clocked_entry: Some(api::ClockedEntry { entry, clock, tombstone }),
        entry: None,
    };
    let large = |bytes: usize| api::SetRequest {
        entry: Some(api::Entry {
            key: "k".to_owned(),
            content: Some(api::entry::Content::Binary(vec![0; bytes].into())),
        }),
        ..Default::default()
    };
    let mut rows = vec![
        row("empty key", "Cluster/Get", &get(""), invalid, ["key", "empty", "1 to 4096 bytes"]),
        row("long key", "Cluster/Get", &get(&long), invalid, ["4097 bytes", "at most 4096"]),
        row("empty key", "Node/Get", &get(""), invalid, ["empty"]),
        row("empty key", "Cluster/Delete", &get(""), invalid, ["empty"]),
        row(
            "no entry",
            "Cluster/Set",
            &api::SetRequest { entry: None, ..Default::default() },
            invalid,
            ["entry is missing"],
        ),
        row(
            "no key",
            "Cluster/Set",
            &api::SetRequest { entry: Some(entry("", "v")), ..Default::default() },
            invalid,
            ["entry.key", "empty"],
        ),
        row("large value", "Cluster/Set", &large(VALUE_BYTES_MAX + 1), invalid, ["62914561 bytes", "at most 62914560"]),
        row("neither", "Node/Set", &api::NodeSetRequest::default(), invalid, ["clocked_entry", "entry", "missing"]),
        row(
            "both",
            "Node/Set",
            &api::NodeSetRequest { entry: Some(entry(held, "v")), ..clocked(Some(entry(held, "v")), None, false) },
            invalid,
            ["give one of the two"],
        ),
        row("no stamp", "Node/Set", &clocked(Some(entry(held, "v")), None, false), invalid, ["clocked_entry.clock"]),
        row("stamp alone", "Node/Set", &clocked(None, Some(clock(1, 9, "1")), false), invalid, ["clocked_entry.entry"]),
        row(
            "tombstone with a value",
            "Node/Set",
            &clocked(Some(entry(held, "v")), Some(clock(1, 9, "1")), true),
            invalid,
            ["tombstone has no value"],
        ),
        row(
            "writer that is no node id",
            "Node/Set",
            &clocked(Some(entry(held, "v")), Some(clock(1, 9, "a,b")), false),
            invalid,
            ["clock.node", "','"],
        ),
        row("key held elsewhere", "Node/Get", &get(foreign), not_replica, ["does not hold slot", "ask node"]),
        row(
            "key held elsewhere",
            "Node/Set",
            &api::NodeSetRequest { entry: Some(entry(foreign, "v")), ..Default::default() },
            not_replica,
            ["does not hold slot", "ask node"],
        ),
        row(
            "stamp that is held",
            "Node/Set",
            &clocked(Some(entry(held, "1")), Some(stamp.clone()), false),
            not_greater,
            [&held_stamp],
        ),
        row(
            "stamp below the one held",
            "Node/Set",
            &clocked(Some(entry(held, "v")), Some(clock(0, 1, "1")), false),
            not_greater,
            [&held_stamp],
        ),
        row(
            "stamp that is held with another value",
            "Node/Set",
            &clocked(Some(entry(held, "v")), Some(stamp.clone()), false),
            (Code::DataLoss, FailureReason::Damaged),
            ["held with another content", "give another one"],
        ),
        row(
            "stamp far ahead",
            "Node/Set",
            &clocked(Some(entry(held, "v")), Some(clock(1, u64::MAX, "1")), false),
            too_far,
            ["too far above"],
        ),
        row("no clock", "Clock/Set", &api::ClockSetRequest { clock: None }, invalid, ["clock is missing"]),
        row(
            "clock far ahead",
            "Clock/Set",
            &api::ClockSetRequest { clock: Some(clock(u64::MAX, 0, "")) },
            too_far,
            ["too far above"],
        ),
        row(
            "long prefix",
            "Node/Info",
            &api::InfoRequest { prefix: long.clone(), limit: 0 },
            invalid,
            ["prefix", "4097 bytes"],
        ),
    ];
    // The transport refuses, in its words, bytes that never become a request.
    let transport = |what, method, message, code, reason, parts: &[&str]| Row {
        what,
        method,
        message,
        code,
        reason: Some(reason),
        parts: parts.iter().map(|part| (*part).to_owned()).collect(),
    };
    rows.extend([
        transport(
            "key of no text",
            "Cluster/Get",
            vec![10, 2, 0xff, 0xfe],
            Code::InvalidArgument,
            FailureReason::InvalidArgument,
            &["nothing was done", "key", "UTF-8"],
        ),
        transport(
            "no protobuf",
            "Cluster/Set",
            vec![0xff],
            Code::InvalidArgument,
            FailureReason::NotApplied,
            &["nothing was done", "failed to decode"],
        ),
        transport(
            "message too large",
            "Cluster/Set",
            large(MESSAGE_BYTES_MAX).encode_to_vec(),
            Code::OutOfRange,
            FailureReason::NotApplied,
            &["nothing was done", "too large"],
        ),
        transport("unknown method", "Cluster/Steal", Vec::new(), Code::Unimplemented, FailureReason::NotApplied, &[]),
        transport("unknown service", "Nobody/Get", Vec::new(), Code::Unimplemented, FailureReason::NotApplied, &[]),
    ]);
    rows
}

/// A key that only node 1 of three holds, and a key that it does not hold.
fn keys_of_node_1() -> (String, String) {
    let node_ids = ["1", "2", "3"].map(|id| NodeId::new(id).expect("it is well formed")).into();
    let placement = Placement::new(ClusterParameters::plain(0, 1, node_ids));
    let find = |holds: bool| {
        let mut keys = (0..).map(|number| format!("key-{number}"));
        let is_so = |key: &String| {
            let key = Key::new(key.clone()).expect("it is well formed");
            placement.holds(NodeIndex(0), placement.slot(&key)) == holds
        };
        keys.find(is_so).expect("a third of all keys is held by each")
    };
    (find(true), find(false))
}

fn entry(key: &str, value: &str) -> api::Entry {
    api::Entry { key: key.to_owned(), content: Some(api::entry::Content::Value(value.to_owned())) }
}

fn clock(epoch: u64, clock: u64, node: &str) -> api::ClockValue {
    api::ClockValue { epoch, clock, node: node.to_owned() }
}

/// Sends `message` unchanged, whether it is well formed or not.
async fn call(node: &TestNode, method: &str, message: Vec<u8>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(node.channel()).max_encoding_message_size(usize::MAX);
    grpc.ready().await.expect("the node is there");
    let path = PathAndQuery::try_from(format!("/api.{method}")).expect("it is a path");
    let mut request = Request::new(message);
    request.set_timeout(START_TIME_MAX);
    // One answer is enough, of a stream too.
    let answers = grpc.server_streaming(request, path, Bytes).await?;
    answers.into_inner().message().await.map(drop)
}

/// A codec that does not look into messages.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(to, &item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        bytes::Buf::advance(from, bytes::Buf::remaining(from));
        Ok(Some(()))
    }
}
