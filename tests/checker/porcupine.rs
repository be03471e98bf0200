//! The checker against porcupine, which shares no code with it: both give the same verdict on a thousand random
//! histories, good and bad ones.
//!
//! Porcupine is a Go program. Without Go or its module the test skips itself; with `QUORATE_REQUIRE_CLIENTS=1` it fails.
//! `QUORATE_PORCUPINE_SEED` draws other histories.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::testkit::checker::{Action, Condition, Ending, Operation, STEPS_MAX, Verdict, check, describe};
use crate::testkit::random::Random;
use serde_json::json;

const HISTORIES: usize = 1_000;
const SEED: u64 = 2017;

/// The least histories of each verdict: agreement on one verdict alone would show little.
const EACH_VERDICT_MIN: usize = 200;

#[test]
fn verdicts_are_those_of_porcupine() {
    let porcupine = match build() {
        Ok(program) => program,
        Err(why) => {
            assert!(std::env::var("QUORATE_REQUIRE_CLIENTS").as_deref() != Ok("1"), "porcupine is missing: {why}");
            println!("SKIPPED: porcupine is missing: {why}");
            return;
        }
    };
    let seed = std::env::var("QUORATE_PORCUPINE_SEED").map_or(SEED, |seed| seed.parse().expect("the seed is a number"));
    let mut random = Random::new(seed);
    let histories: Vec<Vec<Operation>> = (0..HISTORIES).map(|_| any_history(&mut random)).collect();
    let theirs = judge(&porcupine, &histories);
    assert_eq!(theirs.len(), HISTORIES);

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

/// Builds porcupine's program. The error says what is missing; an error in the program itself fails the test.
fn build() -> Result<PathBuf, String> {
    // Cargo starts tests in the folder of the package.
    let folder = Path::new("tests/checker/go");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quorate-porcupine");
    let go = |arguments: &[&str]| Command::new("go").args(arguments).current_dir(folder).output();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();

    let download = go(&["mod", "download"]).map_err(|error| format!("Go could not be run: {error}"))?;
    if !download.status.success() {
        return Err(format!("Go could not download it: {}", text(&download.stderr)));
    }
    // No version stamp: Go would look for a version control system, which a copy of the sources need not have.
    let built = go(&["build", "-buildvcs=false", "-o", program.to_str().expect("the folder's name is UTF-8"), "."])
        .expect("Go was run before");
    assert!(built.status.success(), "{}", text(&built.stderr));
    Ok(program)
}

fn judge(porcupine: &Path, histories: &[Vec<Operation>]) -> Vec<Verdict> {
    let lines: String = histories.iter().map(|history| as_json(history) + "\n").collect();
    let mut child = Command::new(porcupine).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // On a thread of its own: the program answers while it reads, and a full pipe would stop both sides.
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "porcupine: {}", output.status);
    let verdict = |line: &str| match line {
        "linearizable" => Verdict::Linearizable,
        "not linearizable" => Verdict::NotLinearizable,
        "no verdict" => Verdict::NoVerdict,
        _ => panic!("porcupine said {line:?}"),
    };
    std::str::from_utf8(&output.stdout).unwrap().lines().map(verdict).collect()
}

fn as_json(history: &[Operation]) -> String {
    let operation = |Operation { client, invoked, action, ending, version }: &Operation| {
        let (name, value) = match action {
            Action::Read { saw } => ("read", *saw),
            Action::Write { value } => ("write", Some(*value)),
            Action::Delete => ("write", None),
            Action::WriteIf { value, .. } => ("write if", *value),
            Action::Add { sum, .. } => ("add", *sum),
            Action::Look { .. } => ("look", None),
        };
        let condition = match action {
            Action::WriteIf { condition: Condition::Absent, .. } => "absent",
            Action::WriteIf { condition: Condition::Present, .. } => "present",
            Action::WriteIf { condition: Condition::Version(_), .. } => "version",
            _ => "",
        };
        let condition_version = match action {
            Action::WriteIf { condition: Condition::Version(version), .. } => *version,
            _ => 0,
        };
        let delta = if let Action::Add { delta, .. } = action { *delta } else { 0 };
        let has_value = matches!(action, Action::Look { has_value: true });
        let (ending, returned) = match ending {
            Ending::Returned(at) => ("returned", *at),
            Ending::Failed => ("failed", 0),
            Ending::Unknown => ("unknown", 0),
        };
        json!({
            "client": client, "invoked": invoked, "action": name, "value": value, "version": version,
            "condition": condition, "condition_version": condition_version, "delta": delta, "has_value": has_value,
            "ending": ending, "returned": returned,
        })
    };
    json!(history.iter().map(operation).collect::<Vec<_>>()).to_string()
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

fn good_history(random: &mut Random) -> Vec<Operation> {
    let mut history = Vec::new();
    let mut effects = Vec::new();
    let (clients, each) = (random.between(2, 5), random.between(2, 8));
    // Short operations hardly overlap; long ones overlap with many.
    let longest = *random.pick(&[2, 8, 30]);
    // Half of the histories are of plain writes alone.
    let conditional = u64::from(random.permille(500)) * 4;
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
        let holds = match operation.action {
            Action::WriteIf { condition: Condition::Version(named), .. } => named == version,
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
            Action::Delete => held = None,
            Action::WriteIf { value, .. } => held = *value,
            Action::Add { delta, sum } => {
                *sum = Some(held.unwrap_or_default().wrapping_add_signed(*delta));
                held = *sum;
            }
        }
        let has_effect = !matches!(operation.action, Action::Read { .. } | Action::Look { .. });
        debug_assert!(has_effect || before == held);
        effects_so_far += u64::from(has_effect);
        version = effects_so_far;
        operation.version = Some(version).filter(|_| random.permille(told));
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
                Action::Add { sum, .. } => sum,
                Action::Delete | Action::Look { .. } if random.permille(100) => Some(longest),
                Action::Delete | Action::Look { .. } => None,
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
        (Action::Write { .. } | Action::Delete | Action::WriteIf { .. } | Action::Add { .. }, Ending::Returned(at))
            if random.permille(500) =>
        {
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
