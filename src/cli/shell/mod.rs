//! `quorate shell`: the commands of the command line, one a line, over one client.
//!
//! Contract: a line is parsed and run as if it were arguments of the program. At a terminal lines are edited, and Ctrl-C ends the
//! command that runs, and not the shell. From a pipe each line is a command, and answers stand in the order of the lines. The
//! exit code is that of the last line that failed.

mod complete;
mod history;
mod words;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Read as _};

use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _};
use rustyline::config::Configurer as _;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::output::{print, say};
use super::{AddressOrigin, Cli, CliError, Command, Exit, Global, dispatch};
use crate::client::Client;
use crate::limits::VALUE_BYTES_MAX;
use complete::Assistant;
use history::HistoryFile;

/// The commands that run in the shell. The others wait for signals of their own, or have nothing to do with a cluster.
const COMMANDS: [&str; 12] =
    ["get", "set", "delete", "add", "list", "watch", "tables", "status", "top", "repair", "members", "locate"];
/// The words that list the commands.
const HELP: [&str; 2] = ["help", "--help"];
/// The words that end it.
const END: [&str; 2] = ["exit", "quit"];
/// The longest line: a value, its key and its options.
const LINE_BYTES_MAX: u64 = VALUE_BYTES_MAX as u64 + (1 << 20);
const PROMPT: &str = "quorate> ";

const GREETING: &str = "\
Commands of quorate, one a line, such as: set greeting hello, get greeting, list --values, watch user:
Tab completes commands, options, tables and keys. help lists commands, help set explains one. Ctrl-D ends.";

/// Read commands from the terminal or from stdin
///
/// Takes commands that ask a node, without `quorate` before them: get, set, delete, add, list, watch, tables, status, top, repair,
/// members and locate. Options that are given to the shell hold for all of its commands. Quotes and backslashes work as in a
/// POSIX shell; a line that begins with # is skipped.
///
/// At a terminal, Tab completes commands, options, tables and keys, and lines are remembered from one time to the next. Lines that
/// write a value are not: the file of history has no values. Ctrl-C ends the command that runs.
///
/// From a pipe each line is a command, and answers follow each other. A get prints its value on one line: as `list --values`
/// does it, and an empty line where there is no value. Errors name the line. The exit code is that of the last line that failed.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate shell
  quorate --address n1:8001,n2:8001 shell
  printf 'set a 1\\nadd a 2\\nget a\\n' | quorate shell
  quorate shell --json < commands.txt")]
pub(super) struct Shell {}

/// The client of the shell, for a command in it.
#[derive(Clone, Debug)]
pub(super) struct InShell {
    /// The client, unless the command names other nodes, or how to connect to them.
    pub(super) client: Option<Client>,
}

impl Shell {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let session = Session { client: global.client()?, global: global.clone() };
        if std::io::stdin().is_terminal() { session.converse().await } else { session.read_all().await }
    }
}

/// The state of a shell.
struct Session {
    client: Client,
    global: Global,
}

impl Session {
    /// Takes lines from the terminal until it ends.
    async fn converse(self) -> Result<Exit, CliError> {
        print(format!("{GREETING}\n").as_bytes())?;
        let (lines, mut typed) = mpsc::channel::<String>(1);
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let assistant = Assistant::new(&self.client, Handle::current());
        // The editor blocks its thread while somebody types, and waits while a command runs.
        let editing = tokio::task::spawn_blocking(move || edit(assistant, &lines, &may_go_on));
        while let Some(line) = typed.recv().await {
            tokio::select! {
                _ = self.run(&line, "") => {}
                interrupted = tokio::signal::ctrl_c() => {
                    if let Err(error) = interrupted {
                        say(&format!("cannot listen for Ctrl-C: {error}"));
                    }
                }
            }
            if go_on.send(()).is_err() {
                break;
            }
        }
        editing.await.map_err(|error| CliError::not_done(error.to_string()))?.map(|()| Exit::Done)
    }

