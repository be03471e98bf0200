//! Plain reads and writes that one caller begins together. It takes their results as they come.
//!
//! Contract: as for the operations that a caller waits for one by one, but for the waiting: the caller takes replies from
//! [`Replies`], and gives up a request at [`Begun::give_up_at`].

use std::sync::Arc;
use std::time::Instant;

use crate::runtime::{Plain, Replies, RequestError};
use crate::types::{AgedRecord, Key, Table};
use crate::wire::method::{Access, Method};

use super::deadline::Deadline;
use super::error::{ErrorContext, ServiceError};
use super::request_metrics::{Door, Observation};
use super::{Answer, Service};

/// A plain read or write that was begun.
#[derive(Debug)]
pub(crate) struct Begun {
    key: Key,
    /// Whether it reads or writes.
    pub(crate) access: Access,
    /// A node that has not answered by this time is stuck.
    pub(crate) give_up_at: Instant,
    observation: Observation,
}

impl Service {
    /// Begins `requests` in `table`, each with its number, and hands each that is under way to `begun`.
    pub(crate) fn begin(
        &self,
        door: Door,
        table: &Table,
        requests: Vec<(u64, Plain)>,
        replies: &Arc<Replies>,
        mut begun: impl FnMut(u64, Begun),
    ) {
        let now = Instant::now();
        let Deadline { answer_at, give_up_at, .. } = Deadline::new(None, now);
        for (number, request) in &requests {
            let (key, access, path) = match request {
                Plain::Get { key } => (key.clone(), Access::Read, "/api.Cluster/Get"),
                Plain::Set { key, .. } => (key.clone(), Access::Write, "/api.Cluster/Set"),
            };
            let observation = self.observe(door, Method::find(path), now);
            begun(*number, Begun { key, access, give_up_at, observation });
        }
        self.node.begin(table, requests, answer_at, replies);
    }

    /// The result of a request in `table` that has ended: the record that a read found. The observation ends with the
    /// answer.
    pub(crate) fn end(
        &self,
        table: &Table,
        begun: Begun,
        ended: Result<Option<AgedRecord>, RequestError>,
    ) -> (Result<Option<Answer>, ServiceError>, Observation) {
        let result = match ended {
            Ok(None) => Ok(None),
            Ok(Some(record)) => self.release(&begun.key, record).map(Some),
            Err(error) => Err(self.context_of(table, &begun).request_failed(error)),
        };
        (result, begun.observation)
    }

    /// The error of a request that is given up.
    pub(crate) fn give_up(&self, table: &Table, begun: Begun) -> (ServiceError, Observation) {
        (self.context_of(table, &begun).unanswered("the node did not answer in time"), begun.observation)
    }

    fn context_of<'a>(&'a self, table: &'a Table, begun: &'a Begun) -> ErrorContext<'a> {
        match begun.access {
            Access::Read => self.of_read(table, &begun.key),
            Access::Write => self.of_write(table, &begun.key),
        }
    }
}
