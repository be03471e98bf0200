//! Many operations in one request.
//!
//! Contract: each operation is linearizable alone, and together they are no transaction. Operations on one key are done in
//! their order, others beside each other. Each has a result of its own.
//!
//! Invariant: what a request holds is bounded by its bytes. The reader of the body takes operations alone, at most
//! [`OPERATIONS_MAX`], and nothing that is nested.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use axum::http::{StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, stream};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value as Json, json};

use crate::limits::VALUE_BYTES_MAX;
use crate::service::deadline::Deadline;
use crate::types::{Content, Key, Table, Value};

use super::body::{Upload, Uploaded};
use super::conditions::Conditions;
use super::list::put_value;
use super::problem::Problem;
use super::query;
use super::reply::Reply;
use super::value::{Effect, Write};
use super::{Call, Gateway};

/// The most operations of a batch.
const OPERATIONS_MAX: usize = 1_000;
/// How many keys of a batch are worked on at once. A node works on 1,024 requests by default, and others have some too.
const KEYS_AT_ONCE: usize = 64;

/// An operation, as its client wrote it.
#[derive(Debug, Default)]
struct Given {
    op: Option<String>,
    table: Option<String>,
    key: Option<String>,
    value: Option<String>,
    binary: Option<String>,
    ttl: Option<String>,
    if_match: Option<String>,
    if_none_match: Option<String>,
}

/// An operation that is valid.
enum Operation {
    Get(Table, Key, Conditions),
    Write(Write),
}

impl Operation {
    /// The table and the key.
    fn place(&self) -> (Table, Key) {
        match self {
            Self::Get(table, key, _) | Self::Write(Write { table, key, .. }) => (table.clone(), key.clone()),
        }
    }
}

impl Gateway {
    pub(super) async fn batch(&self, call: &Call, upload: Upload) -> Result<Reply, Problem> {
        Upload::check(&call.head.headers)?;
        let content_type = call.head.headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok());
        let essence = content_type.and_then(|given| given.split(';').next()).unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let detail = "nothing was done: a batch is JSON; send it with Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-type", detail));
        }
        let given = call.query.span("timeout")?;
        // The bytes count until all is written: the values are parts of them, or as large.
        let Uploaded { bytes: body, guard: _guard } = upload.read(given.map(|timeout| call.began + timeout)).await?;
        let deadline = Deadline::new(given, given.map_or_else(Instant::now, |_| call.began));
        let operations: Batch = serde_json::from_slice(&body)
            .map_err(|error| Problem::invalid_body(format!("nothing was done: the body is no batch: {error}")))?;
        drop(body);
        let mut by_key: BTreeMap<(Table, Key), Vec<(usize, Operation)>> = BTreeMap::new();
        let count = operations.0.len();
        for (index, given) in operations.0.into_iter().enumerate() {
            let operation = given.read().map_err(|mut problem| {
                problem.detail = format!("nothing was done: operations[{index}]: {}", problem.detail);
                problem
            })?;
            by_key.entry(operation.place()).or_default().push((index, operation));
        }
        let mut room = VALUE_BYTES_MAX;
        let mut guard = self.service.buffers().guard();
        let mut results: Vec<Json> = vec![Json::Null; count];
        let mut ends = stream::iter(by_key.into_values())
            .map(|of_key| self.run_in_order(of_key, deadline))
            .buffer_unordered(KEYS_AT_ONCE);
        while let Some(of_key) = ends.next().await {
            for (index, result) in of_key {
                let (result, bytes) = result.unwrap_or_else(|problem| (failed(&problem), 0));
                // Values beyond that are dropped as they come, so that a batch never holds more.
                results[index] = if bytes <= room && guard.grow(bytes) {
                    room -= bytes;
                    result
                } else {
                    let detail = format!(
                        "not in this answer: the value has {bytes} bytes, and those of one batch hold {VALUE_BYTES_MAX} \
                         bytes together at most; read the key alone"
                    );
                    failed(&Problem::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", detail))
                };
            }
        }
        drop(ends);
        let mut reply = Reply::json(&json!({ "results": results }));
        reply.guard = Some(guard);
        Ok(reply)
    }

    /// Does the operations of one key, one after the other.
    async fn run_in_order(
        &self,
        operations: Vec<(usize, Operation)>,
        deadline: Deadline,
    ) -> Vec<(usize, Result<(Json, usize), Problem>)> {
        let mut results = Vec::with_capacity(operations.len());
        for (index, operation) in operations {
            let result = match operation {
                Operation::Get(table, key, conditions) => self.get_one(&table, &key, &conditions, deadline).await,
                Operation::Write(write) => self.write_one(write, deadline).await.map(|result| (result, 0)),
            };
            results.push((index, result));
        }
        results
    }

    /// The result of a read, and how many bytes its value has.
    async fn get_one(
        &self,
        table: &Table,
        key: &Key,
        conditions: &Conditions,
        deadline: Deadline,
    ) -> Result<(Json, usize), Problem> {
        use super::conditions::Judgement;
        let answer = self.service.get(table, key, deadline).await?.ok_or_else(Problem::missing_key)?;
        let version = self.service.versions().encode(&answer.record.version());
        let etag = super::conditions::etag(&version);
        let Content::Value(value) = &answer.record.content else { return Err(Problem::missing_key()) };
        match conditions.judge(&version) {
            Judgement::Failed => {
                Err(Problem::condition_failed("the value has none of the tags that if_match names", Some(etag)))
            }
            Judgement::NotModified => Ok((json!({ "status": 304, "etag": etag }), 0)),
            Judgement::Holds => {
                let mut json = json!({ "status": 200, "etag": etag });
                put_value(&mut json, value);
                if let Some(ttl) = answer.record.ttl_left() {
                    json["ttl_ms"] = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).into();
                }
                Ok((json, value.bytes().len()))
            }
        }
    }

    async fn write_one(&self, write: Write, deadline: Deadline) -> Result<Json, Problem> {
        Ok(match self.do_write(write, deadline).await? {
            Effect::Created(version) => json!({ "status": 201, "etag": self.tag(&version) }),
            Effect::Replaced(version) => json!({ "status": 204, "etag": self.tag(&version) }),
            Effect::Deleted => json!({ "status": 204 }),
        })
    }
}

