//! Keys as such: whether they are there, lists of them, and their end.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;

use crate::limits::LISTED_KEYS_MAX;
use crate::service::deadline::Deadline;
use crate::service::error::{ServiceError, no_room};
use crate::service::update::{Present, Update};
use crate::types::{Condition, Content, KEY_BYTES_MAX, Key, KeyRange};
use crate::wire::BATCH_KEYS_MAX;
use crate::wire::call::{ListCall, Write};
use crate::wire::failure::FailureReason;
use crate::wire::method::Access;

use super::Gateway;
use super::command::{Answer, Command, Refusal, is_word};
use super::parse::number;
use super::reply::Reply;
use super::set::write_if;
use super::strings::keys;
use super::table::Id;
use super::{command, glob};

/// How many keys SCAN looks at where it is not told.
const SCANNED_KEYS: usize = 10;
/// The most keys that KEYS answers.
const KEYS_MAX: usize = 100_000;
/// After comparisons of so many bytes of keys and patterns, other tasks have a turn: some milliseconds at most.
const COMPARED_BYTES: usize = 1 << 20;
/// DBSIZE counts so many keys one by one; beyond them it estimates.
const COUNTED_KEYS_MAX: usize = 10_000;

impl Gateway {
    /// DEL and UNLINK. Each key is deleted by one operation, so that of all who delete it one is told so.
    pub(super) async fn del(&self, command: &Command, deadline: Deadline) -> Answer {
        let keys: BTreeSet<Key> = keys(command)?.into_iter().collect();
        let condition = Condition::Present;
        if keys.len() == 1
            && let Some(key) = keys.first()
        {
            let deleted = self.change_if(key.clone(), condition, Content::Tombstone, None, deadline).await?;
            return Ok(Reply::flag(deleted.is_some()));
        }
        let deletion = |key: Key| {
            let request = write_if(&key, Condition::Present, Content::Tombstone, None);
            Write::Conditional(key, request)
        };
        Ok(Reply::count(self.write_all(keys.into_iter().map(deletion).collect(), deadline).await?))
    }

