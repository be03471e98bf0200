//! The command line: commands, output and exit codes.
//!
//! Contract: stdout carries the answer alone. stderr carries errors, in one line where possible: what happened, where, and
//! what to do. The process ends with one of the codes of [`Exit`] and no other, whatever becomes of its output (see
//! `output`). It ends without waiting for threads that the system holds, such as reads of a disk that hangs.
//!
//! Texts are made by pure functions, so that tests can compare them.

mod add;
mod again;
mod backup;
mod bench;
mod ca;
mod chaos;
mod check;
mod completions;
mod config_check;
mod config_reference;
mod context;
mod debug;
mod delete;
mod dev;
mod get;
mod judged;
mod linearizable;
mod list;
mod locate;
mod log_queue;
pub mod logging;
mod man;
mod members;
mod output;
mod repair;
mod scrub;
mod security;
mod serve;
mod set;
mod shell;
mod status;
mod tables;
mod token;
mod top;
mod transfer;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tonic::Code;

use crate::client::{Builder, Client, ClientError, ClientTls, endpoint};
use crate::limits::DEADLINE_MAX;
use crate::tls::Dialer;
use crate::types::Ttl;
use crate::wire::failure::FailureReason;
use output::say;
use security::Security;

/// How long the process waits, at its end, for threads that the system holds.
const THREADS_END_TIME_MAX: Duration = Duration::from_millis(200);

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
  quorate dev                                 run three nodes on this machine, to try things out
  quorate set greeting hello                  write a value
  quorate get greeting                        read it
  quorate set lock me --if-absent --ttl 30s   write it only where there is no value, and let it expire
  quorate add hits                            count
  quorate list user:                          the keys that begin with user:
  quorate watch user: --values                each change of them
  quorate tables create carts                 make another set of keys, for --table carts
  quorate --address n1:8001,n2:8001 status    show the nodes of another cluster
  quorate top                                 show what the nodes do, again and again
  quorate members                             show who belongs to the cluster, and change that
  quorate check --linearizable                run a load, and judge whether every key was linearizable
  quorate shell                               all of these, one a line, with completion
  quorate help set                            explain a command

EXIT CODES:
  0  done
  1  the key has no value, or there is no table to get or drop
  2  the command line, a file or a value is not accepted, or the node refuses who asks
  3  certainly not done: no node answered, or too few replicas; safe to try again
  4  a write that may or may not have happened: read the key to find out
  5  certainly not done: the condition of the write does not hold, or the table to create is there
  6  what was checked is not good enough: a history that is not linearizable or has no verdict, a machine for a node, or the
     failures that status was told to require";

/// The heading of the options that say which nodes are asked, and for how long.
const ASKING: &str = "Options of commands that ask a node";

/// Options that every command accepts. Commands that ask no node ignore the addresses and the time.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// A node to ask; repeat the option, or separate nodes by commas: nodes that are down are passed over
    #[arg(
        long,
        global = true,
        env = "QUORATE_ADDRESS",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:8001",
        help_heading = ASKING
    )]
    pub address: Vec<String>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    pub json: bool,
    /// How long to try, all attempts together, such as 500ms or 5s; at most 60s
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration, default_value = "5s", help_heading = ASKING)]
    pub timeout: Duration,
    /// Whom it believes, and who it is.
    #[command(flatten)]
    pub security: Security,
    /// Where the addresses come from, for errors.
    #[arg(skip)]
    pub address_origin: AddressOrigin,
    /// What a command has of the shell that it runs in.
    #[arg(skip)]
    shell: Option<shell::InShell>,
}

/// Where the addresses of the nodes come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressOrigin {
    /// The option `--address`, or its default.
    #[default]
    Option,
    /// The variable `QUORATE_ADDRESS`.
    Variable,
    /// The context that is named, or the current one.
    Context,
}

impl AddressOrigin {
    fn of(matches: &clap::ArgMatches) -> Self {
        match matches.value_source("address") {
            Some(ValueSource::EnvVariable) => Self::Variable,
            // The default gives way to a context.
            Some(ValueSource::DefaultValue) => Self::Context,
            _ => Self::Option,
        }
    }
}

impl Global {
    /// A client for these options.
    fn client(&self) -> Result<Client, CliError> {
        if let Some(client) = self.shell.as_ref().and_then(|shell| shell.client.as_ref()) {
            return Ok(client.with_deadline(self.timeout));
        }
        Ok(self.builder()?.build()?)
    }

