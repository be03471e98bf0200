//! Real nodes: `quorate serve` processes on loopback with files and data of their own. Tests may kill and pause them.
//!
//! Contract: no process outlives its [`Cluster`], and a test that fails prints the end of each node's log.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use quorate::Client;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::node_client::NodeClient;
use quorate::api::{Health, HealthRequest, HealthResponse, PeerHealth, PeerState};
use quorate::server::BOOTSTRAP_FILE;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::ports;
pub use super::process::poll;
use super::process::{Process, command, read, tail};
use super::tls::{Believes, connected};

/// How long nodes may take until they serve: far more than they need, for a machine that compiles meanwhile.
pub const START_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a node may take to end after SIGTERM.
pub const END_TIME_MAX: Duration = Duration::from_secs(5);
/// How long one health request may take.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(2);
/// The lines of each log that a failed test prints.
const LOG_LINES_SHOWN: usize = 40;

/// The nodes of a cluster and their settings.
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
#[derive(Clone, Debug)]
pub struct Plan {
    /// The nodes' ids.
    pub ids: Vec<&'static str>,
    /// See cluster.yml.
    pub seed: u32,
    /// See cluster.yml.
    pub replica_count: usize,
    /// See node.yml.
    pub operator_writes: bool,
    /// `--storage memory`.
    pub memory: bool,
    /// Whether [`SMALLEST_STORE`] is part of each node.yml.
    pub smallest_store: bool,
    /// Whether the nodes serve HTTP and lines too.
    pub doors: bool,
    /// Further lines of each node's file.
    pub node_lines: &'static str,
}

/// The last lines of a node.yml with the smallest buffers and caches. A short test then flushes, merges, deletes logs and reads
/// from disk as a long run does.
pub const SMALLEST_STORE: &str =
    "  write_buffer_bytes: 1048576\n  block_cache_bytes: 1048576\n  record_cache_bytes: 1048576\n";

impl Default for Plan {
    fn default() -> Self {
        Self {
            ids: vec!["1", "2", "3"],
            seed: 0,
            replica_count: 3,
            operator_writes: false,
            memory: false,
            smallest_store: false,
            doors: false,
            node_lines: "",
        }
    }
}

/// Some nodes, and the folder that holds their files.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in the order of the plan.
    pub nodes: Vec<TestNode>,
    dir: TempDir,
}

impl Cluster {
    /// A cluster of three nodes with RocksDB and fsync, all of them online.
    pub async fn start() -> Self {
        Self::start_as(&Plan::default()).await
    }

    /// A cluster as planned, all nodes online.
    pub async fn start_as(plan: &Plan) -> Self {
        let mut cluster = Self::prepare(plan);
        cluster.start_all();
        cluster.wait_all_linked().await;
        cluster
    }

    /// A cluster whose files are written and whose nodes are not started.
    pub fn prepare(plan: &Plan) -> Self {
        let dir = TempDir::with_prefix("quorate-test-").expect("a temporary folder can be made");
        let ports: Vec<(u16, u16)> = plan.ids.iter().map(|_| (ports::free_port(), ports::free_port())).collect();
        let cluster_file = dir.path().join("cluster.yml");
        let addresses: Vec<(&str, u16)> =
            std::iter::zip(&plan.ids, &ports).map(|(id, (port, _))| (*id, *port)).collect();
        write(&cluster_file, &cluster_yml(plan.seed, plan.replica_count, &addresses));
        let node = |(id, (port, metrics_port)): (&&'static str, &(u16, u16))| {
            let files = NodeFiles {
                node_file: dir.path().join(format!("node-{id}.yml")),
                cluster_file: cluster_file.clone(),
                data_dir: dir.path().join("data").join(id),
            };
            let mut text = node_yml(id, *port, *metrics_port, &files.data_dir, plan.operator_writes);
            if plan.smallest_store {
                text.push_str(SMALLEST_STORE);
            }
            text.push_str(plan.node_lines);
            let doors = if plan.doors { [(); 3].map(|()| ports::free_port()) } else { [0; 3] };
            if plan.doors {
                for (name, port) in ["http", "line", "redis"].iter().zip(doors) {
                    writeln!(text, "  local_{name}_address: 127.0.0.1:{port}").expect("a string takes text");
                }
            }
            write(&files.node_file, &text);
            let mut node = TestNode::new(id, *port, *metrics_port, files, dir.path());
            [node.http_port, node.line_port, node.redis_port] = doors;
            if plan.memory {
                node.arguments.extend(["--storage".into(), "memory".into()]);
            }
            node
        };
        let nodes = std::iter::zip(&plan.ids, &ports).map(node).collect();
        Self { nodes, dir }
    }

