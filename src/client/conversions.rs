//! Conversions between the public types and the messages of the API.
//!
//! Answers came over the network, so each of them is checked before it is believed.

use std::time::Duration;

use bytes::Bytes;
use tonic::Code;

use super::error::{ClientError, InputProblem, NodeFailure};
use super::node::Node;
use super::{Acknowledged, Added, KeyState, Versioned};
use crate::api;
use crate::types::{Key, Stamp, Value};
use crate::wire::failure::{Failure, FailureReason};

/// The state of `key` in a node's answer. The error says what is wrong with the answer.
pub(super) fn key_state(key: &Key, answer: api::GetResponse) -> Result<KeyState, String> {
    let api::GetResponse { entry, clock, version, ttl } = answer;
    if version.is_empty() {
        return Err("bad answer: no version".to_owned());
    }
    let stamp = clock.map(Stamp::try_from).transpose().map_err(|error| format!("bad answer: {error}"))?;
    let Some(entry) = entry else { return Ok(KeyState { found: None, version, stamp }) };
    let value = value_of(key.as_str(), entry)?;
    let ttl = ttl.map(Duration::try_from).transpose().map_err(|_| "bad answer: a negative time to live")?;
    let found = Some(Versioned { value, version: version.clone(), ttl, stamp: stamp.clone() });
    Ok(KeyState { found, version, stamp })
}

/// The value of an entry that is about `key`.
pub(super) fn value_of(key: &str, entry: api::Entry) -> Result<Value, String> {
    let (found, value) = <(Key, Value)>::try_from(entry).map_err(|error| format!("bad answer: {error}"))?;
    if found.as_str() != key {
        return Err(format!("bad answer: asked for key {key:?}, got {found:?}"));
    }
    Ok(value)
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
    let result = |(key, result): (&Key, api::BatchGetResult)| {
        let api::BatchGetResult { entry, clock, version, ttl, error, .. } = result;
        let Some(error) = error else {
            return key_state(key, api::GetResponse { entry, clock, version, ttl }).map(|state| Ok(state.found));
        };
        Ok(Err(NodeFailure {
            address: address.to_owned(),
            message: error.message,
            code: Code::from(error.code),
            failure: FailureReason::parse(&error.reason).map(|reason| Box::new(Failure::new(reason))),
        }))
    };
    results.map(result).collect()
}

/// An acknowledged write. An answer that cannot be read has an unknown outcome.
pub(super) fn written(
    node: &Node,
    clock: Option<api::ClockValue>,
    version: String,
) -> Result<Acknowledged, ClientError> {
    match clock.map(Stamp::try_from).transpose() {
        Ok(stamp) if !version.is_empty() => Ok(Acknowledged { version, stamp }),
        Ok(_) => Err(bad_answer(node, "OK without a version")),
        Err(error) => Err(bad_answer(node, &error.to_string())),
    }
}

/// An acknowledged addition.
pub(super) fn added(node: &Node, answer: api::AddResponse) -> Result<Added, ClientError> {
    let api::AddResponse { value, version } = answer;
    if version.is_empty() { Err(bad_answer(node, "OK without a version")) } else { Ok(Added { value, version }) }
}

fn bad_answer(node: &Node, problem: &str) -> ClientError {
    ClientError::OutcomeUnknown { node: NodeFailure::new(&node.address, format!("bad answer: {problem}")) }
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
