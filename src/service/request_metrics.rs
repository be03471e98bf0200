//! Counts, times and logs every request once, whatever ends it: the operation, the decoder before it, or a client that
//! hangs up.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use tonic::Code;
use tonic::codegen::http::HeaderMap;
use tracing::{debug, error, warn};

use crate::metrics::{MethodLabels, RequestLabels};
use crate::runtime::NodeHandle;
use crate::traces::{Begun, KeyValue, Parent, Span, SpanKind, TRACE_PARENT};
use crate::types::TraceContext;
use crate::wire::failure::code_name;
use crate::wire::method::METHODS;

/// The most log lines in one second about failures that are not the caller's fault. Without a majority every request
/// fails alike; thousands of lines a second would say no more and fill the disk.
const FAILURE_LINES_PER_SECOND: u32 = 20;

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome<'a> {
    /// The code in metrics and logs, one of the names of gRPC's status codes.
    pub(crate) code: &'static str,
    /// Whose fault it is; `None` if it succeeded.
    pub(crate) fault: Option<Fault>,
    /// The message that the caller got.
    pub(crate) message: &'a str,
}

/// Whose fault a failure is. It decides how loudly the log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The caller's. It was told, and an operator need not know.
    Caller,
    /// The cluster's: a node is down or overloaded.
    Cluster,
    /// This node's, or its disk's: it should not happen.
    Node,
}

/// The protocol that a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Grpc,
    Http,
    Lines,
    Redis,
    /// Metrics, probes and the status page. Its requests are not observed.
    Monitoring,
}

impl Door {
    const ALL: [Self; 5] = [Self::Grpc, Self::Http, Self::Lines, Self::Redis, Self::Monitoring];

    /// Its name in metrics and logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Lines => "lines",
            Self::Redis => "redis",
            Self::Monitoring => "monitoring",
        }
    }
}

