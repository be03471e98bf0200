//! The time that the quorum clock takes to issue a clock value, to follow another clock, and to refuse one.

use std::hint::black_box;

use criterion::Criterion;
use quorate::protocol::clock::{PEER_JUMP, QuorumClock};
use quorate::types::Clock;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("clock");
    let mut clock = QuorumClock::start(1);
    group.bench_function("issue", |bencher| bencher.iter(|| clock.issue(black_box(Clock { epoch: 1, counter: 7 }))));
    group.bench_function("observe one that is ahead", |bencher| {
        bencher.iter(|| {
            let Clock { epoch, counter } = clock.now();
            clock.observe(black_box(Clock { epoch, counter: counter + 1 }));
        });
    });
    group.bench_function("check a jump", |bencher| {
        let ahead = Clock { epoch: 2, counter: 9 };
        bencher.iter(|| clock.check_jump(black_box(ahead), PEER_JUMP));
    });
    group.finish();
    criterion.final_summary();
}
