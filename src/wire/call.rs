//! Conversions of the requests about one key (Get, Set, Delete and Add), of lists, and of batches of writes.

use std::collections::BTreeMap;

use prost_types::Duration;

use crate::api;
use crate::api::condition::Condition as Arm;
use crate::limits::VALUE_BYTES_MAX;
use crate::types::{
    Change, ChangeRequest, Checksum, Condition, Content, IdempotencyToken, KEY_BYTES_MAX, Key, KeyError, KeyRange,
    Table, Ttl, Value, Version,
};

use super::public::{BATCH_KEYS_MAX, WireError, key, table};
use super::version::VersionText;

/// A write, as its client asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A write without a condition.
    Plain {
        /// The key.
        key: Key,
        /// The value, or a tombstone to delete it.
        content: Content,
        /// The time to live of the value.
        ttl: Option<Ttl>,
    },
    /// A write whose effect depends on the record that is there.
    Conditional(Key, ChangeRequest),
}

/// Reads the requests of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// The versions of the cluster.
    pub versions: VersionText,
    /// Draws a name for a request to which its client gave none.
    pub fresh_token: fn() -> IdempotencyToken,
}

/// How a request names itself.
struct Name {
    token: Option<IdempotencyToken>,
    is_resend: bool,
}

/// A read, as its client asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetCall {
    /// The key.
    pub key: Key,
    /// Whether one replica is enough, and the version that it must have at least.
    pub from_one: Option<Option<Version>>,
}

/// A list, as its client asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListCall {
    /// The keys to list.
    pub range: KeyRange,
    /// The most keys to list; all where there is none.
    pub limit: Option<u64>,
    /// Whether the values are wanted.
    pub values: bool,
}

impl Write {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Plain { key, .. } | Self::Conditional(key, _) => key,
        }
    }

    /// Whether the client says that it may have sent it before.
    #[must_use]
    pub fn is_resend(&self) -> bool {
        match self {
            Self::Plain { .. } => false,
            Self::Conditional(_, request) => request.is_resend,
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::Plain { content, .. } => content.value_bytes(),
            Self::Conditional(_, request) => request.change.value_bytes(),
        }
    }
}

impl Decoder {
    /// Reads a BatchWrite. Each write has its table.
    ///
    /// # Errors
    /// The entry and the field at fault, and what is accepted.
    pub fn batch_write(self, request: api::BatchWriteRequest) -> Result<Vec<(Table, Write)>, WireError> {
        use api::batch_write_entry::Write as Arm;
        let count = request.entries.len();
        if !(1..=BATCH_KEYS_MAX).contains(&count) {
            return Err(WireError::EntryCount { count });
        }
        let of_all = table("table", &request.table)?;
        let accepted = "set or delete";
        let write = |entry: api::BatchWriteEntry| {
            let (names_none, write) = match entry.write {
                Some(Arm::Set(set)) => (set.table.is_empty(), self.set(set)),
                Some(Arm::Delete(delete)) => (delete.table.is_empty(), self.delete(delete)),
                None => return Err(WireError::Missing { field: "write", accepted }),
            };
            write.map(|(own, write)| (if names_none { of_all.clone() } else { own }, write))
        };
        let mut writes = Vec::with_capacity(count);
        let mut places = BTreeMap::new();
        for (index, entry) in request.entries.into_iter().enumerate() {
            let (table, write) =
                write(entry).map_err(|source| WireError::OneEntry { index, source: Box::new(source) })?;
            if let Some(earlier) = places.insert((table.clone(), write.key().clone()), index) {
                return Err(WireError::KeyTwice { index, earlier });
            }
            writes.push((table, write));
        }
        let bytes = writes.iter().map(|(_, write)| write.value_bytes()).sum();
        if bytes > VALUE_BYTES_MAX { Err(WireError::BatchTooLarge { bytes }) } else { Ok(writes) }
    }

    /// Reads a Get, and the table of its key.
    ///
    /// # Errors
    /// The field at fault, and what is accepted.
    pub fn get(self, request: api::GetRequest) -> Result<(Table, GetCall), WireError> {
        let is_one = match api::Consistency::try_from(request.consistency) {
            Ok(api::Consistency::Linearizable) => false,
            Ok(api::Consistency::One) => true,
            Err(_) => return Err(WireError::Consistency { given: request.consistency }),
        };
        let table = table("table", &request.table)?;
        let key = key("key", request.key)?;
        let at_least = match request.at_least {
            None => None,
            Some(_) if !is_one => return Err(WireError::Needs { field: "at_least", needed: "consistency: ONE" }),
            Some(text) => Some(self.version("at_least", &text)?),
        };
        Ok((table, GetCall { key, from_one: is_one.then_some(at_least) }))
    }

