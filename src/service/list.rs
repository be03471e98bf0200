//! Lists keys of the cluster for one caller, page by page.
//!
//! Contract: the next page is read when the caller asks for it. A caller therefore holds one page or two, however many keys
//! there are, and a caller that hangs up ends the list. Each page has a deadline of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Target;
use crate::limits::{LISTED_KEYS_MAX, LISTS_MAX};
use crate::protocol::{ListPage, Listed, ListedKeys};
use crate::shares::{Kind, Taken};
use crate::types::{AgedRecord, Content, Key, KeyRange, Lookup, Table, Value, Version};
use crate::wire::call::ListCall;
use crate::wire::failure::FailureReason;
use crate::wire::method::{self, Access};

use super::Service;
use super::buffer_budget::BudgetGuard;
use super::deadline::Deadline;
use super::error::{ServiceError, no_room};

/// A list that is under way.
pub(crate) struct List {
    service: Arc<Service>,
    table: Table,
    range: KeyRange,
    values: bool,
    /// How many more keys the caller wants.
    left: u64,
    deadline: Deadline,
    has_ended: bool,
    /// The part of the buffer budget of the page that the caller has last asked for.
    guard: BudgetGuard,
    /// That of the page before: the transport holds it while it asks for the next one.
    earlier: BudgetGuard,
    _permit: Taken,
}

/// One page of a list.
pub(crate) struct Page {
    pub(crate) entries: Vec<ListedEntry>,
    /// Where the list goes on; `None` after the last key.
    pub(crate) next: Option<Key>,
}

/// One key of a list.
pub(crate) struct ListedEntry {
    pub(crate) key: Key,
    pub(crate) version: Version,
    /// What is left of the time to live.
    pub(crate) ttl: Option<Duration>,
    pub(crate) value: Option<Value>,
}

impl Service {
    /// The keys of the cluster that have a value, in pages.
    pub(crate) fn list(
        self: &Arc<Self>,
        table: Table,
        call: ListCall,
        deadline: Deadline,
    ) -> Result<List, ServiceError> {
        self.allow(&method::LIST, Target::Keys(&table, &call.range.prefix))?;
        let Ok(permit) = self.node.account().take(Kind::Lists, 1) else {
            let message = format!(
                "not done: this node works on {LISTS_MAX} lists already, or on as many of this client as it may have beside \
                 others: ask another node, or later"
            );
            return Err(ServiceError::new(FailureReason::NotReady, &message).overloaded());
        };
        Ok(List {
            service: Arc::clone(self),
            table,
            range: call.range,
            values: call.values,
            left: call.limit.unwrap_or(u64::MAX),
            deadline,
            has_ended: false,
            guard: self.buffers.guard(),
            earlier: self.buffers.guard(),
            _permit: permit,
        })
    }

    /// Whether the caller may list the keys of `table` that begin with `prefix`.
    pub(crate) fn allow_list(&self, table: &Table, prefix: &[u8]) -> Result<(), ServiceError> {
        self.allow(&method::LIST, Target::Keys(table, prefix))
    }

    async fn list_page(&self, table: &Table, page: ListPage, deadline: Deadline) -> Result<ListedKeys, ServiceError> {
        // Whoever was revoked meanwhile gets no further page.
        self.allow(&method::LIST, Target::Keys(table, &page.range.prefix))?;
        let listed = self.node.list(table, page, deadline.answer_at);
        self.wait_for(self.of_table(Access::Read, table), listed, deadline).await
    }
}

impl List {
    /// The service that the list runs on.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// The next page; `None` after the last. Only the last page may be empty.
    pub(crate) async fn next_page(&mut self) -> Option<Result<Page, ServiceError>> {
        while !self.has_ended {
            let keys_max = usize::try_from(self.left).unwrap_or(usize::MAX).min(LISTED_KEYS_MAX);
            let page = ListPage { range: self.range.clone(), keys_max, values: self.values };
            let listed = self.service.list_page(&self.table, page, self.deadline.of_page(Instant::now())).await;
            let page = listed.and_then(|listed| self.take(listed));
            match page {
                Ok(page) => {
                    self.left = self.left.saturating_sub(page.entries.len() as u64);
                    self.has_ended = page.next.is_none() || self.left == 0;
                    self.range.after.clone_from(&page.next);
                    // A page of deleted keys alone is not given out, unless it is the last.
                    if !page.entries.is_empty() || self.has_ended {
                        return Some(Ok(page));
                    }
                }
                Err(error) => {
                    self.has_ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// Lets a page out to the caller, if it is intact and the buffer budget has room for it.
    fn take(&mut self, listed: ListedKeys) -> Result<Page, ServiceError> {
        let mut entries = Vec::with_capacity(listed.keys.len());
        let mut guard = self.service.buffers.guard();
        for (key, Listed { found, age }) in listed.keys {
            let entry = match found {
                Lookup::Record(record) => {
                    let table = key.table();
                    self.service.check(table, &key, &record)?;
                    ListedEntry::of(key, AgedRecord { record, age, table })
                }
                Lookup::Digest(digest) => {
                    let ttl = digest.ttl.map(|ttl| age.left_of(ttl));
                    let version = digest.version().in_table(key.table());
                    ListedEntry { key, version, ttl, value: None }
                }
                Lookup::Absent => continue,
            };
            if !guard.grow(entry.bytes()) {
                return Err(no_room(Access::Read));
            }
            entries.push(entry);
        }
        self.earlier = std::mem::replace(&mut self.guard, guard);
        Ok(Page { entries, next: listed.looked_to })
    }
}

impl ListedEntry {
    fn of(key: Key, record: AgedRecord) -> Self {
        let (version, ttl) = (record.version(), record.ttl_left());
        let value = match record.record.content {
            Content::Value(value) => Some(value),
            Content::Tombstone => None,
        };
        Self { key, version, ttl, value }
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.as_bytes().len() + self.value.as_ref().map_or(0, |value| value.bytes().len())
    }
}