    /// Runs the commands of stdin. The exit code is that of the last one that failed.
    async fn read_all(self) -> Result<Exit, CliError> {
        let (lines, mut read) = mpsc::channel::<Result<String, Unusable>>(1);
        // A thread of its own: a read of a pipe cannot be given up. It ends with stdin.
        std::thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            while let Some(line) = next_line(&mut stdin) {
                let is_last = matches!(line, Err(Unusable::Ends(_)));
                if lines.blocking_send(line).is_err() || is_last {
                    return;
                }
            }
        });
        let mut last = Exit::Done;
        let mut number = 0_u64;
        while let Some(line) = read.recv().await {
            number += 1;
            let place = format!("line {number}: ");
            let exit = match line {
                Ok(line) => self.run(&line, &place).await,
                // The next line begins behind it.
                Err(Unusable::NoText) => {
                    say(&format!("{place}it is no UTF-8, and is passed over: use --file FILE for binary values"));
                    Some(Exit::BadInput)
                }
                Err(Unusable::Ends(error)) => {
                    let message = format!("{place}{}; this line and those after it are not run", error.message);
                    return Err(CliError { message, ..error });
                }
            };
            match exit {
                None => break,
                Some(Exit::Done) => {}
                Some(failed) => last = failed,
            }
        }
        Ok(last)
    }

    /// Runs a line. `None` if it ends the shell. Its errors begin with `place`.
    async fn run(&self, line: &str, place: &str) -> Option<Exit> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Some(Exit::Done);
        }
        if END.contains(&line) {
            return None;
        }
        if HELP.contains(&line) {
            // If that fails, nobody is left to tell.
            let _ = print(help().as_bytes());
            return Some(Exit::Done);
        }
        let cli = match self.parse(line) {
            Ok(cli) => cli,
            Err(Unread::Answered) => return Some(Exit::Done),
            Err(Unread::Why(problem)) => {
                say(&format!("{place}{problem}"));
                return Some(Exit::BadInput);
            }
        };
        // The shell is a command of its own, and the future of its commands would contain itself.
        let running: std::pin::Pin<Box<dyn Future<Output = Result<Exit, CliError>> + '_>> = Box::pin(dispatch(cli));
        Some(running.await.unwrap_or_else(|error| {
            say(&format!("{place}{}", error.message));
            error.exit
        }))
    }

    /// The command of a line, with the options of the shell where the line gives none.
    fn parse(&self, line: &str) -> Result<Cli, Unread> {
        let mut words = words::split(line).map_err(Unread::Why)?;
        if words.first().is_some_and(|word| word == "quorate") {
            words.remove(0);
        }
        let arguments = std::iter::once("quorate".to_owned()).chain(words).map(OsString::from);
        let told = |error: clap::Error| {
            if error.use_stderr() {
                return Unread::Why(first_part(&error.to_string()));
            }
            // Help is an answer, and clap sends it to stdout. If that fails, nobody is left to tell.
            let _ = error.print();
            Unread::Answered
        };
        let matches = Cli::command().try_get_matches_from(arguments).map_err(told)?;
        let mut cli = Cli::from_arg_matches(&matches).map_err(|error| told(error.format(&mut Cli::command())))?;
        let name = matches.subcommand_name().unwrap_or_default();
        if !COMMANDS.contains(&name) {
            return Err(Unread::Why(format!("{name} does not run in the shell: run `quorate {name}` outside of it")));
        }
        if takes_stdin(&cli.command) {
            return Err(Unread::Why(
                "stdin has the shell's commands: give the value in the line, or --file FILE".into(),
            ));
        }
        let is_given = |option| matches.value_source(option) == Some(ValueSource::CommandLine);
        let is_secured = ["ca", "cert", "private_key", "token_file", "context"].into_iter().any(is_given);
        if !is_secured {
            cli.global.security = self.global.security.clone();
        }
        if is_given("context") {
            cli.global.address_origin = AddressOrigin::of(&matches);
        } else if !is_given("address") {
            cli.global.address.clone_from(&self.global.address);
            cli.global.address_origin = self.global.address_origin;
        }
        let client = (!is_given("address") && !is_secured).then(|| self.client.clone());
        if !is_given("timeout") {
            cli.global.timeout = self.global.timeout;
        }
        cli.global.json |= self.global.json;
        cli.global.shell = Some(InShell { client });
        Ok(cli)
    }
}

/// Why a line is no command.
enum Unread {
    /// clap has printed its help.
    Answered,
    Why(String),
}

/// Why a line of stdin cannot be used.
#[derive(Debug)]
enum Unusable {
    /// It is no UTF-8.
    NoText,
    /// Nor can the lines after it.
    Ends(CliError),
}

/// What clap says of a mistake, without the usage of the program, which the shell has its own of.
fn first_part(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    let mut said = said.join("; ").replace(":; ", ": ");
    if said.contains("unrecognized subcommand") {
        said += ": help lists the commands";
    }
    said.strip_prefix("error: ").unwrap_or(&said).to_owned()
}

/// The commands of the shell, each with what it does.
fn help() -> String {
    let program = Cli::command();
    let mut text = String::new();
    for name in COMMANDS {
        let about = program.find_subcommand(name).and_then(clap::Command::get_about);
        let _ = writeln!(text, "{name:<10} {}", about.map(ToString::to_string).unwrap_or_default());
    }
    text + "help set explains a command; exit, quit or Ctrl-D ends\n"
}

