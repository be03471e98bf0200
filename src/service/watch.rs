//! Watches: the changes of a key or a prefix, one event after the other.
//!
//! Contract: a watch ends with an error that says where to go on. It has no deadline of its own, and is no request in flight:
//! [`WATCHES_MAX`] bounds how many there are.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::api;
use crate::limits::WATCHES_MAX;
use crate::protocol::changes::Filter;
use crate::protocol::news::{WatchEvent, WatchNews};
use crate::runtime::{WatchEnded, WatchStream};
use crate::wire::failure::FailureReason;
use crate::wire::watch::{WatchCall, WatchCodec};

use super::Service;
use super::error::ServiceError;
use super::health::unready_text;

/// A watch that is under way.
pub(crate) struct Watch {
    service: Arc<Service>,
    stream: WatchStream,
    filter: Filter,
    values: bool,
    _permit: OwnedSemaphorePermit,
}

impl Service {
    /// Reads and writes the watches of this cluster.
    pub(crate) fn watch_codec(&self) -> WatchCodec<'_> {
        WatchCodec { parameters: self.node.placement().parameters(), versions: self.versions() }
    }

    /// Begins a watch.
    pub(crate) async fn watch(self: &Arc<Self>, call: WatchCall) -> Result<Watch, ServiceError> {
        let WatchCall { filter, cursor, values, with_list } = call;
        if with_list {
            let message = "with_list: not in this version: watch without it, wait for `ready`, list the keys then, and list \
                           them once more a minute later, because a write that was called before `ready` may not be told";
            return Err(ServiceError::invalid(message));
        }
        let Ok(permit) = Arc::clone(&self.watches).try_acquire_owned() else {
            let message = format!("this node has {WATCHES_MAX} watches already: ask another node, or share watches");
            return Err(ServiceError::new(FailureReason::NotReady, &message).overloaded());
        };
        let stream = self.node.watch(filter.clone(), cursor, values).await;
        let stream = stream.map_err(|_| ended(&WatchEnded::Ended))?;
        Ok(Watch { service: Arc::clone(self), stream, filter, values, _permit: permit })
    }
}

impl Watch {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Result<api::WatchResponse, ServiceError> {
        loop {
            let news = self.stream.next().await.map_err(|end| ended(&end))?;
            self.check(&news)?;
            if let Some(response) = self.service.watch_codec().response(&self.filter, &news, self.values) {
                return Ok(response);
            }
        }
    }

    /// Checks that a value is what was written.
    fn check(&self, news: &WatchNews) -> Result<(), ServiceError> {
        match &news.event {
            WatchEvent::Changed { key, record: Some(record), .. } if self.values => self.service.check(key, record),
            _ => Ok(()),
        }
    }
}

fn ended(end: &WatchEnded) -> ServiceError {
    let go_on = "go on with the cursor of the last message";
    match end {
        WatchEnded::Unready(unready) => {
            let message = format!("the watch has ended: {}: {go_on}, at another node", unready_text(unready));
            ServiceError::new(FailureReason::NotReady, &message)
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
