//! What waits to be sent on one stream, and how it is packed.
//!
//! A message with a large value is sent a piece at a time, one piece after each batch of what else waits: so small messages
//! do not wait for all of it. Large ones follow each other in the order in which they were sent, and so do the small ones.
//!
//! Only a few pieces are sent ahead of what the peer says it has taken ([`SendWindow`]): gRPC and the system would buffer
//! megabytes of them, and what comes after would wait behind these.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures_util::Stream;

use crate::api;
use crate::limits::{LINK_BATCH_BYTES, LINK_PIECE_BYTES, LINK_QUEUE_BYTES_MAX, LINK_RESERVE_BYTES};
use crate::metrics::Metrics;
use crate::protocol::Message;
use crate::types::Incarnation;
use crate::wire::chunks::Pieces;

use super::send_window::SendWindow;

/// What waits to be sent on one stream.
///
/// Bounded in bytes: beyond [`LINK_QUEUE_BYTES_MAX`] messages are dropped, as a network would.
#[derive(Debug)]
pub struct Outbox {
    from: Incarnation,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    small: VecDeque<(Option<Incarnation>, Message)>,
    large: VecDeque<(Option<Incarnation>, Message)>,
    /// What is left of the large message that is under way.
    pieces: Option<(Option<Incarnation>, Pieces)>,
    credit: SendWindow,
    /// Pieces of the peer that it is yet to be told of.
    taken: u32,
    /// Of all of them, about.
    bytes: usize,
    /// Nobody reads any more, or not yet: what is sent is dropped.
    closed: bool,
    /// Which stream reads: one that was opened earlier ends, however late it is asked.
    stream: u64,
    reader: Option<Waker>,
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It waits for the stream.
    Queued,
    /// The stream is closed.
    Closed,
    /// Too much waits already.
    Full,
}

