//! `quorate tables`: create, drop and list tables; and the option `--table` of the commands that work on keys.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::list::on_a_line;
use super::output::{print, print_json, report, say};
use super::{CliError, Exit, Global, time_to_live};
use crate::client::{Client, TableCreated, TableInfo};
use crate::limits::VALUE_BYTES_MAX;
use crate::types::{DEFAULT_TABLE, TableNameError};

/// The table of the keys of a command.
#[derive(Clone, Debug, Args)]
pub(super) struct InTable {
    /// The table of the keys; `quorate tables create` makes one
    #[arg(long, env = "QUORATE_TABLE", value_name = "TABLE", default_value = DEFAULT_TABLE, value_parser = in_table)]
    pub(super) table: String,
}

impl InTable {
    /// A client that is bound to the table.
    pub(super) fn client(&self, global: &Global) -> Result<Client, CliError> {
        Ok(global.client()?.table(&self.table))
    }

    /// The name as it stands in requests: nothing for the default table.
    pub(super) fn in_requests(&self) -> String {
        if self.table == DEFAULT_TABLE { String::new() } else { self.table.clone() }
    }
}

/// Create, drop and list tables, which are sets of keys
///
/// Each key lies in a table: the same key in two tables is two keys. The table `default` is always there. Others are created
/// first, and --table names them, or QUORATE_TABLE, in each command that works on keys.
///
/// Without a subcommand it lists the tables.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate tables                              the tables
  quorate tables create sessions --default-ttl 30m
  quorate set ada online --table sessions
  quorate list --table sessions
  quorate tables get sessions                 its settings
  quorate tables drop sessions --yes          with all of its keys")]
pub(super) struct Tables {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Create),
    Drop(Drop),
    List(List),
    Get(Get),
}

/// Create a table
///
/// Prints `created` once its keys can be written through every node. Of many that create one name at once, one does.
///
/// Exit code 5: a table of this name is there already; nothing was done. With --if-missing that is no error, and prints
/// `already created`; but settings that are given must be the ones of the table.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate tables create carts
  quorate tables create carts --if-missing    in a script that runs each time
  quorate tables create sessions --default-ttl 30m
  quorate tables create thumbnails --value-bytes-max 65536 --quota-bytes 1073741824")]
struct Create {
    /// The name: 1 to 128 bytes of UTF-8 without spaces, control characters and /; names differ by case
    #[arg(value_name = "TABLE", value_parser = name)]
    name: String,
    /// The time to live of values that are written without one, such as 30s, 15m or 7d
    #[arg(long, value_name = "DURATION", value_parser = time_to_live, allow_hyphen_values = true)]
    default_ttl: Option<Duration>,
    /// The greatest value in bytes; without it, 60 MiB
    #[arg(
        long,
        value_name = "BYTES",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u64).range(1..=VALUE_BYTES_MAX as u64),
    )]
    value_bytes_max: Option<u64>,
    /// About how many bytes all keys and values may have together; nodes refuse writes beyond it, within seconds
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..))]
    quota_bytes: Option<u64>,
    /// Do nothing if there is a table of this name with these settings
    #[arg(long)]
    if_missing: bool,
}

/// Drop a table, with all of its keys
///
/// The keys are gone for everybody once it prints `dropped`, however many there are, and cannot be had back. A table of the
/// same name that is created later is empty. The space is given back in the background.
///
/// From a terminal it needs --yes, because nothing undoes it; `quorate export --table TABLE` makes a copy first.
///
/// Exit code 1: there is no such table. Exit code 4: the table may be dropped in part, and its keys cannot be used any more;
/// drop it again.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate export --table sessions --output sessions.jsonl
  quorate tables drop sessions --yes")]
struct Drop {
    /// The table
    #[arg(value_name = "TABLE", value_parser = name)]
    name: String,
    /// Drop it without a question; needed where stdin is a terminal
    #[arg(long)]
    yes: bool,
}

/// List the tables
///
/// Prints a table a line, in the order of their names' bytes: the name, and behind a tab its settings if it has any. `default`
/// is always among them.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate tables list
  quorate tables list | cut -f1
  quorate tables list --json | jq -r .table")]
struct List {}

/// Print the settings of a table
///
/// Exit code 1: there is no such table.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate tables get sessions
  quorate tables get sessions --json
  quorate tables get sessions || quorate tables create sessions")]
struct Get {
    /// The table
    #[arg(value_name = "TABLE", value_parser = name)]
    name: String,
}

impl Tables {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        match self.command.unwrap_or(Command::List(List {})) {
            Command::Create(create) => create.run(global).await,
            Command::Drop(drop) => drop.run(global).await,
            Command::List(List {}) => list(global).await,
            Command::Get(get) => get.run(global).await,
        }
    }
}

impl Create {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let mut create = global.client()?.tables().create(&self.name);
        if let Some(ttl) = self.default_ttl {
            create = create.default_ttl(ttl);
        }
        if let Some(bytes) = self.value_bytes_max {
            create = create.value_bytes_max(bytes);
        }
        if let Some(bytes) = self.quota_bytes {
            create = create.quota_bytes(bytes);
        }
        if self.if_missing {
            create = create.if_missing();
        }
        let TableCreated { table, is_new } = create.await.map_err(CliError::from)?;
        let text = if is_new { "created" } else { "already created" };
        let shown = if global.json {
            let mut json = as_json(&table);
            json["created"] = is_new.into();
            json.to_string()
        } else {
            text.to_owned()
        };
        report(&format!("{shown}\n"), text);
        Ok(Exit::Done)
    }
}

