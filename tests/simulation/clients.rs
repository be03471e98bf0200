//! Clients: each does one operation after the other, gives up at its deadline, and goes on. Their history is what is
//! judged.

use std::collections::BTreeMap;

use quorate::protocol::{Command, Failure, Reply};
use quorate::types::{Checksum, Content, Key, NodeIndex, Stamp, Value};

use crate::testkit::checker::{Action, Ending, Operation};

/// One operation, with what only the simulation knows of it.
#[derive(Clone, Debug)]
pub struct Done {
    pub operation: Operation,
    pub key: usize,
    pub node: NodeIndex,
    pub began_at: u64,
    pub ended_at: Option<u64>,
    /// Until when its node may try.
    pub deadline: u64,
    /// The place that the protocol gave it, or `None` before all writes.
    pub stamp: Option<Stamp>,
    /// It was begun when nothing was in its way.
    pub must_succeed: bool,
}

/// One client.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What it waits for: an index into the operations.
    pub waits_for: Option<usize>,
    /// How many operations it is still to begin while nothing is in their way.
    pub quota: usize,
}

/// All clients and what they did.
pub struct Clients {
    pub all: Vec<Client>,
    pub operations: Vec<Done>,
    /// Counts what clients do: the time of histories, without ties.
    tick: u64,
}

impl Clients {
    pub fn new(clients: usize) -> Self {
        Self { all: vec![Client::default(); clients], operations: Vec::new(), tick: 0 }
    }

    /// Begins an operation; its index is its name.
    pub fn begin(&mut self, client: usize, key: usize, node: NodeIndex, action: Action, now: u64) -> usize {
        self.tick += 1;
        let name = u32::try_from(client).expect("there are few clients");
        let (invoked, ending) = (self.tick, Ending::Unknown);
        let operation = Operation { client: name, invoked, action, ending, version: None };
        let index = self.operations.len();
        self.operations.push(Done {
            operation,
            key,
            node,
            began_at: now,
            ended_at: None,
            deadline: u64::MAX,
            stamp: None,
            must_succeed: false,
        });
        self.all[client].waits_for = Some(index);
        index
    }

    /// Whether somebody waits for it.
    pub fn is_awaited(&self, index: usize) -> bool {
        let client = self.operations[index].operation.client as usize;
        self.all[client].waits_for == Some(index)
    }

    /// It ended like this.
    pub fn end(&mut self, index: usize, result: &Result<Success, Ending>, now: u64) {
        self.tick += 1;
        let done = &mut self.operations[index];
        done.ended_at = Some(now);
        done.operation.ending = match result {
            Ok(_) => Ending::Returned(self.tick),
            Err(ending) => *ending,
        };
        if let Ok((value, stamp)) = result {
            done.stamp.clone_from(stamp);
            if let Action::Read { saw } = &mut done.operation.action {
                *saw = *value;
            }
        }
        self.all[done.operation.client as usize].waits_for = None;
    }

    /// The history of each key.
    pub fn histories(&self) -> BTreeMap<usize, Vec<&Done>> {
        let mut histories: BTreeMap<usize, Vec<&Done>> = BTreeMap::new();
        for done in &self.operations {
            histories.entry(done.key).or_default().push(done);
        }
        histories
    }
}

/// What a client sends.
pub fn command(key: Key, action: Action) -> Command {
    let content = match action {
        Action::Read { .. } => return Command::Get { key },
        Action::Write { value } => Content::Value(Value::Binary(bytes::Bytes::copy_from_slice(&value.to_be_bytes()))),
        Action::Delete => Content::Tombstone,
        other => unreachable!("no client does {other:?}"),
    };
    let checksum = Checksum::of(&key, &content);
    Command::Set { key, content, ttl: None, checksum }
}

/// The value written, as it is named in histories.
pub fn value_of(content: &Content) -> Result<Option<u64>, String> {
    match content {
        Content::Tombstone => Ok(None),
        Content::Value(value) => {
            let bytes: [u8; 8] = value.bytes().as_ref().try_into().map_err(|_| format!("nobody wrote {value:?}"))?;
            Ok(Some(u64::from_be_bytes(bytes)))
        }
    }
}

/// What an operation that succeeded gave: the value that it saw, and its place among all.
pub type Success = (Option<u64>, Option<Stamp>);

/// What a reply means to a client: what it saw and under which stamp, or how it failed.
pub fn understand(reply: &Reply, action: Action) -> Result<Result<Success, Ending>, String> {
    match (reply, action) {
        (Reply::Record(None), Action::Read { .. }) => Ok(Ok((None, None))),
        (Reply::Record(Some(record)), Action::Read { .. }) => {
            Ok(Ok((value_of(&record.content)?, Some(record.stamp.clone()))))
        }
        (Reply::Set(version), Action::Write { .. } | Action::Delete) => Ok(Ok((None, Some(version.stamp.clone())))),
        (Reply::Failed(Failure::Unready(_)), _)
        | (Reply::Failed(Failure::NoQuorum(_)), Action::Read { .. })
        | (Reply::Failed(Failure::NotApplied(_)), Action::Write { .. } | Action::Delete) => Ok(Err(Ending::Failed)),
        (Reply::Failed(Failure::OutcomeUnknown(_)), Action::Write { .. } | Action::Delete) => Ok(Err(Ending::Unknown)),
        _ => Err(format!("{action:?} was answered with {reply:?}")),
    }
}
