//! `api.Tables`: the tables of the cluster.

use std::sync::Arc;

use futures_util::stream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::api;
use crate::service::Service;
use crate::service::tables::{TableList, TablePage};
use crate::types::{Table, TableName, TableNameError};
use crate::wire::WireError;
use crate::wire::tables::{TableCreateCall, TableListCall, default_table, named};

use super::status::rejected;
use super::{deadline_of, service_of};

pub(super) struct TablesService(pub(super) Arc<Service>);

#[tonic::async_trait]
impl api::tables_server::Tables for TablesService {
    async fn create(
        &self,
        request: Request<api::TableCreateRequest>,
    ) -> Result<Response<api::TableCreateResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let TableCreateCall { name, settings, if_missing } =
            TableCreateCall::try_from(request.into_inner()).map_err(rejected)?;
        let creation = service.table_create(name, settings.unwrap_or_default(), deadline).await?;
        let created = creation.is_new;
        let table = if if_missing { creation.with_settings(settings)? } else { creation.if_new()? };
        Ok(Response::new(api::TableCreateResponse { table: Some(table.into()), created }))
    }

    async fn get(&self, request: Request<api::TableGetRequest>) -> Result<Response<api::TableGetResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let table = match parse(&request.into_inner().name)? {
            Table::Default => {
                service.table_open(&Table::Default, deadline).await?;
                default_table()
            }
            Table::Named(name) => service.table_get(&name, deadline).await?.into(),
        };
        Ok(Response::new(api::TableGetResponse { table: Some(table) }))
    }

    async fn list(
        &self,
        request: Request<api::TableListRequest>,
    ) -> Result<Response<BoxStream<api::TableListResponse>>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let call = TableListCall::try_from(request.into_inner()).map_err(rejected)?;
        let list = service.tables(call.after.as_deref(), call.limit, deadline)?;
        Ok(Response::new(Box::pin(stream::unfold(list, next_page))))
    }

    async fn drop(&self, request: Request<api::TableDropRequest>) -> Result<Response<api::TableDropResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        service.table_drop(name(&request.into_inner().name)?, deadline).await?;
        Ok(Response::new(api::TableDropResponse {}))
    }
}

/// The name of a table that can be created or dropped.
fn name(text: &str) -> Result<TableName, Status> {
    named("name", text).map_err(rejected)
}

/// The name of any table. It must be given.
fn parse(text: &str) -> Result<Table, Status> {
    let table = if text.is_empty() { Err(TableNameError::Empty) } else { Table::parse(text) };
    table.map_err(|source| rejected(WireError::Table { field: "name", source }))
}

async fn next_page(mut list: TableList) -> Option<(Result<api::TableListResponse, Status>, TableList)> {
    let page = list.next_page().await?.map(|TablePage { tables, next }| api::TableListResponse {
        tables: tables.into_iter().map(|table| table.map_or_else(default_table, api::Table::from)).collect(),
        next,
    });
    Some((page.map_err(Status::from), list))
}
