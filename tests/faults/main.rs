//! Real processes on real disks under real faults: every history must be linearizable.
//!
//! Nodes are killed, paused, cut off, slowed down, and lose disk space and folders, while clients read, write and delete a few
//! keys through all nodes. After each round all faults end, every operation must succeed again, and the history of each key is
//! checked. Links are cut and slowed as streams of bytes. No packet is lost, because TCP would hide the loss except for its
//! delay.
//!
//! Faults are drawn from a seed. The scheduling of the system is not, so that a seed repeats the faults and not the run.
//!
//! ```text
//! cargo test --release --test faults -- --nocapture                           # about a minute
//! QUORATE_FAULTS_SECONDS=1800 cargo test --release --test faults -- --nocapture
//! QUORATE_FAULTS_SEED=7 cargo test --release --test faults -- --nocapture     # the faults of this seed
//! ```

#![cfg(feature = "server")]

mod clients;
mod counters;
mod means;
mod plan;
mod run;

#[path = "../testkit/mod.rs"]
mod testkit;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use counters::Counters;
use plan::Deck;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use run::Run;

/// How long it runs by default.
const SECONDS_DEFAULT: u64 = 60;
/// A run of at least this time is long: pauses may be long, and a cluster has more rounds.
const LONG_RUN: Duration = Duration::from_mins(5);
/// The rounds of one cluster in a short run.
const ROUNDS: usize = 3;
/// The rounds of one cluster in a long run.
const ROUNDS_OF_LONG_RUN: usize = 8;

/// Events that must happen in every run that dealt each kind of fault.
const SOMETIMES: [&str; 13] = [
    "deletes acknowledged",
    "directions cut",
    "directions delayed",
    "directions throttled",
    "kills that left no node running",
    "pauses",
    "reads that failed",
    "refusals of an empty folder",
    "refusals of an older copy",
    "reads that returned",
    "writes acknowledged",
    "writes and deletes certainly not applied",
    "writes and deletes of unknown outcome",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_of_real_processes_is_linearizable_under_faults() {
    let lasts = Duration::from_secs(number("QUORATE_FAULTS_SECONDS").unwrap_or(SECONDS_DEFAULT));
    let seed = number("QUORATE_FAULTS_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 32));
    println!("seed {seed}, {} s; again with QUORATE_FAULTS_SEED={seed}", lasts.as_secs());
    let (mut random, mut deck, mut counters) = (StdRng::seed_from_u64(seed), Deck::default(), Counters::default());
    let (began, values) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let is_long = lasts >= LONG_RUN;

    for number in 0.. {
        if began.elapsed() >= lasts {
            break;
        }
        let nodes = if number % 2 == 0 { 3 } else { 5 };
        let replica_count = if nodes == 5 && random.random_bool(0.5) { 5 } else { 3 };
        let mut run = match Run::start(format!("c{number}"), (nodes, replica_count), began, Arc::clone(&values)).await {
            Ok(run) => run,
            Err(problem) => panic!("cluster {number} of seed {seed} did not start: {problem}"),
        };
        for _ in 0..if is_long { ROUNDS_OF_LONG_RUN } else { ROUNDS } {
            if began.elapsed() >= lasts {
                break;
            }
            let kinds = deck.deal(&mut random);
            if let Err(problem) = run.round(&kinds, is_long, &mut random).await {
                println!("the faults of cluster {number}, whose nodes are 0 to {}:", nodes - 1);
                run.events().iter().for_each(|event| println!("{event}"));
                let kept = run.end(true).expect("it is kept");
                panic!(
                    "seed {seed}, cluster {number} ({nodes} nodes, {replica_count} replicas): {problem}\n\
                     the nodes' logs and folders are kept in {}",
                    kept.display()
                );
            }
            counters.add("rounds", 1);
        }
        counters.add("clusters", 1);
        counters.merge(&run.counters);
        run.end(false);
    }

    for (name, count) in counters.iter() {
        println!("{count:>12}  {name}");
    }
    println!(
        "seed {seed}: {} histories linearizable, every operation back after each of {} rounds, in {:.0} s",
        counters.get("histories"),
        counters.get("rounds"),
        began.elapsed().as_secs_f64()
    );
    if deck.dealt_out > 0 {
        let never: Vec<&str> = SOMETIMES.iter().copied().filter(|name| counters.get(name) == 0).collect();
        assert!(never.is_empty(), "these never happened, so that the run shows nothing about them: {never:#?}");
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}
