//! `quorate bench`: a load, and what became of it.
//!
//! Contract: a latency is that of an answer, from the moment the request was sent (closed loop) or was due (open loop).
//! Nothing is left out silently: what failed is counted by kind, what was late, never sent or still under way at the
//! end is said. Ctrl-C ends it early, and what was measured until then is reported.

mod cpu;
mod keys;
mod load;
mod mix;
mod noop;
mod progress;
mod report;
mod schedule;
mod tally;
mod values;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::output::{print, print_json};
use super::serve::shutdown_on_signal;
use super::{CliError, Exit, Global};
use crate::client::{ClientError, endpoint};
use crate::types::KEY_BYTES_MAX;
use keys::{Distribution, KEYS_MAX, Keys};
use load::{Load, Observer, Pace};
use mix::Mix;
use noop::NoopServer;
use progress::Progress;
use report::{Report, Settings};
use values::{ValueBytes, Values};

/// How many requests are under way in a closed loop, unless it is said.
const IN_FLIGHT_DEFAULT: u32 = 64;
/// And at most in an open loop: what a few seconds of stall at a thousand a second leave.
const IN_FLIGHT_OPEN_DEFAULT: u32 = 4_096;
/// Each holds some kilobytes in the generator; more than any node takes at once.
const IN_FLIGHT_MAX: i64 = 1 << 20;
/// The most requests a second: more than one machine sends.
const RATE_MAX: f64 = 10_000_000.0;
/// The most connections to one address.
const CONNECTIONS_MAX: i64 = 1_024;
/// The shortest and the longest run. Each second of it takes some kilobytes.
const DURATION_MIN: Duration = Duration::from_millis(100);
const DURATION_MAX: Duration = Duration::from_hours(1);
/// The steepest Zipf distribution: at 10 the first key has 99.9 % of the load.
const ZIPF_EXPONENT_MAX: f64 = 10.0;
const ZIPF_EXPONENT_DEFAULT: f64 = 0.99;

/// Put a load on a cluster and measure it
///
/// Closed loop (--in-flight): so many requests are always under way; shows how much the cluster can do. Open loop
/// (--rate): requests are due at fixed times, whatever became of those before, and latencies count from then; shows
/// what users wait at that rate. Requests go to all addresses in turn, also to one that is down, and none is sent
/// again. Keys are named KEY_PREFIX and a number; their values are OVERWRITTEN or deleted, and stay.
///
/// --json prints one object: settings, operations, operations_per_second, mib_per_second, latency_us (mean, p50, p90,
/// p99, p99_9, max; null where nothing was answered), the same for each of get, set and delete, failed (count,
/// latency_us, and kinds with code, reason and an example), unfinished (under way at the end), late and missed (open
/// loop: sent more than 1 ms after they were due, and never sent), cpu and each_second (operations, p99_us). In a
/// closed loop what ends in the measured time is counted, in an open loop what was due in it. Ends with code 3 if no
/// operation was answered.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate bench                                            64 in flight, half gets, half sets, for 10 s
  quorate bench --load --mix get=100                       write every key first, so that gets find them
  quorate bench --rate 1000 --value-bytes 10240 --mix set=100 --duration 60s
  quorate bench --distribution zipf --keys 1000000 --mix get=90,set=9,delete=1
  quorate bench --target noop --mix get=100                what gRPC and this machine allow, without a store
  quorate --address n1:8001,n2:8001,n3:8001 bench --connections 4 --in-flight 1024 --json")]
