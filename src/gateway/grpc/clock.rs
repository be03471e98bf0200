//! `api.Clock`: one node's logical clock, for operators.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::api;
use crate::service::Service;
use crate::types::Clock;
use crate::wire::WireError;

use super::status::rejected;
use super::{deadline_of, service_of};

pub(super) struct ClockService(pub(super) Arc<Service>);

#[tonic::async_trait]
impl api::clock_server::Clock for ClockService {
    async fn get(&self, request: Request<api::ClockGetRequest>) -> Result<Response<api::ClockGetResponse>, Status> {
        let service = service_of(&request, &self.0);
        let clock = service.clock(deadline_of(&request)).await?;
        Ok(Response::new(api::ClockGetResponse { clock: Some(clock.into()) }))
    }

    async fn set(&self, request: Request<api::ClockSetRequest>) -> Result<Response<api::ClockSetResponse>, Status> {
        let service = service_of(&request, &self.0);
        service.allow_operator_writes()?;
        let deadline = deadline_of(&request);
        let missing = WireError::Missing { field: "clock", accepted: "epoch and clock" };
        let to: Clock = request.into_inner().clock.ok_or(missing).map_err(rejected)?.into();
        let clock = service.raise_clock(to, deadline).await?;
        Ok(Response::new(api::ClockSetResponse { clock: Some(clock.into()) }))
    }
}