/// The result of an operation that was not done, or not fully.
fn failed(problem: &Problem) -> Json {
    json!({ "status": problem.status.as_u16(), "problem": problem.as_json() })
}

impl Given {
    fn read(self) -> Result<Operation, Problem> {
        let Self { op, table, key, value, binary, ttl, if_match, if_none_match } = self;
        let table = Table::parse(&table.unwrap_or_default());
        let table = table.map_err(|error| Problem::invalid_table(error.to_string()))?;
        let key = key.ok_or_else(|| Problem::invalid_body("key is missing"))?;
        let key = Key::new(key).map_err(|error| Problem::invalid_key(&error))?;
        let conditions = Conditions::of_fields(if_match.as_deref(), if_none_match.as_deref())?;
        let op = op.unwrap_or_default();
        if op != "put" && (value.is_some() || binary.is_some() || ttl.is_some()) {
            return Err(Problem::invalid_body("value, binary and ttl belong to put"));
        }
        match op.as_str() {
            "get" => Ok(Operation::Get(table, key, conditions)),
            "delete" => Ok(Operation::Write(Write { table, key, content: Content::Tombstone, ttl: None, conditions })),
            "put" => {
                let value = match (value, binary) {
                    (Some(text), None) => Value::Text(text.into()),
                    (None, Some(text)) => {
                        let refused = |_| Problem::invalid_body("binary is no base64");
                        Value::Binary(STANDARD.decode(text).map_err(refused)?.into())
                    }
                    _ => return Err(Problem::invalid_body("give value, or binary in base64: one of the two")),
                };
                let ttl = ttl.as_deref().map(query::ttl).transpose();
                let ttl = ttl.map_err(|text| Problem::invalid_body(format!("ttl is {text}")))?;
                Ok(Operation::Write(Write { table, key, content: Content::Value(value), ttl, conditions }))
            }
            other => Err(Problem::invalid_body(format!("op is {other:?}: get, put and delete are accepted"))),
        }
    }
}

/// The body: `{"operations": [...]}`.
struct Batch(Vec<Given>);

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BatchVisitor)
    }
}

struct BatchVisitor;

impl<'de> Visitor<'de> for BatchVisitor {
    type Value = Batch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{\"operations\": [...]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Batch, A::Error> {
        let mut operations = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != "operations" || operations.is_some() {
                return Err(A::Error::custom(format!("field {name:?} is not accepted here: give operations, once")));
            }
            operations = Some(map.next_value_seed(Operations)?);
        }
        operations.map(Batch).ok_or_else(|| A::Error::custom("operations is missing"))
    }
}

struct Operations;

