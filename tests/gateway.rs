//! A node's gateway over real connections: what clients, tools and probes are answered, when all is well and when not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::admin;
use quorate::api;
use quorate::api::clock_client::ClockClient;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::entry::Content as Arm;
use quorate::api::node_client::NodeClient;
use quorate::gateway::grpc;
use quorate::limits::{MESSAGE_BYTES_MAX, VALUE_BYTES_MAX};
use quorate::protocol::placement::Placement;
use quorate::runtime::{self, NodeHandle, Options, RunningNode};
use quorate::storage::memory::MemoryStore;
use quorate::storage::{Cursor, KeysPage, PageBounds, ReadOutcome, ReadTier, Store, StoreError, StoreStatistics};
use quorate::types::{
    Batch, Checksum, Clock, ClusterParameters, Content, KEY_BYTES_MAX, Key, Lookup, Meta, NodeId, NodeIndex, ReadKind,
    Record, Slot, Stamp, StoreId, Value,
};
use quorate::wire::failure::{Failure, FailureReason};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// How the nodes of a test differ from the usual.
struct Plan {
    nodes: u16,
    replica_count: usize,
    operator_writes: bool,
    requests_in_flight_max: usize,
    store: fn(u16) -> Arc<dyn Store>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            nodes: 1,
            replica_count: 1,
            operator_writes: true,
            requests_in_flight_max: 1_000,
            store: |n| Arc::new(MemoryStore::new(StoreId(u128::from(n)))),
        }
    }
}

/// A node that serves.
struct Served {
    node: RunningNode,
    address: String,
    admin_address: String,
    shutdown: CancellationToken,
    gateway: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Served {
    fn handle(&self) -> &NodeHandle {
        self.node.handle()
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn cluster(&self) -> ClusterClient<Channel> {
        let client = ClusterClient::new(self.channel().await);
        client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(2 * MESSAGE_BYTES_MAX)
    }

    async fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel().await)
    }

    async fn clock(&self) -> ClockClient<Channel> {
        ClockClient::new(self.channel().await)
    }

    async fn health(&self) -> api::HealthResponse {
        self.node().await.health(api::HealthRequest {}).await.unwrap().into_inner()
    }

    /// The head and the body of `GET path`, over plain HTTP/1.
    async fn get(&self, path: &str) -> (String, String) {
        self.get_as(path, "*/*").await
    }

