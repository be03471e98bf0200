//! How long a request may take: what the client gives it in `grpc-timeout`, less the time that the answer needs.
//!
//! The transport under this drops a request at exactly the client's deadline and answers a bare CANCELLED, which says
//! nothing about a write. So an answer is made a little before.

use std::time::{Duration, Instant};

use tonic::codegen::http::HeaderMap;

use crate::limits::{DEADLINE_DEFAULT, DEADLINE_MARGIN_MAX, DEADLINE_MARGIN_MIN, DEADLINE_MAX};

/// When a request must be answered. Counted from the arrival of its head, as the client counts, not from when a large
/// body was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    /// The node answers at this time at the latest.
    pub(super) answer_at: Instant,
    /// A node that has not answered by now is stuck; the gateway answers in its place.
    pub(super) give_up_at: Instant,
}

impl Deadline {
    /// The deadline of a request with these headers that arrived at `now`. A header that cannot be read counts as none,
    /// as it does for the transport.
    pub(super) fn of(headers: &HeaderMap, now: Instant) -> Self {
        let given = headers.get("grpc-timeout").and_then(|value| parse(value.as_bytes()));
        let Some(given) = given else {
            // Nobody cuts the answer off: no margin is needed.
            let answer_at = now + DEADLINE_DEFAULT;
            return Self { answer_at, give_up_at: answer_at + DEADLINE_MARGIN_MAX };
        };
        let given = given.min(DEADLINE_MAX);
        let margin = (given / 10).clamp(DEADLINE_MARGIN_MIN, DEADLINE_MARGIN_MAX);
        let answer_at = now + given.saturating_sub(margin);
        Self { answer_at, give_up_at: answer_at + margin / 2 }
    }
}

/// Reads a `grpc-timeout`: up to 8 digits and a unit, hours to nanoseconds.
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

    fn given(value: &str) -> Duration {
        let now = Instant::now();
        let headers = HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), HeaderValue::from_str(value).unwrap())]);
        Deadline::of(&headers, now).answer_at - now
    }

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
        assert_eq!(given("1x"), DEADLINE_DEFAULT);
    }

    #[test]
    fn answer_leaves_a_tenth_before_within_bounds() {
        assert_eq!(given("1S"), Duration::from_millis(900));
        assert_eq!(given("500m"), Duration::from_millis(450));
        assert_eq!(given("10S"), Duration::from_millis(9_900), "the margin has a most");
        assert_eq!(given("10m"), Duration::from_millis(8), "and a least");
        assert_eq!(given("1m"), Duration::ZERO, "what is shorter than the margin is over at once");
        assert_eq!(given("0n"), Duration::ZERO);
        assert_eq!(given("99999999H"), DEADLINE_MAX.saturating_sub(DEADLINE_MARGIN_MAX), "a week is not honoured");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_header_gives_a_deadline_within_bounds(
            value in prop_oneof!["[0-9]{0,10}[HMSmunx]?", prop::collection::vec(any::<u8>(), 0..12)
                .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())]
        ) {
            let now = Instant::now();
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert("grpc-timeout", value);
            }
            let deadline = Deadline::of(&headers, now);
            prop_assert!(deadline.answer_at >= now && deadline.answer_at <= now + DEADLINE_MAX);
            prop_assert!(deadline.give_up_at > deadline.answer_at);
            prop_assert!(deadline.give_up_at <= now + DEADLINE_MAX + DEADLINE_MARGIN_MAX);
        }
    }
}
