//! `quorate delete`: remove the value of a key.

use clap::Args;

use super::output::{report_write, write_failed};
use super::tables::InTable;
use super::{CliError, Exit, Global, version};

/// Remove the value of a key
///
/// Prints the stamp of the deletion; with a condition, the version that it made. Deleting a key without a value is no
/// error, unless a condition says so.
///
/// Exit code 3: certainly not deleted. Exit code 4: perhaps deleted; read the key to find out. Exit code 5: not deleted,
/// because the condition does not hold; the key's present version is on stderr.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate delete greeting
  quorate delete greeting --if-present        exit code 5 if it has no value
  quorate delete lock --if-version \"$VERSION\"
  quorate delete ada --table sessions
  quorate delete greeting --json")]
pub(super) struct Delete {
    /// The key: 1 to 4,096 bytes of UTF-8
    key: String,
    /// Delete only if the key has a value
    #[arg(long, conflicts_with = "if_version")]
    if_present: bool,
    /// Delete only if the key has this version, as get, set and add print it with --json
    #[arg(long, value_name = "VERSION", value_parser = version)]
    if_version: Option<String>,
    #[command(flatten)]
    table: InTable,
}

impl Delete {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let mut delete = self.table.client(global)?.delete(&self.key);
        let has_condition = self.if_present || self.if_version.is_some();
        if self.if_present {
            delete = delete.if_present();
        }
        if let Some(version) = self.if_version {
            delete = delete.if_version(version);
        }
        let written = delete.await.map_err(|error| write_failed(&self.key, error, global.json))?;
        report_write(&self.key, &written, has_condition, global.json);
        Ok(Exit::Done)
    }
}
