//! `grpc.health.v1`, for load balancers and probes: SERVING while the node takes requests.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::runtime::NodeHandle;
use crate::wire::method::services;

/// How often the node is asked. Two messages a second to its loop have no measurable cost, and probes can be half a
/// second late.
const ASKED_EVERY: Duration = Duration::from_millis(500);

/// Reports all services alike.
pub(super) async fn report(reporter: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    // The empty name is the server as a whole.
    for service in services().into_iter().chain([""]) {
        reporter.set_service_status(service, status).await;
    }
}

/// Reports from now on whether the node takes requests; until now it must have been reported not to. Ends when the node
/// has ended.
pub(super) async fn follow(reporter: HealthReporter, node: NodeHandle) {
    let mut known = false;
    let mut ticks = tokio::time::interval(ASKED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = node.status().await;
        let serving = status.as_ref().is_ok_and(|status| status.unready.is_none());
        // Watchers are told only of changes.
        if serving != known {
            report(&reporter, serving).await;
            known = serving;
        }
        if status.is_err() {
            return;
        }
    }
}
