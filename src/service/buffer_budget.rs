//! Bounds the memory that requests take while they arrive and answers until their callers have read them.
//!
//! The node admits a request once it is whole. Until then its bytes pile up in the transport, and an answer waits there
//! for its caller to read it. The node bounds neither, so both are bounded here.

use std::sync::Arc;

use bytes::Bytes;

use crate::shares::{Account, Kind, Taken};

/// The bytes that the requests and answers of one client on their way through a node hold. All clients together have
/// [`BUFFERED_BYTES_MAX`] at most, and one of them half of what the others leave.
///
/// [`BUFFERED_BYTES_MAX`]: crate::limits::BUFFERED_BYTES_MAX
#[derive(Clone, Debug)]
pub(crate) struct BufferBudget {
    account: Arc<Account>,
}

/// A part of these bytes, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct BudgetGuard {
    taken: Taken,
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
    /// The budget of whoever has this account.
    pub(crate) fn of(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account) }
    }

    /// A guard of no bytes yet.
    pub(crate) fn guard(&self) -> BudgetGuard {
        BudgetGuard { taken: self.account.nothing(Kind::Buffers) }
    }
}

#[cfg(test)]
impl Default for BufferBudget {
    /// That of somebody who may have everything.
    fn default() -> Self {
        Self::of(crate::shares::Accounts::new(crate::shares::Amounts::of_requests(1, 1)).unbounded())
    }
}

impl BudgetGuard {
    /// `data`, which keeps the guard. The transport may hold a frame longer than the answer's body: a connection that is
    /// closed keeps the frame that it was writing until its task runs.
    pub(crate) fn hold(guard: Arc<Self>, data: Bytes) -> Bytes {
        Bytes::from_owner(Guarded { data, _guard: guard })
    }

    /// Adds `bytes` to the guard. It is `false`, and adds none, if the node would then hold too much, or this client.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        self.taken.grow(bytes).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BUFFERED_BYTES_MAX;

    #[test]
    fn bytes_beyond_the_bound_are_refused_until_some_are_given_back() {
        let budget = BufferBudget::default();
        let (mut one, mut other) = (budget.guard(), budget.guard());
        assert!(one.grow(BUFFERED_BYTES_MAX - 10));
        assert!(other.grow(10));
        assert!(!other.grow(1));
        assert!(!other.grow(usize::MAX));
        drop(one);
        assert!(other.grow(1));
        drop(other);
        assert!(budget.guard().grow(BUFFERED_BYTES_MAX));
    }
}
