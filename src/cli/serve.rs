//! `quorate serve`: run one node, in the foreground.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::sys::stat::{Mode, umask};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::config_check::read;
use super::logging::{self, LogFormat, LogLevel};
use super::{CliError, Exit};
use crate::config::{Config, File};
use crate::runtime::NodeHandle;
use crate::server::{self, Ended, Server, ServerError, Storage};

/// Run one node, in the foreground
///
/// SIGTERM or Ctrl-C ends the node within 5 seconds: it finishes the requests in flight first. SIGHUP makes it read both files
/// again, and the files of TLS: the configuration reference says which keys take effect at once. Variables override the values of the node file:
/// QUORATE_NODE_ID, QUORATE_NODE_LOCAL_ADDRESS and so on.
///
/// The log goes to stderr.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate serve examples/3-local-nodes/node-1.yml examples/3-local-nodes/cluster.yml
  quorate serve node-4.yml cluster.yml --join          a fresh node, to be added with `quorate members apply`
  RUST_LOG=quorate=debug quorate serve node.yml cluster.yml --log-format logfmt")]
pub(super) struct Serve {
    /// The configuration of this node
    #[arg(value_name = "NODE_FILE")]
    node_file: PathBuf,
    /// The configuration of the cluster, the same for all of its nodes
    #[arg(value_name = "CLUSTER_FILE")]
    cluster_file: PathBuf,
    /// Wait to be added to a cluster that exists, with a fresh data folder; a node that is a member already just serves
    ///
    /// The cluster file is the wished one, which has this node. `quorate members apply` adds the node.
    #[arg(long)]
    join: bool,
    /// Where records are stored; the same for all nodes of a cluster
    #[arg(long, value_enum, default_value_t = StorageKind::Rocks)]
    storage: StorageKind,
    /// The form of log lines
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    log_format: LogFormat,
    /// The least severe level that is logged; the variable RUST_LOG overrides it
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    log_level: LogLevel,
    /// End when stdin ends, as on SIGTERM: for nodes that must not outlive the process that started them
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// Where records are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StorageKind {
    /// On disk, in RocksDB
    Rocks,
    /// In memory, for tests and throw-away clusters: a restart is a lost disk
    Memory,
}

impl From<StorageKind> for Storage {
    fn from(kind: StorageKind) -> Self {
        match kind {
            StorageKind::Rocks => Self::Rocks,
            StorageKind::Memory => Self::Memory,
        }
    }
}

impl Serve {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let log = logging::init(self.log_format, self.log_level)?;
        let config = self.read()?;
        // Files of the node are for its user alone, those of RocksDB included.
        umask(Mode::from_bits_truncate(0o077));
        end_process_on_panic();
        let hung_up = Arc::new(Notify::new());
        let shutdown = shutdown_on_signals(Hangup::Tells(Arc::clone(&hung_up)))?;
        if self.until_stdin_ends {
            end_with_stdin(shutdown.clone());
        }
        let storage = self.storage.into();
        let start =
            if self.join { Server::join(&config, storage).await } else { Server::start(&config, storage).await };
        let server = start?;
        tell_systemd(NotifyState::Ready);
        let ending = shutdown.clone();
        tokio::spawn(async move {
            ending.cancelled().await;
            tell_systemd(NotifyState::Stopping);
        });
        let reloading = tokio::spawn(self.reload(config, server.handle().clone(), hung_up));
        let ended = server.run(shutdown.clone()).await?;
        reloading.abort();
        if starts_anew(ended, &shutdown) {
            info!("the process starts anew, with a fresh store");
            // What waits is written first.
            drop(log);
            return Err(start_anew());
        }
        Ok(Exit::Done)
    }

    fn read(&self) -> Result<Config, CliError> {
        let (node, cluster) = (read(&self.node_file)?, read(&self.cluster_file)?);
        let node = File { name: &self.node_file, text: &node };
        let cluster = File { name: &self.cluster_file, text: &cluster };
        Config::parse_unlisted(node, cluster, std::env::vars_os())
            .map_err(|error| CliError::bad_input(error.to_string()))
    }

    /// Reads the files again each time that `hung_up` tells so, for a node that runs with `config`.
    async fn reload(self, mut config: Config, node: NodeHandle, hung_up: Arc<Notify>) {
        loop {
            hung_up.notified().await;
            let new = match self.read() {
                Ok(new) => new,
                Err(error) => {
                    warn!(%error, "SIGHUP: the configuration is not accepted; the node goes on with the one that it has");
                    continue;
                }
            };
            let changes = config.reload(&new);
            server::reload(&node, &config.node).await;
            let keys = if changes.reloaded.is_empty() { "none".to_owned() } else { changes.reloaded.join(", ") };
            info!(%keys, "SIGHUP: the configuration was read again, and these keys take effect");
            if !changes.others.is_empty() {
                let keys = changes.others.join(", ");
                warn!(%keys, "these keys have changed too, and take effect when the node restarts");
            }
            if changes.is_other_cluster {
                warn!(file = %self.cluster_file.display(), "this file has changed: the node tries its addresses from its next start on, and `quorate members apply` changes members");
            }
        }
    }
}

impl From<ServerError> for CliError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Folder(_)
            | ServerError::Tls { .. }
            | ServerError::Unlisted(_)
            | ServerError::Exposed { .. }
            | ServerError::Audit(_)
            | ServerError::Bootstrap { .. } => Self::bad_input(error.to_string()),
            ServerError::Listen { .. } | ServerError::Store { .. } | ServerError::Token(_) | ServerError::Ended(_) => {
                Self::not_done(error.to_string())
            }
        }
    }
}

