//! A name server that does not answer, for one process.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// In a process with [`silent_name_server`] in its environment, the look-up of a name with this ending takes a minute and fails.
pub const SILENT: &str = ".silent";

/// The environment of a process whose name server does not answer for names that end in [`SILENT`]. Its library
/// is built in `dir`. `None` where this machine has no C compiler; that is said, not passed over.
pub fn silent_name_server(dir: &Path) -> Option<(String, OsString)> {
    let built = dir.join("silent_name_server.so");
    // Cargo starts tests in the folder of the package.
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&built)
        .args(["tests/testkit/silent_name_server.c", "-ldl"])
        .stdout(Stdio::null())
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        println!("SKIPPED: silent name servers: cc cannot build a library here");
        return None;
    }
    Some(("LD_PRELOAD".to_owned(), built.into_os_string()))
}
