//! node.yml: what one node is told about itself, with the environment's word above the file's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::address::{LOCAL_ACCEPTED, LocalAddress};
use super::error::{ConfigError, Place, Problem};
use super::fields::{Given, Mapping, nearest};
use super::{File, yaml};
use crate::limits::{
    BLOCK_CACHE_BYTES_DEFAULT, MESSAGE_BYTES_MAX, RECORD_CACHE_BYTES_DEFAULT, REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT,
    REQUESTS_IN_FLIGHT_MAX_DEFAULT, WRITE_BUFFER_BYTES_DEFAULT,
};
use crate::types::{Durability, NODE_ID_BYTES_MAX, NodeId};

/// What the environment variables of node.yml's keys begin with.
pub const VARIABLE_PREFIX: &str = "QUORATE_NODE_";

/// One node's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Which of the cluster's nodes it is.
    pub id: NodeId,
    /// Where it listens for clients and peers.
    pub local_address: LocalAddress,
    /// Where it serves metrics and health over HTTP; `None` for nowhere.
    pub local_metrics_address: Option<LocalAddress>,
    /// Its data folder: absolute, or relative to the working directory (a path in a file is relative to the file's
    /// folder, and is made so here).
    pub data_dir: PathBuf,
    /// When a write counts as kept.
    pub durability: Durability,
    /// Whether Node/Set and Clock/Set are allowed, which write past the quorum.
    pub operator_writes: bool,
    /// How many client requests it works on at once: 1 to 1,048,576.
    pub requests_in_flight_max: usize,
    /// How many bytes of keys and values client requests may hold at once: from [`MESSAGE_BYTES_MAX`], so that the
    /// largest request can ever be admitted, to 1 TiB.
    pub request_bytes_in_flight_max: usize,
    /// The most bytes of the records written or read last that are kept at hand: 1 MiB to 1 TiB.
    pub record_cache_bytes: usize,
    /// The most bytes of RocksDB's block cache: 1 MiB to 1 TiB.
    pub block_cache_bytes: usize,
    /// The most bytes of RocksDB's write buffers: 1 MiB to 1 TiB.
    pub write_buffer_bytes: usize,
}

impl NodeConfig {
    /// A node on this machine's loopback, with every default.
    #[must_use]
    pub fn local(id: NodeId, local_address: LocalAddress, data_dir: PathBuf) -> Self {
        Self {
            id,
            local_address,
            local_metrics_address: None,
            data_dir,
            durability: Durability::default(),
            operator_writes: false,
            requests_in_flight_max: REQUESTS_IN_FLIGHT_MAX_DEFAULT,
            request_bytes_in_flight_max: REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT,
            record_cache_bytes: RECORD_CACHE_BYTES_DEFAULT,
            block_cache_bytes: BLOCK_CACHE_BYTES_DEFAULT,
            write_buffer_bytes: WRITE_BUFFER_BYTES_DEFAULT,
        }
    }

    /// Reads a node.yml. For each key `k` of it, the variable `QUORATE_NODE_K` of `environment` (pairs of name and
    /// value, as `std::env::vars_os` gives them) stands above the file: its value is taken, and the file's is not
    /// looked at. A data folder that is given by variable is relative to the working directory, as every path in an
    /// environment is; an empty `QUORATE_NODE_LOCAL_METRICS_ADDRESS` turns metrics off.
    ///
    /// # Errors
    /// For the first thing that is not accepted, in the file or in a variable that begins with [`VARIABLE_PREFIX`].
    pub fn parse(
        file: File<'_>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        parse_with_place(file, environment).map(|(config, _)| config)
    }
}

