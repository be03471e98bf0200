//! The options of `quorate bench`, and what they accept.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::keys::{Distribution, KEYS_MAX, Keys};
use super::mix::{Kind, Mix};
use super::report::Settings;
use super::values::ValueBytes;
use super::workload::Pace;
use crate::cli::tables::InTable;
use crate::cli::{CliError, Global};
use crate::limits::WATCHES_MAX;
use crate::types::KEY_BYTES_MAX;

/// The requests in flight of a closed loop, by default.
const IN_FLIGHT_DEFAULT: u32 = 64;
/// The most requests in flight of an open loop, by default: a stall of a few seconds at a thousand a second.
const IN_FLIGHT_OPEN_DEFAULT: u32 = 4_096;
/// The most requests in flight. Each holds some kilobytes in the generator, and no node takes as many at once.
const IN_FLIGHT_MAX: i64 = 1 << 20;
/// The highest rate in requests a second: more than one machine can send.
const RATE_MAX: f64 = 10_000_000.0;
/// The most connections to one address.
const CONNECTIONS_MAX: i64 = 1_024;
/// The shortest and the longest run. Each second of a run takes some kilobytes of memory.
const DURATION_MIN: Duration = Duration::from_millis(100);
const DURATION_MAX: Duration = Duration::from_hours(1);
/// The most watchers: as many as one node keeps for one client.
const WATCHERS_MAX: i64 = 4_096;
const _: () = assert!(WATCHERS_MAX.cast_unsigned() == WATCHES_MAX as u64 / 2);
const WATCHERS_DEFAULT: u32 = 1;
/// The keys of a list, by default.
const LIST_KEYS_DEFAULT: u32 = 100;
/// The steepest Zipf distribution: at 10 the first key gets 99.9 % of the requests.
const ZIPF_EXPONENT_MAX: f64 = 10.0;
const ZIPF_EXPONENT_DEFAULT: f64 = 0.99;

/// Run a workload against a cluster and measure it
///
/// A closed loop (--in-flight) keeps a fixed number of requests in flight, and shows how much the cluster can do. An open
/// loop (--rate) sends requests at fixed times, whether earlier ones were answered or not; latencies count from those
/// times, and show how long users wait at that rate. Requests go to all addresses in turn, even to a node that is down.
/// With --route they go to the replicas of their key in turn, as far as these are among the addresses and answer before the
/// run; where keys are is asked once. No request is repeated. Keys are KEY_PREFIX and a number. The run OVERWRITES or deletes their values, and leaves the
/// keys behind.
///
/// --json prints one object: settings, operations, operations_per_second, mib_per_second, latency_us (mean, p50, p90,
/// p99, p99_9, max; null without an answer), the same for each operation of the mix, failed (count, latency_us, and
/// kinds with code, reason and an example), unfinished (in flight at the end), late (open loop: sent more than 1 ms after
/// they were due), missed (open loop: never sent), cpu, and each_second (operations, p99_us). Beside that, get has found
/// and not_found, cas has applied and condition_failed, and watch has watchers, events, events_per_second,
/// event_latency_us (from a write's acknowledgement until a watcher is told) and broken (watches that had to go on at
/// another node). A closed loop counts the operations that end within the measured time, an open loop those that are due
/// within it. Exits with 3 if no operation was answered.
///
/// The operations of --mix: get, set and delete of a drawn key. cas reads a key's version, and writes the key if it has
/// that version still. add adds 1 to a number in a key of its own. list asks for the next --list-keys keys. watch writes
/// a key of its own, which --watchers follow, and ends when each of them was told.
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate bench                                            64 in flight, half gets, half sets, for 10 s
  quorate bench --load --mix get=100                       write every key first, so that gets find values
  quorate bench --rate 1000 --value-bytes 10240 --mix set=100 --duration 60s
  quorate bench --distribution zipf --keys 1000000 --mix get=90,set=9,delete=1
  quorate bench --keys 1 --in-flight 16 --mix cas=1        sixteen clients that change one key
  quorate bench --load --mix list=1 --list-keys 1000 --list-values
  quorate bench --mix watch=1 --watchers 1000 --rate 10    how soon a thousand watchers hear of ten writes a second
  quorate bench --route --mix get=100                      ask a replica of each key, as clients with routing do
  quorate bench --target noop --mix get=100                the baseline: gRPC and this machine, without a store
  quorate --address e1:2379 bench --target etcd --mix set=1   the same load on a cluster of etcd
  quorate --address n1:8001,n2:8001,n3:8001 bench --connections 4 --in-flight 1024 --json")]
