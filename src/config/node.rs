//! node.yml: one node's own configuration, and the environment variables that override it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::address::{LocalAddress, RemoteAddress};
use super::error::{ConfigError, Place, Problem};
use super::fields::{Given, Mapping, names, nearest};
use super::keys::{self, Fallback, Key, Kind, NODE_KEYS, VARIABLE_PREFIX};
use super::service_link::is_service_link;
use super::{File, yaml};
use crate::limits::{
    BLOCK_CACHE_BYTES_DEFAULT, RECORD_CACHE_BYTES_DEFAULT, REPAIR_BYTES_PER_SECOND_DEFAULT,
    REPAIR_KEYS_PER_SECOND_DEFAULT, REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT, REQUESTS_IN_FLIGHT_MAX_DEFAULT,
    SCRUB_BYTES_PER_SECOND_DEFAULT, SCRUB_EVERY_SECONDS_DEFAULT, TAKEOVER_BYTES_PER_SECOND_DEFAULT,
    TAKEOVER_KEYS_PER_SECOND_DEFAULT, TOMBSTONES_KEPT_FOR_SECONDS_DEFAULT, WRITE_BUFFER_BYTES_DEFAULT,
};
use crate::types::{Durability, NodeId, Table};

/// One node's configuration.
#[allow(clippy::struct_excessive_bools, reason = "each is a key of its own")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node's id, one of the cluster's.
    pub id: NodeId,
    /// The address on which the node listens for clients and peers.
    pub local_address: LocalAddress,
    /// The address on which the node serves metrics and probes over HTTP; `None` to serve none.
    pub local_metrics_address: Option<LocalAddress>,
    /// The address on which the node serves keys and values over HTTP; `None` to serve none.
    pub local_http_address: Option<LocalAddress>,
    /// The address at which others reach it over HTTP; `None` for the host of its remote address, and the port on which it
    /// serves HTTP.
    pub remote_http_address: Option<RemoteAddress>,
    /// The names that HTTP requests may name in `Host`, in lower case.
    pub http_hosts: Vec<String>,
    /// The origins whose web pages may send requests, in lower case.
    pub http_cors_origins: Vec<String>,
    /// The address on which the node serves the line protocol; `None` to serve none.
    pub local_line_address: Option<LocalAddress>,
    /// The address on which the node serves the Redis protocol; `None` to serve none.
    pub local_redis_address: Option<LocalAddress>,
    /// The table that is served there.
    pub redis_table: Table,
    /// The node's certificate, its key, and the CAs that it believes; `None` for no TLS.
    pub tls: Option<TlsPaths>,
    /// Whether clients must have a certificate too.
    pub tls_client_certificates_required: bool,
    /// Whether connections without TLS are taken beyond loopback.
    pub insecure: bool,
    /// Whether the node asks who calls, and does what the caller has rights to.
    pub authorization: bool,
    /// The file of the audit; `None` for none.
    pub audit_file: Option<PathBuf>,
    /// Whether the audit has writes of keys too.
    pub audit_writes: bool,
    /// The URL of the collector that traces are sent to; `None` for no traces.
    pub traces_endpoint: Option<String>,
    /// Which part of the requests without a span of their callers is traced.
    pub traces_sampled: Fraction,
    /// The data folder: absolute, or relative to the working directory. The parser joins a relative path in a file with
    /// the file's folder.
    pub data_dir: PathBuf,
    /// When the node acknowledges a write.
    pub durability: Durability,
    /// Whether the node accepts Node/Set and Clock/Set, which bypass the quorum.
    pub operator_writes: bool,
    /// The most client requests that the node works on at once: 1 to 1,048,576.
    pub requests_in_flight_max: usize,
    /// The most bytes of keys and values that client requests hold at once: 64 MiB, the size of the largest request, to
    /// 1 TiB.
    pub request_bytes_in_flight_max: usize,
    /// The most connections of clients and peers; `None` for as many as the limit of open files leaves room for.
    pub connections_max: Option<usize>,
    /// The most of them from one address; `None` for half of what the others leave.
    pub connections_per_address_max: Option<usize>,
    /// The most requests of one client in flight at the node; `None` for half of what the others leave.
    pub requests_in_flight_per_client_max: Option<usize>,
    /// The most reads and writes of one client in a second; `None` for any number.
    pub requests_per_second_per_client_max: Option<usize>,
    /// The most keys that the node repairs in a second; 0 for none.
    pub repair_keys_per_second: usize,
    /// The most bytes that its repair sends and asks for in a second.
    pub repair_bytes_per_second: usize,
    /// The most keys that the node copies in a second of slots that it gains.
    pub takeover_keys_per_second: usize,
    /// The most bytes of keys and values that it copies of them in a second.
    pub takeover_bytes_per_second: usize,
    /// How long it remembers deletions, at least about.
    pub tombstones_kept_for_seconds: usize,
    /// Below so much free space the node takes no copies from other nodes; `None` for a twentieth of the disk, and 1 GiB at
    /// most.
    pub disk_reserve_bytes: Option<usize>,
    /// The most bytes of keys and values that the node reads in a second to verify its store.
    pub scrub_bytes_per_second: usize,
    /// The time between two such readings of everything; 0 for none.
    pub scrub_every_seconds: usize,
    /// Whether the node replaces itself when its store is damaged.
    pub replace_damaged: bool,
    /// Whether the status page shows keys.
    pub status_page_keys: bool,
    /// The size of the record cache in bytes: 1 MiB to 1 TiB.
    pub record_cache_bytes: usize,
    /// The size of RocksDB's block cache in bytes: 1 MiB to 1 TiB.
    pub block_cache_bytes: usize,
    /// The size of RocksDB's write buffers in bytes: 1 MiB to 1 TiB.
    pub write_buffer_bytes: usize,
}

