//! A node's gateway over real connections: what clients, tools and probes are answered, when all is well and when not.

mod batch;
mod conditions;
mod http;
mod lines;
mod list;
mod metrics;
mod page;
mod redis;
mod requests;
mod tables;
#[path = "../testkit/mod.rs"]
mod testkit;
mod watches;

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::admin;
use quorate::api;
use quorate::api::clock_client::ClockClient;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::entry::Content as Arm;
use quorate::api::node_client::NodeClient;
use quorate::gateway::grpc;
use quorate::gateway::http::HttpOptions;
use quorate::gateway::redis::RedisOptions;
use quorate::limits::{MESSAGE_BYTES_MAX, VALUE_BYTES_MAX};
use quorate::protocol::placement::Placement;
use quorate::protocol::rate::Rate;
use quorate::runtime::{self, NodeHandle, Options, RunningNode, ScrubSettings};
use quorate::service::Service;
use quorate::shares::Amounts;
use quorate::storage::memory::MemoryStore;
use quorate::storage::{Cursor, KeysPage, PageBounds, ReadOutcome, ReadTier, Store, StoreError, StoreStatistics};
use quorate::types::{
    Batch, Checksum, Clock, ClusterParameters, Content, Expiry, Found, KEY_BYTES_MAX, Key, KeyRange, Lookup, Meta,
    NodeId, NodeIndex, ReadKind, Record, Removed, RunningTime, ScannedKeys, Slot, SlotRange, SlotsPage, Stamp, StoreId,
    TableId, Value,
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
    http: HttpOptions,
    requests_in_flight_max: usize,
    store: fn(u16) -> Arc<dyn Store>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            nodes: 1,
            replica_count: 1,
            operator_writes: true,
            http: HttpOptions::default(),
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
    http_address: String,
    line_address: String,
    redis_address: String,
    shutdown: CancellationToken,
    gateway: JoinHandle<()>,
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
        self.gateway.await.unwrap();
        self.node.stop().await;
    }
}

/// Starts the nodes of `plan`, the first `started` of them.
async fn start_some(plan: Plan, started: usize) -> Vec<Served> {
    let node_ids = (1..=plan.nodes).map(|n| NodeId::new(&n.to_string()).unwrap()).collect();
    let parameters = ClusterParameters::plain(0, plan.replica_count, node_ids);
    let placement = Arc::new(Placement::new(parameters));
    let mut listeners = Vec::new();
    for _ in 0..plan.nodes {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let mut http_listeners = Vec::new();
    for _ in 0..plan.nodes {
        http_listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let http_addresses: Vec<String> = http_listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
    let addresses: Vec<String> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
    let mut served = Vec::new();
    for ((n, listener), http_listener) in (0..plan.nodes).zip(listeners).zip(http_listeners).take(started) {
        let options = Options {
            me: NodeIndex(n),
            placement: Arc::clone(&placement),
            addresses: addresses.clone(),
            joins: false,
            http_address: Some(http_addresses[usize::from(n)].clone()),
            store: (plan.store)(n),
            operator_writes: plan.operator_writes,
            repair: None,
            takeover: Rate::TAKEOVER,
            disk_reserve_bytes: None,
            scrub: ScrubSettings::default(),
            replaces_damaged: false,
            traces: None,
            trust: Arc::default(),
            amounts: Amounts::of_requests(plan.requests_in_flight_max, 256 << 20),
        };
        let node = runtime::start(options).unwrap();
        let shutdown = CancellationToken::new();
        let admin_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin_address = admin_listener.local_addr().unwrap().to_string();
        let service = Service::new(node.handle().clone());
        tokio::spawn(admin::serve(admin_listener, Arc::clone(&service), shutdown.clone()));
        let http =
            quorate::gateway::http::serve(http_listener, Arc::clone(&service), plan.http.clone(), shutdown.clone());
        tokio::spawn(http);
        let line_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line_address = line_listener.local_addr().unwrap().to_string();
        tokio::spawn(quorate::gateway::lines::serve(line_listener, Arc::clone(&service), shutdown.clone()));
        let redis_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let redis_address = redis_listener.local_addr().unwrap().to_string();
        let options = RedisOptions::default();
        let redis = quorate::gateway::redis::serve(redis_listener, Arc::clone(&service), options, shutdown.clone());
        tokio::spawn(redis);
        let gateway = tokio::spawn(grpc::serve(listener, service, shutdown.clone()));
        let n = usize::from(n);
        let (address, http_address) = (addresses[n].clone(), http_addresses[n].clone());
        served.push(Served {
            node,
            address,
            admin_address,
            http_address,
            line_address,
            redis_address,
            shutdown,
            gateway,
        });
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
    api::SetRequest { entry: Some(text(key, value)), ..Default::default() }
}

fn get(key: &str) -> api::GetRequest {
    api::GetRequest { key: key.to_owned(), ..Default::default() }
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
        let request = api::SetRequest { entry: Some(entry("a", given)), ..Default::default() };
        let stamp = cluster.set(request).await.unwrap().into_inner().clock.unwrap();
        assert_eq!(stamp.node, "1");
        assert!((stamp.epoch, stamp.clock) > (last.epoch, last.clock));
        let got = cluster.get(get("a")).await.unwrap().into_inner();
        assert_eq!(got.entry, Some(entry("a", Some(read))));
        assert_eq!(got.clock.as_ref(), Some(&stamp));
        last = stamp;
    }

    let deleted =
        cluster.delete(api::DeleteRequest { key: "a".into(), ..Default::default() }).await.unwrap().into_inner().clock;
    let got = cluster.get(get("a")).await.unwrap().into_inner();
    assert_eq!((got.entry, got.clock), (None, deleted), "a deletion has a stamp and no entry");
}

#[tokio::test]
async fn bad_input_says_which_field_and_what_is_accepted() {
    let served = start_one().await;
    let (mut cluster, mut node, mut clock) = (served.cluster().await, served.node().await, served.clock().await);
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let large = vec![0_u8; VALUE_BYTES_MAX + 1];
    let set_large = api::SetRequest { entry: Some(entry("k", Some(Arm::Binary(large.into())))), ..Default::default() };
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
        (
            cluster.set(api::SetRequest { entry: None, ..Default::default() }).await.unwrap_err(),
            ["entry is missing", "\"key\""],
        ),
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
    cluster.set(api::SetRequest { entry: Some(largest.clone()), ..Default::default() }).await.unwrap();
    let got = cluster.get(get("k")).await.unwrap().into_inner();
    assert!(got.entry == Some(largest), "it is read as it was written");

    let too_large = entry("k", Some(Arm::Binary(vec![7; MESSAGE_BYTES_MAX + 1].into())));
    let status = cluster.set(api::SetRequest { entry: Some(too_large), ..Default::default() }).await.unwrap_err();
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
    let layout = nodes[0].handle().layout();
    let elsewhere = (0..100)
        .map(|n| format!("key-{n}"))
        .find(|key| !layout.holds(NodeIndex(0), layout.slot(&Key::new(key.clone()).unwrap())))
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
        assert_eq!(failure.slot, Some(survivor.handle().layout().slot(&key)));
        assert_eq!((failure.needed, failure.replicas.len()), (Some(2), 3));
    }

    let health = survivor.health().await;
    assert_eq!(health.status(), api::Health::Degraded);
    assert!(health.detail.contains("start nodes 2, 3"), "{}", health.detail);
    assert!(health.peers[0].detail.contains("not reachable at 127.0.0.1:"), "{}", health.peers[0].detail);
    let (head, body) = survivor.get("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200") && body.starts_with("ready, but: "), "{head} {body}");
    assert!(body.ends_with("; tolerates no more failures\n"), "{body}");
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
    ended.expect("a watch does not keep it open").unwrap();
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
    let (own, deadline) = (served.handle().for_itself(), Instant::now() + Duration::from_secs(10));
    let found = own.get(&quorate::types::Table::Default, Key::new("a").unwrap(), deadline).await;
    assert_eq!(found, Ok(None), "what the node reads for itself has room");
}

