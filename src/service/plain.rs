//! Plain reads and writes that one caller begins together. It takes their results as they come.
//!
//! Contract: as for the operations that a caller waits for one by one, but for the waiting: the caller takes replies from
//! [`Replies`], and gives up a request at [`StartedRequest::give_up_at`].

use std::sync::Arc;
use std::time::Instant;

use crate::runtime::{PlainRequest, Replies, RequestError};
use crate::types::{AgedRecord, Key, Table};
use crate::wire::method::Access;

use super::deadline::Deadline;
use super::error::{ErrorContext, ServiceError};
use super::request_metrics::Observation;
use super::{Answer, Service};

/// A plain read or write that was begun, and has no result yet.
#[derive(Debug)]
pub(crate) struct StartedRequest {
    key: Key,
    /// Whether it reads or writes.
    pub(crate) access: Access,
    /// A node that has not answered by this time is stuck.
    pub(crate) give_up_at: Instant,
    observation: Observation,
}

impl Service {
    /// Begins `requests` in `table`, which arrived at `now`, each with its number and its observation. Hands each to `started`.
    pub(crate) fn begin(
        &self,
        table: &Table,
        requests: Vec<(u64, PlainRequest, Observation)>,
        now: Instant,
        replies: &Arc<Replies>,
        mut started: impl FnMut(u64, StartedRequest),
    ) {
        let Deadline { answer_at, give_up_at, .. } = Deadline::new(None, now);
        let requests = requests.into_iter().map(|(number, request, observation)| {
            let (key, access) = match &request {
                PlainRequest::Get { key } => (key.clone(), Access::Read),
                PlainRequest::Set { key, .. } => (key.clone(), Access::Write),
            };
            started(number, StartedRequest { key, access, give_up_at, observation });
            (number, request)
        });
        self.node.begin(table, requests.collect(), answer_at, replies);
    }

    /// The result of a request in `table` that has ended: the record that a read found. The observation ends with the
    /// answer.
    pub(crate) fn end(
        &self,
        table: &Table,
        started: StartedRequest,
        result: Result<Option<AgedRecord>, RequestError>,
    ) -> (Result<Option<Answer>, ServiceError>, Observation) {
        let result = match result {
            Ok(None) => Ok(None),
            Ok(Some(record)) => self.release(&started.key, record).map(Some),
            Err(error) => Err(self.context_of(table, &started).request_failed(error)),
        };
        (result, started.observation)
    }

    /// The error of a request that is given up.
    pub(crate) fn give_up(&self, table: &Table, started: StartedRequest) -> (ServiceError, Observation) {
        (self.context_of(table, &started).unanswered("the node did not answer in time"), started.observation)
    }

    fn context_of<'a>(&'a self, table: &'a Table, started: &'a StartedRequest) -> ErrorContext<'a> {
        match started.access {
            Access::Read => self.of_read(table, &started.key),
            Access::Write => self.of_write(table, &started.key),
        }
    }
}
