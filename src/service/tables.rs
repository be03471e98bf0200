//! Tables: they are created, dropped, looked up and listed here.
//!
//! Contract: a table that was dropped is gone for everybody once that is answered, whatever other nodes know of its name.

use std::sync::Arc;
use std::time::Instant;

use crate::auth::Target;
use crate::types::{DEFAULT_TABLE, Key, Table, TableId, TableInfo, TableName, TableSettings};
use crate::wire::failure::FailureReason;
use crate::wire::method::{self, Access};

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

impl Service {
    /// Creates a table, unless it is there: then its settings stay as they are.
    pub(crate) async fn table_create(
        &self,
        name: TableName,
        settings: TableSettings,
        deadline: Deadline,
    ) -> Result<CreatedTable, ServiceError> {
        let create = self.node.create_table(name.clone(), settings, deadline.answer_at);
        let create = self.wait(Access::Write, None, create, deadline);
        let whole = Table::Named(name.clone());
        let (table, is_new) = self.audited(&method::TABLE_CREATE, Target::Keys(&whole, b""), create).await?;
        Ok(CreatedTable { info: TableInfo { name, table }, is_new })
    }

    /// Drops a table. Its keys are gone for everybody then.
    pub(crate) async fn table_drop(&self, name: TableName, deadline: Deadline) -> Result<(), ServiceError> {
        let table = Table::Named(name.clone());
        let drop = self.node.drop_table(name, deadline.answer_at);
        let drop = self.wait_for(self.of_table(Access::Write, &table), drop, deadline);
        self.audited(&method::TABLE_DROP, Target::Keys(&table, b""), drop).await
    }

    /// The table of this name.
    pub(crate) async fn table_get(&self, name: &TableName, deadline: Deadline) -> Result<TableInfo, ServiceError> {
        self.allow(&method::TABLE_GET, Target::PartOf(&Table::Named(name.clone())))?;
        let read = self.node.table(name, deadline.answer_at);
        match self.wait(Access::Read, None, read, deadline).await? {
            Some(table) => Ok(TableInfo { name: name.clone(), table }),
            None => Err(missing_table(Some(name))),
        }
    }

    /// The tables whose names are above `after`, in the order of their names' bytes, at most `limit`: those of which the caller
    /// may read a part.
    pub(crate) fn tables(
        self: &Arc<Self>,
        after: Option<&str>,
        limit: Option<u64>,
        deadline: Deadline,
    ) -> Result<TableList, ServiceError> {
        self.allow(&method::TABLE_LIST, Target::Cluster)?;
        Ok(TableList {
            service: Arc::clone(self),
            default_is_due: after.is_none_or(|after| after < DEFAULT_TABLE),
            after: after.map(key_of_name),
            left: limit.unwrap_or(u64::MAX),
            deadline,
            has_ended: false,
        })
    }

    /// The id that the keys of `table` are stored under, for a watch or a list of several pages.
    pub(crate) async fn table_open(&self, table: &Table, deadline: Deadline) -> Result<TableId, ServiceError> {
        self.allow(&method::TABLE_GET, Target::PartOf(table))?;
        if *table == Table::Default {
            return Ok(TableId::DEFAULT);
        }
        let open = self.node.open_table(table, deadline.answer_at);
        self.wait_for(self.of_table(Access::Read, table), open, deadline).await
    }
}

/// The error of a request about a table that is not there.
pub(super) fn missing_table(name: Option<&TableName>) -> ServiceError {
    let Some(name) = name else {
        return ServiceError::new(FailureReason::NoSuchTable, "nothing was done: there is no such table");
    };
    let message = format!(
        "nothing was done: there is no table {name:?}: create it first (quorate tables create {name}, PUT \
         /v1/tables/{name}, or api.Tables/Create)"
    );
    ServiceError::new(FailureReason::NoSuchTable, &message)
}

impl CreatedTable {
    /// The table, if this request created it.
    pub(crate) fn if_new(self) -> Result<TableInfo, ServiceError> {
        if self.is_new { Ok(self.info) } else { Err(table_exists(&self.info.name, "")) }
    }

