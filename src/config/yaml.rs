//! From YAML text to a tree of scalars and mappings with their lines.
//!
//! Contract: scalars are texts as they were written (`01` is not 1, and `1.0` is not 1), so that no value changes on the
//! way. Keys that are given twice, anchors, aliases, tags and second documents are refused. Any input gives a tree or an
//! error. The reader calls itself at most [`CONFIG_DEPTH_MAX`] times.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

use super::error::{ConfigError, Place, Problem};
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_DEPTH_MAX};

/// A value, and its first line, counted from 1.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// A text without its quotes.
    Scalar(String),
    /// No value: nothing, `~` or `null` without quotes.
    Null,
    /// A sequence. No key accepts one, so its elements are only checked.
    Sequence,
    Mapping(Vec<Entry>),
}

impl Value {
    /// The value's name in errors.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "a single value",
            Self::Null => "nothing",
            Self::Sequence => "a sequence",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// A key of a mapping, and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The key's line, counted from 1.
    pub(super) line: usize,
    pub(super) value: Node,
}

/// Reads `text` as one document. `accepted` is the top-level key for the error about an empty file.
pub(super) fn parse(file: &Path, text: &str, accepted: &'static str) -> Result<Node, ConfigError> {
    let mut reader = Reader { file, parser: Parser::new_from_str(text), path: Vec::new() };
    if text.len() > CONFIG_BYTES_MAX {
        return Err(reader.error(None, Problem::TooLarge { bytes: text.len() }));
    }
    let root = loop {
        let (event, line) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd => return Err(reader.error(None, Problem::Empty { accepted })),
            event => break reader.node(event, line)?,
        }
    };
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => break,
            (Event::DocumentStart(_), line) => {
                return Err(reader.error(Some(line), Problem::SecondDocument));
            }
            _ => {}
        }
    }
    if matches!(root.value, Value::Null) {
        return Err(reader.error(None, Problem::Empty { accepted }));
    }
    Ok(root)
}

/// The keys above a value and its own, as an error shows them. Keys that are not plain words are quoted and escaped.
pub(super) fn path_of(keys: &[&str]) -> String {
    let plain = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let shown = keys.iter().map(|key| if plain(key) { (*key).to_owned() } else { format!("{key:?}") });
    shown.collect::<Vec<_>>().join(".")
}

struct Reader<'a> {
    file: &'a Path,
    parser: Parser<'a, StrInput<'a>>,
    /// The keys of the mappings that are being read, and an empty key for each sequence.
    path: Vec<String>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), ConfigError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => {
                let detail = error.info().to_owned();
                Err(self.error(Some(error.marker().line()), Problem::Syntax { detail }))
            }
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    /// The value that begins with `event`.
    fn node(&mut self, event: Event<'a>, line: usize) -> Result<Node, ConfigError> {
        if self.path.len() >= CONFIG_DEPTH_MAX {
            return Err(self.error(Some(line), Problem::TooDeep));
        }
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(line, anchor, tag.is_some())?;
                let is_null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                if is_null { Value::Null } else { Value::Scalar(text.into_owned()) }
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(line, anchor, tag.is_some())?;
                self.mapping()?
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(line, anchor, tag.is_some())?;
                self.sequence()?
            }
            Event::Alias(_) => {
                return Err(self.error(Some(line), Problem::Construct { found: "an alias (*)" }));
            }
            _ => {
                let detail = "the document ends in the middle of a value".to_owned();
                return Err(self.error(Some(line), Problem::Syntax { detail }));
            }
        };
        Ok(Node { line, value })
    }

    fn mapping(&mut self) -> Result<Value, ConfigError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut first_lines: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Mapping(entries)),
                Event::Scalar(text, _, anchor, tag) => {
                    self.refuse_extras(line, anchor, tag.is_some())?;
                    text.into_owned()
                }
                Event::Alias(_) => {
                    return Err(self.error(Some(line), Problem::KeyNotText { found: "an alias (*)" }));
                }
                Event::SequenceStart(..) => {
                    return Err(self.error(Some(line), Problem::KeyNotText { found: "a sequence" }));
                }
                _ => return Err(self.error(Some(line), Problem::KeyNotText { found: "a mapping" })),
            };
            self.path.push(key.clone());
            if let Some(first_line) = first_lines.insert(key.clone(), line) {
                return Err(self.error(Some(line), Problem::DuplicateKey { first_line }));
            }
            let (event, value_line) = self.next()?;
            let value = self.node(event, value_line)?;
            self.path.pop();
            entries.push(Entry { key, line, value });
        }
    }

    fn sequence(&mut self) -> Result<Value, ConfigError> {
        self.path.push(String::new());
        loop {
            let (event, line) = self.next()?;
            if event == Event::SequenceEnd {
                self.path.pop();
                return Ok(Value::Sequence);
            }
            self.node(event, line)?;
        }
    }

    fn refuse_extras(&self, line: usize, anchor: usize, has_tag: bool) -> Result<(), ConfigError> {
        if anchor != 0 {
            return Err(self.error(Some(line), Problem::Construct { found: "an anchor (&)" }));
        }
        if has_tag {
            return Err(self.error(Some(line), Problem::Construct { found: "a tag (!)" }));
        }
        Ok(())
    }

    fn error(&self, line: Option<usize>, problem: Problem) -> ConfigError {
        let keys: Vec<&str> = self.path.iter().map(String::as_str).filter(|key| !key.is_empty()).collect();
        ConfigError { place: Place::File { file: self.file.to_owned(), line, path: path_of(&keys) }, problem }
    }
}
