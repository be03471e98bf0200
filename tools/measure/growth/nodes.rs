//! What can be seen of a node from outside: its metrics, its files, its memory.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::testkit::cluster::TestNode;
use crate::testkit::process::memory_bytes;

/// One look at one node. What could not be seen is none.
#[derive(Clone, Debug)]
pub struct NodeSample {
    /// Which node.
    pub id: String,
    /// All files of its data folder.
    pub disk_bytes: u64,
    /// Its process's memory.
    pub resident_bytes: Option<u64>,
    /// What it says of itself.
    pub told: Option<Told>,
}

/// From `/metrics`.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// What compaction still has to rewrite.
    pub compaction_pending_bytes: f64,
    /// Cached blocks in memory.
    pub block_cache_bytes: f64,
    /// How long the store made writers wait since the start.
    pub stalled_seconds: f64,
    /// Loads that memory answered.
    pub loads_from_memory: f64,
    /// Loads that waited for the disk.
    pub loads_from_disk: f64,
}

impl NodeSample {
    /// Looks at `node`. A node that cannot be asked has a reason, which is the error.
    pub async fn look(node: &TestNode) -> (Self, Option<String>) {
        let names = [
            "quorate_store_compaction_pending_bytes",
            "quorate_store_block_cache_bytes",
            "quorate_store_stalled_seconds_total",
            "quorate_loads_from_memory_total",
            "quorate_loads_from_disk_total",
        ];
        let (told, problem) = match node.metrics(names).await {
            Ok([compaction_pending_bytes, block_cache_bytes, stalled_seconds, loads_from_memory, loads_from_disk]) => {
                let told = Told {
                    compaction_pending_bytes,
                    block_cache_bytes,
                    stalled_seconds,
                    loads_from_memory,
                    loads_from_disk,
                };
                (Some(told), None)
            }
            Err(problem) => (None, Some(problem)),
        };
        let sample = Self {
            id: node.id.clone(),
            disk_bytes: folder_bytes(&node.files.data_dir),
            resident_bytes: memory_bytes(node.process_id(), "VmRSS"),
            told,
        };
        (sample, problem)
    }

    /// As a part of a line of results; `stored_bytes` is what clients gave it to keep.
    pub fn json(&self, stored_bytes: u64) -> Json {
        let told = |of: fn(Told) -> f64| self.told.map(of);
        json!({
            "id": self.id,
            "disk_bytes": self.disk_bytes,
            "disk_bytes_per_stored_byte": (stored_bytes > 0).then(|| self.disk_bytes as f64 / stored_bytes as f64),
            "resident_bytes": self.resident_bytes,
            "compaction_pending_bytes": told(|told| told.compaction_pending_bytes),
            "block_cache_bytes": told(|told| told.block_cache_bytes),
            "stalled_seconds": told(|told| told.stalled_seconds),
            "loads_from_memory": told(|told| told.loads_from_memory),
            "loads_from_disk": told(|told| told.loads_from_disk),
        })
    }
}

/// The sizes of all files below `folder`. One that comes or goes meanwhile counts as nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}
