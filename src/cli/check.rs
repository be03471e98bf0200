//! `quorate check`: is this machine good enough for a node? And with --linearizable, does a cluster keep its promise?
//!
//! Contract: a measurement changes nothing but a file of its own in the folder, which is removed at the end. What is judged is
//! stated beside its bound, and each bound says what follows from it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{Table, presets};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use serde_json::{Value as Json, json};

use super::linearizable::LinearizableLoad;
use super::output::{print, print_json};
use super::status::bytes_text;
use super::{CliError, Exit, Global};
use crate::client::Client;
use crate::service::cluster_report::is_disk_low;

/// Each write to a node waits for one sync, shared by the writes that wait together. Alerts are for slower ones too.
const SYNC_P99_MAX: Duration = Duration::from_millis(20);
/// A sync that takes longer is felt by clients, and a good disk takes a tenth of it.
const SYNC_P99_GOOD: Duration = Duration::from_millis(10);
/// A write takes two rounds to a majority of nodes.
const ROUND_TRIP_GOOD: Duration = Duration::from_millis(10);
const ROUND_TRIP_MAX: Duration = Duration::from_millis(100);
/// A small cluster needs so many open files.
const OPEN_FILES_MIN: u64 = 1_024;
/// Below this limit a node warns at its start.
const OPEN_FILES_GOOD: u64 = 4_096;
const FREE_BYTES_MIN: u64 = 1 << 30;

/// As many bytes as a batch of a few writes.
const BLOCK_BYTES: usize = 4_096;
/// The measurement of the disk ends after so many syncs, or after so long.
const SYNCS_MAX: usize = 1_000;
const SYNCS_TIME_MAX: Duration = Duration::from_secs(3);
const CALLS: usize = 50;

/// Check whether this machine is good enough for a node, or whether a cluster keeps its promise
///
/// Measures how long a sync takes in the folder, which should be on the disk of the node's data. Then it measures a call to each
/// node of --address that answers. It also looks at the limit of open files and at the free space. It takes three seconds.
///
/// Ends with code 6 if something is not good enough. What is only worth a look is a warning, and no failure.
///
/// With --linearizable several clients read, write, compare-and-set and delete a few fresh keys for some seconds. Then the checker
/// that Quorate's own tests use looks for one order of the operations that explains every answer. If there is none for a key, its
/// smallest wrong history is printed. Kill nodes meanwhile, pause them, or cut them off: that is what it is for.
///
/// The keys begin with quorate-check- and are removed at the end; should this process not live that long, they expire after an
/// hour. A write of unknown outcome may have happened or not, and the verdict holds in either case. Code 0: all histories are
/// linearizable. Code 6: one is not, or the checker gave up on one. Code 3: no operation was answered.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate check
  quorate check /var/lib/quorate
  quorate --address quorate-2:8001,quorate-3:8001 check /var/lib/quorate
  quorate check --json | jq -r .verdict
  quorate check --linearizable
  quorate check --linearizable --seconds 60 --clients 16
  quorate --address n1:8001,n2:8001,n3:8001 check --linearizable --timeout 1s
  quorate check --linearizable --json | jq -r .verdict")]
pub(super) struct Check {
    /// A folder on the disk of the node's data
    #[arg(value_name = "DIR", default_value = ".", conflicts_with = "linearizable")]
    folder: PathBuf,
    /// Run a load, and judge whether its history is linearizable
    #[arg(long)]
    linearizable: bool,
    #[command(flatten)]
    load: LinearizableLoad,
}

/// How something was judged, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Unknown,
    Good,
    Warning,
    Bad,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Unknown => "not measured",
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "not good enough",
        }
    }

    /// `found` is good up to the first bound, and bad above the second.
    fn at_most<T: PartialOrd + Copy>(found: T, good: T, max: T) -> Self {
        if found <= good {
            Self::Good
        } else if found <= max {
            Self::Warning
        } else {
            Self::Bad
        }
    }

    /// `found` is good from the first bound on, and bad below the second.
    fn at_least<T: PartialOrd + Copy>(found: T, good: T, min: T) -> Self {
        if found >= good {
            Self::Good
        } else if found >= min {
            Self::Warning
        } else {
            Self::Bad
        }
    }
}

