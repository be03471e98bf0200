//! `quorate dev`: a cluster on this machine.

use std::path::PathBuf;

use clap::Args;

use super::serve::StorageKind;
use super::{CliError, Exit};

/// Run a throw-away cluster on this machine
///
/// Listens on loopback alone. Ctrl-C ends it and drops its data, unless --data-dir keeps it.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate dev
  quorate dev --nodes 5 --port 9101
  quorate dev --data-dir ./data")]
pub(super) struct Dev {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    nodes: u16,
    /// The first node's port; the others take those after it
    #[arg(long, value_name = "PORT", default_value_t = 8001, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Keep the data in this folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where records are kept
    #[arg(long, value_enum, default_value_t = StorageKind::Rocks)]
    storage: StorageKind,
}

impl Dev {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        Err(CliError::not_done(format!("dev is not linked yet: {self:?}")))
    }
}
