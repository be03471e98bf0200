//! `quorate delete`: remove the value of a key.

use clap::Args;

use super::output::report_write;
use super::{CliError, Exit, Global};

/// Remove the value of a key
///
/// Prints the stamp of the deletion. Deleting a key without a value is no error.
///
/// Exit code 3: certainly not deleted. Exit code 4: perhaps deleted; read the key to find out.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate delete greeting
  quorate delete greeting --json")]
pub(super) struct Delete {
    /// The key: 1 to 4,096 bytes of UTF-8
    key: String,
}

impl Delete {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let stamp = global.client()?.delete(&self.key).await?;
        report_write(&self.key, &stamp, global.json);
        Ok(Exit::Done)
    }
}
