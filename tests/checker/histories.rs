//! The checker against histories that are known to be good or bad, and against a search of all orders of small random
//! ones.

use crate::testkit::checker::{
    Action, Condition, Ending, Operation, STEPS_MAX, Verdict, Versions, check, describe, shorten,
};
use crate::testkit::requests::judge;
use proptest::prelude::*;

const UNKNOWN: Ending = Ending::Unknown;
const FAILED: Ending = Ending::Failed;

fn until(at: u64) -> Ending {
    Ending::Returned(at)
}

fn write(value: u64, invoked: u64, ending: Ending) -> Operation {
    Operation { client: 0, invoked, action: Action::Write { value }, ending, version: None }
}

fn delete(invoked: u64, ending: Ending) -> Operation {
    Operation { client: 0, invoked, action: Action::Delete, ending, version: None }
}

fn read(saw: impl Into<Option<u64>>, invoked: u64, ending: Ending) -> Operation {
    Operation { client: 1, invoked, action: Action::Read { saw: saw.into() }, ending, version: None }
}

#[track_caller]
fn good(history: &[Operation]) {
    assert_eq!(check(history, STEPS_MAX), Verdict::Linearizable, "{history:#?}");
}

#[track_caller]
fn bad(history: &[Operation]) {
    assert_eq!(check(history, STEPS_MAX), Verdict::NotLinearizable, "{history:#?}");
    let short = shorten(history, STEPS_MAX);
    assert!(short.len() <= history.len());
    assert_eq!(check(&short, STEPS_MAX), Verdict::NotLinearizable, "shortened to {short:#?}");
}

#[test]
fn empty_and_sequential_histories_are_good() {
    good(&[]);
    good(&[read(None, 0, until(1))]);
    good(&[
        write(1, 0, until(1)),
        read(1, 2, until(3)),
        delete(4, until(5)),
        read(None, 6, until(7)),
        write(2, 8, until(9)),
        read(2, 10, until(11)),
    ]);
}

#[test]
fn concurrent_write_may_be_seen_or_not_but_only_in_one_direction() {
    good(&[write(1, 0, until(9)), read(None, 1, until(2)), read(1, 3, until(4))]);
    bad(&[write(1, 0, until(9)), read(1, 1, until(2)), read(None, 3, until(4))]);
    good(&[write(1, 0, until(9)), read(1, 1, until(4)), read(None, 2, until(5))]);
}

#[test]
fn stale_read_is_bad() {
    bad(&[write(1, 0, until(1)), write(2, 2, until(3)), read(1, 4, until(5))]);
    bad(&[write(1, 0, until(1)), read(None, 2, until(3))]);
}

#[test]
fn lost_write_is_bad() {
    let lost = [write(1, 0, until(1)), write(2, 2, until(3)), read(2, 4, until(5)), read(1, 6, until(7))];
    bad(&lost);
    // Two readers that disagree about the order of two writes.
    bad(&[
        write(1, 0, until(9)),
        write(2, 0, until(9)),
        read(1, 1, until(2)),
        read(2, 3, until(4)),
        read(1, 5, until(6)),
    ]);
}

#[test]
fn resurrected_delete_is_bad() {
    bad(&[write(1, 0, until(1)), delete(2, until(3)), read(1, 4, until(5))]);
    bad(&[write(1, 0, until(1)), delete(2, UNKNOWN), read(None, 4, until(5)), read(1, 6, until(7))]);
    good(&[write(1, 0, until(1)), delete(2, UNKNOWN), read(1, 4, until(5)), read(None, 6, until(7))]);
}

#[test]
fn read_of_a_write_that_failed_for_certain_is_bad() {
    bad(&[write(1, 0, FAILED), read(1, 2, until(3))]);
    good(&[write(1, 0, FAILED), read(None, 2, until(3))]);
    good(&[write(1, 0, until(1)), delete(2, FAILED), read(1, 4, until(5))]);
    bad(&[write(1, 0, until(1)), delete(2, FAILED), read(None, 4, until(5))]);
}

#[test]
fn unknown_write_may_show_late_or_never_but_stays_once_it_showed() {
    good(&[write(1, 0, UNKNOWN), read(None, 1, until(2)), read(None, 50, until(51))]);
    good(&[write(1, 0, UNKNOWN), read(None, 1, until(2)), read(1, 50, until(51))]);
    bad(&[write(1, 0, UNKNOWN), read(1, 1, until(2)), read(None, 50, until(51))]);
    good(&[write(1, 0, UNKNOWN), write(2, 1, until(2)), read(2, 3, until(4)), read(1, 5, until(6))]);
    bad(&[
        write(1, 0, UNKNOWN),
        write(2, 1, until(2)),
        read(1, 3, until(4)),
        read(2, 5, until(6)),
        read(1, 7, until(8)),
    ]);
}

