//! Values as they are, in parts, and several at once.

use std::collections::HashMap;

use bytes::Bytes;

use crate::limits::VALUE_BYTES_MAX;
use crate::service::deadline::Deadline;
use crate::service::error::{ServiceError, no_room};
use crate::service::update::{Present, Update, Updated};
use crate::types::{Content, Key};
use crate::wire::BATCH_KEYS_MAX;
use crate::wire::call::Write;
use crate::wire::failure::FailureReason;
use crate::wire::method::Access;

use super::command::{Answer, Command, Refusal, content, is_word};
use super::failure;
use super::reply::Reply;
use super::set::{Lifespan, unit};
use super::{Gateway, UNCOUNTED_BYTES};

/// A value as an answer.
pub(super) fn value_reply(content: Content) -> Reply {
    match content {
        Content::Value(value) => Reply::Bytes(value.bytes().clone()),
        Content::Tombstone => Reply::Nil,
    }
}

impl Gateway {
    pub(super) async fn get(&self, command: &Command, deadline: Deadline) -> Answer {
        let Some(found) = self.service.get(self.table(), &command.key()?, deadline).await? else {
            return Ok(Reply::Nil);
        };
        Ok(value_reply(found.record.record.content).guarded(found.guard))
    }

    pub(super) async fn mget(&self, command: &Command, deadline: Deadline) -> Answer {
        let keys = keys(command)?;
        let mut replies = Vec::with_capacity(keys.len());
        let mut guards = Vec::new();
        for keys in keys.chunks(BATCH_KEYS_MAX) {
            let answer = self.service.batch_get(self.table(), keys.to_vec(), deadline).await?;
            for (_, result) in answer.results {
                replies.push(result?.map_or(Reply::Nil, |record| value_reply(record.record.content)));
            }
            guards.push(answer.guard);
        }
        let reply = Reply::Array(replies);
        Ok(guards.into_iter().fold(reply, |reply, guard| reply.guarded(Some(guard))))
    }

    pub(super) async fn mset(&self, command: &Command, deadline: Deadline) -> Answer {
        // Of a key that is given twice, the last value counts.
        let mut places = HashMap::new();
        let mut writes: Vec<Write> = Vec::new();
        for pair in command.arguments[1..].chunks_exact(2) {
            let key = Key::new(pair[0].clone())?;
            let write = Write::Plain { key: key.clone(), content: content(pair[1].clone()), ttl: None };
            match places.insert(key, writes.len()) {
                Some(earlier) => {
                    places.insert(write.key().clone(), earlier);
                    writes[earlier] = write;
                }
                None => writes.push(write),
            }
        }
        self.write_all(writes, deadline).await.map(|_| Reply::OK)
    }

    /// Does all of `writes`, and returns how many took effect; conditions may fail.
    pub(super) async fn write_all(&self, mut writes: Vec<Write>, deadline: Deadline) -> Result<usize, Refusal> {
        let count = writes.len();
        let (mut written, mut failed) = (0, Vec::new());
        while !writes.is_empty() {
            let rest = writes.split_off(writes.len().min(BATCH_KEYS_MAX));
            let writes_now = writes.into_iter().map(|write| (self.table().clone(), write)).collect();
            let outcomes = match self.service.batch_write(writes_now, deadline).await {
                Ok(outcomes) => outcomes,
                Err(error) if written == 0 && failed.is_empty() => return Err(error.into()),
                Err(error) => {
                    failed.push(error);
                    break;
                }
            };
            for (_, outcome) in outcomes {
                match outcome {
                    Ok(_) => written += 1,
                    Err(error) if error.failure.reason == FailureReason::ConditionFailed => {}
                    Err(error) => failed.push(error),
                }
            }
            writes = rest;
        }
        outcome(written, count, &failed)
    }

    pub(super) async fn strlen(&self, command: &Command, deadline: Deadline) -> Answer {
        let found = self.service.get(self.table(), &command.key()?, deadline).await?;
        Ok(Reply::count(found.map_or(0, |found| found.record.content.value_bytes())))
    }

