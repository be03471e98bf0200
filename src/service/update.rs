//! Changes a value depending on what it is: a read, and a write under the condition that nothing was written meanwhile.
//!
//! Contract: the read and the write are one atomic operation. While others write the key in between, both are done again,
//! within the deadline and after growing pauses. A write whose outcome is unknown is never done again.
//!
//! The updates of one key by one node take turns, so that they do not spoil each other's. Bounded by the requests that wait:
//! each holds one place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use crate::auth::Target;
use crate::types::{
    AgedRecord, Change, ChangeRequest, Checksum, Condition, Content, IdempotencyToken, Key, Table, Ttl, Value, Version,
};
use crate::wire::failure::FailureReason;
use crate::wire::method;

use super::buffer_budget::BudgetGuard;
use super::deadline::Deadline;
use super::error::ServiceError;
use super::replace::before_write;
use super::{Answer, Service};

/// The pause after the first write that came too late.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(64);

/// The result of an update's function for a value.
#[derive(Debug)]
pub(crate) enum Update<T> {
    /// Writes this, and ends so.
    Write { content: Content, ttl: Option<Ttl>, result: T },
    /// Writes nothing, and ends so.
    Keep(T),
}

/// The present value of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Present<'a> {
    pub(crate) value: &'a Value,
    /// The rest of its time to live.
    pub(crate) ttl: Option<Ttl>,
}

/// The end of an update.
#[derive(Debug)]
pub(crate) struct Updated<T> {
    pub(crate) result: T,
    /// The part of the buffer budget of the value that was read.
    pub(crate) guard: Option<BudgetGuard>,
}

impl Service {
    /// Changes the value of `key` to what `judge` makes of it.
    pub(crate) async fn update<T>(
        &self,
        table: &Table,
        key: &Key,
        deadline: Deadline,
        mut judge: impl FnMut(Option<Present<'_>>) -> Update<T>,
    ) -> Result<Updated<T>, ServiceError> {
        self.allow(&method::SET, Target::Key(table, key.user_bytes()))?;
        let Ok(_turn) = tokio::time::timeout_at(deadline.answer_at.into(), self.turns.take(table, key)).await else {
            return Err(too_busy("other updates of the key took all the time"));
        };
        let mut pause = PAUSE_MIN;
        loop {
            let found = self.get(table, key, deadline).await.map_err(before_write)?;
            let (version, guard, update) = match found {
                None => (self.absence(table, deadline).await.map_err(before_write)?, None, judge(None)),
                Some(Answer { record, guard }) => (record.version(), guard, judge(present(&record))),
            };
            let (content, ttl, result) = match update {
                Update::Keep(result) => return Ok(Updated { result, guard }),
                Update::Write { content, ttl, result } => (content, ttl, result),
            };
            let checksum = Checksum::of_write(key, &content, ttl);
            let change = Change::Write { condition: Condition::Version(version), content, ttl, checksum };
            let request = ChangeRequest { change, token: IdempotencyToken(rand::random()), is_resend: false };
            match self.change(table, key.clone(), request, deadline).await {
                Ok(_) => return Ok(Updated { result, guard }),
                Err(error) if error.failure.reason == FailureReason::ConditionFailed => {}
                Err(error) => return Err(error),
            }
            // Between half of the pause and all of it, so that two nodes do not go on in step.
            let until = Instant::now() + pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            if until >= deadline.answer_at {
                return Err(too_busy("others wrote the key all the time"));
            }
            tokio::time::sleep_until(until.into()).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The version of a key of `table` that was never written.
    pub(crate) async fn absence(&self, table: &Table, deadline: Deadline) -> Result<Version, ServiceError> {
        Ok(Version::absent().in_table(self.table_open(table, deadline).await?))
    }
}

/// The value of a record, if it has one.
fn present(record: &AgedRecord) -> Option<Present<'_>> {
    let Content::Value(value) = &record.record.content else { return None };
    let left = record.ttl_left().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    Some(Present { value, ttl: left.and_then(Ttl::from_millis) })
}

fn too_busy(why: &str) -> ServiceError {
    let message = format!("not written, certainly, and safe to send again: {why}");
    ServiceError::new(FailureReason::NotApplied, &message)
}

/// The lock of each key that is being updated.
type Waiting = HashMap<(Table, Key), Arc<tokio::sync::Mutex<()>>>;

/// The updates of all keys that a node works on.
#[derive(Debug, Default)]
pub(super) struct UpdateQueues {
    keys: Mutex<Waiting>,
}

/// The place of an update in the queue of its key, and its turn once it has it.
struct Turn<'a> {
    turns: &'a UpdateQueues,
    key: (Table, Key),
    lock: Arc<tokio::sync::Mutex<()>>,
    held: Option<OwnedMutexGuard<()>>,
}

impl UpdateQueues {
    /// The turn of an update of `key`, once those before it have ended.
    async fn take(&self, table: &Table, key: &Key) -> Turn<'_> {
        let key = (table.clone(), key.clone());
        let lock = Arc::clone(self.keys().entry(key.clone()).or_default());
        let mut turn = Turn { turns: self, key, lock, held: None };
        turn.held = Some(Arc::clone(&turn.lock).lock_owned().await);
        turn
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held = None;
        let mut keys = self.turns.keys();
        // The map's own, and this one.
        if Arc::strong_count(&self.lock) == 2 {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn updates_of_one_key_take_turns_and_leave_nothing_behind() {
        let (turns, one, other) = (UpdateQueues::default(), Key::new("one").unwrap(), Key::new("other").unwrap());
        let first = turns.take(&Table::Default, &one).await;
        let second = tokio::time::timeout(Duration::from_millis(1), turns.take(&Table::Default, &one)).await;
        assert!(second.is_err(), "the first one has not ended");
        let elsewhere = turns.take(&Table::Default, &other).await;
        assert_eq!(turns.keys().len(), 2);
        drop((first, elsewhere));
        assert!(turns.keys().is_empty());
        drop(turns.take(&Table::Default, &one).await);
        assert!(turns.keys().is_empty());
    }
}
