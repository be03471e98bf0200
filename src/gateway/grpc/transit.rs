//! Bounds the bytes of requests that are still being read and of answers that are still being sent.
//!
//! A node admits a request once it is whole. Until then its bytes pile up in the transport, and after the node has
//! answered, the answer waits for its client to read it: neither is bounded by the node, so both are here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body};

use crate::limits::TRANSIT_BYTES_MAX;
use crate::wire::failure::{Failure, FailureReason};

/// All bytes on their way through one gateway.
#[derive(Debug, Default)]
pub(super) struct Transit {
    bytes: AtomicUsize,
}

/// Some of these bytes, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    transit: Arc<Transit>,
    bytes: usize,
}

impl Transit {
    /// No bytes yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { transit: Arc::clone(self), bytes: 0 }
    }
}

impl Share {
    /// Adds `bytes` to it. `false`, and none are added, where the gateway would hold more than [`TRANSIT_BYTES_MAX`].
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let grow = |held: usize| held.checked_add(bytes).filter(|held| *held <= TRANSIT_BYTES_MAX);
        let grown = self.transit.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok();
        if grown {
            self.bytes += bytes;
        }
        grown
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.transit.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The status of a request that would exceed the bound. Nothing was done.
pub(super) fn full(reason: FailureReason) -> Status {
    let message = format!(
        "nothing was done: requests and answers on their way through this node hold {TRANSIT_BYTES_MAX} bytes already: \
         send fewer at once, or spread them over the nodes"
    );
    Failure::new(reason).to_status(Code::ResourceExhausted, &message)
}

/// A request's body, counted while it is read.
pub(super) struct Counted {
    body: body::Body,
    share: Share,
}

impl Counted {
    pub(super) fn new(body: body::Body, share: Share) -> Self {
        Self { body, share }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && !self.share.grow(data.len())
        {
            return Poll::Ready(Some(Err(full(FailureReason::NotApplied))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_bound_is_refused_until_something_is_given_back() {
        let transit = Arc::new(Transit::default());
        let (mut one, mut other) = (transit.share(), transit.share());
        assert!(one.grow(TRANSIT_BYTES_MAX - 10));
        assert!(other.grow(10));
        assert!(!other.grow(1));
        assert!(!other.grow(usize::MAX));
        drop(one);
        assert!(other.grow(1));
        drop(other);
        assert_eq!(transit.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn refusal_says_that_nothing_was_done() {
        let status = full(FailureReason::NotApplied);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(Failure::from_status(&status).unwrap().reason, FailureReason::NotApplied);
    }
}
