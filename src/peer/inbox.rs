//! What arrives on one stream, on its way to the node's loop.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use crate::api;
use crate::limits::LINK_BATCHES_WAITING_MAX;
use crate::protocol::Message;
use crate::types::{Incarnation, NodeId, NodeIndex};
use crate::wire::chunks::Assembly;

use super::{LinkEvent, Outbox};

/// Where what a link receives goes.
pub(super) struct Inbox<E> {
    from: NodeIndex,
    pub(super) id: NodeId,
    events: mpsc::Sender<E>,
    /// Bounds what waits for the loop: a link that is not read makes its sender wait, and in the end drop.
    permits: Arc<Semaphore>,
    assembly: Assembly,
    /// What this node says on the same link.
    outbox: Arc<Outbox>,
}

impl<E: From<LinkEvent>> Inbox<E> {
    pub(super) fn new(from: NodeIndex, id: NodeId, events: mpsc::Sender<E>, outbox: Arc<Outbox>) -> Self {
        Self {
            from,
            id,
            events,
            permits: Arc::new(Semaphore::new(LINK_BATCHES_WAITING_MAX)),
            assembly: Assembly::default(),
            outbox,
        }
    }

    /// Decodes a batch and hands it to the node. `false` where the node has ended.
    pub(super) async fn deliver(&mut self, batch: api::PeerBatch) -> bool {
        self.outbox.pieces_taken(batch.pieces_taken);
        let has_piece = batch.piece.is_some();
        let goes_on = self.hand_over(batch).await;
        if has_piece {
            // Not before: a node that falls behind should not be sent more.
            self.outbox.acknowledge_piece();
        }
        goes_on
    }

    async fn hand_over(&mut self, batch: api::PeerBatch) -> bool {
        let (from, id) = (self.from, &self.id);
        let Some(from_incarnation) = batch.from.map(Incarnation::from) else {
            warn!(peer = %id, "dropped a message without its sender's run");
            return true;
        };
        let to_incarnation = batch.to.map(Incarnation::from);
        let mut messages = Vec::with_capacity(batch.messages.len());
        let completed = batch.piece.and_then(|piece| self.assembly.take(piece).transpose());
        for message in batch.messages.into_iter().map(Ok).chain(completed) {
            match message.and_then(Message::try_from) {
                Ok(message) => messages.push(message),
                Err(error) => warn!(peer = %id, %error, "dropped a message"),
            }
        }
        if messages.is_empty() {
            return true;
        }
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return false };
        let received = LinkEvent::Received { from, from_incarnation, to_incarnation, messages, permit };
        self.events.send(received.into()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;
    use crate::metrics::Metrics;
    use crate::protocol::{OperationId, Request};

    #[tokio::test]
    async fn piece_is_acknowledged_once_the_node_has_taken_what_came_with_it() {
        let incarnation = Incarnation { epoch: 1, nonce: 1 };
        let outbox = Outbox::new(incarnation, Arc::new(Metrics::default()));
        let mut said = outbox.open();
        let (events, mut taken) = mpsc::channel::<LinkEvent>(1);
        events.send(LinkEvent::Up(NodeIndex(1))).await.expect("there is room for one");
        let mut inbox = Inbox::new(NodeIndex(1), NodeId::new("2").unwrap(), events, outbox);
        let clock = Message::Request { operation: OperationId(1), round: 1, request: Request::Clock };
        let piece = api::PeerPiece { message: Some(clock.clone().into()), value_bytes: 1, part: bytes::Bytes::new() };
        let batch = api::PeerBatch {
            from: Some(incarnation.into()),
            messages: vec![clock.into()],
            piece: Some(piece),
            ..api::PeerBatch::default()
        };
        let delivery = tokio::spawn(async move { inbox.deliver(batch).await });
        tokio::task::yield_now().await;
        assert!(said.next().now_or_never().is_none(), "the node has taken nothing yet");
        assert!(matches!(taken.recv().await, Some(LinkEvent::Up(_))));
        assert!(matches!(taken.recv().await, Some(LinkEvent::Received { .. })));
        assert!(delivery.await.expect("no panic"));
        assert_eq!(said.next().await.expect("it is open").pieces_taken, 1);
    }
}
