//! Times of certificates: seconds since 1970 in UTC, as text for people, and from the two forms of X.509.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;

/// The time now, in seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// `2026-11-27 03:36:44 UTC`.
#[must_use]
pub fn text(seconds: i64) -> String {
    let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

/// A time in the form of X.509: `YYMMDDHHMMSSZ`, or with four digits of the year.
pub(super) fn parse(digits: &[u8], is_short: bool) -> Option<i64> {
    let digits = digits.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) || digits.len() != if is_short { 12 } else { 14 } {
        return None;
    }
    let number =
        |from: usize, to: usize| digits[from..to].iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let at = digits.len() - 10;
    let year = match number(0, at) {
        // Two digits are of 1950 to 2049.
        short @ 0..50 if is_short => short + 2_000,
        short if is_short => short + 1_900,
        year => year,
    };
    let (month, day) = (number(at, at + 2), number(at + 2, at + 4));
    let (hour, minute, second) = (number(at + 4, at + 6), number(at + 6, at + 8), number(at + 8, at + 10));
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    is_date.then(|| days(year, month, day) * DAY + hour * 3_600 + minute * 60 + second)
}

/// The days from 1970-01-01 to a date of the Gregorian calendar.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (digits, is_short, written) in [
            (&b"700101000000Z"[..], true, "1970-01-01 00:00:00 UTC"),
            (b"491231235959Z", true, "2049-12-31 23:59:59 UTC"),
            (b"500101000000Z", true, "1950-01-01 00:00:00 UTC"),
            (b"240229120000Z", true, "2024-02-29 12:00:00 UTC"),
            (b"20261127033644Z", false, "2026-11-27 03:36:44 UTC"),
            (b"99991231235959Z", false, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(parse(digits, is_short).map(text).as_deref(), Some(written));
        }
        assert_eq!(parse(b"20261127033644Z", false), Some(1_795_750_604));
        for wrong in [&b""[..], b"Z", b"261327033644Z", b"261127", b"2611270336440Z", b"+61127033644Z"] {
            assert_eq!(parse(wrong, true), None, "{wrong:?}");
        }
    }
}
