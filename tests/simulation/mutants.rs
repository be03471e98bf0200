//! The test of the tests: breaks one rule of the protocol after the other, and expects a seed to find it.
//!
//! ```text
//! cargo test --release --features mutants --test simulation -- --nocapture every_broken
//! QUORATE_SIMULATION_MUTANT=NoWriteBack QUORATE_SIMULATION_SEEDS=1..2 \
//!     cargo test --release --features mutants --test simulation -- --nocapture every_history
//! ```
//!
//! The second shows what a failed seed leaves behind.

use quorate::mutants::{Mutant, turn_on};

use crate::judge::{run_seed, run_seed_unwatched};
use crate::world::FoundBy;

/// What is not found by then is not looked for.
const SEEDS_MAX: u64 = 4_000;
/// How long what clients see is looked at for a sign of it.
const UNWATCHED_SEEDS_MAX: u64 = 1_000;

/// What no seed finds: no honest node gives one stamp to two records, and a test plays an operator who does; the cache of
/// records is no part of what is simulated, and a test of its own in src/storage/record_cache.rs finds what breaks it. A
/// chosen record that raises no promise needs one order of messages that no seed draws: tests/regressions plays it. A list that
/// leaves tombstones out is found by tests/regressions/list.rs. Those of watches are found by tests/regressions/watches.rs
/// and tests/regressions/watch_lists.rs. The simulated clients use the default table alone: those of created tables are found
/// by tests/regressions/tables.rs.
const OUT_OF_REACH: [Mutant; 23] = [
    Mutant::DropAtOne,
    Mutant::DropOfOneSlot,
    Mutant::DropIsVolatile,
    Mutant::DeletesAnyRecord,
    Mutant::RefusedIsMissing,
    Mutant::DroppingIsMissing,
    Mutant::CreatedWhileDropping,
    Mutant::VersionWithoutId,
    Mutant::RetriedUnderNewId,
    Mutant::ListOmitsTombstones,
    Mutant::SameStampIsMerged,
    Mutant::StorePromisesNothing,
    Mutant::ReadIsCachedBesidePersist,
    Mutant::BeatenIsNotTold,
    Mutant::WatchReadsAnyMajority,
    Mutant::ResubscribedCounts,
    Mutant::CursorAheadOfTold,
    Mutant::WatchTellsUnread,
    Mutant::WatchWithoutMajority,
    Mutant::WatchGoesBack,
    Mutant::ListNotBoundToWatch,
    Mutant::BoundListTakesMajority,
    Mutant::ChangeBesidePageIsLost,
];

/// Breaks the rule that the environment names.
pub fn turn_on_what_is_asked_for() {
    if let Ok(name) = std::env::var("QUORATE_SIMULATION_MUTANT") {
        let mutant = Mutant::ALL.iter().map(|(mutant, _)| *mutant).find(|mutant| format!("{mutant:?}") == name);
        turn_on(Some(mutant.expect("QUORATE_SIMULATION_MUTANT names a mutant")));
    }
}

#[test]
fn every_broken_rule_is_found() {
    // Assertions of the protocol itself find some: what they print would bury the table.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    println!("| rule | mutant | found by | after seeds | by clients alone, after seeds |");
    println!("|---|---|---|---|---|");
    for (mutant, rule) in Mutant::ALL {
        if OUT_OF_REACH.contains(&mutant) {
            continue;
        }
        turn_on(Some(mutant));
        let found = (0..SEEDS_MAX).find_map(|seed| run_seed(seed).1.map(|finding| (seed + 1, finding.found_by)));
        let seen = (0..UNWATCHED_SEEDS_MAX)
            .find_map(|seed| run_seed_unwatched(seed).map(|finding| (seed + 1, finding.found_by)));
        turn_on(None);
        let shown = |found: Option<(u64, FoundBy)>| {
            found.map_or_else(
                || ("nothing".to_owned(), "-".to_owned()),
                |(seeds, by)| (format!("{by:?}"), seeds.to_string()),
            )
        };
        let ((by, after), (seen_by, seen_after)) = (shown(found), shown(seen));
        println!("| {rule} | {mutant:?} | {by} | {after} | {seen_by}, {seen_after} |");
        if found.is_none() {
            missed.push(mutant);
        }
    }
    println!("not looked for: {OUT_OF_REACH:?}");
    assert!(missed.is_empty(), "nothing found {missed:?}");
}
