//! What a failed attempt means for its operation: try another node, or end.
//!
//! Invariant: a write is tried again only if it never left this process, or a node said that it was not applied. Every
//! other failure of a write ends the operation with an unknown outcome.
//!
//! A node that takes TLS alone is passed over by a client without it: half of a cluster may have moved to TLS, and the rest
//! serves. So is one that does not know who calls: it may not have heard of a new token. Where all nodes say so, the operation
//! ends at once.

use tonic::{Code, Status};

use super::error::{ClientError, NodeFailure};
use super::node::{Node, SendFailure};
use crate::wire::failure::{Failure, FailureReason};

/// What to do after a failure.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Another node may be tried: the failed attempt had no effect.
    TryNext(NodeFailure),
    /// The operation ends with this error and must not be tried again.
    Final(ClientError),
}

/// Judges a failed read. A read has no effect, so another node may be tried unless the request itself was refused.
pub(super) fn judge_read(node: &Node, status: &Status) -> Verdict {
    let failure = NodeFailure::from_status(&node.address, status);
    if let Some(error) = of_table(&failure) {
        return Verdict::Final(error);
    }
    if !failure.is_of_caller() && is_refusal(failure.failure.as_deref(), failure.code) {
        return Verdict::Final(ClientError::Refused { node: failure });
    }
    Verdict::TryNext(failure)
}

/// Judges a failed write. Another node may be tried only if the write certainly did not happen.
pub(super) fn judge_write(node: &Node, failure: &SendFailure) -> Verdict {
    let said = NodeFailure::from_status(&node.address, &failure.status);
    if failure.unsent { Verdict::TryNext(said) } else { judge_answer(said) }
}

/// Judges what a node said of a write that failed.
pub(super) fn judge_answer(said: NodeFailure) -> Verdict {
    if said.is_of_caller() {
        return Verdict::TryNext(said);
    }
    let not_applied = |said: &Failure| matches!(said.reason, FailureReason::NotApplied | FailureReason::NotReady);
    if said.failure.as_deref().is_some_and(not_applied) {
        // With any other code the request itself is at fault, and fails alike when it is sent again.
        return match said.code {
            Code::Unavailable | Code::ResourceExhausted => Verdict::TryNext(said),
            _ => Verdict::Final(ClientError::Refused { node: said }),
        };
    }
    if let Some(error) = of_table(&said).or_else(|| failed_for_good(&said)) {
        return Verdict::Final(error);
    }
    if is_refusal(said.failure.as_deref(), said.code) {
        return Verdict::Final(ClientError::Refused { node: said });
    }
    Verdict::Final(ClientError::OutcomeUnknown { node: said })
}

/// The error of a request whose table is not there, or is.
fn of_table(said: &NodeFailure) -> Option<ClientError> {
    match said.failure.as_deref()?.reason {
        FailureReason::NoSuchTable => Some(ClientError::NoSuchTable { node: said.clone() }),
        FailureReason::TableExists => Some(ClientError::TableExists { node: said.clone() }),
        _ => None,
    }
}

/// The error of a write that was looked at and never takes effect, because of what its key is.
fn failed_for_good(said: &NodeFailure) -> Option<ClientError> {
    let failure = said.failure.as_deref()?;
    let current = failure.current.clone()?;
    match failure.reason {
        FailureReason::ConditionFailed => {
            Some(ClientError::ConditionFailed { version: current.version, has_value: current.has_value })
        }
        FailureReason::NotANumber => Some(ClientError::NotANumber { version: current.version }),
        _ => None,
    }
}

/// Whether the node examined the request and refused it before it did anything. Without Quorate's own reason, this trusts
/// only status codes that neither a broken connection nor a proxy produces.
fn is_refusal(failure: Option<&Failure>, code: Code) -> bool {
    use FailureReason::{
        ClockRaiseTooFar, InvalidArgument, MembersChanged, MembersRefused, NotReplica, OperatorWritesOff,
        PermissionDenied, StampNotGreater, Unauthenticated,
    };
    match failure {
        // Each reason is named, so that a reason added later is not taken for a refusal by accident.
        Some(failure) => matches!(
            failure.reason,
            InvalidArgument
                | NotReplica
                | StampNotGreater
                | OperatorWritesOff
                | ClockRaiseTooFar
                | MembersRefused
                | MembersChanged
                | Unauthenticated
                | PermissionDenied
        ),
        None => matches!(
            code,
            Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::Unimplemented
                | Code::PermissionDenied
                | Code::Unauthenticated
        ),
    }
}
