//! Lists of keys, as JSON or as text.
//!
//! Contract: a page says by a cursor and a `Link` that more follows. `GET /` without a limit is complete: it is sent while it
//! is read, and a list that fails is cut off without its last chunk.

use std::fmt::Write as _;
use std::io;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value as Json, json};

use crate::limits::LISTED_KEYS_MAX;
use crate::service::list::{List, ListedEntry};
use crate::types::{KEY_BYTES_MAX, Key, KeyError, KeyRange, Table, Value};
use crate::wire::call::ListCall;

use super::problem::Problem;
use super::reply::{Body, Reply};
use super::value::tag_of;
use super::{Call, Gateway};

/// The most keys of a page.
pub(super) const LIMIT_MAX: u64 = 10_000;
/// The most keys of a page with values.
const LIMIT_WITH_VALUES_MAX: u64 = 100;
/// A page ends after this many bytes, so that it is made in memory: 1,000 of the longest keys.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// The first byte of a cursor, so that another form can follow.
const CURSOR_FORM: u8 = 1;

/// Where keys are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `GET /`.
    Root,
    /// The keys of a table.
    Table,
}

impl Gateway {
    pub(super) async fn list(&self, place: Place, table: &Table, call: &Call) -> Result<Reply, Problem> {
        let query = &call.query;
        let values = query.flag("values")?;
        let limit_max = if values { LIMIT_WITH_VALUES_MAX } else { LIMIT_MAX };
        let given = query.number("limit", 1, limit_max)?;
        let prefix = query.text("prefix").unwrap_or_default();
        if prefix.len() > KEY_BYTES_MAX {
            let error = KeyError::TooLong { bytes: prefix.len() };
            return Err(Problem::invalid_parameter(format!("prefix: {error}")));
        }
        let after = query.text("cursor").filter(|text| !text.is_empty()).map(key_of_cursor).transpose()?;
        let range = KeyRange { after, prefix: prefix.to_owned().into() };
        let is_json = match place {
            Place::Root => accepts(&call.head.headers, is_json),
            Place::Table => accepts(&call.head.headers, is_json) || !accepts(&call.head.headers, is_text),
        };
        if values && !is_json {
            return Err(Problem::invalid_parameter(
                "values are listed as JSON alone: ask with Accept: application/json",
            ));
        }
        let is_complete = place == Place::Root && !is_json && given.is_none();
        let limit = (!is_complete).then_some(given.unwrap_or(limit_max.min(LISTED_KEYS_MAX as u64)));
        let list = self.service.list(table.clone(), ListCall { range, limit, values }, call.deadline()?)?;
        let reply = if is_complete {
            complete(list).await?
        } else {
            let page = Page::read(list).await?;
            let next = page.next.as_ref().map(cursor);
            let mut reply = if is_json { page.as_json(self, table, next.as_deref()) } else { page.as_text(place) };
            if let Some(next) = next {
                let link = link(call, &next);
                reply = reply.with_text(header::LINK, &link);
            }
            reply.guard = Some(page.guard);
            reply
        };
        Ok(reply.with(header::VARY, HeaderValue::from_static("Accept")))
    }
}

/// A page of a list, in memory.
struct Page {
    entries: Vec<ListedEntry>,
    next: Option<Key>,
    guard: crate::service::buffer_budget::BudgetGuard,
}

impl Page {
    /// Reads `list` to its limit, or up to [`PAGE_BYTES_MAX`].
    async fn read(mut list: List) -> Result<Self, Problem> {
        let mut guard = list.service().buffers().guard();
        let (mut entries, mut next, mut bytes) = (Vec::new(), None, 0);
        while let Some(page) = list.next_page().await {
            let page = page?;
            let of_page: usize = page.entries.iter().map(ListedEntry::bytes).sum();
            if !guard.grow(of_page) {
                return Err(crate::service::error::no_room(crate::wire::method::Access::Read).into());
            }
            bytes += of_page;
            entries.extend(page.entries);
            next = page.next;
            if bytes >= PAGE_BYTES_MAX {
                break;
            }
        }
        Ok(Self { entries, next, guard })
    }

    fn as_json(&self, gateway: &Gateway, table: &Table, next: Option<&str>) -> Reply {
        let entry = |entry: &ListedEntry| {
            let mut json = json!({ "key": entry.key.as_str() });
            if let Some(value) = &entry.value {
                json["etag"] = tag_of(&gateway.service, &entry.version).into();
                put_value(&mut json, value);
                if let Some(ttl) = entry.ttl {
                    json["ttl_ms"] = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).into();
                }
            }
            json
        };
        let keys: Vec<Json> = self.entries.iter().map(entry).collect();
        let mut json = json!({ "table": table.as_str(), "keys": keys });
        if let Some(next) = next {
            json["cursor"] = next.into();
        }
        Reply::json(&json)
    }

    fn as_text(&self, place: Place) -> Reply {
        let mut text = String::new();
        for (index, entry) in self.entries.iter().enumerate() {
            if place == Place::Root && index > 0 {
                text.push('\n');
            }
            escape(entry.key.as_str(), &mut text);
            if place == Place::Table {
                text.push('\n');
            }
        }
        Reply::of("text/plain; charset=utf-8", text)
    }
}

