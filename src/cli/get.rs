//! `quorate get`: print the value of a key.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value as Json, json};

use super::list::value_on_a_line;
use super::output::{base64, print, print_json, report, say, stamp_json};
use super::tables::InTable;
use super::{CliError, Exit, Global, version};
use crate::backup::line::ttl_json;
use crate::client::{KeyState, Versioned};
use crate::types::{Stamp, Value};

/// Read the value of a key
///
/// Prints the value and nothing else, so that pipes and files get exactly the bytes that were written. Only on a terminal
/// a line end is added. A key without a value prints nothing and ends with code 1.
///
/// With --json it prints the version too, for the conditions of set and delete. An absence has a version as well.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate get greeting
  quorate get logo --output logo.png
  quorate get logo --output - | file -
  quorate get greeting --json | jq -r .version
  quorate get ada --table sessions            from another table than default
  quorate get greeting --one                  from the nearest replica alone: fast, and perhaps old
  quorate get greeting || echo 'there is none'")]
pub(super) struct Get {
    /// The key: 1 to 4,096 bytes of UTF-8
    key: String,
    /// Write the value to this file; - is stdout, and gets the bytes alone even if it is a terminal
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Read what one replica holds: fast, and with no claim about the others; it may be old, and may be a write with a
    /// condition that never succeeds
    #[arg(long)]
    one: bool,
    /// As --one, if what that replica holds is of this version or later; else read the latest value
    #[arg(long, value_name = "VERSION", value_parser = version)]
    at_least: Option<String>,
    #[command(flatten)]
    table: InTable,
}

impl Get {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let to_stdout = self.output.as_deref() == Some(Path::new("-"));
        if to_stdout && global.json {
            return Err(CliError::bad_input("--json and --output - both write to stdout: give one of the two"));
        }
        let mut get = self.table.client(global)?.get(&self.key);
        if self.one {
            get = get.from_one_replica();
        }
        if let Some(version) = self.at_least {
            get = get.at_least(version);
        }
        let KeyState { found, version, stamp } = get.state().await?;
        // In a shell whose output is read by a program, each answer is a line.
        let is_for_script = global.shell.is_some() && self.output.is_none() && !std::io::stdout().is_terminal();
        let Some(found) = found else {
            if global.json {
                print_json(&absent_as_json(&self.key, &version, stamp.as_ref()))?;
            } else if is_for_script {
                print(b"\n")?;
            }
            say(&format!("key {:?} has no value", self.key));
            return Ok(Exit::NotFound);
        };
        match &self.output {
            Some(_) if to_stdout => print(found.value.bytes())?,
            Some(file) => {
                std::fs::write(file, found.value.bytes())
                    .map_err(|error| CliError::bad_input(format!("{}: cannot be written: {error}", file.display())))?;
                if global.json {
                    let done = format!("the value is in {}", file.display());
                    report(&format!("{}\n", as_json(&self.key, &found, false)), &done);
                }
            }
            None if global.json => print_json(&as_json(&self.key, &found, true))?,
            None if is_for_script => print((value_on_a_line(&found.value) + "\n").as_bytes())?,
            None => print(&as_text(&found.value, std::io::stdout().is_terminal())?)?,
        }
        Ok(Exit::Done)
    }
}

/// The bytes to print. On a terminal they end with a line end, and control characters, which could garble it, are refused.
fn as_text(value: &Value, on_terminal: bool) -> Result<Vec<u8>, CliError> {
    let mut bytes = value.bytes().to_vec();
    if !on_terminal {
        return Ok(bytes);
    }
    let printable = |text: &str| text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace());
    if !std::str::from_utf8(&bytes).is_ok_and(printable) {
        let problem = format!("a terminal cannot show all of the value's {} bytes", bytes.len());
        return Err(CliError::bad_input(format!("{problem}: use --output FILE, --json or a pipe")));
    }
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn absent_as_json(key: &str, version: &str, stamp: Option<&Stamp>) -> Json {
    let mut json = json!({ "key": key, "version": version });
    if let Some(stamp) = stamp {
        json["clock"] = stamp_json(stamp);
    }
    json
}

fn as_json(key: &str, found: &Versioned, with_value: bool) -> Json {
    let mut json = absent_as_json(key, &found.version, found.stamp.as_ref());
    if let Some(ttl) = found.ttl {
        json["ttl_ms"] = ttl_json(ttl);
    }
    if with_value {
        match &found.value {
            Value::Text(bytes) => json["value"] = json!(String::from_utf8_lossy(bytes)),
            Value::Binary(bytes) => json["binary"] = json!(base64(bytes)),
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::{Clock, NodeId};

    #[test]
    fn pipe_gets_the_bytes_alone_and_a_terminal_a_line_end() {
        for (value, piped, shown) in [
            (Value::from("text"), "text", "text\n"),
            (Value::from("line\n"), "line\n", "line\n"),
            (Value::from(""), "", ""),
            (Value::from("雪\tx"), "雪\tx", "雪\tx\n"),
            (Value::from(b"abc".as_slice()), "abc", "abc\n"),
        ] {
            assert_eq!(as_text(&value, false).unwrap(), piped.as_bytes());
            assert_eq!(as_text(&value, true).unwrap(), shown.as_bytes());
        }
    }

    #[test]
    fn terminal_is_spared_what_would_garble_it() {
        for bytes in [vec![0xff, 0xfe], b"\x1b[2J".to_vec(), vec![0]] {
            let value = Value::from(bytes.clone());
            assert_eq!(as_text(&value, false).unwrap(), bytes);
            let error = as_text(&value, true).unwrap_err();
            assert!(error.exit == Exit::BadInput && error.message.contains("--output"), "{error}");
        }
    }

    #[test]
    fn json_keeps_the_arm_and_bears_version_and_stamp() {
        let stamp = Stamp { clock: Clock { epoch: 3, counter: 9 }, writer: NodeId::new("2").unwrap() };
        let text = Versioned { value: Value::from("v\""), version: "AA".into(), ttl: None, stamp: Some(stamp) };
        let expected = r#"{"clock":{"clock":9,"epoch":3,"node":"2"},"key":"k","value":"v\"","version":"AA"}"#;
        assert_eq!(as_json("k", &text, true).to_string(), expected);
        let ttl = Some(Duration::from_micros(1_001));
        let binary = Versioned { value: Value::from(vec![255]), version: "AA".into(), ttl, stamp: None };
        assert_eq!(as_json("k", &binary, true), json!({ "key": "k", "binary": "/w==", "version": "AA", "ttl_ms": 2 }));
        assert_eq!(as_json("k", &binary, false).get("binary"), None);
        assert_eq!(absent_as_json("k", "AA", None), json!({ "key": "k", "version": "AA" }));
    }
}