pub(super) struct Bench {
    /// How many requests are under way at once, or with --rate at most [default: 64, or 4096 with --rate]
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=IN_FLIGHT_MAX),
    )]
    in_flight: Option<u32>,
    /// Open loop: how many requests are due each second
    #[arg(long, allow_negative_numbers = true, value_name = "OPS", value_parser = rate)]
    rate: Option<f64>,
    /// How long to measure, such as 500ms, 10s, 5m or 1h
    #[arg(long, value_name = "DURATION", value_parser = measured_span, default_value = "10s")]
    duration: Duration,
    /// How long the load runs before that
    #[arg(long, value_name = "DURATION", value_parser = warm_up_span, default_value = "2s")]
    warm_up: Duration,
    /// How often each of get, set and delete, as percent or as any weights
    #[arg(long, value_name = "OPERATION=WEIGHT,…", default_value = "get=50,set=50")]
    mix: Mix,
    /// How large values are: a number of bytes, or a range such as 100..10000
    #[arg(long, value_name = "BYTES", default_value = "1024")]
    value_bytes: ValueBytes,
    /// How many keys there are
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX),
    )]
    keys: u64,
    /// What their names begin with
    #[arg(long, value_name = "TEXT", default_value = "bench-")]
    key_prefix: String,
    /// How keys are drawn
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    distribution: Distribution,
    /// How uneven zipf is: 0 is uniform, 2 gives the first key six in ten [default: 0.99]
    #[arg(long, allow_negative_numbers = true, value_name = "EXPONENT", value_parser = zipf_exponent)]
    zipf_exponent: Option<f64>,
    /// Write every key once before
    #[arg(long)]
    load: bool,
    /// How many connections to each address
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX),
    )]
    connections: u32,
    /// How long one that failed waits in a closed loop before the next; 0s: not at all
    #[arg(long, value_name = "DURATION", value_parser = warm_up_span, default_value = "10ms")]
    pause_after_failure: Duration,
    /// What to put the load on
    #[arg(long, value_enum, default_value_t = Target::Cluster)]
    target: Target,
    /// What keys, values and operations are drawn from: the same seed draws the same ones
    #[arg(long, allow_negative_numbers = true, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Be the server of --target noop
    #[arg(long, hide = true)]
    serve_noop: bool,
}

/// What a load is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The cluster at --address
    Cluster,
    /// A no-op server, which is started for the run: the baseline
    Noop,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Noop => "noop",
        }
    }
}

impl Bench {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        if self.serve_noop {
            return noop::serve(self.value_bytes).await;
        }
        self.check()?;
        let shutdown = shutdown_on_signal()?;
        let mut server = match self.target {
            Target::Cluster => {
                global.addresses()?;
                None
            }
            Target::Noop => Some(NoopServer::start(self.value_bytes)?),
        };
        let settings = self.settings(global, server.as_ref());
        let load = Arc::new(self.load(&settings).await?);
        let progress = Progress::new(global.json);

        let mut filled = None;
        if self.load && server.is_none() {
            let began = Instant::now();
            let written = load.fill(&progress, &shutdown).await;
            let written = written.map_err(|problem| CliError::not_done(format!("--load: {problem}")))?;
            filled = Some((written, began.elapsed()));
        }
        let mut meter = CpuMeter::new(server.as_mut());
        let measured = load.run(&mut meter, &progress, &shutdown).await;
        progress.end();
        let (generator_cpu, target_cpu) = (meter.generator, meter.target);
        let interrupted = shutdown.is_cancelled();
        let report = Report { settings, filled, measured, interrupted, generator_cpu, target_cpu };

