//! Conditional writes and additions that meet at one key, pages of lists, and watches.

use super::Effort;
use super::cluster::Cluster;
use super::generator::{Pace, Run, Target, Workload};
use super::page::{Report, Table};
use super::sweeps::{KIB, WARM_UP, millis};

/// The keys of a page.
const LISTED_KEYS: u64 = 1_000;

/// Measures all of them.
pub async fn measure(effort: &Effort, report: &mut Report) {
    one_key(effort, report).await;
    let cluster = Cluster::start(3).await;
    lists(&cluster, effort, report);
    watches(&cluster, effort, report);
}

/// All clients change one key, through all nodes in turn.
async fn one_key(effort: &Effort, report: &mut Report) {
    let (nodes, clients): (&[usize], &[u32]) = if effort.quick { (&[3], &[16]) } else { (&[3, 5], &[1, 16]) };
    let mut table = Table::new(
        "Clients that change one key",
        "Each client goes through all nodes in turn. It reads the key and writes it if its version is the same, or adds 1; \
         without a pause. A write whose condition has failed is answered, and not applied. Values of 100 bytes.",
        &["", "nodes", "clients", "applied/s", "answered/s", "p50 ms", "p99 ms", "longest ms", "failed"],
    );
    for nodes in nodes {
        let cluster = Cluster::start(*nodes).await;
        for (name, mix) in [("Get, then Set if the version is the same", "cas=1"), ("Add", "add=1")] {
            for clients in clients {
                let workload = Workload { mix, value_bytes: 100, pace: Pace::InFlight(*clients), keys: 1 };
                let run = workload.run(Target::Cluster(&cluster.addresses()), WARM_UP, effort.point);
                let applied = if mix == "cas=1" { run.number("/cas/applied") } else { run.operations() as f64 };
                table.add([
                    name.into(),
                    nodes.to_string(),
                    clients.to_string(),
                    format!("{:.0}", applied / run.number("/seconds")),
                    format!("{:.0}", run.per_second()),
                    millis(&run, "p50"),
                    millis(&run, "p99"),
                    millis(&run, "max"),
                    run.failures(),
                ]);
            }
        }
    }
    report.add_table(table);
}

/// Pages of a thousand keys.
fn lists(cluster: &Cluster, effort: &Effort, report: &mut Report) {
    let mut table = Table::new(
        "Lists of 1,000 keys",
        "Three nodes. Each list begins at a key that is drawn. Values are of 1 KiB, so that 1,000 of them are 1 MiB.",
        &["", "in flight", "lists/s", "no-op server/s", "keys/s", "MiB/s of values", "p50 ms", "p99 ms", "failed"],
    );
    let keys = effort.sweep_keys.max(2 * LISTED_KEYS);
    let workload = |in_flight| Workload { mix: "list=1", value_bytes: KIB, pace: Pace::InFlight(in_flight), keys };
    workload(1).write_all_keys(&cluster.addresses());
    let listed = LISTED_KEYS.to_string();
    for (name, more) in
        [("keys alone", vec!["--list-keys", &listed]), ("with values", vec!["--list-keys", &listed, "--list-values"])]
    {
        for in_flight in if effort.quick { vec![4] } else { vec![1, 16] } {
            let run = |target| workload(in_flight).run_with(target, WARM_UP, effort.point, &more);
            let addresses = cluster.addresses();
            let (seen, noop) = (run(Target::Cluster(&addresses)), run(Target::Noop(cluster.connections())));
            table.add([
                name.into(),
                in_flight.to_string(),
                format!("{:.0}", seen.per_second()),
                format!("{:.0}", noop.per_second()),
                format!("{:.0}", seen.per_second() * LISTED_KEYS as f64),
                format!("{:.0}", seen.number("/mib_per_second")),
                millis(&seen, "p50"),
                millis(&seen, "p99"),
                seen.failures(),
            ]);
        }
    }
    report.add_table(table);
}

/// Writes, and the events that tell watchers of them.
fn watches(cluster: &Cluster, effort: &Effort, report: &mut Report) {
    let mut table = Table::new(
        "Watches",
        "Three nodes, values of 100 bytes. Watchers are spread over the nodes. Each write is followed by the next one once \
         every watcher was told of it. The time to an event begins with the acknowledgement of its write.",
        &[
            "watchers",
            "writes",
            "writes/s",
            "events/s",
            "no-op server, events/s",
            "event p50 ms",
            "p99 ms",
            "longest ms",
            "failed",
            "watches that broke off",
        ],
    );
    let all = [
        (1, "one at a time", Pace::InFlight(1)),
        (1, "64 in flight", Pace::InFlight(64)),
        (1_000, "10 due a second", Pace::Rate(10.0)),
        (1_000, "4 in flight", Pace::InFlight(4)),
    ];
    let chosen: &[_] = if effort.quick { &[all[1], all[2]] } else { &all };
    for (watchers, load, pace) in chosen {
        let workload = Workload { mix: "watch=1", value_bytes: 100, pace: *pace, keys: 1 };
        let watchers = watchers.to_string();
        let run = |target| workload.run_with(target, WARM_UP, effort.point, &["--watchers", &watchers]);
        let addresses = cluster.addresses();
        let (seen, noop) = (run(Target::Cluster(&addresses)), run(Target::Noop(cluster.connections())));
        let event = |which: &str| format!("{:.2}", seen.number(&format!("/watch/event_latency_us/{which}")) / 1e3);
        let events = |run: &Run| format!("{:.0}", run.number("/watch/events_per_second"));
        table.add([
            watchers.clone(),
            (*load).into(),
            format!("{:.0}", seen.per_second()),
            events(&seen),
            events(&noop),
            event("p50"),
            event("p99"),
            event("max"),
            seen.failures(),
            seen.number("/watch/broken").to_string(),
        ]);
    }
    report.add_table(table);
}
