//! A message with a large value in pieces, so that others need not wait for all of it.

use bytes::{Bytes, BytesMut};

use super::peer::{PeerWireError, invalid, missing};
use crate::api;
use crate::limits::{LINK_PIECE_BYTES, VALUE_BYTES_MAX};
use crate::protocol::Message;

/// What is left to send of a message. Its value is shared, not copied.
#[derive(Debug)]
pub struct Pieces {
    /// Without its value. Sent with the first piece.
    message: Option<api::PeerMessage>,
    value: Bytes,
}

impl Pieces {
    /// A message of which nothing is sent yet.
    #[must_use]
    pub fn of(message: Message) -> Self {
        let mut message = api::PeerMessage::from(message);
        let value = value_of(&mut message).map(std::mem::take).unwrap_or_default();
        Self { message: Some(message), value }
    }

    /// Whether all is sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.message.is_none() && self.value.is_empty()
    }
}

impl Iterator for Pieces {
    type Item = api::PeerPiece;

    fn next(&mut self) -> Option<api::PeerPiece> {
        if self.is_empty() {
            return None;
        }
        let message = self.message.take();
        let value_bytes = if message.is_some() { self.value.len() as u64 } else { 0 };
        let part = self.value.split_to(self.value.len().min(LINK_PIECE_BYTES));
        Some(api::PeerPiece { message, value_bytes, part })
    }
}

/// Puts the pieces that come on one stream together again. Holds one message's at most.
#[derive(Debug, Default)]
pub struct Assembly {
    message: Option<api::PeerMessage>,
    value: BytesMut,
    value_bytes: usize,
    /// The last message was refused: what follows of it is dropped without saying so again.
    refuses: bool,
}

impl Assembly {
    fn refused() -> Self {
        Self { refuses: true, ..Self::default() }
    }

    /// Takes the next piece. Gives the message that it completes, if it does.
    ///
    /// # Errors
    /// When it is not the next one. What there is of its message is dropped.
    pub fn take(&mut self, piece: api::PeerPiece) -> Result<Option<api::PeerMessage>, PeerWireError> {
        if let Some(message) = piece.message {
            // One that was begun and not finished is dropped: its sender does that only where it gave it up.
            let value_bytes = usize::try_from(piece.value_bytes).unwrap_or(usize::MAX);
            if value_bytes > VALUE_BYTES_MAX {
                *self = Self::refused();
                return Err(invalid("piece.value_bytes", &format!("{value_bytes} are more than {VALUE_BYTES_MAX}")));
            }
            let value = BytesMut::with_capacity(value_bytes);
            *self = Self { message: Some(message), value, value_bytes, refuses: false };
        }
        let Some(mut message) = self.message.take() else {
            return if self.refuses { Ok(None) } else { Err(missing("piece.message")) };
        };
        if self.value.len() + piece.part.len() > self.value_bytes {
            let announced = self.value_bytes;
            *self = Self::refused();
            return Err(invalid(
                "piece.part",
                &format!("there are more than the {announced} bytes that were announced"),
            ));
        }
        self.value.extend_from_slice(&piece.part);
        if self.value.len() < self.value_bytes {
            self.message = Some(message);
            return Ok(None);
        }
        let value = std::mem::take(self).value.freeze();
        match value_of(&mut message) {
            Some(place) => *place = value,
            None if value.is_empty() => {}
            None => return Err(missing("piece.message.content")),
        }
        Ok(Some(message))
    }
}