/// One thing that was looked at.
struct Finding {
    /// Its name in JSON.
    name: String,
    what: String,
    found: String,
    figures: Json,
    verdict: Verdict,
    /// What to do where it is not good.
    advice: &'static str,
}

impl Check {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        if self.linearizable {
            return self.load.run(global).await;
        }
        let folder = self.folder.clone();
        let syncs = tokio::task::spawn_blocking(move || measure_syncs(&folder)).await;
        let syncs = syncs.map_err(|error| CliError::not_done(error.to_string()))??;
        let mut findings = vec![of_syncs(syncs), of_space(&self.folder)?, of_open_files()?];
        for address in global.addresses()? {
            findings.push(of_node(address, global).await?);
        }
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown);
        if global.json {
            print_json(&as_json(&findings, worst))?;
        } else {
            print(as_text(&findings, worst).as_bytes())?;
        }
        Ok(if worst == Verdict::Bad { Exit::NotGoodEnough } else { Exit::Done })
    }
}

/// A file that is removed with it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The times of syncs, each after a small write, as a log of writes makes them.
fn measure_syncs(folder: &Path) -> Result<Vec<Duration>, CliError> {
    let path = folder.join(format!(".quorate-check-{}", std::process::id()));
    let failed = |error: std::io::Error| {
        CliError::bad_input(format!("{}: cannot be written: {error}; name a folder that can", path.display()))
    };
    let mut file = File::options().create_new(true).write(true).open(&path).map_err(failed)?;
    let _scratch = Scratch(path.clone());
    let block = vec![0x5a; BLOCK_BYTES];
    let (began, mut took) = (Instant::now(), Vec::new());
    while took.len() < SYNCS_MAX && began.elapsed() < SYNCS_TIME_MAX {
        let at = Instant::now();
        file.write_all(&block).and_then(|()| file.sync_data()).map_err(failed)?;
        took.push(at.elapsed());
    }
    Ok(took)
}

/// The median and the 99th percentile; of few values the greatest.
fn percentiles(took: &mut [Duration]) -> Option<(Duration, Duration)> {
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len().checked_sub(1)? * percent / 100).copied();
    Some((at(50)?, if took.len() < 100 { at(100)? } else { at(99)? }))
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn of_syncs(mut took: Vec<Duration>) -> Finding {
    let count = took.len();
    let (p50, p99) = percentiles(&mut took).unwrap_or_default();
    Finding {
        name: "sync".to_owned(),
        what: "sync of the disk".to_owned(),
        found: format!("p50 {:.2} ms, p99 {:.2} ms ({count} syncs)", millis(p50), millis(p99)),
        figures: json!({ "p50_ms": millis(p50), "p99_ms": millis(p99), "syncs": count }),
        verdict: Verdict::at_most(p99, SYNC_P99_GOOD, SYNC_P99_MAX),
        advice: "each write waits for a sync: use a local SSD or NVMe disk, and no network file system",
    }
}

fn of_space(folder: &Path) -> Result<Finding, CliError> {
    let failed = |error| CliError::bad_input(format!("{}: its free space cannot be read: {error}", folder.display()));
    let found = statvfs(folder).map_err(failed)?;
    let block = found.fragment_size();
    let (free, total) = (found.blocks_available() * block, found.blocks() * block);
    let verdict = if free < FREE_BYTES_MIN {
        Verdict::Bad
    } else if is_disk_low(free, total) {
        Verdict::Warning
    } else {
        Verdict::Good
    };
    Ok(Finding {
        name: "disk_free".to_owned(),
        what: "free space".to_owned(),
        found: format!("{} of {}", bytes_text(free), bytes_text(total)),
        figures: json!({ "free_bytes": free, "total_bytes": total }),
        verdict,
        advice: "merging tables needs 30 % of the disk for a while: use a larger disk, or free space",
    })
}

fn of_open_files() -> Result<Finding, CliError> {
    let failed = |error| CliError::not_done(format!("the limit of open files cannot be read: {error}"));
    // A node raises its soft limit to the hard one.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    Ok(Finding {
        name: "open_files".to_owned(),
        what: "open files".to_owned(),
        found: hard.to_string(),
        figures: json!({ "limit": hard }),
        verdict: Verdict::at_least(hard, OPEN_FILES_GOOD, OPEN_FILES_MIN),
        advice: "raise `ulimit -Hn`, or LimitNOFILE= of the systemd unit, to 4096 or more",
    })
}

