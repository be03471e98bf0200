//! Refusals and failures, as HTTP tells them: RFC 9457, `application/problem+json`.
//!
//! Contract: 502 and 503 mean that nothing was done, because proxies send such requests again by themselves. A write that
//! may have happened is 504.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use tonic::Code;

use crate::service::error::ServiceError;
use crate::types::KeyError;
use crate::wire::failure::FailureReason;

use super::reply::{Body, Reply};

/// A request that was not done, or not fully.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// The last part of its type.
    pub(super) kind: &'static str,
    /// The event, its place, and the remedy.
    pub(super) detail: String,
    /// The reason, as gRPC has it, where the service gives one.
    reason: Option<FailureReason>,
    /// The present tag of the key, where a condition failed.
    etag: Option<String>,
    /// The methods of the path, where the method was another one.
    allow: Option<&'static str>,
    /// gRPC's code, for metrics and the log.
    code: Code,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => Code::PermissionDenied,
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => Code::FailedPrecondition,
            StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
            _ => Code::InvalidArgument,
        };
        Self { status, kind, detail: detail.into(), reason: None, etag: None, allow: None, code }
    }

    fn bad(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, detail)
    }

    pub(super) fn invalid_key(error: &KeyError) -> Self {
        Self::bad("invalid-key", error.to_string())
    }

    pub(super) fn invalid_path(detail: impl Into<String>) -> Self {
        Self::bad("invalid-key", detail)
    }

    pub(super) fn invalid_table(detail: impl Into<String>) -> Self {
        Self::bad("invalid-table", detail)
    }

    pub(super) fn invalid_parameter(detail: impl Into<String>) -> Self {
        Self::bad("invalid-parameter", detail)
    }

    pub(super) fn invalid_header(detail: impl Into<String>) -> Self {
        Self::bad("invalid-header", detail)
    }

    pub(super) fn invalid_body(detail: impl Into<String>) -> Self {
        Self::bad("invalid-body", detail)
    }

    pub(super) fn missing_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, "missing-key", "the key has no value")
    }

    pub(super) fn missing_path() -> Self {
        let detail = "nothing is at this path: keys are at /v1/tables/default/keys/KEY and at /KEY, and /openapi.json \
                      lists the others";
        Self::new(StatusCode::NOT_FOUND, "missing-path", detail)
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        let detail = format!("nothing was done: the body is larger than {bytes_max} bytes, the most that are accepted");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    pub(super) fn wrong_method(allow: &'static str) -> Self {
        let detail = format!("nothing was done: this path takes {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", detail) }
    }

    pub(super) fn condition_failed(detail: impl Into<String>, etag: Option<String>) -> Self {
        Self { etag, ..Self::new(StatusCode::PRECONDITION_FAILED, "condition-failed", detail) }
    }

    /// The object that describes it.
    pub(super) fn as_json(&self) -> serde_json::Value {
        let mut json = json!({
            "type": format!("urn:quorate:problem:{}", self.kind),
            "title": title(self.kind),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(reason) = self.reason {
            json["reason"] = reason.as_str().into();
        }
        if let Some(etag) = &self.etag {
            json["etag"] = etag.as_str().into();
        }
        json
    }

    /// The answer, with the object as its body.
    pub(super) fn into_reply(self) -> Reply {
        let body = Body::of(self.as_json().to_string());
        let mut reply = self.into_bare_reply();
        reply.body = body;
        reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        reply
    }

    /// The answer without a body.
    pub(super) fn into_bare_reply(self) -> Reply {
        let mut headers = HeaderMap::new();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // A browser asks its user then, and sends the token as the password.
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"quorate\""));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(etag) = self.etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
            headers.insert(header::ETAG, etag);
        }
        Reply { status: self.status, headers, body: Body::Empty, code: self.code, message: self.detail, guard: None }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let reason = error.failure.reason;
        let (status, kind) = match reason {
            _ if error.is_resend => (StatusCode::GATEWAY_TIMEOUT, "outcome-unknown"),
            _ if error.overloaded => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            FailureReason::NotApplied => (StatusCode::SERVICE_UNAVAILABLE, "not-applied"),
            FailureReason::NoQuorum => (StatusCode::SERVICE_UNAVAILABLE, "no-quorum"),
            FailureReason::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not-ready"),
            FailureReason::OutcomeUnknown => (StatusCode::GATEWAY_TIMEOUT, "outcome-unknown"),
            FailureReason::ConditionFailed => (StatusCode::PRECONDITION_FAILED, "condition-failed"),
            FailureReason::NotANumber => (StatusCode::CONFLICT, "not-a-number"),
            FailureReason::NoSuchTable => (StatusCode::NOT_FOUND, "missing-table"),
            FailureReason::TableExists => (StatusCode::CONFLICT, "table-exists"),
            FailureReason::MembersRefused => (StatusCode::CONFLICT, "members-refused"),
            FailureReason::MembersChanged => (StatusCode::CONFLICT, "members-changed"),
            FailureReason::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            FailureReason::PermissionDenied => (StatusCode::FORBIDDEN, "permission-denied"),
            FailureReason::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid-parameter"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let current = error.failure.current.as_ref().filter(|current| current.has_value);
        let etag = current.map(|current| super::conditions::etag(&current.version));
        let code = error.code();
        Self { status, kind, detail: error.message, reason: Some(reason), etag, allow: None, code }
    }
}

