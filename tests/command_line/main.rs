//! The program as shells, scripts and terminals meet it: exit codes, output that nobody can read, terminals, signals and
//! name servers, with real nodes.
//!
//! Some tests need a program of the system, such as script(1) or unshare(1). Where it is missing they say so and pass.

#![cfg(all(feature = "server", unix))]

mod chaos;
mod conditions;
mod judged;
mod lists;
mod shell;
mod status;
mod tables;
#[path = "../testkit/mod.rs"]
mod testkit;
mod watches;

use std::fs::{self, File};
use std::io::{PipeReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use testkit::cluster::{Cluster, END_TIME_MAX, Plan, START_TIME_MAX, cluster_yml, poll, write};
use testkit::names::{SILENT, name_server};
use testkit::{ports, process};
use tokio::signal::unix::{SignalKind, signal};

/// The codes that the help documents.
const EXIT_CODES: std::ops::RangeInclusive<i32> = 0..=6;

/// A cluster whose nodes keep records in memory: none of these tests is about the disk.
fn plan(ids: &[&'static str]) -> Plan {
    Plan { ids: ids.to_vec(), replica_count: ids.len(), memory: true, ..Plan::default() }
}

/// The program as a user of `cluster` calls it. Its input is empty.
fn quorate(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = process::command();
    command.env("QUORATE_ADDRESS", cluster.addresses().join(",")).args(arguments).stdin(Stdio::null());
    command
}

/// The output of the program, with `input` on stdin.
fn with_input(mut command: Command, input: impl AsRef<[u8]>) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_ref()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A value as another client reads it.
async fn value(cluster: &Cluster, key: &str) -> Option<String> {
    let found = cluster.client().get(key).await.expect("the cluster serves");
    found.map(|found| text(found.value.bytes()))
}

/// A file that takes no byte, as on a full disk.
fn full() -> File {
    File::options().write(true).open("/dev/full").expect("Linux has /dev/full")
}

fn has_full_device() -> bool {
    let there = Path::new("/dev/full").exists();
    if !there {
        println!("SKIPPED: this system has no /dev/full");
    }
    there
}

/// The writing end of a pipe whose reader has gone.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("the system makes pipes");
    drop(reader);
    writer.into()
}

/// Makes an output of a process.
type MakeOutput = fn() -> Stdio;

/// The outputs that nobody can read.
const UNREADABLE: [(&str, MakeOutput); 2] = [("full", || full().into()), ("closed", closed_pipe)];

/// Whether a program of the system is there and works as `probe` calls it.
fn has(program: &str, probe: &[&str]) -> bool {
    let works = Command::new(program).args(probe).output().is_ok_and(|output| output.status.success());
    if !works {
        println!("SKIPPED: `{program} {}` does not work here", probe.join(" "));
    }
    works
}

/// A child process. It is killed, by its id, and reaped with the test.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).expect("it has not been reaped");
    }

    async fn end_within(&mut self, limit: Duration) -> ExitStatus {
        poll("the process to end", limit, async || {
            let ended = self.0.try_wait().expect("a child can be waited for");
            ended.ok_or_else(|| "it runs".to_owned())
        })
        .await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// ------------------------------------------------------------------------------------- output that nobody can read

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_report_of_a_write_leaves_it_done() {
    if !has_full_device() {
        return;
    }
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    for (arguments, after) in [
        (&["set", "k", "v1"][..], Some("v1")),
        (&["set", "k", "v2", "--json"], Some("v2")),
        (&["delete", "k"], None),
        (&["set", "k", "v3"], Some("v3")),
        (&["delete", "k", "--json"], None),
    ] {
        let output = quorate(&cluster, arguments).stdout(full()).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: the write is done: {said}");
        assert!(said.contains("done, with stamp") && said.contains("No space left"), "{arguments:?}: {said}");
        assert_eq!(value(&cluster, "k").await.as_deref(), after, "{arguments:?}");
        let output = quorate(&cluster, arguments).stdout(closed_pipe()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    }
    let bench = ["bench", "--mix", "set=1", "--keys", "1", "--duration", "100ms", "--warm-up", "1ms"];
    let output = quorate(&cluster, &bench).stdout(full()).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("operations; only the report of it is lost"), "{said}");
    // A value that is in its file was read, although the report is lost. A value that could not be printed was not.
    cluster.client().set("k", "v").await.unwrap();
    let file = cluster.dir().join("value");
    let file_text = file.display().to_string();
    let output = quorate(&cluster, &["get", "k", "--json", "--output", &file_text]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(&file).unwrap(), "v");
    assert!(text(&output.stderr).contains(&file_text), "{}", text(&output.stderr));
    let output = quorate(&cluster, &["get", "k"]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let output = quorate(&cluster, &["get", "k", "--output", "/dev/full"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_command_ends_with_a_documented_code_whatever_its_output_is() {
    if !has_full_device() {
        return;
    }
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    let (node_file, cluster_file) = (&cluster.nodes[0].files.node_file, &cluster.nodes[0].files.cluster_file);
    let (node_file, cluster_file) = (node_file.to_str().unwrap(), cluster_file.to_str().unwrap());
    let commands: &[(&[&str], i32)] = &[
        (&["get", "nokey"], 1),
        (&["get"], 2),
        (&["set", "k", "v"], 0),
        (&["set", "k"], 2),
        (&["--timeout", "200ms", "--address", "127.0.0.1:1", "get", "k"], 3),
        (&["frobnicate"], 2),
        (&["--help"], 0),
        (&["config", "check", "nowhere.yml"], 2),
        (&["serve", "nowhere.yml", cluster_file], 2),
    ];
    // The exit code of these commands depends on whether they could print.
    let printing: &[&[&str]] = &[
        &["status"],
        &["status", "--json"],
        &["repair"],
        &["locate", "a", "b"],
        &["completions", "bash"],
        &["config", "check", node_file, cluster_file],
        &["bench", "--duration", "200ms", "--in-flight", "1"],
        &["help", "set"],
    ];
    for (what, output) in UNREADABLE {
        for (arguments, code) in commands {
            let status = quorate(&cluster, arguments).stdout(output()).stderr(output()).status().unwrap();
            assert_eq!(status.code(), Some(*code), "{arguments:?} with {what} output");
        }
        for arguments in printing {
            let status = quorate(&cluster, arguments).stdout(output()).stderr(output()).status().unwrap();
            let code = status.code().unwrap_or_else(|| panic!("{arguments:?} with {what} output: {status}"));
            assert!(EXIT_CODES.contains(&code), "{arguments:?} with {what} output: {code}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_serves_although_nobody_can_read_its_log() {
    if !has_full_device() {
        return;
    }
    for (what, output) in UNREADABLE {
        let cluster = Cluster::prepare(&plan(&["1"]));
        let files = &cluster.nodes[0].files;
        let mut command = process::command();
        command.arg("serve").args([&files.node_file, &files.cluster_file]).args(["--storage", "memory"]);
        command.stdin(Stdio::null()).stdout(output()).stderr(output());
        let mut node = Running(command.spawn().unwrap());
        poll("the node to serve", START_TIME_MAX, async || {
            cluster.client().set("k", "v").await.map_err(|error| format!("{what}: {error}"))
        })
        .await;
        node.signal(Signal::SIGTERM);
        let status = node.end_within(END_TIME_MAX).await;
        assert_eq!(status.code(), Some(0), "{what}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_when_the_node_listens_and_when_it_ends() {
    let cluster = Cluster::prepare(&plan(&["1"]));
    let files = &cluster.nodes[0].files;
    let path = cluster.dir().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let told = async || {
        let mut bytes = [0; 64];
        let count = tokio::time::timeout(START_TIME_MAX, socket.recv(&mut bytes)).await.expect("it is told").unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    let mut command = process::command();
    command.arg("serve").args([&files.node_file, &files.cluster_file]).args(["--storage", "memory"]);
    let mut node = Running(command.env("NOTIFY_SOCKET", &path).stdin(Stdio::null()).spawn().unwrap());
    assert_eq!(told().await, "READY=1\n");
    assert!(std::net::TcpStream::connect(cluster.nodes[0].address()).is_ok(), "it listens");
    node.signal(Signal::SIGTERM);
    assert_eq!(told().await, "STOPPING=1\n");
    let status = node.end_within(END_TIME_MAX).await;
    assert_eq!(status.code(), Some(0), "{status}");
}

// ------------------------------------------------------------------------------------------------------- quorate dev

/// `quorate dev` with its folder in `folders`, on free ports.
fn dev(folders: &Path, shell: &str, options: &str) -> Command {
    dev_at(ports::free_dev_ports(10), folders, shell, options)
}

/// The same, on the ports from this one on.
fn dev_at(port: u16, folders: &Path, shell: &str, options: &str) -> Command {
    let inner = process::command();
    let mut command = Command::new("sh");
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let line = format!("{shell} exec \"$PROGRAM\" dev --port {port} {options}");
    command.args(["-c", &line]).env("PROGRAM", inner.get_program()).env("TMPDIR", folders).stdin(Stdio::null());
    command
}

/// Starts a cluster and waits until it has said that it serves.
fn start_dev(mut command: Command) -> (Running, PipeReader) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let child = Running(command.stdout(writer).spawn().unwrap());
    // This end of the pipe is the command's. It must not outlive the child.
    drop(command);
    let mut first = [0];
    assert_eq!(reader.read(&mut first).unwrap(), 1, "it ended before it said anything");
    (child, reader)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_makes_a_private_folder_and_removes_it_at_each_end() {
    // Where nohup has started the tests, SIGHUP is ignored by them and by all that they start. A signal that is caught is not.
    let _caught = signal(SignalKind::hangup()).unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let dir = TempDir::with_prefix("quorate-test-").unwrap();
        let (mut running, _stdout) = start_dev(dev(dir.path(), "", "--nodes 1"));
        let made = entries(dir.path());
        assert_eq!(made.len(), 1, "{made:?}");
        assert_eq!(fs::metadata(&made[0]).unwrap().mode() & 0o777, 0o700, "others may not look into it");
        running.signal(signal);
        if signal == Signal::SIGHUP {
            // A terminal that closes sends it to the shell and to its jobs, so that it may come twice.
            running.signal(signal);
        }
        let status = running.end_within(END_TIME_MAX).await;
        assert_eq!(status.code(), Some(0), "{signal}: {status}");
        assert!(entries(dir.path()).is_empty(), "{signal}: {:?}", entries(dir.path()));
    }
}

/// A node that has finished its requests may be needed for those of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_under_load_finishes_what_is_in_flight_at_each_node() {
    let dir = TempDir::with_prefix("quorate-test-").unwrap();
    let (port, log) = (ports::free_dev_ports(10), dir.path().join("log"));
    let mut command = dev_at(port, dir.path(), "", "--nodes 3");
    command.stderr(File::create(&log).unwrap());
    let (mut running, _stdout) = start_dev(command);
    let addresses = [port, port + 1, port + 2].map(|port| format!("127.0.0.1:{port}")).join(",");
    let mut bench = process::command();
    bench.args(["bench", "--address", &addresses, "--mix", "set=1", "--in-flight", "512", "--duration", "30s"]);
    let mut load = Running(bench.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(load.0.try_wait().unwrap().is_none(), "there is no load");
    running.signal(Signal::SIGINT);
    let status = running.end_within(END_TIME_MAX).await;
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("still in flight"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_whose_output_nobody_reads_ends_in_order() {
    let dir = TempDir::with_prefix("quorate-test-").unwrap();
    let mut closed = dev(dir.path(), "", "--nodes 1");
    closed.stdout(closed_pipe());
    let mut rows = vec![("closed", closed, 0)];
    if has_full_device() {
        let mut command = dev(dir.path(), "", "--nodes 1");
        command.stdout(full()).stderr(full());
        rows.push(("full", command, 3));
    }
    for (what, mut command, code) in rows {
        let mut running = Running(command.spawn().unwrap());
        let status = running.end_within(START_TIME_MAX).await;
        assert_eq!(status.code(), Some(code), "{what}: {status}");
        assert!(entries(dir.path()).is_empty(), "{what}: {:?}", entries(dir.path()));
    }
}

/// A process id can be guessed, and is always the same in a container.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_takes_no_name_on_trust() {
    let dir = TempDir::with_prefix("quorate-test-").unwrap();
    let foreign = TempDir::with_prefix("quorate-test-").unwrap();
    let precious = foreign.path().join("precious");
    write(&precious, "keep me");
    for (what, shell) in [
        ("link", format!("ln -s {} \"$TMPDIR/quorate-dev-$$\";", foreign.path().display())),
        ("folder", "mkdir \"$TMPDIR/quorate-dev-$$\"; touch \"$TMPDIR/quorate-dev-$$/file\";".to_owned()),
    ] {
        let before = entries(dir.path()).len();
        let (mut running, _stdout) = start_dev(dev(dir.path(), &shell, "--nodes 1"));
        running.signal(Signal::SIGINT);
        assert_eq!(running.end_within(END_TIME_MAX).await.code(), Some(0), "{what}");
        assert_eq!(entries(dir.path()).len(), before + 1, "{what}: what was there is there");
        assert_eq!(entries(foreign.path()), std::slice::from_ref(&precious), "{what}: the link was not followed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_under_nohup_outlives_its_terminal() {
    let dir = TempDir::with_prefix("quorate-test-").unwrap();
    let (mut running, _stdout) = start_dev(dev(dir.path(), "trap '' HUP;", "--nodes 1"));
    running.signal(Signal::SIGHUP);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(running.0.try_wait().unwrap().is_none(), "it was told to ignore SIGHUP");
    running.signal(Signal::SIGINT);
    assert_eq!(running.end_within(END_TIME_MAX).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_of_ten_nodes_starts_without_a_warning() {
    let dir = TempDir::with_prefix("quorate-test-").unwrap();
    let mut command = dev(dir.path(), "", "--nodes 10");
    let log = dir.path().join("log");
    command.stderr(File::create(&log).unwrap());
    let (mut running, _stdout) = start_dev(command);
    running.signal(Signal::SIGINT);
    assert_eq!(running.end_within(2 * END_TIME_MAX).await.code(), Some(0));
    assert_eq!(process::read(&log), "", "nothing was wrong");
}

// ----------------------------------------------------------------------------------------------- values and terminals

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_stdin_replaces_no_value_unless_it_is_asked_for() {
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    cluster.client().set("keep", "precious").await.unwrap();
    let output = quorate(&cluster, &["set", "keep"]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in ["keep", "stdin is empty", "nothing was written", "--file -"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert_eq!(value(&cluster, "keep").await.as_deref(), Some("precious"));
    for (arguments, input, after) in [
        (&["set", "keep", "--file", "-"][..], "", ""),
        (&["set", "keep"], "piped\n", "piped\n"),
        (&["set", "keep", ""], "", ""),
        (&["set", "keep", "--file", "-"], "piped", "piped"),
    ] {
        let output = with_input(quorate(&cluster, arguments), input);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(value(&cluster, "keep").await.as_deref(), Some(after), "{arguments:?}");
    }
}

/// The output of a shell's `line` on a terminal. In the line, the program is "$PROGRAM".
fn on_terminal(cluster: &Cluster, line: &str) -> String {
    on_terminal_with(cluster, line, &[])
}

/// The same, where each text is typed after a pause.
fn on_terminal_with(cluster: &Cluster, line: &str, typed: &[(&str, Duration)]) -> String {
    let command = quorate(cluster, &[]);
    let mut outer = Command::new("script");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.env("PROGRAM", command.get_program()).env("TERM", "xterm").env_remove("NO_COLOR");
    let stdin = if typed.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = outer.args(["-qec", line, "/dev/null"]).stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        for (text, pause) in typed {
            std::thread::sleep(*pause);
            stdin.write_all(text.as_bytes()).unwrap();
            stdin.flush().unwrap();
        }
    }
    text(&child.wait_with_output().unwrap().stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn value_ends_with_a_line_end_on_a_terminal_and_is_bytes_alone_elsewhere() {
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    cluster.client().set("k", "value").await.unwrap();
    let dir = TempDir::with_prefix("quorate-test-").unwrap();
    for arguments in [&["get", "k"][..], &["get", "k", "--output", "-"]] {
        let output = quorate(&cluster, arguments).current_dir(dir.path()).output().unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"value"[..]), "{arguments:?}");
    }
    assert!(entries(dir.path()).is_empty(), "- is no file");
    let output = quorate(&cluster, &["get", "k", "--output", "-", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "two things on one stdout");
    if !has("script", &["--version"]) {
        return;
    }
    assert_eq!(on_terminal(&cluster, "\"$PROGRAM\" get k; printf '$ '"), "value\r\n$ ");
    assert_eq!(on_terminal(&cluster, "\"$PROGRAM\" get k --output -; printf '$ '"), "value$ ");
    assert_eq!(on_terminal(&cluster, "\"$PROGRAM\" get k | cat; printf '$ '"), "value$ ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_on_a_terminal_is_coloured_unless_the_environment_says_no() {
    if !has("script", &["--version"]) || !has("timeout", &["--version"]) {
        return;
    }
    for (variables, is_coloured) in [("", true), ("NO_COLOR=1", false), ("TERM=dumb", false), ("NO_COLOR=", true)] {
        let cluster = Cluster::prepare(&plan(&["1"]));
        let files = &cluster.nodes[0].files;
        let (node, of_cluster) = (files.node_file.display(), files.cluster_file.display());
        let line = format!(
            "env {variables} timeout --foreground -s TERM 1 \"$PROGRAM\" serve {node} {of_cluster} --storage memory"
        );
        let shown = on_terminal(&cluster, &line);
        assert!(shown.contains("listening"), "{variables}: {shown}");
        assert_eq!(shown.contains("\u{1b}["), is_coloured, "{variables}: {shown:?}");
    }
}

// ------------------------------------------------------------------------------------------------ addresses and names

#[test]
fn bad_address_in_the_environment_is_said_to_come_from_there() {
    for (given, parts) in [
        ("", &["QUORATE_ADDRESS is empty", "unset it"][..]),
        ("127.0.0.1:8001,", &["QUORATE_ADDRESS", "remove a comma"]),
        ("127.0.0.1", &["QUORATE_ADDRESS", "port is missing"]),
    ] {
        for command in [&["get", "k"][..], &["status"], &["bench", "--duration", "200ms"]] {
            let output = process::command().args(command).env("QUORATE_ADDRESS", given).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{given:?} {command:?}: {said}");
            assert!(parts.iter().all(|part| said.contains(part)), "{given:?} {command:?}: {said}");
        }
    }
    let output = process::command().args(["get", "k"]).env("QUORATE_CA", "").output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("QUORATE_CA is empty: unset it"), "{said}");
    // A command that asks no node ignores the variables.
    let arguments = ["locate", "a", "--cluster", "examples/3-local-nodes/cluster.yml"];
    let folder = TempDir::with_prefix("quorate-test-").unwrap();
    let contexts = folder.path().join("contexts.yml");
    std::fs::write(&contexts, "x: broken\n").unwrap();
    let locate = |arguments: &[&str]| {
        let mut command = process::command();
        command.args(arguments).env("QUORATE_ADDRESS", "").env("QUORATE_CONTEXTS", &contexts).output().unwrap()
    };
    let output = locate(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = process::command().args(["get", "k"]).env("QUORATE_CONTEXTS", &contexts).output().unwrap();
    assert!(text(&output.stderr).contains("contexts.yml:1: x: unknown key"), "{}", text(&output.stderr));
}

/// Runs `command` with other files in the place of some of the system's, as `mount --bind` puts them there.
fn with_files(command: &Command, files: &[(&Path, &str)]) -> Command {
    let mounts = files.iter().map(|(file, place)| format!("mount --bind {} {place} && ", file.display()));
    let script = format!("{} exec \"$@\"", mounts.collect::<String>());
    let mut outer = Command::new("unshare");
    outer.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.stdin(Stdio::null());
    outer
}

fn can_replace_files(dir: &Path) -> bool {
    let file = dir.join("probe");
    write(&file, "127.0.0.1 localhost\n");
    let works = with_files(&Command::new("true"), &[(&file, "/etc/hosts")]).output();
    let works = works.is_ok_and(|output| output.status.success());
    if !works {
        println!("SKIPPED: unshare(1) cannot put a file in the place of /etc/hosts here");
    }
    works
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_name_server_holds_nothing_up() {
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    let Some((name, value)) = name_server(cluster.dir()) else { return };
    let silent = &format!("n1{SILENT}:8001");
    let healthy = cluster.addresses().remove(0);
    let both = format!("{silent},{healthy}");
    for (addresses, arguments, code) in [
        (silent, &["--timeout", "1s", "get", "k"][..], 3),
        (silent, &["--timeout", "1s", "set", "k", "v"], 3),
        (&both, &["set", "k", "v"], 0),
        (&both, &["get", "k"], 0),
        (&both, &["status"], 0),
    ] {
        let mut command = process::command();
        command.env("QUORATE_ADDRESS", addresses).env(&name, &value).args(arguments);
        let began = Instant::now();
        let output = command.output().unwrap();
        let took = began.elapsed();
        println!("{arguments:?} at {addresses}: after {took:.2?}: {}", text(&output.stderr).trim_end());
        assert_eq!(output.status.code(), Some(code), "{arguments:?} at {addresses}: {}", text(&output.stderr));
        assert!(took < Duration::from_secs(3), "{arguments:?} at {addresses}: {took:?}");
    }
}

// --------------------------------------------------------------------------------------------------- status, signals

/// The nodes know each other by names that only they can resolve, as containers do. Their ports are open to the outside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_a_node_out_of_reach_as_the_other_nodes_see_it() {
    let mut cluster = Cluster::prepare(&Plan { node_lines: "  insecure: true\n", ..plan(&["1", "2", "3"]) });
    if !can_replace_files(cluster.dir()) {
        return;
    }
    let hosts = cluster.dir().join("hosts");
    write(&hosts, "127.0.0.1 localhost quorate-1.test quorate-2.test quorate-3.test\n");
    let ports: Vec<(&str, u16)> = std::iter::zip(["1", "2", "3"], cluster.nodes.iter().map(|node| node.port)).collect();
    let mut text_of_cluster = cluster_yml(0, 3, &ports);
    for (id, port) in &ports {
        let (loopback, name) = (format!("127.0.0.1:{port}"), format!("quorate-{id}.test:{port}"));
        text_of_cluster = text_of_cluster.replace(&loopback, &name);
    }
    write(&cluster.nodes[0].files.cluster_file, &text_of_cluster);
    for node in &mut cluster.nodes {
        let script = format!("mount --bind {} /etc/hosts; exec \"$@\"", hosts.display());
        let wrapper = ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
        node.wrapper = wrapper.map(Into::into).into();
    }
    cluster.start_all();
    cluster.wait_all_linked().await;
    let addresses = cluster.addresses();

    let status = |addresses: &str| {
        let output = process::command().args(["--address", addresses, "status"]).output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    let (code, shown) = status(&addresses[0]);
    println!("{shown}");
    assert_eq!(code, Some(0), "the cluster is well: {shown}");
    assert_eq!(shown.matches("not reachable from here").count(), 2, "{shown}");
    assert_eq!(shown.matches("node 1 is linked to it").count(), 2, "{shown}");
    assert!(shown.ends_with("tolerates 1 more failure\n"), "{shown}");
    // With all ports given, nothing is out of reach.
    let (code, shown) = status(&addresses.join(","));
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("not reachable") && shown.matches("online").count() == 3, "{shown}");

    cluster.nodes[2].kill();
    poll("node 3 to be seen as away", START_TIME_MAX, async || {
        let (code, shown) = status(&addresses[0]);
        let is_so = code == Some(0) && shown.contains("no answer") && shown.contains("bring node 3 back");
        if is_so { Ok(()) } else { Err(format!("{code:?}: {shown}")) }
    })
    .await;
    cluster.nodes[1].kill();
    poll("the majority to be seen as lost", START_TIME_MAX, async || {
        let (code, shown) = status(&addresses[0]);
        if code == Some(3) && shown.contains("lack a majority") { Ok(()) } else { Err(format!("{code:?}: {shown}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hangup_does_not_end_a_node() {
    let mut cluster = Cluster::start_as(&plan(&["1"])).await;
    for _ in 0..3 {
        cluster.nodes[0].process().signal(Signal::SIGHUP);
        cluster.client().set("k", "v").await.expect("it serves as before");
    }
    cluster.nodes[0].wait_log(&["SIGHUP: the configuration was read again", "none"]).await;
    assert_eq!(value(&cluster, "k").await.as_deref(), Some("v"));
    cluster.nodes[0].terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hangup_reloads_the_configuration() {
    let mut cluster = Cluster::start().await;
    let original = fs::read_to_string(&cluster.nodes[0].files.node_file).unwrap();
    let reload = |cluster: &mut Cluster, more: &str| {
        fs::write(&cluster.nodes[0].files.node_file, format!("{original}{more}")).unwrap();
        cluster.nodes[0].process().signal(Signal::SIGHUP);
    };

    reload(&mut cluster, "  disk_reserve_bytes: 1099511627776\n");
    cluster.nodes[0].wait_log(&["SIGHUP: the configuration was read again", "disk_reserve_bytes"]).await;
    poll("the node to find its disk too full", START_TIME_MAX, async || {
        let health = cluster.nodes[0].health().await.map_err(|status| status.to_string())?;
        let is_so = health.detail.contains("disk_reserve_bytes") && health.serves;
        if is_so { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await;
    reload(&mut cluster, "  repair_keys_per_second: 0\n  record_cache_bytes: 2097152\n");
    cluster.nodes[0].wait_log(&["these keys have changed too", "record_cache_bytes"]).await;
    let shown = quorate(&cluster, &["repair", "--now"]).output().unwrap();
    assert_eq!(shown.status.code(), Some(3), "{shown:?}");
    assert!(text(&shown.stderr).contains("repair is off there"), "{shown:?}");
    reload(&mut cluster, "  takeover_keys_per_second: 0\n");
    cluster.nodes[0].wait_log(&["the configuration is not accepted", "takeover_keys_per_second"]).await;
    reload(&mut cluster, "  repair_keys_per_second: many\n");
    cluster.nodes[0].wait_log(&["the configuration is not accepted", "repair_keys_per_second"]).await;

    reload(&mut cluster, "");
    poll("the node to be well again", START_TIME_MAX, async || {
        let health = cluster.nodes[0].health().await.map_err(|status| status.to_string())?;
        if health.detail.is_empty() && health.repair.is_some() { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await;
    let shown = quorate(&cluster, &["repair", "--now"]).output().unwrap();
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    assert!(text(&shown.stdout).ends_with("all nodes hold the same\n"), "{shown:?}");
}

/// A link that a person names is followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_keeps_the_data_in_the_folder_that_is_named() {
    let dir = TempDir::with_prefix("quorate-test-").unwrap();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    let link = dir.path().join("link");
    symlink(&real, &link).unwrap();
    let options = format!("--nodes 1 --data-dir {}", link.display());
    let (mut running, _stdout) = start_dev(dev(dir.path(), "", &options));
    running.signal(Signal::SIGINT);
    assert_eq!(running.end_within(END_TIME_MAX).await.code(), Some(0));
    assert!(!entries(&real).is_empty() && link.exists(), "the data stays");
}
