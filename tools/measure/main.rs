//! Measures Quorate as a whole: clusters of real nodes, and what changes as they grow.
//!
//! ```text
//! make bench                  # measure report: goals, costs and sweeps, as a page with pictures
//! make doors                  # measure doors: all protocols in one run, and idle connections; then measure redis
//! make bench-peers            # measure peers: beside etcd and others
//! make dist PGO=1             # measure train: loads for a build that is guided by a profile
//! make growth                 # measure placement, then measure fill
//! cargo run --release --example measure -- fill --help
//! ```
//!
//! Contract: every number is measured in this run, on this machine, with `quorate serve` processes in durability fsync.
//! Each part prints a table, and leaves files in a folder that it names.
//!
//! It is an example to Cargo because only examples, tests and benchmarks may use development dependencies, and because
//! of these an example is the one that is a program.

mod doors;
mod growth;
mod peers;
mod picture;
mod redis;
mod report;
#[path = "../../tests/testkit/mod.rs"]
mod testkit;
mod train;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use testkit::cluster::write;

/// Measure Quorate
#[derive(Debug, Parser)]
#[command(name = "measure")]
struct Cli {
    #[command(subcommand)]
    part: Part,
    /// The folder that results are left in; target/bench or target/growth by default
    #[arg(long, global = true)]
    output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Part {
    Report(report::Plan),
    Doors(doors::Plan),
    Redis(redis::Plan),
    Peers(peers::Plan),
    Train(train::Plan),
    Placement(growth::placement::Plan),
    Fill(growth::run::Plan),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let default = if matches!(cli.part, Part::Placement(_) | Part::Fill(_)) { "target/growth" } else { "target/bench" };
    let output = cli.output.unwrap_or_else(|| checkout().join(default));
    std::fs::create_dir_all(&output)
        .unwrap_or_else(|error| panic!("cannot make the folder {}: {error}", output.display()));
    match cli.part {
        Part::Report(plan) => report::run(&plan, &output),
        Part::Doors(plan) => doors::run(&plan, &output),
        Part::Redis(plan) => redis::run(&plan, &output),
        Part::Peers(plan) => peers::run(&plan, &output),
        Part::Train(plan) => train::run(&plan),
        Part::Placement(plan) => growth::placement::run(&plan, &output),
        Part::Fill(plan) => growth::fill::run(&plan, &output),
    }
}

/// The checkout that is measured. Cargo names it when it runs this program; several checkouts may share the folder that
/// this was compiled into.
fn checkout() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Draws panels one below the other, and says where they are.
fn draw(path: &Path, panels: &[picture::Panel]) {
    picture::draw(path, 1, panels).unwrap_or_else(|error| panic!("cannot draw {}: {error}", path.display()));
    println!("{}", path.display());
}

/// Writes a file of results, and says where it is.
fn leave(path: &Path, text: &str) {
    write(path, text);
    println!("{}", path.display());
}
