//! What somebody was given, what a method needs, and whether the one covers the other.
//!
//! Contract: nothing is allowed that no grant covers. Rights on keys include each other: who may write may read, so that the
//! answer to a conditional write tells nobody more than a read would. `admin` on all keys of all tables includes everything.

use std::fmt;
use std::str::FromStr;

use crate::types::{KEY_BYTES_MAX, Table, TableNameError};

/// The most grants of one holder.
pub const GRANTS_MAX: usize = 64;

/// The word for all tables.
const ALL_TABLES: &str = "*";

/// What may be done with keys. Each right includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Reads, lists and watches.
    Read,
    /// Writes and deletes.
    Write,
    /// Creates and drops the table.
    Admin,
}

/// Something that somebody may do. As text: `read:carts/user:`, `write:carts`, `admin:*`, `operator`, `observer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// A right on the keys of a table that begin with a prefix.
    Keys {
        /// The right.
        right: Right,
        /// The table; `None` for all tables.
        table: Option<Table>,
        /// How the keys begin; empty for all.
        prefix: String,
    },
    /// Members, repair, Node/Set and Clock/Set, and what an observer may see.
    Operator,
    /// Metrics, the status page, members and clocks.
    Observer,
    /// What a node may do in its own name. No text gives it: the certificate of a member does.
    Node,
}

/// What a method needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Needs {
    /// Nothing: anybody may call it.
    Nothing,
    /// To be known.
    Identity,
    /// A right on the keys that it is about.
    Keys(Right),
    /// `observer`.
    Observer,
    /// `operator`.
    Operator,
    /// `operator`, or to be a node of the cluster. The operation says what a node may do of it.
    OperatorOrNode,
    /// `admin` on all keys of all tables.
    Everything,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// No keys.
    Cluster,
    /// One key of a table, as its user knows it.
    Key(&'a Table, &'a [u8]),
    /// All keys of a table that begin so: with nothing, the whole table.
    Keys(&'a Table, &'a [u8]),
    /// Any part of a table.
    PartOf(&'a Table),
}

/// Why a text is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It begins with another word.
    #[error(
        "{0:?} is no right: give read, write or admin, with a table and a prefix if it is not for all keys \
         (read:carts, write:carts/user:, admin:*), or operator or observer"
    )]
    Word(String),
    /// The name of the table is not accepted.
    #[error("{text:?}: {source}")]
    Table {
        /// The whole grant.
        text: String,
        /// What is wrong.
        source: TableNameError,
    },
    /// The prefix is longer than a key.
    #[error("the prefix has {0} bytes: at most {KEY_BYTES_MAX} are accepted")]
    Prefix(usize),
}

impl Right {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// Its word in a grant.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl Grant {
    /// The grant that includes all others.
    pub const EVERYTHING: Self = Self::Keys { right: Right::Admin, table: None, prefix: String::new() };

    /// Whether it covers what a method needs for `target`.
    fn covers(&self, needs: Needs, target: Target<'_>) -> bool {
        match (needs, self) {
            (Needs::Nothing | Needs::Identity, _) => true,
            (_, grant) if *grant == Self::EVERYTHING => true,
            (Needs::Observer, Self::Observer | Self::Operator | Self::Node)
            | (Needs::OperatorOrNode, Self::Operator | Self::Node)
            | (Needs::Operator, Self::Operator) => true,
            (Needs::Keys(needed), Self::Keys { right, table, prefix }) => {
                let is_in = |asked: &Table| table.as_ref().is_none_or(|table| table == asked);
                let spans = match target {
                    Target::Cluster => false,
                    // A list of keys that begin so covers no other key.
                    Target::Key(table, bytes) | Target::Keys(table, bytes) => {
                        is_in(table) && bytes.starts_with(prefix.as_bytes())
                    }
                    Target::PartOf(table) => is_in(table),
                };
                *right >= needed && spans
            }
            (Needs::Observer | Needs::Operator | Needs::OperatorOrNode | Needs::Everything | Needs::Keys(_), _) => {
                false
            }
        }
    }
}

/// Whether one of `grants` covers what a method needs for `target`.
#[must_use]
pub fn allows(grants: &[Grant], needs: Needs, target: Target<'_>) -> bool {
    matches!(needs, Needs::Nothing | Needs::Identity) || grants.iter().any(|grant| grant.covers(needs, target))
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys { right, table, prefix } => {
                write!(f, "{}:{}", right.as_str(), table.as_ref().map_or(ALL_TABLES, Table::as_str))?;
                if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
            }
            Self::Operator => f.write_str("operator"),
            Self::Observer => f.write_str("observer"),
            Self::Node => f.write_str("node"),
        }
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        match text {
            "operator" => return Ok(Self::Operator),
            "observer" => return Ok(Self::Observer),
            _ => {}
        }
        let (word, place) = text.split_once(':').unwrap_or((text, ALL_TABLES));
        let right = Right::ALL.into_iter().find(|right| right.as_str() == word);
        let right = right.ok_or_else(|| GrantError::Word(text.to_owned()))?;
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        let table = match name {
            ALL_TABLES => None,
            "" => return Err(GrantError::Table { text: text.to_owned(), source: TableNameError::Empty }),
            name => Some(Table::parse(name).map_err(|source| GrantError::Table { text: text.to_owned(), source })?),
        };
        if prefix.len() > KEY_BYTES_MAX {
            return Err(GrantError::Prefix(prefix.len()));
        }
        Ok(Self::Keys { right, table, prefix: prefix.to_owned() })
    }
}

