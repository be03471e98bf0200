//! The machine and its processes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::checkout;

/// `AT_CLKTCK` of the auxiliary vector: how many ticks a second the kernel counts CPU time in.
const AUXILIARY_TICKS: u64 = 17;

/// User and system time of all threads of a process. Its resolution is a tick of the kernel, 10 ms as a rule.
pub fn cpu_used(process_id: u32) -> Duration {
    let path = format!("/proc/{process_id}/stat");
    let stat = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}; this report needs Linux"));
    // The name, in parentheses, may hold any character. The fields after it are numbers.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| -> u64 { fields[index].parse().expect("utime and stime are numbers") };
    Duration::from_secs_f64((ticks(11) + ticks(12)) as f64 / ticks_per_second())
}

fn ticks_per_second() -> f64 {
    static TICKS: OnceLock<f64> = OnceLock::new();
    *TICKS.get_or_init(|| {
        let vector = fs::read("/proc/self/auxv").expect("Linux has it");
        let mut words = vector.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
        while let (Some(kind), Some(value)) = (words.next(), words.next()) {
            if kind == AUXILIARY_TICKS {
                return value as f64;
            }
        }
        panic!("the kernel does not say in which ticks it tells time")
    })
}

/// Name and value of all that a reader needs to know to compare figures of two machines.
pub fn describe() -> Vec<(&'static str, String)> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let cores = std::thread::available_parallelism().map_or_else(|_| "?".into(), |cores| cores.to_string());
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let memory = memory.map_or_else(|| "?".into(), |kib: u64| format!("{:.1} GiB", kib as f64 / f64::from(1 << 20)));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    let data = std::env::temp_dir();
    vec![
        ("CPU", model.unwrap_or("?").to_owned()),
        ("cores", cores),
        ("memory", memory),
        ("kernel", kernel.trim().to_owned()),
        ("data folder", format!("{}, {}", data.display(), file_system(&data))),
        ("load of the machine before (1 minute)", load.to_owned()),
        ("quorate", format!("{}, commit {}", env!("CARGO_PKG_VERSION"), commit())),
        ("date", said_by(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))),
    ]
}

/// The file system of a folder: that of the longest mount point above it.
fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
            folder.starts_with(point).then(|| (point.len(), format!("{kind} on {device}")))
        })
        .max()
        .map_or_else(|| "?".into(), |(_, text)| text)
}

fn commit() -> String {
    let git = |arguments: &[&str]| said_by(Command::new("git").current_dir(checkout()).args(arguments));
    let changed = if git(&["status", "--porcelain"]).is_empty() { "" } else { ", with changes" };
    format!("{}{changed}", git(&["rev-parse", "--short", "HEAD"]))
}

fn said_by(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
