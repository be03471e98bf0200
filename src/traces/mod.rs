//! Traces: the spans of some requests, sent to a collector of OpenTelemetry.
//!
//! Contract: a request is traced if its caller's trace is sampled, or else by chance, as [`TraceSettings::sampled`] says. Nothing
//! waits for the collector: spans wait in a bounded queue for a thread of their own, and those beyond are dropped
//! and counted. Spans have ids, names, times and codes, and never a key, a value, or the text of an error, which may name a key.
//!
//! Caveat: the exporter is built, used and dropped on its own thread, in a runtime of its own. In the runtime of a node with one
//! worker its end would wait for itself.

mod export;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, Status, TraceContextExt as _, TraceFlags, TraceState};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanKind;

use crate::metrics::Metrics;
use crate::types::{NodeId, SpanId, TraceContext, TraceId};

/// The header, or key of metadata, in which a caller names its span.
pub const TRACE_PARENT: &str = "traceparent";
/// The most spans that wait to be sent: about 6 MiB of them.
const SPANS_WAITING_MAX: usize = 8_192;
/// How long the end of a node waits for the spans that are left.
const END_TIME_MAX: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The span of the request that this task works on.
    static CURRENT: TraceContext;
}

/// Where spans go, and which requests are traced.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// The address of a collector that takes OTLP over gRPC, such as `http://127.0.0.1:4317`.
    pub endpoint: String,
    /// The share of the requests that are traced, of those whose callers name no span of their own: 0 to 1.
    pub sampled: f64,
}

/// The span of a caller, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    context: TraceContext,
    is_sampled: bool,
}

/// A span that has ended.
#[derive(Debug)]
pub struct Span {
    /// Its ids.
    pub context: TraceContext,
    /// The span that it is a part of.
    pub parent: Option<SpanId>,
    /// Whether another process has begun that span.
    pub is_parent_remote: bool,
    /// Its side of a request.
    pub kind: SpanKind,
    /// What was done.
    pub name: Cow<'static, str>,
    /// When it began.
    pub began: Instant,
    /// Further facts.
    pub attributes: Vec<KeyValue>,
    /// The code of the failure, if it failed.
    pub failure: Option<Cow<'static, str>>,
}

/// A traced request that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// Its span.
    pub context: TraceContext,
    /// The caller's span.
    pub parent: Option<SpanId>,
}

/// Decides which requests are traced, and takes their spans.
#[derive(Debug)]
pub struct Tracer {
    sampled: f64,
    spans: mpsc::Sender<SpanData>,
    scope: InstrumentationScope,
    metrics: Arc<Metrics>,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl Tracer {
    /// Starts the thread that sends the spans of `node`.
    ///
    /// # Panics
    /// When the system gives no thread.
    #[must_use]
    pub fn start(settings: TraceSettings, node: &NodeId, metrics: Arc<Metrics>) -> Self {
        let (spans, waiting) = mpsc::channel(SPANS_WAITING_MAX);
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let exporter = export::Export {
            endpoint: settings.endpoint,
            node: node.clone(),
            spans: waiting,
            metrics: Arc::clone(&metrics),
            closing: closing.clone(),
        };
        let ends = closed.clone().drop_guard();
        let run = move || {
            exporter.run();
            drop(ends);
        };
        std::thread::Builder::new().name("traces".to_owned()).spawn(run).expect("a thread can be started");
        let scope = InstrumentationScope::builder("quorate").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { sampled: settings.sampled, spans, scope, metrics, closing, closed }
    }

    /// The span of a request whose caller names `parent`; `None` if it is not traced.
    #[must_use]
    pub fn begin(&self, parent: Option<Parent>) -> Option<Begun> {
        match parent {
            Some(Parent { is_sampled: false, .. }) => None,
            Some(Parent { context, .. }) => Some(Begun { context: child_of(context), parent: Some(context.span) }),
            None if rand::random::<f64>() < self.sampled => {
                let trace = TraceId(rand::random::<u128>().max(1));
                Some(Begun { context: TraceContext { trace, span: new_span() }, parent: None })
            }
            None => None,
        }
    }

    /// Takes a span that ends now. It is dropped and counted where too many wait.
    pub fn end(&self, span: Span) {
        let Span { context, parent, is_parent_remote, kind, name, began, attributes, failure } = span;
        let end_time = SystemTime::now();
        let ids = |TraceContext { trace, span }| {
            SpanContext::new(trace.0.into(), span.0.into(), TraceFlags::SAMPLED, false, TraceState::NONE)
        };
        let span = SpanData {
            span_context: ids(context),
            parent_span_id: parent.map_or(opentelemetry::trace::SpanId::INVALID, |span| span.0.into()),
            parent_span_is_remote: is_parent_remote,
            span_kind: kind,
            name,
            start_time: end_time.checked_sub(began.elapsed()).unwrap_or(end_time),
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: failure.map_or(Status::Unset, |code| Status::Error { description: code }),
            instrumentation_scope: self.scope.clone(),
        };
        if self.spans.try_send(span).is_err() {
            self.metrics.traces_dropped.inc();
        }
    }

    /// Sends the spans that are left, but does not wait long for the collector. Later spans are dropped.
    pub async fn close(&self) {
        self.closing.cancel();
        // Those that are left then are lost, as with a collector that is away.
        let _ = tokio::time::timeout(END_TIME_MAX, self.closed.cancelled()).await;
    }
}

/// A new span in the trace of `parent`.
#[must_use]
pub fn child_of(parent: TraceContext) -> TraceContext {
    TraceContext { span: new_span(), ..parent }
}

fn new_span() -> SpanId {
    // None of the two ids may be zero.
    SpanId(rand::random::<u64>().max(1))
}

/// The one header that says which span called.
struct Header<'a>(&'a str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACE_PARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACE_PARENT]
    }
}

