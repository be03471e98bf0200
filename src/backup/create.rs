//! Writes a backup.
//!
//! The keys come from lists, for which a majority of each key's replicas answers. Where no node goes on with a list, or this
//! process is interrupted, the next one begins behind the last key that is safe.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::error::BackupError;
use super::file::{KeyFile, KeyFileWriter};
use super::found::{self, Found, progress_of};
use super::manifest::{Beginning, Manifest, SavedTable};
use super::place::{List, Place};
use super::{Progress, line};
use crate::api;
#[cfg(feature = "mutants")]
use crate::client::Listed;
use crate::client::{Client, ClientError};
use crate::mutants::rule;
use crate::service::cluster_report::{HEALTH_TIME_MAX, ask_all};
use crate::types::{Clock, TableId};
use crate::wire::version::VersionText;

/// A file is ended once it has so many bytes. What is lost by an interruption is one file at most.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How many keys are asked for at once. For more of them nodes would work longer without a pause, and others would wait.
const PAGE_KEYS: u64 = 100;
/// After each page the backup rests for as long as the page took, and for so long at most: others have the nodes meanwhile.
const REST_MAX: Duration = Duration::from_millis(500);
/// How long a list is asked for again while no node answers.
const RETRY_FOR: Duration = Duration::from_mins(1);
/// The pause before it is asked for again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// A pause for the pace is at least so long, because timers are coarse.
const PACE_PAUSE_MIN: Duration = Duration::from_millis(20);

/// A backup that is to be written.
#[derive(Clone, Debug)]
pub struct Create {
    client: Client,
    place: Place,
    prefix: String,
    resumes: bool,
    bytes_per_second: Option<u64>,
    file_bytes_max: u64,
    retry_for: Duration,
}

impl Create {
    /// A backup of all tables into `place`, which is new or empty.
    pub fn new(client: Client, place: impl Into<Place>) -> Self {
        Self {
            client,
            place: place.into(),
            prefix: String::new(),
            resumes: false,
            bytes_per_second: None,
            file_bytes_max: FILE_BYTES_MAX,
            retry_for: RETRY_FOR,
        }
    }

    /// Saves only keys that begin with this.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Goes on with a backup that was interrupted, if there is one.
    #[must_use]
    pub fn resume(mut self, resumes: bool) -> Self {
        self.resumes = resumes;
        self
    }

    /// Saves no more bytes in a second, so that clients have the rest.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: Option<u64>) -> Self {
        self.bytes_per_second = bytes;
        self
    }

    /// Ends a file once it has so many bytes; 64 MiB without it.
    #[must_use]
    pub fn file_bytes_max(mut self, bytes: u64) -> Self {
        self.file_bytes_max = bytes;
        self
    }

    /// Asks again for so long while no node answers; a minute without it.
    #[must_use]
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// Writes the backup. Whenever this ends early, [`Create::resume`] goes on with what is there.
    ///
    /// # Errors
    /// When the place holds something else, is in use or cannot be written, or the cluster does not answer or refuses.
    pub async fn run(self, on_progress: impl FnMut(Progress)) -> Result<Manifest, BackupError> {
        let place = self.place.clone();
        place.prepare()?;
        let earlier = self.earlier().await?;
        let mut list = place.open_list(earlier.as_ref().map_or(0, |(_, files)| 1 + files.len()))?;
        let info = self.client.cluster_info().await?;
        let (beginning, files) = if let Some((beginning, files)) = earlier {
            (self.same(beginning, &info)?, files)
        } else {
            let beginning = self.begin(&info).await?;
            list.append(&beginning.as_json()).await?;
            (beginning, Vec::new())
        };
        let versions = VersionText::of_cluster(info.seed);
        let done = progress_of(&files);
        let mut work = Work {
            pace: Pace { began: Instant::now(), bytes: 0, bytes_per_second: self.bytes_per_second },
            create: self,
            list,
            files,
            done,
            versions,
            on_progress,
        };
        let mut dropped = Vec::new();
        for table in &beginning.tables {
            if !work.save(table).await? {
                work.files.retain(|file| file.table != table.name);
                work.done = progress_of(&work.files);
                dropped.push(table.name.clone());
            }
        }
        let of_nodes = work.clock_of_nodes().await?;
        let greatest_clock = work.files.iter().map(|file| file.greatest_clock).fold(of_nodes, Clock::max);
        let written_by = env!("CARGO_PKG_VERSION").to_owned();
        let Work { list, files, .. } = work;
        let manifest = Manifest { beginning, written_by, ended_at: unix_seconds(), greatest_clock, dropped, files };
        place.finish(list, &manifest).await?;
        Ok(manifest)
    }

    /// The backup that was interrupted in this place. An error where the place has anything else.
    async fn earlier(&self) -> Result<Option<(Beginning, Vec<KeyFile>)>, BackupError> {
        let path = self.place.path();
        let earlier = match found::find(&self.place).await {
            Ok(Found::Whole(_)) => return Err(BackupError::Complete { path }),
            Ok(Found::Unfinished(_)) if self.resumes => found::read_unfinished(&self.place).await?,
            Ok(Found::Unfinished(_)) => return Err(BackupError::Unfinished { path }),
            Err(BackupError::NoBackup { .. }) => None,
            Err(error) => return Err(error),
        };
        if earlier.is_none() && self.place.has_files().await? {
            return Err(BackupError::NotEmpty { path });
        }
        Ok(earlier)
    }

    async fn begin(&self, info: &api::ClusterInfoResponse) -> Result<Beginning, BackupError> {
        let tables = self.client.tables().list().await?;
        Ok(Beginning {
            cluster: info.cluster.clone(),
            seed: info.seed,
            replica_count: u64::try_from(info.replication_level).unwrap_or_default(),
            node_ids: node_ids(info),
            epoch_floor: info.epoch_floor,
            prefix: self.prefix.clone(),
            tables: tables.iter().filter(|table| !table.is_dropping).map(SavedTable::of).collect(),
            began_at: unix_seconds(),
        })
    }

    /// Checks that the backup that was interrupted is this one.
    fn same(&self, beginning: Beginning, info: &api::ClusterInfoResponse) -> Result<Beginning, BackupError> {
        let difference = if beginning.prefix != self.prefix {
            format!("of the keys with prefix {:?}", beginning.prefix)
        } else if beginning.seed != info.seed || beginning.epoch_floor != info.epoch_floor {
            format!("of a cluster with seed {} and epoch_floor {}", beginning.seed, beginning.epoch_floor)
        } else if beginning.cluster != info.cluster {
            // The members may all be others by now; the cluster is the same.
            format!("of another cluster, whose nodes were {}", beginning.node_ids.join(", "))
        } else {
            return Ok(beginning);
        };
        Err(BackupError::OtherBackup { path: self.place.path(), difference })
    }
}

