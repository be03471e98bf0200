//! Clients: each does one operation after the other, gives up at its deadline or before, and goes on. A conditional write of
//! unknown outcome may be sent again, to any node, under the same token. Their history is what is judged.

use std::collections::BTreeMap;

use crate::testkit::requests::{Ask, Attempt, Outcome};
use bytes::Bytes;
use quorate::protocol::{Command, Failure, ListPage, ListedKeys, Reply};
use quorate::types::{
    Change, ChangeRequest, Checksum, Content, IdempotencyToken, Key, KeyRange, Lookup, NodeIndex, Ttl, Value, Version,
    content_of, number_in,
};

/// The distance between the values of two operations. Sums stay below it.
const SPACING: u64 = 1_000_000;
/// Of so many values, one is no number.
const WORDS: u64 = 8;
/// How many of the latest versions of a key a client may still name.
const VERSIONS_KEPT: usize = 4;

/// One attempt of an operation, with what only the simulation knows of it.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its index into the operations.
    pub index: usize,
    pub client: usize,
    pub key: usize,
    pub node: NodeIndex,
    pub ask: Ask,
    /// The time to live of the value that it writes.
    pub ttl: Option<Ttl>,
    /// The first attempt of the same request: this one, unless it was sent again.
    pub first: usize,
    /// When it began and ended, in the time of histories.
    pub invoked: u64,
    pub returned: Option<u64>,
    pub outcome: Outcome,
    pub began_at: u64,
    pub ended_at: Option<u64>,
    /// Until when its node may try.
    pub deadline: u64,
    /// It was begun when nothing was in its way.
    pub must_succeed: bool,
}

impl Done {
    /// As it is judged.
    pub fn attempt(&self) -> Attempt<'_> {
        let client = u32::try_from(self.client).expect("there are few clients");
        let Self { index, first, invoked, returned, ref ask, ref outcome, .. } = *self;
        Attempt { client, index, first, value: value_of_operation(first), invoked, returned, ask, outcome }
    }
}

/// One client.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What it waits for: an index into the operations.
    pub waits_for: Option<usize>,
    /// What it is to send again: an index into the operations.
    pub sends_again: Option<usize>,
    /// How many operations it is still to begin while nothing is in their way.
    pub quota: usize,
    /// The latest versions that it was told of each key, the newest last.
    pub versions: BTreeMap<usize, Vec<Version>>,
    /// The last version of each key that a read of one replica told it: no majority may ever hold that.
    pub seen_once: BTreeMap<usize, Version>,
}

/// All clients and what they did.
pub struct Clients {
    pub all: Vec<Client>,
    pub operations: Vec<Done>,
    /// When each thing happened that clients do: their number is the time of histories, without ties.
    ticks: Vec<u64>,
}

impl Clients {
    pub fn new(clients: usize) -> Self {
        Self { all: vec![Client::default(); clients], operations: Vec::new(), ticks: Vec::new() }
    }

    /// Begins an operation, or sends one again; its index is its name.
    pub fn begin(
        &mut self,
        client: usize,
        key: usize,
        node: NodeIndex,
        ask: Ask,
        first: Option<usize>,
        now: u64,
    ) -> usize {
        self.ticks.push(now);
        let index = self.operations.len();
        self.operations.push(Done {
            client,
            key,
            node,
            index,
            ask,
            ttl: first.and_then(|first| self.operations[first].ttl),
            first: first.unwrap_or(index),
            invoked: self.tick(),
            returned: None,
            outcome: Outcome::Unknown,
            began_at: now,
            ended_at: None,
            deadline: u64::MAX,
            must_succeed: false,
        });
        self.all[client].waits_for = Some(index);
        index
    }

    /// The present time of histories.
    pub fn tick(&self) -> u64 {
        self.ticks.len() as u64
    }

    /// The time of histories that follows all that had happened before `at`, in microseconds.
    pub fn tick_at(&self, at: u64) -> u64 {
        self.ticks.partition_point(|ticked| *ticked < at) as u64 + 1
    }

    /// The present time of histories, which nothing else has.
    pub fn next_tick(&mut self, now: u64) -> u64 {
        self.ticks.push(now);
        self.tick()
    }

