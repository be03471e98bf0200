//! What gRPC and this machine allow: the same load on a server that does nothing.

use std::time::Duration;

use super::Effort;
use super::cluster::{Cluster, Usage};
use super::generator::{Load, Run, Target};

/// How long the no-op server is warmed up: connections, and the allocator.
const WARM_UP: Duration = Duration::from_millis(500);

/// A row's run, between two of the no-op server.
#[derive(Debug)]
pub struct Compared {
    /// The no-op server before.
    pub before: Run,
    /// The cluster.
    pub run: Run,
    /// What its nodes have used meanwhile.
    pub usage: Usage,
    /// The no-op server after.
    pub after: Run,
}

impl Compared {
    /// Measures `load` on the cluster for `duration`, and on the no-op server before and after.
    pub async fn measure(cluster: &Cluster, load: &Load, duration: Duration, effort: &Effort) -> Self {
        let noop = || load.run(Target::Noop(cluster.connections()), WARM_UP, effort.baseline);
        let before = noop();
        let (run, usage) = measured(cluster, load, effort.baseline.min(Duration::from_secs(2)), duration).await;
        Self { before, run, usage, after: noop() }
    }

    /// How much of the no-op server's throughput the cluster reaches.
    pub fn throughput_ratio(&self) -> f64 {
        self.run.per_second() / self.noop(Run::per_second)
    }

    /// How many times the no-op server's median latency the cluster takes.
    pub fn median_ratio(&self) -> f64 {
        self.run.latency_us("p50") / self.noop(|run| run.latency_us("p50"))
    }

    /// The mean of before and after.
    pub fn noop(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        figure(&self.before).midpoint(figure(&self.after))
    }
}

/// Warms up, and then measures in a run of its own, so that what the nodes count between the two moments is what the
/// measured operations cost.
pub async fn measured(cluster: &Cluster, load: &Load, warm_up: Duration, duration: Duration) -> (Run, Usage) {
    let addresses = cluster.addresses();
    let target = Target::Cluster(&addresses);
    load.run(target, Duration::ZERO, warm_up);
    let before = cluster.usage().await;
    let run = load.run(target, Duration::ZERO, duration);
    (run, &cluster.usage().await - &before)
}
