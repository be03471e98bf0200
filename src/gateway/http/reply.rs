//! Answers on their way out: head, body, and what ends with the body's last byte.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};
use tonic::Code;

use crate::service::buffer_budget::{BudgetGuard, OpenRequest};
use crate::service::request_metrics::{Observation, Outcome};

/// The pieces of a body that is made while it is sent. An error cuts the answer off before its last chunk.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The body of an answer.
pub(super) enum Body {
    Empty,
    Whole(Bytes),
    Pieces(Pieces),
}

impl Body {
    pub(super) fn of(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(bytes.into())
    }
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// gRPC's code, for metrics and the log.
    pub(super) code: Code,
    /// The text of a failure for the log.
    pub(super) message: String,
    /// The answer's part of the buffer budget.
    pub(super) guard: Option<BudgetGuard>,
}

impl Reply {
    pub(super) fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Body::Empty,
            code: Code::Ok,
            message: String::new(),
            guard: None,
        }
    }

    /// An answer of 200 with this body.
    pub(super) fn of(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut reply = Self::new(StatusCode::OK);
        reply.body = Body::of(body);
        reply.with(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    pub(super) fn json(json: &serde_json::Value) -> Self {
        Self::of("application/json", json.to_string())
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The header `name`, whose value the program has made.
    pub(super) fn with_text(self, name: HeaderName, value: &str) -> Self {
        // Every text that comes here is ASCII without control characters.
        match HeaderValue::from_str(value) {
            Ok(value) => self.with(name, value),
            Err(_) => self,
        }
    }

    /// The whole answer, observed to its last byte; without its body if it answers a HEAD.
    /// Until it has left, it holds the guard of its request.
    pub(super) fn into_response(
        self,
        mut observation: Observation,
        is_head: bool,
        request: Option<BudgetGuard>,
    ) -> Response<Outgoing> {
        let Self { status, mut headers, mut body, code, message, guard } = self;
        if is_head {
            if let Body::Whole(bytes) = &body {
                headers.insert(header::CONTENT_LENGTH, bytes.len().into());
            }
            body = Body::Empty;
        }
        // The transport asks for no frame of an empty body, so that nothing would end the observation.
        if matches!(&body, Body::Whole(bytes) if bytes.is_empty()) {
            body = Body::Empty;
        }
        let open = request.map(|request| OpenRequest::new(request, guard));
        let observation = if matches!(body, Body::Empty) {
            observation.end(Outcome::new(code, &message));
            None
        } else {
            Some((observation, code, message))
        };
        let mut response = Response::new(Outgoing { body, observation, open });
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// A body on its way out.
pub(super) struct Outgoing {
    body: Body,
    observation: Option<(Observation, Code, String)>,
    /// Its part of the buffer budget. Its frames hold it, until the transport has sent or dropped them.
    open: Option<Arc<OpenRequest>>,
}

impl Outgoing {
    fn end(&mut self) {
        if let Some((mut observation, code, message)) = self.observation.take() {
            observation.end(Outcome::new(code, &message));
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.body {
            Body::Empty => None,
            Body::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.body = Body::Empty;
                self.end();
                Some(Ok(Frame::data(bytes)))
            }
            Body::Pieces(pieces) => match pieces.as_mut().poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    self.body = Body::Empty;
                    self.end();
                    None
                }
                Poll::Ready(Some(Err(error))) => {
                    if let Some((observation, ..)) = &mut self.observation {
                        observation.end(Outcome::new(Code::Unavailable, &error.to_string()));
                    }
                    Some(Err(error))
                }
                Poll::Ready(Some(Ok(bytes))) => Some(Ok(Frame::data(bytes))),
            },
        };
        Poll::Ready(piece.map(|piece| {
            piece.map(|frame| match &self.open {
                Some(open) => frame.map_data(|data| open.hold(data)),
                None => frame,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Body::Empty => true,
            Body::Whole(bytes) => bytes.is_empty(),
            Body::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Empty => SizeHint::with_exact(0),
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Pieces(_) => SizeHint::default(),
        }
    }
}

/// A result that cannot fail, for hyper.
pub(super) type Answered = Result<Response<Outgoing>, Infallible>;