/// A part of all: in millionths, so that it can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction(u32);

impl Fraction {
    const ALL: u32 = 1_000_000;
    /// The default of `traces_sampled`.
    pub const SAMPLED_DEFAULT: Self = Self(Self::ALL / 100);

    /// A decimal number from 0 to 1, with six decimals at most.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !are_digits(decimals) || whole.len() != 1 || !(1..=6).contains(&decimals.len()) {
            return None;
        }
        let millionths: u32 = format!("{whole}{decimals:0<6}").parse().ok()?;
        (millionths <= Self::ALL).then_some(Self(millionths))
    }
}

impl From<Fraction> for f64 {
    fn from(Fraction(millionths): Fraction) -> Self {
        Self::from(millionths) / Self::from(Fraction::ALL)
    }
}

/// The paths of a node's files of TLS, as [`NodeConfig::data_dir`] is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPaths {
    /// Its certificate.
    pub certificate: PathBuf,
    /// The key of that.
    pub key: PathBuf,
    /// The CAs that it believes.
    pub ca: PathBuf,
}

impl TlsPaths {
    /// The key of node.yml, or of a variable, that gives this file.
    #[must_use]
    pub fn key_of(&self, file: &Path) -> &'static str {
        if file == self.ca {
            "node.tls_ca"
        } else if file == self.key {
            "node.tls_key"
        } else {
            "node.tls_certificate"
        }
    }
}