    /// A watcher knows what `key` is, or was at some moment since `invoked`: a read of its own.
    pub fn knows(&mut self, (watcher, node): (usize, NodeIndex), key: usize, invoked: u64, outcome: Outcome, now: u64) {
        let returned = Some(self.next_tick(now));
        let index = self.operations.len();
        self.operations.push(Done {
            client: self.all.len() + watcher,
            key,
            node,
            index,
            ask: Ask::List { keys_max: usize::MAX, values: false },
            first: index,
            ttl: None,
            invoked,
            returned,
            outcome,
            began_at: now,
            ended_at: Some(now),
            deadline: u64::MAX,
            must_succeed: false,
        });
    }

    /// Whether somebody waits for it.
    pub fn is_awaited(&self, index: usize) -> bool {
        self.all[self.operations[index].client].waits_for == Some(index)
    }

    /// It ended like this, for a client that waited for it or has given up.
    pub fn end(&mut self, index: usize, outcome: Outcome, now: u64) {
        self.ticks.push(now);
        let tick = self.tick();
        let done = &mut self.operations[index];
        done.ended_at = Some(now);
        done.returned = Some(tick);
        let client = &mut self.all[done.client];
        if let (Some(version), Ask::GetOne { .. }) = (outcome.version(), &done.ask) {
            client.seen_once.insert(done.key, version.clone());
        } else if let Some(version) = outcome.version() {
            let versions = client.versions.entry(done.key).or_default();
            versions.retain(|known| known != version);
            versions.push(version.clone());
            if versions.len() > VERSIONS_KEPT {
                versions.remove(0);
            }
        }
        done.outcome = outcome;
        if client.waits_for == Some(index) {
            client.waits_for = None;
        }
    }

    /// A page reads other keys as well: each is an operation of its own, of the same time.
    pub fn also_listed(&mut self, index: usize, key: usize, outcome: Outcome) {
        let first = self.operations.len();
        self.operations.push(Done { key, first, outcome, ..self.operations[index].clone() });
    }

    /// The history of each key.
    pub fn histories(&self) -> BTreeMap<usize, Vec<&Done>> {
        let mut histories: BTreeMap<usize, Vec<&Done>> = BTreeMap::new();
        for done in &self.operations {
            histories.entry(done.key).or_default().push(done);
        }
        histories
    }

    /// What a client sends.
    pub fn command(&self, index: usize, keys: &[Key], keeps_ttl: bool) -> Command {
        let Done { ask, first, ttl, key: place, .. } = &self.operations[index];
        let (key, ttl) = (keys[*place].clone(), *ttl);
        let written = content(value_of_operation(*first));
        let change = match ask.clone() {
            Ask::Get => return Command::Get { key },
            Ask::GetOne { at_least } => return Command::GetOne { key, at_least },
            Ask::List { keys_max, values } => {
                let after = place.checked_sub(1).map(|before| keys[before].clone());
                let range = KeyRange { after, prefix: Bytes::new() };
                return Command::List(ListPage { range, keys_max, values });
            }
            Ask::Set | Ask::Delete => {
                let content = if matches!(ask, Ask::Set) { written } else { Content::Tombstone };
                let checksum = Checksum::of(&key, &content).and_ttl(ttl);
                return Command::Set { key, content, ttl, checksum };
            }
            Ask::SetIf { condition, deletes } => {
                let content = if deletes { Content::Tombstone } else { written };
                let checksum = Checksum::of(&key, &content).and_ttl(ttl);
                Change::Write { condition, content, ttl, checksum }
            }
            Ask::Add { delta, since } => Change::Add { delta, since, ttl, keeps_ttl },
        };
        let request = ChangeRequest { change, token: token(*first), is_resend: *first != index };
        Command::Change { key, request }
    }
}

/// The value that an operation writes.
pub fn value_of_operation(index: usize) -> u64 {
    (index as u64 + 1) * SPACING
}

/// The operation that wrote a value, or the base of a sum. A sum without a base has none.
pub fn operation_of_value(value: u64) -> Option<usize> {
    crate::world::index_of(value / SPACING).checked_sub(1)
}

