//! The bodies of requests and responses as they pass: requests are counted against the buffer budget, and responses end
//! the observation of their request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::codegen::http::{self, HeaderMap};
use tonic::{Code, Status, body};

use super::refusal::STATUS;
use crate::limits::{ARRIVAL_PAUSE_MAX, ARRIVAL_TIME_MAX, GZIP_RATIO_MAX, MESSAGE_BYTES_MAX};
use crate::service::buffer_budget::{BudgetGuard, OpenRequest};
use crate::service::error::{late_to_read, no_room_to_read};
use crate::service::request_metrics::{Observation, Outcome};

/// A request's body, counted while it is read. It must arrive in time, and go on arriving.
pub(super) struct Counted {
    body: body::Body,
    guard: BudgetGuard,
    message: Message,
    /// When the rest must be there, once it was waited for.
    arrives: Option<Arrival>,
}

/// The times of a body that does not come at once.
struct Arrival {
    ends_at: Instant,
    pause: Pin<Box<Sleep>>,
}

/// As much as must be known of the first message of a body: what it takes.
#[derive(Default)]
struct Message {
    /// The flag of compression, and the length in four bytes.
    head: [u8; MESSAGE_HEAD_BYTES],
    read: usize,
    /// The bytes that have counted.
    counted: usize,
}

/// The bytes before a message.
const MESSAGE_HEAD_BYTES: usize = 5;

impl Message {
    /// Reads on. How many more bytes count now: those that the head claims, because the decoder takes memory for them at once, and
    /// those that come beyond them. Once a compressed message is there, the most that it becomes counts too.
    fn read(&mut self, data: &[u8]) -> usize {
        let before = self.read;
        if let Some(missing) = self.head.get_mut(before..) {
            let part = missing.len().min(data.len());
            missing[..part].copy_from_slice(&data[..part]);
        }
        self.read += data.len();
        let [flag, length @ ..] = self.head;
        let length = u32::from_be_bytes(length) as usize;
        let ends = MESSAGE_HEAD_BYTES + length;
        let has_head = self.read >= MESSAGE_HEAD_BYTES;
        // A message that claims more than may be sent is refused by the decoder.
        let claimed = if has_head && ends <= MESSAGE_HEAD_BYTES + MESSAGE_BYTES_MAX { ends } else { 0 };
        let more = self.read.max(claimed).saturating_sub(self.counted);
        self.counted += more;
        let is_there = before < ends && self.read >= ends && has_head;
        let decompressed = length.saturating_mul(GZIP_RATIO_MAX).min(MESSAGE_BYTES_MAX);
        if flag != 0 && is_there { more.saturating_add(decompressed) } else { more }
    }
}

impl Counted {
    pub(super) fn new(body: body::Body, guard: BudgetGuard) -> Self {
        Self { body, guard, message: Message::default(), arrives: None }
    }

