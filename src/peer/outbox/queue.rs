//! The queue of one link: small messages, large messages, and chunks under way.

use std::collections::VecDeque;
use std::time::Instant;

use crate::limits::{LINK_BATCH_BYTES, LINK_CHUNK_BYTES, LINK_QUEUE_BYTES_MAX, LINK_RESERVE_BYTES};
use crate::peer::send_window::SendWindow;
use crate::protocol::Message;
use crate::types::Incarnation;
use crate::wire::batch::{TRACES_MAX, TraceNote};
use crate::wire::chunks::{Chunk, Chunks};

/// The messages that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    small: VecDeque<Queued>,
    large: VecDeque<Queued>,
    /// The unsent chunks of the large message under way.
    chunks: Option<(Option<Incarnation>, Chunks)>,
    send_window: SendWindow,
    /// The chunks of the peer that are not acknowledged yet.
    taken: u32,
    /// The spans of requests that wait.
    traces: Vec<TraceNote>,
    /// About how many bytes all of them have.
    bytes: usize,
}

/// A message that waits.
#[derive(Debug)]
struct Queued {
    /// The peer's incarnation that it is for.
    to: Option<Incarnation>,
    message: Message,
    /// [`Message::encoded_bytes`].
    bytes: usize,
}

/// What goes into one batch.
pub(super) struct Contents {
    pub(super) to: Option<Incarnation>,
    pub(super) messages: Vec<Message>,
    pub(super) chunk: Option<Chunk>,
    pub(super) chunks_taken: u32,
    pub(super) traces: Vec<TraceNote>,
}

impl Queue {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends `message`, unless too many bytes wait.
    pub(super) fn push(&mut self, to: Option<Incarnation>, message: Message) -> bool {
        let bytes = message.encoded_bytes();
        let is_large = message.value_bytes() > LINK_CHUNK_BYTES;
        // One message always fits, since the largest has less than half of the bytes that may wait.
        let reserve = if is_large { LINK_RESERVE_BYTES } else { 0 };
        if self.bytes + bytes + reserve > LINK_QUEUE_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        let queue = if is_large { &mut self.large } else { &mut self.small };
        queue.push_back(Queued { to, message, bytes });
        true
    }

    pub(super) fn trace(&mut self, note: TraceNote) {
        if self.traces.len() < TRACES_MAX {
            self.traces.push(note);
        }
    }

    pub(super) fn acknowledge_chunk(&mut self) {
        self.taken = self.taken.saturating_add(1);
    }

    pub(super) fn chunks_taken(&mut self, count: u32, now: Instant) {
        self.send_window.acknowledged(count, now);
    }

    /// Takes the first small messages, up to about [`LINK_BATCH_BYTES`], and one chunk, all for one incarnation of the peer.
    /// `None` where nothing may be sent.
    pub(super) fn take(&mut self, now: Instant) -> Option<Contents> {
        if self.chunks.is_none()
            && let Some(Queued { to, message, bytes }) = self.large.pop_front()
        {
            self.bytes -= bytes - message.value_bytes();
            self.chunks = Some((to, Chunks::of(message)));
        }
        let chunk_to = self.chunks.as_ref().filter(|_| self.send_window.has_room()).map(|(to, _)| *to);
        let to = match self.small.front().map(|queued| queued.to).or(chunk_to) {
            Some(to) => to,
            // Acknowledgements concern the link, whichever incarnation the peer has.
            None if self.taken > 0 => None,
            None => return None,
        };
        let (mut bytes, mut count) = (0, 0);
        let is_next = |queued: &&Queued| queued.to == to;
        for queued in self.small.iter().take_while(is_next) {
            if count > 0 && bytes + queued.bytes > LINK_BATCH_BYTES {
                break;
            }
            bytes += queued.bytes;
            count += 1;
        }
        let messages = self.small.drain(..count).map(|queued| queued.message).collect();
        self.bytes -= bytes;
        // A chunk for another incarnation waits until no small message is left for this one. A peer has one incarnation at a
        // time, so that one of the two is of no use any more.
        let chunk = if chunk_to == Some(to) { self.take_chunk(now) } else { None };
        let (chunks_taken, traces) = (std::mem::take(&mut self.taken), std::mem::take(&mut self.traces));
        Some(Contents { to, messages, chunk, chunks_taken, traces })
    }

    fn take_chunk(&mut self, now: Instant) -> Option<Chunk> {
        let (_, chunks) = self.chunks.as_mut()?;
        let chunk = chunks.next()?;
        self.bytes -= chunk.value_bytes();
        self.send_window.sent(now);
        if chunks.is_empty() {
            self.chunks = None;
        }
        Some(chunk)
    }
}
