//! SET with all its options, and the commands that are a SET in other words.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::service::deadline::Deadline;
use crate::service::error::ServiceError;
use crate::service::update::{Present, Update, Updated};
use crate::types::{Change, ChangeRequest, Checksum, Condition, Content, IdempotencyToken, Key, Ttl, Version};
use crate::wire::failure::FailureReason;

use super::Gateway;
use super::command::{Answer, Command, Refusal, content, is_word};
use super::parse::number;
use super::reply::Reply;
use super::table::Id;

/// The time to live that a write gives a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifespan {
    /// None.
    Endless,
    /// The rest of the previous value's time to live.
    Kept,
    For(Ttl),
    /// It has passed already: the key has no value.
    Over,
}

/// The meaning of a number that gives a time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
    /// A time of day.
    SecondsAt,
    MillisAt,
}

/// When a SET writes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// If there is no value.
    Absent,
    Present,
    /// If this is the value.
    Equal(Bytes),
    /// If this is not the value. There may be none.
    Unequal(Bytes),
}

/// The options of a SET.
#[derive(Debug)]
struct Options {
    when: When,
    life: Lifespan,
    /// Whether the value before is the answer.
    gets: bool,
}

impl Lifespan {
    /// The time to live of this many units from now, which `command` gives.
    pub(super) fn of(unit: Unit, amount: i64, command: &str) -> Result<Self, Refusal> {
        let left = left(unit, amount, command)?;
        let Ok(left) = u64::try_from(left) else { return Ok(Self::Over) };
        if left == 0 {
            return Ok(Self::Over);
        }
        let ttl = Ttl::from_millis(left).ok_or_else(|| {
            Refusal::wrong(format!("{}: at most ten years from now are accepted", invalid_text(command)))
        })?;
        Ok(Self::For(ttl))
    }

    /// The same for a command that takes no amount below one.
    pub(super) fn of_positive(unit: Unit, amount: i64, command: &str) -> Result<Self, Refusal> {
        if amount <= 0 { Err(Refusal::Wrong(invalid_text(command))) } else { Self::of(unit, amount, command) }
    }

    /// The content to write, and its time to live. The previous value had `kept` left.
    pub(super) fn apply(self, value: Content, kept: Option<Ttl>) -> (Content, Option<Ttl>) {
        match self {
            Self::Endless => (value, None),
            Self::Kept => (value, kept),
            Self::For(ttl) => (value, Some(ttl)),
            Self::Over => (Content::Tombstone, None),
        }
    }
}

/// How many milliseconds from now that is; below one it has passed.
pub(super) fn left(unit: Unit, amount: i64, command: &str) -> Result<i64, Refusal> {
    let invalid = || Refusal::Wrong(invalid_text(command));
    let millis = match unit {
        Unit::Seconds | Unit::SecondsAt => amount.checked_mul(1_000).ok_or_else(invalid)?,
        Unit::Millis | Unit::MillisAt => amount,
    };
    match unit {
        Unit::Seconds | Unit::Millis => Ok(millis),
        Unit::SecondsAt | Unit::MillisAt => Ok(millis.saturating_sub(now_millis())),
    }
}

fn invalid_text(command: &str) -> String {
    format!("ERR invalid expire time in '{command}' command")
}

/// The time of day in milliseconds. It decides nothing: it turns times of day of clients into times to live, and back.
pub(super) fn now_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// The unit that an option of SET or GETEX names.
pub(super) fn unit(option: &[u8]) -> Option<Unit> {
    let units = [("ex", Unit::Seconds), ("px", Unit::Millis), ("exat", Unit::SecondsAt), ("pxat", Unit::MillisAt)];
    units.into_iter().find(|(name, _)| is_word(option, name)).map(|(_, unit)| unit)
}

