//! A cache: a copy of all keys with a prefix, in memory, that follows the cluster.
//!
//! Start a cluster with `quorate dev`, then run this, and write keys from another terminal:
//!
//! ```text
//! cargo run --release --no-default-features --example cache -- user:
//! quorate set user:1 Ada
//! ```
//!
//! The watch tells first what is there, and then each change. So the copy misses no write, and each key of it is at most as
//! old as the event that is under way. The client goes on at another node where one fails. Where changes may have been
//! missed, it says so, and tells again what is there. The old copy serves until the new one is complete.
//!
//! A read of the cache may be older than a write that has ended: a program that needs the latest value asks the cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use quorate::client::{WatchEvent, Watching};
use quorate::types::Value;
use quorate::{Client, ClientError};
use tokio::sync::watch;

/// The keys, each with its version and value.
pub type Entries = BTreeMap<String, (String, Value)>;

/// A copy of all keys with a prefix.
pub struct Cache {
    entries: Arc<RwLock<Entries>>,
    /// How often the copy has changed.
    changes: watch::Receiver<u64>,
    follower: tokio::task::JoinHandle<Result<(), ClientError>>,
}

impl Cache {
    /// Copies all keys that begin with `prefix`, and follows them until the cache is dropped.
    ///
    /// # Errors
    /// When no node can be asked in time.
    pub async fn open(client: &Client, prefix: &str) -> Result<Cache, ClientError> {
        let mut watching = client.watch(prefix).values().with_list().stream();
        let mut first = Entries::new();
        read_list(&mut watching, &mut first).await?;
        let entries = Arc::new(RwLock::new(first));
        let (counter, changes) = watch::channel(0);
        let follower = tokio::spawn(follow(watching, Arc::clone(&entries), counter));
        Ok(Cache { entries, changes, follower })
    }

    /// The value of a key, as far as the cache knows.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        self.entries.read().unwrap().get(key).map(|(_, value)| value.clone())
    }

    /// All keys, as far as the cache knows.
    #[must_use]
    pub fn entries(&self) -> Entries {
        self.entries.read().unwrap().clone()
    }

    /// Waits until the copy has changed. `false`: it follows the cluster no longer, because no node could be asked for long.
    pub async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Reads what is there, up to `Ready`.
async fn read_list(watching: &mut Watching, entries: &mut Entries) -> Result<(), ClientError> {
    while let Some(event) = watching.next().await {
        match event? {
            WatchEvent::Ready => return Ok(()),
            event => apply(event, entries),
        }
    }
    Ok(())
}

/// Keeps `entries` up to date.
async fn follow(
    mut watching: Watching,
    entries: Arc<RwLock<Entries>>,
    changed: watch::Sender<u64>,
) -> Result<(), ClientError> {
    while let Some(event) = watching.next().await {
        match event? {
            WatchEvent::Reset => {
                let mut next = Entries::new();
                read_list(&mut watching, &mut next).await?;
                *entries.write().unwrap() = next;
            }
            event => apply(event, &mut entries.write().unwrap()),
        }
        changed.send_modify(|changes| *changes += 1);
    }
    Ok(())
}

fn apply(event: WatchEvent, entries: &mut Entries) {
    match event {
        WatchEvent::Set { key, version, value: Some(value), .. } => {
            entries.insert(key, (version, value));
        }
        WatchEvent::Deleted { key, .. } => {
            entries.remove(&key);
        }
        WatchEvent::Reset => entries.clear(),
        _ => {}
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ClientError> {
    let client = Client::new(["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"])?;
    let prefix = std::env::args().nth(1).unwrap_or_default();
    let mut cache = Cache::open(&client, &prefix).await?;
    loop {
        for (key, (_, value)) in cache.entries() {
            println!("{key}: {}", String::from_utf8_lossy(value.bytes()));
        }
        println!("{} keys", cache.entries().len());
        if !cache.changed().await {
            println!("no node could be asked for long");
            return Ok(());
        }
    }
}
