//! `grpc.health.v1`: what load balancers and probes ask. SERVING while the node takes requests.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::api::clock_server::ClockServer;
use crate::api::cluster_server::ClusterServer;
use crate::api::node_server::NodeServer;
use crate::runtime::NodeHandle;

use super::clock::ClockService;
use super::cluster::ClusterService;
use super::node::NodeService;

/// How often the node is asked: two messages a second to its loop cost nothing that could be measured, and a probe that
/// is half a second late is not late.
const ASKED_EVERY: Duration = Duration::from_millis(500);

/// The services that are reported on; the empty name is the server as a whole.
const SERVICES: [&str; 4] = [
    "",
    <ClusterServer<ClusterService> as NamedService>::NAME,
    <NodeServer<NodeService> as NamedService>::NAME,
    <ClockServer<ClockService> as NamedService>::NAME,
];

/// Reports all services alike.
pub(super) async fn report(reporter: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

/// Reports whether the node takes requests, from now on; what was reported before must be that it does not. Ends when
/// the node has ended.
pub(super) async fn follow(reporter: HealthReporter, node: NodeHandle) {
    let mut known = false;
    let mut ticks = tokio::time::interval(ASKED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = node.status().await;
        let serving = status.as_ref().is_ok_and(|status| status.unready.is_none());
        // Watchers are told of changes alone.
        if serving != known {
            report(&reporter, serving).await;
            known = serving;
        }
        if status.is_err() {
            return;
        }
    }
}
