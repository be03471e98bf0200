//! Plain reads and writes that one caller begins together. It takes their results as they come.
//!
//! Contract: as for the operations that a caller waits for one by one, but for the waiting: the caller takes replies from
//! [`Replies`], and gives up a request at [`StartedRequest::give_up_at`].

use std::sync::Arc;
use std::time::Instant;

use crate::auth::Target;
use crate::runtime::{PlainRequest, Replies, RequestError};
use crate::traces;
use crate::types::{AgedRecord, Key, Table};
use crate::wire::method::{self, Access};

use super::authorization::UntoldWrite;
use super::deadline::Deadline;
use super::error::{ErrorContext, ServiceError};
use super::request_metrics::Observation;
use super::{Answer, Service};

/// A plain read or write that its caller may begin.
#[derive(Debug)]
pub(crate) struct AllowedRequest(PlainRequest);

/// A plain read or write that was begun, and has no result yet.
#[derive(Debug)]
pub(crate) struct StartedRequest {
    key: Key,
    /// Whether it reads or writes.
    pub(crate) access: Access,
    /// A node that has not answered by this time is stuck.
    pub(crate) give_up_at: Instant,
    observation: Observation,
    /// The line of a write, if it has one.
    untold: Option<UntoldWrite>,
}

impl Service {
    /// The request, if its caller may begin it in `table`.
    pub(crate) fn allow_plain(&self, table: &Table, request: PlainRequest) -> Result<AllowedRequest, ServiceError> {
        let (method, key) = match &request {
            PlainRequest::Get { key } => (&method::GET, key),
            PlainRequest::Set { key, .. } => (&method::SET, key),
        };
        self.allow(method, Target::Key(table, key.user_bytes()))?;
        Ok(AllowedRequest(request))
    }

    /// Begins `requests` in `table`, which arrived at `now`, each with its number and its observation. Hands each to `started`.
    pub(crate) fn begin(
        &self,
        table: &Table,
        requests: Vec<(u64, AllowedRequest, Observation)>,
        now: Instant,
        replies: &Arc<Replies>,
        mut started: impl FnMut(u64, StartedRequest),
    ) {
        let Deadline { answer_at, give_up_at, .. } = Deadline::new(None, now);
        let requests = requests.into_iter().map(|(number, AllowedRequest(request), observation)| {
            let (key, access) = match &request {
                PlainRequest::Get { key } => (key.clone(), Access::Read),
                PlainRequest::Set { key, .. } => (key.clone(), Access::Write),
            };
            let untold = match access {
                Access::Read => None,
                Access::Write => self.untold_write(&method::SET, table, &key),
            };
            let trace = observation.trace();
            started(number, StartedRequest { key, access, give_up_at, observation, untold });
            (number, request, trace)
        });
        self.node.begin(table, requests.collect(), answer_at, replies);
    }

    /// The result of a request in `table` that has ended: the record that a read found. The observation ends with the
    /// answer.
    pub(crate) fn end(
        &self,
        table: &Table,
        mut started: StartedRequest,
        result: Result<Option<AgedRecord>, RequestError>,
    ) -> (Result<Option<Answer>, ServiceError>, Observation) {
        if let Some(untold) = started.untold.take() {
            let outcome = match &result {
                Ok(_) => "OK",
                Err(RequestError::Failed(_)) => "FAILED",
                Err(RequestError::Rejected(_)) => "REJECTED",
            };
            traces::within_now(started.observation.trace(), || untold.tell(outcome));
        }
        let result = match result {
            Ok(None) => Ok(None),
            Ok(Some(record)) => self.release(&started.key, record).map(Some),
            Err(error) => Err(self.context_of(table, &started).request_failed(error)),
        };
        (result, started.observation)
    }

    /// The error of a request that is given up.
    pub(crate) fn give_up(&self, table: &Table, mut started: StartedRequest) -> (ServiceError, Observation) {
        if let Some(untold) = started.untold.take() {
            traces::within_now(started.observation.trace(), || untold.tell("OUTCOME_UNKNOWN"));
        }
        (self.context_of(table, &started).unanswered("the node did not answer in time"), started.observation)
    }

    fn context_of<'a>(&'a self, table: &'a Table, started: &'a StartedRequest) -> ErrorContext<'a> {
        match started.access {
            Access::Read => self.of_read(table, &started.key),
            Access::Write => self.of_write(table, &started.key),
        }
    }
}