impl NodeConfig {
    /// A node on this machine's loopback interface, with the default of every other key.
    #[must_use]
    pub fn local(id: NodeId, local_address: LocalAddress, data_dir: PathBuf) -> Self {
        Self {
            id,
            local_address,
            local_metrics_address: None,
            local_http_address: None,
            remote_http_address: None,
            http_hosts: Vec::new(),
            http_cors_origins: Vec::new(),
            local_line_address: None,
            local_redis_address: None,
            redis_table: Table::Default,
            tls: None,
            tls_client_certificates_required: false,
            insecure: false,
            authorization: false,
            audit_file: None,
            audit_writes: false,
            traces_endpoint: None,
            traces_sampled: Fraction::SAMPLED_DEFAULT,
            data_dir,
            durability: Durability::default(),
            operator_writes: false,
            requests_in_flight_max: REQUESTS_IN_FLIGHT_MAX_DEFAULT,
            request_bytes_in_flight_max: REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT,
            connections_max: None,
            connections_per_address_max: None,
            requests_in_flight_per_client_max: None,
            requests_per_second_per_client_max: None,
            repair_keys_per_second: REPAIR_KEYS_PER_SECOND_DEFAULT,
            repair_bytes_per_second: REPAIR_BYTES_PER_SECOND_DEFAULT,
            takeover_keys_per_second: TAKEOVER_KEYS_PER_SECOND_DEFAULT,
            takeover_bytes_per_second: TAKEOVER_BYTES_PER_SECOND_DEFAULT,
            tombstones_kept_for_seconds: TOMBSTONES_KEPT_FOR_SECONDS_DEFAULT,
            disk_reserve_bytes: None,
            scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND_DEFAULT,
            scrub_every_seconds: SCRUB_EVERY_SECONDS_DEFAULT,
            replace_damaged: true,
            status_page_keys: false,
            record_cache_bytes: RECORD_CACHE_BYTES_DEFAULT,
            block_cache_bytes: BLOCK_CACHE_BYTES_DEFAULT,
            write_buffer_bytes: WRITE_BUFFER_BYTES_DEFAULT,
        }
    }

    /// Reads a node.yml. The variable `QUORATE_NODE_K` of `environment` overrides the key `k` of the file, whose value is
    /// then not read. `environment` holds names and values, as `std::env::vars_os` gives them. A data folder in a variable
    /// is relative to the working directory. An empty variable of an address that may be left
    /// out turns its listener off.
    ///
    /// # Errors
    /// With the first value that is not accepted, in the file or in a variable that begins with [`VARIABLE_PREFIX`]. The
    /// variables that Kubernetes sets for a Service called `quorate-node` are ignored, and their names are logged.
    pub fn parse(
        file: File<'_>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        parse_with_places(file, environment).map(|(config, _)| config)
    }
}

