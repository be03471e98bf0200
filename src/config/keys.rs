//! Every key of node.yml and cluster.yml, in one table. The parser takes names, defaults and bounds from it, and
//! `quorate config reference` prints it, so that the page says what the parser does.

use std::borrow::Cow;

use super::address::{LOCAL_ACCEPTED, REMOTE_ACCEPTED};
use crate::limits::{
    self, BLOCK_CACHE_BYTES_DEFAULT, EPOCH_FLOOR_MAX, MESSAGE_BYTES_MAX, RECORD_CACHE_BYTES_DEFAULT,
    REPAIR_BYTES_PER_SECOND_DEFAULT, REPAIR_KEYS_PER_SECOND_DEFAULT, REPLICA_COUNT_MAX,
    REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT, REQUESTS_IN_FLIGHT_MAX_DEFAULT, SCRUB_BYTES_PER_SECOND_DEFAULT,
    SCRUB_EVERY_SECONDS_DEFAULT, TAKEOVER_BYTES_PER_SECOND_DEFAULT, TAKEOVER_KEYS_PER_SECOND_DEFAULT,
    TOMBSTONES_KEPT_FOR_SECONDS_DEFAULT, WRITE_BUFFER_BYTES_DEFAULT,
};
use crate::types::{NODE_ID_BYTES_MAX, TABLE_NAME_BYTES_MAX, Weight, ZONE_BYTES_MAX};

/// The first part of the environment variables that override keys of node.yml.
pub const VARIABLE_PREFIX: &str = "QUORATE_NODE_";

/// More requests would only wait for each other. The bound catches a number of bytes in the place of a number of requests.
const REQUESTS_MAX: usize = 1 << 20;
/// No node does more. The bound catches typing errors.
const REQUEST_RATE_MAX: usize = 100_000_000;
/// No node repairs more. The bound catches typing errors.
const REPAIR_KEYS_MAX: usize = 1_000_000;
/// The largest value takes ten minutes.
const REPAIR_BYTES_MIN: usize = 64 << 10;
/// A month. The bound catches typing errors.
const TOMBSTONES_KEPT_FOR_MAX: usize = 31 * 24 * 3_600;
/// A year. The bound catches typing errors.
const SCRUB_EVERY_MAX: usize = 365 * 24 * 3_600;
/// A cache or buffer below one MiB cannot hold one block of each kind.
const MEMORY_BYTES_MIN: usize = 1 << 20;
/// No known machine has more memory. The bound catches typing errors.
const MEMORY_BYTES_MAX: usize = 1 << 40;

/// The longest name of a cluster. It is in every certificate.
pub(super) const CLUSTER_NAME_BYTES_MAX: usize = 64;

/// [`EPOCH_FLOOR_MAX`] as a number of a file.
#[allow(clippy::cast_possible_truncation, reason = "nodes run on machines of 64 bits")]
const EPOCH_FLOOR_GIVEN_MAX: usize = EPOCH_FLOOR_MAX as usize;

/// A key of node.yml or cluster.yml.
#[derive(Debug)]
pub(super) struct Key {
    /// The key's own name, without those above it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Fallback,
    pub(super) change: Change,
    /// A paragraph for the reference.
    pub(super) about: &'static str,
}

/// The type and range of a key's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    NodeId,
    LocalAddress,
    RemoteAddress,
    /// A path.
    Folder,
    /// The path of a file.
    File,
    /// The name of a cluster.
    Name,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A whole number of things.
    Count {
        min: usize,
        max: usize,
    },
    /// A whole number of bytes.
    Bytes {
        min: usize,
        max: usize,
    },
    /// A mapping of node ids to mappings of keys.
    Nodes,
    /// A number with two decimals at most.
    Weight,
    /// The name of a zone.
    Zone,
    /// The name of a table.
    Table,
    /// Host names, separated by commas.
    Hosts,
    /// Origins of web pages, separated by commas.
    Origins,
    /// The URL of a collector of traces.
    Collector,
    /// A part of all.
    Fraction,
}

