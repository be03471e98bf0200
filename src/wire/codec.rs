//! The codec of every gRPC message: protobuf, with the buffers that suit small messages as well as large ones.
//!
//! The codec of tonic-prost writes each byte of a field's head through a buffer that may have to grow, begins with 8 KiB,
//! and doubles. So small messages cost several times the instructions that they need, and an answer with a large value
//! takes twice its size in memory.

use std::marker::PhantomData;

use bytes::{Buf, BufMut};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

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

impl<U: Message + Default> Decoder for ProtobufDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // No copy: the message's bytes become a buffer of their own, and its values are slices of that.
        let message = buffer.copy_to_bytes(buffer.remaining());
        U::decode(message).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(DECODE_BUFFER_BYTES, FRAME_BYTES)
    }
}
