//! `quorate backup`: write the keys of all tables into files of a folder or a bucket, look at them, and write them into a new
//! cluster.

use std::cell::Cell;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::{Value as Json, json};

use super::list::on_a_line;
use super::output::{print, print_json, report, say};
use super::serve::shutdown_on_signal;
use super::status::bytes_text;
use super::transfer::progress;
use super::{CliError, Exit, Global};
use crate::backup::{self, BackupError, Create as NewBackup, Found, Manifest, Place, Progress, Restore as NewRestore};

/// Where no terminal shows a bar, a line tells so often how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Save the keys of all tables in files, check them, and restore them
///
/// A backup is a folder of files of JSON lines with checksums, and a manifest that is written last. Each record in it is what
/// get would have answered at one moment between its beginning and its end. It is no moment of the whole cluster.
///
/// In place of a folder, s3://BUCKET/PREFIX is a bucket of S3, or of a store with the same interface. AWS_ACCESS_KEY_ID,
/// AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL say how it is reached.
///
/// Never copy the data folder of a node in place of a backup: a node that comes back with an old folder is refused.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate backup create /backups/monday
  quorate backup verify /backups/monday
  quorate backup inspect /backups/monday
  quorate --address new:8001 backup restore /backups/monday
  AWS_REGION=eu-central-1 quorate backup create s3://backups/quorate/monday")]
pub(super) struct Backup {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Create),
    Inspect(Inspect),
    Verify(Verify),
    Restore(Restore),
}

/// Write a backup into a new folder, or a bucket
///
/// Asks nodes as any client does, for a hundred keys at a time, and rests as long as that took. Clients go on meanwhile, and so
/// does the backup while a minority of the nodes is away. Where it is interrupted, --resume goes on behind the last file that is
/// whole.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate backup create /backups/monday
  quorate backup create /backups/monday --resume
  quorate backup create /backups/users --prefix user:
  quorate backup create /backups/monday --bytes-per-second 10000000
  quorate backup create /backups/monday --json | jq .epoch_floor
  quorate backup create s3://backups/quorate/monday")]
struct Create {
    /// The folder or s3://BUCKET/PREFIX, which is new or empty
    #[arg(value_name = "PLACE")]
    place: OsString,
    /// Save only keys that begin with this, of each table
    #[arg(long)]
    prefix: Option<String>,
    /// Go on with a backup that was interrupted
    #[arg(long)]
    resume: bool,
    /// Save no more bytes in a second, so that clients have the rest
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    bytes_per_second: Option<u64>,
}

/// Show what a backup holds
///
/// Reads the manifest alone. It prints the epoch_floor to give to a new cluster that is to take over the keys. Exit code 2: the
/// backup is not finished.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate backup inspect /backups/monday
  quorate backup inspect /backups/monday --json | jq .epoch_floor")]
struct Inspect {
    /// The folder, or s3://BUCKET/PREFIX
    #[arg(value_name = "PLACE")]
    place: OsString,
}

/// Read a whole backup, and compare it with its checksums
///
/// Asks no node. Exit code 2: a file is missing, or is not as it was written.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate backup verify /backups/monday")]
struct Verify {
    /// The folder, or s3://BUCKET/PREFIX
    #[arg(value_name = "PLACE")]
    place: OsString,
}

/// Write a backup into a new cluster
///
/// Give the new cluster the epoch_floor that inspect prints, in its cluster.yml, before its first start. So no version that a
/// client of the old cluster has comes back. Tables are created with their settings. Values get the rest of their time to
/// live, as it was when they were saved.
///
/// A cluster whose epoch_floor is not above the clocks of the backup is refused, and so is one that has keys. With --force it is
/// taken: the keys of the backup are then written over those that are there, and others stay.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate --address new:8001 backup restore /backups/monday
  quorate --address new:8001 backup restore /backups/monday --from-file 12")]
struct Restore {
    /// The folder, or s3://BUCKET/PREFIX
    #[arg(value_name = "PLACE")]
    place: OsString,
    /// Write into a cluster that has keys, or an epoch_floor that is too small
    #[arg(long)]
    force: bool,
    /// Go on with the file of this number, as a restore says that was interrupted; keys may be there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    from_file: Option<u32>,
}

