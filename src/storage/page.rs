//! What is left of a page of keys while a scan fills it: one way to count for every store.

use super::PageBounds;

/// The rest of [`PageBounds`].
pub(super) struct PageBudget {
    keys: usize,
    bytes: usize,
    looks: usize,
    empty: bool,
}

impl PageBudget {
    pub(super) fn new(bounds: PageBounds) -> Self {
        // A bound of nothing would give pages that never come to an end.
        Self { keys: bounds.keys_max.max(1), bytes: bounds.bytes_max, looks: bounds.looked_at_max.max(1), empty: true }
    }

    /// Whether one more entry may be looked at, which is then counted.
    pub(super) fn look(&mut self) -> bool {
        let may = self.looks > 0;
        self.looks = self.looks.saturating_sub(1);
        may
    }

    /// Whether a key of `bytes` still goes into the page, where it is then counted. The first one always does.
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
