//! Bounds the memory that requests take while they arrive and answers until their callers have read them.
//!
//! The node admits a request once it is whole. Until then its bytes pile up in the transport, and an answer waits there
//! for its caller to read it. The node bounds neither, so both are bounded here.

use std::sync::Arc;

use bytes::Bytes;
use tonic::codegen::http::{HeaderMap, Uri};

use crate::limits::OPEN_REQUEST_BYTES;
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

/// A request of HTTP, from its head to the end of its answer: its part of the budget, and that of its answer.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    _request: BudgetGuard,
    _answer: Option<BudgetGuard>,
}

/// Bytes of an answer, with their part of the budget.
struct Guarded {
    data: Bytes,
    _guard: Arc<OpenRequest>,
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

    /// The guard of a request whose head has so many bytes; `None` if the node would then hold too much, or this client.
    pub(crate) fn open_request(&self, head_bytes: usize) -> Option<BudgetGuard> {
        let mut guard = self.guard();
        guard.grow(OPEN_REQUEST_BYTES + head_bytes).then_some(guard)
    }
}

/// The bytes of a request's path and headers.
pub(crate) fn head_bytes(uri: &Uri, headers: &HeaderMap) -> usize {
    let line = uri.path().len() + uri.query().map_or(0, str::len);
    line + headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
}

impl OpenRequest {
    /// The guards of a request and of its answer, which has one if it is large.
    pub(crate) fn new(request: BudgetGuard, answer: Option<BudgetGuard>) -> Arc<Self> {
        Arc::new(Self { _request: request, _answer: answer })
    }

    /// `data` of the answer, which keeps the guards. The transport may hold a frame longer than the answer's body: until its client
    /// reads, and a connection that is closed keeps the frame that it was writing until its task runs.
    pub(crate) fn hold(self: &Arc<Self>, data: Bytes) -> Bytes {
        Bytes::from_owner(Guarded { data, _guard: Arc::clone(self) })
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
    /// The guard of a call of reflection or of a health check, which have places of their own; `None` if they are taken.
    pub(crate) fn of_tool(account: &Arc<Account>) -> Option<Self> {
        account.take(Kind::Tools, 1).ok().map(|taken| Self { taken })
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
