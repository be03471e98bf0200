//! One run that fills a cluster: what was planned, and what was seen.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value as Json, json};

use super::nodes::NodeSample;
use super::tally::Latencies;

/// The length of each key: see `testkit::data::key_text`.
const KEY_BYTES: u64 = 16;
pub const MIB: f64 = (1 << 20) as f64;
pub const GIB: f64 = (1 << 30) as f64;

/// Fill one cluster of three nodes, and read from it
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// Load for so many minutes at most
    #[arg(long, default_value_t = 20.0)]
    pub minutes: f64,
    /// Load until all nodes together take so many GiB of disk, at most
    #[arg(long, default_value_t = 40.0)]
    pub gib: f64,
    /// Load so many keys at most
    #[arg(long, default_value_t = 100_000_000)]
    pub keys: u64,
    /// The size of each value
    #[arg(long, default_value_t = 100)]
    pub value_bytes: usize,
    /// Writes in flight
    #[arg(long, default_value_t = 512)]
    pub writers: u64,
    /// Reads a second beside the load
    #[arg(long, default_value_t = 50.0)]
    pub reads_per_second: f64,
    /// How long to read afterwards
    #[arg(long, default_value_t = 60.0)]
    pub read_seconds: f64,
    /// Reads in flight afterwards
    #[arg(long, default_value_t = 64)]
    pub readers: usize,
    /// Seconds between two looks
    #[arg(long, default_value_t = 5.0)]
    pub look_seconds: f64,
    /// Each node's block cache (block_cache_bytes in node.yml): small, so that the data soon is larger
    #[arg(long, default_value_t = 64 << 20)]
    pub block_cache_bytes: u64,
}

impl Plan {
    /// What clients gave the cluster to keep, with so many keys.
    pub fn stored_bytes(&self, keys: u64) -> u64 {
        keys * (KEY_BYTES + self.value_bytes as u64)
    }

    /// The plan as it is left in load.json.
    pub fn json(&self) -> Json {
        json!({
            "minutes": self.minutes,
            "gib": self.gib,
            "keys": self.keys,
            "key_bytes": KEY_BYTES,
            "value_bytes": self.value_bytes,
            "writers": self.writers,
            "reads_per_second": self.reads_per_second,
            "read_seconds": self.read_seconds,
            "readers": self.readers,
            "look_seconds": self.look_seconds,
            "block_cache_bytes": self.block_cache_bytes,
            "nodes": 3,
            "replica_count": 3,
            "durability": "fsync",
            "processors": std::thread::available_parallelism().ok().map(usize::from),
        })
    }
}

/// What the clients are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Writers, and a few reads beside them.
    Load,
    /// Readers alone.
    Read,
}

/// One look at everything.
#[derive(Debug)]
pub struct Sample {
    /// Since the load began.
    pub seconds: f64,
    /// What the clients did.
    pub phase: Phase,
    /// Acknowledged so far.
    pub keys: u64,
    /// How long it is since the last look.
    pub span: f64,
    /// Writes since then.
    pub writes: Latencies,
    /// Reads since then.
    pub reads: Latencies,
    /// How the nodes are.
    pub nodes: Vec<NodeSample>,
    /// Failed requests so far.
    pub failures: u64,
}

impl Sample {
    /// How many of `latencies` there were in a second.
    pub fn rate(&self, latencies: &Latencies) -> f64 {
        latencies.count() as f64 / self.span
    }

    /// What all nodes take of the disk.
    pub fn disk_bytes(&self) -> u64 {
        self.nodes.iter().map(|node| node.disk_bytes).sum()
    }

    /// The sample as it is left in load.jsonl.
    pub fn json(&self, plan: &Plan) -> Json {
        let stored_bytes = plan.stored_bytes(self.keys);
        json!({
            "seconds": self.seconds,
            "phase": if self.phase == Phase::Load { "load" } else { "read" },
            "keys": self.keys,
            "writes_per_second": self.rate(&self.writes),
            "writes": self.writes.json(),
            "reads_per_second": self.rate(&self.reads),
            "reads": self.reads.json(),
            "failures": self.failures,
            "nodes": self.nodes.iter().map(|node| node.json(stored_bytes)).collect::<Vec<_>>(),
        })
    }

    /// The sample as a line for people.
    pub fn line(&self) -> String {
        let ms = |latencies: &Latencies| match (latencies.ms(0.5), latencies.ms(0.99)) {
            (Some(p50), Some(p99)) => format!("p50 {p50:.1} p99 {p99:.1} ms"),
            _ => "none".to_owned(),
        };
        let pending: f64 =
            self.nodes.iter().filter_map(|node| node.told).map(|told| told.compaction_pending_bytes).sum();
        let resident = self.nodes.iter().filter_map(|node| node.resident_bytes).max();
        format!(
            "{:5.0} s  {:9} keys  {:6.0} writes/s {}  {:5.0} reads/s {}  disk {:.2} GiB, {:.2} to compact  \
             memory up to {:.0} MiB  failures {}",
            self.seconds,
            self.keys,
            self.rate(&self.writes),
            ms(&self.writes),
            self.rate(&self.reads),
            ms(&self.reads),
            self.disk_bytes() as f64 / GIB,
            pending / GIB,
            resident.unwrap_or(0) as f64 / MIB,
            self.failures,
        )
    }
}

/// What ended a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has taken as long as it may.
    Time,
    /// All keys are written.
    Keys,
    /// The nodes take as much of the disk as they may.
    Disk,
    /// Others need what is left of the disk.
    Room,
    /// Ctrl-C. The nodes have heard it too, and end.
    Interrupted,
}

impl End {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "the time is over",
            Self::Keys => "all keys are written",
            Self::Disk => "the nodes take as much of the disk as they may",
            Self::Room => "the disk is almost full",
            Self::Interrupted => "it was interrupted",
        }
    }
}

/// Everything that was seen.
#[derive(Debug)]
pub struct Run {
    /// In the order of time.
    pub samples: Vec<Sample>,
    /// Why the load ended.
    pub ended_by: End,
    /// Each write of the load.
    pub writes: Latencies,
    /// Each read beside it.
    pub reads_beside: Latencies,
    /// Each read afterwards.
    pub reads_after: Latencies,
    /// What failed, by kind.
    pub failures: BTreeMap<String, u64>,
    /// Acknowledged keys that were gone or had another value.
    pub wrong: u64,
}