/// The value of a key that is not given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fallback {
    /// The key must be given.
    Required,
    /// No value; the text says what follows from it.
    None(&'static str),
    /// This text, as if it stood in the file.
    Text(&'static str),
    /// This number, as if it stood in the file.
    Number(usize),
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// When the node is told to read its configuration again.
    Reload,
    /// When the node starts again.
    Restart,
    /// When every node starts again with the same changed file.
    RestartAll,
    /// When members change: until then a bootstrapped node goes on with what the cluster has.
    Members,
    /// Never: the data folder remembers the value, and a node with another value is refused.
    Fixed,
}

impl Kind {
    /// The accepted values, as an error says it.
    pub(super) fn accepted(self) -> Cow<'static, str> {
        match self {
            Self::NodeId => {
                format!("1 to {NODE_ID_BYTES_MAX} printable ASCII characters without spaces and commas, such as \"1\"")
                    .into()
            }
            Self::LocalAddress => LOCAL_ACCEPTED.into(),
            Self::RemoteAddress => REMOTE_ACCEPTED.into(),
            Self::Folder => "the path of a folder, absolute or relative to this file, such as ./data/1".into(),
            Self::File => "the path of a file, absolute or relative to this file, such as ./node-1.crt".into(),
            Self::Name => {
                format!("1 to {CLUSTER_NAME_BYTES_MAX} letters, digits, dots, hyphens and underscores, such as prod").into()
            }
            Self::Choice(values) => values.join(" or ").into(),
            Self::Count { min, max } | Self::Bytes { min, max } => format!("a whole number from {min} to {max}").into(),
            Self::Table => format!(
                "the name of a table: 1 to {TABLE_NAME_BYTES_MAX} bytes without spaces, control characters and slashes"
            )
            .into(),
            Self::Hosts => "host names without ports, separated by commas, such as \"db.example,db-1.example\"".into(),
            Self::Origins => {
                "origins, separated by commas, each SCHEME://HOST or SCHEME://HOST:PORT, such as \"https://app.example\""
                    .into()
            }
            Self::Weight => format!(
                "a number from {} to {} with at most two decimals, such as 2 or 0.5",
                Weight::MIN,
                Weight::MAX
            )
            .into(),
            Self::Zone => {
                format!("1 to {ZONE_BYTES_MAX} printable ASCII characters without spaces and commas, such as b").into()
            }
            Self::Collector => "http://HOST:PORT, such as http://127.0.0.1:4317".into(),
            Self::Fraction => "a number from 0 to 1, such as 0.01".into(),
            Self::Nodes => "a mapping of node ids, each as ID: { remote_address: HOST:PORT }".into(),
        }
    }
}

impl Key {
    /// The environment variable that overrides this key of node.yml.
    pub(super) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.to_ascii_uppercase())
    }
}

pub(super) const ID: Key = Key {
    name: "id",
    kind: Kind::NodeId,
    default: Fallback::Required,
    change: Change::Fixed,
    about: "The node's id: one of the ids in cluster.yml. It is a text: `1` and `01` are two ids.",
};

pub(super) const LOCAL_ADDRESS: Key = Key {
    name: "local_address",
    kind: Kind::LocalAddress,
    default: Fallback::Required,
    change: Change::Restart,
    about: "The address on which the node listens for clients and for the other nodes. An address beyond loopback needs \
            `tls_certificate`, or `insecure: true`.",
};

pub(super) const LOCAL_METRICS_ADDRESS: Key = Key {
    name: "local_metrics_address",
    kind: Kind::LocalAddress,
    default: Fallback::None("no metrics and no probes"),
    change: Change::Restart,
    about: "The address on which the node serves `/metrics`, `/livez`, `/readyz` and a status page over HTTP. It must differ \
            from `local_address`. An empty environment variable turns all of them off.",
};

