//! The command line: what is typed, what is printed, and the code that a script sees.
//!
//! Contract: stdout carries the answer alone, stderr carries what went wrong, in one line where possible: what happened,
//! where, and what to do. The process ends through [`ExitCode`], with one of the codes of [`Exit`] and no other. What
//! is printed is made by pure functions, so that tests can hold it still.

mod bench;
mod completions;
mod config_check;
mod delete;
mod dev;
mod get;
mod locate;
pub mod logging;
mod output;
mod serve;
mod set;
mod status;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tonic::Code;

use crate::client::{Client, ClientError};
use crate::limits::DEADLINE_MAX;
use crate::wire::failure::FailureReason;

/// A leaderless key-value store in which every key is linearizable.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
EXAMPLES:
  quorate dev                                 three nodes on this machine, to try things out
  quorate set greeting hello                  write
  quorate get greeting                        read
  quorate --address n1:8001,n2:8001 status    how the nodes of a cluster are

EXIT CODES:
  0  done
  1  the key has no value
  2  the command line, a file or a value is not accepted
  3  not done, certainly: no node answered, or too few replicas; safe to try again
  4  a write that may or may not have happened: read the key to find out";

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// A node to ask; repeat it, or separate several by commas: those that are down are passed over
    #[arg(
        long,
        global = true,
        env = "QUORATE_ADDRESS",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:8001"
    )]
    pub address: Vec<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// How long to try, such as 500ms or 5s
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub timeout: Duration,
}

impl Global {
    /// A client as the command line wants it.
    fn client(&self) -> Result<Client, CliError> {
        let builder = self.address.iter().fold(Client::builder(), |builder, address| builder.address(address.trim()));
        Ok(builder.deadline(self.timeout).build()?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Dev(dev::Dev),
    Get(get::Get),
    Set(set::Set),
    Delete(delete::Delete),
    Status(status::Status),
    Locate(locate::Locate),
    Bench(bench::Bench),
    /// Look at configuration files
    #[command(subcommand)]
    Config(Config),
    Completions(completions::Completions),
}

#[derive(Debug, Subcommand)]
enum Config {
    Check(config_check::Check),
}

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The key has no value.
    NotFound = 1,
    /// The command line, a file or a value is not accepted.
    BadInput = 2,
    /// Certainly not done; safe to try again.
    NotDone = 3,
    /// A write that may or may not have happened.
    OutcomeUnknown = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: the code that the shell sees, and the line that a person sees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// The code.
    pub exit: Exit,
    /// What happened, where, and what to do.
    pub message: String,
}

impl CliError {
    /// The command line, a file or a value is not accepted.
    fn bad_input(message: impl Into<String>) -> Self {
        Self { exit: Exit::BadInput, message: message.into() }
    }

    /// Certainly not done.
    fn not_done(message: impl Into<String>) -> Self {
        Self { exit: Exit::NotDone, message: message.into() }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        let no_node_said_a_word = "\nis a node running there? `quorate dev` starts some; --address or QUORATE_ADDRESS \
                                   names others";
        match error {
            ClientError::InvalidInput { .. } => Self::bad_input(message),
            ClientError::OutcomeUnknown { .. } => Self { exit: Exit::OutcomeUnknown, message },
            ClientError::NotApplied { last, .. } | ClientError::Unavailable { last, .. } => {
                let hint = if last.failure.is_none() { no_node_said_a_word } else { "" };
                Self::not_done(message + hint)
            }
            ClientError::Refused { node } => {
                let reason = node.failure.map(|failure| failure.reason);
                if reason == Some(FailureReason::InvalidArgument) || node.code == Code::InvalidArgument {
                    Self::bad_input(message)
                } else {
                    Self::not_done(message)
                }
            }
        }
    }
}

/// Runs the command that this process was started with.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, and clap sends them to stdout. Where even that fails nobody listens.
            let _ = error.print();
            return if error.use_stderr() { Exit::BadInput.into() } else { Exit::Done.into() };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("quorate: the system gives no threads or timers: {error}; raise its limits (ulimit -u, -n)");
            return Exit::NotDone.into();
        }
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("quorate: {error}");
            error.exit.into()
        }
    }
}

