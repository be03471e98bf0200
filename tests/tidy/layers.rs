//! The layers of `src/`. docs/architecture.md shows the same table.

/// A module and its layer. A module imports only modules of lower layers.
pub const LAYERS: &[(&str, usize)] = &[
    // Words that all share, and the bounds that nodes agree on.
    ("types", 0),
    ("limits", 0),
    ("log_limit", 0),
    ("shares", 0),
    ("metrics", 0),
    ("mutants", 0),
    // Tokens and rights, and the decision who may do what.
    ("auth", 0),
    // Input for tests of parsers; it is in no program.
    ("fuzz", 0),
    // The protocol as pure state machines; generated code and its conversions; files of configuration.
    ("protocol", 1),
    ("api", 1),
    ("wire", 1),
    ("config", 1),
    // Certificates, and who is at the other end of a connection: for clients, links and listeners.
    ("tls", 1),
    // Which requests are traced, and the thread that sends their spans.
    ("traces", 1),
    // The judge of histories, for the command line and for tests.
    ("checker", 1),
    // Addresses of a name, within a limit: the client and the links between nodes both look names up.
    ("resolve", 1),
    // The client library, the store, the links between nodes.
    ("client", 2),
    ("storage", 2),
    ("peer", 2),
    // The event loop: protocol, store and links together.
    ("runtime", 3),
    // Operations as every gateway offers them.
    ("service", 4),
    // The doors: gRPC for clients, HTTP for metrics and probes.
    ("gateway", 5),
    ("admin", 5),
    // Backups, as a client makes them.
    ("backup", 5),
    // A whole node.
    ("server", 6),
    // The command line.
    ("cli", 7),
    ("main", 7),
];

/// Imports within one layer, from and to: the only ones.
pub const SIDEWAYS: &[(&str, &str)] = &[
    // Bounds are stated in the words that they bound.
    ("limits", "types"),
    // Amounts have their defaults there.
    ("shares", "limits"),
    // Rights are about tables and keys.
    ("auth", "types"),
    // A test reads damaged tokens.
    ("auth", "fuzz"),
    // Conversions know what they convert.
    ("wire", "api"),
    ("wire", "protocol"),
    // A connection is secured where it is made.
    ("resolve", "tls"),
    ("main", "cli"),
];

/// What the crate's root re-exports, and the module that it comes from.
pub const ROOT_ITEMS: &[(&str, &str)] = &[("Client", "client"), ("ClientError", "client"), ("rule", "mutants")];

/// Modules that hold no I/O, and the crates that they may use.
pub const PURE: &[(&str, &[&str])] = &[
    ("types", &["std", "bytes", "thiserror", "xxhash_rust"]),
    ("protocol", &["std", "bytes", "thiserror", "murmur3", "xxhash_rust"]),
];

/// The layer of a module below the crate's root.
pub fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The module that a name at the crate's root comes from.
pub fn home_of(name: &str) -> &str {
    ROOT_ITEMS.iter().find(|(item, _)| *item == name).map_or(name, |(_, module)| module)
}
