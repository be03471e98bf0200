//! One request to one node, and what its answer means.
//!
//! Contract: a write counts as failed only if a node answered that it was not applied, or if no process listened. After any
//! other error it may have happened. A node that is asked about a request that was sent before never says that it was not
//! applied, because that would speak of all tries. Every byte that is read must be one that was written, under the time to
//! live that was given.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use quorate::api;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::condition::Condition as Arm;
use quorate::api::entry::Content;
use quorate::types::{Condition, Version};
use quorate::wire::failure::{Failure, FailureReason};
use quorate::wire::version::VersionText;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::testkit::requests::{Ask, Outcome};

/// How long a client waits for an answer beyond the deadline. A client that waited for good would add nothing to the history.
pub(crate) const DEADLINE_SLACK: Duration = Duration::from_millis(500);
/// The distance between the values of two requests. Sums stay below it.
const SPACING: u64 = 1_000_000;
/// One value in this many is large.
const LARGE_ONE_IN: u64 = 16;
/// One value in this many is binary.
const BINARY_ONE_IN: u64 = 5;
/// The most bytes of a large value. Some are stored in blob files, and some go to peers in chunks.
const LARGE_BYTES: u64 = 1_000_000;
/// One value in this many has a time to live that no run outlasts.
const LONG_TTL_ONE_IN: u64 = 7;
const LONG_TTL: Duration = Duration::from_hours(1);
/// Of the values of keys that expire, one in this many is permanent.
const PERMANENT_ONE_IN: u64 = 4;

/// How the keys of one group differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Plain reads, writes and deletes alone: the checker knows the most about these.
    Plain,
    /// Writes under conditions, beside plain ones, of all kinds of values.
    Conditional,
    /// Numbers, to which clients add.
    Counter,
    /// Values that expire within the run.
    Expiring,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) key: String,
    pub(crate) kind: Kind,
    pub(crate) ask: Ask,
    /// The number of the request. It names the value, the time to live and the request id.
    pub(crate) number: u64,
    /// Whether it was sent before.
    pub(crate) is_resend: bool,
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

/// The content of a page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    /// The keys that it names, with their values where those were asked for.
    pub(crate) named: Vec<(String, Option<u64>, Version)>,
    /// Up to where it has looked: to the end where there is nothing.
    pub(crate) looked_to: Option<String>,
}

/// Sends one request to `node`, and waits for the timeout at most.
pub(crate) async fn ask(node: &Channel, wish: &Wish, deadline: Duration, timeout: Duration) -> Result<Outcome, Miss> {
    match tokio::time::timeout(timeout, call(node, wish, deadline)).await {
        Ok(answer) => answer,
        Err(_) => Err(Miss::Unknown(format!("no answer within {timeout:?}"))),
    }
}

async fn call(node: &Channel, wish: &Wish, deadline: Duration) -> Result<Outcome, Miss> {
    let Wish { key, kind, ask, number, is_resend } = wish;
    let mut node = ClusterClient::new(node.clone());
    let (key, value, resend) = (key.clone(), value_of_request(*number), *is_resend);
    let (condition, request_id) = match ask {
        Ask::SetIf { condition, .. } => (Some(condition_of(condition)), request_id(*number)),
        Ask::Add { .. } => (None, request_id(*number)),
        _ => Default::default(),
    };
    let is_deletion = matches!(ask, Ask::Delete | Ask::SetIf { deletes: true, .. });
    let written = match ask {
        Ask::Get => {
            let answer = node.get(within(api::GetRequest { key, ..Default::default() }, deadline)).await;
            let api::GetResponse { entry, version, ttl, .. } =
                answer.map_err(|status| miss(&status, wish))?.into_inner();
            return Ok(Outcome::Saw { value: value_in(entry.as_ref(), ttl, *kind)?, version: version_in(&version)? });
        }
        Ask::GetOne { .. } | Ask::List { .. } => unreachable!("these are no requests of one key here"),
        Ask::Add { delta, since } => {
            let since = since.as_ref().map(|version| versions().encode(version));
            let delta = *delta;
            let request = api::AddRequest { key, delta, since, request_id, resend, ..Default::default() };
            node.add(within(request, deadline)).await.map(|answer| {
                let api::AddResponse { value, version } = answer.into_inner();
                (Some(value), version)
            })
        }
        _ if is_deletion => {
            let request = api::DeleteRequest { key, condition, request_id, resend, ..Default::default() };
            node.delete(within(request, deadline)).await.map(|answer| (None, answer.into_inner().version))
        }
        _ => {
            let entry = Some(api::Entry { key, content: Some(content(value, *kind)) });
            let ttl = ttl_of(*number, *kind).and_then(|ttl| ttl.try_into().ok());
            let request = api::SetRequest { entry, condition, ttl, request_id, resend, ..Default::default() };
            node.set(within(request, deadline)).await.map(|answer| (None, answer.into_inner().version))
        }
    };
    match written {
        Ok((None, version)) => Ok(Outcome::Wrote(version_in(&version)?)),
        Ok((Some(sum), version)) => Ok(Outcome::Added { sum: sum.cast_unsigned(), version: version_in(&version)? }),
        Err(status) => match declined(&status) {
            Some((version, has_value)) if ask.has_token() => {
                Ok(Outcome::Declined { version: version_in(&version)?, has_value })
            }
            _ => Err(miss(&status, wish)),
        },
    }
}

