//! The progress of a run, shown at a terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The interval between two drawings.
const DRAW_AFTER: Duration = Duration::from_millis(200);

/// A bar on stderr. Hidden if stderr is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(hidden: bool) -> Self {
        let target = if hidden || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        bar.set_style(
            ProgressStyle::with_template("{prefix} [{bar:40}] {msg}")
                .expect("the template is one that indicatif reads"),
        );
        Self { bar }
    }

    /// Returns when it is time to draw. Never returns while the bar is hidden.
    pub(super) async fn tick(&self) {
        if self.bar.is_hidden() {
            std::future::pending::<()>().await;
        } else {
            tokio::time::sleep(DRAW_AFTER).await;
        }
    }

    pub(super) fn preloaded(&self, written: u64, count: u64) {
        self.bar.set_prefix("load");
        self.bar.set_length(count);
        self.bar.set_position(written);
        self.bar.set_message(format!("{written} of {count} keys"));
    }

    pub(super) fn running(&self, answered: u64, elapsed: Duration, length: Duration) {
        let seconds = elapsed.as_secs_f64();
        self.bar.set_prefix("run");
        // A run takes an hour at most, far from the limit of the type.
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.bar.set_length(millis(length));
        self.bar.set_position(millis(elapsed.min(length)));
        self.bar.set_message(format!(
            "{seconds:.0} of {:.0} s, {:.0}/s",
            length.as_secs_f64(),
            answered as f64 / seconds
        ));
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