    /// A client of the one node whose own token it has, and of no other.
    fn client_of_bootstrap(&self) -> Result<Client, CliError> {
        if self.addresses()?.len() > 1 {
            let problem = "--bootstrap has the token of one node, and several addresses are given: give the address of that node \
                           alone (--address)";
            return Err(CliError::bad_input(problem));
        }
        Ok(self.builder()?.follow_members(false).build()?)
    }

    fn builder(&self) -> Result<Builder, CliError> {
        let addresses = self.addresses()?;
        let mut builder = addresses.into_iter().fold(Client::builder(), Builder::address);
        if let Some(tls) = self.security.tls()? {
            builder = builder.tls(tls);
        }
        if let Some(token) = self.security.token()? {
            builder = builder.token(&token);
        }
        Ok(builder.deadline(self.timeout))
    }

    /// How connections are secured.
    fn dialer(&self) -> Result<Dialer, CliError> {
        let dialer = self.security.tls()?.map(ClientTls::dialer).unwrap_or_default();
        Ok(dialer.with_token(self.security.token()?.as_ref()))
    }

    /// Takes what is not given from a context.
    fn complete(&mut self) -> Result<(), CliError> {
        // The current context is that of its own addresses: what it trusts is not meant for others.
        let addresses = self.security.complete(self.address_origin == AddressOrigin::Context)?;
        if self.address_origin == AddressOrigin::Context {
            if addresses.is_empty() {
                self.address_origin = AddressOrigin::Option;
            } else {
                self.address = addresses;
            }
        }
        Ok(())
    }

