//! Runs a page's commands: one bash for each page, in a folder of its own, with the program under test on PATH.
//!
//! Contract: all processes of a page are in one process group, which is killed when the page is done, whatever happened.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::page::{Mode, Page};
use super::testkit::ports;

/// What precedes the number of a command in what the page's bash prints.
const MARK: char = '\u{1e}';
/// How long the commands of one page may take.
const PAGE_TIME_MAX: Duration = Duration::from_mins(3);
/// Programs that a machine may lack, and how bash finds whether they are there. Blocks that use one are skipped without it.
/// Of the programs that are called nc, the pages use OpenBSD's.
const TOOLS: [(&str, &str); 5] = [
    ("grpcurl", "command -v grpcurl"),
    ("ghz", "command -v ghz"),
    ("curl", "command -v curl"),
    ("redis-cli", "command -v redis-cli"),
    ("nc", "nc -h 2>&1 | grep OpenBSD"),
];
/// The ports that pages name begin here: those of nodes. There are nine of each kind.
const PORTS_SHOWN: u16 = 8_001;
/// See [`PORTS_SHOWN`].
const PORTS: u16 = 9;

/// What the shell finds as `quorate`: the program under test, with the first port of `quorate dev` moved.
const SHIM: &str = r#"#!/bin/bash
if [[ $1 == dev && " $* " != *" --port "* ]]; then
    shift
    set -- dev --port PORT "$@"
fi
exec PROGRAM "$@"
"#;

/// Starts the cluster of the examples, and waits until all of it is there.
const CLUSTER: &str = r#"
for node in 1 2 3; do
    quorate serve examples/3-local-nodes/node-$node.yml examples/3-local-nodes/cluster.yml >node-$node.log 2>&1 &
done
until [[ $(quorate status 2>&1) == *"tolerates 1 more failure"* ]]; do sleep 0.1; done
"#;

/// Waits, for a while, until nodes that were started in the background have bootstrapped a cluster.
const BOOTSTRAPPED: &str = r"for _ in {1..150}; do
    [[ $(quorate status 2>&1) =~ tolerates\ [0-9] ]] && break
    sleep 0.1
done
";

/// A folder with what a page's commands look at, and ports for its nodes.
pub struct Sandbox {
    folder: TempDir,
    first_port: u16,
}

/// A command of the page that is run, and what is expected of it.
struct Expected {
    line: usize,
    command: String,
    output: Option<Vec<String>>,
    exit: i32,
    exact: bool,
}

impl Sandbox {
    /// A folder with the examples and the API, on ports of its own.
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("quorate-docs-").expect("a temporary folder can be made");
        let sandbox = Self { folder, first_port: ports::free_dev_ports(PORTS) };
        sandbox.copy(Path::new("examples"));
        sandbox.copy(Path::new("api"));
        let program = env!("CARGO_BIN_EXE_quorate");
        let shim = SHIM.replace("PORT", &sandbox.first_port.to_string()).replace("PROGRAM", program);
        let bin = sandbox.path("bin");
        fs::create_dir(&bin).expect("a folder can be made");
        fs::write(bin.join("quorate"), shim).expect("a file can be written");
        fs::set_permissions(bin.join("quorate"), fs::Permissions::from_mode(0o755))
            .expect("a file can be made a program");
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn copy(&self, folder: &Path) {
        fs::create_dir(self.folder.path().join(folder)).expect("a folder can be made");
        for entry in fs::read_dir(super::top().join(folder)).expect("a folder can be listed") {
            let name = folder.join(entry.expect("an entry can be read").file_name());
            if super::top().join(&name).is_dir() {
                // Data that somebody's nodes left there is not part of the example.
                if !name.ends_with("data") {
                    self.copy(&name);
                }
            } else {
                let text = fs::read_to_string(super::top().join(&name)).expect("an example can be read");
                fs::write(self.folder.path().join(&name), self.moved(&text)).expect("a file can be written");
            }
        }
    }

    /// `text` with the ports of this sandbox in place of those that pages name.
    fn moved(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (shown, first) in ports::DEV_DISTANCES.map(|distance| (PORTS_SHOWN + distance, self.first_port + distance))
        {
            for distance in 0..PORTS {
                text = text.replace(&(shown + distance).to_string(), &(first + distance).to_string());
            }
        }
        text
    }

    /// `text` with the ports that pages name in place of those of this sandbox.
    fn shown(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (shown, first) in ports::DEV_DISTANCES.map(|distance| (PORTS_SHOWN + distance, self.first_port + distance))
        {
            for distance in 0..PORTS {
                text = text.replace(&(first + distance).to_string(), &(shown + distance).to_string());
            }
        }
        text
    }

