//! The budget of a page of keys while a scan fills it. All stores count with it.

use super::PageBounds;

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