pub(super) const LOCAL_HTTP_ADDRESS: Key = Key {
    name: "local_http_address",
    kind: Kind::LocalAddress,
    default: Fallback::None("no HTTP for clients"),
    change: Change::Restart,
    about: "The address on which the node serves keys and values over HTTP/1.1 and HTTP/2: [http.md](http.md). With \
            `tls_certificate` they are HTTPS. An empty environment variable turns HTTP off.",
};

pub(super) const REMOTE_HTTP_ADDRESS: Key = Key {
    name: "remote_http_address",
    kind: Kind::RemoteAddress,
    default: Fallback::None("no other than the host of `remote_address` and the port of `local_http_address`"),
    change: Change::Restart,
    about: "The address at which others reach the node over HTTP. The node tells it to the other nodes, and each of them \
            tells it to its clients.",
};

pub(super) const HTTP_HOSTS: Key = Key {
    name: "http_hosts",
    kind: Kind::Hosts,
    default: Fallback::None("no restriction, except on loopback"),
    change: Change::Restart,
    about: "The names that HTTP requests may name in `Host`. `localhost` and IP addresses are always accepted. On loopback \
            they are the only ones unless this key is given, so that no web page reaches the node by a name of its own.",
};

pub(super) const HTTP_CORS_ORIGINS: Key = Key {
    name: "http_cors_origins",
    kind: Kind::Origins,
    default: Fallback::None("no pages of other origins"),
    change: Change::Restart,
    about: "The origins whose web pages may read and write over HTTP. Requests that a browser sends for pages of other \
            origins are refused, apart from reads, whose answers the browser keeps from the page.",
};

pub(super) const LOCAL_LINE_ADDRESS: Key = Key {
    name: "local_line_address",
    kind: Kind::LocalAddress,
    default: Fallback::None("no line protocol"),
    change: Change::Restart,
    about: "The address on which the node serves the line protocol: [lines.md](lines.md). With `tls_certificate` it is \
            served over TLS alone. An empty environment variable turns it off.",
};

pub(super) const LOCAL_REDIS_ADDRESS: Key = Key {
    name: "local_redis_address",
    kind: Kind::LocalAddress,
    default: Fallback::None("no Redis protocol"),
    change: Change::Restart,
    about: "The address on which the node serves the Redis protocol: [redis.md](redis.md). With `tls_certificate` \
            it is served over TLS alone. An empty environment variable turns it off.",
};

pub(super) const REDIS_TABLE: Key = Key {
    name: "redis_table",
    kind: Kind::Table,
    default: Fallback::Text("default"),
    change: Change::Restart,
    about: "The table whose keys are served on `local_redis_address`: `default`, or one that `quorate tables create` makes, \
            before or after the node starts.",
};

pub(super) const TLS_CERTIFICATE: Key = Key {
    name: "tls_certificate",
    kind: Kind::File,
    default: Fallback::None("no TLS"),
    change: Change::Restart,
    about: "The node's certificate in PEM, and after it those between it and its CA, if there are any. All listeners of the node \
            then speak TLS alone, and nodes believe each other by certificate: [security.md](security.md). It needs the URI \
            `quorate://NAME/node/ID` among its subject alternative names, with `cluster.name` and `node.id`. The node looks at \
            this file, `tls_key` and `tls_ca` every 2 seconds, and reads them again when they have changed. A relative path is \
            taken as that of `data_dir`.",
};

pub(super) const TLS_KEY: Key = Key {
    name: "tls_key",
    kind: Kind::File,
    default: Fallback::None("no value; it must be given with `tls_certificate`"),
    change: Change::Restart,
    about: "The private key of `tls_certificate` in PEM, without a password: RSA of 2,048 bits or more, ECDSA or Ed25519.",
};

pub(super) const TLS_CA: Key = Key {
    name: "tls_ca",
    kind: Kind::File,
    default: Fallback::None("no value; it must be given with `tls_certificate`"),
    change: Change::Restart,
    about: "The certificates of the CAs that the node believes, in PEM: one or several, for nodes and for clients. Two of them \
            let one follow the other: [security.md](security.md#another-ca).",
};