impl<'de> DeserializeSeed<'de> for Operations {
    type Value = Vec<Given>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Given>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Operations {
    type Value = Vec<Given>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1 to {OPERATIONS_MAX} operations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<Given>, A::Error> {
        let mut operations = Vec::new();
        while operations.len() < OPERATIONS_MAX
            && let Some(operation) = sequence.next_element()?
        {
            operations.push(operation);
        }
        if operations.is_empty() || sequence.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom(format!("1 to {OPERATIONS_MAX} operations are accepted")));
        }
        Ok(operations)
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(GivenVisitor)
    }
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an operation, such as {\"op\": \"get\", \"key\": \"k\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        let mut given = Given::default();
        while let Some(name) = map.next_key::<String>()? {
            let field = match name.as_str() {
                "op" => &mut given.op,
                "table" => &mut given.table,
                "key" => &mut given.key,
                "value" => &mut given.value,
                "binary" => &mut given.binary,
                "ttl" => &mut given.ttl,
                "if_match" => &mut given.if_match,
                "if_none_match" => &mut given.if_none_match,
                _ => {
                    return Err(A::Error::custom(format!(
                        "an operation has no field {name:?}: accepted are op, table, key, value, binary, ttl, if_match and \
                         if_none_match"
                    )));
                }
            };
            if field.is_some() {
                return Err(A::Error::custom(format!("{name} is given twice in one operation")));
            }
            *field = Some(map.next_value()?);
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated};

    fn refusal(body: &str) -> String {
        match serde_json::from_str::<Batch>(body) {
            Err(error) => error.to_string(),
            Ok(Batch(operations)) => {
                let read = operations.into_iter().map(Given::read).find_map(Result::err);
                read.map_or_else(|| panic!("{body} is accepted"), |problem| problem.detail)
            }
        }
    }

    #[test]
    fn wrong_batches_say_what_is_wrong() {
        for (body, part) in [
            ("", "EOF"),
            ("[]", "operations"),
            ("{}", "operations is missing"),
            (r#"{"operations":[]}"#, "1 to 1000"),
            (r#"{"operations":[],"x":1}"#, "1 to 1000"),
            (r#"{"operations":[{"op":"get","key":"k"}],"x":1}"#, "\"x\""),
            (r#"{"operations":[{"op":"get","key":"k","kee":"k"}]}"#, "\"kee\""),
            (r#"{"operations":[{"op":"get","op":"get","key":"k"}]}"#, "twice"),
            (r#"{"operations":[{"op":"get","key":7}]}"#, "string"),
            (r#"{"operations":[{"op":"get"}]}"#, "key is missing"),
            (r#"{"operations":[{"op":"get","key":""}]}"#, "empty"),
            (r#"{"operations":[{"op":"add","key":"k"}]}"#, "get, put and delete"),
            (r#"{"operations":[{"op":"get","key":"k","ttl":"1s"}]}"#, "belong to put"),
            (r#"{"operations":[{"op":"put","key":"k"}]}"#, "one of the two"),
            (r#"{"operations":[{"op":"put","key":"k","value":"v","binary":"dg=="}]}"#, "one of the two"),
            (r#"{"operations":[{"op":"put","key":"k","binary":"?"}]}"#, "base64"),
            (r#"{"operations":[{"op":"put","key":"k","value":"v","ttl":"soon"}]}"#, "ttl"),
            (r#"{"operations":[{"op":"get","key":"k","table":"a b"}]}"#, "' '"),
            (r#"{"operations":[{"op":"get","key":"k","if_match":"x"}]}"#, "if_match"),
        ] {
            let text = refusal(body);
            assert!(text.contains(part), "{body}: {text}");
        }
        let many = vec![r#"{"op":"get","key":"k"}"#; OPERATIONS_MAX + 1].join(",");
        assert!(refusal(&format!(r#"{{"operations":[{many}]}}"#)).contains("1 to 1000"));
        assert!(refusal(&"[".repeat(100_000)).contains("operations"));
    }

    proptest! {
        #[test]
        fn any_body_reads_or_is_refused(body in "[{}\\[\\]\":,a-kops]{0,60}") {
            let _ = serde_json::from_str::<Batch>(&body);
        }
    }

    #[test]
    fn fuzz_batches() {
        let seeds: [&[u8]; 4] = [
            br#"{"operations":[{"op":"get","key":"k"}]}"#,
            br#"{"operations":[{"op":"put","key":"k","value":"v","ttl":"30s"},{"op":"delete","key":"\u00fc"}]}"#,
            br#"{"operations":[{"op":"put","key":"k","binary":"dg==","if_match":"\"a\"","if_none_match":"*"}]}"#,
            br#"{"operations":[[[[{}]]]],"x":1e999,"y":"\ud800"}"#,
        ];
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let body = mutated(&seeds, bytes);
            let Ok(Batch(operations)) = serde_json::from_slice::<Batch>(&body) else { return };
            assert!((1..=OPERATIONS_MAX).contains(&operations.len()));
            for problem in operations.into_iter().filter_map(|given| given.read().err()) {
                assert!(matches!(problem.status.as_u16(), 400 | 404), "{body:?}: {problem:?}");
            }
        });
    }
}
