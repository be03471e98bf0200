//! A message with a large value in chunks, so that small messages need not wait for all of it.

use bytes::{Bytes, BytesMut};

use super::peer::{PeerWireError, invalid, missing};
use crate::api;
use crate::limits::{LINK_CHUNK_BYTES, VALUE_BYTES_MAX};
use crate::protocol::Message;

/// A part of a message. The first chunk carries the message without its value, and each carries the next bytes of the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk(api::PeerChunk);

impl Chunk {
    /// Whether it is the first of its message.
    #[must_use]
    pub fn begins_message(&self) -> bool {
        self.0.message.is_some()
    }

    /// How many bytes of the value it carries.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.0.part.len()
    }
}

impl From<api::PeerChunk> for Chunk {
    fn from(chunk: api::PeerChunk) -> Self {
        Self(chunk)
    }
}

impl From<Chunk> for api::PeerChunk {
    fn from(Chunk(chunk): Chunk) -> Self {
        chunk
    }
}

/// The chunks of a message that are not sent yet. The value is shared, not copied.
#[derive(Debug)]
pub struct Chunks {
    /// Without its value. Sent with the first chunk.
    message: Option<api::PeerMessage>,
    value: Bytes,
}

impl Chunks {
    /// All chunks of `message`.
    #[must_use]
    pub fn of(message: Message) -> Self {
        let mut message = api::PeerMessage::from(message);
        let value = message.value_mut().map(std::mem::take).unwrap_or_default();
        Self { message: Some(message), value }
    }

    /// Whether all are sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.message.is_none() && self.value.is_empty()
    }
}

impl Iterator for Chunks {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        if self.is_empty() {
            return None;
        }
        let message = self.message.take();
        let value_bytes = if message.is_some() { self.value.len() as u64 } else { 0 };
        let part = self.value.split_to(self.value.len().min(LINK_CHUNK_BYTES));
        Some(Chunk(api::PeerChunk { message, value_bytes, part }))
    }
}

/// Makes messages of the chunks that one stream brings. It holds one unfinished message at most.
#[derive(Debug, Default)]
pub struct Reassembler {
    message: Option<api::PeerMessage>,
    value: BytesMut,
    value_bytes: usize,
    /// The last message was refused. Its further chunks are dropped without another error.
    refused: bool,
}

impl Reassembler {
    fn refusing() -> Self {
        Self { refused: true, ..Self::default() }
    }