pub(super) const TLS_CLIENT_CERTIFICATES: Key = Key {
    name: "tls_client_certificates",
    kind: Kind::Choice(&["optional", "required"]),
    default: Fallback::Text("optional"),
    change: Change::Restart,
    about: "Whether a client must have a certificate of `tls_ca`. Nodes must have one in any case. With `optional`, a client \
            without a certificate is served.",
};

pub(super) const INSECURE: Key = Key {
    name: "insecure",
    kind: Kind::Choice(&["true", "false"]),
    default: Fallback::Text("false"),
    change: Change::Restart,
    about: "With `true`, a node without TLS may listen beyond loopback, and a node with TLS also takes and makes connections \
            without it. **Everybody who reaches the node can then read and write every key, and pose as a node.** It is for \
            networks that are trusted as a whole, and for the steps to TLS: [security.md](security.md#from-plain-text-to-tls).",
};

pub(super) const AUTHORIZATION: Key = Key {
    name: "authorization",
    kind: Kind::Choice(&["true", "false"]),
    default: Fallback::Text("false"),
    change: Change::Restart,
    about: "With `true`, the node asks who calls, on every listener, and does what the caller's token or client certificate has \
            rights to: [security.md](security.md#who-may-do-what). Beyond loopback it needs `tls_certificate`, and no \
            `insecure: true`: tokens would be read on their way. Give all nodes the same: one without it serves everybody.",
};

pub(super) const AUDIT_FILE: Key = Key {
    name: "audit_file",
    kind: Kind::File,
    default: Fallback::None("no audit"),
    change: Change::Restart,
    about: "A file with a line of JSON for each action of operators and administrators; FILE.refused has one for each refused \
            request. It needs `authorization`. At 64 MiB it becomes FILE.1, and four such files are kept. A relative path is \
            taken as that of `data_dir`.",
};

pub(super) const AUDIT_WRITES: Key = Key {
    name: "audit_writes",
    kind: Kind::Choice(&["true", "false"]),
    default: Fallback::Text("false"),
    change: Change::Restart,
    about: "With `true`, `audit_file` has a line for each write of a key too, without its value.",
};

pub(super) const TRACES_ENDPOINT: Key = Key {
    name: "traces_endpoint",
    kind: Kind::Collector,
    default: Fallback::None("no traces"),
    change: Change::Restart,
    about: "A collector of OpenTelemetry, to which the node sends traces by OTLP over gRPC: \
            [operations.md](operations.md#traces). It is reached without TLS, so run one on the same machine, which passes them \
            on. An empty environment variable turns traces off.",
};

pub(super) const TRACES_SAMPLED: Key = Key {
    name: "traces_sampled",
    kind: Kind::Fraction,
    default: Fallback::Text("0.01"),
    change: Change::Restart,
    about: "The share of the requests that the node traces, of those whose callers name no span of their own. A caller that does \
            has decided already. It matters with `traces_endpoint` alone.",
};

pub(super) const DATA_DIR: Key = Key {
    name: "data_dir",
    kind: Kind::Folder,
    default: Fallback::Required,
    change: Change::Restart,
    about: "The node's data folder. The node creates it at its first start. A relative path in the file is relative to \
            the file's folder; in the variable, to the working directory. Neither `~` nor `$` is expanded. To move the \
            folder, stop the node, move the whole folder, and change this key: a node that starts on an empty folder is \
            refused by its peers.",
};

pub(super) const DURABILITY: Key = Key {
    name: "durability",
    kind: Kind::Choice(&["fsync", "os"]),
    default: Fallback::Text("fsync"),
    change: Change::Restart,
    about: "When the node acknowledges a write. With `fsync` it does so after the disk has the write, which then \
            outlives a loss of power. With `os` it does so after the operating system has the write, which outlives a \
            crash of the process alone. **With `os`, a loss of power on a majority of a key's replicas loses \
            acknowledged writes.**",
};

