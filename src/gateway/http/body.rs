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

/// A body that is not read yet.
pub(super) struct Upload {
    pub(super) body: Incoming,
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
    pub(super) async fn read(mut self, until: Option<Instant>) -> Result<Bytes, Problem> {
        let hint = self.body.size_hint();
        if hint.lower() > VALUE_BYTES_MAX as u64 {
            return Err(Problem::too_large(VALUE_BYTES_MAX));
        }
        let slow = || {
            let detail = "nothing was done: the body did not arrive in time; send it faster, or give a longer timeout";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "slow-body", detail)
        };
        let ends = Instant::now() + ARRIVAL_TIME_MAX;
        let ends = until.map_or(ends, |until| until.min(ends));
        // A claimed length is no reason to take that much memory.
        let capacity = usize::try_from(hint.lower()).unwrap_or(0).min(1 << 20);
        let mut bytes = Vec::with_capacity(capacity);
        loop {
            let wait = ends.min(Instant::now() + ARRIVAL_PAUSE_MAX);
            let next = std::future::poll_fn(|context| std::pin::Pin::new(&mut self.body).poll_frame(context));
            let frame = match tokio::time::timeout_at(wait.into(), next).await {
                Err(_) => return Err(slow()),
                Ok(None) => return Ok(bytes.into()),
                Ok(Some(Err(error))) => {
                    return Err(Problem::invalid_body(format!("nothing was done: the body broke off: {error}")));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > VALUE_BYTES_MAX {
                return Err(Problem::too_large(VALUE_BYTES_MAX));
            }
            if !self.guard.grow(data.len()) {
                return Err(no_room(Access::Write).into());
            }
            bytes.extend_from_slice(data);
        }
    }
}
