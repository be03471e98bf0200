//! Tokens and their rights, for administrators.

use super::backoff::Backoff;
use super::failover::Operation;
use super::node::{by, within};
use super::verdict::judge_read;
use super::{Client, ClientError, Token};
use crate::api;

impl Client {
    /// Gives `rights`, such as `read:carts`, to `token`, under a name for people. Its secret stays here: the cluster gets a hash.
    /// A node that was not asked knows it within 2 s.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::NotApplied`] or [`ClientError::OutcomeUnknown`].
    pub async fn create_token(
        &self,
        token: &Token,
        name: &str,
        rights: Vec<String>,
    ) -> Result<api::Token, ClientError> {
        let id = token.id().as_str().to_owned();
        let made = api::Token { id, name: name.to_owned(), rights, ..Default::default() };
        self.send_token(api::TokenCreateRequest {
            token: Some(made),
            secret_sha256: token.hash().as_bytes().to_vec().into(),
        })
        .await
    }

    /// Gives `rights` to the client certificate that `certificate` names, under an id and a name for people.
    ///
    /// # Errors
    /// As [`Client::create_token`].
    pub async fn give_rights_to_certificate(
        &self,
        id: &str,
        name: &str,
        certificate: &str,
        rights: Vec<String>,
    ) -> Result<api::Token, ClientError> {
        let (id, name, certificate) = (id.to_owned(), name.to_owned(), certificate.to_owned());
        let token = api::Token { id, name, certificate, rights, created: 0 };
        self.send_token(api::TokenCreateRequest { token: Some(token), ..Default::default() }).await
    }

    async fn send_token(&self, request: api::TokenCreateRequest) -> Result<api::Token, ClientError> {
        let operation = Operation::begin(self.deadline);
        let mut backoff = Backoff::new();
        loop {
            let sent: Result<(_, api::TokenCreateResponse), _> =
                self.pool.write(operation, "/api.Tokens/Create", request.clone()).await;
            match sent {
                // The same again changes nothing.
                Err(ClientError::OutcomeUnknown { .. }) if backoff.wait(operation.deadline()).await => {}
                sent => return Ok(sent?.1.token.unwrap_or_default()),
            }
        }
    }

    /// Lists all tokens and certificates that have rights, by name.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] or [`ClientError::Refused`].
    pub async fn list_tokens(&self) -> Result<Vec<api::Token>, ClientError> {
        let operation = Operation::begin(self.deadline);
        self.pool
            .read(operation, |node, deadline| async move {
                let request = by(api::TokenListRequest {}, deadline);
                let answer = within(deadline, async { node.tokens().list(request).await }).await;
                Ok(answer.map_err(|status| judge_read(&node, &status))?.into_inner().tokens)
            })
            .await
    }

    /// Takes all rights of a token or a certificate back, by its id. Each node that reaches a majority refuses it within 2 s.
    ///
    /// # Errors
    /// As [`Client::create_token`].
    pub async fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        let operation = Operation::begin(self.deadline);
        let request = api::TokenRevokeRequest { id: id.to_owned() };
        let _: (_, api::TokenRevokeResponse) = self.pool.write(operation, "/api.Tokens/Revoke", request).await?;
        Ok(())
    }
}