    /// Reads a List, and its table.
    ///
    /// # Errors
    /// The field at fault, and what is accepted.
    pub fn list(self, request: api::ListRequest) -> Result<(Table, ListCall), WireError> {
        let api::ListRequest { table: name, prefix, start_after, limit, values } = request;
        let table = table("table", &name)?;
        if prefix.len() > KEY_BYTES_MAX {
            let source = KeyError::TooLong { bytes: prefix.len() };
            return Err(WireError::Key { field: "prefix", source });
        }
        let after = if start_after.is_empty() { None } else { Some(key("start_after", start_after)?) };
        let range = KeyRange { after, prefix: prefix.into() };
        Ok((table, ListCall { range, limit: (limit > 0).then_some(limit), values }))
    }

    /// Reads a Set, and the table of its key.
    ///
    /// # Errors
    /// The field at fault, and what is accepted.
    pub fn set(self, request: api::SetRequest) -> Result<(Table, Write), WireError> {
        let table = table("table", &request.table)?;
        let accepted = "{\"key\": \"...\", \"value\": \"...\"}";
        let entry = request.entry.ok_or(WireError::Missing { field: "entry", accepted })?;
        let (key, value) = <(Key, Value)>::try_from(entry)?;
        let ttl = ttl("ttl", request.ttl)?;
        let content = Content::Value(value);
        let write = self.write(key, content, ttl, request.condition, &request.request_id, request.resend)?;
        Ok((table, write))
    }

    /// Reads a Delete, and the table of its key.
    ///
    /// # Errors
    /// The field at fault, and what is accepted.
    pub fn delete(self, request: api::DeleteRequest) -> Result<(Table, Write), WireError> {
        let table = table("table", &request.table)?;
        let key = key("key", request.key)?;
        let write =
            self.write(key, Content::Tombstone, None, request.condition, &request.request_id, request.resend)?;
        Ok((table, write))
    }

    /// Reads an Add, and the table of its key.
    ///
    /// # Errors
    /// The field at fault, and what is accepted.
    pub fn addition(self, request: api::AddRequest) -> Result<(Table, Key, ChangeRequest), WireError> {
        let table = table("table", &request.table)?;
        let key = key("key", request.key)?;
        let since = request.since.map(|since| self.version("since", &since)).transpose()?;
        let change = Change::Add { delta: request.delta, since, ttl: ttl("ttl", request.ttl)?, keeps_ttl: false };
        let Name { token, is_resend } = name(&request.request_id, request.resend)?;
        Ok((table, key, ChangeRequest { change, token: token.unwrap_or_else(self.fresh_token), is_resend }))
    }

    /// Reads a version in `field`.
    ///
    /// # Errors
    /// When it is none of this cluster.
    pub fn version(self, field: &'static str, text: &str) -> Result<Version, WireError> {
        self.versions.decode(text).map_err(|source| WireError::Version { field, source })
    }

    fn write(
        self,
        key: Key,
        content: Content,
        ttl: Option<Ttl>,
        condition: Option<api::Condition>,
        request_id: &[u8],
        resend: bool,
    ) -> Result<Write, WireError> {
        let Name { token, is_resend } = name(request_id, resend)?;
        let Some(condition) = condition else {
            return if token.is_some() {
                Err(WireError::Needs { field: "request_id", needed: "condition" })
            } else {
                Ok(Write::Plain { key, content, ttl })
            };
        };
        let only_true = |given, field, condition| {
            if given { Ok(condition) } else { Err(WireError::False { field }) }
        };
        let condition = match condition.condition {
            Some(Arm::IfVersion(text)) => Condition::Version(self.version("condition.if_version", &text)?),
            Some(Arm::IfAbsent(given)) => only_true(given, "condition.if_absent", Condition::Absent)?,
            Some(Arm::IfPresent(given)) => only_true(given, "condition.if_present", Condition::Present)?,
            None => {
                let accepted = "if_version, if_absent or if_present";
                return Err(WireError::Missing { field: "condition", accepted });
            }
        };
        let checksum = Checksum::of(&key, &content).and_ttl(ttl);
        let change = Change::Write { condition, content, ttl, checksum };
        let request = ChangeRequest { change, token: token.unwrap_or_else(self.fresh_token), is_resend };
        Ok(Write::Conditional(key, request))
    }
}