impl NodeConfig {
    /// The keys whose values are others in `new`, in the order of [`NODE_KEYS`].
    pub(super) fn changed(&self, new: &Self) -> impl Iterator<Item = &'static Key> {
        // By its fields, so that none is forgotten.
        let Self {
            id,
            local_address,
            local_metrics_address,
            local_http_address,
            remote_http_address,
            http_hosts,
            http_cors_origins,
            local_line_address,
            local_redis_address,
            redis_table,
            tls,
            tls_client_certificates_required,
            insecure,
            authorization,
            audit_file,
            audit_writes,
            traces_endpoint,
            traces_sampled,
            data_dir,
            durability,
            operator_writes,
            requests_in_flight_max,
            request_bytes_in_flight_max,
            connections_max,
            connections_per_address_max,
            requests_in_flight_per_client_max,
            requests_per_second_per_client_max,
            repair_keys_per_second,
            repair_bytes_per_second,
            takeover_keys_per_second,
            takeover_bytes_per_second,
            tombstones_kept_for_seconds,
            disk_reserve_bytes,
            scrub_bytes_per_second,
            scrub_every_seconds,
            replace_damaged,
            status_page_keys,
            record_cache_bytes,
            block_cache_bytes,
            write_buffer_bytes,
        } = self;
        let is_same = [
            *id == new.id,
            *local_address == new.local_address,
            *local_metrics_address == new.local_metrics_address,
            *local_http_address == new.local_http_address,
            *remote_http_address == new.remote_http_address,
            *http_hosts == new.http_hosts,
            *http_cors_origins == new.http_cors_origins,
            *local_line_address == new.local_line_address,
            *local_redis_address == new.local_redis_address,
            *redis_table == new.redis_table,
            tls.as_ref().map(|tls| &tls.certificate) == new.tls.as_ref().map(|tls| &tls.certificate),
            tls.as_ref().map(|tls| &tls.key) == new.tls.as_ref().map(|tls| &tls.key),
            tls.as_ref().map(|tls| &tls.ca) == new.tls.as_ref().map(|tls| &tls.ca),
            *tls_client_certificates_required == new.tls_client_certificates_required,
            *insecure == new.insecure,
            *authorization == new.authorization,
            *audit_file == new.audit_file,
            *audit_writes == new.audit_writes,
            *traces_endpoint == new.traces_endpoint,
            *traces_sampled == new.traces_sampled,
            *data_dir == new.data_dir,
            *durability == new.durability,
            *operator_writes == new.operator_writes,
            *requests_in_flight_max == new.requests_in_flight_max,
            *request_bytes_in_flight_max == new.request_bytes_in_flight_max,
            *connections_max == new.connections_max,
            *connections_per_address_max == new.connections_per_address_max,
            *requests_in_flight_per_client_max == new.requests_in_flight_per_client_max,
            *requests_per_second_per_client_max == new.requests_per_second_per_client_max,
            *repair_keys_per_second == new.repair_keys_per_second,
            *repair_bytes_per_second == new.repair_bytes_per_second,
            *takeover_keys_per_second == new.takeover_keys_per_second,
            *takeover_bytes_per_second == new.takeover_bytes_per_second,
            *tombstones_kept_for_seconds == new.tombstones_kept_for_seconds,
            *disk_reserve_bytes == new.disk_reserve_bytes,
            *scrub_bytes_per_second == new.scrub_bytes_per_second,
            *scrub_every_seconds == new.scrub_every_seconds,
            *replace_damaged == new.replace_damaged,
            *status_page_keys == new.status_page_keys,
            *record_cache_bytes == new.record_cache_bytes,
            *block_cache_bytes == new.block_cache_bytes,
            *write_buffer_bytes == new.write_buffer_bytes,
        ];
        NODE_KEYS.into_iter().zip(is_same).filter(|(_, is_same)| !is_same).map(|(key, _)| key)
    }

    /// Whether everybody may reach the node: it has TLS, or its operator has said so.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.tls.is_some() || self.insecure
    }

    /// Every address on which it listens.
    pub fn listeners(&self) -> impl Iterator<Item = LocalAddress> {
        let more =
            [self.local_metrics_address, self.local_http_address, self.local_line_address, self.local_redis_address];
        std::iter::once(self.local_address).chain(more.into_iter().flatten())
    }

    /// Takes over from `new` what changes without a restart.
    pub(super) fn reload(&mut self, new: &Self) {
        self.repair_keys_per_second = new.repair_keys_per_second;
        self.repair_bytes_per_second = new.repair_bytes_per_second;
        self.takeover_keys_per_second = new.takeover_keys_per_second;
        self.takeover_bytes_per_second = new.takeover_bytes_per_second;
        self.tombstones_kept_for_seconds = new.tombstones_kept_for_seconds;
        self.disk_reserve_bytes = new.disk_reserve_bytes;
        self.scrub_bytes_per_second = new.scrub_bytes_per_second;
        self.scrub_every_seconds = new.scrub_every_seconds;
        self.replace_damaged = new.replace_damaged;
    }
}

/// The places of values that are compared with a cluster.yml later.
pub(super) struct Places {
    pub(super) id: Place,
    pub(super) local_address: Place,
    /// The first listener that other machines reach without TLS, which must not be: its place, and the refusal.
    pub(super) exposed: Option<(Place, Problem)>,
    /// If it is given.
    pub(super) remote_http_address: Option<Place>,
}