impl Drop {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let name = &self.name;
        if !self.yes && std::io::stdin().is_terminal() {
            return Err(CliError::bad_input(format!(
                "nothing was done: this drops table {name:?} with all of its keys, for everybody and for good; add --yes"
            )));
        }
        global.client()?.tables().drop(name).await.map_err(of_missing)?;
        let shown =
            if global.json { json!({ "table": name, "dropped": true }).to_string() } else { "dropped".to_owned() };
        report(&format!("{shown}\n"), "dropped");
        Ok(Exit::Done)
    }
}

async fn list(global: &Global) -> Result<Exit, CliError> {
    let tables = global.client()?.tables().list().await?;
    let line = |table: &TableInfo| if global.json { format!("{}\n", as_json(table)) } else { as_line(table) };
    print(tables.iter().map(line).collect::<String>().as_bytes())?;
    Ok(Exit::Done)
}

impl Get {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let Some(table) = global.client()?.tables().get(&self.name).await? else {
            say(&format!("there is no table {:?}: quorate tables create {} makes it", self.name, self.name));
            return Ok(Exit::NotFound);
        };
        if global.json {
            print_json(&as_json(&table))?;
        } else {
            print(as_text(&table).as_bytes())?;
        }
        Ok(Exit::Done)
    }
}

/// The error of a command about a table as such: a missing one has an exit code of its own.
fn of_missing(error: crate::client::ClientError) -> CliError {
    let is_missing = matches!(error, crate::client::ClientError::NoSuchTable { .. });
    let error = CliError::from(error);
    if is_missing { CliError { exit: Exit::NotFound, ..error } } else { error }
}

/// The table of keys: from the option, or from the variable, which some shells and containers set to nothing.
fn in_table(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty: give the name of a table, or unset QUORATE_TABLE".to_owned());
    }
    name(text).map_err(|error| error.to_string())
}

/// A table's name on the command line.
fn name(text: &str) -> Result<String, TableNameError> {
    if text.is_empty() {
        return Err(TableNameError::Empty);
    }
    crate::types::Table::parse(text).map(|table| table.as_str().to_owned())
}

/// The settings that a table has, with their names.
fn settings(table: &TableInfo) -> Vec<(&'static str, String)> {
    let given = [
        ("default-ttl", table.default_ttl.map(span)),
        ("value-bytes-max", table.value_bytes_max.map(|bytes| bytes.to_string())),
        ("quota-bytes", table.quota_bytes.map(|bytes| bytes.to_string())),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// A time to live as the option takes it, in the largest unit that has no remainder.
fn span(ttl: Duration) -> String {
    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let (unit, length) = units.into_iter().find(|(_, length)| millis % length == 0).unwrap_or(("ms", 1));
    format!("{}{unit}", millis / length)
}

fn as_line(table: &TableInfo) -> String {
    let mut parts: Vec<String> = settings(table).iter().map(|(name, value)| format!("--{name} {value}")).collect();
    if table.is_dropping {
        parts.insert(0, "dropping".to_owned());
    }
    let name = on_a_line(&table.name);
    if parts.is_empty() { format!("{name}\n") } else { format!("{name}\t{}\n", parts.join(" ")) }
}

fn as_text(table: &TableInfo) -> String {
    let mut text = format!("table: {}\nid: {}\n", on_a_line(&table.name), table.id);
    if table.is_dropping {
        text.push_str("state: dropping\n");
    }
    for (name, value) in settings(table) {
        let _ = writeln!(text, "{name}: {value}");
    }
    text
}

/// A table, as HTTP shows it.
fn as_json(table: &TableInfo) -> Json {
    let mut json = json!({ "table": table.name });
    if table.id > 0 {
        json["id"] = table.id.into();
    }
    if table.is_dropping {
        json["state"] = "dropping".into();
    }
    if let Some(ttl) = table.default_ttl {
        json["default_ttl_ms"] = crate::backup::line::ttl_json(ttl);
    }
    for (field, number) in [("value_bytes_max", table.value_bytes_max), ("quota_bytes", table.quota_bytes)] {
        if let Some(number) = number {
            json[field] = number.into();
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TableInfo {
        TableInfo {
            name: "sessions".into(),
            id: 17,
            is_dropping: false,
            default_ttl: Some(Duration::from_mins(90)),
            value_bytes_max: None,
            quota_bytes: Some(1 << 20),
        }
    }

    #[test]
    fn line_has_the_settings_as_options() {
        assert_eq!(as_line(&table()), "sessions\t--default-ttl 90m --quota-bytes 1048576\n");
        assert_eq!(as_text(&table()), "table: sessions\nid: 17\ndefault-ttl: 90m\nquota-bytes: 1048576\n");
        let expected = json!({ "table": "sessions", "id": 17, "default_ttl_ms": 5_400_000, "quota_bytes": 1 << 20 });
        assert_eq!(as_json(&table()), expected);
        let plain = TableInfo { name: "default".into(), id: 0, default_ttl: None, quota_bytes: None, ..table() };
        assert_eq!((as_line(&plain), as_json(&plain)), ("default\n".to_owned(), json!({ "table": "default" })));
        let dropping = TableInfo { is_dropping: true, ..table() };
        assert!(as_line(&dropping).starts_with("sessions\tdropping --default-ttl"));
    }

    #[test]
    fn span_is_one_that_the_option_takes() {
        for (millis, text) in [(1, "1ms"), (1_500, "1500ms"), (60_000, "1m"), (5_400_000, "90m"), (86_400_000, "1d")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
            assert_eq!(time_to_live(text), Ok(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn names_are_checked_before_anything_is_sent() {
        assert_eq!(name("größe"), Ok("größe".to_owned()));
        assert_eq!(name("default"), Ok("default".to_owned()));
        for text in ["", "a b", "a/b", "a\n"] {
            assert!(name(text).is_err(), "{text:?}");
        }
    }
}
