//! The budget of a page of keys while a scan fills it. All stores count with it.

use super::PageBounds;
use crate::types::{Digest, Key, ScannedKeys};

/// The unused rest of [`PageBounds`].
pub(super) struct PageBudget {
    keys: usize,
    bytes: usize,
    looks: usize,
    empty: bool,
}

impl PageBudget {
    pub(super) fn new(bounds: PageBounds) -> Self {
        // With a bound of 0 a scan would never end.
        Self { keys: bounds.keys_max.max(1), bytes: bounds.bytes_max, looks: bounds.looked_at_max.max(1), empty: true }
    }

    /// Counts one more scanned entry; `false` when the page may scan no more.
    pub(super) fn look(&mut self) -> bool {
        let may = self.looks > 0;
        self.looks = self.looks.saturating_sub(1);
        may
    }

    /// Counts one more key of `bytes` bytes; `false` when it does not fit. The first key always fits.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.keys > 0 && (bytes <= self.bytes || self.empty);
        if fits {
            self.keys -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            self.empty = false;
        }
        fits
    }
}

/// A page of a list while a scan fills it.
pub(super) struct ListPage {
    budget: PageBudget,
    page: ScannedKeys,
}

impl ListPage {
    pub(super) fn new(bounds: PageBounds) -> Self {
        Self { budget: PageBudget::new(bounds), page: ScannedKeys::default() }
    }

    /// Takes the next key of the index. An entry of the index without a record names nothing. `false` when the page is full:
    /// the key was not looked at.
    pub(super) fn look_at(&mut self, key: Key, digest: Option<Digest>) -> bool {
        let fits = self.budget.look()
            && digest.as_ref().is_none_or(|digest| self.budget.take(key.as_bytes().len() + digest.encoded_bytes()));
        if fits {
            self.page.looked_to = Some(key.clone());
            self.page.keys.extend(digest.map(|digest| (key, digest)));
        }
        fits
    }

    /// Whether it has as many keys as it may have.
    pub(super) fn is_full(&self) -> bool {
        self.budget.keys == 0
    }

    /// The page, which ends after the last key that was looked at.
    pub(super) fn cut_off(self) -> ScannedKeys {
        self.page
    }

    /// The page, which reaches to the end of the range.
    pub(super) fn whole(self) -> ScannedKeys {
        ScannedKeys { looked_to: None, ..self.page }
    }
}