/// A node.yml, and the places of some of its values.
pub(super) fn parse_with_places(
    file: File<'_>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(NodeConfig, Places), ConfigError> {
    let variables = variables(environment)?;
    let root = yaml::parse(file.name, file.text, "node")?;
    let mapping = Mapping::top(file.name, &root, "node", "cluster")?;
    mapping.refuse_unknown(&names(&NODE_KEYS))?;
    let raw = Raw { mapping, variables };

    let id = raw.required(&keys::ID)?;
    let listens_on = raw.required(&keys::LOCAL_ADDRESS)?;
    let config = NodeConfig {
        id: NodeId::new(&id.text).map_err(|error| id.error(Problem::NodeId(error)))?,
        local_address: local_address(&listens_on)?,
        local_metrics_address: raw.optional_address(&keys::LOCAL_METRICS_ADDRESS)?,
        local_http_address: raw.optional_address(&keys::LOCAL_HTTP_ADDRESS)?,
        remote_http_address: raw.optional_as(&keys::REMOTE_HTTP_ADDRESS, RemoteAddress::parse)?,
        http_hosts: raw.optional_as(&keys::HTTP_HOSTS, |text| listed(text, host))?.unwrap_or_default(),
        http_cors_origins: raw.optional_as(&keys::HTTP_CORS_ORIGINS, |text| listed(text, origin))?.unwrap_or_default(),
        local_line_address: raw.optional_address(&keys::LOCAL_LINE_ADDRESS)?,
        local_redis_address: raw.optional_address(&keys::LOCAL_REDIS_ADDRESS)?,
        redis_table: raw.optional_as(&keys::REDIS_TABLE, named_table)?.unwrap_or_default(),
        tls: raw.tls()?,
        tls_client_certificates_required: raw.choice(&keys::TLS_CLIENT_CERTIFICATES)? == "required",
        insecure: raw.choice(&keys::INSECURE)? == "true",
        authorization: raw.choice(&keys::AUTHORIZATION)? == "true",
        audit_file: raw.optional(&keys::AUDIT_FILE)?.map(|given| path(&given, &keys::AUDIT_FILE)).transpose()?,
        audit_writes: raw.choice(&keys::AUDIT_WRITES)? == "true",
        traces_endpoint: raw.collector()?,
        traces_sampled: raw.optional_as(&keys::TRACES_SAMPLED, Fraction::parse)?.unwrap_or(Fraction::SAMPLED_DEFAULT),
        data_dir: path(&raw.required(&keys::DATA_DIR)?, &keys::DATA_DIR)?,
        durability: match raw.choice(&keys::DURABILITY)? {
            "os" => Durability::Os,
            _ => Durability::Fsync,
        },
        operator_writes: raw.choice(&keys::OPERATOR_WRITES)? == "true",
        requests_in_flight_max: raw.number(&keys::REQUESTS_IN_FLIGHT_MAX)?,
        request_bytes_in_flight_max: raw.number(&keys::REQUEST_BYTES_IN_FLIGHT_MAX)?,
        connections_max: raw.optional_number(&keys::CONNECTIONS_MAX)?,
        connections_per_address_max: raw.optional_number(&keys::CONNECTIONS_PER_ADDRESS_MAX)?,
        requests_in_flight_per_client_max: raw.optional_number(&keys::REQUESTS_IN_FLIGHT_PER_CLIENT_MAX)?,
        requests_per_second_per_client_max: raw.optional_number(&keys::REQUESTS_PER_SECOND_PER_CLIENT_MAX)?,
        repair_keys_per_second: raw.number(&keys::REPAIR_KEYS_PER_SECOND)?,
        repair_bytes_per_second: raw.number(&keys::REPAIR_BYTES_PER_SECOND)?,
        takeover_keys_per_second: raw.number(&keys::TAKEOVER_KEYS_PER_SECOND)?,
        takeover_bytes_per_second: raw.number(&keys::TAKEOVER_BYTES_PER_SECOND)?,
        tombstones_kept_for_seconds: raw.number(&keys::TOMBSTONES_KEPT_FOR_SECONDS)?,
        disk_reserve_bytes: raw.optional_number(&keys::DISK_RESERVE_BYTES)?,
        scrub_bytes_per_second: raw.number(&keys::SCRUB_BYTES_PER_SECOND)?,
        scrub_every_seconds: raw.number(&keys::SCRUB_EVERY_SECONDS)?,
        replace_damaged: raw.choice(&keys::REPLACE_DAMAGED)? == "true",
        status_page_keys: raw.choice(&keys::STATUS_PAGE_KEYS)? == "true",
        record_cache_bytes: raw.number(&keys::RECORD_CACHE_BYTES)?,
        block_cache_bytes: raw.number(&keys::BLOCK_CACHE_BYTES)?,
        write_buffer_bytes: raw.number(&keys::WRITE_BUFFER_BYTES)?,
    };
    let listeners = [
        (&keys::LOCAL_ADDRESS, Some(config.local_address)),
        (&keys::LOCAL_METRICS_ADDRESS, config.local_metrics_address),
        (&keys::LOCAL_HTTP_ADDRESS, config.local_http_address),
        (&keys::LOCAL_LINE_ADDRESS, config.local_line_address),
        (&keys::LOCAL_REDIS_ADDRESS, config.local_redis_address),
    ];
    for (key, is_given, needed) in [
        (&keys::AUDIT_FILE, config.audit_file.is_some(), config.authorization),
        (&keys::AUDIT_WRITES, config.audit_writes, config.audit_file.is_some()),
    ] {
        if is_given && !needed {
            let needs = if key.name == keys::AUDIT_FILE.name { "authorization: true" } else { "audit_file" };
            return Err(raw.required(key)?.refused(format!("it with {needs}, or leave it out")));
        }
    }
    let is_reached = |(_, address): &(&Key, Option<LocalAddress>)| address.is_some_and(|it| !it.is_loopback());
    if config.authorization && config.tls.is_none() && listeners.iter().any(is_reached) {
        let accepted = "tls_certificate, tls_key and tls_ca too, since the node listens beyond loopback, or false";
        return Err(raw.required(&keys::AUTHORIZATION)?.refused(accepted));
    }
    if config.authorization && config.insecure && listeners.iter().any(is_reached) {
        let accepted = "false with authorization: true, since the node listens beyond loopback and would take tokens in plain text";
        return Err(raw.required(&keys::INSECURE)?.refused(accepted));
    }
    for (index, (key, address)) in listeners.iter().enumerate() {
        let taken = |(_, earlier): &&(&Key, Option<LocalAddress>)| address.is_some() && earlier == address;
        if let Some((owner, _)) = listeners[..index].iter().find(taken) {
            let given = raw.required(key)?;
            let owner = format!("the node itself ({})", owner.name);
            return Err(given.error(Problem::AddressTaken { address: given.text.clone(), owner }));
        }
    }
    let remote_http_address = raw.optional(&keys::REMOTE_HTTP_ADDRESS)?.map(|given| given.place);
    let is_exposed =
        |(_, address): &&(&Key, Option<LocalAddress>)| address.is_some_and(|address| !address.is_loopback());
    let exposed = match listeners.iter().find(is_exposed) {
        Some((key, Some(address))) if !config.is_protected() => {
            Some((raw.required(key)?.place, Problem::Exposed { address: address.to_string() }))
        }
        _ => None,
    };
    Ok((config, Places { id: id.place, local_address: listens_on.place, exposed, remote_http_address }))
}

