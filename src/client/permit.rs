//! Proof that a request never left this process.
//!
//! A node can act on a request only once it has the request's message. The connection takes the message out of a
//! [`GuardedMessage`] before it writes any of it. Until then the [`Permit`] can be revoked, and the message can then
//! never be taken. A revoked permit therefore proves that no node will see the message, whatever state the connection is
//! in and whatever its error says. No list of error kinds has to be kept complete for this.
//!
//! Caveat: a message that was taken may still not have been written. It counts as sent, which is the safe side.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio_stream::Stream;

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const REVOKED: u8 = 2;

/// The right to send one message, until it is revoked.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicU8>);

impl Permit {
    /// Makes a permit, and the message that can be sent only under it.
    pub(super) fn guard<M>(message: M) -> (Self, GuardedMessage<M>) {
        let state = Arc::new(AtomicU8::new(WAITING));
        (Self(Arc::clone(&state)), GuardedMessage { message: Some(message), state })
    }

    /// Revokes the permit. Returns true if the message was not sent and never will be, false if it may have been sent.
    pub(super) fn revoke(&self) -> bool {
        match self.0.compare_exchange(WAITING, REVOKED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == REVOKED,
        }
    }
}

/// The body of a request: one message, or none if the permit was revoked before the connection took it.
#[derive(Debug)]
pub(super) struct GuardedMessage<M> {
    message: Option<M>,
    state: Arc<AtomicU8>,
}

impl<M: Unpin> Stream for GuardedMessage<M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<M>> {
        let message = self.message.take();
        let taken = self.state.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok();
        Poll::Ready(message.filter(|_| taken))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn revoked_message_is_never_sent() {
        let (permit, mut message) = Permit::guard("m");
        assert!(permit.revoke());
        assert_eq!(message.next().await, None);
        assert!(permit.revoke(), "it stays revoked");
    }

    #[tokio::test]
    async fn message_that_was_taken_cannot_be_revoked() {
        let (permit, mut message) = Permit::guard("m");
        assert_eq!(message.next().await, Some("m"));
        assert!(!permit.revoke());
        assert_eq!(message.next().await, None);
    }
}
