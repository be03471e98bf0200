//! Keys, and the slots that they fall into.

use std::fmt;

use bytes::Bytes;

use super::TableId;

/// The longest key, in bytes. RocksDB holds keys whole in its indexes and filters, so long ones cost memory on every node.
pub const KEY_BYTES_MAX: usize = 4 << 10;

/// The first byte of each stored key of a created table. No UTF-8 begins with it.
const TABLE_MARK: u8 = 0xFF;
/// The length of the mark and the id before the user's key.
const TABLE_PREFIX_BYTES: usize = 1 + size_of::<u32>();

/// The longest key as it is stored, in bytes.
pub const STORED_KEY_BYTES_MAX: usize = TABLE_PREFIX_BYTES + KEY_BYTES_MAX;

/// A key of a table: 1 to [`KEY_BYTES_MAX`] bytes of UTF-8, which its user gave. Keys are ordered by their bytes.
///
/// A key of the default table is stored as these bytes. A key of another table is stored as the byte 0xFF, the table's id in
/// four bytes, and these bytes: the keys of one table are one range, after all keys of the default table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

/// Why some bytes are not a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key has no bytes.
    #[error("the key is empty: give it 1 to {KEY_BYTES_MAX} bytes of UTF-8")]
    Empty,
    /// The key has more than [`KEY_BYTES_MAX`] bytes.
    #[error("the key has {bytes} bytes: at most {KEY_BYTES_MAX} are accepted")]
    TooLong {
        /// The key's length in bytes.
        bytes: usize,
    },
    /// The bytes are not UTF-8.
    #[error("the key is not valid UTF-8 (from byte {valid_up_to} on)")]
    NotUtf8 {
        /// The number of leading bytes that are valid UTF-8.
        valid_up_to: usize,
    },
    /// The bytes before a key of a table end too early, or name the default table.
    #[error("the key has no table's id after the byte 0xFF")]
    NoTable,
}

impl Key {
    /// Checks `bytes` and takes them as a key, without copying a `Bytes` or `Vec`.
    ///
    /// # Errors
    /// When the bytes are empty, more than [`KEY_BYTES_MAX`], or not UTF-8.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        check(&bytes)?;
        Ok(Self(bytes))
    }

    /// The key that is stored as `bytes`, in whichever table.
    ///
    /// # Errors
    /// When no key is stored so.
    pub fn from_stored(bytes: impl Into<Bytes>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        if bytes.first() == Some(&TABLE_MARK) {
            let (prefix, of_user) = bytes.split_at_checked(TABLE_PREFIX_BYTES).ok_or(KeyError::NoTable)?;
            if table_of(prefix) == TableId::DEFAULT {
                return Err(KeyError::NoTable);
            }
            check(of_user)?;
        } else {
            check(&bytes)?;
        }
        Ok(Self(bytes))
    }

    /// The key that the user of `table` calls `of_user`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn in_table(table: TableId, of_user: &[u8]) -> Result<Self, KeyError> {
        check(of_user)?;
        Ok(Self(Self::prefix_in(table, of_user)))
    }

    /// The key that has the same name in `table`.
    #[must_use]
    pub fn moved_to(self, table: TableId) -> Self {
        if self.table() == table {
            return self;
        }
        Self(Self::prefix_in(table, self.user_bytes()))
    }

    /// The first bytes, as they are stored, of the keys of `table` whose names begin with `prefix`.
    #[must_use]
    pub fn prefix_in(table: TableId, prefix: &[u8]) -> Bytes {
        if table == TableId::DEFAULT {
            return Bytes::copy_from_slice(prefix);
        }
        [&[TABLE_MARK], &table.0.to_be_bytes()[..], prefix].concat().into()
    }

    /// Whether the stored `bytes` of a key are among those that begin with `prefix`: no prefix is that of all keys of the
    /// default table.
    #[must_use]
    pub fn begins_with(bytes: &[u8], prefix: &[u8]) -> bool {
        bytes.starts_with(prefix) && (!prefix.is_empty() || bytes.first() != Some(&TABLE_MARK))
    }

    /// The table whose keys begin with `prefix`.
    #[must_use]
    pub fn table_of_prefix(prefix: &[u8]) -> TableId {
        table_of(prefix)
    }

    /// What the user of a table has given of a prefix as it is stored.
    #[must_use]
    pub fn user_part(prefix: &[u8]) -> &[u8] {
        if prefix.first() == Some(&TABLE_MARK) { prefix.get(TABLE_PREFIX_BYTES..).unwrap_or_default() } else { prefix }
    }

    /// The key's table.
    #[must_use]
    pub fn table(&self) -> TableId {
        table_of(&self.0)
    }

    /// The key as bytes: what is hashed, compared and stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes that the user of the key's table knows.
    #[must_use]
    pub fn user_bytes(&self) -> &[u8] {
        Self::user_part(&self.0)
    }

    /// The same as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.user_bytes()).expect("a key was checked to be UTF-8 when it was made")
    }

    /// The same key in memory of its own. A key that came in a message keeps the whole message alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The stored bytes without a copy: they share the key's buffer.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

