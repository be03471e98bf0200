//! The description of the API for programs: OpenAPI 3.1, made from the table of paths. api/openapi.json is a copy of it, so
//! that a change shows.

use std::sync::OnceLock;

use serde_json::{Map, Value as Json, json};

use crate::limits::{NODES_MAX, REPLICA_COUNT_MAX, VALUE_BYTES_MAX};
use crate::types::ZONE_BYTES_MAX;

use super::routes::{Operation, ROUTES, Route};

/// The description as text.
pub(super) fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{:#}\n", document()))
}

/// The meaning of a parameter of the query of a path, and its schema.
fn parameter(template: &str, name: &str) -> Json {
    let span = json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)?$" });
    let text = json!({ "type": "string" });
    let (about, schema) = match name {
        "timeout" => ("How long the node may take: 1ms to 60s; 5s without it", span),
        "wait" => ("How long to wait until If-None-Match holds: 1ms to 60s", span),
        "ttl" => ("The time to live of the value: 1ms to 3650d; it never expires without it", span),
        "default_ttl" => ("The time to live of values that are written without one: 1ms to 3650d", span),
        "value_bytes_max" => (
            "The greatest value in bytes; 60 MiB without it",
            json!({ "type": "integer", "minimum": 1, "maximum": VALUE_BYTES_MAX }),
        ),
        "quota_bytes" => (
            "About how many bytes all keys and values may have together; no bound without it",
            json!({ "type": "integer", "minimum": 1 }),
        ),
        "add" => ("The number to add", json!({ "type": "integer", "format": "int64" })),
        "prefix" => ("Keys that begin so", text),
        "key" => ("This key alone", text),
        "cursor" => ("The cursor of the page before", text),
        "limit" if template == "/v1/tables" => (
            "The most tables of a page; 1,000 without it",
            json!({ "type": "integer", "minimum": 1, "maximum": super::tables::LIMIT_MAX }),
        ),
        "limit" => (
            "The most keys of a page: with values, 100 at most",
            json!({ "type": "integer", "minimum": 1, "maximum": super::list::LIMIT_MAX }),
        ),
        "expected" => (
            "The number of the configuration that the caller has seen: if it is another one by now, nothing is done",
            json!({ "type": "integer", "minimum": 0 }),
        ),
        "values" => ("Whether the values are wanted", json!({ "type": "boolean" })),
        other => panic!("what is {other}?"),
    };
    json!({ "name": name, "in": "query", "description": about, "schema": schema })
}

fn of_path(name: &str) -> Json {
    let about = match name {
        "key" => "The key: everything after the prefix, slashes included",
        "table" => "The table; `default` is always there",
        _ => "The id of a node",
    };
    json!({ "name": name, "in": "path", "required": true, "description": about, "schema": { "type": "string" } })
}

fn header(name: &str, about: &str) -> Json {
    json!({ "name": name, "in": "header", "description": about, "schema": { "type": "string" } })
}

fn problem(about: &str) -> Json {
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    json!({ "description": about, "content": { "application/problem+json": { "schema": schema } } })
}

/// The type of the body of an answer that does what was asked.
fn content(template: &str, method: &str) -> Json {
    let any = json!({ "schema": {} });
    match (template, method) {
        ("/" | "/v1/tables/{table}/keys", _) => json!({ "application/json": any, "text/plain": any }),
        ("/{key}" | "/v1/tables/{table}/keys/{key}", _) => {
            json!({ "text/plain": any, "application/octet-stream": any })
        }
        ("/_nodes_discovery_plain", _) => json!({ "text/plain": any }),
        ("/v1/tables/{table}/watch", _) => json!({ "text/event-stream": any }),
        _ => json!({ "application/json": any }),
    }
}

