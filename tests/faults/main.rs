//! Real processes on real disks under real faults: every history must be linearizable.
//!
//! Nodes are killed, paused, cut off, slowed down, and lose disk space and folders. Meanwhile clients read, write and delete a
//! few keys through all doors of all nodes, plainly and under conditions, add, list, and send requests again whose outcome is
//! unknown. Some values expire. Watches go from node to node. A few clients create, use and drop tables. After each round all faults end, and every operation must
//! succeed again through each door.
//! The history of each key is checked, by porcupine too. Each watch must have been told of every write.
//!
//! A value that expires is one more delete in the history, by nobody: it may happen once the time to live has passed since the
//! write was called, and only to that value. So the checker finds a value that is gone too early, comes back, or takes its
//! successor with it. It does not find one that is gone late, because restarts delay expiries: that is tried after each
//! round, without faults.
//!
//! A secure cluster has TLS and authorization, and each kind of clients a token. Meanwhile certificates are replaced, one CA follows
//! another, tokens are revoked, and intruders ask. A round without faults comes first: there no request may fail.
//!
//! Links are cut and slowed as streams of bytes. No packet is lost, because TCP would hide the loss except for its
//! delay.
//!
//! Faults are drawn from a seed. The scheduling of the system is not, so that a seed repeats the faults and not the run.
//!
//! ```text
//! cargo test --release --test faults -- --nocapture                           # about a minute
//! QUORATE_FAULTS_SECONDS=1800 cargo test --release --test faults -- --nocapture
//! QUORATE_FAULTS_SEED=7 cargo test --release --test faults -- --nocapture     # the faults of this seed
//! QUORATE_FAULTS_MEMBERS=1 cargo test --release --test faults -- --nocapture  # members change under kills and pauses
//! QUORATE_FAULTS_SECURE=1 cargo test --release --test faults -- --nocapture   # all clusters are secure, instead of one
//! ```

#![cfg(feature = "server")]

mod asking;
mod clients;
mod counters;
mod doors;
mod files;
mod judge;
mod means;
mod pass;
mod plan;
mod run;
mod secure;
mod tables;
mod watchers;

#[path = "../testkit/mod.rs"]
mod testkit;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use counters::Counters;
use plan::Deck;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use run::{Changing, Run};
use testkit::porcupine::Porcupine;

/// How long it runs by default.
const SECONDS_DEFAULT: u64 = 60;
/// A run of at least this time is long: pauses may be long, and a cluster has more rounds.
const LONG_RUN: Duration = Duration::from_mins(5);
/// The rounds of one cluster in a short run.
const ROUNDS: usize = 3;
/// The rounds of a secure cluster where nobody asks for a time: one without faults, and one with them.
const ROUNDS_OF_SECURE: usize = 2;
/// The rounds of one cluster whose members change.
const ROUNDS_OF_CHANGES: usize = 12;
/// The rounds of one cluster in a long run.
const ROUNDS_OF_LONG_RUN: usize = 8;

/// Events that must happen in every run that dealt each kind of fault.
const SOMETIMES: [&str; 57] = [
    "additions declined",
    "additions made",
    "additions with since made",
    "answers that there is no table",
    "answers over HTTP/1.1",
    "answers over HTTP/2",
    "answers over gRPC",
    "answers over lines",
    "answers over the Redis protocol",
    "changes that watches were told",
    "conditional deletes that took effect",
    "conditional writes and additions certainly not applied",
    "conditional writes and additions of unknown outcome",
    "conditions if_absent that failed",
    "conditions that found no value, whose version is not told",
    "conditions if_present that failed",
    "conditions if_version that failed",
    "deletes acknowledged",
    "deletes of what there is",
    "directions cut",
    "directions delayed",
    "directions throttled",
    "histories of created tables",
    "keys read by a list",
    "kills that left no node running",
    "list pages",
    "lists of versions that failed",
    "lists that failed",
    "lists that reached the end",
    "pauses",
    "reads before writes that were told",
    "reads of one replica with a version",
    "reads that failed",
    "reads that returned",
    "refusals of an empty folder",
    "reads of created tables",
    "refusals of an older copy",
    "requests sent again",
    "requests sent again of unknown outcome",
    "requests sent again that were answered",
    "tables created",
    "tables dropped",
    "values that expired on time",
    "watches begun anew",
    "watches reset",
    "watches that went on with a cursor",
    "watches told all that is there",
    "watches told of every write",
    "writes acknowledged",
    "writes and deletes certainly not applied",
    "writes and deletes of unknown outcome",
    "writes of created tables",
    "writes that expire in the round",
    "writes unless there is a value",
    "writes whose if_absent held",
    "writes whose if_version held",
    "writes whose list named the version",
];

/// Events that must happen in every secure run.
const SOMETIMES_SECURE: [&str; 9] = [
    "CAs rolled over",
    "certificates replaced",
    "certificates replaced before their keys",
    "handshakes refused",
    "refusals of revoked tokens",
    "refusals of wrong tokens",
    "refusals without a token",
    "requests over new connections beside a change of CAs, all done",
    "tokens revoked",
];

