//! Clients that read, write and delete a few keys through all nodes, and record the history.
//!
//! Contract: one operation is one request to one node. A write counts as failed only if a node answered that it was not applied,
//! or if no process listened. After any other error it may have happened.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate::api;
use quorate::api::cluster_client::ClusterClient;
use quorate::wire::failure::{Failure, FailureReason};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::testkit::checker::{Action, Ending, Operation};

/// The keys in use at one time.
const KEYS: usize = 8;
/// How long a set of keys is in use. Short histories are checked fast, and few of their operations have an unknown outcome.
const KEYS_LAST: Duration = Duration::from_secs(3);
/// The deadline of an operation.
const DEADLINE_MS: std::ops::Range<u64> = 1_000..2_000;
/// How long a client waits for an answer beyond the deadline. A client that waited for good would add nothing to the history.
const DEADLINE_SLACK: Duration = Duration::from_millis(500);
/// The pause of a client after an operation.
const THINK_MS: std::ops::Range<u64> = 0..10;
/// The pause after a failed operation: nodes that are down refuse fast.
const THINK_AFTER_FAILURE_MS: std::ops::Range<u64> = 20..100;
/// One value in this many is large.
const LARGE_ONE_IN: u64 = 16;
/// The most bytes of a large value. Some are stored in blob files, and some go to peers in chunks.
const LARGE_BYTES: u64 = 1_000_000;

/// The state that the clients of one round share.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The first part of its keys.
    pub(crate) name: String,
    /// The origin of all times.
    pub(crate) origin: Instant,
    /// The beginning of the round.
    pub(crate) began: Instant,
    /// The last value written, over all rounds.
    pub(crate) values: Arc<AtomicU64>,
    /// Set when the round is over.
    pub(crate) over: AtomicBool,
}

/// The record of one client.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// By key.
    pub(crate) histories: BTreeMap<usize, Vec<Operation>>,
    /// The number of operations by outcome.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    /// Answers that no node may give.
    pub(crate) defects: Vec<String>,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Read,
    Write(u64),
    Delete,
}

/// The failure of a request.
#[derive(Clone, Debug)]
pub(crate) enum Miss {
    /// It certainly did not happen.
    Failed(String),
    /// It may have happened.
    Unknown(String),
    /// The answer is one that no node may give.
    Defect(String),
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "certainly not done: {why}"),
            Self::Unknown(why) => write!(f, "no answer that counts: {why}"),
            Self::Defect(why) => write!(f, "an answer that no node may give: {why}"),
        }
    }
}

impl Workload {
    /// Now, in microseconds.
    pub(crate) fn now(&self) -> u64 {
        micros(self.origin.elapsed())
    }

