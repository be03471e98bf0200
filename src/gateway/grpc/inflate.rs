//! The bodies of requests that are compressed with gzip.
//!
//! Contract: the message behind this body is not compressed any more. It is decompressed slice by slice, and after each slice the
//! other requests of the node have their turn: a message of some kilobytes may become tens of megabytes, or take long and become
//! nothing. The library would decompress all of it at once, and nobody else is served meanwhile.
//!
//! The length that gRPC wants before a message is that which gzip has at its end. The message is refused where it is another one.
//!
//! Source: RFC 1952; and gRPC over HTTP/2, its length-prefixed messages and its header `grpc-encoding`.

use std::io::{Error, ErrorKind, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::write::GzDecoder;
use http_body::{Body, Frame};
use tonic::Status;
use tonic::codegen::http::{HeaderMap, HeaderName};

use crate::limits::{GZIP_RATIO_MAX, MESSAGE_BYTES_MAX};

/// gRPC's header for how messages are compressed.
static ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The bytes before a message: the flag of compression, and the length in four bytes.
const HEAD_BYTES: usize = 5;
/// So many bytes go into the decompressor at once, at least and at most. It makes at most 1,032 times as many of them.
const STEP_BYTES: (usize, usize) = (32, 256);
/// A slice ends once it has so many bytes.
const SLICE_BYTES: usize = 16 << 10;
/// It ends after so long too, whatever it has.
const SLICE_TIME: Duration = Duration::from_micros(100);

/// Whether a request's messages are compressed with gzip. If so, its headers do not say it any more.
pub(super) fn is_compressed(headers: &mut HeaderMap) -> bool {
    let is_gzip = headers.get(&ENCODING).is_some_and(|encoding| encoding == "gzip");
    if is_gzip {
        headers.remove(&ENCODING);
    }
    is_gzip
}

/// A request's body, whose message is decompressed as it is read.
pub(super) struct Inflated<B> {
    body: B,
    /// What has arrived of a message that is not whole.
    arrived: BytesMut,
    message: Message,
}

/// The message of a body: a request has one.
enum Message {
    Arrives,
    Inflates(Box<Inflating>),
    /// It is not compressed, or the library refuses it.
    PassesOn,
}

/// A message that is whole.
struct Inflating {
    decoder: GzDecoder<Vec<u8>>,
    compressed: Bytes,
    /// How many of them go into it next.
    step: usize,
    /// The bytes that must still come.
    due: usize,
    /// Whether others have had their turn since the last slice.
    has_rested: bool,
}

impl<B> Inflated<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, arrived: BytesMut::new(), message: Message::Arrives }
    }

    /// What has arrived, for the library: it refuses a message that is too long, or is not all there.
    fn pass_on(&mut self) -> Bytes {
        self.message = Message::PassesOn;
        // It does not know any more that messages may be compressed.
        if self.arrived.first() == Some(&1) {
            self.arrived[0] = 0;
        }
        self.arrived.split().freeze()
    }

    /// Goes on with what has arrived. What can be passed on, if there is anything.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some([flag, length @ ..]) = self.arrived.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if *flag != 1 || length > MESSAGE_BYTES_MAX {
            return Ok(Some(self.pass_on()));
        }
        if self.arrived.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.arrived.advance(HEAD_BYTES);
        let inflating = Box::new(Inflating::new(self.arrived.split_to(length).freeze())?);
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        head.extend_from_slice(&[0]);
        head.extend_from_slice(&u32::try_from(inflating.due).unwrap_or(u32::MAX).to_be_bytes());
        self.message = Message::Inflates(inflating);
        Ok(Some(head.freeze()))
    }
}