/// The pages of a list, each with the time that `now` says once it is there. The list may end with a failure.
pub(crate) async fn list(
    node: &Channel,
    request: api::ListRequest,
    kind_of: impl Fn(&str) -> Kind,
    now: impl Fn() -> u64,
    deadline: Duration,
) -> (Vec<(Page, u64)>, Result<(), Miss>) {
    let mut pages = Vec::new();
    let values = request.values;
    let listing = async {
        let mut node = ClusterClient::new(node.clone()).max_decoding_message_size(64 << 20);
        let failed = |status: Status| Miss::Failed(said(&status));
        let mut listed = node.list(within(request, deadline)).await.map_err(failed)?.into_inner();
        let mut last: Option<String> = None;
        while let Some(api::ListResponse { entries, next }) = listed.message().await.map_err(failed)? {
            let mut named = Vec::new();
            for api::ListedEntry { key, version, entry, ttl } in entries {
                if last.as_ref().is_some_and(|last| *last >= key) {
                    return Err(Miss::Defect(format!("a list names {key} after {last:?}")));
                }
                if values != entry.is_some() {
                    return Err(Miss::Defect(format!("a list with values: {values} names {key} with {entry:?}")));
                }
                let value = match &entry {
                    Some(entry) => value_in(Some(entry), ttl, kind_of(&key))?,
                    None => None,
                };
                named.push((key.clone(), value, version_in(&version)?));
                last = Some(key);
            }
            let is_over = next.is_none();
            pages.push((Page { named, looked_to: next }, now()));
            if is_over {
                return Ok(());
            }
        }
        Ok(())
    };
    let ended = match tokio::time::timeout(deadline + DEADLINE_SLACK, listing).await {
        Ok(ended) => ended,
        Err(_) => Err(Miss::Failed("no page in time".to_owned())),
    };
    (pages, ended)
}

/// The value that a request writes.
pub(crate) fn value_of_request(number: u64) -> u64 {
    number * SPACING
}

/// The request that wrote a value, or the base of a sum, and whether it is that very value. A sum without a base has none.
pub(crate) fn request_of_value(value: u64) -> Option<(u64, bool)> {
    (value >= SPACING).then_some((value / SPACING, value.is_multiple_of(SPACING)))
}

/// The time to live of what a request writes.
pub(crate) fn ttl_of(number: u64, kind: Kind) -> Option<Duration> {
    match kind {
        Kind::Counter => None,
        Kind::Expiring if number.is_multiple_of(PERMANENT_ONE_IN) => None,
        Kind::Expiring => Some(Duration::from_millis(300 + number * 37 % 1_200)),
        Kind::Plain | Kind::Conditional => number.is_multiple_of(LONG_TTL_ONE_IN).then_some(LONG_TTL),
    }
}

pub(crate) fn within<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// The version in an answer.
pub(crate) fn version_in(text: &str) -> Result<Version, Miss> {
    versions().decode(text).map_err(|error| Miss::Defect(format!("version {text:?}: {error}")))
}

