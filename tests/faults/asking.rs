//! One request to one node, and what its answer means, whatever the door.
//!
//! Contract: a write counts as failed only if a node answered that it was not applied, or if no process listened. After any
//! other error it may have happened. A node that is asked about a request that was sent before never says that it was not
//! applied, because that would speak of all tries. Every byte that is read must be one that was written, under the time to
//! live that was given.

use std::fmt;
use std::time::Duration;

use quorate::api;
use quorate::api::entry::Content;
use quorate::types::Version;
use quorate::wire::version::VersionText;

use crate::doors::Door;
use crate::testkit::requests::Ask;

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
    pub(crate) door: Door,
}

/// The failure of a request.
#[derive(Clone, Debug)]
pub(crate) enum Miss {
    /// It certainly did not happen.
    Failed(String),
    /// It certainly did not happen: the node does not know who asks.
    Refused(String),
    /// The same with a token that was revoked, or was to be.
    Revoked(String),
    /// It may have happened.
    Unknown(String),
    /// The answer is one that no node may give.
    Defect(String),
}

impl Miss {
    /// Whether it is for other clients alone: many write one key at a time, and a record remembers few of their writes.
    pub(crate) fn is_for_others(&self) -> bool {
        matches!(self, Self::Unknown(why) if why.contains("It remembers the last"))
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "certainly not done: {why}"),
            Self::Refused(why) | Self::Revoked(why) => write!(f, "not known: {why}"),
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

/// The version in an answer.
pub(crate) fn version_in(text: &str) -> Result<Version, Miss> {
    versions().decode(text).map_err(|error| Miss::Defect(format!("version {text:?}: {error}")))
}

pub(crate) fn versions() -> VersionText {
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
    let (bytes, is_text): (&[u8], _) = match &entry.content {
        Some(Content::Value(text)) => (text.as_bytes(), Some(true)),
        Some(Content::Binary(bytes)) => (bytes, Some(false)),
        None => return Err(Miss::Defect(format!("{} has no content", entry.key))),
    };
    let ttl = ttl.map(|ttl| Duration::try_from(ttl).unwrap_or_default());
    read_value(&entry.key, bytes, is_text, Some(ttl), kind).map(Some)
}

/// The same for bytes. Not every door tells whether they are text, and how long they are to live.
#[expect(clippy::option_option, reason = "a door may not tell, or tell that there is none")]
pub(crate) fn read_value(
    key: &str,
    bytes: &[u8],
    is_text: Option<bool>,
    left: Option<Option<Duration>>,
    kind: Kind,
) -> Result<u64, Miss> {
    let text = String::from_utf8_lossy(bytes);
    let value: Option<u64> = text.split(' ').next().and_then(|number| number.parse().ok());
    let is_as_written = |value: &u64| match content(*value, kind) {
        Content::Value(written) => written.as_bytes() == bytes && is_text != Some(false),
        Content::Binary(written) => written == bytes && is_text != Some(true),
    };
    let Some(value) = value.filter(is_as_written) else {
        let shown: String = text.chars().take(40).collect();
        return Err(Miss::Defect(format!("read what nobody wrote: {key} with {} bytes: {shown:?}", bytes.len())));
    };
    let writer = request_of_value(value);
    let is_whole = writer.is_some_and(|(_, is_whole)| is_whole);
    let given = writer.and_then(|(number, _)| ttl_of(number, kind));
    let is_right = match (given, left) {
        (_, None) => true,
        (Some(given), Some(Some(left))) => left <= given,
        // An addition over Redis keeps the time to live, and one through another door takes it away.
        (Some(_), Some(None)) => !is_whole,
        (None, Some(left)) => left.is_none(),
    };
    if is_right {
        Ok(value)
    } else {
        Err(Miss::Defect(format!("{value} of {key} was written to live {given:?} and is to live {left:?}")))
    }
}

/// Whether a request writes text.
pub(crate) fn is_text(number: u64, kind: Kind) -> bool {
    matches!(content(value_of_request(number), kind), Content::Value(_))
}

/// The content of a value: its number, and for some a long tail, as text or as binary.
pub(crate) fn content(value: u64, kind: Kind) -> Content {
    let whole = request_of_value(value).filter(|(_, is_whole)| *is_whole && kind != Kind::Counter);
    // Sums, and what may be added to, are decimal text.
    let Some((number, _)) = whole else { return Content::Value(value.to_string()) };
    let is_large = number.is_multiple_of(LARGE_ONE_IN);
    let tail_bytes = if is_large { number * 7_919 % LARGE_BYTES } else { 0 };
    let tail = "-".repeat(usize::try_from(tail_bytes).expect("it is small"));
    let text = if is_large { format!("{value} {tail}") } else { value.to_string() };
    if number.is_multiple_of(BINARY_ONE_IN) { Content::Binary(text.into()) } else { Content::Value(text) }
}
