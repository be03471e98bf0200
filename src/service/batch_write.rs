//! Writes many keys for one caller.
//!
//! Contract: each key is written on its own, in no order, and each has an outcome of its own: that of a Set or Delete. All
//! writes share one deadline. The batch as a whole fails only if this node began none of its writes, so that the caller may
//! turn to another node.

use tokio_stream::StreamExt as _;

use crate::auth::Target;
use crate::runtime::{self, RequestError, WriteResult};
use crate::types::{Key, Table};
use crate::wire::call::Write;
use crate::wire::failure::FailureReason;
use crate::wire::method::{self, Access};

use super::Service;
use super::deadline::Deadline;
use super::error::ServiceError;

/// What became of the write of one key.
pub(crate) type WriteOutcome = Result<WriteResult, ServiceError>;

impl Service {
    /// Does each of `writes` in its table. The outcomes have their order.
    pub(crate) async fn batch_write(
        &self,
        writes: Vec<(Table, Write)>,
        deadline: Deadline,
    ) -> Result<Vec<(Key, WriteOutcome)>, ServiceError> {
        for (table, write) in &writes {
            self.allow(&method::BATCH_WRITE, Target::Key(table, write.key().user_bytes()))?;
        }
        let entry = |(table, write): &(Table, Write)| (table.clone(), write.key().clone(), write.is_resend());
        let entries: Vec<(Table, Key, bool)> = writes.iter().map(entry).collect();
        let write = |(table, write)| match write {
            Write::Plain { key, content, ttl } => (table, runtime::Write::Plain { key, content, ttl }),
            Write::Conditional(key, request) => (table, runtime::Write::Conditional { key, request }),
        };
        let writes = writes.into_iter().map(write).collect();
        let begin = async { self.node.batch_write(writes, deadline.answer_at).await.map_err(RequestError::Rejected) };
        let mut ends = std::pin::pin!(self.wait(Access::Write, None, begin, deadline).await?);
        let untold = |(table, key, _): &(Table, Key, bool)| self.untold_write(&method::BATCH_WRITE, table, key);
        let untold: Vec<_> = entries.iter().map(untold).collect();
        let mut outcomes: Vec<Option<WriteOutcome>> = entries.iter().map(|_| None).collect();
        while let Ok(Some((index, end))) = tokio::time::timeout_at(deadline.give_up_at.into(), ends.next()).await {
            let (table, key, _) = &entries[index];
            outcomes[index] = Some(end.map_err(|error| self.of_write(table, key).request_failed(error)));
        }
        let outcomes: Vec<(Key, WriteOutcome)> = outcomes
            .into_iter()
            .zip(&entries)
            .map(|(outcome, (table, key, is_resend))| {
                let unanswered = || Err(self.of_write(table, key).unanswered("the node did not answer in time"));
                let outcome = outcome.unwrap_or_else(unanswered);
                (key.clone(), outcome.map_err(|error| error.of_resend(*is_resend)))
            })
            .collect();
        for ((_, outcome), untold) in outcomes.iter().zip(untold) {
            if let Some(untold) = untold {
                untold.tell(outcome.as_ref().map_or_else(|error| error.failure.reason.as_str(), |_| "OK"));
            }
        }
        // Without a report of replicas, nobody was asked.
        let not_begun = |outcome: &WriteOutcome| {
            outcome.as_ref().is_err_and(|error| match error.failure.reason {
                FailureReason::NotApplied => error.failure.needed.is_none(),
                reason => reason == FailureReason::NoSuchTable,
            })
        };
        match outcomes.first() {
            Some((_, Err(error))) if outcomes.iter().all(|(_, outcome)| not_begun(outcome)) => Err(error.clone()),
            _ => Ok(outcomes),
        }
    }
}
