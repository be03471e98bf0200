//! Conversions between the public types and the messages of the API.
//!
//! Answers came over the network, so each of them is checked before it is believed.

use bytes::Bytes;
use tonic::Code;

use super::Versioned;
use super::error::{ClientError, InputProblem, NodeFailure};
use super::node::Node;
use crate::api;
use crate::types::{Key, Stamp, Value};
use crate::wire::failure::{Failure, FailureReason};

/// The value in a node's answer about `key`; `None` where the key has none. The error says what is wrong with the answer.
pub(super) fn versioned(key: &Key, answer: api::GetResponse) -> Result<Option<Versioned>, String> {
    let Some(entry) = answer.entry else { return Ok(None) };
    let (found, value) = <(Key, Value)>::try_from(entry).map_err(|error| format!("bad answer: {error}"))?;
    if found != *key {
        return Err(format!("bad answer: asked for key {key:?}, got {found:?}"));
    }
    let clock = answer.clock.ok_or("bad answer: a value without its stamp")?;
    let stamp = clock.try_into().map_err(|error| format!("bad answer: {error}"))?;
    Ok(Some(Versioned { value, stamp }))
}

/// The results of a batch, in the order of `keys`. The error says what is wrong with the answer.
pub(super) fn batch(
    address: &str,
    keys: &[Key],
    answer: api::BatchGetResponse,
) -> Result<Vec<Result<Option<Versioned>, NodeFailure>>, String> {
    if answer.results.len() != keys.len() {
        return Err(format!("bad answer: {} results for {} keys", answer.results.len(), keys.len()));
    }
    let results = keys.iter().zip(answer.results);
    let result = |(key, result): (&Key, api::BatchGetResult)| match result.error {
        Some(error) => Ok(Err(NodeFailure {
            address: address.to_owned(),
            message: error.message,
            code: Code::from(error.code),
            failure: FailureReason::parse(&error.reason).map(|reason| Box::new(Failure::new(reason))),
        })),
        None => {
            versioned(key, api::GetResponse { entry: result.entry, clock: result.clock, ..Default::default() }).map(Ok)
        }
    };
    results.map(result).collect()
}

/// The stamp of an acknowledged write. A write whose stamp cannot be read has an unknown outcome.
pub(super) fn stamp_of_write(node: &Node, clock: Option<api::ClockValue>) -> Result<Stamp, ClientError> {
    let problem = match clock.map(Stamp::try_from) {
        Some(Ok(stamp)) => return Ok(stamp),
        Some(Err(error)) => format!("bad answer: {error}"),
        None => "bad answer: OK without a stamp".to_owned(),
    };
    Err(ClientError::OutcomeUnknown { node: NodeFailure::new(&node.address, problem) })
}

/// The key, or what is wrong with it.
pub(super) fn key_of(key: &str) -> Result<Key, ClientError> {
    Key::new(key.to_owned()).map_err(|problem| InputProblem::Key(problem).into())
}

impl From<InputProblem> for ClientError {
    fn from(problem: InputProblem) -> Self {
        Self::InvalidInput { problem }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}