fn options(arguments: &[Bytes]) -> Result<Options, Refusal> {
    let mut options = Options { when: When::Always, life: Lifespan::Endless, gets: false };
    let mut life = None;
    let mut rest = arguments;
    let mut set_when = |when: When| {
        if options.when != When::Always && options.when != when {
            return Err(Refusal::syntax());
        }
        options.when = when;
        Ok(())
    };
    let mut amount = None;
    loop {
        rest = match rest {
            [] => break,
            [word, more @ ..] if is_word(word, "nx") => {
                set_when(When::Absent)?;
                more
            }
            [word, more @ ..] if is_word(word, "xx") => {
                set_when(When::Present)?;
                more
            }
            [word, value, more @ ..] if is_word(word, "ifeq") => {
                set_when(When::Equal(value.clone()))?;
                more
            }
            [word, value, more @ ..] if is_word(word, "ifne") => {
                set_when(When::Unequal(value.clone()))?;
                more
            }
            [word, more @ ..] if is_word(word, "get") => {
                options.gets = true;
                more
            }
            [word, more @ ..] if is_word(word, "keepttl") && life.is_none() && amount.is_none() => {
                life = Some(Lifespan::Kept);
                more
            }
            [word, given, more @ ..] if unit(word).is_some() && life.is_none() && amount.is_none() => {
                amount = unit(word).map(|unit| (unit, given.clone()));
                more
            }
            _ => return Err(Refusal::syntax()),
        };
    }
    if let Some((unit, given)) = amount {
        let amount = number(&given).ok_or_else(Refusal::not_an_integer)?;
        life = Some(Lifespan::of_positive(unit, amount, "set")?);
    }
    options.life = life.unwrap_or(Lifespan::Endless);
    Ok(options)
}

impl Gateway {
    pub(super) async fn set(&self, command: &Command, deadline: Deadline) -> Answer {
        let options = options(&command.arguments[3..])?;
        self.set_with(command.key()?, command.argument(2), options, deadline).await
    }

    pub(super) async fn getset(&self, command: &Command, deadline: Deadline) -> Answer {
        let options = Options { when: When::Always, life: Lifespan::Endless, gets: true };
        self.set_with(command.key()?, command.argument(2), options, deadline).await
    }

    pub(super) async fn setnx(&self, command: &Command, deadline: Deadline) -> Answer {
        let value = content(command.argument(2));
        let is_written = self.change_if(command.key()?, Condition::Absent, value, None, deadline).await?;
        Ok(Reply::flag(is_written.is_some()))
    }

    pub(super) async fn setex(&self, command: &Command, deadline: Deadline) -> Answer {
        let unit = if command.spec.id == Id::Setex { Unit::Seconds } else { Unit::Millis };
        let life = Lifespan::of_positive(unit, command.number(2)?, command.spec.name)?;
        let options = Options { when: When::Always, life, gets: false };
        self.set_with(command.key()?, command.argument(3), options, deadline).await
    }

