//! The words of an operation that was not done, or not certainly.
//!
//! Contract: none of them is a word that clients take for a reason to send a command again by themselves, such as TRYAGAIN
//! or LOADING. An operation whose outcome is unknown must be judged by whoever asked for it.

use crate::service::error::ServiceError;
use crate::wire::failure::FailureReason;

use super::reply::Reply;

/// The answer to an operation that failed.
pub(super) fn reply(error: &ServiceError) -> Reply {
    Reply::Error(format!("{} {}", word(error.failure.reason), error.message))
}

/// The first word of its error.
pub(super) fn word(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::NotApplied => "NOTAPPLIED",
        FailureReason::OutcomeUnknown => "OUTCOMEUNKNOWN",
        FailureReason::NoQuorum => "NOQUORUM",
        FailureReason::NotReady => "NOTREADY",
        FailureReason::Unauthenticated => "NOAUTH",
        FailureReason::PermissionDenied => "NOPERM",
        _ => "ERR",
    }
}