/// Tells systemd, where it has started this process, that the node listens, or ends. The node may still wait for others then.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd could not be told how the node is");
    }
}

/// Whether the process goes on with a fresh store. A new one would know nothing of a signal that came while the node ended.
fn starts_anew(ended: Ended, shutdown: &CancellationToken) -> bool {
    ended == Ended::StoreGivenUp && !shutdown.is_cancelled()
}

/// Replaces this process by a new one with the same arguments. So nothing that a client still holds open keeps the old store's
/// files. Returns only where that fails.
fn start_anew() -> CliError {
    let failed = |error: std::io::Error| {
        CliError::not_done(format!(
            "the damaged store is given up, and this process could not start anew: {error}; start the node again, and it goes on from there"
        ))
    };
    match std::env::current_exe() {
        Ok(program) => {
            let mut arguments = std::env::args_os();
            let name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());
            let program = running_program(program, Path::new(RUNNING_PROGRAM));
            failed(std::process::Command::new(program).arg0(name).args(arguments).exec())
        }
        Err(error) => failed(error),
    }
}

/// The program that this process runs, under a name that Linux gives it. It is there after an upgrade, too.
const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// The file at `program` where it is still the one that runs, as `running` leads to it. Else `running`: another version does not start
/// unasked. Systems that are not Linux have no `running`.
fn running_program(program: PathBuf, running: &Path) -> PathBuf {
    let file_of = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    match file_of(running) {
        Some(file) if file_of(&program) != Some(file) => running.to_path_buf(),
        _ => program,
    }
}

/// Cancels `shutdown` once stdin has ended.
fn end_with_stdin(shutdown: CancellationToken) {
    // A thread of its own: a read of a pipe cannot be given up. It ends with the process.
    std::thread::spawn(move || {
        // A pipe that breaks has ended too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        shutdown.cancel();
    });
}

/// How long a panic may take to write its report before the process ends.
const PANIC_REPORT_TIME_MAX: Duration = Duration::from_secs(1);

/// Makes a panic end the process. A node whose state may be half changed must not go on: its peers go on without it, and
/// its next start finds everything that is durable.
pub(super) fn end_process_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The report goes to stderr, which perhaps nobody reads.
        std::thread::spawn(|| {
            std::thread::sleep(PANIC_REPORT_TIME_MAX);
            std::process::abort();
        });
        report(panic);
        std::process::abort();
    }));
}

/// The effect of SIGHUP. Without a handler it would end the process at once.
#[derive(Clone, Debug)]
pub(super) enum Hangup {
    /// Somebody is told. A node outlives its terminal.
    Tells(Arc<Notify>),
    /// An end in order, unless the process was started to ignore SIGHUP, as by `nohup`.
    Ends,
}

/// A token that Ctrl-C, SIGTERM or SIGHUP cancels.
pub(super) fn shutdown_on_signal() -> Result<CancellationToken, CliError> {
    shutdown_on_signals(Hangup::Ends)
}

/// A token that SIGTERM and Ctrl-C cancel, and SIGHUP as `hangup` says. A second SIGTERM or Ctrl-C ends the process at
/// once.
pub(super) fn shutdown_on_signals(hangup: Hangup) -> Result<CancellationToken, CliError> {
    let is_ignored = starts_with_hangup_ignored();
    let listen = |kind| signal(kind).map_err(|error| CliError::not_done(format!("cannot listen for signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hung_up = listen(SignalKind::hangup())?;
    let shutdown = CancellationToken::new();
    let asked = shutdown.clone();
    tokio::spawn(async move {
        let mut was_told_to_end = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hung_up.recv() => {
                    match &hangup {
                        Hangup::Tells(who) => who.notify_one(),
                        Hangup::Ends if is_ignored => warn!("SIGHUP is ignored, as this process was started to"),
                        // A terminal that closes may send it several times, so that a repeated one does not end at once.
                        Hangup::Ends => asked.cancel(),
                    }
                    continue;
                }
            }
            if was_told_to_end {
                // Durable records stay durable, and the next start finds them.
                std::process::exit(Exit::NotDone as i32);
            }
            was_told_to_end = true;
            asked.cancel();
        }
    });
    Ok(shutdown)
}

/// Whether this process was started with SIGHUP ignored. Linux says so in /proc; elsewhere the answer is no.
fn starts_with_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The mask has a bit for each signal. The lowest is that of signal 1, SIGHUP.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_was_replaced_is_not_started_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let (program, running) = (folder.path().join("quorate"), folder.path().join("exe"));
        std::fs::write(&program, "one").unwrap();
        assert_eq!(running_program(program.clone(), &running), program, "no Linux");
        std::fs::hard_link(&program, &running).unwrap();
        assert_eq!(running_program(program.clone(), &running), program);
        std::fs::remove_file(&program).unwrap();
        assert_eq!(running_program(program.clone(), &running), running);
        std::fs::write(&program, "two").unwrap();
        assert_eq!(running_program(program.clone(), &running), running);
    }

    #[test]
    fn node_that_was_told_to_end_does_not_start_anew() {
        let shutdown = CancellationToken::new();
        assert!(starts_anew(Ended::StoreGivenUp, &shutdown) && !starts_anew(Ended::AsTold, &shutdown));
        shutdown.cancel();
        assert!(!starts_anew(Ended::StoreGivenUp, &shutdown));
    }
}
