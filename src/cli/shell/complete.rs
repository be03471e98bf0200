//! What can follow in a line of the shell: commands, options and their values, tables, keys; and hints.

use std::borrow::Cow;
use std::time::Duration;

use clap::{Command, CommandFactory as _};
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use tokio::runtime::Handle;

use super::super::Cli;
use super::words::{before_cursor, quoted};
use super::{COMMANDS, END};
use crate::client::Client;
use crate::types::DEFAULT_TABLE;

/// How long a node is waited for. The person who pressed the key waits meanwhile.
const ASK_TIME_MAX: Duration = Duration::from_millis(500);
/// The most keys that are offered.
const KEYS_MAX: u64 = 50;

/// What belongs at a place in the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One of these.
    Words(Vec<String>),
    /// A table.
    Table,
    /// A key of this table, or the beginning of one.
    Key {
        table: String,
    },
    Nothing,
}

/// What completes and hints.
pub(super) struct Assistant {
    root: Command,
    client: Client,
    runtime: Handle,
    history: HistoryHinter,
}

impl Assistant {
    pub(super) fn new(client: &Client, runtime: Handle) -> Self {
        Self { root: commands(), client: client.with_deadline(ASK_TIME_MAX), runtime, history: HistoryHinter {} }
    }

    fn candidates(&self, wanted: Wanted, begun: &str) -> Vec<String> {
        let all = match wanted {
            Wanted::Words(words) => words,
            Wanted::Table => self.tables(),
            Wanted::Key { table } => self.keys(&table, begun),
            Wanted::Nothing => Vec::new(),
        };
        all.into_iter().filter(|word| word.starts_with(begun)).collect()
    }

    /// Nobody waits for a cluster that does not answer: then nothing is offered.
    fn tables(&self) -> Vec<String> {
        let answer = self.runtime.block_on(self.client.tables().list());
        answer.map_or_else(|_| Vec::new(), |tables| tables.into_iter().map(|table| table.name).collect())
    }