/// A node.yml, and where its id was given: an error about the id in its cluster is found only later.
pub(super) fn parse_with_place(
    file: File<'_>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(NodeConfig, Place), ConfigError> {
    let variables = variables(environment)?;
    let root = yaml::parse(file.name, file.text, "node")?;
    let mapping = Mapping::top(file.name, &root, "node", "cluster")?;
    mapping.refuse_unknown(&KEYS)?;
    let raw = Raw { mapping, variables };

    let id = raw.required("id", id_accepted())?;
    let config = NodeConfig {
        id: NodeId::new(&id.text).map_err(|error| id.error(Problem::NodeId(error)))?,
        local_address: local_address(&raw.required("local_address", LOCAL_ACCEPTED)?)?,
        local_metrics_address: match raw.optional("local_metrics_address", LOCAL_ACCEPTED)? {
            Some(given) if given.text.is_empty() && matches!(given.place, Place::Variable { .. }) => None,
            Some(given) => Some(local_address(&given)?),
            None => None,
        },
        data_dir: data_dir(&raw.required("data_dir", DATA_DIR_ACCEPTED)?)?,
        durability: match raw.optional("durability", DURABILITY_ACCEPTED)? {
            Some(given) => durability(&given)?,
            None => Durability::default(),
        },
        operator_writes: match raw.optional("operator_writes", FLAG_ACCEPTED)? {
            Some(given) => flag(&given)?,
            None => false,
        },
        requests_in_flight_max: raw.number(
            "requests_in_flight_max",
            (1, REQUESTS_IN_FLIGHT_LARGEST),
            REQUESTS_IN_FLIGHT_MAX_DEFAULT,
        )?,
        request_bytes_in_flight_max: raw.number(
            "request_bytes_in_flight_max",
            (MESSAGE_BYTES_MAX, BYTES_LARGEST),
            REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT,
        )?,
        record_cache_bytes: raw.number(
            "record_cache_bytes",
            (BYTES_SMALLEST, BYTES_LARGEST),
            RECORD_CACHE_BYTES_DEFAULT,
        )?,
        block_cache_bytes: raw.number(
            "block_cache_bytes",
            (BYTES_SMALLEST, BYTES_LARGEST),
            BLOCK_CACHE_BYTES_DEFAULT,
        )?,
        write_buffer_bytes: raw.number(
            "write_buffer_bytes",
            (BYTES_SMALLEST, BYTES_LARGEST),
            WRITE_BUFFER_BYTES_DEFAULT,
        )?,
    };
    if config.local_metrics_address == Some(config.local_address) {
        let given = raw.required("local_metrics_address", LOCAL_ACCEPTED)?;
        let owner = "the node itself (local_address)".to_owned();
        return Err(given.error(Problem::AddressTaken { address: given.text.clone(), owner }));
    }
    Ok((config, id.place))
}

/// Every key below `node`, in the order of the examples.
const KEYS: [&str; 11] = [
    "id",
    "local_address",
    "local_metrics_address",
    "data_dir",
    "durability",
    "operator_writes",
    "requests_in_flight_max",
    "request_bytes_in_flight_max",
    "record_cache_bytes",
    "block_cache_bytes",
    "write_buffer_bytes",
];

/// More would only wait for each other; as a bound it catches a number of bytes given for a number of requests.
const REQUESTS_IN_FLIGHT_LARGEST: usize = 1 << 20;
/// Less than a mebibyte cannot hold one block of each kind.
const BYTES_SMALLEST: usize = 1 << 20;
/// As a bound it catches a slip; no machine we know of has more to give.
const BYTES_LARGEST: usize = 1 << 40;

const DATA_DIR_ACCEPTED: &str = "the path of a folder, absolute or relative to this file, such as ./data/1";
const DURABILITY_ACCEPTED: &str = "fsync or os";
const FLAG_ACCEPTED: &str = "true or false";

fn id_accepted() -> String {
    format!("1 to {NODE_ID_BYTES_MAX} printable ASCII characters without spaces and commas, such as \"1\"")
}

/// The keys of the file and the variables above them, not yet judged.
struct Raw<'a> {
    mapping: Mapping<'a>,
    /// By the key that each stands for.
    variables: BTreeMap<&'static str, Variable>,
}

