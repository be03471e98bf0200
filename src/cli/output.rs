//! The one place where commands print.
//!
//! Invariant: no print panics, and no failed print changes what a command says it did. A full disk or a closed pipe behind
//! stdout ends a command that only prints with [`Exit::NotDone`](super::Exit). After a write it is a line on stderr: the
//! write is done, and stays done. A failed write to stderr is ignored, because nobody is left to tell.
//!
//! The lints `print_stdout` and `print_stderr` keep the standard library's macros, which panic, out of the rest.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use serde_json::{Value as Json, json};

use super::CliError;
use crate::client::{Acknowledged, Added, ClientError};
use crate::types::Stamp;

/// Writes `bytes` to stdout, for a command whose purpose is to print them. A reader that has seen enough and closed the
/// pipe, as `head` does, is no error.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn print(bytes: &[u8]) -> Result<(), CliError> {
    match write(bytes) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::not_done(format!("stdout cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes `bytes` to stdout at once.
///
/// # Errors
/// When stdout cannot be written, a closed pipe included.
pub(super) fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Prints `json` on a line of its own.
///
/// # Errors
/// As [`print`].
pub(super) fn print_json(json: &Json) -> Result<(), CliError> {
    print(format!("{json}\n").as_bytes())
}

/// Prints the report of an effect that is done, such as a write. It cannot fail, because a lost report does not undo the
/// effect. If stdout cannot be written, `done` says on stderr that the effect is done.
pub(super) fn report(text: &str, done: &str) {
    match write(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            say(&format!("{done}; only the report of it is lost: stdout cannot be written: {error}"));
        }
        _ => {}
    }
}

/// Prints the report of a write: its stamp, or its version if it had a condition, because the next one needs that.
pub(super) fn report_write(key: &str, written: &Acknowledged, has_condition: bool, as_json: bool) {
    let Acknowledged { version, stamp } = written;
    let (name, text) = match stamp {
        Some(stamp) if !has_condition => ("stamp", stamp.to_string()),
        _ => ("version", version.clone()),
    };
    let shown = if as_json {
        let mut json = json!({ "key": key, "version": version });
        if let Some(stamp) = stamp {
            json["clock"] = stamp_json(stamp);
        }
        json.to_string()
    } else {
        text.clone()
    };
    report(&format!("{shown}\n"), &format!("done, with {name} {text}"));
}

/// Prints the report of an addition: the sum alone.
pub(super) fn report_added(key: &str, added: &Added, as_json: bool) {
    let Added { value, version } = added;
    let shown =
        if as_json { json!({ "key": key, "value": value, "version": version }).to_string() } else { value.to_string() };
    report(&format!("{shown}\n"), &format!("done, and the sum is {value}"));
}

/// The error of a write of `key`. Where JSON is asked for, one that tells the present version is printed on stdout too.
pub(super) fn write_failed(key: &str, error: ClientError, as_json: bool) -> CliError {
    let json = match &error {
        ClientError::ConditionFailed { version, has_value } => {
            json!({ "key": key, "error": "CONDITION_FAILED", "version": version, "has_value": has_value })
        }
        ClientError::NotANumber { version } => json!({ "key": key, "error": "NOT_A_NUMBER", "version": version }),
        _ => return error.into(),
    };
    if as_json {
        report(&format!("{json}\n"), "certainly not done");
    }
    error.into()
}

/// Says something on stderr, in a line that begins with the program's name.
pub(super) fn say(message: &str) {
    // One write, so that lines of several processes do not mix. Nobody can be told that it failed.
    let _ = std::io::stderr().lock().write_all(format!("quorate: {message}\n").as_bytes());
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Whether lines on stderr may be coloured: it is a terminal, and neither `NO_COLOR` (no-color.org) nor `TERM=dumb` is set.
pub(super) fn stderr_has_colours() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A stamp, with the names that api.proto gives its parts.
pub(super) fn stamp_json(stamp: &Stamp) -> Json {
    json!({ "epoch": stamp.clock.epoch, "clock": stamp.clock.counter, "node": stamp.writer.as_str() })
}

/// Base64 with padding, as proto3's JSON writes bytes.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