    /// The same, for a reader that accepts these formats.
    async fn get_as(&self, path: &str, accept: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.admin_address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// Ends it without a word, as seen by its peers.
    async fn stop(self) {
        self.node.unlink().await;
        self.shutdown.cancel();
        self.gateway.await.unwrap().unwrap();
        self.node.stop().await;
    }
}

/// Starts the nodes of `plan`, the first `started` of them.
async fn start_some(plan: Plan, started: usize) -> Vec<Served> {
    let node_ids = (1..=plan.nodes).map(|n| NodeId::new(&n.to_string()).unwrap()).collect();
    let parameters = ClusterParameters { seed: 0, replica_count: plan.replica_count, node_ids };
    let placement = Arc::new(Placement::new(parameters));
    let mut listeners = Vec::new();
    for _ in 0..plan.nodes {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses: Vec<String> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
    let mut served = Vec::new();
    for (n, listener) in (0..plan.nodes).zip(listeners).take(started) {
        let options = Options {
            me: NodeIndex(n),
            placement: Arc::clone(&placement),
            addresses: addresses.clone(),
            store: (plan.store)(n),
            operator_writes: plan.operator_writes,
            requests_in_flight_max: plan.requests_in_flight_max,
            request_bytes_in_flight_max: 256 << 20,
        };
        let node = runtime::start(options).unwrap();
        let shutdown = CancellationToken::new();
        let admin_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin_address = admin_listener.local_addr().unwrap().to_string();
        tokio::spawn(admin::serve(admin_listener, node.handle().clone(), shutdown.clone()));
        let gateway = tokio::spawn(grpc::serve(listener, node.handle().clone(), shutdown.clone()));
        served.push(Served { node, address: addresses[usize::from(n)].clone(), admin_address, shutdown, gateway });
    }
    served
}

async fn start(plan: Plan) -> Vec<Served> {
    let nodes = usize::from(plan.nodes);
    let served = start_some(plan, nodes).await;
    for served in &served {
        until(async || {
            let status = served.handle().status().await.unwrap();
            status.unready.is_none() && status.all_talk()
        })
        .await;
    }
    served
}

async fn start_one() -> Served {
    start(Plan::default()).await.remove(0)
}

async fn until(condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "it did not come to pass within 10 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn entry(key: &str, content: Option<Arm>) -> api::Entry {
    api::Entry { key: key.to_owned(), content }
}

fn text(key: &str, value: &str) -> api::Entry {
    entry(key, Some(Arm::Value(value.to_owned())))
}

fn set(key: &str, value: &str) -> api::SetRequest {
    api::SetRequest { entry: Some(text(key, value)) }
}

fn get(key: &str) -> api::GetRequest {
    api::GetRequest { key: key.to_owned() }
}

fn with_timeout<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

fn reason(status: &Status) -> Option<FailureReason> {
    Failure::from_status(status).map(|failure| failure.reason)
}

#[tokio::test]
async fn what_was_written_is_read_through_the_arm_it_was_written_through() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    let nothing = cluster.get(get("a")).await.unwrap().into_inner();
    assert_eq!((nothing.entry, nothing.clock), (None, None), "a missing key is an answer");

    let mut last = api::ClockValue::default();
    for (given, read) in [
        (Some(Arm::Value("a-value".into())), Arm::Value("a-value".into())),
        (Some(Arm::Binary(vec![0xff, 0, 0xfe].into())), Arm::Binary(vec![0xff, 0, 0xfe].into())),
        (Some(Arm::Binary("text".into())), Arm::Binary("text".into())),
        (None, Arm::Value(String::new())),
    ] {
        let request = api::SetRequest { entry: Some(entry("a", given)) };
        let stamp = cluster.set(request).await.unwrap().into_inner().clock.unwrap();
        assert_eq!(stamp.node, "1");
        assert!((stamp.epoch, stamp.clock) > (last.epoch, last.clock));
        let got = cluster.get(get("a")).await.unwrap().into_inner();
        assert_eq!(got.entry, Some(entry("a", Some(read))));
        assert_eq!(got.clock.as_ref(), Some(&stamp));
        last = stamp;
    }

    let deleted = cluster.delete(api::DeleteRequest { key: "a".into() }).await.unwrap().into_inner().clock;
    let got = cluster.get(get("a")).await.unwrap().into_inner();
    assert_eq!((got.entry, got.clock), (None, deleted), "a deletion has a stamp and no entry");
}

#[tokio::test]
async fn bad_input_says_which_field_and_what_is_accepted() {
    let served = start_one().await;
    let (mut cluster, mut node, mut clock) = (served.cluster().await, served.node().await, served.clock().await);
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let large = vec![0_u8; VALUE_BYTES_MAX + 1];
    let set_large = api::SetRequest { entry: Some(entry("k", Some(Arm::Binary(large.into())))) };
    let stamped = |node: &str| api::ClockedEntry {
        entry: Some(text("k", "v")),
        clock: Some(api::ClockValue { epoch: 1, clock: 1, node: node.into() }),
        tombstone: false,
    };
    let both = api::NodeSetRequest { clocked_entry: Some(stamped("1")), entry: Some(text("k", "v")) };
    let unknown_writer = api::NodeSetRequest { clocked_entry: Some(stamped("")), entry: None };
    for (status, parts) in [
        (cluster.get(get("")).await.unwrap_err(), ["the key is empty", "1 to 4096"]),
        (cluster.get(get(&long)).await.unwrap_err(), ["4097 bytes", "at most 4096"]),
        (cluster.set(set(&long, "v")).await.unwrap_err(), ["entry.key", "at most 4096"]),
        (cluster.set(api::SetRequest { entry: None }).await.unwrap_err(), ["entry is missing", "\"key\""]),
        (cluster.set(set_large).await.unwrap_err(), ["entry.binary", "at most 62914560"]),
        (cluster.delete(api::DeleteRequest::default()).await.unwrap_err(), ["the key is empty", "UTF-8"]),
        (node.get(get("")).await.unwrap_err(), ["the key is empty", "1 to 4096"]),
        (node.set(both).await.unwrap_err(), ["clocked_entry and entry", "one of the two"]),
        (node.set(unknown_writer).await.unwrap_err(), ["clock.node", "empty"]),
        (node.info(api::InfoRequest { prefix: long.clone(), limit: 0 }).await.unwrap_err(), ["prefix", "4096"]),
        (clock.set(api::ClockSetRequest { clock: None }).await.unwrap_err(), ["clock is missing", "epoch"]),
    ] {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(reason(&status), Some(FailureReason::InvalidArgument), "{status}");
        assert!(parts.iter().all(|part| status.message().contains(part)), "{}", status.message());
    }
}

#[tokio::test]
async fn largest_value_passes_and_a_larger_message_is_refused_in_words() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    let largest = entry("k", Some(Arm::Binary(vec![7; VALUE_BYTES_MAX].into())));
    cluster.set(api::SetRequest { entry: Some(largest.clone()) }).await.unwrap();
    let got = cluster.get(get("k")).await.unwrap().into_inner();
    assert!(got.entry == Some(largest), "it is read as it was written");

    let too_large = entry("k", Some(Arm::Binary(vec![7; MESSAGE_BYTES_MAX + 1].into())));
    let status = cluster.set(api::SetRequest { entry: Some(too_large) }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::OutOfRange, Some(FailureReason::NotApplied)));
    assert!(status.message().contains("the limit is: 67108864 bytes"), "{status}");
}

