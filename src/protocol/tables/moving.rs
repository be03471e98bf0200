//! Operations, conditions and answers between the names of keys in a table, and the keys that are stored.
//!
//! A version is of a table's id and a key. Versions of one key rise, and those of an absence come back: the same request sent
//! again after its table was dropped and created anew would find the absence that it names. So a version of another id fails
//! a condition.

use crate::mutants::rule;
use crate::protocol::io::{Command, Failure, Reply};
use crate::types::{
    Age, AgedRecord, Change, ChangeRequest, Checksum, Condition, Content, Key, Record, Stamp, TableId, TableRecord,
    Ttl, Version,
};

/// The command in the table of `record`.
///
/// # Errors
/// When the table's settings do not allow it.
pub(super) fn command_in(record: &TableRecord, command: Command) -> Result<Command, Failure> {
    let table = record.id;
    Ok(match command {
        Command::Get { key } => Command::Get { key: key.moved_to(table) },
        Command::GetOne { key, at_least } => get_one_in(table, key, at_least),
        Command::Set { key, content, ttl, checksum } => {
            let (ttl, checksum) = settled(record, &content, ttl, checksum)?;
            Command::Set { key: key.moved_to(table), content, ttl, checksum }
        }
        Command::Change { key, request } => {
            let ChangeRequest { change, token, is_resend } = request;
            let change = match change {
                Change::Write { condition, content, ttl, checksum } => {
                    let (ttl, checksum) = settled(record, &content, ttl, checksum)?;
                    Change::Write { condition, content, ttl, checksum }
                }
                Change::Add { delta, since, ttl, keeps_ttl } => {
                    Change::Add { delta, since, ttl: ttl.or(record.settings.default_ttl), keeps_ttl }
                }
            };
            let key = key.moved_to(table);
            let request = request_in(table, &key, ChangeRequest { change, token, is_resend });
            Command::Change { key, request }
        }
        Command::List(mut page) => {
            page.range = page.range.moved_to(table);
            Command::List(page)
        }
        other => unreachable!("{other:?} is no operation on keys"),
    })
}

/// The time to live and the checksum of a write under the settings of a table.
fn settled(
    record: &TableRecord,
    content: &Content,
    ttl: Option<Ttl>,
    checksum: Checksum,
) -> Result<(Option<Ttl>, Checksum), Failure> {
    let bytes = content.value_bytes() as u64;
    if let Some(bytes_max) = record.settings.value_bytes_max.filter(|bytes_max| bytes > *bytes_max) {
        return Err(Failure::ValueTooLarge { bytes, bytes_max });
    }
    let is_value = matches!(content, Content::Value(_));
    let default = record.settings.default_ttl.filter(|_| is_value && ttl.is_none());
    Ok((ttl.or(default), checksum.and_ttl(default).and_table(record.id)))
}

/// A read of one replica. Versions of different tables are not compared: the read is linearizable then.
pub(in crate::protocol) fn get_one_in(table: TableId, key: Key, at_least: Option<Version>) -> Command {
    let key = key.moved_to(table);
    match at_least {
        Some(version) if !is_of(table, &version) => Command::Get { key },
        at_least => Command::GetOne { key, at_least: at_least.map(inside) },
    }
}

/// A conditional write of `key`, with its versions as they are inside of the cluster.
pub(in crate::protocol) fn request_in(table: TableId, key: &Key, request: ChangeRequest) -> ChangeRequest {
    let ChangeRequest { change, token, is_resend } = request;
    let change = match change {
        Change::Write { condition, content, ttl, checksum } => {
            Change::Write { condition: condition_in(table, condition), content, ttl, checksum }
        }
        // The addition was to a record of an older table, which is gone: it never takes effect.
        Change::Add { since: Some(since), .. } if !is_of(table, &since) => {
            let content = Content::Tombstone;
            let checksum = Checksum::of_write(key, &content, None);
            Change::Write { condition: Condition::Among(Vec::new()), content, ttl: None, checksum }
        }
        Change::Add { delta, since, ttl, keeps_ttl } => Change::Add { delta, since: since.map(inside), ttl, keeps_ttl },
    };
    ChangeRequest { change, token, is_resend }
}

fn condition_in(table: TableId, condition: Condition) -> Condition {
    let of_table = |mut versions: Vec<Version>| {
        versions.retain(|version| is_of(table, version));
        versions.into_iter().map(inside).collect()
    };
    match condition {
        // It never holds. Without a version, what became of an earlier try is not claimed.
        Condition::Version(version) if !is_of(table, &version) => Condition::Among(Vec::new()),
        Condition::Version(version) => Condition::Version(inside(version)),
        Condition::Among(versions) => Condition::Among(of_table(versions)),
        Condition::NotAmong { versions, needs_value } => {
            Condition::NotAmong { versions: of_table(versions), needs_value }
        }
        condition @ (Condition::Absent | Condition::Present) => condition,
    }
}

fn is_of(table: TableId, version: &Version) -> bool {
    rule!(VersionWithoutId, version.table == table)
}

fn inside(version: Version) -> Version {
    version.in_table(TableId::DEFAULT)
}

/// The reply about `key` as the clients of `table` are told it. An absence has a version with the table's id, too.
pub(super) fn told(reply: Reply, table: TableId, key: Option<&Key>) -> Reply {
    #[cfg(feature = "mutants")]
    if crate::mutants::is_on(crate::mutants::Mutant::VersionWithoutId) {
        return reply;
    }
    match reply {
        Reply::Record(Some(record)) => Reply::Record(Some(AgedRecord { table, ..record })),
        Reply::Record(None) => Reply::Record(key.map(|key| absence(table, key))),
        Reply::Set(version) => Reply::Set(version.in_table(table)),
        Reply::Added { sum, version } => Reply::Added { sum, version: version.in_table(table) },
        Reply::Failed(Failure::ConditionFailed { version, has_value }) => {
            Reply::Failed(Failure::ConditionFailed { version: version.in_table(table), has_value })
        }
        Reply::Failed(Failure::NotANumber { version }) => {
            Reply::Failed(Failure::NotANumber { version: version.in_table(table) })
        }
        other => other,
    }
}

/// A key that was never written, as a deletion that nobody made.
fn absence(table: TableId, key: &Key) -> AgedRecord {
    let content = Content::Tombstone;
    let checksum = Checksum::of_write(&key.clone().moved_to(table), &content, None);
    AgedRecord { record: Record::plain(Stamp::none(), content, checksum), age: Age::NONE, table }
}

/// Whether a command may be a second try, so that an error must not speak of the first.
pub(super) fn is_resend(command: &Command) -> bool {
    matches!(command, Command::Change { request, .. } if request.is_resend)
}

/// Whether a command reads alone.
pub(super) fn is_read(command: &Command) -> bool {
    matches!(command, Command::Get { .. } | Command::GetOne { .. } | Command::List(_))
}
