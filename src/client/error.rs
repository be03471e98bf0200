//! Errors of the client, sorted by what the caller does next.

use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};

use crate::limits::VALUE_BYTES_MAX;
use crate::types::KeyError;
use crate::wire::failure::Failure;

/// Why an operation did not end well.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Fix the input. Nothing was sent.
    #[error("{problem}")]
    InvalidInput {
        /// What is wrong with it, and what is accepted.
        problem: InputProblem,
    },
    /// A write that certainly did not happen, and will not. Send it again when you like; it was tried until the
    /// deadline.
    #[error("not written, certainly: {last} (tried for {tried_for:.1?}; safe to send again)")]
    NotApplied {
        /// What the node that was tried last said.
        last: NodeFailure,
        /// How long it was tried.
        tried_for: Duration,
    },
    /// A write that may have happened, or may still happen. Read the key to find out; sending the same write again is
    /// right only if it does no harm to write it twice.
    #[error("may or may not be written: {node} (read the key to find out)")]
    OutcomeUnknown {
        /// What the node that it was sent to said, or why it said nothing.
        node: NodeFailure,
    },
    /// A read that no node answered before the deadline. Read again when you like.
    #[error("not answered: {last} (tried for {tried_for:.1?}; safe to ask again)")]
    Unavailable {
        /// What the node that was tried last said.
        last: NodeFailure,
        /// How long it was tried.
        tried_for: Duration,
    },
    /// The node will not do this however often it is asked. Nothing was written. Fix the request or the configuration.
    #[error("refused: {node}")]
    Refused {
        /// What the node said.
        node: NodeFailure,
    },
}

/// What is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputProblem {
    /// A key that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A value beyond [`VALUE_BYTES_MAX`].
    #[error("the value has {bytes} bytes: at most {VALUE_BYTES_MAX} are accepted")]
    ValueTooLarge {
        /// How many bytes it has.
        bytes: usize,
    },
    /// An address that is none.
    #[error("address {address:?}: {problem}; host:port is accepted, such as 127.0.0.1:8001")]
    Address {
        /// The address as it was given.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No address at all.
    #[error("no address is given: name at least one node as host:port")]
    NoAddress,
}

/// What one node said, or why it said nothing.
#[derive(Clone, Debug)]
pub struct NodeFailure {
    /// The node's address, as it was given to the client.
    pub address: String,
    /// What went wrong there, for a person.
    pub message: String,
    /// The gRPC status code; `Unknown` where the node answered nonsense.
    pub code: Code,
    /// What the node said in Quorate's own words: the reason, the key's slot, its replicas and what each of them said.
    /// Boxed, because an error is moved about far more often than it is looked into.
    pub failure: Option<Box<Failure>>,
}

impl NodeFailure {
    pub(super) fn new(address: &str, message: impl Into<String>) -> Self {
        Self { address: address.to_owned(), message: message.into(), code: Code::Unknown, failure: None }
    }

    pub(super) fn from_status(address: &str, status: &Status) -> Self {
        let failure = Failure::from_status(status).map(Box::new);
        // A status of our own says all of it; one that tonic made of a broken connection says it in its sources.
        let message = if failure.is_some() { status.message().to_owned() } else { root_message(status) };
        Self { address: address.to_owned(), message, code: status.code(), failure }
    }
}

impl fmt::Display for NodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.message)
    }
}

/// The innermost cause, which is the one that says something ("transport error" does not).
fn root_message(status: &Status) -> String {
    let mut message = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        message = error.to_string();
        source = error.source();
    }
    if message.is_empty() { status.code().description().to_owned() } else { message }
}
