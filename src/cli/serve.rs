//! `quorate serve`: one node, in the foreground.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::logging::{LogFormat, LogLevel};
use super::{CliError, Exit};

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

impl Serve {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        Err(CliError::not_done(format!("serve is not linked yet: {self:?}")))
    }
}
