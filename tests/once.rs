//! Exactly once, on real processes: one of many writers finds a key absent, and each addition counts once, while nodes are
//! killed and restarted.
//!
//! ```text
//! cargo test --release --test once -- --nocapture
//! QUORATE_ONCE_ADDITIONS=1000 cargo test --release --test once -- --nocapture    # full size, a part of `make faults`
//! ```

#![cfg(all(feature = "server", unix))]

mod testkit;

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use quorate::client::Builder;
use quorate::{Client, ClientError};
use testkit::cluster::{Cluster, Plan};
use testkit::process::command;
use tokio::task::JoinSet;

/// The writers that find a key absent at the same time.
const WRITERS: usize = 16;
/// How often they do.
const KEYS: usize = 3;
/// The clients that add.
const CLIENTS: usize = 8;
/// How often each of them adds to each of two counters, by default.
const ADDITIONS: u64 = 60;
/// Clients go on for so long, even if they have made enough: nodes are to be killed several times.
const TIME_MIN: Duration = Duration::from_secs(8);
/// Clients begin an addition before this has passed, even if they are to make more: the test has a bounded time.
const TIME_MAX: Duration = Duration::from_mins(12);
/// How long a node is up and down.
const UP: Duration = Duration::from_millis(1_200);
const DOWN: Duration = Duration::from_millis(400);

/// The clients' knowledge of one counter.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    counted: u64,
    unknown: u64,
    /// Additions that were refused as too old, and made anew.
    declined: u64,
    /// Additions that certainly did not happen, and were made anew.
    not_applied: u64,
}

fn five_nodes() -> Plan {
    Plan { ids: vec!["1", "2", "3", "4", "5"], ..Plan::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_sixteen_shells_finds_the_key_absent() {
    let cluster = Cluster::start_as(&five_nodes()).await;
    for n in 0..KEYS {
        let key = format!("once-{n}");
        let mut shells = JoinSet::new();
        for i in 0..WRITERS {
            let address = cluster.nodes[i % cluster.nodes.len()].address();
            let mut shell = command();
            shell.args(["set", &key, &i.to_string(), "--if-absent"]).env("QUORATE_ADDRESS", address);
            shell.stdin(Stdio::null());
            shells.spawn_blocking(move || (i, shell.output().expect("the program runs")));
        }
        let ended: Vec<(usize, Output)> = shells.join_all().await;
        let codes: Vec<Option<i32>> = ended.iter().map(|(_, output)| output.status.code()).collect();
        let winners: Vec<usize> = ended.iter().filter(|(_, output)| output.status.success()).map(|(i, _)| *i).collect();
        let [winner] = winners[..] else { panic!("{winners:?} wrote {key}: {ended:?}") };
        assert_eq!(codes.iter().filter(|code| **code == Some(5)).count(), WRITERS - 1, "{codes:?}");
        for node in &cluster.nodes {
            let found = node.client().get(&key).await.expect("the cluster serves").expect("it was written");
            assert_eq!(found.value.bytes(), winner.to_string().as_bytes(), "through node {}", node.id);
        }
        println!("{key}: shell {winner} of {WRITERS} wrote it, and the others ended with 5");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn additions_count_once_while_nodes_are_killed() {
    let additions = std::env::var("QUORATE_ONCE_ADDITIONS").map_or(ADDITIONS, |text| text.parse().expect("a number"));
    let mut cluster = Cluster::start_as(&five_nodes()).await;
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        // Half of them ask replicas first.
        let client = cluster.addresses().into_iter().fold(Client::builder(), Builder::address);
        let client = client.routing(number % 2 == 1).build().expect("the addresses are well formed");
        clients.spawn(async move {
            let (mut plain, mut named) = (Tally::default(), Tally::default());
            let mut since = None;
            let goes_on = |tally: Tally| {
                let time = began.elapsed();
                time < TIME_MIN || time < TIME_MAX && !tally.has_tried(additions)
            };
            while goes_on(plain) || goes_on(named) {
                if goes_on(plain) {
                    plain.note(client.add("plain", 1).await.map(drop));
                }
                if !goes_on(named) {
                    continue;
                }
                let Some(version) = since.take() else {
                    since = client.get("named").state().await.ok().map(|state| state.version);
                    continue;
                };
                let added = client.add("named", 1).since(&version).await;
                since = match &added {
                    Ok(added) => Some(added.version.clone()),
                    Err(ClientError::ConditionFailed { version, .. }) => Some(version.clone()),
                    Err(_) => None,
                };
                named.note(added.map(drop));
            }
            (plain, named)
        });
    }
    let (mut plain, mut named) = (Tally::default(), Tally::default());
    let mut kills = 0;
    while !clients.is_empty() {
        // Two nodes of five are down at a time: a majority of each key's replicas may be, for a moment.
        for turn in [0, 1] {
            let count = cluster.nodes.len();
            cluster.nodes[(kills + turn) % count].kill();
            tokio::time::sleep(DOWN / 2).await;
        }
        for turn in [0, 1] {
            let count = cluster.nodes.len();
            cluster.nodes[(kills + turn) % count].start();
        }
        kills += 2;
        cluster.wait_all_linked().await;
        let until = tokio::time::Instant::now() + UP;
        while let Ok(Some(ended)) = tokio::time::timeout_at(until, clients.join_next()).await {
            let (of_plain, of_named) = ended.expect("a client does not panic");
            plain.merge(of_plain);
            named.merge(of_named);
        }
    }
    let took = began.elapsed();
    for (key, tally) in [("plain", plain), ("named", named)] {
        let Tally { counted, unknown, declined, not_applied } = tally;
        assert!(counted >= additions, "{key}: {tally:?} shows nothing");
        for node in &cluster.nodes {
            let found = node.client().get(key).await.expect("the cluster serves").expect("it was added to");
            let sum: u64 = String::from_utf8_lossy(found.value.bytes()).parse().expect("it is a number");
            assert!((counted..=counted + unknown).contains(&sum), "{key} is {sum} through node {}: {tally:?}", node.id);
            if node.id == "1" {
                println!(
                    "{key}: {counted} additions counted, {unknown} of unknown outcome, sum {sum}; {declined} were refused \
                     as too old and {not_applied} certainly not applied, and made anew"
                );
            }
        }
    }
    println!("{CLIENTS} clients, {kills} nodes killed, {:.0} s", took.as_secs_f64());
    assert!(kills >= 4, "{kills} kills show little");
}

impl Tally {
    /// Whether so many additions were made, or may have been.
    fn has_tried(&self, additions: u64) -> bool {
        self.counted + self.unknown >= additions
    }

    fn note(&mut self, added: Result<(), ClientError>) {
        match added {
            Ok(()) => self.counted += 1,
            Err(ClientError::OutcomeUnknown { .. }) => self.unknown += 1,
            Err(ClientError::ConditionFailed { .. }) => self.declined += 1,
            Err(ClientError::NotApplied { .. }) => self.not_applied += 1,
            Err(error) => panic!("{error}"),
        }
    }

    fn merge(&mut self, other: Self) {
        self.counted += other.counted;
        self.unknown += other.unknown;
        self.declined += other.declined;
        self.not_applied += other.not_applied;
    }
}