    /// DELEX and DELIFEQ.
    pub(super) async fn delex(&self, command: &Command, deadline: Deadline) -> Answer {
        let (given, is_equal) = match (command.spec.id, &command.arguments[2..]) {
            (Id::Delifeq, [given]) => (given, true),
            (_, []) => {
                let condition = Condition::Present;
                let deleted = self.change_if(command.key()?, condition, Content::Tombstone, None, deadline).await?;
                return Ok(Reply::flag(deleted.is_some()));
            }
            (_, [word, given]) if is_word(word, "ifeq") => (given, true),
            (_, [word, given]) if is_word(word, "ifne") => (given, false),
            _ => return Err(Refusal::syntax()),
        };
        let judge = |present: Option<Present<'_>>| match present {
            Some(present) if (present.value.bytes() == given) == is_equal => {
                Update::Write { content: Content::Tombstone, ttl: None, result: true }
            }
            _ => Update::Keep(false),
        };
        Ok(Reply::flag(self.service.update(self.table(), &command.key()?, deadline, judge).await?.result))
    }

    /// EXISTS. A key that is given twice counts twice.
    pub(super) async fn exists(&self, command: &Command, deadline: Deadline) -> Answer {
        let keys = keys(command)?;
        let mut count = 0;
        for keys in keys.chunks(BATCH_KEYS_MAX) {
            let answer = self.service.batch_get(self.table(), keys.to_vec(), deadline).await?;
            for (key, result) in answer.results {
                let is_value = match result {
                    Ok(record) => record.is_some_and(|record| record.is_value()),
                    // Its value does not fit beside those of the others.
                    Err(error) if error.overloaded => self
                        .service
                        .get(self.table(), &key, deadline)
                        .await?
                        .is_some_and(|found| found.record.is_value()),
                    Err(error) => return Err(error.into()),
                };
                count += usize::from(is_value);
            }
        }
        Ok(Reply::count(count))
    }

    /// TYPE.
    pub(super) async fn kind(&self, command: &Command, deadline: Deadline) -> Answer {
        let found = self.service.get(self.table(), &command.key()?, deadline).await?;
        let is_value = found.is_some_and(|found| found.record.is_value());
        Ok(Reply::Line(if is_value { "string" } else { "none" }))
    }

    pub(super) async fn scan(&self, command: &Command, deadline: Deadline) -> Answer {
        let cursor = number(&command.argument(1)).and_then(|cursor| u64::try_from(cursor).ok());
        let cursor = cursor.ok_or_else(|| Refusal::wrong("ERR invalid cursor"))?;
        let Options { pattern, count, has_strings } = Options::parse(&command.arguments[2..])?;
        // Before the cursor is looked up: what others have listed is not for everybody.
        self.service.allow_list(self.table(), glob::prefix(&pattern))?;
        let after = match cursor {
            0 => None,
            cursor => Some(self.cursors.key(cursor).ok_or_else(|| {
                let text = "ERR invalid cursor: this node did not make it, or made thousands since; begin again with 0";
                Refusal::wrong(text)
            })?),
        };
        let (next, keys) = self.page(after, &pattern, count, deadline).await?;
        let next = next.map_or(0, |key| self.cursors.after(&key));
        let keys = if has_strings { keys } else { Vec::new() };
        let keys = keys.into_iter().map(Reply::Bytes).collect();
        Ok(Reply::Array(vec![Reply::text(next.to_string()), Reply::Array(keys)]))
    }

    /// KEYS.
    pub(super) async fn keys(&self, command: &Command, deadline: Deadline) -> Answer {
        let pattern = accepted(&command.argument(1))?;
        let mut guard = self.service.buffers().guard();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (next, keys) = self.page(after, &pattern, LISTED_KEYS_MAX, deadline).await?;
            let bytes = keys.iter().map(|key| key.len() + size_of::<Reply>()).sum();
            if !guard.grow(bytes) {
                return Err(no_room(Access::Read).into());
            }
            found.extend(keys.into_iter().map(Reply::Bytes));
            if found.len() > KEYS_MAX {
                let text = format!("ERR more than {KEYS_MAX} keys fit: list them page by page with SCAN");
                return Err(Refusal::Wrong(text));
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(Reply::Array(found).guarded(Some(guard))),
            }
        }
    }

    pub(super) async fn dbsize(&self, deadline: Deadline) -> Answer {
        let (mut count, mut after) = (0, None);
        while count < COUNTED_KEYS_MAX {
            let (next, keys) = self.page(after, b"*", LISTED_KEYS_MAX, deadline).await?;
            count += keys.len();
            match next {
                Some(next) => after = Some(next),
                None => return Ok(Reply::count(count)),
            }
        }
        let health = self.service.health(deadline).await?;
        let layout = self.service.node().layout();
        let parameters = layout.newest().parameters();
        let copies = health.statistics.keys_estimate.saturating_mul(parameters.node_ids.len() as u64);
        let estimate = copies / (parameters.replica_count as u64).max(1);
        Ok(Reply::count(usize::try_from(estimate).unwrap_or(usize::MAX).max(count)))
    }

    /// The next page, unless the command takes too long. One that lists several pages has one time for all of them.
    async fn page(
        &self,
        after: Option<Key>,
        pattern: &[u8],
        count: usize,
        deadline: Deadline,
    ) -> Result<(Option<Key>, Vec<Bytes>), Refusal> {
        let too_late = || {
            let text = "the keys were not all looked at in time: ask for fewer, page by page, with SCAN and COUNT";
            Refusal::Failed(ServiceError::new(FailureReason::NotReady, text))
        };
        if Instant::now() >= deadline.answer_at {
            return Err(too_late());
        }
        // A page that fails says why, until the time at which it must have ended.
        let page = self.page_untimed(after, pattern, count, deadline);
        tokio::time::timeout_at(deadline.give_up_at.into(), page).await.unwrap_or_else(|_| Err(too_late()))
    }

    /// Those of the next `count` keys that fit the pattern, and where the list goes on.
    async fn page_untimed(
        &self,
        after: Option<Key>,
        pattern: &[u8],
        count: usize,
        deadline: Deadline,
    ) -> Result<(Option<Key>, Vec<Bytes>), Refusal> {
        let prefix = glob::prefix(pattern);
        if !can_begin_keys(prefix) {
            return Ok((None, Vec::new()));
        }
        let range = KeyRange { after, prefix: Bytes::copy_from_slice(prefix) };
        let limit = Some(count.clamp(1, LISTED_KEYS_MAX) as u64);
        let mut list = self.service.list(self.table().clone(), ListCall { range, limit, values: false }, deadline)?;
        let Some(page) = list.next_page().await else { return Ok((None, Vec::new())) };
        let page = page?;
        let (mut fitting, mut compared) = (Vec::new(), 0);
        for key in page.entries.iter().map(|entry| entry.key.user_bytes()) {
            if glob::matches(pattern, key) {
                fitting.push(Bytes::copy_from_slice(key));
            }
            compared += pattern.len() * key.len();
            if compared > COMPARED_BYTES {
                compared = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok((page.next, fitting))
    }
}

/// The pattern, unless it is too long.
fn accepted(pattern: &Bytes) -> Result<Bytes, Refusal> {
    glob::refusal(pattern.len()).map_or_else(|| Ok(pattern.clone()), |text| Err(Refusal::Wrong(text)))
}

/// Whether a key can begin so. None is longer than the longest key, and none has the byte 0xFF, which is not in UTF-8.
/// With that byte the stored keys of other tables begin.
fn can_begin_keys(prefix: &[u8]) -> bool {
    prefix.len() <= KEY_BYTES_MAX && !prefix.contains(&0xFF)
}

/// The options of SCAN.
struct Options {
    pattern: Bytes,
    count: usize,
    /// Whether strings are among the types that are asked for.
    has_strings: bool,
}

impl Options {
    fn parse(arguments: &[Bytes]) -> Result<Self, Refusal> {
        let mut options = Self { pattern: Bytes::from_static(b"*"), count: SCANNED_KEYS, has_strings: true };
        let mut rest = arguments;
        loop {
            rest = match rest {
                [] => return Ok(options),
                [word, pattern, more @ ..] if is_word(word, "match") => {
                    options.pattern = accepted(pattern)?;
                    more
                }
                [word, count, more @ ..] if is_word(word, "count") => {
                    let count = number(count).ok_or_else(Refusal::not_an_integer)?;
                    options.count =
                        usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(Refusal::syntax)?;
                    more
                }
                [word, kind, more @ ..] if is_word(word, "type") => {
                    options.has_strings = command::is_word(kind, "string");
                    more
                }
                _ => return Err(Refusal::syntax()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_other_tables_are_not_walked() {
        let long = "x".repeat(KEY_BYTES_MAX);
        assert!(
            [b"".as_slice(), b"a", "\u{10FFFF}".as_bytes(), &[0xC3], long.as_bytes()].into_iter().all(can_begin_keys)
        );
        assert!(![&[0xFF_u8][..], &[0xFF, 0, 0, 0, 9], (long + "x").as_bytes()].into_iter().any(can_begin_keys));
    }
}