        if global.json {
            print_json(&report.as_json())?;
        } else {
            print(report.as_text().as_bytes())?;
        }
        if report.operations() > 0 {
            return Ok(Exit::Done);
        }
        let why = report.commonest_failure().unwrap_or_else(|| {
            let under_way = report.measured.unfinished;
            format!("{under_way} requests were under way and none was answered; a longer --duration may see some")
        });
        Err(CliError::not_done(format!("no operation was answered: {why}")))
    }

    /// What clap cannot check of one option alone.
    fn check(&self) -> Result<(), CliError> {
        if self.zipf_exponent.is_some() && self.distribution != Distribution::Zipf {
            return Err(CliError::bad_input(
                "--zipf-exponent goes with --distribution zipf: add it, or leave both out",
            ));
        }
        let longest = self.keys_of().name(self.keys - 1).len();
        if longest > KEY_BYTES_MAX {
            let most = KEY_BYTES_MAX - (longest - self.key_prefix.len());
            return Err(CliError::bad_input(format!(
                "--key-prefix has {} bytes, which makes keys of {longest}: at most {KEY_BYTES_MAX} are accepted, so \
                 shorten it to {most}",
                self.key_prefix.len()
            )));
        }
        Ok(())
    }

    fn zipf(&self) -> Option<f64> {
        match self.distribution {
            Distribution::Uniform => None,
            Distribution::Zipf => Some(self.zipf_exponent.unwrap_or(ZIPF_EXPONENT_DEFAULT)),
        }
    }

    fn keys_of(&self) -> Keys {
        Keys::new(self.key_prefix.clone(), self.keys, self.zipf())
    }

    fn settings(&self, global: &Global, server: Option<&NoopServer>) -> Settings {
        let pace = self.rate.map_or(Pace::Closed, |rate| Pace::Open { rate });
        let in_flight = match pace {
            Pace::Closed => IN_FLIGHT_DEFAULT,
            Pace::Open { .. } => IN_FLIGHT_OPEN_DEFAULT,
        };
        let addresses = server.map_or_else(
            || global.address.iter().map(|address| address.trim().to_owned()).collect(),
            |server| vec![server.address.clone()],
        );
        Settings {
            target: self.target.name(),
            addresses,
            pace,
            in_flight: self.in_flight.unwrap_or(in_flight) as usize,
            duration: self.duration,
            warm_up: self.warm_up,
            mix: self.mix,
            value_bytes: self.value_bytes,
            keys: self.keys,
            key_prefix: self.key_prefix.clone(),
            zipf_exponent: self.zipf(),
            connections: self.connections as usize,
            timeout: global.timeout,
            seed: self.seed,
        }
    }

    async fn load(&self, settings: &Settings) -> Result<Load, CliError> {
        let endpoints = settings
            .addresses
            .iter()
            .map(|address| endpoint(address))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|problem| CliError::from(ClientError::from(problem)))?;
        let clients = load::connect(&endpoints, settings.connections, settings.in_flight).await;
        let clients = clients.map_err(|problem| {
            CliError::not_done(format!(
                "no node can be reached: {problem}\nis a node running there? `quorate dev` starts some; --address or \
                 QUORATE_ADDRESS names others"
            ))
        })?;
        Ok(Load {
            clients,
            keys: self.keys_of(),
            values: Values::new(self.value_bytes, self.seed),
            mix: self.mix,
            pace: settings.pace,
            in_flight: settings.in_flight,
            warm_up: self.warm_up,
            duration: self.duration,
            timeout: settings.timeout,
            pause_after_failure: self.pause_after_failure,
            seed: self.seed,
        })
    }
}

/// The CPU time of the generator, and of the no-op server, while it is measured.
struct CpuMeter<'a> {
    server: Option<&'a mut NoopServer>,
    generator: Duration,
    target: Option<Duration>,
}

impl<'a> CpuMeter<'a> {
    fn new(server: Option<&'a mut NoopServer>) -> Self {
        Self { server, generator: Duration::ZERO, target: None }
    }
}

impl Observer for CpuMeter<'_> {
    fn begins(&mut self) {
        self.generator = cpu::used();
        self.target = self.server.as_mut().and_then(|server| server.cpu_used());
    }

    fn ends(&mut self) {
        self.generator = cpu::used().saturating_sub(self.generator);
        let now = self.server.as_mut().and_then(|server| server.cpu_used());
        self.target = now.and_then(|now| Some(now.saturating_sub(self.target?)));
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let accepted = || format!("more than 0 and up to {RATE_MAX} requests a second are accepted, such as 1000");
    let rate = text.trim().parse::<f64>().map_err(|_| accepted())?;
    if rate > 0.0 && rate <= RATE_MAX { Ok(rate) } else { Err(accepted()) }
}

