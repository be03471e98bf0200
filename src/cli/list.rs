//! `quorate list`: the keys that have a value, in their order.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::output::{base64, print, print_json, write};
use super::tables::InTable;
use super::{CliError, Exit, Global};
use crate::backup::line::as_json;
use crate::client::Listed;
use crate::types::Value;

/// How many bytes of lines are printed at once.
const PRINTED_BYTES: usize = 64 << 10;

/// List the keys that have a value
///
/// Prints a key a line, in the order of the keys' bytes. Without PREFIX it lists all keys, without --limit as many as there
/// are. A key that contains a control character, or begins with a quotation mark, is printed as a JSON string. An empty list
/// is no error.
///
/// Each key is read linearizably, at some moment of the list: a list is not one moment of the cluster. If a node fails, the
/// list goes on at another one. Exit code 3: no node goes on; what was printed is the beginning of the list.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate list                                all keys
  quorate list user: --limit 20               the first twenty that begin with user:
  quorate list user: --after user:42          those behind it
  quorate list user: --count                  how many there are
  quorate list user: --values                 with a tab and the value
  quorate list --table sessions               the keys of another table than default
  quorate list --json | jq -r .version")]
pub(super) struct List {
    /// List only keys that begin with this
    prefix: Option<String>,
    /// The most keys to list
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Print the values too: a tab and the text, quoted as keys are, or the base64 of other bytes; --json tells which it is
    #[arg(long)]
    values: bool,
    /// List only keys above this one, which need not exist
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    /// Print only how many keys there are
    #[arg(long, conflicts_with = "values")]
    count: bool,
    #[command(flatten)]
    table: InTable,
}

impl List {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let mut list = self.table.client(global)?.list(self.prefix.unwrap_or_default());
        if let Some(limit) = self.limit {
            list = list.limit(limit);
        }
        if let Some(after) = self.after {
            list = list.start_after(after);
        }
        if self.values {
            list = list.values();
        }
        let mut listing = list.stream();
        let (mut count, mut lines) = (0_u64, String::new());
        while let Some(listed) = listing.next().await {
            let listed = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    print(lines.as_bytes())?;
                    return Err(error.into());
                }
            };
            count += 1;
            if self.count {
                continue;
            }
            if global.json {
                let _ = writeln!(lines, "{}", as_json(&listed));
            } else {
                lines.push_str(&as_text(&listed));
            }
            if lines.len() >= PRINTED_BYTES {
                match write(lines.as_bytes()) {
                    // The reader has seen enough, as `head` does.
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
                    Err(error) => return Err(CliError::not_done(format!("stdout cannot be written: {error}"))),
                    Ok(()) => lines.clear(),
                }
            }
        }
        match (self.count, global.json) {
            (false, _) => print(lines.as_bytes())?,
            (true, true) => print_json(&json!({ "count": count }))?,
            (true, false) => print(format!("{count}\n").as_bytes())?,
        }
        Ok(Exit::Done)
    }
}

fn as_text(listed: &Listed) -> String {
    let mut line = on_a_line(&listed.key);
    if let Some(value) = &listed.value {
        line.push('\t');
        line.push_str(&value_on_a_line(value));
    }
    line.push('\n');
    line
}

/// A value without a line end: as a JSON string if it contains control characters, and in base64 if it is no text.
pub(super) fn value_on_a_line(value: &Value) -> String {
    std::str::from_utf8(value.bytes()).map_or_else(|_| base64(value.bytes()), on_a_line)
}

/// A text without characters that a terminal obeys: as it is, or as a JSON string.
pub(super) fn on_a_line(text: &str) -> String {
    if !text.starts_with('"') && !text.chars().any(is_obeyed) {
        return text.to_owned();
    }
    let mut line = String::new();
    for character in json!(text).to_string().chars() {
        if is_obeyed(character) {
            // JSON itself escapes only those below the space.
            let _ = write!(line, "\\u{:04x}", u32::from(character));
        } else {
            line.push(character);
        }
    }
    line
}

/// Whether a terminal or an editor does something else than to show the character: controls, line separators, and changes of
/// the direction of writing. Each is below U+10000.
fn is_obeyed(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn listed(key: &str, value: Option<Value>) -> Listed {
        Listed { key: key.into(), version: "AA".into(), value, ttl: None }
    }

    #[test]
    fn line_holds_one_key_whatever_it_contains() {
        for (key, value, line) in [
            ("user:1", None, "user:1\n"),
            ("雪", None, "雪\n"),
            ("a\nb", None, "\"a\\nb\"\n"),
            ("\"a\"", None, "\"\\\"a\\\"\"\n"),
            ("a\u{7f}\u{9b}\u{202e}b", None, "\"a\\u007f\\u009b\\u202eb\"\n"),
            ("k", Some(Value::from("v w")), "k\tv w\n"),
            ("k", Some(Value::from("v\tw")), "k\t\"v\\tw\"\n"),
            ("k", Some(Value::from(vec![255])), "k\t/w==\n"),
        ] {
            assert_eq!(as_text(&listed(key, value)), line);
        }
    }

    #[test]
    fn json_is_that_of_get() {
        let mut one = listed("k", Some(Value::from("v")));
        one.ttl = Some(Duration::from_millis(1_500));
        assert_eq!(as_json(&one), json!({ "key": "k", "value": "v", "version": "AA", "ttl_ms": 1_500 }));
    }
}
