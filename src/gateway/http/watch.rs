//! Changes as server-sent events.
//!
//! Contract: an event's id leads a later request to the events after it, at any node. An id that is too old, or that no node
//! of this cluster gave, leads to `reset`.

use std::io;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value as Json, json};

use crate::api;
use crate::api::watch_request::Keys;
use crate::api::watch_response::Event;
use crate::service::error::ServiceError;
use crate::service::watch::Watch;
use crate::types::{Key, Table, Value};
use crate::wire::WireError;

use super::conditions::etag;
use super::list::put_value;
use super::problem::Problem;
use super::reply::{Body, Reply};
use super::value::header_text;
use super::{Call, Gateway};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Larger values are left out: a reader asks for those that it wants.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// The first line of each answer: how many milliseconds a client waits before it connects again.
const RETRY: &str = "retry: 1000\n\n";
const RESET: &str = "event: reset\ndata: {}\n\n";

impl Gateway {
    pub(super) async fn watch(self: &Arc<Self>, table: &Table, call: &Call) -> Result<Reply, Problem> {
        let keys = match (call.query.text("key"), call.query.text("prefix")) {
            (Some(_), Some(_)) => {
                return Err(Problem::invalid_parameter("key and prefix are both given: give one of the two"));
            }
            (Some(key), None) => Keys::Key(key.to_owned()),
            (None, prefix) => Keys::Prefix(prefix.unwrap_or_default().to_owned()),
        };
        let last = header_text(&call.head.headers, &LAST_EVENT_ID)?.filter(|last| !last.is_empty());
        let id = self.service.table_open(table, call.deadline()?).await?;
        let mut beginning = RETRY.to_owned();
        let request = |cursor: Vec<u8>| {
            let (keys, cursor) = (Some(keys.clone()), cursor.into());
            let request = api::WatchRequest { keys, cursor, values: true, ..Default::default() };
            self.service.watch_codec().request(id, request)
        };
        let cursor = last.map(|last| URL_SAFE_NO_PAD.decode(last).ok().filter(|cursor| !cursor.is_empty()));
        let watched = match cursor {
            None => request(Vec::new()),
            Some(Some(cursor)) => match request(cursor) {
                Err(WireError::Cursor) => {
                    beginning.push_str(RESET);
                    request(Vec::new())
                }
                watched => watched,
            },
            Some(None) => {
                beginning.push_str(RESET);
                request(Vec::new())
            }
        };
        let watched = watched.map_err(|error| Problem::from(ServiceError::from(error)))?;
        let watch = self.service.watch(table, watched).await?;
        let events = stream::unfold(Some(watch), next_event);
        let pieces = stream::once(async { Ok(Bytes::from(beginning)) }).chain(events);
        let mut reply = Reply::of("text/event-stream", Bytes::new());
        reply.body = Body::Pieces(Box::pin(pieces));
        Ok(reply.with(ACCEL_BUFFERING, HeaderValue::from_static("no")))
    }
}

/// The next event. The stream ends where the watch does, and its client goes on by the last id.
async fn next_event(watch: Option<Watch>) -> Option<(io::Result<Bytes>, Option<Watch>)> {
    let mut watch = watch?;
    Some(match watch.next().await {
        Ok(event) => (Ok(Bytes::from(text(event))), Some(watch)),
        Err(error) => (Err(io::Error::other(error.message)), None),
    })
}

/// An event in its form on the wire.
fn text(response: api::WatchResponse) -> String {
    let (name, data) = match response.event {
        Some(Event::Ready(_)) => ("ready", json!({})),
        Some(Event::Reset(_)) => ("reset", json!({})),
        Some(Event::Put(put)) => ("put", data(put)),
        Some(Event::Deleted(deleted)) => ("delete", json!({ "key": deleted.key })),
        Some(Event::Heartbeat(_)) | None => ("heartbeat", json!({})),
    };
    // A client keeps the last id that it got: a heartbeat and a reset leave it as it is.
    let id = match name {
        "heartbeat" | "reset" => String::new(),
        _ => format!("id: {}\n", URL_SAFE_NO_PAD.encode(&response.cursor)),
    };
    format!("event: {name}\n{id}data: {data}\n\n")
}

fn data(put: api::WatchPut) -> Json {
    let mut json = json!({ "key": put.key, "etag": etag(&put.version) });
    match put.entry.map(<(Key, Value)>::try_from) {
        Some(Ok((_, value))) if value.bytes().len() <= VALUE_BYTES_MAX => put_value(&mut json, &value),
        _ => json["large"] = true.into(),
    }
    if let Some(ttl) = put.ttl.and_then(|ttl| std::time::Duration::try_from(ttl).ok()) {
        json["ttl_ms"] = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).into();
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: Vec<u8>) -> api::WatchResponse {
        let entry = api::Entry { key: "k".to_owned(), content: Some(api::entry::Content::Binary(value.into())) };
        let put = api::WatchPut { key: "k".to_owned(), version: "AQ".to_owned(), entry: Some(entry), ttl: None };
        api::WatchResponse { cursor: Bytes::from_static(b"c"), event: Some(Event::Put(put)) }
    }

    #[test]
    fn events_are_one_line_of_json_with_an_id_to_go_on_from() {
        let small = text(put(b"\n".to_vec()));
        let expected = "event: put\nid: Yw\ndata: {\"binary\":\"Cg==\",\"etag\":\"\\\"AQ\\\"\",\"key\":\"k\"}\n\n";
        assert_eq!(small, expected);
        assert!(text(put(vec![0; VALUE_BYTES_MAX + 1])).contains("\"large\":true"));
        let heartbeat = api::WatchResponse { event: Some(Event::Heartbeat(api::WatchHeartbeat {})), ..put(Vec::new()) };
        assert_eq!(text(heartbeat), "event: heartbeat\ndata: {}\n\n");
    }
}
