//! A walk over the keys of one replica, page by page.
//!
//! Contract: the next page is read when the caller asks for it. A caller therefore holds one page or two, however many
//! keys there are, and a caller that hangs up ends the walk.

use std::sync::Arc;

use crate::auth::Target;
use crate::runtime::NodeHandle;
use crate::shares::Taken;
use crate::storage::{Cursor, StoreError};
use crate::types::{Key, Table};
use crate::wire::failure::FailureReason;
use crate::wire::method::NODE_INFO;

use super::Service;
use super::error::ServiceError;

/// The most keys of one page. Framing adds up to three bytes to each: 192 KiB for 65,536 keys. With at most 3 MiB of keys
/// a page stays under 4 MiB, the limit of many gRPC clients.
const PAGE_KEYS_MAX: usize = 65_536;

/// A walk that is under way.
pub(crate) struct KeyScan {
    service: Arc<Service>,
    prefix: String,
    /// How many more keys the caller wants.
    left: u64,
    after: Option<Cursor>,
    pages: usize,
    ended: bool,
    _permit: Taken,
}

impl KeyScan {
    /// A walk over the keys that begin with `prefix`; at most `limit` keys, or all if it is 0.
    pub(super) fn new(service: Arc<Service>, prefix: String, limit: u64, permit: Taken) -> Self {
        let left = if limit == 0 { u64::MAX } else { limit };
        Self { service, prefix, left, after: None, pages: 0, ended: false, _permit: permit }
    }

    pub(crate) fn node(&self) -> &NodeHandle {
        self.service.node()
    }

    /// The next page, by slot and then by key; `None` after the last. The first page may be empty, the others are not.
    pub(crate) async fn next_page(&mut self) -> Option<Result<Vec<Key>, ServiceError>> {
        while !self.ended {
            // Whoever was revoked meanwhile gets no further page.
            if let Err(error) = self.service.allow(&NODE_INFO, Target::Keys(&Table::Default, self.prefix.as_bytes())) {
                self.ended = true;
                return Some(Err(error));
            }
            let keys_max = usize::try_from(self.left).unwrap_or(usize::MAX).min(PAGE_KEYS_MAX);
            let page = match self.service.node().keys(self.after.take(), self.prefix.clone(), keys_max).await {
                Ok(page) => page,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(scan_failed(&error)));
                }
            };
            self.left = self.left.saturating_sub(page.keys.len() as u64);
            self.ended = page.next.is_none() || self.left == 0;
            self.after = page.next;
            // A step that found nothing makes no page, unless there is nothing at all.
            if !page.keys.is_empty() || (self.ended && self.pages == 0) {
                self.pages += 1;
                return Some(Ok(page.keys));
            }
        }
        None
    }
}

fn scan_failed(error: &StoreError) -> ServiceError {
    let reason = match error {
        StoreError::Damaged { .. } => FailureReason::Damaged,
        StoreError::NoSpace { .. }
        | StoreError::InUse { .. }
        | StoreError::Failed { .. }
        | StoreError::Suspended
        | StoreError::Closed => FailureReason::StoreFailed,
    };
    ServiceError::new(reason, &format!("the keys could not be read: {error}"))
}
