//! Numbers in values: INCR and its kin.
//!
//! Contract: INCR is one addition of the cluster, whatever others do. Fractions are added in decimal, exactly, where they have
//! at most 17 places; otherwise as floating-point numbers.

use std::str::FromStr as _;

use crate::service::deadline::Deadline;
use crate::service::update::{Present, Update};
use crate::types::{Change, ChangeRequest, Content, IdempotencyToken, number_in};
use crate::wire::failure::FailureReason;

use super::Gateway;
use super::command::{Answer, Command, Refusal, content};
use super::reply::Reply;
use super::table::Id;

/// The most places after the point of a sum, as in Redis.
const PLACES_MAX: u32 = 17;
/// The most digits before the point that are added in decimal.
const DIGITS_MAX: usize = 20;

impl Gateway {
    /// INCR, DECR, INCRBY and DECRBY.
    pub(super) async fn add(&self, command: &Command, deadline: Deadline) -> Answer {
        let delta = match command.spec.id {
            Id::Incr => 1,
            Id::Decr => -1,
            Id::Incrby => command.number(2)?,
            _ => {
                let given = command.number(2)?;
                given.checked_neg().ok_or_else(|| Refusal::wrong("ERR decrement would overflow"))?
            }
        };
        let key = command.key()?;
        let change = Change::Add { delta, since: None, ttl: None, keeps_ttl: true };
        let request = ChangeRequest { change, token: IdempotencyToken(rand::random()), is_resend: false };
        match self.service.change(self.table(), key.clone(), request, deadline).await {
            Ok(written) => Ok(Reply::Number(written.sum.unwrap_or_default())),
            Err(error) if error.failure.reason == FailureReason::NotANumber => {
                // Redis has two texts. Which of them is right shows in the value, unless it has changed since.
                let found = self.service.get(self.table(), &key, deadline).await;
                let record = found.ok().flatten().map(|found| found.record).filter(|record| record.is_value());
                let is_number = record.is_some_and(|record| number_in(Some(&record.record.content)).is_some());
                Err(if is_number {
                    Refusal::wrong("ERR increment or decrement would overflow")
                } else {
                    Refusal::not_an_integer()
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn add_fraction(&self, command: &Command, deadline: Deadline) -> Answer {
        let given = command.argument(2);
        let delta = fraction(&given).ok_or_else(|| Refusal::wrong("ERR value is not a valid float"))?.to_owned();
        let judge = |present: Option<Present<'_>>| {
            let before = match present {
                None => Some("0"),
                Some(present) => fraction(present.value.bytes()),
            };
            let Some(before) = before else {
                return Update::Keep(Err(Refusal::wrong("ERR value is not a valid float")));
            };
            let Some(sum) = sum(before, &delta) else {
                return Update::Keep(Err(Refusal::wrong("ERR increment would produce NaN or Infinity")));
            };
            let content: Content = content(sum.clone().into());
            Update::Write { content, ttl: present.and_then(|present| present.ttl), result: Ok(sum) }
        };
        let sum = self.service.update(self.table(), &command.key()?, deadline, judge).await?.result?;
        Ok(Reply::text(sum))
    }
}

/// The text of a number that may have a point or an exponent; infinities are numbers.
fn fraction(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    // `parse` accepts neither spaces nor hexadecimal digits; Redis takes no "nan".
    let number = f64::from_str(text).ok()?;
    (!number.is_nan()).then_some(text)
}

/// The sum of two such numbers; `None` where it is none.
fn sum(one: &str, other: &str) -> Option<String> {
    if let (Some(one), Some(other)) = (Decimal::parse(one), Decimal::parse(other)) {
        return Some(one.plus(other).to_string());
    }
    let sum = f64::from_str(one).ok()? + f64::from_str(other).ok()?;
    sum.is_finite().then(|| sum.to_string())
}

/// A number of at most [`DIGITS_MAX`] digits and [`PLACES_MAX`] places, in units of the last place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimal(i128);

/// The units in one.
const UNITS: i128 = 10_i128.pow(PLACES_MAX);

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let fits = whole.len() <= DIGITS_MAX && places.len() <= PLACES_MAX as usize;
        if !fits || !are_digits(whole) || !are_digits(places) || whole.len() + places.len() == 0 {
            return None;
        }
        let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
        let missing = PLACES_MAX - u32::try_from(places.len()).ok()?;
        let units = number(whole)? * UNITS + number(places)? * 10_i128.pow(missing);
        Some(Self(if text.starts_with('-') { -units } else { units }))
    }

    fn plus(self, other: Self) -> Self {
        // Each has at most 37 digits, and an i128 has 38.
        Self(self.0 + other.0)
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = self.0.unsigned_abs();
        let (whole, places) = (units / UNITS.unsigned_abs(), units % UNITS.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        let places = format!(".{places:017}");
        write!(f, "{sign}{whole}{}", places.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fractions_are_added_as_people_expect() {
        for (one, other, expected) in [
            ("10.50", "0.1", Some("10.6")),
            ("0.1", "0.2", Some("0.3")),
            ("5.0e3", "2.0e2", Some("5200")),
            ("0", "-1.5", Some("-1.5")),
            ("-1", "1", Some("0")),
            ("3", "1.000000000000000005", Some("4")),
            ("17179869184", "1.5", Some("17179869185.5")),
            ("99999999999999999999", "1", Some("100000000000000000000")),
            ("1e308", "1e308", None),
            ("inf", "1", None),
        ] {
            assert_eq!(sum(one, other).as_deref(), expected, "{one} {other}");
        }
        for (text, is_one) in
            [("1", true), (" 1", false), ("1 ", false), ("", false), ("nan", false), ("inf", true), (".5", true)]
        {
            assert_eq!(fraction(text.as_bytes()).is_some(), is_one, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_two_texts_have_a_sum_or_none(one in "[0-9.e+-]{0,12}", other in "-?[0-9]{1,20}(\\.[0-9]{0,17})?") {
            if fraction(one.as_bytes()).is_some() {
                let _ = sum(&one, &other);
            }
        }

        #[test]
        fn whole_numbers_are_added_exactly(one in any::<i64>(), other in any::<i64>()) {
            let expected = (i128::from(one) + i128::from(other)).to_string();
            prop_assert_eq!(sum(&one.to_string(), &other.to_string()), Some(expected));
        }
    }
}