impl Outbox {
    /// An outbox for messages of this run, that nobody reads yet.
    #[must_use]
    pub fn new(from: Incarnation, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { from, metrics, queue: Mutex::new(Queue { closed: true, ..Queue::default() }) })
    }

    /// Sends `message` to the run `to`. Never waits.
    pub fn send(&self, to: Option<Incarnation>, message: Message) -> Sent {
        let bytes = bytes_of(&message);
        let is_large = value_bytes(&message) > LINK_PIECE_BYTES;
        // One message always fits: the largest is less than half of what may wait.
        let reserve = if is_large { LINK_RESERVE_BYTES } else { 0 };
        let mut queue = self.lock();
        if queue.closed {
            return Sent::Closed;
        }
        if queue.bytes + bytes + reserve > LINK_QUEUE_BYTES_MAX {
            return Sent::Full;
        }
        queue.bytes += bytes;
        let line = if is_large { &mut queue.large } else { &mut queue.small };
        line.push_back((to, message));
        wake_reader(queue);
        Sent::Queued
    }

    /// This node has taken a piece that came on this stream's link: tells the peer.
    pub fn acknowledge_piece(&self) {
        let mut queue = self.lock();
        queue.taken = queue.taken.saturating_add(1);
        wake_reader(queue);
    }

    /// The peer has taken so many pieces.
    pub fn pieces_taken(&self, count: u32) {
        if count == 0 {
            return;
        }
        let mut queue = self.lock();
        queue.credit.taken(count, Instant::now());
        wake_reader(queue);
    }

    /// What waits, in bytes, about.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Begins a stream of what is sent from now on. An earlier stream of this outbox ends.
    pub fn open(self: &Arc<Self>) -> OutboxStream {
        self.close();
        let mut queue = self.lock();
        queue.closed = false;
        queue.stream += 1;
        OutboxStream { outbox: Arc::clone(self), number: queue.stream }
    }

    /// Ends the stream; what waits is dropped.
    pub fn close(&self) {
        let mut queue = self.lock();
        *queue = Queue { closed: true, stream: queue.stream, reader: queue.reader.take(), ..Queue::default() };
        wake_reader(queue);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic in between leaves a queue that is merely short of a message.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the stream look again, outside the lock: it takes it at once.
fn wake_reader(mut queue: MutexGuard<'_, Queue>) {
    let reader = queue.reader.take();
    drop(queue);
    if let Some(reader) = reader {
        reader.wake();
    }
}

/// The messages of an [`Outbox`], as many in each batch as wait when it is asked for.
#[derive(Debug)]
pub struct OutboxStream {
    outbox: Arc<Outbox>,
    number: u64,
}

impl Stream for OutboxStream {
    type Item = api::PeerBatch;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<api::PeerBatch>> {
        let contents = {
            let mut queue = self.outbox.lock();
            if queue.closed || queue.stream != self.number {
                return Poll::Ready(None);
            }
            let Some(contents) = queue.take() else {
                queue.reader = Some(context.waker().clone());
                return Poll::Pending;
            };
            contents
        };
        // Encoded outside the lock: whoever sends meanwhile does not wait for it.
        let Contents { to, messages, piece, pieces_taken } = contents;
        let metrics = &self.outbox.metrics;
        metrics.link_batches.inc();
        let begins = piece.as_ref().is_some_and(|piece| piece.message.is_some());
        metrics.link_messages.inc_by(messages.len() as u64 + u64::from(begins));
        Poll::Ready(Some(api::PeerBatch {
            from: Some(self.outbox.from.into()),
            to: to.map(Into::into),
            messages: messages.into_iter().map(Into::into).collect(),
            piece,
            pieces_taken,
        }))
    }
}

/// What goes into one batch.
struct Contents {
    to: Option<Incarnation>,
    messages: Vec<Message>,
    piece: Option<api::PeerPiece>,
    pieces_taken: u32,
}

impl Queue {
    /// Takes the small messages for the first one's receiver, up to about [`LINK_BATCH_BYTES`], and a piece for it too.
    /// `None` where there is nothing that may be sent.
    fn take(&mut self) -> Option<Contents> {
        if self.pieces.is_none()
            && let Some((to, message)) = self.large.pop_front()
        {
            self.bytes -= bytes_of(&message) - value_bytes(&message);
            self.pieces = Some((to, Pieces::of(message)));
        }
        let piece_to = self.pieces.as_ref().filter(|_| self.credit.is_left()).map(|(to, _)| *to);
        let to = match self.small.front().map(|(to, _)| *to).or(piece_to) {
            Some(to) => to,
            // Means the link, whichever run the peer has.
            None if self.taken > 0 => None,
            None => return None,
        };
        let (mut bytes, mut messages) = (0, Vec::new());
        while let Some((next_to, next)) = self.small.front()
            && *next_to == to
            && (messages.is_empty() || bytes + bytes_of(next) <= LINK_BATCH_BYTES)
        {
            bytes += bytes_of(next);
            messages.extend(self.small.pop_front().map(|(_, message)| message));
        }
        self.bytes -= bytes;
        // One for another run waits until nothing is left for this one: a peer has one run at a time, so that what is
        // meant for another is of no use.
        let piece = if piece_to == Some(to) { self.take_piece() } else { None };
        Some(Contents { to, messages, piece, pieces_taken: std::mem::take(&mut self.taken) })
    }

    fn take_piece(&mut self) -> Option<api::PeerPiece> {
        let (_, pieces) = self.pieces.as_mut()?;
        let piece = pieces.next()?;
        self.bytes -= piece.part.len();
        self.credit.sent(Instant::now());
        if pieces.is_empty() {
            self.pieces = None;
        }
        Some(piece)
    }
}

/// What a message takes, in bytes, about.
fn bytes_of(message: &Message) -> usize {
    // Ids, stamps and framing.
    const OVERHEAD: usize = 100;
    // Of a run that a hello names.
    const LIFE: usize = 22;
    let introduction = match message {
        Message::Hello(hello) | Message::Welcome(hello) => {
            let ids = hello.parameters.node_ids.iter().map(|id| id.as_str().len() + 2);
            ids.sum::<usize>() + hello.earlier_incarnations.len() * LIFE
        }
        Message::HelloRefused { .. } | Message::Request { .. } | Message::Answer { .. } => 0,
    };
    OVERHEAD + introduction + message.size()
}

fn value_bytes(message: &Message) -> usize {
    message.payload().map_or(0, |record| record.content.value_bytes())
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};
    use proptest::prelude::*;

    use prost::Message as _;

    use super::*;
    use crate::limits::{
        INCARNATIONS_NAMED_MAX, LINK_MESSAGE_BYTES_MAX, LINK_PIECES_UNDER_WAY_MIN, NODES_MAX, REPLICA_COUNT_MAX,
        VALUE_BYTES_MAX,
    };
    use crate::protocol::{Answer, Hello, OperationId, Request};
    use crate::types::{
        Checksum, Clock, ClusterParameters, Content, Digest, KEY_BYTES_MAX, Key, Lookup, NODE_ID_BYTES_MAX, NodeId,
        ReadKind, Record, Stamp, StoreId, Value,
    };
    use crate::wire::chunks::Assembly;

    const ME: Incarnation = Incarnation { epoch: 1, nonce: 1 };
    const PEER: Incarnation = Incarnation { epoch: 1, nonce: 2 };

    fn store(operation: u64, bytes: usize) -> Message {
        let (key, content) = (Key::new("k").unwrap(), Content::Value(Value::Binary(vec![7; bytes].into())));
        let stamp = Stamp { clock: Clock { epoch: 1, counter: operation }, writer: NodeId::new("1").unwrap() };
        let record = Record { stamp, checksum: Checksum::of(&key, &content), content };
        Message::Request { operation: OperationId(operation), round: 1, request: Request::Store { key, record } }
    }

    /// The next batch, if one waits.
    fn next(stream: &mut OutboxStream) -> Option<api::PeerBatch> {
        stream.next().now_or_never().map(|batch| batch.expect("it is open"))
    }

    /// The messages that a batch completes for its receiver, which acknowledges the piece.
    fn completed(outbox: &Outbox, assembly: &mut Assembly, batch: api::PeerBatch) -> Vec<Message> {
        outbox.pieces_taken(u32::from(batch.piece.is_some()));
        let piece = batch.piece.and_then(|piece| assembly.take(piece).expect("it is the next one"));
        batch.messages.into_iter().chain(piece).map(|message| Message::try_from(message).expect("valid")).collect()
    }

    #[test]
    fn small_messages_overtake_a_large_value() {
        let outbox = Outbox::new(ME, Arc::default());
        let (mut stream, mut assembly) = (outbox.open(), Assembly::default());
        let large = store(0, 20 * LINK_PIECE_BYTES);
        assert_eq!(outbox.send(Some(PEER), large.clone()), Sent::Queued);
        for operation in 1..20 {
            let small = store(operation, 10);
            outbox.send(Some(PEER), small.clone());
            let batch = next(&mut stream).expect("one waits");
            assert_eq!(completed(&outbox, &mut assembly, batch), [small], "it waits for one piece at most");
        }
        assert_eq!(completed(&outbox, &mut assembly, next(&mut stream).expect("the last piece")), [large]);
        assert_eq!(next(&mut stream), None);
        assert_eq!(outbox.queued_bytes(), 0);
    }

    #[test]
    fn few_pieces_are_under_way_that_were_not_taken() {
        let outbox = Outbox::new(ME, Arc::default());
        let mut stream = outbox.open();
        outbox.send(Some(PEER), store(1, (LINK_PIECES_UNDER_WAY_MIN + 1) * LINK_PIECE_BYTES));
        let pieces = |stream: &mut OutboxStream| std::iter::from_fn(|| next(stream)).count();
        assert_eq!(pieces(&mut stream), LINK_PIECES_UNDER_WAY_MIN);
        outbox.send(Some(PEER), store(2, 10));
        let batch = next(&mut stream).expect("what is small does not wait");
        assert_eq!((batch.messages.len(), batch.piece), (1, None));
        outbox.pieces_taken(1);
        assert_eq!(pieces(&mut stream), 1);
    }

    #[tokio::test]
    async fn stream_that_waits_is_woken_by_all_that_lets_it_go_on() {
        let wakers: [fn(&Outbox); 3] = [
            |outbox| assert_eq!(outbox.send(Some(PEER), store(2, 10)), Sent::Queued),
            |outbox| outbox.pieces_taken(1),
            Outbox::acknowledge_piece,
        ];
        for wake in wakers {
            let outbox = Outbox::new(ME, Arc::default());
            let mut stream = outbox.open();
            outbox.send(Some(PEER), store(1, (LINK_PIECES_UNDER_WAY_MIN + 1) * LINK_PIECE_BYTES));
            while next(&mut stream).is_some() {}
            let waiting = tokio::spawn(async move { stream.next().await });
            tokio::task::yield_now().await;
            wake(&outbox);
            assert!(waiting.await.expect("no panic").is_some());
        }
    }

    #[test]
    fn backlog_of_large_values_leaves_room_for_small_messages() {
        let outbox = Outbox::new(ME, Arc::default());
        let _stream = outbox.open();
        let largest = store(0, VALUE_BYTES_MAX);
        let fit = (0..9).take_while(|_| outbox.send(Some(PEER), largest.clone()) == Sent::Queued).count();
        assert_eq!(fit, 2);
        assert_eq!(outbox.send(Some(PEER), store(1, LINK_PIECE_BYTES)), Sent::Queued);
        assert!(outbox.queued_bytes() <= LINK_QUEUE_BYTES_MAX);
    }

    #[test]
    fn no_batch_is_larger_than_a_link_takes() {
        let id = |n: usize| NodeId::new(&format!("{n:0>NODE_ID_BYTES_MAX$}")).unwrap();
        let node_ids: Vec<NodeId> = (0..NODES_MAX).map(id).collect();
        let incarnation = Incarnation { epoch: u64::MAX, nonce: u64::MAX };
        let hello = Hello {
            protocol: u32::MAX,
            node_id: node_ids[0].clone(),
            to_node_id: node_ids[1].clone(),
            parameters: ClusterParameters { seed: u32::MAX, replica_count: REPLICA_COUNT_MAX, node_ids },
            store_id: StoreId(u128::MAX),
            incarnation,
            earlier_incarnations: vec![incarnation; INCARNATIONS_NAMED_MAX].into(),
        };
        let key = || Key::new("k".repeat(KEY_BYTES_MAX)).unwrap();
        let clock = Clock { epoch: u64::MAX, counter: u64::MAX };
        let digest = |_| {
            let digest = Digest { stamp: Stamp { clock, writer: id(0) }, checksum: Checksum(u64::MAX) };
            let answer = Answer::Lookup { key: Key::new("k").unwrap(), held: Lookup::Digest(digest) };
            Message::Answer { operation: OperationId(u64::MAX), round: u32::MAX, answer }
        };
        let get = |_| {
            let request = Request::Get { key: key(), read_kind: ReadKind::Digest };
            Message::Request { operation: OperationId(u64::MAX), round: u32::MAX, request }
        };
        let worst: [Vec<Message>; 4] = [
            (0..20_000).map(digest).collect(),
            (0..1_000).map(get).collect(),
            (0..3).map(|_| Message::Welcome(hello.clone())).chain((0..100).map(digest)).collect(),
            (0..100).map(|operation| store(operation, LINK_PIECE_BYTES)).collect(),
        ];
        for messages in worst {
            let outbox = Outbox::new(ME, Arc::default());
            let mut stream = outbox.open();
            outbox.send(Some(PEER), store(1, 4 * LINK_PIECE_BYTES));
            for message in messages {
                assert_eq!(outbox.send(Some(PEER), message), Sent::Queued);
            }
            while let Some(batch) = next(&mut stream) {
                let bytes = batch.encoded_len();
                assert!(bytes <= LINK_MESSAGE_BYTES_MAX, "{bytes} bytes in {} messages", batch.messages.len());
            }
        }
    }

    #[test]
    fn peer_is_told_of_the_pieces_that_were_taken() {
        let outbox = Outbox::new(ME, Arc::default());
        let mut stream = outbox.open();
        outbox.acknowledge_piece();
        outbox.acknowledge_piece();
        let batch = next(&mut stream).expect("it is told at once");
        assert_eq!((batch.to, batch.pieces_taken), (None, 2));
        outbox.acknowledge_piece();
        outbox.send(Some(PEER), store(1, 10));
        let batch = next(&mut stream).expect("it is told with what else is said");
        assert_eq!((batch.to.map(Incarnation::from), batch.messages.len(), batch.pieces_taken), (Some(PEER), 1, 1));
        assert_eq!(next(&mut stream), None);
    }

    #[test]
    fn each_run_of_a_peer_gets_its_own_batches() {
        let outbox = Outbox::new(ME, Arc::default());
        let (mut stream, mut assembly) = (outbox.open(), Assembly::default());
        let earlier = Incarnation { epoch: 1, nonce: 1 };
        let (large, small) = (store(1, 2 * LINK_PIECE_BYTES), store(2, 10));
        outbox.send(Some(earlier), large.clone());
        outbox.send(Some(PEER), small.clone());
        let batch = next(&mut stream).expect("one waits");
        assert_eq!(batch.to.map(Incarnation::from), Some(PEER));
        assert_eq!(completed(&outbox, &mut assembly, batch), [small]);
        for expected in [vec![], vec![large]] {
            let batch = next(&mut stream).expect("one waits");
            assert_eq!(batch.to.map(Incarnation::from), Some(earlier));
            assert_eq!(completed(&outbox, &mut assembly, batch), expected);
        }
    }

    #[test]
    fn what_is_left_of_a_value_goes_with_its_stream() {
        let outbox = Outbox::new(ME, Arc::default());
        let mut stream = outbox.open();
        outbox.send(Some(PEER), store(1, 3 * LINK_PIECE_BYTES));
        assert!(next(&mut stream).is_some());
        let mut anew = outbox.open();
        assert!(stream.next().now_or_never().expect("it has ended").is_none());
        assert_eq!((next(&mut anew), outbox.queued_bytes()), (None, 0));
    }

    proptest! {
        #[test]
        fn all_messages_arrive_and_those_of_a_kind_in_order(
            // A size in sixteenths of a piece, and how many batches are taken before the next message is sent.
            sent in prop::collection::vec((0..48_usize, 0..3), 0..30),
        ) {
            let outbox = Outbox::new(ME, Arc::default());
            let (mut stream, mut assembly) = (outbox.open(), Assembly::default());
            let (mut small, mut large, mut arrived) = (Vec::new(), Vec::new(), Vec::new());
            for (operation, (sixteenths, batches)) in (0..).zip(sent) {
                let bytes = sixteenths * LINK_PIECE_BYTES / 16;
                let message = store(operation, bytes);
                outbox.send(Some(PEER), message.clone());
                if bytes > LINK_PIECE_BYTES { large.push(message) } else { small.push(message) }
                for _ in 0..batches {
                    arrived.extend(next(&mut stream).map(|batch| completed(&outbox, &mut assembly, batch)));
                }
            }
            while let Some(batch) = next(&mut stream) {
                arrived.push(completed(&outbox, &mut assembly, batch));
            }
            let (arrived_large, arrived_small): (Vec<_>, Vec<_>) =
                arrived.into_iter().flatten().partition(|message| value_bytes(message) > LINK_PIECE_BYTES);
            prop_assert_eq!((arrived_small, arrived_large), (small, large));
            prop_assert_eq!(outbox.queued_bytes(), 0);
        }
    }
}
