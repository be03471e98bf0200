//! Runs a seed and judges what its clients saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use quorate::protocol::placement::Placement;
use quorate::types::{ClusterParameters, Condition, NodeId, Version};

use crate::clients::{Ask, Done, Outcome, operation_of_token, operation_of_value, value_of, value_of_operation};
use crate::counters::Counters;
use crate::plan::Plan;
use crate::testkit::checker::{self, Action, Ending, Operation, STEPS_MAX, Verdict, check, shorten};
use crate::trace::Trace;
use crate::world::{FoundBy, World};

/// The steps for a history that is most likely wrong.
const STEPS_OF_DOUBT_MAX: u64 = 200_000;
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
        let operations = match operations(world, key, &history) {
            Ok(operations) => operations,
            Err((what, attempts)) => return Some((FoundBy::History, format!("key-{key}: {what}"), key, attempts)),
        };
        match verdict(&operations) {
            Verdict::Linearizable => {}
            Verdict::NoVerdict => {
                return Some((FoundBy::History, format!("no verdict about key-{key}"), key, Vec::new()));
            }
            Verdict::NotLinearizable => {
                let short = shorten(&operations, STEPS_OF_DOUBT_MAX);
                let first = |done: &Done| world.clients.operations[done.first].invoked;
                let is_kept =
                    |done: &&Done| short.iter().any(|kept| kept.invoked == done.invoked || kept.invoked == first(done));
                let what = format!("the history of key-{key} is not linearizable");
                return Some((FoundBy::History, what, key, history.into_iter().filter(is_kept).collect()));
            }
        }
        if let Err((what, reads)) = reads_of_one(world, &history) {
            return Some((FoundBy::History, format!("key-{key}: {what}"), key, reads));
        }
    }
    None
}

/// A conditional write that led to any version told is known to have taken effect. The others most likely did not, and the
/// search is short without them.
fn verdict(operations: &[Operation]) -> Verdict {
    let is_likely = |operation: &&Operation| {
        operation.ending != Ending::Unknown || !matches!(operation.action, Action::WriteIf { .. } | Action::Add { .. })
    };
    let likely: Vec<Operation> = operations.iter().filter(is_likely).copied().collect();
    match check(&likely, STEPS_MAX) {
        Verdict::Linearizable => Verdict::Linearizable,
        _ => check(operations, STEPS_OF_DOUBT_MAX),
    }
}

type Wrong<'a> = (String, Vec<&'a Done>);

/// The effect of a request: its version, its sum, and when it had happened at the latest.
type Effect = (Version, Option<u64>, u64);

/// The history of one key in the checker's terms: all attempts of a request are one operation.
fn operations<'a>(world: &World, key: usize, history: &[&'a Done]) -> Result<Vec<Operation>, Wrong<'a>> {
    let found = effects(world, key, history)?;
    let ranks = ranks(history, &found);
    let rank = |version: &Version| ranks[version];
    let mut requests: BTreeMap<usize, Vec<&Done>> = BTreeMap::new();
    for done in history {
        if !matches!(done.ask, Ask::GetOne { .. }) {
            requests.entry(done.first).or_default().push(done);
        }
    }
    let mut operations = Vec::new();
    for (first, attempts) in requests {
        add_request(&attempts, found.get(&first), &rank, &mut operations).map_err(|what| (what, attempts))?;
    }
    Ok(operations)
}

/// What led to the versions that clients were told: those writes took effect, although nobody may have been told of them.
fn effects<'a>(world: &World, key: usize, history: &[&'a Done]) -> Result<BTreeMap<usize, Effect>, Wrong<'a>> {
    let mut effects: BTreeMap<usize, Effect> = BTreeMap::new();
    for done in history {
        let (Some(version), Some(returned)) = (done.outcome.version(), done.returned) else { continue };
        if matches!(done.ask, Ask::GetOne { .. }) {
            continue;
        }
        let (applied, base) = world.watch.led_to(&world.keys[key], version);
        let conditional = applied.iter().filter_map(|applied| {
            let sum = applied.sum.map(i64::cast_unsigned);
            Some((operation_of_token(applied.token)?, (applied.version.clone(), sum, returned)))
        });
        let base = base.and_then(|content| value_of(content).ok().flatten()).and_then(operation_of_value);
        let plain = Version { stamp: version.stamp.clone(), ballot: None };
        let plain = base.map(|writer| (writer, (plain, None, returned)));
        for (first, effect) in conditional.chain(plain) {
            let known = effects.entry(first).or_insert_with(|| effect.clone());
            if (&known.0, known.1) != (&effect.0, effect.1) {
                return Err((format!("one request took effect as {known:?} and as {effect:?}"), vec![done]));
            }
            known.2 = known.2.min(returned);
        }
    }
    Ok(effects)
}

