//! Measures clusters of real nodes and writes a report with pictures: `make bench`.
//!
//! Contract: nodes run in their default configuration. `quorate bench`, in a process of its own, generates the load. A
//! figure that depends on the machine is quoted as a part of what a no-op server reaches under the same load, measured
//! right before and right after. The load of BatchWrite comes from this process: `quorate bench` has no batches.
//!
//! Caveat: nodes, generator and no-op server share one machine. On one with few cores the generator takes a large part
//! of the CPU time, so that part is shown beside the nodes'.

mod baseline;
mod batches;
pub mod cluster;
mod cold;
pub mod generator;
pub mod machine;
mod metrics;
mod operations;
mod page;
mod rows;
mod sweeps;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use page::Report;

/// Measure goals, costs and sweeps, and write report.md
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// How many seconds each row measures; 10 by default, 2 with --quick
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: Option<u64>,
    /// Only show that the report can be made
    #[arg(long)]
    quick: bool,
}

/// How long everything takes.
#[derive(Clone, Debug)]
struct Effort {
    /// A run that only shows that the report can be made.
    quick: bool,
    /// How long a row measures.
    row: Duration,
    /// How long the row with five nodes measures.
    long_row: Duration,
    /// How long the no-op server is measured, before and after each row.
    baseline: Duration,
    /// How long idle nodes are watched.
    idle: Duration,
    /// How long each point of a sweep measures.
    point: Duration,
    /// How many keys the rows draw from.
    keys: u64,
    /// How many keys the sweeps draw from.
    sweep_keys: u64,
    /// How many keys nodes have that start again.
    cold_keys: u64,
}

impl Effort {
    fn of(plan: &Plan) -> Self {
        let quick = plan.quick;
        let row = Duration::from_secs(plan.seconds.unwrap_or(if quick { 2 } else { 10 }));
        Self {
            quick,
            row,
            // Six times a row: a minute where rows are ten seconds.
            long_row: 6 * row,
            baseline: if quick { Duration::from_secs(1) } else { row / 2 },
            idle: if quick { Duration::from_secs(5) } else { 2 * row },
            point: if quick { Duration::from_secs(1) } else { Duration::from_secs(3) },
            keys: if quick { 10_000 } else { 100_000 },
            sweep_keys: if quick { 2_000 } else { 20_000 },
            cold_keys: if quick { 20_000 } else { 1_000_000 },
        }
    }
}

/// Measures everything, and writes the report into `output`.
pub fn run(plan: &Plan, output: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(measure(&Effort::of(plan), output))
}

async fn measure(effort: &Effort, output: &Path) -> ExitCode {
    let began = Instant::now();
    let mut report = Report::new(machine::describe(), effort.clone());
    rows::measure(effort, &mut report).await;
    operations::measure(effort, &mut report).await;
    sweeps::in_flight(effort, &mut report).await;
    sweeps::rate(effort, &mut report).await;
    sweeps::value_size(effort, &mut report).await;
    sweeps::beside_large(effort, &mut report).await;
    sweeps::nodes(effort, &mut report).await;
    match report.write(output, began.elapsed()) {
        Ok(path) => {
            println!("\nreport: {}", path.display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("the report cannot be written to {}: {problem}", output.display());
            ExitCode::FAILURE
        }
    }
}
