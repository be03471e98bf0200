//! Reads many keys for one caller.
//!
//! Contract: each key is read linearizably, on its own: two keys of one batch may be read at different moments. All reads
//! share one deadline. A key that could not be read has an error of its own. The batch as a whole fails only if no read
//! was begun, or if this node took none of them, so that the caller may turn to another node.
//!
//! Invariant: the values of one answer hold [`VALUES_BYTES_MAX`] together at most, whatever the order in which they
//! arrive. Values beyond that are dropped when they arrive, so that a batch never holds more in memory.

use tokio_stream::StreamExt as _;

use crate::auth::Target;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::runtime::RequestError;
use crate::types::{AgedRecord, Key, Table};
use crate::wire::failure::FailureReason;
use crate::wire::method::{self, Access};

use super::Service;
use super::buffer_budget::BudgetGuard;
use super::deadline::Deadline;
use super::error::ServiceError;

/// The most bytes of values in one answer: as many as one value may have.
pub(crate) const VALUES_BYTES_MAX: usize = 60 << 20;
/// The most bytes that a gateway adds to a key's result beside the key, twice, and the value: a stamp, or an error.
pub(crate) const RESULT_OVERHEAD_BYTES: usize = 1 << 10;

/// The result of one key: its latest record, `None` if it was never written, or why it was not read.
pub(crate) type KeyResult = Result<Option<AgedRecord>, ServiceError>;

/// The answer to a batch.
pub(crate) struct BatchAnswer {
    /// One result for each key of the request, in its order.
    pub(crate) results: Vec<(Key, KeyResult)>,
    /// The values' part of the buffer budget.
    pub(crate) guard: BudgetGuard,
}

impl Service {
    /// Reads the latest record of each of `keys`. A key that is given twice is read twice.
    pub(crate) async fn batch_get(
        &self,
        table: &Table,
        keys: Vec<Key>,
        deadline: Deadline,
    ) -> Result<BatchAnswer, ServiceError> {
        for key in &keys {
            self.allow(&method::BATCH_GET, Target::Key(table, key.user_bytes()))?;
        }
        let begin =
            async { self.node.batch_get(table, &keys, deadline.answer_at).await.map_err(RequestError::Rejected) };
        let mut reads = std::pin::pin!(self.wait(Access::Read, None, begin, deadline).await?);
        let mut guard = self.buffers.guard();
        let mut room = value_room(&keys);
        let mut results: Vec<Option<KeyResult>> = keys.iter().map(|_| None).collect();
        while let Ok(Some((index, read))) = tokio::time::timeout_at(deadline.give_up_at.into(), reads.next()).await {
            let key = &keys[index];
            let result = read.map_err(|error| self.of_read(table, key).request_failed(error));
            results[index] = Some(result.and_then(|record| self.fit(key, record, &mut room, &mut guard)));
        }
        let unanswered = |key: &Key| Err(self.of_read(table, key).unanswered("the node did not answer in time"));
        let results = results.into_iter().zip(keys).map(|(result, key)| {
            let result = result.unwrap_or_else(|| unanswered(&key));
            (key, result)
        });
        let results: Vec<(Key, KeyResult)> = results.collect();
        let refused = |result: &KeyResult| {
            let reason = result.as_ref().err().map(|error| error.failure.reason);
            matches!(reason, Some(FailureReason::NotReady | FailureReason::NoSuchTable))
        };
        match results.first() {
            Some((_, Err(error))) if results.iter().all(|(_, result)| refused(result)) => Err(error.clone()),
            _ => Ok(BatchAnswer { results, guard }),
        }
    }

    /// Lets a record into the answer, if it is intact and fits.
    fn fit(&self, key: &Key, record: Option<AgedRecord>, room: &mut usize, guard: &mut BudgetGuard) -> KeyResult {
        let Some(record) = record else { return Ok(None) };
        self.check(record.table, key, &record)?;
        let bytes = record.content.value_bytes();
        let Some(left) = room.checked_sub(bytes) else {
            let message = format!(
                "not in this answer: the value has {bytes} bytes, and the values of one batch hold {VALUES_BYTES_MAX} \
                 bytes together at most. Read the key alone, or in a smaller batch"
            );
            return Err(ServiceError::new(FailureReason::NotReady, &message).overloaded());
        };
        if !guard.grow(bytes) {
            return Err(self.context(key).no_room());
        }
        *room = left;
        Ok(Some(record))
    }
}

/// The bytes that values may take, so that the answer fits into one message with all its keys.
fn value_room(keys: &[Key]) -> usize {
    let beside: usize = keys.iter().map(|key| 2 * key.as_bytes().len() + RESULT_OVERHEAD_BYTES).sum();
    MESSAGE_BYTES_MAX.saturating_sub(beside).min(VALUES_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::KEY_BYTES_MAX;
    use crate::wire::BATCH_KEYS_MAX;

    #[test]
    fn values_have_their_room_unless_the_keys_take_it() {
        let key = |bytes: usize| Key::new("k".repeat(bytes)).unwrap();
        assert_eq!(value_room(&[key(1)]), VALUES_BYTES_MAX);
        assert_eq!(value_room(&vec![key(100); BATCH_KEYS_MAX]), VALUES_BYTES_MAX);
        let room = value_room(&vec![key(KEY_BYTES_MAX); BATCH_KEYS_MAX]);
        assert!((50 << 20..VALUES_BYTES_MAX).contains(&room), "{room}");
    }
}
