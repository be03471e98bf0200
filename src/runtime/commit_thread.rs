//! The thread that makes batches durable, and the task that reopens a store after a failure.
//!
//! Contract: batches become durable one after the other, in the order in which they were sent. The event loop is told of
//! each one with [`Event::Persisted`], and of a store that works again with [`Event::Reopened`].

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::metrics::Metrics;
use crate::storage::Store;
use crate::types::Batch;

use super::event::Event;

/// The time between two attempts to reopen a store that failed.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// The event loop's end of the commit thread. The thread ends once this is dropped and its last batch is settled.
pub(super) struct CommitThread {
    batches: std::sync::mpsc::Sender<Arc<Batch>>,
}

impl CommitThread {
    /// Starts the thread.
    ///
    /// # Panics
    /// When the system gives no thread.
    pub(super) fn start(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        events: mpsc::Sender<Event>,
    ) -> (Self, JoinHandle<()>) {
        // The protocol has one batch at the disk at a time, so this channel never holds more than one.
        let (batches, received) = std::sync::mpsc::channel::<Arc<Batch>>();
        let run = move || {
            for batch in received {
                let durable = commit(&*store, &metrics, &batch);
                if events.blocking_send(Event::Persisted(durable)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("commit".to_owned()).spawn(run).expect("a thread can be started");
        (Self { batches }, thread)
    }

    /// Hands a batch over. Never waits.
    pub(super) fn persist(&self, batch: Arc<Batch>) {
        // It fails only if the thread has panicked. The batch is then never acknowledged.
        let _ = self.batches.send(batch);
    }
}

/// Whether the batch became durable.
fn commit(store: &dyn Store, metrics: &Metrics, batch: &Batch) -> bool {
    let began = Instant::now();
    match store.persist(batch) {
        Ok(()) => {
            metrics.store_batch_duration.observe(began.elapsed().as_secs_f64());
            metrics.store_batches.inc();
            metrics.store_batch_records.inc_by(batch.records.len() as u64);
            true
        }
        Err(error) => {
            metrics.store_batch_failures.inc();
            error!(%error, "the disk takes no writes; nothing is acknowledged until it does");
            false
        }
    }
}

/// Tries to reopen the store until that succeeds or the event loop has ended.
pub(super) fn reopen(store: Arc<dyn Store>, events: mpsc::Sender<Event>) {
    tokio::spawn(async move {
        let mut logged = None;
        loop {
            tokio::time::sleep(REOPEN_AFTER).await;
            let store = Arc::clone(&store);
            let reopened = tokio::task::spawn_blocking(move || store.reopen().and_then(|()| store.meta())).await;
            match reopened {
                Ok(Ok(meta)) => {
                    // It fails only if the event loop has ended.
                    let _ = events.send(Event::Reopened(meta)).await;
                    return;
                }
                Ok(Err(error)) if logged.as_ref() != Some(&error) => {
                    warn!(%error, "the disk still takes no writes; trying on");
                    logged = Some(error);
                }
                Ok(Err(_)) => {}
                Err(error) => error!(%error, "reopening the store did not end well"),
            }
            if events.is_closed() {
                return;
            }
        }
    });
}
