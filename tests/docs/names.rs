//! What the program has: flags, metrics, keys, reasons, methods, targets of make, files. A page may name nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate::api;
use quorate::wire::failure::FailureReason;

use super::page::Page;
use super::shell::{Group, Sandbox};

/// How long a node may take to serve its metrics.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// Where the words are that the code uses.
const SOURCES: [&str; 13] = [
    "src",
    "api",
    "tests",
    "benches",
    "examples",
    "tools",
    ".ci",
    "Cargo.toml",
    "Makefile",
    "build.rs",
    "clients/python/src",
    "clients/go",
    "clients/node/src",
];
/// gRPC's codes.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// Words in capitals that are other programs': signals, commands, variables.
const CAPITALS: [&str; 13] = [
    "SIGTERM",
    "SIGKILL",
    "SIGHUP",
    "SIGINT",
    "SERVING",
    "NOT_SERVING",
    "PATH",
    "HOME",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "PREFIX",
    "LIBCLANG_PATH",
    "CXX",
    "TTL",
];
/// Names of other systems, which the pages compare with.
const OF_OTHERS: [&str; 6] =
    ["LimitNOFILE", "StateDirectory", "grpc_status", "metadata_fsync", "data_fsync", "commit_unknown_result"];
/// Files that the program or a user makes, and that are not in the repository.
const MADE: [&str; 2] = ["target/", "data/"];

/// What the program and its repository have.
pub struct Program {
    commands: BTreeSet<String>,
    flags: BTreeSet<String>,
    metrics: BTreeSet<String>,
    targets: BTreeSet<String>,
    words: BTreeSet<String>,
    methods: BTreeSet<String>,
}

impl Program {
    /// Asks the program for its help and a running node for its metrics, and reads the repository.
    pub fn ask() -> Self {
        let sandbox = Sandbox::new();
        let help = |command: &str| {
            let output = sandbox.bash(&format!("quorate {command} --help")).output().expect("bash can be run");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let commands: BTreeSet<String> = commands_of(&help("")).into_iter().collect();
        let mut flags = flags_of(&help(""));
        for command in &commands {
            let text = help(command);
            flags.extend(flags_of(&text));
            for below in commands_of(&text) {
                flags.extend(flags_of(&help(&format!("{command} {below}"))));
            }
        }
        flags.remove("--");
        let mut words = BTreeSet::new();
        for source in SOURCES {
            read_words(&super::top().join(source), &mut words);
        }
        let makefile = fs::read_to_string(super::top().join("Makefile")).expect("the Makefile can be read");
        let targets =
            makefile.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect();
        Self { commands, flags, metrics: metrics(&sandbox), targets, words, methods: methods() }
    }

    /// The names in `page` that the program does not have.
    pub fn problems(&self, page: &Page) -> Vec<String> {
        let mut problems = Vec::new();
        for (line, code) in page.code() {
            problems.extend(self.problem_of_span(&code).map(|problem| (line, problem)));
            problems.extend(self.problem_of_command(&code).map(|problem| (line, problem)));
        }
        for block in &page.blocks {
            for (distance, text) in block.lines.iter().enumerate() {
                let line = block.line + 1 + distance;
                let typed = text.trim_start().trim_start_matches("$ ");
                problems.extend(self.problem_of_command(typed).map(|problem| (line, problem)));
                let metrics = words(text).filter(|word| word.starts_with("quorate_") && !word.ends_with('_'));
                problems.extend(metrics.filter_map(|word| self.problem_of_metric(word)).map(|problem| (line, problem)));
            }
        }
        problems.into_iter().map(|(line, problem)| format!("{}:{line}: {problem}", page.name)).collect()
    }

    /// A command of ours: its name, its flags, or make's target.
    fn problem_of_command(&self, code: &str) -> Option<String> {
        let code = code.split("  # ").next().unwrap_or("");
        let mut parts = code.split_whitespace();
        match parts.next()? {
            "make" => {
                let target = parts.find(|part| !part.contains('='))?;
                (!self.targets.contains(target)).then(|| format!("make has no target {target}"))
            }
            "quorate" => {
                let given: Vec<&str> = parts.take_while(|part| !matches!(*part, "|" | "&&" | "||" | ";")).collect();
                let unknown = given.iter().map(|part| part.split('=').next().unwrap_or(part));
                let unknown = unknown
                    .filter(|part| part.starts_with("--") && *part != "--")
                    .find(|part| !self.flags.contains(*part));
                if let Some(flag) = unknown {
                    return Some(format!("quorate has no flag {flag}"));
                }
                let command = given.first().filter(|part| part.chars().all(|c| c.is_ascii_lowercase()))?;
                (!self.commands.contains(*command)).then(|| format!("quorate has no command {command}"))
            }
            flag if flag.starts_with("--") && flag.len() > 2 => {
                let flag = flag.split('=').next().unwrap_or(flag).trim_end_matches(',');
                (!self.flags.contains(flag)).then(|| format!("quorate has no flag {flag}"))
            }
            _ => None,
        }
    }

    /// A name alone: a metric, a reason or code, a key, a method, a file.
    fn problem_of_span(&self, code: &str) -> Option<String> {
        let is = |allowed: fn(char) -> bool| !code.is_empty() && code.chars().all(allowed);
        if code.starts_with("quorate_") && is(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            return self.problem_of_metric(code);
        }
        if is(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') && code.len() > 1 {
            let known = FailureReason::parse(code).is_some()
                || CODES.contains(&code)
                || CAPITALS.contains(&code)
                || api::Health::from_str_name(code).is_some()
                || api::PeerState::from_str_name(code).is_some()
                || self.is_word(code);
            return (!known).then(|| format!("the program knows no {code}"));
        }
        if is(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') && code.contains('_') {
            let known = OF_OTHERS.contains(&code) || self.is_word(code);
            return (!known).then(|| format!("nothing is called {code}"));
        }
        let is_camel =
            code.chars().skip(1).any(|c| c.is_ascii_uppercase()) && code.starts_with(|c: char| c.is_ascii_uppercase());
        if is_camel && is(|c| c.is_ascii_alphanumeric()) {
            let known = OF_OTHERS.contains(&code) || self.is_word(code);
            return (!known).then(|| format!("nothing is called {code}"));
        }
        if let Some((service, method)) = code.split_once('/')
            && ["Cluster", "Node", "Clock", "Peer"].contains(&service)
        {
            return (!self.methods.contains(method)).then(|| format!("there is no method {code}"));
        }
        let is_path = ["src/", "tests/", "benches/", "docs/", "examples/", "api/", "tools/", ".ci/", ".github/"];
        if is_path.iter().any(|start| code.starts_with(start)) && !code.contains(['*', ' ', '{', '<']) {
            let made = MADE.iter().any(|part| code.contains(part));
            let file = code.split(':').next().unwrap_or(code);
            return (!made && !super::top().join(file).exists()).then(|| format!("there is no file {code}"));
        }
        None
    }

    fn problem_of_metric(&self, name: &str) -> Option<String> {
        let plain = ["_bucket", "_sum", "_count", "_total", "_info"].iter().find_map(|end| name.strip_suffix(end));
        let known = self.metrics.contains(name) || plain.is_some_and(|plain| self.metrics.contains(plain));
        (!known).then(|| format!("a node has no metric {name}"))
    }

    /// Whether the code uses `name`; a key's variable is made from the key.
    fn is_word(&self, name: &str) -> bool {
        let key = name.strip_prefix("QUORATE_NODE_").map(str::to_ascii_lowercase);
        self.words.contains(name) || key.is_some_and(|key| self.words.contains(&key))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn flags_of(help: &str) -> BTreeSet<String> {
    let is_in_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = help.split(|c: char| !is_in_flag(c)).filter(|word| word.starts_with("--") && word.len() > 2);
    words.map(str::to_owned).collect()
}

/// The names in the list of commands of a help text.
fn commands_of(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    list.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The modules below the crate's root, as files are named: `client` for a folder, `limits.rs` for a file.
pub fn modules() -> Vec<String> {
    let entries = fs::read_dir(super::top().join("src")).expect("the sources can be listed");
    let names = entries.map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "lib.rs").collect()
}

/// The crates that Cargo.toml names.
pub fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(super::top().join("Cargo.toml")).expect("the manifest can be read");
    let mut names = Vec::new();
    let mut is_list = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_list = line.ends_with("dependencies]");
        } else if is_list && let Some((name, _)) = line.split_once(" = ") {
            names.push(name.to_owned());
        }
    }
    names
}

