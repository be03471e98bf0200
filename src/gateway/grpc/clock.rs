//! `api.Clock`: one node's quorum clock, for operators.

use tonic::{Request, Response, Status};

use crate::api;
use crate::types::{Clock, Stamp};
use crate::wire::WireError;

use super::answer::{Purpose, invalid};
use super::{Asker, deadline_of};

pub(super) struct ClockService {
    asker: Asker,
}

impl ClockService {
    pub(super) fn new(asker: Asker) -> Self {
        Self { asker }
    }

    fn stamped(&self, clock: Clock) -> Option<api::ClockValue> {
        Some(Stamp { clock, writer: self.asker.node().id().clone() }.into())
    }
}

#[tonic::async_trait]
impl api::clock_server::Clock for ClockService {
    async fn get(&self, request: Request<api::ClockGetRequest>) -> Result<Response<api::ClockGetResponse>, Status> {
        let deadline = deadline_of(&request);
        let operation = self.asker.node().clock(deadline.answer_at);
        let clock = self.asker.ask(Purpose::Read, None, operation, deadline).await?;
        Ok(Response::new(api::ClockGetResponse { clock: self.stamped(clock) }))
    }

    async fn set(&self, request: Request<api::ClockSetRequest>) -> Result<Response<api::ClockSetResponse>, Status> {
        self.asker.operator_writes_allowed()?;
        let given = request.get_ref().clock.clone();
        let to: Clock =
            given.ok_or_else(|| invalid(&WireError::Missing { field: "clock", accepted: "epoch and clock" }))?.into();
        let deadline = deadline_of(&request);
        let operation = self.asker.node().raise_clock(to, deadline.answer_at);
        let clock = self.asker.ask(Purpose::Write, None, operation, deadline).await?;
        Ok(Response::new(api::ClockSetResponse { clock: self.stamped(clock) }))
    }
}
