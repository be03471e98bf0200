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

use super::SPANS_WAITING_MAX;

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
            Err(error) => return self.lose(0, &error),
        };
        runtime.block_on(async {
            let exporter = match self.exporter() {
                Ok(exporter) => exporter,
                Err(error) => return self.lose(0, &error),
            };
            let mut is_open = true;
            while is_open {
                let (batch, goes_on) = self.gather().await;
                is_open = goes_on;
                let count = batch.len();
                if count == 0 {
                    continue;
                }
                match tokio::time::timeout(EXPORT_TIME_MAX, exporter.export(batch)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => self.lose(count, &error),
                    Err(late) => self.lose(count, &late),
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
                    while batch.len() < SPANS_WAITING_MAX && let Ok(span) = self.spans.try_recv() {
                        batch.push(span);
                    }
                    return (batch, false);
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
