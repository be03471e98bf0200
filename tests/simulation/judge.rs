//! Runs a seed and judges what its clients saw.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use quorate::placement::Placement;
use quorate::types::{ClusterParameters, NodeId, Stamp};

use crate::clients::Done;
use crate::counters::Counters;
use crate::plan::Plan;
use crate::support::checker::{Action, Ending, Operation, STEPS_MAX, Verdict, check, describe, shorten};
use crate::trace::Trace;
use crate::world::World;

/// A seed that failed.
#[derive(Debug)]
pub struct Finding {
    seed: u64,
    plan: String,
    what: String,
    /// The shortest part of the history that shows it.
    history: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, plan, what, history } = self;
        writeln!(f, "seed {seed} failed: {what}")?;
        writeln!(f, "  {plan}")?;
        for line in history {
            writeln!(f, "  {line}")?;
        }
        let end = seed + 1;
        write!(
            f,
            "  replay: QUORATE_SIMULATION_SEEDS={seed}..{end} cargo test --release --test simulation -- --nocapture every"
        )
    }
}

/// Runs one seed.
pub fn run_seed(seed: u64) -> (Counters, Option<Finding>) {
    let mut world = world(seed, Trace::default());
    let plan = format!("{:?}", world.plan);
    let finding = |what, history| Some(Finding { seed, plan, what, history });
    // An assertion of the protocol's own is a finding like any other.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        return (world.counters, finding(what.unwrap_or_else(|| "it panicked".to_owned()), Vec::new()));
    }
    let wrong = judge(&world)
        .or_else(|| world.defect.take().map(|defect| (format!("{} us: {}", defect.at, defect.what), Vec::new())));
    let mut counters = world.counters;
    counters.add("histories", world.clients.histories().len() as u64);
    match wrong {
        Some((what, history)) => (counters, finding(what, history)),
        None => (counters, None),
    }
}

/// Every event of a seed's run, as far as it gets.
pub fn trace_of(seed: u64) -> Trace {
    let mut world = world(seed, Trace::full());
    let _ = catch_unwind(AssertUnwindSafe(|| world.run()));
    world.trace
}

fn world(seed: u64, trace: Trace) -> World {
    let plan = Plan::draw(seed);
    let placement = placement(plan.nodes, plan.replica_count);
    World::new(plan, placement, trace)
}

/// A table takes longer to compute than a run: the few that are used are shared.
fn placement(nodes: usize, replica_count: usize) -> Arc<Placement> {
    static TABLES: Mutex<BTreeMap<(usize, usize), Arc<Placement>>> = Mutex::new(BTreeMap::new());
    let mut tables = TABLES.lock().expect("nobody panics while holding it");
    let table = tables.entry((nodes, replica_count)).or_insert_with(|| {
        let node_ids = (1..=nodes).map(|n| NodeId::new(&n.to_string()).expect("this is an id")).collect();
        Arc::new(Placement::new(ClusterParameters { seed: 0, replica_count, node_ids }))
    });
    Arc::clone(table)
}

/// What is wrong with the histories, if anything.
fn judge(world: &World) -> Option<(String, Vec<String>)> {
    for (key, history) in world.clients.histories() {
        let operations: Vec<Operation> = history.iter().map(|done| done.operation).collect();
        match check(&operations, STEPS_MAX) {
            Verdict::Linearizable => {}
            Verdict::NoVerdict => return Some((format!("no verdict about key-{key}"), Vec::new())),
            Verdict::NotLinearizable => {
                let short = shorten(&operations, STEPS_MAX);
                let shown = short.iter().map(|operation| {
                    let done = history.iter().find(|done| done.operation.invoked == operation.invoked);
                    done.map_or_else(|| describe(operation), |done| explain(done))
                });
                return Some((format!("the history of key-{key} is not linearizable"), shown.collect()));
            }
        }
        if let Some((earlier, later)) = out_of_order(&history) {
            let shown = vec![explain(earlier), explain(later)];
            return Some((format!("key-{key}: stamps do not rise with real time"), shown));
        }
    }
    None
}

/// The protocol orders operations by stamp, so that stamps must rise with real time: stricter than what clients could
/// see, and it finds a fault of the order before a value shows it.
fn out_of_order<'a>(history: &[&'a Done]) -> Option<(&'a Done, &'a Done)> {
    let mut ended: Vec<(u64, &Done)> = Vec::new();
    for done in history {
        if let Ending::Returned(at) = done.operation.ending {
            ended.push((at, done));
        }
    }
    ended.sort_by_key(|(at, _)| *at);
    let mut begun: Vec<&Done> = ended.iter().map(|(_, done)| *done).collect();
    begun.sort_by_key(|done| done.operation.invoked);
    let mut before = ended.into_iter().peekable();
    let mut greatest: Option<(&Stamp, &Done)> = None;
    for done in begun {
        while let Some((_, earlier)) = before.next_if(|(at, _)| *at < done.operation.invoked) {
            if let Some(stamp) = &earlier.stamp
                && greatest.is_none_or(|(greatest, _)| greatest < stamp)
            {
                greatest = Some((stamp, earlier));
            }
        }
        let Some((floor, earlier)) = greatest else { continue };
        let is_read = matches!(done.operation.action, Action::Read { .. });
        let is_fine = done.stamp.as_ref().is_some_and(|stamp| stamp > floor || (is_read && stamp == floor));
        if !is_fine {
            return Some((earlier, done));
        }
    }
    None
}

fn explain(done: &Done) -> String {
    let Done { operation, node, began_at, ended_at, stamp, .. } = done;
    let stamp = stamp.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let ended_at = ended_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    format!("{} [via {node:?}, {began_at} to {ended_at} us, stamp {stamp}]", describe(operation))
}
