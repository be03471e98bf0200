//! Counts, times and logs requests, whoever ends them: the handler, the decoder before it, or a client that hangs up.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::codegen::http::{self, HeaderMap};
use tonic::{Code, Status, body};
use tracing::{debug, error, warn};

use crate::metrics::{MethodLabels, RequestLabels};
use crate::runtime::NodeHandle;
use crate::wire::failure::code_name;

use super::transit::Share;

/// How many failures that are not the client's are logged in one second. When a majority is gone, every
/// request fails alike; thousands of lines a second would say no more and fill the disk.
const FAILURE_LINES_PER_SECOND: u32 = 20;

/// The name under which the requests to `path` are counted; `None` for those that are not requests to Quorate: links of
/// peers, reflection and health checks.
pub(super) fn method(path: &str) -> Option<&'static str> {
    const METHODS: [&str; 10] = [
        "Cluster/Get",
        "Cluster/Set",
        "Cluster/Delete",
        "Cluster/Info",
        "Node/Health",
        "Node/Info",
        "Node/Get",
        "Node/Set",
        "Clock/Get",
        "Clock/Set",
    ];
    if path.starts_with("/grpc.") || path.starts_with("/api.Peer/") {
        return None;
    }
    let name = path.strip_prefix("/api.").unwrap_or(path);
    // One name for all that is not known: labels that clients choose would grow without bound.
    Some(METHODS.into_iter().find(|method| *method == name).unwrap_or("unknown"))
}

/// What one gateway observes requests with.
pub(super) struct Observatory {
    node: NodeHandle,
    lines: Mutex<Lines>,
}

/// The lines of the current second.
struct Lines {
    second_began: Instant,
    written: u32,
    left_out: u64,
}

/// One request that is under way.
pub(super) struct Observation {
    observatory: Arc<Observatory>,
    method: &'static str,
    began: Instant,
    ended: bool,
}

impl Observatory {
    pub(super) fn new(node: NodeHandle) -> Arc<Self> {
        let lines = Lines { second_began: Instant::now(), written: 0, left_out: 0 };
        Arc::new(Self { node, lines: Mutex::new(lines) })
    }

    /// Begins to observe a request.
    pub(super) fn begin(self: &Arc<Self>, method: &'static str, began: Instant) -> Observation {
        self.node.metrics().requests_in_flight.inc();
        Observation { observatory: Arc::clone(self), method, began, ended: false }
    }

    /// Whether one more line may be written now, and how many were left out since the last one.
    fn may_write(&self, now: Instant) -> Option<u64> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).next(now)
    }
}