    /// A cluster of nodes that the test has made itself.
    pub fn of(nodes: Vec<TestNode>, dir: TempDir) -> Self {
        Self { nodes, dir }
    }

    /// The folder that holds all files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts every node that does not run.
    pub fn start_all(&mut self) {
        for node in &mut self.nodes {
            if node.process.is_none() {
                node.start();
            }
        }
    }

    /// Waits until every node is online.
    pub async fn wait_all_online(&mut self) {
        for node in &mut self.nodes {
            node.wait_online().await;
        }
    }

    /// Waits until every node is online and linked to every other one.
    pub async fn wait_all_linked(&mut self) {
        for node in &mut self.nodes {
            node.wait_linked().await;
        }
    }

    /// All nodes' addresses.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(TestNode::address).collect()
    }

    /// A client of all nodes.
    pub fn client(&self) -> Client {
        Client::new(self.addresses()).expect("the addresses are well formed")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                eprintln!("--- end of the log of node {}:\n{}", node.id, tail(&node.log, LOG_LINES_SHOWN));
            }
        }
    }
}

/// The paths that a node is started with.
#[derive(Clone, Debug)]
pub struct NodeFiles {
    /// Its node.yml.
    pub node_file: PathBuf,
    /// Its cluster.yml.
    pub cluster_file: PathBuf,
    /// Its data folder.
    pub data_dir: PathBuf,
}

/// One node, whether it runs or not.
#[derive(Debug)]
pub struct TestNode {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub port: u16,
    /// Where it serves metrics.
    pub metrics_port: u16,
    /// Where it serves HTTP, if it does.
    pub http_port: u16,
    /// Where it serves lines, if it does.
    pub line_port: u16,
    /// Where it serves the Redis protocol, if it does.
    pub redis_port: u16,
    /// Its files.
    pub files: NodeFiles,
    /// Its output is appended here.
    pub log: PathBuf,
    /// The arguments after `serve NODE_FILE CLUSTER_FILE`.
    pub arguments: Vec<OsString>,
    /// Variables for its environment.
    pub environment: Vec<(String, OsString)>,
    /// A program and its arguments that replaces itself by the node (`exec`).
    pub wrapper: Vec<OsString>,
    /// How its health is asked for, where it has TLS and authorization. It is asked by the bootstrap token of its data folder.
    pub tls: Option<Believes>,
    /// The process, from its start until it is awaited.
    pub process: Option<Process>,
}

impl TestNode {
    /// A node that is not started.
    pub fn new(id: &str, port: u16, metrics_port: u16, files: NodeFiles, log_dir: &Path) -> Self {
        Self {
            id: id.to_owned(),
            port,
            metrics_port,
            http_port: 0,
            line_port: 0,
            redis_port: 0,
            files,
            log: log_dir.join(format!("node-{id}.log")),
            arguments: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            tls: None,
            process: None,
        }
    }

