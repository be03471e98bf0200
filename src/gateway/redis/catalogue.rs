//! The table of commands as others read it: COMMAND for clients, and docs/redis.md for people.

use std::fmt::Write as _;

use bytes::Bytes;

use super::command::{is_word, wrong_count};
use super::reply::Reply;
use super::session::unknown_subcommand;
use super::table::{self, Access, COMMANDS, Group, Keys, NOT_SERVED, Spec};

/// The answer to COMMAND.
pub(super) fn answer(arguments: &[Bytes]) -> Reply {
    let specs_of = |names: &[Bytes]| -> Vec<Option<&'static Spec>> {
        if names.is_empty() {
            COMMANDS.iter().map(Some).collect()
        } else {
            names.iter().map(|name| table::find(name)).collect()
        }
    };
    match arguments {
        [] => Reply::Array(COMMANDS.iter().map(described).collect()),
        [word] if is_word(word, "count") => Reply::count(COMMANDS.len()),
        [word] if is_word(word, "list") => Reply::Array(COMMANDS.iter().map(|spec| Reply::word(spec.name)).collect()),
        [word, _, ..] if is_word(word, "count") => Reply::Error(wrong_count("command|count")),
        [word, names @ ..] if is_word(word, "info") => {
            Reply::Array(specs_of(names).into_iter().map(|spec| spec.map_or(Reply::Nil, described)).collect())
        }
        [word, names @ ..] if is_word(word, "docs") => {
            let found = specs_of(names).into_iter().flatten();
            Reply::Map(found.map(|spec| (Reply::word(spec.name), documented(spec))).collect())
        }
        [word, ..] => unknown_subcommand("COMMAND", word),
    }
}

/// A command as COMMAND and COMMAND INFO have it.
fn described(spec: &'static Spec) -> Reply {
    let (first, last, step) = spec.key_range();
    let flags: &[&'static str] = match spec.access {
        Access::Read => &["readonly"],
        Access::Write => &["write"],
        Access::Neither => &["loading", "stale", "fast"],
        Access::Open => &["loading", "stale", "fast", "no_auth"],
    };
    let categories: &[&'static str] = match (spec.access, spec.group) {
        (Access::Read, Group::String) => &["@read", "@string"],
        (Access::Read, _) => &["@keyspace", "@read"],
        (Access::Write, Group::String) => &["@write", "@string"],
        (Access::Write, _) => &["@keyspace", "@write"],
        (Access::Neither | Access::Open, _) => &["@fast", "@connection"],
    };
    let lines = |words: &[&'static str]| words.iter().copied().map(Reply::Line).collect();
    Reply::Array(vec![
        Reply::word(spec.name),
        Reply::Number(spec.arity),
        Reply::Set(lines(flags)),
        Reply::Number(first),
        Reply::Number(last),
        Reply::Number(step),
        Reply::Set(lines(categories)),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

/// A command as COMMAND DOCS has it.
fn documented(spec: &'static Spec) -> Reply {
    let group = match spec.group {
        Group::String => "string",
        Group::Generic => "generic",
        Group::Connection => "connection",
        Group::Server => "server",
    };
    let summary = if spec.differs.is_empty() {
        spec.summary.to_owned()
    } else {
        format!("{} Not as in Redis: {}.", spec.summary, spec.differs)
    };
    Reply::Map(vec![
        (Reply::word("summary"), Reply::text(summary)),
        (Reply::word("since"), Reply::word(spec.since)),
        (Reply::word("group"), Reply::word(group)),
    ])
}

/// The commands that are served, as a table in Markdown: for docs/redis.md.
#[must_use]
pub fn served_table() -> String {
    let mut text = "| command | what it does | differs from Redis |\n|---|---|---|\n".to_owned();
    for spec in &COMMANDS {
        let name = spec.name.to_uppercase();
        let differs = if spec.differs.is_empty() { "" } else { spec.differs };
        let keys = if spec.keys == Keys::Pairs { " (pairs)" } else { "" };
        let _ = writeln!(text, "| `{name}`{keys} | {} | {differs} |", spec.summary);
    }
    text
}

/// The commands that are not served, as a table in Markdown: for docs/redis.md.
#[must_use]
pub fn not_served_table() -> String {
    let mut text = "| commands | why not, and what to do |\n|---|---|\n".to_owned();
    for refused in &NOT_SERVED {
        let names: Vec<String> = refused.names.split(' ').map(str::to_uppercase).collect();
        let _ = writeln!(text, "| {} | {} |", names.join(", "), refused.why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_the_tables_of_the_code() {
        let page = include_str!("../../../docs/redis.md");
        for table in [served_table(), not_served_table()] {
            assert!(page.contains(&table), "docs/redis.md lacks this table:\n{table}");
        }
    }

    #[test]
    fn commands_are_described_as_clients_ask() {
        let words = |text: &str| -> Vec<Bytes> { text.split(' ').map(|word| Bytes::from(word.to_owned())).collect() };
        let shown = |text: &str| format!("{:?}", answer(&words(text)));
        assert!(matches!(answer(&[]), Reply::Array(commands) if commands.len() == COMMANDS.len()));
        assert_eq!(shown("COUNT"), format!("Number({})", COMMANDS.len()));
        assert!(shown("info GET steal").ends_with("Nil])"));
        assert!(shown("docs get").contains("Reads a value."));
        assert!(shown("steal").contains("unknown subcommand 'steal'. Try COMMAND HELP."));
    }
}
