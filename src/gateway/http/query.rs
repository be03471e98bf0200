//! The query of a request: `?name=value&…`.
//!
//! Contract: a parameter that the path does not have is refused, and so is one that is given twice: a misspelt `ttl` must
//! not mean "for ever".

use std::time::Duration;

use crate::limits::DEADLINE_MAX;
use crate::types::Ttl;

use super::problem::Problem;

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `text`, in which only the parameters `accepted` may be.
    pub(super) fn parse(text: Option<&str>, accepted: &[&str]) -> Result<Self, Problem> {
        let mut given: Vec<(String, String)> = Vec::new();
        for part in text.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !accepted.contains(&name.as_str()) {
                let accepted = match accepted {
                    [] => "this path takes none with this method".to_owned(),
                    names => format!("accepted are {}", names.join(", ")),
                };
                return Err(Problem::invalid_parameter(format!("there is no parameter {name:?} here: {accepted}")));
            }
            if given.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Problem::invalid_parameter(format!("{name} is given twice: give it once")));
            }
            given.push((name, value));
        }
        Ok(Self(given))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// A number within bounds.
    pub(super) fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = digits(text).filter(|number| (min..=max).contains(number));
        let refused =
            || Problem::invalid_parameter(format!("{name} is {text:?}: a number from {min} to {max} is accepted"));
        number.map(Some).ok_or_else(refused)
    }

    /// A whole number of 64 bits with its sign.
    pub(super) fn signed(&self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let refused =
            |_| Problem::invalid_parameter(format!("{name} is {text:?}: a whole number of 64 bits is accepted"));
        text.parse().map(Some).map_err(refused)
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Problem::invalid_parameter(format!("{name} is {other:?}: true or false is accepted"))),
        }
    }

    /// A span of time up to a minute: a deadline, or a wait.
    pub(super) fn span(&self, name: &str) -> Result<Option<Duration>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let span = span(text).filter(|span| *span <= DEADLINE_MAX);
        let refused =
            || Problem::invalid_parameter(format!("{name} is {text:?}: 1ms to 60s are accepted, such as 500ms or 2s"));
        span.map(Some).ok_or_else(refused)
    }

    /// A time to live.
    pub(super) fn time_to_live(&self, name: &str) -> Result<Option<Ttl>, Problem> {
        let given = self.text(name).map(ttl).transpose();
        given.map_err(|text| Problem::invalid_parameter(format!("{name} is {text}")))
    }

    /// The time to live, which may stand in the header as well.
    pub(super) fn ttl(&self, header: Option<&str>) -> Result<Option<Ttl>, Problem> {
        let of_query = self.time_to_live("ttl")?;
        let of_header = header.map(ttl).transpose();
        let of_header = of_header.map_err(|text| Problem::invalid_header(format!("Quorate-TTL is {text}")))?;
        match (of_query, of_header) {
            (Some(one), Some(other)) if one != other => Err(Problem::invalid_parameter(
                "ttl and the header Quorate-TTL are both given and differ: give one of the two",
            )),
            (one, other) => Ok(one.or(other)),
        }
    }
}

/// A time to live, or what is wrong with it.
pub(super) fn ttl(text: &str) -> Result<Ttl, String> {
    let millis = span(text).and_then(|span| u64::try_from(span.as_millis()).ok());
    millis.and_then(Ttl::from_millis).ok_or_else(|| {
        format!(
            "{text:?}: a whole number with ms, s (or nothing), m, h or d is accepted, from 1ms to 3650d; leave it out for a \
             value that never expires"
        )
    })
}

/// A span of time: a whole number from 1 with its unit, or of seconds.
fn span(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = digits(number).filter(|number| *number > 0)?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Digits alone: `parse` would take a sign too.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A name or a value of the query as UTF-8. A plus sign is a space there, as HTML forms and most libraries write it.
fn decode(text: &str) -> Result<String, Problem> {
    let bytes = unescape(&text.replace('+', " "));
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        let detail = "the query is not UTF-8 in percent-escapes: write a byte as % and two hexadecimal digits";
        Problem::invalid_parameter(detail)
    })
}

/// The bytes that `text` stands for: each escape is decoded once. `None` where an escape is broken.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (hex, after) = after.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(hex[0])? * 16 + digit(hex[1])?).ok()?);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated_text};

    #[test]
    fn spans_have_a_unit_and_no_sign() {
        for (text, millis) in [("500ms", 500), ("2s", 2_000), ("2", 2_000), ("1m", 60_000), ("1h", 3_600_000)] {
            assert_eq!(span(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "0s", "-1s", "+1s", "1.5s", "1 s", "s", "1w", "1S", "99999999999999999999", "٣s"] {
            assert_eq!(span(text), None, "{text}");
        }
        assert_eq!(ttl("3650d").unwrap().as_millis(), u64::try_from(Ttl::MAX.as_millis()).unwrap());
        assert!(ttl("3651d").is_err());
    }

    #[test]
    fn unknown_repeated_and_broken_parameters_are_refused() {
        let accepted = ["ttl", "timeout"];
        let query = Query::parse(Some("ttl=30s&timeout=1%30s"), &accepted).unwrap();
        assert_eq!((query.text("ttl"), query.text("timeout")), (Some("30s"), Some("10s")));
        for (text, part) in [
            ("tll=30s", "\"tll\""),
            ("ttl=1s&ttl=1s", "twice"),
            ("ttl=%3", "percent"),
            ("ttl=%zz", "percent"),
            ("ttl=%ff", "UTF-8"),
        ] {
            let problem = Query::parse(Some(text), &accepted).unwrap_err();
            assert_eq!(problem.kind, "invalid-parameter");
            assert!(problem.detail.contains(part), "{}", problem.detail);
        }
        assert!(Query::parse(Some("ttl=61s"), &accepted).unwrap().span("ttl").is_err());
        let both = Query::parse(Some("ttl=60s"), &accepted).unwrap();
        assert_eq!(both.ttl(Some("1m")).unwrap().unwrap().as_millis(), 60_000);
        assert!(both.ttl(Some("2m")).is_err());
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(unescape("a%2Fb%252F+").unwrap(), b"a/b%2F+");
        for text in ["%", "%2", "%2g", "a%", "%%41"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_query_reads_or_is_refused(text in ".{0,60}") {
            let _ = Query::parse(Some(&text), &["ttl", "a"]);
            let _ = span(&text);
        }

        #[test]
        fn escaped_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let escaped = bytes.iter().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"));
            prop_assert_eq!(unescape(&escaped), Some(bytes));
        }
    }

    #[test]
    fn fuzz_query() {
        const NAMES: [&str; 8] = ["ttl", "timeout", "add", "values", "limit", "cursor", "prefix", "key"];
        let seeds =
            ["ttl=30s&timeout=10s", "add=-5&values=true", "limit=10&cursor=AQ&prefix=a%2Fb", "key=%C3%BC+x&ttl=1500ms"];
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let text = mutated_text(&seeds, bytes);
            let problems = match Query::parse(Some(&text), &NAMES) {
                Ok(query) => vec![
                    query.number("limit", 1, 10).err(),
                    query.signed("add").err(),
                    query.flag("values").err(),
                    query.span("timeout").err(),
                    query.ttl(query.text("prefix")).err(),
                ],
                Err(problem) => vec![Some(problem)],
            };
            for problem in problems.into_iter().flatten() {
                assert_eq!(problem.status.as_u16(), 400, "{text:?}: {problem:?}");
            }
        });
    }
}
