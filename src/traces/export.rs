//! The thread that sends spans to the collector.
//!
//! Contract: it waits for nobody but the collector, and for that [`EXPORT_TIME_MAX`] at most. Spans that the collector does not
//! take are lost and counted. While it takes none, one line of the log a minute says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::types::NodeId;

/// The most spans in one message to the collector.
const BATCH_SPANS_MAX: usize = 512;
/// How long the first span of a message waits for others.
const BATCH_WAITS_MAX: Duration = Duration::from_millis(500);
/// How long the collector may take for one message.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(2);

/// The lines about a collector that takes nothing.
static PROBLEM_LINES: LogLimit = LogLimit::new(1, Duration::from_mins(1));

/// What the thread works with.
pub(super) struct Export {
    pub(super) endpoint: String,
    pub(super) node: NodeId,
    pub(super) spans: mpsc::Receiver<SpanData>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) closing: CancellationToken,
}

impl Export {
    /// Sends spans until the tracer is closed.
    pub(super) fn run(mut self) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return self.lose_waiting(&error),
        };
        runtime.block_on(async {
            let exporter = match self.exporter() {
                Ok(exporter) => exporter,
                Err(error) => return self.lose_waiting(&error),
            };
            let mut is_open = true;
            while is_open {
                let (batch, goes_on) = self.gather().await;
                is_open = goes_on;
                let count = batch.len();
                if count == 0 {
                    continue;
                }
                let lost = match tokio::time::timeout(EXPORT_TIME_MAX, exporter.export(batch)).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(late) => late.to_string(),
                };
                self.lose(count, &lost);
                if self.closing.is_cancelled() {
                    // A collector that takes nothing now takes no more within the time that is left.
                    return self.lose_waiting(&lost);
                }
            }
        });
    }

    fn exporter(&self) -> Result<SpanExporter, opentelemetry_otlp::ExporterBuildError> {
        let builder = SpanExporter::builder().with_tonic();
        let mut exporter = builder.with_endpoint(&self.endpoint).with_timeout(EXPORT_TIME_MAX).build()?;
        let facts = [
            KeyValue::new("service.name", "quorate"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", self.node.to_string()),
        ];
        exporter.set_resource(&Resource::builder_empty().with_attributes(facts).build());
        Ok(exporter)
    }

    /// The next spans that wait, and whether there may be more.
    async fn gather(&mut self) -> (Vec<SpanData>, bool) {
        let mut batch = Vec::with_capacity(BATCH_SPANS_MAX);
        let mut leaves_at = None;
        while batch.len() < BATCH_SPANS_MAX {
            let room = BATCH_SPANS_MAX - batch.len();
            tokio::select! {
                biased;
                () = self.closing.cancelled() => {
                    // Nothing enters a closed queue. It is empty in the end.
                    self.spans.close();
                    let received = self.spans.recv_many(&mut batch, room).await;
                    return (batch, received > 0);
                }
                received = self.spans.recv_many(&mut batch, room) => {
                    if received == 0 {
                        return (batch, false);
                    }
                    leaves_at.get_or_insert_with(|| tokio::time::Instant::now() + BATCH_WAITS_MAX);
                }
                () = leaves(leaves_at) => return (batch, true),
            }
        }
        (batch, true)
    }

    /// The spans that wait are lost. Those that come later find the queue closed.
    fn lose_waiting(&mut self, error: &dyn std::fmt::Display) {
        self.spans.close();
        let mut count = 0;
        while self.spans.try_recv().is_ok() {
            count += 1;
        }
        self.lose(count, error);
    }

    /// So many spans are lost.
    fn lose(&self, count: usize, error: &dyn std::fmt::Display) {
        self.metrics.traces_dropped.inc_by(count as u64);
        if let Some(left_out) = PROBLEM_LINES.pass(Instant::now()) {
            let endpoint = &self.endpoint;
            warn!(%endpoint, %error, left_out, "the collector takes no traces; they are lost until it does");
        }
    }
}

/// Waits until then; for ever without a time.
async fn leaves(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;
    use std::time::SystemTime;

    use futures_util::task::noop_waker;
    use opentelemetry::InstrumentationScope;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;
    use crate::traces::SPANS_WAITING_MAX;

    fn span() -> SpanData {
        SpanData {
            span_context: SpanContext::NONE,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: "test".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    fn export(endpoint: &str) -> (Export, mpsc::Sender<SpanData>) {
        let (spans, waiting) = mpsc::channel(SPANS_WAITING_MAX);
        let export = Export {
            endpoint: endpoint.to_owned(),
            node: NodeId::new("1").unwrap(),
            spans: waiting,
            metrics: Arc::default(),
            closing: CancellationToken::new(),
        };
        (export, spans)
    }

    /// A message may be half full when the queue behind it is full.
    #[tokio::test]
    async fn end_takes_all_spans_that_wait() {
        let (mut export, spans) = export("http://127.0.0.1:9");
        let closing = export.closing.clone();
        let mut gathers = Box::pin(export.gather());
        for _ in 0..300 {
            spans.try_send(span()).unwrap();
        }
        assert!(gathers.as_mut().poll(&mut Context::from_waker(&noop_waker())).is_pending());
        for _ in 0..SPANS_WAITING_MAX {
            spans.try_send(span()).unwrap();
        }
        closing.cancel();
        let (mut batch, mut goes_on) = gathers.as_mut().await;
        drop(gathers);
        let mut all = 0;
        while goes_on {
            assert!(batch.len() <= BATCH_SPANS_MAX);
            all += batch.len();
            (batch, goes_on) = export.gather().await;
        }
        assert_eq!(all + batch.len(), 300 + SPANS_WAITING_MAX);
        assert!(spans.try_send(span()).is_err());
    }

    #[test]
    fn spans_without_an_exporter_are_lost_and_counted() {
        let (export, spans) = export("no address");
        let metrics = Arc::clone(&export.metrics);
        spans.try_send(span()).unwrap();
        export.run();
        assert_eq!(metrics.traces_dropped.get(), 1);
        assert!(spans.try_send(span()).is_err());
    }
}
