//! Every run of small clusters of the real protocol: a model checker tries all that may happen, in every order.
//!
//! ```text
//! make model                                                        # the table of pinned models
//! QUORATE_MODEL=large make model                                    # larger ones too; bring memory and hours
//! QUORATE_MODEL_NAME=restarts make model                            # those whose name has this in it
//! cargo test --release --features mutants --test model -- --nocapture broken_rules
//! ```
//!
//! **What is run.** The very `protocol::Node` that the server runs, three of them, each with a disk, replicas of one
//! key. Nothing of the protocol is written again here. The clients' operations are fixed for each model; when they
//! begin, when each message arrives, when each batch becomes durable and when a node dies is up to the checker, which
//! tries everything to the end (stateright, breadth first). The number of states of each model is pinned: when it
//! changes, somebody has to have meant it.
//!
//! **What may happen.** A message arrives at any later time, in any order; it is lost, which is the same as arriving
//! never, and all runs of a model that ends before it arrives are tried; it arrives again (counted); a request is
//! sent again (counted). Those that were not asked first are asked at any later time, as if one that was had been
//! late. A batch at the disk becomes durable at any later time, and a node may die before that, after
//! it, and between its becoming durable and the node's learning of it. A node that dies starts again on what was
//! durable, in a new incarnation with a raised epoch, and meets its peers anew; messages of the earlier incarnation still arrive. A
//! batch fails and is on disk or is not. A client leaves an operation open and goes on, always when its node dies. A
//! folder is lost, or replaced by the copy that was made before its last incarnation.
//!
//! **What must hold, always.** Every history of the clients is linearizable, with deletes, with operations that stay
//! open, and with such as were said not to have happened; one stamp names one record; no clock is below what its node
//! acknowledged, over restarts too; what is said to a peer is durable; no assertion of the protocol fails; a node
//! that forgot what it acknowledged takes no part; an operation that is given up has been refused for good by so many
//! replicas that no majority is left. **And sometimes:** each model names what it must reach, such as a
//! read that writes back or a restart between the two rounds of a write; one that explores nothing fails.
//!
//! **What is not modelled.** More than one key, more than three nodes, nodes that are no replicas, time (alarms ring
//! when the checker says so, nothing ends for lack of time), progress (these are properties of what happens, not of
//! what must happen at last), reads of the store that fail, damaged data, several inputs to one turn of a node,
//! operators' tools. The simulator (tests/simulation) has these. Where a process dies it starts again in the same
//! step: being dead is the same as hearing nothing.
//!
//! **What keeps the number of states small**, and why it hides nothing: replies reach clients, and requests their
//! node, at once, which asks the most of real-time order; a run ends with its last client; reads of the store are
//! answered at once except in the models of slow loads; handshakes take no time except in the models of meeting,
//! where those of one node do, while recording a peer always waits for the disk; messages from which nothing can
//! follow are forgotten (`World::forget_what_is_dead` says which). States are told apart by 64-bit hashes.
#![allow(unreachable_pub, reason = "a program's parts, of which nothing is public outside")]

mod digests;
mod machine;
mod models;
#[cfg(feature = "mutants")]
mod mutants;
mod register;
mod shared;
mod world;

#[path = "../testkit/mod.rs"]
mod testkit;

use std::time::Instant;

use models::Bounded;
use stateright::{Checker, Expectation, HasDiscoveries, Model};
use world::World;

#[test]
fn every_run_of_every_model_is_linearizable() {
    let mut models = models::pinned();
    if std::env::var("QUORATE_MODEL").is_ok_and(|size| size == "large") {
        models.extend(models::large());
    }
    if let Ok(name) = std::env::var("QUORATE_MODEL_NAME") {
        models.retain(|bounded| bounded.world.name.contains(&name));
    }
    println!("| model | clients | faults | states | steps | depth | seconds | always, sometimes | verdict |");
    println!("|---|---|---|---:|---:|---:|---:|---|---|");
    let wrong: Vec<String> = models.into_iter().flat_map(explore).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Tries all of a model, prints its row, and says what is wrong.
fn explore(Bounded { world, states: pinned }: Bounded) -> Vec<String> {
    let began = Instant::now();
    let name = world.name;
    let row = format!("| {name} | {} | {} |", clients(&world), faults(&world));
    let checker = world.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut wrong = failures(&checker);
    for failure in &wrong {
        print_trace(&checker, failure);
    }
    let properties = checker.model().properties();
    let sometimes: Vec<&str> =
        properties.iter().filter(|p| p.expectation == Expectation::Sometimes).map(|p| p.name).collect();
    if wrong.is_empty() {
        let discoveries = checker.discoveries();
        wrong.extend(
            sometimes.iter().filter(|name| !discoveries.contains_key(*name)).map(|name| format!("never: {name}")),
        );
        let found = checker.unique_state_count();
        if pinned.is_some_and(|pinned| pinned != found) {
            wrong.push(format!("{found} states, {} are pinned", pinned.unwrap_or_default()));
        }
    }
    println!(
        "{row} {} | {} | {} | {:.1} | {}, {} | {} |",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64(),
        properties.len() - sometimes.len(),
        sometimes.len(),
        if wrong.is_empty() { "holds".to_owned() } else { wrong.join("; ") },
    );
    wrong.into_iter().map(|what| format!("{name}: {what}")).collect()
}

/// The properties that do not hold.
fn failures(checker: &impl Checker<World>) -> Vec<String> {
    let discoveries = checker.discoveries();
    let properties = checker.model().properties();
    let failed = properties.iter().filter(|p| p.expectation == Expectation::Always && discoveries.contains_key(p.name));
    failed.map(|property| property.name.to_owned()).collect()
}

fn print_trace(checker: &impl Checker<World>, failure: &str) {
    let Some((_, path)) = checker.discoveries().into_iter().find(|(name, _)| *name == failure) else { return };
    println!("not always: {failure}");
    let last = path.last_state().clone();
    for (number, action) in path.into_actions().into_iter().enumerate() {
        println!("{:>4}. {action:?}", number + 1);
    }
    println!("{:?}\n{:#?}", last.defect, last.history);
}

fn clients(world: &World) -> String {
    let client = |operations: &Vec<(usize, register::Operation)>| {
        let operations: Vec<String> =
            operations.iter().map(|(node, operation)| format!("{operation:?} at {}", node + 1)).collect();
        operations.join(", ")
    };
    world.clients.iter().map(client).collect::<Vec<_>>().join(" ‖ ")
}

fn faults(world: &World) -> String {
    let faults = world.faults;
    let counts = [
        ("restarts", faults.restarts_of_all),
        ("repeats", faults.repeats),
        ("alarms", faults.alarms),
        ("open", faults.partings),
        ("failed batches", faults.failures),
        ("lost folders", faults.losses),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    if counts.is_empty() { "loss, order".to_owned() } else { format!("loss, order, {}", counts.join(", ")) }
}
