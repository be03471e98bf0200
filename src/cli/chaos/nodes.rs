//! The nodes of `quorate dev --chaos`: processes, which can be killed and paused as those of a real cluster.
//!
//! Contract: no node outlives this process. In order they are ended by SIGTERM, and a node that is dropped is killed. A node
//! whose stdin ends, because this process is gone, ends by itself.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::serve::StorageKind;
use super::super::{CliError, Exit};
use crate::config::{Config, LocalAddress};

/// How long nodes may take to end after SIGTERM.
const END_TIME_MAX: Duration = Duration::from_secs(6);
const LOOK_AFTER: Duration = Duration::from_millis(20);
/// The last lines of a node's log that an error shows.
const LOG_LINES: usize = 5;

/// What was done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Up,
    Killed,
    Paused,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) address: String,
    pub(super) state: State,
    own_file: PathBuf,
    cluster_file: PathBuf,
    log: PathBuf,
    storage: StorageKind,
    child: Option<Child>,
}

impl Node {
    /// Writes the files of all nodes into `folder`. None of them runs yet.
    pub(super) fn all(configs: &[Config], storage: StorageKind, folder: &Path) -> Result<Vec<Self>, CliError> {
        let cluster_file = folder.join("cluster.yml");
        if let Some(config) = configs.first() {
            write(&cluster_file, &cluster_yml(config))?;
        }
        configs
            .iter()
            .map(|config| {
                let id = config.node.id.as_str().to_owned();
                let own_file = folder.join(format!("node-{id}.yml"));
                write(&own_file, &node_yml(config))?;
                Ok(Self {
                    address: config.node.local_address.to_string(),
                    state: State::Killed,
                    log: folder.join(format!("node-{id}.log")),
                    own_file,
                    cluster_file: cluster_file.clone(),
                    storage,
                    child: None,
                    id,
                })
            })
            .collect()
    }

    /// Starts its process. Nothing happens if it runs.
    pub(super) fn start(&mut self) -> Result<(), CliError> {
        if self.child.is_some() {
            return Ok(());
        }
        let program = std::env::current_exe()
            .map_err(|error| CliError::not_done(format!("this program's own file is not known: {error}")))?;
        let failed = |error: std::io::Error| {
            CliError::not_done(format!("node {} cannot be started: {error}; see {}", self.id, self.log.display()))
        };
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut command = Command::new(program);
        // Variables that configure a node would configure all of them alike.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(&name);
            }
        }
        let storage = self.storage.to_possible_value().expect("each kind has a name");
        command
            .arg("serve")
            .args([&self.own_file, &self.cluster_file])
            .args(["--until-stdin-ends", "--log-level", "warn", "--storage", storage.get_name()])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            // Ctrl-C at the terminal is for this process alone, which then ends them in order.
            .process_group(0);
        self.child = Some(command.spawn().map_err(failed)?);
        self.state = State::Up;
        Ok(())
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, and then the effect is the same.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.state = State::Killed;
    }

    /// SIGSTOP.
    pub(super) fn pause(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.state = State::Paused;
    }

    /// Brings it back, whatever was done to it.
    pub(super) fn bring_back(&mut self) -> Result<(), CliError> {
        match self.state {
            State::Up => Ok(()),
            State::Killed => self.start(),
            State::Paused => {
                self.signal(Signal::SIGCONT);
                self.state = State::Up;
                Ok(())
            }
        }
    }

    /// Sends it a signal. No other process has its id before it is reaped.
    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let id = i32::try_from(child.id()).expect("a process id is an i32");
            // It may have ended by itself: `ended` tells.
            let _ = kill(Pid::from_raw(id), signal);
        }
    }

    /// Its exit status, if it has ended and nobody killed it.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// An error if it has ended by itself, with the end of its log.
    pub(super) fn check(&mut self) -> Result<(), CliError> {
        let Some(status) = self.ended() else { return Ok(()) };
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        Err(CliError {
            exit: if status.code() == Some(Exit::BadInput as i32) { Exit::BadInput } else { Exit::NotDone },
            message: format!("node {} has ended by itself with {status}:\n  {last}", self.id),
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends all nodes in order, and kills those that take too long.
pub(super) async fn end_all(nodes: &mut [Node]) {
    for node in nodes.iter_mut() {
        node.signal(Signal::SIGCONT);
        node.signal(Signal::SIGTERM);
    }
    let began = Instant::now();
    while began.elapsed() < END_TIME_MAX && nodes.iter_mut().any(|node| node.child.is_some() && node.ended().is_none())
    {
        tokio::time::sleep(LOOK_AFTER).await;
    }
    for node in nodes {
        node.kill();
    }
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text)
        .map_err(|error| CliError::bad_input(format!("{}: cannot be written: {error}", path.display())))
}

fn cluster_yml(config: &Config) -> String {
    let cluster = &config.cluster;
    let mut text = format!(
        "cluster:\n  seed: {}\n  replica_count: {}\n  nodes:\n",
        cluster.parameters.seed, cluster.parameters.replica_count
    );
    for (id, address) in std::iter::zip(&cluster.parameters.node_ids, &cluster.addresses) {
        let _ = writeln!(text, "    \"{}\": {{ remote_address: \"{address}\" }}", id.as_str());
    }
    text
}

fn node_yml(config: &Config) -> String {
    let node = &config.node;
    // A JSON string is a YAML string.
    let data_dir = serde_json::Value::from(node.data_dir.display().to_string());
    let mut text = format!(
        "node:\n  id: \"{}\"\n  local_address: \"{}\"\n  data_dir: {data_dir}\n  durability: fsync\n  operator_writes: {}\n  replace_damaged: {}\n",
        node.id.as_str(),
        node.local_address,
        node.operator_writes,
        node.replace_damaged
    );
    let others: [(&str, Option<LocalAddress>); 4] = [
        ("metrics", node.local_metrics_address),
        ("http", node.local_http_address),
        ("line", node.local_line_address),
        ("redis", node.local_redis_address),
    ];
    for (name, address) in others {
        if let Some(address) = address {
            let _ = writeln!(text, "  local_{name}_address: \"{address}\"");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::File as ConfigFile;
    use crate::config::{DevPlan, dev};
    use crate::types::Durability;

    #[test]
    fn files_say_what_the_plan_says() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a \"b\"");
        let plan = DevPlan { nodes: 11, port: 8001, data_dir, durability: Durability::Fsync };
        for config in dev(&plan).unwrap() {
            let (node, cluster) = (node_yml(&config), cluster_yml(&config));
            let file = |name: &'static str, text| ConfigFile { name: Path::new(name), text };
            let read = Config::parse(file("node.yml", &node), file("cluster.yml", &cluster), Vec::new());
            assert_eq!(read.unwrap(), config);
        }
    }
}