    /// Takes the next chunk. Returns the message that it completes, if any.
    ///
    /// # Errors
    /// When the chunk does not follow the one before, or the message that it completes does not decode. That message is
    /// dropped.
    pub fn take(&mut self, Chunk(chunk): Chunk) -> Result<Option<Message>, PeerWireError> {
        if let Some(message) = chunk.message {
            // A sender leaves a message unfinished only where it gave it up: the next one replaces it.
            let value_bytes = usize::try_from(chunk.value_bytes).unwrap_or(usize::MAX);
            if value_bytes > VALUE_BYTES_MAX {
                *self = Self::refusing();
                return Err(invalid("chunk.value_bytes", &format!("{value_bytes} are more than {VALUE_BYTES_MAX}")));
            }
            let value = BytesMut::with_capacity(value_bytes);
            *self = Self { message: Some(message), value, value_bytes, refused: false };
        }
        let Some(mut message) = self.message.take() else {
            return if self.refused { Ok(None) } else { Err(missing("chunk.message")) };
        };
        if self.value.len() + chunk.part.len() > self.value_bytes {
            let announced = self.value_bytes;
            *self = Self::refusing();
            return Err(invalid("chunk.part", &format!("there are more than the {announced} bytes announced")));
        }
        self.value.extend_from_slice(&chunk.part);
        if self.value.len() < self.value_bytes {
            self.message = Some(message);
            return Ok(None);
        }
        let value = std::mem::take(self).value.freeze();
        match message.value_mut() {
            Some(target) => *target = value,
            None if value.is_empty() => {}
            None => return Err(missing("chunk.message.content")),
        }
        Message::try_from(message).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{Answer, OperationId, Request, StoreOrigin};
    use crate::types::{Age, Checksum, Clock, Content, Key, Lookup, NodeId, Record, Stamp, Value};

    fn store(value: Value) -> Message {
        let (key, content) = (Key::new("k").unwrap(), Content::Value(value));
        let stamp = Stamp { clock: Clock { epoch: 1, counter: 2 }, writer: NodeId::new("1").unwrap() };
        let checksum = Checksum::of(&key, &content);
        let record = Record::plain(stamp, content, checksum);
        Message::Request {
            operation: OperationId(1),
            round: 1,
            number: 0,
            request: Request::Store { key, record, age: Age::NONE, origin: StoreOrigin::Writer },
        }
    }

    fn value(bytes: usize) -> Value {
        Value::Binary((0..bytes).map(|index| u8::try_from(index * 31 % 251).unwrap()).collect())
    }

    fn assembled(reassembler: &mut Reassembler, chunks: impl Iterator<Item = Chunk>) -> Vec<Message> {
        chunks.filter_map(|chunk| reassembler.take(chunk).expect("it is the next one")).collect()
    }

    #[test]
    fn message_comes_out_as_it_went_in() {
        let mut reassembler = Reassembler::default();
        let sizes = [0, 1, LINK_CHUNK_BYTES - 1, LINK_CHUNK_BYTES, LINK_CHUNK_BYTES + 1, 3 * LINK_CHUNK_BYTES];
        for message in sizes.map(|bytes| store(value(bytes))).into_iter().chain([
            store(Value::Text("x".repeat(200_000).into())),
            Message::Answer {
                operation: OperationId(1),
                round: 2,
                number: 0,
                answer: Answer::Lookup {
                    key: Key::new("k").unwrap(),
                    held: Lookup::Absent,
                    age: Age::NONE,
                    seal: None,
                },
            },
        ]) {
            let chunks: Vec<_> = Chunks::of(message.clone()).collect();
            assert!(chunks.iter().all(|chunk| chunk.value_bytes() <= LINK_CHUNK_BYTES));
            assert_eq!(assembled(&mut reassembler, chunks.into_iter()), [message]);
        }
    }

    #[test]
    fn chunks_that_do_not_follow_are_refused_and_the_next_message_is_taken() {
        let chunks = || Chunks::of(store(value(3 * LINK_CHUNK_BYTES)));
        let announcing = |value_bytes| Chunk(api::PeerChunk { value_bytes, ..chunks().next().unwrap().0 });
        let mut reassembler = Reassembler::default();

        let error = reassembler.take(chunks().nth(1).unwrap()).unwrap_err();
        assert_eq!(error, missing("chunk.message"), "the first one is missing");

        let too_long = announcing(u64::MAX);
        let error = reassembler.take(too_long).unwrap_err();
        assert!(error.to_string().contains("chunk.value_bytes"), "{error}");

        let too_short = announcing(1);
        let error = reassembler.take(too_short).unwrap_err();
        assert!(error.to_string().contains("chunk.part"), "{error}");
        assert_eq!(reassembler.take(chunks().nth(1).unwrap()), Ok(None), "said once");

        assert_eq!(reassembler.take(chunks().next().unwrap()), Ok(None), "begun, and then given up");
        let whole = store(value(3 * LINK_CHUNK_BYTES));
        assert_eq!(assembled(&mut reassembler, chunks()), [whole]);

        let clock = Message::Request { operation: OperationId(1), round: 1, number: 0, request: Request::Clock };
        let of_no_value =
            api::PeerChunk { message: Some(clock.into()), value_bytes: 1, part: Bytes::from_static(b"x") };
        assert_eq!(reassembler.take(Chunk(of_no_value)).unwrap_err(), missing("chunk.message.content"));
    }

    #[test]
    fn value_that_was_damaged_in_one_chunk_is_refused() {
        let mut chunks: Vec<_> = Chunks::of(store(value(3 * LINK_CHUNK_BYTES))).collect();
        let mut bytes = chunks[1].0.part.to_vec();
        bytes[7] ^= 1;
        chunks[1].0.part = bytes.into();
        let mut reassembler = Reassembler::default();
        let taken: Vec<_> = chunks.into_iter().map(|chunk| reassembler.take(chunk)).collect();
        assert!(matches!(taken[..], [Ok(None), Ok(None), Err(PeerWireError::Damaged { .. })]), "{taken:?}");
    }

    proptest! {
        #[test]
        fn no_chunks_make_it_panic(chunks in prop::collection::vec((any::<bool>(), 0..9_u64, 0..9_usize), 0..20)) {
            let mut reassembler = Reassembler::default();
            for (begins, value_bytes, bytes) in chunks {
                let message = begins.then(|| store(value(0)).into());
                let chunk = api::PeerChunk { message, value_bytes, part: vec![7; bytes].into() };
                let _ = reassembler.take(Chunk(chunk));
            }
        }
    }
}