impl Inflating {
    fn new(compressed: Bytes) -> Result<Self, Status> {
        let Some((_, length)) = compressed.split_last_chunk() else {
            return Err(refused("it is too short"));
        };
        let due = u32::from_le_bytes(*length) as usize;
        if due > MESSAGE_BYTES_MAX {
            return Err(Status::out_of_range(format!(
                "the message has {due} bytes once it is decompressed: at most {MESSAGE_BYTES_MAX} are accepted"
            )));
        }
        if due > compressed.len().saturating_mul(GZIP_RATIO_MAX) {
            return Err(refused("it cannot become as long as it says"));
        }
        let decoder = GzDecoder::new(Vec::with_capacity(SLICE_BYTES.min(due)));
        Ok(Self { decoder, compressed, step: STEP_BYTES.0, due, has_rested: false })
    }

    /// The next slice, which may be empty; nothing at the end of the message.
    fn slice(&mut self) -> Result<Option<Bytes>, Status> {
        if self.compressed.is_empty() && self.due == 0 {
            return Ok(None);
        }
        let began = Instant::now();
        let failed = |error: Error| match error.kind() {
            ErrorKind::WriteZero => refused("bytes follow after its end"),
            _ => refused(&error.to_string()),
        };
        while self.decoder.get_ref().len() < SLICE_BYTES && !self.compressed.is_empty() && began.elapsed() < SLICE_TIME
        {
            let before = self.decoder.get_ref().len();
            let step = self.compressed.split_to(self.step.min(self.compressed.len()));
            self.decoder.write_all(&step).map_err(failed)?;
            // Each step costs something by itself, and one of many bytes may become very many.
            let becomes_much = self.decoder.get_ref().len() - before >= SLICE_BYTES / 2;
            self.step = if becomes_much { STEP_BYTES.0 } else { (2 * self.step).min(STEP_BYTES.1) };
        }
        if self.compressed.is_empty() {
            self.decoder.try_finish().map_err(failed)?;
        }
        let slice = std::mem::take(self.decoder.get_mut());
        self.due = self.due.checked_sub(slice.len()).ok_or_else(|| refused("it is longer than it says"))?;
        if self.compressed.is_empty() && self.due > 0 {
            return Err(refused("it is shorter than it says"));
        }
        Ok(Some(slice.into()))
    }
}