    /// Where it is reached.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it is reached over HTTP.
    pub fn http_address(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    /// Where it is reached by lines.
    pub fn line_address(&self) -> String {
        format!("127.0.0.1:{}", self.line_port)
    }

    /// Where it is reached over the Redis protocol.
    pub fn redis_address(&self) -> String {
        format!("127.0.0.1:{}", self.redis_port)
    }

    /// Starts it.
    pub fn start(&mut self) {
        assert!(self.process.as_mut().is_none_or(|process| process.ended().is_some()), "node {} runs", self.id);
        let mut plain = command();
        plain.arg("serve").args([&self.files.node_file, &self.files.cluster_file]).args(&self.arguments);
        let mut started = match self.wrapper.split_first() {
            None => plain,
            Some((wrapper, arguments)) => {
                let mut outer = Command::new(wrapper);
                outer.args(arguments).arg(plain.get_program()).args(plain.get_args());
                for (name, value) in plain.get_envs() {
                    match value {
                        Some(value) => outer.env(name, value),
                        None => outer.env_remove(name),
                    };
                }
                outer
            }
        };
        // The examples' paths are relative to the folder of the package, in which Cargo starts tests.
        started.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::spawn(&mut started, &self.log));
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap_or_else(|| panic!("node {} was not started", self.id))
    }

    /// Its process's id.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().unwrap_or_else(|| panic!("node {} was not started", self.id)).id()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// SIGSTOP: it stays reachable, but does not answer.
    pub fn pause(&mut self) {
        self.process().signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.process().signal(Signal::SIGCONT);
    }

    /// Lets it run, whether it was killed or paused.
    pub fn resume_or_start(&mut self) {
        if self.process.as_mut().is_some_and(|process| process.ended().is_none()) {
            self.resume();
        } else {
            self.start();
        }
    }

