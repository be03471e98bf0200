//! `quorate delete`.

use clap::Args;

use super::output::print_write;
use super::{CliError, Exit, Global};

/// Remove the value of a key
///
/// Prints the stamp that the deletion was given. Removing what is not there is no error. Ends with code 3 if it certainly
/// was not removed, with 4 if that is not known.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate delete greeting
  quorate delete greeting --json")]
pub(super) struct Delete {
    /// 1 to 4,096 bytes of UTF-8
    key: String,
}

impl Delete {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let stamp = global.client()?.delete(&self.key).await?;
        print_write(&self.key, &stamp, global.json)?;
        Ok(Exit::Done)
    }
}
