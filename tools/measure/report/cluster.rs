//! A cluster of real nodes, and the resources that it has used.

use std::collections::BTreeMap;
use std::ops::Sub;
use std::time::Duration;

use nix::sys::signal::Signal;
use quorate::api::cluster_client::ClusterClient;
use tokio::runtime::{self, Runtime};
use tonic::transport::Channel;

use super::machine::cpu_used;
use super::metrics;
use crate::testkit::cluster::{self, Plan, cluster_yml, write};
use crate::testkit::process::memory_bytes;
use crate::testkit::proxy::{Network, Wire};

/// The nodes' ids: at most nine nodes are measured.
const IDS: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
/// How many nodes hold each key.
const REPLICA_COUNT: usize = 3;
/// How long a node may take to answer with its metrics, under the heaviest load.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a node may take to end, with much data on a busy disk.
const END_TIME_MAX: Duration = Duration::from_mins(1);

/// Nodes that are all linked and hold no data.
pub struct Cluster {
    cluster: cluster::Cluster,
    _network: Option<SlowNetwork>,
}

/// Wires between nodes, on a thread of their own: this one waits for the generator.
struct SlowNetwork {
    _network: Network,
    runtime: Option<Runtime>,
}

impl Drop for SlowNetwork {
    fn drop(&mut self) {
        // A runtime may not block on the end of another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// CPU time and counters of all nodes since they started, or between two moments.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// The counters of their metrics pages, summed over nodes and labels.
    pub counters: BTreeMap<String, f64>,
}

impl Cluster {
    /// Starts `nodes` nodes.
    pub async fn start(nodes: usize) -> Self {
        Self { cluster: cluster::Cluster::start_as(&plan(nodes)).await, _network: None }
    }

    /// Starts `nodes` nodes. Each direction between two of them carries `bytes_per_second` at most.
    pub async fn start_over(nodes: usize, bytes_per_second: u32) -> Self {
        let plan = plan(nodes);
        let mut cluster = cluster::Cluster::prepare(&plan);
        let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread can be started");
        let node_ports = ports.clone();
        let network = runtime.spawn(async move { Network::new(&node_ports).await }).await.expect("ports can be opened");
        for (from, node) in cluster.nodes.iter_mut().enumerate() {
            let port = |to: usize| if to == from { ports[to] } else { network.port(from, to) };
            let addresses: Vec<(&str, u16)> = (0..nodes).map(|to| (IDS[to], port(to))).collect();
            node.files.cluster_file.set_file_name(format!("cluster-{}.yml", node.id));
            write(&node.files.cluster_file, &cluster_yml(plan.seed, plan.replica_count, &addresses));
            for to in 0..nodes {
                network.set(from, to, Wire { bytes_per_second: Some(bytes_per_second), ..Wire::default() });
            }
        }
        cluster.start_all();
        cluster.wait_all_linked().await;
        Self { cluster, _network: Some(SlowNetwork { _network: network, runtime: Some(runtime) }) }
    }

    /// The nodes' addresses, as `--address` takes them.
    pub fn addresses(&self) -> String {
        self.cluster.addresses().join(",")
    }

    /// How many connections a generator opens: one to each node.
    pub fn connections(&self) -> usize {
        self.cluster.nodes.len()
    }

    /// A connection of its own to a node. `number` counts them from 0, and goes on at the first after the last one.
    pub fn client_of(&self, number: usize) -> ClusterClient<Channel> {
        let nodes = &self.cluster.nodes;
        nodes[number % nodes.len()].cluster_client()
    }

    /// Ends all nodes by SIGTERM, and waits for them. Their data stays.
    ///
    /// # Panics
    /// When a node does not end with success.
    pub async fn end_all(&mut self) {
        end_all(&mut self.cluster).await;
    }

    /// Starts all nodes again that have ended. Does not wait.
    pub fn start_all(&mut self) {
        self.cluster.start_all();
    }

    /// What all nodes have used until now.
    ///
    /// # Panics
    /// When a node does not answer: figures without it would be wrong.
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

/// Ends all nodes of a cluster by SIGTERM, and waits for them. Their data stays.
///
/// # Panics
/// When a node does not end with success.
pub async fn end_all(cluster: &mut cluster::Cluster) {
    for node in &mut cluster.nodes {
        node.process().signal(Signal::SIGTERM);
    }
    for node in &mut cluster.nodes {
        let status = node.process().end_within(END_TIME_MAX).await;
        assert!(status.is_some_and(|status| status.success()), "node {} ended with {status:?}", node.id);
        node.process = None;
    }
}

fn plan(nodes: usize) -> Plan {
    Plan { ids: IDS[..nodes].to_vec(), replica_count: REPLICA_COUNT, ..Plan::default() }
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
