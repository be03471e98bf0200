//! The checker against porcupine, which shares no code with it: both give the same verdict on a thousand random
//! histories, good and bad ones.
//!
//! Porcupine is a Go program. Without Go or its module the test skips itself; with `QUORATE_REQUIRE_CLIENTS=1` it fails.
//! `QUORATE_PORCUPINE_SEED` draws other histories.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::testkit::checker::{Action, Ending, Operation, STEPS_MAX, Verdict, check, describe};
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
    let operation = |Operation { client, invoked, action, ending }: &Operation| {
        let (action, value) = match action {
            Action::Read { saw } => ("read", *saw),
            Action::Write { value } => ("write", Some(*value)),
            Action::Delete => ("delete", None),
        };
        let (ending, returned) = match ending {
            Ending::Returned(at) => ("returned", *at),
            Ending::Failed => ("failed", 0),
            Ending::Unknown => ("unknown", 0),
        };
        json!({
            "client": client, "invoked": invoked, "action": action, "value": value,
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
    for client in 0..clients {
        let mut now = random.between(0, longest);
        for _ in 0..each {
            let index = history.len();
            let action = match random.between(0, 9) {
                0..=3 => Action::Write { value: index as u64 },
                4 => Action::Delete,
                _ => Action::Read { saw: None },
            };
            let at = now + random.between(0, longest);
            let returned = at + random.between(0, longest);
            let ending = match random.between(0, 99) {
                0..=14 => Ending::Unknown,
                15..=19 => Ending::Failed,
                _ => Ending::Returned(returned),
            };
            let client = u32::try_from(client).expect("there are few");
            history.push(Operation { client, invoked: now, action, ending });
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
    let mut held = None;
    for Planned { index, .. } in effects {
        match &mut history[index].action {
            Action::Read { saw } => *saw = held,
            Action::Write { value } => held = Some(*value),
            Action::Delete => held = None,
        }
    }
    history
}

/// Changes one operation as a defect might. The history may stay linearizable.
fn damage(history: &mut [Operation], random: &mut Random) {
    let any = random.below(history.len());
    let other = history[random.below(history.len())].action;
    let longest = history.len() as u64;
    let Operation { invoked, action, ending, .. } = &mut history[any];
    match (&mut *action, &mut *ending) {
        // The read saw an older or newer value, none, or one that was never written.
        (Action::Read { saw }, Ending::Returned(_)) => {
            *saw = match other {
                Action::Write { value } => Some(value),
                Action::Read { saw } => saw,
                Action::Delete if random.permille(100) => Some(longest),
                Action::Delete => None,
            };
        }
        // The write was reported as failed and took effect, or was acknowledged and is lost.
        (Action::Write { .. } | Action::Delete, Ending::Returned(_)) if random.permille(500) => {
            *ending = Ending::Failed;
        }
        (Action::Write { .. } | Action::Delete, Ending::Failed | Ending::Unknown) => {
            *ending = Ending::Returned(*invoked + random.between(0, longest));
        }
        // The operation took longer, or began at another time, than the history says.
        (_, Ending::Returned(at)) => {
            let took = *at - *invoked;
            *invoked = random.between(invoked.saturating_sub(longest), *invoked + longest);
            *at = *invoked + took;
        }
        (Action::Read { .. }, Ending::Failed | Ending::Unknown) => {}
    }
}