impl Lines {
    fn next(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.second_began).as_secs() >= 1 {
            (self.second_began, self.written) = (now, 0);
        }
        if self.written >= FAILURE_LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Observation {
    /// Ends it as `headers` say, which are those of a response without a body, or trailers.
    fn end_with(&mut self, headers: &HeaderMap) {
        let code = headers.get("grpc-status").map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
        if code == Code::Ok {
            self.end(Code::Ok, "");
            return;
        }
        let status = Status::from_header_map(headers);
        self.end(code, status.as_ref().map_or("", Status::message));
    }

    fn end(&mut self, code: Code, message: &str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let metrics = self.observatory.node.metrics();
        let method = self.method;
        let took = self.began.elapsed();
        metrics.requests_in_flight.dec();
        metrics.requests.get_or_create(&RequestLabels { method, code: code_name(code) }).inc();
        metrics.request_seconds.get_or_create(&MethodLabels { method }).observe(took.as_secs_f64());
        if code != Code::Ok {
            self.log(code, message, took.as_millis());
        }
    }

    fn log(&self, code: Code, message: &str, took_ms: u128) {
        let (method, code_name) = (self.method, code_name(code));
        match severity(code) {
            Severity::Client => debug!(method, code = code_name, took_ms, "request failed: {message}"),
            Severity::Cluster => match self.observatory.may_write(Instant::now()) {
                Some(0) => warn!(method, code = code_name, took_ms, "request failed: {message}"),
                Some(left_out) => {
                    warn!(method, code = code_name, took_ms, left_out, "request failed, as did others: {message}");
                }
                None => {}
            },
            // Bounded too: a message that does not decode ends in one, and a client may send many.
            Severity::Defect => {
                if let Some(left_out) = self.observatory.may_write(Instant::now()) {
                    error!(method, code = code_name, took_ms, left_out, "request failed: {message}");
                }
            }
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.end(Code::Cancelled, "the client hung up, or its deadline ran out, before it was answered");
    }
}

/// Whose a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// The client's: it was told, and an operator need not know.
    Client,
    /// The cluster's: something is down or overloaded.
    Cluster,
    /// Ours, or a disk's: it should not happen.
    Defect,
}

fn severity(code: Code) -> Severity {
    match code {
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Severity::Client,
        Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted | Code::Unavailable => Severity::Cluster,
        Code::Unknown | Code::Internal | Code::DataLoss => Severity::Defect,
    }
}

/// A response's body, observed to its end.
pub(super) struct Observed {
    body: body::Body,
    observation: Option<Observation>,
    /// What the answer holds until it is sent.
    _share: Option<Arc<Share>>,
}

/// Observes `response` until its last byte is handed to the transport.
pub(super) fn observed(
    mut response: http::Response<body::Body>,
    mut observation: Option<Observation>,
) -> http::Response<Observed> {
    // A failure without a body has its status in the head.
    if let Some(observation) = &mut observation
        && response.headers().contains_key("grpc-status")
    {
        observation.end_with(response.headers());
    }
    let share = response.extensions_mut().remove::<Arc<Share>>();
    response.map(|body| Observed { body, observation, _share: share })
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
                        observation.end_with(trailers);
                    }
                }
                Err(status) => observation.end(status.code(), status.message()),
            }
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn methods_are_counted_under_names_that_no_client_chooses() {
        assert_eq!(method("/api.Cluster/Get"), Some("Cluster/Get"));
        assert_eq!(method("/api.Clock/Set"), Some("Clock/Set"));
        for path in ["/api.Cluster/Steal", "/api.Nobody/Get", "/", "", "/api.", "/Cluster/Get/more"] {
            assert_eq!(method(path), Some("unknown"), "{path}");
        }
        for path in ["/api.Peer/Link", "/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/x"] {
            assert_eq!(method(path), None, "{path}");
        }
    }

    #[test]
    fn every_code_has_its_own_name() {
        let names: std::collections::BTreeSet<&str> = (0..=16).map(|code| code_name(Code::from(code))).collect();
        assert_eq!(names.len(), 17);
    }

    #[test]
    fn client_mistakes_are_quieter_than_outages_and_outages_than_defects() {
        for (code, expected) in [
            (Code::InvalidArgument, Severity::Client),
            (Code::FailedPrecondition, Severity::Client),
            (Code::Cancelled, Severity::Client),
            (Code::Unavailable, Severity::Cluster),
            (Code::DeadlineExceeded, Severity::Cluster),
            (Code::ResourceExhausted, Severity::Cluster),
            (Code::DataLoss, Severity::Defect),
            (Code::Internal, Severity::Defect),
        ] {
            assert_eq!(severity(code), expected, "{code:?}");
        }
    }

    #[test]
    fn flood_of_failures_is_summed_up() {
        let began = Instant::now();
        let mut lines = Lines { second_began: began, written: 0, left_out: 0 };
        let written = (0..100).filter(|_| lines.next(began).is_some()).count();
        assert_eq!(written, FAILURE_LINES_PER_SECOND as usize);
        assert_eq!(lines.next(began + Duration::from_secs(1)), Some(80), "and the next second says how many");
        assert_eq!(lines.next(began + Duration::from_secs(1)), Some(0));
    }
}
