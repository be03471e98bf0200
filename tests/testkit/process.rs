//! One process under test, and its output.
//!
//! Contract: the process is killed by its id and reaped, however the test ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The interval between two looks at a state that a test waits for.
pub const LOOK_AFTER: Duration = Duration::from_millis(20);

/// A process that runs, or has run.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`. Its output is appended to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("a log file can be opened");
        let second = log.try_clone().expect("a file can be cloned");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(second).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")) }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it `signal`. No other process has its id before it is reaped.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id is an i32");
        kill(Pid::from_raw(id), signal).expect("a child can be signalled until it is reaped");
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until it has ended. `None` if it still runs after `limit`.
    pub async fn end_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if began.elapsed() > limit {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::SIGKILL);
            self.child.wait().expect("a child can be waited for");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Calls `look` until it returns `Ok`. Its error describes the state that it found instead.
///
/// # Panics
/// After `limit`, with `what` and the last state.
pub async fn poll<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(began.elapsed() < limit, "waited {limit:?} for {what}; last seen: {seen}"),
        }
        tokio::time::sleep(LOOK_AFTER).await;
    }
}

/// The last lines of the file at `path`.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = read(path);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The text of the file at `path`; empty where there is none yet.
pub fn read(path: &Path) -> String {
    fs::read(path).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of what Linux says of a process's memory, such as `VmRSS`, in bytes; none where the system says nothing.
pub fn memory_bytes(process_id: u32, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process_id}/status")).ok()?;
    let kibibytes = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')?.strip_suffix(" kB"))?;
    Some(kibibytes.trim().parse::<u64>().ok()? << 10)
}

/// The program under test: `QUORATE_PROGRAM` where that is set, so that an optimized build can be measured. Else the one
/// that Cargo built for this test, or the one in the folder above this example.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("QUORATE_PROGRAM") {
        return path.into();
    }
    let beside = || {
        let own = std::env::current_exe().expect("a process knows its own program");
        own.ancestors().nth(2).expect("an example lies two folders deep").join("quorate")
    };
    option_env!("CARGO_BIN_EXE_quorate").map_or_else(beside, PathBuf::from)
}

/// The program, with nothing of this process's environment that configures a node.
pub fn command() -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("QUORATE_") || text == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
    command
}
