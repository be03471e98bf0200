//! The tokens of the clients, which change while they are used.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quorate::auth::Token;

/// A token that was made for some clients.
pub(crate) struct Issued {
    pub(crate) token: Token,
    text: String,
    /// Set before it is asked that it be revoked.
    is_going: AtomicBool,
}

/// The token that some clients have at the moment. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pass(Arc<Mutex<Option<Arc<Issued>>>>);

impl Issued {
    pub(crate) fn new(token: Token) -> Arc<Self> {
        Arc::new(Self { text: token.reveal(), token, is_going: AtomicBool::new(false) })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// From now on it may be refused.
    pub(crate) fn goes(&self) {
        self.is_going.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_going(&self) -> bool {
        self.is_going.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.token)
    }
}

impl Pass {
    /// That of this token.
    pub(crate) fn of(token: &Arc<Issued>) -> Self {
        let pass = Self::default();
        pass.set(Arc::clone(token));
        pass
    }

    /// The token; `None` before there is one.
    pub(crate) fn now(&self) -> Option<Arc<Issued>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the clients another one.
    pub(crate) fn set(&self, token: Arc<Issued>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }
}
