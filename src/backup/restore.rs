//! Writes the keys of a backup into a cluster.
//!
//! Contract: without `force` the cluster is a new one, whose clocks began above those of the backup. So each record of the backup
//! gets a version that the old cluster never gave. Keys are written as clients write them. To write one twice does no harm, as
//! nobody else writes yet.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::error::BackupError;
use super::file::{KeyFile, KeyFileReader};
use super::line::Line;
use super::manifest::{Manifest, SavedTable};
use super::place::Place;
use super::{Progress, found};
use crate::client::{Client, ClientError, Write};
use crate::types::DEFAULT_TABLE;

/// The keys of one call.
const BATCH_KEYS_MAX: usize = 256;
/// The bytes of values of one call, unless one value alone has more.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// The calls that are under way at once.
const BATCHES_IN_FLIGHT: usize = 4;
/// How long a key is written again whose outcome is not known, or that no majority took.
const RETRY_FOR: Duration = Duration::from_mins(1);
/// The pause before it is written again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A backup that is to be written into a cluster.
#[derive(Clone, Debug)]
pub struct Restore {
    client: Client,
    place: Place,
    force: bool,
    from_file: Option<usize>,
    retry_for: Duration,
}

/// A restore that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What was written.
    pub progress: Progress,
    /// The tables, `default` included.
    pub tables: usize,
}

impl Restore {
    /// Writes the backup in `place` into the cluster of `client`.
    pub fn new(client: Client, place: impl Into<Place>) -> Self {
        Self { client, place: place.into(), force: false, from_file: None, retry_for: RETRY_FOR }
    }

    /// Writes into a cluster that has keys, or whose versions may be those of the old one.
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Goes on with the file of this number, the first of which is 1. Keys that are there are no reason to refuse then.
    #[must_use]
    pub fn from_file(mut self, number: usize) -> Self {
        self.from_file = Some(number);
        self
    }

    /// Writes a key again for so long where its outcome is not known; a minute without it.
    #[must_use]
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// Writes all keys.
    ///
    /// # Errors
    /// When the backup is damaged, the cluster is not one for it, or no majority answers. [`BackupError::Interrupted`] says
    /// where to go on.
    pub async fn run(self, mut on_progress: impl FnMut(Progress)) -> Result<Restored, BackupError> {
        let manifest = found::whole(&self.place).await?;
        let files = manifest.files.len();
        let first = self.from_file.unwrap_or(1);
        if first == 0 || first > files.max(1) {
            return Err(BackupError::NoSuchFile { number: first, files });
        }
        if !self.force {
            self.check(&manifest).await?;
        }
        let mut tables = 0;
        for table in manifest.tables() {
            self.create(table).await?;
            tables += 1;
        }
        let mut progress = Progress::default();
        for (number, file) in (1..).zip(&manifest.files).skip(first - 1) {
            let ended = self.write_file(file, &mut progress, &mut on_progress).await;
            ended.map_err(|error| BackupError::Interrupted { number, error: Box::new(error) })?;
            progress.files += 1;
            on_progress(progress);
        }
        Ok(Restored { progress, tables })
    }

    /// Refuses a cluster that could give versions of the backup again, or that has keys.
    async fn check(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let floor = self.client.cluster_info().await?.epoch_floor;
        let epoch = manifest.greatest_clock.epoch;
        if floor <= epoch {
            return Err(BackupError::EpochFloor { floor, epoch, needed: manifest.epoch_floor() });
        }
        // What was interrupted has written keys, also where its first file was not done.
        if self.from_file.is_some() {
            return Ok(());
        }
        for table in self.client.tables().list().await? {
            let first = self.client.table(&table.name).list("").limit(1).collect().await?;
            if let Some(listed) = first.into_iter().next() {
                return Err(BackupError::HasKeys { table: table.name, key: listed.key });
            }
        }
        Ok(())
    }

    async fn create(&self, table: &SavedTable) -> Result<(), BackupError> {
        if table.name == DEFAULT_TABLE {
            return Ok(());
        }
        let mut create = self.client.tables().create(&table.name).if_missing();
        if let Some(ttl) = table.default_ttl {
            create = create.default_ttl(ttl);
        }
        if let Some(bytes) = table.value_bytes_max {
            create = create.value_bytes_max(bytes);
        }
        if let Some(bytes) = table.quota_bytes {
            create = create.quota_bytes(bytes);
        }
        let found = create.await?.table;
        let is_same = (found.default_ttl, found.value_bytes_max, found.quota_bytes)
            == (table.default_ttl, table.value_bytes_max, table.quota_bytes);
        if is_same { Ok(()) } else { Err(BackupError::OtherSettings { table: table.name.clone() }) }
    }

    async fn write_file(
        &self,
        file: &KeyFile,
        progress: &mut Progress,
        on_progress: &mut impl FnMut(Progress),
    ) -> Result<(), BackupError> {
        let client = self.client.table(&file.table);
        let mut reader = KeyFileReader::open(file, &self.place).await?;
        let mut writes: JoinSet<Result<Progress, ClientError>> = JoinSet::new();
        let mut following = reader.next()?;
        while following.is_some() || !writes.is_empty() {
            let (mut batch, mut bytes, mut bytes_of_lines) = (Vec::new(), 0, 0);
            // A value that does not fit goes alone.
            while let Some((line, bytes_of_line)) = following.take_if(|(line, _)| fits(&batch, bytes, line)) {
                bytes += line.value.bytes().len();
                bytes_of_lines += bytes_of_line;
                batch.push(line);
                following = reader.next()?;
            }
            if !batch.is_empty() {
                let written = Progress { keys: batch.len() as u64, bytes: bytes_of_lines, files: 0 };
                let write = write(client.clone(), batch, self.retry_for);
                writes.spawn(async move { write.await.map(|()| written) });
            }
            while writes.len() >= BATCHES_IN_FLIGHT || following.is_none() && !writes.is_empty() {
                let Some(written) = writes.join_next().await else { break };
                let written = written.expect("no write panics")?;
                progress.keys += written.keys;
                progress.bytes += written.bytes;
                on_progress(*progress);
            }
        }
        Ok(())
    }
}

/// Whether `line` goes into a call with `batch`, whose values have so many bytes.
fn fits(batch: &[Line], bytes: usize, line: &Line) -> bool {
    batch.is_empty() || batch.len() < BATCH_KEYS_MAX && bytes + line.value.bytes().len() <= BATCH_BYTES_MAX
}

/// Writes some keys, again for `retry_for` where that may help.
async fn write(client: Client, mut lines: Vec<Line>, retry_for: Duration) -> Result<(), ClientError> {
    let began = Instant::now();
    loop {
        let writes: Vec<Write> = lines.iter().map(|line| Write::Set(set(&client, line))).collect();
        let outcomes = match client.batch_write(writes).await {
            Ok(outcomes) => outcomes,
            Err(error) => lines.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut left = Vec::new();
        for (line, outcome) in lines.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => {}
                Err(
                    ClientError::OutcomeUnknown { .. }
                    | ClientError::NotApplied { .. }
                    | ClientError::Unavailable { .. },
                ) if began.elapsed() < retry_for => {
                    left.push(line);
                }
                Err(error) => return Err(error),
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        lines = left;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn set(client: &Client, line: &Line) -> crate::client::Set {
    let set = client.set(&line.key, line.value.clone());
    match line.ttl {
        // What had less than a millisecond left has one.
        Some(ttl) => set.ttl(ttl.max(Duration::from_millis(1))),
        None => set,
    }
}
