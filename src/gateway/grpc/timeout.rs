//! Reads `grpc-timeout`, the header in which a client says how long it waits.

use std::time::Duration;

use tonic::codegen::http::{HeaderMap, HeaderName};

static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long the client waits; `None` if it does not say, or not in the form that gRPC prescribes.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(&TIMEOUT)?.as_bytes())
}

/// Up to 8 digits and a unit, hours to nanoseconds.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0_u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic::codegen::http::HeaderValue;

    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (value, expected) in [
            ("1H", Duration::from_hours(1)),
            ("2M", Duration::from_mins(2)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("00000006n", Duration::from_nanos(6)),
            ("99999999H", Duration::from_hours(99_999_999)),
        ] {
            assert_eq!(parse(value.as_bytes()), Some(expected), "{value}");
        }
    }

    #[test]
    fn junk_is_no_timeout() {
        for value in ["", "S", "1", "1s", "1x", "-1S", "+1S", "1.5S", " 1S", "1 S", "123456789S", "1SS", "٣S"] {
            assert_eq!(parse(value.as_bytes()), None, "{value}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_header_reads_or_is_none(
            value in prop_oneof!["[0-9]{0,10}[HMSmunx]?", prop::collection::vec(any::<u8>(), 0..12)
                .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())]
        ) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert("grpc-timeout", value);
            }
            let _ = timeout(&headers);
        }
    }
}
