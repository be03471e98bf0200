//! The bodies of requests and responses as they pass: requests are counted against the buffer budget, and responses end
//! the observation of their request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::codegen::http::{self, HeaderMap};
use tonic::{Code, Status, body};

use super::refusal::STATUS;
use crate::service::buffer_budget::BudgetGuard;
use crate::service::error::no_room_to_read;
use crate::service::request_metrics::{Observation, Outcome};

/// A request's body, counted while it is read.
pub(super) struct Counted {
    body: body::Body,
    guard: BudgetGuard,
}

impl Counted {
    pub(super) fn new(body: body::Body, guard: BudgetGuard) -> Self {
        Self { body, guard }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && !self.guard.grow(data.len())
        {
            return Poll::Ready(Some(Err(no_room_to_read().into())));
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

/// A response's body, observed to its end.
pub(crate) struct Observed {
    body: body::Body,
    observation: Option<Observation>,
    /// The answer's part of the buffer budget. Its frames hold it, until the transport has sent or dropped them.
    guard: Option<Arc<BudgetGuard>>,
}

/// Observes `response` until its last byte is handed to the transport.
pub(super) fn observed(
    mut response: http::Response<body::Body>,
    mut observation: Option<Observation>,
) -> http::Response<Observed> {
    // A failure without a body has its status in the head.
    if let Some(observation) = &mut observation
        && response.headers().contains_key(&STATUS)
    {
        end_with(observation, response.headers());
    }
    let guard = response.extensions_mut().remove::<Arc<BudgetGuard>>();
    response.map(|body| Observed { body, observation, guard })
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(polled)), Some(observation)) = (&polled, &mut self.observation) {
            match polled {
                Ok(frame) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        end_with(observation, trailers);
                    }
                }
                Err(status) => observation.end(Outcome::new(status.code(), status.message())),
            }
        }
        let Some(guard) = &self.guard else { return polled };
        polled.map_ok(|frame| frame.map_data(|data| BudgetGuard::hold(Arc::clone(guard), data)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends an observation with the status in `headers`: those of a response without a body, or trailers.
fn end_with(observation: &mut Observation, headers: &HeaderMap) {
    let code = headers.get(&STATUS).map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
    let status = if code == Code::Ok { None } else { Status::from_header_map(headers) };
    observation.end(Outcome::new(code, status.as_ref().map_or("", Status::message)));
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;
    use crate::limits::BUFFERED_BYTES_MAX;
    use crate::service::buffer_budget::BufferBudget;
    use crate::wire::failure::{Failure, FailureReason};

    #[tokio::test]
    async fn request_without_room_is_told_nothing_about_its_earlier_tries() {
        let budget = Arc::new(BufferBudget::default());
        let mut others = budget.guard();
        assert!(others.grow(BUFFERED_BYTES_MAX));
        // A resend, perhaps: its body is not read to the flag that says so.
        let body = body::Body::new(axum::body::Body::from("a request"));
        let mut counted = Counted::new(body, budget.guard());
        let frame = std::future::poll_fn(|context| Pin::new(&mut counted).poll_frame(context)).await;
        let status = frame.expect("an answer").expect_err("there is no room");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(Failure::from_status(&status).expect("it has a reason").reason, FailureReason::NotReady);
        drop(others);
        let body = body::Body::new(axum::body::Body::from("a request"));
        let mut counted = Counted::new(body, budget.guard());
        let frame = std::future::poll_fn(|context| Pin::new(&mut counted).poll_frame(context)).await;
        assert!(frame.is_some_and(|frame| frame.is_ok()));
    }

    #[tokio::test]
    async fn frames_hold_their_part_of_the_budget_longer_than_the_body() {
        let budget = Arc::new(BufferBudget::default());
        let mut guard = budget.guard();
        assert!(guard.grow(BUFFERED_BYTES_MAX));
        let mut response = http::Response::new(body::Body::new(axum::body::Body::from("value")));
        response.extensions_mut().insert(Arc::new(guard));
        let mut response = observed(response, None);
        let frame = std::future::poll_fn(|context| Pin::new(response.body_mut()).poll_frame(context)).await;
        let data = frame.expect("a frame").expect("no failure").into_data().expect("data");
        drop(response);
        assert_eq!(data, "value");
        assert!(!budget.guard().grow(1), "the transport still holds the frame");
        drop(data);
        assert!(budget.guard().grow(1));
    }
}
