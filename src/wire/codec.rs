//! The codec of every gRPC message: protobuf, with the buffers that suit small messages as well as large ones.
//!
//! The codec of tonic-prost writes each byte of a field's head through a buffer that may have to grow, begins with 8 KiB,
//! and doubles. So small messages cost several times the instructions that they need, and an answer with a large value
//! takes twice its size in memory.
//!
//! Two bytes of a message can become an element of a list, which takes a hundred times as many. So messages that are lists are
//! counted before they are decoded.

use std::any::TypeId;
use std::marker::PhantomData;

use bytes::{Buf, BufMut};
use prost::Message;
use prost::encoding::decode_varint;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::api;

/// The bytes of an encoder's first buffer: those of most messages without a value, with the five bytes before each.
const ENCODE_BUFFER_BYTES: usize = 128;
/// The bytes of a decoder's first buffer: a request with a small value.
const DECODE_BUFFER_BYTES: usize = 2 << 10;
/// Messages of one stream that are ready together leave in frames of about so many bytes: tonic's own default.
const FRAME_BYTES: usize = 32 << 10;
/// Messages of at most so many bytes are encoded into a vector first, and copied once. A larger one mostly consists of
/// values, which are copied as a whole in any case.
const COPIED_MESSAGE_BYTES_MAX: usize = 32 << 10;

/// Encodes `T` and decodes `U`.
#[derive(Clone, Copy, Debug)]
pub struct ProtobufCodec<T, U>(PhantomData<(T, U)>);

/// Encodes messages.
#[derive(Clone, Debug)]
pub struct ProtobufEncoder<T> {
    /// Empty between two messages.
    scratch: Vec<u8>,
    messages: PhantomData<T>,
}

/// Decodes messages.
#[derive(Clone, Copy, Debug)]
pub struct ProtobufDecoder<U>(PhantomData<U>);

impl<T, U> Default for ProtobufCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for ProtobufCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProtobufEncoder<T>;
    type Decoder = ProtobufDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProtobufEncoder { scratch: Vec::new(), messages: PhantomData }
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProtobufDecoder(PhantomData)
    }
}

impl<T: Message> Encoder for ProtobufEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let bytes = message.encoded_len();
        buffer.reserve(bytes);
        if bytes > COPIED_MESSAGE_BYTES_MAX {
            message.encode_raw(buffer);
        } else {
            self.scratch.reserve(bytes);
            message.encode_raw(&mut self.scratch);
            buffer.put_slice(&self.scratch);
            self.scratch.clear();
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ENCODE_BUFFER_BYTES, FRAME_BYTES)
    }
}

/// The most fields of a message that is a list, about four times as many as are accepted: so the service says what is too many.
const FIELDS_MAX: usize = 4_096;
/// The same of a message between nodes: one of [`LINK_BATCH_BYTES`] has some ten thousand messages.
///
/// [`LINK_BATCH_BYTES`]: crate::limits::LINK_BATCH_BYTES
const PEER_FIELDS_MAX: usize = 1 << 18;

/// The most fields of a message; `None` where its size is bound enough.
fn fields_max<U: 'static>() -> Option<usize> {
    let lists = [
        (TypeId::of::<api::BatchGetRequest>(), FIELDS_MAX),
        (TypeId::of::<api::BatchWriteRequest>(), FIELDS_MAX),
        (TypeId::of::<api::MembersWish>(), FIELDS_MAX),
        (TypeId::of::<api::TokenCreateRequest>(), FIELDS_MAX),
        (TypeId::of::<api::PeerBatch>(), PEER_FIELDS_MAX),
    ];
    lists.into_iter().find(|(list, _)| *list == TypeId::of::<U>()).map(|(_, max)| max)
}

/// Whether an encoded message has more fields than that, those within its fields not counted. Damage is left to the decoder.
fn has_more_fields(mut message: &[u8], fields_max: usize) -> bool {
    let mut fields = 0;
    // Each takes two bytes at least.
    if message.len() <= 2 * fields_max {
        return false;
    }
    while let Ok(key) = decode_varint(&mut message) {
        fields += 1;
        let skipped = match key & 7 {
            0 => decode_varint(&mut message).map_or(usize::MAX, |_| 0),
            1 => 8,
            2 => decode_varint(&mut message).map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            // Groups have fields of their own, which count as those of the message.
            3 | 4 => 0,
            5 => 4,
            _ => return false,
        };
        if fields > fields_max {
            return true;
        }
        let Some(rest) = message.get(skipped..) else { return false };
        message = rest;
    }
    false
}

impl<U: Message + Default + 'static> Decoder for ProtobufDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // No copy: the message's bytes become a buffer of their own, and its values are slices of that.
        let message = buffer.copy_to_bytes(buffer.remaining());
        if let Some(fields_max) = fields_max::<U>()
            && has_more_fields(&message, fields_max)
        {
            let text = format!("the message has more than {fields_max} parts: send fewer in one call");
            return Err(Status::out_of_range(text));
        }
        U::decode(message).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(DECODE_BUFFER_BYTES, FRAME_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted_before_they_are_decoded() {
        let of = |count: usize| api::BatchGetRequest { keys: vec![String::new(); count], ..Default::default() };
        for (count, is_more) in [(0, false), (1_000, false), (FIELDS_MAX, false), (FIELDS_MAX + 1, true)] {
            assert_eq!(has_more_fields(&of(count).encode_to_vec(), FIELDS_MAX), is_more, "{count}");
        }
        let keys = vec!["k".repeat(1 << 20); 16];
        let long = api::BatchGetRequest { keys, ..Default::default() }.encode_to_vec();
        assert!(!has_more_fields(&long, FIELDS_MAX), "fields count, and not bytes");
        // Each kind of field is passed over: a number, 8 bytes, bytes, a group, 4 bytes.
        let kinds = [
            &[0x08, 0x80, 0x01][..],
            &[0x09, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x12, 1, 9],
            &[0x1b, 0x1c],
            &[0x0d, 1, 2, 3, 4],
        ];
        let all = kinds.concat();
        assert!(has_more_fields(&all, 5) && !has_more_fields(&all, 6));
        for damaged in
            [&[0x12, 200, 1, 9, 9, 9][..], &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &[0x0e; 9]]
        {
            assert!(!has_more_fields(damaged, 1), "{damaged:?}");
        }
        assert_eq!(fields_max::<api::PeerBatch>(), Some(PEER_FIELDS_MAX));
        assert_eq!(fields_max::<api::SetRequest>(), None);
    }
}
