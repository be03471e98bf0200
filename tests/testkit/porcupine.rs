//! Porcupine, a linearizability checker in Go that shares no code and no author with ours, as a second judge.
//!
//! Contract: it judges the very operations that [`check`](super::checker::check) judges. Its program is `tests/checker/go`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::checker::{Action, Condition, Ending, Operation, Verdict};

/// How long porcupine may take for one history, unless it is told otherwise. Those of the tests take far less.
pub const TIME_MAX: Duration = Duration::from_mins(1);

/// Porcupine's program.
#[derive(Clone, Debug)]
pub struct Porcupine {
    program: PathBuf,
}

impl Porcupine {
    /// Builds it in `folder`. The error says what is missing; an error in the program itself fails the test.
    pub fn build(folder: &Path) -> Result<Self, String> {
        // Cargo starts tests in the folder of the package.
        let sources = Path::new("tests/checker/go");
        let program = folder.join("quorate-porcupine");
        let go = |arguments: &[&str]| Command::new("go").args(arguments).current_dir(sources).output();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();

        let download = go(&["mod", "download"]).map_err(|error| format!("Go could not be run: {error}"))?;
        if !download.status.success() {
            return Err(format!("Go could not download it: {}", text(&download.stderr)));
        }
        // No version stamp: Go would look for a version control system, which a copy of the sources need not have.
        let built = go(&["build", "-buildvcs=false", "-o", program.to_str().expect("the folder's name is UTF-8"), "."])
            .expect("Go was run before");
        assert!(built.status.success(), "{}", text(&built.stderr));
        Ok(Self { program })
    }

    /// Its verdict on each history, for which it takes at most `time_max` each.
    pub fn judge(&self, histories: &[Vec<Operation>], time_max: Duration) -> Vec<Verdict> {
        let lines: String = histories.iter().map(|history| as_json(history) + "\n").collect();
        let mut command = Command::new(&self.program);
        command.arg(format!("{}ms", time_max.as_millis())).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("porcupine can be started");
        let mut input = child.stdin.take().expect("its input is a pipe");
        // On a thread of its own: the program answers while it reads, and a full pipe would stop both sides.
        let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
        let output = child.wait_with_output().expect("porcupine can be awaited");
        writer.join().expect("the writer does not panic").expect("porcupine reads everything");
        assert!(output.status.success(), "porcupine: {}", output.status);
        let verdict = |line: &str| match line {
            "linearizable" => Verdict::Linearizable,
            "not linearizable" => Verdict::NotLinearizable,
            "no verdict" => Verdict::NoVerdict,
            _ => panic!("porcupine said {line:?}"),
        };
        let verdicts: Vec<Verdict> = String::from_utf8_lossy(&output.stdout).lines().map(verdict).collect();
        assert_eq!(verdicts.len(), histories.len(), "porcupine judges each history once");
        verdicts
    }
}

fn as_json(history: &[Operation]) -> String {
    let operation = |Operation { client, invoked, action, ending, version }: &Operation| {
        let (name, value) = match action {
            Action::Read { saw } => ("read", *saw),
            Action::Write { value } => ("write", Some(*value)),
            Action::Delete => ("write", None),
            Action::WriteIf { value, .. } => ("write if", *value),
            Action::Expire { .. } => ("write if", None),
            Action::WriteNew { value } => ("write new", Some(*value)),
            Action::Remove => ("remove", None),
            Action::Add { sum, .. } => ("add", *sum),
            Action::Look { .. } => ("look", None),
        };
        let (condition, names) = match action {
            Action::WriteIf { condition: Condition::Absent, .. } => ("absent", 0),
            Action::WriteIf { condition: Condition::Present, .. } => ("present", 0),
            Action::WriteIf { condition: Condition::Version(version), .. } | Action::Expire { version } => {
                ("version", *version)
            }
            Action::WriteIf { condition: Condition::Value(value), .. } => ("value", *value),
            Action::WriteIf { condition: Condition::Among(_), .. } => ("among", 0),
            Action::WriteIf { condition: Condition::NotAmong { needs_value: true, .. }, .. } => ("other", 0),
            Action::WriteIf { condition: Condition::NotAmong { needs_value: false, .. }, .. } => ("other or absent", 0),
            _ => ("", 0),
        };
        let versions = match action {
            Action::WriteIf {
                condition: Condition::Among(versions) | Condition::NotAmong { versions, .. }, ..
            } => versions.as_slice(),
            _ => &[],
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
            "condition": condition, "names": names, "named": versions, "delta": delta, "has_value": has_value,
            "ending": ending, "returned": returned,
        })
    };
    json!(history.iter().map(operation).collect::<Vec<_>>()).to_string()
}