fn operation(route: &Route, operation: &Operation) -> Json {
    let is_of_key = route.template.ends_with("{key}") && operation.counted_as != "/api.Cluster/Info";
    let is_of_table = route.template == "/v1/tables/{table}";
    let is_write = matches!(operation.method, "PUT" | "POST" | "DELETE");
    let mut parameters: Vec<Json> = operation.parameters.iter().map(|name| parameter(route.template, name)).collect();
    if is_of_key {
        parameters.push(header("If-Match", "Tags of which the value must have one, or *"));
        parameters.push(header("If-None-Match", "Tags of which the value must have none, or *"));
    }
    if operation.parameters.contains(&"ttl") {
        parameters.push(header("Quorate-TTL", "The time to live, as the parameter ttl"));
    }
    if route.template.ends_with("/watch") {
        parameters.push(header("Last-Event-ID", "The id of the last event: the ones after it are told"));
    }
    let mut responses = Map::new();
    for (status, about) in operation.answers {
        let mut answer = json!({ "description": about });
        let is_empty = matches!((route.template, operation.method), ("/_health", _) | ("/{key}", "POST"));
        if matches!(status, 200 | 202) && !is_empty {
            answer["content"] = content(route.template, operation.method);
        }
        responses.insert(status.to_string(), answer);
    }
    let mut more = vec![
        ("400", "the request is not valid"),
        ("404", "there is no value, table or path of this name"),
        ("414", "the path is too long"),
        ("421", "the node does not go by the name in Host"),
        ("429", "the node has too much to do, and nothing was done"),
        ("431", "the headers are too large"),
        ("500", "the node failed"),
        ("503", "certainly not done"),
    ];
    if is_of_key {
        more.push(("412", "the condition does not hold"));
    }
    if is_write {
        more.push(("403", "the request comes from a page of another origin"));
        let is_of_members = operation.counted_as.starts_with("/api.Members/");
        let conflict = match () {
            () if is_of_table => "the table exists already, with other settings",
            () if is_of_members => "the members cannot be changed so, or another change came first",
            () => "the value is no number",
        };
        more.push(("409", conflict));
        more.push(("504", "it may have been done: read to find out"));
    }
    if matches!(operation.method, "PUT" | "POST") {
        more.push(("408", "the body did not arrive in time"));
        more.push(("413", "the body is too large"));
        more.push(("415", "the body has a type or an encoding that is not accepted"));
    }
    for (status, about) in more {
        let answer = match (route.template, status) {
            // A script prints the value, or nothing. With an Accept that names JSON there is a problem all the same.
            ("/{key}", "404" | "412") => json!({ "description": about }),
            ("/_nodes/delete/{node}", "404") => {
                let mut answer = problem(about);
                answer["content"]["text/plain"] = json!({ "schema": {} });
                answer
            }
            _ => problem(about),
        };
        responses.entry(status).or_insert(answer);
    }
    let mut json = json!({ "summary": operation.summary, "parameters": parameters, "responses": responses });
    let takes_body = operation.parameters.contains(&"ttl") && !operation.parameters.contains(&"add");
    if takes_body {
        json["requestBody"] = json!({ "content": { "*/*": { "schema": {} } } });
    } else if matches!((route.template, operation.method), ("/v1/members", "PUT") | ("/v1/members/plan", _)) {
        let schema = json!({ "$ref": "#/components/schemas/MembersWish" });
        json["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    } else if route.template == "/v1/batch" {
        let schema = json!({ "$ref": "#/components/schemas/Batch" });
        json["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    json
}

/// The description, made from the table of paths.
fn document() -> Json {
    let mut paths = Map::new();
    for route in &ROUTES {
        let mut item = Map::new();
        let names: Vec<Json> = ["table", "key", "node"]
            .into_iter()
            .filter(|name| route.template.contains(&format!("{{{name}}}")))
            .map(of_path)
            .collect();
        if !names.is_empty() {
            item.insert("parameters".to_owned(), names.into());
        }
        for one in route.operations {
            item.insert(one.method.to_ascii_lowercase(), operation(route, one));
        }
        paths.insert(route.template.to_owned(), item.into());
    }
    let text = json!({ "type": "string" });
    let problem = json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": text, "title": text, "status": { "type": "integer" }, "detail": text, "reason": text, "etag": text,
        },
    });
    let fields = ["table", "key", "value", "binary", "ttl", "if_match", "if_none_match"];
    let mut of_batch: Map<String, Json> = fields.iter().map(|name| ((*name).to_owned(), text.clone())).collect();
    of_batch.insert("op".to_owned(), json!({ "enum": ["get", "put", "delete"] }));
    let one = json!({
        "type": "object", "required": ["op", "key"], "properties": of_batch, "additionalProperties": false,
    });
    let batch = json!({
        "type": "object",
        "required": ["operations"],
        "properties": { "operations": { "type": "array", "minItems": 1, "maxItems": 1_000, "items": one } },
        "additionalProperties": false,
    });
    let identity = json!({ "type": "string", "pattern": "^([0-9a-fA-F]{32})?$" });
    let weight = json!({ "type": "number", "minimum": 0.01, "maximum": 10_000 });
    let zone = json!({ "type": "string", "maxLength": ZONE_BYTES_MAX, "pattern": "^[!-+\\--~]*$" });
    let member = json!({
        "type": "object",
        "required": ["id", "address"],
        "properties": { "id": text, "address": text, "identity": identity, "weight": weight, "zone": zone },
        "additionalProperties": false,
    });
    let wish = json!({
        "type": "object",
        "required": ["members", "replica_count"],
        "properties": {
            "members": { "type": "array", "minItems": 1, "maxItems": NODES_MAX, "items": member },
            "replica_count": { "type": "integer", "minimum": 1, "maximum": REPLICA_COUNT_MAX },
            "expected": { "type": "integer", "minimum": 0 },
            "force": { "type": "boolean" },
        },
        "additionalProperties": false,
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Quorate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A key-value store in which every key is linearizable. docs/http.md describes each path.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://localhost:8101" }],
        "paths": paths,
        "components": { "schemas": { "Problem": problem, "Batch": batch, "MembersWish": wish } },
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn committed_description_is_the_one_of_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("api/openapi.json");
        if std::env::var_os("QUORATE_WRITE_OPENAPI").is_some() {
            std::fs::write(&path, super::text()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(committed == super::text(), "QUORATE_WRITE_OPENAPI=1 cargo test --lib committed_description writes it");
    }
}