impl Parent {
    /// The span that the header [`TRACE_PARENT`] names, in the form of W3C Trace Context; `None` where it is in no such form.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let extracted = TraceContextPropagator::new().extract_with_context(&Context::new(), &Header(header));
        let span = extracted.span();
        let context = span.span_context();
        let ids = TraceContext {
            trace: TraceId(u128::from_be_bytes(context.trace_id().to_bytes())),
            span: SpanId(u64::from_be_bytes(context.span_id().to_bytes())),
        };
        context.is_valid().then(|| Self { context: ids, is_sampled: context.is_sampled() })
    }
}

/// The span of the request that this task works on; `None` if it is not traced.
#[must_use]
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// The id of its trace, for a line of the log.
#[must_use]
pub fn current_trace() -> Option<String> {
    current().map(|context| context.trace.to_string())
}

/// Does `operation` as a part of this span, if there is one. A large operation comes pinned: it is moved otherwise.
pub async fn within<F: Future>(context: Option<TraceContext>, operation: F) -> F::Output {
    match context {
        Some(context) => CURRENT.scope(context, operation).await,
        None => operation.await,
    }
}

/// The same at once.
pub fn within_now<T>(context: Option<TraceContext>, operation: impl FnOnce() -> T) -> T {
    match context {
        Some(context) => CURRENT.sync_scope(context, operation),
        None => operation(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(sampled: f64) -> Tracer {
        // Nobody listens there.
        let settings = TraceSettings { endpoint: "http://127.0.0.1:9".to_owned(), sampled };
        Tracer::start(settings, &NodeId::new("1").unwrap(), Arc::default())
    }

    #[test]
    fn header_of_the_caller_is_read_as_w3c_has_it() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Parent::parse(text).unwrap();
        assert!(parent.is_sampled);
        assert_eq!(parent.context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.context.span.to_string(), "00f067aa0ba902b7");
        assert!(!Parent::parse(&text.replace("-01", "-00")).unwrap().is_sampled);
        for broken in ["", "x", &text[..40], &text.replace("4bf9", "xyz9"), &text.replace("00-4b", "ff-4b")] {
            assert_eq!(Parent::parse(broken), None, "{broken:?}");
        }
        let zero = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        assert_eq!(Parent::parse(&zero), None);
    }

    #[test]
    fn callers_decide_and_chance_where_they_do_not() {
        let parent = |flags| Parent::parse(&format!("00-{}-{}-{flags}", "ab".repeat(16), "cd".repeat(8)));
        for (sampled, expected) in [(0.0, 0..1), (0.5, 300..700), (1.0, 1_000..1_001)] {
            let tracer = tracer(sampled);
            let begun = (0..1_000).filter(|_| tracer.begin(None).is_some()).count();
            assert!(expected.contains(&begun), "{begun} of 1000 at {sampled}");
            let begun = tracer.begin(parent("01")).expect("the caller's trace is sampled");
            assert_eq!(
                (begun.context.trace, begun.parent),
                (TraceId(0xab_u128 * (u128::MAX / 0xff)), Some(SpanId(0xcd * (u64::MAX / 0xff))))
            );
            assert!(tracer.begin(parent("00")).is_none());
        }
    }

    #[tokio::test]
    async fn spans_that_nobody_takes_are_dropped_and_the_end_waits_a_second_for_them_at_most() {
        let tracer = tracer(1.0);
        let count = SPANS_WAITING_MAX as u64 + 1_000;
        for _ in 0..count {
            let Begun { context, parent } = tracer.begin(None).unwrap();
            tracer.end(Span {
                context,
                parent,
                is_parent_remote: false,
                kind: SpanKind::Server,
                name: "test".into(),
                began: Instant::now(),
                attributes: Vec::new(),
                failure: None,
            });
        }
        let began = Instant::now();
        tracer.close().await;
        assert!(began.elapsed() < 2 * END_TIME_MAX, "{:?}", began.elapsed());
        // All are lost, here or by the thread, which may still wait for its collector.
        while tracer.metrics.traces_dropped.get() < count {
            assert!(began.elapsed() < Duration::from_secs(30), "{}", tracer.metrics.traces_dropped.get());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(tracer.metrics.traces_dropped.get(), count);
    }
}
