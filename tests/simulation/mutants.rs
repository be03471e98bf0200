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
use crate::members;
use crate::sites;
use crate::tables;
use crate::world::FoundBy;

/// What is not found by then is not looked for.
const SEEDS_MAX: u64 = 8_000;
/// Seeds that find what few others find. They are tried first. A promise in an epoch that is not durable does harm where its node
/// crashes before the next batch, and hears both ballots again.
const KNOWN: [(Mutant, u64); 1] = [(Mutant::PromiseBeforeEpoch, 10_090)];
/// How long what clients see is looked at for a sign of it.
const UNWATCHED_SEEDS_MAX: u64 = 1_000;
/// The same two for rules about members. Their seeds take forty times as long, because each change places all slots anew.
const MEMBERS_SEEDS_MAX: u64 = 400;
const UNWATCHED_MEMBERS_SEEDS_MAX: u64 = 100;

/// What no seed finds: no honest node gives one stamp to two records, and a test plays an operator who does; the cache of
/// records is no part of what is simulated, and a test of its own in src/storage/record_cache.rs finds what breaks it. A
/// chosen record that raises no promise needs one order of messages that no seed draws: tests/regressions plays it. A list that
/// leaves tombstones out is found by tests/regressions/list.rs. Those of watches are found by tests/regressions/watches.rs
/// and tests/regressions/watch_lists.rs. Additions that renew a time to live, or add to a value whose time
/// has passed, make versions that may be right for a node whose count a restart has set back: tests/regressions/expiry.rs finds
/// those. No simulated cluster both repairs and drops tables: tests/regressions/tables.rs does. A change beside the count of a
/// page needs one that takes long, and each page that is listed later mends the leaf; a repair that leaves one replica out is
/// followed by the comparison with that replica. tests/regressions/repair.rs finds both. Rules about deletions that are forgotten
/// need late messages beside whole rounds: tests/regressions/tombstones.rs plays one schedule for each. Nodes that all ignore zones
/// agree, and no zone fails as a whole: a test in src/protocol/placement/tests/sites.rs finds it. Backups are made by clients:
/// tests/backup/main.rs finds what breaks their rules. No simulated cluster has a floor: tests/regressions/epoch_floor.rs does.
const OUT_OF_REACH: [Mutant; 26] = [
    Mutant::BackupFromOneReplica,
    Mutant::RestoreBelowOldClock,
    Mutant::JoinsBelowFloor,
    Mutant::ChangeBesideCountIsLost,
    Mutant::RepairSkipsReplica,
    Mutant::CleaningKeepsLeaf,
    Mutant::ListOmitsTombstones,
    Mutant::AdditionRenewsTtl,
    Mutant::AdditionToExpired,
    Mutant::SameStampIsMerged,
    Mutant::StorePromisesNothing,
    Mutant::AddsBelowSince,
    Mutant::ReadIsCachedBesidePersist,
    Mutant::CacheShowsWhatIsReplaced,
    Mutant::BeatenIsNotTold,
    Mutant::WatchReadsAnyMajority,
    Mutant::ResubscribedCounts,
    Mutant::CursorAheadOfTold,
    Mutant::CursorAheadOfSecondRead,
    Mutant::WatchTellsUnread,
    Mutant::WatchWithoutMajority,
    Mutant::WatchGoesBack,
    Mutant::ListNotBoundToWatch,
    Mutant::BoundListTakesMajority,
    Mutant::ChangeBesidePageIsLost,
    Mutant::ZonesAreIgnored,
];

/// Of the rules about members, those that seeds find. The others need one moment of a change: the files of tests/regressions whose
/// names begin with `members` play them, and tests/regressions/tables.rs plays what bears on dropped tables.
const OF_MEMBERS_IN_REACH: [Mutant; 2] = [Mutant::NoJointQuorum, Mutant::NewStampOnChange];

/// The rule that the environment names.
fn what_is_asked_for() -> Option<Mutant> {
    let name = std::env::var("QUORATE_SIMULATION_MUTANT").ok()?;
    let mutant = Mutant::ALL.iter().map(|(mutant, _)| *mutant).find(|mutant| format!("{mutant:?}") == name);
    Some(mutant.expect("QUORATE_SIMULATION_MUTANT names a mutant"))
}

/// Breaks the rule that the environment names.
pub fn turn_on_what_is_asked_for() {
    turn_on(what_is_asked_for());
}

/// The seeds that may find a mutant: those of [`KNOWN`], and others in turn. The first of these have neither created tables nor additions that keep the time to live, and
/// their members do not change.
fn seeds(mutant: Mutant) -> impl Iterator<Item = u64> {
    let needs_tables = Mutant::OF_TABLES.contains(&mutant) || mutant == Mutant::AdditionLosesTtl;
    let first = if needs_tables {
        tables::FIRST_SEED
    } else if Mutant::OF_MEMBERS.contains(&mutant) {
        members::FIRST_SEED
    } else if Mutant::OF_SITES.contains(&mutant) {
        sites::FIRST_SEED
    } else {
        0
    };
    let known = KNOWN.iter().filter(move |(of, _)| *of == mutant).map(|(_, seed)| *seed);
    known.chain((first..).filter(move |seed| !needs_tables || tables::has_tables(*seed)))
}

#[test]
fn every_broken_rule_is_found() {
    // Assertions of the protocol itself find some: what they print would bury the table.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    println!("| rule | mutant | found by | after seeds | by clients alone, after seeds |");
    println!("|---|---|---|---|---|");
    for (mutant, rule) in Mutant::ALL {
        let is_out_of_reach = OUT_OF_REACH.contains(&mutant)
            || Mutant::OF_FORGETTING.contains(&mutant)
            || Mutant::OF_MEMBERS.contains(&mutant) && !OF_MEMBERS_IN_REACH.contains(&mutant);
        let only = what_is_asked_for();
        if only.map_or(is_out_of_reach, |only| only != mutant) {
            continue;
        }
        let (most, most_unwatched) = if Mutant::OF_MEMBERS.contains(&mutant) || Mutant::OF_SITES.contains(&mutant) {
            (MEMBERS_SEEDS_MAX, UNWATCHED_MEMBERS_SEEDS_MAX)
        } else {
            (SEEDS_MAX, UNWATCHED_SEEDS_MAX)
        };
        turn_on(Some(mutant));
        let mut numbered = (1..=most).zip(seeds(mutant));
        let found = numbered.find_map(|(n, seed)| run_seed(seed).1.map(|finding| (n, finding.found_by)));
        let mut numbered = (1..=most_unwatched).zip(seeds(mutant));
        let seen = numbered.find_map(|(n, seed)| run_seed_unwatched(seed).map(|finding| (n, finding.found_by)));
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
