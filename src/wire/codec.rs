//! The codec of every gRPC message: protobuf, in a buffer of the message's own size.
//!
//! The codec of tonic-prost begins with 8 KiB, and doubles the buffer when a message does not fit. An answer with a large
//! value then takes twice its size in memory, and a small one fifty times its size.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// The bytes of an encoder's first buffer: those of most messages without a value, with the five bytes before each.
const ENCODE_BUFFER_BYTES: usize = 128;
/// The bytes of a decoder's first buffer: a request with a small value.
const DECODE_BUFFER_BYTES: usize = 2 << 10;
/// Messages of one stream that are ready together leave in frames of about so many bytes: tonic's own default.
const FRAME_BYTES: usize = 32 << 10;

/// Encodes `T` and decodes `U`.
#[derive(Clone, Copy, Debug)]
pub struct ProtobufCodec<T, U>(PhantomData<(T, U)>);

/// Encodes `T` into a buffer of its size.
#[derive(Clone, Copy, Debug)]
pub struct ProtobufEncoder<T>(PhantomData<T>);

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
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProtobufEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(DECODE_BUFFER_BYTES, FRAME_BYTES))
    }
}

impl<T: Message> Encoder for ProtobufEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ENCODE_BUFFER_BYTES, FRAME_BYTES)
    }
}