#[tokio::test]
async fn operator_writes_keep_the_greater_stamp() {
    let served = start_one().await;
    let (mut node, mut clock) = (served.node().await, served.clock().await);
    let stamped = |epoch, counter, value: &str| api::NodeSetRequest {
        clocked_entry: Some(api::ClockedEntry {
            entry: Some(text("a", value)),
            clock: Some(api::ClockValue { epoch, clock: counter, node: "9".into() }),
            tombstone: false,
        }),
        entry: None,
    };
    assert_eq!(node.get(get("a")).await.unwrap().into_inner().clocked_entry, None);
    node.set(stamped(5, 7, "new")).await.unwrap();
    let status = node.set(stamped(5, 6, "old")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, Some(FailureReason::StampNotGreater)));
    assert!(status.message().contains("5.7@9"), "{status}");
    let held = node.get(get("a")).await.unwrap().into_inner().clocked_entry.unwrap();
    assert_eq!((held.entry, held.tombstone), (Some(text("a", "new")), false));

    let now = clock.get(api::ClockGetRequest {}).await.unwrap().into_inner().clock.unwrap();
    assert!((now.epoch, now.clock) >= (5, 7), "a stamp that was given is observed");
    assert_eq!(now.node, "1");
    let unstamped = api::NodeSetRequest { clocked_entry: None, entry: Some(text("a", "newer")) };
    let given = node.set(unstamped).await.unwrap().into_inner().clock.unwrap();
    assert!((given.epoch, given.clock) > (now.epoch, now.clock), "this node stamps above all that it holds");

    let to = api::ClockValue { epoch: now.epoch, clock: now.clock + 1_000, node: String::new() };
    let raised = clock.set(api::ClockSetRequest { clock: Some(to.clone()) }).await.unwrap().into_inner().clock.unwrap();
    assert_eq!((raised.epoch, raised.clock), (to.epoch, to.clock));
    let far = api::ClockValue { epoch: u64::MAX, ..to };
    let status = clock.set(api::ClockSetRequest { clock: Some(far) }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, Some(FailureReason::ClockRaiseTooFar)));
}

#[tokio::test]
async fn operator_writes_that_are_off_are_refused_with_the_key_that_allows_them() {
    let served = start(Plan { operator_writes: false, ..Plan::default() }).await.remove(0);
    let set_node = api::NodeSetRequest { clocked_entry: None, entry: Some(text("a", "b")) };
    let set_clock = api::ClockSetRequest { clock: Some(api::ClockValue::default()) };
    for status in
        [served.node().await.set(set_node).await.unwrap_err(), served.clock().await.set(set_clock).await.unwrap_err()]
    {
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::FailedPrecondition, Some(FailureReason::OperatorWritesOff))
        );
        assert!(status.message().contains("node.operator_writes: true"), "{status}");
    }
    served.cluster().await.set(set("a", "b")).await.unwrap();
}

#[tokio::test]
async fn key_of_others_is_served_by_the_cluster_and_refused_by_the_node() {
    let nodes = start(Plan { nodes: 2, replica_count: 1, ..Plan::default() }).await;
    let placement = nodes[0].handle().placement();
    let elsewhere = (0..100)
        .map(|n| format!("key-{n}"))
        .find(|key| !placement.holds(NodeIndex(0), placement.slot(&Key::new(key.clone()).unwrap())))
        .unwrap();
    nodes[0].cluster().await.set(set(&elsewhere, "v")).await.unwrap();
    let got = nodes[0].cluster().await.get(get(&elsewhere)).await.unwrap().into_inner();
    assert_eq!(got.entry, Some(text(&elsewhere, "v")));
    let status = nodes[0].node().await.get(get(&elsewhere)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, Some(FailureReason::NotReplica)));
    assert!(status.message().contains("ask node 2"), "{status}");
    assert_eq!(Failure::from_status(&status).unwrap().replicas[0].node.as_str(), "2");
}

#[tokio::test]
async fn lost_majority_is_answered_before_the_deadline_with_who_said_what() {
    let mut nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let survivor = nodes.remove(0);
    let (mut cluster, mut node) = (survivor.cluster().await, survivor.node().await);
    cluster.set(set("a", "v")).await.unwrap();
    let health = survivor.health().await;
    assert_eq!((health.status(), health.detail.as_str()), (api::Health::Online, ""));
    assert_eq!(health.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(health.peers.iter().map(api::PeerHealth::state).collect::<Vec<_>>(), [api::PeerState::PeerLinked; 2]);

    for other in nodes {
        other.stop().await;
    }
    until(async || !survivor.handle().status().await.unwrap().peers.iter().any(|p| p.view == TALKING)).await;

    let timeout = Duration::from_millis(400);
    let (mut reading, mut writing) = (cluster.clone(), cluster.clone());
    let began = Instant::now();
    let (read, written) =
        tokio::join!(reading.get(with_timeout(get("a"), timeout)), writing.set(with_timeout(set("a", "w"), timeout)),);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "it is tried until shortly before the deadline: {took:?}");
    for (status, expected, words) in [
        (read.unwrap_err(), FailureReason::NoQuorum, "not read"),
        (written.unwrap_err(), FailureReason::NotApplied, "not written, certainly"),
    ] {
        assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(expected)), "{status}");
        let message = status.message();
        for part in [words, "2 of the 3 replicas", "1 did", "1 answered", "2 is not reachable", "3 is not reachable"] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
        let failure = Failure::from_status(&status).unwrap();
        let key = Key::new("a").unwrap();
        assert_eq!(failure.slot, Some(survivor.handle().placement().slot(&key)));
        assert_eq!((failure.needed, failure.replicas.len()), (Some(2), 3));
    }

    let health = survivor.health().await;
    assert_eq!(health.status(), api::Health::Degraded);
    assert!(health.detail.contains("start nodes 2, 3"), "{}", health.detail);
    assert!(health.peers[0].detail.contains("not reachable at 127.0.0.1:"), "{}", health.peers[0].detail);
    let (head, body) = survivor.get("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200") && body.starts_with("ready, but: "), "{head} {body}");
    let kept = node.get(get("a")).await.unwrap().into_inner().clocked_entry.unwrap();
    assert_eq!(kept.entry, Some(text("a", "v")), "what this replica holds is read without the others");

    let info = cluster.info(api::ClusterInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.replication_level, info.node_id.as_str()), (3, "1"));
    let states: Vec<_> = info.storage_nodes.iter().map(|n| (n.id.as_str(), n.state(), n.slots)).collect();
    let away = api::PeerState::PeerUnreachable;
    assert_eq!(states, [("1", api::PeerState::PeerSelf, 65_536), ("2", away, 65_536), ("3", away, 65_536)]);
    assert!(info.storage_nodes.iter().all(|n| n.last_seen.is_some() && n.address.starts_with("127.0.0.1:")));
}

