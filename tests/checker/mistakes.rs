//! Histories with one known mistake each. Both checkers must reject them, and accept what is right of them.

use crate::porcupine::porcupine;
use crate::testkit::checker::{Action, Condition, Ending, Operation, STEPS_MAX, Verdict, Versions, check};
use crate::testkit::porcupine::TIME_MAX;

/// The mistake, the history without it, and the operation that makes it wrong.
struct Mistake {
    what: &'static str,
    right: Vec<Operation>,
    wrong: Operation,
}

fn op(action: Action, version: u64, invoked: u64, returned: u64) -> Operation {
    Operation { client: 0, invoked, action, ending: Ending::Returned(returned), version: Some(version) }
}

fn untold(operation: Operation) -> Operation {
    Operation { ending: Ending::Unknown, version: None, ..operation }
}

/// The operation, of a client that is told no version.
fn silent(operation: Operation) -> Operation {
    Operation { version: None, ..operation }
}

const fn write(value: u64) -> Action {
    Action::Write { value }
}

const fn read(saw: Option<u64>) -> Action {
    Action::Read { saw }
}

const fn write_if(condition: Condition, value: u64) -> Action {
    Action::WriteIf { condition, value: Some(value) }
}

const fn add(delta: i64, sum: u64) -> Action {
    Action::Add { delta, sum: Some(sum) }
}

