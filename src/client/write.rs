//! Writing a key: plainly, or depending on what is there.
//!
//! A write that names a version of its key takes effect once at most, because no version comes back. It is therefore sent
//! again, to any node, until one says what became of it. All other writes are sent once, unless they certainly did not
//! happen.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use super::Client;
use super::backoff::random_bytes;
use super::conversions::{added, written};
use super::error::{ClientError, InputProblem};
use crate::api;
use crate::api::condition::Condition;
use crate::limits::VALUE_BYTES_MAX;
use crate::types::{Key, Stamp, Ttl, Value};

pub(super) const SET: &str = "/api.Cluster/Set";
pub(super) const DELETE: &str = "/api.Cluster/Delete";
const ADD: &str = "/api.Cluster/Add";

type Outcome<T> = Pin<Box<dyn Future<Output = Result<T, ClientError>> + Send>>;

/// A write that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The version that the write made.
    pub version: String,
    /// The stamp of a write without a condition. A write with a condition has the stamp of the one that it builds on, and
    /// none if there is no such write.
    pub stamp: Option<Stamp>,
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}", self.version)
    }
}

/// An addition that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The sum.
    pub value: i64,
    /// The version that the addition made.
    pub version: String,
}

/// A write of a value: `await` it. Of several conditions the last one counts.
#[derive(Clone, Debug)]
#[must_use = "a write is sent when it is awaited"]
pub struct Set {
    client: Client,
    key: Result<Key, ClientError>,
    value: Value,
    condition: Option<Condition>,
    ttl: Option<Duration>,
}

/// A deletion: `await` it. Of several conditions the last one counts.
#[derive(Clone, Debug)]
#[must_use = "a deletion is sent when it is awaited"]
pub struct Delete {
    client: Client,
    key: Result<Key, ClientError>,
    condition: Option<Condition>,
}

/// An addition: `await` it.
///
/// Without [`Add::since`], an addition whose node dies may end with [`ClientError::OutcomeUnknown`]: sent again, it could
/// count twice. With it, the client sends it again, and it counts once.
#[derive(Clone, Debug)]
#[must_use = "an addition is sent when it is awaited"]
pub struct Add {
    client: Client,
    key: Result<Key, ClientError>,
    delta: i64,
    since: Option<String>,
    ttl: Option<Duration>,
}

macro_rules! conditions {
    ($write:ty) => {
        impl $write {
            /// Writes only if the key has this version, which an earlier answer gave. The version of an absence is
            /// accepted too. Such a write takes effect once at most, and the client sends it again where a node dies.
            pub fn if_version(mut self, version: impl Into<String>) -> Self {
                self.condition = Some(Condition::IfVersion(version.into()));
                self
            }

            /// Writes only if the key has a value.
            pub fn if_present(mut self) -> Self {
                self.condition = Some(Condition::IfPresent(true));
                self
            }
        }
    };
}

conditions!(Set);
conditions!(Delete);

impl Set {
    pub(super) fn new(client: Client, key: Result<Key, ClientError>, value: Value) -> Self {
        Self { client, key, value, condition: None, ttl: None }
    }

    /// Writes only if the key has no value.
    pub fn if_absent(mut self) -> Self {
        self.condition = Some(Condition::IfAbsent(true));
        self
    }

    /// Lets the value expire so long after the write, from 1 ms to 3,650 days: not before, and a little later. A later
    /// write without a time to live makes it permanent.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The request, and whether it may be sent again.
    pub(super) fn request(self) -> Result<(api::SetRequest, bool), ClientError> {
        let Self { client, key, value, condition, ttl } = self;
        let (table, key) = (client.table_name()?, key?);
        let bytes = value.bytes().len();
        if bytes > VALUE_BYTES_MAX {
            return Err(InputProblem::ValueTooLarge { bytes }.into());
        }
        let Named { condition, request_id, may_be_resent } = name(condition)?;
        let request = api::SetRequest {
            entry: Some((key, value).into()),
            table,
            condition,
            ttl: ttl_of(ttl)?,
            request_id,
            resend: false,
        };
        Ok((request, may_be_resent))
    }

    async fn send(self) -> Result<Acknowledged, ClientError> {
        let client = self.client.clone();
        let key = self.key.clone();
        let (request, may_be_resent) = self.request()?;
        let operation = client.operation_on(&key?);
        let (node, answer): (_, api::SetResponse) = if may_be_resent {
            let again = move |resend| api::SetRequest { resend, ..request.clone() };
            client.pool.write_until_known(operation, SET, again).await?
        } else {
            client.pool.write(operation, SET, request).await?
        };
        written(&node, answer.clock, answer.version)
    }
}