/// A store that was filled with `KEYS` keys before it served, half of them under another prefix.
fn filled(_: u16) -> Arc<dyn Store> {
    let store = MemoryStore::new(StoreId(1));
    let node_ids = vec![NodeId::new("1").unwrap()];
    let placement = Placement::new(ClusterParameters::plain(0, 1, node_ids));
    let mut batch = Batch::default();
    for n in 0..KEYS {
        let name = if n % 2 == 0 { format!("even-{n}") } else { format!("odd-{n}-{}", "x".repeat(100)) };
        let key = Key::new(name).unwrap();
        let content = Content::Value(Value::Text("v".into()));
        let checksum = Checksum::of(&key, &content);
        let clock = Clock { epoch: 0, counter: n as u64 + 1 };
        let record = Record::plain(Stamp { clock, writer: NodeId::new("1").unwrap() }, content, checksum);
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
            ReadOutcome::Done(Found { lookup: Lookup::Record(record), kept_at }) => {
                let content = Content::Value(Value::Text("something else".into()));
                ReadOutcome::Done(Found { lookup: Lookup::Record(Record { content, ..record }), kept_at })
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

    fn list(&self, _: &KeyRange, _: &dyn Fn(&Key) -> Slot, _: PageBounds) -> Result<ScannedKeys, StoreError> {
        Err(StoreError::Damaged { message: "block 8 fails its checksum".into() })
    }

    fn expiries(
        &self,
        from: RunningTime,
        after: Option<&Expiry>,
        entries_max: usize,
    ) -> Result<Vec<Expiry>, StoreError> {
        self.0.expiries(from, after, entries_max)
    }

    fn measure(&self, table: TableId, slot_of: &dyn Fn(&Key) -> Option<Slot>) -> Result<u64, StoreError> {
        self.0.measure(table, slot_of)
    }

    fn slots(&self, range: &SlotRange, entries_max: usize) -> Result<SlotsPage, StoreError> {
        self.0.slots(range, entries_max)
    }

    fn clean(&self, table: TableId, entries_max: usize, slot_of: &dyn Fn(&Key) -> Slot) -> Result<Removed, StoreError> {
        self.0.clean(table, entries_max, slot_of)
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
    let expected = ["api.Clock", "api.Cluster", "api.Members", "api.Node", "api.Peer", "grpc.health.v1.Health"];

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
