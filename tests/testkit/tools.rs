//! Programs of others that tests run: on PATH, or in the folder that `make clients` fills.
//!
//! Contract: a test without its programs says so and skips itself. With `QUORATE_REQUIRE_CLIENTS=1` it fails.

use std::ffi::OsString;
use std::path::PathBuf;

/// The folders in which programs are looked for, as a PATH, if all programs in `names` are there.
///
/// # Panics
/// Where one is missing and skipping is forbidden.
pub fn find(names: &[&str]) -> Option<OsString> {
    let cache = std::env::home_dir().unwrap_or_default().join(".cache/quorate/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain([cache]).collect();
    let is_missing = |name: &&&str| !folders.iter().any(|folder| folder.join(name).is_file());
    let missing: Vec<&&str> = names.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Some(std::env::join_paths(folders).expect("they were in PATH"));
    }
    assert!(
        std::env::var_os("QUORATE_REQUIRE_CLIENTS").is_none_or(|value| value != "1"),
        "{missing:?} is missing and QUORATE_REQUIRE_CLIENTS=1: `make clients` installs it"
    );
    println!("SKIPPED: {missing:?} is neither on PATH nor in ~/.cache/quorate/bin; `make clients` installs it");
    None
}
