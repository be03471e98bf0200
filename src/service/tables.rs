//! Tables: they are created, dropped, looked up and listed here.
//!
//! Contract: a table that was dropped is gone for everybody once that is answered, whatever other nodes know of its name.

use crate::types::{Table, TableId, TableInfo, TableName, TableSettings};
use crate::wire::failure::FailureReason;
use crate::wire::method::Access;

use super::Service;
use super::deadline::Deadline;
use super::error::ServiceError;

/// A table that is there after a request to create it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreatedTable {
    /// The table. Its settings are those of its creation.
    pub(crate) info: TableInfo,
    /// Whether this request created it.
    pub(crate) is_new: bool,
}

#[allow(dead_code)]
impl Service {
    /// Creates a table, unless it is there: then its settings stay as they are.
    pub(crate) async fn table_create(
        &self,
        name: TableName,
        settings: TableSettings,
        deadline: Deadline,
    ) -> Result<CreatedTable, ServiceError> {
        let create = self.node.create_table(name.clone(), settings, deadline.answer_at);
        let (table, is_new) = self.wait(Access::Write, None, create, deadline).await?;
        Ok(CreatedTable { info: TableInfo { name, table }, is_new })
    }

    /// Drops a table. Its keys are gone for everybody then.
    pub(crate) async fn table_drop(&self, name: TableName, deadline: Deadline) -> Result<(), ServiceError> {
        let drop = self.node.drop_table(name, deadline.answer_at);
        self.wait(Access::Write, None, drop, deadline).await
    }

    /// What a name stands for; `None` where there is no such table.
    pub(crate) async fn table_get(
        &self,
        name: TableName,
        deadline: Deadline,
    ) -> Result<Option<TableInfo>, ServiceError> {
        let read = self.node.table(&name, deadline.answer_at);
        let table = self.wait(Access::Read, None, read, deadline).await?;
        Ok(table.map(|table| TableInfo { name, table }))
    }

    /// All created tables, in the order of their names' bytes. The default table is not among them.
    pub(crate) async fn tables(&self, deadline: Deadline) -> Result<Vec<TableInfo>, ServiceError> {
        let (mut tables, mut after) = (Vec::new(), None);
        loop {
            let page = self.node.tables(after.as_ref(), deadline.answer_at);
            let (mut found, next) = self.wait(Access::Read, None, page, deadline).await?;
            tables.append(&mut found);
            match next {
                Some(next) => after = Some(next),
                None => return Ok(tables),
            }
        }
    }

    /// The id that the keys of `table` are stored under, for a watch or a list of several pages.
    pub(crate) async fn table_open(&self, table: &Table, deadline: Deadline) -> Result<TableId, ServiceError> {
        if *table == Table::Default {
            return Ok(TableId::DEFAULT);
        }
        self.wait(Access::Read, None, self.node.open_table(table, deadline.answer_at), deadline).await
    }

    /// The error of a request about a table that is not there.
    pub(crate) fn missing_table(table: &Table) -> ServiceError {
        let message = format!("there is no table {table}: create it first");
        ServiceError::new(FailureReason::MissingTable, &message)
    }
}