pub(super) const OPERATOR_WRITES: Key = Key {
    name: "operator_writes",
    kind: Kind::Choice(&["true", "false"]),
    default: Fallback::Text("false"),
    change: Change::Restart,
    about: "Whether the node accepts `Node/Set` and `Clock/Set`. These methods write to this node alone and bypass the \
            quorum: they are for experiments.",
};

pub(super) const REQUESTS_IN_FLIGHT_MAX: Key = Key {
    name: "requests_in_flight_max",
    kind: Kind::Count { min: 1, max: REQUESTS_MAX },
    default: Fallback::Number(REQUESTS_IN_FLIGHT_MAX_DEFAULT),
    change: Change::Restart,
    about: "The most client requests that the node works on at once. It refuses further ones with RESOURCE_EXHAUSTED.",
};

pub(super) const REQUEST_BYTES_IN_FLIGHT_MAX: Key = Key {
    name: "request_bytes_in_flight_max",
    // At least one message of the largest size, so that every request can be admitted.
    kind: Kind::Bytes { min: MESSAGE_BYTES_MAX, max: MEMORY_BYTES_MAX },
    default: Fallback::Number(REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT),
    change: Change::Restart,
    about: "The most bytes of keys and values that client requests hold in the node at once. It refuses further requests \
            with RESOURCE_EXHAUSTED.",
};

pub(super) const CONNECTIONS_MAX: Key = Key {
    name: "connections_max",
    kind: Kind::Count { min: 8, max: limits::CONNECTIONS_MAX },
    default: Fallback::None("no fixed number: as many as the limit of open files leaves room for, and 16384 at most"),
    change: Change::Restart,
    about: "The most connections of clients and peers. HTTP, lines and the Redis protocol have half of them at most. The node \
            closes further ones at once. Metrics and probes have places of their own.",
};

pub(super) const CONNECTIONS_PER_ADDRESS_MAX: Key = Key {
    name: "connections_per_address_max",
    kind: Kind::Count { min: 1, max: limits::CONNECTIONS_MAX },
    default: Fallback::None("no fixed number: half of what the other addresses leave"),
    change: Change::Restart,
    about: "The most connections from one address; of IPv6, from one network of 64 bits. The node closes further ones at once. \
            Without a number, there are always places for other addresses: [security.md](security.md#limits). Give one where \
            all clients come from one address, such as that of a proxy.",
};

pub(super) const REQUESTS_IN_FLIGHT_PER_CLIENT_MAX: Key = Key {
    name: "requests_in_flight_per_client_max",
    kind: Kind::Count { min: 1, max: REQUESTS_MAX },
    default: Fallback::None("no fixed number: half of what the other clients leave"),
    change: Change::Restart,
    about: "The most requests of one client in flight at the node. It refuses further ones with RESOURCE_EXHAUSTED. A \
            client is whoever has one token or one certificate, where the node asks who calls, and else all that come from one \
            address. Without a number, there are always places for other clients: [security.md](security.md#limits).",
};

pub(super) const REQUESTS_PER_SECOND_PER_CLIENT_MAX: Key = Key {
    name: "requests_per_second_per_client_max",
    kind: Kind::Count { min: 1, max: REQUEST_RATE_MAX },
    default: Fallback::None("no limit"),
    change: Change::Restart,
    about: "The most reads and writes of one client in a second, on average: as many as that may come at once. A batch counts as \
            its parts. The node refuses further ones with RESOURCE_EXHAUSTED.",
};

pub(super) const REPAIR_KEYS_PER_SECOND: Key = Key {
    name: "repair_keys_per_second",
    kind: Kind::Count { min: 0, max: REPAIR_KEYS_MAX },
    default: Fallback::Number(REPAIR_KEYS_PER_SECOND_DEFAULT),
    change: Change::Reload,
    about: "The most keys that the node repairs in a second: [operations.md](operations.md#repair). With 0 it repairs none, \
            and compares its records with no other node.",
};

