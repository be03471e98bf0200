//! Changing a value depending on what it is.

use tokio::time::Instant;

use super::backoff::Backoff;
use super::error::ClientError;
use super::{Acknowledged, Client, Versioned};
use crate::types::Value;

/// Reads `key` and writes what `change` makes of it, until nobody else wrote in between.
pub(super) async fn update<V: Into<Value>>(
    client: &Client,
    key: &str,
    mut change: impl FnMut(Option<&Versioned>) -> Option<V>,
) -> Result<Option<Acknowledged>, ClientError> {
    let deadline = Instant::now() + client.deadline;
    let mut backoff = Backoff::between_contenders();
    loop {
        let client = client.with_deadline(deadline.saturating_duration_since(Instant::now()));
        let state = client.get(key).state().await?;
        let Some(value) = change(state.found.as_ref()) else { return Ok(None) };
        let client = client.with_deadline(deadline.saturating_duration_since(Instant::now()));
        // The version holds for one change only, so that this one is not made twice, however often it is sent.
        match client.set(key, value).if_version(state.version).await {
            Ok(written) => return Ok(Some(written)),
            Err(ClientError::ConditionFailed { version, has_value }) => {
                if !backoff.wait(deadline).await {
                    return Err(ClientError::ConditionFailed { version, has_value });
                }
            }
            Err(error) => return Err(error),
        }
    }
}