/// For errors: `write`, `operator`.
impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Identity => "an identity",
            Self::Keys(right) => right.as_str(),
            Self::Observer => "observer",
            Self::Operator | Self::OperatorOrNode => "operator",
            Self::Everything => "admin:*",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Vec<Grant> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn table(name: &str) -> Table {
        Table::parse(name).unwrap()
    }

    const READ: Needs = Needs::Keys(Right::Read);
    const WRITE: Needs = Needs::Keys(Right::Write);
    const ADMIN: Needs = Needs::Keys(Right::Admin);

    #[test]
    fn grants_read_back_and_mistakes_say_what_is_accepted() {
        for (text, canonical) in [
            ("read", "read:*"),
            ("write:*", "write:*"),
            ("admin:carts", "admin:carts"),
            ("read:default/user:/x", "read:default/user:/x"),
            ("write:*/a", "write:*/a"),
            ("operator", "operator"),
            ("observer", "observer"),
        ] {
            let grant: Grant = text.parse().unwrap();
            assert_eq!(grant.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(grant));
        }
        assert_eq!("admin".parse(), Ok(Grant::EVERYTHING));
        // Nobody is given what a certificate of a node alone gives.
        for text in ["", "node", "reed", "Read", "read:", "read:/x", "operator:x", "read:a b", ":carts"] {
            assert!(text.parse::<Grant>().is_err(), "{text:?}");
        }
        let long = format!("read:a/{}", "k".repeat(KEY_BYTES_MAX + 1));
        assert_eq!(long.parse::<Grant>(), Err(GrantError::Prefix(KEY_BYTES_MAX + 1)));
    }

    #[test]
    fn right_on_a_prefix_covers_its_keys_and_no_others() {
        let (carts, other) = (table("carts"), table("other"));
        let own = grants(&["write:carts/user:"]);
        for (needs, target, expected) in [
            (READ, Target::Key(&carts, b"user:1"), true),
            (WRITE, Target::Key(&carts, b"user:"), true),
            (ADMIN, Target::Key(&carts, b"user:1"), false),
            (WRITE, Target::Key(&carts, b"user"), false),
            (WRITE, Target::Key(&other, b"user:1"), false),
            (WRITE, Target::Key(&Table::Default, b"user:1"), false),
            (READ, Target::Keys(&carts, b"user:a"), true),
            (READ, Target::Keys(&carts, b"use"), false),
            (READ, Target::Keys(&carts, b""), false),
            (READ, Target::PartOf(&carts), true),
            (READ, Target::PartOf(&other), false),
            (ADMIN, Target::Keys(&carts, b""), false),
            (READ, Target::Cluster, false),
            (Needs::Observer, Target::Cluster, false),
            (Needs::Operator, Target::Cluster, false),
            (Needs::Everything, Target::Cluster, false),
            (Needs::Identity, Target::Cluster, true),
        ] {
            assert_eq!(allows(&own, needs, target), expected, "{needs:?} {target:?}");
        }
    }

    #[test]
    fn each_right_includes_those_below_it_and_no_other() {
        let carts = table("carts");
        let whole = Target::Keys(&carts, b"");
        let all = [READ, WRITE, ADMIN, Needs::Observer, Needs::OperatorOrNode, Needs::Operator, Needs::Everything];
        for (grant, expected) in [
            ("read:carts", [true, false, false, false, false, false, false]),
            ("write", [true, true, false, false, false, false, false]),
            ("admin:carts", [true, true, true, false, false, false, false]),
            ("admin:*/a", [false; 7]),
            ("operator", [false, false, false, true, true, true, false]),
            ("observer", [false, false, false, true, false, false, false]),
            ("admin", [true; 7]),
        ] {
            let own = grants(&[grant]);
            assert_eq!(all.map(|needs| allows(&own, needs, whole)), expected, "{grant}");
        }
        let of_node = all.map(|needs| allows(&[Grant::Node], needs, whole));
        assert_eq!(of_node, [false, false, false, true, true, false, false]);
        assert!(!allows(&[], READ, whole) && allows(&[], Needs::Nothing, whole));
    }
}
