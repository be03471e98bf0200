//! HTTP/1.1 and h2c. There are no request ids: a request of unknown outcome is not sent again.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use quorate::api::entry::Content;
use quorate::types::{Condition, Version};
use serde_json::Value as Json;

use super::{Node, Response, missed};
use crate::asking::{Miss, Wish, content, read_value, ttl_of, value_of_request, version_in, versions};
use crate::testkit::http::{HttpAnswer, HttpClient};
use crate::testkit::requests::{Ask, Outcome};

pub(super) fn takes(ask: &Ask) -> bool {
    match ask {
        Ask::Get | Ask::Set | Ask::Delete | Ask::SetIf { .. } | Ask::Add { since: None, .. } => true,
        Ask::Add { .. } | Ask::GetOne { .. } | Ask::List { .. } => false,
    }
}

pub(super) async fn call(of: &Node, node: &HttpClient, wish: &Wish, deadline: Duration) -> Result<Response, Miss> {
    let Wish { key, kind, ask, number, .. } = wish;
    // Both paths of a key, in turn.
    let is_short = number.is_multiple_of(2) && !matches!(ask, Ask::Add { .. });
    let path = if is_short { format!("/{key}") } else { format!("/v1/tables/default/keys/{key}") };
    let mut path = format!("{path}?timeout={}ms", deadline.as_millis());
    let (mut headers, mut body): (Vec<_>, _) = (of.header().into_iter().collect(), Bytes::new());
    let method = match ask {
        Ask::Get => "GET",
        Ask::Delete | Ask::SetIf { deletes: true, .. } => "DELETE",
        Ask::Add { delta, .. } => {
            let _ = write!(path, "&add={delta}");
            "POST"
        }
        _ => {
            let content_type = match content(value_of_request(*number), *kind) {
                Content::Value(text) => {
                    body = text.into();
                    "text/plain"
                }
                Content::Binary(bytes) => {
                    body = bytes;
                    "application/octet-stream"
                }
            };
            headers.push(("content-type", content_type.to_owned()));
            if let Some(ttl) = ttl_of(*number, *kind) {
                let _ = write!(path, "&ttl={}ms", ttl.as_millis());
            }
            "PUT"
        }
    };
    if let Ask::SetIf { condition, .. } = ask {
        headers.push(header_of(condition));
    }
    let answer = node.send(method, &path, &headers, body).await.map_err(|why| missed(why, ask))?;
    understood(&answer, wish)
}

fn header_of(condition: &Condition) -> (&'static str, String) {
    let tags = |named: &[Version]| {
        let tags: Vec<String> = named.iter().map(|version| format!("\"{}\"", versions().encode(version))).collect();
        tags.join(", ")
    };
    match condition {
        Condition::Version(version) => ("if-match", tags(std::slice::from_ref(version))),
        Condition::Among(named) => ("if-match", tags(named)),
        Condition::NotAmong { versions: named, .. } => ("if-none-match", tags(named)),
        Condition::Present => ("if-match", "*".to_owned()),
        Condition::Absent => ("if-none-match", "*".to_owned()),
    }
}

fn understood(answer: &HttpAnswer, wish: &Wish) -> Result<Response, Miss> {
    let Wish { ask, .. } = wish;
    let tag = || {
        let tag = answer.header("etag").and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
        tag.map(version_in).transpose()
    };
    let tagged = || tag()?.ok_or_else(|| unfit(answer, wish));
    match (answer.status, ask) {
        (200, Ask::Get) => {
            let is_text = match answer.header("content-type") {
                Some("text/plain; charset=utf-8") => true,
                Some("application/octet-stream") => false,
                _ => return Err(unfit(answer, wish)),
            };
            let millis = answer.header("quorate-ttl").map(|ttl| ttl.strip_suffix("ms").and_then(|ms| ms.parse().ok()));
            let ttl = millis.map(|millis| millis.map(Duration::from_millis).ok_or_else(|| unfit(answer, wish)));
            let ttl = Some(ttl.transpose()?);
            let value = Some(read_value(&wish.key, &answer.body, Some(is_text), ttl, wish.kind)?);
            Ok(Outcome::Saw { value, version: tagged()? }.into())
        }
        (200, Ask::Add { .. }) => {
            let sum = std::str::from_utf8(&answer.body).ok().and_then(|text| text.parse::<i64>().ok());
            let sum = sum.ok_or_else(|| unfit(answer, wish))?.cast_unsigned();
            Ok(Outcome::Added { sum, version: tagged()? }.into())
        }
        (201, Ask::Set) => Ok(Response { outcome: Outcome::Wrote(tagged()?), before: Some(Outcome::Read(None)) }),
        (204, Ask::Set) => {
            Ok(Response { outcome: Outcome::Wrote(tagged()?), before: Some(Outcome::Looked { has_value: true }) })
        }
        (201 | 204, Ask::SetIf { deletes: false, .. }) => Ok(Outcome::Wrote(tagged()?).into()),
        (204, Ask::Delete | Ask::SetIf { deletes: true, .. }) => Ok(Outcome::Done.into()),
        (404, Ask::Get | Ask::Delete) => Ok(Outcome::Read(None).into()),
        (404, Ask::SetIf { deletes: true, .. }) => Ok(Outcome::Looked { has_value: false }.into()),
        (412, Ask::SetIf { .. }) | (409, Ask::Add { .. }) => Ok(match tag()? {
            Some(version) => Outcome::Declined { version, has_value: true },
            None => Outcome::Looked { has_value: false },
        }
        .into()),
        _ => Err(unfit(answer, wish)),
    }
}

/// The meaning of an answer that does not say what was asked.
fn unfit(answer: &HttpAnswer, wish: &Wish) -> Miss {
    let text = format!("{} {:?}: {}", answer.status, answer.headers, String::from_utf8_lossy(&answer.body));
    let problem: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
    let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix("urn:quorate:problem:"));
    match (answer.status, kind) {
        (503, Some("not-applied" | "no-quorum" | "not-ready"))
        | (429, Some("overloaded"))
        | (408, Some("slow-body")) => Miss::Failed(text),
        (401, Some("unauthenticated")) => Miss::Refused(text),
        (500, Some("internal")) if problem["reason"] != "DAMAGED" => {
            if wish.ask.is_read() {
                Miss::Failed(text)
            } else {
                Miss::Unknown(text)
            }
        }
        (504, Some("outcome-unknown")) if !wish.ask.is_read() => Miss::Unknown(text),
        _ => Miss::Defect(text),
    }
}
