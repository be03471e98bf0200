//! Mappings with known keys, and their values with the places that errors name.

use std::path::Path;

use super::error::{ConfigError, Place, Problem};
use super::keys::Key;
use super::yaml::{self, Entry, Node, Value};

/// A value from a file or a variable, not validated yet.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) place: Place,
}

impl Given {
    /// The error that the text is not one of the `accepted` values.
    pub(super) fn refused(&self, accepted: impl Into<String>) -> ConfigError {
        self.error(Problem::Value { found: self.text.clone(), accepted: accepted.into() })
    }

    pub(super) fn error(&self, problem: Problem) -> ConfigError {
        ConfigError { place: self.place.clone(), problem }
    }

    /// The text as a whole number from `min` to `max` in decimal digits.
    pub(super) fn whole_number(
        &self,
        min: usize,
        max: usize,
        accepted: impl Into<String>,
    ) -> Result<usize, ConfigError> {
        let digits = self.text.bytes().all(|byte| byte.is_ascii_digit());
        // Some readers of YAML take a leading zero for octal, others for decimal.
        let ambiguous = self.text.len() > 1 && self.text.starts_with('0');
        match self.text.parse() {
            Ok(number) if digits && !ambiguous && (min..=max).contains(&number) => Ok(number),
            _ => Err(self.refused(accepted)),
        }
    }
}

/// A mapping of a file, and the keys above it.
pub(super) struct Mapping<'a> {
    pub(super) file: &'a Path,
    pub(super) path: Vec<&'a str>,
    /// The mapping's first line, for errors about missing keys.
    pub(super) line: usize,
    pub(super) entries: &'a [Entry],
}

impl<'a> Mapping<'a> {
    /// The mapping below `kind`, the only top-level key. `other` is the top-level key of the other kind of file.
    pub(super) fn top(
        file: &'a Path,
        root: &'a Node,
        kind: &'static str,
        other: &'static str,
    ) -> Result<Self, ConfigError> {
        let top = Self::root(file, root, &format!("one mapping with the key {kind}"))?;
        let has = |key| top.entries.iter().any(|entry| entry.key == key);
        if !has(kind) && has(other) {
            let place = top.place(Some(root.line), None);
            return Err(ConfigError { place, problem: Problem::OtherKind { expected: kind, found: other } });
        }
        top.refuse_unknown(&[kind])?;
        let Some(entry) = top.entry(kind) else {
            return Err(top.missing(kind, "a mapping", None));
        };
        top.below(entry, "a mapping of keys and values")
    }

    /// The whole file as a mapping.
    pub(super) fn root(file: &'a Path, root: &'a Node, accepted: &str) -> Result<Self, ConfigError> {
        Self::of(file, Vec::new(), root.line, root, accepted)
    }

    /// The mapping below `entry`, an entry of this mapping.
    pub(super) fn below(&self, entry: &'a Entry, accepted: &str) -> Result<Mapping<'a>, ConfigError> {
        let mut path = self.path.clone();
        path.push(&entry.key);
        Self::of(self.file, path, entry.line, &entry.value, accepted)
    }

    fn of(
        file: &'a Path,
        path: Vec<&'a str>,
        line: usize,
        node: &'a Node,
        accepted: &str,
    ) -> Result<Self, ConfigError> {
        match &node.value {
            Value::Mapping(entries) => Ok(Self { file, path, line, entries }),
            other => {
                let place = Place::File { file: file.to_owned(), line: Some(line), path: yaml::path_of(&path) };
                let accepted = format!("accepted is {accepted}");
                Err(ConfigError { place, problem: Problem::Shape { found: other.name(), accepted } })
            }
        }
    }

    /// The entry of `key`; `None` when the file has none.
    pub(super) fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Refuses the first key that is not one of `accepted`.
    pub(super) fn refuse_unknown(&self, accepted: &[&'static str]) -> Result<(), ConfigError> {
        let Some(entry) = self.entries.iter().find(|entry| !accepted.contains(&entry.key.as_str())) else {
            return Ok(());
        };
        let place = self.place(Some(entry.line), Some(&entry.key));
        let nearest = nearest(&entry.key, accepted.iter().copied());
        Err(ConfigError { place, problem: Problem::UnknownKey { nearest, accepted: accepted.to_vec() } })
    }

    /// The single value of `entry`, an entry of this mapping.
    pub(super) fn given(&self, entry: &Entry, accepted: &str) -> Result<Given, ConfigError> {
        let place = self.place(Some(entry.line), Some(&entry.key));
        match &entry.value.value {
            Value::Scalar(text) => Ok(Given { text: text.clone(), place }),
            Value::Null => Err(ConfigError { place, problem: Problem::NoValue { accepted: accepted.to_owned() } }),
            other => {
                let accepted = format!("give {accepted}");
                Err(ConfigError { place, problem: Problem::Shape { found: other.name(), accepted } })
            }
        }
    }

    /// The single value of `key`, which must be given.
    pub(super) fn required(&self, key: &str, accepted: &str) -> Result<Given, ConfigError> {
        match self.entry(key) {
            Some(entry) => self.given(entry, accepted),
            None => Err(self.missing(key, accepted, None)),
        }
    }

    /// The error that `key` is missing.
    pub(super) fn missing(&self, key: &str, accepted: &str, variable: Option<String>) -> ConfigError {
        let place = self.place(Some(self.line), Some(key));
        ConfigError { place, problem: Problem::MissingKey { accepted: accepted.to_owned(), variable } }
    }

    /// The place of `key` in this mapping, or of the mapping itself.
    pub(super) fn place(&self, line: Option<usize>, key: Option<&str>) -> Place {
        let keys: Vec<&str> = self.path.iter().copied().chain(key).collect();
        Place::File { file: self.file.to_owned(), line, path: yaml::path_of(&keys) }
    }
}

/// The names of `keys`.
pub(super) fn names(keys: &[&Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

/// The name that `text` most likely misspells; `None` when more than a third of each name's letters would be wrong.
pub(super) fn nearest<N: AsRef<str>>(text: &str, names: impl Iterator<Item = N>) -> Option<N> {
    // Computing the distance takes the product of both lengths, and no misspelt key is that long.
    if text.len() > 64 {
        return None;
    }
    let text = text.to_ascii_lowercase();
    let scored = names.map(|name| (strsim::osa_distance(&text, &name.as_ref().to_ascii_lowercase()), name));
    let near = scored.filter(|(distance, name)| distance * 3 <= name.as_ref().len());
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}
