//! `quorate set`: a value from the command line, a file or stdin.

use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::output::{report_write, write_failed};
use super::tables::InTable;
use super::{CliError, Exit, Global, time_to_live, version};
use crate::limits::VALUE_BYTES_MAX;
use crate::types::Value;

/// Write the value of a key
///
/// Takes the value from the command line, from a file or from stdin: up to 60 MiB. Bytes that are UTF-8 are written as
/// text, others as binary. Prints the stamp of the write; with a condition, the version that it made. A majority of the
/// key's replicas then has the value on disk.
///
/// An empty stdin is refused, because it is most often a value that was forgotten. Give '' or --file - to write an empty
/// value.
///
/// Exit code 3: certainly not written. Exit code 4: perhaps written; read the key to find out. Exit code 5: not written,
/// because the condition does not hold; the key's present version is on stderr.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate set greeting hello
  quorate set logo --file logo.png
  quorate set lock me --if-absent --ttl 30s   exit code 5 if another one has it
  quorate set lock me --if-version \"$VERSION\" --ttl 30s
  quorate set ada online --table sessions     in another table than default
  date | quorate set now                      from stdin, the line end included
  quorate set flag ''                         an empty value
  quorate set offset -- -5                    a value that begins with a hyphen")]
pub(super) struct Set {
    /// The key: 1 to 4,096 bytes of UTF-8
    key: String,
    /// The value; without it, stdin is read
    value: Option<String>,
    /// Read the value from this file; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// Write the value as binary even if it is UTF-8
    #[arg(long)]
    binary: bool,
    /// Write only if the key has no value
    #[arg(long, conflicts_with_all = ["if_present", "if_version"])]
    if_absent: bool,
    /// Write only if the key has a value
    #[arg(long, conflicts_with = "if_version")]
    if_present: bool,
    /// Write only if the key has this version, as get, set and add print it with --json
    #[arg(long, value_name = "VERSION", value_parser = version)]
    if_version: Option<String>,
    /// How long the value is kept, such as 30s, 15m or 7d; without it, for ever
    #[arg(long, value_name = "DURATION", value_parser = time_to_live, allow_hyphen_values = true)]
    ttl: Option<Duration>,
    #[command(flatten)]
    table: InTable,
}

impl Set {
    /// Whether the value is to come from stdin.
    pub(super) fn takes_stdin(&self) -> bool {
        self.value.is_none() && self.file.as_deref().is_none_or(|file| file == Path::new("-"))
    }

    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let bytes = match (self.value, self.file) {
            (Some(value), _) => value.into_bytes(),
            (None, Some(file)) if file != Path::new("-") => {
                let opened = std::fs::File::open(&file)
                    .map_err(|error| CliError::bad_input(format!("{}: cannot be opened: {error}", file.display())))?;
                read_value(opened, &file.display().to_string())?
            }
            (None, None) if std::io::stdin().is_terminal() => {
                return Err(CliError::bad_input("no value is given: add it, or name a --file, or pipe it in"));
            }
            (None, file) => {
                let bytes = read_value(std::io::stdin().lock(), "stdin")?;
                if bytes.is_empty() && file.is_none() {
                    return Err(CliError::bad_input(format!(
                        "no value is given for key {:?}, and stdin is empty; nothing was written (to write an empty \
                         value, give '' or --file -)",
                        self.key
                    )));
                }
                bytes
            }
        };
        let mut set = self.table.client(global)?.set(&self.key, as_value(bytes, self.binary));
        let has_condition = self.if_absent || self.if_present || self.if_version.is_some();
        if self.if_absent {
            set = set.if_absent();
        }
        if self.if_present {
            set = set.if_present();
        }
        if let Some(version) = self.if_version {
            set = set.if_version(version);
        }
        if let Some(ttl) = self.ttl {
            set = set.ttl(ttl);
        }
        let written = set.await.map_err(|error| write_failed(&self.key, error, global.json))?;
        report_write(&self.key, &written, has_condition, global.json);
        Ok(Exit::Done)
    }
}

/// Reads all of `source`, but at most what a value may have: an endless pipe must not fill the memory.
fn read_value(source: impl Read, name: &str) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    source
        .take(VALUE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| CliError::bad_input(format!("{name}: cannot be read: {error}")))?;
    if bytes.len() > VALUE_BYTES_MAX {
        let problem = format!("{name}: more than {VALUE_BYTES_MAX} bytes; a value may have at most that many");
        return Err(CliError::bad_input(problem));
    }
    Ok(bytes)
}

fn as_value(bytes: Vec<u8>, binary: bool) -> Value {
    if binary {
        return Value::from(bytes);
    }
    String::from_utf8(bytes).map_or_else(|error| Value::from(error.into_bytes()), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_is_text_and_the_rest_is_binary() {
        assert_eq!(as_value(b"hello\n".to_vec(), false), Value::from("hello\n"));
        assert_eq!(as_value(b"hello".to_vec(), true), Value::from(b"hello".as_slice()));
        assert_eq!(as_value(vec![0xff], false), Value::from(vec![0xff]));
    }

    #[test]
    fn endless_source_is_refused_at_the_limit() {
        let error = read_value(std::io::repeat(7), "stdin").unwrap_err();
        assert!(error.exit == Exit::BadInput && error.message.contains("stdin"), "{error}");
        assert_eq!(read_value(&b"abc"[..], "stdin").unwrap(), b"abc");
    }
}
