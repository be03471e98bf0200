//! The ways back for replies, and the place where those to requests that were begun together wait.
//!
//! Contract: each request has exactly one reply, even if the node ends without it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;

use crate::protocol::Reply;
use crate::types::AgedRecord;

use super::handle::{self, Rejected, RequestError};

/// The result of a plain read or write, under the number that its caller gave it: the record that a read found.
pub type NumberedResult = (u64, Result<Option<AgedRecord>, RequestError>);

/// The replies to the plain reads and writes that one caller has begun. They wait here until the caller takes them.
#[derive(Debug)]
pub struct Replies {
    /// `None` once the caller takes no more.
    waiting: Mutex<Option<Vec<NumberedResult>>>,
    waker: AtomicWaker,
}

impl Default for Replies {
    fn default() -> Self {
        Self { waiting: Mutex::new(Some(Vec::new())), waker: AtomicWaker::new() }
    }
}

/// The way back for a reply.
pub(super) enum ReplyTo {
    /// A task that waits for this reply alone.
    Waiting(oneshot::Sender<Reply>),
    /// A caller that has begun many requests.
    Place(ReplyPlace),
}

/// The place of one reply among many. Dropped empty, it says that the node has ended.
pub(super) struct ReplyPlace {
    replies: Arc<Replies>,
    number: u64,
    is_filled: bool,
}

impl Replies {
    /// Moves the replies that are there to `into`, which is empty. The task of `context` is woken by the next one.
    pub fn poll_take(&self, context: &Context<'_>, into: &mut Vec<NumberedResult>) -> Poll<()> {
        self.waker.register(context.waker());
        match &mut *self.waiting() {
            Some(waiting) if !waiting.is_empty() => {
                std::mem::swap(waiting, into);
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }

    /// Gives back the memory of replies that were taken.
    pub fn shrink(&self) {
        if let Some(waiting) = &mut *self.waiting() {
            waiting.shrink_to_fit();
        }
    }

    /// The caller takes no more replies: those that wait, and those that come later, are dropped.
    pub fn close(&self) {
        let waiting = self.waiting().take();
        drop(waiting);
    }

    fn push(&self, result: NumberedResult) {
        if let Some(waiting) = &mut *self.waiting() {
            waiting.push(result);
        }
        self.waker.wake();
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Vec<NumberedResult>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReplyTo {
    pub(super) fn send(self, reply: Reply) {
        match self {
            // A caller that no longer waits needs no answer.
            Self::Waiting(sender) => drop(sender.send(reply)),
            Self::Place(place) => place.fill(handle::outcome(Ok(reply)).map(handle::plain)),
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
        ReplyTo::Place(second).send(Reply::Record(None));
        drop(first);
        third.fill(Err(Rejected::Ended.into()));
        assert!(replies.poll_take(&context, &mut taken).is_ready());
        let expected = [(2, Ok(None)), (1, Err(Rejected::Abandoned.into())), (3, Err(Rejected::Ended.into()))];
        assert_eq!(taken, expected);
        taken.clear();
        assert!(replies.poll_take(&context, &mut taken).is_pending() && taken.is_empty());
    }

    #[test]
    fn replies_for_a_caller_that_has_gone_are_not_kept() {
        let replies = Arc::new(Replies::default());
        let [first, second, third] = [1, 2, 3].map(|number| ReplyPlace::new(&replies, number));
        first.fill(Ok(None));
        replies.close();
        second.fill(Ok(None));
        drop(third);
        assert!(replies.waiting().is_none());
        let mut taken = Vec::new();
        assert!(replies.poll_take(&Context::from_waker(&noop_waker()), &mut taken).is_pending() && taken.is_empty());
    }

    #[test]
    fn memory_of_taken_replies_is_given_back() {
        let (replies, mut taken) = (Arc::new(Replies::default()), Vec::with_capacity(100));
        ReplyPlace::new(&replies, 1).fill(Ok(None));
        assert!(replies.poll_take(&Context::from_waker(&noop_waker()), &mut taken).is_ready());
        let capacity = || replies.waiting().as_ref().map(Vec::capacity);
        assert_eq!((taken.len(), capacity()), (1, Some(100)));
        replies.shrink();
        assert_eq!(capacity(), Some(0));
    }
}
