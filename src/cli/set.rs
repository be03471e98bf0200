//! `quorate set`: a value from the command line, a file or stdin.

use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::print_write;
use super::{CliError, Exit, Global};
use crate::limits::VALUE_BYTES_MAX;
use crate::types::Value;

/// Write the value of a key
///
/// The value is the argument, or what a file or stdin holds, up to 60 MiB. It is written as text if it is UTF-8, else as
/// binary. Prints the stamp that the write was given: once that is there, a majority of the key's replicas has the value
/// on disk. Ends with code 3 if it certainly was not written, with 4 if that is not known.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate set greeting hello
  quorate set logo --file logo.png
  date | quorate set now                      from stdin, the line end included
  quorate set offset -- -5                    a value that begins with a hyphen")]
pub(super) struct Set {
    /// 1 to 4,096 bytes of UTF-8
    key: String,
    /// The value; left out, it is read from stdin
    value: Option<String>,
    /// Read the value from this file; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// Write it as binary even if it is UTF-8
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
            (None, _) => read_value(std::io::stdin().lock(), "stdin")?,
        };
        let stamp = global.client()?.set(&self.key, as_value(bytes, self.binary)).await?;
        print_write(&self.key, &stamp, global.json)?;
        Ok(Exit::Done)
    }
}

/// All of `source`, unless it is more than a value may have: an endless pipe must not fill the memory.
fn read_value(source: impl Read, name: &str) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    source
        .take(VALUE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| CliError::bad_input(format!("{name}: cannot be read: {error}")))?;
    if bytes.len() > VALUE_BYTES_MAX {
        let problem = format!("{name}: more than {VALUE_BYTES_MAX} bytes, which is the most that a value may have");
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
