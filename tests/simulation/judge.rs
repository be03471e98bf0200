//! Runs a seed and judges what its clients saw.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use quorate::protocol::placement::Placement;
use quorate::types::{ClusterParameters, NodeId, Stamp};

use crate::clients::Done;
use crate::counters::Counters;
use crate::plan::Plan;
use crate::testkit::checker::{Action, Ending, Operation, STEPS_MAX, Verdict, check, describe, shorten};
use crate::trace::Trace;
use crate::world::{FoundBy, World};

/// What happened so long before something went wrong may have to do with it, in microseconds.
const LOOKED_BACK: u64 = 300_000;

/// A seed that failed.
#[derive(Debug)]
pub struct Finding {
    seed: u64,
    plan: String,
    pub found_by: FoundBy,
    what: String,
    /// The shortest part of the history that shows it.
    history: Vec<String>,
    key: Option<String>,
    /// When it happened.
    from: u64,
    to: u64,
}

impl Finding {
    /// Leaves what people need who look for the cause.
    pub fn write_down(&self) {
        crate::report::write(self.seed, &self.what, self.key.as_deref(), (self.from, self.to));
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, plan, found_by, what, history, .. } = self;
        writeln!(f, "seed {seed} failed, found by {found_by:?}: {what}")?;
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
    judge_run(world(seed, Trace::default()))
}

/// Runs one seed, and judges only what clients saw.
#[cfg(feature = "mutants")]
pub fn run_seed_unwatched(seed: u64) -> Option<Finding> {
    let mut world = world(seed, Trace::default());
    world.is_watched = false;
    judge_run(world).1
}

fn judge_run(mut world: World) -> (Counters, Option<Finding>) {
    let (seed, plan) = (world.plan.seed, format!("{:?}", world.plan));
    let at_once = |found_by, what, at: u64| {
        let from = at.saturating_sub(LOOKED_BACK);
        Finding { seed, plan: plan.clone(), found_by, what, history: Vec::new(), key: None, from, to: at }
    };
    // An assertion of the protocol's own is a finding like any other.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let finding = at_once(FoundBy::Assertion, what.unwrap_or_else(|| "it panicked".to_owned()), world.now);
        return (world.counters, Some(finding));
    }
    let wrong = judge(&world).map(|(found_by, what, key, history)| Finding {
        seed,
        plan: plan.clone(),
        found_by,
        what,
        from: history.iter().map(|done| done.began_at).min().unwrap_or_default(),
        to: history.iter().map(|done| done.ended_at.unwrap_or(done.began_at)).max().unwrap_or(u64::MAX),
        history: history.into_iter().map(explain).collect(),
        key: Some(format!("key-{key}")),
    });
    let wrong = wrong.or_else(|| {
        let defect = world.defect.take()?;
        Some(at_once(defect.found_by, format!("{} us: {}", defect.at, defect.what), defect.at))
    });
    let mut counters = world.counters;
    counters.add("histories", world.clients.histories().len() as u64);
    (counters, wrong)
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

/// What is wrong with the histories, if anything: of which key, and in which of its operations.
fn judge(world: &World) -> Option<(FoundBy, String, usize, Vec<&Done>)> {
    for (key, history) in world.clients.histories() {
        let operations: Vec<Operation> = history.iter().map(|done| done.operation).collect();
        match check(&operations, STEPS_MAX) {
            Verdict::Linearizable => {}
            Verdict::NoVerdict => {
                return Some((FoundBy::History, format!("no verdict about key-{key}"), key, Vec::new()));
            }
            Verdict::NotLinearizable => {
                let short = shorten(&operations, STEPS_MAX);
                let is_kept = |done: &&Done| short.iter().any(|kept| kept.invoked == done.operation.invoked);
                let what = format!("the history of key-{key} is not linearizable");
                return Some((FoundBy::History, what, key, history.into_iter().filter(is_kept).collect()));
            }
        }
        if let Some((earlier, later)) = out_of_order(&history)
            && world.is_watched
        {
            let what = format!("key-{key}: stamps do not rise with real time");
            return Some((FoundBy::Order, what, key, vec![earlier, later]));
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