#[test]
fn read_from_the_future_or_of_nobodys_value_is_bad() {
    bad(&[read(1, 0, until(1)), write(1, 2, until(3))]);
    bad(&[read(7, 0, until(1))]);
}

#[test]
fn failed_read_says_nothing() {
    good(&[write(1, 0, until(1)), read(None, 2, FAILED), read(None, 2, UNKNOWN)]);
}

#[test]
fn touching_operations_are_concurrent() {
    good(&[write(1, 0, until(2)), read(None, 2, until(3))]);
}

#[test]
fn used_up_steps_give_no_verdict() {
    let history: Vec<Operation> = (0..20).map(|n| delete(n, UNKNOWN)).chain([read(None, 30, until(31))]).collect();
    assert_eq!(check(&history, 0), Verdict::NoVerdict);
    let mut hopeless: Vec<Operation> = (0..18).map(|n| delete(n, UNKNOWN)).collect();
    hopeless.extend((0..16).map(|n| write(n, 0, until(100))));
    hopeless.extend([read(3, 101, until(102)), read(4, 103, until(104))]);
    assert_eq!(check(&hopeless, 1_000), Verdict::NoVerdict);
}

#[test]
fn shortened_history_keeps_only_what_is_wrong() {
    let mut history = Vec::new();
    for n in 0..50 {
        history.extend([write(n, 10 * n, until(10 * n + 1)), read(n, 10 * n + 2, until(10 * n + 3))]);
    }
    history.push(read(20, 310, until(311)));
    let short = shorten(&history, STEPS_MAX);
    let shown: Vec<String> = short.iter().map(describe).collect();
    assert_eq!(short.len(), 3, "a write, a later one, and a read of the first: {shown:#?}");
}

#[test]
fn conditional_writes_take_effect_once_on_the_version_that_they_name() {
    let told = |operation: Operation, version| Operation { version: Some(version), ..operation };
    let conditional = |condition, value: u64, invoked, ending| Operation {
        action: Action::WriteIf { condition, value: Some(value) },
        ..write(value, invoked, ending)
    };
    let (first, absent) = (Condition::Version(1), Condition::Absent);
    let begins = told(write(1, 0, until(1)), 1);
    good(&[begins, told(conditional(first, 2, 2, until(3)), 2), told(read(2, 4, until(5)), 2)]);
    bad(&[begins, conditional(first, 2, 2, until(3)), conditional(first, 3, 2, until(3))]);
    good(&[begins, conditional(first, 2, 2, UNKNOWN), conditional(first, 3, 2, until(3)), read(3, 4, until(5))]);
    bad(&[conditional(absent, 1, 0, until(1)), conditional(absent, 2, 0, until(1))]);
    bad(&[begins, told(write(2, 2, until(3)), 2), told(read(2, 4, until(5)), 1)]);
}

#[test]
fn failed_condition_showed_a_version_that_the_key_had_meanwhile() {
    let look = |version, has_value, invoked, end| Operation {
        action: Action::Look { has_value },
        version: Some(version),
        ..read(None, invoked, until(end))
    };
    let begins = Operation { version: Some(1), ..write(1, 0, until(1)) };
    let ends = Operation { version: Some(2), ..delete(4, until(5)) };
    good(&[begins, look(1, true, 2, 3), ends, look(2, false, 6, 7)]);
    bad(&[begins, ends, look(1, true, 6, 7)]);
    bad(&[begins, look(1, false, 2, 3), ends]);
    bad(&[begins, ends, look(0, false, 6, 7)]);
}

#[test]
fn additions_of_unknown_outcome_explain_a_sum_only_if_they_do() {
    let add = |delta, sum: u64, invoked, ending| Operation {
        action: Action::Add { delta, sum: Some(sum) },
        ..read(None, invoked, ending)
    };
    good(&[add(1, 1, 0, until(1)), add(2, 0, 0, UNKNOWN), add(4, 0, 0, UNKNOWN), add(8, 15, 2, until(3))]);
    bad(&[add(1, 1, 0, until(1)), add(2, 0, 0, UNKNOWN), add(4, 0, 0, UNKNOWN), add(8, 17, 2, until(3))]);
    bad(&[add(1, 1, 0, until(1)), add(1, 1, 2, until(3))]);
    good(&[add(1, 1, 0, until(1)), delete(0, UNKNOWN), add(1, 1, 2, until(3))]);
}

