//! The tasks of one connection's streams of HTTP/2, and how many of its requests are refused.
//!
//! Contract: a connection is not read while more than [`NEW_MAX`] of its tasks wait for a processor for the first time. So the tasks of
//! one connection do not stand between a processor and those of others.
//!
//! It is not read either while more than [`STREAMS_MAX`] of them are alive. A stream that its client takes back
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

/// The most tasks of one connection that have not run yet, while it is read.
const NEW_MAX: usize = 32;

/// Runs the tasks of a connection's streams, and counts them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<Alive>);

#[derive(Debug, Default)]
struct Alive {
    tasks: AtomicUsize,
    /// Those of them that have not run yet.
    new: AtomicUsize,
    /// Requests that were refused since that was asked last.
    refused: AtomicUsize,
    /// Wakes the task that reads the connection.
    reader: AtomicWaker,
}

/// One task, until it is dropped.
struct Task {
    streams: Streams,
    is_new: bool,
}

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
        let has_room =
            || self.0.tasks.load(Ordering::SeqCst) <= STREAMS_MAX && self.0.new.load(Ordering::SeqCst) <= NEW_MAX;
        if has_room() {
            return Poll::Ready(());
        }
        self.0.reader.register(context.waker());
        // A task may have run or ended meanwhile.
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
        self.0.new.fetch_add(1, Ordering::SeqCst);
        let mut task = Task { streams: self.clone(), is_new: true };
        tokio::spawn(async move {
            task.runs();
            future.await;
        });
    }
}

impl Task {
    /// It has run, or never will.
    fn runs(&mut self) {
        let of_connection = &self.streams.0;
        // Once, where there is room again: the reader looks again after it has registered.
        if std::mem::take(&mut self.is_new) && of_connection.new.fetch_sub(1, Ordering::SeqCst) == NEW_MAX + 1 {
            of_connection.reader.wake();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.runs();
        if self.streams.0.tasks.fetch_sub(1, Ordering::SeqCst) > STREAMS_MAX {
            self.streams.0.reader.wake();
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
        let has_room = || streams.poll_room(&mut Context::from_waker(std::task::Waker::noop())).is_ready();
        assert!(!has_room());
        while streams.0.new.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
        assert!(!has_room(), "all have run, and none has ended");
        let reader = {
            let streams = streams.clone();
            tokio::spawn(async move { std::future::poll_fn(|context| streams.poll_room(context)).await })
        };
        tokio::task::yield_now().await;
        assert!(!reader.is_finished());
        end.send(true).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(10), reader).await.expect("the reader is woken").unwrap();
    }

    #[tokio::test]
    async fn connection_is_not_read_before_its_tasks_have_run() {
        let streams = Streams::default();
        let is_ready = || streams.poll_room(&mut Context::from_waker(std::task::Waker::noop())).is_ready();
        for _ in 0..NEW_MAX {
            streams.execute(std::future::pending::<()>());
        }
        assert!(is_ready());
        streams.execute(std::future::pending::<()>());
        assert!(!is_ready());
        // The reader is woken by the tasks, which run meanwhile and do not end.
        let room = std::future::poll_fn(|context| streams.poll_room(context));
        tokio::time::timeout(std::time::Duration::from_secs(10), room).await.expect("the reader is woken");
        assert_eq!(streams.0.tasks.load(Ordering::SeqCst), NEW_MAX + 1);
    }
}