/// One run at a time: each keeps the machine busy.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How long a run lasts, and of what.
#[derive(Clone, Copy, Debug)]
struct Extent {
    lasts: Duration,
    is_secure: bool,
    /// The most rounds.
    rounds_max: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_of_real_processes_is_linearizable_under_faults() {
    if number("QUORATE_FAULTS_SECURE").is_some() {
        return;
    }
    let _turn = TURN.lock().await;
    let lasts = Duration::from_secs(number("QUORATE_FAULTS_SECONDS").unwrap_or(SECONDS_DEFAULT));
    let (seed, porcupine) = begin(lasts);
    if number("QUORATE_FAULTS_MEMBERS").is_some() {
        return members_change(lasts, seed, porcupine).await;
    }
    let (counters, is_dealt_out) =
        run_clusters(Extent { lasts, is_secure: false, rounds_max: usize::MAX }, seed, porcupine).await;
    if is_dealt_out {
        assert_happened(&SOMETIMES, &counters);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_is_linearizable_while_certificates_and_tokens_change_under_faults() {
    let is_asked_for = number("QUORATE_FAULTS_SECURE").is_some();
    if number("QUORATE_FAULTS_MEMBERS").is_some() {
        assert!(!is_asked_for, "QUORATE_FAULTS_MEMBERS and QUORATE_FAULTS_SECURE are two runs: give one of them");
        return;
    }
    let _turn = TURN.lock().await;
    let lasts = Duration::from_secs(number("QUORATE_FAULTS_SECONDS").unwrap_or(SECONDS_DEFAULT));
    let (seed, porcupine) = begin(lasts);
    let rounds_max = if is_asked_for { usize::MAX } else { ROUNDS_OF_SECURE };
    let (counters, is_dealt_out) = run_clusters(Extent { lasts, is_secure: true, rounds_max }, seed, porcupine).await;
    assert_happened(&SOMETIMES_SECURE, &counters);
    if is_dealt_out {
        assert_happened(&SOMETIMES, &counters);
    }
}

/// The seed and the second judge of a run.
fn begin(lasts: Duration) -> (u64, Option<Porcupine>) {
    let seed = number("QUORATE_FAULTS_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 32));
    println!("seed {seed}, {} s; again with QUORATE_FAULTS_SEED={seed}", lasts.as_secs());
    let porcupine = Porcupine::build(Path::new(env!("CARGO_TARGET_TMPDIR")));
    if let Err(why) = &porcupine {
        println!("SKIPPED: the second judge of histories, porcupine, is missing: {why}");
    }
    (seed, porcupine.ok())
}

/// Clusters one after the other, each for some rounds. Returns what happened, and whether each kind of fault was dealt.
async fn run_clusters(extent: Extent, seed: u64, porcupine: Option<Porcupine>) -> (Counters, bool) {
    let Extent { lasts, is_secure, rounds_max } = extent;
    let (mut random, mut deck, mut counters) = (StdRng::seed_from_u64(seed), Deck::default(), Counters::default());
    let (began, numbers) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let is_long = lasts >= LONG_RUN;
    let goes_on = |counters: &Counters| began.elapsed() < lasts && counters.get("rounds") < rounds_max;

    for number in 0.. {
        if !goes_on(&counters) {
            break;
        }
        let nodes = if number % 2 == 0 { 3 } else { 5 };
        let replica_count = if nodes == 5 && random.random_bool(0.5) { 5 } else { 3 };
        let (name, size) = (format!("c{number}"), (nodes, replica_count));
        let mut run = match Run::start(name, size, is_secure, began, Arc::clone(&numbers), porcupine.clone()).await {
            Ok(run) => run,
            Err(problem) => panic!("cluster {number} of seed {seed} did not start: {problem}"),
        };
        for round in 0..if is_long { ROUNDS_OF_LONG_RUN } else { ROUNDS } {
            if !goes_on(&counters) {
                break;
            }
            // The first round of a secure cluster has no faults.
            let kinds = if is_secure && round == 0 { Vec::new() } else { deck.deal(&mut random) };
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
    tell(&counters, seed, began);
    (counters, deck.dealt_out > 0)
}

fn assert_happened(sometimes: &[&str], counters: &Counters) {
    let never: Vec<&str> = sometimes.iter().copied().filter(|name| counters.get(name) == 0).collect();
    assert!(never.is_empty(), "these never happened, so that the run shows nothing about them: {never:#?}");
}

/// Prints what happened, and the verdict.
fn tell(counters: &Counters, seed: u64, began: Instant) {
    for (name, count) in counters.iter() {
        println!("{count:>12}  {name}");
    }
    println!(
        "seed {seed}: {} histories linearizable, every operation back after each of {} rounds, in {:.0} s",
        counters.get("histories"),
        counters.get("rounds"),
        began.elapsed().as_secs_f64()
    );
}

/// The same while members change, without faults of links and disks.
async fn members_change(lasts: Duration, seed: u64, porcupine: Option<Porcupine>) {
    let (mut random, mut counters) = (StdRng::seed_from_u64(seed), Counters::default());
    let (began, numbers) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    for number in 0.. {
        if began.elapsed() >= lasts {
            break;
        }
        let started = Changing::start(format!("m{number}"), began, Arc::clone(&numbers), porcupine.clone()).await;
        let mut changing = match started {
            Ok(changing) => changing,
            Err(problem) => panic!("cluster {number} of seed {seed} did not start: {problem}"),
        };
        for _ in 0..ROUNDS_OF_CHANGES {
            if began.elapsed() >= lasts {
                break;
            }
            if let Err(problem) = changing.round(&mut random).await {
                changing.run.events().iter().for_each(|event| println!("{event}"));
                let kept = changing.run.end(true).expect("it is kept");
                panic!(
                    "seed {seed}, cluster {number}: {problem}\nthe nodes' logs and folders are kept in {}",
                    kept.display()
                );
            }
            counters.add("rounds", 1);
        }
        counters.add("clusters", 1);
        counters.merge(&changing.run.counters);
        changing.run.end(false);
    }
    tell(&counters, seed, began);
    assert!(counters.get("changes made") + counters.get("changes taken back") > 0, "no change was made");
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}
