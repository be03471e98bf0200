//! Loads over all protocols, for a program that notes how often each part of it runs: `make dist PGO=1`.
//!
//! Contract: nodes, generator and no-op server are the program that `QUORATE_PROGRAM` names. All end by themselves or by
//! SIGTERM, because a program that is killed leaves no profile. Nothing is measured.
//!
//! Caveat: a part that no load here runs is compiled for size: TLS, batches and watches. Whoever adds a protocol adds a load.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::doors;
use crate::report::cluster::end_all;
use crate::report::generator::{Pace, Target, Workload};
use crate::testkit::cluster::{Cluster, Plan as ClusterPlan};

const KIB: usize = 1 << 10;
const KEYS: u64 = 20_000;

/// Run loads over all protocols on nodes of QUORATE_PROGRAM, which was built to leave a profile
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// How many seconds each load takes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

/// The loads over gRPC: operations, bytes of a value, and requests in flight.
const LOADS: [(&str, usize, u32); 11] = [
    ("set=1", KIB, 64),
    ("get=1", KIB, 64),
    ("get=50,set=50", KIB, 256),
    ("set=1", 10 * KIB, 64),
    ("get=1", 10 * KIB, 64),
    ("set=1", KIB, 1),
    ("get=1", KIB, 1),
    ("get=45,set=45,delete=10", 100, 64),
    ("cas=1", KIB, 64),
    ("add=1", KIB, 64),
    ("list=1", KIB, 16),
];

/// Runs all loads.
pub fn run(plan: &Plan) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime can be made").block_on(train(plan));
    ExitCode::SUCCESS
}

async fn train(plan: &Plan) {
    let duration = Duration::from_secs(plan.seconds);
    let mut cluster = Cluster::start_as(&ClusterPlan { doors: true, ..ClusterPlan::default() }).await;
    let addresses = cluster.addresses().join(",");
    for (mix, value_bytes, in_flight) in LOADS {
        let workload = Workload { mix, value_bytes, pace: Pace::InFlight(in_flight), keys: KEYS };
        if mix.contains("get") {
            workload.write_all_keys(&addresses);
        }
        let run = workload.run(Target::Cluster(&addresses), Duration::ZERO, duration);
        println!(
            "{mix}, {value_bytes} bytes, {in_flight} in flight: {} answered, {} failed",
            run.operations(),
            run.failed()
        );
        assert!(run.operations() > 0, "no node answered");
        // The no-op server is compared with nodes, so that it is trained as they are.
        workload.run(Target::Noop(cluster.nodes.len()), Duration::ZERO, duration / 6);
    }
    println!("all protocols in turn");
    doors::exercise(&cluster, plan.seconds.div_ceil(3)).await;
    end_all(&mut cluster).await;
}