    async fn set_with(&self, key: Key, value: Bytes, options: Options, deadline: Deadline) -> Answer {
        let Options { when, life, gets } = options;
        let value = content(value);
        let simple = match &when {
            _ if gets || life == Lifespan::Kept => None,
            When::Always => Some(None),
            When::Absent => Some(Some(Condition::Absent)),
            When::Present => Some(Some(Condition::Present)),
            When::Equal(_) | When::Unequal(_) => None,
        };
        if let Some(condition) = simple {
            let (value, ttl) = life.apply(value, None);
            let is_written = match condition {
                None => self.service.set(self.table(), key, value, ttl, deadline).await.map(|_| true)?,
                Some(condition) => self.change_if(key, condition, value, ttl, deadline).await?.is_some(),
            };
            return Ok(if is_written { Reply::OK } else { Reply::Nil });
        }
        let judge = |present: Option<Present<'_>>| {
            let before = present.map(|present| present.value.bytes().clone());
            let holds = match &when {
                When::Always => true,
                When::Absent => before.is_none(),
                When::Present => before.is_some(),
                When::Equal(given) => before.as_ref() == Some(given),
                When::Unequal(given) => before.as_ref() != Some(given),
            };
            if !holds {
                return Update::Keep((before, false));
            }
            let (content, ttl) = life.apply(value.clone(), present.and_then(|present| present.ttl));
            Update::Write { content, ttl, result: (before, true) }
        };
        let Updated { result: (before, is_written), guard } =
            self.service.update(self.table(), &key, deadline, judge).await?;
        Ok(match (gets, before, is_written) {
            (true, Some(before), _) => Reply::Bytes(before).guarded(guard),
            (true, None, _) | (false, _, false) => Reply::Nil,
            (false, _, true) => Reply::OK,
        })
    }

    /// The version of a key, and its value.
    pub(super) async fn qgetv(&self, command: &Command, deadline: Deadline) -> Answer {
        let found = self.service.get(self.table(), &command.key()?, deadline).await?;
        let version = match &found {
            Some(found) => found.record.version(),
            None => self.service.absence(self.table(), deadline).await?,
        };
        let version = Reply::text(self.service.versions().encode(&version));
        let (value, guard) = match found {
            None => (Reply::Nil, None),
            Some(found) => (super::strings::value_reply(found.record.record.content), found.guard),
        };
        Ok(Reply::Array(vec![version, value]).guarded(guard))
    }

    /// Writes if the key has this version.
    pub(super) async fn qcas(&self, command: &Command, deadline: Deadline) -> Answer {
        let versions = self.service.versions();
        let given = command.argument(2);
        let version = std::str::from_utf8(&given).ok().and_then(|text| versions.decode(text).ok());
        let version = version.ok_or_else(|| {
            Refusal::wrong("ERR the version is none of this cluster: give one that QGETV or QCAS answered, as it was")
        })?;
        let condition = Condition::Version(version);
        let written = self.change_if(command.key()?, condition, content(command.argument(3)), None, deadline).await?;
        Ok(written.map_or(Reply::Nil, |version| Reply::text(versions.encode(&version))))
    }

    /// Writes on a condition, as one operation. The version that it made; `None` where the condition does not hold.
    pub(super) async fn change_if(
        &self,
        key: Key,
        condition: Condition,
        content: Content,
        ttl: Option<Ttl>,
        deadline: Deadline,
    ) -> Result<Option<Version>, ServiceError> {
        let request = write_if(&key, condition, content, ttl);
        match self.service.change(self.table(), key, request, deadline).await {
            Ok(written) => Ok(Some(written.version)),
            Err(error) if error.failure.reason == FailureReason::ConditionFailed => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A write on a condition.
pub(super) fn write_if(key: &Key, condition: Condition, content: Content, ttl: Option<Ttl>) -> ChangeRequest {
    let checksum = Checksum::of(key, &content).and_ttl(ttl);
    let change = Change::Write { condition, content, ttl, checksum };
    ChangeRequest { change, token: IdempotencyToken(rand::random()), is_resend: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Options, String> {
        let words: Vec<Bytes> = text.split_whitespace().map(|word| Bytes::from(word.to_owned())).collect();
        options(&words).map_err(|refusal| match refusal {
            Refusal::Wrong(text) => text,
            Refusal::Failed(error) => error.message,
        })
    }

    #[test]
    fn options_of_set_are_read_in_any_order() {
        let options = read("get NX Px 1500").unwrap();
        assert_eq!((options.when, options.gets), (When::Absent, true));
        assert_eq!(options.life, Lifespan::For(Ttl::from_millis(1_500).unwrap()));
        let options = read("KEEPTTL ifeq old").unwrap();
        assert_eq!((options.when, options.life), (When::Equal("old".into()), Lifespan::Kept));
        assert_eq!(read("EXAT 1").unwrap().life, Lifespan::Over);
        let syntax = "ERR syntax error";
        let invalid = "ERR invalid expire time in 'set' command";
        for (text, expected) in [
            ("NX XX", syntax),
            ("NX IFEQ a", syntax),
            ("IFEQ", syntax),
            ("EX", syntax),
            ("EX 1 PX 1", syntax),
            ("EX 1 KEEPTTL", syntax),
            ("KEEPTTL EX 1", syntax),
            ("steal", syntax),
            ("EX one", "ERR value is not an integer or out of range"),
            ("EX 0", invalid),
            ("PX -1", invalid),
            ("EX 9223372036854775807", invalid),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        assert!(read("EX 315360001").unwrap_err().starts_with(invalid));
    }
}
