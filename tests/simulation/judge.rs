//! Runs a seed and judges what its clients saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use quorate::protocol::placement::Placement;
use quorate::types::{ClusterParameters, NodeId, TableName, Version};

use crate::clients::{Done, operation_of_token, operation_of_value, value_of, value_of_operation};
use crate::counters::Counters;
use crate::plan::Plan;
use crate::sites::Sites;
use crate::testkit::checker::{Operation, STEPS_MAX, Verdict, shorten};
use crate::testkit::requests::{self, Ask, Attempt, Effect, Expiry, Outcome, verdict};
use crate::testkit::tables::Transition;
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
    if Sites::of(seed) != Sites::Plain {
        counters.add("nodes had weights or zones", 1);
    }
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
    let placement = placement(plan.nodes, plan.replica_count, Sites::of(seed));
    World::new(plan, placement, trace)
}

/// A table takes longer to compute than a run: the few that are used are shared.
fn placement(nodes: usize, replica_count: usize, sites: Sites) -> Arc<Placement> {
    static TABLES: Mutex<BTreeMap<(usize, usize, Sites), Arc<Placement>>> = Mutex::new(BTreeMap::new());
    let mut tables = TABLES.lock().expect("nobody panics while holding it");
    let table = tables.entry((nodes, replica_count, sites)).or_insert_with(|| {
        let node_ids = (1..=nodes).map(|n| NodeId::new(&n.to_string()).expect("this is an id")).collect();
        let sites = (0..nodes).map(|node| sites.of_host(node)).collect();
        Arc::new(Placement::new(ClusterParameters { seed: 0, replica_count, epoch_floor: 0, node_ids, sites }))
    });
    Arc::clone(table)
}

