//! Errors of the client, sorted by what the caller does next.

use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};

use crate::limits::VALUE_BYTES_MAX;
use crate::tls::TLS_ALONE;
use crate::types::{KeyError, TableNameError};
use crate::wire::BATCH_KEYS_MAX;
use crate::wire::failure::{Failure, FailureReason};

/// Why an operation failed. The variants are sorted by what the caller does next.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The input is not accepted, and nothing was sent. Fix the input.
    #[error("{problem}")]
    InvalidInput {
        /// What is wrong with the input, and what is accepted.
        problem: InputProblem,
    },
    /// The write certainly did not happen, and will not happen. It was tried until the deadline, and may be sent again at
    /// any time.
    #[error("not written, certainly: {last} (tried for {tried_for:.1?}; safe to send again)")]
    NotApplied {
        /// The failure at the node that was tried last.
        last: NodeFailure,
        /// How long the operation was tried.
        tried_for: Duration,
    },
    /// The write may have happened, or may still happen. Read the key to find out. Send the same write again only if
    /// writing it twice does no harm.
    #[error("may or may not be written: {node}{}", if node.failure.is_some() { "" } else { " (read the key to find out)" })]
    OutcomeUnknown {
        /// The failure at the node that the write was sent to.
        node: NodeFailure,
    },
    /// The condition does not hold, and the write never takes effect. Look at the key, and decide anew.
    #[error(
        "not written: the condition does not hold; the key has {}, version {version}",
        if *has_value { "a value" } else { "no value" }
    )]
    ConditionFailed {
        /// The key's version.
        version: String,
        /// Whether the key has a value.
        has_value: bool,
    },
    /// The value to add to is no number in decimal, or the sum is out of 64 bits. The addition never takes effect.
    #[error("not added: the value is no number in decimal, or the sum is out of 64 bits; its version is {version}")]
    NotANumber {
        /// The key's version.
        version: String,
    },
    /// There is no table of this name, or there is none any more. [`Client::tables`](super::Client::tables) creates it.
    #[error("{node}")]
    NoSuchTable {
        /// The node's answer, which names the table.
        node: NodeFailure,
    },
    /// There is a table of this name already, so that it was not created.
    #[error("{node}")]
    TableExists {
        /// The node's answer, which names the table.
        node: NodeFailure,
    },
    /// No node answered the read before the deadline. It may be tried again at any time.
    #[error("not answered: {last} (tried for {tried_for:.1?}; safe to ask again)")]
    Unavailable {
        /// The failure at the node that was tried last.
        last: NodeFailure,
        /// How long the operation was tried.
        tried_for: Duration,
    },
    /// The node refuses the request, and would refuse it again. Nothing was written. Fix the request or the configuration.
    #[error("refused: {node}")]
    Refused {
        /// The node's refusal.
        node: NodeFailure,
    },
}

/// What is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputProblem {
    /// The key is empty, or longer than a key may be.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The name of the table is not accepted.
    #[error(transparent)]
    Table(#[from] TableNameError),
    /// The greatest value of a table is zero, or beyond that of all values.
    #[error("a greatest value of {given} bytes is not accepted: 1 to {VALUE_BYTES_MAX} are")]
    TableValueBytes {
        /// The number that was given.
        given: u64,
    },
    /// The quota of a table is zero.
    #[error("a quota of 0 bytes is not accepted: give at least 1, or none for no bound")]
    TableQuota,
    /// The value is larger than [`VALUE_BYTES_MAX`].
    #[error("the value has {bytes} bytes: at most {VALUE_BYTES_MAX} are accepted")]
    ValueTooLarge {
        /// The size of the value.
        bytes: usize,
    },
    /// The time to live is out of bounds.
    #[error("a time to live of {given:?} is not accepted: 1 ms to 3,650 days are; without one a value never expires")]
    Ttl {
        /// The time as it was given.
        given: Duration,
    },
    /// The version is empty.
    #[error("the version is empty: give one that an answer about the key had")]
    EmptyVersion,
    /// A batch of no writes, or of too many.
    #[error("the batch has {given} writes: 1 to {BATCH_KEYS_MAX} are accepted")]
    BatchEntries {
        /// How many it has.
        given: usize,
    },
    /// Two writes of a batch are for one key. They have no order.
    #[error("two writes of the batch are for key {key:?}: write it once, or in two batches")]
    KeyTwice {
        /// The key.
        key: String,
    },
    /// The address does not name a host and a port.
    #[error("address {address:?}: {problem}; host:port is accepted, such as 127.0.0.1:8001")]
    Address {
        /// The address as it was given.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The client was given no address.
    #[error("no address is given: name at least one node as host:port")]
    NoAddress,
}

/// How the system says that nobody listens at an address.
#[cfg(feature = "server")]
const CONNECTION_REFUSED: &str = "Connection refused";

/// The failure of a request at one node: the node's answer, or the reason why there was none.
#[derive(Clone, Debug)]
pub struct NodeFailure {
    /// The node's address, as it was given to the client.
    pub address: String,
    /// What went wrong, for a person.
    pub message: String,
    /// The gRPC status code. `Unknown` if the answer made no sense.
    pub code: Code,
    /// The node's own account: the reason, the key's slot, its replicas and the state of each. `None` if the failure
    /// comes from the connection. Boxed, because errors are moved far more often than they are examined.
    pub failure: Option<Box<Failure>>,
}

impl NodeFailure {
    pub(super) fn new(address: &str, message: impl Into<String>) -> Self {
        Self { address: address.to_owned(), message: message.into(), code: Code::Unknown, failure: None }
    }

    pub(super) fn from_status(address: &str, status: &Status) -> Self {
        let failure = Failure::from_status(status).map(Box::new);
        // The text of a status of our own is complete. A status that tonic makes of a broken connection has it in its sources.
        let message = if failure.is_some() { status.message().to_owned() } else { root_message(status) };
        // Without the words for a broken connection around it: the node has answered, and nothing is broken.
        let is_told = failure.is_none() && std::error::Error::source(status).is_some() && message.contains(TLS_ALONE);
        let (message, code) =
            if is_told { (TLS_ALONE.to_owned(), Code::Unavailable) } else { (message, status.code()) };
        Self { address: address.to_owned(), message, code, failure }
    }

    /// Whether the node takes TLS alone, and this client speaks none. Then it has not looked at the request: it says so at the
    /// beginning of a connection.
    pub(crate) fn needs_tls(&self) -> bool {
        self.failure.is_none() && self.code == Code::Unavailable && self.message == TLS_ALONE
    }

    /// Whether nobody listens at the address.
    #[cfg(feature = "server")]
    pub(crate) fn found_nobody(&self) -> bool {
        self.failure.is_none() && self.message.contains(CONNECTION_REFUSED)
    }

    /// Whether it is the caller who can mend it, once all nodes say so. The node has not looked at the request, and another may
    /// serve it: one that takes plain text, or one that knows a new token.
    pub(super) fn is_of_caller(&self) -> bool {
        let is_unknown = |failure: &Failure| failure.reason == FailureReason::Unauthenticated;
        self.needs_tls() || self.failure.as_deref().is_some_and(is_unknown)
    }
}

impl fmt::Display for NodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.message)
    }
}

/// The text of the innermost cause. The outer ones say only "transport error".
fn root_message(status: &Status) -> String {
    let mut message = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        message = error.to_string();
        source = error.source();
    }
    if message.is_empty() { status.code().description().to_owned() } else { message }
}
