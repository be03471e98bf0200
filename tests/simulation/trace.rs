//! What happened, for people and for comparing two runs of one seed.

use quorate::protocol::{Answer, Message, Request};
use quorate::types::{Digest, Key, Lookup, NodeIndex, Record};

use crate::world::Event;

/// A message, as it leaves.
pub struct Sent<'a> {
    pub from: NodeIndex,
    pub to: NodeIndex,
    pub at: u64,
    /// Absent where it is lost.
    pub arrives: Option<u64>,
    pub message: &'a Message,
}

/// An arrow of the diagram.
#[derive(Clone, Debug)]
pub struct Arrow {
    pub from: NodeIndex,
    pub to: NodeIndex,
    pub at: u64,
    pub arrives: Option<u64>,
    pub key: Option<Key>,
    /// It is part of a clock round, which writes of all keys share.
    pub is_about_clocks: bool,
    pub label: String,
}

/// Nothing is kept of most runs: it would take most of their time.
#[derive(Default)]
pub struct Trace {
    keeps: bool,
    pub lines: Vec<String>,
    pub arrows: Vec<Arrow>,
}

impl Trace {
    pub fn full() -> Self {
        Self { keeps: true, ..Self::default() }
    }

    pub fn event(&mut self, at: u64, event: &Event) {
        if self.keeps {
            self.lines.push(format!("{at} {event:?}"));
        }
    }

    pub fn sent(&mut self, sent: &Sent<'_>) {
        if self.keeps {
            let Sent { from, to, at, arrives, message } = *sent;
            let (key, label) = describe(message);
            let is_about_clocks = matches!(
                message,
                Message::Request { request: Request::Clock, .. }
                    | Message::Answer { answer: Answer::Clock(_) | Answer::Stored | Answer::Refused(_), .. }
            );
            self.arrows.push(Arrow { from, to, at, arrives, key: key.cloned(), is_about_clocks, label });
        }
    }
}

fn describe(message: &Message) -> (Option<&Key>, String) {
    let shown = |record: &Record| match crate::clients::value_of(&record.content) {
        Ok(Some(value)) => format!("{value} at {}", place(&record.digest())),
        Ok(None) => format!("tombstone at {}", place(&record.digest())),
        Err(what) => what,
    };
    let looked_up = |held: &Lookup| match held {
        Lookup::Absent => "nothing".to_owned(),
        Lookup::Digest(digest) => place(digest),
        Lookup::Record(record) => shown(record),
    };
    match message {
        Message::Hello(hello) => (None, format!("hello, incarnation {}", hello.incarnation.epoch)),
        Message::Welcome(hello) => (None, format!("welcome, incarnation {}", hello.incarnation.epoch)),
        Message::HelloRefused { refusal, .. } => (None, format!("no: {refusal:?}")),
        Message::Configuration(configuration) => {
            let (number, is_joint) = (configuration.number, configuration.is_joint());
            (None, format!("configuration {number}, {}", if is_joint { "joint" } else { "stable" }))
        }
        Message::ConfigurationWanted => (None, "configuration?".to_owned()),
        Message::Request { operation, request, .. } => match request {
            Request::Members(request) => (None, format!("#{} about members: {request:?}", operation.0)),
            Request::Repair(request) => (None, format!("#{} compares: {request:?}", operation.0)),
            Request::Fence { slot, fence } => (None, format!("#{} fence {fence} of slot {slot}", operation.0)),
            Request::OldRecords { slot, until, .. } => {
                (None, format!("#{} old records up to {until} of slot {slot}?", operation.0))
            }
            Request::Seal { slot, seal } => (None, format!("#{} seal {seal} of slot {slot}", operation.0)),
            Request::Clock => (None, format!("#{} clock?", operation.0)),
            Request::TakeClock { clock } => (None, format!("#{} clock {clock}, and yours?", operation.0)),
            Request::Get { key, read_kind } => (Some(key), format!("#{} get {read_kind:?}", operation.0)),
            Request::Store { key, record, .. } => (Some(key), format!("#{} store {}", operation.0, shown(record))),
            Request::Prepare { key, ballot, .. } => (Some(key), format!("#{} prepare {ballot}", operation.0)),
            Request::Accept { key, record, .. } => (Some(key), format!("#{} accept {}", operation.0, shown(record))),
            Request::Scan { range, .. } => (None, format!("#{} scan after {:?}", operation.0, range.after)),
            Request::Drop { tables } => (None, format!("#{} dropped {tables:?}", operation.0)),
            Request::Follow { next, .. } => (None, format!("#{} follow from {next:?}", operation.0)),
            Request::Unfollow => (None, format!("#{} follow no more", operation.0)),
        },
        Message::Answer { operation, answer, .. } => match answer {
            Answer::Members(answer) => (None, format!("#{} of members: {answer:?}", operation.0)),
            Answer::Repair(answer) => (None, format!("#{} is told what is compared: {answer:?}", operation.0)),
            Answer::Fenced { .. } => (None, format!("#{} fenced", operation.0)),
            Answer::OldRecords(marks) => (None, format!("#{} has {} old records", operation.0, marks.records.len())),
            Answer::Sealed => (None, format!("#{} below the seal", operation.0)),
            Answer::Clock(clock) => (None, format!("#{} clock {clock}", operation.0)),
            Answer::Lookup { key, held, .. } => (Some(key), format!("#{} holds {}", operation.0, looked_up(held))),
            Answer::Promised { key, held, .. } => {
                (Some(key), format!("#{} promised, holds {}", operation.0, looked_up(held)))
            }
            Answer::Preempted { floor, .. } => (None, format!("#{} preempted below {floor}", operation.0)),
            Answer::Scanned(scanned) => {
                let keys: Vec<String> =
                    scanned.keys.iter().map(|(key, digest)| format!("{key} {}", place(digest))).collect();
                (None, format!("#{} has {} up to {:?}", operation.0, keys.join(", "), scanned.looked_to))
            }
            Answer::Changes { from, to, changes } => {
                (None, format!("#{} {} changes of {from}..{to}", operation.0, changes.len()))
            }
            Answer::ChangesLost => (None, format!("#{} changes lost", operation.0)),
            Answer::Stored => (None, format!("#{} stored", operation.0)),
            Answer::Refused(refusal) => (None, format!("#{} no: {refusal:?}", operation.0)),
        },
    }
}

/// A record's place in the order of all records of its key, and its version where that is another.
fn place(digest: &Digest) -> String {
    let version = digest.version();
    match digest.tag().ballot {
        None => digest.stamp.to_string(),
        Some(ballot) if version.tag() == digest.tag() => format!("{}+{ballot}", digest.stamp),
        Some(ballot) => format!("{}+{ballot} (version {version})", digest.stamp),
    }
}
