//! One run that fills a cluster: its plan, and its results.

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
    /// Write for so many minutes at most
    #[arg(long, default_value_t = 20.0)]
    pub minutes: f64,
    /// Write until all nodes together take so many GiB of disk, at most
    #[arg(long, default_value_t = 40.0)]
    pub gib: f64,
    /// Write so many keys at most
    #[arg(long, default_value_t = 100_000_000)]
    pub keys: u64,
    /// The size of each value
    #[arg(long, default_value_t = 100)]
    pub value_bytes: usize,
    /// Writes in flight
    #[arg(long, default_value_t = 512)]
    pub writers: u64,
    /// Reads a second beside the writers
    #[arg(long, default_value_t = 50.0)]
    pub reads_per_second: f64,
    /// How long to read afterwards
    #[arg(long, default_value_t = 60.0)]
    pub read_seconds: f64,
    /// Reads in flight afterwards
    #[arg(long, default_value_t = 64)]
    pub readers: usize,
    /// Seconds between two samples
    #[arg(long, default_value_t = 5.0)]
    pub sample_seconds: f64,
    /// Each node's block cache (block_cache_bytes in node.yml): small, so that the data soon is larger
    #[arg(long, default_value_t = 64 << 20)]
    pub block_cache_bytes: u64,
}

impl Plan {
    /// The bytes of keys and values that clients have stored with so many keys.
    pub fn stored_bytes(&self, keys: u64) -> u64 {
        keys * (KEY_BYTES + self.value_bytes as u64)
    }

    /// The plan as it is left in fill.json.
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
            "sample_seconds": self.sample_seconds,
            "block_cache_bytes": self.block_cache_bytes,
            "nodes": 3,
            "replica_count": 3,
            "durability": "fsync",
            "processors": std::thread::available_parallelism().ok().map(usize::from),
        })
    }
}

/// The two phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Writers, and a few reads beside them.
    Fill,
    /// Readers alone.
    Read,
}

/// One sample of clients and nodes.
#[derive(Debug)]
pub struct Sample {
    /// Seconds since writing began.
    pub seconds: f64,
    /// The phase that the clients were in.
    pub phase: Phase,
    /// Keys acknowledged so far.
    pub keys: u64,
    /// Seconds since the last sample.
    pub span: f64,
    /// Writes since the last sample.
    pub writes: Latencies,
    /// Reads since the last sample.
    pub reads: Latencies,
    /// The nodes, in their order.
    pub nodes: Vec<NodeSample>,
    /// Failed requests so far.
    pub failures: u64,
}

impl Sample {
    /// How many of `latencies` there were a second.
    pub fn rate(&self, latencies: &Latencies) -> f64 {
        latencies.count() as f64 / self.span
    }

    /// The bytes that all nodes take on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.nodes.iter().map(|node| node.disk_bytes).sum()
    }

    /// The sample as it is left in fill.jsonl.
    pub fn json(&self, plan: &Plan) -> Json {
        let stored_bytes = plan.stored_bytes(self.keys);
        json!({
            "seconds": self.seconds,
            "phase": if self.phase == Phase::Fill { "fill" } else { "read" },
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
            self.nodes.iter().filter_map(|node| node.reported).map(|reported| reported.compaction_pending_bytes).sum();
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

/// The reason why a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its time was over.
    Time,
    /// All keys are written.
    Keys,
    /// The nodes take as much disk as the plan allows.
    Disk,
    /// The disk is almost full, and other programs need the rest.
    FullDisk,
    /// Ctrl-C. The nodes have received it too, and end.
    Interrupted,
}

impl End {
    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "the time was over",
            Self::Keys => "all keys were written",
            Self::Disk => "the nodes took as much disk as the plan allows",
            Self::FullDisk => "the disk was almost full",
            Self::Interrupted => "it was interrupted",
        }
    }
}

/// The results of a run.
#[derive(Debug)]
pub struct Run {
    /// All samples, in the order of time.
    pub samples: Vec<Sample>,
    /// Why writing ended.
    pub ended_by: End,
    /// Latencies of all writes.
    pub writes: Latencies,
    /// Latencies of the reads beside the writers.
    pub reads_beside: Latencies,
    /// Latencies of the reads afterwards.
    pub reads_after: Latencies,
    /// Failures, by kind.
    pub failures: BTreeMap<String, u64>,
    /// Acknowledged keys that were gone or had a wrong value.
    pub wrong: u64,
}
