//! What `quorate dev --chaos` shows, and the keys that it takes.
//!
//! Contract: on a terminal one line is drawn again and again, and events scroll above it. Elsewhere each is a line of its own.
//! The terminal has its settings back when [`Keys`] is dropped.

use std::io::{IsTerminal as _, Read as _};
use std::time::Duration;

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use super::super::CliError;
use super::super::output::{print, write};

/// Begins a line anew, and clears it.
const LINE_ANEW: &str = "\r\x1b[K";

/// The figures of a moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) at: Duration,
    pub(super) operations_per_second: f64,
    pub(super) p99: Option<Duration>,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    pub(super) nodes_up: usize,
    pub(super) nodes: usize,
    /// `None` while no node tells.
    pub(super) failures_tolerated: Option<usize>,
}

impl Figures {
    fn as_text(&self) -> String {
        let p99 = self.p99.map_or_else(|| "-".to_owned(), |p99| format!("{:.1} ms", p99.as_secs_f64() * 1e3));
        let tolerated = self.failures_tolerated.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let unknown = if self.unknown == 0 { String::new() } else { format!("  unknown {}", self.unknown) };
        format!(
            "{:5.1} s  {:.0} operations/s  p99 {p99}  failed {}{unknown}  nodes up {} of {}  tolerates {tolerated}",
            self.at.as_secs_f64(),
            self.operations_per_second,
            self.failed,
            self.nodes_up,
            self.nodes,
        )
    }

    fn as_json(&self) -> Json {
        json!({
            "event": "figures",
            "seconds": self.at.as_secs_f64(),
            "operations_per_second": self.operations_per_second.round(),
            "p99_ms": self.p99.map(|p99| p99.as_secs_f64() * 1e3),
            "failed": self.failed,
            "unknown": self.unknown,
            "nodes_up": self.nodes_up,
            "failures_tolerated": self.failures_tolerated,
        })
    }
}

/// Where things are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Screen {
    Terminal,
    Lines,
    Json,
}

impl Screen {
    pub(super) fn new(as_json: bool) -> Self {
        if as_json {
            Self::Json
        } else if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
            Self::Terminal
        } else {
            Self::Lines
        }
    }

    /// Something happened to a node, or to nobody in particular.
    ///
    /// # Errors
    /// When nobody reads any more, or stdout cannot be written.
    pub(super) fn event(self, at: Duration, event: &str, node: Option<&str>, text: &str) -> std::io::Result<()> {
        let seconds = at.as_secs_f64();
        let line = match self {
            Self::Json => json!({ "event": event, "node": node, "seconds": seconds }).to_string(),
            Self::Terminal => format!("{LINE_ANEW}{seconds:5.1} s  {text}"),
            Self::Lines => format!("{seconds:5.1} s  {text}"),
        };
        write((line + "\n").as_bytes())
    }

    /// The figures of this moment.
    ///
    /// # Errors
    /// As [`Screen::event`].
    pub(super) fn figures(self, figures: &Figures) -> std::io::Result<()> {
        let line = match self {
            Self::Json => figures.as_json().to_string() + "\n",
            Self::Terminal => format!("{LINE_ANEW}{}", figures.as_text()),
            Self::Lines => figures.as_text() + "\n",
        };
        write(line.as_bytes())
    }

    /// Text for people at the beginning and at the end.
    pub(super) fn text(self, text: &str) -> Result<(), CliError> {
        match self {
            Self::Json => Ok(()),
            Self::Terminal => print(format!("{LINE_ANEW}{text}\n").as_bytes()),
            Self::Lines => print(format!("{text}\n").as_bytes()),
        }
    }
}

/// The keys that are pressed at the terminal.
#[derive(Debug)]
pub(super) struct Keys {
    pressed: Option<mpsc::UnboundedReceiver<u8>>,
    /// The settings that the terminal had.
    before: Option<Termios>,
}

impl Keys {
    /// Takes keys without waiting for the end of a line, if there is a terminal. Ctrl-C stays a signal.
    pub(super) fn new(screen: Screen) -> Self {
        let none = Self { pressed: None, before: None };
        if screen != Screen::Terminal {
            return none;
        }
        let Ok(before) = tcgetattr(std::io::stdin()) else { return none };
        let mut settings = before.clone();
        settings.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        settings.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        settings.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        if tcsetattr(std::io::stdin(), SetArg::TCSANOW, &settings).is_err() {
            return none;
        }
        let (keys, pressed) = mpsc::unbounded_channel();
        // A thread of its own: a read of a terminal cannot be given up. It ends with the process.
        std::thread::spawn(move || {
            let mut key = [0];
            while matches!(std::io::stdin().lock().read(&mut key), Ok(1)) && keys.send(key[0]).is_ok() {}
        });
        Self { pressed: Some(pressed), before: Some(before) }
    }

    /// The next key. Never returns where there are none.
    pub(super) async fn next(&mut self) -> u8 {
        if let Some(pressed) = &mut self.pressed
            && let Some(key) = pressed.recv().await
        {
            return key;
        }
        self.pressed = None;
        std::future::pending().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nobody can be told that it failed.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_fit_on_a_line_and_tell_unknown_outcomes_only_where_there_are_some() {
        let mut figures = Figures {
            at: Duration::from_millis(12_340),
            operations_per_second: 4_321.4,
            p99: Some(Duration::from_micros(8_640)),
            failed: 0,
            unknown: 0,
            nodes_up: 2,
            nodes: 3,
            failures_tolerated: Some(0),
        };
        let line = " 12.3 s  4321 operations/s  p99 8.6 ms  failed 0  nodes up 2 of 3  tolerates 0";
        assert_eq!(figures.as_text(), line);
        assert!(line.len() < 80);
        assert_eq!(figures.as_json()["failures_tolerated"], 0);
        figures.unknown = 2;
        figures.failures_tolerated = None;
        assert!(figures.as_text().ends_with("failed 0  unknown 2  nodes up 2 of 3  tolerates -"));
    }
}