    pub(super) async fn getrange(&self, command: &Command, deadline: Deadline) -> Answer {
        let (start, end) = (command.number(2)?, command.number(3)?);
        let found = self.service.get(self.table(), &command.key()?, deadline).await?;
        let Some(found) = found else { return Ok(Reply::word("")) };
        let Content::Value(value) = found.record.record.content else { return Ok(Reply::word("")) };
        Ok(Reply::Bytes(part(value.bytes(), start, end)).guarded(found.guard))
    }

    pub(super) async fn setrange(&self, command: &Command, deadline: Deadline) -> Answer {
        let offset = usize::try_from(command.number(2)?).map_err(|_| Refusal::wrong("ERR offset is out of range"))?;
        let part = command.argument(3);
        let end = offset.saturating_add(part.len());
        let length = |before: usize| (!part.is_empty()).then_some(before.max(end));
        let fill = |bytes: &mut Vec<u8>| {
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[offset..end].copy_from_slice(&part);
        };
        self.rewrite(&command.key()?, deadline, length, fill).await
    }

    pub(super) async fn append(&self, command: &Command, deadline: Deadline) -> Answer {
        let part = command.argument(2);
        let length = |before: usize| Some(before.saturating_add(part.len()));
        self.rewrite(&command.key()?, deadline, length, |bytes| bytes.extend_from_slice(&part)).await
    }

    /// Changes the bytes of a value, whose time to live goes on, and answers its length. `length` says from the length before
    /// how long it will be; `None` leaves it as it is.
    async fn rewrite(
        &self,
        key: &Key,
        deadline: Deadline,
        length: impl Fn(usize) -> Option<usize>,
        fill: impl Fn(&mut Vec<u8>),
    ) -> Answer {
        let mut room = self.service.buffers().guard();
        let judge = |present: Option<Present<'_>>| {
            let before: &[u8] = present.map_or(&[], |present| present.value.bytes());
            let Some(length) = length(before.len()) else { return Update::Keep(Ok(before.len())) };
            if length > VALUE_BYTES_MAX {
                let text = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
                return Update::Keep(Err(Refusal::wrong(text)));
            }
            room = self.service.buffers().guard();
            if length > UNCOUNTED_BYTES && !room.grow(length) {
                return Update::Keep(Err(no_room(Access::Write).into()));
            }
            let mut bytes = Vec::with_capacity(length);
            bytes.extend_from_slice(before);
            fill(&mut bytes);
            Update::Write { content: content(bytes.into()), ttl: present.and_then(|p| p.ttl), result: Ok(length) }
        };
        let length = self.service.update(self.table(), key, deadline, judge).await?.result?;
        Ok(Reply::count(length))
    }

    pub(super) async fn getdel(&self, command: &Command, deadline: Deadline) -> Answer {
        let judge = |present: Option<Present<'_>>| match present {
            None => Update::Keep(None),
            Some(Present { value, .. }) => {
                let result = Some(value.bytes().clone());
                Update::Write { content: Content::Tombstone, ttl: None, result }
            }
        };
        let Updated { result, guard } = self.service.update(self.table(), &command.key()?, deadline, judge).await?;
        Ok(result.map_or(Reply::Nil, |value| Reply::Bytes(value).guarded(guard)))
    }

    pub(super) async fn getex(&self, command: &Command, deadline: Deadline) -> Answer {
        let life = match &command.arguments[2..] {
            [] => return self.get(command, deadline).await,
            [word] if is_word(word, "persist") => Lifespan::Endless,
            [word, amount] => {
                let unit = unit(word).ok_or_else(Refusal::syntax)?;
                let amount = super::parse::number(amount).ok_or_else(Refusal::not_an_integer)?;
                Lifespan::of_positive(unit, amount, "getex")?
            }
            _ => return Err(Refusal::syntax()),
        };
        if life == Lifespan::Endless {
            self.check_endless(deadline).await?;
        }
        let judge = |present: Option<Present<'_>>| {
            let Some(Present { value, ttl: before }) = present else { return Update::Keep(None) };
            let result = Some(value.bytes().clone());
            let (content, ttl) = life.apply(Content::Value(value.clone()), before);
            if life == Lifespan::Endless && before.is_none() {
                return Update::Keep(result);
            }
            Update::Write { content, ttl, result }
        };
        let Updated { result, guard } = self.service.update(self.table(), &command.key()?, deadline, judge).await?;
        Ok(result.map_or(Reply::Nil, |value| Reply::Bytes(value).guarded(guard)))
    }
}