/// The keys of the file and the variables that override them, not validated yet.
struct Raw<'a> {
    mapping: Mapping<'a>,
    /// By the name of the key that each overrides.
    variables: BTreeMap<&'static str, Variable>,
}

/// An environment variable that overrides a key.
struct Variable {
    name: String,
    value: OsString,
}

impl Raw<'_> {
    fn optional(&self, key: &Key) -> Result<Option<Given>, ConfigError> {
        let accepted = key.kind.accepted();
        if let Some(variable) = self.variables.get(key.name) {
            let place = Place::Variable { name: variable.name.clone() };
            return match variable.value.to_str() {
                Some(text) => Ok(Some(Given { text: text.to_owned(), place })),
                None => Err(ConfigError { place, problem: Problem::NotUtf8 { accepted: accepted.into_owned() } }),
            };
        }
        self.mapping.entry(key.name).map(|entry| self.mapping.given(entry, &accepted)).transpose()
    }

    fn required(&self, key: &Key) -> Result<Given, ConfigError> {
        let given = self.optional(key)?;
        given.ok_or_else(|| self.mapping.missing(key.name, &key.kind.accepted(), Some(key.variable())))
    }

    /// An address on which the node may listen. An empty variable takes back what the file says.
    fn optional_address(&self, key: &Key) -> Result<Option<LocalAddress>, ConfigError> {
        match self.optional(key)? {
            Some(given) if given.text.is_empty() && matches!(given.place, Place::Variable { .. }) => Ok(None),
            Some(given) => local_address(&given).map(Some),
            None => Ok(None),
        }
    }

    /// The collector of traces. An empty variable takes back what the file says.
    fn collector(&self) -> Result<Option<String>, ConfigError> {
        let key = &keys::TRACES_ENDPOINT;
        let Some(given) = self.optional(key)? else { return Ok(None) };
        if given.text.is_empty() && matches!(given.place, Place::Variable { .. }) {
            return Ok(None);
        }
        let address = given.text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let address = address.and_then(RemoteAddress::parse).map(|address| format!("http://{address}"));
        let refused = || {
            let advice = ": run a collector beside the node, which passes traces on with TLS";
            let advice = if given.text.starts_with("https://") { advice } else { "" };
            given.refused(format!("{}{advice}", key.kind.accepted()))
        };
        address.map(Some).ok_or_else(refused)
    }

    /// The value of a key that may be left out, which `parse` reads.
    fn optional_as<T>(&self, key: &Key, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ConfigError> {
        let Some(given) = self.optional(key)? else { return Ok(None) };
        parse(&given.text).map(Some).ok_or_else(|| given.refused(key.kind.accepted()))
    }

    /// The files of TLS: all three, or none.
    fn tls(&self) -> Result<Option<TlsPaths>, ConfigError> {
        let all = [&keys::TLS_CERTIFICATE, &keys::TLS_KEY, &keys::TLS_CA];
        let mut paths = Vec::new();
        let mut missing = None;
        for key in all {
            match self.optional(key)? {
                // An empty variable takes back what the file says.
                Some(given) if given.text.is_empty() && matches!(given.place, Place::Variable { .. }) => {
                    missing = Some(key);
                }
                Some(given) => paths.push(path(&given, key)?),
                None => missing = Some(key),
            }
        }
        match (<[PathBuf; 3]>::try_from(paths), missing) {
            (Ok([certificate, key, ca]), _) => Ok(Some(TlsPaths { certificate, key, ca })),
            (Err(some), Some(missing)) if !some.is_empty() => {
                let accepted =
                    format!("{}, since TLS needs tls_certificate, tls_key and tls_ca", missing.kind.accepted());
                Err(self.mapping.missing(missing.name, &accepted, Some(missing.variable())))
            }
            (Err(_), _) => Ok(None),
        }
    }

    /// One of the texts of a key that is a choice.
    fn choice(&self, key: &Key) -> Result<&'static str, ConfigError> {
        let (Kind::Choice(values), Fallback::Text(default)) = (key.kind, key.default) else {
            unreachable!("{} is no choice with a default", key.name);
        };
        let Some(given) = self.optional(key)? else {
            return Ok(default);
        };
        let value = values.iter().find(|value| **value == given.text);
        value.copied().ok_or_else(|| given.refused(key.kind.accepted()))
    }

    fn number(&self, key: &Key) -> Result<usize, ConfigError> {
        let Fallback::Number(default) = key.default else { unreachable!("{} has no default", key.name) };
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    fn optional_number(&self, key: &Key) -> Result<Option<usize>, ConfigError> {
        let (Kind::Count { min, max } | Kind::Bytes { min, max }) = key.kind else {
            unreachable!("{} is no number", key.name);
        };
        self.optional(key)?.map(|given| given.whole_number(min, max, key.kind.accepted())).transpose()
    }
}