pub(super) const REPAIR_BYTES_PER_SECOND: Key = Key {
    name: "repair_bytes_per_second",
    kind: Kind::Bytes { min: REPAIR_BYTES_MIN, max: MEMORY_BYTES_MAX },
    default: Fallback::Number(REPAIR_BYTES_PER_SECOND_DEFAULT),
    change: Change::Reload,
    about: "The most bytes of comparisons and values that the node's repair sends and asks for in a second, about.",
};

pub(super) const TAKEOVER_KEYS_PER_SECOND: Key = Key {
    name: "takeover_keys_per_second",
    // A node that takes nothing over would keep a change of members from its end.
    kind: Kind::Count { min: 1, max: REPAIR_KEYS_MAX },
    default: Fallback::Number(TAKEOVER_KEYS_PER_SECOND_DEFAULT),
    change: Change::Reload,
    about: "The most keys that the node copies in a second of slots that it gains, while members change: \
            [members.md](members.md#how-fast-it-goes).",
};

pub(super) const TAKEOVER_BYTES_PER_SECOND: Key = Key {
    name: "takeover_bytes_per_second",
    kind: Kind::Bytes { min: REPAIR_BYTES_MIN, max: MEMORY_BYTES_MAX },
    default: Fallback::Number(TAKEOVER_BYTES_PER_SECOND_DEFAULT),
    change: Change::Reload,
    about: "The most bytes of keys and values that the node copies in a second of slots that it gains, about.",
};

pub(super) const TOMBSTONES_KEPT_FOR_SECONDS: Key = Key {
    name: "tombstones_kept_for_seconds",
    kind: Kind::Count { min: 1, max: TOMBSTONES_KEPT_FOR_MAX },
    default: Fallback::Number(TOMBSTONES_KEPT_FOR_SECONDS_DEFAULT),
    change: Change::Reload,
    about: "How long the node remembers that a key was deleted, at least about: [operations.md](operations.md#deletions-that-go). \
            A tenth of it is the longest that a write should be on its way: one that takes longer may end with an unknown \
            outcome. Where repair is off, deletions are remembered for good.",
};

pub(super) const DISK_RESERVE_BYTES: Key = Key {
    name: "disk_reserve_bytes",
    kind: Kind::Bytes { min: 0, max: MEMORY_BYTES_MAX },
    default: Fallback::None("no fixed number: a twentieth of the disk, and 1 GiB at most"),
    change: Change::Reload,
    about: "Below so much free space on the disk of its data folder, the node takes no copies of records from other nodes, and \
            reports `DEGRADED`. It still takes the writes of clients: deleting needs space, too.",
};

pub(super) const SCRUB_BYTES_PER_SECOND: Key = Key {
    name: "scrub_bytes_per_second",
    kind: Kind::Bytes { min: REPAIR_BYTES_MIN, max: MEMORY_BYTES_MAX },
    default: Fallback::Number(SCRUB_BYTES_PER_SECOND_DEFAULT),
    change: Change::Reload,
    about: "The most bytes of keys and values that the node reads from its disk in a second, to verify them: \
            [operations.md](operations.md#scrub).",
};

pub(super) const SCRUB_EVERY_SECONDS: Key = Key {
    name: "scrub_every_seconds",
    kind: Kind::Count { min: 0, max: SCRUB_EVERY_MAX },
    default: Fallback::Number(SCRUB_EVERY_SECONDS_DEFAULT),
    change: Change::Reload,
    about: "How often the node reads and verifies its whole store by itself: 30 days, or up to a quarter earlier, so that not all \
            nodes read at once. With 0 it does so only when `quorate repair --scrub` orders it.",
};

pub(super) const REPLACE_DAMAGED: Key = Key {
    name: "replace_damaged",
    kind: Kind::Choice(&["true", "false"]),
    default: Fallback::Text("true"),
    change: Change::Reload,
    about: "Whether the node, once its store is damaged, sets it aside and takes its own place again with a fresh one, as \
            `quorate members replace` does: [operations.md](operations.md#damaged-files). It does so only where the other nodes \
            have all that is needed. Until somebody replaces it, each key that is damaged tolerates one failure less.",
};

