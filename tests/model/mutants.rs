//! The test of the models: breaks one rule of the protocol after the other, and prints which model finds it.

use quorate::mutants::Mutant;
use quorate::protocol::Answer;
use stateright::{Checker, HasDiscoveries, Model};

use crate::{failures, models};

/// The most states of one model that are explored for one broken rule.
const STATES_MAX: usize = 800_000;

/// The mutants that no model finds, with the reason for each kind:
///
/// - `ReadIsCachedBesidePersist` and `CacheShowsWhatIsReplaced` break a cache that is no part of a node's state machine. Tests
///   beside the cache find them.
/// - `MajorityOfAsked` needs more than three replicas: a majority of two replicas is both of them.
/// - `NobodyElseIsAsked`, `InsistsOnHolder`, `LateHelloCounts` and `QuietRestartIsMissed` harm no data but stall a client.
/// - `SameStampIsMerged` needs an operator who gives stamps by hand. The regressions find it.
/// - `OlderClockRound` needs four writes, and `StandInsCount` nodes that are no replicas.
/// - `EpochMayFall` needs epochs of two peers in flight to one disk, and a restart between them.
/// - `RefusalCountsAsNothing` needs a store whose reads fail, and `FailureIsForgotten` a second failure of one disk.
/// - `BootstrapsEarly` needs a disk that is lost during bootstrap.
///
/// The simulation finds all of these but the first two and `SameStampIsMerged`.
///
/// No model has watches, lists or reads of one replica. The simulation finds a broken rule of the last, and for the others
/// their directed schedules are in the regressions.
///
/// No value in a model has a time to live: tests/regressions/expiry.rs plays what breaks the rules of expiries.
///
/// Of conditional writes the models explore two coordinators alone, with one retry at most. What needs a further reader, a
/// further write, a request that is sent again, two restarts or a slow disk beside them is found by the regressions, in
/// tests/regressions/conditional.rs.
///
/// No node of a model repairs: the simulation and tests/regressions/repair.rs find what breaks its rules. Backups are made by
/// clients: tests/backup/main.rs finds what breaks their rules. No cluster of a model has a floor: tests/regressions/epoch_floor.rs does. No
/// node of a model has a weight or a zone: the simulation and a test in src/protocol/placement/tests/sites.rs do.
const OUT_OF_REACH: [Mutant; 69] = [
    Mutant::OtherSitesKeepPlacement,
    Mutant::ZonesAreIgnored,
    Mutant::BackupFromOneReplica,
    Mutant::RestoreBelowOldClock,
    Mutant::JoinsBelowFloor,
    Mutant::ChangeBesideCountIsLost,
    Mutant::LeafKeepsReplaced,
    Mutant::LeavesOutliveFailure,
    Mutant::CleaningKeepsLeaf,
    Mutant::RepairSkipsReplica,
    Mutant::RepairSpreadsUnchosen,
    Mutant::OneReadIsCalledCurrent,
    Mutant::DueIsAbsent,
    Mutant::ExpiryDeletesPlainly,
    Mutant::ExpiryOfAnotherVersion,
    Mutant::DueUnsettled,
    Mutant::AgeUnclamped,
    Mutant::AgeByKey,
    Mutant::AdditionLosesTtl,
    Mutant::AdditionKeepsTtl,
    Mutant::AdditionRenewsTtl,
    Mutant::AdditionToExpired,
    Mutant::ListShowsTag,
    Mutant::BaseNotSettled,
    Mutant::BaseAboveBallot,
    Mutant::FailsUnsettled,
    Mutant::LatecomersAreJudged,
    Mutant::LookFailsUnsettled,
    Mutant::LookFailsResend,
    Mutant::RecentIsIgnored,
    Mutant::RecentFloorIgnored,
    Mutant::AddsBelowSince,
    Mutant::RunsAgainOnNewBase,
    Mutant::ResendSaysFailed,
    Mutant::StoresUnchosen,
    Mutant::SettlingChangesVersion,
    Mutant::EpochFloorIsForgotten,
    Mutant::PromiseBeforeEpoch,
    Mutant::StorePromisesNothing,
    Mutant::ReadIsCachedBesidePersist,
    Mutant::CacheShowsWhatIsReplaced,
    Mutant::MajorityOfAsked,
    Mutant::NobodyElseIsAsked,
    Mutant::OlderClockRound,
    Mutant::EpochMayFall,
    Mutant::RefusalCountsAsNothing,
    Mutant::BootstrapsEarly,
    Mutant::FailureIsForgotten,
    Mutant::StandInsCount,
    Mutant::SameStampIsMerged,
    Mutant::InsistsOnHolder,
    Mutant::LateHelloCounts,
    Mutant::QuietRestartIsMissed,
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
    Mutant::IndexInAnotherBatch,
    Mutant::ListWithoutMajorityOfASlot,
    Mutant::ListBeyondShortestPage,
    Mutant::ListOmitsTombstones,
    Mutant::ListTakesGreatest,
];