/// Adds what the attempts of one request did. It may have taken effect although nobody was told: `found`.
fn add_request(
    attempts: &[&Done],
    found: Option<&Effect>,
    rank: &impl Fn(&Version) -> u64,
    operations: &mut Vec<Operation>,
) -> Result<(), String> {
    let Done { client, invoked, ask, first, .. } = attempts[0];
    let value = value_of_operation(*first);
    let client = u32::try_from(*client).expect("there are few clients");
    let mut effects: Vec<Effect> = found.cloned().into_iter().collect();
    let mut declined: Vec<Operation> = Vec::new();
    let mut is_final = false;
    for done in attempts {
        let returned = done.returned.unwrap_or(u64::MAX);
        match &done.outcome {
            Outcome::Saw { value, version } => {
                let (action, version) = (Action::Read { saw: *value }, Some(rank(version)));
                let ending = Ending::Returned(returned);
                operations.push(Operation { client, invoked: *invoked, action, ending, version });
                return Ok(());
            }
            Outcome::Listed(named) => {
                let (action, version) = match named {
                    None => (Action::Read { saw: None }, None),
                    Some((Some(value), version)) => (Action::Read { saw: Some(*value) }, Some(rank(version))),
                    Some((None, version)) => (Action::Look { has_value: true }, Some(rank(version))),
                };
                let ending = Ending::Returned(returned);
                operations.push(Operation { client, invoked: *invoked, action, ending, version });
                return Ok(());
            }
            Outcome::Wrote(version) => effects.push((version.clone(), None, returned)),
            Outcome::Added { sum, version } => effects.push((version.clone(), Some(*sum), returned)),
            Outcome::Declined { version, has_value } => {
                let holds = match ask {
                    Ask::SetIf { condition: Condition::Version(named), .. } => named == version,
                    Ask::SetIf { condition: Condition::Absent, .. } => !has_value,
                    Ask::SetIf { condition: Condition::Present, .. } => *has_value,
                    _ => false,
                };
                if holds {
                    return Err(format!("{ask:?} was declined where it holds, at {version}"));
                }
                // A first attempt that its client has given up does not know of those after it.
                is_final |= done.first != done.index || attempts.iter().all(|other| other.index == done.index);
                declined.push(Operation {
                    client,
                    invoked: done.invoked,
                    action: Action::Look { has_value: *has_value },
                    ending: Ending::Returned(returned),
                    version: Some(rank(version)),
                });
            }
            Outcome::Failed | Outcome::Unknown => {}
        }
    }
    if let Some((version, sum, _)) = effects.first()
        && effects.iter().any(|(other, other_sum, _)| (other, other_sum) != (version, sum))
    {
        return Err(format!("one request took effect as {effects:?}"));
    }
    if !effects.is_empty() && is_final {
        return Err("a request that took effect was declined".to_owned());
    }
    operations.extend(&declined);
    let all_failed = attempts.iter().all(|done| done.outcome == Outcome::Failed);
    if all_failed && !effects.is_empty() {
        return Err(format!("a request that was certainly not applied took effect as {effects:?}"));
    }
    if ask.is_read() || all_failed || is_final {
        return Ok(());
    }
    let effect = effects.iter().min_by_key(|(.., until)| *until);
    let sum = effect.and_then(|(_, sum, _)| *sum);
    let action = match ask {
        Ask::Get | Ask::GetOne { .. } | Ask::List { .. } => unreachable!("reads have no effect"),
        Ask::Set => Action::Write { value },
        Ask::Delete => Action::Delete,
        Ask::SetIf { condition, deletes } => {
            let condition = match condition {
                Condition::Version(version) => checker::Condition::Version(rank(version)),
                Condition::Absent => checker::Condition::Absent,
                Condition::Present => checker::Condition::Present,
            };
            Action::WriteIf { condition, value: Some(value).filter(|_| !deletes) }
        }
        Ask::Add { delta, .. } => Action::Add { delta: *delta, sum },
    };
    let ending = effect.map_or(Ending::Unknown, |(.., until)| Ending::Returned(*until));
    let version = effect.map(|(version, ..)| rank(version));
    operations.push(Operation { client, invoked: *invoked, action, ending, version });
    Ok(())
}

/// A number for each version of the history, in their order.
fn ranks(history: &[&Done], effects: &BTreeMap<usize, Effect>) -> BTreeMap<Version, u64> {
    let mut versions = BTreeSet::from([Version::absent()]);
    versions.extend(effects.values().map(|(version, ..)| version.clone()));
    for done in history {
        versions.extend(done.outcome.version().cloned());
        if let Ask::SetIf { condition: Condition::Version(version), .. } = &done.ask {
            versions.insert(version.clone());
        }
    }
    versions.into_iter().zip(0..).collect()
}

/// A read of one replica sees a value that was written, or might have been, before it ended, and no version below that which
/// its client has named.
fn reads_of_one<'a>(world: &'a World, history: &[&'a Done]) -> Result<(), Wrong<'a>> {
    for done in history {
        let (Ask::GetOne { at_least }, Outcome::Saw { value, version }) = (&done.ask, &done.outcome) else { continue };
        if at_least.as_ref().is_some_and(|least| version < least) {
            return Err((format!("a read of one replica answers {version}, below the version named"), vec![done]));
        }
        let writer = value.and_then(operation_of_value).map(|writer| &world.clients.operations[writer]);
        if let Some(writer) = writer
            && (writer.key != done.key || Some(writer.invoked) > done.returned)
        {
            return Err((format!("a read of one replica answers {value:?}, which nobody wrote"), vec![writer, done]));
        }
    }
    Ok(())
}

fn explain(done: &Done) -> String {
    let Done { client, ask, outcome, node, invoked, returned, began_at, ended_at, first, .. } = done;
    let returned = returned.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let ended_at = ended_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let value = value_of_operation(*first);
    format!(
        "client {client}: from {invoked} to {returned}: {ask:?} (value {value}): {outcome:?} [via {node:?}, {began_at} to \
         {ended_at} us]"
    )
}
