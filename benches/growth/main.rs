//! How placement behaves as a cluster gets more nodes, and how a cluster behaves as it gets more data.
//!
//! ```text
//! make growth                          # both, as long as their defaults say
//! make growth MINUTES=1 GIB=2          # a short one
//! cargo bench --profile release --bench growth -- load --help
//! ```
//!
//! Each part prints a table and leaves JSON and pictures (SVG) in a folder, which it names.

mod load;
mod nodes;
mod placement;
mod summary;
mod tally;

#[path = "../../tests/support/cluster.rs"]
mod cluster;
#[path = "../support/picture.rs"]
mod picture;
#[path = "../support/mod.rs"]
mod support;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measure growth.
#[derive(Debug, Parser)]
#[command(name = "growth")]
struct Cli {
    #[command(subcommand)]
    part: Part,
    /// The folder that tables and pictures are left in
    #[arg(long, global = true, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/growth"))]
    output: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Part {
    Placement(placement::Plan),
    Load(load::Plan),
}

fn main() -> ExitCode {
    // Cargo passes it to what it runs as a measurement. Without it this is a run of all tests, with words that are meant
    // for those.
    let is_asked_by_cargo_bench = |argument: &OsString| argument == "--bench";
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if !arguments.iter().any(is_asked_by_cargo_bench) {
        println!("growth: measures for minutes, and only when it is asked to: make growth");
        return ExitCode::SUCCESS;
    }
    let cli = Cli::parse_from(arguments.into_iter().filter(|argument| !is_asked_by_cargo_bench(argument)));
    std::fs::create_dir_all(&cli.output)
        .unwrap_or_else(|error| panic!("cannot make the folder {}: {error}", cli.output.display()));
    match cli.part {
        Part::Placement(plan) => placement::run(&plan, &cli.output),
        Part::Load(plan) => load::run(&plan, &cli.output),
    }
}

/// Draws panels one below the other, and says where they are.
fn draw(path: &Path, panels: &[picture::Panel]) {
    picture::draw(path, 1, panels).unwrap_or_else(|error| panic!("cannot draw {}: {error}", path.display()));
    println!("{}", path.display());
}

/// Writes a file of results, and says where it is.
fn leave(path: &Path, text: &str) {
    cluster::write(path, text);
    println!("{}", path.display());
}
