//! Tables: their names, ids and settings, and the record that says what a name stands for.
//!
//! A key lives in a table. The keys of [`Table::Default`] are stored as they are; those of another table are stored under
//! the table's id (see [`super::Key`]). An id is given once, so that a table that is dropped and created again is another one.
//!
//! The record of a table's name is an ordinary record in [`TableId::NAMES`]. Its value is, in bytes: the form (1), the state,
//! the id (4), and each as a byte that says whether it is given and eight bytes: the default time to live in milliseconds, the
//! greatest value, and the quota.

use std::fmt;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::{Content, Key, Ttl, Value};

/// The longest name of a table, in bytes.
pub const TABLE_NAME_BYTES_MAX: usize = 128;

/// The name of the table that always exists.
pub const DEFAULT_TABLE: &str = "default";

/// How many tables may ever be created in a cluster: the ids of dropped tables are kept for good, in memory too, where a
/// million takes some 16 MiB.
pub const TABLES_EVER_MAX: u32 = 1 << 20;

/// The form of a name's record.
const FORM: u8 = 1;

/// The name of a table other than the default one: 1 to [`TABLE_NAME_BYTES_MAX`] bytes of UTF-8 without spaces, control
/// characters and `/`. Names differ by case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName(Arc<str>);

/// A table, as requests name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The table that always exists.
    #[default]
    Default,
    /// A table that was created.
    Named(TableName),
}

/// Why a text is no name of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableNameError {
    /// The text has no bytes.
    #[error("the name of the table is empty: give it 1 to {TABLE_NAME_BYTES_MAX} bytes of UTF-8")]
    Empty,
    /// The text is longer than [`TABLE_NAME_BYTES_MAX`].
    #[error("the name of the table has {bytes} bytes: at most {TABLE_NAME_BYTES_MAX} are accepted")]
    TooLong {
        /// The length in bytes.
        bytes: usize,
    },
    /// The text holds a space, a control character or a slash.
    #[error("the name of the table holds {character:?}: spaces, control characters and slashes are not accepted")]
    Character {
        /// The first such character.
        character: char,
    },
    /// The name of the default table, where another one is meant.
    #[error("table {DEFAULT_TABLE} always exists: it cannot be created or dropped, and has no settings")]
    Default,
}

