//! The tasks of one connection's streams of HTTP/2, and how many of its requests are refused.
//!
//! Contract: a connection is not read while more than [`STREAMS_MAX`] of its tasks are alive. A stream that its client takes back
//! makes room for another one at once, while its task still waits for a processor. Without this bound the tasks of such streams
//! would pile up. A client that takes nothing back has [`STREAMS_PER_CONNECTION_MAX`] streams at most, and never waits.
//! All others are taken back, and end once they run, so that there is always an end to the waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;

use crate::limits::STREAMS_PER_CONNECTION_MAX;

/// The most tasks of one connection while it is read.
const STREAMS_MAX: usize = 2 * STREAMS_PER_CONNECTION_MAX as usize;

/// Runs the tasks of a connection's streams, and counts them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<Alive>);

#[derive(Debug, Default)]
struct Alive {
    tasks: AtomicUsize,
    /// Requests that were refused since that was asked last.
    refused: AtomicUsize,
    /// Wakes the task that reads the connection.
    reader: AtomicWaker,
}

/// One task, until it is dropped.
struct Task(Streams);

impl Streams {
    /// A request was refused because its client has as much as it may have. Its connection is read slower then: a client that asks
    /// again at once would keep a processor busy with refusals.
    pub(crate) fn refuse(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were refused since this was asked last.
    pub(crate) fn take_refused(&self) -> usize {
        // Written only where there are some: a write would cost each read.
        if self.0.refused.load(Ordering::Relaxed) == 0 { 0 } else { self.0.refused.swap(0, Ordering::Relaxed) }
    }

    /// Whether the connection may be read.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let has_room = || self.0.tasks.load(Ordering::SeqCst) <= STREAMS_MAX;
        if has_room() {
            return Poll::Ready(());
        }
        self.0.reader.register(context.waker());
        // A task may have ended meanwhile.
        if has_room() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.tasks.fetch_add(1, Ordering::SeqCst);
        let task = Task(self.clone());
        tokio::spawn(async move {
            let _task = task;
            future.await;
        });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.0.0.tasks.fetch_sub(1, Ordering::SeqCst) > STREAMS_MAX {
            self.0.0.reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connection_is_read_again_once_tasks_have_ended() {
        let streams = Streams::default();
        let (end, ends) = tokio::sync::watch::channel(false);
        for _ in 0..=STREAMS_MAX {
            let mut ends = ends.clone();
            streams.execute(async move { drop(ends.wait_for(|ended| *ended).await) });
        }
        let room = std::future::poll_fn(|context| Poll::Ready(streams.poll_room(context).is_ready()));
        assert!(!room.await);
        let reader = {
            let streams = streams.clone();
            tokio::spawn(async move { std::future::poll_fn(|context| streams.poll_room(context)).await })
        };
        tokio::task::yield_now().await;
        assert!(!reader.is_finished());
        end.send(true).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(10), reader).await.expect("the reader is woken").unwrap();
    }
}
