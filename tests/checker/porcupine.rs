//! The checker against porcupine, which shares no code with it: both give the same verdict on a thousand random
//! histories, good and bad ones.
//!
//! Porcupine is a Go program. Without Go or its module the test skips itself; with `QUORATE_REQUIRE_CLIENTS=1` it fails.
//! `QUORATE_PORCUPINE_SEED` draws other histories.

use std::path::Path;

use crate::testkit::checker::{Action, Condition, Ending, Operation, STEPS_MAX, Verdict, Versions, check, describe};
use crate::testkit::porcupine::{Porcupine, TIME_MAX};
use crate::testkit::random::Random;

const HISTORIES: usize = 1_000;
const SEED: u64 = 2017;

/// The least histories of each verdict: agreement on one verdict alone would show little.
const EACH_VERDICT_MIN: usize = 200;

#[test]
fn verdicts_are_those_of_porcupine() {
    let Some(porcupine) = porcupine() else { return };
    let seed = std::env::var("QUORATE_PORCUPINE_SEED").map_or(SEED, |seed| seed.parse().expect("the seed is a number"));
    let mut random = Random::new(seed);
    let histories: Vec<Vec<Operation>> = (0..HISTORIES).map(|_| any_history(&mut random)).collect();
    let theirs = porcupine.judge(&histories, TIME_MAX);

    let (mut good, mut bad, mut unknown) = (0, 0, 0);
    for (n, (history, theirs)) in histories.iter().zip(theirs).enumerate() {
        let ours = check(history, STEPS_MAX);
        let shown = || history.iter().map(describe).collect::<Vec<_>>();
        assert_eq!(ours, theirs, "seed {seed}, history {n}, porcupine's verdict last: {:#?}", shown());
        match ours {
            Verdict::Linearizable => good += 1,
            Verdict::NotLinearizable => bad += 1,
            Verdict::NoVerdict => panic!("seed {seed}, history {n} has no verdict: {:#?}", shown()),
        }
        unknown += history.iter().filter(|operation| operation.ending == Ending::Unknown).count();
    }
    let operations: usize = histories.iter().map(Vec::len).sum();
    println!(
        "seed {seed}: both find {good} histories linearizable and {bad} not, of {operations} operations, {unknown} of \
         them of unknown outcome"
    );
    assert!(good >= EACH_VERDICT_MIN && bad >= EACH_VERDICT_MIN, "{good} good, {bad} bad");
    assert!(unknown >= HISTORIES, "few outcomes are unknown: {unknown}");
}

/// Porcupine, where Go and its module are there.
pub fn porcupine() -> Option<Porcupine> {
    match Porcupine::build(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(porcupine) => Some(porcupine),
        Err(why) => {
            assert!(std::env::var("QUORATE_REQUIRE_CLIENTS").as_deref() != Ok("1"), "porcupine is missing: {why}");
            println!("SKIPPED: porcupine is missing: {why}");
            None
        }
    }
}

/// Draws a history of a linearizable register, and damages three of four. About two of three stay linearizable all the
/// same.
fn any_history(random: &mut Random) -> Vec<Operation> {
    let mut history = good_history(random);
    if random.permille(750) {
        for _ in 0..random.between(1, 3) {
            damage(&mut history, random);
        }
    }
    history
}

/// The moment when an operation takes effect. Its client cannot see it.
struct Planned {
    at: u64,
    index: usize,
}

