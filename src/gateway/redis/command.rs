//! A command that is about to run, and what its answers have in common.

use bytes::Bytes;
use tonic::Code;

use crate::service::buffer_budget::BudgetGuard;
use crate::service::error::ServiceError;
use crate::types::{Content, Key, KeyError, Value};

use super::failure;
use super::parse::{number, shown};
use super::reply::Reply;
use super::table::{self, Spec};

/// A command with as many arguments as it takes.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) spec: &'static Spec,
    /// The name is the first of them.
    pub(super) arguments: Vec<Bytes>,
    /// The request's part of the buffer budget.
    pub(super) guard: Option<BudgetGuard>,
}

/// The result of a command.
pub(super) type Answer = Result<Reply, Refusal>;

/// Why a command has no result.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The operation failed.
    Failed(ServiceError),
    /// The command is not valid; the text begins with its first word.
    Wrong(String),
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error)
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        Self::Wrong(format!("ERR {error}"))
    }
}

impl Refusal {
    pub(super) fn wrong(text: impl Into<String>) -> Self {
        Self::Wrong(text.into())
    }

    pub(super) fn syntax() -> Self {
        Self::wrong("ERR syntax error")
    }

    pub(super) fn not_an_integer() -> Self {
        Self::wrong("ERR value is not an integer or out of range")
    }

    /// gRPC's code for it, for metrics and the log.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Failed(error) => error.code(),
            Self::Wrong(_) => Code::InvalidArgument,
        }
    }

    pub(super) fn into_reply(self) -> Reply {
        match self {
            Self::Failed(error) => failure::reply(&error),
            Self::Wrong(text) => Reply::Error(text),
        }
    }
}

impl Command {
    /// The command that a request asks for, or the error that it is answered with.
    pub(super) fn of(arguments: Vec<Bytes>, guard: Option<BudgetGuard>) -> Result<Self, String> {
        let name = arguments.first().map_or(&[][..], |name| name);
        let Some(spec) = table::find(name) else { return Err(unknown(name, &arguments)) };
        if !spec.takes(arguments.len()) {
            return Err(wrong_count(spec.name));
        }
        Ok(Self { spec, arguments, guard })
    }

    /// An argument, which is there because the command takes so many.
    pub(super) fn argument(&self, place: usize) -> Bytes {
        self.arguments.get(place).cloned().unwrap_or_default()
    }

    /// The key of a command of one key.
    pub(super) fn key(&self) -> Result<Key, Refusal> {
        Ok(Key::new(self.argument(1))?)
    }

    /// An argument as a whole number.
    pub(super) fn number(&self, place: usize) -> Result<i64, Refusal> {
        number(&self.argument(place)).ok_or_else(Refusal::not_an_integer)
    }

    /// The arguments that are keys.
    pub(super) fn key_arguments(&self) -> impl Iterator<Item = &Bytes> {
        use table::Keys;
        let (count, step) = match self.spec.keys {
            Keys::None | Keys::Any => (0, 1),
            Keys::One => (1, 1),
            Keys::Every => (usize::MAX, 1),
            Keys::Pairs => (usize::MAX, 2),
        };
        self.arguments.iter().skip(1).step_by(step).take(count)
    }
}

pub(super) fn wrong_count(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

/// The error for a command that is not served.
fn unknown(name: &[u8], arguments: &[Bytes]) -> String {
    /// The most bytes of arguments that the error repeats.
    const REPEATED_MAX: usize = 128;
    let shown_name = shown(name);
    if let Some(why) = table::refusal(name) {
        return format!("ERR unknown command '{shown_name}': not served, because {why}");
    }
    let mut text = format!("ERR unknown command '{shown_name}', with args beginning with: ");
    let end = text.len() + REPEATED_MAX;
    for argument in arguments.iter().skip(1) {
        if text.len() >= end {
            break;
        }
        text.push('\'');
        // AUTH that was misspelled: the text stands in the log too.
        let is_token = argument.starts_with(b"qrt_");
        text.push_str(&if is_token { "qrt_(removed)".to_owned() } else { shown(argument) });
        text.push_str("' ");
    }
    text
}

/// The value that these bytes are: text if they can be.
pub(super) fn value(bytes: Bytes) -> Value {
    if std::str::from_utf8(&bytes).is_ok() { Value::Text(bytes) } else { Value::Binary(bytes) }
}

pub(super) fn content(bytes: Bytes) -> Content {
    Content::Value(value(bytes))
}

/// Whether an argument is this word, in any case.
pub(super) fn is_word(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}