const TALKING: quorate::protocol::PeerView = quorate::protocol::PeerView::Talking;

#[tokio::test]
async fn node_of_a_cluster_that_has_not_formed_says_who_is_missing() {
    let served = start_some(Plan { nodes: 3, replica_count: 3, ..Plan::default() }, 1).await.remove(0);
    until(async || served.health().await.detail.contains("nodes 2, 3")).await;
    assert_eq!(served.health().await.status(), api::Health::Starting);
    let mut cluster = served.cluster().await;
    let status = cluster.set(set("a", "v")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(FailureReason::NotApplied)));
    assert!(status.message().contains("nodes 2, 3"), "{status}");
    assert_eq!(Failure::from_status(&status).unwrap().replicas.len(), 3);
    let status = cluster.get(get("a")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(FailureReason::NotReady)));

    let mut health = HealthClient::new(served.channel().await);
    let checked = health.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(checked.status(), ServingStatus::NotServing);
    let (head, body) = served.get("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503") && body.contains("nodes 2, 3"), "{head} {body}");
    let (head, _) = served.get("/livez").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn node_that_drains_refuses_as_not_applied_and_closes_over_streams_that_never_end() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    cluster.set(set("a", "v")).await.unwrap();
    let mut health = HealthClient::new(served.channel().await);
    let check = || HealthCheckRequest { service: "api.Cluster".into() };
    until(async || {
        let checked = health.clone().check(check()).await.unwrap().into_inner();
        checked.status() == ServingStatus::Serving
    })
    .await;
    let mut watched = health.watch(check()).await.unwrap().into_inner();
    assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::Serving);

    served.node.drain().await;
    let status = cluster.set(set("a", "w")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(FailureReason::NotApplied)));
    assert!(status.message().contains("ask another one"), "{status}");
    assert_eq!(served.health().await.status(), api::Health::Draining);
    assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);

    served.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(3), served.gateway).await;
    ended.expect("a watch does not keep it open").unwrap().unwrap();
    served.node.stop().await;
    let status = cluster.set(set("a", "w")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn node_with_as_much_to_do_as_it_may_says_so_at_once() {
    let served = start(Plan { requests_in_flight_max: 0, ..Plan::default() }).await.remove(0);
    let mut cluster = served.cluster().await;
    let status = cluster.set(set("a", "v")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, Some(FailureReason::NotApplied)));
    assert!(status.message().contains("node.requests_in_flight_max"), "{status}");
    let status = cluster.get(get("a")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, Some(FailureReason::NotReady)));
    assert_eq!(served.health().await.status(), api::Health::Online, "it can still be asked how it is");
}

fn batch(keys: impl IntoIterator<Item = impl Into<String>>) -> api::BatchGetRequest {
    api::BatchGetRequest { keys: keys.into_iter().map(Into::into).collect() }
}

#[tokio::test]
async fn batch_is_answered_in_the_order_of_its_keys() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let mut cluster = nodes[0].cluster().await;
    let a = cluster.set(set("a", "1")).await.unwrap().into_inner().clock;
    let b = nodes[1].cluster().await.set(set("b", "2")).await.unwrap().into_inner().clock;
    let deleted = cluster.delete(api::DeleteRequest { key: "c".into() }).await.unwrap().into_inner().clock;
    let result = |key: &str, entry, clock: &Option<_>| api::BatchGetResult {
        key: key.into(),
        entry,
        clock: clock.clone(),
        error: None,
    };
    let results = cluster.batch_get(batch(["b", "none", "a", "c", "b"])).await.unwrap().into_inner().results;
    let b = result("b", Some(text("b", "2")), &b);
    let expected =
        [b.clone(), result("none", None, &None), result("a", Some(text("a", "1")), &a), result("c", None, &deleted), b];
    assert_eq!(results, expected, "a key that is given twice is read twice");

    let names: Vec<String> = (0..1_000).map(|n| format!("{}-{n}", "k".repeat(KEY_BYTES_MAX - 10))).collect();
    let results = cluster.batch_get(batch(names.clone())).await.unwrap().into_inner().results;
    assert_eq!(results.iter().map(|result| &result.key).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert!(results.iter().all(|result| result.error.is_none()));

    let client = quorate::Client::new(nodes.iter().map(|node| node.address.clone())).unwrap();
    let found = client.batch_get(["a", "none"]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().as_ref().unwrap().value, Value::Text("1".into()));
    assert!(found[1].as_ref().unwrap().is_none());
}

