//! Tables: to create, drop, list and look at them.
//!
//! Creating and dropping a table are writes: each is sent again only if it certainly did not happen, or where it does no harm.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Client;
use super::backoff::Backoff;
use super::error::{ClientError, InputProblem, NodeFailure};
use super::failover::Operation;
use super::node::{Node, by, within};
use super::verdict::{Verdict, judge_read};
use super::write::ttl_of;
use crate::api;
use crate::limits::VALUE_BYTES_MAX;
use crate::types::{Table, TableName, TableNameError};

const CREATE: &str = "/api.Tables/Create";
const DROP: &str = "/api.Tables/Drop";

/// The tables of a cluster: [`Client::tables`].
#[derive(Clone, Debug)]
pub struct Tables {
    client: Client,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Its name.
    pub name: String,
    /// Tells it from earlier and later tables of its name: no two tables ever have one id. 0 for `default`.
    pub id: u32,
    /// Whether it is being dropped: its keys can neither be read nor written.
    pub is_dropping: bool,
    /// The time to live of values that are written without one.
    pub default_ttl: Option<Duration>,
    /// The greatest value in bytes; `None` where all are accepted that any table takes.
    pub value_bytes_max: Option<u64>,
    /// About how many bytes all keys and values may have together.
    pub quota_bytes: Option<u64>,
}

/// A table that is there after it was to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableCreated {
    /// The table.
    pub table: TableInfo,
    /// Whether this call created it. It is there already only with [`CreateTable::if_missing`].
    pub is_new: bool,
}

/// The creation of a table: `await` it.
#[derive(Clone, Debug)]
#[must_use = "a table is created when this is awaited"]
pub struct CreateTable {
    client: Client,
    name: Result<TableName, TableNameError>,
    default_ttl: Option<Duration>,
    value_bytes_max: Option<u64>,
    quota_bytes: Option<u64>,
    if_missing: bool,
}

impl Tables {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Creates a table, empty. Of many calls for one name at once, one creates it. [`CreateTable`] has the settings.
    ///
    /// # Errors
    /// As [`Client::set`], and [`ClientError::TableExists`].
    pub fn create(&self, name: impl AsRef<str>) -> CreateTable {
        CreateTable {
            client: self.client.clone(),
            name: TableName::new(name.as_ref()),
            default_ttl: None,
            value_bytes_max: None,
            quota_bytes: None,
            if_missing: false,
        }
    }

    /// Drops a table, with all of its keys. Once it is done they are gone for everybody, and a later table of the same name
    /// is empty. The space is given back in the background.
    ///
    /// [`ClientError::OutcomeUnknown`] says that the table may be dropped in part: its keys cannot be used any more. Drop it
    /// again, unless somebody may have created another table of its name meanwhile.
    ///
    /// # Errors
    /// As [`Client::set`], and [`ClientError::NoSuchTable`].
    pub async fn drop(&self, name: impl AsRef<str>) -> Result<(), ClientError> {
        let name = named(TableName::new(name.as_ref()))?;
        let operation = Operation::begin(self.client.deadline);
        let request = api::TableDropRequest { name };
        let (_, api::TableDropResponse {}) = self.client.pool.write(operation, DROP, request).await?;
        Ok(())
    }

    /// Reads a table's settings: `None` if there is no table of this name.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get(&self, name: impl AsRef<str>) -> Result<Option<TableInfo>, ClientError> {
        let name = name.as_ref();
        let table = if name.is_empty() { Err(TableNameError::Empty) } else { Table::parse(name) };
        let name = table.map_err(InputProblem::from)?.as_str().to_owned();
        let ask = move |node: Arc<Node>, deadline| {
            let request = by(api::TableGetRequest { name: name.clone() }, deadline);
            async move {
                let answer = within(deadline, async { node.tables().get(request).await }).await;
                table_of(&node, answer.map_err(|status| judge_read(&node, &status))?.into_inner().table)
            }
        };
        match self.client.pool.read(Operation::begin(self.client.deadline), ask).await {
            Err(ClientError::NoSuchTable { .. }) => Ok(None),
            table => table.map(Some),
        }
    }

    /// Lists the tables in the order of their names, `default` included.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list(&self) -> Result<Vec<TableInfo>, ClientError> {
        let operation = Operation::begin(self.client.deadline);
        let mut backoff = Backoff::new();
        let mut tables = Vec::new();
        loop {
            let start_after = tables.last().map_or_else(String::new, |last: &TableInfo| last.name.clone());
            let node = self.client.pool.live_node(operation).await;
            let read = match &node {
                Ok(node) => read_list(node, start_after, &mut tables, operation).await,
                Err(verdict) => Err(verdict.clone()),
            };
            match read {
                Ok(()) => return Ok(tables),
                Err(Verdict::Final(error)) => return Err(error),
                Err(Verdict::TryNext(last)) => {
                    if let Ok(node) = &node {
                        self.client.pool.avoid(node);
                    }
                    if !backoff.wait(operation.deadline()).await {
                        return Err(ClientError::Unavailable { last, tried_for: operation.began().elapsed() });
                    }
                }
            }
        }
    }
}

