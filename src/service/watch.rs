//! Watches: the changes of a key or a prefix, one event after the other.
//!
//! Contract: a watch ends with an error that says where to go on. It has no deadline of its own, and is no request in flight:
//! [`WATCHES_MAX`] bounds how many there are.

use std::sync::Arc;

use crate::api;
use crate::auth::Target;
use crate::limits::WATCHES_MAX;
use crate::protocol::Listed;
use crate::protocol::changes::Filter;
use crate::protocol::news::{WatchEvent, WatchNews};
use crate::runtime::{WatchEnded, WatchStream};
use crate::shares::{Kind, Taken};
use crate::types::{Key, Lookup, Table};
use crate::wire::failure::FailureReason;
use crate::wire::method::{self, Access};
use crate::wire::watch::{WatchCall, WatchCodec};

use super::buffer_budget::BudgetGuard;
use super::error::{ServiceError, no_room};
use super::health::unready_text;
use super::{Service, UNCOUNTED_VALUE_BYTES};

/// A watch that is under way.
pub(crate) struct Watch {
    service: Arc<Service>,
    stream: WatchStream,
    table: Table,
    filter: Filter,
    values: bool,
    /// The rest of the last page of the list.
    page: std::vec::IntoIter<(Key, Listed)>,
    /// The part of the buffer budget of that page.
    guard: BudgetGuard,
    /// Those of the last two events: the transport holds one while it asks for the next one.
    events: [BudgetGuard; 2],
    _permit: Taken,
}

impl Service {
    /// Reads and writes the watches of this cluster.
    pub(crate) fn watch_codec(&self) -> WatchCodec {
        WatchCodec { layout: self.node.layout(), versions: self.versions() }
    }

    /// Begins a watch of keys of `table`.
    pub(crate) async fn watch(self: &Arc<Self>, table: &Table, call: WatchCall) -> Result<Watch, ServiceError> {
        let WatchCall { filter, cursor, values, with_list } = call;
        self.allow(&method::WATCH, watched(table, &filter))?;
        let Ok(permit) = self.node.account().take(Kind::Watches, 1) else {
            let message = format!(
                "this node has {WATCHES_MAX} watches already, or as many of this client as it may have beside others: ask \
                 another node, or share watches"
            );
            return Err(ServiceError::new(FailureReason::NotReady, &message).overloaded());
        };
        let stream = self.node.watch(filter.clone(), cursor, values, with_list).await;
        let stream = stream.map_err(|_| ended(&WatchEnded::Ended))?;
        let (page, guard) = (Vec::new().into_iter(), self.buffers.guard());
        let events = [self.buffers.guard(), self.buffers.guard()];
        let table = table.clone();
        Ok(Watch { service: Arc::clone(self), stream, table, filter, values, page, guard, events, _permit: permit })
    }
}

impl Watch {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Result<api::WatchResponse, ServiceError> {
        let event = self.next_event().await?;
        // Whoever was revoked meanwhile is told no more.
        self.service.allow(&method::WATCH, watched(&self.table, &self.filter))?;
        Ok(event)
    }

    async fn next_event(&mut self) -> Result<api::WatchResponse, ServiceError> {
        loop {
            if let Some(response) = self.next_listed()? {
                return Ok(response);
            }
            let news = self.stream.next().await.map_err(|end| ended(&end))?;
            if let WatchEvent::Listed(page) = &news.event {
                self.take_page(page.clone()).await?;
                continue;
            }
            self.check(&news)?;
            if let Some(response) = self.service.watch_codec().response(&self.filter, &news, self.values) {
                self.count(&news)?;
                return Ok(response);
            }
        }
    }

    /// The next key of the page of what is there.
    fn next_listed(&mut self) -> Result<Option<api::WatchResponse>, ServiceError> {
        for (key, listed) in self.page.by_ref() {
            if let Lookup::Record(record) = &listed.found {
                self.service.check(key.table(), &key, record)?;
            }
            if let Some(response) = self.service.watch_codec().listed(&key, &listed) {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// Takes a page of what is there. The next one is gathered meanwhile.
    async fn take_page(&mut self, page: Vec<(Key, Listed)>) -> Result<(), ServiceError> {
        let mut guard = self.service.buffers.guard();
        if !guard.grow(page.iter().map(|(key, listed)| listed.bytes(key)).sum()) {
            return Err(no_room(Access::Read));
        }
        (self.page, self.guard) = (page.into_iter(), guard);
        self.stream.page_taken().await;
        Ok(())
    }

    /// Counts the value of an event until the next one but one is asked for. Nobody else counts it once it has left the queue.
    fn count(&mut self, news: &WatchNews) -> Result<(), ServiceError> {
        let mut guard = self.service.buffers.guard();
        if let WatchEvent::Changed { record: Some(record), .. } = &news.event
            && self.values
            && record.content.value_bytes() > UNCOUNTED_VALUE_BYTES
            && !guard.grow(record.content.value_bytes())
        {
            return Err(ended(&WatchEnded::TooSlow));
        }
        let [before, last] = &mut self.events;
        *before = std::mem::replace(last, guard);
        Ok(())
    }

    /// Checks that a value is what was written.
    fn check(&self, news: &WatchNews) -> Result<(), ServiceError> {
        match &news.event {
            WatchEvent::Changed { key, record: Some(record), .. } if self.values => {
                self.service.check(key.table(), key, record)
            }
            _ => Ok(()),
        }
    }
}

/// What a watch is about.
fn watched<'a>(table: &'a Table, filter: &'a Filter) -> Target<'a> {
    match filter {
        Filter::Key(key) => Target::Key(table, key.user_bytes()),
        Filter::Prefix(prefix) => Target::Keys(table, Key::user_part(prefix)),
    }
}

fn ended(end: &WatchEnded) -> ServiceError {
    let go_on = "go on with the cursor of the last message";
    match end {
        WatchEnded::Unready(unready) => {
            let message = format!("the watch has ended: {}: {go_on}, at another node", unready_text(unready));
            ServiceError::new(FailureReason::NotReady, &message)
        }
        WatchEnded::TableDropped => {
            let message = "the watch has ended, because its table was dropped: create the table anew, and watch that";
            ServiceError::new(FailureReason::NoSuchTable, message)
        }
        WatchEnded::TooSlow => {
            let message = format!("the watch has ended, because its client reads too slowly: read faster, and {go_on}");
            ServiceError::new(FailureReason::NotReady, &message).overloaded()
        }
        WatchEnded::Ended => {
            let message = format!("the watch has ended, because the node has: {go_on}, at another node");
            ServiceError::new(FailureReason::NotReady, &message)
        }
    }
}