#[tokio::test]
async fn batch_that_is_not_valid_says_what_is_accepted() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    for (keys, part) in [
        (Vec::new(), "0 keys are given: 1 to 1000 are accepted"),
        (vec!["k".to_owned(); 1_001], "1001 keys are given: 1 to 1000 are accepted"),
        (vec!["a".to_owned(), String::new()], "keys[1]: the key is empty"),
        (vec!["k".repeat(KEY_BYTES_MAX + 1)], "keys[0]"),
    ] {
        let status = cluster.batch_get(batch(keys)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, Some(FailureReason::InvalidArgument)));
        assert!(status.message().contains(part), "{status}");
    }
}

#[tokio::test]
async fn values_beyond_the_room_of_a_batch_have_an_error_of_their_own() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    for n in 0..4 {
        let large = entry(&format!("large-{n}"), Some(Arm::Binary(vec![n; VALUE_BYTES_MAX / 2].into())));
        cluster.set(api::SetRequest { entry: Some(large) }).await.unwrap();
    }
    cluster.set(set("small", "v")).await.unwrap();
    let keys = ["large-0", "large-1", "large-2", "large-3"];
    let results = cluster.batch_get(batch(keys)).await.unwrap().into_inner().results;
    let (fit, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(|result| result.error.is_none());
    assert_eq!((fit.len(), refused.len()), (2, 2));
    for result in fit {
        assert!(
            matches!(result.entry.unwrap().content, Some(Arm::Binary(value)) if value.len() == VALUE_BYTES_MAX / 2)
        );
    }
    for result in refused {
        let error = result.error.unwrap();
        assert_eq!((Code::from(error.code), error.reason.as_str()), (Code::ResourceExhausted, "NOT_READY"));
        assert!(error.message.contains("62914560 bytes together") && error.message.contains("alone"), "{error:?}");
    }
    let results = cluster.batch_get(batch(["large-0", "small"])).await.unwrap().into_inner().results;
    assert!(results.iter().all(|result| result.error.is_none()));
}

#[tokio::test]
async fn keys_of_a_batch_without_a_majority_fail_alone_and_by_its_deadline() {
    let mut nodes = start(Plan { nodes: 5, replica_count: 3, ..Plan::default() }).await;
    let mut cluster = nodes[0].cluster().await;
    let keys: Vec<String> = (0..100).map(|n| format!("key-{n}")).collect();
    for key in &keys {
        cluster.set(set(key, "v")).await.unwrap();
    }
    let gone = [NodeIndex(3), NodeIndex(4)];
    for other in nodes.drain(3..) {
        other.stop().await;
    }
    until(async || {
        let status = nodes[0].handle().status().await.unwrap();
        status.peers.iter().filter(|peer| peer.view == TALKING).count() == 2
    })
    .await;

    let began = Instant::now();
    let request = with_timeout(batch(keys.clone()), Duration::from_secs(1));
    let results = cluster.batch_get(request).await.unwrap().into_inner().results;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let placement = nodes[0].handle().placement();
    let (mut read, mut failed) = (0, 0);
    for (key, result) in keys.iter().zip(results) {
        let replicas = placement.replicas(placement.slot(&Key::new(key.clone()).unwrap()));
        if gone.iter().all(|node| replicas.contains(node)) {
            let error = result.error.unwrap();
            assert_eq!((Code::from(error.code), error.reason.as_str()), (Code::Unavailable, "NO_QUORUM"));
            assert!(error.message.contains("not reachable"), "{error:?}");
            failed += 1;
        } else {
            assert_eq!((result.entry, result.error), (Some(text(key, "v")), None));
            read += 1;
        }
    }
    assert!(read > 0 && failed > 0, "{read} {failed}");
}

#[tokio::test]
async fn batch_that_a_node_does_not_take_fails_as_a_whole() {
    let served = start(Plan { requests_in_flight_max: 0, ..Plan::default() }).await.remove(0);
    let status = served.cluster().await.batch_get(batch(["a", "b"])).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, Some(FailureReason::NotReady)));
    let served = start(Plan { requests_in_flight_max: 1, ..Plan::default() }).await.remove(0);
    let mut cluster = served.cluster().await;
    assert_eq!(cluster.batch_get(batch(["a", "b"])).await.unwrap().into_inner().results.len(), 2, "it is one request");
    served.node.drain().await;
    let status = cluster.batch_get(batch(["a", "b"])).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(FailureReason::NotReady)));
    assert!(status.message().contains("ask another one"), "{status}");
}

