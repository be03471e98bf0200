//! Tokens are made, listed and revoked here, and each node keeps its copy of them current.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::auth::{Grant, Holder, Holders, HoldersError, Proof, Target, Token, TokenError, TokenId};
use crate::service::deadline::Deadline;
use crate::service::error::ServiceError;
use crate::service::update::{Present, Update};
use crate::service::{Answer, Service};
use crate::tls::date;
use crate::types::{Content, Table, Version};
use crate::wire::failure::FailureReason;
use crate::wire::method::{TOKEN_CREATE, TOKEN_LIST, TOKEN_REVOKE};
use crate::wire::tokens::TokenCreateCall;

use super::{Asked, READ_AGAIN_AFTER, READ_EVERY, READ_TIME_MAX};

impl From<HoldersError> for ServiceError {
    fn from(error: HoldersError) -> Self {
        let message = format!("nothing was done: {error}");
        match error {
            HoldersError::Unreadable(_) => Self::new(FailureReason::Damaged, &message),
            _ => Self::invalid(&message),
        }
    }
}

impl From<TokenError> for ServiceError {
    fn from(error: TokenError) -> Self {
        Self::new(FailureReason::NotApplied, &format!("nothing was done: {error}"))
    }
}

impl Service {
    /// Gives rights to a token or a certificate.
    pub(crate) async fn token_create(
        self: &Arc<Self>,
        call: TokenCreateCall,
        deadline: Deadline,
    ) -> Result<Holder, ServiceError> {
        let TokenCreateCall { id, name, proof, grants } = call;
        let holder = Holder { id, name, proof, grants, created: date::now() };
        let rights: Vec<String> = holder.grants.iter().map(Grant::to_string).collect();
        let mut details =
            vec![("id", holder.id.to_string()), ("name", holder.name.clone()), ("rights", rights.join(" "))];
        if let Proof::Certificate(name) = &holder.proof {
            details.push(("for_certificate", name.clone()));
        }
        self.audited_as(Asked::of(&TOKEN_CREATE, Target::Cluster).with_details(&details), async {
            let nodes = Holders::new_token_of_nodes()?;
            self.change_holders(deadline, |holders| holders.create(holder.clone(), || nodes.clone())).await?;
            Ok(holder.clone())
        })
        .await
    }

    /// Everybody who has rights, by name.
    pub(crate) async fn tokens(self: &Arc<Self>, deadline: Deadline) -> Result<Vec<Arc<Holder>>, ServiceError> {
        self.allow(&TOKEN_LIST, Target::Cluster)?;
        let (_, content) = self.read_holders(deadline).await?;
        Ok(Holders::of(&content)?.listed().into_iter().cloned().collect())
    }

    /// Takes all rights of a token or a certificate back.
    pub(crate) async fn token_revoke(self: &Arc<Self>, id: TokenId, deadline: Deadline) -> Result<(), ServiceError> {
        let details = [("id", id.to_string())];
        self.audited_as(Asked::of(&TOKEN_REVOKE, Target::Cluster).with_details(&details), async {
            let nodes = Holders::new_token_of_nodes()?;
            self.change_holders(deadline, |holders| holders.revoke(&id, || nodes.clone())).await
        })
        .await
    }

    /// The token by which this node asks others for their health; `None` without authorization, and before there is one.
    pub(crate) fn token_of_nodes(&self) -> Option<Token> {
        let known = self.authorization.as_ref()?.known.read().unwrap_or_else(PoisonError::into_inner);
        known.holders.nodes().cloned()
    }

    /// Keeps what this node knows of all holders current, until `shutdown`.
    pub(crate) async fn follow_holders(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if !self.learn_holders().await {
                ticks.reset_after(READ_AGAIN_AFTER);
            }
        }
    }

    /// Reads the record of all holders, and goes by it from now on. Whether it could be read.
    pub(crate) async fn learn_holders(self: &Arc<Self>) -> bool {
        let Some(authorization) = &self.authorization else { return true };
        let began = Instant::now();
        let deadline = Deadline::new(Some(READ_TIME_MAX), began);
        let read = self.read_holders(deadline).await;
        let is_known = |version: &Version| {
            authorization.known.read().unwrap_or_else(PoisonError::into_inner).version.as_ref() == Some(version)
        };
        let learned = match read {
            Ok((version, _)) if is_known(&version) => Ok(None),
            Ok((version, content)) => {
                Holders::of(&content).map(|holders| Some((version, holders))).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.message),
        };
        let mut known = authorization.known.write().unwrap_or_else(PoisonError::into_inner);
        // Two reads may overlap: what the later one has found is not taken back.
        if known.as_of.is_some_and(|as_of| as_of > began) {
            return true;
        }
        let is_read = learned.is_ok();
        match learned {
            Ok(new) => {
                if let Some((version, holders)) = new {
                    info!(holders = holders.listed().len(), "read who may do what");
                    (known.version, known.holders) = (Some(version), Arc::new(holders));
                }
                let was_known = known.as_of.is_some();
                known.as_of = Some(began);
                if known.problem.take().is_some() && was_known {
                    info!("who may do what can be read again");
                }
            }
            Err(problem) => {
                // A node that starts has no quorum for a while.
                if known.problem.is_none() && known.as_of.is_some() {
                    warn!(problem, "cannot read who may do what, and goes on with what is known");
                }
                known.problem = Some(problem);
            }
        }
        is_read
    }

    /// The record of all holders, linearizably, and its version.
    async fn read_holders(self: &Arc<Self>, deadline: Deadline) -> Result<(Version, Content), ServiceError> {
        let found = self.for_this_node().get(&Table::Default, &Holders::key(), deadline).await?;
        Ok(match found {
            Some(Answer { record, .. }) => (record.version(), record.record.content),
            None => (Version::absent(), Content::Tombstone),
        })
    }

    /// Changes the record of all holders, as one atomic operation.
    async fn change_holders(
        self: &Arc<Self>,
        deadline: Deadline,
        mut change: impl FnMut(&mut Holders) -> Result<(), HoldersError>,
    ) -> Result<(), ServiceError> {
        let judge = |present: Option<Present<'_>>| {
            let mut changed = || {
                let before = present.map_or(Content::Tombstone, |present| Content::Value(present.value.clone()));
                let mut holders = Holders::of(&before)?;
                change(&mut holders)?;
                holders.content()
            };
            match changed() {
                Ok(content) => Update::Write { content, ttl: None, result: Ok(()) },
                Err(error) => Update::Keep(Err(error)),
            }
        };
        self.for_this_node().update(&Table::Default, &Holders::key(), deadline, judge).await?.result?;
        // This node knows at once.
        self.learn_holders().await;
        Ok(())
    }
}
