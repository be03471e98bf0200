//! What commands print has in common.

use std::io::{ErrorKind, Write as _};

use serde_json::{Value as Json, json};

use super::CliError;
use crate::types::Stamp;

/// Writes `bytes` to stdout. A reader that has seen enough and closed the pipe, as `head` does, is no error.
pub(super) fn print(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::not_done(format!("stdout cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints `json` on a line of its own.
pub(super) fn print_json(json: &Json) -> Result<(), CliError> {
    print(format!("{json}\n").as_bytes())
}

/// What a write prints: its stamp.
pub(super) fn print_write(key: &str, stamp: &Stamp, as_json: bool) -> Result<(), CliError> {
    if as_json {
        return print_json(&json!({ "key": key, "clock": stamp_json(stamp) }));
    }
    print(format!("{stamp}\n").as_bytes())
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