/// A store that was filled with `count` keys before it served, half of them under another prefix.
fn filled(_: u16) -> Arc<dyn Store> {
    let store = MemoryStore::new(StoreId(1));
    let node_ids = vec![NodeId::new("1").unwrap()];
    let placement = Placement::new(ClusterParameters { seed: 0, replica_count: 1, node_ids });
    let mut batch = Batch::default();
    for n in 0..KEYS {
        let name = if n % 2 == 0 { format!("even-{n}") } else { format!("odd-{n}-{}", "x".repeat(100)) };
        let key = Key::new(name).unwrap();
        let content = Content::Value(Value::Text("v".into()));
        let checksum = Checksum::of(&key, &content);
        let clock = Clock { epoch: 0, counter: n as u64 + 1 };
        let record = Record { stamp: Stamp { clock, writer: NodeId::new("1").unwrap() }, content, checksum };
        batch.records.insert(key.clone(), (placement.slot(&key), record));
    }
    store.persist(&batch).unwrap();
    Arc::new(store)
}

const KEYS: usize = 150_000;

#[tokio::test]
async fn all_keys_are_listed_in_pages_that_any_client_takes() {
    let served = start(Plan { store: filled, ..Plan::default() }).await.remove(0);
    // With gRPC's default limit of 4 MiB: a larger page would fail here.
    let mut node = served.node().await;
    for (prefix, limit, expected, pages_min) in
        [("", 0, KEYS, 3), ("even-", 0, KEYS / 2, 2), ("odd-", 10, 10, 1), ("none", 0, 0, 1), ("", 70_000, 70_000, 2)]
    {
        let request = api::InfoRequest { prefix: prefix.into(), limit };
        let mut stream = node.info(request).await.unwrap().into_inner();
        let (mut keys, mut pages) = (Vec::new(), 0);
        while let Some(page) = stream.message().await.unwrap() {
            assert_eq!(page.node_id, "1");
            assert!(page.uptime.is_some());
            keys.extend(page.keys);
            pages += 1;
        }
        assert_eq!(keys.len(), expected, "{prefix:?} {limit}");
        assert!(pages >= pages_min, "{prefix:?} {limit}: {pages} pages");
        assert!(keys.iter().all(|key| key.starts_with(prefix)));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), expected, "each key once");
    }
    let health = served.health().await;
    assert_eq!(health.keys_estimate, KEYS as u64);
}

/// A store whose reads give other bytes than were written, unnoticed by itself.
struct Lying(MemoryStore);

impl Store for Lying {
    fn meta(&self) -> Result<Meta, StoreError> {
        self.0.meta()
    }

    fn read_up_to(
        &self,
        slot: Slot,
        key: &Key,
        read_kind: ReadKind,
        tier: ReadTier,
        value_bytes_max: usize,
    ) -> Result<ReadOutcome, StoreError> {
        Ok(match self.0.read_up_to(slot, key, read_kind, tier, value_bytes_max)? {
            ReadOutcome::Done(Lookup::Record(record)) => {
                let content = Content::Value(Value::Text("something else".into()));
                ReadOutcome::Done(Lookup::Record(Record { content, ..record }))
            }
            other => other,
        })
    }

    fn persist(&self, batch: &Batch) -> Result<(), StoreError> {
        self.0.persist(batch)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.0.reopen()
    }

    fn keys(&self, _: Option<&Cursor>, _: &str, _: PageBounds) -> Result<KeysPage, StoreError> {
        Err(StoreError::Damaged { message: "block 7 fails its checksum".into() })
    }

    fn statistics(&self) -> StoreStatistics {
        self.0.statistics()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.0.flush()
    }
}

#[tokio::test]
async fn record_that_is_not_what_was_written_does_not_leave() {
    let plan = Plan { store: |_| Arc::new(Lying(MemoryStore::new(StoreId(1)))), ..Plan::default() };
    let served = start(plan).await.remove(0);
    let (mut cluster, mut node) = (served.cluster().await, served.node().await);
    cluster.set(set("a", "v")).await.unwrap();
    for status in [cluster.get(get("a")).await.unwrap_err(), node.get(get("a")).await.unwrap_err()] {
        assert_eq!((status.code(), reason(&status)), (Code::DataLoss, Some(FailureReason::Damaged)), "{status}");
        assert!(status.message().contains("checksum"), "{status}");
    }
    let mut keys = node.info(api::InfoRequest::default()).await.unwrap().into_inner();
    let status = keys.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::DataLoss, Some(FailureReason::Damaged)));
    assert!(status.message().contains("block 7"), "{status}");
}