/// The sentence that all problems of a kind have in common.
fn title(kind: &str) -> &'static str {
    match kind {
        "invalid-key" => "The key is not valid",
        "invalid-table" => "The name of the table is not valid",
        "invalid-parameter" => "A parameter is not valid",
        "invalid-header" => "A header is not valid",
        "invalid-body" => "The body is not valid",
        "unauthenticated" => "The node asks who calls",
        "permission-denied" => "The caller lacks a right",
        "foreign-origin" => "Pages of this origin may not write here",
        "foreign-host" => "The node does not go by this name",
        "missing-key" => "The key has no value",
        "missing-table" => "The table does not exist",
        "table-exists" => "The table exists already, with other settings",
        "missing-path" => "Nothing is at this path",
        "missing-node" => "The node was not found",
        "wrong-method" => "The path does not take this method",
        "slow-body" => "The body did not arrive in time",
        "members-refused" => "The members cannot be changed so",
        "members-changed" => "Another change of members came first",
        "not-a-number" => "The value is no number, or the sum is out of range",
        "condition-failed" => "The condition does not hold",
        "too-large" => "The body is too large",
        "long-path" => "The path is too long",
        "wrong-type" => "The body has a type that is not accepted",
        "long-headers" => "The headers are too large",
        "overloaded" => "The node takes no more now, and nothing was done",
        "not-applied" => "The write was certainly not done",
        "no-quorum" => "Too few replicas answered",
        "not-ready" => "The node takes no requests now",
        "outcome-unknown" => "The write may have been done",
        _ => "The node failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::error::no_room;
    use crate::wire::method::Access;

    #[test]
    fn only_failures_that_did_nothing_are_ones_that_proxies_repeat() {
        for (reason, status, kind) in [
            (FailureReason::NotApplied, 503, "not-applied"),
            (FailureReason::NoQuorum, 503, "no-quorum"),
            (FailureReason::NotReady, 503, "not-ready"),
            (FailureReason::OutcomeUnknown, 504, "outcome-unknown"),
            (FailureReason::ConditionFailed, 412, "condition-failed"),
            (FailureReason::NoSuchTable, 404, "missing-table"),
            (FailureReason::TableExists, 409, "table-exists"),
            (FailureReason::MembersRefused, 409, "members-refused"),
            (FailureReason::MembersChanged, 409, "members-changed"),
            (FailureReason::Unauthenticated, 401, "unauthenticated"),
            (FailureReason::PermissionDenied, 403, "permission-denied"),
            (FailureReason::StoreFailed, 500, "internal"),
            (FailureReason::Damaged, 500, "internal"),
        ] {
            let problem = Problem::from(ServiceError::new(reason, "why"));
            assert_eq!((problem.status.as_u16(), problem.kind), (status, kind));
            let json = problem.as_json();
            assert_eq!((&json["reason"], &json["detail"]), (&reason.as_str().into(), &"why".into()));
        }
        let problem = Problem::from(no_room(Access::Write));
        assert_eq!((problem.status.as_u16(), problem.kind), (429, "overloaded"));
        assert_eq!(problem.into_reply().headers[header::RETRY_AFTER], "1");
        let unknown = ServiceError::new(FailureReason::NotApplied, "why").of_resend(true);
        assert_eq!(Problem::from(unknown).status, 504);
    }
}
