//! `api.Clock`: one node's quorum clock, for operators.

use tonic::{Request, Response, Status};

use crate::api;
use crate::protocol::{Command, Reply};
use crate::types::{Clock, Stamp};
use crate::wire::WireError;

use super::answer::{Purpose, invalid, misplaced};
use super::{Asker, deadline_of};

pub(super) struct ClockService {
    asker: Asker,
}

impl ClockService {
    pub(super) fn new(asker: Asker) -> Self {
        Self { asker }
    }

    async fn ask<T>(
        &self,
        request: &Request<T>,
        purpose: Purpose,
        command: Command,
    ) -> Result<Option<api::ClockValue>, Status> {
        match self.asker.ask(purpose, None, command, deadline_of(request)).await? {
            Reply::Clock(clock) => Ok(Some(Stamp { clock, writer: self.asker.node().id().clone() }.into())),
            Reply::Record(_) | Reply::Set(_) | Reply::Failed(_) => Err(misplaced()),
        }
    }
}

#[tonic::async_trait]
impl api::clock_server::Clock for ClockService {
    async fn get(&self, request: Request<api::ClockGetRequest>) -> Result<Response<api::ClockGetResponse>, Status> {
        let clock = self.ask(&request, Purpose::Read, Command::ClockGet).await?;
        Ok(Response::new(api::ClockGetResponse { clock }))
    }

    async fn set(&self, request: Request<api::ClockSetRequest>) -> Result<Response<api::ClockSetResponse>, Status> {
        self.asker.operator_writes_allowed()?;
        let given = request.get_ref().clock.clone();
        let to: Clock =
            given.ok_or_else(|| invalid(&WireError::Missing { field: "clock", accepted: "epoch and clock" }))?.into();
        let clock = self.ask(&request, Purpose::Write, Command::ClockRaise { to }).await?;
        Ok(Response::new(api::ClockSetResponse { clock }))
    }
}