#[tokio::test]
async fn reflection_lists_every_service_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let served = start_one().await;
    let expected = ["api.Clock", "api.Cluster", "api.Node", "api.Peer", "grpc.health.v1.Health"];

    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(served.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("a list is answered with a list: {answer:?}")
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    assert!(expected.iter().all(|name| names.iter().any(|listed| listed == name)), "{names:?}");

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(served.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("a list is answered with a list: {answer:?}")
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    assert!(expected.iter().all(|name| names.iter().any(|listed| listed == name)), "{names:?}");
}

#[tokio::test]
async fn metrics_count_requests_by_method_and_code_however_they_end() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    cluster.set(set("a", "v")).await.unwrap();
    cluster.get(get("a")).await.unwrap();
    cluster.get(get("a")).await.unwrap();
    cluster.get(get("")).await.unwrap_err();
    let too_large = entry("k", Some(Arm::Binary(vec![7; MESSAGE_BYTES_MAX + 1].into())));
    cluster.set(api::SetRequest { entry: Some(too_large) }).await.unwrap_err();
    let mut pages = served.node().await.info(api::InfoRequest::default()).await.unwrap().into_inner();
    while pages.message().await.unwrap().is_some() {}

    let (head, text) = served.get_as("/metrics", "application/openmetrics-text;version=1.0.0,*/*;q=0.1").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    for line in [
        "quorate_requests_total{method=\"Cluster/Set\",code=\"OK\"} 1",
        "quorate_requests_total{method=\"Cluster/Set\",code=\"OUT_OF_RANGE\"} 1",
        "quorate_requests_total{method=\"Cluster/Get\",code=\"OK\"} 2",
        "quorate_requests_total{method=\"Cluster/Get\",code=\"INVALID_ARGUMENT\"} 1",
        "quorate_requests_total{method=\"Node/Info\",code=\"OK\"} 1",
        "quorate_request_duration_seconds_count{method=\"Cluster/Get\"} 3",
        "quorate_requests_in_flight 0",
        "quorate_ready 1",
        "quorate_store_failed 0",
        "quorate_store_keys 1",
        "quorate_store_log_syncs_total 0",
        "quorate_clock_rounds_total ",
        "quorate_clock_epoch 1",
        "quorate_uptime_seconds ",
        "quorate_store_log_sync_p99_seconds 0.0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    assert!(text.contains(&format!("quorate_build_info{{version=\"{}\",node=\"1\"}} 1", env!("CARGO_PKG_VERSION"))));
    let (head, body) = served.get("/").await;
    assert!(head.starts_with("HTTP/1.1 200") && body.contains("/readyz"), "{head}");
    let (head, _) = served.get("/nothing").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    let (head, body) = served.get("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200") && body.ends_with("ready\n"), "{head} {body}");
}

#[tokio::test]
async fn metrics_have_the_format_that_their_reader_accepts() {
    let served = start_one().await;
    served.cluster().await.set(set("a", "v")).await.unwrap();
    for accept in ["text/plain;version=0.0.4", "*/*"] {
        let (head, text) = served.get_as("/metrics", accept).await;
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        let counter =
            "# TYPE quorate_requests_total counter\nquorate_requests_total{method=\"Cluster/Set\",code=\"OK\"} 1\n";
        assert!(text.contains(counter) && text.contains("# TYPE quorate_build_info gauge"), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
        promtool_finds_nothing(&text);
    }
}

/// Lets `promtool check metrics` judge the metrics, where this machine has it.
fn promtool_finds_nothing(text: &str) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = spawned else {
        eprintln!("promtool is not installed: its check is skipped");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn metrics_name_peers_and_how_they_are_linked() {
    let mut nodes = start(Plan { nodes: 2, replica_count: 2, ..Plan::default() }).await;
    let (_, text) = nodes[0].get("/metrics").await;
    assert!(text.contains("quorate_peer_linked{peer=\"2\"} 1"), "{text}");
    assert!(text.contains("quorate_peer_queue_bytes{peer=\"2\"} 0"), "{text}");
    nodes.remove(1).stop().await;
    until(async || nodes[0].get("/metrics").await.1.contains("quorate_peer_linked{peer=\"2\"} 0")).await;
}

#[tokio::test]
async fn call_to_nothing_is_answered_with_what_there_is() {
    let served = start_one().await;
    let mut client = tonic::client::Grpc::new(served.channel().await);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<api::GetRequest, api::GetResponse>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/api.Nobody/Get");
    let status = client.unary(Request::new(get("a")), path, codec).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unimplemented, Some(FailureReason::NotApplied)));
    assert!(status.message().contains("/api.Nobody/Get"), "{status}");
}

/// Sends bytes as a message of `path`, decodable or not.
async fn call(channel: Channel, path: &'static str, message: &[u8]) -> Status {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    client.unary(Request::new(message.to_vec()), path, Raw).await.unwrap_err()
}

/// Messages that are not looked into.
struct Raw;

impl tonic::codec::Codec for Raw {
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

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(to, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, _: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, Status> {
        Ok(Some(()))
    }
}

#[tokio::test]
async fn request_that_cannot_be_read_is_the_clients_fault_and_certainly_not_applied() {
    let served = start_one().await;
    for (path, message, expected) in [
        ("/api.Cluster/Set", &[0xff][..], FailureReason::NotApplied),
        ("/api.Cluster/Delete", &[10, 2, 0xff, 0xfe], FailureReason::NotApplied),
        ("/api.Cluster/Get", &[0xff], FailureReason::InvalidArgument),
        ("/api.Cluster/Get", &[10, 2, 0xff, 0xfe], FailureReason::InvalidArgument),
    ] {
        let status = call(served.channel().await, path, message).await;
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, Some(expected)), "{path}: {status}");
        assert!(status.message().contains("nothing was done"), "{status}");
    }
    let (_, text) = served.get("/metrics").await;
    assert!(text.contains("{method=\"Cluster/Set\",code=\"INVALID_ARGUMENT\"} 1"), "{text}");
    assert!(!text.contains("INTERNAL"), "{text}");
}

