//! Tables: GET, PUT and DELETE of a table, and their list.
//!
//! Contract: PUT creates a table, and finds one that is there good enough unless it is asked for other settings. Settings are
//! parameters, so that a body is refused: one that was ignored could be meant for settings.

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Value as Json, json};

use crate::limits::VALUE_BYTES_MAX;
use crate::types::{
    DEFAULT_TABLE, TABLE_NAME_BYTES_MAX, Table, TableInfo, TableNameError, TableSettings, TableState, Ttl,
};

use super::body::Upload;
use super::list::{cursor_of, link, no_cursor, of_cursor};
use super::problem::Problem;
use super::reply::Reply;
use super::{Call, Gateway};

/// The most tables of a page.
pub(super) const LIMIT_MAX: u64 = 1_000;

impl Gateway {
    pub(super) async fn tables(&self, call: &Call) -> Result<Reply, Problem> {
        let limit = call.query.number("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT_MAX);
        let cursor = call.query.text("cursor").filter(|text| !text.is_empty());
        let is_name = |name: &String| (1..=TABLE_NAME_BYTES_MAX).contains(&name.len());
        let after = cursor.map(|text| of_cursor(text).filter(is_name).ok_or_else(no_cursor));
        let mut list = self.service.tables(after.transpose()?.as_deref(), Some(limit), call.deadline()?)?;
        let (mut tables, mut next) = (Vec::new(), None);
        while let Some(page) = list.next_page().await {
            let page = page?;
            tables.extend(page.tables);
            next = page.next;
        }
        let mut json = json!({ "tables": tables.iter().map(|table| as_json(table.as_ref())).collect::<Vec<Json>>() });
        let Some(next) = next else { return Ok(Reply::json(&json)) };
        let next = cursor_of(&next);
        json["cursor"] = next.as_str().into();
        Ok(Reply::json(&json).with_text(header::LINK, &link(call, &next)))
    }

    pub(super) async fn table(&self, table: &Table, call: &Call) -> Result<Reply, Problem> {
        let info = match table {
            Table::Default => {
                self.service.table_open(table, call.deadline()?).await?;
                None
            }
            Table::Named(name) => Some(self.service.table_get(name, call.deadline()?).await?),
        };
        Ok(Reply::json(&as_json(info.as_ref())))
    }

    pub(super) async fn create_table(&self, table: Table, call: &Call, upload: Upload) -> Result<Reply, Problem> {
        Upload::check(&call.head.headers)?;
        without_condition(&call.head.headers)?;
        let settings = settings(call)?;
        let deadline = call.deadline()?;
        if !upload.read(Some(deadline.answer_at)).await?.bytes.is_empty() {
            let detail = "nothing was done: the settings of a table are parameters, and the body must be empty: give \
                          ?default_ttl=1h, ?value_bytes_max=BYTES or ?quota_bytes=BYTES";
            return Err(Problem::invalid_body(detail));
        }
        let Table::Named(name) = table else {
            return if settings.is_none() {
                Ok(Reply::new(StatusCode::NO_CONTENT))
            } else {
                Err(Problem::invalid_table(TableNameError::Default.to_string()))
            };
        };
        let creation = self.service.table_create(name, settings.unwrap_or_default(), deadline).await?;
        let is_new = creation.is_new;
        creation.with_settings(settings)?;
        Ok(Reply::new(if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }))
    }

    pub(super) async fn drop_table(&self, table: Table, call: &Call) -> Result<Reply, Problem> {
        without_condition(&call.head.headers)?;
        let Table::Named(name) = table else {
            return Err(Problem::invalid_table(TableNameError::Default.to_string()));
        };
        self.service.table_drop(name, call.deadline()?).await?;
        Ok(Reply::new(StatusCode::NO_CONTENT))
    }
}

/// Tables have no tags. A condition that was ignored could cost a table.
fn without_condition(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_NONE_MATCH) {
        let detail = "nothing was done: tables take no conditions; PUT creates a table once: 201 says so, and 204 that it \
                      was there";
        return Err(Problem::invalid_header(detail));
    }
    Ok(())
}

/// The settings that a request names, if it names any.
fn settings(call: &Call) -> Result<Option<TableSettings>, Problem> {
    let query = &call.query;
    let settings = TableSettings {
        default_ttl: query.time_to_live("default_ttl")?,
        value_bytes_max: query.number("value_bytes_max", 1, VALUE_BYTES_MAX as u64)?,
        quota_bytes: query.number("quota_bytes", 1, u64::MAX)?,
    };
    Ok(Some(settings).filter(|settings| *settings != TableSettings::default()))
}

/// A table; `None` is the one that always exists.
fn as_json(info: Option<&TableInfo>) -> Json {
    let Some(TableInfo { name, table }) = info else { return json!({ "table": DEFAULT_TABLE }) };
    let mut json = json!({ "table": name.as_str(), "id": table.id.0 });
    if table.state == TableState::Dropping {
        json["state"] = "dropping".into();
    }
    let TableSettings { default_ttl, value_bytes_max, quota_bytes } = table.settings;
    let given = [
        ("default_ttl_ms", default_ttl.map(Ttl::as_millis)),
        ("value_bytes_max", value_bytes_max),
        ("quota_bytes", quota_bytes),
    ];
    for (field, number) in given {
        if let Some(number) = number {
            json[field] = number.into();
        }
    }
    json
}
