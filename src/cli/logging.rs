//! Where logs go: to stderr, so that stdout carries answers alone.

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use super::output::stderr_has_colours;

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
    /// key=value pairs.
    Logfmt,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What needs a person.
    Error,
    /// And what may come to need one.
    Warn,
    /// And what a person wants to have read once.
    Info,
    /// And what helps to find a defect.
    Debug,
    /// And everything.
    Trace,
}

/// Sends the process's logs to stderr, in `format`, from `level` up; the variable `RUST_LOG` overrides `level`, by
/// module if need be.
///
/// # Errors
/// When the process logs already.
pub fn init(format: LogFormat, level: LogLevel) -> Result<(), TryInitError> {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Lossy: a directive that does not parse is reported on stderr and passed over, rather than keeping a node down.
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let layer = match format {
        LogFormat::Human => fmt::layer().with_writer(std::io::stderr).with_ansi(stderr_has_colours()).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        LogFormat::Logfmt => tracing_logfmt::builder().layer().with_writer(std::io::stderr).boxed(),
    };
    registry().with(layer.with_filter(filter)).try_init()
}