impl Delete {
    pub(super) fn new(client: Client, key: Result<Key, ClientError>) -> Self {
        Self { client, key, condition: None }
    }

    /// The request, and whether it may be sent again.
    pub(super) fn request(self) -> Result<(api::DeleteRequest, bool), ClientError> {
        let (table, key) = (self.client.table_name()?, self.key?.as_str().to_owned());
        let Named { condition, request_id, may_be_resent } = name(self.condition)?;
        Ok((api::DeleteRequest { key, table, condition, request_id, resend: false }, may_be_resent))
    }

    async fn send(self) -> Result<Acknowledged, ClientError> {
        let client = self.client.clone();
        let key = self.key.clone();
        let (request, may_be_resent) = self.request()?;
        let operation = client.operation_on(&key?);
        let (node, answer): (_, api::DeleteResponse) = if may_be_resent {
            let again = move |resend| api::DeleteRequest { resend, ..request.clone() };
            client.pool.write_until_known(operation, DELETE, again).await?
        } else {
            client.pool.write(operation, DELETE, request).await?
        };
        written(&node, answer.clock, answer.version)
    }
}

impl Add {
    pub(super) fn new(client: Client, key: Result<Key, ClientError>, delta: i64) -> Self {
        Self { client, key, delta, since: None, ttl: None }
    }

    /// Names a version of the key that an earlier answer gave. The addition then counts once, and the client sends it again
    /// where a node dies. [`ClientError::ConditionFailed`] says that more than eight conditional writes of the key came
    /// after that version: take the present one, which the error names.
    pub fn since(mut self, version: impl Into<String>) -> Self {
        self.since = Some(version.into());
        self
    }

    /// Lets the sum expire, as [`Set::ttl`].
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    async fn send(self) -> Result<Added, ClientError> {
        let Self { client, key, delta, since, ttl } = self;
        let (table, key) = (client.table_name()?, key?);
        if since.as_deref() == Some("") {
            return Err(InputProblem::EmptyVersion.into());
        }
        let may_be_resent = since.is_some();
        let ttl = ttl_of(ttl)?;
        let operation = client.operation_on(&key);
        let key = key.as_str().to_owned();
        let request = api::AddRequest { key, table, delta, since, request_id: request_id(), resend: false, ttl };
        let (node, answer) = if may_be_resent {
            let again = move |resend| api::AddRequest { resend, ..request.clone() };
            client.pool.write_until_known(operation, ADD, again).await?
        } else {
            client.pool.write(operation, ADD, request).await?
        };
        added(&node, answer)
    }
}

impl IntoFuture for Set {
    type Output = Result<Acknowledged, ClientError>;
    type IntoFuture = Outcome<Acknowledged>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl IntoFuture for Delete {
    type Output = Result<Acknowledged, ClientError>;
    type IntoFuture = Outcome<Acknowledged>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl IntoFuture for Add {
    type Output = Result<Added, ClientError>;
    type IntoFuture = Outcome<Added>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// A condition, and the name of the request that has it.
struct Named {
    condition: Option<api::Condition>,
    request_id: Bytes,
    may_be_resent: bool,
}

fn name(condition: Option<Condition>) -> Result<Named, InputProblem> {
    let Some(condition) = condition else {
        return Ok(Named { condition: None, request_id: Bytes::new(), may_be_resent: false });
    };
    let may_be_resent = match &condition {
        Condition::IfVersion(version) if version.is_empty() => return Err(InputProblem::EmptyVersion),
        Condition::IfVersion(_) => true,
        Condition::IfAbsent(_) | Condition::IfPresent(_) => false,
    };
    let condition = Some(api::Condition { condition: Some(condition) });
    Ok(Named { condition, request_id: request_id(), may_be_resent })
}

fn request_id() -> Bytes {
    Bytes::copy_from_slice(&random_bytes())
}

/// The time to live as the wire has it.
pub(super) fn ttl_of(ttl: Option<Duration>) -> Result<Option<prost_types::Duration>, InputProblem> {
    let Some(ttl) = ttl else { return Ok(None) };
    if ttl.is_zero() || ttl > Ttl::MAX {
        return Err(InputProblem::Ttl { given: ttl });
    }
    Ok(prost_types::Duration::try_from(ttl).ok())
}