pub(super) const STATUS_PAGE_KEYS: Key = Key {
    name: "status_page_keys",
    kind: Kind::Choice(&["true", "false"]),
    default: Fallback::Text("false"),
    change: Change::Restart,
    about: "Whether the [status page](operations.md#the-status-page) shows keys: those of the slowest operations, and those that \
            requests name most often, by a sample of one in 16. Whoever may see the page sees them then. Values are never shown.",
};

pub(super) const RECORD_CACHE_BYTES: Key = Key {
    name: "record_cache_bytes",
    kind: Kind::Bytes { min: MEMORY_BYTES_MIN, max: MEMORY_BYTES_MAX },
    default: Fallback::Number(RECORD_CACHE_BYTES_DEFAULT),
    change: Change::Restart,
    about: "The memory for records that were written or read last.",
};

pub(super) const BLOCK_CACHE_BYTES: Key = Key {
    name: "block_cache_bytes",
    kind: Kind::Bytes { min: MEMORY_BYTES_MIN, max: MEMORY_BYTES_MAX },
    default: Fallback::Number(BLOCK_CACHE_BYTES_DEFAULT),
    change: Change::Restart,
    about: "The memory for RocksDB's cache of uncompressed blocks, which includes indexes and filters.",
};

pub(super) const WRITE_BUFFER_BYTES: Key = Key {
    name: "write_buffer_bytes",
    kind: Kind::Bytes { min: MEMORY_BYTES_MIN, max: MEMORY_BYTES_MAX },
    default: Fallback::Number(WRITE_BUFFER_BYTES_DEFAULT),
    change: Change::Restart,
    about: "The memory for RocksDB's write buffers. RocksDB flushes them to disk when they are full.",
};

/// Every key below `node` in node.yml, in the order of the examples.
pub(super) const NODE_KEYS: [&Key; 42] = [
    &ID,
    &LOCAL_ADDRESS,
    &LOCAL_METRICS_ADDRESS,
    &LOCAL_HTTP_ADDRESS,
    &REMOTE_HTTP_ADDRESS,
    &HTTP_HOSTS,
    &HTTP_CORS_ORIGINS,
    &LOCAL_LINE_ADDRESS,
    &LOCAL_REDIS_ADDRESS,
    &REDIS_TABLE,
    &TLS_CERTIFICATE,
    &TLS_KEY,
    &TLS_CA,
    &TLS_CLIENT_CERTIFICATES,
    &INSECURE,
    &AUTHORIZATION,
    &AUDIT_FILE,
    &AUDIT_WRITES,
    &TRACES_ENDPOINT,
    &TRACES_SAMPLED,
    &DATA_DIR,
    &DURABILITY,
    &OPERATOR_WRITES,
    &REQUESTS_IN_FLIGHT_MAX,
    &REQUEST_BYTES_IN_FLIGHT_MAX,
    &CONNECTIONS_MAX,
    &CONNECTIONS_PER_ADDRESS_MAX,
    &REQUESTS_IN_FLIGHT_PER_CLIENT_MAX,
    &REQUESTS_PER_SECOND_PER_CLIENT_MAX,
    &REPAIR_KEYS_PER_SECOND,
    &REPAIR_BYTES_PER_SECOND,
    &TAKEOVER_KEYS_PER_SECOND,
    &TAKEOVER_BYTES_PER_SECOND,
    &TOMBSTONES_KEPT_FOR_SECONDS,
    &DISK_RESERVE_BYTES,
    &SCRUB_BYTES_PER_SECOND,
    &SCRUB_EVERY_SECONDS,
    &REPLACE_DAMAGED,
    &STATUS_PAGE_KEYS,
    &RECORD_CACHE_BYTES,
    &BLOCK_CACHE_BYTES,
    &WRITE_BUFFER_BYTES,
];