fn methods() -> BTreeSet<String> {
    let api = fs::read_to_string(super::top().join("api/api.proto")).expect("the API can be read");
    let methods = api.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    methods.map(str::to_owned).collect()
}

fn read_words(path: &Path, into: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder can be listed") {
            read_words(&entry.expect("an entry can be read").path(), into);
        }
    } else if let Ok(text) = fs::read_to_string(path) {
        into.extend(words(&text).map(str::to_owned));
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        into.extend(stem.map(str::to_owned));
    }
}

/// The names of all metrics that a node has.
fn metrics(sandbox: &Sandbox) -> BTreeSet<String> {
    let node = sandbox.bash("exec quorate dev --nodes 2 >/dev/null 2>&1").spawn().expect("bash can be run");
    let _node = Group(node);
    let began = Instant::now();
    loop {
        // Some metrics have no sample before the first request.
        let _ = sandbox.bash("quorate status").output().expect("bash can be run");
        if let Some(page) = get(sandbox.first_port() + 1_000, "/metrics").filter(|page| page.contains("quorate_peer")) {
            let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
            let mut names: BTreeSet<String> = types.map(str::to_owned).collect();
            names.extend(registered());
            return names;
        }
        assert!(began.elapsed() < START_TIME_MAX, "a node serves no metrics");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Metrics that have a sample only once something happened, or where a node has certificates.
fn registered() -> Vec<String> {
    [
        "quorate_link_messages_dropped",
        "quorate_comparisons",
        "quorate_repair_equal_age_seconds",
        "quorate_tls_certificate_end_time_seconds",
        "quorate_tls_ca_end_time_seconds",
        "quorate_tls_files_refused",
        "quorate_tls_reloads",
        "quorate_tls_handshakes_failed",
    ]
    .map(str::to_owned)
    .into()
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
