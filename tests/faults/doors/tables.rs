//! Created tables over gRPC, HTTP and lines. The Redis protocol serves one table, whose name is in node.yml. Lines drop none.

use std::time::Duration;

use bytes::Bytes;
use quorate::api;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::tables_client::TablesClient;
use quorate::types::{TableId, Version};
use quorate::wire::failure::{Failure, FailureReason};
use serde_json::Value as Json;
use tonic::Status;

use super::grpc::{declined, is_refusal, never_left, said};
use super::{Door, Node, missed};
use crate::asking::{Miss, version_in, versions};
use crate::testkit::http::{HttpAnswer, HttpClient};
use crate::testkit::requests::Ask;

/// The one key of each table.
pub(crate) const KEY: &str = "k";

/// A request about a table, or about its one key.
#[derive(Clone, Debug)]
pub(crate) enum TableAsk {
    Create,
    Drop,
    Get,
    Set(u64),
    /// A write where the key has this version.
    SetIf(Version, u64),
}

/// What a door says.
#[derive(Clone, Debug)]
pub(crate) enum TableSaid {
    /// The table was created, or was there. Not every door tells the id.
    Table {
        id: Option<TableId>,
        is_new: bool,
    },
    Dropped,
    NoTable,
    /// The value, and the version where the door tells it.
    Value(Option<u64>, Option<Version>),
    Wrote(Option<Version>),
    /// The condition does not hold. A door may tell no version of an absence.
    Declined {
        version: Option<Version>,
        has_value: bool,
    },
}

impl TableAsk {
    /// Whether nothing is changed by it.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Get)
    }

    /// Whether it can be asked for at this door.
    pub(crate) fn goes_through(&self, door: Door) -> bool {
        match door {
            Door::Grpc | Door::Http1 | Door::Http2 => true,
            Door::Lines => !matches!(self, Self::Drop | Self::SetIf(..)),
            Door::Redis => false,
        }
    }
}

/// Sends one request to `node`, and waits a little longer than its deadline at most.
pub(crate) async fn ask_table(
    node: &Node,
    door: Door,
    table: &str,
    ask: &TableAsk,
    deadline: Duration,
    timeout: Duration,
) -> Result<TableSaid, Miss> {
    let node = &node.now();
    let call = async {
        match door {
            Door::Grpc => over_grpc(node, table, ask, deadline).await,
            Door::Http1 => over_http(node, &node.http1, table, ask, deadline).await,
            Door::Http2 => over_http(node, &node.http2, table, ask, deadline).await,
            Door::Lines => over_lines(node, table, ask).await,
            Door::Redis => unreachable!("it serves one table"),
        }
    };
    match tokio::time::timeout(timeout, call).await {
        Ok(answer) => answer.map_err(|miss| node.judged(miss)),
        Err(_) => Err(open(ask, format!("no answer within {timeout:?}"))),
    }
}

/// A failure that leaves open what became of a write.
fn open(ask: &TableAsk, why: String) -> Miss {
    if ask.is_read() { Miss::Failed(why) } else { Miss::Unknown(why) }
}

fn number_in(bytes: &[u8]) -> Result<u64, Miss> {
    let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Miss::Defect(format!("read what nobody wrote: {:?}", String::from_utf8_lossy(bytes))))
}

async fn over_grpc(node: &Node, table: &str, ask: &TableAsk, deadline: Duration) -> Result<TableSaid, Miss> {
    let (mut tables, mut cluster) = (TablesClient::new(node.grpc.clone()), ClusterClient::new(node.grpc.clone()));
    let (name, table) = (table.to_owned(), table.to_owned());
    let answer = match ask {
        TableAsk::Create => {
            let request = api::TableCreateRequest { name, if_missing: true, ..Default::default() };
            tables.create(node.within(request, deadline)).await.map(|answer| {
                let api::TableCreateResponse { table, created } = answer.into_inner();
                Ok(TableSaid::Table { id: table.map(|table| TableId(table.id)), is_new: created })
            })
        }
        TableAsk::Drop => {
            let request = api::TableDropRequest { name };
            tables.drop(node.within(request, deadline)).await.map(|_| Ok(TableSaid::Dropped))
        }
        TableAsk::Get => {
            let request = api::GetRequest { key: KEY.to_owned(), table, ..Default::default() };
            cluster.get(node.within(request, deadline)).await.map(|answer| {
                let api::GetResponse { entry, version, .. } = answer.into_inner();
                let content = entry.and_then(|entry| entry.content);
                let value = match content {
                    Some(api::entry::Content::Value(text)) => Some(number_in(text.as_bytes())?),
                    Some(api::entry::Content::Binary(bytes)) => {
                        return Err(Miss::Defect(format!("read {} bytes that nobody wrote", bytes.len())));
                    }
                    None => None,
                };
                Ok(TableSaid::Value(value, Some(version_in(&version)?)))
            })
        }
        TableAsk::Set(value) | TableAsk::SetIf(_, value) => {
            let content = Some(api::entry::Content::Value(value.to_string()));
            let condition = match ask {
                TableAsk::SetIf(version, _) => Some(api::Condition {
                    condition: Some(api::condition::Condition::IfVersion(versions().encode(version))),
                }),
                _ => None,
            };
            let entry = Some(api::Entry { key: KEY.to_owned(), content });
            let request = api::SetRequest { entry, table, condition, ..Default::default() };
            let answer = cluster.set(node.within(request, deadline)).await;
            answer.map(|answer| Ok(TableSaid::Wrote(Some(version_in(&answer.into_inner().version)?))))
        }
    };
    answer.unwrap_or_else(|status| failed_over_grpc(&status, ask))
}

