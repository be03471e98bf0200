//! `api.Tokens`: who may do what, for administrators.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::api;
use crate::service::Service;
use crate::wire::tokens::{TokenCreateCall, token_id};

use super::status::rejected;
use super::{deadline_of, service_of};

pub(super) struct TokensService(pub(super) Arc<Service>);

#[tonic::async_trait]
impl api::tokens_server::Tokens for TokensService {
    async fn create(
        &self,
        request: Request<api::TokenCreateRequest>,
    ) -> Result<Response<api::TokenCreateResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let call = TokenCreateCall::try_from(request.into_inner()).map_err(rejected)?;
        let holder = service.token_create(call, deadline).await?;
        Ok(Response::new(api::TokenCreateResponse { token: Some((&holder).into()) }))
    }

    async fn list(&self, request: Request<api::TokenListRequest>) -> Result<Response<api::TokenListResponse>, Status> {
        let service = service_of(&request, &self.0);
        let holders = service.tokens(deadline_of(&request)).await?;
        Ok(Response::new(api::TokenListResponse { tokens: holders.iter().map(|holder| (&**holder).into()).collect() }))
    }

    async fn revoke(
        &self,
        request: Request<api::TokenRevokeRequest>,
    ) -> Result<Response<api::TokenRevokeResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let id = token_id("id", &request.into_inner().id).map_err(rejected)?;
        service.token_revoke(id, deadline).await?;
        Ok(Response::new(api::TokenRevokeResponse {}))
    }
}