#[test]
fn version_expires_once_and_no_other_version_with_it() {
    let told = |operation: Operation, version| Operation { version: Some(version), ..operation };
    let expire =
        |version, invoked, ending| Operation { action: Action::Expire { version }, ..read(None, invoked, ending) };
    let begins = told(write(1, 0, until(1)), 1);
    let renewed = told(write(2, 4, until(5)), 3);
    good(&[begins, expire(1, 2, UNKNOWN), read(None, 2, until(3))]);
    good(&[begins, told(expire(1, 2, until(3)), 2), told(read(None, 2, until(3)), 2), renewed]);
    bad(&[begins, expire(1, 4, UNKNOWN), read(None, 2, until(3))]);
    bad(&[begins, expire(1, 2, UNKNOWN), renewed, read(None, 6, until(7))]);
    bad(&[begins, expire(1, 2, UNKNOWN), read(None, 2, until(3)), told(read(1, 4, until(5)), 1)]);
    bad(&[begins, expire(1, 2, UNKNOWN), read(None, 2, until(3)), renewed, told(read(1, 6, until(7)), 1)]);
}

/// Tries all orders: slow, and simple enough to be trusted. `versions` are those of the effects so far, where known.
fn check_by_force(history: &[Operation]) -> bool {
    fn place(left: &[Operation], value: Option<u64>, versions: &[Option<u64>]) -> bool {
        let ends = |op: &Operation| if let Ending::Returned(at) = op.ending { at } else { u64::MAX };
        if left.iter().all(|op| op.ending == Ending::Unknown) {
            return true;
        }
        let first_end = left.iter().map(ends).min().unwrap_or(u64::MAX);
        (0..left.len()).filter(|i| left[*i].invoked <= first_end).any(|i| {
            let rest: Vec<Operation> = left.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, op)| *op).collect();
            let is_told = matches!(left[i].ending, Ending::Returned(_));
            let version = left[i].version.filter(|_| is_told);
            let seen = |seen: Option<u64>| with_last(versions, seen);
            let effect = |versions: Vec<Option<u64>>, value| {
                let versions: Vec<Option<u64>> = versions.into_iter().chain([version]).collect();
                rise(&versions) && place(&rest, value, &versions)
            };
            match left[i].action {
                Action::Read { saw } => {
                    saw == value && seen(version).is_some_and(|versions| place(&rest, value, &versions))
                }
                Action::Look { has_value } => {
                    has_value == value.is_some() && seen(version).is_some_and(|versions| place(&rest, value, &versions))
                }
                Action::Write { value } => effect(versions.to_vec(), Some(value)),
                Action::Delete => effect(versions.to_vec(), None),
                Action::WriteIf { condition: Condition::Version(of), value } => {
                    seen(Some(of)).is_some_and(|versions| effect(versions, value))
                }
                Action::Expire { version: of } => seen(Some(of)).is_some_and(|versions| effect(versions, None)),
                Action::WriteIf { condition: Condition::Among(named), value: new } => {
                    let any = |of: &u64| seen(Some(*of)).is_some_and(|versions| effect(versions, new));
                    value.is_some() && named.as_slice().iter().any(any)
                }
                Action::WriteIf { condition: Condition::NotAmong { versions: named, needs_value }, value: new } => {
                    let last = versions.last().copied().flatten();
                    let is_named = last.is_some_and(|last| named.as_slice().contains(&last));
                    let holds = if value.is_some() { !is_named } else { !needs_value };
                    holds && effect(versions.to_vec(), new)
                }
                Action::WriteNew { value: new } => match value {
                    Some(_) => place(&rest, value, versions),
                    None => effect(versions.to_vec(), Some(new)),
                },
                Action::Remove => (value.is_none() && place(&rest, value, versions)) || effect(versions.to_vec(), None),
                Action::WriteIf { condition, value: new } => {
                    let holds = match condition {
                        Condition::Value(of) => value == Some(of),
                        _ => (condition == Condition::Present) == value.is_some(),
                    };
                    holds && effect(versions.to_vec(), new)
                }
                Action::Add { delta, sum } => {
                    let is = value.unwrap_or_default().wrapping_add_signed(delta);
                    (!is_told || sum.is_none_or(|sum| sum == is)) && effect(versions.to_vec(), Some(is))
                }
            }
        })
    }
    /// The versions, once the last one is known to be `seen`.
    fn with_last(versions: &[Option<u64>], seen: Option<u64>) -> Option<Vec<Option<u64>>> {
        let mut versions = versions.to_vec();
        let last = versions.last_mut()?;
        if let Some(seen) = seen {
            if last.is_some_and(|last| last != seen) {
                return None;
            }
            *last = Some(seen);
        }
        rise(&versions).then_some(versions)
    }
    fn rise(versions: &[Option<u64>]) -> bool {
        versions.iter().flatten().is_sorted_by(|a, b| a < b)
    }
    let is_read = |op: &Operation| matches!(op.action, Action::Read { .. } | Action::Look { .. });
    let counts = |op: &&Operation| match op.ending {
        Ending::Returned(_) => true,
        Ending::Unknown => !is_read(op),
        Ending::Failed => false,
    };
    place(&history.iter().filter(counts).copied().collect::<Vec<_>>(), None, &[Some(0)])
}

