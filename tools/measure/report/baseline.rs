//! The baseline: the same workload on a no-op server, which shows the limit of gRPC and of this machine.

use std::time::Duration;

use super::Effort;
use super::cluster::{Cluster, Usage};
use super::generator::{Run, Target, Workload};

/// The warm-up of the no-op server: connections, and the allocator.
const WARM_UP: Duration = Duration::from_millis(500);

/// The run of a row, between two runs of the no-op server.
#[derive(Debug)]
pub struct Compared {
    /// The no-op server, before.
    pub before: Run,
    /// The cluster.
    pub run: Run,
    /// What the nodes used meanwhile.
    pub usage: Usage,
    /// The no-op server, after.
    pub after: Run,
}

impl Compared {
    /// Measures `workload` on the cluster for `duration`, and on the no-op server before and after.
    pub async fn measure(cluster: &Cluster, workload: &Workload, duration: Duration, effort: &Effort) -> Self {
        let noop = || workload.run(Target::Noop(cluster.connections()), WARM_UP, effort.baseline);
        let before = noop();
        let (run, usage) = measured(cluster, workload, effort.baseline.min(Duration::from_secs(2)), duration).await;
        Self { before, run, usage, after: noop() }
    }

    /// The cluster's throughput as a part of the no-op server's.
    pub fn throughput_ratio(&self) -> f64 {
        self.run.per_second() / self.noop(Run::per_second)
    }

    /// The cluster's median latency as a multiple of the no-op server's.
    pub fn median_ratio(&self) -> f64 {
        self.run.latency_us("p50") / self.noop(|run| run.latency_us("p50"))
    }

    /// A figure of the no-op server: the mean of before and after.
    pub fn noop(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        figure(&self.before).midpoint(figure(&self.after))
    }
}

/// Warms up, and measures in a second run. The nodes' counters are read around that run alone, so that their difference
/// is the cost of the measured operations.
pub async fn measured(cluster: &Cluster, workload: &Workload, warm_up: Duration, duration: Duration) -> (Run, Usage) {
    let addresses = cluster.addresses();
    let target = Target::Cluster(&addresses);
    workload.run(target, Duration::ZERO, warm_up);
    let before = cluster.usage().await;
    let run = workload.run(target, Duration::ZERO, duration);
    (run, &cluster.usage().await - &before)
}