/// The time of a call to a node, whose connection stands.
async fn of_node(address: &str, global: &Global) -> Result<Finding, CliError> {
    let client = Client::builder().address(address).dialer(global.dialer()?).deadline(global.timeout).build()?;
    let name = format!("node {address}");
    let what = format!("call of {address}");
    if let Err(error) = client.health().await {
        return Ok(Finding {
            name,
            what,
            found: CliError::from(error).message.lines().next().unwrap_or_default().to_owned(),
            figures: json!({}),
            verdict: Verdict::Unknown,
            advice: "no node answers there: --address names those that this machine is to work with",
        });
    }
    let mut took = Vec::new();
    for _ in 0..CALLS {
        let at = Instant::now();
        client.health().await?;
        took.push(at.elapsed());
    }
    let (p50, p99) = percentiles(&mut took).unwrap_or_default();
    Ok(Finding {
        name,
        what,
        found: format!("p50 {:.2} ms, slowest {:.2} ms ({CALLS} calls)", millis(p50), millis(p99)),
        figures: json!({ "p50_ms": millis(p50), "slowest_ms": millis(p99), "calls": CALLS }),
        verdict: Verdict::at_most(p50, ROUND_TRIP_GOOD, ROUND_TRIP_MAX),
        advice: "a write takes two rounds to a majority of nodes: keep nodes near to each other",
    })
}

fn as_json(findings: &[Finding], worst: Verdict) -> Json {
    let finding = |finding: &Finding| {
        let mut json = json!({ "name": finding.name, "verdict": finding.verdict.word() });
        if finding.verdict != Verdict::Good {
            json["advice"] = finding.advice.into();
        }
        for (name, figure) in finding.figures.as_object().into_iter().flatten() {
            json[name] = figure.clone();
        }
        json
    };
    json!({ "verdict": worst.word(), "findings": findings.iter().map(finding).collect::<Vec<_>>() })
}

fn as_text(findings: &[Finding], worst: Verdict) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["WHAT", "VERDICT", "FOUND"]);
    for finding in findings {
        table.add_row([finding.what.as_str(), finding.verdict.word(), finding.found.as_str()]);
    }
    let mut text = String::new();
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for finding in findings.iter().filter(|finding| finding.verdict != Verdict::Good) {
        let _ = writeln!(text, "{}: {}", finding.what, finding.advice);
    }
    let said = match worst {
        Verdict::Bad => "this machine is not good enough for a node",
        Verdict::Warning => "this machine is good enough for a node, with warnings",
        Verdict::Unknown | Verdict::Good => "this machine is good enough for a node",
    };
    text + said + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_follows_the_slowest_hundredth() {
        let of = |slow: usize, millis: u64| {
            let mut took = vec![Duration::from_millis(1); 1_000 - slow];
            took.extend(vec![Duration::from_millis(millis); slow]);
            of_syncs(took).verdict
        };
        assert_eq!(of(5, 400), Verdict::Good, "a rare slow sync is no slow disk");
        assert_eq!(of(20, 15), Verdict::Warning);
        assert_eq!(of(20, 21), Verdict::Bad);
    }

    #[test]
    fn report_says_what_to_do_about_what_is_not_good() {
        let findings = [of_syncs(vec![Duration::from_millis(50); 10]), of_open_files().unwrap()];
        let text = as_text(&findings, Verdict::Bad);
        assert!(text.contains("p99 50.00 ms (10 syncs)") && text.contains("use a local SSD"), "{text}");
        assert!(text.ends_with("not good enough for a node\n"), "{text}");
        let json = as_json(&findings, Verdict::Bad);
        assert_eq!((&json["verdict"], &json["findings"][0]["p99_ms"]), (&json!("not good enough"), &json!(50.0)));
    }

    #[test]
    fn measurement_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!measure_syncs(folder.path()).unwrap().is_empty());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = measure_syncs(&folder.path().join("none")).unwrap_err();
        assert_eq!(error.exit, Exit::BadInput);
    }
}