    /// The port that stands for 8001.
    pub fn first_port(&self) -> u16 {
        self.first_port
    }

    /// Bash in this folder, which finds the program under test and none of this process's configuration.
    pub fn bash(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command
            .args(["-c", script])
            .current_dir(self.folder.path())
            .env("PATH", self.search_path())
            .env("HOME", self.folder.path())
            .env("QUORATE_ADDRESS", format!("127.0.0.1:{}", self.first_port))
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    fn search_path(&self) -> String {
        let mut path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        if let Some(home) = std::env::home_dir() {
            let _ = write!(path, ":{}", home.join(".cache/quorate/bin").display());
        }
        path
    }

    /// What is wrong with a node.yml or cluster.yml.
    pub fn check_configuration(&self, text: &str) -> Result<(), String> {
        fs::write(self.path("shown.yml"), text).expect("a file can be written");
        let output = self.bash("quorate config check shown.yml").output().expect("bash can be run");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Runs the page's commands; how many there were.
    pub fn run(&self, page: &Page) -> Result<usize, String> {
        if !super::has_commands(page) {
            return Ok(0);
        }
        let (script, expected) = self.script(page)?;
        let log = self.path("output");
        let output = File::create(&log).expect("a file can be made");
        let second = output.try_clone().expect("a file can be cloned");
        let child = self.bash(&script).stdout(output).stderr(second).spawn().expect("bash can be run");
        let finished = wait(Group(child));
        let output = self.shown(&String::from_utf8_lossy(&fs::read(&log).expect("a file can be read")));
        judge(&expected, &output)?;
        finished.map(|()| expected.len())
    }

    /// The script that runs the page's commands, and what they should do.
    fn script(&self, page: &Page) -> Result<(String, Vec<Expected>), String> {
        let mut script = String::new();
        let mut expected = Vec::new();
        let marked = || page.blocks.iter().filter_map(|block| Some((block, block.mark.as_ref()?.as_ref().ok()?)));
        if marked().any(|(_, mark)| mark.mode == Mode::Cluster) {
            script.push_str(CLUSTER);
        }
        let mut logs = 0;
        for (block, mark) in marked().filter(|(_, mark)| mark.mode != Mode::Skip) {
            if mark.is_output() {
                let printed = expected.iter_mut().rev().find(|expected: &&mut Expected| expected.command == mark.of);
                let problem = || format!("line {}: no command before it is {:?}", block.line, mark.of);
                printed.ok_or_else(problem)?.output = Some(block.lines.clone());
                continue;
            }
            let text = block.text();
            let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
            let missing = TOOLS.iter().find(|(tool, check)| words.contains(tool) && !self.has(check));
            if let Some((tool, _)) = missing {
                if std::env::var("QUORATE_REQUIRE_CLIENTS").is_ok_and(|value| value == "1") {
                    return Err(format!(
                        "line {}: {tool} is missing, and QUORATE_REQUIRE_CLIENTS=1 wants it",
                        block.line
                    ));
                }
                println!("SKIPPED: {}:{}: {tool} is missing", page.name, block.line);
                continue;
            }
            let mut commands = block.commands();
            commands.retain(|(command, _)| !mark.but_not.contains(command));
            let starts_nodes = commands.iter().any(|(command, _)| command.starts_with("quorate serve"));
            let last = commands.len().saturating_sub(1);
            for (index, (command, output)) in commands.into_iter().enumerate() {
                let typed = self.moved(&command);
                let number = expected.len();
                let in_background = mark.mode == Mode::Background || typed.ends_with(" &");
                if in_background {
                    logs += 1;
                    let _ = writeln!(script, "{} >background-{logs}.log 2>&1 &", typed.trim_end_matches(" &"));
                } else {
                    let _ = writeln!(script, "{typed}");
                }
                let _ = writeln!(script, "code=$?; printf '\\n{MARK}%s %s\\n' {number} $code; (exit $code)");
                // Until it has ended, its ports are taken.
                if let Some(job) = typed.strip_prefix("kill ").and_then(|rest| rest.split_whitespace().last()) {
                    let _ = writeln!(script, "wait {job} 2>/dev/null; jobs >/dev/null 2>&1");
                }
                expected.push(Expected {
                    line: block.line,
                    command,
                    output: (block.language == "console" && !in_background).then_some(output),
                    exit: if index == last { mark.exit } else { 0 },
                    exact: mark.exact,
                });
            }
            if mark.mode == Mode::Background && starts_nodes {
                script.push_str(BOOTSTRAPPED);
            }
        }
        script.push_str("exit 0\n");
        Ok((script, expected))
    }

    fn has(&self, check: &str) -> bool {
        let status = self.bash(check).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.expect("bash can be run").success()
    }
}

/// Bash and all that it started; none of it outlives this.
pub struct Group(pub Child);

impl Drop for Group {
    fn drop(&mut self) {
        let id = i32::try_from(self.0.id()).expect("a process id is an i32");
        // An error is a group that has ended.
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn wait(mut group: Group) -> Result<(), String> {
    let began = Instant::now();
    while group.0.try_wait().expect("a child can be waited for").is_none() {
        if began.elapsed() > PAGE_TIME_MAX {
            return Err(format!("its commands took longer than {PAGE_TIME_MAX:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Compares what commands printed and how they ended with what the page says.
fn judge(expected: &[Expected], output: &str) -> Result<(), String> {
    let mut rest = output;
    for (number, expected) in expected.iter().enumerate() {
        let at = format!("line {}: `{}`", expected.line, expected.command);
        let Some((printed, code, after)) = next(rest, number) else {
            return Err(format!("{at} did not end; the last output:\n{rest}"));
        };
        rest = after;
        if code != expected.exit {
            return Err(format!("{at} ended with {code} and not {}:\n{printed}", expected.exit));
        }
        let Some(wanted) = &expected.output else { continue };
        let wanted: Vec<String> = lines(wanted.iter().map(String::as_str), expected.exact);
        let printed_here = printed.lines().filter(|line| !is_of_bash(line) && !is_of_machine(line));
        let found: Vec<String> = lines(printed_here, expected.exact);
        if !lines_match(&wanted, &found) {
            return Err(format!("{at} printed\n{printed}\nand not, as the page says,\n{}", wanted.join("\n")));
        }
    }
    Ok(())
}

/// Whether bash says by the line, at a time of its own, that a job was killed.
fn is_of_bash(line: &str) -> bool {
    line.starts_with("bash: line ") && line.contains(" Killed ")
}

/// Whether a line says that the disk of this machine is rather full, which no page tells of.
fn is_of_machine(line: &str) -> bool {
    line.starts_with("warning: less than ") && line.contains(" % of the disk is free at ")
}

/// What the next command printed, its code, and the output after it.
fn next(output: &str, number: usize) -> Option<(&str, i32, &str)> {
    let (printed, rest) = output.split_once(&format!("\n{MARK}{number} "))?;
    let (code, after) = rest.split_once('\n')?;
    Some((printed, code.parse().ok()?, after))
}

/// Lines as they are compared: without empty ones, with one space for many, and, unless `exact`, with one digit for any
/// number and one unit for any size.
fn lines<'a>(lines: impl Iterator<Item = &'a str>, exact: bool) -> Vec<String> {
    let plain = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|line| !line.is_empty());
    plain.map(|line| if exact { line } else { masked(&line) }).collect()
}

fn masked(line: &str) -> String {
    let mut masked = String::new();
    for c in line.chars() {
        let c = if c.is_ascii_digit() { '0' } else { c };
        if !(c == '0' && masked.ends_with('0')) {
            masked.push(c);
        }
    }
    // Disks differ in size.
    for unit in ["KiB", "MiB", "GiB", "TiB"] {
        masked = masked.replace(&format!("0 {unit}"), "0 B");
    }
    masked
}

/// Whether the lines found are those wanted, of which one that is `...` stands for any number.
fn lines_match(wanted: &[String], found: &[String]) -> bool {
    match wanted {
        [] => found.is_empty(),
        [any, rest @ ..] if any == "..." => (0..=found.len()).any(|skipped| lines_match(rest, &found[skipped..])),
        [line, rest @ ..] => {
            found.first().is_some_and(|first| line_matches(line, first)) && lines_match(rest, &found[1..])
        }
    }
}

/// Whether a line is the one wanted, in which `...` stands for anything.
fn line_matches(wanted: &str, found: &str) -> bool {
    let Some((before, after)) = wanted.split_once("...") else { return wanted == found };
    let Some(rest) = found.strip_prefix(before) else { return false };
    if after.is_empty() {
        return true;
    }
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.into_iter().any(|at| line_matches(after, &rest[at..]))
}

#[test]
fn output_is_compared_by_pattern() {
    let matches = |wanted: &str, found: &str| lines_match(&lines(wanted.lines(), false), &lines(found.lines(), false));
    assert!(matches("a 12 b", "a   7 b\n"));
    assert!(matches("1.2 GiB (9 %)", "3.4 TiB (56 %)") && !matches("1.2 GiB", "3.4 keys"));
    assert!(matches("up ...\n...\nend", "up 3s\nx\ny\nend"));
    assert!(matches("{ ... }", "{ \"a\": 1 }"));
    assert!(!matches("a", "b") && !matches("a", "a\nb") && !matches("a\nb", "a"));
    assert!(!lines_match(&lines("1".lines(), true), &lines("2".lines(), true)));
}
