//! `quorate add`: add to a number.

use std::time::Duration;

use clap::Args;

use super::output::{report_added, write_failed};
use super::tables::InTable;
use super::{CliError, Exit, Global, time_to_live, version};

/// Add to the number of a key
///
/// Prints the sum and nothing else. The number is kept as decimal text, as Redis keeps it, within 64 bits. A key without a
/// value counts as 0.
///
/// With --since, an addition is sent again where a node dies, and counts once: give a version of the key that get or add
/// printed with --json.
///
/// Exit code 2: the value is no number, or the sum would be out of 64 bits; nothing was added. Exit code 3: certainly not
/// added. Exit code 4: perhaps added; read the key to find out. Exit code 5: not added, because too many other writes came
/// after the version of --since; the present one is on stderr.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate add hits                            add 1
  quorate add hits 10
  quorate add hits -5
  quorate add hits --ttl 1h                   the sum expires an hour after this
  quorate add hits --json | jq -r .version")]
pub(super) struct Add {
    /// The key: 1 to 4,096 bytes of UTF-8
    key: String,
    /// The number to add
    #[arg(default_value_t = 1, allow_negative_numbers = true, value_parser = delta)]
    delta: i64,
    /// A version of the key, so that the addition may be sent again and counts once
    #[arg(long, value_name = "VERSION", value_parser = version)]
    since: Option<String>,
    /// How long the sum is kept, such as 30s, 15m or 7d; without it, for ever
    #[arg(long, value_name = "DURATION", value_parser = time_to_live, allow_hyphen_values = true)]
    ttl: Option<Duration>,
    #[command(flatten)]
    table: InTable,
}

impl Add {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let mut add = self.table.client(global)?.add(&self.key, self.delta);
        if let Some(since) = self.since {
            add = add.since(since);
        }
        if let Some(ttl) = self.ttl {
            add = add.ttl(ttl);
        }
        let added = add.await.map_err(|error| write_failed(&self.key, error, global.json))?;
        report_added(&self.key, &added, global.json);
        Ok(Exit::Done)
    }
}

fn delta(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("a whole number from {} to {} is accepted, such as 1 or -5", i64::MIN, i64::MAX))
}
