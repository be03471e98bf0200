//! Name servers for processes under test: one that does not answer, and one whose answers change.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// In a process with [`name_server`] in its environment, the look-up of a name with this ending takes a minute and fails.
pub const SILENT: &str = ".silent";
/// There, a name with this ending is looked up in the file that [`NAMES_FILE`] names.
pub const MOVING: &str = ".moving";
/// The variable that names a file with names and addresses.
const NAMES_FILE: &str = "NAMES_FILE";

/// The environment of a process whose name server does not answer for names that end in [`SILENT`]. Its library
/// is built in `dir`. `None` where this machine has no C compiler; that is said, not passed over.
pub fn name_server(dir: &Path) -> Option<(String, OsString)> {
    let built = dir.join("name_server.so");
    // Cargo starts tests in the folder of the package.
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&built)
        .args(["tests/testkit/name_server.c", "-ldl"])
        .stdout(Stdio::null())
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        println!("SKIPPED: other name servers: cc cannot build a library here");
        return None;
    }
    Some(("LD_PRELOAD".to_owned(), built.into_os_string()))
}

/// Names that end in [`MOVING`], and where they point now, for this process and those that it starts.
#[derive(Debug)]
pub struct MovingNames {
    file: PathBuf,
    addresses: BTreeMap<String, Ipv4Addr>,
}

impl MovingNames {
    /// Runs the test called `test` of this program again, in a process of its own that looks names up in a file, and returns `None`
    /// once that has succeeded. In that process, returns the names.
    ///
    /// # Panics
    /// Where the test has failed there.
    pub fn of_own_process(test: &str) -> Option<Self> {
        if let Some(file) = std::env::var_os(NAMES_FILE) {
            return Some(Self { file: file.into(), addresses: BTreeMap::new() });
        }
        let dir = tempfile::tempdir().expect("a folder can be made");
        let (name, value) = name_server(dir.path())?;
        let program = std::env::current_exe().expect("a process knows its own program");
        let ran = Command::new(program)
            .args(["--exact", test, "--nocapture"])
            .env(name, value)
            .env(NAMES_FILE, dir.path().join("names"))
            .stdin(Stdio::null())
            .output()
            .expect("a program can be started");
        let (said, problems) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        println!("{said}");
        assert!(ran.status.success() && said.contains("1 passed"), "{test}: {}\n{said}\n{problems}", ran.status);
        None
    }

    /// Lets a name point to an address.
    pub fn point(&mut self, name: &str, address: Ipv4Addr) {
        self.addresses.insert(name.to_owned(), address);
        self.write();
    }

    /// Takes a name away.
    pub fn remove(&mut self, name: &str) {
        self.addresses.remove(name);
        self.write();
    }

    /// In one step: others read it meanwhile.
    fn write(&self) {
        let lines: Vec<String> = self.addresses.iter().map(|(name, address)| format!("{name} {address}")).collect();
        let text = lines.join("\n") + "\n";
        let new = self.file.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &self.file)).expect("the file can be written");
    }
}