/// The value that a message carries.
fn value_of(message: &mut api::PeerMessage) -> Option<&mut Bytes> {
    use api::peer_content::Content;
    use api::peer_message::Body;
    let content = match message.body.as_mut()? {
        Body::Store(store) => store.content.as_mut(),
        Body::Lookup(held) => held.content.as_mut(),
        _ => None,
    };
    match content?.content.as_mut()? {
        Content::Text(value) | Content::Binary(value) => Some(value),
        Content::Tombstone(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{Answer, OperationId, Request};
    use crate::types::{Checksum, Clock, Content, Key, Lookup, NodeId, Record, Stamp, Value};

    fn store(value: Value) -> Message {
        let (key, content) = (Key::new("k").unwrap(), Content::Value(value));
        let stamp = Stamp { clock: Clock { epoch: 1, counter: 2 }, writer: NodeId::new("1").unwrap() };
        let record = Record { stamp, checksum: Checksum::of(&key, &content), content };
        Message::Request { operation: OperationId(1), round: 1, request: Request::Store { key, record } }
    }

    fn value(bytes: usize) -> Value {
        Value::Binary((0..bytes).map(|index| u8::try_from(index * 31 % 251).unwrap()).collect())
    }

    fn assembled(assembly: &mut Assembly, pieces: impl Iterator<Item = api::PeerPiece>) -> Vec<Message> {
        let completed = pieces.filter_map(|piece| assembly.take(piece).expect("it is the next one"));
        completed.map(|message| Message::try_from(message).expect("it is whole")).collect()
    }

    #[test]
    fn message_comes_out_as_it_went_in() {
        let mut assembly = Assembly::default();
        let sizes = [0, 1, LINK_PIECE_BYTES - 1, LINK_PIECE_BYTES, LINK_PIECE_BYTES + 1, 3 * LINK_PIECE_BYTES];
        for message in sizes.map(|bytes| store(value(bytes))).into_iter().chain([
            store(Value::Text("x".repeat(200_000).into())),
            Message::Answer {
                operation: OperationId(1),
                round: 2,
                answer: Answer::Lookup { key: Key::new("k").unwrap(), held: Lookup::Absent },
            },
        ]) {
            let pieces: Vec<_> = Pieces::of(message.clone()).collect();
            assert!(pieces.iter().all(|piece| piece.part.len() <= LINK_PIECE_BYTES));
            assert_eq!(assembled(&mut assembly, pieces.into_iter()), [message]);
        }
    }

    #[test]
    fn pieces_that_do_not_follow_are_refused_and_the_next_message_is_taken() {
        let pieces = || Pieces::of(store(value(3 * LINK_PIECE_BYTES)));
        let mut assembly = Assembly::default();

        let error = assembly.take(pieces().nth(1).unwrap()).unwrap_err();
        assert_eq!(error, missing("piece.message"), "the first one is missing");

        let too_long = pieces().next().map(|first| api::PeerPiece { value_bytes: u64::MAX, ..first }).unwrap();
        let error = assembly.take(too_long).unwrap_err();
        assert!(error.to_string().contains("piece.value_bytes"), "{error}");

        let too_short = pieces().next().map(|first| api::PeerPiece { value_bytes: 1, ..first }).unwrap();
        let error = assembly.take(too_short).unwrap_err();
        assert!(error.to_string().contains("piece.part"), "{error}");
        assert_eq!(assembly.take(pieces().nth(1).unwrap()), Ok(None), "said once");

        assert_eq!(assembly.take(pieces().next().unwrap()), Ok(None), "begun, and then given up");
        let whole = store(value(3 * LINK_PIECE_BYTES));
        assert_eq!(assembled(&mut assembly, pieces()), [whole]);

        let clock = Message::Request { operation: OperationId(1), round: 1, request: Request::Clock };
        let of_no_value =
            api::PeerPiece { message: Some(clock.into()), value_bytes: 1, part: Bytes::from_static(b"x") };
        assert_eq!(assembly.take(of_no_value).unwrap_err(), missing("piece.message.content"));
    }

    #[test]
    fn value_that_was_damaged_in_one_piece_is_refused() {
        let mut pieces: Vec<_> = Pieces::of(store(value(3 * LINK_PIECE_BYTES))).collect();
        let mut part = pieces[1].part.to_vec();
        part[7] ^= 1;
        pieces[1].part = part.into();
        let mut assembly = Assembly::default();
        let completed = pieces.into_iter().find_map(|piece| assembly.take(piece).expect("it is the next one"));
        let message = Message::try_from(completed.expect("it is whole"));
        assert!(matches!(message, Err(PeerWireError::Damaged { .. })), "{message:?}");
    }

    proptest! {
        #[test]
        fn no_pieces_make_it_panic(pieces in prop::collection::vec((any::<bool>(), 0..9_u64, 0..9_usize), 0..20)) {
            let mut assembly = Assembly::default();
            for (begins, value_bytes, bytes) in pieces {
                let message = begins.then(|| store(value(0)).into());
                let _ = assembly.take(api::PeerPiece { message, value_bytes, part: vec![7; bytes].into() });
            }
        }
    }
}
