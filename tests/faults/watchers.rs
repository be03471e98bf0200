//! Clients that watch all keys of a round, now through one node and now through another, with their last cursor.
//!
//! Contract: what a watch tells is the answer of a read that its node made during this call. Once it is ready, it must be told
//! of each write that is called, or of a later one of its key.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::watch_request::Keys;
use quorate::api::watch_response::Event;
use quorate::api::{WatchDeleted, WatchPut, WatchRequest};
use quorate::types::{Key, Version};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::asking::{Kind, Miss, value_in, version_in};
use crate::clients::{Account, Workload};
use crate::doors::Node;
use crate::testkit::requests::{Ask, Outcome};
use crate::testkit::watching::Told;

/// How long a watcher stays at a node while there are faults.
const STAYS_MS: std::ops::Range<u64> = 100..3_000;
/// How long a watch may take to begin.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(2);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a watcher looks whether it is to go on elsewhere.
const LOOK_AFTER: Duration = Duration::from_millis(50);

/// One watch, over all the nodes through which it goes on.
pub(crate) struct Watcher {
    pub(crate) number: u32,
    pub(crate) workload: Arc<Workload>,
    pub(crate) nodes: Vec<Node>,
    /// Whether it is told first what is there.
    pub(crate) with_list: bool,
    /// The events that it was told, for those that wait for it.
    pub(crate) told: Arc<Mutex<Told>>,
    pub(crate) seed: u64,
}

impl Watcher {
    /// Watches until the round's watches are over.
    pub(crate) async fn run(self) -> Account {
        let mut random = StdRng::seed_from_u64(self.seed);
        let (mut account, mut cursor) = (Account::default(), Bytes::new());
        while !self.workload.watches_over.load(Ordering::Relaxed) {
            let node = &self.nodes[random.random_range(0..self.nodes.len())];
            let stays = Duration::from_millis(random.random_range(STAYS_MS));
            let values = random.random();
            if cursor.is_empty() {
                // A new watch: what came in between may be missed.
                self.told(Told::is_reset);
                account.count("watches begun anew");
            } else {
                account.count("watches that went on with a cursor");
            }
            if let Err(miss) = self.watch(node, stays, values, &mut cursor, &mut account).await {
                if let Miss::Revoked(_) = miss {
                    account.count("watches whose token was revoked");
                }
                if let Miss::Defect(what) = miss {
                    account.defects.push(format!("at {}, a watch: {what}", self.workload.now()));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        account
    }

    async fn watch(
        &self,
        node: &Node,
        stays: Duration,
        values: bool,
        cursor: &mut Bytes,
        account: &mut Account,
    ) -> Result<(), Miss> {
        let of = node.now();
        let mut node = ClusterClient::new(of.grpc.clone()).max_decoding_message_size(64 << 20);
        let keys = Some(Keys::Prefix(format!("{}-", self.workload.name)));
        let request =
            WatchRequest { keys, cursor: cursor.clone(), values, with_list: self.with_list, ..Default::default() };
        let (began, called) = (Instant::now(), self.workload.now());
        let failed = |status: tonic::Status| match status.code() {
            tonic::Code::InvalidArgument => Miss::Defect(format!("it was refused: {}", status.message())),
            tonic::Code::Unauthenticated => of.judged(Miss::Refused(status.message().to_owned())),
            _ => Miss::Failed(status.message().to_owned()),
        };
        let answer = tokio::time::timeout(BEGIN_TIME_MAX, node.watch(of.request(request))).await;
        let answer = answer.map_err(|_| Miss::Failed("it did not begin".to_owned()))?;
        let mut events = answer.map_err(failed)?.into_inner();
        loop {
            let is_over = self.workload.over.load(Ordering::Relaxed);
            // Once all is well, it stays where it is.
            if self.workload.watches_over.load(Ordering::Relaxed) || (began.elapsed() > stays && !is_over) {
                return Ok(());
            }
            let Ok(event) = tokio::time::timeout(LOOK_AFTER, events.message()).await else { continue };
            let Some(response) = event.map_err(failed)? else { return Ok(()) };
            cursor.clone_from(&response.cursor);
            match response.event {
                Some(Event::Ready(_)) => {
                    let now = self.workload.now();
                    self.told(|told| told.is_ready(now));
                    let listed = "watches told all that is there";
                    account.count(if self.with_list { listed } else { "watches told that they are ready" });
                }
                Some(Event::Reset(_)) => {
                    self.told(Told::is_reset);
                    account.count("watches reset");
                }
                Some(Event::Put(put)) => self.is_told(called, values, &put, account)?,
                Some(Event::Deleted(WatchDeleted { key, version })) => {
                    let version = version_in(&version)?;
                    let saw = (Ask::Get, Outcome::Saw { value: None, version: version.clone() });
                    self.change(called, &key, &version, saw, account)?;
                }
                Some(Event::Heartbeat(_)) | None => {}
            }
        }
    }

    fn is_told(&self, called: u64, values: bool, put: &WatchPut, account: &mut Account) -> Result<(), Miss> {
        let WatchPut { key, version, entry, ttl } = put;
        if values != entry.is_some() {
            return Err(Miss::Defect(format!("{key} came with {entry:?}, and values: {values} was asked for")));
        }
        let version = version_in(version)?;
        let saw = match entry {
            Some(entry) => {
                let kind = self.workload.number(key).map_or(Kind::Plain, Kind::of);
                // Keys of others in the round hold other values.
                let value = if self.workload.number(key).is_some() { value_in(Some(entry), *ttl, kind)? } else { None };
                (Ask::Get, Outcome::Saw { value, version: version.clone() })
            }
            None => (Ask::List { keys_max: 1, values: false }, Outcome::Listed(Some((None, version.clone())))),
        };
        self.change(called, key, &version, saw, account)
    }

    fn change(
        &self,
        called: u64,
        key: &str,
        version: &Version,
        saw: (Ask, Outcome),
        account: &mut Account,
    ) -> Result<(), Miss> {
        account.count("changes that watches were told");
        if let Some(number) = self.workload.number(key) {
            let done = self.workload.told(self.number, called, self.workload.now(), saw);
            account.histories.entry(number).or_default().push(done);
        }
        let key = Key::new(key.to_owned()).map_err(|error| Miss::Defect(error.to_string()))?;
        self.told(|told| told.change(&key, version)).map_err(Miss::Defect)
    }

    fn told<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