fn versions() -> VersionText {
    // The seed of all clusters here.
    VersionText::of_cluster(0)
}

/// The number of a value that was read, if every byte is as it was written, and expires when it should.
pub(crate) fn value_in(
    entry: Option<&api::Entry>,
    ttl: Option<prost_types::Duration>,
    kind: Kind,
) -> Result<Option<u64>, Miss> {
    let Some(entry) = entry else { return Ok(None) };
    let bytes: &[u8] = match &entry.content {
        Some(Content::Value(text)) => text.as_bytes(),
        Some(Content::Binary(bytes)) => bytes,
        None => &[],
    };
    let text = String::from_utf8_lossy(bytes);
    let value: Option<u64> = text.split(' ').next().and_then(|number| number.parse().ok());
    let Some(value) = value.filter(|value| entry.content == Some(content(*value, kind))) else {
        let shown: String = text.chars().take(40).collect();
        return Err(Miss::Defect(format!(
            "read what nobody wrote: {} with {} bytes: {shown:?}",
            entry.key,
            bytes.len()
        )));
    };
    let given = request_of_value(value).filter(|(_, is_whole)| *is_whole).and_then(|(number, _)| ttl_of(number, kind));
    let left = ttl.map(|ttl| Duration::try_from(ttl).unwrap_or_default());
    let is_right = match (given, left) {
        (Some(given), Some(left)) => left <= given,
        (given, left) => given.is_none() == left.is_none(),
    };
    if is_right {
        Ok(Some(value))
    } else {
        Err(Miss::Defect(format!("{value} of {} was written to live {given:?} and is to live {left:?}", entry.key)))
    }
}

/// The content of a value: its number, and for some a long tail, as text or as binary.
fn content(value: u64, kind: Kind) -> Content {
    let whole = request_of_value(value).filter(|(_, is_whole)| *is_whole && kind != Kind::Counter);
    // Sums, and what may be added to, are decimal text.
    let Some((number, _)) = whole else { return Content::Value(value.to_string()) };
    let is_large = number.is_multiple_of(LARGE_ONE_IN);
    let tail_bytes = if is_large { number * 7_919 % LARGE_BYTES } else { 0 };
    let tail = "-".repeat(usize::try_from(tail_bytes).expect("it is small"));
    let text = if is_large { format!("{value} {tail}") } else { value.to_string() };
    if number.is_multiple_of(BINARY_ONE_IN) { Content::Binary(text.into()) } else { Content::Value(text) }
}

fn request_id(number: u64) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&u128::from(number).to_be_bytes())
}

fn condition_of(condition: &Condition) -> api::Condition {
    let arm = match condition {
        Condition::Version(version) => Arm::IfVersion(versions().encode(version)),
        Condition::Absent => Arm::IfAbsent(true),
        Condition::Present => Arm::IfPresent(true),
        Condition::Among(_) | Condition::NotAmong { .. } => unreachable!("gRPC has no lists of versions"),
    };
    api::Condition { condition: Some(arm) }
}

/// The state that a failed condition showed, or an addition that found no number.
fn declined(status: &Status) -> Option<(String, bool)> {
    let failure = Failure::from_status(status)?;
    let current = failure.current?;
    match failure.reason {
        FailureReason::ConditionFailed => Some((current.version, current.has_value)),
        FailureReason::NotANumber => Some((current.version, true)),
        _ => None,
    }
}

fn said(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn miss(status: &Status, wish: &Wish) -> Miss {
    let text = said(status);
    match Failure::from_status(status).map(|failure| failure.reason) {
        Some(FailureReason::NotApplied) if wish.is_resend => {
            Miss::Defect(format!("a request that was sent before is told as not applied: {text}"))
        }
        // The latter speaks of this attempt alone, as does a failed attempt in the history.
        Some(FailureReason::NotApplied | FailureReason::NotReady) => Miss::Failed(text),
        Some(FailureReason::Damaged | FailureReason::InvalidArgument) => Miss::Defect(text),
        _ if wish.ask.is_read() || never_left(status) => Miss::Failed(text),
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