#[expect(clippy::too_many_lines, reason = "one action after the other")]
fn good_history(random: &mut Random) -> Vec<Operation> {
    let mut history = Vec::new();
    let mut effects = Vec::new();
    let (clients, each) = (random.between(2, 5), random.between(2, 8));
    // Short operations hardly overlap; long ones overlap with many.
    let longest = *random.pick(&[2, 8, 30]);
    // Half of the histories are of plain writes alone.
    let conditional = u64::from(random.permille(500)) * 9;
    for client in 0..clients {
        let mut now = random.between(0, longest);
        for _ in 0..each {
            let index = history.len();
            let value = (index as u64 + 1) * 100;
            let action = match random.between(0, 9 + conditional) {
                0..=3 => Action::Write { value },
                4 => Action::Delete,
                5..=9 => Action::Read { saw: None },
                10 => Action::Add { delta: 1, sum: None },
                11 => Action::WriteIf { condition: Condition::Absent, value: Some(value) },
                12 => Action::WriteIf { condition: Condition::Present, value: Some(value).filter(|_| index % 2 == 0) },
                13 => Action::WriteIf { condition: Condition::Value(0), value: None },
                14 => Action::WriteNew { value },
                15 => Action::Remove,
                16 => Action::WriteIf { condition: Condition::Among(Versions::new([])), value: Some(value) },
                17 => {
                    let (versions, needs_value) = (Versions::new([]), index % 2 == 0);
                    Action::WriteIf { condition: Condition::NotAmong { versions, needs_value }, value: Some(value) }
                }
                _ => Action::WriteIf { condition: Condition::Version(0), value: Some(value) },
            };
            let at = now + random.between(0, longest);
            let returned = at + random.between(0, longest);
            let ending = match random.between(0, 99) {
                0..=14 => Ending::Unknown,
                15..=19 => Ending::Failed,
                _ => Ending::Returned(returned),
            };
            let client = u32::try_from(client).expect("there are few");
            history.push(Operation { client, invoked: now, action, ending, version: None });
            match ending {
                Ending::Returned(_) => effects.push(Planned { at, index }),
                // It takes effect after its client gave up, or never.
                Ending::Unknown if random.permille(600) => {
                    effects.push(Planned { at: at + random.between(0, 5 * longest), index });
                }
                Ending::Unknown | Ending::Failed => {}
            }
            now = returned + random.between(0, longest);
        }
    }
    effects.sort_by_key(|planned| (planned.at, planned.index));
    let (mut held, mut version, mut effects_so_far) = (None, 0, 0);
    // Clients are told of some versions only, and name one that was the present one not long ago.
    let told = *random.pick(&[0, 500, 1_000]);
    for Planned { index, .. } in effects {
        let operation = &mut history[index];
        if let Action::WriteIf { condition: Condition::Version(named), .. } = &mut operation.action {
            *named = if random.permille(600) { version } else { version.saturating_sub(1) };
        }
        if let Action::WriteIf { condition: Condition::Value(named), .. } = &mut operation.action {
            *named = if random.permille(600) { held.unwrap_or_default() } else { random.between(1, 9) * 100 };
        }
        if let Action::WriteIf {
            condition: Condition::Among(named) | Condition::NotAmong { versions: named, .. },
            ..
        } = &mut operation.action
        {
            let first = if random.permille(700) { version } else { version + 1 };
            *named = Versions::new([first, version.saturating_sub(random.between(1, 3))]);
        }
        let holds = match operation.action {
            Action::WriteIf { condition: Condition::Version(named), .. } | Action::Expire { version: named } => {
                named == version
            }
            Action::WriteIf { condition: Condition::Value(named), .. } => held == Some(named),
            Action::WriteIf { condition: Condition::Among(named), .. } => {
                held.is_some() && named.as_slice().contains(&version)
            }
            Action::WriteIf { condition: Condition::NotAmong { versions, needs_value }, .. } => {
                if held.is_some() {
                    !versions.as_slice().contains(&version)
                } else {
                    !needs_value
                }
            }
            Action::WriteIf { condition, .. } => (condition == Condition::Present) == held.is_some(),
            _ => true,
        };
        if !holds {
            operation.action = Action::Look { has_value: held.is_some() };
        }
        let before = held;
        match &mut operation.action {
            Action::Read { saw } => *saw = held,
            Action::Look { .. } => {}
            Action::Write { value } => held = Some(*value),
            Action::Delete | Action::Expire { .. } => held = None,
            Action::WriteIf { value, .. } => held = *value,
            Action::WriteNew { value } => held = held.or(Some(*value)),
            Action::Remove => held = None,
            Action::Add { delta, sum } => {
                *sum = Some(held.unwrap_or_default().wrapping_add_signed(*delta));
                held = *sum;
            }
        }
        let is_told = !matches!(operation.action, Action::WriteNew { .. } | Action::Remove);
        let has_effect = match operation.action {
            Action::Read { .. } | Action::Look { .. } => false,
            Action::WriteNew { .. } => before != held,
            Action::Remove => before != held || random.permille(300),
            _ => true,
        };
        debug_assert!(has_effect || before == held);
        effects_so_far += u64::from(has_effect);
        version = effects_so_far;
        operation.version = Some(version).filter(|_| is_told && random.permille(told));
    }
    history
}

/// Changes one operation as a defect might. The history may stay linearizable.
fn damage(history: &mut [Operation], random: &mut Random) {
    let any = random.below(history.len());
    let other = history[random.below(history.len())].action;
    let longest = history.len() as u64;
    let Operation { invoked, action, ending, version, .. } = &mut history[any];
    if let Some(version) = version
        && random.permille(200)
    {
        *version = random.between(0, longest);
        return;
    }
    match (&mut *action, &mut *ending) {
        // The read saw an older or newer value, none, or one that was never written.
        (Action::Read { saw }, Ending::Returned(_)) => {
            *saw = match other {
                Action::Write { value } => Some(value),
                Action::Read { saw } => saw,
                Action::WriteIf { value, .. } => value,
                Action::WriteNew { value } => Some(value),
                Action::Add { sum, .. } => sum,
                _ if random.permille(100) => Some(longest),
                Action::Delete | Action::Remove | Action::Expire { .. } | Action::Look { .. } => None,
            };
        }
        // A condition that did not hold, or one that did.
        (Action::Look { has_value }, Ending::Returned(_)) => {
            *action = if random.permille(500) {
                Action::Look { has_value: !*has_value }
            } else {
                Action::WriteIf { condition: Condition::Version(random.between(0, longest)), value: None }
            };
        }
        (Action::Add { sum, .. }, Ending::Returned(_)) if random.permille(300) => {
            *sum = sum.map(|sum| sum + random.between(0, 1));
        }
        // The operation took longer, or began at another time, than the history says.
        (
            Action::Write { .. }
            | Action::Delete
            | Action::WriteIf { .. }
            | Action::WriteNew { .. }
            | Action::Remove
            | Action::Add { .. },
            Ending::Returned(at),
        ) if random.permille(500) => {
            let took = *at - *invoked;
            *invoked = random.between(invoked.saturating_sub(longest), *invoked + longest);
            *at = *invoked + took;
        }
        // The write was reported as failed and took effect, or was acknowledged and is lost.
        (_, Ending::Returned(_)) => *ending = Ending::Failed,
        (Action::Read { .. } | Action::Look { .. }, Ending::Failed | Ending::Unknown) => {}
        (_, Ending::Failed | Ending::Unknown) => *ending = Ending::Returned(*invoked + random.between(0, longest)),
    }
}
