//! The time to look up a key's replicas, and to compute the table of all slots.

#[path = "../tests/testkit/mod.rs"]
mod testkit;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use quorate::protocol::placement::Placement;
use quorate::types::{ClusterParameters, Site};
use testkit::data::{key, parameters};

/// The number of nodes: a small cluster, and about the largest one.
const NODES: [usize; 3] = [3, 100, 1_000];
/// So many keys that their slots do not fit into the processor's first cache.
const KEYS: u64 = 1 << 14;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    lookup(&mut criterion);
    build(&mut criterion);
    criterion.final_summary();
}

fn lookup(criterion: &mut Criterion) {
    let placement = Placement::new(parameters(100, 3, 0));
    let mut keys = (0..KEYS).map(key).collect::<Vec<_>>().into_iter().cycle();
    let mut group = criterion.benchmark_group("placement/lookup");
    group.bench_function("slot of a key of 16 bytes", |bencher| {
        let mut next = || keys.next().expect("a cycle has no end");
        bencher.iter_batched_ref(&mut next, |key| placement.slot(key), criterion::BatchSize::SmallInput);
    });
    let slots: Vec<_> = (0..KEYS).map(|number| placement.slot(&key(number))).collect();
    let mut slots = slots.iter().cycle();
    group.bench_function("replicas of a slot", |bencher| {
        bencher.iter(|| placement.replicas(*slots.next().expect("a cycle has no end"))[0]);
    });
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("placement/build");
    // A table of a thousand nodes takes part of a second.
    group.sample_size(10);
    for nodes in NODES {
        let parameters = parameters(nodes, 3, 0);
        group.bench_function(BenchmarkId::from_parameter(format!("{nodes} nodes")), |bencher| {
            bencher.iter(|| Placement::new(black_box(parameters.clone())));
        });
        let numbers = 0..nodes;
        let weights: Vec<u32> = numbers.clone().map(|node| if node.is_multiple_of(2) { 100 } else { 250 }).collect();
        let zones: Vec<&str> = numbers.map(|node| ["a", "b", "c"][node % 3]).collect();
        let none = (&[][..], &[][..]);
        for (what, (weights, zones)) in
            [("weights", (&weights[..], none.1)), ("zones", (none.0, &zones[..])), ("both", (&weights[..], &zones[..]))]
        {
            let sites = Site::listed(nodes, weights, zones).expect("these are weights and zones");
            let parameters = ClusterParameters { sites, ..parameters.clone() };
            group.bench_function(BenchmarkId::new(what, format!("{nodes} nodes")), |bencher| {
                bencher.iter(|| Placement::new(black_box(parameters.clone())));
            });
        }
    }
    group.finish();
}
