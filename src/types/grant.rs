//! Grants: what somebody may do, and with which keys.
//!
//! As text: `RIGHT`, `RIGHT:TABLE` or `RIGHT:TABLE/PREFIX`. Without a table a right to keys is one to those of all tables. No name
//! of a table has a slash, so the first one ends it.

use std::fmt;
use std::str::FromStr;

use super::{Table, TableNameError};

/// The longest text of a grant.
const GRANT_BYTES_MAX: usize = 1_024;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// To read, list and watch keys.
    Read,
    /// To write and delete keys. It tells nothing of what is there.
    Write,
    /// To read and write keys, and to create and drop tables; with all tables, to create and revoke tokens too.
    Admin,
    /// To repair, and to write to one node past the quorum.
    Operator,
    /// To see the state of nodes.
    Observer,
}

/// Which keys a right is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Those of all tables.
    All,
    /// Those of one table that begin with this; all of them where it is empty.
    Table(Table, String),
}

/// A right, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// The right.
    pub right: Right,
    /// Its keys; [`Scope::All`] for a right that is not about keys.
    pub scope: Scope,
}

/// Why a text is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The right is not known.
    #[error(
        "{given:?} is no role: read, write, admin, operator and observer are, the first three with a table or a prefix, as in \
         read:carts or write:default/user:"
    )]
    Right {
        /// As it was given.
        given: String,
    },
    /// The table cannot be one.
    #[error("role {given:?}: {error}")]
    Table {
        /// As it was given.
        given: String,
        /// What is wrong with the table.
        error: TableNameError,
    },
    /// A right that is not about keys has a table.
    #[error("role {right} is for the whole cluster: give it without a table")]
    NoScope {
        /// The right.
        right: &'static str,
    },
    /// The text is too long, or has control characters.
    #[error("a role has {GRANT_BYTES_MAX} bytes at most, and no control characters")]
    Text,
}

impl Right {
    const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Admin, Self::Operator, Self::Observer];

    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Observer => "observer",
        }
    }

    /// Whether it is a right to keys.
    fn is_for_keys(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Admin)
    }
}

impl Scope {
    /// Whether all keys of `table` that begin with `prefix` belong to it. A whole key is a prefix of itself alone.
    fn covers(&self, table: &Table, prefix: &str) -> bool {
        match self {
            Self::All => true,
            Self::Table(own, begin) => own == table && prefix.starts_with(begin.as_str()),
        }
    }
}

impl Grant {
    /// Whether it allows `right` to all keys of `table` that begin with `prefix`.
    #[must_use]
    pub fn allows(&self, right: Right, table: &Table, prefix: &str) -> bool {
        let includes = self.right == right || (self.right == Right::Admin && right.is_for_keys());
        includes && self.scope.covers(table, prefix)
    }

    /// Whether it allows `right` everywhere. An administrator of everything may see and repair everything too.
    #[must_use]
    pub fn allows_everywhere(&self, right: Right) -> bool {
        self.scope == Scope::All && (self.right == right || self.right == Right::Admin)
    }

    /// Whether it gives any right to keys of `table`.
    #[must_use]
    pub fn is_about(&self, table: &Table) -> bool {
        self.right.is_for_keys()
            && match &self.scope {
                Scope::All => true,
                Scope::Table(own, _) => own == table,
            }
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        if text.len() > GRANT_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(GrantError::Text);
        }
        let (word, scope) = text.split_once(':').map_or((text, None), |(word, scope)| (word, Some(scope)));
        let right = Right::ALL.into_iter().find(|right| right.name() == word);
        let right = right.ok_or_else(|| GrantError::Right { given: text.to_owned() })?;
        let Some(scope) = scope else { return Ok(Self { right, scope: Scope::All }) };
        if !right.is_for_keys() {
            return Err(GrantError::NoScope { right: right.name() });
        }
        let (table, prefix) = scope.split_once('/').unwrap_or((scope, ""));
        let error = |error| GrantError::Table { given: text.to_owned(), error };
        if table.is_empty() {
            return Err(error(TableNameError::Empty));
        }
        Ok(Self { right, scope: Scope::Table(Table::parse(table).map_err(error)?, prefix.to_owned()) })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.right.name())?;
        match &self.scope {
            Scope::All => Ok(()),
            Scope::Table(table, prefix) if prefix.is_empty() => write!(f, ":{table}"),
            Scope::Table(table, prefix) => write!(f, ":{table}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> Grant {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn text_of_a_grant_is_read_back() {
        for text in
            ["read", "write:carts", "admin", "read:default/user:", "write:carts/a/b c", "operator", "observer", "admin:c"]
        {
            assert_eq!(grant(text).to_string(), text);
        }
        for (text, part) in [
            ("", "is no role"),
            ("reader", "is no role"),
            ("read:", "the name of the table is empty"),
            ("read:/x", "the name of the table is empty"),
            ("read:a b", "holds ' '"),
            ("operator:carts", "for the whole cluster"),
            ("read:t/a\nb", "no control characters"),
        ] {
            let error = text.parse::<Grant>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn grant_allows_its_own_right_in_its_own_place() {
        let (default, carts) = (Table::Default, Table::parse("carts").unwrap());
        for (text, right, table, key, allowed) in [
            ("read", Right::Read, &carts, "k", true),
            ("read", Right::Write, &carts, "k", false),
            ("write", Right::Read, &default, "k", false),
            ("read:carts", Right::Read, &carts, "", true),
            ("read:carts", Right::Read, &default, "k", false),
            ("read:default/user:", Right::Read, &default, "user:1", true),
            ("read:default/user:", Right::Read, &default, "user", false),
            ("read:default/user:", Right::Read, &default, "", false),
            ("admin:carts", Right::Write, &carts, "k", true),
            ("admin:carts", Right::Read, &default, "k", false),
            ("admin", Right::Operator, &default, "", false),
            ("operator", Right::Read, &default, "k", false),
        ] {
            assert_eq!(grant(text).allows(right, table, key), allowed, "{text} {right:?} {table} {key}");
        }
        assert!(grant("admin").allows_everywhere(Right::Operator) && !grant("admin:carts").allows_everywhere(Right::Admin));
        assert!(grant("observer").allows_everywhere(Right::Observer) && !grant("read").allows_everywhere(Right::Observer));
        assert!(grant("read:carts/x").is_about(&carts) && !grant("operator").is_about(&carts));
    }
}
