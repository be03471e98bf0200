//! What api/api.proto says, as Rust: generated at build time, documented in that file.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("api");

/// The compiled api.proto with its comments, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.descriptors.bin"));

/// A generated client or server with the largest message that it takes and gives, `MESSAGE_BYTES_MAX` unless another one
/// is named. The default of gRPC is 4 MiB.
macro_rules! sized {
    ($service:expr) => {
        $crate::api::sized!($service, $crate::limits::MESSAGE_BYTES_MAX)
    };
    ($service:expr, $bytes_max:expr) => {
        $service.max_decoding_message_size($bytes_max).max_encoding_message_size($bytes_max)
    };
}
pub(crate) use sized;
