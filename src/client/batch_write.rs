//! Many writes in one call.
//!
//! Contract: each entry is a write of its own, with an outcome of its own, and in no order. Entries that certainly did not
//! happen are sent again until the deadline, together. An entry that names a version, and whose outcome is unknown, is then sent
//! again on its own until the outcome is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;
use tonic::Code;

use super::Client;
use super::backoff::Backoff;
use super::conversions::written;
use super::error::{ClientError, InputProblem, NodeFailure};
use super::failover::Operation;
use super::node::Node;
use super::verdict::{Verdict, judge_answer};
use super::write::{Acknowledged, DELETE, Delete, SET, Set};
use crate::api;
use crate::api::batch_write_entry::Write as Arm;
use crate::types::Key;
use crate::wire::BATCH_KEYS_MAX;
use crate::wire::failure::{Current, Failure, FailureReason};

const BATCH_WRITE: &str = "/api.Cluster/BatchWrite";

/// One entry of [`Client::batch_write`].
#[derive(Clone, Debug)]
pub enum Write {
    /// Writes a value.
    Set(Set),
    /// Deletes a value.
    Delete(Delete),
}

impl From<Set> for Write {
    fn from(set: Set) -> Self {
        Self::Set(set)
    }
}

impl From<Delete> for Write {
    fn from(delete: Delete) -> Self {
        Self::Delete(delete)
    }
}

/// The outcome of an entry.
type Outcome = Result<Acknowledged, ClientError>;

pub(super) async fn batch_write(client: &Client, writes: Vec<Write>) -> Result<Vec<Outcome>, ClientError> {
    let requests: Vec<Request> = writes.into_iter().map(Request::of).collect::<Result<_, _>>()?;
    if requests.is_empty() || requests.len() > BATCH_KEYS_MAX {
        return Err(InputProblem::BatchEntries { given: requests.len() }.into());
    }
    let mut keys = BTreeSet::new();
    if let Some(twice) = requests.iter().find(|request| !keys.insert(request.place())) {
        return Err(InputProblem::KeyTwice { key: twice.place().1.to_owned() }.into());
    }
    let operation = Operation::begin(client.deadline);
    let mut outcomes: Vec<Option<Outcome>> = requests.iter().map(|_| None).collect();
    let mut left: Vec<usize> = (0..requests.len()).collect();
    let mut backoff = Backoff::new();
    loop {
        let entries = left.iter().map(|index| requests[*index].entry()).collect();
        let request = api::BatchWriteRequest { entries, ..Default::default() };
        let sent: Result<(Arc<Node>, api::BatchWriteResponse), _> =
            client.pool.write(operation, BATCH_WRITE, request).await;
        let mut not_applied = Vec::new();
        match sent {
            Ok((node, api::BatchWriteResponse { results })) if results.len() == left.len() => {
                for (index, result) in left.iter().zip(results) {
                    match outcome(&node, result) {
                        Ok(outcome) => outcomes[*index] = Some(outcome),
                        Err(last) => not_applied.push((*index, last)),
                    }
                }
            }
            Ok((node, api::BatchWriteResponse { results })) => {
                let problem = format!("bad answer: {} results for {} writes", results.len(), left.len());
                let error = ClientError::OutcomeUnknown { node: NodeFailure::new(&node.address, problem) };
                fill(&mut outcomes, &left, &error);
            }
            // Some entries of an earlier call may be written.
            Err(error @ ClientError::OutcomeUnknown { .. }) => fill(&mut outcomes, &left, &error),
            Err(error) if left.len() == requests.len() => return Err(error),
            Err(error) => fill(&mut outcomes, &left, &error),
        }
        if not_applied.is_empty() {
            break;
        }
        if !backoff.wait(operation.deadline()).await {
            for (index, last) in not_applied {
                outcomes[index] = Some(Err(ClientError::NotApplied { last, tried_for: operation.began().elapsed() }));
            }
            break;
        }
        left = not_applied.into_iter().map(|(index, _)| index).collect();
    }
    let mut done = Vec::with_capacity(requests.len());
    for (request, outcome) in requests.into_iter().zip(outcomes) {
        let outcome = outcome.expect("each entry has an outcome once none is left");
        let is_open = matches!(outcome, Err(ClientError::OutcomeUnknown { .. }));
        let may_ask = is_open && request.may_be_resent && Instant::now() < operation.deadline();
        done.push(if may_ask { request.find_out(client, operation).await } else { outcome });
    }
    Ok(done)
}

/// Gives all that are left the same outcome.
fn fill(outcomes: &mut [Option<Outcome>], left: &[usize], error: &ClientError) {
    for index in left {
        outcomes[*index] = Some(Err(error.clone()));
    }
}

/// The outcome of an entry, or why it certainly did not happen.
fn outcome(node: &Node, result: api::BatchWriteResult) -> Result<Outcome, NodeFailure> {
    let api::BatchWriteResult { clock, version, error, .. } = result;
    let Some(api::BatchWriteError { code, reason, message, version: current, has_value }) = error else {
        return Ok(written(node, clock, version));
    };
    let current = (!current.is_empty()).then_some(Current { version: current, has_value });
    let failure = FailureReason::parse(&reason).map(|reason| Box::new(Failure { current, ..Failure::new(reason) }));
    match judge_answer(NodeFailure { address: node.address.clone(), message, code: Code::from(code), failure }) {
        Verdict::TryNext(last) => Err(last),
        Verdict::Final(error) => Ok(Err(error)),
    }
}

/// An entry as it is sent.
struct Request {
    arm: Arm,
    may_be_resent: bool,
}

impl Request {
    fn of(write: Write) -> Result<Self, ClientError> {
        let (arm, may_be_resent) = match write {
            Write::Set(set) => {
                let (request, may_be_resent) = set.request()?;
                (Arm::Set(request), may_be_resent)
            }
            Write::Delete(delete) => {
                let (request, may_be_resent) = delete.request()?;
                (Arm::Delete(request), may_be_resent)
            }
        };
        Ok(Self { arm, may_be_resent })
    }

    /// The table and the key.
    fn place(&self) -> (&str, &str) {
        match &self.arm {
            Arm::Set(request) => (&request.table, request.entry.as_ref().map_or("", |entry| &entry.key)),
            Arm::Delete(request) => (&request.table, &request.key),
        }
    }

    fn entry(&self) -> api::BatchWriteEntry {
        api::BatchWriteEntry { write: Some(self.arm.clone()) }
    }

    /// Sends an entry again whose outcome is unknown, until it is known. It takes effect once at most.
    async fn find_out(self, client: &Client, operation: Operation) -> Outcome {
        let (table, key) = self.place();
        let slot = Key::new(key.to_owned()).ok().and_then(|key| client.pool.slot_of(table, &key));
        let operation = operation.on(slot);
        let found = match self.arm {
            Arm::Set(request) => {
                let again = move |_| api::SetRequest { resend: true, ..request.clone() };
                let answer = client.pool.write_until_known(operation, SET, again).await;
                answer.and_then(|(node, api::SetResponse { clock, version })| written(&node, clock, version))
            }
            Arm::Delete(request) => {
                let again = move |_| api::DeleteRequest { resend: true, ..request.clone() };
                let answer = client.pool.write_until_known(operation, DELETE, again).await;
                answer.and_then(|(node, api::DeleteResponse { clock, version })| written(&node, clock, version))
            }
        };
        // The batch may have written it, whatever became of these tries.
        found.map_err(|error| match error {
            ClientError::NotApplied { last: node, .. } | ClientError::Refused { node } => {
                ClientError::OutcomeUnknown { node }
            }
            error => error,
        })
    }
}
