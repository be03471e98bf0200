//! Writes without a condition that tell what was there, for protocols whose answers say it.
//!
//! Contract: the key is read first, linearizably. Its answer is exact unless somebody else writes the key meanwhile.
//! The write itself is a plain one. If the read fails, nothing was written.

use crate::auth::Target;
use crate::types::{Content, Key, Table, Ttl, Version};
use crate::wire::failure::FailureReason;
use crate::wire::method;

use super::Service;
use super::deadline::Deadline;
use super::error::ServiceError;

impl Service {
    /// Writes `content`; also whether the key had a value.
    pub(crate) async fn replace(
        &self,
        table: &Table,
        key: Key,
        content: Content,
        ttl: Option<Ttl>,
        deadline: Deadline,
    ) -> Result<(Version, bool), ServiceError> {
        let had_value = self.has_value(table, &key, deadline).await?;
        Ok((self.set(table, key, content, ttl, deadline).await?, had_value))
    }

    /// Deletes the value of `key`; `false` if it has none, and then nothing is written.
    pub(crate) async fn remove(&self, table: &Table, key: Key, deadline: Deadline) -> Result<bool, ServiceError> {
        let had_value = self.has_value(table, &key, deadline).await?;
        if had_value {
            self.set(table, key, Content::Tombstone, None, deadline).await?;
        }
        Ok(had_value)
    }

    /// Whether a key that is about to be written has a value.
    pub(crate) async fn has_value(&self, table: &Table, key: &Key, deadline: Deadline) -> Result<bool, ServiceError> {
        // A caller who may not write learns nothing of the key either: whoever may write may read.
        self.allow(&method::SET, Target::Key(table, key.user_bytes()))?;
        let read = self.node.get(table, key.clone(), deadline.answer_at);
        let record = self.wait_for(self.of_read(table, key), read, deadline).await.map_err(before_write)?;
        Ok(record.is_some_and(|record| matches!(record.content, Content::Value(_))))
    }
}

/// The failure of a read that a write waited for.
pub(super) fn before_write(mut error: ServiceError) -> ServiceError {
    if matches!(error.failure.reason, FailureReason::NoQuorum | FailureReason::NotReady) {
        error.failure.reason = FailureReason::NotApplied;
        error.message = format!("not written, certainly, because the key could not be read first: {}", error.message);
    }
    error
}
