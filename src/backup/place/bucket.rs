//! A backup in a bucket, in the same files as in a folder.
//!
//! An object cannot be appended to, and has no lock. So each line of what is done is an object of its own,
//! `unfinished/000000.json` and so on, which is created only where it is missing. The same holds for the manifest: of two
//! backups under one name, one ends with an error. Names of files of keys have a number of the process in them, so that the
//! other one cannot replace a file that the manifest names.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::AmazonS3;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, RetryConfig};
use serde_json::Value as Json;
use tokio::io::AsyncWriteExt as _;

use super::super::error::BackupError;
use super::super::file::KeyFile;
use super::super::manifest::Manifest;
use super::{BLOCK_BYTES, MANIFEST, errors, settings};

/// What the names of lines about what is done begin with.
pub(super) const UNFINISHED: &str = "unfinished";

/// An object of more bytes is sent in parts of so many. A store takes parts of 5 MiB and more.
const PART_BYTES: usize = 8 << 20;
/// The parts of an object that are sent at the same time.
const PARTS_IN_FLIGHT: usize = 4;
/// The lines about what is done that are read at the same time.
const LINES_IN_FLIGHT: usize = 16;
/// How often, and how long, the first requests are sent again: a wrong address is told at once.
const HASTY: (usize, Duration) = (2, Duration::from_secs(5));

/// A part of a bucket: the objects whose names begin with a prefix.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<AmazonS3>,
    hasty: Arc<AmazonS3>,
    name: String,
    prefix: Path,
    /// A number of this process, in hexadecimal digits.
    pub(super) run: String,
}

impl fmt::Debug for Bucket {
    /// Without the store, which has credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Bucket").field(&self.path("")).finish()
    }
}

impl Bucket {
    /// The bucket that `url` names, reached as the environment says.
    ///
    /// # Errors
    /// When the URL is not `s3://BUCKET` or `s3://BUCKET/PREFIX`, or a variable is missing or wrong.
    pub fn from_environment(url: &str) -> Result<Self, BackupError> {
        Self::new(url, |name| std::env::var(name).ok())
    }

    /// The bucket that `url` names, reached as `variable` answers for the names of variables.
    ///
    /// # Errors
    /// Those of [`Bucket::from_environment`].
    pub fn new(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, BackupError> {
        let refused = |problem: String| BackupError::Bucket { path: url.into(), problem, may_pass: false };
        let rest = url.strip_prefix("s3://").unwrap_or_default();
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if bucket.is_empty() || !bucket.bytes().all(is_known) {
            return Err(refused("it names no bucket: give s3://BUCKET/PREFIX".to_owned()));
        }
        let prefix = Path::parse(prefix).map_err(|error| refused(format!("its prefix is refused: {error}")))?;
        // rustls takes the provider of the process where it is given none. There is one already if this is not the first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = settings::builder(bucket, variable).map_err(refused)?;
        let unusable = |error: Error| refused(format!("it cannot be used: {error}"));
        let hasty = RetryConfig { max_retries: HASTY.0, retry_timeout: HASTY.1, ..RetryConfig::default() };
        Ok(Self {
            hasty: Arc::new(builder.clone().with_retry(hasty).build().map_err(unusable)?),
            store: Arc::new(builder.build().map_err(unusable)?),
            name: bucket.to_owned(),
            prefix,
            run: format!("{:08x}", rand::random::<u32>()),
        })
    }

    /// The name of an object, as people give it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        let location = self.location(name);
        let slash = if location.is_root() { "" } else { "/" };
        format!("s3://{}{slash}{location}", self.name).into()
    }

