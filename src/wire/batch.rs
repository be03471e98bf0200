//! One gRPC message between nodes: a batch of messages and perhaps a chunk of a large one.

use super::chunks::Chunk;
use super::peer::{PeerWireError, missing};
use crate::api;
use crate::protocol::{Message, OperationId};
use crate::types::{Incarnation, SpanId, TraceContext, TraceId};

/// The most spans in one batch. Those beyond are dropped: the peer answers without spans of its own.
pub const TRACES_MAX: usize = 256;

/// The span of a request to a replica. The replica's own span is a child of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceNote {
    /// The operation of the request.
    pub operation: OperationId,
    /// Its round.
    pub round: u32,
    /// The span.
    pub context: TraceContext,
}

/// What one gRPC message between nodes carries.
#[derive(Debug)]
pub struct Batch {
    /// The sender's incarnation.
    pub from: Incarnation,
    /// The receiver's incarnation that the sender means. Absent in a hello, and in a batch that only acknowledges chunks.
    pub to: Option<Incarnation>,
    /// In the order of sending.
    pub messages: Vec<Message>,
    /// The next chunk of a large message.
    pub chunk: Option<Chunk>,
    /// The number of chunks that the sender has taken and not acknowledged before.
    pub chunks_taken: u32,
    /// The spans of requests that are traced.
    pub traces: Vec<TraceNote>,
}

impl From<TraceNote> for api::PeerTrace {
    fn from(TraceNote { operation, round, context }: TraceNote) -> Self {
        let trace_id = context.trace.0.to_be_bytes().to_vec().into();
        Self { operation: operation.0, round, trace_id, span_id: context.span.0 }
    }
}

/// A span that a peer has told of. One that cannot be read is left out: the request is answered without it.
fn decode_trace(trace: &api::PeerTrace) -> Option<TraceNote> {
    let id: [u8; 16] = trace.trace_id.as_ref().try_into().ok()?;
    let context = TraceContext { trace: TraceId(u128::from_be_bytes(id)), span: SpanId(trace.span_id) };
    Some(TraceNote { operation: OperationId(trace.operation), round: trace.round, context })
}

impl Batch {
    /// Decodes a batch. A message that does not decode is left out and handed to `dropped`.
    ///
    /// # Errors
    /// When it does not name its sender's incarnation.
    pub fn decode(batch: api::PeerBatch, mut dropped: impl FnMut(PeerWireError)) -> Result<Self, PeerWireError> {
        let mut messages = Vec::with_capacity(batch.messages.len());
        for message in batch.messages {
            match Message::try_from(message) {
                Ok(message) => messages.push(message),
                Err(error) => dropped(error),
            }
        }
        Ok(Self {
            from: batch.from.ok_or(missing("from"))?.into(),
            to: batch.to.map(Incarnation::from),
            messages,
            chunk: batch.chunk.map(Chunk::from),
            chunks_taken: batch.chunks_taken,
            traces: batch.traces.iter().take(TRACES_MAX).filter_map(decode_trace).collect(),
        })
    }
}

impl From<Batch> for api::PeerBatch {
    fn from(batch: Batch) -> Self {
        let Batch { from, to, messages, chunk, chunks_taken, traces } = batch;
        Self {
            from: Some(from.into()),
            to: to.map(Into::into),
            messages: messages.into_iter().map(Into::into).collect(),
            chunk: chunk.map(Into::into),
            chunks_taken,
            traces: traces.into_iter().map(Into::into).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{OperationId, Request};

    #[test]
    fn message_that_does_not_decode_leaves_the_others() {
        let clock = Message::Request { operation: OperationId(1), round: 1, number: 0, request: Request::Clock };
        let from = Incarnation { epoch: 1, nonce: 2 };
        let batch = api::PeerBatch {
            from: Some(from.into()),
            messages: vec![api::PeerMessage::default(), clock.clone().into()],
            ..api::PeerBatch::default()
        };
        let mut dropped = Vec::new();
        let batch = Batch::decode(batch, |error| dropped.push(error)).expect("it names its sender");
        assert_eq!((batch.from, batch.messages), (from, vec![clock]));
        assert_eq!(dropped, [missing("body")]);
    }

    #[test]
    fn spans_come_with_their_batch_and_a_broken_one_is_left_out() {
        let context = TraceContext { trace: TraceId(u128::MAX - 7), span: SpanId(9) };
        let note = TraceNote { operation: OperationId(3).traced(), round: 2, context };
        let from = Incarnation { epoch: 1, nonce: 2 };
        let batch =
            Batch { from, to: None, messages: Vec::new(), chunk: None, chunks_taken: 0, traces: vec![note, note] };
        let mut encoded = api::PeerBatch::from(batch);
        encoded.traces[0].trace_id = vec![1; 15].into();
        assert_eq!(Batch::decode(encoded, |_| ()).expect("it names its sender").traces, [note]);
    }

    #[test]
    fn batch_without_its_sender_is_refused() {
        let error = Batch::decode(api::PeerBatch::default(), |_| ()).unwrap_err();
        assert_eq!(error, missing("from"));
    }
}