/// The variables of `environment` that override keys, by the name of the key.
fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<&'static str, Variable>, ConfigError> {
    let mut variables = BTreeMap::new();
    let mut service_links = Vec::new();
    for (name, value) in environment {
        let name = name.to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else {
            continue;
        };
        if let Some(key) = NODE_KEYS.iter().find(|key| key.variable() == name) {
            variables.insert(key.name, Variable { name, value });
        } else if value.to_str().is_some_and(|value| is_service_link(rest, value)) {
            service_links.push(name);
        } else {
            let nearest = nearest(rest, NODE_KEYS.iter().map(|key| key.name));
            let nearest = NODE_KEYS.iter().find(|key| Some(key.name) == nearest).map(|key| key.variable());
            let accepted = NODE_KEYS.iter().map(|key| key.variable()).collect();
            let problem = Problem::UnknownVariable { nearest, accepted };
            return Err(ConfigError { place: Place::Variable { name }, problem });
        }
    }
    if !service_links.is_empty() {
        let variables = service_links.join(", ");
        tracing::info!(%variables, "ignored environment variables that Kubernetes sets for a Service of this name");
    }
    Ok(variables)
}

fn local_address(given: &Given) -> Result<LocalAddress, ConfigError> {
    LocalAddress::parse(&given.text).ok_or_else(|| given.refused(Kind::LocalAddress.accepted()))
}