    /// Sends `signal`, and waits until the process has ended. Returns its status and the time that took.
    ///
    /// # Panics
    /// When it takes longer than [`END_TIME_MAX`].
    pub async fn end_by(&mut self, signal: Signal) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.process().signal(signal);
        // The test needs time to notice.
        let limit = END_TIME_MAX + Duration::from_millis(500);
        let status = self.process().end_within(limit).await;
        let status = status.unwrap_or_else(|| panic!("node {} still runs {limit:?} after {signal}", self.id));
        self.process = None;
        (status, began.elapsed())
    }

    /// Sends SIGTERM. The node must end with success.
    pub async fn terminate(&mut self) -> Duration {
        let (status, took) = self.end_by(Signal::SIGTERM).await;
        assert!(status.success(), "node {} ended with {status}", self.id);
        took
    }

    /// Waits until it ends by itself, within [`START_TIME_MAX`], as a node that refuses to start does.
    pub async fn refusal(&mut self) -> ExitStatus {
        let status = self.process().end_within(START_TIME_MAX).await;
        let status = status.unwrap_or_else(|| panic!("node {} was to end by itself and still runs", self.id));
        self.process = None;
        status
    }

    /// A connection to it, made on first use.
    pub fn channel(&self) -> Channel {
        self.endpoint().connect_lazy()
    }

    fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address())).expect("the address is well formed");
        endpoint.connect_timeout(HEALTH_TIME_MAX)
    }

    /// Its Node service.
    pub fn node_client(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel())
    }

    /// Its Cluster service.
    pub fn cluster_client(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel())
    }

    /// A client of this node alone.
    pub fn client(&self) -> Client {
        Client::new([self.address()]).expect("the address is well formed")
    }

    /// Its health.
    pub async fn health(&self) -> Result<HealthResponse, Status> {
        let channel = connected(&self.address(), self.tls.as_ref(), HEALTH_TIME_MAX).await;
        let channel = channel.map_err(|error| Status::unavailable(format!("{error:?}")))?;
        let mut request = Request::new(HealthRequest {});
        if self.tls.is_some() {
            let bearer = format!("Bearer {}", self.bootstrap_token());
            request.metadata_mut().insert("authorization", bearer.parse().expect("a token is plain text"));
        }
        Ok(NodeClient::new(channel).health(request).await?.into_inner())
    }

    /// Its token for the first administrator, which is another one after each start. Empty where there is none.
    pub fn bootstrap_token(&self) -> String {
        read(&self.files.data_dir.join(BOOTSTRAP_FILE)).trim().to_owned()
    }

    /// The value of the metric `name`, which has no labels.
    pub async fn metric(&self, name: &str) -> Result<f64, String> {
        let [value] = self.metrics([name]).await?;
        Ok(value)
    }

    /// The values of the metrics `names` at one moment.
    pub async fn metrics<const N: usize>(&self, names: [&str; N]) -> Result<[f64; N], String> {
        let page = self.metrics_page(HEALTH_TIME_MAX).await?;
        let mut values = [0.0; N];
        for (value, name) in std::iter::zip(&mut values, names) {
            let text = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let text = text.ok_or_else(|| format!("no {name} in {page}"))?;
            *value = text.parse().map_err(|_| format!("{name} is {text:?}"))?;
        }
        Ok(values)
    }

    /// The answer to `GET /metrics`, with its headers.
    pub async fn metrics_page(&self, time_max: Duration) -> Result<String, String> {
        let ask = async {
            let mut connection = TcpStream::connect(("127.0.0.1", self.metrics_port)).await?;
            connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = tokio::time::timeout(time_max, ask).await;
        answer.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// Waits until `is_so` holds for its health.
    pub async fn wait_health(&mut self, what: &str, is_so: impl Fn(&HealthResponse) -> bool) -> HealthResponse {
        let what = format!("node {} to be {what}", self.id);
        poll(&what, START_TIME_MAX, async || {
            if let Some(status) = self.process().ended() {
                panic!("node {} has ended with {status} instead:\n{}", self.id, tail(&self.log, LOG_LINES_SHOWN));
            }
            match self.health().await {
                Ok(health) if is_so(&health) => Ok(health),
                Ok(health) => Err(format!("{health:?}")),
                Err(status) => Err(status.to_string()),
            }
        })
        .await
    }

    /// Waits until it is online.
    pub async fn wait_online(&mut self) {
        self.wait_health("online", |health| health.status() == Health::Online).await;
    }

    /// Waits until it is online and linked to every other one.
    pub async fn wait_linked(&mut self) {
        let is_linked = |peer: &PeerHealth| matches!(peer.state(), PeerState::PeerLinked | PeerState::PeerSelf);
        self.wait_health("linked to all others", |health| {
            health.status() == Health::Online && health.peers.iter().all(is_linked)
        })
        .await;
    }

    /// Waits until its log contains all of `parts`.
    pub async fn wait_log(&self, parts: &[&str]) {
        poll(&format!("the log of node {} to say {parts:?}", self.id), START_TIME_MAX, async || {
            let log = read(&self.log);
            match parts.iter().find(|part| !log.contains(**part)) {
                None => Ok(()),
                Some(part) => Err(format!("no {part:?} in\n{}", tail(&self.log, LOG_LINES_SHOWN))),
            }
        })
        .await;
    }

    /// Its output so far.
    pub fn log_text(&self) -> String {
        read(&self.log)
    }

    /// Clears its log. Only while it is down.
    pub fn clear_log(&self) {
        write(&self.log, "");
    }
}

/// Writes a file. Panics if that fails.
pub fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// A cluster.yml.
pub fn cluster_yml(seed: u32, replica_count: usize, nodes: &[(&str, u16)]) -> String {
    let mut text = format!("cluster:\n  seed: {seed}\n  replica_count: {replica_count}\n  nodes:\n");
    for (id, port) in nodes {
        writeln!(text, "    \"{id}\": {{ remote_address: \"127.0.0.1:{port}\" }}").expect("a string takes text");
    }
    text
}

/// A node.yml, with durability fsync.
pub fn node_yml(id: &str, port: u16, metrics_port: u16, data_dir: &Path, operator_writes: bool) -> String {
    format!(
        "node:\n  id: \"{id}\"\n  local_address: 127.0.0.1:{port}\n  local_metrics_address: 127.0.0.1:{metrics_port}\n  \
         data_dir: {:?}\n  durability: fsync\n  operator_writes: {operator_writes}\n",
        data_dir.display().to_string()
    )
}

/// Copies a folder with its contents.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file has a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

/// The 50th and the 99th percentile of `durations`, in milliseconds.
pub fn percentiles_ms(durations: &mut [Duration]) -> (f64, f64) {
    durations.sort_unstable();
    let at = |part: usize| durations[(durations.len() - 1) * part / 100].as_secs_f64() * 1e3;
    (at(50), at(99))
}