impl Backup {
    pub(super) fn asks_a_node(&self) -> bool {
        matches!(self.command, Command::Create(_) | Command::Restore(_))
    }

    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        match self.command {
            Command::Create(create) => create.run(global).await,
            Command::Inspect(inspect) => inspect.run(global).await,
            Command::Verify(verify) => verify.run(global).await,
            Command::Restore(restore) => restore.run(global).await,
        }
    }
}

impl Create {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let place = Place::parse(&self.place)?;
        let told_to_end = shutdown_on_signal()?;
        let mut shown = Shown::new("saved");
        let create = NewBackup::new(global.client()?, &place)
            .prefix(self.prefix.unwrap_or_default())
            .resume(self.resume)
            .bytes_per_second(self.bytes_per_second);
        let ended = tokio::select! {
            ended = create.run(|progress| shown.tell(progress)) => Some(ended),
            () = told_to_end.cancelled() => None,
        };
        shown.bar.finish_and_clear();
        let Some(ended) = ended else {
            let goes_on = if place.is_unfinished().await { "; --resume goes on where it ended" } else { "" };
            return Err(CliError::not_done(format!("told to end before the backup was whole{goes_on}")));
        };
        let manifest = match ended {
            Ok(manifest) => manifest,
            Err(error) => {
                let error = CliError::from(error);
                // Where nothing has begun, there is nothing to go on with.
                return Err(if error.exit == Exit::NotDone && place.is_unfinished().await {
                    CliError { message: error.message + "\n--resume goes on where it ended", ..error }
                } else {
                    error
                });
            }
        };
        if global.json {
            report(&format!("{}\n", manifest.summary()), "done");
        } else {
            report(&as_text(&manifest), "done");
        }
        Ok(Exit::Done)
    }
}

impl Inspect {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        match backup::find(Place::parse(&self.place)?).await? {
            Found::Whole(manifest) if global.json => print_json(&manifest.summary())?,
            Found::Whole(manifest) => print(as_text(&manifest).as_bytes())?,
            Found::Unfinished(progress) => {
                let Progress { keys, bytes, files } = progress;
                if global.json {
                    print_json(&json!({ "unfinished": true, "keys": keys, "bytes": bytes, "files": files }))?;
                } else {
                    print(format!("unfinished: {}\n", size_text(progress)).as_bytes())?;
                }
                return Ok(Exit::BadInput);
            }
        }
        Ok(Exit::Done)
    }
}

impl Verify {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let place = Place::parse(&self.place)?;
        let mut shown = Shown::new("verified");
        let ended = backup::verify(place, |progress| shown.tell(progress)).await;
        shown.bar.finish_and_clear();
        match ended {
            Ok(manifest) => {
                let Progress { keys, bytes, files } = manifest.size();
                if global.json {
                    print_json(&json!({ "ok": true, "keys": keys, "bytes": bytes, "files": files }))?;
                } else {
                    print(format!("ok: {}\n", size_text(manifest.size())).as_bytes())?;
                }
                Ok(Exit::Done)
            }
            Err(error) => {
                if global.json {
                    print_json(&json!({ "ok": false, "problem": error.to_string() }))?;
                }
                Err(error.into())
            }
        }
    }
}

impl Restore {
    async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let place = Place::parse(&self.place)?;
        let told_to_end = shutdown_on_signal()?;
        let (mut shown, done) = (Shown::new("restored"), Cell::new(0));
        let mut restore = NewRestore::new(global.client()?, place).force(self.force);
        if let Some(number) = self.from_file {
            restore = restore.from_file(usize::try_from(number).unwrap_or(usize::MAX));
        }
        let restoring = restore.run(|progress| {
            done.set(progress.files);
            shown.tell(progress);
        });
        let ended = tokio::select! {
            ended = restoring => Some(ended),
            () = told_to_end.cancelled() => None,
        };
        shown.bar.finish_and_clear();
        let Some(ended) = ended else {
            let number = u64::from(self.from_file.unwrap_or(1)) + done.get();
            return Err(CliError::not_done(format!(
                "told to end: the files before number {number} are restored: --from-file {number} goes on there"
            )));
        };
        let restored = ended?;
        let (keys, files, tables) = (restored.progress.keys, restored.progress.files, restored.tables);
        if global.json {
            report(&format!("{}\n", json!({ "keys": keys, "files": files, "tables": tables })), "done");
        } else {
            let (keys, files) = (counted(keys, "key"), counted(files, "file"));
            say(&format!("{keys} of {} restored from {files}", counted(tables as u64, "table")));
        }
        Ok(Exit::Done)
    }
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        let message = error.to_string();
        match error {
            BackupError::Client(error) => error.into(),
            BackupError::Interrupted { error, .. } => Self { message, ..Self::from(*error) },
            BackupError::Io { error, .. } if is_of_name(&error) => Self::bad_input(message),
            BackupError::Bucket { may_pass: false, .. } => Self::bad_input(message),
            BackupError::BadAnswer { .. }
            | BackupError::InUse { .. }
            | BackupError::TooFewClocks { .. }
            | BackupError::Bucket { .. }
            | BackupError::Io { .. } => Self::not_done(message),
            BackupError::OtherSettings { .. } => Self { exit: Exit::ConditionFailed, message },
            BackupError::NotEmpty { .. }
            | BackupError::Complete { .. }
            | BackupError::Unfinished { .. }
            | BackupError::NoBackup { .. }
            | BackupError::OtherBackup { .. }
            | BackupError::Damaged { .. }
            | BackupError::Format { .. }
            | BackupError::EpochFloor { .. }
            | BackupError::HasKeys { .. }
            | BackupError::NoSuchFile { .. } => Self::bad_input(message),
        }
    }
}

