//! The sequential specification of one key: a register that can be emptied, written under conditions, and added to. Where the
//! key is in a created table, that may be dropped once.

use bytes::Bytes;

use quorate::protocol::{Command, Failure, Reply};
use quorate::types::{
    Change, ChangeRequest, Checksum, Condition, Content, IdempotencyToken, Key, Record, TableName, Value, Version,
};
use stateright::semantics::SequentialSpec;

/// A client's operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Write(u8),
    Delete,
    Read,
    /// A write where the key has no value.
    WriteIfAbsent(u8),
    /// A write where the key has the version that its client was told last. That was the version of `seen`.
    Replace {
        seen: Option<u8>,
        value: u8,
    },
    /// An addition to a number of one digit.
    Add(u8),
    /// Drops the table of the key.
    Drop,
}

/// The result that a client sees. An operation without a reply, or whose outcome is unknown, has no ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    Acknowledged,
    Value(Option<u8>),
    Sum(u8),
    /// The condition did not hold.
    Refuted {
        has_value: bool,
    },
    /// It certainly had no effect.
    Failed,
    /// There is no table, so that it had no effect.
    NoTable,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Register {
    value: Option<u8>,
    /// The table was dropped.
    is_dropped: bool,
}

impl SequentialSpec for Register {
    type Op = Operation;
    type Ret = Ending;

    fn invoke(&mut self, operation: &Operation) -> Ending {
        let has_value = self.value.is_some();
        match *operation {
            _ if self.is_dropped => return Ending::NoTable,
            Operation::Write(value) => self.value = Some(value),
            Operation::Delete => self.value = None,
            Operation::Read => return Ending::Value(self.value),
            Operation::WriteIfAbsent(_) if has_value => return Ending::Refuted { has_value },
            Operation::Replace { seen, .. } if self.value != seen => return Ending::Refuted { has_value },
            Operation::WriteIfAbsent(value) | Operation::Replace { value, .. } => self.value = Some(value),
            Operation::Add(number) => {
                let sum = self.value.map_or(0, |digit| digit - b'0') + number;
                self.value = Some(b'0' + sum);
                return Ending::Sum(sum);
            }
            Operation::Drop => self.is_dropped = true,
        }
        Ending::Acknowledged
    }

    fn is_valid_step(&mut self, operation: &Operation, ending: &Ending) -> bool {
        // A write that was reported as not applied leaves no trace: a read of its value fits into no order.
        *ending == Ending::Failed || self.invoke(operation) == *ending
    }
}

impl Operation {
    /// The content that it leaves under the key, if it is a write.
    pub fn content(self) -> Option<Content> {
        match self {
            Self::Write(value) => Some(Content::Value(Value::Binary(Bytes::from(vec![value])))),
            Self::Delete => Some(Content::Tombstone),
            Self::Read | Self::WriteIfAbsent(_) | Self::Replace { .. } | Self::Add(_) | Self::Drop => None,
        }
    }

    /// The value that it may leave under the key.
    pub fn value(self) -> Option<u8> {
        match self {
            Self::Write(value) | Self::WriteIfAbsent(value) | Self::Replace { value, .. } => Some(value),
            Self::Delete | Self::Read | Self::Add(_) | Self::Drop => None,
        }
    }

    /// The operation as its client sends it, after it was told of `version`.
    pub fn command(self, key: Key, name: u8, version: Option<&Version>) -> Command {
        let (condition, value) = match self {
            Self::Drop => return Command::DropTable { name: table_name() },
            Self::Read => return Command::Get { key },
            Self::Write(_) | Self::Delete => {
                let content = self.content().expect("a write leaves a content");
                let checksum = Checksum::of(&key, &content);
                return Command::Set { key, content, ttl: None, checksum };
            }
            Self::Add(number) => {
                let change = Change::Add { delta: number.into(), since: None, ttl: None, keeps_ttl: false };
                return Command::Change { key, request: named(change, name) };
            }
            Self::WriteIfAbsent(value) => (Condition::Absent, value),
            Self::Replace { value, .. } => {
                (Condition::Version(version.cloned().unwrap_or_else(Version::absent)), value)
            }
        };
        let content = Self::Write(value).content().expect("a write leaves a content");
        let checksum = Checksum::of(&key, &content);
        let change = Change::Write { condition, content, ttl: None, checksum };
        Command::Change { key, request: named(change, name) }
    }
}

/// The name of the one created table.
pub fn table_name() -> TableName {
    TableName::new("t").expect("this is a name")
}

fn named(change: Change, name: u8) -> ChangeRequest {
    ChangeRequest { change, token: IdempotencyToken([name; 16]), is_resend: false }
}

impl Ending {
    /// The result in a reply; `None` where the reply leaves the outcome open.
    pub fn of(reply: &Reply) -> Option<Self> {
        match reply {
            Reply::Record(record) => Some(Self::Value(record.as_ref().and_then(|record| value(record)))),
            Reply::Set(_) => Some(Self::Acknowledged),
            Reply::Added { sum, .. } => Some(Self::Sum(u8::try_from(*sum).expect("sums have one digit"))),
            Reply::Failed(Failure::OutcomeUnknown(_) | Failure::OutcomeForgotten | Failure::DroppedMeanwhile) => None,
            Reply::Failed(Failure::NoTable) => Some(Self::NoTable),
            Reply::Dropped => Some(Self::Acknowledged),
            Reply::Failed(Failure::ConditionFailed { has_value, .. }) => Some(Self::Refuted { has_value: *has_value }),
            Reply::Failed(_) => Some(Self::Failed),
            Reply::Clock(_) | Reply::Listed(_) | Reply::Table { .. } | Reply::Members { .. } | Reply::Spread(_) => {
                unreachable!("no client asked for a clock, a list, a table, members or repair")
            }
        }
    }
}

/// The version that a reply tells, and its value.
pub fn told(reply: &Reply, operation: Operation) -> Option<(Version, Option<u8>)> {
    match reply {
        Reply::Set(version) => Some((version.clone(), operation.value())),
        Reply::Record(Some(record)) => Some((record.version(), value(record))),
        Reply::Record(None) => Some((Version::absent(), None)),
        _ => None,
    }
}

fn value(record: &Record) -> Option<u8> {
    match &record.content {
        Content::Value(value) => Some(value.bytes()[0]),
        Content::Tombstone => None,
    }
}
