//! Single values: GET, HEAD, PUT, POST and DELETE of a key.
//!
//! Contract: a write with a condition is one operation, which the protocol judges as it writes. The answer of an
//! unconditional write about the value before is exact unless somebody else writes the key meanwhile.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use tonic::Code;

use crate::api;
use crate::api::watch_request::Keys;
use crate::service::deadline::Deadline;
use crate::service::error::ServiceError;
use crate::service::{Answer, Service};
use crate::types::{
    Change, ChangeRequest, Checksum, Condition, Content, IdempotencyToken, Key, Table, Ttl, Value, Version,
};

use super::body::{Upload, Uploaded};
use super::conditions::{Conditions, Judgement, etag};
use super::problem::Problem;
use super::reply::{Body, Reply};
use super::{Call, Gateway};

pub(super) const TTL: HeaderName = HeaderName::from_static("quorate-ttl");
/// How often a waiting reader looks by itself. A write that was called before its watch began may not be told.
const LOOKS_EVERY: Duration = Duration::from_secs(5);

/// A write of a key, read from its request.
pub(super) struct Write {
    pub(super) table: Table,
    pub(super) key: Key,
    pub(super) content: Content,
    pub(super) ttl: Option<Ttl>,
    pub(super) conditions: Conditions,
}

/// The effect of a write on its key.
pub(super) enum Effect {
    /// The key had no value before.
    Created(Version),
    /// It had one.
    Replaced(Version),
    Deleted,
}

impl Gateway {
    /// GET and HEAD of a key.
    pub(super) async fn read(&self, table: &Table, key: &Key, call: &Call) -> Result<Reply, Problem> {
        let conditions = Conditions::of(&call.head.headers)?;
        let Some(wait) = call.query.span("wait")? else {
            let answer = self.service.get(table, key, call.deadline()?).await?;
            return self.shown(answer, &conditions);
        };
        if !conditions.has_if_none_match() {
            let detail = "wait is given without If-None-Match: name the tag of the value that you have";
            return Err(Problem::invalid_parameter(detail));
        }
        self.read_when_changed(table, key, &conditions, call, call.began + wait).await
    }

    /// Reads `key` until the conditions hold, or until `ends`.
    async fn read_when_changed(
        &self,
        table: &Table,
        key: &Key,
        conditions: &Conditions,
        call: &Call,
        ends: Instant,
    ) -> Result<Reply, Problem> {
        let keys = Some(Keys::Key(key.as_str().to_owned()));
        let request = api::WatchRequest { keys, ..Default::default() };
        let id = self.service.table_open(table, call.deadline()?).await?;
        let watched = self.service.watch_codec().request(id, request).map_err(ServiceError::from)?;
        let mut watch = self.service.watch(table, watched).await?;
        let timeout = call.query.span("timeout")?;
        loop {
            let answer = self.service.get(table, key, Deadline::new(timeout, Instant::now())).await?;
            let reply = self.shown(answer, conditions)?;
            let now = Instant::now();
            if reply.status != StatusCode::NOT_MODIFIED || now >= ends {
                return Ok(reply);
            }
            // Any event is a reason to look: it may be about a write that the last look missed.
            let until = ends.min(now + LOOKS_EVERY);
            if let Ok(Err(error)) = tokio::time::timeout_at(until.into(), watch.next()).await {
                return Err(error.into());
            }
        }
    }

    /// The answer to a read.
    fn shown(&self, answer: Option<Answer>, conditions: &Conditions) -> Result<Reply, Problem> {
        let Some(Answer { record, guard }) = answer else { return Err(Problem::missing_key()) };
        let version = self.service.versions().encode(&record.version());
        let ttl = record.ttl_left();
        let Content::Value(value) = record.record.content else { return Err(Problem::missing_key()) };
        let tag = etag(&version);
        let mut reply = match conditions.judge(&version) {
            Judgement::Holds => value_reply(&value),
            Judgement::NotModified => Reply::new(StatusCode::NOT_MODIFIED),
            Judgement::Failed => {
                return Err(Problem::condition_failed("the value has none of the tags that If-Match names", Some(tag)));
            }
        };
        if matches!(reply.body, Body::Whole(_)) {
            reply.guard = guard;
        }
        reply = reply.with_text(header::ETAG, &tag);
        Ok(match ttl {
            Some(ttl) => reply.with_text(TTL, &format!("{}ms", ttl.as_millis())),
            None => reply,
        })
    }

    /// PUT, and POST of a short path.
    pub(super) async fn write(
        &self,
        table: Table,
        key: Key,
        call: Call,
        upload: Upload,
        is_post: bool,
    ) -> Result<Reply, Problem> {
        Upload::check(&call.head.headers)?;
        let conditions = Conditions::of(&call.head.headers)?;
        let ttl = call.query.ttl(header_text(&call.head.headers, &TTL)?)?;
        let given = call.query.span("timeout")?;
        // The bytes count until the value is written: that waits for a majority.
        let Uploaded { bytes, guard: _guard } = upload.read(given.map(|timeout| call.began + timeout)).await?;
        // Without a time of its own, a request has its time from the end of its body: that of a large value may be slow.
        let deadline = Deadline::new(given, given.map_or_else(Instant::now, |_| call.began));
        let content = Content::Value(value_of(call.head.headers.get(header::CONTENT_TYPE), bytes));
        let is_blind = is_post && conditions.are_none();
        let (status, version) = if is_blind {
            // Nothing is said about the value before.
            (StatusCode::OK, self.service.set(&table, key, content, ttl, deadline).await?)
        } else {
            match self.do_write(Write { table, key, content, ttl, conditions }, deadline).await? {
                Effect::Created(version) => (StatusCode::CREATED, version),
                Effect::Replaced(version) => (StatusCode::NO_CONTENT, version),
                Effect::Deleted => return Ok(Reply::new(StatusCode::NO_CONTENT)),
            }
        };
        let status = if is_post { StatusCode::OK } else { status };
        Ok(Reply::new(status).with_text(header::ETAG, &self.tag(&version)))
    }

