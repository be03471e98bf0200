//! Clients go on while one node is paused, dead, ending or restarting. Without a majority they are told in time.
//!
//! Latencies are printed and not asserted, because the machine may be busy with other things.

#![cfg(feature = "server")]

mod testkit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use quorate::Client;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::{DeleteRequest, Entry, GetRequest, Health, SetRequest, entry};
use quorate::wire::failure::{Failure, FailureReason};
use testkit::cluster::{Cluster, END_TIME_MAX, Plan, START_TIME_MAX, TestNode, percentiles_ms, poll};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Held by each test, so that latencies are measured one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

const OPERATIONS: usize = 5_000;
const CALLERS: usize = 8;

/// Each operation is one call to one live node, tried once: no retry hides a failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_fails_while_one_node_is_paused_or_dead() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::start().await;
    // Warm up connections and caches.
    run_operations(&cluster.nodes[..2], "warm").await;
    let healthy = run_operations(&cluster.nodes[..2], "healthy").await;

    cluster.nodes[2].pause();
    let paused = run_operations(&cluster.nodes[..2], "paused").await;
    cluster.nodes[2].resume();
    cluster.wait_all_linked().await;

    cluster.nodes[2].kill();
    let dead = run_operations(&cluster.nodes[..2], "dead").await;
    for (what, p99) in [("paused", paused), ("dead", dead)] {
        println!("one node {what}: p99 is {:.2} times the healthy p99", p99 / healthy);
    }
}

/// Gets and sets in turn, half of them through each of `nodes`; the p99 in milliseconds.
async fn run_operations(nodes: &[TestNode], what: &'static str) -> f64 {
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for caller in 0..CALLERS {
        let node = &nodes[caller % nodes.len()];
        let (mut client, id) = (node.cluster_client(), node.id.clone());
        callers.spawn(async move {
            let mut took = Vec::new();
            for operation in 0..OPERATIONS / CALLERS {
                let key = format!("{what}-{caller}-{}", operation / 2);
                let began = Instant::now();
                let done = if operation % 2 == 0 {
                    set(&mut client, &key, None).await
                } else {
                    get(&mut client, &key, None).await
                };
                done.unwrap_or_else(|status| panic!("{what}: {key} through node {id}: {status:?}"));
                took.push(began.elapsed());
            }
            took
        });
    }
    let mut took = Vec::new();
    while let Some(of_caller) = callers.join_next().await {
        took.extend(of_caller.expect("no operation fails"));
    }
    let seconds = began.elapsed().as_secs_f64();
    let (p50, p99) = percentiles_ms(&mut took);
    println!(
        "{what}: {} operations, none failed, {:.0} a second, p50 {p50:.2} ms, p99 {p99:.2} ms, slowest {:.2} ms",
        took.len(),
        took.len() as f64 / seconds,
        took[took.len() - 1].as_secs_f64() * 1e3
    );
    p99
}

/// Once with both other nodes dead, and once with both paused. A paused node takes requests and answers none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_operations_end_in_time_and_say_why() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::start().await;
    let deadline = Duration::from_secs(1);
    for what in ["dead", "paused"] {
        for node in &mut cluster.nodes[1..] {
            if what == "dead" { node.kill() } else { node.pause() }
        }
        let mut client = cluster.nodes[0].cluster_client();
        for (method, reason) in [
            ("get", FailureReason::NoQuorum),
            ("set", FailureReason::NotApplied),
            ("delete", FailureReason::NotApplied),
        ] {
            let began = Instant::now();
            let result = match method {
                "get" => get(&mut client, "k", Some(deadline)).await,
                "set" => set(&mut client, "k", Some(deadline)).await,
                _ => delete(&mut client, "k", Some(deadline)).await,
            };
            let took = began.elapsed();
            let status = result.expect_err("one of three is no majority");
            println!("two {what}, {method}: after {took:.3?}: {:?}: {}", status.code(), status.message());
            assert!(took < deadline, "the client's own deadline came first: {took:?}");
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            assert_says_all(&status, reason);
        }
        for node in &mut cluster.nodes[1..] {
            if what == "dead" { node.start() } else { node.resume() }
        }
        cluster.wait_all_linked().await;
        let client = cluster.nodes[0].client();
        assert_eq!(client.get("k").await.expect("the majority is back"), None, "what was not applied was not applied");
    }
}

