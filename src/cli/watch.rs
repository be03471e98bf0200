//! `quorate watch`: tell each change of a key or a prefix, or run a command for it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value as Json, json};

use super::list::{on_a_line, value_on_a_line};
use super::output::{base64, say, write};
use super::tables::InTable;
use super::{CliError, Exit, Global};
use crate::client::WatchEvent;
use crate::types::Value;

/// The largest value that a command gets in its environment. Systems refuse variables that are much larger.
const ENVIRONMENT_BYTES_MAX: usize = 64 << 10;

/// Watch the changes of a prefix or a key
///
/// Prints a line for each change, until it is ended: put KEY, deleted KEY. Writes that follow each other quickly may be told
/// as the last of them. If a node fails, the watch goes on at another one; a change may then be told twice.
///
/// A line `ready` says that each write which begins from then on is told. A line `reset` says that changes may have been
/// missed: forget what was told, and begin anew with the next `ready`.
///
/// With --list, the keys that are there come first, each as a put. `ready` follows after the last of them. A copy of the keys
/// that is kept so misses no write. After a `reset` what is there comes again.
///
/// A COMMAND after -- is run for each change, one at a time, in place of a line. Its environment has QUORATE_EVENT (put or
/// deleted), QUORATE_KEY, QUORATE_VERSION, and QUORATE_VALUE if the value is text of up to 64 KiB without a zero byte. The
/// value is on its stdin, whatever it is. It is run for a reset, too, and with --list for ready; these have no key.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate watch user:                         keys that begin with user:
  quorate watch --key config                  one key
  quorate watch user: --list                  the keys that are there, and their changes
  quorate watch '' --table sessions           all keys of another table than default
  quorate watch user: --json                  an object for each event
  quorate watch --key config -- sh -c 'cat > config.new && mv config.new config'")]
pub(super) struct Watch {
    /// Watch the keys that begin with this; '' watches all
    #[arg(required_unless_present = "key")]
    prefix: Option<String>,
    /// Watch this key alone
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    key: Option<String>,
    /// Print the values too
    #[arg(long)]
    values: bool,
    /// Print what is there first
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    table: InTable,
    /// The program to run for each change, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Watch {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let client = self.table.client(global)?;
        let mut watch = match (self.key, self.prefix) {
            (Some(key), _) => client.watch_key(key)?,
            (None, prefix) => client.watch(prefix.unwrap_or_default()),
        };
        if self.values || !self.command.is_empty() {
            watch = watch.values();
        }
        if self.list {
            watch = watch.with_list();
        }
        let mut watching = watch.stream();
        while let Some(event) = watching.next().await {
            let event = event?;
            let is_for_command = self.list || !matches!(event, WatchEvent::Ready);
            if !self.command.is_empty() && is_for_command {
                run(&self.command, event).await?;
                continue;
            }
            let line = if global.json { as_json(&event).to_string() } else { as_text(&event) };
            if !self.command.is_empty() {
                continue;
            }
            match write((line + "\n").as_bytes()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
                Err(error) => return Err(CliError::not_done(format!("stdout cannot be written: {error}"))),
                Ok(()) => {}
            }
        }
        Ok(Exit::Done)
    }
}

/// Runs the command for a change. Its failure is told, and the watch goes on.
async fn run(command: &[String], event: WatchEvent) -> Result<(), CliError> {
    let (program, arguments) = command.split_first().expect("a command has a name");
    let mut child = Command::new(program);
    child.args(arguments).stdin(Stdio::piped());
    for name in ["QUORATE_EVENT", "QUORATE_KEY", "QUORATE_VERSION", "QUORATE_VALUE"] {
        child.env_remove(name);
    }
    child.envs(environment(&event));
    let mut child =
        child.spawn().map_err(|error| CliError::bad_input(format!("{program}: cannot be started: {error}")))?;
    // A thread of its own: the command may take long, and the watch goes on hearing from its node.
    let ended = tokio::task::spawn_blocking(move || {
        if let Some(mut stdin) = child.stdin.take()
            && let WatchEvent::Set { value: Some(value), .. } = event
        {
            // A command need not read it.
            let _ = stdin.write_all(value.bytes());
        }
        child.wait()
    });
    match ended.await {
        Ok(Ok(status)) if !status.success() => say(&format!("{program} ended with {status}; the watch goes on")),
        Ok(Err(error)) => say(&format!("{program}: cannot be waited for: {error}; the watch goes on")),
        Ok(Ok(_)) | Err(_) => {}
    }
    Ok(())
}