/// All keys as text, with a line end between them. The first page is awaited, so that a list that cannot begin has a status.
async fn complete(mut list: List) -> Result<Reply, Problem> {
    let first = list.next_page().await.transpose()?;
    let mut reply = Reply::of("text/plain; charset=utf-8", Bytes::new());
    let begun = first.map(|page| (page, list));
    let pieces = stream::unfold((begun, true), async |(begun, is_first)| {
        let (page, mut list) = begun?;
        let mut text = String::new();
        for (index, entry) in page.entries.iter().enumerate() {
            if !is_first || index > 0 {
                text.push('\n');
            }
            escape(entry.key.as_str(), &mut text);
        }
        let has_keys = !page.entries.is_empty();
        let following = match list.next_page().await {
            None => None,
            Some(Ok(page)) => Some((page, list)),
            Some(Err(error)) => {
                return Some((Err(io::Error::other(error.message)), (None, false)));
            }
        };
        Some((Ok(Bytes::from(text)), (following, is_first && !has_keys)))
    });
    reply.body = Body::Pieces(Box::pin(pieces));
    Ok(reply)
}

/// A key as a line of text: `%` and control characters as escapes.
fn escape(key: &str, text: &mut String) {
    for c in key.chars() {
        if c == '%' || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(c);
        }
    }
}

/// Adds a value to an object: as text, or in base64.
pub(super) fn put_value(json: &mut Json, value: &Value) {
    match value {
        Value::Text(bytes) => json["value"] = String::from_utf8_lossy(bytes).into(),
        Value::Binary(bytes) => json["binary"] = STANDARD.encode(bytes).into(),
    }
}

/// The text that a list goes on with after `key`.
fn cursor(key: &Key) -> String {
    cursor_of(key.as_str())
}

/// The text that a list goes on with after what has this name.
pub(super) fn cursor_of(name: &str) -> String {
    let mut bytes = vec![CURSOR_FORM];
    bytes.extend_from_slice(name.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn key_of_cursor(text: &str) -> Result<Key, Problem> {
    of_cursor(text).and_then(|name| Key::new(name).ok()).ok_or_else(no_cursor)
}

/// The name in a cursor.
pub(super) fn of_cursor(text: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    String::from_utf8(bytes.strip_prefix(&[CURSOR_FORM])?.to_vec()).ok()
}

pub(super) fn no_cursor() -> Problem {
    Problem::invalid_parameter("cursor: it is no cursor of a list: give that of the page before, or none")
}

/// The header that names the next page.
pub(super) fn link(call: &Call, next: &str) -> String {
    let query = call.head.uri.query().unwrap_or_default();
    let kept = query.split('&').filter(|part| !part.is_empty() && !part.starts_with("cursor="));
    let cursor = format!("cursor={next}");
    let query: Vec<&str> = kept.chain([cursor.as_str()]).collect();
    format!("<{}?{}>; rel=\"next\"", call.head.uri.path(), query.join("&"))
}

/// Whether Accept names a type that `is_meant`.
pub(super) fn accepts(headers: &HeaderMap, is_meant: fn(&str) -> bool) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let types = lines.flat_map(|line| line.split(','));
    types
        .map(|named| named.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .any(|name| is_meant(&name))
}

pub(super) fn is_json(name: &str) -> bool {
    name == "application/json" || name.ends_with("+json")
}

fn is_text(name: &str) -> bool {
    name == "text/plain"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated_text};

    #[test]
    fn cursor_leads_back_to_its_key_and_others_are_refused() {
        let key = Key::new("a/ü%".to_owned()).unwrap();
        assert_eq!(key_of_cursor(&cursor(&key)).unwrap(), key);
        for text in ["x", "AA", "AQ", "Av8", "not base64"] {
            assert_eq!(key_of_cursor(text).unwrap_err().kind, "invalid-parameter", "{text}");
        }
    }

    #[test]
    fn line_of_a_key_has_no_control_characters() {
        let mut text = String::new();
        escape("a\nb%c ü\u{7f}\u{85}", &mut text);
        assert_eq!(text, "a%0Ab%25c ü%7F%C2%85");
    }

    #[test]
    fn accept_is_read_without_parameters_and_case() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/html, Application/Problem+JSON;q=0.5"));
        assert!(accepts(&headers, is_json) && !accepts(&headers, is_text));
    }

    #[test]
    fn fuzz_cursors_of_lists() {
        let seeds = [cursor(&Key::new("a".to_owned()).unwrap()), cursor(&Key::new("ü/longer key".to_owned()).unwrap())];
        let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let text = mutated_text(&seeds, bytes);
            match key_of_cursor(&text) {
                Ok(key) => assert_eq!(cursor(&key), text, "a key has one cursor"),
                Err(problem) => assert_eq!(problem.kind, "invalid-parameter", "{text:?}"),
            }
        });
    }
}
