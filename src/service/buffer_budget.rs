//! Bounds the memory that requests take while they arrive and answers until their callers have read them.
//!
//! The node admits a request once it is whole. Until then its bytes pile up in the transport, and an answer waits there
//! for its caller to read it. The node bounds neither, so both are bounded here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::limits::BUFFERED_BYTES_MAX;

/// The bytes that all requests and answers on their way through one node hold, [`BUFFERED_BYTES_MAX`] at most.
#[derive(Debug, Default)]
pub(crate) struct BufferBudget {
    bytes: AtomicUsize,
}

/// A part of these bytes, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct BudgetGuard {
    budget: Arc<BufferBudget>,
    bytes: usize,
}

/// Bytes of an answer, with their part of the budget.
struct Guarded {
    data: Bytes,
    _guard: Arc<BudgetGuard>,
}

impl AsRef<[u8]> for Guarded {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl BufferBudget {
    /// A guard of no bytes yet.
    pub(crate) fn guard(self: &Arc<Self>) -> BudgetGuard {
        BudgetGuard { budget: Arc::clone(self), bytes: 0 }
    }
}

impl BudgetGuard {
    /// `data`, which keeps the guard. The transport may hold a frame longer than the answer's body: a connection that is
    /// closed keeps the frame that it was writing until its task runs.
    pub(crate) fn hold(guard: Arc<Self>, data: Bytes) -> Bytes {
        Bytes::from_owner(Guarded { data, _guard: guard })
    }

    /// Adds `bytes` to the guard. It is `false`, and adds none, if the node would then hold more than
    /// [`BUFFERED_BYTES_MAX`].
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let grow = |held: usize| held.checked_add(bytes).filter(|held| *held <= BUFFERED_BYTES_MAX);
        let grown = self.budget.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok();
        if grown {
            self.bytes += bytes;
        }
        grown
    }
}

impl Drop for BudgetGuard {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_bound_are_refused_until_some_are_given_back() {
        let budget = Arc::new(BufferBudget::default());
        let (mut one, mut other) = (budget.guard(), budget.guard());
        assert!(one.grow(BUFFERED_BYTES_MAX - 10));
        assert!(other.grow(10));
        assert!(!other.grow(1));
        assert!(!other.grow(usize::MAX));
        drop(one);
        assert!(other.grow(1));
        drop(other);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
    }
}
