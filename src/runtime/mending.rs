//! What becomes of a damaged store: whether the node may replace itself, and what those are told who ask for its health. The part
//! of the program that replaces the store says it here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::handle::NodeHandle;

/// What becomes of the store, once it is damaged.
#[derive(Debug)]
pub(super) struct Mending {
    is_allowed: AtomicBool,
    text: Mutex<Option<String>>,
}

impl Mending {
    pub(super) fn new(is_allowed: bool) -> Self {
        Self { is_allowed: AtomicBool::new(is_allowed), text: Mutex::new(None) }
    }
}

impl NodeHandle {
    /// What was found damaged in the store first.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.inner.store.damage()
    }

    /// Whether the node may replace itself when its store is damaged.
    #[must_use]
    pub fn may_replace_itself(&self) -> bool {
        self.inner.mending.is_allowed.load(Ordering::Relaxed)
    }

    /// From now on the node may replace itself when its store is damaged, or may not.
    pub fn allow_to_replace_itself(&self, is_allowed: bool) {
        self.inner.mending.is_allowed.store(is_allowed, Ordering::Relaxed);
    }

    /// What becomes of the damaged store, in words. `None` where nothing is to be said.
    #[must_use]
    pub fn mending(&self) -> Option<String> {
        self.inner.mending.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what becomes of the damaged store. Returns whether that is new.
    pub fn tell_mending(&self, text: Option<String>) -> bool {
        let mut told = self.inner.mending.text.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *told != text;
        *told = text;
        is_new
    }
}