/// What is wrong with the histories, if anything: of which key, and in which of its operations.
fn judge(world: &World) -> Option<(FoundBy, String, usize, Vec<&Done>)> {
    for (key, history) in world.clients.histories() {
        if world.tables.name_at(key).is_some() {
            if let Err((what, wrong)) = judge_name(world, key) {
                return Some((FoundBy::History, what, key, wrong));
            }
            continue;
        }
        let operations = match operations(world, key, &history) {
            Ok(operations) => operations,
            Err((what, attempts)) => return Some((FoundBy::History, format!("key-{key}: {what}"), key, attempts)),
        };
        match verdict_with_time(&operations) {
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

/// The verdict about a history. The few that have none after the usual steps, because many outcomes are unknown, get more: their
/// search takes seconds.
fn verdict_with_time(operations: &[Operation]) -> Verdict {
    let soon = verdict(operations, STEPS_OF_DOUBT_MAX);
    if soon == Verdict::NoVerdict { verdict(operations, STEPS_MAX) } else { soon }
}

type Wrong<'a> = (String, Vec<&'a Done>);

/// A name stands for one table after the other, and no operation succeeds in one that was dropped before.
fn judge_name(world: &World, place: usize) -> Result<(), Wrong<'_>> {
    let name = world.tables.name_at(place).map_or("", TableName::as_str);
    let operations = world.name_history(place).map_err(|what| (format!("table {name}: {what}"), Vec::new()))?;
    match verdict_with_time(&operations) {
        Verdict::Linearizable => Ok(()),
        Verdict::NoVerdict => Err((format!("no verdict about the name {name}"), Vec::new())),
        Verdict::NotLinearizable => {
            let short = shorten(&operations, STEPS_OF_DOUBT_MAX);
            let is_kept = |done: &&Done| short.iter().any(|kept| kept.invoked == done.invoked);
            let wrong = world.clients.operations.iter().filter(is_kept).collect();
            Err((format!("the history of the name {name} is not linearizable"), wrong))
        }
    }
}

/// The history of one key in the checker's terms: all attempts of a request are one operation.
fn operations<'a>(world: &'a World, key: usize, history: &[&'a Done]) -> Result<Vec<Operation>, Wrong<'a>> {
    let found = effects(world, key, history)?;
    let expired = expired(world, key, history)?;
    let told = history.iter().filter_map(|done| done.outcome.version());
    let versions: BTreeSet<&Version> =
        told.chain(found.values().map(|(version, ..)| version)).chain(expired.keys()).collect();
    let mut expiries = Vec::new();
    for version in versions {
        let deletion = expired.get(version).cloned();
        let (stored, inside) = world.stored(key, version);
        match (world.expires_from(&stored, &inside), deletion) {
            (None, None) => {}
            (None, Some((deletion, _))) => {
                let what = format!("{version}, which never expires, was deleted by {deletion}");
                return Err((what, history.to_vec()));
            }
            (Some(from), deletion) => {
                let from = world.clients.tick_at(from);
                expiries.push(Expiry { version: version.clone(), from, deletion });
            }
        }
    }
    let mut attempts: Vec<Attempt<'_>> = history.iter().map(|done| done.attempt()).collect();
    // To a key, its table's creation and drop are deletions.
    let (transitions, ask) = (world.transitions(key).map_err(|what| (what, Vec::new()))?, Ask::Delete);
    attempts.extend(transitions.iter().zip(world.clients.operations.len()..).map(|(transition, index)| {
        let Transition { client, invoked, returned, ref outcome } = *transition;
        Attempt { client, index, first: index, value: 0, invoked, returned, ask: &ask, outcome }
    }));
    requests::operations(&attempts, &found, &expiries)
        .map_err(|(what, first)| (what, history.iter().filter(|done| done.first == first).copied().collect()))
}

/// Versions that led to what clients saw, when each had been at the latest, and the operation that was told.
fn seen<'a>(world: &'a World, key: usize, history: &[&'a Done]) -> Vec<(Version, u64, Option<&'a Done>)> {
    let told = history.iter().filter(|done| !matches!(done.ask, Ask::GetOne { .. })).filter_map(|done| {
        let (version, returned) = (done.outcome.version()?.clone(), done.returned?);
        Some((version, returned, Some(*done)))
    });
    // A list that leaves a key out tells no version: a value that nobody was told of may have expired before it.
    let expired = world.ids_of_key(key).into_iter().flat_map(|table| {
        let stored = world.keys[key].clone().moved_to(table);
        let expired: Vec<(Version, u64)> =
            world.watch.took_effect(&stored).map(|(version, at)| (version.clone().in_table(table), at)).collect();
        expired.into_iter().map(|(version, at)| (version, world.clients.tick_at(at + 1), None))
    });
    told.chain(expired).collect()
}

/// The writes that led to those versions: they took effect, although nobody may have been told of them.
fn effects<'a>(world: &'a World, key: usize, history: &[&'a Done]) -> Result<BTreeMap<usize, Effect>, Wrong<'a>> {
    let mut effects: BTreeMap<usize, Effect> = BTreeMap::new();
    for (version, returned, done) in seen(world, key, history) {
        let table = version.table;
        let (stored, inside) = world.stored(key, &version);
        let (applied, base) = world.watch.led_to(&stored, &inside);
        let conditional = applied.iter().filter_map(|applied| {
            let sum = applied.sum.map(i64::cast_unsigned);
            let version = applied.version.clone().in_table(table);
            Some((operation_of_token(applied.token)?, (version, sum, returned)))
        });
        let base = base.and_then(|content| value_of(content).ok().flatten()).and_then(operation_of_value);
        let plain = Version::new(version.stamp.clone(), None).in_table(table);
        let plain = base.map(|writer| (writer, (plain, None, returned)));
        for (first, effect) in conditional.chain(plain) {
            let known = effects.entry(first).or_insert_with(|| effect.clone());
            if (&known.0, known.1) != (&effect.0, effect.1) {
                let what = format!("one request took effect as {known:?} and as {effect:?}");
                return Err((what, done.into_iter().collect()));
            }
            known.2 = known.2.min(returned);
        }
    }
    Ok(effects)
}

/// The versions whose deletions, because their time to live has passed, led to what clients saw: by what version, and when
/// that had happened at the latest.
fn expired<'a>(
    world: &'a World,
    key: usize,
    history: &[&'a Done],
) -> Result<BTreeMap<Version, (Version, u64)>, Wrong<'a>> {
    let mut expired: BTreeMap<Version, (Version, u64)> = BTreeMap::new();
    for (version, returned, done) in seen(world, key, history) {
        let (stored, inside) = world.stored(key, &version);
        for applied in world.watch.led_to(&stored, &inside).0 {
            let Some(deleted) = world.watch.expired_by(&stored, &applied.version) else { continue };
            let in_table = |inside: &Version| inside.clone().in_table(version.table);
            let (deleted, deletion) = (in_table(deleted), in_table(&applied.version));
            let known = expired.entry(deleted.clone()).or_insert_with(|| (deletion.clone(), returned));
            if known.0 != deletion {
                let what = format!("{deleted} expired as {} and as {deletion}", known.0);
                return Err((what, done.into_iter().collect()));
            }
            known.1 = known.1.min(returned);
        }
    }
    Ok(expired)
}

/// A read of one replica sees a value that was written, or might have been, before it ended, and no version below that which
/// its client has named.
fn reads_of_one<'a>(world: &'a World, history: &[&'a Done]) -> Result<(), Wrong<'a>> {
    for done in history {
        let (Ask::GetOne { at_least }, Outcome::Saw { value, version }) = (&done.ask, &done.outcome) else { continue };
        if at_least.as_ref().is_some_and(|least| version < least && version.table == least.table) {
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
    let Done { client, ask, ttl, outcome, node, invoked, returned, began_at, ended_at, first, .. } = done;
    let returned = returned.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let ended_at = ended_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let value = value_of_operation(*first);
    let ttl = ttl.map_or_else(String::new, |ttl| format!(", for {} ms", ttl.as_millis()));
    format!(
        "client {client}: from {invoked} to {returned}: {ask:?} (value {value}{ttl}): {outcome:?} [via {node:?}, {began_at} to \
         {ended_at} us]"
    )
}
