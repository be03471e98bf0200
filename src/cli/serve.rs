//! `quorate serve`: one node, in the foreground.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::config_check::read;
use super::logging::{self, LogFormat, LogLevel};
use super::{CliError, Exit};
use crate::config::{Config, File};
use crate::server::{Server, ServerError, Storage};

/// Run one node, in the foreground
///
/// SIGTERM or Ctrl-C ends it within 5 seconds, after what is in flight. Values of the node file can be overridden by
/// environment variables: QUORATE_NODE_ID, QUORATE_NODE_LOCAL_ADDRESS and so on.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate serve examples/3-local-nodes/node-1.yml examples/3-local-nodes/cluster.yml
  RUST_LOG=quorate=debug quorate serve node.yml cluster.yml --log-format logfmt")]
pub(super) struct Serve {
    /// What this node alone is told
    #[arg(value_name = "NODE_FILE")]
    node_file: PathBuf,
    /// What all nodes of the cluster are told
    #[arg(value_name = "CLUSTER_FILE")]
    cluster_file: PathBuf,
    /// Where records are kept; all nodes of a cluster alike
    #[arg(long, value_enum, default_value_t = StorageKind::Rocks)]
    storage: StorageKind,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    log_format: LogFormat,
    /// How much is logged; RUST_LOG overrides it
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    log_level: LogLevel,
}

/// Where records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StorageKind {
    /// On disk, by RocksDB.
    Rocks,
    /// In memory: for tests and throw-away clusters. A restart is a lost disk.
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
        logging::init(self.log_format, self.log_level).map_err(|error| CliError::not_done(error.to_string()))?;
        let (node, cluster) = (read(&self.node_file)?, read(&self.cluster_file)?);
        let node = File { name: &self.node_file, text: &node };
        let cluster = File { name: &self.cluster_file, text: &cluster };
        let config = Config::parse(node, cluster, std::env::vars_os())
            .map_err(|error| CliError::bad_input(error.to_string()))?;
        end_process_on_panic();
        let shutdown = shutdown_on_signal()?;
        Server::start(&config, self.storage.into()).await?.run(shutdown).await?;
        Ok(Exit::Done)
    }
}

impl From<ServerError> for CliError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Folder(_) => Self::bad_input(error.to_string()),
            ServerError::Listen { .. } | ServerError::Store { .. } | ServerError::Ended(_) => {
                Self::not_done(error.to_string())
            }
        }
    }
}

/// A node whose state may be half changed must not go on: its peers go on without it, and its next start finds what is
/// durable.
pub(super) fn end_process_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Cancelled by SIGTERM or Ctrl-C. A second one ends the process at once.
pub(super) fn shutdown_on_signal() -> Result<CancellationToken, CliError> {
    let listen = |kind| signal(kind).map_err(|error| CliError::not_done(format!("cannot listen for signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let asked = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if asked.is_cancelled() {
                // What is durable is durable; the next start finds it.
                std::process::exit(Exit::NotDone as i32);
            }
            asked.cancel();
        }
    });
    Ok(shutdown)
}