fn zipf_exponent(text: &str) -> Result<f64, String> {
    let accepted = || format!("0 to {ZIPF_EXPONENT_MAX} is accepted, such as 0.99");
    let exponent = text.trim().parse::<f64>().map_err(|_| accepted())?;
    if (0.0..=ZIPF_EXPONENT_MAX).contains(&exponent) { Ok(exponent) } else { Err(accepted()) }
}

fn measured_span(text: &str) -> Result<Duration, String> {
    span(text, DURATION_MIN)
}

fn warm_up_span(text: &str) -> Result<Duration, String> {
    span(text, Duration::ZERO)
}

/// A span of time from `min` to an hour.
fn span(text: &str, min: Duration) -> Result<Duration, String> {
    let accepted = || format!("{}ms to 1h is accepted, such as 500ms, 10s, 1.5m or 1h", min.as_millis());
    let text = text.trim();
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(accepted()),
    };
    let seconds = number.parse::<f64>().map_err(|_| accepted())? * unit_seconds;
    let span = Duration::try_from_secs_f64(seconds).map_err(|_| accepted())?;
    if (min..=DURATION_MAX).contains(&span) { Ok(span) } else { Err(accepted()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(options: &str) -> Result<Bench, String> {
        let line = ["quorate", "bench"].into_iter().chain(options.split_whitespace());
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Bench(bench) => bench.check().map(|()| bench).map_err(|error| error.message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bad_options_are_named_with_what_is_accepted() {
        for (options, option, part) in [
            ("--in-flight 0", "--in-flight", "1.."),
            ("--in-flight -1", "--in-flight", "1.."),
            ("--rate -5", "--rate", "such as 1000"),
            ("--rate 0", "--rate", "such as 1000"),
            ("--rate fast", "--rate", "such as 1000"),
            ("--duration 0s", "--duration", "100ms to 1h"),
            ("--duration 2h", "--duration", "100ms to 1h"),
            ("--warm-up 1d", "--warm-up", "0ms to 1h"),
            ("--mix put=1", "--mix", "get, set and delete"),
            ("--value-bytes 1KiB", "--value-bytes", "a range such as"),
            ("--keys 0", "--keys", "1.."),
            ("--zipf-exponent 11", "--zipf-exponent", "such as 0.99"),
            ("--zipf-exponent 1", "--zipf-exponent", "--distribution zipf"),
            ("--distribution even", "--distribution", "uniform"),
            ("--connections 0", "--connections", "1.."),
            ("--target disk", "--target", "noop"),
        ] {
            let error = parse(options).unwrap_err();
            assert!(error.contains(option) && error.contains(part), "{options}: {error}");
        }
        let error = parse(&format!("--key-prefix {}", "k".repeat(5_000))).unwrap_err();
        assert!(error.contains("--key-prefix") && error.contains("shorten it to 4091"), "{error}");
    }

    #[test]
    fn spans_have_units() {
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("2", 2_000), ("1.5m", 90_000), ("1h", 3_600_000)] {
            assert_eq!(measured_span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(warm_up_span("0s"), Ok(Duration::ZERO));
        for text in ["", "s", "-1s", "1d", "nan", "inf", "1e400", "99ms"] {
            assert!(measured_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn open_loop_may_have_more_in_flight() {
        let global = |options: &str| {
            Cli::try_parse_from(["quorate", "bench"].into_iter().chain(options.split_whitespace())).unwrap().global
        };
        for (options, in_flight) in [("", 64), ("--rate 10", 4_096), ("--rate 10 --in-flight 5", 5)] {
            assert_eq!(parse(options).unwrap().settings(&global(options), None).in_flight, in_flight, "{options}");
        }
    }
}