/// A variable of the environment that stands for a key.
struct Variable {
    name: String,
    value: OsString,
}

impl Raw<'_> {
    fn optional(&self, key: &str, accepted: &str) -> Result<Option<Given>, ConfigError> {
        if let Some(variable) = self.variables.get(key) {
            let place = Place::Variable { name: variable.name.clone() };
            return match variable.value.to_str() {
                Some(text) => Ok(Some(Given { text: text.to_owned(), place })),
                None => Err(ConfigError { place, problem: Problem::NotUtf8 { accepted: accepted.to_owned() } }),
            };
        }
        self.mapping.entry(key).map(|entry| self.mapping.given(entry, accepted)).transpose()
    }

    fn required(&self, key: &str, accepted: impl AsRef<str>) -> Result<Given, ConfigError> {
        let accepted = accepted.as_ref();
        let given = self.optional(key, accepted)?;
        given.ok_or_else(|| self.mapping.missing(key, accepted, Some(variable_name(key))))
    }

    fn number(&self, key: &str, (min, max): (usize, usize), default: usize) -> Result<usize, ConfigError> {
        let accepted = format!("a whole number from {min} to {max}");
        let Some(given) = self.optional(key, &accepted)? else {
            return Ok(default);
        };
        let number = given.whole_number(min as u64, max as u64, accepted.as_str())?;
        usize::try_from(number).map_err(|_| given.refused(accepted))
    }
}

/// The variable that stands above `key`.
fn variable_name(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.to_ascii_uppercase())
}

/// Those of `environment` that are ours, by the key that they stand for.
fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<&'static str, Variable>, ConfigError> {
    let mut variables = BTreeMap::new();
    for (name, value) in environment {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with(VARIABLE_PREFIX) {
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| variable_name(key) == name) else {
            let accepted: Vec<String> = KEYS.iter().map(|key| variable_name(key)).collect();
            let nearest = nearest(&name[VARIABLE_PREFIX.len()..], KEYS.iter()).map(|key| variable_name(key));
            let problem = Problem::UnknownVariable { nearest, accepted };
            return Err(ConfigError { place: Place::Variable { name }, problem });
        };
        variables.insert(*key, Variable { name, value });
    }
    Ok(variables)
}

fn local_address(given: &Given) -> Result<LocalAddress, ConfigError> {
    LocalAddress::parse(&given.text).ok_or_else(|| given.refused(LOCAL_ACCEPTED))
}

fn data_dir(given: &Given) -> Result<PathBuf, ConfigError> {
    // A shell would have replaced the tilde; taken as it is, it would make a folder of that name.
    if given.text.is_empty() || given.text.contains('\0') || given.text == "~" || given.text.starts_with("~/") {
        return Err(given.refused(match given.place {
            Place::File { .. } => format!("{DATA_DIR_ACCEPTED} (~ is not expanded)"),
            Place::Variable { .. } => {
                "the path of a folder, absolute or relative to the working directory (~ is not expanded)".to_owned()
            }
        }));
    }
    let path = match &given.place {
        Place::File { file, .. } => file.parent().unwrap_or(Path::new("")).join(&given.text),
        Place::Variable { .. } => PathBuf::from(&given.text),
    };
    // Without the dots in between, so that a log shows data/1 and not examples/./data/1.
    let plain: PathBuf = path.components().filter(|component| *component != Component::CurDir).collect();
    Ok(if plain.as_os_str().is_empty() { PathBuf::from(".") } else { plain })
}

fn durability(given: &Given) -> Result<Durability, ConfigError> {
    match given.text.as_str() {
        "fsync" => Ok(Durability::Fsync),
        "os" => Ok(Durability::Os),
        _ => Err(given.refused(DURABILITY_ACCEPTED)),
    }
}

fn flag(given: &Given) -> Result<bool, ConfigError> {
    match given.text.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(given.refused(FLAG_ACCEPTED)),
    }
}