    /// The addresses of the nodes, each of which is well formed. An error names the option or the variable that gave it.
    fn addresses(&self) -> Result<Vec<&str>, CliError> {
        let origin = match self.address_origin {
            AddressOrigin::Option => "--address",
            AddressOrigin::Variable => "QUORATE_ADDRESS",
            AddressOrigin::Context => "the address of the context",
        };
        let dialer = self.dialer()?;
        let given = self.address.join(",");
        if given.trim().is_empty() {
            let cure = match self.address_origin {
                AddressOrigin::Option | AddressOrigin::Context => "give it HOST:PORT, such as 127.0.0.1:8001",
                AddressOrigin::Variable => "unset it, or set it to HOST:PORT, such as 127.0.0.1:8001",
            };
            return Err(CliError::bad_input(format!("{origin} is empty: {cure}")));
        }
        let addresses: Vec<&str> = self.address.iter().map(|address| address.trim()).collect();
        for address in &addresses {
            if address.is_empty() {
                return Err(CliError::bad_input(format!("{origin}: an address in {given:?} is empty: remove a comma")));
            }
            endpoint(address, &dialer).map_err(|problem| CliError::bad_input(format!("{origin}: {problem}")))?;
        }
        Ok(addresses)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Dev(dev::Dev),
    Get(get::Get),
    Set(set::Set),
    Delete(delete::Delete),
    Add(add::Add),
    List(list::List),
    Watch(watch::Watch),
    Tables(tables::Tables),
    Export(transfer::Export),
    Import(transfer::Import),
    Backup(backup::Backup),
    Status(status::Status),
    Top(top::Top),
    Check(check::Check),
    Repair(repair::Repair),
    Members(members::Members),
    Locate(locate::Locate),
    /// Gather what is known of a cluster, for somebody who helps
    #[command(
        subcommand,
        after_help = "\
EXAMPLES:
  quorate debug bundle
  quorate debug bundle bundle.tar --config node.yml --log node.log"
    )]
    Debug(debug::Debug),
    Bench(bench::Bench),
    Token(token::Token),
    Ca(ca::Ca),
    Context(context::ContextCommand),
    /// Check configuration files, or print the reference of their keys
    #[command(
        subcommand,
        after_help = "\
EXAMPLES:
  quorate config check node-1.yml cluster.yml
  quorate config reference | less"
    )]
    Config(Config),
    Shell(shell::Shell),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    /// Whether it asks a node, so that contexts count.
    fn asks_a_node(&self) -> bool {
        match self {
            Self::Serve(_) | Self::Dev(_) | Self::Ca(_) | Self::Context(_) => false,
            Self::Config(_) | Self::Completions(_) | Self::Man(_) => false,
            Self::Backup(backup) => backup.asks_a_node(),
            Self::Bench(bench) => bench.asks_a_node(),
            Self::Locate(locate) => locate.asks_a_node(),
            _ => true,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Config {
    Check(config_check::Check),
    /// Print the reference of all keys of node.yml and cluster.yml, as Markdown
    #[command(after_help = "\
EXAMPLES:
  quorate config reference | less")]
    Reference,
}

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The key has no value, or there is no table to get or drop.
    NotFound = 1,
    /// The command line, a file or a value is not accepted.
    BadInput = 2,
    /// Certainly not done; safe to try again.
    NotDone = 3,
    /// A write that may or may not have happened.
    OutcomeUnknown = 4,
    /// Certainly not done: the condition of the write does not hold, or the table to create is there.
    ConditionFailed = 5,
    /// What was checked is not good enough: a history, the machine, or the failures that are tolerated.
    NotGoodEnough = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: the exit code, and a line for stderr.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// The exit code.
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
        let no_node_answered = "\nis a node running there? `quorate dev` starts some; --address or QUORATE_ADDRESS \
                                   names others";
        match error {
            ClientError::InvalidInput { .. } | ClientError::NotANumber { .. } | ClientError::NoSuchTable { .. } => {
                Self::bad_input(message)
            }
            ClientError::ConditionFailed { .. } | ClientError::TableExists { .. } => {
                Self { exit: Exit::ConditionFailed, message }
            }
            ClientError::OutcomeUnknown { .. } => Self { exit: Exit::OutcomeUnknown, message },
            ClientError::NotApplied { last, .. } | ClientError::Unavailable { last, .. } => {
                let hint = if last.found_nobody() {
                    no_node_answered
                } else if last.needs_tls() && security::has_contexts() {
                    "\n--context NAME takes it from contexts.yml: where an address is given, the current context does not count"
                } else {
                    ""
                };
                Self::not_done(message + hint)
            }
            ClientError::Refused { node } => {
                let needs_tls = node.needs_tls();
                let reason = node.failure.map(|failure| failure.reason);
                let is_refused = matches!(
                    reason,
                    Some(
                        FailureReason::InvalidArgument
                            | FailureReason::MembersRefused
                            | FailureReason::Unauthenticated
                            | FailureReason::PermissionDenied
                    )
                );
                if is_refused || needs_tls || node.code == Code::InvalidArgument {
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
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, and clap sends them to stdout. If that fails, nobody is left to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::BadInput.into() } else { Exit::Done.into() };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("the system gives no threads or timers: {error}; raise its limits (ulimit -u, -n)"));
            return Exit::NotDone.into();
        }
    };
    let exit = match runtime.block_on(dispatch(cli)) {
        Ok(exit) => exit,
        Err(error) => {
            say(&error.message);
            error.exit
        }
    };
    runtime.shutdown_timeout(THREADS_END_TIME_MAX);
    exit.into()
}

/// Parses the command line, and notes where the addresses come from.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments).map_err(of_empty_variable)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
    cli.global.address_origin = AddressOrigin::of(&matches);
    Ok(cli)
}

/// Names the variable that is to blame, where clap names an option that nobody gave.
fn of_empty_variable(error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return error };
    match security::empty_variable(argument) {
        Some(variable) if matches!(error.kind(), ErrorKind::InvalidValue) => {
            let problem = format!("{variable} is empty: unset it, or give it a value");
            Cli::command().error(ErrorKind::InvalidValue, problem)
        }
        _ => error,
    }
}

/// The number of threads that work on requests. One processor is left to the thread that writes to the disk, and to
/// compaction. With two workers on two processors, they would wake each other for every request, which costs more than it
/// gains.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().saturating_sub(1).max(1))
}

