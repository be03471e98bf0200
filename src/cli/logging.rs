//! Logs go to stderr, so that stdout carries answers alone.

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use super::CliError;
use super::log_queue::{FlushOnDrop, LogQueue};
use super::output::stderr_has_colours;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people, coloured on a terminal
    Human,
    /// One JSON object on each line
    Json,
    /// Pairs of key=value
    Logfmt,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Failures that need a person
    Error,
    /// Also conditions that may come to need a person
    Warn,
    /// Also events such as starts, links and ends
    Info,
    /// Also details that help to find a defect
    Debug,
    /// Everything
    Trace,
}

/// Sends the process's logs to stderr, in `format`, from `level` up. The variable `RUST_LOG` overrides `level`, for all
/// modules or for some. A queue stands between the two, and is flushed when the result is dropped.
///
/// # Errors
/// When the process has a log already, or the system gives no thread.
pub(super) fn init(format: LogFormat, level: LogLevel) -> Result<FlushOnDrop, CliError> {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Lossy: a directive that does not parse is reported on stderr and ignored. It must not keep a node from starting.
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let queue = LogQueue::start(std::io::stderr())
        .map_err(|error| CliError::not_done(format!("cannot start the thread of the log: {error}")))?;
    let flush = queue.flush_on_drop();
    let layer = match format {
        LogFormat::Human => fmt::layer().with_writer(queue).with_ansi(stderr_has_colours()).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(queue).boxed(),
        LogFormat::Logfmt => tracing_logfmt::builder().layer().with_writer(queue).boxed(),
    };
    registry().with(layer.with_filter(filter)).try_init().map_err(|error| CliError::not_done(error.to_string()))?;
    Ok(flush)
}
