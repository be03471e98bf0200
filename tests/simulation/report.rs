//! What is left of a seed that failed: every event of its run, under target/simulation/.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::judge::trace_of;

/// Runs `seed` again, and writes down what happens.
pub fn write(seed: u64) {
    let trace = trace_of(seed);
    let mut text = String::new();
    for line in &trace.lines {
        let _ = writeln!(text, "{line}");
    }
    save(&format!("seed-{seed}.log"), &text);
}

fn save(name: &str, text: &str) {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let folder = target.join("simulation");
    let path = folder.join(name);
    match fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text)) {
        Ok(()) => println!("  see {}", path.display()),
        Err(error) => println!("  {} could not be written: {error}", path.display()),
    }
}