pub(crate) struct Bench {
    /// Requests in flight; with --rate, the most of them [default: 64, or 4096 with --rate]
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=IN_FLIGHT_MAX),
    )]
    pub(super) in_flight: Option<u32>,
    /// Open loop: requests due each second
    #[arg(long, allow_negative_numbers = true, value_name = "OPS", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// How long to measure, such as 500ms, 10s, 5m or 1h
    #[arg(long, value_name = "DURATION", value_parser = measured_span, default_value = "10s")]
    pub(super) duration: Duration,
    /// How long the workload runs before it is measured
    #[arg(long, value_name = "DURATION", value_parser = warm_up_span, default_value = "2s")]
    pub(super) warm_up: Duration,
    /// The share of get, set, delete, cas, add, list and watch, in percent or as any weights
    #[arg(long, value_name = "OPERATION=WEIGHT,…", default_value = "get=50,set=50")]
    pub(super) mix: Mix,
    /// The size of values: a number of bytes, or a range such as 100..10000
    #[arg(long, value_name = "BYTES", default_value = "1024")]
    pub(super) value_bytes: ValueBytes,
    /// The number of keys
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX),
    )]
    pub(super) keys: u64,
    /// The first part of every key
    #[arg(long, value_name = "TEXT", default_value = "bench-")]
    pub(super) key_prefix: String,
    /// How keys are drawn
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub(super) distribution: Distribution,
    /// The skew of zipf: 0 is uniform, 2 gives the first key six requests in ten [default: 0.99]
    #[arg(long, allow_negative_numbers = true, value_name = "EXPONENT", value_parser = zipf_exponent)]
    pub(super) zipf_exponent: Option<f64>,
    /// How many keys a list asks for [default: 100]
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
    )]
    pub(super) list_keys: Option<u32>,
    /// Lists bring the values too
    #[arg(long)]
    pub(super) list_values: bool,
    /// How many watchers follow the keys that watch writes, spread over the addresses [default: 1]
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=WATCHERS_MAX),
    )]
    pub(super) watchers: Option<u32>,
    /// Write every key once before the run
    #[arg(long)]
    pub(super) load: bool,
    /// Send each request about one key to a replica of the key, which saves a hop
    #[arg(long)]
    pub(super) route: bool,
    /// Connections to each address
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX),
    )]
    pub(super) connections: u32,
    /// Closed loop: the pause after a failed request, before the next one; 0s for none
    #[arg(long, value_name = "DURATION", value_parser = warm_up_span, default_value = "10ms")]
    pub(super) pause_after_failure: Duration,
    /// The server that is measured
    #[arg(long, value_enum, default_value_t = Target::Cluster)]
    pub(super) target: Target,
    /// The seed of the keys, values and operations: the same seed draws the same ones
    #[arg(long, allow_negative_numbers = true, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) table: InTable,
    /// Run the server of --target noop
    #[arg(long, hide = true)]
    pub(super) serve_noop: bool,
}

/// The server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Target {
    /// The cluster at --address
    Cluster,
    /// The members of etcd at --address, over its own API and without TLS: gets and sets, to compare
    Etcd,
    /// A no-op server, started for the run: the baseline
    Noop,
}

impl Target {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Etcd => "etcd",
            Self::Noop => "noop",
        }
    }
}