    /// A value that was never written.
    pub(crate) fn fresh_value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The key of this number.
    pub(crate) fn key(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    /// Runs the client of number `client` until the round is over, through all `nodes`.
    pub(crate) async fn run(&self, client: u32, seed: u64, nodes: Vec<Channel>) -> Account {
        let mut random = StdRng::seed_from_u64(seed ^ u64::from(client) << 32);
        let mut account = Account::default();
        while !self.over.load(Ordering::Relaxed) {
            let epoch = self.began.elapsed().as_millis() / KEYS_LAST.as_millis();
            let epoch = usize::try_from(epoch).expect("a round is short");
            let number = epoch * KEYS + random.random_range(0..KEYS);
            let wish = match random.random_range(0..100) {
                0..50 => Wish::Read,
                50..88 => Wish::Write(self.fresh_value()),
                _ => Wish::Delete,
            };
            let node = &nodes[random.random_range(0..nodes.len())];
            let deadline = Duration::from_millis(random.random_range(DEADLINE_MS));
            let done = self.operate(client, number, wish, node, deadline, &mut account).await.is_ok();
            let think = if done { THINK_MS } else { THINK_AFTER_FAILURE_MS };
            tokio::time::sleep(Duration::from_millis(random.random_range(think))).await;
        }
        account
    }

    /// Does one operation, and records it in the account.
    pub(crate) async fn operate(
        &self,
        client: u32,
        number: usize,
        wish: Wish,
        node: &Channel,
        deadline: Duration,
        account: &mut Account,
    ) -> Result<(), Miss> {
        let key = self.key(number);
        let invoked = self.now();
        let answer = ask(node, &key, wish, deadline).await;
        let returned = self.now();
        let saw = answer.as_ref().map_or(None, |saw| *saw);
        let (action, name) = match wish {
            Wish::Read => (Action::Read { saw }, "read"),
            Wish::Write(value) => (Action::Write { value }, "write"),
            Wish::Delete => (Action::Delete, "delete"),
        };
        let (ending, outcome) = match (&answer, name) {
            (Ok(_), "read") => (Ending::Returned(returned), "reads that returned"),
            (Ok(_), "write") => (Ending::Returned(returned), "writes acknowledged"),
            (Ok(_), _) => (Ending::Returned(returned), "deletes acknowledged"),
            (Err(_), "read") => (Ending::Failed, "reads that failed"),
            (Err(Miss::Failed(_)), _) => (Ending::Failed, "writes and deletes certainly not applied"),
            (Err(_), _) => (Ending::Unknown, "writes and deletes of unknown outcome"),
        };
        *account.outcomes.entry(outcome).or_default() += 1;
        if let Err(Miss::Defect(what)) = &answer {
            account.defects.push(format!("at {returned}, {name} of {key}: {what}"));
        }
        account.histories.entry(number).or_default().push(Operation { client, invoked, action, ending, version: None });
        answer.map(drop)
    }
}

impl Account {
    /// Adds the record of another client.
    pub(crate) fn merge(&mut self, other: Self) {
        for (key, operations) in other.histories {
            self.histories.entry(key).or_default().extend(operations);
        }
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.defects.extend(other.defects);
    }
}

/// Sends one request to `node`. A read returns the value.
pub(crate) async fn ask(node: &Channel, key: &str, wish: Wish, deadline: Duration) -> Result<Option<u64>, Miss> {
    let mut node = ClusterClient::new(node.clone());
    let key = key.to_owned();
    let asked = async {
        match wish {
            Wish::Read => {
                Ok(node.get(within(api::GetRequest { key, ..Default::default() }, deadline)).await?.into_inner().entry)
            }
            Wish::Write(value) => {
                let entry = Some(api::Entry { key, content: Some(content(value)) });
                node.set(within(api::SetRequest { entry, ..Default::default() }, deadline)).await.map(|_| None)
            }
            Wish::Delete => {
                node.delete(within(api::DeleteRequest { key, ..Default::default() }, deadline)).await.map(|_| None)
            }
        }
    };
    match tokio::time::timeout(deadline + DEADLINE_SLACK, asked).await {
        Ok(Ok(Some(entry))) => value(&entry).map(Some),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(status)) => Err(miss(&status)),
        Err(_) => Err(Miss::Unknown(format!("no answer within {:?}", deadline + DEADLINE_SLACK))),
    }
}

fn within<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

fn miss(status: &Status) -> Miss {
    let text = format!("{:?}: {}", status.code(), status.message());
    match Failure::from_status(status).map(|failure| failure.reason) {
        Some(FailureReason::NotApplied) => Miss::Failed(text),
        Some(FailureReason::Damaged | FailureReason::InvalidArgument) => Miss::Defect(text),
        _ if never_left(status) => Miss::Failed(text),
        _ => Miss::Unknown(text),
    }
}

/// Whether no process listened at the node's port.
fn never_left(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The content of a value: its number, and for some a long tail, as text or as binary.
fn content(value: u64) -> api::entry::Content {
    let tail_bytes = if value.is_multiple_of(LARGE_ONE_IN) { value * 7_919 % LARGE_BYTES } else { 0 };
    let tail = "-".repeat(usize::try_from(tail_bytes).expect("it is small"));
    let text = format!("{value} {tail}");
    if value.is_multiple_of(5) { api::entry::Content::Binary(text.into()) } else { api::entry::Content::Value(text) }
}

/// The number of a value that was read, if every byte is as it was written.
fn value(entry: &api::Entry) -> Result<u64, Miss> {
    let bytes: &[u8] = match &entry.content {
        Some(api::entry::Content::Value(text)) => text.as_bytes(),
        Some(api::entry::Content::Binary(bytes)) => bytes,
        None => &[],
    };
    let text = String::from_utf8_lossy(bytes);
    let number = text.split(' ').next().and_then(|number| number.parse().ok());
    match number {
        Some(number) if entry.content == Some(content(number)) => Ok(number),
        _ => Err(Miss::Defect(format!("read what nobody wrote: {entry:?}"))),
    }
}

/// In microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("a run is shorter than five hundred thousand years")
}
