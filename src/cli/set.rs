//! `quorate set`: a value from the command line, a file or stdin.

use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::report_write;
use super::{CliError, Exit, Global};
use crate::limits::VALUE_BYTES_MAX;
use crate::types::Value;

/// Write the value of a key
///
/// Takes the value from the command line, from a file or from stdin: up to 60 MiB. Bytes that are UTF-8 are written as
/// text, others as binary. Prints the stamp of the write: a majority of the key's replicas then has the value on disk.
///
/// An empty stdin is refused, because it is most often a value that was forgotten. Give '' or --file - to write an empty
/// value.
///
/// Exit code 3: certainly not written. Exit code 4: perhaps written; read the key to find out.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate set greeting hello
  quorate set logo --file logo.png
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
}

impl Set {
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
        let stamp = global.client()?.set(&self.key, as_value(bytes, self.binary)).await?;
        report_write(&self.key, &stamp, global.json);
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