    /// The table, if it is new, or has the settings `asked` for. Where none were asked for, any will do.
    pub(crate) fn with_settings(self, asked: Option<TableSettings>) -> Result<TableInfo, ServiceError> {
        if self.is_new || asked.is_none_or(|asked| asked == self.info.table.settings) {
            return Ok(self.info);
        }
        Err(table_exists(&self.info.name, ", with other settings"))
    }
}

fn table_exists(name: &TableName, more: &str) -> ServiceError {
    let message = format!(
        "nothing was done: table {name:?} exists already{more}: use it, give another name, or drop it first with all of \
         its keys"
    );
    ServiceError::new(FailureReason::TableExists, &message)
}

/// A list of all tables that is under way.
pub(crate) struct TableList {
    service: Arc<Service>,
    /// Where the next page begins among the records of the names.
    after: Option<Key>,
    /// Whether the default table is still to be told.
    default_is_due: bool,
    /// How many more tables the caller wants.
    left: u64,
    deadline: Deadline,
    has_ended: bool,
}

/// One page of a list of tables.
pub(crate) struct TablePage {
    /// In the order of their names' bytes; `None` is the default table.
    pub(crate) tables: Vec<Option<TableInfo>>,
    /// The name after which the list goes on; `None` after the last table.
    pub(crate) next: Option<String>,
}

impl TableList {
    /// The next page; `None` after the last. Only the last page may be empty.
    pub(crate) async fn next_page(&mut self) -> Option<Result<TablePage, ServiceError>> {
        while !self.has_ended {
            let deadline = self.deadline.of_page(Instant::now());
            let page = self.service.node.tables(self.after.clone(), deadline.answer_at);
            let (found, next) = match self.service.wait(Access::Read, None, page, deadline).await {
                Ok(page) => page,
                Err(error) => {
                    self.has_ended = true;
                    return Some(Err(error));
                }
            };
            let page = match self.take(found, next) {
                Ok(page) => page,
                Err(error) => {
                    self.has_ended = true;
                    return Some(Err(error));
                }
            };
            self.has_ended = self.after.is_none() || self.left == 0;
            if !page.tables.is_empty() || self.has_ended {
                return Some(Ok(page));
            }
        }
        None
    }

    /// The page of the tables `found`, with the default table in its place, without those of which the caller may read nothing.
    fn take(&mut self, found: Vec<TableInfo>, next: Option<Key>) -> Result<TablePage, ServiceError> {
        let mut tables: Vec<Option<TableInfo>> = found.into_iter().map(Some).collect();
        let reaches_default = next.as_ref().is_none_or(|next| next.as_str() >= DEFAULT_TABLE);
        if self.default_is_due && reaches_default {
            self.default_is_due = false;
            let place = tables.iter().position(|table| name_of(table.as_ref()) > DEFAULT_TABLE).unwrap_or(tables.len());
            tables.insert(place, None);
        }
        let all = tables.len();
        let mut seen = Vec::with_capacity(all);
        for table in tables {
            let named = table.as_ref().map_or(Table::Default, |info| Table::Named(info.name.clone()));
            if self.service.may(&method::TABLE_GET, Target::PartOf(&named))? {
                seen.push(table);
            }
        }
        let mut tables = seen;
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let mut next = next.map(|next| next.as_str().to_owned());
        if tables.len() > left {
            tables.truncate(left);
            next = tables.last().map(|last| name_of(last.as_ref()).to_owned());
        }
        self.left -= tables.len() as u64;
        self.after = next.as_deref().map(key_of_name);
        // The name of a table that the caller may not see is not told.
        if tables.len() < all && next.is_some() {
            next = tables.last().map(|last| name_of(last.as_ref()).to_owned());
        }
        Ok(TablePage { tables, next })
    }
}

fn name_of(table: Option<&TableInfo>) -> &str {
    table.map_or(DEFAULT_TABLE, |table| table.name.as_str())
}

/// The key of a name's record, whether a table may have that name or not.
fn key_of_name(name: &str) -> Key {
    Key::in_table(TableId::NAMES, name.as_bytes()).expect("names are shorter than keys, and not empty")
}
