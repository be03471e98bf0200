//! The sequential specification of one key: a register that can be emptied.

use bytes::Bytes;

use quorate::protocol::{Failure, Reply};
use quorate::types::{Content, Record, Value};
use stateright::semantics::SequentialSpec;

/// A client's operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Write(u8),
    Delete,
    Read,
}

/// The result that a client sees. An operation without a reply, or whose outcome is unknown, has no ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    Acknowledged,
    Value(Option<u8>),
    /// It certainly had no effect.
    Failed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Register(Option<u8>);

impl SequentialSpec for Register {
    type Op = Operation;
    type Ret = Ending;

    fn invoke(&mut self, operation: &Operation) -> Ending {
        match operation {
            Operation::Write(value) => self.0 = Some(*value),
            Operation::Delete => self.0 = None,
            Operation::Read => return Ending::Value(self.0),
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
            Self::Read => None,
        }
    }
}

impl Ending {
    /// The result in a reply; `None` where the reply leaves the outcome open.
    pub fn of(reply: &Reply) -> Option<Self> {
        match reply {
            Reply::Record(record) => Some(Self::Value(record.as_ref().and_then(value))),
            Reply::Set(_) | Reply::Added { .. } => Some(Self::Acknowledged),
            Reply::Failed(Failure::OutcomeUnknown(_)) => None,
            Reply::Failed(_) => Some(Self::Failed),
            Reply::Clock(_) | Reply::Listed(_) => unreachable!("nobody asked for a clock or a list"),
        }
    }
}

fn value(record: &Record) -> Option<u8> {
    match &record.content {
        Content::Value(value) => Some(value.bytes()[0]),
        Content::Tombstone => None,
    }
}