/// Reads the tables above `start_after` from one node, until it fails.
async fn read_list(
    node: &Arc<Node>,
    start_after: String,
    tables: &mut Vec<TableInfo>,
    operation: Operation,
) -> Result<(), Verdict> {
    let deadline = operation.deadline();
    let request = by(api::TableListRequest { start_after, limit: 0 }, deadline);
    let call = async { node.tables().list(request).await };
    let mut pages = within(deadline, call).await.map_err(|status| judge_read(node, &status))?.into_inner();
    while let Some(page) = within(deadline, pages.message()).await.map_err(|status| judge_read(node, &status))? {
        node.record_answer();
        for table in page.tables {
            tables.push(table_of(node, Some(table))?);
        }
        if page.next.is_none() {
            return Ok(());
        }
    }
    // A list that was not cut off has ended with a page without `next`.
    Err(Verdict::TryNext(NodeFailure::new(&node.address, "the list was cut off")))
}

impl CreateTable {
    /// Gives values a time to live that are written without one: 1 ms to 3,650 days.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// Refuses larger values: 1 byte to 60 MiB.
    pub fn value_bytes_max(mut self, bytes: u64) -> Self {
        self.value_bytes_max = Some(bytes);
        self
    }

    /// Refuses writes once all keys and values have about so many bytes together. Nodes learn of it within seconds.
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota_bytes = Some(bytes);
        self
    }

    /// Takes a table that is there already, if it has the settings that are asked for. Without settings, any will do.
    pub fn if_missing(mut self) -> Self {
        self.if_missing = true;
        self
    }

    async fn send(self) -> Result<TableCreated, ClientError> {
        let Self { client, name, default_ttl, value_bytes_max, quota_bytes, if_missing } = self;
        let name = named(name)?;
        if let Some(given) = value_bytes_max.filter(|bytes| !(1..=VALUE_BYTES_MAX as u64).contains(bytes)) {
            return Err(InputProblem::TableValueBytes { given }.into());
        }
        if quota_bytes == Some(0) {
            return Err(InputProblem::TableQuota.into());
        }
        let is_plain = default_ttl.is_none() && value_bytes_max.is_none() && quota_bytes.is_none();
        let settings = api::TableSettings {
            default_ttl: ttl_of(default_ttl)?,
            value_bytes_max: value_bytes_max.unwrap_or_default(),
            quota_bytes: quota_bytes.unwrap_or_default(),
        };
        let request = api::TableCreateRequest { name, settings: (!is_plain).then_some(settings), if_missing };
        let operation = Operation::begin(client.deadline);
        let mut backoff = Backoff::new();
        let (node, answer): (_, api::TableCreateResponse) = loop {
            match client.pool.write(operation, CREATE, request.clone()).await {
                // A table that an earlier try has created will do.
                Err(ClientError::OutcomeUnknown { .. }) if if_missing && backoff.wait(operation.deadline()).await => {}
                sent => break sent?,
            }
        };
        let table = table_of(&node, answer.table).map_err(|verdict| match verdict {
            Verdict::Final(error) => error,
            Verdict::TryNext(node) => ClientError::OutcomeUnknown { node },
        })?;
        Ok(TableCreated { table, is_new: answer.created })
    }
}

impl IntoFuture for CreateTable {
    type Output = Result<TableCreated, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

fn named(name: Result<TableName, TableNameError>) -> Result<String, ClientError> {
    Ok(name.map_err(InputProblem::from)?.as_str().to_owned())
}

/// The table in a node's answer, which is checked before it is believed.
fn table_of(node: &Node, table: Option<api::Table>) -> Result<TableInfo, Verdict> {
    let bad = |problem: &str| Verdict::TryNext(NodeFailure::new(&node.address, format!("bad answer: {problem}")));
    let table = table.ok_or_else(|| bad("no table"))?;
    let settings = table.settings.unwrap_or_default();
    let default_ttl = settings.default_ttl.map(Duration::try_from).transpose();
    Ok(TableInfo {
        is_dropping: table.state == i32::from(api::TableState::TableDropping),
        name: table.name,
        id: table.id,
        default_ttl: default_ttl.map_err(|_| bad("a negative time to live"))?,
        value_bytes_max: Some(settings.value_bytes_max).filter(|bytes| *bytes > 0),
        quota_bytes: Some(settings.quota_bytes).filter(|bytes| *bytes > 0),
    })
}
