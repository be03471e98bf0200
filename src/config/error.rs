//! What is wrong with a configuration, as one line: where it is, what was found, what is accepted.
//!
//! Contract: `Display` of a [`ConfigError`] is one line, whatever bytes the configuration holds.

use std::fmt;
use std::path::PathBuf;

use crate::limits::{CONFIG_BYTES_MAX, CONFIG_DEPTH_MAX, NODES_MAX};
use crate::types::{NodeId, NodeIdError};

/// Something in a configuration that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// Where it is.
    pub place: Place,
    /// What is wrong there.
    pub problem: Problem,
}

/// Where a value was given, or is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// The file's name, as it was passed in.
        file: PathBuf,
        /// The line, from 1; `None` where there is none to blame, as in an empty file.
        line: Option<usize>,
        /// The keys that lead there, joined by dots; empty for the file as a whole.
        path: String,
    },
    /// In an environment variable.
    Variable {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, path } => {
                write!(f, "{}", file.display())?;
                if let Some(line) = line {
                    write!(f, ":{line}")?;
                }
                if !path.is_empty() {
                    write!(f, ": {path}")?;
                }
                Ok(())
            }
            Self::Variable { name } => write!(f, "environment variable {}", name.escape_default()),
        }
    }
}

/// What is wrong with a value, a key or a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is not YAML.
    #[error("not valid YAML: {}", detail.escape_debug())]
    Syntax {
        /// What the parser says.
        detail: String,
    },
    /// The file holds no value.
    #[error("the file is empty: accepted is one mapping with the key {accepted}")]
    Empty {
        /// The top-level key it should have.
        accepted: &'static str,
    },
    /// The file holds more than one document.
    #[error("a second document begins here: one document per file is accepted")]
    SecondDocument,
    /// The file is larger than any that is needed.
    #[error("the file has {bytes} bytes: at most {CONFIG_BYTES_MAX} are accepted")]
    TooLarge {
        /// How many bytes it has.
        bytes: usize,
    },
    /// Mappings or sequences within one another, without end in sight.
    #[error("nested too deeply: at most {CONFIG_DEPTH_MAX} levels are accepted")]
    TooDeep,
    /// YAML that would give one value several meanings or places.
    #[error("{found} is not accepted: write the value itself")]
    Construct {
        /// Which construct.
        found: &'static str,
    },
    /// A key that is a sequence or a mapping.
    #[error("{found} is not accepted as a key: a plain text is")]
    KeyNotText {
        /// What was found in its place.
        found: &'static str,
    },
    /// A value of another shape.
    #[error("{found} is not accepted here: {accepted}")]
    Shape {
        /// What was found.
        found: &'static str,
        /// What is accepted.
        accepted: String,
    },
    /// A key that means nothing here.
    #[error("unknown key{}: accepted {}", guess(*nearest), listed(accepted))]
    UnknownKey {
        /// The accepted key that looks most like it, where one does.
        nearest: Option<&'static str>,
        /// The keys that are accepted.
        accepted: Vec<&'static str>,
    },
    /// The other kind of file.
    #[error("this is a {found} file where a {expected} file is expected: give node.yml first, cluster.yml second")]
    OtherKind {
        /// The top-level key it should have.
        expected: &'static str,
        /// The top-level key it has.
        found: &'static str,
    },
    /// An environment variable that looks like ours and means nothing.
    #[error("unknown variable{}: accepted {}", guess(nearest.as_deref()), listed(accepted))]
    UnknownVariable {
        /// The known variable that looks most like it, where one does.
        nearest: Option<String>,
        /// The variables that are known.
        accepted: Vec<String>,
    },
    /// An environment variable whose value is not UTF-8.
    #[error("the value is not UTF-8: accepted is {accepted}")]
    NotUtf8 {
        /// What is accepted.
        accepted: String,
    },
    /// A key that must be there and is not.
    #[error("missing: give {accepted}{}", variable.as_ref().map(|name| format!(" (or set {name})")).unwrap_or_default())]
    MissingKey {
        /// What is accepted as its value.
        accepted: String,
        /// The environment variable that can stand in for it.
        variable: Option<String>,
    },
    /// A key that was there before. YAML readers often keep the last one and say nothing.
    #[error("given twice, first on line {first_line}: each key is accepted once")]
    DuplicateKey {
        /// The line of the first one.
        first_line: usize,
    },
    /// A key without a value.
    #[error("no value is given: accepted is {accepted}")]
    NoValue {
        /// What is accepted.
        accepted: String,
    },
    /// A value out of bounds, or of another kind.
    #[error("{} is not accepted: give {accepted}", shown(found))]
    Value {
        /// What was found.
        found: String,
        /// What is accepted.
        accepted: String,
    },
    /// A text that is no node id.
    #[error("{0}")]
    NodeId(NodeIdError),
    /// A cluster without nodes.
    #[error("no nodes: give 1 to {NODES_MAX}, each as ID: {{ remote_address: HOST:PORT }}")]
    NoNodes,
    /// A cluster with more nodes than are supported.
    #[error("{nodes} nodes: at most {NODES_MAX} are accepted")]
    TooManyNodes {
        /// How many there are.
        nodes: usize,
    },
    /// One address for two purposes.
    #[error("{} is already the address of {owner}: give one of its own", shown(address))]
    AddressTaken {
        /// The address.
        address: String,
        /// What has it already.
        owner: String,
    },
    /// A node that is not of the cluster.
    #[error("node {id} is not in {}: accepted {}", cluster.display(), listed(accepted))]
    NotInCluster {
        /// The node's id.
        id: NodeId,
        /// The cluster's file.
        cluster: PathBuf,
        /// The cluster's ids.
        accepted: Vec<NodeId>,
    },
    /// Two node files of one id, checked together.
    #[error("node {id} is also described by {}: give each node an id of its own", other.display())]
    IdTaken {
        /// The id.
        id: NodeId,
        /// The other file.
        other: PathBuf,
    },
}

/// How many accepted names an error lists before it only counts them.
const LISTED_MAX: usize = 16;

/// How many characters of a refused value an error shows.
const SHOWN_CHARACTERS_MAX: usize = 80;

fn listed<T: ToString>(accepted: &[T]) -> String {
    let verb = if accepted.len() == 1 { "is" } else { "are" };
    let mut names: Vec<String> = accepted.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    if accepted.len() > LISTED_MAX {
        names.push(format!("… ({} in all)", accepted.len()));
    }
    format!("{verb} {}", names.join(", "))
}

fn guess(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!(" (did you mean {nearest}?)")).unwrap_or_default()
}

/// `text` in quotes, escaped, and cut where it is long.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