/// How many threads work on requests: one processor is left to the thread that writes to the disk and to compaction. On a
/// machine of two, two workers would wake each other for every request, which costs more than they gain.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().saturating_sub(1).max(1))
}

async fn dispatch(Cli { global, command }: Cli) -> Result<Exit, CliError> {
    match command {
        Command::Serve(serve) => serve.run().await,
        Command::Dev(dev) => dev.run(&global).await,
        Command::Get(get) => get.run(&global).await,
        Command::Set(set) => set.run(&global).await,
        Command::Delete(delete) => delete.run(&global).await,
        Command::Status(status) => status.run(&global).await,
        Command::Locate(locate) => locate.run(&global).await,
        Command::Bench(bench) => bench.run(&global).await,
        Command::Config(Config::Check(check)) => check.run(&global),
        Command::Completions(completions) => completions.run(),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let accepted = || format!("1ms to {}s is accepted, such as 500ms, 2s or 1.5s", DEADLINE_MAX.as_secs());
    let (number, unit_seconds) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.trim().parse::<f64>().map_err(|_| accepted())? * unit_seconds;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| accepted())?;
    if (Duration::from_millis(1)..=DEADLINE_MAX).contains(&duration) { Ok(duration) } else { Err(accepted()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::client::{InputProblem, NodeFailure};
    use crate::wire::failure::Failure;

    #[test]
    fn command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_teaches_by_example() {
        fn check(command: &clap::Command) {
            if command.get_name() == "help" {
                return;
            }
            let help = command.clone().render_long_help().to_string();
            if command.get_name() != "config" {
                assert!(help.contains("EXAMPLES:"), "{}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn durations_are_bounded_and_in_units() {
        for (text, millis) in [("500ms", 500), ("5s", 5_000), ("2", 2_000), ("1.5s", 1_500), ("60s", 60_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "-1s", "61s", "1h", "nan", "inf", "1e400", "ms"] {
            assert!(duration(text).unwrap_err().contains("such as 500ms"), "{text}");
        }
    }

    #[test]
    fn addresses_come_from_repeats_and_commas() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().global.address;
        assert_eq!(parse("quorate --address a:1 --address b:2,c:3 status"), ["a:1", "b:2", "c:3"]);
        assert_eq!(parse("quorate get k --address a:1"), ["a:1"]);
    }

    #[test]
    fn each_error_has_its_exit_code_and_says_what_to_do() {
        let node = |said: Option<FailureReason>, code| NodeFailure {
            address: "n1:8001".into(),
            message: "as the test wants".into(),
            code,
            failure: said.map(|reason| Box::new(Failure::new(reason))),
        };
        let tried_for = Duration::from_secs(5);
        let not_applied = Some(FailureReason::NotApplied);
        for (error, exit, part) in [
            (InputProblem::NoAddress.into(), Exit::BadInput, "host:port"),
            (
                ClientError::NotApplied { last: node(not_applied, Code::Unavailable), tried_for },
                Exit::NotDone,
                "safe to send again",
            ),
            (
                ClientError::NotApplied { last: node(None, Code::Unavailable), tried_for },
                Exit::NotDone,
                "is a node running there?",
            ),
            (
                ClientError::Unavailable { last: node(None, Code::Unavailable), tried_for },
                Exit::NotDone,
                "is a node running there?",
            ),
            (
                ClientError::OutcomeUnknown { node: node(None, Code::Unknown) },
                Exit::OutcomeUnknown,
                "read the key to find out",
            ),
            (
                ClientError::Refused { node: node(Some(FailureReason::InvalidArgument), Code::InvalidArgument) },
                Exit::BadInput,
                "refused",
            ),
            (ClientError::Refused { node: node(None, Code::Unimplemented) }, Exit::NotDone, "refused"),
        ] {
            let error = CliError::from(error);
            assert_eq!(error.exit, exit, "{error}");
            assert!(error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn bad_usage_ends_with_2_and_help_with_0() {
        let code = |line: &str| format!("{:?}", run(line.split(' ').map(OsString::from)));
        assert_eq!(code("quorate frobnicate"), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code("quorate get"), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code("quorate --version"), format!("{:?}", ExitCode::from(0)));
    }
}