fn refused(why: &str) -> Status {
    // The library's code for a message that does not decode.
    Status::internal(format!("the message cannot be decompressed: {why}"))
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Body for Inflated<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            match &mut this.message {
                Message::PassesOn => return Pin::new(&mut this.body).poll_frame(context),
                Message::Inflates(inflating) => {
                    if !std::mem::replace(&mut inflating.has_rested, false) {
                        inflating.has_rested = true;
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    match inflating.slice()? {
                        Some(slice) if slice.is_empty() => {}
                        Some(slice) => return Poll::Ready(Some(Ok(Frame::data(slice)))),
                        None => {
                            this.message = Message::PassesOn;
                            if !this.arrived.is_empty() {
                                return Poll::Ready(Some(Ok(Frame::data(this.arrived.split().freeze()))));
                            }
                        }
                    }
                }
                Message::Arrives => {
                    if let Some(taken) = this.take()? {
                        return Poll::Ready(Some(Ok(Frame::data(taken))));
                    }
                    match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(data) => this.arrived.extend_from_slice(&data),
                            Err(frame) => return Poll::Ready(Some(Ok(frame))),
                        },
                        None if !this.arrived.is_empty() => {
                            return Poll::Ready(Some(Ok(Frame::data(this.pass_on()))));
                        }
                        end => return Poll::Ready(end),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    }

    /// What is read where `body` arrives in pieces, and how often others had their turn.
    async fn read(body: &[u8], piece: usize) -> (Result<Vec<u8>, Status>, usize) {
        let pieces: Vec<_> = body.chunks(piece).map(|piece| Ok::<_, Status>(Bytes::copy_from_slice(piece))).collect();
        let body = axum::body::Body::from_stream(futures_util::stream::iter(pieces));
        let mut inflated = Inflated::new(tonic::body::Body::new(body));
        let (mut all, mut turns) = (Vec::new(), 0);
        loop {
            let polled = std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut inflated).poll_frame(context))).await;
            match polled {
                Poll::Pending => turns += 1,
                Poll::Ready(Some(Ok(frame))) => all.extend_from_slice(&frame.into_data().unwrap()),
                Poll::Ready(Some(Err(status))) => return (Err(status), turns),
                Poll::Ready(None) => return (Ok(all), turns),
            }
        }
    }

    #[tokio::test]
    async fn message_is_decompressed_in_slices() {
        let noise: Vec<u8> =
            (0..300_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for message in [&b""[..], b"short", &noise, &vec![0; 10 << 20]] {
            let body = framed(1, &packed(message));
            for piece in [1.max(body.len() / 1_000), 7, body.len()] {
                let (all, turns) = read(&body, piece).await;
                assert!(all.unwrap() == framed(0, message), "{} bytes in pieces of {piece}", message.len());
                assert!(turns >= message.len() / (8 * SLICE_BYTES), "{turns} turns");
            }
        }
    }

    #[tokio::test]
    async fn other_messages_pass_as_they_are() {
        for body in [framed(0, b"plain"), framed(2, b"unknown"), vec![]] {
            assert_eq!(read(&body, 3).await.0.unwrap(), body);
        }
        // The library refuses their length: it does not know that they were compressed.
        for body in [vec![1, 0xff, 0, 0, 0, 7], framed(1, b"cut")[..7].to_vec()] {
            let passed = read(&body, 3).await.0.unwrap();
            assert_eq!((passed[0], &passed[1..]), (0, &body[1..]));
        }
        let two = [framed(1, &packed(b"one")), framed(1, b"another")].concat();
        let passed = read(&two, two.len()).await.0.unwrap();
        assert_eq!(passed, [framed(0, b"one"), framed(1, b"another")].concat());
    }

    #[tokio::test]
    async fn message_that_becomes_nothing_gives_others_their_turn() {
        // Empty blocks with the code that deflate has built in, of ten bits each. Then a last one.
        let mut bits = Vec::new();
        for block in 0..=400_000 {
            bits.extend([block == 400_000, true, false].into_iter().chain([false; 7]));
        }
        let deflated = bits.chunks(8).map(|byte| byte.iter().rev().fold(0_u8, |all, bit| (all << 1) | u8::from(*bit)));
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        let message: Vec<u8> = header.into_iter().chain(deflated).chain([0; 8]).collect();
        let (all, turns) = read(&framed(1, &message), message.len()).await;
        assert_eq!(all.unwrap(), framed(0, b""));
        assert!(turns >= 20, "{turns} turns");
    }

    #[tokio::test]
    async fn damaged_message_is_refused() {
        let whole = packed(&vec![7; 100_000]);
        let changed = |at: usize, bits: u8| {
            let mut message = whole.clone();
            message[at] ^= bits;
            message
        };
        let length = whole.len() - 4;
        for (message, part) in [
            (b"abc".to_vec(), "too short"),
            (changed(0, 1), "header"),
            (changed(length / 2, 0xff), ""),
            (changed(length - 1, 1), "checksum"),
            (changed(length, 1), ""),
            (changed(length + 2, 0xf0), "cannot become as long"),
            (changed(length + 3, 0x7f), "bytes once it is decompressed"),
            (whole[..whole.len() - 1].to_vec(), ""),
            ([&whole[..], &whole[..]].concat(), "bytes follow after its end"),
        ] {
            let status = read(&framed(1, &message), 100).await.0.unwrap_err();
            assert!(status.message().contains(part), "{part}: {status}");
        }
    }

    #[test]
    fn header_of_gzip_alone_is_taken() {
        for (encoding, is_gzip) in [("gzip", true), ("deflate", false), ("identity", false)] {
            let mut headers = HeaderMap::from_iter([(ENCODING.clone(), encoding.parse().unwrap())]);
            assert_eq!(is_compressed(&mut headers), is_gzip);
            assert_eq!(headers.is_empty(), is_gzip);
        }
    }
}