pub(super) const SEED: Key = Key {
    name: "seed",
    kind: Kind::Count { min: 0, max: u32::MAX as usize },
    default: Fallback::Required,
    change: Change::Fixed,
    about: "The seed of every hash that decides which nodes hold a key. Give each cluster a number of its own: versions and \
            cursors of two clusters of one seed cannot be told apart.",
};

pub(super) const REPLICA_COUNT: Key = Key {
    name: "replica_count",
    kind: Kind::Count { min: 1, max: REPLICA_COUNT_MAX },
    default: Fallback::Required,
    change: Change::Members,
    about: "The number of nodes that hold each key, at most the number of nodes. A majority of them must answer: with 3 \
            one of them may be down, with 5 two.",
};

pub(super) const EPOCH_FLOOR: Key = Key {
    name: "epoch_floor",
    kind: Kind::Count { min: 0, max: EPOCH_FLOOR_GIVEN_MAX },
    default: Fallback::Number(0),
    change: Change::Fixed,
    about: "The clocks of a new cluster begin above this epoch. Give it to a cluster that is to take over the keys of another \
            one: `quorate backup inspect` prints the number. So no version of the old cluster is given again. A cluster that \
            has started keeps its number.",
};

pub(super) const NODES: Key = Key {
    name: "nodes",
    kind: Kind::Nodes,
    default: Fallback::Required,
    change: Change::Members,
    about: "Every node of the cluster by its id: 1 to 1,024 nodes.",
};

pub(super) const NAME: Key = Key {
    name: "name",
    kind: Kind::Name,
    default: Fallback::Text("quorate"),
    change: Change::RestartAll,
    about: "The name of the cluster in certificates: a node is believed if its certificate has the URI `quorate://NAME/node/ID`. \
            Give each cluster a name of its own where one CA serves several.",
};

pub(super) const DISCOVERY: Key = Key {
    name: "discovery",
    kind: Kind::Choice(&["file", "dns"]),
    default: Fallback::Text("file"),
    change: Change::RestartAll,
    about: "With `dns`, a node that `nodes` does not list may come and add itself: \
            [members.md](members.md#nodes-that-add-themselves). The listed nodes then have ids such as `quorate-0`, and each is \
            reached at its id, followed by the same domain and port for all: `quorate-0.quorate-peers:8001`. With `file`, each node \
            is listed in its own file, and an operator adds it. In both cases names are looked up for each connection.",
};

/// Every key below `cluster` in cluster.yml, in the order of the examples.
pub(super) const CLUSTER_KEYS: [&Key; 6] = [&NAME, &SEED, &REPLICA_COUNT, &EPOCH_FLOOR, &DISCOVERY, &NODES];

pub(super) const REMOTE_ADDRESS: Key = Key {
    name: "remote_address",
    kind: Kind::RemoteAddress,
    default: Fallback::Required,
    change: Change::RestartAll,
    about: "The address at which the other nodes reach the node. No two nodes may have the same address. The address of \
            a node may differ between the files of two nodes, for example behind proxies.",
};

pub(super) const WEIGHT: Key = Key {
    name: "weight",
    kind: Kind::Weight,
    default: Fallback::Text("1"),
    change: Change::Members,
    about: "How much of the data the node holds, compared with the others: a node of weight 2 holds about twice as many slots \
            as one of weight 1. A node holds each slot once, so no weight gives it more than all slots.",
};

pub(super) const ZONE: Key = Key {
    name: "zone",
    kind: Kind::Zone,
    default: Fallback::None("no zone"),
    change: Change::Members,
    about: "Where the node is, such as its rack or room. The replicas of a slot lie in different zones as far as there are \
            enough, and otherwise in each zone about equally many. Give all nodes a zone, or none. With as many zones as \
            `replica_count`, each zone holds all data once: the only node of a zone then holds every slot.",
};

/// Every key of one node below `nodes` in cluster.yml.
pub(super) const CLUSTER_NODE_KEYS: [&Key; 3] = [&REMOTE_ADDRESS, &WEIGHT, &ZONE];
