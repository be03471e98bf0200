//! Errors of a configuration: the place, the value found, the values accepted.
//!
//! Contract: `Display` of a [`ConfigError`] is one line, for any bytes in the configuration.

use std::fmt;
use std::path::PathBuf;

use crate::limits::{CONFIG_BYTES_MAX, CONFIG_DEPTH_MAX, NODES_MAX};
use crate::types::{NodeId, NodeIdError};

/// An error in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// The place of the error.
    pub place: Place,
    /// The error itself.
    pub problem: Problem,
}

/// The place of a value, or of a missing value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A place in a file.
    File {
        /// The file's name, as the caller gave it.
        file: PathBuf,
        /// The line, counted from 1; `None` for an error of the file as a whole.
        line: Option<usize>,
        /// The keys down to the value, joined by dots; empty for the file as a whole.
        path: String,
    },
    /// An environment variable.
    Variable {
        /// The variable's name.
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

/// An error of a value, a key or a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is not YAML.
    #[error("not valid YAML: {}", on_a_line(detail))]
    Syntax {
        /// The parser's reason.
        detail: String,
    },
    /// The file holds no value.
    #[error("the file is empty: accepted is one mapping with the key {accepted}")]
    Empty {
        /// The top-level key that the file should have.
        accepted: &'static str,
    },
    /// The file holds more than one document.
    #[error("a second document begins here: one document per file is accepted")]
    SecondDocument,
    /// The file is too large.
    #[error("the file has {bytes} bytes: at most {CONFIG_BYTES_MAX} are accepted")]
    TooLarge {
        /// The file's size in bytes.
        bytes: usize,
    },
    /// Mappings or sequences are nested too deeply.
    #[error("nested too deeply: at most {CONFIG_DEPTH_MAX} levels are accepted")]
    TooDeep,
    /// An anchor, an alias or a tag, which could give one value several meanings or places.
    #[error("{found} is not accepted: write the value itself")]
    Construct {
        /// The construct's name.
        found: &'static str,
    },
    /// A key is a sequence, a mapping or an alias.
    #[error("{found} is not accepted as a key: a plain text is")]
    KeyNotText {
        /// The kind of the key.
        found: &'static str,
    },
    /// The value has the wrong kind, such as a sequence for a single value.
    #[error("{found} is not accepted here: {accepted}")]
    Shape {
        /// The kind of the value.
        found: &'static str,
        /// The accepted values.
        accepted: String,
    },
    /// The key is unknown.
    #[error("unknown key{}: accepted {}", guess(*nearest), listed(accepted))]
    UnknownKey {
        /// The accepted key that it probably misspells, if any.
        nearest: Option<&'static str>,
        /// The accepted keys.
        accepted: Vec<&'static str>,
    },
    /// The file is of the other kind.
    #[error(
        "this is a {found} file where a {expected} file is expected: give a {expected}.yml here (`quorate serve` takes node.yml \
         first, cluster.yml second)"
    )]
    OtherKind {
        /// The top-level key that the file should have.
        expected: &'static str,
        /// The top-level key that the file has.
        found: &'static str,
    },
    /// An environment variable has Quorate's prefix and is unknown.
    #[error("unknown variable{}: accepted {}", guess(nearest.as_deref()), listed(accepted))]
    UnknownVariable {
        /// The known variable that it probably misspells, if any.
        nearest: Option<String>,
        /// The known variables.
        accepted: Vec<String>,
    },
    /// The value of an environment variable is not UTF-8.
    #[error("the value is not UTF-8: accepted is {accepted}")]
    NotUtf8 {
        /// The accepted values.
        accepted: String,
    },
    /// A required key is missing.
    #[error("missing: give {accepted}{}", variable.as_ref().map(|name| format!(" (or set {name})")).unwrap_or_default())]
    MissingKey {
        /// The accepted values.
        accepted: String,
        /// The environment variable that can replace it, if any.
        variable: Option<String>,
    },
    /// A key is given twice. Many YAML readers silently keep the last one.
    #[error("given twice, first on line {first_line}: each key is accepted once")]
    DuplicateKey {
        /// The line of the first.
        first_line: usize,
    },
    /// A key has no value.
    #[error("no value is given: accepted is {accepted}")]
    NoValue {
        /// The accepted values.
        accepted: String,
    },
    /// The value is out of range, or not a value of the key.
    #[error("{} is not accepted: give {accepted}", shown(found))]
    Value {
        /// The value.
        found: String,
        /// The accepted values.
        accepted: String,
    },
    /// The text is not a node id.
    #[error("{0}")]
    NodeId(NodeIdError),
    /// Some nodes have a zone, and this one has none.
    #[error("missing, and node {} has one: give all nodes a zone, or none", other.escape_debug())]
    ZoneMissing {
        /// The id of a node that has a zone.
        other: String,
    },
    /// The cluster has no nodes.
    #[error("no nodes: give 1 to {NODES_MAX}, each as ID: {{ remote_address: HOST:PORT }}")]
    NoNodes,
    /// The cluster has too many nodes.
    #[error("{nodes} nodes: at most {NODES_MAX} are accepted")]
    TooManyNodes {
        /// The number of nodes.
        nodes: usize,
    },
    /// The address is given twice, for two nodes or two purposes.
    #[error("{} is already the address of {owner}: give one of its own", shown(address))]
    AddressTaken {
        /// The address.
        address: String,
        /// The node or key that has it already.
        owner: String,
    },
    /// Other machines reach the node, and it has neither TLS nor leave to go without.
    #[error(
        "{address} is beyond this machine's loopback, and the node has no TLS: give it tls_certificate, tls_key and tls_ca \
         (`quorate ca` makes them), or, where everybody on the network may read and write everything, insecure: true"
    )]
    Exposed {
        /// The address.
        address: String,
    },
    /// The cluster has no node with this id.
    #[error("node {id} is not in {}: accepted {}", cluster.display(), listed(accepted))]
    NotInCluster {
        /// The node's id.
        id: NodeId,
        /// The cluster's file.
        cluster: PathBuf,
        /// The ids in the cluster's file.
        accepted: Vec<NodeId>,
    },
    /// Its address does not follow from its id as those of the others do.
    #[error(
        "dns: node {id} is reached at {address}, and with dns all ids are like quorate-0, and each address is the id with the \
         same domain and port as the others, like quorate-0.quorate-peers:8001: correct it, or leave discovery out"
    )]
    NoPattern {
        /// The node's id.
        id: NodeId,
        /// Its address.
        address: String,
    },
    /// The node is not listed, and cannot add itself.
    #[error(
        "node {id} is not in {}: list it there, or call it {stem}-0, {stem}-1 and so on, without leading zeros; among nodes with zones it must be \
         listed, and start with --join",
        cluster.display()
    )]
    NotOfPattern {
        /// The node's id.
        id: NodeId,
        /// The cluster's file.
        cluster: PathBuf,
        /// How the ids of the others begin.
        stem: String,
    },
    /// Two node files that are checked together have the same id.
    #[error("node {id} is also described by {}: give each node an id of its own", other.display())]
    IdTaken {
        /// The id.
        id: NodeId,
        /// The other file.
        other: PathBuf,
    },
}

/// The text of a parser, whose quotes stay as they are. Other characters that would break the line are escaped.
fn on_a_line(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// The most accepted names in an error; of more it gives the number.
const LISTED_MAX: usize = 64;

/// The most characters of a refused value in an error.
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

/// `text` in quotes, escaped and cut to [`SHOWN_CHARACTERS_MAX`].
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