#[expect(clippy::too_many_lines, reason = "a list")]
fn mistakes() -> Vec<Mistake> {
    let one = op(write(100), 1, 0, 1);
    let expires = |at| Operation {
        action: Action::WriteIf { condition: Condition::Value(100), value: None },
        ..untold(op(read(None), 0, at, at))
    };
    let mistake = |what, right: &[Operation], wrong| Mistake { what, right: right.to_vec(), wrong };
    vec![
        mistake(
            "two writes hold on one version",
            &[one, op(write_if(Condition::Version(1), 200), 2, 2, 9)],
            op(write_if(Condition::Version(1), 300), 3, 2, 9),
        ),
        mistake(
            "two writes find the key absent",
            &[op(write_if(Condition::Absent, 100), 1, 0, 9)],
            op(write_if(Condition::Absent, 200), 2, 0, 9),
        ),
        mistake(
            "a write finds a value present after the last one was deleted",
            &[one, op(Action::Delete, 2, 2, 3)],
            op(write_if(Condition::Present, 200), 3, 4, 5),
        ),
        mistake(
            "a condition fails on a version that was replaced before",
            &[one, op(write(200), 2, 2, 3)],
            op(Action::Look { has_value: true }, 1, 4, 5),
        ),
        mistake(
            "a condition fails and shows no value where there is one",
            &[one, op(Action::Look { has_value: true }, 1, 2, 3)],
            op(Action::Look { has_value: false }, 1, 4, 5),
        ),
        mistake(
            "a blind write is lost to a conditional one on its base",
            &[one, op(write(200), 2, 2, 3)],
            op(write_if(Condition::Version(1), 300), 3, 4, 5),
        ),
        mistake(
            "a value of unknown outcome is seen, and then the earlier one",
            &[one, untold(op(write_if(Condition::Version(1), 200), 2, 2, 3)), op(read(Some(200)), 2, 4, 5)],
            op(read(Some(100)), 1, 6, 7),
        ),
        mistake(
            "an addition counts twice",
            &[op(add(1, 1), 1, 0, 1), op(add(2, 3), 2, 2, 3)],
            op(read(Some(5)), 3, 4, 5),
        ),
        mistake(
            "two additions get one sum",
            &[op(add(1, 1), 1, 0, 9), op(read(Some(2)), 2, 10, 11), op(add(1, 2), 2, 0, 9)],
            op(add(1, 2), 3, 0, 9),
        ),
        mistake(
            "an addition is lost",
            &[op(add(1, 1), 1, 0, 1), untold(op(add(7, 8), 2, 2, 3)), op(add(1, 2), 3, 4, 5)],
            op(read(Some(1)), 1, 6, 7),
        ),
        mistake(
            "a write holds on a list that does not name the version",
            &[one, op(write(200), 2, 2, 3)],
            op(write_if(Condition::Among(Versions::new([1, 3])), 300), 4, 4, 5),
        ),
        mistake(
            "a write holds where a list excludes the version",
            &[one, op(write(200), 2, 2, 3)],
            op(write_if(Condition::NotAmong { versions: Versions::new([1, 2]), needs_value: false }, 300), 3, 4, 5),
        ),
        mistake(
            "a write that needs a value finds none",
            &[one, op(Action::Delete, 2, 2, 3)],
            op(write_if(Condition::NotAmong { versions: Versions::new([1]), needs_value: true }, 300), 3, 4, 5),
        ),
        mistake(
            "a write of a new value takes effect on another one",
            &[one, silent(op(Action::WriteNew { value: 200 }, 0, 2, 3))],
            silent(op(read(Some(200)), 0, 4, 5)),
        ),
        mistake(
            "a write of a new value is told as done, and there is none",
            &[silent(op(Action::WriteNew { value: 200 }, 0, 2, 3))],
            silent(op(read(None), 0, 4, 5)),
        ),
        mistake(
            "a value is there after what there was is deleted",
            &[one, silent(op(Action::Remove, 0, 2, 3)), op(read(None), 3, 4, 5)],
            silent(op(read(Some(100)), 0, 6, 7)),
        ),
        mistake(
            "versions fall after a delete of nothing",
            &[op(Action::Delete, 2, 0, 1), silent(op(Action::Remove, 0, 2, 3)), op(read(None), 2, 4, 5)],
            op(read(None), 1, 6, 7),
        ),
        mistake("versions fall", &[one, op(write(200), 2, 2, 3)], op(read(Some(200)), 1, 4, 5)),
        mistake(
            "a value is gone before its time to live has passed",
            &[one, expires(50), op(read(Some(100)), 1, 10, 20)],
            Operation { version: None, ..op(read(None), 0, 30, 40) },
        ),
        mistake(
            "an expired value comes back",
            &[one, expires(50), Operation { version: None, ..op(read(None), 0, 60, 70) }],
            op(read(Some(100)), 1, 80, 90),
        ),
        mistake(
            "an expiry deletes the value that replaced the one that was due",
            &[one, expires(50), op(write(200), 2, 60, 70)],
            Operation { version: None, ..op(read(None), 0, 80, 90) },
        ),
    ]
}

#[test]
fn each_known_mistake_is_rejected() {
    for Mistake { what, right, wrong } in mistakes() {
        assert_eq!(check(&right, STEPS_MAX), Verdict::Linearizable, "{what}: without the mistake");
        let history: Vec<Operation> = right.into_iter().chain([wrong]).collect();
        assert_eq!(check(&history, STEPS_MAX), Verdict::NotLinearizable, "{what}");
    }
}

#[test]
fn porcupine_rejects_each_known_mistake_too() {
    let Some(porcupine) = porcupine() else { return };
    let right: Vec<Vec<Operation>> = mistakes().into_iter().map(|mistake| mistake.right).collect();
    let wrong: Vec<Vec<Operation>> =
        mistakes().into_iter().map(|mistake| mistake.right.into_iter().chain([mistake.wrong]).collect()).collect();
    let (right, wrong) = (porcupine.judge(&right, TIME_MAX), porcupine.judge(&wrong, TIME_MAX));
    for (n, Mistake { what, .. }) in mistakes().iter().enumerate() {
        assert_eq!(right[n], Verdict::Linearizable, "{what}: without the mistake");
        assert_eq!(wrong[n], Verdict::NotLinearizable, "{what}");
    }
    println!("both checkers reject {} histories with a known mistake", wrong.len());
}
