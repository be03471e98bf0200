//! The test of the models: breaks one rule of the protocol after the other, and says which model finds it.

use quorate::mutants::Mutant;
use quorate::protocol::Answer;
use stateright::{Checker, HasDiscoveries, Model};

use crate::{failures, models};

/// How many states of one model are tried for one broken rule.
const STATES_MAX: usize = 700_000;

/// What no model finds. The first breaks a cache that is no part of a node's state machine; a test beside it finds that.
/// The second takes more than three replicas: of two that are asked, a majority is both. The third and the last three
/// harm nobody's data but stall a client. The others take four writes, epochs of two peers on their way to one disk and
/// a restart between them, a store whose reads fail, a disk that is lost while the cluster forms, a second failure of one
/// disk, nodes that are no replicas, or an operator who gives stamps by hand. The simulator finds all of these but the
/// cache's and the operator's; the regressions play the latter.
const OUT_OF_REACH: [Mutant; 13] = [
    Mutant::ReadIsCachedBesidePersist,
    Mutant::MajorityOfAsked,
    Mutant::NobodyElseIsAsked,
    Mutant::OlderClockRound,
    Mutant::EpochMayFall,
    Mutant::RefusalCountsAsNothing,
    Mutant::FormsEarly,
    Mutant::FailureIsForgotten,
    Mutant::StandInsCount,
    Mutant::SameStampIsMerged,
    Mutant::InsistsOnHolder,
    Mutant::LateHelloCounts,
    Mutant::QuietRestartIsMissed,
];

/// Where rounds are not told apart, an answer to an earlier one is no message from which nothing can follow.
pub fn may_still_count(mutant: Option<Mutant>, answer: &Answer) -> bool {
    match mutant {
        Some(Mutant::ClockOfEarlierRoundCounts) => matches!(answer, Answer::Clock(_)),
        Some(Mutant::AnswerOfEarlierRoundCounts) => matches!(answer, Answer::Lookup { .. }),
        _ => false,
    }
}

#[test]
fn broken_rules_are_found() {
    // Assertions of the protocol itself find some: what they print would bury the table.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    println!("| rule | mutant | found by the model | as | after states |");
    println!("|---|---|---|---|---|");
    for (mutant, rule) in Mutant::ALL {
        if OUT_OF_REACH.contains(&mutant) {
            continue;
        }
        let mut tried = 0;
        let mut models = models::pinned();
        // The quickest first.
        models.sort_by_key(|bounded| bounded.states);
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
