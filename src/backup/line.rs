//! A key and its value as a line of JSON: in files of `quorate export`, and in backups.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::client::Listed;
use crate::limits::VALUE_BYTES_MAX;
use crate::types::{KEY_BYTES_MAX, Value};

/// The longest line: each byte of a value may take six characters (`\u0000`).
pub(crate) const LINE_BYTES_MAX: u64 = 6 * (VALUE_BYTES_MAX + KEY_BYTES_MAX) as u64 + 4_096;

/// A key and its value, as `get --json` prints them.
pub(crate) fn as_json(listed: &Listed) -> Json {
    let mut json = json!({ "key": listed.key, "version": listed.version });
    if let Some(ttl) = listed.ttl {
        json["ttl_ms"] = ttl_json(ttl);
    }
    match &listed.value {
        Some(Value::Text(bytes)) => json["value"] = json!(String::from_utf8_lossy(bytes)),
        Some(Value::Binary(bytes)) => json["binary"] = json!(STANDARD.encode(bytes)),
        None => {}
    }
    json
}

/// A time to live in milliseconds. Part of one counts as a whole one: what is written again must not expire before its time.
pub(crate) fn ttl_json(ttl: Duration) -> Json {
    json!(u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

/// One line, read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) ttl: Option<Duration>,
}

impl Line {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let accepted = r#"such as {"key": "k", "value": "v"}"#;
        let json: Json = serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}; {accepted}"))?;
        let key = json["key"].as_str().ok_or_else(|| format!("\"key\" is no text; {accepted}"))?.to_owned();
        let value = match (json.get("value"), json.get("binary")) {
            (Some(Json::String(text)), None) => Value::from(text.as_str()),
            (None, Some(Json::String(text))) => {
                Value::from(STANDARD.decode(text).map_err(|error| format!("\"binary\" is no base64: {error}"))?)
            }
            _ => return Err(format!("give either \"value\", a text, or \"binary\", in base64; {accepted}")),
        };
        let ttl = match json.get("ttl_ms") {
            None | Some(Json::Null) => None,
            Some(millis) => {
                let millis = millis.as_u64().ok_or("\"ttl_ms\" is no number of milliseconds")?;
                Some(Duration::from_millis(millis))
            }
        };
        Ok(Self { key, value, ttl })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_what_get_prints() {
        let line = Line::parse(br#"{"clock":{},"key":"k","value":"v","version":"AA","ttl_ms":1500}"#).unwrap();
        let expected = ("k", Value::from("v"), Some(Duration::from_millis(1_500)));
        assert_eq!((line.key.as_str(), line.value, line.ttl), expected);
        let line = Line::parse(br#"{"key":"k","binary":"/w=="}"#).unwrap();
        assert_eq!((line.value, line.ttl), (Value::from(vec![255]), None));
    }

    #[test]
    fn line_that_is_written_is_read_as_it_was() {
        for (value, ttl) in [(Value::from("a\u{0}\n\"ß"), None), (Value::from(vec![0, 255, 10]), Some(1))] {
            let listed = Listed {
                key: "k\u{2028}".into(),
                version: "AA".into(),
                value: Some(value.clone()),
                ttl: ttl.map(Duration::from_millis),
            };
            let text = as_json(&listed).to_string();
            assert!(!text.contains('\n'), "{text}");
            let line = Line { key: listed.key, value, ttl: listed.ttl };
            assert_eq!(Line::parse(text.as_bytes()), Ok(line));
        }
    }

    #[test]
    fn bad_line_is_refused_in_words() {
        for (text, part) in [
            ("{", "no JSON"),
            ("[]", "\"key\" is no text"),
            (r#"{"value":"v"}"#, "\"key\" is no text"),
            (r#"{"key":"k"}"#, "either \"value\""),
            (r#"{"key":"k","value":"v","binary":""}"#, "either \"value\""),
            (r#"{"key":"k","value":1}"#, "either \"value\""),
            (r#"{"key":"k","binary":"?"}"#, "no base64"),
            (r#"{"key":"k","value":"v","ttl_ms":-1}"#, "milliseconds"),
        ] {
            let problem = Line::parse(text.as_bytes()).err().unwrap();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
