//! Received batches on their way to the node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use crate::api;
use crate::limits::LINK_BATCHES_WAITING_MAX;
use crate::log_limit::LogLimit;
use crate::types::NodeId;
use crate::wire::batch::Batch;
use crate::wire::chunks::Reassembler;

use super::{LinkEvent, Outbox, Sender};

/// The interval in which a link logs one message that it dropped, and counts the others.
const DROPPED_LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Takes the batches of one link, and reports their messages.
pub(super) struct Inbox<E> {
    from: Sender,
    pub(super) id: NodeId,
    events: mpsc::Sender<E>,
    /// Bounds the batches that wait for the node. At the bound the link is not read, so that its sender waits and at last
    /// drops messages.
    permits: Arc<Semaphore>,
    reassembler: Reassembler,
    /// Sends acknowledgements of chunks, on the same link.
    outbox: Arc<Outbox>,
    dropped_lines: LogLimit,
}

impl<E: From<LinkEvent>> Inbox<E> {
    pub(super) fn new(from: Sender, id: NodeId, events: mpsc::Sender<E>, outbox: Arc<Outbox>) -> Self {
        Self {
            from,
            id,
            events,
            permits: Arc::new(Semaphore::new(LINK_BATCHES_WAITING_MAX)),
            reassembler: Reassembler::default(),
            outbox,
            dropped_lines: LogLimit::new(1, DROPPED_LINE_INTERVAL),
        }
    }

    /// Decodes a batch and hands its messages to the node. `false` once the node has ended.
    pub(super) async fn deliver_encoded(&mut self, batch: api::PeerBatch) -> bool {
        match Batch::decode(batch, |error| self.log_dropped(&error)) {
            Ok(batch) => self.deliver(batch).await,
            Err(error) => {
                self.log_dropped(&error);
                true
            }
        }
    }

    /// Hands the messages of a batch to the node. `false` once the node has ended.
    pub(super) async fn deliver(&mut self, batch: Batch) -> bool {
        self.outbox.chunks_taken(batch.chunks_taken);
        let has_chunk = batch.chunk.is_some();
        let goes_on = self.report(batch).await;
        if has_chunk {
            // Only now: a node that falls behind must not be sent more.
            self.outbox.acknowledge_chunk();
        }
        goes_on
    }

    async fn report(&mut self, batch: Batch) -> bool {
        let Batch { from: from_incarnation, to: to_incarnation, mut messages, chunk, traces, .. } = batch;
        match chunk.map(|chunk| self.reassembler.take(chunk)) {
            Some(Ok(completed)) => messages.extend(completed),
            Some(Err(error)) => self.log_dropped(&error),
            None => {}
        }
        if messages.is_empty() && traces.is_empty() {
            return true;
        }
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return false };
        let from = self.from.clone();
        let received = LinkEvent::Received { from, from_incarnation, to_incarnation, messages, traces, permit };
        self.events.send(received.into()).await.is_ok()
    }

    /// Logs that a message of the peer was dropped.
    fn log_dropped(&self, error: &dyn std::error::Error) {
        if let Some(left_out) = self.dropped_lines.pass(Instant::now()) {
            warn!(peer = %self.id, %error, left_out, "dropped a message from a peer");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;
    use crate::metrics::Metrics;
    use crate::protocol::{Message, OperationId, Request};
    use crate::types::{Incarnation, NodeIndex};
    use crate::wire::chunks::Chunks;

    #[tokio::test]
    async fn chunk_is_acknowledged_once_the_node_has_taken_its_batch() {
        let incarnation = Incarnation { epoch: 1, nonce: 1 };
        let outbox = Outbox::new(incarnation, Arc::new(Metrics::default()));
        let mut sent = outbox.open();
        let (events, mut reported) = mpsc::channel::<LinkEvent>(1);
        events.send(LinkEvent::Up { peer: NodeIndex(1), link: 1 }).await.expect("there is room for one");
        let mut inbox = Inbox::new(Sender::Opened(NodeIndex(1)), NodeId::new("2").unwrap(), events, outbox);
        let clock = Message::Request { operation: OperationId(1), round: 1, number: 0, request: Request::Clock };
        let chunk = Chunks::of(clock.clone()).next();
        let batch =
            Batch { from: incarnation, to: None, messages: vec![clock], chunk, chunks_taken: 0, traces: Vec::new() };
        let delivery = tokio::spawn(async move { inbox.deliver(batch).await });
        tokio::task::yield_now().await;
        assert!(sent.next().now_or_never().is_none(), "the node has taken nothing yet");
        assert!(matches!(reported.recv().await, Some(LinkEvent::Up { .. })));
        assert!(matches!(reported.recv().await, Some(LinkEvent::Received { .. })));
        assert!(delivery.await.expect("no panic"));
        assert_eq!(sent.next().await.expect("it is open").chunks_taken, 1);
    }
}