fn takes_stdin(command: &Command) -> bool {
    matches!(command, Command::Set(set) if set.takes_stdin())
}

/// The next line of `input`; `None` at its end.
fn next_line(input: &mut impl std::io::BufRead) -> Option<Result<String, Unusable>> {
    let mut line = Vec::new();
    let failed = |error| Unusable::Ends(CliError::not_done(format!("stdin cannot be read: {error}")));
    match input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
        Ok(0) => None,
        Ok(read) if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') => {
            let problem = format!("it has more than {LINE_BYTES_MAX} bytes: use --file FILE");
            Some(Err(Unusable::Ends(CliError::bad_input(problem))))
        }
        Ok(_) => Some(String::from_utf8(line).map_err(|_| Unusable::NoText)),
        Err(error) => Some(Err(failed(error))),
    }
}

/// Reads lines from the terminal, until its end or until one ends the shell. After each it waits until the command has ended.
fn edit(
    assistant: Assistant,
    lines: &mpsc::Sender<String>,
    may_go_on: &std::sync::mpsc::Receiver<()>,
) -> Result<(), CliError> {
    let failed = |error: ReadlineError| CliError::not_done(format!("the terminal cannot be read: {error}"));
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(false).build();
    let mut editor = Editor::<Assistant, MemHistory>::with_history(config, MemHistory::new()).map_err(failed)?;
    editor.set_max_history_size(1_000).map_err(failed)?;
    editor.set_helper(Some(assistant));
    let file = HistoryFile::of_user();
    match file.read() {
        Ok(before) => {
            for line in before {
                editor.add_history_entry(line).map_err(failed)?;
            }
        }
        Err(problem) => say(&problem),
    }
    let mut is_told = false;
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let typed = line.trim();
        if typed.is_empty() {
            continue;
        }
        if END.contains(&typed) {
            return Ok(());
        }
        editor.add_history_entry(typed).map_err(failed)?;
        if let Err(problem) = file.add(typed)
            && !std::mem::replace(&mut is_told, true)
        {
            say(&problem);
        }
        if lines.blocking_send(line).is_err() || may_go_on.recv().is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_the_shell_are_commands_of_the_program() {
        let program = Cli::command();
        for name in COMMANDS {
            assert!(program.find_subcommand(name).is_some(), "{name}");
        }
    }

    #[test]
    fn lines_are_bounded_and_utf_8() {
        let mut input = &b"get a\nget b"[..];
        assert_eq!(next_line(&mut input).unwrap().unwrap(), "get a\n");
        assert_eq!(next_line(&mut input).unwrap().unwrap(), "get b");
        assert!(next_line(&mut input).is_none());
        assert!(matches!(next_line(&mut &b"\xff\n"[..]), Some(Err(Unusable::NoText))));
        let mut endless = std::io::BufReader::new(std::io::repeat(b'a'));
        let ends = next_line(&mut endless);
        assert!(matches!(&ends, Some(Err(Unusable::Ends(error))) if error.exit == Exit::BadInput), "{ends:?}");
    }

    #[tokio::test]
    async fn line_has_the_options_of_the_shell_unless_it_gives_its_own() {
        let line = ["quorate", "--address", "n1:1,n2:2", "--timeout", "7s", "shell"].map(OsString::from);
        let global = super::super::parse(line).unwrap().global;
        let session = Session { client: global.client().unwrap(), global };
        let cli = session.parse("quorate get 'a b'").unwrap_or_else(|_| panic!("it is a command"));
        assert_eq!((cli.global.address.len(), cli.global.timeout.as_secs(), cli.global.json), (2, 7, false));
        assert!(cli.global.shell.as_ref().is_some_and(|shell| shell.client.is_some()));
        let cli = session.parse("--json get a --address n3:3 --timeout 1s").unwrap_or_else(|_| panic!("it is one"));
        assert_eq!(
            (&cli.global.address[..], cli.global.timeout.as_secs(), cli.global.json),
            (&["n3:3".into()][..], 1, true)
        );
        assert!(cli.global.shell.is_some_and(|shell| shell.client.is_none()));
        for (line, part) in [
            ("foo", "unrecognized subcommand 'foo': help lists the commands"),
            ("serve a b", "outside of it"),
            ("set k", "stdin has"),
            ("get 'a", "quote"),
        ] {
            let problem = match session.parse(line) {
                Err(Unread::Why(problem)) => problem,
                Err(Unread::Answered) => "answered".to_owned(),
                Ok(_) => "accepted".to_owned(),
            };
            assert!(problem.contains(part) && !problem.contains("Usage"), "{line}: {problem}");
        }
        let help = help();
        assert!(help.starts_with("get ") && !help.contains("\nserve "), "{help}");
    }
}