impl TableName {
    /// Checks `name` and takes it as the name of a table.
    ///
    /// # Errors
    /// When it is not accepted, or is the name of the default table.
    pub fn new(name: &str) -> Result<Self, TableNameError> {
        if name.is_empty() {
            return Err(TableNameError::Empty);
        }
        if name.len() > TABLE_NAME_BYTES_MAX {
            return Err(TableNameError::TooLong { bytes: name.len() });
        }
        let is_refused = |character: &char| character.is_whitespace() || character.is_control() || *character == '/';
        if let Some(character) = name.chars().find(is_refused) {
            return Err(TableNameError::Character { character });
        }
        if name == DEFAULT_TABLE {
            return Err(TableNameError::Default);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of the name's record.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::in_table(TableId::NAMES, self.as_str().as_bytes()).expect("a name is a key")
    }
}

impl Table {
    /// The table that `text` names. The default one has no name in requests, or its own.
    ///
    /// # Errors
    /// When the text is not accepted as a name.
    pub fn parse(text: &str) -> Result<Self, TableNameError> {
        match text {
            "" | DEFAULT_TABLE => Ok(Self::Default),
            name => TableName::new(name).map(Self::Named),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Default => DEFAULT_TABLE,
            Self::Named(name) => name.as_str(),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The number by which nodes know a table. No two tables ever have one id, not even one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

impl TableId {
    /// The table that always exists.
    pub const DEFAULT: Self = Self(0);
    /// The records of the names of all other tables.
    pub const NAMES: Self = Self(1);
    /// The record of everybody who has rights.
    pub const HOLDERS: Self = Self(2);
    /// The first id of a table that is created.
    pub const FIRST: Self = Self(16);

    /// The id of the table that is created as the `number`th, from 1 on; `None` beyond [`TABLES_EVER_MAX`].
    #[must_use]
    pub fn of_creation(number: i64) -> Option<Self> {
        let number = u32::try_from(number).ok().filter(|number| (1..=TABLES_EVER_MAX).contains(number))?;
        Some(Self(Self::FIRST.0 + number - 1))
    }

    /// Whether a table of this id can be dropped.
    #[must_use]
    pub fn is_created(self) -> bool {
        self >= Self::FIRST
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The settings of a table, which its creator gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableSettings {
    /// The time to live of values whose writes name none.
    pub default_ttl: Option<Ttl>,
    /// The greatest value in bytes.
    pub value_bytes_max: Option<u64>,
    /// The most bytes of keys and values that the table holds, about: each key is counted once, on one replica.
    pub quota_bytes: Option<u64>,
}

/// Whether a table is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableState {
    /// It is.
    Live,
    /// It is being dropped: its keys may be gone already, and its name is not free yet.
    Dropping,
}

/// The record of a table's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableRecord {
    /// The table's id.
    pub id: TableId,
    /// Whether it is there.
    pub state: TableState,
    /// Its settings.
    pub settings: TableSettings,
}

/// A table that was created, and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableInfo {
    /// Its name.
    pub name: TableName,
    /// The record of its name.
    pub table: TableRecord,
}

impl TableRecord {
    /// The content of the name's record.
    #[must_use]
    pub fn content(&self) -> Content {
        let TableSettings { default_ttl, value_bytes_max, quota_bytes } = self.settings;
        let mut bytes = Vec::with_capacity(32);
        bytes.put_u8(FORM);
        bytes.put_u8(match self.state {
            TableState::Live => 1,
            TableState::Dropping => 2,
        });
        bytes.put_u32(self.id.0);
        for number in [default_ttl.map(Ttl::as_millis), value_bytes_max, quota_bytes] {
            bytes.put_u8(u8::from(number.is_some()));
            bytes.put_u64(number.unwrap_or_default());
        }
        Content::Value(Value::Binary(bytes.into()))
    }

    /// The record that a content holds; `None` where it is not the record of a table.
    #[must_use]
    pub fn of(content: &Content) -> Option<Self> {
        let Content::Value(Value::Binary(bytes)) = content else { return None };
        let mut bytes: Bytes = bytes.clone();
        if bytes.try_get_u8().ok()? != FORM {
            return None;
        }
        let state = match bytes.try_get_u8().ok()? {
            1 => TableState::Live,
            2 => TableState::Dropping,
            _ => return None,
        };
        let id = TableId(bytes.try_get_u32().ok()?);
        let mut number = || {
            let is_given = bytes.try_get_u8().ok()? == 1;
            let number = bytes.try_get_u64().ok()?;
            Some(is_given.then_some(number))
        };
        let (default_ttl, value_bytes_max, quota_bytes) = (number()?, number()?, number()?);
        let default_ttl = match default_ttl {
            Some(millis) => Some(Ttl::from_millis(millis)?),
            None => None,
        };
        let is_whole = bytes.is_empty() && id.is_created();
        is_whole.then_some(Self { id, state, settings: TableSettings { default_ttl, value_bytes_max, quota_bytes } })
    }
}

impl TableId {
    /// The key of the counter of the tables that were ever created. No table has its name.
    #[must_use]
    pub fn creations_key() -> Key {
        Key::in_table(Self::NAMES, b"/created").expect("it is a key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(Table::parse(""), Ok(Table::Default));
        assert_eq!(Table::parse("default"), Ok(Table::Default));
        assert!(matches!(Table::parse("Default"), Ok(Table::Named(_))), "names differ by case");
        assert!(TableName::new(&"n".repeat(TABLE_NAME_BYTES_MAX)).is_ok());
        let too_long = "n".repeat(TABLE_NAME_BYTES_MAX + 1);
        for (name, expected) in [
            ("", TableNameError::Empty),
            (&too_long, TableNameError::TooLong { bytes: TABLE_NAME_BYTES_MAX + 1 }),
            ("a b", TableNameError::Character { character: ' ' }),
            ("a/b", TableNameError::Character { character: '/' }),
            ("a\n", TableNameError::Character { character: '\n' }),
            ("default", TableNameError::Default),
        ] {
            assert_eq!(TableName::new(name), Err(expected), "{name:?}");
        }
    }

    #[test]
    fn record_comes_out_as_it_went_in_and_damaged_bytes_are_none() {
        let ttl = Ttl::from_millis(1_500);
        for (default_ttl, value_bytes_max, quota_bytes) in
            [(None, None, None), (ttl, Some(0), None), (None, Some(u64::MAX), Some(7)), (ttl, Some(1), Some(u64::MAX))]
        {
            let settings = TableSettings { default_ttl, value_bytes_max, quota_bytes };
            for state in [TableState::Live, TableState::Dropping] {
                let record = TableRecord { id: TableId(0x0102_0304), state, settings };
                let content = record.content();
                assert_eq!(TableRecord::of(&content), Some(record));
                let Content::Value(value) = content else { panic!("it is a value") };
                for bytes in 0..value.bytes().len() {
                    let cut = Content::Value(Value::Binary(value.bytes().slice(..bytes)));
                    assert_eq!(TableRecord::of(&cut), None, "{bytes} bytes");
                }
                let longer = [value.bytes(), &b"x"[..]].concat();
                assert_eq!(TableRecord::of(&Content::Value(Value::Binary(longer.into()))), None);
            }
        }
        assert_eq!(TableRecord::of(&Content::Tombstone), None);
        assert_eq!(TableId::of_creation(1), Some(TableId::FIRST));
        assert_eq!([0, i64::from(TABLES_EVER_MAX) + 1].map(TableId::of_creation), [None, None]);
    }
}
