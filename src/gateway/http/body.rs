//! The body of a request.

use std::time::Instant;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;

use crate::limits::{ARRIVAL_PAUSE_MAX, ARRIVAL_TIME_MAX, VALUE_BYTES_MAX};
use crate::service::buffer_budget::BudgetGuard;
use crate::service::error::no_room;
use crate::wire::method::Access;

use super::problem::Problem;

/// A body that was read. It counts until it is dropped.
pub(super) struct Uploaded {
    pub(super) bytes: Bytes,
    pub(super) guard: BudgetGuard,
}

/// A body that is not read yet.
pub(super) struct Upload {
    /// None where the request needs none. What is sent all the same is dropped, and holds no memory.
    pub(super) body: Option<Incoming>,
    pub(super) guard: BudgetGuard,
}

impl Upload {
    /// Refuses what the headers say of a body that is not accepted, before any of it is read.
    pub(super) fn check(headers: &HeaderMap) -> Result<(), Problem> {
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let detail = "nothing was done: bodies are kept as they are; send this one without Content-Encoding";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-type", detail));
        }
        if headers.contains_key(header::CONTENT_RANGE) {
            let detail =
                "nothing was done: a part of a value cannot be written; send the whole one, without Content-Range";
            return Err(Problem::invalid_header(detail));
        }
        Ok(())
    }

    /// The whole body. It must be there by `until`, if there is such a time.
    pub(super) async fn read(mut self, until: Option<Instant>) -> Result<Uploaded, Problem> {
        let Some(mut body) = self.body else { return Ok(Uploaded { bytes: Bytes::new(), guard: self.guard }) };
        let hint = body.size_hint();
        if hint.lower() > VALUE_BYTES_MAX as u64 {
            return Err(Problem::too_large(VALUE_BYTES_MAX));
        }
        let slow = || {
            let detail = "nothing was done: the body did not arrive in time; send it faster, or give a longer timeout";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "slow-body", detail)
        };
        let ends = Instant::now() + ARRIVAL_TIME_MAX;
        let ends = until.map_or(ends, |until| until.min(ends));
        let claimed = hint.exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(VALUE_BYTES_MAX);
        let mut bytes = Vec::new();
        loop {
            let wait = ends.min(Instant::now() + ARRIVAL_PAUSE_MAX);
            let next = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context));
            let frame = match tokio::time::timeout_at(wait.into(), next).await {
                Err(_) => return Err(slow()),
                Ok(None) => return Ok(Uploaded { bytes: bytes.into(), guard: self.guard }),
                Ok(Some(Err(error))) => {
                    return Err(Problem::invalid_body(format!("nothing was done: the body broke off: {error}")));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > VALUE_BYTES_MAX {
                return Err(Problem::too_large(VALUE_BYTES_MAX));
            }
            let needed = bytes.len() + data.len();
            if needed > bytes.capacity() {
                // A claimed length is no reason to take that much memory, and what is taken counts, full or not.
                let capacity = needed.max((2 * bytes.capacity()).min(claimed));
                if !self.guard.grow(capacity - bytes.capacity()) {
                    return Err(no_room(Access::Write).into());
                }
                bytes.reserve_exact(capacity - bytes.len());
            }
            bytes.extend_from_slice(data);
        }
    }
}