/// Whether the name that was given leads to nothing that can be a backup. Trying again would not help.
fn is_of_name(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::AlreadyExists
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
    )
}

/// The progress on stderr: a bar on a terminal, and a line now and then elsewhere.
struct Shown {
    bar: ProgressBar,
    what: &'static str,
    told_at: Instant,
}

impl Shown {
    fn new(what: &'static str) -> Self {
        Self { bar: progress(None), what, told_at: Instant::now() }
    }

    fn tell(&mut self, progress: Progress) {
        self.bar.set_position(progress.keys);
        if self.bar.is_hidden() && self.told_at.elapsed() >= TOLD_EVERY {
            self.told_at = Instant::now();
            let Progress { keys, bytes, files } = progress;
            let (keys, files) = (counted(keys, "key"), counted(files, "whole file"));
            say(&format!("{keys} {}, {}, {files}", self.what, bytes_text(bytes)));
        }
    }
}

/// So many of a thing, such as "1 key" and "2 keys".
fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// Such as "2 keys in 1 file, 190 B".
fn size_text(Progress { keys, bytes, files }: Progress) -> String {
    format!("{} in {}, {}", counted(keys, "key"), counted(files, "file"), bytes_text(bytes))
}

fn as_text(manifest: &Manifest) -> String {
    let json = manifest.summary();
    let cluster = &json["cluster"];
    let ids: Vec<&str> = cluster["node_ids"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let mut text = String::new();
    let (began, ended) = (manifest.beginning.began_at, manifest.ended_at);
    let _ = writeln!(
        text,
        "cluster: nodes {}, seed {}, replica_count {}",
        ids.join(", "),
        cluster["seed"],
        cluster["replica_count"]
    );
    let _ = writeln!(text, "time: {} to {}", utc(began), utc(ended));
    if !manifest.beginning.prefix.is_empty() {
        let _ = writeln!(text, "prefix: {}", on_a_line(&manifest.beginning.prefix));
    }
    let _ = writeln!(text, "size: {}", size_text(manifest.size()));
    for table in json["tables"].as_array().into_iter().flatten() {
        let name = on_a_line(table["table"].as_str().unwrap_or_default());
        let size = bytes_text(table["bytes"].as_u64().unwrap_or_default());
        let _ = writeln!(text, "table {name}: {}, {size}", counted(table["keys"].as_u64().unwrap_or_default(), "key"));
    }
    for name in &manifest.dropped {
        let _ = writeln!(text, "table {}: dropped meanwhile, and not saved", on_a_line(name));
    }
    let _ = writeln!(text, "greatest clock: {}", manifest.greatest_clock);
    let _ = writeln!(text, "epoch_floor: {}", manifest.epoch_floor());
    text
}

/// A time of day in UTC, as RFC 3339 writes it. The date is computed from days as in Hinnant's `civil_from_days`.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(size_text(Progress { keys: 1, bytes: 90, files: 1 }), "1 key in 1 file, 90 B");
        assert_eq!(size_text(Progress { keys: 2, bytes: 90, files: 0 }), "2 keys in 0 files, 90 B");
    }
}
