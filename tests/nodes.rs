//! Nodes of one process, linked over loopback: the shell and the links, without a gateway in front.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::peer::peer_service;
use quorate::protocol::placement::Placement;
use quorate::protocol::rate::Rate;
use quorate::runtime::{
    self, NodeHandle, Options, PlainRequest, Rejected, Replies, RequestError, RunningNode, ScrubSettings,
};
use quorate::shares::Amounts;
use quorate::storage::Store;
use quorate::storage::memory::MemoryStore;
use quorate::types::{ClusterParameters, Content, Key, NodeId, NodeIndex, Stamp, StoreId, Table, Value};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

struct Cluster {
    nodes: Vec<RunningNode>,
}

impl Cluster {
    async fn start(count: u16, replica_count: usize) -> Self {
        let mut node_ids: Vec<NodeId> = (1..=count).map(|n| NodeId::new(&n.to_string()).unwrap()).collect();
        node_ids.sort();
        let placement = Arc::new(Placement::new(ClusterParameters::plain(0, replica_count, node_ids)));
        let mut listeners = Vec::new();
        for _ in 0..count {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<String> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        let mut nodes = Vec::new();
        for (n, listener) in (0..count).zip(listeners) {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new(StoreId(u128::from(n))));
            let running = runtime::start(Options {
                me: NodeIndex(n),
                placement: Arc::clone(&placement),
                addresses: addresses.clone(),
                joins: false,
                http_address: None,
                store,
                operator_writes: true,
                repair: Some(quorate::protocol::RepairSettings::default()),
                takeover: Rate::TAKEOVER,
                disk_reserve_bytes: None,
                scrub: ScrubSettings::default(),
                replaces_damaged: false,
                traces: None,
                trust: Arc::default(),
                amounts: Amounts::of_requests(1_000, 1 << 26),
            })
            .unwrap();
            let service = peer_service(running.handle().link_acceptor());
            tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
            nodes.push(running);
        }
        let cluster = Self { nodes };
        cluster.bootstrapped().await;
        cluster
    }

    async fn bootstrapped(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        for node in &self.nodes {
            loop {
                let status = node.handle().status().await.unwrap();
                if status.unready.is_none() && status.all_talk() {
                    break;
                }
                assert!(Instant::now() < deadline, "not bootstrapped: {status:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn handle(&self, n: usize) -> &NodeHandle {
        self.nodes[n].handle()
    }
}

fn key(text: &str) -> Key {
    Key::new(text.to_owned()).unwrap()
}

async fn put(node: &NodeHandle, key: &Key, content: Content) -> Stamp {
    node.set(&Table::Default, key.clone(), content, None, Instant::now() + Duration::from_secs(5)).await.unwrap().stamp
}

async fn get(node: &NodeHandle, key: &Key) -> Option<Content> {
    let record = node.get(&Table::Default, key.clone(), Instant::now() + Duration::from_secs(5)).await.unwrap();
    record.map(|record| record.record.content)
}

fn text(value: &str) -> Content {
    Content::Value(Value::Text(value.to_owned().into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_writes_every_other_reads() {
    for (count, replica_count) in [(1, 1), (3, 3), (5, 3)] {
        let cluster = Cluster::start(count, replica_count).await;
        let mut expected = BTreeMap::new();
        for n in 0..40 {
            let key = key(&format!("key-{n}"));
            let content = text(&format!("value-{n}"));
            put(cluster.handle(n % usize::from(count)), &key, content.clone()).await;
            expected.insert(key, content);
        }
        for node in &cluster.nodes {
            for (key, content) in &expected {
                assert_eq!(get(node.handle(), key).await.as_ref(), Some(content));
            }
            assert_eq!(get(node.handle(), &key("never written")).await, None);
        }
        let deleted = key("key-7");
        put(cluster.handle(0), &deleted, Content::Tombstone).await;
        for node in &cluster.nodes {
            assert_eq!(get(node.handle(), &deleted).await, Some(Content::Tombstone));
        }
        for node in cluster.nodes {
            node.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_of_few_keys_all_succeed() {
    let cluster = Cluster::start(3, 3).await;
    let began = Instant::now();
    let mut clients = Vec::new();
    for client in 0..64 {
        let node = cluster.handle(client % 3).clone();
        clients.push(tokio::spawn(async move {
            for n in 0..300 {
                let key = key(&format!("key-{}", n % 16));
                if (client + n) % 2 == 0 {
                    put(&node, &key, text(&format!("{client}-{n}"))).await;
                } else {
                    get(&node, &key).await;
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    println!("{:.0} operations a second", 64.0 * 300.0 / began.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_value_crosses_the_links() {
    let cluster = Cluster::start(3, 3).await;
    let large = Content::Value(Value::Binary(vec![7; 30 << 20].into()));
    put(cluster.handle(0), &key("large"), large.clone()).await;
    assert!(get(cluster.handle(1), &key("large")).await == Some(large));
}

#[tokio::test(flavor = "multi_thread")]
async fn minority_that_is_gone_costs_no_operation() {
    let mut cluster = Cluster::start(3, 3).await;
    put(cluster.handle(0), &key("k"), text("before")).await;
    cluster.nodes.remove(2).stop().await;
    for n in 0..20 {
        assert_eq!(get(cluster.handle(n % 2), &key("k")).await, Some(text("before")));
        put(cluster.handle(n % 2), &key(&format!("k-{n}")), text("after")).await;
    }
}

/// The outcome of such a write would be unknown if it might have begun.
#[tokio::test]
async fn write_that_begins_after_the_end_of_a_node_is_certainly_not_done() {
    let mut cluster = Cluster::start(1, 1).await;
    let node = cluster.nodes.pop().expect("there is one");
    let handle = node.handle().clone();
    node.stop().await;
    let content = Content::Value(Value::Text("v".into()));
    let requests =
        vec![(7, PlainRequest::Set { key: key("k"), content }, None), (8, PlainRequest::Get { key: key("k") }, None)];
    let (replies, mut taken) = (Arc::default(), Vec::new());
    handle.begin(&Table::Default, requests, Instant::now() + Duration::from_secs(5), &replies);
    let taking = std::future::poll_fn(|context| Replies::poll_take(&replies, context, &mut taken));
    tokio::time::timeout(Duration::from_secs(5), taking).await.expect("both have their replies at once");
    let ended = || Err(RequestError::Rejected(Rejected::Ended));
    assert_eq!(taken, [(7, ended()), (8, ended())]);
}