impl Bench {
    /// Checks options together, which clap cannot.
    pub(super) fn check(&self) -> Result<(), CliError> {
        if self.zipf_exponent.is_some() && self.distribution != Distribution::Zipf {
            return Err(CliError::bad_input(
                "--zipf-exponent goes with --distribution zipf: add it, or leave both out",
            ));
        }
        for (is_given, option, kind) in [
            (self.list_keys.is_some(), "--list-keys", Kind::List),
            (self.list_values, "--list-values", Kind::List),
            (self.watchers.is_some(), "--watchers", Kind::Watch),
        ] {
            if is_given && self.mix.weight(kind) == 0 {
                let name = kind.name();
                return Err(CliError::bad_input(format!(
                    "{option} goes with {name} in the mix: add --mix {name}=1, or leave {option} out"
                )));
            }
        }
        if self.route && self.target != Target::Cluster {
            return Err(CliError::bad_input("--route goes with --target cluster: others do not say where a key is"));
        }
        let is_unknown = |kind: &&Kind| !matches!(kind, Kind::Get | Kind::Set) && self.mix.weight(**kind) > 0;
        if self.target == Target::Etcd
            && let Some(kind) = Kind::ALL.iter().find(is_unknown)
        {
            let name = kind.name();
            return Err(CliError::bad_input(format!(
                "--target etcd takes get and set, and the mix has {name}: leave it out"
            )));
        }
        if self.target == Target::Etcd && !self.table.in_requests().is_empty() {
            return Err(CliError::bad_input("--table goes with --target cluster: etcd has no tables"));
        }
        let longest = self.keys_of().longest();
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

    pub(super) fn keys_of(&self) -> Keys {
        Keys::new(self.key_prefix.clone(), self.keys, self.zipf())
    }

    /// `noop_address` is the address of the no-op server, where that is the target.
    pub(super) fn settings(&self, global: &Global, noop_address: Option<&str>) -> Settings {
        let pace = self.rate.map_or(Pace::Closed, |rate| Pace::Open { rate });
        let in_flight = match pace {
            Pace::Closed => IN_FLIGHT_DEFAULT,
            Pace::Open { .. } => IN_FLIGHT_OPEN_DEFAULT,
        };
        let addresses = noop_address.map_or_else(
            || global.address.iter().map(|address| address.trim().to_owned()).collect(),
            |address| vec![address.to_owned()],
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
            table: self.table.table.clone(),
            zipf_exponent: self.zipf(),
            list_keys: self.list_keys.unwrap_or(LIST_KEYS_DEFAULT),
            list_values: self.list_values,
            watchers: self.watchers.unwrap_or(WATCHERS_DEFAULT) as usize,
            connections: self.connections as usize,
            route: self.route,
            timeout: global.timeout,
            seed: self.seed,
        }
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

/// A duration from `min` to an hour.
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
            ("--mix put=1", "--mix", "get, set, delete, cas, add, list and watch"),
            ("--value-bytes 1KiB", "--value-bytes", "a range such as"),
            ("--keys 0", "--keys", "1.."),
            ("--zipf-exponent 11", "--zipf-exponent", "such as 0.99"),
            ("--zipf-exponent 1", "--zipf-exponent", "--distribution zipf"),
            ("--distribution even", "--distribution", "uniform"),
            ("--connections 0", "--connections", "1.."),
            ("--target disk", "--target", "noop"),
            ("--route --target noop", "--route", "--target cluster"),
            ("--target etcd --mix get=1,add=1", "--target etcd", "the mix has add"),
            ("--target etcd --table carts", "--table", "no tables"),
            ("--watchers 5000 --mix watch=1", "--watchers", "4096"),
            ("--watchers 5", "--watchers", "--mix watch=1"),
            ("--list-keys 0 --mix list=1", "--list-keys", "1.."),
            ("--list-keys 5", "--list-keys", "--mix list=1"),
            ("--list-values --mix set=1", "--list-values", "--mix list=1"),
        ] {
            let error = parse(options).unwrap_err();
            assert!(error.contains(option) && error.contains(part), "{options}: {error}");
        }
        let error = parse(&format!("--key-prefix {}", "k".repeat(5_000))).unwrap_err();
        assert!(error.contains("--key-prefix") && error.contains("shorten it to 4081"), "{error}");
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