fn check(of_user: &[u8]) -> Result<(), KeyError> {
    if of_user.is_empty() {
        return Err(KeyError::Empty);
    }
    if of_user.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong { bytes: of_user.len() });
    }
    std::str::from_utf8(of_user).map_err(|error| KeyError::NotUtf8 { valid_up_to: error.valid_up_to() })?;
    Ok(())
}

fn table_of(stored: &[u8]) -> TableId {
    match stored {
        [TABLE_MARK, a, b, c, d, ..] => TableId(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => TableId::DEFAULT,
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.table() {
            TableId::DEFAULT => f.write_str(self.as_str()),
            table => write!(f, "{} of table {table}", self.as_str()),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.table() {
            TableId::DEFAULT => fmt::Debug::fmt(self.as_str(), f),
            table => write!(f, "{:?} of table {table}", self.as_str()),
        }
    }
}

/// One of the [`Slot::COUNT`] parts of the key space, by number. Replicas belong to slots, not to single keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The number of slots in every cluster: 65,536.
    pub const COUNT: usize = 1 << 16;
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_tables_lie_apart_from_those_of_the_default_table() {
        let plain = Key::new("user:1").unwrap();
        let table = TableId(300);
        let key = Key::in_table(table, b"user:1").unwrap();
        assert_eq!((key.as_str(), key.table(), plain.table()), ("user:1", table, TableId::DEFAULT));
        assert_eq!((format!("{key}"), format!("{plain}")), ("user:1 of table 300".to_owned(), "user:1".to_owned()));
        assert_eq!(plain.clone().moved_to(table), key);
        assert_eq!(key.clone().moved_to(TableId::DEFAULT), plain);
        assert!(Key::new("\u{10FFFF}").unwrap() < key, "all of the default table come first");
        assert!(!Key::begins_with(key.as_bytes(), b"") && Key::begins_with(plain.as_bytes(), b""));
        assert!(Key::begins_with(key.as_bytes(), &Key::prefix_in(table, b"user:")));
        assert!(!Key::begins_with(key.as_bytes(), &Key::prefix_in(TableId(301), b"")));
        assert_eq!(Key::table_of_prefix(&Key::prefix_in(table, b"")), table);
        assert!(Key::in_table(table, &b"k".repeat(KEY_BYTES_MAX)).is_ok(), "the bound is on what users give");
    }

    #[test]
    fn stored_bytes_are_checked() {
        let key = Key::in_table(TableId(7), "ü".as_bytes()).unwrap();
        assert_eq!(Key::from_stored(key.as_bytes().to_vec()), Ok(key));
        assert_eq!(Key::from_stored("ü"), Key::new("ü"));
        assert_eq!(Key::new(vec![0xFF, 0, 0, 0, 7, b'k']), Err(KeyError::NotUtf8 { valid_up_to: 0 }));
        for (bytes, expected) in [
            (&[0xFF, 0, 0, 0][..], KeyError::NoTable),
            (&[0xFF, 0, 0, 0, 0, b'k'], KeyError::NoTable),
            (&[0xFF, 0, 0, 0, 7], KeyError::Empty),
            (&[0xFF, 0, 0, 0, 7, b'k', 0xFF], KeyError::NotUtf8 { valid_up_to: 1 }),
        ] {
            assert_eq!(Key::from_stored(bytes.to_vec()), Err(expected), "{bytes:?}");
        }
    }
}
