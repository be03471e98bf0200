//! Messages that wait to be sent on one link, and how they are packed into batches.
//!
//! A message with a large value is sent in chunks, one chunk with each batch of small messages, so that small messages do not
//! wait for the whole value. Large messages keep their order, and so do small ones.
//!
//! Only a few chunks are sent ahead of the peer's acknowledgements ([`SendWindow`]). Otherwise gRPC and the system would buffer
//! megabytes of them, and later small messages would wait behind these.

mod queue;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures_util::Stream;
use prost::Message as _;

use crate::api;
use crate::metrics::Metrics;
use crate::protocol::Message;
use crate::types::Incarnation;
use crate::wire::batch::{Batch, TraceNote};

use queue::Queue;

/// Messages that wait to be sent on one link.
///
/// Bounded: an outbox that holds [`crate::limits::LINK_QUEUE_BYTES_MAX`] drops new messages, as a network would.
#[derive(Debug)]
pub struct Outbox {
    from: Incarnation,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    mode: Mode,
    /// The number of the stream that reads. An earlier stream ends when it is polled next.
    stream: u64,
    reader: Option<Waker>,
}

/// Which messages an outbox takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// No stream reads: all messages are dropped.
    #[default]
    Closed,
    /// The stream must begin with a hello: messages before it are dropped.
    HelloFirst,
    /// All messages are taken.
    Open,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It waits for the stream.
    Queued,
    /// It was dropped, because the link is not up.
    Closed,
    /// It was dropped, because too many bytes wait already.
    Full,
}

impl Outbox {
    /// A closed outbox for messages of the incarnation `from`.
    #[must_use]
    pub fn new(from: Incarnation, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { from, metrics, state: Mutex::default() })
    }

    /// Sends `message` to the peer's incarnation `to`. Never blocks.
    pub fn send(&self, to: Option<Incarnation>, message: Message) -> Sent {
        let mut state = self.lock();
        match state.mode {
            Mode::Closed => return Sent::Closed,
            Mode::HelloFirst if message.hello().is_none() => return Sent::Closed,
            Mode::HelloFirst => state.mode = Mode::Open,
            Mode::Open => {}
        }
        if !state.queue.push(to, message) {
            return Sent::Full;
        }
        wake_reader(state);
        Sent::Queued
    }

    /// Tells the peer of the span of a request. It is sent with the request after it, if one is sent.
    pub fn trace(&self, note: TraceNote) {
        self.lock().queue.trace(note);
    }

    /// Acknowledges to the peer a chunk that came on this link.
    pub fn acknowledge_chunk(&self) {
        let mut state = self.lock();
        state.queue.acknowledge_chunk();
        wake_reader(state);
    }

    /// The peer has acknowledged `count` chunks.
    pub fn chunks_taken(&self, count: u32) {
        if count == 0 {
            return;
        }
        let mut state = self.lock();
        state.queue.chunks_taken(count, Instant::now());
        wake_reader(state);
    }

    /// About how many bytes wait.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lock().queue.bytes()
    }

    /// Opens the outbox. The stream yields the messages that are sent from now on. An earlier stream of this outbox ends.
    pub fn open(self: &Arc<Self>) -> OutboxStream {
        self.open_in(Mode::Open)
    }

    /// Opens the outbox of a link that this node opens. A link begins with a hello, so that messages are dropped until one is
    /// sent: the node may not have noticed yet that an earlier link broke.
    pub fn open_with_hello(self: &Arc<Self>) -> OutboxStream {
        self.open_in(Mode::HelloFirst)
    }

    fn open_in(self: &Arc<Self>, mode: Mode) -> OutboxStream {
        self.close();
        let mut state = self.lock();
        state.mode = mode;
        state.stream += 1;
        OutboxStream { outbox: Arc::clone(self), number: state.stream }
    }

    /// Closes the outbox. Its stream ends, and waiting messages are dropped.
    pub fn close(&self) {
        let mut state = self.lock();
        *state = State { stream: state.stream, reader: state.reader.take(), ..State::default() };
        wake_reader(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // After a panic the queue may lack a message, which the protocol expects of a link.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the stream after the lock is released, because it takes the lock at once.
fn wake_reader(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

/// The messages of an [`Outbox`]. Each batch holds as many as wait when it is polled.
#[derive(Debug)]
pub struct OutboxStream {
    outbox: Arc<Outbox>,
    number: u64,
}

impl Stream for OutboxStream {
    type Item = api::PeerBatch;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<api::PeerBatch>> {
        let contents = {
            let mut state = self.outbox.lock();
            if state.mode == Mode::Closed || state.stream != self.number {
                return Poll::Ready(None);
            }
            // Acknowledgements alone must not come before the hello.
            let contents = if state.mode == Mode::Open { state.queue.take(Instant::now()) } else { None };
            let Some(contents) = contents else {
                state.reader = Some(context.waker().clone());
                return Poll::Pending;
            };
            contents
        };
        // Encoded after the lock is released, so that senders do not wait for it.
        let queue::Contents { to, messages, chunk, chunks_taken, traces } = contents;
        let metrics = &self.outbox.metrics;
        metrics.link_batches.inc();
        let begins = chunk.as_ref().is_some_and(crate::wire::chunks::Chunk::begins_message);
        metrics.link_messages.inc_by(messages.len() as u64 + u64::from(begins));
        let batch = Batch { from: self.outbox.from, to, messages, chunk, chunks_taken, traces };
        let batch = api::PeerBatch::from(batch);
        metrics.link_bytes.inc_by(batch.encoded_len() as u64);
        Poll::Ready(Some(batch))
    }
}