    /// The end of a body that has not arrived in time.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let arrival = self.arrives.get_or_insert_with(|| {
            let now = Instant::now();
            let pause = Box::pin(tokio::time::sleep_until((now + ARRIVAL_PAUSE_MAX).into()));
            Arrival { ends_at: now + ARRIVAL_TIME_MAX, pause }
        });
        arrival.pause.as_mut().poll(context).map(|()| late_to_read().into())
    }

    /// Some of it has arrived: it may pause again.
    fn go_on(&mut self) {
        let Some(arrival) = &mut self.arrives else { return };
        let until = (Instant::now() + ARRIVAL_PAUSE_MAX).min(arrival.ends_at);
        arrival.pause.as_mut().reset(until.into());
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() {
            return self.poll_late(context).map(|late| Some(Err(late)));
        }
        self.go_on();
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let more = self.message.read(data);
            if !self.guard.grow(more) {
                return Poll::Ready(Some(Err(no_room_to_read().into())));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body, observed to its end.
pub(crate) struct Observed {
    body: body::Body,
    observation: Option<Observation>,
    /// Its part of the buffer budget. Its frames hold it, until the transport has sent or dropped them.
    open: Option<Arc<OpenRequest>>,
}

/// The guard of an answer, among what goes with it.
type OfAnswer = Arc<Mutex<Option<BudgetGuard>>>;

/// What goes with an answer, so that it keeps its guard.
pub(super) fn guard_of_answer(guard: BudgetGuard) -> OfAnswer {
    Arc::new(Mutex::new(Some(guard)))
}

/// Observes `response` until its last byte is handed to the transport. Until it has left, it holds the guard of its request.
pub(super) fn observed(
    mut response: http::Response<body::Body>,
    mut observation: Option<Observation>,
    request: Option<BudgetGuard>,
) -> http::Response<Observed> {
    // A failure without a body has its status in the head.
    if let Some(observation) = &mut observation
        && response.headers().contains_key(&STATUS)
    {
        end_with(observation, response.headers());
    }
    let answer = response.extensions_mut().remove::<OfAnswer>();
    let answer = answer.and_then(|guard| guard.lock().unwrap_or_else(PoisonError::into_inner).take());
    let open = request.map(|request| OpenRequest::new(request, answer));
    response.map(|body| Observed { body, observation, open })
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(polled)), Some(observation)) = (&polled, &mut self.observation) {
            match polled {
                Ok(frame) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        end_with(observation, trailers);
                    }
                }
                Err(status) => observation.end(Outcome::new(status.code(), status.message())),
            }
        }
        let Some(open) = &self.open else { return polled };
        polled.map_ok(|frame| frame.map_data(|data| open.hold(data)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends an observation with the status in `headers`: those of a response without a body, or trailers.
fn end_with(observation: &mut Observation, headers: &HeaderMap) {
    let code = headers.get(&STATUS).map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
    let status = if code == Code::Ok { None } else { Status::from_header_map(headers) };
    observation.end(Outcome::new(code, status.as_ref().map_or("", Status::message)));
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;
    use crate::limits::BUFFERED_BYTES_MAX;
    use crate::service::buffer_budget::BufferBudget;
    use crate::wire::failure::{Failure, FailureReason};

    #[tokio::test]
    async fn request_without_room_is_told_nothing_about_its_earlier_tries() {
        let budget = BufferBudget::default();
        let mut others = budget.guard();
        assert!(others.grow(BUFFERED_BYTES_MAX));
        // A resend, perhaps: its body is not read to the flag that says so.
        let body = body::Body::new(axum::body::Body::from("a request"));
        let mut counted = Counted::new(body, budget.guard());
        let frame = std::future::poll_fn(|context| Pin::new(&mut counted).poll_frame(context)).await;
        let status = frame.expect("an answer").expect_err("there is no room");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(Failure::from_status(&status).expect("it has a reason").reason, FailureReason::NotReady);
        drop(others);
        let body = body::Body::new(axum::body::Body::from("a request"));
        let mut counted = Counted::new(body, budget.guard());
        let frame = std::future::poll_fn(|context| Pin::new(&mut counted).poll_frame(context)).await;
        assert!(frame.is_some_and(|frame| frame.is_ok()));
    }

    #[tokio::test]
    async fn frames_hold_their_part_of_the_budget_longer_than_the_body() {
        let budget = BufferBudget::default();
        let mut guard = budget.guard();
        assert!(guard.grow(BUFFERED_BYTES_MAX));
        let mut response = http::Response::new(body::Body::new(axum::body::Body::from("value")));
        response.extensions_mut().insert(guard_of_answer(guard));
        let mut response = observed(response, None, Some(budget.guard()));
        let frame = std::future::poll_fn(|context| Pin::new(response.body_mut()).poll_frame(context)).await;
        let data = frame.expect("a frame").expect("no failure").into_data().expect("data");
        drop(response);
        assert_eq!(data, "value");
        assert!(!budget.guard().grow(1), "the transport still holds the frame");
        drop(data);
        assert!(budget.guard().grow(1));
    }

    /// What the budget has left beside `body`, after its frames were read one by one.
    async fn fits_beside(frames: &[&[u8]], beside: usize) -> bool {
        let budget = BufferBudget::default();
        let data: Vec<_> = frames.iter().map(|frame| Ok::<_, Status>(Bytes::copy_from_slice(frame))).collect();
        let body = axum::body::Body::from_stream(futures_util::stream::iter(data));
        let mut counted = Counted::new(body::Body::new(body), budget.guard());
        for frame in frames.iter().filter(|frame| !frame.is_empty()) {
            let read = std::future::poll_fn(|context| Pin::new(&mut counted).poll_frame(context)).await;
            assert_eq!(read.unwrap().unwrap().into_data().unwrap(), *frame);
        }
        budget.guard().grow(beside)
    }

    #[tokio::test]
    async fn compressed_message_counts_for_all_that_it_can_become() {
        let all = BUFFERED_BYTES_MAX;
        for frames in [&[&b"\x01\0\0\0\x02ab"[..]][..], &[b"\x01\0\0", b"\0\x02a", b"b"]] {
            assert!(fits_beside(frames, all - 7 - 2 * GZIP_RATIO_MAX).await, "{frames:?}");
            assert!(!fits_beside(frames, all - 7 - 2 * GZIP_RATIO_MAX + 1).await, "{frames:?}");
        }
        let large = [&b"\x01\0\x02\0\0"[..], &vec![0; 2 << 16]].concat();
        assert!(fits_beside(&[&large], all - large.len() - MESSAGE_BYTES_MAX).await);
        assert!(!fits_beside(&[&large], all - large.len() - MESSAGE_BYTES_MAX + 1).await);
        // What is not compressed counts as it is, and so does what is not all there.
        assert!(fits_beside(&[b"\0\0\0\0\x02ab"], all - 7).await);
        assert!(fits_beside(&[b"\x01\0\0\0\x03ab"], all - 8).await);
        assert!(!fits_beside(&[b"\x01\0\0\0\x03ab"], all - 7).await);
    }

    #[tokio::test]
    async fn message_counts_for_what_it_claims_once() {
        let all = BUFFERED_BYTES_MAX;
        let whole = [&b"\0\0\x01\0\0"[..], &vec![7; 1 << 16]].concat();
        for frames in [&[&whole[..5]][..], &[&whole[..3], &whole[3..9]], &[&whole], &[&whole[..5], &whole[5..]]] {
            assert!(fits_beside(frames, all - whole.len()).await);
            assert!(!fits_beside(frames, all - whole.len() + 1).await);
        }
        // What comes beyond it counts too.
        assert!(!fits_beside(&[&whole, b"beyond"], all - whole.len() - 5).await);
        // Before the head is there, what has arrived counts, and so it does where the decoder refuses what is claimed.
        for frame in [&b"\0\xff\xff"[..], b"\0\xff\xff\xff\xffab"] {
            assert!(fits_beside(&[frame], all - frame.len()).await);
            assert!(!fits_beside(&[frame], all - frame.len() + 1).await);
        }
    }

    #[tokio::test]
    async fn body_that_pauses_is_given_up() {
        let budget = BufferBudget::default();
        let first = futures_util::stream::iter([Ok::<_, Status>(Bytes::from_static(b"\0\0"))]);
        let frames = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        let mut counted = Counted::new(body::Body::new(axum::body::Body::from_stream(frames)), budget.guard());
        let read = std::future::poll_fn(|context| Pin::new(&mut counted).poll_frame(context)).await;
        assert!(read.is_some_and(|read| read.is_ok()));
        let waiting =
            std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut counted).poll_frame(context).is_pending()));
        assert!(waiting.await);
        let arrival = counted.arrives.as_mut().expect("it is waited for");
        let left = arrival.pause.deadline().saturating_duration_since(tokio::time::Instant::now());
        assert!(left <= ARRIVAL_PAUSE_MAX && left > ARRIVAL_PAUSE_MAX / 2, "{left:?}");
        // The time is over.
        arrival.pause.as_mut().reset(tokio::time::Instant::now());
        let read = std::future::poll_fn(|context| Pin::new(&mut counted).poll_frame(context)).await;
        let status = read.expect("an end").expect_err("it is late");
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("arrive"), "{status}");
    }
}
