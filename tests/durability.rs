//! Acknowledged writes survive SIGKILL of one node after the other, and of all nodes at once.
//!
//! Each client has keys of its own, so that the last acknowledged state of each key is known without a checker. An
//! operation of unknown outcome may take effect now or later. From then on, its key may hold the old or the new value.

#![cfg(feature = "server")]

mod testkit;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quorate::types::{Stamp, Value};
use quorate::{Client, ClientError};
use testkit::cluster::{Cluster, Plan, TestNode, percentiles_ms, poll};
use tokio::task::JoinSet;

const CLIENTS: usize = 16;
const KEYS_PER_CLIENT: usize = 60;
/// The least number of acknowledged writes and deletes in the whole test.
const ACKNOWLEDGED_MIN: u64 = 20_000;
/// The next node is killed after this many acknowledgements, so that faults happen under load on every machine.
const ACKNOWLEDGED_PER_FAULT: u64 = 1_800;
/// The time for which a killed node stays down.
const AWAY: Duration = Duration::from_millis(300);
/// The longest time of the whole test. Beyond it something hangs.
const TEST_TIME_MAX: Duration = Duration::from_secs(90);
/// Longer than all nodes are ever down, so that the client itself retries what was not applied.
const DEADLINE: Duration = Duration::from_secs(20);

/// The state of a key: its value, or `None`.
type State = Option<String>;

/// One key, and the states that its owner can expect.
struct Known {
    key: String,
    acknowledged: State,
    /// The states from operations of unknown outcome.
    perhaps: Vec<State>,
}

/// The counters of all clients.
#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    /// The messages of operations of unknown outcome, and the count of each.
    why_unknown: Mutex<BTreeMap<String, u64>>,
    not_applied: AtomicU64,
    faults_over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_nodes_are_killed() {
    tokio::time::timeout(TEST_TIME_MAX, kill_and_compare()).await.expect("it ends in time");
}

async fn kill_and_compare() {
    let mut cluster = Cluster::start_as(&Plan { smallest_store: true, ..Plan::default() }).await;
    let began = Instant::now();
    let counts = Arc::new(Counts::default());
    let mut writers = JoinSet::new();
    for owner in 0..CLIENTS {
        let client = cluster.client().with_deadline(DEADLINE);
        writers.spawn(write_until_over(owner, client, Arc::clone(&counts)));
    }
    let kills = kill_in_turn(&mut cluster, &counts).await;
    let mut known = Vec::new();
    let mut latencies = Vec::new();
    while let Some(written) = writers.join_next().await {
        let (keys, took) = written.expect("a writer does not panic");
        known.extend(keys);
        latencies.extend(took);
    }
    let loaded_for = began.elapsed();
    let acknowledged = counts.acknowledged.load(Ordering::Relaxed);
    let (p50, p99) = percentiles_ms(&mut latencies);
    let uncertain = known.iter().filter(|known| !known.perhaps.is_empty()).count();
    println!(
        "{acknowledged} writes and deletes acknowledged to {CLIENTS} clients in {loaded_for:.1?} (p50 {p50:.1} ms, p99 \
         {p99:.1} ms) over {kills} SIGKILLs; outcome unknown: {}, certainly not applied: {}; {uncertain} of {} keys \
         have had an operation of unknown outcome",
        counts.unknown.load(Ordering::Relaxed),
        counts.not_applied.load(Ordering::Relaxed),
        known.len()
    );
    println!("outcome unknown, by message: {:?}", counts.why_unknown.lock().unwrap());
    assert!(acknowledged >= ACKNOWLEDGED_MIN);

    cluster.wait_all_linked().await;
    let began = Instant::now();
    let known = Arc::new(known);
    let mut stamps: Vec<Option<Stamp>> = vec![None; known.len()];
    for node in &cluster.nodes {
        let read = read_all(node, &known).await;
        for (index, (state, stamp)) in read.into_iter().enumerate() {
            let of = &known[index];
            assert!(
                state == of.acknowledged || of.perhaps.contains(&state),
                "key {} read through node {} holds {state:?}; acknowledged last: {:?}, perhaps: {:?}",
                of.key,
                node.id,
                of.acknowledged,
                of.perhaps
            );
            // The reads follow one another, so a later read never returns an older record.
            if let Some(stamp) = stamp {
                let before = stamps[index].replace(stamp.clone());
                assert!(before.as_ref().is_none_or(|before| *before <= stamp), "{}: {before:?}, then {stamp}", of.key);
            }
        }
    }
    println!("{} keys read through each of 3 nodes in {:.1?}: all as acknowledged", known.len(), began.elapsed());
}

