//! Every run of small clusters of the real protocol: a model checker tries all events in every order.
//!
//! ```text
//! make model                                                        # the table of pinned models
//! QUORATE_MODEL=large make model                                    # larger ones too: hours, and much memory
//! QUORATE_MODEL_NAME=restarts make model                            # the models with this in their name
//! cargo test --release --features mutants --test model -- --nocapture broken_rules
//! ```
//!
//! **What runs.** Three nodes, each with a disk, all replicas of one key. Each is the same `protocol::Node` that the server
//! runs; nothing of the protocol is written again here. Each model fixes the clients' operations. The checker tries every
//! order of their beginnings, of messages, of batches that become durable and of crashes (stateright, breadth first). The
//! number of states of each model is pinned: it changes only on purpose.
//!
//! **What may happen.** A message arrives at any later time, in any order. A message that arrives after the end of a run is
//! as good as lost. Messages are repeated and requests resent (both counted). The remaining replicas are asked at any later
//! time, as if one of those asked first had been late. A batch in flight becomes durable at any later time. A node may crash
//! before that, after it, and before it learns of it. It starts again from its durable state, in a new incarnation with
//! a raised epoch, and greets its peers again. Messages of the earlier incarnation still arrive. A batch fails, and is on
//! disk or not. A client leaves an operation open and goes on, always when its node crashes. A data folder is lost, or
//! replaced by the copy that was made before its last incarnation.
//!
//! **What must always hold.** Every history of the clients is linearizable, with deletes, with operations that stay open, and
//! with operations that were reported as not applied. One stamp names one record. No clock is below a record that its node
//! acknowledged, across restarts too. A node tells its peers only of durable records. No assertion of the protocol
//! fails. A node that lost acknowledged records takes no part. An operation fails only if so many replicas permanently
//! refused that no majority is left. **What must sometimes be reached:** each model names events, such as a read that writes
//! back or a restart between the two rounds of a write. A model that reaches nothing fails.
//!
//! Conditional writes and additions run through one and two coordinators, with one ballot after the other where an alarm is
//! allowed. Each stamp and ballot names one record.
//!
//! In the models of members a list of three nodes takes the place of a list of four, so that the slot of the key goes from nodes 1,
//! 2 and 3 to nodes 2, 3 and 4. The change begins at any moment. Node 4 takes the slot over from two of the old replicas, and each
//! other node hears of the configurations at a time of its own. `world/change.rs` says what takes no time there.
//!
//! **What is not modelled.** More than one key, more than four nodes, nodes that are no replicas, time (timers fire when the
//! checker decides, and no deadline passes), progress (the properties are safety properties), reads of the store that fail,
//! damaged data, several inputs to one turn of a node, and operators' tools. The simulator (tests/simulation) has these. A
//! process that crashes starts again in the same step: a crashed process is like one that no message reaches.
//!
//! **What keeps the number of states small**, and why it hides nothing. Replies reach clients, and requests their node, at
//! once, which is the hardest case for real-time order. A run ends with its last client. Reads of the store are answered at
//! once, except in the models of slow reads. The record of a table's name is an ordinary one: what is done with it takes no
//! time. Greetings take no time, except those of one node in the models of meeting;
//! recording a peer always waits for the disk. Messages that can have no effect are dropped
//! (`World::forget_what_is_dead` says which). States are told apart by 64-bit hashes.
#![allow(unreachable_pub, reason = "a program's parts, of which nothing is public outside")]

mod machine;
mod milestones;
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

/// Explores a whole model, prints its row, and returns what is wrong.
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

/// The properties that were found not to hold.
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
        ("seals", faults.seals),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    if counts.is_empty() { "loss, order".to_owned() } else { format!("loss, order, {}", counts.join(", ")) }
}
