//! Measures clusters of real nodes and writes a report with pictures: `make bench`.
//!
//! Contract: every number is measured in this run, on this machine, with `quorate serve` processes in their default
//! configuration and durability fsync, and with `quorate bench` as the generator, in a process of its own. What depends
//! on the machine is quoted as a part of what a server reaches that does nothing, measured right before and right
//! after.
//!
//! Caveat: nodes, generator and no-op server share one machine here. On one with few cores the generator's part of the
//! CPU time is not the nodes', so it is shown beside theirs.

mod cluster;
mod generator;
mod machine;
mod metrics;
#[path = "../support/picture.rs"]
mod picture;
#[path = "../../tests/support/proxy.rs"]
mod proxy;
mod report;
mod rows;
#[path = "../../tests/support/cluster.rs"]
mod support;
mod sweeps;
mod yardstick;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use report::Report;

/// How long each row measures, by default.
const SECONDS_DEFAULT: u64 = 10;

/// How long everything takes.
#[derive(Clone, Debug)]
pub struct Effort {
    /// A run that only shows that the report can be made.
    pub quick: bool,
    /// How long a row measures.
    pub row: Duration,
    /// How long the row with five nodes measures.
    pub long_row: Duration,
    /// How long the no-op server is measured, before and after each row.
    pub yardstick: Duration,
    /// How long idle nodes are watched.
    pub idle: Duration,
    /// How long each point of a sweep measures.
    pub point: Duration,
    /// How many keys the rows draw from.
    pub keys: u64,
    /// How many keys the sweeps draw from.
    pub sweep_keys: u64,
}

impl Effort {
    /// As the environment asks for it: `QUORATE_BENCH_SECONDS` for each row, `QUORATE_BENCH_QUICK=1` for a smoke run.
    fn from_environment() -> Result<Self, String> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let quick = set("QUORATE_BENCH_QUICK").is_some_and(|value| value != "0");
        let seconds = match set("QUORATE_BENCH_SECONDS") {
            None if quick => 2,
            None => SECONDS_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|seconds| (1..=3_600).contains(seconds))
                .ok_or_else(|| format!("QUORATE_BENCH_SECONDS={text} is not accepted: 1 to 3600 is, such as 10"))?,
        };
        let row = Duration::from_secs(seconds);
        Ok(Self {
            quick,
            row,
            // Six times a row: a minute where rows are ten seconds.
            long_row: 6 * row,
            yardstick: if quick { Duration::from_secs(1) } else { row / 2 },
            idle: if quick { Duration::from_secs(5) } else { 2 * row },
            point: if quick { Duration::from_secs(1) } else { Duration::from_secs(3) },
            keys: if quick { 10_000 } else { 100_000 },
            sweep_keys: if quick { 2_000 } else { 20_000 },
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // `cargo test --all-targets` runs benchmarks too, without this argument: that they compile is all it wants to know.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this measures for some minutes; `make bench` runs it, `make bench QUICK=1` only tries it");
        return ExitCode::SUCCESS;
    }
    let effort = match Effort::from_environment() {
        Ok(effort) => effort,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let mut report = Report::new(machine::describe(), effort.clone());
    rows::measure(&effort, &mut report).await;
    sweeps::in_flight(&effort, &mut report).await;
    sweeps::rate(&effort, &mut report).await;
    sweeps::value_size(&effort, &mut report).await;
    sweeps::beside_large(&effort, &mut report).await;
    sweeps::nodes(&effort, &mut report).await;
    match report.write(began.elapsed()) {
        Ok(folder) => {
            println!("\nreport: {}", folder.join("report.md").display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("the report cannot be written: {problem}");
            ExitCode::FAILURE
        }
    }
}
