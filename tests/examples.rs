//! The examples against real nodes, one of which is killed meanwhile.

#![cfg(all(feature = "server", unix))]

mod testkit;

#[path = "../examples/cache.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod cache;
#[path = "../examples/counter.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod counter;
#[path = "../examples/lease.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod lease;
#[path = "../examples/lock.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod lock;

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache::{Cache, Entries};
use counter::Counter;
use lease::Candidate;
use lock::{Lock, write_with_token};
use quorate::ClientError;
use testkit::cluster::{Cluster, START_TIME_MAX, poll};
use tokio::task::JoinSet;

/// How long each example runs.
const RUN_TIME: Duration = Duration::from_secs(4);
/// When a node is killed, and when it comes back.
const KILLED_AFTER: Duration = Duration::from_millis(700);
const BACK_AFTER: Duration = Duration::from_millis(1_700);

/// Runs the cluster to the end of the test, and kills one node after the other meanwhile.
async fn kill_in_turn(cluster: &mut Cluster, began: Instant) {
    for (index, node) in cluster.nodes.iter_mut().take(2).enumerate() {
        let begins = began + u32::try_from(index).unwrap() * Duration::from_millis(1_500);
        tokio::time::sleep_until((begins + KILLED_AFTER).into()).await;
        node.kill();
        tokio::time::sleep_until((begins + BACK_AFTER).into()).await;
        node.start();
        node.wait_online().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counter_counts_each_event_once_while_nodes_are_killed() {
    const CLIENTS: usize = 8;
    let mut cluster = Cluster::start().await;
    let (counted, unknown) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, counted, unknown) = (cluster.client(), Arc::clone(&counted), Arc::clone(&unknown));
        clients.spawn(async move {
            let mut visits = Counter::open(&client, "visits").await.expect("a majority serves");
            while began.elapsed() < RUN_TIME {
                match visits.add(1).await {
                    Ok(_) => counted.fetch_add(1, Ordering::Relaxed),
                    Err(ClientError::OutcomeUnknown { .. }) => unknown.fetch_add(1, Ordering::Relaxed),
                    Err(error) => panic!("{error}"),
                };
            }
        });
    }
    kill_in_turn(&mut cluster, began).await;
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client does not panic");
    }
    let (counted, unknown) = (counted.load(Ordering::Relaxed), unknown.load(Ordering::Relaxed));
    let sum = cluster.client().add("visits", 0).await.unwrap().value;
    println!("{counted} additions counted, {unknown} of unknown outcome, sum {sum}");
    assert!((counted..=counted + unknown).contains(&sum), "{counted} counted, {unknown} unknown, sum {sum}");
    assert!(counted > 20, "{counted}: the test has seen nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_has_one_holder_at_a_time_and_tokens_rise_while_nodes_are_killed() {
    let mut cluster = Cluster::start().await;
    let holders = Arc::new(AtomicUsize::new(0));
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..4 {
        let (client, holders, tokens) = (cluster.client(), Arc::clone(&holders), Arc::clone(&tokens));
        clients.spawn(async move {
            let mut turn = 0;
            while began.elapsed() < RUN_TIME {
                turn += 1;
                let me = format!("{number}-{turn}");
                // Longer than the test: nobody loses the lock by time.
                let taken = Lock::try_take(&client, "printer", &me, Duration::from_mins(10)).await;
                let Some(mut lock) = taken.unwrap_or_else(|error| panic!("{me}: {error}")) else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                tokens.lock().unwrap().push(lock.token);
                assert!(write_with_token(&client, "printer/page", lock.token, &me).await.unwrap(), "{me}");
                assert!(lock.keep(Duration::from_mins(10)).await.unwrap(), "{me}");
                assert!(
                    !write_with_token(&client, "printer/page", lock.token - 1, &me).await.unwrap(),
                    "a late holder"
                );
                holders.fetch_sub(1, Ordering::SeqCst);
                lock.release().await.unwrap();
            }
        });
    }
    kill_in_turn(&mut cluster, began).await;
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client does not panic");
    }
    let tokens = tokens.lock().unwrap();
    println!("{} holders, one after the other", tokens.len());
    assert!(tokens.len() > 5 && tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_is_held_by_one_at_a_time_while_nodes_are_killed() {
    let mut cluster = Cluster::start().await;
    let lease = Duration::from_millis(900);
    // Each candidate, and the time for which it was sure to lead.
    let led: Arc<Mutex<Vec<(Instant, Instant, usize)>>> = Arc::default();
    let began = Instant::now();
    let mut candidates = JoinSet::new();
    for number in 0..3 {
        let (client, led) = (cluster.client(), Arc::clone(&led));
        candidates.spawn(async move {
            let mut candidate = Candidate::new(&client, "leader", &format!("candidate-{number}"), lease);
            while began.elapsed() < RUN_TIME {
                // No answer in time is like an answer that it does not lead.
                if candidate.renew().await.unwrap_or(false) {
                    let until = candidate.leads_until().expect("it leads");
                    led.lock().unwrap().push((Instant::now(), until, number));
                }
                tokio::time::sleep(lease / 3).await;
            }
        });
    }
    kill_in_turn(&mut cluster, began).await;
    while let Some(ended) = candidates.join_next().await {
        ended.expect("a candidate does not panic");
    }
    let led = led.lock().unwrap();
    println!("{} renewals", led.len());
    for (from, until, candidate) in led.iter() {
        let beside = |(other_from, other_until, other): &&(Instant, Instant, usize)| {
            other != candidate && other_from < until && from < other_until
        };
        assert!(led.iter().find(beside).is_none(), "two lead at once: {led:?}");
    }
    assert!(led.len() > 5, "nobody led most of the time: {led:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cache_has_each_key_in_the_end_while_nodes_are_killed() {
    const KEYS: usize = 50;
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    for n in 0..KEYS {
        client.set(format!("user:{n}"), "from before").await.unwrap();
    }
    let cache = Cache::open(&client, "user:").await.unwrap();
    assert_eq!(cache.entries().len(), KEYS, "what was there is in it");
    let began = Instant::now();
    let mut writers = JoinSet::new();
    for number in 0..4 {
        let client = cluster.client();
        writers.spawn(async move {
            let mut count = 0;
            while began.elapsed() < RUN_TIME {
                let key = format!("user:{}", (number + 7 * count) % (KEYS + 10));
                // Whether one of them has happened is not always known. The cache must know in the end.
                if count % 5 == 4 {
                    client.delete(&key).await.ok();
                } else {
                    client.set(&key, format!("{number}-{count}")).await.ok();
                }
                client.set("other", "v").await.ok();
                count += 1;
            }
            count
        });
    }
    kill_in_turn(&mut cluster, began).await;
    let mut count = 0;
    while let Some(ended) = writers.join_next().await {
        count += ended.expect("a client does not panic");
    }
    assert!(count > 20, "{count}: the test has seen nothing");
    poll("the cache to have what is there", START_TIME_MAX, async || {
        let mut there = Entries::new();
        let mut list = client.list("user:").values().stream();
        while let Some(listed) = list.next().await {
            let listed = listed.map_err(|error| error.to_string())?;
            there.insert(listed.key, (listed.version, listed.value.expect("values were asked for")));
        }
        let known = cache.entries();
        if known == there { Ok(()) } else { Err(format!("{known:?} is known, and {there:?} is there")) }
    })
    .await;
    println!("{count} writes, {} keys", cache.entries().len());
}
