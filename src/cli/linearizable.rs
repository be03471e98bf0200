//! `quorate check --linearizable`: a load against any cluster, and the checker's verdict on it.

use std::time::Duration;

use clap::Args;

use super::judged::{Load, Mix, Plan, Settings, as_json, as_text};
use super::output::{print, print_json};
use super::serve::shutdown_on_signal;
use super::tables::InTable;
use super::{CliError, Exit, Global};

/// Few keys, so that clients meet often.
const KEYS: usize = 8;

/// Options of `quorate check --linearizable`.
#[derive(Debug, Args)]
pub(super) struct LinearizableLoad {
    /// How long the load runs
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600), requires = "linearizable")]
    seconds: u64,
    /// How many clients read and write at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256), requires = "linearizable")]
    clients: u16,
    #[command(flatten)]
    table: InTable,
}

impl LinearizableLoad {
    /// Runs the load, and prints the verdict. Ctrl-C ends it early: what was done until then is judged.
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let shutdown = shutdown_on_signal()?;
        let (clients, time_max) = (usize::from(self.clients), Duration::from_secs(self.seconds));
        let plan = Plan { clients, keys: KEYS, mix: Mix::All, time_max, think: Duration::ZERO };
        let load = Load::start(global, &self.table.table, plan).await?;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(time_max) => {}
        }
        let interrupted = shutdown.is_cancelled();
        let outcome = load.outcome().await?;
        let settings = Settings { clients, interrupted };
        if global.json {
            print_json(&as_json(&outcome, &settings))?;
        } else {
            print(as_text(&outcome, &settings).as_bytes())?;
        }
        if !outcome.judged.is_linearizable() {
            return Ok(Exit::NotGoodEnough);
        }
        if outcome.counts.answered() == 0 {
            return Err(CliError::not_done("no operation was answered, so that nothing could be judged"));
        }
        Ok(Exit::Done)
    }
}