    fn keys(&self, table: &str, begun: &str) -> Vec<String> {
        let listing = self.client.table(table).list(begun).limit(KEYS_MAX);
        let answer = self.runtime.block_on(async { tokio::time::timeout(ASK_TIME_MAX, listing.collect()).await });
        match answer {
            Ok(Ok(listed)) => listed.into_iter().map(|listed| listed.key).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

/// The commands of the shell, with the options that all have.
pub(super) fn commands() -> Command {
    let mut root = Cli::command();
    root.build();
    root
}

/// What belongs after `words`, where `begun` is typed already.
pub(super) fn wanted(root: &Command, words: &[String], begun: &str) -> Wanted {
    let words = if words.first().is_some_and(|word| word == "quorate") { &words[1..] } else { words };
    let (mut command, mut places, mut table) = (root, 0, DEFAULT_TABLE.to_owned());
    let mut option = None;
    for (at, word) in words.iter().enumerate() {
        if word == "--" {
            return Wanted::Nothing;
        }
        if let Some(name) = option.take() {
            if name == "table" {
                table.clone_from(word);
            }
        } else if let Some(long) = word.strip_prefix("--") {
            match long.split_once('=') {
                Some(("table", value)) => value.clone_into(&mut table),
                Some(_) => {}
                None => option = takes_value(command, long).then_some(long),
            }
        } else if let Some(below) = command.find_subcommand(word) {
            if at == 0 && !COMMANDS.contains(&below.get_name()) {
                return Wanted::Nothing;
            }
            command = below;
        } else if places == 0 && std::ptr::eq(command, root) {
            return Wanted::Nothing;
        } else {
            places += 1;
        }
    }
    match option {
        Some("table") => return Wanted::Table,
        Some(name) => {
            let of_option = command.get_arguments().find(|argument| argument.get_long() == Some(name));
            let values = of_option.map(clap::Arg::get_possible_values).unwrap_or_default();
            return Wanted::Words(values.iter().map(|value| value.get_name().to_owned()).collect());
        }
        None => {}
    }
    if begun.starts_with('-') {
        let longs = command.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(clap::Arg::get_long);
        return Wanted::Words(longs.map(|long| format!("--{long}")).collect());
    }
    if std::ptr::eq(command, root) {
        let names = COMMANDS.iter().chain(&END).map(|name| (*name).to_owned());
        return Wanted::Words(names.chain(["help".to_owned()]).collect());
    }
    if places == 0 && command.has_subcommands() {
        return Wanted::Words(command.get_subcommands().map(|below| below.get_name().to_owned()).collect());
    }
    let Some(place) = command.get_positionals().nth(places).or_else(|| command.get_positionals().last()) else {
        return Wanted::Nothing;
    };
    let may_repeat = place.get_num_args().is_some_and(|range| range.max_values() > 1);
    match place.get_id().as_str() {
        _ if places >= command.get_positionals().count() && !may_repeat => Wanted::Nothing,
        "key" | "keys" | "prefix" => Wanted::Key { table },
        "name" if words.first().is_some_and(|word| word == "tables") && command.get_name() != "create" => Wanted::Table,
        _ => Wanted::Nothing,
    }
}

fn takes_value(command: &Command, long: &str) -> bool {
    let argument = command.get_arguments().find(|argument| argument.get_long() == Some(long));
    argument.is_some_and(|argument| argument.get_action().takes_values())
}

/// What a command takes, such as ` <KEY> [VALUE]`.
pub(super) fn usage(root: &Command, words: &[String]) -> Option<String> {
    let (name, below) = words.split_first()?;
    let mut command = root.find_subcommand(name).filter(|command| COMMANDS.contains(&command.get_name()))?;
    for word in below {
        command = command.find_subcommand(word)?;
    }
    let usage = command.clone().render_usage().to_string();
    let line = usage.lines().next()?;
    let (_, taken) = line.split_once(command.get_name())?;
    let taken = taken.replace("[OPTIONS]", "").trim().to_owned();
    (!taken.is_empty()).then_some(taken)
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (words, open) = before_cursor(&line[..pos]);
        let wanted = wanted(&self.root, &words, &open.word);
        let is_key = matches!(wanted, Wanted::Key { .. });
        let pair = |word: String| {
            let typed = quoted(&word, open.quote);
            // A key may go on, as a prefix does; any other word has ended.
            let replacement = if is_key || open.quote.is_some() { typed } else { typed + " " };
            Pair { display: word, replacement }
        };
        Ok((open.start, self.candidates(wanted, &open.word).into_iter().map(pair).collect()))
    }
}

impl Hinter for Assistant {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, context: &Context<'_>) -> Option<String> {
        if pos < line.len() {
            return None;
        }
        let (words, open) = before_cursor(line);
        if line.ends_with(' ') && open.word.is_empty() && open.quote.is_none() {
            return usage(&self.root, &words);
        }
        self.history.hint(line, pos, context)
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            return Cow::Borrowed(hint);
        }
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Validator for Assistant {}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> Wanted {
        let (words, open) = before_cursor(line);
        wanted(&commands(), &words, &open.word)
    }

    fn has(line: &str, word: &str) -> bool {
        matches!(at(line), Wanted::Words(words) if words.iter().any(|found| found == word))
    }

    #[test]
    fn commands_options_and_their_values_are_offered() {
        assert!(has("", "get") && has("q", "quit") && has("", "tables") && has("", "top"));
        assert!(!has("", "serve") && !has("", "shell"), "these do not run in the shell");
        assert!(has("set k v --i", "--if-absent") && has("get k --", "--json"));
        assert!(has("tables ", "create") && has("quorate tables ", "drop"));
        assert_eq!(at("frobnicate "), Wanted::Nothing);
    }

    #[test]
    fn tables_and_keys_are_offered_where_they_belong() {
        let key = |table: &str| Wanted::Key { table: table.to_owned() };
        assert_eq!(at("get a"), key("default"));
        assert_eq!(at("get --table carts a"), key("carts"));
        assert_eq!(at("delete --table=carts "), key("carts"));
        assert_eq!(at("list us"), key("default"));
        assert_eq!(at("get --table "), Wanted::Table);
        assert_eq!(at("tables drop "), Wanted::Table);
        assert_eq!(at("tables create "), Wanted::Nothing);
        assert_eq!(at("set k "), Wanted::Nothing, "a value can be anything");
        assert_eq!(at("watch a -- "), Wanted::Nothing);
    }

    #[test]
    fn usage_says_what_a_command_takes() {
        let of = |words: &[&str]| usage(&commands(), &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["get"]).as_deref(), Some("<KEY>"));
        assert_eq!(of(&["set"]).as_deref(), Some("<KEY> [VALUE]"));
        assert_eq!(of(&["tables", "drop"]).as_deref(), Some("<TABLE>"));
        assert_eq!(of(&["serve"]), None);
    }
}