/// The token of an operation.
pub fn token(first: usize) -> IdempotencyToken {
    IdempotencyToken((first as u128).to_be_bytes())
}

/// The operation with this token, if a client has sent it.
pub fn operation_of_token(token: IdempotencyToken) -> Option<usize> {
    usize::try_from(u128::from_be_bytes(token.0)).ok()
}

/// Whether it stands for a number, to which may be added.
pub fn is_number(value: u64) -> bool {
    !value.is_multiple_of(SPACING) || !(value / SPACING).is_multiple_of(WORDS)
}

fn content(value: u64) -> Content {
    if is_number(value) {
        content_of(i64::try_from(value).expect("values are small"))
    } else {
        Content::Value(Value::Binary(Bytes::copy_from_slice(&value.to_be_bytes())))
    }
}

/// The value written, as it is named in histories.
pub fn value_of(content: &Content) -> Result<Option<u64>, String> {
    let nobody = || format!("nobody wrote {content:?}");
    match content {
        Content::Tombstone => Ok(None),
        Content::Value(Value::Text(_)) => number_in(Some(content)).map(|n| Some(n.cast_unsigned())).ok_or_else(nobody),
        Content::Value(Value::Binary(bytes)) => {
            let bytes: [u8; 8] = bytes.as_ref().try_into().map_err(|_| nobody())?;
            Ok(Some(u64::from_be_bytes(bytes)))
        }
    }
}

/// What a page says of `key`; nothing where it ends before.
pub fn listed(page: &ListedKeys, key: &Key) -> Result<Option<Outcome>, String> {
    if page.looked_to.as_ref().is_some_and(|looked_to| looked_to.user_bytes() < key.user_bytes()) {
        return Ok(None);
    }
    let found = page.keys.iter().find(|(listed, _)| listed.user_bytes() == key.user_bytes());
    let found = found.map(|(key, listed)| (key.table(), &listed.found));
    Ok(Some(Outcome::Listed(match found {
        None => None,
        Some((table, Lookup::Digest(digest))) if digest.is_value => Some((None, digest.version().in_table(table))),
        Some((table, Lookup::Record(record))) if record.is_value() => {
            Some((value_of(&record.content)?, record.version().in_table(table)))
        }
        Some((_, other)) => return Err(format!("a page names {key} with {other:?}")),
    })))
}

/// What a reply means to a client.
pub fn understand(reply: &Reply, ask: &Ask) -> Result<Outcome, String> {
    let has_token = ask.has_token();
    let writes = matches!(ask, Ask::Set | Ask::Delete);
    match reply {
        Reply::Record(None) if ask.is_read() => Ok(Outcome::Saw { value: None, version: Version::absent() }),
        Reply::Record(Some(record)) if ask.is_read() => {
            Ok(Outcome::Saw { value: value_of(&record.content)?, version: record.version() })
        }
        Reply::Set(version) if writes || matches!(ask, Ask::SetIf { .. }) => Ok(Outcome::Wrote(version.clone())),
        Reply::Added { sum, version } if matches!(ask, Ask::Add { .. }) => {
            Ok(Outcome::Added { sum: sum.cast_unsigned(), version: version.clone() })
        }
        Reply::Failed(Failure::ConditionFailed { version, has_value }) if has_token => {
            Ok(Outcome::Declined { version: version.clone(), has_value: *has_value })
        }
        Reply::Failed(Failure::NotANumber { version }) if matches!(ask, Ask::Add { .. }) => {
            Ok(Outcome::Declined { version: version.clone(), has_value: true })
        }
        Reply::Failed(Failure::Unready(_)) => Ok(Outcome::Failed),
        Reply::Failed(Failure::NoQuorum(_)) if ask.is_read() => Ok(Outcome::Failed),
        Reply::Failed(Failure::NotApplied(_)) if !ask.is_read() => Ok(Outcome::Failed),
        Reply::Failed(Failure::OutcomeUnknown(_) | Failure::OutcomeForgotten) if !ask.is_read() => Ok(Outcome::Unknown),
        _ => Err(format!("{ask:?} was answered with {reply:?}")),
    }
}