/// The metrics and log lines of one node's requests.
pub(crate) struct RequestMetrics {
    node: NodeHandle,
    lines: Mutex<Lines>,
    /// Successes by method and door. To find a metric by its labels costs more than to count in it.
    successes: Box<[(&'static str, SuccessesByDoor)]>,
}

/// The metrics of one method for each door, once it has been used there.
type SuccessesByDoor = [OnceLock<Successes>; Door::ALL.len()];

/// The metrics of the requests of one method and door that succeeded.
struct Successes {
    count: Counter,
    duration: Histogram,
}

/// The log lines of the current second.
struct Lines {
    second_began: Instant,
    written: u32,
    left_out: u64,
}

/// One request that is under way. Dropped without an end, it counts as cancelled.
#[must_use]
pub(crate) struct Observation {
    metrics: Arc<RequestMetrics>,
    door: Door,
    method: &'static str,
    began: Instant,
    ended: bool,
    /// Its span, if it is traced.
    trace: Option<Box<Begun>>,
}

impl<'a> Outcome<'a> {
    /// The end of a request that was answered with this code and this message.
    pub(crate) fn new(code: Code, message: &'a str) -> Self {
        Self { code: code_name(code), fault: fault(code), message }
    }
}

fn fault(code: Code) -> Option<Fault> {
    match code {
        Code::Ok => None,
        Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Some(Fault::Caller),
        Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted | Code::Unavailable => Some(Fault::Cluster),
        Code::Unknown | Code::Internal | Code::DataLoss => Some(Fault::Node),
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation").field("method", &self.method).field("began", &self.began).finish_non_exhaustive()
    }
}

impl RequestMetrics {
    pub(crate) fn new(node: NodeHandle) -> Arc<Self> {
        let lines = Lines { second_began: Instant::now(), written: 0, left_out: 0 };
        let successes = METHODS.iter().map(|method| (method.name(), SuccessesByDoor::default())).collect();
        Arc::new(Self { node, lines: Mutex::new(lines), successes })
    }

    /// Begins to observe a request. Its headers, if it has any, may name the span of its caller.
    pub(crate) fn begin(
        self: &Arc<Self>,
        door: Door,
        method: &'static str,
        began: Instant,
        headers: Option<&HeaderMap>,
    ) -> Observation {
        self.node.metrics().requests_in_flight.inc();
        let trace = self.node.tracer().and_then(|tracer| {
            let named = headers.and_then(|headers| headers.get(TRACE_PARENT)).and_then(|value| value.to_str().ok());
            tracer.begin(named.and_then(Parent::parse)).map(Box::new)
        });
        Observation { metrics: Arc::clone(self), door, method, began, ended: false, trace }
    }

    fn count(&self, door: Door, method: &'static str, code: &'static str, took: Duration) {
        let (metrics, door) = (self.node.metrics(), door.name());
        metrics.requests.get_or_create(&RequestLabels { method, code, door }).inc();
        metrics.request_duration.get_or_create(&MethodLabels { method, door }).observe(took.as_secs_f64());
    }

    fn count_success(&self, door: Door, method: &'static str, code: &'static str, took: Duration) {
        let Some((_, successes)) = self.successes.iter().find(|(name, _)| *name == method) else {
            return self.count(door, method, code, took);
        };
        let metrics = self.node.metrics();
        let successes = successes[door as usize].get_or_init(|| Successes {
            count: metrics.requests.get_or_create_owned(&RequestLabels { method, code, door: door.name() }),
            duration: metrics.request_duration.get_or_create_owned(&MethodLabels { method, door: door.name() }),
        });
        successes.count.inc();
        successes.duration.observe(took.as_secs_f64());
    }

    /// How many requests for keys and tables have succeeded.
    pub(super) fn succeeded(&self) -> u64 {
        let of_clients =
            self.successes.iter().filter(|(method, _)| method.starts_with("Cluster/") || method.starts_with("Tables/"));
        of_clients
            .flat_map(|(_, by_door)| by_door)
            .filter_map(OnceLock::get)
            .map(|successes| successes.count.get())
            .sum()
    }

    /// Whether a line may be written now; if so, how many were left out since the last one.
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
    /// The request's span, if it is traced.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        self.trace.as_ref().map(|begun| begun.context)
    }

    /// Sends the request's span.
    fn end_trace(&self, outcome: &Outcome<'_>) {
        let (Some(begun), Some(tracer)) = (&self.trace, self.metrics.node.tracer()) else { return };
        // The caller's faults are the errors of the caller's span.
        let failure = outcome.fault.filter(|fault| *fault != Fault::Caller).map(|_| outcome.code.into());
        tracer.end(Span {
            context: begun.context,
            parent: begun.parent,
            is_parent_remote: true,
            kind: SpanKind::Server,
            name: self.method.into(),
            began: self.began,
            attributes: vec![
                KeyValue::new("quorate.door", self.door.name()),
                KeyValue::new("quorate.code", outcome.code),
            ],
            failure,
        });
    }

    /// Ends it. Only the first end counts.
    pub(crate) fn end(&mut self, outcome: Outcome<'_>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.began.elapsed();
        self.metrics.node.metrics().requests_in_flight.dec();
        self.end_trace(&outcome);
        let Some(fault) = outcome.fault else {
            return self.metrics.count_success(self.door, self.method, outcome.code, took);
        };
        self.metrics.count(self.door, self.method, outcome.code, took);
        self.log(outcome.code, fault, outcome.message, took.as_millis());
    }

    fn log(&self, code: &str, fault: Fault, message: &str, took_ms: u128) {
        let (door, method) = (self.door.name(), self.method);
        let trace_id = self.trace().map(|context| context.trace.to_string());
        match fault {
            Fault::Caller => debug!(method, door, code, took_ms, trace_id, "request failed: {message}"),
            Fault::Cluster => match self.metrics.may_write(Instant::now()) {
                Some(0) => warn!(method, door, code, took_ms, trace_id, "request failed: {message}"),
                Some(left_out) => {
                    warn!(method, door, code, took_ms, trace_id, left_out, "request failed, as did others: {message}");
                }
                None => {}
            },
            // Bounded too: a damaged disk fails every read.
            Fault::Node => {
                if let Some(left_out) = self.metrics.may_write(Instant::now()) {
                    error!(method, door, code, took_ms, trace_id, left_out, "request failed: {message}");
                }
            }
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let message = "the client hung up, or its deadline ran out, before it was answered";
        self.end(Outcome { code: "CANCELLED", fault: Some(Fault::Caller), message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name() {
        let names: std::collections::BTreeSet<&str> = (0..=16).map(|code| code_name(Code::from(code))).collect();
        assert_eq!(names.len(), 17);
    }

    #[test]
    fn client_mistakes_are_quieter_than_outages_and_outages_than_defects() {
        for (code, expected) in [
            (Code::Ok, None),
            (Code::InvalidArgument, Some(Fault::Caller)),
            (Code::FailedPrecondition, Some(Fault::Caller)),
            (Code::Cancelled, Some(Fault::Caller)),
            (Code::Unavailable, Some(Fault::Cluster)),
            (Code::DeadlineExceeded, Some(Fault::Cluster)),
            (Code::ResourceExhausted, Some(Fault::Cluster)),
            (Code::DataLoss, Some(Fault::Node)),
            (Code::Internal, Some(Fault::Node)),
        ] {
            assert_eq!(fault(code), expected, "{code:?}");
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
