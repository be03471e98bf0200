//! Commands that show something again and again, until they are ended.

use std::io::{ErrorKind, IsTerminal as _};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::output::write;
use super::serve::shutdown_on_signal;
use super::{CliError, Exit, Global};

/// Shows what `ask` gives, with a pause of `every` after each, until Ctrl-C or `count` times. A screen is replaced as a whole.
/// Elsewhere each text is followed by an empty line. The exit code is that of the last one.
pub(super) async fn show_again(
    every: Duration,
    count: Option<u64>,
    global: &Global,
    mut ask: impl AsyncFnMut() -> Result<(String, Exit), CliError>,
) -> Result<Exit, CliError> {
    // A shell ends its commands itself.
    let interrupted = if global.shell.is_some() { CancellationToken::new() } else { shutdown_on_signal()? };
    let is_screen = std::io::stdout().is_terminal() && !global.json;
    let mut last = Exit::NotDone;
    for shown in 1_u64.. {
        let asked = tokio::select! {
            () = interrupted.cancelled() => return Ok(last),
            asked = ask() => asked,
        };
        let text = match asked {
            Ok((text, exit)) => {
                last = exit;
                text
            }
            // A cluster that does not answer now may answer later.
            Err(error) if error.exit == Exit::NotDone => {
                last = Exit::NotDone;
                let text = if global.json { json!({ "error": error.message }).to_string() } else { error.message };
                text + "\n"
            }
            Err(error) => return Err(error),
        };
        let text = match (is_screen, global.json) {
            (true, _) => format!("\x1b[H\x1b[2J{text}"),
            (false, true) => text,
            (false, false) => format!("{text}\n"),
        };
        match write(text.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(last),
            Err(error) => return Err(CliError::not_done(format!("stdout cannot be written: {error}"))),
            Ok(()) => {}
        }
        if count == Some(shown) {
            break;
        }
        tokio::select! {
            () = interrupted.cancelled() => return Ok(last),
            () = tokio::time::sleep(every) => {}
        }
    }
    Ok(last)
}