fn failed_over_grpc(status: &Status, ask: &TableAsk) -> Result<TableSaid, Miss> {
    if let (Some((version, has_value)), TableAsk::SetIf(..)) = (declined(status), ask) {
        return Ok(TableSaid::Declined { version: Some(version_in(&version)?), has_value });
    }
    let text = said(status);
    if is_refusal(status) {
        return Err(Miss::Refused(text));
    }
    match Failure::from_status(status).map(|failure| failure.reason) {
        Some(FailureReason::NoSuchTable) => Ok(TableSaid::NoTable),
        Some(FailureReason::NotApplied | FailureReason::NotReady) => Err(Miss::Failed(text)),
        Some(FailureReason::Damaged | FailureReason::InvalidArgument | FailureReason::TableExists) => {
            Err(Miss::Defect(text))
        }
        _ if never_left(status) => Err(Miss::Failed(text)),
        _ => Err(open(ask, text)),
    }
}

async fn over_http(
    of: &Node,
    node: &HttpClient,
    table: &str,
    ask: &TableAsk,
    deadline: Duration,
) -> Result<TableSaid, Miss> {
    let table = format!("/v1/tables/{table}");
    let (method, path) = match ask {
        TableAsk::Create => ("PUT", table),
        TableAsk::Drop => ("DELETE", table),
        TableAsk::Get => ("GET", format!("{table}/keys/{KEY}")),
        TableAsk::Set(_) | TableAsk::SetIf(..) => ("PUT", format!("{table}/keys/{KEY}")),
    };
    let path = format!("{path}?timeout={}ms", deadline.as_millis());
    let (mut headers, mut body): (Vec<_>, _) = (of.header().into_iter().collect(), Bytes::new());
    if let TableAsk::Set(value) | TableAsk::SetIf(_, value) = ask {
        headers.push(("content-type", "text/plain".to_owned()));
        body = value.to_string().into();
    }
    if let TableAsk::SetIf(version, _) = ask {
        headers.push(("if-match", format!("\"{}\"", versions().encode(version))));
    }
    // What it is asked for decides how a lost answer counts.
    let as_key = if ask.is_read() { Ask::Get } else { Ask::Set };
    let answer = node.send(method, &path, &headers, body).await.map_err(|why| missed(why, &as_key))?;
    understood_over_http(&answer, ask)
}

fn understood_over_http(answer: &HttpAnswer, ask: &TableAsk) -> Result<TableSaid, Miss> {
    let tag = || {
        let tag = answer.header("etag").and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
        tag.map(version_in).transpose()
    };
    let problem: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
    let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix("urn:quorate:problem:"));
    match (answer.status, ask) {
        (404, _) if kind == Some("missing-table") => Ok(TableSaid::NoTable),
        (201 | 204, TableAsk::Create) => Ok(TableSaid::Table { id: None, is_new: answer.status == 201 }),
        (204, TableAsk::Drop) => Ok(TableSaid::Dropped),
        (200, TableAsk::Get) => Ok(TableSaid::Value(Some(number_in(&answer.body)?), tag()?)),
        (404, TableAsk::Get) => Ok(TableSaid::Value(None, None)),
        (201 | 204, TableAsk::Set(_) | TableAsk::SetIf(..)) => Ok(TableSaid::Wrote(tag()?)),
        (412, TableAsk::SetIf(..)) => {
            let version = tag()?;
            Ok(TableSaid::Declined { has_value: version.is_some(), version })
        }
        _ => {
            let text = format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
            Err(match (answer.status, kind) {
                (401, Some("unauthenticated")) => Miss::Refused(text),
                (503, Some("not-applied" | "no-quorum" | "not-ready")) | (429, Some("overloaded")) => {
                    Miss::Failed(text)
                }
                (500, Some("internal")) if problem["reason"] != "DAMAGED" => open(ask, text),
                (504, Some("outcome-unknown")) if !ask.is_read() => Miss::Unknown(text),
                _ => Miss::Defect(text),
            })
        }
    }
}

async fn over_lines(node: &Node, table: &str, ask: &TableAsk) -> Result<TableSaid, Miss> {
    let line = match ask {
        TableAsk::Create => format!("CREATE {table}"),
        TableAsk::Get => format!("GET {table} {KEY}"),
        TableAsk::Set(value) => format!("PUT {table} {KEY} {value}"),
        TableAsk::Drop | TableAsk::SetIf(..) => unreachable!("no line says so"),
    };
    let as_key = if ask.is_read() { Ask::Get } else { Ask::Set };
    let answer = node.lines.send_as(&line, node.token()).await.map_err(|why| missed(why, &as_key))?;
    match (answer.as_str(), ask) {
        ("missing table", _) => Ok(TableSaid::NoTable),
        ("created", TableAsk::Create) => Ok(TableSaid::Table { id: None, is_new: true }),
        ("already created", TableAsk::Create) => Ok(TableSaid::Table { id: None, is_new: false }),
        ("ok", TableAsk::Set(_)) => Ok(TableSaid::Wrote(None)),
        ("nil", TableAsk::Get) => Ok(TableSaid::Value(None, None)),
        (text, _) if text.starts_with("error ") => Err(super::lines::told(text, &as_key)),
        (text, TableAsk::Get) => Ok(TableSaid::Value(Some(number_in(text.as_bytes())?), None)),
        _ => Err(Miss::Defect(answer)),
    }
}