/// The table of this name.
fn named_table(text: &str) -> Option<Table> {
    Table::parse(text).ok().filter(|_| !text.is_empty())
}

/// The parts of a list, each read by `part`.
fn listed(text: &str, part: fn(&str) -> Option<String>) -> Option<Vec<String>> {
    text.split(',').map(|given| part(given.trim())).collect()
}

/// A host name, in lower case and without the dot that ends a full name.
fn host(text: &str) -> Option<String> {
    // The parser of addresses knows what a host is.
    let address = RemoteAddress::parse(&format!("{text}:1"))?;
    Some(address.host().trim_end_matches('.').to_owned())
}

/// An origin as browsers send it: in lower case, without a path.
fn origin(text: &str) -> Option<String> {
    let (scheme, host) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let has_host = RemoteAddress::parse(host).or_else(|| RemoteAddress::parse(&format!("{host}:1"))).is_some();
    (is_scheme && has_host).then(|| text.to_ascii_lowercase())
}

fn path(given: &Given, key: &Key) -> Result<PathBuf, ConfigError> {
    // A shell would have replaced these. As they are, they would become folders of these names.
    let unexpanded = shell_syntax(&given.text);
    if given.text.is_empty() || given.text.contains('\0') || unexpanded.is_some() {
        let accepted = match given.place {
            Place::File { .. } => key.kind.accepted(),
            Place::Variable { .. } => {
                let what = if matches!(key.kind, Kind::Folder) { "folder" } else { "file" };
                format!("the path of a {what}, absolute or relative to the working directory").into()
            }
        };
        let hint = unexpanded.map(|syntax| format!(" ({syntax} is not expanded: write the path itself)"));
        return Err(given.refused(format!("{accepted}{}", hint.unwrap_or_default())));
    }
    let path = match &given.place {
        Place::File { file, .. } => file.parent().unwrap_or(Path::new("")).join(&given.text),
        Place::Variable { .. } => PathBuf::from(&given.text),
    };
    // Without `.` components, so that a log shows data/1 and not examples/./data/1.
    let plain: PathBuf = path.components().filter(|component| *component != Component::CurDir).collect();
    Ok(if plain.as_os_str().is_empty() { PathBuf::from(".") } else { plain })
}

/// The part of a path that a shell would replace: `~` at its beginning, or `$` before a name, a brace or a parenthesis.
fn shell_syntax(path: &str) -> Option<&str> {
    if path.starts_with('~') {
        return Some(path.split('/').next().unwrap_or(path));
    }
    path.match_indices('$').map(|(at, _)| &path[at..]).find_map(|rest| {
        let first = rest[1..].chars().next()?;
        match first {
            '{' => Some(&rest[..rest.find('}').map_or(rest.len(), |end| end + 1)]),
            '(' => Some(&rest[..rest.find(')').map_or(rest.len(), |end| end + 1)]),
            'A'..='Z' | 'a'..='z' | '_' => {
                let end = rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                Some(&rest[..end.map_or(rest.len(), |end| end + 1)])
            }
            _ => None,
        }
    })
}
