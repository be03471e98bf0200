//! Reading a key.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use super::Client;
use super::conversions::key_state;
use super::error::{ClientError, InputProblem, NodeFailure};
use super::node::{by, within};
use super::verdict::{Verdict, judge_read};
use crate::api;
use crate::types::{Key, Stamp, Value};

/// A read of a key: `await` it for the value, or [`Get::state`] for the version of a key that may have no value.
#[derive(Clone, Debug)]
#[must_use = "a read is sent when it is awaited"]
pub struct Get {
    client: Client,
    key: Result<Key, ClientError>,
    consistency: api::Consistency,
    at_least: Option<String>,
}

/// The value of a key, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value, in the form in which it was written: text or binary.
    pub value: Value,
    /// The version, for conditions: no other state of the key has it.
    pub version: String,
    /// The rest of the time to live; `None` for a value that never expires.
    pub ttl: Option<Duration>,
    /// The position of the write in the one order of all writes without a condition: a greater stamp is a later write. A
    /// write with a condition has the stamp of the one that it builds on, and none if there is no such write.
    pub stamp: Option<Stamp>,
}

/// The state of a key, which may have a value or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// The value; `None` if the key has none.
    pub found: Option<Versioned>,
    /// The version, of a value and of an absence alike.
    pub version: String,
    /// The stamp of the latest write or deletion without a condition.
    pub stamp: Option<Stamp>,
}

impl Get {
    pub(super) fn new(client: Client, key: Result<Key, ClientError>) -> Self {
        Self { client, key, consistency: api::Consistency::Linearizable, at_least: None }
    }

    /// Reads what one replica holds: fast, and with no claim about the others. It may be old, and may be a conditional
    /// write that has not succeeded and never will.
    pub fn from_one_replica(mut self) -> Self {
        self.consistency = api::Consistency::One;
        self
    }

    /// Reads what one replica holds, if that is of `version` or later, and the latest value otherwise. With the version of
    /// the latest answer about the key, a client reads its own writes. It goes backwards only from what one replica has shown it and
    /// no majority has ever had.
    pub fn at_least(mut self, version: impl Into<String>) -> Self {
        self.consistency = api::Consistency::One;
        self.at_least = Some(version.into());
        self
    }

    /// Reads the state of the key: its value if it has one, and its version in any case.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn state(self) -> Result<KeyState, ClientError> {
        let Self { client, key, consistency, at_least } = self;
        let key = key?;
        if at_least.as_deref() == Some("") {
            return Err(InputProblem::EmptyVersion.into());
        }
        let table = client.table_name()?;
        let request =
            api::GetRequest { key: key.as_str().to_owned(), table, consistency: consistency.into(), at_least };
        let operation = client.operation_on(&key);
        let ask = move |node: std::sync::Arc<super::node::Node>, deadline| {
            let (key, request) = (key.clone(), request.clone());
            async move {
                let answer = within(deadline, async { node.cluster().get(by(request, deadline)).await }).await;
                key_state(&key, answer.map_err(|status| judge_read(&node, &status))?.into_inner())
                    .map_err(|problem| Verdict::TryNext(NodeFailure::new(&node.address, problem)))
            }
        };
        client.pool.read(operation, ask).await
    }
}

impl IntoFuture for Get {
    type Output = Result<Option<Versioned>, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { Ok(self.state().await?.found) })
    }
}