/// A backup that is under way.
struct Work<P> {
    create: Create,
    list: List,
    files: Vec<KeyFile>,
    /// What these files have.
    done: Progress,
    versions: VersionText,
    pace: Pace,
    on_progress: P,
}

impl<P: FnMut(Progress)> Work<P> {
    /// Saves the keys of a table that are not saved yet. `false` if the table was dropped meanwhile.
    async fn save(&mut self, table: &SavedTable) -> Result<bool, BackupError> {
        let before = self.files.iter().rev().filter(|file| file.table == table.name);
        let after = before.clone().find_map(|file| file.last.clone());
        if before.clone().any(|file| file.ends_table) {
            return Ok(true);
        }
        let mut writer: Option<KeyFileWriter> = None;
        let ended = self.save_into(&mut writer, table, after).await;
        if let Some(open) = writer {
            open.abandon().await;
        }
        ended
    }

    /// Saves the keys of a table above `after`. A file that is left in `writer` is not whole.
    async fn save_into(
        &mut self,
        writer: &mut Option<KeyFileWriter>,
        table: &SavedTable,
        mut after: Option<String>,
    ) -> Result<bool, BackupError> {
        let client = self.create.client.table(&table.name);
        let mut answered_at = Instant::now();
        loop {
            let (began, mut keys) = (Instant::now(), 0);
            let mut list = client.list(&self.create.prefix).values().limit(PAGE_KEYS);
            if let Some(after) = &after {
                list = list.start_after(after.clone());
            }
            let mut listing = list.stream();
            let failed = loop {
                let listed = match listing.next().await {
                    Some(Ok(listed)) => listed,
                    Some(Err(error)) => break Some(error),
                    None if keys == PAGE_KEYS => break None,
                    None => {
                        // A table that was dropped and created again may have no key that tells.
                        match self.is_gone(table).await {
                            Ok(true) => return Ok(false),
                            Ok(false) => {}
                            Err(error) => break Some(error),
                        }
                        let whole = match writer.take() {
                            Some(whole) => whole,
                            None => self.begin_file(table, after)?,
                        };
                        self.end_file(whole, true).await?;
                        return Ok(true);
                    }
                };
                let listed = rule!(BackupFromOneReplica, listed, not from_one_replica(&client, listed).await?);
                let bad = |_| BackupError::BadAnswer { problem: format!("{:?} is no version", listed.version) };
                let version = self.versions.decode(&listed.version).map_err(bad)?;
                if version.table != TableId(table.id) {
                    return Ok(false);
                }
                let clock =
                    version.ballot.as_ref().map_or(version.stamp.clock, |ballot| ballot.clock.max(version.stamp.clock));
                let line = line::as_json(&listed).to_string();
                let open = match writer {
                    Some(open) => open,
                    None => writer.insert(self.begin_file(table, after.take())?),
                };
                after = Some(listed.key.clone());
                open.append(listed.key, clock, &line).await?;
                self.tell(Some(&open.content));
                if let Some(full) = writer.take_if(|open| open.content.bytes >= self.create.file_bytes_max) {
                    self.end_file(full, false).await?;
                }
                self.pace.spend(line.len() as u64).await;
                answered_at = Instant::now();
                keys += 1;
            };
            let Some(failed) = failed else {
                tokio::time::sleep(began.elapsed().min(REST_MAX)).await;
                continue;
            };
            match failed {
                ClientError::NoSuchTable { .. } => return Ok(false),
                ClientError::Unavailable { .. } if answered_at.elapsed() < self.create.retry_for => {
                    // One that is being dropped answers no more.
                    if self.is_gone(table).await.is_ok_and(|is_gone| is_gone) {
                        return Ok(false);
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                error => return Err(error.into()),
            }
        }
    }

    /// The greatest clock of so many nodes that each slot has a majority of its replicas among them: one of these has seen
    /// each write that was acknowledged. No file tells the clock of a key that was deleted.
    async fn clock_of_nodes(&self) -> Result<Clock, BackupError> {
        let (client, began) = (&self.create.client, Instant::now());
        loop {
            let info = client.cluster_info().await?;
            let answers = ask_all(&info, &[], &|_| client.dialer(), HEALTH_TIME_MAX).await;
            let clocks: Vec<Clock> =
                answers.into_values().filter_map(|answer| answer.ok()?.clock).map(Clock::from).collect();
            let nodes = info.storage_nodes.len();
            let replicas = usize::try_from(info.replication_level).unwrap_or(1);
            if nodes <= clocks.len() + replicas.saturating_sub(1) / 2 {
                return Ok(clocks.into_iter().fold(Clock::default(), Clock::max));
            }
            if began.elapsed() >= self.create.retry_for {
                return Err(BackupError::TooFewClocks { told: clocks.len(), nodes });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Whether a table is dropped, or another one has its name.
    async fn is_gone(&self, table: &SavedTable) -> Result<bool, ClientError> {
        let found = self.create.client.tables().get(&table.name).await?;
        Ok(found.is_none_or(|found| found.is_dropping || found.id != table.id))
    }

    fn begin_file(&self, table: &SavedTable, after: Option<String>) -> Result<KeyFileWriter, BackupError> {
        KeyFileWriter::begin(&self.create.place, self.files.len() + 1, &table.name, after)
    }

    async fn end_file(&mut self, writer: KeyFileWriter, ends_table: bool) -> Result<(), BackupError> {
        let file = writer.finish(ends_table).await?;
        self.list.append(&file.as_json()).await?;
        self.done.keys += file.keys;
        self.done.bytes += file.bytes;
        self.done.files += 1;
        self.files.push(file);
        self.tell(None);
        Ok(())
    }

    fn tell(&mut self, open: Option<&KeyFile>) {
        let mut progress = self.done;
        if let Some(open) = open {
            progress.keys += open.keys;
            progress.bytes += open.bytes;
        }
        (self.on_progress)(progress);
    }
}

/// What the mutant saves: what one replica holds.
#[cfg(feature = "mutants")]
async fn from_one_replica(client: &Client, listed: Listed) -> Result<Listed, BackupError> {
    let found = client.get(&listed.key).from_one_replica().await?;
    let Some(found) = found else { return Ok(listed) };
    Ok(Listed { version: found.version, value: Some(found.value), ttl: found.ttl, ..listed })
}

/// How fast keys are saved.
struct Pace {
    began: Instant,
    bytes: u64,
    bytes_per_second: Option<u64>,
}

impl Pace {
    async fn spend(&mut self, bytes: u64) {
        let Some(per_second) = self.bytes_per_second else { return };
        self.bytes += bytes;
        let needed = Duration::from_secs_f64(self.bytes as f64 / per_second.max(1) as f64);
        let ahead = needed.saturating_sub(self.began.elapsed());
        if ahead >= PACE_PAUSE_MIN {
            tokio::time::sleep(ahead).await;
        }
    }
}

fn node_ids(info: &api::ClusterInfoResponse) -> Vec<String> {
    info.storage_nodes.iter().map(|node| node.id.clone()).collect()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