fn name(request_id: &[u8], is_resend: bool) -> Result<Name, WireError> {
    if request_id.is_empty() {
        return if is_resend {
            Err(WireError::Needs { field: "resend", needed: "request_id" })
        } else {
            Ok(Name { token: None, is_resend })
        };
    }
    let token = request_id.try_into().map_err(|_| WireError::RequestId { bytes: request_id.len() })?;
    Ok(Name { token: Some(IdempotencyToken(token)), is_resend })
}

/// A time to live in `field`.
pub(super) fn ttl(field: &'static str, given: Option<Duration>) -> Result<Option<Ttl>, WireError> {
    let Some(given) = given else { return Ok(None) };
    let refused = || WireError::Ttl { field, given: format!("{} s and {} ns", given.seconds, given.nanos) };
    let duration = std::time::Duration::try_from(given).map_err(|_| refused())?;
    // Part of a millisecond counts as a whole one: a value never expires before its time.
    let millis = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Ttl::from_millis(millis).map(Some).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated};

    const TOKEN: IdempotencyToken = IdempotencyToken([7; 16]);

    fn decoder() -> Decoder {
        Decoder { versions: VersionText::of_cluster(0), fresh_token: || TOKEN }
    }

    fn set(change: impl FnOnce(&mut api::SetRequest)) -> Result<Write, WireError> {
        let entry = api::Entry { key: "k".into(), content: Some(api::entry::Content::Value("v".into())) };
        let mut request = api::SetRequest { entry: Some(entry), ..Default::default() };
        change(&mut request);
        decoder().set(request).map(|(_, write)| write)
    }

    fn condition(arm: Arm) -> api::Condition {
        api::Condition { condition: Some(arm) }
    }

    #[test]
    fn plain_write_has_no_condition() {
        let written = set(|request| request.ttl = Some(Duration { seconds: 2, nanos: 1 })).unwrap();
        assert!(matches!(written, Write::Plain { ttl: Some(ttl), .. } if ttl.as_millis() == 2_001), "{written:?}");
    }

    #[test]
    fn condition_is_read_with_its_name() {
        let written = set(|request| request.condition = Some(condition(Arm::IfAbsent(true)))).unwrap();
        let Write::Conditional(_, request) = written else { panic!("{written:?}") };
        assert!(matches!(request.change, Change::Write { condition: Condition::Absent, .. }));
        assert_eq!((request.token, request.is_resend), (TOKEN, false), "a name is drawn where none is given");
        let named = set(|request| {
            request.condition = Some(condition(Arm::IfVersion(decoder().versions.encode(&Version::absent()))));
            request.request_id = vec![9; 16].into();
            request.resend = true;
        });
        let Ok(Write::Conditional(_, request)) = named else { panic!("{named:?}") };
        assert_eq!((request.token, request.is_resend), (IdempotencyToken([9; 16]), true));
    }

    #[test]
    fn entry_of_a_batch_is_in_its_own_table_or_in_that_of_the_batch() {
        use api::batch_write_entry::Write as Arm;
        let delete = |table: &str| {
            let delete = api::DeleteRequest { key: "k".into(), table: table.into(), ..Default::default() };
            api::BatchWriteEntry { write: Some(Arm::Delete(delete)) }
        };
        let read = |table: &str, entries: &[&str]| {
            let entries = entries.iter().map(|table| delete(table)).collect();
            decoder().batch_write(api::BatchWriteRequest { entries, table: table.into() })
        };
        let tables = |table: &str, entries: &[&str]| -> Vec<String> {
            let writes = read(table, entries).unwrap().into_iter();
            writes.map(|(table, _)| table.to_string()).collect()
        };
        assert_eq!(tables("", &["", "t"]), ["default", "t"]);
        assert_eq!(tables("t", &["", "default", "u"]), ["t", "default", "u"]);
        assert_eq!(read("t", &["", "t"]).unwrap_err(), WireError::KeyTwice { index: 1, earlier: 0 });
        assert_eq!(read("", &["default", ""]).unwrap_err(), WireError::KeyTwice { index: 1, earlier: 0 });
        let error = read("", &["", "a/b"]).unwrap_err().to_string();
        assert!(error.starts_with("entries[1].table: ") && error.contains("'/'"), "{error}");
        assert!(read("a b", &[""]).unwrap_err().to_string().starts_with("table: "));
    }

    #[test]
    fn each_bad_field_is_named() {
        let seconds = |seconds| Some(Duration { seconds, nanos: 0 });
        for (field, result) in [
            ("condition.if_version", set(|request| request.condition = Some(condition(Arm::IfVersion(String::new()))))),
            (
                "condition.if_version",
                set(|request| request.condition = Some(condition(Arm::IfVersion("nonsense".into())))),
            ),
            ("condition.if_absent", set(|request| request.condition = Some(condition(Arm::IfAbsent(false))))),
            ("condition.if_present", set(|request| request.condition = Some(condition(Arm::IfPresent(false))))),
            ("condition is missing", set(|request| request.condition = Some(api::Condition { condition: None }))),
            ("request_id", set(|request| request.request_id = vec![1; 16].into())),
            ("resend", set(|request| request.resend = true)),
            ("request_id", {
                set(|request| {
                    request.condition = Some(condition(Arm::IfAbsent(true)));
                    request.request_id = vec![1; 15].into();
                })
            }),
            ("ttl", set(|request| request.ttl = seconds(0))),
            ("ttl", set(|request| request.ttl = seconds(-1))),
            ("ttl", set(|request| request.ttl = seconds(10 * 365 * 24 * 3_600 + 1))),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(field), "{field}: {error}");
        }
        for text in ["", "x"] {
            let since = Some(text.to_owned());
            let added = decoder().addition(api::AddRequest { key: "k".into(), since, ..Default::default() });
            assert!(added.unwrap_err().to_string().starts_with("since: "), "{text:?}");
            let at_least = Some(text.to_owned());
            let consistency = api::Consistency::One.into();
            let read = decoder().get(api::GetRequest { key: "k".into(), at_least, consistency, ..Default::default() });
            assert!(read.unwrap_err().to_string().starts_with("at_least: "), "{text:?}");
        }
    }

    /// The bytes of a request are read as each of the requests: a client may have another description of them.
    #[test]
    fn fuzz_requests_of_grpc() {
        use prost::Message as _;
        let entry =
            |key: &str| api::Entry { key: key.into(), content: Some(api::entry::Content::Value("value".into())) };
        let versioned = || Some(condition(Arm::IfVersion(decoder().versions.encode(&Version::absent()))));
        let plain = api::SetRequest { entry: Some(entry("a")), table: "t".into(), ..Default::default() };
        let conditional = api::SetRequest {
            entry: Some(entry("k")),
            condition: versioned(),
            request_id: vec![9; 16].into(),
            resend: true,
            ttl: Some(Duration { seconds: 2, nanos: 1 }),
            ..Default::default()
        };
        let delete = api::DeleteRequest { key: "d".into(), condition: versioned(), ..Default::default() };
        let writes = [
            api::batch_write_entry::Write::Set(plain.clone()),
            api::batch_write_entry::Write::Set(conditional.clone()),
            api::batch_write_entry::Write::Delete(delete.clone()),
        ];
        let entries = writes.map(|write| api::BatchWriteEntry { write: Some(write) }).to_vec();
        let list = api::ListRequest { prefix: "user:".into(), table: "t".into(), ..Default::default() };
        let seeds = [
            plain.encode_to_vec(),
            conditional.encode_to_vec(),
            delete.encode_to_vec(),
            api::BatchWriteRequest { entries, table: "t".into() }.encode_to_vec(),
            api::GetRequest { key: "k".into(), ..Default::default() }.encode_to_vec(),
            api::AddRequest { key: "k".into(), ..Default::default() }.encode_to_vec(),
            list.encode_to_vec(),
        ];
        let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
        let says_why = |error: WireError| assert!(!error.to_string().is_empty());
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let bytes = mutated(&seeds, bytes);
            let is_bounded = |write: &Write| assert!(write.value_bytes() <= bytes.len());
            if let Ok(request) = api::SetRequest::decode(&*bytes) {
                decoder().set(request).map_or_else(says_why, |(_, write)| is_bounded(&write));
            }
            if let Ok(request) = api::DeleteRequest::decode(&*bytes) {
                decoder().delete(request).map_or_else(says_why, |(_, write)| is_bounded(&write));
            }
            if let Ok(request) = api::BatchWriteRequest::decode(&*bytes) {
                decoder()
                    .batch_write(request)
                    .map_or_else(says_why, |writes| writes.iter().for_each(|(_, write)| is_bounded(write)));
            }
            if let Ok(request) = api::GetRequest::decode(&*bytes) {
                decoder().get(request).map_or_else(says_why, drop);
            }
            if let Ok(request) = api::AddRequest::decode(&*bytes) {
                decoder().addition(request).map_or_else(says_why, drop);
            }
            if let Ok(request) = api::ListRequest::decode(&*bytes) {
                decoder().list(request).map_or_else(says_why, drop);
            }
        });
    }
}
