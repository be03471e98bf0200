//! A cluster of real nodes, and what it has used.

use std::collections::BTreeMap;
use std::ops::Sub;
use std::time::Duration;

use crate::machine::cpu_used;
use crate::metrics;
use crate::support::process::memory_bytes;
use crate::support::{self, Plan};

/// The most nodes that are measured.
const IDS: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
/// How many nodes hold each key, however many there are.
const REPLICA_COUNT: usize = 3;
/// How long a node may take to say what it counts, under the heaviest load.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Some nodes, all of them linked, without data.
pub struct Cluster {
    cluster: support::Cluster,
}

/// What all nodes have used and counted since they started, or between two moments.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// What their metrics pages count, summed over nodes and labels.
    pub counters: BTreeMap<String, f64>,
}

impl Cluster {
    /// Starts `nodes` nodes.
    pub async fn start(nodes: usize) -> Self {
        let plan = Plan { ids: IDS[..nodes].to_vec(), replica_count: REPLICA_COUNT, ..Plan::default() };
        Self { cluster: support::Cluster::start_as(&plan).await }
    }

    /// Where they are reached, as `--address` takes it.
    pub fn addresses(&self) -> String {
        self.cluster.addresses().join(",")
    }

    /// How many there are: as many connections has a generator with one to each.
    pub fn connections(&self) -> usize {
        self.cluster.nodes.len()
    }

    /// What they have used until now.
    ///
    /// # Panics
    /// When a node does not answer: nothing that is measured without it would be true.
    pub async fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for node in &self.cluster.nodes {
            usage.cpu += cpu_used(node.process_id());
            let page = node.metrics_page(ANSWER_TIME_MAX).await;
            let page = page.unwrap_or_else(|problem| panic!("no metrics of node {}: {problem}", node.id));
            for (name, value) in metrics::counters(&page) {
                *usage.counters.entry(name).or_default() += value;
            }
        }
        usage
    }

    /// The CPU time of each node.
    pub fn cpu_of_each(&self) -> Vec<Duration> {
        self.cluster.nodes.iter().map(|node| cpu_used(node.process_id())).collect()
    }

    /// The resident memory of each node, in bytes.
    pub fn resident_bytes_of_each(&self) -> Vec<u64> {
        let resident = |process_id| memory_bytes(process_id, "VmRSS").expect("Linux says it of each process");
        self.cluster.nodes.iter().map(|node| resident(node.process_id())).collect()
    }
}

impl Usage {
    /// A counter by its name on the metrics page; 0 where no node has it.
    pub fn counter(&self, name: &str) -> f64 {
        self.counters.get(name).copied().unwrap_or_default()
    }

    /// CPU time per operation, in microseconds.
    pub fn cpu_us_per(&self, operations: u64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / operations as f64
    }

    /// A counter per operation.
    pub fn counter_per(&self, name: &str, operations: u64) -> f64 {
        self.counter(name) / operations as f64
    }
}

impl Sub<&Usage> for &Usage {
    type Output = Usage;

    fn sub(self, before: &Usage) -> Usage {
        let counters = self.counters.iter().map(|(name, value)| (name.clone(), value - before.counter(name))).collect();
        Usage { cpu: self.cpu.saturating_sub(before.cpu), counters }
    }
}