    pub(super) async fn delete(&self, table: Table, key: Key, call: &Call) -> Result<Reply, Problem> {
        let conditions = Conditions::of(&call.head.headers)?;
        let deadline = call.deadline()?;
        let write = Write { table, key, content: Content::Tombstone, ttl: None, conditions };
        self.do_write(write, deadline).await?;
        Ok(Reply::new(StatusCode::NO_CONTENT))
    }

    /// Does a write, with its conditions if it has any. A deletion of no value is a problem.
    pub(super) async fn do_write(&self, write: Write, deadline: Deadline) -> Result<Effect, Problem> {
        let Write { table, key, content, ttl, conditions } = write;
        let is_deletion = content == Content::Tombstone;
        let Some(condition) = conditions.of_write(self.service.versions(), is_deletion) else {
            if is_deletion {
                let had_value = self.service.remove(&table, key, deadline).await?;
                return if had_value { Ok(Effect::Deleted) } else { Err(Problem::missing_key()) };
            }
            let (version, had_value) = self.service.replace(&table, key, content, ttl, deadline).await?;
            return Ok(if had_value { Effect::Replaced(version) } else { Effect::Created(version) });
        };
        let had_value = match &condition {
            Condition::Absent => false,
            // Both may be: the answer says what a read finds.
            Condition::NotAmong { needs_value: false, .. } => self.service.has_value(&table, &key, deadline).await?,
            _ => true,
        };
        let checksum = Checksum::of(&key, &content).and_ttl(ttl);
        let change = Change::Write { condition, content, ttl, checksum };
        match self.service.change(&table, key, change_request(change), deadline).await {
            Ok(_) if is_deletion => Ok(Effect::Deleted),
            Ok(written) if had_value => Ok(Effect::Replaced(written.version)),
            Ok(written) => Ok(Effect::Created(written.version)),
            Err(error) if is_deletion && has_no_value(&error) => Err(Problem::missing_key()),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds to the number in a value.
    pub(super) async fn add(&self, table: &Table, key: Key, call: &Call) -> Result<Reply, Problem> {
        let delta = call.query.signed("add")?.ok_or_else(|| {
            Problem::invalid_parameter("add is missing: POST adds ?add=N to the number in a value; PUT writes a value")
        })?;
        if !Conditions::of(&call.head.headers)?.are_none() {
            let detail = "an addition takes no condition: write the sum with PUT and If-Match instead";
            return Err(Problem::invalid_header(detail));
        }
        let ttl = call.query.ttl(header_text(&call.head.headers, &TTL)?)?;
        let change = Change::Add { delta, since: None, ttl, keeps_ttl: false };
        let written = self.service.change(table, key, change_request(change), call.deadline()?).await?;
        let sum = written.sum.unwrap_or_default().to_string();
        let reply = Reply::of("text/plain; charset=utf-8", sum);
        Ok(reply.with_text(header::ETAG, &self.tag(&written.version)))
    }

    /// The tag of a version.
    pub(super) fn tag(&self, version: &Version) -> String {
        tag_of(&self.service, version)
    }
}

pub(super) fn tag_of(service: &Service, version: &Version) -> String {
    etag(&service.versions().encode(version))
}

fn change_request(change: Change) -> ChangeRequest {
    ChangeRequest { change, token: IdempotencyToken(rand::random()), is_resend: false }
}

/// Whether a condition failed because there is no value.
fn has_no_value(error: &ServiceError) -> bool {
    error.code() == Code::FailedPrecondition && error.failure.current.as_ref().is_some_and(|current| !current.has_value)
}

/// A value as a body, with the type that tells how it was written.
fn value_reply(value: &Value) -> Reply {
    match value {
        Value::Text(bytes) => Reply::of("text/plain; charset=utf-8", bytes.clone()),
        Value::Binary(bytes) => Reply::of("application/octet-stream", bytes.clone()),
    }
    .with(header::ACCEPT_RANGES, HeaderValue::from_static("none"))
}

/// A body as a value: text, unless it was sent as bytes or is no UTF-8.
fn value_of(content_type: Option<&HeaderValue>, bytes: Bytes) -> Value {
    let essence = content_type.and_then(|given| given.to_str().ok()).and_then(|given| given.split(';').next());
    let is_binary = essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/octet-stream"));
    if is_binary || std::str::from_utf8(&bytes).is_err() { Value::Binary(bytes) } else { Value::Text(bytes) }
}

/// The text of a header that may be given once.
pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) if line.to_str().is_ok() => Ok(line.to_str().ok()),
        _ => Err(Problem::invalid_header(format!("{name} cannot be read: give it once, in ASCII"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_is_text_unless_it_is_sent_as_bytes_or_is_no_text() {
        let of = |content_type: Option<&'static str>, bytes: &'static [u8]| {
            value_of(content_type.map(HeaderValue::from_static).as_ref(), Bytes::from_static(bytes))
        };
        assert_eq!(of(None, b"a"), Value::Text("a".into()));
        assert_eq!(of(Some("application/x-www-form-urlencoded"), b"a"), Value::Text("a".into()));
        assert_eq!(of(Some("Application/Octet-Stream; x=1"), b"a"), Value::Binary("a".into()));
        assert_eq!(of(Some("text/plain"), b"\xff"), Value::Binary(Bytes::from_static(b"\xff")));
        assert_eq!(of(None, b""), Value::Text(Bytes::new()));
    }
}