fn environment(event: &WatchEvent) -> Vec<(&'static str, String)> {
    let mut environment = Vec::new();
    match event {
        WatchEvent::Set { key, version, value, .. } => {
            environment.push(("QUORATE_EVENT", "put".to_owned()));
            environment.push(("QUORATE_KEY", key.clone()));
            environment.push(("QUORATE_VERSION", version.clone()));
            let text = value.as_ref().filter(|value| value.bytes().len() <= ENVIRONMENT_BYTES_MAX);
            let text = text.and_then(|value| std::str::from_utf8(value.bytes()).ok());
            if let Some(text) = text.filter(|text| !text.contains('\0')) {
                environment.push(("QUORATE_VALUE", text.to_owned()));
            }
        }
        WatchEvent::Deleted { key, version } => {
            environment.push(("QUORATE_EVENT", "deleted".to_owned()));
            environment.push(("QUORATE_KEY", key.clone()));
            environment.push(("QUORATE_VERSION", version.clone()));
        }
        WatchEvent::Ready => environment.push(("QUORATE_EVENT", "ready".to_owned())),
        WatchEvent::Reset => environment.push(("QUORATE_EVENT", "reset".to_owned())),
    }
    // A variable cannot hold a zero byte. A key can.
    environment.retain(|(_, text)| !text.contains('\0'));
    environment
}

fn as_text(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Ready => "ready".to_owned(),
        WatchEvent::Reset => "reset".to_owned(),
        WatchEvent::Deleted { key, .. } => format!("deleted\t{}", on_a_line(key)),
        WatchEvent::Set { key, value: None, .. } => format!("put\t{}", on_a_line(key)),
        WatchEvent::Set { key, value: Some(value), .. } => {
            format!("put\t{}\t{}", on_a_line(key), value_on_a_line(value))
        }
    }
}

fn as_json(event: &WatchEvent) -> Json {
    match event {
        WatchEvent::Ready => json!({ "event": "ready" }),
        WatchEvent::Reset => json!({ "event": "reset" }),
        WatchEvent::Deleted { key, version } => json!({ "event": "deleted", "key": key, "version": version }),
        WatchEvent::Set { key, version, value, ttl } => {
            let mut json = json!({ "event": "put", "key": key, "version": version });
            if let Some(ttl) = ttl {
                json["ttl_ms"] = crate::backup::line::ttl_json(*ttl);
            }
            match value {
                Some(Value::Text(bytes)) => json["value"] = json!(String::from_utf8_lossy(bytes)),
                Some(Value::Binary(bytes)) => json["binary"] = json!(base64(bytes)),
                None => {}
            }
            json
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &[u8]) -> WatchEvent {
        let value = String::from_utf8(value.to_vec()).map_or_else(|_| Value::from(value), Value::from);
        WatchEvent::Set { key: "k".into(), version: "AA".into(), value: Some(value), ttl: None }
    }

    #[test]
    fn event_is_a_line_or_an_object() {
        let deleted = WatchEvent::Deleted { key: "a\tb".into(), version: "AB".into() };
        for (event, line, object) in [
            (WatchEvent::Ready, "ready", json!({ "event": "ready" })),
            (WatchEvent::Reset, "reset", json!({ "event": "reset" })),
            (deleted, "deleted\t\"a\\tb\"", json!({ "event": "deleted", "key": "a\tb", "version": "AB" })),
            (put(b"v"), "put\tk\tv", json!({ "event": "put", "key": "k", "version": "AA", "value": "v" })),
            (put(&[255]), "put\tk\t/w==", json!({ "event": "put", "key": "k", "version": "AA", "binary": "/w==" })),
        ] {
            assert_eq!((as_text(&event).as_str(), as_json(&event)), (line, object));
        }
    }

    #[test]
    fn environment_has_a_value_only_if_a_variable_can_hold_it() {
        let value = |event: &WatchEvent| {
            environment(event).into_iter().find(|(name, _)| *name == "QUORATE_VALUE").map(|(_, text)| text)
        };
        assert_eq!(value(&put(b"v")).as_deref(), Some("v"));
        let long = vec![b'v'; ENVIRONMENT_BYTES_MAX + 1];
        for other in [&[0, 1][..], &[255], &long] {
            assert_eq!(value(&put(other)), None);
        }
    }
}
