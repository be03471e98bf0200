//! One gRPC message between nodes: a batch of messages and perhaps a chunk of a large one.

use super::chunks::Chunk;
use super::peer::{PeerWireError, missing};
use crate::api;
use crate::protocol::Message;
use crate::types::Incarnation;

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
        })
    }
}

impl From<Batch> for api::PeerBatch {
    fn from(batch: Batch) -> Self {
        let Batch { from, to, messages, chunk, chunks_taken } = batch;
        Self {
            from: Some(from.into()),
            to: to.map(Into::into),
            messages: messages.into_iter().map(Into::into).collect(),
            chunk: chunk.map(Into::into),
            chunks_taken,
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
    fn batch_without_its_sender_is_refused() {
        let error = Batch::decode(api::PeerBatch::default(), |_| ()).unwrap_err();
        assert_eq!(error, missing("from"));
    }
}