#[tokio::test]
async fn request_may_be_compressed_with_gzip() {
    let served = start_one().await;
    let mut cluster = served.cluster().await.send_compressed(CompressionEncoding::Gzip);
    cluster.set(set("a", &"v".repeat(100_000))).await.unwrap();
    let got = cluster.get(get("a")).await.unwrap().into_inner();
    assert_eq!(got.entry, Some(text("a", &"v".repeat(100_000))));
    // A few hundred bytes that would become more than a message may have.
    let bomb = entry("k", Some(Arm::Binary(vec![0; MESSAGE_BYTES_MAX + 1].into())));
    let status = cluster.set(api::SetRequest { entry: Some(bomb) }).await.unwrap_err();
    assert_eq!(reason(&status), Some(FailureReason::NotApplied), "{status}");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
}

#[tokio::test]
async fn metadata_is_taken_up_to_a_limit_and_refused_in_words_beyond() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    let with_metadata = |bytes: usize| {
        let mut request = Request::new(set("a", "v"));
        request.metadata_mut().insert("x-trace", "m".repeat(bytes).parse().unwrap());
        request
    };
    for bytes in [1 << 10, 8 << 10, 15 << 10, 16 << 10] {
        cluster.set(with_metadata(bytes)).await.unwrap();
    }
    for bytes in [33 << 10, 100 << 10] {
        let status = cluster.set(with_metadata(bytes)).await.unwrap_err();
        let expected = (Code::InvalidArgument, Some(FailureReason::NotApplied));
        assert_eq!((status.code(), reason(&status)), expected, "{bytes}: {status}");
        assert!(status.message().contains("32768 bytes"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impatient_calls_do_not_harm_patient_ones_on_their_connection() {
    let served = start_one().await;
    // As the Rust client does: otherwise the client's own library closes the connection after 1,024 late answers.
    let endpoint = Endpoint::from_shared(format!("http://{}", served.address)).unwrap();
    let endpoint = endpoint.http2_max_concurrent_reset_streams(8_192).http2_max_local_error_reset_streams(None);
    let cluster = ClusterClient::new(endpoint.connect().await.unwrap());
    let until = Instant::now() + Duration::from_secs(2);
    let mut patient = Vec::new();
    for writer in 0..4 {
        let mut cluster = cluster.clone();
        patient.push(tokio::spawn(async move {
            let mut written = 0;
            while Instant::now() < until {
                cluster.set(set(&format!("patient-{writer}"), "v")).await.unwrap();
                written += 1;
            }
            written
        }));
    }
    let mut given_up = 0;
    while Instant::now() < until {
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..100_u64 {
            let mut cluster = cluster.clone();
            calls.spawn(async move {
                let call = cluster.get(get("impatient"));
                tokio::time::timeout(Duration::from_micros(n * 3), call).await.is_err()
            });
        }
        given_up += calls.join_all().await.into_iter().filter(|given_up| *given_up).count();
    }
    assert!(given_up > 1_000, "{given_up} calls were given up");
    for writer in patient {
        assert!(writer.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn streams_that_are_reset_at_once_close_no_connection() {
    let served = start_one().await;
    let mut stream = TcpStream::connect(&served.address).await.unwrap();
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
    };
    // HPACK without indexing: POST, http, :path, :authority, content-type, te.
    let field = |name: &[u8], value: &str| [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    let headers = [
        vec![0x83, 0x86],
        field(&[0x04], "/api.Cluster/Get"),
        field(&[0x01], "node"),
        field(&[0x0f, 0x10], "application/grpc"),
        field(&[&[0x00, 0x02][..], b"te"].concat(), "trailers"),
    ]
    .concat();
    let mut sent = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    for n in 0..1_000 {
        sent.extend(frame(1, 4, 2 * n + 1, &headers));
        sent.extend(frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    sent.extend(frame(6, 0, 0, b"still on"));
    stream.write_all(&sent).await.unwrap();
    let answer = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("the connection stays open");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.unwrap();
            assert_ne!(head[3], 7, "GOAWAY: {}", String::from_utf8_lossy(&payload));
            if (head[3], head[4]) == (6, 1) {
                return payload;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap(), b"still on");
}

#[tokio::test]
async fn connection_that_never_speaks_is_closed() {
    let served = start_one().await;
    let mut silent = TcpStream::connect(&served.address).await.unwrap();
    let mut half = TcpStream::connect(&served.address).await.unwrap();
    half.write_all(b"PRI * HT").await.unwrap();
    let mut silent_admin = TcpStream::connect(&served.admin_address).await.unwrap();
    let mut cluster = served.cluster().await;
    cluster.set(set("a", "v")).await.unwrap();
    for stream in [&mut silent, &mut half, &mut silent_admin] {
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "it is closed after a few seconds");
    }
    cluster.set(set("a", "w")).await.unwrap();
}
