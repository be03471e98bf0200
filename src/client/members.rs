//! The members of the cluster, for operators.

use super::failover::Operation;
use super::node::{by, within};
use super::verdict::judge_read;
use super::{Client, ClientError};
use crate::api;

impl Client {
    /// Reads the members of the cluster, what moves, and the nodes that wait to join, as the first node that answers sees
    /// them.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] or [`ClientError::Refused`].
    pub async fn members(&self) -> Result<api::MembersGetResponse, ClientError> {
        let operation = Operation::begin(self.deadline);
        self.pool
            .read(operation, |node, deadline| async move {
                let request = by(api::MembersGetRequest {}, deadline);
                let answer = within(deadline, async { node.members().get(request).await }).await;
                Ok(answer.map_err(|status| judge_read(&node, &status))?.into_inner())
            })
            .await
    }

    /// Asks what a change to the members of `wish` would move. Nothing is changed.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`], or [`ClientError::Refused`] where the members cannot be these.
    pub async fn plan_members(&self, wish: api::MembersWish) -> Result<api::MembersPlanResponse, ClientError> {
        let operation = Operation::begin(self.deadline);
        self.pool
            .read(operation, move |node, deadline| {
                let request = by(wish.clone(), deadline);
                async move {
                    let answer = within(deadline, async { node.members().plan(request).await }).await;
                    Ok(answer.map_err(|status| judge_read(&node, &status))?.into_inner())
                }
            })
            .await
    }

    /// Begins a change to the members of `wish`, and returns the number of its configuration. [`Client::members`] shows how
    /// far it is.
    ///
    /// Name the number of the configuration that the wish was made for (`expected`). Then the change cannot be made twice, and
    /// takes nothing back that another operator has done meanwhile.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the reason `MembersRefused` or `MembersChanged`, [`ClientError::NotApplied`] or
    /// [`ClientError::OutcomeUnknown`].
    pub async fn change_members(&self, wish: api::MembersWish) -> Result<u64, ClientError> {
        let operation = Operation::begin(self.deadline);
        let (_, answer) = self.pool.write(operation, "/api.Members/Change", wish).await?;
        let api::MembersChangeResponse { number } = answer;
        Ok(number)
    }

    /// Takes the change of members back that is under way, and returns the number of the configuration after it.
    ///
    /// # Errors
    /// As [`Client::change_members`].
    pub async fn abort_change_of_members(&self, expected: Option<u64>) -> Result<u64, ClientError> {
        let operation = Operation::begin(self.deadline);
        let request = api::MembersAbortRequest { expected };
        let (_, answer) = self.pool.write(operation, "/api.Members/Abort", request).await?;
        let api::MembersChangeResponse { number } = answer;
        Ok(number)
    }
}
