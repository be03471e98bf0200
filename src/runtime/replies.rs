//! The ways back for replies, and the place where those to requests that were begun together wait.
//!
//! Contract: each request has exactly one reply, even if the node ends without it.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;

use crate::protocol::Reply;
use crate::types::AgedRecord;

use super::handle::{self, Rejected, RequestError};

/// The end of a plain read or write, under the number that its caller gave it: the record that a read found.
pub type Ended = (u64, Result<Option<AgedRecord>, RequestError>);

/// The replies to the plain reads and writes that one caller has begun. They wait here until the caller takes them.
#[derive(Debug, Default)]
pub struct Replies {
    ended: Mutex<Vec<Ended>>,
    waker: AtomicWaker,
}

/// The way back for a reply.
pub(super) enum ReplyTo {
    /// A task that waits for this reply alone.
    Waiting(oneshot::Sender<Reply>),
    /// A caller that has begun many requests.
    Begun(ReplyPlace),
}

/// The place of one reply among many. Dropped empty, it says that the node has ended.
pub(super) struct ReplyPlace {
    replies: Arc<Replies>,
    number: u64,
    is_filled: bool,
}

impl Replies {
    /// Moves the replies that are there to `into`, which is empty. The task of `context` is woken by the next one.
    pub fn poll_take(&self, context: &Context<'_>, into: &mut Vec<Ended>) -> Poll<()> {
        self.waker.register(context.waker());
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_empty() {
            return Poll::Pending;
        }
        std::mem::swap(&mut *ended, into);
        Poll::Ready(())
    }

    fn push(&self, ended: Ended) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
        self.waker.wake();
    }
}

impl ReplyTo {
    pub(super) fn send(self, reply: Reply) {
        match self {
            // A caller that no longer waits needs no answer.
            Self::Waiting(sender) => drop(sender.send(reply)),
            Self::Begun(place) => place.fill(handle::outcome(Ok(reply)).map(handle::plain)),
        }
    }
}

impl ReplyPlace {
    pub(super) fn new(replies: &Arc<Replies>, number: u64) -> Self {
        Self { replies: Arc::clone(replies), number, is_filled: false }
    }

    pub(super) fn fill(mut self, result: Result<Option<AgedRecord>, RequestError>) {
        self.is_filled = true;
        self.replies.push((self.number, result));
    }
}

impl Drop for ReplyPlace {
    fn drop(&mut self) {
        if !self.is_filled {
            self.replies.push((self.number, Err(Rejected::Abandoned.into())));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;

    #[test]
    fn each_place_is_filled_once_and_an_empty_one_tells_of_the_end() {
        let (replies, waker) = (Arc::new(Replies::default()), noop_waker());
        let context = Context::from_waker(&waker);
        let mut taken = Vec::new();
        assert!(replies.poll_take(&context, &mut taken).is_pending());
        let [first, second, third] = [1, 2, 3].map(|number| ReplyPlace::new(&replies, number));
        ReplyTo::Begun(second).send(Reply::Record(None));
        drop(first);
        third.fill(Err(Rejected::Ended.into()));
        assert!(replies.poll_take(&context, &mut taken).is_ready());
        let expected = [(2, Ok(None)), (1, Err(Rejected::Abandoned.into())), (3, Err(Rejected::Ended.into()))];
        assert_eq!(taken, expected);
        taken.clear();
        assert!(replies.poll_take(&context, &mut taken).is_pending() && taken.is_empty());
    }
}