/// The result of `count` writes, of which `written` took effect and `failed` did not, or not certainly. The conditions of
/// the others do not hold.
fn outcome(written: usize, count: usize, failed: &[ServiceError]) -> Result<usize, Refusal> {
    let unknown = failed.iter().find(|error| error.failure.reason == FailureReason::OutcomeUnknown);
    let Some(error) = unknown.or(failed.first()) else { return Ok(written) };
    // The failure of one write speaks for all where it is that of all, or where certainly nothing was written.
    if written == 0 && (unknown.is_none() || failed.len() == count) {
        return Err(error.clone().into());
    }
    let word = failure::word(FailureReason::OutcomeUnknown);
    Err(Refusal::Wrong(format!(
        "{word} {written} of {count} keys are certainly written; of another: {}",
        error.message
    )))
}

/// The keys of a command.
pub(super) fn keys(command: &Command) -> Result<Vec<Key>, Refusal> {
    command.key_arguments().map(|bytes| Ok(Key::new(bytes.clone())?)).collect()
}

/// The bytes from `start` to `end`, both included. Negative places count from the end.
fn part(bytes: &Bytes, start: i64, end: i64) -> Bytes {
    let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let place = |given: i64| if given < 0 { given.saturating_add(length).max(0) } else { given.min(length) };
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let (start, end) = (place(start), place(end).saturating_add(1).min(length));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start < end => bytes.slice(start..end),
        _ => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_of_several_writes_claims_no_more_than_is_known() {
        let [busy, unknown] = [FailureReason::NotApplied, FailureReason::OutcomeUnknown]
            .map(|reason| ServiceError::new(reason, "the reason"));
        let text = |written, failed: &[ServiceError]| match outcome(written, 2, failed).unwrap_err().into_reply() {
            Reply::Error(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome(1, 2, &[]).unwrap(), 1);
        assert_eq!(
            text(0, std::slice::from_ref(&busy)),
            "NOTAPPLIED the reason",
            "the other key has no value to delete"
        );
        assert_eq!(text(0, &[busy.clone(), busy.clone()]), "NOTAPPLIED the reason");
        assert_eq!(text(0, &[busy.clone(), unknown.clone()]), "OUTCOMEUNKNOWN the reason");
        for (written, failed) in [(1, busy), (0, unknown)] {
            let expected = format!("OUTCOMEUNKNOWN {written} of 2 keys are certainly written; of another: the reason");
            assert_eq!(text(written, &[failed]), expected);
        }
    }

    #[test]
    fn parts_are_those_of_redis() {
        let bytes = Bytes::from_static(b"Hello");
        for (start, end, expected) in [
            (0, 4, "Hello"),
            (0, -1, "Hello"),
            (0, 99, "Hello"),
            (-3, -1, "llo"),
            (-99, 1, "He"),
            (1, 1, "e"),
            (3, 1, ""),
            (5, 9, ""),
            (-1, -3, ""),
            (0, -99, "H"),
            (i64::MIN, i64::MAX, "Hello"),
            (i64::MAX, i64::MIN, ""),
        ] {
            assert_eq!(part(&bytes, start, end), expected.as_bytes(), "{start} {end}");
        }
        assert_eq!(part(&Bytes::new(), 0, -1), Bytes::new());
    }
}
