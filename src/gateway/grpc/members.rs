//! `api.Members`: the members of the cluster, for operators.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::api;
use crate::service::Service;
use crate::service::members::Wish;

use super::{deadline_of, service_of};

pub(super) struct MembersService(pub(super) Arc<Service>);

#[tonic::async_trait]
impl api::members_server::Members for MembersService {
    async fn get(&self, request: Request<api::MembersGetRequest>) -> Result<Response<api::MembersGetResponse>, Status> {
        let service = service_of(&request, &self.0);
        Ok(Response::new(service.members(deadline_of(&request)).await?))
    }

    async fn plan(&self, request: Request<api::MembersWish>) -> Result<Response<api::MembersPlanResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let wish = Wish::try_from(request.into_inner())?;
        Ok(Response::new(service.members_plan(wish, deadline).await?))
    }

    async fn change(&self, request: Request<api::MembersWish>) -> Result<Response<api::MembersChangeResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let wish = Wish::try_from(request.into_inner())?;
        let number = service.members_change(wish, deadline).await?;
        Ok(Response::new(api::MembersChangeResponse { number }))
    }

    async fn abort(
        &self,
        request: Request<api::MembersAbortRequest>,
    ) -> Result<Response<api::MembersChangeResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let number = service.members_abort(request.into_inner().expected, deadline).await?;
        Ok(Response::new(api::MembersChangeResponse { number }))
    }
}