fn any_history() -> impl Strategy<Value = Vec<Operation>> {
    let operation = (0..12_u64, 1..6_u64, 0..8_u8, 0..5_u8, proptest::option::of(0..4_u64));
    proptest::collection::vec(operation, 0..7).prop_map(|drawn| {
        let make = |(i, (invoked, length, what, how, saw))| {
            let ending = match how {
                0 => UNKNOWN,
                1 if what % 4 == 0 => FAILED,
                _ => until(invoked + length),
            };
            match what {
                0..=2 => write(i, invoked, ending),
                3 => delete(invoked, ending),
                _ => read(saw, invoked, ending),
            }
        };
        (0..).zip(drawn).map(make).collect()
    })
}

type Drawn = ((u64, u64, u8), u8, Option<u64>, Option<u64>, u64, bool);

/// Histories with conditional writes and additions, in which few values and versions meet often.
fn any_conditional_history() -> impl Strategy<Value = Vec<Operation>> {
    let maybe = || proptest::option::of(0..4_u64);
    let operation = ((0..12_u64, 1..6_u64, 0..5_u8), 0..21_u8, maybe(), maybe(), 0..4_u64, any::<bool>());
    proptest::collection::vec(operation, 0..7).prop_map(|drawn| {
        let make = |((invoked, length, how), what, value, version, of, is_so): Drawn| {
            let action = match what {
                0..=1 => Action::Write { value: of },
                2 => Action::Delete,
                3..=5 => Action::Read { saw: value },
                6 => Action::Look { has_value: is_so },
                7..=8 => Action::WriteIf { condition: Condition::Version(of), value },
                13..=14 => Action::Expire { version: of },
                9 => Action::WriteIf { condition: if is_so { Condition::Present } else { Condition::Absent }, value },
                10 => Action::WriteIf { condition: Condition::Value(of), value },
                15..=16 => Action::WriteNew { value: of },
                17..=18 => Action::Remove,
                19 => Action::WriteIf { condition: Condition::Among(Versions::new([of, of + 2])), value },
                20 => {
                    let versions = Versions::new([version.unwrap_or(of + 1), of]);
                    Action::WriteIf { condition: Condition::NotAmong { versions, needs_value: is_so }, value }
                }
                _ => Action::Add { delta: 1, sum: value },
            };
            let ending = match how {
                0..=1 => UNKNOWN,
                2 if is_so => FAILED,
                _ => until(invoked + length),
            };
            let is_told = !matches!(action, Action::WriteNew { .. } | Action::Remove);
            Operation { client: 0, invoked, action, ending, version: version.filter(|_| is_told) }
        };
        // A history of plain writes alone needs unique values: this one is not of plain writes.
        let look = Action::Look { has_value: true };
        let other = Operation { client: 0, invoked: 0, action: look, ending: FAILED, version: None };
        drawn.into_iter().map(make).chain([other]).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn verdict_is_that_of_trying_all_orders(history in any_history()) {
        let expected = if check_by_force(&history) { Verdict::Linearizable } else { Verdict::NotLinearizable };
        prop_assert_eq!(check(&history, STEPS_MAX), expected);
    }

    #[test]
    fn verdict_on_conditional_writes_is_that_of_trying_all_orders(history in any_conditional_history()) {
        let expected = if check_by_force(&history) { Verdict::Linearizable } else { Verdict::NotLinearizable };
        prop_assert_eq!(check(&history, STEPS_MAX), expected);
        let (verdict, part) = judge(&history, STEPS_MAX);
        prop_assert_eq!(verdict, expected);
        prop_assert!(verdict != Verdict::Linearizable || check_by_force(&part), "the part is wrong: {part:#?}");
    }
}
