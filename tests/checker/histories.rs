//! The checker against histories that are known to be good or bad, and against a search of all orders of small random
//! ones.

use crate::testkit::checker::{Action, Ending, Operation, STEPS_MAX, Verdict, check, describe, shorten};
use proptest::prelude::*;

const UNKNOWN: Ending = Ending::Unknown;
const FAILED: Ending = Ending::Failed;

fn until(at: u64) -> Ending {
    Ending::Returned(at)
}

fn write(value: u64, invoked: u64, ending: Ending) -> Operation {
    Operation { client: 0, invoked, action: Action::Write { value }, ending }
}

fn delete(invoked: u64, ending: Ending) -> Operation {
    Operation { client: 0, invoked, action: Action::Delete, ending }
}

fn read(saw: impl Into<Option<u64>>, invoked: u64, ending: Ending) -> Operation {
    Operation { client: 1, invoked, action: Action::Read { saw: saw.into() }, ending }
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

/// Tries all orders: slow, and simple enough to be trusted.
fn check_by_force(history: &[Operation]) -> bool {
    fn place(left: &[Operation], value: Option<u64>) -> bool {
        let ends = |op: &Operation| if let Ending::Returned(at) = op.ending { at } else { u64::MAX };
        if left.iter().all(|op| op.ending == Ending::Unknown) {
            return true;
        }
        let first_end = left.iter().map(ends).min().unwrap_or(u64::MAX);
        (0..left.len()).filter(|i| left[*i].invoked <= first_end).any(|i| {
            let rest: Vec<Operation> = left.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, op)| *op).collect();
            match left[i].action {
                Action::Read { saw } => saw == value && place(&rest, value),
                Action::Write { value } => place(&rest, Some(value)),
                Action::Delete => place(&rest, None),
            }
        })
    }
    let is_read = |op: &Operation| matches!(op.action, Action::Read { .. });
    let counts = |op: &&Operation| match op.ending {
        Ending::Returned(_) => true,
        Ending::Unknown => !is_read(op),
        Ending::Failed => false,
    };
    place(&history.iter().filter(counts).copied().collect::<Vec<_>>(), None)
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn verdict_is_that_of_trying_all_orders(history in any_history()) {
        let expected = if check_by_force(&history) { Verdict::Linearizable } else { Verdict::NotLinearizable };
        prop_assert_eq!(check(&history, STEPS_MAX), expected);
    }
}