async fn dispatch(Cli { mut global, command }: Cli) -> Result<Exit, CliError> {
    if command.asks_a_node() {
        global.complete()?;
    }
    match command {
        Command::Serve(serve) => serve.run().await,
        Command::Dev(dev) => dev.run(&global).await,
        Command::Get(get) => get.run(&global).await,
        Command::Set(set) => set.run(&global).await,
        Command::Delete(delete) => delete.run(&global).await,
        Command::Add(add) => add.run(&global).await,
        Command::List(list) => list.run(&global).await,
        Command::Watch(watch) => watch.run(&global).await,
        Command::Tables(tables) => tables.run(&global).await,
        Command::Export(export) => export.run(&global).await,
        Command::Import(import) => import.run(&global).await,
        Command::Backup(backup) => backup.run(&global).await,
        Command::Status(status) => status.run(&global).await,
        Command::Top(top) => top.run(&global).await,
        Command::Check(check) => check.run(&global).await,
        Command::Repair(repair) => repair.run(&global).await,
        Command::Members(members) => members.run(&global).await,
        Command::Token(token) => token.run(&global).await,
        Command::Locate(locate) => locate.run(&global).await,
        Command::Debug(debug::Debug::Bundle(bundle)) => bundle.run(&global).await,
        Command::Bench(bench) => bench.run(&global).await,
        Command::Ca(ca) => ca.run(&global),
        Command::Context(context) => context.run(&global),
        Command::Config(Config::Check(check)) => check.run(&global),
        Command::Config(Config::Reference) => config_reference::run(),
        Command::Shell(shell) => shell.run(&global).await,
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    }
}

/// A time to live.
fn time_to_live(text: &str) -> Result<Duration, String> {
    let accepted = || "1ms to 3650d is accepted, such as 500ms, 30s, 15m, 12h or 7d".to_owned();
    let (number, unit_seconds) = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .unwrap_or((text, 1.0));
    let seconds = number.trim().parse::<f64>().map_err(|_| accepted())? * unit_seconds;
    let ttl = Duration::try_from_secs_f64(seconds).map_err(|_| accepted())?;
    if (Duration::from_millis(1)..=Ttl::MAX).contains(&ttl) { Ok(ttl) } else { Err(accepted()) }
}

/// A version on the command line.
fn version(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty: give a version as `quorate get KEY --json` prints it".to_owned());
    }
    Ok(text.to_owned())
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
            assert!(help.contains("EXAMPLES:"), "{}", command.get_name());
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
    fn times_to_live_are_bounded_and_in_units() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("2", 2_000), ("1.5m", 90_000), ("3650d", 315_360_000_000)]
        {
            assert_eq!(time_to_live(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "0.1ms", "-1s", "3651d", "1y", "nan", "inf", "s"] {
            assert!(time_to_live(text).unwrap_err().contains("such as 500ms"), "{text}");
        }
    }

    #[test]
    fn addresses_come_from_repeats_and_commas() {
        let parse = |line: &str| parse(line.split(' ').map(OsString::from)).unwrap().global.address;
        assert_eq!(parse("quorate --address a:1 --address b:2,c:3 status"), ["a:1", "b:2", "c:3"]);
        assert_eq!(parse("quorate get k --address a:1"), ["a:1"]);
    }

    #[test]
    fn bad_address_names_its_origin() {
        for (given, origin, parts) in [
            (&["a:1", ""][..], AddressOrigin::Variable, ["QUORATE_ADDRESS", "remove a comma"]),
            (&[""], AddressOrigin::Variable, ["QUORATE_ADDRESS is empty", "unset it"]),
            (&[" "], AddressOrigin::Option, ["--address is empty", "HOST:PORT"]),
            (&["a:1", "b"], AddressOrigin::Option, ["--address: address \"b\"", "port is missing"]),
        ] {
            let address = given.iter().map(|address| (*address).to_owned()).collect();
            let (timeout, security) = (Duration::from_secs(1), Security::default());
            let global = Global { address, json: false, timeout, security, address_origin: origin, shell: None };
            let error = global.addresses().unwrap_err();
            assert_eq!(error.exit, Exit::BadInput);
            assert!(parts.iter().all(|part| error.message.contains(part)), "{error}");
        }
    }

    #[test]
    fn each_error_has_its_exit_code_and_says_what_to_do() {
        let node = |said: Option<FailureReason>, code| NodeFailure {
            address: "n1:8001".into(),
            message: "Connection refused (os error 111)".into(),
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
                ClientError::ConditionFailed { version: "AAxx".into(), has_value: true },
                Exit::ConditionFailed,
                "the key has a value, version AAxx",
            ),
            (ClientError::NotANumber { version: "AAxx".into() }, Exit::BadInput, "no number in decimal"),
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