/// Those of created tables that one drop of one table does not find: they need a second creation, a second user, a slot that some
/// nodes do not hold, or a request that is sent again. The simulation finds them.
fn of_tables_out_of_reach(mutant: Mutant) -> bool {
    Mutant::OF_TABLES.contains(&mutant) && !matches!(mutant, Mutant::DropAtOne | Mutant::DropIsVolatile)
}

/// Those of a change of members that the models find. The others need further slots, a list of keys, deletions that are forgotten,
/// fewer replicas, two operators or a second change. The simulation and the regressions find them.
const OF_MEMBERS_FOUND: [Mutant; 3] =
    [Mutant::NoJointQuorum, Mutant::CommitBeforeComplete, Mutant::CommitWithOneComplete];

/// Whether an answer to an earlier round can still have an effect: where the mutant does not tell rounds apart.
pub fn may_still_count(mutant: Option<Mutant>, answer: &Answer) -> bool {
    match mutant {
        Some(Mutant::ClockOfEarlierRoundCounts) => matches!(answer, Answer::Clock(_)),
        Some(Mutant::AnswerOfEarlierRoundCounts) => matches!(answer, Answer::Lookup { .. }),
        _ => false,
    }
}

#[test]
fn broken_rules_are_found() {
    // Assertions of the protocol itself find some mutants. Their output would bury the table.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    println!("| rule | mutant | found by the model | as | after states |");
    println!("|---|---|---|---|---|");
    let only = std::env::var("QUORATE_MODEL_MUTANT").ok();
    for (mutant, rule) in Mutant::ALL {
        if OUT_OF_REACH.contains(&mutant)
            || Mutant::OF_FORGETTING.contains(&mutant)
            || Mutant::OF_MEMBERS.contains(&mutant) && !(OF_MEMBERS_FOUND.contains(&mutant) || only.is_some())
            || Mutant::OF_SITES.contains(&mutant)
            || of_tables_out_of_reach(mutant)
            || only.as_ref().is_some_and(|only| *only != format!("{mutant:?}"))
        {
            continue;
        }
        let mut tried = 0;
        let mut models = models::pinned();
        if let Ok(name) = std::env::var("QUORATE_MODEL_NAME") {
            models.retain(|bounded| bounded.world.name.contains(&name));
        }
        // No rule of members bears on a model in which none change.
        let is_of_members = Mutant::OF_MEMBERS.contains(&mutant);
        if is_of_members {
            models.extend(models::large());
        }
        models.retain(|bounded| bounded.world.change.is_some() == is_of_members);
        // The quickest first.
        models.sort_by_key(|bounded| bounded.states.unwrap_or(usize::MAX));
        let found = models.into_iter().find_map(|mut bounded| {
            bounded.world.mutant = Some(mutant);
            let name = bounded.world.name;
            let checker = bounded
                .world
                .checker()
                .threads(1)
                .finish_when(HasDiscoveries::AnyFailures)
                .target_state_count(STATES_MAX)
                .spawn_bfs()
                .join();
            tried += checker.unique_state_count();
            let failures = failures(&checker);
            (!failures.is_empty()).then(|| (name, failures.join("; "), checker.unique_state_count()))
        });
        if let Some((name, failures, states)) = found {
            println!("| {rule} | {mutant:?} | {name} | {failures} | {states} |");
        } else {
            println!("| {rule} | {mutant:?} | nothing | - | {tried} |");
            missed.push(mutant);
        }
    }
    println!("not looked for: {OUT_OF_REACH:?}");
    assert!(missed.is_empty(), "no model finds {missed:?}");
}
