//! One node seen from outside: its metrics, its files, its memory.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::testkit::cluster::TestNode;
use crate::testkit::process::memory_bytes;

/// One sample of one node. A figure that could not be had is none.
#[derive(Clone, Debug)]
pub struct NodeSample {
    /// The node's id.
    pub id: String,
    /// The size of all files of its data folder.
    pub disk_bytes: u64,
    /// The resident memory of its process.
    pub resident_bytes: Option<u64>,
    /// Its metrics.
    pub reported: Option<Reported>,
}

/// Figures of the node's `/metrics` page.
#[derive(Clone, Copy, Debug)]
pub struct Reported {
    /// Bytes that compaction still has to rewrite.
    pub compaction_pending_bytes: f64,
    /// Bytes of the cached blocks.
    pub block_cache_bytes: f64,
    /// Seconds for which the store made writers wait, since the node's start.
    pub stalled_seconds: f64,
    /// Loads that memory answered.
    pub loads_from_memory: f64,
    /// Loads that waited for the disk.
    pub loads_from_disk: f64,
}

impl NodeSample {
    /// Samples `node`. The second is the reason why its metrics could not be read.
    pub async fn take(node: &TestNode) -> (Self, Option<String>) {
        let names = [
            "quorate_store_compaction_pending_bytes",
            "quorate_store_block_cache_bytes",
            "quorate_store_stalled_seconds_total",
            "quorate_store_reads_from_memory_total",
            "quorate_store_reads_from_disk_total",
        ];
        let (reported, problem) = match node.metrics(names).await {
            Ok([compaction_pending_bytes, block_cache_bytes, stalled_seconds, loads_from_memory, loads_from_disk]) => {
                let reported = Reported {
                    compaction_pending_bytes,
                    block_cache_bytes,
                    stalled_seconds,
                    loads_from_memory,
                    loads_from_disk,
                };
                (Some(reported), None)
            }
            Err(problem) => (None, Some(problem)),
        };
        let sample = Self {
            id: node.id.clone(),
            disk_bytes: folder_bytes(&node.files.data_dir),
            resident_bytes: memory_bytes(node.process_id(), "VmRSS"),
            reported,
        };
        (sample, problem)
    }

    /// The sample as a part of a line of results. Clients have stored `stored_bytes` bytes of keys and values.
    pub fn json(&self, stored_bytes: u64) -> Json {
        let reported = |of: fn(Reported) -> f64| self.reported.map(of);
        json!({
            "id": self.id,
            "disk_bytes": self.disk_bytes,
            "disk_bytes_per_stored_byte": (stored_bytes > 0).then(|| self.disk_bytes as f64 / stored_bytes as f64),
            "resident_bytes": self.resident_bytes,
            "compaction_pending_bytes": reported(|reported| reported.compaction_pending_bytes),
            "block_cache_bytes": reported(|reported| reported.block_cache_bytes),
            "stalled_seconds": reported(|reported| reported.stalled_seconds),
            "loads_from_memory": reported(|reported| reported.loads_from_memory),
            "loads_from_disk": reported(|reported| reported.loads_from_disk),
        })
    }
}

/// The size of all files below `folder`. A file that appears or vanishes meanwhile counts as nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}
