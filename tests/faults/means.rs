//! The faults that this machine allows, found out once. A fault that is not possible is reported, not passed over.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// The variable that moves a node's wall clock.
const SHIFT_VARIABLE: &str = "CLOCK_SHIFT_SECONDS";
/// Large enough for a folder and two copies of it. A node's log alone has 75 MB of address space, of which little is used.
const MOUNT_OPTIONS: &str = "size=128m";
/// How far the time of `date` may be from the one that was set.
const SHIFT_ERROR_MAX: Duration = Duration::from_mins(1);

/// The ways to make faults on this machine.
#[derive(Debug)]
pub(crate) struct Means {
    /// A program that replaces itself by a node, so that the node ends with the thread that started it, and survives SIGXFSZ.
    pub(crate) wrapper: Vec<OsString>,
    /// Whether the size of a process's files can be limited.
    pub(crate) limits_files: bool,
    /// Whether small file systems can be mounted.
    pub(crate) mounts: bool,
    /// A library that moves the wall clock of the process that loads it.
    clock: Option<PathBuf>,
}

impl Means {
    /// Finds out what is possible. Libraries are built in `dir`.
    pub(crate) fn find(dir: &Path) -> Self {
        let mut wrapper: Vec<OsString> = Vec::new();
        if runs("setpriv", &["--pdeathsig", "KILL", "true"]) {
            wrapper.extend(["setpriv", "--pdeathsig", "KILL"].map(Into::into));
        } else {
            println!("no setpriv here: nodes would outlive a test that is itself killed");
        }
        let limits_files = runs("prlimit", &["--version"]) && runs("bash", &["--version"]);
        if limits_files {
            // Beyond the limit the system sends SIGXFSZ, which ends a process that does not ignore it. A full disk sends no
            // signal.
            wrapper.extend(["bash", "-c", "trap '' XFSZ; exec \"$@\"", "bash"].map(Into::into));
        } else {
            println!("SKIPPED: full disks: prlimit and bash are needed to limit a process");
        }
        let mounts = Mount::new(&dir.join("mount")).is_some();
        if !mounts {
            println!(
                "SKIPPED: full file systems: this user cannot mount a small one; full disks are limited files alone"
            );
        }
        let clock = clock(dir);
        if clock.is_none() {
            println!("SKIPPED: moved wall clocks: cc cannot build a library here that moves the time of date(1)");
        }
        Self { wrapper, limits_files, mounts, clock }
    }

    /// The environment of a process whose wall clock is `seconds` off. `None` if that is not possible here.
    pub(crate) fn shifted(&self, seconds: i64) -> Option<Vec<(String, OsString)>> {
        if seconds == 0 {
            return Some(Vec::new());
        }
        let clock = self.clock.as_ref()?;
        Some(vec![("LD_PRELOAD".to_owned(), clock.into()), (SHIFT_VARIABLE.to_owned(), seconds.to_string().into())])
    }
}

/// A small file system. It is unmounted when it is dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Mounts one, if this user may do so.
    pub(crate) fn new(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("a folder can be made");
        let path = at.display().to_string();
        let mounted = runs("mount", &["-t", "tmpfs", "-o", MOUNT_OPTIONS, "quorate-faults", &path]);
        mounted.then(|| Self { at: at.to_path_buf() })
    }

    /// Leaves `room` bytes of it free.
    pub(crate) fn fill(&self, room: u64) {
        let mut file = File::create(self.filler()).expect("a file can be made");
        let block = vec![0; 4_096];
        let mut bytes = 0;
        loop {
            match file.write(&block) {
                Ok(count) => bytes += count as u64,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("the file system does not fill: {error}"),
            }
        }
        file.set_len(bytes.saturating_sub(room)).expect("a file can be shortened");
    }

    /// Frees the space that [`fill`](Self::fill) took.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).expect("the filler can be removed");
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, because after a failed run a process may still use it for a moment.
        if !runs("umount", &["-l", &self.at.display().to_string()]) {
            eprintln!("could not unmount {}", self.at.display());
        }
    }
}

/// Limits the size of the files that a process writes.
pub(crate) fn limit_files(process: u32, bytes_max: Option<u64>) {
    let limit = bytes_max.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    let arguments = ["--pid", &process.to_string(), &format!("--fsize={limit}:unlimited")];
    assert!(runs("prlimit", &arguments), "prlimit {arguments:?} failed");
}

/// Builds the library that moves a clock, and tries it.
fn clock(dir: &Path) -> Option<PathBuf> {
    // Cargo starts tests in the folder of the package.
    let source = "tests/faults/clock_shift.c";
    let built = dir.join("clock_shift.so");
    let built_path = built.display().to_string();
    if !runs("cc", &["-shared", "-fPIC", "-O1", "-o", &built_path, source, "-ldl"]) {
        return None;
    }
    let hour = 3_600;
    let shifted = Command::new("date")
        .arg("+%s")
        .env("LD_PRELOAD", &built)
        .env(SHIFT_VARIABLE, hour.to_string())
        .stderr(Stdio::null())
        .output();
    let shown: u64 = String::from_utf8(shifted.ok()?.stdout).ok()?.trim().parse().ok()?;
    let now = SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs();
    (shown.abs_diff(now + hour) <= SHIFT_ERROR_MAX.as_secs()).then_some(built)
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
