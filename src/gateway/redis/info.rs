//! INFO and CONFIG GET: what clients and people ask a server about itself.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::limits::{CONNECTIONS_MAX, VALUE_BYTES_MAX};
use crate::service::deadline::Deadline;

use super::Gateway;
use super::command::{Answer, is_word};
use super::reply::Reply;
use super::session::REDIS_VERSION;

/// The answers of CONFIG GET. Clients ask for some of these; every write is durable when it is answered.
pub(super) const SETTINGS: [(&str, &str); 7] = [
    ("appendfsync", "always"),
    ("appendonly", "yes"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("proto-max-bulk-len", "62914560"),
    ("save", ""),
];
const _: () = assert!(VALUE_BYTES_MAX == 62_914_560);

impl Gateway {
    /// INFO of the sections that are asked for, or of all.
    pub(super) async fn info(&self, sections: &[Bytes], deadline: Deadline) -> Answer {
        let health = self.service.health(deadline).await?;
        let is_wanted = |name: &str| {
            sections.is_empty()
                || sections.iter().any(|section| {
                    is_word(section, name) || ["all", "default", "everything"].iter().any(|all| is_word(section, all))
                })
        };
        let keys = health.statistics.keys_estimate;
        let parts = [
            (
                "Server",
                vec![
                    ("redis_version", REDIS_VERSION.to_owned()),
                    ("quorate_version", env!("CARGO_PKG_VERSION").to_owned()),
                    ("quorate_node", health.node.as_str().to_owned()),
                    ("quorate_table", self.table().to_string()),
                    ("redis_mode", "standalone".to_owned()),
                    ("os", std::env::consts::OS.to_owned()),
                    ("arch_bits", usize::BITS.to_string()),
                    ("process_id", std::process::id().to_string()),
                    ("tcp_port", self.port.to_string()),
                    ("uptime_in_seconds", health.uptime.as_secs().to_string()),
                    ("uptime_in_days", (health.uptime.as_secs() / 86_400).to_string()),
                ],
            ),
            (
                "Clients",
                vec![
                    ("connected_clients", self.connected.load(Ordering::Relaxed).to_string()),
                    ("maxclients", (CONNECTIONS_MAX / 2).to_string()),
                    ("blocked_clients", "0".to_owned()),
                ],
            ),
            (
                "Memory",
                vec![
                    (
                        "used_memory",
                        (health.statistics.write_buffer_bytes + health.statistics.block_cache_bytes).to_string(),
                    ),
                    ("maxmemory", "0".to_owned()),
                    ("maxmemory_policy", "noeviction".to_owned()),
                ],
            ),
            ("Persistence", vec![("loading", "0".to_owned()), ("aof_enabled", "1".to_owned())]),
            ("Stats", vec![("total_commands_processed", self.commands.load(Ordering::Relaxed).to_string())]),
            ("Replication", vec![("role", "master".to_owned()), ("connected_slaves", "0".to_owned())]),
            ("Cluster", vec![("cluster_enabled", "0".to_owned())]),
            (
                "Keyspace",
                if keys == 0 { Vec::new() } else { vec![("db0", format!("keys={keys},expires=0,avg_ttl=0"))] },
            ),
        ];
        let mut text = String::new();
        for (name, fields) in parts.iter().filter(|(name, _)| is_wanted(name)) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {name}\r\n");
            for (field, value) in fields {
                let _ = write!(text, "{field}:{value}\r\n");
            }
        }
        Ok(Reply::Text(text))
    }
}
