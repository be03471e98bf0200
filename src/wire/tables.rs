//! Conversions of the requests about tables, and of tables themselves.

use std::time::Duration;

use super::call::ttl;
use super::public::WireError;
use crate::api;
use crate::limits::VALUE_BYTES_MAX;
use crate::types::{
    DEFAULT_TABLE, TABLE_NAME_BYTES_MAX, TableInfo, TableName, TableNameError, TableRecord, TableSettings, TableState,
};

/// A Tables/Create, as its client asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableCreateCall {
    /// The name.
    pub name: TableName,
    /// The settings, if any were given.
    pub settings: Option<TableSettings>,
    /// Whether a table that is there already will do.
    pub if_missing: bool,
}

/// A Tables/List, as its client asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableListCall {
    /// Only tables above this name.
    pub after: Option<String>,
    /// The most tables to list; all where there is none.
    pub limit: Option<u64>,
}

impl TryFrom<api::TableCreateRequest> for TableCreateCall {
    type Error = WireError;

    fn try_from(request: api::TableCreateRequest) -> Result<Self, WireError> {
        let api::TableCreateRequest { name, settings, if_missing } = request;
        let settings = settings.map(settings_of).transpose()?;
        Ok(Self { name: named("name", &name)?, settings, if_missing })
    }
}

impl TryFrom<api::TableListRequest> for TableListCall {
    type Error = WireError;

    fn try_from(request: api::TableListRequest) -> Result<Self, WireError> {
        let api::TableListRequest { start_after, limit } = request;
        let bytes = start_after.len();
        if bytes > TABLE_NAME_BYTES_MAX {
            return Err(WireError::Table { field: "start_after", source: TableNameError::TooLong { bytes } });
        }
        Ok(Self { after: Some(start_after).filter(|name| !name.is_empty()), limit: (limit > 0).then_some(limit) })
    }
}

/// The name of a table, which must be given.
///
/// # Errors
/// The fault, and what is accepted.
pub fn named(field: &'static str, text: &str) -> Result<TableName, WireError> {
    TableName::new(text).map_err(|source| WireError::Table { field, source })
}

fn settings_of(settings: api::TableSettings) -> Result<TableSettings, WireError> {
    let api::TableSettings { default_ttl, value_bytes_max, quota_bytes } = settings;
    if value_bytes_max > VALUE_BYTES_MAX as u64 {
        return Err(WireError::TableValueBytes { given: value_bytes_max });
    }
    Ok(TableSettings {
        default_ttl: ttl("settings.default_ttl", default_ttl)?,
        value_bytes_max: (value_bytes_max > 0).then_some(value_bytes_max),
        quota_bytes: (quota_bytes > 0).then_some(quota_bytes),
    })
}

impl From<TableInfo> for api::Table {
    fn from(info: TableInfo) -> Self {
        let TableInfo { name, table: TableRecord { id, state, settings } } = info;
        let state = match state {
            TableState::Live => api::TableState::TableReady,
            TableState::Dropping => api::TableState::TableDropping,
        };
        Self { name: name.as_str().to_owned(), id: id.0, state: state.into(), settings: Some(settings.into()) }
    }
}

/// The table that always exists.
#[must_use]
pub fn default_table() -> api::Table {
    let settings = Some(TableSettings::default().into());
    api::Table { name: DEFAULT_TABLE.to_owned(), id: 0, state: api::TableState::TableReady.into(), settings }
}

impl From<TableSettings> for api::TableSettings {
    fn from(settings: TableSettings) -> Self {
        let TableSettings { default_ttl, value_bytes_max, quota_bytes } = settings;
        let ttl = default_ttl.map(|ttl| Duration::from_millis(ttl.as_millis()));
        Self {
            default_ttl: ttl.and_then(|ttl| prost_types::Duration::try_from(ttl).ok()),
            value_bytes_max: value_bytes_max.unwrap_or_default(),
            quota_bytes: quota_bytes.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Ttl;

    #[test]
    fn settings_come_out_as_they_went_in() {
        let full = TableSettings {
            default_ttl: Ttl::from_millis(1_500),
            value_bytes_max: Some(1_024),
            quota_bytes: Some(u64::MAX),
        };
        for settings in [TableSettings::default(), full] {
            assert_eq!(settings_of(settings.into()), Ok(settings));
        }
    }

    #[test]
    fn each_bad_request_says_what_is_accepted() {
        let create = |name: &str, settings: api::TableSettings| {
            let request = api::TableCreateRequest { name: name.into(), settings: Some(settings), if_missing: false };
            TableCreateCall::try_from(request).map(drop).map_err(|error| error.to_string())
        };
        let none = api::TableSettings::default;
        let ttl = |seconds| api::TableSettings {
            default_ttl: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..Default::default()
        };
        let large = api::TableSettings { value_bytes_max: VALUE_BYTES_MAX as u64 + 1, ..none() };
        assert_eq!(create("größe_1.a", none()), Ok(()));
        for (refused, parts) in [
            (create("", none()), ["name: ", "empty"]),
            (create("a b", none()), ["name: ", "' '"]),
            (create("a/b", none()), ["name: ", "'/'"]),
            (create("a\u{1}", none()), ["name: ", "control characters"]),
            (create(&"n".repeat(129), none()), ["name: ", "at most 128"]),
            (create("default", none()), ["name: ", "always exists"]),
            (create("t", ttl(0)), ["settings.default_ttl: ", "1 ms"]),
            (create("t", ttl(-1)), ["settings.default_ttl: ", "3,650 days"]),
            (create("t", large), ["settings.value_bytes_max: ", "62914560"]),
        ] {
            let error = refused.unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