    fn location(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), Path::join)
    }

    fn failed(&self, name: &str) -> impl Fn(Error) -> BackupError {
        let (path, bucket) = (self.path(name), self.name.clone());
        move |error| errors::in_words(path.clone(), &bucket, &error)
    }

    /// A small object as a whole; `None` without one.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, BackupError> {
        let got = async { self.hasty.get(&self.location(name)).await?.bytes().await };
        match got.await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if errors::is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed(name)(error)),
        }
    }

    /// A file of keys. Its size instead, where that is not the one that it had.
    pub(super) async fn fetch(&self, content: &KeyFile) -> Result<Result<Vec<u8>, u64>, BackupError> {
        let failed = self.failed(&content.name);
        let got = self.store.get(&self.location(&content.name)).await.map_err(&failed)?;
        if got.meta.size != content.bytes {
            return Ok(Err(got.meta.size));
        }
        Ok(Ok(got.bytes().await.map_err(failed)?.into()))
    }

    /// The names of all objects, without the prefix.
    async fn names(&self) -> Result<Vec<String>, BackupError> {
        let listed = self.store.list(Some(&self.prefix)).map_ok(|object| object.location);
        let locations: Vec<Path> = listed.try_collect().await.map_err(self.failed(""))?;
        let skipped = if self.prefix.is_root() { 0 } else { self.prefix.as_ref().len() + 1 };
        // An object of the prefix's own name stands for an empty folder.
        Ok(locations.iter().filter_map(|location| location.as_ref().get(skipped..).map(str::to_owned)).collect())
    }

    /// Whether there is any object.
    pub(super) async fn has_files(&self) -> Result<bool, BackupError> {
        let mut listed = self.store.list(Some(&self.prefix));
        while let Some(object) = listed.try_next().await.map_err(self.failed(""))? {
            if object.location != self.prefix {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The lines about what is done.
    pub(super) async fn lines(&self) -> Result<Option<Vec<String>>, BackupError> {
        let folder = self.location(UNFINISHED);
        let listed = self.store.list(Some(&folder)).try_fold(0, |count, _| async move { Ok(count + 1) });
        let count: usize = listed.await.map_err(self.failed(UNFINISHED))?;
        if count == 0 {
            return Ok(None);
        }
        let lines = stream::iter(0..count).map(async |number| {
            let name = line_name(number);
            let damaged = |problem: &str| BackupError::damaged(&self.path(&name), problem);
            // Numbers have no gaps: each is created after the one before.
            let bytes = self.read(&name).await?.ok_or_else(|| damaged("it is missing"))?;
            String::from_utf8(bytes).map_err(|_| damaged("it is no text"))
        });
        lines.buffered(LINES_IN_FLIGHT).try_collect().await.map(Some)
    }

    pub(super) async fn is_unfinished(&self) -> bool {
        self.read(&line_name(0)).await.is_ok_and(|line| line.is_some())
    }

    /// Creates the object of a line. It is an error if another process has done so.
    pub(super) async fn append(&self, number: usize, json: &Json) -> Result<(), BackupError> {
        let is_ours = self.create(&line_name(number), json.to_string()).await?;
        if is_ours { Ok(()) } else { Err(BackupError::InUse { path: self.path("") }) }
    }

    /// Creates an object that is not there. `false` if there is one of another content.
    async fn create(&self, name: &str, text: String) -> Result<bool, BackupError> {
        let location = self.location(name);
        let put = self.store.put_opts(&location, text.clone().into(), PutMode::Create.into());
        let Err(error) = put.await else { return Ok(true) };
        // The answer to a request that was sent twice, or got lost, says nothing about the first one.
        match self.store.get(&location).await {
            Ok(got) => Ok(got.bytes().await.map_err(self.failed(name))? == text.as_bytes()),
            Err(_) => Err(self.failed(name)(error)),
        }
    }

    pub(super) fn begin(&self, name: &str) -> ObjectWriter {
        let store = Arc::clone(&self.store) as Arc<dyn ObjectStore>;
        let writer = BufWriter::with_capacity(store, self.location(name), PART_BYTES);
        ObjectWriter {
            writer: Box::new(writer.with_max_concurrency(PARTS_IN_FLIGHT)),
            block: BytesMut::new(),
            path: self.path(name),
            bucket: self.name.clone(),
        }
    }

    /// Creates the manifest, and removes what is no part of the backup.
    pub(super) async fn finish(&self, manifest: &Manifest) -> Result<(), BackupError> {
        if !self.create(MANIFEST, manifest.to_text()).await? {
            return Err(BackupError::Complete { path: self.path("") });
        }
        // The backup is whole already. Credentials that may delete nothing are a sound choice, and what stays does no harm.
        let Ok(names) = self.names().await else { return Ok(()) };
        let is_left = |name: &String| {
            // What has a slash is another backup's, under a longer prefix.
            name.starts_with("keys-") && !name.contains('/') && manifest.files.iter().all(|file| file.name != **name)
                || name.starts_with(&format!("{UNFINISHED}/"))
        };
        let left: Vec<_> = names.into_iter().filter(is_left).map(|name| Ok(self.location(&name))).collect();
        let _ = self.hasty.delete_stream(stream::iter(left).boxed()).try_for_each(|_| async { Ok(()) }).await;
        Ok(())
    }
}

fn line_name(number: usize) -> String {
    format!("{UNFINISHED}/{number:06}.json")
}

/// An object that is being written. Nobody sees it before it is whole.
pub(in crate::backup) struct ObjectWriter {
    /// Boxed, as it is far larger than the writer of a folder.
    writer: Box<BufWriter>,
    /// What was not handed over yet: lines are short.
    block: BytesMut,
    path: PathBuf,
    bucket: String,
}

impl ObjectWriter {
    pub(super) async fn write(&mut self, part: &[u8]) -> Result<(), BackupError> {
        self.block.extend_from_slice(part);
        if self.block.len() < BLOCK_BYTES {
            return Ok(());
        }
        let put = self.writer.put(self.block.split().freeze()).await;
        put.map_err(|error| errors::in_words(self.path.clone(), &self.bucket, &error))
    }

    pub(super) async fn finish(self) -> Result<(), BackupError> {
        let Self { mut writer, block, path, bucket } = self;
        if let Err(error) = writer.put(block.freeze()).await {
            let _ = writer.abort().await;
            return Err(errors::in_words(path, &bucket, &error));
        }
        // An upload that fails here is given up by the library.
        writer.shutdown().await.map_err(|error| errors::of_io(path, &bucket, error))
    }

    /// Tells the store to forget parts that were sent. If that fails, the bucket's rule for such parts removes them.
    pub(super) async fn abandon(mut self) {
        let _ = self.writer.abort().await;
    }
}