/// The failure names the replicas, the state of each, and the number needed: in the details for programs, and in the message
/// for people.
fn assert_says_all(status: &Status, reason: FailureReason) {
    let failure = Failure::from_status(status).unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(failure.reason, reason, "{status:?}");
    assert_eq!(failure.needed, Some(2), "{status:?}");
    assert!(failure.slot.is_some(), "{status:?}");
    let mut ids: Vec<&str> = failure.replicas.iter().map(|replica| replica.node.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2", "3"], "{status:?}");
    for replica in &failure.replicas {
        let said = replica.said.as_deref().unwrap_or_default();
        assert!(!said.is_empty(), "the state of replica {} is missing: {status:?}", replica.node);
        assert!(status.message().contains(said), "the message leaves out {said:?}: {status:?}");
    }
    assert!(status.message().contains('2'), "the message leaves out how many were needed: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_costs_a_client_that_fails_over_no_error() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call_until(Arc::clone(&over), client.clone(), caller));
    }
    for round in 0..2 {
        for node in &mut cluster.nodes {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let took = node.terminate().await;
            assert!(took <= END_TIME_MAX, "node {} took {took:?} to end", node.id);
            node.start();
            node.wait_online().await;
            println!("round {round}: node {} ended with 0 after {took:.2?} under load, and is back", node.id);
        }
    }
    over.store(true, Ordering::Relaxed);
    let (mut operations, mut errors, mut slowest) = (0, Vec::new(), Duration::ZERO);
    while let Some(of_caller) = callers.join_next().await {
        let (count, failed, took_max) = of_caller.expect("a caller does not panic");
        operations += count;
        errors.extend(failed);
        slowest = slowest.max(took_max);
    }
    println!("{operations} operations over two rolling restarts, {} errors, slowest {slowest:.2?}", errors.len());
    assert!(errors.is_empty(), "{} of {operations} operations failed:\n{}", errors.len(), errors.join("\n"));
    assert!(operations > 1_000, "there was no load");
}

/// Returns the number of operations, the errors, and the time of the slowest operation.
async fn call_until(over: Arc<AtomicBool>, client: Client, caller: usize) -> (usize, Vec<String>, Duration) {
    let (mut count, mut errors, mut slowest) = (0, Vec::new(), Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let key = format!("rolling-{caller}-{}", count % 100);
        let began = Instant::now();
        let error = match count % 4 {
            0 => client.delete(&key).await.err(),
            1 => client.set(&key, format!("{count}")).await.err(),
            _ => client.get(&key).await.err(),
        };
        slowest = slowest.max(began.elapsed());
        errors.extend(error.map(|error| format!("{key}, operation {count}: {error}")));
        count += 1;
    }
    (count, errors, slowest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_node_that_is_told_to_end_ends_well_at_once() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::start().await;
    // An idle connection, as in a client's pool, must not delay the end.
    let idle: Vec<Client> = cluster.nodes.iter().map(TestNode::client).collect();
    for client in &idle {
        client.health().await.expect("all are online");
    }
    let [one, two, three] = &mut cluster.nodes[..] else { unreachable!("there are three") };
    for (node, signal) in [(one, Signal::SIGTERM), (two, Signal::SIGINT)] {
        let (status, took) = node.end_by(signal).await;
        println!("idle node, {signal}: {status} after {took:.2?}");
        assert!(status.success(), "{signal}: {status}");
        assert!(took < Duration::from_secs(2), "{signal}: {took:?}");
    }
    // Without a majority the node has nothing to wait for either.
    let took = three.terminate().await;
    println!("idle node without a majority, SIGTERM: after {took:.2?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// A request that cannot end, for want of a majority, must not delay the node's end beyond its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_requests_that_cannot_end_ends_in_time() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::start().await;
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let mut client = cluster.nodes[0].cluster_client();
    let stuck = tokio::spawn(async move { set(&mut client, "k", Some(Duration::from_secs(30))).await });
    let node = &mut cluster.nodes[0];
    poll("the write to be under way", START_TIME_MAX, async || match node.metric("quorate_requests_in_flight").await {
        Ok(1.0) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await;

    let began = Instant::now();
    node.process().signal(Signal::SIGTERM);
    node.wait_health("draining", |health| health.status() == Health::Draining).await;
    let refused = set(&mut node.cluster_client(), "other", None).await.expect_err("it takes no new requests");
    println!("a write to a node that was told to end: {:?}: {}", refused.code(), refused.message());
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert_eq!(Failure::from_status(&refused).map(|failure| failure.reason), Some(FailureReason::NotApplied));
    let ended = node.process().end_within(END_TIME_MAX).await;
    let took = began.elapsed();
    assert!(took <= END_TIME_MAX && ended.is_some_and(|status| status.success()), "{ended:?} after {took:?}");
    let status = stuck.await.expect("it does not panic").expect_err("there was no majority");
    println!(
        "node with a stuck write, SIGTERM: exit code 0 after {took:.2?}; the write: {:?}: {}",
        status.code(),
        status.message()
    );
    let failure = Failure::from_status(&status)
        .unwrap_or_else(|| panic!("the status does not say whether it was applied: {status:?}"));
    assert!(matches!(failure.reason, FailureReason::OutcomeUnknown | FailureReason::NotApplied), "{failure:?}");
}

/// More connections than the process may have files open are held, and most of them never speak.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_idle_connections_starves_neither_clients_nor_the_store_nor_probes() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::prepare(&Plan { ids: vec!["1"], replica_count: 1, ..Plan::default() });
    let limited = ["sh", "-c", r#"ulimit -n 120 && exec "$0" "$@""#];
    cluster.nodes[0].wrapper = limited.map(Into::into).to_vec();
    cluster.start_all();
    cluster.wait_all_online().await;
    let node = &mut cluster.nodes[0];
    let early = node.client();
    early.set("early", "v").await.expect("it serves");
    let mut idle = Vec::new();
    for _ in 0..150 {
        // Beyond the bound a connection is closed, before or after it was made.
        if let Ok(stream) = tokio::net::TcpStream::connect(node.address()).await {
            idle.push(stream);
        }
    }
    for n in 0..50 {
        early.set(format!("during-{n}"), vec![n; 100_000]).await.expect("a client that was there first is served");
    }
    node.metrics_page(Duration::from_secs(1)).await.expect("probes and metrics are answered meanwhile");
    assert!(node.metric("quorate_connections_refused_total").await.unwrap() > 50.0);
    assert!((node.metric("quorate_store_failed").await.unwrap()).abs() < 0.5);
    poll("a new client to be served once silent connections are closed", Duration::from_secs(10), async || {
        node.client().with_deadline(Duration::from_secs(1)).set("late", "v").await.map(drop).map_err(|e| e.to_string())
    })
    .await;
    node.wait_log(&["closed a connection at once", "120"]).await;
    assert!(!node.log_text().contains("os error 24"), "it never runs out of files: {}", node.log_text());
    drop(idle);
}

async fn get(client: &mut ClusterClient<Channel>, key: &str, deadline: Option<Duration>) -> Result<(), Status> {
    client.get(request(GetRequest { key: key.to_owned(), ..Default::default() }, deadline)).await.map(drop)
}

async fn set(client: &mut ClusterClient<Channel>, key: &str, deadline: Option<Duration>) -> Result<(), Status> {
    let content = entry::Content::Value(format!("value of {key}"));
    let entry = Entry { key: key.to_owned(), content: Some(content) };
    client.set(request(SetRequest { entry: Some(entry), ..Default::default() }, deadline)).await.map(drop)
}

async fn delete(client: &mut ClusterClient<Channel>, key: &str, deadline: Option<Duration>) -> Result<(), Status> {
    client.delete(request(DeleteRequest { key: key.to_owned(), ..Default::default() }, deadline)).await.map(drop)
}

fn request<M>(message: M, deadline: Option<Duration>) -> Request<M> {
    let mut request = Request::new(message);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    request
}