/// Kills one node after the other, all of them at once in the middle, and one after the other again. Returns the number of
/// kills.
async fn kill_in_turn(cluster: &mut Cluster, counts: &Counts) -> usize {
    let faults: [&[usize]; 11] = [&[0], &[1], &[2], &[0], &[1], &[0, 1, 2], &[2], &[0], &[1], &[2], &[0, 1, 2]];
    let mut kills = 0;
    for (number, victims) in std::iter::zip(1.., faults) {
        let due = number * ACKNOWLEDGED_PER_FAULT;
        poll(&format!("{due} acknowledgements"), TEST_TIME_MAX, async || {
            let acknowledged = counts.acknowledged.load(Ordering::Relaxed);
            if acknowledged >= due { Ok(()) } else { Err(format!("{acknowledged}")) }
        })
        .await;
        for victim in victims {
            cluster.nodes[*victim].kill();
            kills += 1;
        }
        tokio::time::sleep(AWAY).await;
        for victim in victims {
            cluster.nodes[*victim].start();
        }
        // A second failure at the same time would take the majority away.
        cluster.wait_all_linked().await;
    }
    counts.faults_over.store(true, Ordering::Relaxed);
    kills
}

/// Writes and deletes the owner's keys until enough is acknowledged and all faults are over.
async fn write_until_over(owner: usize, client: Client, counts: Arc<Counts>) -> (Vec<Known>, Vec<Duration>) {
    let known = |number| Known { key: format!("client-{owner}/key-{number}"), acknowledged: None, perhaps: Vec::new() };
    let mut keys: Vec<Known> = (0..KEYS_PER_CLIENT).map(known).collect();
    let mut latencies = Vec::new();
    let is_over = || {
        counts.faults_over.load(Ordering::Relaxed) && counts.acknowledged.load(Ordering::Relaxed) >= ACKNOWLEDGED_MIN
    };
    for operation in 0_usize.. {
        if is_over() {
            break;
        }
        // This order writes some keys again soon and others late.
        let index = (operation * 7 + operation / KEYS_PER_CLIENT) % KEYS_PER_CLIENT;
        let known = &mut keys[index];
        let state = (operation % 5 != 4).then(|| value_of(owner, operation));
        let began = Instant::now();
        let result = match &state {
            Some(value) => client.set(&known.key, value.as_str()).await,
            None => client.delete(&known.key).await,
        };
        match result {
            Ok(_) => {
                latencies.push(began.elapsed());
                known.acknowledged = state;
                counts.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(ClientError::OutcomeUnknown { node }) => {
                known.perhaps.push(state);
                *counts.why_unknown.lock().unwrap().entry(node.message).or_default() += 1;
                counts.unknown.fetch_add(1, Ordering::Relaxed);
            }
            // A write that was not applied never takes effect, so its state stays out of `perhaps`.
            Err(ClientError::NotApplied { .. }) => {
                counts.not_applied.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => panic!("{}: {error}", known.key),
        }
    }
    (keys, latencies)
}

/// A unique value. One in fifty is so large that the store keeps it separate from its stamp.
fn value_of(owner: usize, operation: usize) -> String {
    let padding = if operation % 50 == 7 { 20_000 } else { 100 };
    format!("client-{owner}/operation-{operation}/{}", "x".repeat(padding))
}

/// Reads each key through `node`.
async fn read_all(node: &TestNode, known: &Arc<Vec<Known>>) -> Vec<(State, Option<Stamp>)> {
    let mut readers = JoinSet::new();
    for reader in 0..CLIENTS {
        let (client, known, id) = (node.client(), Arc::clone(known), node.id.clone());
        readers.spawn(async move {
            let mut read = Vec::new();
            for index in (reader..known.len()).step_by(CLIENTS) {
                let key = &known[index].key;
                let found = client.get(key).await.unwrap_or_else(|error| panic!("{key} through node {id}: {error}"));
                let stamp = found.as_ref().and_then(|found| found.stamp.clone());
                read.push((index, found.map(|found| text(&found.value)), stamp));
            }
            read
        });
    }
    let mut all = vec![(None, None); known.len()];
    while let Some(read) = readers.join_next().await {
        for (index, state, stamp) in read.expect("a reader does not panic") {
            all[index] = (state, stamp);
        }
    }
    all
}

fn text(value: &Value) -> String {
    String::from_utf8(value.bytes().to_vec()).expect("text was written")
}
