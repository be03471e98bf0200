//! Times to live: EXPIRE and TTL, and their kin.
//!
//! Contract: a value lives at least as long as it was told to, and is gone for everybody at one moment soon after. A new time
//! to live is a write of the same value, under the condition that nobody has written meanwhile.

use crate::service::deadline::Deadline;
use crate::service::update::{Present, Update};
use crate::types::{Content, Table, Ttl};

use super::Gateway;
use super::command::{Answer, Command, Refusal, is_word};
use super::parse::shown;
use super::reply::Reply;
use super::set::{Lifespan, Unit, left, now_millis};
use super::table::Id;

/// When EXPIRE sets the time to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option that may be given or not")]
struct If {
    /// The value has none.
    has_none: bool,
    has_one: bool,
    /// The new one ends later.
    is_later: bool,
    is_earlier: bool,
}

impl If {
    fn parse(options: &[bytes::Bytes]) -> Result<Self, Refusal> {
        let mut only = Self::default();
        for option in options {
            let place = if is_word(option, "nx") {
                &mut only.has_none
            } else if is_word(option, "xx") {
                &mut only.has_one
            } else if is_word(option, "gt") {
                &mut only.is_later
            } else if is_word(option, "lt") {
                &mut only.is_earlier
            } else {
                return Err(Refusal::Wrong(format!("ERR Unsupported option {}", shown(option))));
            };
            *place = true;
        }
        if only.has_none && (only.has_one || only.is_later || only.is_earlier) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(Refusal::wrong(text));
        }
        if only.is_later && only.is_earlier {
            return Err(Refusal::wrong("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(only)
    }

    /// Whether it may be set where `before` is left, and `new` would be, in milliseconds. No time to live lasts for ever.
    fn holds(self, before: Option<Ttl>, new: i64) -> bool {
        let before = before.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        !(self.has_none && before.is_some()
            || self.has_one && before.is_none()
            || self.is_later && before.is_none_or(|before| new <= before)
            || self.is_earlier && before.is_some_and(|before| new >= before))
    }
}

impl Gateway {
    /// EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT.
    pub(super) async fn expire(&self, command: &Command, deadline: Deadline) -> Answer {
        let unit = match command.spec.id {
            Id::Expire => Unit::Seconds,
            Id::Pexpire => Unit::Millis,
            Id::Expireat => Unit::SecondsAt,
            _ => Unit::MillisAt,
        };
        let only = If::parse(&command.arguments[3..])?;
        let amount = command.number(2)?;
        let life = Lifespan::of(unit, amount, command.spec.name)?;
        let new = left(unit, amount, command.spec.name)?;
        let judge = |present: Option<Present<'_>>| match present {
            Some(present) if only.holds(present.ttl, new) => {
                let (content, ttl) = life.apply(Content::Value(present.value.clone()), None);
                Update::Write { content, ttl, result: true }
            }
            _ => Update::Keep(false),
        };
        Ok(Reply::flag(self.service.update(self.table(), &command.key()?, deadline, judge).await?.result))
    }

    pub(super) async fn persist(&self, command: &Command, deadline: Deadline) -> Answer {
        self.check_endless(deadline).await?;
        let judge = |present: Option<Present<'_>>| match present {
            Some(Present { value, ttl: Some(_) }) => {
                Update::Write { content: Content::Value(value.clone()), ttl: None, result: true }
            }
            _ => Update::Keep(false),
        };
        Ok(Reply::flag(self.service.update(self.table(), &command.key()?, deadline, judge).await?.result))
    }

    /// Refuses a command that takes the time to live away, where the table would give its default one in its place.
    pub(super) async fn check_endless(&self, deadline: Deadline) -> Result<(), Refusal> {
        let Table::Named(name) = self.table() else { return Ok(()) };
        let Some(default) = self.service.table_get(name, deadline).await?.table.settings.default_ttl else {
            return Ok(());
        };
        Err(Refusal::Wrong(format!(
            "ERR no value of the table {name} lives for ever: its default time to live is {} seconds. Give a longer one \
             with EXPIRE",
            default.as_millis() / 1_000
        )))
    }

    /// TTL, PTTL, EXPIRETIME and PEXPIRETIME.
    pub(super) async fn ttl(&self, command: &Command, deadline: Deadline) -> Answer {
        let found = self.service.get(self.table(), &command.key()?, deadline).await?;
        let record = found.map(|found| found.record).filter(|record| record.is_value());
        let Some(record) = record else { return Ok(Reply::Number(-2)) };
        let Some(left) = record.ttl_left() else { return Ok(Reply::Number(-1)) };
        let left = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
        let rounded = |millis: i64| millis.saturating_add(500) / 1_000;
        Ok(Reply::Number(match command.spec.id {
            Id::Ttl => rounded(left),
            Id::Pttl => left,
            Id::Expiretime => rounded(now_millis().saturating_add(left)),
            _ => now_millis().saturating_add(left),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_expire_are_judged_as_in_redis() {
        let words = |text: &str| -> Vec<bytes::Bytes> {
            text.split_whitespace().map(|word| bytes::Bytes::from(word.to_owned())).collect()
        };
        let ten = Ttl::from_millis(10);
        for (options, before, new, expected) in [
            ("", None, 5, true),
            ("NX", None, 5, true),
            ("nx", ten, 5, false),
            ("XX", None, 5, false),
            ("XX", ten, 5, true),
            ("GT", None, 5, false),
            ("GT", ten, 10, false),
            ("GT", ten, 11, true),
            ("LT", None, 5, true),
            ("LT", ten, 10, false),
            ("LT", ten, 9, true),
            ("XX LT", None, 9, false),
            ("LT", ten, -1, true),
        ] {
            assert_eq!(If::parse(&words(options)).unwrap().holds(before, new), expected, "{options} {before:?} {new}");
        }
        for options in ["NX XX", "NX GT", "GT LT", "AB"] {
            assert!(If::parse(&words(options)).is_err(), "{options}");
        }
    }
}
